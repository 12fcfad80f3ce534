"""Limits hold for the whole run, wherever its tries are made; the servers' own logs say so."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from cluster_work import Steady

import aiodownload
from aiodownload import (
    Adaptive,
    AioDownload,
    AioDownloadBundle,
    DeadlineError,
    Lenient,
    RobotsError,
    Status,
    StatusError,
    WorkerError,
)
from aiodownload.cluster import ledger, stock
from aiodownload.testing import FaultServer, ok, ranged, redirect, slow, status

Make = Callable[..., AioDownload]
Start = Callable[[int], list[FaultServer]]


@pytest.fixture(params=["processes", pytest.param("threads", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Executor:
    """What counts is kept by the caller; that threads work like processes, tests/cluster/test_facade.py says."""
    found: Executor = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that last for a fifth of a second, so that much goes from one to the next."""
    monkeypatch.setattr(ledger, "SECONDS", 0.2)
    monkeypatch.setattr(ledger, "LONGEST", 0.4)


@pytest.mark.usefixtures("brief")
def test_per_host_limits(executor: Executor, hosts: Start, steady: Make, count: Any) -> None:
    """No host has more than two requests at once, nor two starts closer together than its rate allows."""
    servers = hosts(6)
    for server in servers:
        server.default = count.script(0.05)
    urls = [server.url(f"/{number}") for number in range(8) for server in servers]
    request = Steady(concurrent=12, per_host=2, rate=10)
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, steady(request), executor=executor))
    for server in servers:
        assert len(server.requests) == 8
        assert server.most_active <= 2
        # However late one is noted, the next do not come sooner for it: only the first counts, which has to connect.
        first = server.requests[0].at
        assert all(one.at - first >= 0.1 * number - 0.1 for number, one in enumerate(server.requests))
        assert server.requests[-1].at - first >= 0.6
    assert count.most > 2  # other hosts are asked meanwhile


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("concurrent", [1, 3, 4])
def test_slots_are_of_the_whole_run(
    executor: Executor, hosts: Start, steady: Make, count: Any, concurrent: int
) -> None:
    """However many workers there are, no more requests are under way than were set; with one slot, one worker works."""
    servers = hosts(4)
    for server in servers:
        server.default = count.script(0.02)
    urls = [server.url(f"/{number}") for number in range(15) for server in servers]
    found = aiodownload.swarm(urls, steady(Steady(concurrent=concurrent)), executor=executor, workers=4)
    assert all(bundle.ok for bundle in found)
    assert count.most <= concurrent
    assert concurrent == 1 or count.most > 1


@pytest.mark.usefixtures("brief")
def test_the_spacing_of_the_run(executor: Executor, hosts: Start, steady: Make) -> None:
    """Lenient's delay lies between all starts on average, though several workers make them."""
    servers = hosts(4)
    for server in servers:
        server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(6) for server in servers]
    found = aiodownload.swarm(urls, steady(Lenient(delay=0.05, concurrent=4)), executor=executor)
    assert all(bundle.ok for bundle in found)
    times = sorted(request.at for server in servers for request in server.requests)
    assert times[-1] - times[0] >= 0.05 * (len(times) - 2)


@pytest.mark.usefixtures("brief")
def test_bandwidth_is_of_the_whole_run(executor: Executor, hosts: Start, steady: Make) -> None:
    """Two workers together take no more bytes per second than were set."""
    servers = hosts(2)
    for server in servers:
        server.default = ok(b"x" * 50_000)
    urls = [server.url(f"/{number}") for number in range(4) for server in servers]
    began = time.monotonic()
    found = aiodownload.swarm(urls, steady(Steady(bandwidth=400_000)), executor=executor)
    assert all(bundle.ok for bundle in found)
    assert time.monotonic() - began >= 0.7  # 400,000 bytes, without what comes in a first burst


@pytest.mark.usefixtures("brief")
def test_retry_after_is_kept_to_across_shards(executor: Executor, hosts: Start, steady: Make) -> None:
    """A host that asks for a pause gets it, from every shard; others are asked meanwhile."""
    busy, other = hosts(2)
    busy.default = ok(b"x")
    other.default = ok(b"x")
    first = busy.on("/first", status(429, Retry_After="1"), ok(b"x"))
    urls = [first, *(busy.url(f"/{number}") for number in range(5)), *(other.url(f"/{number}") for number in range(5))]
    found = aiodownload.swarm(urls, steady(Steady(per_host=1)), executor=executor)
    assert all(bundle.ok for bundle in found)
    (told,) = [request.at for request in busy.asked("/first")][:1]
    later = [request.at - told for request in busy.requests if request.at > told]
    assert min(later) >= 0.95
    assert found[0].attempts == 2
    assert max(request.at for request in other.requests) < told + 0.95


@pytest.mark.usefixtures("brief")
def test_tries_are_counted_across_shards(executor: Executor, server: FaultServer, steady: Make) -> None:
    """A bundle that waits for longer than its shard lasts goes on in the next: its tries and its time are its own."""
    url = server.on("/x", status(503))
    good = server.on("/good", status(503), status(503), ok(b"x"))
    bad, fine = aiodownload.swarm([url, good], steady(Steady(0.5)), executor=executor)
    assert isinstance(bad.error, StatusError)
    assert (bad.attempts, bad.status, len(server.asked("/x"))) == (3, Status.FAILED, 3)
    assert 1.0 <= bad.elapsed < 5
    times = [request.at for request in server.asked("/x")]
    assert all(later - sooner >= 0.48 for sooner, later in itertools.pairwise(times))
    assert (fine.ok, fine.attempts, fine.error) == (True, 3, None)


@pytest.mark.usefixtures("brief")
def test_the_deadline_is_of_the_bundle(executor: Executor, server: FaultServer, steady: Make) -> None:
    """It begins with the first request, in whichever shard that was."""
    url = server.on("/x", status(503))
    (bundle,) = aiodownload.swarm([url], steady(Steady(0.4, max_attempts=50, deadline=1.0)), executor=executor)
    assert isinstance(bundle.error, DeadlineError)
    assert bundle.attempts in (2, 3)
    assert bundle.elapsed <= 1.5


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_the_retry_budget_is_of_the_run(executor: Executor, hosts: Start, steady: Make, wait: float) -> None:
    """So many further tries are made in all, no more and no fewer, whichever worker makes them."""
    servers = hosts(3)
    for server in servers:
        server.default = status(503)
    urls = [server.url(f"/{number}") for number in range(4) for server in servers]
    request = Steady(wait, max_attempts=4, retry_budget=7)
    found = aiodownload.swarm(urls, steady(request), executor=executor)
    assert all(isinstance(bundle.error, StatusError) for bundle in found)
    assert sum(bundle.attempts for bundle in found) == sum(len(server.requests) for server in servers) == 12 + 7


@pytest.mark.usefixtures("brief")
def test_mirrors_across_shards(executor: Executor, hosts: Start, steady: Make) -> None:
    """What is known of the sources of a bundle goes along with it."""
    one, other = hosts(2)
    gone = one.on("/gone", status(404))
    bad = other.on("/bad", status(503), status(503), ok(b"x"))
    bundle = AioDownloadBundle(gone, mirrors=[bad])
    aiodownload.swarm([bundle], steady(Steady(0.5)), executor=executor)
    assert bundle.ok
    assert len(one.asked("/gone")) == 1  # a 404 removes that source, for good
    assert len(other.asked("/bad")) == 3
    assert bundle.attempts == 4


def test_a_redirect_to_a_host_of_nobody(executor: Executor, hosts: Start, steady: Make, count: Any) -> None:
    """Its limits are divided by the number of workers, so that together they do not pass them."""
    *servers, target = hosts(5)
    target.default = count.script(0.05)
    for server in servers:
        for number in range(8):
            server.on(f"/{number}", redirect(target.url(f"/{server.port}-{number}")))
    urls = [server.url(f"/{number}") for number in range(8) for server in servers]
    found = aiodownload.swarm(urls, steady(Steady(concurrent=16, per_host=4)), executor=executor, workers=2)
    assert all(bundle.ok for bundle in found)
    assert 1 < target.most_active <= 4


@pytest.mark.usefixtures("brief")
def test_a_pause_of_a_host_of_nobody(executor: Executor, hosts: Start, steady: Make) -> None:
    """What a redirect's target has asked for is known to all shards after that one."""
    first, second, target = hosts(3)
    busy = target.on("/busy", status(503, Retry_After="2"), ok(b"x"))
    target.default = ok(b"x")
    urls = [first.on("/a", redirect(busy)), second.on("/b", redirect(target.url("/b")))]

    def later() -> Any:
        yield urls[0]
        while not target.requests:
            time.sleep(0.01)
        time.sleep(0.6)  # that shard is over by then
        yield urls[1]

    found = list(aiodownload.each(later(), None, steady(), executor=executor, workers=1))
    assert all(bundle.ok for bundle in found)
    assert sorted(bundle.attempts for bundle in found) == [1, 2]
    assert len(second.requests) <= 3  # it is not asked over and over for the same redirect
    told = target.asked("/busy")[0].at
    assert all(request.at - told >= 1.95 for request in target.requests if request.at > told)


@pytest.mark.usefixtures("brief")
def test_adaptive_goes_on_where_it_was(executor: Executor, server: FaultServer, steady: Make) -> None:
    """The pace that one shard has found is where the next begins: more requests a second than a beginner's twenty."""
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(700)]
    found = aiodownload.swarm(urls, steady(Adaptive()), executor=executor)
    assert all(bundle.ok for bundle in found)
    times = [request.at for request in server.requests]
    shard = stock.BUNDLES
    assert times[-1] - times[2 * shard] < (700 - 2 * shard) / 20 / 2


@pytest.mark.usefixtures("brief")
def test_robots_txt(executor: Executor, server: FaultServer, steady: Make) -> None:
    """It is fetched for each shard that has its host, and obeyed by all, its Crawl-delay included."""
    pytest.importorskip("protego", reason="the extra robots is not installed")
    server.on("/robots.txt", ok(b"User-agent: *\nDisallow: /no\nCrawl-delay: 0.1\n"))
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(8)]
    *found, denied = aiodownload.swarm([*urls, server.url("/no/x")], steady(Steady(robots=True)), executor=executor)
    assert all(bundle.ok for bundle in found)
    assert isinstance(denied.error, RobotsError)
    assert not server.asked("/no/x")
    assert 2 <= len(server.asked("/robots.txt")) <= 8
    times = [request.at for request in server.requests if request.target != "/robots.txt"]
    assert times[-1] - times[0] >= 0.1 * (len(times) - 1) - 0.1


def test_a_host_that_is_down_is_closed_for_all(executor: Executor, steady: Make, server: FaultServer) -> None:
    """Its bundles fail without a request of their own, once it is known."""
    server.default = ok(b"x")
    urls = [f"http://127.0.0.9:9/{number}" for number in range(300)]
    found = aiodownload.swarm([*urls, server.url("/x")], steady(Steady(max_attempts=2)), executor=executor)
    assert found[-1].ok
    assert not any(bundle.ok for bundle in found[:-1])
    assert sum(bundle.attempts for bundle in found[:-1]) < 60


def test_one_long_body_does_not_hold_up_its_shard(
    threads: Executor, server: FaultServer, steady: Make, monkeypatch: pytest.MonkeyPatch, count: Any
) -> None:
    """What is beside it goes on, after the time of the shard is over."""
    monkeypatch.setattr(ledger, "SECONDS", 0.2)
    server.default = count.script(0.02)
    long = server.on("/long", count.script(2.5))
    urls = [long, *(server.url(f"/{number}") for number in range(40))]
    found = aiodownload.swarm(urls, steady(Steady(concurrent=2)), executor=threads, workers=1)
    assert all(bundle.ok for bundle in found)
    began = server.asked("/long")[0].at
    assert max(request.at for request in server.requests) < began + 2.4


def body(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


def test_a_body_that_is_cut_off_is_gone_on_with(
    executor: Executor, server: FaultServer, steady: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard ends after a bound; what has come is kept under a strong ETag, and no try is counted for it."""
    monkeypatch.setattr(ledger, "PATIENCE", 0.75)
    whole = body(6 << 20)
    url = server.on("/x", ranged(whole, '"strong"', speed=4 << 20))
    bundle = AioDownloadBundle(url)
    aiodownload.swarm([bundle], steady(Steady(max_attempts=1)), executor=executor)
    assert bundle.ok, bundle.error
    assert Path(bundle.file_path or "").read_bytes() == whole
    assert len(server.requests) > 1
    assert bundle.attempts == 1


def test_a_body_that_cannot_be_gone_on_with(
    executor: Executor, server: FaultServer, steady: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails after two such shards, and says why."""
    monkeypatch.setattr(ledger, "PATIENCE", 0.6)
    url = server.on("/x", slow(body(4 << 20), 40, 0.1))
    (bundle,) = aiodownload.swarm([url], steady(), executor=executor)
    assert isinstance(bundle.error, WorkerError)
    assert "strong ETag" in str(bundle.error)
    assert not bundle.error.transient
    assert len(server.requests) == 2
