"""What can go wrong on the wire: each fault is a retry or a failed bundle with a readable error, and hurts no other."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from hashlib import shake_128
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    BodyError,
    ConnectError,
    DisconnectError,
    ProtocolError,
    RequestStrategy,
    ResolveError,
    RetryScheduled,
    StallError,
    Status,
    TLSError,
    TransportError,
)
from aiodownload.connector import own_connector
from aiodownload.testing import (
    Connection,
    FaultServer,
    Request,
    Script,
    chunked,
    cut,
    drop,
    ok,
    raw,
    reset,
    slow,
    stall,
)

Make = Callable[..., AioDownload]
BODY = shake_128(b"body").digest(200_000)
GOOD = b"the other URL's file"

HEAD = b"HTTP/1.1 200 OK\r\n"


def header_flood() -> Script:
    """Header lines without end, one write after the other."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(HEAD)
        for number in range(1_000_000):
            await connection.send(b"X-%d: and one more\r\n" % number * 100)
        return False

    return script


def interim_flood() -> Script:
    """Interim answers (102) without end."""

    async def script(request: Request, connection: Connection) -> bool:
        for _ in range(1_000_000):
            await connection.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        return False

    return script


FAULTS: dict[str, tuple[Script, type[TransportError]]] = {
    "reset before an answer": (reset(), DisconnectError),
    "empty reply": (drop(), DisconnectError),
    "closed within the head": (raw(HEAD + b"Content-Le"), DisconnectError),
    "reset within the body": (cut(BODY, 70_000, rst=True), BodyError),
    "cut body with a length": (cut(BODY, 70_000), BodyError),
    "cut just before the last byte": (cut(BODY, len(BODY) - 1), BodyError),
    "no byte of the body": (cut(BODY, 0), BodyError),
    "cut chunked body": (chunked(BODY, end=False), BodyError),
    "cut within a chunk": (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\nabc"), BodyError),
    "broken chunk size": (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n"), TransportError),
    "silence before the head": (stall(), StallError),
    "silence within the body": (stall(BODY, 70_000), StallError),
    "silence after the head": (stall(BODY, 0), StallError),
    "garbage": (raw(b"\x00\x01\x02 what is this\r\n\r\n"), ProtocolError),
    "another protocol": (raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ProtocolError),
    "NUL in a header": (raw(HEAD + b"X: a\x00b\r\nContent-Length: 1\r\n\r\nx"), ProtocolError),
    "two lengths": (raw(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy"), ProtocolError),
    "negative length": (raw(HEAD + b"Content-Length: -1\r\n\r\n"), ProtocolError),
    "length with a plus": (raw(HEAD + b"Content-Length: +5\r\n\r\nabcde"), ProtocolError),
    "length that is no number": (raw(HEAD + b"Content-Length: 0x5\r\n\r\nabcde"), ProtocolError),
    "large head": (raw(HEAD + b"X-Large: " + b"x" * 100_000 + b"\r\nContent-Length: 1\r\n\r\nx"), ProtocolError),
    "header flood": (header_flood(), ProtocolError),
}


def readable(error: object) -> bool:
    """Whether the error's text is one line that a person may read on a terminal."""
    text = str(error)
    return 8 < len(text) < 400 and text.isprintable() and "Traceback" not in text and "object at 0x" not in text


def assert_failed(bundle: AioDownloadBundle, error: type[TransportError], attempts: int) -> None:
    assert bundle.status is Status.FAILED
    assert isinstance(bundle.error, error)
    assert readable(bundle.error)
    assert bundle.attempts == attempts


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_fails_its_bundle_only(
    fault: str, server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """A fault that stays ends in a failed bundle with an error of its class after all tries; other URLs are fetched."""
    script, error = FAULTS[fault]
    bad = server.on("/bad", script)
    good = [server.on(f"/good{number}", ok(GOOD)) for number in range(4)]
    first, *others = aiodownload.swarm([bad, *good], quick(Quick(max_attempts=2, timeout=0.3)))
    assert_failed(first, error, 2)
    assert all(bundle.ok for bundle in others)
    assert files() == {f"good{number}": GOOD for number in range(4)}


@pytest.mark.parametrize("fault", FAULTS)
def test_transient_fault_ends_with_the_right_file(
    fault: str, server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """Fewer faults than tries: the file is right, and the error of the earlier try is gone."""
    script, error = FAULTS[fault]
    told: list[BaseException] = []

    class Noting:
        def on_event(self, event: object) -> None:
            if isinstance(event, RetryScheduled):
                told.append(event.error)

    # Within one try, aiohttp itself asks once more after a connection that closed without an answer.
    scripts = [script] * (2 if error is DisconnectError else 1)
    url = server.on("/f", *scripts, ok(BODY))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=2, timeout=0.3), observers=[Noting()]))
    assert bundle.ok
    assert (bundle.error, bundle.attempts, bundle.size) == (None, 2, len(BODY))
    assert len(told) == 1
    assert isinstance(told[0], error)
    assert files() == {"f": BODY}


def test_many_faults_in_turn(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """One fault after the other on the same URL, one fewer than tries: the file is right."""
    scripts = [script for script, _ in FAULTS.values()]
    urls = [server.on(f"/{turn}", *scripts[turn::4], ok(BODY)) for turn in range(4)]
    bundles = aiodownload.swarm(urls, quick(Quick(concurrent=4, max_attempts=len(scripts) // 4 + 2, timeout=0.3)))
    assert [bundle.ok for bundle in bundles] == [True] * 4
    assert files() == {str(turn): BODY for turn in range(4)}


@pytest.mark.parametrize(
    "fault", ["reset before an answer", "empty reply", "cut body with a length", "silence before the head", "garbage"]
)
def test_post_is_not_sent_again(fault: str, server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """A POST that broke may have been carried out, so it is made once."""
    script, error = FAULTS[fault]
    bundle = AioDownloadBundle(server.on("/form", script), params={"pay": "1"})
    aiodownload.one(bundle, quick(Quick(max_attempts=5, timeout=0.3)))
    assert_failed(bundle, error, 1)
    assert [request.method for request in server.requests] == ["POST"]


def test_name_without_an_address(server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """A name that cannot be resolved (RFC 6761 keeps .invalid for that) is a ResolveError that shows the name."""
    good = server.on("/good", ok(GOOD))
    bad, other = aiodownload.swarm(["http://nowhere.invalid/f", good], quick(Quick(max_attempts=2, timeout=0.5)))
    assert_failed(bad, ResolveError, 2)
    assert "nowhere.invalid" in str(bad.error)
    assert other.ok


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody else can begin to."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_refused_connection(closed_port: int, server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """A refused connection is a ConnectError that is tried again."""
    good = server.on("/good", ok(GOOD))
    bad, other = aiodownload.swarm([f"http://127.0.0.1:{closed_port}/f", good], quick(Quick(max_attempts=3)))
    assert_failed(bad, ConnectError, 3)
    assert other.ok


def test_redirect_to_a_refused_connection(
    closed_port: int, server: FaultServer, quick: Callable[..., AioDownload]
) -> None:
    """The fault of a redirect's target counts like one of the URL, and each try starts at the URL."""
    url = server.on("/f", raw(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % closed_port))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=3)))
    assert_failed(bundle, ConnectError, 3)
    assert len(server.asked("/f")) == 3


# TLS


def trusting(authority: trustme.CA) -> Callable[[], aiohttp.ClientSession]:
    """A client factory that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


def test_untrusted_certificate_is_tried_once(
    tls_server: FaultServer, server: FaultServer, quick: Callable[..., AioDownload]
) -> None:
    """A certificate that is refused will be refused again: one try, no request, no fallback."""
    bad, other = aiodownload.swarm([tls_server.url("/f"), server.on("/good", ok(GOOD))], quick())
    assert_failed(bad, TLSError, 1)
    assert "certificate" in str(bad.error)
    assert isinstance(bad.error, TLSError)
    assert not bad.error.transient
    assert (tls_server.connections, tls_server.requests) == (0, [])
    assert other.ok


def test_certificate_for_another_name_is_refused(
    tls_server: FaultServer, authority: trustme.CA, quick: Callable[..., AioDownload]
) -> None:
    """The authority is trusted, but the certificate speaks of another host: one try."""
    bundle = aiodownload.one(tls_server.url("/f", host="localhost"), quick(client=trusting(authority)))
    assert_failed(bundle, TLSError, 1)
    assert tls_server.requests == []


def test_trusted_certificate(
    tls_server: FaultServer,
    authority: trustme.CA,
    files: Callable[[], dict[str, bytes]],
    quick: Callable[..., AioDownload],
) -> None:
    """With the authority trusted by the client that the factory makes, the same server gives its file."""
    bundle = aiodownload.one(tls_server.on("/f", ok(BODY)), quick(client=trusting(authority)))
    assert bundle.ok
    assert files() == {"f": BODY}


@pytest.mark.parametrize(
    "fault", ["reset within the body", "cut body with a length", "cut chunked body", "empty reply"]
)
def test_fault_within_tls(
    fault: str, tls_server: FaultServer, authority: trustme.CA, home: object, quick: Callable[..., AioDownload]
) -> None:
    """A connection that breaks within TLS fails its bundle like one without."""
    script, _ = FAULTS[fault]
    url = tls_server.on("/f", script)
    bundle = aiodownload.one(url, quick(Quick(max_attempts=2, timeout=0.5), client=trusting(authority)))
    assert_failed(bundle, TransportError, 2)


@contextlib.contextmanager
def plain_server() -> Iterator[int]:
    """What a usual web server does on its http port with whatever is no HTTP: 400, and close."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_https_spoken_to_a_http_port(quick: Callable[..., AioDownload]) -> None:
    """An https URL of a server that speaks plain HTTP is a TLSError, never a request without TLS."""
    with plain_server() as port:
        bundle = aiodownload.one(f"https://127.0.0.1:{port}/f", quick(Quick(max_attempts=2, timeout=2)))
    assert_failed(bundle, TLSError, 2)


def test_http_spoken_to_a_https_port(tls_server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """An http URL of a TLS port fails readably, whatever the port answers."""
    url = tls_server.url("/f").replace("https:", "http:")
    bundle = aiodownload.one(url, quick(Quick(max_attempts=2, timeout=1)))
    assert_failed(bundle, TransportError, 2)
    assert tls_server.requests == []


def test_silence_of_a_tls_server_before_the_handshake(quick: Callable[..., AioDownload]) -> None:
    """A port that takes the connection and never answers the handshake is given up after `timeout`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/f"
        bundle = aiodownload.one(url, quick(Quick(max_attempts=2, timeout=0.3)))
    assert_failed(bundle, TransportError, 2)
    assert bundle.elapsed < 3


@contextlib.contextmanager
def deaf_server(authority: trustme.CA, heard: list[bytes]) -> Iterator[int]:
    """Sends a part of a body over TLS, then neither sends nor reads, until the client has closed; notes what that said.

    Without an alert before the end, to read fails.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def work() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            client.settimeout(5)
            with client, context.wrap_socket(client, server_side=True, suppress_ragged_eofs=False) as tls:
                tls.recv(4096)
                tls.sendall(HEAD + b"Content-Length: 200000\r\n\r\n" + BODY[:70_000])
                ended = select.poll()
                ended.register(tls, select.POLLRDHUP)
                if ended.poll(3000):
                    heard.append(tls.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells that the other end has closed")
async def test_a_tls_server_that_is_given_up_is_told_and_not_waited_for(
    authority: trustme.CA, quick: Callable[..., AioDownload]
) -> None:
    """A connection that is not wanted any more is closed at once, though the server does not answer the goodbye."""
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def client() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=own_connector(5, public_only=False, ssl=context))

    heard: list[bytes] = []
    async with quick(Quick(max_attempts=1, timeout=0.3), client=client) as download:
        with deaf_server(authority, heard) as port:
            bundle = await download.one(f"https://127.0.0.1:{port}/f")
            async with asyncio.timeout(5):
                while not heard:
                    await asyncio.sleep(0.01)
    assert_failed(bundle, StallError, 1)
    assert heard == [b""]


# Time


def test_slow_but_steady_body_is_no_stall(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """`timeout` is time without progress: a body that takes longer in all is whole at the first try."""
    url = server.on("/f", slow(BODY, 9, 0.1))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=1, timeout=0.4)))
    assert bundle.ok
    assert bundle.elapsed > 0.8
    assert files() == {"f": BODY}


def test_total_timeout_of_a_callers_session_does_not_count(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """A session with a total timeout of its own, as aiohttp's default has one, does not cut a download short."""

    def impatient() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2))

    url = server.on("/f", slow(BODY, 5, 0.1))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=1, timeout=5), client=impatient))
    assert bundle.ok
    assert files() == {"f": BODY}


@pytest.mark.parametrize("script", [stall(), stall(BODY, 70_000)], ids=["head", "body"])
def test_stall_ends_after_timeout(script: Script, server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """A silent server is left after `timeout` seconds, not before and not much later, and the error names them."""
    bundle = aiodownload.one(server.on("/f", script), quick(Quick(max_attempts=1, timeout=0.5)))
    assert_failed(bundle, StallError, 1)
    assert 0.5 <= bundle.elapsed < 2.5
    assert "0.5 s" in str(bundle.error)


async def within(seconds: float, download: AioDownload, url: str) -> AioDownloadBundle:
    async with asyncio.timeout(seconds):
        return await download.one(url)


CLIENTS = pytest.mark.parametrize("client", [None, aiohttp.ClientSession], ids=["our session", "the caller's"])


@CLIENTS
def test_endless_interim_answers_are_left(server: FaultServer, quick: Callable[..., AioDownload], client: Any) -> None:
    """A server that only ever says "102 Processing" holds a slot for a bounded time, though it is never silent."""
    url = server.on("/f", interim_flood())
    bundle = asyncio.run(within(6, quick(Quick(max_attempts=1, timeout=0.1), client=client), url))
    assert_failed(bundle, StallError, 1)


@CLIENTS
def test_silence_after_an_interim_answer(server: FaultServer, quick: Callable[..., AioDownload], client: Any) -> None:
    """A server that says "102 Processing" and then nothing holds a slot for a bounded time."""

    async def promise(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(30)
        return False

    url = server.on("/f", promise)
    bundle = asyncio.run(within(6, quick(Quick(max_attempts=1, timeout=0.1), client=client), url))
    assert_failed(bundle, StallError, 1)


FORM = {"a": "x" * (16 << 20)}  # more than the sockets hold


@CLIENTS
async def test_a_form_that_is_not_read_is_given_up(
    server: FaultServer, quick: Callable[..., AioDownload], client: Any
) -> None:
    """A server that takes the head and then nothing more holds a slot for a bounded time."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    async with await asyncio.start_server(deaf, "127.0.0.1", 0) as deaf_server:
        port = deaf_server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10), quick(Quick(max_attempts=1, timeout=0.2), client=client) as download:
            bundle = await download.one(AioDownloadBundle(f"http://127.0.0.1:{port}/f", params=FORM))
        gone.set()
    assert_failed(bundle, StallError, 1)


@pytest.mark.parametrize("early", [False, True])
async def test_a_form_that_is_read_slowly(quick: Callable[..., AioDownload], early: bool) -> None:
    """The server need not say anything while it reads, be it after a "100 Continue" that it was not asked for."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if early:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = len(FORM["a"]) + 2
        while left:
            await asyncio.sleep(0.02)
            left -= len(await reader.read(1 << 18))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(slow, "127.0.0.1", 0) as slow_server:
        port = slow_server.sockets[0].getsockname()[1]
        async with asyncio.timeout(20), quick(Quick(max_attempts=1, timeout=0.5)) as download:
            bundle = await download.one(AioDownloadBundle(f"http://127.0.0.1:{port}/f", params=FORM))
    assert bundle.ok, bundle.error


def test_a_body_that_is_there_and_held_back(server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """What ``bandwidth`` holds back has arrived: the server owes nothing, however long it takes."""
    url = server.on("/f", ok(b"x" * 300_000))
    bundle = aiodownload.one(url, quick(Quick(max_attempts=1, timeout=0.3, bandwidth=200_000)))
    assert bundle.ok, bundle.error


@CLIENTS
def test_endless_head_is_left(server: FaultServer, quick: Callable[..., AioDownload], client: Any) -> None:
    """A head that comes byte by byte and never ends holds a slot for a bounded time, though it is never silent."""

    async def drip(request: Request, connection: Connection) -> bool:
        await connection.send(HEAD + b"X-Slow: ")
        while True:
            await connection.send(b"x")
            await asyncio.sleep(0.02)

    url = server.on("/f", drip)
    bundle = asyncio.run(within(6, quick(Quick(max_attempts=1, timeout=0.1), client=client), url))
    assert_failed(bundle, StallError, 1)


def test_dead_kept_alive_connection(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """A server that closes a connection right after saying it would stay costs no bundle anything."""

    async def hang_up(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody")
        return False

    server.default = hang_up
    bundles = aiodownload.swarm([server.url(f"/{number}") for number in range(30)], quick())
    assert all(bundle.ok for bundle in bundles)
    assert files() == {str(number): b"body" for number in range(30)}


def test_all_faults_in_one_swarm(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """All faults and as many good URLs side by side: each URL has its own outcome, and the run none but those."""
    urls = []
    for number, (script, _) in enumerate(FAULTS.values()):
        urls += [server.on(f"/bad{number}", script), server.on(f"/good{number}", ok(GOOD))]
    bundles = asyncio.run(quick(Quick(concurrent=8, max_attempts=2, timeout=0.5)).swarm(urls))
    assert [bundle.url for bundle in bundles] == urls
    assert [bundle.ok for bundle in bundles] == [False, True] * len(FAULTS)
    for bundle, (_, error) in zip(bundles[::2], FAULTS.values(), strict=True):
        assert isinstance(bundle.error, error)
    assert files() == {f"good{number}": GOOD for number in range(len(FAULTS))}


@pytest.mark.parametrize(
    "unasked", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"HTTP/1.1 408 \r\n\r\n", b"x"]
)
def test_what_comes_unasked_answers_nothing(
    unasked: bytes, server: FaultServer, quick: Callable[..., AioDownload]
) -> None:
    """R4, S25: a connection on which something came while it was idle is not used again, by a POST neither."""

    said = threading.Event()

    async def talkative(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
        await asyncio.sleep(0.05)
        await connection.send(unasked)
        said.set()
        return True

    first, second = server.on("/a", talkative), server.on("/b", ok(b"two"))
    third = AioDownloadBundle(second, params={"a": "1"})

    def slowly() -> Iterator[str | AioDownloadBundle]:
        for item in (first, second, first, third):
            yield item
            if item is first:
                said.wait(10)
            time.sleep(0.15)

    bundles = list(aiodownload.each(slowly(), download=quick(RequestStrategy(concurrent=1))))
    assert all(bundle.ok for bundle in bundles)
    assert [Path(bundle.file_path or "").read_bytes() for bundle in bundles] == [b"one", b"two", b"one", b"two"]
    assert server.connections == 2


@pytest.mark.parametrize(
    "surplus", [b"g", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"\0" * 9]
)
@pytest.mark.parametrize("apart", [b"", b"HTTP/1.1 200 OK\r\nConte"])
@pytest.mark.parametrize("body", [b"", b"just these", b"x" * 100_000])
def test_more_than_the_length_is_no_part_of_the_body(
    body: bytes, apart: bytes, surplus: bytes, server: FaultServer, quick: Callable[..., AioDownload]
) -> None:
    """R4: just so many bytes are taken, however the surplus arrives; the connection is not used again."""

    async def talkative(request: Request, connection: Connection) -> bool:
        sent = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body + surplus
        if apart:  # the head comes in two pieces
            await connection.send(sent[: len(apart)])
            await asyncio.sleep(0.02)
        await connection.send(sent[len(apart) :])
        return True

    urls = [server.on("/a", talkative), server.on("/b", ok(b"two"))]
    bundles = aiodownload.swarm(urls, quick(RequestStrategy(concurrent=1)))
    assert [bundle.error for bundle in bundles] == [None, None]
    assert [Path(bundle.file_path or "").read_bytes() for bundle in bundles] == [body, b"two"]
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello and more",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello and more",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello and more",
        b"HTTP/1.1 2\r\nContent-Length: 5\r\n\r\nhello and more",
        b"HTTP/1.1 100 Continue\r\n\r\ngarbage and more\r\n\r\n",
        b"hello\r\n\r\nhello",
    ],
)
def test_what_is_no_whole_answer_is_not_taken_for_one(
    answer: bytes, server: FaultServer, quick: Callable[..., AioDownload], files: Callable[[], dict[str, bytes]]
) -> None:
    """R1, R5, R6: no answer is made of what has no clear length."""
    bundle = aiodownload.one(server.on("/a", raw(answer)), quick(RequestStrategy(timeout=2)))
    assert not bundle.ok
    assert not files()


@pytest.mark.parametrize("script", [raw(b"no http at all\r\n\r\n"), drop(), reset(), cut(b"xyz", 1)])
def test_the_cause_of_an_error_shows_no_secret(
    script: Script, server: FaultServer, quick: Callable[..., AioDownload]
) -> None:
    """P9: what aiohttp raised is the cause of our error, and is logged with it."""
    headers = {"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2"}
    bundle = aiodownload.one(AioDownloadBundle(server.on("/x", script), headers=headers), quick(RequestStrategy()))
    error: BaseException | None = bundle.error
    assert error is not None
    told = "".join(traceback.format_exception(error))
    while error is not None:
        told += repr(error) + str(error) + repr(error.args)
        error = error.__cause__ or error.__context__
    assert "hunter2" not in told
