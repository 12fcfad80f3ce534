"""Buffers: memory that bodies arrive in, used again: to get pages from the system costs as much as to fill them."""

from __future__ import annotations

__all__ = ["Buffers"]

LARGEST = 1 << 22  # bytes of one buffer
KEPT = 1 << 25  # bytes of buffers that nobody uses


class Buffers:
    """The buffers of one entered AioDownload."""

    def __init__(self) -> None:
        # asyncio asks for 256 KiB for each piece that it receives, and gives back what was too much.  glibc gets blocks
        # of that size from the system each time, until one that was larger has been given back (mallopt(3),
        # M_MMAP_THRESHOLD).
        bytes(LARGEST)  # no page of it is touched
        self._free: dict[int, list[bytearray]] = {}
        self._kept = 0

    def take(self, size: int) -> bytearray:
        """A buffer of ``size`` bytes, with anything in it."""
        free = self._free.get(size)
        if not free:
            return bytearray(size)
        self._kept -= size
        return free.pop()

    def give_back(self, buffer: bytearray) -> None:
        """Nobody reads or writes ``buffer`` any more."""
        size = len(buffer)
        if self._kept + size <= KEPT:
            self._kept += size
            self._free.setdefault(size, []).append(buffer)
