"""Who does the disk work, so that the event loop never waits for a disk: threads, and a process for small files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

from aiofiles.os import wrap

from .publisher import Publisher

__all__ = ["Disk"]

P = ParamSpec("P")
R = TypeVar("R")

LANES = 4
SLOW = 0.25  # seconds after which a trip counts as slow, and another lane is opened beside it
SMALL = 1 << 17  # bytes of a body that goes to the publisher
MANY = 64  # small bodies after which a process for them is worth its start

_Job: TypeAlias = "tuple[asyncio.Future[Any], Callable[[], Any]]"


class Disk:
    """Disk threads of one entered AioDownload, in which finished jobs share a trip.

    A trip to a thread and back costs more than writing a small file does.  So there is one lane at first, with a thread
    of its own: whatever is waiting when a trip begins goes along.  While trips are slow, up to four lanes work side by
    side.

    asyncio's default executor is not used: it has few threads, and looking up names shares it; six slow look-ups
    held up a write by seconds.

    :param lanes: at most so many (int >= 1); with one, jobs are done in the order in which they come.
    """

    def __init__(self, lanes: int = LANES) -> None:
        self._most = lanes
        self._jobs: list[_Job] = []
        self._idle: list[ThreadPoolExecutor] = []
        self._executors: list[ThreadPoolExecutor] = []
        self._tidying: ThreadPoolExecutor | None = None
        self._lanes: set[asyncio.Task[None]] = set()
        self._departed = 0.0
        self._patience: asyncio.TimerHandle | None = None
        self._closed = False
        self._small = 0
        self._spawns = True
        self._publisher: Publisher | None = None
        self._starting: asyncio.Task[None] | None = None
        self.starving: Callable[[], bool] = lambda: False  # see Publisher

    def publisher(self, size: int) -> Publisher | None:
        """Return what publishes a body of ``size`` bytes sooner than a thread would, or None.

        A process is started for that once there have been many small bodies.
        """
        if size > SMALL:
            return None
        if self._publisher is not None and self._publisher.prompt:
            return self._publisher
        self._small += 1
        if self._small == MANY and self._spawns and not self._closed:
            loop = asyncio.get_running_loop()
            self._starting = loop.create_task(self._start_publisher(loop), name="aiodownload-disk")
        return None

    def without_publisher(self) -> None:
        """Let the threads publish all: for work that is over soon, its process is not worth its start."""
        self._spawns = False

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` in one of the threads and return what it returns.

        :raises RuntimeError: after :meth:`close`.
        """
        if self._closed:
            raise RuntimeError("the disk threads have ended")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._jobs.append((future, partial(function, *args, **kwargs)))
        if len(self._idle) == len(self._executors):
            self._open_lane(loop)
        elif self._patience is None and (self._idle or len(self._executors) < self._most):
            self._patience = loop.call_at(self._departed + SLOW, self._lose_patience, loop)
        return await future

    def later(self, function: Callable[[], R]) -> Future[R]:
        """Call ``function`` in a thread beside the lanes, before :meth:`close` returns.

        At the exit of the interpreter no thread takes work any more; then, and after :meth:`close`, it is called here
        and now.
        """
        if not self._closed:
            if self._tidying is None:
                self._tidying = ThreadPoolExecutor(1, thread_name_prefix="aiodownload-disk")
            with contextlib.suppress(RuntimeError):
                return self._tidying.submit(function)
        done: Future[R] = Future()
        try:
            done.set_result(function())
        except Exception as error:
            done.set_exception(error)
        return done

    async def close(self) -> None:
        """Wait for all work that was handed in; then end the threads."""
        while self._lanes:
            await asyncio.wait(self._lanes)
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._publisher is not None:
            await self._publisher.idle()
            self._publisher.detach()
        if self._patience is not None:
            self._patience.cancel()
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._shut_down)
        except RuntimeError:  # the interpreter exits: no thread is left that could wait in our stead
            self._shut_down()

    def _shut_down(self) -> None:
        self._closed = True
        if self._publisher is not None:
            self._publisher.end()
        for executor in (*self._executors, *([self._tidying] if self._tidying is not None else ())):
            executor.shutdown()

    async def _start_publisher(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # it cannot run here: threads do it all
            await asyncio.wrap_future(self.later(lambda: self._spawn(loop)))
            if self._publisher is not None:
                self._publisher.attach()

    def _spawn(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread.  Kept at once: :meth:`close` ends it even if nobody waits for it any more."""
        self._publisher = Publisher(loop, self.starving)

    def _new_executor(self) -> ThreadPoolExecutor:
        executor = ThreadPoolExecutor(1, thread_name_prefix="aiodownload-disk")
        self._executors.append(executor)
        return executor

    def _open_lane(self, loop: asyncio.AbstractEventLoop) -> None:
        executor = self._idle.pop() if self._idle else self._new_executor()
        lane = loop.create_task(self._lane(loop, executor), name="aiodownload-disk")
        self._lanes.add(lane)
        lane.add_done_callback(self._lanes.discard)

    def _lose_patience(self, loop: asyncio.AbstractEventLoop) -> None:
        self._patience = None
        if not self._jobs:
            return
        if loop.time() < self._departed + SLOW:  # another trip has begun since
            self._patience = loop.call_at(self._departed + SLOW, self._lose_patience, loop)
        elif self._idle or len(self._executors) < self._most:
            self._open_lane(loop)

    async def _lane(self, loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
        try:
            while self._jobs:
                jobs, self._jobs = self._jobs, []
                self._departed = loop.time()
                await self._travel(jobs, executor)
        finally:
            self._idle.append(executor)

    async def _travel(self, jobs: list[_Job], executor: ThreadPoolExecutor) -> None:
        """One trip; everybody gets what came of his own job."""
        try:
            results = await _trip([job for _, job in jobs], executor=executor)
        except RuntimeError as error:  # the interpreter exits
            results = [error] * len(jobs)
        except asyncio.CancelledError:  # the event loop is being taken down
            for future, _ in jobs:
                future.cancel()
            raise
        for (future, _), result in zip(jobs, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)


def _do_all(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """In a disk thread: call each job; what one raises is its result."""
    results: list[Any] = []
    for job in jobs:
        try:
            results.append(job())
        except StopIteration as error:  # a future does not take it
            results.append(RuntimeError(f"a disk job raised {error!r}"))
        except Exception as error:
            results.append(error)
    return results


_trip = wrap(_do_all)
