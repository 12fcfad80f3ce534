"""The tar format (POSIX.1-1988 ustar) as far as a shard needs it: plain files whose names are short; pure.

The same bodies in the same order give the same bytes: nobody's user, group and mode, and no time but one that is given.
"""

from __future__ import annotations

import tarfile

__all__ = ["BLOCK", "ending", "header", "padding"]

BLOCK = tarfile.BLOCKSIZE
_MODE = 0o644
_LARGEST = 8**11 - 1  # bytes of a member that eleven octal digits can say; beyond, GNU's form can
_LATEST = 8**11 - 1


def header(name: str, size: int, modified: float) -> bytes:
    """Return the block before a member.

    :param name: at most 100 ASCII characters.
    :param size: bytes of the member.
    :param modified: POSIX seconds.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, min(max(int(modified), 0), _LATEST), _MODE
    return info.tobuf(tarfile.USTAR_FORMAT if size <= _LARGEST else tarfile.GNU_FORMAT, "ascii")


def padding(size: int) -> bytes:
    """Return what fills the last block of a member of ``size`` bytes."""
    return bytes(-size % BLOCK)


def ending(size: int) -> bytes:
    """Return what ends an archive of ``size`` bytes: two empty blocks, and what fills a record of 10 KiB."""
    return bytes(-(size + 2 * BLOCK) % tarfile.RECORDSIZE + 2 * BLOCK)
