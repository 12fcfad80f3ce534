"""AioDownloadBundle: what is asked for, what became of it, and what is never shown of it."""

from __future__ import annotations

import gc
import inspect
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from multidict import CIMultiDict
from yarl import URL

import aiodownload
from aiodownload import (
    AioDownloadBundle,
    ConfigurationError,
    DownloadStrategy,
    InvalidURLError,
    RequestStrategy,
    Status,
    StatusError,
    Verified,
)
from aiodownload.testing import FaultServer, cut, drop, ok, redirect, status

NAME, SECRET = "joe-user", "pass-secret"

VALID = [
    f"http://{NAME}:{SECRET}@127.0.0.1/x",
    f"HTTP://{NAME}:{SECRET}@127.0.0.1:81/x?q=1#part",
    f"https://:{SECRET}@127.0.0.1",
    f"http://{NAME}:a:{SECRET}@127.0.0.1/",
    f"http://{NAME}:{SECRET}@@127.0.0.1/",
    f"http://{NAME}:a%40{SECRET}@127.0.0.1/a@b",
    f"  http://{NAME}:{SECRET}@127.0.0.1/x\n",
]
INVALID = [
    f"ftp://{NAME}:{SECRET}@127.0.0.1/x",
    f"http://{NAME}:{SECRET}@",
    f"http://{NAME}:{SECRET}@/x",
    f"http://{NAME}:{SECRET}@[::1/x",
    f"http://{NAME}:{SECRET}@127.0.0.1:99999/",
    f"http://{NAME}:{SECRET}@127.0.0.1:port/",
    f"http://{NAME}:{SECRET}@ho\u2100st/",
    f"http://{NAME}:{SECRET}@h%0d%0aX/",
    f"http://{NAME}:{SECRET}@a b/",
    f"http://{NAME}:{SECRET}@h\\x/",
    f"http:\\\\{NAME}:{SECRET}@127.0.0.1/",
    f"http:{NAME}:{SECRET}@127.0.0.1",
    f"//{NAME}:{SECRET}@127.0.0.1/x",
    f"http://{NAME}:{SECRET}@127.0.0.1/\x07",
]
WRAPPED = [
    f"<http://{NAME}:{SECRET}@127.0.0.1/>",
    f'"http://{NAME}:{SECRET}@127.0.0.1/"',
    f"'http://{NAME}:{SECRET}@127.0.0.1/'",
    f"(http://{NAME}:{SECRET}@127.0.0.1/)",
    f"url=http://{NAME}:{SECRET}@127.0.0.1/",
    f"a.csv http://{NAME}:{SECRET}@127.0.0.1/",
    f"\ufeffhttp://{NAME}:{SECRET}@127.0.0.1/",
    f"\x00http://{NAME}:{SECRET}@127.0.0.1/",
    f"1http://{NAME}:{SECRET}@127.0.0.1/",
]
UNQUOTED = [
    f"http://{NAME}:a/{SECRET}@127.0.0.1/x",
    f"http://{NAME}:a?{SECRET}@127.0.0.1/x",
    f"http://{NAME}:a#{SECRET}@127.0.0.1/x",
    f"http://{NAME}:a\\{SECRET}@127.0.0.1/x",
]


def shown(bundle: AioDownloadBundle) -> str:
    """Everything of a bundle that people get to see, or that goes into a log."""
    error = bundle.error
    outlets = [bundle.status_msg, repr(bundle), str(bundle), f"{bundle}", str(bundle.file_path), str(bundle.final_url)]
    if error is not None:
        outlets += [str(error), repr(error), repr(error.args), repr(vars(error)), repr(pickle.dumps(error))]
    return "\n".join(outlets)


def checked(url: str | URL) -> AioDownloadBundle:
    """A bundle with what is wrong with its URL, as a run would settle it."""
    bundle = AioDownloadBundle(url)
    try:
        bundle._parse()
    except InvalidURLError as error:
        bundle.error, bundle.status = error, Status.FAILED
    return bundle


def test_its_signature_is_the_contract() -> None:
    """url, info and params as in 0.2.5; headers, digest, mirrors and file_path by keyword."""
    parameters = inspect.signature(AioDownloadBundle).parameters
    assert [(name, one.kind.name) for name, one in parameters.items()] == [
        ("url", "POSITIONAL_OR_KEYWORD"),
        ("info", "POSITIONAL_OR_KEYWORD"),
        ("params", "POSITIONAL_OR_KEYWORD"),
        ("headers", "KEYWORD_ONLY"),
        ("digest", "KEYWORD_ONLY"),
        ("mirrors", "KEYWORD_ONLY"),
        ("file_path", "KEYWORD_ONLY"),
    ]


def test_a_new_bundle_has_no_results() -> None:
    """Before any run: no attempts, no path, no error."""
    bundle = AioDownloadBundle("http://h.test/x", 7)
    assert (bundle.url, bundle.info, bundle.params, bundle.headers) == ("http://h.test/x", 7, None, {})
    assert (bundle.attempts, bundle.file_path, bundle.status, bundle.ok) == (0, None, Status.INITIALIZED, False)
    assert (bundle.error, bundle.http_status, bundle.final_url, bundle.response_headers) == (None, None, None, None)
    assert (bundle.size, bundle.verified, bundle.elapsed) == (None, Verified.NONE, 0.0)


def test_the_status_message_is_exact() -> None:
    """The line of 0.2.5, with the text of each status."""
    bundle = AioDownloadBundle("http://h.test/x?a=1", file_path="/home/x")
    for state, text in (
        (Status.INITIALIZED, "Initialized"),
        (Status.ATTEMPTED, "Download attempted"),
        (Status.CACHED, "Cache hit"),
        (Status.DONE, "File written"),
        (Status.FAILED, "Download failed"),
        (Status.CANCELLED, "Cancelled"),
    ):
        bundle.status, bundle.attempts = state, 3
        assert bundle.status_msg == f"[URL: http://h.test/x?a=1, File Path: /home/x, Attempts: 3, Status: {text}]"
    assert len(Status) == 6
    assert (
        AioDownloadBundle("http://h.test/").status_msg
        == "[URL: http://h.test/, File Path: None, Attempts: 0, Status: Initialized]"
    )


@pytest.mark.parametrize("status", Status)
def test_ok_means_that_the_file_is_there(status: Status) -> None:
    """DONE and CACHED are ok, and nothing else is."""
    bundle = AioDownloadBundle("http://h.test/")
    bundle.status = status
    assert bundle.ok is (status in (Status.DONE, Status.CACHED))


def test_the_strongest_proofs_have_names() -> None:
    """The values of Verified."""
    assert [proof.name for proof in Verified] == ["DIGEST", "LENGTH", "FRAMING", "NONE"]


def test_its_repr_tells_what_became_of_it() -> None:
    """The repr holds URL, status, and the error if there is one."""
    bundle = AioDownloadBundle("http://h.test/x")
    assert repr(bundle) == "<AioDownloadBundle 'http://h.test/x' INITIALIZED>"
    bundle.status, bundle.error = Status.FAILED, StatusError("status 404 Not Found", 404)
    assert repr(bundle) == "<AioDownloadBundle 'http://h.test/x' FAILED error='status 404 Not Found'>"


@pytest.mark.parametrize("url", [*VALID, *INVALID])
def test_no_credentials_are_shown(url: str) -> None:
    """User and password stand in no outlet, whether or not the URL is one; the bundle itself keeps the URL as given."""
    bundle = checked(url)
    assert bundle.url == url
    assert (bundle.error is None) == (url in VALID)
    assert bundle.error is None or bundle.error.__context__ is None  # some pickle that as well
    assert SECRET not in shown(bundle)
    if not url.startswith("http:" + NAME):
        assert NAME not in shown(bundle)


@pytest.mark.parametrize("url", WRAPPED)
def test_no_password_is_shown_of_a_url_in_other_text(url: str) -> None:
    """A URL in quotes, in brackets, behind a name or a byte-order mark is none; its password is one all the same."""
    bundle = checked(url)
    assert bundle.error is not None
    assert SECRET not in shown(bundle)


@pytest.mark.parametrize("url", UNQUOTED)
def test_no_password_is_shown_that_was_not_quoted(url: str) -> None:
    """A password with a slash, a question mark or a hash breaks the URL; it is not shown either."""
    bundle = checked(url)
    assert bundle.error is not None
    assert SECRET not in shown(bundle)


def test_no_credentials_are_shown_of_a_parsed_url() -> None:
    """The same for a URL that was given as ``yarl.URL``."""
    bundle = checked(URL(f"http://{NAME}:{SECRET}@127.0.0.1/x"))
    assert SECRET not in shown(bundle)
    assert bundle.status_msg.startswith("[URL: http://127.0.0.1/x, ")


@pytest.mark.parametrize("trouble", ["ok", "status", "drop", "cut", "redirect", "ftp", "circle"])
def test_no_credentials_are_shown_after_a_run(
    server: FaultServer, quick: Any, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    """Whatever becomes of a URL with a password: results, log lines and tracebacks do not show it."""
    scripts = {
        "ok": ok(b"x"),
        "status": status(500),
        "drop": drop(),
        "cut": cut(b"xyz", 1),
        "redirect": redirect(f"http://{NAME}:{SECRET}@127.0.0.1:1/x"),
        "ftp": redirect(f"ftp://{NAME}:{SECRET}@127.0.0.1/x"),
        "circle": redirect("/x"),
    }
    server.on("/x", scripts[trouble])
    with caplog.at_level(logging.DEBUG):
        bundle = aiodownload.one(f"http://{NAME}:{SECRET}@127.0.0.1:{server.port}/x", quick(RequestStrategy(timeout=5)))
    assert bundle.ok is (trouble == "ok")
    everything = shown(bundle) + caplog.text + "".join(map(str, _chain(bundle.error)))
    assert SECRET not in everything
    assert NAME not in everything
    assert bundle.status_msg in caplog.text


def _chain(error: BaseException | None) -> list[str]:
    """The error and its causes, as a traceback would show them."""
    told = []
    while error is not None:
        told.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__
    return told


def test_a_control_character_in_a_url_is_shown_as_an_escape() -> None:
    """No outlet sends ESC, CR, LF or a bidi override to a terminal."""
    bundle = checked("http://h.test/\x1b]0;pwn\x07\r\n\u202e\x9b2J")
    assert bundle.error is not None
    assert not set("\x1b\x07\r\n\u202e\x9b") & set(bundle.status_msg + repr(bundle) + str(bundle.error))


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "\t\n",
        "x",
        "/x",
        "h.test/x",
        "http://",
        "http:///x",
        "http:x",
        "https:",
        "//h.test/x",
        "file:///etc/passwd",
        "ftp://h.test/x",
        "data:text/plain,x",
        "HTTP+UNIX://x/y",
        "mailto:a@h.test",
        "http://[x]/",
        "http://[::1/",
        "http://h.test:99999/",
        "http://h.test:-1/",
        "http://h.test:x/",
        "http://a b/",
        "http://h%2Fevil@/",
        "http://h%00.test/",
        "http://h%0d%0aX: y/",
        "http://h\\evil/",
        "http://h.test/\r\nX: y",
        "http://h.test/\x00",
        "http://h.test\t/",
        "http://h.test/\x7f",
        f"http://{'a' * 254}/",
        "http://\u2100/",
    ],
)
def test_what_is_no_http_url(url: str) -> None:
    """Each is an InvalidURLError that says what would be right, and ``bundle.url`` is the string as given."""
    bundle = checked(url)
    assert isinstance(bundle.error, InvalidURLError)
    assert bundle.url == url
    assert "cannot be downloaded: " in str(bundle.error)


@pytest.mark.parametrize("path", ["/a b", "/a\x00", "/a\x7f", "/ HTTP/1.1"])
def test_a_parsed_url_is_looked_at_too(path: str) -> None:
    """``encoded=True`` says that nothing has to be encoded; a blank in it would end the request's first line early."""
    bundle = checked(URL(f"http://h.test{path}", encoded=True))
    assert isinstance(bundle.error, InvalidURLError)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://h.test", "http://h.test"),
        ("HTTP://H.Test/X", "http://h.test/X"),
        (" http://h.test/x\r\n", "http://h.test/x"),
        ("http://h.test/x#part", "http://h.test/x"),
        ("http://h.test/a b", "http://h.test/a%20b"),
        ("http://b\u00fccher.test/", "http://xn--bcher-kva.test/"),
        ("http://[::1]:81/", "http://[::1]:81/"),
        (URL("http://h.test/%61", encoded=True), "http://h.test/%61"),
    ],
)
def test_what_is_asked_for(url: str | URL, asked: str) -> None:
    """The URL as the one parser reads it, without blanks around it and without its fragment."""
    assert str(checked(url)._parse()) == asked


def test_a_url_may_be_changed() -> None:
    """A new ``url`` is the one that is asked for."""
    bundle = AioDownloadBundle(URL("http://h.test/a"))
    assert bundle._parse().path == "/a"
    bundle.url = "http://h.test/b"
    assert bundle._parse().path == "/b"


@pytest.mark.parametrize(
    "name",
    [
        *("Range", "range", "RANGE", "If-Range", "If-None-Match", "if-modified-since", "If-Match", "If-Anything"),
        *("Accept-Encoding", "Content-Length", "Transfer-Encoding", "Connection"),
    ],
)
def test_headers_that_belong_to_the_library_are_refused(name: str) -> None:
    """Range, If-*, Accept-Encoding and framing would make a whole file out of something else."""
    with pytest.raises(ConfigurationError, match=name):
        AioDownloadBundle("http://h.test/", headers={name: "x"})


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"a b": "x"},
        {"a:": "x"},
        {"a\r\nb": "x"},
        {"\u00e9": "x"},
        {1: "x"},
        {"a": 1},
        {"a": None},
        {"a": b"x"},
        {"a": "x\r\ny: z"},
        {"a": "x\n"},
        {"a": "\0"},
        {"a": "\x7f"},
        {"a": "\x1b[2J"},
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: Any) -> None:
    """A name that is no token and a value with control characters are refused before any socket opens."""
    with pytest.raises(ConfigurationError, match="headers"):
        AioDownloadBundle("http://h.test/", headers=headers)


def test_a_refused_header_does_not_show_its_value() -> None:
    """The message names the header, not what was in it."""
    with pytest.raises(ConfigurationError, match="Authorization") as caught:
        AioDownloadBundle("http://h.test/", headers={"Authorization": f"Basic {SECRET}\n"})
    assert SECRET not in str(caught.value)


def test_headers_are_sent(server: FaultServer, quick: Any) -> None:
    """What is given arrives, a tab and bytes beyond ASCII included; the mapping itself is not kept."""
    given = {"X-Api-Key": "k", "Cookie": "a=b", "X-Tab": "a\tb", "User-Agent": "me/1"}
    bundle = AioDownloadBundle(server.on("/x", ok()), headers=given)
    given["X-Api-Key"] = "changed"
    assert aiodownload.one(bundle, quick()).ok
    sent = server.requests[0].headers
    assert (sent["x-api-key"], sent["cookie"], sent["x-tab"], sent["user-agent"]) == ("k", "a=b", "a\tb", "me/1")
    assert sent["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "params",
    [
        [("a", "1")],
        "a=1",
        b"a=1",
        7,
        {"a": None},
        {"a": {"b": 1}},
        {"a": [None]},
        {"a": [["x"]]},
        {1: "x"},
        {"a": object()},
    ],
)
def test_params_that_cannot_be_sent_are_refused(params: Any) -> None:
    """Form data is a dict of text, numbers, or lists of them."""
    with pytest.raises(ConfigurationError, match="params"):
        AioDownloadBundle("http://h.test/", params=params)


@pytest.mark.parametrize(
    ("params", "body"),
    [
        (None, None),
        ({}, None),
        ({"a": "1"}, b"a=1"),
        ({"a": 1, "b": 1.5}, b"a=1&b=1.5"),
        ({"a": ["1", 2]}, b"a=1&a=2"),
        ({"a": ("x", "y")}, b"a=x&a=y"),
        ({"a b": "c&d=e+f"}, b"a+b=c%26d%3De%2Bf"),
        ({"\u00e9": "\u65e5"}, b"%C3%A9=%E6%97%A5"),
        ({"a": ""}, b"a="),
        ({"a": b"\xff"}, b"a=%FF"),
    ],
)
def test_params_as_a_form(params: Any, body: bytes | None) -> None:
    """The body of the POST (WHATWG URL section 5.2); no params, no POST."""
    assert AioDownloadBundle("http://h.test/", params=params)._form() == body


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_a_bundle_pickles(dumps: Any, server: FaultServer, quick: Any) -> None:
    """A settled bundle arrives in another process with its request and its results, and can be fetched there."""
    url = server.on("/x", status(404, b"", X_Kind="y"), ok(b"now"))
    bundle = AioDownloadBundle(url, {"row": 1}, {"a": "1"}, headers={"X-Key": "k"})
    aiodownload.one(bundle, quick())
    copy = pickle.loads(dumps(bundle))
    assert (copy.url, copy.info, copy.params, copy.headers) == (url, {"row": 1}, {"a": "1"}, {"X-Key": "k"})
    assert (copy.status, copy.http_status, copy.attempts, copy.file_path) == (Status.FAILED, 404, 1, bundle.file_path)
    assert (type(copy.error), copy.error.args) == (StatusError, bundle.error.args)  # type: ignore[union-attr]
    assert copy.response_headers == bundle.response_headers
    assert isinstance(copy.response_headers, CIMultiDict)
    assert copy.response_headers["x-kind"] == "y"
    assert copy.status_msg == bundle.status_msg
    assert aiodownload.one(copy, quick()).ok


def test_a_bundle_of_a_parsed_url_pickles() -> None:
    """The encoding that the caller chose with ``yarl.URL`` arrives as well."""
    copy = pickle.loads(pickle.dumps(AioDownloadBundle(URL("http://h.test/%61", encoded=True))))
    assert copy._parse().raw_path == "/%61"


def test_a_bundle_given_again_starts_afresh(server: FaultServer, quick: Any) -> None:
    """Every result of the first run is forgotten when the second one begins; the request is kept."""
    bundle = AioDownloadBundle(server.on("/x", status(503), ok(b"first")), "info", headers={"X-Key": "k"})
    aiodownload.one(bundle, quick())
    assert (bundle.ok, bundle.attempts, bundle.size) == (True, 2, 5)
    path, server_url = bundle.file_path, bundle.url
    server.on("/x", drop())
    aiodownload.one(bundle, quick(RequestStrategy()))
    assert (bundle.status, bundle.attempts, bundle.http_status, bundle.size) == (Status.FAILED, 1, None, None)
    assert (bundle.final_url, bundle.response_headers, bundle.verified) == (None, None, Verified.NONE)
    assert bundle.error is not None
    assert (bundle.file_path, bundle.url, bundle.info, bundle.headers) == (path, server_url, "info", {"X-Key": "k"})


def test_a_path_that_was_given_is_kept(server: FaultServer, quick: Any, tmp_path: Path) -> None:
    """``file_path`` at construction or set later is where the file goes, in every run; another is decided anew."""
    url = server.on("/x", ok(b"x"))
    given = AioDownloadBundle(url, file_path=tmp_path / "given.bin")
    later = AioDownloadBundle(url)
    later.file_path = tmp_path / "later.bin"
    decided = AioDownloadBundle(url)
    for home in ("one", "two"):
        download = quick(None, DownloadStrategy(home=tmp_path / home))
        aiodownload.swarm([given, later, decided], download)
        assert given.file_path == str(tmp_path / "given.bin")
        assert later.file_path == str(tmp_path / "later.bin")
        assert decided.file_path is not None
        assert decided.file_path.startswith(str(tmp_path / home))


def test_a_relative_path_lies_below_home(server: FaultServer, quick: Any, home: Path) -> None:
    """A relative ``file_path`` is taken below home and is absolute afterwards."""
    bundle = AioDownloadBundle(server.on("/x", ok(b"x")), file_path="sub/f.bin")
    assert aiodownload.one(bundle, quick()).file_path == str(home / "sub" / "f.bin")


def test_a_bundle_has_no_dict_of_its_own(server: FaultServer, home: Path) -> None:
    """Its attributes lie in the instance, also when a run has set those that it is not made with."""
    server.default = ok(b"x")
    download = aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=home), aiodownload.RequestStrategy(16))
    bundles = aiodownload.swarm([server.url(f"/{number}") for number in range(200)], download)
    own = [held for bundle in bundles for held in gc.get_referents(bundle) if isinstance(held, dict) and "url" in held]
    assert len(own) < 20


def test_a_bundle_is_small() -> None:
    """Attributes share their names among all bundles, which CPython does for 30 of them: a million bundles are many."""
    program = (
        "import sys, aiodownload; bundle = aiodownload.AioDownloadBundle('https://example.org/a', info=1);"
        "print(len(vars(bundle)), sys.getsizeof(vars(bundle)))"
    )
    attributes, size = map(int, subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert attributes < 30
    assert size < 400
