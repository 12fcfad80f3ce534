"""HostPace: finds out how many requests a second, and how many at once, one host bears."""

from __future__ import annotations

import copy
import math
from collections import deque

from .health import NEVER
from .pacing import Rate

__all__ = ["HostPace"]

FIRST_RATE = 20.0  # requests per second, at first
FIRST_WINDOW = 2  # requests at once, at first
LEAST_RATE = 0.5
DOUBLING = 0.1  # seconds in which the first climb doubles the rate, but never in less than two answers' time
CLIMBING = 1.0  # the same for a later climb
TEST = 1.2  # seconds at one rate: who counts in seconds has refused by then
TESTING = 4.0  # seconds in which the climb after that doubles the rate
SAME = 0.1  # two counts that differ by less are the same limit
BELOW = 0.97  # of what the host is believed to allow
NEARLY = 0.99  # of it, in the end
HOLD = 25.0  # seconds without trying for more; doubled each time the host says the same again
LONGEST_HOLD = 200.0
PROBING = 30.0  # seconds in which a careful climb would double the rate
ENOUGH = 5  # answers to what was under way at a cut, that say which part is admitted
TOLERATED = 0.02  # of the answers may be a "later" without a time
SLOWER = 2.0  # times the least latency, and
SLOWER_BY = 0.05  # seconds more, from which on the host counts as loaded
RECENT = 30.0  # seconds for which a least latency counts


class HostPace:
    """The pace of one host: a rate, kept by equal intervals, and a window.

    It climbs quickly until the host says "later" (429, 503), then stays a little below what the host is seen to admit,
    and tries for a little more now and then: additive increase, multiplicative decrease (Jacobson 1988), with the
    plateau before a former limit that CUBIC has (RFC 9438).  What the host admits is measured, not guessed.  A first
    refusal halves the rate.  If the same number has been admitted in the second before the next one, the host counts
    in seconds, and that number is its limit.  If the next comes soon and with another number, the host has a bucket:
    from one refusal to the next it admits what flows into it.  If it comes late, the rate itself was the limit.  And
    a host that only thins out what is under way admits that part of the rate.  So one "later" among many answers
    costs little.

    Answers that get slower than twice the quickest lately, and none at all, slow it down too.

    :param most: requests at once that are allowed (int).
    """

    __slots__ = (
        "_admitted",
        "_ceiling",
        "_climbing",
        "_cut_asked",
        "_cut_at",
        "_cut_rate",
        "_failed_at",
        "_good",
        "_grown_at",
        "_hold",
        "_in_seconds",
        "_latency",
        "_least",
        "_least_before",
        "_least_since",
        "_most",
        "_per_second",
        "_rate",
        "_recent",
        "_refusals",
        "_refused",
        "_resumed",
        "_seconds",
        "_slowed_at",
        "_starts",
        "_window",
    )

    def __init__(self, most: int) -> None:
        self._most = most
        self._per_second = FIRST_RATE
        self._rate = Rate(FIRST_RATE)
        self._window = float(min(FIRST_WINDOW, most))
        self._climbing = True
        self._grown_at: float | None = None
        self._starts: deque[float] = deque(maxlen=8)
        self._recent: deque[float] = deque()  # when those were asked that were admitted lately
        self._admitted = 0  # since the last cut
        self._refusals = 0.0  # which part of the answers they are, lately
        # The last cut.
        self._cut_at = self._cut_asked = NEVER
        self._resumed: float | None = None  # the first start after it
        self._cut_rate = 0.0
        self._seconds: tuple[float, ...] = ()  # admitted in the second before each of the last two
        self._good = self._refused = 0  # of those that were under way
        self._in_seconds = False  # whether the host counts so
        self._ceiling = 0.0  # what the host is believed to allow; 0 if nothing is known
        self._hold = HOLD / 3
        self._failed_at = self._slowed_at = NEVER
        self._latency = 0.0
        self._least = self._least_before = float("inf")
        self._least_since = NEVER

    def __repr__(self) -> str:
        return f"<HostPace {self._per_second:.1f}/s, {self.window} at once>"

    @property
    def per_second(self) -> float:
        """Requests per second at present."""
        return self._per_second

    @property
    def window(self) -> int:
        """Requests at once."""
        return int(self._window)

    @property
    def next_start(self) -> float:
        """When the next one may start."""
        return self._rate.next_start

    def shift(self, seconds: float) -> None:
        """Move all points in time by so much: they are told by another clock from now on."""
        self._rate = copy.copy(self._rate)  # a copy of this one may share it
        self._rate.shift(seconds)
        self._starts = deque((one + seconds for one in self._starts), maxlen=self._starts.maxlen)
        self._recent = deque(one + seconds for one in self._recent)
        for name in ("_cut_at", "_cut_asked", "_failed_at", "_slowed_at", "_least_since"):
            setattr(self, name, getattr(self, name) + seconds)
        if self._grown_at is not None:
            self._grown_at += seconds
        if self._resumed is not None:
            self._resumed += seconds

    def within(self, other: HostPace) -> HostPace:
        """This one, with no more requests at once than ``other`` may have."""
        self._most = other._most
        self._window = min(self._window, float(self._most))
        return self

    def started(self, now: float) -> None:
        """A request starts."""
        self._rate.started(now)
        self._starts.append(now)
        if self._resumed is None:
            self._resumed = now

    def answered(self, asked: float, now: float) -> None:
        """One that started at ``asked`` has got its answer."""
        self._recent.append(asked)
        self._forget(min(asked, now - 1) - 1)
        self._admitted += 1
        self._refusals *= 0.98
        if self._cut_asked <= asked <= self._cut_at:
            self._good += 1
            self._estimate()
        elif self._cut_asked - 1 < asked < self._cut_asked:  # admitted before the refusal, and only now answered
            self._seconds = (*self._seconds[:-1], self._seconds[-1] + 1)
            if self._in_seconds and self._seconds[-1] > self._ceiling:
                self._ceiling = self._seconds[-1]
                self._set(self._ceiling * BELOW)
        if asked >= self._failed_at:
            self._window = min(self._most, self._window + (1.0 if self._climbing else 1.0 / self._window))
        self._measure(now - asked, now)
        self._grow(now)

    def refused(self, asked: float, now: float, told: bool) -> None:
        """The answer says "later".

        :param told: whether it says when.
        """
        self._refusals += 0.02 * (1 - self._refusals)
        if asked <= self._cut_at:  # it was under way when the last cut was made
            self._refused += 1
            self._estimate()
        elif told or self._refusals > 2 * TOLERATED:
            self._cut(asked, now)

    def _cut(self, asked: float, now: float) -> None:
        rate, before = self._per_second, self._ceiling
        second = float(sum(asked - 1 < one < asked for one in self._recent))
        active = asked - self._resumed if self._resumed is not None else 0.0
        alike = [one for one in self._seconds if abs(second - one) <= SAME * second]
        self._ceiling = 0.0
        self._in_seconds = bool(alike)
        if self._cut_asked == NEVER:
            rate = max(second, rate / 2)
        elif alike:
            self._ceiling = second if active > TEST else max(second, *alike)  # it counts in seconds
        else:
            flow = self._admitted / (asked - self._cut_asked)  # into its bucket, if that was full enough for the pause
            if active > TEST:
                self._ceiling = max(flow, second)
            else:
                most = min(rate, self._admitted / max(active, 0.001))
                rate = math.sqrt(max(flow, LEAST_RATE) * most)
                if most < 1.25 * flow:
                    self._ceiling = flow
        self._cut_at, self._cut_asked, self._cut_rate = now, asked, self._per_second
        self._seconds = (*self._seconds[-1:], second)
        self._resumed = None
        self._admitted, self._good, self._refused = 0, 0, 1
        self._climbing = False
        if before and abs(self._ceiling - before) <= SAME * before:
            self._hold = min(2 * self._hold, LONGEST_HOLD)
        else:
            self._hold = HOLD if alike else HOLD / 3
        self._set(self._ceiling * BELOW if self._ceiling else rate)

    def failed(self, asked: float, now: float) -> None:
        """There is no answer."""
        if asked < self._failed_at:
            return
        self._failed_at = now
        self._window = max(1.0, self._window * 0.7)
        self._slow_down(now, 0.7)

    def _estimate(self) -> None:
        """A part of what was under way has been admitted: so is that part of the rate, at least."""
        under_way = self._good + self._refused
        if under_way >= (ENOUGH if self._good else ENOUGH + 3):
            part = self._cut_rate * self._good / under_way
            if part < self._seconds[-1]:  # hardly anything: it counts in seconds
                self._in_seconds = True
            self._hold = max(self._hold, HOLD)
            self._ceiling = max(self._ceiling, self._seconds[-1], part)
            self._set(self._ceiling * BELOW)

    def _grow(self, now: float) -> None:
        since = min(now - (self._grown_at if self._grown_at is not None else now), 0.5)
        self._grown_at = now
        if not self._is_used(now):
            return
        if self._climbing:
            quickest = DOUBLING if self._cut_asked == NEVER else CLIMBING
            self._set(self._per_second * 2 ** (since / max(quickest, 2 * self._latency)))
        elif not self._ceiling:  # what lies between half of the rate that was refused and that rate?
            if self._resumed is not None and now - self._resumed > TEST:
                self._set(self._per_second * 2 ** (since / TESTING))
        else:
            held = now - max(self._cut_at, self._slowed_at)
            if held < self._hold:
                share = BELOW + (NEARLY - BELOW) * held / self._hold
                self._set(max(self._per_second, self._ceiling * share))
            else:
                self._set(self._per_second * 2 ** (since / PROBING))
                self._climbing = self._per_second > 1.3 * self._ceiling  # the limit is not there any more

    def _is_used(self, now: float) -> bool:
        """Whether the rate is what holds requests back."""
        starts = self._starts
        return len(starts) < 4 or len(starts) / max(now - starts[0], 1e-9) >= 0.5 * self._per_second

    def _measure(self, latency: float, now: float) -> None:
        self._latency += 0.2 * (latency - self._latency) if self._latency else latency
        if now - self._least_since > RECENT:
            self._least_before, self._least, self._least_since = self._least, latency, now
        self._least = min(self._least, latency)
        least = min(self._least, self._least_before)
        if self._latency > SLOWER * least + SLOWER_BY and now - self._slowed_at > max(1.0, 4 * self._latency):
            self._slow_down(now, 0.85)

    def _slow_down(self, now: float, factor: float) -> None:
        self._slowed_at = now
        self._hold = HOLD / 5
        self._ceiling = max(LEAST_RATE, self._per_second)
        self._set(max(LEAST_RATE, self._per_second * factor))
        self._climbing = False

    def _set(self, per_second: float) -> None:
        self._per_second = max(LEAST_RATE, per_second)
        self._rate.set(self._per_second)

    def _forget(self, before: float) -> None:
        """Forget what was admitted before."""
        while self._recent and self._recent[0] <= before:
            self._recent.popleft()
