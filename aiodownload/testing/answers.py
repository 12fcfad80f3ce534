"""Answers of a server, good ones and bad ones: each function here returns a script for :class:`FaultServer`."""

from __future__ import annotations

import asyncio
import gzip
import re
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

from .server import Connection, Request, Script

__all__ = [
    "chunked",
    "cut",
    "drop",
    "each_path",
    "gzipped",
    "ok",
    "ranged",
    "raw",
    "redirect",
    "reset",
    "slow",
    "stall",
    "status",
    "until_close",
    "wrong_length",
]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def _head(code: int, headers: Mapping[str, str]) -> bytes:
    phrase = HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else "Status"
    lines = [f"HTTP/1.1 {code} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def ok(body: bytes = b"", **headers: str) -> Script:
    """Answer 200 with ``body`` (bytes) and its length.

    :param headers: further fields; underscores in their names stand for dashes: ``ok(b"{}",
        Content_Type="application/json")``.
    """
    return status(200, body, **headers)


def status(code: int, body: bytes = b"", **headers: str) -> Script:
    """Answer any status (int) with a body and its length: ``status(503, Retry_After="1")``.

    :param headers: further fields, as for :func:`ok`.
    """

    async def script(request: Request, connection: Connection) -> bool:
        sent = b"" if request.method == "HEAD" else body
        await connection.send(_head(code, {"Content-Length": str(len(body)), **_dashed(headers)}) + sent)
        return True

    return script


def redirect(location: str, code: int = 302, **headers: str) -> Script:
    """Redirect to ``location`` (str), with a status of your choice (int)."""
    return status(code, b"gone", Location=location, **headers)


def gzipped(body: bytes, *, cut: int | None = None, **headers: str) -> Script:
    """Send ``body`` with ``Content-Encoding: gzip``.

    :param cut: so many bytes (int) of the encoded form, with a length that agrees: only the coding shows that the
        rest is missing.  None for all of them.
    """
    return status(200, gzip.compress(body, 1, mtime=0)[:cut], **{"Content_Encoding": "gzip", **headers})


def chunked(body: bytes, *, end: bool = True, size: int = 65536, **headers: str) -> Script:
    """Send a chunked body; without ``end`` the last chunk never comes and the connection closes.

    :param size: bytes of each chunk (int).
    """

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Transfer-Encoding": "chunked", **_dashed(headers)}))
        for at in range(0, len(body), size):
            piece = body[at : at + size]
            await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            await connection.send(b"0\r\n\r\n")
        return end

    return script


def cut(body: bytes, at: int, *, rst: bool = False, **headers: str) -> Script:
    """Declare the whole length, send ``at`` bytes (int), close; with ``rst`` by a reset."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Content-Length": str(len(body)), **_dashed(headers)}) + body[:at])
        if rst:
            await asyncio.sleep(0.05)
            connection.reset()
        return False

    return script


def wrong_length(body: bytes, declared: int, **headers: str) -> Script:
    """Declare another length (int) than that of ``body``, send all of it, and close."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Content-Length": str(declared), **_dashed(headers)}) + body)
        return False

    return script


def until_close(body: bytes, **headers: str) -> Script:
    """Send a body that only the closing of the connection ends."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Connection": "close", **_dashed(headers)}) + body)
        return False

    return script


def raw(data: bytes) -> Script:
    """Send these bytes, head and all, then close."""

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


def stall(body: bytes = b"", at: int | None = None, **headers: str) -> Script:
    """Never answer; or, with ``at`` (int), fall silent after so many bytes of the body."""

    async def script(request: Request, connection: Connection) -> bool:
        if at is not None:
            await connection.send(_head(200, {"Content-Length": str(len(body)), **_dashed(headers)}) + body[:at])
        await connection.reader.read()
        return False

    return script


def slow(body: bytes, pieces: int, pause: float, **headers: str) -> Script:
    """Send the body in so many pieces (int), with a pause after each of them (seconds)."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(_head(200, {"Content-Length": str(len(body)), **_dashed(headers)}))
        size = max(1, -(-len(body) // pieces))
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
    """Answer as an honest server does that has a file: a single Range under a right If-Range gets a 206.

    :param etag: the ETag of the file, quotes included (str).
    :param cut: bytes of each body after which the connection is closed (int).
    :param most: bytes that a 206 holds at most (int).
    :param hold: stay silent instead of closing.
    :param until: stay silent until then, and go on.
    :param headers: fields that are sent otherwise, or not at all (None); underscores stand for dashes.
    :param speed: bytes per second of each body (float).
    """

    async def script(request: Request, connection: Connection) -> bool:
        asked = _asked(request, etag, len(body))
        if asked is not None and asked[0] >= asked[1]:
            fields = {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"}
            await connection.send(_head(416, fields))
            return True
        first, end = asked or (0, len(body))
        if asked is not None and most is not None:
            end = min(end, first + most)
        await connection.send(_ranged_head(first, end, len(body), etag, asked is not None, headers))
        if speed is not None:
            for at in range(first, end, 65536):
                await connection.send(body[at : min(end, at + 65536)])
                await asyncio.sleep(65536 / speed)
            return True
        await connection.send(body[first:end][:cut])
        if until is not None:
            while not until.is_set():  # noqa: ASYNC110 (it is set in another thread)
                await asyncio.sleep(0.005)
            await connection.send(body[first:end][cut:])
            return True
        if hold:
            await connection.reader.read()
        return cut is None

    return script


def _asked(request: Request, etag: str, total: int) -> tuple[int, int] | None:
    """First byte and end of the one range that was asked for; None for the whole (RFC 9110 sections 13.1.5, 14.1.2)."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or not any(found.groups()) or request.headers.get("if-range", etag) != etag:
        return None
    if not found[1]:
        return max(0, total - int(found[2])), total
    return int(found[1]), min(total, int(found[2] or total) + 1)


def _ranged_head(
    first: int, end: int, total: int, etag: str, partial: bool, headers: Mapping[str, str | None]
) -> bytes:
    fields: dict[str, str | None] = {"Content-Length": str(end - first), "ETag": etag, "Accept-Ranges": "bytes"}
    if partial and (first or end < total):
        fields["Content-Range"] = f"bytes {first}-{end - 1}/{total}"
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in fields.items() if value is not None}
    return _head(206 if "Content-Range" in fields else 200, sent)


def each_path(answer: Callable[[Request], Script]) -> Script:
    """Choose the script by the request: ``server.default = each_path(lambda request: ok(request.path.encode()))``."""

    async def script(request: Request, connection: Connection) -> bool:
        return await answer(request)(request, connection)

    return script
