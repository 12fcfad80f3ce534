"""Admission in real runs: outcomes that were moved to the disk, and what is done where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import aiodownload
from aiodownload import AioDownload, Status
from aiodownload.seen import Seen, SpillError
from aiodownload.testing import FaultServer, each_path, ok, status

Make = Callable[..., AioDownload]


def small(monkeypatch: pytest.MonkeyPatch, kind: type[Seen] = Seen) -> None:
    """Let runs keep 20 outcomes in memory instead of thousands."""
    monkeypatch.setattr("aiodownload.admission.Seen", lambda: kind(recent=20, batch=10))


def test_far_apart_repeats_are_fetched_once(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that comes again after its outcome has left the memory is settled from the disk, failures too."""
    small(monkeypatch)
    server.default = each_path(lambda request: status(404) if request.target.endswith("7") else ok(b"some bytes"))
    urls = [server.url(f"/{number}") for number in range(120)]
    bundles = aiodownload.swarm(urls + urls, quick())
    assert len(server.requests) == 120
    for first, again in zip(bundles[:120], bundles[120:], strict=True):
        assert again.status is first.status
        assert (again.file_path, again.size, again.http_status) == (first.file_path, first.size, first.http_status)
        assert str(again.error) == str(first.error)
    assert sum(bundle.status is Status.FAILED for bundle in bundles) == 24


def test_without_a_temporary_database_memory_serves(
    server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no temporary database can be made, a warning says so and nothing else changes."""

    class Homeless(Seen):
        def spill(self) -> None:
            raise SpillError("unable to open database file")

    small(monkeypatch, Homeless)
    server.default = ok(b"x")
    urls = [server.url(f"/{number}") for number in range(60)]
    with caplog.at_level(logging.WARNING, "aiodownload"):
        bundles = aiodownload.swarm(urls + urls, quick())
    assert all(bundle.ok for bundle in bundles)
    assert len(server.requests) == 60
    assert [record for record in caplog.records if "no temporary database" in record.message]


def test_a_hook_that_is_called_by_hand_writes_the_file(server: FaultServer, home: Any) -> None:
    """on_success of the library works outside of a run too: so that users can test what they build on it."""
    import asyncio

    import aiohttp

    async def main() -> None:
        strategy = aiodownload.DownloadStrategy(home=home)
        bundle = aiodownload.AioDownloadBundle(server.on("/by/hand.txt", ok(b"hello")))
        async with aiohttp.ClientSession() as session, session.get(bundle.url) as response:
            await strategy.on_success(response, bundle)
        assert bundle.size == 5

    asyncio.run(main())
    assert [path.read_bytes() for path in home.rglob("hand.txt")] == [b"hello"]
