"""Travel: what can go to another process as a pickle; nothing is loaded here but what was dumped just before."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..download import AioDownload

__all__ = ["travels", "unpicklable"]


def travels(error: BaseException) -> bool:
    """Whether ``error`` arrives in another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return False
    return True


def unpicklable(download: AioDownload) -> str | None:
    """What of ``download`` does not pickle, in words, or None."""
    for name in ("client", "download_strategy", "request_strategy"):
        part = getattr(download, name)
        reason = _reason(part)
        if reason is None:
            continue
        for attribute, value in vars(part).items() if hasattr(part, "__dict__") else ():
            if (why := _reason(value)) is not None:
                return f"{name}.{attribute} ({why})"
        return f"{name} ({reason})"
    return None


def _reason(thing: object) -> str | None:
    try:
        pickle.dumps(thing)
    except Exception as error:
        return str(error) or type(error).__name__
    return None
