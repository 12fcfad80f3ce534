"""Dispatcher: gives the schedule its clock and starts what it says may go."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Protocol

from .errors import AioDownloadError
from .events import HostPaused, Watchers
from .request.schedule import Entry, Schedule

__all__ = ["Dispatcher", "Startable"]


class Startable(Protocol):
    """What is scheduled."""

    def start(self) -> None:
        """Begin, as a task; the slot is given back with :meth:`Dispatcher.release`."""

    def refuse(self, error: AioDownloadError) -> None:
        """Its host is not asked for now, and it need not wait.

        :param error: why.
        """


class Dispatcher:
    """One schedule, shared by all calls on one entered AioDownload.

    :param schedule: the limits.
    :param longest_wait: seconds that a host may ask to be left alone.
    :param watchers: told of hosts that are not asked for a while.
    """

    def __init__(
        self, schedule: Schedule[Startable], longest_wait: float = 3600.0, watchers: Watchers | None = None
    ) -> None:
        self.schedule = schedule
        self._watchers = watchers or Watchers()
        self.longest_wait = longest_wait
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False

    def submit(self, entry: Entry[Startable], delay: float = 0.0) -> None:
        """Let ``entry`` start as soon as the limits allow, and no earlier than in ``delay`` seconds."""
        self.schedule.add(entry, self._loop.time(), delay)
        self.pump()

    def release(self, entry: Entry[Startable]) -> bool:
        """Give back the slot of an entry that was started, if it has one; return whether another has started."""
        self.schedule.release(entry, self._loop.time())
        return self.pump()

    def discard(self, unwanted: Callable[[Startable], bool]) -> None:
        """Take out what has not been started and is not wanted any more."""
        self.schedule.discard(unwanted)
        self.pump()

    async def pace(self, entry: Entry[Startable], origin: str) -> None:
        """Wait until a started entry may make one more request, at ``origin``.  Meanwhile it holds no slot.

        :raises AioDownloadError: if that host is not asked for now.
        """
        if self.schedule.move(entry, origin, self._loop.time()):
            return
        entry.resume = granted = self._loop.create_future()
        self.pump()
        try:
            await granted
        except asyncio.CancelledError:
            if not entry.active:
                self.schedule.withdraw(entry)
            raise
        finally:
            entry.resume = None

    def tell_pause(self, origin: str, reason: object, seconds: float | None = None) -> None:
        """Tell whoever watches, if this host is not asked for a while.

        :param reason: why; its text is made only if somebody wants it.
        :param seconds: for how long; None: as long as the schedule says.
        """
        if self._watchers.listening and self._watchers.wants(HostPaused):
            if seconds is None:
                seconds = self.schedule.paused_for(origin, self._loop.time())
            if seconds > 0:
                self._watchers.emit(HostPaused(origin, seconds, str(reason)))

    def now(self) -> float:
        """The schedule's time."""
        return self._loop.time()

    def close(self) -> None:
        """Start nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pump(self) -> bool:
        """Start what may go, and see to it that the rest is looked at in time; return whether anything has started."""
        schedule, timer = self.schedule, self._timer
        if self._pumping:  # an eager task that ended within its own start: whoever started it goes on
            return False
        if timer is None and not schedule.free and not schedule.refusals:
            return False
        self._pumping = True
        started = False
        try:
            while True:
                now = self._loop.time()
                if schedule.refusals:
                    entry = schedule.refused()
                    if entry is not None:
                        self._refuse(entry)
                elif (entry := schedule.next(now)) is not None:
                    self._start(entry)
                    started = True
                else:
                    break
        finally:
            self._pumping = False
        wake = schedule.wake_at(now)
        if timer is not None:
            if timer.when() == wake and not timer.cancelled() and wake > now:
                return started
            timer.cancel()
        self._timer = None if wake is None else self._loop.call_at(wake, self.pump)
        return started

    def _start(self, entry: Entry[Startable]) -> None:
        if entry.resume is None:
            entry.item.start()
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
