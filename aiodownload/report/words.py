"""Words: what may be shown of the text of a journal, which may come from anybody, and what groups it."""

from __future__ import annotations

import re

from ..redact import printable, redact

__all__ = ["clipped", "error_text", "host", "reason", "url_text"]

NO_HOST = "(no host)"
NO_REASON = "no reason is noted"

_AUTHORITY = re.compile(r"\s*https?://([^/?#\\\s]+)", re.IGNORECASE)
_START = re.compile(r"https?:[/\\]*|//", re.IGNORECASE)
_KIND = re.compile(r"[A-Za-z_]\w{0,63}: ")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://\S+", re.IGNORECASE)
_NUMBER = re.compile(
    r"(\bstatus [1-9][0-9]{2}\b)|\b0x[0-9a-f]+\b|\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b"
    r"|(?<![a-z0-9])[0-9]+(?:[.,:][0-9]+)*",
    re.IGNORECASE,
)


def _decoded(raw: object) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""


def clipped(text: str, limit: int) -> str:
    """``text``, cut after ``limit`` characters, which an ellipsis tells."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def url_text(raw: object) -> str:
    """A URL of a journal as it may be shown: no password, no control character.

    :param raw: bytes; all else counts as empty.
    """
    return redact(_decoded(raw))


def error_text(raw: object) -> str:
    """The reason of a failure as it may be shown.

    :param raw: bytes; all else counts as empty.
    """
    text = _decoded(raw)
    last = text.rfind("@")
    # Between the start of a first URL and a last @ anything may be a password.
    if last >= 0 and (start := _START.search(text, 0, last)):
        text = text[: start.end()] + text[last + 1 :]
    return printable(text)


def host(raw: object) -> str:
    """The host, and the port if one is named, of a URL of a journal."""
    found = _AUTHORITY.match(url_text(raw))
    return clipped(found[1].lower(), 100) if found else NO_HOST


def reason(error: object, url: object) -> str:
    """The reason of a failure without what differs from one URL to the next, so that equal troubles are equal texts.

    Hosts, URLs, quoted names and numbers become an ellipsis; the number of a status stays.

    :param error: what the journal has as ``error`` (bytes or None).
    :param url: whose it is (bytes).
    """
    text = clipped(error_text(error), 2000)
    kind = _KIND.match(text)
    head, tail = (kind[0], text[kind.end() :]) if kind else ("", text)
    tail = _ADDRESS.sub("…", _QUOTED.sub("…", tail))
    own = host(url)
    for name in (own, own.rpartition(":")[0]):
        if name and name in tail:
            tail = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", "…", tail)
    tail = _NUMBER.sub(lambda found: found[1] or "…", tail)
    return clipped(head + tail, 200).strip() or NO_REASON
