"""aiodownload: asynchronous requests and downloads without thinking about it.

::

    import aiodownload
    bundles = aiodownload.swarm(["https://example.org/a.csv", "https://example.org/b.csv"])

The floor plan, from the entrance inwards; imports point only downwards:

=================  ====================================================================
``__main__, cli``  the command line (extra ``cli``); ``demo``: a server full of trouble
``report/``        what happened in the run of a journal, on one page (extra ``report``)
``testing/``       FOR TESTS of programs that use this: a server that misbehaves, and checks of strategies
``api``            one() each() swarm(), for code that is no coroutine
``call, feed``     one such call: a loop, and a thread for it
``cluster/``       the same on any executor: shards by host go out, settled bundles come back
``download``       AioDownload: settings, and the calls that may be awaited
``live``           what is open while it is entered, shared by all its runs
``run``            one call: read, have it tried, settle; ``tries``: who makes the tries
``admission``      a path for every bundle; the ones that were there before (``seen``)
``attempt``        what is tried for a bundle; ``exchange``: judge, receive; ``asking``, ``segments``
``permission``     what robots.txt allows (extra ``robots``); ``flow``: how fast bodies may come
``transport``      the sessions, and aiohttp's exceptions turned into ours
``connector``      how a connection comes about, and which addresses may be connected to; ``handler``: its protocol
``permit``         the slot that a try holds, and what is heard of hosts; ``dispatcher``: the schedule's clock
``recorder``       the journal as a run sees it
``request/``       HOW TO ASK: decisions; no files, no clock, no sockets
``storage/``       WHAT TO KEEP: the only place that touches downloaded files
``dataset/``       many of them in tar shards (extra ``dataset``)
``observers/``     who watches
``source``         the caller's input as bundles; ``outcomes``: the bundles as a list, as records, as a table
``journal``        what became of every URL, in SQLite; ``entries``: what it takes in and tells
``homes``          where files are kept, a folder or a place in an object store
``events, bundle, errors, checksums, checks, dates, redact``  the words that all of them use
=================  ====================================================================

PYTEST_DONT_REWRITE: there is a pytest plugin, so pytest would otherwise warn whoever imports this before it.
"""

from types import FunctionType
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._version import __version__
from .api import each, one, swarm
from .bundle import AioDownloadBundle, Status, Verified
from .connector import public_socket
from .download import AioDownload
from .errors import (
    AddressError,
    AioDownloadError,
    BodyError,
    CodingError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    DigestError,
    DisconnectError,
    DiskError,
    DownloadError,
    ExecutorError,
    HomeError,
    HostDownError,
    InvalidURLError,
    JournalError,
    LowSpeedError,
    MissingExtraError,
    PathError,
    ProtocolError,
    RedirectError,
    ResolveError,
    ResponseError,
    RetryAfterError,
    RobotsError,
    StallError,
    StatusError,
    StoreError,
    StrategyError,
    TLSError,
    TooLargeError,
    TransportError,
    UsageError,
    WorkerError,
)
from .events import (
    Attempted,
    Cancelled,
    Event,
    HostPaused,
    Observer,
    Received,
    Receiving,
    RetryScheduled,
    RunFinished,
    RunStarted,
    Settled,
)
from .outcomes import Outcomes, to_dataframe
from .request.strategy import Adaptive, BackOff, Lenient, Polite, RequestStrategy
from .storage.strategy import DownloadStrategy

if _TYPE_CHECKING:
    from .dataset import TarShards
    from .journal import Journal
    from .observers.metrics import PrometheusObserver, TraceObserver
    from .observers.progress import Progress

__all__ = [
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

# Reprs, tracebacks and pickles speak of aiodownload.X, wherever X is written down.
for _name in __all__:
    if isinstance(_public := globals().get(_name), type | FunctionType):
        _public.__module__ = "aiodownload"
del _name, _public, FunctionType


_LATE = {
    "Journal": ".journal",
    "Progress": ".observers.progress",
    "PrometheusObserver": ".observers.metrics",
    "TarShards": ".dataset",
    "TraceObserver": ".observers.metrics",
}


def __getattr__(name: str) -> object:
    """Load what few programs have when it is first asked for: SQLite, for one, takes its time to load."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(_LATE[name], __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
