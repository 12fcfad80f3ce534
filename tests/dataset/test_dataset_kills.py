"""The kill loop: whenever a program is killed, what has a final name is whole, and a rerun completes the rest.

In the default run a few kills of each kind; ``pytest -m slow -s tests/dataset/test_dataset_kills.py`` does many at
random, and every enumerated point, and prints what it counted.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from hashlib import shake_128
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra dataset is not installed")

from shelf import hidden, read, tables

from aiodownload.dataset.rows import parse
from aiodownload.testing import FaultServer, Request, Script, each_path, ok, status

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

PROGRAM = """
import json, os, signal, sys
import aiodownload
from aiodownload.dataset import lease, ledger, shard
from aiodownload.storage import folder, part

home, urls, journal, fatal, when, settings, contact = sys.argv[1:]

class Fatal:
    # Kills the process before or after its n-th call of one kind.
    kind, _, left = fatal.partition(":")
    left = int(left or 0)

    def __getattr__(self, name):
        value = getattr(os, name)
        return fatally(value) if name == Fatal.kind else value

def fatally(function):
    def call(*args, **named):
        Fatal.left -= 1
        if Fatal.left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **named)
        if Fatal.left == 0 and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

class Journal(aiodownload.Journal):
    def publishing(self, key, publication):
        super().publishing(key, publication)

if Fatal.left:
    folder.os = part.os = lease.os = ledger.os = shard.os = Fatal()
    if Fatal.kind == "note":
        Journal.publishing = fatally(Journal.publishing)
    if Fatal.kind == "settle":
        Journal.settle = fatally(Journal.settle)
strategy = aiodownload.TarShards(home, skip_cached=not journal, **json.loads(settings))
asking = aiodownload.RequestStrategy(concurrent=4, timeout=20, contact=contact)
download = aiodownload.AioDownload(None, strategy, asking, journal=Journal(journal) if journal else None)
bundles = aiodownload.swarm(open(urls).read().split(), download)
print(json.dumps([[one.url, one.status.name, one.file_path] for one in bundles]))
"""

CALLS = (
    "note",
    "settle",
    "mkdir",
    "open",
    "write",
    "pwritev",
    "replace",
    "link",
    "fchmod",
    "ftruncate",
    "unlink",
    "rmdir",
)
WHEN = ("before", "after")
LARGE = 2 << 20  # a body that is collected in a partial file


class World:
    """A server, what it has, and a home."""

    def __init__(self, server: FaultServer, home: Path, count: int, journal: bool, **settings: object) -> None:
        self.server = server
        self.home = home
        home.mkdir()
        self.journal = str(home.with_suffix(".db")) if journal else ""
        self.settings = {"shard_size": 5, **settings}
        sizes = {f"{number:03}.jpg": 50 + 37 * number for number in range(count)} | {"large.bin": LARGE}
        self.objects = {name: shake_128(name.encode()).digest(size) for name, size in sizes.items()}
        self.bad = ["gone-1", "gone-2"]
        self.urls = home.with_suffix(".txt")
        self.urls.write_text("\n".join(map(self.url, (*self.objects, *self.bad))))
        server.default = each_path(self.answer)

    def url(self, name: str) -> str:
        return self.server.url(f"/{name}")

    def answer(self, request: Request) -> Script:
        body = self.objects.get(request.path.lstrip("/"))
        return status(404) if body is None else ok(body)

    def start(self, fatal: str = "", when: str = "before", contact: str = "first") -> subprocess.Popen[str]:
        settings = json.dumps(self.settings)
        program = [sys.executable, "-c", PROGRAM, str(self.home), str(self.urls), self.journal]
        program += [fatal, when, settings, contact]
        return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def check(self) -> set[str]:
        """What has a final name is whole and right; return the URLs of the samples, each of which is there once."""
        found = read(self.home)
        for one in found:
            assert one.body == self.objects[one.row["url"].rpartition("/")[2]]
        urls = [one.row["url"] for one in found]
        assert len(set(urls)) == len(urls)
        return set(urls)

    def held(self) -> set[str]:
        """The URLs whose members are there, published or in an open shard."""
        held = self.check()
        for folder in self.home.glob(".[0-9]*.shard"):
            if not (folder / "rows").exists():  # it is being tidied away
                continue
            with (folder / "rows").open("rb") as file:
                held |= {one.row.url for one in parse(file).rows if one.row.status == "done"}
        return held

    def finish(self) -> None:
        """The rerun: it fetches what is not there and nothing else; then all is there, once, and nothing besides."""
        held = self.held()
        with self.start(contact="again") as again:
            out, _ = again.communicate(timeout=60)
        assert again.returncode == 0
        outcomes = {url: (state, path) for url, state, path in json.loads(out)}
        # What a killed program has sent may be read by the server at any time.
        requests = [one for one in self.server.requests if "again" in one.headers["user-agent"]]
        self.server.requests.clear()
        asked = Counter(self.url(one.path.lstrip("/")) for one in requests)
        wanted = {self.url(name) for name in self.objects}
        bad = {self.url(name) for name in self.bad}
        assert asked == Counter((wanted - held) | bad)
        assert self.check() == wanted
        assert hidden(self.home) == []
        assert {url for url, (state, _) in outcomes.items() if state == "CACHED"} == held
        assert {url for url, (state, _) in outcomes.items() if state == "DONE"} == wanted - held
        assert {url for url, (state, _) in outcomes.items() if state == "FAILED"} == bad
        places = {one.row["url"]: str(self.home / f"{one.shard:05d}.tar" / one.member) for one in read(self.home)}
        assert {url: path for url, (_, path) in outcomes.items() if url in wanted} == places
        failed = {row["url"] for rows in tables(self.home).values() for row in rows if row["status"] == "failed"}
        assert failed == bad


def test_a_run_that_nobody_kills(server: FaultServer, tmp_path: Path) -> None:
    """The program and its check are right: nothing was there before, and all of it after."""
    World(server, tmp_path / "home", 7, True).finish()


@pytest.mark.parametrize("count", [3, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random(count: int, server: FaultServer, tmp_path: Path) -> None:
    """SIGKILL at any moment, one to three times over the same home, half of them with a journal."""
    chance = random.Random(count)
    killed = found = 0
    for number in range(count):
        world = World(server, tmp_path / str(number), 150, number % 2 == 0, shard_size=40)
        for _ in range(chance.choice((1, 1, 2, 3))):
            asked = len(server.requests)
            with world.start() as process:
                while len(server.requests) == asked and process.poll() is None:  # while it starts is no moment
                    time.sleep(0.002)
                time.sleep(chance.random() * 0.4)
                killed += process.poll() is None
                process.send_signal(signal.SIGKILL)
            found += len(world.held())
        world.finish()
    print(f"\n{killed} kills, {count} homes, {found} members found after them; 0 violations")
    assert killed


A_FEW = [
    ("pwritev:5", "after", True),  # bytes of a member, and no line
    ("note:2", "after", True),  # the journal tells of a member that does not count
    ("settle:2", "before", True),  # one that counts, and has no outcome
    ("link:2", "before", False),  # metadata without a tar
    ("unlink:3", "after", True),  # a shard that is published and not tidied away
]


@pytest.mark.parametrize(("fatal", "when", "journal"), A_FEW)
def test_killed_at_a_call(fatal: str, when: str, journal: bool, server: FaultServer, tmp_path: Path) -> None:
    """SIGKILL at the points between append, record and publication."""
    world = World(server, tmp_path / "home", 7, journal)
    with world.start(fatal, when) as process:
        assert process.wait(60) == -signal.SIGKILL
    world.finish()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("when", WHEN)
def test_killed_at_each_call(when: str, journal: bool, durable: bool, server: FaultServer, tmp_path: Path) -> None:
    """SIGKILL before and after each call that touches a file or the journal, and before and after each of the rerun."""
    points: Counter[str] = Counter()
    for call in (*CALLS, "fsync") if durable else CALLS:
        for step in range(1, 1000):
            world = World(server, tmp_path / f"{call}{step}", 7, journal, durable=durable)
            with world.start(f"{call}:{step}", when) as process:
                code = process.wait(60)
            if code == -signal.SIGKILL:
                with world.start(f"{call}:{1 + step % 5}", when) as process:  # and so the one that recovers
                    process.wait(60)
            world.finish()
            if code != -signal.SIGKILL:
                assert code == 0
                break
            points[call] += 1
    told = ", ".join(f"{count} {call}" for call, count in points.items())
    print(f"\nkilled {when} {told}{' with a journal' if journal else ''}; 0 violations")
    assert points["pwritev"] > 20
