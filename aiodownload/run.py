"""Run: one call on an entered AioDownload, from its input to its last outcome: read, start, wait, settle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from .admission import Admission, Candidate
from .attempt import Again, Done, Failed, Verdict, sleep_time, tell_failure
from .bundle import AioDownloadBundle, Status
from .dispatcher import Startable
from .errors import AioDownloadError, DeadlineError, DownloadError, StrategyError, UsageError
from .events import Attempted, Cancelled, RetryScheduled, RunFinished, RunStarted, Settled
from .exchange import Confirmed
from .outlast import outlast
from .permit import Turn
from .request.hosts import host_of
from .request.schedule import Entry
from .source import Source
from .storage.publishing import Publishing

if TYPE_CHECKING:
    from .live import Live

__all__ = ["Deliver", "Run"]

_log = logging.getLogger("aiodownload.run")

LOOK_AHEAD = 4  # bundles read from the input and not yet handed out, per slot
FARTHEST = 10_000  # while a slot is free and every bundle that was read is held back by its own host

Deliver: TypeAlias = Callable[[int, AioDownloadBundle], object]
"""Takes a settled bundle and its place in the input."""


class _Job(Candidate):
    """One place in the input of a run."""

    __slots__ = ("began", "followers", "index", "over", "permit", "run", "state", "timer")

    READY = "ready"
    ACTIVE = "active"
    WAITING = "waiting"

    def __init__(self, run: Run, index: int, bundle: AioDownloadBundle) -> None:
        super().__init__(bundle)
        self.run = run
        self.index = index
        self.permit: Turn | None = None  # if it has to be asked for
        self.followers: list[_Job] | None = None  # those that wait for its outcome
        self.began = 0.0
        self.over = False
        self.state = self.READY
        self.timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self.permit is not None:
            self.run.start(self, self.permit)

    def refuse(self, error: AioDownloadError) -> None:
        self.run.refuse(self, error)

    def attempted(self) -> None:
        if self.run.live.watchers.listening and self.run.live.watchers.wants(Attempted):
            self.run.live.watchers.emit(Attempted(self.bundle))

    def free(self) -> None:
        if self.permit is not None:
            self.permit.free()


class Run:
    """One call: reads bundles from ``source`` and hands each to ``deliver`` once it is settled.

    Made on the event loop; its work begins at once, in a task of its own.

    :param live: the entered AioDownload.
    :param source: the input.
    :param deliver: called on the event loop; each bundle counts as look-ahead until :meth:`consumed`.
    :param at_once: a bundle counts as consumed as soon as it is delivered.
    """

    def __init__(self, live: Live, source: Source, deliver: Deliver, *, at_once: bool = False) -> None:
        self.live = live
        self._source = source
        self._deliver = deliver
        self._at_once = at_once
        self._admission = Admission(live.workspace, live.recorder)
        self._release = live.release
        self._concurrent = live.dispatcher.schedule.concurrent
        self._jobs: set[_Job] = set()
        self._read = 0
        self._consumed = 0
        self._active = 0
        self._waiting = 0
        self._publishing = 0  # files that are about to get their names
        self._none_left: asyncio.Event | None = None
        self._budget = live.request.retry_budget
        self._exhausted = False
        self._draining = False
        self._source_error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._resting: list[asyncio.Future[tuple[_Job, Turn]]] = []
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._group: asyncio.TaskGroup
        self._reader: asyncio.Task[None] | None = None
        live.runs.add(self)
        live.dispatcher.schedule.expect(1)
        live.watchers.emit(RunStarted(source.total))
        self.task = self._loop.create_task(self._main(), name="aiodownload-run")

    def __repr__(self) -> str:
        return (
            f"<Run read={self._read} consumed={self._consumed} active={self._active} waiting={self._waiting}"
            f"{' exhausted' if self._exhausted else ''}>"
        )

    # What the caller's side does with it.

    async def wait(self) -> None:
        """Wait for the last outcome.

        :raises StrategyError: for a bug in a strategy.
        :raises HomeError: if the folder for the files cannot be used.
        :raises JournalError: if the journal cannot be written.
        :raises UsageError: if the run was stopped from elsewhere.

        Raises what the caller's iterable raised, after everything in flight has been settled.
        """
        await asyncio.wait([self.task])
        if self.task.cancelled():
            raise UsageError("the AioDownload was left while this call was under way")
        self.task.result()
        if self._source_error is not None:
            raise self._source_error

    def consumed(self, count: int) -> None:
        """The consumer has taken ``count`` more bundles; as many more may be read."""
        self._consumed += count
        self.look_for_room()

    async def close(self) -> None:
        """Cancel what is left and wait until nothing of it remains."""
        self.task.cancel()
        await asyncio.wait([self.task])
        self._clear()  # a task that is cancelled before its first step does nothing at all

    async def drain(self, grace: float) -> None:
        """Admit no more, let what is in flight go on for ``grace`` seconds, then cancel it."""
        self._draining = True
        self._source.close()
        if self._reader is not None:
            self._reader.cancel()
        self.live.dispatcher.discard(self._owns)
        for job in [job for job in self._jobs if job.state != _Job.ACTIVE]:
            self._drop(job)
        self._end_of_input()
        await asyncio.wait([self.task], timeout=grace)
        await self.close()

    # Reading.

    def look_for_room(self) -> None:
        """Wake the reader if it may go on."""
        if not self._room.is_set() and self._room_now():
            self._room.set()

    def _room_now(self) -> int:
        """How many bundles may be read now."""
        concurrent = self._concurrent
        ahead = self._read - self._consumed
        room = LOOK_AHEAD * concurrent - ahead
        # In portions, so that several bundles share a trip to the disk.
        if room >= concurrent:
            return room
        waiting = len(self._jobs) - self._active
        if room > 0 and waiting == self._waiting:  # none is ready
            return room
        schedule = self.live.dispatcher.schedule
        if schedule.held_back and ahead - waiting < LOOK_AHEAD * concurrent:
            return min(concurrent - schedule.active, FARTHEST - ahead)
        return 0

    async def _read_all(self) -> None:
        while True:
            while not (room := self._room_now()) > 0:
                self._room.clear()
                await self._room.wait()
            try:
                bundles = await self._source.read(room)
            except Exception as error:
                self._source_error = error
                break
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                self._source_error = UsageError("the iterable raised CancelledError")
                break
            if not bundles:
                break
            await self._admit(bundles)
            await asyncio.sleep(0)  # an input of repeats only needs no other wait
        self._end_of_input()

    def _end_of_input(self) -> None:
        if not self._exhausted:
            self._exhausted = True
            self.live.dispatcher.schedule.expect(-1)
        self._look_for_end()

    def _look_for_end(self) -> None:
        if self._exhausted and not self._jobs:
            self._idle.set()

    async def _admit(self, bundles: Iterable[AioDownloadBundle]) -> None:
        jobs = []
        for bundle in bundles:
            jobs.append(_Job(self, self._read, bundle))
            self._read += 1
        self._jobs.update(jobs)
        await self._admission.place(jobs)
        for job in jobs:
            if job.verdict == Candidate.FETCH:
                # One with mirrors asks for a host when it knows which.
                origin = "" if job.bundle.mirrors else host_of(job.bundle._parse())
                entry: Entry[Startable] = Entry(job, origin, sleep_time(self.live.request, job.bundle))
                job.permit = Turn(self.live.dispatcher, entry, job, self._release)
                self.live.dispatcher.submit(entry)
            elif job.verdict == Candidate.SETTLED:
                self._finish_soon(job)
            elif isinstance(job.leader, _Job):
                self._join(job, job.leader)

    def _join(self, job: _Job, leader: _Job) -> None:
        while isinstance(leader.leader, _Job):
            leader = leader.leader
        if leader.over:
            job.bundle._take_results(leader.bundle._results())
            self._finish_soon(job)
        else:
            if leader.followers is None:
                leader.followers = []
            leader.followers.append(job)
            self._mark(job, _Job.WAITING)

    # Trying.

    def start(self, job: _Job, turn: Turn) -> None:
        """Called by the dispatcher, which has given the job a slot."""
        if not job.bundle.attempts:
            job.began = self._loop.time()
        if job.timer is not None:
            job.timer.cancel()
        self._mark(job, _Job.ACTIVE)
        while self._resting:
            rest = self._resting.pop()
            if not rest.done():  # cancelled while the group is being taken down
                rest.set_result((job, turn))
                self.look_for_room()
                return
        if self._in_task(self._work(job, turn)):
            self.look_for_room()
        else:
            self._drop(job)

    async def _work(self, job: _Job, turn: Turn) -> None:
        """One worker: make a try, then rest until there is another to make."""
        me = asyncio.current_task()
        while True:
            try:
                await self._try(job, turn)
            except asyncio.CancelledError as error:
                self._cancelled(job, error)
                raise
            if me is not None and me.cancelling():  # and a hook has kept that to itself
                raise asyncio.CancelledError
            rest: asyncio.Future[tuple[_Job, Turn]] = self._loop.create_future()
            self._resting.append(rest)
            del job, turn
            job, turn = await rest

    def _mark(self, job: _Job, state: str) -> None:
        """Keep count of the jobs that are active and of those that wait for something else than a slot."""
        before, job.state = job.state, state
        if before == _Job.ACTIVE:
            self._active -= 1
        elif before == _Job.WAITING:
            self._waiting -= 1
        if state == _Job.ACTIVE:
            self._active += 1
        elif state == _Job.WAITING:
            self._waiting += 1

    async def _loudly(self, job: _Job, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``; see :meth:`_cancelled`."""
        try:
            await work
        except asyncio.CancelledError as error:
            self._cancelled(job, error)
            raise

    def _cancelled(self, job: _Job, error: asyncio.CancelledError) -> None:
        """A CancelledError that nobody asked this task for is a bug in a hook, and would go unnoticed.

        :raises StrategyError: if it is one.
        """
        if not _is_cancelled():
            raise StrategyError(job.bundle, "a hook", "it raised CancelledError") from error

    async def _try(self, job: _Job, turn: Turn) -> None:
        try:
            if self.live.request.deadline is None:
                verdict = await self.live.attempts.one(job.bundle, turn)
            else:
                verdict = await self._in_time(job, turn, self.live.request.deadline)
        finally:
            turn.free()
        if isinstance(verdict, Publishing):
            self._publishing += 1
            verdict.then(partial(self._published, job))
            return
        if isinstance(verdict, Again):
            if self._may_retry():
                self._wait(job, turn, verdict)
                return
            verdict = Failed(verdict.error)
        if not self._settle(job, verdict):
            await self._finish(job)

    def _published(self, job: _Job, publishing: Publishing) -> None:
        """Its file has its name, or cannot get it."""
        self._publishing -= 1
        if publishing.lost:
            self._spawn(job, self._publish_anew(job, publishing))
        elif not self._settle(job, Done() if publishing.error is None else Failed(publishing.error)):
            self._spawn(job, self._finish(job))
        if not self._publishing and self._none_left is not None:
            self._none_left.set()

    async def _publish_anew(self, job: _Job, publishing: Publishing) -> None:
        verdict: Verdict = Done()
        try:
            await publishing.finish()
        except DownloadError as error:
            verdict = Failed(error)
        if not self._settle(job, verdict):
            await self._finish(job)

    def _settle(self, job: _Job, verdict: Verdict) -> bool:
        """Give the bundle its status, and hand it over unless there is somebody to wait for, or to tell."""
        bundle = job.bundle
        if isinstance(verdict, Failed):
            bundle.error, bundle.status = verdict.error, Status.FAILED
        else:
            bundle.status = Status.CACHED if isinstance(verdict, Confirmed) else Status.DONE
        bundle.elapsed = self._loop.time() - job.began
        if bundle.ok and not job.followers and job.registered is None:
            self._hand_over(job)
            return True
        return False

    async def _in_time(self, job: _Job, turn: Turn, deadline: float) -> Verdict:
        """One try, within the deadline."""
        end = job.began + deadline
        try:
            async with asyncio.timeout_at(end) as limit:
                verdict = await self.live.attempts.one(job.bundle, turn)
        except TimeoutError:
            if not limit.expired():
                raise
            return Failed(DeadlineError(deadline))
        if isinstance(verdict, Again):
            if self._loop.time() + verdict.delay >= end:
                return Failed(DeadlineError(deadline, str(verdict.error)))
            # Its host may be told to wait for longer than this try thought.
            job.timer = self._loop.call_at(end, self.refuse, job, DeadlineError(deadline, str(verdict.error)))
        return verdict

    def _may_retry(self) -> bool:
        """Whether another try is within the budget."""
        if self._budget is None:
            return True
        if self._budget == 0:
            _log.warning("the retry budget of %d is spent: failures are final now", self.live.request.retry_budget)
        self._budget -= 1
        return self._budget >= 0

    def refuse(self, job: _Job, error: AioDownloadError) -> None:
        """The job waits for nothing any more: it has failed."""
        if job not in self._jobs or job.state == _Job.ACTIVE:
            return
        if job.permit is not None:
            self.live.dispatcher.schedule.withdraw(job.permit.entry)
        job.bundle.error, job.bundle.status = error, Status.FAILED
        if job.began:
            job.bundle.elapsed = self._loop.time() - job.began
        self._mark(job, _Job.ACTIVE)
        self._spawn(job, self._finish(job))

    def _wait(self, job: _Job, turn: Turn, again: Again) -> None:
        self._mark(job, _Job.WAITING)
        if self._draining:
            self._drop(job)
            return
        if self.live.watchers.listening and self.live.watchers.wants(RetryScheduled):
            self.live.watchers.emit(RetryScheduled(job.bundle, again.delay, again.error))
        self.live.dispatcher.submit(turn.entry, again.delay)
        self.look_for_room()

    # Settling.

    def _finish_soon(self, job: _Job) -> None:
        """Finish a job that was settled without a request; a task only where a hook is to be awaited."""
        if job.bundle.status is Status.FAILED or job.registered is not None:
            self._mark(job, _Job.ACTIVE)
            self._spawn(job, self._finish(job))
        else:
            self._hand_over(job)

    def _spawn(self, job: _Job, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` in a task of the run."""
        if not self._in_task(self._loudly(job, work)):
            work.close()
            self._drop(job)

    def _in_task(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do ``work`` in a task of the run; False if the run is being taken down."""
        try:
            self._group.create_task(work)
        except RuntimeError:
            work.close()
            return False
        return True

    async def _finish(self, job: _Job) -> None:
        """The bundle has its status: note it, call ``on_fail``, hand it over; so for all that waited for the same."""
        if job.registered is not None and self.live.recorder is not None:
            registered, job.registered = job.registered, None
            await self.live.recorder.settle(job.bundle, registered)
        self._admission.settled(job)
        job.over = True
        followers, job.followers = job.followers or (), None
        await self._conclude(job)
        for follower in followers:
            if follower in self._jobs:
                if follower.bundle is not job.bundle:
                    follower.bundle._take_results(job.bundle._results())
                await self._conclude(follower, told=follower.bundle is job.bundle)

    async def _conclude(self, job: _Job, told: bool = False) -> None:
        if job.bundle.status is Status.FAILED and not told:
            await tell_failure(self.live.download, job.bundle)
        self._hand_over(job)

    def _hand_over(self, job: _Job) -> None:
        if job not in self._jobs:
            return
        if not job.over:
            self._admission.settled(job)
            job.over = True
        self._forget(job)
        if self.live.watchers.listening and self.live.watchers.wants(Settled):
            self.live.watchers.emit(Settled(job.bundle))
        self._deliver(job.index, job.bundle)
        self._consumed += self._at_once
        self.look_for_room()
        self._look_for_end()
        if self._admission.overflows():
            self._in_task(self._admission.spill())

    def _forget(self, job: _Job) -> None:
        self._mark(job, _Job.READY)
        self._jobs.discard(job)
        job.permit = None  # whose entry has the job: a circle would be work for the garbage collector

    def _drop(self, job: _Job) -> None:
        """The bundle gets no outcome."""
        job.bundle.status = Status.CANCELLED
        if job.registered is not None and self.live.recorder is not None:
            self.live.recorder.forget(job.bundle, job.registered)
        job.free()
        if job.timer is not None:
            job.timer.cancel()
        self._admission.settled(job)
        job.over = True
        self._forget(job)
        if self.live.watchers.listening and self.live.watchers.wants(Cancelled):
            self.live.watchers.emit(Cancelled(job.bundle))
        self._look_for_end()

    # The whole.

    async def _main(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._reader = group.create_task(self._read_all())
                await self._idle.wait()
                while self._resting:
                    self._resting.pop().cancel()
        except BaseExceptionGroup as group_error:
            cause = _first(group_error)
            raise cause from cause.__cause__
        finally:
            try:
                if self._publishing:
                    await outlast(self._all_published())
            finally:
                self._clear()

    async def _all_published(self) -> None:
        """Wait for the files that are about to get their names: others may have them then."""
        while self._publishing:
            self._none_left = asyncio.Event()
            await self._none_left.wait()

    def _clear(self) -> None:
        if self in self.live.runs:
            self.live.runs.discard(self)
            self.live.dispatcher.discard(self._owns)
            self._source.close()
            self._end_of_input()
            for job in tuple(self._jobs):
                self._drop(job)
            self._admission.close()
            self.live.watchers.emit(RunFinished())

    def _owns(self, item: object) -> bool:
        return isinstance(item, _Job) and item.run is self


def _is_cancelled() -> bool:
    """Whether somebody has asked the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the run: ours if there is one, else the first."""
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if isinstance(leaf, AioDownloadError)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
