"""AioDownloadBundle: one URL, what was asked of it, and what became of it."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from yarl import URL

from .checksums import given
from .errors import AioDownloadError, ConfigurationError, InvalidURLError
from .redact import printable, redact

if TYPE_CHECKING:
    from multidict import CIMultiDict

__all__ = ["AioDownloadBundle", "Status", "Verified"]


class Status(enum.Enum):
    """Where a bundle is on its way; the values are the words in :attr:`AioDownloadBundle.status_msg`."""

    INITIALIZED = "Initialized"
    ATTEMPTED = "Download attempted"
    CACHED = "Cache hit"
    DONE = "File written"
    FAILED = "Download failed"
    CANCELLED = "Cancelled"


class Verified(enum.Enum):
    """The strongest proof that a file is whole.

    ``DIGEST``: its checksum agreed.  ``LENGTH``: as many bytes as the server declared.  ``FRAMING``: the
    last chunk of a chunked body came.  ``NONE``: the end was only the closing of the connection, which
    nobody can tell from a cut (RFC 9112 section 8).
    """

    DIGEST = "digest"
    LENGTH = "length"
    FRAMING = "framing"
    NONE = "none"


# The library owns these: a Range or a condition of the caller's would make a whole file out of a part.
_OWN_HEADERS = frozenset({"range", "accept-encoding", "content-length", "transfer-encoding", "connection"})
_FIELD_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110 section 5.6.2
_UNSAFE_VALUE = r"[\x00-\x08\x0a-\x1f\x7f]"  # RFC 9110 section 5.5
_CONTROL = r"[\x00-\x1f\x7f]"
_BLANK = r"[\x00-\x20\x7f]"
_BAD_HOST = re.compile(r"[\x00-\x20\x7f%/\\?#@<>^|]")
_BAD_AUTHORITY = r"^[A-Za-z][A-Za-z0-9+.-]*:/*[^/?#]*\\"


def _is_text(url: object) -> bool:
    return isinstance(url, (str, URL))


_RESULTS = (
    "_file_path",
    "attempts",
    "status",
    "error",
    "http_status",
    "final_url",
    "response_headers",
    "size",
    "verified",
    "elapsed",
)
_OF_A_RUN = (
    *_RESULTS[1:],
    "_mismatched",
    "_divisible",
    "_kept",
    "_publishing",
    "_condition",
    "_sources",
    "_rounds",
    "_delivery",
)
_results_of: Callable[[object], tuple[Any, ...]] = attrgetter(*_RESULTS)


class AioDownloadBundle:
    """One URL to download and, afterwards, what became of it.

    :param url: an http(s) URL: str or :class:`yarl.URL`.  ``user:password@`` in it is sent as basic
        authentication to its own origin and shown nowhere.
    :param info: anything; it is carried along untouched.
    :param params: form data (dict of str to str, number, or a list of them); makes the request a POST.
    :param headers: request headers (mapping of str to str) for this URL's origin only; they do not
        follow a redirect to another origin (RFC 9110 section 15.4).
    :param digest: what the file's bytes must come to: ``"sha256:<hex>"``, with any algorithm of hashlib, or several of
        these.  Checked before the file gets its final name.
    :param mirrors: further URLs of the same bytes (str or :class:`yarl.URL`).  A try that fails goes to the next of
        them at once.  They get none of ``headers``, unless they have the origin of ``url``, and no form data.
    :param file_path: where the file goes (str or path-like), relative to ``home`` or absolute; without it
        :meth:`DownloadStrategy.get_file_path` decides.
    :raises ConfigurationError: for params or headers that cannot be sent, or a digest that is none.

    Results, set while the bundle is on its way: ``attempts`` (tries made, int), ``file_path`` (absolute
    str), ``status`` (:class:`Status`), ``error`` (:class:`AioDownloadError` or None), ``http_status`` (int or
    None), ``final_url`` (str or None, after redirects), ``response_headers`` (multidict or None), ``size``
    (bytes in the file, or None), ``verified`` (:class:`Verified`), ``elapsed`` (seconds from the first request
    to the outcome).
    """

    # An instance has no more than 30 attributes of its own: beyond that each would have a dict of its own (CPython).
    # What is as at the beginning stands here, and nothing need be done for it.
    attempts: int = 0
    status: Status = Status.INITIALIZED
    error: AioDownloadError | None = None
    http_status: int | None = None
    final_url: str | None = None
    response_headers: CIMultiDict[str] | None = None
    size: int | None = None
    verified: Verified = Verified.NONE
    elapsed: float = 0.0
    _is_text = True  # or a URL
    _only_head = False  # ask by HEAD, and have no body
    _parsed: tuple[str, URL] | None = None  # as given, if that was a URL: it keeps the encoding that the caller chose
    _checked: tuple[str, URL, str] | None = None  # the text as given, its parsed form, and the text of that
    _row: bytes | None = None  # the key of its row in the journal, if it comes from there
    _mismatched = False  # whether a body has not had the checksum that it should have
    _divisible = True  # whether parts of it may be asked for at once
    _kept = False  # whether an earlier try may have left bytes to go on with
    _publishing: Any = None  # entries.Row: notes in the journal what is about to be published
    _condition: Any = None  # journal.Publication of a file that only has to be confirmed
    _sources: list[Any] | None = None  # attempt.Source, while there are mirrors
    _rounds = 0  # tries of each of them
    _delivery: Any = None  # storage.delivery.Delivery while a response is in hand

    def __init__(
        self,
        url: str | URL,
        info: Any = None,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        digest: str | Iterable[str] | None = None,
        mirrors: Iterable[str | URL] = (),
        file_path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.url: str = url if isinstance(url, str) else str(url)
        if isinstance(url, URL):
            self._parsed = (self.url, url)
        if not _is_text(url):
            self._is_text = False
        self.info = info
        self.params = params
        self.headers: dict[str, str] = checked_headers(headers) if headers else {}
        if params:
            form(params)
        self._digests = given(digest) if digest is not None else ()
        self.mirrors: tuple[str, ...] = _checked_mirrors(mirrors, params) if mirrors else ()
        self._given_path: str | None = None if file_path is None else _checked_path(file_path)
        self._file_path: str | None = self._given_path

    def _start_afresh(self) -> None:
        """Forget what became of an earlier run."""
        self._file_path = self._given_path
        for name in _OF_A_RUN:
            setattr(self, name, getattr(AioDownloadBundle, name))

    def _results(self) -> tuple[Any, ...]:
        """What became of this bundle, without the bundle."""
        return _results_of(self)

    def _take_results(self, results: tuple[Any, ...]) -> None:
        for name, value in zip(_RESULTS, results, strict=True):
            setattr(self, name, value)

    @property
    def file_path(self) -> str | None:
        """Where the file is or would be: absolute once the run has taken the bundle in (str)."""
        return self._file_path

    @file_path.setter
    def file_path(self, value: str | os.PathLike[str] | None) -> None:
        self._given_path = self._file_path = _checked_path(value)

    @property
    def digest(self) -> tuple[str, ...]:
        """What the file's bytes must come to: ``"sha256:<hex>"`` and the like (tuple of str)."""
        return tuple(f"{digest.algorithm}:{digest.value.hex()}" for digest in self._digests)

    @property
    def ok(self) -> bool:
        """Whether it is done: its file written now, or found from before, or what an ``on_success`` did instead."""
        return self.status is Status.DONE or self.status is Status.CACHED

    @property
    def status_msg(self) -> str:
        """One line: ``[URL: …, File Path: …, Attempts: …, Status: …]``."""
        return (
            f"[URL: {redact(self.url)}, File Path: {printable(str(self.file_path))}, "
            f"Attempts: {self.attempts}, Status: {self.status.value}]"
        )

    def __repr__(self) -> str:
        error = f" error={str(self.error)!r}" if self.error is not None else ""
        return f"<AioDownloadBundle {redact(self.url)!r} {self.status.name}{error}>"

    def _repr_html_(self) -> str:
        """For IPython: what became of it, as a small table."""
        from html import escape

        rows: dict[str, object] = {
            "URL": redact(self.url),
            "Status": self.status.value,
            "File": self.file_path,
            "Bytes": None if self.size is None else f"{self.size:,}",
            "Verified by": self.verified.value if self.ok else None,
            "Tries": self.attempts,
            "Reason": self.error,
        }
        cells = (
            f"<tr><th>{name}</th><td>{escape(printable(str(value)))}</td></tr>"
            for name, value in rows.items()
            if value is not None
        )
        return f"<table>{''.join(cells)}</table>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_delivery": None, "_publishing": None}

    def _parse(self) -> URL:
        """Return the URL as the one parser reads it, without its fragment.

        :raises InvalidURLError: if it is no http(s) URL.
        """
        checked = self._checked
        if checked is None or checked[0] != self.url:
            if not self._is_text:
                raise InvalidURLError(self.url, "it must be a str or a URL, or a url_map must make one of it")
            given = self._parsed[1] if self._parsed is not None and self._parsed[0] == self.url else None
            url = parsed(self.url, given)
            text = str(url)
            self._checked = checked = (self.url, url, self.url if text == self.url else text)
        return checked[1]

    def _text_of(self, url: URL) -> str:
        """The text of a URL that is nearly always this bundle's own."""
        checked = self._checked
        return checked[2] if checked is not None and checked[1] is url else str(url)

    def _form(self) -> bytes | None:
        """The body of the POST, or None for a GET."""
        return form(self.params) if self.params else None


# All instances share the names of their attributes, and need no dict of their own, if the first ones have them all
# (CPython): a million bundles are many.
_first = AioDownloadBundle("http://localhost/")
_first._parsed = _first._checked = _first._row = None
_first._start_afresh()


def parsed(url: str, given: URL | None = None) -> URL:
    """Return ``url`` as the one parser reads it, without its fragment.

    :param given: what the caller has parsed already, or None.
    :raises InvalidURLError: if it is no http(s) URL.
    """
    if given is not None:
        if re.search(_BLANK, str(given)):  # taken as it is: URL(..., encoded=True)
            raise InvalidURLError(url, "it holds a blank or a control character; percent-encode it or take it out")
        return _checked_url(given, url)
    text = url.strip(" \t\r\n")
    if not text:
        raise InvalidURLError(url, "it is empty; give an http(s) URL")
    if not text.isprintable() and re.search(_CONTROL, text):
        raise InvalidURLError(url, "it holds a control character; percent-encode it or take it out")
    if "\\" in text and re.match(_BAD_AUTHORITY, text):
        raise InvalidURLError(url, "its host part holds a backslash; use /")
    try:
        return _checked_url(URL(text), url)
    except (ValueError, IndexError) as error:  # yarl raises the second for "http://[]@"
        reason = _parser_words(error)
    # Out here, since an exception keeps the one that it was raised beside, which quotes the URL.
    raise InvalidURLError(url, reason)


def _parser_words(error: Exception) -> str:
    """What the URL parser says, unless it quotes the URL (and so perhaps a password)."""
    text = str(error)
    return "it is no URL" if "@" in text else f"it is no URL ({redact(text)})"


def _checked_url(url: URL, text: str) -> URL:
    if url.scheme not in ("http", "https"):
        raise InvalidURLError(text, "only http:// and https:// are fetched; give the whole URL")
    host = url.raw_host
    if not host:
        raise InvalidURLError(text, "it has no host; give the whole URL, such as https://example.org/file")
    if not is_host(host):
        raise InvalidURLError(text, "its host is not a valid name")
    if url.explicit_port is not None and url.is_default_port():
        url = url.with_port(None)
    return url.with_fragment(None) if url.raw_fragment else url


@lru_cache(1024)
def is_host(host: str | None) -> bool:
    """Whether ``host`` (as yarl gives it) can be a host name or an address: RFC 1035 section 2.3.4, RFC 3986."""
    if not host or len(host) > 253 or _BAD_HOST.search(host):
        return False
    return all(0 < len(label) <= 63 for label in host.removesuffix(".").split("."))


def _checked_path(path: object) -> str | None:
    if path is None:
        return None
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ConfigurationError(f"file_path must be a str or a path of str, not {path!r}")
    return text


def _checked_mirrors(mirrors: object, params: object) -> tuple[str, ...]:
    if isinstance(mirrors, (str, bytes, URL)) or not isinstance(mirrors, Iterable):
        raise ConfigurationError(f"mirrors must be a list of URLs, not {type(mirrors).__name__}")
    texts = tuple(str(one) if isinstance(one, (str, URL)) else one for one in mirrors)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigurationError(f"mirrors must be URLs, not {text!r}")
    if texts and params:
        raise ConfigurationError("mirrors do not go with params: form data is for one server only")
    return texts


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return ``headers`` as they can be sent.

    :raises ConfigurationError: for a name or a value that none can have, and for fields that the library owns.
    """
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a dict of str, not {type(headers).__name__}")
    checked = {}
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(_FIELD_NAME, name):
            raise ConfigurationError(f"headers: {name!r} is not a header name")
        if not isinstance(value, str) or re.search(_UNSAFE_VALUE, value):
            raise ConfigurationError(f"headers: the value of {name!r} must be a str without control characters")
        if name.lower() in _OWN_HEADERS or name.lower().startswith("if-"):
            raise ConfigurationError(f"headers: {name!r} is set by aiodownload itself; leave it out")
        checked[name] = value
    return checked


def form(params: Mapping[str, Any]) -> bytes:
    """Return ``params`` as an ``application/x-www-form-urlencoded`` body (WHATWG URL section 5.2).

    :raises ConfigurationError: if a name or a value is no text, number, or list of them.
    """
    if not isinstance(params, Mapping):
        raise ConfigurationError(f"params must be a dict, not {type(params).__name__}")
    for name, value in params.items():
        items = value if isinstance(value, (list, tuple)) else (value,)
        if not isinstance(name, str) or not all(isinstance(item, (str, bytes, int, float)) for item in items):
            raise ConfigurationError(f"params: {name!r} must map a str to text, a number, or a list of them")
    return urlencode(params, doseq=True).encode("ascii")
