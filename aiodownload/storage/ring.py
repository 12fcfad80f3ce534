"""Ring: memory that two processes share, through which small bodies go from one to the other without a socket."""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Iterable

__all__ = ["Ring"]

SIZE = 1 << 22  # bytes


class Ring:
    """Places for bodies, given back in the order in which they were taken.

    :raises OSError: where there is no such memory.
    """

    def __init__(self) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("there is no anonymous file here")
        self.descriptor = os.memfd_create("aiodownload")
        try:
            os.ftruncate(self.descriptor, SIZE)
            self._memory = mmap.mmap(self.descriptor, SIZE)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._taken: deque[int] = deque()  # the end of each place that is taken, the oldest first
        self._first = 0  # where the oldest begins
        self._next = 0

    def put(self, chunks: Iterable[bytes | memoryview], size: int) -> int | None:
        """Copy a body of ``size`` bytes to a place; return the offset of that, or None if there is none."""
        if not size:
            return None
        if not self._taken:  # the beginning is what the processor has at hand
            self._first = self._next = 0
        at = self._next
        if at < self._first or (at == self._first and self._taken):
            if at + size > self._first:
                return None
        elif at + size > SIZE:
            if size > self._first:
                return None
            at = 0
        self._next = at + size
        self._taken.append(self._next)
        place = at
        for chunk in chunks:
            self._memory[place : place + len(chunk)] = chunk
            place += len(chunk)
        return at

    def give_back(self) -> None:
        """The oldest body is not needed any more."""
        self._first = self._taken.popleft()

    def close(self) -> None:
        """Let go of the memory; the other process keeps it until it ends."""
        self._memory.close()
        os.close(self.descriptor)
