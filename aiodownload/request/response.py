"""accept_response(): can this answer be the whole of what was asked for?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Accept", "Refuse", "Verdict", "accept_response"]


@dataclass(frozen=True, slots=True)
class Accept:
    """The body, once complete, is the file."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The body is not the file; no byte of it may be kept."""

    reason: str


Verdict: TypeAlias = Accept | Refuse

_ACCEPT = Accept()

_REASONS = {
    206: "a part (206) was sent though the whole was asked for",  # RFC 9110 section 15.3.7
    304: "304 Not Modified was sent to a request without a condition",  # RFC 9110 section 15.4.5
}


def accept_response(status: int) -> Verdict:
    """Judge the head of the last response to a plain GET or POST.

    Only a 200 is a whole representation (RFC 9110 section 15.3.1).  201, 202, 204 and 205 speak of something
    else, a 206 nobody asked for is a part, and a 3xx that arrives here could not be followed.
    """
    if status == 200:
        return _ACCEPT
    if 300 <= status < 400 and status not in _REASONS:
        return Refuse(f"status {status} without a place to go on to")
    return Refuse(_REASONS.get(status, f"status {status} carries no file"))
