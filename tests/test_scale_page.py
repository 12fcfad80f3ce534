"""The page about ten billion URLs says what the figures and the formulas say."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from scale import measured
from scale.__main__ import parameters as read_parameters
from scale.model import DNS_TTL, SAYS, Hosts, Measured, Parameters
from scale.page import render

ROOT = Path(__file__).resolve().parent.parent
FIGURES = measured.load()


def test_the_page_is_written_from_the_figures() -> None:
    assert (ROOT / "docs" / "scale.rst").read_text(encoding="utf-8") == render(FIGURES, Parameters())


def test_its_head_says_what_it_is() -> None:
    """Nobody takes it for a measurement."""
    text = render(FIGURES, Parameters())
    assert "**An extrapolation, not a measurement.**" in text[:400]
    for name in SAYS:
        assert f"``--{name}``" in text


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("hosts", [1, 10, 5000])
def test_hosts(exponent: float, hosts: int) -> None:
    """What is computed for many hosts is, for some, what counting them gives."""
    spread = Hosts(1e6, hosts, exponent)
    sizes = [spread.size(k) for k in range(1, hosts + 1)]
    assert math.isclose(sum(sizes), 1e6, rel_tol=1e-6)
    for size in (0.5, 30, 777, 1e7):
        assert abs(spread.larger(size) - sum(one > size for one in sizes)) <= 1  # a host just as large as that
        assert math.isclose(spread.capped(size), sum(min(one, size) for one in sizes), rel_tol=1e-6)
    lasting = 5 * DNS_TTL
    assert math.isclose(spread.look_ups(5), sum(max(1, one / lasting) for one in sizes), rel_tol=1e-3)
    assert math.isclose(spread.seconds_for(1, 10), sizes[0] / 10, rel_tol=1e-6)
    half = spread.seconds_for(0.5, 10)
    assert math.isclose(sum(min(one, 10 * half) for one in sizes), 5e5, rel_tol=1e-6)


def test_cpu() -> None:
    """A small file without TLS takes what was measured."""
    found = Measured.of(**FIGURES)
    small, medium = FIGURES["speed"]["works"]["small"], FIGURES["speed"]["works"]["medium"]
    plain = Parameters(body=small["size"], handshake=0)
    assert math.isclose(found.cpu(plain), found.each + found.with_journal)
    large = found.cpu(Parameters(body=medium["size"], handshake=0)) - found.with_journal
    taken = sorted(row["our_cpu"] / medium["files"] for row in medium["rows"])
    assert taken[0] <= large <= taken[-1]


@pytest.mark.parametrize(
    "parameters", [{"urls": 10, "hosts": 10}, {"urls": 1e12, "hosts": 1}, {"days": 1e-3, "busy": 1}]
)
def test_other_parameters(parameters: dict[str, float]) -> None:
    """Small and strange ones make a page as well."""
    text = render(FIGURES, Parameters(**parameters))
    assert "nan" not in text
    assert "inf " not in text


def test_the_script() -> None:
    """With parameters it prints, and leaves the page as it is."""
    before = (ROOT / "docs" / "scale.rst").read_bytes()
    command = [sys.executable, str(ROOT / "benchmarks" / "scale"), "--urls", "2e9", "--price", "1"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=True)
    assert done.stdout == render(FIGURES, Parameters(urls=2e9, price=1))
    assert (ROOT / "docs" / "scale.rst").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--urls", "0"], "--urls must be a number above 0"),
        (["--price", "-1"], "--price must be a number of 0 or more"),
        (["--body", "nan"], "--body must be a number above 0"),
        (["--hosts", "1e11"], "--hosts must be from 1 to the number of URLs"),
        (["--busy", "2"], "--busy is a share"),
        (["--reuse", "0.5"], "--reuse must be 1 or more"),
    ],
)
def test_parameters_that_cannot_be(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_parameters(arguments)
    assert words in capsys.readouterr().err


def test_a_journal_is_measured() -> None:
    """The rows are real ones: a thousand take about as many bytes each as a million."""
    found = measured.journal(1000)
    assert found["bytes"] == pytest.approx(FIGURES["scale"]["journal"][-1]["bytes"], rel=0.2)
