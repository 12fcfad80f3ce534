"""Permit: the slot that a try holds, and what the schedule is told of the host that it asks."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import aiohttp
from multidict import istr

from .errors import AioDownloadError, HostDownError
from .request.hosts import Entry, host_of
from .request.quota import FIELDS, quota
from .request.retry_after import LATER, retry_after

if TYPE_CHECKING:
    from yarl import URL

    from .dispatcher import Dispatcher, Startable

__all__ = ["Permit", "Turn"]

_RETRY_AFTER = istr("Retry-After")
_LIMIT, _REMAINING, _X_REMAINING, _X_RATE_REMAINING = (istr(name) for name in FIELDS)


class Permit:
    """What a try needs leave for, and tells.  This one is for tries outside of the schedule: nobody waits or asks."""

    __slots__ = ()

    async def pace(self, url: URL) -> None:
        """Wait until one more request may start, which asks for ``url``; the slot counts for its host from then on.

        :raises AioDownloadError: if that host is not asked for now.
        """

    def opens_in(self, url: URL) -> float:
        """Seconds for which the host of ``url`` is not to be asked."""
        return 0.0

    def attempted(self) -> None:
        """A try begins."""

    def answered(self, response: aiohttp.ClientResponse) -> None:
        """The host has answered."""

    def unanswered(self, error: AioDownloadError) -> None:
        """The host has not answered."""

    def later(self, wait: float) -> None:
        """The answer says "later", and this bundle waits so many seconds; others of the host may have to, too."""

    def closed(self, seconds: float, error: AioDownloadError) -> None:
        """The host is not to be asked for so long that nobody waits for it."""

    def slow_down(self, url: URL, delay: float) -> None:
        """The host of ``url`` wants so many seconds between requests."""

    def gave_up(self, error: AioDownloadError) -> None:
        """The bundle does without this host, which has not answered."""

    def free(self) -> None:
        """The server has nothing more to do for this try; the slot may go to another.  May be called again."""

    def another(self) -> Permit:
        """One for a further request beside this one, which has its own slot, and none as yet."""
        return Permit()


class Tried(Protocol):
    """What is told of its tries."""

    def attempted(self) -> None:
        """One begins."""


class Turn(Permit):
    """The permit of an entry in the schedule.

    :param dispatcher: has the schedule and its clock.
    :param entry: the place in it.
    :param tried: told when a try begins.
    :param release: called with the entry to give its slot back.
    """

    __slots__ = ("_dispatcher", "_release", "_tried", "entry")

    def __init__(
        self,
        dispatcher: Dispatcher,
        entry: Entry[Startable],
        tried: Tried,
        release: Callable[[Entry[Startable]], None],
    ) -> None:
        self._dispatcher = dispatcher
        self.entry = entry
        self._tried = tried
        self._release = release

    async def pace(self, url: URL) -> None:
        """Meanwhile it holds no slot."""
        await self._dispatcher.pace(self.entry, host_of(url))

    def opens_in(self, url: URL) -> float:
        """By its own wish, or because it does not answer."""
        return self._dispatcher.schedule.opens_in(host_of(url), self._dispatcher.now())

    def attempted(self) -> None:
        """Tell whoever watches."""
        self._tried.attempted()

    def answered(self, response: aiohttp.ClientResponse) -> None:
        """Its answer may say something about later ones."""
        dispatcher, headers = self._dispatcher, response.headers
        now, schedule, most = dispatcher.now(), dispatcher.schedule, dispatcher.longest_wait
        told = 0.0
        if _RETRY_AFTER in headers:
            told = retry_after(headers.getall(_RETRY_AFTER), time.time())
        if told > most:
            told = 0.0  # whether the host is closed for it, its status says
        schedule.answered(self.entry, now, later=response.status in LATER, told=told > 0)
        if told:
            schedule.leave_alone(self.entry, now, told=told, wait=0.0)
            dispatcher.tell_pause(self.entry.origin, f"status {response.status}, Retry-After: {told:.0f} s")
        if _LIMIT in headers or _REMAINING in headers or _X_REMAINING in headers or _X_RATE_REMAINING in headers:
            allowed = quota(headers, headers.getall, time.time())
            if allowed is not None:
                schedule.allow(self.entry, now, allowed[0], min(allowed[1], most))
                if not allowed[0]:
                    reason = "by its RateLimit fields the quota is used up"
                    dispatcher.tell_pause(self.entry.origin, reason, min(allowed[1], most))
        if schedule.startable:
            dispatcher.pump()

    def unanswered(self, error: AioDownloadError) -> None:
        """Unless it is this machine that could not ask."""
        if not _is_ours(error):
            schedule, now = self._dispatcher.schedule, self._dispatcher.now()
            schedule.unanswered(self.entry, now, partial(_down, error), connected=_was_connected(error))
            self._dispatcher.tell_pause(self.entry.origin, error)
            self._dispatcher.pump()

    def later(self, wait: float) -> None:
        """The pause of the others grows up to that."""
        self._dispatcher.schedule.leave_alone(self.entry, self._dispatcher.now(), told=0.0, wait=wait)
        self._dispatcher.tell_pause(self.entry.origin, "it has too much to do")

    def closed(self, seconds: float, error: AioDownloadError) -> None:
        """Believed the third time in a row."""
        self._dispatcher.schedule.close(self.entry, self._dispatcher.now(), seconds, error)
        self._dispatcher.tell_pause(self.entry.origin, error)
        self._dispatcher.pump()

    def slow_down(self, url: URL, delay: float) -> None:
        """From its next start on."""
        self._dispatcher.schedule.slow_down(host_of(url), self._dispatcher.now(), delay)

    def gave_up(self, error: AioDownloadError) -> None:
        """After a few of them the others need not wait."""
        self._dispatcher.schedule.give_up(self.entry, self._dispatcher.now(), partial(_down, error))
        self._dispatcher.tell_pause(self.entry.origin, error)
        self._dispatcher.pump()

    def free(self) -> None:
        """Let the next one start."""
        if self.entry.active:
            self._release(self.entry)

    def another(self) -> Turn:
        """It waits for its turn like any other."""
        entry: Entry[Startable] = Entry(self.entry.item, self.entry.origin, self.entry.spacing)
        return Turn(self._dispatcher, entry, self._tried, self._release)


def _down(last: AioDownloadError, seconds: float) -> AioDownloadError:
    """Why the bundles of a host fail that does not answer."""
    return HostDownError(
        f"the host has not answered several bundles through all their tries, the last: {last}; "
        f"it is asked again in {seconds:.0f} s"
    )


# What is missing here, and says nothing about the host.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENETDOWN})


def _is_ours(error: AioDownloadError) -> bool:
    """Whether it is this machine that could not ask."""
    cause = getattr(error.__cause__, "os_error", error.__cause__)
    return isinstance(cause, OSError) and cause.errno in _OURS


def _was_connected(error: AioDownloadError) -> bool:
    """Whether there was a connection, so that it may be for this URL only that no answer came."""
    return not isinstance(error.__cause__, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
