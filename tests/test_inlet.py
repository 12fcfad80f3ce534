"""Bodies that come so fast that a disk thread takes them out of the connection by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from asyncio.selector_events import _SelectorTransport
from collections.abc import Callable, Iterator
from functools import partial as partial_of
from hashlib import shake_128
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import trustme
from conftest import Quick
from storage.test_partial import OsThat

import aiodownload
from aiodownload import AioDownload, BodyError, DiskError, DownloadStrategy, Received, StallError
from aiodownload import inlet as inlets
from aiodownload import intake as intakes
from aiodownload.connector import own_connector
from aiodownload.inlet import Inlet
from aiodownload.storage import delivery, part, partial
from aiodownload.storage.disk import Disk
from aiodownload.storage.partial import PartialFile
from aiodownload.testing import Connection, FaultServer, Request, cut, ok, ranged, stall

MIB = 1 << 20
BODY = shake_128(b"inlet").digest(6 * MIB + 54_321)

Make = Callable[..., AioDownload]
Client = Callable[[], aiohttp.ClientSession]


class Listens:
    """For bytes that come."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def on_event(self, event: object) -> None:
        """Note how many."""
        if isinstance(event, Received):
            self.heard.append(event.count)


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that comes counts as fast, after its first MiB, also on a busy machine."""
    monkeypatch.setattr(inlets, "PATIENCE", 200)
    monkeypatch.setattr(intakes, "LARGE", MIB)
    monkeypatch.setattr(intakes, "FAST", 1e9)
    monkeypatch.setattr(delivery, "TRIP", MIB)


@pytest.fixture(params=["plain", "TLS 1.2", "TLS 1.3"])
def server(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[FaultServer]:
    """A server that answers as it is told."""
    context = None
    if request.param != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2 if request.param == "TLS 1.2" else ssl.TLSVersion.TLSv1_3
        authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(context) as running:
        yield running


@pytest.fixture
def client(authority: trustme.CA) -> Client:
    """Makes sessions that trust the server."""

    def make() -> aiohttp.ClientSession:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return aiohttp.ClientSession(connector=own_connector(5, public_only=False, ssl=context))

    return make


@pytest.fixture
def quick(home: Path, client: Client) -> Make:
    """Makes an AioDownload that keeps below ``home``."""

    def make(request: Quick | None = None, **more: Any) -> AioDownload:
        return AioDownload(client, DownloadStrategy(home=home), request or Quick(timeout=5), **more)

    return make


def after_each_read(monkeypatch: pytest.MonkeyPatch, then: Callable[[int], object]) -> None:
    """Call ``then``, in the thread, with the number of bytes that each read has taken out of a connection."""
    read = Inlet.read

    def reading(self: Inlet, most: int) -> memoryview:
        data = read(self, most)
        then(len(data))
        return data

    monkeypatch.setattr(Inlet, "read", reading)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that each read has taken out of a connection, on threads that are not the event loop's."""
    counts: list[int] = []

    def note(count: int) -> None:
        assert threading.current_thread().name.startswith("aiodownload-disk")
        counts.append(count)

    after_each_read(monkeypatch, note)
    return counts


def paused(body: bytes, at: int, go_on: threading.Event) -> Callable[[Request, Connection], Any]:
    """Send the rest when ``go_on`` is set."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:at])
        await asyncio.to_thread(go_on.wait, 30)
        await connection.send(body[at:])
        return True

    return script


def test_most_of_it_is_taken_by_the_thread(server: FaultServer, quick: Make, taken: list[int], files: Any) -> None:
    """And an observer is told of every byte."""
    listens = Listens()
    bundle = aiodownload.one(server.on("/f", ok(BODY)), quick(Quick(max_attempts=1), observers=[listens]))
    assert bundle.ok, bundle.error
    assert files() == {"f": BODY}
    assert sum(taken) > len(BODY) / 3
    assert sum(listens.heard) == len(BODY)


def test_the_defaults_never_wait_for_a_slow_line(
    server: FaultServer, quick: Make, taken: list[int], files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes at the pace of a network stays with the event loop."""
    monkeypatch.setattr(intakes, "FAST", 0.1)
    monkeypatch.setattr(intakes, "LARGE", 4 * MIB)

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        for at in range(0, len(BODY), MIB):
            await connection.send(BODY[at : at + MIB])
            await asyncio.sleep(0.05)
        return True

    assert aiodownload.one(server.on("/f", script), quick(Quick(max_attempts=1))).ok
    assert files() == {"f": BODY}
    assert taken == []


def test_a_line_that_becomes_slow(
    server: FaultServer, quick: Make, taken: list[int], files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goes back to the event loop: the thread waits for some ms only."""
    monkeypatch.setattr(inlets, "PATIENCE", 5)
    go_on = threading.Event()
    timer = threading.Timer(0.5, go_on.set)
    timer.start()
    start = time.thread_time()
    bundle = aiodownload.one(server.on("/f", paused(BODY, 3 * MIB, go_on)), quick(Quick(max_attempts=1)))
    timer.join()
    assert bundle.ok, bundle.error
    assert files() == {"f": BODY}
    assert 0 in taken
    assert taken.count(0) <= 10  # nobody looks again and again
    assert time.thread_time() - start < 0.4


def test_a_server_that_falls_silent(server: FaultServer, quick: Make, taken: list[int], files: Any) -> None:
    """A stall, by the timeout of the strategy."""
    go_on = threading.Event()
    strategy = Quick(max_attempts=1, timeout=0.3)
    try:
        bundle = aiodownload.one(server.on("/f", paused(BODY, 4 * MIB, go_on)), quick(strategy))
    finally:
        go_on.set()
    assert isinstance(bundle.error, StallError)
    assert sum(taken) > 0
    assert files() == {}


def torn(body: bytes, at: int) -> Callable[[Request, Connection], Any]:
    """Close after ``at`` bytes without the words that TLS has for that."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:at])
        while connection.writer.transport.get_write_buffer_size():
            await asyncio.sleep(0.01)
        connection.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await connection.reader.read()
        return False

    return script


CUTS = {"closed": cut, "reset": partial_of(cut, rst=True), "torn": torn}


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("at", [2 * MIB + 1, 4 * MIB, len(BODY) - 1])
def test_a_body_that_is_cut(at: int, how: str, server: FaultServer, quick: Make, taken: list[int], files: Any) -> None:
    """Nothing has its name, and the next try goes on with what came."""
    bundle = aiodownload.one(server.on("/f", CUTS[how](BODY, at)), quick(Quick(max_attempts=1, timeout=5.0)))
    assert isinstance(bundle.error, BodyError)
    assert bundle.error.transient
    assert files() == {}

    url = server.on("/g", ranged(BODY, cut=at), ranged(BODY))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=2, timeout=5.0)))
    assert (bundle.ok, bundle.attempts) == (True, 2), bundle.error
    assert files() == {"g": BODY}
    assert server.asked("/g")[1].headers["range"] == f"bytes={at}-"


def test_surplus_is_nobodys_answer(server: FaultServer, quick: Make, taken: list[int], files: Any) -> None:
    """The connection is not used again."""

    async def script(request: Request, connection: Connection) -> bool:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        await connection.send(head + BODY + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        return True

    strategy = Quick(max_attempts=1, concurrent=1)
    urls = [server.on("/f", script), server.on("/g", ok(b"right"))]
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, quick(strategy)))
    assert files() == {"f": BODY, "g": b"right"}
    assert sum(taken) > 0
    assert server.connections == 2


def test_the_connection_is_used_again(server: FaultServer, quick: Make, taken: list[int], files: Any) -> None:
    """When just the body came."""
    strategy = Quick(max_attempts=1, concurrent=1)
    urls = [server.on("/f", ok(BODY)), server.on("/g", ok(b"right")), server.on("/h", ok(BODY))]
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, quick(strategy)))
    assert files() == {"f": BODY, "g": b"right", "h": BODY}
    assert sum(taken) > 0
    assert server.connections == 1


def test_many_at_once(server: FaultServer, quick: Make, taken: list[int], files: Any) -> None:
    """Their threads take turns."""
    bodies = {f"f{number}": BODY[number * 1000 :] for number in range(8)}
    urls = [server.on(f"/{name}", ok(body)) for name, body in bodies.items()]
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, quick(Quick(max_attempts=1))))
    assert files() == bodies
    assert sum(taken) > len(BODY)


def test_a_disk_that_refuses(
    server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, taken: list[int], files: Any
) -> None:
    """The download ends with that, and leaves nothing."""

    def write(handle: int, data: bytes) -> int:
        if taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(handle, data)

    monkeypatch.setattr(part, "os", OsThat(write=write))
    bundle = aiodownload.one(server.on("/f", ok(BODY)), quick())
    assert isinstance(bundle.error, DiskError)
    assert (bundle.error.errno, bundle.attempts) == (errno.ENOSPC, 1)
    assert files() == {}


def test_a_disk_that_is_slow(
    server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, taken: list[int], files: Any
) -> None:
    """The server waits, which is not held against it; and the event loop receives while the disk writes, from then."""
    monkeypatch.setattr(partial, "PATIENCE", 0.1)

    def write(*args: Any) -> int:
        time.sleep(0.15)
        return os.write(*args)

    monkeypatch.setattr(part, "os", OsThat(write=write))
    assert aiodownload.one(server.on("/f", ok(BODY)), quick(Quick(max_attempts=1, timeout=0.2))).ok
    assert files() == {"f": BODY}
    assert max(taken) <= MIB


def test_no_descriptor_is_left(
    server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, taken: list[int], files: Any
) -> None:
    """Then the event loop goes on."""

    def dup(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(inlets, "os", OsThat(dup=dup))
    assert aiodownload.one(server.on("/f", ok(BODY)), quick(Quick(max_attempts=1))).ok
    assert files() == {"f": BODY}
    assert taken == []


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_connection_is_closed_meanwhile(
    how: str, server: FaultServer, home: Path, client: Client, monkeypatch: pytest.MonkeyPatch, files: Any
) -> None:
    """By the event loop, while a thread reads: that is its end, and the next try goes on with what came."""
    closed, transports = threading.Event(), []
    loop, of = asyncio.get_running_loop(), Inlet.of

    def note(transport: asyncio.BaseTransport) -> Inlet | None:
        transports.append(transport)
        return of(transport)

    def close(count: int) -> None:
        if count and not closed.is_set():
            loop.call_soon_threadsafe(getattr(transports[0], how))
            loop.call_soon_threadsafe(loop.call_later, 0.05, closed.set)
            closed.wait(5)

    monkeypatch.setattr(inlets.Inlet, "of", note)
    after_each_read(monkeypatch, close)
    url = server.on("/f", ranged(BODY))
    async with AioDownload(client, DownloadStrategy(home=home), Quick(max_attempts=2, timeout=5.0)) as download:
        bundle = await asyncio.wait_for(download.one(url), 10)
    assert (bundle.ok, bundle.attempts) == (True, 2), bundle.error
    assert files() == {"f": BODY}
    assert server.asked("/f")[1].headers["range"].startswith("bytes=")


@pytest.mark.parametrize("after", [1, 2 * MIB])
async def test_cancelled_in_the_middle(
    after: int, server: FaultServer, home: Path, client: Client, monkeypatch: pytest.MonkeyPatch, files: Any
) -> None:
    """What had come in is heard of, and gone on with by the next run, to the byte; no descriptor is left open."""
    before, reading, go_on = set(os.listdir("/proc/self/fd")), threading.Event(), threading.Event()
    listens, counts = Listens(), [0]

    def wait(count: int) -> None:
        counts.append(count)
        if sum(counts) >= after and not reading.is_set():
            reading.set()
            go_on.wait(5)

    monkeypatch.setattr(delivery, "TRIP", 4 * MIB)
    after_each_read(monkeypatch, wait)
    url = server.on("/f", ranged(BODY))
    strategy = Quick(max_attempts=1, timeout=5.0)
    async with AioDownload(client, DownloadStrategy(home=home), strategy, observers=[listens]) as download:
        task = asyncio.ensure_future(download.one(url))
        await asyncio.to_thread(reading.wait, 5)
        task.cancel()
        await asyncio.sleep(0.05)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "f" not in files()
    async with AioDownload(client, DownloadStrategy(home=home), strategy, observers=[listens]) as download:
        bundle = await download.one(url)
    assert bundle.ok, bundle.error
    assert files() == {"f": BODY}
    assert server.asked("/f")[1].headers["range"].startswith("bytes=")
    assert sum(listens.heard) >= len(BODY)
    await asyncio.sleep(0.05)
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1


async def test_its_memory_is_nobody_elses(
    server: FaultServer, home: Path, client: Client, monkeypatch: pytest.MonkeyPatch, files: Any
) -> None:
    """While a thread writes from it whose download was cancelled, the next body comes to another place."""
    taking, writing, go_on = threading.Event(), threading.Event(), threading.Event()

    def write(handle: int, data: bytes) -> int:
        if taking.is_set() and not writing.is_set():
            writing.set()
            go_on.wait(10)  # a disk that is slow just now
        return os.write(handle, data)

    after_each_read(monkeypatch, lambda count: count and taking.set())
    monkeypatch.setattr(part, "os", OsThat(write=write))
    url, other = server.on("/f", ranged(BODY)), server.on("/g", stall(b"\xee" * len(BODY), 3 * MIB))
    strategy = Quick(max_attempts=1, timeout=30.0)
    async with AioDownload(client, DownloadStrategy(home=home), strategy) as download:
        first = asyncio.ensure_future(download.one(url))
        await asyncio.to_thread(writing.wait, 5)
        first.cancel()
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(download.one(other))
        await asyncio.sleep(0.3)
        go_on.set()
        for task in (first, second):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    monkeypatch.setattr(part, "os", os)
    async with AioDownload(client, DownloadStrategy(home=home), strategy) as download:
        bundle = await download.one(url)
    assert bundle.ok, bundle.error
    assert server.asked("/f")[1].headers["range"].startswith("bytes=")
    assert files()["f"] == BODY


async def test_a_trip_ends_in_time(tmp_path: Path) -> None:
    """Though something comes all the time: others of that trip wait for it."""
    disk = Disk()
    sink = PartialFile(disk, str(tmp_path / "f"), 0o644)

    class Dripping:
        """A byte each ms, for some seconds."""

        def __init__(self) -> None:
            self.end = time.monotonic() + 5

        def read(self, most: int) -> memoryview:
            """The next one."""
            time.sleep(0.001)
            return memoryview(b"x"[: time.monotonic() < self.end])

    start = time.monotonic()
    draining = asyncio.ensure_future(sink.drain(Dripping(), 1 << 25))
    await asyncio.ensure_future(disk.run(int))
    took = time.monotonic() - start
    assert 0 < await draining < 1000
    await sink.abandon()
    await disk.close()
    assert took < 2


@pytest.mark.parametrize("transport", ["cannot pause", "goes on"])
def test_a_transport_that_does_not_wait(
    transport: str, server: FaultServer, quick: Make, taken: list[int], files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken out of its connection; if it lies about that, what was taken is good for nothing."""
    lies, pause = [0], _SelectorTransport.pause_reading
    url = server.on("/f", ranged(BODY))
    if transport == "cannot pause" and url.startswith("https"):
        pytest.skip("asyncio's TLS does not work over such a one")

    def pause_reading(self: Any) -> None:
        if transport == "cannot pause":
            raise NotImplementedError
        if self.get_extra_info("peername")[1] != server.port or lies[0]:
            pause(self)
            return
        lies[0] += 1
        self._paused = True

    monkeypatch.setattr(_SelectorTransport, "pause_reading", pause_reading)
    bundle = aiodownload.one(url, quick(Quick(max_attempts=3, timeout=5.0)))
    assert bundle.ok, bundle.error
    assert files() == {"f": BODY}
    if transport == "cannot pause":
        assert taken == []
    else:
        assert lies == [1]


@pytest.fixture
def sealed() -> Iterator[tuple[socket.socket, ssl.SSLObject, ssl.MemoryBIO, Inlet]]:
    """A socket, what encrypts for it and where that comes out, and an inlet of what is sent there."""
    authority = trustme.CA()
    contexts = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(contexts[0])
    authority.issue_cert("a.test").configure_cert(contexts[1])
    bios = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = contexts[0].wrap_bio(*bios, server_hostname="a.test")
    peer = contexts[1].wrap_bio(*reversed(bios), server_side=True)
    for side in (tls, peer, tls, peer):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    carrier = SimpleNamespace(pause_reading=int, resume_reading=int, abort=int)
    protocol = SimpleNamespace(_transport=carrier, _sslobj=tls, _incoming=bios[0], _outgoing=bios[1])
    with ours:
        inlet = inlets._SealedInlet(theirs, protocol)
        yield ours, peer, bios[0], inlet
        inlet.close()
        assert protocol._sslobj is tls


def drip(data: bytes, sock: socket.socket) -> threading.Thread:
    """Send a byte each millisecond."""

    def send() -> None:
        with contextlib.suppress(OSError):
            for at in range(len(data)):
                sock.sendall(data[at : at + 1])
                time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_a_server_that_drips_holds_nobody_up(
    sealed: tuple[socket.socket, ssl.SSLObject, ssl.MemoryBIO, Inlet],
) -> None:
    """A record that comes byte by byte is taken in several reads, and none of them takes long."""
    ours, peer, out, inlet = sealed
    assert bytes(inlet.read(1)) == b""  # what is left of the handshake
    peer.write(b"x" * 2000)
    dripping = drip(out.read(), ours)
    got, longest, count = b"", 0.0, 0
    while len(got) < 2000:
        start = time.monotonic()
        got += inlet.read(MIB)
        longest, count = max(longest, time.monotonic() - start), count + 1
    dripping.join()
    assert got == b"x" * 2000
    assert count > 5
    assert longest < 1


def test_tls_to_its_end(sealed: tuple[socket.socket, ssl.SSLObject, ssl.MemoryBIO, Inlet]) -> None:
    """No more than may be is decrypted, and what is beyond is seen."""
    ours, peer, out, inlet = sealed
    peer.write(b"abcdef")
    ours.sendall(out.read())
    assert bytes(inlet.read(4)) == b"abcd"
    assert inlet.surplus
    assert bytes(inlet.read(4)) == b"ef"
    assert not inlet.surplus
    peer.write(b"gh")
    ours.sendall(out.read()[:-1] + b"?")
    assert bytes(inlet.read(4)) == b""
    assert inlet.ended
    assert isinstance(inlet.error, ssl.SSLError)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Inlet]]:
    """A socket, and an inlet of what is sent there."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours:
        inlet = Inlet(theirs)
        yield ours, inlet
        inlet.close()


def test_it_takes_no_more_than_it_may(pair: tuple[socket.socket, Inlet]) -> None:
    """What is beyond stays, and is seen."""
    ours, inlet = pair
    ours.sendall(b"abcdef")
    assert bytes(inlet.read(4)) == b"abcd"
    assert inlet.surplus
    assert bytes(inlet.read(4)) == b"ef"
    assert not inlet.surplus
    assert bytes(inlet.read(4)) == b""
    assert not inlet.ended
    ours.close()
    assert bytes(inlet.read(4)) == b""
    assert inlet.ended
    assert inlet.error is None


def test_after_its_end_nothing_is_taken(pair: tuple[socket.socket, Inlet]) -> None:
    """By a thread that comes late."""
    ours, inlet = pair
    ours.sendall(b"abcdef")
    inlet.close()
    assert bytes(inlet.read(4)) == b""
    assert not inlet.surplus
