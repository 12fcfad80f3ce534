"""Dispatcher: gives the schedule its clock and starts what it says may go."""

from __future__ import annotations

import asyncio
import copy
import errno
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import aiohttp
from multidict import istr

from .errors import AioDownloadError, HostDownError
from .request.quota import FIELDS, quota
from .request.retry_after import LATER, retry_after
from .request.schedule import Entry, Schedule

if TYPE_CHECKING:
    from aiohttp import ClientResponse

__all__ = ["Dispatcher", "Startable"]

_RETRY_AFTER = istr("Retry-After")
_LIMIT, _REMAINING, _X_REMAINING, _X_RATE_REMAINING = (istr(name) for name in FIELDS)


class Startable(Protocol):
    """What is scheduled."""

    def start(self, entry: Entry[Startable]) -> None:
        """Begin, as a task; the slot is given back with :meth:`Dispatcher.release`.

        :param entry: its own entry, to be submitted again for another try.
        """

    def refuse(self, error: AioDownloadError) -> None:
        """Its host is not asked for now, and it need not wait.

        :param error: why.
        """


class Dispatcher:
    """One schedule, shared by all calls on one entered AioDownload.

    :param schedule: the limits.
    :param longest_wait: seconds that a host may ask to be left alone.
    """

    def __init__(self, schedule: Schedule[Startable], longest_wait: float = 3600.0) -> None:
        self.schedule = schedule
        self._longest_wait = longest_wait
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False

    def submit(self, entry: Entry[Startable], delay: float = 0.0) -> None:
        """Let ``entry`` start as soon as the limits allow, and no earlier than in ``delay`` seconds."""
        self.schedule.add(entry, self._loop.time(), delay)
        self._pump()

    def release(self, entry: Entry[Startable]) -> None:
        """Give back the slot of an entry that was started, if it has one."""
        self.schedule.release(entry, self._loop.time())
        self._pump()

    def discard(self, unwanted: Callable[[Startable], bool]) -> None:
        """Take out what has not been started and is not wanted any more."""
        self.schedule.discard(unwanted)
        self._pump()

    async def pace(self, entry: Entry[Startable], origin: str) -> None:
        """Wait until a started entry may make one more request, at ``origin``.  Meanwhile it holds no slot.

        :raises AioDownloadError: if that host is not asked for now.
        """
        if self.schedule.move(entry, origin, self._loop.time()):
            return
        entry.resume = granted = self._loop.create_future()
        self._pump()
        try:
            await granted
        except asyncio.CancelledError:
            if not entry.active:
                self.schedule.withdraw(entry)
            raise
        finally:
            entry.resume = None

    def opens_in(self, origin: str) -> float:
        """Seconds for which a host is not to be asked."""
        return self.schedule.opens_in(origin, self._loop.time())

    # What is heard of the hosts.

    def answered(self, entry: Entry[Startable], response: ClientResponse) -> None:
        """The host of ``entry`` has answered; its answer may say something about later ones."""
        now, headers, schedule = self._loop.time(), response.headers, self.schedule
        told = 0.0
        if _RETRY_AFTER in headers:
            told = retry_after(headers.getall(_RETRY_AFTER), time.time())
        if told > self._longest_wait:
            told = 0.0  # whether the host is closed for it, its status says
        later = response.status in LATER
        schedule.answered(entry, now, later=later, told=told > 0)
        if told:
            schedule.leave_alone(entry, now, told=told, wait=0.0)
        if _LIMIT in headers or _REMAINING in headers or _X_REMAINING in headers or _X_RATE_REMAINING in headers:
            allowed = quota(headers, headers.getall, time.time())
            if allowed is not None:
                schedule.allow(entry, now, allowed[0], min(allowed[1], self._longest_wait))
        if schedule.startable:
            self._pump()

    def unanswered(self, entry: Entry[Startable], error: AioDownloadError) -> None:
        """The host of ``entry`` has not answered."""
        if not _is_ours(error):
            self.schedule.unanswered(entry, self._loop.time(), partial(_down, error), connected=_was_connected(error))
            self._pump()

    def later(self, entry: Entry[Startable], wait: float) -> None:
        """It has said "later" without a time, and the bundle waits for ``wait`` seconds."""
        self.schedule.leave_alone(entry, self._loop.time(), told=0.0, wait=wait)

    def closed(self, entry: Entry[Startable], seconds: float, error: AioDownloadError) -> None:
        """It is not to be asked for so long that nobody waits for it."""
        self.schedule.close(entry, self._loop.time(), seconds, error)
        self._pump()

    def slow_down(self, origin: str, delay: float) -> None:
        """A host wants so many seconds between requests."""
        self.schedule.slow_down(origin, self._loop.time(), delay)

    def gave_up(self, entry: Entry[Startable], error: AioDownloadError) -> None:
        """The bundle of ``entry`` has failed, and the host has not answered it."""
        self.schedule.give_up(entry, self._loop.time(), partial(_down, error))
        self._pump()

    def close(self) -> None:
        """Start nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pump(self) -> None:
        if self._pumping:  # an eager task that ended within its own start: whoever started it goes on
            return
        self._pumping = True
        try:
            schedule = self.schedule
            while True:
                now = self._loop.time()
                if schedule.refusals:
                    entry = schedule.refused()
                    if entry is not None:
                        self._refuse(entry)
                elif (entry := schedule.next(now)) is not None:
                    self._start(entry)
                else:
                    break
        finally:
            self._pumping = False
        wake = self.schedule.wake_at(now)
        timer = self._timer
        if timer is not None:
            if timer.when() == wake and not timer.cancelled() and wake > now:
                return
            timer.cancel()
        self._timer = None if wake is None else self._loop.call_at(wake, self._pump)

    def _start(self, entry: Entry[Startable]) -> None:
        if entry.resume is None:
            entry.item.start(entry)
        elif not entry.resume.done():
            entry.resume.set_result(None)
        else:  # cancelled while it waited
            self.schedule.release(entry, self._loop.time())

    def _refuse(self, entry: Entry[Startable]) -> None:
        error = copy.copy(entry.error) or AioDownloadError("the host is not asked for now")
        if entry.resume is None:
            entry.item.refuse(error)
        elif not entry.resume.done():
            entry.resume.set_exception(error)


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
