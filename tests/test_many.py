"""Many URLs: every byte right, a bounded look-ahead, and memory that does not grow with the input."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nginx
import pytest

import aiodownload
from aiodownload import AioDownload, DownloadStrategy, RequestStrategy, Verified

ROOT = Path(aiodownload.__file__).parents[1]

SERVER = r"""
import asyncio

BODY = b"x" * 100
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + BODY


class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        self.transport.write(ANSWER * len(requests))


async def main():
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
"""

# `resident` is measured after a collection, so that what can go is gone.
CLIENT = r"""
import gc, json, os, sys
from aiodownload import AioDownload, DownloadStrategy, RequestStrategy, each

base, home, count, early, concurrent = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])


class Nothing(DownloadStrategy):
    async def on_success(self, response, bundle):
        await response.read()


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


read = 0


def urls():
    global read
    for read in range(1, count + 1):
        yield f"{base}/{read}.txt"


done = failed = farthest = before = 0
download = AioDownload(None, Nothing(home=home), RequestStrategy(concurrent=concurrent))
for bundle in each(urls(), download=download):
    farthest = max(farthest, read - done)
    done += 1
    failed += not bundle.ok
    if done == early:
        before = resident()
grown = resident() - before
print(json.dumps({"done": done, "failed": failed, "read": read, "farthest": farthest, "grown": grown}))
"""


@contextmanager
def quick_server() -> Iterator[str]:
    """A server in a process of its own that answers every request from memory."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def iterate(count: int, early: int, home: Path, concurrent: int) -> dict[str, Any]:
    """Let another process iterate over so many URLs and tell what it saw; nothing is kept of any of them."""
    with quick_server() as base:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", CLIENT, base, str(home), *map(str, (count, early, concurrent))],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.skipif(nginx.find() is None, reason="nginx is not installed")
def test_two_thousand_files_are_right(tmp_path: Path) -> None:
    """2,000 files from nginx, many at once: every SHA-256 is that of the file served, and no other file is there."""
    names = nginx.fill(tmp_path, 2000, 3000)
    expected = {name: hashlib.sha256((tmp_path / "www" / name).read_bytes()).hexdigest() for name in names}
    home = tmp_path / "home"
    download = AioDownload(None, DownloadStrategy(home=home), RequestStrategy(concurrent=32))
    with nginx.serving(tmp_path) as base:
        bundles = aiodownload.swarm((f"{base}/{name}" for name in names), download)
    assert [bundle.url.rpartition("/")[2] for bundle in bundles] == names
    assert all(bundle.ok and bundle.size == 3000 and bundle.verified is Verified.LENGTH for bundle in bundles)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in home.rglob("*") if path.is_file()}
    assert found == expected


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_five_thousand_in_bounded_memory(tmp_path: Path) -> None:
    """The quick form: 5,000 URLs are read just ahead of the work, and memory grows by less than 10 MiB."""
    told = iterate(5000, 1000, tmp_path / "home", 16)
    assert (told["done"], told["read"], told["failed"]) == (5000, 5000, 0)
    # The consumer's count lags by the bundle in hand.
    assert 16 <= told["farthest"] <= 4 * 16 + 1
    print(told)
    assert told["grown"] < 10 << 20
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_two_hundred_thousand_in_bounded_memory(tmp_path: Path) -> None:
    """After 200,000 URLs the process holds at most 10 MiB more than after 20,000, and read never far ahead."""
    told = iterate(200_000, 20_000, tmp_path / "home", 16)
    assert (told["done"], told["read"], told["failed"]) == (200_000, 200_000, 0)
    assert 16 <= told["farthest"] <= 4 * 16 + 1
    print(told)
    assert told["grown"] < 10 << 20
