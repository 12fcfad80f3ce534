"""``aiodownload report``: what it tells of a run, and what it does with a journal that somebody else has made."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterable
from hashlib import blake2b
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from aiodownload import Journal, JournalError
from aiodownload.entries import Enlisted, Outcome
from aiodownload.testing import FaultServer, cut, ok, status

pytest.importorskip("click", reason="the extra cli is not installed")
pytest.importorskip("vl_convert", reason="the extra report is not installed")

START = 1_750_000_000.0  # seconds since 1970, when made-up runs begin


def aiodownload(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "aiodownload", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        timeout=50,
    )


def called(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which is quicker."""
    from click.testing import CliRunner

    from aiodownload.cli import command

    try:
        runner = CliRunner(mix_stderr=False)  # type: ignore[call-arg]
    except TypeError:  # click 8.2 and later
        runner = CliRunner()
    words = list(map(str, arguments))
    result = runner.invoke(command, words, prog_name="aiodownload")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)


def key_of(url: str) -> bytes:
    return blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def enlist(journal: Journal, urls: Iterable[str], *, plain: bool = True) -> None:
    journal.enlist([Enlisted(key_of(url), url, plain, None) for url in urls], lambda one, known: "enlisted")


def settled(url: str, state: str = "done", error: str | None = None, elapsed: float = 0.5) -> Outcome:
    answered = 200 if state == "done" else None
    return Outcome(key_of(url), state, 1, answered, url, error, elapsed, None)


def made(path: Path, outcomes: dict[str, Outcome]) -> Path:
    """A journal with a row for each URL, settled at times that follow from its number."""
    journal = Journal(path)
    journal.open("/home/me/downloads")
    enlist(journal, outcomes)
    journal.settle(outcomes.values())
    journal.close()
    change(path, f"UPDATE urls SET at = {START} + id, size = CASE state WHEN 'done' THEN 1000 * id END")
    return path


def change(path: Path, sql: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(sql, values)


class Page(HTMLParser):
    """The elements, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._hidden = 0
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(journal: Path) -> Page:
    """The page of a journal, from the standard output."""
    done = called("report", journal, "-o", "-")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return Page(done.stdout)


@pytest.fixture
def ran(server: FaultServer, tmp_path: Path) -> Path:
    """The journal of a real run: 6 files, 4 failures of three kinds."""
    good = [server.on(f"/good/{number}", ok(b"x" * 2048)) for number in range(6)]
    bad = [server.on("/a", status(404)), server.on("/b", status(404)), server.on("/c", status(403))]
    torn = server.on("/torn", cut(b"y" * 4000, 1234))
    journal = tmp_path / "run.db"
    command = ["get", *good, *bad, torn, "-o", tmp_path / "out", "--journal", journal, "--strategy", "adaptive"]
    done = called(*command, "--max-attempts", "1", "--concurrent", "4")
    assert done.returncode == 1
    return journal


def test_what_happened_in_a_run(server: FaultServer, ran: Path, tmp_path: Path) -> None:
    """Counts, bytes, folder, reasons, every failure with its reason, hosts, charts, and how to go on."""
    page = report(ran)
    assert "10 URLs: 6 done (12.3 kB), 0 cached, 4 failed, 0 unfinished." in page.text
    assert "10 on 1 host" in page.text
    assert str(tmp_path / "out") in page.text
    assert "StatusError: status 404 Not Found (2 failures)" in page.text
    assert "BodyError: the body is not whole" in page.text
    assert "Every failure is listed below" in page.text
    links = [one for one in page.all("a") if not (one["href"] or "").startswith("#")]
    assert sorted(one["href"] or "" for one in links) == [server.url(path) for path in ("/a", "/b", "/c", "/torn")]
    assert {one["rel"] for one in links} == {"noreferrer"}
    assert f"127.0.0.1:{server.port}" in page.text
    assert f"aiodownload retry {ran}" in page.text
    assert "--unfinished" not in page.text
    assert [one["role"] for one in page.all("svg") if one.get("class") == "chart"] == ["img"] * 5
    for title in ("Throughput in bytes", "Throughput in files", "Concurrency", "Time per URL", "Size of the files"):
        assert title in page.text


def test_it_is_made_of_what_everybody_can_read(ran: Path) -> None:
    """A language, a title, one h1, headings in order, landmarks; tables with captions and scopes; described charts."""
    page = report(ran)
    assert page.all("html") == [{"lang": "en"}]
    assert page.text.startswith("Download report: run.db Download report: run.db")  # the title, and the heading
    tags = [tag for tag, _ in page.elements]
    assert all(tags.count(tag) == 1 for tag in ("h1", "header", "main", "footer", "nav"))
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tags.count("table") == tags.count("caption") > 5
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    told = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(told) <= set(names)
    assert {one["href"] for one in page.all("a") if (one["href"] or "").startswith("#")} <= {
        f"#{name}" for name in names
    }


def test_it_asks_for_nothing_and_runs_nothing(ran: Path) -> None:
    """A strict Content-Security-Policy, no script, no inline style, nothing to load."""
    page = report(ran)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on") or name == "src"]
    assert [one["href"] for one in page.all("link")] == ["data:,"]


def test_the_same_journal_makes_the_same_page(ran: Path, tmp_path: Path) -> None:
    """No time of now, nothing random; -o and the default place have the same bytes, for their owner only."""
    done = aiodownload("report", ran, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "run.html"
    assert done.stderr == f"written: {page}\n"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    other = tmp_path / "other" / "page.html"
    other.parent.mkdir()
    other.write_text("old")
    assert called("report", ran, "-o", other).returncode == 0
    assert other.read_bytes() == page.read_bytes()
    assert os.listdir(other.parent) == ["page.html"]


def test_nothing_in_it(tmp_path: Path) -> None:
    """A journal without URLs makes a page that says so."""
    page = report(made(tmp_path / "empty.db", {}))
    assert "This journal has no URLs." in page.text
    assert "There is nothing to report" in page.text
    assert not page.all("svg")


def test_all_is_well(server: FaultServer, tmp_path: Path) -> None:
    """Without failures there is no such section, and nothing to do."""
    url = server.on("/empty", ok(b""))
    aiodownload("get", url, "-o", tmp_path, "--journal", tmp_path / "j.db")
    page = report(tmp_path / "j.db")
    assert "1 URL: 1 done (0 bytes), 0 cached, 0 failed, 0 unfinished." in page.text
    assert "Nothing is left to do." in page.text
    assert "Failures by reason" not in page.text


def test_unfinished(tmp_path: Path) -> None:
    """What has no outcome is counted, and how to do it is told; and what no journal can do again."""
    urls = {f"http://h/{number}": settled(f"http://h/{number}") for number in range(6)}
    journal = made(tmp_path / "it's.db", urls)
    for number, state in enumerate(("enlisted", "publishing", "cancelled", "failed"), 1):
        change(journal, "UPDATE urls SET state = ?, plain = ? WHERE id = ?", state, number != 4, number)
    page = report(journal)
    assert "6 URLs: 2 done (11 kB), 0 cached, 1 failed, 3 unfinished." in page.text
    assert "1 cancelled, 2 without outcome" in page.text
    assert f"aiodownload retry '{tmp_path}/it'\"'\"'s.db' --unfinished" in page.text
    assert "1 request of these had headers, form data or a password" in page.text
    assert "no reason is noted (1 failure)" in page.text


def test_figures_over_time(tmp_path: Path) -> None:
    """Bytes are spread over the time of their file, files count when they are done, URLs in work are an average."""
    journal = made(tmp_path / "j.db", {url: settled(url) for url in ("http://h/long", "http://h/short")})
    change(journal, "UPDATE urls SET at = ?, elapsed = 40, size = 4 * 1000000 WHERE id = 1", START + 40)
    change(journal, "UPDATE urls SET at = ?, elapsed = 1, size = 1000000 WHERE id = 2", START + 10)
    page = report(journal)
    assert "From 2025-06-15 15:06:40 UTC" in page.text
    assert "To 2025-06-15 15:07:20 UTC (40 s)" in page.text
    assert "0.125 MB/s on average; the most, 1.1 MB/s, at 9 s." in page.text
    assert "0.05 files/s on average; the most, 1 files/s, at 10 s." in page.text
    assert "1.02 URLs in work on average; the most, 2 URLs in work, at 9 s." in page.text
    assert "8 to 9 s 0.1 9 to 10 s 1.1 10 to 11 s 0.1" in page.text
    assert "Half of the URLs up to 1 s, 90% up to 40 s, 99% up to 40 s, all up to 40 s." in page.text
    assert "Half of the files up to 1 MB, 90% up to 4 MB, 99% up to 4 MB, all up to 4 MB." in page.text


def test_hosts(tmp_path: Path) -> None:
    """Hosts with most failures come first; the slowest are those whose median is largest; others are counted."""
    outcomes = {}
    for number in range(40):
        url = f"https://host{number:02}.example.org:8443/f"
        outcomes[url] = settled(url, *(("failed", "E: no") if number == 7 else ()), elapsed=1.0 + number)
    page = report(made(tmp_path / "j.db", outcomes))
    first = "Unfinished Shares Bytes host07.example.org:8443 1 0 0 1 0 "
    assert "Hosts, those with most failures first: 25 of 40" in page.text
    assert first in page.text
    assert "Median Compared Slowest URLs host39.example.org:8443 40 s 40 s 1 host38" in page.text


def test_reasons_are_grouped(tmp_path: Path) -> None:
    """Equal troubles are one reason, whatever hosts, numbers and names are in them; a status stays what it is."""
    errors = {
        "http://one.org/a": "BodyError: the body ended after 17 of 1,000 bytes",
        "http://two.org/a": "BodyError: the body ended after 5 of 99 bytes",
        "http://one.org/b": "ConnectError: no connection to 'one.org': [Errno 111] Call failed ('10.0.0.1', 80)",
        "http://two.org/b": "ConnectError: no connection to 'two.org': [Errno 111] Call failed ('10.7.0.1', 80)",
        "http://one.org/c": "StatusError: status 503 Service Unavailable",
        "http://one.org/d": "StatusError: status 500 Internal Server Error",
        "http://one.org/e": "RedirectError: the redirects run in a circle at http://one.org/e?x=1",
        "http://two.org/e": "RedirectError: the redirects run in a circle at https://elsewhere.org/",
        "http://one.org/f": "DigestError: sha256 is 0f1e2d3c4b5a69788796a5b4c3d2e1f0, one.org says ffffffffffffffff0",
        "http://two.org/f": "DigestError: sha256 is 00000000000000000000000000000000, two.org says 11111111111111111",
    }
    page = report(made(tmp_path / "j.db", {url: settled(url, "failed", why) for url, why in errors.items()}))
    assert "BodyError: the body ended after … of … bytes (2 failures)" in page.text
    assert "ConnectError: no connection to …: [Errno …] Call failed (…, …) (2 failures)" in page.text
    assert "StatusError: status 503 Service Unavailable (1 failure)" in page.text
    assert "StatusError: status 500 Internal Server Error (1 failure)" in page.text
    assert "RedirectError: the redirects run in a circle at … (2 failures)" in page.text
    assert "DigestError: sha256 is …, … says … (2 failures)" in page.text
    for why in errors.values():
        assert why in page.text


SECRET = "s3cr3t"
HOSTILE = {
    "<script>alert(1)</script>": "<script>alert(1)</script>",
    "javascript:alert(1)//http://h/": "E: javascript:alert(1)",
    "http://h/\"onmouseover='alert(1)'": "E: \x1b]0;pwned\x07\x1b[31m",
    f"http://me:{SECRET}@h/a": f"E: no connection to http://me:{SECRET}@h/a",
    f"http:/me:{SECRET}@h/b": f"E: at https://me:{SECRET} with a space@h/",
    "http://h/\u202egpj.exe\r\n\x00\x9b": "E: \u202e\u200b\ud800".encode("utf-8", "replace").decode(),
    "http://h/" + "&" * 5000: "E: " + "<" * 5000,
    "data:text/html,<svg onload=alert(1)>": "]]>--><!--&lt;",
    "http://h/@" + "//" * 100_000: "E: @" + "//" * 100_000,
    "http://h/" + "a-" * 100_000: "E: " + "a-" * 100_000,
    "HTTP://h/]]></style></svg>": "E: </style></details></main>",
}


def test_a_hostile_journal(tmp_path: Path) -> None:
    """Whatever a journal holds is text: no element, link, escape or secret comes of it."""
    journal = made(
        tmp_path / "<img src=x onerror=alert(1)>.db", {u: settled(u, "failed", e) for u, e in HOSTILE.items()}
    )
    done = called("report", journal, "-o", "-")
    assert done.returncode == 0, done.stderr
    page = Page(done.stdout)
    assert SECRET not in done.stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u200b]", done.stdout)
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert "<script>alert(1)</script>" in page.text
    assert "\\x1b]0;pwned\\x07" in page.text
    assert "\\u202egpj.exe\\r\\n\\x00\\x9b" in page.text
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
    links = [one["href"] or "" for one in page.all("a")]
    assert all(re.match("#|https?://", link, re.IGNORECASE) for link in links)
    assert len(done.stdout) < 400_000
    assert f"{len(HOSTILE)} failed" in page.text


def test_values_that_no_run_writes(tmp_path: Path) -> None:
    """Texts for numbers, bytes for texts, broken UTF-8, times beyond all calendars: counted, and nothing breaks."""
    journal = made(tmp_path / "j.db", {f"http://h/{n}": settled(f"http://h/{n}") for n in range(12)})
    for number, (column, value) in enumerate(
        [
            ("url", b"\xff\xfe\x00"),
            ("url", 7),
            ("at", 9e99),
            ("at", "<b>yesterday</b>"),
            ("at", float("-inf")),
            ("elapsed", float("inf")),
            ("elapsed", -5.0),
            ("size", 2**62),
            ("size", -1),
            ("attempts", "many"),
            ("http_status", 10**15),
        ],
        1,
    ):
        change(journal, f"UPDATE urls SET {column} = ? WHERE id = ?", value, number)
    change(journal, "UPDATE urls SET state = 'failed', url = CAST(x'fffe' AS TEXT), error = CAST(x'c328' AS TEXT)")
    page = report(journal)
    assert "12 failed" in page.text
    assert "<b>yesterday</b>" not in page.text
    change(journal, "UPDATE urls SET state = 'done'")
    assert "12 done" in report(journal).text
    change(journal, "UPDATE urls SET state = 'won' WHERE id > 2")
    assert "2 URLs: 2 done" in report(journal).text
    change(journal, "UPDATE settings SET value = x'00ff'")
    assert "Folder not noted" in report(journal).text


def test_a_journal_is_only_read(ran: Path, tmp_path: Path) -> None:
    """Not a byte of it changes, and nothing appears beside it."""
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    times = ran.stat().st_mtime_ns
    report(ran)
    assert called("report", ran, "--json").returncode == 0
    assert (
        {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        == before
        == {"run.db": ran.read_bytes()}
    )
    assert ran.stat().st_mtime_ns == times


def test_while_a_run_writes_it(tmp_path: Path) -> None:
    """What is settled so far is shown, in the midst of a transaction of somebody else, who goes on unharmed."""
    path = tmp_path / "j.db"
    journal = Journal(path)
    journal.open(str(tmp_path))
    enlist(journal, ["http://h/1", "http://h/2"])
    journal.settle([settled("http://h/1")])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE urls SET state = 'done'")
        assert "2 URLs: 1 done (0 bytes), 0 cached, 0 failed, 1 unfinished." in report(path).text
        writer.execute("COMMIT")
    journal.settle([settled("http://h/2", "failed", "E: no")])
    assert "1 failed" in report(path).text
    assert journal.counts() == {"done": 1, "failed": 1}
    journal.close()


def test_after_a_run_was_killed(tmp_path: Path) -> None:
    """What its write-ahead log holds counts, and neither file changes."""
    path, left = tmp_path / "j.db", tmp_path / "left"
    left.mkdir()
    journal = Journal(path)
    journal.open(str(tmp_path))
    enlist(journal, ["http://h/1"])
    journal.settle([settled("http://h/1")])
    for name in ("j.db", "j.db-wal"):
        shutil.copy(tmp_path / name, left)
    journal.close()
    before = [(left / name).read_bytes() for name in ("j.db", "j.db-wal")]
    assert "1 URL: 1 done" in report(left / "j.db").text
    assert [(left / name).read_bytes() for name in ("j.db", "j.db-wal")] == before


def test_without_a_write_ahead_log(ran: Path) -> None:
    """A journal on a file system without shared memory can be read as well."""
    change(ran, "PRAGMA journal_mode = DELETE")
    assert "10 URLs: 6 done" in report(ran).text
    assert sorted(path.name for path in ran.parent.iterdir() if path.is_file()) == ["run.db"]


def test_a_run_that_starts_while_the_journal_is_read(tmp_path: Path) -> None:
    """The journal is read once more then, as a whole."""
    from aiodownload.report import snapshot

    path = made(tmp_path / "j.db", {"http://h/1": settled("http://h/1")})
    journal = Journal(path)
    seen = []

    def ask(database: sqlite3.Connection) -> int:
        if not seen:
            journal.open(str(tmp_path))
            enlist(journal, ["http://h/2"])
        (count,) = database.execute("SELECT count(*) FROM seen").fetchone()
        seen.append(count)
        return int(count)

    assert snapshot.read(str(path), ask) == 2
    assert len(seen) == 2
    journal.close()


def foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE urls (url TEXT)")


def with_view(path: Path) -> None:
    made(path, {})
    change(path, "CREATE VIEW evil AS SELECT load_extension('evil')")


def damaged(path: Path) -> None:
    made(path, {f"http://h/{n}": settled(f"http://h/{n}") for n in range(2000)})
    data = bytearray(path.read_bytes())
    data[20 * 4096 : 24 * 4096] = b"\xee" * (4 * 4096)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    made(path, {f"http://h/{n}": settled(f"http://h/{n}") for n in range(2000)})
    path.write_bytes(path.read_bytes()[:30_000])


def of_the_future(path: Path) -> None:
    made(path, {})
    change(path, "PRAGMA user_version = 99")


def swollen(path: Path) -> None:
    made(path, {"http://h/1": settled("http://h/1")})
    change(path, "UPDATE urls SET url = ?", "x" * (2 << 20))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: os.mkfifo(path), "it is no file"),
        (lambda path: path.write_text("dear diary"), "not a database"),
        (lambda path: path.write_bytes(b""), "empty"),
        (foreign, "another program's file"),
        (with_view, "its tables are not those of a journal"),
        (of_the_future, "its format is 99"),
        (damaged, "damaged"),
        (cut_short, ""),
        (swollen, "too big"),
    ],
)
def test_what_is_no_journal(make: object, says: str, tmp_path: Path) -> None:
    """One line that names the file, exit code 2, and no page."""
    path = tmp_path / "j.db"
    assert callable(make)
    make(path)
    done = called("report", path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "j.db" in done.stderr
    assert says in done.stderr
    assert done.stderr.strip().splitlines()[-1].count("j.db") == 1
    assert not (tmp_path / "j.html").exists()
    assert done.stdout == ""


def test_never_over_the_journal(tmp_path: Path) -> None:
    """Neither by name, nor by a link, nor by its default name, nor over what belongs to it; nor over a device."""
    journal = made(tmp_path / "j.html", {"http://h/1": settled("http://h/1")})
    before = journal.read_bytes()
    (tmp_path / "soft").symlink_to(journal)
    os.link(journal, tmp_path / "hard")
    for arguments in ([], ["-o", journal], *(["-o", tmp_path / name] for name in ("soft", "hard", "j.html-wal"))):
        done = called("report", journal, *arguments)
        assert done.returncode == 2, arguments
        assert "belongs to the journal itself" in done.stderr
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path / "pipe", tmp_path / "no" / "such" / "folder.html"):
        done = called("report", journal, "-o", target)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert journal.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["hard", "j.html", "pipe", "soft"]


def test_failures_as_lines(ran: Path, server: FaultServer) -> None:
    """--json tells every failure, one object a line, and needs no -o."""
    done = called("report", ran, "--json")
    assert done.returncode == 0
    rows = {row["url"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(rows) == {server.url(path) for path in ("/a", "/b", "/c", "/torn")}
    torn = rows[server.url("/torn")]
    assert torn["reason"].startswith("BodyError: the body is not whole")
    assert torn["attempts"] == 1
    assert rows[server.url("/a")]["http_status"] == 404
    assert called("report", ran, "--json", "-o", "x.html").returncode == 2


def test_failures_as_lines_of_a_hostile_journal(tmp_path: Path) -> None:
    """They are safe to print, and hold no secret."""
    journal = made(tmp_path / "j.db", {u: settled(u, "failed", e) for u, e in HOSTILE.items()})
    done = called("report", journal, "--json")
    assert len(done.stdout.splitlines()) == len(HOSTILE)
    assert done.stdout.replace("\n", "").isascii()
    assert done.stdout.replace("\n", "").isprintable()
    assert SECRET not in done.stdout


def test_more_failures_than_a_page_lists(tmp_path: Path) -> None:
    """Rare reasons are listed whole, frequent ones in part; the page says how to get the rest."""
    outcomes = {}
    for number in range(8000):
        url = f"http://h/{number}"
        why = "E: rare" if number == 7999 else "E: odd" if number % 3 else f"E: kind {'abcdefghijkl'[number % 12] * 3}"
        outcomes[url] = settled(url, "failed", why)
    done = called("report", made(tmp_path / "j.db", outcomes), "-o", "-")
    page = Page(done.stdout)
    assert "3,000 of the 8,000 failures are listed below" in page.text
    assert "E: rare (1 failure)" in page.text
    assert len([one for one in page.all("a") if "http" in (one["href"] or "")]) == 3000
    assert len(done.stdout) < 1_500_000
    assert len(called("report", tmp_path / "j.db", "--json").stdout.splitlines()) == 8000


def test_more_reasons_than_a_page_has(tmp_path: Path) -> None:
    """The frequent ones have their lines, and the others share one."""
    words = [a + b for a in "abcdefghij" for b in "klmnopqrst"]
    outcomes = {f"http://{word}/": settled(f"http://{word}/", "failed", f"E: trouble {word * 2}") for word in words}
    page = report(made(tmp_path / "j.db", outcomes))
    assert "other reasons (50 failures)" in page.text
    assert "Failed 100 more than 50 reasons" in page.text
    assert "Every failure is listed below" in page.text
    assert all(f"E: trouble {word * 2}" in page.text for word in words)


def test_without_the_extra(tmp_path: Path) -> None:
    """It names the pip line and exits with 2; --json needs no extra."""
    journal = made(tmp_path / "j.db", {"http://h/1": settled("http://h/1", "failed", "E: no")})
    program = (
        "import sys; sys.modules['vl_convert'] = None; from aiodownload.__main__ import main;"
        "sys.argv[0] = 'aiodownload'; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, "report", journal], capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr == "aiodownload: aiodownload report needs the extra 'report': pip install 'aiodownload[report]'\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "report", journal, "--json"], capture_output=True, text=True)
    assert done.returncode == 0
    assert not (tmp_path / "j.html").exists()


def test_it_is_loaded_when_it_is_used() -> None:
    """The other commands do not pay for it."""
    wanted = "name.startswith(('aiodownload.report', 'vl_convert'))"
    program = f"import sys, aiodownload.cli; print([name for name in sys.modules if {wanted}])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_a_snapshot_of_a_missing_file(tmp_path: Path) -> None:
    """Who calls it from Python gets a JournalError."""
    from aiodownload.report import snapshot

    with pytest.raises(JournalError, match="cannot read"):
        snapshot.read(str(tmp_path / "none.db"), lambda database: None)
