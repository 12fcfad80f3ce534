"""One job of an array: the URLs of its part of the hosts, below a shared folder, with a journal of its own.

python examples/array_job.py URLS HOME PARTS [INDEX]

URLS is a text file with a URL in each line, HOME the folder or the object store that all jobs share, PARTS how many
jobs there are, and INDEX, from 0, which of them this is.  Without INDEX it is what the engine says.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256

from yarl import URL

from aiodownload import Adaptive, AioDownload, DownloadStrategy, each

CONCURRENT = 256  # requests at once, in all jobs together
INDEXES = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX")


def host_of(url: str) -> str:
    """The host of ``url``, spelled as it is asked; what is no URL has none."""
    try:
        return URL(url.strip()).raw_host or ""
    except (ValueError, IndexError):
        return ""


def part_of(url: str, parts: int) -> int:
    """The part that the host of ``url`` is in, from 0: in every process the same, which hash() is not."""
    return int.from_bytes(sha256(host_of(url).encode()).digest()[:8]) % parts


def part(lines: Iterable[str], parts: int, index: int) -> Iterator[str]:
    """The URLs of one part, read as they are asked for."""
    urls = (line.strip() for line in lines)
    return (url for url in urls if url and part_of(url, parts) == index)


def main(urls: str, home: str, parts: int, index: int) -> None:
    """Fetch one part, and print how many URLs have which status."""
    download = AioDownload(
        download_strategy=DownloadStrategy(home=home, skip_cached=True),
        request_strategy=Adaptive(max_attempts=4, concurrent=max(1, CONCURRENT // parts), per_host=4),
        journal=f"journals/{index:05}-of-{parts:05}.db",
    )
    with open(urls, encoding="utf-8") as lines:
        settled = Counter(bundle.status.name for bundle in each(part(lines, parts, index), download=download))
    print(f"part {index} of {parts}:", dict(sorted(settled.items())))


if __name__ == "__main__":
    urls, home, parts = sys.argv[1:4]
    index = sys.argv[4] if len(sys.argv) > 4 else next((os.environ[name] for name in INDEXES if name in os.environ), "")
    if not index:
        sys.exit(f"give an INDEX, or set one of {', '.join(INDEXES)}")
    if not 0 <= int(index) < int(parts):
        sys.exit(f"INDEX must be from 0 to {int(parts) - 1}, not {index}")
    main(urls, home, int(parts), int(index))
