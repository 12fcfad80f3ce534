"""What may be shown of a text that came from outside: no password, no control character."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["printable", "redact"]

# An authority that is certainly whole: host and port, before them perhaps user and password.
_PROPER = r"\s*[Hh][Tt][Tt][Pp][Ss]?://(?:[^/?#@\\\s]*@)?(?:[^/?#@\\\s:]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?(?:[/?#]|\Z)"
_USERINFO = r"(?<=//)[^/?#@\\\s]*@"
_START = r"(?i)\s*(?:https?|ftp|file):[/\\]*|.*?//"


def redact(url: object) -> str:
    """Return ``url`` as text without ``user:password@`` and with control characters escaped.

    The raw text is matched, not a parsed URL: one that no parser takes must not give its password away either, so all
    between its first ``//`` (or its start) and its last ``@`` goes.
    """
    text = str(url)
    if "@" in text:
        if re.match(_PROPER, text):
            text = re.sub(_USERINFO, "", text, count=1)
        else:
            shown = re.match(_START, text[: text.rfind("@")])
            text = (shown[0] if shown else "") + text[text.rfind("@") + 1 :]
    return printable(text)


def printable(text: str) -> str:
    r"""Return ``text`` with every character that could act on a terminal or a log written as an escape.

    Control and format characters (ESC, CR, LF, right-to-left overrides, zero-width characters) and lone
    surrogates become ``\x1b``, ``\u202e`` and so on; other letters stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char
        for char in text
    )
