"""Permission: what the robots.txt of each host allows, asked for once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from yarl import URL

from .errors import ProtocolError, RedirectError, RobotsError, TransportError
from .request.redirects import REDIRECTS, Hop, Trail
from .request.robots import MOST, Robots, check_robots
from .transport import TRANSPORT_ERRORS, Transport, transport_error

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader

    from .exchange import Permit

__all__ = ["Permissions"]

HOSTS = 10_000  # whose rules are remembered
AGE = 24 * 3600.0  # seconds for which they hold (RFC 9309 section 2.4)
AGAIN = 60.0  # seconds until a host whose robots.txt cannot be had is asked for it again
REDIRECTS_AT_MOST = 5  # RFC 9309 section 2.3.1.2

_NO_ANSWER = "robots.txt cannot be had now ({}), which counts as a no (RFC 9309 section 2.3.1.4)"


class Permissions:
    """The rules of the hosts.

    :param transport: asks for them.
    :param timeout: seconds without progress.
    :raises MissingExtraError: if the package that reads them is absent.
    """

    def __init__(self, transport: Transport, timeout: float) -> None:
        check_robots()
        self._transport = transport
        self._timeout = timeout
        self._known: OrderedDict[str, tuple[float, Robots | RobotsError]] = OrderedDict()
        self._asking: dict[str, asyncio.Future[None]] = {}

    async def check(self, url: URL, permit: Permit) -> None:
        """Return if ``url`` may be asked for.

        :param permit: the slot that is held for it; asking for the robots.txt is a request of its own.
        :raises RobotsError: if it may not.
        :raises TransportError: if the host does not answer.
        """
        origin = str(url.origin())
        rules = self._valid(origin)
        while rules is None:
            asking = self._asking.get(origin)
            if asking is not None:  # another bundle does
                await asyncio.wait([asking])
                rules = self._valid(origin)
                continue
            self._asking[origin] = done = asyncio.get_running_loop().create_future()
            try:
                rules = await self._ask(url, permit)
            except RobotsError as error:
                rules = error
            finally:
                del self._asking[origin]
                done.set_result(None)
            self._remember(origin, rules)
            if isinstance(rules, Robots) and rules.delay:
                permit.slow_down(rules.delay)
            await permit.pace(url)
        if isinstance(rules, RobotsError):
            raise RobotsError(*rules.args)
        if not rules.allows(str(url)):
            raise RobotsError("the host's robots.txt does not allow it")

    def _valid(self, origin: str) -> Robots | RobotsError | None:
        until, rules = self._known.get(origin, (0.0, None))
        return rules if asyncio.get_running_loop().time() < until else None

    def _remember(self, origin: str, rules: Robots | RobotsError) -> None:
        age = AGE if isinstance(rules, Robots) else AGAIN
        self._known[origin] = (asyncio.get_running_loop().time() + age, rules)
        self._known.move_to_end(origin)
        while len(self._known) > HOSTS:
            self._known.popitem(last=False)

    async def _ask(self, url: URL, permit: Permit) -> Robots:
        """Fetch the robots.txt that governs ``url``."""
        hop, trail = Hop("GET", url.origin().with_path("/robots.txt"), {}, None, trusted=False), Trail()
        for _ in range(REDIRECTS_AT_MOST + 1):
            response = await self._answer(hop, permit)
            try:
                following = self._following(hop, trail, response)
                if following is None:
                    return await self._read(response)
            except TRANSPORT_ERRORS as error:
                raise RobotsError(_NO_ANSWER.format(transport_error(error, self._timeout)), True) from error
            finally:
                response.close()
            hop = following
            await permit.pace(hop.url)
        return Robots("")

    async def _answer(self, hop: Hop, permit: Permit) -> ClientResponse:
        try:
            response = await self._transport.ask(hop)
        except ProtocolError as error:
            raise RobotsError(_NO_ANSWER.format(error), True) from error
        except TransportError as error:
            permit.unanswered(error)
            raise
        permit.answered(response)
        return response

    def _following(self, hop: Hop, trail: Trail, response: ClientResponse) -> Hop | None:
        """Where a redirect leads; one that leads nowhere is no robots.txt, and so is its own page."""
        if response.status not in REDIRECTS:
            return None
        try:
            return trail.follow(hop, response.status, response.headers.getall("Location", ()), cookies=False)
        except RedirectError:
            return None

    async def _read(self, response: ClientResponse) -> Robots:
        if response.status >= 500 or response.status == 429:
            raise RobotsError(_NO_ANSWER.format(f"status {response.status}"), True)
        if response.status != 200:
            return Robots("")
        return Robots((await self._text(response.content)).decode("utf-8", "replace"))

    async def _text(self, content: StreamReader) -> bytes:
        text = b""
        while len(text) < MOST and (chunk := await content.read(MOST - len(text))):
            text += chunk
        return text
