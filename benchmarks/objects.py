"""Many objects, and one large one, into a server of S3's protocol: how long, and how much memory it takes.

The files come from an nginx on loopback, the store is moto's server there, and each run is a process of its own, whose
peak of resident memory is printed.  Every object is read back and its SHA-256 compared.  How fast it is says most of
all how fast moto is: only the memory and the digests are ours.

    python benchmarks/objects.py --objects 10000 --size 10240 --large 2147483648
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import nginx
import scripted

STORE = """
import logging, time
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").disabled = True
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(1e6)
"""

PROGRAM = """
import json, resource, sys, time
import aiodownload

base, endpoint, names, concurrent = sys.argv[1:]
options = {"endpoint": endpoint, "allow_http": "true", "access_key_id": "k", "secret_access_key": "s", "region": "r"}
strategy = aiodownload.DownloadStrategy(home="s3://bucket/kept", store_options=options)
download = aiodownload.AioDownload(None, strategy, aiodownload.RequestStrategy(concurrent=int(concurrent)))
with open(names) as file:
    wanted = json.load(file)
began = time.perf_counter()
bundles = aiodownload.swarm(
    (aiodownload.AioDownloadBundle(f"{base}/{name}", digest=f"sha256:{digest}") for name, digest in wanted.items()),
    download,
)
took = time.perf_counter() - began
failed = [str(bundle.error) for bundle in bundles if not bundle.ok]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps([took, peak, len(bundles) - len(failed), failed[:3], bundles[0].file_path]))
"""

OPTIONS = {"allow_http": "true", "access_key_id": "k", "secret_access_key": "s", "region": "r"}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong_objects(endpoint: str, folder: str, wanted: dict[str, str]) -> int:
    """Read every object back, and count those that are not what they should be."""
    from obstore.store import S3Store

    store = S3Store("bucket", config={"endpoint": endpoint, **OPTIONS})
    wrong = 0
    for name, expected in wanted.items():
        found = hashlib.sha256()
        for chunk in store.get(f"{folder}/{name}").stream():
            found.update(chunk)
        wrong += found.hexdigest() != expected
    return wrong


def run(base: str, endpoint: str, wanted: dict[str, str], concurrent: int, words: str) -> None:
    """One swarm, and what came of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as names:
        json.dump(wanted, names)
        names.flush()
        program = [sys.executable, "-c", PROGRAM, base, endpoint, names.name, str(concurrent)]
        took, peak, done, failed, first = json.loads(subprocess.check_output(program, text=True))
    folder = first.removeprefix("s3://bucket/").rpartition("/")[0]
    wrong = wrong_objects(endpoint, folder, wanted) if not failed else "?"
    print(f"{words}: {done} of {len(wanted)} in {took:.1f} s, peak {peak} MiB, wrong digests: {wrong}", flush=True)
    if failed or wrong:
        sys.exit(f"failed: {failed}")


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=10_240, help="bytes of each")
    parser.add_argument("--large", type=int, default=1 << 31, help="bytes of the one")
    parser.add_argument("--concurrent", type=int, default=16)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, scripted.serving(STORE) as endpoint:
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
        root = Path(folder)
        small = nginx.fill(root, chosen.objects, chosen.size)
        wanted = {name: digest(root / "www" / name) for name in small}
        (root / "large").mkdir()
        (only,) = nginx.fill(root / "large", 1, chosen.large, seed=2)
        (root / "large" / "www" / only).rename(root / "www" / "large.bin")
        large = {"large.bin": digest(root / "www" / "large.bin")}
        with nginx.serving(root) as base:
            run(base, endpoint, wanted, chosen.concurrent, f"{chosen.objects} objects of {chosen.size} bytes")
            run(base, endpoint, large, 1, f"one object of {chosen.large / (1 << 20):.0f} MiB")


if __name__ == "__main__":
    main()
