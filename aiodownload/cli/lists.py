"""Lists: what is to be downloaded, in the formats that people have it in, a record at a time."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from io import TextIOWrapper
from itertools import chain
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from ..bundle import AioDownloadBundle
from ..errors import AioDownloadError, ConfigurationError, MissingExtraError
from ..redact import printable

__all__ = ["FIELDS", "FORMATS", "ListError", "Records", "Rejected", "count_records", "read_lists"]

FIELDS = ("url", "path", "digest", "headers", "mirrors")
"""What a record may have; only the first is needed."""

_NAMES = {
    "url": ("url", "uri", "link"),
    "path": ("path", "file_path", "filename", "file", "out"),
    "digest": ("digest", "checksum", "hash"),
    "headers": ("headers", "header"),
    "mirrors": ("mirrors", "mirror"),
}
_ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
_BY_LENGTH = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
_HEX = re.compile(r"[0-9A-Fa-f]+")
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".meta4": "metalink",
    ".metalink": "metalink",
    ".aria2": "aria2",
}
_METALINK = "{urn:ietf:params:xml:ns:metalink}"
_STRONGEST = ("sha-512", "sha-384", "sha-256", "sha-224", "sha-1", "md5")  # IANA's names, RFC 5854 section 4.2.4
_COUNTED = 1 << 28  # bytes of a list whose lines are counted in advance
_LONGEST = 1 << 24  # characters of a line; a longer one is no list


class ListError(Exception):
    """A list that cannot be read on."""


class Rejected(NamedTuple):
    """A record that cannot be downloaded.

    :param place: file and line, in words (str).
    :param url: its URL, as far as there is one (str).
    :param reason: what is wrong, and what would be right (str).
    """

    place: str
    url: str
    reason: str


class _Record(NamedTuple):
    """One thing to download, as the list has it."""

    place: str
    url: str
    path: str | None = None
    digests: tuple[str, ...] = ()
    headers: Mapping[str, str] = {}
    mirrors: tuple[str, ...] = ()
    wrong: str | None = None

    def bundle(self) -> AioDownloadBundle:
        """:raises ConfigurationError: for what cannot be asked for."""
        if self.wrong is not None:
            raise ConfigurationError(self.wrong)
        return AioDownloadBundle(
            self.url,
            headers=self.headers or None,
            digest=[_digest(one) for one in self.digests] or None,
            mirrors=self.mirrors,
            file_path=None if self.path is None else _below(self.path),
        )


def read_lists(
    names: Iterable[str],
    form: str,
    columns: Mapping[str, str],
    reject: Callable[[Rejected], object],
    warn: Callable[[str], object],
) -> Iterator[AioDownloadBundle]:
    """The bundles of some lists, read only as far as they are asked for.

    :param names: of the files; ``-`` is the standard input.
    :param form: one of :data:`FORMATS`; ``"auto"`` goes by the suffix of the name.
    :param columns: names of the columns that hold a field, where they are none of the usual ones.
    :param reject: told of each record that cannot be downloaded.
    :param warn: told of what has no effect.
    :raises ListError: for a list that cannot be read on.
    :raises OSError: for a file that cannot be read.
    """
    for name in names:
        with ExitStack() as stack:
            file = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
            shown = "standard input" if name == "-" else name
            for record in _FORMATS[_kind(name, form)](file, shown, columns, warn):
                try:
                    bundle = record.bundle()
                except AioDownloadError as error:
                    reject(Rejected(record.place, record.url, str(error)))
                else:
                    yield bundle


class Records(Iterable[AioDownloadBundle]):
    """Bundles that are read as they are asked for, of which there are about so many.

    :param bundles: what is iterated, once.
    :param count: how many (int).
    """

    def __init__(self, bundles: Iterator[AioDownloadBundle], count: int) -> None:
        self._bundles = bundles
        self._count = count

    def __iter__(self) -> Iterator[AioDownloadBundle]:
        return self._bundles

    def __len__(self) -> int:
        return self._count


def count_records(names: Iterable[str], form: str) -> int | None:
    """How many records some lists have, as far as that is told by counting lines; None where it is not.

    A field of a table that holds a line break makes it too many, by one.
    """
    total = 0
    for name in names:
        kind = _kind(name, form)
        if kind == "metalink" or not os.path.isfile(name) or os.path.getsize(name) > _COUNTED:
            return None
        with open(name, "rb") as file:
            total += sum(1 for line in file if line.strip() and not _is_no_record(line, kind))
        total -= kind in ("csv", "tsv")
    return max(total, 0)


def _is_no_record(line: bytes, kind: str) -> bool:
    if kind == "aria2":
        return line[:1] in (b"#", b" ", b"\t")
    return kind == "lines" and line.lstrip().startswith(b"#")


def _kind(name: str, form: str) -> str:
    return _SUFFIXES.get(os.path.splitext(name)[1].lower(), "lines") if form == "auto" else form


# Fields.


def _digest(text: str) -> str:
    """A checksum as people write it, as bundles take it: ``sha256:…``, ``sha-256=…``, or just the digits."""
    found = re.fullmatch(r"([A-Za-z0-9_-]+)[:=](.+)", text.strip())
    if found is not None:
        return f"{found[1].lower().replace('sha-', 'sha')}:{found[2].strip()}"
    if _HEX.fullmatch(text.strip()) and (algorithm := _BY_LENGTH.get(len(text.strip()))):
        return f"{algorithm}:{text.strip()}"
    raise ConfigurationError(f"{text!r} is no checksum; write sha256:<hexadecimal digits>")


def _below(path: str) -> str:
    """:raises ConfigurationError: for a path that leaves the folder for the files: a list may come from anybody."""
    parts = re.split(r"[/\\]" if os.sep == "\\" else "/", path)
    if os.path.isabs(path) or os.path.splitdrive(path)[0] or ".." in parts or not path.strip("/. "):
        raise ConfigurationError(f"the path {path!r} does not lie below the folder for the files; give a relative one")
    return path


def _headers(value: object) -> dict[str, str]:
    """A mapping, JSON text of one, or lines of ``Name: value``."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = json.loads(value)
    if isinstance(value, str):
        pairs = [line.partition(":") for line in value.splitlines() if line.strip()]
        if any(not colon for _, colon, _ in pairs):
            raise ConfigurationError("headers must be lines of Name: value, or a JSON object")
        return {name.strip(): text.strip() for name, _, text in pairs}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"headers must be an object of text, not {type(value).__name__}")
    return {str(name): str(text) for name, text in value.items()}


def _words(value: object) -> tuple[str, ...]:
    """A list, or text with blanks in between."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigurationError(f"a list of text is needed, not {value!r}")
    return tuple(value)


def _from_fields(place: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> _Record:
    """A record of named fields; those that have no name here are left alone."""
    given = {str(name).strip().lower(): value for name, value in row.items() if value not in (None, "")}

    def field(name: str) -> Any:
        if name in columns:
            return given.get(columns[name].lower())
        return next((given[one] for one in _NAMES[name] if one in given), None)

    url = field("url")
    if not isinstance(url, str):
        wanted = columns.get("url", "url")
        return _Record(place, "", wrong=f"it has no {wanted!r}; --column url=NAME names the field with the URL")
    try:
        path = field("path")
        if path is not None and not isinstance(path, str):
            raise ConfigurationError(f"the path must be text, not {path!r}")
        digests = _words(field("digest") or []) if field("digest") is not None else ()
        digests += tuple(f"{name}:{given[name]}" for name in _ALGORITHMS if name in given and "digest" not in columns)
        headers = _headers(field("headers")) if field("headers") is not None else {}
        mirrors = _words(field("mirrors")) if field("mirrors") is not None else ()
    except ValueError as error:  # of JSON within a field
        return _Record(place, url, wrong=f"a field holds broken JSON: {error}")
    except ConfigurationError as error:
        return _Record(place, url, wrong=str(error))
    return _Record(place, url.strip(), path, digests, headers, mirrors)


# Formats.


def _text(file: IO[bytes], newline: str | None = None) -> TextIOWrapper:
    """UTF-8, with or without a mark at its beginning.  The file stays open when the text is thrown away."""
    return TextIOWrapper(file, encoding="utf-8-sig", newline=newline)


def _numbered(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    text = _text(file)
    try:
        number = 0
        while line := text.readline(_LONGEST):
            number += 1
            if len(line) == _LONGEST:
                raise ListError(f"line {number} is longer than {_LONGEST:,} characters: this is no list")
            yield number, line.rstrip("\r\n")
    finally:
        text.detach()


def _lines(file: IO[bytes], name: str, columns: Mapping[str, str], warn: Callable[[str], object]) -> Iterator[_Record]:
    """A URL a line, and nothing else: whoever has written it can say no more than that."""
    for number, line in _numbered(file):
        if line.strip() and not line.lstrip().startswith("#"):
            table = "://" not in line and any(mark in line for mark in ",;\t")
            wrong = "it is no URL; if this is a table, say --format csv (or tsv)" if table else None
            yield _Record(f"{name}, line {number}", line.strip(" "), wrong=wrong)


def _aria2(file: IO[bytes], name: str, columns: Mapping[str, str], warn: Callable[[str], object]) -> Iterator[_Record]:
    """What aria2's input files have: mirrors after tabs, options in indented lines."""
    record: _Record | None = None
    options: list[tuple[str, str]] = []
    told: set[str] = set()
    for number, line in _numbered(file):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] in " \t":
            option, equals, value = line.strip().partition("=")
            if record is None:
                yield _Record(f"{name}, line {number}", "", wrong=_STRAY)
                continue
            if not equals:
                record = record._replace(wrong=_STRAY)
                continue
            if option not in _ARIA2 and option not in told:
                told.add(option)
                warn(f"{name}, line {number}: the option {printable(option)}= is not known here and has no effect")
            options.append((option, value.strip()))
            continue
        if record is not None:
            yield _with_options(record, options)
        url, *mirrors = (one.strip() for one in line.strip().split("\t") if one.strip())
        record, options = _Record(f"{name}, line {number}", url, mirrors=tuple(mirrors)), []
    if record is not None:
        yield _with_options(record, options)


_STRAY = "an indented line must be option=value, below a URL"
_ARIA2 = ("out", "dir", "checksum", "header", "referer", "user-agent")


def _with_options(record: _Record, options: list[tuple[str, str]]) -> _Record:
    if not options or record.wrong is not None:
        return record
    one = dict(options)
    headers = [value for name, value in options if name == "header"]
    headers += [
        f"{field}: {one[name]}" for name, field in (("referer", "Referer"), ("user-agent", "User-Agent")) if name in one
    ]
    path = one.get("out")
    if "dir" in one:
        path = os.path.join(one["dir"], path or os.path.basename(urlsplit(record.url).path) or "index")
    try:
        return record._replace(
            path=path, headers=_headers("\n".join(headers)), digests=(one["checksum"],) if "checksum" in one else ()
        )
    except ConfigurationError as error:
        return record._replace(wrong=str(error))


def _table(delimiter: str) -> Callable[..., Iterator[_Record]]:
    def read(
        file: IO[bytes], name: str, columns: Mapping[str, str], warn: Callable[[str], object]
    ) -> Iterator[_Record]:
        text = _text(file, newline="")
        try:
            first = text.readline(_LONGEST)
            between = ";" if delimiter == "," and ";" in first and "," not in first else delimiter
            rows = csv.DictReader(chain([first], text), delimiter=between, strict=True)
            _check_header(name, rows.fieldnames, columns)
            for row in rows:
                place = f"{name}, line {rows.line_num}"
                if None in row:
                    yield _Record(place, "", wrong="it has more fields than the first line has names")
                else:
                    yield _from_fields(place, row, columns)
        except csv.Error as error:
            raise ListError(f"{name}, line {rows.line_num}: {error}") from error
        finally:
            text.detach()

    return read


def _check_header(name: str, fields: Iterable[str] | None, columns: Mapping[str, str]) -> None:
    """See that the first line of a table names the columns that are needed."""
    header = [one.strip().lower() for one in fields or ()]
    if not header:
        return
    shown = printable(", ".join(header)[:200])
    for field, column in columns.items():
        if column.lower() not in header:
            raise ListError(f"{name}: no column {column!r} for the {field} in its first line, which is: {shown}")
    if "url" not in columns and not any(one in header for one in _NAMES["url"]):
        raise ListError(
            f"{name}: its first line must name the columns, and none of them is 'url': {shown}; --column url=NAME says "
            "which one has the URLs"
        )


def _json_lines(
    file: IO[bytes], name: str, columns: Mapping[str, str], warn: Callable[[str], object]
) -> Iterator[_Record]:
    for number, line in _numbered(file):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield _Record(place, "", wrong=f"it is no JSON: {error}")
            continue
        if isinstance(value, str):
            value = {columns.get("url", "url"): value}
        if not isinstance(value, dict):
            yield _Record(place, "", wrong="it must be an object with a url, or text")
            continue
        yield _from_fields(place, value, columns)


def _metalink(
    file: IO[bytes], name: str, columns: Mapping[str, str], warn: Callable[[str], object]
) -> Iterator[_Record]:
    """Metalink 4 (RFC 5854): name, hash and URLs of each file; hashes of pieces and signatures are not looked at."""
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, iterparse
    except ImportError as error:
        raise MissingExtraError("a Metalink file", "cli") from error
    root, number = None, 0
    try:
        for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
            if root is None:
                root = element
                if element.tag != f"{_METALINK}metalink":
                    raise ListError(f"{name}: it is no Metalink 4 file (RFC 5854): its root is {element.tag!r}")
            if event == "end" and element.tag == f"{_METALINK}file":
                number += 1
                yield _of_metalink(f"{name}, file {number}", element)
                root.clear()
    except ParseError as error:
        raise ListError(f"{name}: it is no XML: {error}") from error
    except DefusedXmlException as error:
        raise ListError(f"{name}: it has a document type, which no Metalink file needs and which is refused") from error


def _of_metalink(place: str, element: Any) -> _Record:
    def priority(one: Any) -> int:
        text = one.get("priority", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1_000_000

    urls = sorted(element.findall(f"{_METALINK}url"), key=priority)
    texts = [text for one in urls if (text := (one.text or "").strip())]
    fetched = [text for text in texts if text.lower().startswith(("http:", "https:"))]
    if not fetched:
        return _Record(place, texts[0] if texts else "", wrong="none of its URLs is one of http or https")
    hashes = {one.get("type", ""): (one.text or "").strip() for one in element.findall(f"{_METALINK}hash")}
    digests = tuple(f"{kind}={hashes[kind]}" for kind in _STRONGEST if kind in hashes)[:1]
    return _Record(place, fetched[0], element.get("name") or None, digests, mirrors=tuple(fetched[1:]))


_FORMATS: dict[str, Callable[..., Iterator[_Record]]] = {
    "lines": _lines,
    "aria2": _aria2,
    "csv": _table(","),
    "tsv": _table("\t"),
    "jsonl": _json_lines,
    "metalink": _metalink,
}

FORMATS = ("auto", *_FORMATS)
