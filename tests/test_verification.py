"""Verification: bytes that are not what the caller or the server says get no final name."""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64encode
from collections.abc import Callable
from hashlib import shake_128
from pathlib import Path

import pytest
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    ConfigurationError,
    DigestError,
    DownloadStrategy,
    Status,
    Verified,
)
from aiodownload.testing import FaultServer, ok, ranged, status

Make = Callable[..., AioDownload]
MIB = 1 << 20
SIZES = {"empty": b"", "small": b"small", "one trip": b"x" * (200 << 10), "large": shake_128(b"large").digest(4 * MIB)}
LARGE = SIZES["large"]


def sha256(body: bytes) -> str:
    """As the caller writes it."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def repr_digest(body: bytes) -> str:
    """As a server writes it in Repr-Digest."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"


def below(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, hidden ones included."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("body", SIZES.values(), ids=SIZES)
def test_a_digest_that_agrees_is_a_proof(
    body: bytes, server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """Bodies of every size, by one digest or several."""
    several = [sha256(body), f"MD5: {hashlib.md5(body).hexdigest()}", f"sha3-256:{hashlib.sha3_256(body).hexdigest()}"]
    for digest in (sha256(body), several):
        bundle = aiodownload.one(AioDownloadBundle(server.on("/f", ok(body)), digest=digest), quick())
        assert (bundle.status, bundle.verified, bundle.size) == (Status.DONE, Verified.DIGEST, len(body))
        assert below(home) == {"f": body}
    assert len(bundle.digest) == 3


@pytest.mark.parametrize("body", SIZES.values(), ids=SIZES)
def test_a_digest_that_disagrees_keeps_the_old_file(
    body: bytes, server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """Row 30: tried once more, since the bytes may have been damaged on their way; then failed, and nothing is left."""
    aiodownload.one(server.on("/f", ok(b"old")), quick())
    server.requests.clear()
    bundle = AioDownloadBundle(server.on("/f", ok(body)), digest=sha256(b"something else"))
    aiodownload.one(bundle, quick())
    assert isinstance(bundle.error, DigestError)
    assert hashlib.sha256(body).hexdigest() in str(bundle.error)
    assert bundle.verified is Verified.NONE
    assert bundle.attempts == len(server.requests) == 2
    assert below(home) == {"f": b"old"}


def test_damaged_once(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """The second try brings the right bytes."""
    url = server.on("/f", ok(LARGE[:-1] + b"?"), ok(LARGE))
    bundle = aiodownload.one(AioDownloadBundle(url, digest=sha256(LARGE)), quick())
    assert (bundle.ok, bundle.attempts) == (True, 2)
    assert below(home) == {"f": LARGE}


@pytest.mark.parametrize(
    ("field", "value", "proof"),
    [
        ("Repr_Digest", repr_digest, Verified.DIGEST),
        ("Content_Digest", repr_digest, Verified.DIGEST),
        ("Digest", lambda body: f"SHA-256={b64encode(hashlib.sha256(body).digest()).decode()}", Verified.DIGEST),
        ("Content_MD5", lambda body: b64encode(hashlib.md5(body).digest()).decode(), Verified.LENGTH),
        ("Repr_Digest", lambda body: "sha-256=no base64", Verified.LENGTH),
    ],
)
def test_what_a_server_announces(
    field: str,
    value: Callable[[bytes], str],
    proof: Verified,
    server: FaultServer,
    home: Path,
    quick: Callable[..., AioDownload],
) -> None:
    """A checksum of the head that agrees proves the file, if it is a strong one; one that disagrees refuses it."""
    bundle = aiodownload.one(server.on("/f", ok(LARGE, **{field: value(LARGE)})), quick())
    assert (bundle.ok, bundle.verified) == (True, proof)
    wrong = aiodownload.one(server.on("/g", ok(LARGE, **{field: value(b"other")})), quick())
    if "no base64" in value(b""):
        assert wrong.ok
    else:
        assert isinstance(wrong.error, DigestError)
        assert field.replace("_", "-").lower() in str(wrong.error).lower()
        assert below(home) == {"f": LARGE}


def test_both_sides_of_a_coding(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """The server's checksum is that of the bytes as sent, the caller's that of the file."""
    packed = gzip.compress(LARGE, 1)
    url = server.on("/f", ok(packed, Content_Encoding="gzip", Repr_Digest=repr_digest(packed)))
    bundle = aiodownload.one(AioDownloadBundle(url, digest=sha256(LARGE)), quick())
    assert (bundle.ok, bundle.verified) == (True, Verified.DIGEST)
    assert below(home) == {"f": LARGE}
    url = server.on("/g", ok(packed, Content_Encoding="gzip", Repr_Digest=repr_digest(LARGE)))
    assert isinstance(aiodownload.one(url, quick()).error, DigestError)
    url = server.on("/h", ok(packed, Content_Encoding="gzip"))
    assert isinstance(aiodownload.one(AioDownloadBundle(url, digest=sha256(packed)), quick()).error, DigestError)
    assert below(home) == {"f": LARGE}


def test_a_resumed_file_is_checked_as_a_whole(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """Also the bytes of the earlier try: a server that lies about its ETag is caught by the digest."""
    url = server.on("/f", ranged(LARGE, cut=3 * MIB), ranged(LARGE))
    bundle = aiodownload.one(AioDownloadBundle(url, digest=sha256(LARGE)), quick())
    assert (bundle.ok, bundle.verified, bundle.attempts) == (True, Verified.DIGEST, 2)
    lie = bytes(len(LARGE))
    url = server.on("/g", ranged(lie, cut=3 * MIB), ranged(LARGE), ranged(LARGE))
    bundle = aiodownload.one(AioDownloadBundle(url, digest=sha256(LARGE)), quick())
    assert [request.headers.get("range") for request in server.asked("/g")] == [None, f"bytes={3 * MIB}-", None]
    assert (bundle.ok, bundle.attempts) == (True, 3)
    assert below(home) == {"f": LARGE, "g": LARGE}


def test_a_checksum_of_the_whole_in_the_head_of_a_part(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """Repr-Digest covers the whole also in a 206; Content-Digest only the part, and is left alone there."""
    headers = {"Repr_Digest": repr_digest(LARGE), "Content_Digest": repr_digest(b"of the part")}
    url = server.on("/f", ranged(LARGE, cut=3 * MIB), ranged(LARGE, headers=headers))
    bundle = aiodownload.one(url, quick())
    assert (bundle.ok, bundle.verified) == (True, Verified.DIGEST)
    assert below(home) == {"f": LARGE}


def test_an_existing_file_is_checked_too(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """With ``skip_cached``, a file that is there counts only if it agrees."""
    url = server.on("/f", ok(b"new"))
    path = Path(aiodownload.one(server.on("/f", ok(b"old")), quick()).file_path or "")
    server.on("/f", ok(b"new"))
    cached = DownloadStrategy(home=home, skip_cached=True)
    first = aiodownload.one(AioDownloadBundle(url, digest=sha256(b"old")), quick(download=cached))
    assert (first.status, first.verified) == (Status.CACHED, Verified.DIGEST)
    second = aiodownload.one(AioDownloadBundle(url, digest=sha256(b"new")), quick(download=cached))
    assert second.status is Status.DONE
    assert path.read_bytes() == b"new"


def test_the_same_url_with_two_digests(server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """One of them must be wrong, and the other's success is not its own."""
    url = server.on("/f", ok(b"x"))
    right, wrong = (AioDownloadBundle(url, digest=sha256(body)) for body in (b"x", b"y"))
    assert [bundle.ok for bundle in aiodownload.swarm([right, wrong], quick())] == [True, False]


def test_a_login_page_is_refused_before_it_is_stored(
    server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """A 200 that is an error page: ``assert_response`` sees its head."""

    class NoPages(aiodownload.Lenient):
        def assert_response(self, response: object) -> None:
            super().assert_response(response)  # type: ignore[arg-type]
            if getattr(response, "content_type", "") == "text/html":
                raise AssertionError("a page where data should be")

    bundle = aiodownload.one(server.on("/f", ok(b"<html>", Content_Type="text/html")), quick(NoPages(max_attempts=1)))
    assert "a page where data should be" in str(bundle.error)
    assert below(home) == {}


def test_no_digest_of_a_failure(server: FaultServer, quick: Callable[..., AioDownload]) -> None:
    """An error page is not compared with anything."""
    bundle = aiodownload.one(AioDownloadBundle(server.on("/f", status(404)), digest=sha256(b"x")), quick())
    assert not isinstance(bundle.error, DigestError)


@pytest.mark.parametrize("digest", ["", "sha256", "sha256:12", "sha256:zz", "nonsense:00", 7, [7], b"sha256:00"])
def test_a_wrong_setting_says_what_would_be_right(digest: object) -> None:
    """Before anything is asked for."""
    with pytest.raises(ConfigurationError, match="digest"):
        AioDownloadBundle("http://127.0.0.1/f", digest=digest)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 65536, 65537, 100_000, 131_072, 131_073])
@pytest.mark.parametrize("who", ["the caller", "the server"])
def test_a_process_for_small_bodies_skips_no_check(
    who: str, size: int, server: FaultServer, home: Path, quick: Make
) -> None:
    """Whichever way a body goes to the disk, its checksum is compared first, also after many small ones."""
    plain = [server.on(f"/{number}", ok(b"x")) for number in range(150)]
    body = bytes(size)
    evil = ok(body, Repr_Digest=repr_digest(b"other")) if who == "the server" else ok(body)
    digest = sha256(b"other") if who == "the caller" else None
    bad = [AioDownloadBundle(server.on(f"/bad{number}", evil), digest=digest) for number in range(5)]
    good = [AioDownloadBundle(server.on(f"/good{number}", ok(body)), digest=sha256(body)) for number in range(5)]
    bundles = aiodownload.swarm([*plain, *bad, *good], quick(Quick(2, concurrent=4)))
    assert all(bundle.ok for bundle in bundles[:150] + bundles[155:])
    assert all(isinstance(bundle.error, DigestError) for bundle in bundles[150:155])
    assert {bundle.verified for bundle in bundles[155:]} == {Verified.DIGEST}
    assert not list(home.rglob("bad*"))


def test_what_is_compressed_is_told_by_the_name_that_it_gets(server: FaultServer, home: Path, quick: Make) -> None:
    """A suggested name decides whether a coded body is kept as sent or decoded, since it is the file's."""
    packed = gzip.compress(b"text" * 1000)
    archive = server.on(
        "/get?id=1", ok(packed, Content_Encoding="gzip", Content_Disposition="attachment; filename=x.tar.gz")
    )
    text = server.on("/x.gz", ok(packed, Content_Encoding="gzip", Content_Disposition="attachment; filename=y.txt"))
    strategy = DownloadStrategy(home=home, content_disposition=True)
    as_sent, decoded = aiodownload.swarm([archive, text], quick(download=strategy))
    assert Path(as_sent.file_path or "").read_bytes() == packed
    assert Path(decoded.file_path or "").read_bytes() == b"text" * 1000
