"""Bodies into an object store: whatever their size and coding, the object is the file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import subprocess
import sys
import time
from random import Random

import pytest
from shelves import Shelf

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, RequestStrategy, Verified
from aiodownload.storage import upload
from aiodownload.storage.upload import BATCH, PART
from aiodownload.testing import (
    Connection,
    FaultServer,
    Request,
    chunked,
    each_path,
    gzipped,
    ok,
    ranged,
    slow,
    status,
    until_close,
)

pytest.importorskip("obstore", reason="the extra objects is not installed")

MIB = 1 << 20


def some(size: int) -> bytes:
    return Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 70_000, PART - 1, PART, PART + 1, PART + BATCH + 7, 21 * MIB + 3])
def test_every_size(shelf: Shelf, server: FaultServer, size: int) -> None:
    """One request up to a part, several parts beyond: the bytes are those of the server."""
    body = some(size)
    url = server.on("/a/file.bin", ok(body))
    bundle = aiodownload.one(url, shelf.download())
    assert bundle.error is None
    assert (bundle.size, bundle.verified) == (size, Verified.LENGTH)
    assert bundle.file_path == f"{shelf.home}/127.0.0.1+{server.port}/a/file.bin"
    assert shelf.objects() == {"file.bin": body}
    assert shelf.uploads() == []


@pytest.mark.parametrize("size", [1000, 12 * MIB])
def test_what_it_carries(shelf: Shelf, server: FaultServer, size: int) -> None:
    """Its type, the proof, the digest, and the origin's validators."""
    body = some(size)
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    url = server.on("/file.csv", ok(body, Content_Type="text/csv; charset=utf-8", ETag='"v1"', Last_Modified=date))
    digest = hashlib.sha256(body).hexdigest()
    bundle = aiodownload.one(AioDownloadBundle(url, digest=f"sha256:{digest}"), shelf.download())
    assert bundle.verified is Verified.DIGEST
    carried = shelf.carried(bundle.file_path or "")
    assert len(carried.pop("aiodownload")) == 16
    assert carried == {
        "Content-Type": "text/csv; charset=utf-8",
        "aiodownloadproof": "DIGEST",
        "aiodownloadsha256": digest,
        "aiodownloadetag": '"v1"',
        "aiodownloadmodified": date,
    }


def parts_of(shelf: Shelf, path: str) -> int:
    """In how many parts an object came, which S3 tells in its ETag."""
    etag = shelf.store.head(path.removeprefix(shelf.home.rpartition("/")[0] + "/"))["e_tag"]
    return int(etag.strip('"').partition("-")[2] or 0)


@pytest.mark.parametrize(("size", "parts"), [(PART, 0), (PART + 1, 2), (2 * PART, 2), (21 * MIB, 3)])
def test_parts(s3_shelf: Shelf, server: FaultServer, size: int, parts: int) -> None:
    """One request up to a part; beyond, parts that are all of one size but for the last."""
    bundle = aiodownload.one(server.on("/f", ok(some(size))), s3_shelf.download())
    assert parts_of(s3_shelf, bundle.file_path or "") == parts


def test_larger_parts_for_a_large_body(s3_shelf: Shelf, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store takes so many parts and no more: a declared length that needs it has larger ones."""
    monkeypatch.setattr(upload, "MOST_PARTS", 3)
    monkeypatch.setattr(upload, "LARGE_PART", PART)
    body = some(40 * MIB + 1)
    bundle = aiodownload.one(server.on("/f", ok(body)), s3_shelf.download())
    assert 1 < parts_of(s3_shelf, bundle.file_path or "") <= 3
    assert s3_shelf.objects() == {"f": body}


MEASURED = """
import resource, sys, aiodownload
options = dict(one.split("=", 1) for one in sys.argv[3:])
strategy = aiodownload.DownloadStrategy(home=sys.argv[1], store_options=options)
download = aiodownload.AioDownload(None, strategy, aiodownload.RequestStrategy())
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
assert aiodownload.one(sys.argv[2] + "?small", download).ok
before = peak()
assert aiodownload.one(sys.argv[2], download).size == 192 << 20
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in KiB there")
def test_a_large_body_is_not_collected(s3_shelf: Shelf, server: FaultServer) -> None:
    """Of 192 MiB no more than what is promised is in memory at once, with all that it takes besides."""

    async def script(request: Request, connection: Connection) -> bool:
        count = 1 if "small" in request.target else 192
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * MIB))
        for _ in range(count):
            await connection.send(bytes(MIB))
        return True

    server.default = script
    options = [f"{name}={value}" for name, value in s3_shelf.options.items()]
    command = [sys.executable, "-X", "faulthandler", "-c", MEASURED, s3_shelf.home, server.url("/f"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) <= 36 + 16


def test_what_no_field_can_hold_is_not_carried(memory: Shelf, server: FaultServer) -> None:
    """A server's words are its own: too long, or none that a store takes, they are left out."""
    url = server.on("/x", ok(b"x", ETag='"' + "e" * 300 + '"', Content_Type="t\xe9xt/plain", Last_Modified="\x80"))
    bundle = aiodownload.one(url, memory.download())
    assert bundle.ok
    assert set(memory.carried(bundle.file_path or "")) == {"aiodownload", "aiodownloadproof"}


@pytest.mark.parametrize("size", [5000, 20 * MIB])
def test_a_body_that_comes_encoded(shelf: Shelf, server: FaultServer, size: int) -> None:
    """It is decoded; a digest of the server's is one of what it sent, and not of the object."""
    body = some(size // 2) * 2
    sent = gzip.compress(body, 1)
    announced = f"sha-256=:{base64.b64encode(hashlib.sha256(sent).digest()).decode()}:"
    url = server.on("/text", ok(sent, Content_Encoding="gzip", Repr_Digest=announced))
    bundle = aiodownload.one(url, shelf.download())
    assert bundle.error is None
    assert bundle.verified is Verified.DIGEST
    assert shelf.objects() == {"text": body}
    assert "aiodownloadsha256" not in shelf.carried(bundle.file_path or "")


def test_blanks_in_what_it_carries(s3_shelf: Shelf, server: FaultServer) -> None:
    """Signed as one where there are several: a server that is fond of them loses no file by that."""
    url = server.on("/x", ok(b"x", Content_Type="text/plain;   charset=utf-8", ETag='"a  b"'))
    bundle = aiodownload.one(url, s3_shelf.download())
    assert bundle.ok
    carried = s3_shelf.carried(bundle.file_path or "")
    assert carried["Content-Type"] == "text/plain; charset=utf-8"
    assert "aiodownloadetag" not in carried


def test_a_compressed_file_stays_one(shelf: Shelf, server: FaultServer) -> None:
    """Kept as sent, and not called encoded: whoever gets the object would decode it."""
    body = gzip.compress(b"rows")
    bundle = aiodownload.one(server.on("/a.csv.gz", gzipped(b"rows")), shelf.download())
    assert bundle.ok
    assert gzip.decompress(shelf.objects()["a.csv.gz"]) == gzip.decompress(body)
    assert "Content-Encoding" not in shelf.carried(bundle.file_path or "")


def test_other_framings(memory: Shelf, server: FaultServer) -> None:
    """Without a length, the proof is what the framing gives."""
    body = some(10 * MIB)
    urls = [server.on("/chunked", chunked(body)), server.on("/closed", until_close(body))]
    bundles = aiodownload.swarm(urls, memory.download())
    assert [bundle.verified for bundle in bundles] == [Verified.FRAMING, Verified.NONE]
    assert memory.objects() == {"chunked": body, "closed": body}
    strict = aiodownload.swarm([urls[1]], memory.download(memory.strategy(strict=True)))
    assert not strict[0].ok


def test_a_form(shelf: Shelf, server: FaultServer) -> None:
    """A POST has its object as it has its file."""
    server.on("/search", each_path(lambda request: ok(request.body) if request.method == "POST" else status(404)))
    bundle = aiodownload.one(AioDownloadBundle(server.url("/search"), params={"q": "x"}), shelf.download())
    assert bundle.ok
    assert list(shelf.objects().values()) == [b"q=x"]


def test_a_mirror(shelf: Shelf, server: FaultServer, other_server: FaultServer) -> None:
    """What its own URL has not comes from a mirror, whose validators are not carried."""
    body = some(PART + 5)
    url, mirror = server.on("/f", status(503)), other_server.on("/g", ok(body, ETag='"other"'))
    bundle = aiodownload.one(
        AioDownloadBundle(url, mirrors=[mirror], digest=f"sha256:{hashlib.sha256(body).hexdigest()}"), shelf.download()
    )
    assert bundle.ok
    assert shelf.objects() == {"f": body}
    assert "aiodownloadetag" not in shelf.carried(bundle.file_path or "")


def test_an_object_beside_a_folder(shelf: Shelf, server: FaultServer) -> None:
    """``a`` beside ``a/b`` is nothing special in a store, whichever comes first."""
    urls = [server.on(path, ok(path.encode())) for path in ("/a", "/a/b", "/c/d", "/c")]
    bundles = aiodownload.swarm(urls, shelf.download())
    assert [(bundle.file_path or "").removeprefix(f"{shelf.home}/127.0.0.1+{server.port}") for bundle in bundles] == [
        "/a",
        "/a/b",
        "/c/d",
        "/c",
    ]
    assert shelf.objects() == {"a": b"/a", "b": b"/a/b", "d": b"/c/d", "c": b"/c"}


def test_two_urls_that_want_one_place(memory: Shelf, server: FaultServer) -> None:
    """The later one gets another name, as on a disk; one that was told just this place fails."""

    class Same(aiodownload.DownloadStrategy):
        def get_file_path(self, bundle: AioDownloadBundle) -> str:
            return "same.txt"

    urls = [server.on("/1", ok(b"1")), server.on("/2", ok(b"2"))]
    told = AioDownloadBundle(server.on("/3", ok(b"3")), file_path="same.txt")
    bundles = aiodownload.swarm([*urls, told], memory.download(Same(home=memory.home)))
    assert [bundle.ok for bundle in bundles] == [True, True, False]
    assert bundles[0].file_path == f"{memory.home}/same.txt"
    assert sorted(memory.objects().values()) == [b"1", b"2"]


def test_many_at_once(shelf: Shelf, server: FaultServer) -> None:
    """Small and large ones side by side."""
    bodies = {f"{number}": some(9 * MIB if number % 20 == 0 else 3000 + number) for number in range(60)}
    urls = [server.on(f"/{name}", ok(body)) for name, body in bodies.items()]
    bundles = aiodownload.swarm(urls, shelf.download(request=RequestStrategy(concurrent=16)))
    assert [bundle.error for bundle in bundles if not bundle.ok] == []
    assert shelf.objects() == bodies


def test_suggested_names(memory: Shelf, server: FaultServer) -> None:
    """content_disposition names objects as it names files; the time stays metadata."""
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    answer = ok(b"x", Content_Disposition='attachment; filename="../ä report.csv"', Last_Modified=date)
    strategy = memory.strategy(content_disposition=True, remote_time=True)
    bundle = aiodownload.one(server.on("/get?id=1", answer), memory.download(strategy))
    assert bundle.ok
    assert (bundle.file_path or "").startswith(f"{memory.home}/127.0.0.1+{server.port}/")
    assert "report+" in (bundle.file_path or "")
    carried = memory.carried(bundle.file_path or "")
    assert carried["aiodownloadmodified"] == date


async def test_in_a_coroutine(shelf: Shelf, server: FaultServer) -> None:
    """The orchestrator itself, with nothing that blocks the event loop (the guard of conftest looks)."""
    body = some(10 * MIB)
    urls = [server.on(f"/{number}", ok(body if number == 3 else b"small")) for number in range(8)]
    seen = []
    async with shelf.download(request=RequestStrategy(concurrent=4)) as download:
        async for bundle in download.each(urls):
            assert bundle.error is None
            seen.append(bundle.url)
    assert sorted(seen) == sorted(urls)
    assert shelf.objects()["3"] == body


def test_each_leaves_early(s3_shelf: Shelf, server: FaultServer) -> None:
    """What is in flight is cancelled: no object of it, and no upload that waits for ever."""
    server.on("/slow", slow(some(24 * MIB), 24, 0.1))
    urls = [server.on("/quick", ok(b"quick")), server.url("/slow")]
    for bundle in aiodownload.each(urls, download=s3_shelf.download()):
        assert bundle.url == urls[0]
        deadline = time.monotonic() + 10
        while not s3_shelf.uploads() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert s3_shelf.uploads()
        break
    assert s3_shelf.objects() == {"quick": b"quick"}
    assert s3_shelf.uploads() == []


def test_an_override_that_writes_nothing(shelf: Shelf, server: FaultServer) -> None:
    """It reads by itself; no object, and home is not even asked for."""

    class Reads(aiodownload.DownloadStrategy):
        async def on_success(self, response: object, bundle: AioDownloadBundle) -> None:
            bundle.info = await response.json()  # type: ignore[attr-defined]

    url = server.on("/x.json", ok(b'{"a": 1}', Content_Type="application/json"))
    bundle = aiodownload.one(url, shelf.download(Reads(home=shelf.home, store_options=shelf.options)))
    assert (bundle.ok, bundle.info) == (True, {"a": 1})
    assert shelf.objects() == {}


def test_an_override_that_looks_first(shelf: Shelf, server: FaultServer) -> None:
    """A login page is refused before a byte is kept; what is right is kept by super()."""

    class NoHtml(aiodownload.DownloadStrategy):
        async def on_success(self, response: object, bundle: AioDownloadBundle) -> None:
            if response.content_type == "text/html":  # type: ignore[attr-defined]
                raise aiodownload.DownloadError("a login page")
            await super().on_success(response, bundle)  # type: ignore[arg-type]

    urls = [
        server.on("/a", ok(b"<h1>log in</h1>", Content_Type="text/html")),
        server.on("/b", ok(b"1,2\n", Content_Type="text/csv")),
    ]
    bundles = aiodownload.swarm(urls, shelf.download(NoHtml(home=shelf.home, store_options=shelf.options)))
    assert [bundle.ok for bundle in bundles] == [False, True]
    assert shelf.objects() == {"b": b"1,2\n"}


async def test_by_hand(memory: Shelf, server: FaultServer) -> None:
    """``request_and_download``: one try, without the schedule."""
    bundle = AioDownloadBundle(server.on("/a", ok(b"a")))
    async with AioDownload(download_strategy=memory.strategy()) as download:
        await download.request_and_download(bundle)
    assert bundle.ok
    assert memory.objects() == {"a": b"a"}


def test_a_file_url_is_a_folder(server: FaultServer, tmp_path: object) -> None:
    """``file://`` has all that a folder has: it is one."""
    strategy = aiodownload.DownloadStrategy(home=f"file://{tmp_path}/with%20blank", segments=2)
    assert strategy.home == f"{tmp_path}/with blank"
    bundle = aiodownload.one(server.on("/a", ranged(b"a")), AioDownload(download_strategy=strategy))
    assert bundle.file_path == f"{tmp_path}/with blank/127.0.0.1+{server.port}/a"
    with open(bundle.file_path, "rb") as file:
        assert file.read() == b"a"
