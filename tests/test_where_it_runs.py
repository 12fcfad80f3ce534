"""Where it runs: scripts, threads, event loops, other processes; and how it ends there: Ctrl-C, exit, collection."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import cloudpickle
import pytest
from blockbuster import BlockBuster
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    BackOff,
    ConfigurationError,
    DownloadStrategy,
    Lenient,
    RequestStrategy,
    UsageError,
)
from aiodownload.testing import FaultServer, chunked, cut, drop, ok, raw, redirect, slow, stall, status

Make = Callable[..., AioDownload]
Files = Callable[[], dict[str, bytes]]

ROOT = Path(aiodownload.__file__).parents[1]
BIG = bytes(range(256)) * (3 << 12)
posix = pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent to a process only on POSIX")


PRELUDE = """
import asyncio, gc, json, os, signal, sys, threading, time
import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, Lenient, RequestStrategy

class Quick(Lenient):
    def get_sleep_time(self, bundle):
        return 0

base, home = sys.argv[1:3]
quick = AioDownload(None, DownloadStrategy(home=home), Quick(timeout=20))
"""


def start(program: str, server: FaultServer, home: Path, *options: str) -> subprocess.Popen[str]:
    """Run a program in another Python, with warnings as errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *options, "-c", PRELUDE + textwrap.dedent(program), server.url(""), str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen[str], seconds: float = 20) -> Any:
    """What the program printed, as JSON; it must end by itself, well, and say nothing else."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.wait()
    assert err == ""
    assert process.returncode == 0
    return json.loads(out) if out else None


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """A short real wait with a bound."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def left_in(home: Path) -> dict[str, int]:
    """The names of all files below home and their sizes."""
    sizes = {}
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):  # a partial file may get its own name meanwhile
            if path.is_file():
                sizes[path.name] = path.stat().st_size
    return sizes


def threads() -> list[str]:
    """The threads of the library that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aiodownload")]


# Scripts, threads, loops


def test_script(server: FaultServer, home: Path) -> None:
    """A plain script: import, swarm, print."""
    urls = [server.on(f"/{number}", ok(b"body")) for number in range(3)]
    program = """
        bundles = aiodownload.swarm([base + f"/{number}" for number in range(3)], quick)
        print(json.dumps([[bundle.url, bundle.status.value] for bundle in bundles]))
    """
    assert finish(start(program, server, home)) == [[url, "File written"] for url in urls]
    assert left_in(home) == {"0": 4, "1": 4, "2": 4}


def test_script_in_development_mode(server: FaultServer, home: Path) -> None:
    """python -X dev finds no socket, file or task left open after one, each, a break, and a failure."""
    server.default = ok(b"body")
    server.on("/bad", status(404))
    program = """
        aiodownload.one(base + "/one", quick)
        for bundle in aiodownload.each([base + f"/{number}" for number in range(9)], download=quick):
            if bundle.url.endswith("5"):
                break
        aiodownload.one(base + "/bad", quick)
        gc.collect()
        print(json.dumps(threading.active_count()))
    """
    assert finish(start(program, server, home, "-X", "dev")) == 1


def test_threads_side_by_side(server: FaultServer, quick: Make) -> None:
    """Calls from several threads do not know of each other; one AioDownload may serve all of them."""
    server.default = ok(b"body")
    download = quick()
    results: dict[int, list[AioDownloadBundle]] = {}

    def work(number: int) -> None:
        results[number] = aiodownload.swarm([server.url(f"/{number}-{part}") for part in range(5)], download)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert sorted(results) == [0, 1, 2, 3]
    assert all(bundle.ok for bundles in results.values() for bundle in bundles)
    assert threads() == []


async def test_facade_inside_a_running_loop(server: FaultServer, quick: Make, blockbuster: BlockBuster) -> None:
    """one, swarm and each work where a loop runs already, as in a notebook; they block it, and leave it as it was."""
    blockbuster.deactivate()
    server.default = ok(b"body")
    loop = asyncio.get_running_loop()
    assert aiodownload.one(server.url("/one"), quick()).ok
    assert all(bundle.ok for bundle in aiodownload.swarm([server.url(f"/{number}") for number in range(5)], quick()))
    assert (
        sum(bundle.ok for bundle in aiodownload.each([server.url(f"/{n}") for n in range(5, 9)], download=quick())) == 4
    )
    assert asyncio.get_running_loop() is loop
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_one_object_for_many_runs(server: FaultServer, home: Path) -> None:
    """An AioDownload serves the facade, the un-entered methods and the entered ones, one after another."""
    server.default = ok(b"body")
    download = AioDownload(None, DownloadStrategy(home=home), Quick())
    for turn in range(2):
        assert aiodownload.one(server.url(f"/facade{turn}"), download).ok
        assert len(list(aiodownload.each([server.url(f"/each{turn}")], download=download))) == 1

        async def work(turn: int = turn) -> None:
            assert (await download.one(server.url(f"/plain{turn}"))).ok
            async with download:
                assert (await download.one(server.url(f"/entered{turn}"))).ok
            async with download:
                assert (await download.one(server.url(f"/again{turn}"))).ok

        asyncio.run(work())
    assert len(left_in(home)) == 10
    assert "not entered" in repr(download)


def test_making_one_needs_no_loop_and_opens_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Constructing touches no event loop, no file system beyond the current directory's name, and no thread."""
    before = threading.active_count()
    monkeypatch.setattr(asyncio, "get_event_loop", None)
    AioDownload(aiohttp.ClientSession, DownloadStrategy(home=tmp_path / "home"), BackOff())
    assert threading.active_count() == before
    assert not (tmp_path / "home").exists()


# Clients


async def test_callers_session_is_used_and_stays_open(server: FaultServer, home: Path) -> None:
    """A session given is the one that asks, with its headers, and it is open afterwards."""
    url = server.on("/f", ok(b"body"))
    async with aiohttp.ClientSession(headers={"X-Session": "mine"}) as session:
        async with AioDownload(session, DownloadStrategy(home=home), Quick()) as download:
            assert (await download.one(url)).ok
        assert (await AioDownload(session, DownloadStrategy(home=home), Quick()).main(AioDownloadBundle(url))).ok
        assert not session.closed
        async with session.get(url) as response:
            assert await response.read() == b"body"
    assert [request.headers["x-session"] for request in server.requests] == ["mine"] * 3


async def test_callers_session_stays_open_after_redirects_and_failures(
    server: FaultServer, other_server: FaultServer, home: Path
) -> None:
    """The second session that goes to other origins shares the caller's connector and leaves it open."""
    urls = [server.on("/a", redirect(other_server.on("/b", ok()))), server.on("/bad", status(404)), "no url"]
    async with aiohttp.ClientSession() as session:
        async with AioDownload(session, DownloadStrategy(home=home), Quick(max_attempts=1)) as download:
            assert [bundle.ok for bundle in await download.swarm(urls)] == [True, False, False]
        assert not session.closed
        async with session.get(server.url("/a")) as response:
            assert response.status == 200


@pytest.mark.parametrize("asynchronous", [False, True])
def test_client_factory(asynchronous: bool, server: FaultServer, home: Path) -> None:
    """A factory, plain or async, is called on entering, once for each run, and its session is closed on leaving."""
    made: list[aiohttp.ClientSession] = []

    def plain() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession(headers={"X-Session": "made"}))
        return made[-1]

    async def slowly() -> aiohttp.ClientSession:
        await asyncio.sleep(0)
        return plain()

    download = AioDownload(slowly if asynchronous else plain, DownloadStrategy(home=home), Quick())
    assert made == []
    server.default = ok()
    assert aiodownload.one(server.url("/1"), download).ok
    assert [bundle.ok for bundle in aiodownload.each([server.url("/2")], download=download)] == [True]
    assert [session.closed for session in made] == [True, True]
    assert [request.headers["x-session"] for request in server.requests] == ["made", "made"]


def test_factory_that_makes_something_else(server: FaultServer, home: Path) -> None:
    """A factory that returns no session is the caller's mistake and said so."""
    download = AioDownload(dict, DownloadStrategy(home=home), Quick())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="must return an aiohttp"):
        aiodownload.one(server.url("/f"), download)


async def test_closed_session_is_refused(home: Path) -> None:
    """A session that is closed is refused on entering, in clear words."""
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(UsageError, match="is closed"):
        await AioDownload(session, DownloadStrategy(home=home)).one("http://127.0.0.1/")


async def test_session_closed_under_way_is_said(server: FaultServer, home: Path) -> None:
    """A session that its owner closes too early ends the call with a UsageError, not with a bare RuntimeError."""
    session = aiohttp.ClientSession()
    async with AioDownload(session, DownloadStrategy(home=home), Quick()) as download:
        await session.close()
        with pytest.raises(UsageError, match="closed"):
            await download.one(server.on("/f", ok()))


def test_session_of_another_loop_is_refused(home: Path) -> None:
    """A session that was made on another loop is refused, and the error names the factory as the way out."""

    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    with asyncio.Runner() as other:
        session = other.run(make())
        download = AioDownload(session, DownloadStrategy(home=home))
        try:
            with pytest.raises(UsageError, match="another event loop"):
                asyncio.run(download.one("http://127.0.0.1/"))
        finally:
            other.run(session.close())


async def test_facade_refuses_a_live_session_and_an_entered_object(home: Path) -> None:
    """The facade runs a loop of its own, so it refuses what lives on another, before it does anything."""
    async with aiohttp.ClientSession() as session:
        with_session = AioDownload(session, DownloadStrategy(home=home))
        async with AioDownload(download_strategy=DownloadStrategy(home=home)) as entered:
            for download, words in ((with_session, "callable that makes one"), (entered, "is entered")):
                with pytest.raises(UsageError, match=words):
                    aiodownload.one("http://127.0.0.1/", download)
                with pytest.raises(UsageError, match=words):
                    aiodownload.swarm(["http://127.0.0.1/"], download)
                with pytest.raises(UsageError, match=words):
                    aiodownload.each(["http://127.0.0.1/"], download=download)
        with pytest.raises(UsageError, match="callable that makes one"):
            pickle.dumps(with_session)


def test_facade_refuses_what_is_no_aiodownload() -> None:
    """A strategy in the place of an AioDownload is said at once, before any thread starts."""
    with pytest.raises(ConfigurationError, match=r"give AioDownload\(request_strategy=...\)"):
        aiodownload.swarm(["http://127.0.0.1/"], Lenient())  # type: ignore[arg-type]


# Other processes


class OwnRequest(RequestStrategy):
    """A strategy with a setting of its own, set after super().__init__."""

    def __init__(self) -> None:
        super().__init__(max_attempts=3)
        self.concurrent = 3
        self.own = "kept"

    def retry(self, response: aiohttp.ClientResponse) -> bool:
        return response.status == 503


class OwnDownload(DownloadStrategy):
    """A strategy that names files in its own way."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return "named/" + bundle.url.rpartition("/")[2]


def make_client() -> aiohttp.ClientSession:
    """A client factory that other processes can import."""
    return aiohttp.ClientSession(headers={"X-Process": "other"})


def fetch(download: AioDownload, urls: list[str]) -> tuple[int, list[AioDownloadBundle]]:
    """Work for another process."""
    return os.getpid(), aiodownload.swarm(urls, download)


def test_spawned_process(server: FaultServer, home: Path) -> None:
    """AioDownload with strategies and a factory goes into a new process, and the bundles come back, failures too."""
    good = server.on("/good", status(503), ok(b"body"))
    bad = server.on("/bad", status(404))
    cut_off = server.on("/cut", cut(b"body", 2))
    download = AioDownload(make_client, OwnDownload(home=home), OwnRequest())
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pid, bundles = pool.submit(fetch, download, [good, bad, cut_off, "no url"]).result(60)
    assert pid != os.getpid()
    assert [bundle.url for bundle in bundles] == [good, bad, cut_off, "no url"]
    assert [bundle.ok for bundle in bundles] == [True, False, False, False]
    assert [type(bundle.error).__name__ for bundle in bundles] == [
        "NoneType",
        "StatusError",
        "BodyError",
        "InvalidURLError",
    ]
    assert bundles[0].attempts == 2
    assert left_in(home) == {"good": 4}
    assert {request.headers["x-process"] for request in server.requests} == {"other"}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_keeps_every_setting(protocol: int, home: Path) -> None:
    """Settings, subclasses and own attributes are the same on the other side of a pickle."""
    download = AioDownload(make_client, OwnDownload(1000, home, True, max_bytes=5), OwnRequest())
    copy = pickle.loads(pickle.dumps(download, protocol))
    assert type(copy.request_strategy) is OwnRequest
    assert vars(copy.request_strategy) == vars(download.request_strategy)
    assert type(copy.download_strategy) is OwnDownload
    assert vars(copy.download_strategy) == vars(download.download_strategy)
    assert copy.client is make_client


async def test_pickle_of_an_entered_object_is_an_unentered_one(home: Path) -> None:
    """What is open does not travel; the settings do."""
    async with AioDownload(download_strategy=DownloadStrategy(home=home)) as download:
        copy = pickle.loads(pickle.dumps(download))
    assert "not entered" in repr(copy)
    async with copy:
        pass


def test_strategies_after_a_run_still_pickle(server: FaultServer, quick: Make) -> None:
    """A run leaves nothing on an AioDownload, its strategies or its bundles that could not travel."""
    download = quick()
    bundles = aiodownload.swarm([server.on("/f", ok()), server.on("/bad", drop())], download)
    assert "not entered" in repr(pickle.loads(pickle.dumps(download)))
    again = pickle.loads(pickle.dumps(bundles))
    assert [bundle.status_msg for bundle in again] == [bundle.status_msg for bundle in bundles]
    assert [repr(bundle.error) for bundle in again] == [repr(bundle.error) for bundle in bundles]


def test_cloudpickle_takes_local_classes(server: FaultServer, home: Path, tmp_path: Path) -> None:
    """Strategies that exist only in a function or a notebook travel with cloudpickle."""

    class Local(RequestStrategy):
        def retry(self, response: aiohttp.ClientResponse) -> bool:
            return response.status == 418

    class Named(DownloadStrategy):
        def get_file_path(self, bundle: AioDownloadBundle) -> str:
            return "local"

    url = server.on("/f", status(418), ok(b"body"))
    download = AioDownload(lambda: aiohttp.ClientSession(), Named(home=home), Local(max_attempts=2))
    (tmp_path / "pickled").write_bytes(cloudpickle.dumps((download, url)))
    program = f"""
        import pickle
        with open({str(tmp_path / "pickled")!r}, "rb") as file:
            download, url = pickle.load(file)
        bundle = aiodownload.one(url, download)
        print(json.dumps([bundle.ok, bundle.attempts]))
    """
    assert finish(start(program, server, home)) == [True, 2]
    assert left_in(home) == {"local": 4}


def set_up_kinds(server: FaultServer) -> None:
    """One URL for every kind of outcome."""
    half = raw(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\nContent-Range: bytes 0-1/4\r\n\r\nbo")
    server.on("/ok", ok(b"body"))
    server.on("/chunked", chunked(b"body"))
    server.on("/missing", status(404))
    server.on("/busy", status(503), ok(b"body"))
    server.on("/always-busy", status(503))
    server.on("/cut", cut(b"body", 2))
    server.on("/part", half)
    server.on("/empty", status(204))
    server.on("/nowhere", status(302))
    server.on("/circle", redirect("/circle"))
    server.on("/broken", ok(b"no gzip", Content_Encoding="gzip"))
    server.on("/later", status(503, Retry_After="9999"))
    server.on("/too-large", ok(bytes(100)))


def test_optimised_python_has_the_same_outcomes(server: FaultServer, other_server: FaultServer, home: Path) -> None:
    """python -O takes assert statements out; not one outcome depends on them."""
    program = """
        names = ["ok", "chunked", "missing", "busy", "always-busy", "cut", "part", "empty", "nowhere", "circle",
                 "broken", "later", "too-large"]
        strategy = DownloadStrategy(home=home, max_bytes=99)
        request = Quick(max_attempts=2, max_retry_after=10)
        urls = [base + "/" + name for name in names] + ["no url"]
        bundles = aiodownload.swarm(urls, AioDownload(None, strategy, request))
        outcomes = [[b.url.rpartition("/")[2], b.status.name, type(b.error).__name__, b.attempts, b.http_status, b.size]
                    for b in bundles]
        print(json.dumps([sys.flags.optimize, outcomes]))
    """
    set_up_kinds(server)
    set_up_kinds(other_server)
    plain = start(program, server, home / "plain")
    optimised = start(program, other_server, home / "optimised", "-O")
    (usual, outcomes), (level, same) = finish(plain), finish(optimised)
    assert (usual, level) == (0, 1)
    assert same == outcomes
    assert [name for name, status_name, *_ in outcomes if status_name == "DONE"] == ["ok", "chunked", "busy"]
    assert left_in(home / "plain") == left_in(home / "optimised") == {"ok": 4, "chunked": 4, "busy": 4}


# Ctrl-C

INTERRUPTED = """
    before = signal.getsignal(signal.SIGINT)
    during = []

    def urls():
        for name in ["done", "slow", "stuck", *map(str, range(20))]:
            during.append(signal.getsignal(signal.SIGINT) is before)
            yield base + "/" + name

    began = time.monotonic()
    try:
        {call}
    except KeyboardInterrupt as interrupt:
        settled = interrupt.settled
    gone = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    print(json.dumps({{
        "settled": sorted([bundle.url.rpartition("/")[2], bundle.status.name] for bundle in settled),
        "same handler": all(during) and signal.getsignal(signal.SIGINT) is before,
        "threads": gone,
    }}))
"""

IN_SWARM = "aiodownload.swarm(urls(), quick)"
IN_EACH = "settled_before = [bundle.url for bundle in aiodownload.each(urls(), download=quick)]"


def interruptible(server: FaultServer, pause: float) -> None:
    """One URL that is done at once, one that takes a while, one that never ends, and more of the latter."""
    server.default = stall(BIG, 1_500_000)
    server.on("/done", ok(b"body"))
    server.on("/slow", slow(b"body", 2, pause))


def interrupted(server: FaultServer, home: Path, program: str) -> subprocess.Popen[str]:
    """Start, and send the first Ctrl-C once both slots are busy."""
    process = start(program, server, home)
    wait_until(lambda: len(server.requests) == 3 and any(name.endswith(".part") for name in left_in(home)))
    process.send_signal(signal.SIGINT)
    return process


@posix
def test_first_ctrl_c_lets_finish_what_is_in_flight(server: FaultServer, home: Path) -> None:
    """Nothing more is admitted, what is in flight gets 2 s and no more, and the outcomes come with the interrupt."""
    interruptible(server, 0.7)
    process = interrupted(server, home, textwrap.dedent(INTERRUPTED).format(call=IN_SWARM))
    began = time.monotonic()
    told = finish(process)
    assert 1.5 < time.monotonic() - began < 6
    assert told["settled"] == [["done", "DONE"], ["slow", "DONE"]]
    assert told["same handler"] is True
    assert told["threads"] == []
    assert {request.target for request in server.requests} == {"/done", "/slow", "/stuck"}
    assert left_in(home) == {"done": 4, "slow": 4}


@posix
def test_ctrl_c_ends_as_soon_as_nothing_is_in_flight(server: FaultServer, home: Path) -> None:
    """The 2 s are for work, not for waiting: without any in flight the program goes on at once."""
    interruptible(server, 0.6)
    server.on("/stuck", slow(b"body", 2, 0.6))
    process = start(textwrap.dedent(INTERRUPTED).format(call=IN_SWARM), server, home)
    wait_until(lambda: len(server.requests) == 3)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    told = finish(process)
    assert time.monotonic() - began < 1.9
    assert told["settled"] == [["done", "DONE"], ["slow", "DONE"], ["stuck", "DONE"]]
    assert len(server.requests) == 3
    assert left_in(home) == {"done": 4, "slow": 4, "stuck": 4}


@posix
def test_second_ctrl_c_ends_at_once(server: FaultServer, home: Path) -> None:
    """The second Ctrl-C does not wait for the 2 s, and still leaves no wrong file and no thread."""
    interruptible(server, 5)
    process = interrupted(server, home, textwrap.dedent(INTERRUPTED).format(call=IN_SWARM))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    told = finish(process)
    assert time.monotonic() - began < 1.5
    assert told["settled"] == [["done", "DONE"]]
    assert told["threads"] == []
    assert left_in(home) == {"done": 4}


@posix
def test_ctrl_c_in_each(server: FaultServer, home: Path) -> None:
    """each behaves the same; the interrupt carries what was settled and not handed out yet."""
    interruptible(server, 0.5)
    process = interrupted(server, home, textwrap.dedent(INTERRUPTED).format(call=IN_EACH))
    told = finish(process)
    assert ["slow", "DONE"] in told["settled"]
    assert {name for name, _ in told["settled"]} <= {"done", "slow"}
    assert told["same handler"] is True
    assert told["threads"] == []
    assert {request.target for request in server.requests} == {"/done", "/slow", "/stuck"}
    assert left_in(home) == {"done": 4, "slow": 4}


@posix
def test_ctrl_c_while_the_consumer_works(server: FaultServer, home: Path) -> None:
    """An interrupt in the consumer's own code is the consumer's; closing the iterator leaves nothing."""
    interruptible(server, 5)
    program = """
        bundles = aiodownload.each([base + "/done", base + "/slow", base + "/stuck"], download=quick)
        try:
            for bundle in bundles:
                time.sleep(20)
        except KeyboardInterrupt:
            bundles.close()
        print(json.dumps(threading.active_count()))
    """
    process = interrupted(server, home, program)
    began = time.monotonic()
    assert finish(process) == 1
    assert time.monotonic() - began < 3
    assert left_in(home) == {"done": 4}


@posix
@pytest.mark.parametrize("call", [IN_SWARM, IN_EACH], ids=["swarm", "each"])
def test_ctrl_c_with_the_facade_inside_asyncio_run(call: str, server: FaultServer, home: Path) -> None:
    """asyncio.run turns the first Ctrl-C into a cancellation, which a blocked coroutine cannot see; the facade can."""
    interruptible(server, 5)
    program = f"""
        def urls():
            for name in ["done", "slow", "stuck", "more"]:
                yield base + "/" + name

        async def main():
            {call}

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print(json.dumps(threading.active_count()))
    """
    process = interrupted(server, home, program)
    began = time.monotonic()
    assert finish(process) == 1
    assert time.monotonic() - began < 5
    assert {request.target for request in server.requests} == {"/done", "/slow", "/stuck"}
    assert left_in(home) == {"done": 4}


@posix
def test_ctrl_c_of_the_methods_inside_asyncio_run(server: FaultServer, home: Path) -> None:
    """Awaited methods are cancelled like any coroutine: at once, and with nothing left."""
    interruptible(server, 5)
    program = """
        async def main():
            async with quick as download:
                await download.swarm([base + "/done", base + "/slow", base + "/stuck"])

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print(json.dumps(threading.active_count()))
    """
    process = interrupted(server, home, program)
    began = time.monotonic()
    assert finish(process) == 1
    assert time.monotonic() - began < 2
    assert left_in(home) == {"done": 4}


@posix
def test_ctrl_c_while_the_input_is_slow(server: FaultServer, home: Path) -> None:
    """An interrupt that strikes inside the caller's own iterable ends the run as well and carries what was settled."""
    server.on("/done", ok(b"body"))
    program = """
        def urls():
            yield base + "/done"
            time.sleep(20)

        try:
            aiodownload.swarm(urls(), quick)
        except KeyboardInterrupt as interrupt:
            print(json.dumps([bundle.status.name for bundle in interrupt.settled]))
    """
    process = start(program, server, home)
    wait_until(lambda: left_in(home) == {"done": 4})
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert finish(process) == ["DONE"]
    assert time.monotonic() - began < 3


# The end of the program, and of an iterator

UNFINISHED = ["done", "slow", "stuck", "more"]


@pytest.mark.parametrize("reference", ["bundles", "builtins_held"])
def test_exit_with_a_half_iterated_each(reference: str, server: FaultServer, home: Path) -> None:
    """A program that ends while an each() is half iterated ends promptly, with nothing said and nothing left."""
    interruptible(server, 30)
    program = f"""
        import builtins
        {reference} = aiodownload.each([base + "/" + name for name in {UNFINISHED!r}], download=quick)
        builtins.held = {reference}
        next({reference})
        while not any(name.endswith(".part") for _, _, names in os.walk(home) for name in names):
            time.sleep(0.01)
    """
    began = time.monotonic()
    process = start(program, server, home)
    finish(process)
    assert time.monotonic() - began < 8
    assert left_in(home) == {"done": 4}


def test_exit_while_the_input_is_endless_and_stuck(server: FaultServer, home: Path) -> None:
    """An input that never comes back does not keep a program from ending either."""
    server.default = ok(b"body")
    program = """
        def urls():
            yield base + "/done"
            time.sleep(60)

        bundles = aiodownload.each(urls(), download=quick)
        next(bundles)
    """
    began = time.monotonic()
    finish(start(program, server, home))
    assert time.monotonic() - began < 8
    assert left_in(home) == {"done": 4}


def test_exit_by_an_exception(server: FaultServer, home: Path) -> None:
    """An exception that ends the program in the middle of an each() ends it promptly, with its own traceback only."""
    interruptible(server, 30)
    program = f"""
        for bundle in aiodownload.each([base + "/" + name for name in {UNFINISHED!r}], download=quick):
            raise LookupError("the program's own")
    """
    process = start(program, server, home)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.strip().endswith("LookupError: the program's own")
    assert err.count("Traceback") == 1
    assert left_in(home) == {"done": 4}


def half_iterated(server: FaultServer, quick: Make) -> Iterator[AioDownloadBundle]:
    """An each() of which one bundle was taken and others are in flight."""
    interruptible(server, 0)
    server.on("/slow", stall(b"body", 2))
    bundles = aiodownload.each([server.url("/" + name) for name in UNFINISHED], download=quick())
    assert next(bundles).ok
    return bundles


def test_break_leaves_nothing(server: FaultServer, home: Path, quick: Make) -> None:
    """After break there is no thread, no partial file, and no further request."""
    interruptible(server, 30)
    for bundle in aiodownload.each([server.url("/" + name) for name in UNFINISHED], download=quick()):
        assert bundle.url.endswith("/done")
        wait_until(lambda: any(name.endswith(".part") for name in left_in(home)))
        break
    assert threads() == []
    assert left_in(home) == {"done": 4}
    asked = len(server.requests)
    time.sleep(0.05)
    assert len(server.requests) == asked


def test_close_and_with_leave_nothing(server: FaultServer, home: Path, quick: Make) -> None:
    """close() and leaving a with block end it, may be repeated, and the iterator is over."""
    bundles = half_iterated(server, quick)
    wait_until(lambda: any(name.endswith(".part") for name in left_in(home)))
    with bundles:  # type: ignore[attr-defined]
        pass
    assert threads() == []
    bundles.close()  # type: ignore[attr-defined]
    assert list(bundles) == []
    assert left_in(home) == {"done": 4}


def test_collected_iterator_leaves_nothing(server: FaultServer, home: Path, quick: Make) -> None:
    """An iterator that is only forgotten, even within a reference cycle, is ended by its collection."""
    cycle: list[Any] = [half_iterated(server, quick)]
    cycle.append(cycle)
    wait_until(lambda: any(name.endswith(".part") for name in left_in(home)))
    assert threads()
    del cycle
    gc.collect()
    assert threads() == []
    assert left_in(home) == {"done": 4}


def test_exception_of_the_consumer_leaves_nothing(server: FaultServer, home: Path, quick: Make) -> None:
    """An exception in the loop's body ends the iterator once its traceback is gone."""

    interruptible(server, 0)
    server.on("/slow", stall(b"body", 2))
    bundles = aiodownload.each([server.url("/" + name) for name in UNFINISHED], download=quick())

    def consume(results: Iterator[AioDownloadBundle]) -> None:
        for _ in results:
            raise LookupError

    with pytest.raises(LookupError):
        consume(bundles)
    assert threads()
    del bundles
    gc.collect()
    assert threads() == []
    assert left_in(home) == {"done": 4}


def test_iterator_that_was_never_begun_starts_nothing(server: FaultServer, quick: Make) -> None:
    """each() alone asks for nothing and starts no thread; the work begins with the first next()."""
    bundles = aiodownload.each([server.url("/f")], download=quick())
    time.sleep(0.02)
    assert threads() == []
    assert server.connections == 0
    del bundles
    gc.collect()


def test_each_holds_no_bundle_after_yielding_it(server: FaultServer, quick: Make) -> None:
    """A bundle that was handed out and forgotten is gone from memory while the iteration goes on."""
    server.default = ok(b"body")
    alive: weakref.WeakSet[AioDownloadBundle] = weakref.WeakSet()
    most = 0
    for bundle in aiodownload.each((server.url(f"/{number}") for number in range(100)), download=quick()):
        alive.add(bundle)
        if len(alive) > most:
            gc.collect()
            most = max(most, len(alive))
    assert most <= 4 * 2


async def test_collected_async_iterator_stops_asking(server: FaultServer, home: Path, quick: Make) -> None:
    """Inside a loop a forgotten iterator is cancelled too, while its AioDownload stays in use."""
    interruptible(server, 30)
    async with quick() as download:
        results = download.each([server.url("/" + name) for name in UNFINISHED])
        assert (await anext(results)).ok
        del results
        gc.collect()
        async with asyncio.timeout(5):
            while any("aiodownload-run" in task.get_name() for task in asyncio.all_tasks()):
                await asyncio.sleep(0.01)
        assert (await download.one(server.on("/next", ok()))).ok
    assert left_in(home) == {"done": 4, "next": 0}
