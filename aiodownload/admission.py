"""Admission: every bundle gets a path before it moves a byte, and none is fetched that need not be."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias

from .attempt import bugs_are_loud
from .bundle import AioDownloadBundle, Status
from .errors import DownloadError, PathError
from .seen import Record, Seen
from .storage.placement import Found, look, safe_path, sideways
from .storage.strategy import DownloadStrategy, reads_by_itself
from .storage.workspace import Workspace

__all__ = ["Admission", "Candidate"]

_log = logging.getLogger("aiodownload")

_TURNS = 64  # other names to try before a path is given up


class Candidate:
    """A bundle on its way in.

    :param bundle: the bundle.

    ``verdict`` is what is to be done with it, once :meth:`Admission.place` has returned: ``FETCH``, ``FOLLOW``
    (``leader`` is fetching the same), or ``SETTLED`` (the bundle has its outcome).
    """

    FETCH = "fetch"
    FOLLOW = "follow"
    SETTLED = "settled"

    __slots__ = ("bundle", "identity", "leader", "path", "turn", "verdict", "wanted")

    def __init__(self, bundle: AioDownloadBundle) -> None:
        self.bundle = bundle
        self.identity = b""
        self.path = ""
        self.wanted = ""
        self.turn = 0
        self.verdict = ""
        self.leader: Candidate | None = None


_Records: TypeAlias = dict[str, Record]


class Admission:
    """Finds a place for each bundle of one run, and the bundles that were there before.

    :param workspace: threads, home, and the paths in use.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._strategy: DownloadStrategy = workspace.strategy
        self._seen = Seen()
        self._flying: dict[str, Candidate] = {}
        self._objects: dict[int, Candidate] = {}

    async def place(self, candidates: Sequence[Candidate]) -> None:
        """Give every candidate its verdict, in the order of the input.

        :raises StrategyError: for a bug in ``get_file_path``.
        :raises HomeError: if the folder for the files cannot be used.
        """
        if not reads_by_itself(self._strategy):
            await self._workspace.home()
        waiting = [candidate for candidate in candidates if self._prepare(candidate)]
        while waiting:
            recalled = await self._recall(waiting)
            looking = [candidate for candidate in waiting if self._meet(candidate, recalled)]
            waiting = []
            if looking:
                paths = [candidate.path for candidate in looking]
                found = await self._workspace.disk.run(look, paths, both=self._strategy.skip_cached)
                waiting = [one for one, there in zip(looking, found, strict=True) if self._moved(one, there)]

    def settled(self, candidate: Candidate) -> None:
        """The bundle has its outcome: others may have its path, and later ones of the same URL its results."""
        if candidate.verdict == Candidate.FETCH:
            self._leave(candidate)
            if candidate.bundle.status is not Status.CANCELLED:
                self._seen.put(candidate.path, candidate.identity, candidate.bundle._results())
        if self._objects.get(id(candidate.bundle)) is candidate:
            del self._objects[id(candidate.bundle)]

    @property
    def overflows(self) -> bool:
        """Whether it is time to call :meth:`spill`."""
        return self._seen.full

    async def spill(self) -> None:
        """Move older outcomes from memory to the disk; where that fails, they stay in memory."""
        self._seen.mark_leaving()
        try:
            await self._workspace.disk.run(self._seen.spill)
        except sqlite3.Error as error:
            _log.warning("no temporary database (%s): all outcomes of this run are kept in memory", error)
            self._seen.stay()

    def close(self) -> None:
        """Give back every path; forget everything."""
        for candidate in list(self._flying.values()):
            self._leave(candidate)
        self._workspace.disk.later(self._seen.close)

    def _prepare(self, candidate: Candidate) -> bool:
        """Start the bundle afresh and ask for its path; False if it needs no place."""
        bundle = candidate.bundle
        leader = self._objects.get(id(bundle))
        if leader is not None:
            return self._follow(candidate, leader)
        self._objects[id(bundle)] = candidate
        bundle._start_afresh()
        try:
            url = bundle._parse()
            with bugs_are_loud(bundle, "get_file_path"):
                wanted = bundle.file_path if bundle.file_path is not None else self._strategy.get_file_path(bundle)
                try:
                    candidate.path = candidate.wanted = safe_path(wanted, self._strategy.home)
                except PathError as error:
                    return self._fail(candidate, error)
        except DownloadError as error:
            return self._fail(candidate, error)
        identity = [str(url), *(f"{name.lower()}:{value}" for name, value in sorted(bundle.headers.items()))]
        text = "\n".join(identity).encode("utf-8", "surrogatepass")
        candidate.identity = blake2b(text + b"\0" + (bundle._form() or b""), digest_size=16).digest()
        return True

    async def _recall(self, candidates: Sequence[Candidate]) -> _Records:
        """What the disk remembers of these paths; nearly always nothing is to be asked."""
        if not self._seen.spilled:
            return {}
        paths = [one.path for one in candidates if self._seen.get(one.path) is None]
        doubtful = [path for path in paths if self._seen.may_be_spilled(path)]
        return await self._workspace.disk.run(self._seen.recall, doubtful) if doubtful else {}

    def _meet(self, candidate: Candidate, recalled: _Records) -> bool:
        """Compare with what this run has met; True if a place on the disk is still to be looked for."""
        while True:
            path = candidate.path
            flying = self._flying.get(path)
            if flying is not None and flying.identity == candidate.identity:
                return self._follow(candidate, flying)
            record = self._seen.get(path) or recalled.get(path)
            if record is not None and record[0] == candidate.identity:
                candidate.bundle._take_results(record[1])
                candidate.verdict = Candidate.SETTLED
                return False
            taken = path if record is not None else self._workspace.places.clash(path)
            if taken is None:
                self._flying[path] = candidate
                self._workspace.places.take(path)
                return True
            if not self._aside(candidate, taken, "another URL of this run is written there"):
                return False

    def _moved(self, candidate: Candidate, found: Found) -> bool:
        """Take in what the disk has; True if the candidate had to step aside and is to be looked at again."""
        bundle = candidate.bundle
        if found.taken is not None:
            self._leave(candidate)
            return self._aside(candidate, found.taken, f"{found.taken!r} is in the way")
        if found.size is not None and self._strategy.skip_cached:
            bundle._file_path, bundle.size, bundle.status = found.path, found.size, Status.CACHED
            candidate.verdict = Candidate.SETTLED
            self._leave(candidate)
            self._seen.put(candidate.path, candidate.identity, bundle._results())
            return False
        bundle._file_path = candidate.path
        candidate.verdict = Candidate.FETCH
        return False

    def _aside(self, candidate: Candidate, taken: str, reason: str) -> bool:
        """Give the candidate another path; False if it wants just this one, or has tried enough."""
        candidate.turn += 1
        if candidate.bundle._given_path is not None or candidate.turn > _TURNS:
            return self._fail(candidate, PathError(candidate.path, reason))
        if taken == candidate.path:
            candidate.path = sideways(candidate.wanted, candidate.wanted, candidate.turn)
        else:
            candidate.path = candidate.wanted = sideways(candidate.path, taken, 1)
        return True

    def _leave(self, candidate: Candidate) -> None:
        if self._flying.get(candidate.path) is candidate:
            del self._flying[candidate.path]
            self._workspace.places.give_back(candidate.path)

    def _follow(self, candidate: Candidate, leader: Candidate) -> bool:
        candidate.leader = leader
        candidate.verdict = Candidate.FOLLOW
        return False

    def _fail(self, candidate: Candidate, error: DownloadError) -> bool:
        bundle = candidate.bundle
        bundle.error, bundle.status = error, Status.FAILED
        if bundle.file_path is None and candidate.path:
            bundle._file_path = candidate.path
        candidate.verdict = Candidate.SETTLED
        return False
