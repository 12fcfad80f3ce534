"""one(), each() and swarm(): the blocking facade, and the only place that starts an event loop or a thread.

The loop runs in a thread of its own, so that a call works the same in a script, in a thread, in a notebook, and
inside an event loop that already runs.  No signal handler is touched: Ctrl-C reaches the thread that waits here as
the KeyboardInterrupt that Python makes of it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from yarl import URL

from .bundle import AioDownloadBundle, Status
from .download import AioDownload, attach_settled, in_order
from .errors import ConfigurationError, StrategyError, UsageError
from .feed import POLL, WAIT, Feed
from .run import Run
from .source import UrlMap, check_iterable

__all__ = ["each", "one", "swarm"]

GRACE = 2.0  # seconds that in-flight work gets after the first Ctrl-C


def one(url_or_bundle: str | URL | AioDownloadBundle, download: AioDownload | None = None) -> AioDownloadBundle:
    """Download one URL.

    :param url_or_bundle: the URL (str or :class:`yarl.URL`) or a bundle.
    :param download: settings; ``AioDownload()`` if None.
    :returns: the bundle, settled; a failure is ``bundle.ok == False``, never an exception.
    :raises AioDownloadError: for a caller's mistake: a wrong setting, an unusable home, a bug in a strategy.
    """
    return swarm([url_or_bundle], download)[0]


def swarm(iterable: Iterable[Any], download: AioDownload | None = None) -> list[AioDownloadBundle]:
    """Download all of ``iterable``.

    :param iterable: URLs or bundles: any iterable, read in the calling thread a little ahead of the work.
    :param download: settings; ``AioDownload()`` if None.
    :returns: the bundles, settled, in the order of the input.
    :raises AioDownloadError: for a caller's mistake: a wrong setting, an unusable home, a bug in a strategy.

    Ctrl-C: nothing more is admitted, what is in flight gets two seconds, and the KeyboardInterrupt carries what was
    settled as ``error.settled``.  Ctrl-C again ends it at once.
    """
    settled: dict[int, AioDownloadBundle] = {}
    call = _Call(_settings(download), _blocking(iterable, None), None, settled.__setitem__, at_once=True)
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
    iterable: Iterable[Any], url_map: UrlMap | None = None, download: AioDownload | None = None
) -> Iterator[AioDownloadBundle]:
    """Download all of ``iterable``; iterate over the bundles as they are settled.

    Downloads go on while the consumer works, never further ahead than a few times ``concurrent``.  Leaving early
    (``break``, ``close()``, an exception, the end of the program) cancels what is in flight and waits for it.

    :param iterable: items: any iterable, endless ones included, read in one thread.
    :param url_map: turns an item into its URL or bundle; the item becomes ``bundle.info``.
    :param download: settings; ``AioDownload()`` if None.
    :raises AioDownloadError: for a caller's mistake: a wrong setting, an unusable home, a bug in a strategy.
    """
    return Bundles(_settings(download), _blocking(iterable, url_map), url_map)


def _settings(download: AioDownload | None) -> AioDownload:
    if download is None:
        return AioDownload()
    if not isinstance(download, AioDownload):
        raise ConfigurationError(f"download must be an AioDownload, not {download!r}")
    return download.unentered()


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


class _Call:
    """One call of the facade: a thread with an event loop, in which one run does the work.

    :param download: the settings, not entered.
    :param iterable: the input.
    :param url_map: see :func:`each`.
    :param deliver: takes the place in the input and the bundle, on the event loop.
    :param at_once: whether a bundle counts as consumed as soon as it is delivered.
    """

    def __init__(
        self,
        download: AioDownload,
        iterable: Iterable[Any],
        url_map: UrlMap | None,
        deliver: Callable[[int, AioDownloadBundle], object],
        *,
        at_once: bool = False,
    ) -> None:
        self.feed = Feed(iterable, url_map)
        self._download = download
        self._deliver = deliver
        self._at_once = at_once
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run: Run | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.error: BaseException | None = None
        self.on_end: Callable[[], None] = lambda: None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._in_thread,), name="aiodownload", daemon=True)

    def start(self) -> None:
        """Begin the work."""
        _calls.add(self)
        self._thread.start()

    def wait(self, watch: Callable[[], None] | None = None) -> None:
        """Wait for the end and raise what ended the run."""
        while not self._over.wait(WAIT if watch is None else POLL):
            if watch is not None:
                watch()
        self._thread.join()
        if self.error is not None:
            raise self.error

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._over.is_set()

    def consumed(self, count: int) -> None:
        """Tell the run that ``count`` more bundles were taken."""
        run = self._run
        if run is not None:
            self._on_loop(run.consumed, count)

    def interrupt(self) -> None:
        """The first Ctrl-C has come: let what is in flight finish for a while; a second one ends it at once."""
        try:
            self.feed.close()
            self._on_loop(self._drain)
            while not self._over.wait(WAIT):
                pass
            self._join()
        except KeyboardInterrupt:
            self.close()

    def close(self) -> None:
        """Cancel what is in flight and wait until nothing is left; at once where it may not wait."""
        self.feed.close()
        with self._lock:
            self._stopped = True
        self._on_loop(self._cancel)
        self._join()

    def _join(self) -> None:
        if threading.current_thread() is not self._thread and self._thread.ident is not None:
            self._thread.join()

    def _on_loop(self, function: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to tell
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)

    # In the thread.

    def _in_thread(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._work())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.feed.close()
            self._over.set()
            _calls.discard(self)
            self.on_end()

    async def _work(self) -> None:
        self._main = asyncio.current_task()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._stopped:
                return
        async with self._download as download:
            self._run = run = download.run(self.feed, self._take)
            try:
                await run.wait()
            finally:
                await run.close()

    def _take(self, index: int, bundle: AioDownloadBundle) -> None:
        self._deliver(index, bundle)
        if self._at_once and self._run is not None:
            self._run.consumed(1)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _drain(self) -> None:
        if self._run is None:
            self._cancel()
        else:
            self._draining = asyncio.ensure_future(self._run.drain(GRACE))


class Bundles(Iterator[AioDownloadBundle]):
    """The bundles of one :func:`each`, as they are settled.  The work begins with the first ``next()``."""

    def __init__(self, download: AioDownload, iterable: Iterable[Any], url_map: UrlMap | None) -> None:
        self._tray = tray = _Tray()
        self._call = _Call(download, iterable, url_map, tray.put)
        self._call.on_end = tray.wake
        self._watch: Callable[[], None] | None = None
        self._reader: threading.Thread | None = None
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
        feed = self._call.feed
        self._reader = threading.Thread(target=context.run, args=(feed.serve,), name="aiodownload-reader", daemon=True)
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
        if self._reader is not None:
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
        if getattr(self, "_done", True) is False:
            self.close()


class _Tray:
    """Settled bundles between the event loop's thread and the consumer's."""

    def __init__(self) -> None:
        self._bundles: deque[AioDownloadBundle] = deque()
        self._news = threading.Condition()
        self._woken = False

    def put(self, index: int, bundle: AioDownloadBundle) -> None:
        with self._news:
            self._bundles.append(bundle)
            self._news.notify()

    def wake(self) -> None:
        with self._news:
            self._woken = True
            self._news.notify_all()

    def take(self) -> AioDownloadBundle | None:
        with self._news:
            return self._bundles.popleft() if self._bundles else None

    def take_all(self) -> list[AioDownloadBundle]:
        with self._news:
            taken = list(self._bundles)
            self._bundles.clear()
            return taken

    def wait(self, timeout: float | None) -> None:
        """Wait for a bundle or for :meth:`wake`."""
        with self._news:
            if not self._bundles and not self._woken:
                self._news.wait(timeout)


_calls: weakref.WeakSet[_Call] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """At the exit of the interpreter: end calls that were left half iterated."""
    for call in list(_calls):
        call.close()
