"""Inlet: a connection out of which a thread takes what arrives, while the event loop does not."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading

__all__ = ["Inlet"]

SIZE = 1 << 20  # bytes taken at a time: they are written while the processor has them at hand
PATIENCE = 5  # ms to wait for more


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
        self.ended = False
        self.error: OSError | None = None

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Inlet | None:
        """The one of a connection; None if what comes out of its socket is not what was sent, as with TLS."""
        shared = transport.get_extra_info("socket")
        if shared is None or transport.get_extra_info("sslcontext") is not None or not hasattr(select, "poll"):
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
        return cls(sock)

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
        if self.ended:
            return 0
        try:
            try:
                count = self._socket.recv_into(place)
            except BlockingIOError:
                if not self._poll.poll(PATIENCE):
                    return 0
                count = self._socket.recv_into(place)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.error, count = error, 0
        self.ended = not count
        return count

    @property
    def surplus(self) -> bool:
        """Whether more has arrived than was taken."""
        with self._lock:
            try:
                return not self.ended and bool(self._socket.recv(1, socket.MSG_PEEK))
            except OSError:
                return False

    def close(self) -> None:
        """Nothing more is taken; waits for a thread that is just receiving, which takes some ms at most."""
        with self._lock:
            self.ended = True
            self._socket.close()
