"""The record of a partial file: which bytes of which representation it holds; pure.

It names ranges and never a size, since a size tells nothing about holes.  What is read from a disk is somebody's input:
anything that is not exactly a record is none, and means no more than to start at byte 0.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple, TypeAlias

from .owner import Owner, known

__all__ = ["LONGEST", "Ranges", "Record", "add", "begun", "count", "cut", "dump", "gaps", "identity", "parse"]

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Bytes: pairs of the first and the one after the last, sorted, neither touching nor overlapping."""

LONGEST = 65536  # bytes that a record may have
_VERSION = 1
_LARGEST = (1 << 63) - 1
_LARGEST_INODE = (1 << 128) - 1  # beyond 63 bits on some network file systems, beyond 64 on ReFS


class Record(NamedTuple):
    """What is known of one partial file.

    :param url: :func:`identity` of the URL (str).
    :param validator: the strong ETag of the representation (str).
    :param total: its length in bytes (int).
    :param part: the name of the partial file, in the folder of the record (str).
    :param inode: the number of that file (int); another file under the same name is not the one meant.
    :param boot: the boot in which ``written`` was true (str).
    :param written: the bytes that were handed to the operating system.
    :param synced: those of them that the disk has confirmed; after another boot only they count.
    :param owner: who works on it, or None.
    """

    url: str
    validator: str
    total: int
    part: str
    inode: int
    boot: str
    written: Ranges
    synced: Ranges
    owner: Owner | None

    def held(self, boot: str) -> Ranges:
        """The bytes that can be relied upon in ``boot``.

        Bytes that were written but not synced outlive the death of a process, and not that of the machine.
        """
        return self.written if boot == self.boot and known(boot) else self.synced


def identity(url: str) -> str:
    """What stands for a URL in a record; the URL itself may hold secrets."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def add(ranges: Ranges, first: int, end: int) -> Ranges:
    """Return ``ranges`` and the bytes from ``first`` up to ``end``."""
    if first >= end:
        return ranges
    kept = []
    for one in ranges:
        if one[1] < first or one[0] > end:
            kept.append(one)
        else:
            first, end = min(first, one[0]), max(end, one[1])
    return tuple(sorted((*kept, (first, end))))


def begun(ranges: Ranges) -> int:
    """How many bytes from the first on there are."""
    return ranges[0][1] if ranges and ranges[0][0] == 0 else 0


def count(ranges: Ranges) -> int:
    """How many bytes there are."""
    return sum(end - first for first, end in ranges)


def cut(ranges: Ranges, other: Ranges) -> Ranges:
    """Return the bytes that are in both."""
    shared = [(max(one[0], two[0]), min(one[1], two[1])) for one in ranges for two in other]
    return tuple(sorted(pair for pair in shared if pair[0] < pair[1]))


def gaps(ranges: Ranges, total: int) -> Ranges:
    """Return the bytes below ``total`` that are missing."""
    edges = [0, *(edge for pair in ranges for edge in pair), total]
    return tuple(pair for pair in zip(edges[::2], edges[1::2], strict=True) if pair[0] < pair[1])


def dump(record: Record) -> bytes:
    """Return the record as it is stored."""
    fields = {
        "version": _VERSION,
        "url": record.url,
        "validator": record.validator,
        "total": record.total,
        "part": record.part,
        "inode": record.inode,
        "boot": record.boot,
        "written": record.written,
        "synced": record.synced,
        "owner": record.owner.tag if record.owner is not None else None,
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def parse(data: bytes) -> Record | None:
    """Read what :func:`dump` wrote; None for everything else, whatever it is."""
    if len(data) > LONGEST:
        return None
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.pop("version", None) != _VERSION:
        return None
    try:
        owner = fields.pop("owner")
        written, synced = (_ranges(fields.pop(name), fields["total"]) for name in ("written", "synced"))
        record = Record(**fields, written=written, synced=synced, owner=_owner(owner))
    except (KeyError, TypeError, ValueError):
        return None
    texts = (record.url, record.validator, record.part, record.boot)
    if not all(isinstance(text, str) for text in texts) or not _is_number(record.inode, _LARGEST_INODE):
        return None
    # The name of a file in the same folder, and of no other.
    if not record.part.startswith(".") or record.part in (".", "..") or set(record.part) & set("/\\\0"):
        return None
    # Doubled fields, 1.0 and true for 1, other encodings and a last line that is cut off: to JSON they are the same.
    return record if dump(record) == data else None


def _owner(tag: object) -> Owner | None:
    if tag is None:
        return None
    owner = Owner.from_tag(tag) if isinstance(tag, str) else None
    if owner is None:
        raise ValueError("no owner's tag")
    return owner


def _ranges(value: Any, total: Any) -> Ranges:
    """:raises ValueError: for what is no :data:`Ranges` below ``total``."""
    ranges, last = [], -1
    if not isinstance(value, list) or not _is_number(total):
        raise ValueError("no list of ranges")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_number(number) for number in pair):
            raise ValueError("no pair of numbers")
        first, end = pair
        if not last < first < end <= total:
            raise ValueError("no sorted ranges below the total")
        ranges.append((first, end))
        last = end
    return tuple(ranges)


def _is_number(value: object, largest: int = _LARGEST) -> bool:
    return type(value) is int and 0 <= value <= largest
