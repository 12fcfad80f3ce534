"""The recipe for Spark, on a real one in local mode: hosts apart, limits kept, tasks killed and tried again."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import aiodownload
from aiodownload.testing import FaultServer, slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
URLS = 80  # of each host: so many that small files go to the process that writes them
HOSTS = 5
BODY = b"body\n" * 100

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
        yield from with_spark.fetch(tables)
    finally:
        with_spark.row = row

with_spark.fetch = killed  # here; the processes of the executors import their own
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
def test_killed_tasks(run: Run, hosts: Callable[[int], list[FaultServer]], tmp_path: Path) -> None:
    """Each host is in one partition and sees no more than its limit; of a killed task nothing is lost or done twice."""
    servers = hosts(HOSTS)
    for server in servers:
        server.default = slow(BODY, 1, 0.005)
    urls = [server.url(f"/{number}.txt") for server in servers for number in range(URLS)]
    invalid = [url.replace("http:", "nothttp:") for url in urls[::URLS]]
    lines = run("-c", PROGRAM, json.dumps(urls + invalid))
    first, second = (json.loads(line.removeprefix("ROWS ")) for line in lines if line.startswith("ROWS"))
    for rows in (first, second):
        assert sorted(row["url"] for row in rows) == sorted(urls + invalid)
        wrong = [row for row in rows if row["error"]]
        assert sorted(row["url"] for row in wrong) == sorted(invalid)
        assert {(row["status"], row["error_type"], row["size"]) for row in wrong} == {
            ("FAILED", "InvalidURLError", None)
        }
    assert {row["status"] for row in first if not row["error"]} == {"DONE", "CACHED"}  # the second of a killed task
    for row in second:
        if not row["error"]:
            assert (row["status"], row["size"], Path(row["file_path"]).read_bytes()) == ("CACHED", len(BODY), BODY)
    assert max(server.most_active for server in servers) <= 4  # per_host
    asked = sum(len(server.requests) for server in servers)
    assert len(urls) <= asked <= len(urls) + 4 * 4  # what four partitions with four slots each had under way
    parts = [hosts_in(journal) for journal in (tmp_path / "downloads.journals").glob("*.db")]
    assert len(parts) == 4
    assert sum(map(len, parts)) == len(set().union(*parts)) == HOSTS


def hosts_in(journal: Path) -> set[str | None]:
    """The hosts of the URLs that a journal has."""
    with contextlib.closing(sqlite3.connect(journal)) as database:
        return {urlsplit(url).hostname for (url,) in database.execute("SELECT url FROM urls")}
