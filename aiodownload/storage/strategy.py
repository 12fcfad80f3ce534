"""DownloadStrategy: where a file goes, how its body is read, and what happens when it fails."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import checks
from ..errors import ConfigurationError
from ..homes import StoreOptions, checked_home, checked_options, is_store
from .delivery import Delivery
from .paths import url_to_path
from .placement import safe_path
from .workspace import Workspace, workspace_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import ClientResponse

    from ..bundle import AioDownloadBundle

__all__ = ["DownloadStrategy"]


class DownloadStrategy:
    """What to keep.  Subclass it and override the hooks to keep something else.

    A strategy is settings plus questions: it holds no state of a run, and pickles.

    :param chunk_size: most bytes of a body that are read at a time (int >= 1).  A large body is taken just as it
        arrives, which may be more at once, unless this is less than 64 KiB.
    :param home: the folder for the files (str or path-like); the current directory if None.  Made if missing.  Or a
        place in an object store (str, extra ``objects``): ``s3://bucket/prefix``, ``gs://bucket/prefix``,
        ``az://container/prefix``, or ``memory://``, which ends with the process; ``file:///folder`` is that folder.
    :param skip_cached: take a file that is there already as it is, without a request (bool).
    :param max_bytes: most bytes of one file, None for any number.  A larger body fails its bundle.
    :param max_ratio: how many times a body that comes encoded may expand, counted after 32 MiB of output; None for any.
    :param durable: bring each file to the disk itself before its bundle is done (bool): its bytes, then its name, then
        the folder.  It then outlives a power cut; without, it outlives everything but that.  Slow.
    :param strict: fail a body whose wholeness nothing proves (bool): no length, no chunks, no digest, only the closing
        of the connection (RFC 9112 section 8).  Without, it is kept, and ``verified`` is ``NONE``.
    :param refresh: ask again for files that the journal knows, and take only what has changed (bool): If-None-Match and
        If-Modified-Since go along, and a 304 confirms the file (RFC 9110 section 13.1).  Needs a journal.
    :param remote_time: let files have the time of their Last-Modified as their own (bool).
    :param content_disposition: let files have the names that their servers suggest in Content-Disposition (bool; RFC
        6266): the last component only, made safe, with a mark that says which URL it is of.  Not for bundles that
        come with a ``file_path``.  To find such files again, ``skip_cached`` needs a journal.
    :param segments: most requests at once for one large file (int from 1 to 64).  More than one is worth while where a
        server gives each connection only so much; some ban whoever does it.  Only files of 8 MiB and more are divided,
        and only where the first answer has shown that its server has a strong ETag and sends ranges.  Each request
        counts in ``concurrent`` and ``per_host``.  Not for an object store, to which a file goes from its beginning to
        its end.
    :param store_options: settings and credentials of the object store (dict of str to str), beside those that it takes
        from the environment; their values are never shown.
    :raises ConfigurationError: for a value that cannot work.

    ``resumable`` is for classes that override :meth:`on_success`: whether it gets responses that are only the rest of
    a file (206), of which an earlier try has left the beginning (bool).  It must then let ``super().on_success()``
    read them.

    Identity encoding is asked for.  A body that comes encoded all the same is kept as sent if its name or
    Content-Type says that it is a compressed file, and decoded otherwise.
    """

    chunk_size: int = 65536
    skip_cached: bool = False
    max_bytes: int | None = None
    max_ratio: float | None = 200
    refresh: bool = False
    durable: bool = False
    strict: bool = False
    remote_time: bool = False
    content_disposition: bool = False
    segments: int = 1
    resumable: bool = False
    _store_options = StoreOptions({})

    def __init__(
        self,
        chunk_size: int = 65536,
        home: str | os.PathLike[str] | None = None,
        skip_cached: bool = False,
        *,
        max_bytes: int | None = None,
        max_ratio: float | None = 200,
        durable: bool = False,
        strict: bool = False,
        refresh: bool = False,
        remote_time: bool = False,
        content_disposition: bool = False,
        segments: int = 1,
        store_options: Mapping[str, str] | None = None,
    ) -> None:
        self.chunk_size = chunk_size
        self.home = home
        self.skip_cached = skip_cached
        self.max_bytes = max_bytes
        self.max_ratio = max_ratio
        self.durable = durable
        self.strict = strict
        self.refresh = refresh
        self.remote_time = remote_time
        self.content_disposition = content_disposition
        self.segments = segments
        self.store_options = store_options
        if self.store_options and not is_store(self.home):
            raise ConfigurationError("store_options are for a home in an object store, such as home='s3://bucket'")
        check_download_settings(self)

    @property
    def home(self) -> str:
        """The folder for the files (absolute str), or the URL of a place in an object store."""
        if not hasattr(self, "_home"):
            self._home = os.getcwd()
        return self._home

    @home.setter
    def home(self, value: str | os.PathLike[str] | None) -> None:
        self._home = checked_home(value)

    @property
    def store_options(self) -> Mapping[str, str]:
        """Settings and credentials of the object store; as text, only their names."""
        return self._store_options

    @store_options.setter
    def store_options(self, value: Mapping[str, str] | None) -> None:
        self._store_options = checked_options(value)

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        """Return where the file of ``bundle`` goes: absolute, or relative to ``home``.

        Called once per bundle, before its first request.  Here: home/host/path…, the last segment of the URL's path
        being the file name; the same URL and params always give the same path, different ones different paths.
        """
        home, parts = self.home, url_to_path(bundle._parse(), bundle._form())
        return "/".join((home, *parts)) if is_store(home) else os.sep.join((home.rstrip(os.sep), *parts))

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        """Read the body in chunks, store it, prove it whole; when this returns, the file is there.

        An override may do what it likes with the response and write nothing, or call this for the file.

        :param response: a whole, plain 200.
        :raises DownloadError: if the file could not be had; the final path is then as it was.
        """
        delivery = bundle._delivery
        if delivery is not None:
            await delivery.receive()
            return
        # Called by hand, outside of a run.
        workspace = self._workspace()
        try:
            bundle._file_path = safe_path(bundle.file_path or self.get_file_path(bundle), self.home)
            await Delivery(workspace, bundle, response).receive()
        finally:
            await workspace.close()

    async def on_fail(self, bundle: AioDownloadBundle) -> None:
        """Called once when ``bundle`` has finally failed; ``bundle.error`` says why.

        Here: nothing.  An old whole file stays as it was.
        """

    def _workspace(self) -> Workspace:
        """Return what works with home while an AioDownload is entered.

        :raises MissingExtraError: if a package for it is missing.
        """
        return workspace_of(self)


MOST_SEGMENTS = 64  # more would be an attack on most servers, and a record names them all
_FLAGS = ("skip_cached", "durable", "strict", "refresh", "remote_time", "content_disposition", "resumable")


def check_download_settings(strategy: DownloadStrategy) -> None:
    """Check the settings as they are now, also those that a subclass set after ``super().__init__``.

    :raises ConfigurationError: naming the setting.
    """
    if isinstance(strategy.chunk_size, (str, os.PathLike)):
        raise ConfigurationError(f"chunk_size must be a whole number; a folder is home={strategy.chunk_size!r}")
    checks.whole("chunk_size", strategy.chunk_size, 1)
    checks.whole("segments", strategy.segments, 1, MOST_SEGMENTS)
    if strategy.segments > 1 and is_store(strategy.home):
        raise ConfigurationError(
            "segments must be 1 with a home in an object store, where a file goes from its start on"
        )
    if strategy.max_bytes is not None:
        checks.whole("max_bytes", strategy.max_bytes, 0)
    if strategy.max_ratio is not None:
        checks.number("max_ratio", strategy.max_ratio, least=1)
    for name in _FLAGS:
        checks.flag(name, getattr(strategy, name))


def reads_by_itself(strategy: DownloadStrategy) -> bool:
    """Whether ``strategy`` has an ``on_success`` of its own."""
    return type(strategy).on_success is not DownloadStrategy.on_success


def goes_on(strategy: DownloadStrategy) -> bool:
    """Whether ``strategy`` takes the rest of a file whose beginning is there."""
    return strategy.resumable or not reads_by_itself(strategy)
