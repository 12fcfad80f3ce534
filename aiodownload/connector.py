"""How a connection comes about: names looked up in bounded time, and the addresses that may be connected to."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import OrderedDict
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from .errors import ConfigurationError
from .handler import WatchedHandler
from .request.addresses import is_public

__all__ = ["NotPublicError", "check_public_only", "own_connector", "public_socket"]

FAILURES = 5.0  # seconds for which a name that could not be looked up is not looked up again
NAMES = 1000  # of which this is remembered


class NotPublicError(OSError):
    """The address is not one of the public internet.

    It does not say which: whoever gave the URL shall not learn the addresses of an inner network.
    """

    def __init__(self) -> None:
        super().__init__(errno.EACCES, os.strerror(errno.EACCES))


def public_socket(addr_info: Any) -> socket.socket:
    """Make the socket for one connection, if it is to lead to a public address.

    For ``socket_factory`` of an :class:`aiohttp.TCPConnector`: ``public_only=True`` takes a session of the caller's
    only if its connector has it.  It is asked with the very address that is connected to, for each request and each
    redirect, after the name was looked up: no spelling of an address and no change of the name's meaning in between
    (DNS rebinding) gets around it.

    :param addr_info: an entry as ``socket.getaddrinfo`` returns them.
    :raises OSError: for any other address.
    """
    family, kind, protocol, _, address = addr_info
    if family not in (socket.AF_INET, socket.AF_INET6) or not is_public(address[0]):
        raise NotPublicError
    return socket.socket(family, kind, protocol)


def own_connector(
    timeout: float, *, public_only: bool, family: socket.AddressFamily = socket.AF_UNSPEC, **settings: Any
) -> aiohttp.TCPConnector:
    """Return the connector of a session of ours.

    :param timeout: seconds that looking up a name may take.
    :param public_only: connect to public addresses only.
    :param family: addresses of this kind only, where a name has to be looked up.
    :param settings: more of :class:`aiohttp.TCPConnector`.
    """
    return _Connector(
        **settings,
        limit=0,  # the schedule is the only limiter; aiohttp's limit of 100 would be a second, hidden queue
        resolver=_BoundedResolver(timeout, family),
        socket_factory=public_socket if public_only else None,
    )


def _handler(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return WatchedHandler(loop)


class _Connector(aiohttp.TCPConnector):
    """Gives no connection out on which something has arrived that nobody has asked for.

    It would be taken for the answer to the next request; a server that gives up an idle connection with a 408 is the
    harmless case of that (RFC 9112 section 9.2).
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = partial(_handler, loop=self._loop)  # no public name

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (it is aiohttp's)
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


def check_public_only(session: aiohttp.ClientSession) -> None:
    """See that ``session``, which is the caller's, connects to public addresses only.

    :raises ConfigurationError: if it does not, or by a proxy, of which nobody knows where it connects to.
    """
    # No public names: without them a session that was made for this could not be told from any other.
    if getattr(session.connector, "_socket_factory", None) is not public_socket:
        raise ConfigurationError(
            "public_only=True needs a connector that asks for each address: let client return "
            "aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, socket_factory=aiodownload.public_socket))"
        )
    if session.trust_env or getattr(session, "_default_proxy", None) is not None:
        raise ConfigurationError("public_only=True cannot see where a proxy connects to: leave the proxy out of client")


class _BoundedResolver(AbstractResolver):
    """Look-ups that end after ``timeout`` seconds, and whose failures are remembered for a moment.

    aiohttp bounds connecting, but not this; it has one look-up under way per name, and remembers successes only.  Its
    own resolver is made with the first name to look up: its DNS library starts a thread.
    """

    def __init__(self, timeout: float, family: socket.AddressFamily = socket.AF_UNSPEC) -> None:
        self._inner: AbstractResolver | None = None
        self._family = family
        self._timeout = timeout
        self._failed: OrderedDict[tuple[str, int], tuple[float, tuple[Any, ...]]] = OrderedDict()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        if self._inner is None:
            self._inner = aiohttp.DefaultResolver()
        family = self._family or family
        now = asyncio.get_running_loop().time()
        until, words = self._failed.get((host, family), (now, ()))
        if now < until:
            raise OSError(*words)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._inner.resolve(host, port, family)
        except TimeoutError:
            raise self._remembered(host, family, (None, f"no answer for {self._timeout:g} s")) from None
        except OSError as error:
            raise self._remembered(host, family, error.args) from error

    def _remembered(self, host: str, family: int, words: tuple[Any, ...]) -> OSError:
        """Note a failure; return what to raise."""
        self._failed[host, family] = (asyncio.get_running_loop().time() + FAILURES, words)
        self._failed.move_to_end((host, family))
        while len(self._failed) > NAMES:
            self._failed.popitem(last=False)
        return OSError(*words)

    async def close(self) -> None:
        if self._inner is not None:
            await self._inner.close()
