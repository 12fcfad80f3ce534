"""What is tried for one bundle: at which of its URLs, how often, and what follows from it."""

from __future__ import annotations

import asyncio
import math
import random
from typing import NamedTuple, TypeAlias

from .bundle import AioDownloadBundle, parsed
from .errors import AioDownloadError, DiskError, DownloadError, InvalidURLError, PathError, ProtocolError
from .exchange import Confirmed, Exchanges, Failure, Result, bug
from .permit import Permit
from .request.strategy import RequestStrategy
from .storage.publishing import Publishing
from .storage.strategy import DownloadStrategy

__all__ = ["Again", "Attempts", "Done", "Failed", "Source", "Verdict", "sleep_time", "tell_failure"]


class Done:
    """``on_success`` returned."""


class Again(NamedTuple):
    """Try again, no earlier than ``delay`` seconds from now."""

    error: AioDownloadError
    delay: float


class Failed(NamedTuple):
    """It is over."""

    error: AioDownloadError


Verdict: TypeAlias = Done | Confirmed | Publishing | Again | Failed


class Source:
    """One of the URLs of a bundle that has mirrors.

    :param url: as given.
    :param left: whether it is still tried.
    :param due: not before this time of the event loop.
    :param mismatched: whether it has served a body that does not have the right checksum.
    """

    __slots__ = ("due", "left", "mismatched", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.left = True
        self.due = 0.0
        self.mismatched = False


class Attempts:
    """Makes tries of bundles, and says what is to be done after them.

    :param request: how often, and how long to wait in between.
    :param exchanges: makes each of them.
    """

    def __init__(self, request: RequestStrategy, exchanges: Exchanges) -> None:
        self._request = request
        self._exchanges = exchanges

    async def one(self, bundle: AioDownloadBundle, permit: Permit) -> Verdict:
        """Try ``bundle`` once, or once at each of its mirrors until one serves it.

        :param permit: the slot that was given for it.
        :raises StrategyError: for a bug in a strategy.
        :raises HomeError: if the folder for the files cannot be used.
        """
        if bundle.mirrors:
            return await self._round(bundle, permit)
        failure = await self._exchanges.one(bundle, permit, bundle._parse())
        if not isinstance(failure, Failure):
            return failure or Done()
        if not failure.retry or bundle.attempts >= max(1, self._request.max_attempts):
            if failure.silent:
                permit.gave_up(failure.error)
            return Failed(failure.error)
        wait = sleep_time(self._request, bundle)
        if failure.later:
            permit.later(wait)
        return Again(failure.error, max(wait, failure.at_least))

    async def _round(self, bundle: AioDownloadBundle, permit: Permit) -> Verdict:
        """Try each source that is left, the bundle's own URL first."""
        if bundle._sources is None:
            bundle._sources = [Source(url) for url in (bundle.url, *bundle.mirrors)]
        bundle._rounds += 1
        now = asyncio.get_running_loop().time()
        left = [source for source in bundle._sources if source.left]
        failure = Failure(ProtocolError("no source is left", False))
        for source in left:
            source.due = max(source.due, now + _opens_in(source, permit))
        for source in [source for source in left if source.due <= now] or sorted(left, key=_due):
            bundle._mismatched = source.mismatched
            failed = await self._at(bundle, permit, source.url)
            if not isinstance(failed, Failure):
                return failed or Done()
            failure = failed
            source.mismatched = bundle._mismatched
            source.left = failure.retry
            source.due = asyncio.get_running_loop().time() + failure.at_least
            if isinstance(failure.error, (DiskError, PathError)):  # no other server has another disk for it
                return Failed(failure.error)
        left = [source for source in left if source.left]
        if not left or bundle._rounds >= max(1, self._request.max_attempts):
            return Failed(failure.error)
        soonest = min(source.due for source in left) - asyncio.get_running_loop().time()
        return Again(failure.error, max(sleep_time(self._request, bundle), soonest))

    async def _at(self, bundle: AioDownloadBundle, permit: Permit, text: str) -> Result:
        try:
            url = bundle._parse() if text == bundle.url else parsed(text)
        except InvalidURLError as error:
            bundle.error = error
            return Failure(error)
        try:
            await permit.pace(url)
        except DownloadError as error:  # that host is not asked for now, but perhaps the next
            bundle.error = error
            return Failure(error, bool(getattr(error, "transient", False)))
        failure = await self._exchanges.one(bundle, permit, url)
        if isinstance(failure, Failure):
            if failure.later:
                permit.later(sleep_time(self._request, bundle))
            if failure.silent:  # for now this bundle does without it
                permit.gave_up(failure.error)
        return failure


def _due(source: Source) -> float:
    return source.due


def _opens_in(source: Source, permit: Permit) -> float:
    """Seconds for which the host of a source is not to be asked: another one is, meanwhile."""
    try:
        return permit.opens_in(parsed(source.url))
    except InvalidURLError:
        return 0.0


def sleep_time(strategy: RequestStrategy, bundle: AioDownloadBundle) -> float:
    """Ask the strategy; return seconds >= 0.

    :raises StrategyError: if the answer is no finite number.
    """
    if strategy.delay is not None and not bundle.attempts:
        return strategy.delay
    try:
        seconds = float(strategy.get_sleep_time(bundle))
        if not math.isfinite(seconds):
            raise ValueError(f"{seconds} is no number of seconds")
    except Exception as error:
        raise bug(bundle, "get_sleep_time", error) from error
    if strategy.jitter and bundle.attempts:
        seconds *= random.random()  # noqa: S311 (nobody is kept out by it)
    return max(0.0, seconds)


async def tell_failure(strategy: DownloadStrategy, bundle: AioDownloadBundle) -> None:
    """Call ``on_fail``.

    :raises StrategyError: for a bug in it.
    """
    try:
        await strategy.on_fail(bundle)
    except Exception as error:
        raise bug(bundle, "on_fail", error) from error
