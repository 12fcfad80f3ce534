"""Summary: the figures of a journal as pure data, made by streaming, in memory that does not grow with its URLs."""

from __future__ import annotations

import heapq
import os
import sqlite3
from array import array
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from ..homes import is_store
from .series import SIZES, TIMES, Distribution, Moment, distribution, moments
from .words import clipped, error_text, reason, url_text

__all__ = ["Failure", "Host", "Reason", "Summary", "Totals", "failures", "summarize"]

LISTED = 3000  # failures in a summary
REASONS = 50  # groups of them
HOSTS = 25  # with most failures, and with most URLs
SLOWEST = 10
OTHER = "other reasons"
LONGEST_URL, LONGEST_REASON = 800, 400  # characters


class Totals(NamedTuple):
    """What became of how many URLs.

    :param done: files written.
    :param cached: files that were there.
    :param failed: failures.
    :param cancelled: URLs that a run gave up when it was left.
    :param waiting: URLs without an outcome: in work at this moment, or cut off.
    :param size: bytes of the files that are done.
    :param attempts: tries made for all of them.
    :param first: when the first request started, seconds since 1970, or None.
    :param last: when the last URL was settled, seconds since 1970, or None.
    :param bound: failed, cancelled and waiting ones that only the program that made them can ask for again.
    """

    done: int
    cached: int
    failed: int
    cancelled: int
    waiting: int
    size: int
    attempts: int
    first: float | None
    last: float | None
    bound: int

    @property
    def urls(self) -> int:
        """All of them."""
        return self.done + self.cached + self.failed + self.unfinished

    @property
    def unfinished(self) -> int:
        """Those that are neither there nor have failed."""
        return self.cancelled + self.waiting


class Host(NamedTuple):
    """What became of the URLs of one host.

    :param name: host, and port if its URLs name one.
    :param done: files written.
    :param cached: files that were there.
    :param failed: failures.
    :param unfinished: all others.
    :param size: bytes of the files that are done.
    :param median: seconds that half of the URLs that were asked for took at most, or None if none was.
    :param slowest: seconds of the one that took longest, or None.
    """

    name: str
    done: int
    cached: int
    failed: int
    unfinished: int
    size: int
    median: float | None
    slowest: float | None

    @property
    def urls(self) -> int:
        """All of them."""
        return self.done + self.cached + self.failed + self.unfinished


class Failure(NamedTuple):
    """One URL that failed.

    :param url: as it may be shown.
    :param reason: class of the error, and its text.
    :param http_status: of the last answer, or None.
    :param attempts: tries made.
    :param elapsed: seconds.
    :param at: when it was settled, seconds since 1970, or None.
    """

    url: str
    reason: str
    http_status: int | None
    attempts: int
    elapsed: float
    at: float | None


class Reason(NamedTuple):
    """Failures that are alike.

    :param text: what they have in common.
    :param number: how many there are.
    :param hosts: on how many hosts, or None where that is not known.
    :param failures: the first of them.
    """

    text: str
    number: int
    hosts: int | None
    failures: tuple[Failure, ...]


class Summary(NamedTuple):
    """The figures of a journal.

    :param home: folder or object store for the files of its last run, or None.
    :param totals: of all URLs.
    :param reasons: of the failures, most frequent first.
    :param hosts: those with most failures, then those with most URLs.
    :param all_hosts: how many there are.
    :param slowest: hosts with the largest median.
    :param moments: the time of the run, in equal parts.
    :param latency: seconds per URL, of those that were asked for and settled, or None if there are none.
    :param sizes: bytes per file that is done, or None.
    """

    home: str | None
    totals: Totals
    reasons: tuple[Reason, ...]
    hosts: tuple[Host, ...]
    all_hosts: int
    slowest: tuple[Host, ...]
    moments: tuple[Moment, ...]
    latency: Distribution | None
    sizes: Distribution | None


def summarize(database: sqlite3.Connection, listed: int = LISTED) -> Summary:
    """Make the figures.

    :param database: what :func:`aiodownload.report.snapshot.read` hands out.
    :param listed: how many failures are told one by one.
    """
    totals = _totals(database)
    hosts, all_hosts, slowest = _hosts(database)
    return Summary(
        _home(database),
        totals,
        _reasons(database, listed),
        hosts,
        all_hosts,
        slowest,
        () if totals.first is None or totals.last is None else moments(database, totals.first, totals.last),
        distribution(
            database,
            "SELECT elapsed FROM seen WHERE attempts > 0 AND state != 'waiting' ORDER BY 1",
            TIMES,
        ),
        distribution(
            database,
            "SELECT size FROM seen WHERE state = 'done' AND size IS NOT NULL ORDER BY 1",
            SIZES,
        ),
    )


def failures(database: sqlite3.Connection) -> Iterator[Failure]:
    """Every failure, in the order in which the URLs were enlisted."""
    for url, error, http_status, attempts, elapsed, at in database.execute(
        "SELECT url, error, http_status, attempts, elapsed, at FROM seen WHERE state = 'failed' ORDER BY id"
    ):
        yield Failure(url_text(url), error_text(error), http_status, attempts, elapsed, at)


def _home(database: sqlite3.Connection) -> str | None:
    row = database.execute("SELECT CAST(value AS BLOB) FROM settings WHERE name = 'home'").fetchone()
    home = row[0].decode("utf-8", "replace") if row is not None and isinstance(row[0], bytes) else ""
    return home if os.path.isabs(home) or (is_store(home) and "@" not in home) else None


def _totals(database: sqlite3.Connection) -> Totals:
    states = dict.fromkeys(("done", "cached", "failed", "cancelled", "waiting"), 0)
    size = attempts = bound = 0
    first: float | None = None
    last: float | None = None
    for state, count, some_bytes, tries, not_plain, start, end in database.execute(
        "SELECT state, count(*), total(size), total(attempts), total(NOT plain), min(at - elapsed), max(at)"
        " FROM seen GROUP BY state"
    ):
        states[state] = count
        attempts += int(tries)
        size += int(some_bytes) if state == "done" else 0
        bound += int(not_plain) if state not in ("done", "cached") else 0
        if start is not None and state != "waiting":
            first = max(0.0, start) if first is None else max(0.0, min(first, start))
            last = end if last is None else max(last, end)
    return Totals(**states, size=size, attempts=attempts, first=first, last=last, bound=bound)


def _hosts(database: sqlite3.Connection) -> tuple[tuple[Host, ...], int, tuple[Host, ...]]:
    """Those that the page shows, how many there are, and the slowest."""
    rows = database.execute("SELECT host(url), state, size, attempts, elapsed FROM seen ORDER BY 1, elapsed")
    # Heaps of as many as are shown: there may be as many hosts as URLs.
    shown: list[tuple[tuple[int, int], int, Host]] = []
    slow: list[tuple[float, int, Host]] = []
    count = 0
    for name, group in groupby(rows, itemgetter(0)):
        one = _host(name, group)
        count += 1
        _keep(shown, ((one.failed, one.urls), -count, one), HOSTS)
        if one.median is not None:
            _keep(slow, (one.median, -count, one), SLOWEST)
    return (
        tuple(one for *_, one in sorted(shown, reverse=True)),
        count,
        tuple(one for *_, one in sorted(slow, reverse=True)),
    )


def _keep(heap: list[Any], item: Any, limit: int) -> None:
    (heapq.heappush if len(heap) < limit else heapq.heappushpop)(heap, item)


def _host(name: str, rows: Iterator[tuple[Any, ...]]) -> Host:
    counts = dict.fromkeys(("done", "cached", "failed", "unfinished"), 0)
    times = array("d")
    size = 0
    for _, state, some_bytes, attempts, elapsed in rows:
        counts[state if state in counts else "unfinished"] += 1
        if state == "done":
            size += some_bytes or 0
        if attempts and state != "waiting":
            times.append(elapsed)
    return Host(
        name,
        **counts,
        size=size,
        median=times[(len(times) - 1) // 2] if times else None,
        slowest=times[-1] if times else None,
    )


def _reasons(database: sqlite3.Connection, listed: int) -> tuple[Reason, ...]:
    counted: dict[str, tuple[int, int]] = {}
    rest = 0
    for text, count, hosts in database.execute(
        "SELECT reason(error, url), count(*), count(DISTINCT host(url)) FROM seen WHERE state = 'failed'"
        " GROUP BY 1 ORDER BY 2 DESC, 1"
    ):
        if len(counted) < REASONS:
            counted[text] = count, hosts
        else:
            rest += count
    counts = {text: count for text, (count, _) in counted.items()} | ({OTHER: rest} if rest else {})
    chosen: dict[str, list[Failure]] = {text: [] for text in counts}
    shares = _shares(counts, listed)
    left = sum(shares.values())
    for url, error, http_status, attempts, elapsed, at in database.execute(
        "SELECT url, error, http_status, attempts, elapsed, at FROM seen WHERE state = 'failed' ORDER BY id"
    ):
        if not left:
            break
        text = reason(error, url)
        text = text if text in counted else OTHER
        if len(chosen[text]) < shares[text]:
            left -= 1
            why = clipped(error_text(error), LONGEST_REASON)
            chosen[text].append(Failure(clipped(url_text(url), LONGEST_URL), why, http_status, attempts, elapsed, at))
    return tuple(
        Reason(text, count, counted[text][1] if text in counted else None, tuple(chosen[text]))
        for text, count in counts.items()
    )


def _shares(counts: dict[str, int], total: int) -> dict[str, int]:
    """How many of each are listed: all of the rare ones, and as many of all others."""
    shares = {}
    for position, (name, count) in enumerate(sorted(counts.items(), key=itemgetter(1))):
        shares[name] = min(count, total // (len(counts) - position))
        total -= shares[name]
    return shares
