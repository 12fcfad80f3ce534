"""The record of a partial file: it comes back as it was written, and anything else is no record."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiodownload.storage.owner import Owner
from aiodownload.storage.record import LONGEST, Ranges, Record, add, begun, count, cut, dump, gaps, identity, parse

LARGEST = 2**63 - 1
BOOT, OTHER_BOOT, NO_BOOT = "a" * 12, "b" * 12, "0" * 12
OWNER = Owner("1" * 8, BOOT, "2" * 4, 77, 1234)
RECORD = Record(
    url=identity("http://h.test/f"),
    validator='"v1"',
    total=1000,
    part=f".f.{OWNER.tag}.part",
    inode=4711,
    boot=BOOT,
    written=((0, 500), (600, 700)),
    synced=((0, 300),),
    owner=OWNER,
)
STORED: dict[str, Any] = json.loads(dump(RECORD))
MISSING = object()


def shown(value: object) -> str:
    """The name of a case, the same in every process."""
    return "missing" if value is MISSING else repr(value)


def stored(**changes: Any) -> bytes:
    """A record with other fields, as JSON."""
    fields = {name: value for name, value in (STORED | changes).items() if value is not MISSING}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def bytes_in(ranges: Ranges) -> set[int]:
    """Every byte of ranges by its number."""
    return {number for first, end in ranges for number in range(first, end)}


def ranges_below(total: int) -> st.SearchStrategy[Ranges]:
    """Ranges, sorted, neither touching nor overlapping."""
    limits = st.lists(st.integers(0, total), unique=True, max_size=20).map(sorted)
    return limits.map(lambda found: tuple(zip(found[::2], found[1::2], strict=False)))


def names() -> st.SearchStrategy[str]:
    """What a partial file may be called: any bytes after a dot that a file system takes."""
    plain = st.binary(min_size=1, max_size=60).map(os.fsdecode)
    return plain.map(lambda name: "." + name).filter(lambda name: name != ".." and not set(name) & set("/\\\0"))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record."""
    total = draw(st.integers(0, LARGEST))
    pid = st.integers(0, 2**31)
    return Record(
        url=draw(st.text().map(identity)),
        validator=draw(st.text('"!#az-~\u00e9\u65e5\U0001f600', max_size=40)),
        total=total,
        part=draw(names()),
        inode=draw(st.integers(0, 2**128 - 1)),
        boot=draw(st.sampled_from([BOOT, NO_BOOT])),
        written=draw(ranges_below(total)),
        synced=draw(ranges_below(total)),
        owner=draw(st.none() | st.builds(OWNER._replace, pid=pid, started=pid)),
    )


@given(records())
@example(RECORD)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    """Every record that can be stored is read as it was, up to the largest file and inode, and of any file's name."""
    data = dump(record)
    assert len(data) <= LONGEST
    assert data.isascii()
    assert parse(data) == record


def test_a_record_is_one_line_of_json() -> None:
    """Whoever finds it can read it, and see by its version whether it is for them."""
    assert dump(RECORD).count(b"\n") == 1
    assert next(iter(STORED)) == "version"
    assert (STORED["version"], STORED["written"], STORED["owner"]) == (1, [[0, 500], [600, 700]], OWNER.tag)


def test_a_url_does_not_show() -> None:
    """What stands for a URL is its own and no other's, of fixed length, and gives no secret away."""
    marks = {identity(url) for url in ("http://h.test/f", "http://h.test/f?token=secret", "http://h.test/\udc80", "")}
    assert len(marks) == 4
    assert {len(mark) for mark in marks} == {64}
    assert identity("http://h.test/f?token=secret") == identity("http://h.test/f?token=secret")
    assert "secret" not in identity("http://h.test/f?token=secret")


def test_a_torn_record_is_none() -> None:
    """Cut off after any of its bytes, or at the front, it is no record."""
    data = dump(RECORD)
    for length in range(len(data)):
        assert parse(data[:length]) is None
        assert parse(data[length + 1 :]) is None


def test_a_record_with_zeros_in_it_is_none() -> None:
    """A block that never reached the disk reads as zeros."""
    data = dump(RECORD)
    for at in range(0, len(data), 7):
        assert parse(data[:at] + bytes(len(data) - at)) is None
    assert parse(data + bytes(512)) is None


@given(st.data())
@settings(max_examples=200)
def test_a_flipped_byte_is_noticed_or_is_another_record(data: st.DataObject) -> None:
    """One byte changed: none, or exactly what those bytes say; nothing is read into them, and nothing raises."""
    whole = bytearray(dump(RECORD))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    record = parse(bytes(whole))
    assert record is None or dump(record) == whole


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\0" * 4096,
        b"\xff\xfe\xfd",
        b"null",
        b"true",
        b"1",
        b"NaN",
        b'"text"',
        b"[]",
        b"{}",
        b"[[]]",
        b'{"version":1}',
        b"[" * 100_000,
        b"[" * 60_000,
        b'{"version":' * 5_000,
        b"9" * 60_000,
        b'{"version":1,"total":' + b"9" * 5_000 + b"}",
        b" " * (LONGEST + 1),
    ],
    ids=lambda data: f"{data[:20]!r} of {len(data)}",
)
def test_what_is_no_record(data: bytes) -> None:
    """Nothing, other JSON, deep and long JSON, and no JSON at all are no record, and no error."""
    assert parse(data) is None


def test_a_record_that_is_not_spelled_as_it_is_stored() -> None:
    """Another encoding, blanks, other spellings and doubled names are nobody's writing that is known here."""
    data = dump(RECORD)
    assert parse(data) == RECORD
    for other in (
        data.decode().encode("utf-16"),
        data.decode().encode("utf-32-le"),
        b"\xef\xbb\xbf" + data,
        b" " + data,
        data + b"\n",
        data + data,
        data.rstrip(b"\n"),
        data.replace(b'"version":1', b'"version":1,"version":1'),
        data.replace(b'"total":1000', b'"total":1000,"total":2000'),
        data.replace(b'"total":1000', b'"total":2000,"total":1000'),
        data.replace(b'"total":1000', b'"t\\u006ftal":1000'),
        json.dumps(STORED).encode() + b"\n",
        json.dumps(dict(sorted(STORED.items())), separators=(",", ":")).encode() + b"\n",
    ):
        assert other != data
        assert parse(other) is None, other


ODD: list[Any] = [None, True, False, -1, 1.0, float("nan"), float("inf"), 10**40, "", "x", [], {}, [[]], {"a": 1}]


@pytest.mark.parametrize("value", ODD, ids=shown)
@pytest.mark.parametrize("field", ["version", "total", "inode"])
def test_a_number_is_a_whole_one_and_no_other_thing(field: str, value: Any) -> None:
    """Nothing else stands for a number: no bool, no fraction, none below zero or beyond what a file can have."""
    assert parse(stored(**{field: value})) is None


@pytest.mark.parametrize("value", [one for one in ODD if not isinstance(one, str)], ids=shown)
@pytest.mark.parametrize("field", ["url", "validator", "part", "boot"])
def test_a_text_is_a_text(field: str, value: Any) -> None:
    """Nothing else stands for a text."""
    assert parse(stored(**{field: value})) is None


@pytest.mark.parametrize(
    "value", [one for one in ODD if one is not None] + [OWNER.tag + "\n", OWNER.tag.upper()], ids=shown
)
def test_an_owner_is_a_tag_or_none(value: Any) -> None:
    """A process that cannot be read is not taken for nobody."""
    assert parse(stored(owner=value)) is None


def test_nobody_may_own_it() -> None:
    """A record that was given up is a record."""
    record = parse(stored(owner=None))
    assert record is not None
    assert record.owner is None


@pytest.mark.parametrize("version", [0, 2, 1.0, True, "1", None, MISSING], ids=shown)
def test_another_version_is_none(version: Any) -> None:
    """What a later version means by the same words is not known."""
    assert parse(stored(version=version)) is None


@pytest.mark.parametrize("field", STORED)
def test_every_field_is_needed(field: str) -> None:
    """A record that lacks one is none."""
    assert parse(stored(**{field: MISSING})) is None


@pytest.mark.parametrize("field", ["more", "self", "Total", "size"])
def test_no_other_field_is_known(field: str) -> None:
    """A record that says more is of somebody who knows more."""
    assert parse(stored(**{field: 1})) is None


@pytest.mark.parametrize(
    "ranges",
    [
        None,
        1,
        "0-5",
        {"0": 5},
        [0, 5],
        [[0]],
        [[0, 5, 9]],
        [["0", 5]],
        [[0, 5.0]],
        [[False, 5]],
        [[0, True]],
        [[None, 5]],
        [[-1, 5]],
        [[5, 5]],
        [[5, 4]],
        [[0, 5], [5, 9]],
        [[0, 5], [4, 9]],
        [[0, 5], [0, 5]],
        [[6, 9], [0, 5]],
        [[0, 1001]],
        [[1000, 1001]],
        [[0, 10**30]],
        [[0, 5], [7, float("nan")]],
    ],
    ids=shown,
)
@pytest.mark.parametrize("field", ["written", "synced"])
def test_ranges_are_sorted_apart_and_below_the_total(field: str, ranges: Any) -> None:
    """Anything else says nothing about a byte."""
    assert parse(stored(**{field: ranges})) is None


def test_ranges_may_reach_from_the_first_byte_to_the_last() -> None:
    """The limits themselves are in."""
    record = parse(stored(written=[[0, 1], [2, 1000]], synced=[]))
    assert record is not None
    assert (record.written, record.synced) == (((0, 1), (2, 1000)), ())


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "f.part",
        "/etc/passwd",
        "./f.part",
        "../f.part",
        ".f/../../g.part",
        ".a/b",
        "..\\f",
        ".a\\b",
        ".a\0b",
        "\0",
        "\u2024f",
        "." * LONGEST,
    ],
    ids=lambda name: repr(name[:20]),
)
def test_a_name_leads_to_no_other_folder(name: str) -> None:
    """What is not plainly a hidden file in the record's own folder is not looked at."""
    assert parse(stored(part=name)) is None


def test_a_name_that_is_not_utf_8() -> None:
    """A file system's own bytes are a name, too, and come back bit for bit."""
    name = os.fsdecode(b".\xff\xfe\x80.part")
    record = parse(stored(part=name))
    assert record is not None
    assert os.fsencode(record.part) == b".\xff\xfe\x80.part"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*STORED, "more"]), values, max_size=4))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_no_field_can_make_it_raise(changes: dict[str, Any]) -> None:
    """Any JSON in place of any field: no record, or one that says exactly that."""
    data = stored(**changes)
    record = parse(data)
    assert record is None or dump(record) == data


@given(st.binary(max_size=200))
def test_no_bytes_can_make_it_raise(data: bytes) -> None:
    """Any bytes: no record."""
    assert parse(data) is None


pieces = st.tuples(st.integers(0, 40), st.integers(0, 40))


@given(st.lists(pieces, max_size=30))
@example([(0, 5), (10, 15), (5, 10)])
@example([(0, 5), (6, 9), (5, 6)])
@example([(3, 4), (0, 40)])
@example([(5, 5), (7, 3)])
def test_adding_ranges_is_adding_bytes(added: list[tuple[int, int]]) -> None:
    """Ranges hold exactly the bytes that were added, and stay sorted and apart, so that a record may hold them."""
    ranges: Ranges = ()
    expected: set[int] = set()
    for first, end in added:
        ranges = add(ranges, first, end)
        expected |= set(range(first, end))
        assert bytes_in(ranges) == expected
        assert all(one < other for one, other in ranges)
        assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))
    record = parse(stored(written=ranges))
    assert record is not None
    assert record.written == ranges


@pytest.mark.parametrize(
    ("written", "synced", "boot", "held"),
    [
        (((0, 500),), ((0, 300),), BOOT, ((0, 500),)),
        (((0, 500),), ((0, 300),), OTHER_BOOT, ((0, 300),)),
        (((0, 500),), ((0, 300),), NO_BOOT, ((0, 300),)),
        (((0, 500),), (), OTHER_BOOT, ()),
        (((0, 500), (600, 700)), ((0, 300), (400, 500)), BOOT, ((0, 500), (600, 700))),
        (((0, 500), (600, 700)), ((0, 300), (400, 500)), OTHER_BOOT, ((0, 300), (400, 500))),
        (((1, 500),), ((1, 300),), BOOT, ((1, 500),)),
        ((), (), BOOT, ()),
        (((0, 1000),), ((0, 1000),), OTHER_BOOT, ((0, 1000),)),
    ],
)
def test_what_can_be_relied_upon(written: Ranges, synced: Ranges, boot: str, held: Ranges) -> None:
    """In the same boot what was written counts, in another only what was synced."""
    record = parse(stored(written=written, synced=synced))
    assert record is not None
    assert record.held(boot) == held


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))),
)
def test_arithmetic_of_ranges(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    """What is missing, what is in both, how many, and how many from the beginning on, as sets of numbers tell it."""
    one: Ranges = ()
    two: Ranges = ()
    for first, end in some:
        one = add(one, first, end)
    for first, end in others:
        two = add(two, first, end)
    assert bytes_in(gaps(one, 60)) == set(range(60)) - bytes_in(one)
    assert bytes_in(cut(one, two)) == bytes_in(one) & bytes_in(two)
    assert count(one) == len(bytes_in(one))
    assert begun(one) == next(number for number in range(61) if number not in bytes_in(one))


def test_a_boot_that_is_not_known_is_not_the_same() -> None:
    """Where no boot is told, two records with none may lie on both sides of a power cut."""
    record = parse(stored(boot=NO_BOOT))
    assert record is not None
    assert (record.held(NO_BOOT), record.held(BOOT)) == (((0, 300),), ((0, 300),))
