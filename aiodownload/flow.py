"""Flow: how fast the bytes of a body may come, how slowly they must not, and who hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from .errors import LowSpeedError
from .request.hosts import host_of
from .request.pacing import Bandwidth

if TYPE_CHECKING:
    from yarl import URL

    from .request.hosts import Share
    from .request.strategy import RequestStrategy

__all__ = ["Flow", "Flows"]

Read = Callable[[int], Awaitable[bytes]]


class Flow:
    """The limits on one file, whose body may come in several answers at once.

    :param shares: bandwidths that it has a part in.
    :param low_speed: (bytes per second, seconds) that must be reached, or None.
    :param heard: told how many bytes have come, each time; or None.
    """

    def __init__(
        self,
        shares: tuple[Bandwidth, ...],
        low_speed: tuple[float, float] | None,
        heard: Callable[[int], None] | None = None,
    ) -> None:
        self._shares = shares
        self.heard = heard
        self.limited = bool(shares) or low_speed is not None
        self._low_speed = low_speed
        self._left = low_speed[1] if low_speed is not None else 0.0
        self._came = 0
        self._waiting: set[asyncio.Timeout] = set()
        self._since = 0.0  # since when somebody waits for the server

    async def read(self, read: Read, size: int) -> bytes:
        """The next bytes, not sooner than they may come.

        :raises LowSpeedError: if they come too slowly.
        """
        chunk = await (read(size) if self._low_speed is None else self._watched(read, size, self._low_speed))
        if self.heard is not None and chunk:
            self.heard(len(chunk))
        if self._shares and chunk:
            now = asyncio.get_running_loop().time()
            wait = max(share.take(len(chunk), now) for share in self._shares)
            if wait > 0:
                await asyncio.sleep(wait)
        return chunk

    async def _watched(self, read: Read, size: int, low_speed: tuple[float, float]) -> bytes:
        """Only the wait for the server counts, and not that for the disk or for the bandwidth."""
        least, seconds = low_speed
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._since = loop.time()
        limit = asyncio.timeout_at(self._since + self._left)
        self._waiting.add(limit)
        try:
            async with limit:
                chunk = await read(size)
        except TimeoutError:
            if not limit.expired():
                raise
            raise LowSpeedError(f"less than {least:g} bytes/s came over {seconds:g} s (low_speed)") from None
        finally:
            now = loop.time()
            self._waiting.discard(limit)
            if not self._waiting:
                self._left -= now - self._since
        self._came += len(chunk)
        if self._came >= least * seconds:
            self._left, self._came, self._since = seconds, 0, now
            for other in self._waiting:
                if not other.expired():
                    other.reschedule(now + seconds)
        return chunk


class Flows:
    """Makes the flows of one entered AioDownload, which share its bandwidth.

    :param strategy: has the limits.
    :param share: which hosts are asked by nobody else; what others may send is divided.
    """

    def __init__(self, strategy: RequestStrategy, share: Share | None = None) -> None:
        self._share = share
        self._low_speed = strategy.low_speed
        self._per_host = strategy.per_host_bandwidth
        self._all = (Bandwidth(strategy.bandwidth),) if strategy.bandwidth is not None else ()
        self._hosts: WeakValueDictionary[str, Bandwidth] = WeakValueDictionary()
        self._limited = bool(self._all) or self._per_host is not None or self._low_speed is not None

    def of(self, url: URL, heard: Callable[[int], None] | None = None) -> Flow | None:
        """The flow of the body of one answer from ``url``; None where nothing limits it and nobody listens.

        :param heard: told how many bytes have come, each time.
        """
        if not self._limited:
            return None if heard is None else Flow((), None, heard)
        if self._per_host is None:
            return Flow(self._all, self._low_speed, heard)
        origin = host_of(url)
        share = self._hosts.get(origin)
        if share is None:
            parts = 1 if self._share is None else self._share.parts_of(origin)
            share = self._hosts[origin] = Bandwidth(self._per_host / parts)
        return Flow((*self._all, share), self._low_speed, heard)
