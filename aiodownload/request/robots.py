"""Robots: what a robots.txt allows (RFC 9309); extra ``robots``."""

from __future__ import annotations

from typing import Any

from ..errors import MissingExtraError

__all__ = ["MOST", "Robots", "check_robots"]

MOST = 500 * 1024  # bytes that are read (RFC 9309 section 2.5)
RULES = 2_000  # that are kept: to compare with more would hold up the event loop
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
        lines = _ours(text[:MOST])
        self.size = len(lines)
        self._rules = _parser().parse("\n".join(lines)) if lines else None
        self.delay = self._longest_delay()

    def allows(self, url: str) -> bool:
        """Whether ``url`` may be asked for."""
        return self._rules is None or bool(self._rules.can_fetch(url, TOKEN))

    def _longest_delay(self) -> float:
        """Seconds that must lie between two requests: of Crawl-delay or Request-rate, what is longer (may be inf)."""
        if self._rules is None:
            return 0.0
        try:
            delay = float(self._rules.crawl_delay(TOKEN) or 0.0)
            rate = self._rules.request_rate(TOKEN)
            if rate is not None and rate.requests > 0:
                delay = max(delay, rate.seconds / rate.requests)
        except OverflowError:
            return float("inf")
        return max(0.0, delay) if delay == delay else 0.0


def _ours(text: str) -> list[str]:
    """The lines of the groups that are for us, or, if there are none, for everybody (RFC 9309 section 2.2.1).

    The parser would keep each rule once for each product that its group names, and that may be thousands.
    """
    found: dict[str, list[str]] = {TOKEN: [], "*": []}
    agents: set[str] = set()
    in_head, named = False, False
    for line in text.splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        if not colon:
            continue
        name, value = name.strip().lower(), value.strip()
        if name == "user-agent":
            if not in_head:
                agents, in_head = set(), True
            agents.add("*" if value == "*" else _product(value))
            named = named or TOKEN in agents
        else:
            in_head = False
            for agent in agents & found.keys():
                if len(found[agent]) < RULES:
                    found[agent].append(f"{name}: {value}")
    agent = TOKEN if named else "*"
    return [f"User-agent: {agent}", *found[agent]] if found[agent] else []


def _product(value: str) -> str:
    """The product token at the beginning of what a robots.txt calls a crawler."""
    return value.lower().partition("/")[0].strip()
