"""Adaptive against made-up servers: the real schedule and the real strategy, with a clock made of numbers."""

from __future__ import annotations

import itertools
import random

import pytest
from simulation.servers import Answer, Bucket, Dead, Plain, Server, Window
from simulation.world import World, moving, turns, zipf

from aiodownload import Adaptive, Polite
from aiodownload.request.adaptive import HostPace
from aiodownload.request.schedule import Entry, Limits, Schedule

pytestmark = pytest.mark.once


@pytest.mark.parametrize("per_second", [20, 100, 500])
@pytest.mark.parametrize("latency", [0.005, 0.02])
def test_it_finds_the_rate_of_a_host_that_counts_in_seconds(per_second: int, latency: float) -> None:
    """85 % of what is allowed over the first 15 s, 92 % after, and no more than 2 % of the answers a 429."""
    outcome = World({"h": Window(per_second, latency)}, Adaptive()).run(itertools.repeat("h"), 60)
    answers = outcome.answers["h"]
    assert moving(outcome.good, 0, 15) >= 0.85 * per_second
    assert moving(outcome.good, 15, 60) >= 0.92 * per_second
    assert answers["later"] <= 0.02 * sum(answers.values())


@pytest.mark.parametrize("per_second", [20, 100, 500])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_it_finds_the_rate_of_a_host_that_has_a_bucket(per_second: int, share: float) -> None:
    """The same for a bucket of a second; a small one takes longer to be understood."""
    server = Bucket(per_second, max(2.0, share * per_second), 0.02)
    outcome = World({"h": server}, Adaptive()).run(itertools.repeat("h"), 60)
    answers = outcome.answers["h"]
    assert moving(outcome.good, 0, 15) >= (0.85 if share == 1 else 0.6) * per_second
    assert moving(outcome.good, 15, 60) >= 0.92 * per_second
    assert answers["later"] <= 0.02 * sum(answers.values())


def test_it_controls_a_rate_and_not_only_a_window() -> None:
    """100 a second at 20 ms are two at once: the rate is kept, though 16 would be allowed."""
    outcome = World({"h": Window(100, 0.02)}, Adaptive(per_host=16)).run(itertools.repeat("h"), 40)
    for at in range(20, 38):
        assert moving(outcome.good, at, at + 1) <= 102


class Hiccups(Plain):
    """Says "later", without a time, to one request in so many."""

    def __init__(self, latency: float, one_in: int) -> None:
        super().__init__(latency)
        self.one_in = one_in
        self.count = 0

    def ask(self, now: float, chance: random.Random) -> Answer:
        self.count += 1
        answer = super().ask(now, chance)
        return Answer(answer.after, "later") if self.count % self.one_in == 0 else answer


def test_a_hiccup_does_not_make_it_collapse() -> None:
    """One 503 in five hundred, and it is as quick as without, within a fifth."""
    smooth = World({"h": Plain(0.05)}, Adaptive()).run(itertools.repeat("h"), 60)
    bumpy = World({"h": Hiccups(0.05, 500)}, Adaptive()).run(itertools.repeat("h"), 60)
    assert len(bumpy.good) >= 0.8 * len(smooth.good)


def test_it_does_not_swing() -> None:
    """Once a limit is found, each second is like the others, but for the probes."""
    outcome = World({"h": Window(100, 0.02)}, Adaptive()).run(itertools.repeat("h"), 60)
    seconds = sorted(moving(outcome.good, at, at + 1) for at in range(10, 60))
    assert seconds[5] >= 85
    assert seconds[-1] <= 105


def test_a_host_that_gets_slow_is_asked_less() -> None:
    """Latency that grows with the load is a sign of too much of it."""

    class Loaded(Plain):
        under_way = 0.0

        def ask(self, now: float, chance: random.Random) -> Answer:
            self.under_way = max(self.under_way, now) + 1 / 50  # it works off fifty a second, one after the other
            return Answer(self.under_way - now + 0.02)

    outcome = World({"h": Loaded(0.02)}, Adaptive()).run(itertools.repeat("h"), 60)
    assert moving(outcome.good, 20, 60) >= 45
    assert outcome.most_active["h"] <= 16


def test_the_limit_that_is_lifted_is_found_out() -> None:
    """A host that allowed 20 a second, and after 20 s bears anything."""

    class Lifted(Window):
        def ask(self, now: float, chance: random.Random) -> Answer:
            if now > 20:
                self.best = 1e9
            return super().ask(now, chance)

    outcome = World({"h": Lifted(20, 0.02)}, Adaptive()).run(itertools.repeat("h"), 150)
    assert moving(outcome.good, 140, 150) >= 150


def test_a_window_that_has_grown_is_used() -> None:
    """As soon as an answer is there, though its body is still coming and nothing else happens."""
    schedule: Schedule[int] = Schedule(Limits(16, pace=lambda: HostPace(16)))
    for number in range(6):
        schedule.add(Entry(number, "h"), 0.0)
    started = [schedule.next(0.0), schedule.next(0.1)]
    assert schedule.next(0.2) is None  # the window is 2
    for entry in started:
        assert entry is not None
        schedule.answered(entry, 0.2)
    assert schedule.startable
    assert schedule.next(1.0) is not None


def test_silence_halves_and_does_not_end_it() -> None:
    """After no answer the window and the rate are smaller, and they grow again."""
    pace = HostPace(16)
    now = 0.0
    for _ in range(400):
        pace.started(now)
        pace.answered(now, now + 0.02)
        now += max(0.02, pace.next_start - now)
    before = (pace.per_second, pace.window)
    pace.failed(now, now + 1)
    assert pace.per_second < before[0]
    assert pace.window < before[1]
    pace.failed(now, now + 1)  # it was under way with the other
    assert pace.window >= 0.7 * before[1] - 1
    assert "at once" in repr(pace)


@pytest.mark.parametrize("strategy", [Polite(robots=False), Adaptive(concurrent=256)])
def test_dead_and_slow_hosts_hold_up_nobody(strategy: Polite) -> None:
    """A tenth of 300 hosts refuses, a tenth takes 2 s: the others take at most 1.4 times as long as alone."""
    servers: dict[str, Server] = {
        f"h{n}": Dead(0.001) if n % 10 == 0 else Plain(2.0) if n % 10 == 5 else Plain(0.05) for n in range(300)
    }
    quick = [host for host, server in servers.items() if getattr(server, "latency", 0) == 0.05]
    times = []
    for hosts in (list(servers), quick):
        outcome = World(servers, strategy).run(turns(dict.fromkeys(hosts, 20)))
        times.append(max(outcome.finished[host] for host in quick))
    assert times[0] <= 1.4 * times[1]


def test_a_long_run_of_one_host_starves_nobody() -> None:
    """5,000 URLs of a host that allows 5 a second stand first in the input: the others need not wait for them."""
    servers: dict[str, Server] = {"slow": Window(5, 0.02), **{f"h{n}": Plain(0.02) for n in range(50)}}
    order = ["slow"] * 5000 + turns({f"h{n}": 10 for n in range(50)})
    outcome = World(servers, Adaptive()).run(order, 200)
    assert max(outcome.finished[f"h{n}"] for n in range(50)) < 10


def test_no_limit_is_passed_in_a_mixed_world() -> None:
    """Twenty thousand URLs on two hundred hosts of all kinds: all that can be served are, and never more at once."""
    chance = random.Random(1)
    servers: dict[str, Server] = {}
    for number in range(1, 201):
        kind = chance.random()
        servers[f"host{number}"] = (
            Plain(0.1) if kind < 0.6 else Window(50, 0.05) if kind < 0.9 else Dead(0.001) if kind < 0.95 else Plain(2)
        )
    counts = zipf(200, 20_000)
    outcome = World(servers, Adaptive()).run(turns(counts))
    dead = sum(count for host, count in counts.items() if isinstance(servers[host], Dead))
    assert outcome.kinds["ok"] == 20_000 - dead
    assert max(outcome.most_active.values()) <= 16
    assert outcome.waiting <= 10_000
