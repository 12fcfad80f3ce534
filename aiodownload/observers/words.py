"""Words: how far a run is, in the words of a display."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tally import Tally

__all__ = [
    "bytes_text",
    "cut",
    "extent",
    "middle",
    "paused",
    "position",
    "sentence",
    "time_text",
    "times",
    "troubles",
    "waiting",
]


def bytes_text(count: float) -> str:
    """``count`` bytes in a unit of which there are less than a thousand: ``"12.3 MB"``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def time_text(seconds: float) -> str:
    """``seconds`` as hours, minutes and seconds: ``"0:01:23"``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def cut(text: str, width: int) -> str:
    """The end of a name tells more than its middle."""
    return text if len(text) <= width else f"{text[: width // 3]}…{text[-(width - width // 3 - 1) :]}"


def extent(received: int, total: int | None) -> str:
    """How much of a body is there."""
    return bytes_text(received) if total is None else f"{bytes_text(received)} of {bytes_text(total)}"


def position(tally: Tally) -> str:
    """How many of how many are settled."""
    return f"{tally.settled:,}" if tally.total is None else f"{tally.settled:,} of {tally.total:,}"


def times(tally: Tally) -> str:
    """How long it has taken, and may still take."""
    left = tally.remaining()
    return time_text(tally.elapsed) + (f", {_about(left)} left" if left is not None and tally.settled else "")


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def troubles(tally: Tally) -> list[str]:
    """What did not go well, as far as anything did not."""
    retries = "retry" if tally.retries == 1 else "retries"
    parts = [(tally.failed, "failed"), (tally.retries, retries), (tally.waiting, "waiting")]
    return [f"{count:,} {name}" for count, name in parts if count]


def middle(tally: Tally) -> str:
    """What became of them, and how fast."""
    by_bytes, by_count = tally.rates()
    parts = [
        bytes_text(tally.bytes),
        f"{bytes_text(by_bytes)}/s",
        f"{_number(by_count)} files/s",
        f"{tally.done:,} done",
    ]
    if tally.cached:
        parts.append(f"{tally.cached:,} cached")
    parts += troubles(tally)
    if tally.ended is None:
        parts.append(f"{len(tally.active):,} under way")
    return " · ".join(parts)


def sentence(tally: Tally) -> str:
    """All of it in one line."""
    parts = (*waiting(tally), *paused(tally))
    return ", ".join([f"{position(tally)} in {times(tally)}", middle(tally).replace(" · ", ", "), *parts])


def waiting(tally: Tally) -> list[str]:
    """What waits for its next try, and why."""
    first, count = tally.waits(2)
    lines = [f"{one.name}: {one.reason}; tried again in {seconds:.0f} s" for one, seconds in first]
    return [*lines, f"{count - 2:,} more wait for another try"] if count > 2 else lines


def paused(tally: Tally) -> list[str]:
    """Which hosts are not asked now, and why."""
    if tally.ended is not None:
        return []
    first, count = tally.pauses(2)
    lines = [f"paused for {seconds:.0f} s: {pause.host} ({pause.reason})" for pause, seconds in first]
    return [*lines, f"{count - 2:,} more hosts are paused"] if count > 2 else lines
