"""What is in a home of shards, read by other programs than the one that wrote it."""

from __future__ import annotations

import json
import re
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

WITH_CARE: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""For ``extractall``: Python 3.11.4 and newer."""


class Found(NamedTuple):
    """A sample.

    :param shard: number of its shard.
    :param member: name of its body.
    :param body: the bytes.
    :param told: its metadata in the tar.
    :param row: its metadata in the Parquet file.
    """

    shard: int
    member: str
    body: bytes
    told: dict[str, Any]
    row: dict[str, Any]


def tables(home: Path) -> dict[int, list[dict[str, Any]]]:
    """The rows of each published shard."""
    return {int(path.stem): pq.read_table(path).to_pylist() for path in sorted(home.glob("[0-9]*.parquet"))}


def read(home: Path, unpacked: Path | None = None) -> list[Found]:
    """Every sample of every published shard; whatever does not fit together fails the test."""
    found: list[Found] = []
    rows = tables(home)
    for path in sorted(home.glob("[0-9]*.tar")):
        number = int(path.stem)
        done = [row for row in rows[number] if row["status"] == "done"]
        assert path.stat().st_size % 10240 == 0
        with tarfile.open(path, "r:") as archive:
            members = archive.getmembers()
            assert len(members) == 2 * len(done) > 0
            for body, meta, row in zip(members[::2], members[1::2], done, strict=True):
                found.append(sample(archive, number, body, meta, row))
            if unpacked is not None:
                archive.extractall(unpacked, **WITH_CARE)
        assert path.read_bytes().endswith(bytes(1024))
    assert len({(one.shard, one.member) for one in found}) == len(found)
    return found


def sample(
    archive: tarfile.TarFile, number: int, body: tarfile.TarInfo, meta: tarfile.TarInfo, row: dict[str, Any]
) -> Found:
    key, _, _ = body.name.partition(".")
    assert (meta.name, row["key"], row["member"]) == (f"{key}.json", key, body.name)
    for one in (body, meta):
        assert (one.uid, one.gid, one.uname, one.gname, one.mode) == (0, 0, "", "", 0o644)
        assert one.isreg()
        assert re.fullmatch(r"[0-9a-f]{9,32}(\.[a-z0-9]+){1,3}", one.name)
    data = read_member(archive, body)
    told = json.loads(read_member(archive, meta))
    assert row["sha256"] == told["sha256"] == sha256(data).hexdigest()
    assert row["size"] == told["size"] == len(data)
    assert row["offset"] == body.offset_data
    shared = told.keys() & row.keys() - {"info"}
    assert {name: told[name] for name in shared} == {name: row[name] for name in shared}
    assert told["info"] == json.loads(row["info"] or "null")
    return Found(number, body.name, data, told, row)


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def hidden(home: Path) -> list[str]:
    """What is there and not to be seen."""
    return [path.name for path in home.iterdir() if path.name.startswith(".")]
