"""How a file appears if the strategy lets the server say so: under the name it suggests, with the time it tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import shake_128
from pathlib import Path

import pytest
from conftest import Quick

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, ConfigurationError, DownloadStrategy, Status
from aiodownload.testing import FaultServer, each_path, ok, ranged, redirect, status

Files = Callable[[], dict[str, bytes]]

THEN = "Sun, 06 Nov 1994 08:49:37 GMT"
SECONDS = 784111777
BODY = shake_128(b"appearance").digest(3 << 20)
NAMED = {"Content_Disposition": 'attachment; filename="annual report.pdf"'}


def keep(home: Path, journal: Path | None = None, **settings: object) -> AioDownload:
    """Files below home, without waits."""
    strategy = DownloadStrategy(home=home, **settings)  # type: ignore[arg-type]
    return AioDownload(None, strategy, Quick(3, concurrent=8, timeout=5), journal=journal)


def the_file(bundle: AioDownloadBundle) -> Path:
    assert bundle.ok, bundle.error
    assert bundle.file_path is not None
    return Path(bundle.file_path)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("size", [0, 100, len(BODY)])
def test_remote_time(size: int, durable: bool, server: FaultServer, home: Path) -> None:
    """Last-Modified becomes the file's own time, whatever way the file takes to the disk."""
    url = server.on("/x", ok(BODY[:size], Last_Modified=THEN))
    path = the_file(aiodownload.one(url, keep(home, remote_time=True, durable=durable)))
    assert path.stat().st_mtime == SECONDS
    assert path.read_bytes() == BODY[:size]


def test_remote_time_of_a_resumed_file(server: FaultServer, home: Path) -> None:
    """The part that was there before takes the time as well."""
    said = {"Last-Modified": THEN}
    url = server.on("/x", ranged(BODY, cut=2 << 20, headers=said), ranged(BODY, headers=said))
    path = the_file(aiodownload.one(url, keep(home, remote_time=True)))
    assert path.read_bytes() == BODY
    assert path.stat().st_mtime == SECONDS
    assert server.requests[1].headers["range"].startswith("bytes=")


@pytest.mark.parametrize("said", [None, "yesterday", "Fri, 31 Dec 2899 00:00:00 GMT"])
@pytest.mark.parametrize("remote_time", [True, False])
def test_without_a_time_it_is_now(said: str | None, remote_time: bool, server: FaultServer, home: Path) -> None:
    """What the server does not say, or cannot know, is not believed."""
    before = time.time() - 2
    script = ok(b"x") if said is None else ok(b"x", Last_Modified=said)
    path = the_file(aiodownload.one(server.on("/x", script), keep(home, remote_time=remote_time)))
    assert before <= path.stat().st_mtime <= time.time() + 2


def test_the_time_is_not_taken_unasked(server: FaultServer, home: Path) -> None:
    """Off by default: the time says when the file was written here."""
    before = time.time() - 2
    path = the_file(aiodownload.one(server.on("/x", ok(b"x", Last_Modified=THEN)), keep(home)))
    assert path.stat().st_mtime >= before


def test_a_journal_knows_the_time(server: FaultServer, home: Path, tmp_path: Path) -> None:
    """A second run finds the file as it was published, and asks for nothing."""
    urls = [server.on(f"/{number}", ok(b"%d" % number, Last_Modified=THEN)) for number in range(100)]
    for wanted in (Status.DONE, Status.CACHED):
        bundles = aiodownload.swarm(urls, keep(home, tmp_path / "journal", remote_time=True))
        assert {bundle.status for bundle in bundles} == {wanted}
    assert len(server.requests) == 100


def test_the_suggested_name(server: FaultServer, home: Path, files: Files) -> None:
    """The readable part is the server's, the mark is the URL's, the extension stays last; the bundle knows the path."""
    bundle = aiodownload.one(server.on("/download?id=7", ok(b"x", **NAMED)), keep(home, content_disposition=True))
    path = the_file(bundle)
    stem, _, mark = path.name.removesuffix(".pdf").partition("+")
    assert stem == "annual report"
    assert len(mark) == 16
    assert files() == {path.name: b"x"}
    again = aiodownload.one(server.url("/download?id=7"), keep(home, content_disposition=True))
    assert again.file_path == bundle.file_path


def test_it_is_not_taken_unasked(server: FaultServer, home: Path, files: Files) -> None:
    """Off by default (S2)."""
    aiodownload.one(server.on("/download", ok(b"x", **NAMED)), keep(home))
    assert files() == {"download": b"x"}


def test_the_name_that_the_url_has_needs_no_mark(server: FaultServer, home: Path, files: Files) -> None:
    """Most servers suggest just that."""
    url = server.on("/report.pdf", ok(b"x", Content_Disposition="attachment; filename=report.pdf"))
    assert aiodownload.one(url, keep(home, content_disposition=True)).ok
    assert files() == {"report.pdf": b"x"}


@pytest.mark.parametrize("number", [3, 200])
def test_one_name_for_many_urls(number: int, server: FaultServer, home: Path, files: Files) -> None:
    """Each URL keeps a file of its own, also where a process of its own writes them."""
    urls = [server.on(f"/download?id={one}", ok(b"%d" % one, **NAMED)) for one in range(number)]
    bundles = aiodownload.swarm(urls, keep(home, content_disposition=True))
    assert len({bundle.file_path for bundle in bundles}) == number
    assert [the_file(bundle).read_bytes() for bundle in bundles] == [b"%d" % one for one in range(number)]
    assert len(files()) == number


def test_no_suggestion_takes_the_name_of_another_url(server: FaultServer, home: Path, files: Files) -> None:
    """Not even one that knows the mark."""
    mark = the_file(
        aiodownload.one(server.on("/a", ok(b"a", **NAMED)), keep(home, content_disposition=True))
    ).name.removeprefix("annual report")
    thief = server.on("/b", ok(b"b", Content_Disposition=f'attachment; filename="annual report{mark}"'))
    plain = server.on(f"/annual%20report{mark}", ok(b"c"))
    bundles = aiodownload.swarm([thief, plain], keep(home, content_disposition=True))
    assert all(bundle.ok for bundle in bundles)
    assert sorted(files().values()) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "..\\evil", "C:\\evil", ".evil", "evil/", "e\x1b]0;vil"])
def test_a_hostile_suggestion_stays_in_its_folder(name: str, server: FaultServer, home: Path, files: Files) -> None:
    """S2: one component, nothing hidden, nothing for a terminal."""
    url = server.on("/deep/er/x", ok(b"x", Content_Disposition=f'attachment; filename="{name}"'))
    path = the_file(aiodownload.one(url, keep(home, content_disposition=True)))
    assert path.parent == home / f"127.0.0.1+{server.port}" / "deep" / "er"
    assert not path.name.startswith(".")
    assert path.name.isprintable()
    assert len(files()) == 1


def test_a_path_that_was_given_stays(server: FaultServer, home: Path) -> None:
    """Whoever names the file has named it; a strategy's own path takes the suggestion in its last component."""

    class Flat(DownloadStrategy):
        def get_file_path(self, bundle: AioDownloadBundle) -> str:
            return "flat/" + bundle.url.rpartition("/")[2]

    url = server.on("/x", ok(b"x", **NAMED))
    given = aiodownload.one(AioDownloadBundle(url, file_path="mine.bin"), keep(home, content_disposition=True))
    assert the_file(given) == home / "mine.bin"
    flat = AioDownload(None, Flat(home=home, content_disposition=True), Quick())
    assert the_file(aiodownload.one(url, flat)).name.startswith("annual report+")
    assert the_file(aiodownload.one(url, flat)).parent == home / "flat"


def test_a_failure_leaves_nothing_under_either_name(server: FaultServer, home: Path, files: Files) -> None:
    """The path on the bundle is the URL's then."""
    url = server.on("/x", status(200, b"x", Content_MD5="AAAAAAAAAAAAAAAAAAAAAA==", **NAMED))
    bundle = aiodownload.one(url, keep(home, content_disposition=True))
    assert not bundle.ok
    assert bundle.file_path == str(home / f"127.0.0.1+{server.port}" / "x")
    assert files() == {}


def test_a_cut_is_gone_on_with_under_the_suggested_name(server: FaultServer, home: Path, files: Files) -> None:
    """The partial file goes by the URL, so that another run finds it before any server is asked."""
    said = {"Content-Disposition": NAMED["Content_Disposition"]}
    url = server.on("/x", ranged(BODY, cut=2 << 20, headers=said))
    strategy = DownloadStrategy(home=home, content_disposition=True)
    assert not aiodownload.one(url, AioDownload(None, strategy, Quick(1))).ok
    server.on("/x", ranged(BODY, headers=said))
    path = the_file(aiodownload.one(url, keep(home, content_disposition=True)))
    assert path.name.startswith("annual report+")
    assert files() == {path.name: BODY}
    assert "range" in server.requests[-1].headers


def test_a_journal_remembers_the_name(server: FaultServer, home: Path, tmp_path: Path, files: Files) -> None:
    """A second run finds the file; a refresh confirms it, or takes what has changed."""

    def answer(request: object) -> object:
        asked = getattr(request, "headers", {}).get("if-none-match")
        return status(304, ETag='"1"') if asked == '"1"' else ok(b"x", ETag='"1"', **NAMED)

    url = server.on("/x", each_path(answer))  # type: ignore[arg-type]
    journal = tmp_path / "journal"
    first = aiodownload.one(url, keep(home, journal, content_disposition=True))
    for settings in ({}, {"skip_cached": True}):
        again = aiodownload.one(url, keep(home, journal, content_disposition=True, **settings))
        assert (again.status, again.file_path) == (Status.CACHED, first.file_path)
    assert len(server.requests) == 1
    confirmed = aiodownload.one(url, keep(home, journal, content_disposition=True, refresh=True))
    assert (confirmed.status, confirmed.http_status, confirmed.file_path) == (Status.CACHED, 304, first.file_path)
    server.on("/x", ok(b"new", ETag='"2"', **NAMED))
    changed = aiodownload.one(url, keep(home, journal, content_disposition=True, refresh=True))
    assert (changed.status, changed.file_path) == (Status.DONE, first.file_path)
    assert files() == {the_file(changed).name: b"new"}


def test_skip_cached_cannot_guess_names(server: FaultServer, home: Path) -> None:
    """Without a journal nobody knows what a server has suggested: said before anything is asked."""
    with pytest.raises(ConfigurationError, match="needs a journal"):
        aiodownload.one(server.url("/x"), keep(home, content_disposition=True, skip_cached=True))
    assert not server.requests


def test_single_tries_do_not_drift(server: FaultServer, home: Path) -> None:
    """Each try begins with the path that the URL has, not with the one that the try before ended at."""
    url = server.on("/x", ok(b"x", **NAMED))
    bundle = AioDownloadBundle(url)

    async def thrice() -> list[str | None]:
        async with keep(home, content_disposition=True) as download:
            return [(await download.request_and_download(bundle)).file_path for _ in range(3)]

    assert len(set(asyncio.run(thrice()))) == 1


def test_the_name_comes_from_the_last_response(server: FaultServer, home: Path) -> None:
    """What a redirect suggests is not about the file; the mark is that of the URL that was given (S4)."""
    url = server.on("/x", redirect("/y", Content_Disposition='attachment; filename=".bashrc"'))
    server.on("/y", ok(b"x", **NAMED))
    path = the_file(aiodownload.one(url, keep(home, content_disposition=True)))
    server.on("/x", ok(b"x", **NAMED))
    assert path == the_file(aiodownload.one(url, keep(home, content_disposition=True)))
