"""Executors of each kind that runs without an engine's help, and servers on as many hosts as are wanted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster_work import Steady

from aiodownload import AioDownload, DownloadStrategy, RequestStrategy
from aiodownload.testing import Connection, FaultServer, Request, Script


@pytest.fixture(scope="session")
def processes() -> Iterator[Executor]:
    """Two processes for all tests that do not kill any."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2, thread_name_prefix="pool") as pool:
        yield pool


@pytest.fixture(autouse=True)
def semaphores_are_let_go(blockbuster: Any) -> Iterator[None]:
    """The garbage collector lets go of those of a broken pool anywhere, also on an event loop: some bytes to a pipe."""
    if blockbuster is not None and "os.write" in blockbuster.functions:
        functions = {"_check_alive", "_send"}
        blockbuster.functions["os.write"].can_block_in("multiprocessing/resource_tracker.py", functions)
    modules = len(sys.modules)
    yield
    gc.collect()
    if len(sys.modules) > modules:
        gc.freeze()  # as in pytest_collection_finish: what the test imported stays


@pytest.fixture(params=["threads", "processes"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """One of them."""
    found: Executor = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def hosts() -> Iterator[Callable[[int], list[FaultServer]]]:
    """Starts servers, each on an address of its own."""
    with contextlib.ExitStack() as stack:

        def start(count: int) -> list[FaultServer]:
            return [stack.enter_context(FaultServer(host=f"127.0.0.{number}")) for number in range(2, 2 + count)]

        yield start


@pytest.fixture
def steady(home: Path) -> Callable[..., AioDownload]:
    """Makes an AioDownload that keeps below ``home``."""

    def make(
        request: RequestStrategy | None = None, download: DownloadStrategy | None = None, **more: Any
    ) -> AioDownload:
        return AioDownload(
            download_strategy=download or DownloadStrategy(home=home), request_strategy=request or Steady(), **more
        )

    return make


class Count:
    """How many requests are answered at once, over several servers."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def script(self, seconds: float, body: bytes = b"x") -> Script:
        """An answer that takes so long."""

        async def answer(request: Request, connection: Connection) -> bool:
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            await asyncio.sleep(seconds)
            with self._lock:
                self.now -= 1
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return True

        return answer


@pytest.fixture
def count() -> Count:
    return Count()
