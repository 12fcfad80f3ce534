"""Handler: the protocol of one connection, which sees by itself that the server goes on sending."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import SocketTimeoutError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

if TYPE_CHECKING:
    from aiohttp import StreamReader

__all__ = ["HEAD_TIMEOUTS", "HeadTimeoutError", "StandIn", "WatchedHandler"]

_CANNOT_PAUSE = (AttributeError, NotImplementedError, RuntimeError)  # what a transport may say to that
HEAD_TIMEOUTS = 10  # timeouts that a head may take in all: a server that drips it, or says 102 for ever, holds a slot


class HeadTimeoutError(SocketTimeoutError):
    """The head of an answer does not come to its end."""


class StandIn(asyncio.BufferedProtocol):
    """Gets what arrives for a handler, see :meth:`WatchedHandler.divert`."""

    def fail(self, error: BaseException) -> None:
        """Nothing more will arrive."""
        raise NotImplementedError


class WatchedHandler(ResponseHandler):
    """aiohttp's handler, with one timer for as long as the connection is busy.

    aiohttp sets and cancels a timer for each request and again for each piece that arrives, which for small bodies is
    a good part of all that is done.  Here a point in time is noted instead, and the timer looks at it when it is due.
    The names with an underscore are aiohttp's; where another version does not have them, its own timers do the work.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._quiet_since: float | None = None
        self._asked_at: float | None = None  # since when, while the head of an answer is to come
        self._sent = False  # whether the whole request was
        self._look_out: asyncio.TimerHandle | None = None
        self._params: dict[str, Any] = {}
        self._begun = b""  # what has come while the head of an answer is to come
        self._stand_in: StandIn | None = None

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent."""
        self._params, self._begun = params, b""
        self._asked_at = self._loop.time()
        self._sent = False
        super().set_response_params(**params)
        self._watch()

    def start_timeout(self) -> None:
        """It has been sent."""
        self._sent = True
        self._quiet_since = now = self._loop.time()
        if self._asked_at is not None:
            self._asked_at = now
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Something has arrived."""
        if self._asked_at is not None:
            self._begun = self._begun + data if self._begun else data
        super().data_received(data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """There is room again.  A body says so with each read, also if nothing was held back for want of it."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head has come; one with a 1xx is not yet the answer."""
        if data[0].code >= 200:
            self._asked_at = None
            self._begun = b""
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """What has arrived is no HTTP, or the connection has ended."""
        if not (isinstance(exc, HttpProcessingError) and self._asked_at is not None and self._answered()):
            super().set_exception(exc, *cause)
            if self._stand_in is not None:
                self._stand_in.fail(exc)

    def is_receiving(self, content: StreamReader) -> bool:
        """Whether the rest of just this body is what will arrive next."""
        return (
            self.transport is not None
            and not self.transport.is_closing()
            and self._payload is content
            and self._exception is None
            and not (content.is_eof() or self._reading_paused or self._buffer_paused or self._tail)
        )

    def divert(self, stand_in: StandIn) -> None:
        """Let ``stand_in`` have what arrives, until :meth:`complete`."""
        if self.transport is None:
            raise RuntimeError("the connection is gone")
        self._stand_in = stand_in
        self.transport.set_protocol(stand_in)

    def complete(self, content: StreamReader) -> None:
        """The body has come by the stand-in: the connection is free for the next request, or is closed."""
        self._stand_in = self._parser = None  # that has seen but its beginning; the next request brings another
        if self.transport is not None:
            self.transport.set_protocol(self)
            self.go_on()  # if it was held
        content.feed_eof()

    def arrived(self) -> None:
        """The stand-in has got something."""
        self._reschedule_timeout()

    def hold(self) -> None:
        """The stand-in has no room: the server is to wait, which is not held against it."""
        if self.transport is not None:
            with contextlib.suppress(*_CANNOT_PAUSE):
                self.transport.pause_reading()
        self._drop_timeout()

    def go_on(self) -> None:
        """It has room again."""
        if self.transport is not None:
            with contextlib.suppress(*_CANNOT_PAUSE):
                self.transport.resume_reading()
        self._reschedule_timeout()

    def _answered(self) -> bool:
        """Whether there was an answer of a declared length all the same, and what is no HTTP came only after it.

        Just that many bytes are its body, and the connection is not used again (RFC 9112 sections 6.3 and 9.2).
        aiohttp gives up all that has arrived at once.
        """
        begun, self._begun = self._begun, b""
        head, end, rest = begun.partition(b"\r\n\r\n")
        super().set_response_params(**self._params)
        parser = self._parser
        if parser is None:
            return False
        try:
            messages, upgraded, _ = parser.feed_data(head + end)
            if len(messages) != 1 or upgraded:
                return False
            (message, payload) = messages[0]
            length = message.headers.get("Content-Length", "")
            if message.code < 200 or "Transfer-Encoding" in message.headers or not length.isdigit() or len(length) > 19:
                return False
            if len(rest) < int(length):
                return False
            parser.feed_data(rest[: int(length)])
        except HttpProcessingError:
            return False
        self._should_close = True
        self._payload = payload
        self.feed_data((message, payload), 0)
        return True

    def close(self) -> None:
        """The connection is not wanted any more.

        Over TLS the other end is told so, but not waited for (RFC 9112 section 9.8): if it does not answer, that would
        take half a minute, in which all comes in that it goes on to send.
        """
        transport = self.transport
        super().close()
        if transport is not None and transport.get_extra_info("sslcontext") is not None:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing more to look out for."""
        if self._stand_in is not None:
            self._stand_in = self._parser = None
        super().connection_lost(exc)
        if self._look_out is not None:
            self._look_out.cancel()
            self._look_out = None

    def _reschedule_timeout(self) -> None:
        """Something was sent or has arrived."""
        if self._sent or self._asked_at is None:  # until then it is for us to go on
            self._quiet_since = self._loop.time()
            self._watch()

    def _drop_timeout(self) -> None:
        """The server need not send anything now; it must after a 1xx, though aiohttp takes that for an answer."""
        if self._asked_at is None:
            self._quiet_since = None

    def _watch(self) -> None:
        if self._look_out is None and self._read_timeout:
            self._look_out = self._loop.call_later(self._read_timeout, self._look)

    def _look(self) -> None:
        self._look_out = None
        timeout = self._read_timeout
        if not timeout or self.transport is None:
            return
        now, asked, quiet = self._loop.time(), self._asked_at, self._quiet_since
        if asked is not None and now >= asked + HEAD_TIMEOUTS * timeout:
            self.set_exception(HeadTimeoutError())
            return
        if asked is None and (quiet is None or self._is_whole()):
            self._quiet_since = None
            return
        left = timeout if quiet is None else quiet + timeout - now
        if left <= 0:
            self._on_read_timeout()
        else:
            self._look_out = self._loop.call_later(left, self._look)

    def _is_whole(self) -> bool:
        """Whether all of the body has arrived; aiohttp goes on to wait when somebody has made room for more."""
        return self._payload is None or self._payload.is_eof()
