"""HTTP-dates (RFC 9110 section 5.6.7) as POSIX seconds."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["http_date"]

_LONGEST = 64  # characters; no date has more, and a text without an end costs nothing


def http_date(text: str) -> float | None:
    """Return the POSIX seconds that ``text`` stands for, in any of the three forms; None if it is no date."""
    if len(text) > _LONGEST:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
