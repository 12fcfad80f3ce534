"""Shards: the tries of a run are made by the workers of an executor; here is the caller's side of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

from .. import _version
from ..attempt import sleep_time
from ..bundle import AioDownloadBundle, Status
from ..errors import AioDownloadError, ConfigurationError, DeadlineError, ExecutorError, StrategyError, WorkerError
from ..request.hosts import host_of
from ..tries import Job
from . import worker
from .engine import Engine, is_broken, unpicklable
from .orders import Greeting, Left, Order, Outcome, Report, Ticket
from .stock import BUNDLES, Errand, Stock

if TYPE_CHECKING:
    from ..download import AioDownload
    from ..run import Run

__all__ = ["Cluster", "Shards"]

_log = logging.getLogger("aiodownload.cluster")

SECONDS = 2.0  # after which a shard begins nothing new, at first
LONGEST = 10.0  # the same, once shards come back with work left
LONGER = 1.5  # times, each time one does
PATIENCE = 600.0  # seconds after which a shard ends what is under way
LOSSES = 3  # workers that are lost with a bundle until it has failed
CUTS = 2  # tries of a bundle that are cut off, with nothing left of them, until it has failed
REST = 1.0  # seconds for which the hosts of a lost shard are left alone: nobody knows when they were last asked
LEAVE = 5.0  # seconds that shards get to end which can be told to
UNTOLD = 30.0  # seconds beyond its own time for one of which the executor does not say whether it is being worked on

_HINT = (
    "a program that starts processes has its own calls below  if __name__ == '__main__':  and what it defines for them "
    "in a module that they can import"
)
# What a bundle takes along from shard to shard, besides its results.
_STATE = ("_mismatched", "_divisible", "_kept", "_condition", "_sources", "_rounds")


class Cluster:
    """Where the tries of a call are made.

    :param engine: the executor.
    :param settings: the download that its workers are to enter.
    """

    def __init__(self, engine: Engine, settings: AioDownload) -> None:
        self.engine = engine
        self.settings = copy.copy(settings)
        # One journal has one writer, and who watches is told by the caller's side.
        self.settings.journal, self.settings.observers = None, ()

    def __call__(self, run: Run) -> Shards:
        """Make the tries of ``run`` there."""
        return Shards(run, self.engine, self.settings)


class _Shard:
    """One that is being worked on.

    :param errands: its bundles, by their places in the input.
    :param own: its hosts.
    :param slots: that it has.
    :param retries: that it may make.
    :param now: when it was sent.
    """

    def __init__(
        self, errands: dict[int, Errand], own: frozenset[str], slots: int, retries: int | None, now: float
    ) -> None:
        self.errands = errands
        self.own = own
        self.slots = slots
        self.retries = retries
        self.sent = now
        self.future: Future[Report]


class Shards:
    """Collects bundles by host, sends them out in shards, and takes in what comes back.

    :param run: whose bundles they are.
    :param engine: where the shards go.
    :param settings: what the workers enter.

    The slots of the run, its bandwidth and the number of its request starts are divided among the shards that are out;
    no more shards are out than there are slots.
    """

    def __init__(self, run: Run, engine: Engine, settings: AioDownload) -> None:
        self._run = run
        self._engine = engine
        self._settings = settings
        self._request = run.live.request
        self._workers = min(engine.workers, self._request.concurrent)
        self.slots = max(1, self._workers * BUNDLES // 2)  # look-ahead: a shard for each worker, and one more
        self._free = self._request.concurrent
        self._budget = self._request.retry_budget
        self._loop = asyncio.get_running_loop()
        self._name = os.urandom(8).hex()
        self._serial = 0
        self._stock = Stock()
        self._errands: dict[Job, Errand] = {}
        self._busy = 0  # workers that have a shard, or are about to get it
        self._out: set[_Shard] = set()
        self._done: deque[_Shard] = deque()
        self._news = asyncio.Event()
        self._hurried = asyncio.Event()
        self._telling: set[asyncio.Task[None]] = set()
        self._expected = 0  # runs that have not read all of their input: this one, or none
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._since: int | None = None
        self._last_start = float("-inf")
        self._seconds = SECONDS
        self._heard = 0.0  # when something was last heard of any shard
        self._tells = False  # whether the executor says which futures are running

    # What the run does with it.

    @property
    def spare(self) -> int:
        """See :class:`~aiodownload.tries.Tries`."""
        return BUNDLES if self._busy < self._workers and self._free and not len(self._stock) else 0

    def expect(self, runs: int) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        self._expected += runs

    def put(self, job: Job) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        bundle = job.bundle
        errand = Errand(job, host_of(bundle._parse()), sleep_time(self._request, bundle))
        self._errands[job] = errand
        self._stock.add(errand, self._loop.time())
        self._news.set()
        if self._task is None:
            self._task = self._run.group.create_task(self._work(), name="aiodownload-shards")

    def withdraw(self, job: Job) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        errand = self._errands.pop(job, None)
        if errand is not None:
            errand.gone = True

    def discard(self) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        self._stock.discard()

    def end(self) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        self._ended = True
        self._news.set()

    def hurry(self) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        self._hurried.set()

    # The work.

    async def _work(self) -> None:
        try:
            await self._greet()
            while not self._ended:
                self._news.clear()
                while self._done:
                    self._take_back(self._done.popleft())
                await self._send()
                self._run.look_for_room()
                await self._wait()
        except AioDownloadError:
            await self._all_told()
            raise
        finally:
            await self._leave()

    async def _wait(self) -> None:
        """Wait for news, for the time of a host, or for the moment when a shard is overdue.

        :raises ExecutorError: if one is.
        """
        now = self._loop.time()
        overdue = max(self._heard, min((shard.sent for shard in self._out), default=now)) + 2 * PATIENCE
        if self._out and now >= overdue:
            self.hurry()
            raise ExecutorError(
                f"executor: a shard has not come back for {2 * PATIENCE:g} s, and no other one has meanwhile: its "
                "worker hangs, was lost without a word, or there is none"
            )
        self._tells = self._tells or any(shard.future.running() for shard in self._out)
        wake = self._stock.wake_at()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(overdue if self._out else now + PATIENCE, wake or now + PATIENCE)):
                await self._news.wait()

    async def _greet(self) -> None:
        """Ask one worker whether work can be done there.

        :raises ConfigurationError: if the download cannot go there.
        :raises ExecutorError: if nobody answers.
        """
        try:
            future = await asyncio.to_thread(self._engine.submit, worker.greet, self._settings)
            async with asyncio.timeout(2 * PATIENCE):
                greeting: Greeting = await asyncio.wrap_future(future)
        except AioDownloadError:
            raise
        except TimeoutError as error:
            raise ExecutorError("executor: no worker has taken any work; does it have one?") from error
        except (Exception, asyncio.CancelledError) as error:
            if _is_cancelled():
                raise
            what = None if is_broken(error) else unpicklable(self._settings)
            if what is not None:
                raise ConfigurationError(
                    f"executor: {what} does not pickle, and so cannot go to its workers; give strategies and callables "
                    "that are defined at the top of a module, and hold nothing that is open"
                ) from error
            raise ExecutorError(f"executor: no work can be done there ({_words(error)}); {_HINT}") from error
        if greeting.version != _version.__version__:
            raise ConfigurationError(
                f"executor: its workers have aiodownload {greeting.version}, and this is {_version.__version__}; "
                "install the same one everywhere"
            )
        self._since = greeting.now

    async def _send(self) -> None:
        """Send out what may go.

        :raises ExecutorError: if the executor takes nothing any more.
        """
        while self._free and self._busy < self._workers and not self._ended:
            now = self._loop.time()
            self._stock.wake(now)
            if not len(self._stock):
                break
            lanes = self._workers - self._busy
            if not self._expected:  # there are no other hosts that slots must be kept for
                lanes = min(lanes, len(self._stock))
            errands = self._stock.cut(lanes, now)
            if not errands:
                break
            await self._submit(errands, max(1, self._free // lanes), now)

    async def _submit(self, errands: list[Errand], slots: int, now: float) -> None:
        own = frozenset(errand.origin for errand in errands)
        retries = None
        if self._budget is not None:
            retries = -(-self._budget // self._workers)
            self._budget -= retries
        shard = _Shard({errand.job.index: errand for errand in errands}, own, slots, retries, now)
        order = self._order(shard, now)
        self._free -= slots
        self._busy += 1
        for errand in errands:
            if errand.job.timer is not None:
                errand.job.timer.cancel()
            self._run.mark(errand.job, Job.ACTIVE)
        submitting = asyncio.ensure_future(asyncio.to_thread(self._engine.submit, worker.run_shard, order))
        try:
            future = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            await asyncio.wait([submitting])  # it takes a moment
            if submitting.exception() is None:
                self._gone_out(shard, submitting.result())
            raise
        except Exception as error:
            if is_broken(error) and self._engine.renew(None):
                self._release(shard)
                self._put_back(shard)
                return
            raise ExecutorError(
                f"executor: it takes no work any more ({_words(error)}); what is settled is kept, and another run of "
                "the same program does the rest"
            ) from error
        self._gone_out(shard, future)

    def _gone_out(self, shard: _Shard, future: Future[Report]) -> None:
        shard.future = future
        self._out.add(shard)
        future.add_done_callback(lambda _: self._hear(shard))

    def _hear(self, shard: _Shard) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._note_done, shard)

    def _note_done(self, shard: _Shard) -> None:
        self._done.append(shard)
        self._news.set()

    def _order(self, shard: _Shard, now: float) -> Order:
        self._serial += 1
        errands = shard.errands.values()
        return Order(
            self._name,
            self._serial,
            self._settings,
            [_ticket(errand, now) for errand in errands],
            shard.own,
            self._stock.memories(shard.own, now),
            self._workers,
            shard.slots,
            shard.slots / self._request.concurrent,
            self._last_start - now,
            shard.retries,
            self._seconds,
            PATIENCE,
            self._since,
            self._run.live.recorder is not None,
            any(errand.losses for errand in errands),
        )

    # What comes back.

    def _take_back(self, shard: _Shard) -> None:
        """Take in what a shard has done, or that it was lost.

        :raises StrategyError: for a bug in a strategy, there.
        :raises ExecutorError: if the executor has dropped it.
        """
        if shard not in self._out:
            return
        self._heard = self._loop.time()
        self._release(shard)
        error = None if shard.future.cancelled() else shard.future.exception()
        if shard.future.cancelled() or isinstance(error, CancelledError):
            raise ExecutorError(
                "executor: it has cancelled a shard: it was shut down, or has lost its scheduler; what is settled is "
                "kept, and another run of the same program does the rest"
            )
        if error is None:
            self._take_in(shard, shard.future.result())
        else:
            self._lost(shard, error)

    def _release(self, shard: _Shard) -> None:
        """Its worker and its slots are for others."""
        self._out.discard(shard)
        self._free += shard.slots
        self._busy -= 1

    def _take_in(self, shard: _Shard, report: Report) -> None:
        now = self._loop.time()
        self._last_start = max(self._last_start, now + report.last_start)
        if self._budget is not None and shard.retries is not None:
            self._budget += shard.retries - report.retries
        for outcome in report.outcomes:
            self._settle(shard, outcome)
        if report.error is not None:
            raise self._loud(shard, report) from report.cause
        self._stock.back(shard.own, report.memories, now)
        if report.left:
            self._seconds = min(LONGEST, self._seconds * LONGER)
        for left in report.left:
            self._go_on(shard, left, now)

    def _settle(self, shard: _Shard, outcome: Outcome) -> None:
        job = self._took(shard, outcome)
        if job is None:
            return
        task = self._run.settled(job)
        if task is not None:
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def _took(self, shard: _Shard, outcome: Outcome) -> Job | None:
        """Give the bundle its results."""
        errand = shard.errands.pop(outcome.number, None)
        if errand is None or not self._run.owns(errand.job):
            return None
        job, recorder = errand.job, self._run.live.recorder
        self._errands.pop(job, None)
        job.bundle._take_results(outcome.results)
        if outcome.publication is not None and recorder is not None and job.registered is not None:
            recorder.published(job.registered, outcome.publication)
        return job

    def _go_on(self, shard: _Shard, left: Left, now: float) -> None:
        """A bundle has come back without an outcome."""
        ticket = left.ticket
        errand = shard.errands.pop(ticket.number, None)
        if errand is None or not self._run.owns(errand.job):
            return
        job, bundle = errand.job, errand.job.bundle
        bundle._take_results(ticket.bundle._results())
        for name in _STATE:
            setattr(bundle, name, getattr(ticket.bundle, name))
        for source in bundle._sources or ():
            source.due += now
        errand.due, errand.tries = now + ticket.due, ticket.tries
        job.began = now - ticket.age if ticket.age is not None else 0.0
        if left.cut and not bundle._kept:
            errand.cuts += 1
        if errand.cuts >= CUTS:
            self._fail(errand, WorkerError(_CUT.format(PATIENCE), False))
        elif left.asks and not self._may_retry():
            self._fail(errand, bundle.error or WorkerError("the retry budget is spent"))
        else:
            self._wait_for(errand, now)

    def _wait_for(self, errand: Errand, now: float) -> None:
        job, deadline = errand.job, self._request.deadline
        if self._run.draining:
            self._run.drop(job)
            return
        self._run.mark(job, Job.WAITING if errand.due > now else Job.READY)
        if job.began and deadline is not None:
            last = "" if job.bundle.error is None else str(job.bundle.error)
            job.timer = self._loop.call_at(job.began + deadline, self._run.refuse, job, DeadlineError(deadline, last))
        self._stock.add(errand, now)

    def _may_retry(self) -> bool:
        if self._budget is None:
            return True
        if self._budget <= 0:
            _log.warning("the retry budget of %d is spent: failures are final now", self._request.retry_budget)
            return False
        self._budget -= 1
        return True

    def _lost(self, shard: _Shard, error: BaseException) -> None:
        """A shard comes back no more: its bundles go out again."""
        _log.warning("a shard of %d bundles was lost and is done again: %s", len(shard.errands), _words(error))
        if is_broken(error):
            self._engine.renew(shard.future)
        self._put_back(shard, error)

    def _put_back(self, shard: _Shard, error: BaseException | None = None) -> None:
        """Let its bundles go out again.

        :param error: by which it was lost; None: it was never sent.
        """
        now = self._loop.time()
        if self._budget is not None and shard.retries is not None and error is None:
            self._budget += shard.retries
        rate = self._request.rate
        rest = max(REST, 1 / rate if rate else 0.0, *(errand.spacing for errand in shard.errands.values()))
        memories = self._stock.memories(shard.own, now)
        for memory in memories.values():
            memory.leave_alone(rest)
        self._stock.back(shard.own, memories, now)
        for errand in shard.errands.values():
            if not self._run.owns(errand.job):
                continue
            errand.losses += error is not None
            if errand.losses >= LOSSES and error is not None:
                self._fail(
                    errand, WorkerError(f"{errand.losses} workers that had it were lost, the last: {_words(error)}")
                )
            else:
                errand.due = now + rest * (error is not None)
                self._wait_for(errand, now)

    def _fail(self, errand: Errand, error: AioDownloadError) -> None:
        job = errand.job
        self._errands.pop(job, None)
        job.bundle.error, job.bundle.status = error, Status.FAILED
        if job.began:
            job.bundle.elapsed = self._loop.time() - job.began
        task = self._run.settled(job)
        if task is not None:
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def _loud(self, shard: _Shard, report: Report) -> Exception:
        """What ended a shard, and ends the run."""
        error = report.error or ExecutorError("a worker has ended the run")
        if isinstance(error, StrategyError):
            errand = shard.errands.get(report.culprit) if report.culprit is not None else None
            error = StrategyError(None if errand is None else errand.job.bundle, error.hook, error.detail)
        if report.trace:
            error.add_note(f"In the worker:\n{report.trace}")
        return error

    # The end.

    async def _all_told(self) -> None:
        """Wait until everybody has been told of what was settled."""
        while self._telling:
            await asyncio.wait(self._telling)

    async def _leave(self) -> None:
        """Call back what can be called back, wait for the rest, and end what was begun here."""
        try:
            if self._out:
                worker.stopped.add(self._name)
                self._engine.ring()
                for shard in self._out:
                    if self._tells and not shard.future.running():
                        shard.future.cancel()
                await self._last_reports()
        finally:
            worker.stopped.discard(self._name)
            for shard in self._out:
                shard.future.cancel()
            await self._close()

    async def _close(self) -> None:
        """End what was begun here, also if this wait is cancelled."""
        closing = asyncio.ensure_future(asyncio.to_thread(self._engine.close))
        cancelled = None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _last_reports(self) -> None:
        """Wait for the shards that are being worked on, and note what they have done."""
        patience = PATIENCE if self._tells else min(PATIENCE, self._seconds + UNTOLD)
        end = self._loop.time() + (LEAVE if self._engine.own else patience)
        hurried = asyncio.ensure_future(self._hurried.wait())
        try:
            while self._out and self._loop.time() < end and not hurried.done():
                while self._done:
                    await self._take_quietly(self._done.popleft())
                self._news.clear()
                if self._out:
                    news = asyncio.ensure_future(self._news.wait())
                    await asyncio.wait([news, hurried], timeout=end - self._loop.time(), return_when="FIRST_COMPLETED")
                    news.cancel()
        finally:
            hurried.cancel()

    async def _take_quietly(self, shard: _Shard) -> None:
        """Take in what is settled, while the run is being left."""
        self._out.discard(shard)
        if shard.future.cancelled() or shard.future.exception() is not None:
            return
        jobs = [self._took(shard, outcome) for outcome in shard.future.result().outcomes]
        told = (self._run.finish(job) for job in jobs if job is not None)
        for result in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(result, Exception):
                _log.warning("while the run was being left: %s", result)


_CUT = (
    "its body was still coming after {:g} s, twice, and what has come cannot be gone on with: the server gives no "
    "strong ETag, or no ranges; download it without an executor"
)


def _ticket(errand: Errand, now: float) -> Ticket:
    """What goes out of a bundle."""
    job = errand.job
    bundle: AioDownloadBundle = copy.copy(job.bundle)
    bundle.info = bundle._checked = None
    if bundle._sources is not None:
        bundle._sources = [copy.copy(source) for source in bundle._sources]
        for source in bundle._sources:
            source.due -= now
    age = now - job.began if job.began else None
    return Ticket(job.index, bundle, errand.spacing, max(0.0, errand.due - now), age, errand.tries)


def _words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_cancelled() -> bool:
    """Whether somebody has asked the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
