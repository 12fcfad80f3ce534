"""The same on Dask: a local cluster, and a scheduler with workers that are programs of their own."""

from __future__ import annotations

import contextlib
import copyreg
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_work import SECRET, Buggy, Poisonous, Steady, no_token

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    ConfigurationError,
    ExecutorError,
    RequestStrategy,
    StrategyError,
    TransportError,
    WorkerError,
)
from aiodownload.cluster.orders import Ticket
from aiodownload.testing import FaultServer, cut, drop, ok, redirect, status

Make = Callable[..., AioDownload]
Start = Callable[[int], list[FaultServer]]

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the extra dask is not installed"),
    # What Dask and its event loop leave open is theirs.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:::distributed"),
]


@pytest.fixture(scope="module")
def distributed() -> Iterator[Any]:
    """Dask; it changes how all exceptions of the process are pickled, which other tests need not know of."""
    before = dict(copyreg.dispatch_table)
    yield importlib.import_module("distributed")
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


@pytest.fixture
def local(distributed: Any) -> Iterator[Any]:
    """A client of two worker processes on this machine."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_local_cluster(local: Any, hosts: Start, steady: Make) -> None:
    """Outcomes, order and limits are as everywhere; a strategy that is defined here travels by Dask's own pickler."""

    class Local(RequestStrategy):
        def retry(self, response: Any) -> bool:
            return True

    servers = hosts(4)
    for server in servers:
        server.default = ok(b"x" * 100)
    urls = [server.url(f"/{number}") for number in range(50) for server in servers]
    download = steady(Local(concurrent=8, per_host=2))
    # Dask pickles errors together with what they came from, and aiohttp's do not pickle.
    down = [f"http://127.0.0.9:9/{number}" for number in range(20)]
    found = aiodownload.swarm([*urls, *down], download, executor=local.get_executor())
    assert [bundle.url for bundle in found if bundle.ok] == urls
    assert all(isinstance(bundle.error, TransportError) for bundle in found[-20:])
    assert all(Path(bundle.file_path or "").read_bytes() == b"x" * 100 for bundle in found[:-20])
    assert all(server.most_active <= 2 for server in servers)
    with pytest.raises(ConfigurationError, match=r"executor=client\.get_executor\(\)"):
        aiodownload.swarm(urls, download, executor=local)


def with_password(url: str) -> str:
    return url.replace("http://", f"http://user:{SECRET}@")


def told_of(error: BaseException | None) -> str:
    """All that could be shown of an error, and of what it came from."""
    text = ""
    while error is not None:
        text += "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)) + repr(error.args)
        error = error.__cause__ or error.__context__
    return text


def test_no_password_comes_back(
    local: Any, server: FaultServer, steady: Make, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Dask pickles errors with all that they came from, and its workers log what fails: neither has a URL as it is."""
    urls = [
        server.on("/fine", ok(b"x")),
        server.on("/missing", status(404)),
        server.on("/dropped", drop()),
        server.on("/cut", cut(b"a body", 3)),
        server.on("/redirected", redirect(with_password("http://127.0.0.9:9/there"))),
        "http://127.0.0.9:9/down",
        "http://name.invalid/",
    ]
    bundles = [AioDownloadBundle(with_password(url), headers={"X-Token": SECRET}) for url in urls]
    caplog.set_level(logging.DEBUG, "aiodownload")
    executor = local.get_executor()
    found = aiodownload.swarm(bundles, steady(Steady(max_attempts=2)), executor=executor)
    assert [bundle.ok for bundle in found] == [True] + [False] * 6
    shown = [repr(bundle) + bundle.status_msg + told_of(bundle.error) for bundle in found]
    assert all(bundle.error is None or bundle.error.__cause__ is bundle.error.__context__ is None for bundle in found)
    bug = AioDownloadBundle(with_password(server.on("/bug", ok(b"x"))))
    with pytest.raises(StrategyError) as caught:
        aiodownload.swarm([bug], steady(download=Buggy(home=home)), executor=executor)
    shown.append(told_of(caught.value))
    with pytest.raises(ConfigurationError, match="there is no token") as refused:
        aiodownload.swarm([bug], AioDownload(no_token), executor=executor)
    shown.append(told_of(refused.value))
    # What Dask logs of a task that fails by a bug of ours: its arguments.
    failed = local.submit(broken, Ticket(0, bug, 0.0), pure=False)
    assert isinstance(failed.exception(), ZeroDivisionError)
    logs = repr(local.get_worker_logs())
    assert "Compute Failed" in logs
    assert not [text for text in (*shown, caplog.text, logs) if SECRET in text]


def broken(order: Any) -> float:
    return 1 / 0


class Dask:
    """A scheduler and two workers, each a program of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self._folder = folder
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "DASK_DISTRIBUTED__COMM__RETRY__COUNT": "0",
        }
        self._environment = environment
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", self.address.rpartition(":")[2], "--no-dashboard"
        )
        self.workers = [self.worker(), self.worker()]

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait(10)


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    folder = tmp_path / "dask"
    folder.mkdir()
    with contextlib.closing(Dask(folder)) as running:
        yield running


@pytest.fixture
def client(dask: Dask, distributed: Any) -> Iterator[Any]:
    with distributed.Client(dask.address, timeout=30) as found:
        found.wait_for_workers(2, timeout=60)
        yield found


@pytest.mark.slow
def test_a_worker_is_killed(dask: Dask, client: Any, hosts: Start, steady: Make, count: Any, home: Path) -> None:
    """Nothing is lost or wrong; only what was under way there is fetched a second time."""
    servers = hosts(6)
    for server in servers:
        server.default = count.script(0.02, b"x" * 1000)
    urls = [server.url(f"/{number}") for number in range(80) for server in servers]

    def kill() -> None:
        while sum(len(server.requests) for server in servers) < 100:
            time.sleep(0.005)
        dask.workers[0].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = aiodownload.swarm(urls, steady(), executor=client.get_executor())
    killer.join()
    assert [bundle.error for bundle in found if not bundle.ok] == []
    assert all(Path(bundle.file_path or "").read_bytes() == b"x" * 1000 for bundle in found)
    asked = Counter((server.port, request.target) for server in servers for request in server.requests)
    assert len(asked) == len(urls)
    assert sum(asked.values()) - len(urls) <= 3 * 4  # four slots of that worker, and what the disk had in hand
    assert not [path for path in home.rglob("*") if path.name.startswith(".")]


def when_quiet(servers: list[FaultServer]) -> int:
    """How many requests there were, once none has come for a second and none is under way."""
    began = quiet = time.monotonic()
    count = 0
    while time.monotonic() - quiet < 1:
        assert time.monotonic() - began < 30
        before, count = count, sum(len(server.requests) for server in servers)
        if count != before or any(server.active for server in servers):
            quiet = time.monotonic()
        time.sleep(0.05)
    return count


@pytest.mark.slow
def test_the_scheduler_is_killed(
    dask: Dask, client: Any, hosts: Start, steady: Make, count: Any, tmp_path: Path
) -> None:
    """The run ends within seconds, says why, and has what was settled; a rerun elsewhere does the rest."""
    servers = hosts(4)
    for server in servers:
        server.default = count.script(0.02)
    urls = [server.url(f"/{number}") for number in range(300) for server in servers]
    journal = tmp_path / "journal.db"

    def kill() -> None:
        while sum(len(server.requests) for server in servers) < 600:
            time.sleep(0.005)
        dask.scheduler.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(ExecutorError) as caught:
        aiodownload.swarm(urls, steady(journal=journal), executor=client.get_executor())
    killer.join()
    assert caught.value.settled
    assert all(bundle.ok for bundle in caught.value.settled)
    requests = when_quiet(servers)  # Dask's workers end what they had
    found = aiodownload.swarm(urls, steady(journal=journal))
    assert all(bundle.ok for bundle in found)
    assert sum(len(server.requests) for server in servers) - requests <= len(urls) - len(caught.value.settled)


@pytest.mark.slow
def test_who_kills_dasks_workers(distributed: Any, server: FaultServer, home: Path, steady: Make) -> None:
    """Dask gives such a task up after some workers, here the first; in the end it fails, with few others."""
    dask = importlib.import_module("dask")
    server.default = ok(b"x")
    poison = AioDownloadBundle(server.url("/poison"))
    urls = [server.url(f"/{number}") for number in range(20)]
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        download = steady(Steady(), Poisonous(home=home))
        found = aiodownload.swarm([*urls, poison], download, executor=client.get_executor())
    assert isinstance(poison.error, WorkerError)
    assert "KilledWorker" in str(poison.error)
    assert sum(not bundle.ok for bundle in found) <= 4
