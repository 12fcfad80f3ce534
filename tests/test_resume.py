"""Resume: what an earlier try or an earlier run has left is gone on with, if it is the same file, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import shake_128
from pathlib import Path

import pytest
from aiohttp import ClientResponse
from conftest import Quick

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, DiskError, DownloadStrategy, RequestStrategy, Verified
from aiodownload.storage import kept
from aiodownload.testing import Connection, FaultServer, Request, Script, ok, ranged, redirect, status

MIB = 1 << 20
BODY = shake_128(b"body").digest(4 * MIB)
OTHER = shake_128(b"other").digest(4 * MIB)


def asked(server: FaultServer, path: str = "/f.bin") -> list[str | None]:
    """The Range of each request, in order."""
    return [request.headers.get("range") for request in server.asked(path)]


def below(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, hidden ones included, without the folder of the host."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


PROGRAM = """
import sys, aiodownload
from aiodownload.storage import kept
kept.CHECKPOINT = 1 << 20
aiodownload.one(sys.argv[1], aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=sys.argv[2])))
"""


def recorded(folder: Path) -> int:
    """How many bytes the record speaks of; a file may go while this looks."""
    for record in folder.rglob("*.part.json"):
        with contextlib.suppress(OSError):
            return int(json.loads(record.read_bytes())["written"][0][1])
    return 0


@contextlib.contextmanager
def another_process(url: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that downloads ``url``, once it has recorded 2 MiB."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(home)]) as process:
        try:
            while recorded(home) < 2 * MIB:
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def interrupted(url: str, quick: Callable[..., AioDownload]) -> AioDownloadBundle:
    """A run of its own with a single try, which fails half-way."""
    bundle = aiodownload.one(url, quick(RequestStrategy(timeout=5)))
    assert not bundle.ok
    return bundle


async def test_a_cut_is_gone_on_with(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """Row 12: each try asks for what is missing, under If-Range; no byte is sent twice that was on the disk."""
    url = server.on("/f.bin", ranged(BODY, cut=2 * MIB), ranged(BODY, cut=MIB), ranged(BODY))
    async with quick() as download:
        bundle = await download.one(url)
    assert below(home) == {"f.bin": BODY}
    assert (bundle.attempts, bundle.size, bundle.verified) == (3, len(BODY), Verified.LENGTH)
    assert asked(server) == [None, f"bytes={2 * MIB}-", f"bytes={3 * MIB}-"]
    assert [request.headers.get("if-range") for request in server.asked("/f.bin")] == [None, '"a"', '"a"']
    assert all(request.headers["accept-encoding"] == "identity" for request in server.requests)
    assert not any(name.startswith(("if-none", "if-mod")) for request in server.requests for name in request.headers)


def test_a_later_run_goes_on(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """What a failed run has left is on the disk, and another run of the same program asks for the rest."""
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), ranged(BODY))
    interrupted(url, quick)
    left = below(home)
    assert len(left) == 2
    assert "f.bin" not in left
    bundle = aiodownload.one(url, quick())
    assert below(home) == {"f.bin": BODY}
    assert bundle.attempts == 1
    assert asked(server) == [None, f"bytes={3 * MIB}-"]


def test_the_same_object_goes_on(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """A second call on one entered object, which has looked at the folder before, knows of the partial file too."""

    async def main() -> None:
        async with quick(RequestStrategy(timeout=5)) as download:
            assert not (await download.one(url)).ok
            assert (await download.one(url)).ok

    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), ranged(BODY))
    asyncio.run(main())
    assert asked(server) == [None, f"bytes={3 * MIB}-"]


def test_an_old_whole_file_stays_until_the_new_one_is(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """Row 26's promise across an interruption."""
    url = server.on("/f.bin", ok(b"old"))
    aiodownload.one(url, quick())
    server.on("/f.bin", ranged(BODY, cut=3 * MIB), ranged(BODY))
    interrupted(url, quick)
    assert below(home)["f.bin"] == b"old"
    assert aiodownload.one(url, quick()).ok
    assert below(home) == {"f.bin": BODY}


def lying(**headers: str | None) -> Script:
    """A 206 with the right bytes and a head in which something is wrong; None takes a field out."""
    return ranged(BODY, headers=headers)


RANGE = f"bytes {3 * MIB}-{4 * MIB - 1}/{4 * MIB}"

REFUSED: dict[str, Script] = {
    "13, 14 replaced: 200": ranged(OTHER, etag='"b"'),
    "15 Range ignored": ok(OTHER, ETag='"b"'),
    "15 Range ignored, the same tag": ok(BODY, ETag='"a"'),
    "16 wrong first byte": lying(Content_Range=f"bytes {3 * MIB - 1}-{4 * MIB - 1}/{4 * MIB}"),
    "16 from the start": status(206, BODY, Content_Range=f"bytes 0-{4 * MIB - 1}/{4 * MIB}", ETag='"a"'),
    "17 no Content-Range": lying(Content_Range=None),
    "18 another total": lying(Content_Range=f"bytes {3 * MIB}-{4 * MIB - 1}/{5 * MIB}"),
    "18 another tag": lying(ETag='"b"'),
    "a weak tag": lying(ETag='W/"a"'),
    "19 of the gzip form": lying(Content_Encoding="gzip"),
    "multipart": lying(Content_Type="multipart/byteranges; boundary=x"),
    "20 416 with a shorter length": status(416, b"no", Content_Range="bytes */100"),
    "20 416 without a length": status(416, b"no"),
    "200 in gzip": status(200, gzip.compress(BODY, 1), Content_Encoding="gzip", ETag='"z"'),
}


@pytest.mark.parametrize("row", REFUSED)
def test_an_answer_that_does_not_fit_is_no_part(
    row: str, server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """Rows 13-20: the file is the one that the server has now, whole, with at most one more request and no try more."""
    whole = ranged(OTHER, etag='"b"')
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), REFUSED[row], whole)
    interrupted(url, quick)
    bundle = aiodownload.one(url, quick())
    assert bundle.ok
    assert bundle.attempts == 1
    ranges = asked(server)
    if ranges == [None, f"bytes={3 * MIB}-"]:  # the answer was whole itself
        assert below(home)["f.bin"] in (OTHER, BODY)
        assert below(home)["f.bin"] == (BODY if "same" in row or "gzip" in row else OTHER)
    else:
        assert ranges == [None, f"bytes={3 * MIB}-", None]
        assert below(home)["f.bin"] == OTHER
    assert len(below(home)) == 1


def test_a_status_that_is_no_answer_keeps_the_bytes(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """A 503 to the Range is a failed try; the next one still goes on from there."""
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), status(503), status(500), ranged(BODY))
    bundle = aiodownload.one(url, quick())
    assert below(home) == {"f.bin": BODY}
    assert asked(server) == [None, *[f"bytes={3 * MIB}-"] * 3]
    assert bundle.attempts == 4


def test_short_parts_are_put_together(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """A server that gives at most 1 MiB per request: the rest is asked for, and none of it is a failed try (R16)."""
    url = server.on("/f.bin", ranged(BODY, cut=MIB), ranged(BODY, most=MIB))
    bundle = aiodownload.one(url, quick())
    assert below(home) == {"f.bin": BODY}
    assert asked(server) == [None, *(f"bytes={n * MIB}-" for n in (1, 2, 3))]
    assert bundle.attempts == 2


def test_parts_of_nearly_nothing_are_failures(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """A server that gives a byte at a time is not asked four million times."""
    url = server.on("/f.bin", ranged(BODY, cut=MIB), ranged(BODY, most=1))
    bundle = aiodownload.one(url, quick())
    assert not bundle.ok
    assert bundle.attempts == len(server.requests) == 5
    assert "f.bin" not in below(home)


def test_all_bytes_were_there(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """Stopped just before the rename: the last byte is asked for again, and vouches for the others."""
    url = server.on("/f.bin", ranged(BODY))
    program = (
        "import os, signal, sys, aiodownload\n"
        "from aiodownload.storage import folder\n"
        "class Os:\n"
        "    def __getattr__(self, name): return getattr(os, name)\n"
        "    def replace(self, source, target, **more):\n"
        "        if target == 'f.bin': os.kill(os.getpid(), signal.SIGKILL)\n"
        "        os.replace(source, target, **more)\n"
        "from aiodownload.storage import kept\n"
        "kept.CHECKPOINT = 1\n"
        "folder.os = Os()\n"
        "aiodownload.one(sys.argv[1], aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=sys.argv[2])))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, url, str(home)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert "f.bin" not in below(home)
    assert aiodownload.one(url, quick()).ok
    assert below(home) == {"f.bin": BODY}
    assert asked(server) == [None, f"bytes={4 * MIB - 1}-"]


def test_a_killed_process_is_gone_on_with(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """SIGKILL in the middle: the next run takes the dead one's file, and asks for what was not recorded."""
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB + 5, hold=True), ranged(BODY))
    with another_process(url, home):
        pass
    held = recorded(home)
    assert "f.bin" not in below(home)
    assert aiodownload.one(url, quick()).ok
    assert below(home) == {"f.bin": BODY}
    assert asked(server) == [None, f"bytes={held}-"]


def test_a_living_process_is_not_disturbed(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """Two processes at once on one URL: the second starts from byte 0, both end with the right file."""
    release = threading.Event()
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB, until=release), ranged(BODY))
    with another_process(url, home) as process:
        assert aiodownload.one(url, quick()).ok
        assert below(home)["f.bin"] == BODY
        release.set()
        assert process.wait(20) == 0
    assert asked(server) == [None, None]
    assert below(home) == {"f.bin": BODY}


@pytest.mark.parametrize("damage", ["torn", "empty", "garbage", "missing", "other url", "longer than the file"])
def test_a_record_that_is_none_means_a_fresh_start(
    damage: str, server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """R20: a damaged or foreign record is no error."""
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), ranged(BODY))
    interrupted(url, quick)
    (record,) = home.rglob("*.json")
    (partial,) = home.rglob("*.part")
    text = record.read_bytes()
    if damage == "missing":
        record.unlink()
    elif damage == "longer than the file":
        os.truncate(partial, MIB)
    else:
        record.write_bytes(
            {
                "torn": text[: len(text) // 2],
                "empty": b"",
                "garbage": os.urandom(300),
                "other url": text.replace(b'"url":"', b'"url":"0'),
            }[damage]
        )
    assert aiodownload.one(url, quick()).ok
    assert below(home)["f.bin"] == BODY
    assert asked(server) == [None, None]


def test_nothing_to_hold_on_to(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """R12, R13: without a strong ETag, with Accept-Ranges: none, or for a POST nothing is kept, and no Range sent."""
    for name, headers in (("weak", {"ETag": 'W/"a"'}), ("no", {"ETag": None}), ("none", {"Accept_Ranges": "none"})):
        url = server.on(f"/{name}", ranged(BODY, cut=3 * MIB, headers=headers), ranged(BODY))
        assert aiodownload.one(url, quick()).ok
        assert asked(server, f"/{name}") == [None, None]
    post = AioDownloadBundle(server.on("/post", ranged(BODY, cut=3 * MIB)), params={"a": 1})
    assert not aiodownload.one(post, quick()).ok
    assert sorted(below(home)) == ["no", "none", "weak"]


def test_small_bodies_pay_nothing(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """A body that fits into one trip to the disk has no record, and none is left of it when it breaks."""
    body = BODY[: MIB - 1]
    url = server.on("/f.bin", ranged(body, cut=MIB // 2), ranged(body))
    interrupted(url, quick)
    assert below(home) == {}


def test_a_full_disk_keeps_nothing(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is given back; another try would only meet the same."""

    def full(self: kept.KeptPart, chunks: object, **_: object) -> None:
        append(self, chunks)  # type: ignore[arg-type]
        if self.size >= 2 * MIB:
            raise kept.PartError("write", errno.ENOSPC)

    append = kept.KeptPart.append
    monkeypatch.setattr(kept.KeptPart, "append", full)
    bundle = aiodownload.one(server.on("/f.bin", ranged(BODY)), quick())
    assert isinstance(bundle.error, DiskError)
    assert bundle.attempts == 1
    assert below(home) == {}


def test_a_limit_counts_what_was_there(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """``max_bytes`` is a limit on the file, not on the part."""
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), ranged(BODY))
    interrupted(url, quick)
    bundle = aiodownload.one(url, quick(download=DownloadStrategy(home=home, max_bytes=2 * MIB)))
    assert not bundle.ok
    assert "f.bin" not in below(home)


def test_retry_from_the_original_url(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """R22: signed targets expire; the caller's URL is asked again, and Range and If-Range follow the redirect."""
    url = server.on("/f.bin", redirect("/one"), redirect("/two"))
    server.on("/one", ranged(BODY, cut=3 * MIB))
    server.on("/two", ranged(BODY))
    assert aiodownload.one(url, quick()).ok
    assert below(home) == {"f.bin": BODY}
    assert asked(server, "/two") == [f"bytes={3 * MIB}-"]
    assert server.asked("/two")[0].headers["if-range"] == '"a"'


class Strict(Quick):
    """Wants nothing but 200."""

    def assert_response(self, response: ClientResponse) -> None:
        if response.status != 200:
            raise AssertionError("not a 200")


def test_a_strategy_that_wants_a_200_gets_one(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """A check of the status that knows no 206 costs the bytes that were held, and not the file."""
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), ranged(BODY))
    bundle = aiodownload.one(url, quick(Strict(timeout=5)))
    assert bundle.ok
    assert below(home) == {"f.bin": BODY}
    assert asked(server) == [None, f"bytes={3 * MIB}-", None]
    assert bundle.attempts == 2


class Reads(DownloadStrategy):
    """Looks at the response by itself, then has it stored."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        bundle.info = (bundle.info or []) + [response.status]
        await super().on_success(response, bundle)


class ReadsParts(Reads):
    """Knows what a 206 is."""

    resumable = True


@pytest.mark.parametrize(("strategy", "statuses"), [(Reads, [200, 200]), (ReadsParts, [200, 206])])
def test_an_override_gets_parts_only_if_it_says_so(
    strategy: type[DownloadStrategy],
    statuses: list[int],
    server: FaultServer,
    home: Path,
    quick: Callable[..., AioDownload],
) -> None:
    """An ``on_success`` of one's own sees whole responses, unless its class says ``resumable``."""
    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB), ranged(BODY))
    bundle = aiodownload.one(url, quick(download=strategy(home=home)))
    assert bundle.info == statuses
    assert below(home) == {"f.bin": BODY}


def test_left_early_and_gone_on_with(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """A cancelled download keeps what it has, and its owner has let go of it."""

    async def main() -> None:
        async with quick() as download:
            task = asyncio.ensure_future(download.one(url))
            while not any(path.suffix == ".json" for path in home.rglob("*")):  # names only: others come and go
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert "f.bin" not in below(home)
            assert (await download.one(url)).ok

    url = server.on("/f.bin", ranged(BODY, cut=3 * MIB, hold=True), ranged(BODY))
    asyncio.run(main())
    assert below(home) == {"f.bin": BODY}
    assert asked(server)[1] is not None


def test_a_changing_file_ends_right(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """R23: replicas that disagree, each try cut: the bytes of one are never mixed with the other's."""
    one, two = ranged(BODY, cut=3 * MIB), ranged(OTHER, etag='"b"', cut=3 * MIB)
    url = server.on("/f.bin", one, two, one, two, ranged(OTHER, etag='"b"'))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=9, timeout=5)))
    assert bundle.ok
    assert below(home) == {"f.bin": OTHER}


async def test_many_kinds_at_once(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """A swarm in which every answer to a Range is of another kind: each file is whole and its own."""
    wanted = {}
    for number, (row, script) in enumerate(REFUSED.items()):
        server.on(f"/{number}", ranged(BODY, cut=3 * MIB), script, ranged(OTHER, etag='"b"'))
        wanted[str(number)] = (BODY, OTHER), row
    async with quick(Quick(concurrent=4, timeout=5)) as download:
        bundles = await download.swarm([server.url(f"/{name}") for name in wanted])
    assert all(bundle.ok for bundle in bundles)
    found = below(home)
    assert sorted(found) == sorted(wanted)
    assert all(found[name] in bodies for name, (bodies, _) in wanted.items())


def chunked_part(body: bytes, claim: int | None = None, total: int | None = None) -> Script:
    """A chunked 206 of ``body``; its Content-Range speaks of ``claim`` bytes."""

    async def script(request: Request, connection: Connection) -> bool:
        first = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        last = first + (len(body) if claim is None else claim) - 1
        head = f"Content-Range: bytes {first}-{last}/{len(BODY) if total is None else total}\r\n"
        await connection.send(
            f'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\n{head}Transfer-Encoding: chunked\r\n\r\n'.encode()
            + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        )
        return True

    return script


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("claim", [1, 1000, len(BODY) - 2 * MIB - 1])
def test_more_than_the_part_that_was_named(claim: int, strict: bool, server: FaultServer, home: Path) -> None:
    """R15: a part has the bytes that its Content-Range names, however its end is marked; what goes on after them is not
    the file's, and nothing of it is kept."""
    junk = bytes(len(BODY) - 2 * MIB)
    url = server.on("/f.bin", ranged(BODY, cut=2 * MIB), chunked_part(junk, claim), ranged(BODY))
    strategy = DownloadStrategy(home=home, strict=strict)
    bundle = aiodownload.one(url, AioDownload(None, strategy, Quick(4, timeout=5)))
    assert bundle.ok
    assert below(home) == {"f.bin": BODY}


def test_a_part_that_is_chunked(server: FaultServer, home: Path) -> None:
    """Its Content-Range tells the length, so it is proven as well as any other."""
    url = server.on("/f.bin", ranged(BODY, cut=2 * MIB), chunked_part(BODY[2 * MIB :]))
    bundle = aiodownload.one(url, AioDownload(None, DownloadStrategy(home=home, strict=True), Quick(4, timeout=5)))
    assert bundle.verified is Verified.LENGTH
    assert below(home) == {"f.bin": BODY}


def test_a_part_that_ends_with_its_connection(server: FaultServer, home: Path) -> None:
    """Likewise without any framing: strict=True takes it, for the length is known."""

    async def rest(request: Request, connection: Connection) -> bool:
        first = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        head = f'ETag: "a"\r\nContent-Range: bytes {first}-{len(BODY) - 1}/{len(BODY)}\r\nConnection: close\r\n\r\n'
        await connection.send(f"HTTP/1.1 206 Partial Content\r\n{head}".encode() + BODY[first:])
        return False

    url = server.on("/f.bin", ranged(BODY, cut=2 * MIB), rest)
    bundle = aiodownload.one(url, AioDownload(None, DownloadStrategy(home=home, strict=True), Quick(4, timeout=5)))
    assert (bundle.ok, bundle.attempts, bundle.verified) == (True, 2, Verified.LENGTH)
    assert below(home) == {"f.bin": BODY}
