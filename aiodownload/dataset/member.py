"""The member Sink: collects the bytes of a body, and brings them into a shard once they are proven whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import DiskError
from ..storage.disk import Disk
from ..storage.home import Home
from ..storage.part import PartError
from ..storage.partial import PartialFile, Piece
from .names import extension_of, identity
from .rows import Row, row_of
from .shard import Sample

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..storage.kept import Origin
    from .shards import Shards

__all__ = ["Member"]


class Member(PartialFile):
    """Takes the bytes of one body.

    Up to a MiB is kept in memory; more goes to a partial file in home, and is copied from there.

    :param disk: the threads.
    :param shards: where it goes in the end.
    :param home: the folder.
    :param path: what the bundle has asked for: it only tells requests apart (absolute str).
    :param bundle: whose body it is.
    """

    def __init__(self, disk: Disk, shards: Shards, home: Home, path: str, bundle: AioDownloadBundle) -> None:
        self._identity = identity(path, home.path)
        super().__init__(disk, os.path.join(home.path, self._identity), home.mode, root=home.path)
        self._shards = shards
        self._asked = path
        self._bundle = bundle
        self._joining = False

    def keep(self, origin: Origin) -> None:
        """Nothing outlives a failure: the next try begins at the first byte."""

    def finish_as(self, path: str, modified: float | None) -> None:
        """Take the time; the name is the shard's to give."""
        self._modified = modified

    def hand_in(self, tell: Callable[[int, Exception | None], object]) -> bool:
        """Nobody else adds it to a shard."""
        return False

    async def commit(self) -> int:
        """Check what is known of the bytes; add them to a shard."""
        await self._arrived()
        at, chunks = self._rest()
        row = row_of(self._bundle, self._identity)
        self._joining = True
        await self._shards.add(partial(self._join, row, at, chunks))
        return self._size

    async def abandon(self, *, keep: bool = False) -> bool:
        """Forget the bytes, unless the thread has already brought them into a shard; nothing is kept."""
        if self._part is not None or self._joining:
            await asyncio.shield(asyncio.wrap_future(self._disk.later(self._withdraw)))
        return False

    # From here on: in a disk thread.

    def _join(self, row: Row, at: int, chunks: list[Piece]) -> None:
        with self._lock:
            if self._ended:
                raise DiskError(self.path, None, "finish")
            part, hasher = self._part, self._hasher
            if part is not None:
                self._append(part, at, chunks)
            elif hasher is not None:
                for chunk in chunks:
                    hasher.update(chunk)
            if hasher is not None:
                hasher.verify(transient=self._transient)
            extension = extension_of(self._asked, row.content_type or "")
            body = part if part is not None else chunks
            sample = Sample(row, extension, self._modified or 0, self._size, body)
            try:
                self.target = self._shards.append(sample, self._note)
            except PartError as error:
                raise self._refused(error) from error
            self._ended = True
            if part is not None:
                part.discard()

    def _withdraw(self) -> None:
        with self._lock:
            if not self._ended:
                self._ended = True
                if self._part is not None:
                    self._part.discard()
