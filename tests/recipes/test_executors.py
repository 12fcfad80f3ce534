"""Executors of other packages, real ones: loky's, and mpi4py's over MPI."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_work import Steady

import aiodownload
from aiodownload import AioDownload, DownloadStrategy
from aiodownload.testing import FaultServer, each_path, ok, status

HOSTS = 4
URLS = 40  # of each

PROGRAM = """
import json, sys
import aiodownload
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    download = aiodownload.AioDownload(
        download_strategy=aiodownload.DownloadStrategy(home=sys.argv[1]),
        request_strategy=aiodownload.Lenient(concurrent=16, per_host=2, delay=0, max_attempts=1),
    )
    with MPIPoolExecutor() as pool:
        bundles = aiodownload.swarm(json.loads(sys.stdin.read()), download, executor=pool)
        print(json.dumps([bundle.http_status for bundle in bundles]))
"""

pytestmark = pytest.mark.slow


def is_missing(*names: str) -> bool:
    return any(importlib.util.find_spec(name) is None for name in names)


def served(hosts: Callable[[int], list[FaultServer]]) -> tuple[list[FaultServer], list[str]]:
    """Servers, and URLs of which each has one that is not there."""
    servers = hosts(HOSTS)
    for server in servers:
        server.default = each_path(
            lambda request: status(404) if request.path == "/0" else ok(request.target.encode() * 100)
        )
    return servers, [server.url(f"/{number}") for number in range(URLS) for server in servers]


def check(servers: list[FaultServer], found: list[int | None], home: Path) -> None:
    """Each URL has its outcome, each file its bytes, and no host was asked more than it may be."""
    assert found == [404] * HOSTS + [200] * HOSTS * (URLS - 1)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) == HOSTS * (URLS - 1)
    assert all(path.read_bytes() == f"/{path.name}".encode() * 100 for path in files)
    assert [len(server.requests) for server in servers] == [URLS] * HOSTS
    assert all(server.most_active <= 2 for server in servers)


@pytest.mark.skipif(is_missing("loky"), reason="loky is not installed: tox -e recipes")
def test_loky(hosts: Callable[[int], list[FaultServer]], home: Path) -> None:
    """Its processes, which are used again by whoever asks for some."""
    from loky import get_reusable_executor

    servers, urls = served(hosts)
    download = AioDownload(None, DownloadStrategy(home=home), Steady(per_host=2, max_attempts=1))
    pool = get_reusable_executor(max_workers=2)
    try:
        bundles = aiodownload.swarm(urls, download, executor=pool)
    finally:
        pool.shutdown(wait=True, kill_workers=True)
    check(servers, [bundle.http_status for bundle in bundles], home)


@pytest.mark.skipif(is_missing("mpi4py"), reason="mpi4py is not installed: tox -e recipes")
@pytest.mark.skipif(shutil.which("mpiexec", path=os.path.dirname(sys.executable)) is None, reason="there is no MPI")
def test_mpi(hosts: Callable[[int], list[FaultServer]], home: Path, tmp_path: Path) -> None:
    """The command of the recipe, with two workers."""
    servers, urls = served(hosts)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    mpiexec = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    done = subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", program, home],
        input=json.dumps(urls),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    check(servers, json.loads(done.stdout), home)
