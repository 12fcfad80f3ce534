"""Who may go now: a queue per host and all limits in one place, synchronous, with the time as an argument."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import AioDownloadError
from .hosts import Entry, Host, Limits, Slot

__all__ = ["Entry", "Limits", "Schedule"]

T = TypeVar("T")

LATE = 1.0  # seconds after which a request counts as one that takes long
MOST = 0.75  # of the slots, for hosts whose requests take long, while others have something to do


class Schedule(Generic[T]):
    """Entries that wait for their hosts, and the limits that hold them back.

    Each host has a queue: first come, first served, and those that wait for a retry come back when it is due.  Hosts
    that may go now stand in line and have one start each in turn; one that must wait for a point in time stands in a
    heap, and one that waits for an answer in neither.  So a decision costs the same however many entries wait, and
    the logarithm of the number of hosts that wait for their time.

    A host whose requests take more than a second (it is slow, or dead, or its files are large) shares three quarters
    of the slots with others like it while quick ones have something to do: they cannot take all.

    ``now`` is any clock that does not run backwards, in seconds.

    :param limits: what holds requests back.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.concurrent = limits.concurrent
        self.active = 0
        self._hosts: dict[str, Host[T]] = {}
        self._line: deque[Host[T]] = deque()  # the hosts that may go now
        self._aside: deque[Host[T]] = deque()  # of those, the ones that must let quicker ones pass
        self._timed: list[tuple[float, int, Host[T]]] = []
        self._idle: list[tuple[float, int, Host[T]]] = []
        self._order = itertools.count()
        self._last_start = float("-inf")
        self._young: deque[tuple[float, Slot]] = deque()  # without the entries, which may be gone by then
        self._long_active = 0
        self._quick = 0  # hosts that are quick and have something ready
        self._room = max(1, int(limits.concurrent * MOST))
        self._refused: deque[Entry[T]] = deque()

    def __repr__(self) -> str:
        return f"<Schedule active={self.active}/{self.concurrent} hosts={len(self._hosts)} in line={len(self._line)}>"

    @property
    def free(self) -> bool:
        """Whether a slot is free."""
        return self.active < self.concurrent

    @property
    def held_back(self) -> bool:
        """Whether a slot is free, and no entry that waits may have it, each for its own host's sake."""
        return self.active < self.concurrent and not self._line

    def add(self, entry: Entry[T], now: float, delay: float = 0.0) -> None:
        """Put ``entry`` in: ready at once, or no earlier than ``delay`` seconds from ``now``."""
        host = self._host(entry.origin, now)
        entry.host = host
        entry.gone = False
        if self._closed(host, now):
            entry.error = host.error
            self._refused.append(entry)
            self._look_at(host, now)
            return
        if delay > 0:
            heapq.heappush(host.later, (now + delay, next(self._order), entry))
        else:
            host.put(entry)
        self._look_at(host, now)

    def next(self, now: float) -> Entry[T] | None:
        """Return the entry that may start now, which takes a slot and marks a request start, or None."""
        while self._timed and self._timed[0][0] <= now:
            when, _, host = heapq.heappop(self._timed)
            if host.wake == when:
                host.wake = math.inf
                self._look_at(host, now)
        if self.active >= self.concurrent:
            return None
        self._age(now)
        line = self._line
        while line or self._bring_back():
            host = line[0]
            when_ = host.may_start(now)
            if when_ is None or when_ > now:
                self._step_out(host)
                self._look_at(host, now)
                continue
            if host.long and self._long_active >= self._room and self._quick:
                line.popleft()
                self._aside.append(host)
                continue
            entry = host.first()
            if now < self._last_start + entry.spacing and not self.limits.spaced_per_host:
                return None
            host.take()
            self._step_out(host)
            self._start(entry, host, now)
            self._look_at(host, now)
            return entry
        return None

    def refused(self) -> Entry[T] | None:
        """Return an entry whose host is not asked for now (``entry.error`` says why), or None."""
        while self._refused:
            entry = self._refused.popleft()
            if not entry.gone:
                return entry
        return None

    def wake_at(self, now: float) -> float | None:
        """Return when ``next`` may have an entry although nothing else happens, or None if never."""
        if self._refused:
            return now
        if self.active >= self.concurrent:
            return None
        if self._line:
            host = self._line[0]
            spacing = host.first().spacing if host.ready and not self.limits.spaced_per_host else 0.0
            return max(now, self._last_start + spacing)
        while self._timed and self._timed[0][2].wake != self._timed[0][0]:
            heapq.heappop(self._timed)
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
        if self._closed(host, now):
            entry.error = host.error
            self._refused.append(entry)
            granted = False
        elif (
            self.active < self.concurrent
            and host.active < host.limit
            and host.next_start(entry.spacing) <= now
            and (self.limits.spaced_per_host or now >= self._last_start + entry.spacing)
        ):
            self._start(entry, host, now)
            granted = True
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
        return 0.0 if host is None else max(0.0, host.alone_until - now, host.closed_until - now)

    def withdraw(self, entry: Entry[T]) -> None:
        """Forget an entry that waits."""
        entry.gone = True

    def discard(self, unwanted: Callable[[T], bool]) -> None:
        """Forget every entry that waits to be started and whose item is ``unwanted``."""
        for host in self._hosts.values():
            host.discard(lambda entry: entry.resume is None and unwanted(entry.item))
            self._count(host)
        self._refused = deque(entry for entry in self._refused if entry.resume is not None or not unwanted(entry.item))

    # What is heard of the hosts.

    def answered(self, entry: Entry[T], now: float, *, later: bool = False, told: bool = False) -> None:
        """A request of ``entry`` has its answer.

        :param later: whether it says that the host has too much to do.
        :param told: whether it says until when.
        """
        host = entry.host
        if host is not None:
            self._heard(entry, host)
            suspect = host.silent
            host.answered(entry.since, now, later, told)
            if suspect:
                self._open(host)
                self._look_at(host, now)

    def unanswered(self, entry: Entry[T], now: float) -> None:
        """A request of ``entry`` got no answer at all."""
        if entry.host is not None:
            self._heard(entry, entry.host)
            entry.host.unanswered(entry.since, now)

    def leave_alone(self, entry: Entry[T], now: float, *, told: float, wait: float) -> None:
        """The host of ``entry`` asks to be left alone, all its entries wait; see :meth:`Host.leave_alone`."""
        if entry.host is not None:
            entry.host.leave_alone(entry.since, now, told, wait)

    def allow(self, entry: Entry[T], now: float, remaining: int, seconds: float) -> None:
        """The host of ``entry`` allows so many more requests in the next seconds."""
        if entry.host is not None:
            entry.host.allow(remaining, seconds, now)
            self._look_at(entry.host, now)

    def slow_down(self, entry: Entry[T], delay: float) -> None:
        """Let at least ``delay`` seconds lie between the starts for the host of ``entry``, as its robots.txt asks."""
        if entry.host is not None:
            entry.host.delay = delay

    def give_up(self, entry: Entry[T], now: float, error: Callable[[float], AioDownloadError]) -> None:
        """The bundle of ``entry`` has failed without an answer.  After a few of them their host is closed for a while.

        :param error: makes the reason why the others fail, of the seconds until the next probe.
        """
        host = entry.host
        if host is not None and host.origin and host.give_up(now):
            self._close(host, now, error(host.closed_until - now))

    def close(self, entry: Entry[T], now: float, seconds: float, error: AioDownloadError) -> None:
        """The host of ``entry`` asks for a wait of ``seconds``, which is too long; the third time in a row that it says
        nothing else, it is believed, and refuses all entries for so long.
        """
        host = entry.host
        if host is not None and host.origin and host.send_away(now, seconds):
            self._close(host, now, error)

    def _close(self, host: Host[T], now: float, error: AioDownloadError) -> None:
        host.error = error
        for entry in host.take_all():
            entry.error = error
            self._refused.append(entry)
        self._look_at(host, now)

    def _open(self, host: Host[T]) -> None:
        host.error = None
        host.closed_until = float("-inf")

    def _closed(self, host: Host[T], now: float) -> bool:
        if host.error is None:
            return False
        if now < host.closed_until:
            return True
        host.error = None  # one that does not answer gets one entry at a time
        return False

    # Where each host stands.

    def _host(self, origin: str, now: float) -> Host[T]:
        if self._idle and self._idle[0][0] <= now:
            self._forget(now)
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = Host(origin, self.limits)
        host.forget_at = math.inf
        return host

    def _forget(self, now: float) -> None:
        """Let go of hosts that have had nothing to do for long enough."""
        while self._idle and self._idle[0][0] <= now:
            host = heapq.heappop(self._idle)[2]
            host.listed = False
            if host.forget_at <= now:
                self._hosts.pop(host.origin, None)
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
                host.in_turn = True
                self._line.append(host)
            elif when != host.wake:
                host.wake = when
                heapq.heappush(self._timed, (when, next(self._order), host))
        self._count(host)

    def _step_out(self, host: Host[T]) -> None:
        self._line.popleft()
        host.in_turn = False

    def _bring_back(self) -> bool:
        """Let one of those that stepped aside stand in line again, if there is room for it."""
        if not self._aside or (self._long_active >= self._room and self._quick):
            return False
        self._line.append(self._aside.popleft())
        return True

    def _count(self, host: Host[T]) -> None:
        """Keep count of the hosts that are quick and have something ready."""
        counts = host.ready and not host.long
        if counts != host.counted:
            host.counted = counts
            self._quick += 1 if counts else -1

    def _start(self, entry: Entry[T], host: Host[T], now: float) -> None:
        entry.slot, entry.since = Slot(host), now
        entry.asking = entry.tried = True
        self.active += 1
        self._long_active += host.long
        self._last_start = now
        host.started(now, entry.spacing)
        self._young.append((now, entry.slot))

    def _give_back(self, entry: Entry[T], host: Host[T], now: float) -> None:
        self._heard(entry, host)
        self.active -= 1
        host.active -= 1
        self._long_active -= host.long
        if entry.slot is not None:
            host.late -= entry.slot.late
            entry.slot.held = False
            entry.slot = None
        self._set_long(host, host.late > 0 or now - entry.since >= LATE)

    def _heard(self, entry: Entry[T], host: Host[T]) -> None:
        host.asking -= entry.asking
        entry.asking = False

    def _age(self, now: float) -> None:
        """Notice which requests have begun to take long."""
        young = self._young
        while young and young[0][0] <= now - LATE:
            slot = young.popleft()[1]
            if slot.held:
                slot.late = True
                slot.host.late += 1
                self._set_long(slot.host, True)

    def _set_long(self, host: Host[T], long: bool) -> None:
        if long != host.long:
            host.long = long
            self._long_active += host.active if long else -host.active
            self._count(host)
