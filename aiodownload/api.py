"""one(), each() and swarm(): the blocking facade, for code that is no coroutine.

The loop runs in a thread of its own, so that a call works the same in a script, in a thread, in a notebook, and
inside an event loop that already runs.  No signal handler is touched: Ctrl-C reaches the thread that waits here as
the KeyboardInterrupt that Python makes of it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, TypeAlias

from yarl import URL

from .bundle import AioDownloadBundle, Status
from .call import Call, Tray
from .download import AioDownload, attach_settled, in_order, no_strategy
from .errors import ConfigurationError, StrategyError, UsageError
from .events import Observer, checked_observers
from .feed import POLL, WAIT
from .outcomes import Outcomes
from .run import Crew
from .source import UrlMap, check_iterable
from .tries import OwnTries

__all__ = ["each", "one", "swarm"]

Showing: TypeAlias = "bool | str | Observer | None"


def one(
    url_or_bundle: str | URL | AioDownloadBundle,
    download: AioDownload | None = None,
    *,
    progress: Showing = None,
) -> AioDownloadBundle:
    """Download one URL.

    :param url_or_bundle: the URL (str or :class:`yarl.URL`) or a bundle.
    :param download: settings; ``AioDownload()`` if None.
    :param progress: see :func:`swarm`.
    :returns: the bundle, settled; a failure is ``bundle.ok == False``, never an exception.
    :raises AioDownloadError: for a caller's mistake: a wrong setting, an unusable home, a bug in a strategy.
    """
    _single(url_or_bundle)
    return swarm([url_or_bundle], download, progress=progress)[0]


def _single(given: object) -> None:
    if isinstance(given, (list, tuple, set)):
        raise ConfigurationError(f"one() takes one URL; use swarm() for a {type(given).__name__} of them")


def swarm(
    iterable: Iterable[Any],
    download: AioDownload | None = None,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Showing = None,
) -> Outcomes:
    """Download all of ``iterable``.

    :param iterable: URLs or bundles: any iterable, read in the calling thread a little ahead of the work.
    :param download: settings; ``AioDownload()`` if None.
    :param executor: download in its workers: any :class:`concurrent.futures.Executor`, such as a ProcessPoolExecutor
        or what Dask's ``client.get_executor()`` returns.  See :doc:`cluster`.
    :param workers: without an executor: download in so many processes (int >= 1), which end with the call.  With one:
        how many shards it gets at once; None: as many as it has workers.
    :param progress: True: show what is going on, on a terminal as a display that redraws itself (extra ``progress``),
        in a notebook as a bar, else as a line every ten seconds.  ``"rich"``, ``"tqdm"`` or ``"lines"`` choose one of
        these; an :class:`Observer` is told of the events of this call.
    :returns: the bundles, settled, in the order of the input: a list.
    :raises AioDownloadError: for a caller's mistake: a wrong setting, an unusable home, a bug in a strategy; and, as
        :class:`ExecutorError`, where an executor takes no work any more.

    Ctrl-C: nothing more is admitted, what is in flight gets two seconds, and the KeyboardInterrupt carries what was
    settled as ``error.settled``.  Ctrl-C again ends it at once.
    """
    settled: dict[int, AioDownloadBundle] = {}
    own, crew = _crew(_settings(download, progress), executor, workers)
    call = Call(own, _blocking(iterable, None), None, settled.__setitem__, at_once=True, crew=crew)
    watch = _outer_cancellation()
    try:
        call.start()
        call.feed.serve(watch)
        call.wait(watch)
    except KeyboardInterrupt as interrupt:
        call.interrupt()
        attach_settled(interrupt, _with_outcome(in_order(settled)))
        raise
    except BaseException as error:
        call.close()
        attach_settled(error, in_order(settled))
        raise
    return in_order(settled)


def each(
    iterable: Iterable[Any],
    url_map: UrlMap | None = None,
    download: AioDownload | None = None,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Showing = None,
) -> Iterator[AioDownloadBundle]:
    """Download all of ``iterable``; iterate over the bundles as they are settled.

    Downloads go on while the consumer works, never further ahead than a few times ``concurrent``.  Leaving early
    (``break``, ``close()``, an exception, the end of the program) cancels what is in flight and waits for it.

    :param iterable: items: any iterable, endless ones included, read in one thread.
    :param url_map: turns an item into its URL or bundle; the item becomes ``bundle.info``.
    :param download: settings; ``AioDownload()`` if None.
    :param executor: see :func:`swarm`.
    :param workers: see :func:`swarm`.
    :param progress: see :func:`swarm`.
    :raises AioDownloadError: as :func:`swarm`.
    """
    own, crew = _crew(_settings(download, progress), executor, workers)
    return Bundles(own, _blocking(iterable, url_map), url_map, crew)


def _crew(own: AioDownload, executor: Executor | None, workers: int | None) -> tuple[AioDownload, Crew]:
    """Who makes the tries, and the settings for what is done here."""
    if executor is None and workers is None:
        return own, OwnTries
    from .cluster.engine import engine_of  # for those who ask for it
    from .cluster.shards import Cluster

    crew = Cluster(engine_of(executor, workers), own)
    own.client = None  # nothing is asked from here
    return own, crew


def _settings(download: AioDownload | None, progress: Showing) -> AioDownload:
    no_strategy("download", download)
    if download is None:
        download = AioDownload()
    elif not isinstance(download, AioDownload):
        raise ConfigurationError(f"download must be an AioDownload, not {download!r}")
    own = download.unentered()
    if progress is not None and progress is not False:
        own.observers = (*own.observers, _watching(progress))
    return own


def _watching(progress: bool | str | Observer) -> Observer:
    """The observer that is meant."""
    if not isinstance(progress, (bool, str)):
        if isinstance(progress, type) or not isinstance(progress, Observer):
            raise ConfigurationError(f"progress must be True, the name of a display, or an observer, not {progress!r}")
        return checked_observers([progress])[0]
    from .observers.progress import Progress  # for those who ask for it

    return Progress(progress if isinstance(progress, str) else "auto")


def _blocking(iterable: Iterable[Any], url_map: UrlMap | None) -> Iterable[Any]:
    check_iterable(iterable, url_map)
    if isinstance(iterable, AsyncIterable):
        raise UsageError(
            "an async iterable needs the methods of AioDownload: async with AioDownload() as download: ..."
        )
    return iterable


def _with_outcome(bundles: Iterable[AioDownloadBundle]) -> list[AioDownloadBundle]:
    return [bundle for bundle in bundles if bundle.status is not Status.CANCELLED]


def _outer_cancellation() -> Callable[[], None] | None:
    """Return what notices that the coroutine which blocks here was cancelled, as ``asyncio.run`` does on Ctrl-C.

    There the first Ctrl-C raises nothing: it marks the main task, which cannot notice while it waits here.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    if task is None:
        return None
    before = task.cancelling()

    def watch() -> None:
        if task.cancelling() > before:
            raise KeyboardInterrupt

    return watch


class Bundles(Iterator[AioDownloadBundle]):
    """The bundles of one :func:`each`, as they are settled.  The work begins with the first ``next()``."""

    def __init__(
        self, download: AioDownload, iterable: Iterable[Any], url_map: UrlMap | None, crew: Crew = OwnTries
    ) -> None:
        self._tray = tray = Tray()
        self._call = Call(download, iterable, url_map, tray.put, crew=crew)
        self._call.on_end = tray.wake
        self._watch: Callable[[], None] | None = None
        self._reader: threading.Thread | None = None
        self._owner: threading.Thread | None = None
        self._taken = 0
        self._portion = download.request_strategy.concurrent
        self._done = False

    def __iter__(self) -> Bundles:
        return self

    def __next__(self) -> AioDownloadBundle:
        if self._done:
            raise StopIteration
        try:
            if self._reader is None:
                self._start()
            bundle = self._next()
        except KeyboardInterrupt as interrupt:
            self._call.interrupt()
            attach_settled(interrupt, _with_outcome(self._tray.take_all()))
            self._finish()
            raise
        if bundle is None:
            self._finish()
            if self._call.error is not None:
                error, self._call.error = self._call.error, None
                attach_settled(error, self._tray.take_all())
                raise error
            raise StopIteration
        return bundle

    def _start(self) -> None:
        self._watch = _outer_cancellation()
        context = contextvars.copy_context()
        self._owner = threading.current_thread()
        self._reader = threading.Thread(
            target=context.run, args=(_serve, self._call), name="aiodownload-reader", daemon=True
        )
        self._call.start()
        self._reader.start()

    def _next(self) -> AioDownloadBundle | None:
        """The next bundle, or None at the end."""
        while True:
            if isinstance(self._call.error, StrategyError):
                return None
            bundle = self._tray.take()
            if bundle is not None:
                self._count()
                return bundle
            if self._call.over:
                return self._tray.take()
            self._report()
            self._tray.wait(WAIT if self._watch is None else POLL)
            if self._watch is not None:
                self._watch()

    def _count(self) -> None:
        """One more was taken; the run is told in portions, since telling wakes its loop."""
        self._taken += 1
        if self._taken >= self._portion:
            self._report()

    def _report(self) -> None:
        if self._taken:
            taken, self._taken = self._taken, 0
            self._call.consumed(taken)

    def _finish(self) -> None:
        self._done = True
        self._call.close()
        if self._reader is not None and (self._reader.ident is not None or self._call.feed.served.wait(0.2)):
            # A reader that is stuck in the caller's iterable cannot be waited for.
            self._reader.join(0.2)

    def close(self) -> None:
        """Cancel what is in flight and wait until nothing is left."""
        if not self._done:
            self._finish()
            self._tray.take_all()

    def __enter__(self) -> Bundles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_done", True):
            return
        if self._owner is threading.current_thread():
            self.close()
        else:
            # The garbage collector runs in any thread, also in one that close() would wait for.
            self._call.stop()


def _serve(call: Call) -> None:
    """Read the input, in a thread of its own; what ends that ends the call."""
    try:
        call.feed.serve()
    except BaseException as error:
        call.fail(error)
