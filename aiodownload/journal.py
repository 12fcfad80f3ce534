"""Journal: what became of every URL, in one SQLite file that outlives the program, its crash, and its being killed."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from .entries import DONE, PUBLISHING, STATES, Enlisted, FileState, Known, Outcome, Publication, Unfinished
from .errors import ConfigurationError, JournalError
from .homes import is_store, root

__all__ = ["Journal", "is_empty"]

T = TypeVar("T")

APPLICATION = 0x61696F64  # "aiod", in the header of the file
VERSION = 1
BUSY = 60.0  # seconds to wait for another program that writes
TIRED = 5.0  # seconds after such a wait was in vain in which nobody waits again: all who had to are to end by one wait
LONGEST = 1 << 20  # bytes in one value; a file that holds larger ones is not believed
_PORTION = 500  # rows read at a time

_TABLES = {
    "urls": """CREATE TABLE urls (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    url TEXT NOT NULL,
    plain INTEGER NOT NULL,
    wanted TEXT,
    mirrors TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    http_status INTEGER,
    final_url TEXT,
    error TEXT,
    elapsed REAL NOT NULL,
    at REAL NOT NULL,
    path TEXT,
    size INTEGER,
    mtime_ns INTEGER,
    inode INTEGER,
    etag TEXT,
    last_modified TEXT,
    verified TEXT,
    digest TEXT,
    asker BLOB
)""",
    "settings": "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
}
_INDEX = "CREATE INDEX failures ON urls (id) WHERE state IN ('failed', 'cancelled', 'enlisted', 'publishing')"

_VERIFIED = frozenset({"DIGEST", "LENGTH", "FRAMING", "NONE"})
_ETAG = re.compile('(?:W/)?"[^\x00-\x20"\x7f\ud800-\udfff]*"')
_DATE = re.compile(r"[A-Za-z0-9,: +-]{1,64}")

# Rows that one statement takes: around each, a thread lets go of the interpreter's lock and has to get it back, which
# costs more than the row where the event loop is busy.
_GROUPS = (16, 4, 1)

_Row: TypeAlias = tuple[Any, ...]  # its key, and what belongs to it

_KNOWN = "state, path, size, mtime_ns, inode, etag, last_modified, verified, digest, asker"
_ENLISTED = "key, url, plain, state, attempts, elapsed, at, path, wanted, mirrors, asker"
_PUBLISHED = "path, size, mtime_ns, inode, etag, last_modified, verified, digest, state"
_SETTLED = "state, attempts, http_status, final_url, error, elapsed, at, path"


class Journal:
    """What became of every URL, in one SQLite file.

    Give it, or just its path, as ``journal`` to :class:`AioDownload`.  Each URL has exactly one row, made before its
    first request and settled after its file has its final name.  Run the same program again, after whatever has ended
    it, and it does only what is missing.

    :param path: the file (str or path-like), made if it is missing, with mode 0600, as is its folder.
    :raises ConfigurationError: if ``path`` is no path.

    Constructing opens nothing.  All methods may be called from any thread, block, and raise :class:`JournalError` if
    the file cannot be used.  An object with the same methods may be given in its place: a subclass, or one that passes
    them on.

    The journal holds no secrets: no password of a URL, no header, no form.
    """

    __module__ = "aiodownload"  # where everybody finds it

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        if not isinstance(text, str) or not text or "\0" in text or text == ":memory:":
            raise ConfigurationError(f"journal must be the path of a file, not {path!r}")
        self.path = os.path.abspath(text)
        self._database: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._users = 0
        self._base: str | None = None
        self._shared = False  # whether others write to the file as well
        self._version = 0  # of the file, by which that is seen
        self._tired = 0.0  # until when
        self._patient = True

    def __repr__(self) -> str:
        return f"Journal({self.path!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def open(self, home: str | None = None, *, durable: bool = False) -> None:
        """Open the file, or make it.  May be called again; each call needs its :meth:`close`.

        :param home: the folder for the files (absolute str), or the URL of an object store, remembered for
            ``aiodownload retry``; None only reads it.
            Paths below it are kept relative to it, so that it may be moved.  One journal is for one folder.
        :param durable: settle nothing before it is on the disk, so that it outlives a power loss (bool).
        :raises JournalError: if it cannot be opened, or is something else.
        """
        with self._lock, self._telling("open"):
            if self._database is None:
                self._database = self._connected(make=home is not None)
                self._patient, self._tired = True, 0.0
                self._shared, self._version = False, _version(self._database)
            self._users += 1
            self._shared |= self._users > 1
            try:
                if durable:
                    self._database.execute("PRAGMA synchronous = FULL")
                if home is not None:
                    if self._base not in (None, home):
                        raise JournalError(self.path, f"it is in use for the folder {self._base!r}")
                    self._base = home
                    with self._transaction() as database:
                        database.execute("INSERT OR REPLACE INTO settings VALUES ('home', ?)", (home,))
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the file when its last user has."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if not self._users and self._database is not None:
                database, self._database, self._base = self._database, None, None
                with contextlib.suppress(sqlite3.Error):
                    database.close()

    @property
    def home(self) -> str | None:
        """Where the files of the last run are, a folder (absolute str) or the URL of an object store; or None."""
        with self._lock, self._telling("read"):
            row = self._open().execute("SELECT value FROM settings WHERE name = 'home'").fetchone()
        home = row[0] if row is not None else None
        return home if isinstance(home, str) and (os.path.isabs(home) or is_store(home)) else None

    def enlist(
        self, urls: Sequence[Enlisted], judge: Callable[[Enlisted, Known | None], str | None]
    ) -> list[Known | None]:
        """Make a row for each URL that has none, in one transaction.

        :param judge: says of each the state that its row has from now on, None to leave it alone; it may look at the
            disk.
        :returns: what was known of each, in the order of ``urls``.
        """
        now = time.time()
        found: list[Known | None] = []
        with self._lock, self._telling("write"), self._transaction() as database:
            for group in _unlike(urls):
                rows = _look_up(database, [one.key for one in group])
                new: list[_Row] = []
                for one in group:
                    known = self._known(rows[one.key]) if one.key in rows else None
                    state = judge(one, known)
                    found.append(known)
                    if state is None:
                        continue
                    wanted, mirrors = _words(one)
                    if one.key not in rows:
                        path = self._relative(one.path)
                        new.append(
                            (one.key, _text(one.url), one.plain, state, 0, 0, now, path, wanted, mirrors, one.asker)
                        )
                    elif known is None or state != known.state or one.asker is not None:
                        database.execute(
                            "UPDATE urls SET state = ?, at = ?, wanted = ?, mirrors = ?, asker = ? WHERE key = ?",
                            (state, now, wanted, mirrors, one.asker, one.key),
                        )
                _insert(database, new)
        return found

    def publishing(self, key: bytes, publication: Publication) -> None:
        """Note what is about to appear under its final name: whatever happens next, it will be recognised there."""
        self._note([self._published(key, publication)])

    def publishing_all(self, publications: Sequence[tuple[bytes, Publication]]) -> None:
        """Note several in one transaction, each with its key, see :meth:`publishing`."""
        if getattr(self.publishing, "__func__", None) is not Journal.publishing:  # who has another sees every one
            for key, publication in publications:
                self.publishing(key, publication)
        elif publications:
            self._note([self._published(key, publication) for key, publication in publications])

    def _note(self, rows: Sequence[_Row]) -> None:
        with self._lock, self._telling("write"), self._transaction() as database:
            _update(database, _PUBLISHED, _PUBLISHED, rows)

    def _published(self, key: bytes, publication: Publication) -> _Row:
        file = publication.file
        return (
            key,
            self._relative(publication.path),
            file.size,
            _signed(file.mtime_ns),
            _signed(file.inode),
            _text(publication.etag),
            _text(publication.last_modified),
            publication.verified,
            " ".join(publication.digest) or None,
            PUBLISHING,
        )

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Note what became of URLs, in one transaction."""
        now, outcomes = time.time(), list(outcomes)
        rows: list[_Row] = [
            (
                one.key,
                one.state,
                one.attempts,
                one.http_status,
                _text(one.final_url),
                _text(one.error),
                one.elapsed,
                now,
                self._relative(one.path),
            )
            for one in outcomes
        ]
        # What was published has its path already, which may be another than was asked for.
        path = "CASE WHEN urls.size IS NULL THEN new.path ELSE urls.path END"
        values = _SETTLED.removesuffix("path") + path
        with self._lock, self._telling("write"), self._transaction() as database:
            _update(database, _SETTLED, values, rows)
            if not self._shared:
                self._shared = _version(database) != self._version
            if self._shared:
                self._note_again(database, outcomes)

    def _note_again(self, database: sqlite3.Connection, outcomes: Iterable[Outcome]) -> None:
        """Let the row be of the file that is there, where two have published one.

        One may note its file first and give it the name last.  Whoever did that settles after it, and sees it here.
        """
        mine = {one.key: one.publication for one in outcomes if one.publication is not None and one.state == DONE}
        found = _look_up(database, list(mine))
        again: list[_Row] = []
        for key, publication in mine.items():
            row = self._published(key, publication)
            if key in found and found[key][2:5] != row[2:5]:
                with contextlib.suppress(OSError, ValueError):
                    if publication.file.is_of(FileState.of(os.lstat(publication.path)), copy=False):
                        again.append((*row[:-1], DONE))
        _update(database, _PUBLISHED, _PUBLISHED, again)

    def counts(self) -> dict[str, int]:
        """Return how many URLs are in each state: reads the whole file."""
        with self._lock, self._telling("read"):
            rows = self._open().execute("SELECT state, count(*) FROM urls GROUP BY state").fetchall()
        return {state: count for state, count in rows if state in STATES}

    def unfinished(self) -> Iterator[Unfinished]:
        """Iterate over the URLs that have no file yet, in the order in which they were enlisted."""
        last = 0
        while True:
            with self._lock, self._telling("read"):
                rows = (
                    self._open()
                    .execute(
                        "SELECT id, key, url, plain, state, path, error, wanted, mirrors FROM urls WHERE id > ?"
                        " AND state IN ('failed', 'cancelled', 'enlisted', 'publishing') ORDER BY id LIMIT ?",
                        (last, _PORTION),
                    )
                    .fetchall()
                )
            if not rows:
                return
            last = rows[-1][0]
            for _, key, url, plain, state, path, error, wanted, mirrors in rows:
                texts = isinstance(url, str) and all(isinstance(text, (str, type(None))) for text in (path, error))
                if isinstance(key, bytes) and texts:
                    place = None if path is None else self._absolute(path)
                    yield Unfinished(key, url, plain == 1, state, place, error, _split(wanted), _split(mirrors))

    def _known(self, row: tuple[Any, ...]) -> Known | None:
        """Read a row; whatever is not what :class:`Journal` writes counts as unknown."""
        state, path, size, mtime_ns, inode, etag, last_modified, verified, digest, asker = row
        if state not in STATES:
            return None
        asker = asker if isinstance(asker, bytes) else None
        numbers = all(isinstance(number, int) for number in (size, mtime_ns, inode))
        texts = all(isinstance(text, (str, type(None))) for text in (etag, last_modified, digest))
        if not numbers or not texts or not isinstance(path, str) or verified not in _VERIFIED or size < 0:
            return Known(state, None, fileless=size is None and verified is None, asker=asker)
        return Known(
            state,
            Publication(
                self._absolute(path),
                FileState(size, mtime_ns, inode),
                etag if etag is not None and _ETAG.fullmatch(etag) else None,
                last_modified if last_modified is not None and _DATE.fullmatch(last_modified) else None,
                verified,
                tuple((digest or "").split()),
            ),
            asker=asker,
        )

    def _relative(self, path: str | None) -> str | None:
        if path is not None and self._base is not None:
            path = path.removeprefix(root(self._base))
        return _text(path)

    def _absolute(self, path: str) -> str:
        if self._base is None or is_store(path):
            return path
        return root(self._base) + path if is_store(self._base) else os.path.join(self._base, path)

    # The file.

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise JournalError(self.path, "it is not open")
        return self._database

    def _connected(self, *, make: bool) -> sqlite3.Connection:
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        if make:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
        # Nobody else reads which URLs somebody has fetched.
        os.close(os.open(self.path, flags | (os.O_CREAT if make else 0), 0o600))
        database = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        try:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            # It may come from anybody: nothing in its schema is run.
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            self._check(database)
            if database.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                database.execute("PRAGMA journal_mode = DELETE")  # a file system without shared memory
            database.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            database.close()
            raise
        return database

    def _check(self, database: sqlite3.Connection) -> None:
        """Make the tables in an empty file; refuse a file that is anything else than a journal."""
        database.execute("BEGIN IMMEDIATE")
        try:
            if is_empty(database, self.path):
                for sql in (*_TABLES.values(), _INDEX):
                    database.execute(sql)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._open()
        if (patient := time.monotonic() >= self._tired) is not self._patient:
            database.execute(f"PRAGMA busy_timeout = {BUSY * 1000 if patient else 0:.0f}")
            self._patient = patient
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except BaseException as error:
            if patient and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                self._tired = time.monotonic() + TIRED
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        """Turn what SQLite and the operating system say into a :class:`JournalError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(self.path, f"cannot {action}: {error}") from error
        except OSError as error:
            raise JournalError(self.path, f"cannot {action}: {error.strerror or error}") from error


def is_empty(database: sqlite3.Connection, path: str) -> bool:
    """Whether the file has nothing in it yet.

    :param path: its name, for messages.
    :raises JournalError: if it is neither empty nor a journal.
    """
    schema = {
        name: sql
        for name, sql in database.execute("SELECT name, sql FROM sqlite_master")
        if not str(name).startswith("sqlite_autoindex_")
    }
    application = database.execute("PRAGMA application_id").fetchone()[0]
    if not schema and application == 0:
        return True
    if application != APPLICATION:
        raise JournalError(path, "it is another program's file; give a journal a file of its own")
    if (version := database.execute("PRAGMA user_version").fetchone()[0]) != VERSION:
        raise JournalError(path, f"its format is {version}, and this aiodownload reads {VERSION}")
    if schema != {**_TABLES, "failures": _INDEX}:
        raise JournalError(path, "its tables are not those of a journal")
    return False


def _version(database: sqlite3.Connection) -> int:
    """A number that changes when others have written to the file."""
    version: int = database.execute("PRAGMA data_version").fetchone()[0]
    return version


def _unlike(urls: Iterable[Enlisted]) -> Iterator[list[Enlisted]]:
    """Groups in each of which no key is there twice: the second of them has the row of the first."""
    group: dict[bytes, Enlisted] = {}
    for one in urls:
        if one.key in group:
            yield list(group.values())
            group = {}
        group[one.key] = one
    if group:
        yield list(group.values())


def _look_up(database: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, _Row]:
    """The rows of these keys, those that there are."""
    found: dict[bytes, _Row] = {}
    for some in _groups(keys):
        sql = f"SELECT key, {_KNOWN} FROM urls WHERE key IN {_places(1, len(some))}"  # noqa: S608 (nothing but ours)
        found.update((row[0], row[1:]) for row in database.execute(sql, some).fetchall())
    return found


def _insert(database: sqlite3.Connection, rows: Sequence[_Row]) -> None:
    """Make rows."""
    for some in _groups(rows):
        sql = f"INSERT INTO urls ({_ENLISTED}) VALUES {_places(len(some), len(some[0]))}"  # noqa: S608 (nothing but ours)
        database.execute(sql, [value for row in some for value in row])


def _update(database: sqlite3.Connection, columns: str, values: str, rows: Iterable[_Row]) -> None:
    """Change the rows of these keys; of one key that is there twice, the last counts.

    :param columns: that are changed.
    :param values: what they are to be, of ``new`` and ``urls``.
    :param rows: a key, and what is ``new``, in the order of ``columns``.
    """
    for some in _groups(list({row[0]: row for row in rows}.values())):
        sql = (
            f"WITH new (key, {columns}) AS (VALUES {_places(len(some), len(some[0]))})"  # noqa: S608 (nothing but ours)
            f" UPDATE urls SET ({columns}) = (SELECT {values} FROM new WHERE new.key = urls.key)"
            " WHERE key IN (SELECT key FROM new)"
        )
        database.execute(sql, [value for row in some for value in row])


def _groups(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """All of them, in order, in portions of few different sizes: each size is a statement that SQLite has to learn."""
    at = 0
    for size in _GROUPS:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size


@lru_cache(16)
def _places(rows: int, columns: int) -> str:
    """Question marks for them."""
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def _text(value: str | None) -> str | None:
    """``value`` as SQLite can hold it: names of files may hold bytes that are no UTF-8."""
    return None if value is None else value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _words(one: Enlisted) -> tuple[str | None, str | None]:
    """Digests and mirrors as the file holds them: neither has a space in it."""
    return " ".join(one.digest) or None, _text(" ".join(one.mirrors)) or None


def _split(words: object) -> tuple[str, ...]:
    return tuple(words.split()) if isinstance(words, str) else ()


def _signed(number: int) -> int:
    """An inode has up to 64 bits without a sign, an integer of SQLite has one."""
    return (number + 2**63) % 2**64 - 2**63
