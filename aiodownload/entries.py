"""Entries: what a journal takes in about a URL, and what it tells."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from .dates import http_date

__all__ = [
    "CACHED",
    "CANCELLED",
    "DONE",
    "ENLISTED",
    "FAILED",
    "PUBLISHING",
    "STATES",
    "Enlisted",
    "FileState",
    "Known",
    "Outcome",
    "Publication",
    "Row",
    "Unfinished",
]

STATES = ("enlisted", "publishing", "done", "cached", "failed", "cancelled")
"""Where a URL is on its way, in the words of a journal."""

ENLISTED, PUBLISHING, DONE, CACHED, FAILED, CANCELLED = STATES


class Enlisted(NamedTuple):
    """A URL that is about to be worked on.

    :param key: 16 bytes that stand for the request.
    :param url: as given, without user and password (str).
    :param plain: whether the URL is all of the request: no headers, no form, no password (bool).
    :param path: where its file would go (absolute str), or None if it cannot have one.
    :param digest: what its bytes must come to.
    :param mirrors: further URLs of the same bytes.
    :param asker: for a request with credentials, which the key leaves out: a mark of the run and of the whole request,
        that nothing can be learnt from (bytes), else None.
    """

    key: bytes
    url: str
    plain: bool
    path: str | None
    digest: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    asker: bytes | None = None


class FileState(NamedTuple):
    """What is compared to tell whether a file is still the one that was published.

    :param size: bytes.
    :param mtime_ns: time of its last change, nanoseconds since 1970.
    :param inode: its number in its file system.

    An object in a store has neither: both are the mark that it carries, a random number which is chosen before the
    object appears, and which goes along with a copy.
    """

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, state: os.stat_result) -> FileState:
        """Return what counts of ``state``."""
        return cls(state.st_size, state.st_mtime_ns, state.st_ino)

    @classmethod
    def marked(cls, size: int, mark: int) -> FileState:
        """Return what counts of an object that carries ``mark``."""
        return cls(size, mark, mark)

    def is_of(self, state: FileState, *, copy: bool) -> bool:
        """Whether ``state`` is that of the file.

        :param copy: a copy of it that has its time will do, such as one from a backup: the inode is not compared.
        """
        same_inode = (state.inode - self.inode) % 2**64 == 0
        return (state.size, state.mtime_ns) == (self.size, self.mtime_ns) and (copy or same_inode)


class Publication(NamedTuple):
    """A file that is about to get its final name.

    :param path: that name (absolute str).
    :param file: what it will look like there.
    :param etag: the server's validator for it, weak or strong, or None.
    :param last_modified: the server's date of it (RFC 9110 section 8.8.2), or None.
    :param verified: name of the :class:`Verified` that it has.
    :param digest: what its bytes have been proven to come to (``"sha256:<hex>"`` ...).
    """

    path: str
    file: FileState
    etag: str | None
    last_modified: str | None
    verified: str
    digest: tuple[str, ...] = ()

    def is_of(self, state: FileState, *, copy: bool = True) -> bool:
        """Whether ``state`` is that of the file as it was published.

        :param copy: see :meth:`FileState.is_of`; not where the time is the server's (``remote_time``), since other
            bytes may have that as well.
        """
        date = http_date(self.last_modified) if self.last_modified is not None else None
        borrowed = date is not None and self.file.mtime_ns == int(date) * 1_000_000_000
        return self.file.is_of(state, copy=copy and not borrowed)


class Row(NamedTuple):
    """How the row of a bundle learns of the file that is about to appear.

    :param note: called in a thread.
    :param note_soon: the same on the event loop, which does not wait for it: calls back with None once that is in the
        journal, or with what prevents that; None: nothing does.
    """

    note: Callable[[Publication], None]
    note_soon: Callable[[Publication, Callable[[Exception | None], object]], object] | None = None


class Known(NamedTuple):
    """What the journal has of a URL from before.

    :param state: one of :data:`STATES`.
    :param publication: its file as it was published, if that is still known.
    :param fileless: whether it has never had one: its ``on_success`` has kept something else (bool).
    :param asker: see :attr:`Enlisted.asker`.
    """

    state: str
    publication: Publication | None
    fileless: bool = False
    asker: bytes | None = None


class Outcome(NamedTuple):
    """What became of a URL.

    :param key: 16 bytes that stand for the request.
    :param state: ``done``, ``cached``, ``failed`` or ``cancelled``.
    :param attempts: tries made.
    :param http_status: of the last answer, or None.
    :param final_url: after redirects, without user and password, or None.
    :param error: the reason of a failure (str), or None.
    :param elapsed: seconds.
    :param path: where the file is or would be, or None.
    :param publication: what was noted last before its file appeared, or None.
    """

    key: bytes
    state: str
    attempts: int
    http_status: int | None
    final_url: str | None
    error: str | None
    elapsed: float
    path: str | None
    publication: Publication | None = None


class Unfinished(NamedTuple):
    """A URL that has no file yet.

    :param key: 16 bytes that stand for the request.
    :param url: without user and password.
    :param plain: whether the URL is all of the request.
    :param state: ``failed``, ``cancelled``, or, if the program was killed, ``enlisted`` or ``publishing``.
    :param path: where its file would go, or None.
    :param error: the reason, or None.
    :param digest: what its bytes must come to.
    :param mirrors: further URLs of the same bytes.
    """

    key: bytes
    url: str
    plain: bool
    state: str
    path: str | None
    error: str | None
    digest: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
