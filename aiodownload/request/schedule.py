"""Who may go now: a queue per host and all limits in one place, synchronous, with the time as an argument."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from ..errors import AioDownloadError
from .hosts import Entry, Host, Limits, Share
from .line import Line
from .memory import Memory, recall, remember

__all__ = ["Entry", "Limits", "Schedule"]

T = TypeVar("T")

SUSPECTED = 1.0  # seconds for which who can do without a host that does not answer does so


class Schedule(Generic[T]):
    """Entries that wait for their hosts, and the limits that hold them back.

    Each host has a queue: first come, first served, and those that wait for a retry come back when it is due.  Hosts
    that may go now stand in line and have one start each in turn; one that must wait for a point in time stands in a
    heap, and one that waits for an answer in neither.  So a decision costs the same however many entries wait, and
    the logarithm of the number of hosts that wait for their time.

    ``now`` is any clock that does not run backwards, in seconds.

    :param limits: what holds requests back.
    :param share: which hosts they are for, if other schedules ask as well; the limits of others are divided.
    """

    def __init__(self, limits: Limits, share: Share | None = None) -> None:
        self.limits = limits
        self._share = share
        self._hosts: dict[str, Host[T]] = {}
        self._line: Line[T] = Line(limits.concurrent, self._hosts)
        self._timed: list[tuple[float, int, Host[T]]] = []
        self._idle: list[tuple[float, int, Host[T]]] = []
        self._order = itertools.count()
        self._last_start = -math.inf
        self.refusals: deque[Entry[T]] = deque()

    def __repr__(self) -> str:
        return f"<Schedule active={self.active}/{self.concurrent} hosts={len(self._hosts)} in line={len(self._line)}>"

    @property
    def concurrent(self) -> int:
        """How many slots there are."""
        return self._line.slots

    @property
    def active(self) -> int:
        """How many of them are taken."""
        return self._line.slots - self._line.free

    @property
    def free(self) -> bool:
        """Whether a slot is free."""
        return self._line.free > 0

    @property
    def startable(self) -> bool:
        """Whether a slot is free and a host stands in line for one."""
        line = self._line
        return line.free > 0 and line.first is not None

    @property
    def spare(self) -> int:
        """How many slots are free, though entries may wait: none of them may have one, each for its own host's sake."""
        line = self._line
        return line.free if line.first is None else 0

    def recall(self, memories: Mapping[str, Memory], last_start: float, now: float) -> None:
        """Go on with what another schedule knew, told from ``now``.

        :param memories: of hosts.
        :param last_start: when the last request to any of them started.
        """
        for origin, memory in memories.items():
            recall(self._host(origin, now), memory, now)
        self._last_start = now + last_start

    def remembered(self, now: float) -> dict[str, Memory]:
        """What another one may go on with, told from ``now``."""
        return {
            origin: remember(host, now) for origin, host in self._hosts.items() if origin and host.memory(now) > now
        }

    @property
    def last_start(self) -> float:
        """When the last request started."""
        return self._last_start

    def expect(self, runs: int) -> None:
        """So many more runs (or fewer) have not read all of their input."""
        self._line.expecting += runs

    def add(self, entry: Entry[T], now: float, delay: float = 0.0) -> None:
        """Put ``entry`` in: ready at once, or no earlier than ``delay`` seconds from ``now``."""
        host = self._host(entry.origin, now)
        entry.host = host
        entry.gone = False
        if host.health.is_closed(now):
            entry.error = host.health.error
            self.refusals.append(entry)
            self._look_at(host, now)
            return
        if delay > 0:
            heapq.heappush(host.later, (now + delay, next(self._order), entry))
        elif host.put(entry):
            return  # behind others, for which the host stands where it belongs
        self._look_at(host, now)

    def next(self, now: float) -> Entry[T] | None:
        """Return the entry that may start now, which takes a slot and marks a request start, or None."""
        line = self._line
        if line.free <= 0:
            return None
        while self._timed and self._timed[0][0] <= now:
            when, _, due = heapq.heappop(self._timed)
            due.times.discard(when)
            if due.wake == when:
                due.wake = math.inf
                self._look_at(due, now)
        while (host := line.head(now)) is not None:
            start = host.may_start(now)
            if start is None or start > now:
                line.leave(host)
                self._look_at(host, now)
                continue
            entry = host.first()
            if now < self._last_start + entry.spacing and not self.limits.spaced_per_host:
                return None
            host.take()
            line.leave(host)
            entry.tries += entry.resume is None  # further requests belong to the same try
            self._start(entry, host, now)
            self._look_at(host, now)
            return entry
        return None

    def refused(self) -> Entry[T] | None:
        """Return one of the ``refusals``, an entry whose host is not asked for now (``error`` says why), or None."""
        while self.refusals:
            entry = self.refusals.popleft()
            if not entry.gone:
                return entry
        return None

    def wake_at(self, now: float) -> float | None:
        """Return when ``next`` may have an entry although nothing else happens, or None if never."""
        if self.refusals:
            return now
        if not self.free:
            return None
        if (host := self._line.first) is not None:
            spacing = host.first().spacing if host.ready and not self.limits.spaced_per_host else 0.0
            return max(now, self._last_start + spacing)
        while self._timed and self._timed[0][2].wake != self._timed[0][0]:
            when, _, old = heapq.heappop(self._timed)
            old.times.discard(when)
        return max(now, self._timed[0][0]) if self._timed else None

    def release(self, entry: Entry[T], now: float) -> None:
        """Give the slot of ``entry`` back, if it has one."""
        host = entry.host
        if entry.slot is None or host is None:
            return
        self._give_back(entry, host, now)
        self._look_at(host, now)

    def move(self, entry: Entry[T], origin: str, now: float) -> bool:
        """Let an active entry make a further request, at ``origin``, where it counts from now on.

        :returns: True if it may be made now.  Otherwise the slot has been given back: the entry is first in the queue
            of that host, and :meth:`next` will return it; or :meth:`refused` will.
        """
        if entry.slot is not None and entry.host is not None:
            left = entry.host
            self._give_back(entry, left, now)
        else:
            left = None
        host = self._host(origin, now)
        entry.host = host
        entry.gone = False
        if host.health.is_closed(now):
            entry.error = host.health.error
            self.refusals.append(entry)
            granted = False
        elif (
            self.free
            and host.active < host.limit
            and host.next_start(entry.spacing) <= now
            and (self.limits.spaced_per_host or now >= self._last_start + entry.spacing)
        ):
            self._start(entry, host, now)
            granted = True
        else:
            if left is None and not entry.tries:  # it has never had a turn
                host.put(entry)
            else:
                host.put_first(entry)
            granted = False
        if left is not None and left is not host:
            self._look_at(left, now)
        self._look_at(host, now)
        return granted

    def opens_in(self, origin: str, now: float) -> float:
        """Seconds for which a host has asked to be left alone, or is not asked because it does not answer."""
        host = self._hosts.get(origin)
        if host is None:
            return 0.0
        wait = host.health.opens_in(now)
        # One that does not answer is asked by one at a time: whoever can do without it shall not wait for that.
        return max(wait, SUSPECTED) if host.health.suspect and host.active else wait

    def paused_for(self, origin: str, now: float) -> float:
        """Seconds for which nobody asks a host, of those that it has named and those for which it is taken as down."""
        host = self._hosts.get(origin)
        return host.health.opens_in(now) if host is not None else 0.0

    def withdraw(self, entry: Entry[T]) -> None:
        """Forget an entry that waits."""
        entry.gone = True

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Forget every entry that waits to be started and whose item is ``unwanted``."""
        for host in self._hosts.values():
            host.discard(lambda entry: entry.resume is None and unwanted(entry.item))
            self._line.count(host)
        self.refusals = deque(entry for entry in self.refusals if entry.resume is not None or not unwanted(entry.item))

    # What is heard of the hosts.

    def answered(self, entry: Entry[T], now: float, *, later: bool = False, told: bool = False) -> None:
        """A request of ``entry`` has its answer.

        :param later: whether it says that the host has too much to do.
        :param told: whether it says until when.
        """
        host = entry.host
        if host is not None:
            self._heard(entry, host)
            self._line.proven(host)
            suspect = host.health.suspect
            host.answered(entry.since, now, later, told)
            if suspect or host.pace is not None:  # it may be given more now
                self._look_at(host, now)

    def unanswered(
        self, entry: Entry[T], now: float, error: Callable[[float], AioDownloadError], *, connected: bool = False
    ) -> None:
        """A request of ``entry`` got no answer at all.

        :param error: makes the reason why others for its host fail, if they do, of the seconds until the next probe.
        :param connected: whether there was a connection at least.
        """
        if entry.host is not None:
            self._heard(entry, entry.host)
            entry.host.unanswered(entry.since, now, entry.tries == 1, connected)
            self._close_if_down(entry.host, now, error)

    def leave_alone(self, entry: Entry[T], now: float, *, told: float, wait: float) -> None:
        """The host of ``entry`` asks to be left alone, all its entries wait; see :meth:`Health.leave_alone`."""
        if entry.host is not None:
            entry.host.health.leave_alone(entry.since, now, told, wait)

    def allow(self, entry: Entry[T], now: float, remaining: int, seconds: float) -> None:
        """The host of ``entry`` allows so many more requests in the next seconds.

        Those that wait for their answer have not been counted yet.
        """
        if entry.host is not None:
            entry.host.allow(remaining, seconds, now)
            self._look_at(entry.host, now)

    def slow_down(self, origin: str, now: float, delay: float) -> None:
        """Let at least ``delay`` seconds lie between the starts for a host, as its robots.txt asks."""
        host = self._host(origin, now)
        host.slow_down(delay)
        self._look_at(host, now)

    def give_up(self, entry: Entry[T], now: float, error: Callable[[float], AioDownloadError]) -> None:
        """The bundle of ``entry`` has failed without an answer.  After a few of them their host is closed for a while.

        :param error: as in :meth:`unanswered`.
        """
        if entry.host is not None:
            entry.host.health.give_up()
            self._close_if_down(entry.host, now, error)

    def close(self, entry: Entry[T], now: float, seconds: float, error: AioDownloadError) -> None:
        """The host of ``entry`` asks for a wait of ``seconds``, which is too long; the third time in a row that it says
        nothing else, it is believed, and refuses all entries for so long.
        """
        host = entry.host
        if host is not None and host.origin and host.health.send_away(now, seconds):
            self._close(host, now, error)

    def _close_if_down(self, host: Host[T], now: float, error: Callable[[float], AioDownloadError]) -> None:
        if host.origin and host.health.found_down(now):
            self._close(host, now, error(host.health.closed_until - now))

    def _close(self, host: Host[T], now: float, error: AioDownloadError) -> None:
        host.health.error = error
        for entry in host.take_all():
            entry.error = error
            self.refusals.append(entry)
        self._look_at(host, now)

    # Where each host stands.

    def _host(self, origin: str, now: float) -> Host[T]:
        if self._idle and self._idle[0][0] <= now:
            self._forget(now)
        host = self._hosts.get(origin)
        if host is None:
            parts = 1 if self._share is None else self._share.parts_of(origin)
            host = self._hosts[origin] = Host(origin, self.limits if parts == 1 else self.limits.divided(parts))
        host.forget_at = math.inf
        return host

    def _forget(self, now: float) -> None:
        """Let go of hosts that have had nothing to do for long enough."""
        while self._idle and self._idle[0][0] <= now:
            host = heapq.heappop(self._idle)[2]
            host.listed = False
            if host.forget_at <= now:
                host.wake = math.inf
                if self._hosts.get(host.origin) is host:
                    del self._hosts[host.origin]
            elif host.forget_at < math.inf:
                self._list_idle(host)

    def _list_idle(self, host: Host[T]) -> None:
        if not host.listed:
            host.listed = True
            heapq.heappush(self._idle, (host.forget_at, next(self._order), host))

    def _look_at(self, host: Host[T], now: float) -> None:
        """Put ``host`` where it belongs."""
        if not host.in_turn:
            when = host.may_start(now)
            if when is None:
                if host.idle:
                    host.forget_at = host.memory(now)
                    self._list_idle(host)
            elif when <= now:
                self._line.enter(host)
            elif when != host.wake:
                host.wake = when
                if when not in host.times:  # it may stand there from before
                    host.times.add(when)
                    heapq.heappush(self._timed, (when, next(self._order), host))
        self._line.count(host)

    def _start(self, entry: Entry[T], host: Host[T], now: float) -> None:
        entry.slot, entry.since = self._line.take(host, now), now
        entry.asking = True
        self._last_start = now
        host.started(now, entry.spacing)

    def _give_back(self, entry: Entry[T], host: Host[T], now: float) -> None:
        if entry.asking:
            self._heard(entry, host)
        if entry.slot is not None:
            slot, entry.slot = entry.slot, None
            self._line.give_back(slot, now)

    def _heard(self, entry: Entry[T], host: Host[T]) -> None:
        host.asking -= entry.asking
        entry.asking = False
