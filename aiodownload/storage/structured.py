"""Structured fields: a strict reader of dictionaries of byte sequences (RFC 9651, once RFC 8941)."""

from __future__ import annotations

import binascii
import re
from urllib.parse import unquote_to_bytes

__all__ = ["MalformedError", "decoded", "dictionary"]


class MalformedError(Exception):
    """The text is no structured dictionary; its whole field is to be ignored (RFC 9651 section 4.2)."""


# None of these can match a text in two ways, so that the time for a field grows with its length only.
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_BARE_ITEM = re.compile(
    r"""
      :(?P<base64>[A-Za-z0-9+/=]*):                                     # byte sequence
    | "(?:[ !#-\[\]-~]|\\["\\])*"                                       # string
    | %"(?P<display>(?:[ !#$&-~]|%[0-9a-f]{2})*)"                       # display string
    | -?[0-9]{1,12}\.[0-9]{1,3} | @?-?[0-9]{1,15}                       # decimal; integer, date
    | \?[01]                                                            # boolean
    | [A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*                            # token
    """,
    re.VERBOSE,
)
_BLANKS, _EQUALS, _COMMA, _END = map(re.compile, (" *", "=", "[ \t]*,[ \t]*", r"[ \t]*\Z"))
_SEMICOLON, _OPEN, _CLOSE, _GAP = map(re.compile, ("; *", r"\(", r" *\)", "(?=[ )])"))


def dictionary(text: str) -> dict[str, bytes | None]:
    """Return key -> byte sequence, or None where the value is of another type; of equal keys the last counts.

    :param text: the field lines as received, joined by ``", "`` (RFC 9110 section 5.2).
    :raises MalformedError: if any part of it is malformed (RFC 9651 section 4.2.2).

    Parameters are read and dropped.
    """
    return _Reader(text).members()


def decoded(text: str) -> bytes | None:
    """Return the bytes that ``text`` is the base64 of, or None (RFC 4648 section 4).

    RFC 9651 section 4.2.7 leaves missing padding to the reader; RFC 9530 appendix C.1 shows one ``=`` too many.
    """
    data = text.rstrip("=")
    if not _BASE64.fullmatch(text) or len(data) % 4 == 1:
        return None
    return binascii.a2b_base64(data + "=" * (-len(data) % 4))


class _Reader:
    """A place in the text, and steps from there."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def members(self) -> dict[str, bytes | None]:
        members: dict[str, bytes | None] = {}
        self._need(_BLANKS)
        while not self._take(_END):
            if members:
                self._need(_COMMA)
            key = self._need(_KEY)[0]
            members[key] = self._value() if self._take(_EQUALS) else None
            self._parameters()
        return members

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _need(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = self._take(pattern)
        if found is None:
            raise MalformedError
        return found

    def _value(self) -> bytes | None:
        if not self._take(_OPEN):
            return self._bare_item()
        while not self._take(_CLOSE):  # an inner list (RFC 9651 section 4.2.1.2)
            self._need(_BLANKS)
            self._bare_item()
            self._parameters()
            self._need(_GAP)
        return None

    def _bare_item(self) -> bytes | None:
        found = self._need(_BARE_ITEM)
        value = decoded(found["base64"] or "")
        try:
            unquote_to_bytes(found["display"] or "").decode()
        except UnicodeDecodeError:
            value = None
        if value is None:
            raise MalformedError
        return value if found["base64"] is not None else None

    def _parameters(self) -> None:
        while self._take(_SEMICOLON):
            self._need(_KEY)
            if self._take(_EQUALS):
                self._bare_item()
