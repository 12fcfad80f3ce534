"""Small files whose names come later: the run goes on meanwhile, and nothing is lost, whatever happens until then."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from aiohttp import ClientResponse

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    DownloadStrategy,
    Journal,
    JournalError,
    RequestStrategy,
    Status,
    StrategyError,
)
from aiodownload.entries import Enlisted, FileState, Known, Outcome, Publication
from aiodownload.errors import DiskError
from aiodownload.storage import disk as disk_module
from aiodownload.storage import publisher
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


# With a journal: nothing has a name before that is noted.


class Watching(Journal):
    """Looks at the files as they are noted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.together: list[int] = []
        self.early: list[str] = []

    def publishing_all(self, publications: Any) -> None:
        """Note which of them have their names already."""
        self.early += [one.path for _, one in publications if os.path.exists(one.path)]
        self.together.append(len(publications))
        super().publishing_all(publications)


class Filling(Journal):
    """Has room for 20 files."""

    room = 20

    def _note(self, rows: Any) -> None:
        self.room -= len(rows)
        if self.room < 0:
            raise JournalError(self.path, "cannot write: database or disk is full")
        super()._note(rows)


class Passing:
    """Passes all on to a journal, and has its own way to note one."""

    def __init__(self, path: Path) -> None:
        self.inner = Journal(path)
        self.noted: list[bytes] = []

    def publishing(self, key: bytes, publication: Publication) -> None:
        """Count it."""
        self.noted.append(key)
        self.inner.publishing(key, publication)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Each(Journal):
    """Has its own way to note one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.noted: list[bytes] = []

    def publishing(self, key: bytes, publication: Publication) -> None:
        """Count it."""
        self.noted.append(key)
        super().publishing(key, publication)


@pytest.fixture
def keep(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Downloads 60 small files with a journal, by the process as soon as it is there."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    urls = urls_of(server, 60)

    async def download_all(journal: Any, of: list[str] = urls) -> list[AioDownloadBundle]:
        asking = RequestStrategy(concurrent=4)
        async with AioDownload(None, DownloadStrategy(home=tmp_path / "home"), asking, journal=journal) as download:
            await process_of(download, server)
            return await download.swarm(of)

    return download_all


def files_in(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}


RIGHT = {"first": b"first", **{str(number): bytes([number]) * 1000 for number in range(60)}}


async def test_noted_before_the_name(keep: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at a time, each as the file that then has the name; a second run finds them all."""
    held = []
    hand_in = Publisher.hand_in

    def handing_in(self: Publisher, *given: Any) -> int:
        held.append(given[-1] is not None)
        return hand_in(self, *given)

    monkeypatch.setattr(Publisher, "hand_in", handing_in)
    journal = Watching(tmp_path / "journal.db")
    bundles = await keep(journal)
    assert all(bundle.status is Status.DONE for bundle in bundles)
    assert files_in(tmp_path) == RIGHT
    assert held == [True] * 60
    assert journal.early == []
    assert sum(journal.together) == 60
    assert all(bundle.status is Status.CACHED for bundle in await keep(Journal(journal.path)))
    assert len(held) == 60


def spied(path: Path) -> Journal:
    """A journal of which one method was replaced."""
    journal: Any = Journal(path)
    publishing, journal.noted = journal.publishing, []

    def spy(key: bytes, publication: Publication) -> None:
        journal.noted.append(key)
        publishing(key, publication)

    journal.publishing = spy
    return cast("Journal", journal)


@pytest.mark.parametrize("kind", [Passing, Each, spied])
async def test_a_journal_with_its_own_way(kind: Any, keep: Callable[..., Any], tmp_path: Path) -> None:
    """It is told of every file, once."""
    journal = kind(tmp_path / "journal.db")
    assert all(bundle.ok for bundle in await keep(journal))
    assert files_in(tmp_path) == RIGHT
    assert len(journal.noted) == len(set(journal.noted)) == 61


async def test_what_cannot_be_noted_gets_no_name(keep: Callable[..., Any], tmp_path: Path) -> None:
    """It is loud, nothing is left beside the files that are noted, and the next run does the rest."""
    with pytest.raises(JournalError, match="full"):
        await keep(Filling(tmp_path / "journal.db"))
    there = files_in(tmp_path)
    assert there.items() <= RIGHT.items()
    assert 1 <= len(there) <= 20
    bundles = await keep(Journal(tmp_path / "journal.db"))
    assert all(bundle.ok for bundle in bundles)
    assert sum(bundle.status is Status.CACHED for bundle in bundles) == len(there) - 1  # all but the first
    assert files_in(tmp_path) == RIGHT


async def test_killed_while_all_are_held(
    keep: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends between the notes and the names: threads publish them, and note that again."""
    processes: list[Publisher] = []
    hand_in = Publisher.hand_in

    def handing_in(self: Publisher, *given: Any) -> int:
        processes.append(self)
        return hand_in(self, *given)

    monkeypatch.setattr(Publisher, "hand_in", handing_in)

    class Killing(Watching):
        def publishing_all(self, publications: Any) -> None:
            super().publishing_all(publications)
            if sum(self.together) > 20:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(processes[0]._process.pid, signal.SIGKILL)

    bundles = await keep(Killing(tmp_path / "journal.db"))
    assert all(bundle.ok for bundle in bundles)
    assert files_in(tmp_path) == RIGHT
    assert all(bundle.status is Status.CACHED for bundle in await keep(Journal(tmp_path / "journal.db")))


@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize("concurrent", [1, 2])
async def test_nobody_waits_for_more_that_cannot_come(
    noted: bool, concurrent: int, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies are gathered for the process while others are on their way, and not when all that may be is with it.

    They wait all the same, once, where the input ends just then or a body that was on its way goes to a thread.
    """
    monkeypatch.setattr(disk_module, "MANY", 1)
    monkeypatch.setattr(publisher, "GATHER", 2)
    settings = DownloadStrategy(home=tmp_path / "home"), RequestStrategy(concurrent=concurrent)
    async with AioDownload(None, *settings, journal=tmp_path / "journal.db" if noted else None) as download:
        await process_of(download, server)
        async with asyncio.timeout(2 * BOUND):
            bundles = await download.swarm(urls_of(server, 100))
            single = AioDownloadBundle(server.on("/single", ok(b"single")))
            await download.request_and_download(single)
    assert all(one.ok for one in (*bundles, single))
    assert len(files_in(tmp_path)) == 102


class Failing(DownloadStrategy):
    """Its own hook does what the one of the library does, until it fails."""

    calls = 0

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        self.calls += 1
        if self.calls > 30:
            raise ZeroDivisionError
        await super().on_success(response, bundle)


async def test_a_run_that_ends_while_hooks_wait_for_the_name(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held then gets no name: each file that is there is noted as done, and the next run takes it for that."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    journal, asking = tmp_path / "journal.db", RequestStrategy(concurrent=16)
    urls = urls_of(server, 100)
    async with AioDownload(None, Failing(home=tmp_path / "home"), asking, journal=journal) as download:
        await process_of(download, server)
        with pytest.raises(StrategyError):
            await download.swarm(urls)
    there = files_in(tmp_path)
    assert there.items() <= {"first": b"first", **{str(n): bytes([n]) * 1000 for n in range(100)}}.items()
    async with AioDownload(None, DownloadStrategy(home=tmp_path / "home"), asking, journal=journal) as download:
        bundles = await download.swarm(urls)
    assert {Path(one.file_path or "").name for one in bundles if one.status is Status.CACHED} == there.keys() - {
        "first"
    }


@pytest.mark.parametrize("last", [0, 1])  # whose file got the name last
@pytest.mark.parametrize("noted", [0, 1])  # who was noted last
@pytest.mark.parametrize("settled", [0, 1])  # who is settled last
@pytest.mark.parametrize("same", [False, True])
def test_two_who_publish_the_same(same: bool, last: int, noted: int, settled: int, tmp_path: Path) -> None:
    """In whatever order, by one journal or by two for the same file: the row tells of what is there."""
    one = Journal(tmp_path / "journal.db")
    both = [one, one if same else Journal(tmp_path / "journal.db")]
    key, path = b"k" * 16, tmp_path / "f"
    own: list[Publication] = []
    for number, journal in enumerate(both):
        journal.open(str(tmp_path))
        journal.enlist([Enlisted(key, "http://h/f", True, str(path))], lambda one, known: "enlisted")
        (tmp_path / f"part{number}").write_bytes(b"x" * number)
        own.append(Publication(str(path), FileState.of((tmp_path / f"part{number}").stat()), None, None, "LENGTH"))
    for number in (1 - noted, noted):
        both[number].publishing(key, own[number])
    first = 1 - last
    (tmp_path / f"part{first}").rename(path)
    if settled == last:
        both[first].settle([Outcome(key, "done", 1, 200, None, None, 0.5, str(path), own[first])])
    (tmp_path / f"part{last}").rename(path)
    for number in (last, first) if settled == first else (last,):
        both[number].settle([Outcome(key, "done", 1, 200, None, None, 0.5, str(path), own[number])])
    assert one.enlist([Enlisted(key, "http://h/f", True, None)], lambda one, known: None) == [Known("done", own[last])]
    for journal in both:
        journal.close()


def test_any_number_of_rows(tmp_path: Path) -> None:
    """However many come together, and though a key comes twice: the last counts."""
    for count in (0, 1, 5, 16, 37):
        journal = Journal(tmp_path / f"{count}.db")
        journal.open(str(tmp_path))
        keys = [number.to_bytes(16, "big") for number in range(count)]
        urls = [Enlisted(key, f"http://h/{number}", True, None) for number, key in enumerate(keys)]
        told: list[Known | None] = []

        def judge(one: Enlisted, known: Known | None, told: list[Known | None] = told) -> str:
            told.append(known)
            return "enlisted"

        assert journal.enlist([*urls, *urls[:1]], judge)[:count] == [None] * count
        assert [known is not None for known in told] == [False] * count + [True] * (count > 0)
        file = FileState(7, 8, 9)
        noted = [(key, Publication(f"{tmp_path}/{key.hex()}", file, '"e"', None, "LENGTH", ())) for key in keys]
        journal.publishing_all([*noted[:1], *noted])
        outcomes = [Outcome(key, "failed", 1, None, None, "no", 0.5, "elsewhere") for key in keys]
        journal.settle([*outcomes, *(one._replace(state="done", error=None) for one in outcomes)])
        found = journal.enlist(urls, lambda one, known: None)
        assert found == [Known("done", one) for _, one in noted]
        assert journal.counts() == ({"done": count} if count else {})
        journal.close()
