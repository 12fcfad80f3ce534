"""The owner of a partial file: known by more than its process id, and taken for dead only if it certainly is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiodownload.storage import owner as owner_module
from aiodownload.storage.owner import TAG, Owner, gone, known, me, my_tag
from aiodownload.storage.part import MAX_NAME, partial_name

posix = pytest.mark.skipif(os.name != "posix", reason="needs processes as POSIX has them")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc as Linux has it")

LARGEST = 16**16 - 1


def marks(digits: int) -> st.SearchStrategy[str]:
    """Hex digits."""
    return st.text("0123456789abcdef", min_size=digits, max_size=digits)


owners = st.builds(Owner, marks(8), marks(12), marks(4), st.integers(0, LARGEST), st.integers(0, LARGEST))


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What a test pretends of this process is forgotten with it."""
    owner_module._of.cache_clear()
    yield
    owner_module._of.cache_clear()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A child that lives until its standard input is closed."""
    with subprocess.Popen([sys.executable, "-IS", "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a child end, and wait for that."""
    process.kill()
    process.wait()


def run(program: str) -> list[str]:
    """Run a program that knows this room; return the lines it prints."""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


def never(*_: object) -> None:
    """What must not be called."""
    raise AssertionError("a process was sent a signal")


@given(owners)
@example(Owner("0" * 8, "0" * 12, "0" * 4, 0, 0))
def test_a_tag_says_all_of_an_owner(owner: Owner) -> None:
    """Every owner comes back from its tag, and the tag is one that a file's name can hold and be found by."""
    assert Owner.from_tag(owner.tag) == owner
    assert re.fullmatch(TAG, owner.tag)
    assert owner.tag.isascii()
    assert len(partial_name("n" * 255, f"{owner.tag}-01234567")) <= MAX_NAME


@given(st.one_of(st.text(), st.from_regex(TAG), st.from_regex(TAG, fullmatch=True)))
@example("")
@example(f"{'0' * 24}-1-1\n")
@example(f"{'0' * 24}-{'f' * 17}-1")
@example(f"{'0' * 24}-\u0661-1")
@example(f"{'A' * 24}-1-1")
def test_any_other_text_is_no_owner(text: str) -> None:
    """Whatever the text: it is an owner's tag from its first to its last character, or None."""
    found = Owner.from_tag(text)
    assert (found is not None) == (re.fullmatch(TAG, text) is not None)


def test_this_process_knows_itself() -> None:
    """It has its own id and the same tag every time, and it is not gone."""
    assert me().pid == os.getpid()
    assert me().tag == my_tag() == me().tag
    assert Owner.from_tag(my_tag()) == me()
    assert not gone(me())


@linux
def test_another_process_here_differs_in_its_id_and_its_start_alone() -> None:
    """Machine, boot and space of ids are marks that every process of this system finds equal, and they are known."""
    (tag,) = run("from aiodownload.storage.owner import my_tag; print(my_tag())")
    other = Owner.from_tag(tag)
    assert other is not None
    assert other[:3] == me()[:3]
    assert other.pid != me().pid
    assert other.started >= me().started > 0
    assert known(me().boot)
    assert known(me().space)
    assert gone(other)


@posix
def test_a_child_lives_until_it_has_ended(child: subprocess.Popen[bytes]) -> None:
    """A process that lives is not gone; once it has ended and was waited for, it is."""
    owner = owner_module.child(child.pid)
    assert not gone(owner)
    end(child)
    assert gone(owner)


@linux
def test_a_process_that_nobody_has_collected(child: subprocess.Popen[bytes]) -> None:
    """It has ended, though its id is still its own."""
    owner = owner_module.child(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    os.kill(child.pid, 0)
    assert gone(owner)


@linux
def test_an_id_that_another_process_has_now(child: subprocess.Popen[bytes]) -> None:
    """A process with the same id that started at another time is another one: the owner is gone."""
    owner = owner_module.child(child.pid)
    assert gone(owner._replace(started=owner.started - 1))
    assert gone(owner._replace(started=owner.started + 1))


@posix
def test_a_start_that_is_not_known_proves_nothing(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While some process has the id, and either of the two starts is not known, the owner may live."""
    owner = owner_module.child(child.pid)
    assert not gone(owner._replace(started=0))
    monkeypatch.setattr(owner_module, "_look_at", lambda pid: ("", 0))
    assert not gone(owner._replace(started=7))


@pytest.mark.parametrize("field", ["machine", "space"])
def test_a_process_elsewhere_is_not_known_from_here(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another machine and another space of ids nothing can be said, whatever the id is here; nobody is asked."""
    monkeypatch.setattr(os, "kill", never)
    there = me()._replace(**{field: "f" * len(getattr(me(), field))})
    assert not gone(there)
    assert not gone(there._replace(pid=2**22 + 1))


@posix
def test_another_boot_ends_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner of an earlier boot of this machine is gone, even if its id is in use; on another machine it may live."""
    here = me()._replace(boot="a" * 12)
    monkeypatch.setattr(owner_module, "me", lambda: here)
    monkeypatch.setattr(os, "kill", never)
    before = here._replace(boot="b" * 12)
    assert gone(before)
    assert gone(before._replace(space="f" * 4, pid=1))
    assert not gone(before._replace(machine="f" * 8))


@pytest.mark.parametrize(("then", "now"), [("0" * 12, "a" * 12), ("a" * 12, "0" * 12)])
def test_a_boot_that_is_not_known_proves_nothing(then: str, now: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system did not tell its boot, then or now, a difference is none."""
    here = me()._replace(boot=now)
    monkeypatch.setattr(owner_module, "me", lambda: here)
    monkeypatch.setattr(os, "kill", never)
    assert not gone(here._replace(boot=then, pid=2**22 + 1))


@posix
@pytest.mark.parametrize("pid", [2**31 - 1, 2**31, 2**32, 2**63, LARGEST])
def test_an_id_beyond_all_bounds(pid: int) -> None:
    """No id is so large that asking for it raises."""
    assert gone(me()._replace(pid=pid)) in (True, False)


@posix
def test_the_id_of_nobody() -> None:
    """Id 0 means a whole group to the system; it is nobody's, and nothing happens to the group."""
    assert not gone(me()._replace(pid=0))


@posix
@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_a_process_that_may_not_be_asked(error: type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal to tell is no death: another user's process lives."""

    def refuse(pid: int, signal: int) -> None:
        raise error

    monkeypatch.setattr(os, "kill", refuse)
    assert not gone(me())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_somebody_else() -> None:
    """It does not take its parent's answer for its own; each sees the other live, and the parent sees it end."""
    lines = run(
        "import os, sys\n"
        "from aiodownload.storage.owner import Owner, gone, me, my_tag\n"
        "parent, (read, write) = me(), os.pipe()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    fine = me().pid == os.getpid() and me()[:3] == parent[:3] and not gone(parent) and not gone(me())\n"
        "    os.write(write, f'{fine} {my_tag()}'.encode())\n"
        "    os._exit(0)\n"
        "fine, tag = os.read(read, 1000).decode().split()\n"
        "os.waitpid(pid, 0)\n"
        "child = Owner.from_tag(tag)\n"
        "print(fine, child.pid == pid, gone(child), me() == parent)\n"
    )
    assert lines == ["True True True True"]


@linux
def test_a_name_that_looks_like_the_rest_of_the_line() -> None:
    """The start is found behind a command's name with blanks, numbers and parentheses."""
    lines = run(
        "from pathlib import Path\n"
        "from aiodownload.storage import owner\n"
        "print(owner.my_tag())\n"
        "Path('/proc/self/comm').write_text(') 1 2 (3) (')\n"
        "owner._of.cache_clear()\n"
        "print(owner.my_tag())\n"
    )
    assert lines[0] == lines[1]


@posix
@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError, UnicodeDecodeError("utf-8", b"x", 0, 1, "no")])
def test_a_system_that_tells_nothing(
    error: Any, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc, boot, space and start are unknown; the id alone tells a live process from one that has ended."""

    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(os, "readlink", lambda path: refuse() if error is FileNotFoundError else "")
    owner_module._of.cache_clear()
    assert me()[1:] == ("0" * 12, "0" * 4, os.getpid(), 0)
    assert not known(me().boot)
    assert Owner.from_tag(my_tag()) == me()
    assert not gone(me())
    owner = owner_module.child(child.pid)
    assert owner.started == 0
    assert not gone(owner)
    end(child)
    assert gone(owner)


@pytest.mark.parametrize("change", [lambda here: here, lambda here: here._replace(pid=here.pid + 1)])
def test_nobody_is_sent_a_signal_on_windows(change: Callable[[Owner], Owner], monkeypatch: pytest.MonkeyPatch) -> None:
    """There os.kill ends the process that it is asked about: an owner in the same boot is never known to be gone."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", never)
    assert not gone(change(me()))


@pytest.mark.parametrize(("mark", "told"), [("", False), ("0", False), ("0" * 12, False), ("00a0", True), ("f", True)])
def test_zeros_say_that_nothing_was_told(mark: str, told: bool) -> None:
    """A mark of zeros, or none, stands for what the system does not tell."""
    assert known(mark) is told
