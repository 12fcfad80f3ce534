"""An open shard by blocking calls: members are appended to it and accounted for, until it is published.

A member counts when its line is in the account; bytes after the last line are cut off by whoever takes the shard up.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from ..entries import FileState
from ..storage.owner import known, me
from ..storage.part import Part, PartError, write_at
from . import table
from .lease import ROWS, TABLE, TAR, Lease
from .ledger import Ledger, check_links
from .names import shard_name
from .rows import DONE, Account, Recorded, Row, Sealed, SpanAt, sidecar, winners
from .tar import BLOCK, ending, header, padding

__all__ = ["Sample", "Shard", "Span", "read_member"]

_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR
_PORTION = 1 << 20


@dataclass(slots=True)
class Span:
    """The members that one process has added, without a failure in between: what a journal tells of is in one of them.

    :param mark: nobody else's number (int of 62 bits).
    :param number: of the shard.
    :param first: place of the first byte.
    :param end: place after the last that is accounted for.
    """

    mark: int
    number: int
    first: int
    end: int


class Sample(NamedTuple):
    """A body, proven whole, on its way into a shard.

    :param row: what is told of it.
    :param extension: of its member, with the dot.
    :param modified: POSIX seconds.
    :param size: its bytes.
    :param body: the bytes, or a partial file that has them.
    """

    row: Row
    extension: str
    modified: float
    size: int
    body: Sequence[bytes | memoryview] | Part


class Shard:
    """One open shard, in a place that is this process's.

    :param lease: that place.
    :param mode: permission bits of what is published (int).
    :param durable: bring everything to the disk itself before it counts (bool).
    :param added: told of each new span.
    :raises OSError: if it cannot be read.
    """

    def __init__(
        self, lease: Lease, mode: int, durable: bool, added: Callable[[Span], object] = lambda span: None
    ) -> None:
        self.number = lease.number
        self.end = 0
        self.members = 0
        self.rows = 0
        self.done: set[str] = set()  # identities
        self.sealed = False
        self._lease = lease
        self._mode = mode
        self._durable = durable
        self._added = added
        self._spans: list[Span] = []
        self._open_span: Span | None = None  # None: the next member begins one
        self._tar: int | None = None
        self._ledger = Ledger(lease.folder.open_file(ROWS, os.O_RDWR), durable)
        try:
            with contextlib.suppress(FileNotFoundError):  # it was published
                self._tar = lease.folder.open_file(TAR, os.O_RDWR)
            self._recover()
        except BaseException:
            self._close()
            raise

    def _recover(self) -> None:
        """Take in what is accounted for, and cut off the rest."""
        account, published = self._ledger.read(), self._lease.home.has(shard_name(self.number, ".tar"))
        if self._tar is not None:
            check_links(self._tar, 2 if published else 1)
            if not published:
                account = _believed(account, self._tar)
            if not account.sealed:
                os.ftruncate(self._tar, account.end)
        self._ledger.go_on_after(account)
        self.end, self.sealed = account.end, account.sealed
        for mark, first, end in account.spans:
            self._add_span(Span(mark, self.number, first, end))
        for one in account.rows:
            self._count(one.row)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is told in it."""
        return not self.rows

    @property
    def is_mine(self) -> bool:
        """See :attr:`Lease.is_mine`."""
        return self._lease.is_mine

    def release(self) -> None:
        """Leave it to whoever comes next."""
        self._close()
        self._lease.release()

    def discard(self) -> None:
        """Leave nothing of it."""
        self._close()
        self._lease.remove()

    def _close(self) -> None:
        self._ledger.close()
        if self._tar is not None:
            with contextlib.suppress(OSError):
                os.close(self._tar)
            self._tar = None

    # Adding to it.

    def append(self, sample: Sample, key: str, note: Callable[[str, FileState], object] | None) -> Row:
        """Add a member and its metadata; when this returns, they count.

        :param key: the name of the sample.
        :param note: told of the member's name and place just before it counts, or None.
        :raises PartError: if the disk refuses; nothing of it is there then.
        """
        row = sample.row._replace(key=key, member=key + sample.extension, offset=self.end + BLOCK, size=sample.size)
        try:
            span = self._open_span or self._begin_span()
            row, end = self._write(sample, row)
            self._open_span = None  # what is noted and does not come to count must not be taken for another
            if note is not None:
                note(row.member or "", FileState(sample.size, self.end + BLOCK, span.mark))
            self._ledger.write(Recorded(end, row))
        except BaseException as error:
            self._cut_back()
            if isinstance(error, OSError):
                raise PartError("write", error.errno) from error
            raise
        self._open_span = span
        self.end = span.end = end
        self._count(row)
        return row

    def tell(self, row: Row) -> None:
        """Add what is told of a URL that has no member.

        :raises PartError: if the disk refuses.
        """
        try:
            if not self._spans:
                self._begin_span()
            self._ledger.write(Recorded(self.end, row))
        except OSError as error:
            raise PartError("write", error.errno) from error
        self._count(row)

    def _write(self, sample: Sample, row: Row) -> tuple[Row, int]:
        """Bring the member and its metadata to the tar; return the whole row, and the place after them."""
        head, body = header(row.member or "", sample.size, sample.modified), sample.body
        place, digest = self.end, sha256()
        if isinstance(body, Part):
            place = self._put([head], place)

            def copy(data: bytes) -> None:
                nonlocal place
                digest.update(data)
                place = self._put([data], place)

            body.read_back(copy)
            front = []
        else:
            for chunk in body:
                digest.update(chunk)
            front = [head, *body]
        row = row._replace(sha256=digest.hexdigest())
        told = sidecar(row)
        back = [padding(sample.size), header(f"{row.key}.json", len(told), sample.modified), told, padding(len(told))]
        place = self._put([*front, *back], place)
        if self._durable and self._tar is not None:
            os.fsync(self._tar)
        return row, place

    def _put(self, chunks: Iterable[bytes | memoryview], place: int) -> int:
        if self._tar is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return place + sum(write_at(self._tar, chunks, place))

    def _begin_span(self) -> Span:
        span = Span(int.from_bytes(os.urandom(8)) >> 2, self.number, self.end, self.end)
        self._ledger.write(SpanAt(span.mark, span.first, me().boot))
        self._add_span(span)
        self._open_span = span
        return span

    def _add_span(self, span: Span) -> None:
        self._spans.append(span)
        self._added(span)

    def _count(self, row: Row) -> None:
        self.rows += 1
        if row.status == DONE:
            self.members += 1
            self.done.add(row.identity)

    def _cut_back(self) -> None:
        """Give the disk back what does not count; it would be written over anyway."""
        if self._tar is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._tar, self.end)

    # Publishing it.

    def publish(self) -> None:
        """Let the metadata and then the tar appear in home, and leave nothing else.  May be called again.

        A shard without a member has only metadata.

        :raises PartError: if the disk refuses, or something has the name; all that counts is kept then.
        """
        action = "write"
        try:
            if not self.sealed:
                self._ledger.write(Sealed(self.end))
                self.sealed = True
            size = self.end + len(ending(self.end))
            self._finish_tar()
            about = table.About(size, tuple((span.mark, span.first, span.end) for span in self._spans))
            self._write_table(about)
            action = "rename to"
            self._show(TABLE, shard_name(self.number, ".parquet"))
            if self.members:
                self._show(TAR, shard_name(self.number, ".tar"))
            if self._durable:
                action = "sync"
                self._lease.home.sync()
        except OSError as error:
            raise PartError(action, error.errno) from error
        self.discard()

    def _finish_tar(self) -> None:
        if self._tar is None:
            return
        os.ftruncate(self._tar, self._put([ending(self.end)], self.end))
        self._let_be_seen(self._tar)

    def _write_table(self, about: table.About) -> None:
        home, folder = self._lease.home, self._lease.folder
        shown = shard_name(self.number, ".parquet")
        if home.has(shown):  # perhaps by somebody who was killed in between
            with os.fdopen(home.open_file(shown, os.O_RDONLY), "rb") as file:
                if table.about(file) == about:
                    return
        with contextlib.suppress(FileNotFoundError):
            folder.unlink(TABLE)
        rows = winners(self._ledger.read().rows)
        with os.fdopen(folder.open_file(TABLE, _NEW), "wb") as written:
            table.write(written, rows, about)
            written.flush()
            self._let_be_seen(written.fileno())

    def _let_be_seen(self, handle: int) -> None:
        if hasattr(os, "fchmod"):
            os.fchmod(handle, self._mode)
        if self._durable:
            os.fsync(handle)

    def _show(self, name: str, shown: str) -> None:
        """Let the file ``name`` be seen in home as ``shown``, unless that was done before."""
        home, folder = self._lease.home, self._lease.folder
        if home.has(shown) and (not folder.has(name) or _is_same(folder.state(name), home.state(shown))):
            return
        folder.give(name, home, shown)


def _believed(account: Account, tar: int) -> Account:
    """What the tar really has: after a power cut that may be less, unless all was brought to the disk."""
    boot = me().boot
    same = known(boot) and account.is_of(boot)
    size = os.fstat(tar).st_size
    for count, line in enumerate(account.lines):
        if not isinstance(line, Recorded):
            continue
        if line.end > size or (not same and line.row.status == DONE and _digest(tar, line.row) != line.row.sha256):
            return account.cut(count)
    return account


def _digest(tar: int, row: Row) -> str:
    """What the bytes of a member come to."""
    digest = sha256()
    for data in read_member(tar, row.offset or 0, row.size or 0):
        digest.update(data)
    return digest.hexdigest()


def read_member(tar: int, offset: int, size: int) -> Iterator[bytes]:
    """Read the bytes of a member, as many as there are of them.  Blocks.

    :param tar: an open tar, which nobody else reads by this descriptor.
    """
    os.lseek(tar, offset, os.SEEK_SET)
    while size > 0 and (data := os.read(tar, min(size, _PORTION))):
        size -= len(data)
        yield data


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
