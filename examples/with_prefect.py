"""Download with a Prefect flow: a task for each part of the hosts, whose retries do only what is missing.

python examples/with_prefect.py [BASE_URL]
"""

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

from prefect import flow, task
from server import base_url
from yarl import URL

from aiodownload import Adaptive, AioDownload, AioDownloadBundle, DownloadStrategy

CONCURRENT = 16  # requests at once, in all tasks together
PARTS = 2
LATER = {408, 425, 429, 500, 502, 503, 504}  # statuses that may pass
HOME = Path("downloads").absolute()  # every worker must see it


def part_of(url: str) -> int:
    """The part that the host of ``url`` is in; what is no URL is in that of no host."""
    try:
        host = URL(url.strip()).raw_host or ""
    except (ValueError, IndexError):
        host = ""
    return int.from_bytes(sha256(host.encode()).digest()[:8]) % PARTS


def may_pass(bundle: AioDownloadBundle) -> bool:
    """Whether it has failed, and a later try may succeed."""
    return bundle.error is not None and (bundle.error.transient or bundle.http_status in LATER)


@task(retries=2, retry_delay_seconds=1)
async def fetch(urls: list[str], part: int) -> list[dict[str, Any]]:
    """Fetch one part; raise if something that may pass has kept a file away, so that Prefect tries again."""
    async with AioDownload(
        download_strategy=DownloadStrategy(home=HOME, skip_cached=True),
        request_strategy=Adaptive(max_attempts=4, concurrent=max(1, CONCURRENT // PARTS), per_host=4),
        journal=f"{HOME}.journals/{part:05}-of-{PARTS:05}.db",
    ) as download:
        bundles = [bundle async for bundle in download.each(urls)]
    missing = [bundle for bundle in bundles if may_pass(bundle)]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(bundles)} are missing, such as {missing[0].status_msg}")
    return [
        {"url": one.url, "status": one.status.name, "file_path": one.file_path, "error": one.error and str(one.error)}
        for one in bundles
    ]


@flow
async def downloads(listed: str) -> list[dict[str, Any]]:
    """Fetch all parts of a list, a file with a URL in each line, side by side."""
    text = await asyncio.to_thread(Path(listed).read_text, encoding="utf-8")
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for url in text.split():
        parts[part_of(url)].append(url)
    rows = await asyncio.gather(*(fetch(part, number) for number, part in enumerate(parts) if part))
    return [row for part in rows for row in part]


def main(base: str) -> None:
    """Download four files and one that is missing; a second time nothing is fetched."""
    urls = [f"{base}/files/{number}.txt" for number in range(1, 5)] + [f"{base}/missing.txt"]
    Path("urls.txt").write_text("\n".join(urls), encoding="utf-8")
    for turn in ("first", "second"):
        for row in sorted(asyncio.run(downloads("urls.txt")), key=lambda row: row["url"]):
            print(turn, row["status"], row["error"])


if __name__ == "__main__":
    with base_url() as base:
        main(base)
