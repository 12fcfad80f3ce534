"""Lease: the folder of an open shard in home, and which process it belongs to.

The folder gets its name, and so the shard its number, by one rename, which fails where another has it.  A file in it is
called after its owner; to take the place of a dead one is to rename that, which of two processes only one can do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re

from ..storage.folder import Folder
from ..storage.owner import TAG, Owner, gone, me, my_tag
from .names import open_name, shard_name

__all__ = ["ROWS", "TABLE", "TAR", "Lease", "sweep"]

TAR, TABLE, ROWS = "tar", "parquet", "rows"
"""What an open shard consists of: the tar, once it is complete its metadata, and the account of both."""

_OWNER = ".owner"
_NOBODY = "nobody" + _OWNER
_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR
_DRAFT = re.compile(rf"\.[0-9]{{5,18}}\.({TAG})-[0-9a-f]{{8}}\.new")


class Lease:
    """The place of one shard until it is published.

    :param home: the open folder for the shards, which stays open.
    :param number: of the shard.
    """

    def __init__(self, home: Folder, number: int) -> None:
        self.home = home
        self.number = number
        self.elsewhere = False  # whether its owner is one of whom nothing can be known from here
        self._folder: Folder | None = None
        self._owner = my_tag() + _OWNER

    @property
    def folder(self) -> Folder:
        """The open folder.

        :raises OSError: if it is not open.
        """
        if self._folder is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._folder

    @property
    def is_mine(self) -> bool:
        """Whether nobody has taken the place of this process: somebody may, who is told that none of us lives."""
        return self._folder is not None and self._folder.has(self._owner)

    def begin(self, durable: bool = False) -> bool:
        """Make the folder, with an empty tar and account; False if the number is taken.

        :param durable: bring all these names to the disk itself (bool).
        :raises OSError: if the disk refuses.
        """
        draft = f".{self.number:05d}.{my_tag()}-{os.urandom(4).hex()}.new"
        self.home.make(draft)
        try:
            with self._inner(draft) as folder:
                for name in (TAR, ROWS, self._owner):
                    os.close(folder.open_file(name, _NEW))
                if durable:
                    folder.sync()
            self.home.rename(draft, open_name(self.number))
        except OSError:
            _empty(self.home, draft)
            if self.home.has(open_name(self.number)):
                return False
            raise
        self._folder = self._inner(open_name(self.number))
        # Whoever publishes a shard gives its number back after that, so here it is seen.
        if any(self.home.has(shard_name(self.number, ending)) for ending in (".tar", ".parquet")):
            self.remove()
            return False
        if durable:
            self.home.sync()
        return True

    def take_over(self, adopt: bool = False) -> bool:
        """Go on in the place of an owner that is dead; False if that is not so.

        :param adopt: also of one of whom nothing can be known from here, such as one on another machine (bool).
        :raises OSError: if the folder is none, or cannot be read.
        """
        folder = self._inner(open_name(self.number))
        try:
            names = [entry.name for entry in folder.entries()]
            owners = [name for name in names if name.endswith(_OWNER)]
            if len(owners) == 1 and self._is_free(owners[0], adopt):
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(owners[0], self._owner)
                    self._folder = folder
        finally:
            if self._folder is None:
                folder.close()
        if not names:  # all of it was published
            with contextlib.suppress(OSError):
                self.home.remove(open_name(self.number))
        if self._folder is not None and ROWS not in names:
            self.remove()
        return self._folder is not None

    def _is_free(self, mark: str, adopt: bool) -> bool:
        if mark == _NOBODY:
            return True
        owner = Owner.from_tag(mark.removesuffix(_OWNER))
        if owner is None or gone(owner):
            return owner is not None
        self.elsewhere = owner[:3] != me()[:3]  # these are where its id means something
        return adopt and self.elsewhere

    def release(self) -> None:
        """Leave it to whoever comes next, this process included."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.rename(self._owner, _NOBODY)
        self.close()

    def remove(self) -> None:
        """Leave nothing of it, and give the number back."""
        self.close()
        _empty(self.home, open_name(self.number))

    def close(self) -> None:
        """Let go of the folder, as it is."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _inner(self, name: str) -> Folder:
        return Folder.open(os.path.join(self.home.path, name), self.home.path)


def sweep(home: Folder, name: str) -> None:
    """Remove ``name`` if it is a folder that a dead process had not yet taken a number with.  Blocks."""
    found = _DRAFT.fullmatch(name)
    owner = Owner.from_tag(found[1]) if found is not None else None
    if owner is not None and gone(owner):
        _empty(home, name)


def _empty(home: Folder, name: str) -> None:
    """Remove the folder of a shard and what an open shard consists of, as far as it is there; the owner's mark last."""
    with contextlib.suppress(OSError):
        with Folder.open(os.path.join(home.path, name), home.path) as folder:
            marks = [entry.name for entry in folder.entries() if entry.name.endswith(_OWNER)]
            for one in (TABLE, TAR, ROWS, *marks):
                with contextlib.suppress(FileNotFoundError):
                    folder.unlink(one)
        home.remove(name)
