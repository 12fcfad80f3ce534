"""The tar format (POSIX.1-1988 ustar) as far as a shard needs it: plain files whose names are short; pure.

The same bodies in the same order give the same bytes: nobody's user and group, one mode, and no time but one that is
given.
"""

from __future__ import annotations

import tarfile

__all__ = ["BLOCK", "ending", "header", "padding"]

BLOCK = tarfile.BLOCKSIZE
_MODE = 0o644
_LARGEST = 8**11 - 1  # what eleven octal digits can say: bytes of a member, seconds


def _info(name: str, size: int, modified: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, modified, _MODE
    return info


# A header is made of an empty one: tarfile takes longer for one than the disk for a small member.
_EMPTY = _info("", 0, 0).tobuf(tarfile.USTAR_FORMAT)
_NAME, _SIZE, _SUM = 100, 124, 148  # where the name ends; where size and time begin, and the checksum after them
_BEFORE, _AFTER = _EMPTY[_NAME:_SIZE], _EMPTY[_SUM + 8 :]
_REST = sum(_BEFORE) + sum(_AFTER) + 8 * ord(" ")  # the checksum counts itself as blanks


def header(name: str, size: int, modified: float) -> bytes:
    """Return the block before a member.

    :param name: at most 100 ASCII characters.
    :param size: bytes of the member.
    :param modified: POSIX seconds.
    """
    seconds = min(max(int(modified), 0), _LARGEST)
    if size > _LARGEST:
        return _info(name, size, seconds).tobuf(tarfile.GNU_FORMAT, "ascii")
    called, numbers = name.encode("ascii"), b"%011o\0%011o\0" % (size, seconds)
    checksum = b"%06o\0 " % (_REST + sum(called) + sum(numbers))
    return b"".join((called.ljust(_NAME, b"\0"), _BEFORE, numbers, checksum, _AFTER))


def padding(size: int) -> bytes:
    """Return what fills the last block of a member of ``size`` bytes."""
    return bytes(-size % BLOCK)


def ending(size: int) -> bytes:
    """Return what ends an archive of ``size`` bytes: two empty blocks, and what fills a record of 10 KiB."""
    return bytes(-(size + 2 * BLOCK) % tarfile.RECORDSIZE + 2 * BLOCK)
