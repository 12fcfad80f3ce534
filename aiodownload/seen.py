"""Seen: what became of every URL that a run has settled, in bounded memory.

The same URL twice in one run is fetched once, however far apart its two places in the input are.  The
latest outcomes are kept in memory; older ones go in batches to a private temporary SQLite database that
vanishes with the run.  A Bloom filter in front of it spares nearly every look-up of a URL that is new.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from . import errors
from .bundle import Status, Verified

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Record", "Seen", "SpillError"]

_RECENT = 8192
_BATCH = 2048
_FILTER_BITS = 1 << 25  # 4 MiB: under 1 false look-up in 100 up to 3 million URLs, and never a wrong answer

Record = tuple[Any, ...]
"""Identity of the request (bytes), followed by the results of its bundle: one tuple for the garbage collector."""


class SpillError(Exception):
    """There is no disk for outcomes."""


class Seen:
    """Path -> who wrote there and what became of it.

    :meth:`spill` and, once ``spilled``, :meth:`recall` touch the disk and belong into a disk thread.
    """

    def __init__(self, recent: int = _RECENT, batch: int = _BATCH) -> None:
        self._recent: dict[str, Record] = {}
        self._limit = recent
        self._batch = batch
        self._leaving: dict[str, Record] = {}
        self._filter: bytearray | None = None
        self._database: sqlite3.Connection | None = None
        self._closed = False
        self._lock = threading.Lock()  # of the database

    @property
    def spilled(self) -> bool:
        """Whether some outcomes are no longer in memory."""
        return self._filter is not None

    @property
    def on_disk(self) -> bool:
        """Whether there is a temporary database, or may be one in a moment."""
        return self._filter is not None or bool(self._leaving)

    @property
    def full(self) -> bool:
        """Whether it is time to :meth:`spill`."""
        return len(self._recent) >= self._limit + self._batch and not self._leaving

    def put(self, path: str, identity: bytes, results: tuple[Any, ...]) -> None:
        """Remember what became of the request ``identity`` that was to write to ``path``."""
        self._recent[path] = (identity, *results)

    def get(self, path: str) -> Record | None:
        """Return what is in memory for ``path``."""
        return self._recent.get(path) or self._leaving.get(path)

    def may_be_spilled(self, path: str) -> bool:
        """Whether :meth:`recall` may know ``path``; no means certainly not."""
        return self._filter is not None and all(
            self._filter[spot >> 3] >> (spot & 7) & 1 for spot in _spots(_key(path))
        )

    def mark_leaving(self) -> None:
        """Choose what goes to the disk next; on the event loop, before :meth:`spill`."""
        self._leaving = {
            path: self._recent[path] for path, _ in zip(list(self._recent), range(self._batch), strict=False)
        }
        for path in self._leaving:
            del self._recent[path]

    def spill(self) -> None:
        """Write what was marked to the temporary database.  Blocks.

        :raises SpillError: if that is not possible.
        """
        import sqlite3  # few runs need it, and it takes its time

        with self._lock:
            if self._closed:
                return
            try:
                if self._database is None:
                    self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
                    self._database.execute("PRAGMA journal_mode = OFF")
                    self._database.execute("PRAGMA cache_size = -2048")
                    self._database.execute(
                        "CREATE TABLE seen (path BLOB PRIMARY KEY, identity BLOB, results TEXT) WITHOUT ROWID"
                    )
                self._spill(self._database)
            except (sqlite3.Error, TypeError, ValueError) as error:
                raise SpillError(str(error)) from error

    def _spill(self, database: sqlite3.Connection) -> None:
        rows = [(_key(path), identity, _pack(results)) for path, (identity, *results) in self._leaving.items()]
        database.execute("BEGIN")
        database.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", sorted(rows))
        database.execute("COMMIT")
        if self._filter is None:
            self._filter = bytearray(_FILTER_BITS >> 3)
        for key, _, _ in rows:
            for spot in _spots(key):
                self._filter[spot >> 3] |= 1 << (spot & 7)
        self._leaving = {}

    def stay(self) -> None:
        """Keep everything in memory from now on: there is no disk for it."""
        self._recent = {**self._leaving, **self._recent}
        self._leaving = {}
        self._limit = sys.maxsize

    def recall(self, paths: Iterable[str]) -> dict[str, Record]:
        """Return what the temporary database knows of ``paths``.  Blocks."""
        known = {}
        with self._lock:
            if self._database is None:
                return {}
            for path in paths:
                row = self._database.execute(
                    "SELECT identity, results FROM seen WHERE path = ?", (_key(path),)
                ).fetchone()
                if row is not None:
                    known[path] = (row[0], *_unpack(row[1]))
        return known

    def close(self) -> None:
        """Let the temporary database vanish, also one that is being made."""
        with self._lock:
            self._closed = True
            if self._database is not None:
                self._database.close()
                self._database = None


def _key(path: str) -> bytes:
    return blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _spots(key: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(key[at : at + 4], "little") % _FILTER_BITS for at in (0, 4, 8, 12))


def _pack(results: Sequence[Any]) -> str:
    path, attempts, status, error, http_status, final_url, headers, size, verified, elapsed = results
    told = None
    if error is not None:
        plain = all(isinstance(part, (str, int, float, type(None))) for part in error.args)
        told = [type(error).__name__, list(error.args)] if plain else ["AioDownloadError", [str(error)]]
    fields = list(headers.items()) if headers is not None else None
    return json.dumps([path, attempts, status.name, told, http_status, final_url, fields, size, verified.name, elapsed])


def _unpack(text: str) -> tuple[Any, ...]:
    path, attempts, status, told, http_status, final_url, fields, size, verified, elapsed = json.loads(text)
    error = None
    if told is not None:
        kind = getattr(errors, told[0], None) if told[0] in errors.__all__ else None
        error = (kind or errors.AioDownloadError)(*told[1])
    headers = CIMultiDict(fields) if fields is not None else None
    return (path, attempts, Status[status], error, http_status, final_url, headers, size, Verified[verified], elapsed)
