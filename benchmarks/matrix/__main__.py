"""Measure the fault matrix and write its page.

    python benchmarks/matrix

Everything runs on loopback.  What is missing of the tools is left out with a message; parfive and pypdl are installed
into an environment of their own, in a temporary folder.  Some rows of the peers wait for seconds or hang: the whole
takes about ten minutes, ``--quick`` about two.  The exit status is 1 if aiodownload's own column holds anything
silent, wrong, empty or hanging, a leak or an escape.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from matrix.cell import Cell
from matrix.outcome import BAD
from matrix.page import render
from matrix.rows import ROWS, Row
from matrix.server import FaultServer
from matrix.tools import ROOT, TOOLS, Tool, make_venv, python_of

OURS = "aiodownload"
QUICK = [1, 2, 3, 5, 7, 8, 9, 12, 14, 15, 17, 22, 24, 27, 28, 29]


def numbers(text: str) -> list[int]:
    """``1-3,7`` as a list."""
    chosen = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        chosen += range(int(first), int(last or first) + 1)
    return chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="python benchmarks/matrix"
    )
    parser.add_argument("--rows", type=numbers, help="such as 1-12,27; all if not given")
    parser.add_argument("--tools", type=lambda text: text.split(","), help="such as curl,wget; all if not given")
    parser.add_argument("--quick", action="store_true", help=f"rows {','.join(map(str, QUICK))} only")
    parser.add_argument("--limit", type=float, default=60, help="seconds for each run of a tool")
    parser.add_argument("--venv", type=Path, help="an environment that has parfive and pypdl")
    parser.add_argument("--output", type=Path, help="the page; docs/matrix.rst for a whole run")
    parser.add_argument("--results", type=Path, help="the results; benchmarks/results/matrix.json for a whole run")
    parser.add_argument("--render", action="store_true", help="measure nothing; write the page from the results again")
    chosen = parser.parse_args()
    if chosen.render or not (chosen.rows or chosen.tools or chosen.quick):
        chosen.output = chosen.output or ROOT / "docs" / "matrix.rst"
        chosen.results = chosen.results or ROOT / "benchmarks" / "results" / "matrix.json"
    return chosen


def measure(rows: list[Row], tools: list[tuple[Tool, str]], limit: float) -> dict[str, dict[str, dict[str, object]]]:
    """Run each tool on each row; return the cells by row and tool."""
    cells: dict[str, dict[str, dict[str, object]]] = {}
    with FaultServer("127.0.0.1") as here, FaultServer("127.0.0.2") as there:
        for row in rows:
            cells[str(row.number)] = {}
            for tool, python in tools:
                cell = Cell(row, tool, (here, there), python, limit).measure()
                cells[str(row.number)][tool.name] = cell
                exit_code = "" if cell.get("exit") is None else f" {cell['exit']}"
                print(
                    f"{row.number:>2} {row.title:<30} {tool.name:<12} {cell['outcome']}{exit_code}  {cell['remark']}"
                    f"  [{cell.get('requests', 0)} requests, {cell.get('seconds', 0)} s]",
                    flush=True,
                )
    return cells


def main() -> int:
    chosen = arguments()
    if chosen.render:
        results = json.loads(chosen.results.read_text(encoding="utf-8"))
        chosen.output.write_text(render(results), encoding="utf-8")
        return 0
    rows = [row for row in ROWS if row.number in (chosen.rows or (QUICK if chosen.quick else range(1, 31)))]
    names = chosen.tools or [tool.name for tool in TOOLS]
    if unknown := set(names) - {tool.name for tool in TOOLS}:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(tool.name for tool in TOOLS)}")
    tools = [tool for tool in TOOLS if tool.name in names]
    made = None
    if chosen.venv is None and (packages := [name for name in ("parfive", "pypdl") if name in names]):
        made = make_venv(packages)
    try:
        results = run(rows, tools, chosen.venv or made, chosen.limit)
    finally:
        if made is not None:
            shutil.rmtree(made)
    if chosen.results is not None:
        chosen.results.parent.mkdir(parents=True, exist_ok=True)
        chosen.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if chosen.output is not None:
        chosen.output.write_text(render(results), encoding="utf-8")
    return verdict(results)


def run(rows: list[Row], tools: list[Tool], venv: Path | None, limit: float) -> dict[str, object]:
    """Measure with what is installed; return everything that the page needs."""
    versions, there = {}, []
    for tool in tools:
        python = python_of(tool, venv)
        versions[tool.name] = tool.find_version(python)
        if versions[tool.name] is None:
            print(f"{tool.name} is missing: {tool.install}", file=sys.stderr)
        else:
            there.append((tool, python or sys.executable))
    if os.geteuid() != 0:
        print("not root: row 26 is left out, since it mounts a small file system", file=sys.stderr)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "limit": limit,
        "versions": versions,
        "cells": measure(rows, there, limit),
    }


def verdict(results: dict[str, object]) -> int:
    """1 if our own column holds what it must not, or nothing though it was asked for."""
    if OURS in results["versions"] and results["versions"][OURS] is None:
        return 1
    own = [row[OURS] for row in results["cells"].values() if OURS in row]
    return int(any(cell["outcome"] in BAD or cell["broken"] for cell in own))


if __name__ == "__main__":
    sys.exit(main())
