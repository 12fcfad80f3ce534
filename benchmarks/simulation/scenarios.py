"""Scenarios: what is asked of the schedule, each with the figures that answer it."""

from __future__ import annotations

import itertools
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from aiodownload import Adaptive, Polite
from aiodownload.request.schedule import Entry, Limits, Schedule

from .servers import Bucket, Dead, Flapping, Plain, Server, Window
from .world import World, moving, turns, zipf

__all__ = ["decisions", "hiccup", "mixed", "neighbours", "rates"]


def resident() -> float:
    """MiB that this process has in memory at present."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def rates(seconds: float = 60) -> list[dict[str, Any]]:
    """One host that admits so many requests a second, of each kind, at several latencies."""
    found = []
    for per_second in (20, 100, 500):
        for latency in (0.005, 0.02, 0.1):
            if per_second * latency > 0.7 * 16:  # 16 at once would not do
                continue
            for kind, server in (
                ("in any second", Window(per_second, latency)),
                ("bucket of a second", Bucket(per_second, per_second, latency)),
                ("bucket of a tenth", Bucket(per_second, max(2.0, per_second / 10), latency)),
            ):
                outcome = World({"host": server}, Adaptive()).run(itertools.repeat("host"), seconds)
                answers = outcome.answers["host"]
                found.append(
                    {
                        "per_second": per_second,
                        "kind": kind,
                        "latency": latency,
                        "first": moving(outcome.good, 0, 15) / per_second,
                        "after": moving(outcome.good, 15, seconds) / per_second,
                        "later": answers["later"] / sum(answers.values()),
                        "curve": [moving(outcome.good, at, at + 1) for at in range(int(seconds))],
                    }
                )
    return found


def hiccup(seconds: int = 60) -> dict[str, Any]:
    """A quick host that says "later" once, after ten seconds, and nothing after that."""

    class Once(Plain):
        said = False

        def ask(self, now: float, chance: random.Random) -> Any:
            answer = super().ask(now, chance)
            if now >= 10 and not self.said:
                self.said = True
                return type(answer)(answer.after, "later", 0.0)
            return answer

    with_it = World({"host": Once(0.05)}, Adaptive()).run(itertools.repeat("host"), seconds)
    without = World({"host": Plain(0.05)}, Adaptive()).run(itertools.repeat("host"), seconds)
    curves = [[moving(one.good, at, at + 1) for at in range(seconds)] for one in (with_it, without)]
    return {"curves": curves, "kept": sum(curves[0][11:]) / sum(curves[1][11:])}


def neighbours(hosts: int = 1000, each: int = 20) -> list[dict[str, Any]]:
    """A tenth of the hosts is dead and a tenth slow: how long do the others take, beside them and alone?"""
    found = []
    for strategy, name in (
        (Polite(robots=False), "Polite"),
        (Adaptive(), "Adaptive"),
        (Adaptive(concurrent=256), "Adaptive, 256 at once"),
    ):
        for latency, dead, words in ((0.005, 0.001, "refuse"), (0.05, 0.001, "refuse"), (0.05, 60.0, "say nothing")):
            servers: dict[str, Server] = {}
            for number in range(hosts):
                kind = number % 10
                servers[f"host{number}"] = Dead(dead) if kind == 0 else Plain(2.0) if kind == 5 else Plain(latency)
            quick = [host for host, server in servers.items() if getattr(server, "latency", 0) == latency]
            times = []
            for chosen in (list(servers), quick):
                outcome = World(servers, strategy).run(turns(dict.fromkeys(chosen, each)))
                times.append(max(outcome.finished[host] for host in quick))
            found.append(
                {
                    "strategy": name,
                    "latency": latency,
                    "dead": words,
                    "beside": times[0],
                    "alone": times[1],
                    "ratio": times[0] / times[1],
                }
            )
    return found


def mixed(hosts: int = 10_000, urls: int = 1_000_000, concurrent: int = 512, seed: int = 5) -> dict[str, Any]:
    """A million URLs over ten thousand hosts of all kinds, the k-th most popular with a share of 1/k."""
    chance = random.Random(seed)
    counts = zipf(hosts, urls)
    servers = {host: _some_server(chance) for host in counts}
    strategy = Adaptive(concurrent=concurrent)
    world = World(servers, strategy, seed)
    memory: list[tuple[int, float]] = []

    def source() -> Iterator[str]:
        for number, host in enumerate(turns(counts, seed)):
            if number % (urls // 100) == 0:
                memory.append((number, resident()))
            yield host

    began = time.perf_counter()
    outcome = world.run(source())
    took = time.perf_counter() - began
    per_host = strategy.per_host or concurrent
    bounds = {host: _least_seconds(servers[host], count, per_host) for host, count in counts.items()}
    slots = sum(count * getattr(servers[host], "latency", 0.0) for host, count in counts.items()) / concurrent
    alive = [host for host, bound in bounds.items() if bound > 0]
    last = max(outcome.finished.get(host, 0.0) for host in alive)
    answers: Counter[str] = sum(outcome.answers.values(), Counter())
    limited = [host for host in counts if isinstance(servers[host], (Window, Bucket))]
    later = sum(outcome.answers.get(host, Counter())["later"] for host in limited)
    asked = sum(sum(outcome.answers.get(host, Counter()).values()) for host in limited)
    return {
        "hosts": hosts,
        "urls": urls,
        "concurrent": concurrent,
        "wall": took,
        "decisions": outcome.decisions,
        "per_decision": took / outcome.decisions,
        "memory": memory,
        "seconds": last,
        "best": max(max(bounds.values()), slots),
        "binding": max(bounds, key=lambda host: bounds[host]),
        "throughput": max(max(bounds.values()), slots) / last,
        "most_active": max(outcome.most_active.values()),
        "per_host": per_host,
        "kinds": dict(outcome.kinds),
        "answers": dict(answers),
        "later": later / max(1, asked),
        "waiting": outcome.waiting,
        "known": outcome.hosts,
        "unserved": sum(1 for host in alive if host not in outcome.finished),
    }


def _some_server(chance: random.Random) -> Server:
    kind = chance.random()
    if kind < 0.5:
        return Plain(0.05 + 0.2 * chance.random())
    if kind < 0.7:
        return Window(chance.choice((20.0, 50.0, 100.0)), 0.05)
    if kind < 0.8:
        return Bucket(chance.choice((20.0, 50.0, 100.0)), 20.0, 0.05)
    if kind < 0.9:
        return Plain(1 + 2 * chance.random())
    if kind < 0.95:
        return Dead(chance.choice((0.001, 60.0)))
    return Flapping(300.0, 30.0)


def _least_seconds(server: Server, count: int, per_host: int) -> float:
    """In which time the limits of one host allow all its URLs; 0 for one that never answers."""
    if isinstance(server, Dead):
        return 0.0
    latency = getattr(server, "latency", 0.0)
    rate = min(server.best, per_host / latency)
    up = server.up / (server.up + server.down) if isinstance(server, Flapping) else 1.0
    return count / rate / up


def decisions() -> list[dict[str, float]]:
    """Seconds for one decision (put in, choose, give back), with so many bundles waiting for so many hosts."""
    found = []
    for waiting, hosts in ((1_000, 10), (10_000, 100), (100_000, 10_000), (1_000_000, 10_000), (1_000_000, 100_000)):
        schedule: Schedule[int] = Schedule(Limits(64, per_host=2, rate=1.0))
        before = resident()
        for number in range(waiting):
            schedule.add(Entry(number, f"host{number % hosts}"), 0.0)
        filled = resident() - before
        now, steps = 0.0, 20_000
        began = time.perf_counter()
        for step in range(steps):
            now += 1 / hosts
            entry = schedule.next(now)
            if entry is not None:
                schedule.answered(entry, now)
                schedule.release(entry, now)
                schedule.add(Entry(step, entry.origin), now)
        took = (time.perf_counter() - began) / steps
        found.append({"waiting": waiting, "hosts": hosts, "seconds": took, "bytes": filled * 2**20 / waiting})
        del schedule
    return found
