"""Ledger: which bundles of a run are in which shard, and what becomes of them when it comes back, or does not."""

from __future__ import annotations

import asyncio
import copy
import logging
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..attempt import sleep_time
from ..bundle import AioDownloadBundle, Status
from ..errors import AioDownloadError, DeadlineError, ExecutorError, StrategyError, WorkerError
from ..request.hosts import host_of, origins
from ..tries import Job
from .orders import Left, Outcome, Report, Ticket
from .stock import Errand, Stock

if TYPE_CHECKING:
    from ..run import Run

__all__ = ["Ledger", "Shard", "ticket_of", "words"]

_log = logging.getLogger("aiodownload.cluster")

SECONDS = 2.0  # after which a shard begins nothing new, at first
LONGEST = 10.0  # the same, once shards come back with work left
LONGER = 1.5  # times, each time one does
MOST = 1024  # bundles of a shard, once shards are done long before their time
PATIENCE = 600.0  # seconds after which a shard ends what is under way
LOSSES = 3  # workers that are lost with a bundle until it has failed
CUTS = 2  # tries of a bundle that are cut off, with nothing left of them, until it has failed
SPLIT = 2.0  # seconds for a shard with hosts that others have as well: so late they hear of a pause
REST = 1.0  # seconds for which the hosts of a lost shard are left alone: nobody knows when they were last asked

# What a bundle takes along from shard to shard, besides its results.
_STATE = ("_mismatched", "_divisible", "_kept", "_condition", "_sources", "_rounds")

_CUT = (
    "its body was still coming after {:g} s, twice, and what has come cannot be gone on with: the server gives no "
    "strong ETag, or no ranges; download it without an executor"
)


class Shard:
    """One that is being worked on.

    :param errands: its bundles, by their places in the input.
    :param own: its hosts, those included that others may have as well.
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


class Ledger:
    """The bundles of a run on their way.

    :param run: whose bundles they are.
    :param workers: how many shards are out at once.

    ``seconds`` is how long the next shard may take, ``patience`` how long at most; ``last_start`` is when a request has
    last started, as far as known.
    """

    def __init__(self, run: Run, workers: int) -> None:
        self._run = run
        self._workers = workers
        self._request = run.live.request
        self._loop = asyncio.get_running_loop()
        at_once = min(self._request.per_host or self._request.concurrent, self._request.concurrent)
        self.stock = Stock(origins("split_hosts", self._request.split_hosts), min(workers, at_once))
        self.seconds = SECONDS
        self.patience = PATIENCE
        self.last_start = float("-inf")
        self._budget = self._request.retry_budget
        self._lent = 0  # tries of the budget that shards have which are out
        self._asking: list[Errand] = []  # who needs leave for one more try
        self._errands: dict[Job, Errand] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def seconds_of(self, shard: Shard) -> float:
        """How long it may take."""
        return min(self.seconds, SPLIT) if shard.own & self.stock.split else self.seconds

    def put(self, job: Job) -> None:
        """Take in a bundle that is to be tried."""
        bundle = job.bundle
        errand = Errand(job, host_of(bundle._parse()), sleep_time(self._request, bundle))
        self._errands[job] = errand
        self.stock.add(errand, self._loop.time())

    def withdraw(self, job: Job) -> None:
        """Forget one that waits."""
        errand = self._errands.pop(job, None)
        if errand is not None:
            errand.gone = True

    def shard(self, errands: list[Errand], slots: int, now: float) -> Shard:
        """Make a shard of ``errands``, with its part of the retry budget."""
        retries = None
        if self._budget is not None:
            retries = -(-self._budget // self._workers)
            self._budget -= retries
            self._lent += retries
        for errand in errands:
            if errand.job.timer is not None:
                errand.job.timer.cancel()
            self._run.mark(errand.job, Job.ACTIVE)
        own = frozenset(errand.origin for errand in errands)
        return Shard({errand.job.index: errand for errand in errands}, own, slots, retries, now)

    # What comes back.

    def take_in(self, shard: Shard, report: Report) -> None:
        """Settle what is settled, and let the rest wait for another shard.

        :raises StrategyError: for a bug in a strategy, there.
        :raises AioDownloadError: for what else ends a run.
        """
        now = self._loop.time()
        self.last_start = max(self.last_start, now + report.last_start)
        self._return(shard, report.retries)
        for outcome in report.outcomes:
            if (job := self.took(shard, outcome)) is not None:
                self._settle(job)
        if report.error is not None:
            raise self._loud(shard, report) from report.cause
        self.stock.back(shard.own, report.memories, now)
        if report.left:
            self.seconds = min(LONGEST, self.seconds * LONGER)
        elif len(report.outcomes) >= self.stock.bundles and now - shard.sent < self.seconds / 2:
            self.stock.bundles = min(MOST, 2 * self.stock.bundles)
        for left in report.left:
            self._go_on(shard, left, now)
        self._decide(now)

    def _return(self, shard: Shard, spent: int) -> None:
        """Take back what a shard has not spent of the retry budget."""
        if self._budget is not None and shard.retries is not None:
            self._budget += shard.retries - spent
            self._lent -= shard.retries

    def _decide(self, now: float) -> None:
        """Let those who ask try again while the budget lasts; while others may give some of it back, they wait."""
        while self._asking and (self._budget or not self._lent):
            errand = self._asking.pop(0)
            if not self._run.owns(errand.job):
                continue
            if self._budget:
                self._budget -= 1
                self._wait_for(errand, now)
            else:
                _log.warning("the retry budget of %d is spent: failures are final now", self._request.retry_budget)
                self._fail(errand, errand.job.bundle.error or WorkerError("the retry budget is spent"))

    def _settle(self, job: Job) -> None:
        task = self._run.settled_in_task(job)
        if task is not None:
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def took(self, shard: Shard, outcome: Outcome) -> Job | None:
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

    def _go_on(self, shard: Shard, left: Left, now: float) -> None:
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
            self._fail(errand, WorkerError(_CUT.format(self.patience), False))
        elif left.asks:
            self._run.mark(job, Job.WAITING)
            self._asking.append(errand)
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
        self.stock.add(errand, now)

    def put_back(self, shard: Shard, error: BaseException | None = None) -> None:
        """Let its bundles go out again.

        :param error: by which it was lost; None: it was never sent.
        """
        now = self._loop.time()
        if error is not None:
            _log.warning("a shard of %d bundles was lost and is done again: %s", len(shard.errands), words(error))
        self._return(shard, 0 if error is None else shard.retries or 0)
        rate = self._request.rate
        rest = max(REST, 1 / rate if rate else 0.0, *(errand.spacing for errand in shard.errands.values()))
        if shard.own & self.stock.split:
            rest *= self.stock.parts
        self.stock.lost(shard.own, now, 0.0 if error is None else rest)
        for errand in shard.errands.values():
            if not self._run.owns(errand.job):
                continue
            errand.losses += error is not None
            if errand.losses >= LOSSES and error is not None:
                self._fail(
                    errand, WorkerError(f"{errand.losses} workers that had it were lost, the last: {words(error)}")
                )
            else:
                errand.due = now
                self._wait_for(errand, now)
        self._decide(now)

    def _fail(self, errand: Errand, error: AioDownloadError) -> None:
        job = errand.job
        self._errands.pop(job, None)
        job.bundle.error, job.bundle.status = error, Status.FAILED
        if job.began:
            job.bundle.elapsed = self._loop.time() - job.began
        self._settle(job)

    def _loud(self, shard: Shard, report: Report) -> Exception:
        """What has ended a shard, and ends the run."""
        error = report.error or ExecutorError("a worker has ended the run")
        if isinstance(error, StrategyError):
            errand = shard.errands.get(report.culprit) if report.culprit is not None else None
            error = StrategyError(None if errand is None else errand.job.bundle, error.hook, error.detail)
        if report.trace:
            error.add_note(f"In the worker:\n{report.trace}")
        return error

    async def all_told(self) -> None:
        """Wait until everybody has been told of what was settled."""
        while self._telling:
            await asyncio.wait(self._telling)


def ticket_of(errand: Errand, now: float) -> Ticket:
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


def words(error: BaseException) -> str:
    """Its class and its text."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
