"""Buffers: memory that bodies arrive in, used again: to get pages from the system costs as much as to fill them."""

from __future__ import annotations

__all__ = ["Buffers"]

KEPT = 1 << 25  # bytes of buffers that nobody uses


class Buffers:
    """The buffers of one entered AioDownload."""

    def __init__(self) -> None:
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
