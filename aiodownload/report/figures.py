"""Figures: numbers, amounts and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["amount", "between", "count", "duration", "moment", "nouns", "scaled", "short"]

_BYTES = ("bytes", "kB", "MB", "GB", "TB", "PB")


def count(number: float) -> str:
    """A whole number, with commas."""
    return f"{number:,.0f}"


def nouns(number: int, one: str, many: str = "") -> str:
    """A number of things: ``1 URL``, ``2 URLs``."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def short(number: float) -> str:
    """Three digits of a number."""
    return count(number) if number >= 100 else f"{number:.3g}"


def scaled(largest: float) -> tuple[float, str]:
    """The unit for amounts of which ``largest`` bytes is the largest: bytes in it, and its name."""
    power = 0
    while largest >= 1000 and power < len(_BYTES) - 1:
        largest /= 1000
        power += 1
    return 1000.0**power, _BYTES[power]


def amount(size: float) -> str:
    """An amount of bytes."""
    unit, name = scaled(size)
    return nouns(int(size), "byte") if unit == 1 else f"{short(size / unit)} {name}"


def duration(seconds: float) -> str:
    """A time span."""
    if seconds < 0.9995:
        return f"{short(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{count(whole // size)} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def between(low: str, high: str) -> str:
    """From one amount to another, with an en dash: the unit is written once if both have it."""
    number, _, unit = low.partition(" ")
    return f"{number if high.endswith(f' {unit}') else low}\u2013{high}"


def moment(seconds: float) -> tuple[str, str]:
    """A time in UTC, for programs and for people.

    :param seconds: since 1970.
    """
    when = datetime.fromtimestamp(int(seconds), UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime("%Y-%m-%d %H:%M:%S UTC")
