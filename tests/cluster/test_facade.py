"""executor= and workers=: the same call, the same outcomes, wherever the tries are made."""

from __future__ import annotations

import itertools
import os
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster_work import Buggy, Noting, Refusing, Steady, Told, Untimed, children, no_session, told

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    ConfigurationError,
    DownloadError,
    DownloadStrategy,
    ExecutorError,
    HomeError,
    RequestStrategy,
    RunFinished,
    RunStarted,
    Settled,
    Status,
    StatusError,
    StrategyError,
    UsageError,
    Verified,
)
from aiodownload.cluster import ledger, shards, stock
from aiodownload.cluster.engine import engine_of
from aiodownload.testing import FaultServer, ok, status

Make = Callable[..., AioDownload]
Start = Callable[[int], list[FaultServer]]


def test_what_comes_back(executor: Executor, hosts: Start, steady: Make) -> None:
    """Bundles come back as they were given, in order, with all that became of them; ``info`` has not travelled."""
    servers = hosts(3)
    unpicklable = threading.Lock()
    bundles = [
        AioDownloadBundle(server.on(f"/{number}", ok(f"{number}".encode() * 100)), unpicklable)
        for number in range(20)
        for server in servers
    ]
    found = aiodownload.swarm(bundles, steady(), executor=executor)
    assert all(one is other for one, other in zip(found, bundles, strict=True))
    for number, bundle in enumerate(bundles):
        assert (bundle.ok, bundle.status, bundle.http_status, bundle.attempts) == (True, Status.DONE, 200, 1)
        assert bundle.info is unpicklable
        assert bundle.verified is Verified.LENGTH
        assert bundle.final_url == bundle.url
        assert bundle.response_headers is not None
        assert 0 < bundle.elapsed < 30
        assert Path(bundle.file_path or "").read_bytes() == f"{number // 3}".encode() * 100
        assert bundle.size == os.path.getsize(bundle.file_path or "")
    assert [len(server.requests) for server in servers] == [20, 20, 20]


def test_processes_of_our_own(server: FaultServer, steady: Make) -> None:
    """``workers=`` alone starts processes, which have ended when the call returns."""
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(50)]
    resource_tracker.ensure_running()  # Python's own, which the first pool of a program starts, and which stays
    before = set(children())
    assert [bundle.ok for bundle in aiodownload.swarm(urls, steady(), workers=2)] == [True] * 50
    assert set(children()) <= before


def test_as_they_finish(executor: Executor, hosts: Start, steady: Make) -> None:
    """``each`` hands out a bundle per item, with the item as its info."""
    (server,) = hosts(1)
    server.default = ok(b"x")
    items = [{"number": number} for number in range(30)]
    found = list(
        aiodownload.each(items, lambda item: server.url(f"/{item['number']}"), steady(), executor=executor, workers=3)
    )
    assert all(bundle.ok for bundle in found)
    assert sorted(bundle.info["number"] for bundle in found) == list(range(30))


def test_an_empty_input(executor: Executor, steady: Make) -> None:
    """Nothing is asked of the executor."""
    assert aiodownload.swarm([], steady(), executor=executor) == []
    assert aiodownload.swarm([], steady(), workers=2) == []
    assert list(aiodownload.each(iter(()), None, steady(), executor=executor)) == []


def test_failures_are_values(executor: Executor, server: FaultServer, steady: Make, home: Path) -> None:
    """What fails is a bundle that says why; ``on_fail`` is called once for it, at the caller, who knows its info."""
    told.clear()
    good = server.on("/good", ok(b"x"))
    missing = AioDownloadBundle(server.on("/missing", status(404)), "the info")
    found = aiodownload.swarm(
        [good, missing, "no url", good, missing], steady(download=Told(home=home)), executor=executor
    )
    assert [bundle.ok for bundle in found] == [True, False, False, True, False]
    assert isinstance(missing.error, StatusError)
    assert (missing.http_status, missing.attempts) == (404, 1)
    assert len(server.asked("/good")) == len(server.asked("/missing")) == 1
    assert sorted(told) == sorted([(missing.url, "the info"), ("no url", None)])


def test_requests_are_what_they_are(executor: Executor, server: FaultServer, steady: Make) -> None:
    """Headers, forms, digests, paths and mirrors travel with their bundle."""
    server.default = ok(b"x")
    digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    bundles = [
        AioDownloadBundle(server.url("/a"), headers={"X-Token": "sesame"}),
        AioDownloadBundle(server.url("/b"), params={"name": "value"}),
        AioDownloadBundle(server.url("/c"), digest=digest, file_path="kept/here.bin"),
        AioDownloadBundle(server.on("/d", status(503)), mirrors=[server.url("/e")]),
        AioDownloadBundle(server.url("/f"), digest="sha256:" + "0" * 64),
    ]
    found = aiodownload.swarm(bundles, steady(), executor=executor)
    assert [bundle.ok for bundle in found] == [True, True, True, True, False]
    assert server.asked("/a")[0].headers["x-token"] == "sesame"
    assert (server.asked("/b")[0].method, server.asked("/b")[0].body) == ("POST", b"name=value")
    assert bundles[2].verified is Verified.DIGEST
    assert (bundles[2].file_path or "").endswith("kept/here.bin")
    assert bundles[3].final_url == server.url("/e")


def test_what_a_hook_sets_on_a_bundle(executor: Executor, server: FaultServer, steady: Make, home: Path) -> None:
    """The results come back, and nothing else; and the info has been nowhere."""
    url = server.on("/x", ok(b"x"))
    bundle = AioDownloadBundle(url, "the info")
    aiodownload.swarm([bundle], steady(download=Noting(home=home)), executor=executor)
    assert bundle.ok, bundle.error
    assert bundle.info == "the info"
    assert not hasattr(bundle, "note")


def test_skip_cached(executor: Executor, server: FaultServer, home: Path, steady: Make) -> None:
    """What is there is found at the caller, and goes nowhere."""
    url = server.on("/x", ok(b"x"))
    first = steady(download=DownloadStrategy(home=home, skip_cached=True))
    assert [one.status for one in aiodownload.swarm([url], first, executor=executor)] == [Status.DONE]
    assert [one.status for one in aiodownload.swarm([url], first, executor=executor)] == [Status.CACHED]
    assert len(server.requests) == 1


def test_an_old_file_is_fetched_again(executor: Executor, server: FaultServer, steady: Make) -> None:
    """A file that was there before the run is no sign of a worker that was lost."""
    url = server.on("/x", ok(b"old"), ok(b"new"))
    for text in (b"old", b"new"):
        (bundle,) = aiodownload.swarm([url], steady(), executor=executor)
        assert bundle.status is Status.DONE
        assert Path(bundle.file_path or "").read_bytes() == text
        time.sleep(0.02)


def test_the_journal(executor: Executor, hosts: Start, steady: Make, tmp_path: Path) -> None:
    """It has one writer, knows the files, and a rerun asks for nothing that is there; a refresh asks on a condition."""
    (server,) = hosts(1)
    journal = tmp_path / "journal.db"
    urls = [server.on(f"/{number}", ok(b"x", ETag='"one"')) for number in range(10)]
    bad = server.on("/bad", status(404))
    aiodownload.swarm([*urls, bad], steady(journal=journal), executor=executor)
    read = aiodownload.Journal(journal)
    read.open()
    assert read.counts() == {"done": 10, "failed": 1}
    read.close()
    again = aiodownload.swarm([*urls, bad], steady(journal=journal), executor=executor)
    assert [one.status for one in again[:10]] == [Status.CACHED] * 10
    assert len(server.requests) == 12
    for url in urls:
        server.on(url.rpartition("0.2:")[2].partition("/")[2].join(["/", ""]), status(304))
    fresh = DownloadStrategy(home=steady().download_strategy.home, refresh=True)
    third = aiodownload.swarm(urls, steady(download=fresh, journal=journal), executor=executor)
    assert [one.status for one in third] == [Status.CACHED] * 10
    assert {request.headers.get("if-none-match") for request in server.requests[12:]} == {'"one"'}


def test_observers_are_told_here(executor: Executor, server: FaultServer, steady: Make) -> None:
    """A run begins, bundles are settled, a run ends; so a display works, though its object could not travel."""
    server.default = ok(b"x")
    told: list[Any] = []

    class Watcher:
        event_types = (RunStarted, Settled, RunFinished)
        lock = threading.Lock()

        def on_event(self, event: Any) -> None:
            told.append(event)

    urls = [server.url(f"/{number}") for number in range(5)]
    aiodownload.swarm(urls, steady(observers=[Watcher()]), executor=executor)
    assert told[0] == RunStarted(5)
    assert [type(event) for event in told[1:-1]] == [Settled] * 5
    assert told[-1] == RunFinished()
    aiodownload.swarm(urls, steady(), executor=executor, progress=Watcher())
    assert len(told) == 14


def test_an_endless_input_is_not_read_ahead(executor: Executor, hosts: Start, steady: Make) -> None:
    """Not further than two shards for each worker, beyond what was taken; leaving it ends it all."""
    servers = hosts(8)
    for server in servers:
        server.default = ok(b"x")
    read = 0

    def urls() -> Any:
        nonlocal read
        for read in itertools.count(1):
            yield servers[read % 8].url(f"/{read}")

    results = aiodownload.each(urls(), None, steady(), executor=executor)
    for taken in range(1, 1200):
        assert next(results).ok
        # While a worker has nothing to do, since its hosts are with the other one, another portion may be read.
        assert read <= taken + 2 * 2 * stock.BUNDLES + 4 * stock.BUNDLES
    results.close()  # type: ignore[attr-defined]
    asked = sum(len(server.requests) for server in servers)
    time.sleep(0.3)
    assert sum(len(server.requests) for server in servers) == asked


def test_leaving_early_waits(threads: Executor, server: FaultServer, steady: Make, home: Path) -> None:
    """Threads are told to end; no partial file and no request of the run outlives it."""
    server.default = ok(b"x" * 1000)
    began = time.monotonic()
    for bundle in aiodownload.each((server.url(f"/{n}") for n in itertools.count()), None, steady(), executor=threads):
        assert bundle.ok
        break
    assert time.monotonic() - began < 5
    assert not server.active
    assert not [path for path in home.rglob("*") if path.name.startswith(".")]


def test_an_error_of_the_input(executor: Executor, server: FaultServer, steady: Make) -> None:
    """What the iterable raises comes out after what was read has been settled."""
    server.default = ok(b"x")

    def urls() -> Any:
        yield server.url("/1")
        yield server.url("/2")
        raise OSError("the list is torn")

    with pytest.raises(OSError, match="torn") as caught:
        aiodownload.swarm(urls(), steady(), executor=executor)
    assert [bundle.ok for bundle in caught.value.settled] == [True, True]  # type: ignore[attr-defined]


class Mute(Executor):
    """Does not say which of its calls are under way, and cannot call any back: as Dask's."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.deaf = False

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        told: Future[Any] = Future()

        def work() -> None:
            result = function(*args, **kwargs)
            if not self.deaf and not told.cancelled():
                told.set_result(result)

        self._pool.submit(work)
        return told

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


@pytest.mark.parametrize("deaf", [False, True])
def test_leaving_an_executor_that_tells_nothing(
    server: FaultServer, steady: Make, monkeypatch: pytest.MonkeyPatch, count: Any, deaf: bool
) -> None:
    """A shard that may have begun is waited for; one that never comes back, for a bounded time."""
    monkeypatch.setattr(ledger, "SECONDS", 0.3)
    monkeypatch.setattr(shards, "UNTOLD", 1.0)
    server.default = count.script(0.02)
    executor = Mute()
    results = aiodownload.each((server.url(f"/{n}") for n in itertools.count()), None, steady(), executor=executor)
    assert next(results).ok
    executor.deaf = deaf
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    assert (time.monotonic() - began >= 1.0) == deaf
    assert not server.active
    executor.shutdown()


@pytest.mark.parametrize(
    ("told", "workers"),
    [
        ({"_max_workers": 3}, 3),
        ({"num_workers": 5}, 5),
        ({"_client": types.SimpleNamespace(ncores=lambda: {"tcp://a": 4, "tcp://b": 4})}, 2),
        ({"_client": types.SimpleNamespace(ncores=lambda: 1 / 0)}, os.cpu_count()),
        ({"_max_workers": 0}, os.cpu_count()),
    ],
)
def test_how_many_workers(told: dict[str, Any], workers: int) -> None:
    """As many as the executor says, in one of the ways that executors have; else as there are processors."""
    executor = types.SimpleNamespace(submit=print, **told)
    assert engine_of(executor, None).workers == workers
    assert engine_of(executor, 7).workers == 7


# Mistakes.


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"executor": 7}, "executor must be a concurrent.futures.Executor"),
        ({"executor": ThreadPoolExecutor}, "executor must be a concurrent.futures.Executor"),
        ({"workers": 0}, "workers must be a whole number of at least 1, not 0"),
        ({"workers": True}, "workers must be"),
        ({"workers": 2.5}, "workers must be"),
    ],
)
def test_wrong_settings(given: dict[str, Any], told: str) -> None:
    """They are named before anything begins."""
    for call in (aiodownload.swarm, aiodownload.each):
        with pytest.raises(ConfigurationError, match=told):
            call([], **given)


def test_a_client_is_no_executor() -> None:
    """Dask's client has an executor, and is none."""

    class Client:
        def submit(self) -> None: ...

        def get_executor(self) -> None: ...

    with pytest.raises(ConfigurationError, match=r"executor=client\.get_executor\(\)"):
        aiodownload.swarm([], executor=Client())  # type: ignore[arg-type]


def test_an_executor_that_returns_something_else(steady: Make) -> None:
    """It is no executor, and that is said."""

    class Wrong:
        def submit(self, *_: Any) -> int:
            return 7

    with pytest.raises(ConfigurationError, match=r"must return a concurrent\.futures\.Future, not int"):
        aiodownload.swarm(["http://127.0.0.1:9/"], steady(), executor=Wrong())  # type: ignore[arg-type]


def test_one_has_neither() -> None:
    """A single URL needs no executor."""
    for name in ("executor", "workers"):
        with pytest.raises(TypeError, match=name):
            aiodownload.one("http://127.0.0.1:9/", **{name: None})


async def test_a_live_session(processes: Executor, server: FaultServer) -> None:
    """It belongs to one event loop; a callable that makes one travels."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(UsageError, match="give a callable that makes one"):
            aiodownload.swarm([server.url("/")], AioDownload(session), executor=processes)


def test_a_callable_makes_the_sessions_in_the_workers(
    executor: Executor, server: FaultServer, home: Path, steady: Make
) -> None:
    """And none is made at the caller's."""
    server.default = ok(b"x")
    download = AioDownload(aiohttp.ClientSession, DownloadStrategy(home=home), Steady())
    assert aiodownload.swarm([server.url("/x")], download, executor=executor)[0].ok


def test_what_does_not_pickle_is_named(processes: Executor, server: FaultServer, home: Path) -> None:
    """Before anything is asked; threads need not pickle anything."""
    server.default = ok(b"x")
    download = AioDownload(None, DownloadStrategy(home=home), Untimed())
    with pytest.raises(ConfigurationError, match=r"executor: request_strategy\.answer .* does not pickle"):
        aiodownload.swarm([server.url("/x")], download, executor=processes)

    class Local(RequestStrategy):
        pass

    with pytest.raises(ConfigurationError, match=r"executor: request_strategy .*Local.* does not pickle"):
        aiodownload.swarm([server.url("/x")], AioDownload(None, None, Local()), executor=processes)
    assert not server.requests
    with ThreadPoolExecutor(1) as pool:
        assert aiodownload.swarm([server.url("/x")], download, executor=pool)[0].ok


def test_a_bug_in_a_strategy_ends_the_run(
    executor: Executor, server: FaultServer, home: Path, steady: Make, count: Any
) -> None:
    """As a StrategyError of the caller's own bundle, with the bug as its cause, and what was settled."""
    server.default = ok(b"x")
    bug = AioDownloadBundle(server.on("/bug", count.script(0.5)), "info")
    urls = [server.url(f"/{number}") for number in range(5)]
    with pytest.raises(StrategyError, match=r"on_success failed for .*/bug: KeyError") as caught:
        aiodownload.swarm([*urls, bug], steady(Steady(concurrent=1), Buggy(home=home)), executor=executor)
    assert caught.value.bundle is bug
    assert isinstance(caught.value.__cause__, KeyError)
    assert "cluster_work.py" in "".join(caught.value.__notes__)
    assert [bundle.url for bundle in caught.value.settled if bundle.ok] == urls


def test_a_home_that_cannot_be_used(executor: Executor, server: FaultServer, tmp_path: Path, steady: Make) -> None:
    """It is said as it is without an executor."""
    (tmp_path / "file").touch()
    with pytest.raises(HomeError):
        aiodownload.swarm(
            [server.url("/x")], steady(download=DownloadStrategy(home=tmp_path / "file" / "x")), executor=executor
        )


def test_a_callable_that_makes_no_session(executor: Executor, server: FaultServer) -> None:
    """What it raises in a worker is said, before anything is asked."""
    with pytest.raises(ExecutorError, match="KeyError: 'TOKEN'"):
        aiodownload.swarm([server.url("/x")], AioDownload(no_session), executor=executor)
    assert not server.requests


def test_an_error_that_does_not_travel(processes: Executor, server: FaultServer, home: Path, steady: Make) -> None:
    """Its words do; neither the bundle nor the pool is lost by it."""
    url = server.on("/x", ok(b"x"))
    (bundle,) = aiodownload.swarm([url], steady(download=Refusing(home=home)), executor=processes)
    assert type(bundle.error) is DownloadError
    assert str(bundle.error) == "OddError: 1"


def test_an_executor_that_is_shut_down(server: FaultServer, steady: Make) -> None:
    """It takes nothing, and that is said at once."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ExecutorError, match=r"executor: .*after shutdown") as caught:
        aiodownload.swarm([server.url("/x")], steady(), executor=pool)
    assert caught.value.settled == []


class Closing(Executor):
    """Takes so many calls, and is shut down then."""

    def __init__(self, calls: int) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._left = calls

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self._left:
            self._pool.shutdown(wait=False)
        self._left -= 1
        return self._pool.submit(function, *args, **kwargs)


def test_an_executor_that_is_shut_down_meanwhile(server: FaultServer, steady: Make, tmp_path: Path) -> None:
    """The run ends; what was settled is told and journalled, and a rerun does the rest."""
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(600)]
    journal = tmp_path / "journal.db"
    with pytest.raises(ExecutorError, match="takes no work any more") as caught:
        aiodownload.swarm(urls, steady(journal=journal), executor=Closing(2), workers=1)
    assert len(caught.value.settled) == len(server.requests) == stock.BUNDLES
    assert all(bundle.ok for bundle in caught.value.settled)
    read = aiodownload.Journal(journal)
    read.open()
    assert read.counts()["done"] == stock.BUNDLES
    assert len(list(read.unfinished())) > 0
    read.close()
    assert all(one.ok for one in aiodownload.swarm(urls, steady(journal=journal), executor=Closing(99), workers=1))
    assert len(server.requests) == 600


def test_a_shard_that_is_cancelled_from_elsewhere(server: FaultServer, steady: Make) -> None:
    """Somebody has shut the executor down with what was queued: the run ends and says so."""

    class Cancelling(Closing):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self._left:
                return super().submit(function, *args, **kwargs)
            future: Future[Any] = Future()
            future.cancel()
            return future

    server.default = ok(b"x")
    with pytest.raises(ExecutorError, match="it has cancelled a shard"):
        aiodownload.swarm([server.url("/x")], steady(), executor=Cancelling(1))


def test_an_executor_without_workers(server: FaultServer, steady: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever for one that does nothing."""

    class Idle(Closing):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(function, *args, **kwargs) if self._left else Future()

    monkeypatch.setattr(ledger, "PATIENCE", 0.2)
    with pytest.raises(ExecutorError, match="no worker has taken any work"):
        aiodownload.swarm([server.url("/x")], steady(), executor=Idle(0))
    with pytest.raises(ExecutorError, match=r"has not come back for 0\.4 s"):
        aiodownload.swarm([server.url("/x")], steady(), executor=Idle(1))


def test_objects_in_memory(executor: Executor, server: FaultServer) -> None:
    """Threads share it; elsewhere all objects would be lost, and nothing is asked."""
    pytest.importorskip("obstore")
    from aiodownload.storage.objects import memory_store

    urls = [server.on(f"/{number}", ok(b"x" * number)) for number in range(1, 20)]
    name = f"cluster{time.time_ns()}"
    download = AioDownload(None, DownloadStrategy(home=f"memory://{name}/files"), Steady())
    if isinstance(executor, ThreadPoolExecutor):
        found = aiodownload.swarm(urls, download, executor=executor)
        assert [bundle.size for bundle in found if bundle.ok] == list(range(1, 20))
        assert sorted(len(memory_store(name).get(one["path"]).bytes()) for one in _listed(name)) == list(range(1, 20))
        return
    for given in ({"executor": executor}, {"workers": 1}):
        with pytest.raises(ConfigurationError, match="home=memory:// is in the memory of one process"):
            aiodownload.swarm(urls, download, **given)  # type: ignore[arg-type]
    assert not server.requests
    assert not _listed(name)


def _listed(name: str) -> list[Any]:
    from aiodownload.storage.objects import memory_store

    return [one for batch in memory_store(name).list() for one in batch]
