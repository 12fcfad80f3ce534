"""TarShards against a real server; what it writes is read back by tarfile, pyarrow and webdataset."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from hashlib import sha256, shake_128
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Quick

pytest.importorskip("pyarrow", reason="the extra dataset is not installed")

import pyarrow as pa
import pyarrow.parquet as pq
from shelf import hidden, read, tables

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    BodyError,
    ConfigurationError,
    DeadlineError,
    DownloadStrategy,
    HomeError,
    InvalidURLError,
    MissingExtraError,
    PathError,
    RequestStrategy,
    Status,
    TarShards,
    Verified,
)
from aiodownload.storage.owner import Owner
from aiodownload.testing import (
    FaultServer,
    Request,
    Script,
    chunked,
    cut,
    each_path,
    gzipped,
    ok,
    ranged,
    redirect,
    slow,
    status,
    until_close,
)

MIB = 1 << 20


def numbered(request: Request) -> Script:
    """Bodies that can be told from each other."""
    return ok(request.target.encode() * 3, Content_Type="image/jpeg", ETag='"e"')


@pytest.fixture
def shards(home: Path) -> Callable[..., AioDownload]:
    """Makes an AioDownload that keeps shards of ten in ``home``, one request after the other."""

    def make(request: RequestStrategy | None = None, journal: Path | None = None, **settings: Any) -> AioDownload:
        strategy = TarShards(home, **{"shard_size": 10, **settings})
        asking = request or Quick(concurrent=1, max_attempts=2, timeout=5)
        return AioDownload(download_strategy=strategy, request_strategy=asking, journal=journal)

    return make


Make = Callable[..., AioDownload]


def in_turn(items: Iterable[str | AioDownloadBundle], download: AioDownload) -> list[AioDownloadBundle]:
    """Download one after the other, so that it is known which is whole first."""

    async def run() -> list[AioDownloadBundle]:
        async with download:
            return [await download.one(item) for item in items]

    return asyncio.run(run())


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def test_members_rows_and_outcomes_agree(server: FaultServer, home: Path, shards: Make, tmp_path: Path) -> None:
    """Each body is a member, each bundle a row; a shard is full at ten, and the last has what is left."""
    server.default = each_path(numbered)
    missing = [server.on(f"/missing-{number}", status(404)) for number in range(3)]
    urls = [server.url(f"/{number}.jpg") for number in range(25)]
    bundles = in_turn([*urls[:12], *missing, *urls[12:]], shards())
    assert names(home) == [f"0000{number}.{kind}" for number in range(3) for kind in ("parquet", "tar")]
    found = {one.row["url"]: one for one in read(home, tmp_path / "unpacked")}
    assert list(found) == urls
    assert [one.shard for one in found.values()] == [0] * 10 + [1] * 10 + [2] * 5
    assert [one.member for one in found.values()] == [f"0000{i // 10}{i % 10:04}.jpg" for i in range(25)]
    for bundle in bundles:
        if bundle.ok:
            one = found[bundle.url]
            assert bundle.file_path == str(home / f"{one.shard:05d}.tar" / one.member)
            assert bundle.size == len(one.body)
            assert one.body == bundle.url.removeprefix(server.url("")).encode() * 3
            assert (bundle.status, one.row["verified"]) == (Status.DONE, bundle.verified.value)
    rows = [row for shard in tables(home).values() for row in shard]
    assert [row["url"] for row in rows] == [bundle.url for bundle in bundles]
    failed = [row for row in rows if row["status"] == "failed"]
    assert [row["url"] for row in failed] == missing
    assert {(row["error_type"], row["error"], row["http_status"]) for row in failed} == {
        ("StatusError", "status 404 Not Found", 404)
    }
    assert all(
        row[name] is None for row in failed for name in ("key", "member", "offset", "size", "sha256", "verified")
    )
    assert len(list((tmp_path / "unpacked").iterdir())) == 50


def test_the_columns_are_typed(server: FaultServer, home: Path, shards: Make) -> None:
    """Their names and types, also where a shard has nothing in them."""
    assert not aiodownload.one(server.on("/x", status(404)), shards()).ok
    schema = pq.read_schema(home / "00000.parquet")
    assert {one.name: (str(one.type), one.nullable) for one in schema} == {
        "key": ("string", True),
        "identity": ("string", False),
        "url": ("string", False),
        "final_url": ("string", True),
        "status": ("string", False),
        "http_status": ("int32", True),
        "attempts": ("int32", False),
        "size": ("int64", True),
        "sha256": ("string", True),
        "verified": ("string", True),
        "content_type": ("string", True),
        "etag": ("string", True),
        "last_modified": ("string", True),
        "member": ("string", True),
        "offset": ("int64", True),
        "error_type": ("string", True),
        "error": ("string", True),
        "info": ("string", True),
    }


def test_without_a_member_there_is_no_tar(server: FaultServer, home: Path, shards: Make) -> None:
    """A run of failures only leaves their metadata; the next shard has the next number."""
    bad = server.on("/bad", status(404))
    assert not aiodownload.one(bad, shards()).ok
    assert names(home) == ["00000.parquet"]
    assert aiodownload.one(server.on("/good", ok(b"good")), shards()).ok
    assert names(home) == ["00000.parquet", "00001.parquet", "00001.tar"]


def test_nothing_to_keep(home: Path, shards: Make) -> None:
    """A run without a URL makes no shard."""
    assert aiodownload.swarm([], shards()) == []
    assert not home.exists() or names(home) == []


WEBDATASET = """
import json, sys, webdataset
for sample in webdataset.WebDataset(sys.argv[1:], shardshuffle=False):
    (kind,) = [name for name in sample if not name.startswith("__") and name != "json"]
    print(json.dumps([sample["__key__"], kind, sample[kind].decode(), json.loads(sample["json"])["url"]]))
"""


def test_webdataset_reads_it(server: FaultServer, home: Path, shards: Make) -> None:
    """The samples of its own reader: a key, the body under its extension, and the metadata."""
    pytest.importorskip("webdataset", reason="webdataset is not installed")
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}.jpg") for number in range(12)]
    urls += [server.on("/a.tar.gz", ok(b"packed")), server.on("/a.json", ok(b"[]"))]
    assert all(one.ok for one in in_turn(urls, shards()))
    paths = [str(path) for path in sorted(home.glob("*.tar"))]
    told = subprocess.check_output([sys.executable, "-c", WEBDATASET, *paths], text=True)
    assert [tuple(json.loads(line)) for line in told.splitlines()] == [
        (one.row["key"], one.member.partition(".")[2], one.body.decode(), url)
        for one, url in zip(read(home), urls, strict=True)
    ]
    assert [one.member.partition(".")[2] for one in read(home)[10:]] == ["jpg", "jpg", "tar.gz", "data.json"]


def test_the_same_in_the_same_order_gives_the_same_bytes(server: FaultServer, tmp_path: Path) -> None:
    """Tar files are equal bit for bit, and Parquet files but for the marks of their shards."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}") for number in range(7)]
    for name in ("one", "two"):
        strategy = TarShards(tmp_path / name, shard_size=3)
        assert all(one.ok for one in in_turn(urls, AioDownload(None, strategy, Quick(1))))
    for number in range(3):
        one, two = (tmp_path / name / f"0000{number}.tar" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert pq.read_table(one.with_suffix(".parquet")).equals(pq.read_table(two.with_suffix(".parquet")))


def test_keys_that_are_hashes(server: FaultServer, home: Path, tmp_path: Path) -> None:
    """The same in every run, whatever the order and the shard, and for http and https alike."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}.png") for number in range(6)]
    keys = []
    for name, order in (("one", urls), ("two", urls[::-1])):
        strategy = TarShards(tmp_path / name, shard_size=4, keys="hash")
        aiodownload.swarm(order, AioDownload(None, strategy, Quick(1)))
        keys.append({one.row["url"]: one.row["key"] for one in read(tmp_path / name)})
        assert all(one.row["key"] == one.row["identity"] for one in read(tmp_path / name))
    assert keys[0] == keys[1]
    assert len(set(keys[0].values())) == 6


def test_bytes_of_a_shard(server: FaultServer, home: Path, shards: Make) -> None:
    """No member is added above max_shard_bytes; one that is larger by itself has a shard of its own."""
    bodies = {f"/{number}": ok(b"x" * size) for number, size in enumerate((9000, 9000, 9000, 100_000, 9000))}
    urls = [server.on(path, script) for path, script in bodies.items()]
    assert all(one.ok for one in in_turn(urls, shards(max_shard_bytes=30_000)))
    assert [(one.shard, len(one.body)) for one in read(home)] == [
        (0, 9000),
        (0, 9000),
        (1, 9000),
        (2, 100_000),
        (3, 9000),
    ]
    assert all(path.stat().st_size <= 40_960 for path in home.glob("0000[013].tar"))


@pytest.mark.parametrize("length", [MIB - 1, MIB, 3 * MIB + 5])
@pytest.mark.parametrize("framing", [ok, chunked, ranged])
def test_large_bodies(
    length: int, framing: Callable[..., Script], server: FaultServer, home: Path, shards: Make
) -> None:
    """What does not stay in memory goes through a partial file, of which nothing is left."""
    body = shake_128(b"large").digest(length)
    digest = f"sha256:{sha256(body).hexdigest()}"
    bundle = AioDownloadBundle(server.on("/large.bin", framing(body)), digest=digest)
    out = in_turn([bundle, server.on("/small", ok(b"small"))], shards())
    assert [one.verified for one in out] == [Verified.DIGEST, Verified.LENGTH]
    assert [one.body for one in read(home)] == [body, b"small"]
    assert names(home) == ["00000.parquet", "00000.tar"]


def test_codings(server: FaultServer, home: Path, shards: Make) -> None:
    """Decoded as files are, or kept as sent if the name says that it is a compressed file."""
    text = b"text " * 1000
    urls = [server.on("/page.txt", gzipped(text)), server.on("/page.tar.gz", gzipped(text))]
    assert all(one.ok for one in in_turn(urls, shards()))
    page, packed = read(home)
    assert page.body == text
    assert gzip.decompress(packed.body) == text
    assert (page.member, packed.member) == ("000000000.txt", "000000001.tar.gz")


NOT_WHOLE = {
    "cut": (cut(b"x" * 5000, 2000), BodyError),
    "large and cut": (cut(b"x" * 3 * MIB, 2 * MIB), BodyError),
    "chunked and cut": (chunked(b"x" * 5000, end=False), BodyError),
    "another digest": (ok(b"x" * 4000), aiodownload.DigestError),
    "large with another digest": (ok(b"x" * 2 * MIB), aiodownload.DigestError),
    "a gzip without its end": (gzipped(b"x" * 5000, cut=20), aiodownload.CodingError),
    "too large": (ok(b"x" * 4 * MIB), aiodownload.TooLargeError),
    "a page to log in": (status(403), aiodownload.StatusError),
}


@pytest.mark.parametrize("kind", NOT_WHOLE)
def test_what_is_not_whole_is_no_member(kind: str, server: FaultServer, home: Path, shards: Make) -> None:
    """The fault is told in a row, nothing of the bytes is anywhere, and the run goes on."""
    script, error = NOT_WHOLE[kind]
    digest = f"sha256:{'0' * 64}" if "digest" in kind else None
    bad = AioDownloadBundle(server.on("/bad.bin", script), digest=digest)
    urls = [server.on("/a", ok(b"a")), bad, server.on("/b", ok(b"b"))]
    out = in_turn(urls, shards(max_bytes=3 * MIB))
    assert [one.ok for one in out] == [True, False, True]
    assert isinstance(bad.error, error)
    assert bad.verified is Verified.NONE
    assert [one.body for one in read(home)] == [b"a", b"b"]
    (row,) = [row for row in tables(home)[0] if row["status"] == "failed"]
    assert (row["url"], row["error_type"], row["error"]) == (bad.url, error.__name__, str(bad.error))
    assert names(home) == ["00000.parquet", "00000.tar"]


def test_a_second_try_leaves_no_error(server: FaultServer, home: Path, shards: Make) -> None:
    """What a first try has met is not told of a body that is there."""
    url = server.on("/twice", cut(b"x" * 3000, 100), ok(b"whole"))
    assert aiodownload.one(url, shards()).attempts == 2
    (one,) = read(home)
    assert (one.body, one.row["attempts"], one.row["error"], one.row["error_type"]) == (b"whole", 2, None, None)


def test_the_strength_of_the_proof_is_told(server: FaultServer, home: Path, shards: Make) -> None:
    """As bundles tell it; strict keeps nothing that nothing proves."""
    urls = [server.on("/l", ok(b"l")), server.on("/c", chunked(b"c")), server.on("/n", until_close(b"n"))]
    in_turn(urls, shards())
    assert [one.row["verified"] for one in read(home)] == ["length", "framing", "none"]
    assert [one.ok for one in in_turn(urls, shards(strict=True))] == [True, True, False]


def test_what_a_bundle_carries(server: FaultServer, home: Path, shards: Make) -> None:
    """``info`` as JSON, and None for what JSON has not."""
    server.default = ok(b"x")
    infos: list[Any] = [
        {"caption": "ein Käfer", "tags": [1, 2.5, None]},
        "text",
        7,
        None,
        {1, 2},
        float("nan"),
        object(),
    ]
    bundles = [AioDownloadBundle(server.url(f"/{number}"), info) for number, info in enumerate(infos)]
    assert all(one.ok for one in in_turn(bundles, shards()))
    assert [one.told["info"] for one in read(home)] == [*infos[:4], None, None, None]


def test_redirects_and_mirrors(server: FaultServer, home: Path, shards: Make) -> None:
    """The URL is the caller's; where the body came from is the final one."""
    there = server.on("/there.png", ok(b"there"))
    bundles = [
        AioDownloadBundle(server.on("/here.jpg", redirect("/there.png"))),
        AioDownloadBundle(server.on("/none.gif", status(404)), mirrors=[there]),
    ]
    assert all(one.ok for one in in_turn(bundles, shards()))
    rows = [one.row for one in read(home)]
    assert [(row["url"], row["final_url"]) for row in rows] == [(one.url, there) for one in bundles]
    assert [row["member"] for row in rows] == ["000000000.jpg", "000000001.gif"]


def test_no_secret_is_told(server: FaultServer, home: Path, shards: Make) -> None:
    """P9: neither the password of a URL nor a header, in members, rows and the folder's files."""
    url = server.on("/secret", ok(b"x")).replace("http://", "http://me:hunter2@")
    bad = server.on("/bad", status(404)).replace("http://", "http://me:hunter2@")
    out = aiodownload.swarm([AioDownloadBundle(one, headers={"X-Api-Key": "hunter2"}) for one in (url, bad)], shards())
    assert [one.ok for one in out] == [True, False]
    assert "hunter2" not in str(tables(home)) + str([one.told for one in read(home)])
    assert not any(b"hunter2" in path.read_bytes() for path in home.iterdir())


def test_times(server: FaultServer, home: Path, shards: Make) -> None:
    """Members have no time, or that of their Last-Modified."""
    date = "Tue, 15 Nov 1994 12:45:26 GMT"
    urls = [server.on("/a", ok(b"a", Last_Modified=date)), server.on("/b", ok(b"b"))]
    in_turn(urls, shards())
    in_turn(urls, shards(remote_time=True))
    times = []
    for path in sorted(home.glob("*.tar")):
        with tarfile.open(path) as archive:
            times.append([one.mtime for one in archive.getmembers()])
    assert times == [[0, 0, 0, 0], [784903526, 784903526, 0, 0]]
    assert [one.row["last_modified"] for one in read(home)] == [date, None] * 2


def test_the_same_request_twice(server: FaultServer, home: Path, shards: Make) -> None:
    """Fetched once, a member once, told once; so is a failure.  A form is another request."""
    server.default = each_path(numbered)
    bad = server.on("/bad", status(404))
    url = server.url("/a.jpg")
    out = aiodownload.swarm([url, bad, url, bad, AioDownloadBundle(url, params={"q": 1}), url, bad], shards())
    assert [one.ok for one in out] == [True, False, True, False, True, True, False]
    assert len({one.file_path for one in out if one.ok}) == 2
    rows = [row for shard in tables(home).values() for row in shard]
    assert sorted((row["url"], row["status"]) for row in rows) == sorted([(url, "done")] * 2 + [(bad, "failed")])
    assert len(read(home)) == 2


def test_failures_that_no_server_has_seen(server: FaultServer, home: Path, shards: Make) -> None:
    """A URL that is none, and a path that cannot be, have their rows."""
    good = server.on("/good", ok(b"good"))
    bundles = [AioDownloadBundle("ftp://example.org/x"), good, AioDownloadBundle(server.url("/y"), file_path="../up")]
    out = aiodownload.swarm(bundles, shards())
    assert [type(one.error) for one in out] == [InvalidURLError, type(None), PathError]
    rows = tables(home)[0]
    assert [(row["status"], row["error_type"]) for row in rows if row["status"] == "failed"] == [
        ("failed", "InvalidURLError"),
        ("failed", "PathError"),
    ]


def test_a_name_of_ones_own_tells_requests_apart(server: FaultServer, home: Path, shards: Make) -> None:
    """``file_path`` makes no folder; its extension counts."""
    url = server.on("/x", ok(b"x"))
    out = in_turn([AioDownloadBundle(url, file_path=f"cats/{number}.gif") for number in range(2)], shards())
    assert [one.ok for one in out] == [True, True]
    assert [one.member for one in read(home)] == ["000000000.gif", "000000001.gif"]
    assert names(home) == ["00000.parquet", "00000.tar"]


def test_an_on_success_of_ones_own(server: FaultServer, home: Path) -> None:
    """It may refuse a body, let it be kept, or keep nothing."""
    seen = []

    class Picky(TarShards):
        async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
            if response.content_type == "text/html":
                raise aiodownload.DownloadError("it is a page")
            if response.content_type == "application/json":
                seen.append(await response.json())
                return
            await super().on_success(response, bundle)

    urls = [
        server.on("/page", ok(b"<p>", Content_Type="text/html")),
        server.on("/json", ok(b"[1]", Content_Type="application/json")),
        server.on("/file", ok(b"file", Content_Type="image/png")),
    ]
    out = aiodownload.swarm(urls, AioDownload(None, Picky(home), Quick(1)))
    assert [one.ok for one in out] == [False, True, True]
    assert seen == [[1]]
    assert [(one.member, one.body) for one in read(home)] == [("000000000.png", b"file")]


async def test_calls_side_by_side_and_one_after_another(server: FaultServer, home: Path, shards: Make) -> None:
    """They share the shard that is open; it is published when the AioDownload is left, and not before it is full."""
    server.default = each_path(numbered)
    async with shards() as download:
        one, two = ([server.url(f"/{name}{number}") for number in range(4)] for name in "ab")
        await asyncio.gather(download.swarm(one), download.swarm(two))
        assert [name for name in names(home) if not name.startswith(".")] == []
        await download.swarm([server.url(f"/c{number}") for number in range(4)])
    assert [one.shard for one in read(home)] == [0] * 10 + [1] * 2


async def test_a_request_again_on_the_same_aiodownload(server: FaultServer, home: Path) -> None:
    """Without a journal and skip_cached it is fetched again, and never twice in one shard."""
    url = server.on("/again", ok(b"again"))
    for settings, count in (({}, 2), ({"skip_cached": True}, 0)):
        async with AioDownload(None, TarShards(home, keys="hash", **settings), Quick(1)) as download:
            states = [(await download.one(url)).status.name for _ in range(2)]
        assert states == (["DONE", "DONE"] if count else ["CACHED", "CACHED"])
    assert [one.shard for one in read(home)] == [0, 1]


async def test_each_and_leaving_early(server: FaultServer, home: Path, shards: Make) -> None:
    """What was settled when the iterator is left is in a shard, and nothing hidden is left."""
    server.default = each_path(numbered)
    async with shards(Quick(concurrent=2)) as download:
        results = download.each(server.url(f"/{number}") for number in range(1000))
        seen = [await anext(results) for _ in range(5)]
        await results.aclose()
    found = {one.row["url"] for one in read(home)}
    assert {one.url for one in seen} <= found
    assert hidden(home) == []


def test_one_try(server: FaultServer, home: Path, shards: Make) -> None:
    """``request_and_download`` keeps and tells as a run does."""
    url, bad = server.on("/a", ok(b"a")), server.on("/bad", status(404))

    async def tries() -> list[AioDownloadBundle]:
        async with shards() as download:
            return [await download.request_and_download(AioDownloadBundle(one)) for one in (url, bad)]

    assert [one.status for one in asyncio.run(tries())] == [Status.DONE, Status.FAILED]
    assert [row["status"] for row in tables(home)[0]] == ["done", "failed"]


def test_a_deadline(server: FaultServer, home: Path, shards: Make) -> None:
    """A body that does not come in time is no member."""
    url = server.on("/slow", slow(b"x" * 1000, 10, 0.1))
    out = aiodownload.swarm([url, server.on("/b", ok(b"b"))], shards(RequestStrategy(2, deadline=0.3)))
    assert isinstance(out[0].error, DeadlineError)
    assert [one.body for one in read(home)] == [b"b"]


# What is there already.


def test_a_journal_knows_what_is_in_shards(server: FaultServer, home: Path, shards: Make, tmp_path: Path) -> None:
    """The rerun asks for nothing that is in a shard; for what is in none any more it asks again."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}.jpg") for number in range(25)]
    journal = tmp_path / "journal.db"
    first = in_turn(urls, shards(journal=journal))
    server.requests.clear()
    again = in_turn(urls, shards(journal=journal))
    assert {one.status for one in again} == {Status.CACHED}
    assert [(one.file_path, one.size, one.verified) for one in again] == [
        (one.file_path, one.size, one.verified) for one in first
    ]
    assert server.requests == []
    (home / "00001.tar").unlink()
    third = in_turn(urls, shards(journal=journal))
    assert [one.status.name for one in third] == ["CACHED"] * 10 + ["DONE"] * 10 + ["CACHED"] * 5
    assert len(server.requests) == 10
    assert names(home) == [
        *(
            f"0000{n}.{k}"
            for n, k in (
                (0, "parquet"),
                (0, "tar"),
                (1, "parquet"),
                (2, "parquet"),
                (2, "tar"),
                (3, "parquet"),
                (3, "tar"),
            )
        )
    ]


def test_a_tar_of_another_size_is_not_believed(server: FaultServer, home: Path, shards: Make, tmp_path: Path) -> None:
    """Nor is a table that is none, or one of somebody else."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}") for number in range(3)]
    journal = tmp_path / "journal.db"
    aiodownload.swarm(urls, shards(journal=journal))
    with (home / "00000.tar").open("ab") as file:
        file.write(b"x")
    (home / "00007.parquet").write_bytes(b"PAR1 no table PAR1")
    (home / "00007.tar").write_bytes(b"no tar")
    pq.write_table(pa.table({"a": [1]}), home / "00008.parquet")
    (home / "00008.tar").write_bytes(b"no tar")
    assert {one.status for one in aiodownload.swarm(urls, shards(journal=journal))} == {Status.DONE}
    assert "00009.tar" in names(home)


def test_skip_cached_without_a_journal(server: FaultServer, home: Path, shards: Make) -> None:
    """The tables are read: URL and form say whether a member is there; a failure is tried again."""
    server.default = each_path(numbered)
    bad = server.on("/bad", status(404), ok(b"now"))
    urls = [server.url(f"/{number}.jpg") for number in range(12)]
    first = aiodownload.swarm([*urls, bad], shards())
    server.requests.clear()
    again = aiodownload.swarm([*urls, bad, server.url("/new")], shards(skip_cached=True))
    assert [one.status.name for one in again] == ["CACHED"] * 12 + ["DONE"] * 2
    assert [one.file_path for one in again[:12]] == [one.file_path for one in first[:12]]
    assert [one.size for one in again[:12]] == [one.size for one in first[:12]]
    assert len(server.requests) == 2
    form = AioDownloadBundle(urls[0], params={"a": "b"})
    assert aiodownload.one(form, shards(skip_cached=True)).status is Status.DONE


@pytest.mark.parametrize("journal", [True, False])
def test_a_digest_that_is_given_later(
    journal: bool, server: FaultServer, home: Path, shards: Make, tmp_path: Path
) -> None:
    """The member is read again: one that agrees is there, one that does not is fetched again."""
    book = tmp_path / "journal.db" if journal else None
    body = shake_128(b"digest").digest(50_000)
    url = server.on("/a.bin", ok(body))
    aiodownload.swarm([server.on("/first", ok(b"first")), url], shards(journal=book))
    right = AioDownloadBundle(url, digest=[f"sha256:{sha256(body).hexdigest()}"])
    (again,) = aiodownload.swarm([right], shards(journal=book, skip_cached=not journal))
    assert (again.status, again.verified) == (Status.CACHED, Verified.DIGEST)
    wrong = AioDownloadBundle(url, digest=f"sha256:{'1' * 64}")
    server.requests.clear()
    assert isinstance(
        aiodownload.one(wrong, shards(journal=book, skip_cached=not journal)).error, aiodownload.DigestError
    )
    assert server.requests


# Homes and settings.


def test_a_link_in_the_way(server: FaultServer, home: Path, shards: Make, tmp_path: Path) -> None:
    """S5: neither the name of a shard nor the folder of an open one leads elsewhere; the next number is free."""
    outside = tmp_path / "outside"
    outside.mkdir()
    home.mkdir()
    (home / "00000.tar").symlink_to(outside / "stolen.tar")
    (home / ".00001.shard").symlink_to(outside)
    assert aiodownload.one(server.on("/a", ok(b"a")), shards()).ok
    assert list(outside.iterdir()) == []
    assert names(home) == [".00001.shard", "00000.tar", "00002.parquet", "00002.tar"]


async def test_something_has_the_name(server: FaultServer, home: Path, shards: Make) -> None:
    """A file that was put there meanwhile stays; the shard is kept, and published when the name is free."""
    url = server.on("/a", ok(b"a"))
    download = await shards().__aenter__()
    assert (await download.one(url)).ok
    (home / "00000.tar").write_bytes(b"somebody's")
    with pytest.raises(HomeError, match=r"shard 00000 cannot be published.*kept in \.00000\.shard"):
        await download.__aexit__(None, None, None)
    assert (home / "00000.tar").read_bytes() == b"somebody's"
    (home / "00000.tar").unlink()
    async with shards(skip_cached=True) as download:
        assert (await download.one(url)).status is Status.CACHED
    assert [one.body for one in read(home)] == [b"a"]
    assert hidden(home) == []


def test_shards_of_others_are_left_alone(server: FaultServer, home: Path, shards: Make) -> None:
    """Files of another program count for the numbers, and for nothing else."""
    home.mkdir()
    (home / "00041.tar").write_bytes(b"other")
    (home / "notes.txt").write_bytes(b"notes")
    assert aiodownload.one(server.on("/a", ok(b"a")), shards()).ok
    assert names(home) == ["00041.tar", "00042.parquet", "00042.tar", "notes.txt"]


def test_a_home_that_is_none(server: FaultServer, tmp_path: Path) -> None:
    """The same error as for files, before anything is asked."""
    (tmp_path / "file").write_bytes(b"")
    url = server.on("/a", ok(b"a"))
    with pytest.raises(HomeError):
        aiodownload.one(url, AioDownload(None, TarShards(tmp_path / "file")))
    assert server.requests == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"shard_size": 0}, "shard_size must be a whole number from 1"),
    ({"shard_size": "many"}, "shard_size must be a whole number from 1"),
    ({"shard_size": True}, "shard_size"),
    ({"max_shard_bytes": 0}, "max_shard_bytes must be a whole number of at least 1"),
    ({"keys": "url"}, "keys must be 'number' or 'hash', not 'url'"),
    ({"adopt": 1}, "adopt must be True or False"),
    ({"home": 1000}, "home must be a folder, not 1000; members of a shard are shard_size=1000"),
    ({"chunk_size": 0}, "chunk_size"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_wrong_settings(settings: dict[str, Any], words: str) -> None:
    """Each names the setting and says what would be right."""
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
        TarShards(**settings)


@pytest.mark.parametrize(
    ("name", "value"), [("segments", 4), ("refresh", True), ("content_disposition", True), ("shard_size", 0)]
)
async def test_settings_that_a_subclass_makes(name: str, value: Any, home: Path) -> None:
    """What cannot work here is said before anything is asked."""
    strategy = TarShards(home)
    setattr(strategy, name, value)
    with pytest.raises(ConfigurationError, match=name):
        async with AioDownload(None, strategy):
            pass


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Without pyarrow it is said how to install it, when the strategy is made."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError, match=r"TarShards needs the extra 'dataset'.*pip install 'aiodownload\[dataset\]'"
    ):
        TarShards(home)


def test_nothing_of_it_is_imported_early() -> None:
    """Neither the package nor pyarrow, before somebody asks; the latter not before a table is written or read."""
    program = (
        "import sys, aiodownload; print('aiodownload.dataset' in sys.modules)\n"
        "aiodownload.TarShards('/'); print('aiodownload.dataset' in sys.modules, 'pyarrow' in sys.modules)"
    )
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert told.split() == ["False", "True", "False"]


def test_it_pickles(home: Path) -> None:
    """Settings and nothing else."""
    strategy = TarShards(home, shard_size=7, keys="hash", durable=True)
    copy = pickle.loads(pickle.dumps(strategy))
    assert vars(copy) == vars(strategy)
    assert isinstance(copy, DownloadStrategy)
    assert repr(type(copy)) == "<class 'aiodownload.TarShards'>"


PROGRAM = """
import json, sys, aiodownload
home, journal, *urls = sys.argv[1:]
strategy = aiodownload.TarShards(home, shard_size=20)
asking = aiodownload.RequestStrategy(concurrent=4, timeout=20)
bundles = aiodownload.swarm(urls, aiodownload.AioDownload(None, strategy, asking, journal=journal))
sys.exit(not all(bundle.ok for bundle in bundles))
"""


def test_several_processes_in_one_home(server: FaultServer, home: Path, tmp_path: Path) -> None:
    """Each has shards of its own; together they have every member, once."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}.jpg") for number in range(150)]
    programs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(home), str(tmp_path / f"{number}.db"), *urls[number::3]])
        for number in range(3)
    ]
    assert [program.wait(60) for program in programs] == [0, 0, 0]
    assert sorted(one.row["url"] for one in read(home)) == sorted(urls)
    assert hidden(home) == []
    shards = sorted(path.name for path in home.glob("*.tar"))
    assert shards == [f"{number:05d}.tar" for number in range(9)]


async def test_what_another_process_adds_is_seen(server: FaultServer, home: Path, shards: Make, tmp_path: Path) -> None:
    """A journal that two share: what one has in its open shard is there for the other, and so when it is published."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}.jpg") for number in range(6)]
    journal = tmp_path / "journal.db"
    async with shards(journal=journal) as one, shards(journal=journal) as two:
        await one.one(urls[0])
        await two.one(urls[1])
        assert (await two.one(urls[0])).status is Status.CACHED
        assert (await one.one(urls[1])).status is Status.CACHED
        await two.one(urls[2])
        assert (await one.one(urls[2])).status is Status.CACHED
    assert len(read(home)) == 3


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_modes(server: FaultServer, home: Path, shards: Make) -> None:
    """What is published has the mode of files; an open shard is nobody else's."""
    old = os.umask(0o027)
    try:
        assert aiodownload.one(server.on("/a", ok(b"a")), shards()).ok
    finally:
        os.umask(old)
    assert {oct(path.stat().st_mode & 0o777) for path in home.iterdir()} == {"0o640"}


ENDS = """
import os, signal, sys, aiodownload
home, how, url = sys.argv[1:]
download = aiodownload.AioDownload(
    None, aiodownload.TarShards(home, shard_size=10), aiodownload.RequestStrategy(concurrent=2, timeout=20)
)
results = aiodownload.each((f"{url}/{number}" for number in range(100_000)), download=download)
for number, bundle in enumerate(results):
    if number == 25:
        if how == "raises":
            raise RuntimeError("mine")
        if how == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
        if how == "exits":
            sys.exit(3)  # with the iterator still there
"""


@pytest.mark.parametrize(("how", "codes"), [("raises", {1}), ("interrupted", {1, -2}), ("exits", {3})])
def test_a_program_that_ends(how: str, codes: set[int], server: FaultServer, home: Path) -> None:
    """By an exception, by Ctrl-C, or just so: what was settled is published, and nothing else is left."""
    server.default = each_path(numbered)
    program = [sys.executable, "-W", "error", "-c", ENDS, str(home), how, server.url("")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode in codes
    assert "aiodownload" not in done.stderr.replace("aiodownload.each", "")
    assert len(read(home)) >= 25
    assert hidden(home) == []


def test_many_at_once(server: FaultServer, home: Path, shards: Make) -> None:
    """Sixteen at a time, and a shard published every twenty: each is there, once, and where its bundle says."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}.jpg") for number in range(500)]
    bundles = aiodownload.swarm(urls, shards(Quick(concurrent=16), shard_size=20))
    found = {one.row["url"]: one for one in read(home)}
    assert len(found) == 500
    assert [one.file_path for one in bundles] == [
        str(home / f"{found[url].shard:05d}.tar" / found[url].member) for url in urls
    ]
    assert len(list(home.iterdir())) == 50
    assert hidden(home) == []


async def test_an_open_shard_of_another_machine(
    server: FaultServer, home: Path, shards: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left alone with a warning that says what to do, and gone on with if that is said."""
    server.default = each_path(numbered)
    urls = [server.url(f"/{number}.jpg") for number in range(3)]
    async with shards() as download:
        await download.one(urls[0])
        (mark,) = home.glob(".00000.shard/*.owner")
        mark = mark.rename(mark.with_name(f"{Owner('00000000', '0' * 12, '0000', 7, 0).tag}.owner"))
        async with shards(skip_cached=True) as other:
            assert (await other.one(urls[0])).status is Status.CACHED  # it is there, as far as anybody can know
            assert (await other.one(urls[1])).status is Status.DONE
        assert ".00000.shard in" in caplog.text
        assert "adopt=True goes on with it" in caplog.text
        async with shards(skip_cached=True, adopt=True) as other:
            assert (await other.one(urls[2])).status is Status.DONE
        assert [(one.shard, one.row["url"]) for one in read(home)] == [(0, urls[0]), (0, urls[2]), (1, urls[1])]
        assert hidden(home) == []
        # That machine was alive after all: it goes on with a shard of its own.
        caplog.clear()
        assert (await download.one(server.url("/3.jpg"))).status is Status.DONE
        assert "shard 00000 in" in caplog.text
    assert [one.shard for one in read(home)] == [0, 0, 1, 2]


LARGE = """
import resource, sys, aiodownload, pyarrow.json, pyarrow.parquet
def held():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform == "darwin" else 1024)
before = held()
assert aiodownload.one(sys.argv[1], aiodownload.AioDownload(None, aiodownload.TarShards(sys.argv[2]))).ok
print(held() - before)
"""


def test_a_large_body_is_not_collected(server: FaultServer, home: Path) -> None:
    """Of 128 MiB never more than 48 are in memory at once, with all that a run needs besides."""
    server.default = ok(bytes(128 * MIB))
    program = [sys.executable, "-c", LARGE, server.url("/large"), str(home)]
    assert int(subprocess.check_output(program, text=True)) <= 48
    assert (home / "00000.tar").stat().st_size > 128 * MIB
