"""Narrow moments: Ctrl-C before anything runs, an input that ends just now, eager tasks, outcomes long gone.

And two ways on: past a proxy, and past a hundred thousand repeats.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
import pytest
import trustme
from blockbuster import BlockBuster
from yarl import URL

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, RequestStrategy, Status
from aiodownload.feed import Feed
from aiodownload.run import Run
from aiodownload.seen import Record, Seen
from aiodownload.testing import Connection, FaultServer, Request, Script, each_path, ok, redirect, stall, status

Make = Callable[..., AioDownload]
Files = Callable[[], dict[str, bytes]]

ROOT = Path(aiodownload.__file__).parents[1]


# Ctrl-C in the first milliseconds of a call

INTERRUPTED = """
import _thread, asyncio, faulthandler, json, signal, sys, threading, time

import aiohttp
import aiodownload
import aiodownload.call
from aiodownload import AioDownload, DownloadStrategy, RequestStrategy
from aiodownload.call import Call

aiodownload.call.GRACE = 0.05
base, home, kind, where, *moments = sys.argv[1:]
main_thread = threading.main_thread().ident
start_thread, in_thread = threading.Thread.start, Call._in_thread


def waits():
    # Whether the main thread waits for another one, and has for a while.
    seen = []
    for _ in range(2):
        frame = sys._current_frames()[main_thread]
        seen.append((frame.f_code.co_name, id(frame), frame.f_lasti))
        time.sleep(0.01)
    return seen[0] == seen[1] and seen[0][0] == "wait"


def at(name):
    # Send ourselves SIGINT, as Ctrl-C does, if this is the moment for it.
    if moment != name or len(sent) > moment.endswith("twice"):
        return
    sent.append(name)
    end = time.monotonic() + 1
    while threading.get_ident() != main_thread and not waits() and time.monotonic() < end:
        pass
    if moment == "session, unheard":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(main_thread, signal.SIGINT)


def start(thread):
    at(f"before {thread.name}")
    started.append(thread)
    if moment == f"while {thread.name} starts":
        set_ident = thread._set_ident
        thread._set_ident = lambda: (time.sleep(0.05), set_ident())  # it begins late
        thread._started.wait = lambda: at(moment)
    start_thread(thread)
    at(f"after {thread.name}")
    if thread.name == "aiodownload":
        at("no loop yet")


def run(call):
    # The thread has no loop that could be told of the interrupt before that is under way.
    end = time.monotonic() + 1
    while moment == "no loop yet" and not call._stopped and time.monotonic() < end:
        time.sleep(0.001)
    in_thread(call)


threading.Thread.start, Call._in_thread = start, run


class Input:
    left = 3

    def __iter__(self):
        at("iter")
        return self

    def __next__(self):
        if self.left == 0:
            raise StopIteration
        if self.left == 3:
            at("next")
        self.left -= 1
        return f"{base}/{self.left}"


async def client():
    opened.append(moment)
    at("session")
    at("session, twice")
    at("session, unheard")
    try:
        while moment.startswith("session"):
            await asyncio.sleep(60)
    finally:
        at("session, twice")
    return aiohttp.ClientSession()


class Home(DownloadStrategy):
    def get_file_path(self, bundle):
        at("path")
        return super().get_file_path(bundle)


def call():
    download = AioDownload(client, Home(home=home), RequestStrategy(concurrent=1))
    if kind == "one":
        aiodownload.one(f"{base}/one", download)
    elif kind == "swarm":
        aiodownload.swarm(Input(), download)
    else:
        list(aiodownload.each(Input(), download=download))


async def call_in_loop():
    call()


handler = signal.getsignal(signal.SIGINT)
told = {}
for moment in moments:
    started, opened, sent = [], [], []
    faulthandler.dump_traceback_later(6, exit=True)
    began = time.monotonic()
    try:
        asyncio.run(call_in_loop()) if where == "loop" else call()
        told[moment] = ["nothing raised"]
    except KeyboardInterrupt as interrupt:
        told[moment] = [] if interrupt.settled == [] else ["what was settled is not told"]
    if time.monotonic() - began > 1.5:
        told[moment].append("it took long")
    ours = [thread for thread in started if thread.name.startswith("aiodownload")]
    told[moment] += [f"{thread.name} left" for thread in ours if thread in threading.enumerate()]
    if signal.getsignal(signal.SIGINT) is not handler:
        told[moment].append("another handler")
    if where == "script" and opened and moment in ("before aiodownload", "no loop yet"):
        told[moment].append("a session was made")
print(json.dumps(told))
"""

# When the Ctrl-C comes: around the start of the thread with the loop, and further on in it.
MOMENTS = ["before aiodownload", "no loop yet", "after aiodownload", "session", "path"]
OF_AN_INPUT = ["iter", "next"]
OF_A_READER = ["before aiodownload-reader", "after aiodownload-reader"]
AT_ALL = {"one": MOMENTS, "swarm": MOMENTS + OF_AN_INPUT, "each": MOMENTS + OF_AN_INPUT + OF_A_READER}
IN_BETWEEN = {
    "one": ["while aiodownload starts"],
    "swarm": ["while aiodownload starts"],
    "each": ["while aiodownload starts", "while aiodownload-reader starts"],
}

posix = pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent to a thread only on POSIX")


def interrupt(kind: str, where: str, moments: list[str], server: FaultServer, home: Path) -> dict[str, list[str]]:
    """Make the call in another process, once for each moment; return what was wrong then."""
    server.default = stall()  # an interrupt that is lost is a call that never ends
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, server.url(""), str(home), kind, where, *moments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=30,
        check=False,
    )
    assert process.stderr == ""
    told: dict[str, list[str]] = json.loads(process.stdout)
    assert list(told) == moments
    return told


@posix
@pytest.mark.parametrize("kind", ["one", "swarm", "each"])
def test_ctrl_c_at_once(kind: str, server: FaultServer, home: Path) -> None:
    """Ctrl-C before the thread, before its loop, or just after: the call ends with it, soon, and leaves nothing."""
    told = interrupt(kind, "script", [*AT_ALL[kind], "session, twice"], server, home)
    assert {moment: wrong for moment, wrong in told.items() if wrong} == {}


@posix
@pytest.mark.parametrize("kind", ["one", "swarm", "each"])
def test_ctrl_c_at_once_inside_asyncio_run(kind: str, server: FaultServer, home: Path) -> None:
    """The same where a coroutine of asyncio.run calls: there the first Ctrl-C is but a cancellation of its task."""
    told = interrupt(kind, "loop", AT_ALL[kind] + IN_BETWEEN[kind], server, home)
    assert {moment: wrong for moment, wrong in told.items() if wrong} == {}


@posix
@pytest.mark.parametrize("kind", ["one", "swarm", "each"])
def test_ctrl_c_while_a_thread_starts(kind: str, server: FaultServer, home: Path) -> None:
    """A thread that was on its way when Ctrl-C came has ended when the call ends."""
    told = interrupt(kind, "script", IN_BETWEEN[kind], server, home)
    assert {moment: wrong for moment, wrong in told.items() if wrong} == {}


@posix
@pytest.mark.parametrize("kind", ["one", "swarm", "each"])
def test_ctrl_c_just_before_a_wait(kind: str, server: FaultServer, home: Path) -> None:
    """A Ctrl-C that comes between Python's last look for signals and a wait does not end that wait, but is heard soon.

    ``interrupt_main`` does just what such a signal does: it leaves a mark, and wakes nobody.
    """
    told = interrupt(kind, "script", ["session, unheard"], server, home)
    assert {moment: wrong for moment, wrong in told.items() if wrong} == {}


# An input that ends just as it is asked for more


def items(count: int, go: threading.Event, error: Exception | None = None) -> Iterator[str]:
    """So many URLs and the end, all at once when told."""
    assert go.wait(10)
    for number in range(count):
        yield f"http://host.test/{number}"
    if error is not None:
        raise error


async def read_all(feed: Feed, urls: list[str]) -> list[str]:
    """What comes out of a feed until its end."""
    async with asyncio.timeout(5):
        while bundles := await feed.read(10):
            urls += [bundle.url for bundle in bundles]
    return urls


class Overtaken(Feed):
    """A feed that is read to its end between one look of the consumer and what the consumer makes of it."""

    def __init__(self, count: int, look: int, error: Exception | None = None) -> None:
        self._go = threading.Event()
        super().__init__(items(count, self._go, error), None)
        self._looks_left = look
        self.reader = threading.Thread(target=self.serve)

    def _take(self, most: int, urgent: bool) -> Any:
        seen = super()._take(most, urgent)
        self._looks_left -= 1
        if not self._looks_left:
            self._go.set()
            self.reader.join(5)
            assert not self.reader.is_alive()
        return seen


@pytest.mark.parametrize("look", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 9])
async def test_the_last_items_come_with_the_end(count: int, look: int, blockbuster: BlockBuster) -> None:
    """Items and end that arrive after the consumer has found nothing, and before it goes on, are seen: all of them."""
    blockbuster.deactivate()
    feed = Overtaken(count, look)
    feed.reader.start()
    assert await read_all(feed, []) == [f"http://host.test/{number}" for number in range(count)]


@pytest.mark.parametrize("look", [1, 2])
@pytest.mark.parametrize("count", [0, 3])
async def test_the_last_items_come_with_an_error(count: int, look: int, blockbuster: BlockBuster) -> None:
    """The same for an input that ends by raising: the items first, then the error."""
    blockbuster.deactivate()
    feed = Overtaken(count, look, LookupError("the input's own"))
    feed.reader.start()
    urls: list[str] = []
    with pytest.raises(LookupError):
        await read_all(feed, urls)
    assert len(urls) == count


async def test_a_closed_feed_is_at_its_end(blockbuster: BlockBuster) -> None:
    """close() from another thread ends a read that waits for a stuck input, and one that comes later."""
    blockbuster.deactivate()
    go = threading.Event()
    feed = Feed(items(3, go), None)
    reader = threading.Thread(target=feed.serve)
    reader.start()
    reading = asyncio.create_task(read_all(feed, []))
    async with asyncio.timeout(5):
        while not feed._urgent:  # beyond its patience: it waits for nothing but news
            await asyncio.sleep(0.001)
    await asyncio.to_thread(feed.close)
    assert await reading == []
    assert await read_all(feed, []) == []
    go.set()
    await asyncio.to_thread(reader.join, 5)
    assert not reader.is_alive()


class Stepper:
    """A trace function: calls ``act`` when this thread is at instruction number ``step`` of ``Feed.read``."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self._left = step
        self._act = act

    def __call__(self, frame: FrameType, event: str, _: object) -> Stepper | None:
        if frame.f_code is not Feed.read.__code__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            self._left -= 1
            if self._left == 0:
                self._act()
        return self


async def overtaken_at(step: int, count: int) -> bool:
    """Let the input come at that instruction of the consumer, and see that it is all there.

    False if the consumer waits before it is that far.
    """
    go, waited = threading.Event(), False
    feed = Feed(items(count, go), None)
    reader = threading.Thread(target=feed.serve)

    def come() -> None:
        go.set()
        if feed._credit > 0:
            reader.join(5)
            assert not reader.is_alive()

    def come_late() -> None:
        nonlocal waited
        waited = not go.is_set()
        go.set()

    before = sys.gettrace()
    late = asyncio.get_running_loop().call_later(0.5, come_late)
    reader.start()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 asks for it beforehand
    sys.settrace(Stepper(step, come))
    try:
        urls = await read_all(feed, [])
    finally:
        sys.settrace(before)
        late.cancel()
    assert len(urls) == count, step
    reader.join(5)
    return not waited


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_whenever_the_end_comes_nothing_is_lost(count: int, blockbuster: BlockBuster) -> None:
    """At whichever instruction of its reading the consumer is when the last items and the end come, it gets them."""
    blockbuster.deactivate()
    step = 1
    while await overtaken_at(step, count):
        step += 1
    assert step > 50


# Eager tasks


@pytest.fixture
async def eager() -> AsyncIterator[None]:
    """Every new task of this loop runs at once, as far as it can without waiting."""
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("eager tasks came with Python 3.12")
    asyncio.get_running_loop().set_task_factory(factory)
    yield
    asyncio.get_running_loop().set_task_factory(None)


def mixed(server: FaultServer) -> list[str]:
    """URLs that are done, fail, are done at the third try, come twice, and are none."""
    return [
        server.on("/good", ok(b"good")),
        server.on("/bad", status(404)),
        server.on("/busy", status(503), status(503), ok(b"late")),
        server.url("/good"),
        "no url",
        server.on("/last", ok(b"last")),
    ]


OUTCOMES = [("DONE", 1), ("FAILED", 1), ("DONE", 3), ("DONE", 1), ("FAILED", 0), ("DONE", 1)]


def outcomes(bundles: list[AioDownloadBundle]) -> list[tuple[str, int]]:
    """What became of each, and at which try."""
    return [(bundle.status.name, bundle.attempts) for bundle in bundles]


def runs() -> list[Run]:
    """Those that are still in memory."""
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, Run)]


@pytest.mark.usefixtures("eager")
async def test_eager_swarm(server: FaultServer, quick: Make, files: Files) -> None:
    """With eager tasks a swarm has the same outcomes, also where nothing is left to be looked up on the disk."""
    async with asyncio.timeout(10), quick() as download:
        for _ in range(2):
            assert outcomes(await download.swarm(mixed(server))) == OUTCOMES
        assert (await download.one(server.url("/good"))).ok
    assert files() == {"good": b"good", "busy": b"late", "last": b"last"}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.usefixtures("eager")
async def test_eager_each(server: FaultServer, quick: Make, files: Files) -> None:
    """So has each, which may be left early: nothing of it goes on, and the next run has all slots."""
    async with asyncio.timeout(10), quick() as download:
        for _ in range(2):
            bundles = [bundle async for bundle in download.each(mixed(server))]
            assert sorted(outcomes(bundles)) == sorted(OUTCOMES)
        stuck = [server.on(f"/stuck{number}", stall(b"body", 2)) for number in range(4)]
        for _ in range(3):
            results = download.each([server.url("/good"), *stuck])
            assert (await anext(results)).ok
            await results.aclose()
            async for bundle in download.each(["no url", *stuck]):
                assert bundle.status is Status.FAILED
                break
            assert outcomes(await download.swarm(mixed(server))) == OUTCOMES
    assert files() == {"good": b"good", "busy": b"late", "last": b"last"}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.usefixtures("eager")
async def test_eager_runs_that_never_wait(quick: Make) -> None:
    """A run that is over before it was ever waited for has its outcomes all the same, and is forgotten."""
    before = runs()  # those of earlier tests may still be held by an error's traceback
    async with asyncio.timeout(10), quick() as download:
        assert await download.swarm([]) == []
        assert [bundle async for bundle in download.each([])] == []
        assert [run for run in runs() if run not in before] == []
        assert outcomes(await download.swarm(["no url"] * 20)) == [("FAILED", 0)] * 20
        assert outcomes([bundle async for bundle in download.each(["no url"] * 20)]) == [("FAILED", 0)] * 20
        assert (await download.one("no url")).status is Status.FAILED


@pytest.mark.usefixtures("eager")
async def test_eager_tries_that_fail_at_once(quick: Make) -> None:
    """Tries that fail without any wait, a hundred slots of them at as many hosts, end the run with their outcomes."""

    async def unreachable(request: aiohttp.ClientRequest, _: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        raise aiohttp.ClientConnectionError

    client = aiohttp.ClientSession(middlewares=(unreachable,))
    many = RequestStrategy(concurrent=100)
    async with client, asyncio.timeout(5), quick(many, client=client) as download:
        bundles = await download.swarm([f"http://127.0.0.1:{1000 + number}/" for number in range(400)])
    assert set(outcomes(bundles)) == {("FAILED", 1)}


# Outcomes that are on the disk


class Recalled(Seen):
    """Keeps few outcomes in memory, and notes which were asked for on the disk and found there."""

    found: list[str]

    def __init__(self) -> None:
        super().__init__(recent=20, batch=10)

    def recall(self, paths: Any) -> dict[str, Record]:
        records = super().recall(paths)
        self.found += records
        return records


@pytest.fixture
def recalled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths whose outcomes came from the disk."""
    monkeypatch.setattr(Recalled, "found", [], raising=False)
    monkeypatch.setattr("aiodownload.admission.Seen", Recalled)
    return Recalled.found


def results(bundle: AioDownloadBundle) -> tuple[Any, ...]:
    """All that a bundle tells."""
    headers = bundle.response_headers and list(bundle.response_headers.items())
    told = (bundle.file_path, bundle.size, bundle.http_status, bundle.final_url, bundle.verified, headers)
    return (*told, bundle.status, bundle.attempts, bundle.elapsed, repr(bundle.error))


def asked_again(
    server: FaultServer, download: AioDownload, paths: list[str], failing: list[str]
) -> tuple[list[AioDownloadBundle], list[AioDownloadBundle]]:
    """Download ``paths``, then so many others that these leave the memory, then ``paths`` again; first and again."""
    server.default = each_path(lambda request: status(404) if request.target in failing else ok(b"some bytes"))
    urls = [server.url(path) for path in paths]
    bundles = aiodownload.swarm([*urls, *(server.url(f"/other/{number}") for number in range(60)), *urls], download)
    return bundles[: len(urls)], bundles[-len(urls) :]


@pytest.mark.parametrize(
    ("paths", "failing"),
    [
        (["/a/b", "/a"], []),
        (["/a/b", "/a"], ["/a"]),
        (["/a", "/a/b"], []),
        (["/a", "/a/b"], ["/a/b"]),
        (["/a/b/c/d", "/a/b", "/a"], ["/a/b"]),
        (["/a", "/a/b", "/a/b/c"], []),
        (["/x", "/y", "/z"], ["/y"]),
    ],
    ids=lambda value: "+".join(value) or "none",
)
def test_an_outcome_on_the_disk_is_found_where_it_went(
    paths: list[str], failing: list[str], server: FaultServer, quick: Make, recalled: list[str]
) -> None:
    """A URL whose outcome has left the memory is not fetched again, also if it had to step aside to another path."""
    first, again = asked_again(server, quick(), paths, failing)
    assert Counter(request.target for request in server.requests).most_common(1)[0][1] == 1
    assert [results(bundle) for bundle in again] == [results(bundle) for bundle in first]
    assert [bundle.status.name for bundle in first] == ["FAILED" if path in failing else "DONE" for path in paths]
    assert len(set(recalled)) >= len(again)


@pytest.mark.parametrize("few", [True, False], ids=["on the disk", "in memory"])
@pytest.mark.parametrize("paths", [["/a/b", "/a"], ["/a", "/a/b"]], ids="+".join)
@pytest.mark.parametrize("both", [False, True], ids=["one fails", "both fail"])
def test_an_outcome_is_found_after_the_way_is_free_again(
    few: bool, paths: list[str], both: bool, server: FaultServer, quick: Make, request: pytest.FixtureRequest
) -> None:
    """One that stepped aside for another which then failed is not fetched again to the path that is free now."""
    if few:
        request.getfixturevalue("recalled")
    first, again = asked_again(server, quick(), paths, paths if both else paths[:1])
    assert Counter(request.target for request in server.requests).most_common(1)[0][1] == 1
    assert [results(bundle) for bundle in again] == [results(bundle) for bundle in first]


async def test_one_under_way_is_found_after_the_way_is_free_again(server: FaultServer, quick: Make) -> None:
    """The same while the one that stepped aside is still being fetched: its repeat waits for it."""
    both, all_three = threading.Event(), threading.Event()

    def held(until: threading.Event, script: Script) -> Script:
        async def answer(request: Request, connection: Connection) -> bool:
            while not until.is_set():
                await asyncio.sleep(0.005)
            return await script(request, connection)

        return answer

    failed = AioDownloadBundle(server.on("/a/b", held(both, status(404))))
    url = server.on("/a", held(all_three, ok(b"some bytes")))
    repeats = [AioDownloadBundle(url), AioDownloadBundle(url)]

    async def bundles() -> AsyncIterator[AioDownloadBundle]:
        """When it is asked for another one, those before have their paths."""
        yield failed
        yield repeats[0]
        both.set()
        while failed.status is not Status.FAILED:
            await asyncio.sleep(0.005)
        yield repeats[1]
        all_three.set()

    async with asyncio.timeout(10), quick() as download:
        await download.swarm(bundles())
    assert len(server.asked("/a")) == 1
    assert results(repeats[0]) == results(repeats[1])
    assert repeats[0].ok


def test_a_filter_that_is_always_in_doubt(
    server: FaultServer, quick: Make, recalled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the filter says of every path that the disk may know it, each is looked up, and the run goes on."""
    monkeypatch.setattr(Recalled, "may_be_spilled", lambda self, path: self.spilled)
    first, again = asked_again(server, quick(), ["/a/b", "/a", "/x"], ["/x"])
    assert len(server.requests) == 63
    assert [results(bundle) for bundle in again] == [results(bundle) for bundle in first]
    assert len(set(recalled)) >= len(again)


async def test_leaving_while_outcomes_go_to_the_disk(
    server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, recalled: list[str]
) -> None:
    """A run that is left while its first outcomes are being written leaves no database open."""
    begun, go = threading.Event(), threading.Event()
    opened: list[sqlite3.Connection] = []
    connect, spill = sqlite3.connect, Recalled.spill

    def held(self: Recalled) -> None:
        begun.set()
        assert go.wait(10)
        spill(self)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: opened.append(connect(*args, **more)) or opened[-1])
    monkeypatch.setattr(Recalled, "spill", held)
    server.default = ok(b"some bytes")
    async with asyncio.timeout(10), quick() as download:
        bundles = download.each(server.url(f"/{number}") for number in range(200))
        while not begun.is_set():
            await anext(bundles)
        await bundles.aclose()
        go.set()
    for connection in opened:
        with closing(connection), pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


# By way of a proxy

CREDENTIALS = "Basic " + base64.b64encode(b"user:secret").decode()


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and that it has ended."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def tunnel(host: str, port: int, connection: Connection) -> bool:
    """Answer CONNECT."""
    reader, writer = await asyncio.open_connection(host, port)
    await connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await asyncio.gather(pipe(reader, connection.writer), pipe(connection.reader, writer))
    return False


async def pass_on(host: str, port: int, request: Request, connection: Connection) -> bool:
    """Answer a request with the origin's answer; Proxy-Authorization was for us (RFC 9110 section 11.7.2)."""
    reader, writer = await asyncio.open_connection(host, port)
    lines = [f"{request.method} {URL(request.target).raw_path_qs} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name != "proxy-authorization"]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
    await connection.send(head + await reader.readexactly(length))
    writer.close()
    return True


class Patient(FaultServer):
    """A server that ends when all its connections are closed on both sides: with TLS, that takes a moment."""

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super()._client(reader, writer)
        with suppress(OSError):
            await writer.wait_closed()

    def __exit__(self, *error: object) -> None:
        end = time.monotonic() + 5
        while len(asyncio.all_tasks(self._loop)) > 1 and time.monotonic() < end:
            time.sleep(0.005)
        super().__exit__(*error)


@pytest.fixture
def proxy() -> Iterator[FaultServer]:
    """A forward proxy that wants a password; it alone knows where ``first.test`` is."""

    async def forward(request: Request, connection: Connection) -> bool:
        if request.headers.get("proxy-authorization") != CREDENTIALS:
            return await status(407, Proxy_Authenticate="Basic")(request, connection)
        connects = request.method == "CONNECT"
        url = URL(f"//{request.target}" if connects else request.target)
        assert url.host is not None
        assert url.port is not None
        host = "127.0.0.1" if url.host == "first.test" else url.host
        return await (tunnel(host, url.port, connection) if connects else pass_on(host, url.port, request, connection))

    with Patient() as running:
        running.default = forward
        yield running


def with_proxy(how: str, proxy: FaultServer, monkeypatch: pytest.MonkeyPatch, **more: Any) -> aiohttp.ClientSession:
    """A session that goes by way of the proxy and has its password, in one of the ways to tell aiohttp."""
    address = f"http://user:secret@127.0.0.1:{proxy.port}"
    if how == "environment":
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("HTTPS_PROXY", address)
        return aiohttp.ClientSession(trust_env=True, **more)
    if how == "url":
        return aiohttp.ClientSession(proxy=address, **more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return aiohttp.ClientSession(proxy=proxy.url(""), proxy_auth=aiohttp.BasicAuth("user", "secret"), **more)


def assert_not_told(*origins: FaultServer) -> None:
    """No origin has seen the password."""
    for origin in origins:
        assert origin.requests
        for request in origin.requests:
            assert not {"authorization", "proxy-authorization"} & set(request.headers)


def asked_of(proxy: FaultServer) -> list[tuple[str, str, str | None]]:
    """What the proxy was asked: method, target, credentials."""
    return [(asked.method, asked.target, asked.headers.get("proxy-authorization")) for asked in proxy.requests]


WAYS = ["proxy_auth", "url", "environment"]


@pytest.mark.filterwarnings("ignore:The 'proxy_auth' parameter:DeprecationWarning")
@pytest.mark.parametrize("how", WAYS)
async def test_a_redirect_goes_by_the_same_proxy(
    how: str,
    server: FaultServer,
    other_server: FaultServer,
    proxy: FaultServer,
    quick: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a redirect leads to another origin, the proxy is asked with its password, and the origin without."""
    end = other_server.on("/b", ok(b"body"))
    begin = server.on("/a", redirect(end))
    async with with_proxy(how, proxy, monkeypatch) as session, quick(client=session) as download:
        for _ in range(2):  # the second time over the connections of the first
            bundle = await download.one(begin)
            assert (bundle.status, bundle.final_url) == (Status.DONE, end)
    assert asked_of(proxy) == [("GET", begin, CREDENTIALS), ("GET", end, CREDENTIALS)] * 2
    assert_not_told(server, other_server)
    assert (server.connections, other_server.connections) == (2, 2)  # the proxy's own, one for each request


@pytest.mark.filterwarnings("ignore:The 'proxy_auth' parameter:DeprecationWarning")
@pytest.mark.parametrize("how", WAYS)
async def test_a_redirect_goes_by_the_same_tunnel(
    how: str, authority: trustme.CA, proxy: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with https: the password is for CONNECT alone, and nothing within the tunnel holds it."""
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)
    with Patient(theirs) as first, Patient(theirs) as second:
        begin = first.on("/a", redirect(second.on("/b", ok(b"body"))))
        session = with_proxy(how, proxy, monkeypatch, connector=aiohttp.TCPConnector(ssl=ours))
        async with session, quick(client=session) as download:
            assert (await download.one(begin)).ok
    ways = [("CONNECT", f"127.0.0.1:{origin.port}", CREDENTIALS) for origin in (first, second)]
    assert asked_of(proxy) == ways
    assert_not_told(first, second)


@pytest.mark.parametrize(("first", "second"), [("first.test", "127.0.0.1"), ("127.0.0.1", "first.test")])
async def test_an_origin_without_the_proxy_is_told_nothing(
    first: str,
    second: str,
    server: FaultServer,
    other_server: FaultServer,
    proxy: FaultServer,
    quick: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NO_PROXY counts for each origin: one is asked by way of the proxy, the other is not, and not told of it."""
    other_server.on("/b", ok(b"body"))
    server.on("/a", redirect(other_server.url("/b", second)))
    begin, end = server.url("/a", first), other_server.url("/b", second)
    async with with_proxy("environment", proxy, monkeypatch) as session, quick(client=session) as download:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert (await download.one(begin)).ok
    assert asked_of(proxy) == [("GET", begin if first == "first.test" else end, CREDENTIALS)]
    assert_not_told(server, other_server)


async def test_a_password_for_the_proxy_brings_no_warning(
    server: FaultServer, other_server: FaultServer, proxy: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gave proxy_auth was warned by aiohttp; following a redirect adds no warning, which might be an error."""
    begin = server.on("/a", redirect(other_server.on("/b", ok(b"body"))))
    async with with_proxy("proxy_auth", proxy, monkeypatch) as session, quick(client=session) as download:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert (await download.one(begin)).ok
    assert [str(warning.message) for warning in caught] == []


# By way of a hundred thousand repeats


async def test_repeats_do_not_hold_up_the_loop(server: FaultServer, quick: Make, blockbuster: BlockBuster) -> None:
    """While 150,000 repeats of a URL are settled, which needs no wait, others on the event loop have their turns."""
    blockbuster.deactivate()  # it takes more time than the run does
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)

    url = server.on("/x", ok(b"x"))
    async with quick() as download:
        ticker = asyncio.create_task(tick())
        began = time.perf_counter()
        bundles = await download.swarm([url] * 150_000)
        whole = time.perf_counter() - began
        ticker.cancel()
    assert len(bundles) == 150_000
    assert all(bundle.ok for bundle in bundles)
    assert len(server.requests) == 1
    assert longest < whole / 6  # 2 s and 0.12 s on a quiet machine
