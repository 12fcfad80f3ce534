"""Engine: the executor that a call is given, or a pool of processes of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sized
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from .. import checks
from ..errors import ConfigurationError
from .worker import unattended

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["Borrowed", "Engine", "OwnPool", "engine_of", "is_broken"]

R = TypeVar("R")

LEAVE = 5.0  # seconds for the processes of a pool of our own to end by themselves


class Engine(Protocol):
    """Where shards are worked on."""

    workers: int
    """How many at once."""

    own: bool
    """Whether it hears :meth:`ring`."""

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """Have ``function`` called in a worker.  Blocks for a moment; raises what the executor raises."""

    def renew(self, future: Future[Any] | None) -> bool:
        """Its workers have died: whether there are new ones.

        :param future: what was lost with them, or None: they take nothing any more.
        """

    def ring(self) -> None:
        """Tell the workers that the run is being left."""

    def close(self) -> None:
        """End what was begun here.  Blocks."""


class Borrowed:
    """An executor of the caller's.

    :param executor: of whichever kind; only its ``submit`` is used.
    :param workers: how many shards it gets at once.
    """

    own = False

    def __init__(self, executor: Any, workers: int) -> None:
        self._executor = executor
        self.workers = workers

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """See :class:`Engine`."""
        future: Future[R] = self._executor.submit(function, *args)
        if not callable(getattr(future, "add_done_callback", None)):
            raise ConfigurationError(
                f"executor: submit() must return a concurrent.futures.Future, not {type(future).__name__}"
            )
        return future

    def renew(self, future: Future[Any] | None) -> bool:
        """It is the caller's: nobody else makes another one."""
        return False

    def ring(self) -> None:
        """There is no way to tell its workers."""

    def close(self) -> None:
        """It is the caller's."""


class OwnPool:
    """Processes that are started when they are needed, and end with the call.

    :param workers: how many.
    """

    own = True

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._bell: Any = None
        self._pool: ProcessPoolExecutor | None = None
        self._old: list[ProcessPoolExecutor] = []
        self._pools: WeakKeyDictionary[Future[Any], ProcessPoolExecutor] = WeakKeyDictionary()

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """See :class:`Engine`."""
        if self._pool is None:
            import multiprocessing  # which takes its time

            context = multiprocessing.get_context("spawn")
            self._bell = context.Event()
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=unattended, initargs=(_Ring(self._bell),)
            )
        future = self._pool.submit(function, *args)
        self._pools[future] = self._pool
        return future

    def renew(self, future: Future[Any] | None) -> bool:
        """See :class:`Engine`."""
        if self._pool is not None and (future is None or self._pools.get(future) is self._pool):
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._old.append(self._pool)  # what it holds of the system is let go of in close(), which may block
            self._pool = None
        return True

    def ring(self) -> None:
        """See :class:`Engine`."""
        if self._bell is not None:
            self._bell.set()

    def close(self) -> None:
        """Let the processes end; terminate those that do not."""
        pool, self._pool = self._pool, None
        for old in self._old:
            old.shutdown(wait=True)
        self._old.clear()
        self._pools.clear()
        if pool is None:
            self._bell = None
            return
        processes: list[BaseProcess] = list((getattr(pool, "_processes", None) or {}).values())
        self.ring()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.join(LEAVE)
            if process.exitcode is None:
                process.terminate()
        pool.shutdown(wait=True)
        self._bell = None


class _Ring:
    """Whether the bell has been rung, asked in another process."""

    def __init__(self, bell: Any) -> None:
        self._bell = bell

    def __call__(self) -> bool:
        return bool(self._bell.is_set())


def engine_of(executor: Any, workers: int | None) -> Engine:
    """Return what does the work of a call.

    :param executor: given by the caller, or None for processes of our own.
    :param workers: how many shards at once, or None.
    :raises ConfigurationError: for what is no executor, or no number of workers.
    """
    if workers is not None:
        checks.whole("workers", workers, 1)
    if executor is None:
        return OwnPool(workers or 1)
    if callable(getattr(executor, "get_executor", None)):
        raise ConfigurationError("executor: this is a client; give its executor, as in executor=client.get_executor()")
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise ConfigurationError(
            "executor must be a concurrent.futures.Executor, such as ProcessPoolExecutor(4) or what Dask's "
            f"client.get_executor() returns, not {executor!r}"
        )
    return Borrowed(executor, workers or _workers_of(executor) or os.cpu_count() or 1)


def _workers_of(executor: Any) -> int | None:
    """How many workers an executor has, if it tells."""
    for name in ("_max_workers", "num_workers"):  # of concurrent.futures and loky; of mpi4py
        count = getattr(executor, name, None)
        if isinstance(count, int) and count >= 1:
            return count
    ncores = getattr(getattr(executor, "_client", None), "ncores", None)  # of Dask: a dict of its workers
    if callable(ncores):
        try:
            told = ncores()
        except Exception:  # then nobody knows
            return None
        if isinstance(told, Sized) and len(told):
            return len(told)
        if callable(getattr(told, "close", None)):  # a coroutine, of a client that is used asynchronously
            told.close()
    return None


def is_broken(error: BaseException) -> bool:
    """Whether ``error`` says that all workers of an executor are gone."""
    return isinstance(error, BrokenExecutor)
