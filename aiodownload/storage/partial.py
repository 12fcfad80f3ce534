"""The file Sink: collects the bytes of a body and brings them to its partial file, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

from ..checksums import Hasher
from ..entries import FileState, Publication
from ..errors import DiskError
from .content import Inlet
from .disk import Disk
from .kept import KeptPart, Origin
from .owner import my_tag
from .part import Part, PartError
from .publisher import Publisher
from .record import Ranges, gaps
from .sink import Note, Soon

__all__ = ["PartialFile", "Piece"]

Piece: TypeAlias = bytes | memoryview

# Bytes that are collected before a trip to a disk thread.  A body that fits makes one trip in all: open, write,
# close, rename.
BATCH = 1 << 20
# From so many bytes on a body is large, and its batches are larger: around each, the thread and the event loop wait for
# one another.
LARGE = 1 << 24
LARGE_BATCH = 1 << 22
# Bytes in batches that may wait while one is being written, before no more is taken.  The thread goes on to them by
# itself: to come back first takes as long as to receive a MiB.
WAITING = 1 << 23

# Seconds for which the thread takes bytes out of a connection at most: others wait for it.  What takes longer, for the
# network or the disk keeps the other waiting, is better done by both at the same time.
PATIENCE = 0.25

SMALL = 1 << 16  # bytes whose checksum takes less time than a trip to a thread


class PartialFile:
    """Collects bytes, writes them beside ``path`` in disk threads, and publishes by an atomic rename.

    :param disk: the threads.
    :param path: the final path (absolute str).
    :param mode: permission bits of the final file (int).
    :param part: a partial file to go on with, or None.
    :param root: the folder below which no symbolic link is followed (absolute str), or None.
    :param durable: bring bytes and name to the disk itself before :meth:`commit` returns (bool).
    """

    labelled = False
    _buffered = 0
    _size = 0
    _part: Part | None = None
    _origin: Origin | None = None
    _modified: float | None = None
    _hasher: Hasher | None = None
    _transient = False
    _note: Note | None = None
    _soon: Soon | None = None
    _ended = False
    _job: tuple[Publisher, int] | None = None  # while it is with the process for small files
    _trip: asyncio.Task[None] | None = None

    def __init__(
        self,
        disk: Disk,
        path: str,
        mode: int,
        part: KeptPart | None = None,
        *,
        root: str | None = None,
        durable: bool = False,
    ) -> None:
        self._disk = disk
        self._durable = durable
        self._root = root
        if part is not None:
            part.durable = durable
            self._part, self._size, self._origin = part, part.size, part.origin
        self.path = self.target = path
        self._mode = mode
        self._buffer: list[Piece] = []
        self._batches: deque[tuple[int, list[Piece]]] = deque()  # with the place of each
        self._lock = threading.Lock()  # a cancelled trip may still be under way when the next one starts

    @property
    def held(self) -> Origin | None:
        """What the bytes are of that an earlier try has left here, if so."""
        return self._origin if self._part is not None else None

    @property
    def size(self) -> int:
        """Bytes taken so far, those of earlier tries included."""
        return self._size + self._buffered

    def keep(self, origin: Origin) -> None:
        """Say, before the first byte, what the bytes will be of: they outlive a failure then."""
        self._origin = origin

    def expect(self, hasher: Hasher, *, transient: bool) -> None:
        """Say, before the first byte, which checksums the whole must have.

        :param transient: whether another try may help if it has not.
        """
        self._hasher, self._transient = hasher, transient

    def label(self, what: Publication, content_type: str, length: int | None) -> None:
        """A file carries nothing along."""

    def finish_as(self, path: str, modified: float | None) -> None:
        """Say how the whole is to appear.

        :param path: its final path (absolute str), in the same folder.
        :param modified: when it was modified, in POSIX seconds; None: now.
        """
        self.target, self._modified = path, modified

    def announce(self, note: Note, soon: Soon | None = None) -> None:
        """Say who is to be told of the final path and the file just before it gets that name, see :class:`Sink`."""
        self._note, self._soon = note, soon

    def take(self, data: Piece) -> None:
        """Take the next bytes, which go to the disk later."""
        self._buffer.append(data)
        self._buffered += len(data)

    async def store(self, data: memoryview) -> None:
        """Take the next bytes, which set out for the disk; what was taken before is there when this returns.

        :raises DiskError: if that could not be stored.
        """
        self.take(data)
        await self._arrived()
        self._batches.append((self._size, self._take()))
        self._set_out()

    async def write(self, data: bytes) -> None:
        """Take the next bytes; each batch goes to the disk while the next is being received."""
        self.take(data)
        if self._buffered < (BATCH if self._size < LARGE else LARGE_BATCH):
            return
        self._batches.append((self._size, self._take()))
        if self._trip is not None and (self._trip.done() or self._waiting() >= WAITING):
            await self._arrived()
        if self._trip is None and self._batches:
            self._set_out()

    async def drain(self, inlet: Inlet, most: int) -> int:
        """Let the thread take up to ``most`` bytes out of ``inlet`` and to the disk, after what was taken before.

        :returns: how many came before nothing did for a moment, or time was up.
        :raises DiskError: if they cannot be stored.
        """
        await self._arrived()
        before = self.size
        self._depart(self._disk.run(self._drain, self._file(), inlet, most))
        await self._arrived()
        return self.size - before

    @property
    def origin(self) -> Origin | None:
        """What the bytes are of, if that was said."""
        return self._origin

    @property
    def gaps(self) -> Ranges:
        """The bytes that are missing of what it was said to be of."""
        if self._origin is None:
            return ()
        return gaps(self._part.ranges if isinstance(self._part, KeptPart) else (), self._origin.total)

    async def place(self, at: int, chunks: Sequence[Piece]) -> None:
        """Bring ``chunks`` to the disk where they belong, in any order; nothing else writes then.

        :param at: the place of their first byte.
        :raises DiskError: if they cannot be stored.
        """
        await self._disk.run(self._place, self._file(), at, chunks)

    async def commit(self) -> int:
        """Write the rest, compare the size on disk with the bytes counted, rename."""
        await self._arrived()
        at, chunks = self._rest()
        if self._part is None:
            # One trip: nothing to keep in between.
            self._part = Part(self.path, self._mode, my_tag, root=self._root, durable=self._durable)
        self._part.name, self._part.modified = os.path.basename(self.target), self._modified
        await self._disk.run(self._publish, self._part, at, chunks)
        return self._size

    def hand_in(self, tell: Callable[[int, Exception | None], object]) -> bool:
        """Let the process for small files publish it, if there is one that takes it; to be asked once."""
        if self._part is not None or self._trip is not None or self._batches:
            return False
        if self._hasher is not None and self._buffered <= SMALL:
            self._check(self._hasher, self._buffer)
        # The process checks nothing, notes nothing and knows no times.
        plain = self._hasher is None and self._modified is None and not self._durable
        publisher = self._disk.publisher(self._buffered) if plain and (not self._note or self._soon) else None
        if publisher is None:
            return False
        hold = None if self._soon is None else partial(self._soon, self.target)
        told = partial(self._told, tell)
        self._job = publisher, publisher.hand_in(self.target, self._mode, self._buffer, self._root, told, hold)
        return True

    def _told(self, tell: Callable[[int, Exception | None], object], error: Exception | None) -> None:
        self._job = None
        tell(self._buffered, self._refused(error) if isinstance(error, PartError) else error)

    async def abandon(self, *, keep: bool = False) -> bool:
        """Remove the partial file, also if this wait is cancelled.

        :param keep: rather keep what is worth keeping.
        :returns: whether that was done.
        """
        if self._ended:
            return False
        if self._job is not None:
            publisher, number = self._job
            await asyncio.shield(asyncio.ensure_future(publisher.give_up(number)))
        elif self._part is not None:
            if keep:
                return await asyncio.shield(asyncio.ensure_future(self._leave(self._part)))
            return await asyncio.shield(asyncio.wrap_future(self._disk.later(partial(self._end, self._part))))
        return False

    async def _leave(self, part: Part) -> bool:
        """Bring what has come in to the disk and let go of it."""
        ending = partial(self._end, part)
        with contextlib.suppress(DiskError):
            await self._arrived()  # a trip may be under way still: the bytes keep their order
            ending = partial(self._end, part, *self._rest())
        return await asyncio.wrap_future(self._disk.later(ending))

    def _file(self) -> Part:
        if self._part is None:
            if self._origin is not None:
                self._part = KeptPart(self.path, self._mode, self._origin, root=self._root, durable=self._durable)
            else:
                self._part = Part(self.path, self._mode, my_tag, root=self._root, durable=self._durable)
        return self._part

    async def _arrived(self) -> None:
        """Wait until nothing is under way to the disk, and raise what was met there."""
        while (trip := self._trip) is not None:
            await asyncio.shield(trip)  # the thread goes on even if we do not
            if self._trip is trip:
                self._trip = None

    def _set_out(self) -> None:
        self._depart(self._disk.run(self._store, self._file()))

    def _depart(self, trip: Coroutine[Any, Any, None]) -> None:
        self._trip = asyncio.ensure_future(trip)
        self._trip.add_done_callback(self._landed)

    def _landed(self, trip: asyncio.Task[None]) -> None:
        """A failure stays with the trip, and nobody may come for it once the body itself has failed."""
        if trip.cancelled() or trip.exception() is not None or self._trip is not trip:
            return
        if self._batches and not self._ended:
            self._set_out()  # for a batch that came as the thread had just taken the last

    def _waiting(self) -> int:
        """Bytes that no trip has taken along yet."""
        with contextlib.suppress(IndexError):  # the thread has just taken the last
            return self._size - self._batches[0][0]
        return 0

    def _rest(self) -> tuple[int, list[Piece]]:
        """What no trip has taken along, and its place."""
        at = self._batches[0][0] if self._batches else self._size
        chunks = [chunk for _, batch in self._batches for chunk in batch]
        self._batches.clear()
        return at, chunks + self._take()

    def _take(self) -> list[Piece]:
        taken, self._buffer = self._buffer, []
        self._size += self._buffered
        self._buffered = 0
        return taken

    def _check(self, hasher: Hasher, chunks: Sequence[Piece]) -> None:
        """Check a body that is small enough not to hold anybody up."""
        for chunk in chunks:
            hasher.update(chunk)
        hasher.verify(transient=self._transient)
        self._hasher = None

    def _refused(self, error: PartError) -> DiskError:
        return DiskError(self.path, error.errno, error.action)

    # From here on: in a disk thread.

    def _place(self, part: Part, at: int, chunks: Sequence[Piece]) -> None:
        with self._lock:
            if self._ended or not isinstance(part, KeptPart):
                raise DiskError(self.path, None, "write")
            try:
                part.write_at(at, chunks)
            except PartError as error:
                raise self._refused(error) from error
            self._size = part.size

    def _store(self, part: Part) -> None:
        with self._lock:
            while self._batches and not self._ended:
                self._append(part, *self._batches.popleft())

    def _drain(self, part: Part, inlet: Inlet, most: int) -> None:
        with self._lock:
            end, until = part.size + most, time.monotonic() + PATIENCE
            while part.size < end and not self._ended and time.monotonic() < until:
                if not (data := inlet.read(end - part.size)):
                    break
                self._append(part, part.size, (data,))
                self._size = part.size

    def _publish(self, part: Part, at: int, chunks: list[Piece]) -> None:
        with self._lock:
            if self._ended:
                raise DiskError(self.path, None, "finish")
            self._append(part, at, chunks, whole=not at)
            if self._hasher is not None:
                self._hasher.verify(transient=self._transient)
            try:
                part.publish(self._tell)
            except PartError as error:
                raise self._refused(error) from error
            self._ended = True

    def _tell(self, state: os.stat_result) -> None:
        if self._note is not None:
            self._note(self.target, FileState.of(state))

    def _append(self, part: Part, at: int, chunks: Sequence[Piece], *, whole: bool = False) -> None:
        """Write ``chunks``, whose place is after the first ``at`` bytes and nowhere else."""
        if part.size != at:
            raise DiskError(self.path, None, "write")
        hasher = self._hasher
        try:
            if hasher is not None and at and not hasher.begun:  # an earlier try has written these
                part.read_back(hasher.update)
            part.append(chunks, whole=whole)
            if hasher is not None:
                for chunk in chunks:
                    hasher.update(chunk)
        except PartError as error:
            raise self._refused(error) from error

    def _end(self, part: Part, at: int = 0, chunks: list[Piece] | None = None) -> bool:
        """Keep the partial file with the last ``chunks``; discard it without, or if it is not worth keeping."""
        with self._lock:
            if self._ended:
                return False
            self._ended = True
            if chunks is not None and isinstance(part, KeptPart):
                with contextlib.suppress(DiskError):
                    if chunks:
                        self._append(part, at, chunks)
                    return part.release()
            part.discard()
            return False
