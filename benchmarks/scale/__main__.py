"""What ten billion URLs would take: computed from the measured figures, written to docs/scale.rst.

    python benchmarks/scale                           # writes the page
    python benchmarks/scale --urls 1e8 --hosts 1e5    # prints it for other parameters, and writes nothing
    python benchmarks/scale --measure                 # measures what a journal and a host take, then writes the page

The speeds are those of the last ``python benchmarks/speed`` and ``python benchmarks/simulation``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]

from scale.measured import RESULTS, load, measure  # noqa: E402
from scale.model import SAYS, Parameters  # noqa: E402
from scale.page import render  # noqa: E402

PAGE = ROOT / "docs" / "scale.rst"


def parameters(arguments: list[str]) -> tuple[Parameters, bool, bool]:
    """What was chosen, whether anything was, and whether to measure.

    :raises SystemExit: for a parameter that cannot be.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure what a journal and a host take")
    for field in fields(Parameters):
        parser.add_argument(f"--{field.name}", type=float, help=f"{SAYS[field.name]} ({field.default:g})")
    given = vars(parser.parse_args(arguments))
    measuring = given.pop("measure")
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        least = 0 if name in ("handshake", "price", "put") else sys.float_info.min
        if not least <= value < math.inf:
            parser.error(f"--{name} must be a number {'of 0 or more' if not least else 'above 0'}, not {value:g}")
    found = replace(Parameters(), **chosen)
    if not 1 <= found.hosts <= found.urls:
        parser.error(f"--hosts must be from 1 to the number of URLs, not {found.hosts:g}")
    if found.busy > 1:
        parser.error(f"--busy is a share, above 0 and at most 1, not {found.busy:g}")
    if found.reuse < 1:
        parser.error(f"--reuse must be 1 or more, not {found.reuse:g}")
    return found, bool(chosen), measuring


def main(arguments: list[str]) -> None:
    """Write the page, or print it for other parameters."""
    chosen, other, measuring = parameters(arguments)
    if measuring:
        (RESULTS / "scale.json").write_text(json.dumps(measure(), indent=1) + "\n")
    text = render(load(), chosen)
    if other:
        print(text, end="")
    else:
        PAGE.write_text(text, encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
