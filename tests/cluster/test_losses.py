"""Workers that die: nothing is lost, nothing wrong, and little is fetched twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster_work import Poisonous, children

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, ExecutorError, Status, WorkerError
from aiodownload.cluster import stock
from aiodownload.testing import FaultServer, ok, ranged

Make = Callable[..., AioDownload]
Start = Callable[[int], list[FaultServer]]


def workers() -> list[int]:
    """The processes of pools that this one has started."""
    found = []
    for pid in children():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command:
            found.append(pid)
    return found


def kill_when(condition: Callable[[], bool], before: list[int]) -> threading.Thread:
    """Kill one worker as soon as the condition holds."""

    def wait() -> None:
        while not condition():
            time.sleep(0.005)
        os.kill(next(pid for pid in workers() if pid not in before), signal.SIGKILL)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_killed_process_of_our_own_pool(hosts: Start, steady: Make, count: Any, home: Path) -> None:
    """The pool is made anew; what was whole is not fetched again, and no partial file stays."""
    servers = hosts(4)
    for server in servers:
        server.default = count.script(0.02, b"x" * 100)
    urls = [server.url(f"/{number}") for number in range(60) for server in servers]
    killer = kill_when(lambda: sum(len(server.requests) for server in servers) > 60, workers())
    found = aiodownload.swarm(urls, steady(), workers=2)
    killer.join()
    assert [bundle.error for bundle in found if not bundle.ok] == []
    for bundle in found:
        assert Path(bundle.file_path or "").read_bytes() == b"x" * 100
    asked = Counter(request.target for server in servers for request in server.requests)
    again = sum(asked.values()) - len(urls)
    assert again <= 3 * 8  # what was under way in both of them, and in the disk's hands
    assert {bundle.status for bundle in found} <= {Status.DONE, Status.CACHED}
    assert Status.CACHED in {bundle.status for bundle in found}  # whole when its worker died
    assert not [path for path in home.rglob("*") if path.name.startswith(".")]


def test_a_killed_process_of_a_pool_of_the_callers(hosts: Start, steady: Make, count: Any, tmp_path: Path) -> None:
    """Such a pool takes nothing any more: the run ends and says so; another run does what is missing."""
    servers = hosts(4)
    for server in servers:
        server.default = count.script(0.02)
    urls = [server.url(f"/{number}") for number in range(200) for server in servers]
    journal = tmp_path / "journal.db"
    before = workers()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        killer = kill_when(lambda: sum(len(server.requests) for server in servers) > 600, before)
        with pytest.raises(ExecutorError, match="BrokenProcessPool") as caught:
            aiodownload.swarm(urls, steady(journal=journal), executor=pool)
        killer.join()
    settled = caught.value.settled
    assert settled
    assert all(bundle.ok for bundle in settled)
    requests = sum(len(server.requests) for server in servers)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = aiodownload.swarm(urls, steady(journal=journal), executor=pool)
    assert all(bundle.ok for bundle in found)
    assert sum(len(server.requests) for server in servers) - requests <= len(urls) - len(settled)


def test_who_kills_his_workers(server: FaultServer, home: Path, steady: Make) -> None:
    """A bundle that kills whoever has it fails in the end, and takes only a few along."""
    server.default = ok(b"x")
    bundles = [AioDownloadBundle(server.url(f"/{number}")) for number in range(60)]
    poison = AioDownloadBundle(server.url("/poison"))
    aiodownload.swarm([*bundles[:30], poison, *bundles[30:]], steady(download=Poisonous(home=home)), workers=1)
    assert isinstance(poison.error, WorkerError)
    assert poison.error.transient
    assert "3 workers" in str(poison.error)
    failed = [bundle for bundle in bundles if not bundle.ok]
    assert all(isinstance(bundle.error, WorkerError) for bundle in failed)
    assert len(failed) < stock.BUNDLES >> 6


def test_a_body_that_was_under_way_is_gone_on_with(server: FaultServer, steady: Make) -> None:
    """What a killed worker has left of a large file is taken up by the next one."""
    whole = bytes(range(256)) * (24 << 12)
    url = server.on("/x", ranged(whole, '"strong"', speed=8 << 20))
    before = workers()
    began: list[float] = []

    def half_way() -> bool:
        if server.requests and not began:
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] > 1.8

    killer = kill_when(half_way, before)
    (bundle,) = aiodownload.swarm([url], steady(), workers=1)
    killer.join()
    assert bundle.ok, bundle.error
    assert Path(bundle.file_path or "").read_bytes() == whole
    assert len(server.requests) == 2
    first = int(server.requests[1].headers["range"].removeprefix("bytes=").rstrip("-"))
    assert first >= 4 << 20


PROGRAM = """
import sys, aiodownload
from cluster_work import Steady
if __name__ == "__main__":
    download = aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=sys.argv[2]), Steady())
    try:
        aiodownload.swarm((f"{sys.argv[1]}/{number}" for number in range(100_000)), download, workers=2)
    except KeyboardInterrupt as interrupt:
        print(len(interrupt.settled), all(bundle.ok for bundle in interrupt.settled))
        sys.exit(130)
"""


def all_ended(group: int) -> bool:
    """Whether no process is left of a group, within ten seconds."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("to_all", [True, False])
def test_ctrl_c(server: FaultServer, tmp_path: Path, count: Any, to_all: bool) -> None:
    """To the program or, as a terminal does, to all of its processes: it ends, tells what it has, leaves nothing."""
    server.default = count.script(0.01)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    home = tmp_path / "home"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, str(program), server.url("").rstrip("/"), str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        while len(server.requests) < 300:
            time.sleep(0.01)
        began = time.monotonic()
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 12
    settled, fine = out.split()
    assert int(settled) > 0
    assert fine == "True"
    files = [path for path in home.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]
    assert all_ended(process.pid)


def test_a_killed_program_leaves_no_worker(server: FaultServer, tmp_path: Path, count: Any) -> None:
    """SIGKILL to the program: the processes of its pool end by themselves."""
    server.default = count.script(0.01)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, str(program), server.url("").rstrip("/"), str(tmp_path / "home")],
        env=environment,
        start_new_session=True,
    ) as process:
        while len(server.requests) < 50:
            time.sleep(0.01)
        process.kill()
        process.wait(10)
        assert all_ended(process.pid)


def test_the_main_module_of_a_program_without_a_guard(server: FaultServer, tmp_path: Path) -> None:
    """The usual mistake with processes is explained."""
    program = tmp_path / "program.py"
    program.write_text("import sys, aiodownload\naiodownload.swarm([sys.argv[1]], workers=1)\n")
    done = subprocess.run(
        [sys.executable, str(program), server.url("/x")], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "ExecutorError" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]
    assert not server.requests
