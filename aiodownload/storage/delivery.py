"""Delivery: how the body of one response becomes one whole file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..bundle import Verified
from ..errors import BodyError, TooLargeError
from .decoding import Decoder, codings, kept_as_sent
from .partial import PartialFile
from .workspace import Workspace

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader

    from ..bundle import AioDownloadBundle
    from .sink import Sink

__all__ = ["DecodedContent", "Delivery"]


class _Framing(NamedTuple):
    """How the end of a body is known (RFC 9112 section 6.3).

    :param length: bytes declared, or None.
    :param chunked: whether a last chunk marks the end.
    """

    length: int | None
    chunked: bool

    @classmethod
    def of(cls, response: ClientResponse) -> _Framing:
        headers = response.headers
        coding = headers.get("Transfer-Encoding")
        if coding is not None:  # it overrides Content-Length (RFC 9112 section 6.1)
            return cls(None, "chunked" in coding.lower())
        # aiohttp has refused what is no number, and two different ones.
        value = headers.get("Content-Length", "").partition(",")[0].strip()
        return cls(int(value) if value.isascii() and value.isdigit() else None, False)

    @property
    def proof(self) -> Verified:
        if self.length is not None:
            return Verified.LENGTH
        return Verified.FRAMING if self.chunked else Verified.NONE


class Delivery:
    """What the attempt and ``on_success`` share while one response is in hand.

    :param workspace: threads, home, places.
    :param bundle: whose file it is; ``size`` and ``verified`` are set on it.
    :param response: the response whose body it is.
    :param received: called when the last byte is in: the server is free, though the disk has work to do.
    """

    def __init__(
        self,
        workspace: Workspace,
        bundle: AioDownloadBundle,
        response: ClientResponse,
        received: Callable[[], None] = lambda: None,
    ) -> None:
        self._received = received
        self._workspace = workspace
        self._bundle = bundle
        self._response = response
        self._content = response.content
        self._framing = _Framing.of(response)

    def decode_for_override(self) -> None:
        """Give ``response.content`` without its coding to an ``on_success`` that reads it by itself.

        Identity is asked for and nearly always sent; this is for servers that store their files encoded.
        :meth:`receive` goes on to read the body as sent.

        :raises CodingError: for a coding that cannot be taken off.
        """
        names = codings(self._response.headers.getall("Content-Encoding", ()))
        if names:
            content = DecodedContent(self._content, self._chunks(1 << 16), self._decoder(names))
            self._response.content = content  # type: ignore[assignment]

    def close(self) -> None:
        """Give the response its own content back."""
        self._response.content = self._content

    async def receive(self) -> None:
        """Read the body, store it, prove it whole, and publish it.

        :raises DownloadError: if it is not whole, too large, or cannot be stored; the final path is then as it
            was.  Errors of the transport come as aiohttp raises them.
        """
        bundle, strategy = self._bundle, self._workspace.strategy
        limit, declared = strategy.max_bytes, self._framing.length
        if limit is not None and declared is not None and declared > limit:
            raise TooLargeError(declared, limit)
        home = self._workspace.opened or await self._workspace.home()
        path = bundle.file_path or ""
        sink = PartialFile(self._workspace.disk, path, home.mode)
        try:
            decoder = self._coding(path)
            if decoder is None:
                await self._pour(sink, strategy.chunk_size, limit)
            else:
                await self._decode(sink, strategy.chunk_size, decoder)
            bundle.size = await sink.commit()
        except BaseException:
            await sink.abandon()
            raise
        bundle.verified = self._framing.proof

    def _coding(self, path: str) -> Decoder | None:
        headers = self._response.headers
        if "Content-Encoding" not in headers:
            return None
        names = codings(headers.getall("Content-Encoding"))
        if not names or kept_as_sent(path, headers.get("Content-Type", "")):
            return None
        return self._decoder(names)

    def _decoder(self, names: tuple[str, ...]) -> Decoder:
        strategy = self._workspace.strategy
        return Decoder(names, strategy.max_bytes, strategy.max_ratio)

    async def _pour(self, sink: Sink, chunk_size: int, limit: int | None) -> None:
        received = 0
        read = self._content.read
        while chunk := await read(chunk_size):
            received += len(chunk)
            if limit is not None and received > limit:
                raise TooLargeError(received, limit)
            await sink.write(chunk)
        self._all_received(received)

    async def _decode(self, sink: Sink, chunk_size: int, decoder: Decoder) -> None:
        async for chunk in self._chunks(chunk_size):
            for data in decoder.feed(chunk):
                await sink.write(data)
        decoder.finish()

    async def _chunks(self, chunk_size: int) -> AsyncIterator[bytes]:
        """The body as sent, in chunks of at most ``chunk_size`` bytes."""
        received = 0
        while chunk := await self._content.read(chunk_size):
            received += len(chunk)
            yield chunk
        self._all_received(received)

    def _all_received(self, received: int) -> None:
        """The end has come: compare with the declared length, and let the server go."""
        total = getattr(self._content, "total_bytes", received)
        if isinstance(total, int) and received < total:
            raise RuntimeError("a part of the body was read before super().on_success(); call that first")
        declared = self._framing.length
        if declared is not None and received != declared:
            raise BodyError(f"the body ended after {received} of {declared} bytes")
        self._received()


class DecodedContent:
    """A body without its content coding, with the reading methods of :class:`aiohttp.StreamReader`."""

    def __init__(self, sent: StreamReader, chunks: AsyncIterator[bytes], decoder: Decoder) -> None:
        # aiohttp tells a body that its connection broke by these two.
        self.exception = sent.exception
        self.set_exception = sent.set_exception
        self._pieces = self._decoded(chunks, decoder)
        self._buffer = b""

    async def _decoded(self, chunks: AsyncIterator[bytes], decoder: Decoder) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            pieces: Iterable[bytes] = decoder.feed(chunk)
            for piece in pieces:
                yield piece
        decoder.finish()

    async def readany(self) -> bytes:
        """The next bytes, or ``b""`` at the end."""
        if self._buffer:
            taken, self._buffer = self._buffer, b""
            return taken
        return await anext(self._pieces, b"")

    async def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes, all if negative, ``b""`` at the end."""
        if n < 0:
            return b"".join([piece async for piece in self.iter_any()])
        data = await self.readany()
        data, self._buffer = data[:n], data[n:]
        return data

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        while piece := await self.readany():
            yield piece

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Pieces of at most ``n`` bytes."""
        while piece := await self.read(n):
            yield piece
