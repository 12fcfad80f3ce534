"""The programs: each does the same work, at the same concurrency, and leaves the same files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OURS", "PACKAGES", "PROGRAMS", "Job", "Program", "make_venv", "segmented"]

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("parfive", "pypdl", "pooch", "httpx", "img2dataset", "aiohttp")


@dataclass(frozen=True)
class Job:
    """What is to be done.

    :param base: URL of the folder of the files, without a slash at its end.
    :param names: of the files.
    :param out: an empty folder for them.
    :param concurrent: how many at once.
    :param certificate: file of the authority that the server's certificate is from, or None.
    :param size: bytes of all of them.
    """

    base: str
    names: list[str]
    out: Path
    concurrent: int
    certificate: Path | None = None
    size: int = 0

    @property
    def urls(self) -> list[str]:
        """Of the files."""
        return [f"{self.base}/{name}" for name in self.names]


@dataclass(frozen=True)
class Program:
    """One that is timed.

    :param name: as it is shown.
    :param command: makes the command line of a job.  What it writes to prepare that is not timed.
    :param shown: how it is asked, in short.
    :param needs: a program on the PATH, or a package (for Python programs) that must be there.
    :param install: how to get it.
    :param tells: whether it prints, in the end, how many seconds its work took without its start and its end.
    """

    name: str
    command: Callable[[Job, str], list[str]]
    shown: str
    needs: str
    install: str
    tells: bool = False

    def version(self, python: str) -> str | None:
        """What is installed, or None."""
        if self.needs in PACKAGES:
            code = f"from importlib.metadata import version; print(version({self.needs!r}))"
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
            return done.stdout.strip() or None
        if self.needs == "aiodownload":
            code = "import aiodownload; print(aiodownload.__version__)"
            return subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
        if shutil.which(self.needs) is None:
            return None
        done = subprocess.run([self.needs, "--version"], capture_output=True, text=True, check=False)
        first = (done.stdout or done.stderr).strip().partition("\n")[0]
        return next((word.strip("-,") for word in first.split() if word[0].isdigit()), first)


def segmented(count: int) -> list[Program]:
    """Those that fetch one file by several requests, so many at once."""
    return [
        Program(
            "aiodownload",
            _ours("", str(count)),
            f"DownloadStrategy(segments={count})",
            "aiodownload",
            "",
            tells=True,
        ),
        Program(
            "aria2c",
            _listed(
                "aria2c",
                "-q",
                f"-x{count}",
                f"-s{count}",
                "-k1M",
                "--file-allocation=none",
                "-d",
                "{out}",
                "-i",
                "{urls}",
                trust="--ca-certificate",
            ),
            f"aria2c -x{count} -s{count} -k1M",
            "aria2c",
            _APT.format("aria2"),
        ),
        Program("axel", lambda job, _: _axel(job, count), f"axel -n {count}", "axel", _APT.format("axel")),
    ]


def make_venv(folder: Path) -> str:
    """Make an environment with the Python peers, unless it is there; return its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        # The loop is compared with ours on one and the same aiohttp.
        packages = ["aiohttp[speedups]" if name == "aiohttp" else name for name in PACKAGES]
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return str(python)


_HEAD = """
import sys, time
base, names, out, concurrent, certificate = sys.argv[1], open(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
urls = (f"{base}/{name.strip()}" for name in names)
"""

AIODOWNLOAD = (
    _HEAD
    + """
import aiodownload
begun = time.perf_counter()
download = aiodownload.AioDownload(
    journal=out + "/journal.db" if sys.argv[6] else None,
    download_strategy=aiodownload.DownloadStrategy(home=out, segments=int(sys.argv[7])),
    request_strategy=aiodownload.RequestStrategy(concurrent=concurrent),
)
bundles = aiodownload.swarm(urls, download)
print(time.perf_counter() - begun)
assert all(bundle.ok for bundle in bundles), [bundle.error for bundle in bundles if not bundle.ok][:3]
"""
)

BARE = (
    _HEAD
    + """
import asyncio, os, ssl, aiohttp
async def main():
    context = ssl.create_default_context(cafile=certificate) if certificate else True
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=4 << 20) as session:
        async def work():
            for url in urls:
                async with session.get(url) as response:
                    response.raise_for_status()
                    with open(os.path.join(out, url.rpartition("/")[2]), "wb") as file:
                        if response.content_length < 1 << 20:
                            file.write(await response.read())
                        else:
                            async for chunk in response.content.iter_any():
                                file.write(chunk)
        await asyncio.gather(*(work() for _ in range(concurrent)))
begun = time.perf_counter()
asyncio.run(main())
print(time.perf_counter() - begun)
"""
)

HTTPX = (
    _HEAD
    + """
import asyncio, os, httpx
async def main():
    limits = httpx.Limits(max_connections=concurrent)
    async with httpx.AsyncClient(limits=limits, verify=certificate or True) as client:
        async def work():
            for url in urls:
                async with client.stream("GET", url) as response:
                    response.raise_for_status()
                    with open(os.path.join(out, url.rpartition("/")[2]), "wb") as file:
                        async for chunk in response.aiter_bytes():
                            file.write(chunk)
        await asyncio.gather(*(work() for _ in range(concurrent)))
asyncio.run(main())
"""
)

PARFIVE = (
    _HEAD
    + """
import parfive
splits = {"max_splits": 1} if sys.argv[6] else {}
downloader = parfive.Downloader(max_conn=concurrent, progress=False, **splits)
for url in urls:
    downloader.enqueue_file(url, path=out)
results = downloader.download()
assert not results.errors, results.errors[:3]
"""
)

PYPDL = (
    _HEAD
    + """
from pypdl import Pypdl
if __name__ == "__main__":
    tasks = [{"url": url, "file_path": out + "/" + url.rpartition("/")[2]} for url in urls]
    Pypdl(max_concurrent=concurrent).start(tasks=tasks, multisegment=False, display=False, retries=0)
"""
)

POOCH = (
    _HEAD
    + """
import logging
from concurrent.futures import ThreadPoolExecutor
import pooch
pooch.get_logger().setLevel(logging.ERROR)
def fetch(url):
    pooch.retrieve(url, known_hash=None, fname=url.rpartition("/")[2], path=out)
with ThreadPoolExecutor(concurrent) as pool:
    list(pool.map(fetch, urls))
"""
)

IMG2DATASET = (
    _HEAD
    + """
import glob, os
from img2dataset import download
if __name__ == "__main__":
    with open(out + "/urls.txt", "w") as file:
        file.writelines(url + "\\n" for url in urls)
    download(
        url_list=out + "/urls.txt", output_folder=out + "/files", output_format="files", input_format="txt",
        processes_count=1, thread_count=concurrent, resize_mode="no", disable_all_reencoding=True,
        number_sample_per_shard=1_000_000, enable_wandb=False, compute_hash=None,
    )
    os.remove(out + "/urls.txt")
    for name in glob.glob(out + "/files/**/*", recursive=True):
        if name.endswith((".json", ".parquet", ".txt")):
            os.remove(name)
"""
)


def _python(code: str, *more: str) -> Callable[[Job, str], list[str]]:
    def command(job: Job, python: str) -> list[str]:
        names = job.out.with_suffix(".names")
        names.write_text("".join(f"{name}\n" for name in job.names))
        certificate = str(job.certificate or "")
        return [python, "-c", code, job.base, str(names), str(job.out), str(job.concurrent), certificate, *more]

    return command


def _ours(journal: str = "", segments: str = "1") -> Callable[[Job, str], list[str]]:
    return lambda job, _: _python(AIODOWNLOAD, journal, segments)(job, sys.executable)


def _bare(job: Job, _: str) -> list[str]:
    return _python(BARE)(job, sys.executable)


def _curl(job: Job, _: str) -> list[str]:
    config = job.out.with_suffix(".curl")
    pairs = zip(job.urls, job.names, strict=True)
    config.write_text("".join(f'url = "{url}"\noutput = "{job.out}/{name}"\n' for url, name in pairs))
    trust = ["--cacert", str(job.certificate)] if job.certificate else []
    return ["curl", "-sS", "-f", *trust, "--parallel", "--parallel-max", str(job.concurrent), "-K", str(config)]


def _listed(*words: str, trust: str) -> Callable[[Job, str], list[str]]:
    def command(job: Job, _: str) -> list[str]:
        urls = job.out.with_suffix(".urls")
        urls.write_text("".join(f"{url}\n" for url in job.urls))
        given = {"{urls}": str(urls), "{out}": str(job.out), "{concurrent}": str(job.concurrent)}
        line = [given.get(word, word) for word in words]
        return [*line, *([f"{trust}={job.certificate}"] if job.certificate else [])]

    return command


def _axel(job: Job, count: int) -> list[str]:
    return [
        "axel",
        "-q",
        "-n",
        str(count),
        *(["-k"] if job.certificate else []),
        "-o",
        str(job.out / job.names[0]),
        job.urls[0],
    ]


_APT = "apt-get install {}"

OURS = Program(
    "aiodownload",
    _ours(),
    "AioDownload(request_strategy=RequestStrategy(concurrent=N))",
    "aiodownload",
    "",
    tells=True,
)

PROGRAMS = {
    program.name: program
    for program in (
        Program("aiodownload, journal", _ours("journal"), "the same, with journal=", "aiodownload", ""),
        Program(
            "bare aiohttp loop",
            _bare,
            "N tasks, read_bufsize of 4 MiB, plain open and write, with aiohttp[speedups]",
            "aiohttp",
            "",
            tells=True,
        ),
        Program("curl", _curl, "curl --parallel --parallel-max N -K FILE", "curl", _APT.format("curl")),
        Program(
            "wget2",
            _listed(
                "wget2", "-q", "--max-threads", "{concurrent}", "-P", "{out}", "-i", "{urls}", trust="--ca-certificate"
            ),
            "wget2 --max-threads N -i FILE",
            "wget2",
            _APT.format("wget2"),
        ),
        Program(
            "wget",
            _listed("wget", "-q", "-P", "{out}", "-i", "{urls}", trust="--ca-certificate"),
            "wget -i FILE, one at a time",
            "wget",
            _APT.format("wget"),
        ),
        Program(
            "aria2c",
            _listed(
                "aria2c",
                "-q",
                "-j",
                "{concurrent}",
                "-x1",
                "-s1",
                "--file-allocation=none",
                "-d",
                "{out}",
                "-i",
                "{urls}",
                trust="--ca-certificate",
            ),
            "aria2c -j N -x1 -s1 --file-allocation=none -i FILE",
            "aria2c",
            _APT.format("aria2"),
        ),
        Program("axel", lambda job, _: _axel(job, 1), "axel -n 1, one file only", "axel", _APT.format("axel")),
        Program("httpx", _python(HTTPX), "the bare loop, with httpx.AsyncClient", "httpx", "pip install httpx"),
        Program("parfive", _python(PARFIVE, ""), "Downloader(max_conn=N)", "parfive", "pip install parfive"),
        Program(
            "parfive, not split",
            _python(PARFIVE, "1"),
            "Downloader(max_conn=N, max_splits=1): two requests per file, and not six",
            "parfive",
            "pip install parfive",
        ),
        Program("pypdl", _python(PYPDL), "Pypdl(max_concurrent=N), multisegment=False", "pypdl", "pip install pypdl"),
        Program("pooch", _python(POOCH), "retrieve() in N threads", "pooch", "pip install pooch"),
        Program(
            "img2dataset",
            _python(IMG2DATASET),
            'thread_count=N, processes_count=1, output_format="files", disable_all_reencoding=True',
            "img2dataset",
            "pip install img2dataset",
        ),
    )
}
