"""Checksums that a response announces in its head, and those of a file that is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ..checksums import Digest, Hasher, algorithms, is_strong

__all__ = ["NAMES", "Fields", "agrees", "from_headers"]

MAX_FIELD = 16 << 10  # characters; a longer field is ignored

# Keys of RFC 9530 section 5 and, in lower case, names of RFC 3230 -> hashlib; the others are too weak even for a hint.
_ANNOUNCED = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}


class Fields(Protocol):
    """Header fields, as in a multidict: names in any case, each perhaps several times."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """All values of the fields of that name."""


def from_headers(headers: Fields, *, whole: bool) -> tuple[Digest, ...]:
    """Return the checksums that a response announces; what is malformed is ignored, and nothing is raised.

    :param headers: its header fields.
    :param whole: whether its body is the whole representation (bool): a 200, not a 206.

    Repr-Digest (RFC 9530 section 3) and the old Digest (RFC 3230 section 4.3.2) cover the whole representation, also
    in a 206; Content-Digest (RFC 9530 section 2) and Content-MD5 (RFC 1864) only the content of this message.
    All of them count bytes as they are sent, before a content coding is taken off.  sha-256 and sha-512 are strong;
    md5 and sha are hints (RFC 9530 section 5).  A field that gives two values of one algorithm says nothing about it.
    """
    found: list[Digest] = []
    for name, of_content, read in _FIELDS:
        text = ", ".join(headers.getall(name, ())) if whole or not of_content else ""
        if len(text) <= MAX_FIELD:
            found += _digests(name, read(text))
    return tuple(found)


def _digests(source: str, pairs: Iterable[tuple[str, bytes | None]]) -> Iterator[Digest]:
    values: dict[str, set[bytes]] = {}
    for key, value in pairs:
        algorithm, size = algorithms().get(_ANNOUNCED.get(key, ""), ("", 0))
        if value is not None and size == len(value) > 0:
            values.setdefault(algorithm, set()).add(value)
    for algorithm, said in values.items():
        if len(said) == 1:
            yield Digest(algorithm, said.pop(), source, is_strong(algorithm))


def _instance_digests(text: str) -> Iterator[tuple[str, bytes | None]]:
    """Digest: a list of ``SHA-256=<base64>``, names in any case (RFC 3230 section 4.3.2)."""
    for member in text.split(","):
        name, _, value = member.strip().partition("=")
        yield name.lower(), _decoded(value)


def _md5(text: str) -> Iterator[tuple[str, bytes | None]]:
    """Content-MD5: the base64 of 16 bytes (RFC 1864 section 2)."""
    return (("md5", _decoded(value.strip())) for value in text.split(","))


def _decoded(text: str) -> bytes | None:
    from .structured import decoded  # few servers announce anything: an import that most programs do without

    return decoded(text)


def _structured(text: str) -> Iterable[tuple[str, bytes | None]]:
    """Repr-Digest and Content-Digest; a malformed field counts as absent, all of it (RFC 9651 section 4.2)."""
    from .structured import MalformedError, dictionary

    try:
        return dictionary(text).items()
    except MalformedError:
        return ()


_FIELDS = (
    ("Repr-Digest", False, _structured),
    ("Content-Digest", True, _structured),
    ("Digest", False, _instance_digests),
    ("Content-MD5", True, _md5),
)


def agrees(path: str, expected: Sequence[Digest]) -> bool:
    """Whether the file at ``path`` has every expected checksum.  Blocks."""
    hasher = Hasher(expected)
    try:
        with open(path, "rb") as file:
            while data := file.read(1 << 20):
                hasher.update(data)
    except OSError:
        return False
    return hasher.mismatch() is None


NAMES = tuple(name for name, _, _ in _FIELDS)
"""The fields that are read."""
