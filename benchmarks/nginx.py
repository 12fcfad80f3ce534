"""An nginx of one's own on loopback, serving a folder that is filled first."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PORTION = 1 << 24  # bytes made at a time

CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 2048; }}
http {{
    {log}
    keepalive_requests 1000000;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{ listen 127.0.0.1:{port}; root {folder}/www; {here} }}
    {more}
}}
"""


def find() -> str | None:
    """The nginx program, or None; Debian keeps it in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, more: str = "", *, here: str = "", log: str = "access_log off;") -> Iterator[str]:
    """Serve ``folder``/www and yield the base URL, without a trailing slash.

    :param more: further servers.
    :param here: further directives for this one.
    :param log: what is written down of the requests.
    """
    program = find()
    if program is None:
        raise SystemExit("this benchmark needs nginx: apt-get install nginx-light")
    port = free_port()
    (folder / "www").mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, more=more, here=here, log=log))
    server = subprocess.Popen([program, "-c", str(config), "-e", str(folder / "error.log"), "-p", str(folder)])
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if server.poll() is not None:
                raise SystemExit(f"nginx ended: {(folder / 'error.log').read_text()}")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def fill(folder: Path, count: int, size: int, seed: int = 1) -> list[str]:
    """Write ``count`` files of ``size`` random bytes below ``folder``/www and return their names."""
    source = random.Random(seed)
    names = [f"f{index:06}.bin" for index in range(count)]
    (folder / "www").mkdir(parents=True, exist_ok=True)
    for name in names:
        with (folder / "www" / name).open("wb") as file:
            for at in range(0, size, PORTION):
                file.write(source.randbytes(min(PORTION, size - at)))
    return names
