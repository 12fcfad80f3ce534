"""What happens in a run, as frozen records, and the Observer that may watch them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from .bundle import AioDownloadBundle
from .errors import AioDownloadError, ConfigurationError

__all__ = ["Attempted", "Event", "Observer", "RetryScheduled", "Settled", "Watchers"]

_log = logging.getLogger("aiodownload.events")


@dataclass(frozen=True, slots=True)
class Attempted:
    """A try of ``bundle`` begins; ``bundle.attempts`` does not count it yet."""

    bundle: AioDownloadBundle


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


Event: TypeAlias = Attempted | RetryScheduled | Settled


@runtime_checkable
class Observer(Protocol):
    """Anything with this method may be given in ``AioDownload(observers=[...])``.

    It is called on the event loop, so it must not block.  One that raises is dropped for the rest of its
    ``AioDownload`` and the reason is logged: watching never breaks a download.
    """

    def on_event(self, event: Event) -> None:
        """Take note of ``event``."""


class Watchers:
    """The observers of one entered AioDownload; falsy when there is nobody to tell."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = list(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def emit(self, event: Event) -> None:
        """Tell every observer; drop one that raises."""
        for observer in tuple(self._observers):
            try:
                observer.on_event(event)
            except Exception:
                self._observers.remove(observer)
                _log.exception("observer %r raised and is dropped", observer)


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
    return checked
