"""RequestStrategy, Lenient and BackOff: their settings, and their answers."""

from __future__ import annotations

import inspect
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    BackOff,
    BodyError,
    CodingError,
    ConfigurationError,
    ConnectError,
    DigestError,
    DiskError,
    DownloadStrategy,
    Lenient,
    PathError,
    RequestStrategy,
    StallError,
    StatusError,
    TLSError,
    TooLargeError,
)
from aiodownload.testing import FaultServer, status

STRATEGIES = [RequestStrategy, Lenient, BackOff]
LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


@dataclass
class Answer:
    """As much of a response as the hooks look at."""

    status: int
    reason: str | None = "Because"


class Eager(RequestStrategy):
    """Sets an attribute of its own after ``super().__init__``, as strategies of 0.2.5 do."""

    def __init__(self) -> None:
        super().__init__()
        self.concurrent = 7


def tried(attempts: int) -> AioDownloadBundle:
    """A bundle that was tried so many times."""
    bundle = AioDownloadBundle("http://127.0.0.1/x")
    bundle.attempts = attempts
    return bundle


@pytest.mark.parametrize(
    ("strategy", "concurrent", "max_attempts"),
    [
        (RequestStrategy(), 2, 0),
        (Lenient(), 2, 5),
        (BackOff(), 2, 10),
        (Lenient(3), 2, 3),
        (BackOff(max_attempts=4), 2, 4),
        (RequestStrategy(8, 3), 8, 3),
        (Eager(), 7, 0),
    ],
)
def test_settings_are_readable(strategy: RequestStrategy, concurrent: int, max_attempts: int) -> None:
    """Each setting is an attribute of its name: the defaults, the given ones, and those set after ``__init__``."""
    assert (strategy.concurrent, strategy.max_attempts) == (concurrent, max_attempts)
    assert strategy.timeout == 60
    assert strategy.max_retry_after == 3600


@pytest.mark.parametrize("kind", STRATEGIES)
def test_all_take_the_base_settings_by_keyword(kind: type[RequestStrategy]) -> None:
    """Every ready-made strategy takes the base's settings by keyword."""
    strategy = kind(concurrent=9, max_attempts=3, timeout=1.5, max_retry_after=0)
    assert (strategy.concurrent, strategy.max_attempts, strategy.timeout, strategy.max_retry_after) == (9, 3, 1.5, 0)


def test_positional_settings_keep_their_order() -> None:
    """0.2.5's positional order stays: concurrent, max_attempts, timeout; max_attempts alone for the ready-made ones."""
    strategy = RequestStrategy(3, 4, 5)
    assert (strategy.concurrent, strategy.max_attempts, strategy.timeout) == (3, 4, 5)
    with pytest.raises(TypeError):
        RequestStrategy(3, 4, 5, 6)  # type: ignore[misc]
    for kind in (Lenient, BackOff):
        with pytest.raises(TypeError):
            kind(3, 4)  # type: ignore[misc]


@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("concurrent", 0),
        ("concurrent", -1),
        ("concurrent", 1.5),
        ("concurrent", "2"),
        ("concurrent", True),
        ("concurrent", None),
        ("max_attempts", -1),
        ("max_attempts", 2.0),
        ("max_attempts", None),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", math.inf),
        ("timeout", math.nan),
        ("timeout", None),
        ("timeout", "60"),
        ("max_retry_after", -1),
        ("max_retry_after", math.nan),
        ("max_retry_after", None),
    ],
)
def test_a_wrong_setting_is_named(kind: type[RequestStrategy], setting: str, value: Any) -> None:
    """A value that cannot work is refused when it is given, naming the setting and the value."""
    with pytest.raises(ConfigurationError, match=setting) as caught:
        kind(**{setting: value})
    assert repr(value) in str(caught.value)


def test_a_setting_that_was_made_wrong_later_is_found_before_the_first_request(server: FaultServer, home: Path) -> None:
    """Settings that were changed after ``__init__`` are checked when a run begins."""
    strategy = Lenient()
    strategy.concurrent = 0
    with pytest.raises(ConfigurationError, match="concurrent"):
        aiodownload.one(server.url("/x"), AioDownload(None, DownloadStrategy(home=home), strategy))
    assert not server.requests


@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize("code", [100, 199, 200, 204, 206, 301, 304, 399])
def test_below_400_is_successful(kind: type[RequestStrategy], code: int) -> None:
    """``assert_response`` returns for every status below 400."""
    assert kind().assert_response(Answer(code)) is None  # type: ignore[arg-type,func-returns-value]


@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize("code", [400, 401, 404, 429, 499, 500, 503, 599])
def test_400_and_above_is_unsuccessful(kind: type[RequestStrategy], code: int) -> None:
    """``assert_response`` raises AssertionError, naming the status, from 400 on."""
    with pytest.raises(AssertionError, match=f"{code} Because"):
        kind().assert_response(Answer(code))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=f"{code}$"):
        kind().assert_response(Answer(code, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [*range(400, 600), 200])
def test_which_statuses_are_tried_again(code: int) -> None:
    """The base never tries a status again, Lenient all but 404, BackOff those that say "later"."""
    answer: Any = Answer(code)
    assert RequestStrategy().retry(answer) is False
    assert Lenient().retry(answer) is (code != 404)
    assert BackOff().retry(answer) is (code in LATER)


@pytest.mark.parametrize("kind", STRATEGIES)
@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectError("refused"), True),
        (StallError("silent"), True),
        (BodyError("cut"), True),
        (TLSError("broke"), True),
        (TLSError("expired", False), False),
        (CodingError("broken", True), True),
        (CodingError("unknown"), False),
        (DigestError("sha256", "34cd" * 16, "12ab" * 16, "digest", True), True),
        (DigestError("sha256", "34cd" * 16, "12ab" * 16, "digest"), False),
        (DiskError("/x", 28), False),
        (TooLargeError(2, 1), False),
        (PathError("/x", "no"), False),
        (StatusError("status 500", 500), False),
    ],
)
def test_transient_errors_are_tried_again(kind: type[RequestStrategy], error: Any, again: bool) -> None:
    """``retry_error`` answers with what the error says of itself."""
    assert kind().retry_error(error) is again


def test_the_base_does_not_wait() -> None:
    """The base answers -1: no wait."""
    assert [RequestStrategy().get_sleep_time(tried(attempts)) for attempts in (0, 1, 9)] == [-1, -1, -1]


def test_lenient_waits_a_minute_between_tries() -> None:
    """Lenient: 0.25 s between starts, then 60 s between the tries of a bundle."""
    assert [Lenient().get_sleep_time(tried(attempts)) for attempts in range(4)] == [0.25, 60, 60, 60]


def test_back_off_doubles_up_to_a_minute() -> None:
    """BackOff: 0.25, 0.5, 1, 2 … 60 s, and no overflow after a million tries."""
    waits = [BackOff().get_sleep_time(tried(attempts)) for attempts in range(11)]
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert BackOff().get_sleep_time(tried(10**6)) == 60


@pytest.mark.parametrize("kind", STRATEGIES)
def test_strategies_pickle(kind: type[RequestStrategy]) -> None:
    """A strategy arrives with its settings in another process, by pickle and by cloudpickle."""
    strategy = kind(concurrent=3, max_attempts=4, timeout=5, max_retry_after=6)
    for copy in (pickle.loads(pickle.dumps(strategy)), pickle.loads(cloudpickle.dumps(strategy))):
        assert type(copy) is kind
        assert vars(copy) == vars(strategy)


@pytest.mark.parametrize("kind", STRATEGIES)
def test_hooks_keep_their_names_and_calls(kind: type[RequestStrategy]) -> None:
    """The hooks of 0.2.5 take the parameters that they took."""
    calls = {"assert_response": "response", "retry": "response", "retry_error": "error", "get_sleep_time": "bundle"}
    for name, parameter in calls.items():
        assert list(inspect.signature(getattr(kind, name)).parameters) == ["self", parameter]


class QuickBackOff(BackOff):
    """BackOff's answers without its waits."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 0


@pytest.mark.parametrize(("tries", "asked"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_max_attempts_is_the_total_number_of_tries(server: FaultServer, quick: Any, tries: int, asked: int) -> None:
    """A server that always says "later" is asked max_attempts times; 0 and 1 both mean once."""
    url = server.on("/busy", status(503))
    bundle = aiodownload.one(url, quick(QuickBackOff(max_attempts=tries)))
    assert len(server.asked("/busy")) == bundle.attempts == asked
    assert not bundle.ok


def test_the_base_tries_once(server: FaultServer, quick: Any) -> None:
    """RequestStrategy's ``retry`` is False: many attempts allowed, one made."""
    url = server.on("/busy", status(503))
    assert aiodownload.one(url, quick(RequestStrategy(max_attempts=5))).attempts == 1
