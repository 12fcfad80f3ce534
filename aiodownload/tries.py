"""Tries: who makes the tries of a run; here, its own tasks, in the slots that the schedule gives."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from .admission import Candidate
from .attempt import Again, Done, Failed, Verdict, sleep_time
from .bundle import AioDownloadBundle, Status
from .dispatcher import Startable
from .errors import AioDownloadError, DeadlineError, DownloadError, JournalError
from .events import Attempted, RetryScheduled
from .exchange import Confirmed
from .permit import Turn
from .request.hosts import host_of
from .request.schedule import Entry
from .storage.publishing import Publishing

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Job", "OwnTries", "Tries"]

_log = logging.getLogger("aiodownload.run")


class Job(Candidate):
    """One place in the input of a run."""

    __slots__ = ("began", "due", "followers", "index", "over", "permit", "run", "state", "timer", "tries")

    READY = "ready"
    ACTIVE = "active"
    WAITING = "waiting"

    def __init__(self, run: Run, index: int, bundle: AioDownloadBundle) -> None:
        super().__init__(bundle)
        self.run = run
        self.index = index
        self.tries: OwnTries | None = None  # if they make its tries
        self.permit: Turn | None = None  # if it has to be asked for
        self.followers: list[Job] | None = None  # those that wait for its outcome
        self.began = 0.0
        self.due = 0.0  # when it is to be tried again
        self.over = False
        self.state = self.READY
        self.timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """It has a slot."""
        if self.permit is not None and self.tries is not None:
            self.tries.start(self, self.permit)

    def refuse(self, error: AioDownloadError) -> None:
        """Its host is not asked for now."""
        self.run.refuse(self, error)

    def attempted(self) -> None:
        """A try begins: tell whoever watches."""
        if self.run.live.watchers.listening and self.run.live.watchers.wants(Attempted):
            self.run.live.watchers.emit(Attempted(self.bundle))

    def free(self) -> None:
        """Give its slot back, if it has one."""
        if self.permit is not None:
            self.permit.free()


class Tries(Protocol):
    """Makes the tries of one run, and tells it of the outcomes.

    Made when the run is; nothing is begun before the first :meth:`put`.
    """

    slots: int
    """What the look-ahead of the run is counted in."""

    @property
    def spare(self) -> int:
        """How many more bundles could be used at once, while all that were read are held back by their hosts."""

    def expect(self, runs: int) -> None:
        """So many more runs (or fewer) have not read all of their input."""

    def put(self, job: Job) -> None:
        """Try the bundle until it has its outcome."""

    def withdraw(self, job: Job) -> None:
        """Forget a job that waits."""

    def discard(self) -> None:
        """Forget all jobs of the run that wait."""

    def end(self) -> None:
        """All jobs have their outcomes; let go of what is in the run's group."""

    def hurry(self) -> None:
        """The run is being left, and whoever waits for that has no time any more."""


class OwnTries:
    """Tasks on this event loop, as many as there are slots, each of which makes one try after another.

    :param run: whose jobs they work on.
    """

    def __init__(self, run: Run) -> None:
        live = run.live
        self._run = run
        self._watchers = live.watchers
        self._dispatcher = live.dispatcher
        self._request = live.request
        self._attempts = live.attempts
        self._release = live.release
        self._budget = live.request.retry_budget
        self._loop = asyncio.get_running_loop()
        self._resting: list[asyncio.Future[tuple[Job, Turn]]] = []
        self.slots = live.dispatcher.schedule.concurrent

    @property
    def spare(self) -> int:
        """See :class:`Tries`."""
        return self._dispatcher.schedule.spare

    def expect(self, runs: int) -> None:
        """See :class:`Tries`."""
        self._dispatcher.schedule.expect(runs)

    def put(self, job: Job) -> None:
        """See :class:`Tries`."""
        # One with mirrors asks for a host when it knows which.
        origin = "" if job.bundle.mirrors else host_of(job.bundle._parse())
        entry: Entry[Startable] = Entry(job, origin, sleep_time(self._request, job.bundle))
        job.tries, job.permit = self, Turn(self._dispatcher, entry, job, self._release)
        self._dispatcher.submit(entry)

    def withdraw(self, job: Job) -> None:
        """See :class:`Tries`."""
        if job.permit is not None:
            self._dispatcher.schedule.withdraw(job.permit.entry)

    def discard(self) -> None:
        """See :class:`Tries`."""
        self._dispatcher.discard(self._owns)

    def _owns(self, item: object) -> bool:
        return isinstance(item, Job) and item.run is self._run

    def end(self) -> None:
        """See :class:`Tries`."""
        while self._resting:
            self._resting.pop().cancel()

    def hurry(self) -> None:
        """Nothing to do: what is cancelled here ends at once."""

    def start(self, job: Job, turn: Turn) -> None:
        """The dispatcher has given the job a slot."""
        if not job.bundle.attempts:
            job.began = self._loop.time()
        if job.timer is not None:
            job.timer.cancel()
        run = self._run
        run.mark(job, Job.ACTIVE)
        while self._resting:
            rest = self._resting.pop()
            if not rest.done():  # cancelled while the group is being taken down
                rest.set_result((job, turn))
                run.look_for_room()
                return
        if run.in_task(self._work(job, turn)) is None:
            run.drop(job)
        else:
            run.look_for_room()

    async def _work(self, job: Job, turn: Turn) -> None:
        """One worker: make a try, then rest until there is another to make."""
        me = asyncio.current_task()
        while True:
            try:
                await self._try(job, turn)
            except asyncio.CancelledError as error:
                self._run.cancelled(job, error)
                raise
            if me is not None and me.cancelling():  # and a hook has kept that to itself
                raise asyncio.CancelledError
            rest: asyncio.Future[tuple[Job, Turn]] = self._loop.create_future()
            self._resting.append(rest)
            del job, turn
            job, turn = await rest

    async def _try(self, job: Job, turn: Turn) -> None:
        try:
            if self._request.deadline is None:
                verdict = await self._attempts.one(job.bundle, turn)
            else:
                verdict = await self._in_time(job, turn, self._request.deadline)
        finally:
            turn.free()
        if isinstance(verdict, Publishing):
            self._run.publishing(1)
            verdict.then(partial(self._published, job))
            return
        if isinstance(verdict, Again):
            if self._may_retry(job, verdict):
                self._wait(job, turn, verdict)
                return
            verdict = Failed(verdict.error)
        self._note(job, verdict)
        if job.bundle.ok and not job.followers and job.registered is None:  # nobody to wait for or to tell
            self._run.hand_over(job)
        else:
            await self._run.finish(job)

    def _note(self, job: Job, verdict: Verdict) -> None:
        """Give the bundle its status."""
        bundle = job.bundle
        if isinstance(verdict, Failed):
            bundle.error, bundle.status = verdict.error, Status.FAILED
        else:
            bundle.status = Status.CACHED if isinstance(verdict, Confirmed) else Status.DONE
        bundle.elapsed = self._loop.time() - job.began

    def _published(self, job: Job, publishing: Publishing) -> None:
        """Its file has its name, or cannot get it."""
        if publishing.lost or isinstance(publishing.error, JournalError):
            self._run.spawn(job, self._finish(job, publishing))
        else:
            self._note(job, Done() if publishing.error is None else Failed(publishing.error))
            self._run.settled(job)
        self._run.publishing(-1)

    async def _finish(self, job: Job, publishing: Publishing) -> None:
        try:
            await publishing.finish()
        except DownloadError as error:
            self._note(job, Failed(error))
        else:
            self._note(job, Done())
        await self._run.finish(job)

    async def _in_time(self, job: Job, turn: Turn, deadline: float) -> Verdict:
        """One try, within the deadline."""
        end = job.began + deadline
        try:
            async with asyncio.timeout_at(end) as limit:
                verdict = await self._attempts.one(job.bundle, turn)
        except TimeoutError:
            if not limit.expired():
                raise
            return Failed(DeadlineError(deadline))
        if isinstance(verdict, Again):
            if self._loop.time() + verdict.delay >= end:
                return Failed(DeadlineError(deadline, str(verdict.error)))
            self._set_timer(job, verdict.error)
        return verdict

    def _set_timer(self, job: Job, last: AioDownloadError | None) -> None:
        """Refuse the job at its deadline: its host may be told to wait for longer than its last try thought."""
        deadline = self._request.deadline
        if deadline is not None:
            error = DeadlineError(deadline, "" if last is None else str(last))
            job.timer = self._loop.call_at(job.began + deadline, self._run.refuse, job, error)

    def _may_retry(self, job: Job, again: Again) -> bool:
        """Whether another try is within the budget."""
        if self._budget is None:
            return True
        if self._budget == 0:
            _log.warning("the retry budget of %d is spent: failures are final now", self._request.retry_budget)
        self._budget -= 1
        return self._budget >= 0

    def _wait(self, job: Job, turn: Turn, again: Again) -> None:
        self._run.mark(job, Job.WAITING)
        if self._run.draining:
            self._run.drop(job)
            return
        job.due = self._loop.time() + again.delay
        if self._watchers.listening and self._watchers.wants(RetryScheduled):
            self._watchers.emit(RetryScheduled(job.bundle, again.delay, again.error))
        self._dispatcher.submit(turn.entry, again.delay)
        self._run.look_for_room()
