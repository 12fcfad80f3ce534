"""Workspace: what one entered AioDownload has open of its storage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .digests import agrees
from .disk import Disk
from .home import Home
from .kept import KeptPart, claim
from .partial import PartialFile
from .placement import Found, Places, find
from .record import identity

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..checksums import Digest
    from .archive import Archive
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
        self.archive: Archive | None = strategy._archive(self.disk)
        self.opened: Home | None = None
        self._home: asyncio.Future[Home] | None = None

    async def home(self) -> Home:
        """Open the home folder, once.

        :raises HomeError: if it cannot be used.
        """
        if self._home is None or (self._home.done() and self.opened is None):
            self._home = asyncio.ensure_future(self.disk.run(self._open))
        self.opened = await asyncio.shield(self._home)
        return self.opened

    def _open(self) -> Home:
        """In a disk thread."""
        home = Home.open(self.strategy.home, self.strategy.durable)
        if self.archive is not None:
            self.archive.open(home)
        return home

    async def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See which files are there.

        :param paths: absolute paths.
        """
        if self.archive is not None:
            return await self.disk.run(self.archive.find, paths)
        return await self.disk.run(find, paths, self.strategy.home)

    async def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether what is at ``path`` has every expected checksum."""
        return await self.disk.run(agrees if self.archive is None else self.archive.agrees, path, expected)

    async def failed(self, bundle: AioDownloadBundle) -> None:
        """``bundle`` has finally failed, in a run that may keep account of that."""
        if self.archive is not None:
            await self.home()
            await self.archive.failed(bundle)

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

    def sink(
        self, path: str, home: Home, part: KeptPart | None = None, *, bundle: AioDownloadBundle | None = None
    ) -> PartialFile:
        """A place for the bytes of ``path``.

        :param part: that has some already, or None.
        :param bundle: whose they are, where that is known.
        """
        if self.archive is not None and bundle is not None:
            return self.archive.sink(path, home, bundle)
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
        """Wait for the disk and end its threads.

        :raises HomeError: if an archive cannot be completed.
        """
        if self._home is not None and self._home.done() and not self._home.cancelled():
            self._home.exception()
        try:
            if self.archive is not None:
                await self.archive.close()
        finally:
            await self.disk.close()
