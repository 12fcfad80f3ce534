"""Plan: what a download would do, with sizes, without a file being made or changed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ..api import each
from ..bundle import AioDownloadBundle
from ..download import AioDownload
from ..errors import AioDownloadError
from ..homes import is_store
from ..storage.placement import safe_path
from ..storage.strategy import DownloadStrategy
from ..storage.workspace import workspace_of

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from ..request.strategy import RequestStrategy
    from ..transport import Client

__all__ = ["Planned", "planned"]

DOWNLOAD, REPLACE, CACHED, FAIL = "download", "replace", "cached", "fail"
AT_ONCE = 64  # URLs whose places are looked at together


class Planned(NamedTuple):
    """What would become of one URL.

    :param url: as given.
    :param what: ``"download"``, ``"replace"`` (a file that is there), ``"cached"`` or ``"fail"``.
    :param path: of the file (absolute str), or None if it can have none.
    :param size: bytes of the body as the server tells, or of the file that is there (int), or None.
    :param reason: why it would fail (str), or None.
    """

    url: str
    what: str
    path: str | None
    size: int | None
    reason: str | None


class _Look(DownloadStrategy):
    """Takes from an answer how long its body is, and leaves the body alone."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        length = response.headers.get("Content-Length", "")
        bundle.size = int(length) if length.isascii() and length.isdigit() else None


def planned(
    bundles: Iterable[AioDownloadBundle],
    strategy: DownloadStrategy,
    request: RequestStrategy,
    client: Client | None,
    *,
    ask: bool,
) -> Iterator[Planned]:
    """What a download of ``bundles`` would do, as it is found out.

    :param strategy: where files would go.
    :param request: how to ask.
    :param client: see :class:`AioDownload`.
    :param ask: whether the servers are asked, by HEAD requests.

    A file is found under the path that its URL has by itself; where two URLs want the same one, the later gets another.
    """

    def to_ask() -> Iterator[AioDownloadBundle]:
        for bundle, found in _looked_up(bundles, strategy):
            if found.what in (FAIL, CACHED) or not ask:
                settled.append(found)
                continue
            look = AioDownloadBundle(bundle._parse(), headers=bundle.headers, mirrors=bundle.mirrors)
            look.info, look._only_head = found, True
            yield look

    settled: deque[Planned] = deque()  # filled in the thread that reads
    with tempfile.TemporaryDirectory(prefix="aiodownload-plan-") as nowhere:
        download = AioDownload(client, _Look(home=nowhere), request)
        for bundle in each(to_ask(), download=download):
            while settled:
                yield settled.popleft()
            found = bundle.info
            if bundle.ok:
                yield found._replace(size=bundle.size)
            elif bundle.http_status in (405, 501):  # no HEAD here, which says nothing about a GET
                yield found
            else:
                yield found._replace(what=FAIL, reason=str(bundle.error))
        yield from settled


def _looked_up(
    bundles: Iterable[AioDownloadBundle], strategy: DownloadStrategy
) -> Iterator[tuple[AioDownloadBundle, Planned]]:
    """What can be told without asking the servers."""
    look, at_once = (partial(_objects, strategy), AT_ONCE) if is_store(strategy.home) else (_files, 1)
    bundles = iter(bundles)
    while batch := list(islice(bundles, at_once)):
        places = [_place(bundle, strategy) for bundle in batch]
        sizes = look([place.path for place in places if place.path is not None])
        for bundle, place in zip(batch, places, strict=True):
            size = sizes.get(place.path or "")
            if size is not None:
                there = strategy.skip_cached
                place = place._replace(what=CACHED if there else REPLACE, size=size if there else None)
            yield bundle, place


def _place(bundle: AioDownloadBundle, strategy: DownloadStrategy) -> Planned:
    """Where the file would go."""
    try:
        bundle._parse()
        path = safe_path(bundle.file_path or strategy.get_file_path(bundle), strategy.home)
    except AioDownloadError as error:
        return Planned(bundle.url, FAIL, None, None, str(error))
    return Planned(bundle.url, DOWNLOAD, path, None, None)


def _files(paths: Sequence[str]) -> dict[str, int]:
    """The sizes of those files that are there."""
    sizes = {}
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            sizes[path] = os.stat(path).st_size
    return sizes


def _objects(strategy: DownloadStrategy, paths: Sequence[str]) -> dict[str, int]:
    """The sizes of those objects that are there.

    :raises HomeError: if the store cannot be asked.
    """

    async def look() -> dict[str, int]:
        workspace = workspace_of(strategy)
        try:
            return {found.path: found.size for found in await workspace.find(paths) if found is not None}
        finally:
            await workspace.close()

    return asyncio.run(look())
