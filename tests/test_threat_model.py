"""The threat model names its proofs: each of them is there, and no attack is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "threat_model.rst").read_text(encoding="utf-8")
ATTACKS = (ROOT / "tests" / "proof" / "test_attacks.py").read_text(encoding="utf-8")


def test_every_file_that_is_named_is_there() -> None:
    """A proof that has moved is noticed."""
    named = set(re.findall(r"``(tests/[\w/]+\.py)``", PAGE))
    assert len(named) > 15
    assert not {name for name in named if not (ROOT / name).is_file()}


def test_every_attack_has_its_row_and_its_test() -> None:
    """S1 to S30, each once on the page, each with a test that the page names."""
    rows = re.findall(r"^(S\d+(?:, S\d+)*) +.*``(test_s\d\d)``$", PAGE, re.MULTILINE)
    numbers = [int(number) for row, _ in rows for number in re.findall(r"S(\d+)", row)]
    assert numbers == list(range(1, 31))
    for row, test in rows:
        found = re.search(rf"^def ({test}\w*)\(", ATTACKS, re.MULTILINE)
        assert found is not None, test
        assert all(f"s{int(number):02}" in found[1] for number in re.findall(r"S(\d+)", row))
