"""Object stores for tests: in memory, a server of S3's protocol, and Azure's own emulator where it is installed."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from aiodownload import AioDownload, DownloadStrategy
from aiodownload.testing import memory_store

_numbers = count()

_MOTO = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").disabled = True
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

ACCOUNT = "devstoreaccount1"
# Known to everybody: it is that of the emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class Shelf:
    """A bucket of a test.

    :param home: the URL of a place in it.
    :param store: what obstore makes of the bucket.
    :param options: ``store_options``.
    """

    home: str
    store: Any
    options: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""

    @property
    def bucket(self) -> str:
        return self.home.split("/")[2]

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket, by the name of its last part."""
        keys = [one["path"] for some in self.store.list() for one in some]
        return {key.rpartition("/")[2]: bytes(self.store.get(key).bytes()) for key in keys}

    def carried(self, path: str) -> dict[str, str]:
        """The metadata of one object."""
        key = path.removeprefix(self.home.rpartition("/")[0] + "/")
        return dict(self.store.get(key, options={"head": True}).attributes)

    def put(self, path: str, data: bytes) -> None:
        self.store.put(path.removeprefix(self.home.rpartition("/")[0] + "/"), data)

    def uploads(self) -> list[str]:
        """The keys of uploads that are neither completed nor aborted."""
        if not self.endpoint:
            return []
        with urllib.request.urlopen(f"{self.endpoint}/{self.bucket}?uploads") as answer:
            return re.findall(r"<Key>(.*?)</Key>", answer.read().decode())

    def strategy(self, **more: Any) -> DownloadStrategy:
        return DownloadStrategy(home=self.home, store_options=self.options, **more)

    def download(self, strategy: DownloadStrategy | None = None, request: Any = None, **more: Any) -> AioDownload:
        from conftest import Quick

        return AioDownload(
            download_strategy=strategy or self.strategy(), request_strategy=request or Quick(timeout=5), **more
        )


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of a server that speaks the protocol of S3."""
    pytest.importorskip("moto.server", reason="needs the server of moto: pip install 'moto[server]'")
    server = subprocess.Popen([sys.executable, "-c", _MOTO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    port = next(line for line in server.stdout if line.strip().isdigit()).strip()
    yield f"http://127.0.0.1:{port}"
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of an account of Azure's emulator."""
    program = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if not program:
        pytest.skip("needs Azurite: npm install azurite, and AZURITE=.../node_modules/.bin/azurite-blob")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--silent", "--blobHost", "127.0.0.1", "--blobPort", str(port), "--skipApiVersionCheck"]
    command += ["--inMemoryPersistence", "--disableTelemetry"]
    server = subprocess.Popen(command, cwd=tmp_path_factory.mktemp("azurite"), stdout=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    server.terminate()
    server.wait(10)


def _shelf_in_memory() -> Shelf:
    pytest.importorskip("obstore", reason="the extra objects is not installed")
    name = f"test{next(_numbers)}"
    return Shelf(f"memory://{name}/kept", memory_store(name))


@pytest.fixture
def s3_shelf(s3: str) -> Shelf:
    pytest.importorskip("obstore", reason="the extra objects is not installed")
    from obstore.store import S3Store

    name = f"test-{os.getpid()}-{next(_numbers)}"
    urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT")).close()
    options = {
        "endpoint": s3,
        "allow_http": "true",
        "access_key_id": "AKIDforTests",
        "secret_access_key": "open-sesame",
        "region": "us-east-1",
    }
    return Shelf(f"s3://{name}/kept", S3Store(name, config=options), options, s3)


def _az_shelf(endpoint: str) -> Shelf:
    from obstore.store import AzureStore

    name = f"test{os.getpid()}x{next(_numbers)}"
    date = email.utils.formatdate(usegmt=True)
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    text += f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    mark = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey {ACCOUNT}:{mark}"}
    make = urllib.request.Request(
        f"{endpoint}/{name}?restype=container", method="PUT", headers={**headers, "Content-Length": "0"}
    )
    urllib.request.urlopen(make).close()
    options = {"endpoint": endpoint, "allow_http": "true", "account_name": ACCOUNT, "account_key": KEY}
    return Shelf(f"az://{name}/kept", AzureStore(name, config=options), options)


@pytest.fixture(params=["memory", "s3", "az"])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    """Each kind of store that can be had."""
    if request.param == "memory":
        return _shelf_in_memory()
    if request.param == "s3":
        return request.getfixturevalue("s3_shelf")
    return _az_shelf(request.getfixturevalue("azurite"))


@pytest.fixture
def memory() -> Shelf:
    return _shelf_in_memory()


@pytest.fixture
def program(s3_shelf: Shelf) -> Callable[..., subprocess.Popen[str]]:
    """Starts a program in a process of its own, with the bucket and its credentials in the environment."""
    names = {"endpoint": "ENDPOINT_URL", "allow_http": "ALLOW_HTTP", "region": "REGION"}
    environment = {f"AWS_{names.get(name, name.upper())}": value for name, value in s3_shelf.options.items()}

    def start(text: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", text, s3_shelf.home, *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")
