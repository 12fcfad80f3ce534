"""The schedule: who may go when, with a clock made of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.errors import AioDownloadError, HostDownError
from aiodownload.request.health import COOL, FEW, PROBE, SUSPECT
from aiodownload.request.hosts import REMEMBERED
from aiodownload.request.line import LATE
from aiodownload.request.schedule import Entry, Limits, Schedule

pytestmark = pytest.mark.once


def schedule_of(
    concurrent: int, items: Iterable[str] = (), spacing: float = 0.0, *, per_host: int | None = None, **limits: object
) -> Schedule[str]:
    """A schedule in which ``items`` became ready at 0; each goes to the host that its first letter names."""
    schedule: Schedule[str] = Schedule(Limits(concurrent, per_host, **limits))  # type: ignore[arg-type]
    for item in items:
        schedule.add(Entry(item, item[0], spacing), 0.0)
    return schedule


def start(schedule: Schedule[str], now: float) -> list[Entry[str]]:
    """Start what may go."""
    entries = []
    while (entry := schedule.next(now)) is not None:
        entries.append(entry)
    return entries


def started(schedule: Schedule[str], now: float) -> list[str]:
    """The same, by their names."""
    return [entry.item for entry in start(schedule, now)]


def refused(schedule: Schedule[str]) -> list[str]:
    """Those that need not wait any longer."""
    items = []
    while (entry := schedule.refused()) is not None:
        items.append(entry.item)
    return items


def down(seconds: float) -> AioDownloadError:
    """Why the bundles of a host fail."""
    return HostDownError(f"down for {seconds:g} s")


# One host, and the limits of the run.


def test_first_come_first_served() -> None:
    """Ready entries of a host start in the order in which they were put in."""
    assert started(schedule_of(3, ["a1", "a2", "a3"]), 0.0) == ["a1", "a2", "a3"]


def test_no_more_than_concurrent() -> None:
    """A slot is taken by each start, and free again after its release."""
    schedule = schedule_of(2, ["a1", "a2", "a3"])
    first, second = start(schedule, 0.0)
    assert not schedule.free
    assert schedule.wake_at(0.0) is None
    schedule.release(first, 1.0)
    schedule.release(first, 1.0)  # giving back twice is giving back once
    assert schedule.free
    assert schedule.wake_at(1.0) == 1.0
    assert started(schedule, 1.0) == ["a3"]
    assert second.active


def test_the_spacing_lies_between_all_starts_of_the_run() -> None:
    """Starts are ``spacing`` apart, whichever hosts they go to."""
    schedule = schedule_of(10, ["a", "b", "c"], 0.25)
    assert started(schedule, 0.0) == ["a"]
    assert started(schedule, 0.2) == []
    assert schedule.wake_at(0.2) == 0.25
    assert started(schedule, 0.25) == ["b"]
    assert started(schedule, 5.0) == ["c"]


def test_the_spacing_may_lie_between_the_starts_for_a_host() -> None:
    """Another host need not wait for it, then."""
    schedule = schedule_of(10, ["a1", "a2", "b1", "b2"], 0.25, spaced_per_host=True)
    assert started(schedule, 0.0) == ["a1", "b1"]
    assert schedule.wake_at(0.0) == 0.25
    assert started(schedule, 0.25) == ["a2", "b2"]


@pytest.mark.parametrize("spacing", [0.0, -1.0])
def test_no_spacing_is_at_once(spacing: float) -> None:
    """Without spacing everything starts at once."""
    assert started(schedule_of(3, ["a1", "a2", "a3"], spacing), 0.0) == ["a1", "a2", "a3"]


def test_a_waiting_entry_holds_no_slot() -> None:
    """One that waits for a retry lets others pass."""
    schedule = schedule_of(1)
    schedule.add(Entry("later", "l"), 0.0, 60.0)
    schedule.add(Entry("now", "l"), 0.0)
    assert schedule.active == 0
    (now,) = start(schedule, 0.0)
    assert now.item == "now"
    schedule.release(now, 1.0)
    assert schedule.wake_at(1.0) == 60.0
    assert started(schedule, 59.9) == []
    assert started(schedule, 60.0) == ["later"]


def test_waiting_entries_come_by_due_time() -> None:
    """Entries that wait become ready in the order of their due times; equal ones in the order put in."""
    schedule = schedule_of(4)
    for item, delay in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0)):
        schedule.add(Entry(item, "host"), 0.0, delay)
    assert started(schedule, 10.0) == ["a", "b1", "b2", "c"]


@pytest.mark.parametrize("delay", [0.0, -1.0])
def test_no_delay_is_ready_at_once(delay: float) -> None:
    """A delay of nothing or less does not wait."""
    schedule = schedule_of(1)
    schedule.add(Entry("a"), 5.0, delay)
    assert started(schedule, 5.0) == ["a"]


def test_there_is_nothing_to_wake_for_in_an_empty_schedule() -> None:
    """An empty schedule never wakes."""
    schedule = schedule_of(1)
    assert schedule.wake_at(0.0) is None
    assert schedule.next(0.0) is None


def test_discarded_entries_never_start() -> None:
    """Entries of a run that has ended leave the schedule, ready and waiting ones; the others stay in order."""
    schedule = schedule_of(9, ["a1", "b1", "a2"])
    for item, delay in (("a3", 1.0), ("b2", 2.0), ("a4", 3.0), ("b3", 1.5)):
        schedule.add(Entry(item, "b"), 0.0, delay)
    schedule.discard(lambda item: item.startswith("a"))
    assert started(schedule, 0.0) == ["b1"]
    assert schedule.wake_at(0.0) == 1.5
    assert started(schedule, 9.0) == ["b3", "b2"]


def test_a_withdrawn_entry_never_starts() -> None:
    """One that is not wanted any more is passed over, ready or waiting."""
    schedule = schedule_of(9)
    ready, waiting = Entry("a1", "a"), Entry("a2", "a")
    schedule.add(ready, 0.0)
    schedule.add(waiting, 0.0, 1.0)
    schedule.withdraw(ready)
    schedule.withdraw(waiting)
    assert started(schedule, 5.0) == []


def test_its_repr_shows_the_live_state() -> None:
    """The repr counts what is active, the hosts, and those that may go now."""
    schedule = schedule_of(2, ["a1", "b1", "c1"])
    schedule.next(0.0)
    assert repr(schedule) == "<Schedule active=1/2 hosts=3 in line=2>"


# Hosts.


def test_hosts_take_turns() -> None:
    """A long queue of one host does not keep others waiting."""
    schedule = schedule_of(9, ["a1", "a2", "a3", "b1", "c1", "c2"])
    assert started(schedule, 0.0) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_no_more_than_per_host() -> None:
    """A host has at most so many at once; a slot that is free goes to another."""
    schedule = schedule_of(4, ["a1", "a2", "a3", "b1"], per_host=2)
    entries = start(schedule, 0.0)
    assert [entry.item for entry in entries] == ["a1", "b1", "a2"]
    assert schedule.spare == schedule.concurrent - schedule.active > 0
    schedule.release(entries[1], 0.1)
    assert started(schedule, 0.1) == []
    schedule.release(entries[0], 0.2)
    assert started(schedule, 0.2) == ["a3"]


def test_the_rate_of_a_host() -> None:
    """Starts lie evenly apart, however late the last one came, and other hosts are not held up."""
    schedule = schedule_of(9, ["a1", "a2", "a3", "b1"], rate=10)
    assert started(schedule, 0.0) == ["a1", "b1"]
    wake = schedule.wake_at(0.0)
    assert wake == pytest.approx(0.1, rel=0.01)
    assert started(schedule, 0.09) == []
    assert started(schedule, 1.0) == ["a2"]
    assert started(schedule, 1.09) == []
    assert started(schedule, 1.11) == ["a3"]


def test_one_that_waits_for_its_host_lets_the_others_pass() -> None:
    """A host that is left alone for a minute holds up nobody else."""
    schedule = schedule_of(9, ["a1", "a2", "b1"])
    a, b = start(schedule, 0.0)[:2]
    schedule.add(Entry("a3", "a"), 0.0)
    schedule.leave_alone(a, 0.0, told=60.0, wait=0.0)
    schedule.release(a, 0.0)
    schedule.release(b, 0.0)
    schedule.add(Entry("b2", "b"), 0.0)
    assert started(schedule, 0.0) == ["b2"]
    assert schedule.wake_at(0.0) == 60.0
    assert started(schedule, 60.0) == ["a3"]


def test_a_pause_without_an_end_grows() -> None:
    """A 503 that names no time: 0.1, 0.2, 0.4 s … up to what the bundle itself waits; one success, and anew."""
    schedule = schedule_of(9, ["a1"])
    (entry,) = start(schedule, 0.0)
    now, pauses = 0.0, []
    for _ in range(5):
        schedule.answered(entry, now, later=True)
        schedule.leave_alone(entry, now, told=0.0, wait=1.0)
        schedule.release(entry, now)
        schedule.add(entry, now)
        wake = schedule.wake_at(now)
        assert wake is not None
        pauses.append(wake - now)
        now = wake
        (entry,) = start(schedule, now)
    assert pauses == pytest.approx([COOL, 2 * COOL, 4 * COOL, 8 * COOL, 1.0])
    schedule.answered(entry, now)
    schedule.leave_alone(entry, now, told=0.0, wait=10.0)
    schedule.release(entry, now)
    schedule.add(entry, now)
    assert schedule.wake_at(now) == now + COOL


def test_those_under_way_together_count_once() -> None:
    """Eight 503s to eight requests that were under way make one pause, not eight."""
    schedule = schedule_of(9, [f"a{number}" for number in range(8)])
    for entry in start(schedule, 0.0):
        schedule.answered(entry, 1.0, later=True)
        schedule.leave_alone(entry, 1.0, told=0.0, wait=60.0)
        schedule.release(entry, 1.0)
    schedule.add(Entry("a", "a"), 1.0)
    assert schedule.wake_at(1.0) == 1.0 + COOL


def test_a_quota_is_kept() -> None:
    """A host that allows two more requests in the next ten seconds gets two."""
    schedule = schedule_of(9, ["a1"])
    (entry,) = start(schedule, 0.0)
    for number in range(5):
        schedule.add(Entry(f"b{number}", "a"), 0.0)
    others = start(schedule, 0.0)
    assert len(others) == 5
    for other in others:
        schedule.answered(other, 0.5)
        schedule.release(other, 0.5)
    schedule.answered(entry, 0.5)
    schedule.allow(entry, 0.5, 2, 10.0)
    for number in range(4):
        schedule.add(Entry(f"c{number}", "a"), 0.5)
    assert started(schedule, 0.5) == ["c0", "c1"]
    assert schedule.wake_at(0.5) == 10.5
    assert started(schedule, 10.5) == ["c2", "c3"]


def test_requests_under_way_use_up_a_quota() -> None:
    """Three wait for their answers when a fourth says that four are left: one more may start."""
    schedule = schedule_of(9, ["a1", "a2", "a3", "a4"])
    first = start(schedule, 0.0)[0]
    schedule.answered(first, 0.5)
    schedule.allow(first, 0.5, 4, 10.0)
    for item in ("a5", "a6"):
        schedule.add(Entry(item, "a"), 0.5)
    assert started(schedule, 0.5) == ["a5"]


# Hosts that do not answer.


def fail(schedule: Schedule[str], entry: Entry[str], now: float) -> None:
    """The host does not answer, and that was the last try."""
    schedule.unanswered(entry, now, down)
    schedule.release(entry, now)
    schedule.give_up(entry, now, down)


def test_a_host_that_does_not_answer_gets_a_few_at_a_time() -> None:
    """After a few tries without any answer it holds three slots, not all."""
    schedule = schedule_of(8, [f"a{number}" for number in range(9)])
    entries = start(schedule, 0.0)
    assert len(entries) == 8
    for entry in entries[:SUSPECT]:
        schedule.unanswered(entry, 1.0, down)
        schedule.release(entry, 1.0)
        schedule.add(entry, 1.0, 5.0)
    assert started(schedule, 10.0) == []
    for entry in entries[SUSPECT:]:
        schedule.unanswered(entry, 11.0, down)
        schedule.release(entry, 11.0)
    assert len(started(schedule, 11.0)) == FEW


def test_few_bundles_go_through_their_tries() -> None:
    """While a host does not answer, those that have begun go on trying when they are due; the others are not begun."""
    schedule = schedule_of(8, [f"a{number}" for number in range(20)])
    begun = start(schedule, 0.0)
    for entry in begun:
        schedule.unanswered(entry, 1.0, down)
        schedule.release(entry, 1.0)
        schedule.add(entry, 1.0, 60.0)
    assert started(schedule, 1.0) == []
    assert schedule.wake_at(1.0) == 61.0
    assert started(schedule, 60.0) == []
    few = start(schedule, 61.0)
    assert few == begun[:FEW]
    schedule.answered(few[0], 61.0)
    assert len(start(schedule, 61.0)) == 8 - FEW


def until_refused(schedule: Schedule[str], now: float) -> list[str]:
    """The host answers nobody: those that were asked, until the others are refused."""
    asked = []
    while not schedule.refusals:
        entry = schedule.next(now)
        assert entry is not None
        asked.append(entry.item)
        fail(schedule, entry, now)
    return asked


def test_after_a_few_bundles_the_others_need_not_wait() -> None:
    """They fail with the reason; so does who comes later, until the host is probed."""
    schedule = schedule_of(1, [f"a{number}" for number in range(20)])
    asked = until_refused(schedule, 1.0)
    assert asked == [f"a{number}" for number in range(6)]
    assert refused(schedule) == [f"a{number}" for number in range(6, 20)]
    late = Entry("a20", "a")
    schedule.add(late, 2.0)
    assert refused(schedule) == ["a20"]
    assert str(late.error) == f"down for {PROBE:g} s"
    # A probe.
    for item in ("b1", "b2"):
        schedule.add(Entry(item, "a"), 1.0 + PROBE)
    assert refused(schedule) == []
    (probe,) = start(schedule, 1.0 + PROBE)
    assert probe.item == "b1"
    schedule.answered(probe, 1.0 + PROBE)
    schedule.release(probe, 1.0 + PROBE)
    assert started(schedule, 1.0 + PROBE) == ["b2"]


def test_broken_urls_do_not_bring_their_host_down() -> None:
    """However many fail without an answer: between any two that are given up, one that was not asked yet is, and as
    long as one of them is answered, none is refused.
    """
    schedule = schedule_of(4, [f"a{number}" for number in range(100)])
    answered = 0
    tries: Counter[str] = Counter()
    while (entry := schedule.next(0.0)) is not None:
        tries[entry.item] += 1
        if int(entry.item[1:]) % 3 == 0:
            schedule.answered(entry, 0.0)
            schedule.release(entry, 0.0)
            answered += 1
        elif tries[entry.item] == 2:
            fail(schedule, entry, 0.0)
        else:
            schedule.unanswered(entry, 0.0, down)
            schedule.release(entry, 0.0)
            schedule.add(entry, 0.0)
    assert refused(schedule) == []
    assert answered == 34


def test_an_unanswered_probe_closes_the_host_for_longer() -> None:
    """Each probe without an answer doubles the time to the next."""
    schedule = schedule_of(1, [f"a{number}" for number in range(9)])
    until_refused(schedule, 0.0)
    refused(schedule)
    schedule.add(Entry("probe", "a"), PROBE)
    schedule.add(Entry("other", "a"), PROBE)
    (probe,) = start(schedule, PROBE)
    fail(schedule, probe, PROBE)
    assert refused(schedule) == ["other"]
    schedule.add(Entry("early", "a"), PROBE * 2.9)
    assert refused(schedule) == ["early"]
    schedule.add(Entry("again", "a"), PROBE * 3)
    assert started(schedule, PROBE * 3) == ["again"]


def test_one_answer_and_all_is_well() -> None:
    """Bundles that were given up count only in a row."""
    schedule = schedule_of(9)
    for _ in range(3):
        for _ in range(FEW - 1):
            schedule.add(Entry("a", "a"), 0.0)
            fail(schedule, start(schedule, 0.0)[0], 0.0)
        schedule.add(Entry("a", "a"), 0.0)
        (entry,) = start(schedule, 0.0)
        schedule.answered(entry, 0.0)
        schedule.release(entry, 0.0)
    assert refused(schedule) == []


def test_a_closed_host_refuses() -> None:
    """One that asks three times in a row, and says nothing else, for a longer wait than anybody has: all its entries
    are refused until then.
    """
    schedule = schedule_of(1, ["a1", "a2", "b1"])
    (entry,) = start(schedule, 0.0)
    for time in range(FEW):
        assert refused(schedule) == []
        schedule.answered(entry, 0.0, later=True, told=True)
        schedule.close(entry, 0.0, 7200.0, down(7200))
        if not time:
            schedule.answered(entry, 0.0)  # one good answer, and it counts anew
            schedule.close(entry, 0.0, 7200.0, down(7200))
    schedule.release(entry, 0.0)
    assert refused(schedule) == ["a2"]
    assert started(schedule, 0.0) == ["b1"]
    schedule.add(Entry("a3", "a"), 7199.0)
    assert refused(schedule) == ["a3"]
    schedule.release(entry, 7200.0)
    schedule.add(Entry("a4", "a"), 7200.0)
    assert refused(schedule) == []


# Further requests of what has been started.


def test_a_redirect_counts_where_it_leads() -> None:
    """The slot at the first host is free, and that at the second is taken."""
    schedule = schedule_of(9, ["a1", "a2", "b1"], per_host=1)
    a, b = start(schedule, 0.0)
    assert not schedule.move(a, "b", 0.1)
    assert started(schedule, 0.1) == ["a2"]
    schedule.add(Entry("b2", "b"), 0.1)
    schedule.release(b, 0.2)
    assert start(schedule, 0.2) == [a]  # first in the queue, and before b2
    schedule.release(a, 0.3)
    assert started(schedule, 0.3) == ["b2"]


def test_a_redirect_to_a_host_with_room_is_followed_at_once() -> None:
    """Nobody waits where nothing is to be waited for; the slot stays."""
    schedule = schedule_of(1, ["a1"])
    (entry,) = start(schedule, 0.0)
    assert schedule.move(entry, "b", 0.0)
    assert schedule.active == 1
    assert schedule.move(entry, "b", 0.0)
    schedule.release(entry, 0.0)
    assert schedule.active == 0


def test_a_redirect_keeps_its_distance() -> None:
    """It counts as a start: it waits for the spacing, and so does the next start after it."""
    schedule = schedule_of(2, ["a1", "b1"], 0.25)
    (entry,) = start(schedule, 0.0)
    assert not schedule.move(entry, "a", 0.1)
    assert start(schedule, 0.2) == []
    assert len(start(schedule, 0.25)) == 1
    assert schedule.wake_at(0.25) == 0.5


def test_a_redirect_to_a_closed_host_is_refused() -> None:
    """Whoever leads there gets the reason."""
    schedule = schedule_of(9, ["a1", "b1"])
    a, b = start(schedule, 0.0)
    for _ in range(FEW):
        schedule.close(b, 0.0, 7200.0, down(7200))
    assert not schedule.move(a, "b", 1.0)
    assert refused(schedule) == ["a1"]
    assert schedule.active == 1


def test_one_that_was_refused_may_move_on() -> None:
    """Its host is closed: it goes to another, and is not forgotten though it has to wait there."""
    schedule = schedule_of(9, ["a1", "b1", "c1"], per_host=1)
    a, b, c = start(schedule, 0.0)
    for _ in range(FEW):
        schedule.close(b, 0.0, 7200.0, down(7200))
    assert not schedule.move(a, "b", 1.0)
    assert refused(schedule) == ["a1"]
    schedule.withdraw(a)
    assert not schedule.move(a, "c", 1.0)
    schedule.release(c, 2.0)
    assert start(schedule, 2.0) == [a]


def test_a_delay_that_robots_txt_asks_for_is_kept() -> None:
    """Whatever the strategy's spacing; and a host that has one is not forgotten before."""
    schedule = schedule_of(9)
    schedule.slow_down("a", 0.0, 5.0)
    schedule.add(Entry("a1", "a"), 0.0)
    (entry,) = start(schedule, 0.0)
    schedule.answered(entry, 0.0)
    schedule.release(entry, 0.0)
    schedule.add(Entry("b1", "b"), 1.0)
    schedule.add(Entry("a2", "a"), 1.0)
    assert started(schedule, 1.0) == ["b1"]
    assert schedule.wake_at(1.0) == 5.0


def test_a_host_that_was_forgotten_does_not_take_its_successor_along() -> None:
    """An old timer of a host that is gone says nothing about the one of the same name that came after it."""
    schedule = schedule_of(9, per_host=1)
    schedule.add(Entry("a1", "a"), 0.0, 60.0)
    schedule.discard(lambda item: True)
    schedule._look_at(schedule._hosts["a"], 0.0)
    schedule.add(Entry("b1", "b"), 1.0)  # the first "a" is forgotten
    schedule.add(Entry("a2", "a"), 1.0)
    entry = next(one for one in start(schedule, 1.0) if one.origin == "a")
    schedule.leave_alone(entry, 1.0, told=3000.0, wait=0.0)
    start(schedule, 60.0)
    schedule.add(Entry("a3", "a"), 61.0)
    assert started(schedule, 61.0) == []
    assert schedule.opens_in("a", 61.0) > 2900


def test_a_quota_outlives_a_pause() -> None:
    """Two are allowed in the next five seconds, and then it is idle for a moment: two are still all."""
    schedule = schedule_of(9, ["a1"])
    (entry,) = start(schedule, 0.0)
    schedule.answered(entry, 0.0)
    schedule.allow(entry, 0.0, 2, 5.0)
    schedule.release(entry, 0.0)
    schedule.add(Entry("b1", "b"), 1.0)
    for number in range(4):
        schedule.add(Entry(f"a{number}", "a"), 1.0)
    assert sorted(started(schedule, 1.0)) == ["a0", "a1", "b1"]


def test_a_retry_that_is_far_away_is_noted_once() -> None:
    """Twenty thousand starts meanwhile leave no trace of it."""
    schedule = schedule_of(9, rate=100)
    schedule.add(Entry("far", "a"), 0.0, 3000.0)
    for number in range(2000):
        schedule.add(Entry("x", "a"), number / 10)
        for entry in start(schedule, number / 10):
            schedule.answered(entry, number / 10)
            schedule.release(entry, number / 10)
    assert len(schedule._timed) <= 3


# Hosts whose requests take long.


def test_slow_hosts_do_not_take_every_slot() -> None:
    """A quick host keeps as many slots as it uses, and some more, as long as it has something to do."""
    schedule = schedule_of(8, [f"{host}{turn}" for host in "bcdefghi" for turn in range(4)])
    for entry in start(schedule, 0.0):
        schedule.answered(entry, LATE + 1)
        schedule.release(entry, LATE + 1)
    for number in range(1000):
        schedule.add(Entry(f"a{number}", "a"), LATE + 1)
    now, quick = LATE + 1.0, 0
    for _ in range(40):  # the quick host is done with each in no time, the slow ones with none
        for entry in start(schedule, now):
            if entry.origin == "a":
                quick += 1
                schedule.answered(entry, now)
                schedule.release(entry, now)
        now += 0.01
    assert schedule.active == 2
    assert quick >= 6 * 40


def test_slow_hosts_have_all_slots_when_nobody_else_wants_them() -> None:
    """No slot stays free for a quick host that has nothing to do."""
    schedule = schedule_of(4, ["b1", "c1", "d1", "e1", "b2", "c2", "d2", "e2"])
    for entry in start(schedule, 0.0):
        schedule.release(entry, 5.0)
    assert len(start(schedule, 5.0)) == 4


# Memory.


def test_hosts_that_idle_are_forgotten() -> None:
    """A hundred thousand hosts with one entry each leave nothing behind."""
    schedule = schedule_of(4)
    for number in range(100_000):
        schedule.add(Entry("x", f"host{number}"), number / 1000)
        (entry,) = start(schedule, number / 1000)
        schedule.answered(entry, number / 1000)
        schedule.release(entry, number / 1000)
    assert repr(schedule).startswith("<Schedule active=0/4 hosts=1 ")


def test_what_was_learnt_is_remembered_for_a_while() -> None:
    """A host that did not answer is suspect still when the next bundle comes for it, but not for ever."""
    schedule = schedule_of(9, ["a1", "a2", "a3"])
    for entry in start(schedule, 0.0):
        schedule.unanswered(entry, 0.0, down)
        schedule.release(entry, 0.0)
    for now, expected in ((1.0, FEW), (2 + 2 * REMEMBERED, 5)):
        schedule.add(Entry("b", "b"), now)  # a new host is when old ones are forgotten
        for entry in start(schedule, now):
            schedule.release(entry, now)
        for item in ("a4", "a5", "a6", "a7", "a8"):
            schedule.add(Entry(item, "a"), now)
        entries = start(schedule, now)
        assert len(entries) == expected
        for entry in entries:
            schedule.release(entry, now)
        for entry in start(schedule, now):
            schedule.release(entry, now)


def test_a_host_that_idles_often_is_listed_once() -> None:
    """Coming and going a thousand times takes no more memory than once."""
    schedule = schedule_of(4, rate=1000)
    for turn in range(1000):
        schedule.add(Entry("x", "a"), turn)
        (entry,) = start(schedule, turn)
        schedule.release(entry, turn)
    assert len(schedule._idle) == 1
    assert len(schedule._timed) <= 1


# Whatever happens.

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 40), st.sampled_from("abc")),
        st.tuples(st.just("release"), st.integers(0, 9), st.just("")),
        st.tuples(st.just("pass"), st.integers(0, 15), st.just("")),
        st.tuples(st.just("move"), st.integers(0, 9), st.sampled_from("abc")),
        st.tuples(st.just("later"), st.integers(0, 9), st.just("")),
        st.tuples(st.just("silent"), st.integers(0, 9), st.just("")),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 5), st.one_of(st.none(), st.integers(1, 3)), st.integers(0, 10), st.booleans(), _STEPS)
def test_limits_hold_under_any_use(  # noqa: C901
    concurrent: int, per_host: int | None, spacing: int, spaced: bool, steps: list[tuple[str, int, str]]
) -> None:
    """Whatever happens when: no limit is passed, no pause is cut short, and nothing is lost."""
    schedule = schedule_of(concurrent, per_host=per_host, spaced_per_host=spaced)
    now, number = 0, 0
    starts: dict[str, list[float]] = {"": []}
    active: list[Entry[str]] = []
    moving: set[str] = set()
    alone: dict[str, float] = {}
    waiting: set[str] = set()

    def note(entry: Entry[str]) -> None:
        host = entry.host.origin if entry.host is not None else ""
        assert now >= alone.get(host, 0)
        starts[""].append(now)
        starts.setdefault(host, []).append(now)
        active.append(entry)

    for step, amount, host in steps:
        if step == "add":
            entry = Entry(f"{host}{number}", host, spacing)
            waiting.add(entry.item)
            schedule.add(entry, now, amount - 20)
            number += 1
        elif step == "pass":
            now += amount
        elif active:
            entry = active[amount % len(active)]
            if step == "move":
                active.remove(entry)
                if schedule.move(entry, host, now):
                    note(entry)
                else:
                    moving.add(entry.item)
            elif step == "later":
                schedule.answered(entry, now, later=True, told=True)
                schedule.leave_alone(entry, now, told=7, wait=0)
                assert entry.host is not None
                alone[entry.host.origin] = max(alone.get(entry.host.origin, 0), now + 7)
            elif step == "silent":
                schedule.unanswered(entry, now, down)
            else:
                active.remove(entry)
                schedule.release(entry, now)
        while (entry_ := schedule.next(now)) is not None:
            moving.discard(entry_.item)
            waiting.discard(entry_.item)
            note(entry_)
        assert schedule.active == len(active) <= concurrent
        hosts = Counter(entry.host.origin for entry in active if entry.host is not None)
        assert max(hosts.values(), default=0) <= (per_host or concurrent)
    spaced_starts = [one for name, one in starts.items() if name] if spaced else [starts[""]]
    for one in spaced_starts:
        assert all(later - earlier >= spacing for earlier, later in pairwise(one))
    # And all that waits does start in the end.
    for entry in active:
        schedule.answered(entry, now)
        schedule.release(entry, now)
    while (wake := schedule.wake_at(now)) is not None:
        assert wake >= now
        now = wake  # type: ignore[assignment]
        while (entry_ := schedule.next(now)) is not None:
            moving.discard(entry_.item)
            waiting.discard(entry_.item)
            schedule.answered(entry_, now)
            schedule.release(entry_, now)
    assert not moving
    assert not waiting


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 4), st.integers(0, 10), st.lists(st.integers(-5, 30), min_size=1, max_size=20))
def test_waking_when_told_starts_everything_in_time(concurrent: int, spacing: int, delays: list[int]) -> None:
    """A clock that only looks when ``wake_at`` says so starts every entry exactly once, and none before it is due."""
    schedule: Schedule[int] = Schedule(Limits(concurrent))
    for number, delay in enumerate(delays):
        schedule.add(Entry(number, f"host{number % 3}", spacing), 0, delay)
    now: float = 0
    started_at: dict[int, float] = {}
    while (wake := schedule.wake_at(now)) is not None:
        assert wake >= now
        now = wake
        entry = schedule.next(now)
        if entry is not None:
            assert entry.item not in started_at
            started_at[entry.item] = now
            schedule.release(entry, now)
    assert len(started_at) == len(delays)
    assert all(started_at[number] >= delay for number, delay in enumerate(delays))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.floats(0.5, 300),
    st.lists(st.floats(0, 0.05), min_size=50, max_size=400),
    st.floats(1, 3),
)
def test_no_window_holds_more_than_the_rate(rate: float, lags: list[float], window: float) -> None:
    """However late each start comes, no window of a second or more has more starts than its share."""
    schedule = schedule_of(9, [f"a{number}" for number in range(len(lags))], rate=rate)
    now, times = 0.0, []
    for lag in lags:
        wake = schedule.wake_at(now)
        assert wake is not None
        now = max(now, wake) + lag
        entry = schedule.next(now)
        if entry is not None:
            times.append(now)
            schedule.release(entry, now)
    for first, begin in enumerate(times):
        inside = sum(begin <= time < begin + window for time in times[first:])
        assert inside <= -(-rate * window // 1) + 1e-9
