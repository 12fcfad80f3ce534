"""Host: what the schedule knows of one origin: who waits for it, and what limits it."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from ..bundle import parsed
from ..errors import AioDownloadError, ConfigurationError, InvalidURLError
from ..redact import redact
from .health import FEW, NEVER, Health
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
    "Share",
    "Slot",
    "host_of",
    "kind_of",
    "origins",
]

T = TypeVar("T")

REMEMBERED = 60.0  # seconds that what was learnt of a host outlives its last request

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


def origins(name: str, values: Collection[str]) -> frozenset[str]:
    """Read the names of hosts, as :func:`host_of` spells them.

    :param name: of the setting.
    :raises ConfigurationError: for what is no collection of origins.
    """
    example = "('https://data.example.org',)"
    if isinstance(values, (str, bytes)) or not isinstance(values, Collection):
        raise ConfigurationError(f"{name} must be a tuple of origins such as {example}, not {redact(repr(values))}")
    return frozenset(_origin(name, value, example) for value in values)


def _origin(name: str, value: object, example: str) -> str:
    try:
        url = parsed(value) if isinstance(value, str) else None
    except InvalidURLError:
        url = None
    if url is None or url.raw_user or url.raw_password or url.raw_path not in ("", "/") or url.raw_query_string:
        shown = repr(redact(value)) if isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{name} must hold origins: scheme, name and port only, as in {example}, not {shown}")
    return host_of(url)


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


class Limits(NamedTuple):
    """What holds requests back.

    :param concurrent: at once, to all hosts together (int >= 1).
    :param per_host: at once to one host (int >= 1), or None.
    :param rate: starts per second for one host (> 0), or None.
    :param spaced_per_host: whether an entry's spacing holds between starts for its host, and not for all of the run.
    :param pace: makes what finds the pace of one host, or None.
    :param parts: among how many schedules the limits of a host are divided that these are one part of (int >= 1).
    """

    concurrent: int
    per_host: int | None = None
    rate: float | None = None
    spaced_per_host: bool = False
    pace: Callable[[], Pace] | None = None
    parts: int = 1

    def divided(self, count: int) -> Limits:
        """What each of ``count`` schedules may ask of a host that all of them ask."""
        return self._replace(
            per_host=None if self.per_host is None else max(1, self.per_host // count),
            rate=None if self.rate is None else self.rate / count,
            parts=self.parts * count,
        )


class Share(NamedTuple):
    """Which part of the hosts one of several schedules has.

    :param own: hosts that no other one asks meanwhile.
    :param schedules: how many there are: among them the limits of all other hosts are divided (int >= 1).
    :param split: hosts that some of the others have as well.
    :param parts: how many may have one of these at once (int >= 1).
    """

    own: frozenset[str]
    schedules: int
    split: frozenset[str] = frozenset()
    parts: int = 1

    def parts_of(self, origin: str) -> int:
        """Among how many schedules the limits of this host are divided."""
        if origin in self.own:
            return 1
        return self.parts if origin in self.split else self.schedules


class Slot:
    """One of the slots while an entry has it.

    :param host: whose request it is for.
    :param since: when it was given.
    """

    __slots__ = ("held", "host", "late", "since")

    def __init__(self, host: Host[Any], since: float) -> None:
        self.host = host
        self.since = since
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
        "_parts",
        "_plain",
        "active",
        "aside",
        "asking",
        "counted",
        "delay",
        "forget_at",
        "health",
        "in_turn",
        "kind",
        "last_start",
        "late",
        "later",
        "listed",
        "long",
        "origin",
        "pace",
        "proven",
        "quick",
        "rate",
        "spaced",
        "spacing",
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
        self.spaced = known and limits.spaced_per_host
        self._parts = limits.parts
        self.rate = Rate(limits.rate) if known and limits.rate is not None else None
        self.pace = limits.pace() if known and limits.pace is not None else None
        self._plain = not self.spaced and self.rate is None and self.pace is None
        self.delay = 0.0  # seconds between starts that its robots.txt asks for
        self.last_start = NEVER
        self.spacing = 0.0  # of what started last
        self.health = Health()

    def __repr__(self) -> str:
        return f"<Host {self.origin} active={self.active} ready={len(self)} later={len(self.later)}>"

    def __len__(self) -> int:
        """Entries that are ready."""
        return len(self._again) + len(self._fresh)

    @property
    def limit(self) -> int:
        """Requests at once."""
        if self.health.suspect:
            return 1 if self.health.down else min(FEW, self._limit)
        return self._limit if self.pace is None else min(self._limit, self.pace.window)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return not (self.active or self._again or self._fresh or self.later)

    @property
    def ready(self) -> bool:
        """Whether an entry is."""
        return bool(self._again or self._fresh)

    def put(self, entry: Entry[T]) -> bool:
        """Let ``entry`` be ready: those that were tried before go before the others.

        :returns: whether it stands behind others, so that nothing changes but the length of the queue.
        """
        fresh = self._fresh
        if entry.tries:
            self._put_again(entry)
            return False
        behind = bool(fresh)
        fresh.append(entry)
        return behind

    def _put_again(self, entry: Entry[T]) -> None:
        # Where none is answered, those go first that have the fewest tries left: some shall come to their end.
        if self.health.suspect and self._again and entry.tries > self._again[0].tries:
            self._again.appendleft(entry)
        else:
            self._again.append(entry)

    def put_first(self, entry: Entry[T]) -> None:
        """Let it be the next one."""
        self._again.appendleft(entry)

    def _queue(self) -> deque[Entry[T]]:
        """Whose first entry is next: what was tried before goes first, but for bundles that are owed a try."""
        return self._again if self._again and not (self.health.owed and self._fresh) else self._fresh or self._again

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
        start = self.health.start()
        if self.spaced and self.last_start + spacing * self._parts > start:
            start = self.last_start + spacing * self._parts
        if self.delay and self.last_start + self.delay * self._parts > start:
            start = self.last_start + self.delay * self._parts
        if self.rate is not None and self.rate.next_start > start:
            start = self.rate.next_start
        if self.pace is not None and self.pace.next_start > start:
            start = self.pace.next_start
        return start

    def may_start(self, now: float) -> float | None:
        """When its first entry may start; None if that takes another event than the passing of time."""
        if self._again or self.later:
            return self._may_go_on(now)
        fresh, health = self._fresh, self.health
        while fresh and fresh[0].gone:
            fresh.popleft()
        if not fresh:
            return None
        if self._plain and not health.suspect:
            if self.active >= self._limit:
                return None
            return health.alone_until if health.quota is None else health.start()
        return None if self.active >= self.limit else self.next_start(fresh[0].spacing)

    def _may_go_on(self, now: float) -> float | None:
        """The same where some of its entries were tried before."""
        later, health = self.later, self.health
        while later and later[0][0] <= now:
            self._put_again(heapq.heappop(later)[2])
        queue = self._queue()
        while queue and queue[0].gone:
            queue.popleft()
            queue = self._queue()
        if not queue or (later and not self._again and not health.owed and health.suspect):
            # One that does not answer is asked by few bundles, until it answers or they give up; the others wait.
            return later[0][0] if later else None
        return None if self.active >= self.limit else self.next_start(queue[0].spacing)

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
        self.health.started(now)

    def slow_down(self, delay: float) -> None:
        """Let so many seconds lie between starts."""
        self.delay = delay
        self._plain = False

    def allow(self, remaining: int, seconds: float, now: float) -> None:
        """It allows so many more requests in the next seconds; those that wait for their answer are not counted yet."""
        self.health.allow(remaining // self._parts - self.asking, seconds, now)

    def memory(self, now: float) -> float:
        """Until when it must be remembered, though it has nothing to do."""
        health = self.health
        learnt = self.pace is not None or self.delay or health.remarkable
        allowed = health.quota_until if health.quota is not None else now
        return max(
            allowed,
            self.next_start(self.spacing),
            health.closed_until + REMEMBERED,
            now + REMEMBERED if learnt else now,
        )

    def answered(self, asked: float, now: float, later: bool, told: bool) -> None:
        """There is an answer; it may be one that says "later", and perhaps when."""
        self.health.answered(later=later)
        if self.pace is not None:
            if later:
                self.pace.refused(asked, now, told)
            else:
                self.pace.answered(asked, now)

    def unanswered(self, asked: float, now: float, first: bool, connected: bool) -> None:
        """There is no answer at all, perhaps to the first try of a bundle, though perhaps there was a connection."""
        self.health.unanswered(asked, now, first=first, connected=connected)
        if self.pace is not None:
            self.pace.failed(asked, now)
