"""What a swarm costs over the shortest honest aiohttp loop that writes the same files.

They run as whole processes in turn (A B A B …) against one nginx on loopback, with output on tmpfs; the ratio is taken
pair by pair.  Every file's SHA-256 is checked after every run.  With ``--journal``, ours also runs with a journal.

    python benchmarks/overhead.py --files 4000 --size 10240 --concurrent 16 --pairs 5 --journal
    python benchmarks/overhead.py --files 1 --size 1073741824 --concurrent 1 --pairs 5 --journal
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
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
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=4 << 20) as session:
        async def work():
            for url in urls:
                async with session.get(url) as response:
                    response.raise_for_status()
                    with open(os.path.join(out, url.rpartition("/")[2]), "wb") as file:
                        if response.content_length < 1 << 20:
                            file.write(await response.read())
                        else:
                            async for chunk in response.content.iter_any():
                                file.write(chunk)
        await asyncio.gather(*(work() for _ in range(concurrent)))
asyncio.run(main())
"""

OURS = """
import sys, aiodownload
base, count, out, concurrent = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
journal = out + "/journal.db" if sys.argv[5:] else None
download = aiodownload.AioDownload(
    journal=journal,
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


def warm(size: int) -> None:
    """Touch as much memory as a run will fill, and give it back.

    On a virtual machine, a page that has not been used for a while costs far more than to fill it: whoever comes first
    would pay for all.
    """
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


def run(
    program: list[str], base: str, count: int, concurrent: int, wanted: dict[str, str], env: dict[str, str], size: int
) -> tuple[float, float]:
    """Run one program on an empty folder; return its wall and CPU seconds after checking what it wrote."""
    out = Path(tempfile.mkdtemp(dir="/dev/shm"))
    code, *more = program
    try:
        warm(2 * size)
        before = os.times()
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, base, str(count), str(out), str(concurrent), *more], check=True, env=env
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
    parser.add_argument("--journal", action="store_true", help="run ours with a journal, too")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    folder.chmod(0o755)
    try:
        names = nginx.fill(folder, chosen.files, chosen.size)
        wanted = {name: hashlib.sha256((folder / "www" / name).read_bytes()).hexdigest() for name in names}
        with nginx.serving(folder) as base:
            measure(chosen, base, wanted, environment(folder))
    finally:
        shutil.rmtree(folder)


def measure(chosen: argparse.Namespace, base: str, wanted: dict[str, str], env: dict[str, str]) -> None:
    """Run the programs in turn, and print each run and the ratios."""
    others = {"aiodownload": [OURS], **({"with a journal": [OURS, "journal"]} if chosen.journal else {})}
    ratios: dict[str, list[float]] = {name: [] for name in others}
    size = chosen.files * chosen.size
    for pair in range(chosen.pairs + 1):
        bare, bare_cpu = run([BARE], base, chosen.files, chosen.concurrent, wanted, env, size)
        told = [f"bare loop {bare:.2f} s ({bare_cpu:.2f} s CPU)"]
        for name, program in others.items():
            wall, cpu = run(program, base, chosen.files, chosen.concurrent, wanted, env, size)
            told.append(f"{name} {wall:.2f} s ({cpu:.2f} s CPU), ratio {wall / bare:.3f}")
            if pair:
                ratios[name].append(wall / bare)
        print(f"{f'pair {pair}' if pair else 'warm-up'}: {'; '.join(told)}", flush=True)
    print(f"{chosen.files} files of {chosen.size} bytes, concurrency {chosen.concurrent}:")
    for name, found in ratios.items():
        print(f"  {name}: median ratio {statistics.median(found):.3f} (from {min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    main()
