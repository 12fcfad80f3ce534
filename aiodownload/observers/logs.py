"""What happens in a run, as lines of the standard ``logging`` module; quiet until it is configured."""

from __future__ import annotations

import logging
from typing import Any

from ..bundle import AioDownloadBundle
from ..events import Event, RetryScheduled, Settled
from ..outcomes import record

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


def _extra(bundle: AioDownloadBundle, **more: Any) -> dict[str, Any]:
    """What a formatter that writes JSON can have besides the line: ``record.download``, a dict."""
    return {"download": {**record(bundle), **more}}


class LogObserver:
    """Write an INFO line per settled bundle and per retry, a WARNING for a failure.

    The log records have an attribute ``download``: what became of the bundle so far, as a dict.
    """

    event_types = (RetryScheduled, Settled)

    def on_event(self, event: Event) -> None:
        """Write the line, if anybody reads it."""
        if isinstance(event, Settled):
            bundle = event.bundle
            if bundle.error is not None:
                logger.warning("%s %s", bundle.status_msg, bundle.error, extra=_extra(bundle))
            elif logger.isEnabledFor(logging.INFO):
                logger.info("%s", bundle.status_msg, extra=_extra(bundle))
        elif isinstance(event, RetryScheduled) and logger.isEnabledFor(logging.INFO):
            extra = _extra(event.bundle, delay=event.delay, error=str(event.error))
            logger.info("%s retry in %.3g s: %s", event.bundle.status_msg, event.delay, event.error, extra=extra)
