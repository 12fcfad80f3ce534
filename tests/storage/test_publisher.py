"""The process for small files: it publishes as a thread would, and nothing is lost when it dies or lags."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import aiodownload
from aiodownload import AioDownloadBundle, DiskError, Verified, journal
from aiodownload.entries import FileState
from aiodownload.storage import disk as disk_module
from aiodownload.storage import part, publisher
from aiodownload.storage.disk import SMALL, Disk
from aiodownload.storage.owner import TAG, Owner, gone
from aiodownload.storage.part import DROP, GO, HELD, HOLD, INLINE, READY, REPLY, REQUEST, PartError
from aiodownload.storage.partial import PartialFile
from aiodownload.storage.publisher import Publisher, PublisherError
from aiodownload.storage.publishing import Publishing
from aiodownload.testing import FaultServer, each_path, ok

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the process for small files needs POSIX")

BOUND = 10  # seconds after which a wait has failed


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition on the event loop."""
    async with asyncio.timeout(BOUND):
        while not condition():
            await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def process() -> AsyncIterator[Publisher]:
    """A publisher that takes jobs."""
    made = await asyncio.to_thread(Publisher, asyncio.get_running_loop())
    made.attach()
    await until(lambda: made.prompt)
    yield made
    with contextlib.suppress(ProcessLookupError):
        os.kill(made._process.pid, signal.SIGCONT)
    made.detach()
    await asyncio.to_thread(made.end)


@pytest_asyncio.fixture
async def disk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    """Disk threads that start the process with the first small body."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    threads = Disk()
    yield threads
    await threads.close()


async def started(disk: Disk) -> Publisher:
    """The process of these disk threads, once it takes jobs."""
    await until(lambda: disk.publisher(1))
    assert disk._publisher is not None
    return disk._publisher


async def publish(process: Publisher, path: str, mode: int, body: Iterable[bytes], root: str | None = None) -> None:
    """Hand a body in, and wait for the answer."""
    answered: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    process.hand_in(path, mode, body, root, lambda error: None if answered.done() else answered.set_result(error))
    if (error := await answered) is not None:
        raise error


async def commit(sink: PartialFile) -> int | None:
    """Publish a body as a delivery does; return its size."""
    bundle = AioDownloadBundle("http://127.0.0.1/")
    publishing = Publishing(bundle, sink, Verified.LENGTH)
    if sink.hand_in(publishing.tell):
        await publishing.finish()
    else:
        publishing.tell(await sink.commit(), None)
    return bundle.size


def children() -> set[str]:
    """The ids of our child processes, those included that have ended and were not waited for."""
    found = set()
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat_file.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(stat_file.parent.name)
    return found


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Every test ends the processes that it started, and waits for them."""
    before = children()
    yield
    assert children() <= before


def names(folder: Path) -> list[str]:
    """Every file below ``folder``, as paths relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


async def test_publishes_many_bodies_side_by_side(process: Publisher, tmp_path: Path) -> None:
    """Each body is under its own name, in folders that were not there, in pieces or empty, and nothing else is left."""
    bodies = {f"h/{index % 7}/é{index}": [bytes([index]) * 99, b"", b"z" * index] for index in range(200)}
    await asyncio.gather(
        *(publish(process, str(tmp_path / name), 0o644, body) for name, body in bodies.items()),
        publish(process, str(tmp_path / "empty"), 0o600, ()),
    )
    found = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert found == {name: b"".join(body) for name, body in bodies.items()} | {"empty": b""}
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o600


class Holding:
    """What one held file has come to."""

    def __init__(self, process: Publisher, path: Path) -> None:
        self.state: FileState | None = None
        self.answers: list[Exception | None] = []
        process.hand_in(str(path), 0o644, [b"held"], None, self.answers.append, self._hold)

    def _hold(self, state: FileState, then: publisher.Answer) -> None:
        self.state, self.then = state, then


async def test_held_until_a_word_is_said(process: Publisher, tmp_path: Path) -> None:
    """Neither of them has a name before; then the one has, and nothing is left of the other."""
    one, other = Holding(process, tmp_path / "one"), Holding(process, tmp_path / "other")
    await until(lambda: one.state and other.state)
    assert not (tmp_path / "one").exists()
    assert len(names(tmp_path)) == 2
    one.then(None)
    other.then(PublisherError())
    one.then(PublisherError())  # too late
    await until(lambda: one.answers and other.answers)
    await process.idle()
    assert one.answers == [None]
    assert isinstance(other.answers[0], PublisherError)
    await until(lambda: names(tmp_path) == ["one"])
    assert one.state == FileState.of((tmp_path / "one").stat())


async def test_who_waits_for_our_word_is_not_slow(
    process: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It owes no answer; from the word on it does."""
    monkeypatch.setattr(publisher, "PROMPT", 0.05)
    held = Holding(process, tmp_path / "f")
    await until(lambda: held.state)
    await asyncio.sleep(0.1)
    assert process.prompt
    os.kill(process._process.pid, signal.SIGSTOP)
    held.then(None)
    await asyncio.sleep(0.1)
    assert not process.prompt
    os.kill(process._process.pid, signal.SIGCONT)
    await process.idle()
    assert held.answers == [None]


async def test_killed_while_it_holds(process: Publisher, tmp_path: Path) -> None:
    """It is to be published anew, but not before a word is said; and what lies beside the name is gone in the end."""
    held, other = Holding(process, tmp_path / "f"), Holding(process, tmp_path / "g")
    await until(lambda: held.state and other.state)
    other.then(PublisherError())
    await until(lambda: len(names(tmp_path)) == 1)
    (left,) = names(tmp_path)
    os.kill(process._process.pid, signal.SIGKILL)
    await until(lambda: process._gone)
    assert not held.answers
    held.then(None)
    await process.idle()
    assert isinstance(held.answers[0], PublisherError)
    await asyncio.to_thread(process._process.wait)
    mark = re.search(TAG, left)
    assert mark is not None
    owner = Owner.from_tag(mark[0])
    assert owner is not None
    assert owner.pid == process._process.pid
    assert gone(owner)
    assert names(tmp_path) == [left]
    await asyncio.to_thread(process.end)
    assert names(tmp_path) == []


def test_killed_while_the_journal_is_slow(
    server: FaultServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process held is published anew after it was noted: each row is of the very file that is there."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    processes: list[int] = []

    class Spied(Publisher):
        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(loop)
            processes.append(self._process.pid)

    class Slow(aiodownload.Journal):
        def publishing_all(self, publications: Any) -> None:
            if publications and processes:
                os.kill(processes.pop(), signal.SIGKILL)
                time.sleep(0.2)
            super().publishing_all(publications)

    monkeypatch.setattr(disk_module, "Publisher", Spied)
    for index in range(300):
        server.on(f"/{index}", ok(b"x" * index))
    slow = Slow(tmp_path / "journal.db")
    download = aiodownload.AioDownload(
        download_strategy=aiodownload.DownloadStrategy(home=home),
        request_strategy=aiodownload.RequestStrategy(concurrent=8),
        journal=slow,
    )
    bundles = aiodownload.swarm([server.url(f"/{index}") for index in range(300)], download)
    assert all(bundle.ok for bundle in bundles)
    assert not processes
    with contextlib.closing(sqlite3.connect(slow.path)) as database:
        noted = {path: state for path, *state in database.execute("SELECT path, size, mtime_ns, inode FROM urls")}
    there = {name: list(FileState.of((home / name).stat())) for name in names(home)}
    assert noted == there


def test_everything_is_cancelled_while_files_are_held(
    server: FaultServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As asyncio.run does with what is left in its end, when the journal has to wait for another program: no hang."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    for index in range(300):
        server.on(f"/{index}", ok(b"x" * index))
    asked, go_on = threading.Event(), threading.Event()

    class Slow(aiodownload.Journal):
        def publishing_all(self, publications: Any) -> None:
            if publications:
                asked.set()
                go_on.wait(BOUND)
            super().publishing_all(publications)

    async def work() -> None:
        async with aiodownload.AioDownload(
            download_strategy=aiodownload.DownloadStrategy(home=home),
            request_strategy=aiodownload.RequestStrategy(concurrent=8),
            journal=Slow(tmp_path / "journal.db"),
        ) as download:
            await download.swarm([server.url(f"/{index}") for index in range(300)])

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await until(asked.is_set)
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        kept.append(task)

    kept: list[asyncio.Future[None]] = []
    asyncio.run(main())
    assert kept[0].cancelled()
    assert [name for name in names(home) if Path(name).name.startswith(".")] == []


def test_a_journal_that_stays_locked(
    server: FaultServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run waits once for the other program, and not for each of its files, and leaves nothing."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    monkeypatch.setattr(journal, "BUSY", 0.3)
    server.default = each_path(lambda request: ok(b"x"))
    with contextlib.ExitStack() as stack:
        waits: list[str] = []

        class Watched(aiodownload.Journal):
            @contextlib.contextmanager
            def _transaction(self) -> Iterator[sqlite3.Connection]:
                begun = time.monotonic()
                try:
                    with super()._transaction() as database:
                        yield database
                except sqlite3.Error as error:
                    waits.extend([str(error)] * (time.monotonic() - begun > 0.25))
                    raise

            def publishing_all(self, publications: Any) -> None:
                if len(publications) > 1 and not locked:
                    database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
                    locked.append(stack.enter_context(contextlib.closing(database)))
                    database.execute("BEGIN IMMEDIATE")
                super().publishing_all(publications)

        locked: list[sqlite3.Connection] = []
        download = aiodownload.AioDownload(
            download_strategy=aiodownload.DownloadStrategy(home=home),
            request_strategy=aiodownload.RequestStrategy(concurrent=32),
            journal=Watched(tmp_path / "journal.db"),
        )
        with pytest.raises(aiodownload.JournalError, match="locked"):
            aiodownload.swarm([server.url(f"/{index}") for index in range(1000)], download)
        assert len(waits) == 1
        assert [name for name in names(home) if Path(name).name.startswith(".")] == []


async def test_a_mistake_of_who_is_asked(process: Publisher, tmp_path: Path) -> None:
    """It is told to the event loop, the file is dropped, and the others are published."""
    mistakes: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))
    answers: list[Exception | None] = []

    def hold(state: FileState, then: publisher.Answer) -> None:
        raise KeyError(state)

    process.hand_in(str(tmp_path / "f"), 0o644, [b"x"], None, answers.append, hold)
    await publish(process, str(tmp_path / "g"), 0o644, [b"y"])
    await process.idle()
    assert isinstance(answers[0], PublisherError)
    assert isinstance(mistakes[0]["exception"], KeyError)
    await until(lambda: names(tmp_path) == ["g"])


async def test_more_than_the_socket_holds(process: Publisher, tmp_path: Path) -> None:
    """Bodies wait in memory while the process does not read, and all arrive when it does."""
    os.kill(process._process.pid, signal.SIGSTOP)
    tasks = [
        asyncio.ensure_future(publish(process, str(tmp_path / f"{index}"), 0o644, [bytes([index]) * SMALL]))
        for index in range(40)
    ]
    await until(lambda: process._blocked)
    assert not any(task.done() for task in tasks)
    os.kill(process._process.pid, signal.SIGCONT)
    await asyncio.wait_for(asyncio.gather(*tasks), BOUND)
    assert [(tmp_path / f"{index}").read_bytes() for index in range(40)] == [bytes([i]) * SMALL for i in range(40)]


@pytest.mark.parametrize("missing", ["no such call", "refused"])
async def test_without_memory_to_share(
    missing: str, process: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bodies go through the socket."""

    def refuse(name: str) -> int:
        raise OSError(errno.ENOSYS, name)

    if missing == "refused":
        monkeypatch.setattr(os, "memfd_create", refuse)
    else:
        monkeypatch.delattr(os, "memfd_create")
    other = await asyncio.to_thread(Publisher, asyncio.get_running_loop())
    other.attach()
    try:
        assert other._ring is None
        assert (process._ring is not None) is (sys.platform == "linux")
        await until(lambda: other.prompt)
        await publish(other, str(tmp_path / "f"), 0o644, (b"by ", b"the socket"))
    finally:
        other.detach()
        await asyncio.to_thread(other.end)
    assert (tmp_path / "f").read_bytes() == b"by the socket"


async def test_replaces_an_old_file(process: Publisher, tmp_path: Path) -> None:
    """The new body takes the place of the old one."""
    (tmp_path / "f").write_bytes(b"old and longer")
    await publish(process, str(tmp_path / "f"), 0o644, [b"new"])
    assert (tmp_path / "f").read_bytes() == b"new"


async def test_a_partial_file_of_somebody_else_is_not_touched(process: Publisher, tmp_path: Path) -> None:
    """The process uses another name then."""
    theirs = part.partial_name("f", process._tag)
    (tmp_path / theirs).write_bytes(b"theirs")
    await publish(process, str(tmp_path / "f"), 0o644, [b"ours"])
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {theirs: b"theirs", "f": b"ours"}


@pytest.mark.parametrize(
    ("make", "code", "action"),
    [
        (lambda home: (home / "h").write_bytes(b"a file"), errno.ENOTDIR, "write"),
        (lambda home: (home / "h" / "f").mkdir(parents=True), errno.EISDIR, "rename to"),
    ],
)
async def test_a_refusal_has_its_reason(
    process: Publisher, tmp_path: Path, make: Callable[[Path], object], code: int, action: str
) -> None:
    """What the disk says comes back, nothing is left behind, and the next file is none the worse."""
    make(tmp_path)
    before = names(tmp_path)
    with pytest.raises(PartError) as caught:
        await publish(process, str(tmp_path / "h" / "f"), 0o644, [b"x"])
    assert (caught.value.errno, caught.value.action) == (code, action)
    assert names(tmp_path) == before
    await publish(process, str(tmp_path / "g"), 0o644, [b"x"])


async def test_a_refusal_is_a_disk_error(disk: Disk, tmp_path: Path) -> None:
    """The sink says it as it would of a thread."""
    await started(disk)
    (tmp_path / "h").write_bytes(b"a file")
    sink = PartialFile(disk, str(tmp_path / "h" / "f"), 0o644)
    await sink.write(b"x")
    with pytest.raises(DiskError, match=r"cannot write '.*h/f'") as caught:
        await commit(sink)
    await sink.abandon()
    assert caught.value.reason == "ENOTDIR"


@pytest.mark.parametrize("size", [0, 1, SMALL])
async def test_small_bodies_go_to_it(disk: Disk, tmp_path: Path, size: int) -> None:
    """A body up to the limit makes no trip to a thread."""
    process = await started(disk)
    sink = PartialFile(disk, str(tmp_path / "f"), 0o640)
    await sink.write(b"x" * size)
    before = process._number
    assert await commit(sink) == size
    assert process._number == before + 1
    assert (tmp_path / "f").read_bytes() == b"x" * size
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


async def test_larger_bodies_go_to_threads(disk: Disk, tmp_path: Path) -> None:
    """One byte more, and a thread writes it."""
    process = await started(disk)
    sink = PartialFile(disk, str(tmp_path / "f"), 0o644)
    await sink.write(b"x" * (SMALL + 1))
    assert await commit(sink) == SMALL + 1
    assert process._number == 0


async def test_the_work_of_a_process_that_died_is_done_again(disk: Disk, tmp_path: Path) -> None:
    """Killed with jobs in hand: each file is there in the end, and later ones are written by threads."""
    process = await started(disk)
    os.kill(process._process.pid, signal.SIGSTOP)
    sinks = [PartialFile(disk, str(tmp_path / f"{index}"), 0o644) for index in range(20)]
    for index, sink in enumerate(sinks):
        await sink.write(bytes([index]) * 10_000)
    tasks = [asyncio.ensure_future(commit(sink)) for sink in sinks]
    await until(lambda: len(process._jobs) == 20)
    os.kill(process._process.pid, signal.SIGKILL)
    assert await asyncio.wait_for(asyncio.gather(*tasks), BOUND) == [10_000] * 20
    assert names(tmp_path) == sorted(f"{index}" for index in range(20))
    assert all((tmp_path / f"{index}").read_bytes() == bytes([index]) * 10_000 for index in range(20))
    assert disk.publisher(1) is None
    with pytest.raises(PublisherError):
        await publish(process, str(tmp_path / "late"), 0o644, [b"x"])


async def test_one_that_dies_before_it_is_sent_anything(process: Publisher, tmp_path: Path) -> None:
    """A broken pipe is found out at the first body."""
    process._loop.remove_reader(process._socket)
    os.kill(process._process.pid, signal.SIGKILL)
    await asyncio.to_thread(process._process.wait)
    with pytest.raises(PublisherError):
        await publish(process, str(tmp_path / "f"), 0o644, [b"x"])


async def test_threads_work_beside_one_that_lags(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer for a while, no more is given to it; what it has is done when it goes on."""
    monkeypatch.setattr(publisher, "PROMPT", 0.05)
    process = await started(disk)
    os.kill(process._process.pid, signal.SIGSTOP)
    held = PartialFile(disk, str(tmp_path / "held"), 0o644)
    await held.write(b"held")
    task = asyncio.ensure_future(commit(held))
    await until(lambda: process._jobs and disk.publisher(1) is None)
    sink = PartialFile(disk, str(tmp_path / "f"), 0o644)
    await sink.write(b"x")
    assert await asyncio.wait_for(commit(sink), BOUND) == 1
    assert names(tmp_path) == ["f"]
    os.kill(process._process.pid, signal.SIGCONT)
    assert await asyncio.wait_for(task, BOUND) == 4
    assert disk.publisher(1) is process


async def test_an_abandon_waits_for_what_is_under_way(disk: Disk, tmp_path: Path) -> None:
    """A commit that is cancelled: when abandon returns, the file is whole under its name or nothing is there."""
    process = await started(disk)
    os.kill(process._process.pid, signal.SIGSTOP)
    sink = PartialFile(disk, str(tmp_path / "f"), 0o644)
    await sink.write(b"whole")
    task = asyncio.ensure_future(commit(sink))
    await until(lambda: process._jobs)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    abandoning = asyncio.ensure_future(sink.abandon())
    await asyncio.wait([abandoning], timeout=0.05)
    assert not abandoning.done()
    os.kill(process._process.pid, signal.SIGCONT)
    await asyncio.wait_for(abandoning, BOUND)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"f": b"whole"}


async def test_an_abandon_of_what_is_held(process: Publisher, disk: Disk, tmp_path: Path) -> None:
    """It gets no name, whether it is held already or is about to be; a word that comes later is no harm."""
    process = await started(disk)
    asked: list[publisher.Answer] = []

    async def handed(name: str) -> PartialFile:
        sink = PartialFile(disk, str(tmp_path / name), 0o644)
        await sink.write(b"whole")
        sink.announce(lambda path, state: None, lambda path, state, then: asked.append(then))
        assert sink.hand_in(lambda size, error: None)
        return sink

    held = await handed("held")
    await until(lambda: asked)
    await asyncio.wait_for(held.abandon(), BOUND)
    os.kill(process._process.pid, signal.SIGSTOP)
    coming = await handed("coming")
    abandoning = asyncio.ensure_future(coming.abandon())
    await asyncio.sleep(0.05)
    assert not abandoning.done()
    os.kill(process._process.pid, signal.SIGCONT)
    await asyncio.wait_for(abandoning, BOUND)
    assert len(asked) == 1
    asked[0](None)
    await process.idle()
    await until(lambda: not names(tmp_path))


async def test_close_waits_for_what_nobody_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the disk lets the process finish what it has, and ends it."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    disk = Disk()
    process = await started(disk)
    os.kill(process._process.pid, signal.SIGSTOP)
    task = asyncio.ensure_future(publish(process, str(tmp_path / "f"), 0o644, [b"whole"]))
    await until(lambda: process._jobs)
    task.cancel()
    closing = asyncio.ensure_future(disk.close())
    await asyncio.wait([closing], timeout=0.05)
    assert not closing.done()
    os.kill(process._process.pid, signal.SIGCONT)
    await asyncio.wait_for(closing, BOUND)
    assert (tmp_path / "f").read_bytes() == b"whole"
    assert process._process.returncode == 0


async def test_close_right_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not yet said a word is ended as well."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    disk = Disk()
    assert disk.publisher(1) is None
    await asyncio.wait_for(disk.close(), BOUND)
    assert disk._publisher is not None
    assert disk._publisher._process.returncode is not None
    assert disk.publisher(1) is None


async def test_one_that_does_not_end_is_killed(process: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped for good and with nothing to do: it is not waited for."""
    monkeypatch.setattr(publisher, "_GRACE", 0.05)
    os.kill(process._process.pid, signal.SIGSTOP)
    process.detach()
    await asyncio.to_thread(process.end)
    assert process._process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "spoil",
    [
        lambda monkeypatch: monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi"),
        lambda monkeypatch: monkeypatch.setattr(sys, "executable", ""),
        lambda monkeypatch: monkeypatch.setattr(sys, "executable", "/nowhere/python3"),
        lambda monkeypatch: monkeypatch.setattr(sys, "frozen", True, raising=False),
        lambda monkeypatch: monkeypatch.setattr(part, "__file__", "/nowhere/archive.zip/part.py"),
        lambda monkeypatch: monkeypatch.setattr(os, "name", "nt"),
    ],
    ids=["embedded", "unknown", "missing", "frozen", "zipped", "windows"],
)
async def test_where_it_cannot_start_threads_do_the_work(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Nobody notices, and no second start is tried."""
    with monkeypatch.context() as patch:
        spoil(patch)
        assert disk.publisher(1) is None
        assert disk._starting is not None
        await disk._starting
    for name in ("a", "b"):
        sink = PartialFile(disk, str(tmp_path / name), 0o644)
        await sink.write(b"x")
        assert await commit(sink) == 1
    assert disk._publisher is None


async def test_a_program_that_ends_at_once(disk: Disk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python that cannot run it: threads do the work."""
    program = tmp_path / "part.py"
    program.write_text("raise SystemExit(3)")
    monkeypatch.setattr(part, "__file__", str(program))
    assert disk.publisher(1) is None
    await until(lambda: disk._publisher and disk._publisher._gone)
    assert disk.publisher(1) is None


async def test_a_loop_that_cannot_watch_sockets(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows' own event loop: no process is used, and the one that was started is ended."""
    loop = asyncio.get_running_loop()

    def refuse(*_: object) -> None:
        raise NotImplementedError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "add_reader", refuse)
        assert disk.publisher(1) is None
        assert disk._starting is not None
        await disk._starting
    assert disk.publisher(1) is None


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_signals_to_the_group_are_for_us(process: Publisher, tmp_path: Path, name: str) -> None:
    """Ctrl-C, a closed terminal or a service manager does not end it under our hands."""
    os.kill(process._process.pid, getattr(signal, name))
    await publish(process, str(tmp_path / "f"), 0o644, [b"x"])
    assert os.getpgid(process._process.pid) != os.getpgid(0)


def test_it_ends_when_we_are_killed(tmp_path: Path) -> None:
    """No process is left over, and no half file."""
    program = (
        "import asyncio, os, signal, sys\n"
        "from aiodownload.storage.publisher import Publisher\n"
        "async def main():\n"
        "    process = Publisher(asyncio.get_running_loop())\n"
        "    process.attach()\n"
        "    while not process.prompt: await asyncio.sleep(0.001)\n"
        "    answered = asyncio.Event()\n"
        "    process.hand_in(sys.argv[1], 0o644, [b'x'], None, lambda error: answered.set())\n"
        "    await answered.wait()\n"
        "    print(process._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "f")], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    for _ in range(1000):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            break
        if state == "Z":  # nobody here collects it; its own work is over
            break
        threading.Event().wait(0.01)
    else:
        raise AssertionError("the process goes on")
    assert names(tmp_path) == ["f"]


@pytest.fixture
def line() -> Iterator[socket.socket]:
    """The other end of the program, which runs in a thread."""
    ours, theirs = socket.socketpair()
    ours.settimeout(BOUND)
    thread = threading.Thread(target=part.serve, args=(theirs.fileno(), "tag"), name="program")
    thread.start()
    assert ours.recv(REPLY.size) == READY
    yield ours
    ours.close()
    thread.join(BOUND)
    assert not thread.is_alive()
    theirs.close()


def request(number: int, path: Path, body: bytes, mode: int = 0o644) -> bytes:
    """What is sent for one job."""
    name = b"\0" + os.fsencode(path)  # no root
    return REQUEST.pack(number, mode, len(name), len(body), INLINE) + name + body


def test_the_program_takes_jobs_in_any_portions(line: socket.socket, tmp_path: Path) -> None:
    """Byte by byte, or several at once: an answer for each whole job, in order."""
    for byte in request(7, tmp_path / "a", b"first"):
        line.send(bytes([byte]))
    assert REPLY.unpack(line.recv(REPLY.size, socket.MSG_WAITALL)) == (7, 0, 0, 0, 0, 0)
    line.sendall(request(8, tmp_path / "b", b"") + request(9, tmp_path / "a" / "c", b"x") + request(10, tmp_path, b""))
    replies = line.recv(3 * REPLY.size, socket.MSG_WAITALL)
    assert list(REPLY.iter_unpack(replies)) == [
        (8, 0, 0, 0, 0, 0),
        (9, 1, errno.ENOTDIR, 0, 0, 0),
        (10, 3, errno.EISDIR, 0, 0, 0),
    ]
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"a": b"first", "b": b""}


def word(number: int, place: int) -> bytes:
    """What is sent for a file that is held."""
    return REQUEST.pack(number, 0, 0, 0, place)


def test_the_program_holds_what_it_is_told_to(line: socket.socket, tmp_path: Path) -> None:
    """The state of the file is that under its name; a word for what is not held is no harm."""
    line.sendall(b"".join(request(n, tmp_path / f"f{n}", b"x" * n, 0o644 | HOLD) for n in (1, 2, 3)))
    states = [REPLY.unpack(line.recv(REPLY.size, socket.MSG_WAITALL)) for _ in range(3)]
    assert [(number, held, size) for number, held, _, size, _, _ in states] == [(n, HELD, n) for n in (1, 2, 3)]
    assert len(names(tmp_path)) == 3
    assert not any((tmp_path / f"f{n}").exists() for n in (1, 2, 3))
    line.sendall(word(1, GO) + word(1, GO) + word(7, DROP) + word(2, DROP) + word(3, GO))
    replies = line.recv(2 * REPLY.size, socket.MSG_WAITALL)
    assert list(REPLY.iter_unpack(replies)) == [(1, 0, 0, 0, 0, 0), (3, 0, 0, 0, 0, 0)]
    assert names(tmp_path) == ["f1", "f3"]
    state = (tmp_path / "f3").stat()
    assert states[2][3:] == (state.st_size, state.st_mtime_ns, state.st_ino)
    assert stat.S_IMODE(state.st_mode) == 0o644


def test_the_program_opens_few_folders_at_once(tmp_path: Path) -> None:
    """Each file may have a folder of its own, and a program may have few descriptors: some are held, some dropped."""
    program = (
        "import resource, sys\n"
        "from aiodownload.storage import part\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "part.serve(0, 'tag')"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen([sys.executable, "-c", program], stdin=theirs) as process:
        theirs.close()
        ours.settimeout(BOUND)
        assert ours.recv(REPLY.size, socket.MSG_WAITALL) == READY
        modes = [0o644, 0o644 | HOLD]
        jobs = [request(n, tmp_path / f"{n}" / "f", b"x", mode) for n, mode in enumerate(modes * 100, 1)]
        ours.sendall(b"".join(jobs))
        replies = REPLY.iter_unpack(ours.recv(200 * REPLY.size, socket.MSG_WAITALL))
        assert [failed for _, failed, *_ in replies] == [0, HELD] * 100
        ours.sendall(b"".join(word(n, GO) for n in range(2, 102, 2)))
        replies = REPLY.iter_unpack(ours.recv(50 * REPLY.size, socket.MSG_WAITALL))
        assert [failed for _, failed, *_ in replies] == [0] * 50
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(BOUND) == 0
    assert names(tmp_path) == sorted(f"{n}/f" for n in range(1, 201) if n % 2 or n < 102)


def test_a_name_that_cannot_be_had_any_more(line: socket.socket, tmp_path: Path) -> None:
    """The folder of a held file has gone, or its name is that of a folder: an answer, and nothing is left."""
    (tmp_path / "a").mkdir()
    line.sendall(request(1, tmp_path / "a" / "f", b"x", HOLD | 0o600) + request(2, tmp_path / "g", b"x", HOLD | 0o600))
    line.recv(2 * REPLY.size, socket.MSG_WAITALL)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "g").mkdir()
    line.sendall(word(1, GO) + word(2, GO))
    replies = list(REPLY.iter_unpack(line.recv(2 * REPLY.size, socket.MSG_WAITALL)))
    assert replies == [(1, 1, errno.ENOENT, 0, 0, 0), (2, 3, errno.EISDIR, 0, 0, 0)]
    assert names(tmp_path) == []
    assert not (tmp_path / "a").exists()


def test_the_program_drops_what_it_holds_when_it_ends(tmp_path: Path) -> None:
    """Nobody will say what is to become of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(request(1, tmp_path / "held", b"x", HOLD | 0o600) + request(2, tmp_path / "whole", b"x"))
        ours.shutdown(socket.SHUT_WR)
        part.serve(theirs.fileno(), "tag")
    assert names(tmp_path) == ["whole"]


def test_the_program_forgets_half_a_job(tmp_path: Path) -> None:
    """What was cut when the other end died makes no file."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(request(1, tmp_path / "whole", b"x") + request(2, tmp_path / "cut", b"0123456789")[:-1])
        ours.shutdown(socket.SHUT_WR)
        part.serve(theirs.fileno(), "tag")
    assert names(tmp_path) == ["whole"]


def test_the_program_ends_when_its_parent_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child of ours may keep the other end open; the program looks who its parent is."""
    parents = iter([41, 41, 1])
    monkeypatch.setattr(part, "_PATIENCE", 1)
    monkeypatch.setattr(part.os, "getppid", lambda: next(parents))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        part.serve(theirs.fileno(), "tag")
        assert ours.recv(99) == READY


async def test_a_swarm_of_small_files(server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What users see: every file right, whoever wrote it, and the process gone at the end."""
    wanted = {f"/{index}.bin": bytes([index % 256]) * (index * 7) for index in range(700)}
    for path, body in wanted.items():
        server.on(path, ok(body))
    given: list[str] = []
    hand_in = Publisher.hand_in

    def noted(self: Publisher, path: str, *rest: Any) -> int:
        given.append(path)
        return hand_in(self, path, *rest)

    monkeypatch.setattr(Publisher, "hand_in", noted)
    urls = [server.url(path) for path in wanted]
    async with aiodownload.AioDownload(
        download_strategy=aiodownload.DownloadStrategy(home=home),
        request_strategy=aiodownload.RequestStrategy(concurrent=8),
    ) as download:
        bundles = await download.swarm(urls[:100])
        assert download._live is not None
        disk = download._live.workspace.disk
        await until(lambda: disk.publisher(1))
        bundles += await download.swarm(urls[100:])
    assert all(bundle.ok for bundle in bundles)
    assert [Path(bundle.file_path or "").read_bytes() for bundle in bundles] == list(wanted.values())
    assert len(names(home)) == 700
    assert given


@pytest.mark.parametrize("noted", [False, True])
def test_a_swarm_whose_process_is_killed(
    noted: bool, server: FaultServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed at its work, with a journal while it holds files, too: every file is right, and nothing is left."""
    monkeypatch.setattr(disk_module, "MANY", 1)
    wanted = {f"/{index}.bin": bytes([index % 256]) * 9000 for index in range(300)}
    for path, body in wanted.items():
        server.on(path, ok(body))
    hand_in = Publisher.hand_in

    def murderous(self: Publisher, path: str, *rest: Any) -> int:
        if self._number == 20:
            asyncio.get_running_loop().call_later(0.001, os.kill, self._process.pid, signal.SIGKILL)
        return hand_in(self, path, *rest)

    monkeypatch.setattr(Publisher, "hand_in", murderous)
    download = aiodownload.AioDownload(
        download_strategy=aiodownload.DownloadStrategy(home=home),
        request_strategy=aiodownload.RequestStrategy(concurrent=8),
        journal=tmp_path / "journal.db" if noted else None,
    )
    bundles = aiodownload.swarm([server.url(path) for path in wanted], download)
    assert [Path(bundle.file_path or "").read_bytes() for bundle in bundles] == list(wanted.values())
    assert len(names(home)) == len(wanted)
