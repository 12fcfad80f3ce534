"""Series: values over time and in bins, made by streaming."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["SIZES", "TIMES", "Bin", "Distribution", "Moment", "distribution", "moments"]

MOMENTS = 50  # at most, over the time of the run

_WIDTHS = (
    *(base * 10.0**power for power in range(-3, 1) for base in (1, 2, 5)),
    *(10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0),
    *(86400.0 * days for days in (1, 2, 7, 14, 30, 90, 365, 3650)),
)
"""Seconds that a moment may have: those that one counts in."""


TIMES = (
    *(base * 10.0**power for power in range(-3, 1) for base in (1, 2, 5)),
    *(10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 43200.0, 86400.0, 604800.0),
)
"""Seconds, where one bin of times ends and the next begins."""

SIZES = (1.0, 100.0, *(base * 10.0**power for power in range(2, 16) for base in (3, 10)))
"""Bytes, likewise."""


class Moment(NamedTuple):
    """A part of the time of the run.

    :param start: seconds since :attr:`Totals.first`.
    :param end: likewise.
    :param rate: bytes per second, if those of each file came evenly.
    :param files: files per second that got their name.
    :param active: URLs in work, on average.
    """

    start: float
    end: float
    rate: float
    files: float
    active: float


class Bin(NamedTuple):
    """How many values are at least ``low`` and less than ``high``."""

    low: float
    high: float
    number: int


class Distribution(NamedTuple):
    """Values in bins that grow by a factor of about two to four, and some of their quantiles.

    :param bins: none is left out between the first and the last.
    :param median: half of the values are not above it.
    :param p90: nine of ten are not above it.
    :param p99: 99 of 100 are not above it.
    :param largest: the largest.
    """

    bins: tuple[Bin, ...]
    median: float
    p90: float
    p99: float
    largest: float


class _Integral:
    """The integral of a sum of steps over each part of a time, at the same cost for long and for short steps."""

    def __init__(self, width: float, count: int) -> None:
        self._width = width
        self._parts = [0.0] * count
        self._whole = [0.0] * (count + 1)

    def add(self, start: float, end: float, amount: float) -> None:
        """Spread ``amount`` evenly from ``start`` to ``end``."""
        last = len(self._parts) - 1
        i, j = min(last, int(start / self._width)), min(last, int(end / self._width))
        if i == j:
            self._parts[i] += amount
            return
        rate = amount / (end - start)
        self._parts[i] += rate * ((i + 1) * self._width - start)
        self._parts[j] += rate * (end - j * self._width)
        self._whole[i + 1] += rate
        self._whole[j] -= rate

    def means(self) -> Iterator[float]:
        """The mean of the sum in each part."""
        rate = 0.0
        for part, step in zip(self._parts, self._whole, strict=False):
            rate += step
            mean = rate + part / self._width
            yield 0.0 if mean < 1e-6 else mean


def moments(database: sqlite3.Connection, first: float, last: float) -> tuple[Moment, ...]:
    """Cut the time of the run into equal parts.

    :param first: when the first request started, seconds since 1970.
    :param last: when the last URL was settled, likewise.
    """
    span = max(last - first, 0.001)
    width = next((width for width in _WIDTHS if width * MOMENTS >= span), span / MOMENTS)
    count = max(1, math.ceil(span / width - 1e-9))
    came, active, named = _Integral(width, count), _Integral(width, count), [0] * count
    for state, size, elapsed, at in database.execute(
        "SELECT state, size, elapsed, at FROM seen WHERE state != 'waiting' AND attempts > 0 AND at IS NOT NULL"
    ):
        end = at - first
        start = max(0.0, end - elapsed)
        active.add(start, end, end - start)
        if state == "done":
            came.add(start, end, float(size or 0))
            named[min(count - 1, int(end / width))] += 1
    return tuple(
        Moment(index * width, (index + 1) * width, rate, files / width, at_once)
        for index, (rate, files, at_once) in enumerate(zip(came.means(), named, active.means(), strict=True))
    )


def distribution(database: sqlite3.Connection, query: str, edges: Sequence[float]) -> Distribution | None:
    """Read values in ascending order.

    :param query: asks for them.
    :param edges: where bins end, but for the first, which starts at 0, and the last, which has no end.
    """
    (total,) = database.execute(f"SELECT count(*) FROM ({query})").fetchone()  # noqa: S608
    if not total:
        return None
    wanted = [math.ceil(total * part) - 1 for part in (0.5, 0.9, 0.99, 1.0)]
    quantiles: list[float] = []
    counts = [0] * (len(edges) + 1)
    at = 0
    for position, (value,) in enumerate(database.execute(query)):
        while at < len(edges) and value >= edges[at]:
            at += 1
        counts[at] += 1
        while len(quantiles) < len(wanted) and wanted[len(quantiles)] == position:
            quantiles.append(value)
    bounds = [0.0, *edges, math.inf]
    used = [index for index, count in enumerate(counts) if count]
    bins = [Bin(bounds[index], bounds[index + 1], counts[index]) for index in range(used[0], used[-1] + 1)]
    return Distribution(tuple(bins), *quantiles)
