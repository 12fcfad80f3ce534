"""Line: the hosts that may go now, whose turn it is, and how many slots each kind of them may have."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sized
from typing import Generic, TypeVar

from .hosts import LONG, NEW, QUICK, SILENT, Host, Slot, kind_of

__all__ = ["Line"]

T = TypeVar("T")

LATE = 1.0  # seconds after which a request counts as one that takes long, but never more than
TIMES = 8  # times what quick ones take, nor less than
SOON = 0.3  # seconds: a busy moment of this machine makes no slow host
FEW = 8  # requests that hosts which have not answered may have at once in any case
LEAST = 0.2  # of the slots, for each kind of hosts
EXPECTED = 30.0  # seconds for which quick hosts are expected to come again
LATELY = 1.0  # seconds, over which the slots are averaged that quick ones use


class Line(Generic[T]):
    """Hosts in line for slots: each has one start in turn.

    Slots are kept for those that give them back soon.  Hosts whose requests take long, a second or eight times what
    others take (they are slow, or have large files), have a fifth of the slots, and more only if nobody else could use
    them; so have hosts that have not answered yet, each with one request at a time where slots are scarce, and those of
    them that have kept one waiting for long.  Where nobody else has anything to do, they have all.

    ``free`` is how many slots nobody has.

    :param slots: how many there are (int >= 1).
    :param hosts: all that are known.
    """

    def __init__(self, slots: int, hosts: Sized) -> None:
        self.slots = self.free = slots
        self.expecting = 0  # runs that have not read all of their input
        self._hosts = hosts
        self._least = max(1.0, slots * LEAST)
        self._line: deque[Host[T]] = deque()
        # The ones that must let others pass, by their kind.
        self._aside: dict[int, deque[Host[T]]] = {NEW: deque(), LONG: deque(), SILENT: deque()}
        self._new, self._long, self._silent = self._aside.values()
        self._has = [0, 0, 0, 0]  # slots that hosts of each kind have
        self._eager = self._quick = 0  # hosts that have something ready and do not take long; and that are quick
        self._eager_in_line = self._quick_in_line = 0  # of those, the ones that may go now
        self._young: deque[Slot] = deque()
        self._late = LATE
        self._quick_at = -math.inf  # when a quick host was last done with a request
        self._used = 0.0  # slots that quick hosts have lately, on average
        self._used_at = 0.0

    def __len__(self) -> int:
        """Hosts that stand in line."""
        return len(self._line)

    @property
    def first(self) -> Host[T] | None:
        """The host that stands first, whether it may have a slot or not."""
        return self._line[0] if self._line else None

    def head(self, now: float) -> Host[T] | None:
        """The host whose turn it is, if there is one that a free slot is for."""
        if self.free <= 0:
            return None
        if self._young and self._young[0].since <= now - self._late:
            self._age(now)
        while self._line or self._bring_back():
            host = self._line[0]
            if host.quick or not self._must_wait(host):
                return host
            self._line.popleft()
            self._tally(host, -1)
            self._step_aside(host)
        return None

    def enter(self, host: Host[T]) -> None:
        """Let ``host`` stand in line, at its end."""
        host.in_turn = True
        self._line.append(host)
        self._tally(host, 1)

    def leave(self, host: Host[T]) -> None:
        """Let the first one go."""
        self._line.popleft()
        self._tally(host, -1)
        host.in_turn = False

    def take(self, host: Host[T], now: float) -> Slot:
        """Give a slot to ``host``."""
        slot = Slot(host, now)
        self.free -= 1
        self._has[host.kind] += 1
        passed, self._used_at = now - self._used_at, now
        self._used += (self._has[QUICK] - self._used) * min(1.0, passed / LATELY)
        self._young.append(slot)
        return slot

    def give_back(self, slot: Slot, now: float) -> None:
        """Take it back, and learn from how long it was away."""
        host = slot.host
        self.free += 1
        host.active -= 1
        self._has[host.kind] -= 1
        host.late -= slot.late
        slot.held = False
        young = self._young
        while young and not young[0].held:
            young.popleft()
        held = now - slot.since
        if held < self._late:
            self._quick_at = now
            self._late += (min(LATE, max(SOON, TIMES * held)) - self._late) / 100
        long = host.late > 0 or held >= self._late
        if long != host.long:
            self._class(host, host.proven, long)
        if self._new or self._long or self._silent:
            self._bring_back()

    def proven(self, host: Host[T]) -> None:
        """It has answered."""
        if not host.proven:
            self._class(host, True, host.long)

    def count(self, host: Host[T]) -> None:
        """Keep count of the hosts that have something ready and do not take long, and of the quick ones among them."""
        eager = not host.long and host.ready
        counts = (eager, eager and host.proven)
        if counts != host.counted:
            self._eager += counts[0] - host.counted[0]
            self._quick += counts[1] - host.counted[1]
            host.counted = counts

    def _tally(self, host: Host[T], more: int) -> None:
        self._eager_in_line += more * (host.kind <= NEW)
        self._quick_in_line += more * host.quick

    def _bring_back(self) -> bool:
        """Let one of those that stepped aside stand in line again, if there is room for it."""
        for kind, aside in self._aside.items():
            while aside and aside[0].aside != kind:  # it stands elsewhere by now
                aside.popleft()
            if aside and not self._must_wait(aside[0]):
                self._return(aside.popleft())
                return True
        return False

    def _step_aside(self, host: Host[T]) -> None:
        host.aside = host.kind
        self._aside[host.kind].append(host)

    def _return(self, host: Host[T]) -> None:
        host.aside = None
        self.enter(host)

    def _must_wait(self, host: Host[T]) -> bool:
        """Whether it must let others pass: quicker ones, or, if it has not answered yet, anybody."""
        has, kind = self._has, host.kind
        if not host.proven and host.active:
            # One at a time, until it has answered, where slots are scarce: more are in line than there are slots, or
            # there are more hosts than slots, and those that have not answered have their share already.
            others = len(self._line) - (host.aside is None)
            if others >= self.free:
                return True
            if len(self._hosts) > self.slots and has[NEW] + has[SILENT] >= max(self._least, FEW):
                return True
        slots, least = self.slots, self._least
        # For quick ones, as many as they use, and twice the square root more: so far stray arrivals at random.
        room = slots - self._used - 2 * math.sqrt(self._used) - 1
        if kind == NEW:
            if not self._quick:
                return False
            if self.free + has[QUICK] <= least / 2:
                return True
            return has[NEW] >= (least if self._quick_in_line else max(least, room - has[LONG] - has[SILENT]))
        if not self._eager:
            # Quick ones may be next in the input: let all slots be taken, and nobody reads on to find them.
            soon = self.expecting and len(self._hosts) > 1 and self._used_at - self._quick_at < EXPECTED
            return bool(soon) and has[LONG] + has[SILENT] >= slots - int(slots * LEAST)
        other = has[LONG + SILENT - kind]
        # Who has not answered yet may be quick: a share is for them, too, before one of these takes more than its own.
        eager = self._eager_in_line or self._aside[NEW]
        return has[kind] >= (least if eager else max(least, room - least - other))

    def _age(self, now: float) -> None:
        """Notice which requests have begun to take long."""
        young = self._young
        while young and young[0].since <= now - self._late:
            slot = young.popleft()
            if slot.held:
                slot.late = True
                slot.host.late += 1
                self._class(slot.host, slot.host.proven, True)

    def _class(self, host: Host[T], proven: bool, long: bool) -> None:
        """Note what is known of a host now."""
        before, kind = host.kind, kind_of(proven, long)
        host.proven, host.long, host.kind, host.quick = proven, long, kind, kind == QUICK
        if kind == before:
            return
        self._has[before] -= host.active
        self._has[kind] += host.active
        if host.in_turn and host.aside is None:
            self._quick_in_line += host.quick - (before == QUICK)
            self._eager_in_line += (kind <= NEW) - (before <= NEW)
        if host.aside is not None:
            if host.quick:
                self._return(host)
            else:
                self._step_aside(host)
        self.count(host)
