"""A partial file by blocking calls: made beside its target, written, and renamed to it when it is whole.

Run as a program, it does so for small bodies that come through its standard input, see :mod:`publisher`; which is
why it imports nothing of the package but its neighbour.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator

from .folder import Folder

__all__ = [
    "ACTIONS",
    "DROP",
    "GO",
    "HELD",
    "HOLD",
    "INLINE",
    "MAX_NAME",
    "READY",
    "REPLY",
    "REQUEST",
    "Part",
    "PartError",
    "beside",
    "partial_name",
    "publish",
    "write_at",
]

MAX_NAME = 255  # bytes in one component on ext4, XFS, APFS and NTFS alike

# While a body comes in over several trips, nobody else reads or writes half a file (curl CVE-2022-32207).  One that
# makes a single trip has its final mode at once.
_PRIVATE = 0o600
_MOST_VIEWS = 1024  # IOV_MAX of Linux and macOS
_FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR  # what has come in parts is read again for its checksum

ACTIONS = ("write", "finish", "rename to", "read", "sync")
_WRITE, _FINISH, _RENAME, _READ, _SYNC = ACTIONS


class PartError(Exception):
    """The disk refused.

    :param action: what was being done, one of :data:`ACTIONS`.
    :param errno: the operating system's error number (int), or None: the size on disk is wrong.
    """

    def __init__(self, action: str, errno: int | None) -> None:
        super().__init__(action, errno)
        self.action = action
        self.errno = errno


class Part:
    """The partial file of one body.  Its name is nobody else's: it holds the tag of the process that writes it.

    :param path: the final path (absolute str).
    :param mode: permission bits of the final file (int).
    :param tag: tells :attr:`~aiodownload.storage.owner.Owner.tag` (str) of the process; asked when that is needed.
    :param root: the folder below which no symbolic link is followed (absolute str); None: no such folder.
    :param folder: the open folder of ``path``, which stays open; None: it is opened here.
    :param durable: bring the bytes, then the name, to the disk itself before :meth:`publish` returns (bool).
    """

    def __init__(
        self,
        path: str,
        mode: int,
        tag: Callable[[], str],
        *,
        root: str | None = None,
        folder: Folder | None = None,
        durable: bool = False,
    ) -> None:
        self.path = path
        self.name = os.path.basename(path)  # that it gets in the end
        self.modified: float | None = None  # when the server says that it was, in POSIX seconds
        self.root = root
        self._folder = folder
        self._borrowed = folder is not None
        self.durable = durable
        self.size = 0
        self._mode = mode
        self._tag = tag
        self._partial: str | None = None
        self._handle: int | None = None
        self._private = True

    def append(self, chunks: Iterable[bytes | memoryview], *, whole: bool = False) -> None:
        """Write ``chunks``; if nothing was written before, they may be the ``whole`` body.

        :raises PartError: if the disk refuses.
        """
        try:
            for written in _write_all(self._opened(whole), chunks):
                self.size += written
        except (OSError, ValueError) as error:
            raise PartError(_WRITE, getattr(error, "errno", None)) from error

    def _opened(self, whole: bool) -> int:
        """The descriptor of the file, which is made if it is not there yet."""
        if self._handle is None:
            self._private = not whole
            if self._folder is None:
                above = os.path.dirname(self.path)
                self._folder = Folder.open(above, self.root, make=True, durable=self.durable)
            mode = self._mode if whole else _PRIVATE
            self._handle, self._partial = _create(self._folder, os.path.basename(self.path), mode, self._tag())
        return self._handle

    def publish(self, before: Callable[[os.stat_result], object] = lambda state: None) -> None:
        """Compare the size on disk with the bytes counted; rename.

        :param before: called with the state of the file when it has all but its final name.
        :raises PartError: if the disk refuses; the final path is then as it was, unless it was the name alone that
            could not be brought to the disk itself.
        """
        state = self.complete()
        try:
            before(state)
        except OSError as error:
            raise PartError(_FINISH, error.errno) from error
        self.appear()

    def complete(self) -> os.stat_result:
        """Compare the size on disk with the bytes counted; return the state of the file, which has all but its name.

        :raises PartError: if the disk refuses.
        """
        if self._handle is None or self._partial is None or self._folder is None:
            raise PartError(_FINISH, None)
        action = _FINISH
        try:
            state = os.fstat(self._handle)
            if state.st_size != self.size:
                raise PartError(_FINISH, None)
            if self._private and hasattr(os, "fchmod"):
                os.fchmod(self._handle, self._mode)
            if self.modified is not None:
                self._folder.stamp(self._partial, self.modified)
                state = os.fstat(self._handle)
            if self.durable:
                action = _SYNC
                os.fsync(self._handle)
                action = _FINISH
            handle, self._handle = self._handle, None
            os.close(handle)  # its errors count
        except OSError as error:
            raise PartError(action, error.errno) from error
        return state

    def go_on_in(self, folder: Folder) -> None:
        """Its folder has been opened anew."""
        self._folder = folder

    def appear(self) -> None:
        """Give the file its final name, after :meth:`complete`.

        :raises PartError: if the disk refuses.
        """
        if self._partial is None or self._folder is None:
            raise PartError(_RENAME, None)
        action = _RENAME
        try:
            if self._folder.is_link(self.name):  # it is somebody's, and says that the file belongs elsewhere
                raise PartError(_RENAME, errno.ELOOP)
            self._folder.rename(self._partial, self.name)
            self._partial = None
            if self.durable:
                action = _SYNC
                self._folder.sync()
            self._published()
        except OSError as error:
            raise PartError(action, error.errno) from error

    def discard(self) -> None:
        """Leave nothing behind; nothing happens to a file that was published."""
        self._close()
        if self._partial is not None and self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.unlink(self._partial)
            self._partial = None
        self._let_go()

    def read_back(self, take: Callable[[bytes], object]) -> None:
        """Give ``take`` all bytes that have been written, in order.

        :raises PartError: if the disk refuses.
        """
        at = 0
        try:
            while self._handle is not None and at < self.size:
                data = os.pread(self._handle, min(_PORTION, self.size - at), at)
                if not data:
                    raise PartError(_READ, None)
                take(data)
                at += len(data)
        except OSError as error:
            raise PartError(_READ, error.errno) from error

    def _close(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def _published(self) -> None:
        """The file has its final name."""
        self._let_go()

    def _let_go(self) -> None:
        if self._folder is not None and not self._borrowed:
            self._folder.close()


def write_at(handle: int, chunks: Iterable[bytes | memoryview], place: int) -> Iterator[int]:
    """Write all of ``chunks``, the first byte at ``place``; yield how many bytes each system call has written.

    Where the system call for that is missing, the descriptor's own place is moved.
    """
    if not hasattr(os, "pwritev"):
        os.lseek(handle, place, os.SEEK_SET)
        yield from _write_all(handle, chunks)
        return

    def write(views: list[memoryview]) -> int:
        nonlocal place
        written = os.pwritev(handle, views, place)
        place += written
        return written

    yield from _write_all(handle, chunks, write)


def _write_all(
    handle: int, chunks: Iterable[bytes | memoryview], write: Callable[[list[memoryview]], int] | None = None
) -> Iterator[int]:
    """Write all of ``chunks``, many with one system call: around each, a thread waits for the interpreter."""
    views = [memoryview(chunk) for chunk in chunks if chunk]
    at = 0
    while at < len(views):
        some = views[at : at + _MOST_VIEWS]
        written = write(some) if write is not None else _write_some(handle, some)
        yield written
        while written and written >= len(views[at]):
            written -= len(views[at])
            at += 1
        if written:
            views[at] = views[at][written:]


def _write_some(handle: int, views: list[memoryview]) -> int:
    """Write what fits, at least a byte; return how many."""
    if len(views) > 1 and hasattr(os, "writev"):
        return os.writev(handle, views)
    return os.write(handle, views[0])


def publish(path: str, mode: int, body: Iterable[bytes | memoryview], tag: str, folder: Folder) -> None:
    """Write a whole body and publish it; see :class:`Part`.

    :raises PartError: if the disk refuses; nothing is left then.
    """
    part, _ = _prepare(path, mode, body, tag, folder)
    try:
        part.appear()
    except BaseException:
        part.discard()
        raise


def _prepare(
    path: str, mode: int, body: Iterable[bytes | memoryview], tag: str, folder: Folder
) -> tuple[Part, os.stat_result]:
    """Write a whole body; return the file that lacks but its name, and its state.

    :raises PartError: if the disk refuses; nothing is left then.
    """
    part = Part(path, mode, lambda: tag, folder=folder)
    try:
        part.append(body, whole=True)
        return part, part.complete()
    except BaseException:
        part.discard()
        raise


def beside(name: str, ending: str) -> str:
    """Return the name of a file that goes with the file ``name``: ``.name`` and the ending.

    Never longer than a name may be.  A leading dot keeps it apart from every name that a URL can get.
    """
    plain = f".{name}{ending}"
    if len(os.fsencode(plain)) <= MAX_NAME:
        return plain
    import hashlib  # seldom, and dear to the program that this file also is

    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    head = os.fsencode(name)[: MAX_NAME - len(ending) - 18].decode("utf-8", "ignore")
    return f".{head}-{digest}{ending}"


def partial_name(name: str, tag: str) -> str:
    """Return the name of the partial file for ``name`` that the process ``tag`` writes: ``.name.tag.part``."""
    return beside(name, f".{tag}.part")


def _create(folder: Folder, name: str, mode: int, tag: str) -> tuple[int, str]:
    """Make a partial file for ``name``; return its descriptor and its name."""
    partial = partial_name(name, tag)
    for _ in range(8):
        try:
            return folder.open_file(partial, _FLAGS, mode), partial
        except FileExistsError:  # this process works on the same path twice
            partial = partial_name(name, f"{tag}-{os.urandom(4).hex()}")
    return folder.open_file(partial, _FLAGS, mode), partial


# What goes through the socket.  Numbers are of this machine's byte order: both ends are on it.

REQUEST = struct.Struct("=IIIII")
"""For each job: its number, mode, bytes of the paths, bytes of the body, place of the body in the memory that both ends
share; then the root, a NUL and the path.  The body follows if its place is :data:`INLINE`."""

INLINE = 0xFFFFFFFF

HOLD = 1 << 31
"""In the mode of a job: the file is not to get its name yet.  A second request with the same number, nothing else, and
one of the next two as its place says what becomes of it."""

GO, DROP = 0xFFFFFFFE, 0xFFFFFFFD
"""It gets its name, which is answered; or it is removed, which is not."""

REPLY = struct.Struct("=IBiQqQ")
"""For each job: its number, 0 if it was published or 1 + the index of the action that failed, the errno or -1.  After
:data:`HELD`: bytes, time of change in nanoseconds and inode of the file that is ready for its name."""

HELD = 0xFF

READY = REPLY.pack(0, 0, 0, 0, 0, 0)
"""Sent once, when the program can take jobs."""

_Held = dict[int, tuple[str, Part]]  # files that lack but their names, by the numbers of their jobs, with their roots

_PORTION = 1 << 18
_MOST_FOLDERS = 16  # that are open at once
_PATIENCE = 5000  # ms


def serve(descriptor: int, tag: str, shared: memoryview | None = None) -> None:
    """Publish what comes through a connected socket, until its other end is closed.

    :param descriptor: of the socket (int), blocking.
    :param tag: for the names of the partial files (str).
    :param shared: memory in which the other end leaves bodies, or None.
    """
    import select

    parent = os.getppid()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    received = bytearray()
    held: _Held = {}
    try:
        _send(descriptor, READY)
        while True:
            while not poll.poll(_PATIENCE):
                if os.getppid() != parent:  # it is gone, and a child that it had forked keeps the socket open
                    return
            data = os.read(descriptor, _PORTION)
            if not data:
                return
            received += data
            taken, replies = _do(memoryview(received), tag, shared or memoryview(b""), held)
            del received[:taken]
            _send(descriptor, replies)
    finally:
        with _Folders() as folders:
            for number, (root, part) in held.items():
                _end(number, root, part, folders, go=False)


class _Folders(contextlib.ExitStack):
    """Folders that stay open for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[tuple[str, str], Folder] = {}

    def of(self, root: str, path: str, *, make: bool = True) -> Folder:
        """The one of ``path``, opened once for all that go there.

        :param make: whether it is made if it is missing.
        :raises PartError: if the disk refuses.
        """
        place = root, os.path.dirname(path)
        if place not in self._open:
            if len(self._open) == _MOST_FOLDERS:
                self._open.clear()
                self.close()
            try:
                self._open[place] = self.enter_context(Folder.open(place[1], root or None, make=make))
            except (OSError, ValueError) as error:
                raise PartError(_WRITE, getattr(error, "errno", None)) from error
        return self._open[place]


def _do(received: memoryview, tag: str, shared: memoryview, held: _Held) -> tuple[int, bytes]:
    """Do every job that is whole in ``received``; return the bytes that they took, and the replies."""
    start, replies = 0, []
    with received, _Folders() as folders:  # for these jobs only: those after them look again
        while start + REQUEST.size <= len(received):
            number, mode, path_size, body_size, place = REQUEST.unpack_from(received, start)
            path_at = start + REQUEST.size
            body_at = path_at + path_size
            end = body_at + (body_size if place == INLINE else 0)
            if end > len(received):
                break
            if place in (GO, DROP):
                start = end
                if number in held:
                    replies.append(_end(number, *held.pop(number), folders, go=place == GO))
                continue
            root, _, path = os.fsdecode(bytes(received[path_at:body_at])).partition("\0")
            with received[body_at:end] if place == INLINE else shared[place : place + body_size] as body:
                replies.append(_begin(number, root, path, mode, body, tag, held, folders))
            start = end
    return start, b"".join(replies)


def _begin(
    number: int,
    root: str,
    path: str,
    mode: int,
    body: memoryview,
    tag: str,
    held: _Held,
    folders: _Folders,
) -> bytes:
    """Write a body, and give the file its name unless it is to be held; return the reply."""
    try:
        folder = folders.of(root, path)
        if not mode & HOLD:
            publish(path, mode, (body,), tag, folder)
            return REPLY.pack(number, 0, 0, 0, 0, 0)
        part, state = _prepare(path, mode & ~HOLD, (body,), tag, folder)
    except PartError as error:
        return _failure(number, error)
    held[number] = root, part
    return REPLY.pack(number, HELD, 0, state.st_size, state.st_mtime_ns, state.st_ino)


def _end(number: int, root: str, part: Part, folders: _Folders, *, go: bool) -> bytes:
    """Give a file that was held its name, or remove it; return the reply."""
    try:
        part.go_on_in(folders.of(root, part.path, make=False))
        if not go:
            part.discard()
            return b""
        try:
            part.appear()
        except BaseException:
            part.discard()
            raise
    except PartError as error:
        return _failure(number, error) if go else b""
    return REPLY.pack(number, 0, 0, 0, 0, 0)


def _failure(number: int, error: PartError) -> bytes:
    return REPLY.pack(number, 1 + ACTIONS.index(error.action), -1 if error.errno is None else error.errno, 0, 0, 0)


def _send(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _shared(descriptor: int) -> memoryview:
    import mmap

    return memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))


def main() -> None:
    """Serve at standard input, until the other end has no more to say."""
    import signal

    # It ends when its parent does, or when that says so: a signal to the whole group is for the parent, which may
    # have files to finish.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    descriptor = sys.stdin.fileno()
    with contextlib.suppress(OSError):  # the parent is gone
        tag = os.read(descriptor, MAX_NAME).decode()  # nothing else comes before it is said that jobs are taken
        serve(descriptor, tag, _shared(int(sys.argv[1])) if len(sys.argv) > 1 else None)
    os._exit(0)  # nothing is left to tidy up, and somebody waits for the end
