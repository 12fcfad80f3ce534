"""What happens in a run, as frozen records, and the Observer that may watch them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
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


_set = object.__setattr__


class _Record:
    """What an event holds, which nobody changes.  (Dataclasses would take three milliseconds of every import.)"""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set: what has happened has happened")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._values()


class RunStarted(_Record):
    """A call begins: one ``one``, ``each`` or ``swarm``.

    :param total: how many bundles it will settle (int), or None where the input does not tell its length.
    """

    __slots__ = __match_args__ = ("total",)
    total: int | None

    def __init__(self, total: int | None) -> None:
        _set(self, "total", total)


class RunFinished(_Record):
    """A call has ended, in whichever way."""

    __slots__ = __match_args__ = ()


class Attempted(_Record):
    """A try of ``bundle`` begins; ``bundle.attempts`` does not count it yet."""

    __slots__ = __match_args__ = ("bundle",)
    bundle: AioDownloadBundle

    def __init__(self, bundle: AioDownloadBundle) -> None:
        _set(self, "bundle", bundle)


class Receiving(_Record):
    """The head of an answer was judged good, and its body begins to come.

    :param bundle: what it is for.
    :param total: bytes of the whole body as the server sends it (int), or None if that is not known.
    :param held: bytes of it that an earlier try or run has left, and that do not come again (int).
    """

    __slots__ = __match_args__ = ("bundle", "total", "held")
    bundle: AioDownloadBundle
    total: int | None
    held: int

    def __init__(self, bundle: AioDownloadBundle, total: int | None, held: int) -> None:
        _set(self, "bundle", bundle)
        _set(self, "total", total)
        _set(self, "held", held)


class Received(_Record):
    """Bytes of a body have come.

    :param bundle: what they are for.
    :param count: how many, as the server sends them (int).
    """

    __slots__ = __match_args__ = ("bundle", "count")
    bundle: AioDownloadBundle
    count: int

    def __init__(self, bundle: AioDownloadBundle, count: int) -> None:
        _set(self, "bundle", bundle)
        _set(self, "count", count)


class HostPaused(_Record):
    """A host is not asked for a while: it has said so, or does not answer.  Told again whenever it says so again.

    :param host: scheme, name and port (str).
    :param seconds: from now on (float).
    :param reason: in words (str).
    """

    __slots__ = __match_args__ = ("host", "seconds", "reason")
    host: str
    seconds: float
    reason: str

    def __init__(self, host: str, seconds: float, reason: str) -> None:
        _set(self, "host", host)
        _set(self, "seconds", seconds)
        _set(self, "reason", reason)


class RetryScheduled(_Record):
    """A try failed with ``error``; the next one begins no earlier than ``delay`` seconds from now."""

    __slots__ = __match_args__ = ("bundle", "delay", "error")
    bundle: AioDownloadBundle
    delay: float
    error: AioDownloadError

    def __init__(self, bundle: AioDownloadBundle, delay: float, error: AioDownloadError) -> None:
        _set(self, "bundle", bundle)
        _set(self, "delay", delay)
        _set(self, "error", error)


class Settled(_Record):
    """``bundle`` has its outcome."""

    __slots__ = __match_args__ = ("bundle",)
    bundle: AioDownloadBundle

    def __init__(self, bundle: AioDownloadBundle) -> None:
        _set(self, "bundle", bundle)


class Cancelled(_Record):
    """``bundle`` gets no outcome: its call was left or interrupted, or has ended by an error."""

    __slots__ = __match_args__ = ("bundle",)
    bundle: AioDownloadBundle

    def __init__(self, bundle: AioDownloadBundle) -> None:
        _set(self, "bundle", bundle)


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

        self.listening = bool(self._told)
        """Whether there is anybody at all; asked for each file, and so no more than an attribute."""

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody is to be told of events of this kind."""
        return bool(self._told.get(kind))

    def emit(self, event: Event) -> None:
        """Tell every observer that wants to know; drop one that raises."""
        for observer in tuple(self._told.get(type(event), ())):
            try:
                observer.on_event(event)
            except (Exception, asyncio.CancelledError):  # nobody was cancelled: it does not wait for anything
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
