"""A swarm on many hosts, plain, on a process pool, and on Dask: the same files, the same manners, files per second.

    python benchmarks/cluster.py [--urls 20000] [--hosts 200] [--workers 2] [--kill] [--split] [--venv FOLDER]

The servers are in a process of their own and write down every request: from that it is proven that no host had more
requests at once than ``per_host``, whoever asked.  ``--kill``: once more on Dask, while one of its workers is killed
(SIGKILL) after a third of the requests, and one after two thirds; how many requests were made twice is told.
``--split``: all URLs at one host, which the workers of a process pool share by ``split_hosts``, beside one of them
alone.  ``--venv`` names a virtual environment with img2dataset, which is timed as well, on as many processes; it does
not know hosts, so nothing is proven of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aiodownload import AioDownload, DownloadStrategy, Outcomes, RequestStrategy, swarm

PER_HOST = 4
SLOTS = 128  # requests at once of the whole run
LATENCY = 0.005  # seconds until a server answers
SIZE = 10240


def body(host: int, target: str) -> bytes:
    """A JPEG by its first bytes, different for each URL."""
    seed = hashlib.sha256(f"{host}{target}".encode()).digest()
    return b"\xff\xd8\xff\xe0" + seed * ((SIZE - 4) // 32)


def serve(hosts: int, pipe: Connection) -> None:
    """Serve on so many addresses of loopback.

    A message is answered with the number of requests; or, and it begins anew then, the most at once by host, and how
    often each URL was asked for.
    """
    most: Counter[int] = Counter()
    asked: Counter[tuple[int, str]] = Counter()
    active: Counter[int] = Counter()

    async def answer(host: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                active[host] += 1
                asked[host, target] += 1
                most[host] = max(most[host], active[host])
                await asyncio.sleep(LATENCY)
                data = body(host, target)
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
        while (message := await asyncio.to_thread(pipe.recv)) is not None:
            if message == "count":
                pipe.send(asked.total())
                continue
            pipe.send((dict(most), dict(asked)))
            most.clear()
            asked.clear()

    asyncio.run(main())


def address(host: int) -> str:
    return f"127.0.{1 + host // 250}.{1 + host % 250}"


class Log:
    """What the servers have written down."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def count(self) -> int:
        """Requests so far."""
        with self._lock:
            self._pipe.send("count")
            found: int = self._pipe.recv()
            return found

    def take(self) -> tuple[dict[int, int], dict[tuple[int, str], int]]:
        """The most at once by host, and how often each URL was asked for; it begins anew."""
        with self._lock:
            self._pipe.send("log")
            most, asked = self._pipe.recv()
            return most, asked


@contextlib.contextmanager
def serving(hosts: int) -> Iterator[tuple[list[str], Log]]:
    """The base URLs, and the servers' log."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(hosts, theirs), daemon=True)
    process.start()
    ports = ours.recv()
    yield [f"http://{address(host)}:{port}" for host, port in enumerate(ports)], Log(ours)
    ours.send(None)
    process.join(10)
    process.kill()


def digests(bundles: Outcomes) -> dict[str, str]:
    """What is in the files, by their URLs."""
    return {one.url: hashlib.sha256(Path(one.file_path or "").read_bytes()).hexdigest() for one in bundles if one.ok}


@contextlib.contextmanager
def killing(client: Any, log: Log, urls: int) -> Iterator[list[int]]:
    """Kill a worker after a third of the requests, and another one after two thirds; tells which processes it were."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        for part in (1, 2):
            while log.count() < part * urls // 3:
                if over.wait(0.01):
                    return
            pids = client.run(os.getpid, on_error="ignore").values()
            killed.append(next(pid for pid in pids if pid not in killed))
            os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield killed
    over.set()
    killer.join()


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


class Trial:
    """Runs over the same servers, and what was wrong with any of them.

    :param log: of the servers.
    :param folder: for the files.
    """

    def __init__(self, log: Log, folder: Path) -> None:
        self._log = log
        self._folder = folder
        self._files: dict[str, dict[str, str]] = {}
        self.wrong: list[str] = []

    def run(
        self,
        name: str,
        urls: list[str],
        run: Callable[[AioDownload], Outcomes],
        *,
        per_host: int = PER_HOST,
        twice: int = 0,
        **settings: Any,
    ) -> None:
        """Time one, and see whether it has done the same as those before, within the limits.

        :param twice: requests that may be made a second time.
        """
        request = RequestStrategy(concurrent=SLOTS, per_host=per_host, **settings)
        download = AioDownload(None, DownloadStrategy(home=self._folder / name), request)
        began = time.perf_counter()
        bundles = run(download)
        seconds = time.perf_counter() - began
        most, asked = self._log.take()
        again = sum(asked.values()) - len(asked)
        if [one.url for one in bundles if one.ok] != urls:
            self.wrong.append(f"{name}: {len(bundles.failed)} have failed")
        if max(most.values()) > per_host or len(asked) != len(urls) or again > twice:
            self.wrong.append(f"{name}: {max(most.values())} at once, {len(asked)} URLs, {again} requests made again")
        files = digests(bundles)
        if any(files[url] != known for found in self._files.values() for url, known in found.items() if url in files):
            self.wrong.append(f"{name}: the files are not the same")
        self._files[name] = files
        print(
            f"{name}: {len(urls) / seconds:.0f} files/s, at most {max(most.values())} requests at once to a host, "
            f"{sum(asked.values())} requests for {len(urls)} files",
            flush=True,
        )


def on_dask(trial: Trial, log: Log, urls: list[str], workers: int, kill: bool) -> None:
    """Time a local cluster, and perhaps one that loses workers."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        print("Dask: not installed")
        return
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        run = partial(swarm, urls, executor=client.get_executor())
        trial.run("Dask", urls, run)
        if kill:
            with killing(client, log, len(urls)) as killed:
                # Of each worker, what was under way, and what the disk had in hand.
                trial.run("Dask, killed", urls, run, twice=2 * 3 * SLOTS // workers)
            print(f"Dask, killed: {len(killed)} workers")
            if len(killed) != 2:
                trial.wrong.append(f"{len(killed)} workers were killed, and not 2")


def main() -> int:
    """Print a line for each; return 0 if all have done the same, and kept to the limits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--urls", type=int, default=20_000)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--venv", type=Path)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with serving(given.hosts) as (bases, log), tempfile.TemporaryDirectory() as folder:
        urls = [f"{bases[number % given.hosts]}/{number}.jpg" for number in range(given.urls)]
        trial = Trial(log, Path(folder))
        trial.run("plain", urls, partial(swarm, urls))
        with ProcessPoolExecutor(given.workers, mp_context=context) as pool:
            list(pool.map(abs, range(given.workers)))  # the start of the processes is not timed
            trial.run("process pool", urls, partial(swarm, urls, executor=pool))
            if given.split:
                one = [f"{bases[0]}/{number}.jpg" for number in range(given.urls)]
                for name, split in (("one host", ()), ("one host, split", bases[:1])):
                    trial.run(name, one, partial(swarm, one, executor=pool), per_host=64, split_hosts=split)
        trial.run("workers=", urls, partial(swarm, urls, workers=given.workers))
        on_dask(trial, log, urls, given.workers, given.kill)
        if given.venv is not None:
            print(f"img2dataset: {img2dataset(given.venv, urls, Path(folder), given.workers):.0f} files/s")
    for words in trial.wrong:
        print(words)
    return bool(trial.wrong)


if __name__ == "__main__":
    sys.exit(main())
