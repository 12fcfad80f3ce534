"""Output: the page, or the failures as lines, where the user wants them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from ..errors import ConfigurationError
from . import charts, snapshot
from .page import page
from .summary import failures, summarize

__all__ = ["write_failures", "write_page"]

_BESIDE = ("", "-wal", "-shm", "-journal")  # what SQLite calls the files of one database


def write_page(journal: Path, output: str | None = None) -> Path | None:
    """Write the page of a journal.

    :param journal: its path.
    :param output: where the page goes, replaced if it is there; ``"-"`` is the standard output, None the journal's
        path with ``.html`` as its extension.
    :returns: where it is, or None for the standard output.
    :raises ConfigurationError: if that is the journal itself, or no file.
    :raises JournalError: if the journal cannot be read.
    :raises MissingExtraError: if the package that draws is absent (extra ``report``).
    :raises OSError: if the page cannot be written.
    """
    charts.require()
    target = None if output == "-" else _target(journal, output)
    text = page(snapshot.read(str(journal), summarize), str(journal))
    data = text.encode("utf-8", "backslashreplace")
    if target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        _replace(target, data)
    return target


def write_failures(journal: Path, stream: TextIO) -> None:
    """Write every failure of a journal as a line of JSON, with the names of :class:`.summary.Failure`.

    :param journal: its path.
    :param stream: where to.
    :raises JournalError: if the journal cannot be read.
    """
    with tempfile.TemporaryFile("w+", encoding="ascii") as lines:

        def ask(database: snapshot.Connection) -> None:
            lines.seek(0)
            lines.truncate()
            for failure in failures(database):
                lines.write(json.dumps(failure._asdict()) + "\n")

        snapshot.read(str(journal), ask)
        lines.seek(0)
        shutil.copyfileobj(lines, stream)
        stream.flush()


def _target(journal: Path, output: str | None) -> Path:
    """Where the page goes: never over the journal."""
    target = journal.with_suffix(".html") if output is None else Path(output)
    target = Path(os.path.realpath(target))
    for name in _BESIDE:
        own = Path(os.path.realpath(journal) + name)
        if target == own or (target.exists() and own.exists() and target.samefile(own)):
            raise ConfigurationError(f"{str(target)!r} belongs to the journal itself; name another file with -o")
    if target.exists() and not target.is_file():
        raise ConfigurationError(f"{str(target)!r} is no file; -o - writes to the standard output")
    return target


def _replace(target: Path, data: bytes) -> None:
    """Let the whole file appear under its name, or nothing; like the journal it is for its owner only."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
