"""Redo: what a journal has to be done again, and where its files may go; a journal may come from anybody."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..bundle import AioDownloadBundle
from ..errors import AioDownloadError
from ..homes import root
from ..redact import printable
from ..storage.paths import is_below
from ..storage.placement import is_place_of, safe_path

if TYPE_CHECKING:
    from ..entries import Unfinished
    from ..journal import Journal
    from ..storage.strategy import DownloadStrategy

__all__ = ["Again", "remembered"]


class Again:
    """The bundles that a journal has to be done again.

    :param journal: open.
    :param strategy: knows the folder for the files, and the place that each URL has there.
    :param all_of_them: also those that have no outcome.
    :param named: whether the user has named the folder: other places below it may be written to, then.
    """

    def __init__(self, journal: Journal, strategy: DownloadStrategy, *, all_of_them: bool, named: bool) -> None:
        self._journal = journal
        self._strategy = strategy
        self._all = all_of_them
        self._named = named
        self.left_out = 0
        self._interrupted = 0

    def __iter__(self) -> Iterator[AioDownloadBundle]:
        for one in self._journal.unfinished():
            if one.state != "failed" and not self._all:
                self._interrupted += 1
                continue
            bundle = self._bundle(one) if one.plain else None
            if bundle is None:
                self.left_out += 1
                click.echo(f"left out: {printable(one.url)} ({self._why(one)})", err=True)
            else:
                yield bundle

    def _bundle(self, one: Unfinished) -> AioDownloadBundle | None:
        try:
            bundle = AioDownloadBundle(one.url, digest=one.digest, mirrors=one.mirrors, file_path=one.path)
            if one.path is not None and not self._may_be_written(one.path, one.url):
                return None
        except AioDownloadError:
            return None
        bundle._row = one.key
        return bundle

    def _may_be_written(self, path: str, url: str) -> bool:
        """Whether a path of the journal is one that a file may go to."""
        home = self._strategy.home
        whole = safe_path(path, home)
        if not is_below(whole, home):
            return False
        if self._named:
            return not any(name.startswith((".", "-", "~")) for name in re.split(r"[/\\]", whole[len(root(home)) :]))
        return is_place_of(path, self._strategy.get_file_path(AioDownloadBundle(url)))

    def _why(self, one: Unfinished) -> str:
        if not one.plain:
            return "its journal does not hold all of the request"
        return "its journal has an unusual place for it; name the folder with -o to allow that"

    def report(self) -> None:
        """Say what was not done."""
        if self._interrupted:
            click.echo(f"{self._interrupted} more have no outcome yet: --unfinished does these too", err=True)


def remembered(journal: Journal) -> str:
    """The folder for the files that the journal knows.

    :raises UsageError: unless it is where one would look for it.
    """
    folder = journal.home
    if folder is None:
        raise click.UsageError("the journal names no folder for the files; give -o DIR")
    around = (os.getcwd(), os.path.dirname(journal.path))
    if not any(folder == one or is_below(folder, one) for one in around):
        raise click.UsageError(
            f"the files of this journal are in {printable(folder)!r}, which lies neither below the current folder nor "
            "below that of the journal; if that is right, name it with -o"
        )
    return folder
