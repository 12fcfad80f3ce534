"""Health: what the answers of one host, and their absence, say about the next request to it."""

from __future__ import annotations

from ..errors import AioDownloadError

__all__ = ["FEW", "NEVER", "Health"]

SUSPECT = 3  # tries in a row without any answer, after which a host gets a few at a time
FEW = 3  # bundles given up so, after which the others are not kept waiting for it
MANY = 10  # first tries without an answer, where there was a connection: perhaps only these URLs get none
PROBE = 60.0  # seconds until a host that is given up is asked again, at first
LONGEST_PROBE = 600.0
LONGEST_CLOSED = 86400.0  # seconds for which a host is believed that wants to be left alone for longer
COOL = 0.1  # seconds that a host is left alone after a first "later" without a time

NEVER = float("-inf")

# That a host is closed, and what has led to it: an answer takes it all back.
_CLOSED = (
    *("closed_until", "down", "error", "owed", "suspect"),
    *("_given_up", "_probe", "_probed", "_sent_away", "_silent", "_suspect_at"),
)


class Health:
    """How one host is; ``now`` is an argument everywhere.

    ``alone_until``: it has asked for a pause.  ``owed``: one that was not asked for yet is to have its first try before
    others go on, since perhaps it is answered.  ``error``: why its bundles fail until ``closed_until``.
    """

    __slots__ = (
        "_cool_down",
        "_cooled",
        "_given_up",
        "_probe",
        "_probed",
        "_sent_away",
        "_silent",
        "_suspect_at",
        "alone_until",
        "closed_until",
        "down",
        "error",
        "owed",
        "quota",
        "quota_until",
        "suspect",
    )

    def __init__(self) -> None:
        self.alone_until = NEVER
        self._cool_down = 0.0  # seconds of the last pause that it did not name the end of
        self._cooled = NEVER  # when that began
        self.quota: int | None = None  # requests that it still allows
        self.quota_until = NEVER
        self._silent = 0  # tries in a row that got no answer at all
        self.suspect = False  # whether these are a few
        self._suspect_at = NEVER  # since when
        self._given_up = 0  # bundles in a row that failed so
        self._probed = 0.0  # first tries that got none; one with a connection counts for less
        self.owed = False
        self._sent_away = 0  # answers in a row that asked for too long a wait
        self.down = False  # whether it was found so, and has not answered since
        self._probe = PROBE
        self.closed_until = NEVER
        self.error: AioDownloadError | None = None

    def shift(self, seconds: float) -> None:
        """Move all points in time by so much: they are told by another clock from now on."""
        for name in ("_cooled", "_suspect_at", "alone_until", "closed_until", "quota_until"):
            setattr(self, name, getattr(self, name) + seconds)

    def heed(self, other: Health) -> None:
        """Keep to the pauses of ``other`` as well, which somebody else has heard of from the same host."""
        self.alone_until = max(self.alone_until, other.alone_until)
        if other.error is not None and other.closed_until > self.closed_until:
            for name in _CLOSED:
                setattr(self, name, getattr(other, name))

    @property
    def remarkable(self) -> bool:
        """Whether there is anything to be remembered of it."""
        return bool(self._silent or self._cool_down or self._sent_away)

    @property
    def is_probed(self) -> bool:
        """Whether enough first tries got no answer: it is not for the URLs."""
        return self._probed > FEW - 0.01

    def start(self) -> float:
        """When a request may start."""
        if self.quota is not None and self.quota <= 0:
            return max(self.alone_until, self.quota_until)
        return self.alone_until

    def started(self, now: float) -> None:
        """Count a request."""
        if self.quota is not None:
            self.quota -= 1
            if now >= self.quota_until:
                self.quota = None

    def is_closed(self, now: float) -> bool:
        """Whether its bundles fail at once; once its time is over it is asked again."""
        if self.error is not None and now >= self.closed_until:
            self.error = None
        return self.error is not None

    def opens_in(self, now: float) -> float:
        """Seconds for which it is not to be asked."""
        return max(0.0, self.alone_until - now, self.closed_until - now)

    def answered(self, *, later: bool) -> None:
        """There is an answer; it may be one that says "later"."""
        if self._silent:
            self._silent = self._given_up = 0
            self._probed = 0.0
            self.suspect = self.owed = self.down = False
            self._probe = PROBE
            self.error, self.closed_until = None, NEVER
        if not later:
            self._cool_down = 0.0
            self._sent_away = 0

    def unanswered(self, asked: float, now: float, *, first: bool, connected: bool) -> None:
        """There is no answer at all, perhaps to the first try of a bundle, though perhaps there was a connection."""
        self._silent += 1
        if first:
            self.owed = False
            if self.suspect and asked >= self._suspect_at:  # not one that was under way before
                self._probed += FEW / MANY if connected else 1
        if self._silent == SUSPECT:
            self.suspect, self._suspect_at = True, now
            self.owed = True
        elif self.suspect and not first and not self.is_probed:
            self.owed = True

    def leave_alone(self, asked: float, now: float, told: float, wait: float) -> None:
        """It says "later".

        :param told: in how many seconds, by its own words, or 0.
        :param wait: seconds that the bundle waits for its next try: where nothing is told, the pause of the
            others grows up to this.
        """
        if told > 0:
            self.alone_until = max(self.alone_until, now + told)
        elif wait > 0 and asked >= self._cooled:  # those that were under way together count once
            self._cool_down = min(max(COOL, 2 * self._cool_down), wait)
            self._cooled = now
            self.alone_until = max(self.alone_until, now + self._cool_down)

    def allow(self, requests: int, seconds: float, now: float) -> None:
        """It allows so many requests in the next ``seconds``."""
        self.quota = requests
        self.quota_until = now + seconds

    def send_away(self, now: float, seconds: float) -> bool:
        """It asks for too long a wait.  Whether it has done so a few times, and nothing else."""
        self._sent_away += 1
        if self._sent_away < FEW:
            return False
        self.closed_until = max(self.closed_until, now + min(seconds, LONGEST_CLOSED))
        return True

    def give_up(self) -> None:
        """A bundle has failed after all its tries, and the last had no answer."""
        self._given_up += 1
        if not self.is_probed:
            self.owed = True

    def found_down(self, now: float) -> bool:
        """Whether a few bundles have gone through all their tries, and as many others had a first one, unanswered.

        If so, it is closed until it is to be probed.  Once that was so, one more try without an answer says it again.
        """
        if now < self.closed_until or not (self.down or (self._given_up >= FEW and self.is_probed)):
            return False
        self.down = True
        self.closed_until = now + self._probe
        self._probe = min(2 * self._probe, LONGEST_PROBE)
        return True
