"""Checks of a DownloadStrategy: it runs against a server that misbehaves, and nothing wrong may lie below its home."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from ..admission import chosen_path
from ..api import each, one, swarm
from ..bundle import AioDownloadBundle, Status
from ..download import AioDownload
from ..errors import AioDownloadError, DownloadError, HomeError, StrategyError
from ..request.strategy import RequestStrategy
from ..storage.decoding import kept_as_sent
from ..storage.strategy import DownloadStrategy, check_download_settings, reads_by_itself
from .answers import ok, slow, stall
from .faults import Fault, faults
from .naming import URLS, check_paths
from .probes import check_pickles, check_settings, check_state, described, made, state
from .rules import Findings, Rule
from .server import FaultServer

if TYPE_CHECKING:
    from aiohttp import ClientResponse

__all__ = ["check_download_strategy"]

Files: TypeAlias = Mapping[str, bytes]
Expected: TypeAlias = Callable[[str, bytes], Files]

BODY = random.Random(7).randbytes((1 << 20) + (1 << 17))  # noqa: S311 - more than a MiB: what breaks off is kept
OLD = b"the old whole file\n"

ASIDE = 8  # downloads that go on side by side
SOON = 5  # seconds for a download to begin


def _plain(path: str, body: bytes) -> Files:
    return {path: body}


def check_download_strategy(
    strategy: DownloadStrategy | Callable[..., DownloadStrategy],
    *,
    urls: Iterable[str] | None = None,
    path: str = "/file.bin",
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    expected: Callable[[str, bytes], Mapping[str, bytes]] | None = None,
    bundle: Callable[[str], AioDownloadBundle] = AioDownloadBundle,
    skip: Collection[Rule] = (),
) -> None:
    """Try a :class:`~aiodownload.DownloadStrategy` against a server that misbehaves; a few seconds.

    All its files go to a temporary folder.  The call blocks; in a coroutine use :func:`asyncio.to_thread`.

    :param strategy: the strategy, of which a copy gets another ``home``; or what makes one, such as its class.  It is
        called with ``home=`` a folder (str) if it takes that, and without arguments otherwise.
    :param urls: URLs that the strategy is meant for (str), for the rules of ``get_file_path``; None for some of ours.
    :param path: the path of the files at the server (str), each below a folder of its own.
    :param body: what the files hold (bytes, two or more; None for somewhat more than a MiB).  With less than a MiB no
        try goes on where another broke off.
    :param headers: further fields of the answers (mapping of str to str; underscores stand for dashes), such as
        ``{"Content_Type": "application/json"}``; an ETag among them is left out.
    :param expected: which files a success leaves: called with the file's path, relative to ``home`` (str), and the
        body; returns a mapping of such paths to bytes.  For strategies that keep something else, or nothing; None: the
        body under that path.
    :param bundle: makes the bundle of a URL, where the strategy needs more than that, such as an ``info``.
    :param skip: rules that are not checked (:class:`Rule`).
    :raises ConformanceError: with every rule that was found to be broken.
    :raises TypeError: for what is no strategy and makes none.
    """
    findings = Findings(skip)
    with tempfile.TemporaryDirectory(prefix="aiodownload-check-") as folder:
        home = os.path.join(os.path.realpath(folder), "home")
        tried = made(strategy, DownloadStrategy, home, findings)
        if tried is not None and check_settings(tried, DownloadStrategy, check_download_settings, findings):
            check_pickles(tried, DownloadStrategy, findings)
            if tried.home != home:
                tried.home = home
            before = state(tried, DownloadStrategy, _Watch.HOOKS)
            if check_paths(tried, list(URLS if urls is None else urls), bundle, findings):
                with FaultServer() as server:
                    _Trial(tried, server, path, body or BODY, headers, expected or _plain, bundle, findings).run()
            check_state(before, state(tried, DownloadStrategy, _Watch.HOOKS), findings)
    findings.tell()


class _Pace(RequestStrategy):
    """Two tries at once after another, whatever has happened but a 404."""

    def __init__(self, timeout: float, concurrent: int = 2) -> None:
        super().__init__(concurrent, 2, timeout)

    def retry(self, response: ClientResponse) -> bool:
        return response.status != 404

    def retry_error(self, error: DownloadError) -> bool:
        return True


class _Watch:
    """Stands between the library and the two hooks that act, and notes how they are called and how they end."""

    HOOKS = frozenset({"on_success", "on_fail"})

    def __init__(self, strategy: DownloadStrategy, findings: Findings) -> None:
        self.failed: Counter[str] = Counter()
        self.began: set[str] = set()
        self.where = ""
        self._findings = findings
        vars(strategy)["on_success"] = partial(self._on_success, strategy.on_success)
        vars(strategy)["on_fail"] = partial(self._on_fail, strategy.on_fail)

    async def _on_success(
        self, hook: Callable[..., Awaitable[None]], response: ClientResponse, bundle: AioDownloadBundle
    ) -> None:
        self.began.add(bundle.url)
        await self._awaited("on_success", hook(response, bundle))

    async def _on_fail(self, hook: Callable[..., Awaitable[None]], bundle: AioDownloadBundle) -> None:
        self.failed[bundle.url] += 1
        await self._awaited("on_fail", hook(bundle))

    async def _awaited(self, name: str, made: object) -> None:
        if not inspect.isawaitable(made):
            self._findings.add(Rule.ASYNC_HOOKS, name, f"it returned {made!r}, which cannot be awaited", "async def")
            return
        await made
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            seen = "it was cancelled, and returned as if nothing had happened"
            self._findings.add(Rule.CANCELLATION, name, seen, "no 'except' for CancelledError or BaseException")
            raise asyncio.CancelledError  # or the run would wait for it


class _Trial:
    """One strategy, and the server that it is tried against."""

    def __init__(
        self,
        strategy: DownloadStrategy,
        server: FaultServer,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        expected: Expected,
        bundle: Callable[[str], AioDownloadBundle],
        findings: Findings,
    ) -> None:
        self.strategy = strategy
        self.server = server
        self.path = path
        self.body = body
        # With an ETag a failure may leave what came, to go on with; the matrix has an answer of its own for that.
        self.fields: dict[str, Any] = {name: value for name, value in headers.items() if name.lower() != "etag"}
        self.expected = expected
        self.bundle = bundle
        self.findings = findings
        self.count = 0
        self.watch = _Watch(strategy, findings)

    def run(self) -> None:
        """Go through the whole matrix."""
        for fault in self._faults():
            if self.findings.has(Rule.NO_BUGS):
                break  # it would come again and again
            for old in (True,) if fault.once else (True, False):
                self._one(fault, old)
        if not self.findings.has(Rule.NO_BUGS):
            self._side_by_side()
            self._cancelled()

    def _faults(self) -> list[Fault]:
        sent = str(self.fields.get("Content_Type", ""))
        moved = self.server.on(f"/moved{self.path}", ok(self.body, **self.fields))
        return faults(self.body, self.fields, moved, not kept_as_sent(self.path, sent), self.strategy.strict)

    def _url(self) -> str:
        self.count += 1
        return self.server.url(f"/{self.count}{self.path}")

    def _download(self, timeout: float, concurrent: int = 2) -> AioDownload:
        return AioDownload(None, self.strategy, _Pace(timeout, concurrent))

    def _place(self, url: str) -> str | None:
        """Where the file of ``url`` goes, relative to home; None if the strategy does not say."""
        try:
            return os.path.relpath(chosen_path(self.strategy, self.bundle(url)), self.strategy.home)
        except AioDownloadError as error:
            self.findings.add(Rule.NO_BUGS, f"get_file_path for {url}", str(error), "a path below home")
            return None

    def _files(self, bundle: AioDownloadBundle, body: bytes) -> Files:
        """What a success leaves, at the place that the bundle has got: there may have been another of its name."""
        return self.expected(os.path.relpath(bundle.file_path or "", self.strategy.home), body)

    def _one(self, fault: Fault, old: bool) -> None:
        url = self._url()
        where = f"{fault.name}, with an old file there" if old else fault.name
        place = self._place(url)
        if place is None:
            return
        self.server.on(url.removeprefix(self.server.url("")), *fault.scripts)
        if old:
            file = Path(self.strategy.home, place)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(OLD)
        before = _below(self.strategy.home)
        try:
            bundle = one(self.bundle(url), self._download(fault.timeout))
        except (StrategyError, HomeError) as error:
            self._bug(where, error)
            return
        self._judge(where, fault.whole, place, bundle, before)
        shutil.rmtree(self.strategy.home, ignore_errors=True)

    def _judge(self, where: str, whole: bool | None, place: str, bundle: AioDownloadBundle, before: Files) -> None:
        """Compare what became of one bundle with what should have."""
        after = _below(self.strategy.home)
        if bundle.status is Status.CACHED:
            wanted = before
        else:
            wanted = {**before, **self.expected(place, self.body)} if bundle.ok and whole is not False else before
            if whole and not bundle.ok:
                right = "a success: the server has sent the whole file"
                self.findings.add(Rule.OUTCOME, where, f"it failed: {_told(bundle)}", right)
            if bundle.ok and whole is False:
                seen = f"bundle.ok is True, and {self._held(after.get(place))} is there"
                right = "a failure: on_success must let the exceptions of the body out"
                self.findings.add(Rule.OUTCOME, where, seen, right)
        self._compare(where, place, before, wanted, after)
        called, due = self.watch.failed[bundle.url], int(not bundle.ok)
        if called != due:
            seen = f"it was called {called} time{'s' * (called != 1)}, and the bundle is {bundle.status.name}"
            self.findings.add(Rule.ON_FAIL_ONCE, where, seen, f"{due}, since the library calls it")

    def _compare(self, where: str, place: str, before: Files, wanted: Files, after: Files) -> None:
        for name in sorted(before.keys() | wanted.keys() | after.keys()):
            if after.get(name) == wanted.get(name):
                continue
            seen = f"{name} holds {self._held(after.get(name))}"
            right = self._held(wanted.get(name))
            if name not in wanted:
                rule = Rule.FINAL_NAME if name == place else Rule.NOTHING_ELSE
                right = "nothing there" if name == place else "no file of that name"
            elif name in before and wanted[name] == before[name]:
                rule = Rule.OLD_FILE
                if name == place and name in after:
                    self.findings.add(Rule.FINAL_NAME, where, seen, right)
            else:
                rule = Rule.FINAL_NAME
                if after.get(name) == before.get(name):
                    rule, seen = Rule.OUTCOME, f"bundle.ok is True, and {seen}"
            self.findings.add(rule, where, seen, right)

    def _held(self, data: bytes | None) -> str:
        if data is None:
            return "nothing"
        if data == OLD:
            return "the old file"
        if data == self.body:
            return f"the whole body ({len(data)} bytes)"
        if self.body.startswith(data):
            return f"{len(data)} bytes of the body, which has {len(self.body)}"
        return f"{len(data)} other bytes"

    def _bug(self, where: str, error: AioDownloadError) -> None:
        right = "an AioDownloadError for what cannot be kept, the exceptions of the response as they come, nothing else"
        self.findings.add(Rule.NO_BUGS, where, str(error), right)

    def _side_by_side(self) -> None:
        """Several at once: what one bundle has may not get into the file of another."""
        bodies: dict[str, bytes] = {}
        for number in range(ASIDE):
            url = self._url()
            body = self.body[number:] + self.body[:number] if self.body is BODY else self.body
            self.server.on(url.removeprefix(self.server.url("")), slow(body, 4, 0.02, **self.fields))
            bodies[url] = body
        before = _below(self.strategy.home)
        try:
            bundles = swarm([self.bundle(url) for url in bodies], self._download(5, ASIDE))
        except (StrategyError, HomeError) as error:
            self._bug("several at once", error)
            return
        wanted = dict(before)
        for bundle, body in zip(bundles, bodies.values(), strict=True):
            if bundle.ok:
                wanted |= self._files(bundle, body)
            else:
                right = "a success, as one by one"
                self.findings.add(Rule.OUTCOME, "several at once", f"one failed: {_told(bundle)}", right)
        self._compare("several at once", "", before, wanted, _below(self.strategy.home))

    def _cancelled(self) -> None:
        """A run that is left in the middle of a body."""
        first, second = self._url(), self._url()
        quick, held = (url.removeprefix(self.server.url("")) for url in (first, second))
        self.server.on(quick, ok(self.body, **self.fields))
        self.server.on(held, stall(self.body, len(self.body) // 2, **self.fields))
        before = _below(self.strategy.home)
        results = each([self.bundle(first), self.bundle(second)], download=self._download(30))
        try:
            settled = next(results)
            until = time.monotonic() + SOON
            while not self._began(second, held) and time.monotonic() < until:
                time.sleep(0.005)
            time.sleep(0.05)
            results.close()  # type: ignore[attr-defined]
        except (StrategyError, HomeError) as error:
            self._bug("cancelled half-way", error)
            return
        wanted = {**before, **(self._files(settled, self.body) if settled.ok else {})}
        self._compare("cancelled half-way", self._place(second) or "", before, wanted, _below(self.strategy.home))

    def _began(self, url: str, target: str) -> bool:
        """Whether ``url`` is being received: no hook tells of a strategy without an on_success of its own."""
        return url in self.watch.began or (not reads_by_itself(self.strategy) and bool(self.server.asked(target)))


def _told(bundle: AioDownloadBundle) -> str:
    return described(bundle.error) if bundle.error is not None else bundle.status.value


def _below(home: str) -> dict[str, bytes]:
    """Every file below ``home``, by its path relative to that."""
    found = {}
    for folder, _, names in os.walk(home):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, home)] = Path(path).read_bytes()
    return found
