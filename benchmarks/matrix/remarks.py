"""A few words on one cell: what lies there instead, what leaked, what escaped, how long was waited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rows import OLD, Row
from .scripts import GROWN, LARGE, LARGE_NEW, NEW, OBJECT
from .server import Play
from .tools import SECRETS

if TYPE_CHECKING:
    from .cell import Left

__all__ = ["describe", "remark"]

BLOCK = 16 << 10
_KNOWN = [("the object", OBJECT.data), ("the object", LARGE.data), ("the new object", NEW.data)]
_KNOWN += [("the new object", LARGE_NEW.data), ("the new object", GROWN.data)]
_KNOWN += [("the gzip form", OBJECT.packed), ("the gzip form", LARGE.packed)]


def describe(found: bytes | None) -> str:
    """Say what these bytes are."""
    if found is None:
        return "no file"
    if not found:
        return "empty"
    if found == OLD:
        return "old version"
    for name, data in _KNOWN:
        if found == data:
            return name
        if data.startswith(found):
            return f"{amount(len(found))} of {name}"
        if found.startswith(data):
            return f"{name} and {amount(len(found) - len(data))} more"
    origins = [_origin(found, at) for at in range(0, len(found), BLOCK)]
    known = {name: origins.count(name) * BLOCK for name in dict.fromkeys(origins) if name}
    if len(known) > 1:
        return "mix of " + " and ".join(known)
    right = "".join(f", {amount(size)} of {name} in place" for name, size in known.items())
    return amount(len(found)) + (right or " of something else")


def amount(size: int) -> str:
    """Bytes as people write them."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f}".rstrip("0").rstrip(".") + f" {name}"
    return f"{size} B"


def _origin(found: bytes, at: int) -> str:
    """Which known content has this block in this place."""
    block = found[at : at + BLOCK]
    return next((name for name, data in _KNOWN if data[at : at + BLOCK] == block), "")


def remark(row: Row, left: Left, play: Play, there: Play) -> tuple[str, bool]:
    """Return the words, and whether they tell of a rule broken beside the outcome: a leak, an escape, no patience."""
    words, broken = [], False
    if row.number in (10, 11):
        said, broken = _waited(play)
        words.append(said)
    if row.mode == "headers":
        leaked = [name for name in SECRETS if any("hunter2" in r.headers.get(name.lower(), "") for r in there.requests)]
        words.append(
            "leaks " + ", ".join(leaked) if leaked else "nothing leaks" if there.requests else "does not follow"
        )
        broken = bool(leaked)
    if row.mode in ("server's name", "URL's name"):
        broken = bool(left.escaped)
        names = left.escaped or [name.rpartition("/")[2] for name in left.files]
        words.append(("escapes to " if broken else "as ") + ", ".join(names))
    elif left.found is None or left.found not in row.wanted:
        if left.found is not None or row.killed or row.mode == "replace":
            words.append(describe(left.found))
        others = [name for name, data in left.files.items() if name != "f.bin" and data in row.wanted]
        if others:
            words.append("the right file is " + " and ".join(sorted(others)))
    elif row.number == 9:
        words.append("as sent" if left.found == OBJECT.packed else "decoded")
    if row.mode == "replace":
        words.append(f"{len(play.requests)} request{'s' * (len(play.requests) != 1)}")
    return "; ".join(words), broken


def _waited(play: Play) -> tuple[str, bool]:
    busy = play.notes.get("busy at")
    if busy is None:
        return "never told to wait", False
    later = [request.at for request in play.requests if request.at > busy]
    if not later:
        return "no retry", False
    waited = min(later) - busy
    return f"waits {waited:.1f} s", waited < play.notes["asked"] - 0.05
