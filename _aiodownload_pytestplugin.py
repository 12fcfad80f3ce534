"""The pytest plugin: the fixture ``aiodownload_server``.

A module beside the package: pytest imports it in every session, and to import a module of the package would import
all of aiodownload, and aiohttp, also for tests that have nothing to do with either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aiodownload.testing import FaultServer


@pytest.fixture
def aiodownload_server() -> Iterator[FaultServer]:
    """An HTTP server on loopback that answers as it is told: aiodownload.testing.FaultServer."""
    from aiodownload.testing import FaultServer

    with FaultServer() as server:
        yield server
