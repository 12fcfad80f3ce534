"""The demo: a loopback server with every kind of trouble, and a swarm that gets through it (extra ``cli``)."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from .api import each
from .bundle import AioDownloadBundle
from .download import AioDownload
from .events import Event, RetryScheduled
from .request.strategy import BackOff
from .storage.strategy import DownloadStrategy

__all__ = ["DemoServer", "run_demo"]

KIB = 1024

Answer = Callable[["_Page", web.Request], Awaitable[web.StreamResponse]]


class DemoPace(BackOff):
    """BackOff for a server that is known to be ours: sixteen at once, and a tenth of the waits."""

    def __init__(self) -> None:
        super().__init__(max_attempts=5, concurrent=16, timeout=3, max_retry_after=10)

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        """No spacing; 0.05, 0.1, 0.2 … between tries."""
        return 0 if bundle.attempts == 0 else super().get_sleep_time(bundle) / 10


@dataclass
class _Kind:
    """A sort of trouble.

    :param name: as the table calls it.
    :param count: how many URLs.
    :param size: bytes of each file.
    :param expected: whether the files can be had at all.
    """

    name: str
    count: int
    size: int
    answer: Answer
    expected: bool = True


@dataclass
class _Page:
    """One URL of the server."""

    kind: _Kind
    body: bytes
    asked: int = 0


async def _plain(page: _Page, request: web.Request) -> web.StreamResponse:
    return web.Response(body=page.body)


async def _chunked(page: _Page, request: web.Request) -> web.StreamResponse:
    return await _stream(page.body, request, chunked=True)


async def _slow(page: _Page, request: web.Request) -> web.StreamResponse:
    return await _stream(page.body, request, pause=0.1)


async def _busy(page: _Page, request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="busy") if page.asked == 1 else await _plain(page, request)


async def _told_to_wait(page: _Page, request: web.Request) -> web.StreamResponse:
    if page.asked == 1:
        return web.Response(status=429, headers={"Retry-After": "1"}, text="slow down")
    return await _plain(page, request)


async def _cut(page: _Page, request: web.Request) -> web.StreamResponse:
    return await _stream(page.body, request, cut=page.asked == 1)


async def _dropped(page: _Page, request: web.Request) -> web.StreamResponse:
    if page.asked <= 2 and request.transport is not None:
        request.transport.abort()
    return await _plain(page, request)


async def _stalled(page: _Page, request: web.Request) -> web.StreamResponse:
    if page.asked == 1:
        await asyncio.sleep(8)
    return await _plain(page, request)


async def _moved(page: _Page, request: web.Request) -> web.StreamResponse:
    if "moved" not in request.query:
        raise web.HTTPFound(f"{request.path}?moved=1")
    return await _plain(page, request)


async def _circle(page: _Page, request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(request.path)


async def _encoded(page: _Page, request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(page.body), headers={"Content-Encoding": "gzip"})


async def _half_encoded(page: _Page, request: web.Request) -> web.StreamResponse:
    half = gzip.compress(page.body)[: page.kind.size // 2]
    return web.Response(body=half, headers={"Content-Encoding": "gzip"})


async def _missing(page: _Page, request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


async def _closed_for_long(page: _Page, request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, headers={"Retry-After": "86400"}, text="come back tomorrow")


async def _stream(
    body: bytes, request: web.Request, *, chunked: bool = False, pause: float = 0.0, cut: bool = False
) -> web.StreamResponse:
    response = web.StreamResponse()
    if chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(body)
    await response.prepare(request)
    step = max(1, len(body) // 5)
    for at in range(0, len(body), step):
        if cut and at > len(body) // 2 and request.transport is not None:
            request.transport.close()
            break
        await response.write(body[at : at + step])
        await asyncio.sleep(pause)
    return response


def _kinds() -> list[_Kind]:
    return [
        _Kind("plain", 120, 20 * KIB, _plain),
        _Kind("large", 4, 8 * KIB * KIB, _plain),
        _Kind("chunked", 20, 300 * KIB, _chunked),
        _Kind("slow", 10, 50 * KIB, _slow),
        _Kind("busy once (503)", 20, 20 * KIB, _busy),
        _Kind("told to wait (429)", 10, 20 * KIB, _told_to_wait),
        _Kind("cut short once", 20, 300 * KIB, _cut),
        _Kind("dropped", 10, 20 * KIB, _dropped),
        _Kind("stalled once", 4, 20 * KIB, _stalled),
        _Kind("redirected", 20, 20 * KIB, _moved),
        _Kind("sent as gzip", 10, 20 * KIB, _encoded),
        _Kind("half a gzip, always", 4, 20 * KIB, _half_encoded, expected=False),
        _Kind("redirected in a circle", 4, KIB, _circle, expected=False),
        _Kind("missing (404)", 20, KIB, _missing, expected=False),
        _Kind("closed until tomorrow", 4, KIB, _closed_for_long, expected=False),
    ]


class DemoServer:
    """Serves every kind of trouble on loopback, in a thread with its own event loop, between enter and exit."""

    def __init__(self) -> None:
        source = random.Random(7)  # noqa: S311 - bytes to look at, no secret
        self.kinds = _kinds()
        self.pages: dict[str, _Page] = {}
        for kind in self.kinds:
            folder = "".join(char if char.isalnum() else "-" for char in kind.name.partition(" (")[0])
            for index in range(kind.count):
                self.pages[f"/{folder}/{index:03}.bin"] = _Page(kind, source.randbytes(kind.size))
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="demo-server", daemon=True)
        self.base = ""

    @property
    def urls(self) -> list[str]:
        """All URLs, the kinds mixed."""
        queues = [[path for path, page in self.pages.items() if page.kind is kind] for kind in self.kinds]
        mixed = itertools.chain.from_iterable(itertools.zip_longest(*queues))
        return [self.base + path for path in mixed if path is not None]

    def page(self, url: str) -> _Page:
        """What stands behind a URL."""
        return self.pages[url.removeprefix(self.base)]

    def __enter__(self) -> DemoServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        page = self.pages.get(request.path)
        if page is None:
            raise web.HTTPNotFound
        page.asked += "moved" not in request.query
        return await page.kind.answer(page, request)  # type: ignore[arg-type]


@dataclass
class _Row:
    """What became of one kind."""

    done: int = 0
    failed: int = 0
    attempts: int = 0
    bytes: int = 0
    wrong: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class _RetryCount:
    """An observer that counts retries."""

    def __init__(self) -> None:
        self.retries = 0

    def on_event(self, event: Event) -> None:
        """Count."""
        self.retries += isinstance(event, RetryScheduled)


def run_demo(home: Path | None, console: Console) -> bool:
    """Run the demo and show it on ``console``; return whether everything came out as it should."""
    folder = home or Path(tempfile.mkdtemp(prefix="aiodownload-demo-"))
    counter = _RetryCount()
    with DemoServer() as server:
        urls = server.urls
        console.print(f"{len(urls)} URLs of {len(server.kinds)} kinds at {server.base}, 16 at once")
        download = AioDownload(
            download_strategy=DownloadStrategy(home=folder), request_strategy=DemoPace(), observers=[counter]
        )
        rows = {kind.name: _Row() for kind in server.kinds}
        began = time.perf_counter()
        with _progress(console) as progress:
            task = progress.add_task("downloading", total=len(urls))
            for bundle in each(urls, download=download):
                _enter(rows[server.page(bundle.url).kind.name], bundle, server.page(bundle.url).body)
                progress.advance(task)
        seconds = time.perf_counter() - began
        console.print(_table(server.kinds, rows))
        for kind in server.kinds:
            for reason, count in rows[kind.name].reasons.most_common(2):
                console.print(f"{kind.name}: {count} failed: {reason}", soft_wrap=True, highlight=False)
        right = all(_as_expected(kind, rows[kind.name]) for kind in server.kinds)
    total = sum(row.bytes for row in rows.values())
    console.print(
        f"{total / KIB / KIB:.1f} MiB in {seconds:.1f} s, {counter.retries} retries; every file compared by SHA-256."
    )
    console.print(f"The files lie in {folder.resolve()}", soft_wrap=True)
    console.print("Everything came out as it should." if right else "[bold red]Something is wrong: see the table.[/]")
    return right


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    )


def _enter(row: _Row, bundle: AioDownloadBundle, body: bytes) -> None:
    row.attempts += bundle.attempts
    if not bundle.ok:
        row.failed += 1
        row.reasons[str(bundle.error).partition(" at http")[0]] += 1
        row.wrong += bundle.file_path is not None and Path(bundle.file_path).exists()
        return
    row.done += 1
    row.bytes += bundle.size or 0
    row.wrong += _digest(Path(bundle.file_path or "").read_bytes()) != _digest(body)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _as_expected(kind: _Kind, row: _Row) -> bool:
    return row.wrong == 0 and (row.done if kind.expected else row.failed) == kind.count


def _table(kinds: list[_Kind], rows: dict[str, _Row]) -> Table:
    table = Table(title="What became of each kind", box=SIMPLE_HEAD)
    table.add_column("kind", no_wrap=True)
    for name in ("URLs", "done", "failed", "tries", "MiB", "wrong files"):
        table.add_column(name, justify="right")
    for kind in kinds:
        row = rows[kind.name]
        cells: list[Any] = [kind.count, row.done, row.failed, row.attempts, f"{row.bytes / KIB / KIB:.2f}", row.wrong]
        table.add_row(kind.name, *map(str, cells), style="" if _as_expected(kind, row) else "bold red")
    return table
