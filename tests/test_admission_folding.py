"""Where the file system of home takes ``A`` and ``a`` for one name, two URLs still get two files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import aiodownload
from aiodownload import AioDownload, AioDownloadBundle, DownloadStrategy, PathError, Status
from aiodownload.storage.home import Home
from aiodownload.testing import FaultServer, Request, Script, each_path, ok

Make = Callable[..., AioDownload]
Files = Callable[[], dict[str, bytes]]


def echo(request: Request) -> Script:
    """The body says what was asked for."""
    return ok(request.target.encode())


@pytest.fixture
def server(server: FaultServer) -> FaultServer:
    """A server that tells ``/A`` from ``/a``, as servers do."""
    server.default = each_path(echo)
    return server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for the files that is spelled otherwise than it is compared."""
    return tmp_path / "Home"


def say(monkeypatch: pytest.MonkeyPatch, folds_case: bool) -> None:
    """Let every home say that it folds case, or that it does not; the disk itself stays what it is."""
    monkeypatch.setattr(Home, "open", staticmethod(lambda path, durable=False: Home(path, 0o644, folds_case)))


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Home folds case."""
    say(monkeypatch, True)


def check_apart(bundles: list[AioDownloadBundle]) -> list[str]:
    """Each bundle has a whole file of its own that no other one meets, whatever the case; return the paths."""
    for bundle in bundles:
        assert bundle.status is Status.DONE, bundle.error
        assert bundle.file_path is not None
        wanted = "/" + bundle.url.split("/", 3)[3]
        assert Path(bundle.file_path).read_bytes() == wanted.encode()
    paths = [str(bundle.file_path) for bundle in bundles]
    lowered = {path.lower() for path in paths}
    assert len(lowered) == len(paths)
    assert not [folder for path in lowered for folder in map(str, Path(path).parents) if folder in lowered]
    return paths


@pytest.mark.usefixtures("folding")
@pytest.mark.parametrize(("first", "second"), [("/A", "/a"), ("/a", "/A")])
def test_two_spellings_get_two_files(first: str, second: str, server: FaultServer, quick: Make, files: Files) -> None:
    """``/A`` and ``/a`` end in two files that differ also when lower-cased; the first keeps its plain name."""
    bundles = aiodownload.swarm([server.url(first), server.url(second)], quick())
    paths = check_apart(bundles)
    assert os.path.basename(paths[0]) == first[1:]
    assert os.path.basename(paths[1]).startswith(second[1:] + "-")
    assert sorted(files().values()) == [b"/A", b"/a"]


def test_where_case_counts_both_keep_their_names(
    server: FaultServer, quick: Make, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that tells ``A`` from ``a`` neither steps aside: folding is not assumed."""
    say(monkeypatch, False)
    bundles = aiodownload.swarm([server.url("/A"), server.url("/a")], quick())
    assert [os.path.basename(bundle.file_path or "") for bundle in bundles] == ["A", "a"]


def test_the_real_home_is_asked(server: FaultServer, quick: Make, tmp_path: Path) -> None:
    """On the file system that the tests run on both files are whole, and the second steps aside only if it folds."""
    (tmp_path / "probe").write_bytes(b"")
    folds_case = (tmp_path / "PROBE").exists()
    paths = [bundle.file_path or "" for bundle in aiodownload.swarm([server.url("/A"), server.url("/a")], quick())]
    assert [Path(path).read_bytes() for path in paths] == [b"/A", b"/a"]
    assert os.path.basename(paths[0]) == "A"
    assert (os.path.basename(paths[1]) != "a") is folds_case


@pytest.mark.usefixtures("folding")
@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(["/ab", "/aB", "/Ab", "/AB"], id="every spelling"),
        pytest.param(["/Data/x.csv", "/data/X.csv", "/DATA/x.CSV"], id="folders and files"),
        pytest.param(["/A", "/a/b"], id="file, then folder"),
        pytest.param(["/A/b", "/a"], id="folder, then file"),
        pytest.param(["/A", "/a/b/c", "/a/b"], id="file, then two folders"),
        pytest.param(["/A", "/a/x", "/A/x", "/a"], id="crossed"),
        pytest.param(["/x?Q=1", "/x?q=1"], id="query"),
        pytest.param(["/%C3%89t%C3%A9", "/%C3%A9t%C3%A9"], id="escapes"),
    ],
)
@pytest.mark.parametrize("step", [1, -1], ids=["forwards", "backwards"])
def test_no_spellings_meet(targets: list[str], step: int, server: FaultServer, quick: Make) -> None:
    """Also in folders, in queries and in escapes, and in either order: every URL has its own file."""
    check_apart(aiodownload.swarm([server.url(target) for target in targets[::step]], quick()))


@pytest.mark.usefixtures("folding")
def test_each_url_is_fetched_once(server: FaultServer, quick: Make, files: Files) -> None:
    """The same URL again takes part in its own spelling's outcome, not in the other's."""
    urls = [server.url("/A"), server.url("/a")] * 5
    bundles = aiodownload.swarm(urls, quick())
    assert [len(server.asked(target)) for target in ("/A", "/a")] == [1, 1]
    paths = [bundle.file_path for bundle in bundles]
    assert paths == paths[:2] * 5
    check_apart(bundles[:2])
    assert len(files()) == 2


@pytest.mark.usefixtures("folding")
def test_urls_far_apart_do_not_meet(server: FaultServer, quick: Make) -> None:
    """A spelling whose file was settled long ago is kept from the other one as one under way is."""
    between = [server.url(f"/{number}") for number in range(40)]
    bundles = aiodownload.swarm([server.url("/A"), *between, server.url("/a"), server.url("/A")], quick())
    check_apart(bundles[:-1])
    assert bundles[-1].file_path == bundles[0].file_path
    assert len(server.asked("/A")) == 1


@pytest.mark.usefixtures("folding")
@pytest.mark.parametrize("target", ["/a", "/A"])
def test_a_folder_of_another_spelling_is_in_the_way(target: str, server: FaultServer, quick: Make, home: Path) -> None:
    """A folder ``A`` that is there already keeps its name: a file ``a`` steps aside as a file ``A`` does."""
    (home / f"127.0.0.1+{server.port}" / "A").mkdir(parents=True)
    (bundle,) = aiodownload.swarm([server.url(target)], quick())
    check_apart([bundle])
    assert os.path.basename(bundle.file_path or "").startswith(target[1:] + "-")


@pytest.mark.usefixtures("folding")
def test_a_path_that_the_caller_gave_is_not_changed(server: FaultServer, quick: Make, files: Files) -> None:
    """Two bundles with given paths that are one where case is folded: the second fails and says why."""
    bundles = [
        AioDownloadBundle(server.url("/1"), file_path="h/File.txt"),
        AioDownloadBundle(server.url("/2"), file_path="h/file.TXT"),
    ]
    aiodownload.swarm(bundles, quick())
    assert bundles[0].ok
    assert isinstance(bundles[1].error, PathError)
    assert files() == {"File.txt": b"/1"}
    assert server.asked("/2") == []


@pytest.mark.usefixtures("folding")
def test_a_home_whose_fold_is_longer(server: FaultServer, quick: Make, tmp_path: Path) -> None:
    """A home that gets longer when it is folded (sharp s) is still written to as it is spelled."""
    home = tmp_path / "Stra\u00dfe \u0130"
    bundles = aiodownload.swarm(
        [server.url("/A"), server.url("/a"), server.url("/A/b/c")], quick(download=DownloadStrategy(home=home))
    )
    paths = check_apart(bundles)
    assert all(path.startswith(str(home) + os.sep) for path in paths)
    assert sorted(os.listdir(tmp_path)) == [home.name]


@pytest.mark.usefixtures("folding")
def test_skip_cached_finds_each_under_its_own_name(server: FaultServer, quick: Make, home: Path) -> None:
    """A second run in the same order takes both files as they are, without a request."""
    urls = [server.url("/A"), server.url("/a")]
    before = check_apart(aiodownload.swarm(urls, quick()))
    asked = len(server.requests)
    again = aiodownload.swarm(urls, quick(download=DownloadStrategy(home=home, skip_cached=True)))
    assert [bundle.status for bundle in again] == [Status.CACHED] * 2
    assert [bundle.file_path for bundle in again] == before
    assert len(server.requests) == asked
