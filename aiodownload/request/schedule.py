"""Who may go now: all limits in one place, synchronous, with the time as an argument."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Entry", "Schedule"]

T = TypeVar("T")


class Entry(Generic[T]):
    """One bundle's place in the schedule.

    :param item: what is scheduled.
    :param spacing: seconds that must lie between the previous request start and this one's.
    """

    __slots__ = ("due", "item", "spacing")

    def __init__(self, item: T, spacing: float = 0.0) -> None:
        self.item = item
        self.spacing = max(0.0, spacing)
        self.due = 0.0


class Schedule(Generic[T]):
    """Entries that wait, and the limits that hold them back.

    An entry is ready (first come, first served) or waits until its due time.  A waiting entry holds no
    slot.  ``now`` is any clock that does not run backwards, in seconds.

    :param concurrent: how many entries may be active at once (int).
    """

    def __init__(self, concurrent: int) -> None:
        self.concurrent = concurrent
        self.active = 0
        self._ready: deque[Entry[T]] = deque()
        self._waiting: list[tuple[float, int, Entry[T]]] = []
        self._order = itertools.count()
        self._last_start = float("-inf")

    def __repr__(self) -> str:
        return (
            f"<Schedule active={self.active}/{self.concurrent} ready={len(self._ready)} waiting={len(self._waiting)}>"
        )

    @property
    def free(self) -> bool:
        """Whether a slot is free."""
        return self.active < self.concurrent

    def add(self, entry: Entry[T], now: float, delay: float = 0.0) -> None:
        """Put ``entry`` in: ready at once, or no earlier than ``delay`` seconds from ``now``."""
        if delay > 0:
            entry.due = now + delay
            heapq.heappush(self._waiting, (entry.due, next(self._order), entry))
        else:
            entry.due = now
            self._ready.append(entry)

    def next(self, now: float) -> Entry[T] | None:
        """Return the entry that may start now, which takes a slot and marks a request start, or None."""
        self._promote(now)
        if not self._ready or not self.free:
            return None
        entry = self._ready[0]
        if now < self._last_start + entry.spacing:
            return None
        self._ready.popleft()
        self._last_start = now
        self.active += 1
        return entry

    def wake_at(self, now: float) -> float | None:
        """Return when ``next`` may have an entry although nothing else happens, or None if never."""
        self._promote(now)
        if not self.free:
            return None
        if self._ready:
            return max(now, self._last_start + self._ready[0].spacing)
        return self._waiting[0][0] if self._waiting else None

    def release(self) -> None:
        """Give a slot back."""
        self.active -= 1

    def reserve(self, spacing: float, now: float) -> float:
        """Return when a further request of an active entry may start, and count it as started then."""
        self._last_start = max(now, self._last_start + max(0.0, spacing))
        return self._last_start

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Take out every entry that is not active and whose item is ``unwanted``."""
        self._ready = deque(entry for entry in self._ready if not unwanted(entry.item))
        self._waiting = [place for place in self._waiting if not unwanted(place[2].item)]
        heapq.heapify(self._waiting)

    def _promote(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append(heapq.heappop(self._waiting)[2])
