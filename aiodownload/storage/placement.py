"""Which path a file gets when the one it asks for is taken: by a folder, by a file above it, or by another URL."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import PathError
from .paths import alternate, is_below

__all__ = ["Found", "Places", "look", "sideways", "safe_path"]

_LONGEST = 4095  # bytes in a path on Linux (PATH_MAX); elsewhere the disk tells


def safe_path(path: object, home: str) -> str:
    """Return ``path`` absolute and normalised; a relative one lies below ``home``.

    :raises PathError: for one that leaves ``home``, steps upwards, or that no file system takes.
    """
    if not isinstance(path, str):
        raise TypeError(f"a file path must be a str, not {type(path).__name__}")
    if not path or "\0" in path:
        raise PathError(path, "it is empty or holds a NUL character")
    if ".." in path.replace("\\", "/").split("/"):
        raise PathError(path, "it holds '..'; a path may only lead downwards")
    whole = os.path.normpath(os.path.join(home, path))
    if not os.path.isabs(path) and not is_below(whole, home):
        raise PathError(path, f"it does not lie below {home!r}")
    if path.endswith(("/", os.sep)):
        raise PathError(path, "it names a folder; give it a file name")
    if len(os.fsencode(whole)) > _LONGEST:
        raise PathError(path, f"it is longer than {_LONGEST} bytes")
    return whole


def sideways(path: str, component: str, turn: int) -> str:
    """Return ``path`` with the taken ``component`` (a path: ``path`` itself or a folder above it) renamed."""
    folder, name = os.path.split(component)
    return os.path.join(folder, alternate(name, component, turn)) + path[len(component) :]


def _folders(path: str) -> Iterator[str]:
    """The folders above ``path``, nearest first."""
    while (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


class Places:
    """The paths that are being written to, so that no two bundles meet in one.

    Paths that are settled need no entry: they are on the disk, where :func:`look` sees them.
    """

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._parents: Counter[str] = Counter()
        self._folders: Counter[str] = Counter()

    def clash(self, path: str) -> str | None:
        """Return what of ``path`` is taken: itself, a folder above it that is a file, or None."""
        if path in self._folders or path in self._files:
            return path
        if os.path.dirname(path) in self._parents:
            return None
        return next((folder for folder in _folders(path) if folder in self._files), None)

    def take(self, path: str) -> None:
        """Keep ``path`` until :meth:`give_back`."""
        self._files.add(path)
        parent = os.path.dirname(path)
        self._parents[parent] += 1
        if self._parents[parent] == 1:
            self._folders.update(_folders(path))

    def give_back(self, path: str) -> None:
        """Let others have ``path``."""
        self._files.discard(path)
        parent = os.path.dirname(path)
        self._parents[parent] -= 1
        if not self._parents[parent]:
            del self._parents[parent]
            self._folders.subtract(_folders(path))
            for folder in _folders(path):
                if not self._folders[folder]:
                    del self._folders[folder]


@dataclass(frozen=True, slots=True)
class Found:
    """What the disk has for a path.

    :param taken: the component (a path) that is in the way, or None.
    :param path: where the file would be or is.
    :param size: bytes of a file that is there, or None.
    """

    taken: str | None
    path: str
    size: int | None


def look(paths: Sequence[str], *, both: bool) -> list[Found]:
    """See what is on the disk.  Blocks.

    :param paths: absolute paths.
    :param both: look also under the names that a file gets when its own is taken.
    """
    return [_look(path, both) for path in paths]


def _look(path: str, both: bool) -> Found:
    found = _look_at(path)
    if both and found.size is None:
        for component in (path, *_folders(path)):
            if not os.path.basename(component):
                break
            other = _look_at(sideways(path, component, 1))
            if other.size is not None:
                return other
    return found


def _look_at(path: str) -> Found:
    try:
        state = os.lstat(path)
    except NotADirectoryError:
        return Found(_file_above(path), path, None)
    except (OSError, ValueError):
        return Found(None, path, None)
    if stat.S_ISDIR(state.st_mode):
        return Found(path, path, None)
    return Found(None, path, state.st_size if stat.S_ISREG(state.st_mode) else None)


def _file_above(path: str) -> str | None:
    """The highest component above ``path`` that is there and no folder."""
    for folder in reversed(list(_folders(path))):
        if not os.path.isdir(folder):
            return folder if os.path.lexists(folder) else None
    return None
