"""URL -> path below home: pure, readable, injective, and safe on every file system.

A component of plain ASCII (letters, digits, ``-_.()`` and space) stays exactly as it is.  Any other is spelled
readably in the way of aiodownload 0.2.5 and marked with ``-<8 hex>`` of a SHA-256 over what it was, because
the readable spelling alone is not unique: ``日本.zip`` and ``中国.zip`` differ only there.  The file
extension stays last.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from functools import lru_cache
from urllib.parse import unquote

from yarl import URL

from ..homes import root
from .part import MAX_NAME

__all__ = ["alternate", "extension", "is_below", "is_suggested", "suggested", "url_to_path"]

_ALLOWED = frozenset("-_.() abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REPLACED = str.maketrans({"&": "-", ",": ".", ";": "-", "=": "_"})
# Starts with no dot, dash, tilde or blank and ends with no dot or blank; "%20" is the one escape that is kept.
_PLAIN = re.compile(r"(?=[A-Za-z0-9_(])(?:[A-Za-z0-9_.()-]|%20)*[A-Za-z0-9_()-]")
_EXTENSION = r"(?<=.)((?:\.[A-Za-z][A-Za-z0-9]{0,7})?\.(?:gz|bz2|xz|zst|br|lz4|Z)|\.[A-Za-z0-9]{1,10})$"
# Names that Windows keeps for devices, with or without an extension (curl CVE-2016-0754).
_DEVICE = "(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])$"
_DEVICES_BEGIN = frozenset("aAcClLnNpP")
_INDEX = "index"


def url_to_path(url: URL, form: bytes | None = None) -> tuple[str, ...]:
    """Return the components of the file's path: host, folders, file name.

    http and https map alike; user and password are left out; so is the fragment, which no server sees.

    :param url: an absolute http(s) URL.
    :param form: the form data of a POST (bytes), which then counts as part of the identity.
    """
    *folders, last = url.raw_path.split("/")[1:] or [""]
    # "+" is in no host name and needs no quoting in any shell.
    port = "" if url.is_default_port() else f"+{url.port}"
    return (_host(url.raw_host or "", port), *map(_folder, folders), _file(last, url.raw_query_string, form))


def alternate(name: str, path: str, turn: int) -> str:
    """Return another name for a component whose own is taken; the extension stays last.

    :param name: the component.
    :param path: the path up to and including it, which the mark is made from.
    :param turn: 1 for the first other name, 2 for the next (int).
    """
    stem, extension = _split_extension(name)
    return _marked(stem, _mark(f"{path}\0{turn}"), extension)


def extension(name: str) -> str:
    """Return the extension of a file's name, with its dot, such as ``.csv`` or ``.tar.gz``; empty if it has none."""
    return _split_extension(name)[1]


def suggested(name: str, suggestion: str) -> str:
    """Return the name of a file for which the server suggests another one (RFC 6266).

    The suggestion is the readable part, and ``+<16 hex>`` says whose file it is: no two URLs of a folder get one name,
    whatever their servers suggest, and since no URL gives a name with a plus, no suggestion can take the name of
    another URL either.  Of a path only its last component counts (CVE-2020-8177, CVE-2019-20916).

    :param name: the name that the file has by its URL.
    :param suggestion: what the server says, not yet looked at.
    """
    last = re.split(r"[/\\]", suggestion)[-1]
    if last == name:
        return name
    stem, extension = _split_extension(last)
    return _marked(_clean(stem), _owned(name), extension)


def is_suggested(path: str, own: str) -> bool:
    """Whether ``path`` is one that :func:`suggested` can have made of the path ``own``."""
    folder, name = os.path.split(path)
    home, wanted = os.path.split(own)
    return folder == home and _split_extension(name)[0].endswith(_owned(wanted))


def _owned(name: str) -> str:
    return "+" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@lru_cache(1024)
def _host(host: str, port: str) -> str:
    if _PLAIN.fullmatch(host) and not _is_device(host) and len(host) + len(port) <= MAX_NAME:
        return host + port
    return _marked(_clean(host.replace(":", "_")), _mark(host + port), port)


@lru_cache(4096)
def _folder(segment: str) -> str:
    if _is_plain(segment):
        return segment.replace("%20", " ")
    return _marked(_clean(unquote(segment)), _mark(segment), "")


def _file(segment: str, query: str, form: bytes | None) -> str:
    if not query and form is None:
        if not segment:
            return _INDEX
        # The plain name "index" belongs to the trailing slash; a path that spells it out is marked.
        if segment != _INDEX and _is_plain(segment):
            return segment.replace("%20", " ")
    name, _, parameters = segment.partition(";")
    stem, extension = _split_extension(unquote(name) if name else _INDEX)
    stem = _clean(stem)
    if parameters:
        stem += f"({_clean(unquote(parameters))})"
    if query:
        stem += f"_{_clean(unquote(query))}"
    identity = f"{segment}?{query}" if form is None else f"{segment}?{query}\0{form.decode('ascii')}"
    return _marked(stem, _mark(identity), extension)


def _is_plain(segment: str) -> bool:
    return _PLAIN.fullmatch(segment) is not None and len(segment) <= MAX_NAME and not _is_device(segment)


def _is_device(name: str) -> bool:
    if name[:1] not in _DEVICES_BEGIN:  # nearly always
        return False
    return re.match(_DEVICE, name.partition(".")[0].replace("%20", " ").rstrip(" ")) is not None


def _clean(text: str) -> str:
    """Spell ``text`` in allowed ASCII the way 0.2.5 did; what has no spelling is left out."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_REPLACED))
    return "".join(char for char in decomposed if char in _ALLOWED)


def _split_extension(name: str) -> tuple[str, str]:
    found = re.search(_EXTENSION, name)
    return (name[: found.start()], found.group()) if found else (name, "")


def _mark(identity: str) -> str:
    return "-" + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _marked(stem: str, mark: str, extension: str) -> str:
    """Return the three in a row, made safe: no leading dot, dash, tilde or blank, no device name, no more than 255
    bytes (all is ASCII here)."""
    bare = stem.lstrip(".-~ ")
    safe = bare if bare == stem and bare and not _is_device(bare) else "_" + bare
    return safe[: MAX_NAME - len(mark) - len(extension)] + mark + extension


def is_below(path: str, home: str) -> bool:
    """Whether the absolute, normalised ``path`` lies below ``home``."""
    return path.startswith(root(home))
