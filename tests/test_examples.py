"""Every script in examples/ does what it says, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

import aiodownload
from aiodownload.testing import FaultServer, ok

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
REPORT = b"day,visitors\nmonday,12\ntuesday,15\n"

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a script in an empty folder, with warnings as errors; returns the lines that it prints."""

    def run_script(name: str, *arguments: str) -> list[str]:
        found = os.pathsep.join([str(Path(aiodownload.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-B", str(EXAMPLES / name), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": found},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run_script


def written(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, without the folder that is named after the server's address."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            parts = [part for part in path.relative_to(folder).parts if not part.startswith("127.0.0.1")]
            found["/".join(parts)] = path.read_bytes()
    return found


def numbered(*numbers: int) -> dict[str, bytes]:
    """The text files that the examples' server has."""
    return {f"files/{number}.txt": f"file {number}\n".encode() * number for number in numbers}


def test_every_script_is_tested() -> None:
    """No example is forgotten, here or among the recipes, which need more than the others."""
    here = Path(__file__)
    text = "".join(path.read_text() for path in (here, *(here.parent / "recipes").glob("test_*.py")))
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - {"server.py"}
    assert scripts
    assert [name for name in sorted(scripts) if f'"{name}"' not in text] == []


def test_one(run: Run, tmp_path: Path) -> None:
    """One file is written below the current directory, and the missing one is reported, not raised."""
    lines = run("one.py")
    assert lines[0].endswith("Attempts: 1, Status: File written]")
    assert lines[1] == "True 34 bytes"
    assert lines[2].endswith("Attempts: 1, Status: Download failed]")
    assert lines[3] == "False status 404 Not Found"
    assert written(tmp_path) == {"report.csv": REPORT}


def test_base_url(run: Run, tmp_path: Path, server: FaultServer) -> None:
    """With an address on the command line a script asks there."""
    server.on("/report.csv", ok(b"elsewhere"))
    lines = run("one.py", server.url("/"))
    assert lines[1] == "True 9 bytes"
    assert [request.target for request in server.requests] == ["/report.csv", "/missing.csv"]
    assert written(tmp_path) == {"report.csv": b"elsewhere"}


def test_swarm(run: Run, tmp_path: Path) -> None:
    """Four files come in order, and the second time they are cache hits."""
    lines = run("swarm.py")
    assert [line.rpartition(" ")[0] for line in lines] == [
        *(f"first File written {size}" for size in (7, 14, 21, 28)),
        *(f"second Cache hit {size}" for size in (7, 14, 21, 28)),
    ]
    assert [Path(line.rpartition(" ")[2]).name for line in lines] == ["1.txt", "2.txt", "3.txt", "4.txt"] * 2
    assert written(tmp_path / "downloads") == numbered(1, 2, 3, 4)


def test_each_with_info(run: Run, tmp_path: Path) -> None:
    """The objects come back with their bundles, and a bundle may say where its file goes."""
    lines = run("each_with_info.py")
    titles = ["Loomings", "The Carpet-Bag", "The Spouter-Inn"]
    assert sorted(lines[:3]) == [f"{title} File written" for title in titles]
    paths = [str(tmp_path / "downloads" / "book" / f"{at:02} {title}.txt") for at, title in enumerate(titles, 1)]
    assert sorted(lines[3:]) == [f"{title} {path}" for title, path in zip(titles, paths, strict=True)]
    files = numbered(1, 2, 3)
    books = {f"book/{Path(path).name}": files[f"files/{at}.txt"] for at, path in enumerate(paths, 1)}
    assert written(tmp_path / "downloads") == files | books


def test_custom_download(run: Run, tmp_path: Path) -> None:
    """One strategy writes nothing and parses; the other writes the file and, after it, its checksum."""
    lines = run("custom_download.py")
    path = tmp_path / "downloads" / "checked" / "report.csv"
    assert lines == ["True {'apple': 3, 'pear': 4, 'plum': 2}", str(path), "no file: status 404 Not Found"]
    checksum = f"{sha256(REPORT).hexdigest()}  report.csv\n".encode()
    assert written(tmp_path) == {
        "downloads/checked/report.csv": REPORT,
        "downloads/checked/report.csv.sha256": checksum,
    }


def test_custom_request(run: Run, tmp_path: Path) -> None:
    """A busy server is asked again, and a page to log in is no success."""
    lines = run("custom_request.py")
    assert lines == [
        "File written 1 None",
        "File written 3 None",
        "Download failed 1 a page for people instead of data",
    ]
    assert written(tmp_path / "downloads") == {"report.csv": REPORT, "busy.txt": b"here you are\n"}


def test_in_an_event_loop(run: Run, tmp_path: Path) -> None:
    """One, two swarms side by side, and an iteration over an asynchronous input."""
    lines = run("in_an_event_loop.py")
    assert lines[:2] == ["File written 34", "[7, 14, 21, 28]"]
    assert sorted(lines[2:]) == ["File written 5.txt", "File written 6.txt"]
    assert written(tmp_path / "downloads") == {"report.csv": REPORT, **numbered(1, 2, 3, 4, 5, 6)}


def test_with_a_session(run: Run, tmp_path: Path) -> None:
    """A session's headers are sent, made by a factory or live, and a live one is not closed."""
    assert run("with_a_session.py") == [
        "with a factory: File written",
        "without: status 401 Unauthorized",
        "with a session: File written - still open: True",
    ]
    assert written(tmp_path) == {"downloads/private.txt": b"forty thieves\n"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has every address of 127.0.0.0/8")
def test_array_job(
    run: Run, hosts: Callable[[int], list[FaultServer]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three jobs fetch all of it once, each host by one of them; done again, by them or by two, it is no request."""
    servers = hosts(8)
    for server in servers:
        for number in range(5):
            server.on(f"/{number}.txt", ok(b"body\n"))
    urls = [server.url(f"/{number}.txt") for number in range(5) for server in servers]
    (tmp_path / "urls.txt").write_text("\n".join([*urls, "", "no URL"]) + "\n")
    lines = []
    for index, name in enumerate(("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX")):
        with monkeypatch.context() as context:
            context.setenv(name, str(index))
            lines += run("array_job.py", "urls.txt", "files", "3")
    assert [line.partition(":")[0] for line in lines] == [f"part {index} of 3" for index in range(3)]
    assert sum(int(count) for line in lines for count in re.findall(r"'DONE': (\d+)", line)) == len(urls)
    assert sum("'FAILED': 1" in line for line in lines) == 1  # what is no URL
    asked = {server: [request.target for request in server.requests] for server in servers}
    assert all(sorted(targets) == [f"/{number}.txt" for number in range(5)] for targets in asked.values())
    found = [hosts_in(tmp_path / "journals" / f"{index:05}-of-00003.db") for index in range(3)]
    assert sum(map(len, found)) == len(set().union(*found)) == len(servers)
    busiest = max(range(3), key=lambda index: len(found[index]))
    (again,) = run("array_job.py", "urls.txt", "files", "3", str(busiest))
    assert f"'CACHED': {5 * len(found[busiest])}" in again
    others = "".join(line for index in "01" for line in run("array_job.py", "urls.txt", "files", "2", index))
    assert sum(map(int, re.findall(r"'CACHED': (\d+)", others))) == len(urls)
    assert asked == {server: [request.target for request in server.requests] for server in servers}


def hosts_in(journal: Path) -> set[str | None]:
    """The hosts of the URLs that a journal has."""
    with contextlib.closing(sqlite3.connect(journal)) as database:
        found = {urlsplit(url).hostname for (url,) in database.execute("SELECT url FROM urls")}
    return found - {None}  # of what is no URL


@pytest.fixture
def array_job(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, imported."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("array_job")


def test_a_host_is_in_one_part(array_job: ModuleType) -> None:
    """However its URLs are written; the parts are alike in size, and the same in every process and release."""
    same = [
        "https://example.org/a",
        "http://EXAMPLE.org:8080/b?c",
        " https://me:word@example.org ",
        "https://example.org",
    ]
    assert {array_job.part_of(url, 100) for url in same} == {62}
    assert array_job.part_of("https://bücher.example/", 100) == array_job.part_of("https://xn--bcher-kva.example/", 100)
    for broken in ("", "no URL", "http://[", "https:///x", "http://[]@"):
        assert array_job.part_of(broken, 100) == array_job.part_of("", 100)
    urls = [f"https://host{number}.example.org/" for number in range(3000)]
    parts = [list(array_job.part(urls, 3, index)) for index in range(3)]
    assert sorted(url for part in parts for url in part) == sorted(urls)
    assert all(900 < len(part) < 1100 for part in parts)


def test_an_index_that_there_is_not(tmp_path: Path) -> None:
    """It is said which there are."""
    command = [sys.executable, str(EXAMPLES / "array_job.py"), "urls.txt", "files", "3", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "INDEX must be from 0 to 2, not 3\n"
