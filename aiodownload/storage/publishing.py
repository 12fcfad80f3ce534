"""Publishing: a body that is whole and proven, on its way to its final name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..bundle import Verified
from ..errors import DownloadError, JournalError

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from .sink import Sink

__all__ = ["Publishing"]

Told: TypeAlias = "Callable[[Publishing], object]"


class Publishing:
    """Small files get their names many at a time; meanwhile nothing else of their downloads need be kept.

    :param bundle: learns what the file is, once it has its name.
    :param sink: has taken the whole body.
    :param proof: of its wholeness.

    ``error`` is why the file could not get its name, or None; ``lost`` whether it is not known what became of it, so
    that :meth:`finish` is to be called (bool).
    """

    __slots__ = ("_bundle", "_over", "_proof", "_sink", "_told", "error", "lost")

    def __init__(self, bundle: AioDownloadBundle, sink: Sink, proof: Verified) -> None:
        self._bundle = bundle
        self._sink = sink
        self._proof = proof
        self._over = False
        self.lost = False
        self._told: Told | None = None
        self.error: DownloadError | JournalError | None = None

    def tell(self, size: int, error: Exception | None) -> None:
        """It is over; ``error``: why it has failed, or None."""
        self._over = True
        if error is None:
            self._succeed(size)
        elif isinstance(error, (DownloadError, JournalError)):
            self.error = error
        else:
            self.lost = True
        if self._told is not None:
            self._told(self)

    def then(self, told: Told) -> None:
        """Call ``told`` with this once it is over."""
        self._told = told
        if self._over:
            told(self)

    async def finish(self) -> None:
        """Wait for the end, and publish it by other means if that has to be.

        :raises DiskError: if that is not possible.
        :raises JournalError: if it cannot be noted.
        """
        if not self._over:
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda _: None if over.done() else over.set_result(None))
            await over
        if self.lost:
            self.lost = False
            try:
                self._succeed(await self._sink.commit())
            except BaseException:
                await self._sink.abandon()
                raise
        elif self.error is not None:
            raise self.error

    def _succeed(self, size: int) -> None:
        self._bundle.size, self._bundle._file_path, self._bundle.verified = size, self._sink.target, self._proof
