"""Permission: what the robots.txt of each host allows, asked for once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from yarl import URL

from .errors import CodingError, ProtocolError, RedirectError, RobotsError, TooLargeError
from .request.redirects import REDIRECTS, Hop, Trail
from .request.robots import MOST, Robots, check_robots
from .storage.decoding import Decoder, codings
from .transport import TRANSPORT_ERRORS, Transport, transport_error

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from .permit import Permit
    from .request.strategy import RequestStrategy

__all__ = ["Permissions"]

HOSTS = 10_000  # whose rules are remembered
LINES = 200_000  # that these have together
AGE = 24 * 3600.0  # seconds for which they hold (RFC 9309 section 2.4)
AGAIN = 60.0  # seconds until a host whose robots.txt cannot be had is asked for it again
REDIRECTS_AT_MOST = 5  # RFC 9309 section 2.3.1.2

_NO_ANSWER = "robots.txt cannot be had now ({}), which counts as a no (RFC 9309 section 2.3.1.4)"


class Permissions:
    """The rules of the hosts.

    :param transport: asks for them.
    :param strategy: has the time-out, and the longest wait that a host may ask for.
    :raises MissingExtraError: if the package that reads them is absent.
    """

    def __init__(self, transport: Transport, strategy: RequestStrategy) -> None:
        check_robots()
        self._transport = transport
        self._timeout = strategy.timeout
        self._longest_wait = strategy.max_retry_after
        self._known: OrderedDict[str, tuple[float, Robots | RobotsError]] = OrderedDict()
        self._lines = 0
        self._asking: dict[str, asyncio.Future[None]] = {}

    async def check(self, url: URL, permit: Permit) -> None:
        """Return if ``url`` may be asked for; its host's turn has come then.

        :param permit: the slot that is held for it; asking for the robots.txt is a request of its own.
        :raises RobotsError: if it may not.
        :raises TransportError: if the host does not answer.
        """
        origin = str(url.origin())
        rules, waited = self._valid(origin), False
        while rules is None:
            waited = True
            asking = self._asking.get(origin)
            if asking is not None:  # another bundle does, and this one needs no slot meanwhile
                permit.free()
                await asyncio.wait([asking])
                rules = self._valid(origin)
                if rules is None:
                    await permit.pace(url)
            else:
                rules = await self._ask(url, origin, permit)
        if isinstance(rules, RobotsError):
            raise RobotsError(*rules.args)
        if rules.delay > self._longest_wait:
            raise RobotsError(
                f"the host's robots.txt asks for {rules.delay:g} s between requests, "
                f"and max_retry_after is {self._longest_wait:g} s"
            )
        if not rules.allows(str(url)):
            raise RobotsError("the host's robots.txt does not allow it")
        if rules.delay:
            permit.slow_down(url, rules.delay)
        if waited:
            await permit.pace(url)

    def _valid(self, origin: str) -> Robots | RobotsError | None:
        until, rules = self._known.get(origin, (0.0, None))
        return rules if asyncio.get_running_loop().time() < until else None

    def _remember(self, origin: str, rules: Robots | RobotsError) -> None:
        if origin in self._known:
            self._forget(origin)
        age = AGE if isinstance(rules, Robots) else AGAIN
        self._known[origin] = (asyncio.get_running_loop().time() + age, rules)
        self._lines += _lines(rules)
        while len(self._known) > HOSTS or (self._lines > LINES and len(self._known) > 1):
            self._forget(next(iter(self._known)))

    def _forget(self, origin: str) -> None:
        self._lines -= _lines(self._known.pop(origin)[1])

    async def _ask(self, url: URL, origin: str, permit: Permit) -> Robots | RobotsError:
        """Fetch the robots.txt that governs ``url``, for all that want to know."""
        self._asking[origin] = done = asyncio.get_running_loop().create_future()
        rules: Robots | RobotsError
        try:
            rules = await self._fetched(url, permit)
        except RobotsError as error:
            rules = error
        finally:
            del self._asking[origin]
            done.set_result(None)
        self._remember(origin, rules)
        return rules

    async def _fetched(self, url: URL, permit: Permit) -> Robots:
        hop, trail = Hop("GET", url.origin().with_path("/robots.txt"), {}, None, trusted=False), Trail()
        for _ in range(REDIRECTS_AT_MOST + 1):
            response = await self._answer(hop, permit)
            try:
                following = self._following(hop, trail, response)
                if following is None:
                    async with asyncio.timeout(self._timeout):  # in all: others wait for it
                        return await self._read(response)
            except (*TRANSPORT_ERRORS, CodingError, TooLargeError) as error:
                told = error if isinstance(error, CodingError) else transport_error(error, self._timeout)
                raise RobotsError(_NO_ANSWER.format(told), True) from error
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
        names = codings(response.headers.getall("Content-Encoding", ()))
        decoder = Decoder(names, None, None) if names else None
        text, received = bytearray(), 0
        while len(text) < MOST and received < MOST and (chunk := await response.content.read(1 << 14)):
            received += len(chunk)
            for piece in decoder.feed(chunk) if decoder is not None else (chunk,):
                text += piece
                if len(text) >= MOST:
                    break
        return Robots(text.decode("utf-8", "replace"))


def _lines(rules: Robots | RobotsError) -> int:
    return rules.size if isinstance(rules, Robots) else 0
