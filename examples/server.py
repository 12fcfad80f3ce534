"""A small web server on loopback, so that every example runs without a network."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

PRICES = {"apple": 3, "pear": 4, "plum": 2}


@contextmanager
def base_url() -> Iterator[str]:
    """Give the first argument of the command line or, without one, the address of a server that runs meanwhile."""
    if len(sys.argv) > 1:
        yield sys.argv[1].rstrip("/")
        return
    server = _Server()
    server.start()
    try:
        yield server.base
    finally:
        server.stop()


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


class _Server:
    """The application on a port of 127.0.0.1, in a thread with an event loop of its own."""

    def __init__(self) -> None:
        self.base = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="example-server", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        runner = web.AppRunner(application(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=1)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"
        self._ready.set()
        try:
            await self._over.wait()
        finally:
            await runner.cleanup()
