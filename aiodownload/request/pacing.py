"""Pacing: the arithmetic of requests per second and of bytes per second, with the time as an argument."""

from __future__ import annotations

__all__ = ["Bandwidth", "Rate"]

LATE = 0.005  # seconds that a start may be late (a timer is, by a millisecond or so) without delaying all that follow
BURST = 0.15  # seconds' worth of bytes that may be made up for, when they come late: 1.5 % of ten seconds


class Rate:
    """Starts that lie evenly apart: no window of a second or more holds more than its share, whatever went before.

    A start that comes late does not put off the next, so that the pace is kept on average; the interval is longer by
    what this could add to a window of one second (the generic cell rate algorithm of ATM, ITU-T I.371, with no burst).

    :param per_second: starts per second (> 0).
    """

    __slots__ = ("_interval", "_next")

    def __init__(self, per_second: float) -> None:
        self._next = float("-inf")
        self.set(per_second)

    def set(self, per_second: float) -> None:
        """Go on at another pace."""
        self._interval = (1 + LATE) / per_second

    @property
    def next_start(self) -> float:
        """When the next one may start."""
        return self._next

    def shift(self, seconds: float) -> None:
        """Move that by so much: it is told by another clock from now on."""
        self._next += seconds

    def go_on(self, other: Rate) -> None:
        """Let the next one start no sooner than the next of ``other``, which counted those before."""
        self._next = max(self._next, other._next)

    def started(self, now: float) -> None:
        """Count one that starts now."""
        self._next = (self._next if now - self._next <= LATE else now) + self._interval


class Bandwidth:
    """Bytes per second, over everything that shares it.

    :param per_second: bytes (> 0).
    """

    __slots__ = ("__weakref__", "_paid", "per_second")

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._paid: float | None = None  # when everything taken so far is paid for

    def take(self, count: int, now: float) -> float:
        """Count ``count`` bytes that have come; return the seconds to wait before taking more."""
        paid = now if self._paid is None else max(self._paid, now - BURST)
        self._paid = paid + count / self.per_second
        return max(0.0, self._paid - now)
