"""A small web server on loopback, so that every example runs without a network."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

from aiohttp import web

PRICES = {"apple": 3, "pear": 4, "plum": 2}


@contextmanager
def base_url() -> Iterator[str]:
    """Give the first argument of the command line or, without one, the address of a server that runs meanwhile."""
    if len(sys.argv) > 1:
        yield sys.argv[1].rstrip("/")
        return
    started: Future[tuple[str, Callable[[], object]]] = Future()
    thread = threading.Thread(target=_work, args=(started,), name="example-server", daemon=True)
    thread.start()
    base, stop = started.result()
    try:
        yield base
    finally:
        stop()
        thread.join()


def application() -> web.Application:
    """The pages of the examples."""
    asked: Counter[str] = Counter()

    async def text(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        return web.Response(text=f"file {number}\n" * number)

    async def report(request: web.Request) -> web.Response:
        return web.Response(text="day,visitors\nmonday,12\ntuesday,15\n", content_type="text/csv")

    async def prices(request: web.Request) -> web.Response:
        return web.json_response(PRICES)

    async def busy(request: web.Request) -> web.Response:
        """Unavailable twice, then there."""
        asked[request.path] += 1
        if asked[request.path] < 3:
            return web.Response(status=503, text="come back later")
        return web.Response(text="here you are\n")

    async def login(request: web.Request) -> web.Response:
        """A page for people where data was asked for, with status 200."""
        return web.Response(text="<h1>Please log in</h1>", content_type="text/html")

    async def private(request: web.Request) -> web.Response:
        """Only for those who know the word."""
        if request.headers.get("Authorization") != "Bearer open-sesame":
            return web.Response(status=401, text="who are you?")
        return web.Response(text="forty thieves\n")

    app = web.Application()
    app.router.add_get(r"/files/{number:\d+}.txt", text)
    app.router.add_get("/report.csv", report)
    app.router.add_get("/prices.json", prices)
    app.router.add_get("/busy.txt", busy)
    app.router.add_get("/login.csv", login)
    app.router.add_get("/private.txt", private)
    return app


async def _serve(started: Future[tuple[str, Callable[[], object]]]) -> None:
    """Serve until told to stop; ``started`` gets the address and what stops it."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        started.set_result((f"http://{host}:{port}", partial(loop.call_soon_threadsafe, over.set)))
        await over.wait()
    finally:
        await runner.cleanup()


def _work(started: Future[tuple[str, Callable[[], object]]]) -> None:
    try:
        asyncio.run(_serve(started))
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)
