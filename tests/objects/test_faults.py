"""Whatever breaks, no wrong object appears, an old one stays as it was, and no upload waits for ever."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest
from shelves import Shelf

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    BodyError,
    CodingError,
    DigestError,
    DiskError,
    DownloadStrategy,
    HomeError,
    RequestStrategy,
    StoreError,
    TooLargeError,
)
from aiodownload.storage import upload
from aiodownload.testing import (
    Connection,
    FaultServer,
    Request,
    Script,
    chunked,
    cut,
    gzipped,
    ok,
    reset,
    slow,
    stall,
    status,
    until_close,
    wrong_length,
)

pytest.importorskip("obstore", reason="the extra objects is not installed")

MIB = 1 << 20
BODY = Random(1).randbytes(20 * MIB)
SMALL = BODY[:3000]
OLD = b"the old object"


def encoded(body: bytes, cut: int) -> Script:
    """Compressed, and without its last bytes, which the length does not betray."""
    return gzipped(body, cut=-cut)


FAULTS: dict[str, tuple[Callable[[bytes], Script], dict[str, object]]] = {
    "cut": (lambda body: cut(body, len(body) - 1), {}),
    "reset": (lambda body: cut(body, len(body) // 2, rst=True), {}),
    "no last chunk": (lambda body: chunked(body, end=False), {}),
    "short": (lambda body: wrong_length(body, len(body) + 1), {}),
    "too large": (lambda body: ok(body), {"max_bytes": 2999}),
    "too large, not declared": (lambda body: chunked(body), {"max_bytes": 2999}),
    "nothing proves it": (lambda body: until_close(body), {"strict": True}),
    "wrong announcement": (lambda body: ok(body, Repr_Digest="sha-256=:" + "A" * 43 + "=:"), {}),
    "stalls": (lambda body: stall(body, len(body) - 1), {}),
    "no answer": (lambda _: reset(), {}),
    "an error page": (lambda body: status(500, body), {}),
    "encoded, cut": (lambda body: encoded(body, 9), {}),
    "a part nobody asked for": (lambda body: status(206, body, Content_Range=f"bytes 0-{len(body) - 1}/*"), {}),
}


@pytest.mark.parametrize(
    ("size", "old"),
    [
        ("small", False),
        ("large", True),
        pytest.param("small", True, marks=pytest.mark.slow),
        pytest.param("large", False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_wrong_object(s3_shelf: Shelf, server: FaultServer, fault: str, old: bool, size: str) -> None:
    """A body that is not whole, or not the right one, leaves the place as it was."""
    answer, settings = FAULTS[fault]
    url = server.on("/file.bin", answer(BODY if size == "large" else SMALL))
    before = {}
    if old:
        s3_shelf.put(f"{s3_shelf.home}/127.0.0.1+{server.port}/file.bin", OLD)
        before = {"file.bin": OLD}
    request = RequestStrategy(timeout=0.5)
    bundle = aiodownload.one(url, s3_shelf.download(s3_shelf.strategy(**settings), request))
    assert not bundle.ok
    assert not isinstance(bundle.error, DiskError)
    assert s3_shelf.objects() == before
    assert s3_shelf.uploads() == []


@pytest.mark.parametrize("body", [SMALL, BODY], ids=["small", "large"])
def test_a_wrong_digest(shelf: Shelf, server: FaultServer, body: bytes) -> None:
    """All bytes have gone to the store when it is found out, and none is ever to be seen."""
    shelf.put(f"{shelf.home}/127.0.0.1+{server.port}/file.bin", OLD)
    url = server.on("/file.bin", ok(body))
    bundle = aiodownload.one(AioDownloadBundle(url, digest="sha256:" + "0" * 64), shelf.download())
    assert isinstance(bundle.error, DigestError)
    assert shelf.objects() == {"file.bin": OLD}
    assert shelf.uploads() == []


def test_surplus_bytes_are_left_out(s3_shelf: Shelf, server: FaultServer) -> None:
    """More than the declared length: exactly so many are the file."""
    url = server.on("/file.bin", wrong_length(BODY, len(BODY) - 5))
    bundle = aiodownload.one(url, s3_shelf.download())
    assert bundle.ok
    assert s3_shelf.objects() == {"file.bin": BODY[:-5]}


def test_a_decoder_that_is_not_at_its_end(memory: Shelf, server: FaultServer) -> None:
    """What kind of failure it is."""
    bundle = aiodownload.one(server.on("/text", encoded(BODY, 9)), memory.download())
    assert isinstance(bundle.error, CodingError)
    assert memory.objects() == {}


def test_cut_once(shelf: Shelf, server: FaultServer) -> None:
    """The body comes afresh, without a Range: nothing of a broken upload is there to go on with."""
    url = server.on("/file.bin", cut(BODY, 15 * MIB, ETag='"a"', Accept_Ranges="bytes"), ok(BODY, ETag='"a"'))
    bundle = aiodownload.one(url, shelf.download())
    assert (bundle.ok, bundle.attempts) == (True, 2)
    assert shelf.objects() == {"file.bin": BODY}
    assert all("range" not in request.headers for request in server.requests)


def test_what_is_wrong_is_told(memory: Shelf, server: FaultServer) -> None:
    """The same errors as for files."""
    cases = [(cut(SMALL, 10), BodyError, {}), (ok(SMALL), TooLargeError, {"max_bytes": 10})]
    for number, (answer, kind, settings) in enumerate(cases):
        bundle = aiodownload.one(server.on(f"/{number}", answer), memory.download(memory.strategy(**settings)))
        assert isinstance(bundle.error, kind)


async def test_cancelled_at_every_moment(s3_shelf: Shelf, server: FaultServer) -> None:
    """Whenever a download is cancelled, there is no object or a whole one, and no upload waits."""
    url = server.on("/file.bin", slow(BODY, 20, 0.01))
    for pause in (0.05, 0.15, 0.25, 0.3, 0.4):
        async with s3_shelf.download() as download:
            task = asyncio.ensure_future(download.one(url))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.wait([task])
        assert await asyncio.to_thread(s3_shelf.objects) in ({}, {"file.bin": BODY})
        assert await asyncio.to_thread(s3_shelf.uploads) == []


def test_past_the_deadline(s3_shelf: Shelf, server: FaultServer) -> None:
    """A deadline ends an upload as everything else."""
    url = server.on("/file.bin", slow(BODY, 20, 0.1))
    bundle = aiodownload.one(url, s3_shelf.download(request=RequestStrategy(deadline=0.6)))
    assert isinstance(bundle.error, aiodownload.DeadlineError)
    assert s3_shelf.objects() == {}
    assert s3_shelf.uploads() == []


def test_more_parts_than_a_store_takes(memory: Shelf, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a declared length nobody can choose larger parts: it fails, and says why."""
    monkeypatch.setattr(upload, "MOST_PARTS", 2)
    bundles = aiodownload.swarm(
        [server.on("/chunked", chunked(BODY)), server.on("/declared", ok(BODY))], memory.download()
    )
    assert isinstance(bundles[0].error, StoreError)
    assert "its length was not declared" in str(bundles[0].error)
    assert memory.objects() == {"declared": BODY}


# A store that fails.


class Refusing(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the store, but for those that are to fail."""

    protocol_version = "HTTP/1.1"
    endpoint = ""
    refuse: Callable[[str, str], tuple[int, str] | None]

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        refusal = type(self).refuse(self.command, self.path)
        if refusal is not None:
            code, word = refusal
            text = f"<?xml version='1.0'?><Error><Code>{word}</Code><Message>open-sesame</Message></Error>".encode()
            self._send(code, {"Content-Type": "application/xml"}, text)
            return
        store = http.client.HTTPConnection(self.endpoint.removeprefix("http://"), timeout=20)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        try:
            store.request(self.command, self.path, body if length else None, headers)
            answer = store.getresponse()
            self._send(answer.status, dict(answer.headers), answer.read())
        finally:
            store.close()

    def _send(self, code: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(code)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header(
            "Content-Length", headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def failing(s3_shelf: Shelf) -> Iterator[type[Refusing]]:
    """A store that fails as it is told by ``refuse``; the shelf's downloads go there."""

    class Handler(Refusing):
        endpoint = s3_shelf.endpoint
        refuse = staticmethod(lambda method, path: None)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    s3_shelf.options = {
        **s3_shelf.options,
        "endpoint": f"http://127.0.0.1:{server.server_port}",
        "max_retries": "1",
        "retry_timeout": "5",
    }
    yield Handler
    server.shutdown()
    server.server_close()
    thread.join()


WRITES = {
    "at once": (SMALL, lambda method, path: method == "PUT" and "uploadId" not in path),
    "at the start": (BODY, lambda method, path: method == "POST" and "?uploads" in path),
    "a part": (BODY, lambda method, path: method == "PUT" and "partNumber=2" in path),
    "at the end": (BODY, lambda method, path: method == "POST" and "uploadId" in path),
}


REFUSALS = [(403, "AccessDenied"), (503, "SlowDown"), (507, "InsufficientStorage")]
A_FEW = {("at once", 403), ("at the start", 507), ("a part", 503), ("at the end", 403)}


@pytest.mark.parametrize(
    ("when", "refusal"),
    [
        pytest.param(when, refusal, marks=[] if (when, refusal[0]) in A_FEW else pytest.mark.slow)
        for when in WRITES
        for refusal in REFUSALS
    ],
)
def test_a_store_that_refuses(
    s3_shelf: Shelf, failing: type[Refusing], server: FaultServer, when: str, refusal: tuple[int, str]
) -> None:
    """The bundle fails after one request for it, the old object stays, the others go on, and nothing is told."""
    body, hits = WRITES[when]
    failing.refuse = staticmethod(lambda method, path: refusal if "file.bin" in path and hits(method, path) else None)
    place = f"{s3_shelf.home}/127.0.0.1+{server.port}/file.bin"
    s3_shelf.put(place, OLD)
    urls = [server.on("/file.bin", ok(body)), server.on("/other.bin", ok(body))]
    bundles = aiodownload.swarm(urls, s3_shelf.download())
    error = bundles[0].error
    assert isinstance(error, StoreError)
    assert isinstance(error, DiskError)
    assert (error.path, error.detail.rpartition(" ")[2], error.reason) == (place, refusal[1], "store_error")
    assert str(refusal[0]) in str(error)
    assert "open-sesame" not in f"{error!r} {error} {error.__cause__} {bundles[0]!r}"
    assert (error.__cause__, error.__context__) == (None, None)
    assert bundles[0].attempts == 1
    assert bundles[1].ok
    assert s3_shelf.objects() == {"file.bin": OLD, "other.bin": body}
    if when != "at the end":  # to that a store may have said no after it had said yes: obstore does not abort it
        assert s3_shelf.uploads() == []


def test_a_store_that_is_busy_for_a_while(s3_shelf: Shelf, failing: type[Refusing], server: FaultServer) -> None:
    """503 SlowDown is waited for, and the server of the file is not asked again."""
    left = [3]

    def busy(method: str, path: str) -> tuple[int, str] | None:
        left[0] -= method == "PUT"
        return (503, "SlowDown") if method == "PUT" and left[0] >= 0 else None

    failing.refuse = staticmethod(busy)
    s3_shelf.options["max_retries"] = "10"
    bundle = aiodownload.one(server.on("/file.bin", ok(BODY)), s3_shelf.download())
    assert (bundle.ok, bundle.attempts) == (True, 1)
    assert s3_shelf.objects() == {"file.bin": BODY}


def test_no_bucket(s3_shelf: Shelf, server: FaultServer) -> None:
    """Said before anything is asked."""
    url = server.on("/file.bin", ok(SMALL))
    strategy = DownloadStrategy(home="s3://there-is-none/x", store_options=s3_shelf.options)
    with pytest.raises(HomeError, match="NoSuchBucket"):
        aiodownload.one(url, AioDownload(download_strategy=strategy))
    assert server.requests == []


def test_wrong_credentials(s3_shelf: Shelf, failing: type[Refusing], server: FaultServer) -> None:
    """Said before anything is asked; a mere refusal to read is not taken for that."""
    url = server.on("/file.bin", ok(SMALL))
    failing.refuse = staticmethod(lambda method, path: (403, "InvalidAccessKeyId") if method == "GET" else None)
    with pytest.raises(HomeError, match=r"403 Forbidden InvalidAccessKeyId") as caught:
        aiodownload.one(url, s3_shelf.download())
    assert "AKIDforTests" not in str(caught.value)
    assert server.requests == []
    failing.refuse = staticmethod(lambda method, path: (403, "AccessDenied") if method == "GET" else None)
    assert aiodownload.one(url, s3_shelf.download()).ok


def test_to_look_is_not_allowed(
    s3_shelf: Shelf, failing: type[Refusing], server: FaultServer, caplog: pytest.LogCaptureFixture, journal: str
) -> None:
    """Nothing counts as there, one warning says so, and what is written is right all the same."""
    urls = [server.on(f"/{name}", ok(SMALL)) for name in "ab"]
    failing.refuse = staticmethod(lambda method, path: (403, "AccessDenied") if method in ("GET", "HEAD") else None)
    for skip in (False, True):
        strategy = s3_shelf.strategy(skip_cached=skip)
        bundles = aiodownload.swarm(urls, s3_shelf.download(strategy, journal=journal))
        assert [bundle.status.name for bundle in bundles] == ["DONE", "DONE"]
    assert [record.message for record in caplog.records].count(
        f"{s3_shelf.home} does not tell which objects are there (403 Forbidden): none is taken for there"
    ) == 1
    assert s3_shelf.objects() == {"a": SMALL, "b": SMALL}


async def test_left_while_it_is_asked(s3_shelf: Shelf, server: FaultServer) -> None:
    """A store that does not answer the first question holds nobody up who leaves."""
    with FaultServer() as store:
        store.default = stall()
        options = {**s3_shelf.options, "endpoint": store.url("").rstrip("/")}
        strategy = DownloadStrategy(home=s3_shelf.home, store_options=options)
        async with AioDownload(download_strategy=strategy) as download:
            task = asyncio.ensure_future(download.one(server.on("/x", ok(SMALL))))
            while not store.requests:
                await asyncio.sleep(0.01)
            began = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
        assert time.monotonic() - began < 5
    assert server.requests == []


def test_nobody_there(s3_shelf: Shelf, server: FaultServer) -> None:
    """A wrong endpoint is found out in seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    strategy = DownloadStrategy(home=s3_shelf.home, store_options={**s3_shelf.options, "endpoint": endpoint})
    began = time.monotonic()
    with pytest.raises(HomeError, match="it cannot be reached"):
        aiodownload.one(server.on("/x", ok(SMALL)), AioDownload(download_strategy=strategy))
    assert time.monotonic() - began < 15
    plain = DownloadStrategy(home=s3_shelf.home, store_options={**s3_shelf.options, "allow_http": "false"})
    with pytest.raises(HomeError, match="set allow_http to true"):
        aiodownload.one(server.url("/x"), AioDownload(download_strategy=plain))


async def test_a_store_that_hangs(s3_shelf: Shelf, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """To leave does not wait for it for ever."""
    monkeypatch.setattr(upload, "PATIENCE", 0.5)
    held = threading.Event()

    async def hang(request: Request, connection: Connection) -> bool:
        if request.method == "GET":
            await connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        held.set()
        await asyncio.sleep(30)
        return False

    with FaultServer() as store:
        store.default = hang
        strategy = DownloadStrategy(
            home=s3_shelf.home, store_options={**s3_shelf.options, "endpoint": store.url("").rstrip("/")}
        )
        async with AioDownload(download_strategy=strategy) as download:
            task = asyncio.ensure_future(download.one(server.on("/x", ok(SMALL))))
            await asyncio.to_thread(held.wait, 10)
            began = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
        assert time.monotonic() - began < 5
