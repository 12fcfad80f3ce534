"""Feed: an input that is read in one thread and consumed on an event loop in another."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .bundle import AioDownloadBundle
from .source import Iterated, Source, UrlMap, length, to_bundle

__all__ = ["Feed", "Served", "feed_of"]

POLL = 0.1  # seconds between two looks of a thread that must also watch something else
# Ctrl-C does not end a wait that begins just as it comes (on Windows it ends none): so no wait is without an end.
WAIT = POLL if sys.platform == "win32" else 0.5
PATIENCE = 0.001  # seconds that a quick input gets to fill a portion, before single bundles are taken


class Served(Source, Protocol):
    """A source whose :meth:`serve` has to be called, in whichever thread the caller's iterable is to be read in."""

    served: threading.Event
    """Set once :meth:`serve` has come to its end."""

    def serve(self, watch: Callable[[], None] | None = None) -> None:
        """Read the iterable, as far as there is room, until its end or :meth:`close`."""


def feed_of(iterable: Iterable[Any], url_map: UrlMap | None) -> Served:
    """Return what reads ``iterable`` for a call: a list or tuple runs no code of the caller's, and needs no thread."""
    if url_map is None and type(iterable) in (list, tuple):
        return _AtHand(iterable, None)
    return Feed(iterable, url_map)


class _AtHand(Iterated):
    """An input that is all there: the run reads it by itself."""

    def __init__(self, iterable: Iterable[Any], url_map: UrlMap | None) -> None:
        super().__init__(iterable, url_map)
        self.served = threading.Event()

    def serve(self, watch: Callable[[], None] | None = None) -> None:
        self.served.set()


class Feed:
    """A :class:`~aiodownload.source.Source` whose :meth:`serve` does the reading, in whichever thread calls it.

    The reader takes an item only when the run has room for it, so that an endless input is read just ahead of
    the work.

    :param iterable: the caller's input; only the thread of :meth:`serve` touches it.
    :param url_map: turns an item into its URL or bundle, in that thread too.
    """

    def __init__(self, iterable: Iterable[Any], url_map: UrlMap | None) -> None:
        self.total = length(iterable)
        self._iterable = iterable
        self._url_map = url_map
        self._turn = threading.Condition()
        self._credit = 0
        self._urgent = False
        self._bundles: deque[AioDownloadBundle] = deque()
        self._ended = False
        self._closed = False
        self.served = threading.Event()  # serve() has come to its end
        self._error: Exception | None = None
        self._loop: asyncio.AbstractEventLoop
        self._news: asyncio.Event
        self._on_loop = False

    async def read(self, most: int) -> list[AioDownloadBundle]:
        """Wait for the next bundles; see :class:`~aiodownload.source.Source`."""
        if not self._on_loop:
            self._loop, self._news, self._on_loop = asyncio.get_running_loop(), asyncio.Event(), True
        bundles, ended = self._take(most, False)
        if not bundles and not ended:
            timer = self._loop.call_later(PATIENCE, self._news.set)
            await self._news.wait()
            timer.cancel()
            while True:
                bundles, ended = self._take(most, True)
                if bundles or ended:
                    break
                await self._news.wait()
        if not bundles and self._error is not None:
            raise self._error
        return bundles

    def _take(self, most: int, urgent: bool) -> tuple[list[AioDownloadBundle], bool]:
        """Return what there is, and whether nothing more will come.

        If there is nothing, let the reader read ``most`` and say when: at the first if ``urgent``, else when done.
        """
        with self._turn:
            bundles = [self._bundles.popleft() for _ in range(min(most, len(self._bundles)))]
            ended = self._ended or self._closed
            if not bundles and not ended:
                self._news.clear()
                self._urgent = urgent
                self._credit = most
                self._turn.notify_all()
            return bundles, ended

    def close(self) -> None:
        """Read no further; :meth:`serve` returns as soon as the caller's iterable lets it."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
            self._notify()

    def serve(self, watch: Callable[[], None] | None = None) -> None:
        """Read the iterable, as far as there is room, until its end or :meth:`close`.

        :param watch: called every tenth of a second while there is nothing to do; it may raise.
        """
        try:
            iterator = iter(self._iterable)
            while self._may_read(watch):
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                self._add(to_bundle(item, self._url_map))
        except StopIteration as error:  # a coroutine, which has to raise it, cannot
            self._error = RuntimeError("url_map raised StopIteration")
            self._error.__cause__ = error
        except Exception as error:
            self._error = error
        finally:
            with self._turn:
                self._ended = True
                self._notify()
            self.served.set()

    def _may_read(self, watch: Callable[[], None] | None) -> bool:
        with self._turn:
            while self._credit <= 0 and not self._closed:
                self._turn.wait(WAIT if watch is None else POLL)
                if watch is not None:
                    watch()
            return not self._closed

    def _add(self, bundle: AioDownloadBundle) -> None:
        with self._turn:
            self._bundles.append(bundle)
            self._credit -= 1
            if self._urgent or self._credit <= 0:
                self._urgent = False
                self._notify()

    def _notify(self) -> None:
        if self._on_loop:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._news.set)
