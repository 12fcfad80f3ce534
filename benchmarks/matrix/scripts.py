"""Answers to compose rows of: an object as an honest server gives it, and every lie about it."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property

from .server import Exchange, Script

__all__ = ["GROWN", "LARGE", "LARGE_NEW", "NEW", "OBJECT", "SIZE", "Version", "honest"]

SIZE = 4 << 20
_SECOND_OF_2020 = 1_577_836_800


@dataclass(frozen=True)
class Version:
    """What lies at a URL at some time.

    :param data: its bytes.
    :param etag: its strong ETag, quotes included.
    :param day: days after 2020-01-01 at which it was last modified (int).
    """

    data: bytes
    etag: str
    day: int = 0

    @property
    def modified(self) -> str:
        """As an HTTP-date."""
        return formatdate(_SECOND_OF_2020 + 86400 * self.day, usegmt=True)

    @property
    def fields(self) -> dict[str, str | int]:
        """The header fields that tell it from other versions."""
        return {"ETag": self.etag, "Last-Modified": self.modified, "Content-Type": "application/octet-stream"}

    @cached_property
    def packed(self) -> bytes:
        """The gzip representation."""
        return gzip.compress(self.data, 1, mtime=0)


def _version(name: str, size: int, etag: str, day: int = 0) -> Version:
    return Version(random.Random(name).randbytes(size), etag, day)


OBJECT = _version("object", SIZE, '"a"')
NEW = _version("new", SIZE, '"b"', 1)
"""Another object of the same size."""
LARGE = _version("large", 3 * SIZE, '"a"')
"""The object of the rows that resume: large enough that every tool has something to resume from."""
LARGE_NEW = _version("large new", 3 * SIZE, '"b"', 1)
GROWN = _version("grown", 3 * SIZE + (512 << 10), '"a"')
"""Another object of another size, but with the old ETag and date: only its total gives it away."""


def honest(
    version: Version,
    *,
    ranges: bool = True,
    if_range: bool = True,
    share: float = 1.0,
    rate: float | None = None,
    more: Mapping[str, str] | None = None,
) -> Script:
    """What RFC 9110 asks for, as far as the options let it.

    :param ranges: understand Range, and say so.
    :param if_range: mind If-Range; else a Range is always answered with a part.
    :param share: how much of each body is sent before the connection closes (0 to 1).
    :param rate: bytes per second on each connection.
    :param more: more header fields.
    """

    def script(exchange: Exchange) -> None:
        condition = exchange.request.headers.get("if-range")
        holds = not if_range or condition in (None, version.etag, version.modified)
        asked = exchange.request.range if ranges and holds else None
        size = len(version.data)
        fields = {**version.fields, **({"Accept-Ranges": "bytes"} if ranges else {}), **(more or {})}
        if asked is None:
            exchange.reply(200, fields, version.data, share=share, rate=rate)
        elif asked[0] >= size:
            exchange.reply(416, {"Content-Range": f"bytes */{size}"})
        else:
            first, last = asked[0], min(size - 1 if asked[1] is None else asked[1], size - 1)
            fields["Content-Range"] = f"bytes {first}-{last}/{size}"
            exchange.reply(206, fields, version.data[first : last + 1], share=share, rate=rate)

    return script


def fixed(status: int, body: bytes = b"", length: int | None = None, **fields: str) -> Script:
    """Always the same answer; underscores in field names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda exchange: exchange.reply(status, named, body, length=length)


def chunked(version: Version, *, share: float = 1.0) -> Script:
    """A 200 in chunks; with a share below 1 the last chunk never comes.  HTTP/1.0 knows no chunks: ended by closing."""

    def script(exchange: Exchange) -> None:
        body = version.data[: round(len(version.data) * share)]
        if exchange.request.version == "HTTP/1.0":
            exchange.head(200, version.fields)
            exchange.send(body)
            return
        exchange.head(200, {**version.fields, "Transfer-Encoding": "chunked"})
        for at in range(0, len(body), 65536):
            piece = body[at : at + 65536]
            exchange.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        if share == 1.0:
            exchange.send(b"0\r\n\r\n")

    return script


def first_half(version: Version) -> Script:
    """A 206 with the first half, whatever was asked for."""

    def script(exchange: Exchange) -> None:
        size = len(version.data)
        fields = {**version.fields, "Content-Range": f"bytes 0-{size // 2 - 1}/{size}"}
        exchange.reply(206, fields, version.data[: size // 2])

    return script


def once(fault: Script, after: Script) -> Script:
    """``fault`` for the first request for more than a few bytes, ``after`` for the others."""

    def script(exchange: Exchange) -> None:
        (fault if not is_probe(exchange) and exchange.claim("once") else after)(exchange)

    return script


def is_probe(exchange: Exchange) -> bool:
    """Whether the request is for a byte, as some clients begin, to learn what the header says."""
    return exchange.request.range == (0, 0)


def busy_once(status: int, seconds: float, after: Script, *, date: bool = False) -> Script:
    """``status`` with a Retry-After of so many seconds to the first request, and what came of it noted."""

    def script(exchange: Exchange) -> None:
        if exchange.claim("busy", keep=True):
            until = -(-(time.time() + seconds) // 1)
            value = formatdate(until, usegmt=True) if date else f"{seconds:.0f}"
            exchange.play.notes.update(
                {"busy at": exchange.request.at, "asked": until - time.time() if date else seconds}
            )
            exchange.reply(status, {"Retry-After": value}, b"later")
        else:
            after(exchange)

    return script


def when(condition: Callable[[Exchange], bool], yes: Script, no: Script) -> Script:
    """One answer or the other."""
    return lambda exchange: (yes if condition(exchange) else no)(exchange)


def without_range(exchange: Exchange) -> bool:
    return "range" not in exchange.request.headers


def further_on(exchange: Exchange) -> bool:
    """Whether a Range is asked for that does not begin at the beginning."""
    return exchange.request.range is not None and exchange.request.range[0] > 0


def shifted(version: Version, by: int) -> Script:
    """A 206 that begins so many bytes before the Range, and says so."""

    def script(exchange: Exchange) -> None:
        size = len(version.data)
        first, last = exchange.request.range or (0, None)
        first, last = max(0, first - by), size - 1 if last is None else last
        fields = {**version.fields, "Accept-Ranges": "bytes", "Content-Range": f"bytes {first}-{last}/{size}"}
        exchange.reply(206, fields, version.data[first : last + 1])

    return script


def without_content_range(version: Version) -> Script:
    """A 206 with just the bytes asked for, but no word on which they are."""

    def script(exchange: Exchange) -> None:
        first, last = exchange.request.range or (0, None)
        body = version.data[first : len(version.data) if last is None else last + 1]
        exchange.reply(206, {**version.fields, "Accept-Ranges": "bytes"}, body)

    return script


def alternating(first: Script, second: Script) -> Script:
    """Two replicas behind one name: GETs go to one and the other in turn."""

    def script(exchange: Exchange) -> None:
        turn = 0 if exchange.request.method == "HEAD" else exchange.play.count()
        (first, second)[turn % 2](exchange)

    return script


def elsewhere(exchange: Exchange) -> None:
    """A redirect to another origin."""
    exchange.reply(302, {"Location": exchange.play.elsewhere}, b"over there")
