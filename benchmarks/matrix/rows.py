"""The thirty rows: what goes wrong, what was there before, and what would be right."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from . import scripts
from .scripts import GROWN, LARGE, LARGE_NEW, NEW, OBJECT, Version, honest, once
from .server import Script

__all__ = ["CREEPING", "DIGEST", "INTERRUPTED", "OLD", "ROWS", "SMALL_DISK", "Row"]

SMALL_DISK = 1 << 20
INTERRUPTED = 7 << 20  # bytes, of LARGE
OLD = OBJECT.data[::-1][: 256 << 10]
"""The good old version of row 26."""
DIGEST = hashlib.sha256(OBJECT.data).hexdigest()
"""The checksum of row 30, where the server has another object."""
CREEPING = honest(OBJECT, rate=160 << 10)
"""Slow enough to be killed on the way."""
AMBLE = 4 << 20
"""Bytes per second for each connection where all segments have to be asked for before the first has come."""


@dataclass(frozen=True)
class Row:
    """One fault.

    :param number: 1 to 30.
    :param title: a few words for the table.
    :param sentence: what happens.
    :param must: what aiodownload has to make of it.
    :param script: how the server answers.
    :param wanted: the contents that are right; none where only a failure is.
    :param mode: how the tool is called (a key of the tool's modes); ``"resume"``: after a run that was interrupted
        while it fetched LARGE.
    :param killed: the run is killed after 1.5 s; ``"before"``: a run before this one was.
    :param name: the last segment of the URL.
    """

    number: int
    title: str
    sentence: str
    must: str
    script: Script
    wanted: tuple[bytes, ...] = (OBJECT.data,)
    mode: str = "plain"
    killed: str = ""
    name: str = "f.bin"


def _resume(number: int, title: str, sentence: str, script: Script, wanted: Version = LARGE) -> Row:
    return Row(number, f"resume: {title}", sentence, "OK", script, (wanted.data,), "resume")


def _if_further(lie: Script) -> Script:
    return scripts.when(scripts.further_on, lie, honest(LARGE))


_HALF_GZIP = OBJECT.packed[: len(OBJECT.packed) // 2]
_REPLACED = "the object was replaced by another one of the same size"

ROWS = [
    Row(
        1,
        "body always cut",
        "Content-Length says 4 MiB, and the connection closes after 2 MiB, every time; the server knows no ranges.",
        "LC",
        honest(OBJECT, ranges=False, share=0.5),
        (),
    ),
    Row(
        2,
        "chunked, cut",
        "A chunked body ends after 2 MiB, every time, without the last chunk.",
        "LC",
        scripts.chunked(OBJECT, share=0.5),
        (),
    ),
    Row(
        3,
        "extra bytes",
        "More bytes follow the 4 MiB that Content-Length says.",
        "OK",
        scripts.fixed(200, OBJECT.data + bytes(1000), len(OBJECT.data)),
    ),
    Row(
        4,
        "302 without Location",
        "A 302 with a body of five bytes and no Location.",
        "LC",
        scripts.fixed(302, b"moved"),
        (),
    ),
    Row(5, "204", "A 204, which has no content.", "LC", scripts.fixed(204), ()),
    Row(
        6,
        "206 unasked, once",
        "The first request without Range gets a 206 with the first half; all others are answered honestly.",
        "OK or LC",
        scripts.when(
            lambda exchange: scripts.without_range(exchange) and exchange.claim("half", keep=True),
            scripts.first_half(OBJECT),
            honest(OBJECT),
        ),
    ),
    Row(
        7,
        "206 unasked, always",
        "Every request gets a 206 with the first half.",
        "LC",
        scripts.first_half(OBJECT),
        (),
    ),
    Row(
        8,
        "gzip cut, length agrees",
        "Half of a gzip body, with a Content-Length that agrees with the half.",
        "LC",
        scripts.fixed(200, _HALF_GZIP, Content_Encoding="gzip"),
        (),
    ),
    Row(
        9,
        "gzip, asked for or not",
        "The whole body with Content-Encoding: gzip.  Stored as sent and decoded are both right.",
        "OK",
        scripts.fixed(200, OBJECT.packed, Content_Encoding="gzip", ETag='"z"'),
        (OBJECT.data, OBJECT.packed),
    ),
    Row(
        10,
        "503, Retry-After: 3",
        "The first answer is a 503 with Retry-After: 3.",
        "OK, waits",
        scripts.busy_once(503, 3, honest(OBJECT)),
    ),
    Row(
        11,
        "429, Retry-After: date",
        "The first answer is a 429 with a Retry-After that is a date, 4 to 5 s away.",
        "OK, waits",
        scripts.busy_once(429, 4, honest(OBJECT), date=True),
    ),
    Row(
        12,
        "cut once",
        "The first body is cut in the middle; then the server is honest.",
        "OK",
        once(honest(OBJECT, share=0.5), honest(OBJECT)),
    ),
    Row(
        13,
        "cut once, then replaced",
        f"The first body is cut in the middle; then {_REPLACED}, with an ETag of its own.",
        "OK",
        once(honest(OBJECT, share=0.5, rate=AMBLE), honest(NEW, rate=AMBLE)),
        (NEW.data,),
    ),
    _resume(
        14, "replaced", f"Since the interrupted run {_REPLACED}, with an ETag of its own.", honest(LARGE_NEW), LARGE_NEW
    ),
    _resume(
        15,
        "200",
        "The server no longer knows ranges: it answers every request with the whole object.",
        honest(LARGE, ranges=False),
    ),
    _resume(
        16,
        "206, wrong first byte",
        "A Range further on gets a 206 that begins 64 KiB too early, and says so in Content-Range.",
        _if_further(scripts.shifted(LARGE, 64 << 10)),
    ),
    _resume(
        17,
        "206, no Content-Range",
        "A Range further on gets a 206 with the right bytes, but without Content-Range.",
        _if_further(scripts.without_content_range(LARGE)),
    ),
    _resume(
        18,
        "206, another total",
        "Since the interrupted run the object was replaced by one that is 512 KiB longer.  The server does not mind "
        "If-Range and still gives the old ETag: only the total in Content-Range tells.",
        honest(GROWN, if_range=False),
        GROWN,
    ),
    _resume(
        19,
        "206 of the gzip form",
        "A Range further on is answered with a part of the gzip representation.",
        _if_further(
            honest(Version(LARGE.packed, LARGE.etag), if_range=False, more={"Content-Encoding": "gzip"}),
        ),
    ),
    _resume(
        20,
        "local part too long",
        "The object was replaced by one of 4 MiB, which is shorter than the part that is there.  The server does not "
        "mind If-Range: a Range beyond the end gets a 416 with the total.",
        honest(NEW, if_range=False),
        NEW,
    ),
    Row(
        21,
        "two replicas",
        "GETs go in turn to two replicas with different objects of the same size, each with its own ETag.",
        "OK or LC",
        scripts.alternating(honest(LARGE, rate=AMBLE), honest(LARGE_NEW, rate=AMBLE)),
        (LARGE.data, LARGE_NEW.data),
        mode="segments",
    ),
    Row(
        22,
        "one segment gets a 200",
        "The first Range that does not begin at the beginning is answered with a 200 and the whole object.",
        "OK",
        scripts.when(
            lambda exchange: scripts.further_on(exchange) and exchange.play.first_time("whole"),
            honest(LARGE, ranges=False, rate=AMBLE),
            honest(LARGE, rate=AMBLE),
        ),
        (LARGE.data,),
        mode="segments",
    ),
    Row(
        23,
        "segments get chunked 200s",
        "Every Range that does not begin at the beginning is answered with a chunked 200 and the whole object.",
        "OK",
        scripts.when(scripts.further_on, scripts.chunked(LARGE), honest(LARGE, rate=AMBLE)),
        (LARGE.data,),
        mode="segments",
    ),
    Row(
        24,
        "SIGKILL",
        "The program is killed 1.5 s after the first request of a slow and honest download.",
        "LC",
        CREEPING,
        killed="now",
    ),
    Row(
        25,
        "run again after SIGKILL",
        "After row 24, a second run with the tool's way of skipping or continuing what is there; the server is honest.",
        "OK",
        honest(OBJECT),
        mode="skip",
        killed="before",
    ),
    Row(
        26,
        "full disk, old version there",
        "A file system of 1 MiB, which holds a good old version of 256 KiB under the final name.",
        "LC, 1 request",
        honest(OBJECT),
        (OBJECT.data,),
        "replace",
    ),
    Row(
        27,
        "redirect to another origin",
        "The caller gives Authorization, Cookie and X-Api-Key; the server redirects to another host.",
        "OK, no leak",
        scripts.elsewhere,
        mode="headers",
    ),
    Row(
        28,
        "Content-Disposition escapes",
        'The server sends Content-Disposition: attachment; filename="../../evil", and the tool chooses the name.',
        "OK, no escape",
        honest(OBJECT, more={"Content-Disposition": 'attachment; filename="../../evil"'}),
        mode="server's name",
    ),
    Row(
        29,
        "URL escapes",
        "The last segment of the URL is ``..%2F..%2Fe4``, and the tool chooses the name.",
        "OK, no escape",
        honest(OBJECT),
        mode="URL's name",
        name="..%2F..%2Fe4",
    ),
    Row(
        30,
        "checksum does not agree",
        "The caller gives a SHA-256, and the server has another object.",
        "LC",
        honest(NEW),
        (),
        "checksum",
    ),
]
