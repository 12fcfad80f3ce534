"""Random schedules of faults: whatever a server does to the first requests, in the end the right bytes are there.

``pytest -m slow -s tests/proof/test_schedules.py`` does ten thousand and prints what it counted.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import shake_128
from pathlib import Path

import pytest
from conftest import Quick
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import aiodownload
from aiodownload import AioDownload, DownloadStrategy
from aiodownload.testing import FaultServer, Script, chunked, cut, drop, ok, ranged, raw, reset, stall, status

SIZES = [0, 1, 100, 5000, 70_000, 200_000, (1 << 20) + 1, 3 << 20]
ETAGS = ['"a"', 'W/"a"', None]
STALL = 0.5  # seconds
TRIES = 6

Fault = Callable[[bytes, bytes, float], Script]


def part(body: bytes, content_range: str | None, sent: bytes) -> Script:
    """A 206, asked for or not."""
    fields = ["HTTP/1.1 206 Partial Content", f"Content-Length: {len(sent)}", 'ETag: "a"']
    if content_range is not None:
        fields.append(f"Content-Range: {content_range}")
    return raw("\r\n".join((*fields, "Connection: close", "", "")).encode() + sent)


def spot(body: bytes, where: float) -> int:
    """A place in the body that is not its end."""
    return int(where * max(0, len(body) - 1))


FAULTS: dict[str, Fault] = {
    "cut": lambda body, _, at: ranged(body, cut=spot(body, at)) if body else drop(),
    "cut without a validator": lambda body, _, at: cut(body, spot(body, at)) if body else drop(),
    "cut by a reset": lambda body, _, at: cut(body, spot(body, at), rst=True) if body else reset(),
    "cut chunks": lambda body, _, at: chunked(body, end=False),
    "another version, cut": lambda body, other, at: ranged(other, '"b"', cut=spot(other, at)) if other else drop(),
    "nothing": lambda *_: drop(),
    "reset": lambda *_: reset(),
    "garbage": lambda *_: raw(b"\x00\x01 what?\r\n\r\n"),
    "half a head": lambda *_: raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "busy": lambda *_: status(503, b"come back"),
    "busy, come at once": lambda *_: status(429, Retry_After="0"),
    "no content": lambda *_: status(204),
    "created": lambda body, *_: status(201, body),
    "not modified": lambda *_: status(304),
    "no such range": lambda body, *_: status(416, b"", Content_Range=f"bytes */{len(body)}"),
    "no such range, other length": lambda body, *_: status(416, b"page", Content_Range=f"bytes */{len(body) + 7}"),
    "a part of something": lambda body, _, at: part(
        body, f"bytes 0-{spot(body, at)}/{len(body) or 1}", body[:1] or b"x"
    ),
    "a part from elsewhere": lambda body, *_: part(body, f"bytes 1-9/{len(body) + 9}", b"elsewhere"),
    "a part without a place": lambda body, _, at: part(body, None, body[spot(body, at) :]),
    "too long": lambda body, *_: raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) + 5) + body),
    "half a coding": lambda body, *_: ok(gzip.compress(body)[:-9], Content_Encoding="gzip"),
    "two lengths": lambda body, *_: raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "silence": lambda *_: stall(),
    "silence in the body": lambda body, _, at: stall(body, spot(body, at)) if body else stall(),
}
HONEST: dict[str, Fault] = {
    "whole": lambda body, *_: ok(body),
    "coded": lambda body, *_: ok(gzip.compress(body), Content_Encoding="gzip"),
    "chunked": lambda body, *_: chunked(body),
}


Schedule = tuple[int, str | None, list[str], float, bool, str]
"""Size, ETag, faults of the first requests, where they strike, an old file or none, and the last answer."""


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Any of them."""
    return (
        draw(st.sampled_from(SIZES)),
        draw(st.sampled_from(ETAGS)),
        draw(st.lists(st.sampled_from(sorted(FAULTS)), max_size=4)),
        draw(st.floats(0, 1)),
        draw(st.booleans()),
        draw(st.sampled_from(["ranged", "ranged", *HONEST])),
    )


def run(server: FaultServer, several: list[Schedule], tally: Counter[str]) -> None:
    """One swarm over a schedule for each URL, and the oracle."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        place = home / f"127.0.0.1+{server.port}"
        place.mkdir()
        urls, right = [], []
        for number, (size, etag, faults, where, old, last) in enumerate(several):
            body, other = (shake_128(f"{name}{number}".encode()).digest(size) for name in ("body", "other"))
            final = ranged(body, headers={"ETag": etag}) if last == "ranged" else HONEST[last](body, other, where)
            urls.append(server.on(f"/{number}.bin", *(FAULTS[name](body, other, where) for name in faults), final))
            # Pieces of one other version that meet are a whole file of that: its server had it then.
            pieces = faults.count("another version, cut") * spot(other, where)
            right.append((body, other) if size and pieces >= size else (body,))
            if old:
                (place / f"{number}.bin").write_bytes(b"old whole file")
            tally.update(faults)
        download = AioDownload(None, DownloadStrategy(home=home), Quick(TRIES, concurrent=8, timeout=STALL))
        began = time.monotonic()
        bundles = aiodownload.swarm(urls, download)
        took = time.monotonic() - began
        stalls = sum(name.startswith("silence") for one in several for name in one[2])
        assert took < 15 + stalls * STALL * 2
        for bundle, versions, one in zip(bundles, right, several, strict=True):
            assert bundle.ok, (one, bundle.error)  # fewer faults than tries: it converges (P7)
            assert Path(bundle.file_path or "").read_bytes() in versions, one
            assert bundle.size == one[0]
        assert sorted(path.name for path in place.iterdir()) == sorted(
            f"{number}.bin" for number in range(len(several))
        )


@pytest.mark.parametrize(
    "count", [120, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])], ids=str
)
def test_schedules(count: int) -> None:
    """P3, P5, P7: never a wrong file, nothing left over, everything converges, nothing hangs."""
    tally: Counter[str] = Counter()
    done = 0

    @settings(
        max_examples=count // 20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],  # to make a failing case smaller takes hours
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(schedules(), min_size=20, max_size=20))
    def check(several: list[Schedule]) -> None:
        nonlocal done
        with FaultServer() as server:
            run(server, several, tally)
        done += len(several)

    check()
    print(f"\n{done} schedules, {sum(tally.values())} faults of {len(tally)} kinds: 0 wrong files, all converged")
    assert done >= count
