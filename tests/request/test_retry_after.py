"""How long a server asks to be left alone: each form of the field, and what is none."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.request.retry_after import retry_after

NOW = 784111770.0  # 7 seconds before the date that RFC 9110 section 5.6.7 uses as its example


@pytest.mark.parametrize(
    "value",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    ids=["IMF-fixdate", "rfc850", "asctime"],
)
def test_all_three_forms_of_a_date_are_read(value: str) -> None:
    """The same moment in the three forms of RFC 9110 section 5.6.7 is the same wait."""
    assert retry_after([value], NOW) == 7.0
    assert retry_after([f"  {value}\t"], NOW) == 7.0


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("3", 3), ("120", 120), ("007", 7), (" 5 ", 5), ("000", 0)])
def test_delta_seconds_are_read(value: str, seconds: int) -> None:
    """Digits are seconds, with leading zeros and blanks around them allowed."""
    assert retry_after([value], NOW) == seconds


@pytest.mark.parametrize(
    "value", ["Sun, 06 Nov 1994 08:49:29 GMT", "Thursday, 01-Jan-70 00:00:00 GMT", "Sun Nov  6 08:49:30 1993"]
)
def test_a_date_that_has_passed_is_no_wait(value: str) -> None:
    """A date in the past asks for nothing; it is never a negative wait."""
    assert retry_after([value], NOW) == 0.0


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-5",
        "- 5",
        "+5",
        "3.5",
        "1e3",
        "0x10",
        "5s",
        "5 s",
        "soon",
        "inf",
        "nan",
        "\u0665",
        "\u00b2",
        "120, 240",
        "Sun, 99 Foo 1994 99:99:99 GMT",
        "Sun, 06 Nov 99999 08:49:37 GMT",
        "x" * 100_000,
        "Sun, 06 Nov 2094 08:49:37 GMT" + " " * 60 + "x",
        "\0",
        "5\r\n",
    ],
)
def test_garbage_is_ignored(value: str) -> None:
    """What is neither seconds nor a date asks for nothing."""
    assert retry_after([value], NOW) == (5.0 if value.strip() == "5" else 0.0)


@pytest.mark.parametrize("digits", [13, 400, 5000, 1_000_000])
def test_a_huge_number_is_infinite(digits: int) -> None:
    """A number beyond every limit is a wait without end, not an OverflowError and not a ValueError of int()."""
    assert retry_after(["9" * digits], NOW) == math.inf


def test_zeros_do_not_make_a_number_huge() -> None:
    """Leading zeros do not count as digits."""
    assert retry_after(["0" * 5000 + "9"], NOW) == 9.0


def test_of_several_fields_the_longest_wait_counts() -> None:
    """Two fields that disagree are taken at the longer wait, whatever their order and form."""
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    assert retry_after(["3", "30", "garbage"], NOW) == 30.0
    assert retry_after(["3", date], NOW) == retry_after([date, "3"], NOW) == 7.0


def test_no_field_is_no_wait() -> None:
    """Without the field nothing is asked for."""
    assert retry_after([], NOW) == 0.0
    assert retry_after(iter(()), NOW) == 0.0


def test_a_zone_is_honoured() -> None:
    """A date with another zone than GMT is compared as the moment that it names."""
    assert retry_after(["Sun, 06 Nov 1994 10:49:37 +0200"], NOW) == 7.0


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.text(max_size=80), max_size=4), st.floats(0, 4e9))
def test_no_text_ever_raises(values: list[str], now: float) -> None:
    """Whatever text a server sends, the answer is a number of seconds >= 0."""
    seconds = retry_after(values, now)
    assert seconds >= 0
    assert not math.isnan(seconds)


_PIECES = st.sampled_from(
    [
        *[
            "Sun",
            "Sunday",
            ",",
            "-",
            "06",
            "Nov",
            "94",
            "1994",
            "08:49:37",
            "GMT",
            "+0000",
            "-9999",
            "+999999",
            ":",
            "0",
            "99999999999999999999",
            "1e400",
            "(",
            ")",
            "AM",
            "Z",
            ".",
        ],
        *(" ", "\\", "\0", "\u0661", "\ud800"),
    ]
)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.lists(_PIECES, max_size=9).map("".join), st.floats(0, 4e9))
def test_no_mixture_of_date_pieces_ever_raises(value: str, now: float) -> None:
    """Texts that are nearly dates are numbers of seconds too."""
    assert retry_after([value], now) >= 0


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1)), st.integers(0, 4_000_000_000))
def test_every_date_is_its_distance(moment: datetime, now: int) -> None:
    """An IMF-fixdate is the time until then, or 0 if it has passed."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    value = format_datetime(moment, usegmt=True)
    assert retry_after([value], now) == max(0.0, moment.timestamp() - now)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10**12 - 1))
def test_every_number_is_itself(seconds: int) -> None:
    """Delta-seconds are taken as they are."""
    assert retry_after([str(seconds)], NOW) == seconds
