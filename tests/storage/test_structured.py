"""Structured dictionaries: read strictly, whole or not at all, and in time that grows with the text only."""

from __future__ import annotations

import base64
import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.storage.structured import MalformedError, decoded, dictionary

LONG = 16 << 10


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", {}),
        ("   ", {}),
        ("a=:AQI=:", {"a": b"\1\2"}),
        ("  a=:AQI=:  ", {"a": b"\1\2"}),
        ("a=::", {"a": b""}),
        ("a=:AQI=:,b=:Aw==:", {"a": b"\1\2", "b": b"\3"}),
        ("a=:AQI=: \t,\t b=:Aw==:", {"a": b"\1\2", "b": b"\3"}),
        ("a=:AQI=:, a=:Aw==:", {"a": b"\3"}),
        ("a=:AQI=:, a=1", {"a": None}),
        ("a=1, a=:AQI=:", {"a": b"\1\2"}),
        ("sha-256=:AQI=:, *._-9=:Aw==:", {"sha-256": b"\1\2", "*._-9": b"\3"}),
        ("a=:AQI=:;x;  y=1;z=:AA==:;a=:Aw==:", {"a": b"\1\2"}),
        ("a;x=:AQI=:", {"a": None}),
        ("a, b", {"a": None, "b": None}),
        ('a="x, b=:AQI=:"', {"a": None}),
        (r'a="\"\\ ~"', {"a": None}),
        ("a=?0, b=?1", {"a": None, "b": None}),
        ("a=0, b=-1, c=999999999999999, d=-0001", dict.fromkeys("abcd")),
        ("a=1.5, b=-999999999999.999, c=0.0", dict.fromkeys("abc")),
        ("a=token, b=*t/:x!#$%&'*+-.^_`|~, c=T", dict.fromkeys("abc")),
        ("a=@1659578233, b=@-1", {"a": None, "b": None}),
        ('a=%"f%c3%bc", b=%""', {"a": None, "b": None}),
        ("a=(), b=(  ), c=(1)", dict.fromkeys("abc")),
        ("a=(1 :AQI=:;x  tok;y=1 );z, b=:AQI=:", {"a": None, "b": b"\1\2"}),
    ],
)
def test_what_is_well_formed_is_read(text: str, members: dict[str, bytes | None]) -> None:
    """All types of RFC 9651 are read, byte sequences kept, parameters dropped; the last of equal keys counts."""
    assert dictionary(text) == members


@pytest.mark.parametrize(
    "bad",
    [
        "B=:AQI=:",
        "9=1",
        "-a=1",
        "",
        " ,c",
        "b=",
        "b =1",
        "b= 1",
        "b=1 c=1",
        "b==1",
        "b=1;",
        "b=1; ;c",
        "b=1 ;c",
        "b=1;C",
        "b=1;c=",
        "b=:AQI=",
        "b=AQI=:",
        "b=:AQI=:x",
        "b=:A:",
        "b=:AQ===:",
        "b=:=AQI:",
        "b=:A=QI:",
        "b=:A QI:",
        "b=:AQI.:",
        "b=:_-Ah:",
        "b=:AQI\u00e9:",
        "b=1.",
        "b=1.2345",
        "b=1.2.3",
        "b=.5",
        "b=-",
        "b=--1",
        "b=+1",
        "b=1000000000000000",
        "b=1000000000000.0",
        "b=\u0661",
        "b=@",
        "b=@1.5",
        "b=@x",
        'b="',
        'b="x',
        r'b="\x"',
        'b="\u00e9"',
        'b="\t"',
        'b="\x7f"',
        "b=?2",
        "b=?",
        "b=?10",
        "b='x'",
        "b={}",
        'b=%"%C3%BC"',
        'b=%"%c3"',
        'b=%"%c"',
        "b=%x",
        "b=(",
        "b=(1",
        "b=(1,2)",
        'b=("a""b")',
        "b=((1))",
        "b=(1\t2)",
        "b=)",
        "b=1\n",
        "b=1\x00",
        "\u00e9=1",
    ],
)
def test_one_fault_spoils_all(bad: str) -> None:
    """A malformed member at any place makes the whole text malformed (RFC 9651 section 4.2)."""
    for text in (f"a=:AQI=:, {bad}", f"{bad}, a=:AQI=:", f"a=:AQI=:, {bad}, c=1"):
        with pytest.raises(MalformedError):
            dictionary(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", b""),
        ("AQIDBA==", b"\1\2\3\4"),
        ("AQIDBA=", b"\1\2\3\4"),
        ("AQIDBA", b"\1\2\3\4"),
        ("AQID=", b"\1\2\3"),
        ("AQID==", b"\1\2\3"),
        ("AR==", b"\1"),
        ("//+/", b"\xff\xff\xbf"),
        ("A", None),
        ("A===", None),
        ("AQIDBA===", None),
        ("=", b""),
        ("AQ=D", None),
        ("=AQI", None),
        ("AQ I", None),
        ("AQI\n", None),
        ("AQI=\n", None),
        ("-_-_", None),
        ("\u0410\u0410\u0410\u0410", None),
    ],
)
def test_base64(text: str, value: bytes | None) -> None:
    """The alphabet of RFC 4648 section 4 and nothing else; padding at the end may lack or be one too many."""
    assert decoded(text) == value


_KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,9}", fullmatch=True)
_BLANKS = st.text(" \t", max_size=3)
_OTHERS = st.sampled_from(["", "=1", "=1.5", '="a, b=:AA==:"', "=t:k/n", "=?1", "=(1 :AA==:)", '=%"%c3%bc"', "=@1"])


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(_KEYS, st.binary(max_size=70) | _OTHERS, _OTHERS, _BLANKS, _BLANKS), max_size=8))
def test_what_is_written_is_read(members: list[tuple[str, bytes | str, str, str, str]]) -> None:
    """Any members, with parameters and blanks, come back: the byte sequences as they were."""
    texts, expected = [], {}
    for key, value, parameter, before, after in members:
        said = f"=:{base64.b64encode(value).decode()}:" if isinstance(value, bytes) else value
        parameters = "" if parameter.startswith("=(") else f"; p{parameter}"
        texts.append((before if texts else "") + key + said + parameters + after)
        expected[key] = value if isinstance(value, bytes) else None
    assert dictionary(",".join(texts)) == expected


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.text('ab=:;,?@%"\\(). \t-019AQ+/c3\u00e9', max_size=40) | st.text(max_size=40))
def test_nothing_else_is_raised(text: str) -> None:
    """Any text is a dictionary or malformed."""
    with contextlib.suppress(MalformedError):
        for key, value in dictionary(text).items():
            assert key
            assert value is None or isinstance(value, bytes)


HOSTILE = {
    "blanks": " " * LONG + "x",
    "blanks after": "a" + " \t" * (LONG // 2) + "x",
    "key": "a" * LONG + "!",
    "string": 'a="' + "x" * LONG,
    "escapes": 'a="' + "\\\\" * (LONG // 2),
    "bytes": "a=:" + "A" * LONG,
    "token": "a=" + "t:" * (LONG // 2) + '"',
    "display": 'a=%"' + "%c3" * (LONG // 3),
    "display letters": 'a=%"' + "x" * LONG,
    "parameters": "a" + ";b" * (LONG // 2) + ";",
    "blank parameters": "a;" + " " * LONG,
    "inner": "a=(" + "1 " * (LONG // 2),
    "inner blanks": "a=(" + " " * LONG,
    "open": "a=" + "(" * LONG,
    "digits": "a=" + "1" * LONG,
    "members": "a," * (LONG // 2),
    "different members": ",".join(f"a{number}=:AQI=:;x" for number in range(LONG // 10)) + ",",
    **{repr(char): char * LONG for char in ',:\\;="%(@?-0a* \t\0\u00e9'},
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_costs_little(text: str) -> None:
    """16 KiB of anything are refused, or read, in a time that nobody could call an attack, on any machine."""
    start = time.thread_time()
    with contextlib.suppress(MalformedError):
        dictionary(text)
    assert time.thread_time() - start < 5
