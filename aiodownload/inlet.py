"""Inlet: a connection out of which a thread takes what arrives, while the event loop does not."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import threading
import time
from typing import Any, NoReturn

__all__ = ["Inlet"]

SIZE = 1 << 20  # bytes taken at a time: they are written while the processor has them at hand
PATIENCE = 5  # ms to wait for more
SEALED = 1 << 18  # bytes taken at a time that have yet to be decrypted
LONGEST = 0.02  # seconds for one read, also from a server that drips: others wait for the thread, and for its lock


class Inlet:
    """The socket of a connection, which is read elsewhere meanwhile or not at all.

    :param sock: a duplicate, so that it means the same connection though that is closed.

    ``ended`` says that nothing more will come, ``error`` why, if it is not that the server has closed the connection.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        # Nobody else's, ever: who has given up waiting does not know for how long the thread goes on to write from it.
        self._buffer = bytearray(SIZE)
        self._lock = threading.Lock()
        self._taken = 0  # bytes that nobody has been told of
        self._closed = False
        self.ended = False
        self.error: OSError | None = None

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Inlet | None:
        """The one of a connection; None if nobody but its event loop can take anything out of it.

        The event loop is to pause from that moment, and goes on only after :meth:`close`.
        """
        shared = transport.get_extra_info("socket")
        if shared is None or not hasattr(select, "poll"):
            return None
        sealed = transport.get_extra_info("sslcontext") is not None
        protocol = _opener(transport) if sealed else None
        if sealed and protocol is None:
            return None
        try:
            descriptor = os.dup(shared.fileno())
        except OSError:
            return None
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError:
            os.close(descriptor)
            return None
        sock.setblocking(False)
        return Inlet(sock) if protocol is None else _SealedInlet(sock, protocol)

    def read(self, most: int) -> memoryview:
        """In a thread: at most so many bytes, good until the next call; none at the end, or if nothing comes."""
        with self._lock:
            place = memoryview(self._buffer)[: min(most, SIZE)]
            count = self._receive(place)
            self._taken += count
            return place[:count]

    def news(self) -> int:
        """How many bytes were taken since this was last asked."""
        with self._lock:
            count, self._taken = self._taken, 0
            return count

    def _receive(self, place: memoryview) -> int:
        if self.ended or self._closed:
            return 0
        count = self._arrived(place, wait=True)
        self.ended |= count == 0
        return max(count, 0)

    def _arrived(self, place: memoryview, *, wait: bool) -> int:
        """Put there what comes out of the socket.

        :param wait: whether to be patient.
        :returns: how many bytes, 0 for the end, -1 for nothing yet.
        """
        try:
            try:
                return self._socket.recv_into(place)
            except BlockingIOError:
                return self._socket.recv_into(place) if wait and self._poll.poll(PATIENCE) else -1
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError as error:
            self.error = error
            return 0

    @property
    def surplus(self) -> bool:
        """Whether more has arrived than was taken."""
        with self._lock:
            return not self.ended and self._has_more()

    def _has_more(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def close(self) -> None:
        """Nothing more is taken; waits for a thread that is just receiving, which takes some ms at most."""
        self._closed = True
        with self._lock:
            self._socket.close()
        self._leave()

    def _leave(self) -> None:
        """The event loop may go on."""


def _opener(transport: asyncio.BaseTransport) -> Any:
    """What decrypts a connection, if it is asyncio's; None if it is not, or has something else in hand.

    The names with an underscore are asyncio's; where another version does not have them, or another event loop, all
    goes on there.
    """
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    carrier = getattr(protocol, "_transport", None)
    if not isinstance(carrier, asyncio.Transport) or carrier.get_extra_info("sslcontext") is not None:
        return None  # TLS within TLS, by a proxy
    bios = [getattr(protocol, name, None) for name in ("_incoming", "_outgoing")]
    known = isinstance(getattr(protocol, "_sslobj", None), ssl.SSLObject) and hasattr(protocol, "_ssl_reading_paused")
    if not known or not all(isinstance(bio, ssl.MemoryBIO) for bio in bios) or transport.is_closing():
        return None
    return None if getattr(protocol, "_write_backlog", True) or protocol._outgoing.pending else protocol


class _Elsewhere:
    """In the place of an SSLObject that a thread has: OpenSSL's must never be used by two at once."""

    def read(self, *_: Any) -> NoReturn:
        """Nothing has come."""
        raise ssl.SSLWantReadError

    def write(self, _: Any) -> NoReturn:
        """Nothing can be sent."""
        raise ssl.SSLWantReadError

    def unwrap(self) -> NoReturn:
        """Who closes the connection now cannot tell the server."""
        raise ssl.SSLError("a thread reads from this connection")


class _SealedInlet(Inlet):
    """One of TLS: the thread decrypts as well.

    Until it is closed, asyncio has nothing of the connection's TLS in hand, whatever becomes of it there.

    :param sock: as above.
    :param protocol: asyncio's, from :func:`_opener`.
    """

    def __init__(self, sock: socket.socket, protocol: Any) -> None:
        super().__init__(sock)
        self._protocol = protocol
        self._tls, self._incoming, self._outgoing = protocol._sslobj, protocol._incoming, protocol._outgoing
        self._sealed = memoryview(bytearray(SEALED))
        self._away = _Elsewhere()
        protocol._transport.pause_reading()  # what comes out of the socket, and not only what is decrypted
        protocol._ssl_reading_paused = False  # or it went on as soon as it saw that it has nothing in hand
        protocol._sslobj, protocol._incoming, protocol._outgoing = self._away, ssl.MemoryBIO(), ssl.MemoryBIO()

    def _receive(self, place: memoryview) -> int:
        at, until = 0, time.monotonic() + LONGEST
        while at < len(place) and not (self.ended or self._closed):
            try:
                count = self._tls.read(len(place) - at, place[at:])
            except ssl.SSLWantReadError:
                count = self._arrived(self._sealed, wait=not at) if time.monotonic() < until else -1
                if count < 0:
                    break
                self._incoming.write(self._sealed[:count])
                self.ended = not count
            except OSError as error:
                self.error, self.ended = error, True
            else:
                at += count
                self.ended = not count
        return at

    def _has_more(self) -> bool:
        return self._tls.pending() > 0 or self._incoming.pending > 0 or super()._has_more()

    def _leave(self) -> None:
        protocol = self._protocol
        if protocol._sslobj is not self._away:
            return
        strayed = protocol._incoming.pending
        protocol._sslobj, protocol._incoming, protocol._outgoing = self._tls, self._incoming, self._outgoing
        carrier = protocol._transport
        if carrier is not None:
            if self.ended or strayed:  # what comes though it was told to pause is out of order
                carrier.abort()
            else:
                carrier.resume_reading()
