"""Large bodies of a declared length, which come from the connection straight into buffers."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from hashlib import shake_128
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from conftest import Quick
from storage.test_partial import OsThat

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    BodyError,
    DigestError,
    DiskError,
    Received,
    StallError,
    Status,
    Verified,
    inlet,
)
from aiodownload import intake as intakes
from aiodownload.connector import own_connector
from aiodownload.intake import Intake, divert
from aiodownload.storage import delivery, part
from aiodownload.storage.buffers import KEPT, Buffers
from aiodownload.testing import Connection, FaultServer, Request, chunked, cut, ok, ranged, slow, stall, until_close

MIB = 1 << 20
BODY = shake_128(b"intake").digest(3 * MIB + 12_345)

Make = Callable[..., AioDownload]


class Noting(Quick):
    """Keeps the responses, to tell how their bodies came."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.responses: list[aiohttp.ClientResponse] = []

    def assert_response(self, response: aiohttp.ClientResponse) -> None:
        """Note it."""
        super().assert_response(response)
        self.responses.append(response)

    @property
    def by_aiohttp(self) -> list[int]:
        """The bytes of each body that aiohttp has had in hand."""
        return [response.content.total_bytes for response in self.responses]


@pytest.fixture
def strategy() -> Noting:
    """One for the test."""
    return Noting(max_attempts=1, timeout=5.0)


@pytest.fixture(params=["buffers", "bypass"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By buffers only; or so that what comes counts as fast, and a thread takes the rest out of the connection."""
    monkeypatch.setattr(intakes, "FAST", 1e9 if request.param == "bypass" else -1)
    if request.param == "bypass":
        monkeypatch.setattr(intakes, "LARGE", 60_000)
        monkeypatch.setattr(inlet, "SIZE", 50_000)
        monkeypatch.setattr(delivery, "TRIP", 220_000)
    return str(request.param)


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little buffers, so that a body fills many."""
    monkeypatch.setattr(intakes, "BUFFER", 64 << 10)
    monkeypatch.setattr(intakes, "LARGE_BUFFER", 128 << 10)
    monkeypatch.setattr(intakes, "LARGE", min(intakes.LARGE, 2 * MIB))
    monkeypatch.setattr(intakes, "WORTHWHILE", 1)


@pytest.mark.parametrize("length", [200_000, MIB - 1, MIB, MIB + 1, 3 * MIB, len(BODY)])
def test_every_length(length: int, server: FaultServer, quick: Make, strategy: Noting, files: Any) -> None:
    """Bodies that end with a buffer, and just before and after one."""
    bundle = aiodownload.one(server.on("/f", slow(BODY[:length], 7, 0.01)), quick(strategy))
    assert (bundle.status, bundle.size, bundle.verified) == (Status.DONE, length, Verified.LENGTH)
    assert files() == {"f": BODY[:length]}
    assert strategy.by_aiohttp[0] <= length - 100_000


def test_buffers_grow_with_the_body(server: FaultServer, quick: Make, strategy: Noting, files: Any) -> None:
    """From 16 MiB on."""
    body = BODY * 6
    assert len(body) > intakes.LARGE
    assert aiodownload.one(server.on("/f", ok(body)), quick(strategy)).ok
    assert files() == {"f": body}
    assert strategy.by_aiohttp[0] < 2 * MIB


@pytest.mark.parametrize("by_aiohttp", [False, True], ids=["ours", "the caller's"])
def test_over_tls(
    by_aiohttp: bool, tls_server: FaultServer, authority: trustme.CA, home: Path, strategy: Noting, files: Any
) -> None:
    """What is decrypted goes the same way; a connector of the caller's has aiohttp's own handlers."""

    def client() -> aiohttp.ClientSession:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        connector = (
            aiohttp.TCPConnector(ssl=context) if by_aiohttp else own_connector(5, public_only=False, ssl=context)
        )
        return aiohttp.ClientSession(connector=connector)

    body = BODY * 6
    url = tls_server.on("/f", ok(body))
    assert aiodownload.one(url, AioDownload(client, aiodownload.DownloadStrategy(home=home), strategy)).ok
    assert files() == {"f": body}
    assert (strategy.by_aiohttp == [len(body)]) is by_aiohttp


def test_the_connection_is_used_again(server: FaultServer, quick: Make, strategy: Noting, files: Any) -> None:
    """What comes next on it is the answer to the next request."""
    ports: set[object] = set()

    def noting(body: bytes) -> Callable[[Request, Connection], Any]:
        async def script(request: Request, connection: Connection) -> bool:
            ports.add(connection.writer.get_extra_info("peername"))
            return await ok(body)(request, connection)

        return script

    bodies = {f"f{number}": (BODY[number:] if number % 2 else b"small") for number in range(6)}
    urls = [server.on(f"/{name}", noting(body)) for name, body in bodies.items()]
    strategy.concurrent = 1
    bundles = aiodownload.swarm(urls, quick(strategy))
    assert all(bundle.ok for bundle in bundles)
    assert files() == bodies
    assert len(ports) == 1


def test_surplus_is_nobodys_answer(server: FaultServer, quick: Make, strategy: Noting, files: Any) -> None:
    """More than was declared follows: the body is what was declared, and the connection is not used again."""

    async def script(request: Request, connection: Connection) -> bool:
        await ok(BODY)(request, connection)
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        return True

    strategy.concurrent = 1
    urls = [server.on("/f", script), server.on("/g", ok(b"right"))]
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, quick(strategy)))
    assert files() == {"f": BODY, "g": b"right"}


@pytest.mark.parametrize("way", ["aiohttp", "intake"])
async def test_surplus_that_comes_with_the_end(way: str, server: FaultServer) -> None:
    """Who asks in the very moment in which the body ends does not get it for an answer."""
    body = BODY[:400_000]

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:200_000])
        await asyncio.sleep(0.1)
        await connection.send(body[200_000:] + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        return True

    answers = []

    async def ask() -> None:
        async with session.get(server.on("/g", ok(b"right"))) as answer:
            answers.append(await answer.read())

    asking: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(connector=own_connector(5, public_only=False)) as session:
        response = await session.get(server.on("/f", script))
        response.content.on_eof(lambda: asking.append(asyncio.ensure_future(ask())))
        received = b""
        if way == "aiohttp":
            received = await response.content.read()
        else:
            intake = divert(response, response.content, first := response.content.read_nowait(), len(body), Buffers())
            assert intake is not None
            while data := await intake.read():
                received += data
            assert len(first) < len(body)
        await asyncio.gather(*asking)
    assert received == body
    assert answers == [b"right"]
    assert server.connections == 2


def test_a_head_takes_little_memory(server: FaultServer, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """What is declared and not sent."""
    asked: list[int] = []
    take = Buffers.take

    def counted(self: Buffers, size: int) -> bytearray:
        asked.append(size)
        return take(self, size)

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 62) + bytes(1000))
        return False

    monkeypatch.setattr(Buffers, "take", counted)
    bundle = aiodownload.one(
        server.on("/f", script), AioDownload(None, aiodownload.DownloadStrategy(home=home), Noting(max_attempts=1))
    )
    assert isinstance(bundle.error, BodyError)
    assert sum(asked) <= MIB + 1


@pytest.mark.parametrize("at", [300_000, MIB, 2 * MIB + 7, len(BODY) - 1])
@pytest.mark.parametrize("rst", [False, True], ids=["closed", "reset"])
def test_a_body_that_is_cut(
    at: int, rst: bool, server: FaultServer, quick: Make, strategy: Noting, files: Any, home: Path
) -> None:
    """It fails, and nothing has its name; what can be gone on with is kept to the last byte that came."""
    bundle = aiodownload.one(server.on("/f", cut(BODY, at, rst=rst)), quick(strategy))
    assert isinstance(bundle.error, BodyError)
    assert rst or f"{at} of {len(BODY)} bytes" in str(bundle.error)
    assert bundle.error.transient
    assert files() == {}

    again = Noting(max_attempts=2, timeout=5.0)
    url = server.on("/g", ranged(BODY, cut=at), ranged(BODY))
    bundle = aiodownload.one(url, quick(again))
    assert (bundle.status, bundle.attempts) == (Status.DONE, 2)
    assert files() == {"g": BODY}
    kept = f"bytes={at}-" if at >= MIB else None  # less is not worth it
    assert [one.headers.get("range") for one in server.asked("/g")] == [None, kept]


def test_a_server_that_falls_silent(server: FaultServer, quick: Make, files: Any) -> None:
    """A stall, by the timeout of the strategy."""
    strategy = Noting(max_attempts=1, timeout=0.3)
    bundle = aiodownload.one(server.on("/f", stall(BODY, 2 * MIB)), quick(strategy))
    assert isinstance(bundle.error, StallError)
    assert files() == {}
    assert strategy.by_aiohttp[0] < 2 * MIB


def test_a_server_that_drips(server: FaultServer, quick: Make, files: Any) -> None:
    """Each byte is progress: longer than the timeout in all is not too long."""
    strategy = Noting(max_attempts=1, timeout=0.5)
    bundle = aiodownload.one(server.on("/f", slow(BODY, 12, 0.1)), quick(strategy))
    assert bundle.ok
    assert files() == {"f": BODY}


def test_a_disk_that_is_slower_than_the_line(
    way: str, server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, little: None, files: Any
) -> None:
    """The server waits, which is not held against it, and no more than three buffers are filled."""
    asked: list[int] = []
    take = Buffers.take

    def counted(self: Buffers, size: int) -> bytearray:
        asked.append(size)
        return take(self, size)

    def write(*args: Any) -> int:
        time.sleep(0.03)
        return os.write(*args)

    monkeypatch.setattr(Buffers, "take", counted)
    monkeypatch.setattr(part, "os", OsThat(write=write))
    strategy = Noting(max_attempts=1, timeout=0.2)  # the whole takes longer
    assert aiodownload.one(server.on("/f", ok(BODY[: 2 * MIB - 1])), quick(strategy)).ok
    assert files() == {"f": BODY[: 2 * MIB - 1]}
    if way == "buffers":
        assert asked == [(64 << 10) + 1] * 3
    else:
        assert len(asked) <= 4


def test_a_disk_that_refuses(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, files: Any) -> None:
    """The download ends with that, and leaves nothing."""
    written = []

    def write(handle: int, data: bytes) -> int:
        written.append(len(data))
        if len(written) > 1:
            raise OSError(28, os.strerror(28))
        return os.write(handle, data)

    monkeypatch.setattr(part, "os", OsThat(write=write))
    bundle = aiodownload.one(server.on("/f", ok(BODY)), quick())
    assert isinstance(bundle.error, DiskError)
    assert (bundle.error.errno, bundle.attempts) == (28, 1)
    assert files() == {}


@pytest.mark.parametrize("right", [True, False])
def test_a_digest_is_of_all_buffers(right: bool, server: FaultServer, quick: Make, files: Any) -> None:
    """Computed in the thread that writes them."""
    import hashlib

    wanted = hashlib.sha256(BODY if right else BODY[:-1] + b"?").hexdigest()
    bundle = AioDownloadBundle(server.on("/f", ok(BODY)), digest=f"sha256:{wanted}")
    aiodownload.one(bundle, quick(Noting(max_attempts=1)))
    assert files() == ({"f": BODY} if right else {})
    assert (bundle.verified is Verified.DIGEST) if right else isinstance(bundle.error, DigestError)


@pytest.mark.parametrize("seed", range(12))
def test_pieces_of_any_size(
    seed: int, server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, little: None, files: Any
) -> None:
    """Whatever the pieces are that arrive, and however long each write takes, the file is the body."""
    rng = random.Random(seed)
    body = rng.randbytes(rng.choice([70_000, 1 << 18, 700_001, 3 * MIB]))
    pieces = []
    while sum(pieces) < len(body):
        pieces.append(rng.choice([1, 100, 5_000, 65_536, 131_072, 300_000]))
    fails = rng.random() < 0.3
    at = rng.randrange(len(body))

    def sent(whole: bool) -> Callable[[Request, Connection], Any]:
        async def script(request: Request, connection: Connection) -> bool:
            first = int(request.headers.get("range", "bytes=0-")[6:-1])
            status = b"206 Partial" if first else b"200 OK"
            span = b"Content-Range: bytes %d-%d/%d\r\n" % (first, len(body) - 1, len(body)) if first else b""
            head = b'HTTP/1.1 %b\r\nETag: "a"\r\n%bContent-Length: %d\r\n\r\n' % (status, span, len(body) - first)
            data, place = head + body[first : None if whole else max(at, first)], 0
            for size in pieces:
                await connection.send(data[place : place + size])
                place += size
                if rng.random() < 0.2:
                    await asyncio.sleep(0.002)
            await connection.send(data[place:])
            return whole

        return script

    def write(*args: Any) -> int:
        time.sleep(rng.choice([0, 0, 0.001, 0.004]))
        return os.write(*args)

    monkeypatch.setattr(part, "os", OsThat(write=write))
    url = server.on("/f", *([sent(False)] if fails else []), sent(True))
    bundle = aiodownload.one(url, quick(Noting(max_attempts=3, timeout=5.0)))
    assert (bundle.ok, bundle.attempts) == (True, 1 + fails), bundle.error
    assert files() == {"f": body}


async def test_cancelled_in_the_middle(server: FaultServer, home: Path, files: Any) -> None:
    """What had come in is gone on with by the next run."""
    go_on = threading.Event()
    url = server.on("/f", ranged(BODY, cut=2 * MIB + 5, until=go_on), ranged(BODY))
    strategy = Noting(max_attempts=1, timeout=5.0)
    try:
        async with AioDownload(None, aiodownload.DownloadStrategy(home=home), strategy) as download:
            task = asyncio.ensure_future(download.one(url))
            while not (home.exists() and any(path.stat().st_size >= MIB for path in home.rglob("*.part"))):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    finally:
        go_on.set()
    async with AioDownload(None, aiodownload.DownloadStrategy(home=home), strategy) as download:
        bundle = await download.one(url)
    assert bundle.ok
    assert server.asked("/f")[1].headers["range"] == f"bytes={2 * MIB + 5}-"
    assert files() == {"f": BODY}


@pytest.mark.parametrize("script", [chunked(BODY), until_close(BODY)], ids=["chunked", "until close"])
def test_other_framings_go_by_aiohttp(
    script: Any, server: FaultServer, quick: Make, strategy: Noting, files: Any
) -> None:
    """Their end has to be looked for."""
    assert aiodownload.one(server.on("/f", script), quick(strategy)).ok
    assert files() == {"f": BODY}
    assert strategy.by_aiohttp == [len(BODY)]


def test_limits_go_by_aiohttp(server: FaultServer, quick: Make, files: Any) -> None:
    """Somebody counts each piece."""
    strategy = Noting(max_attempts=1, low_speed=(1000, 10))
    assert aiodownload.one(server.on("/f", ok(BODY)), quick(strategy)).ok
    assert files() == {"f": BODY}
    assert strategy.by_aiohttp == [len(BODY)]


def test_every_byte_is_heard_of(server: FaultServer, quick: Make, strategy: Noting, files: Any) -> None:
    """An observer is told of all that comes, as it comes."""
    heard: list[int] = []

    class Listens:
        """For bytes."""

        def on_event(self, event: object) -> None:
            """Note how many."""
            if isinstance(event, Received):
                heard.append(event.count)

    url = server.on("/f", slow(BODY, 7, 0.02))
    assert aiodownload.one(url, quick(strategy, observers=[Listens()])).ok
    assert sum(heard) == len(BODY)
    assert len(heard) >= 7
    assert strategy.by_aiohttp[0] < MIB


class ReadsByItself(aiodownload.DownloadStrategy):
    """As users write it."""

    async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
        """Keep nothing."""
        bundle.info = len(await response.read())


def test_hooks_read_the_response(server: FaultServer, home: Path) -> None:
    """To whoever reads it by himself, it is as aiohttp gives it."""
    bundle = aiodownload.one(
        server.on("/f", ok(BODY)), AioDownload(None, ReadsByItself(home=home), Noting(max_attempts=1))
    )
    assert bundle.info == len(BODY)


async def test_a_loop_of_another_kind(server: FaultServer, home: Path, files: Any) -> None:
    """uvloop's connections do the same."""
    uvloop = pytest.importorskip("uvloop")

    def work() -> tuple[bool, list[int]]:
        strategy = Noting(max_attempts=1)

        async def main() -> bool:
            async with AioDownload(None, aiodownload.DownloadStrategy(home=home), strategy) as download:
                return (await download.one(url)).ok

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main()), strategy.by_aiohttp

    url = server.on("/f", slow(BODY, 7, 0.01))
    done, by_aiohttp = await asyncio.to_thread(work)
    assert done
    assert by_aiohttp[0] < MIB
    assert files() == {"f": BODY}


@pytest.fixture
async def taken(server: FaultServer, little: None) -> AsyncIterator[tuple[Intake, bytes]]:
    """An intake of a body whose server has sent but its beginning, and that beginning."""
    download = AioDownload()
    async with download:
        session = download._live._transport._session  # type: ignore[union-attr]
        async with session.get(server.on("/f", stall(BODY[: 1 << 20], 1000))) as response:
            first = await response.content.readexactly(1000)
            intake = divert(response, response.content, first, 1 << 20, Buffers())
            assert intake is not None
            transport = intake._handler.transport
            assert transport is not None
            yield intake, first
            transport.close()


async def test_a_transport_that_goes_on_when_it_is_told_to_pause(taken: tuple[Intake, bytes]) -> None:
    """As that of Windows' event loop does with what it has in hand, also beyond the end of the body."""
    intake, first = taken
    rest = BODY[1000 : 1 << 20]
    asyncio.protocols._feed_data_to_buffered_proto(intake, rest[:600_000])  # type: ignore[attr-defined]
    assert intake.left == 1 << 20
    read = bytes(await intake.read())
    asyncio.protocols._feed_data_to_buffered_proto(intake, rest[600_000:] + b"surplus")  # type: ignore[attr-defined]
    while data := await intake.read():
        read += data
    assert read == BODY[: 1 << 20]
    assert first + rest == read
    assert intake._handler.should_close


async def test_a_loss_is_told_after_what_had_come(taken: tuple[Intake, bytes]) -> None:
    """In that order; then it stays."""
    intake, _ = taken
    asyncio.protocols._feed_data_to_buffered_proto(intake, BODY[1000:100_000])  # type: ignore[attr-defined]
    waiting = asyncio.ensure_future(intake.read())
    assert bytes(await waiting) == BODY[: 64 << 10]
    waiting = asyncio.ensure_future(intake.read())
    await asyncio.sleep(0)
    intake.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
    for _ in range(2):
        with pytest.raises(aiohttp.ClientPayloadError):
            await (waiting if not waiting.done() else intake.read())
    assert b"".join(intake.rest()) == BODY[64 << 10 : 100_000]


def test_buffers_are_kept_within_bounds() -> None:
    """What is given back is used again, up to a limit."""
    buffers = Buffers()
    one = buffers.take(MIB)
    buffers.give_back(one)
    assert buffers.take(MIB) is one
    for _ in range(KEPT // MIB + 10):
        buffers.give_back(bytearray(MIB))
    assert sum(len(free) for free in buffers._free.values()) * MIB == KEPT
