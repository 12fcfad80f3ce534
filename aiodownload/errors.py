"""The exception tree: what can go wrong, drawn once.

::

    AioDownloadError
    ├── ConfigurationError         a setting is wrong; names the setting          (also a ValueError)
    ├── MissingExtraError          an optional package is absent; names the pip line  (also an ImportError)
    ├── UsageError                 a call that cannot work in this place         (also a RuntimeError)
    ├── HomeError                  the folder or the object store for the files cannot be used
    ├── JournalError               the journal cannot be used, or written any more; .settled
    ├── StrategyError              a bug in a user's strategy; .bundle, .settled
    ├── ExecutorError              the executor takes no work any more, or lost it; .settled
    └── DownloadError              why one bundle failed: what bundle.error holds
        ├── InvalidURLError        no http(s) URL
        ├── PathError              no safe place for the file
        ├── TransportError         no usable response, or a broken body; .transient
        │   ├── ResolveError       the host's name has no address
        │   ├── AddressError       the host's address is not public, and only such are allowed
        │   ├── ConnectError       no connection
        │   ├── HostDownError      the host has not answered for a while, and is not asked now
        │   ├── TLSError           no trusted connection
        │   ├── StallError         nothing came for `timeout` seconds
        │   ├── LowSpeedError      less came than `low_speed` asks for
        │   ├── DisconnectError    the connection closed before an answer
        │   ├── ProtocolError      the answer is not HTTP, or beyond its limits
        │   └── BodyError          the body ended early or broke
        ├── ResponseError          an answer that is not the file; .http_status
        │   ├── StatusError        its status counts as unsuccessful
        │   ├── RedirectError      a redirect that is not followed
        │   └── RetryAfterError    the server asks for a longer wait than is allowed
        ├── RobotsError            the host's robots.txt does not allow it
        ├── DeadlineError          not done within `deadline` seconds
        ├── WorkerError            those who worked on it for an executor were lost; .transient
        ├── CodingError            the content coding is broken, unknown, or a bomb
        ├── DigestError            the bytes are not those of the checksum
        ├── TooLargeError          more bytes than max_bytes
        └── DiskError              the disk refused; .errno, .path
            └── StoreError         the object store refused; .detail

Every class takes plain positional data and keeps it in ``args``, so that it pickles into another process.
Exceptions of aiohttp do not leave the library; they are the ``__cause__`` of ours.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import TYPE_CHECKING, ClassVar

from .redact import printable, redact

if TYPE_CHECKING:
    from .bundle import AioDownloadBundle

__all__ = [
    "AddressError",
    "AioDownloadError",
    "BodyError",
    "CodingError",
    "ConfigurationError",
    "ConnectError",
    "DeadlineError",
    "DigestError",
    "DisconnectError",
    "DiskError",
    "DownloadError",
    "ExecutorError",
    "HomeError",
    "HostDownError",
    "InvalidURLError",
    "JournalError",
    "LowSpeedError",
    "MissingExtraError",
    "PathError",
    "ProtocolError",
    "RedirectError",
    "ResolveError",
    "ResponseError",
    "RetryAfterError",
    "RobotsError",
    "StallError",
    "StatusError",
    "StoreError",
    "StrategyError",
    "TLSError",
    "TooLargeError",
    "TransportError",
    "UsageError",
    "WorkerError",
]


class AioDownloadError(Exception):
    """Root of every exception that this library raises or puts into ``bundle.error``."""


class ConfigurationError(AioDownloadError, ValueError):
    """A setting has a value that cannot work; the message names the setting and what would be right."""


class MissingExtraError(AioDownloadError, ImportError):
    """An optional package is not installed; the message holds the ``pip install`` line.

    :param feature: what was asked for, in words (str).
    :param extra: the name of the extra that brings it (str).
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(feature, extra)
        self.feature = feature
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.feature} needs the extra {self.extra!r}: pip install 'aiodownload[{self.extra}]'"


class UsageError(AioDownloadError, RuntimeError):
    """A call that cannot work where it was made, such as entering an object twice."""


class HomeError(AioDownloadError):
    """The folder for the files cannot be made or written to, or the object store does not let anybody in.

    :param home: the folder, or the URL (str).
    :param reason: the words of the operating system or of the store (str).
    """

    def __init__(self, home: str, reason: str) -> None:
        super().__init__(home, reason)
        self.home = home
        self.reason = reason

    def __str__(self) -> str:
        if "://" in self.home:
            return f"home {self.home!r} cannot be used: {printable(self.reason)}"
        return f"home {self.home!r} cannot be used: {self.reason}; give home= a folder that can be written to"


class JournalError(AioDownloadError):
    """The journal cannot be opened, read or written: without it nothing is accounted for, so the run ends.

    :param path: its file (str).
    :param reason: what SQLite or the operating system says, or what the file is instead (str).
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"journal {self.path!r}: {printable(self.reason)}"


class StrategyError(AioDownloadError):
    """A strategy of the user's raised something that is no outcome of a download: a bug, and loud.

    The bug itself is the ``__cause__``.

    :param bundle: the bundle in hand when it happened, or None.
    :param hook: the name of the hook (str).
    :param detail: type and text of the bug (str).

    ``settled`` is the list of bundles that had an outcome before the run stopped: all of them from ``one``
    and ``swarm``, those not handed out yet from ``each``.
    """

    def __init__(self, bundle: AioDownloadBundle | None, hook: str = "", detail: str = "") -> None:
        super().__init__(bundle, hook, detail)
        self.bundle = bundle
        self.hook = hook
        self.detail = detail
        self.settled: list[AioDownloadBundle] = []

    def __str__(self) -> str:
        where = f" for {redact(self.bundle.url)}" if self.bundle is not None else ""
        return f"{self.hook or 'a strategy'} failed{where}: {printable(self.detail)}"


class ExecutorError(AioDownloadError):
    """The executor of a call takes no more work, does not do it, or has lost it, so the run ends.

    What was settled before keeps its outcome, also in a journal; a rerun of the same program does the rest.

    :param reason: what has happened, and what would be right (str).

    ``settled`` is a list of bundles, as that of a :class:`StrategyError`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.settled: list[AioDownloadBundle] = []

    def __str__(self) -> str:
        return printable(self.reason)


class DownloadError(AioDownloadError):
    """Why a bundle failed.

    ``transient`` says whether the same request may well succeed later; the base of
    :meth:`RequestStrategy.retry_error` answers with it.
    """

    transient: bool = False


class InvalidURLError(DownloadError):
    """The text is no http(s) URL that can be asked for.

    :param url: the text, already without a password (str).
    :param reason: what is wrong with it (str).
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(redact(url), reason)
        self.url = redact(url)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.url!r} cannot be downloaded: {self.reason}"


class PathError(DownloadError):
    """There is no safe place for the file.

    :param path: the path that was asked for (str).
    :param reason: why it is refused (str).
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path)!r} cannot be written: {self.reason}"


class TransportError(DownloadError):
    """No usable response came, or its body broke.

    :param reason: what happened (str).
    :param transient: whether a later try may succeed (bool); each class has its usual answer.
    """

    usually_transient: ClassVar[bool] = True

    def __init__(self, reason: str, transient: bool | None = None) -> None:
        super().__init__(reason, transient)
        self.reason = reason
        self.transient = self.usually_transient if transient is None else transient

    def __str__(self) -> str:
        return printable(self.reason)


class ResolveError(TransportError):
    """The host's name could not be turned into an address."""


class AddressError(TransportError):
    """The host's address is not one of the public internet, and ``public_only=True``; nothing was sent to it."""

    usually_transient: ClassVar[bool] = False


class ConnectError(TransportError):
    """No connection to the host came about (refused, unreachable, reset while connecting)."""


class HostDownError(TransportError):
    """The host has not answered several bundles through all their tries; it is left alone for a while, then probed."""


class TLSError(TransportError):
    """No trusted connection came about; a certificate that is refused is never tried again."""


class StallError(TransportError):
    """Nothing arrived for ``timeout`` seconds."""


class LowSpeedError(TransportError):
    """The body came at less than ``low_speed`` allows; what has come is kept, and another try goes on from there."""


class DisconnectError(TransportError):
    """The connection was closed or reset before a whole answer."""


class ProtocolError(TransportError):
    """What came is not HTTP, or its head is larger than allowed (RFC 9112; CVE-2026-22815)."""


class BodyError(TransportError):
    """The body ended before its declared length or its last chunk (RFC 9112 section 8), or broke."""


class ResponseError(DownloadError):
    """A complete answer that is not the file.

    :param reason: what it is instead (str).
    :param http_status: its status (int), or None.
    """

    def __init__(self, reason: str, http_status: int | None = None) -> None:
        super().__init__(reason, http_status)
        self.reason = reason
        self.http_status = http_status

    def __str__(self) -> str:
        return printable(self.reason)


class StatusError(ResponseError):
    """The response counts as unsuccessful (``assert_response``), or is none that can be a whole file."""


class RedirectError(ResponseError):
    """A redirect that is not followed: too many, a loop, no http(s), or from https to http."""


class RetryAfterError(ResponseError):
    """The server asks for a longer wait than ``max_retry_after`` allows.

    :param reason: the message (str).
    :param http_status: the status of the answer (int).
    :param retry_after: seconds that the server asks for (float, may be ``inf``).
    """

    def __init__(self, reason: str, http_status: int | None = None, retry_after: float = 0.0) -> None:
        super().__init__(reason, http_status)
        self.args = (reason, http_status, retry_after)
        self.retry_after = retry_after


class RobotsError(DownloadError):
    """The host's robots.txt does not allow it (RFC 9309), or cannot be had now, which counts as no.

    :param reason: which of the two (str).
    :param transient: whether a later try may succeed (bool).
    """

    def __init__(self, reason: str, transient: bool = False) -> None:
        super().__init__(reason, transient)
        self.reason = reason
        self.transient = transient

    def __str__(self) -> str:
        return printable(self.reason)


class DeadlineError(DownloadError):
    """The bundle was not done within ``deadline`` seconds from its first request, all tries and waits included.

    :param deadline: the setting, in seconds (float).
    :param reason: how its last try failed (str), or ``""``.
    """

    def __init__(self, deadline: float, reason: str = "") -> None:
        super().__init__(deadline, reason)
        self.deadline = deadline
        self.reason = reason

    def __str__(self) -> str:
        last = f"; the last try: {printable(self.reason)}" if self.reason else ""
        return f"not done within the deadline of {self.deadline:g} s{last}"


class WorkerError(DownloadError):
    """The workers of an executor that had the bundle were lost, again and again, or had to stop in the middle of it.

    :param reason: what has happened (str).
    :param transient: whether a later run may succeed (bool).
    """

    def __init__(self, reason: str, transient: bool = True) -> None:
        super().__init__(reason, transient)
        self.reason = reason
        self.transient = transient

    def __str__(self) -> str:
        return printable(self.reason)


class CodingError(DownloadError):
    """The body's content coding is broken, ends early, is unknown, or expands beyond ``max_ratio``.

    :param reason: what is wrong (str).
    :param transient: whether a later try may succeed (bool).
    """

    def __init__(self, reason: str, transient: bool = False) -> None:
        super().__init__(reason, transient)
        self.reason = reason
        self.transient = transient

    def __str__(self) -> str:
        return printable(self.reason)


class DigestError(DownloadError):
    """The body is complete, and its checksum is not the expected one; nothing gets the final name.

    :param algorithm: the name of the algorithm in hashlib (str).
    :param expected_hex: the expected checksum (str of hex digits).
    :param actual_hex: the checksum of what came (str of hex digits).
    :param source: who expects it (str): ``"digest"`` is the caller, all else the name of a header field.
    :param transient: whether a later try may succeed (bool): a first time the bytes may have been damaged on their
        way, a second time from the same source they are what it has.
    """

    def __init__(
        self, algorithm: str, expected_hex: str, actual_hex: str, source: str, transient: bool = False
    ) -> None:
        super().__init__(algorithm, expected_hex, actual_hex, source, transient)
        self.algorithm = algorithm
        self.expected_hex = expected_hex
        self.actual_hex = actual_hex
        self.source = source
        self.transient = transient

    def __str__(self) -> str:
        who = "the caller's digest" if self.source == "digest" else f"the field {self.source}"
        return printable(
            f"the file is not the one expected: {self.algorithm} is {self.actual_hex}, {who} says {self.expected_hex}"
        )


class TooLargeError(DownloadError):
    """The body has more bytes than ``max_bytes``.

    :param size: bytes declared or seen so far (int).
    :param max_bytes: the limit (int).
    """

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(size, max_bytes)
        self.size = size
        self.max_bytes = max_bytes

    def __str__(self) -> str:
        return f"the body has {self.size} bytes or more, and max_bytes is {self.max_bytes}"


_DISK_FULL = (_errno.ENOSPC, _errno.EDQUOT)


class DiskError(DownloadError):
    """The disk refused; another request would not help, so none is made.

    :param path: the file (str).
    :param errno: the operating system's error number (int), or None.
    :param action: what was being done (str).

    ``reason`` is ``"disk_full"`` for ENOSPC and EDQUOT, otherwise the symbol of the error, such as
    ``"EACCES"``.
    """

    def __init__(self, path: str, errno: int | None, action: str = "write") -> None:
        super().__init__(path, errno, action)
        self.path = path
        self.errno = errno
        self.action = action

    @property
    def reason(self) -> str:
        """``"disk_full"``, or the symbol of the operating system's error."""
        if self.errno in _DISK_FULL:
            return "disk_full"
        return _errno.errorcode.get(self.errno, "disk_error") if self.errno is not None else "disk_error"

    def __str__(self) -> str:
        text = os.strerror(self.errno) if self.errno is not None else "the size on disk is wrong"
        if self.errno == _errno.ELOOP:
            text = "a symbolic link is in the way, and none is followed below home"
        return f"cannot {self.action} {printable(self.path)!r}: {text} ({self.reason})"


class StoreError(DiskError):
    """The object store refused, or could not be reached for as long as it was tried again; no request would help.

    :param path: the URL of the object (str).
    :param detail: what the store says: a status and its own word for the error, no text that could hold a secret (str).
    :param action: what was being done (str).

    ``reason`` is ``"store_error"``.
    """

    def __init__(self, path: str, detail: str, action: str = "write") -> None:
        super().__init__(path, None, action)
        self.args = (path, detail, action)
        self.detail = detail

    @property
    def reason(self) -> str:
        """``"store_error"``."""
        return "store_error"

    def __str__(self) -> str:
        return f"cannot {self.action} {printable(self.path)!r}: {printable(self.detail)} ({self.reason})"
