"""Who may go now: slots, spacing, due times; with the time as an argument."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.request.schedule import Entry, Schedule


def schedule_of(concurrent: int, items: Iterable[str], spacing: float = 0.0) -> Schedule[str]:
    """A schedule in which ``items`` became ready at 0."""
    schedule: Schedule[str] = Schedule(concurrent)
    for item in items:
        schedule.add(Entry(item, spacing), 0.0)
    return schedule


def started(schedule: Schedule[str], now: float) -> list[str]:
    """All that start at ``now``."""
    items = []
    while (entry := schedule.next(now)) is not None:
        items.append(entry.item)
    return items


def test_first_come_first_served() -> None:
    """Entries start in the order in which they were put in."""
    assert started(schedule_of(3, "abc"), 0.0) == ["a", "b", "c"]


def test_no_more_than_concurrent_are_active() -> None:
    """A slot is taken by a start and only a release gives it back."""
    schedule = schedule_of(2, "abc")
    assert started(schedule, 0.0) == ["a", "b"]
    assert not schedule.free
    assert schedule.wake_at(0.0) is None
    schedule.release()
    assert schedule.free
    assert schedule.wake_at(1.0) == 1.0
    assert started(schedule, 1.0) == ["c"]


def test_starts_keep_their_spacing_although_slots_are_free() -> None:
    """With free slots, the second start waits for the spacing after the first, and so does the third."""
    schedule = schedule_of(10, "abc", 0.25)
    assert started(schedule, 0.0) == ["a"]
    assert started(schedule, 0.2) == []
    assert schedule.wake_at(0.2) == 0.25
    assert started(schedule, 0.25) == ["b"]
    assert started(schedule, 5.0) == ["c"]


def test_the_first_start_waits_for_nobody() -> None:
    """Spacing lies between starts; there is none before the first."""
    assert started(schedule_of(1, "a", 60), 0.0) == ["a"]


def test_a_negative_spacing_is_none() -> None:
    """A strategy that answers -1 gets no spacing, never an earlier start."""
    assert Entry("a", -1).spacing == 0.0
    assert started(schedule_of(3, "abc", -1), 0.0) == ["a", "b", "c"]


def test_a_waiting_entry_holds_no_slot() -> None:
    """While one entry waits for its due time, others use the only slot."""
    schedule: Schedule[str] = Schedule(1)
    schedule.add(Entry("later"), 0.0, 60.0)
    schedule.add(Entry("now"), 0.0)
    assert schedule.active == 0
    assert started(schedule, 0.0) == ["now"]
    schedule.release()
    assert schedule.wake_at(1.0) == 60.0
    assert started(schedule, 59.9) == []
    assert started(schedule, 60.0) == ["later"]


def test_waiting_entries_come_by_due_time() -> None:
    """Entries that wait become ready in the order of their due times; equal ones in the order put in."""
    schedule: Schedule[str] = Schedule(4)
    for item, delay in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0)):
        schedule.add(Entry(item), 0.0, delay)
    assert started(schedule, 10.0) == ["a", "b1", "b2", "c"]


@pytest.mark.parametrize("delay", [0.0, -1.0])
def test_no_delay_is_ready_at_once(delay: float) -> None:
    """A delay of nothing or less does not wait."""
    schedule: Schedule[str] = Schedule(1)
    schedule.add(Entry("a"), 5.0, delay)
    assert started(schedule, 5.0) == ["a"]


def test_there_is_nothing_to_wake_for_in_an_empty_schedule() -> None:
    """An empty schedule never wakes."""
    schedule: Schedule[str] = Schedule(1)
    assert schedule.wake_at(0.0) is None
    assert schedule.next(0.0) is None


def test_a_reserved_request_counts_as_a_start() -> None:
    """A redirect that an active entry follows keeps its distance from the last start, and the next start from it."""
    schedule = schedule_of(2, "ab", 0.25)
    assert started(schedule, 0.0) == ["a"]
    assert schedule.reserve(0.25, 0.1) == 0.25
    assert schedule.reserve(0.25, 0.1) == 0.5
    assert started(schedule, 0.5) == []
    assert schedule.wake_at(0.5) == 0.75
    assert started(schedule, 0.75) == ["b"]


def test_a_reserved_request_without_spacing_is_now() -> None:
    """Without spacing a redirect is followed at once."""
    assert schedule_of(1, ()).reserve(-1.0, 7.0) == 7.0


def test_discarded_entries_never_start() -> None:
    """Entries of a run that has ended leave the schedule, ready and waiting ones; the others stay in order."""
    schedule = schedule_of(9, ["a1", "b1", "a2"])
    for item, delay in (("a3", 1.0), ("b2", 2.0), ("a4", 3.0), ("b3", 1.5)):
        schedule.add(Entry(item), 0.0, delay)
    schedule.discard(lambda item: item.startswith("a"))
    assert started(schedule, 0.0) == ["b1"]
    assert schedule.wake_at(0.0) == 1.5
    assert started(schedule, 9.0) == ["b3", "b2"]


def test_its_repr_shows_the_live_state() -> None:
    """The repr counts what is active, ready and waiting."""
    schedule = schedule_of(2, "abc")
    schedule.add(Entry("d"), 0.0, 5.0)
    schedule.next(0.0)
    assert repr(schedule) == "<Schedule active=1/2 ready=2 waiting=1>"


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 40)),
        st.tuples(st.just("release"), st.just(0)),
        st.tuples(st.just("pass"), st.integers(0, 15)),
        st.tuples(st.just("reserve"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 4), st.integers(0, 10), _STEPS)
def test_limits_hold_under_any_use(concurrent: int, spacing: int, steps: list[tuple[str, int]]) -> None:
    """Whatever happens when: starts are never closer than the spacing, active ones never more than concurrent."""
    schedule: Schedule[int] = Schedule(concurrent)
    now, number = 0, 0
    starts: list[float] = []
    for step, amount in steps:
        if step == "add":
            schedule.add(Entry(number, spacing), now, amount - 20)
            number += 1
        elif step == "release" and schedule.active:
            schedule.release()
        elif step == "reserve" and schedule.active:
            starts.append(schedule.reserve(spacing, now))
        else:
            now += amount
        while schedule.next(now) is not None:
            starts.append(now)
        assert 0 <= schedule.active <= concurrent
    assert all(later - earlier >= spacing for earlier, later in pairwise(starts))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 4), st.integers(0, 10), st.lists(st.integers(-5, 30), min_size=1, max_size=20))
def test_waking_when_told_starts_everything_in_time(concurrent: int, spacing: int, delays: list[int]) -> None:
    """A clock that only looks when ``wake_at`` says so starts every entry exactly once, and none before it is due."""
    schedule: Schedule[int] = Schedule(concurrent)
    for number, delay in enumerate(delays):
        schedule.add(Entry(number, spacing), 0, delay)
    now: float = 0
    started_at: dict[int, float] = {}
    while (wake := schedule.wake_at(now)) is not None:
        assert wake >= now
        now = wake
        entry = schedule.next(now)
        if entry is not None:
            assert entry.item not in started_at
            started_at[entry.item] = now
            schedule.release()
    assert len(started_at) == len(delays)
    assert all(started_at[number] >= delay for number, delay in enumerate(delays))
