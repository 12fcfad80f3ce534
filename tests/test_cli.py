"""The command line, as a user types it: exit codes, input lists, JSON lines, and the demo."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiodownload.testing import FaultServer, ok, redirect, stall, status

pytest.importorskip("click", reason="the extra cli is not installed")

from test_cli_session import aiodownload as called


def aiodownload(*arguments: str, text: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; ``called`` runs it in this one, which is quicker."""
    return subprocess.run(
        [sys.executable, "-m", "aiodownload", *arguments],
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        timeout=50,
    )


def test_get_writes_below_the_current_folder(server: FaultServer, tmp_path: Path) -> None:
    """Without options the files go below the current folder, and the exit code is 0."""
    url = server.on("/a/b.txt", ok(b"hello"))
    done = aiodownload("get", url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"127.0.0.1+{server.port}" / "a" / "b.txt").read_bytes() == b"hello"
    assert done.stdout == ""
    assert "File written" in done.stderr
    assert "1 done (5 bytes), 0 cached, 0 failed" in done.stderr


def test_one_failure_is_exit_code_1(server: FaultServer, tmp_path: Path) -> None:
    """A failed URL is told with its reason, the others are kept, and the exit code is 1."""
    good = server.on("/good", ok(b"x"))
    done = aiodownload("get", good, server.url("/missing"), "nonsense", "-o", str(tmp_path))
    assert done.returncode == 1
    assert "status 404" in done.stderr
    assert "only http:// and https:// are fetched" in done.stderr
    assert "1 done (1 bytes), 0 cached, 2 failed" in done.stderr


def test_lists_from_a_file_and_from_stdin(server: FaultServer, tmp_path: Path) -> None:
    """-i reads a file and - standard input; blank lines and comments are skipped; arguments come along."""
    urls = [server.on(f"/{index}", ok(b"%d" % index)) for index in range(4)]
    listed = tmp_path / "list.txt"
    listed.write_text(f"# a comment\n\n{urls[0]}\r\n   {urls[1]}  \n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = ["get", urls[2], "-i", str(listed), "-i", "-", "-o", str(out), "--concurrent", "4"]
    done = aiodownload(*arguments, text=f"\n#x\n{urls[3]}\n")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["0", "1", "2", "3"]


def test_json_lines(server: FaultServer, tmp_path: Path) -> None:
    """--json writes one object per settled URL to standard output, and nothing else."""
    good = server.on("/good", redirect("/there"))
    server.on("/there", ok(b"12345"))
    done = aiodownload("get", "--json", "-o", str(tmp_path), good.replace("//", "//user:secret@"), server.url("/gone"))
    rows = {row["url"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert "secret" not in done.stdout + done.stderr
    first, second = rows[good], rows[server.url("/gone")]
    wanted = {"ok": True, "status": "File written", "attempts": 1, "http_status": 200, "size": 5, "error": None}
    assert {key: first[key] for key in wanted} == wanted
    assert first["final_url"] == server.url("/there")
    assert Path(first["file_path"]).read_bytes() == b"12345"
    assert (second["ok"], second["http_status"], second["size"]) == (False, 404, None)
    assert "404" in second["error"]


def test_skip_cached(server: FaultServer, tmp_path: Path) -> None:
    """--skip-cached makes no request for a file that is there."""
    url = server.on("/a", ok(b"x"))
    called("get", url, "-o", str(tmp_path))
    done = called("get", url, "-o", str(tmp_path), "--skip-cached", "--strategy", "backoff")
    assert done.returncode == 0
    assert "Cache hit" in done.stderr
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["get"], "give at least one URL"),
        (["get", "-i", "/no/such/list"], "/no/such/list"),
        (["get", "http://127.0.0.1/", "--timeout", "-1"], "timeout must be a number above 0"),
        (["get", "http://127.0.0.1/", "--concurrent", "0"], "--concurrent"),
        (["get", "http://127.0.0.1/", "--strategy", "rude"], "--strategy"),
        (["get", "http://127.0.0.1/", "--no-such-option"], "--no-such-option"),
        (["fetch"], "fetch"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], says: str) -> None:
    """A wrong call says what is wrong, on standard error, and exits with 2."""
    done = called(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_unusable_home_is_exit_code_2(server: FaultServer, tmp_path: Path) -> None:
    """A folder that cannot be used ends the call before any request."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    done = aiodownload("get", server.on("/a", ok(b"x")), "-o", str(tmp_path / "file" / "below"))
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    assert server.requests == []


def test_help_names_every_option() -> None:
    """--help explains the commands and the exit codes."""
    assert "Exit codes" in called("--help").stdout
    told = called("get", "--help").stdout
    for option in ("--input", "--output", "--strategy", "--concurrent", "--json", "--skip-cached", "--max-bytes"):
        assert option in told


def test_version() -> None:
    """--version tells it."""
    assert "1." in aiodownload("--version").stdout


def test_interrupted_is_exit_code_130(server: FaultServer, tmp_path: Path) -> None:
    """Ctrl-C ends get within its grace, with 130, what was done kept, and nothing half under a final name."""
    urls = [server.on("/good", ok(b"x")), server.on("/hangs", stall(b"y" * 100, at=50))]
    with subprocess.Popen(
        [sys.executable, "-m", "aiodownload", "get", "-o", str(tmp_path), *urls], stderr=subprocess.PIPE, text=True
    ) as running:
        until = time.monotonic() + 20
        while len(server.requests) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "interrupted: 1 done" in told
    assert "Traceback" not in told
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["good"]


def test_a_retry_after_beyond_the_limit_ends_at_once(server: FaultServer, tmp_path: Path) -> None:
    """--max-retry-after is obeyed, and the reason is told."""
    url = server.on("/later", status(503, Retry_After="500"))
    done = called("get", url, "-o", str(tmp_path), "--max-retry-after", "100")
    assert done.returncode == 1
    assert "500 s" in done.stderr


def test_demo(tmp_path: Path) -> None:
    """The demo ends with the table of what became of each kind, all right files, and exit code 0."""
    done = subprocess.run(
        [sys.executable, "-m", "aiodownload", "demo", "-o", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything came out as it should" in done.stdout
    for kind in ("plain", "cut short once", "missing (404)", "redirected in a circle"):
        assert kind in done.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 248
    assert not [path for path in files if path.name.endswith(".part")]


def test_a_journal_makes_a_second_call_do_what_is_missing(server: FaultServer, tmp_path: Path) -> None:
    """--journal: what is done is cached, without a request; --refresh asks again."""
    good, bad = server.on("/good", ok(b"x", ETag='"1"')), server.on("/bad", status(404), status(404), ok(b"late"))
    command = ["get", good, bad, "-o", str(tmp_path / "out"), "--journal", str(tmp_path / "j.db")]
    assert called(*command).returncode == 1
    again = called(*command)
    assert again.returncode == 1
    assert "0 done (0 bytes), 1 cached, 1 failed" in again.stderr
    last = called(*command, "--refresh")
    assert last.returncode == 0, last.stderr
    assert [request.headers.get("if-none-match") for request in server.asked("/good")] == [None, '"1"']


def failing(server: FaultServer, tmp_path: Path, *more: str) -> list[str]:
    """A journal of one good URL and of some that have failed."""
    urls = [server.on("/good", ok(b"good")), server.on("/bad", status(404), ok(b"now")), server.url("/missing"), *more]
    called("get", *urls, "-o", str(tmp_path / "out"), "--journal", str(tmp_path / "j.db"), "--max-attempts", "1")
    server.requests.clear()
    return ["retry", str(tmp_path / "j.db")]


def test_retry_redoes_failures_only(server: FaultServer, tmp_path: Path) -> None:
    """Each failed URL is asked again and goes to its own file; what is done is left alone; exit code as of get."""
    command = failing(server, tmp_path)
    done = called(*command)
    assert done.returncode == 1
    assert "1 done (3 bytes), 0 cached, 1 failed" in done.stderr
    assert sorted(request.target for request in server.requests) == ["/bad", "/missing"]
    assert (tmp_path / "out" / f"127.0.0.1+{server.port}" / "bad").read_bytes() == b"now"
    server.on("/missing", ok(b"found"))
    assert called(*command).returncode == 0
    server.requests.clear()
    nothing = called(*command)
    assert nothing.returncode == 0
    assert "0 done (0 bytes), 0 cached, 0 failed" in nothing.stderr
    assert server.requests == []


def test_retry_says_what_it_cannot_do(server: FaultServer, tmp_path: Path) -> None:
    """The journal holds no password: such a URL is named and left out, and the exit code is 1."""
    secret = server.url("/secret").replace("//", "//me:passw0rd@")
    done = called(*failing(server, tmp_path, secret))
    assert done.returncode == 1
    assert f"left out: {server.url('/secret')}" in done.stderr
    assert "passw0rd" not in done.stderr
    assert not server.asked("/secret")


def test_retry_of_what_was_cut_off(server: FaultServer, tmp_path: Path) -> None:
    """Rows without an outcome are told, and done with --unfinished."""
    command = failing(server, tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as database:
        database.execute("UPDATE urls SET state = 'enlisted' WHERE url LIKE '%/bad'")
        database.execute("UPDATE urls SET state = 'cancelled' WHERE url LIKE '%/missing'")
    done = called(*command)
    assert done.returncode == 0
    assert "2 more have no outcome yet" in done.stderr
    assert called(*command, "--unfinished").returncode == 1
    assert len(server.requests) == 2


def test_retry_elsewhere(server: FaultServer, tmp_path: Path) -> None:
    """A folder that has been moved is given by -o."""
    command = failing(server, tmp_path)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert called(*command, "-o", str(tmp_path / "moved")).returncode == 1
    assert (tmp_path / "moved" / f"127.0.0.1+{server.port}" / "bad").read_bytes() == b"now"
    assert not (tmp_path / "out").exists()


def test_retry_of_a_hostile_journal(server: FaultServer, tmp_path: Path) -> None:
    """S29: a journal names no file outside of the folder, and runs nothing."""
    command = failing(server, tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as database:
        database.execute("UPDATE urls SET path = ? WHERE url LIKE '%/bad'", (str(tmp_path / "evil"),))
        database.execute("UPDATE urls SET path = ? WHERE url LIKE '%/missing'", (str(tmp_path / "out/../evil"),))
    done = called(*command)
    assert done.returncode == 1
    assert done.stderr.count("left out") == 2
    assert not (tmp_path / "evil").exists()


def test_retry_writes_where_one_would_look(server: FaultServer, tmp_path: Path) -> None:
    """S29: a journal alone does not say where files go.  Its folder must lie below it or below the current one, and a
    file has the place that its URL has; whoever names the folder may have others, but none that is hidden."""
    home, place = tmp_path / "victim", tmp_path / "elsewhere"
    home.mkdir()
    place.mkdir()
    (home / ".bashrc").write_bytes(b"precious")
    (home / "notes").write_bytes(b"precious")
    names = [".bashrc", "notes", "\x1b]0;pwned\x07"]
    urls = [server.on(f"/{number}", status(404), ok(b"evil")) for number in range(4)]
    journal = place / "j.db"
    called("get", *urls, "-o", str(home), "--journal", str(journal), "--max-attempts", "1")
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as database:
        for number, name in enumerate(names):
            database.execute("UPDATE urls SET path = ? WHERE url LIKE ?", (name, f"%/{number}"))
    done = called("retry", str(journal), cwd=place)
    assert done.returncode == 2
    assert "name it with -o" in done.stderr
    done = called("retry", str(journal), cwd=tmp_path)
    assert done.returncode == 1
    assert "1 done" in done.stderr
    assert done.stderr.count("left out") == 3
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()} == {
        ".bashrc": b"precious",
        "notes": b"precious",
    }
    done = called("retry", str(journal), "-o", str(home))
    assert done.returncode == 1
    assert (home / ".bashrc").read_bytes() == b"precious"
    assert (home / "notes").read_bytes() == b"evil"  # that folder was named, and a strategy may have such names
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.parametrize("what", ["absent", "text"])
def test_retry_of_what_is_no_journal(what: str, tmp_path: Path) -> None:
    file = tmp_path / "j.db"
    if what == "text":
        file.write_text("dear diary")
    done = called("retry", str(file))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "j.db" in done.stderr


def test_get_takes_the_limits_of_a_strategy(server: FaultServer, tmp_path: Path) -> None:
    """Each setting of how to ask is an option of the same name; a wrong one is named."""
    url = server.on("/f", ok(b"x"))
    done = called(
        *("get", url, "-o", str(tmp_path), "--strategy", "adaptive", "--per-host", "3", "--rate", "100"),
        *("--bandwidth", "1e6", "--per-host-bandwidth", "1e5", "--low-speed", "100", "30", "--deadline", "60"),
        *("--retry-budget", "5", "--no-jitter", "--no-robots", "--contact", "ops@example.org"),
    )
    assert done.returncode == 0, done.stderr
    assert server.requests[0].headers["user-agent"].endswith("(+ops@example.org)")
    wrong = called("get", url, "-o", str(tmp_path), "--rate", "0")
    assert wrong.returncode == 2
    assert "rate must be a number above 0" in wrong.stderr


def test_get_obeys_robots_txt(server: FaultServer, tmp_path: Path) -> None:
    """With the strategy polite, or --robots."""
    server.on("/robots.txt", ok(b"User-agent: *\nDisallow: /f\n"))
    url = server.on("/f", ok(b"x"))
    for options in (["--strategy", "polite"], ["--robots"]):
        done = called("get", url, "-o", str(tmp_path), *options)
        assert done.returncode == 1
        assert "robots.txt does not allow it" in done.stderr
    assert server.asked("/f") == []
