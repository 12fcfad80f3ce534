"""Timing: one whole process, its wall and CPU seconds and its memory; and what it left."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .programs import Job, Program

__all__ = ["Taken", "digests", "pairs", "timed"]

LONGEST = 900.0  # seconds that a program may take


@dataclass(frozen=True)
class Taken:
    """What one run took.

    :param wall: seconds.
    :param cpu: seconds, of the process and of those that it has started and waited for.
    :param peak: MiB that the process itself held at most, looked at twenty times a second (Linux only, else 0).
    :param work: seconds without its start and its end, if it tells them.
    """

    wall: float
    cpu: float
    peak: float
    work: float | None = None


def environment(certificate: Path | None = None) -> dict[str, str]:
    """Every program trusts ``certificate``, and finds compiled modules, as after an installation by pip.

    The warm-up compiles what is missing.
    """
    root = str(Path(__file__).resolve().parents[2])
    caching = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled = str(Path(tempfile.gettempdir()) / "aiodownload-speed-compiled")
    trust = {"SSL_CERT_FILE": str(certificate)} if certificate else {}
    return {**caching, "PYTHONPYCACHEPREFIX": compiled, "PYTHONPATH": root, **trust}


def warm(size: int) -> None:
    """Touch as much memory as a run will fill, and give it back.

    On a virtual machine, a page that has not been used for a while costs far more than to fill it: whoever comes first
    would pay for all.
    """
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


def digests(files: Iterable[Path]) -> Counter[str]:
    """The SHA-256 of each file.  Names are not compared: not every program takes them from the URL."""
    found: Counter[str] = Counter()
    for path in files:
        with path.open("rb") as file:
            found[hashlib.file_digest(file, "sha256").hexdigest()] += 1
    return found


def timed(command: list[str], env: dict[str, str], *, tells: bool = False) -> Taken:
    """Run a program to its end.

    :param tells: whether it prints the seconds of its work.
    :raises RuntimeError: if it fails, or takes too long.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told:
        out = told if tells else subprocess.DEVNULL
        start = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdout=out, stderr=said, cwd="/")
        watchdog = threading.Timer(LONGEST, process.kill)
        watchdog.start()
        memory = _Memory(process.pid)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            watchdog.cancel()
            memory.over.set()
            memory.join()
        if process.returncode:
            said.seek(0)
            text = said.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{command[0]} ended with {process.returncode}: {text}")
        told.seek(0)
        work = float(told.read()) if tells else None
    return Taken(wall, usage.ru_utime + usage.ru_stime, memory.peak, work)


class _Memory(threading.Thread):
    """Looks at the most that a process has held.  What wait4 tells begins with what its parent held."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self.over = threading.Event()
        self.peak = 0.0
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.05):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                continue
            self.peak = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), self.peak)


def once(
    program: Program,
    job: Callable[[Path], Job],
    python: str,
    wanted: Counter[str],
    where: Path,
    *,
    lasting: bool = False,
) -> Taken:
    """Run ``program`` on an empty folder below ``where``, and check every file that it leaves.

    :param lasting: whether the files stay there; what earlier runs have left is written to the disk before.
    """
    place = Path(tempfile.mkdtemp(dir=where))
    out = place / "out"
    out.mkdir()
    try:
        task = job(out)
        command = program.command(task, python)
        if task.size and where == Path("/dev/shm"):
            warm(min(2 << 30, 2 * task.size))
        if lasting:
            os.sync()
        taken = timed(command, environment(task.certificate), tells=program.tells)
        found = digests(path for path in out.rglob("*") if path.is_file() and not path.name.startswith("journal.db"))
        if found != wanted:
            raise RuntimeError(f"{program.name} left {found.total()} files, and {(found & wanted).total()} right ones")
        return taken
    finally:
        if not lasting:
            shutil.rmtree(place)


def pairs(
    ours: Program,
    other: Program,
    job: Callable[[Path], Job],
    python: str,
    wanted: Counter[str],
    where: Path,
    count: int,
    *,
    lasting: bool = False,
) -> dict[str, Any]:
    """Run both in turn, ``count`` times after a warm-up; the ratio is taken pair by pair."""
    runs: list[tuple[Taken, Taken]] = []
    try:
        for number in range(count + 1):
            first, second = (once(one, job, python, wanted, where, lasting=lasting) for one in (ours, other))
            if number:
                runs.append((first, second))
    except RuntimeError as error:
        return {"program": other.name, "failed": str(error)[:300]}
    ratios = [first.wall / second.wall for first, second in runs]
    return {
        "program": other.name,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "call": statistics.median((first.work or first.wall) / second.wall for first, second in runs),
        "ours": statistics.median(first.wall for first, _ in runs),
        "theirs": statistics.median(second.wall for _, second in runs),
        "our_cpu": statistics.median(first.cpu for first, _ in runs),
        "their_cpu": statistics.median(second.cpu for _, second in runs),
        "our_peak": max(first.peak for first, _ in runs),
        "their_peak": max(second.peak for _, second in runs),
        "runs": [[asdict(first), asdict(second)] for first, second in runs],
    }
