"""Checks of get_file_path: the same answer twice, without I/O, below home, and another one for another URL."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable

from ..bundle import AioDownloadBundle
from ..errors import DownloadError
from ..storage.paths import is_below
from ..storage.strategy import DownloadStrategy
from .probes import described, touching
from .rules import Findings, Rule

__all__ = ["URLS", "check_paths"]

URLS = (
    "https://a.example/",
    "https://a.example/one.csv",
    "https://a.example/two.csv",
    "https://a.example/2025/one.csv",
    "https://a.example/2026/one.csv",
    "https://a.example/one.csv?page=1",
    "https://a.example/one.csv?page=2",
    "https://a.example/1/2",
    "https://a.example/12",
    "https://b.example/one.csv",
)
_EVIL = (
    "..%2f..%2fetc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "a%5c..%5c..%5cetc/passwd",
    "%2fetc%2fpasswd",
    "%252e%252e%252fetc",
)


def check_paths(
    strategy: DownloadStrategy, urls: list[str], make: Callable[[str], AioDownloadBundle], findings: Findings
) -> bool:
    """Ask for paths, more than once, of good URLs and of bad ones.

    :param urls: what the strategy is meant for; the bad ones are at the first one's host.
    :param make: makes the bundle of a URL.
    :returns: whether it has paths to write to.
    """
    found: dict[str, str] = {}
    for url in urls:
        where = f"get_file_path for {url}"
        first = _path(strategy, make(url), where, findings)
        if first is None:
            continue
        with touching() as calls:
            second = _path(strategy, make(url), where, findings)
        if calls:
            seen = f"it called {', '.join(sorted(set(calls)))}"
            findings.add(Rule.PURE_PATH, where, seen, "an answer from the bundle and the settings alone")
        if second != first:
            findings.add(Rule.PURE_PATH, where, f"{first!r}, then {second!r}", "the same path twice")
        elif (other := found.setdefault(os.path.normcase(first), url)) != url:
            findings.add(Rule.DISTINCT_PATHS, where, f"{first!r}, as for {other}", "a path that no other URL has")
        _check_below(strategy, first, where, findings)
    origin = urls[0].partition("://")[2].partition("/")[0] if urls else "a.example"
    for evil in _EVIL:
        url = f"https://{origin}/{evil}"
        where = f"get_file_path for {url}"
        place = _path(strategy, make(url), where, findings)
        if place is not None:
            _check_below(strategy, place, where, findings)
    if os.path.exists(strategy.home):
        findings.add(Rule.PURE_PATH, "get_file_path", "it made the folder home", "the run makes folders")
    return bool(found) and not findings.has(Rule.BELOW_HOME)


def _path(strategy: DownloadStrategy, bundle: AioDownloadBundle, where: str, findings: Findings) -> str | None:
    try:
        path: object = strategy.get_file_path(bundle)
    except DownloadError:  # it refuses the URL
        return None
    except Exception as error:
        findings.add(
            Rule.NO_BUGS, where, f"it raised {described(error)}", "a str, or a DownloadError to refuse the URL"
        )
        return None
    if isinstance(path, str):
        return path
    if inspect.iscoroutine(path):
        path.close()
        findings.add(Rule.ASYNC_HOOKS, where, "it returned a coroutine", "def, without async")
    else:
        findings.add(Rule.PURE_PATH, where, f"it returned {path!r}", "a str")
    return None


def _check_below(strategy: DownloadStrategy, path: str, where: str, findings: Findings) -> None:
    home = strategy.home
    steps = path.replace("\\", "/").split("/")
    if ".." in steps or "\0" in path or not is_below(os.path.normpath(os.path.join(home, path)), home):
        right = "a path below home without '..', such as the one that super().get_file_path() returns"
        findings.add(Rule.BELOW_HOME, where, repr(path.replace(home, "<home>")), right)
