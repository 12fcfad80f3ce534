"""World: one run over simulated servers, without sockets and without waiting."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from aiodownload import AioDownloadBundle, HostDownError, RequestStrategy, RetryAfterError
from aiodownload.attempt import sleep_time
from aiodownload.request.schedule import Entry, Schedule
from aiodownload.request.strategy import limits_of
from aiodownload.run import FARTHEST, LOOK_AHEAD

from .servers import Answer, Server

__all__ = ["Outcome", "World"]


@dataclass
class Outcome:
    """What came of it.

    :param seconds: simulated, until the last URL had its outcome.
    :param kinds: how many bundles ended how.
    :param answers: how many answers of which kind there were, per host.
    :param finished: when each host had its last good answer.
    :param most_active: requests at once, per host.
    :param good: times of the good answers.
    :param waiting: the most bundles that waited at a time.
    :param hosts: the most hosts that the schedule knew at a time.
    """

    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    most_active: Counter[str] = field(default_factory=Counter)
    good: list[float] = field(default_factory=list)
    waiting: int = 0
    hosts: int = 0
    decisions: int = 0


class World:
    """Drives the real schedule with a clock of its own.

    :param servers: host -> how it behaves.
    :param strategy: how to ask; the real one.
    :param seed: of all chance in it.
    """

    def __init__(self, servers: Mapping[str, Server], strategy: RequestStrategy, seed: int = 1) -> None:
        self.servers = servers
        self.strategy = strategy
        self.chance = random.Random(seed)
        self.schedule: Schedule[AioDownloadBundle] = Schedule(limits_of(strategy))
        self.now = 0.0
        self.outcome = Outcome()
        self._events: list[tuple[float, int, Entry[AioDownloadBundle], Answer]] = []
        self._number = 0
        self._active: Counter[str] = Counter()
        self._ahead = 0
        self._exhausted = False
        self._busy = 0

    def run(self, hosts: Iterable[str], until: float = float("inf")) -> Outcome:
        """Download one URL for each of ``hosts``, in this order."""
        source = iter(hosts)
        self.schedule.expect(1)
        self._read(source)
        while self._ahead and self.now < until:
            self._pump(source)
            if not self._ahead:
                break
            wake = self.schedule.wake_at(self.now)
            event = self._events[0][0] if self._events else float("inf")
            if wake is not None and wake < event:
                # A timer is late by up to a millisecond.
                self.now = min(event, max(self.now, wake + self.chance.random() * 0.001))
            elif self._events:
                self.now, _, entry, answer = heapq.heappop(self._events)
                self._hear(entry, answer)
            else:
                raise AssertionError(f"{self._ahead} bundles wait for ever: {self.schedule!r}")
        self.outcome.seconds = self.now
        return self.outcome

    def _read(self, source: Iterator[str]) -> None:
        """As far ahead as a run reads."""
        concurrent = self.schedule.concurrent
        while True:
            room = LOOK_AHEAD * concurrent - self._ahead
            if room <= 0 and self.schedule.spare:
                room = min(concurrent - self.schedule.active, FARTHEST - self._ahead)
            if room <= 0:
                break
            read = 0
            for host in source:
                bundle = AioDownloadBundle.__new__(AioDownloadBundle)
                bundle.attempts, bundle.info = 0, host
                self._ahead += 1
                self.schedule.add(Entry(bundle, host, sleep_time(self.strategy, bundle)), self.now)
                read += 1
                if read == room:
                    break
            self.outcome.waiting = max(self.outcome.waiting, self._ahead)
            if read < room:
                self._end_of_input()
                break
            if not self.schedule.spare:
                break

    def _end_of_input(self) -> None:
        if not self._exhausted:
            self._exhausted = True
            self.schedule.expect(-1)

    def _pump(self, source: Iterator[str]) -> None:
        while True:
            refused = self.schedule.refused()
            if refused is not None:
                self._settle(refused, type(refused.error).__name__)
                continue
            entry = self.schedule.next(self.now)
            if entry is None:
                before = self._ahead
                self._read(source)
                if self._ahead == before:
                    break
                continue
            self._start(entry)

    def _start(self, entry: Entry[AioDownloadBundle]) -> None:
        host = entry.origin
        entry.item.attempts += 1
        self.outcome.decisions += 1
        self._active[host] += 1
        self.outcome.most_active[host] = max(self.outcome.most_active[host], self._active[host])
        self.outcome.hosts = max(self.outcome.hosts, len(self.schedule._hosts))
        answer = self.servers[host].ask(self.now, self.chance)
        self._number += 1
        heapq.heappush(self._events, (self.now + answer.after, self._number, entry, answer))

    def _hear(self, entry: Entry[AioDownloadBundle], answer: Answer) -> None:
        """What the exchange tells the schedule, and what the attempt makes of it."""
        host, schedule, now = entry.origin, self.schedule, self.now
        self._active[host] -= 1
        self.outcome.answers.setdefault(host, Counter())[answer.kind] += 1
        if answer.kind == "ok":
            schedule.answered(entry, now)
            schedule.release(entry, now)
            self.outcome.good.append(now)
            self.outcome.finished[host] = now
            self._settle(entry, "ok")
            return
        silent = answer.kind == "silence"
        if silent:
            schedule.unanswered(entry, now, _down)
        else:
            told = answer.retry_after if answer.retry_after <= self.strategy.max_retry_after else 0.0
            schedule.answered(entry, now, later=True, told=told > 0)
            if told:
                schedule.leave_alone(entry, now, told=told, wait=0.0)
        if entry.item.attempts >= max(1, self.strategy.max_attempts):
            schedule.release(entry, now)
            if silent:
                schedule.give_up(entry, now, _down)
            self._settle(entry, "failed")
            return
        if answer.retry_after > self.strategy.max_retry_after:
            schedule.close(entry, now, answer.retry_after, RetryAfterError("later"))
            schedule.release(entry, now)
            self._settle(entry, "RetryAfterError")
            return
        wait = sleep_time(self.strategy, entry.item)
        if not silent and not answer.retry_after:
            schedule.leave_alone(entry, now, told=0.0, wait=wait)
        schedule.release(entry, now)
        schedule.add(entry, now, max(wait, answer.retry_after))

    def _settle(self, entry: Entry[AioDownloadBundle], kind: str) -> None:
        self.outcome.kinds[kind] += 1
        self._ahead -= 1


def _down(seconds: float) -> HostDownError:
    return HostDownError(f"down for {seconds} s")


def turns(counts: Mapping[str, int], seed: int = 1) -> list[str]:
    """Each host as often as it has URLs, shuffled."""
    hosts = [host for host, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(hosts)
    return hosts


def zipf(hosts: int, urls: int) -> dict[str, int]:
    """So many URLs over so many hosts: the k-th has a share of 1/k, and each at least one."""
    weight = sum(1 / k for k in range(1, hosts + 1))
    counts = {f"host{k}": max(1, round(urls / k / weight)) for k in range(1, hosts + 1)}
    counts["host1"] += urls - sum(counts.values())
    return counts


def moving(times: Iterable[float], begin: float, end: float) -> float:
    """Events per second in between."""
    recent = deque(time for time in times if begin <= time < end)
    return len(recent) / (end - begin)
