"""Transport: the sessions that carry the requests, and aiohttp's exceptions turned into ours."""

from __future__ import annotations

import asyncio
import inspect
import io
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ._version import __version__
from .connector import NotPublicError, check_public_only, own_connector
from .courier import Courier, courier_of
from .errors import (
    AddressError,
    BodyError,
    ConfigurationError,
    ConnectError,
    DisconnectError,
    ProtocolError,
    ResolveError,
    StallError,
    TLSError,
    TransportError,
    UsageError,
)
from .handler import HEAD_TIMEOUTS, HeadTimeoutError
from .request.redirects import Hop

__all__ = ["TRANSPORT_ERRORS", "USER_AGENT", "Client", "Transport", "checked_client", "transport_error"]

Client: TypeAlias = aiohttp.ClientSession | Callable[[], aiohttp.ClientSession | Awaitable[aiohttp.ClientSession]]

USER_AGENT = f"aiodownload/{__version__} aiohttp/{aiohttp.__version__}"
PIECE = 1 << 18  # bytes of a form that are sent at once
_FORM = "application/x-www-form-urlencoded"


def checked_client(client: object) -> None:
    """:raises ConfigurationError: unless ``client`` is None, a session, or something that makes one."""
    if client is not None and not isinstance(client, aiohttp.ClientSession) and not callable(client):
        raise ConfigurationError(
            f"client must be an aiohttp.ClientSession or a callable that returns one, not {client!r}"
        )


class Transport:
    """The sessions of one entered AioDownload.

    Requests to the caller's origin go through the caller's session, or one made here.  Once a redirect has led to
    another origin, a second session on the same connector takes over, which has none of the first one's headers,
    cookies or credentials (RFC 9110 section 15.4).

    :param client: the caller's session, a factory for one, or None.
    :param timeout: seconds without progress.
    :param public_only: connect to addresses of the public internet only.
    :param contact: told in the User-Agent of our own sessions, or None.
    """

    def __init__(
        self, client: Client | None, timeout: float, *, public_only: bool = False, contact: str | None = None
    ) -> None:
        self._client = client
        self._user_agent = f"{USER_AGENT} (+{contact})" if contact else USER_AGENT
        self._timeout = timeout
        self._public_only = public_only
        # What every request says; our own sessions have the rest of it.
        self._plain: dict[str, Any] = {"allow_redirects": False}
        self._defaults: dict[str, Any] = {
            "raise_for_status": False,
            "auto_decompress": False,
            "timeout": aiohttp.ClientTimeout(total=None, connect=None, sock_connect=timeout, sock_read=timeout),
        }
        if client is not None:
            self._plain.update(self._defaults)
        self._session: aiohttp.ClientSession
        self._stranger: aiohttp.ClientSession | None = None
        self._asking: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._owned = False
        self._courier: Courier | None = None

    async def open(self) -> None:
        """Make or take the session.

        :raises UsageError: for a session that is closed or belongs to another event loop.
        :raises ConfigurationError: for one that may connect to addresses that are refused.
        """
        if self._client is None:
            self._session, self._owned = self._own_session(), True
            self._courier = courier_of(self._session)
        elif isinstance(self._client, aiohttp.ClientSession):
            self._session = _usable(self._client)
        else:
            made = self._client()
            session = await made if inspect.isawaitable(made) else made
            if not isinstance(session, aiohttp.ClientSession):
                raise ConfigurationError(f"client: the callable must return an aiohttp.ClientSession, not {session!r}")
            self._session, self._owned = _usable(session), True
        if self._public_only and self._client is not None:
            check_public_only(self._session)

    async def close(self) -> None:
        """Close what was opened here; a caller's session stays open."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._stranger is not None:
            await self._stranger.close()
        if self._owned:
            await self._session.close()

    def _own_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=own_connector(self._timeout, public_only=self._public_only),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
            **self._defaults,
        )

    def _stranger_session(self) -> aiohttp.ClientSession:
        if self._stranger is None:
            home = self._session
            self._stranger = aiohttp.ClientSession(
                connector=home.connector,
                connector_owner=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "User-Agent": home.headers.get("User-Agent", self._user_agent),
                    "Accept-Encoding": "identity",
                },
                **self._defaults,
            )
        return self._stranger

    async def ask(self, hop: Hop) -> aiohttp.ClientResponse:
        """Send one request and return its answer with the body still to come; the caller closes it.

        :raises TransportError: if no usable head comes.
        """
        session = self._session if hop.trusted else self._stranger_session()
        # Connections of our own look out by themselves.
        task = asyncio.current_task() if self._client is not None else None
        try:
            if task is not None:
                self._watch(task)
            return await self._asked(session, hop)
        except asyncio.CancelledError as error:
            if task in self._overdue and task is not None and task.uncancel() == 0:
                raise _no_head(self._timeout) from error
            raise
        except TRANSPORT_ERRORS as error:
            raise transport_error(error, self._timeout) from error
        except UnicodeError as error:  # of the idna codec, from the system's resolver
            raise ResolveError(f"the name {hop.url.raw_host!r} has no address: it is no host name", False) from error
        except (ValueError, TypeError, LookupError) as error:
            # Nobody has foreseen it; one bundle fails by it, and not the run.
            raise ProtocolError(f"the request could not be made: {_words(error)}", False) from error
        except RuntimeError as error:
            if session.closed:
                raise UsageError("client: the ClientSession was closed while it was in use") from error
            raise
        finally:
            if task is not None:
                self._asking.pop(task, None)
                self._overdue.discard(task)

    def _asked(self, session: aiohttp.ClientSession, hop: Hop) -> Awaitable[aiohttp.ClientResponse]:
        settings = self._settings(hop)
        if self._courier is not None and settings is self._plain and hop.method == "GET":
            return self._courier.ask(hop.url)
        return session.request(hop.method, hop.url, **settings)

    def _settings(self, hop: Hop) -> dict[str, Any]:
        """The keywords of a request."""
        if self._client is None and hop.trusted and not hop.headers and hop.body is None and not hop.terms:
            return self._plain  # our own session has all that is needed
        way = {} if hop.trusted else self._way(hop)
        return {**self._plain, "data": _sendable(hop.body), "headers": self._headers(hop), **way}

    def _headers(self, hop: Hop) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", **hop.headers, **hop.terms}
        if hop.body is not None:
            headers.setdefault("Content-Type", _FORM)
        return headers

    def _way(self, hop: Hop) -> dict[str, Any]:
        """The proxy of the caller's session, for a request that leaves by the other session.

        Its trust_env would do the same and add passwords from a netrc file, which must not follow a redirect.
        """
        # No public names: without them a redirect would leave by another way than the one that was asked for.
        proxy = getattr(self._session, "_default_proxy", None)
        if proxy is not None:
            auth = getattr(self._session, "_default_proxy_auth", None)
            # In its URL: the argument proxy_auth brings a DeprecationWarning, and proxy_headers serve CONNECT only.
            return {"proxy": proxy if auth is None else URL(proxy).with_user(auth.login).with_password(auth.password)}
        if self._session.trust_env:
            proxies = getproxies_environment()
            if not proxy_bypass_environment(hop.url.raw_host or "", proxies):
                return {"proxy": proxies.get(hop.url.scheme)}
        return {}

    def _watch(self, task: asyncio.Task[Any]) -> None:
        """Let the sweeper end this request if its head does not come; a timer for each would cost more."""
        loop = asyncio.get_running_loop()
        self._asking[task] = loop.time() + self._timeout * HEAD_TIMEOUTS
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._timeout, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, end in self._asking.items():
            if end <= now and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        self._sweeper = loop.call_later(self._timeout, self._sweep, loop) if self._asking else None


def _usable(session: aiohttp.ClientSession) -> aiohttp.ClientSession:
    if session.closed:
        raise UsageError("client: the ClientSession is closed; give an open one, or a callable that makes one")
    if getattr(session, "_loop", None) is not asyncio.get_running_loop():
        raise UsageError(
            "client: the ClientSession belongs to another event loop; "
            "give a callable that makes one, such as client=aiohttp.ClientSession"
        )
    return session


TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, ConnectionError, ssl.SSLError)
"""What aiohttp and the operating system raise about a connection."""


def transport_error(error: BaseException, timeout: float) -> TransportError:
    """Return our exception for one of the transport.

    :param error: what aiohttp or the operating system raised.
    :param timeout: the seconds that a :class:`StallError` speaks of.
    """
    _hide_secrets(error)
    return next(translate(error, timeout) for kind, translate in _TRANSLATIONS if isinstance(error, kind))


def _hide_secrets(error: BaseException) -> None:
    """Take out of aiohttp's exception what its repr would show: it becomes the cause of ours, and is logged with it."""
    if isinstance(error, aiohttp.ClientResponseError):  # the headers of the request
        asked = error.request_info
        if isinstance(asked, aiohttp.RequestInfo):
            nothing = CIMultiDictProxy(CIMultiDict[str]())
            error.request_info = aiohttp.RequestInfo(asked.url, asked.method, nothing, asked.real_url)
        error.history = ()
        error.args = (error.request_info, ())
    elif isinstance(error, aiohttp.ClientConnectorError):  # the password for a proxy
        error.args = (error.errno, error.strerror)


_Translate: TypeAlias = Callable[[Any, float], TransportError]

# The most specific first: the first row that fits is taken.
_TRANSLATIONS: tuple[tuple[type[BaseException], _Translate], ...] = (
    (
        aiohttp.ClientConnectorDNSError,
        lambda error, _: ResolveError(f"the name {error.host!r} has no address: {_words(error.os_error)}"),
    ),
    (
        aiohttp.ClientConnectorCertificateError,
        lambda error, _: TLSError(
            f"the certificate of {error.host!r} is refused: {_words(error.certificate_error)}", False
        ),
    ),
    (
        aiohttp.ServerFingerprintMismatch,
        lambda error, _: TLSError("the certificate's fingerprint is not the expected one", False),
    ),
    (
        aiohttp.ClientConnectorSSLError,
        lambda error, _: TLSError(f"no TLS connection to {error.host!r}: {_words(error.os_error)}"),
    ),
    (
        aiohttp.ClientProxyConnectionError,
        lambda error, _: ConnectError(f"no connection to the proxy: {_words(error.os_error)}"),
    ),
    (
        aiohttp.ClientConnectorError,
        lambda error, _: (
            AddressError(f"the address of {error.host!r} is not public, and public_only=True", False)
            if isinstance(error.os_error, NotPublicError)
            else ConnectError(f"no connection to {error.host!r}: {_words(error.os_error)}")
        ),
    ),
    (HeadTimeoutError, lambda _, timeout: _no_head(timeout)),
    (aiohttp.ConnectionTimeoutError, lambda _, timeout: StallError(f"no connection for {timeout:g} s")),
    (TimeoutError, lambda _, timeout: StallError(f"nothing arrived for {timeout:g} s")),
    (
        aiohttp.ServerDisconnectedError,
        lambda error, _: DisconnectError("the server closed the connection without a whole answer"),
    ),
    (
        aiohttp.ClientPayloadError,
        lambda error, _: BodyError(f"the body is not whole: {_words(error.__cause__ or error)}"),
    ),
    (
        aiohttp.ClientHttpProxyError,
        lambda error, _: ConnectError(f"the proxy answered {error.status} {error.message}"),
    ),
    (
        aiohttp.ContentTypeError,
        lambda error, _: TransportError(f"the body is not what was expected: {error.message}", False),
    ),
    (
        aiohttp.ClientResponseError,
        lambda error, _: ProtocolError(f"the answer is no valid HTTP: {_first_line(error.message)}"),
    ),
    (aiohttp.InvalidURL, lambda error, _: TransportError("aiohttp refuses the URL", False)),
    (ssl.SSLError, lambda error, _: TLSError(f"the TLS connection broke: {_words(error)}")),
    (BaseException, lambda error, _: DisconnectError(f"the connection broke: {_words(error)}")),
)


def _sendable(body: bytes | None) -> bytes | io.BytesIO | None:
    """The form as aiohttp sends it: a large one in pieces, so that the event loop goes on."""
    return io.BytesIO(body) if body is not None and len(body) > PIECE else body


def _no_head(timeout: float) -> StallError:
    return StallError(f"no whole answer head after {timeout * HEAD_TIMEOUTS:g} s")


def _words(error: BaseException) -> str:
    """What the operating system or a library says, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _first_line(text)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]
