"""The recipe for Prefect, on a server of its own on loopback: a task that is tried again does only what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aiodownload
from aiodownload.testing import FaultServer, ok, status

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("prefect") is None, reason="prefect is not installed: tox -e recipes"),
    pytest.mark.slow,
]

# As a flow is tested by its documentation; the example's own main() starts such a server by itself.
PROGRAM = """
import asyncio, json, sys
import with_prefect
from prefect.testing.utilities import prefect_test_harness

with prefect_test_harness(server_startup_timeout=120):
    for turn in range(2):
        print("ROWS", json.dumps(asyncio.run(with_prefect.downloads(sys.argv[1]))), flush=True)
"""

Run = Callable[..., list[str]]


@pytest.fixture
def proxy() -> Iterator[FaultServer]:
    """Where everything would come along that is not for loopback."""
    with FaultServer() as running:
        yield running


@pytest.fixture
def run(tmp_path: Path, proxy: FaultServer) -> Run:
    """Runs Python with these arguments in an empty folder; returns the lines that it prints."""

    def run_python(*arguments: str) -> list[str]:
        found = [str(EXAMPLES), str(Path(aiodownload.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join(found),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy.url("")),
            **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
        }
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run_python


def test_the_example(run: Run, proxy: FaultServer) -> None:
    """It fetches what is there, and a second time nothing; nobody elsewhere is told."""
    assert run(str(EXAMPLES / "with_prefect.py")) == [
        *["first DONE None"] * 4,
        "first FAILED status 404 Not Found",
        *["second CACHED None"] * 4,
        "second FAILED status 404 Not Found",
    ]
    assert not proxy.requests


def test_a_task_that_is_tried_again(run: Run, server: FaultServer, proxy: FaultServer, tmp_path: Path) -> None:
    """What was whole in its first try is no request in the second, which fetches what has come back meanwhile."""
    urls = [server.on(f"/{number}.txt", ok(b"body\n")) for number in range(20)]
    urls.append(server.on("/late.txt", *[status(503)] * 4, ok(b"late\n")))  # four tries are those of one task
    urls.append(server.on("/never.txt", status(404)))
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    lines = run("-c", PROGRAM, "urls.txt")
    first, second = (json.loads(line.removeprefix("ROWS ")) for line in lines if line.startswith("ROWS"))
    told = {row["url"]: row["status"] for row in first}
    assert told == {**dict.fromkeys(urls[:20], "CACHED"), urls[20]: "DONE", urls[21]: "FAILED"}
    assert Counter(row["status"] for row in second) == {"CACHED": 21, "FAILED": 1}
    asked = Counter(request.target for request in server.requests)
    assert asked == {**{f"/{number}.txt": 1 for number in range(20)}, "/late.txt": 5, "/never.txt": 3}
    assert {Path(row["file_path"]).read_bytes() for row in first[:21]} == {b"body\n", b"late\n"}
    assert len(list((tmp_path / "downloads.journals").glob("*.db"))) == 1  # one host is in one part
    assert not proxy.requests
