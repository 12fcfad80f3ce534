"""Shards: the Archive of a TarShards: one open shard at a time for this run, and publication of those that are full."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..checksums import Digest
from ..entries import FileState, Publication
from ..errors import HomeError
from ..storage.disk import Disk
from ..storage.folder import Folder
from ..storage.home import Home
from ..storage.part import PartError
from ..storage.placement import Found
from .index import Index
from .lease import Lease, sweep
from .member import Member
from .names import Place, identity, member_path, number_of, open_name, open_number
from .rows import row_of
from .shard import Sample, Shard

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from .strategy import TarShards

__all__ = ["Shards"]

_log = logging.getLogger("aiodownload.dataset")

ROWS_PER_MEMBER = 10  # so many times shard_size URLs without a body also fill a shard
_OVERHEAD = 4 << 10  # bytes of headers, metadata and padding that a member takes along, and of the end, roughly


class Shards:
    """What one entered AioDownload has open of its shards.

    :param settings: the strategy.
    :param disk: its threads.
    """

    def __init__(self, settings: TarShards, disk: Disk) -> None:
        self._settings = settings
        self._disk = disk
        self._adding = Disk(1)  # a thread of its own: members are added one after the other, as they come
        self._index = Index(settings.home)
        self._lock = threading.Lock()  # of all that appends; never held by whoever a journal calls
        self._home: Folder | None = None
        self._mode = 0o600
        self._shard: Shard | None = None
        self._spare: deque[Shard] = deque()  # which dead processes have left
        self._full: deque[Shard] = deque()
        self._failed: list[tuple[Shard, Exception]] = []

    # The archive, see there.

    def open(self, home: Home) -> None:
        """Take up what dead processes have left, and learn what is there."""
        with self._lock:
            if self._home is not None:
                return
            self._mode = home.mode
            try:
                self._home = Folder.open(home.path)
                for entry in sorted(self._home.entries(), key=lambda one: one.name):
                    sweep(self._home, entry.name)
                    number = open_number(entry.name)
                    if number is not None:
                        self._take_up(self._home, number)
            except OSError as error:
                raise HomeError(home.path, error.strerror or str(error)) from error
        self._index.look()

    def _take_up(self, home: Folder, number: int) -> None:
        lease = Lease(home, number)
        try:
            if lease.take_over(self._settings.adopt):
                shard = self._shard_in(lease)
                (self._full if shard.sealed or self._fills(shard) else self._spare).append(shard)
            elif lease.elsewhere:
                _log.warning(
                    "%s in %s is left alone: its process was on another machine or in another container; if none of "
                    "those lives any more, adopt=True goes on with it",
                    open_name(number),
                    home.path,
                )
        except FileNotFoundError:  # somebody has just published it
            lease.release()
        except OSError as error:
            lease.release()
            _log.warning("%s in %s is left alone: %s", open_name(number), home.path, error)

    def sink(self, path: str, home: Home, bundle: AioDownloadBundle) -> Member:
        """A place for the bytes of ``bundle``."""
        return Member(self._disk, self, home, path, bundle)

    def holds(self, told: Publication) -> bool:
        """Whether the very member of which a journal tells is there."""
        return self._index.holds(told)

    def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See which members there are."""
        return self._index.find(paths)

    def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether the member at ``path`` has every expected checksum."""
        return self._index.agrees(path, expected)

    async def failed(self, bundle: AioDownloadBundle) -> None:
        """Tell of ``bundle`` in the metadata of the shard that is open."""
        try:
            await self._adding.run(self._tell, bundle)
        except PartError as error:
            _log.warning("the failure of %r cannot be told in %s: %s", bundle, self._settings.home, _words(error))
        self.publish_full()

    async def add(self, join: Callable[[], None]) -> None:
        """Have ``join`` called, which brings a body into a shard, when it is its turn."""
        await self._adding.run(join)
        self.publish_full()

    async def close(self) -> None:
        """Publish what is open."""
        await self._adding.close()
        if self._home is not None:
            await asyncio.wrap_future(self._disk.later(self._finish))

    def publish_full(self) -> None:
        """Have the shards that are full published, beside all other work."""
        while self._full:
            self._disk.later(partial(self._publish, self._full.popleft()))

    # From here on: in a thread.

    def append(self, sample: Sample, note: Callable[[str, FileState], None] | None) -> str:
        """Add a sample to the open shard; return the path of its member.

        :param note: told of that path and of the member, just before it counts.
        :raises PartError: if the disk refuses.
        """
        with self._lock:
            shard = self._fitting(sample)
            key = self._key(shard, sample)

            def tell(member: str, state: FileState) -> None:
                if note is not None:
                    note(self._path(shard, member), state)

            row = shard.append(sample, key, tell)
            self._index.added(shard.number, row.identity, row.member or "", sample.size)
            if self._fills(shard):
                self._full.append(shard)
                self._shard = None
            return self._path(shard, row.member or "")

    def _tell(self, bundle: AioDownloadBundle) -> None:
        path = bundle.file_path
        stands_for = identity(path if path is not None else f"\0{bundle.url}", self._settings.home)
        with self._lock:
            shard = self._current()
            shard.tell(row_of(bundle, stands_for, bundle.error))
            if self._fills(shard):
                self._full.append(shard)
                self._shard = None

    def _fitting(self, sample: Sample) -> Shard:
        """The shard for ``sample``: another one if it would be too large, or has that request already."""
        shard, most = self._current(), self._settings.max_shard_bytes
        more = sample.size + len(sample.row.info or "") + _OVERHEAD
        large = most is not None and shard.members > 0 and shard.end + more > most
        if large or sample.row.identity in shard.done:
            self._full.append(shard)
            self._shard = None
            return self._fitting(sample)
        return shard

    def _current(self) -> Shard:
        if self._shard is not None and not self._shard.is_mine:
            self._lose(self._shard)
            self._shard = None
        if self._shard is None:
            try:
                self._shard = self._spare.popleft() if self._spare else self._begin()
            except OSError as error:
                raise PartError("write", error.errno) from error
        return self._shard

    def _begin(self) -> Shard:
        """Open a shard with the next number that nobody has."""
        if self._home is None:
            raise OSError("it is closed")
        names = [entry.name for entry in self._home.entries()]
        taken = [number for name in names for number in (number_of(name), open_number(name)) if number is not None]
        lease = Lease(self._home, max(taken, default=-1) + 1)
        while not lease.begin(self._settings.durable):
            lease = Lease(self._home, lease.number + 1)
        return self._shard_in(lease)

    def _shard_in(self, lease: Lease) -> Shard:
        self._index.own(lease.number)
        return Shard(lease, self._mode, self._settings.durable, self._index.add)

    def _fills(self, shard: Shard) -> bool:
        size, most = self._settings.shard_size, self._settings.max_shard_bytes
        full = shard.members >= size or shard.rows >= ROWS_PER_MEMBER * size
        return full or (most is not None and shard.end >= most)

    def _key(self, shard: Shard, sample: Sample) -> str:
        if self._settings.keys == "hash":
            return sample.row.identity
        digits = max(4, len(str(self._settings.shard_size - 1)))
        return f"{shard.number:05d}{shard.members:0{digits}d}"

    def _path(self, shard: Shard, member: str) -> str:
        return member_path(self._settings.home, Place(shard.number, member))

    def _lose(self, shard: Shard) -> None:
        _log.warning(
            "shard %05d in %s is another process's now, with all that counts in it: that was told adopt=True",
            shard.number,
            self._settings.home,
        )
        shard.release()

    def _publish(self, shard: Shard) -> None:
        if not shard.is_mine:
            self._lose(shard)
            return
        try:
            shard.publish()
        except Exception as error:  # the disk, or pyarrow; it is tried again, and loud then
            _log.warning("shard %05d in %s is not published yet: %s", shard.number, self._settings.home, _words(error))
            self._failed.append((shard, error))

    def _finish(self) -> None:
        """Publish all that is open; what cannot be published is left to the next run.

        :raises HomeError: if there is such.
        """
        with self._lock:
            again = [shard for shard, _ in self._failed]
            self._failed.clear()
            left = [*again, *self._full, *self._spare, *([self._shard] if self._shard is not None else ())]
            self._full.clear()
            self._spare.clear()
            self._shard = None
            for shard in left:
                if shard.is_empty:
                    shard.discard()
                else:
                    self._publish(shard)
            for shard, _ in self._failed:
                shard.release()
            home, self._home = self._home, None
            if home is not None:
                home.close()
        if self._failed:
            shard, error = self._failed[0]
            raise HomeError(
                self._settings.home,
                f"shard {shard.number:05d} cannot be published: {_words(error)}; "
                f"its members are kept in {open_name(shard.number)}, and the next run will try again",
            ) from error


def _words(error: Exception) -> str:
    if isinstance(error, PartError) and error.errno is not None:
        return f"cannot {error.action} it: {os.strerror(error.errno)}"
    return str(error.__cause__ or error)
