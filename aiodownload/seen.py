"""Seen: what became of every URL that a run has settled, in bounded memory.

The same URL twice in one run is fetched once, however far apart its two places in the input are.  The
latest outcomes are kept in memory; older ones go in batches to a private temporary SQLite database that
vanishes with the run.  A Bloom filter in front of it spares nearly every look-up of a URL that is new.

Nearly all of what goes there is never asked for, so it has to be cheap to put away: outcomes are appended, many to
a row, and only a hash of the path and the number of the outcome are kept in order.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from . import errors
from .bundle import Status, Verified

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Record", "Seen", "SpillError"]

_RECENT = 6144
_BATCH = 4096
_BITS = (1 << 25) - 1  # 4 MiB: under 1 false look-up in 100 up to 3 million URLs, and never a wrong answer
_TOGETHER = 32  # outcomes in a row of the database, each a line of JSON

_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode  # json.dumps() makes one each time

_INSERT = "INSERT INTO seen VALUES (?, ?)"
_PAIRS = 512  # numbers in one statement: each lets go of the interpreter's lock, and has to wait for it afterwards
_INSERT_MANY = _INSERT + ", (?, ?)" * (_PAIRS // 2 - 1)

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
        self._rows = 0
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
        known = self._filter
        if known is None:
            return False
        for spot in _spots(hash(path)):  # noqa: SIM110  # all() of a generator takes twice the time
            if not known[spot >> 3] >> (spot & 7) & 1:
                return False
        return True

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
                    self._database.execute("PRAGMA cache_size = -4096")
                    self._database.execute("CREATE TABLE outcomes (row INTEGER PRIMARY KEY, packed TEXT)")
                    self._database.execute(
                        "CREATE TABLE seen (key INTEGER, number INTEGER, PRIMARY KEY (key, number)) WITHOUT ROWID"
                    )
                self._spill(self._database)
            except (sqlite3.Error, TypeError, ValueError) as error:
                raise SpillError(str(error)) from error

    def _spill(self, database: sqlite3.Connection) -> None:
        packed = sorted((hash(path), _pack(path, record)) for path, record in self._leaving.items())
        rows: list[tuple[int, str]] = []
        pairs: list[int] = []
        for at in range(0, len(packed), _TOGETHER):
            part = packed[at : at + _TOGETHER]
            rows.append((self._rows, "\n".join([outcome for _, outcome in part])))
            for number, (key, _) in enumerate(part, self._rows * _TOGETHER):
                pairs += (key, number)
            self._rows += 1
        many = len(pairs) - len(pairs) % _PAIRS
        database.execute("BEGIN")
        database.executemany("INSERT INTO outcomes VALUES (?, ?)", rows)
        database.executemany(_INSERT_MANY, (pairs[at : at + _PAIRS] for at in range(0, many, _PAIRS)))
        database.executemany(_INSERT, (pairs[at : at + 2] for at in range(many, len(pairs), 2)))
        database.execute("COMMIT")
        if self._filter is None:
            self._filter = bytearray((_BITS + 1) >> 3)
        known = self._filter
        for key, _ in packed:
            for spot in _spots(key):
                known[spot >> 3] |= 1 << (spot & 7)
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
                found = self._database.execute(
                    "SELECT number, packed FROM seen JOIN outcomes ON row = number / ? WHERE key = ?"
                    " ORDER BY number DESC",
                    (_TOGETHER, hash(path)),
                )
                for number, packed in found:  # the latest first, and perhaps some of others with the same hash
                    whose, record = _unpack(packed.split("\n")[number % _TOGETHER])
                    if whose == path:
                        known[path] = record
                        break
        return known

    def close(self) -> None:
        """Let the temporary database vanish, also one that is being made."""
        with self._lock:
            self._closed = True
            if self._database is not None:
                self._database.close()
                self._database = None


def _spots(key: int) -> tuple[int, int, int, int]:
    """Which bits of the filter are of a hash: from its halves, by double hashing (Kirsch and Mitzenmacher, 2006)."""
    step = key >> 32
    return key & _BITS, key + step & _BITS, key + 2 * step & _BITS, key + 3 * step & _BITS


def _pack(path: str, record: Record) -> str:
    identity, file_path, attempts, status, error, http_status, final_url, headers, size, verified, elapsed = record
    told = None
    if error is not None:
        plain = all(isinstance(part, (str, int, float, type(None))) for part in error.args)
        told = [type(error).__name__, list(error.args)] if plain else ["AioDownloadError", [str(error)]]
    fields = list(headers.items()) if headers is not None else None
    results = (file_path, attempts, status.name, told, http_status, final_url, fields, size, verified.name, elapsed)
    return _encode((path, identity.hex(), *results))


def _unpack(text: str) -> tuple[str, Record]:
    path, identity, *results = json.loads(text)
    file_path, attempts, status, told, http_status, final_url, fields, size, verified, elapsed = results
    error = None
    if told is not None:
        kind = getattr(errors, told[0], None) if told[0] in errors.__all__ else None
        error = (kind or errors.AioDownloadError)(*told[1])
    headers = CIMultiDict(fields) if fields is not None else None
    outcome = (Status[status], error, http_status, final_url, headers, size, Verified[verified], elapsed)
    return path, (bytes.fromhex(identity), file_path, attempts, *outcome)
