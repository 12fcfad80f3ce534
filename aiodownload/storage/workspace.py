"""Workspace: what one entered AioDownload has open of its storage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .disk import Disk
from .home import Home
from .kept import KeptPart, claim
from .partial import PartialFile
from .placement import Places
from .record import identity

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
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
            self._home = asyncio.ensure_future(self.disk.run(Home.open, self.strategy.home, self.strategy.durable))
        self.opened = await asyncio.shield(self._home)
        return self.opened

    async def take_up(self, path: str, url: str) -> PartialFile | None:
        """Go on with what an earlier try has left of ``url`` for ``path``, in this run or in one before.

        :returns: where the rest goes, or None if there is nothing that can be relied upon.
        """
        home = await self.home()
        claiming = asyncio.ensure_future(self.disk.run(claim, path, home.mode, identity(url), home.path))
        try:
            part = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(self._let_go)
            raise
        return None if part is None else self.sink(path, home, part)

    def sink(self, path: str, home: Home, part: KeptPart | None = None) -> PartialFile:
        """A place for the bytes of ``path``; ``part``: that has some already."""
        return PartialFile(self.disk, path, home.mode, part, root=home.path, durable=self.strategy.durable)

    def kept(self, bundle: AioDownloadBundle) -> None:
        """A try has left bytes of ``bundle``: the next one may go on with them."""
        bundle._kept = True
        if self.opened is not None and bundle.file_path is not None:
            self.places.kept(self.opened.folded(bundle.file_path))

    def _let_go(self, claiming: asyncio.Future[KeptPart | None]) -> None:
        part = None if claiming.cancelled() or claiming.exception() else claiming.result()
        if part is not None:
            self.disk.later(part.release)

    async def close(self) -> None:
        """Wait for the disk and end its threads."""
        if self._home is not None and self._home.done() and not self._home.cancelled():
            self._home.exception()
        await self.disk.close()
