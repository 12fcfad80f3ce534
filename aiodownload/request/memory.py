"""Memory: what one schedule has learnt of a host, for another one with another clock to go on with."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .adaptive import HostPace
from .health import Health
from .hosts import QUICK, kind_of

if TYPE_CHECKING:
    from .hosts import Host
    from .pacing import Rate

__all__ = ["Memory", "recall", "remember"]


class Memory:
    """How a host is.  All times are seconds from one moment, which is no date of any clock: see :meth:`later`.

    :param health: what its answers have said.
    :param pace: what has been found out of how much it bears, or None.
    :param rate: when its next request may start by the ``rate`` of the settings, or None.
    :param delay: seconds between starts that its robots.txt asks for.
    :param last_start: when the last request started.
    :param spacing: seconds that must follow on it.
    :param proven: whether it has ever answered.
    :param long: whether its requests take long.
    :param until: as long as this is to be remembered.
    """

    def __init__(
        self,
        health: Health,
        pace: Any,
        rate: Rate | None,
        delay: float,
        last_start: float,
        spacing: float,
        proven: bool,
        long: bool,
        until: float,
    ) -> None:
        self.health, self.pace, self.rate = health, pace, rate
        self.delay, self.last_start, self.spacing = delay, last_start, spacing
        self.proven, self.long, self.until = proven, long, until

    @property
    def opens(self) -> float:
        """When a request may start."""
        start = max(self.health.start(), self.last_start + max(self.spacing, self.delay))
        if self.rate is not None:
            start = max(start, self.rate.next_start)
        return start if self.pace is None else max(start, self.pace.next_start)

    @property
    def paused(self) -> float:
        """Seconds for which it wants to be left alone, or is given up."""
        return self.health.opens_in(0.0)

    def later(self, seconds: float) -> Memory:
        """The same, told from a moment that is so many seconds later; less than 0: earlier."""
        other = copy.copy(self)
        other.health, other.rate, other.pace = copy.copy(self.health), copy.copy(self.rate), copy.copy(self.pace)
        other.health.shift(-seconds)
        if other.rate is not None:
            other.rate.shift(-seconds)
        if isinstance(other.pace, HostPace):
            other.pace.shift(-seconds)
        other.last_start -= seconds
        other.until -= seconds
        return other

    def heeding(self, former: Memory) -> Memory:
        """The same, with what somebody else has found out who had a part of the host, too: the more careful counts.

        :param former: told from the same moment, a little sooner.
        """
        other = self.later(0.0)
        other.health.heed(former.health)
        if other.rate is not None and former.rate is not None:
            other.rate.go_on(former.rate)
        other.delay = max(other.delay, former.delay)
        if former.last_start > other.last_start:
            other.last_start, other.spacing = former.last_start, former.spacing
        other.proven = other.proven or former.proven
        other.until = max(other.until, former.until)
        return other


def remember(host: Host[Any], now: float) -> Memory:
    """What is known of ``host``, told from ``now``."""
    return Memory(
        host.health,
        host.pace,
        host.rate,
        host.delay,
        host.last_start,
        host.spacing if host.spaced else 0.0,
        host.proven,
        host.long,
        host.memory(now),
    ).later(now)


def recall(host: Host[Any], memory: Memory, now: float) -> None:
    """Let ``host``, of which nothing is known yet, be as is remembered.

    :param memory: told from ``now``.
    """
    known = memory.later(-now)
    host.health = known.health
    if host.rate is not None and known.rate is not None:
        host.rate.go_on(known.rate)
    if isinstance(host.pace, HostPace) and isinstance(known.pace, HostPace):
        host.pace = known.pace.within(host.pace)
    if known.delay:
        host.slow_down(known.delay)
    host.last_start, host.spacing = known.last_start, known.spacing
    host.proven, host.long = known.proven, known.long
    host.kind = kind_of(host.proven, host.long)
    host.quick = host.kind == QUICK
