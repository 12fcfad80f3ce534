"""One URL with aiodownload; exit status 0 if its bundle is ok, 69 for what this version cannot be asked for."""

import argparse
import inspect
import sys
from pathlib import Path

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, RequestStrategy


class Quick(RequestStrategy):
    """Up to five tries, again whatever came but a 404, and next to no waits of its own."""

    def retry(self, response):
        """Every unsuccessful response but a 404."""
        return response.status != 404

    def get_sleep_time(self, bundle):
        """Half a second between tries."""
        return 0 if bundle.attempts == 0 else 0.5


parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--file")
parser.add_argument("--folder", default=".")
parser.add_argument("--skip", action="store_true")
parser.add_argument("--header", action="append", default=[])
parser.add_argument("--sha256")
parser.add_argument("--segments", type=int, default=1)
given = parser.parse_args()

more = {}
if given.sha256:
    if "digest" not in inspect.signature(AioDownloadBundle).parameters:
        print("this version takes no checksum")
        sys.exit(69)
    more["digest"] = f"sha256:{given.sha256}"
if given.file:
    more["file_path"] = Path(given.file).absolute()
bundle = aiodownload.one(
    AioDownloadBundle(given.url, headers=dict(pair.split(": ", 1) for pair in given.header), **more),
    AioDownload(
        download_strategy=DownloadStrategy(home=given.folder, skip_cached=given.skip, segments=given.segments),
        request_strategy=Quick(max_attempts=5, timeout=10, concurrent=max(2, given.segments)),
    ),
)
print(repr(bundle))
sys.exit(not bundle.ok)
