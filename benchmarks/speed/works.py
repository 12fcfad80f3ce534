"""The works: what is downloaded, to where, and by whom."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nginx

from .programs import OURS, PROGRAMS, Job, Program, segmented
from .servers import late, serving
from .timing import digests, environment, once, pairs, timed

__all__ = ["MEMORY", "PAIRED", "SPECIAL", "Setting", "Work", "served", "words"]

MEMORY = Path("/dev/shm")
MIB = 1 << 20
FORGETS = (
    65.0  # seconds after which ext4 takes a deleted file's inode for a new one again (RECENTCY_MIN, 60, in ialloc.c)
)


@dataclass(frozen=True)
class Setting:
    """How much is done.

    :param quick: less of everything.
    :param pairs: per program.
    :param python: interpreter that has the Python peers.
    :param disk: a folder on a disk.
    """

    quick: bool
    pairs: int
    python: str
    disk: Path


@dataclass(frozen=True)
class Work:
    """One that is done in pairs.

    :param title: as it is shown.
    :param files: how many.
    :param quick: how many in the quick form.
    :param size: bytes of each.
    :param concurrent: how many at once.
    :param programs: who does it besides ours.
    :param disk: whether the files go to a disk, and not to memory.
    :param tls: whether they come over TLS.
    :param lasting: whether all stays there until the work is over, on a disk where nothing was deleted just before.
    """

    title: str
    files: int
    quick: int
    size: int
    concurrent: int
    programs: tuple[str, ...]
    disk: bool = False
    tls: bool = False
    lasting: bool = False

    def measure(self, setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
        """Do it, and return the figures."""
        count = self.quick if setting.quick else self.files
        size = self.size // 4 if setting.quick and self.files == 1 else self.size
        rows = []
        with contextlib.ExitStack() as stack:
            where = setting.disk if self.disk else MEMORY
            if self.lasting:
                where = stack.enter_context(_long_undisturbed(where))
            job, wanted = stack.enter_context(served(count, size, self.concurrent, tls=self.tls))
            for name in self.programs:
                row = pairs(
                    OURS, PROGRAMS[name], job, setting.python, wanted, where, setting.pairs, lasting=self.lasting
                )
                rows.append(row)
                tell(f"  {name}: {words(row)}")
            found = {"title": self.title, "files": count, "size": size, "concurrent": self.concurrent, "rows": rows}
            found["start"] = _nothing(OURS, setting)
            found["aiohttp"] = _idle([setting.python, "-c", "import aiohttp"])
            if count > 1 and not self.tls:
                found["server"] = _server_limit(job(where).urls[0], self.concurrent)
        return found


@contextlib.contextmanager
def _long_undisturbed(disk: Path) -> Iterator[Path]:
    """A folder on a disk where nothing was deleted for a minute."""
    os.sync()  # and what was deleted before has to be written
    time.sleep(FORGETS)
    folder = Path(tempfile.mkdtemp(dir=disk))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def words(row: dict[str, Any]) -> str:
    """What came of the pairs, in a line."""
    if "failed" in row:
        return f"failed: {row['failed']}"
    return (
        f"ratio {row['ratio']:.3f} ({row['least']:.3f}-{row['most']:.3f}), "
        f"{row['ours']:.2f} s to {row['theirs']:.2f} s, the call alone {row['call']:.3f}"
    )


@contextlib.contextmanager
def served(
    count: int, size: int, concurrent: int, *, tls: bool = False
) -> Iterator[tuple[Callable[[Path], Job], Counter[str]]]:
    """Serve files of random bytes; yield what makes the job of fetching them all, and their digests."""
    with _www() as folder:
        names = nginx.fill(folder, count, size)
        wanted = digests(folder / "www" / name for name in names)
        with serving(folder, tls=tls) as (base, certificate):
            yield _job(base, names, concurrent, count * size, certificate), wanted


@contextlib.contextmanager
def _www() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=MEMORY))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _server_limit(url: str, concurrent: int) -> float | None:
    """Requests per second that the server answers to wrk, which keeps nothing; None without wrk."""
    if shutil.which("wrk") is None:
        return None
    done = subprocess.run(["wrk", "-t1", f"-c{concurrent}", "-d3s", url], capture_output=True, text=True, check=True)
    return next(float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("Requests/sec"))


SLOW_PEERS = ("httpx", "parfive, not split", "pypdl", "pooch", "img2dataset")

PAIRED = {
    "small": Work(
        "10,000 files of 10 KiB, 16 at once, to memory",
        10_000,
        3_000,
        10 << 10,
        16,
        ("bare aiohttp loop", "curl", "aria2c", "wget2", "aiodownload, journal", *SLOW_PEERS, "parfive"),
    ),
    "disk": Work(
        "10,000 files of 10 KiB, 16 at once, to a disk",
        10_000,
        3_000,
        10 << 10,
        16,
        ("curl", "wget2", "aria2c", "bare aiohttp loop"),
        disk=True,
    ),
    "fresh": Work(
        "10,000 files of 10 KiB, 16 at once, to a disk where nothing was deleted",
        10_000,
        3_000,
        10 << 10,
        16,
        ("curl", "wget2", "aria2c", "bare aiohttp loop"),
        disk=True,
        lasting=True,
    ),
    "medium": Work(
        "500 files of 1 MiB, 16 at once, to memory",
        500,
        200,
        MIB,
        16,
        ("curl", "aria2c", "wget2", "bare aiohttp loop", *SLOW_PEERS),
    ),
    "large": Work(
        "1 file of 1 GiB, to memory",
        1,
        1,
        1 << 30,
        1,
        ("curl", "wget", "wget2", "aria2c", "axel", "bare aiohttp loop", "httpx", "parfive, not split"),
    ),
    "tls": Work(
        "1 file of 1 GiB over TLS, to memory",
        1,
        1,
        1 << 30,
        1,
        ("curl", "wget", "aria2c", "bare aiohttp loop"),
        tls=True,
    ),
}


def latency(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """1,000 files from a server that takes 100 ms for each answer, 100 at once: ideally 1.0 s, and the start."""
    count, size, seconds, concurrent = 1_000, 10 << 10, 0.1, 100
    names = [f"f{number:06}.bin" for number in range(count)]
    with _www() as folder, late(seconds, size) as base:
        (folder / "one").write_bytes(b"x" * size)
        wanted = digests([folder / "one"])
        wanted = type(wanted)(dict.fromkeys(wanted, count))
        rows = []
        for program in (OURS, PROGRAMS["bare aiohttp loop"], PROGRAMS["curl"], PROGRAMS["aria2c"]):
            job = _job(base, names, concurrent, count * size)
            try:
                taken = [once(program, job, setting.python, wanted, MEMORY) for _ in range(setting.pairs + 1)][1:]
            except (RuntimeError, FileNotFoundError) as error:
                rows.append({"program": program.name, "failed": str(error)[:300]})
                continue
            runs = [run.wall for run in taken]
            work = statistics.median(run.work or run.wall for run in taken)
            rows.append({"program": program.name, "wall": statistics.median(runs), "call": work, "runs": runs})
            tell(f"  {program.name}: {rows[-1]['wall']:.3f} s, the call alone {work:.3f} s")
    return {
        "files": count,
        "seconds": seconds,
        "concurrent": concurrent,
        "ideal": count / concurrent * seconds,
        "rows": rows,
    }


def _job(
    base: str, names: list[str], concurrent: int, size: int, certificate: Path | None = None
) -> Callable[[Path], Job]:
    return lambda out: Job(base, names, out, concurrent, certificate, size)


def _nothing(program: Program, setting: Setting) -> float:
    """Seconds that a program takes to do nothing at all."""
    job = _job("http://127.0.0.1:9", [], 1, 0)
    return statistics.median(once(program, job, setting.python, digests([]), MEMORY).wall for _ in range(5))


def _idle(command: list[str]) -> float:
    """Seconds that a command takes."""
    return statistics.median(timed(command, environment()).wall for _ in range(5))


STREAM = """
import os, resource, sys, time
import aiodownload
base, out, count, concurrent = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
download = aiodownload.AioDownload(
    download_strategy=aiodownload.DownloadStrategy(home=out),
    request_strategy=aiodownload.RequestStrategy(concurrent=concurrent),
)
def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)
start = time.perf_counter()
done = 0
for bundle in aiodownload.each((f"{base}/f{number:08}.bin" for number in range(count)), download=download):
    assert bundle.ok, bundle.error
    os.unlink(bundle.file_path)
    done += 1
    if done % max(1, count // 100) == 0:
        print(done, time.perf_counter() - start, held(), flush=True)
"""


def stream(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """A million URLs through ``each``, whose consumer deletes each file: files per second, and memory."""
    largest = 50_000 if setting.quick else 1_000_000
    size, concurrent = 1 << 10, 16
    found: dict[str, Any] = {"size": size, "concurrent": concurrent, "runs": []}
    with _www() as folder:
        nginx.fill(folder, 1, size)
        one = "location / { try_files /f000000.bin =404; }"
        with nginx.serving(folder, here=one) as base:
            for count in [10_000] * 3 + [largest] + [10_000] * 3:  # the machine may change its speed meanwhile
                out = tempfile.mkdtemp(dir=MEMORY)
                try:
                    command = [sys.executable, "-c", STREAM, base, out, str(count), str(concurrent)]
                    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
                finally:
                    shutil.rmtree(out)
                points = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
                found["runs"].append({"count": count, "points": points})
                tell(
                    f"  {count} URLs: {count / points[-1][1]:.0f} files/s, {max(point[2] for point in points):.0f} MiB"
                )
    return found


def scaling(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """Files per second by their number, and by how many are fetched at once: ours, the bare loop and curl."""
    numbers = [100, 1_000, 10_000] if setting.quick else [100, 1_000, 10_000, 100_000]
    at_once = [1, 4, 16, 64] if setting.quick else [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    size = 10 << 10
    programs = [OURS, PROGRAMS["bare aiohttp loop"], PROGRAMS["curl"]]
    rows = []
    with _www() as folder:
        names = nginx.fill(folder, 10_000, size)
        with nginx.serving(folder) as base:
            for by, count, concurrent in [
                *(("files", number, 16) for number in numbers),
                *(("at once", 4_000, number) for number in at_once),
            ]:
                if count > len(names):  # the same files again, under other names
                    for number in range(len(names), count):
                        os.link(folder / "www" / names[number % len(names)], folder / "www" / f"f{number:06}.bin")
                asked = [f"f{number:06}.bin" for number in range(count)]
                wanted = digests(folder / "www" / name for name in asked)
                for program in programs:
                    job = _job(base, asked, concurrent, count * size)
                    runs = [once(program, job, setting.python, wanted, MEMORY) for _ in range(3)]
                    best = statistics.median(run.wall for run in runs)
                    cpu = statistics.median(run.cpu for run in runs)
                    rows.append(
                        {
                            "by": by,
                            "files": count,
                            "concurrent": concurrent,
                            "program": program.name,
                            "wall": best,
                            "cpu": cpu,
                        }
                    )
                    tell(f"  {by} {count}, {concurrent} at once, {program.name}: {count / best:.0f} files/s")
    return {"size": size, "rows": rows}


PROFILED = """
import asyncio, cProfile, json, pstats, sys
import aiodownload
base, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
async def main(number):
    strategy = aiodownload.RequestStrategy(concurrent=16)
    async with aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=out), strategy) as download:
        assert all(bundle.ok for bundle in await download.swarm(f"{base}/f{index:06}.bin" for index in range(number)))
asyncio.run(main(200))
profile = cProfile.Profile()
profile.enable()
asyncio.run(main(count))
profile.disable()
PARTS = ("aiodownload", "aiohttp", "asyncio", "yarl", "multidict")
parts = {}
stats = pstats.Stats(profile).stats
whole = sum(entry[2] for entry in stats.values())
for (file, _, name), (_, calls, own, _, _) in stats.items():
    part = next((part for part in PARTS if f"/{part}/" in file), None)
    if part is None:
        part = "system calls on sockets" if "_socket.socket" in name else "built-in functions and the rest"
    found = parts.setdefault(part, {"calls": 0, "share": 0})
    found["calls"] += calls / count
    found["share"] += own / whole
print(json.dumps(parts))
"""


def profile(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """Where the time goes, by cProfile."""
    count = 4_000
    with _www() as folder:
        nginx.fill(folder, count, 10 << 10)
        with nginx.serving(folder) as base:
            out = tempfile.mkdtemp(dir=MEMORY)
            try:
                command = [sys.executable, "-c", PROFILED, base, out, str(count)]
                done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
            finally:
                shutil.rmtree(out)
    parts = json.loads(done.stdout)
    tell("  " + ", ".join(f"{name} {100 * part['share']:.0f} %" for name, part in parts.items()))
    return {"files": count, "parts": parts}


def imports(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """``import aiodownload`` beside ``import aiohttp``, whole processes in pairs."""
    runs = []
    for _ in range(21):
        pair = []
        for name in ("aiohttp", "aiodownload"):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}"], env=environment(), check=True)
            pair.append(time.perf_counter() - start)
        runs.append(pair)
    runs = runs[1:]
    ratios = [ours / theirs for theirs, ours in runs]
    found = {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "runs": runs}
    tell(f"  ratio {found['ratio']:.3f} ({found['least']:.3f}-{found['most']:.3f})")
    return found


def requests(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """What the server is asked for 1,000 small files, 16 at once: by method, and over how many connections."""
    with _www() as folder:
        names = nginx.fill(folder, 1_000, 10 << 10)
        log = f"log_format short '$request_method $connection'; access_log {folder}/access.log short;"
        with nginx.serving(folder, log=log) as base:
            wanted = digests(folder / "www" / name for name in names)
            once(OURS, _job(base, names, 16, 0), setting.python, wanted, MEMORY)
        lines = [line.split() for line in (folder / "access.log").read_text().splitlines()]
    methods = {method: sum(one == method for one, _ in lines) for method in {one for one, _ in lines}}
    found = {"files": len(names), "methods": methods, "connections": len({connection for _, connection in lines})}
    tell(f"  {json.dumps(found)}")
    return found


def segments(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """1 GiB from a server that gives each connection 20 MiB/s, by several requests at once."""
    size, each = (128 if setting.quick else 1024) * MIB, 20 * MIB
    rows = []
    with _www() as folder:
        names = nginx.fill(folder, 1, size)
        wanted = digests([folder / "www" / names[0]])
        with nginx.serving(folder, here="limit_rate 20m;") as base:
            for count in (4, 8):
                for program in segmented(count):
                    if program.version(setting.python) is None:
                        continue
                    job = _job(base, names, count, size)
                    try:
                        runs = [once(program, job, setting.python, wanted, MEMORY) for _ in range(3)]
                    except RuntimeError as error:
                        rows.append({"program": program.name, "segments": count, "failed": str(error)[:300]})
                        continue
                    walls = [run.wall for run in runs]
                    calls = [run.work for run in runs if run.work is not None]
                    ideal, wall = size / (count * each), statistics.median(walls)
                    row = {
                        "program": program.name,
                        "segments": count,
                        "wall": wall,
                        "share": ideal / wall,
                        "runs": walls,
                    }
                    if calls:
                        row |= {"call": ideal / statistics.median(calls), "calls": calls}
                    rows.append(row)
                    alone = f", the call alone {100 * row['call']:.1f} %" if calls else ""
                    tell(
                        f"  {count} at once, {program.name}: {wall:.2f} s, {100 * row['share']:.1f} % of {count} x "
                        f"20 MiB/s{alone}"
                    )
    return {"size": size, "each": each, "rows": rows}


def halves(setting: Setting, tell: Callable[[str], None]) -> dict[str, Any]:
    """Two processes, each with half of the list, beside one with all of it."""
    count, size = (2_000 if setting.quick else 10_000), 10 << 10
    ratios = []
    with _www() as folder:
        names = nginx.fill(folder, count, size)
        with nginx.serving(folder) as base:
            for _ in range(setting.pairs + 1):
                alone = _together(base, [names], setting)
                both = _together(base, [names[::2], names[1::2]], setting)
                ratios.append(alone / both)
    ratios = ratios[1:]
    found = {"files": count, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    tell(f"  {found['ratio']:.2f} times the files per second ({found['least']:.2f}-{found['most']:.2f})")
    return found


def _together(base: str, lists: list[list[str]], setting: Setting) -> float:
    place = Path(tempfile.mkdtemp(dir=MEMORY))
    try:
        commands = []
        for number, names in enumerate(lists):
            out = place / str(number)
            out.mkdir()
            commands.append(OURS.command(Job(base, names, out, 16), setting.python))
        start = time.perf_counter()
        processes = [subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) for command in commands]
        if any(process.wait() for process in processes):
            raise RuntimeError("a process failed")
        return time.perf_counter() - start
    finally:
        shutil.rmtree(place)


SPECIAL = {
    "latency": latency,
    "stream": stream,
    "scaling": scaling,
    "segments": segments,
    "profile": profile,
    "imports": imports,
    "requests": requests,
    "halves": halves,
}
