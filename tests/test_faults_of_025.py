"""The 28 known faults of aiodownload 0.2.5, B1 to B28: each test fails on what that release did."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Quick
from yarl import URL

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    BackOff,
    ConnectError,
    DownloadStrategy,
    Lenient,
    RequestStrategy,
    Status,
    StatusError,
    StrategyError,
    Verified,
)
from aiodownload.storage import folder, part
from aiodownload.testing import (
    FaultServer,
    Request,
    Script,
    chunked,
    cut,
    drop,
    each_path,
    ok,
    raw,
    reset,
    slow,
    stall,
    status,
)

Make = Callable[..., AioDownload]
Files = Callable[[], dict[str, bytes]]

PROJECT = Path(__file__).resolve().parents[1]


class Paced(RequestStrategy):
    """Starts 0.1 s apart, no waits between tries."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 0.1 if bundle.attempts == 0 else 0


class Patient(Lenient):
    """Lenient with waits of 0.4 s between tries and none between starts."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 0.4 if bundle.attempts else 0


class QuickBackOff(BackOff):
    """BackOff without its waits."""

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return 0


def echo(server: FaultServer) -> None:
    """Answer every path with its own target, so that a file tells which URL it came from."""
    server.default = each_path(lambda request: ok(request.target.encode("latin-1")))


def together(server: FaultServer, number: int) -> Script:
    """An answer that waits, for a while, until so many requests are being answered at once."""

    async def script(request: Request, connection: Any) -> bool:
        for _ in range(30):
            if server.active >= number:
                break
            await asyncio.sleep(0.005)
        return await ok(b"x")(request, connection)

    return script


def below(folder: Path) -> list[str]:
    """Every file below ``folder``."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# B1


def test_b01_lenient_has_its_retries(server: FaultServer, quick: Make) -> None:
    """``Lenient(max_attempts=5)`` makes five tries; 0.2.5 took the 5 for ``concurrent`` and made one."""
    bundle = aiodownload.one(server.on("/x", status(503)), quick(Quick(max_attempts=5)))
    assert bundle.attempts == len(server.asked("/x")) == 5
    assert not bundle.ok


def test_b01_lenient_asks_two_at_once(server: FaultServer, quick: Make) -> None:
    """``Lenient(max_attempts=5)`` makes two requests at once, not five."""
    server.default = together(server, 3)
    bundles = aiodownload.swarm([server.url(f"/{number}") for number in range(6)], quick(Quick(max_attempts=5)))
    assert all(bundle.ok for bundle in bundles)
    assert server.most_active == 2


# B2


def test_b02_back_off_has_its_retries(server: FaultServer, quick: Make) -> None:
    """``BackOff(10)`` tries ten times; in 0.2.5 it had no attempts, and its ``retry`` was False."""
    bundle = aiodownload.one(server.on("/x", status(503)), quick(QuickBackOff(10)))
    assert bundle.attempts == len(server.asked("/x")) == 10


def test_b02_back_off_backs_off(server: FaultServer, quick: Make) -> None:
    """BackOff waits half a second before its second try, and that one succeeds."""
    bundle = aiodownload.one(server.on("/x", status(503), ok(b"fine")), quick(BackOff()))
    first, second = server.asked("/x")
    assert bundle.ok
    assert bundle.attempts == 2
    assert 0.45 <= second.at - first.at < 5


def test_b02_back_off_asks_two_at_once(server: FaultServer, quick: Make) -> None:
    """``BackOff(10)`` makes two requests at once, not ten."""
    server.default = together(server, 3)
    aiodownload.swarm([server.url(f"/{number}") for number in range(6)], quick(QuickBackOff(10)))
    assert server.most_active == 2


# B3


def test_b03_a_400_is_unsuccessful(server: FaultServer, quick: Make, files: Files) -> None:
    """400 itself counts as unsuccessful, and leaves no file as 0.2.5 did."""
    bundle = aiodownload.one(server.on("/x", status(400, b"bad")), quick(RequestStrategy()))
    assert isinstance(bundle.error, StatusError)
    assert bundle.http_status == bundle.error.http_status == 400
    assert not files()


@pytest.mark.parametrize("documented", [RequestStrategy.assert_response, Lenient])
def test_b03_the_documents_say_so(documented: object) -> None:
    """What is documented is what is done: 400 and above, where 0.2.5 said "greater than 400"."""
    text = inspect.getdoc(documented)
    assert text is not None
    assert ">= 400" in text


# B4


def refused() -> str:
    """A URL at which nobody listens."""
    with FaultServer() as gone:
        return gone.url("/refused")


def test_b04_one_broken_url_hurts_no_other(server: FaultServer, quick: Make) -> None:
    """Refused, dropped, reset, cut, not HTTP, silent: each is a failed bundle, and all the others are done."""
    broken = [
        refused(),
        server.on("/drop", drop()),
        server.on("/reset", reset()),
        server.on("/cut", cut(b"x" * 1000, 10)),
        server.on("/cut-hard", cut(b"x" * 1000, 10, rst=True)),
        server.on("/nonsense", raw(b"SSH-2.0-OpenSSH\r\n\r\n")),
        server.on("/silent", stall()),
        server.on("/half", stall(b"x" * 1000, 10)),
        "not a URL",
        "ftp://127.0.0.1/x",
        "http://",
    ]
    good = [server.on(f"/good{number}", ok(b"good")) for number in range(12)]
    urls = [url for pair in itertools.zip_longest(good, broken) for url in pair if url is not None]
    bundles = aiodownload.swarm(urls, quick(RequestStrategy(4, timeout=0.3)))
    assert [bundle.url for bundle in bundles] == urls
    for bundle in bundles:
        assert bundle.ok == (bundle.url in good)
        assert (bundle.error is None) == bundle.ok
        assert bundle.status is (Status.DONE if bundle.ok else Status.FAILED)


def test_b04_transport_errors_are_tried_again(server: FaultServer, quick: Make) -> None:
    """A connection that breaks is tried again; in 0.2.5 it ended the whole swarm."""
    bundle = aiodownload.one(server.on("/x", drop(), reset(), cut(b"whole", 2), ok(b"whole")), quick())
    assert bundle.ok
    assert bundle.attempts >= 3  # aiohttp may repeat a request on a dead kept-alive connection by itself


def threaded_session() -> aiohttp.ClientSession:
    """A session that looks names up in threads, as aiohttp does where its fast resolver is not installed."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver()))


@pytest.mark.parametrize("client", [None, threaded_session])
@pytest.mark.parametrize("host", ["x..y", "a" * 64 + ".test"], ids=["empty label", "long label"])
def test_b04_a_host_that_cannot_be_looked_up_hurts_no_other(
    server: FaultServer, quick: Make, host: str, client: Any
) -> None:
    """A host name that no resolver takes is a failed bundle, given by the caller or by a redirect."""
    moved = server.on("/moved", status(302, b"", Location=f"http://{host}/"))
    urls = [f"http://{host}/x", moved, server.on("/good", ok(b"good"))]
    bundles = aiodownload.swarm(urls, quick(RequestStrategy(timeout=2), client=client))
    assert [bundle.ok for bundle in bundles] == [False, False, True]


# B5


def test_b05_a_transfer_may_last_longer_than_the_timeout(server: FaultServer, quick: Make, files: Files) -> None:
    """``timeout`` is time without progress: a body that keeps coming is taken for as long as it comes."""
    body = bytes(range(256)) * 100
    bundle = aiodownload.one(server.on("/slow", slow(body, 8, 0.1)), quick(RequestStrategy(timeout=0.5)))
    assert bundle.ok
    assert bundle.elapsed > 0.6
    assert files() == {"slow": body}


def test_b05_silence_ends_a_try(server: FaultServer, quick: Make) -> None:
    """Without progress, the try ends after ``timeout`` seconds and only that bundle fails."""
    bundle = aiodownload.one(server.on("/x", stall(b"x" * 100, 10)), quick(RequestStrategy(timeout=0.2)))
    assert isinstance(bundle.error, aiodownload.StallError)
    assert 0.15 < bundle.elapsed < 5


# B6


def test_b06_starts_lie_apart(server: FaultServer, quick: Make) -> None:
    """The delay lies between any two request starts; in 0.2.5 all slots slept alike and fired together."""
    urls = [server.on(f"/{number}", ok(b"x")) for number in range(5)]
    aiodownload.swarm(urls, quick(Paced(concurrent=5)))
    times = sorted(request.at for request in server.requests)
    assert all(later - earlier > 0.04 for earlier, later in itertools.pairwise(times))
    assert times[-1] - times[0] > 0.36


# B7


def test_b07_a_wait_holds_no_slot(server: FaultServer, quick: Make) -> None:
    """With a single slot, other URLs are fetched while one waits for its next try."""
    urls = [server.on("/busy", status(503), ok(b"x")), *(server.on(f"/{number}", ok(b"x")) for number in range(6))]
    done = [bundle.url for bundle in aiodownload.each(urls, None, quick(Patient(concurrent=1)))]
    assert done == [*urls[1:], urls[0]]
    assert [request.target for request in server.requests] == ["/busy", *(f"/{number}" for number in range(6)), "/busy"]


# B8


def test_b08_a_failure_writes_no_file(server: FaultServer, quick: Make, home: Path) -> None:
    """A failed URL leaves no empty file, so that the next run is no cache hit but fetches."""
    url = server.on("/x", status(500), ok(b"fine"))
    assert not aiodownload.one(url, quick(RequestStrategy())).ok
    assert below(home) == []
    again = aiodownload.one(url, quick(RequestStrategy(), DownloadStrategy(home=home, skip_cached=True)))
    assert again.status is Status.DONE
    assert again.file_path is not None
    assert Path(again.file_path).read_bytes() == b"fine"


# B9


@pytest.mark.parametrize(
    "trouble",
    [
        status(404),
        status(500, b"oops"),
        status(204),
        status(206, b"half"),
        drop(),
        cut(b"x" * 1000, 500),
        stall(b"xx", 1),
        status(302, b"nowhere"),
    ],
    ids=["404", "500", "204", "206", "drop", "cut", "stall", "redirect to nowhere"],
)
def test_b09_a_failure_keeps_the_old_file(server: FaultServer, quick: Make, home: Path, trouble: Script) -> None:
    """A file that was whole before is the same bit for bit after a failure."""
    url = server.on("/x", ok(b"good old bytes"), trouble)
    first = aiodownload.one(url, quick())
    second = aiodownload.one(url, quick(RequestStrategy(timeout=0.3)))
    assert (first.ok, second.ok) == (True, False)
    assert first.file_path is not None
    assert first.file_path == second.file_path
    assert Path(first.file_path).read_bytes() == b"good old bytes"
    assert len(below(home)) == 1


# B10


@pytest.mark.parametrize("rst", [False, True], ids=["closed", "reset"])
def test_b10_a_truncated_body_is_no_file(server: FaultServer, quick: Make, home: Path, rst: bool) -> None:
    """A body that ends early leaves nothing behind, and the next run fetches the whole."""
    body = os.urandom(3_000_000)
    url = server.on("/x", cut(body, 2_500_000, rst=rst), ok(body))
    keep = DownloadStrategy(home=home, skip_cached=True)
    assert not aiodownload.one(url, quick(RequestStrategy(), keep)).ok
    assert below(home) == []
    whole = aiodownload.one(url, quick(RequestStrategy(), keep))
    assert whole.status is Status.DONE
    assert whole.verified is Verified.LENGTH
    assert whole.file_path is not None
    assert Path(whole.file_path).read_bytes() == body
    assert aiodownload.one(url, quick(RequestStrategy(), keep)).status is Status.CACHED


# B11


def test_b11_checks_hold_without_assert_statements(server: FaultServer, home: Path) -> None:
    """Under ``python -O`` a 404 page is still a failure, and no file."""
    program = """
        import sys
        from aiodownload import AioDownload, DownloadStrategy, RequestStrategy, one
        assert False, "-O is not in force"
        bundle = one(sys.argv[1], AioDownload(None, DownloadStrategy(home=sys.argv[2]), RequestStrategy(timeout=5)))
        print(bundle.status.name, bundle.http_status)
    """
    url = server.on("/gone", status(404, b"<html>gone</html>"))
    command = [sys.executable, "-O", "-c", textwrap.dedent(program), url, str(home)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert (told.stdout.split(), told.returncode) == (["FAILED", "404"], 0), told.stderr
    assert below(home) == []


class Careless(DownloadStrategy):
    """Has a bug that is an AssertionError."""

    async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
        raise AssertionError("my own mistake")


def test_b11_an_assertion_of_a_hook_is_a_bug(server: FaultServer, quick: Make, home: Path) -> None:
    """An AssertionError in a user's ``on_success`` is loud; 0.2.5 took it for an unsuccessful response."""
    with pytest.raises(StrategyError, match="my own mistake") as caught:
        aiodownload.one(server.on("/x", ok(b"x")), quick(None, Careless(home=home)))
    assert isinstance(caught.value.__cause__, AssertionError)
    assert len(server.asked("/x")) == 1


# B12


def test_b12_bundles_are_taken_as_they_are(server: FaultServer, quick: Make) -> None:
    """``one(bundle)``, ``swarm([bundle])`` and ``each([bundle])`` fetch the bundle's URL and return the bundle."""
    url = server.on("/x", ok(b"x"))
    bundle = AioDownloadBundle(url)
    assert aiodownload.one(bundle, quick()) is bundle
    assert bundle.ok
    given = [AioDownloadBundle(url), AioDownloadBundle(url)]
    for bundle, taken in zip(given, aiodownload.swarm(given, quick()), strict=True):
        assert taken is bundle
        assert bundle.ok
    assert [bundle.url for bundle in aiodownload.each([AioDownloadBundle(url)], None, quick())] == [url]


def test_b12_bundles_from_a_url_map(server: FaultServer, quick: Make) -> None:
    """A ``url_map`` may make bundles; the item becomes their info."""
    server.on("/7", ok(b"seven"))
    (bundle,) = aiodownload.each([7], lambda number: AioDownloadBundle(server.url(f"/{number}")), quick())
    assert bundle.ok
    assert bundle.info == 7


# B13


@pytest.mark.parametrize("url_map", [None, lambda bundle: bundle], ids=["none", "identity"])
@pytest.mark.parametrize("info", [None, {"row": 1}, 0])
def test_b13_the_info_of_a_bundle_stays(server: FaultServer, quick: Make, url_map: Any, info: object) -> None:
    """A bundle's info is the caller's; it is never replaced by the bundle itself."""
    (bundle,) = aiodownload.each([AioDownloadBundle(server.on("/x", ok()), info)], url_map, quick())
    assert bundle.info is info


def test_b13_an_info_is_not_replaced_by_the_item(server: FaultServer, quick: Make) -> None:
    """A bundle that a ``url_map`` made with an info keeps it; a URL that is its own item gets none."""
    url = server.on("/x", ok())
    (bundle,) = aiodownload.each(["item"], lambda item: AioDownloadBundle(url, "mine"), quick())
    assert bundle.info == "mine"
    assert aiodownload.one(url, quick()).info is None


# B14


def test_b14_params_are_sent(server: FaultServer, quick: Make) -> None:
    """``params`` are the form data of the POST; 0.2.5 sent an empty one."""
    bundle = AioDownloadBundle(server.on("/form", ok(b"answer")), params={"a": "1", "b": ["x y", "\u00e9"]})
    aiodownload.one(bundle, quick())
    (request,) = server.requests
    assert bundle.ok
    assert request.method == "POST"
    assert request.body == b"a=1&b=x+y&b=%C3%A9"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"


# B15


def test_b15_each_yields_as_they_finish(server: FaultServer, quick: Make) -> None:
    """The first outcome comes while another URL is still being fetched."""
    released = threading.Event()

    async def held(request: Request, connection: Any) -> bool:
        while not released.is_set():
            await asyncio.sleep(0.005)
        return await ok(b"late")(request, connection)

    bundles = aiodownload.each([server.on("/late", held), server.on("/early", ok(b"early"))], None, quick())
    first = next(bundles)
    assert first.url.endswith("/early")
    assert server.active == 1
    released.set()
    assert [bundle.url for bundle in bundles] == [server.url("/late")]


def test_b15_each_takes_an_endless_input(server: FaultServer, quick: Make) -> None:
    """An endless iterable is read a little ahead of the work, and leaving early ends the work."""
    echo(server)
    read = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            read.append(number)
            yield server.url(f"/{number}")

    bundles = aiodownload.each(endless(), None, quick())
    taken = [bundle for bundle, _ in zip(bundles, range(20), strict=False)]
    bundles.close()  # type: ignore[attr-defined]
    assert len(taken) == 20
    assert all(bundle.ok for bundle in taken)
    assert len(read) <= 40


def test_b15_swarm_keeps_the_order_of_the_input(server: FaultServer, quick: Make) -> None:
    """``swarm`` works when it is called and returns a list in the order of its input."""
    urls = [server.on("/slow", slow(b"abcd", 4, 0.03)), *(server.on(f"/{number}", ok(b"x")) for number in range(9))]
    bundles = aiodownload.swarm(urls, quick(Quick(concurrent=5)))
    assert isinstance(bundles, list)
    assert len(server.requests) == 10
    assert [bundle.url for bundle in bundles] == urls


# B16


async def test_b16_nothing_to_do_is_done(home: Path) -> None:
    """No URL is no error, in the facade and in the methods."""

    def facade() -> None:
        assert aiodownload.swarm([]) == []
        assert list(aiodownload.each([])) == []
        assert aiodownload.swarm(iter(())) == []

    await asyncio.to_thread(facade)
    async with await asyncio.to_thread(lambda: AioDownload(None, DownloadStrategy(home=home))) as download:
        assert await download.swarm([]) == []
        assert [bundle async for bundle in download.each([])] == []


# B17


async def test_b17_a_session_of_the_caller_stays_open(server: FaultServer, quick: Make) -> None:
    """The caller's session is used, never closed, and serves a second run."""
    url = server.on("/x", ok(b"x"))
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with await asyncio.to_thread(quick, client=session) as download:
                assert (await download.one(url)).ok
            assert not session.closed
    assert len(server.asked("/x")) == 2


def test_b17_a_session_of_ours_is_closed(server: FaultServer, quick: Make) -> None:
    """A session that was made for the run is closed with it, and the same AioDownload serves a second run."""
    made: list[aiohttp.ClientSession] = []

    def client() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession())
        return made[-1]

    download = quick(client=client)
    url = server.on("/x", ok(b"x"))
    for runs in (1, 2):
        assert aiodownload.swarm([url], download)[0].ok
        assert len(made) == runs
        assert all(session.closed for session in made)


# B18


@pytest.mark.parametrize(
    ("path", "name"), [("", "index"), ("/", "index"), ("/a/", "a/index"), ("/a/b/", "a/b/index"), ("/#top", "index")]
)
def test_b18_a_folder_is_index(server: FaultServer, quick: Make, files: Files, path: str, name: str) -> None:
    """A bare host, the root and a trailing slash are a file named ``index``."""
    server.default = ok(b"page")
    bundle = aiodownload.one(server.url(path), quick())
    assert bundle.ok
    assert files() == {name: b"page"}


# B19


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/a/./b/../../../../x",
        "/..%2f..%2f..%2fx",
        "/%2e%2e/%2e%2e/x",
        "/%252e%252e%252fx",
        "/a%5c..%5c..%5cx",
        "//..//..//x",
        "/.../x",
        "/..",
    ],
)
def test_b19_no_url_leads_out_of_home(
    server: FaultServer, quick: Make, tmp_path: Path, home: Path, path: str, encoded: bool
) -> None:
    """Whatever the path: the file lies below home, and nothing else was written."""
    server.default = ok(b"page")
    bundle = aiodownload.one(AioDownloadBundle(URL(server.url("") + path, encoded=encoded)), quick())
    assert bundle.ok, bundle.error
    assert bundle.file_path is not None
    assert os.path.commonpath([home, os.path.realpath(bundle.file_path)]) == str(home)
    assert below(tmp_path) == [os.path.relpath(bundle.file_path, tmp_path)]


# B20


def test_b20_no_credentials_and_no_colon_in_the_path(server: FaultServer, quick: Make, home: Path) -> None:
    """User and password are sent and stand nowhere; the port is part of the folder's name without a colon."""
    server.on("/x.txt", ok(b"x"))
    bundle = aiodownload.one(f"http://user:secret@127.0.0.1:{server.port}/x.txt", quick())
    assert bundle.ok
    assert server.requests[0].headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert below(home) == [os.path.join(f"127.0.0.1+{server.port}", "x.txt")]
    for shown in (bundle.file_path, bundle.status_msg, bundle.final_url, repr(bundle)):
        assert shown is not None
        assert "secret" not in shown
        assert "user" not in shown


# B21


@pytest.mark.parametrize(
    "paths",
    [
        ("/a+b", "/ab"),
        ("/a%20b", "/a20b"),
        ("/x?a=1&b=2", "/x_a_1-b_2", "/x?a_1-b_2"),
        ("/\u65e5\u672c.zip", "/\u4e2d\u56fd.zip"),
        ("/\u65e5\u672c", "/\u4e2d\u56fd", "/"),
        ("/a&b", "/a-b", "/a;b"),
    ],
)
def test_b21_different_urls_are_different_files(server: FaultServer, quick: Make, paths: tuple[str, ...]) -> None:
    """URLs whose spelling 0.2.5 took for one another get a file each, with its own bytes."""
    echo(server)
    urls = [server.url(path) for path in paths]
    bundles = aiodownload.swarm(urls, quick())
    contents = [Path(bundle.file_path or "").read_bytes() for bundle in bundles]
    assert contents == [URL(url).raw_path_qs.encode() for url in urls]
    assert len({bundle.file_path for bundle in bundles}) == len(urls)


def test_b21_the_extension_stays(server: FaultServer, quick: Make) -> None:
    """A name without a letter of ASCII is a file with its extension, not a folder."""
    echo(server)
    bundle = aiodownload.one(server.url("/\u65e5\u672c.zip"), quick())
    assert bundle.ok
    assert (bundle.file_path or "").endswith(".zip")


# B22


@pytest.mark.parametrize("paths", [("/q", "/q/r"), ("/q/r", "/q"), ("/q", "/q/r/s/t"), ("/q/", "/q")])
@pytest.mark.parametrize("at_once", [True, False], ids=["one run", "two runs"])
def test_b22_a_file_and_a_folder_of_one_name(
    server: FaultServer, quick: Make, paths: tuple[str, str], at_once: bool
) -> None:
    """``/q`` and ``/q/r`` are both fetched, in either order, in one run or in two."""
    echo(server)
    urls = [server.url(path) for path in paths]
    portions = [urls] if at_once else [urls[:1], urls[1:]]
    bundles = [bundle for portion in portions for bundle in aiodownload.swarm(portion, quick())]
    assert [bundle.ok for bundle in bundles] == [True, True], [bundle.error for bundle in bundles]
    for bundle, path in zip(bundles, paths, strict=True):
        assert Path(bundle.file_path or "").read_bytes() == path.encode()


@pytest.mark.parametrize("length", [255, 256, 300, 1000])
def test_b22_a_name_of_any_length(server: FaultServer, quick: Make, length: int) -> None:
    """A name longer than a file system takes is cut and marked, and two such names stay apart."""
    echo(server)
    paths = ["/" + "n" * (length - 5) + letter + ".txt" for letter in "ab"]
    bundles = aiodownload.swarm([server.url(path) for path in paths], quick())
    for bundle, path in zip(bundles, paths, strict=True):
        assert bundle.ok, bundle.error
        assert Path(bundle.file_path or "").read_bytes() == path.encode()
        assert (bundle.file_path or "").endswith(".txt")


# B23


def test_b23_a_bundle_given_again_starts_afresh(server: FaultServer, quick: Make) -> None:
    """The second run of a bundle fetches again and counts its own attempts."""
    bundle = AioDownloadBundle(server.on("/x", status(503), status(503), ok(b"one"), ok(b"two")))
    aiodownload.one(bundle, quick())
    assert (bundle.attempts, bundle.status) == (3, Status.DONE)
    aiodownload.one(bundle, quick())
    assert (bundle.attempts, bundle.status) == (1, Status.DONE)
    assert Path(bundle.file_path or "").read_bytes() == b"two"


def test_b23_a_failed_bundle_may_succeed(server: FaultServer, quick: Make) -> None:
    """A bundle that failed is fetched when it is given again, and its error is gone."""
    bundle = AioDownloadBundle(server.on("/x", status(404), ok(b"now")))
    assert not aiodownload.one(bundle, quick()).ok
    assert aiodownload.one(bundle, quick()).ok
    assert bundle.error is None
    assert bundle.http_status == 200


# B24


@pytest.mark.parametrize("ending", ["", os.sep, os.sep * 3, os.sep + "."])
def test_b24_a_trailing_separator_of_home(server: FaultServer, home: Path, ending: str) -> None:
    """However ``home`` is spelled, paths below it have single separators."""
    download = AioDownload(None, DownloadStrategy(home=f"{home}{ending}"), Quick())
    bundle = aiodownload.one(server.on("/x.txt", ok(b"x")), download)
    assert bundle.file_path == os.path.join(home, f"127.0.0.1+{server.port}", "x.txt")
    assert below(home) == [os.path.join(f"127.0.0.1+{server.port}", "x.txt")]


# B25


class Noting:
    """The os module, noting which thread does what."""

    def __init__(self) -> None:
        self.calls: set[tuple[str, str]] = set()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "writev", "fstat", "close", "replace", "unlink", "makedirs"):
            return real

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.calls.add((name, threading.current_thread().name))
            return real(*args, **kwargs)

        return noted


def test_b25_files_are_written_off_the_event_loop(
    server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that may wait for a disk is made in a disk thread, for small files and large ones."""
    noting = Noting()
    monkeypatch.setattr(part, "os", noting)
    monkeypatch.setattr(folder, "os", noting)
    large = bytes(3_000_000)
    scripts = {"small": ok(b"x"), "large": ok(large), "chunked": chunked(large), "cut": cut(b"xy", 1)}
    aiodownload.swarm([server.on(f"/{name}", script) for name, script in scripts.items()], quick(RequestStrategy()))
    assert {name for name, _ in noting.calls} >= {"open", "write", "writev", "fstat", "close", "replace"}
    assert {thread for _, thread in noting.calls if not thread.startswith("aiodownload-disk")} == set()


# B26


def test_b26_works_in_a_script(server: FaultServer, quick: Make) -> None:
    """Without any event loop, on this Python, the facade works."""
    assert aiodownload.one(server.on("/x", ok(b"x")), quick()).ok


def test_b26_works_in_a_thread(server: FaultServer, quick: Make) -> None:
    """In a thread that has no event loop, the facade works."""
    found: list[bool] = []
    download, url = quick(), server.on("/x", ok(b"x"))
    thread = threading.Thread(target=lambda: found.append(aiodownload.one(url, download).ok))
    thread.start()
    thread.join(10)
    assert found == [True]


def test_b26_works_inside_a_running_loop(server: FaultServer, quick: Make, blockbuster: Any) -> None:
    """In a coroutine, as in a notebook, the facade works too, though it blocks the caller's loop."""
    if blockbuster is not None:
        blockbuster.deactivate()
    download, url = quick(), server.on("/x", ok(b"x"))

    async def cell() -> list[bool]:
        bundles = [aiodownload.one(url, download), *aiodownload.swarm([url], download)]
        return [bundle.ok for bundle in [*bundles, *aiodownload.each([url], None, download)]]

    assert asyncio.run(cell()) == [True, True, True]


def test_b26_constructing_needs_no_loop(server: FaultServer, quick: Make) -> None:
    """An AioDownload is made outside of any loop, and its ``main`` of 0.2.5 works in two loops, one after another."""
    download, url = quick(), server.on("/x", ok(b"x"))
    for _ in range(2):
        bundle = asyncio.run(download.main(AioDownloadBundle(url)))
        assert bundle.ok


# B27


def test_b27_success_is_public(server: FaultServer, quick: Make) -> None:
    """A success tells its status, HTTP status, size, time, headers, and proof of wholeness."""
    bundle = aiodownload.one(server.on("/x", ok(b"twelve bytes", X_Kind="plain")), quick())
    assert bundle.ok
    assert bundle.status is Status.DONE
    assert (bundle.error, bundle.http_status, bundle.size, bundle.attempts) == (None, 200, 12, 1)
    assert bundle.verified is Verified.LENGTH
    assert bundle.final_url == bundle.url
    assert bundle.response_headers is not None
    assert bundle.response_headers["x-kind"] == "plain"
    assert 0 < bundle.elapsed < 10
    assert bundle.status_msg.endswith("Status: File written]")


def test_b27_failure_is_public(server: FaultServer, quick: Make) -> None:
    """A failure tells its reason as an exception, and its HTTP status if there was one."""
    gone, nobody = aiodownload.swarm([server.on("/x", status(404)), refused()], quick(RequestStrategy()))
    assert not gone.ok
    assert isinstance(gone.error, StatusError)
    assert gone.http_status == 404
    assert gone.status_msg.endswith("Status: Download failed]")
    assert isinstance(nobody.error, ConnectError)
    assert nobody.http_status is None


# B28


@pytest.fixture
def project() -> dict[str, Any]:
    """The project's metadata."""
    return tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))


def test_b28_the_license_is_there(project: dict[str, Any]) -> None:
    """Every license file that the metadata names exists and says something."""
    assert project["project"]["license-files"]
    for name in project["project"]["license-files"]:
        assert (PROJECT / name).stat().st_size > 100


def test_b28_the_readme_is_there(project: dict[str, Any]) -> None:
    """The page that the package index shows exists."""
    assert (PROJECT / project["project"]["readme"]).stat().st_size > 100


def test_b28_one_wheel_for_every_python_3(project: dict[str, Any]) -> None:
    """The wheel is pure, for any Python 3: no tag of a single version, no code but ours and the pytest plugin."""
    assert project["build-system"]["build-backend"] == "hatchling.build"
    assert project["project"]["requires-python"] == ">=3.11"
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["aiodownload", "_aiodownload_pytestplugin.py"]
    assert (PROJECT / "aiodownload" / "py.typed").exists()


def test_b28_the_version_is_told_once(project: dict[str, Any]) -> None:
    """The version comes from the package itself and is newer than 0.2.5."""
    assert project["project"]["dynamic"] == ["version"]
    assert (PROJECT / project["tool"]["hatch"]["version"]["path"]).exists()
    assert tuple(int(part) for part in aiodownload.__version__.split(".")[:2]) > (0, 2)


def test_b28_the_commands_lead_somewhere(project: dict[str, Any]) -> None:
    """Every command that is installed names a function that exists."""
    for place in project["project"]["scripts"].values():
        module, _, function = place.partition(":")
        file = PROJECT.joinpath(*module.split(".")).with_suffix(".py")
        assert f"def {function}(" in file.read_text("utf-8")


def test_b28_the_examples_can_be_imported() -> None:
    """There are examples, and their names are module names; those of 0.2.5 began with digits."""
    names = [path.stem for path in (PROJECT / "examples").glob("*.py")]
    assert names
    assert all(name.isidentifier() for name in names)
