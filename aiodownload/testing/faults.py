"""The matrix that strategies go through: what a server may do to a file, and whether the file can be had."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .answers import (
    chunked,
    cut,
    drop,
    gzipped,
    ok,
    ranged,
    raw,
    redirect,
    reset,
    slow,
    stall,
    status,
    until_close,
    wrong_length,
)
from .server import Script

__all__ = ["Fault", "faults"]


@dataclass(frozen=True)
class Fault:
    """A way in which a server answers.

    :param name: what it does, in words.
    :param scripts: its answers, one after another.
    :param whole: whether the whole file can be had, by two tries; None: both is right, if nothing wrong is kept.
    :param timeout: seconds that a try is given.
    :param once: whether an old file is always there: a body that never comes leaves no half one.
    """

    name: str
    scripts: tuple[Script, ...]
    whole: bool | None
    timeout: float = 5
    once: bool = False


STALLED = 0.1  # seconds until a server that says nothing is given up


def faults(body: bytes, headers: Mapping[str, str], moved: str, encoded: bool, proven: bool) -> list[Fault]:
    """Return the matrix for a file.

    :param body: its bytes.
    :param headers: further fields of an answer that has it, with underscores for dashes.
    :param moved: where a redirect leads to it.
    :param encoded: whether a coding of the file would be taken off.
    :param proven: whether a body whose end is only the closing of its connection counts as none.
    """
    half = len(body) // 2
    fields: dict[str, Any] = dict(headers)
    good = ok(body, **fields)
    etagged: dict[str, str | None] = {**headers}
    rest = ranged(body, headers=etagged)
    rows = [
        Fault("a plain body", (good,), True),
        Fault("a chunked body", (chunked(body, **fields),), True),
        Fault("a slow body", (slow(body, 5, 0.01, **fields),), True),
        Fault("a redirect", (redirect(moved),), True),
        Fault("bytes beyond the length", (wrong_length(body + b"too much", len(body), **fields),), None),
        Fault("503, then the file", (status(503, b"busy", Retry_After="0"), good), True),
        Fault("429, then the file", (status(429, b"slow down", Retry_After="0"), good), True),
        Fault("cut short, then the file", (cut(body, half, **fields), good), True),
        Fault("reset, then the file", (cut(body, half, rst=True, **fields), good), True),
        Fault("cut short, then the rest", (ranged(body, cut=half, headers=etagged), rest), True),
        Fault("a part unasked, then the file", (_part(body), good), True),
        Fault("always cut short", (cut(body, half, **fields),), False),
        Fault("always reset half-way", (cut(body, half, rst=True, **fields),), False),
        Fault("no byte of the body", (cut(body, 0, **fields),), False),
        Fault("no last chunk", (chunked(body, end=False, **fields),), False),
        Fault("always a part unasked", (_part(body),), False),
        Fault("a redirect to nowhere", (status(302, b"moved"),), False, once=True),
        Fault("204", (raw(b"HTTP/1.1 204 No Content\r\n\r\n"),), False, once=True),
        Fault("404", (status(404, b"no such thing"),), False, once=True),
        Fault("always 500", (status(500, b"sorry"),), False, once=True),
        Fault("no answer", (drop(),), False, once=True),
        Fault("a reset for an answer", (reset(),), False, once=True),
        Fault("silence", (stall(),), False, STALLED, True),
        Fault("silence half-way", (stall(body, half, **fields),), False, STALLED, True),
    ]
    if not proven:
        rows.append(Fault("a body that the closing ends", (until_close(body, **fields),), True))
    if encoded:
        rows.append(Fault("a body sent as gzip", (gzipped(body, **fields),), True))
        rows.append(Fault("half of a gzip", (gzipped(body, cut=len(gzip.compress(body, 1)) // 2, **fields),), False))
    return rows


def _part(body: bytes) -> Script:
    half = max(1, len(body) // 2)
    return status(206, body[:half], Content_Range=f"bytes 0-{half - 1}/{len(body)}", ETag='"a"')
