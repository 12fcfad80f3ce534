"""Which path a file gets when the one it asks for is taken: by a folder, by a file above it, or by another URL."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import PathError
from ..homes import Bucket, is_store, root
from .folder import Folder
from .kept import RECORD, record_name, sweep
from .paths import alternate, is_below, is_suggested

__all__ = [
    "TURNS",
    "FlatPlaces",
    "Found",
    "Places",
    "Survey",
    "find",
    "is_place_of",
    "other_places",
    "published_since",
    "safe_path",
    "sideways",
    "state_at",
    "survey",
]

_MOST_KNOWN = 4096  # folders remembered; then they are looked at anew
_THERE = "/"  # no name of a folder: marks a folder in which a file was published
TURNS = 64  # other names to try before a path is given up
_LONGEST = 4095  # bytes in a path on Linux (PATH_MAX); elsewhere the disk tells
_LONGEST_KEY = 1024  # bytes in the key of an object in S3 and in Google Cloud Storage


def safe_path(path: str, home: str) -> str:
    """Return ``path`` absolute and normalised; a relative one lies below ``home``.

    :raises PathError: for one that leaves ``home``, steps upwards, or that no file system takes.
    """
    if is_store(home):
        return _safe_object(path, home)
    if not path or "\0" in path:
        raise PathError(path, "it is empty or holds a NUL character")
    if ".." in path and ".." in path.replace("\\", "/").split("/"):
        raise PathError(path, "it holds '..'; a path may only lead downwards")
    if path.endswith(("/", os.sep)):
        raise PathError(path, "it names a folder; give it a file name")
    whole = os.path.normpath(os.path.join(home, path))
    if whole == home or not (os.path.isabs(path) or is_below(whole, home)):
        raise PathError(path, f"it does not lie below {home!r}")
    if len(whole) > _LONGEST or (not whole.isascii() and len(os.fsencode(whole)) > _LONGEST):
        raise PathError(path, f"it is longer than {_LONGEST} bytes")
    return whole


def _safe_object(path: str, home: str) -> str:
    """The same for a place in an object store, where a folder is nothing but a part of a name."""
    below = root(home)
    whole = path if is_store(path) else below + path
    parts = whole.removeprefix(below).split("/")
    if not path or parts[-1] == "":
        raise PathError(path, "it is empty or names a folder; give it a name")
    if any(part in (".", "..") for part in whole.replace("\\", "/").split("/")):
        raise PathError(path, "it holds '.' or '..'; a path may only lead downwards")
    if not whole.startswith(below) or path.startswith("/"):
        raise PathError(path, f"it does not lie below {home!r}")
    if "" in parts or any(char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff" for char in whole):
        raise PathError(path, "it holds '//', a control character, or what is no Unicode")
    if len(whole.encode()) - len(Bucket.of(home).url) > _LONGEST_KEY:
        raise PathError(path, f"it is longer than {_LONGEST_KEY} bytes")
    return whole


def sideways(path: str, depth: int, turn: int) -> str:
    """Return ``path`` with another name for one of its components.

    :param depth: which one is taken: 0 the file itself, 1 the folder it lies in, 2 the one above.
    :param turn: 1 for the first other name, 2 for the next.
    """
    component = path
    for _ in range(depth):
        component = os.path.dirname(component)
    name = os.path.basename(component)
    return component.removesuffix(name) + alternate(name, component, turn) + path[len(component) :]


def other_places(path: str) -> Iterator[str]:
    """The paths that a file may have got when ``path`` itself was taken, as far as one thing was in the way."""
    for turn in range(1, TURNS + 1):
        yield sideways(path, 0, turn)
    for depth, component in enumerate(_folders(path), 1):
        if os.path.basename(component):
            yield sideways(path, depth, 1)


def is_place_of(path: str, own: str) -> bool:
    """Whether a file that wants the path ``own`` may have got ``path``."""
    if path == own:
        return True
    places = (own, *other_places(own))
    return path in places or any(is_suggested(path, place) for place in places)


def _folders(path: str) -> Iterator[str]:
    """The folders above ``path``, nearest first."""
    while (folder := os.path.dirname(path)) != path:
        yield folder
        path = folder


class Survey(NamedTuple):
    """What the disk has in a folder, as far as names can clash.

    :param blocked: None, or where a file stands in the place of a folder: 0 in this one's, 1 in that of the one above.
    :param folders: names of the folders in it.
    :param records: names of the records of partial files in it.
    :param links: names of the symbolic links in it; None: there is one on the way to it.
    """

    blocked: int | None
    folders: set[str]
    records: set[str]
    links: set[str] | None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is in it but files, and none of them is kept for another try."""
        others = len(self.folders) - (_THERE in self.folders)
        return self.blocked is None and not others and not self.records and self.links is not None and not self.links


class Places:
    """Which paths are taken: by bundles that are under way, and on the disk.

    Paths are given as the file system compares them (:meth:`Home.folded`).  Each folder is looked at once, not each
    file.  All of this is memory; :func:`survey` and :func:`find` do the looking.
    """

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._parents: Counter[str] = Counter()
        self._above: Counter[str] = Counter()
        self._known: dict[str, Survey] = {}
        self._surveyed: set[str] = set()

    def clash(self, path: str, parent: str) -> int | None:
        """Return the depth at which ``path`` is taken by another bundle: 0 itself, 1 and up a folder of it; or None."""
        if path in self._above or path in self._files:
            return 0
        if parent in self._parents:
            return None
        return next((depth for depth, folder in enumerate(_folders(path), 1) if folder in self._files), None)

    def take(self, path: str, parent: str) -> None:
        """Keep ``path`` until :meth:`give_back`."""
        self._files.add(path)
        self._parents[parent] += 1
        if self._parents[parent] == 1:
            self._above.update(_folders(path))

    def give_back(self, path: str, parent: str) -> None:
        """Let others have ``path``."""
        self._files.discard(path)
        self._parents[parent] -= 1
        if not self._parents[parent]:
            del self._parents[parent]
            for folder in _folders(path):
                self._above[folder] -= 1
                if not self._above[folder]:
                    del self._above[folder]

    def is_clear(self, path: str, parent: str) -> bool:
        """Whether it is seen at once that nothing is in the way of ``path``, nor kept for it."""
        known = self._known.get(parent)
        if known is None or not known.is_plain or parent not in self._parents:
            return False
        return path not in self._files and path not in self._above

    def knows(self, parent: str) -> bool:
        """Whether the folder has been surveyed."""
        return parent in self._known

    def learn(self, surveys: dict[str, Survey]) -> None:
        """Take in what :func:`survey` found."""
        if len(self._known) + len(surveys) > _MOST_KNOWN:
            self._known.clear()
            self._surveyed.clear()
        self._known.update(surveys)
        for parent in surveys:
            self._surveyed.add(parent)
            self._surveyed.update(_folders(parent))

    def in_the_way(self, path: str, parent: str) -> int | None:
        """Return the depth at which something on the disk is in the way of ``path``, or None."""
        known = self._known.get(parent)
        if known is None:
            return None
        if known.blocked is not None:
            return known.blocked + 1
        return 0 if known.folders and os.path.basename(path) in known.folders else None

    def linked(self, path: str, parent: str) -> bool:
        """Whether ``path`` is a symbolic link, or there is one on the way to it from home."""
        known = self._known.get(parent)
        return known is not None and (known.links is None or os.path.basename(path) in known.links)

    def keeps(self, path: str, parent: str) -> bool:
        """Whether an earlier try has left bytes for ``path``, as far as is known."""
        known = self._known.get(parent)
        return known is not None and bool(known.records) and record_name(os.path.basename(path)) in known.records

    def kept(self, path: str) -> None:
        """A try has left bytes for ``path``."""
        known = self._known.get(os.path.dirname(path))
        if known is not None:
            known.records.add(record_name(os.path.basename(path)))

    def written(self, path: str, parent: str) -> None:
        """A file was published: its folders are there now, and it is no folder."""
        known = self._known.get(parent)
        if known is None or _THERE not in known.folders:
            self._made(parent)
        if path in self._surveyed:
            self._known = {one: there for one, there in self._known.items() if not is_below(one, path) and one != path}

    def _made(self, parent: str) -> None:
        if parent in self._known:
            self._known[parent].folders.add(_THERE)
        for folder in (parent, *_folders(parent)):
            above = self._known.get(os.path.dirname(folder))
            if above is not None:
                above.folders.add(os.path.basename(folder))


class FlatPlaces(Places):
    """Which paths are taken in an object store: one beside one of which it is the beginning is in nobody's way."""

    def clash(self, path: str, parent: str) -> int | None:
        """Return 0 if another bundle writes just there, or None."""
        return 0 if path in self._files else None

    def knows(self, parent: str) -> bool:
        """There is nothing to be surveyed."""
        return True

    def in_the_way(self, path: str, parent: str) -> int | None:
        """Nothing ever is."""
        return None

    def kept(self, path: str) -> None:
        """No try leaves bytes."""

    def written(self, path: str, parent: str) -> None:
        """What is there is looked for when somebody wants to know."""


def survey(parents: Mapping[str, str], fold: Callable[[str], str], root: str | None = None) -> dict[str, Survey]:
    """Look at folders, and tidy away what dead processes have left there.  Blocks.

    :param parents: absolute paths as the file system compares them, and as they are spelled.
    :param fold: turns the second into the first.
    :param root: the folder below which no symbolic link is followed (absolute str), or None.
    """
    return {key: _survey(parent, fold, root) for key, parent in parents.items()}


def _survey(parent: str, fold: Callable[[str], str], root: str | None) -> Survey:
    try:
        with Folder.open(parent, root) as folder:
            folders, links, hidden = set(), set(), []
            for entry in folder.entries():
                if entry.is_symlink():
                    links.add(fold(entry.name))
                elif entry.is_dir(follow_symlinks=False):
                    folders.add(fold(entry.name))
                elif entry.name.startswith("."):
                    hidden.append(entry.name)
            sweep(folder, hidden)
            return Survey(None, folders, {fold(name) for name in hidden if name.endswith(RECORD)}, links)
    except NotADirectoryError:
        return Survey(_file_above(parent), set(), set(), set())
    except (OSError, ValueError) as error:
        return Survey(None, set(), set(), None if getattr(error, "errno", None) == errno.ELOOP else set())


class Found(NamedTuple):
    """A file that is there.

    :param path: where.
    :param size: its bytes.
    :param proven: what its bytes are known to come to, without reading them (``"sha256:<hex>"`` ...).
    """

    path: str
    size: int
    proven: tuple[str, ...] = ()


def find(paths: Sequence[str], root: str | None = None) -> list[Found | None]:
    """See which files are there, also under the names that they get when their own is taken.  Blocks.

    :param paths: absolute paths.
    :param root: the folder below which no symbolic link is followed (absolute str), or None.
    """
    return [_find(path, root) for path in paths]


def state_at(path: str, root: str | None = None) -> os.stat_result | None:
    """Look at the regular file ``path``; None if there is none, or only by a symbolic link below ``root``.  Blocks."""
    try:
        with Folder.open(os.path.dirname(path), root) as folder:
            state = folder.state(os.path.basename(path))
    except (OSError, ValueError):
        return None
    return state if stat.S_ISREG(state.st_mode) else None


def published_since(paths: Sequence[str], since: int, root: str | None = None) -> list[os.stat_result | None]:
    """See which files have appeared since then.  Blocks.

    :param paths: absolute paths.
    :param since: nanoseconds since 1970, by the clock of their file system.
    :param root: the folder below which no symbolic link is followed (absolute str), or None.
    """
    return [_published_since(path, since, root) if os.path.lexists(path) else None for path in paths]


def _published_since(path: str, since: int, root: str | None) -> os.stat_result | None:
    state = state_at(path, root)
    return state if state is not None and min(state.st_mtime_ns, state.st_ctime_ns) > since else None


def _find(path: str, root: str | None) -> Found | None:
    if (found := _file_at(path, root)) is not None:
        return found
    for depth, component in enumerate((path, *_folders(path))):
        if os.path.basename(component) and (found := _file_at(sideways(path, depth, 1), root)) is not None:
            return found
    return None


def _file_at(path: str, root: str | None) -> Found | None:
    state = state_at(path, root)
    return None if state is None else Found(path, state.st_size)


def _file_above(path: str) -> int | None:
    """How far above ``path`` (0 is itself) the highest thing stands that is there and no folder."""
    for depth, folder in reversed(list(enumerate((path, *_folders(path))))):
        if not os.path.isdir(folder):
            return depth if os.path.lexists(folder) else None
    return None
