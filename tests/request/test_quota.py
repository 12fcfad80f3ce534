"""RateLimit fields: the draft's two forms, the common ones, and what nobody can read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiodownload.request.quota import FIELDS, quota

NOW = 1_800_000_000.0


def read(*fields: tuple[str, str]) -> tuple[int, float] | None:
    headers = CIMultiDict(fields)
    return quota(headers, lambda name: headers.getall(name, ()), NOW)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("RateLimit", '"default";r=50;t=30')], (50, 30)),
        ([("ratelimit", '"a";r=50;t=30, "b";r=3;t=3600')], (3, 3600)),
        ([("RateLimit", '"a";r=9;t=30'), ("RateLimit", '"b";r=8;t=1')], (8, 1)),
        ([("RateLimit", "limit=100, remaining=7, reset=12")], (7, 12)),
        ([("RateLimit", "limit=100,remaining=0,reset=12")], (0, 12)),
        ([("RateLimit-Limit", "100"), ("RateLimit-Remaining", "5"), ("RateLimit-Reset", "60")], (5, 60)),
        ([("X-RateLimit-Remaining", "5"), ("X-RateLimit-Reset", "60")], (5, 60)),
        ([("X-Rate-Limit-Remaining", "5"), ("X-Rate-Limit-Reset", "60")], (5, 60)),
        ([("x-ratelimit-remaining", " 0 "), ("x-ratelimit-reset", str(int(NOW) + 90))], (0, 90)),
        ([("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", str(int(NOW) * 1000 + 2500))], (0, 2.5)),
        ([("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", str(int(NOW) - 90))], (0, 0)),
        ([("RateLimit", "nonsense"), ("RateLimit-Remaining", "5"), ("RateLimit-Reset", "60")], (5, 60)),
        ([("RateLimit", '"default";r=50')], None),
        ([("RateLimit", '"default";r=-1;t=30')], None),
        ([("RateLimit", '"default";r=1.5;t=30')], None),
        ([("RateLimit-Policy", '"default";q=100;w=60')], None),
        ([("X-RateLimit-Remaining", "5")], None),
        ([("X-RateLimit-Reset", "5")], None),
        ([("X-RateLimit-Remaining", "five"), ("X-RateLimit-Reset", "60")], None),
        ([("X-RateLimit-Remaining", "-5"), ("X-RateLimit-Reset", "60")], None),
        ([("X-RateLimit-Remaining", "9" * 50), ("X-RateLimit-Reset", "60")], None),
        ([("X-RateLimit-Remaining", "1"), ("X-RateLimit-Remaining", "2"), ("X-RateLimit-Reset", "60")], None),
        ([], None),
    ],
)
def test_what_is_read(fields: list[tuple[str, str]], expected: tuple[int, float] | None) -> None:
    assert read(*fields) == expected


def test_a_field_that_is_listed_is_enough_to_look() -> None:
    """Whatever can be read has one of these names."""
    assert FIELDS == ("RateLimit", "RateLimit-Remaining", "X-RateLimit-Remaining", "X-Rate-Limit-Remaining")


@given(st.lists(st.tuples(st.sampled_from([*FIELDS, "RateLimit-Reset", "X-RateLimit-Reset"]), st.text()), max_size=6))
def test_nothing_makes_it_raise(fields: list[tuple[str, str]]) -> None:
    """Any text: None, or a number of requests and of seconds that are not negative."""
    found = read(*fields)
    assert found is None or (found[0] >= 0 and found[1] >= 0)


def test_a_long_field_costs_little() -> None:
    assert read(("RateLimit", "r=1;" * 1_000_000)) is None
