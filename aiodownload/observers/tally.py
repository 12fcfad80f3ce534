"""What a run has done so far, as numbers: counts, rates, what is under way, how long it may still take."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..bundle import AioDownloadBundle, Status
from ..events import (
    Attempted,
    Cancelled,
    Event,
    HostPaused,
    Received,
    Receiving,
    RetryScheduled,
    RunFinished,
    RunStarted,
    Settled,
)
from ..redact import printable, redact

__all__ = ["Pause", "Tally", "Transfer", "Wait"]

WINDOW = 10.0  # seconds over which the rates are taken
SLOT = 0.5  # seconds that are counted as one moment
PAUSES = 100  # hosts of which a pause is remembered


def _name(bundle: AioDownloadBundle) -> str:
    text = redact(bundle.url).partition("#")[0].partition("?")[0]
    return printable(text.rstrip("/").rpartition("/")[2] or text)


@dataclass(slots=True)
class Transfer:
    """A bundle that is being worked on.

    :param bundle: which.
    :param since: when it began (seconds of the tally's clock).
    :param received: bytes of the body that are there, those of earlier tries included.
    :param total: bytes of the whole body, or None.
    :param counted: how many of ``received`` came in this run.
    """

    bundle: AioDownloadBundle
    since: float
    received: int = 0
    total: int | None = None
    counted: int = 0

    @property
    def name(self) -> str:
        """The last part of its URL that says something."""
        return _name(self.bundle)


@dataclass(slots=True)
class Pause:
    """A host that is not asked for a while.

    :param host: scheme, name and port.
    :param until: seconds of the tally's clock.
    :param reason: in words.
    """

    host: str
    until: float
    reason: str


@dataclass(slots=True)
class Wait:
    """A bundle that waits for its next try.

    :param name: the last part of its URL that says something.
    :param until: seconds of the tally's clock.
    :param reason: why the try before failed.
    """

    name: str
    until: float
    reason: str


class Tally:
    """Counts the events of one or more runs; a second thread may read it at any time.

    :param clock: seconds that go on steadily.

    Attributes: ``total`` (bundles of all runs, or None if one of them does not tell), ``done``, ``cached``, ``failed``,
    ``cancelled``, ``retries``
    (tries that failed and are made again), ``bytes`` (that have come), ``active`` (dict of
    :class:`Transfer`), ``waiting`` (bundles that wait for their next try), ``last_error`` (str or None).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began = clock()
        self.ended: float | None = None
        self.total: int | None = 0
        self.done = self.cached = self.failed = self.cancelled = self.retries = self.bytes = 0
        self.runs = 0
        self.last_error: str | None = None
        self.active: dict[int, Transfer] = {}
        self._waits: dict[int, Wait] = {}
        self._pauses: OrderedDict[str, Pause] = OrderedDict()
        self._expected = 0  # bytes of the bodies whose length is known, and of those that are settled
        self._sized = 0  # how many these are
        self._moments: deque[tuple[float, int, int]] = deque([(self.began, 0, 0)])
        self._counters: dict[type[Event], Callable[[Any], None]] = {
            RunStarted: self._started,
            Attempted: self._attempted,
            Receiving: self._receiving,
            Received: self._received,
            RetryScheduled: self._retried,
            HostPaused: self._paused,
            Settled: self._settled,
            Cancelled: self._cancelled,
            RunFinished: self._finished,
        }

    @property
    def waiting(self) -> int:
        """Bundles that wait for their next try."""
        return len(self._waits)

    @property
    def settled(self) -> int:
        """Bundles that have their outcome."""
        return self.done + self.cached + self.failed

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning, up to the end of the last run."""
        return (self.ended if self.ended is not None else self._clock()) - self.began

    def add(self, event: Event) -> None:
        """Count an event."""
        self._counters[type(event)](event)

    def _started(self, event: RunStarted) -> None:
        now = self._clock()
        if not self.runs and not self.settled:
            self.began = now
            self._moments = deque([(now, 0, 0)])
        self.runs += 1
        self.ended = None
        self.total = None if self.total is None or event.total is None else self.total + event.total

    def _finished(self, _: RunFinished) -> None:
        self.runs -= 1
        if not self.runs:
            self.ended = self._clock()
            if self.total is None:  # now it is known, whoever comes next
                self.total = self.settled

    def _attempted(self, event: Attempted) -> None:
        self._wait_no_more(event.bundle)
        if id(event.bundle) not in self.active:
            self.active[id(event.bundle)] = Transfer(event.bundle, self._clock())

    def _retried(self, event: RetryScheduled) -> None:
        self.retries += 1
        self._leave(event.bundle)
        until = self._clock() + event.delay
        self._waits[id(event.bundle)] = Wait(_name(event.bundle), until, printable(str(event.error)))

    def _wait_no_more(self, bundle: AioDownloadBundle) -> None:
        self._waits.pop(id(bundle), None)

    def _paused(self, event: HostPaused) -> None:
        self._pauses.pop(event.host, None)
        until = self._clock() + event.seconds
        self._pauses[event.host] = Pause(printable(event.host), until, printable(event.reason))
        if len(self._pauses) > PAUSES:
            self._pauses.popitem(last=False)

    def _receiving(self, event: Receiving) -> None:
        transfer = self.active.get(id(event.bundle))
        if transfer is None:
            return
        if transfer.total is None and event.total is not None:
            self._expected += event.total
            self._sized += 1
        elif transfer.total is not None:
            self._expected += (event.total or 0) - transfer.total
            self._sized -= event.total is None
        transfer.received, transfer.total = event.held, event.total

    def _received(self, event: Received) -> None:
        self.bytes += event.count
        transfer = self.active.get(id(event.bundle))
        if transfer is not None:
            transfer.received += event.count
            transfer.counted += event.count
        self._note()

    def _leave(self, bundle: AioDownloadBundle) -> Transfer | None:
        transfer = self.active.pop(id(bundle), None)
        if transfer is not None and transfer.total is not None:
            self._expected -= transfer.total
            self._sized -= 1
        return transfer

    def _settled(self, event: Settled) -> None:
        bundle = event.bundle
        transfer = self._leave(bundle)
        self._wait_no_more(bundle)
        if bundle.status is Status.DONE:
            self.done += 1
        elif bundle.status is Status.CACHED:
            self.cached += 1
        else:
            self.failed += 1
            self.last_error = f"{printable(redact(bundle.url))}: {printable(str(bundle.error))}"
        # What it has cost counts for what the others may cost, whether it was kept or not.
        self._expected += transfer.counted if transfer is not None else 0
        self._sized += 1
        self._note()

    def _cancelled(self, event: Cancelled) -> None:
        self.cancelled += 1
        self._leave(event.bundle)
        self._wait_no_more(event.bundle)

    def _note(self) -> None:
        now = self._clock()
        if now - self._moments[-1][0] >= SLOT:
            self._moments.append((now, self.bytes, self.settled))
            while now - self._moments[0][0] > WINDOW and len(self._moments) > 2:
                self._moments.popleft()

    # What can be said of it.

    def rates(self) -> tuple[float, float]:
        """Bytes and settled bundles per second (float, float), of the last 10 s, or of the whole if it is over."""
        if self.ended is not None:
            seconds = max(self.ended - self.began, 1e-6)
            return self.bytes / seconds, self.settled / seconds
        now = self._clock()
        moments = tuple(self._moments)  # another thread may add to it
        since, received, settled = next((moment for moment in moments if now - moment[0] <= WINDOW), moments[-1])
        seconds = max(now - since, SLOT)
        return (self.bytes - received) / seconds, (self.settled - settled) / seconds

    def remaining(self) -> float | None:
        """Seconds that the rest may take (float), or None where nothing can be said.

        Bodies whose length is not known are taken to be as long as the others are on average.  Where nothing comes but
        outcomes, such as failures, their number counts.
        """
        if self.total is None or self.ended is not None:
            return None
        left = self.total - self.settled
        if left <= 0:
            return 0.0
        now = self._clock()
        wait = max((one.until - now for one in tuple(self._waits.values())), default=0.0)
        by_bytes, by_count = self.rates()
        transfers = tuple(self.active.values())
        if by_bytes > 0 and self._sized > 0:
            mean = self._expected / self._sized
            unknown = max(0, left - sum(transfer.total is not None for transfer in transfers))
            known = sum(
                max(0, transfer.total - transfer.received) for transfer in transfers if transfer.total is not None
            )
            return max((known + unknown * mean) / by_bytes, wait)
        return max(left / by_count, wait) if by_count > 0 else None

    def age(self, transfer: Transfer) -> float:
        """Seconds for which it has been under way."""
        return self._clock() - transfer.since

    def longest(self, count: int) -> list[Transfer]:
        """Those that have been under way for the longest, at most ``count``, the oldest first."""
        transfers = tuple(self.active.values())  # in the order in which they began
        return list(transfers[:count])

    def waits(self, count: int) -> tuple[list[tuple[Wait, float]], int]:
        """Bundles that wait for a second or more, each with the seconds left, the soonest first; and how many."""
        now = self._clock()
        waiting = [(one, one.until - now) for one in tuple(self._waits.values()) if one.until - now >= 1]
        waiting.sort(key=lambda one: one[1])
        return waiting[:count], len(waiting)

    def pauses(self, count: int) -> tuple[list[tuple[Pause, float]], int]:
        """Hosts that are not asked now, each with the seconds left, the longest first; and how many there are."""
        now = self._clock()
        paused = [(pause, pause.until - now) for pause in tuple(self._pauses.values()) if pause.until > now]
        paused.sort(key=lambda one: -one[1])
        return paused[:count], len(paused)
