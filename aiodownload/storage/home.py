"""Home: the folder for the files, made and proved writable, and what its file system does with names."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Protocol

from ..errors import HomeError
from .folder import Folder

__all__ = ["Home", "Opened"]


class Opened(Protocol):
    """What is known of where files are kept, a folder or a bucket, once it is open."""

    def folded(self, path: str) -> str:
        """``path`` as it is compared there."""


class Home:
    """What is known of the folder once it has been opened.

    :param path: absolute path of the folder (str).
    :param mode: permission bits that a new file gets there, the umask applied (int).
    :param folds_case: whether ``A`` and ``a`` are one file there (bool).
    :param opened_at: when that was, by the clock of its file system (nanoseconds since 1970).
    """

    def __init__(self, path: str, mode: int, folds_case: bool, opened_at: int = 0) -> None:
        self.path = path
        self.mode = mode
        self.folds_case = folds_case
        self.opened_at = opened_at

    @classmethod
    def open(cls, path: str, durable: bool = False) -> Home:
        """Make the folder if it is missing, and try it with a file that is removed again.  Blocks.

        The file also tells the umask: reading the umask itself would mean to change it for every thread.

        :raises HomeError: if no file can be made there.
        """
        trial = os.path.join(path, f".aiodownload-{os.urandom(8).hex()}x")
        try:
            Folder.open(path, make=True, durable=durable).close()
            handle = os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                state = os.fstat(handle)
                folds_case = os.path.exists(os.path.join(path, os.path.basename(trial).upper()))
            finally:
                os.close(handle)
                with contextlib.suppress(OSError):
                    os.unlink(trial)
        except (OSError, ValueError) as error:
            raise HomeError(path, getattr(error, "strerror", None) or str(error)) from error
        return cls(path, stat.S_IMODE(state.st_mode), folds_case, state.st_mtime_ns)

    def folded(self, path: str) -> str:
        """``path`` as the file system compares it."""
        return path.casefold() if self.folds_case else path
