"""Seen: what became of every URL, in memory and beyond it."""

from __future__ import annotations

import math
import random
import sqlite3
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, istr

from aiodownload import (
    AioDownloadError,
    CodingError,
    DigestError,
    DiskError,
    RetryAfterError,
    StallError,
    Status,
    StatusError,
    Verified,
)
from aiodownload.seen import Seen, SpillError


def results(number: int = 0, error: AioDownloadError | None = None, **more: Any) -> tuple[Any, ...]:
    """The results of a bundle."""
    found = {
        "file_path": f"/home/h/{number}",
        "attempts": 1 + number % 5,
        "status": Status.DONE if error is None else Status.FAILED,
        "error": error,
        "http_status": 200 if error is None else None,
        "final_url": f"http://h.test/{number}",
        "headers": CIMultiDict([("Set-Cookie", "a=1"), ("Content-Type", "text/plain"), ("Set-Cookie", "b=2")]),
        "size": number,
        "verified": Verified.LENGTH,
        "elapsed": number / 7,
        **more,
    }
    return tuple(found.values())


def assert_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """Results are equal, errors compared by class, arguments and text."""
    for left, right in zip(one, other, strict=True):
        if isinstance(left, AioDownloadError):
            assert (type(left), left.args, str(left), vars(left)) == (type(right), right.args, str(right), vars(right))
        elif isinstance(left, CIMultiDict):
            assert list(left.items()) == list(right.items())
            assert left.getall("set-cookie", []) == right.getall("set-cookie", [])
        else:
            assert left == right
            assert type(left) is type(right)


def spill(seen: Seen) -> None:
    """What a run does when it is time."""
    seen.mark_leaving()
    seen.spill()


def test_the_latest_are_in_memory() -> None:
    """What was put is there, with its identity; nothing else is, and nothing is on the disk."""
    seen = Seen()
    seen.put("/a", b"one", results(1))
    record = seen.get("/a")
    assert record is not None
    assert record[0] == b"one"
    assert_same(record[1:], results(1))
    assert seen.get("/b") is None
    assert not seen.spilled
    assert not seen.full
    assert not seen.may_be_spilled("/a")
    assert seen.recall(["/a"]) == {}
    seen.close()


def test_it_is_full_beyond_its_limits() -> None:
    """It is time to spill when a whole batch is above the limit, and not again while one is leaving."""
    seen = Seen(recent=3, batch=2)
    for number in range(4):
        seen.put(f"/{number}", b"", results(number))
        assert not seen.full
    seen.put("/4", b"", results(4))
    assert seen.full
    seen.mark_leaving()
    for number in range(5, 9):
        seen.put(f"/{number}", b"", results(number))
    assert not seen.full
    seen.spill()
    assert seen.full
    seen.close()


def test_the_oldest_leave_first_and_stay_known() -> None:
    """A batch of the oldest goes; while it is leaving it is still in memory, afterwards it is recalled."""
    seen = Seen(recent=2, batch=2)
    for number in range(4):
        seen.put(f"/{number}", b"%d" % number, results(number))
    seen.mark_leaving()
    assert all(seen.get(f"/{number}") is not None for number in range(4))
    seen.spill()
    assert seen.spilled
    assert [seen.get(f"/{number}") is not None for number in range(4)] == [False, False, True, True]
    recalled = seen.recall([f"/{number}" for number in range(5)])
    assert list(recalled) == ["/0", "/1"]
    for number in range(2):
        identity, *found = recalled[f"/{number}"]
        assert identity == b"%d" % number
        assert_same(found, results(number))
    seen.close()


@pytest.mark.parametrize(
    "error",
    [
        None,
        StatusError("status 404 Not Found", 404),
        StallError("nothing arrived for 60 s"),
        StallError("nothing arrived for 60 s", False),
        RetryAfterError("too long", 503, math.inf),
        CodingError("broken", True),
        DigestError("sha256", "34cd" * 16, "12ab" * 16, "Repr-Digest", True),
        DiskError("/home/\udce9\u65e5", 28, "rename to"),
    ],
    ids=repr,
)
def test_a_recalled_outcome_is_exact(error: AioDownloadError | None) -> None:
    """Every result comes back equal: errors of each shape, repeated headers, odd text, no headers at all."""
    seen = Seen(recent=0, batch=9)
    for number, more in enumerate(
        (
            {},
            {"headers": None, "final_url": None, "size": None},
            {"headers": CIMultiDict(), "verified": Verified.NONE},
            {"headers": CIMultiDict({"X": "\udce9\x00\u65e5"}), "file_path": "/h/\udcff", "size": 1 << 60},
            {"status": Status.CACHED, "attempts": 0, "verified": Verified.FRAMING, "elapsed": 0.1 + 0.2},
        )
    ):
        expected = results(number, error, **more)
        seen.put(f"/{number}", b"\0\xff", expected)
        spill(seen)
        identity, *found = seen.recall([f"/{number}"])[f"/{number}"]
        assert identity == b"\0\xff"
        assert_same(expected, found)
    seen.close()


def test_subclasses_come_back_as_what_they_are_of() -> None:
    """Names of fields as aiohttp's parser spells them, and a status of the standard library, are plain afterwards."""
    seen = Seen(recent=0, batch=9)
    fields = CIMultiDict([(istr("Content-Type"), "text/plain"), (istr("ETag"), istr('"1"'))])
    expected = results(
        1, StatusError("status 404 Not Found", HTTPStatus.NOT_FOUND), headers=fields, http_status=HTTPStatus.NOT_FOUND
    )
    seen.put("/a", b"\xff", expected)
    spill(seen)
    identity, *found = seen.recall(["/a"])["/a"]
    assert identity == b"\xff"
    assert found[4] == 404
    assert type(found[4]) is int
    assert list(found[6].items()) == [("Content-Type", "text/plain"), ("ETag", '"1"')]
    seen.close()


class SameHash(str):
    """A path whose hash is that of all others."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


def test_a_path_is_not_taken_for_one_of_the_same_hash() -> None:
    """Each has its own outcome, the latest one."""
    seen = Seen(recent=0, batch=9)
    one, other, third = SameHash("/one"), SameHash("/other"), SameHash("/third")
    for path, identity in ((one, b"old"), (one, b"new"), (other, b"other")):
        seen.put(path, identity, results())
        spill(seen)
    assert seen.may_be_spilled(third)
    recalled = seen.recall([one, other, third])
    assert {str(path): record[0] for path, record in recalled.items()} == {"/one": b"new", "/other": b"other"}
    seen.close()


class OwnError(AioDownloadError):
    """An error of a user's strategy."""


def test_an_error_of_a_strategy_keeps_its_text() -> None:
    """A class that is not the library's comes back as the root, with its text."""
    seen = Seen(recent=0, batch=9)
    seen.put("/plain", b"", results(0, OwnError("my words")))
    seen.put("/odd", b"", results(1, OwnError({"no": "plain data"})))
    spill(seen)
    recalled = seen.recall(["/plain", "/odd"])
    for path, text in (("/plain", "my words"), ("/odd", "{'no': 'plain data'}")):
        error = recalled[path][4]
        assert type(error) is AioDownloadError
        assert str(error) == text
    seen.close()


def test_a_later_outcome_replaces_an_earlier_one() -> None:
    """The same path again: memory goes before the disk, and the disk keeps the later one."""
    seen = Seen(recent=0, batch=9)
    for number in (1, 2):
        seen.put("/a", b"%d" % number, results(number))
        record = seen.get("/a")
        assert record is not None
        assert record[0] == b"%d" % number
        spill(seen)
    assert seen.recall(["/a"])["/a"][0] == b"2"
    seen.close()


def test_the_filter_never_forgets() -> None:
    """After thousands of spills, none that was spilled is denied, and nearly all others are."""
    seen = Seen(recent=0, batch=1000)
    for number in range(5000):
        seen.put(f"/in/{number}", b"", results(number))
        if seen.full:
            spill(seen)
    spill(seen)
    assert all(seen.may_be_spilled(f"/in/{number}") for number in range(5000))
    assert sum(seen.may_be_spilled(f"/out/{number}") for number in range(5000)) < 50
    seen.close()


def test_many_are_recalled_exactly() -> None:
    """With small limits, a thousand outcomes in any order are all known with their own results."""
    seen = Seen(recent=7, batch=5)
    numbers = list(range(1000))
    random.Random(3).shuffle(numbers)
    for number in numbers:
        seen.put(f"/{number}", b"%d" % number, results(number))
        if seen.full:
            spill(seen)
    recalled = seen.recall([f"/{number}" for number in numbers if seen.may_be_spilled(f"/{number}")])
    for number in numbers:
        record = seen.get(f"/{number}") or recalled.get(f"/{number}")
        assert record is not None
        assert record[0] == b"%d" % number
        assert_same(record[1:], results(number))
    assert sum(seen.get(f"/{number}") is not None for number in numbers) <= 12
    seen.close()


def test_without_a_disk_all_stays_in_memory() -> None:
    """``stay`` takes back what was leaving and never asks to spill again."""
    seen = Seen(recent=1, batch=2)
    for number in range(4):
        seen.put(f"/{number}", b"", results(number))
    seen.mark_leaving()
    seen.stay()
    for number in range(4, 100):
        seen.put(f"/{number}", b"", results(number))
    assert not seen.full
    assert not seen.spilled
    assert all(seen.get(f"/{number}") is not None for number in range(100))
    seen.close()


def test_what_came_later_wins_over_what_was_leaving() -> None:
    """An outcome that was put while an older one of its path was leaving is not overwritten by ``stay``."""
    seen = Seen(recent=0, batch=1)
    seen.put("/a", b"old", results(1))
    seen.mark_leaving()
    seen.put("/a", b"new", results(2))
    seen.stay()
    record = seen.get("/a")
    assert record is not None
    assert record[0] == b"new"
    seen.close()


def test_a_closed_one_knows_nothing_of_the_disk() -> None:
    """The temporary database vanishes; closing again is no error."""
    seen = Seen(recent=0, batch=1)
    seen.put("/a", b"", results(1))
    spill(seen)
    seen.close()
    seen.close()
    assert seen.recall(["/a"]) == {}


def test_a_spill_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no temporary database can be made, the error comes out and what was leaving can stay."""

    def refuse(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("sqlite3.connect", refuse)
    seen = Seen(recent=0, batch=9)
    seen.put("/a", b"one", results(1))
    seen.mark_leaving()
    with pytest.raises(SpillError):
        seen.spill()
    seen.stay()
    assert seen.get("/a") is not None
    assert not seen.spilled
    seen.close()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(st.text(st.characters(exclude_categories=()), max_size=6), st.binary(max_size=16)), max_size=40),
    st.integers(0, 5),
    st.integers(1, 5),
)
def test_it_is_a_dictionary(puts: list[tuple[str, bytes]], recent: int, batch: int) -> None:
    """Whatever is put in whatever order: the last outcome of each path is what is known of it."""
    seen = Seen(recent, batch)
    expected: dict[str, bytes] = {}
    for path, identity in puts:
        seen.put(path, identity, results())
        expected[path] = identity
        if seen.full:
            spill(seen)
    for path, identity in expected.items():
        record = seen.get(path)
        if record is None:
            assert seen.may_be_spilled(path)
            record = seen.recall([path])[path]
        assert record[0] == identity
    seen.close()
