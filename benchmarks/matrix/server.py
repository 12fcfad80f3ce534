"""A raw-socket HTTP server on loopback whose answers are scripted per path and per request, also wrongly.

It uses no HTTP library, since that would not let it lie; and it notes what it was asked and how much was taken.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Exchange", "FaultServer", "Play", "Request", "Script"]

PROBE = 512 << 10
"""A client that hangs up before so many bytes only wanted the header."""

_NAMES = {200: "OK", 204: "No Content", 206: "Partial Content", 302: "Found", 416: "Range Not Satisfiable"}
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Request:
    """What a client asked."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    at: float = field(default_factory=time.time)

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First and last byte (None: to the end) of the one Range asked for, or None."""
        found = _RANGE.fullmatch(self.headers.get("range", ""))
        return (int(found[1]), int(found[2]) if found[2] else None) if found else None


class Play:
    """One script, what was asked while it ran, and what it has to remember.

    :param script: answers each request.
    :param elsewhere: the URL of the same play at another origin.
    """

    def __init__(self, script: Script, elsewhere: str = "") -> None:
        self.elsewhere = elsewhere
        self.restart(script)

    def restart(self, script: Script) -> None:
        """Go on with another script and a clean record."""
        self.script = script
        self.requests: list[Request] = []
        self.sent = 0
        self.notes: dict[str, float] = {}
        self._done: set[str] = set()
        self._lock = threading.Lock()
        self.gets = 0

    def first_time(self, name: str) -> bool:
        """Whether this is the first call with ``name``."""
        with self._lock:
            first = name not in self._done
            self._done.add(name)
            return first

    def happened(self, name: str) -> bool:
        """Whether ``first_time(name)`` has been called."""
        return name in self._done

    def forget(self, name: str) -> None:
        """Undo ``first_time(name)``: the client only looked at the header."""
        with self._lock:
            self._done.discard(name)

    def count(self) -> int:
        """How many GETs came before this one."""
        with self._lock:
            self.gets += 1
            return self.gets - 1


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, request: Request, play: Play, connection: socket.socket) -> None:
        self.request = request
        self.play = play
        self._connection = connection
        self._body = 0
        self._claimed: str | None = None

    def claim(self, name: str, *, keep: bool = False) -> bool:
        """Whether the answer ``name``, which is given once, is for this request; a HEAD only looks.

        It is given again if this client hangs up early, unless ``keep``.
        """
        if self.request.method == "HEAD":
            return not self.play.happened(name)
        if not self.play.first_time(name):
            return False
        self._claimed = None if keep else name
        return True

    def hung_up(self) -> None:
        """The client did not take it all: if it took next to nothing, the answer is still to be given."""
        if self._claimed is not None and self._body < PROBE:
            self.play.forget(self._claimed)

    def head(self, status: int, fields: Mapping[str, str | int]) -> None:
        """Send the status line and these fields."""
        lines = [f"HTTP/1.1 {status} {_NAMES.get(status, 'Status')}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self._connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def send(self, data: bytes, rate: float | None = None) -> None:
        """Send bytes of the body, at most ``rate`` bytes per second."""
        if self.request.method == "HEAD":
            return
        piece = 16 << 10
        for at in range(0, len(data), piece):
            self._connection.sendall(data[at : at + piece])
            taken = min(piece, len(data) - at)
            self._body += taken
            self.play.sent += taken
            if rate:
                time.sleep(taken / rate)

    def reply(
        self,
        status: int,
        fields: Mapping[str, str | int] | None = None,
        body: bytes = b"",
        *,
        share: float = 1.0,
        length: int | None = None,
        rate: float | None = None,
    ) -> None:
        """Answer with a length: the true one or ``length``; send this share of the body, then close."""
        declared = {} if status == 204 else {"Content-Length": len(body) if length is None else length}
        self.head(status, {**declared, **(fields or {})})
        self.send(body[: round(len(body) * share)], rate)


Script = Callable[[Exchange], None]
"""Answers one request; the connection is closed afterwards."""


class FaultServer:
    """Listens on a loopback address; a thread per connection, one request each.

    :param host: the address to listen on (str).
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listener = socket.create_server((host, 0), backlog=128)
        # Little is kept in flight, so that what was sent is what the client has taken, or nearly.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        self.host, self.port = self._listener.getsockname()
        self._plays: dict[str, Play] = {}
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def play(self, key: str, script: Script, elsewhere: str = "") -> Play:
        """Answer everything below ``/key/`` with ``script``."""
        self._plays[key] = Play(script, elsewhere)
        return self._plays[key]

    def url(self, key: str, name: str) -> str:
        """Where a client finds the play ``key``."""
        return f"http://{self.host}:{self.port}/{key}/{name}"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            request = read_request(connection)
            if request is None:
                return
            time.sleep(0.02)  # so that a connection which this client has just given up is noticed first
            play = self._plays.get(request.target.split("/")[1] if "/" in request.target else "")
            if play is None:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            play.requests.append(request)
            exchange = Exchange(request, play, connection)
            try:
                play.script(exchange)
            except OSError:
                exchange.hung_up()


def read_request(connection: socket.socket) -> Request | None:
    """Read one request without a body; None if the client says nothing."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(65536)
        if not more or len(head) > 1 << 20:
            return None
        head += more
    first, *lines = head.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    method, target, version = first.split(" ", 2)
    fields = (line.partition(":") for line in lines)
    return Request(method, target, version, {name.strip().lower(): value.strip() for name, _, value in fields})
