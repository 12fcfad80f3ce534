"""The file Sink: bytes go to a partial file beside the target, which gets the target's name when it is whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import threading

from ..errors import DiskError
from .disk import Disk
from .paths import MAX_NAME

__all__ = ["PartialFile", "partial_name"]

# Bytes that are collected before a trip to a disk thread.  A body that fits makes one trip in all: open, write,
# close, rename.
BATCH = 1 << 20

# While a body comes in over several trips, nobody else reads or writes half a file (curl CVE-2022-32207).  One that
# makes a single trip has its final mode at once.
_PRIVATE = 0o600
_FLAGS = (
    os.O_CREAT
    | os.O_EXCL
    | os.O_WRONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def partial_name(name: str, mark: str = "") -> str:
    """Return the name of the partial file for ``name``: ``.name.part``, never longer than a name may be.

    A leading dot keeps it apart from every name that a URL can get.  ``mark`` makes it a private one.
    """
    ending = f".{mark}.part" if mark else ".part"
    plain = f".{name}{ending}"
    if len(os.fsencode(plain)) <= MAX_NAME:
        return plain
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    head = os.fsencode(name)[: MAX_NAME - len(ending) - 18].decode("utf-8", "ignore")
    return f".{head}-{digest}{ending}"


class PartialFile:
    """Collects bytes, writes them beside ``path`` in disk threads, and publishes by an atomic rename.

    Another process may be fetching the same URL, so a partial file that is there already is never touched: its
    owner may be alive, and a private name does as well.

    :param disk: the threads.
    :param path: the final path (absolute str).
    :param mode: permission bits of the final file (int).
    """

    def __init__(self, disk: Disk, path: str, mode: int) -> None:
        self._disk = disk
        self.path = path
        self._mode = mode
        self._lock = threading.Lock()  # a cancelled trip may still be under way when the next one starts
        self._handle: int | None = None
        self._partial: str | None = None
        self._ended = False
        self._touched = False
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._size = 0
        self._trip: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        """Take the next bytes; every MiB goes to the disk while the next is being received."""
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= BATCH:
            await self._arrived()
            self._trip = asyncio.ensure_future(self._disk.run(self._store, self._take()))
            self._trip.add_done_callback(_look_at)

    async def commit(self) -> int:
        """Write the rest, compare the size on disk with the bytes counted, rename."""
        await self._arrived()
        return await self._disk.run(self._publish, self._take())

    async def abandon(self) -> None:
        """Remove the partial file, also if this wait is cancelled."""
        if self._touched:
            await asyncio.shield(asyncio.wrap_future(self._disk.later(self._discard)))

    async def _arrived(self) -> None:
        """Wait for the trip that is under way and raise what it met."""
        if self._trip is not None:
            trip, self._trip = self._trip, None
            await trip

    def _take(self) -> list[bytes]:
        self._touched = True
        taken, self._buffer, self._buffered = self._buffer, [], 0
        return taken

    # From here on: in a disk thread.

    def _store(self, chunks: list[bytes]) -> None:
        with self._lock:
            if not self._ended:
                self._append(chunks, whole=False)

    def _publish(self, chunks: list[bytes]) -> int:
        with self._lock:
            if self._ended:
                raise DiskError(self.path, None, "finish")
            one_trip = self._handle is None
            handle, partial = self._append(chunks, whole=True)
            action = "finish"
            try:
                # Counted bytes and the size on disk agree, and errors of close() count.
                if os.fstat(handle).st_size != self._size:
                    raise DiskError(self.path, None, "finish")
                if not one_trip and hasattr(os, "fchmod"):
                    os.fchmod(handle, self._mode)
                self._handle = None
                os.close(handle)
                action = "rename to"
                os.replace(partial, self.path)
                self._ended = True
            except OSError as error:
                raise DiskError(self.path, error.errno, action) from error
            return self._size

    def _append(self, chunks: list[bytes], *, whole: bool) -> tuple[int, str]:
        """Write ``chunks``; they are the ``whole`` body if nothing was written before."""
        try:
            if self._handle is None or self._partial is None:
                self._handle, self._partial = _create(self.path, self._mode if whole else _PRIVATE)
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    written = os.write(self._handle, view)
                    self._size += written
                    view = view[written:]
            return self._handle, self._partial
        except (OSError, ValueError) as error:
            raise DiskError(self.path, getattr(error, "errno", None)) from error

    def _discard(self) -> None:
        with self._lock:
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    os.close(self._handle)
                self._handle = None
            if self._partial is not None and not self._ended:
                with contextlib.suppress(OSError):
                    os.unlink(self._partial)
            self._ended = True


def _look_at(trip: asyncio.Task[None]) -> None:
    """Fetch a failure that nobody may come for, once the body itself has failed."""
    if not trip.cancelled():
        trip.exception()


def _create(path: str, mode: int) -> tuple[int, str]:
    """Make the partial file for ``path`` and the folders above it; return its descriptor and path."""
    folder, name = os.path.split(path)
    partial = os.path.join(folder, partial_name(name))
    for _ in range(8):
        try:
            return os.open(partial, _FLAGS, mode), partial
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
        except FileExistsError:
            partial = os.path.join(folder, partial_name(name, secrets.token_hex(6)))
    return os.open(partial, _FLAGS, mode), partial
