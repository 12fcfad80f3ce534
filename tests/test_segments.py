"""Segments: several parts of one large file at once, where that was asked for and the server can do it."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256, shake_128
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    ConfigurationError,
    DigestError,
    DownloadStrategy,
    LowSpeedError,
    RequestStrategy,
    StallError,
    StrategyError,
    Verified,
)
from aiodownload import segments as engine
from aiodownload.request.redirects import Hop
from aiodownload.storage import content, delivery, kept, partial
from aiodownload.storage.record import identity, parse
from aiodownload.testing import FaultServer, Request, Script, cut, drop, each_path, ok, ranged, redirect, status
from aiodownload.transport import Transport

MIB = 1 << 20
BODY = shake_128(b"body").digest(2 * MIB)
OTHER = shake_128(b"other").digest(2 * MIB)
SPEED = 4.0 * MIB  # bytes per second of one connection

Make = Callable[..., AioDownload]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a sixteenth of its size: 2 MiB are large, and a test takes no second."""
    monkeypatch.setattr(engine, "LEAST", engine.LEAST >> 4)
    monkeypatch.setattr(engine, "BATCH", engine.BATCH >> 4)
    monkeypatch.setattr(engine, "EDGE", engine.EDGE >> 4)
    monkeypatch.setattr(delivery, "LARGE", delivery.LARGE >> 4)
    monkeypatch.setattr(content, "AHEAD", content.AHEAD >> 4)
    monkeypatch.setattr(engine, "SHORT", engine.SHORT >> 4)
    monkeypatch.setattr(delivery, "BATCH", delivery.BATCH >> 4)
    monkeypatch.setattr(partial, "BATCH", partial.BATCH >> 4)
    monkeypatch.setattr(kept, "CHECKPOINT", kept.CHECKPOINT >> 5)


@pytest.fixture
def make(home: Path) -> Make:
    """Makes an AioDownload with up to four requests for one file."""

    def made(request: RequestStrategy | None = None, *, segments: int = 4, **settings: Any) -> AioDownload:
        strategy = DownloadStrategy(home=home, segments=segments, **settings)
        return AioDownload(None, strategy, request or Quick(concurrent=8, max_attempts=5, timeout=5))

    return made


def files(home: Path) -> dict[str, bytes]:
    """Everything below home."""
    return {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def asked(server: FaultServer) -> list[str | None]:
    """The Range of each request."""
    return [request.headers.get("range") for request in server.requests]


def bytes_asked(server: FaultServer) -> int:
    """By those requests that have a Range with an end."""
    pairs = [one.removeprefix("bytes=").split("-") for one in asked(server) if one is not None]
    return sum(int(last) + 1 - int(first) for first, last in pairs if last)


# The good case.


def test_several_parts_at_once(server: FaultServer, home: Path, make: Make) -> None:
    """One request without a Range, whose body is the first part, and further ones with; every byte in its place."""
    url = server.on("/f.bin", ranged(BODY, speed=SPEED))
    bundle = aiodownload.one(url, make())
    assert bundle.ok, bundle.error
    assert files(home) == {"f.bin": BODY}
    assert (bundle.attempts, bundle.verified, bundle.http_status) == (1, Verified.LENGTH, 200)
    assert {request.method for request in server.requests} == {"GET"}
    assert server.most_active == 4
    assert asked(server)[0] is None
    assert len(asked(server)) >= 4
    assert {request.headers.get("if-range") for request in server.requests[1:]} == {'"a"'}
    assert bytes_asked(server) < 2 * len(BODY)


def test_a_redirect_is_followed_by_each(server: FaultServer, other_server: FaultServer, home: Path, make: Make) -> None:
    """Each part begins at the bundle's own URL: what it leads to may be for one request only."""
    url = server.on("/f.bin", redirect(other_server.on("/moved", ranged(BODY, speed=SPEED))))
    assert aiodownload.one(url, make()).ok
    assert files(home) == {"f.bin": BODY}
    assert len(server.requests) == len(other_server.requests) >= 4


def test_the_digest_of_the_whole(server: FaultServer, home: Path, make: Make) -> None:
    """It is proved over the file as it is on the disk, and what does not have it is not kept."""
    url = server.on("/f.bin", ranged(BODY, speed=SPEED))
    right, wrong = f"sha256:{sha256(BODY).hexdigest()}", f"sha256:{sha256(OTHER).hexdigest()}"
    assert aiodownload.one(AioDownloadBundle(url, digest=right), make()).verified is Verified.DIGEST
    assert files(home) == {"f.bin": BODY}
    bundle = aiodownload.one(AioDownloadBundle(url, digest=wrong, file_path="g.bin"), make())
    assert isinstance(bundle.error, DigestError)
    assert files(home) == {"f.bin": BODY}


def test_each_counts_in_the_limits(
    server: FaultServer, home: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``per_host`` and ``concurrent`` hold for parts as for files: so many answers are asked for or being read.

    One that is not read to its end is closed, which its server may notice a moment after the next one has begun.
    """
    in_hand: list[aiohttp.ClientResponse | None] = []
    most = []
    ask = Transport.ask

    async def counting(self: Transport, hop: Hop) -> aiohttp.ClientResponse:
        in_hand[:] = [one for one in in_hand if one is None or not (one.closed or one.connection is None)]
        in_hand.append(None)
        most.append(len(in_hand))
        try:
            response = await ask(self, hop)
        finally:
            in_hand.remove(None)
        in_hand.append(response)
        return response

    monkeypatch.setattr(Transport, "ask", counting)
    urls = [server.on(f"/{number}.bin", ranged(BODY, speed=8 * SPEED)) for number in range(4)]
    bundles = aiodownload.swarm(urls, make(Quick(concurrent=8, per_host=3, timeout=5)))
    assert all(bundle.ok for bundle in bundles)
    assert max(most) == 3
    assert server.most_active <= 4
    assert set(files(home).values()) == {BODY}


@pytest.mark.parametrize("limits", [{"concurrent": 1}, {"concurrent": 8, "per_host": 1}, {"concurrent": 2}])
def test_a_broken_answer_keeps_nobody_waiting(
    limits: dict[str, int], server: FaultServer, home: Path, make: Make
) -> None:
    """Its slot is given back at once: others of the same file may be waiting for just that one."""
    begun = [ranged(BODY, cut=300_000) for _ in range(2)]

    def choose(request: Request) -> Script:
        return begun.pop() if begun and "range" not in request.headers else ranged(BODY)

    urls = [server.on(f"/{number}.bin", each_path(choose)) for number in range(2)]
    assert all(bundle.ok for bundle in aiodownload.swarm(urls, make(Quick(max_attempts=5, timeout=2, **limits))))
    assert set(files(home).values()) == {BODY}


def test_where_only_one_request_is_allowed(server: FaultServer, home: Path, make: Make) -> None:
    """One at a time: the first answer is read to its end."""
    url = server.on("/f.bin", ranged(BODY, speed=8 * SPEED))
    assert aiodownload.one(url, make(Quick(concurrent=1, timeout=5))).ok
    assert asked(server) == [None]
    assert files(home) == {"f.bin": BODY}


# An on_success of one's own.


class ReadsFirst(DownloadStrategy):
    """Looks at the beginning, and then wants the file."""

    resumable = True

    async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
        await response.content.read(10)
        await super().on_success(response, bundle)


class Trusting(DownloadStrategy):
    """Has an ``on_success`` of its own, which lets the file be fetched."""

    resumable = True

    async def on_success(self, response: aiohttp.ClientResponse, bundle: AioDownloadBundle) -> None:
        await super().on_success(response, bundle)


@pytest.mark.parametrize("segments", [1, 4])
def test_a_body_that_was_begun_is_no_beginning_of_a_file(segments: int, server: FaultServer, home: Path) -> None:
    """It is a bug, and told as one before any byte is kept: at the wrong place it would be a wrong file."""
    url = server.on("/f.bin", ranged(BODY, speed=SPEED))
    download = AioDownload(None, ReadsFirst(home=home, segments=segments), Quick(concurrent=8, timeout=5))
    with pytest.raises(StrategyError, match="was read before super"):
        aiodownload.one(url, download)
    assert files(home) == {}


@pytest.mark.parametrize("limit", [{"bandwidth": 1e9}, {"per_host_bandwidth": 1e9}, {"low_speed": (1, 5)}, {}])
@pytest.mark.parametrize("segments", [1, 4])
def test_an_on_success_of_ones_own(segments: int, limit: dict[str, Any], server: FaultServer, home: Path) -> None:
    """What calls ``super().on_success()`` gets the file as it is, divided or not, limited or not."""
    url = server.on("/f.bin", ranged(BODY, speed=4 * SPEED))
    strategy = Trusting(home=home, segments=segments)
    assert aiodownload.one(url, AioDownload(None, strategy, Quick(concurrent=8, timeout=5, **limit))).ok
    assert files(home) == {"f.bin": BODY}


# Who never pays for it.


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(ranged(BODY[: (1 << 19) - 1]), id="a small file"),
        pytest.param(ranged(BODY, headers={"Accept-Ranges": "none"}), id="no ranges"),
        pytest.param(ranged(BODY, headers={"Accept-Ranges": None}), id="nothing said of ranges"),
        pytest.param(ranged(BODY, etag='W/"a"'), id="a weak ETag"),
        pytest.param(ranged(BODY, headers={"ETag": None}), id="no ETag"),
        pytest.param(ok(BODY), id="neither"),
    ],
)
def test_one_request_for_what_cannot_be_divided(script: Script, server: FaultServer, home: Path, make: Make) -> None:
    """The first answer says so, and nothing more is asked."""
    assert aiodownload.one(server.on("/f.bin", script), make()).ok
    assert asked(server) == [None]
    assert files(home)["f.bin"] in (BODY, BODY[: (1 << 19) - 1])


def test_it_has_to_be_asked_for(server: FaultServer, make: Make) -> None:
    """By default nothing is divided."""
    assert DownloadStrategy().segments == 1
    assert aiodownload.one(server.on("/f.bin", ranged(BODY)), make(segments=1)).ok
    assert asked(server) == [None]
    with pytest.raises(ConfigurationError, match="segments"):
        DownloadStrategy(segments=0)


# What servers do.


def first_then(first: Script, then: Script, later: Script | None = None) -> Script:
    """The first request is answered by one script, those with a Range by another; ``later``: after four of them."""
    seen = []

    def choose(request: Request) -> Script:
        seen.append(request)
        if "range" not in request.headers:
            return first
        return later if later is not None and len(seen) > 5 else then

    return each_path(choose)


WHOLE = ranged(BODY, speed=SPEED)

ANSWERS = {
    "a 200 for every part": ok(BODY, ETag='"a"'),
    "a chunked 200": ok(OTHER, ETag='"b"'),
    "parts of another file": ranged(OTHER, etag='"b"', headers={"Content-Range": f"bytes 0-0/{len(BODY)}"}),
    "another ETag under the If-Range": ranged(BODY, headers={"ETag": '"b"'}),
    "shorter parts": ranged(BODY, most=50_000),
    "cut parts": ranged(BODY, cut=70_000),
    "503": status(503),
    "429 with a wait": status(429, Retry_After="1"),
    "416": status(416, Content_Range=f"bytes */{len(BODY)}"),
    "404": status(404),
    "no answer": drop(),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_the_parts_are(answer: str, server: FaultServer, home: Path, make: Make) -> None:
    """The first answer is good: it has everything that the others do not give, and it is one try."""
    url = server.on("/f.bin", first_then(WHOLE, ANSWERS[answer]))
    bundle = aiodownload.one(url, make(Quick(concurrent=8, max_attempts=40, timeout=5)))
    assert bundle.ok, bundle.error
    assert files(home) == {"f.bin": BODY}
    assert bundle.attempts == 1 or answer == "cut parts"
    assert len(server.requests) < 100


@pytest.mark.parametrize("after", ["good parts", "a 200 for every part", "503", "no answer"])
def test_the_first_answer_is_cut(after: str, server: FaultServer, home: Path, make: Make) -> None:
    """Its rest is fetched by the others, or by the next try, which keeps what is there."""
    then = ANSWERS.get(after, WHOLE)
    begun = ranged(BODY, cut=300_000)
    url = server.on("/f.bin", first_then(begun, then, ranged(BODY)))
    bundle = aiodownload.one(url, make(Quick(concurrent=8, max_attempts=8, timeout=5)))
    assert bundle.ok, bundle.error
    assert files(home) == {"f.bin": BODY}


@pytest.mark.parametrize("size", [1, 1000])
def test_parts_of_a_few_bytes(size: int, server: FaultServer, home: Path, make: Make) -> None:
    """They are legal, and a request for each would be a flood: the first answer goes on."""
    url = server.on("/f.bin", first_then(WHOLE, ranged(BODY, most=size)))
    bundle = aiodownload.one(url, make())
    assert bundle.ok, bundle.error
    assert files(home) == {"f.bin": BODY}
    assert len(server.requests) <= 4


def test_low_speed_is_of_the_file(server: FaultServer, home: Path, make: Make) -> None:
    """A server that is quick enough in all is so by several requests, each of which is slower."""
    url = server.on("/f.bin", ranged(BODY, speed=MIB))  # for each of four
    bundle = aiodownload.one(url, make(Quick(concurrent=8, timeout=5, low_speed=(2 * MIB, 0.3))))
    assert bundle.ok, bundle.error
    assert bundle.attempts == 1


def test_low_speed_of_all_of_it(server: FaultServer, make: Make) -> None:
    """One that is too slow by all of them fails with just that reason."""
    url = server.on("/f.bin", ranged(BODY, speed=MIB / 8))
    bundle = aiodownload.one(url, make(Quick(1, concurrent=8, timeout=5, low_speed=(2 * MIB, 0.3))))
    assert isinstance(bundle.error, LowSpeedError)


def test_the_reason_of_the_first_answer_counts(server: FaultServer, make: Make) -> None:
    """What the parts fail by does not hide why the file is not there."""
    url = server.on("/f.bin", first_then(ranged(BODY, cut=300_000, hold=True), status(403)))
    bundle = aiodownload.one(url, make(Quick(1, concurrent=8, timeout=0.5)))
    assert isinstance(bundle.error, StallError)


def test_replicas_that_disagree(server: FaultServer, home: Path, make: Make) -> None:
    """R23, R24: half of the requests come to another version; no byte of the one gets into the other."""
    turn = iter(range(10_000))

    def choose(_: Request) -> Script:
        return ranged(OTHER, etag='"b"', speed=SPEED) if next(turn) % 2 else ranged(BODY, speed=SPEED)

    bundle = aiodownload.one(server.on("/f.bin", each_path(choose)), make())
    assert bundle.ok, bundle.error
    assert files(home)["f.bin"] in (BODY, OTHER)


# Interrupted.


def test_an_interrupted_one_goes_on_with_its_parts(server: FaultServer, home: Path, make: Make) -> None:
    """The record names the ranges, and the next run asks for what is missing and for nothing else, divided or not."""
    url = server.on("/f.bin", ranged(BODY, speed=SPEED / 2))

    def held() -> int:
        records = [parse(path.read_bytes()) for path in home.rglob("*.part.json")]
        ranges = records[0].written if records and records[0] is not None else ()
        return sum(end - first for first, end in ranges) if len(ranges) > 2 else 0

    async def interrupted() -> int:
        async with make() as download:
            task = asyncio.ensure_future(download.one(url))
            while held() < MIB // 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return held()

    kept_bytes = asyncio.run(interrupted())
    assert kept_bytes >= MIB // 2
    assert "f.bin" not in files(home)
    for segments in (4, 1):
        before = len(server.requests)
        if segments == 1:
            (home / next(home.iterdir()).name / "f.bin").unlink()
            kept_bytes = asyncio.run(interrupted())
            before = len(server.requests)
        assert aiodownload.one(url, make(segments=segments)).ok
        assert files(home) == {"f.bin": BODY}
        again = asked(server)[before:]
        assert None not in again
        assert len(again) >= 2


PROGRAM = """
import sys, aiodownload
from aiodownload import segments
from aiodownload.storage import content, delivery, kept, partial
segments.LEAST, segments.BATCH, segments.EDGE, delivery.LARGE = 1 << 18, 1 << 16, 1 << 12, 1 << 19
delivery.BATCH = partial.BATCH = content.AHEAD = 1 << 16
kept.CHECKPOINT = 1 << 17
strategy = aiodownload.DownloadStrategy(home=sys.argv[2], segments=4)
bundle = aiodownload.one(
    sys.argv[1], aiodownload.AioDownload(None, strategy, aiodownload.RequestStrategy(concurrent=8, timeout=5))
)
sys.exit(not bundle.ok)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("count", [4, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_any_moment(count: int, server: FaultServer, tmp_path: Path) -> None:
    """P1: after SIGKILL, once or a few times over, there is no file or the whole; the next run finishes it."""
    chance = random.Random(count)
    url = server.on("/f.bin", ranged(BODY, speed=SPEED))
    resumed = 0
    for number in range(count):
        home = tmp_path / str(number)
        for _ in range(chance.choice((1, 2, 3))):
            before = len(server.requests)
            with subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(home)]) as process:
                while len(server.requests) == before and process.poll() is None:
                    time.sleep(0.002)
                time.sleep(chance.random() * 0.2)
                process.kill()
            assert files(home).get("f.bin") in (None, BODY)
        before = len(server.requests)
        with subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(home)]) as process:
            assert process.wait(30) == 0
        assert files(home) == {"f.bin": BODY}
        resumed += None not in asked(server)[before:]
    assert resumed


@pytest.mark.parametrize("segments", [1, 4])
@pytest.mark.parametrize("missing", [(300_000, 700_000), (0, 300_000)])
def test_one_gap_is_asked_for_and_nothing_else(
    missing: tuple[int, int], segments: int, server: FaultServer, home: Path, make: Make
) -> None:
    """P4: what is held behind it is not fetched again."""
    url = server.on("/f.bin", ranged(BODY))
    folder = home / url.split("/")[2].replace(":", "+")
    folder.mkdir(parents=True)
    first, end = missing
    origin = kept.Origin(identity(url), '"a"', len(BODY))
    part = kept.KeptPart(str(folder / "f.bin"), 0o644, origin, root=str(home))
    part.write_at(0, [BODY[:first]])
    part.write_at(end, [BODY[end:]])
    assert part.release()
    assert aiodownload.one(url, make(segments=segments)).ok
    assert files(home) == {"f.bin": BODY}
    assert asked(server) == [f"bytes={first}-{end - 1}"]


async def test_nothing_is_complained_of_when_the_disk_is_full(
    server: FaultServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several parts fail in the same moment, and each failure is taken note of."""

    def full(handle: int, chunks: Any, place: int) -> Iterator[int]:
        raise OSError(28, "No space left on device")

    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    monkeypatch.setattr(kept, "write_at", full)
    async with make() as download:
        assert isinstance((await download.one(server.on("/f.bin", WHOLE))).error, aiodownload.DiskError)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


def test_the_disk_is_full(server: FaultServer, home: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails the bundle with its reason, once, and nothing is left that is not known of."""

    def full(handle: int, chunks: Any, place: int) -> Iterator[int]:
        if place > MIB:
            raise OSError(28, "No space left on device")
        yield from write(handle, chunks, place)

    write = kept.write_at
    monkeypatch.setattr(kept, "write_at", full)
    bundle = aiodownload.one(server.on("/f.bin", WHOLE), make())
    assert isinstance(bundle.error, aiodownload.DiskError)
    assert bundle.attempts == 1
    assert "f.bin" not in files(home)


# Anything.


def trouble(chance: random.Random) -> Script:
    """One answer of a server that has good and bad moments."""
    kinds: list[Callable[[], Script]] = [
        lambda: ranged(BODY, speed=8 * SPEED),
        lambda: ranged(BODY),
        lambda: ranged(BODY, cut=chance.randrange(0, 600_000)),
        lambda: ranged(BODY, most=chance.randrange(1, 400_000)),
        lambda: ranged(OTHER, etag='"b"', speed=8 * SPEED),
        lambda: ranged(OTHER, etag='"b"', cut=chance.randrange(0, 600_000)),
        lambda: ok(BODY, ETag='"a"'),
        lambda: status(503),
        lambda: drop(),
        lambda: cut(BODY, chance.randrange(0, 600_000)),
    ]
    return chance.choice(kinds)()


@pytest.mark.parametrize("seed", [*range(30), *(pytest.param(one, marks=pytest.mark.slow) for one in range(30, 2000))])
def test_any_sequence_of_answers(seed: int, server: FaultServer, home: Path, make: Make) -> None:
    """After up to thirty answers of any kind the server is well: the file is whole, and of one version."""
    chance = random.Random(seed)
    troubles = [trouble(chance) for _ in range(chance.randrange(1, 30))]
    last = chance.choice([ranged(BODY), ranged(OTHER, etag='"b"')])

    def choose(_: Request) -> Script:
        return troubles.pop() if troubles else last

    url = server.on("/f.bin", each_path(choose))
    bundle = aiodownload.one(url, make(Quick(concurrent=8, max_attempts=40, timeout=5)))
    assert bundle.ok, bundle.error
    assert set(files(home)) == {"f.bin"}
    assert files(home)["f.bin"] in (BODY, OTHER)


async def test_a_connection_is_not_needed(server: FaultServer, home: Path, make: Make) -> None:
    """Called by hand: one try, outside of the schedule, divides as well."""
    async with make() as download:
        bundle = AioDownloadBundle(server.on("/f.bin", ranged(BODY, speed=SPEED)))
        await download.request_and_download(bundle)
    assert bundle.ok
    assert files(home) == {"f.bin": BODY}
