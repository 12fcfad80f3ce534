"""Delivery: how the body of one response becomes one whole file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from ..bundle import Verified
from ..checksums import Digest, Hasher
from ..entries import FileState, Publication, Row
from ..errors import (
    BodyError,
    DigestError,
    DownloadError,
    LowSpeedError,
    ProtocolError,
    TooLargeError,
    TransportError,
)
from .content import Arriving, Body, Divert, Flow, Intake, OtherContent
from .decoding import Decoder, codings, kept_as_sent
from .digests import NAMES, from_headers
from .disposition import modified, suggestion
from .kept import Origin
from .partial import BATCH, PartialFile
from .paths import suggested
from .publishing import Publishing
from .record import identity
from .workspace import Workspace

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from ..bundle import AioDownloadBundle
    from .sink import Sink

__all__ = ["Delivery", "Divide", "Fill", "Framing"]


class Fill(Protocol):
    """Fetches what is missing of a file by several requests."""

    refused: bool
    """Whether the server has not given a part that it could have given."""

    async def fill(self, first: Arriving, at: int) -> None:
        """Fetch it all; ``first`` is the answer that is there, which begins at byte ``at``."""


Divide: TypeAlias = Callable[[PartialFile, Origin], Fill]
"""Makes that, of the partial file and what it is of."""

# Bytes of a file from which on it is divided, if that is wanted.
LARGE = 1 << 23
# Bytes of a part that is shorter than what was asked for, from which on it is a server's way of serving large files
# (RFC 9110 section 15.3.7) and no failure.
WORTHWHILE = 1 << 16
TRIP = 1 << 25  # bytes that a thread takes out of a connection before the event loop is told
PORTION = 1 << 16  # bytes of chunk_size from which on a large body is taken as it arrives
_ANNOUNCED = frozenset(NAMES)


class Framing(NamedTuple):
    """How the end of a body is known (RFC 9112 section 6.3).

    :param length: bytes declared, or None.
    :param chunked: whether a last chunk marks the end.
    """

    length: int | None
    chunked: bool

    @classmethod
    def of(cls, response: ClientResponse) -> Framing:
        """What the head says of it."""
        headers = response.headers
        if "Transfer-Encoding" in headers:  # it overrides Content-Length (RFC 9112 section 6.1)
            coding = ",".join(headers.getall("Transfer-Encoding"))
            return cls(None, coding.strip(" \t").lower() == "chunked")
        # aiohttp has refused what is no number, and two different ones.
        value = headers.get("Content-Length", "").partition(",")[0].strip()
        return cls(int(value) if value.isascii() and value.isdigit() else None, False)

    @property
    def proof(self) -> Verified:
        """What such an end proves."""
        if self.length is not None:
            return Verified.LENGTH
        return Verified.FRAMING if self.chunked else Verified.NONE


class Delivery:
    """What the attempt and ``on_success`` share while one response is in hand.

    :param workspace: threads, home, places.
    :param bundle: whose file it is; ``size`` and ``verified`` are set on it.
    :param response: the response whose body it is.
    :param received: called when the last byte is in: the server is free, though the disk has work to do.
    :param framing: how the end of the body is known; None: as its head says.
    :param validator: the strong ETag of the whole file (str), or None.
    :param held: the beginning of the file, if the body is what follows.
    :param own: whether the response is one of the bundle's own URL, and not of a mirror (bool).
    :param flow: limits how fast the body may come, and how slowly; None for no limit.
    :param divide: fetches a large file in several parts, and one of which several parts are missing; None: neither.
    :param untouched: whether nobody else can have read of the body (bool).
    :param divert: lets a large body come into buffers; None: it has to be read from the response.
    """

    def __init__(
        self,
        workspace: Workspace,
        bundle: AioDownloadBundle,
        response: ClientResponse,
        received: Callable[[], None] = lambda: None,
        *,
        framing: Framing | None = None,
        validator: str | None = None,
        held: PartialFile | None = None,
        own: bool = True,
        flow: Flow | None = None,
        divide: Divide | None = None,
        untouched: bool = False,
        divert: Divert | None = None,
    ) -> None:
        self._divert = divert
        self._intake: Intake | None = None
        self._limited = flow is not None
        self._divide = divide
        self._received = received
        self._own = own
        self.stopped_short = False  # the body was whole, but it was not all that was asked for
        self._expected: tuple[Digest, ...] = ()
        self._as_sent: Hasher | None = None
        self._validator = validator
        self._held = held
        self._workspace = workspace
        self._bundle = bundle
        self._response = response
        self._content = response.content
        self._untouched = untouched
        self._body = Body(self._content, flow)
        self._worth_keeping = False
        self._framing = framing or Framing.of(response)

    def decode_for_override(self) -> None:
        """Give ``response.content`` without its coding to an ``on_success`` that reads it by itself.

        Identity is asked for and nearly always sent; this is for servers that store their files encoded.
        :meth:`receive` goes on to read the body as sent.

        :raises CodingError: for a coding that cannot be taken off.
        """
        names = codings(self._response.headers.getall("Content-Encoding", ()))
        if names or self._limited:
            chunks = self._chunks(1 << 16)
            pieces = _decoded(chunks, self._decoder(names)) if names else chunks
            self._response.content = OtherContent(self._content, pieces)  # type: ignore[assignment]

    def close(self) -> None:
        """Give the response its own content back."""
        self._response.content = self._content

    async def receive(self, *, wait: bool = True) -> Publishing | None:
        """Read the body, store it, prove it whole, and publish it.

        :param wait: until the file has its name.
        :returns: what is to be waited for, if ``wait`` is False and it has not got it yet; else None.
        :raises DownloadError: if it is not whole, too large, or cannot be stored; the final path is then as it
            was.  Errors of the transport come as aiohttp raises them.
        """
        bundle, strategy = self._bundle, self._workspace.strategy
        limit, total = strategy.max_bytes, self._total
        if limit is not None and total is not None and total > limit:
            raise TooLargeError(total, limit)
        if not self._untouched:
            self._body.see_untouched()
        own = bundle.file_path or ""
        sink = self._held or await self._new_sink(own)
        try:
            path = self._appearance(sink, own)
            decoder = self._coding(path)
            self._expect(sink, decoded=decoder is not None)
            proof = self._proof()
            if sink.labelled:
                self._label(sink, path, proof, total if decoder is None else None)
            await self._read(sink, decoder)
            self._see_whole(sink, total if decoder is None else None)
            if bundle._publishing is not None:
                _announce(sink, bundle._publishing, self._publication(path, proof))
            publishing = Publishing(bundle, sink, proof)
            if not sink.hand_in(publishing.tell):
                bundle.verified = proof  # an archive keeps account of it
                publishing.tell(await sink.commit(), None)
                if self._intake is not None:
                    self._intake.close()
            elif wait:
                await publishing.finish()
            else:
                return publishing
        except BaseException as error:
            bundle.verified = Verified.NONE
            bundle._mismatched |= isinstance(error, DigestError)
            # What has come in over a connection that broke is as good as what went before.
            keep = not isinstance(error, DownloadError) or isinstance(error, (BodyError, LowSpeedError))
            keep = (keep or self._worth_keeping) and not (self._intake is not None and self._intake.strayed)
            if await sink.abandon(keep=keep):
                self._workspace.kept(bundle)
            raise
        return None

    def _proof(self) -> Verified:
        """What is going to prove the whole."""
        proof = Verified.DIGEST if any(one.proves for one in self._expected) else self._framing.proof
        if proof is Verified.NONE and self._workspace.strategy.strict:
            raise BodyError("nothing says where the body ends, and strict=True keeps no such file", False)
        return proof

    def _see_whole(self, sink: Sink, total: int | None) -> None:
        """See that nothing is missing."""
        if total is not None and sink.size < total:
            self.stopped_short = (self._framing.length or 0) >= WORTHWHILE
            raise BodyError(f"the server sent the part up to byte {sink.size} of {total}")
        if self._as_sent is not None:
            self._as_sent.verify(transient=not self._bundle._mismatched)

    def _label(self, sink: Sink, path: str, proof: Verified, length: int | None) -> None:
        sink.label(self._publication(path, proof), self._response.headers.get("Content-Type", ""), length)

    async def _read(self, sink: Sink, decoder: Decoder | None) -> None:
        if decoder is not None:
            await self._decode(sink, decoder)
        elif self._divide is None or sink.origin is None or not isinstance(sink, PartialFile):
            await self._pour(sink)
        elif self._is_divisible(sink, sink.origin):
            await self._fill(sink.gaps[0][0], self._divide(sink, sink.origin))
        else:
            await self._pour(sink)

    def _appearance(self, sink: Sink, path: str) -> str:
        """Let the file take from the server what the strategy wants of it; return its final path."""
        strategy, headers = self._workspace.strategy, self._response.headers
        name = suggestion(headers) if strategy.content_disposition and self._bundle._given_path is None else None
        if name is not None:
            own = os.path.basename(path)
            path = path.removesuffix(own) + suggested(own, name)
        date = modified(headers) if strategy.remote_time else None
        if name is not None or date is not None:
            sink.finish_as(path, date)
        return path

    def _publication(self, path: str, proof: Verified) -> Publication:
        """What the journal is to know of the file, but for its state on the disk."""
        headers = self._response.headers
        etag, date = headers.get("ETag"), headers.get("Last-Modified")
        if self._bundle.params or not self._own:
            # The answer to a form is not asked for again on a condition, and what a mirror calls its copy, or when it
            # was made, says nothing about what the bundle's own URL has.
            etag = date = None
        # What a server announces of a body that is decoded says nothing about the file.
        checked = self._expected if self._as_sent is None else self._bundle._digests
        proven = tuple(f"{one.algorithm}:{one.value.hex()}" for one in checked if one.proves)
        return Publication(path, FileState(0, 0, 0), etag, date, proof.name, proven)

    def _expect(self, sink: Sink, *, decoded: bool) -> None:
        """Take in what the bytes must come to: the caller speaks of the file, the server of what it sends."""
        headers, given = self._response.headers, self._bundle._digests
        announced = from_headers(headers, whole=self._held is None) if _ANNOUNCED.intersection(headers) else ()
        self._expected = (*given, *announced)
        if decoded and announced:
            self._as_sent = Hasher(announced)
            announced = ()
        if given or announced:
            sink.expect(Hasher((*given, *announced)), transient=not self._bundle._mismatched)

    @property
    def _total(self) -> int | None:
        """Bytes of the whole file as sent, if that is known."""
        origin = self._held.held if self._held is not None else None
        return self._framing.length if origin is None else origin.total

    async def _new_sink(self, path: str) -> Sink:
        if self._workspace.opened is None:
            await self._workspace.home()
        sink = self._workspace.sink(path, self._bundle)
        length = self._framing.length
        if self._validator is not None and length is not None and length > BATCH and not self._bundle.params:
            headers = self._response.headers
            if "Content-Encoding" not in headers and headers.get("Accept-Ranges", "").strip().lower() != "none":
                sink.keep(Origin(identity(str(self._bundle._parse())), self._validator, length))
        return sink

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

    async def _pour(self, sink: Sink) -> None:
        received = 0
        limit, chunk_size = self._workspace.strategy.max_bytes, self._workspace.strategy.chunk_size
        at_end, declared = self._body.at_end, self._framing.length
        as_it_comes = chunk_size >= PORTION
        if as_it_comes and declared is not None and declared > PORTION and isinstance(sink, PartialFile):
            intake = self._direct(declared)
            if intake is not None:
                await self._take_in(sink, intake)
                return
        read = self._body.reader(large=(declared or 0) > BATCH and as_it_comes)
        while chunk := await read(chunk_size):
            received += len(chunk)
            if limit is not None and received > limit:
                raise TooLargeError(received, limit)
            if declared is not None and received > declared:
                raise ProtocolError(f"the part has more than the {declared} bytes that its Content-Range names")
            await sink.write(chunk)
            if at_end():  # a small body has come with its head
                break
        self._all_received(received)

    def _direct(self, length: int) -> Intake | None:
        """Where a body of ``length`` bytes comes in without a detour; None if it has to be read."""
        framing = Framing.of(self._response)
        if self._divert is None or framing.chunked or framing.length != length:
            return None
        self._intake = self._body.intake(self._divert, self._response, length, self._workspace.buffers)
        return self._intake

    async def _take_in(self, sink: PartialFile, intake: Intake) -> None:
        """Receive a body in buffers: while one is written, the next one is filled."""
        received = 0
        try:
            while data := await intake.read():
                received += len(data)
                if intake.left:
                    await sink.store(data)
                else:
                    sink.take(data)  # it makes one trip with the publication
                if intake.comes_fast():
                    received += await self._drain(sink, intake)
        except BaseException:
            for data in intake.rest():
                sink.take(data)
            raise
        self._all_received(received)

    async def _drain(self, sink: PartialFile, intake: Intake) -> int:
        """Let the disk thread take what comes so fast out of the connection by itself; return how many bytes came."""
        inlet = intake.bypass()
        if inlet is None:
            return 0
        before = sink.size
        try:
            if views := intake.rest():
                for data in views[:-1]:
                    sink.take(data)  # all of it before the first wait, which may be the last
                await sink.store(views[-1])
            while intake.left:
                most = min(intake.left, TRIP)
                count = await sink.drain(inlet, most)
                intake.came()
                if count < most:
                    break
        finally:
            intake.stop()
        intake.go_on()
        return sink.size - before

    def _is_divisible(self, sink: PartialFile, origin: Origin) -> bool:
        """Whether there are parts to be had, and it is worth while; or what is missing does not reach to the end."""
        missing = sink.gaps
        if len(missing) > 1 or missing[0][1] < origin.total:
            return True
        if self._workspace.strategy.segments == 1 or not self._bundle._divisible:
            return False
        ranges = self._held is not None or self._response.headers.get("Accept-Ranges", "").strip().lower() == "bytes"
        return ranges and origin.total - missing[0][0] >= LARGE

    async def _fill(self, at: int, parts: Fill) -> None:
        try:
            await parts.fill(Arriving(self._body, at + (self._framing.length or 0), self._response.close), at)
        except TransportError:
            self._worth_keeping = True  # it is a single part that is not there
            raise
        finally:
            self._bundle._divisible &= not parts.refused
        self._received()

    async def _decode(self, sink: Sink, decoder: Decoder) -> None:
        async for chunk in self._chunks(self._workspace.strategy.chunk_size):
            for data in decoder.feed(chunk):
                await sink.write(data)
        decoder.finish()

    async def _chunks(self, chunk_size: int) -> AsyncIterator[bytes]:
        """The body as sent, in chunks of at most ``chunk_size`` bytes."""
        received, read = 0, self._body.reader()
        while chunk := await read(chunk_size):
            received += len(chunk)
            if self._as_sent is not None:
                self._as_sent.update(chunk)
            yield chunk
        self._all_received(received)

    def _all_received(self, received: int) -> None:
        """The end has come: compare with the declared length, and let the server go."""
        declared = self._framing.length
        if declared is not None and received != declared:
            raise BodyError(f"the body ended after {received} of {declared} bytes")
        if self._held is None or self._held.size >= (self._total or 0):
            self._received()


def _announce(sink: Sink, row: Row, what: Publication) -> None:
    """Let the journal be told of ``what`` when its path and its state are known."""

    def note(path: str, file: FileState) -> None:
        row.note(what._replace(path=path, file=file))

    def soon(path: str, file: FileState, then: Callable[[Exception | None], object]) -> None:
        if row.note_soon is not None:
            row.note_soon(what._replace(path=path, file=file), then)

    sink.announce(note, None if row.note_soon is None else soon)


async def _decoded(chunks: AsyncIterator[bytes], decoder: Decoder) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        pieces: Iterable[bytes] = decoder.feed(chunk)
        for piece in pieces:
            yield piece
    decoder.finish()
