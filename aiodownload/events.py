"""What happens in a run, as frozen records, and the Observer that may watch them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, get_args, runtime_checkable

from .bundle import AioDownloadBundle
from .errors import AioDownloadError, ConfigurationError

__all__ = [
    "EVENTS",
    "Attempted",
    "Cancelled",
    "Event",
    "HostPaused",
    "Observer",
    "Received",
    "Receiving",
    "RetryScheduled",
    "RunFinished",
    "RunStarted",
    "Settled",
    "Watchers",
]

_log = logging.getLogger("aiodownload.events")


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A call begins: one ``one``, ``each`` or ``swarm``.

    :param total: how many bundles it will settle (int), or None where the input does not tell its length.
    """

    total: int | None


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A call has ended, in whichever way."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """A try of ``bundle`` begins; ``bundle.attempts`` does not count it yet."""

    bundle: AioDownloadBundle


@dataclass(frozen=True, slots=True)
class Receiving:
    """The head of an answer was judged good, and its body begins to come.

    :param bundle: what it is for.
    :param total: bytes of the whole body as the server sends it (int), or None if that is not known.
    :param held: bytes of it that an earlier try or run has left, and that do not come again (int).
    """

    bundle: AioDownloadBundle
    total: int | None
    held: int


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes of a body have come.

    :param bundle: what they are for.
    :param count: how many, as the server sends them (int).
    """

    bundle: AioDownloadBundle
    count: int


@dataclass(frozen=True, slots=True)
class HostPaused:
    """A host is not asked for a while: it has said so, or does not answer.  Told again whenever it says so again.

    :param host: scheme, name and port (str).
    :param seconds: from now on (float).
    :param reason: in words (str).
    """

    host: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """A try failed with ``error``; the next one begins no earlier than ``delay`` seconds from now."""

    bundle: AioDownloadBundle
    delay: float
    error: AioDownloadError


@dataclass(frozen=True, slots=True)
class Settled:
    """``bundle`` has its outcome."""

    bundle: AioDownloadBundle


@dataclass(frozen=True, slots=True)
class Cancelled:
    """``bundle`` gets no outcome: its call was left or interrupted, or has ended by an error."""

    bundle: AioDownloadBundle


Event: TypeAlias = (
    RunStarted | Attempted | Receiving | Received | RetryScheduled | HostPaused | Settled | Cancelled | RunFinished
)


EVENTS: tuple[type[Event], ...] = get_args(Event)
"""All of them."""


@runtime_checkable
class Observer(Protocol):
    """Anything with this method may be given in ``AioDownload(observers=[...])``.

    It is called on the event loop, so it must not block.  One that raises is dropped for the rest of its
    ``AioDownload`` and the reason is logged: watching never breaks a download.

    One that has an attribute ``event_types``, a tuple of event classes, is told of these only.  What nobody is told of
    costs nothing; to be told of each :class:`Received` costs a little for every 64 KiB.

    One that has a method ``close()`` is called there when the AioDownload is left, in a thread where it may block: to
    write the rest, to wait for a thread of its own.
    """

    def on_event(self, event: Event) -> None:
        """Take note of ``event``."""


class Watchers:
    """The observers of one entered AioDownload, by what they want to be told."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._told: dict[type, list[Observer]] = {}
        for observer in observers:
            for kind in getattr(observer, "event_types", EVENTS):
                self._told.setdefault(kind, []).append(observer)

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody is to be told of events of this kind."""
        return bool(self._told) and bool(self._told.get(kind))

    def emit(self, event: Event) -> None:
        """Tell every observer that wants to know; drop one that raises."""
        for observer in tuple(self._told.get(type(event), ())):
            try:
                observer.on_event(event)
            except Exception:
                for told in self._told.values():
                    if observer in told:
                        told.remove(observer)
                _log.exception("observer %r raised and is dropped", observer)

    async def close(self) -> None:
        """Let every observer finish that has something to finish."""
        observers = {id(one): one for told in self._told.values() for one in told}
        for observer in observers.values():
            close = getattr(observer, "close", None)
            if callable(close):
                try:
                    await asyncio.to_thread(close)
                except Exception:
                    _log.exception("observer %r could not be closed", observer)


def checked_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Return ``observers`` as a tuple.

    :raises ConfigurationError: if one of them has no ``on_event`` method.
    """
    if not isinstance(observers, Iterable):
        raise ConfigurationError(f"observers must be a list of observers, not {observers!r}")
    checked = tuple(observers)
    for observer in checked:
        if not isinstance(observer, Observer):
            raise ConfigurationError(f"observers: {observer!r} has no method on_event(event)")
        wanted = getattr(observer, "event_types", EVENTS)
        if not isinstance(wanted, Iterable) or not all(kind in EVENTS for kind in wanted):
            raise ConfigurationError(f"observers: event_types of {observer!r} must be a tuple of event classes")
    return checked
