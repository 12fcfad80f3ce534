"""Robots: what a robots.txt allows (RFC 9309); extra ``robots``."""

from __future__ import annotations

from typing import Any

from ..errors import MissingExtraError

__all__ = ["MOST", "Robots", "check_robots"]

MOST = 500 * 1024  # bytes that are read (RFC 9309 section 2.5)
TOKEN = "aiodownload"  # noqa: S105 (it is the product token of RFC 9309 section 2.2.1)


def check_robots() -> None:
    """:raises MissingExtraError: if the package that reads a robots.txt is absent."""
    _parser()


def _parser() -> Any:
    try:
        from protego import Protego
    except ImportError:
        raise MissingExtraError("robots=True (the default of Polite)", "robots") from None
    return Protego


class Robots:
    """The rules of one host.

    :param text: its robots.txt; ``""`` allows everything.
    """

    def __init__(self, text: str) -> None:
        self._rules = _parser().parse(text[:MOST]) if text else None

    def allows(self, url: str) -> bool:
        """Whether ``url`` may be asked for."""
        return self._rules is None or bool(self._rules.can_fetch(url, TOKEN))

    @property
    def delay(self) -> float:
        """Seconds that must lie between two requests: of Crawl-delay or Request-rate, what is longer."""
        if self._rules is None:
            return 0.0
        delay = float(self._rules.crawl_delay(TOKEN) or 0.0)
        rate = self._rules.request_rate(TOKEN)
        if rate is not None and rate.requests > 0:
            delay = max(delay, rate.seconds / rate.requests)
        return max(0.0, delay)
