"""The page about speed says what the figures say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from speed import page

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
FIGURES = json.loads((ROOT / "benchmarks" / "results" / "speed.json").read_text())


def test_the_page_is_written_from_the_figures() -> None:
    assert (ROOT / "docs" / "speed.rst").read_text() == page.render(FIGURES)


def test_every_run_is_kept() -> None:
    """A ratio is the median of at least five pairs, each of which can be looked at."""
    for name in page.PAIRED:
        for row in FIGURES["works"][name]["rows"]:
            assert "failed" in row or len(row["runs"]) >= 5


def test_one_request_for_each_file() -> None:
    seen = FIGURES["works"]["requests"]
    assert seen["methods"] == {"GET": seen["files"]}
    assert seen["connections"] <= 16
