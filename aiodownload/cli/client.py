"""Client: the session that the options of the command line ask for."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from http.cookiejar import LoadError, MozillaCookieJar
from http.cookies import SimpleCookie
from netrc import NetrcParseError
from netrc import netrc as Netrc  # noqa: N812

import aiohttp
from yarl import URL

from ..asking import basic_auth
from ..bundle import checked_headers
from ..connector import own_connector
from ..errors import ConfigurationError
from ..transport import USER_AGENT

__all__ = ["Sessions"]


@dataclass(frozen=True)
class Sessions:
    """Makes the session for requests that need more than the library's own; a ``client`` of an AioDownload.

    What is secret in it goes to the origin of each URL, and not to where a redirect or a mirror leads.

    :param timeout: seconds that looking up a name may take.
    :param public_only: connect to public addresses only.
    :param headers: of every request, as ``Name: value``.
    :param user: ``NAME:PASSWORD`` for basic authentication (RFC 7617).
    :param token: for bearer authentication (RFC 6750).
    :param netrc: file with names and passwords, by host.
    :param cookies: file with cookies, in Netscape's format.
    :param proxy: URL of an HTTP proxy.
    :param trust_env: take the proxy from the environment, and passwords from the user's netrc file.
    :param ca_file: certificates of the authorities that are trusted, instead of the system's (PEM).
    :param cert: certificate of the client (PEM).
    :param key: its key (PEM), if that is another file.
    :param user_agent: instead of the library's own.
    :param contact: added to the library's own User-Agent.
    :param family: 4 or 6, for that version of IP only.
    """

    timeout: float = 60.0
    public_only: bool = False
    headers: tuple[str, ...] = ()
    user: str | None = None
    token: str | None = None
    netrc: str | None = None
    cookies: str | None = None
    proxy: str | None = None
    trust_env: bool = False
    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None
    user_agent: str | None = None
    contact: str | None = None
    family: int | None = None

    @property
    def needed(self) -> bool:
        """Whether any of it asks for more than the library's own session has."""
        plain = Sessions(self.timeout, self.public_only, contact=self.contact)
        return self != plain

    def check(self) -> None:
        """Read all files, so that what is wrong with one is said before anything is lost.

        :raises ConfigurationError: for what cannot be used.
        """
        self._given()
        self._read()
        if self.proxy is not None:
            url = URL(self.proxy)
            if url.scheme not in ("http", "https") or not url.host:
                raise ConfigurationError("--proxy must be an http:// or https:// URL; of SOCKS nothing is known here")

    async def __call__(self) -> aiohttp.ClientSession:
        """Make it; in an event loop."""
        context, entries, cookies = await asyncio.to_thread(self._read)
        family = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[self.family]
        jar: aiohttp.abc.AbstractCookieJar = aiohttp.DummyCookieJar()
        if self.cookies is not None:
            jar = aiohttp.CookieJar(unsafe=True)  # hosts that are named by their address may have some, too
            for url, cookie in cookies:
                jar.update_cookies(cookie, url)
        return aiohttp.ClientSession(
            connector=own_connector(
                self.timeout, public_only=self.public_only, ssl=True if context is None else context, family=family
            ),
            headers=self._given(),
            cookie_jar=jar,
            proxy=self.proxy,
            trust_env=self.trust_env,
            middlewares=() if entries is None else (_Passwords(entries),),
        )

    def _read(self) -> tuple[ssl.SSLContext | None, Netrc | None, list[tuple[URL, SimpleCookie]]]:
        return self._context(), _entries(self.netrc), _cookies(self.cookies)

    def _given(self) -> dict[str, str]:
        """The headers of every request."""
        given = {}
        for text in self.headers:
            name, colon, value = text.partition(":")
            if not colon:
                raise ConfigurationError(f"--header must be 'Name: value', not {text.partition(' ')[0]!r}")
            given[name.strip()] = value.strip()
        given = checked_headers(given)
        own = f"{USER_AGENT} (+{self.contact})" if self.contact else USER_AGENT
        fields = {"User-Agent": self.user_agent or own, "Accept-Encoding": "identity", **given}
        ways = [way for way in ("user", "token") if getattr(self, way) is not None]
        ways += [name for name in given if name.lower() == "authorization"]
        if len(ways) > 1:
            raise ConfigurationError(f"only one of --user, --token and an Authorization header can be sent, not {ways}")
        if self.user is not None:
            name, colon, password = self.user.partition(":")
            if not colon:
                raise ConfigurationError("--user must be NAME:PASSWORD")
            fields["Authorization"] = basic_auth(name, password)
        elif self.token is not None:
            fields |= checked_headers({"Authorization": f"Bearer {self.token}"})
        return fields

    def _context(self) -> ssl.SSLContext | None:
        """TLS as asked for, or None for the usual."""
        if self.key is not None and self.cert is None:
            raise ConfigurationError("--key goes with --cert")
        if self.ca_file is None and self.cert is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"--ca-file {self.ca_file}: no certificates can be read from it: {error}"
            ) from error
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(f"--cert {self.cert}: no certificate and key can be read: {error}") from error
        return context


class _Passwords:
    """Gives a request the name and password that a netrc file has for its host."""

    def __init__(self, entries: Netrc) -> None:
        self._entries = entries

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if "Authorization" not in request.headers:
            found = self._entries.authenticators(request.url.host or "")
            if found is not None:
                request.headers["Authorization"] = basic_auth(found[0], found[2] or "")
        return await handler(request)


def _entries(file: str | None) -> Netrc | None:
    if file is None:
        return None
    path = os.path.expanduser(file)
    try:
        return Netrc(path)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"--netrc {path}: it cannot be read: {error}") from error
    except NetrcParseError as error:
        raise ConfigurationError(f"--netrc {path}, line {error.lineno}: it is no netrc file") from error


def _cookies(file: str | None) -> list[tuple[URL, SimpleCookie]]:
    """The cookies of a file in Netscape's format, each with the URL of whoever may have set it."""
    if file is None:
        return []
    jar = MozillaCookieJar(file)
    try:
        jar.load(ignore_discard=True)
    except LoadError as error:
        raise ConfigurationError(f"--cookies {file}: it is no cookies file in Netscape's format") from error
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"--cookies {file}: it cannot be read: {error}") from error
    found = []
    for one in jar:
        cookie: SimpleCookie = SimpleCookie()
        cookie[one.name] = one.value or ""
        morsel = cookie[one.name]
        morsel["path"] = one.path
        morsel["secure"] = one.secure
        host = one.domain.lstrip(".")
        if one.domain_initial_dot:
            morsel["domain"] = host
        found.append((URL.build(scheme="https" if one.secure else "http", host=host, path="/"), cookie))
    return found
