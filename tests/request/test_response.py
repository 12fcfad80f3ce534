"""What a response head may mean, given what was asked.

The rows name the rule that they hold:

- R5   several Content-Length fields agree, and each is a plain number (RFC 9110 section 8.6)
- R6   Transfer-Encoding beats Content-Length (RFC 9112 section 6.3)
- R7   only a 200, a 206 to our Range and a 304 to our condition make or confirm a file (RFC 9110 section 15)
- R8   a 206 to a request without Range is never a whole (section 15.3.7)
- R11  a part of an encoded body is no part of the file (sections 8.4 and 14.1.2)
- R12  only a strong ETag joins bytes of two responses (sections 8.8.3 and 13.1.5)
- R14  a 200 to a Range is the whole, from byte 0 (section 14.2)
- R15  every word of a Content-Range fits what was asked, or the part is not used (sections 14.4 and 15.3.7)
- R16  a part may be shorter than asked (section 15.3.7)
- R17  one range is not answered by multipart/byteranges (section 15.3.7.2)
- R18  a 416 means "complete" only if it names the length that is held (section 15.5.17)
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.redact import printable
from aiodownload.request.response import (
    PLAIN,
    Asked,
    Complete,
    Head,
    Part,
    Refuse,
    Restart,
    SentRange,
    Unchanged,
    UnsatisfiedRange,
    Verdict,
    Whole,
    accept_response,
    parse_content_range,
    strong_etag,
)

MOST = 2**63 - 1

# Bytes 100 to 199 of 1000 are asked for, and sent.
RANGE = Asked(first=100, last=199, validator='"v1"', total=1000)
OPEN = RANGE._replace(last=None)
PART = Head(206, ("bytes 100-199/1000",), ("100",), (), (), "application/octet-stream", ('"v1"',))
# All 1000 bytes are held, and the server says that there are no more.
ALL = Asked(first=1000, validator='"v1"', total=1000)
NO_MORE = Head(416, ("bytes */1000",), etag=('"v1"',))
CONDITION = Asked(condition=True)


def refused(head: Head, asked: Asked = PLAIN) -> str:
    """The reason for which ``head`` is refused."""
    verdict = accept_response(head, asked)
    assert isinstance(verdict, Refuse)
    return verdict.reason


def part(*content_range: str, **fields: Any) -> Head:
    """PART with another Content-Range, which its Content-Length fits if it has any."""
    digits = re.search("([0-9]{1,25})-([0-9]{1,25})/", "".join(content_range))
    if digits:
        fields.setdefault("content_length", (str(int(digits[2]) - int(digits[1]) + 1),))
    return PART._replace(content_range=content_range, **fields)


def unmeasured(head: Head) -> Head:
    """The same without Content-Length, so that nothing but the other fields can tell."""
    return head._replace(content_length=(), transfer_encoding=("chunked",))


# --- without Range and condition


@pytest.mark.parametrize("status", [status for status in range(100, 600) if status != 200])
def test_only_a_200_can_be_a_whole_file(status: int) -> None:
    """R7, R8: every status but 200 is refused, whatever its fields, with a reason that names the status."""
    for head in (Head(status), PART._replace(status=status), NO_MORE._replace(status=status)):
        assert str(status) in refused(head)


def test_no_other_status_answers_a_range_or_a_condition() -> None:
    """R7: to a Range only 200, 206 and 416 mean anything, to a condition only 200 and 304."""
    for asked, answers_it in ((RANGE, (200, 206, 416)), (ALL, (200, 206, 416)), (CONDITION, (200, 304))):
        for status in set(range(100, 600)).difference(answers_it):
            for head in (Head(status), PART._replace(status=status), NO_MORE._replace(status=status)):
                assert str(status) in refused(head, asked)


@pytest.mark.parametrize("status", [-1, 0, 1, 99, 600, 999, 2000, 2**64, 10**5000, -(10**5000)], ids=hex)
@pytest.mark.parametrize("asked", [PLAIN, RANGE, CONDITION], ids=["plain", "range", "condition"])
def test_a_number_that_is_no_status_is_refused(status: int, asked: Asked) -> None:
    """R7: a status outside of 100 to 599 is refused, and a huge one does not break the message."""
    assert "100 to 599" in refused(Head(status), asked)


def test_an_unasked_part_is_called_a_part() -> None:
    """R8: the reason for refusing a 206 says that it is a part and that the whole was asked for."""
    for asked in (PLAIN, CONDITION, Asked(last=199, validator='"v1"', total=1000)):
        assert accept_response(PART, asked) == Refuse("a part (206) was sent though the whole was asked for")


def test_an_unasked_304_is_called_unasked() -> None:
    """R7: the reason for refusing a 304 says that no condition was sent."""
    assert "condition" in refused(Head(304))


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 306, 307, 308, 399])
def test_a_redirect_to_nowhere_is_called_so(status: int) -> None:
    """R7: the reason for refusing another 3xx says that there is no place to go on to."""
    assert "without a place" in refused(Head(status))


def test_a_304_confirms_what_a_condition_asked_about() -> None:
    """R7: a 304 to our condition confirms the file, with or without an ETag."""
    assert isinstance(accept_response(Head(304), CONDITION), Unchanged)
    assert isinstance(accept_response(Head(304, etag=('"v1"',)), CONDITION), Unchanged)


# --- the whole


@pytest.mark.parametrize("asked", [PLAIN, RANGE, OPEN, ALL, CONDITION], ids=["plain", "range", "open", "all", "if"])
@pytest.mark.parametrize(
    ("head", "whole"),
    [
        pytest.param(Head(200), Whole(None, None), id="R7 nothing declared"),
        pytest.param(Head(200, content_length=("1000",)), Whole(1000, None), id="R7 length"),
        pytest.param(Head(200, content_length=("0",)), Whole(0, None), id="R7 empty"),
        pytest.param(Head(200, content_length=("5", "5")), Whole(5, None), id="R5 twice the same"),
        pytest.param(Head(200, content_length=("5, 5", " 5\t")), Whole(5, None), id="R5 a list of the same"),
        pytest.param(Head(200, content_length=(str(MOST),)), Whole(MOST, None), id="R5 the largest"),
        pytest.param(Head(200, transfer_encoding=("chunked",)), Whole(None, None, True), id="R6 chunked"),
        pytest.param(
            Head(200, content_length=("5",), transfer_encoding=("chunked",)), Whole(None, None, True), id="R6 both"
        ),
        pytest.param(
            Head(200, content_length=("x",), transfer_encoding=("chunked",)), Whole(None, None, True), id="R6 ill"
        ),
        pytest.param(Head(200, etag=('"v2"',)), Whole(None, '"v2"'), id="R14 a new strong ETag"),
        pytest.param(Head(200, etag=('"v1"',)), Whole(None, '"v1"'), id="R14 the same ETag"),
        pytest.param(Head(200, etag=('W/"v1"',)), Whole(None, None), id="R12 a weak ETag"),
        pytest.param(Head(200, etag=('"v1"', '"v2"')), Whole(None, None), id="R12 two ETags"),
        pytest.param(Head(200, content_encoding=("gzip",)), Whole(None, None), id="R14 encoded"),
        pytest.param(PART._replace(status=200), Whole(100, '"v1"'), id="R14 Content-Range means nothing here"),
    ],
)
def test_a_200_is_the_whole(asked: Asked, head: Head, whole: Whole) -> None:
    """R14: a 200 is the whole representation whatever was asked, with its own length and ETag pinned anew."""
    assert accept_response(head, asked) == whole


@pytest.mark.parametrize(
    "lengths",
    [
        ("5", "6"),
        ("5, 6",),
        ("5,",),
        ("",),
        ("-5",),
        ("+5",),
        ("0x20",),
        ("42s",),
        ("4 2",),
        ("1e3",),
        ("5.0",),
        ("\u0665",),
        ("5\n",),
        ("\xa05",),
        (str(MOST + 1),),
        ("9" * 19,),
        ("9" * 100_000,),
        (",".join("5" * 50_000) + ",6",),
    ],
    ids=lambda lengths: repr(lengths)[:30],
)
def test_a_length_that_is_none_is_refused(lengths: tuple[str, ...]) -> None:
    """R5: lengths that differ or are no plain number up to 2**63-1 make a 200 useless, and a 206 too."""
    assert "Content-Length" in refused(Head(200, content_length=lengths))
    verdict = accept_response(PART._replace(content_length=lengths), RANGE)
    assert isinstance(verdict, Restart)
    assert "Content-Length" in verdict.reason


# --- a part


@pytest.mark.parametrize(
    ("head", "asked", "kept"),
    [
        pytest.param(PART, RANGE, Part(100, 200, 1000), id="R15 exactly what was asked"),
        pytest.param(part("bytes 100-999/1000"), OPEN, Part(100, 1000, 1000), id="R15 up to the end"),
        pytest.param(part("bytes 100-100/1000"), RANGE, Part(100, 101, 1000), id="R16 one byte of it"),
        pytest.param(part("bytes 100-198/1000"), RANGE, Part(100, 199, 1000), id="R16 one byte less"),
        pytest.param(part("bytes 100-998/1000"), OPEN, Part(100, 999, 1000), id="R16 less than up to the end"),
        pytest.param(part("bytes 100-199/*"), RANGE, Part(100, 200, 1000), id="R15 total known from before"),
        pytest.param(part("bytes 100-999/*"), OPEN, Part(100, 1000, 1000), id="R15 no total, up to the end"),
        pytest.param(part("BYTES 100-199/1000"), RANGE, Part(100, 200, 1000), id="R15 unit in capitals"),
        pytest.param(part(" \tbytes 100-199/1000\t "), RANGE, Part(100, 200, 1000), id="R15 blanks around"),
        pytest.param(part("bytes 0100-0199/01000"), RANGE, Part(100, 200, 1000), id="R15 leading zeros"),
        pytest.param(PART, RANGE._replace(total=None), Part(100, 200, 1000), id="R15 total learned now"),
        pytest.param(part("bytes 0-0/1"), Asked(0, None, '"v1"'), Part(0, 1, 1), id="R15 the only byte"),
        pytest.param(
            part(f"bytes 0-{MOST - 1}/{MOST}"), Asked(0, None, '"v1"', MOST), Part(0, MOST, MOST), id="R15 the largest"
        ),
        pytest.param(part("bytes 100-999/1000"), RANGE._replace(last=5000), Part(100, 1000, 1000), id="R16 asked more"),
        pytest.param(PART._replace(etag=()), RANGE, Part(100, 200, 1000), id="R15 If-Range vouches"),
        pytest.param(PART._replace(etag=('"v1"', ' "v1"')), RANGE, Part(100, 200, 1000), id="R15 ETag twice"),
        pytest.param(PART._replace(content_length=()), RANGE, Part(100, 200, 1000), id="R15 no length"),
        pytest.param(PART._replace(content_length=("100, 100",)), RANGE, Part(100, 200, 1000), id="R5 length twice"),
        pytest.param(
            PART._replace(content_length=(), transfer_encoding=("chunked",)), RANGE, Part(100, 200, 1000), id="R6"
        ),
        pytest.param(PART._replace(content_encoding=("identity",)), RANGE, Part(100, 200, 1000), id="R11 identity"),
        pytest.param(PART._replace(content_encoding=("Identity, ",)), RANGE, Part(100, 200, 1000), id="R11 Identity"),
        pytest.param(PART._replace(content_type=""), RANGE, Part(100, 200, 1000), id="R17 no type"),
        pytest.param(PART._replace(content_type="multipart/mixed"), RANGE, Part(100, 200, 1000), id="R17 another type"),
    ],
)
def test_a_part_that_fits_is_kept(head: Head, asked: Asked, kept: Part) -> None:
    """R15, R16: a 206 whose every word fits is a part; each word that may be left out is left out once."""
    assert accept_response(head, asked) == kept


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(part("bytes 99-199/1000"), id="R15 first one less"),
        pytest.param(part("bytes 101-199/1000"), id="R15 first one more"),
        pytest.param(part("bytes 0-199/1000"), id="R15 from byte 0"),
        pytest.param(part("bytes 100-200/1000"), id="R15 last one more"),
        pytest.param(part("bytes 100-999/1000"), id="R15 up to the end"),
        pytest.param(part("bytes 100-199/999"), id="R15 total one less"),
        pytest.param(part("bytes 100-199/1001"), id="R15 total one more"),
        pytest.param(part("bytes 100-199/200"), id="R15 total ends with it"),
        pytest.param(part("bytes 100-199/199"), id="R15 total equals last"),
        pytest.param(part("bytes 100-199/0"), id="R15 total zero"),
        pytest.param(part("bytes 99-198/1000"), id="R15 shifted down"),
        pytest.param(part("bytes 101-200/1000"), id="R15 shifted up"),
        pytest.param(part("bytes 100-99/1000"), id="R15 no byte at all"),
        pytest.param(part("bytes 199-100/1000"), id="R15 backwards"),
        pytest.param(part("bytes 200-199/1000"), id="R15 after what was asked"),
        pytest.param(part("bytes */1000"), id="R15 unsatisfied"),
        pytest.param(part("bytes *"), id="R15 *"),
        pytest.param(part("*"), id="R15 nothing but *"),
        pytest.param(part("bytes */*"), id="R15 no range, no total"),
        pytest.param(part("bytes 100-*/1000"), id="R15 last is *"),
        pytest.param(part("bytes *-199/1000"), id="R15 first is *"),
        pytest.param(part("bytes 100-/1000"), id="R15 no last"),
        pytest.param(part("bytes -199/1000"), id="R15 no first"),
        pytest.param(part("bytes 100-199"), id="R15 no total"),
        pytest.param(part("bytes 100-199/"), id="R15 empty total"),
        pytest.param(part("byte 100-199/1000"), id="R15 unit byte"),
        pytest.param(part("octets 100-199/1000"), id="R15 unit octets"),
        pytest.param(part("items 100-199/1000"), id="R15 unit items"),
        pytest.param(part("xbytes 100-199/1000"), id="R15 unit ends with bytes"),
        pytest.param(part("100-199/1000"), id="R15 no unit"),
        pytest.param(part("bytes=100-199/1000"), id="R15 as in Range"),
        pytest.param(part("bytes: 100-199/1000"), id="R15 colon"),
        pytest.param(part(""), id="R15 empty"),
        pytest.param(part(), id="R15 none"),
        pytest.param(part("bytes 100-199/1000", "bytes 100-199/1000"), id="R15 twice the same"),
        pytest.param(part("bytes 100-199/1000", "bytes 200-299/1000"), id="R15 two different"),
        pytest.param(part("bytes 100-199/1000, bytes 100-199/1000"), id="R15 a list"),
        pytest.param(PART._replace(etag=('"v2"',)), id="R15 another ETag"),
        pytest.param(PART._replace(etag=('"V1"',)), id="R15 ETag in capitals"),
        pytest.param(PART._replace(etag=('W/"v1"',)), id="R12 weak ETag"),
        pytest.param(PART._replace(etag=("v1",)), id="R12 ETag without quotes"),
        pytest.param(PART._replace(etag=("",)), id="R12 empty ETag"),
        pytest.param(PART._replace(etag=('"v1"', '"v2"')), id="R12 two ETags"),
        pytest.param(PART._replace(content_encoding=("gzip",)), id="R11 gzip"),
        pytest.param(PART._replace(content_encoding=("identity, br",)), id="R11 br in a list"),
        pytest.param(PART._replace(content_encoding=("identity", "ZSTD")), id="R11 zstd in a second field"),
        pytest.param(PART._replace(content_encoding=("none",)), id="R11 unknown"),
        pytest.param(PART._replace(content_type="multipart/byteranges; boundary=x"), id="R17 with all else right"),
        pytest.param(part(content_type="multipart/byteranges"), id="R17 without Content-Range"),
        pytest.param(PART._replace(content_type="Multipart/ByteRanges;boundary=x"), id="R17 in capitals"),
        pytest.param(PART._replace(content_type="multipart/x-byteranges; boundary=x"), id="R17 of the old draft"),
        pytest.param(PART._replace(content_type="text/plain, multipart/byteranges"), id="R17 in a second field"),
    ],
)
def test_a_part_that_does_not_fit_is_thrown_away(head: Head) -> None:
    """R15, R17: one wrong word in a 206 is enough, however right the others are; the next request has no Range."""
    for framed in (head, unmeasured(head)):
        assert isinstance(accept_response(framed, RANGE), Restart)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(PART._replace(content_length=("99",)), id="R15 length one less"),
        pytest.param(PART._replace(content_length=("101",)), id="R15 length one more"),
        pytest.param(PART._replace(content_length=("0",)), id="R15 length zero"),
        pytest.param(PART._replace(content_length=("1000",)), id="R15 length of the whole"),
        pytest.param(PART._replace(content_length=("100", "101")), id="R5 two lengths"),
        pytest.param(
            PART._replace(content_length=("99",), transfer_encoding=("chunked",)), id="R15 length and chunked"
        ),
    ],
)
def test_a_part_of_another_length_is_thrown_away(head: Head) -> None:
    """R5, R15: a Content-Length that is sent is the length of the range that is sent."""
    assert isinstance(accept_response(head, RANGE), Restart)


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        pytest.param(part("bytes 100-199/*"), RANGE._replace(total=None), id="R15 nobody names a total"),
        pytest.param(part("bytes 100-1000/*"), OPEN, id="R15 * but beyond the known total"),
        pytest.param(part("bytes 100-1000/1001"), OPEN, id="R15 it has grown"),
        pytest.param(part("bytes 100-1000/*"), RANGE._replace(last=1999), id="R15 asked beyond the known total"),
        pytest.param(part("bytes 1000-1000/*"), ALL, id="R15 a byte after the end"),
        pytest.param(part("bytes 1000-1000/1001"), ALL, id="R15 a byte after the end, with a total"),
        pytest.param(PART, RANGE._replace(validator=None), id="R12 no validator to compare the ETag with"),
        pytest.param(PART._replace(etag=('W/"v1"',)), RANGE._replace(validator=None), id="R12 weak, no validator"),
        pytest.param(PART._replace(etag=('W/"v1"',)), RANGE._replace(validator='W/"v1"'), id="R12 weak equals none"),
        pytest.param(part("bytes 100-1999/1000"), Asked(100, 1999, '"v1"', 1000), id="R15 last beyond its own total"),
        pytest.param(part("bytes 1-1/1000"), Asked(0, 0, '"v1"', 1000), id="R15 byte 0 asked"),
        pytest.param(part(f"bytes 0-{MOST}/*"), Asked(0, None, '"v1"', MOST), id="R15 beyond the largest"),
    ],
)
def test_what_was_known_before_binds_the_part(head: Head, asked: Asked) -> None:
    """R12, R15: the pinned total and the validator hold, also where the Content-Range alone is right."""
    for framed in (head, unmeasured(head)):
        assert isinstance(accept_response(framed, asked), Restart)


# --- no more


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(NO_MORE, id="R18"),
        pytest.param(NO_MORE._replace(etag=()), id="R18 no ETag"),
        pytest.param(NO_MORE._replace(content_range=(" Bytes */1000 ",)), id="R18 in capitals"),
        pytest.param(NO_MORE._replace(content_length=("162",), content_type="text/html"), id="R18 with an error page"),
        pytest.param(NO_MORE._replace(content_encoding=("gzip",)), id="R18 with an encoded error page"),
    ],
)
def test_a_416_may_say_that_all_is_held(head: Head) -> None:
    """R18: the length it names is the length that is held and was declared; the error page is not looked at."""
    assert isinstance(accept_response(head, ALL), Complete)


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        pytest.param(NO_MORE._replace(content_range=("bytes */999",)), ALL, id="R18 one less"),
        pytest.param(NO_MORE._replace(content_range=("bytes */1001",)), ALL, id="R18 one more"),
        pytest.param(NO_MORE._replace(content_range=("bytes */0",)), ALL, id="R18 empty now"),
        pytest.param(NO_MORE._replace(content_range=()), ALL, id="R18 no Content-Range"),
        pytest.param(NO_MORE._replace(content_range=("bytes */1000",) * 2), ALL, id="R18 twice"),
        pytest.param(NO_MORE._replace(content_range=("bytes */*",)), ALL, id="R18 no length"),
        pytest.param(NO_MORE._replace(content_range=("bytes 0-999/1000",)), ALL, id="R18 a range"),
        pytest.param(NO_MORE._replace(content_range=("items */1000",)), ALL, id="R18 another unit"),
        pytest.param(NO_MORE._replace(etag=('"v2"',)), ALL, id="R18 another ETag"),
        pytest.param(NO_MORE._replace(etag=('W/"v1"',)), ALL, id="R18 weak ETag"),
        pytest.param(NO_MORE, ALL._replace(first=999), id="R18 one byte is missing"),
        pytest.param(NO_MORE, ALL._replace(first=1001), id="R18 one byte too many is held"),
        pytest.param(NO_MORE, ALL._replace(total=None), id="R18 no total from before"),
        pytest.param(NO_MORE, ALL._replace(total=1001), id="R18 another total from before"),
        pytest.param(NO_MORE._replace(content_range=("bytes */1001",)), ALL._replace(first=1001), id="R18 grown alike"),
        pytest.param(NO_MORE, RANGE, id="R18 a range that exists"),
    ],
)
def test_any_other_416_starts_again(head: Head, asked: Asked) -> None:
    """R18: a 416 that does not name exactly what is held means that the range must be given up."""
    assert isinstance(accept_response(head, asked), Restart)


# --- the grammar


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("bytes 0-0/1", SentRange(0, 0, 1)),
        ("bytes 42-1233/1234", SentRange(42, 1233, 1234)),
        ("bytes 42-1233/*", SentRange(42, 1233, None)),
        ("bytes */1234", UnsatisfiedRange(1234)),
        ("bytes */0", UnsatisfiedRange(0)),
        ("ByTeS 0-0/1", SentRange(0, 0, 1)),
        ("\t bytes 0-0/1 \t", SentRange(0, 0, 1)),
        ("bytes 00-00/01", SentRange(0, 0, 1)),
        (f"bytes 0-{MOST - 1}/{MOST}", SentRange(0, MOST - 1, MOST)),
        (f"bytes {MOST}-{MOST}/*", SentRange(MOST, MOST, None)),
        (f"bytes */{MOST}", UnsatisfiedRange(MOST)),
    ],
)
def test_content_ranges_are_read(value: str, parsed: object) -> None:
    """R15: each form of the grammar, and the largest numbers (RFC 9110 section 14.4)."""
    assert parse_content_range(value) == parsed


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "bytes",
        "bytes ",
        "bytes 0-0",
        "bytes 0/1",
        "bytes 0-0/",
        "bytes -0/1",
        "bytes 0-/1",
        "bytes /1",
        "bytes */",
        "bytes */*",
        "bytes *",
        "bytes *-*/*",
        "bytes=0-0/1",
        "bytes0-0/1",
        "bytes  0-0/1",
        "bytes\t0-0/1",
        "bytes\xa00-0/1",
        "bytes 0 -0/1",
        "bytes 0- 0/1",
        "bytes 0-0 /1",
        "bytes 0-0/ 1",
        "bytes 0-0/1;",
        "bytes 0-0/1 x",
        "x bytes 0-0/1",
        "bytes 0-0/1, bytes 0-0/1",
        "bytes 0-0,1-1/2",
        "bytes +0-0/1",
        "bytes 0-+0/1",
        "bytes 0-0/+1",
        "bytes -1-0/1",
        "bytes 0--1/1",
        "bytes 0-0/-1",
        "bytes 0x0-0x0/0x1",
        "bytes 0x20-0x20/0x42",
        "bytes 0_0-0_0/1_0",
        "bytes 0.0-0.0/1.0",
        "bytes 0-0/1e3",
        "bytes \u0664\u0662-\u0664\u0662/\u0664\u0663",
        "bytes \uff10-\uff10/\uff11",
        "bytes 0-0/\u00b9",
        "byte\u017f 0-0/1",
        "b\u0443tes 0-0/1",
        "\xa0bytes 0-0/1",
        "bytes 0-0/1\n",
        "bytes 0-0/1\r\n",
        "\x0bbytes 0-0/1",
        "bytes 0-0/1\0",
        "bytes 0-0/1\x1f",
        "bytes 1-0/2",
        "bytes 0-1/1",
        "bytes 0-0/0",
        "bytes 5-9/5",
        f"bytes 0-0/{MOST + 1}",
        f"bytes 0-{MOST + 1}/*",
        f"bytes 0-{MOST}/{MOST + 1}",
        f"bytes {MOST + 1}-{MOST + 1}/*",
        f"bytes */{MOST + 1}",
        f"bytes */{2**64}",
        f"bytes {2**64}-{2**64}/{2**64 + 1}",
        "bytes " + "9" * 100_000 + "-0/1",
        "bytes 0-" + "9" * 100_000 + "/*",
        "bytes 0-0/" + "9" * 100_000,
        "bytes */" + "9" * 100_000,
        "bytes 0-0/" + "0" * 100_000 + "1",
        "9" * 100_000,
        " " * 100_000,
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_content_range_is_none(value: str) -> None:
    """R15: nothing but the grammar is read, and 100,000 digits do not crash (int() refuses more than 4,300)."""
    assert parse_content_range(value) is None
    assert isinstance(accept_response(unmeasured(part(value)), RANGE), Restart)


@pytest.mark.parametrize(
    ("values", "tag"),
    [
        (['"xyzzy"'], '"xyzzy"'),
        (['""'], '""'),
        ([' "x"\t'], '"x"'),
        (['"x"', '"x"'], '"x"'),
        (['"!#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~"'], '"!#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~"'),
        (['"caf\xe9\u65e5"'], '"caf\xe9\u65e5"'),
        ([], None),
        ([""], None),
        (['W/"x"'], None),
        (['w/"x"'], None),
        (["x"], None),
        (['"x'], None),
        (['x"'], None),
        (['"'], None),
        (["'x'"], None),
        (['"x" '], '"x"'),
        (['"x"y'], None),
        (['"x""y"'], None),
        (['"x", "y"'], None),
        (['"x y"'], None),
        (['"x\ty"'], None),
        (['"x\r\ny"'], None),
        (['"x"\n'], None),
        (['"x\0"'], None),
        (['"x\x7f"'], None),
        (['"x\udce9"'], None),
        (['"x"', '"y"'], None),
        (['"x"', 'W/"x"'], None),
        (['"x"', ""], None),
    ],
)
def test_only_a_strong_etag_is_one(values: list[str], tag: str | None) -> None:
    """R12: quoted, not weak, of legal characters, and only one; also legal: none that could not be sent back."""
    assert strong_etag(values) == tag
    assert strong_etag(iter(values)) == tag


def test_verdicts_are_values() -> None:
    """Two verdicts on the same head are equal, and none can be changed."""
    first = accept_response(Head(404))
    assert first == accept_response(Head(404))
    assert {accept_response(PART, RANGE), accept_response(PART, RANGE)} == {Part(100, 200, 1000)}
    with pytest.raises(AttributeError):
        first.reason = "none"  # type: ignore[misc,union-attr]


# --- any text, any server


def harmless(verdict: Verdict) -> None:
    """A reason is one short printable line."""
    if isinstance(verdict, (Restart, Refuse)):
        assert verdict.reason
        assert verdict.reason == printable(verdict.reason)
        assert len(verdict.reason) < 1000


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;x\x07", "a\r\nSet-Cookie: b", "\u202egnp", "\udce9", "9" * 100_000])
def test_reasons_repeat_nothing_dangerous(text: str) -> None:
    """A field full of escapes or of a hundred thousand digits becomes a short printable reason."""
    for name in ("content_range", "content_length", "content_encoding", "etag"):
        for fields in ((text,), (text,) * 1000):
            for status, asked in ((200, PLAIN), (206, RANGE), (416, ALL)):
                changes: dict[str, Any] = {name: fields}
                verdict = accept_response(PART._replace(status=status, **changes), asked)
                harmless(verdict)
                assert text not in repr(verdict)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(st.characters(exclude_categories=())))
def test_no_text_breaks_the_parser(value: str) -> None:
    """Whatever the text, parsing gives an answer; only the grammar gives a range."""
    assert parse_content_range(value) is None or "bytes" in value.lower()


_PIECES = st.one_of(
    st.sampled_from(
        ["bytes", "Bytes", "byte\u017f", " ", "  ", "\t", "\n", "-", "/", "*", "=", ",", "+", "\0", "\ud800"]
    ),
    st.sampled_from(["0", "00", "1", "7", "42", "\u0664", "0x20", str(MOST), str(MOST + 1), "9" * 5000]),
)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(
    st.one_of(
        st.lists(_PIECES, max_size=9),
        st.tuples(*(st.just(piece) | _PIECES for piece in ("bytes", " ", "0", "-", "7", "/", "42"))),
    ).map("".join)
)
def test_no_mixture_of_pieces_breaks_the_parser(value: str) -> None:
    """Texts that are nearly ranges: what is read says, written out again, the same as the text."""
    parsed = parse_content_range(value)
    if parsed is None:
        return
    if isinstance(parsed, SentRange):
        assert 0 <= parsed.first <= parsed.last <= MOST
        assert parsed.total is None or parsed.last < parsed.total <= MOST
        again = f"bytes {parsed.first}-{parsed.last}/{'*' if parsed.total is None else parsed.total}"
    else:
        again = f"bytes */{parsed.total}"
    assert re.sub(r"(?<![0-9])0+(?=[0-9])", "", value.lower()).strip(" \t") == again


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.integers(0, MOST), st.integers(0, MOST), st.integers(0, MOST) | st.none())
def test_every_valid_range_is_read_and_no_other(first: int, last: int, total: int | None) -> None:
    """A range is what it says exactly if its bytes exist."""
    parsed = parse_content_range(f"bytes {first}-{last}/{'*' if total is None else total}")
    exists = first <= last and (total is None or last < total)
    assert parsed == (SentRange(first, last, total) if exists else None)


@dataclass(frozen=True)
class Version:
    """One state of a file at the server."""

    etag: str
    data: bytes


# Same length, longer, shorter, and one that begins like the first: whichever is mixed with another one shows.
_VERSIONS = [
    Version('"a"', bytes(range(12))),
    Version('"b"', bytes(range(100, 112))),
    Version('"c"', bytes(range(200, 215))),
    Version('"d"', bytes(range(150, 157))),
    Version('"e"', bytes(range(12)) + b"more"),
]


@dataclass(frozen=True)
class Answer:
    """A response whose head is true: what it says is what is in the body."""

    head: Head
    body: bytes
    now: Version


_rarely = st.sampled_from([False] * 6 + [True])


@st.composite
def requests(draw: st.DrawFn) -> tuple[Asked, Version]:
    """A Range request by one who holds the first bytes of some version."""
    held = draw(st.sampled_from(_VERSIONS))
    size = len(held.data)
    first = size if draw(_rarely) else draw(st.integers(0, size - 1))
    last = draw(st.none() | st.integers(first, size + 2))
    return Asked(first, last, held.etag, None if draw(_rarely) else size), held


@st.composite
def answers(draw: st.DrawFn, asked: Asked, held: Version) -> Answer:
    """What a server sends that says truly what it sends, and sends whatever it likes.

    Any version, any range, any coding; cut short if a Content-Length tells; without ETag only if nothing changed.
    """
    now = draw(st.sampled_from([held] * 5 + _VERSIONS))
    encoded = draw(_rarely)
    data = gzip.compress(now.data, mtime=0) if encoded else now.data
    status = draw(st.sampled_from([206, 206, 206, 206, 200, 416, 404]))
    if asked.first == len(held.data):
        status = draw(st.sampled_from([416, status]))
    chunked, body, content_range, content_type = draw(st.booleans()), data, "", "text/plain"
    if status == 206:
        first = draw(st.integers(0, 20)) if draw(_rarely) else asked.first or 0
        first = min(first, len(data) - 1)
        last = len(data) - 1 if asked.last is None or draw(_rarely) else min(asked.last, len(data) - 1)
        last = draw(st.integers(first, max(first, last)))
        content_range = f"bytes {first}-{last}/{'*' if draw(_rarely) else len(data)}"
        body = data[first : last + 1]
        if draw(_rarely):
            body, content_type = b"--x\r\n\r\n" + body + b"\r\n--x--", "multipart/byteranges; boundary=x"
        elif not chunked and draw(_rarely):
            body = body[: draw(st.integers(0, len(body)))]
    elif status == 416:
        body, content_range = b"no such range", f"bytes */{len(data)}"
    etags = [(now.etag,), (now.etag,), (), (f"W/{now.etag}",)] if now is held else [(now.etag,)]
    head = Head(
        status,
        content_range=(content_range,) if content_range else (),
        content_length=() if chunked else (str(len(body)),),
        transfer_encoding=("chunked",) if chunked else (),
        content_encoding=("gzip",) if encoded else (),
        content_type=content_type,
        etag=draw(st.sampled_from(etags)),
    )
    return Answer(head, body, now)


def test_no_server_gets_a_wrong_byte_in() -> None:
    """R11-R18: whatever a server sends, what is kept together with what is held is one version from byte 0.

    Parts are appended, wholes replace, and "complete" changes nothing; each of them happens.
    """
    seen: Counter[type] = Counter()

    @settings(max_examples=600, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def serve(data: st.DataObject) -> None:
        asked, held = data.draw(requests())
        answer = data.draw(answers(asked, held))
        verdict = accept_response(answer.head, asked)
        seen[type(verdict)] += 1
        harmless(verdict)
        if isinstance(verdict, Part):
            assert held.data[: asked.first] + answer.body == held.data[: verdict.end]
            assert (verdict.first, verdict.total) == (asked.first, len(held.data))
        elif isinstance(verdict, Whole):
            body = gzip.decompress(answer.body) if answer.head.content_encoding else answer.body
            assert body == answer.now.data
            assert verdict.etag in (None, answer.now.etag)
        elif isinstance(verdict, Complete):
            assert held.data[: asked.first] == answer.now.data
        else:
            assert isinstance(verdict, Refuse if answer.head.status == 404 else Restart)

    serve()
    assert seen[Part] > 30, seen
    assert all(seen[kind] for kind in (Whole, Complete, Restart, Refuse)), seen


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(requests(), st.integers(0, 30), st.booleans(), st.booleans(), st.booleans())
def test_an_honest_server_is_believed(
    request: tuple[Asked, Version], fewer: int, with_etag: bool, with_total: bool, with_length: bool
) -> None:
    """R15, R16, R18: the range that was asked for, or the first bytes of it, is kept; after the end it is complete."""
    asked, held = request
    size = len(held.data)
    etag = (held.etag,) if with_etag else ()
    if asked.first is None or asked.first == size:
        verdict = accept_response(Head(416, (f"bytes */{size}",), etag=etag), asked)
        assert isinstance(verdict, Complete if asked.total else Restart)
        return
    end = size if asked.last is None else min(size, asked.last + 1)
    end = max(asked.first + 1, end - fewer)
    total = size if with_total or asked.total is None else "*"
    length = (str(end - asked.first),) if with_length else ()
    head = Head(206, (f"bytes {asked.first}-{end - 1}/{total}",), content_length=length, etag=etag)
    assert accept_response(head, asked) == Part(asked.first, end, size)


_SPOILT: dict[str, st.SearchStrategy[Any]] = {
    "status": st.sampled_from([200, 203, 204, 304, 404, 416, 207, 0]),
    "content_range": st.sampled_from(["{0}|{0}", "{0}, {0}", "", "bytes */{2}", "bytes {0}", "x{0}", "{0}x"]),
    "unit": st.sampled_from(["Bytes ", "bytes  ", "bytes=", "byte ", "bytes\t", ""]),
    "content_length": st.lists(st.sampled_from([*"0123456789", "x", "-3", "+3", ""]), max_size=2).map(tuple),
    "content_encoding": st.lists(
        st.sampled_from(["identity", "Identity", "gzip", "identity, gzip", "x", ""]), max_size=2
    ).map(tuple),
    "content_type": st.sampled_from(["", "multipart/byteranges; boundary=x", "MULTIPART/byteranges", "multipart/x"]),
    "etag": st.lists(st.sampled_from(['"a"', '"b"', 'W/"a"', "a", ""]), max_size=2).map(tuple),
}
_nudge = st.sampled_from([0, 0, 0, 0, -1, 1])


@st.composite
def claims(draw: st.DrawFn) -> tuple[Head, Asked]:
    """A request, and a head that would answer it if its numbers were not off by one here and there.

    Up to two more of its fields are spoilt at random.
    """
    spoilt = {name: draw(_SPOILT[name]) for name in sorted(draw(st.sets(st.sampled_from(sorted(_SPOILT)), max_size=2)))}
    total = draw(st.integers(1, 9))
    first = draw(st.integers(0, total - 1))
    last = draw(st.none() | st.integers(first, 9))
    asked = Asked(
        draw(st.sampled_from([first] * 9 + [None])),
        last,
        draw(st.sampled_from(['"a"'] * 6 + ['W/"a"', None])),
        draw(st.sampled_from([total] * 4 + [None])),
    )
    begin = first + draw(_nudge)
    end = draw(st.sampled_from([total, total if last is None else last + 1]) | st.integers(first + 1, 10)) + draw(
        _nudge
    )
    text = f"{spoilt.pop('unit', 'bytes ')}{begin}-{end - 1}/{draw(st.just('*') | _nudge.map(total.__add__))}"
    shape = spoilt.pop("content_range", "{0}").format(text, None, total)
    head = Head(
        206,
        content_range=tuple(shape.split("|")) if shape else (),
        content_length=draw(st.sampled_from([(), (str(end - begin),)])),
        content_type="text/plain",
        etag=('"a"',),
    )
    return head._replace(**spoilt), asked


def believable(head: Head, asked: Asked) -> Part | None:
    """The part that ``head`` may stand for: every range that could be meant is written out; none is parsed."""
    if head.status != 206 or asked.first is None or len(head.content_range) != 1:
        return None
    if "multipart/byteranges" in head.content_type.lower():
        return None
    if any(coding.lower() not in ("", "identity") for coding in head.content_encoding):
        return None
    if any(tag != asked.validator or not tag.startswith('"') for tag in head.etag):
        return None
    for total in range(10) if asked.total is None else [asked.total]:
        for last in range(asked.first, total if asked.last is None else min(total, asked.last + 1)):
            texts = [f"bytes {asked.first}-{last}/{total}"] + [f"bytes {asked.first}-{last}/*"] * (asked.total == total)
            size = last + 1 - asked.first
            if head.content_range[0].lower() in texts and all(text == str(size) for text in head.content_length):
                return Part(asked.first, last + 1, total)
    return None


def test_a_head_is_believed_exactly_if_all_of_it_fits() -> None:
    """R8, R11-R17: of any mixture of right and wrong fields, the part is kept that all fields agree on, or nothing."""
    seen: Counter[bool] = Counter()

    @settings(max_examples=800, deadline=None, derandomize=True, database=None)
    @given(claims())
    def judge(claim: tuple[Head, Asked]) -> None:
        head, asked = claim
        verdict = accept_response(head, asked)
        harmless(verdict)
        part = believable(head, asked)
        seen[part is None] += 1
        if part is None:
            assert not isinstance(verdict, Part)
        else:
            assert verdict == part

    judge()
    assert min(seen.values()) > 100, seen
