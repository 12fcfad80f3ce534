"""Orders: what travels to a worker, and what comes back; all times are seconds from the moment of travelling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..bundle import AioDownloadBundle
from ..entries import Publication
from ..request.memory import Memory

if TYPE_CHECKING:
    from ..download import AioDownload

__all__ = ["Greeting", "Left", "Order", "Outcome", "Report", "Ticket"]


@dataclass(slots=True)
class Ticket:
    """A bundle on its way to a worker.

    :param number: its place in the input.
    :param bundle: a copy of it, without its ``info``.
    :param spacing: seconds between request starts that the strategy asks for.
    :param due: in how many seconds it may be tried.
    :param age: seconds since its first request, or None before that.
    :param tries: how often it has had a slot.
    """

    number: int
    bundle: AioDownloadBundle
    spacing: float
    due: float = 0.0
    age: float | None = None
    tries: int = 0


@dataclass(slots=True)
class Order:
    """A shard: bundles of some hosts, which nobody else asks meanwhile, or which are split among some.

    :param run: stands for the run.
    :param serial: of this order, never used again in the run.
    :param settings: what to work with; its ``concurrent`` and ``bandwidth`` are those of the whole run.
    :param tickets: the bundles.
    :param own: the hosts that nobody else asks.
    :param split: the others.
    :param parts: among how many shards the limits of each of those are divided.
    :param memories: what is known of all of them, and of others that want to be left alone.
    :param workers: how many shards there may be at once.
    :param concurrent: slots of this one.
    :param part: which part of the whole run they are (0 < part <= 1).
    :param last_start: when a request of the run has last started, as far as known.
    :param retries: that it may make, or None for any number.
    :param seconds: after which it begins nothing new.
    :param patience: seconds after which it ends what is under way.
    :param since: when the run began, by the clock of the file system of ``home`` (nanoseconds), or None if it keeps
        no files that would tell.
    :param journalled: whether it is to tell how its files were published.
    :param again: whether a worker has been lost with some of these bundles.
    """

    run: str
    serial: int
    settings: AioDownload
    tickets: list[Ticket]
    own: frozenset[str]
    split: frozenset[str]
    parts: int
    memories: dict[str, Memory]
    workers: int
    concurrent: int
    part: float
    last_start: float
    retries: int | None
    seconds: float
    patience: float
    since: int | None
    journalled: bool
    again: bool


@dataclass(slots=True)
class Outcome:
    """A bundle that is settled.

    :param number: its place in the input.
    :param results: what became of it: see :meth:`AioDownloadBundle._results`.
    :param publication: what a journal is to know of its file, or None.
    """

    number: int
    results: tuple[Any, ...]
    publication: Publication | None = None


@dataclass(slots=True)
class Left:
    """A bundle that is not settled.

    :param ticket: as it is now; it may go out again as it is.
    :param asks: whether it needs leave for one more try.
    :param cut: whether a try of it was cut off.
    """

    ticket: Ticket
    asks: bool = False
    cut: bool = False


@dataclass(slots=True)
class Report:
    """What became of a shard.

    :param outcomes: bundles that are settled.
    :param left: the others.
    :param memories: what is known of hosts.
    :param last_start: when a request has last started.
    :param retries: how many were made of those that were allowed.
    :param error: what ends the run, or None.
    :param culprit: the place of the bundle in hand when that happened, or None.
    :param cause: what it came from, if that can travel.
    :param trace: the traceback of that, as text.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    memories: dict[str, Memory] = field(default_factory=dict)
    last_start: float = float("-inf")
    retries: int = 0
    error: Exception | None = None
    culprit: int | None = None
    cause: BaseException | None = None
    trace: str = ""


@dataclass(slots=True)
class Greeting:
    """A worker's answer before it gets work.

    :param version: of its aiodownload.
    :param now: what time it is by the clock of the file system of ``home`` (nanoseconds), or None: see :class:`Order`.
    :param here: whether it has the memory of the caller: it is a thread.
    """

    version: str
    now: int | None
    here: bool
