"""Checksums that a file is expected to have, and what its bytes come to."""

from __future__ import annotations

import functools
import hashlib
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .errors import ConfigurationError, DigestError

__all__ = ["GIVEN", "Digest", "Hasher", "algorithms", "given", "is_strong"]

GIVEN = "digest"  # the source of what the caller gave: the name of the setting

_STRONG = ("sha224", "sha256", "sha384", "sha512", "sha3", "blake2", "sm3")
_MARKS = str.maketrans("", "", "-_/")
_HEX = "[0-9A-Fa-f]*"


class Digest(NamedTuple):
    """One expected checksum.

    :param algorithm: its name in hashlib (str), such as ``"sha256"``.
    :param value: the checksum itself (bytes).
    :param source: who expects it (str): ``"digest"`` is the caller, all else the name of a header field.
    :param strong: whether nobody can make other bytes with the same checksum: not for md5 and sha1 (bool).
    """

    algorithm: str
    value: bytes
    source: str
    strong: bool

    @property
    def proves(self) -> bool:
        """Whether agreement is a proof: a strong one is, and any that the caller chose."""
        return self.strong or self.source == GIVEN


def given(value: object) -> tuple[Digest, ...]:
    """Return the checksums of the setting ``digest``.

    :param value: None, ``"sha256:<hex>"`` with any algorithm of hashlib that has a fixed length, or an iterable of
        such str.  Case, ``-``, ``_`` and ``/`` in the name, case of the digits and blanks around do not matter.
    :raises ConfigurationError: for anything else, or for two different values of one algorithm.
    """
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, bytearray, memoryview, Mapping)):
        raise ConfigurationError(f"digest must be 'sha256:<hex>' or several of these, not {type(value).__name__}")
    found: dict[str, Digest] = {}
    for text in texts:
        digest = _one_given(text)
        if found.setdefault(digest.algorithm, digest) != digest:
            raise ConfigurationError(f"digest has two different values of {digest.algorithm}; leave the wrong one out")
    return tuple(found.values())


def _one_given(text: object) -> Digest:
    if not isinstance(text, str):
        raise ConfigurationError(f"digest must be 'sha256:<hex>' or several of these, not of {type(text).__name__}")
    name, colon, digits = (part.strip() for part in text.partition(":"))
    if not colon:
        raise ConfigurationError(f"digest must name its algorithm, as in 'sha256:<hex>', not {reprlib.repr(text)}")
    known = algorithms()
    if _plain(name) not in known:
        import difflib

        close = difflib.get_close_matches(_plain(name), known, 1)
        advice = f"did you mean {known[close[0]][0]!r}?" if close else "take 'sha256'"
        raise ConfigurationError(f"digest: {reprlib.repr(name)} is no algorithm of fixed length in hashlib; {advice}")
    algorithm, size = known[_plain(name)]
    if not re.fullmatch(_HEX, digits):
        raise ConfigurationError(f"digest: the value of {algorithm} must be {2 * size} hex digits and nothing else")
    if len(digits) != 2 * size:
        raise ConfigurationError(f"digest: {algorithm} has {2 * size} hex digits, not {len(digits)}")
    return Digest(algorithm, bytes.fromhex(digits), GIVEN, is_strong(algorithm))


def _plain(name: str) -> str:
    """``name`` as all spellings of it have in common: sha-256, SHA256; sha512_256, SHA-512/256."""
    return name.lower().translate(_MARKS)


@functools.cache
def algorithms() -> dict[str, tuple[str, int]]:
    """The algorithms of hashlib that have a fixed length: plain name -> name in hashlib, length in bytes."""
    found = {}
    for name in sorted(hashlib.algorithms_available):  # of two spellings, that in lower case comes last and stays
        try:
            size = hashlib.new(name, usedforsecurity=False).digest_size
        except ValueError:  # OpenSSL lists it, but was built or set up without it
            continue
        if not _plain(name).startswith("shake"):
            found[_plain(name)] = (name, size)
    return found


def is_strong(algorithm: str) -> bool:
    """Whether nobody can make other bytes with the same checksum."""
    return algorithm.startswith(_STRONG)


class Hasher:
    """Computes what the bytes of one body come to, each algorithm once.

    :param expected: the checksums to compare with.

    Every expected checksum must agree, also a weak one from a header: that it does not means that the bytes are not
    those that the server announced.  But a weak one that agrees proves nothing, unless the caller gave it.
    """

    __slots__ = ("_expected", "_sums", "begun")

    def __init__(self, expected: Iterable[Digest]) -> None:
        self._expected = tuple(expected)
        names = {digest.algorithm for digest in self._expected}
        self._sums = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        self.begun = False

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the body."""
        self.begun = True
        for one in self._sums.values():
            one.update(data)

    def mismatch(self) -> tuple[Digest, bytes] | None:
        """Return the first expected checksum that disagrees, and what the bytes so far come to; or None."""
        for digest in self._expected:
            actual = self._sums[digest.algorithm].digest()
            if actual != digest.value:
                return digest, actual
        return None

    @property
    def proven(self) -> bool:
        """Whether all agree, and at least one of them is a proof: strong, or given by the caller."""
        return any(digest.proves for digest in self._expected) and self.mismatch() is None

    def verify(self, *, transient: bool) -> None:
        """:raises DigestError: if an expected checksum disagrees; ``transient`` says whether another try may help."""
        found = self.mismatch()
        if found is not None:
            digest, actual = found
            raise DigestError(digest.algorithm, digest.value.hex(), actual.hex(), digest.source, transient)
