"""Disk faults: what counts in a shard stays, the bundle fails without another request, and the run goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Quick

pytest.importorskip("pyarrow", reason="the extra dataset is not installed")

from shelf import hidden, read, tables

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    DeadlineError,
    DiskError,
    HomeError,
    JournalError,
    RequestStrategy,
    Status,
    TarShards,
)
from aiodownload.entries import Publication
from aiodownload.testing import FaultServer, Request, Script, each_path, ok, status

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")

MIB = 1 << 20


class Fault:
    """Calls of one kind on files of one name fail, from the n-th on, a few times; writes do so halfway."""

    def __init__(self) -> None:
        self.kind = self.name = ""
        self.after = self.times = self.number = 0
        self.blank = False  # only writes of nothing but zeros

    def arm(self, kind: str, name: str, after: int = 0, times: int = 1, number: int = errno.ENOSPC) -> None:
        self.kind, self.name, self.after, self.times, self.number = kind, name, after, times, number

    def hit(self, kind: str, where: Any) -> bool:
        if kind != self.kind or not self.times:
            return False
        path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else str(where)
        if not path.endswith(self.name):
            return False
        self.after -= 1
        if self.after >= 0:
            return False
        self.times -= 1
        return True

    def error(self) -> OSError:
        return OSError(self.number, os.strerror(self.number))


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    fault = Fault()
    real = {name: getattr(os, name) for name in ("pwritev", "fsync", "ftruncate", "fchmod", "link", "open", "mkdir")}

    def pwritev(handle: int, views: list[memoryview], place: int) -> int:
        if (fault.blank and any(map(any, views))) or not fault.hit("pwritev", handle):
            return int(real["pwritev"](handle, views, place))
        half = b"".join(views)[: sum(map(len, views)) // 2]
        real["pwritev"](handle, [half], place)
        raise fault.error()

    def plain(kind: str) -> Any:
        def call(where: Any, *more: Any, **named: Any) -> Any:
            if fault.hit(kind, where):
                raise fault.error()
            return real[kind](where, *more, **named)

        return call

    monkeypatch.setattr(os, "pwritev", pwritev)
    for kind in real.keys() - {"pwritev"}:
        monkeypatch.setattr(os, kind, plain(kind))
    yield fault
    fault.times = 0


def numbered(request: Request) -> Script:
    return ok(request.target.encode() * 100)


def in_turn(urls: list[str], download: AioDownload) -> list[AioDownloadBundle]:
    async def run() -> list[AioDownloadBundle]:
        async with download:
            return [await download.one(url) for url in urls]

    return asyncio.run(run())


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EDQUOT"])
@pytest.mark.parametrize(
    ("kind", "file", "after"),
    [("pwritev", "/tar", 1), ("pwritev", "/rows", 2), ("fsync", "/tar", 1), ("fsync", "/rows", 2)],
)
def test_a_fault_while_a_member_is_added(
    kind: str,
    file: str,
    after: int,
    name: str,
    journal: bool,
    large: bool,
    fault: Fault,
    server: FaultServer,
    home: Path,
) -> None:
    """R34, R36: the second of three is no member, and nothing of it is in the tar; a rerun fetches just that one."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}") for number in range(3)]
    if large:
        server.on("/1", ok(b"x" * 2 * MIB))
    book = home.with_suffix(".db") if journal else None
    strategy = TarShards(home, durable=kind == "fsync", skip_cached=not journal)
    fault.arm(kind, file, after, number=getattr(errno, name))
    out = in_turn(urls, AioDownload(None, strategy, Quick(1), journal=book))
    assert fault.times == 0
    assert [one.ok for one in out] == [True, False, True]
    error = out[1].error
    assert isinstance(error, DiskError)
    assert (error.errno, error.action) == (getattr(errno, name), "write")
    assert len(server.requests) == 3
    assert [one.row["url"] for one in read(home)] == [urls[0], urls[2]]
    assert [row["error_type"] for row in tables(home)[0]] == [None, "DiskError", None]
    assert (home / "00000.tar").stat().st_size == 10240
    assert sorted(path.name for path in home.iterdir()) == ["00000.parquet", "00000.tar"]
    again = in_turn(urls, AioDownload(None, strategy, Quick(1), journal=book))
    assert [one.status.name for one in again] == ["CACHED", "DONE", "CACHED"]


@pytest.mark.parametrize(("kind", "file"), [("mkdir", ".new"), ("open", "rows")])
def test_no_shard_can_be_opened(kind: str, file: str, fault: Fault, server: FaultServer, home: Path) -> None:
    """The bundle fails, and the next one has another go."""
    server.default = each_path(numbered)
    fault.arm(kind, file)
    out = in_turn([server.url(f"/{number}") for number in range(2)], AioDownload(None, TarShards(home), Quick(1)))
    assert fault.times == 0
    assert [one.ok for one in out] == [False, True]
    assert isinstance(out[0].error, DiskError)
    assert [one.row["url"] for one in read(home)] == [out[1].url]
    assert hidden(home) == []


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("open", "parquet"),
        ("fchmod", "/tar"),
        ("fchmod", "/parquet"),
        ("link", "parquet"),
        ("link", "tar"),
    ],
)
def test_a_fault_while_a_shard_is_published(
    kind: str, file: str, fault: Fault, server: FaultServer, home: Path
) -> None:
    """It is tried again when the run ends; then it is said, and the next run has all that counted."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}") for number in range(5)]
    strategy = TarShards(home, shard_size=3, skip_cached=True)
    download = AioDownload(None, strategy, Quick(1))
    fault.arm(kind, file, times=1)
    assert all(one.ok for one in in_turn(urls, download))
    assert fault.times == 0
    assert [one.row["url"] for one in read(home)] == urls
    assert hidden(home) == []
    for path in home.iterdir():
        path.unlink()
    fault.arm(kind, file, times=3)
    with pytest.raises(HomeError, match=r"shard 0000[01] cannot be published: cannot .*No space left on device"):
        in_turn(urls, download)
    fault.times = 0
    read(home)
    server.requests.clear()
    assert {one.status for one in in_turn(urls, download)} == {Status.CACHED}
    assert server.requests == []
    assert sorted(one.row["url"] for one in read(home)) == sorted(urls)
    assert hidden(home) == []


def test_the_end_of_a_tar_cannot_be_written(fault: Fault, server: FaultServer, home: Path) -> None:
    """The members count all the same, and are published when the run ends."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}") for number in range(4)]
    fault.arm("pwritev", "/tar")
    fault.blank = True  # as the end of a tar is, which is written beside what comes into the next one
    assert all(one.ok for one in in_turn(urls, AioDownload(None, TarShards(home, shard_size=3), Quick(1))))
    assert fault.times == 0
    assert [one.row["url"] for one in read(home)] == urls


def test_a_failure_that_cannot_be_told(
    fault: Fault, server: FaultServer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bundle has its error, and a warning says that the shard has no row of it."""
    urls = [server.on("/a", ok(b"a")), server.on("/bad", status(404)), server.on("/b", ok(b"b"))]
    fault.arm("pwritev", "/rows", 2)
    out = in_turn(urls, AioDownload(None, TarShards(home), Quick(1)))
    assert [one.ok for one in out] == [True, False, True]
    assert "cannot be told" in caplog.text
    assert [row["url"] for row in tables(home)[0]] == [urls[0], urls[2]]
    assert len(read(home)) == 2


def test_a_journal_that_refuses(server: FaultServer, home: Path) -> None:
    """What it could not be told of before does not count, and the run ends loudly."""

    class Refusing(aiodownload.Journal):
        def publishing(self, key: bytes, publication: Publication) -> None:
            raise JournalError(self.path, "it is full")

    url = server.on("/a", ok(b"a"))
    with pytest.raises(JournalError, match="it is full"):
        aiodownload.one(url, AioDownload(None, TarShards(home), journal=Refusing(home.with_suffix(".db"))))
    assert list(home.iterdir()) == []


LIMITED = """
import resource, sys, aiodownload
home, limit, *urls = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
download = aiodownload.AioDownload(None, aiodownload.TarShards(home), aiodownload.RequestStrategy(concurrent=1))
bundles = aiodownload.swarm(urls, download)
print(*(one.status.name for one in bundles), bundles[-1].error)
"""


def test_a_file_that_may_not_grow(server: FaultServer, home: Path) -> None:
    """A real limit, which a write meets halfway: what was whole before is published, within that limit."""
    server.default = ok(b"x" * 15_000)
    urls = [server.url(f"/{number}") for number in range(4)]
    out = subprocess.run([sys.executable, "-c", LIMITED, str(home), "41000", *urls], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("DONE DONE FAILED FAILED cannot write ")
    assert out.stdout.rstrip().endswith("(EFBIG)")
    assert len(read(home)) == 2
    assert (home / "00000.tar").stat().st_size == 40960


def test_a_deadline_at_the_very_moment(server: FaultServer, home: Path) -> None:
    """The member counts, and its bundle has no time left to hear of it; the journal finds it, and only once."""

    class Slow(aiodownload.Journal):
        def publishing(self, key: bytes, publication: Publication) -> None:
            time.sleep(0.7)
            super().publishing(key, publication)

    url, book = server.on("/a", ok(b"a")), home.with_suffix(".db")
    late = AioDownload(None, TarShards(home), RequestStrategy(deadline=0.3), journal=Slow(book))
    assert isinstance(aiodownload.one(url, late).error, DeadlineError)
    assert [one.row["url"] for one in read(home)] == [url]
    assert aiodownload.one(url, AioDownload(None, TarShards(home), Quick(1), journal=book)).status is Status.CACHED
    assert len(server.requests) == 1
    assert len(read(home)) == 1
    assert hidden(home) == []
