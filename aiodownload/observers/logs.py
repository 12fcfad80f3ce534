"""What happens in a run, as lines of the standard ``logging`` module; quiet until it is configured."""

from __future__ import annotations

import logging

from ..events import Event, RetryScheduled, Settled

__all__ = ["LogObserver", "logger", "somebody_reads"]

logger = logging.getLogger("aiodownload")
logger.addHandler(logging.NullHandler())


def somebody_reads() -> bool:
    """Whether logging has been configured so that a line could arrive anywhere."""
    at: logging.Logger | None = logger
    while at is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in at.handlers):
            return logger.isEnabledFor(logging.WARNING)
        at = at.parent if at.propagate else None
    return False


class LogObserver:
    """Write an INFO line per settled bundle and per retry, a WARNING for a failure."""

    event_types = (RetryScheduled, Settled)

    def on_event(self, event: Event) -> None:
        """Write the line, if anybody reads it."""
        if isinstance(event, Settled):
            bundle = event.bundle
            if bundle.error is not None:
                logger.warning("%s %s", bundle.status_msg, bundle.error)
            elif logger.isEnabledFor(logging.INFO):
                logger.info("%s", bundle.status_msg)
        elif isinstance(event, RetryScheduled) and logger.isEnabledFor(logging.INFO):
            logger.info("%s retry in %.3g s: %s", event.bundle.status_msg, event.delay, event.error)
