"""Quota: how many more requests a server says that it allows (RateLimit fields)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["FIELDS", "quota"]

Get = Callable[[str], Iterable[str]]

_INTEGER = "[0-9]{1,15}"
_MEMBER = r"(?:^|[,;])[ \t]*(r|t|remaining|reset)[ \t]*=[ \t]*([0-9]{1,12})(?![0-9.])"
_MOST = 4096  # characters that are looked at
_EPOCH = 1_000_000_000  # from here on, a number of seconds is a date and not a duration
_PREFIXES = ("RateLimit", "X-RateLimit", "X-Rate-Limit")
FIELDS = ("RateLimit", *(f"{prefix}-Remaining" for prefix in _PREFIXES))
"""One of them is there if there is anything to be read."""


def quota(names: Iterable[str], get: Get, now: float) -> tuple[int, float] | None:
    """Return (requests that are still allowed, seconds until there are more), or None if nothing is said.

    :param names: of the fields that there are.
    :param get: returns all values of a field.
    :param now: POSIX seconds, which a date is compared with.

    Read are ``RateLimit: "default";r=50;t=30`` (draft-ietf-httpapi-ratelimit-headers, from 08 on), its older form
    ``limit=100, remaining=50, reset=30``, and ``RateLimit-Remaining`` with ``RateLimit-Reset``, also as
    ``X-RateLimit-…`` and ``X-Rate-Limit-…``, whose reset is a number of seconds, or, by widespread use, a date in
    seconds or milliseconds.  Of several quotas the tightest counts.  What is not understood is ignored.
    """
    present = {name.lower() for name in names}
    if "ratelimit" in present:
        found = [_members(value) for value in get("RateLimit")]
        allowed = [one for one in found if one is not None]
        if allowed:
            return min(allowed)
    for prefix in _PREFIXES:
        if f"{prefix}-remaining".lower() in present and f"{prefix}-reset".lower() in present:
            remaining, reset = _whole(get(f"{prefix}-Remaining")), _whole(get(f"{prefix}-Reset"))
            if remaining is not None and reset is not None:
                return remaining, _seconds(reset, now)
    return None


def _members(value: str) -> tuple[int, float] | None:
    """The tightest of the quotas in one RateLimit field."""
    tightest = None
    remaining: int | None = None
    text = value[:_MOST]
    seconds = 0.0
    for name, number in re.findall(_MEMBER, text):
        if name in ("r", "remaining"):
            remaining, seconds = int(number), 0.0
        else:
            seconds = float(number)
        if remaining is not None and name in ("t", "reset"):
            tightest = min(tightest or (remaining, seconds), (remaining, seconds))
    return tightest


def _whole(values: Iterable[str]) -> int | None:
    texts = [value.strip() for value in values]
    return int(texts[0]) if len(texts) == 1 and re.fullmatch(_INTEGER, texts[0]) else None


def _seconds(reset: int, now: float) -> float:
    if reset >= _EPOCH * 1000:
        return max(0.0, reset / 1000 - now)
    return float(reset) if reset < _EPOCH else max(0.0, reset - now)
