"""Host: what the schedule knows of one origin: who waits for it, what limits it, and how it is."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ..errors import AioDownloadError
from .pacing import Rate

if TYPE_CHECKING:
    from yarl import URL

__all__ = [
    "LONG",
    "NEW",
    "QUICK",
    "SILENT",
    "Entry",
    "Host",
    "Limits",
    "Pace",
    "Slot",
    "host_of",
    "kind_of",
]

T = TypeVar("T")

SUSPECT = 3  # tries in a row without any answer, after which a host gets a few at a time
FEW = 3  # bundles given up so, after which the others are not kept waiting for it
PROBE = 60.0  # seconds until a host that is given up is asked again, at first
LONGEST_PROBE = 600.0
LONGEST_CLOSED = 86400.0  # seconds for which a host is believed that wants to be left alone for longer
MANY = 10  # first tries without an answer, where there was a connection: perhaps only these URLs get none
COOL = 0.1  # seconds that a host is left alone after a first "later" without a time
REMEMBERED = 60.0  # seconds that what was learnt of a host outlives its last request

NEVER = float("-inf")

QUICK, NEW, LONG, SILENT = range(4)
"""Kinds of hosts: it answers soon; nobody knows yet; it takes long; it has never answered, and keeps us waiting."""


def kind_of(proven: bool, long: bool) -> int:
    """Return the kind of a host.

    :param proven: whether it has ever answered.
    :param long: whether its requests take long.
    """
    if proven:
        return LONG if long else QUICK
    return SILENT if long else NEW


def host_of(url: URL) -> str:
    """The name of the host that ``url`` goes to: its origin (RFC 6454 section 4)."""
    return f"{url.scheme}://{url.host_port_subcomponent}"


class Pace(Protocol):
    """Finds out by itself how much one host bears; ``now`` is an argument everywhere."""

    @property
    def window(self) -> int:
        """Requests at once."""

    @property
    def next_start(self) -> float:
        """When the next one may start."""

    def started(self, now: float) -> None:
        """A request starts."""

    def answered(self, asked: float, now: float) -> None:
        """One that started at ``asked`` has got its answer."""

    def refused(self, asked: float, now: float, told: bool) -> None:
        """The answer says "later", and perhaps when."""

    def failed(self, asked: float, now: float) -> None:
        """There is no answer."""


@dataclass(frozen=True)
class Limits:
    """What holds requests back.

    :param concurrent: at once, to all hosts together (int >= 1).
    :param per_host: at once to one host (int >= 1), or None.
    :param rate: starts per second for one host (> 0), or None.
    :param spaced_per_host: whether an entry's spacing holds between starts for its host, and not for all of the run.
    :param pace: makes what finds the pace of one host, or None.
    """

    concurrent: int
    per_host: int | None = None
    rate: float | None = None
    spaced_per_host: bool = False
    pace: Callable[[], Pace] | None = None


class Slot:
    """One of the slots while an entry has it.

    :param host: whose request it is for.
    """

    __slots__ = ("held", "host", "late")

    def __init__(self, host: Host[Any]) -> None:
        self.host = host
        self.held = True
        self.late = False


class Entry(Generic[T]):
    """One bundle's place in the schedule.

    :param item: what is scheduled.
    :param origin: the host that it goes to; of those that go to ``""`` only the number at once is limited.
    :param spacing: seconds that must lie between the previous request start and this one's.
    """

    __slots__ = ("asking", "error", "gone", "host", "item", "origin", "resume", "since", "slot", "spacing", "tries")

    def __init__(self, item: T, origin: str = "", spacing: float = 0.0) -> None:
        self.item = item
        self.origin = origin
        self.spacing = max(0.0, spacing)
        self.host: Host[T] | None = None
        self.slot: Slot | None = None
        self.asking = False
        self.gone = False
        self.tries = 0
        self.since = 0.0
        self.error: AioDownloadError | None = None
        self.resume: Any = None  # whom to wake, if it is a further request of one that was started

    @property
    def active(self) -> bool:
        """Whether it has a slot."""
        return self.slot is not None


class Host(Generic[T]):
    """One origin.

    ``active`` counts its requests, ``late`` those of them that take long; ``long`` says that its requests do.

    :param origin: its name.
    :param limits: of the run.
    """

    __slots__ = (
        "_again",
        "_fresh",
        "_limit",
        "_plain",
        "_spaced",
        "active",
        "alone_until",
        "aside",
        "asking",
        "closed_until",
        "cool_down",
        "cooled",
        "counted",
        "delay",
        "down",
        "error",
        "forget_at",
        "given_up",
        "in_turn",
        "kind",
        "last_start",
        "late",
        "later",
        "listed",
        "long",
        "origin",
        "owed",
        "pace",
        "probe",
        "probed",
        "proven",
        "quick",
        "quota",
        "quota_until",
        "rate",
        "sent_away",
        "silent",
        "spacing",
        "suspect_at",
        "times",
        "wake",
    )

    def __init__(self, origin: str, limits: Limits) -> None:
        self.origin = origin
        self._again: deque[Entry[T]] = deque()  # ready, and tried before
        self._fresh: deque[Entry[T]] = deque()  # ready for the first time
        self.later: list[tuple[float, int, Entry[T]]] = []
        self.active = 0
        self.asking = 0  # of these, those that wait for their answer
        self.late = 0
        self.long = False
        self.proven = False  # whether it has ever answered
        self.kind = NEW
        self.quick = False
        self.aside: int | None = None  # the kind as which it lets others pass
        self.in_turn = False  # whether it stands in line with the other hosts
        self.counted = (False, False)  # as what it counts: as one that has work and does not take long; as a quick one
        self.wake = math.inf  # when it is to be looked at again; what says otherwise is out of date
        self.times: set[float] = set()  # for which it is noted to be looked at
        self.forget_at = math.inf
        self.listed = False  # whether it is listed to be forgotten
        known = bool(origin)
        self._limit = limits.per_host if known and limits.per_host is not None else limits.concurrent
        self._spaced = known and limits.spaced_per_host
        self.rate = Rate(limits.rate) if known and limits.rate is not None else None
        self.pace = limits.pace() if known and limits.pace is not None else None
        self._plain = not self._spaced and self.rate is None and self.pace is None
        self.delay = 0.0  # seconds between starts that its robots.txt asks for
        self.last_start = NEVER
        self.spacing = 0.0  # of what started last
        self.alone_until = NEVER  # it has asked for a pause
        self.cool_down = 0.0  # seconds of the last pause that it did not name the end of
        self.cooled = NEVER  # when that began
        self.quota: int | None = None  # requests that it still allows
        self.quota_until = NEVER
        self.silent = 0  # tries in a row that got no answer at all
        self.given_up = 0  # bundles in a row that failed so
        self.suspect_at = NEVER  # when there were a few of them
        self.owed = 0  # bundles that are to have their first try before others go on: perhaps they are answered
        self.probed = 0.0  # first tries that were not; one with a connection counts for less
        self.sent_away = 0  # answers in a row that asked for too long a wait
        self.down = False  # whether it was found so, and has not answered since
        self.probe = PROBE
        self.closed_until = NEVER
        self.error: AioDownloadError | None = None  # why its bundles fail until then

    def __repr__(self) -> str:
        return f"<Host {self.origin} active={self.active} ready={len(self)} later={len(self.later)}>"

    def __len__(self) -> int:
        """Entries that are ready."""
        return len(self._again) + len(self._fresh)

    @property
    def limit(self) -> int:
        """Requests at once."""
        if self.silent >= SUSPECT:
            return 1 if self.down else min(FEW, self._limit)
        return self._limit if self.pace is None else min(self._limit, self.pace.window)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return not (self.active or self._again or self._fresh or self.later)

    @property
    def ready(self) -> bool:
        """Whether an entry is."""
        return bool(self._again or self._fresh)

    def put(self, entry: Entry[T]) -> None:
        """Let ``entry`` be ready: those that were tried before go before the others."""
        if entry.tries:
            self._put_again(entry)
        else:
            self._fresh.append(entry)

    def _put_again(self, entry: Entry[T]) -> None:
        # Where none is answered, those go first that have the fewest tries left: some shall come to their end.
        if self.silent >= SUSPECT and self._again and entry.tries > self._again[0].tries:
            self._again.appendleft(entry)
        else:
            self._again.append(entry)

    def put_first(self, entry: Entry[T]) -> None:
        """Let it be the next one."""
        self._again.appendleft(entry)

    def _queue(self) -> deque[Entry[T]]:
        """Whose first entry is next: what was tried before goes first, but for bundles that are owed a try."""
        return self._again if self._again and not (self.owed and self._fresh) else self._fresh or self._again

    def first(self) -> Entry[T]:
        """The entry that is next."""
        return self._queue()[0]

    def take(self) -> Entry[T]:
        """Take it out."""
        return self._queue().popleft()

    def take_all(self) -> list[Entry[T]]:
        """Take out everything that waits."""
        entries = [*self._again, *self._fresh, *(place[2] for place in self.later)]
        self._again.clear()
        self._fresh.clear()
        self.later.clear()
        return entries

    def discard(self, unwanted: Callable[[Entry[T]], bool]) -> None:
        """Forget those that are ``unwanted``."""
        self._again = deque(entry for entry in self._again if not unwanted(entry))
        self._fresh = deque(entry for entry in self._fresh if not unwanted(entry))
        self.later = [place for place in self.later if not unwanted(place[2])]
        heapq.heapify(self.later)

    def next_start(self, spacing: float) -> float:
        """When a request may start, as far as it is a matter of time."""
        start = self.alone_until
        if self._spaced and self.last_start + spacing > start:
            start = self.last_start + spacing
        if self.delay and self.last_start + self.delay > start:
            start = self.last_start + self.delay
        if self.rate is not None and self.rate.next_start > start:
            start = self.rate.next_start
        if self.pace is not None and self.pace.next_start > start:
            start = self.pace.next_start
        if self.quota is not None and self.quota <= 0 and self.quota_until > start:
            start = self.quota_until
        return start

    def may_start(self, now: float) -> float | None:
        """When its first entry may start; None if that takes another event than the passing of time."""
        later = self.later
        while later and later[0][0] <= now:
            self._put_again(heapq.heappop(later)[2])
        queue = self._queue()
        while queue and queue[0].gone:
            queue.popleft()
            queue = self._queue()
        if not queue or (later and not self._again and not self.owed and self.silent >= SUSPECT):
            # One that does not answer is asked by few bundles, until it answers or they give up; the others wait.
            return later[0][0] if later else None
        if self.active >= (self._limit if self._plain and self.silent < SUSPECT else self.limit):
            return None
        return self.alone_until if self._plain and self.quota is None else self.next_start(queue[0].spacing)

    def started(self, now: float, spacing: float) -> None:
        """Count a request that starts."""
        self.spacing = spacing
        self.active += 1
        self.asking += 1
        self.last_start = now
        if self.rate is not None:
            self.rate.started(now)
        if self.pace is not None:
            self.pace.started(now)
        if self.quota is not None:
            self.quota -= 1
            if now >= self.quota_until:
                self.quota = None

    def slow_down(self, delay: float) -> None:
        """Let so many seconds lie between starts."""
        self.delay = delay
        self._plain = False

    def memory(self, now: float) -> float:
        """Until when it must be remembered, though it has nothing to do."""
        learnt = self.pace is not None or self.silent or self.cool_down or self.sent_away or self.delay
        allowed = self.quota_until if self.quota is not None else now
        return max(
            allowed, self.next_start(self.spacing), self.closed_until + REMEMBERED, now + REMEMBERED if learnt else now
        )

    # What its answers say.

    def answered(self, asked: float, now: float, later: bool, told: bool) -> None:
        """There is an answer; it may be one that says "later", and perhaps when."""
        self.silent = self.given_up = self.owed = 0
        self.probed = 0.0
        self.down = False
        self.probe = PROBE
        if later:
            if self.pace is not None:
                self.pace.refused(asked, now, told)
            return
        self.cool_down = 0.0
        self.sent_away = 0
        if self.pace is not None:
            self.pace.answered(asked, now)

    def unanswered(self, asked: float, now: float, first: bool, connected: bool) -> None:
        """There is no answer at all, perhaps to the first try of a bundle, though perhaps there was a connection."""
        self.silent += 1
        if first:
            self.owed = 0
            if self.silent > SUSPECT and asked >= self.suspect_at:  # not one that was under way before
                self.probed += FEW / MANY if connected else 1
        if self.silent == SUSPECT:
            self.suspect_at = now
        if self.silent == SUSPECT or (self.silent > SUSPECT and not first and self.probed < FEW - 0.01):
            self.owed = 1
        if self.pace is not None:
            self.pace.failed(asked, now)

    def leave_alone(self, asked: float, now: float, told: float, wait: float) -> None:
        """It says "later".

        :param told: in how many seconds, by its own words, or 0.
        :param wait: seconds that the bundle waits for its next try: where nothing is told, the pause of the
            others grows up to this.
        """
        if told > 0:
            self.alone_until = max(self.alone_until, now + told)
        elif wait > 0 and asked >= self.cooled:  # those that were under way together count once
            self.cool_down = min(max(COOL, 2 * self.cool_down), wait)
            self.cooled = now
            self.alone_until = max(self.alone_until, now + self.cool_down)

    def allow(self, remaining: int, seconds: float, now: float) -> None:
        """It allows ``remaining`` requests in the next ``seconds``, those included that wait for their answer."""
        self.quota = remaining - self.asking
        self.quota_until = now + seconds

    def send_away(self, now: float, seconds: float) -> bool:
        """It asks for too long a wait.  Whether it has done so a few times, and nothing else."""
        self.sent_away += 1
        if self.sent_away < FEW:
            return False
        self.closed_until = max(self.closed_until, now + min(seconds, LONGEST_CLOSED))
        return True

    def give_up(self) -> None:
        """A bundle has failed after all its tries, and the last had no answer."""
        self.given_up += 1
        if self.probed < FEW - 0.01:
            self.owed = 1

    def is_down(self, now: float) -> bool:
        """Whether a few bundles have gone through all their tries, and as many others had a first one, unanswered.

        Once that was so, one more try without an answer says it again.
        """
        if now < self.closed_until or (not self.down and (self.given_up < FEW or self.probed < FEW - 0.01)):
            return False
        self.down = True
        self.closed_until = now + self.probe
        self.probe = min(2 * self.probe, LONGEST_PROBE)
        return True
