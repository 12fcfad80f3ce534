"""Rows: what is told of one URL in a shard's metadata, and the lines in which an open shard keeps account; pure.

A line is believed if its checksum is right and all of it is what is written here; it and all after it count as not
written otherwise.  What a killed process or a power cut has left is somebody's input.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_args, get_type_hints
from zlib import crc32

from ..redact import printable, redact

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..errors import AioDownloadError

__all__ = [
    "DONE",
    "FAILED",
    "Account",
    "Line",
    "Recorded",
    "Row",
    "Sealed",
    "SpanAt",
    "dump",
    "parse",
    "row_of",
    "sidecar",
    "winners",
]

DONE, FAILED = "done", "failed"
VERSION = 1


class Row(NamedTuple):
    """What became of one URL.

    :param key: the name of the sample, or None if it has none.
    :param identity: 32 hex digits that stand for the request: URL and form.
    :param url: without user and password.
    :param final_url: after redirects, or None.
    :param status: ``"done"`` or ``"failed"``.
    :param http_status: of the last answer, or None.
    :param attempts: tries made.
    :param size: bytes of the body, or None.
    :param sha256: of the body (64 hex digits), or None.
    :param verified: the value of the :class:`Verified` that it has, or None.
    :param content_type: what the server says that it is, or None.
    :param etag: the server's validator for it, or None.
    :param last_modified: the server's date of it, or None.
    :param member: the name of the body in the tar, or None.
    :param offset: the place of its first byte there, or None.
    :param error_type: the name of the class of the error, or None.
    :param error: its words, or None.
    :param info: what the bundle carries, as JSON, or None.
    """

    key: str | None
    identity: str
    url: str
    final_url: str | None
    status: str
    http_status: int | None
    attempts: int
    size: int | None
    sha256: str | None
    verified: str | None
    content_type: str | None
    etag: str | None
    last_modified: str | None
    member: str | None
    offset: int | None
    error_type: str | None
    error: str | None
    info: str | None


class SpanAt(NamedTuple):
    """From byte ``at`` of the tar on, what was added under ``mark``.

    :param boot: that of the system meanwhile.
    """

    mark: int
    at: int
    boot: str


class Recorded(NamedTuple):
    """A row, and the bytes of the tar with which it is whole."""

    end: int
    row: Row


class Sealed(NamedTuple):
    """Nothing is added any more to a tar of ``end`` bytes."""

    end: int


Line: TypeAlias = SpanAt | Recorded | Sealed


class Account(NamedTuple):
    """All lines that can be believed.

    :param lines: in order.
    :param sizes: the bytes of each.
    """

    lines: tuple[Line, ...]
    sizes: tuple[int, ...]

    @property
    def spans(self) -> list[tuple[int, int, int]]:
        """What was added under which mark: mark, place of the first byte, place after the last."""
        begun = [line for line in self.lines if isinstance(line, SpanAt)]
        ends = [line.at for line in begun[1:]] + [self.end]
        return [(line.mark, line.at, end) for line, end in zip(begun, ends, strict=False)]

    def is_of(self, boot: str) -> bool:
        """Whether all of it was written in ``boot``."""
        return all(line.boot == boot for line in self.lines if isinstance(line, SpanAt))

    @property
    def rows(self) -> list[Recorded]:
        """The rows, in order."""
        return [line for line in self.lines if isinstance(line, Recorded)]

    @property
    def sealed(self) -> bool:
        """Whether nothing is added any more."""
        return bool(self.lines) and isinstance(self.lines[-1], Sealed)

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return sum(self.sizes)

    @property
    def end(self) -> int:
        """Bytes of the tar that are accounted for."""
        return next((line.end for line in reversed(self.lines) if isinstance(line, Recorded)), 0)

    def cut(self, count: int) -> Account:
        """Return the first ``count`` lines."""
        return Account(self.lines[:count], self.sizes[:count])


_KINDS = {"span": SpanAt, "row": Recorded, "sealed": Sealed}
_TYPES = tuple(get_args(kind) or (kind,) for kind in get_type_hints(Row).values())
_LARGEST = (1 << 63) - 1
_HEADER = 512  # bytes of the tar before a body


def dump(line: Line) -> bytes:
    """Return a line as it is stored."""
    kind = next(name for name, one in _KINDS.items() if type(line) is one)
    text = json.dumps([VERSION, kind, *line], separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (crc32(text), text)


def parse(lines: Iterable[bytes]) -> Account:
    """Read lines, up to the first that cannot be believed."""
    believed: list[Line] = []
    sizes: list[int] = []
    end = 0
    for data in lines:
        line = _line(data)
        if line is None or not _follows(line, believed, end):
            break
        believed.append(line)
        sizes.append(len(data))
        end = line.end if isinstance(line, Recorded) else end
    return Account(tuple(believed), tuple(sizes))


def _follows(line: Line, before: list[Line], end: int) -> bool:
    """Whether ``line`` can come after those ``before`` it, which account for ``end`` bytes."""
    if before and isinstance(before[-1], Sealed):
        return False
    if isinstance(line, SpanAt):
        return line.at == end
    if isinstance(line, Sealed):
        return line.end == end
    row = line.row
    if not before:  # there is no span that it is in
        return False
    if row.status == FAILED:
        return line.end == end and row.member is None
    return None not in (row.key, row.member, row.size, row.sha256) and row.offset == end + _HEADER < line.end


def _line(data: bytes) -> Line | None:
    mark, _, text = data.partition(b" ")
    if not text.endswith(b"\n") or mark != b"%08x" % crc32(text[:-1]):
        return None
    try:
        version, kind, *fields = json.loads(text)
        if version != VERSION:
            return None
        if kind == "row":
            fields[1] = Row(*fields[1])
        line: Line = _KINDS[kind](*fields)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None
    return line if _is_sound(line) else None


def _is_sound(line: Line) -> bool:
    if isinstance(line, Recorded):
        row = line.row
        numbers = (line.end, row.attempts, row.http_status or 0, row.size or 0, row.offset or 0)
        return all(map(isinstance, row, _TYPES)) and all(map(_is_number, numbers)) and row.status in (DONE, FAILED)
    if isinstance(line, SpanAt):
        return _is_number(line.mark) and _is_number(line.at) and isinstance(line.boot, str)
    return _is_number(line.end)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def row_of(bundle: AioDownloadBundle, identity: str, error: AioDownloadError | None = None) -> Row:
    """Return what is told of ``bundle``, but for what its shard knows.  Nothing secret is in it.

    :param error: why it has failed; None: it has not.
    """
    headers = bundle.response_headers
    ok = error is None
    return Row(
        key=None,
        identity=identity,
        url=_text(redact(bundle.url)),
        final_url=None if bundle.final_url is None else _text(redact(bundle.final_url)),
        status=DONE if ok else FAILED,
        http_status=bundle.http_status,
        attempts=bundle.attempts,
        size=None,
        sha256=None,
        verified=bundle.verified.value if ok else None,
        content_type=_field(headers, "Content-Type"),
        etag=_field(headers, "ETag") if ok else None,
        last_modified=_field(headers, "Last-Modified") if ok else None,
        member=None,
        offset=None,
        error_type=None if error is None else type(error).__name__,
        error=None if error is None else _text(str(error)),
        info=_json(bundle.info),
    )


def sidecar(row: Row) -> bytes:
    """Return the metadata of a sample as its ``.json`` member has it."""
    told = {
        "key": row.key,
        "url": row.url,
        "final_url": row.final_url,
        "status": row.status,
        "http_status": row.http_status,
        "size": row.size,
        "sha256": row.sha256,
        "verified": row.verified,
        "content_type": row.content_type,
        "etag": row.etag,
        "last_modified": row.last_modified,
    }
    text = json.dumps(told)
    return f'{text[:-1]}, "info": {row.info or "null"}}}'.encode("ascii")


def winners(rows: Iterable[Recorded]) -> list[Row]:
    """Return one row for each request, in order: what a later run did again counts, a failure only without success."""
    last: dict[str, Row] = {}
    for one in rows:
        known = last.get(one.row.identity)
        if known is None or known.status == FAILED:
            last.pop(one.row.identity, None)
            last[one.row.identity] = one.row
    return list(last.values())


def _field(headers: Any, name: str) -> str | None:
    value = None if headers is None else headers.get(name)
    return None if value is None else _text(printable(value))


def _text(text: str) -> str:
    """``text`` as UTF-8 can have it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _json(info: object) -> str | None:
    """``info`` in ASCII, or None if it is nothing that JSON has."""
    if info is None:
        return None
    try:
        return json.dumps(info, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
