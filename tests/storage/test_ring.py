"""The memory through which small bodies go: no place is given out twice."""

from __future__ import annotations

import random
import sys
from collections import deque

import pytest

from aiodownload.storage import ring
from aiodownload.storage.ring import Ring

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="anonymous files are Linux's")


@pytest.mark.parametrize("seed", range(20))
def test_a_body_stays_until_it_is_given_back(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their sizes, and however many are there at once."""
    monkeypatch.setattr(ring, "SIZE", 4096)
    rng = random.Random(seed)
    shared = Ring()
    there: deque[tuple[int, bytes]] = deque()
    refused = taken = 0
    try:
        for _ in range(2000):
            if rng.random() < 0.5 or not there:
                body = rng.randbytes(rng.choice([0, 1, 100, 1000, 1365, 2048, 4095, 4096, 4097]))
                cut = rng.randint(0, len(body))
                place = shared.put((body[:cut], memoryview(body)[cut:]), len(body))
                refused += place is None
                if place is not None:
                    taken += 1
                    there.append((place, body))
            else:
                shared.give_back()
                there.popleft()
            for at, body in there:
                assert shared._memory[at : at + len(body)] == body
    finally:
        shared.close()
    assert refused > 10
    assert taken > 500


def test_all_of_it_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last byte, and then it is full."""
    monkeypatch.setattr(ring, "SIZE", 4096)
    shared = Ring()
    try:
        assert [shared.put([bytes(1024)], 1024) for _ in range(5)] == [0, 1024, 2048, 3072, None]
        shared.give_back()
        assert shared.put([bytes(1025)], 1025) is None
        assert shared.put([bytes(1024)], 1024) == 0
        for _ in range(4):
            shared.give_back()
        assert shared.put([bytes(4096)], 4096) == 0
    finally:
        shared.close()
