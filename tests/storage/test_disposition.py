"""What a response says of the file besides its bytes: a name, and a time."""

from __future__ import annotations

import random
import time
import unicodedata
import warnings
from email.utils import formatdate
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiodownload.storage.disposition import modified, suggestion
from aiodownload.storage.paths import is_suggested, suggested

PLAIN = 'attachment; filename="report.pdf"'


def said(*fields: str) -> str | None:
    """The suggestion of these fields, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return suggestion(CIMultiDict([("Content-Disposition", field) for field in fields]))


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (PLAIN, "report.pdf"),
        ("attachment; filename=report.pdf", "report.pdf"),
        ('inline; filename="a b.pdf"', "a b.pdf"),
        ('attachment; filename="a;b.pdf"; size=3', "a;b.pdf"),
        ("attachment; filename=x.pdf; filename*=UTF-8''%e2%82%ac.pdf", "€.pdf"),
        ("attachment; filename*=ISO-8859-1''%A3.pdf", "£.pdf"),
        ('attachment; filename="../../x"', "../../x"),
    ],
)
def test_a_name_is_read(field: str, name: str) -> None:
    """RFC 6266 and RFC 8187; what is dangerous in it is not its matter."""
    assert said(field) == name


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("attachment",),
        ("",),
        ("filename=x",),
        ('attachment; filename="a"; filename="b"',),
        ('attachment; filename="abc',),
        ("attachment; filename=",),
        ('attachment; filename=""',),
        ("attachment; filename*=UTF-8''%FF",),
        ("attachment; filename=a b.pdf",),
        ('attachment; filename="' + "a" * 65536 + '"',),
        (PLAIN, PLAIN),
    ],
)
def test_what_is_malformed_suggests_nothing(fields: tuple[str, ...]) -> None:
    """S2: two names, an open quotation mark, a name without an end, two fields."""
    assert said(*fields) is None


PIECES = st.sampled_from(
    [
        "attachment", ";", " ", "filename", "filename*", "=", '"', "\\", "a", "UTF-8''", "utf-9''", "%2F", "%", "%FF",
        "..", "/", "\x1b", "\r", "é", "*0", "*1*", ",", "'", "\udc80", "\x00",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join) | st.text())
def test_no_text_breaks_the_parser(field: str) -> None:
    """A name, or none."""
    name = said(field)
    assert name is None or (isinstance(name, str) and name)


HOSTILE = [
    "../../x", "/etc/passwd", "C:\\x", "..\\..\\x", "..", ".", "", "/", "\\", ".bashrc", "-rf", "~", "con", "NUL.txt",
    "a:b", "f.txt::$DATA", "x.", "x ", "%2e%2e%2fx", "a\x00b", "\x1b]0;pwned\x07", "‮gpj.exe", "日本.zip", "中国.zip",
    "a" * 300, "é" * 200 + ".pdf", "desktop.ini", ".part.json", ".x.part", "a\r\nb", "COM¹", "index", "a+b",
    "x" + "+" + "0" * 16, "*", "?", "|", '"', "'", "$(reboot)", "`id`", "a/b/c.tar.gz", "İ", "ﬁ",
]  # fmt: skip


def safe(name: str) -> None:
    """Every property that a name must have, on every file system, shell and terminal."""
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\:*?\"<>|$`~'\0")
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert name.isascii()
    assert len(name) <= 255
    assert not any(unicodedata.category(char).startswith("C") for char in name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_becomes_a_safe_one(name: str) -> None:
    """S2, S7, S8, S9: last component only, nothing hidden, no device, no control character, marked."""
    made = suggested("download", name)
    safe(made)
    assert "+" in made
    assert is_suggested(f"/home/h/{made}", "/home/h/download")
    assert not is_suggested(f"/home/h/{made}", "/home/h/other")
    assert not is_suggested(f"/home/g/{made}", "/home/h/download")


def test_the_readable_part_and_the_extension_stay() -> None:
    """People see what the server called it; the same name as the URL's needs no mark."""
    made = suggested("download", "annual report.tar.gz")
    stem, _, rest = made.partition("+")
    assert stem == "annual report"
    assert rest[16:] == ".tar.gz"
    assert suggested("report.pdf", "report.pdf") == "report.pdf"
    assert suggested("report.pdf", "x/report.pdf") == "report.pdf"


def test_a_hundred_thousand_names() -> None:
    """P8: header names for URLs of one folder: none leaves it, none meets another, whatever the servers say."""
    chance = random.Random(8)
    taken: dict[str, int] = {}
    for number in range(100_000):
        name = "".join(chance.choices(HOSTILE, k=chance.randint(1, 2)))
        field = f"attachment; filename*=UTF-8''{quote(name, safe='', errors='surrogateescape')}"
        heard = said(field) if number % 10 == 0 else name  # the parser is slow
        made = suggested(f"u{number}", heard) if heard else f"u{number}"
        assert taken.setdefault(made.casefold(), number) == number
        if number % 10 == 0:
            safe(made)
        assert "/" not in made


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        (" Thu, 01 Jan 1970 00:00:00 GMT ", 0),
    ],
)
def test_a_time_is_read(text: str, seconds: float) -> None:
    """All three forms (RFC 9110 section 5.6.7)."""
    assert modified(CIMultiDict({"Last-Modified": text})) == seconds


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("yesterday",),
        ("-1",),
        ("9" * 99,),
        ("Wed, 31 Dec 1969 23:59:59 GMT",),
        (formatdate(784111777, usegmt=True),) * 2,
    ],
)
def test_what_is_no_time_is_none(fields: tuple[str, ...]) -> None:
    """Garbage, a time before there were any, and two of them."""
    assert modified(CIMultiDict([("Last-Modified", field) for field in fields])) is None


def test_a_time_to_come_is_none() -> None:
    """RFC 9110 section 8.8.2.1."""
    assert modified(CIMultiDict({"Last-Modified": formatdate(time.time() + 3600, usegmt=True)})) is None


@given(st.text())
def test_no_text_breaks_the_time(text: str) -> None:
    """A number, or None."""
    found = modified(CIMultiDict({"Last-Modified": text}))
    assert found is None or found >= 0
