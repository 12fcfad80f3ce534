"""Content codings: gzip, deflate, br and zstd, whole only if the decoder reached its end mark."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ..errors import CodingError, TooLargeError

__all__ = ["Decoder", "codings", "kept_as_sent"]

# Output up to here is free of max_ratio, so that a small page of blanks is no bomb.
RATIO_FLOOR = 32 << 20
MAX_CODINGS = 2  # urllib3 CVE-2025-66471, curl CVE-2022-32206: chains of codings
_STEP = 1 << 18  # most bytes that one call of a decoder may give

_IDENTITY = frozenset({"", "identity"})

_COMPRESSED_ENDINGS = (".gz", ".tgz", ".svgz", ".br", ".zst", ".tzst", ".bz2", ".xz", ".zip", ".z", ".lz4", ".warc")
_COMPRESSED_TYPES = frozenset(
    {
        "application/gzip",
        "application/x-gzip",
        "application/x-tar",
        "application/x-gtar",
        "application/x-compressed-tar",
        "application/x-compressed",
        "application/x-tgz",
        "application/zip",
        "application/zstd",
        "application/x-zstd",
        "application/x-brotli",
        "application/vnd.debian.binary-package",
    }
)


def codings(values: Iterable[str]) -> tuple[str, ...]:
    """Return the codings of the Content-Encoding fields in the order in which they were applied.

    :raises CodingError: for more codings than anybody needs.
    """
    names = [name.strip().lower() for value in values for name in value.split(",")]
    applied = tuple(name.removeprefix("x-") for name in names if name not in _IDENTITY)
    if len(applied) > MAX_CODINGS:
        raise CodingError(f"the body is encoded {len(applied)} times; more than {MAX_CODINGS} are refused")
    return applied


def kept_as_sent(path: str, content_type: str) -> bool:
    """Whether the body is meant as a compressed file: ``x.tar.gz`` sent with ``Content-Encoding: gzip``.

    Servers label such files either way; taking the coding off would leave a ``.gz`` that is none.
    """
    return path.lower().endswith(_COMPRESSED_ENDINGS) or (
        content_type.partition(";")[0].strip().lower() in _COMPRESSED_TYPES
    )


class _Engine(Protocol):
    """One decompressor of a library: takes bytes, gives at most so many back."""

    name: str

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def finished(self) -> bool: ...


class _Zlib:
    """gzip (any number of members) and deflate (with the zlib wrapper or, as some servers send it, without)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._gzip = name == "gzip"
        self._inner = zlib.decompressobj(31 if self._gzip else 15)
        self._first = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._first and data:
            self._first = False
            # RFC 9110 section 8.4.1.2: deflate means the zlib format; its first byte always ends in 8.
            if not self._gzip and data[0] & 0x0F != 8:
                self._inner = zlib.decompressobj(-15)
        out = b""
        # A full step may leave output behind in the decoder though all input is taken.
        while data or len(out) == _STEP:
            if self._inner.eof and data:
                if not self._gzip:
                    raise CodingError("bytes follow the end mark of the deflate body", True)
                self._inner = zlib.decompressobj(31)
            out = self._inner.decompress(data, _STEP)
            data = self._inner.unconsumed_tail or self._inner.unused_data
            if out:
                yield out

    @property
    def finished(self) -> bool:
        return self._inner.eof


class _Brotli:
    name = "br"

    def __init__(self) -> None:
        brotli = importlib.import_module("brotli")
        self._inner = brotli.Decompressor()
        self._error = brotli.error

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data and self._inner.is_finished():
            raise CodingError("bytes follow the end mark of the br body", True)
        while True:
            out = self._inner.process(data, output_buffer_limit=_STEP)
            data = b""
            if out:
                yield out
            # It says that it takes more data also while output is pending; only an empty piece means there is none.
            elif self._inner.can_accept_more_data() or self._inner.is_finished():
                return

    @property
    def finished(self) -> bool:
        return bool(self._inner.is_finished())


class _Zstd:
    name = "zstd"

    def __init__(self) -> None:
        self._new = _zstd_module().ZstdDecompressor
        self._inner = self._new()

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data or not (self._inner.needs_input or self._inner.eof):
            if self._inner.eof:
                self._inner = self._new()
            out = self._inner.decompress(data, _STEP)
            data = self._inner.unused_data if self._inner.eof else b""
            if out:
                yield out

    @property
    def finished(self) -> bool:
        return bool(self._inner.eof)


def _zstd_module() -> Any:
    try:
        return importlib.import_module("compression.zstd")  # Python 3.14
    except ImportError:
        return importlib.import_module("backports.zstd")


def _engine(name: str) -> _Engine:
    try:
        if name in ("gzip", "deflate"):
            return _Zlib(name)
        if name == "br":
            return _Brotli()
        if name == "zstd":
            return _Zstd()
    except ImportError:
        raise CodingError(
            f"the body came encoded as {name}, and no package for that is installed: pip install 'aiohttp[speedups]'"
        ) from None
    raise CodingError(f"the body came encoded as {name!r}, which is not known")


class Decoder:
    """Takes the codings of one body off, within limits.

    :param names: the codings in the order in which they were applied.
    :param max_bytes: most bytes of output, or None.
    :param max_ratio: most bytes of output per byte of input after the first 32 MiB, or None.
    :raises CodingError: for a coding that cannot be taken off.
    """

    def __init__(self, names: tuple[str, ...], max_bytes: int | None, max_ratio: float | None) -> None:
        self._engines = [_engine(name) for name in reversed(names)]
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._taken = 0
        self._given = [0] * len(self._engines)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes, never more than 512 KiB at a time.

        :raises CodingError: if the data is broken or expands too much.
        :raises TooLargeError: beyond ``max_bytes``.
        """
        self._taken += len(data)
        yield from self._through(0, data)

    def finish(self) -> None:
        """:raises CodingError: unless every decoder has reached its end mark (RFC 1952 section 2.3)."""
        for engine in self._engines:
            if not engine.finished:
                raise CodingError(f"the {engine.name} body ends before its end mark", True)

    def _count(self, step: int, size: int) -> None:
        """Hold the output of every decoder of a chain to the limits, not only that of the last."""
        self._given[step] += size
        given = self._given[step]
        if step == len(self._engines) - 1 and self._max_bytes is not None and given > self._max_bytes:
            raise TooLargeError(given, self._max_bytes)
        if self._max_ratio is not None and given > RATIO_FLOOR and given > self._max_ratio * self._taken:
            raise CodingError(f"the body expands more than {self._max_ratio:g} times (max_ratio)")

    def _through(self, step: int, data: bytes) -> Iterator[bytes]:
        if step == len(self._engines):
            yield data
            return
        engine = self._engines[step]
        try:
            for out in engine.feed(data):
                self._count(step, len(out))
                yield from self._through(step + 1, out)
        except (CodingError, TooLargeError):
            raise
        except Exception as error:  # each library has its own class: zlib.error, brotli.error, ZstdError
            raise CodingError(f"the {engine.name} body is broken: {error}", True) from error
