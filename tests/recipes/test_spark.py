"""The recipe for Spark, on a real one in local mode: hosts apart, limits kept, and tasks that are killed and tried again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import aiodownload
from aiodownload.testing import FaultServer, ok, slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
URLS = 80  # of each host: so many that small files go to the process that writes them
HOSTS = 5

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed: tox -e recipes"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java: apt-get install default-jre-headless"),
    pytest.mark.slow,
]

PROGRAM = """
import json, os, signal, sys
import with_spark
from pyspark import TaskContext
from pyspark.sql import SparkSession

def killed(tables):
    '''As fetch, in a process that is killed at the first try, when 20 URLs of the partition are settled.'''
    row, settled = with_spark.row, []
    def counting(bundle):
        settled.append(bundle)
        if TaskContext.get().attemptNumber() == 0 and len(settled) == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return row(bundle)
    with_spark.row = counting
    try:
        yield from fetch(tables)
    finally:
        with_spark.row = row

fetch, with_spark.fetch = with_spark.fetch, killed
spark = (
    SparkSession.builder.master("local[2,4]").config("spark.speculation", "false")
    .config("spark.ui.enabled", "false").getOrCreate()
)
table = spark.createDataFrame([(url,) for url in json.loads(sys.argv[1])], "url string")
for turn in range(2):
    print("ROWS", json.dumps([row.asDict() for row in with_spark.fetched(table).collect()]), flush=True)
spark.stop()
"""

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs Python with these arguments in an empty folder; returns the lines that it prints."""

    def run_python(*arguments: str) -> list[str]:
        found = [str(EXAMPLES), str(Path(aiodownload.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(found),  # the processes of the executors need it as well
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONDONTWRITEBYTECODE": "1",
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(tmp_path / "spark"),
        }
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run_python


def test_the_example(run: Run) -> None:
    """It fetches what is there, and a second time nothing."""
    lines = run(str(EXAMPLES / "with_spark.py"))
    assert lines == [
        *(f"first DONE {size} 1 None" for size in (7, 14, 21, 28)),
        "first FAILED None 1 status 404 Not Found",
        *(f"second CACHED {size} 0 None" for size in (7, 14, 21, 28)),
        "second FAILED None 1 status 404 Not Found",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has every address of 127.0.0.0/8")
def test_killed_tasks(run: Run, tmp_path: Path) -> None:
    """Each host is in one partition and sees no more than its limit; of a killed task nothing is lost or done twice."""
    servers = [FaultServer(host=f"127.0.0.{host}") for host in range(1, HOSTS + 1)]
    urls = []
    for server in servers:
        server.__enter__()
        server.default = slow(b"body\n" * 100, 1, 0.005)
        urls += [server.url(f"/{number}.txt") for number in range(URLS)]
        server.on("/0.txt", ok(b"body\n" * 100))
        urls.append(server.url("/missing").replace("http:", "nothttp:"))
    try:
        lines = [line.removeprefix("ROWS ") for line in run("-c", PROGRAM, json.dumps(urls)) if "ROWS" in line]
        first, second = (json.loads(line) for line in lines)
        asked = [request.target for server in servers for request in server.requests]
        most = max(server.most_active for server in servers)
    finally:
        for server in servers:
            server.__exit__(None, None, None)
    check_rows(first, second, urls)
    assert most <= 4  # per_host
    assert len(asked) > len(urls) - HOSTS  # tasks were killed with requests under way
    assert len(asked) <= HOSTS * URLS + 4 * 4  # four partitions with four slots each: what was under way, and no more
    parts = [hosts_in(journal) for journal in sorted((tmp_path / "downloads.journals").iterdir())]
    assert len(parts) == 4
    assert sum(map(len, parts)) == len(set().union(*parts)) == HOSTS


def check_rows(first: list[dict[str, Any]], second: list[dict[str, Any]], urls: list[str]) -> None:
    """Every URL has one row in each turn, and what came in the first is there in the second."""
    for rows in (first, second):
        assert sorted(row["url"] for row in rows) == sorted(urls)
        wrong = [row for row in rows if row["error"]]
        assert {(row["error_type"], row["status"], row["size"]) for row in wrong} == {
            ("InvalidURLError", "FAILED", None)
        }
        assert len(wrong) == HOSTS
    assert {row["status"] for row in first if not row["error"]} == {"DONE", "CACHED"}
    for row in second:
        if not row["error"]:
            assert (row["status"], row["size"], Path(row["file_path"]).read_bytes()) == ("CACHED", 500, b"body\n" * 100)


def hosts_in(journal: Path) -> set[str | None]:
    """The hosts of the URLs that a journal has."""
    with sqlite3.connect(journal) as database:
        urls = [url for (url,) in database.execute("SELECT url FROM urls")]
    database.close()
    return {urlsplit(url).hostname for url in urls}
