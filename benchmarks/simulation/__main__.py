"""Runs the scenarios, keeps their figures, and writes the page and its plots: ``python benchmarks/simulation``.

``--quick`` takes a tenth of the URLs.  ``--page`` only writes the page anew, from the figures of the last run.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]

from simulation import page, scenarios  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "simulation.json"
PAGE = ROOT / "docs" / "simulation.rst"


def run(quick: bool) -> dict[str, Any]:
    """All scenarios."""
    figures: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "quick": quick,
    }
    share = 10 if quick else 1
    steps: list[tuple[str, Any]] = [
        ("decisions", scenarios.decisions),
        ("rates", scenarios.rates),
        ("hiccup", scenarios.hiccup),
        ("neighbours", scenarios.neighbours),
        ("mixed", lambda: [scenarios.mixed(10_000 // share, size // share) for size in (10_000, 100_000, 1_000_000)]),
    ]
    for name, step in steps:
        began = time.perf_counter()
        figures[name] = step()
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the URLs, and no page")
    parser.add_argument("--page", action="store_true", help="only write the page, from the last run")
    chosen = parser.parse_args()
    if not chosen.page:
        figures = run(chosen.quick)
        if chosen.quick:
            print(json.dumps(figures, indent=1))
            return
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    page.write(json.loads(RESULTS.read_text()), PAGE)
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
