"""One cell of the table: a tool meets a row, in a folder of its own, and what it left is looked at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .outcome import NOT_APPLICABLE, classify
from .remarks import remark
from .rows import CREEPING, INTERRUPTED, OLD, SMALL_DISK, Row
from .scripts import LARGE, OBJECT, honest
from .server import FaultServer
from .tools import Tool, environment

__all__ = ["Cell", "Left"]


@dataclass
class Left:
    """What a run left behind.

    :param exit_code: the exit status, None if the run had to be stopped.
    :param found: the bytes under the final name.
    :param files: every file below the folder, by its path from there; one outside begins with ``../``.
    :param seconds: how long it took.
    :param said: its last words.
    """

    exit_code: int | None
    found: bytes | None
    files: dict[str, bytes]
    seconds: float
    said: str

    @property
    def escaped(self) -> list[str]:
        """The files that are not below the folder."""
        return sorted(name for name in self.files if name.startswith("../"))


class Cell:
    """A tool and a row.

    :param servers: one for the URL, the other for redirects to another origin.
    :param python: what runs the tool's driver, if it has one.
    :param limit: seconds after which a run is stopped.
    """

    def __init__(
        self, row: Row, tool: Tool, servers: tuple[FaultServer, FaultServer], python: str, limit: float
    ) -> None:
        self.row, self.tool, self.python, self.limit = row, tool, python, limit
        key = f"{row.number}-{tool.name.replace(' ', '-')}"
        here, there = servers
        self.there = there.play(key, honest(OBJECT))
        self.play = here.play(key, row.script, there.url(key, row.name))
        self.url = here.url(key, row.name)

    def measure(self) -> dict[str, object]:
        """Run it; return the cell as it goes into the results."""
        reason = self.tool.lacks.get(self.row.number) or self.tool.lacks.get(self.row.mode)
        if reason is None and self.row.mode == "replace" and os.geteuid() != 0:
            reason = "mounting a small file system needs root"
        if reason is not None:
            return _not_applicable(reason)
        cell = self._once()
        if self.row.killed == "before" and self.tool.control:
            other = self._once(lose=f"f.bin{self.tool.control}")
            status = f" {other['exit']}" if other["exit"] else ""
            lost = f"without f.bin{self.tool.control} {other['outcome']}{status}"
            cell["remark"] = f"{cell['remark']}; {lost}" if cell["remark"] else lost
        return cell

    def _once(self, lose: str = "") -> dict[str, object]:
        """One run in a folder of its own; the file ``lose`` of an earlier run is removed before it."""
        with tempfile.TemporaryDirectory(prefix="matrix-") as name:
            home, folder = Path(name, "home"), Path(name, "top", "a", "b", "c")
            folder.mkdir(parents=True)
            home.mkdir()
            with _small_disk(folder) if self.row.mode == "replace" else contextlib.nullcontext():
                before = self._before(folder, home)
                if lose:
                    before.pop(lose)
                    (folder / lose).unlink()
                self.play.restart(self.row.script)
                left = self._run(self.row.mode, folder, home, kill=self.row.killed == "now")
        return self._judge(left, before)

    def _judge(self, left: Left, before: dict[str, int]) -> dict[str, object]:
        if left.exit_code == 69 and self.tool.packages:
            return _not_applicable(left.said)
        if not self.play.requests and self.row.mode not in ("skip", "replace"):
            raise SystemExit(f"{self.tool.name} asked for nothing in row {self.row.number}: {left.said}")
        old = OLD if self.row.mode == "replace" else None
        kind = "escape" if left.escaped else "kill" if self.row.killed == "now" else "plain"
        told, broken = remark(self.row, left, self.play, self.there)
        return {
            "outcome": classify(left.exit_code, left.found, old, self.row.wanted, kind),
            "exit": left.exit_code,
            "remark": told,
            "broken": broken,
            "requests": len(self.play.requests),
            "ranges": [request.headers["range"] for request in self.play.requests if "range" in request.headers][:20],
            "seconds": round(left.seconds, 1),
            "size": None if left.found is None else len(left.found),
            "left": {name: len(data) for name, data in sorted(left.files.items())},
            "before": before,
        }

    def _before(self, folder: Path, home: Path) -> dict[str, int]:
        """Leave what an earlier run has left, and return the sizes of these files."""
        row = self.row
        if row.mode == "replace":
            (folder / "f.bin").write_bytes(OLD)
        elif row.mode == "resume" and self.tool.partial == "file":
            (folder / "f.bin").write_bytes(LARGE.data[:INTERRUPTED])
        elif row.mode == "resume":
            self.play.restart(honest(LARGE, rate=4 << 20))
            self._run("plain", folder, home, until=INTERRUPTED)
        elif row.killed == "before":
            self.play.restart(CREEPING)
            self._run("plain", folder, home, kill=True)
        return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    def _run(self, mode: str, folder: Path, home: Path, *, kill: bool = False, until: int | None = None) -> Left:
        """Run the tool: to its end or the limit, until it is killed, or until so many bytes were sent."""
        start = time.monotonic()
        with (home / "said").open("w+b") as said:
            process = subprocess.Popen(
                self.tool.command(mode, self.url, self.python),
                cwd=folder,
                env=environment(home, checkout=self.tool.name == "aiodownload"),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            try:
                exit_code = self._end(process, kill, until)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            words = _last_words(said)
        seconds = time.monotonic() - start
        files = _everything(folder)
        return Left(exit_code, self._final(folder), files, seconds, words)

    def _end(self, process: subprocess.Popen[bytes], kill: bool, until: int | None) -> int | None:
        end = time.monotonic() + self.limit
        while process.poll() is None and time.monotonic() < end:
            first = self.play.requests[0].at if self.play.requests else None
            if kill and first is not None and time.time() >= first + 1.5:
                process.send_signal(signal.SIGKILL)
                return process.wait()
            if until is not None and self.play.sent >= until:
                process.send_signal(signal.SIGKILL if self.tool.partial == "file" else self.tool.partial)
                until = None
            time.sleep(0.005)
        return process.returncode

    def _final(self, folder: Path) -> bytes | None:
        """What is under the final name; where the tool chose it, its only file."""
        names = [folder / "f.bin"]
        if self.row.mode in ("server's name", "URL's name"):
            names = sorted(path for path in folder.rglob("*") if path.is_file())
        return next((path.read_bytes() for path in names if path.is_file()), None)


def _not_applicable(reason: str) -> dict[str, object]:
    return {"outcome": NOT_APPLICABLE, "remark": reason, "broken": False}


def _everything(folder: Path) -> dict[str, bytes]:
    """Every file below the folder and the three above it, by its path from the folder."""
    top = folder.parents[2]
    return {os.path.relpath(path, folder): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def _last_words(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - 2000))
    lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A file system of 1 MiB over the folder."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
