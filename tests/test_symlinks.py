"""Symbolic links below home are never followed: S5, S6 (wget CVE-2014-4877, CVE-2016-7098, tar CVE-2007-4559)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from hashlib import shake_128
from pathlib import Path

import pytest
from conftest import Quick

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, DiskError, DownloadStrategy, PathError, RequestStrategy, Status
from aiodownload.storage.folder import Folder
from aiodownload.testing import FaultServer, Request, ok, ranged

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")

Make = Callable[..., AioDownload]
BODY = shake_128(b"linked").digest(3 << 20)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is none of ours."""
    folder = tmp_path / "outside"
    (folder / "a").mkdir(parents=True)
    (folder / "f.bin").write_bytes(b"precious")
    return folder


def seen(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def host(home: Path, server: FaultServer) -> Path:
    """Where the server's files go."""
    home.mkdir()
    return home / f"127.0.0.1+{server.port}"


@pytest.mark.parametrize("body", [b"small", BODY], ids=["small", "large"])
@pytest.mark.parametrize("where", ["host", "folder", "final", "dangling", "loop"])
def test_a_link_that_was_there_before(
    where: str, body: bytes, server: FaultServer, home: Path, host: Path, outside: Path, quick: Make
) -> None:
    """The bundle fails with its reason and without a request, nothing outside changes, and the rest goes on."""
    url, other = server.on("/a/f.bin", ranged(body)), server.on("/a/g.bin" if where == "final" else "/g.bin", ok(b"g"))
    if where == "host":
        host.symlink_to(outside)
        other = server.url("/g.bin", host="localhost")
        server.on("/g.bin", ok(b"g"))
    else:
        host.mkdir()
        if where == "folder":
            (host / "a").symlink_to(outside)
        else:
            (host / "a").mkdir()
            target = {"final": outside / "f.bin", "dangling": outside / "new", "loop": host / "a" / "f.bin"}[where]
            (host / "a" / "f.bin").symlink_to(target)
    before = seen(outside)
    bundle, fine = aiodownload.swarm([url, other], quick())
    assert isinstance(bundle.error, PathError)
    assert "symbolic link" in str(bundle.error)
    assert not server.asked("/a/f.bin")
    assert fine.ok
    assert seen(outside) == before


@pytest.mark.parametrize("many", [1, 100], ids=["threads", "process"])
@pytest.mark.parametrize("body", [b"small", BODY], ids=["small", "large"])
def test_a_link_that_comes_while_we_are_at_it(
    body: bytes, many: int, server: FaultServer, host: Path, outside: Path, quick: Make
) -> None:
    """The folder is swapped for a link after it was looked at: the walk itself refuses."""
    urls = [server.on(f"/b/{number}", ok(b"x")) for number in range(many if body == b"small" else 1)]

    host.mkdir()

    async def swap(request: Request, connection: object) -> bool:
        (host / "a").symlink_to(outside)
        return await ok(body)(request, connection)  # type: ignore[arg-type]

    url = server.on("/a/f.bin", swap)
    before = seen(outside)
    *others, bundle = aiodownload.swarm([*urls, url], quick(Quick(4, timeout=5)))
    assert all(other.ok for other in others)
    assert isinstance(bundle.error, DiskError)
    assert bundle.error.reason == "ELOOP"
    assert "symbolic link" in str(bundle.error)
    assert seen(outside) == before


def test_what_is_kept_is_not_taken_up_through_a_link(
    server: FaultServer, host: Path, outside: Path, tmp_path: Path, quick: Make
) -> None:
    """A partial file and its record behind a linked folder, or linked themselves, are none."""
    url = server.on("/a/f.bin", ranged(BODY, cut=2 << 20), ranged(BODY))
    assert not aiodownload.one(url, quick(RequestStrategy(timeout=5))).ok
    moved = tmp_path / "moved"
    (host / "a").rename(moved)
    (host / "a").mkdir()
    for path in moved.iterdir():
        (host / "a" / path.name).symlink_to(path)
    before = seen(moved)
    bundle = aiodownload.one(url, quick())
    assert bundle.ok
    assert server.requests[-1].headers.get("range") is None
    assert seen(moved) == before
    assert (host / "a" / "f.bin").read_bytes() == BODY


def test_a_file_behind_a_link_is_no_cache_hit(
    server: FaultServer, home: Path, host: Path, outside: Path, quick: Make
) -> None:
    host.symlink_to(outside)
    bundle = aiodownload.one(server.url("/f.bin"), quick(download=DownloadStrategy(home=home, skip_cached=True)))
    assert bundle.status is Status.FAILED
    assert isinstance(bundle.error, PathError)


def test_dead_ones_are_not_swept_behind_a_link(server: FaultServer, host: Path, outside: Path, quick: Make) -> None:
    """Tidying up stays in the tree as well."""
    mess = outside / ".x.0123456789abcdef0-1-1.part"
    mess.write_bytes(b"x")
    host.symlink_to(outside)
    aiodownload.one(server.url("/f"), quick())
    assert mess.exists()


def test_home_itself_may_be_a_link(server: FaultServer, home: Path, tmp_path: Path, quick: Make) -> None:
    """The caller's own prefix is trusted: home, and an absolute file_path elsewhere."""
    (tmp_path / "real").mkdir()
    home.symlink_to(tmp_path / "real")
    elsewhere = tmp_path / "real" / "linked"
    (tmp_path / "there").mkdir()
    elsewhere.symlink_to(tmp_path / "there")
    first, second = aiodownload.swarm(
        [server.on("/f", ok(b"f")), AioDownloadBundle(server.on("/g", ok(b"g")), file_path=elsewhere / "g")], quick()
    )
    assert (first.ok, second.ok) == (True, True)
    assert (tmp_path / "there" / "g").read_bytes() == b"g"


def test_a_partial_file_is_nobody_else_s(server: FaultServer, host: Path, quick: Make) -> None:
    """S6: 0600 while it is written over several trips."""
    url = server.on("/f.bin", ranged(BODY, cut=2 << 20))
    assert not aiodownload.one(url, quick(RequestStrategy(timeout=5))).ok
    modes = {stat.S_IMODE(path.stat().st_mode) for path in host.iterdir()}
    assert modes == {0o600}


def test_a_folder_outlives_what_happens_to_its_path(tmp_path: Path, outside: Path) -> None:
    """What was opened is worked in, wherever its path leads by then."""
    (tmp_path / "root" / "a").mkdir(parents=True)
    with Folder.open(str(tmp_path / "root" / "a"), str(tmp_path / "root")) as folder:
        (tmp_path / "root" / "a").rename(tmp_path / "root" / "b")
        (tmp_path / "root" / "a").symlink_to(outside)
        os.close(folder.open_file("new", os.O_CREAT | os.O_WRONLY))
        folder.rename("new", "newer")
        assert {entry.name for entry in folder.entries()} == {"newer"}
    assert (tmp_path / "root" / "b" / "newer").exists()
    assert not (outside / "newer").exists()


def test_where_there_is_no_better_way(tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dir_fd each step is looked at."""
    monkeypatch.setattr("aiodownload.storage.folder._WALKS", False)
    root = tmp_path / "root"
    with Folder.open(str(root / "a" / "b"), str(root), make=True) as folder:
        os.close(folder.open_file("f", os.O_CREAT | os.O_WRONLY))
        folder.rename("f", "g")
        assert [entry.name for entry in folder.entries()] == ["g"]
        assert not folder.is_link("g")
        folder.unlink("g")
    (root / "l").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic"):
        Folder.open(str(root / "l" / "a"), str(root))
    with pytest.raises(FileNotFoundError):
        Folder.open(str(root / "none"), str(root))
