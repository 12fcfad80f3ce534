"""Call: one call of the facade, which is a run on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from .bundle import AioDownloadBundle
from .download import AioDownload
from .errors import UsageError
from .feed import POLL, WAIT, feed_of
from .run import Crew, Deliver, Run
from .source import UrlMap
from .tries import OwnTries

__all__ = ["Call", "Tray"]

BEGIN = 0.5  # seconds in which a thread whose start was interrupted begins, if it was started at all
# Seconds in which settled bundles are gathered before the consumer is woken: to change threads costs more than to hand
# one over.
GATHER = 0.0005
GRACE = 2.0  # seconds that in-flight work gets after the first Ctrl-C


class Call:
    """One call of the facade: a thread with an event loop, in which one run does the work.

    :param download: the settings, not entered.
    :param iterable: the input.
    :param url_map: see :func:`each`.
    :param deliver: takes the place in the input and the bundle, on the event loop.
    :param at_once: whether a bundle counts as consumed as soon as it is delivered.
    :param crew: who makes the tries.
    """

    def __init__(
        self,
        download: AioDownload,
        iterable: Iterable[Any],
        url_map: UrlMap | None,
        deliver: Deliver,
        *,
        at_once: bool = False,
        crew: Crew = OwnTries,
    ) -> None:
        self.feed = feed_of(iterable, url_map)
        self._download = download
        self._deliver = deliver
        self._at_once = at_once
        self._crew = crew
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run: Run | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopped = False
        self._lock = threading.RLock()  # the garbage collector may call stop() anywhere
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
            with self._lock:
                running = self._loop is not None
                self._stopped = not running
            if running:
                self._on_loop(self._drain)
            if self._thread.ident is not None or self._over.wait(BEGIN):
                while not self._over.wait(WAIT):
                    pass
            self._join()
        except KeyboardInterrupt:
            self.close()

    def close(self) -> None:
        """Cancel what is in flight and wait until nothing is left."""
        self.stop()
        self._join()

    def stop(self) -> None:
        """Cancel what is in flight, without waiting for it; from any thread."""
        self.feed.close()
        with self._lock:
            self._stopped = True
        self._on_loop(self._cancel)

    def fail(self, error: BaseException) -> None:
        """End the call with ``error``, which came from the caller's side of it."""
        if self.error is None:
            self.error = error
        self.stop()

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
        except asyncio.CancelledError as error:
            if not self._stopped and self.error is None:
                self.error = UsageError("something cancelled this call from within")
                self.error.__cause__ = error
        except BaseException as error:
            if self.error is None:
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
            self._run = run = download.run(self.feed, self._deliver, at_once=self._at_once, crew=self._crew)
            try:
                await run.wait()
            finally:
                await run.close()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _drain(self) -> None:
        if self._run is None:
            self._stopped = True
            self._cancel()
        else:
            self._draining = asyncio.ensure_future(self._run.drain(GRACE))


class Tray:
    """Settled bundles between the event loop's thread and the consumer's."""

    def __init__(self) -> None:
        self._bundles: deque[AioDownloadBundle] = deque()
        self._news = threading.Condition()
        self._waiting = False  # whether the consumer does, or is about to
        self._ringing = False
        self._woken = False

    def put(self, index: int, bundle: AioDownloadBundle) -> None:
        """Take a bundle from the run; on the event loop."""
        self._bundles.append(bundle)
        if self._waiting and not self._ringing:
            self._ringing = True
            asyncio.get_running_loop().call_later(GATHER, self._ring)

    def _ring(self) -> None:
        self._ringing = False
        with self._news:
            self._news.notify()

    def wake(self) -> None:
        """Let the consumer look at the call again: it has ended."""
        with self._news:
            self._woken = True
            self._news.notify_all()

    def take(self) -> AioDownloadBundle | None:
        """The next bundle, or None."""
        return self._bundles.popleft() if self._bundles else None

    def take_all(self) -> list[AioDownloadBundle]:
        """All that are left."""
        taken: list[AioDownloadBundle] = []
        while self._bundles:
            taken.append(self._bundles.popleft())
        return taken

    def wait(self, timeout: float | None) -> None:
        """Wait for a bundle or for :meth:`wake`."""
        with self._news:
            self._waiting = True  # and only then looks: what is put in after the look rings
            if not self._bundles and not self._woken:
                self._news.wait(timeout)
            self._waiting = False


_calls: weakref.WeakSet[Call] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """At the exit of the interpreter: end calls that were left half iterated."""
    for call in list(_calls):
        call.close()
