"""Again: what is there is found, by the same rules as for files, whatever has ended the run before."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from shelves import Shelf

import aiodownload
from aiodownload import AioDownloadBundle, HomeError, Journal, RequestStrategy, Status, Verified
from aiodownload.testing import Connection, FaultServer, Request, Script, each_path, ok, ranged, slow, status

pytest.importorskip("obstore", reason="the extra objects is not installed")

MIB = 1 << 20
BODY = Random(2).randbytes(12 * MIB)


def refreshed(body: bytes, etag: str) -> Script:
    """What a server with validators answers."""

    async def script(request: Request, connection: Connection) -> bool:
        if request.headers.get("if-none-match") == etag:
            return await status(304)(request, connection)
        return await ok(body, ETag=etag)(request, connection)

    return script


@pytest.mark.parametrize("body", [b"small", BODY], ids=["small", "large"])
def test_skip_cached(shelf: Shelf, server: FaultServer, body: bytes) -> None:
    """An object at the path is a hit, and nothing is asked."""
    url = server.on("/f", ok(body))
    assert aiodownload.one(url, shelf.download()).status is Status.DONE
    asked = len(server.requests)
    bundle = aiodownload.one(url, shelf.download(shelf.strategy(skip_cached=True)))
    assert (bundle.status, bundle.size) == (Status.CACHED, len(body))
    assert bundle.file_path == f"{shelf.home}/127.0.0.1+{server.port}/f"
    assert len(server.requests) == asked


def test_skip_cached_with_a_digest(shelf: Shelf, server: FaultServer) -> None:
    """By what the object carries; if it does not say, by reading it; a wrong one is fetched anew."""
    digest = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    skip = shelf.strategy(skip_cached=True)
    url = server.on("/f", ok(BODY))
    shelf.put(f"{shelf.home}/127.0.0.1+{server.port}/f", b"another object")
    assert aiodownload.one(AioDownloadBundle(url, digest=digest), shelf.download(skip)).status is Status.DONE
    for given in (digest, f"md5:{hashlib.md5(BODY).hexdigest()}", [digest, f"sha1:{hashlib.sha1(BODY).hexdigest()}"]):
        bundle = aiodownload.one(AioDownloadBundle(url, digest=given), shelf.download(skip))
        assert (bundle.status, bundle.verified) == (Status.CACHED, Verified.DIGEST)
    shelf.put(f"{shelf.home}/127.0.0.1+{server.port}/f", BODY)  # by somebody else: it carries nothing
    bundle = aiodownload.one(AioDownloadBundle(url, digest=digest), shelf.download(skip))
    assert (bundle.status, bundle.verified) == (Status.CACHED, Verified.DIGEST)
    assert len(server.requests) == 1


def test_many_are_looked_at_at_once(s3_shelf: Shelf, server: FaultServer) -> None:
    """Sixty objects on a store that takes its time: not one after the other."""
    urls = [server.on(f"/{number}", ok(b"x")) for number in range(60)]
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, s3_shelf.download(request=RequestStrategy(8))))
    heads: list[float] = []

    async def late(request: Request, connection: Connection) -> bool:
        if request.method == "HEAD":
            heads.append(time.monotonic())
            await asyncio.sleep(0.2)
            await connection.send(
                b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: "x"\r\n'
                b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n"
            )
            return True
        return await status(404)(request, connection)

    with FaultServer() as store:
        store.default = late
        options = {**s3_shelf.options, "endpoint": store.url("").rstrip("/")}
        strategy = aiodownload.DownloadStrategy(home=s3_shelf.home, store_options=options, skip_cached=True)
        began = time.monotonic()
        download = aiodownload.AioDownload(None, strategy, RequestStrategy(concurrent=16))
        bundles = aiodownload.swarm(urls, download)
    assert {bundle.status for bundle in bundles} == {Status.CACHED}
    assert len(heads) == 60
    assert time.monotonic() - began < 60 * 0.2 / 3


def test_what_a_journal_knows(shelf: Shelf, server: FaultServer, journal: str) -> None:
    """A second run asks for nothing; an object that is gone, or is another one, is fetched again."""
    urls = [server.on("/a", ok(b"small")), server.on("/b", ok(BODY))]
    for asked in (2, 2):
        bundles = aiodownload.swarm(urls, shelf.download(journal=journal))
        assert [bundle.ok for bundle in bundles] == [True, True]
        assert len(server.requests) == asked
    assert [bundle.status for bundle in bundles] == [Status.CACHED] * 2
    assert [bundle.verified for bundle in bundles] == [Verified.LENGTH] * 2
    assert [bundle.size for bundle in bundles] == [5, len(BODY)]
    shelf.put(bundles[0].file_path or "", b"other")  # of the same length, and not ours
    shelf.store.delete((bundles[1].file_path or "").removeprefix(shelf.home.rpartition("/")[0] + "/"))
    bundles = aiodownload.swarm(urls, shelf.download(journal=journal))
    assert [bundle.status for bundle in bundles] == [Status.DONE] * 2
    assert shelf.objects() == {"a": b"small", "b": BODY}


def test_a_copy_is_the_same_object(s3_shelf: Shelf, server: FaultServer, journal: str) -> None:
    """A bucket that was put back from a copy of it: the mark has gone along."""
    url = server.on("/a", ok(b"small"))
    bundle = aiodownload.one(url, s3_shelf.download(journal=journal))
    key = (bundle.file_path or "").removeprefix(s3_shelf.home.rpartition("/")[0] + "/")
    s3_shelf.store.copy(key, "elsewhere")
    s3_shelf.store.delete(key)
    s3_shelf.store.copy("elsewhere", key)
    assert aiodownload.one(url, s3_shelf.download(journal=journal)).status is Status.CACHED


def test_refresh(shelf: Shelf, server: FaultServer, journal: str) -> None:
    """A 304 confirms the object, if it is still there; a 200 replaces it."""
    server.on("/a", refreshed(b"first", '"1"'))
    url, strategy = server.url("/a"), shelf.strategy(refresh=True)
    assert aiodownload.one(url, shelf.download(strategy, journal=journal)).status is Status.DONE
    assert aiodownload.one(url, shelf.download(strategy, journal=journal)).status is Status.CACHED
    assert server.requests[-1].headers.get("if-none-match") == '"1"'
    server.on("/a", refreshed(b"second", '"2"'))
    assert aiodownload.one(url, shelf.download(strategy, journal=journal)).status is Status.DONE
    assert shelf.objects() == {"a": b"second"}
    shelf.put(f"{shelf.home}/127.0.0.1+{server.port}/a", b"by somebody else")
    assert aiodownload.one(url, shelf.download(strategy, journal=journal)).status is Status.DONE
    assert "if-none-match" not in server.requests[-1].headers
    assert shelf.objects() == {"a": b"second"}


def test_a_journal_is_for_one_place(memory: Shelf, server: FaultServer, journal: str, tmp_path: Path) -> None:
    """Paths are kept relative to home, so that a bucket may be moved; a hostile one leads nowhere."""
    url = server.on("/a", ok(b"a"))
    assert aiodownload.one(url, memory.download(journal=journal)).ok
    book = Journal(journal)
    book.open()
    assert book.home == memory.home
    book.close()
    rows = sqlite3.connect(journal)
    assert rows.execute("SELECT path FROM urls").fetchone()[0] == f"127.0.0.1+{server.port}/a"
    memory.store.put("secret", b"a")
    for path in (f"memory://{memory.bucket}/secret", "../secret", "/etc/passwd"):
        rows.execute("UPDATE urls SET path = ?", (path,))
        rows.commit()
        assert aiodownload.one(url, memory.download(journal=journal)).status is Status.DONE
    rows.close()


def test_a_store_that_is_gone_ends_the_run(s3_shelf: Shelf, server: FaultServer, journal: str) -> None:
    """What cannot be looked up is not taken for absent."""
    url = server.on("/a", ok(b"a"))
    assert aiodownload.one(url, s3_shelf.download(journal=journal)).ok
    with FaultServer() as store:
        store.default = each_path(lambda request: status(500 if request.method == "HEAD" else 404))
        options = {**s3_shelf.options, "endpoint": store.url("").rstrip("/"), "max_retries": "0"}
        strategy = aiodownload.DownloadStrategy(home=s3_shelf.home, store_options=options)
        with pytest.raises(HomeError, match="500"):
            aiodownload.one(url, aiodownload.AioDownload(download_strategy=strategy, journal=journal))
    assert len(server.requests) == 1


PROGRAM = """
import os, signal, sys
import aiodownload
from aiodownload.journal import Journal

home, journal, when, *urls = sys.argv[1:]

class Fatal(Journal):
    def publishing(self, key, publication):
        super().publishing(key, publication)
        if when == "noted":
            os.kill(os.getpid(), signal.SIGKILL)

    def settle(self, outcomes):
        if when == "published":
            os.kill(os.getpid(), signal.SIGKILL)
        super().settle(outcomes)

strategy = aiodownload.DownloadStrategy(home=home)
download = aiodownload.AioDownload(None, strategy, aiodownload.RequestStrategy(), journal=Fatal(journal))
bundles = aiodownload.swarm(urls, download)
print(*(bundle.status.name for bundle in bundles))
"""


@pytest.mark.parametrize("body", [b"small", BODY], ids=["small", "large"])
@pytest.mark.parametrize("when", ["noted", "published"])
def test_killed_around_the_publication(
    s3_shelf: Shelf,
    server: FaultServer,
    journal: str,
    program: Callable[..., subprocess.Popen[str]],
    when: str,
    body: bytes,
) -> None:
    """Killed before the object appeared it is fetched again, afterwards it is recognised and not fetched again."""
    url = server.on("/a", ok(body))
    first = program(PROGRAM, journal, when, url)
    first.communicate(timeout=50)
    assert first.returncode == -signal.SIGKILL
    assert s3_shelf.objects() == ({} if when == "noted" else {"a": body})
    told, _ = program(PROGRAM, journal, "never", url).communicate(timeout=50)
    assert told.split() == ["DONE" if when == "noted" else "CACHED"]
    assert len(server.requests) == (2 if when == "noted" else 1)
    assert s3_shelf.objects() == {"a": body}


def test_killed_while_it_uploads(
    s3_shelf: Shelf, server: FaultServer, journal: str, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """In the middle of a large upload: no object, an old one as it was; the next run completes it."""
    server.on("/a", slow(BODY, 24, 0.1))
    server.on("/b", slow(BODY, 24, 0.1))
    urls = [server.url("/a"), server.url("/b")]
    s3_shelf.put(f"{s3_shelf.home}/127.0.0.1+{server.port}/b", b"old")
    first = program(PROGRAM, journal, "never", *urls)
    deadline = time.monotonic() + 20
    while len(s3_shelf.uploads()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.kill()
    first.communicate(timeout=20)
    assert len(s3_shelf.uploads()) == 2  # what a lifecycle rule of the bucket is for
    assert s3_shelf.objects() == {"b": b"old"}
    server.on("/a", ok(BODY))
    server.on("/b", ok(BODY))
    told, wrong = program(PROGRAM, journal, "never", *urls).communicate(timeout=50)
    assert (told.split(), wrong) == (["DONE", "DONE"], "")
    assert s3_shelf.objects() == {"a": BODY, "b": BODY}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_random(
    s3_shelf: Shelf, server: FaultServer, journal: str, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """Thirty kills at any moment: each object is absent or whole, and in the end all are there."""
    bodies = {f"{number}": Random(number).randbytes(MIB * (1 + number % 3 * 5)) for number in range(9)}
    server.default = each_path(lambda request: ranged(bodies[request.path.lstrip("/")]))
    urls = [server.url(f"/{name}") for name in bodies]
    chance = Random(3)
    for _ in range(30):
        running = program(PROGRAM, journal, "never", *urls)
        try:
            running.communicate(timeout=chance.uniform(0.3, 2.0))
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
        there = s3_shelf.objects()
        assert all(there[name] == bodies[name] for name in there)
    told, _ = program(PROGRAM, journal, "never", *urls).communicate(timeout=60)
    assert set(told.split()) <= {"DONE", "CACHED"}
    assert s3_shelf.objects() == bodies
    before = len(server.requests)
    told, _ = program(PROGRAM, journal, "never", *urls).communicate(timeout=60)
    assert set(told.split()) == {"CACHED"}
    assert len(server.requests) == before


def test_the_mark_is_in_the_journal(memory: Shelf, server: FaultServer, journal: str) -> None:
    """What is compared is the random number that the object carries, in the columns that are there."""
    bundle = aiodownload.one(server.on("/a", ok(b"a")), memory.download(journal=journal))
    mark = memory.carried(bundle.file_path or "")["aiodownload"]
    assert re.fullmatch("[0-9a-f]{16}", mark)
    rows = sqlite3.connect(journal)
    assert rows.execute("SELECT size, mtime_ns, inode FROM urls").fetchone() == (1, int(mark, 16), int(mark, 16))
    rows.close()
