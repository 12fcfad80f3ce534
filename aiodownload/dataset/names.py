"""The names of shards, of their members, and of what stands for a request; pure.

A sample of a WebDataset is all members with the same name up to the first dot; so a key has none.  Every name here is
made of ASCII letters, digits and dots, whatever the URL was.
"""

from __future__ import annotations

import mimetypes
import os
import re
from hashlib import sha256
from typing import NamedTuple

from yarl import URL

from ..storage.paths import extension, is_below, url_to_path

__all__ = [
    "Place",
    "extension_of",
    "identity",
    "member_path",
    "name_of",
    "number_of",
    "open_name",
    "open_number",
    "place_of",
    "shard_name",
]

_IDENTITY = re.compile(r"([0-9a-f]{32})(?:\.[a-z0-9.]+)?")
_SHARD = re.compile(r"([0-9]{5,18})\.(?:tar|parquet)")
_OPEN = re.compile(r"\.([0-9]{5,18})\.shard")
_MEMBER = re.compile(r"[0-9a-f]{9,32}(?:\.[a-z0-9]{1,16}){1,3}")
# Of the module's own table only: what the system's adds to it differs from machine to machine.
_TYPES = mimetypes.MimeTypes(filenames=())
for _media, _ending in (
    ("image/webp", ".webp"),
    ("image/avif", ".avif"),
    ("audio/flac", ".flac"),
):  # Python 3.11's lacks
    _TYPES.add_type(_media, _ending)
_SIDECAR = ".json"
_UNKNOWN = ".bin"


class Place(NamedTuple):
    """Where a member is.

    :param number: that of the shard.
    :param member: its name there.
    """

    number: int
    member: str


def name_of(url: URL, form: bytes | None) -> str:
    """Return the name that stands for a request, before it is known where its body goes.

    The same URL and form give the same name, http and https alike, and no two others do, as with the paths of files.
    The extension of the URL is kept: it says whether a body that comes encoded is a compressed file.
    """
    parts = url_to_path(url, form)
    return _mark("/".join(parts)) + extension(parts[-1]).lower()


def identity(path: str, home: str) -> str:
    """Return what stands for the request that asked for ``path`` (32 hex digits)."""
    own = path[len(home.rstrip(os.sep)) + 1 :] if is_below(path, home) else path
    found = _IDENTITY.fullmatch(own)
    return found[1] if found is not None else _mark(own)


def extension_of(path: str, content_type: str) -> str:
    """Return the extension of a member, with its dot, in lower case.

    That of the URL if it has a media type; else the usual one of the media type that the server gave; else what the
    URL has, or ``.bin``.  ``.json`` is the metadata's, so a body of that kind is a ``.data.json``.

    :param path: what the URL's file would be called.
    :param content_type: the field of the response.
    """
    own = extension(os.path.basename(path)).lower()
    media, coding = _TYPES.guess_type("x" + own)
    if media is None and coding is None:
        own = _TYPES.guess_extension(content_type.partition(";")[0].strip().lower()) or own or _UNKNOWN
    return ".data" + own if own == _SIDECAR else own


def shard_name(number: int, ending: str) -> str:
    """Return the name of a shard in home: five digits or more, and ``.tar`` or ``.parquet``."""
    return f"{number:05d}{ending}"


def open_name(number: int) -> str:
    """Return the name of the folder in home in which a shard lies until it is published."""
    return f".{number:05d}.shard"


def number_of(name: str) -> int | None:
    """Return the number of the shard that ``name`` is of, or None."""
    found = _SHARD.fullmatch(name)
    return int(found[1]) if found is not None else None


def open_number(name: str) -> int | None:
    """Return the number of the open shard whose folder ``name`` is, or None."""
    found = _OPEN.fullmatch(name)
    return int(found[1]) if found is not None else None


def member_path(home: str, place: Place) -> str:
    """Return what a bundle tells as the path of its member: that of the shard, and the member's name."""
    return os.path.join(home, shard_name(place.number, ".tar"), place.member)


def place_of(path: str, home: str) -> Place | None:
    """Read a :func:`member_path`; None for any other path."""
    above, member = os.path.split(path)
    folder, shard = os.path.split(above)
    number = number_of(shard)
    if folder != home or number is None or not shard.endswith(".tar") or not _MEMBER.fullmatch(member):
        return None
    return Place(number, member)


def _mark(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
