"""The workspace of an object store: what one entered AioDownload has open of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .objects import Store, needs_obstore
from .placement import FlatPlaces, Found
from .upload import Upload
from .workspace import Workspace

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..checksums import Digest
    from ..entries import FileState
    from .home import Opened
    from .partial import PartialFile
    from .sink import Sink
    from .strategy import DownloadStrategy

__all__ = ["BucketWorkspace"]


class BucketWorkspace(Workspace):
    """The bucket, and the paths in use.

    :param strategy: the settings.
    :raises MissingExtraError: if obstore is not installed.
    """

    remote = True
    _store: Store  # once it is open

    def __init__(self, strategy: DownloadStrategy) -> None:
        needs_obstore()
        super().__init__(strategy)
        self.places = FlatPlaces()
        self._ending: set[asyncio.Future[None]] = set()

    async def _open(self) -> Opened:
        self._store = await self.disk.run(Store.open, self.strategy.home, self.strategy.store_options)
        await self._store.probe()
        return self._store

    async def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See which objects are there, under just these paths."""
        await self.home()
        seen = await self._store.look(paths)
        return [
            None if one is None else Found(path, one.size, one.proven) for path, one in zip(paths, seen, strict=True)
        ]

    async def states(self, paths: Sequence[str]) -> dict[str, FileState]:
        """What those of the objects are like that are there and were written here."""
        if not paths:
            return {}
        await self.home()
        seen = await self._store.look(paths)
        states = {path: one.state for path, one in zip(paths, seen, strict=True) if one is not None}
        return {path: state for path, state in states.items() if state is not None}

    async def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether the object has every expected checksum."""
        await self.home()
        return await self._store.agrees(path, expected, self.disk)

    async def take_up(self, path: str, url: str) -> PartialFile | None:
        """No try leaves bytes."""
        return None

    def sink(self, path: str, bundle: AioDownloadBundle) -> Sink:
        """A place for the bytes of ``bundle``; home is open."""
        return Upload(self.disk, self._store, path, self._outlast)

    def _outlast(self, ending: asyncio.Future[None]) -> None:
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Wait until the store has forgotten what nobody wants any more, and end the threads."""
        if self._home is not None and not self._home.done():
            self._home.cancel()
            await asyncio.wait([self._home])
        if self._ending:
            await asyncio.wait(self._ending)
        await super().close()
