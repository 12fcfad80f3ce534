"""Disk faults: one request, the old whole file as it was, a clear reason, and the others go on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from hashlib import shake_128
from pathlib import Path
from typing import Any

import pytest
from conftest import Quick

import aiodownload
from aiodownload import AioDownload, DiskError, DownloadStrategy, RequestStrategy
from aiodownload.testing import FaultServer, ok, ranged

BODY = shake_128(b"faulty").digest(3 << 20)
OLD = b"the old whole file"

ERRORS = ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO", "EFBIG"]
STEPS = {
    "open": "write",
    "write": "write",
    "fstat": "finish",
    "fchmod": "finish",
    "close": "finish",
    "replace": "rename to",
    "fsync": "sync",
}


class Fault:
    """A system call that fails for the partial file of ``bad.bin``, once armed."""

    def __init__(self) -> None:
        self.step = ""
        self.number = 0
        self.handles: set[int] = set()
        self.calls = 0

    def arm(self, step: str, name: str) -> None:
        self.step, self.number = step, getattr(errno, name)

    def hit(self, step: str, what: Any) -> bool:
        concerns = what in self.handles if isinstance(what, int) else _is_part(what)
        if self.step != step or not concerns:
            return False
        self.calls += 1
        return True

    def fail(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def _is_part(path: Any) -> bool:
    name = os.path.basename(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else ""
    return name.startswith(".bad.bin.") and name.endswith(".part") and "json" not in name


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    fault = Fault()
    real = {name: getattr(os, name) for name in (*STEPS, "writev")}

    def opened(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if fault.hit("open", path):
            fault.fail()
        handle = real["open"](path, flags, mode, **more)
        if _is_part(path):
            fault.handles.add(handle)
        else:
            fault.handles.discard(handle)
        return int(handle)

    def plain(name: str) -> Callable[..., Any]:
        step = "write" if name == "writev" else name

        def call(what: Any, *more: Any, **named: Any) -> Any:
            if (name != "replace" or more[0] == "bad.bin") and fault.hit(step, what):
                if name == "close":
                    real[name](what)
                fault.fail()
            return real[name](what, *more, **named)

        return call

    monkeypatch.setattr(os, "open", opened)
    for name in real:
        if name != "open":
            monkeypatch.setattr(os, name, plain(name))
    yield fault
    fault.step = ""


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["small", "large", "resumed"])
def test_a_fault_at_each_step(
    kind: str, step: str, name: str, fault: Fault, server: FaultServer, home: Path, quick: Callable[..., AioDownload]
) -> None:
    """R34, R36, R37, P5: no network retry, the old version bit for bit, nothing left over, and the run goes on."""
    if kind == "small" and step == "fchmod":
        pytest.skip("a body of one trip has its mode from the start")
    body = BODY[:1000] if kind == "small" else BODY
    bad = server.on("/bad.bin", *([ranged(body, cut=2 << 20)] if kind == "resumed" else []), ranged(body))
    urls = [server.on(f"/{number}", ok(b"%d" % number)) for number in range(3)]
    folder = home / f"127.0.0.1+{server.port}"
    folder.mkdir(parents=True)
    (folder / "bad.bin").write_bytes(OLD)
    strategy = DownloadStrategy(home=home, durable=step == "fsync")
    if kind == "resumed":
        assert not aiodownload.one(bad, quick(RequestStrategy(timeout=5), strategy)).ok
        server.requests.clear()
    fault.arm(step, name)
    bundles = aiodownload.swarm([urls[0], bad, *urls[1:]], quick(Quick(5, timeout=5), strategy))
    assert fault.calls >= 1
    assert [bundle.ok for bundle in bundles] == [True, False, True, True]
    error = bundles[1].error
    assert isinstance(error, DiskError)
    assert (error.errno, error.action) == (getattr(errno, name), STEPS[step])
    assert error.reason == ("disk_full" if name in ("ENOSPC", "EDQUOT") else name)
    assert os.strerror(error.errno or 0) in str(error)
    assert len(server.asked("/bad.bin")) == 1
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {"bad.bin": OLD, "0": b"0", "1": b"1", "2": b"2"}
