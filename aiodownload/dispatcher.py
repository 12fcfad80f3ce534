"""Dispatcher: gives the schedule its clock and starts what it says may go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from .request.schedule import Entry, Schedule

__all__ = ["Dispatcher", "Startable"]


class Startable(Protocol):
    """What is scheduled."""

    def start(self, entry: Entry[Startable]) -> None:
        """Begin, as a task; the slot is given back with :meth:`Dispatcher.release`.

        :param entry: its own entry, to be submitted again for another try.
        """


class Dispatcher:
    """One schedule, shared by all calls on one entered AioDownload.

    :param schedule: the limits.
    """

    def __init__(self, schedule: Schedule[Startable]) -> None:
        self.schedule = schedule
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False

    def submit(self, entry: Entry[Startable], delay: float = 0.0) -> None:
        """Let ``entry`` start as soon as the limits allow, and no earlier than in ``delay`` seconds."""
        self.schedule.add(entry, self._loop.time(), delay)
        self._pump()

    def release(self) -> None:
        """Give back the slot of an entry that was started."""
        self.schedule.release()
        self._pump()

    def discard(self, unwanted: Callable[[Startable], bool]) -> None:
        """Take out what has not been started and is not wanted any more."""
        self.schedule.discard(unwanted)
        self._pump()

    async def pace(self, spacing: float) -> None:
        """Wait until one more request of a started entry may be made."""
        now = self._loop.time()
        wait = self.schedule.reserve(spacing, now) - now
        if wait > 0:
            await asyncio.sleep(wait)

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
            now = self._loop.time()
            while (entry := self.schedule.next(now)) is not None:
                entry.item.start(entry)
        finally:
            self._pumping = False
        wake = self.schedule.wake_at(now)
        timer = self._timer
        if timer is not None:
            if timer.when() == wake and not timer.cancelled() and wake > now:
                return
            timer.cancel()
        self._timer = None if wake is None else self._loop.call_at(wake, self._pump)
