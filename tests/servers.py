"""A raw-socket HTTP server on loopback, in a thread of its own, that answers each path as it is told: also wrongly."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = [
    "Connection",
    "FaultServer",
    "Request",
    "Script",
    "chunked",
    "cut",
    "drop",
    "each_path",
    "ok",
    "ranged",
    "raw",
    "redirect",
    "reset",
    "slow",
    "stall",
    "status",
    "until_close",
]


@dataclass
class Request:
    """What a client asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Connection:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Request, Connection], Awaitable[bool]]
"""Answers one request; returns whether the connection stays open."""

_NAMES = {200: "OK", 301: "Moved", 302: "Found", 404: "Not Found", 429: "Too Many Requests", 503: "Unavailable"}


def _head(code: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {code} {_NAMES.get(code, 'Status')}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def ok(body: bytes = b"", **headers: str) -> Script:
    """200 with the body and its length; underscores in header names stand for dashes."""
    return status(200, body, **headers)


def status(code: int, body: bytes = b"", **headers: str) -> Script:
    """Any status with a body and its length."""

    async def script(request: Request, connection: Connection) -> bool:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = b"" if request.method == "HEAD" else body
        await connection.send(_head(code, {"Content-Length": str(len(body)), **fields}) + sent)
        return True

    return script


def redirect(location: str, code: int = 302, **headers: str) -> Script:
    """A redirect."""
    return status(code, b"gone", Location=location, **headers)


def chunked(body: bytes, *, end: bool = True, size: int = 65536, **headers: str) -> Script:
    """A chunked body; without ``end`` the last chunk never comes and the connection closes."""

    async def script(request: Request, connection: Connection) -> bool:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        await connection.send(_head(200, {"Transfer-Encoding": "chunked", **fields}))
        for at in range(0, len(body), size):
            piece = body[at : at + size]
            await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            await connection.send(b"0\r\n\r\n")
        return end

    return script


def cut(body: bytes, at: int, *, rst: bool = False) -> Script:
    """Declare the whole length, send ``at`` bytes, close."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Content-Length": str(len(body))}) + body[:at])
        if rst:
            await asyncio.sleep(0.05)
            connection.reset()
        return False

    return script


def until_close(body: bytes) -> Script:
    """A body that only the closing of the connection ends."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Connection": "close"}) + body)
        return False

    return script


def raw(data: bytes) -> Script:
    """These bytes, then close."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(data)
        return False

    return script


def drop() -> Script:
    """Close without a word."""
    return raw(b"")


def reset() -> Script:
    """Reset the connection without a word."""

    async def script(request: Request, connection: Connection) -> bool:
        connection.reset()
        return False

    return script


def stall(body: bytes = b"", at: int | None = None) -> Script:
    """Say nothing; or, with ``at``, fall silent after so many bytes of the body."""

    async def script(request: Request, connection: Connection) -> bool:
        if at is not None:
            await connection.send(_head(200, {"Content-Length": str(len(body))}) + body[:at])
        await connection.reader.read()
        return False

    return script


def slow(body: bytes, pieces: int, pause: float) -> Script:
    """The body in so many pieces with pauses between them (seconds)."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Content-Length": str(len(body))}))
        size = -(-len(body) // pieces)
        for at in range(0, len(body), size):
            await connection.send(body[at : at + size])
            await asyncio.sleep(pause)
        return True

    return script


def ranged(
    body: bytes,
    etag: str = '"a"',
    *,
    cut: int | None = None,
    most: int | None = None,
    hold: bool = False,
    until: threading.Event | None = None,
    headers: Mapping[str, str | None] = MappingProxyType({}),
    speed: float | None = None,
) -> Script:
    """A file as an honest server has it: a single Range under a right If-Range is answered by a 206.

    :param cut: bytes of each body after which the connection is closed.
    :param most: bytes that a 206 holds at most.
    :param hold: stay silent instead of closing.
    :param until: stay silent until then, and go on.
    :param headers: fields that are sent otherwise, or not at all.
    :param speed: bytes per second of each body.
    """

    async def script(request: Request, connection: Connection) -> bool:
        asked = request.headers.get("range")
        first, end = 0, len(body)
        if asked is not None and request.headers.get("if-range", etag) == etag:
            begin, _, last = asked.removeprefix("bytes=").partition("-")
            first, end = int(begin), min(len(body), int(last or len(body)) + 1)
            end = min(end, first + most) if most is not None else end
        fields: dict[str, str | None] = {"Content-Length": str(end - first), "ETag": etag, "Accept-Ranges": "bytes"}
        if asked is not None and (first or end < len(body)):
            fields["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in fields.items() if value is not None}
        await connection.send(_head(206 if "Content-Range" in fields else 200, sent))
        if speed is not None:
            for at in range(first, end, 65536):
                await connection.send(body[at : min(end, at + 65536)])
                await asyncio.sleep(65536 / speed)
            return True
        await connection.send(body[first:end][:cut])
        if until is not None:
            while not until.is_set():
                await asyncio.sleep(0.005)
            await connection.send(body[first:end][cut:])
            return True
        if hold:
            await connection.reader.read()
        return cut is None

    return script


def each_path(answer: Callable[[Request], Script]) -> Script:
    """Choose the script by the request."""

    async def script(request: Request, connection: Connection) -> bool:
        return await answer(request)(request, connection)

    return script


class FaultServer:
    """Answers with scripts; notes every request.

    ``on(path, first, second, …)`` gives the answers to the first request for the path, the second, and so on; the
    last one is repeated.  Other paths are answered by ``default``, which is a 404.
    """

    def __init__(self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.active = 0
        self.most_active = 0
        self.connections = 0
        self.default: Script = status(404, b"no such thing")
        self._scripts: dict[str, list[Script]] = {}
        self._context = context
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.port = 0

    def on(self, path: str, *scripts: Script) -> str:
        """Set the answers for ``path`` (with its query) and return the URL."""
        self._scripts[path] = list(scripts)
        return self.url(path)

    def url(self, path: str = "/", host: str | None = None) -> str:
        scheme = "https" if self._context is not None else "http"
        return f"{scheme}://{host or self._host}:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        """The requests for ``path``, in order."""
        return [request for request in self.requests if request.target == path]

    def __enter__(self) -> FaultServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._serve())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, self._host, 0, ssl=self._context, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = Connection(reader, writer)
        try:
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                self.active += 1
                self.most_active = max(self.most_active, self.active)
                try:
                    stays = await self._script(request)(request, connection)
                finally:
                    self.active -= 1
                if not stays:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _script(self, request: Request) -> Script:
        scripts = self._scripts.get(request.target)
        if not scripts:
            return self.default
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return None
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, target, headers, body)
