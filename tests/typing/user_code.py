"""Typical code of a user, checked with mypy --strict and never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import assert_type

import aiohttp
import pandas as pd
from yarl import URL

from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    AioDownloadError,
    BackOff,
    DownloadError,
    DownloadStrategy,
    Event,
    Lenient,
    Observer,
    Outcomes,
    RequestStrategy,
    Settled,
    Status,
    StrategyError,
    TarShards,
    Verified,
    each,
    one,
    swarm,
    to_dataframe,
)


class Patient(Lenient):
    def __init__(self) -> None:
        super().__init__(max_attempts=3, concurrent=8, timeout=30)

    def retry(self, response: aiohttp.ClientResponse) -> bool:
        return response.status == 503

    def retry_error(self, error: DownloadError) -> bool:
        return super().retry_error(error)

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 0 if bundle.attempts == 0 else 5

    def assert_response(self, response: aiohttp.ClientResponse) -> None:
        super().assert_response(response)
        if response.content_type == "text/html":
            raise AssertionError("a login page")


class Flat(DownloadStrategy):
    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        return URL(bundle.url).name or "index"

    async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
        await super().on_success(response, bundle)
        bundle.info = bundle.size

    async def on_fail(self, bundle: AioDownloadBundle) -> None:
        print(bundle.error)


class Counter:
    def on_event(self, event: Event) -> None:
        if isinstance(event, Settled):
            print(event.bundle.status_msg)


def blocking() -> None:
    bundle = one("https://example.org/a")
    assert_type(bundle, AioDownloadBundle)
    assert_type(bundle.ok, bool)
    assert_type(bundle.status, Status)
    assert_type(bundle.verified, Verified)
    assert_type(bundle.error, AioDownloadError | None)
    assert_type(bundle.file_path, str | None)
    download = AioDownload(
        aiohttp.ClientSession, Flat(home="files", skip_cached=True), Patient(), observers=[Counter()]
    )
    outcomes: list[AioDownloadBundle] = swarm([URL("https://example.org/a"), bundle], download, progress=True)
    assert_type(swarm(outcomes, progress=Counter()).failed, list[AioDownloadBundle])
    assert_type(to_dataframe(outcomes), pd.DataFrame)
    rows = [{"id": 1}, {"id": 2}]
    with ThreadPoolExecutor(2) as pool:
        assert_type(swarm(["https://example.org/a"], download, executor=pool, workers=2), Outcomes)
    results = each(rows, lambda row: f"https://example.org/{row['id']}", download)
    assert_type(results, Iterator[AioDownloadBundle])
    try:
        swarm(f"https://example.org/{index}" for index in range(3))
    except StrategyError as error:
        assert_type(error.settled, list[AioDownloadBundle])


def dataset() -> None:
    shards = TarShards("cats", shard_size=1000, max_shard_bytes=1 << 30, keys="hash", durable=True)
    strategy: DownloadStrategy = shards
    assert_type(shards.shard_size, int)
    assert_type(swarm(["https://example.org/a"], AioDownload(download_strategy=strategy)), Outcomes)


async def awaiting(session: aiohttp.ClientSession) -> None:
    async def urls() -> AsyncIterator[str]:
        yield "https://example.org/a"

    request: RequestStrategy = BackOff(10, max_retry_after=60)
    async with AioDownload(session, request_strategy=request) as download:
        assert_type(await download.one("https://example.org/a"), AioDownloadBundle)
        assert_type(await download.swarm(urls()), Outcomes)
        async for bundle in download.each(["https://example.org/a"]):
            assert_type(bundle, AioDownloadBundle)
    await AioDownload().main(AioDownloadBundle("https://example.org/a", {"any": "thing"}, headers={"Accept": "*/*"}))


observer: Observer = Counter()

if __name__ == "__main__":
    blocking()
    asyncio.run(awaiting(aiohttp.ClientSession()))
