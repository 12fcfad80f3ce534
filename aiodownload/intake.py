"""Intake: the rest of a large body, which goes from the connection straight into buffers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import ClientPayloadError

from .handler import StandIn, WatchedHandler
from .inlet import Inlet

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader

    from .storage.buffers import Buffers

__all__ = ["Intake", "divert"]

WORTHWHILE = 1 << 17  # bytes that are to come
BUFFER = 1 << 20  # bytes
# Once so many bytes have come, buffers are larger: around each, the thread that writes it and the event loop wait for
# one another.  What a server declares and does not send takes no memory.
LARGE = 1 << 24
LARGE_BUFFER = 1 << 22
FAST = 0.1  # seconds: where so much more comes within them, a thread takes the rest out of the connection by itself
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
    if content.total_bytes != len(first):  # somebody else has some of it, or aiohttp has taken in more meanwhile
        return None
    return Intake(handler, content, first, missing, buffers, heard)


class Intake(StandIn):
    """Stands in for the handler of a connection while a body arrives whose end its length tells.

    There is nothing to parse in it.  By aiohttp each byte would be copied out of the socket, out of that by the parser,
    and go through a queue in small pieces.

    :param handler: whose place it takes, until the last byte is there.
    :param content: of the response.
    :param first: what has arrived already.
    :param missing: bytes that are still to come.
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
        self._free: list[bytearray] = []
        self._made = 0
        self._buffer: bytearray | None = None  # that is being filled
        self._view = memoryview(b"")  # of it
        self._at = 0  # bytes of the body in it
        self._room = 0  # how many there are to be
        self._full: deque[tuple[bytearray, memoryview]] = deque()
        self._read: deque[bytearray] = deque()
        self._paused = False
        self._waiting: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._since = asyncio.get_running_loop().time()
        self._lately = 0  # bytes that have come since then
        self._inlet: Inlet | None = None
        self._may_bypass = True
        self.strayed = False  # whether what was taken in a bypass may have holes, and is good for nothing
        handler.divert(self)
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
        """What has arrived and was not read, after a failure or in a bypass; nothing more will.

        It is good until :meth:`go_on`.
        """
        if self._buffer is not None:
            if self._at:
                self._full.append((self._buffer, self._view[: self._at]))
            else:
                self._free.append(self._buffer)
            self._buffer, self._view, self._at = None, memoryview(b""), 0
        views = [view for _, view in self._full]
        self._read.extend(buffer for buffer, _ in self._full)
        self._full.clear()
        return views

    def comes_fast(self) -> bool:
        """Whether so much comes that :meth:`bypass` is worth while."""
        if self._lately < LARGE:
            return False
        now = asyncio.get_running_loop().time()
        fast = self._may_bypass and self._left > LARGE and now - self._since <= FAST
        self._since, self._lately = now, 0
        return fast

    def bypass(self) -> Inlet | None:
        """Receive nothing more: the rest is to be taken out of what is returned, after that which :meth:`rest` has.

        Of what arrives so fast, each buffer costs the event loop and a thread more to pass on than to fill.

        :returns: None where nobody else can take anything out of the connection, which goes on then.
        """
        transport = self._handler.transport
        if transport is None or self._error is not None:
            return None
        self._handler.hold()
        self._inlet = Inlet.of(transport) if _is_still(transport) else None
        self._may_bypass = self._inlet is not None
        if self._may_bypass:
            self._paused = True
        elif not self._paused:
            self._handler.go_on()
        return self._inlet

    def came(self) -> None:
        """Take account of what was taken out of the inlet.

        :raises aiohttp.ClientError: if the rest does not come.
        """
        inlet = self._account()
        if self.strayed and self._error is not None:
            raise self._error
        if not self._left:
            if inlet.surplus:
                self._handler.force_close()
            self.stop()  # before another request has the connection
            self._handler.complete(self._content)
        elif self._error is not None:
            raise self._error
        elif inlet.ended:
            raise self._missing(inlet.error)

    def _account(self) -> Inlet:
        inlet = self._inlet
        if inlet is None:
            raise RuntimeError("there is no bypass")
        count = inlet.news()
        self._left -= count
        if count and self._heard is not None:
            self._heard(count)
        return inlet

    def stop(self) -> None:
        """Let nothing more be taken out of the inlet; what was still taken was heard of."""
        if self._inlet is not None:
            self._inlet.close()
            self._account()
            self._inlet = None

    def go_on(self) -> None:
        """The bypass is over; what is missing arrives here again.  All that was read is where it belongs."""
        self._since, self._lately = asyncio.get_running_loop().time(), 0
        self._free.extend(self._read)
        self._read.clear()
        if self._left and self._error is None:
            self._paused = False
            if self._buffer is None:
                self._begin()
            self._handler.go_on()

    def close(self) -> None:
        """All has been read, and nobody looks at it any more."""
        for buffer in (*self._read, *self._free):
            self._buffers.give_back(buffer)
        self._read.clear()
        self._free.clear()

    # What the transport calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes are to go."""
        # Some transports go on with what they have in hand.  It is nobody's answer, or has its place who knows where
        # among what a thread takes.
        if not self._left or self._inlet is not None:
            self._handler.force_close()
            return memoryview(bytearray(SURPLUS))
        if self._buffer is None:  # or though they were told to pause
            self._begin()
        return self._view[self._at :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many have gone there."""
        if self._inlet is not None:
            self.strayed = True
            self.fail(ClientPayloadError("something came while the connection was to wait"))
            return
        if not self._left:
            return
        if nbytes > self._left:  # a byte that is nobody's answer: nothing is asked on this connection any more
            self._handler.force_close()
            nbytes = self._left
        self._at += nbytes
        self._left -= nbytes
        self._lately += nbytes
        self._handler.arrived()
        if self._heard is not None:
            self._heard(nbytes)
        if self._at == self._room:
            self._next()

    def eof_received(self) -> None:
        """The server sends nothing more."""
        self._handler.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The rest will not come."""
        if self._left:
            self.fail(self._missing(exc))
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

    def _missing(self, cause: BaseException | None) -> ClientPayloadError:
        error = ClientPayloadError(f"{self._length - self._left} of {self._length} bytes came")
        error.__cause__ = cause
        return error

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
        size = LARGE_BUFFER if self._length - self._left >= LARGE else BUFFER
        buffer = self._free.pop() if self._free else None
        if buffer is None:
            self._made += 1
        elif len(buffer) != size + 1:
            self._buffers.give_back(buffer)
            buffer = None
        self._buffer = self._buffers.take(size + 1) if buffer is None else buffer
        self._at, self._room = 0, min(size, self._left)
        # Behind the end of the body there is place for one more byte.  If the server has sent more, that comes along
        # with the last bytes, before the connection is free.
        self._view = memoryview(self._buffer)[: self._room + (self._room == self._left)]

    def _next(self) -> None:
        """The buffer is full, or holds the last byte."""
        if self._buffer is not None:
            self._full.append((self._buffer, self._view[: self._at]))
            self._buffer, self._view, self._at = None, memoryview(b""), 0
        if not self._left:
            self._handler.complete(self._content)
        elif self._free or self._made < COUNT:
            self._begin()
        else:
            self._paused = True
            self._handler.hold()
        self._wake()

    def _recycle(self, buffer: bytearray) -> None:
        self._free.append(buffer)
        if self._paused and self._left and self._error is None:
            self._paused = False
            if self._buffer is None:
                self._begin()
            self._handler.go_on()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _is_still(transport: asyncio.Transport) -> bool:
    """Whether a transport that was told to pause says that it does."""
    try:
        return not transport.is_reading()
    except (AttributeError, NotImplementedError):
        return False
