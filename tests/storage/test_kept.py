"""Kept partial files: taken up by one at most, and no file that is somebody's is ever touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiodownload.storage import kept, owner
from aiodownload.storage.folder import Folder
from aiodownload.storage.kept import KeptPart, Origin, claim, record_name, sweep, tidy
from aiodownload.storage.owner import Owner, me
from aiodownload.storage.part import PartError, partial_name
from aiodownload.storage.record import Record, dump, parse

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="owners are known by /proc")

URL = "0" * 64
BODY = bytes(range(256)) * 64
ORIGIN = Origin(URL, '"a"', len(BODY))
DEAD = me()._replace(pid=me().pid, started=me().started + 1)  # our id, given to another process since
STRANGER = me()._replace(machine="0123abcd")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the file goes."""
    return tmp_path / "f.bin"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is brought up to date with each append."""
    monkeypatch.setattr(kept, "CHECKPOINT", 1)


def begun(target: Path, size: int = 1000, origin: Origin = ORIGIN) -> KeptPart:
    """A partial file with its first bytes."""
    part = KeptPart(str(target), 0o644, origin)
    part.append([BODY[:size]])
    return part


def take_up(target: Path, url: str = URL) -> KeptPart | None:
    """What :func:`claim` gives."""
    return claim(str(target), 0o644, url)


def record_of(target: Path) -> Record:
    """The record that lies beside the target."""
    record = parse((target.parent / record_name(target.name)).read_bytes())
    assert record is not None
    return record


def rewrite(target: Path, **fields: Any) -> None:
    """Change the record."""
    (target.parent / record_name(target.name)).write_bytes(dump(record_of(target)._replace(**fields)))


def names(folder: Path) -> list[str]:
    """What the folder holds."""
    return sorted(path.name for path in folder.iterdir())


def finish(part: KeptPart) -> None:
    """Write the rest and publish."""
    part.append([BODY[part.size :]])
    part.publish()


def test_released_and_gone_on_with(target: Path) -> None:
    """The bytes are there, the rest goes after them, and then there is the file and nothing else."""
    begun(target).release()
    assert record_of(target).owner is None
    part = take_up(target)
    assert part is not None
    assert (part.size, part.origin) == (1000, ORIGIN)
    assert record_of(target).owner == me()
    finish(part)
    assert target.read_bytes() == BODY
    assert names(target.parent) == ["f.bin"]
    assert oct(target.stat().st_mode)[-3:] == "644"


def test_the_record_never_says_more_than_is_there(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each writing of the record the file has at least the bytes that it speaks of."""
    seen = []
    write = kept._write

    def looked_at(folder: Folder, name: str, data: bytes) -> None:
        record = parse(data)
        assert record is not None
        assert (target.parent / record.part).read_bytes()[: record.written[0][1]] == BODY[: record.written[0][1]]
        seen.append(record.written[0][1])
        write(folder, name, data)

    monkeypatch.setattr(kept, "_write", looked_at)
    part = KeptPart(str(target), 0o644, ORIGIN)
    for at in range(0, len(BODY), 1024):
        part.append([BODY[at : at + 1024]])
    part.publish()
    assert seen == list(range(1024, len(BODY) + 1, 1024))


def test_too_few_bytes_are_no_file(target: Path) -> None:
    """The old file stays."""
    target.write_bytes(b"old")
    part = begun(target)
    with pytest.raises(PartError):
        part.publish()
    part.discard()
    assert target.read_bytes() == b"old"
    assert names(target.parent) == ["f.bin"]


@pytest.mark.parametrize(
    ("owner_now", "free"),
    [(None, True), (DEAD, True), (me(), False), (STRANGER, False)],
    ids=["nobody", "dead", "me", "stranger"],
)
def test_only_what_nobody_works_on(target: Path, owner_now: Owner | None, free: bool) -> None:
    """A dead owner's is free; a living one's and an unknown one's are not, and stay as they are."""
    begun(target).release()
    rewrite(target, owner=owner_now)
    before = {name: (target.parent / name).read_bytes() for name in names(target.parent)}
    part = take_up(target)
    assert (part is not None) is free
    if part is None:
        assert {name: (target.parent / name).read_bytes() for name in names(target.parent)} == before
    else:
        part.discard()
        assert names(target.parent) == []


def test_a_record_is_no_reason_to_touch_another_file(target: Path) -> None:
    """One that names any file but a partial file of just this target leads to nothing."""
    begun(target).release()
    other = partial_name("g.bin", me().tag)
    for name in (".bashrc", ".f.bin.part", other):
        (target.parent / name).write_bytes(b"precious")
        rewrite(target, part=name, inode=(target.parent / name).stat().st_ino)
        assert take_up(target) is None
        begun(target).discard()
        assert (target.parent / name).read_bytes() == b"precious"
        begun(target).release()


def spoil_by_size(partial: Path) -> None:
    """Fewer bytes than the record says."""
    os.truncate(partial, 10)


def spoil_by_link(partial: Path) -> None:
    """A second name for the same file."""
    os.link(partial, partial.parent / "second")


def spoil_by_other_file(partial: Path) -> None:
    """Another file under the name."""
    data = partial.read_bytes()
    partial.rename(partial.parent / "second")
    partial.write_bytes(data)


def spoil_by_symlink(partial: Path) -> None:
    """A symbolic link under the name."""
    partial.rename(partial.parent / "second")
    partial.symlink_to("second")


def spoil_by_absence(partial: Path) -> None:
    """Nothing under the name."""
    partial.unlink()


@pytest.mark.parametrize(
    "spoil", [spoil_by_size, spoil_by_link, spoil_by_other_file, spoil_by_symlink, spoil_by_absence]
)
def test_what_is_not_the_file_that_was_recorded(target: Path, spoil: Callable[[Path], None]) -> None:
    """It is not gone on with, and what it leads to keeps its bytes."""
    begun(target).release()
    spoil(target.parent / record_of(target).part)
    assert take_up(target) is None
    second = target.parent / "second"
    if second.exists():
        assert second.read_bytes() == BODY[:1000]
    finish(begun(target))
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.mkdir(), lambda path: path.touch()])
def test_something_else_in_place_of_the_record(target: Path, make: Callable[[Path], None]) -> None:
    """A FIFO, a folder or an empty file: no wait, no error, no resume."""
    make(target.parent / record_name(target.name))
    assert take_up(target) is None
    finish(begun(target))
    assert target.read_bytes() == BODY


def test_another_url(target: Path) -> None:
    """The bytes of another URL are not gone on with."""
    begun(target).release()
    assert take_up(target, "1" * 64) is None


def test_all_bytes_but_the_last(target: Path) -> None:
    """Where all are there, the last one is left to be asked for again."""
    begun(target, len(BODY)).release()
    part = take_up(target)
    assert part is not None
    assert part.size == len(BODY) - 1
    finish(part)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("synced", [0, 600])
def test_after_a_power_cut_only_what_was_synced(target: Path, synced: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that were only written may be gone with the machine."""
    part = begun(target, 600)
    if synced:
        monkeypatch.setattr(kept, "SYNC_EVERY", 0.0)
        part.append([BODY[600:601]])
        monkeypatch.setattr(kept, "SYNC_EVERY", 1e9)
    part.append([BODY[part.size : 1000]])
    part.release()
    before = me()._replace(boot="0123456789ab")
    rewrite(target, boot=before.boot, owner=before)
    taken = take_up(target)
    if not synced:
        assert taken is None
    else:
        assert taken is not None
        assert taken.size == 601
        finish(taken)
        assert target.read_bytes() == BODY


def test_of_many_that_try_one_succeeds(target: Path) -> None:
    """Threads that take up the same file at the same moment, many times over."""
    for _ in range(30):
        begun(target).release()
        barrier, taken = threading.Barrier(4), []

        def race(barrier: threading.Barrier = barrier, taken: list[KeptPart | None] = taken) -> None:
            barrier.wait()
            taken.append(take_up(target))

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [part for part in taken if part is not None]
        assert len(winners) <= 1
        for part in winners:
            finish(part)
            assert target.read_bytes() == BODY
            target.unlink()
        for name in names(target.parent):
            (target.parent / name).unlink()


def test_beside_a_living_one(target: Path) -> None:
    """A second writer leaves the first one's record alone; both publish, the last whole one stays."""
    first = begun(target)
    second = begun(target)
    assert record_of(target).part == Path(first._partial or "").name
    finish(second)
    assert record_of(target).owner == me()
    finish(first)
    assert target.read_bytes() == BODY
    assert names(target.parent) == ["f.bin"]


def test_a_new_start_clears_what_is_of_no_use(target: Path) -> None:
    """The free partial file of an older version is removed with its record."""
    begun(target, origin=Origin(URL, '"old"', 5000)).release()
    finish(begun(target))
    assert names(target.parent) == ["f.bin"]


@pytest.mark.parametrize("function", ["_write", "_read"])
def test_without_a_record_the_download_goes_on(target: Path, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses the record costs the resume, and not the file."""

    def refuse(*_: object) -> None:
        if function == "_write":
            raise OSError(28, "full")

    monkeypatch.setattr(kept, function, refuse)
    part = begun(target)
    finish(part)
    assert target.read_bytes() == BODY
    other = target.parent / "g.bin"
    broken = begun(other)
    if function == "_write":
        assert not broken.release()
        assert names(target.parent) == ["f.bin"]


def test_a_sync_that_fails_ends_it(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync nobody knows what is on the disk, and the next one may succeed without a word (R36)."""

    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def fsync(self, _: int) -> None:
            monkeypatch.setattr(kept, "os", os)  # the next one would be believed
            raise OSError(5, "input/output error")

    monkeypatch.setattr(kept, "SYNC_EVERY", 0.0)
    monkeypatch.setattr(kept, "os", Os())
    part = begun(target)
    with pytest.raises(PartError) as caught:
        part.append([BODY[1000:2000]])
    assert (caught.value.action, caught.value.errno) == ("sync", 5)
    assert record_of(target).synced == ()
    assert record_of(target).written == ((0, 1000),)
    part.discard()
    assert names(target.parent) == []


def test_sweep(tmp_path: Path) -> None:
    """Dead processes' files go, but for those that a record speaks of; all others stay, whatever they are called."""
    target = tmp_path / "kept.bin"
    begun(target).release()
    renamed = partial_name("kept.bin", DEAD.tag)
    (tmp_path / record_of(target).part).rename(tmp_path / renamed)
    rewrite(target, part=renamed, owner=DEAD)
    gone = [partial_name("a", DEAD.tag), partial_name("b", f"{DEAD.tag}-0123abcd")]
    stay = [partial_name("c", me().tag), partial_name("d", STRANGER.tag), ".x.part", "x.part", ".bashrc", ".a.b.part"]
    for name in (*gone, *stay):
        (tmp_path / name).write_bytes(b"x")
    with Folder.open(str(tmp_path)) as folder:
        sweep(folder, names(tmp_path))
    assert names(tmp_path) == sorted([*stay, renamed, record_name("kept.bin")])


def test_a_record_without_a_partial_file_goes(tmp_path: Path) -> None:
    """It is left where a process was killed just after its file got the name; not so one that somebody works on."""
    free, busy, lying = (tmp_path / name for name in ("free", "busy", "lying"))
    for target in (free, lying):
        begun(target).release()
        (tmp_path / record_of(target).part).unlink()
    rewrite(free, owner=DEAD)
    part = begun(busy)
    (tmp_path / record_of(busy).part).unlink()
    with Folder.open(str(tmp_path)) as folder:
        folder.rename(record_name("lying"), ".other.json")  # it has another name than a record has
        sweep(folder, names(tmp_path))
    assert names(tmp_path) == sorted([record_name("busy"), ".other.json"])
    part.discard()


def test_tidy(tmp_path: Path) -> None:
    """The same for one path; a record that can be gone on with stays."""
    gone, kept = tmp_path / "gone", tmp_path / "kept"
    begun(gone).release()
    (tmp_path / record_of(gone).part).unlink()
    begun(kept).release()
    for target in (gone, kept, tmp_path / "nothing", tmp_path / "no" / "folder"):
        tidy(str(target), str(tmp_path))
    assert record_name("gone") not in names(tmp_path)
    assert record_name("kept") in names(tmp_path)


DYING = """
import json, os, signal, sys, traceback
from aiodownload.storage import folder, kept, part
from aiodownload.storage.kept import KeptPart, Origin
body = bytes(range(256)) * 64
kept.CHECKPOINT = 1
class Os:
    left = 0
    def __getattr__(self, name):
        value = getattr(os, name)
        if name not in ("open", "write", "writev", "rename", "replace", "unlink", "close", "fstat", "fchmod", "mkdir"):
            return value
        def counted(*a, **k):
            if Os.left == 0:
                if name == "write":
                    value(a[0], bytes(a[1])[: len(a[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            Os.left -= 1
            return value(*a, **k)
        return counted
kept.os = part.os = folder.os = Os()
def publish(path):
    p = KeptPart(path, 0o644, Origin("0" * 64, '"a"', len(body)))
    for at in range(0, len(body), 4096):
        p.append([body[at:at + 4096]])
    p.publish()
for line in sys.stdin:
    path, step = json.loads(line)
    child = os.fork()
    if not child:
        Os.left = step
        try:
            publish(path)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_at_every_step(tmp_path: Path) -> None:
    """SIGKILL at each system call: the final name is old or whole, the next one goes on, and nothing is left."""
    program = subprocess.Popen(
        [sys.executable, "-c", DYING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONOPTIMIZE": ""},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    step, over = 0, False
    while not over:
        folder = tmp_path / f"{step}"
        folder.mkdir()
        target = folder / "f.bin"
        target.write_bytes(b"old")
        print(json.dumps([str(target), step]), file=program.stdin, flush=True)
        code = int(program.stdout.readline())
        over = code == 0
        assert over or code == -signal.SIGKILL
        assert target.read_bytes() in (b"old", BODY)
        with Folder.open(str(folder)) as opened:
            sweep(opened, names(folder))
        part = take_up(target) or begun(target, 1)
        assert part._partial is not None
        assert (folder / part._partial).read_bytes()[: part.size] == BODY[: part.size]
        finish(part)
        assert target.read_bytes() == BODY
        assert names(folder) == ["f.bin"]
        step += 1
    assert step > 20
    program.communicate(timeout=10)


def test_the_owner_is_asked_for_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds for DEAD above: the id lives, and the process that had it does not."""
    assert owner.gone(DEAD)
    assert not owner.gone(me())
    assert not owner.gone(STRANGER)
