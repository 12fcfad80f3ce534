"""The kill loop: whenever a program is killed, each file is absent, the old whole or the new whole.

In the default run a few kills of each kind; ``pytest -m slow -s tests/proof/test_kills.py`` does a thousand, and every
enumerated point, and prints what it counted.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import shake_128
from pathlib import Path

import pytest

from aiodownload.testing import Connection, FaultServer, Request, Script, each_path, ranged

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

MIB = 1 << 20
WITHIN = 8 * MIB  # bytes that may be sent again after a kill: what was in memory and what was not recorded yet (P4)

PROGRAM = """
import os, signal, sys
import aiodownload
from aiodownload.storage import folder, kept, part

class Fatal:
    # Kills the process before or after its n-th system call of one kind that touches a file.
    kind, _, left = sys.argv[4].partition(":")
    left = int(left or 0)
    after = sys.argv[5] == "after"
    def __getattr__(self, name):
        value = getattr(os, name)
        if name != Fatal.kind:
            return value
        def call(*args, **named):
            Fatal.left -= 1
            if Fatal.left == 0 and not Fatal.after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = value(*args, **named)
            if Fatal.left == 0 and Fatal.after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

if Fatal.left:
    folder.os = kept.os = part.os = Fatal()
strategy = aiodownload.DownloadStrategy(home=sys.argv[1])
asking = aiodownload.RequestStrategy(concurrent=8, timeout=20)
download = aiodownload.AioDownload(None, strategy, asking, journal=sys.argv[3] or None)
bundles = aiodownload.swarm(sys.argv[2].split(), download)
sys.exit(not all(bundle.ok for bundle in bundles))
"""


CALLS = ("open", "write", "writev", "fstat", "fchmod", "close", "replace", "unlink", "mkdir", "ftruncate")
"""The kinds of system calls that touch a file."""
WHEN = ("before", "after")


def throttled(body: bytes, first: int) -> Script:
    """As an honest server, but only some 60 MiB a second: so that a kill finds it at work."""

    async def script(request: Request, connection: Connection) -> bool:
        code = "206 Partial Content" if first else "200 OK"
        fields = [f"HTTP/1.1 {code}", f"Content-Length: {len(body) - first}", 'ETag: "a"', "Accept-Ranges: bytes"]
        if first:
            fields.append(f"Content-Range: bytes {first}-{len(body) - 1}/{len(body)}")
        await connection.send("\r\n".join((*fields, "", "")).encode())
        for at in range(first, len(body), MIB // 2):
            await connection.send(body[at : at + MIB // 2])
            await asyncio.sleep(0.008)
        return True

    return script


@dataclass
class World:
    """A server, what it has, and a home with some old files in it."""

    server: FaultServer
    home: Path
    journal: str
    objects: dict[str, bytes]
    old: dict[str, bytes]
    fast: int = 100 * MIB
    sent: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server.default = each_path(self.answer)
        self.folder = self.home / f"127.0.0.1+{self.server.port}"
        self.folder.mkdir(parents=True)
        for name, body in self.old.items():
            (self.folder / name).write_bytes(body)

    def answer(self, request: Request) -> Script:
        """Objects whose name begins with ``e`` have a strong ETag; the others can only be fetched whole."""
        name = request.path.lstrip("/")
        body = self.objects[name]
        first = int((request.headers.get("range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.sent[name] = self.sent.get(name, 0) + len(body) - first
        if not name.startswith("e"):
            return ranged(body, headers={"ETag": None, "Accept-Ranges": None})
        return throttled(body, first) if len(body) > self.fast else ranged(body)

    def start(self, fatal: str = "", when: str = "before") -> subprocess.Popen[bytes]:
        urls = " ".join(self.server.url(f"/{name}") for name in self.objects)
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.home), urls, self.journal, fatal, when],
            stderr=subprocess.DEVNULL,
        )

    def check(self) -> None:
        """P1: every final name is absent, the old whole, or the new whole."""
        for name, body in self.objects.items():
            path = self.folder / name
            found = path.read_bytes() if path.exists() else None
            assert found in (self.old.get(name), body), f"{name}: {len(found or b'')} bytes"

    def held(self) -> dict[str, int]:
        """What is there of each object: all of it under its name, or what its partial files have."""
        sizes = dict.fromkeys(self.objects, 0)
        for path in self.folder.iterdir():
            for name, body in self.objects.items():
                if path.name == name and path.read_bytes() == body:
                    sizes[name] = len(body)
                elif path.name.startswith(f".{name}.") and path.name.endswith(".part"):
                    sizes[name] = max(sizes[name], path.stat().st_size)
        return sizes

    def finish(self) -> None:
        """The rerun: right files, nothing left over, and no more bytes than P4 allows."""
        held = self.held()
        self.sent.clear()
        with self.start() as again:
            assert again.wait(60) == 0
        found = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        assert found == self.objects
        for name, body in self.objects.items():
            whole = held[name] == len(body)
            if self.journal and whole:
                continue
            allowed = len(body) - held[name] + WITHIN if name.startswith("e") and not whole else len(body)
            assert self.sent.get(name, 0) <= allowed, name


def objects(seed: str) -> dict[str, bytes]:
    """Small and large ones, with and without an ETag."""
    sizes = {"small": 100, "empty": 0, "page": 9000, "e1": 3 * MIB, "e2": 12 * MIB, "plain": 2 * MIB}
    return {name: shake_128(f"{seed}{name}".encode()).digest(size) for name, size in sizes.items()}


OLD = {"small": b"old small", "e2": b"old e2", "plain": b"old plain"}


@pytest.mark.parametrize("count", [5, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random(count: int, server: FaultServer, tmp_path: Path) -> None:
    """P1, P4: a thousand times SIGKILL at any moment, each over a fresh home, half of them with a journal."""
    chance = random.Random(count)
    killed = partial = whole = 0
    content = objects("random")
    for number in range(count):
        journal = str(tmp_path / f"{number}.db") if number % 2 else ""
        world = World(server, tmp_path / f"{number}", journal, content, OLD, fast=4 * MIB)
        for _ in range(chance.choice((1, 1, 2, 3))):  # the kill may also hit a resume
            asked = len(server.requests)
            with world.start() as process:
                # While it starts is no moment of interest.
                while len(server.requests) == asked and process.poll() is None:
                    time.sleep(0.002)
                time.sleep(chance.random() * 0.3)
                killed += process.poll() is None
                process.send_signal(signal.SIGKILL)
            world.check()
        sizes = world.held()
        whole += sum(sizes[name] == len(body) for name, body in content.items())
        partial += sum(0 < sizes[name] < len(body) for name, body in content.items())
        world.finish()
        world.check()
        for path in sorted(world.home.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    print(f"\n{killed} kills, {count} homes; found in the end: {whole} new files, {partial} partial ones; 0 violations")
    assert killed


EACH = [(kind, book, when) for kind in ("small", "large", "resumed") for book in (False, True) for when in WHEN]
A_FEW = [("small", False, "after"), ("resumed", False, "before"), ("large", True, "after")]


@pytest.mark.parametrize(
    ("every", "kind", "book", "when"),
    [
        *((False, *one) for one in A_FEW),
        *(pytest.param(True, *one, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]) for one in EACH),
    ],
)
def test_killed_at_each_call(
    every: bool, kind: str, book: bool, when: str, server: FaultServer, tmp_path: Path
) -> None:
    """P1: SIGKILL before and after each system call on a file, of a fresh download and of an interrupted resume."""
    body = shake_128(kind.encode()).digest(900 if kind == "small" else 9 * MIB)
    points: Counter[str] = Counter()
    for call in CALLS if every else ("replace",):
        for step in range(1, 1000, 1 if every else 2):
            journal = str(tmp_path / f"{call}{step}.db") if book else ""
            world = World(server, tmp_path / f"{call}{step}", journal, {"e": body}, {"e": b"old"})
            if kind == "resumed":
                server.on("/e", ranged(body, cut=5 * MIB))
                with world.start() as process:
                    assert process.wait(60) == 1
                assert world.held()["e"] >= 4 * MIB
            server.on("/e", each_path(world.answer))
            with world.start(f"{call}:{step}", when) as process:
                code = process.wait(60)
            world.check()
            world.finish()
            if code != -signal.SIGKILL:
                assert code == 0
                break
            points[call] += 1
    told = ", ".join(f"{count} {call}" for call, count in points.items())
    print(f"\n{kind}{' with a journal' if book else ''}: killed {when} {told}; 0 violations")
    assert points["replace"]


def publishers(parent: int) -> list[int]:
    """The processes that ``parent`` has started."""
    try:
        lists = [task / "children" for task in Path(f"/proc/{parent}/task").iterdir()]
        return [int(pid) for children in lists for pid in children.read_text().split()]
    except OSError:
        return []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("count", [2, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_the_process_for_small_bodies_is_killed(count: int, server: FaultServer, tmp_path: Path) -> None:
    """P1: without its helper the run goes on by itself, and each file is right."""
    chance = random.Random(count)
    content = {f"n{number}": shake_128(b"%d" % number).digest(3000) for number in range(1500)}
    killed = 0
    for number in range(count):
        world = World(server, tmp_path / f"{number}", "", content, {})
        with world.start() as process:
            deadline = time.monotonic() + 20
            while not (found := publishers(process.pid)) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.1)
            for pid in found:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            assert process.wait(60) == 0
        found_now = {path.name: path.read_bytes() for path in world.folder.iterdir()}
        assert {name: body for name, body in found_now.items() if not name.startswith(".")} == content
        world.finish()  # a dead helper may leave a partial file, which the next run sweeps away
        for path in world.folder.iterdir():
            path.unlink()
    print(f"\n{killed} helpers killed in {count} runs; 0 violations")
    assert killed
