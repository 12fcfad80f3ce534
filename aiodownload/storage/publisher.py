"""Publisher: a process beside ours that writes and renames small files, so that the event loop is not held up.

A file of some KiB is five short system calls.  In a thread, each of them is a turn at the interpreter's lock that is
taken from the event loop, and thousands of files a second are spent on taking turns: a run over many small files is
about a third slower.  The process takes each body from memory that both share (through a socket, where there is none or
it is full), and answers when the file has its final name.  Nothing rests on it: where it cannot start, ends early or
does not answer, threads do the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..entries import FileState
from . import part
from .folder import Folder
from .owner import child
from .part import ACTIONS, DROP, GO, HELD, HOLD, INLINE, REPLY, REQUEST, PartError, partial_name

if TYPE_CHECKING:
    from .ring import Ring

__all__ = ["Answer", "Hold", "Publisher", "PublisherError"]

PROMPT = 0.25  # seconds without an answer after which it counts as slow, and threads work beside it
# Seconds in which bodies are gathered for one trip: to wake the process costs more than to write a file.
GATHER = 0.002
_GRACE = 5.0  # seconds to end in, with nothing left to do
_LARGEST_NUMBER = 0xFFFFFFFF
_PYTHON = r"(?:python|pypy)[\d.]*t?"


class PublisherError(Exception):
    """The process has ended, and what became of the file is not known: publish it again."""


Answer: TypeAlias = Callable[[Exception | None], object]
"""Is told, on the event loop, what became of a file; None: it has its name.  What it raises goes to the
event loop's exception handler."""

Hold: TypeAlias = Callable[[FileState, Answer], object]
"""Is told, on the event loop, of a file that has all but its name; and what to call with None if it is to get that.
With an exception it is removed, and that is the answer."""


class _Job(NamedTuple):
    """What the process has to answer.

    :param answer: who is told.
    :param path: the final path.
    :param root: the folder below which no symbolic link is followed, or None.
    :param has_place: whether its body is in the ring.
    :param hold: who is asked before the file gets its name, or None.
    """

    answer: Answer
    path: str
    root: str | None
    has_place: bool
    hold: Hold | None


def _refuse(_: FileState, then: Answer) -> None:
    """For a file that nobody wants any more."""
    then(PublisherError())


def _ring() -> Ring | None:
    """Memory to share, where there is such a thing."""
    from .ring import Ring  # few programs publish so much that they need it

    try:
        return Ring()
    except OSError:
        return None


class Publisher:
    """The process, and the socket to it.  Made in a thread; all else is for the event loop.

    :param loop: where its answers are waited for.
    :param starving: whether nothing goes on before some of these answers come: bodies are not gathered then.
    :raises OSError: if it cannot be started here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, starving: Callable[[], bool] = lambda: False) -> None:
        program = part.__file__ or ""
        # Its own package and nothing else: neither that of which it is a part, nor its imports, are loaded.
        start = f"import sys, types; p = types.ModuleType('p'); p.__path__ = [{os.path.dirname(program)!r}]"
        start += "; sys.modules['p'] = p; import p.part; p.part.main()"
        if os.name != "posix" or getattr(sys, "frozen", False) or not os.path.isfile(program):
            raise OSError("there is no program to start")
        if not re.fullmatch(_PYTHON, os.path.basename(sys.executable or "")):  # Python is a part of some other program
            raise OSError(f"{sys.executable!r} may not be Python")
        self._socket, theirs = socket.socketpair()
        self._ring = _ring()
        shared = () if self._ring is None else (self._ring.descriptor,)
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 (the program is ours)
                    [sys.executable, "-I", "-S", "-c", start, *map(str, shared)],
                    pass_fds=shared,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for us: it may have files to finish
                )
            except BaseException:
                self._socket.close()
                self._let_go()
                raise
        # Its own, so that others can tell of what it leaves behind whether it still lives.
        self._tag = child(self._process.pid).tag
        with contextlib.suppress(OSError):  # it has ended already, and will be heard to have
            self._socket.send(self._tag.encode())
        self._socket.setblocking(False)
        self._loop = loop
        self._starving = starving
        self._ready = False
        self._gone = False
        self._unheard = 0.0  # since when it owes an answer
        self._number = 0
        self._jobs: dict[int, _Job] = {}
        self._held: set[int] = set()  # those whose files wait for a word of ours
        self._unanswered: list[_Job] = []
        self._outbox: list[bytes | memoryview] = []
        self._hurries = False
        self._unsent = memoryview(b"")
        self._blocked = False
        self._received = b""
        self._changed: list[asyncio.Future[None]] = []

    def attach(self) -> None:
        """Begin to listen.

        :raises NotImplementedError: if the loop cannot watch sockets.
        """
        self._loop.add_reader(self._socket, self._hear)

    @property
    def prompt(self) -> bool:
        """Whether it takes jobs, and is not behind with its answers."""
        return self._ready and not self._gone and (not self._owing or self._loop.time() < self._unheard + PROMPT)

    @property
    def _owing(self) -> bool:
        """Whether it owes an answer, and not we a word."""
        return len(self._jobs) > len(self._held)

    def hand_in(
        self,
        path: str,
        mode: int,
        body: Collection[bytes | memoryview],
        root: str | None,
        answer: Answer,
        hold: Hold | None = None,
    ) -> int:
        """Have a whole body published, without waiting for it.

        :param path: the final path (absolute str).
        :param mode: permission bits (int).
        :param root: the folder below which no symbolic link is followed (absolute str), or None.
        :param answer: is told a :class:`PartError` if the disk has refused, or a :class:`PublisherError` if the
            process has ended before it could answer.
        :param hold: is asked before the file gets its name; None: it gets it.
        :returns: the number of the job, see :meth:`give_up`.
        :raises PublisherError: if it has ended already.
        """
        if self._gone:
            raise PublisherError
        name, size = os.fsencode(f"{root or ''}\0{path}"), sum(map(len, body))
        place = None if self._ring is None else self._ring.put(body, size)
        self._number = number = self._number % _LARGEST_NUMBER + 1  # 0 is the one of READY
        if hold is not None:
            mode |= HOLD
        self._since_now()
        self._jobs[number] = _Job(answer, path, root, place is not None, hold)
        if place is None:
            self._post(REQUEST.pack(number, mode, len(name), size, INLINE), name, *body)
        else:
            self._post(REQUEST.pack(number, mode, len(name), size, place), name)
        return number

    def _since_now(self) -> None:
        """It is about to owe an answer."""
        if not self._owing:
            self._unheard = self._loop.time()

    def _post(self, *pieces: bytes | memoryview) -> None:
        if not self._outbox:
            self._loop.call_later(GATHER, self._send)  # what else is finished by then goes along
        self._outbox += pieces
        if not self._hurries and self._starving():
            self._hurries = True
            self._loop.call_soon(self._send)

    def _ask(self, number: int, hold: Hold, state: FileState) -> None:
        decide = partial(self._decide, number)
        try:
            hold(state, decide)
        except Exception as mistake:
            self._report(mistake)
            decide(PublisherError())

    def _decide(self, number: int, error: Exception | None) -> None:
        """A file that is held gets its name, or is removed because of ``error``."""
        if number not in self._held:
            return
        self._since_now()
        self._held.discard(number)
        if not self._gone:
            self._post(REQUEST.pack(number, 0, 0, 0, GO if error is None else DROP))
        if self._gone or error is not None:
            self._answer(self._jobs.pop(number).answer, error or PublisherError())
            self._tell_change()

    async def give_up(self, number: int) -> None:
        """Let a file not get its name, if that waits for a word; then wait until nothing is under way for it.

        :param number: from :meth:`hand_in`.
        """
        if number in self._held:
            self._decide(number, PublisherError())
        elif number in self._jobs:
            self._jobs[number] = self._jobs[number]._replace(hold=_refuse)
        while number in self._jobs:
            await self._change()

    async def idle(self) -> None:
        """Wait until it owes no answer."""
        while self._jobs:
            await self._change()

    def detach(self) -> None:
        """Listen no more; jobs that are not answered are given up, those that are held once a word of them is said."""
        if self._gone:
            return
        self._gone = True
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._unanswered = list(self._jobs.values())
        # Of those that are held, somebody may be just noting that they appear: they are published anew after that.
        for number in [number for number in self._jobs if number not in self._held]:
            self._answer(self._jobs.pop(number).answer, PublisherError())
        self._tell_change()

    def end(self) -> None:
        """Let the process end, and wait for that.  Blocks; for a thread, after :meth:`detach`."""
        self._socket.close()
        self._let_go()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for job in self._unanswered:  # it was killed, or had no time to tidy up
            above, name = os.path.split(job.path)
            with contextlib.suppress(OSError, ValueError), Folder.open(above, job.root) as folder:
                folder.unlink(partial_name(name, self._tag))

    def _let_go(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _answer(self, answer: Answer, error: Exception | None) -> None:
        try:
            answer(error)
        except Exception as mistake:  # the others are to get theirs
            self._report(mistake)

    def _report(self, mistake: Exception) -> None:
        self._loop.call_exception_handler({"message": "an answer of the publisher was not taken", "exception": mistake})

    def _change(self) -> asyncio.Future[None]:
        change: asyncio.Future[None] = self._loop.create_future()
        self._changed.append(change)
        return change

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, []
        for change in changed:
            if not change.done():
                change.set_result(None)

    def _send(self) -> None:
        self._hurries = False
        if self._gone or not (self._unsent or self._outbox):
            return
        if not self._unsent:
            self._unsent, self._outbox = memoryview(b"".join(self._outbox)), []
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.detach()
            return
        blocked = bool(self._unsent or self._outbox)
        if blocked and not self._blocked:
            self._loop.add_writer(self._socket, self._send)
        elif self._blocked and not blocked:
            self._loop.remove_writer(self._socket)
        self._blocked = blocked

    def _hear(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.detach()
            return
        self._unheard = self._loop.time()
        data = self._received + data
        whole = len(data) - len(data) % REPLY.size
        self._received = data[whole:]
        for number, failed, errno, *state in REPLY.iter_unpack(data[:whole]):
            if not number:
                self._ready = True
                continue
            job = self._jobs.pop(number)
            if job.has_place and self._ring is not None:
                self._ring.give_back()
            if failed == HELD and job.hold is not None:
                self._jobs[number] = job._replace(has_place=False)
                self._held.add(number)
                self._ask(number, job.hold, FileState(*state))
            else:
                self._answer(
                    job.answer, PartError(ACTIONS[failed - 1], None if errno < 0 else errno) if failed else None
                )
        if self._changed:
            self._tell_change()
