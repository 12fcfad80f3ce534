"""Download a list of URLs, with settings, and get the bundles in the same order.

python examples/swarm.py [BASE_URL]
"""

from server import base_url

from aiodownload import AioDownload, BackOff, DownloadStrategy, swarm


def main(base: str) -> None:
    """Download four files below the folder ``downloads``; a second time they are there already."""
    urls = [f"{base}/files/{number}.txt" for number in range(1, 5)]
    download = AioDownload(
        download_strategy=DownloadStrategy(home="downloads", skip_cached=True),
        request_strategy=BackOff(max_attempts=4, concurrent=4),
    )
    for turn in ("first", "second"):
        bundles = swarm(urls, download)
        for bundle in bundles:
            print(turn, bundle.status.value, bundle.size, bundle.file_path)


if __name__ == "__main__":
    with base_url() as base:
        main(base)
