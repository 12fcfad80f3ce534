"""Many small files into tar shards, killed twice on the way; then members, rows and outcomes are compared, one by one.

    python benchmarks/dataset.py            # 100,000 files of 4 KiB
    python benchmarks/dataset.py 5000

A fault ends it with a message.  It needs nginx and the extra ``dataset``.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import nginx
import pyarrow.parquet as pq

SIZE = 4096
SHARD = 10_000
KILLS = (0.3, 0.7)  # of the members
LOST = 200  # bodies that a kill may cost: those that were on their way

PROGRAM = """
import json, resource, sys, aiodownload
home, journal, urls, shard, told = sys.argv[1:]
download = aiodownload.AioDownload(
    download_strategy=aiodownload.TarShards(home, shard_size=int(shard)),
    request_strategy=aiodownload.RequestStrategy(concurrent=16),
    journal=journal,
)
with open(urls) as lines, open(told, "w") as out:
    for bundle in aiodownload.each(map(str.strip, lines), download=download):
        print(json.dumps([bundle.url, bundle.status.name, bundle.file_path, bundle.size]), file=out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def fail(why: str) -> None:
    raise SystemExit(f"violated: {why}")


def settled(journal: Path) -> int:
    """How many URLs the journal has as done."""
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=10) as database:
            return int(database.execute("SELECT count(*) FROM urls WHERE state = 'done'").fetchone()[0])
    except sqlite3.OperationalError:  # it is not there yet
        return 0


def run(folder: Path, kill_at: int | None, shard: int) -> int:
    """Run the program; kill it when ``kill_at`` URLs are done.  Return its peak memory in MiB, or 0."""
    arguments = [folder / "home", folder / "journal.db", folder / "urls.txt", shard, folder / "told.jsonl"]
    program = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        if kill_at is None:
            out, _ = process.communicate()
            if process.returncode:
                fail(f"the program ended with {process.returncode}")
            return int(out)
        while settled(folder / "journal.db") < kill_at and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is not None:
            fail("the program ended before it was killed")
        process.send_signal(signal.SIGKILL)
    return 0


def members(home: Path, www: Path) -> dict[str, str]:
    """URL -> path of its member, for every member; each is what the server has, and its row says so."""
    found: dict[str, str] = {}
    for path in sorted(home.glob("*.tar")):
        rows = {row["member"]: row for row in pq.read_table(path.with_suffix(".parquet")).to_pylist() if row["member"]}
        with tarfile.open(path) as archive:
            bodies = archive.getmembers()[::2]
            if {one.name for one in bodies} != rows.keys():
                fail(f"{path.name}: its members are not its rows")
            for one in bodies:
                row, file = rows[one.name], archive.extractfile(one)
                data = file.read() if file is not None else b""
                if data != (www / row["url"].rpartition("/")[2]).read_bytes():
                    fail(f"{path.name}: {one.name} is not what the server has")
                if (sha256(data).hexdigest(), len(data)) != (row["sha256"], row["size"]):
                    fail(f"{path.name}: {one.name} is not what its row says")
                if row["url"] in found:
                    fail(f"{row['url']} is there twice")
                found[row["url"]] = f"{path}/{one.name}"
    return found


def failures(home: Path) -> Counter[str]:
    """The URLs of which a row says that they have failed, with how many rows."""
    tables = (pq.read_table(path, columns=["url", "status"]).to_pylist() for path in home.glob("*.parquet"))
    return Counter(row["url"] for table in tables for row in table if row["status"] == "failed")


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = nginx.fill(folder, count, SIZE)
        log = folder / "access.log"
        shard = min(SHARD, max(1, count // 10))
        with nginx.serving(folder, log=f"access_log {log};") as base:
            missing = [f"{base}/missing-{number}" for number in range(count // 100)]
            urls = [f"{base}/{one}" for one in names]
            (folder / "urls.txt").write_text("\n".join([*missing, *urls]))
            began = time.perf_counter()
            for share in KILLS:
                run(folder, int(share * count), shard)
            memory = run(folder, None, shard)
            took = time.perf_counter() - began
        found = members(folder / "home", folder / "www")
        outcomes = [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]
        told = {url: (state, path, size) for url, state, path, size in outcomes}
        if found.keys() != set(urls) or told.keys() != {*urls, *missing} or len(outcomes) != len(told):
            fail(f"{len(found)} members and {len(outcomes)} outcomes of {len(urls) + len(missing)} URLs")
        for url, path in found.items():
            if told[url][1:] != (path, SIZE) or told[url][0] not in ("DONE", "CACHED"):
                fail(f"{url}: {told[url]}, and its member is {path}")
        if {told[url][0] for url in missing} != {"FAILED"} or failures(folder / "home").keys() != set(missing):
            fail("what is missing is not told as failed")
        if left := [path.name for path in (folder / "home").iterdir() if path.name.startswith(".")]:
            fail(f"something is left: {left}")
        asked = Counter(line.split('"')[1].split()[1] for line in log.read_text().splitlines())
        again = sum(times - 1 for path, times in asked.items() if "missing" not in path)
        if again > LOST * len(KILLS):
            fail(f"{again} bodies were fetched again")
        states = Counter(state for state, _, _ in told.values())
        print(
            f"{count:,} files in {len(list((folder / 'home').glob('*.tar')))} shards, {len(KILLS)} kills, {took:.0f} s"
        )
        print(f"the last run: {dict(states)}, peak memory {memory} MiB")
        print(f"{again} bodies were fetched again after the kills; 0 violations")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
