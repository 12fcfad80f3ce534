"""accept_response(): are the bytes behind this response head the bytes that were asked for?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from ..redact import printable

__all__ = [
    "PLAIN",
    "Asked",
    "Complete",
    "Head",
    "Part",
    "Refuse",
    "Restart",
    "SentRange",
    "Unchanged",
    "UnsatisfiedRange",
    "Verdict",
    "Whole",
    "accept_response",
    "parse_content_range",
    "strong_etag",
]

LARGEST = 2**63 - 1  # what a file can hold; a larger number is no position and no length
_FEW_DIGITS = 18  # so few that they are below it
_DIGITS = 19  # of LARGEST: int() never sees more, since it is slow with many digits and raises beyond 4300
_SHOWN = 60  # characters of a field that a reason repeats
_OWS = " \t"  # RFC 9110 section 5.6.3; str.strip() alone would take more than that

_NUMBER = f"[0-9]{{1,{_DIGITS}}}"
# (?a): or (?i) would take the long s (U+017F) for an s.
_CONTENT_RANGE = rf"(?ai)bytes (?:({_NUMBER})-({_NUMBER})/(?:({_NUMBER})|\*)|\*/({_NUMBER}))"
# Bytes from 0x80 on are legal.  One that is no UTF-8 arrives as a lone surrogate, which If-Range could not carry back.
_STRONG_ETAG = '"[^\x00-\x20"\x7f\ud800-\udfff]*"'
# Searched for, not compared: a wrong match only costs a resume, a miss puts boundaries into the file.
_MULTIPART = "(?ai)multipart/(?:x-)?byteranges"


class Asked(NamedTuple):
    """What the request said.

    :param first: the first byte (int >= 0) of its ``Range: bytes=first-last`` or ``bytes=first-``; None: no Range.
    :param last: the last byte that was asked for, inclusive; None: up to the end.
    :param validator: the strong ETag, exactly as received, of the bytes that are held; it was sent as If-Range (RFC
        9110 section 13.1.5).  With None nobody vouches that old and new bytes belong together, but a digest may.
    :param total: the length in bytes of the whole representation, as the response before declared it.
    :param condition: whether If-None-Match or If-Modified-Since was sent.  Never together with a Range.
    """

    first: int | None = None
    last: int | None = None
    validator: str | None = None
    total: int | None = None
    condition: bool = False


PLAIN = Asked()  # a request without Range and without condition


class Head(NamedTuple):
    """The head of the response after the last redirect: raw field values, one for each field line."""

    status: int
    content_range: Sequence[str] = ()
    content_length: Sequence[str] = ()
    transfer_encoding: Sequence[str] = ()
    content_encoding: Sequence[str] = ()
    content_type: str = ""
    etag: Sequence[str] = ()


class Whole(NamedTuple):
    """The body is the whole representation from byte 0; whatever was held before is to be thrown away.

    :param length: bytes of the body as sent, before any decoding; None: not declared.
    :param etag: its strong ETag, exactly as received, or None.
    :param chunked: whether a last chunk marks its end.
    """

    length: int | None
    etag: str | None
    chunked: bool = False


class Part(NamedTuple):
    """The body is the bytes ``first`` to ``end`` (exclusive) of ``total``; perhaps fewer than were asked for."""

    first: int
    end: int
    total: int


class Unchanged:
    """What was asked about is still what the server has; the body is nothing."""


class Complete:
    """Every byte is held already; the body is nothing."""


class Restart(NamedTuple):
    """No byte of the body may be kept, but a request without Range may succeed."""

    reason: str


class Refuse(NamedTuple):
    """The body is not the file; no byte of it may be kept."""

    reason: str


Verdict: TypeAlias = Whole | Part | Unchanged | Complete | Restart | Refuse


class SentRange(NamedTuple):
    """``bytes first-last/total``: positions in bytes, ``last`` inclusive; ``total`` is None for ``*``."""

    first: int
    last: int
    total: int | None


class UnsatisfiedRange(NamedTuple):
    """``bytes */total``: nothing of the range that was asked for exists in ``total`` bytes."""

    total: int


_REASONS = {
    206: "a part (206) was sent though the whole was asked for",  # RFC 9110 section 15.3.7
    304: "304 Not Modified was sent to a request without a condition",  # RFC 9110 section 15.4.5
}


def accept_response(head: Head, asked: Asked = PLAIN) -> Verdict:
    """Judge ``head``, the answer to a GET or POST that said ``asked``.  Never raises, whatever the fields hold.

    Only four statuses can make or confirm a file: a 200 is the whole representation (RFC 9110 section 15.3.1), also
    as the answer to a Range (section 14.2); a 206 is a part of it if a Range was sent (section 15.3.7); a 304 confirms
    it if a condition was sent (section 15.4.5); a 416 to a Range can say that there is no more (section 15.5.17).
    201 to 205 speak of something else, and a 3xx that arrives here could not be followed.
    """
    if head.status == 200:
        return _whole(head)
    if head.status == 304 and asked.condition:
        return Unchanged()
    if head.status == 206 and asked.first is not None:
        return _part(head, asked, asked.first)
    if head.status == 416 and asked.first is not None:
        return _unsatisfied(head, asked)
    return _refuse(head.status)


def parse_content_range(value: str) -> SentRange | UnsatisfiedRange | None:
    """Return what one Content-Range field says in bytes, or None if it is malformed or invalid (RFC 9110 section 14.4).

    Whitespace around the value is no part of it.  The unit is case-insensitive; each number has 1 to 19 ASCII digits
    and is at most 2**63-1.  Invalid is a last byte before the first, or a total that does not exceed the last byte.
    """
    match = re.fullmatch(_CONTENT_RANGE, value.strip(_OWS))
    if match is None:
        return None
    first, last, total, unsatisfied = (None if digits is None else int(digits) for digits in match.groups())
    if first is None or last is None:
        return None if unsatisfied is None or unsatisfied > LARGEST else UnsatisfiedRange(unsatisfied)
    if max(last, total or 0) > LARGEST or last < first or (total is not None and total <= last):
        return None
    return SentRange(first, last, total)


def strong_etag(values: Iterable[str]) -> str | None:
    """Return the strong ETag that all ETag fields agree on, quotes included, or None (RFC 9110 section 8.8.3).

    None for no field, a weak tag (``W/"x"``), an illegal one (no quotes, a space in it), and fields that differ.
    """
    values = list(values)
    if not values:
        return None
    tag = values[0].strip(_OWS)
    if len(values) > 1 and any(value.strip(_OWS) != tag for value in values):
        return None
    inner = tag[1:-1]
    if tag == f'"{inner}"' and inner.isascii() and inner.isprintable():  # nearly always
        return None if " " in inner or '"' in inner else tag
    return tag if re.fullmatch(_STRONG_ETAG, tag) else None


def _is_chunked(transfer_encoding: Iterable[str]) -> bool | None:
    """Whether these Transfer-Encoding fields mark the end of a body by a last chunk (RFC 9112 section 6.1).

    :returns: False for no field; None for anything else than ``chunked``, once: nothing else was asked for (TE), and
        whoever reads it otherwise than the server, such as a body until the connection closes, ends it elsewhere.
    """
    codings = [coding.strip(_OWS).lower() for value in transfer_encoding for coding in value.split(",")]
    return codings == ["chunked"] or (None if codings else False)


def _whole(head: Head) -> Whole | Refuse:
    if head.transfer_encoding:  # it overrides Content-Length (RFC 9112 section 6.3)
        if _is_chunked(head.transfer_encoding) is None:
            return Refuse(f"Transfer-Encoding {_shown(head.transfer_encoding)} is not understood")
        return Whole(None, strong_etag(head.etag), chunked=True)
    if not head.content_length:
        return Whole(None, strong_etag(head.etag))
    length = _declared_length(head.content_length)
    if length is None:
        return Refuse(f"Content-Length {_shown(head.content_length)} is no length")
    return Whole(length, strong_etag(head.etag))


def _part(head: Head, asked: Asked, first: int) -> Part | Restart:
    """Judge a 206: bytes may only be combined if all that is said fits (RFC 9110 sections 14.4 and 15.3.7)."""
    fault = _other_representation(head, asked)
    if fault is None and _is_chunked(head.transfer_encoding) is None:
        fault = f"Transfer-Encoding {_shown(head.transfer_encoding)} is not understood"
    if fault is not None:
        return Restart(fault)
    sent = _only_range(head)
    if not isinstance(sent, SentRange):
        return Restart(f"the part (206) does not say which bytes it is: Content-Range is {_of(head.content_range)}")
    total = sent.total if asked.total is None else asked.total
    if total is None:
        return Restart("neither the part (206) nor the response before it says how long the whole is")
    fault = _other_bytes(sent, asked, first, total)
    if fault is not None:
        return Restart(fault)
    end = sent.last + 1
    if head.content_length and _declared_length(head.content_length) != end - first:
        return Restart(f"a part (206) of {end - first} bytes came with Content-Length {_shown(head.content_length)}")
    return Part(first, end, total)


def _other_representation(head: Head, asked: Asked) -> str | None:
    """Why the part is of something else than the bytes that are held, or None."""
    # One range is never answered by several parts (RFC 9110 section 15.3.7.2); for the x- see section 14.6.
    if re.search(_MULTIPART, head.content_type):
        return "one range was asked for, but the part (206) is multipart/byteranges"
    # A range counts encoded bytes (RFC 9110 sections 8.4 and 14.1.2), and those that are held are not encoded.
    codings = {coding.strip(_OWS).lower() for value in head.content_encoding for coding in value.split(",")}
    if codings - {"", "identity"}:
        return f"the part (206) is one of an encoded body: {_shown(head.content_encoding)}"
    return _other_etag(head, asked)


def _other_etag(head: Head, asked: Asked) -> str | None:
    """Why the ETag is not that of the bytes that are held, or None.  Without ETag the If-Range vouches for them."""
    if not head.etag:
        return None
    # The strong comparison (RFC 9110 section 8.8.3.2): a weak tag equals none, not even itself.
    tag = strong_etag(head.etag)
    if tag is None or tag != asked.validator:
        return f"the file has changed at the server, or may have: its ETag is now {_shown(head.etag)}"
    return None


def _other_bytes(sent: SentRange, asked: Asked, first: int, total: int) -> str | None:
    """Why these are not bytes that were asked for, or None.  Fewer of them are legal (RFC 9110 section 15.3.7)."""
    if sent.total not in (None, total) or sent.last >= total:
        return f"the file has changed at the server: it had {total} bytes, and the part (206) does not fit into them"
    if sent.first != first:
        return f"the part (206) begins at byte {sent.first}, but byte {first} was asked for"
    if asked.last is not None and sent.last > asked.last:
        return f"the part (206) ends at byte {sent.last}, but byte {asked.last} is the last one that was asked for"
    return None


def _unsatisfied(head: Head, asked: Asked) -> Complete | Restart:
    """Judge a 416: only if it names the length that is held, byte for byte, there is no more (section 15.5.17)."""
    fault = _other_etag(head, asked)
    if fault is not None:
        return Restart(fault)
    sent = _only_range(head)
    if isinstance(sent, UnsatisfiedRange) and sent.total == asked.first == asked.total:
        return Complete()
    return Restart(f"the range from byte {asked.first} was refused (416); Content-Range is {_of(head.content_range)}")


def _only_range(head: Head) -> SentRange | UnsatisfiedRange | None:
    return parse_content_range(head.content_range[0]) if len(head.content_range) == 1 else None


def _refuse(status: int) -> Refuse:
    if not 100 <= status <= 599:
        return Refuse("the status of the response is no number from 100 to 599")
    if 300 <= status < 400 and status not in _REASONS:
        return Refuse(f"status {status} without a place to go on to")
    return Refuse(_REASONS.get(status, f"status {status} carries no file"))


def _declared_length(values: Sequence[str]) -> int | None:
    """Return the one length that all Content-Length fields agree on, or None (RFC 9110 section 8.6)."""
    if len(values) == 1 and len(values[0]) < _FEW_DIGITS and values[0].isascii() and values[0].isdigit():
        return int(values[0])  # nearly always
    texts = {text.strip(_OWS) for value in values for text in value.split(",")}
    if not all(re.fullmatch(_NUMBER, text) for text in texts):
        return None
    lengths = {int(text) for text in texts}
    return lengths.pop() if len(lengths) == 1 and max(lengths) <= LARGEST else None


def _of(values: Sequence[str]) -> str:
    return _shown(values) if values else "missing"


def _shown(values: Sequence[str]) -> str:
    text = ", ".join(values)
    return f"'{printable(text[:_SHOWN])}{'...' if len(text) > _SHOWN else ''}'"
