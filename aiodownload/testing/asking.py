"""Checks of a RequestStrategy: every answer that it gives, to real responses of a server that misbehaves."""

from __future__ import annotations

import contextlib
import inspect
import math
import numbers
import tempfile
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from multidict import CIMultiDict

from ..api import one, swarm
from ..bundle import AioDownloadBundle, Status
from ..download import AioDownload
from ..errors import (
    AddressError,
    BodyError,
    CodingError,
    ConnectError,
    DigestError,
    DisconnectError,
    DownloadError,
    HostDownError,
    LowSpeedError,
    ProtocolError,
    ResolveError,
    RobotsError,
    StallError,
    StatusError,
    StrategyError,
    TLSError,
)
from ..request.strategy import RequestStrategy, check_request_settings
from ..storage.strategy import DownloadStrategy
from .answers import cut, drop, ok, slow, status
from .probes import check_pickles, check_settings, check_state, described, made, state
from .rules import Findings, Rule
from .server import FaultServer, Script

if TYPE_CHECKING:
    from aiohttp import ClientResponse

__all__ = ["check_request_strategy"]

T = TypeVar("T")

URL = "https://a.example/one.csv"
STATUSES = sorted({*(code.value for code in HTTPStatus if code >= 200), 299, 399, 430, 499, *range(520, 527), 599})
LONGEST = 0.01  # seconds that a wait takes here, whatever the strategy says
SPACING = 0.05  # the same for the spacing of starts
MOST = 6  # tries, whatever max_attempts says
FARTHEST = 2000  # attempts for which get_sleep_time is asked
AT_ONCE = 5

# What a trial is not to be held up or refused by.
_TRIAL_SETTINGS = {
    "rate": None,
    "bandwidth": None,
    "per_host_bandwidth": None,
    "low_speed": None,
    "deadline": None,
    "retry_budget": None,
    "robots": False,
    "public_only": False,
    "timeout": 5,
}


def check_request_strategy(
    strategy: RequestStrategy | Callable[[], RequestStrategy],
    *,
    bundle: Callable[[str], AioDownloadBundle] = AioDownloadBundle,
    skip: Collection[Rule] = (),
) -> None:
    """Try a :class:`~aiodownload.RequestStrategy` against a server that misbehaves; a few seconds.

    Its hooks get real responses of every kind of status, and every kind of error.  Waits are asked for and judged, and
    not waited: no more than 0.01 s each.  Limits that would hold the check up or refuse the server (``rate``,
    ``bandwidth``, ``per_host_bandwidth``, ``low_speed``, ``deadline``, ``retry_budget``, ``robots``, ``public_only``)
    are off, and there are six tries at most.  The call blocks; in a coroutine use :func:`asyncio.to_thread`.

    :param strategy: the strategy, of which a copy is tried, or what makes one without arguments, such as its class.
    :param bundle: makes the bundle of a URL, where the strategy needs more than that, such as an ``info``.
    :param skip: rules that are not checked (:class:`Rule`).
    :raises ConformanceError: with every rule that was found to be broken.
    :raises TypeError: for what is no strategy and makes none.
    """
    findings = Findings(skip)
    tried = made(strategy, RequestStrategy, None, findings)
    if tried is not None and check_settings(tried, RequestStrategy, check_request_settings, findings):
        check_pickles(tried, RequestStrategy, findings)
        spacing = _check_sleep_times(tried, bundle, findings)
        _check_retry_error(tried, findings)
        with FaultServer() as server, tempfile.TemporaryDirectory(prefix="aiodownload-check-") as home:
            _Trial(tried, server, home, bundle, spacing, findings).run()
    findings.tell()


def _tried(make: Callable[[str], AioDownloadBundle], attempts: int) -> AioDownloadBundle:
    """A bundle as it is after so many tries."""
    bundle = make(URL)
    bundle.attempts = attempts
    if attempts:
        bundle.status, bundle.http_status = Status.ATTEMPTED, 503
        bundle.error, bundle.response_headers = StatusError("status 503 Service Unavailable", 503), CIMultiDict()
    return bundle


def _check_sleep_times(
    strategy: RequestStrategy, make: Callable[[str], AioDownloadBundle], findings: Findings
) -> float:
    """Ask for every wait that a run could ask for; return the spacing in seconds."""
    waits: dict[int, float] = {}
    for attempts in range(min(max(1, strategy.max_attempts), FARTHEST) + 1):
        wait = _sleep_time(strategy.get_sleep_time, _tried(make, attempts), findings)
        if wait is None:
            break
        waits[attempts] = wait
    later = [wait for attempts, wait in waits.items() if attempts]
    if any(wait < 0 for wait in later) and any(wait > 0 for wait in later):
        at = next(attempts for attempts, wait in waits.items() if attempts and wait < 0)
        seen = f"{waits[at]!r} s at attempts == {at}, and more than 0 at others"
        findings.add(Rule.SLEEP_TIME, "get_sleep_time", seen, "0 or more, unless there is never a wait")
    return max(0.0, waits.get(0, 0.0))


def _sleep_time(
    hook: Callable[[AioDownloadBundle], Any], bundle: AioDownloadBundle, findings: Findings
) -> float | None:
    """Ask for one wait; None if it is none."""
    attempts = bundle.attempts
    where, right = f"get_sleep_time at attempts == {attempts}", "a finite number of seconds, such as 0 for none"
    try:
        wait = hook(bundle)
    except Exception as error:
        findings.add(Rule.SLEEP_TIME, where, f"it raised {described(error)}", right)
        return None
    if bundle.attempts != attempts:
        findings.add(Rule.ATTEMPTS, where, f"it set bundle.attempts to {bundle.attempts}", "leave it: the run counts")
        bundle.attempts = attempts
    if isinstance(wait, numbers.Real) and math.isfinite(wait):
        return float(wait)
    findings.add(*_told("get_sleep_time", Rule.SLEEP_TIME, where, wait, right))
    return None


def _told(hook: str, rule: Rule, where: str, answer: object, right: str) -> tuple[Rule, str, str, str]:
    """The finding for an answer of the wrong kind."""
    if inspect.iscoroutine(answer):
        answer.close()
        return Rule.ASYNC_HOOKS, hook, "it returned a coroutine", "def, without async"
    return rule, where, f"it returned {answer!r}", right


def _check_retry_error(strategy: RequestStrategy, findings: Findings) -> None:
    for error in _errors():
        _yes_or_no(strategy.retry_error, error, Rule.RETRY_ERROR, f"retry_error({type(error).__name__})", findings)


def _errors() -> list[DownloadError]:
    """What a run asks retry_error about."""
    kinds = (
        *(ResolveError, AddressError, ConnectError, HostDownError, TLSError, StallError),
        *(LowSpeedError, DisconnectError, ProtocolError, BodyError),
    )
    errors: list[DownloadError] = [kind("for a check", transient) for kind in kinds for transient in (True, False)]
    errors += [kind("for a check", transient) for kind in (CodingError, RobotsError) for transient in (True, False)]
    return [*errors, *(DigestError("sha256", "00", "ff", "digest", transient) for transient in (True, False))]


def _yes_or_no(hook: Callable[[Any], object], of: object, rule: Rule, where: str, findings: Findings) -> bool:
    """Ask ``hook``; what is no answer counts as no."""
    try:
        answer = hook(of)
    except Exception as error:
        findings.add(rule, where, f"it raised {described(error)}", "True or False")
        return False
    if isinstance(answer, bool):
        return answer
    findings.add(*_told(hook.__name__, rule, where, answer, "True or False"))
    return False


class _Watch:
    """Stands between the library and the hooks: judges every answer, passes on what a run can work with."""

    HOOKS = frozenset({"assert_response", "retry", "retry_error", "get_sleep_time"})

    def __init__(self, strategy: RequestStrategy, findings: Findings) -> None:
        self._strategy = strategy
        self._most = strategy.max_attempts
        self._findings = findings
        self._assert_response: Callable[[ClientResponse], object] = strategy.assert_response
        self._retry = strategy.retry
        self._retry_error = strategy.retry_error
        self._get_sleep_time = strategy.get_sleep_time
        vars(strategy).update({name: getattr(self, name) for name in self.HOOKS})

    def assert_response(self, response: ClientResponse) -> None:
        """Judge, and ask about another try as well: there may be one after any response."""
        where, right = f"assert_response for status {response.status}", "return None, or raise AssertionError"
        self.retry(response)
        try:
            answer = self._assert_response(response)
        except AssertionError:
            raise
        except Exception as error:
            self._findings.add(Rule.ASSERT_RESPONSE, where, f"it raised {described(error)}", right)
            raise AssertionError("what it raised is no answer") from error
        if answer is not None:
            self._findings.add(*_told("assert_response", Rule.ASSERT_RESPONSE, where, answer, right))

    def retry(self, response: ClientResponse) -> bool:
        """Judge."""
        where = f"retry for status {response.status}"
        return self._unchanged(where, _yes_or_no(self._retry, response, Rule.RETRY, where, self._findings))

    def retry_error(self, error: DownloadError) -> bool:
        """Judge."""
        where = f"retry_error({type(error).__name__})"
        return self._unchanged(where, _yes_or_no(self._retry_error, error, Rule.RETRY_ERROR, where, self._findings))

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """Judge, and make it short."""
        wait = _sleep_time(self._get_sleep_time, bundle, self._findings) or 0.0
        wait = min(wait, LONGEST if bundle.attempts else SPACING)
        return self._unchanged(f"get_sleep_time at attempts == {bundle.attempts}", wait)

    def tries(self, most: int) -> None:
        """From now on there are so many."""
        self._most = self._strategy.max_attempts = most

    def _unchanged(self, where: str, answer: T) -> T:
        """Return ``answer``; without a limit of tries the check would not end."""
        if self._strategy.max_attempts != self._most:
            seen = f"it set max_attempts to {self._strategy.max_attempts}"
            self._findings.add(Rule.ATTEMPTS, where, seen, "leave it: retry may say False instead")
            self._strategy.max_attempts = self._most
        return answer


class _Trial:
    """One strategy, and the server that it is tried against."""

    def __init__(
        self,
        strategy: RequestStrategy,
        server: FaultServer,
        home: str,
        bundle: Callable[[str], AioDownloadBundle],
        spacing: float,
        findings: Findings,
    ) -> None:
        self._strategy = strategy
        self._server = server
        self._home = home
        self._bundle = bundle
        self._spacing = min(spacing, SPACING)
        self._findings = findings
        self._most = min(max(1, strategy.max_attempts), MOST)
        for name, value in _TRIAL_SETTINGS.items():
            self._set(name, value)

    def run(self) -> None:
        """Ask for everything that the server has."""
        watch = _Watch(self._strategy, self._findings)
        before = state(self._strategy, RequestStrategy, _Watch.HOOKS | {"max_attempts"})
        watch.tries(1)
        for code in STATUSES:
            self._one(f"/{code}", status(code, b"" if code in (204, 304) else b"a body"))
        self._one("/json", ok(b"{}", Content_Type="application/json"))
        self._one("/no-type", ok(b"\x00\xff", Content_Type="nonsense"))
        watch.tries(self._most)
        for path, script in (("/busy", status(503)), ("/cut", cut(b"a body", 3)), ("/dropped", drop())):
            self._count(path, script)
        self._at_once()
        check_state(before, state(self._strategy, RequestStrategy, _Watch.HOOKS | {"max_attempts"}), self._findings)

    def _set(self, name: str, value: object) -> None:
        with contextlib.suppress(AttributeError):  # a property of the strategy's own
            setattr(self._strategy, name, value)

    def _download(self) -> AioDownload:
        return AioDownload(None, DownloadStrategy(home=self._home), self._strategy)

    def _one(self, path: str, script: Script) -> AioDownloadBundle | None:
        # A run for each of them: what one run has heard of a host slows it down.
        try:
            return one(self._bundle(self._server.on(path, script)), self._download())
        except StrategyError as error:
            self._findings.add(Rule.NO_BUGS, path, str(error), "no exception")
            return None

    def _count(self, path: str, script: Script) -> None:
        bundle = self._one(path, script)
        if bundle is not None and bundle.attempts > self._most:
            seen = f"{bundle.attempts} tries"
            self._findings.add(Rule.ATTEMPTS, f"{path} at a server that never has it", seen, f"{self._most} at most")

    def _at_once(self) -> None:
        """Several in one run: how far apart they start."""
        paths = [f"/at-once/{number}" for number in range(AT_ONCE)]
        urls = [self._server.on(path, slow(b"a body", 2, 0.01)) for path in paths]
        try:
            swarm([self._bundle(url) for url in urls], self._download())
        except StrategyError as error:
            self._findings.add(Rule.NO_BUGS, "several at once", str(error), "no exception")
            return
        starts = sorted(request.at for path in paths for request in self._server.asked(path)[:1])
        least = self._spacing * (len(starts) - 1)
        # Two threads, two clocks: the first request may have been noted late.
        if starts and starts[-1] - starts[0] < least * 0.8:
            seen = f"{len(starts)} starts within {starts[-1] - starts[0]:.3f} s"
            right = f"at least {self._spacing} s apart, and so {least:.2f} s in all"
            self._findings.add(Rule.SPACING, "several at once", seen, right)
