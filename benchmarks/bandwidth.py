"""How exactly a bandwidth is kept: so many bytes in one stream, and in fifty, against the time that they must take.

python benchmarks/bandwidth.py --bandwidth 5000000 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import aiodownload  # noqa: E402
from aiodownload.testing import Connection, FaultServer, Request, Script  # noqa: E402


def body(size: int) -> Script:
    """So many bytes, piece by piece."""

    async def script(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for at in range(0, size, 1 << 16):
            await connection.send(b"x" * min(1 << 16, size - at))
        return True

    return script


async def measured(urls: list[str], bandwidth: float) -> float:
    """Seconds that all of them take."""
    home = tempfile.mkdtemp(dir="/dev/shm")
    strategy = aiodownload.RequestStrategy(concurrent=len(urls), bandwidth=bandwidth)
    try:
        async with aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=home), strategy) as download:
            began = time.perf_counter()
            bundles = await download.swarm(urls)
            took = time.perf_counter() - began
        if not all(bundle.ok for bundle in bundles):
            raise SystemExit("a file failed")
        return took
    finally:
        shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bandwidth", type=float, default=5e6, help="bytes per second")
    parser.add_argument("--seconds", type=float, default=10)
    chosen = parser.parse_args()
    for streams in (1, 50):
        with FaultServer() as server:
            size = int(chosen.bandwidth * chosen.seconds / streams)
            server.default = body(size)
            took = asyncio.run(measured([server.url(f"/{n}") for n in range(streams)], chosen.bandwidth))
        rate = size * streams / took
        off = 100 * (rate / chosen.bandwidth - 1)
        print(f"{streams:2} streams: {rate / 1e6:.3f} MB/s of {chosen.bandwidth / 1e6:g} ({off:+.2f} %)")


if __name__ == "__main__":
    main()
