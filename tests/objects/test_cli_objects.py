"""The command line with an object store as its folder."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from shelves import Shelf

from aiodownload.testing import FaultServer, ok, slow, status

pytest.importorskip("click", reason="the extra cli is not installed")
pytest.importorskip("obstore", reason="the extra objects is not installed")

from test_cli_session import Done
from test_cli_session import aiodownload as called

Run = Callable[..., Done]


@pytest.fixture
def credentials(s3_shelf: Shelf) -> dict[str, str]:
    """The variables that have them."""
    return {
        "AWS_ACCESS_KEY_ID": s3_shelf.options["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3_shelf.options["secret_access_key"],
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_shelf.endpoint,
        "AWS_ALLOW_HTTP": "true",
    }


@pytest.fixture
def run(credentials: dict[str, str], tmp_path: Path) -> Run:
    """Runs the command in this process, with credentials in its environment."""
    return functools.partial(called, cwd=tmp_path, **credentials)


def test_get(s3_shelf: Shelf, server: FaultServer, run: Run, credentials: dict[str, str], tmp_path: Path) -> None:
    """``-o s3://...``: objects, and nothing on the disk."""
    url = server.on("/a/b.txt", ok(b"hello"))
    done = subprocess.run(
        [sys.executable, "-m", "aiodownload", "get", "-o", s3_shelf.home, "--json", url],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **credentials},
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["file_path"] == f"{s3_shelf.home}/127.0.0.1+{server.port}/a/b.txt"
    assert s3_shelf.objects() == {"b.txt": b"hello"}
    assert list(tmp_path.iterdir()) == []
    again = run("get", "-o", s3_shelf.home, "--skip-cached", url)
    assert again.returncode == 0
    assert len(server.requests) == 1


def test_wrong_usage(s3_shelf: Shelf, server: FaultServer, run: Run) -> None:
    """Exit code 2, and what would be right."""
    url = server.on("/a", ok(b"a"))
    for arguments, told in (
        (("-o", "ftp://x"), "home cannot be ftp://"),
        (("-o", "s3://there-is-none"), "NoSuchBucket"),
        (("-o", s3_shelf.home, "--segments", "2"), "segments must be 1"),
        (("-o", s3_shelf.home, "--store-options", "open-sesame"), "each must be NAME=VALUE"),
        (("-o", s3_shelf.home, "--store-options", "endpont=x"), "'endpont' is not one of obstore's names"),
        (("--store-options", "endpoint=x"), "store_options are for a home in an object store"),
    ):
        done = run("get", *arguments, url)
        assert done.returncode == 2, done.stderr
        assert told in " ".join(done.stderr.split())
        assert "open-sesame" not in done.stderr
    assert server.requests == []


def test_options_of_the_store(s3_shelf: Shelf, server: FaultServer, run: Run) -> None:
    """They go before the environment."""
    url = server.on("/a", ok(b"a"))
    done = run("get", "-o", s3_shelf.home, "--store-options", "endpoint=http://127.0.0.1:9", url)
    assert (done.returncode, "it cannot be reached" in done.stderr) == (2, True)
    done = run("get", "-o", s3_shelf.home, "--store-options", f"endpoint={s3_shelf.endpoint}", url)
    assert done.returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c(s3_shelf: Shelf, server: FaultServer, program: Callable[..., subprocess.Popen[str]]) -> None:
    """After its grace the upload is cancelled: exit code 130, no object, and nothing left in the bucket."""
    url = server.on("/large.bin", slow(bytes(40 << 20), 80, 0.1))
    code = "import sys; from aiodownload.__main__ import main; sys.argv[1:] = ['get', '-o', *sys.argv[1:]]; main()"
    running = program(code, url)
    deadline = time.monotonic() + 20
    while not s3_shelf.uploads() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 130, told
    assert s3_shelf.objects() == {}
    assert s3_shelf.uploads() == []


def test_plan(s3_shelf: Shelf, server: FaultServer, run: Run) -> None:
    """It looks at what is there, and makes nothing."""
    urls = [server.on(f"/{name}", ok(b"12345")) for name in "ab"]
    assert run("get", "-o", s3_shelf.home, urls[0]).returncode == 0
    for skip, what, size in (((), "replace", 5), (("--skip-cached",), "cached", 5)):
        done = run("plan", "-o", s3_shelf.home, "--json", *skip, *urls)
        assert done.returncode == 0, done.stderr
        told = {one["url"]: one for one in map(json.loads, done.stdout.splitlines())}
        assert (told[urls[0]]["what"], told[urls[0]]["size"]) == (what, size)
        assert (told[urls[1]]["what"], told[urls[1]]["size"]) == ("download", 5)
        assert told[urls[1]]["path"] == f"{s3_shelf.home}/127.0.0.1+{server.port}/b"
    assert set(s3_shelf.objects()) == {"a"}
    assert run("plan", "-o", "s3://there-is-none", *urls).returncode == 2


def test_retry(s3_shelf: Shelf, server: FaultServer, run: Run) -> None:
    """The failures of a journal, once the place is named: a journal alone does not say where files go."""
    url = server.on("/a", status(404))
    assert run("get", "-o", s3_shelf.home, "--journal", "journal.db", url).returncode == 1
    server.on("/a", ok(b"there"))
    refused = run("retry", "journal.db")
    assert refused.returncode == 2
    assert "name it with -o" in " ".join(refused.stderr.split())
    assert run("retry", "-o", s3_shelf.home, "journal.db").returncode == 0
    page = run("report", "-o", "-", "journal.db")
    assert page.returncode == 0, page.stderr
    assert s3_shelf.home in page.stdout
    assert s3_shelf.objects() == {"a": b"there"}
