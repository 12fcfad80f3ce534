"""Await the downloads in a program that has an event loop of its own.

python examples/in_an_event_loop.py [BASE_URL]
"""

import asyncio
from collections.abc import AsyncIterator

from server import base_url

from aiodownload import AioDownload, DownloadStrategy, RequestStrategy


async def main(base: str) -> None:
    """One, a swarm, and an iteration, with one session and one set of limits."""
    settings = AioDownload(
        download_strategy=DownloadStrategy(home="downloads"),
        request_strategy=RequestStrategy(concurrent=3),
    )
    async with settings as download:
        bundle = await download.one(f"{base}/report.csv")
        print(bundle.status.value, bundle.size)

        # Calls may run side by side; together they make no more than three requests at once.
        left, right = await asyncio.gather(
            download.swarm([f"{base}/files/{number}.txt" for number in (1, 2)]),
            download.swarm([f"{base}/files/{number}.txt" for number in (3, 4)]),
        )
        print([bundle.size for bundle in left + right])

        async def urls() -> AsyncIterator[str]:
            """The input may itself be asynchronous: it is read just ahead of the work."""
            for number in (5, 6):
                await asyncio.sleep(0)
                yield f"{base}/files/{number}.txt"

        async for bundle in download.each(urls()):
            print(bundle.status.value, bundle.url.rpartition("/")[2])


if __name__ == "__main__":
    with base_url() as base:
        asyncio.run(main(base))
