"""One URL with the loop that everybody writes: chunks go to the final name as they come, and up to four tries."""

import argparse
import asyncio
import sys
from pathlib import Path

import aiohttp
from yarl import URL

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--file")
parser.add_argument("--folder", default=".")
parser.add_argument("--header", action="append", default=[])
given = parser.parse_args()
url = URL(given.url, encoded=True)


async def main():
    """Return whether it worked."""
    target = given.file or Path(given.folder, url.name)
    headers = dict(pair.split(": ", 1) for pair in given.header)
    async with aiohttp.ClientSession() as session:
        for _ in range(4):
            try:
                async with session.get(url, headers=headers) as response:
                    response.raise_for_status()
                    with open(target, "wb") as file:  # noqa: ASYNC230  (as everybody does)
                        async for chunk in response.content.iter_chunked(65536):
                            file.write(chunk)
                return True
            except (aiohttp.ClientError, TimeoutError) as error:
                print(repr(error))
                await asyncio.sleep(1)
    return False


sys.exit(not asyncio.run(main()))
