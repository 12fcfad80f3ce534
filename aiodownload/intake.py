"""Intake: the rest of a large body, which goes from the connection straight into buffers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import ClientPayloadError

from .handler import StandIn, WatchedHandler

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader

    from .storage.buffers import Buffers

__all__ = ["Intake", "divert"]

WORTHWHILE = 1 << 17  # bytes that are to come
BUFFER = 1 << 20  # bytes
# From so many bytes on a body is large, and its buffers are larger: around each, the thread that writes it and the
# event loop wait for one another.
LARGE = 1 << 24
LARGE_BUFFER = 1 << 22
SURPLUS = 1 << 12  # bytes beyond the end of the body that are thrown away at a time
COUNT = 3  # buffers: one fills, one waits, one is being written


def divert(
    response: ClientResponse,
    content: StreamReader,
    first: bytes,
    length: int,
    buffers: Buffers,
    heard: Callable[[int], None] | None = None,
) -> Intake | None:
    """Let the rest of a body come into ``buffers``.

    :param response: whose body is of ``length`` bytes, and as sent.
    :param content: what aiohttp makes of the body, of which everything that has come was read.
    :param first: what has come and is not on its way to the file.
    :param heard: told how many bytes have come, each time.
    :returns: where it arrives; None if it has to come by aiohttp, or has come.
    """
    connection = response.connection
    handler = connection.protocol if connection is not None else None
    missing = length - content.total_bytes
    if missing < WORTHWHILE or not isinstance(handler, WatchedHandler) or not handler.is_receiving(content):
        return None
    return Intake(handler, content, first, missing, buffers, heard)


class Intake(StandIn):
    """Stands in for the handler of a connection while a body arrives whose end its length tells.

    There is nothing to parse in it.  By aiohttp each byte would be copied out of the socket, out of that by the parser,
    and go through a queue in small pieces.

    :param handler: whose place it takes, until the last byte is there.
    :param content: of the response.
    :param first: what has arrived already.
    :param missing: bytes that are still to come; not one more is read.
    :param buffers: where buffers come from.
    :param heard: told how many bytes have come, each time.
    """

    def __init__(
        self,
        handler: WatchedHandler,
        content: StreamReader,
        first: bytes,
        missing: int,
        buffers: Buffers,
        heard: Callable[[int], None] | None,
    ) -> None:
        self._handler = handler
        self._content = content
        self._buffers = buffers
        self._heard = heard
        self._length = self._left = len(first) + missing
        self._size = LARGE_BUFFER if self._length >= LARGE else BUFFER
        self._free: list[bytearray] = []
        self._made = 0
        self._buffer: bytearray | None = None  # that is being filled
        self._view = memoryview(b"")  # of it
        self._at = 0  # bytes in it
        self._full: deque[tuple[bytearray, memoryview]] = deque()
        self._read: deque[bytearray] = deque()
        self._paused = False
        self._waiting: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._transport = handler.divert(self)
        self._put(first)

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return self._left + self._at + sum(len(view) for _, view in self._full)

    async def read(self) -> memoryview:
        """The next buffer that is full, or the last one, or nothing at the end.

        It is good until the second call after this one.

        :raises aiohttp.ClientError: if the rest does not come.
        """
        if len(self._read) == COUNT - 1:
            self._recycle(self._read.popleft())
        while not self._full:
            if self._error is not None:
                raise self._error
            if not self._left:
                return memoryview(b"")
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        buffer, view = self._full.popleft()
        self._read.append(buffer)
        return view

    def rest(self) -> list[memoryview]:
        """What has arrived and was not read, after a failure; nothing more will."""
        views = [view for _, view in self._full]
        if self._at:
            views.append(self._view[: self._at])
        return views

    def close(self) -> None:
        """All has been read, and nobody looks at it any more."""
        for buffer in (*self._read, *self._free):
            self._buffers.give_back(buffer)
        self._read.clear()
        self._free.clear()

    # What the transport calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes are to go."""
        if not self._left:  # some transports go on with what they have in hand: it is nobody's answer
            self._handler.force_close()
            return memoryview(bytearray(SURPLUS))
        if self._buffer is None:  # or though they were told to pause
            self._begin()
        return self._view[self._at :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many have gone there."""
        if not self._left:
            return
        self._at += nbytes
        self._left -= nbytes
        self._handler.arrived()
        if self._heard is not None:
            self._heard(nbytes)
        if self._at == len(self._view):
            self._next()

    def eof_received(self) -> None:
        """The server sends nothing more."""
        self._handler.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The rest will not come."""
        if self._left:
            error = ClientPayloadError(f"{self._length - self._left} of {self._length} bytes came")
            error.__cause__ = exc
            self.fail(error)
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """The request is still being sent."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """It goes on."""
        self._handler.resume_writing()

    def fail(self, error: BaseException) -> None:
        """The rest will not come."""
        if self._error is None and self._left:
            self._error = error
            self._wake()

    def _put(self, data: bytes) -> None:
        """Take what has arrived by aiohttp."""
        rest = memoryview(data)
        while rest:
            place = self.get_buffer(-1)
            count = min(len(place), len(rest))
            place[:count] = rest[:count]
            self.buffer_updated(count)
            rest = rest[count:]
        if self._buffer is None and self._left:
            self._next()

    def _begin(self) -> None:
        if not self._free:
            self._made += 1
            self._free.append(self._buffers.take(self._size))
        self._buffer = self._free.pop()
        self._view = memoryview(self._buffer)[: self._left]
        self._at = 0

    def _next(self) -> None:
        """The buffer is full, or holds the last byte."""
        if self._buffer is not None:
            self._full.append((self._buffer, self._view))
            self._buffer, self._view, self._at = None, memoryview(b""), 0
        if not self._left:
            self._handler.complete(self._content)
        elif self._free or self._made < COUNT:
            self._begin()
        else:
            self._paused = True
            self._transport.pause_reading()
            self._handler.held()
        self._wake()

    def _recycle(self, buffer: bytearray) -> None:
        self._free.append(buffer)
        if self._paused and self._left and self._error is None:
            self._paused = False
            if self._buffer is None:
                self._begin()
            self._transport.resume_reading()
            self._handler.arrived()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
