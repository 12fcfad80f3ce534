"""RequestStrategy, Lenient, BackOff, Polite and Adaptive: how many at once, how far apart, and whether to try again."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypedDict

from .. import checks
from .adaptive import HostPace
from .hosts import Limits, origins

if TYPE_CHECKING:
    from typing import Unpack

    from aiohttp import ClientResponse

    from ..bundle import AioDownloadBundle
    from ..errors import DownloadError

__all__ = ["Adaptive", "BackOff", "Lenient", "Polite", "RequestSettings", "RequestStrategy", "limits_of"]

# The statuses that say "later": RFC 9110 section 15.5.9 (408), RFC 8470 (425), RFC 6585 (429), RFC 9110
# sections 15.6.1-5 (5xx), and 520-524 as content delivery networks use them (seen by curl, pip, aria2 #1229).
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


class RequestSettings(TypedDict, total=False):
    """The settings of :class:`RequestStrategy` that every ready-made strategy takes by keyword."""

    concurrent: int
    timeout: float
    max_retry_after: float
    public_only: bool
    per_host: int | None
    rate: float | None
    bandwidth: float | None
    per_host_bandwidth: float | None
    low_speed: tuple[float, float] | None
    deadline: float | None
    retry_budget: int | None
    jitter: bool
    robots: bool
    contact: str | None
    delay: float | None
    split_hosts: Collection[str]


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
    :param per_host: requests at once to one host (int >= 1), bodies included, or None for no limit but ``concurrent``.
        A host is an origin: scheme, name and port.  A redirect counts where it leads.
    :param rate: request starts per second for one host (> 0), evenly apart, or None.
    :param bandwidth: bytes per second (> 0) of all bodies together, or None.
    :param per_host_bandwidth: the same of the bodies from one host, or None.
    :param low_speed: (bytes per second, seconds), both > 0: a body of which less arrives over so long is given up, and
        the next try goes on from there.  None for no such rule.
    :param deadline: seconds (> 0) from a bundle's first request until it must be done, all tries and waits included, or
        None.
    :param retry_budget: tries beyond the first that all bundles of a run may take together (int >= 0); after that each
        failure is final.  None for no limit.
    :param jitter: wait a random part of what ``get_sleep_time`` says before a next try (bool), so that what failed
        together does not come back together ("full jitter").
    :param robots: ask each host for its robots.txt first, and obey it, Crawl-delay included (bool; RFC 9309).  Needs
        the extra ``robots``.
    :param contact: how to reach whoever runs this, such as a mail address or a URL; told to the servers in the
        User-Agent (str).  None for nothing.
    :param delay: least seconds (>= 0) from one request start to the next, in place of what ``get_sleep_time`` says at
        ``bundle.attempts == 0``; None: what it says.
    :param split_hosts: hosts that several workers of an ``executor`` may ask at once, each with its part of the limits
        (a collection of origins such as ``("https://data.example.org",)``).  Without an executor it changes nothing.
        See :doc:`cluster`.
    :raises ConfigurationError: for a value that cannot work.
    """

    concurrent: int = 2
    max_attempts: int = 0
    timeout: float = 60
    max_retry_after: float = 3600
    public_only: bool = False
    per_host: int | None = None
    rate: float | None = None
    bandwidth: float | None = None
    per_host_bandwidth: float | None = None
    low_speed: tuple[float, float] | None = None
    deadline: float | None = None
    retry_budget: int | None = None
    jitter: bool = False
    robots: bool = False
    contact: str | None = None
    delay: float | None = None
    split_hosts: Collection[str] = ()

    spaced_per_host: ClassVar[bool] = False
    """Whether the spacing at ``bundle.attempts == 0`` holds between the starts for one host, and not for all."""

    def __init__(
        self,
        concurrent: int = 2,
        max_attempts: int = 0,
        timeout: float = 60,
        *,
        max_retry_after: float = 3600,
        public_only: bool = False,
        per_host: int | None = None,
        rate: float | None = None,
        bandwidth: float | None = None,
        per_host_bandwidth: float | None = None,
        low_speed: tuple[float, float] | None = None,
        deadline: float | None = None,
        retry_budget: int | None = None,
        jitter: bool = False,
        robots: bool = False,
        contact: str | None = None,
        delay: float | None = None,
        split_hosts: Collection[str] = (),
    ) -> None:
        self.concurrent = concurrent
        self.max_attempts = max_attempts
        self.timeout = timeout
        self.max_retry_after = max_retry_after
        self.public_only = public_only
        self.per_host = per_host
        self.rate = rate
        self.bandwidth = bandwidth
        self.per_host_bandwidth = per_host_bandwidth
        self.low_speed = low_speed
        self.deadline = deadline
        self.retry_budget = retry_budget
        self.jitter = jitter
        self.robots = robots
        self.contact = contact
        self.delay = delay
        self.split_hosts = split_hosts
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


class Polite(RequestStrategy):
    """Lenient's manners towards each host, and many hosts at once: for lists that go to many servers.

    Two requests at once to a host, starts 0.25 s apart, 64 hosts at once; robots.txt is obeyed, with its Crawl-delay
    (needs the extra ``robots``, or ``robots=False``).  60 s between tries of a bundle, of what may pass: 408, 425, 429,
    500, 502-504, 520-524 and transient errors.

    :param max_attempts: tries in total (int).
    :param settings: the other settings of :class:`RequestStrategy`, by keyword.
    """

    spaced_per_host: ClassVar[bool] = True

    def __init__(self, max_attempts: int = 5, **settings: Unpack[RequestSettings]) -> None:
        # 64 hosts with two requests each.
        super().__init__(
            max_attempts=max_attempts,
            **{"concurrent": 128, "per_host": 2, "robots": True, **settings},  # type: ignore[arg-type]
        )

    def retry(self, response: ClientResponse) -> bool:
        """The statuses that say "later"."""
        return response.status in TRANSIENT_STATUSES

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """0.25, then 60, 60, 60 …"""
        return 0.25 if bundle.attempts == 0 else 60


class Adaptive(RequestStrategy):
    """Finds each host's pace by itself: for bulk work.

    It begins with few requests to a host and does more while answers come quickly and well; after a 429 or 503, no
    answer, or answers that get slow, it does less.  Where a host says "later" at some rate, that rate is measured and
    kept to.  64 requests at once, at most 16 of them to one host: it never goes above the settings.  Before a next try
    of what may pass it waits a random part of 0.5, 1, 2, 4, 8, 16, 32, 60, 60 … s.

    :param max_attempts: tries in total (int).
    :param settings: the other settings of :class:`RequestStrategy`, by keyword.
    """

    def __init__(self, max_attempts: int = 10, **settings: Unpack[RequestSettings]) -> None:
        super().__init__(
            max_attempts=max_attempts,
            **{"concurrent": 64, "per_host": 16, "jitter": True, **settings},  # type: ignore[arg-type]
        )

    def retry(self, response: ClientResponse) -> bool:
        """The statuses that say "later"."""
        return response.status in TRANSIENT_STATUSES

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """None, then at most 0.5, 1, 2, 4, 8, 16, 32, 60, 60 …"""
        return 0.0 if bundle.attempts == 0 else min(2.0 ** (min(bundle.attempts, 10) - 2), 60)


def limits_of(strategy: RequestStrategy) -> Limits:
    """Return what ``strategy`` wants the schedule to keep to."""
    most = min(strategy.per_host or strategy.concurrent, strategy.concurrent)
    return Limits(
        strategy.concurrent,
        strategy.per_host,
        strategy.rate,
        strategy.spaced_per_host,
        partial(HostPace, most) if isinstance(strategy, Adaptive) else None,
    )


def check_request_settings(strategy: RequestStrategy) -> None:
    """Check the settings as they are now, also those that a subclass set after ``super().__init__``.

    :raises ConfigurationError: naming the setting.
    """
    checks.whole("concurrent", strategy.concurrent, 1)
    checks.whole("max_attempts", strategy.max_attempts, 0)
    checks.number("timeout", strategy.timeout, above=0)
    checks.number("max_retry_after", strategy.max_retry_after, least=0)
    for name in ("public_only", "jitter", "robots"):
        checks.flag(name, getattr(strategy, name))
    if strategy.per_host is not None:
        checks.whole("per_host", strategy.per_host, 1)
    for name in ("rate", "bandwidth", "per_host_bandwidth", "deadline"):
        if getattr(strategy, name) is not None:
            checks.number(name, getattr(strategy, name), above=0)
    if strategy.retry_budget is not None:
        checks.whole("retry_budget", strategy.retry_budget, 0)
    checks.low_speed(strategy.low_speed)
    checks.contact(strategy.contact)
    if strategy.delay is not None:
        checks.number("delay", strategy.delay, least=0)
    origins("split_hosts", strategy.split_hosts)
