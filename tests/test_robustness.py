"""Odd inputs, odd hooks and odd moments: one bundle may fail by them, but no run hangs, ends early, or loses a URL."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    DownloadStrategy,
    Lenient,
    RedirectError,
    Status,
    StrategyError,
    UsageError,
)
from aiodownload.call import Call
from aiodownload.testing import FaultServer, ok, redirect, slow, status

Make = Callable[..., AioDownload]


@pytest.mark.parametrize("odd", ["http://[]@", "http://][@", "http://h\udcff/", "http://[::1", "//", "\x00"])
def test_no_text_ends_a_run(odd: str, server: FaultServer, quick: Make) -> None:
    """Whatever stands in the place of a URL is one failed bundle, and the others are fetched."""
    good = server.on("/good", ok(b"x"))
    bundles = aiodownload.swarm([odd, good], quick())
    assert [bundle.status for bundle in bundles] == [Status.FAILED, Status.DONE]


@pytest.mark.parametrize(
    "location", ["http://[]@", "//[]@", "http://]", "http://a..b/", "http://" + "x" * 64 + ".test/"]
)
def test_no_location_ends_a_run(location: str, server: FaultServer, quick: Make) -> None:
    """Whatever a server says in Location fails its own bundle only."""
    urls = [server.on("/odd", redirect(location)), server.on("/good", ok(b"x"))]
    bundles = aiodownload.swarm(urls, quick())
    assert [bundle.status for bundle in bundles] == [Status.FAILED, Status.DONE]
    assert isinstance(bundles[0].error, RedirectError)


@pytest.mark.parametrize("hook", ["on_success", "on_fail"])
def test_a_hook_that_raises_cancelled_error_is_loud(hook: str, server: FaultServer, home: Path, quick: Make) -> None:
    """A CancelledError that nobody asked for does not leave the run waiting for ever."""

    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    kind = type("Odd", (DownloadStrategy,), {hook: cancelled})
    url = server.on("/x", ok(b"x") if hook == "on_success" else status(404))
    with pytest.raises(StrategyError, match="CancelledError"):
        aiodownload.one(url, quick(download=kind(home=home)))


async def test_an_input_that_raises_cancelled_error_is_told(server: FaultServer, quick: Make) -> None:
    """The same from the input: what was read is settled, then the caller hears of it."""
    url = server.on("/x", ok(b"x"))

    async def urls() -> AsyncIterator[str]:
        yield url
        raise asyncio.CancelledError

    async with quick() as download:
        with pytest.raises(UsageError, match="CancelledError") as caught:
            await download.swarm(urls())
    assert [bundle.ok for bundle in caught.value.settled] == [True]  # type: ignore[attr-defined]


@pytest.mark.parametrize("chunk", [4, -1])
def test_a_body_read_before_super_is_loud(chunk: int, server: FaultServer, home: Path, quick: Make) -> None:
    """An override that reads some of the body and then calls super() does not publish the rest as the file."""

    class Peeks(DownloadStrategy):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            await response.content.read(chunk)
            await super().on_success(response, bundle)

    with pytest.raises(StrategyError, match="before super"):
        aiodownload.one(server.on("/x", ok(b"0123456789")), quick(download=Peeks(home=home)))
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_url_map_that_raises_stop_iteration_is_no_end(server: FaultServer, quick: Make) -> None:
    """Only the input itself can end the input."""

    def url_map(item: int) -> str:
        if item == 2:
            raise StopIteration
        return server.on(f"/{item}", ok(b"x"))

    settled = []
    with pytest.raises(RuntimeError, match="StopIteration"):
        settled.extend(aiodownload.each([1, 2, 3], url_map, quick()))


def test_what_ends_the_reading_thread_reaches_the_caller(server: FaultServer, quick: Make) -> None:
    """SystemExit in the input is no silent end of it."""

    def urls() -> Iterator[str]:
        yield server.on("/x", ok(b"x"))
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(aiodownload.each(urls(), download=quick()))


def test_closing_at_any_moment_leaves_no_thread(server: FaultServer, quick: Make) -> None:
    """Leaving each just when it ends by itself cleans up as well as leaving it earlier."""
    url = server.on("/x", ok(b"x"))
    for _ in range(100):
        bundles = aiodownload.each([url], download=quick())
        next(bundles)
        bundles.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("aiodownload")]


def test_collected_in_another_thread_it_does_not_wait(
    server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may drop an iterator in any thread: one that waited there might wait for itself."""
    waits: list[str] = []
    for name in ("wait", "close", "_join"):
        monkeypatch.setattr(Call, name, lambda self, *_, name=name: waits.append(name))
    holder: list[Any] = [aiodownload.each([server.on("/x", slow(b"x" * 10, 10, 0.05))] * 2, download=quick())]
    threading.Thread(target=holder[0]._start).start()
    while not server.requests:
        time.sleep(0.01)
    holder[0]._owner = None  # as if next() had been called in a thread that is gone
    stopped = holder[0]._call._thread
    holder.clear()
    gc.collect()
    assert waits == []
    stopped.join(10)
    assert not stopped.is_alive()


def test_waiting_retries_leave_the_slots_to_others(server: FaultServer, home: Path, quick: Make) -> None:
    """While bundles wait for their retry and one long download runs, the input is read on as long as a slot is free."""

    class Waits(Lenient):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.02 if bundle.attempts == 0 else 1.5

    late = [server.on(f"/late{number}", status(503), ok(b"late")) for number in range(7)]
    long = server.on("/long", slow(b"x" * 12, 12, 0.1))
    more = [server.on(f"/more{number}", ok(b"more")) for number in range(6)]
    bundles = aiodownload.swarm([*late, long, *more], quick(Waits(timeout=5)))
    assert all(bundle.ok for bundle in bundles)
    began = server.asked("/long")[0].at
    assert max(server.asked(f"/more{number}")[0].at for number in range(6)) - began < 1.0


async def test_after_aclose_an_iterator_is_at_its_end(server: FaultServer, quick: Make) -> None:
    """Going on with an iterator that was closed ends at once, without an error."""
    async with quick() as download:
        results = download.each([server.on("/x", ok(b"x"))] * 3)
        await anext(results)
        await results.aclose()
        assert [bundle async for bundle in results] == []


async def test_leaving_ends_even_if_it_is_cancelled(server: FaultServer, quick: Make) -> None:
    """Cancelled again and again while it leaves, an AioDownload still closes its session and threads."""
    url = server.on("/x", slow(b"x" * 20, 20, 0.05))

    async def work() -> None:
        async with quick() as download:
            await download.swarm([url])

    task = asyncio.create_task(work())
    while not server.requests:
        await asyncio.sleep(0.01)
    for _ in range(4):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aiodownload-disk")]


async def test_netrc_does_not_follow_a_redirect(
    server: FaultServer, other_server: FaultServer, quick: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With trust_env the caller's netrc serves the caller's URL, and nothing of it goes to where a redirect leads."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    url = server.on("/a", redirect(other_server.on("/b", ok(b"x"))))
    async with aiohttp.ClientSession(trust_env=True) as session, quick(client=session) as download:
        assert (await download.one(url)).ok
    assert "authorization" in server.requests[0].headers
    assert "authorization" not in other_server.requests[0].headers


def test_one_bad_moment_of_the_home_is_not_for_ever(server: FaultServer, tmp_path: Path) -> None:
    """A home that could not be used is tried again by the next call on the same entered object."""
    place = tmp_path / "home"
    place.write_text("in the way", encoding="utf-8")
    url = server.on("/x", ok(b"x"))

    async def main() -> None:
        strategy = DownloadStrategy(home=place)
        async with AioDownload(download_strategy=strategy, request_strategy=Quick()) as download:
            with pytest.raises(aiodownload.HomeError):
                await download.one(url)
            await asyncio.to_thread(place.unlink)
            assert (await download.one(url)).ok

    asyncio.run(main())
