"""The partial file: nothing under the final name before it is whole, and nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from aiodownload import DiskError
from aiodownload.storage import folder, part
from aiodownload.storage.disk import Disk
from aiodownload.storage.home import Home
from aiodownload.storage.owner import my_tag
from aiodownload.storage.part import MAX_NAME, partial_name
from aiodownload.storage.partial import BATCH, PartialFile

posix = pytest.mark.skipif(os.name != "posix", reason="permission bits and umask are POSIX")
not_root = pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[Disk]:
    """The disk threads."""
    threads = Disk()
    yield threads
    await threads.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the file goes; its folder is not there yet."""
    return tmp_path / "h" / "a" / "file.bin"


def names(folder: Path) -> list[str]:
    """Every file below ``folder``, as paths relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


class OsThat:
    """The os module with some functions replaced."""

    def __init__(self, **replaced: Callable[..., Any]) -> None:
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def refusing(code: int, after: int = 0) -> Callable[..., int]:
    """A write that refuses with ``code`` once ``after`` bytes are written."""
    written = [0]

    def write(handle: int, data: Any) -> int:
        if written[0] >= after:
            raise OSError(code, os.strerror(code))
        count = os.write(handle, data[: after - written[0]])
        written[0] += count
        return count

    return write


async def test_the_final_name_appears_only_at_commit(disk: Disk, target: Path, tmp_path: Path) -> None:
    """While bytes come in there is only the partial file; commit renames it and returns its size."""
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"a" * BATCH)
    await sink.write(b"b" * BATCH)
    await sink._arrived()
    assert names(tmp_path) == [f"h/a/{partial_name('file.bin', my_tag())}"]
    assert await sink.commit() == 2 * BATCH
    assert names(tmp_path) == ["h/a/file.bin"]
    assert target.read_bytes() == b"a" * BATCH + b"b" * BATCH


@pytest.mark.parametrize("body", [b"", b"x", b"x" * (BATCH - 1), b"x" * BATCH, b"x" * (BATCH + 1)], ids=len)
async def test_every_size_arrives_whole(disk: Disk, target: Path, tmp_path: Path, body: bytes) -> None:
    """The empty body, one below a batch, exactly a batch and one above it are the file's bytes."""
    sink = PartialFile(disk, str(target), 0o644)
    for at in range(0, len(body), 65536):
        await sink.write(body[at : at + 65536])
    assert await sink.commit() == len(body)
    assert target.read_bytes() == body
    assert names(tmp_path) == ["h/a/file.bin"]


async def test_nothing_touches_the_disk_before_there_is_a_batch(disk: Disk, target: Path, tmp_path: Path) -> None:
    """Less than a batch stays in memory, and abandoning it makes not even a folder."""
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x" * 100)
    await sink.abandon()
    assert not list(tmp_path.iterdir())


async def test_an_old_file_stays_until_the_new_one_is_whole(disk: Disk, target: Path, tmp_path: Path) -> None:
    """The old file is there bit for bit until the rename, and also after an abandon."""
    target.parent.mkdir(parents=True)
    target.write_bytes(b"old")
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"n" * BATCH)
    assert target.read_bytes() == b"old"
    await sink.abandon()
    assert names(tmp_path) == ["h/a/file.bin"]
    assert target.read_bytes() == b"old"
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"new")
    await sink.commit()
    assert target.read_bytes() == b"new"


@posix
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
async def test_the_file_gets_the_mode_that_the_umask_gives(disk: Disk, target: Path, tmp_path: Path, mask: int) -> None:
    """A small and a large file have the same permission bits as any new file in home."""
    before = os.umask(mask)
    try:
        home = await disk.run(Home.open, str(tmp_path))
        for size in (1, 2 * BATCH):
            sink = PartialFile(disk, str(target), home.mode)
            await sink.write(b"x" * size)
            await sink.commit()
            assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask
    finally:
        os.umask(before)


@posix
async def test_a_partial_file_is_private(disk: Disk, target: Path) -> None:
    """While a body comes in over several trips to the disk, nobody else may read or write it."""
    sink = PartialFile(disk, str(target), 0o666)
    await sink.write(b"x" * BATCH)
    await sink._arrived()
    assert stat.S_IMODE((target.parent / partial_name(target.name, my_tag())).stat().st_mode) == 0o600
    await sink.abandon()


@posix
async def test_a_file_that_is_in_the_way_of_the_mode_is_replaced_with_it(disk: Disk, target: Path) -> None:
    """The new file has the new file's mode, whatever the old one had."""
    target.parent.mkdir(parents=True)
    target.write_bytes(b"old")
    target.chmod(0o600)
    sink = PartialFile(disk, str(target), 0o640)
    await sink.write(b"x" * BATCH)
    await sink.commit()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


async def test_a_partial_file_of_somebody_else_is_not_touched(disk: Disk, target: Path, tmp_path: Path) -> None:
    """An existing partial file may be in work: it stays, and another name does as well."""
    target.parent.mkdir(parents=True)
    foreign = target.parent / partial_name(target.name, my_tag())
    foreign.write_bytes(b"theirs")
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x" * BATCH)
    await sink._arrived()
    assert len(names(tmp_path)) == 2
    await sink.commit()
    assert names(tmp_path) == [str(foreign.relative_to(tmp_path)), "h/a/file.bin"]
    assert foreign.read_bytes() == b"theirs"


async def test_two_at_once_do_not_meet(disk: Disk, target: Path, tmp_path: Path) -> None:
    """Two sinks for one path write two partial files; the last whole one wins."""
    sinks = [PartialFile(disk, str(target), 0o644) for _ in range(2)]
    for sink, letter in zip(sinks, (b"a", b"b"), strict=True):
        await sink.write(letter * BATCH)
    await sinks[1].commit()
    await sinks[0].commit()
    assert names(tmp_path) == ["h/a/file.bin"]
    assert target.read_bytes() == b"a" * BATCH


@posix
async def test_a_link_in_place_of_the_partial_file_is_not_followed(disk: Disk, target: Path, tmp_path: Path) -> None:
    """A symbolic link under the partial file's name leads nowhere."""
    target.parent.mkdir(parents=True)
    outside = tmp_path / "outside"
    (target.parent / partial_name(target.name, my_tag())).symlink_to(outside)
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x")
    await sink.commit()
    assert not outside.exists()
    assert target.read_bytes() == b"x"


@posix
async def test_a_link_in_place_of_the_file_is_refused(disk: Disk, target: Path, tmp_path: Path) -> None:
    """S5: neither is what a symbolic link under the final name leads to written, nor the link lost."""
    target.parent.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    target.symlink_to(outside)
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x")
    with pytest.raises(DiskError, match="a symbolic link is in the way") as caught:
        await sink.commit()
    await sink.abandon()
    assert caught.value.errno == errno.ELOOP
    assert outside.read_bytes() == b"precious"
    assert target.is_symlink()
    assert names(target.parent) == ["file.bin"]


@pytest.mark.parametrize("size", [1, 2 * BATCH])
async def test_a_name_of_255_bytes(disk: Disk, tmp_path: Path, size: int) -> None:
    """The longest name has a partial file too, also when a foreign one is there."""
    target = tmp_path / ("n" * MAX_NAME)
    for _ in range(2):
        sink = PartialFile(disk, str(target), 0o644)
        await sink.write(b"x" * size)
        assert await sink.commit() == size
        (tmp_path / partial_name(target.name, my_tag())).write_bytes(b"theirs")
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("name", ["a", "n" * 249, "n" * 250, "n" * MAX_NAME, "\u00e9" * 127, "\u65e5" * 85])
def test_partial_names_fit_and_differ(name: str) -> None:
    """The name of a partial file starts with a dot, ends in ``.part``, fits in 255 bytes, and is one file's only."""
    tag = my_tag()
    partial = partial_name(name, tag)
    assert partial.startswith(".")
    assert partial.endswith(f".{tag}.part")
    assert len(os.fsencode(partial)) <= MAX_NAME
    assert partial == partial_name(name, tag)
    assert partial != partial_name(name[:-1] + "z", tag)
    assert partial != partial_name(name, "0123456789ab")


@pytest.mark.parametrize("size", [0, 1, BATCH, 3 * BATCH])
async def test_abandon_leaves_nothing(disk: Disk, target: Path, tmp_path: Path, size: int) -> None:
    """Whatever was written: no file remains, and abandoning again is no error."""
    sink = PartialFile(disk, str(target), 0o644)
    for _ in range(0, size, BATCH):
        await sink.write(b"x" * min(size, BATCH))
    await sink.abandon()
    await sink.abandon()
    assert names(tmp_path) == []


async def test_abandon_after_commit_keeps_the_file(disk: Disk, target: Path, tmp_path: Path) -> None:
    """What is published stays published."""
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x")
    await sink.commit()
    await sink.abandon()
    assert names(tmp_path) == ["h/a/file.bin"]


async def test_a_cancelled_write_is_abandoned(disk: Disk, target: Path, tmp_path: Path) -> None:
    """A task that is cancelled while a trip is under way, and then abandons, leaves nothing and no open file."""
    sink = PartialFile(disk, str(target), 0o644)

    async def pour() -> None:
        try:
            while True:
                await sink.write(b"x" * BATCH)
        finally:
            await sink.abandon()

    task = asyncio.create_task(pour())
    while not target.parent.exists():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names(tmp_path) == []
    assert sink._part is not None
    assert sink._part._handle is None


async def test_an_abandon_that_is_cancelled_takes_place(target: Path, tmp_path: Path) -> None:
    """Cancelling the wait does not cancel the removal."""
    disk = Disk()
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x" * BATCH)
    await sink._arrived()
    task = asyncio.create_task(sink.abandon())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await disk.close()
    assert names(tmp_path) == []


async def test_nothing_is_published_after_an_abandon(disk: Disk, target: Path, tmp_path: Path) -> None:
    """A commit that comes too late is an error and makes no file."""
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x" * BATCH)
    await sink.abandon()
    with pytest.raises(DiskError):
        await sink.commit()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "EFBIG"),
        (errno.EROFS, "EROFS"),
        (errno.EIO, "EIO"),
    ],
)
@pytest.mark.parametrize("after", [0, BATCH + 5])
async def test_a_disk_that_refuses(
    disk: Disk, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str, after: int
) -> None:
    """A write that fails is a DiskError with its reason; the old file stays, and nothing else does."""
    target.parent.mkdir(parents=True)
    target.write_bytes(b"old")
    monkeypatch.setattr(part, "os", OsThat(write=refusing(code, after)))
    sink = PartialFile(disk, str(target), 0o644)
    with pytest.raises(DiskError) as caught:
        await pour_and_commit(sink)
    await sink.abandon()
    assert (caught.value.errno, caught.value.reason, caught.value.path) == (code, reason, str(target))
    assert not caught.value.transient
    assert names(tmp_path) == ["h/a/file.bin"]
    assert target.read_bytes() == b"old"


async def pour_and_commit(sink: PartialFile) -> None:
    """Three batches and a commit."""
    for _ in range(3):
        await sink.write(b"x" * BATCH)
    await sink.commit()


@pytest.mark.parametrize("function", ["fstat", "close", "replace"])
async def test_a_disk_that_refuses_at_the_end(
    disk: Disk, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Errors of the last steps count as well: no file appears, and none remains."""
    real = getattr(os, function)

    def refuse(*args: Any, **more: Any) -> None:
        if function == "close":
            real(*args)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    module = folder if function == "replace" else part
    monkeypatch.setattr(module, "os", OsThat(**{function: refuse}))
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x")
    with pytest.raises(DiskError, match="EIO"):
        await sink.commit()
    monkeypatch.setattr(module, "os", os)
    await sink.abandon()
    assert names(tmp_path) == []


async def test_a_short_write_goes_on(disk: Disk, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes less than it was given gets the rest."""
    monkeypatch.setattr(part, "os", OsThat(write=lambda handle, data: os.write(handle, data[:1000])))
    sink = PartialFile(disk, str(target), 0o644)
    body = bytes(range(256)) * 40
    await sink.write(body)
    assert await sink.commit() == len(body)
    assert target.read_bytes() == body


@pytest.mark.parametrize("most", [1, 999, 1000, 1001, 2500])
async def test_a_short_write_of_many_goes_on(
    most: int, disk: Disk, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several chunks, too, wherever the disk stops: within one, or between two."""

    def some(handle: int, views: list[memoryview]) -> int:
        return os.write(handle, b"".join(views)[:most])

    monkeypatch.setattr(part, "os", OsThat(writev=some, write=lambda handle, data: os.write(handle, data[:most])))
    sink = PartialFile(disk, str(target), 0o644)
    chunks = [bytes([number]) * size for number, size in enumerate((1000, 1, 0, 999, 1500))]
    for chunk in chunks:
        await sink.write(chunk)
    assert await sink.commit() == 3500
    assert target.read_bytes() == b"".join(chunks)


async def test_more_chunks_than_one_call_takes(disk: Disk, target: Path) -> None:
    """The system takes 1024 at a time."""
    sink = PartialFile(disk, str(target), 0o644)
    for number in range(5000):
        await sink.write(b"%04d" % number)
    assert await sink.commit() == 20_000
    assert target.read_bytes() == b"".join(b"%04d" % number for number in range(5000))


async def test_a_size_that_is_not_the_bytes_counted(
    disk: Disk, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that claims more than it wrote is found out before the rename."""
    monkeypatch.setattr(part, "os", OsThat(write=lambda handle, data: os.write(handle, data[:-1]) + 1))
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"xyz")
    with pytest.raises(DiskError, match="size") as caught:
        await sink.commit()
    await sink.abandon()
    assert caught.value.reason == "disk_error"
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [1, 2 * BATCH])
async def test_a_folder_in_place_of_the_file(disk: Disk, target: Path, tmp_path: Path, size: int) -> None:
    """A folder under the final name is a DiskError, and it stays as it was."""
    target.mkdir(parents=True)
    (target / "inside").write_bytes(b"old")
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x" * size)
    with pytest.raises(DiskError) as caught:
        await sink.commit()
    await sink.abandon()
    assert caught.value.reason in ("EISDIR", "EACCES", "ENOTEMPTY", "EEXIST")
    assert names(tmp_path) == ["h/a/file.bin/inside"]


@pytest.mark.parametrize("size", [1, 2 * BATCH])
async def test_a_file_in_place_of_a_folder(disk: Disk, target: Path, tmp_path: Path, size: int) -> None:
    """A file where a folder should be is a DiskError, and it stays as it was."""
    (tmp_path / "h").write_bytes(b"old")
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x" * size)
    with pytest.raises(DiskError) as caught:
        await sink.commit()
    await sink.abandon()
    assert caught.value.reason in ("ENOTDIR", "EEXIST", "ENOENT")
    assert (tmp_path / "h").read_bytes() == b"old"


@posix
@not_root
async def test_a_folder_that_may_not_be_written_to(disk: Disk, target: Path) -> None:
    """A folder without permission is a DiskError with the reason EACCES."""
    target.parent.mkdir(parents=True)
    target.parent.chmod(0o500)
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x")
    with pytest.raises(DiskError) as caught:
        await sink.commit()
    target.parent.chmod(0o700)
    assert caught.value.reason == "EACCES"


async def test_a_file_that_may_not_be_made(disk: Disk, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses to make the file is a DiskError with its reason."""

    def refuse(path: str, flags: int, *args: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "no")
        return os.open(path, flags, *args, **more)

    monkeypatch.setattr(folder, "os", OsThat(open=refuse))
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x")
    with pytest.raises(DiskError) as caught:
        await sink.commit()
    await sink.abandon()
    assert (caught.value.reason, caught.value.path) == ("EACCES", str(target))


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE as Linux has it")
async def test_a_real_limit_of_the_system(disk: Disk, target: Path, tmp_path: Path) -> None:
    """A file-size limit of the operating system is the DiskError EFBIG, and nothing is left behind."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BATCH + 100, before[1]))
    try:
        sink = PartialFile(disk, str(target), 0o644)
        with pytest.raises(DiskError) as caught:
            await pour_and_commit(sink)
        await sink.abandon()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.reason == "EFBIG"
    assert names(tmp_path) == []


async def test_a_failed_trip_that_nobody_asks_for_is_quiet(disk: Disk, target: Path, tmp_path: Path) -> None:
    """A disk error that comes after the body broke is nobody's unhandled exception."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    (tmp_path / "h").write_bytes(b"a file where a folder should be")
    sink = PartialFile(disk, str(target), 0o644)
    await sink.write(b"x" * BATCH)
    trip = sink._trip
    assert trip is not None
    await asyncio.wait([trip])
    await sink.abandon()
    del trip, sink
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints


@pytest.fixture(autouse=True)
def no_file_stays_open() -> Iterator[None]:
    """Every test leaves as many files open as there were."""
    folder = Path("/proc/self/fd")
    before = len(os.listdir(folder)) if folder.exists() else 0
    yield
    after = len(os.listdir(folder)) if folder.exists() else 0
    assert after <= before + 3  # an event loop keeps a selector and a pair of sockets for a while
