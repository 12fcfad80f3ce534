"""What a swarm costs over the shortest honest aiohttp loop that writes the same files: one work of benchmarks/speed.

Whole processes in turn (A B A B …) against one nginx on loopback, with output on tmpfs; the ratio is taken pair by
pair, and every file's SHA-256 is checked after every run.  With ``--journal``, ours also runs with a journal.

    python benchmarks/overhead.py --files 4000 --size 10240 --concurrent 16 --pairs 5 --journal
    python benchmarks/overhead.py --files 1 --size 1073741824 --concurrent 1 --pairs 5 --journal
"""

from __future__ import annotations

import argparse
import sys

from speed.programs import OURS, PROGRAMS
from speed.timing import pairs
from speed.works import MEMORY, served, words


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--size", type=int, default=10240, help="bytes per file")
    parser.add_argument("--concurrent", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--journal", action="store_true", help="run ours with a journal, too")
    chosen = parser.parse_args()
    bare = PROGRAMS["bare aiohttp loop"]
    ours = [OURS, *([PROGRAMS["aiodownload, journal"]] if chosen.journal else [])]
    print(f"{chosen.files} files of {chosen.size} bytes, concurrency {chosen.concurrent}, by the bare loop's time:")
    with served(chosen.files, chosen.size, chosen.concurrent) as (job, wanted):
        for program in ours:
            row = pairs(program, bare, job, sys.executable, wanted, MEMORY, chosen.pairs)
            print(f"  {program.name}: {words(row)}", flush=True)


if __name__ == "__main__":
    main()
