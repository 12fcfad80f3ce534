"""A swarm on many hosts, plain, on a process pool, and on Dask: the same files, the same manners, files per second.

    python benchmarks/cluster.py [--urls 20000] [--hosts 200] [--workers 2] [--venv FOLDER]

The servers are in a process of their own and write down every request: from that it is proven that no host had more
requests at once than ``per_host``, whoever asked.  ``--venv`` names a virtual environment with img2dataset, which is
timed as well, on as many processes; it does not know hosts, so nothing is proven of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from aiodownload import AioDownload, DownloadStrategy, Outcomes, RequestStrategy, swarm

PER_HOST = 4
LATENCY = 0.005  # seconds until a server answers
SIZE = 10240


def body(host: int, target: str) -> bytes:
    """A JPEG by its first bytes, different for each URL."""
    seed = hashlib.sha256(f"{host}{target}".encode()).digest()
    return b"\xff\xd8\xff\xe0" + seed * ((SIZE - 4) // 32)


def serve(hosts: int, pipe: Connection) -> None:
    """Serve on so many addresses of loopback; answer each message with the most at once, and the requests, per host."""
    most: Counter[int] = Counter()
    asked: Counter[int] = Counter()
    active: Counter[int] = Counter()

    async def answer(host: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                active[host] += 1
                asked[host] += 1
                most[host] = max(most[host], active[host])
                await asyncio.sleep(LATENCY)
                data = body(host, head.split(b" ", 2)[1].decode())
                active[host] -= 1
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data) + data
                )
                await writer.drain()
        writer.close()

    async def main() -> None:
        servers = [
            await asyncio.start_server(
                lambda reader, writer, host=host: answer(host, reader, writer), address(host), 0, backlog=1024
            )
            for host in range(hosts)
        ]
        pipe.send([server.sockets[0].getsockname()[1] for server in servers])
        while (await asyncio.to_thread(pipe.recv)) is not None:
            pipe.send((dict(most), dict(asked)))
            most.clear()
            asked.clear()

    asyncio.run(main())


def address(host: int) -> str:
    return f"127.0.{1 + host // 250}.{1 + host % 250}"


@contextlib.contextmanager
def serving(hosts: int) -> Iterator[tuple[list[str], Callable[[], tuple[dict[int, int], dict[int, int]]]]]:
    """The base URLs, and what asks the servers for their log."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(hosts, theirs), daemon=True)
    process.start()
    ports = ours.recv()

    def log() -> tuple[dict[int, int], dict[int, int]]:
        ours.send("log")
        found: tuple[dict[int, int], dict[int, int]] = ours.recv()
        return found

    yield [f"http://{address(host)}:{port}" for host, port in enumerate(ports)], log
    ours.send(None)
    process.join(10)
    process.kill()


def digests(bundles: Outcomes) -> dict[str, str]:
    """What is in the files, by their URLs."""
    return {one.url: hashlib.sha256(Path(one.file_path or "").read_bytes()).hexdigest() for one in bundles if one.ok}


def img2dataset(venv: Path, urls: list[str], folder: Path, workers: int) -> float:
    """Files per second of img2dataset, which keeps them as they are."""
    listed = folder / "urls.txt"
    listed.write_text("\n".join(urls))
    program = (
        "import sys\nfrom img2dataset import download\n"
        "if __name__ == '__main__':\n"
        "    download(url_list=sys.argv[1], output_folder=sys.argv[2], processes_count=int(sys.argv[3]),\n"
        "             thread_count=64, output_format='files', encode_format='jpg',\n"
        "             disable_all_reencoding=True, resize_mode='no')\n"
    )
    script = folder / "peer.py"
    script.write_text(program)
    began = time.perf_counter()
    subprocess.run(
        [venv / "bin" / "python", script, listed, folder / "out", str(workers)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    return len(urls) / (time.perf_counter() - began)


def main() -> int:
    """Print a line for each; return 0 if all have done the same, and kept to the limits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--urls", type=int, default=20_000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--venv", type=Path)
    given = parser.parse_args()
    wrong: list[str] = []
    with serving(given.hosts) as (bases, log), tempfile.TemporaryDirectory() as folder:
        urls = [f"{bases[number % given.hosts]}/{number}.jpg" for number in range(given.urls)]
        files: dict[str, dict[str, str]] = {}

        def timed(name: str, run: Callable[[AioDownload], Outcomes]) -> None:
            download = AioDownload(
                None, DownloadStrategy(home=Path(folder, name)), RequestStrategy(concurrent=128, per_host=PER_HOST)
            )
            began = time.perf_counter()
            bundles = run(download)
            seconds = time.perf_counter() - began
            most, asked = log()
            files[name] = digests(bundles)
            if [one.url for one in bundles if one.ok] != urls:
                wrong.append(f"{name}: {len(bundles.failed)} have failed")
            if max(most.values()) > PER_HOST or sum(asked.values()) != len(urls):
                wrong.append(f"{name}: {max(most.values())} at once, {sum(asked.values())} requests")
            print(f"{name}: {len(urls) / seconds:.0f} files/s, at most {max(most.values())} requests at once to a host")

        timed("plain", lambda download: swarm(urls, download))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(given.workers, mp_context=context) as pool:
            list(pool.map(abs, range(given.workers)))  # the start of the processes is not timed
            timed("process pool", lambda download: swarm(urls, download, executor=pool))
        timed("workers=", lambda download: swarm(urls, download, workers=given.workers))
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            print("Dask: not installed")
        else:
            with (
                LocalCluster(n_workers=given.workers, threads_per_worker=1, dashboard_address=None) as cluster,
                Client(cluster) as client,
            ):
                timed("Dask", lambda download: swarm(urls, download, executor=client.get_executor()))
        if any(found != files["plain"] for found in files.values()):
            wrong.append("the files are not the same")
        if given.venv is not None:
            print(f"img2dataset: {img2dataset(given.venv, urls, Path(folder), given.workers):.0f} files/s")
    for one in wrong:
        print(one)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
