"""Workspace: what one entered AioDownload has open of its storage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .disk import Disk
from .home import Home
from .placement import Places

if TYPE_CHECKING:
    from .strategy import DownloadStrategy

__all__ = ["Workspace"]


class Workspace:
    """Disk threads, home, and the paths in use.

    :param strategy: the settings.
    """

    def __init__(self, strategy: DownloadStrategy) -> None:
        self.strategy = strategy
        self.disk = Disk()
        self.places = Places()
        self.opened: Home | None = None
        self._home: asyncio.Future[Home] | None = None

    async def home(self) -> Home:
        """Open the home folder, once.

        :raises HomeError: if it cannot be used.
        """
        if self._home is None or (self._home.done() and self.opened is None):
            self._home = asyncio.ensure_future(self.disk.run(Home.open, self.strategy.home))
        self.opened = await asyncio.shield(self._home)
        return self.opened

    async def close(self) -> None:
        """Wait for the disk and end its threads."""
        if self._home is not None and self._home.done() and not self._home.cancelled():
            self._home.exception()
        await self.disk.close()
