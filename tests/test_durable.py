"""durable=True: what a power cut leaves of the files, at every point of time and whatever the disk has put off."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import shake_128
from pathlib import Path
from typing import Any

import pytest
from conftest import Quick

import aiodownload
from aiodownload import AioDownload, BodyError, DownloadStrategy, RequestStrategy, Status, Verified
from aiodownload.testing import FaultServer, ok, ranged, until_close

BODY = shake_128(b"durable").digest(3 << 20)
OLD = b"the old whole file"


@dataclass
class Inode:
    """A file: what was written to it, and what of that is on the disk for sure."""

    data: bytearray
    synced: bytes = b""

    def after_the_cut(self) -> set[bytes]:
        """Its content, if nothing, all, or a part of what was put off came to the disk."""
        new = bytes(self.data)
        half = (len(self.synced) + len(new)) // 2
        holed = self.synced[:half] + bytes(max(0, half - len(self.synced))) + new[half:]
        return {self.synced, new, new[:half], holed}


@dataclass
class Model:
    """A disk that may put everything off until it is told to sync: data for each file, names for each folder."""

    root: str
    inodes: dict[int, Inode] = field(default_factory=dict)
    names: list[tuple[str, str, Any, bool]] = field(default_factory=list)  # folder, operation, arguments, synced
    handles: dict[int, tuple[int, int] | str] = field(default_factory=dict)
    history: list[set[bytes | None]] = field(default_factory=list)
    target: str = ""

    def note(self) -> None:
        """Add what the target may hold if the power goes now."""
        self.history.append(self.after_the_cut())

    def after_the_cut(self) -> set[bytes | None]:
        put_off = [at for at, one in enumerate(self.names) if not one[3]]
        found: set[bytes | None] = set()
        for lost in itertools.product((False, True), repeat=len(put_off)):
            dropped = {at for at, gone in zip(put_off, lost, strict=True) if gone}
            entries: dict[str, Any] = {self.root: "folder"}
            for at, (folder, operation, arguments, _) in enumerate(self.names):
                if at in dropped or folder not in entries:
                    continue
                if operation == "link":
                    entries[arguments[0]] = arguments[1]
                elif operation == "rename" and arguments[0] in entries:
                    entries[arguments[1]] = entries.pop(arguments[0])
                elif operation == "unlink":
                    entries.pop(arguments[0], None)
            inode = entries.get(self.target)
            found |= {None} if inode is None else self.inodes[inode].after_the_cut()
        return found

    def inside(self, path: Any) -> bool:
        return isinstance(path, str) and path.startswith(self.root + os.sep)

    def change(self, operation: str, path: str, *arguments: Any) -> None:
        self.names.append((os.path.dirname(path), operation, (path, *arguments), False))
        self.note()


@pytest.fixture
def disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> Model:  # noqa: C901 (one small function per system call)
    """Notes every system call that changes something below home."""
    model = Model(str(home))
    real = {name: getattr(os, name) for name in ("open", "close", "write", "fsync", "ftruncate", "mkdir", "unlink")}
    real |= {"replace": os.replace, "rename": os.rename}

    def full(path: Any, folder: int | None) -> Any:
        """The absolute path of what is named in an open folder."""
        if folder is None:
            return path
        above = model.handles.get(folder)
        return os.path.normpath(os.path.join(above, path)) if isinstance(above, str) else None

    def opened(name: Any, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
        path = full(name, dir_fd)
        existed = os.path.lexists(path) if model.inside(path) else True
        handle = real["open"](name, flags, mode, dir_fd=dir_fd)
        if model.inside(path) or path == model.root:
            if os.path.isdir(path):
                model.handles[handle] = path
            else:
                number = os.fstat(handle).st_ino
                if not existed:
                    model.inodes[number] = Inode(bytearray())
                    model.change("link", path, number)
                model.handles[handle] = (number, 0)
        return handle

    def written(handle: int, data: Any) -> int:
        count = real["write"](handle, data)
        if isinstance(there := model.handles.get(handle), tuple):
            number = there[0]
            at = os.lseek(handle, 0, os.SEEK_CUR) - count
            content = model.inodes[number].data
            content[at : at + count] = bytes(data)[:count]
            model.note()
        return int(count)

    def written_many(handle: int, views: Any) -> int:
        return written(handle, b"".join(views))

    def truncated(handle: int, size: int) -> None:
        real["ftruncate"](handle, size)
        if isinstance(there := model.handles.get(handle), tuple):
            del model.inodes[there[0]].data[size:]
            model.note()

    def synced(handle: int) -> None:
        real["fsync"](handle)
        there = model.handles.get(handle)
        if isinstance(there, tuple):
            model.inodes[there[0]].synced = bytes(model.inodes[there[0]].data)
        elif there is not None:
            model.names = [(one[0], one[1], one[2], one[3] or one[0] == there) for one in model.names]
        model.note()

    def closed(handle: int) -> None:
        model.handles.pop(handle, None)
        real["close"](handle)

    def made(name: Any, mode: int = 0o777, dir_fd: int | None = None) -> None:
        real["mkdir"](name, mode, dir_fd=dir_fd)
        path = full(os.fspath(name), dir_fd)
        if model.inside(path):
            model.change("link", path, "folder")

    def removed(name: Any, dir_fd: int | None = None) -> None:
        real["unlink"](name, dir_fd=dir_fd)
        if model.inside(path := full(name, dir_fd)):
            model.change("unlink", path)

    def renamed(name: str) -> Callable[..., None]:
        def rename(old: Any, new: Any, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
            real[name](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            if model.inside(source := full(old, src_dir_fd)):
                model.change("rename", source, full(new, dst_dir_fd))

        return rename

    home.mkdir()
    for name, function in (
        ("open", opened), ("close", closed), ("write", written), ("fsync", synced), ("ftruncate", truncated),
        ("writev", written_many),
        ("mkdir", made), ("unlink", removed), ("replace", renamed("replace")), ("rename", renamed("rename")),
    ):  # fmt: skip
        monkeypatch.setattr(os, name, function)
    return model


def old_file(model: Model, home: Path, path: Path) -> None:
    """A whole file from before, all of it on the disk."""
    path.parent.mkdir(parents=True)
    path.write_bytes(OLD)
    number = path.stat().st_ino
    model.inodes[number] = Inode(bytearray(OLD), OLD)
    folders = [folder for folder in reversed(path.parents) if model.inside(str(folder))]
    model.names = [(str(folder.parent), "link", (str(folder), "folder"), True) for folder in folders]
    model.names.append((str(path.parent), "link", (str(path), number), True))
    model.history.clear()


@pytest.mark.parametrize("kind", ["small", "large", "resumed"])
@pytest.mark.parametrize("over", [False, True], ids=["new", "over an old file"])
def test_a_power_cut_at_any_moment(
    kind: str, over: bool, server: FaultServer, home: Path, disk: Model, quick: Callable[..., AioDownload]
) -> None:
    """P2, R35: absent, the old whole or the new whole, whatever was put off; once the bundle is done, the new whole."""
    body = BODY[:1000] if kind == "small" else BODY
    url = server.on("/a/f.bin", *([ranged(body, cut=2 << 20)] if kind == "resumed" else []), ranged(body))
    path = home / f"127.0.0.1+{server.port}" / "a" / "f.bin"
    disk.target = str(path)
    if over:
        old_file(disk, home, path)
    strategy = DownloadStrategy(home=home, durable=True)
    if kind == "resumed":
        assert not aiodownload.one(url, quick(RequestStrategy(timeout=5), strategy)).ok
    bundle = aiodownload.one(url, quick(download=strategy))
    assert bundle.status is Status.DONE
    allowed = {body, OLD if over else None}
    moments = disk.history
    assert len(moments) > 5
    wrong = [at for at, found in enumerate(moments) if not found <= allowed]
    assert wrong == []
    assert disk.after_the_cut() == {body}


def test_without_it_a_power_cut_may_cost_the_file(
    server: FaultServer, home: Path, disk: Model, quick: Callable[..., AioDownload]
) -> None:
    """The model is no flatterer: what is not synced can be lost; this is what durable is for."""
    url = server.on("/f.bin", ok(BODY[:1000]))
    disk.target = str(home / f"127.0.0.1+{server.port}" / "f.bin")
    assert aiodownload.one(url, quick()).ok
    assert {None, b""} < disk.after_the_cut()


def test_many_small_ones_are_durable_too(server: FaultServer, home: Path, quick: Callable[..., AioDownload]) -> None:
    """The process for small bodies is left out: every one of them is synced."""
    synced: list[int] = []
    real = os.fsync

    def counting(handle: int) -> None:
        synced.append(handle)
        real(handle)

    urls = [server.on(f"/{number}", ok(b"x")) for number in range(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", counting)
        strategy = DownloadStrategy(home=home, durable=True)
        assert all(one.ok for one in aiodownload.swarm(urls, quick(Quick(8, timeout=5), strategy)))
    assert len(synced) >= 200


def test_a_journal_of_durable_files_is_durable(
    server: FaultServer, home: Path, tmp_path: Path, quick: Callable[..., AioDownload]
) -> None:
    path = tmp_path / "journal.db"
    download = quick(download=DownloadStrategy(home=home, durable=True), journal=path)
    assert aiodownload.one(server.on("/f", ok(b"x")), download).ok
    journal = aiodownload.Journal(path)
    journal.open(durable=True)
    try:
        assert journal._open().execute("PRAGMA synchronous").fetchone() == (2,)
    finally:
        journal.close()


@pytest.mark.parametrize("digest", [False, True])
def test_strict_refuses_what_nothing_proves(
    digest: bool,
    server: FaultServer,
    files: Callable[[], dict[str, bytes]],
    home: Path,
    quick: Callable[..., AioDownload],
) -> None:
    """P3, R3: a body that ends by the closing of its connection fails, at once and clearly; a digest proves it."""
    url = server.on("/f", until_close(b"body"))
    given = f"sha256:{hashlib.sha256(b'body').hexdigest()}" if digest else None
    download = quick(download=DownloadStrategy(home=home, strict=True))
    bundle = aiodownload.one(aiodownload.AioDownloadBundle(url, digest=given), download)
    if digest:
        assert (bundle.ok, bundle.verified) == (True, Verified.DIGEST)
    else:
        assert isinstance(bundle.error, BodyError)
        assert "strict=True" in str(bundle.error)
        assert (files(), len(server.requests)) == ({}, 1)
    assert aiodownload.one(server.on("/g", ok(b"whole")), download).verified is Verified.LENGTH
