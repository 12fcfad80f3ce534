"""The fault matrix: what a misbehaving server or a full disk may leave under the final name, which is nothing wrong."""

from __future__ import annotations

import asyncio
import base64
import errno
import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from hashlib import shake_128
from pathlib import Path

import aiohttp
import pytest
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    AioDownloadError,
    BodyError,
    CodingError,
    DiskError,
    DownloadStrategy,
    StatusError,
)
from aiodownload.testing import Connection, FaultServer, Request, Script, chunked, cut, ok, raw, redirect, status

SMALL = shake_128(b"small").digest(256 << 10)
LARGE = shake_128(b"large").digest((2 << 20) + (512 << 10))  # three trips to the disk
OTHER = shake_128(b"other").digest(len(LARGE))
OLD = b"the old whole file " * 1000

Build = Callable[[bytes], tuple[list[Script], bytes | None, type[AioDownloadError] | None]]
"""Body -> the answers in turn; the file that must be there, or None for a clean failure; the error then."""


def part(body: bytes) -> Script:
    """The first half as a 206, though no Range was asked for."""
    half = len(body) // 2
    return status(206, body[:half], Content_Range=f"bytes 0-{half - 1}/{len(body)}", ETag='"a"')


def half(body: bytes, **headers: str) -> Script:
    """Half of the body, the whole length declared, with an ETag; then close."""

    async def script(request: Request, connection: Connection) -> bool:
        head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nETag: "a"\r\nAccept-Ranges: bytes\r\n\r\n'
        await connection.send(head.encode() + body[: len(body) // 2])
        return False

    return script


def with_extra(body: bytes) -> Script:
    """The body, and more bytes than the length says."""
    return raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body + b"too much")


def cut_gzip(body: bytes) -> Script:
    """Half of the gzip form of the body, with a length that agrees."""
    packed = gzip.compress(body, 1)
    return ok(packed[: len(packed) // 2], Content_Encoding="gzip")


ROWS: dict[str, Build] = {
    "1 always cut": lambda body: ([cut(body, len(body) // 2)], None, BodyError),
    "1 always cut and reset": lambda body: ([cut(body, len(body) // 2, rst=True)], None, BodyError),
    "2 no last chunk": lambda body: ([chunked(body, end=False)], None, BodyError),
    "3 extra bytes": lambda body: ([with_extra(body)], body, None),
    "4 302 without Location": lambda body: ([status(302, b"moved")], None, StatusError),
    "5 204": lambda body: ([raw(b"HTTP/1.1 204 No Content\r\n\r\n")], None, StatusError),
    "6 206 once": lambda body: ([part(body), ok(body)], body, None),
    "7 206 always": lambda body: ([part(body)], None, StatusError),
    "8 cut gzip": lambda body: ([cut_gzip(body)], None, CodingError),
    "8 cut gzip once": lambda body: ([cut_gzip(body), ok(body)], body, None),
    "9 gzip unasked": lambda body: ([ok(gzip.compress(body, 1), Content_Encoding="gzip")], body, None),
    "12 cut once": lambda body: ([cut(body, len(body) // 2), ok(body)], body, None),
    "12 no last chunk once": lambda body: ([chunked(body, end=False), chunked(body)], body, None),
    "13 cut once, then replaced": lambda body: (
        [half(body), ok(OTHER[: len(body)], ETag='"b"')],
        OTHER[: len(body)],
        None,
    ),
}


def everything_below(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, hidden and partial ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("old", [None, OLD], ids=["nothing there", "old file there"])
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["256 KiB", "2.5 MiB"])
@pytest.mark.parametrize("row", ROWS)
def test_final_name_holds_nothing_old_or_new_whole(
    row: str, body: bytes, old: bytes | None, server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """Rows 1-9, 12, 13: the right file, or a failure that leaves the final name as it was and no other file at all."""
    scripts, right, error = ROWS[row](body)
    url = server.on("/f.bin", *scripts)
    final = Path(DownloadStrategy(home=home).get_file_path(AioDownloadBundle(url)))
    if old is not None:
        final.parent.mkdir(parents=True)
        final.write_bytes(old)

    bundle = aiodownload.one(url, quick(Quick(max_attempts=2, timeout=5)))

    name = str(final.relative_to(home))
    if right is None:
        assert not bundle.ok
        assert error is not None
        assert isinstance(bundle.error, error)
        assert bundle.attempts == len(server.asked("/f.bin")) == 2
        assert everything_below(home) == ({} if old is None else {name: old})
    else:
        assert bundle.ok
        assert bundle.error is None
        assert bundle.size == len(right)
        assert bundle.attempts == len(scripts)
        assert everything_below(home) == {name: right}


def test_extra_bytes_are_not_the_next_answer(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """Row 3 on a connection that stays open: what follows the declared length answers no later request."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

    async def smuggle(request: Request, connection: Connection) -> bool:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evil)
        return True

    urls = [server.on(f"/{number}", smuggle) for number in range(4)]
    bundles = aiodownload.swarm(urls, quick(Quick(concurrent=1)))
    assert all(bundle.ok for bundle in bundles)
    assert files() == {str(number): b"good" for number in range(4)}


@pytest.mark.parametrize("name", ["/x.tar.gz", "/x.tgz"])
def test_compressed_file_sent_with_gzip_coding_stays_compressed(
    name: str, server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """Row 9, the other half of the choice: what is called .gz is kept as it was sent."""
    packed = gzip.compress(SMALL, 1)
    bundle = aiodownload.one(server.on(name, ok(packed, Content_Encoding="gzip")), quick())
    assert bundle.ok
    assert files() == {name[1:]: packed}


def test_identity_is_asked_for(server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """Row 9: no coding is offered, also not by a caller's session that has its own default."""
    aiodownload.one(server.on("/a", ok(b"a")), quick())
    aiodownload.one(server.on("/b", ok(b"b")), quick(client=aiohttp.ClientSession))
    assert [request.headers["accept-encoding"] for request in server.requests] == ["identity", "identity"]


@pytest.mark.parametrize("code", [503, 429])
def test_retry_after_seconds_are_waited(code: int, server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """Row 10: the next try does not come before Retry-After seconds have passed, though the strategy would not wait."""
    url = server.on("/f", status(code, Retry_After="1"), ok(SMALL))
    bundle = aiodownload.one(url, quick())
    assert bundle.ok
    first, second = server.asked("/f")
    assert 1 <= second.at - first.at < 3


def test_retry_after_date_is_waited_for(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Callable[..., AioDownload]
) -> None:
    """Row 11: the next try does not come before the HTTP-date of Retry-After."""
    date = int(time.time()) + 2
    url = server.on("/f", status(429, Retry_After=formatdate(date, usegmt=True)), ok(SMALL))
    bundle = aiodownload.one(url, quick())
    assert bundle.ok
    assert files() == {"f": SMALL}
    arrived = server.asked("/f")[1].at + time.time() - time.monotonic()
    assert date - 0.01 <= arrived < date + 2  # two clocks


# Row 26


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("script", [ok(LARGE), chunked(LARGE)], ids=["length", "chunked"])
@pytest.mark.parametrize("old", [None, OLD], ids=["nothing there", "old file there"])
def test_full_disk_keeps_the_old_file_and_asks_once(
    old: bytes | None, script: Script, server: FaultServer, small_disk: Path, quick: Callable[..., AioDownload]
) -> None:
    """Row 26: ENOSPC fails the bundle as disk_full after 1 request; the old file stays, and the space is given back."""
    url = server.on("/f.bin", script)
    strategy = DownloadStrategy(home=small_disk)
    final = Path(strategy.get_file_path(AioDownloadBundle(url)))
    final.parent.mkdir()
    if old is not None:
        final.write_bytes(old)

    bundle = aiodownload.one(url, quick(download=strategy))
    after = aiodownload.one(server.on("/after", ok(b"small enough")), quick(download=strategy))

    assert isinstance(bundle.error, DiskError)
    assert (bundle.error.reason, bundle.error.errno) == ("disk_full", errno.ENOSPC)
    assert "disk_full" in str(bundle.error)
    assert len(server.asked("/f.bin")) == bundle.attempts == 1
    assert after.ok
    left = {path.name: path.read_bytes() for path in final.parent.iterdir()}
    assert left == {"after": b"small enough", **({} if old is None else {"f.bin": old})}


LIMITED = """
import resource, sys
import aiodownload
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
url, home = sys.argv[1:]
bundle = aiodownload.one(url, aiodownload.AioDownload(download_strategy=aiodownload.DownloadStrategy(home=home)))
print(type(bundle.error).__name__, bundle.error.reason, bundle.attempts)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_refused_write_keeps_the_old_file_and_asks_once(server: FaultServer, home: Path) -> None:
    """Row 26 for everybody: a write that the system refuses half-way (EFBIG) ends the same way as a full disk."""
    url = server.on("/f.bin", ok(LARGE))
    final = Path(DownloadStrategy(home=home).get_file_path(AioDownloadBundle(url)))
    final.parent.mkdir(parents=True)
    final.write_bytes(OLD)
    root = Path(aiodownload.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, url, str(home)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.split() == ["DiskError", "EFBIG", "1"]
    assert len(server.requests) == 1
    assert everything_below(home) == {str(final.relative_to(home)): OLD}


# Row 27

SECRETS = {"Authorization": "Bearer hunter2", "Cookie": "session=hunter2", "X-Api-Key": "hunter2"}


def as_bundle_headers(url: str) -> tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]:
    return AioDownloadBundle(url, headers=SECRETS), None


def as_session_headers(url: str) -> tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]:
    return AioDownloadBundle(url), lambda: aiohttp.ClientSession(headers=SECRETS)


def as_session_cookies_and_auth(url: str) -> tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]:
    return AioDownloadBundle(url), lambda: aiohttp.ClientSession(
        cookies={"session": "hunter2"},
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        auth=aiohttp.BasicAuth("user", "hunter2"),
        headers={"X-Api-Key": "hunter2"},
    )


def as_userinfo(url: str) -> tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]:
    return AioDownloadBundle(url.replace("://", "://user:hunter2@")), None


BASIC_AUTH_STILL_WORKS = pytest.mark.filterwarnings(
    "ignore:.*BasicAuth:DeprecationWarning", "ignore:.*auth.*:DeprecationWarning"
)
GIVEN = [as_bundle_headers, as_session_headers, as_session_cookies_and_auth, as_userinfo]


def secrets_in(request: Request) -> list[str]:
    """The header fields that hold a secret."""
    basic = base64.b64encode(b"user:hunter2").decode()
    shown = [f"{name}: {value}" for name, value in request.headers.items()] + [request.target]
    names = [name for name in ("authorization", "cookie", "x-api-key", "referer") if name in request.headers]
    return names + [text for text in shown if "hunter2" in text or basic in text]


def nothing_shown(bundle: AioDownloadBundle) -> bool:
    """Whether no secret is in what people print, log or list."""
    texts = (repr(bundle), bundle.status_msg, bundle.file_path, bundle.final_url, str(bundle.error), repr(bundle.error))
    return not any("hunter2" in str(text) for text in texts)


@BASIC_AUTH_STILL_WORKS
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("given", GIVEN)
def test_no_secret_reaches_another_origin(
    given: Callable[[str], tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]],
    code: int,
    server: FaultServer,
    other_server: FaultServer,
    quick: Callable[..., AioDownload],
) -> None:
    """Row 27: however a caller gives credentials, they reach the origin they were given for and no other."""
    target = other_server.on("/there", ok(SMALL))
    bundle, client = given(server.on("/here", redirect(target, code)))
    aiodownload.one(bundle, quick(client=client))
    assert bundle.ok
    assert secrets_in(server.asked("/here")[0])
    assert secrets_in(other_server.asked("/there")[0]) == []
    assert nothing_shown(bundle)


@BASIC_AUTH_STILL_WORKS
@pytest.mark.parametrize("given", GIVEN)
def test_no_secret_after_a_way_through_another_origin(
    given: Callable[[str], tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]],
    server: FaultServer,
    other_server: FaultServer,
    quick: Callable[..., AioDownload],
) -> None:
    """Row 27, A -> B -> A: what another origin sends the request on to gets no credentials, not even at home."""
    home_again = server.on("/end", ok(SMALL))
    away = other_server.on("/away", redirect(home_again, Set_Cookie="planted=1"))
    bundle, client = given(server.on("/start", redirect(away)))
    aiodownload.one(bundle, quick(client=client))
    assert bundle.ok
    assert secrets_in(server.asked("/start")[0])
    assert secrets_in(other_server.asked("/away")[0]) == []
    assert secrets_in(server.asked("/end")[0]) == []


@BASIC_AUTH_STILL_WORKS
@pytest.mark.parametrize("given", GIVEN)
def test_no_secret_further_on_at_another_origin(
    given: Callable[[str], tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]],
    server: FaultServer,
    other_server: FaultServer,
    quick: Callable[..., AioDownload],
) -> None:
    """Row 27, A -> B -> B and A -> B -> A -> A: once credentials are dropped, no later hop brings them back."""
    other_server.on("/b2", redirect(server.url("/a2")))
    away = other_server.on("/b1", redirect("/b2"))
    server.on("/a2", redirect("/a3"))
    server.on("/a3", ok(SMALL))
    bundle, client = given(server.on("/a1", redirect(away)))
    aiodownload.one(bundle, quick(client=client))
    assert bundle.ok
    assert [request.target for request in other_server.requests] == ["/b1", "/b2"]
    assert [secrets_in(request) for request in other_server.requests] == [[], []]
    assert [secrets_in(request) for request in server.requests[1:]] == [[], []]


@pytest.mark.parametrize("given", [as_bundle_headers, as_session_headers, as_userinfo])
def test_secrets_stay_within_their_origin(
    given: Callable[[str], tuple[AioDownloadBundle, Callable[[], aiohttp.ClientSession] | None]],
    server: FaultServer,
    quick: Callable[..., AioDownload],
) -> None:
    """Row 27, the other side: a redirect within the origin keeps what was given for it."""
    bundle, client = given(server.on("/start", redirect("/end")))
    server.on("/end", ok(SMALL))
    aiodownload.one(bundle, quick(client=client))
    assert bundle.ok
    assert secrets_in(server.asked("/end")[0])


def test_secrets_do_not_follow_to_another_name_of_the_same_host(
    server: FaultServer, quick: Callable[..., AioDownload]
) -> None:
    """Row 27: another spelling of the host is another origin."""
    server.on("/there", ok(SMALL))
    url = server.on("/here", redirect(server.url("/there", host="localhost")))
    bundle = aiodownload.one(AioDownloadBundle(url, headers=SECRETS), quick())
    assert bundle.ok
    assert secrets_in(server.asked("/there")[0]) == []


def test_password_of_a_redirect_is_not_used(
    server: FaultServer, other_server: FaultServer, quick: Callable[..., AioDownload]
) -> None:
    """Row 27: userinfo in a Location is neither sent nor shown."""
    target = other_server.on("/there", ok(SMALL)).replace("://", "://user:hunter2@")
    bundle = aiodownload.one(server.on("/here", redirect(target)), quick())
    assert bundle.ok
    assert secrets_in(other_server.asked("/there")[0]) == []
    assert nothing_shown(bundle)


def test_failed_transfer_tells_no_password(server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """Row 27: a URL with a password that fails shows it nowhere."""
    url = server.on("/here", cut(SMALL, 10)).replace("://", "://user:hunter2@")
    bundle = aiodownload.one(url, quick(Quick(max_attempts=1)))
    assert not bundle.ok
    assert nothing_shown(bundle)


# Rows 28 and 29

DISPOSITIONS = [
    'attachment; filename="../../evil"',
    'attachment; filename="/etc/evil"',
    'attachment; filename="..\\..\\evil"',
    "attachment; filename*=UTF-8''..%2F..%2Fevil",
    'attachment; filename="evil',
    'attachment; filename="a"; filename="../../evil"',
]


@pytest.mark.parametrize("disposition", DISPOSITIONS)
def test_name_comes_from_the_url_not_from_the_server(
    disposition: str, server: FaultServer, home: Path, tmp_path: Path, quick: Callable[..., AioDownload]
) -> None:
    """Row 28: Content-Disposition names no file."""
    url = server.on("/good.bin", ok(SMALL, Content_Disposition=disposition))
    bundle = aiodownload.one(url, quick())
    assert bundle.ok
    assert everything_below(tmp_path) == {f"home/127.0.0.1+{server.port}/good.bin": SMALL}


def test_name_comes_from_the_url_not_from_a_redirect(
    server: FaultServer, tmp_path: Path, quick: Callable[..., AioDownload]
) -> None:
    """Row 28, by other means: the target of a redirect names no file either."""
    server.on("/.bashrc", ok(SMALL))
    bundle = aiodownload.one(server.on("/good.bin", redirect("/.bashrc")), quick())
    assert bundle.ok
    assert everything_below(tmp_path) == {f"home/127.0.0.1+{server.port}/good.bin": SMALL}


ESCAPES = [
    "/..%2F..%2Fe4",
    "/%2e%2e/e4",
    "/a%5c..%5c..%5ce4",
    "/%252e%252e%252fe4",
    "//..//..//e4",
    "/a/./b/../../../../e4",
    "/%c0%ae%c0%ae/e4",
    "/%2Fetc%2Fe4",
    "/..%00/e4",
    "/~/.ssh/e4",
    "/?/../../e4",
    "/e4%0d%0aX",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_url_leads_out_of_home(
    path: str, server: FaultServer, home: Path, tmp_path: Path, quick: Callable[..., AioDownload]
) -> None:
    """Row 29: dots and slashes in a URL, encoded or not, lead to one file below home and nowhere else."""
    server.default = ok(SMALL)
    bundle = aiodownload.one(server.url(path), quick())
    assert bundle.ok
    assert list(everything_below(tmp_path).values()) == [SMALL]
    assert bundle.file_path is not None
    assert Path(bundle.file_path).resolve().is_relative_to(home.resolve())
    assert Path(bundle.file_path).read_bytes() == SMALL
    assert all(char.isprintable() for char in bundle.file_path)


def test_whole_matrix_at_once(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """All rows in one swarm: none hurts another, and every URL has exactly one outcome."""
    expected = {}
    for row, build in ROWS.items():
        scripts, right, _ = build(SMALL)
        expected[server.on("/" + row.replace(" ", "-").replace(",", ""), *scripts)] = right
    bundles = asyncio.run(quick(Quick(concurrent=4, max_attempts=2, timeout=5)).swarm(expected))
    outcomes = {}
    for bundle in bundles:
        assert bundle.file_path is not None
        outcomes[bundle.url] = Path(bundle.file_path).read_bytes() if bundle.ok else None
    assert outcomes == expected
    assert len(everything_below(home)) == sum(right is not None for right in expected.values())


@pytest.mark.parametrize(
    "fields",
    [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: ",
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_no_other_framing_is_believed(fields: str, strict: bool, server: FaultServer, home: Path) -> None:
    """R2, R3, S25: what is not plainly chunked would end with the connection, cut or not, and prove nothing."""
    head = f"HTTP/1.1 200 OK\r\n{fields}\r\nConnection: close\r\n\r\n".encode()
    url = server.on("/f", raw(head + SMALL[:1000]))
    strategy = DownloadStrategy(home=home, strict=strict)
    bundle = aiodownload.one(url, AioDownload(None, strategy, Quick(2, timeout=5)))
    assert not bundle.ok
    assert everything_below(home) == {}


def test_a_coded_transfer_is_not_kept_coded(server: FaultServer, home: Path) -> None:
    """Nobody has asked for a coding of the transfer (TE), and nobody takes it off."""
    packed = gzip.compress(SMALL)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    url = server.on("/f", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + chunks))
    bundle = aiodownload.one(url, AioDownload(None, DownloadStrategy(home=home), Quick(2, timeout=5)))
    assert not bundle.ok
    assert everything_below(home) == {}
