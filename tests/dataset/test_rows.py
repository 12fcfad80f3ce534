"""The account of an open shard: what was written is read, and nothing that was not."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload import AioDownloadBundle, StatusError
from aiodownload.dataset.rows import Line, Recorded, Row, Sealed, SpanAt, dump, parse, row_of, sidecar

FAILURE = row_of(AioDownloadBundle("http://test.example.com/x"), "0" * 32, StatusError("no", 404))
MEMBER = row_of(AioDownloadBundle("http://test.example.com/x"), "1" * 32)._replace(
    key="000000000", member="000000000.bin", offset=512, size=7, sha256="f" * 64
)
LINES: list[Line] = [SpanAt(5, 0, "b"), Recorded(2048, MEMBER), Recorded(2048, FAILURE), Sealed(2048)]


def marked(value: Any) -> bytes:
    """A line with the right checksum, whatever is in it."""
    text = json.dumps(value).encode()
    return b"%08x %s\n" % (crc32(text), text)


def test_what_is_written_is_read() -> None:
    """All of it."""
    account = parse([dump(line) for line in LINES])
    assert list(account.lines) == LINES
    assert (account.end, account.sealed, account.size) == (2048, True, sum(len(dump(line)) for line in LINES))
    assert [one.row for one in account.rows] == [MEMBER, FAILURE]
    assert account.cut(2).size == len(dump(LINES[0])) + len(dump(LINES[1]))


@settings(deadline=None, derandomize=True, database=None)
@given(st.integers(0, 3), st.data())
def test_a_line_that_is_cut_or_changed_is_none(number: int, data: st.DataObject) -> None:
    """It and all that comes after."""
    lines = [dump(line) for line in LINES]
    line = bytearray(lines[number])
    at = data.draw(st.integers(0, len(line) - 1))
    if data.draw(st.booleans()):
        line = line[:at]
    else:
        line[at] ^= data.draw(st.integers(1, 255))
    assert list(parse([*lines[:number], bytes(line), *lines[number + 1 :]]).lines) == LINES[:number]


@settings(deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=200))
def test_rubbish(data: bytes) -> None:
    """Is no line."""
    assert parse([data, data + b"\n"]).lines == ()


WRONG: list[Any] = [
    None,
    [],
    {},
    [1],
    [2, "span", 5, 0, "b"],
    [1, "spam", 5, 0, "b"],
    [1, "span", 5, 0],
    [1, "span", 5.0, 0, "b"],
    [1, "span", True, 0, "b"],
    [1, "span", -1, 0, "b"],
    [1, "span", 1 << 64, 0, "b"],
    [1, "span", 5, 1, "b"],
    [1, "span", 5, 0, 7],
    [1, "row", 2048, list(MEMBER)],
    [1, "sealed", 7],
    [1, "sealed", "0"],
]


@pytest.mark.parametrize("value", WRONG)
def test_other_first_lines(value: Any) -> None:
    """S29: the right checksum is no reason to believe it."""
    assert parse([marked(value)]).lines == ()


@pytest.mark.parametrize(
    "change",
    [
        {"size": "7"},
        {"size": True},
        {"size": -1},
        {"size": None},
        {"key": None},
        {"member": None},
        {"sha256": None},
        {"offset": 0},
        {"offset": 4096},
        {"status": "well"},
        {"status": None},
        {"url": None},
        {"attempts": None},
        {"http_status": 1 << 63},
        {"info": {"a": 1}},
    ],
)
def test_other_rows(change: dict[str, Any]) -> None:
    """Each field has its type, and a member its place."""
    row = [change.get(name, value) for name, value in MEMBER._asdict().items()]
    assert len(parse([dump(LINES[0]), marked([1, "row", 2048, row])]).lines) == 1
    assert len(parse([dump(LINES[0]), marked([1, "row", 2048, list(MEMBER)])]).lines) == 2
    for fields in ([], row[1:], [*MEMBER, None], 7):
        assert len(parse([dump(LINES[0]), marked([1, "row", 2048, fields])]).lines) == 1


def test_nothing_comes_after_the_seal() -> None:
    """Nor does a member that ends before it begins, or a failure that takes bytes."""
    first = [dump(LINES[0])]
    assert len(parse([*first, dump(Sealed(0)), dump(LINES[1])]).lines) == 2
    assert len(parse([*first, dump(Recorded(512, MEMBER))]).lines) == 1
    assert len(parse([*first, dump(Recorded(1, FAILURE))]).lines) == 1
    assert len(parse([*first, dump(LINES[1]), dump(Sealed(4096))]).lines) == 2


TEXT = st.text() | st.text(st.characters(categories=["Cs", "Cc", "Lo"]))


@settings(deadline=None, derandomize=True, database=None)
@given(TEXT, TEXT)
def test_texts_that_no_file_can_hold(url: str, error: str) -> None:
    """Lone surrogates and control characters are escaped: the account, JSON and Parquet take the row."""
    row = row_of(AioDownloadBundle(url), "0" * 32, StatusError(error, 404))
    assert parse([dump(LINES[0]), dump(Recorded(0, row))]).rows[0].row == row
    assert json.loads(sidecar(row))["url"] == row.url
    for value in row:
        assert not isinstance(value, str) or value.encode().decode() == value


def test_the_fields_are_those_of_the_table() -> None:
    """The order of the columns is a promise."""
    assert Row._fields[:5] == ("key", "identity", "url", "final_url", "status")
    assert Row._fields[-1] == "info"
