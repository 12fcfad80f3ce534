"""The server for tests: every answer comes over the wire as it is named, and every request is noted."""

from __future__ import annotations

import gzip
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest

import aiodownload
from aiodownload import testing
from aiodownload.testing import (
    Connection,
    FaultServer,
    Request,
    Script,
    chunked,
    cut,
    drop,
    each_path,
    gzipped,
    ok,
    ranged,
    raw,
    redirect,
    reset,
    slow,
    stall,
    status,
    until_close,
    wrong_length,
)

BODY = bytes(range(256)) * 16

Answer = tuple[int, dict[str, str], bytes]


def ask(server: FaultServer, path: str, timeout: float = 5, **headers: str) -> Answer:
    """One GET, by the standard library."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return response.status, fields, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("script", "code", "fields", "body"),
    [
        (ok(BODY), 200, {"content-length": "4096"}, BODY),
        (ok(b"{}", Content_Type="application/json"), 200, {"content-type": "application/json"}, b"{}"),
        (status(503, b"busy", Retry_After="7"), 503, {"retry-after": "7"}, b"busy"),
        (status(599), 599, {"content-length": "0"}, b""),
        (redirect("/there", 301), 301, {"location": "/there"}, b"gone"),
        (gzipped(BODY), 200, {"content-encoding": "gzip"}, gzip.compress(BODY, 1, mtime=0)),
        (gzipped(BODY, cut=20), 200, {"content-length": "20"}, gzip.compress(BODY, 1, mtime=0)[:20]),
        (chunked(BODY, size=100), 200, {"transfer-encoding": "chunked"}, BODY),
        (until_close(BODY), 200, {"connection": "close"}, BODY),
        (wrong_length(BODY, 10), 200, {"content-length": "10"}, BODY[:10]),
        (slow(BODY, 3, 0.01), 200, {"content-length": "4096"}, BODY),
        (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, {}, b""),
        (each_path(lambda request: ok(request.path.encode())), 200, {}, b"/x"),
        (ranged(BODY, '"v1"'), 200, {"etag": '"v1"', "accept-ranges": "bytes"}, BODY),
        (ranged(BODY, headers={"ETag": None, "Last_Modified": "then"}), 200, {"last-modified": "then"}, BODY),
        (ranged(BODY, speed=1e9), 200, {}, BODY),
    ],
)
def test_good_answers(server: FaultServer, script: Script, code: int, fields: dict[str, str], body: bytes) -> None:
    """Status, fields and body are what was asked for."""
    server.on("/x?a=b", script)
    told = ask(server, "/x?a=b")
    assert (told[0], told[2]) == (code, body)
    assert fields.items() <= told[1].items()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (cut(BODY, 100), http.client.IncompleteRead),
        (cut(BODY, 100, rst=True), (ConnectionResetError, http.client.IncompleteRead)),
        (wrong_length(BODY, 5000), http.client.IncompleteRead),
        (chunked(BODY, end=False), (http.client.IncompleteRead, ValueError)),
        (ranged(BODY, cut=100), http.client.IncompleteRead),
        (drop(), http.client.RemoteDisconnected),
        (reset(), ConnectionError),
        (stall(), TimeoutError),
        (stall(BODY, 100), TimeoutError),
        (ranged(BODY, cut=100, hold=True), TimeoutError),
        (raw(b"no such protocol\r\n\r\n"), http.client.BadStatusLine),
    ],
)
def test_bad_answers(server: FaultServer, script: Script, error: type[Exception]) -> None:
    """What breaks off, is silent or is no HTTP is so for any client."""
    server.on("/x", script)
    with pytest.raises(error):
        ask(server, "/x", timeout=0.2)


@pytest.mark.parametrize(
    ("asked", "code", "told", "body"),
    [
        ("bytes=10-19", 206, "bytes 10-19/4096", BODY[10:20]),
        ("bytes=4000-", 206, "bytes 4000-4095/4096", BODY[4000:]),
        ("bytes=4000-9999", 206, "bytes 4000-4095/4096", BODY[4000:]),
        ("bytes=-6", 206, "bytes 4090-4095/4096", BODY[-6:]),
        ("bytes=-9999", 200, None, BODY),
        ("bytes=4096-", 416, "bytes */4096", b""),
        ("bytes=-", 200, None, BODY),
        ("lines=1-2", 200, None, BODY),
    ],
)
def test_ranges(server: FaultServer, asked: str, code: int, told: str | None, body: bytes) -> None:
    """A single Range gets just those bytes, or a 416; what is none gets the whole (RFC 9110 section 14)."""
    server.on("/f", ranged(BODY, '"v1"'))
    answer = ask(server, "/f", Range=asked, If_Range='"v1"')
    assert (answer[0], answer[1].get("content-range"), answer[2]) == (code, told, body)
    assert ask(server, "/f", Range=asked, If_Range='"v2"')[::2] == (200, BODY)


def test_one_answer_after_another(server: FaultServer) -> None:
    """Each request gets the next of a path's answers, the last one again and again; other paths are missing."""
    server.on("/x", status(503), ok(b"1"), ok(b"2"))
    assert [ask(server, "/x")[::2] for _ in range(4)] == [(503, b""), (200, b"1"), (200, b"2"), (200, b"2")]
    assert ask(server, "/y")[0] == 404
    server.default = ok(b"all")
    assert ask(server, "/y")[0] == 200
    with pytest.raises(ValueError, match="at least one script"):
        server.on("/z")


def test_requests_are_noted(server: FaultServer) -> None:
    """Method, target, path, headers, body and time of each request, in order."""
    before = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/form?x=1", b"a=b", {"X-Token": "t"})
    connection.getresponse().read()
    connection.close()
    (request,) = server.asked("/form?x=1")
    assert (request.method, request.target, request.path) == ("POST", "/form?x=1", "/form")
    assert (request.headers["x-token"], request.body, request.at_once) == ("t", b"a=b", 1)
    assert before <= request.at <= time.monotonic()
    assert server.asked("/other") == []
    assert repr(server).startswith(f"<FaultServer http://127.0.0.1:{server.port} 1 requests")


def test_a_head_is_answered_by_a_head(server: FaultServer) -> None:
    """HEAD gets the fields of a GET and no body (RFC 9110 section 9.3.2), on one connection."""
    server.on("/x", ok(BODY))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for path, code, length in (("/x", 200, "4096"), ("/none", 404, "13"), ("/x", 200, "4096")):
        connection.request("HEAD", path)
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Length"], response.read()) == (code, length, b"")
    connection.close()
    assert server.connections == 1


def test_how_many_at_once(server: FaultServer) -> None:
    """The server knows how many requests it answers at once, and had at most."""
    go = threading.Event()
    server.on("/x", ranged(BODY, cut=1, until=go))
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, server, "/x") for _ in range(3)]
        until = time.monotonic() + 5
        while server.active < 3 and time.monotonic() < until:
            time.sleep(0.005)
        go.set()
        assert [answer.result()[0] for answer in answers] == [200] * 3
    assert sorted(request.at_once for request in server.requests) == [1, 2, 3]
    assert (server.most_active, server.connections) == (3, 3)


async def test_in_a_coroutine() -> None:
    """It may be used where an event loop runs: it has its own."""
    with FaultServer() as server:
        url = server.on("/x", ok(b"x"))
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.read() == b"x"


def test_url(server: FaultServer) -> None:
    """The URL has the server's port, and the name that is asked for."""
    assert server.url("/x") == f"http://127.0.0.1:{server.port}/x"
    assert server.url("/x", "localhost") == f"http://localhost:{server.port}/x"


async def broken(request: Request, connection: Connection) -> bool:
    """A script with a bug."""
    raise KeyError(request.path)


def test_a_bug_of_a_script_comes_out() -> None:
    """A script that raises closes its connection, and leaving the server raises the same, if nothing else was."""

    def use(then: Callable[[], object]) -> None:
        with FaultServer() as server:
            server.on("/x", broken)
            with pytest.raises(http.client.RemoteDisconnected):
                ask(server, "/x")
            then()

    with pytest.raises(KeyError, match="/x"):
        use(lambda: None)
    with pytest.raises(ZeroDivisionError):
        use(lambda: 1 / 0)


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET", b""])
def test_what_is_no_request_hurts_nothing(server: FaultServer, sent: bytes) -> None:
    """A client that sends nonsense is hung up on."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert server.requests == []


def test_an_address_that_cannot_be_had() -> None:
    """Where it cannot listen, entering raises, and no thread is left."""
    with pytest.raises(OSError, match=r"203\.0\.113\.1"), FaultServer(host="203.0.113.1"):  # RFC 5737: nobody's
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "fault-server"]


def test_leaving_is_silent_and_final() -> None:
    """Left while it is being asked, it says nothing and leaves no thread."""
    program = (
        "import socket, threading, time\n"
        "from aiodownload.testing import FaultServer, slow, stall\n"
        "with FaultServer() as server:\n"
        "    server.on('/a', stall(b'x' * 9, 3)); server.on('/b', slow(b'x' * 9, 9, 9))\n"
        "    clients = [socket.create_connection(('127.0.0.1', server.port)) for _ in range(3)]\n"
        "    for client, path in zip(clients, (b'/a', b'/b', b'/none')):\n"
        "        client.sendall(b'GET ' + path + b' HTTP/1.1\\r\\n\\r\\n'); client.recv(1)\n"
        "[client.close() for client in clients]\n"
        "print(threading.active_count())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-X", "dev", "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_the_export_list_is_exact() -> None:
    """``aiodownload.testing`` exports what is documented, sorted, and says that it is of that module."""
    assert sorted(set(testing.__all__)) == testing.__all__
    for name in testing.__all__:
        if name != "Script":
            assert getattr(testing, name).__module__ == "aiodownload.testing"
            assert getattr(testing, name).__doc__


def test_a_program_is_tested_with_it(server: FaultServer, home: Path, quick: Callable[..., object]) -> None:
    """The whole of it: an answer in two steps, a download, and what the server has seen."""
    url = server.on("/a.csv", status(503), ok(b"a,b\n"))
    bundle = aiodownload.one(url, quick())  # type: ignore[arg-type]
    assert (bundle.ok, bundle.attempts, len(server.asked("/a.csv"))) == (True, 2, 2)
