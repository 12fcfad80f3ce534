"""What may be shown of a text that came from outside: no password, no control character."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["printable", "redact"]

# Everything between the scheme and the last "@" of the authority.  The raw text is matched, not a parsed
# URL, because a URL that no parser takes must not give its password away either.
_USERINFO = re.compile(r"^(\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]*)[^/\\?#]*@")
_PLAIN = re.compile(r"[ -~]*")


def redact(url: object) -> str:
    """Return ``url`` as text without ``user:password@`` and with control characters escaped."""
    return printable(_USERINFO.sub(r"\1", str(url), count=1))


def printable(text: str) -> str:
    r"""Return ``text`` with every character that could act on a terminal or a log written as an escape.

    Control and format characters (ESC, CR, LF, right-to-left overrides, zero-width characters) and lone
    surrogates become ``\x1b``, ``\u202e`` and so on; other letters stay as they are.
    """
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char
        for char in text
    )
