"""Journal: every URL enlisted and settled once; the same program, run again, does only what is missing."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256, shake_128
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    ConfigurationError,
    DownloadStrategy,
    Journal,
    JournalError,
    PathError,
    Status,
    StrategyError,
    Verified,
)
from aiodownload.testing import FaultServer, Request, Script, each_path, ok, ranged, stall, status, until_close

Make = Callable[..., AioDownload]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def keeping(quick: Make, path: Path) -> Make:
    """Makes an AioDownload with a journal."""

    def make(*args: Any, **more: Any) -> AioDownload:
        return quick(*args, journal=path, **more)

    return make


def rows(path: Path, columns: str = "url, state") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT {columns} FROM urls ORDER BY id").fetchall()


def states(path: Path) -> dict[str, str]:
    return {url.rpartition("/")[2]: state for url, state in rows(path)}


def etagged(body: bytes, etag: str | None = '"v1"', date: str | None = None) -> Script:
    """A server that answers 304 where it should."""

    async def script(request: Request, connection: Any) -> bool:
        headers = request.headers
        same = etag is not None and headers.get("if-none-match") == etag
        unchanged = same or ("if-none-match" not in headers and date and headers.get("if-modified-since") == date)
        fields = {name: value for name, value in (("ETag", etag), ("Last_Modified", date)) if value is not None}
        return await (status(304, **fields) if unchanged else ok(body, **fields))(request, connection)

    return script


def test_each_url_has_one_row(server: FaultServer, keeping: Make, path: Path) -> None:
    """P6: done, cached, failed, repeated and bad ones alike; inputs and rows agree."""
    good, bad = server.on("/good", ok(b"good")), server.on("/bad", status(404))
    bundles = aiodownload.swarm([good, bad, good, "nonsense", good], keeping())
    assert [bundle.status for bundle in bundles] == [
        Status.DONE,
        Status.FAILED,
        Status.DONE,
        Status.FAILED,
        Status.DONE,
    ]
    assert rows(path) == [(good, "done"), (bad, "failed"), ("nonsense", "failed")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(found.name for found in path.parent.glob("journal*")) == ["journal.db"]  # no -wal, no -shm


def test_what_it_says_of_each(server: FaultServer, keeping: Make, path: Path) -> None:
    url = server.on("/f", status(503), ok(b"12345", ETag='W/"x"'))
    missing = server.on("/missing", status(404))
    done, _ = aiodownload.swarm([url, missing], keeping())
    columns = "state, attempts, http_status, final_url, error, path, size, etag, verified"
    first, second = rows(path, columns)
    file = os.path.relpath(done.file_path or "", path.parent / "home")
    assert first == ("done", 2, 200, url, None, file, 5, 'W/"x"', "LENGTH")
    assert second[:3] == ("failed", 1, 404)
    assert second[4].startswith("StatusError: ")
    assert second[6] is None


def test_home_may_be_moved(server: FaultServer, quick: Make, tmp_path: Path, path: Path) -> None:
    """Files are known by their place below home; another home in use at the same time is refused."""
    url = server.on("/f", ok(b"x"))
    aiodownload.one(url, quick(download=DownloadStrategy(home=tmp_path / "old"), journal=path))
    (tmp_path / "old").rename(tmp_path / "new")
    again = aiodownload.one(url, quick(download=DownloadStrategy(home=tmp_path / "new"), journal=path))
    assert (again.status, len(server.requests)) == (Status.CACHED, 1)
    journal = Journal(path)
    journal.open(str(tmp_path / "new"))
    with pytest.raises(JournalError, match="in use for the folder"):
        journal.open(str(tmp_path / "old"))
    assert journal.counts() == {"done": 1}
    journal.close()
    with pytest.raises(JournalError, match="not open"):
        journal.counts()


def test_a_second_run_asks_for_nothing(server: FaultServer, keeping: Make, path: Path) -> None:
    """What is done is CACHED, with its size, path and proof, and no request."""
    body = b"x" * 5000
    urls = [server.on(f"/{number}", ok(body)) for number in range(20)]
    first = aiodownload.swarm(urls, keeping())
    asked = len(server.requests)
    again = aiodownload.swarm(urls, keeping())
    assert len(server.requests) == asked == 20
    assert {bundle.status for bundle in again} == {Status.CACHED}
    assert [(one.file_path, one.size, one.verified) for one in again] == [
        (one.file_path, one.size, one.verified) for one in first
    ]
    assert all(bundle.ok and bundle.error is None and bundle.attempts == 0 for bundle in again)
    assert {state for _, state in rows(path)} == {"done"}


def test_a_second_run_does_the_failures_again(server: FaultServer, keeping: Make, path: Path) -> None:
    urls = [server.on("/good", ok(b"g")), server.on("/bad", status(404), ok(b"now"))]
    aiodownload.swarm(urls, keeping())
    again = aiodownload.swarm(urls, keeping())
    assert [bundle.status for bundle in again] == [Status.CACHED, Status.DONE]
    assert states(path) == {"good": "done", "bad": "done"}
    assert rows(path, "error") == [(None,), (None,)]


@pytest.mark.parametrize("change", ["gone", "size", "time", "link", "folder"])
def test_a_file_that_is_not_as_it_was_published_is_fetched_again(
    change: str, server: FaultServer, keeping: Make, tmp_path: Path
) -> None:
    """R25: the journal's record counts, not that there is something."""
    url = server.on("/f", ok(b"right"))
    file = Path(aiodownload.one(url, keeping()).file_path or "")
    state = file.stat()
    file.unlink()
    if change == "size":
        file.write_bytes(b"wrong one")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "time":
        file.write_bytes(b"wrong")
    elif change == "link":
        (tmp_path / "elsewhere").write_bytes(b"right")
        os.utime(tmp_path / "elsewhere", ns=(state.st_atime_ns, state.st_mtime_ns))
        file.symlink_to(tmp_path / "elsewhere")
    elif change == "folder":
        file.mkdir()
    again = aiodownload.one(url, keeping())
    if change == "link":
        assert isinstance(again.error, PathError)
        assert len(server.requests) == 1
    else:
        assert len(server.requests) == 2
        assert again.status is Status.DONE
        assert Path(again.file_path or "").read_bytes() == b"right"


def test_skip_cached_believes_the_journal_about_the_size(server: FaultServer, keeping: Make, home: Path) -> None:
    """An existing file is a hit, unless the journal knows it with another size; others are none of its business."""
    known, unknown = server.on("/known", ok(b"right")), server.on("/unknown", ok(b"right"))
    file = Path(aiodownload.one(known, keeping()).file_path or "")
    file.with_name("unknown").write_bytes(b"whatever")
    download = keeping(download=DownloadStrategy(home=home, skip_cached=True))
    file.write_bytes(b"touch")  # same size, another time: skip_cached takes it
    assert [bundle.status for bundle in aiodownload.swarm([known, unknown], download)] == [Status.CACHED] * 2
    file.write_bytes(b"wrong size")
    assert aiodownload.one(known, download).status is Status.DONE
    assert file.read_bytes() == b"right"


def test_other_headers_are_another_request_but_credentials_are_not(
    server: FaultServer, keeping: Make, path: Path
) -> None:
    """Yesterday's files are not fetched again with today's token, and the journal keeps no header at all."""
    url = server.on("/f", ok(b"x"))
    with_token = [AioDownloadBundle(url, headers={"Authorization": f"Bearer {day}", "Accept": "a/b"}) for day in "12"]
    assert aiodownload.one(with_token[0], keeping()).status is Status.DONE
    assert aiodownload.one(with_token[1], keeping()).status is Status.CACHED
    assert aiodownload.one(AioDownloadBundle(url, headers={"Accept": "c/d"}), keeping()).status is Status.DONE
    assert len(rows(path)) == 2
    assert b"Bearer" not in path.read_bytes()


def test_it_holds_no_secrets(server: FaultServer, keeping: Make, path: Path) -> None:
    """S17: no password, header or form is in the file."""
    url = server.on("/f", status(500)).replace("//", "//user:passw0rd@")
    mirror = server.on("/m", status(500)).replace("//", "//mirror:passw0rd@")
    bundles = [
        AioDownloadBundle(url, headers={"X-Api-Key": "passw0rd"}, mirrors=[mirror]),
        AioDownloadBundle(server.on("/form", status(500)), params={"token": "passw0rd"}),
        AioDownloadBundle("http://user:passw0rd@"),
    ]
    aiodownload.swarm(bundles, keeping(Quick(1, timeout=5)))
    assert len(rows(path)) == 3
    assert b"passw0rd" not in path.read_bytes()
    assert {plain for (plain,) in rows(path, "plain")} == {0}


def test_forms_are_told_apart(server: FaultServer, keeping: Make, path: Path) -> None:
    url = server.on("/f", ok(b"x"))
    for _ in range(2):
        aiodownload.swarm([AioDownloadBundle(url, params={"n": number}) for number in range(3)], keeping())
    assert len(server.requests) == 3
    assert len(rows(path)) == 3


def test_a_digest_is_believed_only_if_it_was_proven(server: FaultServer, keeping: Make) -> None:
    """A file fetched without a digest is read when one is given; a digest proven before is not proven again."""
    url = server.on("/f", ok(b"right"))
    right, wrong = f"sha256:{sha256(b'right').hexdigest()}", f"sha256:{sha256(b'other').hexdigest()}"
    aiodownload.one(url, keeping())
    known = aiodownload.one(AioDownloadBundle(url, digest=right), keeping())
    assert (known.status, known.verified) == (Status.CACHED, Verified.DIGEST)
    assert len(server.requests) == 1
    assert not aiodownload.one(AioDownloadBundle(url, digest=wrong), keeping()).ok
    assert len(server.requests) > 1


def test_a_strategy_that_writes_no_file_is_done_too(server: FaultServer, keeping: Make, home: Path) -> None:
    class Values(DownloadStrategy):
        async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
            bundle.info = await response.json(content_type=None)

    url = server.on("/f", ok(b"[1]"))
    assert aiodownload.one(url, keeping(download=Values(home=home))).info == [1]
    assert aiodownload.one(url, keeping(download=Values(home=home))).status is Status.CACHED
    assert len(server.requests) == 1


def test_refresh_takes_304(server: FaultServer, keeping: Make, home: Path, path: Path) -> None:
    """R26, R40: If-None-Match and If-Modified-Since as the server said; unchanged files are confirmed, not fetched."""
    date = "Tue, 01 Sep 2026 10:00:00 GMT"
    urls = [
        server.on("/strong", etagged(b"s" * 10, '"v1"', date)),
        server.on("/weak", etagged(b"w" * 20, 'W/"v1"')),
        server.on("/dated", etagged(b"d" * 30, None, date)),
        server.on("/plain", etagged(b"p" * 40, None)),
    ]
    download = keeping(download=DownloadStrategy(home=home, refresh=True))
    first = aiodownload.swarm(urls, download)
    assert {bundle.status for bundle in first} == {Status.DONE}
    again = aiodownload.swarm(urls, download)
    assert [bundle.status for bundle in again] == [Status.CACHED] * 3 + [Status.DONE]
    assert [bundle.http_status for bundle in again] == [304, 304, 304, 200]
    assert [bundle.size for bundle in again] == [10, 20, 30, 40]
    assert [bundle.attempts for bundle in again] == [1] * 4
    assert again[0].verified is Verified.LENGTH
    strong, dated = server.asked("/strong")[1].headers, server.asked("/dated")[1].headers
    assert (strong["if-none-match"], strong["if-modified-since"]) == ('"v1"', date)
    assert (dated.get("if-none-match"), dated["if-modified-since"]) == (None, date)
    assert set(states(path).values()) == {"cached", "done"}
    third = aiodownload.swarm(urls, keeping())  # without refresh: nothing is asked
    assert {bundle.status for bundle in third} == {Status.CACHED}
    assert len(server.requests) == 8


def test_refresh_takes_what_has_changed(server: FaultServer, keeping: Make, home: Path) -> None:
    url = server.on("/f", etagged(b"old"), etagged(b"new one", '"v2"'))
    download = keeping(download=DownloadStrategy(home=home, refresh=True))
    aiodownload.one(url, download)
    again = aiodownload.one(url, download)
    assert (again.status, again.size) == (Status.DONE, 7)
    assert Path(again.file_path or "").read_bytes() == b"new one"
    assert aiodownload.one(url, download).status is Status.CACHED
    assert server.requests[-1].headers["if-none-match"] == '"v2"'


@pytest.mark.parametrize("when", ["before", "while asking"])
def test_refresh_of_a_file_that_is_gone(when: str, server: FaultServer, keeping: Make, home: Path) -> None:
    """R40: a 304 about a file that is not there (any more) is answered by asking for all of it, once, as no new try."""
    url = server.on("/f", etagged(b"body"))
    download = keeping(download=DownloadStrategy(home=home, refresh=True))
    file = Path(aiodownload.one(url, download).file_path or "")

    async def vanish(request: Request, connection: Any) -> bool:
        file.unlink()
        return await etagged(b"body")(request, connection)

    if when == "before":
        file.unlink()
    else:
        server.on("/f", vanish, etagged(b"body"))
    again = aiodownload.one(url, download)
    assert (again.status, again.attempts) == (Status.DONE, 1)
    assert file.read_bytes() == b"body"
    conditions = [request.headers.get("if-none-match") for request in server.requests[1:]]
    assert conditions == ([None] if when == "before" else ['"v1"', None])


def test_a_failed_refresh_keeps_the_file_and_what_is_known(server: FaultServer, keeping: Make, home: Path) -> None:
    url = server.on("/f", etagged(b"body"), status(404), etagged(b"body"))
    download = keeping(download=DownloadStrategy(home=home, refresh=True))
    file = Path(aiodownload.one(url, download).file_path or "")
    assert not aiodownload.one(url, download).ok
    assert file.read_bytes() == b"body"
    assert aiodownload.one(url, download).status is Status.CACHED
    assert server.requests[-1].headers["if-none-match"] == '"v1"'


def test_a_resume_carries_no_condition(server: FaultServer, keeping: Make, home: Path) -> None:
    """R26: a Range goes with If-Range only."""
    old, new = shake_128(b"old").digest(3 << 20), shake_128(b"new").digest(3 << 20)
    url = server.on("/f", ranged(old, '"1"'), ranged(new, '"2"', cut=2 << 20), ranged(new, '"2"'))
    download = keeping(download=DownloadStrategy(home=home, refresh=True))
    aiodownload.one(url, download)
    again = aiodownload.one(url, download)
    assert again.ok
    assert Path(again.file_path or "").read_bytes() == new
    first, second = (request.headers for request in server.requests[1:])
    assert (first["if-none-match"], first.get("range")) == ('"1"', None)
    assert (second.get("if-none-match"), second["if-range"]) == (None, '"2"')


def test_refresh_needs_a_journal(quick: Make, home: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"refresh.*journal"):
        aiodownload.one("http://h/", quick(download=DownloadStrategy(home=home, refresh=True)))


PROGRAM = """
import sys, aiodownload
class Fast(aiodownload.Lenient):
    def get_sleep_time(self, bundle): return 0
download = aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=sys.argv[1]),
    Fast(3, concurrent=8, timeout=5), journal=sys.argv[2])
bundles = aiodownload.swarm([line.strip() for line in open(sys.argv[3])], download)
print(*(bundle.status.name for bundle in bundles))
"""


def faulty(request: Request) -> Script:
    """Every fifth URL fails for good, every fifth once."""
    number = int(request.path.rpartition("/")[2])
    if number % 5 == 0:
        return status(404)
    return ok(b"body %d" % number)


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_killed_twice_and_run_again(count: int, server: FaultServer, home: Path, path: Path, tmp_path: Path) -> None:
    """P6: after two SIGKILLs the third run does what is missing: one row each, nothing whole is fetched again."""
    server.default = each_path(faulty)
    listed = tmp_path / "urls"
    listed.write_text("".join(server.url(f"/{number}") + "\n" for number in range(count)))
    command = [sys.executable, "-c", PROGRAM, str(home), str(path), str(listed)]
    whole: set[str] = set()
    for part in (3, 2):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            done = len(server.requests)
            deadline = time.monotonic() + 120
            while len(server.requests) - done < (count - len(whole)) // part and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        time.sleep(0.1)
        whole = {file.name for file in home.rglob("*") if file.is_file() and not file.name.startswith(".")}
        server.requests.clear()
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    counted = {name: run.stdout.split().count(name) for name in ("DONE", "CACHED", "FAILED")}
    assert counted == {"DONE": count * 4 // 5 - len(whole), "CACHED": len(whole), "FAILED": count // 5}
    assert not {request.path.lstrip("/") for request in server.requests} & whole
    table = rows(path)
    assert len(table) == len({url for url, _ in table}) == count
    assert sum(state == "done" for _, state in table) == count * 4 // 5
    assert sum(state == "failed" for _, state in table) == count // 5
    bodies = {file.name: file.read_bytes() for file in home.rglob("*") if file.is_file()}
    assert bodies == {str(number): b"body %d" % number for number in range(count) if number % 5}


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_killed_between_the_name_and_the_note(
    size: int, server: FaultServer, keeping: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has its final name, though its row was never settled, is recognised by what was noted before the rename."""
    body = shake_128(b"k").digest(size)
    url = server.on("/f", ok(body))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "settle", lambda self, outcomes: None)  # as if killed just before it
        aiodownload.one(url, keeping())
    assert states(path) == {"f": "publishing"}
    again = aiodownload.one(url, keeping())
    assert (again.status, again.size, len(server.requests)) == (Status.CACHED, size, 1)
    assert states(path) == {"f": "done"}


def test_killed_between_the_note_and_the_name(
    server: FaultServer, keeping: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the same size and time that is not the one that was about to be published is not taken for it."""
    url = server.on("/f", ok(b"right"))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "settle", lambda self, outcomes: None)
        file = Path(aiodownload.one(url, keeping()).file_path or "")
    state = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"wrong")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(other, file)  # same name, size and time; another inode
    assert aiodownload.one(url, keeping()).status is Status.DONE
    assert file.read_bytes() == b"right"


def test_cancelled_ones_are_said_to_be(server: FaultServer, keeping: Make, path: Path) -> None:
    """Leaving early: what was admitted and got no outcome is 'cancelled', and done by the next run."""
    server.default = each_path(lambda request: ok(b"x") if request.path == "/0" else stall())
    urls = [server.url(f"/{number}") for number in range(50)]
    bundles = aiodownload.each(urls, download=keeping())
    assert next(bundles).ok
    bundles.close()
    found = [state for _, state in rows(path)]
    assert (found[0], set(found[1:])) == ("done", {"cancelled"})
    server.default = each_path(lambda request: ok(b"x"))
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, keeping()))
    assert {state for _, state in rows(path)} == {"done"}


def test_several_runs_and_processes_share_one(server: FaultServer, home: Path, path: Path, tmp_path: Path) -> None:
    """Two programs at once with one journal: no row is lost, none is there twice."""
    server.default = each_path(lambda request: ok(request.path.encode()))
    lists = []
    for which in "ab":
        listed = tmp_path / which
        listed.write_text("".join(server.url(f"/{which}{number}") + "\n" for number in range(150)))
        lists.append(listed)
    running = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(home), str(path), str(listed)], stdout=subprocess.DEVNULL)
        for listed in lists
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    assert [state for _, state in rows(path)] == ["done"] * 300


async def test_inside_an_event_loop(server: FaultServer, keeping: Make, path: Path) -> None:
    urls = [server.on(f"/{number}", ok(b"x")) for number in range(5)]
    async with keeping() as download:
        assert all(bundle.ok for bundle in await download.swarm(urls))
        assert {bundle.status for bundle in await download.swarm(urls)} == {Status.CACHED}
    assert len(rows(path)) == 5


def test_a_repeat_in_one_run_shares_the_outcome(server: FaultServer, keeping: Make) -> None:
    """Fetched once and settled twice, as without a journal: DONE both times."""
    url = server.on("/f", ok(b"x"))
    others = [server.on(f"/{number}", ok(b"y")) for number in range(30)]
    bundles = aiodownload.swarm([url, *others, url], keeping())
    assert {bundle.status for bundle in bundles} == {Status.DONE}


def test_files_that_stepped_aside_are_found(server: FaultServer, keeping: Make) -> None:
    """`/a` beside `/a/b`: whichever name they got, the second run finds both."""
    urls = [server.on("/a/b", ok(b"below")), server.on("/a", ok(b"above"))]
    first = aiodownload.swarm(urls, keeping())
    again = aiodownload.swarm(urls, keeping())
    assert {bundle.status for bundle in again} == {Status.CACHED}
    assert [bundle.file_path for bundle in again] == [bundle.file_path for bundle in first]


# The file.


@pytest.mark.parametrize("given", ["", "a\0b", 7, b"x", object(), Journal, ":memory:"])
def test_what_is_no_journal(given: object) -> None:
    with pytest.raises(ConfigurationError, match="journal"):
        AioDownload(journal=given)  # type: ignore[arg-type]


def test_an_object_with_its_methods_is_one(server: FaultServer, quick: Make, path: Path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.inner = Journal(path)
            self.outcomes = 0

        def settle(self, outcomes: Any) -> None:
            outcomes = list(outcomes)
            self.outcomes += len(outcomes)
            self.inner.settle(outcomes)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    journal = Counting()
    aiodownload.swarm([server.on(f"/{number}", ok(b"x")) for number in range(7)], quick(journal=journal))
    assert journal.outcomes == 7


def test_constructing_opens_nothing(path: Path) -> None:
    journal = Journal(path)
    assert not path.exists()
    again = pickle.loads(pickle.dumps(AioDownload(journal=journal)))
    assert again.journal.path == str(path)
    assert repr(journal) == f"Journal({str(path)!r})"
    with pytest.raises(JournalError, match="not open"):
        journal.counts()


def hostile(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize("kind", ["text", "other database", "trigger", "view", "newer", "folder", "link", "truncated"])
def test_what_is_not_our_journal_is_refused_and_left_alone(
    kind: str, server: FaultServer, keeping: Make, path: Path, tmp_path: Path
) -> None:
    """S29: nothing of a foreign file is run, and nothing in it is changed."""
    url = server.on("/f", ok(b"x"))
    if kind in ("trigger", "view", "newer", "truncated"):
        aiodownload.one(server.on("/first", ok(b"x")), keeping())
    if kind == "text":
        path.write_text("dear diary, " * 100)
    elif kind == "other database":
        hostile(path, "CREATE TABLE mine (a)", "INSERT INTO mine VALUES (1)")
    elif kind == "trigger":
        hostile(path, "CREATE TRIGGER evil AFTER INSERT ON urls BEGIN DELETE FROM urls; END")
    elif kind == "view":
        hostile(path, "DROP TABLE settings", "CREATE VIEW settings AS SELECT 'home' AS name, '/' AS value")
    elif kind == "newer":
        hostile(path, "PRAGMA user_version = 99")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "target").touch()
        path.symlink_to(tmp_path / "target")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    before = path.read_bytes() if path.is_file() else None
    asked = len(server.requests)
    with pytest.raises(JournalError, match="journal"):
        aiodownload.one(url, keeping())
    assert len(server.requests) == asked
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "path = '/etc/passwd', size = (SELECT 1), mtime_ns = 0",
        "path = 7",
        "size = 'x'",
        "size = -1",
        "size = 9e99",
        "etag = x'00ff', verified = 'DIGEST'",
        "state = 'excellent'",
        "verified = '__import__'",
        "mtime_ns = NULL",
        "path = '/' || hex(zeroblob(2000))",
    ],
)
def test_a_hostile_row_leads_to_a_download_at_worst(
    change: str, server: FaultServer, keeping: Make, path: Path
) -> None:
    """S29: paths are recomputed, types checked; a row that makes no sense is as good as none."""
    url = server.on("/f", ok(b"right"))
    first = aiodownload.one(url, keeping())
    hostile(path, f"UPDATE urls SET {change}")
    again = aiodownload.one(url, keeping())
    assert again.ok
    assert again.file_path == first.file_path
    assert Path(again.file_path or "").read_bytes() == b"right"


def test_a_row_cannot_point_at_another_file(server: FaultServer, keeping: Make, path: Path, tmp_path: Path) -> None:
    """S29: even a file that is just as the row says is not this URL's, if it is in another place."""
    url = server.on("/f", ok(b"right"))
    aiodownload.one(url, keeping())
    other = tmp_path / "other"
    other.write_bytes(b"wrong")
    state = other.stat()
    hostile(path, f"UPDATE urls SET path = '{other}', mtime_ns = {state.st_mtime_ns}, inode = {state.st_ino}")
    again = aiodownload.one(url, keeping())
    assert again.status is Status.DONE
    assert again.file_path != str(other)


def test_a_condition_from_a_hostile_row_injects_nothing(
    server: FaultServer, keeping: Make, path: Path, home: Path
) -> None:
    """S11, S29: what is no ETag and no date is not sent."""
    url = server.on("/f", etagged(b"x"))
    download = keeping(download=DownloadStrategy(home=home, refresh=True))
    aiodownload.one(url, download)
    hostile(path, "UPDATE urls SET etag = '\"a\"' || char(13, 10) || 'X: y', last_modified = 'a' || char(10) || 'b'")
    assert aiodownload.one(url, download).ok
    assert not {"x", "if-none-match", "if-modified-since"} & set(server.requests[-1].headers)


def test_a_journal_that_fails_ends_the_run(server: FaultServer, keeping: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nothing is accounted for: loud, with what was settled; no hang, and nothing under way is left."""
    settle, calls = Journal.settle, []

    def failing(self: Journal, outcomes: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise JournalError(self.path, "cannot write: database or disk is full")
        settle(self, outcomes)

    monkeypatch.setattr(Journal, "settle", failing)
    server.default = each_path(lambda request: ok(b"x"))
    with pytest.raises(JournalError, match="full") as caught:
        aiodownload.swarm([server.url(f"/{number}") for number in range(100)], keeping())
    assert 1 <= len(caught.value.settled) < 100  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_nothing_is_published_that_cannot_be_noted(
    size: int, server: FaultServer, keeping: Make, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Journal, key: bytes, publication: object) -> None:
        raise JournalError(self.path, "cannot write: disk I/O error")

    monkeypatch.setattr(Journal, "publishing", failing)
    with pytest.raises(JournalError):
        aiodownload.one(server.on("/f", ok(b"x" * size)), keeping())
    assert [file for file in home.rglob("*") if file.is_file()] == []


def test_a_bug_in_a_hook_settles_nothing_wrong(server: FaultServer, keeping: Make, home: Path, path: Path) -> None:
    class Buggy(DownloadStrategy):
        async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
            raise KeyError("oops")

    with pytest.raises(StrategyError):
        aiodownload.one(server.on("/f", ok(b"x")), keeping(download=Buggy(home=home)))
    assert states(path) == {"f": "cancelled"}


def test_a_missing_folder_is_made(server: FaultServer, quick: Make, home: Path) -> None:
    """A journal may lie in home, also before there is one."""
    url = server.on("/f", ok(b"x"))
    assert aiodownload.one(url, quick(journal=home / "deep" / "journal.db")).ok
    assert (home / "deep" / "journal.db").is_file()


def test_iteration_and_counts(server: FaultServer, keeping: Make, path: Path) -> None:
    """What `aiodownload retry` reads: the unfinished ones, in order, while rows change."""
    server.default = status(404)
    urls = [server.url(f"/{number}") for number in range(1203)]
    digest = f"sha256:{sha256(b'x').hexdigest()}"
    bundles = [AioDownloadBundle(url, digest=digest, mirrors=[url + "m"]) for url in urls]
    aiodownload.swarm(bundles, keeping(Quick(1, concurrent=16, timeout=5)))
    journal = Journal(path)
    journal.open()
    try:
        assert journal.counts() == {"failed": 1203}
        found = list(journal.unfinished())
        assert [one.url for one in found] == urls
        assert (found[0].digest, found[0].mirrors, found[0].plain) == ((digest,), (urls[0] + "m",), True)
        assert journal.home == str(path.parent / "home")
    finally:
        journal.close()


def test_opening_one_that_is_not_there(path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        Journal(path).open()
    assert not path.exists()


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_borrowed_time_proves_nothing(server: FaultServer, home: Path, path: Path, quick: Make) -> None:
    """R25: with remote_time other bytes may have the same size and the same time; only the very file counts then."""
    keep = DownloadStrategy(home=home, remote_time=True)
    url = server.on("/x", ok(b"version 1", Last_Modified=DATE))
    assert aiodownload.one(url, quick(download=keep, journal=path)).ok
    server.on("/x", ok(b"version 2", Last_Modified=DATE))
    assert aiodownload.one(url, quick(download=keep)).ok  # a program without the journal
    server.on("/x", ok(b"version 3", Last_Modified=DATE))
    third = aiodownload.one(url, quick(download=keep, journal=path))
    assert third.status is Status.DONE
    assert Path(third.file_path or "").read_bytes() == b"version 3"
    assert aiodownload.one(url, quick(download=keep, journal=path)).status is Status.CACHED


KILLED_AT_THE_RENAME = """
import os, signal, sys, aiodownload
if sys.argv[4] == "kill":
    os.replace = lambda *args, **named: os.kill(os.getpid(), signal.SIGKILL)
strategy = aiodownload.DownloadStrategy(home=sys.argv[2], refresh=True, remote_time=True)
download = aiodownload.AioDownload(None, strategy, aiodownload.RequestStrategy(), journal=sys.argv[3])
print(aiodownload.one(sys.argv[1], download).status.name)
"""


def test_what_never_got_its_name_is_not_confirmed(server: FaultServer, home: Path, path: Path) -> None:
    """P1, R40: noted, killed before the rename, failed in the next run: the validator of the new version is not taken
    for one of the old file, which has its size and its time."""
    state: dict[str, Any] = {"body": b"version 1", "etag": '"1"', "down": False}

    def answer(request: Request) -> Script:
        if state["down"]:
            return status(503)
        if request.headers.get("if-none-match") == state["etag"]:
            return status(304, ETag=state["etag"])
        return ok(state["body"], ETag=state["etag"], Last_Modified=DATE)

    url = server.on("/x", each_path(answer))

    def run(how: str = "on") -> str:
        command = [sys.executable, "-c", KILLED_AT_THE_RENAME, url, str(home), str(path), how]
        return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False).stdout.strip()

    assert run() == "DONE"
    state |= {"body": b"version 2", "etag": '"2"'}
    assert run("kill") == ""
    state["down"] = True
    assert run() == "FAILED"
    state["down"] = False
    assert run() == "DONE"
    assert [file.read_bytes() for file in home.rglob("x")] == [b"version 2"]
    assert run() == "CACHED"


@pytest.mark.parametrize("how", ["header", "user"])
def test_two_who_ask_for_one_url(how: str, server: FaultServer, keeping: Make, path: Path) -> None:
    """A row says nothing of credentials; in one run it is for one of them, and who comes second is told what to do."""

    def answer(request: Request) -> Script:
        return ok(request.headers.get("authorization", "nobody").encode())

    server.on("/x", each_path(answer))

    def bundle(name: str, place: str | None = None) -> AioDownloadBundle:
        if how == "user":
            return AioDownloadBundle(server.url("/x").replace("//", f"//{name}:pw@"), file_path=place)
        return AioDownloadBundle(server.url("/x"), headers={"Authorization": f"Bearer {name}"}, file_path=place)

    alice, bob = aiodownload.swarm([bundle("alice"), bundle("bob")], keeping(Quick(concurrent=1)))
    assert alice.ok
    if how == "user":  # names are no secrets, and tell the rows apart
        assert bob.ok
        assert len(rows(path)) == 2
    else:
        assert not bob.ok
        assert "file_path" in str(bob.error)
    for expected in (Status.DONE, Status.CACHED):
        # The other one comes first now.
        bob, alice = aiodownload.swarm([bundle("bob", "b"), bundle("alice", "a")], keeping(Quick(concurrent=1)))
        assert (bob.status, alice.status) == (expected, expected)
        told = [Path(one.file_path or "").read_bytes() for one in (bob, alice)]
        assert told[0] != told[1]
    assert b"pw" not in path.read_bytes()
    assert b"alice" not in path.read_bytes()


def test_one_url_in_two_places(server: FaultServer, keeping: Make, path: Path) -> None:
    """P6: each has its row, and a second run asks for neither."""
    url = server.on("/x", ok(b"x"))
    for expected in (Status.DONE, Status.CACHED):
        pair = [AioDownloadBundle(url, file_path=place) for place in ("a", "b")]
        assert [bundle.status for bundle in aiodownload.swarm(pair, keeping())] == [expected] * 2
    assert len(server.requests) == 2
    assert len(rows(path)) == 2


class Values(DownloadStrategy):
    """Keeps something else than a file."""

    async def on_success(self, response: ClientResponse, bundle: AioDownloadBundle) -> None:
        bundle.info = await response.text()


def test_done_without_a_file_is_not_a_file(server: FaultServer, keeping: Make, home: Path, path: Path) -> None:
    """P3: what a strategy without files has settled is no hit for one that keeps them, nor is a row that is damaged."""
    url = server.on("/x", ok(b"x"))
    assert aiodownload.one(url, keeping(download=Values(home=home))).ok
    assert aiodownload.one(url, keeping(download=Values(home=home))).status is Status.CACHED
    fetched = aiodownload.one(url, keeping())
    assert fetched.status is Status.DONE
    Path(fetched.file_path or "").unlink()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE urls SET verified = '?'")
    for strategy in (Values(home=home), DownloadStrategy(home=home)):
        assert aiodownload.one(url, keeping(download=strategy)).status is Status.DONE


def test_strict_asks_again_for_what_nothing_has_proven(server: FaultServer, keeping: Make, home: Path) -> None:
    """R3: a body that ended with its connection is a hit for who took it then, and none for strict=True."""
    url = server.on("/x", until_close(b"perhaps half"))
    assert aiodownload.one(url, keeping()).verified is Verified.NONE
    assert aiodownload.one(url, keeping()).status is Status.CACHED
    server.on("/x", ok(b"certainly whole"))
    strict = aiodownload.one(url, keeping(download=DownloadStrategy(home=home, strict=True)))
    assert (strict.status, strict.verified) == (Status.DONE, Verified.LENGTH)


def test_refresh_goes_before_skip_cached(server: FaultServer, keeping: Make, home: Path) -> None:
    """What the journal knows is asked for, whether or not it is there; what it does not know is taken as it is."""
    url = server.on("/x", etagged(b"x", '"1"'))
    keep = DownloadStrategy(home=home, refresh=True, skip_cached=True)
    first = aiodownload.one(url, keeping(download=keep))
    assert first.ok
    assert aiodownload.one(url, keeping(download=keep)).http_status == 304
    beside = Path(first.file_path or "").with_name("y")
    beside.write_bytes(b"from elsewhere")
    found = aiodownload.one(server.url("/y"), keeping(download=keep))
    assert (found.status, found.attempts) == (Status.CACHED, 0)
