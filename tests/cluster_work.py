"""What the tests of executors send to other processes: it has to be imported there."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from aiodownload import AioDownloadBundle, ConfigurationError, DownloadError, DownloadStrategy, RequestStrategy


class Steady(RequestStrategy):
    """Tries again what may pass, after a wait that is given."""

    def __init__(self, wait: float = 0.0, **settings: Any) -> None:
        super().__init__(**{"concurrent": 8, "max_attempts": 3, "timeout": 10, **settings})
        self.wait = wait

    def retry(self, response: Any) -> bool:
        return response.status >= 500 or response.status == 429

    def get_sleep_time(self, bundle: AioDownloadBundle) -> float:
        return self.wait if bundle.attempts else 0.0


told: list[tuple[str, Any]] = []
"""What :class:`Told` was told in this process."""


class Told(DownloadStrategy):
    """Notes, in the process that calls it, for what ``on_fail`` was called."""

    async def on_fail(self, bundle: AioDownloadBundle) -> None:
        told.append((bundle.url, bundle.info))


class Buggy(DownloadStrategy):
    """Has a bug for one URL."""

    async def on_success(self, response: Any, bundle: AioDownloadBundle) -> None:
        if bundle.url.endswith("/bug"):
            raise KeyError("of the worker")
        await super().on_success(response, bundle)


class Poisonous(DownloadStrategy):
    """One URL kills whoever fetches it."""

    resumable = True

    async def on_success(self, response: Any, bundle: AioDownloadBundle) -> None:
        if bundle.url.endswith("/poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        await super().on_success(response, bundle)


def no_session() -> Any:
    """A callable that cannot make a session where it is called."""
    raise KeyError("TOKEN")


SECRET = "s3cret-of-the-url"


def no_token() -> Any:
    """A callable that says what is missing, and comes from an error that tells a secret."""
    try:
        raise KeyError(f"http://user:{SECRET}@proxy.example/")
    except KeyError as error:
        raise ConfigurationError("there is no token") from error


class Noting(DownloadStrategy):
    """Sets something on the bundle, and refuses to know its info."""

    async def on_success(self, response: Any, bundle: AioDownloadBundle) -> None:
        bundle.note = "of the worker"  # type: ignore[attr-defined]
        if bundle.info is not None:
            raise ValueError("the info has travelled")
        await super().on_success(response, bundle)


class OddError(DownloadError):
    """Does not unpickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(str(one))


class Refusing(DownloadStrategy):
    """Fails every bundle with an error of its own."""

    async def on_success(self, response: Any, bundle: AioDownloadBundle) -> None:
        raise OddError(1, 2)


class Untimed(RequestStrategy):
    """Holds what does not pickle."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = lambda: 7


def children() -> list[int]:
    """The processes that this one has started."""
    found = []
    for task in Path("/proc/self/task").glob("*/children"):
        found += [int(pid) for pid in task.read_text().split()]
    return found
