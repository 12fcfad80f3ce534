"""Stock: the bundles that wait to be sent out, by host, and which of them may go now; ``now`` is an argument."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..request.memory import Memory

if TYPE_CHECKING:
    from ..tries import Job

__all__ = ["BUNDLES", "Errand", "Stock"]

BUNDLES = 256  # in one shard, at first
SOON = 0.25  # seconds: for what is due so soon a worker may wait
SMALLER = 3  # powers of two by which a shard is smaller each time that one with its bundles was lost


class Errand:
    """A bundle of the run that somebody else is to fetch.

    :param job: its place in the run.
    :param origin: its host.
    :param spacing: seconds between request starts that the strategy asks for.
    """

    __slots__ = ("cuts", "due", "gone", "job", "losses", "origin", "spacing", "tries")

    def __init__(self, job: Job, origin: str, spacing: float) -> None:
        self.job = job
        self.origin = origin
        self.spacing = spacing
        self.due = 0.0
        self.tries = 0
        self.losses = 0  # workers that were lost with it
        self.cuts = 0  # tries that were cut off, and that nothing is left of
        self.gone = False


class _Host:
    """What is known of one host, and who waits for it."""

    __slots__ = ("again", "fresh", "later", "memory", "opens", "origin", "out", "parts", "wake")

    def __init__(self, origin: str, parts: int) -> None:
        self.origin = origin
        self.parts = parts  # shards that it may be in at once
        self.again: deque[Errand] = deque()
        self.fresh: deque[Errand] = deque()
        self.later: list[tuple[float, int, Errand]] = []
        self.out = 0  # shards that it is in
        self.opens = 0.0  # before that it is not to be asked
        self.memory: tuple[float, Memory] | None = None  # and when it was told
        self.wake = 0.0  # when it is to be looked at again

    @property
    def takers(self) -> int:
        """How many shards could have something of it now."""
        return min(self.parts - self.out, len(self.again) + len(self.fresh))

    def portion(self) -> int:
        """How much of it one of them is to have, so that there is something for the others."""
        return -(-(len(self.again) + len(self.fresh)) // max(1, self.takers))

    def first(self) -> Errand | None:
        """The errand that is next; those that were sent out before go before the others."""
        for queue in (self.again, self.fresh):
            while queue and queue[0].gone:
                queue.popleft()
            if queue:
                return queue[0]
        return None

    def take(self) -> Errand:
        """Take it out; :meth:`first` has told that there is one."""
        return (self.again or self.fresh).popleft()


class Stock:
    """Queues of errands, one for each host.

    A host that is in a shard is out until :meth:`back`: so no two workers ever ask it for bundles of its own.  One that
    is split may be in several, among which its limits are divided.

    :param split: hosts that are.
    :param parts: how many shards may have one of these at once (int >= 1).

    ``bundles`` is how many a shard may have.
    """

    def __init__(self, split: frozenset[str] = frozenset(), parts: int = 1) -> None:
        self.split = split if parts > 1 else frozenset()
        self.parts = parts
        self._hosts: dict[str, _Host] = {}
        self._line: OrderedDict[str, _Host] = OrderedDict()  # those of which something may go now
        self._timed: list[tuple[float, int, _Host]] = []
        self._old: list[tuple[float, str]] = []  # when what is remembered of hosts is out of date
        self._paused: dict[str, float] = {}  # hosts that want to be left alone, and until when
        self._order = itertools.count()
        self.bundles = BUNDLES

    def __len__(self) -> int:
        """Hosts of which something may go now."""
        return len(self._line)

    @property
    def takers(self) -> int:
        """How many shards could have something of these hosts."""
        split = (self._line[origin] for origin in self.split if origin in self._line)
        return len(self._line) + sum(max(0, host.takers - 1) for host in split)

    def add(self, errand: Errand, now: float) -> None:
        """Take it in; it may go as soon as it is due."""
        host = self._host(errand.origin)
        if errand.due > now + SOON:
            heapq.heappush(host.later, (errand.due, next(self._order), errand))
        elif errand.losses or errand.tries:
            host.again.append(errand)
        else:
            host.fresh.append(errand)
        self._look_at(host, now)

    def discard(self) -> None:
        """Forget all that waits."""
        for host in self._hosts.values():
            host.again.clear()
            host.fresh.clear()
            host.later.clear()
        self._line.clear()

    def cut(self, shards: int, now: float) -> list[Errand]:
        """Take out a shard: errands of its part of the hosts, evenly, which are out then.

        Those with which a worker was lost go in smaller ones: so whoever it was finds himself alone in the end.

        :param shards: among how many the hosts are divided.
        """
        self.wake(now)
        taken: list[Errand] = []
        hosts: deque[tuple[_Host, int]] = deque()  # and how much more of it there may be
        most, count = self.bundles, -(-self.takers // shards)
        each = max(1, most // max(1, count))
        while self._line and len(taken) < most and len(hosts) < count:
            host = next(iter(self._line.values()))
            first = host.first()
            if first is None or (taken and first.losses != taken[0].losses):
                if first is not None:
                    break
                del self._line[host.origin]
                continue
            most = min(most, max(1, BUNDLES >> SMALLER * first.losses))
            del self._line[host.origin]
            portion = host.portion()
            host.out += 1
            hosts.append((host, portion - self._take(host, min(each, portion, most - len(taken)), taken)))
        chosen = [host for host, _ in hosts]
        while hosts and len(taken) < most:
            host, portion = hosts.popleft()
            if portion > 0 and self._take(host, 1, taken):
                hosts.append((host, portion - 1))
        for host in chosen:
            self._look_at(host, now)
        return taken

    def _take(self, host: _Host, count: int, taken: list[Errand]) -> int:
        before = len(taken)
        while len(taken) - before < count and (first := host.first()) is not None:
            if taken and first.losses != taken[0].losses:
                break
            taken.append(host.take())
        return len(taken) - before

    def back(self, origins: Iterable[str], memories: dict[str, Memory], now: float) -> None:
        """A shard is over.

        :param origins: its hosts.
        :param memories: what is known of them now, and of others, told from ``now``.
        """
        for origin, memory in memories.items():
            if memory.paused > 0:
                self._paused[origin] = max(self._paused.get(origin, 0.0), now + memory.paused)
        for origin in origins:
            host = self._host(origin)
            host.out -= 1
            self._know(host, memories.get(origin), now)
        for origin in memories.keys() - set(origins):
            known = self._hosts.get(origin)
            if known is None or (not known.out and known.memory is None):
                self._know(known or self._host(origin), memories[origin], now)
            elif memories[origin].paused > 0 and known.out < known.parts:
                known.opens = max(known.opens, now + memories[origin].paused)
                self._look_at(known, now)

    def lost(self, origins: Iterable[str], now: float, rest: float) -> None:
        """A shard comes back no more: what was known of its hosts is still all that is known.

        :param rest: seconds for which they are left alone.
        """
        for origin in origins:
            host = self._host(origin)
            host.out -= 1
            host.opens = max(host.opens, now + rest)
            heapq.heappush(self._old, (_until(host), host.origin))
            self._look_at(host, now)

    def _know(self, host: _Host, memory: Memory | None, now: float) -> None:
        opens = now
        if host.parts > 1:  # others that had a part of it may have heard of a pause, or were lost
            opens = max(now, host.opens)
            memory = _both(memory, host.memory, now)
        host.memory = None if memory is None else (now, memory)
        host.opens = opens if memory is None else max(opens, now + memory.opens)
        heapq.heappush(self._old, (_until(host), host.origin))
        self._look_at(host, now)

    def memories(self, origins: frozenset[str], now: float) -> dict[str, Memory]:
        """What is known of ``origins``, and of others that want to be left alone; told from ``now``."""
        self._paused = {origin: until for origin, until in self._paused.items() if until > now}
        told = {}
        for origin in (*origins, *(self._paused.keys() - origins)):
            host = self._hosts.get(origin)
            if host is not None and host.memory is not None:
                when, memory = host.memory
                told[origin] = memory.later(now - when)
        return told

    def wake(self, now: float) -> None:
        """Look at the hosts whose time has come; forget those of which nothing has to be remembered."""
        while self._timed and self._timed[0][0] <= now:
            when, _, host = heapq.heappop(self._timed)
            if host.wake == when:
                host.wake = 0.0
                self._look_at(host, now)
        while self._old and self._old[0][0] <= now:
            _, origin = heapq.heappop(self._old)
            known = self._hosts.get(origin)
            if known is not None and not known.out and not known.first() and not known.later and _until(known) <= now:
                del self._hosts[origin]

    def wake_at(self) -> float | None:
        """When :meth:`wake` has something to do, or None."""
        while self._timed and self._timed[0][2].wake != self._timed[0][0]:
            heapq.heappop(self._timed)
        return self._timed[0][0] if self._timed else None

    def _host(self, origin: str) -> _Host:
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _Host(origin, self.parts if origin in self.split else 1)
        return host

    def _look_at(self, host: _Host, now: float) -> None:
        """Put ``host`` where it belongs."""
        while host.later and host.later[0][0] <= now + SOON:
            host.again.append(heapq.heappop(host.later)[2])
        if host.out >= host.parts:
            return
        waits = host.first() is not None
        if waits and host.opens <= now + SOON:
            self._line.setdefault(host.origin, host)
            return
        self._line.pop(host.origin, None)
        when = host.opens if waits else host.later[0][0] - SOON if host.later else None
        if when is None:
            if host.memory is None:
                heapq.heappush(self._old, (host.opens, host.origin))
        elif when != host.wake:
            host.wake = when
            heapq.heappush(self._timed, (when, next(self._order), host))


def _both(memory: Memory | None, known: tuple[float, Memory] | None, now: float) -> Memory | None:
    """What two shards know of one host."""
    former = None if known is None else known[1].later(now - known[0])
    if former is None or former.until <= 0:
        return memory
    return former if memory is None else memory.heeding(former)


def _until(host: _Host) -> float:
    """As long as it is to be remembered."""
    return host.opens if host.memory is None else max(host.opens, host.memory[0] + host.memory[1].until)
