"""Checksums: what callers and servers may write, what is made of it, and what agreement is worth."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import pickle
import re
import string
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from aiodownload import ConfigurationError
from aiodownload.checksums import GIVEN, Digest, Hasher, given
from aiodownload.storage.digests import MAX_FIELD, from_headers

BODY = b'{"hello": "world"}\n'  # the object of RFC 9530 appendix B.1
SAMPLE = b'{"hello": "world"}'  # that of its appendix D
SHA256 = hashlib.sha256(BODY).hexdigest()
FIXED = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))
many = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def b64(algorithm: str, data: bytes) -> str:
    """The checksum of ``data`` in base64."""
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


def fields(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    """Header fields as aiohttp has them."""
    return CIMultiDictProxy(CIMultiDict(pairs))


def announced(*pairs: tuple[str, str], whole: bool = True) -> list[tuple[str, str, bool]]:
    """Algorithm, source and strength of what the fields announce; each value is that of BODY."""
    found = from_headers(fields(*pairs), whole=whole)
    assert all(digest.value == hashlib.new(digest.algorithm, BODY).digest() for digest in found)
    return [(digest.algorithm, digest.source, digest.strong) for digest in found]


def judged(expected: tuple[Digest, ...], body: bytes) -> Hasher:
    """A hasher that has seen ``body``."""
    hasher = Hasher(expected)
    hasher.update(body)
    return hasher


# What the caller gives


def test_nothing_given_expects_nothing() -> None:
    """None and an empty list are no checksums."""
    assert given(None) == given([]) == given(iter(())) == ()


@pytest.mark.parametrize("name", FIXED)
def test_every_algorithm_of_a_fixed_length_is_taken(name: str) -> None:
    """The value of hashlib's own algorithm, as hexdigest writes it, is taken, and agrees with the bytes."""
    digests = given(f"{name}:{hashlib.new(name, BODY).hexdigest()}")
    strong = name not in ("md5", "sha1")
    assert digests == (Digest(name, hashlib.new(name, BODY).digest(), "digest", strong),)
    assert judged(digests, BODY).proven


@pytest.mark.parametrize(
    ("spelling", "algorithm"),
    [
        ("sha256", "sha256"),
        ("SHA256", "sha256"),
        ("sha-256", "sha256"),
        ("Sha-256", "sha256"),
        ("sha_256", "sha256"),
        ("  sha256\t", "sha256"),
        ("SHA-1", "sha1"),
        ("MD5", "md5"),
        ("SHA3-512", "sha3_512"),
        ("sha3_512", "sha3_512"),
        ("blake2b", "blake2b"),
    ],
)
def test_spellings_of_a_name(spelling: str, algorithm: str) -> None:
    """Case, hyphens as in headers and blanks around the name do not matter."""
    (digest,) = given(f"{spelling}:{hashlib.new(algorithm, BODY).hexdigest()}")
    assert digest.algorithm == algorithm


@pytest.mark.parametrize("text", [f" sha256 : {SHA256.upper()} \n", f"sha256:{SHA256}", f"SHA256:{SHA256.title()}"])
def test_spellings_of_a_value(text: str) -> None:
    """Digits may be of either case, with blanks around them."""
    assert given(text) == (Digest("sha256", bytes.fromhex(SHA256), GIVEN, True),)


@pytest.mark.parametrize("kind", [list, tuple, iter, dict.keys, set])
def test_several_are_given(kind: Callable[[Any], Any]) -> None:
    """Any iterable of them will do; equal values are one, in the order in which they came."""
    texts = [f"sha256:{SHA256}", f"md5:{hashlib.md5(BODY).hexdigest()}", f"SHA-256:{SHA256.upper()}"]
    found = [digest.algorithm for digest in given(kind(dict.fromkeys(texts)))]
    assert (sorted(found, reverse=True) if kind is set else found) == ["sha256", "md5"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "'sha256:<hex>'"),
        (SHA256, "must name its algorithm"),
        (f"sha256={SHA256}", "must name its algorithm"),
        (f"sha265:{SHA256}", "did you mean 'sha256'"),
        (f"sha:{SHA256}", "did you mean 'sha1'"),
        (f"SHA3-265:{SHA256}", "did you mean 'sha3_256'"),
        (f"blake2:{SHA256}", "did you mean 'blake2"),
        (f":{SHA256}", "take 'sha256'"),
        (f"crc32c:{SHA256}", "fixed length"),
        (f"shake_128:{SHA256}", "fixed length"),
        ("https://example.org/x", "take 'sha256'"),
        (f"{'x' * 100_000}:{SHA256}", "no algorithm"),
        (f"sha256:{SHA256[:-1]}", "64 hex digits, not 63"),
        (f"sha256:{SHA256}0", "64 hex digits, not 65"),
        ("sha256:", "64 hex digits, not 0"),
        (f"md5:{SHA256}", "md5 has 32 hex digits, not 64"),
        (f"sha256:{SHA256[:-1]}g", "64 hex digits"),
        (f"sha256:0x{SHA256}", "hex digits and nothing else"),
        (f"sha256:{b64('sha256', BODY)}", "hex digits and nothing else"),
        (f"sha256:{SHA256[:32]} {SHA256[32:]}", "hex digits and nothing else"),
        ("sha256:" + "\u0661" * 64, "hex digits and nothing else"),
        (f"sha256:{SHA256}:", "hex digits and nothing else"),
        (7, "not int"),
        (True, "not bool"),
        (b"sha256:00", "not bytes"),
        (b"", "not bytes"),
        (bytearray(), "not bytearray"),
        pytest.param(memoryview(b""), "not memoryview", id="memoryview"),
        ({}, "not dict"),
        ({"sha256": SHA256}, "not dict"),
        ([b"sha256:00"], "not of bytes"),
        ([None], "not of NoneType"),
        ([f"sha256:{SHA256}", ""], "must name its algorithm"),
        ([f"sha256:{SHA256}", f"sha-256:{'0' * 64}"], "two different values of sha256"),
        (("sha256:\x1b[2J",), "hex digits"),
        ("\x1b]0;x\x07", r"\\x1b"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_wrong_one_is_explained(value: Any, told: str) -> None:
    """The message names the setting, says in one short line what would be right, and acts on no terminal."""
    with pytest.raises(ConfigurationError, match=f"^digest.*{told}") as caught:
        given(value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@many
@for_all(st.text(max_size=60) | st.from_regex(r"\A(sha256|md5|sha|x): ?[0-9a-fG]{0,70}\Z"))
def test_any_other_text_is_a_configuration_error(text: str) -> None:
    """Whatever the text, it is taken or refused in words."""
    with contextlib.suppress(ConfigurationError):
        (digest,) = given(text)
        assert digest.value.hex() == text.rpartition(":")[2].strip().lower()


# What headers announce


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (BODY, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),  # B.1
        (b"", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),  # B.2
        (b'"world"}\n', "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:"),  # B.3
        (b'{"title": "New Title"}\n', "sha-256=:mEkdbO7Srd9LIOegftO0aBX+VPTVz7/CSHes2Z27gc4=:"),  # B.9
        (b'{\n  "id": "123",\n  "title": "New Title"\n}\n', "sha-256=:uVSlinTTdQUwm2On4k8TJUikGN1bf/Ds8WPX4oe0h9I=:"),
        (BODY, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg==:"),  # C.1, padded once too often
        (
            BODY,  # C.2
            "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:",
        ),
        (SAMPLE, "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),  # D
        (
            SAMPLE,
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
    ],
)
@pytest.mark.parametrize("name", ["Repr-Digest", "Content-Digest"])
def test_examples_of_rfc_9530(name: str, body: bytes, field: str) -> None:
    """The examples of RFC 9530 are proofs of their bodies, and of no other."""
    (digest,) = found = from_headers(fields((name, field)), whole=True)
    assert (digest.source, digest.strong) == (name, True)
    assert judged(found, body).proven
    wrong = judged(found, body + b" ")
    assert wrong.mismatch() == (digest, hashlib.new(digest.algorithm, body + b" ").digest())
    assert not wrong.proven


@pytest.mark.parametrize(
    ("field", "algorithm"),
    [
        ("md5=:Sd/dVLAcvNLSq16eXua5uQ==:", "md5"),
        ("sha=:07CavjDP4u3/TungoUHJO/Wzr4c=:", "sha1"),
        ("unixsum=:GQU=:", None),
        ("unixcksum=:7zsHAA==:", None),
        ("adler=:OZkGFw==:", None),
        ("crc32c=:Q3lHIA==:", None),
    ],
)
def test_weak_examples_of_rfc_9530(field: str, algorithm: str | None) -> None:
    """Of the weak algorithms in appendix D, md5 and sha are hints, which prove nothing; the others are ignored."""
    found = from_headers(fields(("Repr-Digest", field)), whole=True)
    assert [(digest.algorithm, digest.strong) for digest in found] == ([(algorithm, False)] if algorithm else [])
    agreed, wrong = judged(found, SAMPLE), judged(found, BODY)
    assert agreed.mismatch() is None
    assert not agreed.proven
    assert (wrong.mismatch() is None) == (algorithm is None)


def test_a_part_is_compared_with_the_whole() -> None:
    """In a 206, Repr-Digest and Digest are those of the whole; Content-Digest and Content-MD5 are of the part."""
    part = b'"world"}\n'
    headers = fields(
        ("Repr-Digest", f"sha-256=:{b64('sha256', BODY)}:"),
        ("Content-Digest", f"sha-256=:{b64('sha256', part)}:"),
        ("Digest", f"SHA-256={b64('sha256', BODY)}"),
        ("Content-MD5", b64("md5", part)),
    )
    found = from_headers(headers, whole=False)
    assert [digest.source for digest in found] == ["Repr-Digest", "Digest"]
    assert judged(found, BODY).proven
    assert [digest.source for digest in from_headers(headers, whole=True)] == [
        "Repr-Digest",
        "Content-Digest",
        "Digest",
        "Content-MD5",
    ]


S256, S512 = b64("sha256", BODY), b64("sha512", BODY)
STRONG = ("sha256", "Repr-Digest", True)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], []),
        ([""], []),
        ([f"sha-256=:{S256}:"], [STRONG]),
        ([f"  sha-256=:{S256}:  "], [STRONG]),
        ([f"sha-256=:{S256.rstrip('=')}:"], [STRONG]),
        ([f"sha-256=:{S256}:;q=1;x"], [STRONG]),
        ([f"sha-512=:{S512}:,sha-256=:{S256}:"], [("sha512", "Repr-Digest", True), STRONG]),
        ([f"sha-512=:{S512}:", f"sha-256=:{S256}:"], [("sha512", "Repr-Digest", True), STRONG]),
        ([f"sha-256=:{b64('sha256', b'other')}:, sha-256=:{S256}:"], [STRONG]),
        ([f"sha-256=:{b64('sha256', b'other')}:", f"sha-256=:{S256}:"], [STRONG]),
        ([f"sha-256=:{S256}:, sha-256=1"], []),
        ([f"sha-999=:AQI=:, x, y=(1 2), sha-256=:{S256}:, id-sha-256=:{S256}:"], [STRONG]),
        ([f"SHA-256=:{S256}:"], []),
        ([f"sha256=:{S256}:"], []),
        ([f"sha-384=:{b64('sha384', BODY)}:"], []),
        ([f"sha-256={S256}"], []),
        ([f'sha-256="{S256}"'], []),
        ([f"sha-256=(:{S256}:)"], []),
        (["sha-256"], []),
        (["sha-256=::"], []),
        ([f"sha-256=:{S512}:"], []),
        ([f"sha-512=:{S256}:"], []),
        ([f"sha-256=:{base64.b64encode(SHA256.encode()).decode()}:"], []),
        ([f"sha-256=:{S256}:,"], []),
        ([f"sha-256=:{S256}:", ""], []),
        ([f"sha-256=:{S256}:, Bad=1"], []),
        ([f"sha-256=:{S256}:", "\u00e9"], []),
        ([f"sha-256=:{S256}:\udce9"], []),
        ([f"sha-256=:{S256}:, sha-512=:AQI:"], [STRONG]),
        ([f"sha-256=:{S256}:, sha-512=:A:"], []),
    ],
)
def test_repr_digest(lines: list[str], found: list[tuple[str, str, bool]]) -> None:
    """All lines are one dictionary; what is unknown in it is passed over, what is malformed spoils it all."""
    assert announced(*(("Repr-Digest", line) for line in lines)) == found
    of_content = [(algorithm, "Content-Digest", strong) for algorithm, _, strong in found]
    assert announced(*(("content-digest", line) for line in lines)) == of_content


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([f"SHA-256={S256}"], [("sha256", True)]),
        ([f"sha-256={S256}"], [("sha256", True)]),
        ([f"SHA-512={S512}, SHA-256={S256}"], [("sha512", True), ("sha256", True)]),
        ([f"SHA-512={S512}", f"MD5={b64('md5', BODY)}"], [("sha512", True), ("md5", False)]),
        ([f"SHA={b64('sha1', BODY)},unixsum=30637,ADLER32=03da0195"], [("sha1", False)]),
        ([f" ,, SHA-256={S256} ,"], [("sha256", True)]),
        ([f"SHA-256={S256.rstrip('=')}"], [("sha256", True)]),
        ([f"SHA-256={S256}, SHA-256={S256}"], [("sha256", True)]),
        ([f"SHA-256={S256}, SHA-256={b64('sha256', b'other')}"], []),
        ([f"SHA-256={S256}", f"sha-256={b64('sha256', b'other')}, md5={b64('md5', BODY)}"], [("md5", False)]),
        ([f"SHA-256={S256}, SHA-256=garbage, SHA-256={S512}"], [("sha256", True)]),
        ([f"SHA-256=:{S256}:"], []),
        ([f"SHA-256={SHA256}"], []),
        ([f"SHA-256 ={S256}"], []),
        ([f"SHA-256={S256};q=1"], []),
        ([f"id-sha-256={S256}, contentMD5"], []),
        (["SHA-256", "=", "SHA-256=", "=" * 9, f"={S256}", S256], []),
    ],
)
def test_the_old_digest(lines: list[str], found: list[tuple[str, bool]]) -> None:
    """RFC 3230: names in any case; a bad member spoils only itself, and two that contradict say nothing."""
    expected = [(algorithm, "Digest", strong) for algorithm, strong in found]
    assert announced(*(("Digest", line) for line in lines)) == expected


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        ([b64("md5", BODY)], True),
        ([f"  {b64('md5', BODY)} "], True),
        ([b64("md5", BODY).rstrip("=")], True),
        ([b64("md5", BODY)] * 2, True),
        ([b64("md5", BODY), b64("md5", b"other")], False),
        ([hashlib.md5(BODY).hexdigest()], False),
        ([S256], False),
        ([f"md5={b64('md5', BODY)}"], False),
        ([""], False),
    ],
)
def test_content_md5(lines: list[str], hint: bool) -> None:
    """RFC 1864: the base64 of 16 bytes, and a hint at most."""
    expected = [("md5", "Content-MD5", False)] if hint else []
    assert announced(*(("Content-MD5", line) for line in lines)) == expected


def test_each_source_is_heard() -> None:
    """No checksum is dropped because another one is there, also not where two sources contradict."""
    other = b64("sha256", b"other")
    found = from_headers(
        fields(
            ("Digest", f"sha-256={other}, md5={b64('md5', BODY)}"),
            ("Repr-Digest", f"sha-256=:{S256}:, md5=:{b64('md5', BODY)}:"),
        ),
        whole=True,
    )
    assert [(digest.algorithm, digest.source) for digest in found] == [
        ("sha256", "Repr-Digest"),
        ("md5", "Repr-Digest"),
        ("sha256", "Digest"),
        ("md5", "Digest"),
    ]
    contradicted = judged(found, BODY).mismatch()
    assert contradicted is not None
    assert contradicted[0].source == "Digest"


@pytest.mark.parametrize("name", ["Repr-Digest", "Content-Digest", "Digest"])
def test_a_long_field_is_ignored(name: str) -> None:
    """As many characters as allowed are read; one more, in one line or in several, and the field counts as absent."""
    member = f"sha-256={S256}" if name == "Digest" else f"sha-256=:{S256}:"
    room = MAX_FIELD - len(member)
    assert announced((name, member + " " * room)) == [("sha256", name, True)]
    assert announced((name, member + " " * (room + 1))) == []
    assert announced((name, member + " " * (room // 2)), (name, " " * (room // 2 + 1) + "a")) == []


HOSTILE = [char * MAX_FIELD for char in ',:\\;="%(@?-0aA+/* \t\0\u00e9\udce9']
HOSTILE += ["a=," * 5_000, "md5=A," * 2_500, 'a="' + "\\\\" * 8_000, "a=(" + "1 " * 8_000, "a" + ";b=:AA==:" * 1_600]
HOSTILE += ["x" * (64 << 20)]


@pytest.mark.parametrize("name", ["Repr-Digest", "Content-Digest", "Digest", "Content-MD5"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:6]))
def test_a_hostile_field_costs_little(name: str, text: str) -> None:
    """16 KiB of anything (and 64 MiB too) announce nothing, in a time that nobody could call an attack."""
    headers = fields((name, text))
    start = time.thread_time()
    assert from_headers(headers, whole=True) == ()
    assert time.thread_time() - start < 5


_NAMES = st.sampled_from(["Repr-Digest", "Content-Digest", "Digest", "Content-MD5", "digest", "X"])
_PIECES = ["sha-256", "md5", "SHA", *'=:,; ("\\\u00e91', S256, S512, b64("md5", BODY)]
_VALUES = st.lists(st.sampled_from(_PIECES), max_size=12).map("".join) | st.text(max_size=50)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@for_all(st.lists(st.tuples(_NAMES, _VALUES), max_size=5), st.booleans())
def test_any_headers_are_read_without_an_error(pairs: list[tuple[str, str]], whole: bool) -> None:
    """Whatever the text, the outcome is a tuple of checksums of the right length."""
    for digest in from_headers(fields(*pairs), whole=whole):
        assert len(digest.value) == hashlib.new(digest.algorithm).digest_size
        assert whole or digest.source in ("Repr-Digest", "Digest")


# What the bytes come to


def digests(body: bytes, names: list[str], source: str) -> Iterator[Digest]:
    """The checksums of ``body``."""
    for name in names:
        yield Digest(name, hashlib.new(name, body).digest(), source, name not in ("md5", "sha1"))


@pytest.mark.parametrize(
    ("algorithm", "source", "proves"),
    [
        ("sha256", GIVEN, True),
        ("md5", GIVEN, True),
        ("sha1", GIVEN, True),
        ("sha256", "Repr-Digest", True),
        ("md5", "Repr-Digest", False),
        ("sha1", "Digest", False),
        ("md5", "Content-MD5", False),
    ],
)
def test_what_agreement_is_worth(algorithm: str, source: str, proves: bool) -> None:
    """A strong checksum proves, and so does a weak one that the caller chose; every one must agree."""
    expected = tuple(digests(BODY, [algorithm], source))
    assert expected[0].proves is proves
    agreed, wrong = judged(expected, BODY), judged(expected, SAMPLE)
    assert (agreed.mismatch(), agreed.proven) == (None, proves)
    assert (wrong.mismatch(), wrong.proven) == ((expected[0], hashlib.new(algorithm, SAMPLE).digest()), False)


@pytest.mark.parametrize("wrong", ["sha256", "md5", "sha512"])
def test_one_that_disagrees_is_enough(wrong: str) -> None:
    """A proof does not outweigh another checksum that disagrees, be it weak and from a header."""
    expected = [*digests(BODY, ["sha256"], GIVEN), *digests(BODY, ["md5", "sha512"], "Digest")]
    at = [digest.algorithm for digest in expected].index(wrong)
    expected[at] = expected[at]._replace(value=hashlib.new(wrong, b"other").digest())
    hasher = judged(tuple(expected), BODY)
    assert hasher.mismatch() == (expected[at], hashlib.new(wrong, BODY).digest())
    assert not hasher.proven


def test_the_first_that_disagrees_is_told() -> None:
    """The order is that of the expected: the caller's first, if they are given first."""
    expected = [*digests(b"other", ["md5"], GIVEN), *digests(b"other", ["sha256"], "Digest")]
    assert judged(tuple(expected), BODY).mismatch() == (expected[0], hashlib.md5(BODY).digest())
    assert judged(tuple(reversed(expected)), BODY).mismatch() == (expected[1], hashlib.sha256(BODY).digest())


def test_nothing_expected_nothing_proved() -> None:
    """Without a checksum nothing disagrees, and nothing is proved."""
    hasher = judged((), BODY)
    assert (hasher.mismatch(), hasher.proven) == (None, False)


def test_each_algorithm_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same algorithm from three sources is one sum, made as not for security, which FIPS builds need for md5."""
    made: list[tuple[str, bool]] = []
    new = hashlib.new

    def counted(name: str, *, usedforsecurity: bool) -> Any:
        made.append((name, usedforsecurity))
        return new(name, usedforsecurity=usedforsecurity)

    monkeypatch.setattr(hashlib, "new", counted)
    expected = (Digest("md5", bytes(16), source, False) for source in (GIVEN, "Digest", "Content-MD5"))
    hasher = Hasher(expected)
    hasher.update(BODY)
    assert hasher.mismatch() is not None
    assert made == [("md5", False)]


@many
@for_all(
    st.binary(max_size=2000),
    st.lists(st.integers(0, 2000), max_size=6),
    st.lists(st.sampled_from(FIXED), min_size=1, unique=True),
)
def test_where_the_chunks_divide_does_not_matter(body: bytes, cuts: list[int], names: list[str]) -> None:
    """Any body in any pieces, bytes or views of them, agrees with its own checksums; one byte more does not."""
    hasher = Hasher(given(f"{name}:{hashlib.new(name, body).hexdigest()}" for name in names))
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for number, (start, end) in enumerate(pairwise(places)):
        hasher.update(memoryview(body)[start:end] if number % 2 else body[start:end])
    assert hasher.mismatch() is None
    assert hasher.proven
    hasher.update(b"\0")
    found = hasher.mismatch()
    assert found is not None
    assert found[1] == hashlib.new(names[0], body + b"\0").digest()
    assert not hasher.proven


@many
@for_all(st.binary(max_size=500), st.sampled_from([("sha-256", "sha256"), ("sha-512", "sha512"), ("md5", "md5")]))
def test_what_a_server_announces_agrees(body: bytes, names: tuple[str, str]) -> None:
    """The checksum of any body goes through every field that can carry it and comes back."""
    key, algorithm = names
    value = b64(algorithm, body)
    pairs = [("repr-digest", f"{key}=:{value}:"), ("CONTENT-DIGEST", f"{key}=:{value}:"), ("digest", f"{key}={value}")]
    pairs += [("content-md5", value)] if key == "md5" else []
    found = from_headers(fields(*pairs), whole=True)
    assert len(found) == len(pairs)
    hasher = judged(found, body)
    assert hasher.mismatch() is None
    assert hasher.proven is (key != "md5")


def test_an_algorithm_that_is_not_there_is_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hashlib lists md5 and cannot make it, a header with it is ignored, and who gives it is told."""
    from aiodownload import checksums as module

    new = hashlib.new

    def without_md5(name: str, **settings: Any) -> Any:
        if name == "md5":
            raise ValueError("[digital envelope routines] unsupported")
        return new(name, **settings)

    module.algorithms.cache_clear()
    monkeypatch.setattr(hashlib, "new", without_md5)
    try:
        assert from_headers(fields(("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==")), whole=True) == ()
        with pytest.raises(ConfigurationError, match="md5"):
            given("md5:" + "0" * 32)
    finally:
        module.algorithms.cache_clear()


def test_a_digest_travels() -> None:
    """A checksum pickles, compares and hashes by value, and does not change."""
    (digest,) = given(f"sha256:{SHA256}")
    assert pickle.loads(pickle.dumps(digest)) == digest
    assert {digest, *given(f"SHA-256:{SHA256}")} == {digest}
    with pytest.raises(AttributeError):
        digest.strong = False  # type: ignore[misc]


def test_every_listed_name_is_known() -> None:
    """What hashlib lists beyond its own, and can make, is taken too, also in lower case and without marks."""
    for name in hashlib.algorithms_available:
        if not name.startswith("shake") and set(name) <= set(string.ascii_letters + string.digits + "-_/"):
            try:
                value = hashlib.new(name, BODY).hexdigest()
            except ValueError:
                continue
            assert judged(given(f"{re.sub('[-_/]', '', name).lower()}:{value}"), BODY).proven
