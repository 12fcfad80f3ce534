"""Outlast: a wait that goes on to its end although it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["outlast"]

T = TypeVar("T")


async def outlast(work: Coroutine[Any, Any, T]) -> T:
    """Do ``work`` to its end, also if this is cancelled meanwhile, which is raised then and not before."""
    task = asyncio.ensure_future(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()
