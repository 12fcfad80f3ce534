"""The servers: nginx, plain and with TLS; and one that takes its time for each answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import nginx
import scripted

__all__ = ["late", "serving"]

_TLS = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    root {folder}/www;
}}
"""


@contextlib.contextmanager
def serving(folder: Path, *, tls: bool = False) -> Iterator[tuple[str, Path | None]]:
    """Serve ``folder``/www with nginx; yield the base URL and the certificate to trust, if there is one."""
    if not tls:
        with nginx.serving(folder) as base:
            yield base, None
        return
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    port = nginx.free_port()
    with nginx.serving(folder, _TLS.format(folder=folder, port=port)):
        yield f"https://localhost:{port}", folder / "authority.pem"


LATE = r"""
import asyncio, sys
latency, size = float(sys.argv[1]), int(sys.argv[2])
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for _ in requests:
            asyncio.get_running_loop().call_later(latency, self.transport.write, ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def late(seconds: float, size: int) -> contextlib.AbstractContextManager[str]:
    """A server that answers everything after so long, with as many ``x``; gives its base URL."""
    return scripted.serving(LATE, seconds, size)
