"""What a swarm costs over the shortest honest aiohttp loop that writes the same files.

Both run as whole processes in turn (A B A B …) against one nginx on loopback, with output on tmpfs; the ratio is
taken pair by pair.  Every file's SHA-256 is checked after every run.

    python benchmarks/overhead.py --files 4000 --size 10240 --concurrent 16 --pairs 5
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nginx

BARE = """
import asyncio, os, sys, aiohttp
base, count, out, concurrent = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
async def main():
    urls = iter(f"{base}/f{index:06}.bin" for index in range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async def work():
            for url in urls:
                async with session.get(url) as response:
                    response.raise_for_status()
                    body = await response.read()
                with open(os.path.join(out, url.rpartition("/")[2]), "wb") as file:
                    file.write(body)
        await asyncio.gather(*(work() for _ in range(concurrent)))
asyncio.run(main())
"""

OURS = """
import sys, aiodownload
base, count, out, concurrent = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
download = aiodownload.AioDownload(
    download_strategy=aiodownload.DownloadStrategy(home=out),
    request_strategy=aiodownload.RequestStrategy(concurrent=concurrent),
)
bundles = aiodownload.swarm((f"{base}/f{index:06}.bin" for index in range(count)), download)
assert all(bundle.ok for bundle in bundles), [bundle.error for bundle in bundles if not bundle.ok][:3]
"""


def environment(folder: Path) -> dict[str, str]:
    """Both programs find compiled modules, as after an installation by pip; the warm-up compiles what is missing."""
    caching = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**caching, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def run(
    program: str, base: str, count: int, concurrent: int, wanted: dict[str, str], env: dict[str, str]
) -> tuple[float, float]:
    """Run one program on an empty folder; return its wall and CPU seconds after checking what it wrote."""
    out = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        before = os.times()
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", program, base, str(count), str(out), str(concurrent)], check=True, env=env
        )
        wall = time.perf_counter() - start
        after = os.times()
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.bin")}
        if found != wanted:
            raise SystemExit(f"wrong files: {len(found)} of {len(wanted)}")
        cpu = after.children_user - before.children_user + after.children_system - before.children_system
        return wall, cpu
    finally:
        shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--size", type=int, default=10240, help="bytes per file")
    parser.add_argument("--concurrent", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    folder.chmod(0o755)
    try:
        names = nginx.fill(folder, chosen.files, chosen.size)
        wanted = {name: hashlib.sha256((folder / "www" / name).read_bytes()).hexdigest() for name in names}
        with nginx.serving(folder) as base:
            ratios, env = [], environment(folder)
            for pair in range(chosen.pairs + 1):
                bare, bare_cpu = run(BARE, base, chosen.files, chosen.concurrent, wanted, env)
                ours, ours_cpu = run(OURS, base, chosen.files, chosen.concurrent, wanted, env)
                label = "warm-up" if pair == 0 else f"pair {pair}"
                print(
                    f"{label}: bare loop {bare:.2f} s ({bare_cpu:.2f} s CPU), aiodownload {ours:.2f} s "
                    f"({ours_cpu:.2f} s CPU), ratio {ours / bare:.3f}",
                    flush=True,
                )
                if pair:
                    ratios.append(ours / bare)
    finally:
        shutil.rmtree(folder)
    print(
        f"{chosen.files} files of {chosen.size} bytes, concurrency {chosen.concurrent}: "
        f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
