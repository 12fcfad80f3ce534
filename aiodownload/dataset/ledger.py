"""The account of an open shard on the disk: lines are added whole or not at all, and read as far as believed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from functools import partial

from ..storage.part import write_at
from .rows import Account, Line, dump, parse

__all__ = ["Ledger", "check_links", "read_account"]

_LONGEST = 1 << 26  # bytes in a line: of what a bundle carries, all of it is in one


class Ledger:
    """An open account.

    :param handle: of its file (int), which is closed by :meth:`close`.
    :param durable: bring each line to the disk itself (bool).
    :raises OSError: if it is not a file of its own.
    """

    def __init__(self, handle: int, durable: bool) -> None:
        self._handle: int | None = handle
        self._durable = durable
        self._size = 0
        try:
            check_links(handle, 1)
        except BaseException:
            self.close()
            raise

    def read(self) -> Account:
        """Return all of it."""
        return read_account(self._opened())

    def go_on_after(self, account: Account) -> None:
        """Cut off what is not in ``account``."""
        os.ftruncate(self._opened(), account.size)
        self._size = account.size

    def write(self, line: Line) -> None:
        """Add a line.

        :raises OSError: if the disk refuses; nothing of it is there then.
        """
        handle, data = self._opened(), dump(line)
        try:
            for _ in write_at(handle, [data], self._size):
                pass
            if self._durable:
                os.fsync(handle)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Let go of the file.  May be called again."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            with contextlib.suppress(OSError):
                os.close(handle)

    def _opened(self) -> int:
        if self._handle is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._handle


def read_account(handle: int) -> Account:
    """Read the account of an open shard, also while its owner adds to it.  Blocks."""
    os.lseek(handle, 0, os.SEEK_SET)
    with os.fdopen(handle, "rb", closefd=False) as file:
        return parse(iter(partial(file.readline, _LONGEST), b""))


def check_links(handle: int, most: int) -> None:
    """:raises OSError: if what was opened is another file as well, which would be written to then."""
    state = os.fstat(handle)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > most:
        raise OSError(errno.EMLINK, "it is no file of its own")
