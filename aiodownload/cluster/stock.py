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

    __slots__ = ("again", "fresh", "later", "memory", "opens", "origin", "out", "wake")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.again: deque[Errand] = deque()
        self.fresh: deque[Errand] = deque()
        self.later: list[tuple[float, int, Errand]] = []
        self.out = False  # whether it is in a shard
        self.opens = 0.0  # before that it is not to be asked
        self.memory: tuple[float, Memory] | None = None  # and when it was told
        self.wake = 0.0  # when it is to be looked at again

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

    A host that is in a shard is out until :meth:`back`: so no two workers ever ask it for bundles of its own.  To let
    a host be in several shards at once, its limits would have to be divided, as those of strangers are.

    ``bundles`` is how many a shard may have.
    """

    def __init__(self) -> None:
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
        hosts: deque[_Host] = deque()
        most, count = self.bundles, -(-len(self._line) // shards)
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
            host.out = True
            hosts.append(host)
            self._take(host, min(each, most - len(taken)), taken)
        while hosts and len(taken) < most:
            host = hosts.popleft()
            if self._take(host, 1, taken):
                hosts.append(host)
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
            host.out = False
            self._know(host, memories.get(origin), now)
        for origin in memories.keys() - set(origins):
            known = self._hosts.get(origin)
            if known is None or (not known.out and known.memory is None):
                self._know(known or self._host(origin), memories[origin], now)
            elif memories[origin].paused > 0 and not known.out:
                known.opens = max(known.opens, now + memories[origin].paused)
                self._look_at(known, now)

    def lost(self, origins: Iterable[str], now: float, rest: float) -> None:
        """A shard comes back no more: what was known of its hosts is still all that is known.

        :param rest: seconds for which they are left alone.
        """
        for origin in origins:
            host = self._host(origin)
            host.out = False
            host.opens = max(host.opens, now + rest)
            self._look_at(host, now)

    def _know(self, host: _Host, memory: Memory | None, now: float) -> None:
        host.memory = None if memory is None else (now, memory)
        host.opens = now if memory is None else now + max(0.0, memory.opens)
        if memory is not None:
            heapq.heappush(self._old, (now + max(memory.until, 0.0), host.origin))
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
            if known is not None and not known.out and not known.first() and not known.later and _is_old(known, now):
                del self._hosts[origin]

    def wake_at(self) -> float | None:
        """When :meth:`wake` has something to do, or None."""
        while self._timed and self._timed[0][2].wake != self._timed[0][0]:
            heapq.heappop(self._timed)
        return self._timed[0][0] if self._timed else None

    def _host(self, origin: str) -> _Host:
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _Host(origin)
        return host

    def _look_at(self, host: _Host, now: float) -> None:
        """Put ``host`` where it belongs."""
        while host.later and host.later[0][0] <= now + SOON:
            host.again.append(heapq.heappop(host.later)[2])
        if host.out:
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


def _is_old(host: _Host, now: float) -> bool:
    until = host.opens if host.memory is None else host.memory[0] + max(host.memory[1].until, 0.0)
    return max(until, host.opens) <= now
