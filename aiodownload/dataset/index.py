"""Index: what is in the shards of a home, those that are published and those that are open."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from ..checksums import Digest, Hasher
from ..entries import Publication
from ..storage.folder import Folder
from ..storage.placement import Found
from . import table
from .lease import ROWS, TAR
from .ledger import read_account
from .names import Place, identity, member_path, number_of, open_name, open_number, place_of, shard_name
from .rows import DONE
from .shard import Span, read_member

__all__ = ["Index"]

_SETTLED = 2_000_000_000  # nanoseconds


class Index:
    """Answers whether a member is there.

    To know which spans there are is to read the end of each table.  The members themselves are read only if somebody
    asks for them by their requests, and are kept in memory then.  All methods block, and may be called in any thread.

    :param home: the folder for the shards (absolute str).
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._spans: dict[int, Span] = {}
        self._published: set[int] = set()
        self._mine: set[int] = set()
        self._foreign: dict[int, int] = {}  # open shards of others, and the bytes of their accounts
        self._looked: int | None = None  # when the folder had last changed, as it was looked at
        self._members: dict[bytes, tuple[int, str, int]] | None = None
        self._table: tuple[int, dict[str, table.Member]] = (-1, {})  # the last that was asked for

    def own(self, number: int) -> None:
        """A shard is this process's: what is added to it is told here."""
        self._mine.add(number)

    def add(self, span: Span) -> None:
        """A shard of this process has a new span, which it keeps up to date."""
        self._spans[span.mark] = span

    def added(self, number: int, request: str, member: str, size: int) -> None:
        """A shard of this process has a new member."""
        if self._members is not None:
            self._members[bytes.fromhex(request)] = number, member, size

    def holds(self, told: Publication) -> bool:
        """Whether the very member of which a journal tells is there.

        What it calls the inode is the mark of the span, and the time is the place of the first byte.
        """
        place = place_of(told.path, self._home)
        if place is None:
            return False
        span = self._span(told)
        if span is None:
            self.look()
            span = self._span(told)
        return span is not None and span.number == place.number

    def _span(self, told: Publication) -> Span | None:
        span = self._spans.get(told.file.inode)
        whole = span is not None and span.first < told.file.mtime_ns <= span.end - told.file.size
        return span if whole else None

    def look(self) -> None:
        """Take in what other processes have published or added since the last look."""
        with self._lock, contextlib.suppress(OSError), Folder.open(self._home) as home:
            changed = os.stat(self._home).st_mtime_ns
            if changed != self._looked:
                # A folder that has just changed may do so again without a later time.
                self._looked = changed if time.time_ns() - changed > _SETTLED else None
                names = [entry.name for entry in home.entries()]
                numbers = {name: number for name in names if (number := number_of(name)) is not None}
                both = [number for name, number in numbers.items() if name.endswith(".tar")]
                tables = {number for name, number in numbers.items() if name.endswith(".parquet")}
                for number in tables.intersection(both) - self._published - self._mine:
                    self._take_in(home, number)
                self._foreign = {
                    number: self._foreign.get(number, 0)
                    for name in names
                    if (number := open_number(name)) is not None and number not in self._mine
                }
            for number, size in self._foreign.items():
                self._foreign[number] = self._look_into(home, number, size)

    def _take_in(self, home: Folder, number: int) -> None:
        """A shard is published: whole, if its tar has the bytes that its table tells of."""
        self._published.add(number)
        with contextlib.suppress(OSError):
            with _reading(home, shard_name(number, ".parquet")) as file:
                found = table.about(file)
            if found is not None and home.state(shard_name(number, ".tar")).st_size == found.size:
                for mark, first, end in found.spans:
                    self._spans[mark] = Span(mark, number, first, end)

    def _look_into(self, home: Folder, number: int, known: int) -> int:
        """Take in the account of somebody's open shard if it has grown; return its bytes."""
        with contextlib.suppress(OSError), _inside(home, number, ROWS) as handle:
            size = os.fstat(handle).st_size
            if size != known:
                for mark, first, end in read_account(handle).spans:
                    self._spans[mark] = Span(mark, number, first, end)
            return size
        return known

    def find(self, paths: Sequence[str]) -> list[Found | None]:
        """See which members there are of the bundles that ask for ``paths``.

        What other processes add after the first call is not seen.
        """
        with self._lock:
            if self._members is None:
                self._members = {}  # what is added meanwhile goes there at once
                for request, member in self._read_members():
                    self._members.setdefault(request, member)
            found = [self._members.get(bytes.fromhex(identity(path, self._home))) for path in paths]
        return [one and Found(member_path(self._home, Place(one[0], one[1])), one[2]) for one in found]

    def _read_members(self) -> Iterator[tuple[bytes, tuple[int, str, int]]]:
        with Folder.open(self._home) as home:
            names = [entry.name for entry in home.entries()]
        for number in _numbers(names):
            for one in self._members_of(number):
                with contextlib.suppress(ValueError):
                    yield bytes.fromhex(one.identity), (number, one.name, one.size)

    def _members_of(self, number: int) -> Iterable[table.Member]:
        """The members of one shard, published or open."""
        with contextlib.suppress(OSError), Folder.open(self._home) as home:
            if home.has(shard_name(number, ".tar")):
                with _reading(home, shard_name(number, ".parquet")) as file:
                    return list(table.members(file))
            with _inside(home, number, ROWS) as handle:
                rows = [one.row for one in read_account(handle).rows]
            return [
                table.Member(row.identity, row.member or "", row.offset or 0, row.size or 0)
                for row in rows
                if row.status == DONE
            ]
        return []

    def agrees(self, path: str, expected: Sequence[Digest]) -> bool:
        """Whether the member at ``path`` has every expected checksum."""
        place, hasher = place_of(path, self._home), Hasher(expected)
        if place is None:
            return False
        one = self._member(place)
        if one is None:
            return False
        with contextlib.suppress(OSError), Folder.open(self._home) as home:
            shown = shard_name(place.number, ".tar")
            opened = _opened(home, shown) if home.has(shown) else _inside(home, place.number, TAR)
            with opened as handle:
                for data in read_member(handle, one.offset, one.size):
                    hasher.update(data)
            return hasher.mismatch() is None
        return False

    def _member(self, place: Place) -> table.Member | None:
        number, known = self._table
        if number != place.number or place.member not in known:
            known = {one.name: one for one in self._members_of(place.number)}
            self._table = place.number, known
        return known.get(place.member)


@contextlib.contextmanager
def _opened(folder: Folder, name: str) -> Iterator[int]:
    handle = folder.open_file(name, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _reading(folder: Folder, name: str) -> Iterator[BinaryIO]:
    with _opened(folder, name) as handle, os.fdopen(handle, "rb", closefd=False) as file:
        yield file


@contextlib.contextmanager
def _inside(home: Folder, number: int, name: str) -> Iterator[int]:
    """A file of an open shard."""
    with Folder.open(os.path.join(home.path, open_name(number)), home.path) as folder, _opened(folder, name) as handle:
        yield handle


def _numbers(names: Iterable[str]) -> list[int]:
    """The numbers of the shards that ``names`` are of."""
    found = (number for name in names for number in (number_of(name), open_number(name)))
    return sorted({number for number in found if number is not None})
