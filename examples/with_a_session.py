"""Use a session of one's own: that is where proxies, credentials and TLS settings go.

python examples/with_a_session.py [BASE_URL]
"""

import asyncio

import aiohttp
from server import base_url

from aiodownload import AioDownload, DownloadStrategy, RequestStrategy, one


def make_session() -> aiohttp.ClientSession:
    """Called in the event loop that uses the session, which is closed at the end."""
    return aiohttp.ClientSession(headers={"Authorization": "Bearer open-sesame"})


def blocking(base: str) -> None:
    """one(), each() and swarm() have an event loop of their own: give them something that makes the session."""
    download = AioDownload(client=make_session, download_strategy=DownloadStrategy(home="downloads"))
    print("with a factory:", one(f"{base}/private.txt", download).status.value)
    print("without:", one(f"{base}/private.txt", AioDownload(request_strategy=RequestStrategy())).error)


async def awaiting(base: str) -> None:
    """In a coroutine a live session may be given; it is used and stays open."""
    async with make_session() as session:
        async with AioDownload(session, DownloadStrategy(home="downloads")) as download:
            bundle = await download.one(f"{base}/private.txt")
        print("with a session:", bundle.status.value, "- still open:", not session.closed)


def main(base: str) -> None:
    """Both ways."""
    blocking(base)
    asyncio.run(awaiting(base))


if __name__ == "__main__":
    with base_url() as base:
        main(base)
