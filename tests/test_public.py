"""The names that users type: all of them, no others, and with the parameters of this release."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import aiodownload
from aiodownload import (
    Adaptive,
    AioDownload,
    AioDownloadBundle,
    AioDownloadError,
    BackOff,
    ConfigurationError,
    DownloadStrategy,
    Lenient,
    Polite,
    RequestStrategy,
    UsageError,
    errors,
)
from aiodownload.testing import FaultServer, ok

URL = "http://127.0.0.1:9/x"

NAMES = [
    "Adaptive",
    "AddressError",
    "AioDownload",
    "AioDownloadBundle",
    "AioDownloadError",
    "Attempted",
    "BackOff",
    "BodyError",
    "Cancelled",
    "CodingError",
    "ConfigurationError",
    "ConnectError",
    "DeadlineError",
    "DigestError",
    "DisconnectError",
    "DiskError",
    "DownloadError",
    "DownloadStrategy",
    "Event",
    "ExecutorError",
    "HomeError",
    "HostDownError",
    "HostPaused",
    "InvalidURLError",
    "Journal",
    "JournalError",
    "Lenient",
    "LowSpeedError",
    "MissingExtraError",
    "Observer",
    "Outcomes",
    "PathError",
    "Polite",
    "Progress",
    "PrometheusObserver",
    "ProtocolError",
    "Received",
    "Receiving",
    "RedirectError",
    "RequestStrategy",
    "ResolveError",
    "ResponseError",
    "RetryAfterError",
    "RetryScheduled",
    "RobotsError",
    "RunFinished",
    "RunStarted",
    "Settled",
    "StallError",
    "Status",
    "StatusError",
    "StoreError",
    "StrategyError",
    "TLSError",
    "TarShards",
    "TooLargeError",
    "TraceObserver",
    "TransportError",
    "UsageError",
    "Verified",
    "WorkerError",
    "__version__",
    "each",
    "one",
    "public_socket",
    "swarm",
    "to_dataframe",
]


def test_the_export_list_is_exact() -> None:
    """``__all__`` is what is promised, sorted, without a double."""
    assert aiodownload.__all__ == NAMES
    assert sorted(set(NAMES)) == NAMES


def test_nothing_else_is_public() -> None:
    """A name of the package without underscore is exported or a module."""
    public = {name for name in dir(aiodownload) if not isinstance(getattr(aiodownload, name), types.ModuleType)}
    assert {name for name in public if not name.startswith("_")} == set(NAMES) - {"__version__"}


def test_what_few_need_is_loaded_when_it_is_needed() -> None:
    """To import the package costs hardly more than to import aiohttp: no database, no command line, no extra."""
    program = (
        "import sys; before = set(sys.modules)\n"  # a tool that measures the interpreter may have loaded some of them
        "import aiodownload; print(*sorted(set(sys.modules) - before))\n"
        "aiodownload.Journal; print('sqlite3' in sys.modules)"
    )
    loaded, with_journal = subprocess.check_output([sys.executable, "-c", program], text=True).splitlines()
    late = {
        "sqlite3",
        "aiodownload.journal",
        "aiodownload.dataset",
        "pyarrow",
        "aiodownload.cli",
        "aiodownload.demo",
        "aiodownload.testing",
        "aiodownload.cluster",
        "multiprocessing.context",
        "distributed",
        "click",
        "rich",
        "protego",
        "obstore",
        "aiodownload.storage.objects",
        "difflib",
        "tqdm",
        "pandas",
        "prometheus_client",
        "opentelemetry",
        "aiodownload.observers.progress",
        "aiodownload.report",
        "vl_convert",
        "aiodownload.observers.metrics",
    }
    assert late.isdisjoint(loaded.split())
    assert with_journal == "True"


def test_the_names_of_025_are_there() -> None:
    """A script written for 0.2.5 finds each name that it could import."""
    old = [
        "AioDownload",
        "AioDownloadBundle",
        "BackOff",
        "DownloadStrategy",
        "Lenient",
        "RequestStrategy",
        "one",
        "each",
        "swarm",
    ]
    assert set(old) <= set(aiodownload.__all__)


def test_every_error_is_exported() -> None:
    """Whatever may be in ``bundle.error`` or be raised can be named in an ``except``."""
    assert set(errors.__all__) <= set(aiodownload.__all__)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("__version__", "Event")])
def test_everything_says_that_it_is_of_aiodownload(name: str) -> None:
    """Reprs, tracebacks and pickles speak of ``aiodownload.X``, and every public thing is documented."""
    thing = getattr(aiodownload, name)
    assert thing.__module__ == "aiodownload"
    assert thing.__qualname__ == name
    assert inspect.getdoc(thing)


def test_the_version_is_one() -> None:
    """``__version__`` is a version as PEP 440 writes it."""
    from packaging.version import Version

    assert Version(aiodownload.__version__) > Version("0.2.5")


def parameters(function: Callable[..., Any]) -> str:
    """The parameters as they are written, with ``*`` before those by keyword only."""
    told, by_keyword = [], False
    for name, one in inspect.signature(function).parameters.items():
        if one.kind is one.KEYWORD_ONLY and not by_keyword:
            by_keyword = True
            told.append("*")
        star = "**" if one.kind is one.VAR_KEYWORD else ""
        told.append(star + name + ("" if one.default is one.empty else f"={one.default!r}"))
    return ", ".join(told)


ASKING = (
    "max_retry_after=3600, public_only=False, per_host=None, rate=None, bandwidth=None, per_host_bandwidth=None, "
    "low_speed=None, deadline=None, retry_budget=None, jitter=False, robots=False, contact=None, delay=None, "
    "split_hosts=()"
)
KEEPING = (
    "durable=False, strict=False, refresh=False, remote_time=False, content_disposition=False, segments=1, "
    "store_options=None"
)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (aiodownload.one, "url_or_bundle, download=None, *, progress=None"),
        (aiodownload.swarm, "iterable, download=None, *, executor=None, workers=None, progress=None"),
        (aiodownload.each, "iterable, url_map=None, download=None, *, executor=None, workers=None, progress=None"),
        (AioDownload, "client=None, download_strategy=None, request_strategy=None, *, journal=None, observers=()"),
        (AioDownload.one, "self, url_or_bundle"),
        (AioDownload.swarm, "self, iterable"),
        (AioDownload.each, "self, iterable, url_map=None"),
        (AioDownload.main, "self, bundle"),
        (AioDownload.request_and_download, "self, bundle"),
        (AioDownloadBundle, "url, info=None, params=None, *, headers=None, digest=None, mirrors=(), file_path=None"),
        (RequestStrategy, f"concurrent=2, max_attempts=0, timeout=60, *, {ASKING}"),
        (Lenient, "max_attempts=5, **settings"),
        (BackOff, "max_attempts=10, **settings"),
        (Polite, "max_attempts=5, **settings"),
        (Adaptive, "max_attempts=10, **settings"),
        (
            DownloadStrategy,
            f"chunk_size=65536, home=None, skip_cached=False, *, max_bytes=None, max_ratio=200, {KEEPING}",
        ),
        (DownloadStrategy.get_file_path, "self, bundle"),
        (DownloadStrategy.on_success, "self, response, bundle"),
        (DownloadStrategy.on_fail, "self, bundle"),
    ],
)
def test_the_signatures_are_the_contract(function: Callable[..., Any], told: str) -> None:
    """Names, order and defaults of parameters are what is promised; 0.2.5's stay positional."""
    assert parameters(function) == told


LATER = [
    *((aiodownload.one, (URL,), name) for name in ("executor", "workers")),
    *((aiodownload.swarm, ([],), name) for name in ("executors", "url_map")),
    *((aiodownload.each, ([],), name) for name in ("executors", "worker")),
    *((AioDownload, (), name) for name in ("durable", "progress")),
    *((AioDownloadBundle, (URL,), name) for name in ("mirror", "sha256")),
    *(
        (kind, (), name)
        for kind in (RequestStrategy, Lenient, BackOff, Polite, Adaptive)
        for name in ("per_hosts", "no_such_setting")
    ),
    *((DownloadStrategy, (), name) for name in ("segment", "resume", "resumable", "no_such_setting")),
]


@pytest.mark.parametrize(("function", "arguments", "name"), LATER)
def test_a_parameter_that_is_not_there_is_refused(
    function: Callable[..., Any], arguments: tuple[Any, ...], name: str
) -> None:
    """An unknown parameter is a TypeError that names it, never silently ignored."""
    with pytest.raises(TypeError, match=name):
        function(*arguments, **{name: None})


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda: RequestStrategy(0), "concurrent"),
        (lambda: RequestStrategy(concurrent=2.5), "concurrent"),  # type: ignore[arg-type]
        (lambda: RequestStrategy(concurrent=True), "concurrent"),
        (lambda: RequestStrategy(1, -1), "max_attempts"),
        (lambda: RequestStrategy(1, 0, 0), "timeout"),
        (lambda: RequestStrategy(timeout=math.nan), "timeout"),
        (lambda: RequestStrategy(max_retry_after=-1), "max_retry_after"),
        (lambda: RequestStrategy(per_host=0), "per_host"),
        (lambda: RequestStrategy(rate=0), "rate"),
        (lambda: RequestStrategy(rate="5"), "rate"),  # type: ignore[arg-type]
        (lambda: RequestStrategy(bandwidth=-1), "bandwidth"),
        (lambda: RequestStrategy(per_host_bandwidth=math.inf), "per_host_bandwidth"),
        (lambda: RequestStrategy(low_speed=1000), "low_speed"),  # type: ignore[arg-type]
        (lambda: RequestStrategy(low_speed=(0, 30)), "low_speed, its bytes"),
        (lambda: RequestStrategy(low_speed=(1000, -1)), "low_speed, its seconds"),
        (lambda: RequestStrategy(deadline=0), "deadline"),
        (lambda: RequestStrategy(retry_budget=-1), "retry_budget"),
        (lambda: RequestStrategy(jitter=1), "jitter"),  # type: ignore[arg-type]
        (lambda: Polite(robots="yes"), "robots"),  # type: ignore[arg-type]
        (lambda: RequestStrategy(contact="me (here)"), "contact"),
        (lambda: BackOff(delay=-1), "delay"),
        (lambda: Lenient(delay="0"), "delay"),  # type: ignore[arg-type]
        (lambda: Polite(split_hosts="https://h"), "split_hosts must be a tuple of origins such as"),
        (lambda: Polite(split_hosts=["h:80"]), "split_hosts must hold origins.*not 'h:80'"),
        (lambda: Polite(split_hosts=["https://h/a"]), "split_hosts must hold origins"),
        (lambda: Polite(split_hosts=["https://u:secret@h"]), "split_hosts must hold origins.*not 'https://h'$"),
        (lambda: Polite(split_hosts=[7]), "split_hosts must hold origins.*not int"),  # type: ignore[list-item]
        (
            lambda: AioDownload(BackOff()),
            r"client: this is a RequestStrategy; give AioDownload\(request_strategy=...\)",
        ),  # type: ignore[arg-type]
        (lambda: AioDownload(DownloadStrategy), "client: this is a DownloadStrategy"),  # type: ignore[arg-type]
        (lambda: aiodownload.swarm([], Lenient()), "download: this is a RequestStrategy"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy("files"), "a folder is home='files'"),  # type: ignore[arg-type]
        (lambda: aiodownload.one([URL]), "use swarm"),  # type: ignore[arg-type]
        (lambda: aiodownload.swarm([], progress=1), "progress must be True"),  # type: ignore[arg-type]
        (lambda: RequestStrategy(contact="a\r\nX: y"), "contact"),
        (lambda: Adaptive(per_host=True), "per_host"),
        (lambda: Lenient("5"), "max_attempts"),  # type: ignore[arg-type]
        (lambda: Lenient(concurrent=0), "concurrent"),
        (lambda: BackOff(timeout="1"), "timeout"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy(0), "chunk_size"),
        (lambda: DownloadStrategy(1.5), "chunk_size"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy(home=7), "home"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy(home=b"x"), "home"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy(home="a\0b"), "home"),
        (lambda: DownloadStrategy(skip_cached="yes"), "skip_cached"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy(skip_cached=None), "skip_cached"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy(max_bytes=-1), "max_bytes"),
        (lambda: DownloadStrategy(max_bytes=1e9), "max_bytes"),  # type: ignore[arg-type]
        (lambda: DownloadStrategy(max_ratio=0), "max_ratio"),
        (lambda: DownloadStrategy(max_ratio=math.inf), "max_ratio"),
        (lambda: AioDownload("http://127.0.0.1/"), "client"),  # type: ignore[arg-type]
        (lambda: AioDownload(None, Lenient()), "download_strategy"),  # type: ignore[arg-type]
        (lambda: AioDownload(None, None, DownloadStrategy()), "request_strategy"),  # type: ignore[arg-type]
        (lambda: AioDownload(request_strategy=Lenient), r"request_strategy.*Lenient\(\)"),  # type: ignore[arg-type]
        (lambda: AioDownload(observers=[print]), "observers"),  # type: ignore[list-item]
        (lambda: AioDownload(observers=7), "observers"),  # type: ignore[arg-type]
        (lambda: aiodownload.one(URL, Lenient()), "download"),  # type: ignore[arg-type]
        (lambda: aiodownload.swarm([URL], "x"), "download"),  # type: ignore[arg-type]
        (lambda: aiodownload.each([URL], None, 7), "download"),  # type: ignore[arg-type]
        (lambda: aiodownload.each([URL], "x"), "url_map"),  # type: ignore[arg-type]
        (lambda: aiodownload.swarm(URL), "one"),
        (lambda: aiodownload.swarm(7), "iterable"),  # type: ignore[arg-type]
        (lambda: aiodownload.each(AioDownloadBundle(URL)), "one"),  # type: ignore[arg-type]
        (lambda: AioDownloadBundle(URL, headers={"Range": "bytes=0-1"}), "headers"),
        (lambda: AioDownloadBundle(URL, params={"a": None}), "params"),
        (lambda: AioDownloadBundle(URL, headers=7), "headers"),  # type: ignore[arg-type]
        (lambda: AioDownloadBundle(URL, headers="X: y"), "headers"),  # type: ignore[arg-type]
        (lambda: AioDownloadBundle(URL, file_path=7), "file_path"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_setting_is_named(make: Callable[[], object], setting: str) -> None:
    """A value that cannot work is a ConfigurationError at once, and its message names the setting."""
    with pytest.raises(ConfigurationError, match=setting) as caught:
        make()
    assert isinstance(caught.value, AioDownloadError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("item", [7, None, b"http://127.0.0.1/", 1.5])
def test_an_item_that_is_no_url_hurts_no_other(
    server: FaultServer, quick: Callable[..., AioDownload], item: Any
) -> None:
    """An item that is neither text, URL nor bundle is a failed bundle with the item as info."""
    bundles = aiodownload.swarm([item, server.on("/x", ok(b"x"))], quick())
    assert [bundle.ok for bundle in bundles] == [False, True]
    assert bundles[0].info is item


def test_settings_of_download_strategy_are_readable(tmp_path: Path) -> None:
    """Each setting is an attribute of its name; ``home`` is an absolute str."""
    strategy = DownloadStrategy(1, tmp_path / "x" / ".." / "y", True, max_bytes=5, max_ratio=None)
    assert (strategy.chunk_size, strategy.skip_cached, strategy.max_bytes, strategy.max_ratio) == (1, True, 5, None)
    assert strategy.home == str(tmp_path / "y")


@pytest.mark.parametrize("home", [None, ""])
def test_home_is_the_current_folder(home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home, files go below the folder that is current when the strategy is made."""
    monkeypatch.chdir(tmp_path)
    strategy = DownloadStrategy(home=home)
    monkeypatch.chdir("/")
    assert strategy.home == str(tmp_path)


def test_constructing_opens_nothing(tmp_path: Path) -> None:
    """Making every object touches neither a disk nor a loop; ``repr`` tells the state."""
    download = AioDownload(aiohttp.ClientSession, DownloadStrategy(home=tmp_path / "home"), BackOff())
    assert repr(download) == "<AioDownload DownloadStrategy, BackOff, not entered>"
    assert not (tmp_path / "home").exists()


def test_an_async_iterable_is_not_for_the_facade() -> None:
    """The facade says what to use for an async iterable."""

    async def urls() -> Any:
        yield URL

    for call in (aiodownload.swarm, aiodownload.each):
        with pytest.raises(UsageError, match="async with"):
            call(urls())  # type: ignore[operator]
