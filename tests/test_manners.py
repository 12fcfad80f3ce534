"""Manners towards hosts, as servers see them: limits, pauses, dead hosts, robots.txt; and the bounds of a bundle."""

from __future__ import annotations

import asyncio
import bisect
import builtins
import gzip
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest
from conftest import Quick
from hypothesis import given, settings
from hypothesis import strategies as st

import aiodownload
from aiodownload import (
    Adaptive,
    AioDownload,
    AioDownloadBundle,
    BackOff,
    ConnectError,
    DeadlineError,
    DownloadStrategy,
    HostDownError,
    Lenient,
    LowSpeedError,
    MissingExtraError,
    Polite,
    RequestStrategy,
    ResolveError,
    RetryAfterError,
    RobotsError,
    Status,
    StatusError,
)
from aiodownload.request.robots import Robots
from aiodownload.testing import (
    Connection,
    FaultServer,
    Request,
    Script,
    chunked,
    cut,
    drop,
    ok,
    ranged,
    redirect,
    slow,
    stall,
    status,
)

Make = Callable[..., AioDownload]
MIB = 1 << 20


@pytest.fixture
def many_servers() -> Iterator[list[FaultServer]]:
    """Six hosts."""
    with ExitStack() as stack:
        yield [stack.enter_context(FaultServer()) for _ in range(6)]


def busy(seconds: float, then: Script | None = None) -> Script:
    """Answers after so many seconds."""

    async def script(request: Request, connection: Connection) -> bool:
        await asyncio.sleep(seconds)
        return await (then or ok(b"x"))(request, connection)

    return script


def urls(server: FaultServer, count: int, name: str = "") -> list[str]:
    return [server.url(f"/{name}{number}") for number in range(count)]


def gaps(server: FaultServer) -> list[float]:
    """Seconds between one request and the next, as they came in."""
    return [later.at - earlier.at for earlier, later in pairwise(server.requests)]


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# per_host, rate.


def test_no_more_than_per_host_at_once(many_servers: list[FaultServer], quick: Make) -> None:
    """Each host sees at most two at once, while all of them are busy."""
    for server in many_servers:
        server.default = busy(0.01)
    asked = [url for server in many_servers for url in urls(server, 20)]
    bundles = aiodownload.swarm(asked, quick(Quick(concurrent=12, per_host=2)))
    assert all(bundle.ok for bundle in bundles)
    assert [server.most_active for server in many_servers] == [2] * 6


def test_a_redirect_counts_at_the_host_it_leads_to(server: FaultServer, other_server: FaultServer, quick: Make) -> None:
    """Twenty bundles that one host sends to another are at most two at once there."""
    other_server.default = busy(0.02)
    for number in range(20):
        server.on(f"/{number}", redirect(other_server.url(f"/{number}")))
    bundles = aiodownload.swarm(
        urls(server, 20) + urls(other_server, 5, "own"), quick(Quick(concurrent=16, per_host=2))
    )
    assert all(bundle.ok for bundle in bundles)
    assert server.most_active <= 2
    assert other_server.most_active == 2
    assert len(other_server.requests) == 25


def test_the_rate_is_kept(server: FaultServer, other_server: FaultServer, quick: Make) -> None:
    """50 a second: no half second has more than its 25 (and one at its edge); redirects count."""
    server.default = ok(b"x")
    for number in range(15):
        other_server.on(f"/{number}", redirect(server.url(f"/moved{number}")))
    asked = urls(server, 25) + urls(other_server, 15)
    assert all(bundle.ok for bundle in aiodownload.swarm(asked, quick(Quick(concurrent=16, rate=50))))
    times = [request.at for request in server.requests]
    assert len(times) == 40
    assert times[-1] - times[0] >= 39 / 50 - 0.02
    for begin in times:
        assert sum(begin <= one < begin + 0.5 for one in times) <= 27


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(40, 200)),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 12)), min_size=10, max_size=60),
)
def test_no_server_ever_sees_more_than_its_limits(
    concurrent: int, per_host: int, rate: int | None, work: list[tuple[int, int, int]]
) -> None:
    """Any mixture of files, redirects (to the same and to other hosts), refusals and broken connections, as the servers
    see it: never more at once, and in no window more starts.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(FaultServer()) for _ in range(3)]
        home = stack.enter_context(TemporaryDirectory())
        asked = []
        for number, (host, kind, milliseconds) in enumerate(work):
            other = servers[milliseconds % 3].on(f"/to{number}", busy(milliseconds / 1000))
            script = (ok(b"x"), redirect(other), status(500), drop())[kind]
            asked.append(servers[host].on(f"/{number}", busy(milliseconds / 1000, script), ok(b"x")))
        strategy = Quick(2, concurrent=concurrent, per_host=per_host, rate=rate, timeout=10)
        aiodownload.swarm(asked, AioDownload(None, DownloadStrategy(home=home), strategy))
        for server in servers:
            assert server.most_active <= min(per_host, concurrent)
            times = [request.at for request in server.requests]
            for at, begin in enumerate(times) if rate is not None else ():
                # aiohttp asks a second time by itself where a connection that was kept open closes without an answer.
                again = sum(kind == 3 for _, kind, _ in work)
                inside = sum(one < begin + 0.25 for one in times[at:])
                assert inside <= rate * 0.27 + 2 + again


@pytest.mark.slow
@pytest.mark.parametrize("per_host", [1, 3])
def test_limits_hold_for_long(per_host: int, many_servers: list[FaultServer], home: Any) -> None:
    """A soak: thousands of requests to six hosts, with redirects among them, refusals, slow answers and cut bodies.

    What each host has written down: never more than ``per_host`` at once, and no second with more starts than ``rate``;
    the network may bring two of them closer together.
    """
    chance, rate = random.Random(per_host), 60
    body = b"x" * 3000
    for server in many_servers:
        server.default = busy(0.004)
    asked = []
    for number in range(9000):
        server, other = chance.sample(many_servers, 2)
        kinds = (
            redirect(other.url(f"/moved{number}")),
            redirect(server.url(f"/here{number}")),
            status(503),
            status(429, Retry_After="0"),
            cut(body, 1000),
            busy(0.15),
        )
        path = f"/{number}"
        asked.append(server.on(path, chance.choice(kinds), ok(body)) if chance.random() < 0.5 else server.url(path))
    strategy = Quick(5, concurrent=16, per_host=per_host, rate=rate)
    bundles = aiodownload.swarm(asked, AioDownload(None, DownloadStrategy(home=home), strategy))
    assert all(bundle.ok for bundle in bundles)
    for server in many_servers:
        assert server.most_active <= per_host
        times = [request.at for request in server.requests]
        assert len(times) > 1500
        assert max(bisect.bisect_left(times, begin + 1) - at for at, begin in enumerate(times)) <= rate + 2


def test_lenient_is_as_it_was(server: FaultServer, other_server: FaultServer, home: Any) -> None:
    """Starts 0.25 s apart over all hosts together, and two at once."""
    server.default = other_server.default = busy(0.6)
    asked = [urls(server, 3)[number // 2] if number % 2 else urls(other_server, 3)[number // 2] for number in range(6)]
    bundles = aiodownload.swarm(asked, AioDownload(None, DownloadStrategy(home=home), Lenient()))
    assert all(bundle.ok for bundle in bundles)
    times = sorted(request.at for request in (*server.requests, *other_server.requests))
    assert all(later - earlier > 0.2 for earlier, later in pairwise(times))
    assert max(sum(one <= time < one + 0.55 for time in times) for one in times) <= 3


# bandwidth.


@pytest.mark.parametrize("streams", [1, 50])
def test_the_bandwidth_is_kept(streams: int, server: FaultServer, quick: Make) -> None:
    """4 MiB at 4 MiB/s take a second, in one body or in fifty."""
    server.default = ok(b"x" * (4 * MIB // streams))
    began = time.monotonic()
    bundles = aiodownload.swarm(urls(server, streams), quick(Quick(concurrent=50, bandwidth=4 * MIB)))
    took = time.monotonic() - began
    assert all(bundle.ok for bundle in bundles)
    assert took > 0.95 - 0.05


def test_the_bandwidth_of_a_host_is_its_own(server: FaultServer, other_server: FaultServer, quick: Make) -> None:
    """One host is slow at its limit, and the other one too: together they are twice as fast."""
    server.default = other_server.default = ok(b"x" * MIB)
    bundles = aiodownload.swarm(
        [*urls(server, 2), *urls(other_server, 2)], quick(Quick(concurrent=8, per_host_bandwidth=2 * MIB))
    )
    assert all(bundle.ok for bundle in bundles)
    assert [0.85 < bundle.elapsed < 3 for bundle in bundles].count(True) >= 2
    assert max(bundle.elapsed for bundle in bundles) > 0.9


async def test_the_bandwidth_holds_for_a_strategy_that_reads_by_itself(server: FaultServer, home: Any) -> None:
    """``await response.json()`` comes no faster."""
    server.default = ok(b'"' + b"x" * MIB + b'"', Content_Type="application/json")

    class Reading(DownloadStrategy):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            bundle.info = await response.json()

    began = time.monotonic()
    async with AioDownload(None, Reading(home=home), Quick(bandwidth=MIB)) as download:
        bundle = await download.one(server.url("/a"))
    assert bundle.info == "x" * MIB
    assert time.monotonic() - began > 0.9


# low_speed.


def test_a_body_that_drips_is_given_up_and_gone_on_with(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Make
) -> None:
    """R32: less than so many bytes a second, and the next try takes the rest."""
    body = bytes(range(256)) * (3 * MIB // 256)

    async def drips(request: Request, connection: Connection) -> bool:
        await ranged(body, cut=2 * MIB)(request, connection)
        for at in range(2 * MIB, 3 * MIB):
            await connection.send(body[at : at + 1])
            await asyncio.sleep(0.05)
        return True

    url = server.on("/f", drips, ranged(body))
    bundle = aiodownload.one(url, quick(Quick(timeout=30, low_speed=(100_000, 0.5))))
    assert (bundle.ok, bundle.attempts) == (True, 2)
    assert files()["f"] == body
    assert int(server.requests[1].headers["range"].removeprefix("bytes=").removesuffix("-")) >= MIB


def test_low_speed_says_so(server: FaultServer, quick: Make) -> None:
    """The error names the rule."""
    server.default = slow(b"x" * 2000, 200, 0.05)
    bundle = aiodownload.one(server.url("/f"), quick(Quick(1, timeout=30, low_speed=(10_000, 0.3))))
    assert isinstance(bundle.error, LowSpeedError)
    assert "less than 10000 bytes/s came over 0.3 s (low_speed)" in str(bundle.error)


def test_a_body_that_is_quick_enough_is_left_alone(server: FaultServer, quick: Make) -> None:
    """Our own bandwidth limit is nobody's low speed."""
    server.default = ok(b"x" * (MIB // 2))
    strategy = Quick(1, timeout=30, low_speed=(2 * MIB, 0.3), bandwidth=MIB // 2)
    assert aiodownload.one(server.url("/f"), quick(strategy)).ok


# deadline, retry_budget, jitter.


def test_the_deadline_bounds_all_tries(server: FaultServer, quick: Make) -> None:
    """R29: with tries left, the bundle ends when its time is over, and says how its last try failed."""

    class Patient(Quick):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.2 if bundle.attempts else 0

    server.default = status(500)
    began = time.monotonic()
    bundle = aiodownload.one(server.url("/f"), quick(Patient(1000, timeout=5, deadline=0.7)))
    assert time.monotonic() - began < 3
    assert isinstance(bundle.error, DeadlineError)
    assert str(bundle.error) == "not done within the deadline of 0.7 s; the last try: status 500 Internal Server Error"
    assert 2 <= bundle.attempts <= 4
    assert bundle.status is Status.FAILED


def test_the_deadline_cuts_a_body_off(server: FaultServer, home: Any, quick: Make) -> None:
    """No body outlives it either; nothing gets the final name."""
    server.default = slow(b"x" * 1000, 1000, 0.05)
    bundle = aiodownload.one(server.url("/f"), quick(Quick(timeout=5, deadline=0.5)))
    assert isinstance(bundle.error, DeadlineError)
    assert bundle.elapsed < 3
    assert [path.name for path in home.rglob("*") if path.is_file()] == []


def test_the_deadline_ends_a_wait_for_the_host(server: FaultServer, quick: Make) -> None:
    """One bundle waits for its next try when another is told to come back in a minute: it does not wait that long."""
    server.on("/first", status(500), ok(b"x"))
    server.on("/second", busy(0.1, status(503, Retry_After="60")))

    class Patient(Quick):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.4 if bundle.attempts else 0

    began = time.monotonic()
    bundles = aiodownload.swarm(
        [server.url("/first"), server.url("/second")], quick(Patient(5, timeout=5, deadline=1.0))
    )
    assert time.monotonic() - began < 10
    assert [type(bundle.error) for bundle in bundles] == [DeadlineError, DeadlineError]


def test_no_deadline_for_what_is_in_time(server: FaultServer, quick: Make) -> None:
    server.default = ok(b"x")
    bundles = aiodownload.swarm(urls(server, 20), quick(Quick(deadline=30)))
    assert all(bundle.ok for bundle in bundles)


def test_the_retry_budget_is_of_the_run(server: FaultServer, quick: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Ten bundles have seven second tries together; then failures are final, and the log says so once."""
    server.default = status(500)
    bundles = aiodownload.swarm(urls(server, 10), quick(Quick(timeout=5, retry_budget=7)))
    assert sum(bundle.attempts for bundle in bundles) == 10 + 7
    assert all(isinstance(bundle.error, StatusError) for bundle in bundles)
    assert [record.message for record in caplog.records if "retry budget" in record.message] == [
        "the retry budget of 7 is spent: failures are final now"
    ]


def test_jitter_waits_a_part(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter: any part of the wait, also nearly nothing of 60 s; the spacing of starts is left alone."""
    monkeypatch.setattr("aiodownload.attempt.random.random", lambda: 0.001)
    server.default = status(500)
    began = time.monotonic()
    bundle = aiodownload.one(server.url("/f"), quick(Lenient(4, jitter=True)))
    assert bundle.attempts == 4
    assert time.monotonic() - began < 10


# Hosts that say "later".


def test_one_retry_after_pauses_its_host_and_no_other(
    server: FaultServer, other_server: FaultServer, quick: Make
) -> None:
    """R29: after one Retry-After: 2 nobody asks that host for two seconds; the other host is done long before."""
    server.on("/0", status(429, Retry_After="2"), ok(b"x"))
    server.default = other_server.default = busy(0.02)
    began = time.monotonic()
    done: dict[str, float] = {}
    asked = [url for pair in zip(urls(server, 30), urls(other_server, 30), strict=True) for url in pair]
    for bundle in aiodownload.each(asked, download=quick(Quick(concurrent=2, timeout=10))):
        assert bundle.ok
        done[bundle.url] = time.monotonic() - began
    assert sum(gap >= 1.95 for gap in gaps(server)) == 1
    assert max(done[url] for url in urls(other_server, 30)) < 1.9
    assert len(server.requests) == 31


def test_retry_after_counts_on_any_status(many_servers: list[FaultServer], quick: Make) -> None:
    """A host that names a time is left alone until then, whatever else it says."""
    told = dict(zip((200, 404, 302, 500), many_servers, strict=False))
    for code, server in told.items():
        server.default = ok(b"x")
        more = {"Location": server.url("/target")} if code == 302 else {}
        server.on("/0", status(code, b"x", Retry_After="1", **more))
    asked = [url for server in told.values() for url in urls(server, 3)]
    aiodownload.swarm(asked, quick(Quick(1, concurrent=4, per_host=1, timeout=5)))
    assert {code: gaps(server)[0] >= 0.95 for code, server in told.items()} == dict.fromkeys(told, True)


def test_a_503_without_a_time_pauses_its_host_too(server: FaultServer, quick: Make) -> None:
    """Shortly at first, for all its bundles, and longer each time; the bundle itself waits as its strategy says."""
    for number in range(3):
        server.on(f"/{number}", status(503), ok(b"x"))
    server.default = ok(b"x")
    bundles = aiodownload.swarm(urls(server, 6), quick(Quick2(timeout=5, concurrent=1)))
    assert all(bundle.ok for bundle in bundles)
    assert [gap > least - 0.02 for gap, least in zip(gaps(server), (0.1, 0.2, 0.4), strict=False)] == [True] * 3
    assert sum(gaps(server)[3:5]) < 0.3
    assert [request.target for request in server.requests] == [*(f"/{n}" for n in range(6)), "/0", "/1", "/2"]


class Quick2(Quick):
    """Two seconds between tries."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 2 if bundle.attempts else 0


def test_a_host_that_sends_everybody_away_is_believed(server: FaultServer, quick: Make) -> None:
    """Told three times to come back tomorrow, we do not ask for the other 97, and they say why."""
    server.default = status(429, Retry_After="86400")
    bundles = aiodownload.swarm(urls(server, 100), quick(Quick(timeout=5, concurrent=1)))
    assert len(server.requests) == 3
    assert all(isinstance(bundle.error, RetryAfterError) for bundle in bundles)
    assert "the server asks to come back in 86400 s, and max_retry_after is 3600 s (it told another bundle)" in str(
        bundles[-1].error
    )
    assert [bundle.attempts for bundle in bundles] == [1] * 3 + [0] * 97


def test_one_url_that_is_closed_closes_nothing_else(server: FaultServer, quick: Make) -> None:
    """Where others are served, one that is closed until tomorrow is the only one that fails."""
    server.default = ok(b"x")
    for number in (3, 9, 20, 30):
        server.on(f"/{number}", status(503, Retry_After="86400"))
    bundles = aiodownload.swarm(urls(server, 40), quick(Quick(timeout=5)))
    assert [number for number, bundle in enumerate(bundles) if not bundle.ok] == [3, 9, 20, 30]


def test_what_a_server_still_allows_is_kept_to(many_servers: list[FaultServer], quick: Make) -> None:
    """Nothing is left for a second: nobody asks for a second, and no 429 is needed."""
    forms: dict[str, dict[str, str]] = {
        "draft": {"RateLimit": '"default";r=0;t=1'},
        "older": {"RateLimit_Remaining": "0", "RateLimit_Reset": "1"},
        "common": {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1"},
    }
    told = dict(zip(forms, many_servers, strict=False))
    for name, server in told.items():
        server.on("/0", ok(b"x", **forms[name]))
        server.default = ok(b"x")
    asked = [url for server in told.values() for url in urls(server, 3)]
    assert all(bundle.ok for bundle in aiodownload.swarm(asked, quick(Quick(concurrent=3, per_host=1))))
    assert {name: gaps(server)[0] >= 0.95 for name, server in told.items()} == dict.fromkeys(told, True)
    assert {name: gaps(server)[1] < 0.9 for name, server in told.items()} == dict.fromkeys(told, True)


# Hosts that do not answer.


def test_a_dead_host_fails_fast(server: FaultServer, quick: Make) -> None:
    """After three bundles that it did not answer in all their tries, the other 197 say so without a try."""
    dead = f"http://127.0.0.1:{closed_port()}"
    server.default = ok(b"x")
    asked = [*(f"{dead}/{number}" for number in range(200)), *urls(server, 20)]
    bundles = aiodownload.swarm(asked, quick(Quick(3, timeout=5)))
    assert all(bundle.ok for bundle in bundles[200:])
    kinds = [type(bundle.error) for bundle in bundles[:200]]
    assert set(kinds) == {ConnectError, HostDownError}
    assert kinds.count(ConnectError) <= 5
    assert sum(bundle.attempts for bundle in bundles[:200]) <= 25
    down = next(bundle.error for bundle in bundles if isinstance(bundle.error, HostDownError))
    assert "has not answered several bundles through all their tries" in str(down)
    assert "no connection to '127.0.0.1'" in str(down)


def test_a_host_that_stays_silent_holds_one_slot(server: FaultServer, other_server: FaultServer, quick: Make) -> None:
    """It takes the connection and says nothing: after three silences it has one slot, and others the rest."""
    server.default, other_server.default = stall(), ok(b"x")
    asked = [*urls(server, 30), *urls(other_server, 30)]
    bundles = aiodownload.swarm(asked, quick(Quick(1, timeout=0.4, concurrent=4)))
    assert all(bundle.ok for bundle in bundles[30:])
    assert sum(bundle.attempts for bundle in bundles[:30]) <= 20
    assert all(not bundle.ok for bundle in bundles[:30])


def test_a_host_that_was_down_for_a_moment_is_not_given_up(server: FaultServer, quick: Make) -> None:
    """Fewer silences than tries: all converge."""
    for number in range(20):
        server.on(f"/{number}", drop(), drop(), drop(), drop(), ok(b"x"))  # aiohttp asks twice
    bundles = aiodownload.swarm(urls(server, 20), quick(Quick(5, timeout=5, concurrent=4)))
    assert all(bundle.ok for bundle in bundles)


def test_a_mirror_serves_for_a_dead_host(server: FaultServer, quick: Make) -> None:
    """The mirrors of its bundles are asked at once, also after it was given up."""
    dead = f"http://127.0.0.1:{closed_port()}"
    server.default = ok(b"x")
    bundles = [AioDownloadBundle(f"{dead}/{number}", mirrors=[server.url(f"/{number}")]) for number in range(50)]
    assert all(bundle.ok for bundle in aiodownload.swarm(bundles, quick(Quick(2, timeout=5))))


# Names.


class Names(aiohttp.abc.AbstractResolver):
    """Looks names up slowly, and counts."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        self.asked.append(host)
        await asyncio.sleep(0.05)
        if not self.port:
            raise OSError(None, "no such name")
        flags = socket.AI_NUMERICHOST
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": flags}
        ]

    async def close(self) -> None:
        """Nothing is open."""


def test_a_name_is_looked_up_once(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty bundles at once share one look-up."""
    names = Names(server.port)
    monkeypatch.setattr(aiohttp, "DefaultResolver", lambda: names)
    server.default = busy(0.01)
    asked = [f"http://somewhere.example:{server.port}/{number}" for number in range(30)]
    assert all(bundle.ok for bundle in aiodownload.swarm(asked, quick(Quick(concurrent=30))))
    assert names.asked == ["somewhere.example"]


def test_a_name_that_cannot_be_looked_up_is_remembered(quick: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the tries of a bundle nor other bundles look it up again at once."""
    names = Names()
    monkeypatch.setattr(aiohttp, "DefaultResolver", lambda: names)
    bundles = aiodownload.swarm([f"http://nowhere.example/{number}" for number in range(9)], quick(Quick(2, timeout=5)))
    assert names.asked == ["nowhere.example"]
    assert {type(bundle.error) for bundle in bundles} <= {ResolveError, HostDownError}
    assert str(bundles[0].error) == "the name 'nowhere.example' has no address: no such name"


# Polite and robots.txt.

ROBOTS = b"User-agent: *\nDisallow: /private\nAllow: /private/but-this\n\nUser-agent: other\nDisallow: /\n"


def polite(home: Any, **settings: Any) -> AioDownload:
    return AioDownload(None, DownloadStrategy(home=home), Polite(**settings))


def test_polite_keeps_its_distance_to_each_host(many_servers: list[FaultServer], home: Any) -> None:
    """0.25 s between the starts for a host, and all hosts at once."""
    for server in many_servers:
        server.default = ok(b"x")
        server.on("/robots.txt", status(404))
    began = time.monotonic()
    asked = [url for server in many_servers for url in urls(server, 4)]
    assert all(bundle.ok for bundle in aiodownload.swarm(asked, polite(home)))
    assert time.monotonic() - began < 4
    for server in many_servers:
        assert server.requests[0].target == "/robots.txt"
        assert len(server.requests) == 5
        # A request may come late at a busy server, and the one after it just in time.
        assert all(gap > 0.1 for gap in gaps(server))
        assert sum(gaps(server)) > 4 * 0.25 - 0.15


def test_robots_txt_is_obeyed(server: FaultServer, home: Any) -> None:
    """What it does not allow is not asked for, and the bundle says why; it is fetched once."""
    server.on("/robots.txt", ok(ROBOTS))
    server.default = ok(b"x")
    allowed, denied, exception = aiodownload.swarm(
        [server.url("/open"), server.url("/private/x"), server.url("/private/but-this")], polite(home)
    )
    assert allowed.ok
    assert exception.ok
    assert isinstance(denied.error, RobotsError)
    assert str(denied.error) == "the host's robots.txt does not allow it"
    assert denied.attempts == 1
    assert sorted(request.target for request in server.requests) == ["/open", "/private/but-this", "/robots.txt"]


def test_crawl_delay_is_obeyed(server: FaultServer, home: Any) -> None:
    """Half a second between any two requests, robots.txt itself included."""
    server.on("/robots.txt", ok(b"User-agent: *\nCrawl-delay: 0.5\n"))
    server.default = ok(b"x")
    assert all(bundle.ok for bundle in aiodownload.swarm(urls(server, 2), polite(home)))
    assert [gap > 0.48 for gap in gaps(server)] == [True] * 2


def test_a_rule_for_us_goes_before_that_for_all(server: FaultServer, home: Any) -> None:
    """RFC 9309 section 2.2.1: the group that names the product."""
    server.on("/robots.txt", ok(b"User-agent: *\nDisallow: /\n\nUser-agent: aiodownload\nDisallow: /no\n"))
    server.default = ok(b"x")
    yes, no = aiodownload.swarm([server.url("/yes"), server.url("/no")], polite(home))
    assert (yes.ok, type(no.error)) == (True, RobotsError)


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [
        (status(404), True),
        (status(403), True),
        (status(500), False),
        (status(429), False),
        (ok(b"\xff\xfe\x00 no robots.txt at all"), True),
        (ok(b""), True),
        (chunked(b"User-agent: *\nDisallow: /\n"), False),
        (redirect("/elsewhere"), False),
        (redirect("ftp://127.0.0.1/"), True),
        (redirect("/robots.txt"), True),
        (ok(b"User-agent: *\nDisallow: /x\n" + b"# \n" * MIB), True),
    ],
    ids=["404", "403", "500", "429", "garbage", "empty", "chunked", "moved", "nowhere", "circle", "huge"],
)
def test_robots_txt_that_cannot_be_had(answer: Script, allowed: bool, server: FaultServer, home: Any) -> None:
    """RFC 9309 section 2.3.1: none is a yes, a broken server is a no."""
    server.on("/robots.txt", answer)
    server.on("/elsewhere", ok(b"User-agent: *\nDisallow: /\n"))
    server.on("/file", ok(b"x"))
    bundle = aiodownload.one(server.url("/file"), polite(home, max_attempts=1))
    assert bundle.ok is allowed
    if not allowed:
        assert isinstance(bundle.error, RobotsError)
        assert server.asked("/file") == []


def test_a_redirect_is_held_against_the_robots_txt_of_where_it_leads(
    server: FaultServer, other_server: FaultServer, home: Any
) -> None:
    """Each host has its own rules."""
    server.on("/robots.txt", status(404))
    other_server.on("/robots.txt", ok(b"User-agent: *\nDisallow: /\n"))
    server.on("/f", redirect(other_server.url("/g")))
    bundle = aiodownload.one(server.url("/f"), polite(home))
    assert isinstance(bundle.error, RobotsError)
    assert [request.target for request in other_server.requests] == ["/robots.txt"]


def test_those_that_wait_for_robots_txt_keep_their_distance(server: FaultServer, home: Any) -> None:
    """Many bundles of a host wait for its robots.txt together: they hold no slot meanwhile, nor do they go together."""
    server.on("/robots.txt", busy(0.8, status(404)))
    server.default = ok(b"x")
    bundles = aiodownload.swarm(urls(server, 5), polite(home, rate=10, per_host=16))
    assert all(bundle.ok for bundle in bundles)
    assert all(gap > 0.08 for gap in gaps(server))


def test_a_robots_txt_that_drips_holds_up_nobody_else(
    server: FaultServer, other_server: FaultServer, home: Any
) -> None:
    """It has its time, and the others theirs."""
    server.on("/robots.txt", slow(b"x" * 100, 100, 0.1))
    server.default = other_server.default = ok(b"x")
    other_server.on("/robots.txt", status(404))
    strategy = RequestStrategy(concurrent=4, robots=True, timeout=1.0)
    asked = [*urls(server, 8), *urls(other_server, 8)]
    done = list(aiodownload.each(asked, download=AioDownload(None, DownloadStrategy(home=home), strategy)))
    assert [bundle.ok for bundle in done[:8]] == [True] * 8
    assert all(isinstance(bundle.error, RobotsError) for bundle in done[8:])
    assert "nothing arrived for 1 s" in str(done[-1].error)


def test_crawl_delay_is_for_the_host_whose_robots_txt_it_is(
    server: FaultServer, other_server: FaultServer, home: Any
) -> None:
    """Also where its robots.txt lies elsewhere."""
    server.on("/robots.txt", redirect(other_server.url("/rules")))
    other_server.on("/rules", ok(b"User-agent: *\nCrawl-delay: 0.5\n"))
    server.default = ok(b"x")
    assert all(bundle.ok for bundle in aiodownload.swarm(urls(server, 3), polite(home)))
    assert all(gap > 0.45 for gap in gaps(server))


@pytest.mark.parametrize("rule", ["Crawl-delay: 1000000000", "Request-rate: 1/" + "9" * 400, "Crawl-delay: inf"])
def test_a_crawl_delay_beyond_all_patience_is_a_no(rule: str, server: FaultServer, home: Any) -> None:
    """As with Retry-After: who asks for more than max_retry_after is not waited for, and the bundle says so."""
    server.on("/robots.txt", ok(f"User-agent: *\n{rule}\n".encode()))
    server.default = ok(b"x")
    bundle = aiodownload.one(server.url("/f"), polite(home))
    assert bundle.ok or (isinstance(bundle.error, RobotsError) and "max_retry_after is 3600 s" in str(bundle.error))
    assert bundle.ok == (rule == "Crawl-delay: inf")  # which is no number of seconds


def test_an_encoded_robots_txt_is_read(server: FaultServer, home: Any) -> None:
    """Nobody asked for it, and it means what it says."""
    server.on("/robots.txt", ok(gzip.compress(b"User-agent: *\nDisallow: /\n"), Content_Encoding="gzip"))
    server.default = ok(b"x")
    assert isinstance(aiodownload.one(server.url("/f"), polite(home)).error, RobotsError)


def test_a_monstrous_robots_txt_costs_little(server: FaultServer, home: Any) -> None:
    """Thousands of crawlers with thousands of rules: only those for us are read, and not all of them."""
    text = b"".join(b"User-agent: bot%d\n" % number for number in range(10_000))
    text += b"User-agent: *\n" + b"".join(b"Disallow: /no%d\n" % number for number in range(15_000))
    rules = Robots(text.decode())
    assert rules.size <= 2001
    assert not rules.allows("http://x/no7")
    assert rules.allows("http://x/yes")


def test_a_bundle_with_mirrors_outlives_its_closed_host(
    server: FaultServer, other_server: FaultServer, quick: Make
) -> None:
    """The first source sends everybody away until tomorrow: each bundle is served by its mirror, and none is lost."""
    server.default = status(503, Retry_After="99999")
    other_server.default = busy(0.02)
    bundles = [
        AioDownloadBundle(server.url(f"/{number}"), mirrors=[other_server.url(f"/{number}")]) for number in range(30)
    ]
    done = aiodownload.swarm(bundles, quick(Quick(timeout=5, concurrent=6, per_host=2)))
    assert all(bundle.ok for bundle in done)


def test_broken_urls_hurt_no_other(server: FaultServer, quick: Make) -> None:
    """Six URLs in a row that get no answer, and twenty that do: these are asked at once, and served."""
    for number in range(6):
        server.on(f"/broken{number}", drop())
    server.default = ok(b"x")
    bundles = aiodownload.swarm(urls(server, 6, "broken") + urls(server, 20), quick(Quick2(2, timeout=5)))
    assert [bundle.ok for bundle in bundles] == [False] * 6 + [True] * 20
    assert max(bundle.elapsed for bundle in bundles[6:]) < 1.5


async def test_a_strategy_that_reads_line_by_line(server: FaultServer, home: Any) -> None:
    """Under a bandwidth, ``response.content`` has all that aiohttp's has."""
    lines = [b"%d\n" % number for number in range(1000)]
    server.default = ok(b"".join(lines))

    class Reading(DownloadStrategy):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            content = response.content
            first = await content.readexactly(2)
            second = await content.readline()
            rest = [line async for line in content]
            bundle.info = [first, second, *rest, content.at_eof()]

    async with AioDownload(None, Reading(home=home), Quick(bandwidth=1e6)) as download:
        bundle = await download.one(server.url("/a"))
    assert bundle.error is None
    assert bundle.info == [*lines, True]


def test_without_the_extra_the_error_names_it(server: FaultServer, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked; and Polite goes without it when told to."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "protego":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    server.default = ok(b"x")
    with pytest.raises(MissingExtraError, match=r"pip install 'aiodownload\[robots\]'"):
        aiodownload.one(server.url("/f"), polite(home))
    assert server.requests == []
    assert aiodownload.one(server.url("/f"), polite(home, robots=False)).ok


def test_who_asks_can_be_told(server: FaultServer, quick: Make) -> None:
    """The contact stands in the User-Agent, also where a redirect leads."""
    server.on("/f", redirect(server.url("/g").replace("127.0.0.1", "localhost")))
    server.default = ok(b"x")
    aiodownload.one(server.url("/f"), quick(Quick(contact="ops@example.org")))
    agents = {request.headers["user-agent"] for request in server.requests}
    assert len(agents) == 1
    assert agents.pop().endswith("(+ops@example.org)")


# Adaptive.


def test_adaptive_takes_a_limited_server_as_it_is(server: FaultServer, home: Any) -> None:
    """40 a second, 429 and Retry-After beyond: all are served, and few answers are a 429."""
    seen: list[float] = []
    refusals = 0

    async def limited(request: Request, connection: Connection) -> bool:
        nonlocal refusals
        now = time.monotonic()
        while seen and seen[0] <= now - 1:
            seen.pop(0)
        if len(seen) >= 40:
            refusals += 1
            return await status(429, Retry_After="1")(request, connection)
        seen.append(now)
        return await ok(b"x")(request, connection)

    server.default = limited
    bundles = aiodownload.swarm(urls(server, 120), AioDownload(None, DownloadStrategy(home=home), Adaptive()))
    assert all(bundle.ok for bundle in bundles)
    assert refusals <= 12


def test_adaptive_never_goes_above_the_settings(server: FaultServer, home: Any) -> None:
    """A server that bears anything still sees at most so many at once."""
    server.default = busy(0.1)
    strategy = Adaptive(concurrent=6, per_host=3)
    bundles = aiodownload.swarm(urls(server, 40), AioDownload(None, DownloadStrategy(home=home), strategy))
    assert all(bundle.ok for bundle in bundles)
    assert server.most_active == 3


# What the hooks see stays as it was.


@pytest.mark.parametrize("kind", [RequestStrategy, Lenient, BackOff, Adaptive])
def test_every_strategy_takes_every_setting(kind: type[RequestStrategy]) -> None:
    settings: dict[str, Any] = {
        "per_host": 3,
        "rate": 5.0,
        "bandwidth": 1e6,
        "per_host_bandwidth": 1e5,
        "low_speed": (1000, 30),
        "deadline": 60,
        "retry_budget": 10,
        "jitter": True,
        "robots": True,
        "contact": "me",
        "split_hosts": ["https://data.example.org"],
    }
    strategy = kind(**settings)
    assert {name: getattr(strategy, name) for name in settings} == settings
