"""What waits to be sent out: a host is in one shard at a time, nothing is lost, and nobody is asked too soon."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.cluster.stock import BUNDLES, SOON, Errand, Stock
from aiodownload.request.health import Health
from aiodownload.request.memory import Memory

NEVER = float("-inf")
SPLIT = "h0"  # a host that may be in two shards at once


def errand(origin: str, due: float = 0.0) -> Errand:
    made = Errand(None, origin, 0.0)  # type: ignore[arg-type]
    made.due = due
    return made


def memory(pause: float = 0.0, until: float = 0.0) -> Memory:
    health = Health()
    if pause:
        health.leave_alone(0.0, 0.0, pause, 0.0)
    return Memory(health, None, None, 0.0, NEVER, 0.0, True, False, max(pause, until))


def hosts_of(errands: list[Errand]) -> set[str]:
    return {one.origin for one in errands}


def test_a_host_is_in_one_shard() -> None:
    """Until that is back, its other bundles wait."""
    stock = Stock()
    for _ in range(BUNDLES + 5):
        stock.add(errand("a"), 0.0)
    assert len(stock.cut(1, 0.0)) == BUNDLES
    assert stock.cut(1, 0.0) == []
    stock.add(errand("b"), 0.0)
    assert hosts_of(stock.cut(1, 0.0)) == {"b"}
    stock.back(["a"], {}, 1.0)
    assert len(stock.cut(1, 1.0)) == 5


def test_hosts_are_divided_evenly() -> None:
    """Each shard has its part of them, and as many bundles of each as there are room for."""
    stock = Stock()
    for number in range(100):
        for _ in range(50):
            stock.add(errand(f"h{number}"), 0.0)
    one, other = stock.cut(2, 0.0), stock.cut(1, 0.0)
    for shard in (one, other):
        assert len(shard) == BUNDLES
        assert len(hosts_of(shard)) == 50
        assert max(Counter(each.origin for each in shard).values()) <= BUNDLES // 50 + 1
    assert not hosts_of(one) & hosts_of(other)


def test_a_pause_is_kept_to() -> None:
    """A host is not sent out before it may be asked; nor is what is due later."""
    stock = Stock()
    stock.add(errand("a"), 0.0)
    stock.cut(1, 0.0)
    stock.add(errand("a"), 0.0)
    stock.add(errand("b", due=5.0), 0.0)
    stock.back(["a"], {"a": memory(pause=10.0)}, 1.0)
    assert stock.cut(1, 1.0) == []
    assert stock.wake_at() == 5.0 - SOON
    assert hosts_of(stock.cut(1, 5.0)) == {"b"}
    assert stock.wake_at() == 11.0
    assert stock.cut(1, 10.5) == []
    assert hosts_of(stock.cut(1, 11.0)) == {"a"}


def test_what_is_known_goes_out_again() -> None:
    """Of the hosts of a shard, and of strangers that want to be left alone; as it is by then."""
    stock = Stock()
    for origin in ("a", "b"):
        stock.add(errand(origin), 0.0)
    stock.cut(1, 0.0)
    stock.back(["a", "b"], {"a": memory(until=60.0), "far": memory(pause=30.0), "idle": memory(until=60.0)}, 10.0)
    told = stock.memories(frozenset({"a"}), 15.0)
    assert set(told) == {"a", "far"}
    assert told["far"].paused == 25.0
    assert set(stock.memories(frozenset({"b"}), 45.0)) == set()


def test_hosts_are_forgotten() -> None:
    """Once nothing waits for them, and nothing has to be remembered."""
    stock = Stock()
    for number in range(1000):
        stock.add(errand(f"h{number}"), 0.0)
    for _ in range(4):
        shard = stock.cut(1, 0.0)
        stock.back(hosts_of(shard), {one.origin: memory(until=60.0) for one in shard}, 1.0)
    assert len(stock._hosts) == 1000
    stock.wake(62.0)
    assert not stock._hosts


def test_a_host_that_is_split() -> None:
    """It is in as many shards as it has parts, and each has its portion; a pause that one brings back holds for all."""
    stock = Stock(frozenset({"a"}), 2)
    for _ in range(101):
        stock.add(errand("a"), 0.0)
    assert (len(stock), stock.takers) == (1, 2)
    assert len(stock.cut(2, 0.0)) == 51
    assert len(stock.cut(1, 0.0)) == 50
    for _ in range(4):
        stock.add(errand("a"), 0.0)
    assert stock.cut(1, 0.0) == []
    stock.back(["a"], {"a": memory(pause=10.0)}, 1.0)
    assert stock.cut(1, 1.0) == []
    stock.back(["a"], {}, 2.0)  # it has not heard of that
    assert stock.cut(1, 2.0) == []
    assert stock.wake_at() == 11.0
    assert stock.memories(frozenset({"a"}), 3.0)["a"].paused == 8.0
    assert [len(stock.cut(shards, 11.0)) for shards in (2, 1)] == [2, 2]


def test_a_split_host_beside_others() -> None:
    """It counts as often as it may go, and is in each shard once."""
    stock = Stock(frozenset({"split"}), 2)
    for origin in ("split", "a", "b"):
        for _ in range(20):
            stock.add(errand(origin), 0.0)
    one, other = stock.cut(2, 0.0), stock.cut(1, 0.0)
    assert Counter(each.origin for each in one) == {"split": 10, "a": 20}
    assert Counter(each.origin for each in other) == {"split": 10, "b": 20}


def test_one_part_is_no_split() -> None:
    """With one worker, or where one request at once is allowed."""
    stock = Stock(frozenset({"a"}), 1)
    stock.add(errand("a"), 0.0)
    assert len(stock.cut(1, 0.0)) == 1
    stock.add(errand("a"), 0.0)
    assert (stock.split, stock.cut(1, 0.0)) == (frozenset(), [])


def test_a_lost_part_rests() -> None:
    """Also if another one has come back meanwhile."""
    stock = Stock(frozenset({"a"}), 2)
    for _ in range(4):
        stock.add(errand("a"), 0.0)
    stock.cut(2, 0.0)
    stock.cut(1, 0.0)
    stock.add(errand("a"), 0.0)
    stock.lost(["a"], 1.0, 5.0)
    stock.back(["a"], {"a": memory(until=60.0)}, 2.0)
    assert stock.cut(1, 2.0) == []
    assert len(stock.cut(1, 6.0)) == 1


def test_those_that_were_lost_go_alone_in_the_end() -> None:
    """A shard with bundles that have lost a worker is smaller each time, and no others are in it."""
    stock = Stock()
    for losses, most in ((1, 32), (2, 4)):
        for _ in range(40):
            lost = errand(f"lost{losses}")
            lost.losses = losses
            stock.add(lost, 0.0)
        stock.add(errand(f"fresh{losses}"), 0.0)
        shard = stock.cut(1, 0.0)
        assert (len(shard), hosts_of(shard)) == (most, {f"lost{losses}"})
        assert hosts_of(stock.cut(1, 0.0)) == {f"fresh{losses}"}


def test_what_is_withdrawn_does_not_go() -> None:
    """Its deadline may be over while it waits."""
    stock = Stock()
    gone = errand("a")
    stock.add(gone, 0.0)
    gone.gone = True
    assert stock.cut(1, 0.0) == []
    stock.add(errand("a"), 0.0)
    assert len(stock.cut(1, 0.0)) == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 4), st.floats(0, 3)),
        st.tuples(st.just("cut"), st.integers(1, 3), st.just(0.0)),
        st.tuples(st.just("back"), st.integers(0, 5), st.floats(0, 2)),
        st.tuples(st.just("lost"), st.integers(0, 5), st.floats(0, 2)),
        st.tuples(st.just("wait"), st.just(0), st.floats(0, 2)),
    ),
    max_size=60,
)


class Checked:
    """A stock, and what must be true of it."""

    def __init__(self) -> None:
        self.stock = Stock(frozenset({SPLIT}), 2)
        self.now = 0.0
        self.added: list[Errand] = []
        self.went: list[Errand] = []
        self.out: list[set[str]] = []
        self.opens: dict[str, float] = {}

    def add(self, number: int, seconds: float) -> None:
        self.added.append(errand(f"h{number}", self.now + seconds))
        self.stock.add(self.added[-1], self.now)

    def cut(self, shards: int, _: float = 0.0) -> bool:
        shard = self.stock.cut(shards, self.now)
        for one in shard:
            assert one.due <= self.now + SOON
            assert self.opens.get(one.origin, 0.0) <= self.now + SOON + 1e-9
            assert sum(one.origin in hosts for hosts in self.out) <= (one.origin == SPLIT)
        self.went.extend(shard)
        if shard:
            self.out.append(hosts_of(shard))
        return bool(shard)

    def back(self, number: int, seconds: float) -> None:
        for hosts in self._returning(number, seconds):
            self.stock.back(hosts, {host: memory(pause=seconds) for host in hosts}, self.now)

    def lost(self, number: int, seconds: float) -> None:
        for hosts in self._returning(number, seconds):
            self.stock.lost(hosts, self.now, seconds)

    def _returning(self, number: int, seconds: float) -> list[set[str]]:
        if not self.out:
            return []
        hosts = self.out.pop(number % len(self.out))
        self.opens |= dict.fromkeys(hosts, self.now + seconds)
        return [hosts]

    def wait(self, _: int, seconds: float) -> None:
        self.now += seconds
        self.stock.wake(self.now)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_nothing_is_lost(steps: list[Any]) -> None:
    """After any steps: no host is out too often, nobody goes before his time, and everybody goes in the end."""
    checked = Checked()
    for kind, number, seconds in steps:
        getattr(checked, kind)(number, seconds)
    for _ in range(200):
        while checked.out:
            checked.back(0, 0.0)
        if not checked.cut(1):
            wake = checked.stock.wake_at()
            if wake is None:
                break
            checked.now = max(checked.now, wake)
    assert Counter(map(id, checked.went)) == Counter(map(id, checked.added))
    checked.wait(0, 1000.0)
    assert not checked.stock._hosts
