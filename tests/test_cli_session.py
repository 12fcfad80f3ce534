"""The command line's sessions, plan, settings and help: what a user types, against real servers."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from aiodownload.testing import FaultServer, ok, ranged, redirect, stall, status

pytest.importorskip("click", reason="the extra cli is not installed")

from click.testing import CliRunner

from aiodownload.cli import command

PASSWORD = "Basic " + base64.b64encode(b"me:secret").decode()


class Done(NamedTuple):
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def aiodownload(*arguments: str | Path, cwd: Path | None = None, text: str | None = None, **environment: str) -> Done:
    """Run the command in this process, with nothing of the user's own around it."""
    where = str(cwd or "/nonexistent")
    own = {name: None for name in os.environ if name.startswith("AIODOWNLOAD")}
    runner = CliRunner(env={**own, "HOME": where, "XDG_CONFIG_HOME": where, **environment})
    with contextlib.chdir(cwd or Path.cwd()):
        result = runner.invoke(command, [str(one) for one in arguments], input=text, prog_name="aiodownload")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


# Who asks


def test_headers_and_passwords_stay_with_their_origin(
    server: FaultServer, other_server: FaultServer, tmp_path: Path
) -> None:
    """What is sent along does not follow a redirect to another origin; the User-Agent does."""
    there = other_server.on("/there", ok(b"x"))
    url = server.on("/f", redirect(there))
    done = aiodownload(
        "get",
        url,
        "-o",
        tmp_path,
        "-H",
        "X-Mine: 1",
        "-H",
        "Cookie: a=b",
        "--user",
        "me:secret",
        "--user-agent",
        "me/1",
    )
    assert done.returncode == 0, done.stderr
    first, second = server.requests[0].headers, other_server.requests[0].headers
    assert (first["x-mine"], first["cookie"], first["authorization"]) == ("1", "a=b", PASSWORD)
    assert (first["user-agent"], second["user-agent"]) == ("me/1", "me/1")
    assert not {"x-mine", "cookie", "authorization"} & set(second)


def test_token(server: FaultServer, tmp_path: Path) -> None:
    """From the command line, or from the environment, where no list of processes shows it."""
    url = server.on("/f", ok(b"x"))
    assert aiodownload("get", url, "-o", tmp_path, "--token", "abc").returncode == 0
    assert aiodownload("get", url, "-o", tmp_path, AIODOWNLOAD_GET_TOKEN="def").returncode == 0
    assert [one.headers["authorization"] for one in server.requests] == ["Bearer abc", "Bearer def"]


@pytest.mark.parametrize("where", ["given", "home"])
def test_netrc(server: FaultServer, other_server: FaultServer, tmp_path: Path, where: str) -> None:
    """Names and passwords by host, on request only, and not after a redirect."""
    netrc = tmp_path / (".netrc" if where == "home" else "passwords")
    netrc.write_text("machine 127.0.0.1 login me password secret\nmachine other.test login you password x\n")
    netrc.chmod(0o600)
    there = other_server.on("/there", ok(b"x"))
    url = server.on("/f", redirect(there))
    plain = aiodownload("get", url, "-o", tmp_path / "out", cwd=tmp_path)
    done = aiodownload(
        "get", url, "-o", tmp_path / "out", "--netrc", *([netrc] if where == "given" else []), cwd=tmp_path
    )
    assert (plain.returncode, done.returncode) == (0, 0), done.stderr
    assert [one.headers.get("authorization") for one in server.requests] == [None, PASSWORD]
    assert not any("authorization" in one.headers for one in other_server.requests)


def test_cookies(server: FaultServer, tmp_path: Path) -> None:
    """A file as browsers export it: cookies go to their host, path and security only."""
    (tmp_path / "cookies.txt").write_text(
        "# Netscape HTTP Cookie File\n"
        "127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tsession\tabc\n"
        "127.0.0.1\tFALSE\t/other\tFALSE\t4102444800\tno\tpath\n"
        "127.0.0.1\tFALSE\t/\tTRUE\t4102444800\tno\ttls\n"
        ".example.test\tTRUE\t/\tFALSE\t4102444800\tno\thost\n"
        "127.0.0.1\tFALSE\t/\tFALSE\t1\tno\tlonger\n"
    )
    done = aiodownload("get", server.on("/f", ok(b"x")), "-o", tmp_path, "--cookies", tmp_path / "cookies.txt")
    assert done.returncode == 0, done.stderr
    assert server.requests[0].headers["cookie"] == "session=abc"


def test_certificates(tls_server: FaultServer, authority: trustme.CA, tmp_path: Path) -> None:
    """An unknown authority is refused, the given one is trusted."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    url = tls_server.on("/f", ok(b"x"))
    refused = aiodownload("get", url, "-o", tmp_path, "--max-attempts", "1")
    assert refused.returncode == 1
    assert "certificate" in refused.stderr
    done = aiodownload("get", url, "-o", tmp_path, "--ca-file", tmp_path / "ca.pem")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("apart", [True, False])
def test_a_certificate_of_the_client(authority: trustme.CA, tmp_path: Path, apart: bool) -> None:
    """A server that asks for one gets it, its key in the same file or in another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine = authority.issue_cert("me@example.test")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate = mine.cert_chain_pems[0] if apart else mine.private_key_and_cert_chain_pem
    certificate.write_to_path(tmp_path / "mine.pem")
    key = ["--key", tmp_path / "key.pem"] if apart else []
    with FaultServer(context) as server:
        url = server.on("/f", ok(b"x"))
        common = ["get", url, "-o", tmp_path, "--ca-file", tmp_path / "ca.pem", "--max-attempts", "1"]
        assert aiodownload(*common).returncode == 1
        done = aiodownload(*common, "--cert", tmp_path / "mine.pem", *key)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", ["given", "environment", "not asked for"])
def test_proxy(server: FaultServer, tmp_path: Path, way: str) -> None:
    """An HTTP proxy, as it is given, or from the environment on request."""
    server.on("http://files.example.test/f", ok(b"by the proxy"))
    proxy = server.url("")
    given = {"given": ["--proxy", proxy], "environment": ["--trust-env"], "not asked for": []}[way]
    environment = {} if way == "given" else {"http_proxy": proxy}
    done = aiodownload(
        "get", "http://files.example.test/f", "-o", tmp_path, "--max-attempts", "1", *given, **environment
    )
    assert done.returncode == (1 if way == "not asked for" else 0), done.stderr
    assert len(server.requests) == (0 if way == "not asked for" else 1)


def test_ip_versions(server: FaultServer, tmp_path: Path) -> None:
    """-4 and -6 say what a name is looked up for; an address is what it is."""
    url = server.on("/f", ok(b"x"))
    for option in ("-4", "-6"):
        assert aiodownload("get", url, "-o", tmp_path, option).returncode == 0
    named = url.replace("127.0.0.1", "localhost")
    assert aiodownload("get", named, "-o", tmp_path, "-4").returncode == 0
    done = aiodownload("get", named, "-o", tmp_path, "-6", "--max-attempts", "1")
    assert done.returncode == 1
    assert "no connection to 'localhost'" in done.stderr or "has no address" in done.stderr


def test_retry_takes_the_session_too(server: FaultServer, tmp_path: Path) -> None:
    """What needed a header for all of them is done again with it: such headers are not the bundle's own."""
    url = server.on("/f", status(503), ok(b"x"))
    journal = tmp_path / "journal.db"
    common = ["-o", tmp_path, "--token", "abc", "--max-attempts", "1"]
    assert aiodownload("get", url, "--journal", journal, *common).returncode == 1
    assert aiodownload("retry", journal, *common).returncode == 0
    assert [one.headers["authorization"] for one in server.requests] == ["Bearer abc"] * 2
    assert b"abc" not in journal.read_bytes()


# Plan


def test_plan(server: FaultServer, other_server: FaultServer, tmp_path: Path) -> None:
    """Sizes by HEAD, files that are there, failures; and nothing is made, changed or fetched."""
    there = server.on("/there.bin", ok(b"x" * 3000))
    moved = server.on("/moved", redirect(other_server.on("/big", ok(b"y" * 2_000_000))))
    unsized = server.on("/no-head", status(405))
    old = tmp_path / "out" / f"127.0.0.1+{server.port}" / "there.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = ["plan", there, moved, unsized, server.url("/missing"), "nonsense", "-o", tmp_path / "out"]
    done = aiodownload(*arguments)
    assert done.returncode == 1
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert re.match(r"replace +3\.0 kB  http://.*/there\.bin -> .*there\.bin$", lines["replace"])
    assert any(re.match(r"download +2\.0 MB  http://.*/moved -> ", line) for line in done.stdout.splitlines())
    assert any(re.match(r"download +\?  http://.*/no-head -> ", line) for line in done.stdout.splitlines())
    failing = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    assert len(failing) == 2
    assert any("status 404 Not Found" in line for line in failing)
    assert "3 to download: 2.0 MB, and 1 of unknown size; 2 would fail" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert {one.method for one in server.requests + other_server.requests} == {"HEAD"}


def test_plan_without_asking(server: FaultServer, tmp_path: Path) -> None:
    """--no-ask makes no request; --skip-cached says what would be left alone; --json an object for each."""
    url = server.on("/a", ok(b"x"))
    (tmp_path / f"127.0.0.1+{server.port}").mkdir()
    (tmp_path / f"127.0.0.1+{server.port}" / "a").write_bytes(b"1234")
    done = aiodownload("plan", "--no-ask", "--skip-cached", "--json", "-o", tmp_path, url, server.url("/b"))
    rows = {row["what"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert rows["cached"]["size"] == 4
    assert rows["download"]["path"].endswith("/b")
    assert not server.requests


def test_plan_of_a_list(server: FaultServer, tmp_path: Path) -> None:
    """Lists with records that are wrong, and folders that are not there."""
    text = f'"{server.on("/a", ok(b"123"))}"\nnonsense\n'
    done = aiodownload("plan", "-i", "-", "--format", "jsonl", "-o", tmp_path / "none", text=text)
    assert done.returncode == 1
    assert "standard input, line 2: it is no JSON" in done.stderr
    assert "1 to download: 3 B; 1 would fail" in done.stderr
    assert not (tmp_path / "none").exists()


# Settings


def test_settings_from_a_file_and_the_environment(server: FaultServer, tmp_path: Path) -> None:
    """The command line before the environment before the file before the default."""
    url = server.on("/f", status(503), status(503), status(503), ok(b"x"))
    config = tmp_path / "settings.toml"
    config.write_text(
        'strategy = "backoff"\n[get]\nmax-attempts = 1\nheader = ["X-A: 1", "X-B: 2"]\n[plan]\nrate = 5.0\n'
    )

    def tries(*arguments: str, **environment: str) -> int:
        server.requests.clear()
        done = aiodownload("--config", config, "get", url, "--json", "-o", tmp_path, *arguments, **environment)
        return int(json.loads(done.stdout)["attempts"])

    assert tries() == 1
    assert (server.requests[0].headers["x-a"], server.requests[0].headers["x-b"]) == ("1", "2")
    assert tries(AIODOWNLOAD_GET_MAX_ATTEMPTS="2", AIODOWNLOAD_CONFIG="/nonexistent") == 2


def test_settings_that_may_not_be_read_are_not_there(server: FaultServer, tmp_path: Path) -> None:
    """A home of somebody else, as under sudo or in a container, stops nobody."""
    url = server.on("/f", ok(b"x"))
    (tmp_path / "aiodownload").mkdir()
    (tmp_path / "aiodownload" / "config.toml").mkdir()
    done = aiodownload("get", url, "-o", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "number"),
    [("10", 10), ("1.5k", 1500), ("2M", 2_000_000), ("1MiB", 1 << 20), ("1 GB", 10**9), ("1e6", 10**6)],
)
def test_numbers_of_bytes(text: str, number: int) -> None:
    """With a unit or without."""
    from aiodownload.cli.options import Amount

    converted = Amount().convert(text, None, None)
    assert (converted, type(converted)) == (number, int)


def test_nothing_to_do(tmp_path: Path) -> None:
    """An empty list is no success to be proud of, and says so."""
    (tmp_path / "list.txt").write_text("# nothing\n")
    done = aiodownload("get", "-i", tmp_path / "list.txt", "-o", tmp_path)
    assert done.returncode == 0
    assert "there was nothing to do" in done.stderr


def test_the_users_own_settings(server: FaultServer, tmp_path: Path) -> None:
    """A file in the user's folder for settings is read without being asked for; one in the current folder is not."""
    url = server.on("/f", ok(b"x"))
    (tmp_path / "aiodownload").mkdir()
    (tmp_path / "aiodownload" / "config.toml").write_text('[get]\nuser-agent = "mine/1"\n')
    (tmp_path / "config.toml").write_text('[get]\nuser-agent = "of a stranger"\n')
    assert aiodownload("get", url, cwd=tmp_path).returncode == 0
    assert server.requests[0].headers["user-agent"] == "mine/1"


# What is shown


def test_quiet(server: FaultServer, tmp_path: Path) -> None:
    """Failures and the last line only."""
    done = aiodownload("get", "-q", server.on("/f", ok(b"x")), server.url("/missing"), "-o", tmp_path)
    first, last = done.stderr.splitlines()
    assert first.startswith("Download failed: ")
    assert last == "1 done (1 bytes), 0 cached, 1 failed"


def test_progress_in_a_pipe(server: FaultServer, tmp_path: Path) -> None:
    """Asked for, it is a line; standard output stays as it is."""
    done = aiodownload("get", "--progress", "--json", server.on("/f", ok(b"x" * 1000)), "-o", tmp_path)
    assert "aiodownload: 1 of" not in done.stdout
    assert json.loads(done.stdout)["ok"]
    assert "1.0 kB" in done.stderr
    assert "1 done" in done.stderr


def test_progress_of_a_list_tells_how_many(server: FaultServer, tmp_path: Path) -> None:
    """Comments, blank lines and options are no records; a table's first line is none, either."""
    url = server.on("/f", ok(b"x"))
    (tmp_path / "list.txt").write_text(f"# comment\n\n{url}\n")
    (tmp_path / "list.aria2").write_text(f"# comment\n{url}\n  out=a\n")
    (tmp_path / "list.csv").write_text(f"url,path\n{url},b\n{url},c\n")
    lists = [part for name in ("list.txt", "list.aria2", "list.csv") for part in ("-i", tmp_path / name)]
    done = aiodownload("get", "--progress", *lists, url, "-o", tmp_path / "out", "--strategy", "backoff")
    assert done.returncode == 0, done.stderr
    assert "aiodownload: 5 of 5" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """The script is for that shell, and what it calls completes options."""
    done = aiodownload("completion", shell)
    assert done.returncode == 0, done.stderr
    assert "_AIODOWNLOAD_COMPLETE" in done.stdout
    word = "--seg" if shell == "fish" else "2"
    asking = {"_AIODOWNLOAD_COMPLETE": f"{shell}_complete", "COMP_WORDS": "aiodownload get --seg", "COMP_CWORD": word}
    asked = subprocess.run(
        [sys.executable, "-m", "aiodownload"], env={**os.environ, **asking}, capture_output=True, text=True, timeout=50
    )
    assert "--segments" in asked.stdout


@pytest.mark.parametrize("name", ["get", "retry", "plan"])
def test_help_fits_on_a_screen(name: str) -> None:
    """--help shows what most need, in less than 50 lines of 80 columns; --help-all shows all, each option once."""
    short, full = (aiodownload(name, option).stdout for option in ("--help", "--help-all"))
    assert len(short.splitlines()) < 50
    assert max(map(len, short.splitlines())) <= 80
    for option in ("--segments", "--low-speed", "--ca-file", "--token", "--column"):
        assert option not in short
    assert full.count("--low-speed BYTES SECONDS") == 1


def test_help_names_every_setting() -> None:
    """What the strategies can do is an option of ``get``, named like the setting."""
    import inspect

    from aiodownload import DownloadStrategy, RequestStrategy

    full = aiodownload("get", "--help-all").stdout
    settings = {*inspect.signature(RequestStrategy).parameters, *inspect.signature(DownloadStrategy).parameters}
    for name in settings - {"home", "split_hosts"}:  # the second is for executors, which are not for the command line
        assert f"--{name.replace('_', '-')}" in full, name


MISTAKES = [
    (["get"], "give at least one URL, or -i FILE"),
    (["gte", "http://127.0.0.1:9/"], "No such command 'gte'"),
    (["get", "--concurent", "3", "u"], "--concurrent"),
    (["get", "--concurrent", "0", "u"], "--concurrent"),
    (["get", "--concurrent", "many", "u"], "--concurrent"),
    (["get", "--strategy", "fast", "u"], "'adaptive', 'backoff', 'lenient', 'polite'"),
    (["get", "--timeout", "0", "u"], "timeout must be"),
    (["get", "--timeout", "-5", "u"], "timeout must be"),
    (["get", "--rate", "0", "u"], "rate must be"),
    (["get", "--bandwidth", "-1", "u"], "bandwidth must be"),
    (["get", "--low-speed", "5", "u"], "--low-speed"),
    (["get", "--low-speed", "0", "30", "u"], "low_speed"),
    (["get", "--deadline", "0", "u"], "deadline must be"),
    (["get", "--max-bytes", "-1", "u"], "max_bytes must be a whole number of at least 0"),
    (["get", "--bandwidth", "fast", "u"], "'fast' is no number of bytes"),
    (["get", "--delay", "-1", "u"], "delay must be"),
    (["get", "broken"], "'broken' is a file; -i broken downloads the URLs in it"),
    (["https://example.org/a"], "to download, say: aiodownload get https://example.org/a"),
    (["get", "--max-ratio", "0", "u"], "max_ratio"),
    (["get", "--segments", "65", "u"], "1<=x<=64"),
    (["get", "--chunk-size", "0", "u"], "--chunk-size"),
    (["get", "--contact", "me (x)", "u"], "contact"),
    (["get", "--refresh", "u"], "--refresh needs --journal"),
    (["get", "--skip-cached", "--content-disposition", "u"], "needs --journal"),
    (["get", "-i", "no-such-file"], "no-such-file"),
    (["get", "-i", "."], "is a directory"),
    (["get", "--format", "xml", "-i", "-"], "'metalink'"),
    (["get", "--column", "url", "u"], "--column must be FIELD=NAME with one of url, path, digest"),
    (["get", "--column", "size=x", "u"], "--column must be FIELD=NAME"),
    (["get", "-H", "nonsense", "u"], "--header must be 'Name: value'"),
    (["get", "-H", "A b: c", "u"], "'A b' is not a header name"),
    (["get", "-H", "Range: bytes=0-", "u"], "'Range' is set by aiodownload itself"),
    (["get", "--user", "me", "u"], "--user must be NAME:PASSWORD"),
    (["get", "--user", "me:x", "--token", "y", "u"], "only one of --user, --token and an Authorization header"),
    (["get", "--token", "a\nb", "u"], "without control characters"),
    (["get", "--netrc", "no-such-netrc", "u"], "--netrc no-such-netrc: it cannot be read"),
    (["get", "--netrc", "broken", "u"], "broken, line 1: it is no netrc file"),
    (["get", "--cookies", "broken", "u"], "it is no cookies file in Netscape's format"),
    (["get", "--ca-file", "broken", "u"], "--ca-file broken: no certificates can be read from it"),
    (["get", "--cert", "broken", "u"], "--cert broken: no certificate and key can be read"),
    (["get", "--key", "broken", "u"], "--key goes with --cert"),
    (["get", "--proxy", "socks5://127.0.0.1:1", "u"], "--proxy must be an http:// or https:// URL"),
    (["get", "--proxy", "http://127.0.0.1:9", "--public-only", "u"], "public_only=True cannot see where a proxy"),
    (["get", "-o", "broken", "u"], "broken"),
    (["get", "--journal", "broken", "http://127.0.0.1:9/"], "broken"),
    (["get", "--journal", "broken/j.db", "http://127.0.0.1:9/"], "broken"),
    (["retry", "no-such-journal"], "no-such-journal"),
    (["retry", "broken"], "broken"),
    (["plan"], "give at least one URL, or -i FILE"),
    (["completion", "csh"], "'bash', 'zsh', 'fish'"),
    (["--config", "broken", "get", "u"], "broken is no TOML file"),
    (["--config", "unknown.toml", "get", "u"], "[get]: the command has no 'concurent'; did you mean 'concurrent'?"),
    (["--config", "other.toml", "get", "u"], "no command has no"),
    (["--config", "wrong.toml", "get", "u"], "--concurrent"),
    (["--config", "no-such.toml", "get", "u"], "no-such.toml"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(one)[:60] for one, _ in MISTAKES])
def test_a_mistake_is_named_with_its_remedy(arguments: list[str], says: str, tmp_path: Path) -> None:
    """Exit code 2, a message that names the cause, and no traceback."""
    (tmp_path / "broken").write_text("nonsense nonsense\n")
    (tmp_path / "unknown.toml").write_text("[get]\nconcurent = 3\n")
    (tmp_path / "other.toml").write_text("[gte]\nconcurrent = 3\n")
    (tmp_path / "wrong.toml").write_text('[get]\nconcurrent = "many"\n')
    done = aiodownload(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 6


def test_no_secret_is_shown(server: FaultServer, tmp_path: Path) -> None:
    """Neither in what is written nor in a journal."""
    url = server.on("/f", status(404))
    done = aiodownload(
        "get", url, "-o", tmp_path, "--journal", tmp_path / "j.db", "--user", "me:topsecret", "-H", "X-Key: topsecret"
    )
    assert "topsecret" not in done.stdout + done.stderr
    assert not any(b"topsecret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_segments_and_small_files(server: FaultServer, tmp_path: Path) -> None:
    """A session of the command line's own serves large files in parts, too."""
    body = os.urandom(20 << 20)
    url = server.on("/f", ranged(body, speed=20e6))
    done = aiodownload("get", url, "-o", tmp_path, "--segments", "2", "-H", "X-A: b", "--concurrent", "4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"127.0.0.1+{server.port}" / "f").read_bytes() == body
    assert len(server.requests) == 2


def test_interrupted_plan(server: FaultServer, tmp_path: Path) -> None:
    """Ctrl-C ends it with 130."""
    import signal
    import time

    url = server.on("/f", stall())
    process = subprocess.Popen(
        [sys.executable, "-m", "aiodownload", "plan", url, "-o", str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in said
