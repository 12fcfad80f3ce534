"""Run by tox without any extra: the core works, and the command line says what it lacks.

No test framework is there."""

from __future__ import annotations

import http.server
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import aiodownload
from aiodownload.testing import check_request_strategy


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers everything with the same five bytes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def missing(extra: str, call: Callable[[], object]) -> None:
    """See that ``call`` says how to install what it needs."""
    try:
        call()
    except aiodownload.MissingExtraError as error:
        if f"pip install 'aiodownload[{extra}]'" not in str(error):
            sys.exit(f"the error does not say how to install {extra}: {error}")
    else:
        sys.exit(f"it goes without the extra {extra}, or nobody says that it does not")


def main() -> None:
    """Download one file; then ask for the command line."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        download = aiodownload.AioDownload(download_strategy=aiodownload.DownloadStrategy(home=home))
        bundle = aiodownload.one(f"http://127.0.0.1:{server.server_port}/hello.txt", download)
        if not bundle.ok or Path(bundle.file_path or "").read_bytes() != b"hello":
            sys.exit(f"the core does not download: {bundle!r}")
        url = f"http://127.0.0.1:{server.server_port}/hello.txt"
        polite = aiodownload.AioDownload(request_strategy=aiodownload.Polite())
        stored = aiodownload.AioDownload(download_strategy=aiodownload.DownloadStrategy(home="s3://bucket"))
        missing("robots", lambda: aiodownload.one(url, polite))
        missing("objects", lambda: aiodownload.one(url, stored))
        missing("dataset", lambda: aiodownload.TarShards(home))
    check_request_strategy(aiodownload.Lenient)  # needs no test framework either
    server.shutdown()
    server.server_close()
    told = subprocess.run([sys.executable, "-m", "aiodownload", "demo"], capture_output=True, text=True)
    if told.returncode != 2 or "pip install 'aiodownload[cli]'" not in told.stderr:
        sys.exit(f"without its extra the command line says {told.stderr!r} and exits with {told.returncode}")
    print("the core works without any extra")


if __name__ == "__main__":
    main()
