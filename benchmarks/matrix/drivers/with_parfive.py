"""One URL with parfive's Downloader, and up to three times its retry()."""

import argparse
import sys

from parfive import Downloader, SessionConfig

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--file")
parser.add_argument("--folder", default=".")
parser.add_argument("--skip", action="store_true")
parser.add_argument("--header", action="append", default=[])
parser.add_argument("--sha256")
given = parser.parse_args()

config = SessionConfig(headers=dict(pair.split(": ", 1) for pair in given.header))
downloader = Downloader(progress=False, overwrite=not given.skip, config=config)
checksum = f"sha256={given.sha256}" if given.sha256 else None
downloader.enqueue_file(given.url, path=given.folder, filename=given.file, checksum=checksum)
results = downloader.download()
for _ in range(3):
    if not results.errors:
        break
    if checksum:  # retry() forgets it
        downloader.enqueue_file(given.url, path=given.folder, filename=given.file, checksum=checksum)
        results = downloader.download()
    else:
        results = downloader.retry(results)
print(results)
sys.exit(bool(results.errors))
