"""A folder below a trusted one, reached without following a symbolic link, and what is done to the files in it.

Whoever can make a link in the tree could otherwise have files written, or taken for ours, anywhere else (wget
CVE-2014-4877, tar CVE-2007-4559).  Each folder on the way is opened from the one above it, so it does not matter either
what happens to the path in between.  It imports nothing of the package: see :mod:`part`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

__all__ = ["Folder"]

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | _CLOEXEC
_WAY = getattr(os, "O_PATH", os.O_RDONLY) | _DIRECTORY  # on the way a folder need not be readable
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_WALKS = {os.open, os.mkdir, os.rename, os.unlink, os.stat, os.utime} <= os.supports_dir_fd and bool(_NOFOLLOW)
# Where a file system has no second names, or an operating system none that are made from descriptors.
_NO_LINKS = frozenset(getattr(errno, name, -1) for name in ("EPERM", "EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EMLINK"))


class Folder:
    """An open folder.  Close it, or use it as a context manager.

    :param path: its absolute path, for the places where an operating system has no better (str).
    :param handle: its descriptor, or None there.
    """

    __slots__ = ("_handle", "path")

    def __init__(self, path: str, handle: int | None) -> None:
        self.path = path
        self._handle = handle

    @classmethod
    def open(cls, path: str, root: str | None = None, *, make: bool = False, durable: bool = False) -> Folder:
        """Go from ``root`` to ``path``.

        :param path: absolute, without ``..`` (str).
        :param root: a folder that is trusted, with all that leads to it (absolute str); if ``path`` does not lie below
            it, ``path`` itself is.
        :param make: make the folders that are missing.
        :param durable: bring the names of those to the disk itself.
        :raises OSError: with ``errno`` ELOOP if there is a symbolic link below ``root`` on the way.
        """
        if root is None or not (path == root or path.startswith(root.rstrip(os.sep) + os.sep)):
            root = path
        names = [name for name in path[len(root) :].split(os.sep) if name]
        if make:
            _make(root, durable=durable)
        if not _WALKS:
            return cls(path, None)._checked(root, names, make=make)
        handle = os.open(root, _WAY)
        try:
            for name in names:
                below = _step(handle, name, make=make, durable=durable)
                os.close(handle)
                handle = below
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle)

    def _checked(self, root: str, names: list[str], *, make: bool) -> Folder:
        """Where there is no better way: look at each step, and hope that nobody changes it meanwhile."""
        way = root
        for name in names:
            way = os.path.join(way, name)
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(way)
            if os.path.islink(way):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if not os.path.isdir(way):
                os.listdir(way)  # raises what is the matter
        return self

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it.  May be called again."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)

    def open_file(self, name: str, flags: int, mode: int = 0o600) -> int:
        """As :func:`os.open`; a symbolic link is not followed."""
        flags |= _NOFOLLOW | _CLOEXEC | getattr(os, "O_BINARY", 0)
        return os.open(self._at(name), flags, mode, dir_fd=self._handle)

    def rename(self, name: str, other: str) -> None:
        """As :func:`os.replace`, within the folder."""
        os.replace(self._at(name), self._at(other), src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def give(self, name: str, other: Folder, new: str) -> None:
        """Let the file ``name`` be in the folder ``other`` as ``new``, whole and at once, and never over another.

        It keeps the old name where there can be two; else that goes.

        :raises FileExistsError: if something is called that.
        """
        try:
            os.link(
                self._at(name),
                other._at(new),
                src_dir_fd=self._handle,
                dst_dir_fd=other._handle,
                follow_symlinks=os.link not in os.supports_follow_symlinks,
            )
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in _NO_LINKS:
                raise
            if other.has(new):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
            os.rename(self._at(name), other._at(new), src_dir_fd=self._handle, dst_dir_fd=other._handle)

    def has(self, name: str) -> bool:
        """Whether there is anything of that name."""
        try:
            self.state(name)
        except FileNotFoundError:
            return False
        return True

    def make(self, name: str) -> None:
        """As :func:`os.mkdir`, for nobody else."""
        os.mkdir(self._at(name), 0o700, dir_fd=self._handle)

    def remove(self, name: str) -> None:
        """As :func:`os.rmdir`."""
        os.rmdir(self._at(name), dir_fd=self._handle)

    def unlink(self, name: str) -> None:
        """As :func:`os.unlink`."""
        os.unlink(self._at(name), dir_fd=self._handle)

    def stamp(self, name: str, modified: float) -> None:
        """As :func:`os.utime`, for both times.

        :param modified: POSIX seconds.
        """
        os.utime(self._at(name), (modified, modified), dir_fd=self._handle)

    def state(self, name: str) -> os.stat_result:
        """As :func:`os.lstat`."""
        return os.stat(self._at(name), dir_fd=self._handle, follow_symlinks=False)

    def is_link(self, name: str) -> bool:
        """Whether there is a symbolic link of that name."""
        try:
            return stat.S_ISLNK(self.state(name).st_mode)
        except FileNotFoundError:
            return False

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """What is in it."""
        if self._handle is None:
            with os.scandir(self.path) as entries:
                yield from entries
            return
        handle = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=self._handle)
        try:
            with os.scandir(handle) as entries:
                yield from entries
        finally:
            os.close(handle)

    def sync(self) -> None:
        """Bring its names to the disk itself, where an operating system can (POSIX)."""
        if self._handle is not None:
            _sync(self._handle)

    def _at(self, name: str) -> str:
        return name if self._handle is not None else os.path.join(self.path, name)


def _step(handle: int, name: str, *, make: bool, durable: bool) -> int:
    """Open the folder ``name`` in another one."""
    flags = _WAY | _NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=handle)
    except FileNotFoundError:
        if not make:
            raise
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=handle)
    if durable:
        _sync(handle)
    return os.open(name, flags, dir_fd=handle)


def _sync(handle: int) -> None:
    readable = os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=handle)
    try:
        os.fsync(readable)
    finally:
        os.close(readable)


def _make(path: str, *, durable: bool) -> None:
    """Make ``path`` and those above it that are missing."""
    missing = []
    while not os.path.isdir(path):
        if os.path.lexists(path) or path == os.path.dirname(path):
            os.listdir(path)  # raises what is the matter
        missing.append(path)
        path = os.path.dirname(path)
    if not missing:
        return
    os.makedirs(missing[0], exist_ok=True)
    if durable and _WALKS:
        for made in reversed(missing):
            with Folder.open(os.path.dirname(made)) as folder:
                folder.sync()
