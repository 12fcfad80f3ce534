"""Archive: what keeps many bodies together, instead of each in a file of its own, and what is open of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from .workspace import Workspace

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..checksums import Digest
    from ..entries import Publication
    from .disk import Disk
    from .home import Home, Opened
    from .partial import PartialFile
    from .placement import Found
    from .sink import Sink
    from .strategy import DownloadStrategy

__all__ = ["Archive", "ArchiveWorkspace"]


class Archive(Protocol):
    """What one entered AioDownload has open of it; made by its strategy.

    The paths of bundles then only tell them apart.  What blocks is called in a thread.
    """

    def open(self, home: Home) -> None:
        """Find what is there.  Blocks; may be called again after it has failed.

        :raises HomeError: if it cannot be used.
        """

    def sink(self, path: str, home: Home, bundle: AioDownloadBundle) -> PartialFile:
        """A place for the bytes of ``bundle``, which asked for ``path``; its ``target`` tells where they came to."""

    def holds(self, told: Publication) -> bool:
        """Whether the very body of which a journal tells is there.  Blocks; called in any thread."""

    def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See what is there of the bundles that ask for ``paths``.  Blocks."""

    def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether what is at ``path``, as :meth:`find` or a sink gave it, has every expected checksum.  Blocks."""

    async def failed(self, bundle: AioDownloadBundle) -> None:
        """``bundle`` has finally failed."""

    async def close(self) -> None:
        """Complete it, before the disk threads end.

        :raises HomeError: if that is not possible.
        """


class ArchiveWorkspace(Workspace):
    """The archive in home, and the paths in use.

    :param strategy: the settings.
    :param make: makes the archive, of the disk threads.
    """

    archive: Archive

    def __init__(self, strategy: DownloadStrategy, make: Callable[[Disk], Archive]) -> None:
        super().__init__(strategy)
        self.archive = make(self.disk)

    async def _open(self) -> Opened:
        home = await super()._open()
        await self.disk.run(self.archive.open, self._folder)
        return home

    def sink(self, path: str, bundle: AioDownloadBundle) -> Sink:
        """A place for the bytes of ``bundle``; home is open."""
        return self.archive.sink(path, self._folder, bundle)

    async def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See what is there of the bundles that ask for ``paths``."""
        return await self.disk.run(self.archive.find, paths)

    async def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether the body at ``path`` has every expected checksum."""
        return await self.disk.run(self.archive.agrees, path, expected)

    async def failed(self, bundle: AioDownloadBundle) -> None:
        """Account for it."""
        await self.home()
        await self.archive.failed(bundle)

    async def close(self) -> None:
        """Complete the archive, and end the threads.

        :raises HomeError: if that is not possible.
        """
        try:
            await self.archive.close()
        finally:
            await super().close()
