"""Snapshot: a journal as it is at one moment; neither the file nor anything beside it is changed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from ..errors import JournalError
from ..journal import BUSY, LONGEST, is_empty
from . import words

__all__ = ["Connection", "read"]

Answer = TypeVar("Answer")

# What no run writes into a journal counts as absent; text is handed on as bytes, which need not be UTF-8.
_VIEW = """CREATE TEMP VIEW seen AS SELECT
    id,
    CAST(url AS BLOB) AS url,
    CAST(error AS BLOB) AS error,
    plain IS 1 AS plain,
    CASE WHEN state IN ('enlisted', 'publishing') THEN 'waiting' ELSE state END AS state,
    CASE WHEN typeof(attempts) = 'integer' AND attempts BETWEEN 0 AND 1000000000 THEN attempts ELSE 0 END AS attempts,
    CASE WHEN typeof(http_status) = 'integer' AND http_status BETWEEN 100 AND 999 THEN http_status END AS http_status,
    CASE WHEN typeof(elapsed) = 'real' AND elapsed BETWEEN 0 AND 1e9 THEN elapsed ELSE 0.0 END AS elapsed,
    CASE WHEN typeof(at) = 'real' AND at BETWEEN 0 AND 32503680000 THEN at END AS at,
    CASE WHEN typeof(size) = 'integer' AND size BETWEEN 0 AND 9007199254740992 THEN size END AS size
    FROM main.urls WHERE state IN ('enlisted', 'publishing', 'done', 'cached', 'failed', 'cancelled')"""


def read(path: str, ask: Callable[[sqlite3.Connection], Answer]) -> Answer:
    """Ask a journal, all questions at one moment, also while a run writes it.

    :param path: its file.
    :param ask: gets a connection with a view ``seen`` of the table ``urls``, and the functions ``host(url)`` and
        ``reason(error, url)``; may be called a second time, and the answer of that counts.
    :raises JournalError: if the file is no journal, is damaged, or cannot be read.
    """
    try:
        if not os.path.isfile(path):
            os.stat(path)
            raise JournalError(path, "it is no file")
        before = _at_rest(path)
        if before is not None:
            # An ordinary connection would make a -wal and a -shm, and could not take them away.
            with contextlib.suppress(sqlite3.Error):
                answer = _asked(path, "immutable=1", ask)
                if _at_rest(path) == before:
                    return answer
            if _at_rest(path) == before:
                return _asked(path, "immutable=1", ask)
        return _asked(path, "mode=ro", ask)
    except sqlite3.Error as error:
        raise JournalError(path, f"cannot read: {error}") from error
    except OSError as error:
        raise JournalError(path, f"cannot read: {error.strerror or error}") from error


def _at_rest(path: str) -> tuple[int, int, int] | None:
    """What tells that nobody has written since, if the file has a write-ahead log and nobody has that open."""
    with open(path, "rb") as file:
        head = file.read(20)
        state = os.fstat(file.fileno())
    if head[18:20] != b"\2\2" or os.path.exists(path + "-wal"):
        return None
    return state.st_size, state.st_mtime_ns, state.st_ino


def _asked(path: str, how: str, ask: Callable[[sqlite3.Connection], Answer]) -> Answer:
    uri = f"{Path(os.path.abspath(path)).as_uri()}?{how}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY, isolation_level=None)) as database:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        # It may come from anybody: nothing in its schema is run, and no page of it is read twice.
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
        database.execute("BEGIN")
        if is_empty(database, path):
            raise JournalError(path, "it is empty, and no journal yet")
        found = database.execute("PRAGMA quick_check(1)").fetchone()
        if found is None or found[0] != "ok":
            raise JournalError(path, "the file is damaged")
        database.execute(_VIEW)
        database.create_function("host", 1, words.host, deterministic=True)
        database.create_function("reason", 2, words.reason, deterministic=True)
        return ask(database)
