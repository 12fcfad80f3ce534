"""TarShards: the strategy whose files are members of tar shards."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from .. import checks
from ..errors import ConfigurationError
from ..storage.archive import ArchiveWorkspace
from ..storage.strategy import DownloadStrategy
from .names import name_of
from .table import need_pyarrow

if TYPE_CHECKING:
    from ..bundle import AioDownloadBundle
    from ..storage.workspace import Workspace

__all__ = ["TarShards"]

_KEYS = ("number", "hash")
_MOST = 10_000_000  # members of a shard; more would be in nobody's memory when its metadata is written


class TarShards(DownloadStrategy):
    """Keeps bodies as members of tar files, in the way of WebDataset, with Parquet beside each (extra ``dataset``).

    ``home`` then has ``00000.tar`` and ``00000.parquet``, ``00001.tar`` and so on, and nothing else that is not hidden.

    :param home: the folder for the shards; see :class:`DownloadStrategy`, also for all settings that are not named
        here.
    :param shard_size: members of a shard (int >= 1).  The last one of a run has what is left.
    :param max_shard_bytes: bytes of a tar above which no further member is added, None for any number; a member that
        alone is larger has a shard of its own.
    :param keys: how samples are called: ``"number"``, by shard and place in it, nine digits; or ``"hash"``, 32 hex
        digits of the URL and form, the same in every run.
    :param remote_time: let members have the time of their Last-Modified (bool); without, they have none, and the same
        bodies in the same order give the same bytes.
    :param adopt: go on with open shards of processes that were on another machine or in another container, of which
        nothing can be known from here (bool).  Only if none of them lives.
    :raises ConfigurationError: for a value that cannot work.
    :raises MissingExtraError: without pyarrow.

    A body becomes a member only when it is proven whole, as with files; its bundle is settled then.  Its ``file_path``
    is ``home/00000.tar/000000012.jpg``: the path of the shard, and the name in it.  Before that, and for a failed one,
    it is a name below ``home`` that only tells requests apart, and so is a ``file_path`` of one's own.

    A shard is published, under its final name and with its metadata, when it is full or the :class:`AioDownload` is
    left.  Until then it is in a hidden folder in ``home``, and if the process is killed, the next run goes on with it.
    """

    __module__ = "aiodownload"  # where everybody finds it

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        shard_size: int = 10_000,
        max_shard_bytes: int | None = None,
        keys: str = "number",
        adopt: bool = False,
        chunk_size: int = 65536,
        skip_cached: bool = False,
        max_bytes: int | None = None,
        max_ratio: float | None = 200,
        durable: bool = False,
        strict: bool = False,
        remote_time: bool = False,
    ) -> None:
        need_pyarrow("TarShards")
        if isinstance(home, int):
            raise ConfigurationError(f"home must be a folder, not {home!r}; members of a shard are shard_size={home!r}")
        super().__init__(
            chunk_size,
            home,
            skip_cached,
            max_bytes=max_bytes,
            max_ratio=max_ratio,
            durable=durable,
            strict=strict,
            remote_time=remote_time,
        )
        self.shard_size = shard_size
        self.max_shard_bytes = max_shard_bytes
        self.keys = keys
        self.adopt = adopt
        self._check()

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        """Return what tells ``bundle`` from all other requests, as a path in ``home``; no file is made there.

        The same URL and params always give the same path, different ones different paths.
        """
        return os.path.join(self.home, name_of(bundle._parse(), bundle._form()))

    def _workspace(self) -> Workspace:
        from .shards import Shards

        self._check()
        return ArchiveWorkspace(self, partial(Shards, self))

    def _check(self) -> None:
        """Check the settings as they are now."""
        checks.whole("shard_size", self.shard_size, 1, _MOST)
        if self.max_shard_bytes is not None:
            checks.whole("max_shard_bytes", self.max_shard_bytes, 1)
        if self.keys not in _KEYS:
            raise ConfigurationError(f"keys must be 'number' or 'hash', not {self.keys!r}")
        checks.flag("adopt", self.adopt)
        for name, why in _NOT_HERE.items():
            if getattr(self, name) != getattr(DownloadStrategy, name):
                raise ConfigurationError(f"{name} does not go with TarShards: {why}; leave it out")


_NOT_HERE = {
    "refresh": "what is in a shard is not taken out again",
    "content_disposition": "samples are called after their keys",
    "segments": "a body arrives in one piece",
}
