"""Homes: where files are kept, a folder or a place in an object store, and which paths lie below it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .errors import ConfigurationError

__all__ = ["SCHEMES", "Bucket", "StoreOptions", "checked_home", "checked_options", "is_store", "root"]

SCHEMES = ("s3", "gs", "az", "memory")
"""Of object stores: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage, and memory."""

_KNOWN = "a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory://"
_SCHEME = "([A-Za-z][A-Za-z0-9+.-]*)://"
_ONE_SLASH = rf"(?:{'|'.join((*SCHEMES, 'file'))}):[/\\](?![/\\])"
_BUCKET = "[A-Za-z0-9$](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"


class Bucket(NamedTuple):
    """What the URL of an object store names.

    :param scheme: one of :data:`SCHEMES`.
    :param name: the bucket; Azure calls it a container, and that of ``memory://`` may have none (str).
    :param prefix: what the keys below home begin with, without a slash at either end (str).
    """

    scheme: str
    name: str
    prefix: str

    @classmethod
    def of(cls, home: str) -> Bucket:
        """Read a URL that :func:`checked_home` has returned."""
        scheme, _, rest = home.partition("://")
        name, _, prefix = rest.partition("/")
        return cls(scheme, name, prefix)

    @property
    def url(self) -> str:
        """Without the prefix."""
        return f"{self.scheme}://{self.name}"


class StoreOptions(Mapping[str, str]):
    """Options of an object store, among which there may be secrets: no value is ever shown."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: '...'" for name in self._values) + "}"


def is_store(path: str) -> bool:
    """Whether an absolute path, or a home, is in an object store: no normalised path of a file has two slashes."""
    return "://" in path


def root(home: str) -> str:
    """Return what every path below ``home`` begins with."""
    if is_store(home):
        return home + "/"
    return home if home.endswith(os.sep) else home + os.sep


def checked_home(value: object) -> str:
    """Return the folder as an absolute path, or the URL of a place in an object store.

    :raises ConfigurationError: for what is neither.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if text is None or text == "":
        return os.getcwd()
    if not isinstance(text, str):
        raise ConfigurationError(f"home must be a str or a path of str, not {value!r}")
    if "\0" in text:
        raise ConfigurationError("home must not hold a NUL character")
    if re.match(_ONE_SLASH, text):
        raise ConfigurationError(f"home={text!r} has lost a slash: give the URL as a str, since a Path joins the two")
    found = re.match(_SCHEME, text)
    if found is None:
        return os.path.abspath(text)
    scheme = found[1].lower()
    if scheme not in (*SCHEMES, "file"):
        raise ConfigurationError(f"home cannot be {scheme}://; it may be {_KNOWN}")
    return _folder(text) if scheme == "file" else _store(scheme, text[found.end() :])


def _folder(text: str) -> str:
    """The folder that a file URL names (RFC 8089)."""
    url = urlsplit(text)
    path = unquote(url.path)
    if url.netloc.lower() not in ("", "localhost") or url.query or url.fragment or not path or "\0" in path:
        raise ConfigurationError("home, if it is a file URL, must be file:///folder, percent-encoded")
    if os.name == "nt" and re.match(r"/[A-Za-z]:", path):
        path = path[1:]
    return os.path.abspath(path)


def _store(scheme: str, rest: str) -> str:
    """The URL of a place in an object store; what is wrong with it is not quoted, since it may be a secret."""
    if "@" in rest.partition("/")[0]:
        raise ConfigurationError(
            f"home={scheme}://... must not hold a user or a key; give it by the environment or in store_options"
        )
    if "?" in rest or "#" in rest:
        raise ConfigurationError(f"home={scheme}://... must not hold '?' or '#'; settings are for store_options")
    name, _, prefix = rest.partition("/")
    if not re.fullmatch(_BUCKET, name) and (name or scheme != "memory"):
        what = "container" if scheme == "az" else "bucket"
        raise ConfigurationError(f"home must name a {what}, such as {scheme}://{what}/prefix")
    prefix = prefix.strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/") if prefix) or not prefix.isprintable():
        raise ConfigurationError(f"home={scheme}://{name}/... must not hold '//', '/./', '/../' or control characters")
    return f"{scheme}://{name}/{prefix}" if prefix else f"{scheme}://{name}"


def checked_options(value: object) -> StoreOptions:
    """Return ``store_options`` as they are kept.

    :raises ConfigurationError: for anything but str by name; no value is quoted.
    """
    if value is None:
        return StoreOptions({})
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"store_options must be a dict of str, not {type(value).__name__}")
    for name, option in value.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"store_options: its names must be str, not {type(name).__name__}")
        if not isinstance(option, str):
            raise ConfigurationError(
                f"store_options: the value of {name!r} must be a str, not {type(option).__name__}: 'true', '30s', ..."
            )
    return StoreOptions(value)
