"""AioDownload: what a user composes, and the calls that may be awaited on it."""

from __future__ import annotations

import asyncio
import copy
import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from yarl import URL

from .bundle import AioDownloadBundle
from .errors import ConfigurationError, JournalError, StrategyError, UsageError
from .events import Observer, checked_observers
from .live import Live
from .outcomes import Outcomes
from .request.strategy import Lenient, RequestStrategy
from .run import Crew, Deliver, Run
from .source import Source, UrlMap, source_of
from .storage.strategy import DownloadStrategy
from .transport import Client, checked_client
from .tries import OwnTries

if TYPE_CHECKING:
    from .journal import Journal

__all__ = ["AioDownload", "Results", "attach_settled", "in_order", "no_strategy"]

Self = TypeVar("Self", bound="AioDownload")


class AioDownload:
    """Downloads, with a client, a :class:`DownloadStrategy` and a :class:`RequestStrategy`.

    Making one opens nothing and needs no event loop.  Enter it with ``async with`` to use it in a coroutine, or
    hand it to :func:`one`, :func:`each` or :func:`swarm`.  It can be used for many runs, one after another, and pickles
    if its strategies and its client do.

    :param client: an :class:`aiohttp.ClientSession`, which is used and never closed, or a callable without
        arguments that makes one, which is called on entering and whose session is closed on leaving.  None for a
        session of our own.
    :param download_strategy: what to keep (default: :class:`DownloadStrategy`).
    :param request_strategy: how to ask (default: :class:`Lenient`).
    :param journal: where to account for every URL, so that the same program, run again, does only what is missing: the
        path of a file, a :class:`Journal`, or an object with its methods.
    :param observers: told of every :data:`Event`.
    :raises ConfigurationError: for what is none of these.
    """

    def __init__(
        self,
        client: Client | None = None,
        download_strategy: DownloadStrategy | None = None,
        request_strategy: RequestStrategy | None = None,
        *,
        journal: str | os.PathLike[str] | Journal | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        no_strategy("client", client)
        checked_client(client)
        self.client = client
        self.download_strategy = _instance(download_strategy, DownloadStrategy, DownloadStrategy, "download_strategy")
        self.request_strategy = _instance(request_strategy, RequestStrategy, Lenient, "request_strategy")
        self.journal = _journal(journal)
        self.observers = checked_observers(observers)
        self._live: Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.client, aiohttp.ClientSession):
            raise UsageError(
                "an AioDownload with a live ClientSession cannot go to another process; "
                "give a callable that makes one, such as client=aiohttp.ClientSession"
            )
        return {**self.__dict__, "_live": None}

    def __copy__(self: Self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, _live=None)
        return other

    def __repr__(self) -> str:
        state = "entered" if self._live is not None else "not entered"
        strategies = f"{type(self.download_strategy).__name__}, {type(self.request_strategy).__name__}"
        return f"<AioDownload {strategies}, {state}>"

    async def __aenter__(self: Self) -> Self:
        if self._live is not None:
            raise UsageError("this AioDownload is entered already; calls on it may run side by side")
        self._live = live = Live(self)
        try:
            await live.open()
        except BaseException:
            self._live = None
            await live.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            await live.close()

    def unentered(self: Self) -> Self:
        """Return a copy with the same settings that can be entered on its own.

        :raises UsageError: with a live session, which belongs to one event loop.
        """
        if self._live is not None:
            raise UsageError("this AioDownload is entered in an event loop; await its own methods there")
        if isinstance(self.client, aiohttp.ClientSession):
            raise UsageError(
                "one(), each() and swarm() run an event loop of their own, and a live ClientSession belongs to "
                "another; give a callable that makes one, such as AioDownload(client=aiohttp.ClientSession), "
                "or await the methods of the entered AioDownload"
            )
        return copy.copy(self)

    async def one(self, url_or_bundle: str | URL | AioDownloadBundle) -> AioDownloadBundle:
        """Download one URL and return its bundle, settled; a failure is ``bundle.ok == False``."""
        return (await self.swarm([url_or_bundle]))[0]

    async def main(self, bundle: AioDownloadBundle) -> AioDownloadBundle:
        """Download one bundle: the entry point of aiodownload 0.2.5, the same as :meth:`one`."""
        return await self.one(bundle)

    async def swarm(self, iterable: Iterable[Any] | AsyncIterable[Any]) -> Outcomes:
        """Download all of ``iterable`` and return the bundles in its order.

        :param iterable: URLs or bundles, also as an async iterable.  A plain one is read on the event loop and must not
            block.
        :raises StrategyError: for a bug in a strategy.
        :raises HomeError: if the folder for the files cannot be used.

        Not entered, it is for this call.
        """
        source = source_of(iterable, None)
        if self._live is None:
            async with copy.copy(self) as entered:
                return await entered._swarm(source)
        return await self._swarm(source)

    async def _swarm(self, source: Source) -> Outcomes:
        settled: dict[int, AioDownloadBundle] = {}
        run = self.run(source, settled.__setitem__, at_once=True)
        try:
            await run.wait()
        except Exception as error:
            attach_settled(error, in_order(settled))
            raise
        finally:
            await run.close()
        return in_order(settled)

    def each(self, iterable: Iterable[Any] | AsyncIterable[Any], url_map: UrlMap | None = None) -> Results:
        """Download all of ``iterable``; iterate over the bundles as they are settled, with ``async for``.

        :param iterable: items, also as an async iterable.  A plain one is read on the event loop and must not block.
        :param url_map: turns an item into its URL or bundle; the item becomes ``bundle.info``.

        Needs an entered AioDownload: leaving it cancels what an iterator that was left early has not finished.
        """
        return Results(self._entered(), source_of(iterable, url_map))

    async def request_and_download(self, bundle: AioDownloadBundle) -> AioDownloadBundle:
        """Make one try of ``bundle``, at once and without the schedule, and return it.

        Afterwards its status is DONE, ATTEMPTED if the strategy would try again, or FAILED.
        """
        if self._live is None:
            async with copy.copy(self) as entered:
                return await entered.request_and_download(bundle)
        await self._live.try_once(bundle)
        return bundle

    def run(self, source: Source, deliver: Deliver, *, at_once: bool = False, crew: Crew = OwnTries) -> Run:
        """Begin a run on this entered AioDownload: what the facade is built on."""
        return self._entered().start(source, deliver, at_once=at_once, crew=crew)

    def _entered(self) -> Live:
        if self._live is None:
            raise UsageError("enter the AioDownload first: async with AioDownload(...) as download: ...")
        return self._live


class Results(AsyncIterator[AioDownloadBundle]):
    """The bundles of one ``each``, as they are settled.

    Iterate with ``async for``; :meth:`aclose` ends it early and waits until nothing of it is left.
    """

    def __init__(self, live: Live, source: Source) -> None:
        self._bundles: deque[AioDownloadBundle] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self._run = live.start(source, _Mailbox(self._bundles, self._news))
        self._run.task.add_done_callback(_Waker(self._news))
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Results:
        return self

    async def __anext__(self) -> AioDownloadBundle:
        run = self._run
        while True:
            if self._closed:
                raise StopAsyncIteration
            if run.task.done() and (run.task.cancelled() or run.task.exception() is not None or not self._bundles):
                await self._end()
            if self._bundles:
                run.consumed(1)
                return self._bundles.popleft()
            self._news.clear()
            await self._news.wait()

    async def _end(self) -> None:
        try:
            await self._run.wait()
        except Exception as error:
            attach_settled(error, list(self._bundles))
            self._bundles.clear()
            raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel what is in flight and wait until it has ended."""
        self._closed = True
        self._bundles.clear()
        self._news.set()
        await self._run.close()

    def __del__(self) -> None:
        # Left without aclose(): read no further and cancel; leaving the AioDownload waits for the rest.
        run = getattr(self, "_run", None)
        if run is not None and not run.task.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(run.task.cancel)


class _Mailbox:
    """Takes bundles from the run without keeping the iterator alive."""

    def __init__(self, bundles: deque[AioDownloadBundle], news: asyncio.Event) -> None:
        self._bundles = bundles
        self._news = news

    def __call__(self, index: int, bundle: AioDownloadBundle) -> None:
        self._bundles.append(bundle)
        self._news.set()


class _Waker:
    """Lets the reader look at a run that has ended."""

    def __init__(self, news: asyncio.Event) -> None:
        self._news = news

    def __call__(self, task: asyncio.Task[None]) -> None:
        self._news.set()


def in_order(settled: dict[int, AioDownloadBundle]) -> Outcomes:
    """The bundles in the order of the input."""
    return Outcomes(settled[index] for index in sorted(settled))


def attach_settled(error: BaseException, settled: list[AioDownloadBundle]) -> None:
    """Set ``error.settled``, where the error takes it."""
    if isinstance(error, (StrategyError, JournalError)) or hasattr(error, "__dict__"):
        error.settled = settled  # type: ignore[attr-defined]


def _journal(value: object) -> Journal | None:
    if value is None:
        return None
    if isinstance(value, (str, os.PathLike)):
        from .journal import Journal  # with SQLite, which takes its time

        return Journal(value)
    methods = ("open", "close", "enlist", "publishing", "settle")
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        raise ConfigurationError(f"journal must be the path of a file or a Journal, not {value!r}")
    return value  # type: ignore[return-value]


def no_strategy(name: str, value: object) -> None:
    """:raises ConfigurationError: if a strategy was given for something else."""
    for kind, argument in ((DownloadStrategy, "download_strategy"), (RequestStrategy, "request_strategy")):
        if isinstance(value, kind) or (isinstance(value, type) and issubclass(value, kind)):
            raise ConfigurationError(f"{name}: this is a {kind.__name__}; give AioDownload({argument}=...)")


S = TypeVar("S")


def _instance(value: S | None, kind: type[S], default: type[S], name: str) -> S:
    if value is None:
        return default()
    if not isinstance(value, kind):
        hint = f"; did you mean {value.__name__}()?" if isinstance(value, type) else ""
        raise ConfigurationError(f"{name} must be a {kind.__name__}, not {value!r}{hint}")
    return value
