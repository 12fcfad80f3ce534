"""Fixtures: real servers on loopback, quick strategies, and a guard against blocking calls on the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from aiodownload import AioDownload, AioDownloadBundle, BackOff, DownloadStrategy, Lenient, RequestStrategy
from aiodownload.testing import FaultServer

# A busy machine is no fault of what is tested.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

pytest_plugins = ["cluster_fixtures", "shelves"]


def pytest_collection_finish() -> None:
    """The garbage collector passes over all modules and tests: to visit them took 50 ms and more after each test."""
    gc.collect()
    gc.freeze()


class Quick(Lenient):
    """Lenient's answers without its waits: so that a test of a retry takes no minute."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 0


class MockedResponse(aiohttp.ClientResponse):
    """What aioresponses lacks for aiohttp 3.14: it does not give ``stream_writer``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", None)
        super().__init__(*args, **kwargs)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that answers as it is told."""
    with FaultServer() as running:
        yield running


@pytest.fixture
def other_server() -> Iterator[FaultServer]:
    """A second one: another origin."""
    with FaultServer() as running:
        yield running


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts until told to."""
    return trustme.CA()


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[FaultServer]:
    """A server with a certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(context) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for the files."""
    return tmp_path / "home"


@pytest.fixture
def quick(home: Path) -> Callable[..., AioDownload]:
    """Makes an AioDownload that keeps below ``home``, two requests at once, up to five tries, and no waits."""

    def make(
        request: RequestStrategy | None = None, download: DownloadStrategy | None = None, **more: Any
    ) -> AioDownload:
        return AioDownload(
            download_strategy=download or DownloadStrategy(home=home),
            request_strategy=request or Quick(timeout=5),
            **more,
        )

    return make


@pytest.fixture
def bundle() -> AioDownloadBundle:
    return AioDownloadBundle("http://test.example.com/get-some-data")


@pytest.fixture
def lenient() -> Lenient:
    return Lenient()


@pytest.fixture
def back_off() -> BackOff:
    return BackOff()


@pytest.fixture
def mocked_response_class() -> type[aiohttp.ClientResponse]:
    return MockedResponse


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster | None]:
    """Blocking calls on an event loop raise; a disk call of aiodownload on the loop would fail the test."""
    with blockbuster_ctx("aiodownload", excluded_modules=["aiodownload.testing"]) as guard:
        # A strategy that is made in a coroutine looks up the current folder, which no disk is asked for.
        for name in ("os.getcwd", "os.path.abspath"):
            if name in guard.functions:
                guard.functions[name].can_block_in("aiodownload/storage/strategy.py", "home")
                guard.functions[name].can_block_in("aiodownload/journal.py", "__init__")
        if "coverage" in sys.modules and sys.modules["coverage"].Coverage.current() is not None:
            # It takes a lock of its own in whatever thread runs a line; those of ours are looked at in all other runs.
            for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
                guard.functions[name].deactivate()
        yield guard


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No thread of aiodownload outlives its test."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name.startswith("aiodownload")]
    for thread in left:
        thread.join(2)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture
def files(home: Path) -> Callable[[], dict[str, bytes]]:
    """Every file below home: its path relative to home's host folder, and its bytes."""

    def read() -> dict[str, bytes]:
        found = {}
        for folder, _, names in os.walk(home):
            for name in names:
                path = Path(folder, name)
                found["/".join(path.relative_to(home).parts[1:])] = path.read_bytes()
        return found

    return read


def run_in_loop(coroutine: Any) -> Any:
    """Run a coroutine on a fresh loop."""
    return asyncio.run(coroutine)
