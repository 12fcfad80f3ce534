"""Recorder: the journal as a run sees it: written to in groups, off the event loop, and judged against the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

from .bundle import Status, Verified
from .errors import InvalidURLError
from .journal import CACHED, DONE, ENLISTED, FAILED, PUBLISHING, Enlisted, Journal, Known, Outcome
from .redact import redact
from .storage.disk import Disk
from .storage.placement import other_places, state_at

if TYPE_CHECKING:
    from .bundle import AioDownloadBundle
    from .journal import Publication

__all__ = ["Decision", "Recorder", "Registered"]

_STATES = {
    Status.DONE: DONE,
    Status.CACHED: CACHED,
    Status.FAILED: FAILED,
    Status.CANCELLED: "cancelled",
}
# They say who asks, not what for: with a new token the files of yesterday are still there.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})


@dataclass(frozen=True, slots=True)
class Registered:
    """A bundle that has its row.

    :param key: 16 bytes that stand for the request.
    :param known: what the journal had of it from before, or None.
    """

    key: bytes
    known: Known | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the journal says is to be done with a bundle.

    :param registered: its row.
    :param settled: whether there is nothing to do.
    :param file: the file that is there and is as it was published, or None.
    """

    registered: Registered
    settled: bool
    file: Publication | None


class Recorder:
    """Keeps the journal of all runs on one entered AioDownload.

    :param journal: a :class:`Journal`, or an object with its methods.
    :param home: the folder for the files (absolute str).
    :param durable: whether an outcome outlives a power loss.
    :param refresh: whether files that are as they were published are asked for again, with a condition.
    """

    def __init__(self, journal: Journal, home: str, *, durable: bool, refresh: bool) -> None:
        self._journal = journal
        self._home = home
        self._durable = durable
        self._refresh = refresh
        self._thread = Disk()
        self._opened = False
        self._waiting: list[Outcome] = []
        self._written: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """:raises JournalError: if the journal cannot be used."""
        await self._thread.run(partial(self._journal.open, self._home, durable=self._durable))
        self._opened = True

    async def close(self) -> None:
        """Write what is left and close the journal."""
        try:
            while self._writer is not None and not self._writer.done():
                await asyncio.wait([self._writer])
            if self._opened:
                await self._thread.run(self._journal.close)
        finally:
            await self._thread.close()

    async def enlist(self, bundles: Sequence[tuple[AioDownloadBundle, str]]) -> list[Decision]:
        """Give each bundle its row.

        :param bundles: with the path that each asks for, empty if it has none.
        :raises JournalError: if the journal cannot be written.
        """
        urls = [_enlisted(bundle, path or None) for bundle, path in bundles]
        return await self._thread.run(self._decide, urls)

    def announce(self, bundle: AioDownloadBundle, registered: Registered) -> None:
        """Let the bundle's file be noted just before it appears under its final name."""
        bundle._publishing = partial(self._journal.publishing, registered.key)

    async def settle(self, bundle: AioDownloadBundle, registered: Registered) -> None:
        """Write the outcome of ``bundle``, together with all others that wait for the same.

        :raises JournalError: if the journal cannot be written.
        """
        await asyncio.shield(self._put(bundle, registered))

    def forget(self, bundle: AioDownloadBundle, registered: Registered) -> None:
        """The bundle gets no outcome; nobody waits for the note of that."""
        if not self._opened:
            return
        self._put(bundle, registered).add_done_callback(_look_at)

    def _put(self, bundle: AioDownloadBundle, registered: Registered) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        bundle._publishing = None
        self._waiting.append(_outcome(bundle, registered.key))
        if self._written is None:
            self._written = loop.create_future()
        written = self._written
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write(), name="aiodownload-recorder")
        return written

    async def _write(self) -> None:
        while self._waiting:
            outcomes, self._waiting = self._waiting, []
            written, self._written = self._written, None
            error: Exception | None = None
            try:
                await self._thread.run(self._journal.settle, outcomes)
            except Exception as raised:
                error = raised
            if written is not None and not written.done():
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)
                    written.exception()  # whoever waits for it raises it; perhaps nobody does

    # In the thread.

    def _decide(self, urls: Sequence[Enlisted]) -> list[Decision]:
        decisions: list[Decision] = []

        def judge(one: Enlisted, known: Known | None) -> str:
            file = _file_of(one, known, self._home)
            settled = not self._refresh and known is not None and _is_settled(known, file)
            decisions.append(Decision(Registered(one.key, known), settled, file))
            if settled and known is not None:
                return DONE if known.state == PUBLISHING else known.state
            return ENLISTED

        self._journal.enlist(urls, judge)
        return decisions


def _file_of(one: Enlisted, known: Known | None, home: str) -> Publication | None:
    """The file that the journal tells of, if it is there, unchanged, and in a place that is this URL's."""
    if known is None or known.publication is None or one.path is None:
        return None
    told = known.publication
    # A journal may come from anywhere: it does not say where a file is, only which of the URL's places it is in.
    if told.path != one.path and told.path not in other_places(one.path):
        return None
    state = state_at(told.path, home)
    if state is None or not told.file.is_of(state):
        return None
    # Killed while it was being published: only the very file that was about to be is the whole one.
    return None if known.state == PUBLISHING and (state.st_ino - told.file.inode) % 2**64 else told


def _is_settled(known: Known, file: Publication | None) -> bool:
    if file is not None:
        return known.state in (DONE, CACHED, PUBLISHING)
    return known.state == DONE and known.publication is None  # its on_success has kept something else than a file


def _enlisted(bundle: AioDownloadBundle, path: str | None) -> Enlisted:
    try:
        url = bundle._parse()
    except InvalidURLError:
        key = blake2b(b"\0" + bundle.url.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return Enlisted(key, redact(bundle.url), "@" not in bundle.url, path, bundle.digest)
    secret = url.raw_user is not None or url.raw_password is not None or any("@" in one for one in bundle.mirrors)
    plain = not bundle.headers and not bundle.params and not secret
    text = str(url if plain else url.with_user(None))
    headers = sorted(f"{name.lower()}:{value}" for name, value in bundle.headers.items())
    asked = "\n".join((text, *(line for line in headers if line.partition(":")[0] not in _CREDENTIALS), ""))
    key = blake2b(asked.encode("utf-8", "surrogatepass") + (bundle._form() or b""), digest_size=16).digest()
    mirrors = tuple(one.replace(" ", "%20") for one in bundle.mirrors) if plain else ()
    return Enlisted(key, text, plain, path, bundle.digest, mirrors)


def _outcome(bundle: AioDownloadBundle, key: bytes) -> Outcome:
    return Outcome(
        key,
        _STATES.get(bundle.status, FAILED),
        bundle.attempts,
        bundle.http_status,
        bundle.final_url,
        None if bundle.error is None else f"{type(bundle.error).__name__}: {bundle.error}",
        bundle.elapsed,
        bundle.file_path,
    )


def confirm(bundle: AioDownloadBundle, file: Publication) -> None:
    """The file that is there is what the bundle is to have."""
    bundle._file_path, bundle.size, bundle.status = file.path, file.file.size, Status.CACHED
    bundle.verified, bundle.error = Verified[file.verified], None


def _look_at(written: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        written.exception()
