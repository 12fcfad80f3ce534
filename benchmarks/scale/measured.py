"""The figures: those of the last runs, and what a journal and a host take."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def load() -> dict[str, dict[str, Any]]:
    """The figures of the last runs."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in ("speed", "simulation", "scale")}


def measure() -> dict[str, Any]:
    """What a journal takes on the disk, and a host in memory."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from cost import host_bytes

    from aiodownload import Adaptive

    return {
        "date": time.strftime("%Y-%m-%d"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "host": host_bytes(Adaptive()),
        "journal": [journal(rows) for rows in (10_000, 100_000, 1_000_000)],
    }


def journal(rows: int) -> dict[str, float]:
    """So many rows made, published and settled in groups of 128; their bytes on the disk and seconds, each."""
    from aiodownload import Journal
    from aiodownload.entries import Enlisted, FileState, Outcome, Publication

    with tempfile.TemporaryDirectory() as home:
        book = Journal(f"{home}/journal.db")
        book.open(home)
        began = time.perf_counter()
        for first in range(0, rows, 128):
            urls = [f"https://example.org/files/f{row:08}.bin" for row in range(first, min(first + 128, rows))]
            keys = [sha256(url.encode()).digest()[:16] for url in urls]
            paths = [url.replace("https:/", home) for url in urls]
            book.enlist(
                [Enlisted(key, url, True, path) for key, url, path in zip(keys, urls, paths, strict=True)],
                lambda *_: "enlisted",
            )
            for key, path in zip(keys, paths, strict=True):
                file = FileState(10240, 1_764_000_000_000_000_000, 1_000_000)
                date = "Wed, 25 Nov 2026 09:00:00 GMT"
                book.publishing(key, Publication(path, file, '"65a1b2c3-2800"', date, "LENGTH"))
            book.settle(
                [
                    Outcome(
                        key=key,
                        state="done",
                        attempts=1,
                        http_status=200,
                        final_url=None,
                        error=None,
                        elapsed=0.05,
                        path=path,
                    )
                    for key, path in zip(keys, paths, strict=True)
                ]
            )
        seconds = time.perf_counter() - began
        book.close()
        size = Path(book.path).stat().st_size
    return {"rows": rows, "bytes": size / rows, "seconds": seconds / rows}
