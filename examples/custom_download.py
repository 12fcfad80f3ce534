"""Keep something else than the file: subclasses of DownloadStrategy.

python examples/custom_download.py [BASE_URL]
"""

import asyncio
import hashlib
import os

from aiohttp import ClientResponse
from server import base_url

from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, one


class KeepJson(DownloadStrategy):
    """Parses the body and writes no file."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        """Called with a whole, plain 200."""
        bundle.info = await response.json()


class WithChecksum(DownloadStrategy):
    """Writes the file as usual, and a checksum beside it."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        """When ``super().on_success()`` returns, the whole file is there."""
        await super().on_success(response, bundle)
        await asyncio.to_thread(self.write_checksum, bundle.file_path)  # the event loop must not wait for a disk

    async def on_fail(self, bundle: AioDownloadBundle) -> None:
        """Called once, when the bundle has finally failed."""
        print("no file:", bundle.error)

    def get_file_path(self, bundle: AioDownloadBundle) -> str:
        """A relative path lies below home."""
        return os.path.join("checked", os.path.basename(super().get_file_path(bundle)))

    @staticmethod
    def write_checksum(path: str) -> None:
        """Write ``path.sha256``.  Blocks."""
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with open(f"{path}.sha256", "w") as file:
            file.write(f"{digest}  {os.path.basename(path)}\n")


def main(base: str) -> None:
    """Use both."""
    bundle = one(f"{base}/prices.json", AioDownload(download_strategy=KeepJson()))
    print(bundle.ok, bundle.info)

    download = AioDownload(download_strategy=WithChecksum(home="downloads"))
    print(one(f"{base}/report.csv", download).file_path)
    one(f"{base}/missing.csv", download)


if __name__ == "__main__":
    with base_url() as base:
        main(base)
