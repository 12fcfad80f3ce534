"""Worker: what an executor runs, in whichever process or thread: one shard, on an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .._version import __version__
from ..admission import Candidate
from ..attempt import Again
from ..bundle import AioDownloadBundle
from ..entries import FileState, Publication, Row
from ..errors import AioDownloadError, DownloadError, StrategyError
from ..homes import is_store
from ..live import Live
from ..permit import Turn
from ..recorder import confirm
from ..request.hosts import Entry, Share, host_of
from ..run import Run
from ..source import Iterated
from ..storage.digests import agrees
from ..storage.home import Home
from ..storage.placement import published_since
from ..storage.strategy import reads_by_itself
from ..storage.workspace import Workspace
from ..tries import Job, OwnTries
from .orders import Greeting, Left, Order, Outcome, Report, Ticket
from .travel import travels

if TYPE_CHECKING:
    from ..dispatcher import Startable
    from ..download import AioDownload
    from ..storage.strategy import DownloadStrategy

__all__ = ["begun", "bell", "greet", "run_shard", "stopped", "unattended"]

TICK = 0.05  # seconds between two looks at the clock
LONG = 1.0  # seconds for which a try may keep a shard that is over from ending, without others beside it
SHARE = 0.1  # of the time of the shard, for the same

begun: set[str] = set()
"""Runs that were begun in this process."""

stopped: set[str] = set()
"""Runs that are being left, as far as they are run from this process."""


def _silence() -> bool:
    return False


bell: Callable[[], bool] = _silence
"""Whether the pool that this process belongs to is being left."""


def unattended(ring: Callable[[], bool]) -> None:
    """Make this a process of a pool of our own: it hears ``ring``, minds no Ctrl-C, and ends with its parent."""
    global bell
    import multiprocessing

    bell = ring
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.join,), name="parent", daemon=True).start()


def _end_with(join: Callable[[], None]) -> None:
    join()
    os._exit(1)  # nobody is left who would want anything of it


def greet(settings: AioDownload, run: str) -> Greeting:
    """Say whether work can be done here.

    :param settings: what to work with.
    :param run: stands for the run.
    :raises AioDownloadError: if a setting cannot work here, or the folder for the files cannot be used.

    Raises what a callable raises that is to make the session.
    """
    try:
        asyncio.run(_try_settings(settings))
        return Greeting(__version__, _opened_at(settings.download_strategy), run in begun)
    except AioDownloadError as error:
        refused = _able_to_travel(error)
    raise refused  # outside of the handler: so it has no context


def _opened_at(strategy: DownloadStrategy) -> int | None:
    """What time it is by the clock of the file system of ``home`` (nanoseconds), where its files tell theirs."""
    # A file there says nothing, or its time does not; and an object has none.
    if reads_by_itself(strategy) or strategy.remote_time or is_store(strategy.home):
        return None
    return Home.open(strategy.home, strategy.durable).opened_at


def run_shard(order: Order) -> Report:
    """Work on a shard until it is done, or its time is over."""
    own = threading.current_thread() is threading.main_thread()
    interruptible = own and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with asyncio.Runner() as runner:
        return runner.run(_run(order, interruptible))


async def _try_settings(settings: AioDownload) -> None:
    live = Live(_own(settings))
    try:
        await live.open()
    finally:
        await live.close()


async def _run(order: Order, interruptible: bool) -> Report:
    live = Live(_shared(order), Share(order.own, order.workers, order.split, order.parts))
    live.workspace.disk.without_publisher()
    loop = asyncio.get_running_loop()
    live.dispatcher.schedule.recall(order.memories, order.last_start, loop.time())
    report = Report()
    try:
        await live.open()
        shift = _Shift(live, order, report)
        if interruptible:
            with contextlib.suppress(NotImplementedError):  # on Windows; there it ends this with the program
                loop.add_signal_handler(signal.SIGINT, shift.interrupt)
        await shift.work()
    except AioDownloadError as error:
        _tell(report, error, order.tickets)
    finally:
        await live.close()
    now, schedule = loop.time(), live.dispatcher.schedule
    report.last_start = schedule.last_start - now
    report.memories = schedule.remembered(now)
    for memory in report.memories.values():
        if memory.health.error is not None:
            memory.health.error = _able_to_travel(memory.health.error)
    return report


def _own(settings: AioDownload) -> AioDownload:
    """A copy of the settings, without what the caller does by itself."""
    own = copy.copy(settings)
    own.request_strategy, own.download_strategy = copy.copy(own.request_strategy), copy.copy(own.download_strategy)
    own.download_strategy.refresh = own.download_strategy.skip_cached = False
    return own


def _shared(order: Order) -> AioDownload:
    """The settings for this part of the run."""
    own = _own(order.settings)
    own.request_strategy.concurrent = order.concurrent
    if own.request_strategy.bandwidth is not None:
        own.request_strategy.bandwidth *= order.part
    return own


def _tell(report: Report, error: AioDownloadError, tickets: Iterable[Ticket]) -> None:
    """Put into ``report`` what ended the shard."""
    bundle, cause = getattr(error, "bundle", None), error.__cause__
    if cause is not None:
        report.trace = "".join(traceback.format_exception(cause))
        report.cause = cause if travels(_bare(cause)) else None
    report.culprit = next((one.number for one in tickets if one.bundle is bundle), None)
    if isinstance(error, StrategyError):
        report.error = StrategyError(None, error.hook, error.detail)
    else:
        report.error = _able_to_travel(error)


def _able_to_travel(error: AioDownloadError) -> AioDownloadError:
    """``error`` by itself, or, where it is of a class of the user's that does not pickle, its words."""
    _bare(error)
    if type(error).__module__ == "aiodownload.errors" or travels(error):
        return error
    return DownloadError(f"{type(error).__name__}: {error}")


def _bare(error: BaseException) -> BaseException:
    """``error`` without what it came from: picklers that take that along fail where it does not pickle."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


class _Shift(Run):
    """One shard: its bundles have their places already, and nobody here is told of them.

    :param live: of this shard.
    :param order: the shard.
    :param report: takes what becomes of it.
    """

    def __init__(self, live: Live, order: Order, report: Report) -> None:
        self.order = order
        self.report = report
        self.stopped_at: float | None = None  # since when nothing new is begun
        self._interrupted = False
        self._stranded: set[Job] = set()  # jobs that wait for their turn at another host
        self._began = asyncio.get_running_loop().time()
        self.end = self._began + order.seconds
        self._late = self._began + order.patience / 2  # from then on nothing new is begun, whatever takes long
        bundles = [ticket.bundle for ticket in order.tickets]
        super().__init__(live, Iterated(bundles, None), self._note, at_once=True, crew=self._crew)
        self._admission: _Places = _Places(live.workspace, order)

    def _crew(self, run: Run) -> _ShiftTries:
        self._tries: _ShiftTries = _ShiftTries(run, self)
        return self._tries

    def interrupt(self) -> None:
        """End at once, and tell what was done."""
        self._interrupted = True

    async def work(self) -> None:
        """Work until the last outcome, or until the time is over.

        :raises AioDownloadError: as :meth:`Run.wait`.
        """
        last = self._began + self.order.patience
        while not self.task.done():
            await asyncio.wait([self.task], timeout=TICK)
            now = self._loop.time()
            if self._interrupted or self.order.run in stopped or bell() or now >= last:
                await self.close()
            elif self._exhausted:
                self._look(now)
        if not self.task.cancelled():
            self.task.result()

    def _look(self, now: float) -> None:
        """Begin nothing new once the time is over; but while something is under way that takes long, others go on."""
        active = [(job, job.permit.entry) for job in self._jobs if job.state == Job.ACTIVE and job.permit is not None]
        # One whose redirect leads to a host that is not to be asked now is not worth waiting for.
        since = [entry.since for _, entry in active if entry.resume is None]
        if self.stopped_at is None:
            if not since:
                wake = self.live.dispatcher.schedule.wake_at(now)
                over = now >= self.end or wake is None or wake >= self.end
            else:
                over = now >= self.end and (now >= self._late or now - min(since) <= self._long(now))
            if over:
                self.stopped_at = now
                self._tries.discard()
        if self.stopped_at is not None:
            if not since:
                self._stranded = {job for job, _ in active}
                self._interrupted = bool(active)
                for job in self.waiting():
                    self.give_back(job)
            elif now < self._late and now - self.stopped_at > self._long(now):
                self.stopped_at = None
                for job in self.waiting():
                    self._tries.again(job)

    def _long(self, now: float) -> float:
        """Seconds for which the others may wait for the end of what is under way."""
        return max(LONG, SHARE * (now - self._began))

    def _room_now(self) -> int:
        return len(self.order.tickets)  # the input is no longer than that

    async def _conclude(self, job: Job, told: bool = False) -> None:
        self.hand_over(job)  # on_fail is called where nobody can be lost: by the caller

    def _note(self, place: int, bundle: AioDownloadBundle) -> None:
        if bundle.error is not None:
            bundle.error = _able_to_travel(bundle.error)
        number = self.order.tickets[place].number
        publication = self._admission.publications.get(number) if bundle.ok else None
        self.report.outcomes.append(Outcome(number, bundle._results(), publication))

    def drop(self, job: Job) -> None:
        """Let the caller have it as it is."""
        if job not in self._stranded:
            self.give_back(job, cut=job.state == Job.ACTIVE)
            return
        if job.permit is not None and job.permit.entry.host is not None:
            now = self._loop.time()
            job.due = now + self.live.dispatcher.schedule.opens_in(job.permit.entry.host.origin, now)
        if job.bundle.mirrors:  # whose sources count their tries before they wait
            job.bundle._rounds -= 1
        else:
            job.bundle.attempts -= 1
        self.give_back(job)

    def give_back(self, job: Job, *, asks: bool = False, cut: bool = False) -> None:
        """The bundle goes on in another shard.

        :param asks: whether it needs leave for one more try.
        :param cut: whether a try of it was cut off; if its bytes are kept, it does not count.
        """
        now, bundle, ticket = self._loop.time(), job.bundle, self.order.tickets[job.index]
        if job.timer is not None:
            job.timer.cancel()
        if job.permit is not None:
            self._tries.withdraw(job)
            ticket.tries = job.permit.entry.tries
            job.free()
        if cut and bundle._kept:
            bundle.attempts, bundle._rounds = max(0, bundle.attempts - 1), max(0, bundle._rounds - 1)
        if bundle.error is not None:
            bundle.error = _able_to_travel(bundle.error)
        ticket.due = max(0.0, job.due - now)
        ticket.age = now - job.began if job.began else None
        for source in bundle._sources or ():
            source.due -= now
        self.report.left.append(Left(ticket, asks, cut))
        job.over = True
        self._forget(job)
        self._look_for_end()


class _ShiftTries(OwnTries):
    """Tries that go on with those of earlier shards.

    :param run: the shard.
    :param shift: the same.
    """

    def __init__(self, run: Run, shift: _Shift) -> None:
        super().__init__(run)
        self._shift = shift

    def put(self, job: Job) -> None:
        """See :class:`Tries`."""
        ticket, now = self._shift.order.tickets[job.index], self._loop.time()
        bundle = job.bundle
        if ticket.age is not None:
            job.began = now - ticket.age
            self._set_timer(job, bundle.error)
        for source in bundle._sources or ():
            source.due += now
        origin = "" if bundle.mirrors else host_of(bundle._parse())
        stretch = 1.0 if self._dispatcher.schedule.limits.spaced_per_host else 1.0 / self._shift.order.part
        entry: Entry[Startable] = Entry(job, origin, ticket.spacing * stretch)
        entry.tries = ticket.tries
        job.tries, job.permit = self, Turn(self._dispatcher, entry, job, self._release)
        self._dispatcher.submit(entry, ticket.due)

    def _may_retry(self, job: Job, again: Again) -> bool:
        return True  # who has no leave for it asks for it

    def _wait(self, job: Job, turn: Turn, again: Again) -> None:
        shift = self._shift
        job.due = self._loop.time() + again.delay
        allowed = shift.order.retries
        asks = allowed is not None and shift.report.retries >= allowed
        shift.report.retries += allowed is not None and not asks
        if asks or job.due >= shift.end:
            shift.give_back(job, asks=asks)
        elif shift.stopped_at is not None:
            shift.mark(job, Job.WAITING)
        else:
            super()._wait(job, turn, again)

    def again(self, job: Job) -> None:
        """Go on with a job that was taken out."""
        if job.permit is not None:
            self._dispatcher.submit(job.permit.entry, job.due - self._loop.time())


class _Places:
    """The places that the caller has given; what was published there since the run began is not fetched again.

    That is so where a worker was lost, and its shard is worked on once more.

    :param workspace: threads and home.
    :param order: the shard.

    ``publications`` are those of the files, by the number of their bundles.
    """

    def __init__(self, workspace: Workspace, order: Order) -> None:
        self._workspace = workspace
        self._order = order
        self.publications: dict[int, Publication] = {}

    async def place(self, candidates: Sequence[Candidate]) -> None:
        """See :class:`~aiodownload.admission.Placing`."""
        order, disk = self._order, self._workspace.disk
        paths = [candidate.bundle.file_path or "" for candidate in candidates]
        found: Sequence[os.stat_result | None] = [None] * len(paths)
        if order.since is not None:
            found = await disk.run(published_since, paths, order.since, self._workspace.strategy.home)
        if (order.again or any(found)) and not self._workspace.remote:
            await self._tidy(candidates, paths)
        for candidate, ticket, path, state in zip(candidates, order.tickets, paths, found, strict=True):
            bundle = candidate.bundle
            if order.journalled:
                bundle._publishing = Row(
                    partial(self._publish, ticket.number), partial(self._publish_soon, ticket.number)
                )
            if state is None or (bundle._digests and not await disk.run(agrees, path, bundle._digests)):
                candidate.verdict = Candidate.FETCH
                continue
            proof = "DIGEST" if bundle._digests else "NONE"
            file = Publication(path, FileState.of(state), None, None, proof, bundle.digest)
            confirm(bundle, file)
            self._publish(ticket.number, file)
            candidate.verdict = Candidate.SETTLED

    async def _tidy(self, candidates: Sequence[Candidate], paths: Sequence[str]) -> None:
        """Remove what lost workers have left, but for what can be gone on with."""
        home = await self._workspace.home()
        parents = {home.folded(os.path.dirname(path)): os.path.dirname(path) for path in paths}
        places = self._workspace.places
        places.learn(await self._workspace.survey(parents, home.folded))
        for candidate, path in zip(candidates, paths, strict=True):
            key = home.folded(path)
            candidate.bundle._kept |= places.keeps(key, os.path.dirname(key))

    def _publish(self, number: int, publication: Publication) -> None:
        self.publications[number] = publication

    def _publish_soon(self, number: int, publication: Publication, then: Callable[[Exception | None], object]) -> None:
        self._publish(number, publication)
        then(None)

    def settled(self, candidate: Candidate) -> None:
        """See :class:`~aiodownload.admission.Placing`."""
        candidate.bundle._publishing = None

    def overflows(self) -> bool:
        """See :class:`~aiodownload.admission.Placing`."""
        return False

    async def spill(self) -> None:
        """See :class:`~aiodownload.admission.Placing`."""

    def close(self) -> None:
        """See :class:`~aiodownload.admission.Placing`."""
