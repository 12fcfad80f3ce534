"""The page about the schedule says what the figures say, and a small world gives figures like these."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulation import page, scenarios

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_is_written_from_the_figures() -> None:
    figures = json.loads((ROOT / "benchmarks" / "results" / "simulation.json").read_text())
    assert (ROOT / "docs" / "simulation.rst").read_text() == page.render(figures)


def test_what_the_page_claims() -> None:
    """The figures that are published keep what is promised of the schedule."""
    figures = json.loads((ROOT / "benchmarks" / "results" / "simulation.json").read_text())
    largest = figures["mixed"][-1]
    assert (largest["urls"], largest["hosts"]) == (1_000_000, 10_000)
    assert largest["throughput"] >= 0.9
    assert largest["most_active"] <= largest["per_host"]
    assert largest["unserved"] == 0
    assert largest["waiting"] <= 10_000
    assert figures["hiccup"]["kept"] >= 0.95


def test_a_small_world() -> None:
    """Ten thousand URLs on a hundred hosts: as in the large one, no limit is passed and nobody starves."""
    found = scenarios.mixed(100, 10_000, concurrent=128)
    assert found["most_active"] <= found["per_host"]
    assert found["unserved"] == 0
    assert found["throughput"] > 0.75
