"""Where a redirect leads, and what goes along: headers never leave their origin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from yarl import URL

from ..bundle import is_host
from ..errors import RedirectError
from ..redact import redact

__all__ = ["MAX_REDIRECTS", "REDIRECTS", "Hop", "Trail"]

MAX_REDIRECTS = 10

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RAW_BYTE = "[\udc80-\udcff]"  # a byte of the field that is no UTF-8, as aiohttp hands it over


class Hop(NamedTuple):
    """One request on the way from the caller's URL to the file.

    :param method: ``"GET"``, ``"HEAD"`` or ``"POST"``.
    :param url: absolute, without user, password and fragment.
    :param headers: the caller's headers as far as they may go here.
    :param body: the form data of a POST (bytes), else None.
    :param trusted: no request on the way here went to another origin than the caller's URL.
    :param terms: the library's own Range and conditions, which go along everywhere: they are part of the question.
    """

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None = None
    trusted: bool = True
    terms: Mapping[str, str] = MappingProxyType({})


class Trail:
    """The redirects that one try has followed so far."""

    def __init__(self) -> None:
        self.followed = 0
        self.seen: set[tuple[str, URL]] = set()

    def follow(self, hop: Hop, status: int, locations: Sequence[str], *, cookies: bool) -> Hop | None:
        """Return the next request, or None if the response to ``hop`` is no redirect.

        :param hop: the request that was answered.
        :param status: the status of the answer.
        :param locations: its Location fields, as received.
        :param cookies: whether it set a cookie; only then may the same URL be asked again.
        :raises RedirectError: for a redirect that must not be followed.
        """
        if status not in REDIRECTS or not locations:
            return None
        if len(set(locations)) > 1:
            raise RedirectError("the redirect has two different Location fields", status)
        target = _target(hop.url, locations[0], status)
        following = _next(hop, target, status)
        self._note(hop, following, status, cookies)
        return following

    def _note(self, hop: Hop, following: Hop, status: int, cookies: bool) -> None:
        self.seen.add((hop.method, hop.url))
        self.followed += 1
        if self.followed > MAX_REDIRECTS:
            raise RedirectError(f"more than {MAX_REDIRECTS} redirects", status)
        if (following.method, following.url) in self.seen and not cookies:
            raise RedirectError(f"the redirects run in a circle at {redact(following.url)}", status)


def _target(base: URL, location: str, status: int) -> URL:
    if any(ord(char) < 32 or ord(char) == 127 for char in location):
        raise RedirectError("the redirect's Location holds a control character", status)
    try:
        url = base.join(URL(re.sub(_RAW_BYTE, lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location)))
    except (ValueError, IndexError):  # yarl raises the second for "http://[]@"
        raise RedirectError(f"the redirect's Location is no URL: {redact(location)!r}", status) from None
    if url.scheme not in ("http", "https"):
        raise RedirectError(f"a redirect to {redact(url)!r} is not followed: only http and https are", status)
    if not is_host(url.raw_host):
        raise RedirectError(f"a redirect to {redact(url)!r} is not followed: that is no valid host", status)
    if base.scheme == "https" and url.scheme == "http":
        raise RedirectError(f"a redirect from https to {redact(url)!r} is not followed", status)
    return url.with_user(None).with_fragment(None)


def _next(hop: Hop, target: URL, status: int) -> Hop:
    # 303 asks for a GET; after 301 and 302 every client makes a POST a GET (RFC 9110 sections 15.4.2-4).
    keeps_body = hop.body is not None and status in (307, 308)
    same = origin(hop.url) == origin(target)
    if keeps_body and not same and not _upgrade(hop.url, target):
        raise RedirectError(f"form data is not sent on to another host: {redact(target)!r}", status)
    return Hop(
        method=hop.method if keeps_body or hop.method == "HEAD" else "GET",
        url=target,
        headers=hop.headers if same else {},
        body=hop.body if keeps_body else None,
        terms=hop.terms,
        trusted=hop.trusted and same,
    )


def origin(url: URL) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: what may see the caller's headers (RFC 6454 section 4)."""
    return url.scheme, url.raw_host, url.port


def _upgrade(source: URL, target: URL) -> bool:
    """Whether ``target`` is the same server over TLS: the ports that the schemes have, or one port for both."""
    same_server = source.port == target.port or (source.port, target.port) == (80, 443)
    return source.raw_host == target.raw_host and (source.scheme, target.scheme) == ("http", "https") and same_server
