"""What a schedule has learnt of a host goes on in another one, whose clock is another."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiodownload.errors import HostDownError
from aiodownload.request.adaptive import HostPace
from aiodownload.request.health import Health
from aiodownload.request.hosts import Entry, Limits, Share
from aiodownload.request.memory import Memory
from aiodownload.request.schedule import Schedule

NEVER = float("-inf")


def travelled(memories: dict[str, Memory], seconds: float = 0.0) -> dict[str, Memory]:
    """As they arrive elsewhere, so many seconds later."""
    arrived: dict[str, Memory] = pickle.loads(pickle.dumps(memories))
    return {origin: memory.later(seconds) for origin, memory in arrived.items()}


def asked(schedule: Schedule[str], origin: str, now: float) -> Entry[str]:
    """One request to ``origin``, that has begun."""
    entry = Entry("x", origin)
    schedule.add(entry, now)
    assert schedule.next(now) is entry
    return entry


def first_start(schedule: Schedule[str], origin: str, now: float) -> float:
    """When the next request to ``origin`` starts."""
    schedule.add(Entry("next", origin), now)
    for _ in range(100):
        if schedule.next(now) is not None:
            return now
        wake = schedule.wake_at(now)
        assert wake is not None
        now = wake
    raise AssertionError("it never starts")


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 100))
def test_a_pause_lasts_as_long(here: float, there: float, between: float) -> None:
    """However different the clocks, the host is asked when it said, and not sooner."""
    first: Schedule[str] = Schedule(Limits(4))
    entry = asked(first, "h", here)
    first.answered(entry, here, later=True, told=True)
    first.leave_alone(entry, here, told=50.0, wait=0.0)
    first.release(entry, here)
    second: Schedule[str] = Schedule(Limits(4))
    second.recall(travelled(first.remembered(here), between), NEVER, there)
    expected = max(0.0, 50.0 - between)
    assert first_start(second, "h", there) - there == pytest.approx(expected, abs=1e-3)


def test_a_rate_goes_on() -> None:
    """The first start elsewhere comes no sooner after the last one here than the rate allows."""
    first: Schedule[str] = Schedule(Limits(4, rate=2))
    first.release(asked(first, "h", 100.0), 100.1)
    second: Schedule[str] = Schedule(Limits(4, rate=2))
    second.recall(travelled(first.remembered(100.1), 0.2), NEVER, 7.0)
    assert first_start(second, "h", 7.0) == pytest.approx(7.0 + 0.5025 - 0.3, abs=1e-6)


def test_a_spacing_goes_on() -> None:
    """Of a host, and of the run."""
    first: Schedule[str] = Schedule(Limits(4, spaced_per_host=True))
    entry = Entry("x", "h", 2.0)
    first.add(entry, 100.0)
    first.next(100.0)
    second: Schedule[str] = Schedule(Limits(4, spaced_per_host=True))
    second.recall(travelled(first.remembered(100.5)), NEVER, 7.0)
    following = Entry("y", "h", 2.0)
    second.add(following, 7.0)
    assert second.next(8.4) is None
    assert second.next(8.6) is following
    third: Schedule[str] = Schedule(Limits(4))
    third.recall({}, -0.5, 7.0)
    spaced = Entry("z", "other", 2.0)
    third.add(spaced, 7.0)
    assert third.next(8.4) is None
    assert third.next(8.6) is spaced


def test_a_host_that_is_down_stays_so() -> None:
    """Its entries are refused elsewhere as here, for the rest of the time."""
    first: Schedule[str] = Schedule(Limits(8))
    for _ in range(40):
        entry = asked(first, "h", 5.0) if not first.refusals else None
        if entry is None:
            break
        first.unanswered(entry, 5.0, lambda _: HostDownError("down"))
        first.release(entry, 5.0)
        first.give_up(entry, 5.0, lambda _: HostDownError("down"))
        if first.remembered(5.0)["h"].paused:
            break
    second: Schedule[str] = Schedule(Limits(8))
    second.recall(travelled(first.remembered(5.0)), NEVER, 1000.0)
    entry = Entry("x", "h")
    second.add(entry, 1001.0)
    assert second.refused() is entry
    assert isinstance(entry.error, HostDownError)
    later = Entry("y", "h")
    second.add(later, 1000.0 + 61)
    assert second.refused() is None


def test_what_adaptive_has_found_goes_on() -> None:
    """Rate and window, within what is allowed there."""

    def pace(most: int) -> HostPace:
        return HostPace(most)

    first: Schedule[str] = Schedule(Limits(64, pace=lambda: pace(16)))
    now = 100.0
    for _ in range(400):
        entry = Entry("x", "h")
        first.add(entry, now)
        while first.next(now) is None:
            now = first.wake_at(now) or now + 0.001
        now += 0.002
        first.answered(entry, now)
        first.release(entry, now)
    found = first.remembered(now)["h"].pace
    assert found.per_second > 100
    second: Schedule[str] = Schedule(Limits(64, pace=lambda: pace(4)))
    second.recall(travelled(first.remembered(now)), NEVER, 3.0)
    going_on = second.remembered(3.0)["h"].pace
    assert going_on.per_second == found.per_second
    assert going_on.window == 4


def test_the_first_memory_is_not_changed() -> None:
    """It may have to go out once more."""
    first: Schedule[str] = Schedule(Limits(4, rate=1, pace=lambda: HostPace(4)))
    asked(first, "h", 10.0)
    memories = first.remembered(10.0)
    before = pickle.dumps(memories)
    second: Schedule[str] = Schedule(Limits(4, rate=1, pace=lambda: HostPace(4)))
    second.recall(memories, NEVER, 99.0)
    first_start(second, "h", 99.0)
    assert pickle.dumps(memories) == before


def test_a_host_of_which_nothing_is_known_is_not_told_of() -> None:
    """Otherwise a crawl of a million hosts would carry them all along."""
    schedule: Schedule[str] = Schedule(Limits(4))
    entry = asked(schedule, "h", 1.0)
    schedule.answered(entry, 1.0)
    schedule.release(entry, 1.0)
    assert schedule.remembered(1.0) == {}


def test_limits_of_strangers_are_divided() -> None:
    """A host that is not one's own may be asked by others, too."""
    schedule: Schedule[str] = Schedule(Limits(16, per_host=6, rate=30), Share(frozenset({"own"}), 3))
    for origin, most, interval in (("own", 6, 1 / 30), ("stranger", 2, 1 / 10)):
        now, starts = 50.0, []
        for _ in range(8):
            schedule.add(Entry("x", origin), now)
        while (entry := schedule.next(now)) is not None or (wake := schedule.wake_at(now)) is not None:
            if entry is not None:
                starts.append(now)
            else:
                now = wake
        assert len(starts) == most
        assert starts[1] - starts[0] == pytest.approx(interval, rel=0.01)


def test_what_several_know_of_one_host() -> None:
    """The longer pause, the later next start and the greater delay count; all else is what was told last."""
    former: Schedule[str] = Schedule(Limits(4, rate=1))
    entry = asked(former, "h", 10.0)
    former.leave_alone(entry, 10.0, told=5.0, wait=0.0)
    former.slow_down("h", 10.0, 0.5)
    latter: Schedule[str] = Schedule(Limits(4, rate=1))
    asked(latter, "h", 10.5)
    both = latter.remembered(11.0)["h"].heeding(former.remembered(11.0)["h"])
    assert both.paused == 4.0
    assert both.rate is not None
    assert both.rate.next_start == pytest.approx(0.505)
    assert (both.delay, both.last_start) == (0.5, -0.5)
    assert both.until == 60.0
    assert latter.remembered(11.0)["h"].paused == 0.0  # what it was made of is as it was


def test_a_host_that_is_closed_for_one_is_closed_for_all_parts() -> None:
    """And its bundles fail with the same reason."""
    health, other = Health(), Health()
    for number in range(12):
        other.unanswered(number, number, first=number < 9, connected=False)
        other.give_up()
    assert other.found_down(12.0)
    other.error = HostDownError("it is down")
    health.heed(other)
    assert (health.is_closed(12.0), health.error, health.opens_in(12.0)) == (True, other.error, 60.0)
    health.heed(Health())
    assert health.opens_in(12.0) == 60.0
    health.answered(later=False)  # to the probe
    assert not health.is_closed(72.0)
    health.unanswered(80.0, 81.0, first=True, connected=False)
    assert not health.found_down(81.0)


def test_a_host_that_is_split() -> None:
    """Each part has its share of slots, rate, delay and of what the host still allows; other hosts are not divided."""
    share = Share(frozenset({"own"}), 5, frozenset({"split"}), 2)
    assert [share.parts_of(origin) for origin in ("own", "split", "far")] == [1, 2, 5]
    schedule: Schedule[str] = Schedule(Limits(16, per_host=5, rate=10), share)
    entries = [Entry(str(number), "split") for number in range(5)]
    for entry in entries:
        schedule.add(entry, 50.0)
    assert first_start(schedule, "split", 50.0) == 50.0
    assert schedule.wake_at(50.0) == pytest.approx(50.201)
    schedule.allow(entries[0], 50.0, 7, 60.0)
    schedule.slow_down("split", 50.0, 1.5)
    assert schedule.wake_at(50.0) == 53.0
    known = schedule.remembered(50.0)["split"]
    assert known.health.quota == 7 // 2 - 1


def test_at_least_one_request_at_once() -> None:
    """With more workers than ``per_host``, too."""
    assert Limits(16, per_host=2).divided(5).per_host == 1
    assert Limits(16).divided(5) == Limits(16, parts=5)
