"""What a response says of the file besides its bytes: the name that it suggests, and when it was modified."""

from __future__ import annotations

import time
import warnings

import aiohttp

from ..dates import http_date
from .digests import Fields

__all__ = ["modified", "suggestion"]

MAX_FIELD = 4096  # characters; a longer field suggests nothing


def suggestion(headers: Fields) -> str | None:
    """Return the file name in Content-Disposition (RFC 6266), or None.

    ``filename*`` goes before ``filename``.  A field that is malformed, has a name twice or comes twice suggests
    nothing.  It may be anything: only :func:`~aiodownload.storage.paths.suggested` makes a name of it.
    """
    fields = headers.getall("Content-Disposition", ())
    if len(fields) != 1 or len(fields[0]) > MAX_FIELD:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aiohttp warns of what is malformed
        try:
            _, parameters = aiohttp.parse_content_disposition(fields[0])
            return aiohttp.content_disposition_filename(parameters) or None
        except (ValueError, LookupError):
            return None


def modified(headers: Fields) -> float | None:
    """Return when the file was last modified, in POSIX seconds; None if the server does not say, or cannot know it.

    A time that is still to come is no Last-Modified (RFC 9110 section 8.8.2.1).
    """
    fields = headers.getall("Last-Modified", ())
    date = http_date(fields[0].strip()) if len(fields) == 1 else None
    return date if date is not None and 0 <= date <= time.time() else None
