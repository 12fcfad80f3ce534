"""Run the works, and write docs/speed.rst, its plots and benchmarks/results/speed.json.

    python benchmarks/speed --quick        # less of everything, within three minutes, for a look; writes nothing
    python benchmarks/speed                # all of it: most of an hour on two cores
    python benchmarks/speed --only small   # some works, whose figures replace those of an earlier run
    python benchmarks/speed --page         # the page alone, from the figures that are there

Needs nginx; curl, wget, wget2, aria2 and axel are compared if they are there (apt-get install nginx-light curl wget
wget2 aria2 axel wrk).  The Python peers are installed into an environment of their own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from speed import page
from speed.programs import OURS, PACKAGES, PROGRAMS, make_venv
from speed.works import PAIRED, SPECIAL, Setting

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
QUICK = ("small", "medium", "large", "tls", "latency", "imports", "requests")
QUICKLY = ("bare aiohttp loop", "curl", "aria2c", "wget2", "aiodownload, journal")


def tell(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything, within three minutes")
    parser.add_argument("--only", nargs="*", choices=[*PAIRED, *SPECIAL], help="these works")
    parser.add_argument("--pairs", type=int, help="pairs of runs per program (5, and 3 if quick)")
    parser.add_argument(
        "--venv", type=Path, default=Path(tempfile.gettempdir()) / "aiodownload-peers", help="for peers"
    )
    parser.add_argument("--disk", type=Path, default=ROOT, help="a folder on a disk")
    parser.add_argument("--page", action="store_true", help="write the page from the figures that are there")
    chosen = parser.parse_args()
    if chosen.page:
        page.write(json.loads(RESULTS.read_text()), ROOT / "docs")
        return
    python = sys.executable if chosen.quick else make_venv(chosen.venv)
    setting = Setting(chosen.quick, chosen.pairs or (3 if chosen.quick else 5), python, chosen.disk)
    versions = {one.name: one.version(python) for one in (OURS, *PROGRAMS.values())}
    figures = json.loads(RESULTS.read_text()) if not chosen.quick and RESULTS.exists() else {"works": {}}
    figures |= {
        "system": f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": versions,
        "install": {one.name: one.install for one in PROGRAMS.values()},
        "shown": {one.name: one.shown for one in (OURS, *PROGRAMS.values())},
    }
    for name in chosen.only or (QUICK if chosen.quick else [*PAIRED, *SPECIAL]):
        if name in PAIRED:
            work = PAIRED[name]
            programs = tuple(
                one
                for one in work.programs
                if versions[one] and (not chosen.quick or (one in QUICKLY and PROGRAMS[one].needs not in PACKAGES[:-1]))
            )
            work = type(work)(**{**vars(work), "programs": programs})
            tell(work.title)
            found = work.measure(setting, tell)
        else:
            tell(" ".join((SPECIAL[name].__doc__ or name).split()))
            found = SPECIAL[name](setting, tell)
        figures["works"][name] = {**found, "date": datetime.date.today().isoformat()}
        if not chosen.quick:
            RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    if not chosen.quick:
        page.write(figures, ROOT / "docs")


if __name__ == "__main__":
    main()
