"""The engine, seen from both of its ends: what a server is asked, and what a caller gets."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import gzip
import itertools
import logging
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import shake_128
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import brotli
import pytest
import trustme
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    AioDownloadError,
    Attempted,
    BackOff,
    BodyError,
    CodingError,
    ConfigurationError,
    DisconnectError,
    DownloadStrategy,
    HomeError,
    InvalidURLError,
    Lenient,
    PathError,
    RedirectError,
    RequestStrategy,
    RetryAfterError,
    RetryScheduled,
    Settled,
    Status,
    StatusError,
    StrategyError,
    TooLargeError,
    UsageError,
    Verified,
)
from aiodownload.testing import (
    Connection,
    FaultServer,
    Request,
    Script,
    chunked,
    cut,
    drop,
    each_path,
    ok,
    redirect,
    stall,
    status,
)

Make = Callable[..., AioDownload]
Files = Callable[[], dict[str, bytes]]

BODY = shake_128(b"engine").digest(100_000)
BIG = shake_128(b"big").digest(3 << 20)


def busy(seconds: float, body: bytes = b"body") -> Script:
    """The body after some seconds of work."""

    async def script(request: Request, connection: Connection) -> bool:
        await asyncio.sleep(seconds)
        return await ok(body)(request, connection)

    return script


def urls_of(server: FaultServer, count: int, script: Script | None = None) -> list[str]:
    """So many URLs, all with the same answer."""
    if script is not None:
        server.default = script
    return [server.url(f"/{number}") for number in range(count)]


def tasks() -> set[asyncio.Task[Any]]:
    """The other tasks of this loop."""
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[operator]


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """A short real wait with a bound."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


# Limits, as the server sees them


@pytest.mark.parametrize("concurrent", [1, 2, 5])
def test_concurrent_is_what_the_server_sees(concurrent: int, server: FaultServer, quick: Make) -> None:
    """Never more requests at once than `concurrent`, and so many when there is enough to do."""
    bundles = aiodownload.swarm(urls_of(server, 5 * concurrent, busy(0.03)), quick(Quick(concurrent=concurrent)))
    assert all(bundle.ok for bundle in bundles)
    assert server.most_active == concurrent


def test_requests_start_a_quarter_second_apart(server: FaultServer, home: Path) -> None:
    """Lenient, the default: two at once, and no request arrives before its turn, redirects included."""
    server.on("/0", redirect("/there"))
    server.on("/there", ok())
    urls = urls_of(server, 4, ok())
    began = time.monotonic()
    bundles = aiodownload.swarm(urls, AioDownload(download_strategy=DownloadStrategy(home=home)))
    assert all(bundle.ok for bundle in bundles)
    arrived = [request.at - began for request in server.requests]
    assert len(arrived) == 5
    assert all(at >= 0.25 * turn for turn, at in enumerate(arrived))
    assert arrived[-1] < 3


def test_redirects_in_a_row_are_spaced(server: FaultServer, home: Path) -> None:
    """Each hop of one bundle counts as a request start."""
    server.on("/a", redirect("/b"))
    server.on("/b", redirect("/c"))
    server.on("/c", ok())
    began = time.monotonic()
    assert aiodownload.one(server.url("/a"), AioDownload(download_strategy=DownloadStrategy(home=home))).ok
    assert [request.target for request in server.requests] == ["/a", "/b", "/c"]
    assert all(request.at - began >= 0.25 * turn for turn, request in enumerate(server.requests))


def test_retries_are_spaced(server: FaultServer, quick: Make) -> None:
    """A retry counts as a request start as well."""

    class Spaced(Quick):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.1 if bundle.attempts == 0 else 0

    began = time.monotonic()
    urls = [server.on(f"/{number}", status(503), ok()) for number in range(3)]
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, quick(Spaced(concurrent=3))))
    assert len(server.requests) == 6
    assert all(request.at - began >= 0.1 * turn for turn, request in enumerate(server.requests))


async def test_calls_side_by_side_share_the_limits(server: FaultServer, quick: Make) -> None:
    """Several calls on one entered object have one schedule, and each gets its own bundles."""
    urls = urls_of(server, 24, busy(0.03))
    async with quick(Quick(concurrent=2)) as download:

        async def iterated() -> list[str]:
            return [bundle.url async for bundle in download.each(urls[16:])]

        first, second, third = await asyncio.gather(download.swarm(urls[:8]), download.swarm(urls[8:16]), iterated())
    assert [bundle.url for bundle in first + second] == urls[:16]
    assert sorted(third) == sorted(urls[16:])
    assert server.most_active == 2


async def test_spacing_is_shared_by_calls(server: FaultServer, home: Path) -> None:
    """The delay between requests is kept over calls side by side and one after another."""
    server.default = ok()
    began = time.monotonic()
    async with AioDownload(download_strategy=DownloadStrategy(home=home)) as download:
        await asyncio.gather(download.one(server.url("/0")), download.one(server.url("/1")))
        await download.one(server.url("/2"))
    assert all(request.at - began >= 0.25 * turn for turn, request in enumerate(server.requests))


# Retries


class Recorded:
    """Mixed into a strategy: notes what it was asked and answered, and waits next to nothing."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.answers: list[tuple[int, float]] = []

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        answer: float = super().get_sleep_time(bundle)  # type: ignore[misc]
        self.answers.append((bundle.attempts, answer))
        return answer / 1000


class RecordedLenient(Recorded, Lenient): ...


class RecordedBackOff(Recorded, BackOff): ...


@pytest.mark.parametrize("code", [400, 401, 403, 410, 429, 500, 503])
def test_lenient_tries_five_times_a_minute_apart(code: int, server: FaultServer, quick: Make) -> None:
    """Lenient: 0.25 s before the first, then 60 s before each of four more tries, whatever the status."""
    strategy = RecordedLenient()
    bundle = aiodownload.one(server.on("/f", status(code)), quick(strategy))
    assert isinstance(bundle.error, StatusError)
    assert str(code) in str(bundle.error)
    assert (bundle.http_status, bundle.attempts, len(server.requests)) == (code, 5, 5)
    assert strategy.answers == [(0, 0.25), (1, 60), (2, 60), (3, 60), (4, 60)]


def test_lenient_believes_a_404(server: FaultServer, quick: Make) -> None:
    """Lenient: a 404 is asked for once."""
    strategy = RecordedLenient()
    bundle = aiodownload.one(server.on("/f", status(404)), quick(strategy))
    assert (bundle.http_status, bundle.attempts, len(server.requests)) == (404, 1, 1)
    assert strategy.answers == [(0, 0.25)]


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 522])
def test_back_off_really_retries(code: int, server: FaultServer, files: Files, quick: Make) -> None:
    """BackOff: waits that double, and the file in the end."""
    strategy = RecordedBackOff()
    bundle = aiodownload.one(server.on("/f", *[status(code)] * 8, ok(BODY)), quick(strategy))
    assert bundle.ok
    assert bundle.attempts == 9
    assert strategy.answers == [(0, 0.25), (1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 32), (8, 60)]
    assert files() == {"f": BODY}


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451, 501])
def test_back_off_believes_what_will_not_change(code: int, server: FaultServer, quick: Make) -> None:
    """BackOff: what says "no" rather than "later" is asked for once."""
    bundle = aiodownload.one(server.on("/f", status(code)), quick(RecordedBackOff()))
    assert (bundle.http_status, bundle.attempts, len(server.requests)) == (code, 1, 1)


@pytest.mark.parametrize("most", [0, 1])
def test_no_and_one_attempt_both_mean_one(most: int, server: FaultServer, quick: Make) -> None:
    """`max_attempts` is the total number of tries; the first is always made."""
    bundle = aiodownload.one(server.on("/f", status(503)), quick(Quick(max_attempts=most)))
    assert (bundle.attempts, len(server.requests)) == (1, 1)


def test_base_strategy_retries_no_status(server: FaultServer, quick: Make) -> None:
    """RequestStrategy as it is says no to every unsuccessful response, and yes to transient errors."""
    plain = RequestStrategy(max_attempts=3)
    refused = aiodownload.one(server.on("/refused", status(503)), quick(plain))
    broken = aiodownload.one(server.on("/broken", cut(BODY, 10), ok(BODY)), quick(plain))
    assert (refused.ok, refused.attempts) == (False, 1)
    assert (broken.ok, broken.attempts) == (True, 2)


def test_waiting_bundle_holds_no_slot(server: FaultServer, quick: Make) -> None:
    """One slot: while the first bundle waits for its second try, all others are fetched."""

    class Patient(Quick):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.6 if bundle.attempts else 0

    first = server.on("/first", status(503), ok())
    urls = [first, *urls_of(server, 6, ok())]
    bundles = aiodownload.swarm(urls, quick(Patient(concurrent=1)))
    assert all(bundle.ok for bundle in bundles)
    assert [request.target for request in server.requests] == ["/first", "/0", "/1", "/2", "/3", "/4", "/5", "/first"]
    assert server.requests[-1].at - server.requests[0].at >= 0.6


@pytest.mark.parametrize("field", ["7200", "9" * 300, "a date"])
def test_too_long_retry_after_fails_at_once(field: str, server: FaultServer, quick: Make) -> None:
    """Beyond `max_retry_after` a bundle fails without a wait, and the error says why."""
    if field == "a date":  # two hours from now, and now is when this test runs
        field = email.utils.formatdate(time.time() + 7200, usegmt=True)
    bundle = aiodownload.one(server.on("/f", status(503, Retry_After=field)), quick(Quick(max_retry_after=3600)))
    assert isinstance(bundle.error, RetryAfterError)
    assert bundle.error.retry_after > 7000
    assert bundle.error.http_status == 503
    assert "max_retry_after is 3600 s" in str(bundle.error)
    assert (bundle.attempts, len(server.requests)) == (1, 1)
    assert bundle.elapsed < 5


def test_retry_after_of_a_believed_refusal_changes_nothing(server: FaultServer, quick: Make) -> None:
    """Where the strategy would not try again, Retry-After is not what the bundle fails of."""
    bundle = aiodownload.one(server.on("/f", status(404, Retry_After="7200")), quick())
    assert type(bundle.error) is StatusError


@pytest.mark.parametrize("field", ["-1", "soon", "", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_useless_retry_after_is_no_wait(field: str, server: FaultServer, quick: Make) -> None:
    """Garbage, negative numbers and dates that have passed do not hold a bundle up."""
    bundle = aiodownload.one(server.on("/f", status(503, Retry_After=field), ok()), quick())
    assert bundle.ok
    assert bundle.elapsed < 0.9


def test_retry_after_does_not_shorten_the_own_wait(server: FaultServer, quick: Make) -> None:
    """The longer of get_sleep_time and Retry-After counts."""

    class Patient(Quick):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.3 if bundle.attempts else 0

    bundle = aiodownload.one(server.on("/f", status(503, Retry_After="0"), ok()), quick(Patient()))
    assert bundle.ok
    first, second = server.requests
    assert second.at - first.at >= 0.3


def test_own_assert_response_and_retry(server: FaultServer, quick: Make) -> None:
    """A strategy may refuse a 200 and say for how long it goes on."""

    class Picky(Quick):
        def assert_response(self, response: aiohttp.ClientResponse) -> None:
            super().assert_response(response)
            if response.headers.get("X-Ready") != "yes":
                raise AssertionError("not ready")

        def retry(self, response: aiohttp.ClientResponse) -> bool:
            return response.status == 200

    good = aiodownload.one(server.on("/good", ok(b"no"), ok(b"yes", X_Ready="yes")), quick(Picky()))
    bad = aiodownload.one(server.on("/bad", ok(b"no")), quick(Picky(max_attempts=2)))
    assert (good.ok, good.attempts, good.size) == (True, 2, 3)
    assert (bad.ok, bad.attempts, str(bad.error)) == (False, 2, "not ready")


def test_redirect_may_be_judged_only_at_its_end(server: FaultServer, quick: Make) -> None:
    """assert_response sees the last answer, not the redirects on the way."""
    seen = []

    class Watching(Quick):
        def assert_response(self, response: aiohttp.ClientResponse) -> None:
            seen.append(response.status)

    server.on("/b", ok())
    assert aiodownload.one(server.on("/a", redirect("/b")), quick(Watching())).ok
    assert seen == [200]


# Reading the input


class Counted:
    """An iterable that counts how many of its items were taken."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.read = 0
        self.threads: set[str] = set()

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.read += 1
            self.threads.add(threading.current_thread().name)
            yield item


@pytest.mark.parametrize("concurrent", [1, 3])
async def test_input_is_read_a_little_ahead(concurrent: int, server: FaultServer, quick: Make) -> None:
    """Never more than 4 x concurrent items are read and not yet handed out."""
    given = Counted(urls_of(server, 20 * concurrent, ok()))
    taken, farthest = 0, 0
    async with quick(Quick(concurrent=concurrent)) as download:
        async for bundle in download.each(given):
            farthest = max(farthest, given.read - taken)
            taken += 1
            assert bundle.ok
    assert taken == given.read == 20 * concurrent
    assert concurrent <= farthest <= 4 * concurrent


def test_input_waits_for_a_slow_consumer(server: FaultServer, quick: Make) -> None:
    """A consumer that does not ask for more stops the reading and the requests: back-pressure."""
    given = Counted(urls_of(server, 200, ok()))
    with aiodownload.each(given, download=quick(Quick(concurrent=2))) as bundles:
        next(bundles)
        settled = threading.Event()
        settled.wait(0.3)
        assert given.read <= 1 + 4 * 2
        assert len(server.requests) <= 1 + 4 * 2
        before = given.read
        for _ in range(8):
            next(bundles)
        settled.wait(0.1)
        assert before < given.read <= 9 + 4 * 2
    settled.wait(0.05)
    assert given.read <= 9 + 4 * 2


async def test_async_input_waits_for_a_slow_consumer(server: FaultServer, quick: Make) -> None:
    """The same inside an event loop."""
    given = Counted(urls_of(server, 200, ok()))
    async with quick(Quick(concurrent=2)) as download:
        bundles = download.each(given)
        await anext(bundles)
        await asyncio.sleep(0.2)
        assert given.read <= 1 + 4 * 2


def test_facade_reads_the_input_in_one_thread_off_the_loop(server: FaultServer, quick: Make) -> None:
    """swarm reads where it was called, each in one thread of its own, and neither on the event loop."""
    for_swarm, for_each = Counted(urls_of(server, 30, ok())), Counted(urls_of(server, 30, ok()))
    aiodownload.swarm(for_swarm, quick())
    assert len(list(aiodownload.each(for_each, download=quick()))) == 30
    assert for_swarm.threads == {threading.current_thread().name}
    assert len(for_each.threads) == 1
    assert "aiodownload" not in for_each.threads


class Drawn(list[str]):
    """A list that is iterated in a way of its own, and notes in which threads."""

    threads: ClassVar[set[str]] = set()

    def __iter__(self) -> Iterator[str]:
        for item in super().__iter__():
            self.threads.add(threading.current_thread().name)
            yield item


def test_a_list_that_runs_code_of_its_own_is_read_like_any_iterable(server: FaultServer, quick: Make) -> None:
    """Only what is exactly a list or a tuple, whose reading runs none of the caller's code, is read by the loop."""
    drawn = Drawn(urls_of(server, 5, ok()))
    assert [bundle.url for bundle in aiodownload.swarm(drawn, quick())] == list(drawn)
    assert Drawn.threads == {threading.current_thread().name}


class Sleepy(Quick):
    """Waits long before any second try."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 30 if bundle.attempts else 0


async def test_input_is_read_on_while_everything_waits(server: FaultServer, quick: Make) -> None:
    """When all that was read waits for a retry and slots are free, the look-ahead grows until something can go."""
    urls = [server.on(f"/{number}", status(500)) for number in range(30)] + [server.on("/good", ok())]
    given = Counted(urls)
    async with quick(Sleepy(concurrent=2)) as download:
        bundles = download.each(given)
        async with asyncio.timeout(5):
            assert (await anext(bundles)).url == urls[-1]
    assert given.read == 31


async def test_input_is_not_read_on_while_slots_are_taken(server: FaultServer, quick: Make) -> None:
    """Bundles that wait for a retry do not let the reading run ahead when all slots are busy."""
    stuck = [server.on(f"/stuck{number}", stall()) for number in range(2)]
    waiting = [server.on(f"/{number}", status(500)) for number in range(100)]
    given = Counted(waiting[:2] + stuck + waiting[2:])
    async with quick(Sleepy(concurrent=2, timeout=30)) as download:
        download_each = download.each(given)
        await until(lambda: server.active == 2 and len(server.requests) == 4)
        await asyncio.sleep(0.1)
        assert given.read <= 4 * 2
        await download_each.aclose()


async def test_reading_on_has_an_end(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, no more than a fixed number of bundles is held."""
    monkeypatch.setattr("aiodownload.run.FARTHEST", 50)
    given = Counted(urls_of(server, 200, status(500)))
    async with quick(Sleepy(concurrent=2)) as download:
        bundles = download.each(given)
        await until(lambda: len(server.requests) == 50)
        await asyncio.sleep(0.1)
        assert given.read == len(server.requests) == 50
        await bundles.aclose()


def test_swarm_keeps_the_order_of_the_input(server: FaultServer, quick: Make) -> None:
    """However the answers come, the list has the order of the input, failures in their places."""
    urls = [
        server.on(f"/{number}", busy(0.01 * (7 - number % 8)) if number % 5 else status(404)) for number in range(24)
    ]
    bundles = aiodownload.swarm(iter(urls), quick(Quick(concurrent=8)))
    assert [bundle.url for bundle in bundles] == urls
    assert [bundle.ok for bundle in bundles] == [number % 5 != 0 for number in range(24)]


async def test_nothing_in_nothing_out(quick: Make, home: Path) -> None:
    """An empty input is an empty list, without a home being made."""
    async with quick() as download:
        assert await download.swarm([]) == []
        assert [bundle async for bundle in download.each([])] == []
    assert await asyncio.to_thread(aiodownload.swarm, [], quick()) == []
    assert await asyncio.to_thread(list, aiodownload.each((), download=quick())) == []
    assert not home.exists()


def test_what_is_no_list_of_urls(quick: Make) -> None:
    """A single URL, or nothing iterable, is the caller's mistake and said at once."""
    for wrong in ("http://127.0.0.1/", b"x", 5, None, AioDownloadBundle("http://127.0.0.1/")):
        with pytest.raises(ConfigurationError):
            aiodownload.swarm(wrong, quick())  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            aiodownload.each(wrong, download=quick())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["no url", "ftp://127.0.0.1/f", "http://", "", "http://127.0.0.1:99999/", "/etc/passwd"]
)
def test_what_is_no_url_is_a_failed_bundle(text: str, server: FaultServer, quick: Make) -> None:
    """A string that is no http(s) URL fails its bundle, without a try, and nobody else's."""
    bad, good = aiodownload.swarm([text, server.on("/good", ok())], quick())
    assert (bad.url, bad.status, bad.attempts) == (text, Status.FAILED, 0)
    assert isinstance(bad.error, InvalidURLError)
    assert good.ok


def test_iterable_that_raises_keeps_what_was_in_flight(server: FaultServer, files: Files, quick: Make) -> None:
    """swarm: what was read is settled, then the caller's own exception comes out and carries it."""

    def broken() -> Iterator[str]:
        yield from urls_of(server, 5, busy(0.05))
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more") as caught:
        aiodownload.swarm(broken(), quick())
    assert [bundle.ok for bundle in caught.value.settled] == [True] * 5  # type: ignore[attr-defined]
    assert len(files()) == 5


def test_each_hands_out_all_before_the_iterables_exception(server: FaultServer, quick: Make) -> None:
    """each: the bundles first, then the exception."""

    def broken() -> Iterator[str]:
        yield from urls_of(server, 5, busy(0.05))
        raise LookupError("no more")

    bundles = aiodownload.each(broken(), download=quick())
    assert [next(bundles).ok for _ in range(5)] == [True] * 5
    with pytest.raises(LookupError, match="no more"):
        next(bundles)
    with pytest.raises(StopIteration):
        next(bundles)


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_iterable_that_raises_inside_a_loop(asynchronous: bool, server: FaultServer, quick: Make) -> None:
    """The methods of AioDownload do the same, for plain and for async iterables."""
    urls = urls_of(server, 5, busy(0.02))

    def plain() -> Iterator[str]:
        yield from urls
        raise LookupError("no more")

    async def spread() -> AsyncIterator[str]:
        for url in urls:
            yield url
        raise LookupError("no more")

    source: Callable[[], Any] = spread if asynchronous else plain
    async with quick() as download:
        with pytest.raises(LookupError, match="no more") as caught:
            await download.swarm(source())
        assert [bundle.ok for bundle in caught.value.settled] == [True] * 5  # type: ignore[attr-defined]
        results = download.each(source())
        assert [(await anext(results)).ok for _ in range(5)] == [True] * 5
        with pytest.raises(LookupError, match="no more"):
            await anext(results)


async def test_async_iterables(server: FaultServer, quick: Make) -> None:
    """swarm and each take async iterables, also slow ones, and the facade says where to take them."""
    urls = urls_of(server, 12, ok())

    async def spread() -> AsyncIterator[str]:
        for url in urls:
            await asyncio.sleep(0.001)
            yield url

    async with quick() as download:
        assert [bundle.url for bundle in await download.swarm(spread())] == urls
        assert {bundle.url async for bundle in download.each(spread())} == set(urls)
    with pytest.raises(UsageError, match="async with"):
        aiodownload.swarm(spread(), quick())  # type: ignore[arg-type]


def test_url_map_and_info(server: FaultServer, quick: Make) -> None:
    """The item becomes the bundle's info, unless it is the URL or the bundle itself, or there is an info already."""
    server.default = ok()
    rows = [{"url": server.url("/0")}, {"url": server.url("/1")}]
    by_url = {bundle.url: bundle.info for bundle in aiodownload.each(rows, lambda row: row["url"], quick())}
    assert by_url == {row["url"]: row for row in rows}

    def as_bundle(row: dict[str, str]) -> AioDownloadBundle:
        return AioDownloadBundle(row["url"], info="own" if row["url"].endswith("0") else None)

    infos = {bundle.url: bundle.info for bundle in aiodownload.each(rows, as_bundle, quick())}
    assert infos == {rows[0]["url"]: "own", rows[1]["url"]: rows[1]}

    plain = AioDownloadBundle(server.url("/2"))
    bundles = list(aiodownload.each([server.url("/3"), plain], download=quick()))
    assert [bundle.info for bundle in bundles] == [None, None]
    assert plain in bundles


def test_url_map_that_raises_is_the_callers_exception(server: FaultServer, quick: Make) -> None:
    """A bug in url_map comes out like one of the iterable, after what was in flight."""
    bundles = aiodownload.each(urls_of(server, 3, ok()), lambda url: url if url[-1] != "2" else {}["no"], quick())
    assert [next(bundles).ok for _ in range(2)] == [True, True]
    with pytest.raises(KeyError):
        next(bundles)


# The same again


def test_duplicates_are_fetched_once_and_settled_each(server: FaultServer, files: Files, quick: Make) -> None:
    """The same URL many times, beside itself and far apart, is one request, and every bundle has the outcome."""
    url = server.on("/same", busy(0.05, BODY))
    others = urls_of(server, 40, ok())
    bundles = aiodownload.swarm([url, url, url, *others, url, url], quick(Quick(concurrent=4)))
    same = [bundle for bundle in bundles if bundle.url == url]
    assert len({id(bundle) for bundle in same}) == len(same) == 5
    assert len(server.asked("/same")) == 1
    for bundle in same:
        assert (bundle.status, bundle.size, bundle.http_status) == (Status.DONE, len(BODY), 200)
        assert (bundle.file_path, bundle.attempts, bundle.verified) == (same[0].file_path, 1, Verified.LENGTH)
    assert files()["same"] == BODY
    assert len(files()) == 41


def test_duplicates_of_a_failure_fail_each(server: FaultServer, quick: Make) -> None:
    """Duplicates share the failure as well: asked for once, and on_fail is called for each of them."""
    told = []

    class Telling(DownloadStrategy):
        async def on_fail(self, bundle: AioDownloadBundle) -> None:
            told.append(bundle)

    url = server.on("/bad", status(404))
    strategy = Telling(home=quick().download_strategy.home)
    bundles = aiodownload.swarm([url, url, *urls_of(server, 30, ok()), url], quick(download=strategy))
    bad = [bundle for bundle in bundles if bundle.url == url]
    assert [bundle.status for bundle in bad] == [Status.FAILED] * 3
    assert [type(bundle.error) for bundle in bad] == [StatusError] * 3
    assert len(server.asked("/bad")) == 1
    assert sorted(map(id, told)) == sorted(map(id, bad))


@pytest.mark.parametrize("between", [0, 30])
def test_same_bundle_object_twice(between: int, server: FaultServer, quick: Make) -> None:
    """One bundle object at two places of the input is fetched once and handed out twice."""
    bundle = AioDownloadBundle(server.on("/same", ok(BODY)))
    bundles = aiodownload.swarm([bundle, *urls_of(server, between, ok()), bundle], quick())
    assert bundles[0] is bundles[-1] is bundle
    assert (bundle.status, bundle.attempts, bundle.size) == (Status.DONE, 1, len(BODY))
    assert len(server.asked("/same")) == 1


def test_same_failing_bundle_object_twice(server: FaultServer, quick: Make) -> None:
    """A failing bundle object at two places fails once for each place, with one request."""
    bundle = AioDownloadBundle(server.on("/bad", status(404)))
    assert [one.status for one in aiodownload.swarm([bundle, bundle], quick())] == [Status.FAILED] * 2
    assert len(server.requests) == 1


def test_bundle_given_again_starts_afresh(server: FaultServer, quick: Make) -> None:
    """A settled bundle in another run is asked for again, and nothing of the first outcome stays."""
    bundle = AioDownloadBundle(server.on("/f", status(404), ok(BODY)))
    aiodownload.one(bundle, quick())
    assert (bundle.ok, bundle.http_status) == (False, 404)
    aiodownload.one(bundle, quick())
    assert (bundle.ok, bundle.http_status, bundle.error, bundle.attempts) == (True, 200, None, 1)


def test_other_headers_or_params_are_another_request(server: FaultServer, quick: Make) -> None:
    """The same URL with other headers or params is no duplicate: each is asked for and has its own file."""

    def echo(request: Request) -> Script:
        return ok(request.headers.get("x-who", "").encode() + request.body)

    server.default = each_path(echo)
    url = server.url("/f")
    bundles = aiodownload.swarm(
        [
            AioDownloadBundle(url),
            AioDownloadBundle(url, headers={"X-Who": "me"}),
            AioDownloadBundle(url, params={"a": "1"}),
            AioDownloadBundle(url, params={"a": "2"}),
            AioDownloadBundle(url, params={"a": "2"}),
        ],
        quick(),
    )
    assert len(server.requests) == 4
    assert [Path(str(bundle.file_path)).read_bytes() for bundle in bundles] == [b"", b"me", b"a=1", b"a=2", b"a=2"]


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("order", [("/a", "/a/b"), ("/a/b", "/a")])
def test_file_beside_folder_of_the_same_name(
    order: tuple[str, str], runs: int, server: FaultServer, home: Path, quick: Make
) -> None:
    """/a and /a/b both get files, in either order, in one run and in two; and both are found again afterwards."""
    urls = [server.on(path, ok(path.encode())) for path in order]
    turns = [urls] if runs == 1 else [urls[:1], urls[1:]]
    bundles = [bundle for turn in turns for bundle in aiodownload.swarm(turn, quick())]
    assert [bundle.ok for bundle in bundles] == [True, True]
    paths = [str(bundle.file_path) for bundle in bundles]
    assert [Path(path).read_bytes().decode() for path in paths] == list(order)
    assert Path(paths[0]) == home / f"127.0.0.1+{server.port}" / order[0][1:]

    again = aiodownload.swarm(reversed(urls), quick(download=DownloadStrategy(home=home, skip_cached=True)))
    assert [bundle.status for bundle in again] == [Status.CACHED] * 2
    assert [bundle.file_path for bundle in reversed(again)] == paths
    assert len(server.requests) == 2


def test_skip_cached_takes_a_file_as_it_is(server: FaultServer, home: Path, quick: Make) -> None:
    """An existing file is a cache hit without a request; a missing one is fetched; without the setting, both are."""
    urls = urls_of(server, 2, ok(BODY))
    there = Path(DownloadStrategy(home=home).get_file_path(AioDownloadBundle(urls[0])))
    there.parent.mkdir(parents=True)
    there.write_bytes(b"from before")
    hit, miss = aiodownload.swarm(urls, quick(download=DownloadStrategy(home=home, skip_cached=True)))
    assert (hit.status, hit.ok, hit.size, hit.attempts) == (Status.CACHED, True, 11, 0)
    assert (miss.status, miss.size) == (Status.DONE, len(BODY))
    assert [request.target for request in server.requests] == ["/1"]
    assert there.read_bytes() == b"from before"
    assert aiodownload.one(urls[0], quick()).status is Status.DONE
    assert there.read_bytes() == BODY


# Leaving early


async def test_early_break_leaves_nothing(server: FaultServer, files: Files, quick: Make) -> None:
    """break, then leaving the context: no task, no partial file, no request afterwards."""
    first = server.on("/first", ok(BODY))
    urls = [first] + [server.on(f"/big{number}", stall(BIG, 2 << 20)) for number in range(8)]
    async with quick(Quick(concurrent=3, timeout=30)) as download:
        async for bundle in download.each(urls):
            assert bundle.url == first
            await until(lambda: any(".part" in name for name in files()))
            break
    assert tasks() == set()
    assert files() == {"first": BODY}
    asked = len(server.requests)
    await asyncio.sleep(0.05)
    assert len(server.requests) == asked


async def test_aclose_leaves_nothing(server: FaultServer, files: Files, quick: Make) -> None:
    """aclose() waits until nothing of the iterator is left, and the AioDownload can be used on."""
    urls = [server.on("/first", ok(BODY))] + [server.on(f"/big{number}", stall(BIG, 2 << 20)) for number in range(8)]
    async with quick(Quick(concurrent=3, timeout=30)) as download:
        results = download.each(urls)
        assert (await anext(results)).ok
        await until(lambda: any(".part" in name for name in files()))
        await results.aclose()
        await results.aclose()
        assert files() == {"first": BODY}
        assert [task for task in tasks() if "aiodownload-run" in task.get_name()] == []
        assert (await download.one(server.on("/next", ok()))).ok
    assert tasks() == set()


async def test_cancelled_swarm_leaves_nothing(server: FaultServer, files: Files, quick: Make) -> None:
    """Cancelling the task that awaits swarm cancels its requests, and those of no other call."""
    urls = [server.on(f"/big{number}", stall(BIG, 2 << 20)) for number in range(4)]
    async with quick(Quick(concurrent=3, timeout=30)) as download:
        swarm = asyncio.create_task(download.swarm(urls))
        await until(lambda: any(".part" in name for name in files()))
        swarm.cancel()
        with pytest.raises(asyncio.CancelledError):
            await swarm
        assert files() == {}
        assert (await download.one(server.on("/next", ok()))).ok
    assert tasks() == set()


async def test_exception_in_the_consumer_leaves_nothing(server: FaultServer, files: Files, quick: Make) -> None:
    """An exception of the consumer's comes through as it is, and nothing goes on behind it."""
    urls = [server.on("/first", ok(BODY))] + [server.on(f"/big{number}", stall(BIG, 2 << 20)) for number in range(4)]

    async def consume() -> None:
        async with quick(Quick(concurrent=3, timeout=30)) as download:
            async for _ in download.each(urls):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()
    assert tasks() == set()
    assert files() == {"first": BODY}


async def test_call_that_is_left_under_way(server: FaultServer, quick: Make) -> None:
    """Leaving the AioDownload while another task awaits a call on it ends that call with a clear error."""
    server.default = stall()
    async with quick(Quick(timeout=30)) as download:
        swarm = asyncio.create_task(download.swarm(urls_of(server, 3)))
        await until(lambda: server.active == 2)
    with pytest.raises(UsageError, match="left while"):
        await swarm


async def test_not_entered_or_entered_twice(server: FaultServer, quick: Make) -> None:
    """each needs an entered AioDownload, and one is entered once at a time; both are said clearly."""
    download = quick()
    with pytest.raises(UsageError, match="enter"):
        download.each([])
    async with download:
        with pytest.raises(UsageError, match="entered already"):
            await download.__aenter__()
        assert (await download.one(server.on("/f", ok()))).ok


# Bugs


async def bug_in_coroutine(*_: Any) -> Any:
    raise ZeroDivisionError("a bug")


def bug_in_function(*_: Any) -> Any:
    raise ZeroDivisionError("a bug")


def broken_strategies(hook: str, home: Path) -> tuple[RequestStrategy, DownloadStrategy]:
    """Strategies that work but for one hook, which raises for a URL that ends in /bad."""
    asking, keeping = Quick(concurrent=1, max_attempts=2), DownloadStrategy(home=home)
    owner: Any = keeping if hasattr(keeping, hook) else asking
    right = getattr(owner, hook)
    coroutine = hook.startswith("on_")

    def named(*arguments: Any) -> str:
        return " ".join(str(getattr(argument, "url", "")) for argument in arguments)

    def wrong(self: Any, *arguments: Any) -> Any:
        if hook == "retry_error" or named(*arguments).rstrip().endswith("/bad"):
            return bug_in_coroutine() if coroutine else bug_in_function()
        return right(*arguments)

    owner.__class__ = type("Broken", (type(owner),), {hook: wrong})
    return asking, keeping


HOOKS = {
    "assert_response": ok(),
    "retry": status(503),
    "retry_error": drop(),
    "get_sleep_time": ok(),
    "get_file_path": ok(),
    "on_success": ok(),
    "on_fail": status(404),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_bug_in_a_hook_is_loud(hook: str, server: FaultServer, home: Path) -> None:
    """A bug in any hook stops the run with one StrategyError that names hook and bundle and carries the outcomes."""
    asking, keeping = broken_strategies(hook, home)
    urls = [*urls_of(server, 12, ok()), server.on("/bad", HOOKS[hook]), *urls_of(server, 12)]
    with pytest.raises(StrategyError) as caught:
        aiodownload.swarm(urls, AioDownload(None, keeping, asking))
    error = caught.value
    assert not isinstance(error, BaseExceptionGroup)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.hook == hook
    assert error.bundle is not None
    assert error.bundle.url == server.url("/bad")
    assert "a bug" in str(error)
    assert error.settled
    assert all(bundle.ok for bundle in error.settled)
    assert {bundle.url for bundle in error.settled} <= set(urls[:12])


@pytest.mark.parametrize("hook", HOOKS)
async def test_bug_in_a_hook_inside_a_loop(hook: str, server: FaultServer, home: Path) -> None:
    """The same for the methods, from swarm and from each, and nothing is left."""
    asking, keeping = broken_strategies(hook, home)
    bad = server.on("/bad", HOOKS[hook])
    async with AioDownload(None, keeping, asking) as download:
        with pytest.raises(StrategyError) as caught:
            await download.swarm([bad])
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(StrategyError) as caught:
            async for _ in download.each([bad]):
                pass
        assert caught.value.hook == hook
    assert tasks() == set()


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "get_sleep_time"])
async def test_bug_in_a_hook_of_a_single_try(hook: str, server: FaultServer, home: Path) -> None:
    """The same for request_and_download."""
    asking, keeping = broken_strategies(hook, home)
    bundle = AioDownloadBundle(server.on("/bad", HOOKS[hook]))
    with pytest.raises(StrategyError) as caught:
        await AioDownload(None, keeping, asking).request_and_download(bundle)
    assert caught.value.hook == hook


def test_bug_in_each_of_the_facade(server: FaultServer, home: Path) -> None:
    """each of the facade raises it too; settled holds what was not handed out, and the iterator is over."""
    asking, keeping = broken_strategies("on_success", home)
    urls = [*urls_of(server, 12, ok()), server.on("/bad", ok())]
    bundles = aiodownload.each(urls, download=AioDownload(None, keeping, asking))
    handed_out = [next(bundles)]
    with pytest.raises(StrategyError) as caught:
        handed_out.extend(bundles)
    together = [bundle.url for bundle in [*handed_out, *caught.value.settled]]
    assert len(together) == len(set(together))
    assert set(together) <= set(urls[:12])
    assert all(bundle.ok for bundle in [*handed_out, *caught.value.settled])
    assert list(bundles) == []


def test_retry_that_raises_assertion_error_is_loud(server: FaultServer, home: Path) -> None:
    """Only assert_response may raise AssertionError; an on_success that does has a bug, not a failed download."""

    class Asserting(DownloadStrategy):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            raise AssertionError("the caller's own check")

    with pytest.raises(StrategyError, match="own check") as caught:
        aiodownload.one(server.on("/f", ok()), AioDownload(None, Asserting(home=home), Quick()))
    assert isinstance(caught.value.__cause__, AssertionError)
    assert caught.value.hook == "on_success"


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), "soon", None])
def test_sleep_time_that_is_no_number(answer: Any, server: FaultServer, quick: Make) -> None:
    """get_sleep_time must give a finite number; anything else is a bug."""

    class Wrong(Quick):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return answer  # type: ignore[no-any-return]

    with pytest.raises(StrategyError) as caught:
        aiodownload.one(server.on("/f", ok()), quick(Wrong()))
    assert caught.value.hook == "get_sleep_time"


@pytest.mark.parametrize("answer", [None, 5, b"bytes", Path("x")])
def test_file_path_that_is_no_str(answer: Any, server: FaultServer, home: Path) -> None:
    """get_file_path must give a str; anything else is a bug."""

    class Wrong(DownloadStrategy):
        def get_file_path(self, bundle: AioDownloadBundle) -> str:
            return answer  # type: ignore[no-any-return]

    with pytest.raises(StrategyError) as caught:
        aiodownload.one(server.on("/f", ok()), AioDownload(None, Wrong(home=home), Quick()))
    assert caught.value.hook == "get_file_path"


async def test_unusable_home_is_said(server: FaultServer, tmp_path: Path, quick: Make) -> None:
    """A home that cannot be a folder is a HomeError from every entrance, before any request."""
    (tmp_path / "file").write_bytes(b"in the way")
    download = quick(download=DownloadStrategy(home=tmp_path / "file"))
    url = server.on("/f", ok())
    with pytest.raises(HomeError, match="file"):
        await download.swarm([url])
    with pytest.raises(HomeError):
        await asyncio.to_thread(aiodownload.one, url, download)
    async with download:
        with pytest.raises(HomeError):
            async for _ in download.each([url]):
                pass
    assert server.requests == []
    assert (tmp_path / "file").read_bytes() == b"in the way"


# Observers


class Noting:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_event(self, event: Any) -> None:
        self.events.append(event)


def test_observers_are_told_in_order(server: FaultServer, quick: Make) -> None:
    """Attempted, RetryScheduled, Attempted, Settled; and one Settled for every bundle, whatever its outcome."""
    noting = Noting()
    bundle = aiodownload.one(server.on("/f", status(503), ok()), quick(observers=[noting]))
    about = [event for event in noting.events if isinstance(event, Attempted | RetryScheduled | Settled)]
    assert [type(event) for event in about] == [Attempted, RetryScheduled, Attempted, Settled]
    assert all(event.bundle is bundle for event in about)
    assert about[1].delay == 0
    assert isinstance(about[1].error, StatusError)

    noting.events.clear()
    same = server.url("/f")
    bundles = aiodownload.swarm([same, same, server.url("/missing"), "no url"], quick(observers=[noting]))
    settled = [event.bundle for event in noting.events if isinstance(event, Settled)]
    assert sorted(map(id, settled)) == sorted(map(id, bundles))


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
@pytest.mark.parametrize("noted", [False, True])
def test_observer_that_raises_is_dropped(
    noted: bool,
    error: type[BaseException],
    server: FaultServer,
    quick: Make,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Watching breaks no download: an observer that raises is told nothing more, the log says so, others go on."""
    calls = []

    class Raising:
        def on_event(self, event: Any) -> None:
            if isinstance(event, Settled):
                calls.append(event)
                raise error

    noting = Noting()
    with caplog.at_level(logging.ERROR, "aiodownload"):
        journal = tmp_path / "journal.db" if noted else None
        bundles = aiodownload.swarm(urls_of(server, 3, ok()), quick(observers=[Raising(), noting], journal=journal))
    assert all(bundle.ok for bundle in bundles)
    assert len(calls) == 1
    assert len([event for event in noting.events if isinstance(event, Attempted | Settled)]) == 6
    assert "Raising" in caplog.text


# Single tries, and the entrance of 0.2.5


async def test_request_and_download_is_one_try(server: FaultServer, files: Files, quick: Make) -> None:
    """DONE when the file is there, ATTEMPTED when the strategy would go on, FAILED when not; one request each."""
    outcomes = {"/done": ok(BODY), "/again": status(503), "/failed": status(404), "/broken": cut(BODY, 10)}
    statuses = {}
    async with quick() as download:
        for path, script in outcomes.items():
            bundle = AioDownloadBundle(server.on(path, script))
            assert await download.request_and_download(bundle) is bundle
            assert (bundle.attempts, len(server.asked(path))) == (1, 1)
            statuses[path] = bundle.status
    expected = [Status.DONE, Status.ATTEMPTED, Status.FAILED, Status.ATTEMPTED]
    assert list(statuses.values()) == expected
    assert files() == {"done": BODY}


async def test_request_and_download_of_what_is_no_url(quick: Make) -> None:
    """A text that is no URL fails its bundle here as well; it is no exception."""
    bundle = await quick().request_and_download(AioDownloadBundle("no url"))
    assert bundle.status is Status.FAILED
    assert isinstance(bundle.error, InvalidURLError)


async def test_main_without_entering(server: FaultServer, files: Files, quick: Make) -> None:
    """`await AioDownload(...).main(bundle)` works as in 0.2.5, retries included, and leaves nothing open."""
    bundle = AioDownloadBundle(server.on("/f", status(503), ok(BODY)))
    assert await quick().main(bundle) is bundle
    assert (bundle.status, bundle.attempts) == (Status.DONE, 2)
    assert files() == {"f": BODY}
    assert tasks() == set()


# Bodies


@pytest.mark.parametrize("script", [ok(BODY), chunked(BODY)], ids=["length", "chunked"])
def test_max_bytes(script: Script, server: FaultServer, files: Files, quick: Make, home: Path) -> None:
    """A body of exactly max_bytes is kept; one byte more fails the bundle at the first try and leaves nothing."""
    url = server.on("/f", script)
    small = DownloadStrategy(home=home, max_bytes=len(BODY) - 1, chunk_size=1000)
    bundle = aiodownload.one(url, quick(download=small))
    assert isinstance(bundle.error, TooLargeError)
    assert bundle.error.max_bytes == len(BODY) - 1
    assert bundle.attempts == 1
    assert files() == {}
    assert aiodownload.one(url, quick(download=DownloadStrategy(home=home, max_bytes=len(BODY)))).ok


def test_max_bytes_ends_an_endless_body(server: FaultServer, files: Files, quick: Make, home: Path) -> None:
    """A body without an end is left once it has passed max_bytes."""

    async def endless(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await connection.send(bytes(1 << 16))

    bundle = aiodownload.one(server.on("/f", endless), quick(download=DownloadStrategy(home=home, max_bytes=2_000_000)))
    assert isinstance(bundle.error, TooLargeError)
    assert files() == {}


CODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY[:500]) + gzip.compress(BODY[500:]),
    "deflate": zlib.compress(BODY),
    "br": brotli.compress(BODY),
    "identity": BODY,
    "deflate, gzip": gzip.compress(zlib.compress(BODY)),
}


@pytest.mark.parametrize("framing", [ok, chunked], ids=["length", "chunked"])
@pytest.mark.parametrize("coding", CODED)
def test_encoded_body_is_decoded(
    coding: str, framing: Callable[..., Script], server: FaultServer, files: Files, quick: Make
) -> None:
    """A coding that nobody asked for is taken off, in one piece or many."""
    bundle = aiodownload.one(server.on("/page.html", framing(CODED[coding], Content_Encoding=coding)), quick())
    assert bundle.ok
    assert bundle.size == len(BODY)
    assert files() == {"page.html": BODY}


def test_encoded_body_in_small_chunks(server: FaultServer, files: Files, home: Path) -> None:
    """chunk_size has no influence on what comes out."""
    url = server.on("/f", ok(CODED["gzip"], Content_Encoding="gzip"))
    assert aiodownload.one(url, AioDownload(None, DownloadStrategy(1009, home), Quick())).ok
    assert files() == {"f": BODY}


@pytest.mark.parametrize(("name", "kind"), [("/a.tar.gz", "text/plain"), ("/a", "application/gzip"), ("/a.zip", "")])
def test_compressed_file_is_kept_as_sent(name: str, kind: str, server: FaultServer, files: Files, quick: Make) -> None:
    """A file that its name or type calls compressed stays so, though the server names a coding."""
    packed = CODED["gzip"]
    bundle = aiodownload.one(server.on(name, ok(packed, Content_Encoding="gzip", Content_Type=kind)), quick())
    assert bundle.ok
    assert files() == {name[1:]: packed}


@pytest.mark.parametrize(
    ("coding", "body", "attempts"),
    [("lzma", BODY, 1), ("gzip", BODY, 2), ("gzip, gzip, gzip", BODY, 1), ("br", CODED["br"][:-3], 2)],
    ids=["unknown", "no gzip", "thrice", "cut br"],
)
def test_coding_that_cannot_be_taken_off(
    coding: str, body: bytes, attempts: int, server: FaultServer, files: Files, quick: Make
) -> None:
    """An unknown coding fails at once; a broken body may be better the next time, and fails in the end."""
    url = server.on("/f", ok(body, Content_Encoding=coding))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=2)))
    assert isinstance(bundle.error, CodingError)
    assert bundle.attempts == attempts
    assert files() == {}


# on_success of one's own


def as_json(home: Path) -> tuple[DownloadStrategy, dict[str, Any]]:
    kept: dict[str, Any] = {}

    class Json(DownloadStrategy):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            kept[bundle.url] = await response.json()

    return Json(home=home), kept


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("identity", b'{"a": [1, 2]}'),
        ("gzip", gzip.compress(b'{"a": [1, 2]}')),
        ("br", brotli.compress(b'{"a": [1, 2]}')),
        ("deflate", zlib.compress(b'{"a": [1, 2]}')),
    ],
    ids=["identity", "gzip", "br", "deflate"],
)
def test_override_reads_json(coding: str, body: bytes, server: FaultServer, home: Path, quick: Make) -> None:
    """An on_success may take the response as it likes and write nothing; a coding is taken off for it."""
    strategy, kept = as_json(home)
    url = server.on("/f", ok(body, Content_Encoding=coding, Content_Type="application/json"))
    bundle = aiodownload.one(url, quick(download=strategy))
    assert bundle.ok
    assert kept == {url: {"a": [1, 2]}}
    assert not home.exists()


@pytest.mark.parametrize(
    "script",
    [
        ok(gzip.compress(b'{"a": [1, 2]}')[:-6], Content_Encoding="gzip", Content_Type="application/json"),
        cut(b'{"a": [1, 2]}', 5),
        status(206, b'{"a"', Content_Type="application/json"),
        status(204, Content_Type="application/json"),
    ],
    ids=["cut gzip", "cut", "part", "204"],
)
def test_override_gets_whole_plain_200_responses_only(
    script: Script, server: FaultServer, home: Path, quick: Make
) -> None:
    """What is cut, a part, or empty by status is tried again and never kept by an override."""
    strategy, kept = as_json(home)
    good = ok(b'{"b": 1}', Content_Type="application/json")
    url = server.on("/f", script, good)
    bundle = aiodownload.one(url, quick(Quick(max_attempts=2), strategy))
    assert (bundle.ok, bundle.attempts) == (True, 2)
    assert kept == {url: {"b": 1}}


@pytest.mark.parametrize(
    ("raised", "attempts", "settled_as"),
    [
        (AioDownloadError("not what I want"), 1, AioDownloadError),
        (StatusError("not what I want"), 1, StatusError),
        (BodyError("broken"), 3, BodyError),
        (aiohttp.ClientPayloadError("broken"), 3, BodyError),
        (aiohttp.ServerDisconnectedError(), 3, DisconnectError),
        (ConnectionResetError("gone"), 3, DisconnectError),
        (TimeoutError(), 3, aiodownload.StallError),
    ],
)
def test_what_an_override_may_raise(
    raised: Exception, attempts: int, settled_as: type[Exception], server: FaultServer, home: Path, quick: Make
) -> None:
    """Errors of the library fail the bundle; errors of the transport go to retry_error."""

    class Raising(DownloadStrategy):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            raise raised

    bundle = aiodownload.one(server.on("/f", ok()), quick(Quick(max_attempts=3), Raising(home=home)))
    assert bundle.status is Status.FAILED
    assert type(bundle.error) is settled_as
    assert bundle.attempts == len(server.requests) == attempts


def test_override_around_the_librarys_own(server: FaultServer, home: Path, quick: Make) -> None:
    """When super().on_success() returns, the file is there under its final name, whole."""
    seen = {}

    class Around(DownloadStrategy):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            await super().on_success(response, bundle)
            seen[bundle.url] = (await asyncio.to_thread(Path(str(bundle.file_path)).read_bytes), bundle.size)

    plain = server.on("/plain", ok(BODY))
    coded = server.on("/coded", ok(CODED["gzip"], Content_Encoding="gzip"))
    bundles = aiodownload.swarm([plain, coded], quick(download=Around(home=home)))
    assert all(bundle.ok for bundle in bundles)
    assert seen == {plain: (BODY, len(BODY)), coded: (BODY, len(BODY))}


def test_on_fail_is_called_once(server: FaultServer, home: Path, quick: Make) -> None:
    """on_fail comes after the last try, with the error on the bundle, and never for a success."""
    told = []

    class Telling(DownloadStrategy):
        async def on_fail(self, bundle: AioDownloadBundle) -> None:
            told.append((bundle.url, bundle.attempts, type(bundle.error), bundle.status))

    bad, good = server.on("/bad", status(503)), server.on("/good", status(503), ok())
    aiodownload.swarm([bad, good], quick(Quick(max_attempts=2), Telling(home=home)))
    assert told == [(bad, 2, StatusError, Status.FAILED)]


# Paths


def test_explicit_file_path(server: FaultServer, home: Path, tmp_path: Path, quick: Make) -> None:
    """A bundle's own path counts: relative below home, absolute as it is."""
    url = server.on("/f", ok(BODY))
    relative = AioDownloadBundle(url, file_path="deep/er/name.bin")
    absolute = AioDownloadBundle(url, file_path=tmp_path / "elsewhere" / "x")
    aiodownload.swarm([relative, absolute], quick())
    assert relative.file_path == str(home / "deep" / "er" / "name.bin")
    assert (home / "deep" / "er" / "name.bin").read_bytes() == BODY
    assert (tmp_path / "elsewhere" / "x").read_bytes() == BODY


def test_two_urls_cannot_have_one_explicit_path(server: FaultServer, home: Path, quick: Make) -> None:
    """The later of two bundles with the same own path fails; it neither overwrites nor moves aside."""
    first = AioDownloadBundle(server.on("/a", ok(b"a")), file_path="same")
    second = AioDownloadBundle(server.on("/b", ok(b"b")), file_path="same")
    aiodownload.swarm([first, second], quick())
    assert first.ok
    assert isinstance(second.error, PathError)
    assert (home / "same").read_bytes() == b"a"
    assert server.asked("/b") == []


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/../out", "a\\..\\..\\out", "", "nul\0byte", "folder/"])
def test_path_that_leads_out_is_refused(
    path: str, server: FaultServer, tmp_path: Path, quick: Make, home: Path
) -> None:
    """A get_file_path that leads out of home, or to no file, fails its bundle without a request."""

    class Leading(DownloadStrategy):
        def get_file_path(self, bundle: AioDownloadBundle) -> str:
            return path

    bundle = aiodownload.one(server.on("/f", ok()), quick(download=Leading(home=home)))
    assert isinstance(bundle.error, PathError)
    assert server.requests == []
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == []


def test_file_path_is_known_before_the_request_and_kept_on_failure(
    server: FaultServer, home: Path, quick: Make
) -> None:
    """file_path is absolute from the first event on, and stays on a failed bundle."""
    paths = []

    class Watching:
        event_types = (Attempted, Settled)

        def on_event(self, event: Any) -> None:
            paths.append(event.bundle.file_path)

    bundle = aiodownload.one(server.on("/f", status(404)), quick(observers=[Watching()]))
    expected = str(home / f"127.0.0.1+{server.port}" / "f")
    assert paths == [expected, expected]
    assert bundle.file_path == expected


# Forms and redirects


def test_params_arrive_as_a_form(server: FaultServer, files: Files, quick: Make) -> None:
    """params make a POST with an urlencoded body."""
    bundle = AioDownloadBundle(server.on("/form", ok(BODY)), params={"q": "a b&c", "n": 3, "many": ["x", "ü"]})
    aiodownload.one(bundle, quick())
    assert bundle.ok
    (request,) = server.requests
    assert (request.method, request.body) == ("POST", b"q=a+b%26c&n=3&many=x&many=%C3%BC")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert list(files().values()) == [BODY]


def test_post_is_tried_again_if_retry_says_so(server: FaultServer, quick: Make) -> None:
    """A response that the strategy wants to try again is tried again with the same form."""
    bundle = AioDownloadBundle(server.on("/form", status(503), ok()), params={"a": "1"})
    aiodownload.one(bundle, quick())
    assert (bundle.ok, bundle.attempts) == (True, 2)
    assert [request.body for request in server.requests] == [b"a=1", b"a=1"]


@pytest.mark.parametrize(("code", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_method_after_a_redirect(code: int, method: str, server: FaultServer, quick: Make) -> None:
    """301, 302 and 303 turn a POST into a GET without a body; 307 and 308 keep it."""
    server.on("/there", ok(BODY))
    bundle = AioDownloadBundle(server.on("/form", redirect("/there", code)), params={"a": "1"})
    aiodownload.one(bundle, quick())
    assert bundle.ok
    assert bundle.final_url == server.url("/there")
    (request,) = server.asked("/there")
    assert (request.method, request.body) == (method, b"a=1" if method == "POST" else b"")
    assert ("content-type" in request.headers) is (method == "POST")


def test_form_is_not_sent_on_to_another_host(server: FaultServer, other_server: FaultServer, quick: Make) -> None:
    """A 307 to another origin would hand the form to somebody else: the bundle fails."""
    bundle = AioDownloadBundle(server.on("/form", redirect(other_server.url("/x"), 307)), params={"secret": "1"})
    aiodownload.one(bundle, quick())
    assert isinstance(bundle.error, RedirectError)
    assert other_server.requests == []


def assert_not_followed(bundle: AioDownloadBundle, home: Path) -> None:
    assert isinstance(bundle.error, RedirectError)
    assert bundle.attempts == 1
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_redirects_in_a_circle(server: FaultServer, home: Path, quick: Make) -> None:
    """A circle is noticed when it closes."""
    server.on("/b", redirect("/a"))
    assert_not_followed(aiodownload.one(server.on("/a", redirect("/b")), quick()), home)
    assert [request.target for request in server.requests] == ["/a", "/b"]


def test_redirect_to_itself_that_sets_a_cookie(server: FaultServer, quick: Make) -> None:
    """The one circle that has a purpose, a cookie for the second time, is gone through."""
    url = server.on("/a", redirect("/a", Set_Cookie="seen=1"), ok(BODY))
    bundle = aiodownload.one(url, quick())
    assert bundle.ok
    assert len(server.requests) == 2


def test_ten_redirects_are_followed_and_no_more(server: FaultServer, home: Path, quick: Make) -> None:
    """The tenth is followed, the eleventh is not."""
    for number in range(11):
        server.on(f"/{number}", redirect(f"/{number + 1}"))
    server.on("/11", ok(BODY))
    assert_not_followed(aiodownload.one(server.url("/0"), quick()), home)
    assert server.asked("/11") == []
    assert aiodownload.one(server.url("/1"), quick()).ok


def test_endless_redirects_with_cookies_end(server: FaultServer, home: Path, quick: Make) -> None:
    """Cookies do not buy a server more than ten redirects."""
    url = server.on("/a", redirect("/a", Set_Cookie="again=1"))
    download = quick()

    async def bounded() -> AioDownloadBundle:
        async with asyncio.timeout(5):
            return await download.one(url)

    assert_not_followed(asyncio.run(bounded()), home)
    assert len(server.requests) <= 11


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "javascript:1", "http://", "http://a b/", "//"]
)
def test_redirect_to_what_is_no_http(location: str, server: FaultServer, home: Path, quick: Make) -> None:
    """A redirect leads to http and https only."""
    assert_not_followed(aiodownload.one(server.on("/a", redirect(location)), quick()), home)
    assert len(server.requests) == 1


def test_two_locations(server: FaultServer, home: Path, quick: Make) -> None:
    """A redirect with two different targets has none."""

    async def both(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nLocation: /c\r\nContent-Length: 0\r\n\r\n")
        return True

    assert_not_followed(aiodownload.one(server.on("/a", both), quick()), home)


@pytest.fixture
def trusting(authority: trustme.CA) -> Callable[[], aiohttp.ClientSession]:
    """A client factory that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


def test_redirect_from_https_to_http(
    tls_server: FaultServer, server: FaultServer, home: Path, quick: Make, trusting: Callable[[], aiohttp.ClientSession]
) -> None:
    """Nobody leads a download from https to http."""
    url = tls_server.on("/a", redirect(server.on("/b", ok())))
    assert_not_followed(aiodownload.one(url, quick(client=trusting)), home)
    assert server.requests == []


def test_redirect_from_http_to_https(
    tls_server: FaultServer,
    server: FaultServer,
    files: Files,
    quick: Make,
    trusting: Callable[[], aiohttp.ClientSession],
) -> None:
    """The other way is followed, with the trust that the caller's client has."""
    url = server.on("/a", redirect(tls_server.on("/b", ok(BODY))))
    bundle = aiodownload.one(url, quick(client=trusting))
    assert bundle.ok
    assert bundle.final_url == tls_server.url("/b")
    assert files() == {"a": BODY}


def test_results_on_a_bundle(server: FaultServer, quick: Make) -> None:
    """What a settled bundle tells of a download that went well."""
    server.on("/b", chunked(BODY, X_Note="here"))
    bundle = aiodownload.one(server.on("/a", redirect("/b")), quick())
    assert (bundle.status, bundle.ok, bundle.error, bundle.attempts) == (Status.DONE, True, None, 1)
    assert (bundle.http_status, bundle.size, bundle.final_url) == (200, len(BODY), server.url("/b"))
    assert bundle.verified is Verified.FRAMING
    assert bundle.response_headers is not None
    assert bundle.response_headers["x-note"] == "here"
    assert 0 < bundle.elapsed < 5
    expected = f"[URL: {bundle.url}, File Path: {bundle.file_path}, Attempts: 1, Status: File written]"
    assert bundle.status_msg == expected


async def test_iterator_after_its_end(server: FaultServer, quick: Make) -> None:
    """An iterator that has ended stays so, inside a loop and outside."""
    async with quick() as download:
        results = download.each([server.on("/f", ok())])
        assert (await anext(results)).ok
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(results)
        with contextlib.suppress(StopAsyncIteration):
            await anext(results)
    facade = aiodownload.each([], download=quick())
    assert await asyncio.to_thread(list, facade) == []
    assert await asyncio.to_thread(list, facade) == []


# The delay between starts


def test_delay_takes_the_place_of_the_strategys_own(server: FaultServer, quick: Make) -> None:
    """Whatever the strategy says at no attempts; a method of one's own is not asked for it."""
    asked = []

    class Slow(BackOff):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            asked.append(bundle.attempts)
            return 0.2

    urls = [server.on("/again", status(503), ok()), *urls_of(server, 7, ok())]
    aiodownload.swarm(urls, quick(Slow(concurrent=8, delay=0)))
    assert asked == [1]
    starts = [request.at for request in server.requests][:8]
    assert max(starts) - min(starts) < 0.5
    server.requests.clear()
    aiodownload.swarm(urls_of(server, 4, ok()), quick(RequestStrategy(concurrent=8, delay=0.1)))
    starts = [request.at for request in server.requests]
    assert all(after - before > 0.09 for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize("item", [{"url": "http://a.test/"}, ("http://a.test/", 1), None, 7, b"http://a.test/"])
def test_an_item_of_another_kind_says_so(item: Any, quick: Make) -> None:
    """It fails by itself, with the remedy."""
    (bundle,) = aiodownload.swarm([item], quick())
    assert "it must be a str or a URL, or a url_map must make one of it" in str(bundle.error)


# A hook that keeps a cancellation to itself


class Deaf(DownloadStrategy):
    """Goes on whatever it is told."""

    def __init__(self, home: Path) -> None:
        super().__init__(home=home)
        self.begun = threading.Event()

    async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
        if bundle.url.endswith("/slow"):
            self.begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)


def test_a_hook_that_is_deaf_to_cancellation_holds_up_nobody(server: FaultServer, quick: Make, home: Path) -> None:
    """Leaving early ends, though the hook has kept the CancelledError to itself."""
    strategy = Deaf(home)
    urls = [server.on("/slow", ok()), server.on("/quick", ok())]
    with aiodownload.each(urls, download=quick(Quick(concurrent=2), strategy)) as bundles:
        assert next(bundles).url.endswith("/quick")
        assert strategy.begun.wait(5)
    assert not [thread for thread in threading.enumerate() if thread.name == "aiodownload"]
