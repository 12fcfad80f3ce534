"""Admission: every bundle gets a path before it moves a byte, and none is fetched that need not be."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol, TypeAlias

from .bundle import AioDownloadBundle, Status, Verified
from .errors import DownloadError, PathError
from .exchange import bug
from .recorder import Recorder, Registered, confirm
from .seen import Record, Seen, SpillError
from .storage.placement import TURNS, safe_path, sideways
from .storage.strategy import DownloadStrategy, reads_by_itself
from .storage.workspace import Workspace

__all__ = ["Admission", "Candidate", "Placing", "chosen_path"]

_log = logging.getLogger("aiodownload")

_TAKEN = "another URL of this run is written there, a folder has that name, or a file stands where a folder should be"
_LINKED = "a symbolic link stands there or on the way there, and none is followed below home; remove it"
_CONTESTED = (
    "another bundle of this run asks for the same URL with other credentials, which a journal does not hold: "
    "give each of them a file_path of its own"
)
TRUSTED = 1024  # characters; a longer path is looked at again


class Candidate:
    """A bundle on its way in.

    :param bundle: the bundle.

    ``verdict`` is what is to be done with it, once :meth:`Admission.place` has returned: ``FETCH``, ``FOLLOW``
    (``leader`` is fetching the same), or ``SETTLED`` (the bundle has its outcome).
    """

    FETCH = "fetch"
    FOLLOW = "follow"
    SETTLED = "settled"

    __slots__ = (
        "asked",
        "bundle",
        "identity",
        "key",
        "leader",
        "parent",
        "path",
        "registered",
        "repeat",
        "turn",
        "verdict",
        "wanted",
    )

    def __init__(self, bundle: AioDownloadBundle) -> None:
        self.bundle = bundle
        self.identity = b""
        self.path = ""
        self.key = ""
        self.asked = ""
        self.parent = ""
        self.wanted = ""
        self.turn = 0
        self.repeat = False  # whether its outcome is that of an earlier bundle of the run
        self.verdict = ""
        self.leader: Candidate | None = None
        self.registered: Registered | None = None  # while its row in the journal waits for its outcome

    @property
    def detour(self) -> str:
        """What stands for its request where the path that it asked for was taken: no path holds a NUL."""
        return f"{self.asked}\0{self.identity.hex()}"


_Recalled: TypeAlias = "dict[str, Record | None]"


class Placing(Protocol):
    """Who says what is to be done with each bundle, and where its file goes."""

    async def place(self, candidates: Sequence[Candidate]) -> None:
        """Give every candidate its verdict."""

    def settled(self, candidate: Candidate) -> None:
        """The bundle has its outcome, or gets none."""

    def overflows(self) -> bool:
        """Whether memory is full, and :meth:`spill` must follow."""

    async def spill(self) -> None:
        """Make room in memory."""

    def close(self) -> None:
        """Forget everything."""


class Admission:
    """Finds a place for each bundle of one run, and the bundles that were there before.

    :param workspace: threads, home, and the paths in use.
    :param recorder: the journal, or None.
    """

    def __init__(self, workspace: Workspace, recorder: Recorder | None = None) -> None:
        self._workspace = workspace
        self._recorder = recorder
        self._strategy: DownloadStrategy = workspace.strategy
        self._fold: Callable[[str], str] = str  # until home is known: as spelled
        self._seen = Seen()
        self._flying: dict[str, Candidate] = {}
        self._objects: dict[int, Candidate] = {}
        self._detours = False

    async def place(self, candidates: Sequence[Candidate]) -> None:
        """Give every candidate its verdict, in the order of the input.

        :raises StrategyError: for a bug in ``get_file_path``.
        :raises HomeError: if the folder for the files cannot be used.
        :raises JournalError: if the journal cannot be written.
        """
        if not reads_by_itself(self._strategy) or self._workspace.archive is not None:
            self._fold = (await self._workspace.home()).folded
        waiting = [candidate for candidate in candidates if self._prepare(candidate)]
        if self._recorder is not None:
            recalled = await self._recall(waiting)
            waiting = [candidate for candidate in waiting if self._same_before(candidate, recalled) is not False]
            await self._enlist([one for one in candidates if one.leader is None and not one.bundle.ok], self._recorder)
            waiting = [candidate for candidate in waiting if not candidate.verdict]
        while waiting:
            await self._survey(waiting)
            recalled = await self._recall(waiting)
            # One that steps aside to where nobody has looked waits for the next round.
            waiting = [candidate for candidate in waiting if self._meet(candidate, recalled)]
        if self._strategy.skip_cached:
            fetched = [candidate for candidate in candidates if candidate.verdict == Candidate.FETCH]
            # What is to be refreshed is asked for, though it is there.
            await self._find([candidate for candidate in fetched if candidate.bundle._condition is None])

    def settled(self, candidate: Candidate) -> None:
        """The bundle has its outcome: others may have its path, and later ones of the same URL its results."""
        if candidate.verdict == Candidate.FETCH:
            self._leave(candidate)
            if candidate.bundle.status is Status.DONE and candidate.bundle.size is not None:
                self._workspace.places.written(candidate.key, candidate.parent)
            if candidate.bundle.status is not Status.CANCELLED:
                self._remember(candidate)
        if self._objects.get(id(candidate.bundle)) is candidate:
            del self._objects[id(candidate.bundle)]
        candidate.bundle._checked = None  # a parsed URL per result would double what a swarm keeps

    async def _enlist(self, candidates: Sequence[Candidate], recorder: Recorder) -> None:
        """Give each its row in the journal, and settle those whose files it knows."""
        decisions = await recorder.enlist([(candidate.bundle, candidate.path) for candidate in candidates])
        for candidate, decision in zip(candidates, decisions, strict=True):
            bundle, file = candidate.bundle, decision.file
            if decision.contested:
                self._fail(candidate, DownloadError(_CONTESTED))
                continue
            if candidate.verdict:  # it has no place, and so its outcome
                candidate.registered = decision.registered
                continue
            digests = set(bundle.digest)
            proven = file is None or digests <= set(file.digest)
            if decision.settled and file is not None and not proven:
                proven = await self._workspace.agrees(file.path, bundle._digests)
            if decision.settled and proven:
                if file is not None:
                    confirm(bundle, file)
                    bundle.verified = Verified.DIGEST if digests else bundle.verified
                    self._set_path(candidate, file.path)
                else:
                    bundle._file_path, bundle.status = candidate.path, Status.CACHED
                self._remember(candidate)
                candidate.verdict = Candidate.SETTLED
                continue
            candidate.registered = decision.registered
            bundle._condition = file if proven else None
            recorder.announce(bundle, decision.registered)

    def overflows(self) -> bool:
        """Whether memory is full of outcomes; if so, some are chosen, and :meth:`spill` must follow."""
        if not self._seen.full:
            return False
        self._seen.mark_leaving()
        return True

    async def spill(self) -> None:
        """Move the chosen outcomes from memory to the disk; where that fails, they stay in memory."""
        try:
            await self._workspace.disk.run(self._seen.spill)
        except SpillError as error:
            _log.warning("no temporary database (%s): all outcomes of this run are kept in memory", error)
            self._seen.stay()

    def close(self) -> None:
        """Give back every path; forget everything."""
        for candidate in list(self._flying.values()):
            self._leave(candidate)
        if self._seen.on_disk:
            self._workspace.disk.later(self._seen.close)

    def _prepare(self, candidate: Candidate) -> bool:
        """Start the bundle afresh and ask for its path; False if it needs no place."""
        bundle = candidate.bundle
        leader = self._objects.get(id(bundle))
        if leader is not None:
            return self._follow(candidate, leader)
        self._objects[id(bundle)] = candidate
        if bundle.status is not Status.INITIALIZED:
            bundle._start_afresh()
        try:
            url = bundle._parse()
            path = chosen_path(self._strategy, bundle)
        except DownloadError as error:
            return self._fail(candidate, error)
        candidate.wanted = path
        self._set_path(candidate, path)
        candidate.asked = candidate.key
        candidate.identity = _identity(bundle._text_of(url), bundle)
        return True

    def _names(self, candidate: Candidate) -> tuple[str, ...]:
        """Under which names the same request may be known: it may have had to step aside for one that is gone."""
        return (candidate.key, candidate.detour) if self._detours else (candidate.key,)

    def _remember(self, candidate: Candidate) -> None:
        results = candidate.bundle._results()
        self._seen.put(candidate.key, candidate.identity, results)
        if candidate.turn:
            self._seen.put(candidate.detour, candidate.identity, results)

    def _set_path(self, candidate: Candidate, path: str) -> None:
        """Give the candidate a path, and note how the file system compares it and its folder."""
        candidate.path = path
        candidate.key = self._fold(path)
        candidate.parent = os.path.dirname(candidate.key)

    async def _recall(self, candidates: Sequence[Candidate]) -> _Recalled:
        """What is remembered of these paths, in memory or on the disk; nearly always the disk need not be asked."""
        if not self._seen.spilled:
            return {}
        recalled: _Recalled = {name: self._seen.get(name) for one in candidates for name in self._names(one)}
        doubtful = [key for key, record in recalled.items() if record is None and self._seen.may_be_spilled(key)]
        if doubtful:
            recalled.update(await self._workspace.disk.run(self._seen.recall, doubtful))
        return recalled

    def _meet(self, candidate: Candidate, recalled: _Recalled) -> bool:
        """Compare with what is under way, what this run has settled, and what the disk has.

        Gives the verdict and returns False; returns True if something about its path has yet to be looked up.
        """
        places = self._workspace.places
        while places.knows(candidate.parent):
            again = self._same_before(candidate, recalled)
            if again is not None:
                return again
            key = candidate.key
            record = self._seen.get(key) or recalled.get(key)
            if record is not None or not places.is_clear(key, candidate.parent):
                if places.linked(key, candidate.parent):
                    return self._fail(candidate, PathError(candidate.path, _LINKED))
                taken = places.in_the_way(key, candidate.parent)
                if taken is None:
                    taken = 0 if record is not None else places.clash(key, candidate.parent)
                if taken is not None:
                    if not self._aside(candidate, taken):
                        return False
                    continue
                candidate.bundle._kept = places.keeps(key, candidate.parent)
            self._let_in(candidate)
            return False
        return True

    def _let_in(self, candidate: Candidate) -> None:
        """Nothing is in the way."""
        self._flying[candidate.key] = candidate
        if candidate.turn:
            self._detours = True
            self._flying[candidate.detour] = candidate
        self._workspace.places.take(candidate.key, candidate.parent)
        candidate.bundle._file_path = candidate.path
        candidate.verdict = Candidate.FETCH

    def _same_before(self, candidate: Candidate, recalled: _Recalled) -> bool | None:
        """Compare with the same request, if there was one: what :meth:`_meet` returns, or None if there was none."""
        for name in self._names(candidate):
            flying = self._flying.get(name)
            if flying is not None and flying.identity == candidate.identity:
                return self._follow(candidate, flying)
            record = self._seen.get(name) or recalled.get(name)
            if record is None and name not in recalled and self._seen.may_be_spilled(name):
                return True  # it stepped aside to a path that has not been asked for yet
            if record is not None and record[0] == candidate.identity:
                self._unregister(candidate)
                candidate.bundle._take_results(record[1:])
                candidate.repeat = True
                candidate.verdict = Candidate.SETTLED
                return False
        return None

    async def _survey(self, candidates: Sequence[Candidate]) -> None:
        """Look at the folders that are not known yet."""
        places = self._workspace.places
        parents = {one.parent: os.path.dirname(one.path) for one in candidates if not places.knows(one.parent)}
        if parents:
            places.learn(await self._workspace.survey(parents, self._fold))

    async def _find(self, candidates: Sequence[Candidate]) -> None:
        """Settle those whose files are there already."""
        found = await self._workspace.find([candidate.path for candidate in candidates])
        for candidate, file in zip(candidates, found, strict=True):
            if file is not None:
                bundle = candidate.bundle
                known = candidate.registered.known if candidate.registered is not None else None
                if known is not None and known.publication is not None and known.publication.file.size != file.size:
                    continue  # it is not what was published there
                if bundle._digests:
                    proven = set(bundle.digest) <= set(file.proven)
                    if not proven and not await self._workspace.agrees(file.path, bundle._digests):
                        continue
                    bundle.verified = Verified.DIGEST
                bundle._file_path, bundle.size, bundle.status = file.path, file.size, Status.CACHED
                self._leave(candidate)
                self._remember(candidate)
                candidate.verdict = Candidate.SETTLED

    def _aside(self, candidate: Candidate, taken: int) -> bool:
        """Give the candidate another path; False if it wants just this one, or has tried enough.

        :param taken: the depth at which its path is taken.
        """
        candidate.turn += 1
        if candidate.bundle._given_path is not None or candidate.turn > TURNS:
            return self._fail(candidate, PathError(candidate.path, _TAKEN))
        if taken == 0:
            path = sideways(candidate.wanted, 0, candidate.turn)
        else:
            path = candidate.wanted = sideways(candidate.path, taken, 1)
        self._set_path(candidate, path)
        return True

    def _leave(self, candidate: Candidate) -> None:
        if self._flying.get(candidate.key) is candidate:
            del self._flying[candidate.key]
            if candidate.turn:
                self._flying.pop(candidate.detour, None)
            self._workspace.places.give_back(candidate.key, candidate.parent)

    def _follow(self, candidate: Candidate, leader: Candidate) -> bool:
        candidate.leader = leader
        self._unregister(candidate)
        candidate.verdict = Candidate.FOLLOW
        return False

    def _unregister(self, candidate: Candidate) -> None:
        """Its row in the journal is that of another, which is the same request."""
        candidate.registered = candidate.bundle._publishing = None

    def _fail(self, candidate: Candidate, error: DownloadError) -> bool:
        bundle = candidate.bundle
        bundle.error, bundle.status = error, Status.FAILED
        if candidate.path:
            bundle._file_path = candidate.path
        candidate.verdict = Candidate.SETTLED
        return False


def _identity(url: str, bundle: AioDownloadBundle) -> bytes:
    """What makes two bundles the same request: URL, form data, headers, where else, and what must come of it."""
    if not bundle.headers and not bundle.params and not bundle._digests and not bundle.mirrors:
        return blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    headers = "\n".join(f"{name.lower()}:{value}" for name, value in sorted(bundle.headers.items()))
    text = f"{url}\n{headers}\n{bundle.digest}\n{bundle.mirrors}\n".encode("utf-8", "surrogatepass")
    return blake2b(text + (bundle._form() or b""), digest_size=16).digest()


def chosen_path(strategy: DownloadStrategy, bundle: AioDownloadBundle) -> str:
    """Return the absolute path that the bundle came with, or that the strategy gives it.

    :raises StrategyError: for a bug in ``get_file_path``.
    :raises DownloadError: if the path is not safe.
    """
    path: object = bundle._given_path
    if path is None:
        try:
            path = strategy.get_file_path(bundle)
            if not isinstance(path, str):
                raise TypeError(f"it must return a str, not {type(path).__name__}")
        except DownloadError:
            raise
        except Exception as error:
            raise bug(bundle, "get_file_path", error) from error
        if type(strategy).get_file_path is DownloadStrategy.get_file_path and len(str(path)) < TRUSTED:
            return str(path)  # below home by construction
    return safe_path(str(path), strategy.home)
