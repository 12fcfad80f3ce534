"""Bytes per second, with a clock of numbers; requests per second are tried with the schedule."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.request.pacing import BURST, Bandwidth


def test_the_first_bytes_are_paid_for_like_all_others() -> None:
    share = Bandwidth(100)
    assert share.take(50, 7.0) == 0.5
    assert share.take(50, 7.5) == 0.5
    assert share.take(50, 7.5) == 1.0  # of another stream


def test_what_comes_late_is_made_up_for_a_little() -> None:
    """An idle second is not saved up, but for a small part of it."""
    share = Bandwidth(1000)
    share.take(100, 0.0)
    assert share.take(int(1000 * BURST), 60.0) == 0
    assert share.take(100, 60.0) > 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 0.5)), min_size=5, max_size=100), st.integers(100, 100_000)
)
def test_no_window_holds_more_than_its_share(taken: list[tuple[int, float]], per_second: int) -> None:
    """Who waits as told never has more than the share of a window, one chunk and the small burst."""
    share = Bandwidth(per_second)
    now, came = 0.0, []
    for count, idle in taken:
        now += idle
        came.append((now, count))
        now += share.take(count, now)
    for at, (begin, _) in enumerate(came):
        for end, _ in came[at:]:
            inside = sum(count for time, count in came[at:] if time < end)
            largest = max(count for count, _ in taken)
            assert inside <= per_second * (end - begin + BURST) + largest + 1e-6
