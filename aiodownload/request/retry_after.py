"""Retry-After: how long a server asks to be left alone (RFC 9110 section 10.2.3)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ..dates import http_date

__all__ = ["LATER", "retry_after"]

LATER = frozenset({429, 503})
"""The statuses by which a host says that it has too much to do (RFC 6585 section 4, RFC 9110 section 15.6.4)."""

_SECONDS = "[0-9]+"
_MANY_DIGITS = 12  # beyond 10^12 s any limit is passed; also keeps int() away from huge texts


def retry_after(values: Iterable[str], now: float) -> float:
    """Return the seconds to wait (>= 0, may be ``inf``) that the Retry-After fields ask for.

    :param values: the field values as received; of several the longest wait counts.
    :param now: the time as POSIX seconds, which an HTTP-date is compared with.

    Delta-seconds and all three forms of HTTP-date (RFC 9110 section 5.6.7) are read.  A date that has
    passed is 0; what is neither (negative, garbage) is ignored.
    """
    return max((_one(value.strip(), now) for value in values), default=0.0)


def _one(value: str, now: float) -> float:
    if re.fullmatch(_SECONDS, value):
        digits = value.lstrip("0")
        return math.inf if len(digits) > _MANY_DIGITS else float(digits or 0)
    date = http_date(value)
    return 0.0 if date is None else max(0.0, date - now)
