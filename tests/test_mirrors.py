"""Mirrors: further URLs of the same bytes, tried in turn, and never mixed without proof."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable
from hashlib import shake_128
from pathlib import Path

import aiohttp
import pytest
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    Attempted,
    ConfigurationError,
    DigestError,
    DiskError,
    DownloadStrategy,
    Event,
    InvalidURLError,
    Lenient,
    RequestStrategy,
    RetryAfterError,
    Status,
    StatusError,
    Verified,
)
from aiodownload.storage.part import Part, PartError
from aiodownload.testing import FaultServer, Request, Script, cut, drop, each_path, ok, ranged, reset, stall, status

MIB = 1 << 20
BODY = shake_128(b"mirrored").digest(3 * MIB)
SHA = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
FLIPPED = BODY[:-1] + bytes([BODY[-1] ^ 1])

Make = Callable[..., AioDownload]


class Stubborn(Quick):
    """Tries everything again."""

    def retry(self, response: object) -> bool:
        return True


def mirrored(server: FaultServer, *scripts: Script | tuple[Script, ...], **more: object) -> AioDownloadBundle:
    """A bundle whose sources answer with ``scripts``, in order."""
    urls = [
        server.on(f"/{number}.bin", *(script if isinstance(script, tuple) else (script,)))
        for number, script in enumerate(scripts)
    ]
    return AioDownloadBundle(urls[0], mirrors=urls[1:], **more)  # type: ignore[arg-type]


def targets(server: FaultServer) -> list[str]:
    return [request.target for request in server.requests]


@pytest.mark.parametrize(
    "fault",
    [status(404), status(503), drop(), reset(), cut(BODY, MIB), stall(BODY, 1000), ok(FLIPPED), status(204)],
    ids=["404", "503", "no answer", "reset", "cut", "stall", "flipped", "204"],
)
def test_any_failure_goes_on_to_the_next_source_at_once(fault: Script, server: FaultServer, home: Path) -> None:
    """Whatever is wrong with a source, body and digest included, the next one is asked without a wait (R42, S27)."""
    bundle = mirrored(server, fault, ok(BODY), digest=SHA)
    download = AioDownload(None, DownloadStrategy(home=home), Lenient(timeout=1))  # 60 s between tries
    began = time.monotonic()
    assert aiodownload.one(bundle, download) is bundle
    assert time.monotonic() - began < 20
    assert (bundle.status, bundle.attempts, bundle.error) == (Status.DONE, 2, None)
    assert bundle.final_url == bundle.mirrors[0]
    assert Path(bundle.file_path or "").read_bytes() == BODY
    assert Path(bundle.file_path or "").name == "0.bin"  # named after its own URL
    assert list(dict.fromkeys(targets(server))) == ["/0.bin", "/1.bin"]  # aiohttp itself asks again after no answer


def test_a_source_that_is_refused_is_not_asked_again(server: FaultServer, quick: Make) -> None:
    """`retry` False removes that source only; the others go on for `max_attempts` rounds."""
    bundle = mirrored(server, status(404), status(503), status(503))
    aiodownload.one(bundle, quick(Quick(3, timeout=5)))
    assert (bundle.status, bundle.attempts) == (Status.FAILED, 7)
    assert isinstance(bundle.error, StatusError)
    assert targets(server) == ["/0.bin", *["/1.bin", "/2.bin"] * 3]


def test_no_source_left_is_the_end(server: FaultServer, quick: Make) -> None:
    bundle = mirrored(server, status(404), status(404))
    aiodownload.one(bundle, quick())
    assert (bundle.status, bundle.attempts) == (Status.FAILED, 2)


def test_rounds_are_counted_not_tries(server: FaultServer, quick: Make) -> None:
    bundle = mirrored(server, (status(503), status(503), ok(b"late")), status(503))
    aiodownload.one(bundle, quick(Quick(3, timeout=5)))
    assert (bundle.status, bundle.attempts) == (Status.DONE, 5)


def test_each_source_waits_for_itself(server: FaultServer, other_server: FaultServer, quick: Make) -> None:
    """Retry-After of one source holds up no other host, and is obeyed."""
    first_source = server.on("/0.bin", status(503, Retry_After="2"), ok(b"one"))
    bundle = AioDownloadBundle(first_source, mirrors=[other_server.on("/1.bin", *[status(500)] * 50)])

    class Often(Quick):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.3 if bundle.attempts else 0

    aiodownload.one(bundle, quick(Often(50, timeout=5)))
    assert bundle.ok
    first, second = server.asked("/0.bin")
    assert second.at - first.at >= 2
    assert len(other_server.asked("/1.bin")) >= 4


def test_a_host_that_is_to_be_left_alone_is_passed_over(
    server: FaultServer, other_server: FaultServer, quick: Make
) -> None:
    """One bundle is told to come back in a minute: the next one asks the mirror elsewhere at once."""
    server.default = status(503, Retry_After="60")
    other_server.default = ok(b"mirrored")
    bundles = [
        AioDownloadBundle(server.url(f"/{number}"), mirrors=[other_server.url(f"/{number}")]) for number in range(5)
    ]
    began = time.monotonic()
    aiodownload.swarm(bundles, quick(Quick(timeout=5, concurrent=1)))
    assert all(bundle.ok for bundle in bundles)
    assert time.monotonic() - began < 20
    assert len(server.requests) == 1


def test_too_long_a_wait_removes_the_source(server: FaultServer, quick: Make) -> None:
    bundle = mirrored(server, status(503, Retry_After="7200"), status(503, Retry_After="7200"))
    aiodownload.one(bundle, quick())
    assert isinstance(bundle.error, RetryAfterError)
    assert bundle.attempts == 2


def test_one_flipped_byte_never_gets_the_name(
    server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Make
) -> None:
    """S27: three sources, two of which have one byte otherwise: the digest decides; each is asked at most twice."""
    bundle = mirrored(server, ok(FLIPPED), ok(FLIPPED), (status(503), status(503), ok(BODY)), digest=SHA)
    aiodownload.one(bundle, quick())
    assert bundle.ok
    assert bundle.verified is Verified.DIGEST
    assert files() == {"0.bin": BODY}
    assert targets(server) == ["/0.bin", "/1.bin", "/2.bin", "/0.bin", "/1.bin", "/2.bin", "/2.bin"]


def test_no_source_has_the_right_bytes(server: FaultServer, files: Callable[[], dict[str, bytes]], quick: Make) -> None:
    bundle = mirrored(server, ok(FLIPPED), ok(FLIPPED), digest=SHA)
    aiodownload.one(bundle, quick())
    assert isinstance(bundle.error, DigestError)
    assert files() == {}
    assert bundle.attempts == 4


@pytest.mark.parametrize("digest", [None, SHA], ids=["no digest", "digest"])
@pytest.mark.parametrize(
    ("etag", "body", "goes_on"),
    [('"a"', BODY, True), ('"b"', BODY, False), ('W/"a"', BODY, False), ('"a"', BODY + b"x", False)],
    ids=["same", "other tag", "weak tag", "other total"],
)
def test_bytes_of_two_sources_meet_under_one_strong_tag_and_total_only(
    etag: str, body: bytes, goes_on: bool, digest: str | None, server: FaultServer, quick: Make
) -> None:
    """R24, row 21: anything else is fetched whole from the second."""
    if digest is not None and body is not BODY:
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    bundle = mirrored(server, ranged(BODY, cut=2 * MIB), ranged(body, etag), digest=digest)
    aiodownload.one(bundle, quick())
    assert bundle.ok
    assert Path(bundle.file_path or "").read_bytes() == body
    asked = server.asked("/1.bin")
    assert asked[0].headers.get("range") == f"bytes={2 * MIB}-"
    assert asked[0].headers["if-range"] == '"a"'
    assert len(asked) == (2 if len(body) > len(BODY) else 1)
    assert (Path(bundle.file_path or "").parent / ".0.bin.part.json").exists() is False
    assert bundle.http_status == (206 if goes_on else 200)


def test_headers_stay_at_the_bundle_s_origin(server: FaultServer, other_server: FaultServer, quick: Make) -> None:
    """A mirror elsewhere gets none of the caller's headers (R43); one at the same origin does."""
    here, there = server.on("/here", status(503)), other_server.on("/there", ok(b"got"))
    bundle = AioDownloadBundle(server.on("/f", status(503)), mirrors=[here, there], headers={"X-Api-Key": "secret"})
    aiodownload.one(bundle, quick())
    assert bundle.ok
    assert [request.headers.get("x-api-key") for request in server.requests] == ["secret", "secret"]
    assert "x-api-key" not in other_server.requests[0].headers


def test_a_mirror_s_own_password_is_sent_to_it_and_shown_nowhere(
    server: FaultServer, other_server: FaultServer, quick: Make
) -> None:
    secret = other_server.on("/f", ok(b"got")).replace("//", "//me:pw@")
    bundle = AioDownloadBundle(server.on("/f", status(503)), mirrors=[secret])
    aiodownload.one(bundle, quick())
    assert bundle.ok
    assert other_server.requests[0].headers["authorization"].startswith("Basic ")
    assert "authorization" not in server.requests[0].headers
    assert "pw" not in f"{bundle!r} {bundle.status_msg} {bundle.final_url} {bundle.file_path}"


def test_a_bad_mirror_fails_as_a_source(server: FaultServer, quick: Make) -> None:
    """It is no reason to lose the others, nor is it tried."""
    bundle = AioDownloadBundle(server.on("/f", status(503), ok(b"late")), mirrors=["ftp://example.org/f"])
    aiodownload.one(bundle, quick())
    assert (bundle.ok, bundle.attempts, bundle.error) == (True, 2, None)
    bundle = AioDownloadBundle("nonsense", mirrors=[server.on("/g", ok(b"g"))], file_path="g")
    aiodownload.one(bundle, quick())
    assert not bundle.ok  # its own URL says which file it is
    assert isinstance(bundle.error, InvalidURLError)


def test_a_full_disk_is_no_matter_of_sources(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """R34: one request, and no mirror is asked."""

    def refuse(self: Part, chunks: object, *, whole: bool = False) -> None:
        raise PartError("write", 28)

    monkeypatch.setattr(Part, "append", refuse)
    bundle = mirrored(server, ok(b"a"), ok(b"a"))
    aiodownload.one(bundle, quick())
    assert isinstance(bundle.error, DiskError)
    assert len(server.requests) == 1


def test_the_slot_is_kept_from_source_to_source(server: FaultServer, quick: Make) -> None:
    """A wrong body frees no slot while another source of the same bundle is asked: never more than `concurrent`."""
    bundles = []
    for number in range(12):
        wrong, right = server.on(f"/w{number}", ok(FLIPPED[:9])), server.on(f"/r{number}", ok(BODY[:9]))
        digest = f"sha256:{hashlib.sha256(BODY[:9]).hexdigest()}"
        bundles.append(AioDownloadBundle(wrong, mirrors=[right], digest=digest))
    assert all(bundle.ok for bundle in aiodownload.swarm(bundles, quick(Quick(concurrent=2, timeout=5))))
    assert server.most_active <= 2


def test_spacing_holds_between_sources(server: FaultServer, quick: Make) -> None:
    class Spaced(RequestStrategy):
        def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
            return 0.2

    bundle = mirrored(server, drop(), drop(), ok(b"x"))
    aiodownload.one(bundle, quick(Spaced(timeout=5)))
    assert bundle.ok
    at = [request.at for request in server.requests if request.target == "/2.bin"]
    assert at[0] - server.requests[0].at >= 0.39


def test_each_try_is_an_event(server: FaultServer, quick: Make) -> None:
    events: list[Event] = []

    class Watch:
        def on_event(self, event: Event) -> None:
            events.append(event)

    bundle = mirrored(server, drop(), drop(), ok(b"x"))
    aiodownload.one(bundle, quick(observers=[Watch()]))
    assert sum(isinstance(event, Attempted) for event in events) == bundle.attempts == 3


def test_other_mirrors_make_another_bundle(server: FaultServer, quick: Make) -> None:
    """Of two bundles with one URL, the one that has a mirror does not share the other's failure."""
    url, mirror = server.on("/f", status(404)), server.on("/m", ok(b"m"))
    alone, helped = aiodownload.swarm([AioDownloadBundle(url), AioDownloadBundle(url, mirrors=[mirror])], quick())
    assert (alone.ok, helped.ok) == (False, True)


def test_it_starts_afresh(server: FaultServer, quick: Make) -> None:
    """A bundle given again asks all its sources again."""
    bundle = mirrored(server, status(404), status(404), (status(404), ok(b"x")))
    download = quick()
    assert not aiodownload.one(bundle, download).ok
    assert aiodownload.one(bundle, download).ok
    assert pickle.loads(pickle.dumps(bundle)).mirrors == bundle.mirrors


@pytest.mark.parametrize("mirrors", ["http://h/f", b"x", 7, [7], [None], [b"http://h/f"]])
def test_wrong_mirrors(mirrors: object) -> None:
    with pytest.raises(ConfigurationError, match="mirrors"):
        AioDownloadBundle("http://h/f", mirrors=mirrors)  # type: ignore[arg-type]


def test_no_form_data_to_several_servers() -> None:
    with pytest.raises(ConfigurationError, match="params"):
        AioDownloadBundle("http://h/f", params={"a": 1}, mirrors=["http://m/f"])


def test_what_the_session_says_stays_at_the_bundle_s_origin(
    server: FaultServer, other_server: FaultServer, quick: Make
) -> None:
    """P9, R43: headers, cookies and passwords of the caller's session go to a mirror elsewhere no more than to where a
    redirect leads; a mirror of the same origin gets them."""

    def session() -> aiohttp.ClientSession:
        headers = {"X-Api-Key": "hunter2", "Authorization": "Bearer hunter2"}
        return aiohttp.ClientSession(headers=headers, cookies={"session": "hunter2"})

    url = server.on("/a", status(500))
    mirrors = [other_server.on("/b", status(500)), server.on("/c", ok(BODY))]
    bundle = aiodownload.one(AioDownloadBundle(url, mirrors=mirrors), quick(Stubborn(2), client=session))
    assert bundle.ok
    assert not any("hunter2" in str(request.headers) for request in other_server.requests)
    assert all(request.headers["x-api-key"] == "hunter2" for request in server.requests)


def test_a_refresh_asks_with_no_validator_of_a_mirror(
    server: FaultServer, other_server: FaultServer, quick: Make, home: Path, tmp_path: Path
) -> None:
    """R40: what a mirror calls its copy, and when it was made there, says nothing about what the URL itself has."""

    def original(request: Request) -> Script:
        if "if-modified-since" in request.headers or "if-none-match" in request.headers:
            return status(304)
        return ok(b"fresh", Last_Modified="Mon, 02 Nov 2026 10:00:00 GMT", ETag='"1"')

    url = server.on("/f", status(500))
    mirror = other_server.on("/f", ok(b"stale", Last_Modified="Tue, 03 Nov 2026 10:00:00 GMT", ETag='"1"'))
    bundle = AioDownloadBundle(url, mirrors=[mirror])
    keep = DownloadStrategy(home=home, refresh=True)
    first = aiodownload.one(bundle, quick(Stubborn(1), keep, journal=tmp_path / "j"))
    assert first.ok
    server.on("/f", each_path(original))
    again = aiodownload.one(bundle, quick(Stubborn(1), keep, journal=tmp_path / "j"))
    assert again.status is Status.DONE
    assert Path(again.file_path or "").read_bytes() == b"fresh"
