"""Workspace: what one entered AioDownload has open of its storage, here the disk; a bucket's is in ``bucket``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..entries import FileState
from ..homes import is_store
from .buffers import Buffers
from .digests import agrees
from .disk import Disk
from .home import Home, Opened
from .kept import KeptPart, claim
from .partial import PartialFile
from .placement import Found, Places, Survey, find, state_at, survey
from .record import identity

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..checksums import Digest
    from .archive import Archive
    from .sink import Sink
    from .strategy import DownloadStrategy

__all__ = ["Workspace", "workspace_of"]


def workspace_of(strategy: DownloadStrategy) -> Workspace:
    """Return what works with the home of ``strategy``.

    :raises MissingExtraError: for an object store, if the package for it is missing.
    """
    if is_store(strategy.home):
        from .bucket import BucketWorkspace  # few programs have one

        return BucketWorkspace(strategy)
    return Workspace(strategy)


class Workspace:
    """Disk threads, home, and the paths in use.

    :param strategy: the settings.

    ``archive`` is what keeps many bodies together, or None where each has a file of its own; see ``archive``.
    ``remote`` says whether to look at a file is a request to another machine: then many are looked at at once.
    """

    archive: Archive | None = None
    remote = False
    _folder: Home  # once it is open

    def __init__(self, strategy: DownloadStrategy) -> None:
        self.strategy = strategy
        self.disk = Disk()
        self.places = Places()
        self.buffers = Buffers()
        self.opened: Opened | None = None
        self._home: asyncio.Future[Opened] | None = None

    async def home(self) -> Opened:
        """Open home, once.

        :raises HomeError: if it cannot be used.
        """
        if self._home is None or (self._home.done() and self.opened is None):
            self._home = asyncio.ensure_future(self._open())
        self.opened = await asyncio.shield(self._home)
        return self.opened

    async def _open(self) -> Opened:
        self._folder = await self.disk.run(Home.open, self.strategy.home, self.strategy.durable)
        return self._folder

    async def survey(self, parents: Mapping[str, str], fold: Callable[[str], str]) -> dict[str, Survey]:
        """Look at folders; see :func:`~aiodownload.storage.placement.survey`."""
        return await self.disk.run(survey, parents, fold, self.strategy.home)

    async def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See which files are there; see :func:`~aiodownload.storage.placement.find`."""
        return await self.disk.run(find, paths, self.strategy.home)

    async def states(self, paths: Sequence[str]) -> dict[str, FileState]:
        """What those of the files are like that are there."""
        looked = [(path, await self.disk.run(state_at, path, self.strategy.home)) for path in paths]
        return {path: FileState.of(state) for path, state in looked if state is not None}

    async def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether the file has every expected checksum."""
        return await self.disk.run(agrees, path, expected)

    async def take_up(self, path: str, url: str) -> PartialFile | None:
        """Go on with what an earlier try has left of ``url`` for ``path``, in this run or in one before.

        :returns: where the rest goes, or None if there is nothing that can be relied upon.
        """
        await self.home()
        home = self._folder
        claiming = asyncio.ensure_future(self.disk.run(claim, path, home.mode, identity(url), home.path))
        try:
            part = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(self._let_go)
            raise
        return None if part is None else self._file(path, part)

    def sink(self, path: str, bundle: AioDownloadBundle) -> Sink:
        """A place for the bytes of ``bundle``, which are to come to ``path``; home is open."""
        return self._file(path)

    def _file(self, path: str, part: KeptPart | None = None) -> PartialFile:
        """``part``: that has some bytes already."""
        home = self._folder
        return PartialFile(self.disk, path, home.mode, part, root=home.path, durable=self.strategy.durable)

    async def failed(self, bundle: AioDownloadBundle) -> None:
        """``bundle`` has finally failed: nothing is kept that would tell."""

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
