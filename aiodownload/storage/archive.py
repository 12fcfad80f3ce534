"""The Archive protocol: what keeps many bodies together, instead of each in a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..checksums import Digest
    from ..entries import Publication
    from .home import Home
    from .partial import PartialFile
    from .placement import Found

__all__ = ["Archive"]


class Archive(Protocol):
    """What one entered AioDownload has open of it; made by its strategy, see :class:`Workspace`.

    The paths of bundles then only tell them apart.  What blocks is called in a thread.
    """

    def open(self, home: Home) -> None:
        """Find what is there.  Blocks; may be called again after it has failed.

        :raises HomeError: if it cannot be used.
        """

    def sink(self, path: str, home: Home, bundle: AioDownloadBundle) -> PartialFile:
        """A place for the bytes of ``bundle``, which asked for ``path``; its ``target`` tells where they came to."""

    def holds(self, told: Publication) -> bool:
        """Whether the very body of which a journal tells is there.  Blocks; called in any thread."""

    def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See what is there of the bundles that ask for ``paths``.  Blocks."""

    def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether what is at ``path``, as :meth:`find` or a sink gave it, has every expected checksum.  Blocks."""

    async def failed(self, bundle: AioDownloadBundle) -> None:
        """``bundle`` has finally failed."""

    async def close(self) -> None:
        """Complete it, before the disk threads end.

        :raises HomeError: if that is not possible.
        """
