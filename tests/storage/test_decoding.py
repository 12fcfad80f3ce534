"""Taking content codings off: whole or not at all, and within limits."""

from __future__ import annotations

import contextlib
import gzip
import random
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload import CodingError, TooLargeError
from aiodownload.storage.decoding import MAX_CODINGS, RATIO_FLOOR, Decoder, codings, kept_as_sent

MIB = 1 << 20
BODY = random.Random(7).randbytes(5_000) + b"the same again " * 2_000


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the zlib wrapper, as some servers send it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
}
every_coding = pytest.mark.parametrize(("name", "encode"), ENCODERS.values(), ids=ENCODERS.keys())


def decoded(
    names: tuple[str, ...], *chunks: bytes, max_bytes: int | None = None, max_ratio: float | None = 200
) -> bytes:
    """The chunks without their codings, proved whole."""
    decoder = Decoder(names, max_bytes, max_ratio)
    out = b"".join(piece for chunk in chunks for piece in decoder.feed(chunk))
    decoder.finish()
    return out


def in_chunks(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    """``data`` in pieces of ``size``."""
    return (data[at : at + size] for at in range(0, len(data), size))


def exhaust(decoder: Decoder, body: bytes, given: list[int] | None = None) -> None:
    """Decode ``body`` without keeping anything; ``given[0]`` counts what came out, also when it ends in an error."""
    for chunk in in_chunks(body):
        for piece in decoder.feed(chunk):
            if given is not None:
                given[0] += len(piece)


def zeros(encode_one: Callable[[bytes], bytes], finish: Callable[[], bytes], mebibytes: int) -> bytes:
    """So many MiB of zeros, encoded without ever being in memory as a whole."""
    block = bytes(MIB)
    return b"".join(encode_one(block) for _ in range(mebibytes)) + finish()


def bomb(name: str, mebibytes: int) -> bytes:
    """A small body that expands to so many MiB."""
    if name == "br":
        brotli_packer = brotli.Compressor(quality=1)
        return zeros(brotli_packer.process, brotli_packer.finish, mebibytes)
    if name == "zstd":
        zstd_packer = zstd.ZstdCompressor()
        return zeros(zstd_packer.compress, zstd_packer.flush, mebibytes)
    zlib_packer = zlib.compressobj(1, zlib.DEFLATED, 31 if name == "gzip" else 15)
    return zeros(zlib_packer.compress, zlib_packer.flush, mebibytes)


@every_coding
@pytest.mark.parametrize("body", [b"", b"x", BODY, bytes(MIB)], ids=["empty", "short", "mixed", "zeros"])
def test_each_coding_is_taken_off(name: str, encode: Callable[[bytes], bytes], body: bytes) -> None:
    """What was encoded comes back, the empty body too."""
    assert decoded((name,), encode(body)) == body


@every_coding
def test_the_output_comes_in_small_pieces(name: str, encode: Callable[[bytes], bytes]) -> None:
    """One small chunk that expands to 8 MiB is never in memory as a whole."""
    decoder = Decoder((name,), None, None)
    sizes = [len(piece) for piece in decoder.feed(encode(bytes(8 * MIB)))]
    decoder.finish()
    assert sum(sizes) == 8 * MIB
    assert max(sizes) <= MIB // 2


@every_coding
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_body_is_not_whole(name: str, encode: Callable[[bytes], bytes], share: float) -> None:
    """A body that ends before its end mark is an error, and one that a later try may mend."""
    whole = encode(BODY)
    with pytest.raises(CodingError, match=name) as caught:
        decoded((name,), whole[: int(len(whole) * share)])
    assert caught.value.transient


@pytest.mark.parametrize("missing", range(1, 9))
def test_gzip_without_its_whole_trailer_is_not_whole(missing: int) -> None:
    """All data and a part of the checksum are not enough (RFC 1952 section 2.3)."""
    with pytest.raises(CodingError, match="end mark"):
        decoded(("gzip",), gzip.compress(BODY)[:-missing])


@pytest.mark.parametrize("at", [-8, -1])
def test_a_wrong_checksum_or_length_is_broken(at: int) -> None:
    """The trailer of gzip is checked: both the CRC-32 and the length."""
    body = bytearray(gzip.compress(BODY))
    body[at] ^= 1
    with pytest.raises(CodingError, match="broken"):
        decoded(("gzip",), bytes(body))


@every_coding
def test_garbage_is_broken(name: str, encode: Callable[[bytes], bytes]) -> None:
    """A body that is not encoded at all is an error with its cause, and one that a later try may mend."""
    with pytest.raises(CodingError, match=name) as caught:
        decoded((name,), b"<!DOCTYPE html><title>not encoded</title>" * 10)
    assert caught.value.transient


@every_coding
@pytest.mark.parametrize("at_once", [True, False], ids=["same chunk", "next chunk"])
def test_bytes_after_the_end_mark_are_refused(name: str, encode: Callable[[bytes], bytes], at_once: bool) -> None:
    """Trailing garbage means that the body is not what it says, wherever the chunks divide."""
    body, garbage = encode(BODY), b"trailing garbage"
    with pytest.raises(CodingError):
        decoded((name,), *((body + garbage,) if at_once else (body, garbage)))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_all_members_are_decoded(name: str) -> None:
    """A body of several gzip members or zstd frames is all of them, never only the first."""
    encode = ENCODERS[name][1]
    parts = [b"one ", b"", b"two ", BODY]
    members = [encode(part) for part in parts]
    assert decoded((name,), b"".join(members)) == b"".join(parts)
    assert decoded((name,), *members) == b"".join(parts)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_truncated_last_member_is_not_whole(name: str) -> None:
    """A whole first member does not make the body whole."""
    encode = ENCODERS[name][1]
    for cut in (1, 5, len(encode(BODY)) - 3):
        with pytest.raises(CodingError):
            decoded((name,), encode(b"one") + encode(BODY)[:cut])


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_refused_by_its_ratio(name: str) -> None:
    """Beyond 32 MiB, a body that expands more than max_ratio times is refused soon after, and not tried again."""
    decoder, body, given = Decoder((name,), None, 200), bomb(name, 40), [0]
    assert len(body) * 200 < 40 * MIB
    with pytest.raises(CodingError, match="max_ratio") as caught:
        exhaust(decoder, body, given)
    assert not caught.value.transient
    assert given[0] <= max(RATIO_FLOOR, 200 * len(body))


def test_without_max_ratio_anything_may_expand() -> None:
    """``max_ratio=None`` takes the limit away."""
    decoder = Decoder(("gzip",), None, None)
    assert sum(len(piece) for piece in decoder.feed(bomb("gzip", 33))) == 33 * MIB
    decoder.finish()


def test_a_small_body_may_expand() -> None:
    """Up to 32 MiB of output, the ratio does not count."""
    decoder = Decoder(("gzip",), None, 1)
    assert sum(len(piece) for piece in decoder.feed(bomb("gzip", 32))) == RATIO_FLOOR
    decoder.finish()


@every_coding
def test_max_bytes_counts_the_output(name: str, encode: Callable[[bytes], bytes]) -> None:
    """As many bytes as max_bytes pass, one more does not, and nothing beyond the limit is handed out."""
    assert decoded((name,), encode(BODY), max_bytes=len(BODY)) == BODY
    decoder, given = Decoder((name,), len(BODY) - 1, None), [0]
    with pytest.raises(TooLargeError) as caught:
        exhaust(decoder, encode(BODY), given)
    assert given[0] < len(BODY)
    assert caught.value.max_bytes == len(BODY) - 1


def test_max_bytes_of_nothing() -> None:
    """A limit of 0 lets only the empty body pass."""
    assert decoded(("gzip",), gzip.compress(b""), max_bytes=0) == b""
    with pytest.raises(TooLargeError):
        decoded(("gzip",), gzip.compress(b"x"), max_bytes=0)


def test_two_codings_are_taken_off_in_reverse() -> None:
    """``gzip, br`` means: first gzip, then br; the last one comes off first (RFC 9110 section 8.4)."""
    body = brotli.compress(gzip.compress(BODY))
    assert decoded(("gzip", "br"), *in_chunks(body, 100)) == BODY
    with pytest.raises(CodingError):
        decoded(("br", "gzip"), body)


@pytest.mark.parametrize("outer_cut", [True, False])
def test_each_of_two_codings_must_reach_its_end(outer_cut: bool) -> None:
    """A cut inside either coding is found."""
    inner = gzip.compress(BODY)
    body = zlib.compress(inner)[:-1] if outer_cut else zlib.compress(inner[:-1])
    with pytest.raises(CodingError, match="deflate" if outer_cut else "gzip"):
        decoded(("gzip", "deflate"), body)


def test_a_bomb_between_two_codings_is_refused() -> None:
    """What the outer coding expands to is limited too, also where the inner one swallows it and gives nothing."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    endless_name = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"  # a gzip head whose file name never ends
    body = packer.compress(endless_name) + b"".join(packer.compress(b"a" * MIB) for _ in range(40)) + packer.flush()
    assert len(body) * 200 < 40 * MIB
    decoder = Decoder(("gzip", "gzip"), None, 200)
    with pytest.raises(CodingError, match="max_ratio"):
        exhaust(decoder, body)


@pytest.mark.parametrize("name", ["compress", "exi", "aes128gcm", "dcb", "none", "gzip;q=1", "utf-8"])
def test_an_unknown_coding_is_refused(name: str) -> None:
    """A coding that nobody here can take off is an error that names it and that no later try mends."""
    with pytest.raises(CodingError, match=name.replace(";", ".")) as caught:
        Decoder((name,), None, 200)
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([], ()),
        ([""], ()),
        (["identity"], ()),
        (["Identity, "], ()),
        (["gzip"], ("gzip",)),
        (["GZIP"], ("gzip",)),
        (["x-gzip"], ("gzip",)),
        ([" br "], ("br",)),
        (["gzip, br"], ("gzip", "br")),
        (["gzip", "br"], ("gzip", "br")),
        (["gzip,,identity"], ("gzip",)),
        (["deflate,zstd"], ("deflate", "zstd")),
    ],
)
def test_the_fields_are_read_in_order(fields: list[str], names: tuple[str, ...]) -> None:
    """Several fields and lists are one list; ``identity`` and blanks are none; ``x-gzip`` is gzip."""
    assert codings(fields) == names


@pytest.mark.parametrize("fields", [["gzip, gzip, gzip"], ["gzip"] * 20, [",".join(["br"] * 10_000)]])
def test_chains_of_codings_are_refused(fields: list[str]) -> None:
    """More than two codings are a bomb or a mistake."""
    with pytest.raises(CodingError, match=f"more than {MAX_CODINGS}"):
        codings(fields)


@pytest.mark.parametrize(
    ("path", "content_type", "kept"),
    [
        ("/h/x.tar.gz", "", True),
        ("/h/x.TAR.GZ", "", True),
        ("/h/x.tgz", "text/plain", True),
        ("/h/x.svgz", "image/svg+xml", True),
        ("/h/x.br", "", True),
        ("/h/x.zst", "", True),
        ("/h/x.bz2", "", True),
        ("/h/x.xz", "", True),
        ("/h/x.zip", "", True),
        ("/h/x.Z", "", True),
        ("/h/x", "application/gzip", True),
        ("/h/x", "Application/X-GZIP; charset=binary", True),
        ("/h/x", "application/zip", True),
        ("/h/x", "application/zstd", True),
        ("/h/x", "application/x-tar", True),
        ("/h/x.csv", "text/csv", False),
        ("/h/x.json", "application/json", False),
        ("/h/x", "", False),
        ("/h/x", "application/octet-stream", False),
        ("/h/xgz", "", False),
        ("/h/x.gz/y", "", False),
        ("/h/x.gz.csv", "text/csv", False),
        ("/h/x", "text/plain; name=application/gzip", False),
    ],
)
def test_what_is_kept_as_sent(path: str, content_type: str, kept: bool) -> None:
    """A body whose name or type says that it is a compressed file keeps its coding."""
    assert kept_as_sent(path, content_type) is kept


_CODINGS = st.lists(st.sampled_from(sorted(ENCODERS)), min_size=1, max_size=2)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(_CODINGS, st.binary(max_size=3000), st.integers(1, 300), st.lists(st.integers(0, 4000), max_size=8))
def test_where_the_chunks_divide_does_not_matter(kinds: list[str], seed: bytes, repeat: int, cuts: list[int]) -> None:
    """Any body, through any one or two codings, in any chunks, comes back."""
    body = encoded = seed * repeat
    for kind in kinds:
        encoded = ENCODERS[kind][1](encoded)
    places = [0, *sorted(min(cut, len(encoded)) for cut in cuts), len(encoded)]
    chunks = [encoded[start:end] for start, end in pairwise(places)]
    assert decoded(tuple(ENCODERS[kind][0] for kind in kinds), *chunks) == body


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=500), st.integers(0), st.integers(0), st.integers(1, 255))
def test_damage_is_an_error_or_harmless(kind: str, body: bytes, cut: int, spot: int, flip: int) -> None:
    """Damaged bodies raise CodingError or decode; they raise nothing else, and a cut one is never whole."""
    name, encode = ENCODERS[kind]
    whole = encode(body)
    with pytest.raises(CodingError):
        decoded((name,), whole[: cut % len(whole)])
    damaged = bytearray(whole)
    damaged[spot % len(whole)] ^= flip
    with contextlib.suppress(CodingError, TooLargeError):
        decoded((name,), bytes(damaged), max_bytes=MIB)
