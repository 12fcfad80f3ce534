"""The exception tree: as it is drawn, able to travel, and without secrets."""

from __future__ import annotations

import copy
import errno
import inspect
import math
import os
import pickle
import re

import cloudpickle
import pytest

from aiodownload import AioDownloadBundle, errors
from aiodownload.errors import (
    AioDownloadError,
    CodingError,
    ConfigurationError,
    DigestError,
    DiskError,
    DownloadError,
    HomeError,
    InvalidURLError,
    JournalError,
    MissingExtraError,
    PathError,
    RetryAfterError,
    StatusError,
    StoreError,
    StrategyError,
    TLSError,
    TooLargeError,
    TransportError,
    UsageError,
)

CLASSES = {name: getattr(errors, name) for name in errors.__all__}

# Each class with arguments as the library gives them.
EXAMPLES: list[AioDownloadError] = [
    AioDownloadError("words"),
    ConfigurationError("concurrent must be a whole number of at least 1, not 0"),
    MissingExtraError("the command line", "cli"),
    UsageError("entered already"),
    HomeError("/nowhere", "No such file or directory"),
    JournalError("/nowhere/j.db", "cannot open: No such file or directory"),
    StrategyError(None, "on_success", "ValueError: 7"),
    DownloadError("words"),
    InvalidURLError("http://user:secret@[x", "it is no URL"),
    PathError("/home/x", "another URL of this run is written there"),
    *(
        getattr(errors, name)("what happened", transient)
        for name in (
            "TransportError",
            "ResolveError",
            "AddressError",
            "ConnectError",
            "HostDownError",
            "LowSpeedError",
            "TLSError",
            "StallError",
            "DisconnectError",
            "ProtocolError",
            "BodyError",
        )
        for transient in (None, True, False)
    ),
    errors.ResponseError("status 418", 418),
    StatusError("status 404 Not Found", 404),
    StatusError("no status"),
    errors.RedirectError("more than 10 redirects", 302),
    RetryAfterError("too long", 503, 7200.0),
    RetryAfterError("for ever", 429, math.inf),
    RetryAfterError("bare"),
    errors.RobotsError("the host's robots.txt does not allow it"),
    errors.RobotsError("it cannot be had", True),
    errors.DeadlineError(30.0),
    errors.DeadlineError(30.0, "status 503"),
    errors.WorkerError("lost three times"),
    errors.WorkerError("cut off twice", False),
    errors.ExecutorError("it is shut down"),
    CodingError("broken", True),
    CodingError("unknown"),
    DigestError("sha256", "34cd" * 16, "12ab" * 16, "digest"),
    DigestError("md5", "34cd" * 8, "12ab" * 8, "Content-MD5", True),
    TooLargeError(10, 9),
    DiskError("/home/x", errno.ENOSPC),
    DiskError("/home/x", errno.EACCES, "rename to"),
    DiskError("/home/x", None, "finish"),
    StoreError("s3://bucket/x", "403 Forbidden AccessDenied"),
]


def drawn() -> dict[str, str]:
    """Class -> its base, as the tree in the docstring of the module shows them."""
    bases: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( {4})([\u2502\u251c\u2514\u2500 ]*)([A-Z]\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[2])
        while above and above[-1][0] >= depth:
            above.pop()
        bases[found[3]] = above[-1][1] if above else ""
        above.append((depth, found[3]))
    return bases


def test_the_tree_is_drawn_as_it_is() -> None:
    """The docstring of the module draws each class of ``__all__`` below its base, and no other."""
    tree = drawn()
    assert set(tree) == set(CLASSES)
    for name, base in tree.items():
        first = CLASSES[name].__bases__[0].__name__
        assert first == (base or "Exception"), name


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(ConfigurationError, ValueError), (MissingExtraError, ImportError), (UsageError, RuntimeError)],
)
def test_mistakes_are_also_builtin_errors(kind: type[AioDownloadError], builtin: type[Exception]) -> None:
    """Who catches ValueError, ImportError or RuntimeError catches these, and the drawing says so."""
    assert issubclass(kind, builtin)
    assert re.search(rf"{kind.__name__} .*\(also an? {builtin.__name__}\)", errors.__doc__ or "")


def test_there_is_an_example_of_each_class() -> None:
    """The tests below leave no class out."""
    assert {type(error).__name__ for error in EXAMPLES} == set(CLASSES)


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_each_error_pickles(error: AioDownloadError, dumps: object) -> None:
    """An error arrives in another process with its class, its arguments, its text and its attributes."""
    arrived = pickle.loads(dumps(error))  # type: ignore[operator]
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    assert str(arrived) == str(error)
    assert repr(arrived) == repr(error)
    assert vars(arrived) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_each_error_can_be_copied_and_made_again(error: AioDownloadError) -> None:
    """``type(error)(*error.args)`` is the same error, which is what pickling relies on."""
    for other in (copy.copy(error), copy.deepcopy(error), type(error)(*error.args)):
        assert (type(other), other.args, str(other)) == (type(error), error.args, str(error))


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_each_error_carries_plain_data(error: AioDownloadError) -> None:
    """The arguments are text and numbers, and the message is one line of words."""
    assert all(isinstance(part, (str, int, float, type(None))) for part in error.args)
    assert str(error)
    assert str(error).isprintable()


def test_a_strategy_error_takes_its_bundles_along() -> None:
    """The bundle in hand and those that were settled arrive with the error."""
    error = StrategyError(AioDownloadBundle("http://h.test/x", 7), "retry", "KeyError: 'a'")
    error.settled = [AioDownloadBundle("http://h.test/y")]
    arrived = pickle.loads(pickle.dumps(error))
    assert arrived.bundle.url == "http://h.test/x"
    assert arrived.bundle.info == 7
    assert [bundle.url for bundle in arrived.settled] == ["http://h.test/y"]
    assert str(arrived) == str(error) == "retry failed for http://h.test/x: KeyError: 'a'"


def test_no_secret_in_any_message() -> None:
    """A URL with a password is shown without it, in text, repr, arguments and pickle."""
    url = "http://user:secret@h.test/x"
    for error in (InvalidURLError(url, "no"), StrategyError(AioDownloadBundle(url), "retry", "bug")):
        assert "secret" not in str(error)
        assert "secret" not in repr(error)
    invalid = InvalidURLError(url, "no")
    assert invalid.url == invalid.args[0] == "http://h.test/x"
    assert b"secret" not in pickle.dumps(invalid)


@pytest.mark.parametrize(
    "error",
    [
        InvalidURLError("http://h.test/\x1b[2J\r\n", "no"),
        PathError("/home/\x1b[2J\n", "no"),
        TransportError("\x1b[2J\r\n"),
        StatusError("status 404 \x1b]0;pwn\x07\u202e", 404),
        CodingError("\x9b2J"),
        DigestError("\x1b", "\r", "\n", "\u202e"),
        DiskError("/home/\x1b\n", errno.EIO),
        StrategyError(None, "retry", "ValueError: \x1b\r\n"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_message_acts_on_a_terminal(error: AioDownloadError) -> None:
    """Control and format characters that came from outside are shown as escapes."""
    assert str(error).isprintable()


@pytest.mark.parametrize("kind", [kind for kind in CLASSES.values() if issubclass(kind, TransportError)])
def test_transport_errors_are_usually_transient(kind: type[TransportError]) -> None:
    """Without being told, a transport error is transient, but for an address that is refused; being told decides."""
    assert kind("words").transient is (kind is not errors.AddressError)
    assert kind("words", False).transient is False
    assert kind("words", True).transient is True


@pytest.mark.parametrize(
    "error",
    [
        InvalidURLError("x", "no"),
        PathError("/x", "no"),
        StatusError("status 500", 500),
        TooLargeError(2, 1),
        DiskError("/x", errno.ENOSPC),
        CodingError("unknown"),
        DigestError("md5", "00", "01", "digest"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_another_try_would_not_mend_is_not_transient(error: DownloadError) -> None:
    """URLs, paths, answers, limits and disks do not get better by asking again."""
    assert error.transient is False


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EFBIG, "EFBIG"),
        (errno.EROFS, "EROFS"),
        (errno.EACCES, "EACCES"),
        (errno.ENAMETOOLONG, "ENAMETOOLONG"),
        (None, "disk_error"),
        (99999, "disk_error"),
    ],
)
def test_the_reason_of_a_disk_error(code: int | None, reason: str) -> None:
    """A full disk is called so, any other error by its symbol, and the message holds both words and reason."""
    error = DiskError("/home/x", code, "rename to")
    assert error.reason == reason
    assert str(error).startswith("cannot rename to '/home/x': ")
    assert str(error).endswith(f"({reason})")
    if code is not None:
        assert os.strerror(code) in str(error)


def test_messages_say_what_to_do() -> None:
    """A missing extra names the line to type; a home that cannot be used names the setting."""
    assert "pip install 'aiodownload[cli]'" in str(MissingExtraError("the command line", "cli"))
    assert "home=" in str(HomeError("/x", "no"))
    assert str(TooLargeError(10, 9)) == "the body has 10 bytes or more, and max_bytes is 9"


@pytest.mark.parametrize(
    ("source", "who"), [("digest", "the caller's digest"), ("Repr-Digest", "the field Repr-Digest")]
)
def test_a_digest_error_shows_both_checksums(source: str, who: str) -> None:
    """All digits of what came and of what was expected, and who expected it; a later try may be declared worth it."""
    error = DigestError("sha256", "34cd" * 16, "12ab" * 16, source, True)
    expected = f"the file is not the one expected: sha256 is {'12ab' * 16}, {who} says {'34cd' * 16}"
    assert str(error) == expected
    assert (error.algorithm, error.expected_hex, error.actual_hex, error.source) == error.args[:4]
    assert error.transient is error.args[4] is True


def test_a_refused_certificate_is_believed() -> None:
    """The one TLS error that is not transient is told so."""
    assert TLSError("the certificate is refused", False).transient is False


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES.keys())
def test_each_class_says_when_it_is_raised(kind: type[AioDownloadError]) -> None:
    """Every class has a docstring of its own."""
    assert kind.__dict__.get("__doc__")
    assert inspect.getdoc(kind) != inspect.getdoc(kind.__bases__[0])
