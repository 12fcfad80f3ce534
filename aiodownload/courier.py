"""Courier: plain requests, all of whose fields are the same from one to the next."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import TimerNoop
from multidict import CIMultiDictProxy
from yarl import URL

__all__ = ["Courier", "courier_of"]

ORIGINS = 1024  # whose heads are remembered

# How aiohttp makes an answer, what it calls the parts of a request, and what it tells a connection of the next answer.
_ANSWER = {"writer", "continue100", "timer", "request_info", "traces", "loop", "session", "stream_writer"}
_REQUEST = ("url", "method", "headers", "real_url")
_PARAMETERS = {"timer", "read_until_eof", "auto_decompress", "read_timeout"}

_NO_TIMER = TimerNoop()  # the connection has one


class _Origin(NamedTuple):
    """What all plain requests to one origin have in common.

    :param request: as aiohttp makes it.
    :param headers: its fields.
    :param head: the same as they are sent, after the first line.
    """

    request: aiohttp.ClientRequest
    headers: CIMultiDictProxy[str]
    head: str


class _Sent(NamedTuple):
    """What an answer is told of the request: it has been sent.

    :param output_size: bytes of it.
    """

    output_size: int


class Courier:
    """Makes plain GET requests of a session: without a body, cookies, a proxy, or fields of their own.

    ``ClientSession.request`` considers for each request all that may be different from the last one, which is nearly
    half of what it takes to ask for a small file.  Here aiohttp makes the request once per origin, and for each URL the
    first line is put in front of it.  Connections, the reading of the answer and the answer itself are aiohttp's.

    :param session: one of ours, without anything of what is named above; its timeouts hold.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._timeout = session.timeout
        self._origins: dict[tuple[str, str], _Origin] = {}
        self._parameters: dict[str, Any] = {
            "timer": _NO_TIMER,
            "read_until_eof": True,
            "auto_decompress": session.auto_decompress,
            "read_timeout": session.timeout.sock_read,
        }
        self._traces: list[Any] = []

    async def ask(self, url: URL) -> aiohttp.ClientResponse:
        """Ask for ``url``, follow no redirect, and return the answer with the body still to come; the caller closes it.

        :raises aiohttp.ClientError: as ``ClientSession.request`` does.
        :raises ValueError: for a URL that would end the first line of the request.
        """
        path, authority = url.raw_path_qs, url.raw_authority
        if "@" in authority or not path.isascii():
            return await self._session.get(url, allow_redirects=False)
        if " " in path or not path.isprintable():
            raise ValueError("the URL holds a blank or a control character")
        origin = self._origins.get((url.scheme, authority)) or self._origin(url)
        try:
            return await self._send(origin, url, path)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            # The server may have closed an idle connection just then: once more (RFC 9112 section 9.3.1).
            return await self._send(origin, url, path)
        except OSError as error:
            if isinstance(error, aiohttp.ClientError):
                raise
            raise aiohttp.ClientOSError(*error.args) from error

    async def _send(self, origin: _Origin, url: URL, path: str) -> aiohttp.ClientResponse:
        session = self._session
        connector = session.connector
        if connector is None:
            raise RuntimeError("Session is closed")
        try:
            connection = await connector.connect(origin.request, self._traces, self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url.raw_host}") from error
        try:
            handler = connection.protocol
            if handler is None or handler.transport is None:
                raise aiohttp.ServerDisconnectedError
            handler.set_response_params(**self._parameters)
            handler.start_timeout()
            sent = f"GET {path} HTTP/1.1\r\n{origin.head}".encode()
            handler.transport.write(sent)
            info = tuple.__new__(aiohttp.RequestInfo, (url, "GET", origin.headers, url))
            response = aiohttp.ClientResponse(
                "GET",
                url,
                writer=None,
                continue100=None,
                timer=_NO_TIMER,
                request_info=info,
                traces=self._traces,
                loop=self._loop,
                session=session,
                stream_writer=_Sent(len(sent)),  # type: ignore[arg-type]
            )
            try:
                return await response.start(connection)
            except BaseException:
                response.close()
                raise
        except BaseException:
            connection.close()
            raise

    def _origin(self, url: URL) -> _Origin:
        session = self._session
        request = aiohttp.ClientRequest(
            "GET", url.origin(), headers=session.headers, loop=self._loop, session=session, response_class=None
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items()) + "\r\n"
        origin = _Origin(request, CIMultiDictProxy(request.headers), head)
        if len(self._origins) >= ORIGINS:
            self._origins.clear()
        self._origins[url.scheme, url.raw_authority] = origin
        return origin


def courier_of(session: aiohttp.ClientSession) -> Courier | None:
    """Return one for a session of ours; None if this aiohttp makes its requests in another way than this file knows."""
    answer = _required(aiohttp.ClientResponse.__init__)
    told = set(inspect.signature(ResponseHandler.set_response_params).parameters)
    courier = Courier(session)
    try:
        courier._origin(URL("http://localhost/"))
    except (TypeError, AttributeError):
        return None
    known = answer == _ANSWER and told >= _PARAMETERS and aiohttp.RequestInfo._fields == _REQUEST
    return courier if known else None


def _required(function: Any) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty}
