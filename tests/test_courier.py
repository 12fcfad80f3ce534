"""Plain requests: what goes over the wire is what aiohttp's session would send, and what comes back is its answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import client_reqrep
from conftest import Quick
from yarl import URL

import aiodownload
from aiodownload import AioDownload, DisconnectError, DownloadStrategy, courier
from aiodownload.courier import Courier, courier_of
from aiodownload.request.redirects import Hop
from aiodownload.testing import Connection, FaultServer, Request, ok, status
from aiodownload.transport import Transport

Make = Callable[..., AioDownload]


@contextlib.asynccontextmanager
async def recording(host: str, heard: list[bytes]) -> AsyncIterator[int]:
    """A server that notes the very bytes of each request."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(client, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def transport(contact: str | None = None) -> AsyncIterator[Transport]:
    """One with a session of its own."""
    made = Transport(None, 5.0, contact=contact)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def has_ipv6() -> bool:
    """Whether this machine has that loopback."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}",
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/a/b%2Fc?d=e&f=%20+g",
        "http://127.0.0.1:{port}/grüße?q=ä%2f",
        "http://127.0.0.1:{port}/a;b=c,d/?",
        "http://localhost:{port}/f",
        "http://LOCALHOST:{port}/f",
        pytest.param(
            "http://[::1]:{port}/f",
            marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback"),
        ),
    ],
)
@pytest.mark.parametrize("contact", [None, "ops@example.org"])
async def test_the_same_bytes_as_by_the_session(url: str, contact: str | None) -> None:
    """Of the first request to an origin, and of those after it."""
    heard: list[bytes] = []
    async with recording("::1" if "[" in url else "127.0.0.1", heard) as port, transport(contact) as made:
        asked = URL(url.format(port=port))
        for _ in range(2):
            response = await made._courier.ask(asked)  # type: ignore[union-attr]
            assert await response.read() == b"ok"
        async with made._session.get(asked, allow_redirects=False) as by_session:
            assert (by_session.url, by_session.method, by_session.status) == (response.url, response.method, 200)
            assert by_session.request_info == response.request_info
            assert by_session.headers == response.headers
            with pytest.warns(DeprecationWarning, match="output_size"):
                assert by_session.output_size == response.output_size
    assert heard[0] == heard[1] == heard[2]
    assert heard[0].startswith(b"GET /")


async def test_what_it_leaves_to_the_session(server: FaultServer) -> None:
    """A user and a password; and what nobody sends: the end of the first line of the request in a URL."""
    url = server.on("/f", ok(b"x"))
    async with transport() as made:
        taken = made._courier
        assert taken is not None
        (await taken.ask(URL(url.replace("//", "//user:pass@")))).close()
        assert "authorization" in server.requests[0].headers
        for end in (" HTTP/1.0", "\r\nX: y"):
            with pytest.raises(ValueError, match="control character"):
                await taken.ask(URL(url + end, encoded=True))
        assert len(server.requests) == 1


@pytest.mark.parametrize("char", ["\u200b", "\u00ad", "\u00a0", "\u00e4"])
async def test_a_url_that_is_taken_as_it_is(char: str, server: FaultServer) -> None:
    """Encoded or not: aiohttp sends it."""
    server.default = ok(b"x")
    async with transport() as made:
        response = await made.ask(Hop("GET", URL(server.url("/f") + f"?q={char}", encoded=True), {}))
        assert response.status == 200
        response.close()


@pytest.mark.parametrize("own", [True, False])
def test_which_requests_it_makes(own: bool, server: FaultServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of our own session, without fields or a body of their own."""
    asked: list[str] = []
    ask = Courier.ask

    async def noted(self: Courier, url: URL) -> aiohttp.ClientResponse:
        asked.append(url.path)
        return await ask(self, url)

    monkeypatch.setattr(Courier, "ask", noted)
    urls = [server.on(f"/{name}", ok(b"x")) for name in ("plain", "fields", "form", "user")]
    bundles = [
        aiodownload.AioDownloadBundle(urls[0]),
        aiodownload.AioDownloadBundle(urls[1], headers={"X-Key": "1"}),
        aiodownload.AioDownloadBundle(urls[2], params={"a": "b"}),
        aiodownload.AioDownloadBundle(urls[3].replace("//", "//user:pass@")),
    ]
    client = None if own else aiohttp.ClientSession
    assert all(one.ok for one in aiodownload.swarm(bundles, AioDownload(client, DownloadStrategy(home=home), Quick())))
    assert asked == (["/plain"] if own else [])
    assert server.asked("/fields")[0].headers["x-key"] == "1"
    assert "authorization" in server.asked("/user")[0].headers
    assert server.asked("/form")[0].method == "POST"


def test_another_aiohttp(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, files: Any) -> None:
    """One whose answers want to know something else: then its session makes all requests."""

    class Response(client_reqrep.ClientResponse):
        """Of some later version."""

        def __init__(self, *args: Any, something: object, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(courier.aiohttp, "ClientResponse", Response)
    monkeypatch.setattr(Courier, "ask", None)  # nobody calls it
    monkeypatch.setattr(aiohttp.client, "ClientResponse", client_reqrep.ClientResponse)
    assert aiodownload.one(server.on("/f", ok(b"x")), quick()).ok
    assert files() == {"f": b"x"}


async def test_this_aiohttp() -> None:
    """It does what this library counts on, so that nothing is slower than it could be."""
    async with aiohttp.ClientSession() as session:
        assert courier_of(session) is not None


@pytest.mark.parametrize("after", [0.0, 0.2])
def test_an_idle_connection_that_the_server_closes(after: float, server: FaultServer, quick: Make, files: Any) -> None:
    """The request is made once more, on a new one, within the same try (RFC 9112 section 9.3.1)."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        await asyncio.sleep(after)
        return False

    urls = [server.on(f"/{number}", script) for number in range(6)]
    bundles = aiodownload.swarm(urls, quick(Quick(max_attempts=1, concurrent=1)))
    assert [bundle.attempts for bundle in bundles] == [1] * 6
    assert all(bundle.ok for bundle in bundles)
    assert len(files()) == 6


def test_a_server_that_closes_instead_of_answering(server: FaultServer, quick: Make) -> None:
    """Is asked twice in a try, as by aiohttp's session, and no more."""

    async def script(request: Request, connection: Connection) -> bool:
        return False

    bundles = aiodownload.swarm(
        [server.on("/a", ok(b"x")), server.on("/f", script)], quick(Quick(max_attempts=1, concurrent=1))
    )
    assert isinstance(bundles[1].error, DisconnectError)
    assert len(server.asked("/f")) == 2


def test_many_origins(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, files: Any) -> None:
    """Are not all remembered."""
    monkeypatch.setattr(courier, "ORIGINS", 2)
    urls = [server.on(f"/{number}", ok(b"x")).replace("127.0.0.1", f"127.0.0.{number + 1}") for number in range(5)]
    kept: list[int] = []
    remember = Courier._origin

    def counted(self: Courier, url: URL) -> Any:
        made = remember(self, url)
        kept.append(len(self._origins))
        return made

    monkeypatch.setattr(Courier, "_origin", counted)
    bundles = aiodownload.swarm(urls, quick(Quick(max_attempts=1)))
    assert bundles[0].ok
    assert kept
    assert max(kept) <= 2


async def test_a_request_that_is_cancelled(server: FaultServer) -> None:
    """Its connection is closed: an answer that comes late is nobody's."""
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def script(request: Request, connection: Connection) -> bool:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go_on.wait(), loop))
        return await ok(b"late")(request, connection)

    async with transport() as made:
        taken = made._courier
        assert taken is not None
        task = asyncio.ensure_future(taken.ask(URL(server.on("/late", script))))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        response = await taken.ask(URL(server.on("/f", status(404, b"other"))))
        assert (response.status, await response.read()) == (404, b"other")
    assert server.connections == 2
