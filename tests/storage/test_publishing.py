"""Small files whose names come later: the run goes on meanwhile, and nothing is lost, whatever happens until then."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, RequestStrategy, Status
from aiodownload.errors import DiskError
from aiodownload.storage import disk as disk_module
from aiodownload.storage.publisher import Publisher
from aiodownload.testing import FaultServer, ok

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the process for small files needs POSIX")

BOUND = 10  # seconds for what takes milliseconds


class Telling(DownloadStrategy):
    """Keeps what has failed."""

    def __init__(self, home: Path) -> None:
        super().__init__(home=home)
        self.failed: list[AioDownloadBundle] = []

    async def on_fail(self, bundle: AioDownloadBundle) -> None:
        self.failed.append(bundle)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition on the event loop."""
    async with asyncio.timeout(BOUND):
        while not condition():
            await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AioDownload]:
    """An entered one, whose strategy keeps what has failed."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    async with AioDownload(None, Telling(tmp_path / "home"), RequestStrategy(concurrent=4)) as entered:
        yield entered


async def process_of(download: AioDownload, server: FaultServer) -> Publisher:
    """Its process for small files, once that takes jobs."""
    assert download._live is not None
    disk = download._live.workspace.disk
    assert (await download.one(server.on("/first", ok(b"first")))).ok
    await until(lambda: disk.publisher(1))
    assert disk._publisher is not None
    return disk._publisher


@contextlib.contextmanager
def stopped(process: Publisher) -> Iterator[None]:
    """Meanwhile it does nothing."""
    os.kill(process._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process._process.pid, signal.SIGCONT)


def urls_of(server: FaultServer, count: int) -> list[str]:
    """So many small files."""
    return [server.on(f"/{number}", ok(bytes([number]) * 1000)) for number in range(count)]


async def test_the_next_are_asked_for_meanwhile(download: AioDownload, server: FaultServer) -> None:
    """A name that has not come holds no slot and no worker; a bundle is settled with it, and not before."""
    process = await process_of(download, server)
    settled: dict[str, AioDownloadBundle] = {}
    with stopped(process):
        task = asyncio.ensure_future(collect(download, urls_of(server, 10), settled))
        await until(lambda: len(process._jobs) == 10)
        assert not settled
    await asyncio.wait_for(task, BOUND)
    bundles = list(settled.values())
    assert all(bundle.status is Status.DONE and bundle.size == 1000 for bundle in bundles)
    assert {Path(bundle.file_path or "").read_bytes() for bundle in bundles} == {bytes([n]) * 1000 for n in range(10)}
    assert all(bundle.verified is aiodownload.Verified.LENGTH and bundle.elapsed > 0 for bundle in bundles)


async def collect(download: AioDownload, urls: list[str], settled: dict[str, AioDownloadBundle]) -> None:
    async for bundle in download.each(urls):
        settled[bundle.url] = bundle


@pytest.mark.parametrize("impatient", [False, True])
async def test_leaving_waits_for_names_that_are_under_way(
    download: AioDownload, server: FaultServer, impatient: bool
) -> None:
    """A call that is cancelled ends when its files are whole under their names, which others may have then."""
    process = await process_of(download, server)
    urls = urls_of(server, 3)
    with stopped(process):
        task = asyncio.ensure_future(download.swarm(urls))
        await until(lambda: len(process._jobs) == 3)
        task.cancel()
        await asyncio.wait([task], timeout=0.05)
        assert not task.done()
        if impatient:
            task.cancel()
            await asyncio.wait([task], timeout=0.05)
            assert task.done()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, BOUND)
    await until(lambda: not process._jobs)
    again = await download.swarm(urls)
    assert [Path(bundle.file_path or "").read_bytes() for bundle in again] == [bytes([n]) * 1000 for n in range(3)]
    assert len({bundle.file_path for bundle in again}) == 3
    assert not any("-" in Path(bundle.file_path or "").name for bundle in again)  # under their own names


async def test_one_process_less(download: AioDownload, server: FaultServer) -> None:
    """It is killed with files in hand: threads publish them."""
    process = await process_of(download, server)
    with stopped(process):
        task = asyncio.ensure_future(download.swarm(urls_of(server, 10)))
        await until(lambda: len(process._jobs) == 10)
        os.kill(process._process.pid, signal.SIGKILL)
        bundles = await asyncio.wait_for(task, BOUND)
    assert [Path(bundle.file_path or "").read_bytes() for bundle in bundles] == [bytes([n]) * 1000 for n in range(10)]


async def test_killed_and_cancelled_at_once(download: AioDownload, server: FaultServer) -> None:
    """Nobody is left to publish them: the bundles are cancelled, and no part of a file is there."""
    process = await process_of(download, server)
    bundles = [AioDownloadBundle(url) for url in urls_of(server, 3)]
    with stopped(process):
        task = asyncio.ensure_future(download.swarm(bundles))
        await until(lambda: len(process._jobs) == 3)
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, BOUND)
    assert all(bundle.status is Status.CANCELLED for bundle in bundles)
    assert sorted(path.name for path in Path(download.download_strategy.home).rglob("*") if path.is_file()) == ["first"]


async def test_a_disk_that_refuses(download: AioDownload, server: FaultServer) -> None:
    """The bundle fails with the reason, ``on_fail`` is told once, and what was there before stays."""
    resource = pytest.importorskip("resource")
    process = await process_of(download, server)
    resource.prlimit(process._process.pid, resource.RLIMIT_FSIZE, (100, 100))
    bundles = await asyncio.wait_for(download.swarm([*urls_of(server, 3), server.on("/tiny", ok(b"tiny"))]), BOUND)
    assert [bundle.ok for bundle in bundles] == [False, False, False, True]
    for bundle in bundles[:3]:
        assert isinstance(bundle.error, DiskError)
        assert bundle.error.errno == errno.EFBIG
        assert bundle.attempts == 1
        assert bundle.size is None
        assert not Path(bundle.file_path or "").exists()
    strategy = download.download_strategy
    assert isinstance(strategy, Telling)
    assert strategy.failed == bundles[:3]


async def test_the_same_url_again(download: AioDownload, server: FaultServer) -> None:
    """Whoever waits for the outcome gets it."""
    process = await process_of(download, server)
    url = server.on("/again", ok(b"x" * 1000))
    with stopped(process):
        task = asyncio.ensure_future(download.swarm([url, url, AioDownloadBundle(url)]))
        await until(lambda: process._jobs)
    bundles = await asyncio.wait_for(task, BOUND)
    assert [bundle.size for bundle in bundles] == [1000] * 3
    assert len(server.asked("/again")) == 1


@pytest.mark.parametrize("kill", [False, True], ids=["answers", "killed"])
async def test_a_single_try(download: AioDownload, server: FaultServer, kill: bool) -> None:
    """``request_and_download`` waits for the name, and for the threads if the process has died."""
    process = await process_of(download, server)
    bundle = AioDownloadBundle(server.on("/single", ok(b"x" * 1000)))
    with stopped(process):
        task = asyncio.ensure_future(download.request_and_download(bundle))
        await until(lambda: process._jobs)
        assert not task.done()
        if kill:
            os.kill(process._process.pid, signal.SIGKILL)
    await asyncio.wait_for(task, BOUND)
    assert bundle.status is Status.DONE
    assert Path(bundle.file_path or "").read_bytes() == b"x" * 1000


async def test_a_single_try_and_a_disk_that_refuses(download: AioDownload, server: FaultServer) -> None:
    """As in a swarm."""
    resource = pytest.importorskip("resource")
    process = await process_of(download, server)
    resource.prlimit(process._process.pid, resource.RLIMIT_FSIZE, (100, 100))
    bundle = AioDownloadBundle(server.on("/single", ok(b"x" * 1000)))
    await download.request_and_download(bundle)
    assert isinstance(bundle.error, DiskError)
    assert bundle.status is Status.FAILED
