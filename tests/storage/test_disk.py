"""The disk threads: shared trips, lanes that open beside a slow one, and no job that is forgotten."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio

from aiodownload.storage import disk as disk_module
from aiodownload.storage.disk import Disk

BOUND = 5  # seconds after which a wait has failed


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[Disk]:
    """The disk threads."""
    threads = Disk()
    yield threads
    await threads.close()


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs went along on each trip, in the order of departure."""
    seen: list[int] = []
    trip = disk_module._trip

    async def counted(jobs: Sequence[Callable[[], Any]], **more: Any) -> list[Any]:
        seen.append(len(jobs))
        return await trip(jobs, **more)

    monkeypatch.setattr(disk_module, "_trip", counted)
    return seen


class Gate:
    """A job that says when it has begun and ends when it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> int:
        self.begun.set()
        assert self.open.wait(BOUND)
        return threading.get_ident()


@contextmanager
def gates(count: int) -> Iterator[list[Gate]]:
    """So many gates; all are open in the end, so that a test that fails leaves no thread behind."""
    made = [Gate() for _ in range(count)]
    try:
        yield made
    finally:
        for gate in made:
            gate.open.set()


async def until(condition: Callable[[], bool]) -> None:
    """A short real wait with a bound."""
    async with asyncio.timeout(BOUND):
        while not condition():
            await asyncio.sleep(0.001)


def hand_in(disk: Disk, job: Callable[[], Any]) -> asyncio.Task[Any]:
    """Hand in a job with the next step of the loop."""
    return asyncio.create_task(disk.run(job))


def disk_threads() -> list[str]:
    """The disk threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aiodownload-disk")]


def refuse() -> None:
    """A job that fails."""
    raise OSError(28, "No space left on device")


def nothing() -> None:
    """A job with nothing to do."""


# What a job is called with, and what it gives


async def test_a_job_runs_in_a_disk_thread_with_its_arguments(disk: Disk) -> None:
    """Arguments arrive, the result comes back, and the event loop's thread does none of it."""

    def job(*args: int, **kwargs: int) -> tuple[tuple[int, ...], dict[str, int], str]:
        return args, kwargs, threading.current_thread().name

    args, kwargs, thread = await disk.run(job, 1, 2, third=3)
    assert (args, kwargs) == ((1, 2), {"third": 3})
    assert thread.startswith("aiodownload-disk")


async def test_no_thread_is_started_for_nothing() -> None:
    """A Disk that gets no job starts no thread, and closes."""
    disk = Disk()
    await asyncio.sleep(0)
    assert disk_threads() == []
    await disk.close()


# Trips


async def test_jobs_that_are_handed_in_together_share_a_trip(disk: Disk, trips: list[int]) -> None:
    """A hundred jobs of one step of the loop make one trip; each waiter gets its own result."""
    results = await asyncio.gather(*(disk.run(int, str(number)) for number in range(100)))
    assert results == list(range(100))
    assert trips == [100]


async def test_jobs_of_a_trip_are_done_in_the_order_they_came(disk: Disk) -> None:
    """Within a trip the first that was handed in is the first that is done."""
    done: list[int] = []
    await asyncio.gather(*(disk.run(done.append, number) for number in range(100)))
    assert done == list(range(100))


async def test_what_comes_during_a_trip_shares_the_next(
    disk: Disk, trips: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one trip is under way jobs collect, however they come; its end takes them all at once."""
    monkeypatch.setattr(disk_module, "SLOW", 3600)
    with gates(1) as (gate,):
        first = hand_in(disk, gate)
        await until(gate.begun.is_set)
        rest = []
        for _ in range(5):
            rest.append(hand_in(disk, nothing))
            await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, *rest)
    assert trips == [1, 5]


# Lanes


async def test_a_slow_trip_holds_up_no_other(disk: Disk, trips: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that comes while a trip is slow is done before that trip ends."""
    monkeypatch.setattr(disk_module, "SLOW", 0.01)
    with gates(1) as (gate,):
        slow = hand_in(disk, gate)
        await until(gate.begun.is_set)
        async with asyncio.timeout(BOUND / 2):
            assert await disk.run(int, "7") == 7
        assert not slow.done()
    await slow
    assert trips == [1, 1]


async def test_a_second_lane_opens_no_sooner_than_a_trip_is_slow(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second lane opens SLOW seconds after the first departed, not before."""
    monkeypatch.setattr(disk_module, "SLOW", 0.1)
    clock = asyncio.get_running_loop().time
    began = clock()
    with gates(1) as (gate,):
        slow = hand_in(disk, gate)
        await until(gate.begun.is_set)
        async with asyncio.timeout(BOUND / 2):
            await disk.run(nothing)
        assert clock() - began >= 0.09  # a timer may be early by the resolution of the clock
    await slow


async def test_each_trip_has_its_own_time_to_be_slow(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that was set during one trip opens no lane beside the next, which has only just departed."""
    monkeypatch.setattr(disk_module, "SLOW", 0.1)
    clock = asyncio.get_running_loop().time
    with gates(2) as (first, second):
        waiters = [hand_in(disk, first)]
        await until(first.begun.is_set)
        waiters.append(hand_in(disk, second))
        await asyncio.sleep(0.06)
        departed = clock()
        first.open.set()
        await until(second.begun.is_set)
        async with asyncio.timeout(BOUND / 2):
            await disk.run(nothing)
        assert clock() - departed >= 0.09
    await asyncio.gather(*waiters)


async def test_four_lanes_and_no_more(disk: Disk, trips: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Four slow trips are under way at once, in four threads; a fifth begins when one of them has ended."""
    monkeypatch.setattr(disk_module, "SLOW", 0.01)
    with gates(5) as (*four, fifth):
        waiters = []
        for gate in four:
            waiters.append(hand_in(disk, gate))
            await until(gate.begun.is_set)
        last = hand_in(disk, fifth)
        await asyncio.sleep(0.05)
        assert not fifth.begun.is_set()
        assert trips == [1, 1, 1, 1]
        four[2].open.set()
        await until(fifth.begun.is_set)
        assert [waiter.done() for waiter in waiters] == [False, False, True, False]
        for gate in (*four, fifth):
            gate.open.set()
        assert len({await waiter for waiter in waiters}) == 4
        await last
    assert trips == [1] * 5


async def test_quick_trips_stay_in_one_lane(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no trip is slow, no two jobs are ever done at the same time."""
    monkeypatch.setattr(disk_module, "SLOW", 3600)
    inside = threading.Semaphore(1)
    met = []

    def alone() -> None:
        if not inside.acquire(blocking=False):
            met.append(threading.current_thread().name)
            return
        threading.Event().wait(0.0005)
        inside.release()

    async def client(start: int) -> None:
        for turn in range(20):
            await disk.run(alone)
            for _ in range((start + turn) % 3):
                await asyncio.sleep(0)

    await asyncio.gather(*map(client, range(5)))
    assert met == []


async def test_lanes_close_again(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a slow time and an idle one, there is one lane at first, as in the beginning."""
    monkeypatch.setattr(disk_module, "SLOW", 0.01)
    with gates(4) as opened:
        waiters = []
        for gate in opened:
            waiters.append(hand_in(disk, gate))
            await until(gate.begun.is_set)
    await asyncio.gather(*waiters)
    monkeypatch.setattr(disk_module, "SLOW", 3600)
    with gates(2) as (first, second):
        one = hand_in(disk, first)
        await until(first.begun.is_set)
        other = hand_in(disk, second)
        await asyncio.sleep(0.02)
        assert not second.begun.is_set()
        first.open.set()
        await until(second.begun.is_set)
    await asyncio.gather(one, other)


# The end of a lane


@pytest.mark.parametrize("lanes", [1, disk_module.LANES])
async def test_a_job_right_after_another_is_not_forgotten(
    disk: Disk, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 jobs, each handed in in the very step that the one before is done: when its lane is just ending."""
    monkeypatch.setattr(disk_module, "LANES", lanes)
    monkeypatch.setattr(disk_module, "SLOW", 3600)
    async with asyncio.timeout(20):
        for number in range(2000):
            assert await disk.run(abs, -number) == number


async def test_a_job_some_steps_after_another_is_not_forgotten(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 jobs of several clients, each handed in none to four steps of the loop after the one before."""
    monkeypatch.setattr(disk_module, "LANES", 1)

    async def client(start: int) -> int:
        for number in range(500):
            assert await disk.run(abs, -number) == number
            for _ in range((start + number) % 5):
                await asyncio.sleep(0)
        return number + 1

    async with asyncio.timeout(20):
        assert await asyncio.gather(*map(client, range(4))) == [500] * 4


async def test_a_job_at_each_step_of_the_end_of_a_lane(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever step of the loop around the end of a lane a job comes in, it is done."""
    monkeypatch.setattr(disk_module, "LANES", 1)
    monkeypatch.setattr(disk_module, "SLOW", 3600)
    loop = asyncio.get_running_loop()
    late: list[asyncio.Task[Any]] = []

    def after(steps: int) -> None:
        if steps:
            loop.call_soon(after, steps - 1)
        else:
            late.append(hand_in(disk, nothing))

    async with asyncio.timeout(20):
        for number in range(200):
            first = hand_in(disk, nothing)
            first.add_done_callback(lambda _, steps=number % 8: after(steps))
            await first
            await until(lambda so_far=number: len(late) > so_far)
            await late[-1]


# Failures


async def test_an_exception_goes_to_its_own_waiter(disk: Disk, trips: list[int]) -> None:
    """Of three jobs on one trip the second fails: its waiter gets that very exception, the others their results."""
    error = ValueError("mine")

    def fail() -> None:
        raise error

    results = await asyncio.gather(disk.run(int, "1"), disk.run(fail), disk.run(int, "3"), return_exceptions=True)
    assert results == [1, error, 3]
    assert results[1] is error
    assert trips == [3]


@pytest.mark.parametrize("kind", [OSError, RuntimeError, asyncio.QueueEmpty, TimeoutError, StopIteration])
async def test_any_exception_leaves_the_disk_as_it_was(disk: Disk, kind: type[Exception]) -> None:
    """Whatever a job raises, its waiter hears of it, the others on the trip get theirs, and the next job is done."""

    def fail() -> None:
        raise kind

    jobs = [hand_in(disk, fail), hand_in(disk, nothing)]
    done, pending = await asyncio.wait(jobs, timeout=1)
    for waiter in pending:
        waiter.cancel()
    assert done == set(jobs), "these waiters were forgotten"
    assert jobs[0].exception() is not None
    assert jobs[1].exception() is None
    async with asyncio.timeout(1):
        assert await disk.run(int, "7") == 7


async def test_who_stops_waiting_disturbs_nobody(disk: Disk, trips: list[int]) -> None:
    """A waiter that is cancelled during the trip: its job and the others are done, the others get their results."""
    done: list[str] = []
    with gates(1) as (gate,):
        waiters = [hand_in(disk, job) for job in (gate, lambda: done.append("cancelled"), lambda: "result")]
        await until(gate.begun.is_set)
        waiters[1].cancel()
        await asyncio.wait([waiters[1]])
    assert await waiters[0] != threading.get_ident()
    assert await waiters[2] == "result"
    assert waiters[1].cancelled()
    assert done == ["cancelled"]
    assert trips == [3]


async def test_a_failure_that_nobody_waits_for_disturbs_nobody(disk: Disk) -> None:
    """A job that fails after its waiter was cancelled is no error of anybody else, and is not complained about."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with gates(1) as (gate,):
        first = hand_in(disk, gate)
        failing = hand_in(disk, refuse)
        await until(gate.begun.is_set)
        failing.cancel()
        await asyncio.wait([failing])
    await first
    await disk.run(nothing)
    assert failing.cancelled()
    assert told == []


def test_a_loop_that_is_taken_down_takes_the_waiters_along() -> None:
    """All tasks are cancelled during a trip: who waits for a job is cancelled too, and close() does not hang."""
    told: list[dict[str, Any]] = []

    async def main() -> bool:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        disk = Disk()
        with gates(1) as (gate,):
            waiter = hand_in(disk, gate)
            await until(gate.begun.is_set)
            lanes = asyncio.all_tasks() - {asyncio.current_task(), waiter}
            assert [lane.get_name() for lane in lanes] == ["aiodownload-disk"]
            for lane in lanes:
                lane.cancel()
            async with asyncio.timeout(BOUND / 2):
                await asyncio.wait([waiter])
        async with asyncio.timeout(BOUND):
            await disk.close()
        return waiter.cancelled()

    assert asyncio.run(main())
    assert told == []


# The end of it all


async def test_close_waits_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that are under way, jobs that wait for their trip, and what was left for later are done when it returns."""
    monkeypatch.setattr(disk_module, "LANES", 1)
    disk = Disk()
    done: list[str] = []

    def slow(name: str) -> None:
        threading.Event().wait(0.02)
        done.append(name)

    with gates(1) as (gate,):
        waiters = [hand_in(disk, gate)]
        await until(gate.begun.is_set)
        waiters += [hand_in(disk, lambda name=name: slow(name)) for name in "abc"]
        await asyncio.sleep(0)
        later = disk.later(lambda: slow("later"))
        closing = asyncio.create_task(disk.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
    await closing
    assert sorted(done) == ["a", "b", "c", "later"]
    assert later.done()
    assert all(waiter.done() for waiter in waiters)
    assert disk_threads() == []
    await asyncio.gather(*waiters)


async def test_close_waits_for_what_follows_from_what_it_waits_for() -> None:
    """A chain of jobs, each handed in when the one before is done, comes to its end though close() has begun."""
    disk = Disk()
    done: list[int] = []

    async def chain() -> None:
        for number in range(20):
            await disk.run(done.append, number)

    with gates(1) as (gate,):
        first = hand_in(disk, gate)
        await until(gate.begun.is_set)
        following = asyncio.create_task(chain())
        await asyncio.sleep(0)
        closing = asyncio.create_task(disk.close())
        await asyncio.sleep(0)
    await closing
    assert done == list(range(20))
    await asyncio.gather(first, following)


async def test_close_keeps_the_event_loop_free() -> None:
    """While close() waits for a thread, the loop goes on."""
    disk = Disk()
    with gates(1) as (gate,):
        disk.later(gate)
        await until(gate.begun.is_set)
        closing = asyncio.create_task(disk.close())
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert not closing.done()
    await closing


async def test_close_twice_is_close(disk: Disk) -> None:
    """A second close() finds nothing to do (the third comes from the fixture)."""
    await disk.run(nothing)
    await disk.close()
    await disk.close()


async def test_close_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer that waits for a trip to be slow is gone after close()."""
    monkeypatch.setattr(disk_module, "SLOW", 3600)
    disk = Disk()
    with gates(1) as (gate,):
        waiters = [hand_in(disk, gate)]
        await until(gate.begun.is_set)
        waiters.append(hand_in(disk, nothing))
        await until(lambda: disk._patience is not None)
        timer = disk._patience
    await disk.close()
    assert timer is not None
    assert timer.cancelled()
    await asyncio.gather(*waiters)


async def test_a_job_after_the_end_is_refused(disk: Disk) -> None:
    """A job for threads that have ended raises at once, to each waiter, instead of waiting for ever."""
    await disk.run(nothing)
    await disk.close()
    async with asyncio.timeout(1):
        results = await asyncio.gather(disk.run(nothing), disk.run(nothing), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError, RuntimeError]


async def test_later_is_done_in_a_disk_thread(disk: Disk) -> None:
    """What is left for later is done in one of the threads, and its Future tells its result."""
    name = await asyncio.wrap_future(disk.later(lambda: threading.current_thread().name))
    assert str(name).startswith("aiodownload-disk")


async def test_later_takes_no_lane(disk: Disk, trips: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left for later before the first job leaves the lane to the jobs: none waits for a timer."""
    monkeypatch.setattr(disk_module, "LANES", 1)
    monkeypatch.setattr(disk_module, "SLOW", 3600)
    await asyncio.wrap_future(disk.later(nothing))
    async with asyncio.timeout(1):
        for number in range(3):
            assert await disk.run(abs, -number) == number
    assert trips == [1, 1, 1]


async def test_a_failure_of_later_is_its_own(disk: Disk) -> None:
    """A failure of what was left for later is in its Future only: the next one is done all the same."""
    failing, working = disk.later(refuse), disk.later(lambda: 7)
    assert await asyncio.wrap_future(working) == 7
    assert isinstance(failing.exception(BOUND), OSError)


async def test_later_works_after_shutdown(disk: Disk) -> None:
    """When no thread takes work any more it is done here and now, and its Future is done."""
    await disk.run(nothing)
    await disk.close()
    later = disk.later(lambda: threading.current_thread())
    assert later.done()
    assert later.result() is threading.current_thread()
    assert await asyncio.wrap_future(later) is threading.current_thread()


async def test_later_works_after_a_close_without_a_job() -> None:
    """A Disk that never had a job does it too, and no thread is left that nobody would end."""
    disk = Disk()
    await disk.close()
    later = disk.later(lambda: threading.current_thread())
    left = disk_threads()
    await disk.close()
    assert await asyncio.wrap_future(later) is threading.current_thread()
    assert left == []
