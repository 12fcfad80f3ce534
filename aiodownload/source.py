"""Source: the caller's input as bundles, read only as far as there is room."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sized
from typing import Any, Protocol, TypeAlias

from yarl import URL

from .bundle import AioDownloadBundle
from .errors import ConfigurationError

__all__ = ["Iterated", "Source", "UrlMap", "check_iterable", "length", "source_of", "to_bundle"]

UrlMap: TypeAlias = Callable[[Any], "str | URL | AioDownloadBundle"]
"""Turns an item of the input into its URL or bundle."""


class Source(Protocol):
    """Where a run reads its bundles from."""

    @property
    def total(self) -> int | None:
        """How many there are in all, if the input tells."""

    async def read(self, most: int) -> list[AioDownloadBundle]:
        """Wait for the next bundles; return at least one and at most ``most``, or none at the end.

        Raises what the caller's iterable or ``url_map`` raised, after the bundles before it were returned.
        """

    def close(self) -> None:
        """Read no further."""


def to_bundle(item: Any, url_map: UrlMap | None) -> AioDownloadBundle:
    """Return the bundle for one item of the input.

    When the item is not itself the URL or the bundle, it becomes the bundle's ``info``, unless there is one already.
    """
    mapped = item if url_map is None else url_map(item)
    if isinstance(mapped, AioDownloadBundle):
        if mapped is not item and mapped.info is None:
            mapped.info = item
        return mapped
    bundle = AioDownloadBundle(mapped)
    if not (isinstance(item, (str, URL)) and str(item) == bundle.url):
        bundle.info = item
    return bundle


class Iterated:
    """A plain iterable, read on the event loop."""

    def __init__(self, iterable: Iterable[Any], url_map: UrlMap | None) -> None:
        self.total = length(iterable)
        self._items = iter(iterable)
        self._url_map = url_map
        self._error: Exception | None = None

    async def read(self, most: int) -> list[AioDownloadBundle]:
        """Return the next bundles, without a wait; see :class:`Source`."""
        bundles: list[AioDownloadBundle] = []
        try:
            if self._error is not None:
                raise self._error
            for item in self._items:
                bundles.append(to_bundle(item, self._url_map))
                if len(bundles) == most:
                    break
        except Exception as error:
            if not bundles:
                raise
            self._error = error
        return bundles

    def close(self) -> None:
        """Read no further."""
        self._items = iter(())


class _AsyncIterated:
    """An async iterable; one item at a time, as it comes."""

    def __init__(self, iterable: AsyncIterable[Any], url_map: UrlMap | None) -> None:
        self.total = length(iterable)
        self._items = aiter(iterable)
        self._url_map = url_map

    async def read(self, most: int) -> list[AioDownloadBundle]:
        try:
            item = await anext(self._items)
        except StopAsyncIteration:
            return []
        return [to_bundle(item, self._url_map)]

    def close(self) -> None:
        """Nothing to do: the task that reads is cancelled, and that ends the iterator."""


def source_of(iterable: Iterable[Any] | AsyncIterable[Any], url_map: UrlMap | None) -> Source:
    """Return the Source for a caller's iterable.

    :raises ConfigurationError: for what cannot be iterated, or is a single URL.
    """
    check_iterable(iterable, url_map)
    if isinstance(iterable, AsyncIterable):
        return _AsyncIterated(iterable, url_map)
    return Iterated(iterable, url_map)


def length(iterable: object) -> int | None:
    """How many items there are, if it tells; nobody is made to count them."""
    try:
        return len(iterable) if isinstance(iterable, Sized) else None
    except Exception:  # of the caller's __len__, which nothing depends on
        return None


def check_iterable(iterable: object, url_map: UrlMap | None) -> None:
    """:raises ConfigurationError: for what cannot be iterated, is a single URL, or a map that cannot be called."""
    if isinstance(iterable, (str, bytes, URL, AioDownloadBundle)):
        raise ConfigurationError(f"give a list of URLs, or use one() for a single {type(iterable).__name__}")
    if not isinstance(iterable, (Iterable, AsyncIterable)) and not hasattr(iterable, "__getitem__"):
        raise ConfigurationError(f"give an iterable of URLs, not {type(iterable).__name__}")
    if url_map is not None and not callable(url_map):
        raise ConfigurationError(f"url_map must be callable, not {type(url_map).__name__}")
