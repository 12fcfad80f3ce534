"""A partial file that is worth keeping: the record beside it says what it holds, for another try or another run.

Any number of processes may work on the same path.  Each writes a partial file of its own, and the rename to the final
name is one step; so they never harm each other, and the last whole file wins.  The record has one name per path; it
points to at most one of these files, and only the bytes of that one can be taken up again.  To take up is to
rename the partial file to a name of one's own: of two processes that try, one succeeds.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .folder import Folder
from .owner import TAG, Owner, gone, me
from .part import Part, PartError, beside, partial_name, write_at
from .record import LONGEST, Ranges, Record, add, begun, count, cut, dump, parse

__all__ = ["RECORD", "KeptPart", "Origin", "claim", "record_name", "sweep", "tidy"]

RECORD = ".part.json"
_PART = ".part"

# Bytes after which the record is brought up to date; what is lost with a process is at most that, and what it had in
# memory.  Of a large file, they are twice as many.
CHECKPOINT = 4 << 20
LARGE = 1 << 28  # bytes
# Seconds after which the bytes are also brought to the disk itself, so that a power cut does not cost hours of
# work.  A fast download never waits for that.
SYNC_EVERY = 30.0


class Origin(NamedTuple):
    """What the bytes are of.

    :param url: :func:`~aiodownload.storage.record.identity` of the URL (str).
    :param validator: the strong ETag of the representation (str).
    :param total: its length in bytes (int).
    """

    url: str
    validator: str
    total: int


class KeptPart(Part):
    """A partial file with a record beside it.

    :param path: the final path (absolute str).
    :param mode: permission bits of the final file (int).
    :param origin: what the bytes are of.
    :param root: see :class:`Part`.
    :param durable: see :class:`Part`.
    """

    def __init__(self, path: str, mode: int, origin: Origin, *, root: str | None = None, durable: bool = False) -> None:
        super().__init__(path, mode, _tag, root=root, durable=durable)
        self.origin = origin
        self._every = CHECKPOINT if origin.total < LARGE else 2 * CHECKPOINT
        self.ranges: Ranges = ()  # what it holds
        self._record: Record | None = None
        self._noting: bool | None = None  # not known before there is something to note
        self._asleep = time.monotonic()

    @classmethod
    def take_up(
        cls, path: str, mode: int, folder: Folder, partial: str, handle: int, record: Record, held: Ranges
    ) -> KeptPart:
        """Go on with an open partial file that holds ``held``."""
        part = cls(path, mode, Origin(record.url, record.validator, record.total))
        part._folder, part._partial, part._handle, part._noting = folder, partial, handle, True
        part.ranges, part.size = held, begun(held)
        part._note(cut(record.synced, held))
        return part

    def append(self, chunks: Iterable[bytes | memoryview], *, whole: bool = False) -> None:
        """Write ``chunks``; from time to time say so in the record.

        :raises PartError: if the disk refuses.
        """
        before = self.size
        super().append(chunks)
        self.ranges = add(self.ranges, before, self.size)
        self._keep_account()

    def write_at(self, place: int, chunks: Iterable[bytes | memoryview]) -> None:
        """Write ``chunks`` where they belong; ``size`` is what there is from the beginning on.

        :param place: of their first byte.
        :raises PartError: if the disk refuses.
        """
        try:
            for written in write_at(self._opened(False), chunks, place):
                self.ranges = add(self.ranges, place, place + written)
                place += written
        except (OSError, ValueError) as error:
            raise PartError("write", getattr(error, "errno", None)) from error
        self.size = begun(self.ranges)
        self._keep_account()

    def _keep_account(self) -> None:
        if self._noting is None and self._folder is not None:
            self._noting = _make_way(self._folder, os.path.basename(self.path))
            self._note(())
        elif count(self.ranges) - self._noted >= self._every:
            self._note(self._sync())

    def publish(self, before: Callable[[os.stat_result], object] = lambda state: None) -> None:
        """As :meth:`Part.publish`; then the record goes too.

        :param before: see there.
        :raises PartError: if the disk refuses, or not all bytes are there.
        """
        if self.size != self.origin.total:
            raise PartError("finish", None)
        super().publish(before)

    def _published(self) -> None:
        self._forget()
        super()._published()

    def discard(self) -> None:
        """Leave nothing behind."""
        self._forget()
        super().discard()

    def release(self) -> bool:
        """Keep the bytes for whoever wants to go on; False if there is nothing to go on with."""
        self._note(self._synced, mine=False)
        if self._record is None or not self._record.written or self._record.owner is not None:
            self.discard()
            return False
        self._close()
        self._partial = None
        self._let_go()
        return True

    @property
    def _noted(self) -> int:
        return count(self._record.written) if self._record is not None else 0

    @property
    def _synced(self) -> Ranges:
        return self._record.synced if self._record is not None else ()

    def _sync(self) -> Ranges:
        """Bring the bytes to the disk itself if it is time; return which ones are there for sure."""
        if self._handle is None or time.monotonic() - self._asleep < SYNC_EVERY:
            return self._synced
        self._asleep = time.monotonic()
        try:
            os.fsync(self._handle)
        except OSError as error:
            # What was written since the last good one is unknown now, and another fsync might succeed all the same,
            # since the system has forgotten the pages that it could not write (fsyncgate): give up.
            raise PartError("sync", error.errno) from error
        return self.ranges

    def _note(self, synced: Ranges, *, mine: bool = True) -> None:
        """Write the record: after the bytes, never before.  Where that fails, the bytes are less worth, not wrong."""
        if not self._noting or self._handle is None or self._partial is None or self._folder is None:
            return
        owner = me()
        with contextlib.suppress(OSError):
            record = Record(
                *self.origin,
                part=self._partial,
                inode=os.fstat(self._handle).st_ino,
                boot=owner.boot,
                written=self.ranges,
                synced=synced,
                owner=owner if mine else None,
            )
            _write(self._folder, record_name(os.path.basename(self.path)), dump(record))
            self._record = record

    def _forget(self) -> None:
        if self._record is not None and self._folder is not None:
            _remove(self._folder, record_name(os.path.basename(self.path)))
            self._record = None


def claim(path: str, mode: int, url: str, root: str | None = None) -> KeptPart | None:
    """Take up the partial file of ``path``, if there is one of ``url`` that nobody works on.  Blocks.

    :param path: the final path (absolute str).
    :param mode: permission bits of the final file (int).
    :param url: :func:`~aiodownload.storage.record.identity` of the URL (str).
    :param root: the folder below which no symbolic link is followed (absolute str), or None.
    """
    try:
        folder = Folder.open(os.path.dirname(path), root)
    except OSError:
        return None
    part = _claim(folder, path, mode, url)
    if part is None:
        folder.close()
    return part


def _claim(folder: Folder, path: str, mode: int, url: str) -> KeptPart | None:
    name = os.path.basename(path)
    record = _read(folder, record_name(name))
    if record is None or not _is_free(record) or record.url != url:
        return None
    # The last byte is asked for again if all are there: the answer tells whether they still are the file.
    held = record.held(me().boot)
    held = cut(held, ((0, record.total - 1),)) if begun(held) == record.total else held
    found = _seize(folder, name, record)
    if found is None:
        return None
    partial, handle = found
    try:
        state = os.fstat(handle)
        usable = stat.S_ISREG(state.st_mode) and state.st_nlink == 1 and state.st_ino == record.inode
        if usable and held and held[-1][1] <= state.st_size:
            os.ftruncate(handle, held[-1][1])
            os.lseek(handle, begun(held), os.SEEK_SET)
            return KeptPart.take_up(path, mode, folder, partial, handle, record, held)
    except OSError:
        pass
    os.close(handle)
    _remove(folder, partial, record_name(name))
    return None


def sweep(folder: Folder, names: Iterable[str]) -> None:
    """Remove what dead processes have left in ``folder`` and nobody can go on with.  Blocks.

    These are partial files that no record speaks of, and records that speak of a partial file that is not there.

    :param names: what the folder holds.
    """
    names = set(names)
    left = [name for name in names if (owner := _owner(name)) is not None and gone(owner)]
    records = {name: _read(folder, name) for name in names if name.endswith(RECORD)}
    if left:
        spoken_of = {record.part for record in records.values() if record is not None}
        _remove(folder, *(name for name in left if name not in spoken_of))
    _remove(folder, *(name for name, one in records.items() if one is not None and _is_void(folder, name, one)))


def tidy(path: str, root: str | None = None) -> None:
    """Remove the record of ``path`` if it speaks of a partial file that is not there.  Blocks.

    It stays behind where a process was killed just after its file got the final name.

    :param path: the final path (absolute str).
    :param root: see :func:`claim`.
    """
    name = record_name(os.path.basename(path))
    with contextlib.suppress(OSError), Folder.open(os.path.dirname(path), root) as folder:
        record = _read(folder, name)
        if record is not None and _is_void(folder, name, record):
            _remove(folder, name)


def _is_void(folder: Folder, name: str, record: Record) -> bool:
    """Whether the record called ``name`` speaks of a file that is not there, and nobody works on it."""
    if not _is_free(record) or beside(name.removeprefix(".").removesuffix(RECORD), RECORD) != name:
        return False
    try:
        folder.state(record.part)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def record_name(name: str) -> str:
    """Return the name of the record for the file ``name``: ``.name.part.json``."""
    return beside(name, RECORD)


def _owner(name: str) -> Owner | None:
    """Whose partial file that is, by its name; None if it is none."""
    stem, ending = os.path.splitext(name)
    if ending != _PART or not name.startswith("."):
        return None
    found = re.search(_MARK, stem)
    return Owner.from_tag(found[1]) if found is not None else None


_MARK = rf"\.({TAG})(?:-[0-9a-f]{{8}})?$"


def _tag() -> str:
    """For a name that was never there before: an old record, here or in somebody's memory, does not mean this file."""
    return f"{me().tag}-{os.urandom(4).hex()}"


def _is_free(record: Record) -> bool:
    return record.owner is None or gone(record.owner)


def _make_way(folder: Folder, name: str) -> bool:
    """Whether a record may be written for ``name``: not where somebody else's speaks of bytes that are in work."""
    record = _read(folder, record_name(name))
    if record is None:
        return True
    if not _is_free(record):
        return False
    found = _seize(folder, name, record)
    if found is not None:
        os.close(found[1])
        _remove(folder, found[0])
    return True


def _seize(folder: Folder, name: str, record: Record) -> tuple[str, int] | None:
    """Make the partial file of ``record`` one's own; return its name and descriptor, or None if it is gone."""
    found = re.search(_MARK, os.path.splitext(record.part)[0])
    # A record is no reason to touch any other file.
    if found is None or record.part != partial_name(name, found[0][1:]):
        return None
    partial = partial_name(name, _tag())
    try:
        folder.rename(record.part, partial)
    except OSError:
        return None
    try:
        return partial, folder.open_file(partial, os.O_RDWR)
    except OSError:
        _remove(folder, partial, record_name(name))  # which speaks of nothing now
        return None


def _read(folder: Folder, name: str) -> Record | None:
    try:
        handle = folder.open_file(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        return parse(os.read(handle, LONGEST + 1)) if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(handle)


def _write(folder: Folder, name: str, data: bytes) -> None:
    """Replace the record in one step; a torn one would be none.

    :raises OSError: if that is not possible; nothing is left of it then.
    """
    draft = partial_name(name.removeprefix(".")[:100], _tag())
    handle = folder.open_file(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    try:
        try:
            if os.write(handle, data) != len(data):
                raise OSError("the record was not written whole")
        finally:
            os.close(handle)
        folder.rename(draft, name)
    except BaseException:
        _remove(folder, draft)
        raise


def _remove(folder: Folder, *names: str) -> None:
    for name in names:
        with contextlib.suppress(OSError):
            folder.unlink(name)
