"""A real server that admits so many requests a second and answers 429 with Retry-After beyond: who keeps to it?

Each program asks the same server on loopback (its own process, 20 ms for an answer) for small files, for a fixed time;
the server writes down what it admitted and what it refused.  Peers that are not installed are left out.

    python benchmarks/rates.py --seconds 60
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scripted

SERVER = r"""
import asyncio, collections, json, sys
limit, latency = int(sys.argv[1]), float(sys.argv[2])
seen, good, bad = collections.deque(), [], []
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100
BAD = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        loop = asyncio.get_running_loop()
        for request in requests:
            now = loop.time()
            if request.startswith(b"GET /figures "):
                text = json.dumps({"good": good, "bad": bad}).encode()
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
                continue
            while seen and seen[0] <= now - 1:
                seen.popleft()
            admitted = len(seen) < limit
            if admitted:
                seen.append(now)
            (good if admitted else bad).append(now)
            loop.call_later(latency, self.transport.write, GOOD if admitted else BAD)

async def main():
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

OURS = """
import sys, aiodownload
base, home = sys.argv[1], sys.argv[2]
download = aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=home), aiodownload.Adaptive())
for bundle in aiodownload.each((f"{base}/{number}" for number in range(10**9)), download=download):
    pass
"""

SCRAPY = """
import sys, scrapy
from scrapy.crawler import CrawlerProcess
base, count = sys.argv[1], int(sys.argv[3])
class Files(scrapy.Spider):
    name = "files"
    async def start(self):
        for number in range(count):
            yield scrapy.Request(f"{base}/{number}", dont_filter=True)
    def parse(self, response):
        pass
process = CrawlerProcess({
    "AUTOTHROTTLE_ENABLED": True, "AUTOTHROTTLE_START_DELAY": 0.1, "AUTOTHROTTLE_TARGET_CONCURRENCY": 16.0,
    "DOWNLOAD_DELAY": 0.0, "CONCURRENT_REQUESTS_PER_DOMAIN": 16, "RETRY_TIMES": 10, "LOG_LEVEL": "ERROR",
    "TELNETCONSOLE_ENABLED": False,
})
process.crawl(Files)
process.start()
"""


PEERS = {
    "curl": "curl -s --parallel --parallel-max 16 --retry 10 -K {config}",
    "aria2": "aria2c -q -j16 -m10 --retry-wait=1 --auto-file-renaming=false -d {out} -i {urls}",
    "wget2": "wget2 -q --max-threads=16 --tries=10 -P {out} -i {urls}",
}


def commands(base: str, out: Path, count: int) -> dict[str, list[str]]:
    """The programs, each at 16 at once, with the retries that they have."""
    urls = out / "urls"
    urls.write_text("".join(f"{base}/{number}\n" for number in range(count)))
    config = out / "curl"
    config.write_text("".join(f'url="{base}/{number}"\noutput="{out}/{number}"\n' for number in range(count)))
    found = {"aiodownload, Adaptive": [sys.executable, "-c", OURS, base, str(out)]}
    for name, line in PEERS.items():
        if shutil.which(line.split()[0]):
            found[name] = line.format(out=out, urls=urls, config=config).split()
    with contextlib.suppress(ImportError):
        import scrapy  # noqa: F401

        found["Scrapy, AutoThrottle"] = [sys.executable, "-c", SCRAPY, base, str(out), str(count)]
    return found


def asked(name: str, per_second: int, seconds: float, latency: float) -> dict[str, float] | None:
    """Let one program ask for so long, and see what the server saw; None if it ended without doing the work."""
    from urllib.request import urlopen

    out = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        with scripted.serving(SERVER, per_second, latency) as base:
            command = commands(base, out, int(per_second * seconds * 2))[name]
            env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
            process = subprocess.Popen(
                command, cwd=out, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            time.sleep(seconds + 1)
            ended = process.poll() is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            figures = json.loads(urlopen(f"{base}/figures").read())
        good, bad = figures["good"], figures["bad"]
        if not good:
            return None
        began = min([*good[:1], *bad[:1]])
        first = sum(one < began + 15 for one in good) / 15 / per_second
        after = sum(began + 15 <= one < began + seconds for one in good) / max(1e-9, seconds - 15) / per_second
        return {"first": first, "after": after, "later": len(bad) / (len(good) + len(bad)), "ended": ended}
    finally:
        shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for each program and rate (more than 15)")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds for an answer")
    parser.add_argument("--rates", type=int, nargs="*", default=[20, 100, 500])
    parser.add_argument("--only", help="the one program whose name begins so")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in commands("http://127.0.0.1:9", Path(folder), 1) if name.startswith(chosen.only or "")]
    print(f"{'program':24} {'allowed':>8} {'first 15 s':>11} {'after':>8} {'429':>8}")
    for name in names:
        for per_second in chosen.rates:
            found = asked(name, per_second, chosen.seconds, chosen.latency)
            if found is None:
                print(f"{name:24} {per_second:6}/s  did not do the work")
                continue
            print(
                f"{name:24} {per_second:6}/s {100 * found['first']:9.1f} % {100 * found['after']:6.1f} % "
                f"{100 * found['later']:6.2f} %{'  (ended by itself)' if found['ended'] else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()
