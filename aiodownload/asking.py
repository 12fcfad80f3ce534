"""Asking: one request, and those that its redirects lead to."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from .errors import AddressError, HostDownError, ProtocolError, TransportError
from .request.redirects import REDIRECTS, Hop, Trail
from .storage.placement import is_place_of

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

    from .bundle import AioDownloadBundle
    from .entries import Publication
    from .permission import Permissions
    from .permit import Permit
    from .transport import Transport

__all__ = ["Asking", "NoAnswer", "basic_auth", "condition", "first_hop"]


class NoAnswer(Exception):  # noqa: N818 (what it carries is the error)
    """A host did not answer."""

    def __init__(self, error: TransportError) -> None:
        super().__init__(error)
        self.error = error


class Asking:
    """Asks, where it is permitted, and follows redirects.

    :param transport: sends each request.
    :param permissions: what robots.txt allows; None: nobody asks for that.
    """

    def __init__(self, transport: Transport, permissions: Permissions | None = None) -> None:
        self._transport = transport
        self._permissions = permissions

    async def follow(self, hop: Hop, permit: Permit) -> tuple[aiohttp.ClientResponse, Hop]:
        """Ask, and follow redirects; return the last answer and the request that it is to.  The caller closes it.

        :raises NoAnswer: if a host does not answer.
        """
        trail: Trail | None = None
        while True:
            try:
                if self._permissions is not None:
                    await self._permissions.check(hop.url, permit)
                response = await self._transport.ask(hop)
            except TransportError as error:
                if isinstance(error, (ProtocolError, AddressError, HostDownError)):  # it did answer, or was not asked
                    raise
                permit.unanswered(error)
                raise NoAnswer(error) from error
            permit.answered(response)
            if response.status not in REDIRECTS:
                return response, hop
            try:
                trail = trail or Trail()
                locations = response.headers.getall("Location", ())
                following = trail.follow(hop, response.status, locations, cookies="Set-Cookie" in response.headers)
            except BaseException:
                response.close()
                raise
            if following is None:
                return response, hop
            response.close()
            await permit.pace(following.url)
            hop = following


def condition(bundle: AioDownloadBundle, url: URL) -> dict[str, str]:
    """The fields that ask for a file only if it is another than the one that is there (RFC 9110 section 13.1)."""
    file: Publication = bundle._condition
    if bundle.params or url != bundle._parse() or not is_place_of(file.path, bundle.file_path or ""):
        return {}
    terms = {}
    if file.etag is not None:
        terms["If-None-Match"] = file.etag
    if file.last_modified is not None:
        terms["If-Modified-Since"] = file.last_modified
    return terms


def basic_auth(user: str, password: str) -> str:
    """The Authorization field for a name and a password (RFC 7617), in UTF-8."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def first_hop(bundle: AioDownloadBundle, url: URL) -> Hop:
    """The request for ``url``, which is one of the URLs of ``bundle``, before any redirect."""
    own = not bundle.mirrors or url.origin() == bundle._parse().origin()
    headers = dict(bundle.headers) if own and bundle.headers else {}
    if url.raw_user is not None or url.raw_password is not None:
        if not any(name.lower() == "authorization" for name in headers):
            headers["Authorization"] = basic_auth(url.user or "", url.password or "")
        url = url.with_user(None)
    body = bundle._form()
    method = "POST" if body is not None else "HEAD" if bundle._only_head else "GET"
    # A mirror elsewhere is told no more than where a redirect leads.
    return Hop(method, url, headers, body, trusted=own)
