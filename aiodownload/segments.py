"""Segments: several parts of one large file at once, each by a request of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from .errors import BodyError, DiskError, DownloadError, TransportError
from .transport import TRANSPORT_ERRORS

if TYPE_CHECKING:
    from .permit import Permit
    from .storage.content import Arriving
    from .storage.partial import PartialFile

__all__ = ["LEAST", "Refused", "Segments"]

LEAST = 4 << 20  # bytes of a segment for which a request, and perhaps a connection, is worth while
BATCH = 1 << 20  # bytes that are collected before a trip to the disk
SHORT = 1 << 16  # bytes that a part must have, if so many were asked for
EDGE = 1 << 16  # segments begin at multiples of so many bytes


class Refused(Exception):  # noqa: N818 (no error: the file is had without it)
    """The server does not give that part, or gives another file's: no further parts are asked for."""


class _Stream:
    """One answer that is being read.

    :param at: the place of the next byte.
    :param end: where another one goes on.
    :param has: where the answer itself ends.
    """

    __slots__ = ("at", "end", "has")

    def __init__(self, at: int, end: int, has: int) -> None:
        self.at = at
        self.end = end
        self.has = has

    @property
    def left(self) -> int:
        return max(0, self.end - self.at)


class Segments:
    """Fetches what is missing of one file with up to ``count`` requests at once.

    The first answer, which has shown that there is something to be divided, is read from its beginning on.  Each
    further request takes over the second half of what is farthest from its end, and so again once it is done: whoever
    is quick does more, and nobody waits for the slowest.  A part that fails goes back to whoever reads up to it, or to
    whoever is done next.  All parts are of one strong ETag and one length (RFC 9110 section 15.3.7.3).

    :param count: requests at once, the first one included (int >= 1).
    :param sink: takes the bytes, and knows which are missing.
    :param ask: asks for the bytes from the first up to the end (exclusive), with a permit that has its turn; raises
        :class:`Refused`.
    :param pace: waits until a permit has its turn.
    :param permit: of the first request; further ones have their own, so that they count in all limits.
    """

    def __init__(
        self,
        count: int,
        sink: PartialFile,
        ask: Callable[[int, int, Permit], Awaitable[Arriving]],
        pace: Callable[[Permit], Awaitable[None]],
        permit: Permit,
    ) -> None:
        self._count = count
        self._sink = sink
        self._ask = ask
        self._pace = pace
        self._permit = permit
        self._streams: list[_Stream] = []
        self._own: _Stream | None = None
        self._gaps = list(sink.gaps)
        self._alone = count == 1  # whether nothing is divided any more
        self._error: BaseException | None = None  # of the first answer, if it has one; else the first one
        self.refused = False  # whether the server has not given a part that it could have given

    async def fill(self, first: Arriving, at: int) -> None:
        """Fetch all that is missing.

        :param first: the answer that is there; it begins with byte ``at``, the first one that is missing.
        :raises DownloadError: if something is still missing in the end; what has come is in the sink.
        """
        gap = self._gaps.pop(0)
        self._give_back(first.end, gap[1])
        self._own = _Stream(at, min(gap[1], first.end), first.end)
        tasks = {asyncio.ensure_future(self._first(first, self._own))}
        tasks |= {asyncio.ensure_future(self._further(self._permit.another())) for _ in range(self._count - 1)}
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if failures := _failures(done):
                    raise failures[0]
                if not self._gaps and not self._streams:
                    break
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                _failures((await asyncio.wait(tasks))[0])
        if self._sink.gaps:
            raise self._error or BodyError("the server sent less than the whole file")

    async def _first(self, answer: Arriving, stream: _Stream) -> None:
        whole = await self._read(answer, stream)
        await _closed(answer)
        self._permit.free()  # in any case: others may wait for it
        if whole:
            await self._further(self._permit.another())

    async def _further(self, permit: Permit) -> None:
        try:
            await self._go_on(permit)
        finally:
            permit.free()

    async def _go_on(self, permit: Permit) -> None:
        """Take over a part, fetch it, and so on while there is one."""
        while self._worth_while():
            try:
                await self._pace(permit)
            except DownloadError as error:  # its host is not asked for now
                self._error = self._error or error
                break
            stream = self._take()
            if stream is None:
                break
            try:
                answer = await self._asked(stream, permit)
            except Refused as refusal:
                self._alone = self.refused = True
                self._fail(stream, BodyError(f"the file cannot be had in parts: {refusal}"))
                break
            except TransportError as error:
                self._fail(stream, error)
                break
            except BaseException:
                self._streams.remove(stream)
                raise
            try:
                if not await self._read(answer, stream):
                    break
            finally:
                await _closed(answer)

    async def _asked(self, stream: _Stream, permit: Permit) -> Arriving:
        """Ask for what ``stream`` is to have.

        :raises Refused: if that is not to be had by itself.
        :raises TransportError: if there is no answer now.
        """
        try:
            answer = await self._ask(stream.at, stream.end, permit)
        except DownloadError as error:
            if getattr(error, "transient", False):
                raise
            raise Refused(str(error)) from error
        if answer.end - stream.at < min(SHORT, stream.left):  # a request for each of these would be a flood
            answer.close()
            raise Refused(f"a part of {answer.end - stream.at} bytes came where {stream.left} were asked for")
        stream.has = answer.end
        if answer.end < stream.end:
            self._give_back(answer.end, stream.end)
            stream.end = answer.end
        return answer

    def _worth_while(self) -> bool:
        return bool(self._gaps) or (not self._alone and any(stream.left >= 2 * LEAST for stream in self._streams))

    def _take(self) -> _Stream | None:
        """What the next request is to be for: a part that nobody fetches, or half of the largest one."""
        if self._gaps:
            first, end = self._gaps.pop(0)
            stream = _Stream(first, end, end)
        else:
            largest = max(self._streams, key=lambda stream: stream.left, default=None)
            if self._alone or largest is None or largest.left < 2 * LEAST:
                return None
            middle = (largest.at + largest.left // 2) // EDGE * EDGE
            stream = _Stream(middle, largest.end, largest.end)
            largest.end = middle
        self._streams.append(stream)
        return stream

    def _fail(self, stream: _Stream, error: BaseException) -> None:
        """What is left of a stream is somebody else's."""
        if self._error is None or stream is self._own:
            self._error = error
        if stream in self._streams:
            self._streams.remove(stream)
        self._give_back(stream.at, stream.end)

    def _give_back(self, first: int, end: int) -> None:
        """Let whoever reads up to there read on, if it can; if not, it is for whoever is done next."""
        if first < end:
            self._gaps = sorted([*self._gaps, (first, end)])
        for stream in self._streams:
            while stream.has > stream.end and (gap := next((one for one in self._gaps if one[0] == stream.end), None)):
                self._gaps.remove(gap)
                stream.end = min(gap[1], stream.has)
                if stream.end < gap[1]:
                    self._gaps = sorted([*self._gaps, (stream.end, gap[1])])

    async def _read(self, answer: Arriving, stream: _Stream) -> bool:
        """Read ``stream`` up to its end, which may come nearer meanwhile; whether it was reached."""
        if stream not in self._streams:
            self._streams.append(stream)
        pen = _Pen(self._sink, stream.at)
        error: BaseException | None = None
        arrived = b""
        try:
            while stream.left:
                arrived = arrived or await answer.read()
                if not arrived:
                    error = BodyError(f"the body ended at byte {stream.at} of {stream.end}")
                    break
                # The end may be put off again while these are written: what is beyond it now is next then.
                data, arrived = arrived[: stream.left], arrived[stream.left :]
                stream.at += len(data)
                await pen.write(data)
        except (DownloadError, *TRANSPORT_ERRORS) as broken:
            error = broken
        finally:
            pen.lift()
        stream.has = stream.end  # nothing more is read
        if isinstance(error, DiskError):
            raise error
        await pen.flush()
        if error is not None:
            self._fail(stream, error)
            return False
        self._streams.remove(stream)
        return True


def _failures(done: Iterable[asyncio.Task[None]]) -> list[BaseException]:
    """What these tasks have failed by; to ask each of them is to have asked all."""
    errors = [task.exception() for task in done if not task.cancelled()]
    return [error for error in errors if error is not None]


async def _closed(answer: Arriving) -> None:
    """Close an answer, and let its connection be closed before another request takes its slot."""
    answer.close()
    await asyncio.sleep(0)


class _Pen:
    """Brings what comes in to its place; a batch goes to the disk while the next is being received.

    :param sink: where to.
    :param at: the place of the first byte.
    """

    def __init__(self, sink: PartialFile, at: int) -> None:
        self._sink = sink
        self._at = at
        self._batch: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        """Take the next bytes.

        :raises DiskError: if earlier ones could not be stored.
        """
        self._batch.append(data)
        self._size += len(data)
        if self._size >= BATCH:
            await self._arrived()
            self._writing = asyncio.ensure_future(self._set_out())

    async def flush(self) -> None:
        """Wait until everything is at its place.

        :raises DiskError: if it cannot be stored.
        """
        await self._arrived()
        if self._batch:
            await self._set_out()

    def lift(self) -> None:
        """Nobody may wait for what is under way any more: what becomes of it is not to be complained of."""
        if self._writing is not None:
            self._writing.add_done_callback(lambda writing: writing.cancelled() or writing.exception())

    async def _arrived(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def _set_out(self) -> Awaitable[None]:
        at, batch = self._at, self._batch
        self._at, self._batch, self._size = at + self._size, [], 0
        return self._sink.place(at, batch)
