"""The checks of strategies: the library's own pass, and each typical mistake is found, by name and in words."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import itertools
import json
import os
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import ClientResponse
from blockbuster import BlockBuster
from yarl import URL

from aiodownload import (
    Adaptive,
    AioDownloadBundle,
    BackOff,
    DownloadError,
    DownloadStrategy,
    Lenient,
    Polite,
    RequestStrategy,
)
from aiodownload.testing import (
    ConformanceError,
    Finding,
    Rule,
    check_download_strategy,
    check_request_strategy,
    keeping,
)

BODY = random.Random(5).randbytes(200_000)


@pytest.fixture(autouse=True)
def unguarded(blockbuster: BlockBuster) -> None:
    """The strategies here write files as their authors would, on the event loop."""
    blockbuster.deactivate()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a server says nothing a try has to fail, and the sooner it may the sooner it does."""
    monkeypatch.setattr("aiodownload.testing.faults.STALLED", 0.03)


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A check writes nothing but temporary files, and takes them away."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "fault-server"]


# What passes


@pytest.mark.parametrize(
    "strategy",
    [
        DownloadStrategy,
        DownloadStrategy(skip_cached=True),
        lambda home: DownloadStrategy(1000, home, durable=True, strict=True, segments=3, remote_time=True),
        lambda: DownloadStrategy(content_disposition=True, max_ratio=None),
    ],
    ids=["class", "instance", "factory with home", "factory without"],
)
def test_our_own_download_strategy_passes(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """DownloadStrategy keeps to its contract, however it is set and handed over; nothing is waited for in vain."""
    monkeypatch.setattr(keeping, "SOON", 60)
    began = time.monotonic()
    check_download_strategy(strategy)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "strategy",
    [
        RequestStrategy,
        Lenient,
        BackOff,
        Polite,
        Adaptive,
        BackOff(5000, concurrent=50, jitter=True, rate=0.01, robots=True, deadline=0.001, public_only=True),
    ],
    ids=["RequestStrategy", "Lenient", "BackOff", "Polite", "Adaptive", "settings"],
)
def test_our_own_request_strategies_pass_within_seconds(strategy: Any) -> None:
    """Each of ours keeps to its contract, and its minutes of waiting are not waited."""
    began = time.monotonic()
    check_request_strategy(strategy)
    assert time.monotonic() - began < 20


class KeepJson(DownloadStrategy):
    """Writes nothing."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        bundle.info = await response.json()


class WithChecksum(DownloadStrategy):
    """Writes one more file."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        await super().on_success(response, bundle)
        path = Path(bundle.file_path or "")
        path.with_name(path.name + ".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())


class Packed(DownloadStrategy):
    """Keeps another form of the body."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        data = gzip.compress(await response.read(), mtime=0)
        path = Path(bundle.file_path or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("." + path.name).write_bytes(data)
        path.with_name("." + path.name).replace(path)


class Resumable(DownloadStrategy):
    """Goes on where an earlier try has broken off, and refuses pages."""

    resumable = True

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        if response.content_type == "text/html":
            raise DownloadError("a page came instead of the file")
        await super().on_success(response, bundle)


class Titled(DownloadStrategy):
    """Needs bundles with an info, and refuses what is not its business."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        if "secret" in bundle.url:
            raise DownloadError("not that one")
        return f"{bundle.info['title']}/{hashlib.sha256(bundle.url.encode()).hexdigest()}"


def test_a_strategy_that_keeps_no_file() -> None:
    """With what it expects and no file, a parser passes."""
    body = json.dumps({"a": list(range(1000))}).encode()
    check_download_strategy(
        KeepJson, path="/prices.json", body=body, headers={"Content_Type": "application/json"}, expected=lambda *_: {}
    )


def test_a_strategy_that_keeps_more_or_something_else() -> None:
    """``expected`` says what a success leaves."""

    def with_checksum(path: str, body: bytes) -> dict[str, bytes]:
        return {path: body, f"{path}.sha256": hashlib.sha256(body).hexdigest().encode()}

    check_download_strategy(WithChecksum, body=BODY, expected=with_checksum)
    check_download_strategy(Packed, body=BODY, expected=lambda path, body: {path: gzip.compress(body, mtime=0)})


def test_a_strategy_with_wishes() -> None:
    """A resumable override passes; bundles are made as the program makes them; an ETag of the caller's is left out."""
    check_download_strategy(Resumable, headers={"ETag": '"z"'}, path="/x.tar.gz")
    urls = ["https://a.example/1", "https://a.example/secret", "https://a.example/2"]
    check_download_strategy(
        Titled, urls=urls, body=BODY, bundle=lambda url: AioDownloadBundle(url, info={"title": "book"})
    )


async def test_from_a_coroutine() -> None:
    """In a thread, a check works beside a running loop."""
    await asyncio.to_thread(check_request_strategy, RequestStrategy)


# What does not: what to keep


class Straight(DownloadStrategy):
    """Writes to the final path."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        path = Path(bundle.file_path or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(4096):
                file.write(chunk)


class TidyStraight(Straight):
    """Writes to the final path, and takes back what is half; so the old file is gone."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        try:
            await super().on_success(response, bundle)
        except BaseException:
            Path(bundle.file_path or "").unlink(missing_ok=True)
            raise


class Swallows(DownloadStrategy):
    """Takes every error for a success."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        try:
            await super().on_success(response, bundle)
        except Exception as error:
            bundle.info = error


class SwallowsAll(DownloadStrategy):
    """Does not let itself be cancelled."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await super().on_success(response, bundle)


class LeavesCopies(DownloadStrategy):
    """Forgets a file of its own."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        await super().on_success(response, bundle)
        Path(f"{bundle.file_path}.tmp").write_bytes(b"")


class Half(DownloadStrategy):
    """Keeps only what came first."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        path = Path(bundle.file_path or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = await response.content.read(1000)
        await response.read()
        path.write_bytes(data)


class FailsByItself(DownloadStrategy):
    """Calls on_fail, which the library does."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        try:
            await super().on_success(response, bundle)
        except Exception:
            await self.on_fail(bundle)
            raise


class RaisesAnything(DownloadStrategy):
    """Uses an exception of its own for a failure."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        raise ValueError("not what I want")


class RefusesAll(DownloadStrategy):
    """Never succeeds."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        raise DownloadError("no")


class NotAsync(DownloadStrategy):
    """Forgets ``async``."""

    def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:  # type: ignore[override]
        bundle.info = response.status

    def on_fail(self, bundle: AioDownloadBundle) -> None:  # type: ignore[override]
        bundle.info = "failed"


class AsyncPath(DownloadStrategy):
    """Has an ``async`` too many."""

    async def get_file_path(self, bundle: AioDownloadBundle) -> str:  # type: ignore[override]
        return super().get_file_path(bundle)


class Numbered(DownloadStrategy):
    """Counts."""

    def __init__(self, home: str | None = None) -> None:
        super().__init__(home=home)
        self.number = 0

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        self.number += 1
        return f"{self.number}.bin"


class CountsByClass(DownloadStrategy):
    """Counts in its class."""

    numbers = itertools.count()

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return f"{next(self.numbers)}.bin"


class Random(DownloadStrategy):
    """Throws dice."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return f"{random.random()}.bin"


class LooksAround(DownloadStrategy):
    """Asks the disk for a free name."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        path = super().get_file_path(bundle)
        return f"{path}.new" if os.path.exists(path) else path


class MakesFolders(DownloadStrategy):
    """Makes the folder, which the run does."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        path = super().get_file_path(bundle)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path


class Flat(DownloadStrategy):
    """One folder for all."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return URL(bundle.url).name or "index"


class Unquoted(DownloadStrategy):
    """Believes in what a URL says."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        url = URL(bundle.url)
        return f"{url.host}/{url.port}/{unquote(url.raw_path)}/{url.query_string}-"


class Elsewhere(DownloadStrategy):
    """Has a folder that is not home."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return "/nowhere/" + hashlib.sha256(bundle.url.encode()).hexdigest()


class NoPath(DownloadStrategy):
    """Returns what is no str."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return Path("a")  # type: ignore[return-value]


class PathFails(DownloadStrategy):
    """Does not get through every URL."""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return f"{URL(bundle.url).query['id']}.bin"


class Remembers(DownloadStrategy):
    """Has the results of a run."""

    def __init__(self, home: str | None = None) -> None:
        super().__init__(home=home)
        self.done: list[str] = []

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        await super().on_success(response, bundle)
        self.done.append(bundle.url)


class LastPath(DownloadStrategy):
    """Believes that there is one bundle at a time."""

    path = ""

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        self.path = super().get_file_path(bundle)
        return self.path


class Forgetful(DownloadStrategy):
    """Does not call super().__init__."""

    def __init__(self, home: str | None = None) -> None:
        self.folder = home


class WrongSetting(DownloadStrategy):
    """Sets what cannot work."""

    def __init__(self) -> None:
        super().__init__()
        self.chunk_size = 0


class CannotBeMade(DownloadStrategy):
    """Asks for a setting that is not there."""

    def __init__(self) -> None:
        super().__init__(retries=5)  # type: ignore[call-arg]


class Unpicklable(DownloadStrategy):
    """Holds a lambda."""

    def __init__(self, home: str | None = None) -> None:
        super().__init__(home=home)
        self.rename: Callable[[str], str] = lambda path: path


class LosesSettings(DownloadStrategy):
    """Pickles, but comes back as another."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "chunk_size": 1}


BROKEN_KEEPING: list[tuple[Any, set[Rule], str]] = [
    (
        Straight,
        {Rule.FINAL_NAME, Rule.OLD_FILE},
        r"always cut short: \S+ holds \d+ bytes of the body, which has 200",
    ),
    (TidyStraight, {Rule.OLD_FILE}, "with an old file there: .* holds nothing; right: the old file"),
    (Swallows, {Rule.OUTCOME}, r"then the file: bundle.ok is True, and \S+ holds nothing; right: the whole"),
    (SwallowsAll, {Rule.CANCELLATION}, "on_success: it was cancelled, and returned"),
    (LeavesCopies, {Rule.NOTHING_ELSE}, r"a plain body: \S+file.bin.tmp holds 0 bytes.* no file of that name"),
    (Half, {Rule.FINAL_NAME}, "holds 1000 bytes of the body, .* right: the whole body"),
    (FailsByItself, {Rule.ON_FAIL_ONCE}, r"it was called 1 time, and the bundle is DONE; right: 0, since"),
    (RaisesAnything, {Rule.NO_BUGS}, "on_success failed for .*ValueError: not what I want; right: an AioDownloadError"),
    (RefusesAll, {Rule.OUTCOME}, "a plain body: it failed: DownloadError: no; right: a success"),
    (NotAsync, {Rule.ASYNC_HOOKS}, "on_fail: it returned None, which cannot be awaited; right: async def"),
    (AsyncPath, {Rule.ASYNC_HOOKS}, "it returned a coroutine; right: def, without async"),
    (Numbered, {Rule.PURE_PATH, Rule.NO_STATE}, "'1.bin', then '2.bin'; right: the same path twice"),
    (CountsByClass, {Rule.PURE_PATH, Rule.NO_STATE}, "CountsByClass.numbers changed in the course of it"),
    (Random, {Rule.PURE_PATH}, "right: the same path twice"),
    (LooksAround, {Rule.PURE_PATH}, "it called os.stat; right: an answer from the bundle and the settings alone"),
    (MakesFolders, {Rule.PURE_PATH}, "it called os.mkdir, os.stat; right: an answer from"),
    (
        Flat,
        {Rule.DISTINCT_PATHS, Rule.BELOW_HOME},
        "'one.csv', as for https://a.example/one.csv; right: a path that",
    ),
    (
        Unquoted,
        {Rule.BELOW_HOME},
        r"%2f..%2fetc/passwd: 'a.example/443/+\.\./\.\./etc/passwd/-'; right: a path",
    ),
    (Elsewhere, {Rule.BELOW_HOME}, "'/nowhere/"),
    (NoPath, {Rule.PURE_PATH}, r"it returned \w*Path\('a'\); right: a str"),
    (PathFails, {Rule.NO_BUGS}, "get_file_path for https://a.example/: it raised KeyError: 'id'; right: a str"),
    (Remembers, {Rule.NO_STATE}, "after the runs: done changed .* right: put .* into bundle.info"),
    (LastPath, {Rule.NO_STATE}, "path changed in the course of it"),
    (Forgetful, {Rule.SETTINGS}, "chunk_size, home, skip_cached and 8 more are not set; right: call super"),
    (WrongSetting, {Rule.SETTINGS}, "chunk_size must be a whole number of at least 1, not 0"),
    (CannotBeMade, {Rule.SETTINGS}, "making one: TypeError: .*'retries'"),
    (Unpicklable, {Rule.PICKLES}, "pickle: .*lambda.*; right: keep plain data in it"),
    (LosesSettings, {Rule.PICKLES}, "chunk_size was 65536, and is 1 afterwards"),
]


@pytest.mark.parametrize(("strategy", "rules", "told"), BROKEN_KEEPING, ids=lambda one: getattr(one, "__name__", ""))
def test_a_broken_download_strategy_is_found(strategy: Any, rules: set[Rule], told: str) -> None:
    """The rules that it breaks are named, with what was seen and what would be right."""
    with pytest.raises(ConformanceError, match=told) as caught:
        check_download_strategy(strategy, body=BODY)
    assert {finding.rule for finding in caught.value.findings} >= rules
    assert str(caught.value).startswith(f"{strategy.__name__} breaks ")


# What does not: how to ask


class Asks(RequestStrategy):
    """Five tries, and no waits."""

    def __init__(self) -> None:
        super().__init__(max_attempts=5)


class RetryNothing(Asks):
    def retry(self, response: ClientResponse) -> bool:
        if response.status == 503:
            return True
        return None  # type: ignore[return-value]


class RetryFails(Asks):
    def retry(self, response: ClientResponse) -> bool:
        return int(response.headers["Retry-After"]) < 60


class RetryAsync(Asks):
    async def retry(self, response: ClientResponse) -> bool:  # type: ignore[override]
        return True


class RaisesValueError(Asks):
    def assert_response(self, response: ClientResponse) -> None:
        if response.status != 200:
            raise ValueError(response.status)


class ReturnsFalse(Asks):
    def assert_response(self, response: ClientResponse) -> None:
        return response.status == 200  # type: ignore[return-value]


class ErrorFails(Asks):
    def retry_error(self, error: DownloadError) -> bool:
        return error.http_status == 503  # type: ignore[attr-defined, no-any-return]


class ErrorText(Asks):
    def retry_error(self, error: DownloadError) -> bool:
        return str(error) or False  # type: ignore[return-value]


class Sleeps(Asks):
    """The wait is an expression."""

    wait: Any = staticmethod(lambda attempts: 0)

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return self.wait(bundle.attempts)  # type: ignore[no-any-return]


def sleeping(name: str, wait: Callable[[int], Any], tries: int = 5) -> Callable[[], Sleeps]:
    def make() -> Sleeps:
        strategy: Sleeps = type(name, (Sleeps,), {"wait": staticmethod(wait)})()
        strategy.max_attempts = tries
        return strategy

    make.__name__ = name
    return make


class SleepAsync(Asks):
    async def get_sleep_time(self, bundle: AioDownloadBundle) -> float:  # type: ignore[override]
        return 1


class StartsAgain(Asks):
    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        bundle.attempts = 0
        return 0


class Spaced(Asks):
    """Says 0.05 s, and means it for one URL only."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 0.05 if "a.example" in bundle.url else 0


class CountsRetries(Asks):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, int] = {}

    def retry(self, response: ClientResponse) -> bool:
        self.seen[response.status] = self.seen.get(response.status, 0) + 1
        return True


class GivesUpLess(Asks):
    def retry(self, response: ClientResponse) -> bool:
        self.max_attempts += 1
        return True


class ForgetfulAsker(RequestStrategy):
    def __init__(self) -> None:
        self.max_attempts = 5


class WrongAsker(Asks):
    def __init__(self) -> None:
        super().__init__()
        self.timeout = -1


class UnpicklableAsker(Asks):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


BROKEN_ASKING: list[tuple[Any, set[Rule], str]] = [
    (RetryNothing, {Rule.RETRY}, "retry for status 200: it returned None; right: True or False"),
    (RetryFails, {Rule.RETRY}, "retry for status 404: it raised KeyError|retry for status 200: it raised KeyError"),
    (RetryAsync, {Rule.ASYNC_HOOKS}, "retry: it returned a coroutine; right: def, without async"),
    (
        RaisesValueError,
        {Rule.ASSERT_RESPONSE},
        "status 201: it raised ValueError: 201; right: return None, or",
    ),
    (ReturnsFalse, {Rule.ASSERT_RESPONSE}, "assert_response for status 200: it returned True; right: return None"),
    (ErrorFails, {Rule.RETRY_ERROR}, r"retry_error\(ResolveError\): it raised AttributeError: .*http_status"),
    (ErrorText, {Rule.RETRY_ERROR}, r"retry_error\(\w+\): it returned '.*'; right: True or False"),
    (
        sleeping("NoNumber", lambda at: float("nan")),
        {Rule.SLEEP_TIME},
        "at attempts == 0: it returned nan; right: ",
    ),
    (sleeping("ForEver", lambda at: float("inf") if at == 3 else 1), {Rule.SLEEP_TIME}, "== 3: it returned inf"),
    (sleeping("Nothing", lambda at: None), {Rule.SLEEP_TIME}, "at attempts == 0: it returned None"),
    (sleeping("Text", lambda at: "1"), {Rule.SLEEP_TIME}, "at attempts == 0: it returned '1'"),
    (sleeping("Negative", lambda at: 60 - 20 * at), {Rule.SLEEP_TIME}, r"-20.0 s at attempts == 4, and more than 0"),
    (sleeping("TooMuch", lambda at: 2.0**at, 5000), {Rule.SLEEP_TIME}, "== 1024: it raised OverflowError"),
    (sleeping("Listed", lambda at: [0, 1, 2][at]), {Rule.SLEEP_TIME}, "== 3: it raised IndexError"),
    (SleepAsync, {Rule.ASYNC_HOOKS}, "get_sleep_time: it returned a coroutine"),
    (StartsAgain, {Rule.ATTEMPTS}, "attempts == 1: it set bundle.attempts to 0; right: leave it"),
    (Spaced, {Rule.SPACING}, r"several at once: 5 starts within 0.0\d+ s; right: at least 0.05 s apart"),
    (CountsRetries, {Rule.NO_STATE}, "after the runs: seen changed"),
    (GivesUpLess, {Rule.ATTEMPTS}, "it set max_attempts to 2; right: leave it"),
    (
        ForgetfulAsker,
        {Rule.SETTINGS},
        "concurrent, timeout, max_retry_after and 13 more are not set; right: ",
    ),
    (WrongAsker, {Rule.SETTINGS}, "timeout must be a number above 0, not -1"),
    (UnpicklableAsker, {Rule.PICKLES}, "pickle: TypeError: cannot pickle '_thread.lock' object"),
]


@pytest.mark.parametrize(("strategy", "rules", "told"), BROKEN_ASKING, ids=lambda one: getattr(one, "__name__", ""))
def test_a_broken_request_strategy_is_found(strategy: Any, rules: set[Rule], told: str) -> None:
    """The rules that it breaks are named, with what was seen and what would be right."""
    with pytest.raises(ConformanceError, match=told) as caught:
        check_request_strategy(strategy)
    assert {finding.rule for finding in caught.value.findings} >= rules
    assert str(caught.value).startswith(f"{strategy.__name__} breaks ")


def test_every_rule_has_a_strategy_that_breaks_it() -> None:
    """No rule is only words."""
    assert set(Rule) == {rule for _, rules, _ in (*BROKEN_KEEPING, *BROKEN_ASKING) for rule in rules}


# What is told


def test_a_rule_may_be_left_out() -> None:
    """What is skipped is not told; the rest is."""
    check_download_strategy(Flat, body=BODY, skip=[Rule.DISTINCT_PATHS, Rule.BELOW_HOME])
    with pytest.raises(ConformanceError) as caught:
        check_download_strategy(Unpicklable, body=BODY, skip=[Rule.NO_STATE])
    (finding,) = caught.value.findings
    assert isinstance(finding, Finding)
    assert finding.rule is Rule.PICKLES


def test_the_strategy_that_is_given_stays_as_it_was(tmp_path: Path) -> None:
    """A check works on a copy: settings and home of the given object are what they were."""
    keep, ask = DownloadStrategy(home=tmp_path / "mine"), BackOff(3, rate=1)
    before = dict(vars(keep)), dict(vars(ask))
    check_download_strategy(keep, body=BODY)
    check_request_strategy(ask)
    assert (vars(keep), vars(ask)) == before


def test_the_message_is_short() -> None:
    """Of one rule three findings are told, and how many more there are; the error has all of them, and pickles."""
    findings = tuple(Finding(Rule.RETRY, f"at {number}", "None", "True or False") for number in range(5))
    error = pickle.loads(pickle.dumps(ConformanceError("Mine", findings)))
    assert error.findings == findings
    assert str(error).splitlines() == [
        "Mine breaks 1 rule:",
        "RETRY: retry returns True or False for every response",
        *(f"    at {number}: None; right: True or False" for number in range(3)),
        "    and 2 more",
    ]
    assert isinstance(error, AssertionError)


@pytest.mark.parametrize("check", [check_download_strategy, check_request_strategy])
@pytest.mark.parametrize("given", [7, lambda: 7, dict])
def test_what_is_no_strategy(check: Callable[[Any], None], given: Any) -> None:
    """Something else than a strategy, or what makes one, is a TypeError."""
    with pytest.raises(TypeError, match="Strategy"):
        check(given)
