"""For tests of programs that use aiodownload: a server that misbehaves as it is told, and checks of strategies."""

from ..storage.objects import memory_store
from .answers import (
    chunked,
    cut,
    drop,
    each_path,
    gzipped,
    ok,
    ranged,
    raw,
    redirect,
    reset,
    slow,
    stall,
    status,
    until_close,
    wrong_length,
)
from .asking import check_request_strategy
from .keeping import check_download_strategy
from .rules import ConformanceError, Finding, Rule
from .server import Connection, FaultServer, Request, Script

__all__ = [
    "ConformanceError",
    "Connection",
    "FaultServer",
    "Finding",
    "Request",
    "Rule",
    "Script",
    "check_download_strategy",
    "check_request_strategy",
    "chunked",
    "cut",
    "drop",
    "each_path",
    "gzipped",
    "memory_store",
    "ok",
    "ranged",
    "raw",
    "redirect",
    "reset",
    "slow",
    "stall",
    "status",
    "until_close",
    "wrong_length",
]

# Reprs and tracebacks speak of aiodownload.testing.X, wherever X is written down.
for _public in (globals()[_name] for _name in __all__ if _name != "Script"):
    _public.__module__ = "aiodownload.testing"
del _public
