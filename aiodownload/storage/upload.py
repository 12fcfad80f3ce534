"""The object Sink: brings the bytes of a body to an object store, in parts that become an object when all is proved."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..checksums import Hasher
from ..entries import FileState, Publication
from ..errors import StoreError
from .disk import Disk
from .objects import DIGEST, ETAG, MARK, MODIFIED, PROOF, Store

if TYPE_CHECKING:
    from .kept import Origin
    from .sink import Note, Soon

__all__ = ["FLYING", "PART", "PATIENCE", "Upload"]

PART = 1 << 23  # bytes of a part; a body that is no longer makes one request.  S3 takes none below 5 MiB
MOST_PARTS = 10_000  # of one object, in S3
FLYING = 3  # parts under way at once, while they are no larger than
LARGE_PART = 1 << 26
BATCH = 1 << 21  # bytes that are collected before they are handed over
SMALL = 1 << 16  # bytes whose checksum takes less time than a trip to a thread
# Seconds that a store may take to forget the parts of a body that is not wanted any more.
PATIENCE = 10.0

_LONGEST = 256  # characters of what is carried along


class _Abandoned(Exception):  # noqa: N818 (no error: it ends an upload that nobody wants any more)
    pass


class _Feed:
    """Hands bytes over to an upload: it takes the next when it has room for them.

    Its end lets the object appear; that it raises makes the store forget the parts.
    """

    def __init__(self) -> None:
        self._data: bytes | None = None
        self._over: bool = False
        self._failed = False
        self._news: asyncio.Future[None] | None = None

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytes:
        while self._data is None and not self._over:
            await self._wait()
        if self._failed:
            raise _Abandoned
        if self._data is None:
            raise StopAsyncIteration
        data, self._data = self._data, None
        self.tell()
        return data

    async def put(self, data: bytes, ended: Callable[[], bool]) -> None:
        """Wait until what was put before has been taken, or the upload has ended by itself."""
        while self._data is not None and not ended():
            await self._wait()
        self._data = data
        self.tell()

    def end(self, *, failed: bool = False) -> None:
        """There is no more; ``failed``: and what there was is not wanted."""
        self._over = True
        self._failed |= failed
        self.tell()

    def tell(self) -> None:
        """Let those who wait look again."""
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    async def _wait(self) -> None:
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)


class Upload:
    """Collects bytes and hands them to the store; until :meth:`commit` has proved them there is no object.

    In memory are at most ``FLYING`` parts under way, the one that is being filled, and two batches: 36 MiB, and what
    sending them takes.

    :param disk: threads, for checksums.
    :param store: the bucket.
    :param path: the URL of the object (str).
    :param outlast: takes a wait that must come to its end though nobody waits for it any more.
    """

    labelled = True
    origin: Origin | None = None

    def __init__(self, disk: Disk, store: Store, path: str, outlast: Callable[[asyncio.Future[None]], None]) -> None:
        self._disk = disk
        self._store = store
        self._outlast = outlast
        self.target = path
        self._attributes: dict[str, str] = {}
        self._mark = secrets.randbits(63)
        self._part = PART
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._size = 0
        self._hasher: Hasher | None = None
        self._transient = False
        self._note: Note | None = None
        self._feed: _Feed | None = None
        self._sending: asyncio.Future[None] | None = None
        self._ended = False

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._size

    def keep(self, origin: Origin) -> None:
        """Parts of an upload do not outlive a failure: the body comes afresh then."""

    def expect(self, hasher: Hasher, *, transient: bool) -> None:
        """Say, before the first byte, which checksums the whole must have.

        :param transient: whether another try may help if it has not.
        """
        self._hasher, self._transient = hasher, transient

    def label(self, what: Publication, content_type: str, length: int | None) -> None:
        """Say, before the first byte, what the object is to carry along."""
        sha256 = next((one.removeprefix("sha256:") for one in what.digest if one.startswith("sha256:")), None)
        carried = {
            "Content-Type": " ".join(content_type.split()),
            MARK: f"{self._mark:016x}",
            PROOF: what.verified,
            DIGEST: sha256,
            ETAG: what.etag,
            MODIFIED: what.last_modified,
        }
        self._attributes = {name: value for name, value in carried.items() if value and _can_be_carried(value)}
        if length is not None and length > PART * MOST_PARTS:
            self._part = -(-length // (MOST_PARTS - 1) // BATCH) * BATCH

    def finish_as(self, path: str, modified: float | None) -> None:
        """Say how the whole is to appear.

        :param path: its URL (str).
        :param modified: an object has no time of its own: the server's is carried along in any case.
        """
        self.target = path

    def announce(self, note: Note, soon: Soon | None = None) -> None:
        """Say who is to be told of the object, in a thread, just before it appears."""
        self._note = note

    async def write(self, data: bytes) -> None:
        """Take the next bytes, as fast as the store does."""
        self._chunks.append(data)
        self._buffered += len(data)
        self._size += len(data)
        if self._buffered > (PART if self._feed is None else BATCH):
            await self._send(await self._collected())

    def hand_in(self, tell: Callable[[int, Exception | None], object]) -> bool:
        """Nobody else does it."""
        return False

    async def commit(self) -> int:
        """Check what is expected, and let the object appear."""
        data = await self._collected()
        if self._hasher is not None:
            self._hasher.verify(transient=self._transient)
        if self._note is not None:
            await self._disk.run(self._note, self.target, FileState.marked(self._size, self._mark))
        if self._feed is None:
            self._set_out(asyncio.ensure_future(self._store.put(self.target, data, self._attributes)))
        else:
            if data:
                await self._send(data)
            self._feed.end()
        if self._sending is not None:
            await asyncio.shield(self._sending)
        self._ended = True
        return self._size

    async def abandon(self, *, keep: bool = False) -> bool:
        """Let the store forget the parts; nothing is ever kept."""
        if self._ended:
            return False
        self._ended = True
        self._chunks.clear()
        if self._feed is not None:
            self._feed.end(failed=True)
        if self._sending is not None and not self._sending.done():
            forgetting = asyncio.ensure_future(_settled(self._sending))
            self._outlast(forgetting)
            await asyncio.shield(forgetting)
        return False

    async def _collected(self) -> bytes:
        """The bytes that have not been handed over, and their checksum taken."""
        chunks, self._chunks, self._buffered = self._chunks, [], 0
        if sum(map(len, chunks)) <= SMALL:
            return self._joined(chunks)
        return await self._disk.run(self._joined, chunks)

    def _joined(self, chunks: list[bytes]) -> bytes:
        if self._hasher is not None:
            for chunk in chunks:
                self._hasher.update(chunk)
        return b"".join(chunks)

    async def _send(self, data: bytes) -> None:
        if self._size > self._part * MOST_PARTS:
            raise StoreError(self.target, f"its length was not declared, and it has more than {MOST_PARTS} parts")
        if self._feed is None:
            self._feed = _Feed()
            flying = FLYING if self._part <= LARGE_PART else 1
            upload = self._store.upload(self.target, self._feed, self._attributes, self._part, flying)
            self._set_out(asyncio.ensure_future(upload))
        if self._sending is not None:
            await self._feed.put(data, self._sending.done)
            if self._sending.done():  # it ends before its end only by an error
                self._sending.result()
                raise StoreError(self.target, "the upload ended before its bytes did")

    def _set_out(self, sending: asyncio.Future[None]) -> None:
        self._sending = sending
        sending.add_done_callback(self._landed)

    def _landed(self, sending: asyncio.Future[None]) -> None:
        if self._feed is not None:
            self._feed.tell()
        if not sending.cancelled():
            sending.exception()  # whoever waits for it raises it; perhaps nobody does


async def _settled(sending: asyncio.Future[None]) -> None:
    """Wait for what is under way, within reason; what the store has not forgotten by then, its own rules will."""
    done, _ = await asyncio.wait([sending], timeout=PATIENCE)
    if not done:
        sending.cancel()


def _can_be_carried(value: str) -> bool:
    """Whether a header field can hold it, in every store; S3 signs two blanks as one."""
    return len(value) <= _LONGEST and value.isascii() and value.isprintable() and " ".join(value.split()) == value
