"""A raw-socket HTTP server on loopback, in a thread of its own, that answers each path as it is told: also wrongly."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType

__all__ = ["Connection", "FaultServer", "Request", "Script"]

LONGEST = 10  # seconds for the server to start, and to end


@dataclass
class Request:
    """What a client asked.

    :param method: such as ``GET`` (str).
    :param target: path and query, as they were sent (str).
    :param headers: by their names in lower case (dict of str to str).
    :param body: the body (bytes).
    :param at: when its head and body had arrived, in seconds of :func:`time.monotonic` (float).
    :param at_once: how many requests the server was answering then, this one included (int).
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    at_once: int = 1

    @property
    def path(self) -> str:
        """The target without its query (str)."""
        return self.target.partition("?")[0]


class Connection:
    """The server's end of one connection.

    :param reader: what the client sends further.
    :param writer: what it gets.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send ``data`` as it is, head and framing included."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Request, Connection], Awaitable[bool]]
"""Answers one request; returns whether the connection stays open."""


class FaultServer:
    """Answers with scripts; notes every request.  A context manager, for blocking tests and for coroutines.

    ``on(path, first, second, …)`` gives the answers to the first request for the path, the second, and so on; the
    last one is repeated.  Other paths are answered by ``default``, which is a 404 unless you set another script.

    :param context: for TLS (:class:`ssl.SSLContext` with a certificate), or None.
    :param host: the address to listen at (str); the port is a free one.
    :raises OSError: on entering, if that cannot be had.

    ``requests`` are those that came (list of :class:`Request`, in order), ``active`` is how many are being answered,
    ``most_active`` the most that were at once, ``connections`` how many were opened (int each).  An exception of a
    script closes its connection, and comes out when the server is left.
    """

    def __init__(self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.active = 0
        self.most_active = 0
        self.connections = 0
        self.default: Script = _missing
        self.port = 0
        self._scripts: dict[str, list[Script]] = {}
        self._context = context
        self._host = host
        self._errors: list[Exception] = []
        self._loop = asyncio.new_event_loop()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="fault-server", daemon=True)

    def __repr__(self) -> str:
        return f"<FaultServer {self.url('')} {len(self.requests)} requests, {self.active} being answered>"

    def on(self, path: str, *scripts: Script) -> str:
        """Set the answers for ``path`` (with its query) and return its URL (str).

        :raises ValueError: without a script.
        """
        if not scripts:
            raise ValueError(f"give at least one script for {path!r}, such as ok(b'...')")
        self._scripts[path] = list(scripts)
        return self.url(path)

    def url(self, path: str = "/", host: str | None = None) -> str:
        """Return the URL of ``path`` (str), under another name for this server's address if ``host`` is given."""
        scheme = "https" if self._context is not None else "http"
        return f"{scheme}://{host or self._host}:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        """Return the requests for ``path`` (with its query), in order."""
        return [request for request in self.requests if request.target == path]

    def __enter__(self) -> FaultServer:
        self._thread.start()
        try:
            self._started.result(LONGEST)
        except OSError:
            self._thread.join(LONGEST)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(LONGEST)
        if self._thread.is_alive():
            raise RuntimeError("the server does not end: does a script block its thread?")
        if self._errors and error is None:
            raise self._errors[0]

    # In the thread.

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._serve())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except OSError as error:
            self._started.set_exception(error)
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._client, self._host, 0, ssl=self._context, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set_result(None)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = Connection(reader, writer)
        try:
            while (request := await _read(reader)) is not None:
                self.active += 1
                request.at_once = self.active
                self.most_active = max(self.most_active, self.active)
                self.requests.append(request)
                try:
                    stays = await self._script(request)(request, connection)
                finally:
                    self.active -= 1
                if not stays:
                    break
        except OSError:  # the client has gone
            pass
        except asyncio.CancelledError:  # only when the server ends; asyncio would report a task that ends by it
            pass
        except Exception as error:
            self._errors.append(error)
        finally:
            writer.close()

    def _script(self, request: Request) -> Script:
        scripts = self._scripts.get(request.target)
        if not scripts:
            return self.default
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]


async def _missing(request: Request, connection: Connection) -> bool:
    body = b"" if request.method == "HEAD" else b"no such thing"
    await connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n" + body)
    return True


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request, or None if no whole one comes."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
        return None
    return Request(method, target, headers, body)
