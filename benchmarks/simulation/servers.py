"""Servers as they are met: quick, slow, dead, limited, flapping.  Each answers a request with a delay and a word."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Answer", "Bucket", "Dead", "Flapping", "Plain", "Server", "Window"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back.

    :param after: seconds from the start of the request.
    :param kind: ``"ok"``, ``"later"`` (a 429) or ``"silence"``.
    :param retry_after: seconds that a 429 names, or 0.
    """

    after: float
    kind: str = "ok"
    retry_after: float = 0.0


class Server(Protocol):
    """One host."""

    best: float
    """Requests per second that it bears at most (may be ``inf``)."""

    def ask(self, now: float, chance: random.Random) -> Answer:
        """Answer a request that starts now."""


@dataclass
class Plain:
    """Answers in so many seconds, give or take a fifth."""

    latency: float
    best: float = float("inf")

    def ask(self, now: float, chance: random.Random) -> Answer:
        """Always the same."""
        return Answer(self.latency * (0.8 + 0.4 * chance.random()))


@dataclass
class Dead:
    """Refuses at once, or says nothing until the client gives up.

    :param after: seconds.
    """

    after: float
    best: float = float("inf")

    def ask(self, now: float, chance: random.Random) -> Answer:
        """Never."""
        return Answer(self.after, "silence")


@dataclass
class Window:
    """Admits so many requests in any second; beyond, 429 with Retry-After."""

    best: float
    latency: float = 0.02
    retry_after: float = 1.0
    _seen: deque[float] = field(default_factory=deque)

    def ask(self, now: float, chance: random.Random) -> Answer:
        """As long as fewer were admitted in the last second."""
        delay = self.latency * (0.8 + 0.4 * chance.random())
        at = now + delay / 2
        while self._seen and self._seen[0] <= at - 1:
            self._seen.popleft()
        if len(self._seen) >= self.best:
            return Answer(delay, "later", self.retry_after)
        self._seen.append(at)
        return Answer(delay)


@dataclass
class Bucket:
    """Admits ``best`` a second on average, and ``burst`` at once (nginx's limit_req, most gateways)."""

    best: float
    burst: float
    latency: float = 0.02
    retry_after: float = 1.0
    _tokens: float = -1.0
    _at: float = 0.0

    def ask(self, now: float, chance: random.Random) -> Answer:
        """As long as there is a token."""
        delay = self.latency * (0.8 + 0.4 * chance.random())
        if self._tokens < 0:
            self._tokens = self.burst
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.best)
        self._at = now
        if self._tokens < 1:
            return Answer(delay, "later", self.retry_after)
        self._tokens -= 1
        return Answer(delay)


@dataclass
class Flapping:
    """Up for a while, then down for a while: it refuses connections."""

    up: float
    down: float
    latency: float = 0.05
    best: float = float("inf")

    def ask(self, now: float, chance: random.Random) -> Answer:
        """While it is up."""
        if now % (self.up + self.down) < self.up:
            return Answer(self.latency * (0.8 + 0.4 * chance.random()))
        return Answer(0.001, "silence")
