"""The Sink protocol: where the bytes of one body go until they are proved whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from ..checksums import Hasher
from ..entries import FileState, Publication
from .kept import Origin

__all__ = ["Note", "Sink", "Soon"]

Note: TypeAlias = Callable[[str, FileState], None]
"""Is told, in a thread, of a final path and of the file that is about to appear there."""

Soon: TypeAlias = Callable[[str, FileState, Callable[[Exception | None], object]], object]
"""The same on the event loop, which does not wait: calls back with None when the file may appear, or with why it may
not."""


class Sink(Protocol):
    """A place that shows nothing under the final name before :meth:`commit`.

    Exactly one of :meth:`commit` and :meth:`abandon` ends it; ``abandon`` after a failed ``commit`` is right.
    """

    labelled: bool
    """Whether the whole carries along what is known of it."""

    @property
    def origin(self) -> Origin | None:
        """What the bytes are of, if that was said and they can outlive a failure."""

    @property
    def size(self) -> int:
        """Bytes taken so far, those of earlier tries included."""

    @property
    def target(self) -> str:
        """Where the whole is to appear, or after :meth:`commit` where it is (absolute str)."""

    def keep(self, origin: Origin) -> None:
        """Say, before the first byte, what the bytes will be of, so that they may outlive a failure."""

    def expect(self, hasher: Hasher, *, transient: bool) -> None:
        """Say, before the first byte, which checksums the whole must have; :meth:`commit` compares.

        :param transient: whether another try may help if it has not.
        """

    def label(self, what: Publication, content_type: str, length: int | None) -> None:
        """Say, before the first byte, what the whole is to carry along; only if it is ``labelled``.

        :param what: what is known of it, but for its state.
        :param content_type: what the server calls it, not yet looked at.
        :param length: its bytes, if that is known.
        """

    def finish_as(self, path: str, modified: float | None) -> None:
        """Say how the whole is to appear.

        :param path: its final path (absolute str), in the same folder.
        :param modified: when it was modified, in POSIX seconds; None: now.
        """

    def announce(self, note: Note, soon: Soon | None = None) -> None:
        """Say who is to be told of the final path and the file just before it appears there.

        :param note: in a thread.
        :param soon: does the same on the event loop, which is cheaper for many; None: nothing does.
        """

    async def write(self, data: bytes) -> None:
        """Take the next bytes; they may be kept in memory for a while.

        :raises DiskError: if they, or earlier ones, cannot be stored.
        """

    def hand_in(self, tell: Callable[[int, Exception | None], object]) -> bool:
        """Let somebody else publish the whole, if that is the quickest, without waiting for it.

        :param tell: is told the size in bytes, and what went wrong, if anything did: a :class:`DownloadError`, or
            something else if it is not known what became of it, and :meth:`commit` is to be called.
        :returns: whether that is so; if not, :meth:`commit` is to be called.
        :raises DigestError: if it is not what it should be.
        """

    async def commit(self) -> int:
        """Store what is left, check the size, and let the whole appear under the final name at once.

        :returns: the size in bytes.
        :raises DiskError: if that is not possible; the final name is then as it was.
        """

    async def abandon(self, *, keep: bool = False) -> bool:
        """Forget the bytes and leave nothing behind; the final name is as it was.

        :param keep: rather keep them for another try, if that is possible.
        :returns: whether they were kept.
        """
