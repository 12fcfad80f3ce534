"""What a home in an object store may be, which options it takes, and that nothing tells its secrets."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from conftest import Quick
from hypothesis import given
from hypothesis import strategies as st
from shelves import Shelf

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    ConfigurationError,
    DownloadStrategy,
    HomeError,
    MissingExtraError,
    PathError,
)
from aiodownload.homes import Bucket, root
from aiodownload.storage.placement import is_place_of, safe_path
from aiodownload.testing import FaultServer, ok

SECRET = "open-sesame"


def told_by(error: BaseException | None) -> Iterator[str]:
    """All texts of an error and of those behind it, also of those that no traceback shows."""
    if error is not None:
        yield from (str(error), repr(error), *traceback.format_exception(error))
        yield from told_by(error.__cause__)
        yield from told_by(error.__context__)


@pytest.mark.parametrize(
    ("given", "home", "bucket"),
    [
        ("s3://bucket", "s3://bucket", ("s3", "bucket", "")),
        ("s3://bucket/", "s3://bucket", ("s3", "bucket", "")),
        ("S3://bucket/a/b/", "s3://bucket/a/b", ("s3", "bucket", "a/b")),
        ("gs://my-bucket_1.x/ä b", "gs://my-bucket_1.x/ä b", ("gs", "my-bucket_1.x", "ä b")),
        ("az://container/x", "az://container/x", ("az", "container", "x")),
        ("az://$web", "az://$web", ("az", "$web", "")),
        ("memory://", "memory://", ("memory", "", "")),
        ("memory:///x", "memory:///x", ("memory", "", "x")),
    ],
)
def test_homes(given: str, home: str, bucket: tuple[str, str, str]) -> None:
    """The URL stays as it was given, but for slashes at its end; paths lie below it."""
    strategy = DownloadStrategy(home=given)
    assert strategy.home == home
    assert Bucket.of(home) == bucket
    path = strategy.get_file_path(AioDownloadBundle("https://example.org/a/b.txt"))
    assert path == f"{home}/example.org/a/b.txt"
    assert safe_path(path, home) == safe_path("example.org/a/b.txt", home) == path
    assert path.startswith(root(home))


@pytest.mark.parametrize(
    ("home", "told"),
    [
        ("ftp://x", r"it may be a folder, file:///folder, s3://bucket/prefix, gs://"),
        ("https://bucket.s3.amazonaws.com", "home cannot be https://"),
        (f"s3://key:{SECRET}@bucket", "must not hold a user or a key"),
        (f"s3://key:{SECRET}", "home must name a bucket, such as s3://bucket/prefix"),
        (f"az://container?sig={SECRET}", "must not hold '\\?' or '#'"),
        (f"s3://bucket/#{SECRET}", "must not hold '\\?' or '#'"),
        ("s3://", "home must name a bucket"),
        ("az:///x", "home must name a container"),
        ("s3://bucket/a/../b", "must not hold '//', '/./', '/../'"),
        ("s3://bucket/a//b", "must not hold '//'"),
        ("s3://bucket/\x1b", "control characters"),
        ("s3:/bucket/x", "has lost a slash"),
        (PurePosixPath("s3://bucket/x"), "give the URL as a str"),
        ("file://host/x", "file:///folder"),
        ("file:///x?y", "file:///folder"),
    ],
)
def test_wrong_homes(home: Any, told: str) -> None:
    """Refused when it is given, in words that say what would be right and quote no secret."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        DownloadStrategy(home=home)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"store_options": {"a": 1}}, "the value of 'a' must be a str, not int"),
        ({"store_options": {1: "a"}}, "its names must be str"),
        ({"store_options": SECRET}, "must be a dict of str, not str"),
        ({"segments": 2}, "segments must be 1 with a home in an object store"),
        ({"home": "/x", "store_options": {"a": SECRET}}, "store_options are for a home in an object store"),
    ],
)
def test_wrong_options(settings: dict[str, Any], told: str) -> None:
    """Each names the setting."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        DownloadStrategy(**{"home": "s3://bucket", **settings})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"endpont": SECRET}, "'endpont' is not one of obstore's names"),
        ({"timeout": SECRET}, "a value that obstore cannot read"),
        ({"allow_http": SECRET}, "a value that obstore cannot read"),
        ({"max_retries": SECRET}, "'max_retries' must be a whole number"),
        ({"retry_timeout": "1h"}, "'retry_timeout' must be a whole number"),
    ],
)
@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_options_that_the_store_does_not_take(
    scheme: str, options: dict[str, str], told: str, server: FaultServer
) -> None:
    """Said before anything is asked."""
    pytest.importorskip("obstore", reason="the extra objects is not installed")
    account = {"account_name": "a"} if scheme == "az" else {}
    strategy = DownloadStrategy(home=f"{scheme}://bucket", store_options={**account, **options})
    with pytest.raises(ConfigurationError, match=told) as caught:
        aiodownload.one(server.on("/x", ok()), AioDownload(download_strategy=strategy))
    assert SECRET not in "".join(told_by(caught.value))
    assert server.requests == []


def test_an_account_is_missing(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure has containers in accounts, and the URL names none."""
    pytest.importorskip("obstore", reason="the extra objects is not installed")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    download = AioDownload(download_strategy=DownloadStrategy(home="az://container"))
    with pytest.raises(ConfigurationError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        aiodownload.one(server.on("/x", ok()), download)


def test_memory_has_no_options(server: FaultServer) -> None:
    pytest.importorskip("obstore", reason="the extra objects is not installed")
    strategy = DownloadStrategy(home="memory://x", store_options={"endpoint": "y"})
    with pytest.raises(ConfigurationError, match="memory:// has none"):
        aiodownload.one(server.on("/x", ok()), AioDownload(download_strategy=strategy))


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "a\\..\\x",
        "s3://other/kept/x",
        "s3://bucket/x",
        "s3://bucket/kept",
        "s3://bucket/kept/",
        "s3://bucket/kept/../x",
        "s3://bucket/keptx/y",
        "S3://bucket/kept/x",
        "/etc/passwd",
        "a//b",
        "./a",
        "a/",
        "",
        "a\nb",
        "a\0b",
        "\ud800",
        "x" * 1020,
        "memory://bucket/kept/x",
    ],
)
def test_paths_that_are_refused(path: str) -> None:
    """None leaves home, and none is what a store or a log trips over."""
    with pytest.raises(PathError):
        safe_path(path, "s3://bucket/kept")


@given(st.text(max_size=60))
def test_no_path_leaves_home(path: str) -> None:
    """Whatever it is: refused, or below home."""
    try:
        whole = safe_path(path, "s3://bucket/kept")
    except PathError:
        return
    assert whole.startswith("s3://bucket/kept/")
    assert ".." not in whole.split("/")
    assert is_place_of(whole, whole)


def test_a_path_of_the_users(memory: Shelf, server: FaultServer) -> None:
    """Relative, or the whole URL; letters beyond ASCII and blanks are taken as they are."""
    url = server.on("/x", ok(b"x"))
    bundles = aiodownload.swarm(
        [
            AioDownloadBundle(url, file_path="mine/日本 %20.txt"),
            AioDownloadBundle(url, file_path=f"{memory.home}/whole.txt"),
            AioDownloadBundle(url, file_path="../outside.txt"),
        ],
        memory.download(),
    )
    assert [bundle.file_path for bundle in bundles[:2]] == [
        f"{memory.home}/mine/日本 %20.txt",
        f"{memory.home}/whole.txt",
    ]
    assert isinstance(bundles[2].error, PathError)
    assert set(memory.objects()) == {"日本 %20.txt", "whole.txt"}


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, server: FaultServer) -> None:
    """Named with its pip line, before anything is asked."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    download = AioDownload(download_strategy=DownloadStrategy(home="s3://bucket"))
    with pytest.raises(MissingExtraError, match=r"pip install 'aiodownload\[objects\]'"):
        aiodownload.one(server.on("/x", ok()), download)
    assert server.requests == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told(server: FaultServer) -> None:
    """obstore's threads do not come along: it would wait for ever."""
    pytest.importorskip("obstore", reason="the extra objects is not installed")
    program = (
        "import multiprocessing, sys, aiodownload\n"
        "def work(_):\n"
        "    download = aiodownload.AioDownload(download_strategy=aiodownload.DownloadStrategy(home='memory://'))\n"
        "    try:\n"
        "        return aiodownload.one(sys.argv[1], download).ok\n"
        "    except aiodownload.UsageError as error:\n"
        "        return str(error)\n"
        "print(work(0), multiprocessing.get_context('fork').Pool(1).map(work, [0]))\n"
    )
    url = server.on("/x", ok(b"x"))
    told = subprocess.check_output([sys.executable, "-c", program, url], text=True, timeout=30)
    assert told.startswith("True")
    assert "get_context('spawn')" in told


ENDS = """
import asyncio
from aiodownload.storage.objects import Store

async def main():
    await Store.open("memory://x", {}).put("memory://x/y", b"abc", {})

asyncio.run(main())
"""


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_program_may_end_at_once(count: int) -> None:
    """Threads of obstore that still want the interpreter's lock then would abort it, one time in four."""
    pytest.importorskip("obstore", reason="the extra objects is not installed")
    for _ in range(count):
        running = [subprocess.Popen([sys.executable, "-c", ENDS]) for _ in range(4)]
        assert [one.wait(30) for one in running] == [0] * 4


def test_a_folder_needs_no_extra() -> None:
    """A plain run loads nothing of all this."""
    program = (
        "import sys, tempfile, aiodownload\n"
        "from aiodownload.testing import FaultServer, ok\n"
        "with FaultServer() as server, tempfile.TemporaryDirectory() as home:\n"
        "    download = aiodownload.AioDownload(download_strategy=aiodownload.DownloadStrategy(home=home))\n"
        "    assert aiodownload.one(server.on('/x', ok(b'x')), download).ok\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'obstore' or name.endswith('.bucket')])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_a_strategy_goes_to_another_process(s3_shelf: Shelf) -> None:
    """It pickles with its options, and still shows none of them."""
    strategy = s3_shelf.strategy(skip_cached=True)
    for other in (pickle.loads(pickle.dumps(strategy)), copy.deepcopy(strategy)):
        assert dict(other.store_options) == s3_shelf.options
        assert other.home == strategy.home
        shown = f"{other!r} {other.store_options!r} {other.store_options} {vars(other)}"
        assert SECRET not in shown
        assert "'secret_access_key': '...'" in shown


def test_secrets_are_told_nobody(
    s3_shelf: Shelf, server: FaultServer, journal: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither by log, repr, error, journal, nor by an object."""
    caplog.set_level(logging.DEBUG)
    urls = [server.on("/a", ok(b"a")), server.on("/b", ok(b"b" * (9 << 20)))]
    told = []
    for options in (s3_shelf.options, {**s3_shelf.options, "endpoint": "http://127.0.0.1:9", "max_retries": "0"}):
        strategy = DownloadStrategy(home=s3_shelf.home, store_options=options)
        download = AioDownload(None, strategy, Quick(), journal=journal)
        told.append(f"{download!r} {strategy!r} {vars(strategy)}")
        try:
            for bundle in aiodownload.swarm([*urls, "http://127.0.0.1:9/x"], download):
                told.append(f"{bundle!r} {bundle.error!r} {bundle.status_msg} {vars(bundle)}")
                if bundle.ok:
                    told.append(str(s3_shelf.carried(bundle.file_path or "")))
        except HomeError as error:
            told.append("".join(told_by(error)))
    assert len(told) == 8
    rows = sqlite3.connect(journal)
    told += ["\n".join(rows.iterdump()), caplog.text, *(str(record.__dict__) for record in caplog.records)]
    rows.close()
    for secret in (SECRET, "AKIDforTests"):
        assert not [text for text in told if secret in text]


def test_the_environment_is_enough(
    s3_shelf: Shelf, server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials and the endpoint by the names that everybody knows."""
    for name, option in (
        ("AWS_ACCESS_KEY_ID", "access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
        ("AWS_REGION", "region"),
        ("AWS_ENDPOINT_URL", "endpoint"),
        ("AWS_ALLOW_HTTP", "allow_http"),
    ):
        monkeypatch.setenv(name, s3_shelf.options[option])
    download = AioDownload(download_strategy=DownloadStrategy(home=s3_shelf.home))
    assert aiodownload.one(server.on("/x", ok(b"x")), download).ok
    assert s3_shelf.objects() == {"x": b"x"}
