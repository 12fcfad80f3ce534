"""How many bytes of memory each thing takes that a run holds: a bundle that waits, a host, an outcome.

Counted by tracemalloc on the real objects; nothing is downloaded.  docs/cost.rst tells what it means.

    python benchmarks/cost.py
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import tracemalloc
from collections.abc import Callable
from typing import Any

from multidict import CIMultiDict

from aiodownload import Adaptive, AioDownload, AioDownloadBundle, DownloadStrategy, RequestStrategy, Status
from aiodownload.dispatcher import Dispatcher
from aiodownload.live import Live
from aiodownload.permit import Turn
from aiodownload.request.hosts import Entry
from aiodownload.request.schedule import Schedule
from aiodownload.request.strategy import limits_of
from aiodownload.run import Run
from aiodownload.seen import Seen
from aiodownload.source import source_of
from aiodownload.tries import Job

COUNT = 20_000
HEADERS = {
    "Server": "nginx/1.22.1",
    "Date": "Thu, 26 Nov 2026 09:00:00 GMT",
    "Content-Type": "application/octet-stream",
    "Content-Length": "10240",
    "Last-Modified": "Wed, 25 Nov 2026 09:00:00 GMT",
    "Connection": "keep-alive",
    "ETag": '"65a1b2c3-2800"',
    "Accept-Ranges": "bytes",
}


def each(make: Callable[[int], Any], count: int = COUNT) -> float:
    """Bytes per object of what ``make`` returns, and of what it holds."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [make(number) for number in range(count)]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del kept
    return held / count


def host_bytes(strategy: RequestStrategy) -> float:
    """Bytes that the schedule of ``strategy`` keeps for each host."""
    schedule: Any = Schedule(limits_of(strategy))
    return each(lambda number: schedule._host(f"https://host{number}.example.org", 0.0))


def settled(number: int) -> AioDownloadBundle:
    """A bundle as ``swarm`` returns it."""
    bundle = AioDownloadBundle(url(number))
    bundle._file_path, bundle.status, bundle.size = f"/data/example.org/files/f{number:08}.bin", Status.DONE, 10240
    bundle.attempts, bundle.http_status, bundle.final_url = 1, 200, url(number)
    bundle.response_headers = CIMultiDict(HEADERS)
    return bundle


def url(number: int) -> str:
    return f"https://example.org/files/f{number:08}.bin"


async def main() -> None:
    """Print a line for each."""
    with tempfile.TemporaryDirectory() as home:
        live = Live(AioDownload(None, DownloadStrategy(home=home), RequestStrategy()))
        run = Run(live, source_of([], None), lambda *_: None)
        await run.wait()
        dispatcher = Dispatcher(Schedule(limits_of(RequestStrategy())))

        def waiting(number: int) -> Any:
            job = Job(run, number, AioDownloadBundle(url(number)))
            job.bundle._parse()
            job.path = job.key = job.wanted = f"{home}/example.org/files/f{number:08}.bin"
            entry: Any = Entry(job, "https://example.org")
            job.permit = Turn(dispatcher, entry, job, live.release)
            return job

        print(f"a bundle that was read and waits for its turn: {each(waiting):.0f} bytes")
        for strategy in (RequestStrategy(), Adaptive()):
            print(f"a host, with {type(strategy).__name__}: {host_bytes(strategy):.0f} bytes, and its queue")
        print(f"a bundle that swarm returns: {each(settled):.0f} bytes")
        seen = Seen()
        size = each(lambda number: seen.put(url(number), b"x" * 16, settled(number)._results()))
        print(
            f"an outcome that is remembered: {size:.0f} bytes, for the last 8,192 to 10,240; older ones are on the disk"
        )
        await live.close()


if __name__ == "__main__":
    asyncio.run(main())
