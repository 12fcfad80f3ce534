"""Recorder: the journal as a run sees it: written to in groups, off the event loop, and judged against the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from .bundle import Status, Verified
from .entries import CACHED, CANCELLED, DONE, ENLISTED, FAILED, PUBLISHING, Enlisted, FileState, Known, Outcome, Row
from .errors import InvalidURLError
from .homes import root
from .redact import redact
from .storage.disk import Disk
from .storage.kept import tidy
from .storage.placement import is_place_of, state_at
from .storage.strategy import DownloadStrategy, reads_by_itself

if TYPE_CHECKING:
    from .bundle import AioDownloadBundle
    from .entries import Publication
    from .journal import Journal
    from .storage.archive import Archive
    from .storage.workspace import Workspace

__all__ = ["Decision", "Recorder", "Registered"]

_STATES = {
    Status.DONE: DONE,
    Status.CACHED: CACHED,
    Status.FAILED: FAILED,
    Status.CANCELLED: CANCELLED,
}
_RUN = 8  # bytes of an asker's mark that stand for the run
# They say who asks, not what for: with a new token the files of yesterday are still there.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})


class Registered(NamedTuple):
    """A bundle that has its row.

    :param key: 16 bytes that stand for the request.
    :param known: what the journal had of it from before, or None.
    """

    key: bytes
    known: Known | None


class Decision(NamedTuple):
    """What the journal says is to be done with a bundle.

    :param registered: its row.
    :param settled: whether there is nothing to do.
    :param file: the file that is there and is as it was published, or None.
    :param contested: whether its row is that of another bundle of this run, which asks with other credentials; there is
        none for this one then.
    """

    registered: Registered
    settled: bool
    file: Publication | None
    contested: bool = False


class Recorder:
    """Keeps the journal of all runs on one entered AioDownload.

    :param journal: a :class:`Journal`, or an object with its methods.
    :param strategy: what is kept, and whether it is asked for again.
    :param workspace: where it is kept.
    """

    def __init__(self, journal: Journal, strategy: DownloadStrategy, workspace: Workspace) -> None:
        self._journal = journal
        self._home = strategy.home
        self._strategy = strategy
        self._workspace = workspace
        self._secret = os.urandom(16)  # of these runs: keeps marks of credentials from telling anything
        self._thread = Disk()
        self._opened = False
        self._waiting: list[Outcome] = []
        self._published: list[tuple[bytes, Publication]] = []
        self._held: list[tuple[bytes, Publication]] = []  # what is to get its name once it is noted
        self._told: list[Callable[[Exception | None], object]] = []  # who waits for any of it
        self._noted: dict[bytes, Publication] = {}  # what has no outcome yet
        self._fails = False  # whether the last that was written could not be
        self._written: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """:raises JournalError: if the journal cannot be used."""
        await self._thread.run(partial(self._journal.open, self._home, durable=self._strategy.durable))
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
        :raises HomeError: if the object store cannot be asked.
        """
        urls = [_enlisted(bundle, path or None, self._home, self._secret) for bundle, path in bundles]
        states: Mapping[str, FileState] | None = None
        if self._workspace.remote:  # not within a transaction, which keeps others waiting
            states = await self._workspace.states(await self._thread.run(self._paths_of, urls))
        return await self._thread.run(self._decide, urls, states)

    def announce(self, bundle: AioDownloadBundle, registered: Registered) -> None:
        """Let the bundle's file be noted just before it appears under its final name."""
        bundle._publishing = Row(partial(self._note_now, registered.key), partial(self._note_soon, registered.key))

    def _note_soon(self, key: bytes, publication: Publication, then: Callable[[Exception | None], object]) -> None:
        self._noted[key] = publication
        self._held.append((key, publication))
        self._told.append(then)
        self._go_on()

    def published(self, registered: Registered, publication: Publication) -> None:
        """Note, before the next outcome, a file that another process has published."""
        self._noted[registered.key] = publication
        self._published.append((registered.key, publication))

    async def settle(self, bundle: AioDownloadBundle, registered: Registered) -> None:
        """Write the outcome of ``bundle``, together with all others that wait for the same.

        :raises JournalError: if the journal cannot be written.
        """
        await asyncio.shield(self._put(bundle, registered))

    def settle_soon(
        self, bundle: AioDownloadBundle, registered: Registered, then: Callable[[Exception | None], object]
    ) -> None:
        """The same without a task that waits for it: calls back when it is written, or with what prevents that."""
        self._note_outcome(bundle, registered)
        self._told.append(then)

    def forget(self, bundle: AioDownloadBundle, registered: Registered) -> None:
        """The bundle gets no outcome; nobody waits for the note of that, least of all for another program's lock."""
        if not self._opened or self._fails:
            self._noted.pop(registered.key, None)
            return
        self._put(bundle, registered).add_done_callback(_look_at)

    def _put(self, bundle: AioDownloadBundle, registered: Registered) -> asyncio.Future[None]:
        self._note_outcome(bundle, registered)
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        return self._written

    def _note_outcome(self, bundle: AioDownloadBundle, registered: Registered) -> None:
        bundle._publishing = None
        self._waiting.append(_outcome(bundle, registered.key, self._noted.pop(registered.key, None)))
        self._go_on()

    def _go_on(self) -> None:
        """There is something to write."""
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write(), name="aiodownload-recorder")

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or self._held:
            held, outcomes, told = self._held, self._waiting, self._told
            self._held, self._waiting, self._told = [], [], []
            published, self._published = self._published, []
            written, self._written = self._written, None
            error: Exception | None = None
            try:
                await self._thread.run(self._note, held, published, outcomes)
            except asyncio.CancelledError:  # every task is: who waits for a word is to hear that all the same
                error = asyncio.InvalidStateError("the event loop is being taken down")
            except Exception as raised:
                error = raised
            self._fails = error is not None
            for then in told:
                loop.call_soon(then, error)
            if written is not None and not written.done():
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)
                    written.exception()  # whoever waits for it raises it; perhaps nobody does

    # In a thread.

    def _note_now(self, key: bytes, publication: Publication) -> None:
        self._noted[key] = publication
        self._journal.publishing(key, publication)

    def _note(
        self,
        held: Sequence[tuple[bytes, Publication]],
        published: Sequence[tuple[bytes, Publication]],
        outcomes: Sequence[Outcome],
    ) -> None:
        self._note_all((*held, *published))
        if outcomes:
            self._journal.settle([self._corrected(one) for one in outcomes])

    def _corrected(self, outcome: Outcome) -> Outcome:
        """One that was cancelled while its file got the name has it."""
        noted = outcome.publication
        if outcome.state != CANCELLED or noted is None or self._workspace.remote or self._workspace.archive is not None:
            return outcome
        there = state_at(noted.path, self._home)
        is_there = there is not None and noted.file.is_of(FileState.of(there), copy=False)
        return outcome._replace(state=DONE) if is_there else outcome

    def _note_all(self, publications: Sequence[tuple[bytes, Publication]]) -> None:
        if hasattr(type(self._journal), "publishing_all"):  # and not one that it passes on to another journal
            self._journal.publishing_all(publications)
        else:
            for key, publication in publications:
                self._journal.publishing(key, publication)

    def _paths_of(self, urls: Sequence[Enlisted]) -> list[str]:
        """The paths of the files that the journal tells of."""
        paths: list[str] = []

        def note(one: Enlisted, known: Known | None) -> None:
            if (told := _told_of(one, known)) is not None:
                paths.append(told.path)

        self._journal.enlist(urls, note)
        return paths

    def _decide(self, urls: Sequence[Enlisted], states: Mapping[str, FileState] | None) -> list[Decision]:
        decisions: list[Decision] = []

        def judge(one: Enlisted, known: Known | None) -> str | None:
            if known is not None and _contested(one.asker, known.asker):
                decisions.append(Decision(Registered(one.key, None), False, None, contested=True))
                return None
            if self._workspace.archive is not None and known is not None:
                return self._archived(one, known, self._workspace.archive, decisions)
            file = self._file_of(one, known, states)
            settled = not self._strategy.refresh and known is not None and _is_settled(known, file, self._strategy)
            decisions.append(Decision(Registered(one.key, known), settled, file))
            if settled and known is not None:
                if known.state == PUBLISHING and file is not None:  # killed between the rename and the end
                    if states is None:
                        tidy(file.path, self._home)
                    return DONE
                return known.state
            return ENLISTED

        self._journal.enlist(urls, judge)
        return decisions

    def _archived(self, one: Enlisted, known: Known, archive: Archive, decisions: list[Decision]) -> str:
        """Judge by what the archive holds: that is certain, however the run has ended that brought it there."""
        told = known.publication
        held = told is not None and archive.holds(told) and _proven(told, self._strategy)
        fileless = told is None and _is_settled(known, None, self._strategy)
        decisions.append(Decision(Registered(one.key, known), held or fileless, told if held else None))
        return DONE if held or fileless else ENLISTED

    def _file_of(
        self, one: Enlisted, known: Known | None, states: Mapping[str, FileState] | None
    ) -> Publication | None:
        """The file that the journal tells of, if it is there, unchanged, and in a place that is this URL's.

        :param states: what was seen of those that are in an object store; None: the disk is to be looked at.
        """
        told = _told_of(one, known)
        if told is None or known is None:
            return None
        if states is not None:
            state = states.get(told.path)
        else:
            there = state_at(told.path, self._home)
            state = None if there is None else FileState.of(there)
        # Unless it was settled, it may never have got its name: only the very file that was about to is the one then.
        return told if state is not None and told.is_of(state, copy=known.state in (DONE, CACHED)) else None


def _told_of(one: Enlisted, known: Known | None) -> Publication | None:
    """What the journal tells of a file, if it is in a place that is this URL's."""
    if known is None or known.publication is None or one.path is None:
        return None
    # A journal may come from anywhere: it does not say where a file is, only which of the URL's places it is in.
    return known.publication if is_place_of(known.publication.path, one.path) else None


def _is_settled(known: Known, file: Publication | None, strategy: DownloadStrategy) -> bool:
    if file is not None:
        return _proven(file, strategy) and known.state in (DONE, CACHED, PUBLISHING)
    # Its on_success has kept something else than a file.
    return known.state == DONE and known.fileless and reads_by_itself(strategy)


def _proven(file: Publication, strategy: DownloadStrategy) -> bool:
    return not strategy.strict or file.verified != Verified.NONE.name


def _contested(asker: bytes | None, known: bytes | None) -> bool:
    """Whether two bundles of one run share a row, but are not the same request."""
    return asker is not None and known is not None and asker != known and asker[:_RUN] == known[:_RUN]


def _enlisted(bundle: AioDownloadBundle, path: str | None, home: str, secret: bytes) -> Enlisted:
    try:
        url = bundle._parse()
    except InvalidURLError:
        key = _hash("\0" + bundle.url, b"")
        return Enlisted(key, redact(bundle.url), "@" not in bundle.url, path, bundle.digest)
    hidden = url.raw_user is not None or url.raw_password is not None or any("@" in one for one in bundle.mirrors)
    plain = not bundle.headers and not bundle.params and not hidden
    text = str(url if plain else url.with_user(None))
    headers = sorted(f"{name.lower()}:{value}" for name, value in bundle.headers.items())
    credentials = [line for line in headers if line.partition(":")[0] in _CREDENTIALS]
    asked = [text, *(line for line in headers if line not in credentials)]
    if url.raw_user is not None:
        asked.append(f"user {url.raw_user}")
    if bundle._given_path is not None and path is not None:  # one URL may be kept in several places
        asked.append(f"path {path.removeprefix(root(home))}")
    form = bundle._form() or b""
    key = bundle._row or _hash("\n".join((*asked, "")), form)
    asker: bytes | None = None
    if credentials or url.raw_password is not None:
        mark = _hash("\n".join((str(url), *headers)), form, secret)
        asker = _hash("", b"", secret)[:_RUN] + mark
    mirrors = tuple(one.replace(" ", "%20") for one in bundle.mirrors) if plain else ()
    return Enlisted(key, text, plain, path, bundle.digest, mirrors, asker)


def _hash(text: str, form: bytes, secret: bytes = b"") -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass") + form, digest_size=16, key=secret).digest()


def _outcome(bundle: AioDownloadBundle, key: bytes, noted: Publication | None) -> Outcome:
    return Outcome(
        key,
        _STATES.get(bundle.status, FAILED),
        bundle.attempts,
        bundle.http_status,
        bundle.final_url,
        None if bundle.error is None else f"{type(bundle.error).__name__}: {bundle.error}",
        bundle.elapsed,
        bundle.file_path,
        noted,
    )


def confirm(bundle: AioDownloadBundle, file: Publication) -> None:
    """The file that is there is what the bundle is to have."""
    bundle._file_path, bundle.size, bundle.status = file.path, file.file.size, Status.CACHED
    bundle.verified, bundle.error = Verified[file.verified], None


def _look_at(written: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        written.exception()
