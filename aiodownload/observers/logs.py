"""What happens in a run, as lines of the standard ``logging`` module; quiet until it is configured."""

from __future__ import annotations

import logging

from ..events import Event, RetryScheduled, Settled

__all__ = ["LogObserver", "logger"]

logger = logging.getLogger("aiodownload")
logger.addHandler(logging.NullHandler())


class LogObserver:
    """Write an INFO line per settled bundle and per retry, a WARNING for a failure."""

    LEAST = logging.WARNING

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
