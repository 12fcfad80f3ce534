"""Owner: which process a partial file belongs to, and whether that process still lives.

No lock is involved: flock lies on NFS and Lustre, and a lock says nothing after a crash.  A process is known by its
machine, the boot, its space of process ids (a container has its own), its id, and when it started; so an id that has
been given to another process since is not mistaken.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["TAG", "Owner", "child", "gone", "known", "me", "my_tag"]

TAG = "([0-9a-f]{8})([0-9a-f]{12})([0-9a-f]{4})-([0-9a-f]{1,16})-([0-9a-f]{1,16})"
"""What :attr:`Owner.tag` looks like."""


class Owner(NamedTuple):
    """A process.

    :param machine: mark of the machine (8 hex digits).
    :param boot: mark of its boot (12 hex digits); zeros where the system does not tell.
    :param space: mark of the space of process ids (4 hex digits).
    :param pid: its id there (int).
    :param started: when it started, in ticks since the boot (int); 0 where the system does not tell.
    """

    machine: str
    boot: str
    space: str
    pid: int
    started: int

    @property
    def tag(self) -> str:
        """All of it, short enough for a file's name."""
        return f"{self.machine}{self.boot}{self.space}-{self.pid:x}-{self.started:x}"

    @classmethod
    def from_tag(cls, tag: str) -> Owner | None:
        """Read a :attr:`tag`; None if it is none."""
        found = re.fullmatch(TAG, tag)
        if found is None:
            return None
        machine, boot, space, pid, started = found.groups()
        return cls(machine, boot, space, int(pid, 16), int(started, 16))


_BOOT, _SPACE = 12, 4  # hex digits


def me() -> Owner:
    """This process."""
    return _of(os.getpid())


def my_tag() -> str:
    """:attr:`Owner.tag` of this process."""
    return me().tag


def child(pid: int) -> Owner:
    """The process ``pid``, which this one has started."""
    return me()._replace(pid=pid, started=_look_at(pid)[1])


@functools.lru_cache(1)
def _of(pid: int) -> Owner:  # asked with the id, so that a forked child finds its own answer
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    machine = f"{_text('/etc/machine-id')}\n{name}"
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return Owner(
        hashlib.sha256(machine.encode()).hexdigest()[:8],
        _mark(_text("/proc/sys/kernel/random/boot_id"), _BOOT),
        _mark(space, _SPACE),
        pid,
        _look_at(pid)[1],
    )


def gone(owner: Owner) -> bool:
    """Whether ``owner`` has certainly ended.  False for one that lives, and for one that cannot be known from here."""
    here = me()
    if owner.machine != here.machine:
        return False
    if owner.boot != here.boot:
        return known(owner.boot) and known(here.boot)
    if owner.space != here.space or sys.platform == "win32":  # os.kill would end the process there
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    state, started = _look_at(owner.pid)
    # Nobody may ever collect one whose parent is gone, too, as in a container whose first process does not.
    return state in _ENDED or bool(owner.started and started and started != owner.started)


def known(mark: str) -> bool:
    """Whether the system has told what ``mark`` stands for."""
    return mark.strip("0") != ""


def _mark(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits] if text else "0" * digits


def _text(path: str) -> str:
    with contextlib.suppress(OSError, ValueError):
        return Path(path).read_text("utf-8").strip()
    return ""


_ENDED = ("Z", "X")  # has ended, and was not collected yet


def _look_at(pid: int) -> tuple[str, int]:
    """State and start of a process, fields 3 and 22 of /proc/PID/stat (proc(5)); neither where there is no such file.

    The command's name before them may hold blanks and parentheses.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    return "", 0
