"""Run: one call on an entered AioDownload, from its input to its last outcome: read, start, wait, settle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from .admission import Admission, Candidate, Placing
from .attempt import tell_failure
from .bundle import AioDownloadBundle, Status
from .errors import AioDownloadError, StrategyError, UsageError
from .events import Cancelled, RunFinished, RunStarted, Settled
from .outlast import outlast
from .source import Source
from .tries import Job, OwnTries, Tries

if TYPE_CHECKING:
    from .live import Live
    from .recorder import Registered

__all__ = ["Crew", "Deliver", "Run"]

LOOK_AHEAD = 4  # bundles read from the input and not yet handed out, per slot
FARTHEST = 10_000  # while a slot is free and every bundle that was read is held back by its own host

Deliver: TypeAlias = Callable[[int, AioDownloadBundle], object]
"""Takes a settled bundle and its place in the input."""

Crew: TypeAlias = "Callable[[Run], Tries]"
"""Says who makes the tries of a run."""


class Run:
    """One call: reads bundles from ``source`` and hands each to ``deliver`` once it is settled.

    Made on the event loop; its work begins at once, in a task of its own.

    :param live: the entered AioDownload.
    :param source: the input.
    :param deliver: called on the event loop; each bundle counts as look-ahead until :meth:`consumed`.
    :param at_once: a bundle counts as consumed as soon as it is delivered.
    :param crew: who makes the tries.
    """

    def __init__(
        self, live: Live, source: Source, deliver: Deliver, *, at_once: bool = False, crew: Crew = OwnTries
    ) -> None:
        self.live = live
        self._source = source
        self._deliver = deliver
        self._at_once = at_once
        self._admission: Placing = Admission(live.workspace, live.recorder)
        self._jobs: set[Job] = set()
        self._read = 0
        self._consumed = 0
        self._active = 0
        self._waiting = 0
        self._publishing = 0  # files that are about to get their names
        self._none_left: asyncio.Event | None = None
        self._exhausted = False
        self.draining = False
        self._source_error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self.group: asyncio.TaskGroup
        self._reader: asyncio.Task[None] | None = None
        self._tries = crew(self)
        live.runs.add(self)
        self._tries.expect(1)
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
        """Cancel what is left and wait until nothing of it remains; a second call, meanwhile, hurries."""
        if self.task.cancelling():
            self._tries.hurry()
        self.task.cancel()
        await asyncio.wait([self.task])
        self._clear()  # a task that is cancelled before its first step does nothing at all

    async def drain(self, grace: float) -> None:
        """Admit no more, let what is in flight go on for ``grace`` seconds, then cancel it."""
        self.draining = True
        self._source.close()
        if self._reader is not None:
            self._reader.cancel()
        self._tries.discard()
        for job in self.waiting():
            self.drop(job)
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
        slots = self._tries.slots
        ahead = self._read - self._consumed
        room = LOOK_AHEAD * slots - ahead
        # In portions, so that several bundles share a trip to the disk.
        if room >= slots:
            return room
        waiting = len(self._jobs) - self._active
        if room > 0 and waiting == self._waiting:  # none is ready
            return room
        if room + waiting > 0 and (spare := self._tries.spare):
            return min(spare, FARTHEST - ahead)
        return 0

    @property
    def starves(self) -> bool:
        """Whether no bundle can be tried, and none be read, before one that is being worked on is handed out."""
        none_ready = len(self._jobs) - self._active == self._waiting
        return none_ready and (self._exhausted or self._room_now() <= 0)

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
            self._tries.expect(-1)
        self._look_for_end()

    def _look_for_end(self) -> None:
        if self._exhausted and not self._jobs:
            self._idle.set()

    async def _admit(self, bundles: Iterable[AioDownloadBundle]) -> None:
        jobs = []
        for bundle in bundles:
            jobs.append(Job(self, self._read, bundle))
            self._read += 1
        self._jobs.update(jobs)
        await self._admission.place(jobs)
        for job in jobs:
            if job.verdict == Candidate.FETCH:
                self._tries.put(job)
            elif job.verdict == Candidate.SETTLED:
                self.settled(job)
            elif isinstance(job.leader, Job):
                self._join(job, job.leader)

    def _join(self, job: Job, leader: Job) -> None:
        while isinstance(leader.leader, Job):
            leader = leader.leader
        if leader.over:
            job.bundle._take_results(leader.bundle._results())
            job.repeat = True
            self.settled(job)
        else:
            if leader.followers is None:
                leader.followers = []
            leader.followers.append(job)
            self.mark(job, Job.WAITING)

    # Trying: what is told of it.

    def mark(self, job: Job, state: str) -> None:
        """Keep count of the jobs that are active and of those that wait for something else than a slot."""
        before, job.state = job.state, state
        if before == Job.ACTIVE:
            self._active -= 1
        elif before == Job.WAITING:
            self._waiting -= 1
        if state == Job.ACTIVE:
            self._active += 1
        elif state == Job.WAITING:
            self._waiting += 1

    def publishing(self, more: int) -> None:
        """So many more files (or fewer) are about to get their names, with nobody who waits for it but the run."""
        self._publishing += more
        if not self._publishing and self._none_left is not None:
            self._none_left.set()

    def settled(self, job: Job) -> None:
        """The bundle has its outcome."""
        recorder = self.live.recorder
        if job.bundle.ok and not job.followers and job.registered is not None and recorder is not None:
            self.mark(job, Job.ACTIVE)
            registered, job.registered = job.registered, None
            recorder.settle_soon(job.bundle, registered, partial(self._noted, job, registered))
        else:
            self.settled_in_task(job)

    def settled_in_task(self, job: Job) -> asyncio.Task[None] | None:
        """The same.

        :returns: what does the rest, where there is something to wait for.
        """
        if job.bundle.ok and not job.followers and job.registered is None:
            self.hand_over(job)
            return None
        self.mark(job, Job.ACTIVE)
        return self.spawn(job, self.finish(job))

    def _noted(self, job: Job, registered: Registered, error: Exception | None) -> None:
        """The outcome of a bundle that is ok is in the journal, or cannot be written."""
        if error is None and not job.followers:
            self.hand_over(job)
            return
        if error is not None:
            job.registered = registered  # to be written again, and to be heard of
        self.spawn(job, self.finish(job))

    def refuse(self, job: Job, error: AioDownloadError) -> None:
        """The job waits for nothing any more: it has failed."""
        if job not in self._jobs or job.state == Job.ACTIVE:
            return
        self._tries.withdraw(job)
        job.bundle.error, job.bundle.status = error, Status.FAILED
        if job.began:
            job.bundle.elapsed = self._loop.time() - job.began
        self.settled(job)

    def cancelled(self, job: Job, error: asyncio.CancelledError) -> None:
        """A CancelledError that nobody asked this task for is a bug in a hook, and would go unnoticed.

        :raises StrategyError: if it is one.
        """
        if not _is_cancelled():
            raise StrategyError(job.bundle, "a hook", "it raised CancelledError") from error

    async def _loudly(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``; see :meth:`cancelled`."""
        try:
            await work
        except asyncio.CancelledError as error:
            self.cancelled(job, error)
            raise

    # Settling.

    def spawn(self, job: Job, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Do ``work`` in a task of the run."""
        task = self.in_task(self._loudly(job, work))
        if task is None:
            work.close()
            self.drop(job)
        else:
            task.add_done_callback(lambda _: work.close())  # one that is cancelled before its first step never had it
        return task

    def in_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Do ``work`` in a task of the run; None if the run is being taken down."""
        try:
            return self.group.create_task(work)
        except RuntimeError:
            work.close()
            return None

    async def finish(self, job: Job) -> None:
        """The bundle has its status: note it, call ``on_fail``, hand it over; so for all that waited for the same."""
        if job.registered is not None and self.live.recorder is not None:
            registered, job.registered = job.registered, None
            await self.live.recorder.settle(job.bundle, registered)
        self._admission.settled(job)
        job.over = True
        if job.bundle.status is Status.FAILED and not job.repeat:
            await self.live.workspace.failed(job.bundle)
        followers, job.followers = job.followers or (), None
        await self._conclude(job)
        for follower in followers:
            if follower in self._jobs:
                if follower.bundle is not job.bundle:
                    follower.bundle._take_results(job.bundle._results())
                await self._conclude(follower, told=follower.bundle is job.bundle)

    async def _conclude(self, job: Job, told: bool = False) -> None:
        if job.bundle.status is Status.FAILED and not told:
            await tell_failure(self.live.download, job.bundle)
        self.hand_over(job)

    def hand_over(self, job: Job) -> None:
        """All is done for it: the caller gets the bundle."""
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
            self.in_task(self._admission.spill())

    def _forget(self, job: Job) -> None:
        self.mark(job, Job.READY)
        self._jobs.discard(job)
        job.permit = None  # whose entry has the job: a circle would be work for the garbage collector

    def drop(self, job: Job) -> None:
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

    def waiting(self) -> list[Job]:
        """The jobs that are not being worked on."""
        return [job for job in self._jobs if job.state != Job.ACTIVE]

    def owns(self, job: Job) -> bool:
        """Whether the job has still to get its outcome."""
        return job in self._jobs

    # The whole.

    async def _main(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self.group = group
                self._reader = group.create_task(self._read_all())
                await self._idle.wait()
                self._tries.end()
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
            self._tries.discard()
            self._source.close()
            self._end_of_input()
            for job in tuple(self._jobs):
                self.drop(job)
            self._admission.close()
            self.live.watchers.emit(RunFinished())


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
