"""A host in several shards at once: the servers' logs say that its limits hold, and that its workers share the work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from cluster_work import Steady
from test_losses import kill_when, workers

import aiodownload
from aiodownload import Adaptive, AioDownload, Polite
from aiodownload.cluster import ledger
from aiodownload.testing import FaultServer, ok, status

Make = Callable[..., AioDownload]
Start = Callable[[int], list[FaultServer]]


def origin(server: FaultServer) -> str:
    return server.url("").rstrip("/")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that last for a fifth of a second, so that much goes from one to the next."""
    for name in ("SECONDS", "SPLIT"):
        monkeypatch.setattr(ledger, name, 0.2)
    monkeypatch.setattr(ledger, "LONGEST", 0.4)


def test_both_workers_ask_it(executor: Executor, server: FaultServer, steady: Make, count: Any) -> None:
    """Each has two of its four requests, never more; without ``split_hosts`` it would be four of one worker."""
    server.default = count.script(0.05, b"x" * 100)
    urls = [server.url(f"/{number}") for number in range(120)]
    seen: list[int] = []
    request = Steady(per_host=5, split_hosts=[origin(server)])
    for bundle in aiodownload.each(urls, None, steady(request), executor=executor):
        assert bundle.ok
        assert Path(bundle.file_path or "").read_bytes() == b"x" * 100
        seen.append(server.most_active)
    assert len(seen) == len(server.requests) == 120
    assert server.most_active == 4  # two for each: the fifth is nobody's


@pytest.mark.parametrize(("per_host", "most"), [(1, 1), (2, 2), (3, 3), (None, 8)])
def test_more_workers_than_requests(
    threads: Executor, server: FaultServer, steady: Make, count: Any, per_host: int | None, most: int
) -> None:
    """No more of them have it than may ask it; without ``per_host`` it has the slots of all."""
    server.default = count.script(0.03)
    urls = [server.url(f"/{number}") for number in range(60)]
    request = Steady(per_host=per_host, split_hosts={origin(server)})
    found = aiodownload.swarm(urls, steady(request), executor=threads, workers=5)
    assert all(bundle.ok for bundle in found)
    assert len(server.requests) == 60
    assert min(2, most) <= server.most_active <= most


def test_rate(executor: Executor, server: FaultServer, steady: Make) -> None:
    """The starts of both together are as far apart as was set, and one of them alone would take twice as long."""
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(50)]
    request = Steady(per_host=4, rate=20, split_hosts=(origin(server),))
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, steady(request), executor=executor))
    times = sorted(one.at for one in server.requests)
    # One of each may come at the same time; what is noted late is no reason for the next to come sooner.
    assert all(at - times[0] >= (number - 1) / 20 - 0.1 for number, at in enumerate(times))
    assert times[-1] - times[0] < 0.8 * 49 / 10


def test_spacing(threads: Executor, server: FaultServer, steady: Make) -> None:
    """What a strategy asks to lie between two starts for a host lies between them on average."""
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(24)]
    request = Polite(delay=0.1, per_host=4, robots=False, split_hosts=[origin(server)])
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, steady(request), executor=threads))
    times = sorted(one.at for one in server.requests)
    assert all(at - times[0] >= (number - 1) * 0.1 - 0.1 for number, at in enumerate(times))


def test_bandwidth_of_the_host(threads: Executor, server: FaultServer, steady: Make) -> None:
    """Two workers together take no more bytes per second from it than were set."""
    server.default = ok(b"x" * 50_000)
    urls = [server.url(f"/{number}") for number in range(8)]
    request = Steady(per_host=4, per_host_bandwidth=400_000, split_hosts=[origin(server)])
    began = time.monotonic()
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, steady(request), executor=threads))
    assert time.monotonic() - began >= 0.7


def test_a_pause_is_kept_to_by_all_that_begin_later(executor: Executor, server: FaultServer, steady: Make) -> None:
    """One worker is told to wait; the other one hears of it when its shard is over, and nobody asks before the time."""
    server.default = ok(b"x")
    told = server.on("/told", status(429, Retry_After="2"), ok(b"x"))
    urls = [*(server.url(f"/{number}") for number in range(3)), told]
    urls += [server.url(f"/{number}") for number in range(3, 90)]
    request = Steady(per_host=4, rate=60, split_hosts=[origin(server)])
    found = aiodownload.swarm(urls, steady(request), executor=executor)
    assert all(bundle.ok for bundle in found)
    at = server.asked("/told")[0].at
    later = [one.at - at for one in server.requests if one.at > at]
    assert not [one for one in later if 1.0 < one < 1.95]
    assert len([one for one in later if one >= 1.95]) > 20


def test_adaptive_has_a_pace_for_each_part(executor: Executor, server: FaultServer, steady: Make) -> None:
    """It goes on from shard to shard, and within the part's slots."""
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(400)]
    request = Adaptive(per_host=6, split_hosts=[origin(server)])
    found = aiodownload.swarm(urls, steady(request), executor=executor)
    assert all(bundle.ok for bundle in found)
    assert server.most_active <= 6
    times = sorted(one.at for one in server.requests)
    assert times[-1] - times[0] < 400 / 20 / 2  # twice as quick as one beginner's pace


def test_beside_others(executor: Executor, hosts: Start, steady: Make, count: Any) -> None:
    """Hosts that are not split are in one shard at a time, with all that they bear."""
    one, *others = hosts(4)
    for server in (one, *others):
        server.default = count.script(0.03)
    urls = [server.url(f"/{number}") for number in range(30) for server in (one, one, *others)]
    urls = list(dict.fromkeys(urls)) + [one.url(f"/more{number}") for number in range(60)]
    request = Steady(concurrent=12, per_host=3, split_hosts=[origin(one)])
    found = aiodownload.swarm(urls, steady(request), executor=executor)
    assert all(bundle.ok for bundle in found)
    assert one.most_active <= 3
    assert all(server.most_active <= 3 for server in others)
    assert sum(len(server.requests) for server in (one, *others)) == len(urls)


def test_a_worker_is_killed(server: FaultServer, steady: Make, count: Any, home: Path) -> None:
    """Nothing is lost or wrong, and the limit holds while its bundles are done again."""
    server.default = count.script(0.02, b"x" * 100)
    urls = [server.url(f"/{number}") for number in range(240)]
    killer = kill_when(lambda: len(server.requests) > 60, workers())
    request = Steady(per_host=4, split_hosts=[origin(server)])
    found = aiodownload.swarm(urls, steady(request), workers=2)
    killer.join()
    assert [bundle.error for bundle in found if not bundle.ok] == []
    assert all(Path(bundle.file_path or "").read_bytes() == b"x" * 100 for bundle in found)
    asked = Counter(request.target for request in server.requests)
    assert len(asked) == len(urls)
    assert sum(asked.values()) - len(urls) <= 3 * 8
    assert server.most_active <= 4
    assert not [path for path in home.rglob("*") if path.name.startswith(".")]


def test_without_an_executor(server: FaultServer, steady: Make) -> None:
    """It changes nothing."""
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(20)]
    found = aiodownload.swarm(urls, steady(Steady(per_host=2, split_hosts=[origin(server)])))
    assert all(bundle.ok for bundle in found)
    assert server.most_active <= 2
