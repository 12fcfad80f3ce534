"""RequestStrategy, Lenient and BackOff: how many at once, how far apart, and whether to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from .. import checks

if TYPE_CHECKING:
    from typing import Unpack

    from aiohttp import ClientResponse

    from ..bundle import AioDownloadBundle
    from ..errors import DownloadError

__all__ = ["BackOff", "Lenient", "RequestSettings", "RequestStrategy"]

# The statuses that say "later": RFC 9110 section 15.5.9 (408), RFC 8470 (425), RFC 6585 (429), RFC 9110
# sections 15.6.1-5 (5xx), and 520-524 as content delivery networks use them (seen by curl, pip, aria2 #1229).
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


class RequestSettings(TypedDict, total=False):
    """The settings of :class:`RequestStrategy` that every ready-made strategy takes by keyword."""

    concurrent: int
    timeout: float
    max_retry_after: float
    public_only: bool


class RequestStrategy:
    """How to ask.  Subclass it and override the hooks to change any answer.

    A strategy is settings plus questions: it holds no state of a run, does no I/O, and pickles.

    :param concurrent: requests at once (int >= 1), bodies included.
    :param max_attempts: tries in total (int >= 0); 0 and 1 both mean one.
    :param timeout: seconds (> 0) without any progress (looking up the name, connecting, first byte, next byte)
        after which a try is given up.  Never a limit on a whole transfer.
    :param max_retry_after: the longest wait in seconds (>= 0) that a server may ask for with
        Retry-After; beyond it the bundle fails at once and says so.
    :param public_only: connect only to addresses of the public internet (bool): for a program that fetches what
        strangers name, so that they cannot reach the machines of its own network through it.  The address itself is
        judged, on each connection and so on each redirect; see :func:`public_socket` for sessions of your own.
    :raises ConfigurationError: for a value that cannot work.
    """

    concurrent: int = 2
    max_attempts: int = 0
    timeout: float = 60
    max_retry_after: float = 3600
    public_only: bool = False

    def __init__(
        self,
        concurrent: int = 2,
        max_attempts: int = 0,
        timeout: float = 60,
        *,
        max_retry_after: float = 3600,
        public_only: bool = False,
    ) -> None:
        self.concurrent = concurrent
        self.max_attempts = max_attempts
        self.timeout = timeout
        self.max_retry_after = max_retry_after
        self.public_only = public_only
        check_request_settings(self)

    def assert_response(self, response: ClientResponse) -> None:
        """Return if ``response`` counts as successful.

        :raises AssertionError: if it does not.  Here: every status >= 400.
        """
        if response.status >= 400:
            raise AssertionError(f"status {response.status} {response.reason or ''}".rstrip())

    def retry(self, response: ClientResponse) -> bool:
        """Try this unsuccessful response again?  Here: never."""
        return False

    def retry_error(self, error: DownloadError) -> bool:
        """Try again after no usable response or a broken body?  Here: if ``error`` is transient."""
        return error.transient

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """Return seconds; <= 0 is none.

        At ``bundle.attempts == 0`` the least spacing between request starts of the run, later the wait before this
        bundle's next try.  Here: -1, no wait.
        """
        return -1


class Lenient(RequestStrategy):
    """For an average web server, which may be down for some minutes.  The default.

    Two requests at once, starts 0.25 s apart, up to 4 more tries with 60 s between them; every status >= 400
    is unsuccessful, and a 404 is believed.

    :param max_attempts: tries in total (int).
    :param settings: the other settings of :class:`RequestStrategy`, by keyword.
    """

    def __init__(self, max_attempts: int = 5, **settings: Unpack[RequestSettings]) -> None:
        super().__init__(max_attempts=max_attempts, **settings)

    def retry(self, response: ClientResponse) -> bool:
        """Every unsuccessful response but a 404."""
        return response.status != 404

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """0.25, then 60, 60, 60 …"""
        return 0.25 if bundle.attempts == 0 else 60


class BackOff(RequestStrategy):
    """For servers and APIs that bear more, and are backed away from when they don't.

    Two requests at once, starts 0.25 s apart; waits of 0.5, 1, 2, 4, 8, 16, 32, 60, 60 … s between tries of
    a bundle.  Tries again what may pass: 408, 425, 429, 500, 502-504, 520-524 and transient errors.

    :param max_attempts: tries in total (int).
    :param settings: the other settings of :class:`RequestStrategy`, by keyword.
    """

    def __init__(self, max_attempts: int = 10, **settings: Unpack[RequestSettings]) -> None:
        super().__init__(max_attempts=max_attempts, **settings)

    def retry(self, response: ClientResponse) -> bool:
        """The statuses that say "later"."""
        return response.status in TRANSIENT_STATUSES

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60 …"""
        return min(2.0 ** (min(bundle.attempts, 10) - 2), 60)


def check_request_settings(strategy: RequestStrategy) -> None:
    """Check the settings as they are now, also those that a subclass set after ``super().__init__``.

    :raises ConfigurationError: naming the setting.
    """
    checks.whole("concurrent", strategy.concurrent, 1)
    checks.whole("max_attempts", strategy.max_attempts, 0)
    checks.number("timeout", strategy.timeout, above=0)
    checks.number("max_retry_after", strategy.max_retry_after, least=0)
    checks.flag("public_only", strategy.public_only)
