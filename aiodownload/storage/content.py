"""Content: the body of an answer, as it is sent and as somebody else is to see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader

    from .buffers import Buffers

__all__ = ["Arriving", "Body", "Divert", "Flow", "Inlet", "Intake", "OtherContent", "Read"]

# So much of a large body may arrive while the disk is waited for, before the server is told to wait.
AHEAD = 1 << 20

Read: TypeAlias = Callable[[int], Awaitable[bytes]]


class Flow(Protocol):
    """Limits how fast a body may come, and how slowly."""

    limited: bool
    """Whether it does."""

    heard: Callable[[int], None] | None
    """Told how many bytes have come, each time."""

    async def read(self, read: Read, size: int) -> bytes:
        """The next bytes, not sooner than they may come."""


class Inlet(Protocol):
    """A connection out of which a thread takes what arrives; see ``inlet``."""

    def read(self, most: int) -> memoryview:
        """At most so many bytes, good until the next call; none at the end, or if nothing comes."""


class Intake(Protocol):
    """The rest of a large body, which arrives in buffers; see ``intake``."""

    strayed: bool
    """Whether what was taken in a bypass may have holes, and is good for nothing."""

    @property
    def left(self) -> int:
        """Bytes that have not been read."""

    async def read(self) -> memoryview:
        """The next full buffer, good until the second call after this one; or the last one, or nothing at the end."""

    def rest(self) -> list[memoryview]:
        """What has arrived and was not read, after a failure or in a bypass."""

    def comes_fast(self) -> bool:
        """Whether so much comes that :meth:`bypass` is worth while."""

    def bypass(self) -> Inlet | None:
        """Receive nothing more: the rest is to be taken out of what is returned; None where that cannot be."""

    def came(self) -> None:
        """Take account of what was taken out of it."""

    def stop(self) -> None:
        """Let nothing more be taken."""

    def go_on(self) -> None:
        """What is missing arrives here again."""

    def close(self) -> None:
        """All has been read, and nobody looks at it any more."""


Divert: TypeAlias = (
    "Callable[[ClientResponse, StreamReader, bytes, int, Buffers, Callable[[int], None] | None], Intake | None]"
)
"""Makes that, see :func:`aiodownload.intake.divert`."""


class Body:
    """The body of one answer as it is sent, within its limits.

    :param content: what aiohttp makes of it.
    :param flow: limits how fast it may come, and how slowly; None for no limit.
    """

    def __init__(self, content: StreamReader, flow: Flow | None = None) -> None:
        self.content = content
        self._flow = flow
        self._first = b""  # what has been taken out of the content, and not been read here yet

    def see_untouched(self) -> None:
        """See that nothing of it has been read by anybody else.

        :raises RuntimeError: if something has.
        """
        self._take()
        if getattr(self.content, "total_bytes", len(self._first)) != len(self._first):
            raise RuntimeError("a part of the body was read before super().on_success(); call that first")

    def intake(self, divert: Divert, response: ClientResponse, length: int, buffers: Buffers) -> Intake | None:
        """Let a body of ``length`` bytes, nothing of which is on its way to the file, come into ``buffers``.

        :returns: where it arrives; None if it is to be read here.
        """
        flow = self._flow
        if flow is not None and flow.limited:
            return None
        self._take()
        intake = divert(response, self.content, self._first, length, buffers, None if flow is None else flow.heard)
        if intake is not None:
            self._first = b""
        return intake

    def _take(self) -> None:
        """Take out what has come."""
        self._first += self.content.read_nowait()

    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self.content.at_eof() and not self._first

    def reader(self, *, large: bool = False) -> Read:
        """What reads at most so many bytes at a time, ``b""`` at the end.

        :param large: just as many as have arrived: to cut and to join them would be to copy them.
        """
        read: Read = self.content.read
        if large:
            self.content.set_read_chunk_size(AHEAD)
            read = self._arriving
        if self._first:
            read = partial(self._begin, read)
        return read if self._flow is None else partial(self._flow.read, read)

    async def _arriving(self, _: int) -> bytes:
        while True:
            chunk, _end = await self.content.readchunk()
            if chunk or self.content.at_eof():
                return chunk

    async def _begin(self, read: Read, size: int) -> bytes:
        if not self._first:
            return await read(size)
        data, self._first = self._first[:size], self._first[size:]
        return data


class Arriving:
    """A part of a large file as it arrives.

    :param body: has it.
    :param end: the place in the file of the byte after its last one.
    :param close: closes the answer, read to its end or not.
    """

    def __init__(self, body: Body, end: int, close: Callable[[], object]) -> None:
        self.end = end
        self.close = close
        self._read = body.reader(large=True)

    async def read(self) -> bytes:
        """The next bytes, ``b""`` at the end."""
        return await self._read(AHEAD)


class OtherContent:
    """A body without its content coding, or within its limits, with the reading methods of
    :class:`aiohttp.StreamReader`.
    """

    def __init__(self, sent: StreamReader, pieces: AsyncIterator[bytes]) -> None:
        # aiohttp tells a body that its connection broke by these two.
        self.exception = sent.exception
        self.set_exception = sent.set_exception
        self._pieces = pieces
        self._buffer = b""
        self._ended = False

    async def readany(self) -> bytes:
        """The next bytes, or ``b""`` at the end."""
        if self._buffer:
            taken, self._buffer = self._buffer, b""
            return taken
        piece = await anext(self._pieces, b"")
        self._ended = not piece
        return piece

    async def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes, all if negative, ``b""`` at the end."""
        if n < 0:
            return b"".join([piece async for piece in self.iter_any()])
        data = await self.readany()
        data, self._buffer = data[:n], data[n:]
        return data

    async def readexactly(self, n: int) -> bytes:
        """Just ``n`` bytes.

        :raises asyncio.IncompleteReadError: if there are fewer.
        """
        data = b""
        while len(data) < n:
            piece = await self.read(n - len(data))
            if not piece:
                raise asyncio.IncompleteReadError(data, n)
            data += piece
        return data

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Up to and with ``separator``, or what is left."""
        lines = b""
        while True:
            at = lines.find(separator)
            if at >= 0:
                end = at + len(separator)
                lines, self._buffer = lines[:end], lines[end:] + self._buffer
                return lines
            piece = await self.readany()
            if not piece:
                return lines
            lines += piece

    async def readline(self) -> bytes:
        """The next line, with its end, or ``b""``."""
        return await self.readuntil()

    async def readchunk(self) -> tuple[bytes, bool]:
        """The next bytes, and whether they end a chunk."""
        data = await self.readany()
        return data, bool(data)

    def at_eof(self) -> bool:
        """Whether the end was read."""
        return self._ended and not self._buffer

    def is_eof(self) -> bool:
        """Whether the end has come."""
        return self._ended

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        while piece := await self.readany():
            yield piece

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        """The same, each with whether it ends a chunk."""
        async for piece in self.iter_any():
            yield piece, True

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Pieces of at most ``n`` bytes."""
        while piece := await self.read(n):
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Line by line."""
        while line := await self.readline():
            yield line
