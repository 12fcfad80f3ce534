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
from ..errors import AioDownloadError, ConfigurationError, ExecutorError
from ..homes import Bucket, is_store
from ..outlast import outlast
from ..run import LOOK_AHEAD
from ..tries import Job
from . import worker
from .engine import Engine, is_broken
from .ledger import Ledger, Shard, ticket_of, words
from .orders import Greeting, Order, Report
from .stock import Errand
from .travel import unpicklable

if TYPE_CHECKING:
    from ..download import AioDownload
    from ..run import Run

__all__ = ["Cluster", "Shards"]

_log = logging.getLogger("aiodownload.cluster")

LEAVE = 5.0  # seconds that shards get to end which can be told to
UNTOLD = 30.0  # seconds beyond its own time for one of which the executor does not say whether it is being worked on

_HINT = (
    "a program that starts processes has its own calls below  if __name__ == '__main__':  and what it defines for them "
    "in a module that they can import"
)


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
        self._free = self._request.concurrent
        self._loop = asyncio.get_running_loop()
        self._name = os.urandom(8).hex()
        self._serial = 0
        self._ledger = Ledger(run, self._workers)
        self._stock = self._ledger.stock
        self.slots = self._ahead()
        self._busy = 0  # workers that have a shard, or are about to get it
        self._out: set[Shard] = set()
        self._done: deque[Shard] = deque()
        self._news = asyncio.Event()
        self._hurried = asyncio.Event()
        self._expected = 0  # runs that have not read all of their input: this one, or none
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._since: int | None = None
        self._heard = 0.0  # when something was last heard of any shard
        self._tells = False  # whether the executor says which futures are running

    def _ahead(self) -> int:
        """Such that the run reads a shard for each worker, and one more."""
        return max(1, self._workers * self._stock.bundles * 2 // LOOK_AHEAD)

    # What the run does with it.

    @property
    def spare(self) -> int:
        """See :class:`~aiodownload.tries.Tries`."""
        return self._stock.bundles if self._busy < self._workers and self._free and not len(self._stock) else 0

    def expect(self, runs: int) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        self._expected += runs

    def put(self, job: Job) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        self._ledger.put(job)
        self._news.set()
        if self._task is None:
            self._task = self._run.group.create_task(self._work(), name="aiodownload-shards")

    def withdraw(self, job: Job) -> None:
        """See :class:`~aiodownload.tries.Tries`."""
        self._ledger.withdraw(job)

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
            await self._ledger.all_told()
            raise
        finally:
            await self._leave()

    async def _wait(self) -> None:
        """Wait for news, for the time of a host, or for the moment when a shard is overdue.

        :raises ExecutorError: if one is.
        """
        now = self._loop.time()
        overdue = max(self._heard, min((shard.sent for shard in self._out), default=now)) + 2 * self._ledger.patience
        if self._out and now >= overdue:
            self.hurry()
            raise ExecutorError(
                f"executor: a shard has not come back for {2 * self._ledger.patience:g} s, and no other one has "
                "meanwhile: its worker hangs, was lost without a word, or there is none"
            )
        self._tells = self._tells or any(shard.future.running() for shard in self._out)
        self._stock.wake(now)
        if self._may_send():
            return
        wake = self._stock.wake_at() or now + self._ledger.patience
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(wake, overdue)):
                await self._news.wait()

    async def _greet(self) -> None:
        """Ask one worker whether work can be done there.

        :raises ConfigurationError: if the download cannot go there.
        :raises ExecutorError: if nobody answers.
        """
        worker.begun.add(self._name)
        try:
            future = await asyncio.to_thread(self._engine.submit, worker.greet, self._settings, self._name)
            async with asyncio.timeout(2 * self._ledger.patience):
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
            raise ExecutorError(f"executor: no work can be done there ({words(error)}); {_HINT}") from error
        if greeting.version != _version.__version__:
            raise ConfigurationError(
                f"executor: its workers have aiodownload {greeting.version}, and this is {_version.__version__}; "
                "install the same one everywhere"
            )
        home = self._settings.download_strategy.home
        if not greeting.here and is_store(home) and Bucket.of(home).scheme == "memory":
            raise ConfigurationError(
                "home=memory:// is in the memory of one process, and the workers of this executor are others, where "
                "objects would be lost; give a folder or a bucket that all of them reach, or a ThreadPoolExecutor"
            )
        self._since = greeting.now

    async def _send(self) -> None:
        """Send out what may go.

        :raises ExecutorError: if the executor takes nothing any more.
        """
        self._stock.wake(self._loop.time())
        while self._may_send():
            now = self._loop.time()
            lanes = self._workers - self._busy
            if not self._expected:  # there are no other hosts that slots must be kept for
                lanes = min(lanes, self._stock.takers)
            errands = self._stock.cut(lanes, now)
            if errands:
                await self._submit(errands, max(1, self._free // lanes), now)

    def _may_send(self) -> bool:
        """Whether there is something to send, and somebody to send it to."""
        return bool(self._free and self._busy < self._workers and not self._ended and len(self._stock))

    async def _submit(self, errands: list[Errand], slots: int, now: float) -> None:
        shard = self._ledger.shard(errands, slots, now)
        order = self._order(shard, now)
        self._free -= slots
        self._busy += 1
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
                self._ledger.put_back(shard)
                return
            raise ExecutorError(
                f"executor: it takes no work any more ({words(error)}); what is settled is kept, and another run of "
                "the same program does the rest"
            ) from error
        self._gone_out(shard, future)

    def _gone_out(self, shard: Shard, future: Future[Report]) -> None:
        shard.future = future
        self._out.add(shard)
        future.add_done_callback(lambda _: self._hear(shard))

    def _hear(self, shard: Shard) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._note_done, shard)

    def _note_done(self, shard: Shard) -> None:
        self._done.append(shard)
        self._news.set()

    def _order(self, shard: Shard, now: float) -> Order:
        self._serial += 1
        errands = shard.errands.values()
        return Order(
            self._name,
            self._serial,
            self._settings,
            [ticket_of(errand, now) for errand in errands],
            shard.own - self._stock.split,
            shard.own & self._stock.split,
            self._stock.parts,
            self._stock.memories(shard.own, now),
            self._workers,
            shard.slots,
            shard.slots / self._request.concurrent,
            self._ledger.last_start - now,
            shard.retries,
            self._ledger.seconds_of(shard),
            self._ledger.patience,
            self._since,
            self._run.live.recorder is not None,
            any(errand.losses for errand in errands),
        )

    # What comes back.

    def _take_back(self, shard: Shard) -> None:
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
            self._ledger.take_in(shard, shard.future.result())
            self.slots = self._ahead()
        else:
            if is_broken(error):
                self._engine.renew(shard.future)
            self._ledger.put_back(shard, error)

    def _release(self, shard: Shard) -> None:
        """Its worker and its slots are for others."""
        self._out.discard(shard)
        self._free += shard.slots
        self._busy -= 1

    # The end.

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
            worker.begun.discard(self._name)
            for shard in self._out:
                shard.future.cancel()
            await self._close()

    async def _close(self) -> None:
        """End what was begun here, also if this wait is cancelled."""
        await outlast(asyncio.to_thread(self._engine.close))

    async def _last_reports(self) -> None:
        """Wait for the shards that are being worked on, and note what they have done."""
        patience = self._ledger.patience if self._tells else min(self._ledger.patience, self._ledger.seconds + UNTOLD)
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

    async def _take_quietly(self, shard: Shard) -> None:
        """Take in what is settled, while the run is being left."""
        self._out.discard(shard)
        if shard.future.cancelled() or shard.future.exception() is not None:
            return
        jobs = [self._ledger.took(shard, outcome) for outcome in shard.future.result().outcomes]
        told = (self._run.finish(job) for job in jobs if job is not None)
        for result in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(result, Exception):
                _log.warning("while the run was being left: %s", result)


def _is_cancelled() -> bool:
    """Whether somebody has asked the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
