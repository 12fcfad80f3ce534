"""The metadata of a shard as Parquet: a row for each URL, and which shard it is of; only this knows pyarrow."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ..errors import MissingExtraError
from .rows import DONE, Row

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["About", "Member", "about", "members", "need_pyarrow", "write"]

_ABOUT = b"aiodownload"
_VERSION = 1
_PORTION = 2000  # rows that are columns at a time
_INTEGERS = {"http_status": "int32", "attempts": "int32", "size": "int64", "offset": "int64"}


class About(NamedTuple):
    """Which shard a table is of.

    :param size: bytes of its tar.
    :param spans: what was added to it under which mark: mark, place of the first byte, place after the last.
    """

    size: int
    spans: tuple[tuple[int, int, int], ...]


class Member(NamedTuple):
    """A body in a shard.

    :param identity: of the request.
    :param name: in the tar.
    :param offset: place of its first byte.
    :param size: its bytes.
    """

    identity: str
    name: str
    offset: int
    size: int


def need_pyarrow(feature: str) -> None:
    """:raises MissingExtraError: if pyarrow is not installed; it is imported later, since that takes its time."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError(feature, "dataset")


def write(file: BinaryIO, rows: Sequence[Row], what: About) -> None:
    """Write the table of a shard.  Blocks.

    :raises OSError: if the disk refuses.
    """
    import pyarrow.parquet as pq

    schema = _schema().with_metadata({_ABOUT: json.dumps([_VERSION, *what]).encode("ascii")})
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for at in range(0, len(rows), _PORTION):
            writer.write_table(_columns(rows[at : at + _PORTION], schema))


def _columns(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Turn rows into columns, by way of JSON: Arrow reads that without the interpreter, and so without its lock.

    To make arrays of Python's values would also import pandas, where there is one.
    """
    import pyarrow as pa
    import pyarrow.json as pj

    text = "\n".join(json.dumps(row._asdict()) for row in rows).encode("ascii")
    reading = pj.ReadOptions(use_threads=False, block_size=len(text) + 1)
    parsing = pj.ParseOptions(explicit_schema=schema.remove_metadata(), unexpected_field_behavior="error")
    return pj.read_json(pa.BufferReader(text), reading, parsing).cast(schema)


def about(file: BinaryIO) -> About | None:
    """Read which shard a table is of; None if it is none of ours.  Blocks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        text = (pq.read_metadata(file).metadata or {}).get(_ABOUT, b"")
        version, size, spans = json.loads(text)
        found = About(size, tuple((mark, first, end) for mark, first, end in spans))
    except (OSError, ValueError, TypeError, RecursionError, pa.ArrowException):
        return None
    numbers = [version, found.size, *(number for span in found.spans for number in span)]
    return found if version == _VERSION and all(type(number) is int for number in numbers) else None


def members(file: BinaryIO) -> Iterator[Member]:
    """Read the bodies of a shard from its table; none if it cannot be read.  Blocks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["status", "identity", "member", "offset", "size"]
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(_PORTION, columns=columns):
                for status, *told in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    identity, name, offset, size = told
                    texts = isinstance(identity, str) and isinstance(name, str)
                    if status == DONE and texts and isinstance(offset, int) and isinstance(size, int):
                        yield Member(identity, name, offset, size)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return


def _schema() -> pa.Schema:
    import pyarrow as pa

    types: dict[str, Any] = {name: getattr(pa, kind)() for name, kind in _INTEGERS.items()}
    never_null = ("identity", "url", "status", "attempts")
    return pa.schema([pa.field(name, types.get(name, pa.string()), name not in never_null) for name in Row._fields])
