"""A thousand hosts on loopback (127.0.0.0/8), of which a tenth refuses and a tenth is slow: what do the others lose?

One server in a process of its own answers for all addresses; slow hosts take ``--slow`` seconds for an answer, dead
ones have nobody who listens.  The time until the last file of a healthy host is compared with that of a run without the
rest, in pairs.

    python benchmarks/neighbours.py --hosts 1000 --each 20 --pairs 3
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import scripted  # noqa: E402

import aiodownload  # noqa: E402

SERVER = r"""
import asyncio, sys
slow = float(sys.argv[1])
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100

class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
        self.late = transport.get_extra_info("sockname")[0].startswith("127.1.")
    def data_received(self, data):
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for _ in requests:
            if self.late:
                asyncio.get_running_loop().call_later(slow, self.transport.write, ANSWER)
            else:
                self.transport.write(ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Answering, "0.0.0.0", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def urls(hosts: int, each: int, port: int, dead: int, *, healthy: bool) -> list[str]:
    """Shuffled; the address says what a host is: 127.1 slow, 127.2 dead, 127.3 healthy."""
    found = []
    for number in range(hosts):
        kind, at = {0: ("2", dead), 5: ("1", port)}.get(number % 10, ("3", port))
        if kind == "3" or not healthy:
            host = f"127.{kind}.{number // 250}.{number % 250 + 1}:{at}"
            found += [f"http://{host}/{index}" for index in range(each)]
    random.Random(1).shuffle(found)
    return found


def run(asked: list[str], strategy: aiodownload.RequestStrategy) -> float:
    """Seconds until the last file of a healthy host."""
    home = tempfile.mkdtemp(dir="/dev/shm")
    try:
        download = aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=home), strategy)
        began, last, good = time.perf_counter(), 0.0, 0
        healthy = sum("//127.3." in url for url in asked)
        for bundle in aiodownload.each(asked, download=download):
            if "//127.3." in bundle.url:
                if not bundle.ok:
                    raise SystemExit(f"a healthy host's file failed: {bundle}")
                last, good = time.perf_counter() - began, good + 1
                if good == healthy:
                    break
        return last
    finally:
        shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--each", type=int, default=20, help="URLs for each host")
    parser.add_argument("--slow", type=float, default=2.0, help="seconds that a slow host takes for an answer")
    parser.add_argument("--pairs", type=int, default=3)
    chosen = parser.parse_args()
    with scripted.serving(SERVER, chosen.slow) as base:
        port = int(base.rpartition(":")[2])
        strategies = {"Polite": aiodownload.Polite(robots=False), "Adaptive": aiodownload.Adaptive(concurrent=256)}
        for name, strategy in strategies.items():
            ratios = []
            for pair in range(chosen.pairs):
                times = [
                    run(urls(chosen.hosts, chosen.each, port, 9, healthy=healthy), strategy)
                    for healthy in (True, False)
                ]
                ratios.append(times[1] / times[0])
                print(f"{name}, pair {pair + 1}: alone {times[0]:.1f} s, beside {times[1]:.1f} s: {ratios[-1]:.2f}")
            print(f"{name}: median ratio {statistics.median(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
