"""Outlet: what is said of every URL, and at the end of all."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable

from ..bundle import AioDownloadBundle, Status
from ..outcomes import record
from ..redact import printable, redact
from .lists import Rejected

__all__ = ["Outlet", "say"]


def say(text: str) -> None:
    """A line on standard error, above a display that is drawn there."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Outlet:
    """Counts what became of the URLs, and writes of each.

    :param as_json: an object for each on standard output, instead of a line on standard error.
    :param failures_only: no lines for those that went well.
    """

    def __init__(self, *, as_json: bool = False, failures_only: bool = False) -> None:
        self.done = self.cached = self.failed = self.bytes = 0
        self._as_json = as_json
        self._failures_only = failures_only
        self._rejected: deque[Rejected] = deque()
        self.reject: Callable[[Rejected], None] = self._rejected.append  # from the thread that reads the input

    def add(self, bundle: AioDownloadBundle) -> None:
        """Count one bundle and write of it."""
        self.done += bundle.status is Status.DONE
        self.cached += bundle.status is Status.CACHED
        self.failed += not bundle.ok
        self.bytes += (bundle.size or 0) if bundle.status is Status.DONE else 0
        if self._as_json:
            self._write(record(bundle))
        elif not (bundle.ok and self._failures_only):
            reason = f" ({bundle.error})" if bundle.error is not None else ""
            path = f" -> {printable(bundle.file_path)}" if bundle.file_path is not None else ""
            say(f"{bundle.status.value}: {redact(bundle.url)}{path}{reason}")
        self.add_rejected()

    def add_rejected(self) -> None:
        """Count and write of records of the lists that could not become bundles."""
        while self._rejected:
            one = self._rejected.popleft()
            self.failed += 1
            reason = f"{one.place}: {one.reason}"
            if self._as_json:
                bundle = AioDownloadBundle(one.url)
                bundle.status = Status.FAILED
                self._write({**record(bundle), "error": reason})
            else:
                url = f" {redact(one.url)}" if one.url else ""
                say(printable(f"{Status.FAILED.value}:{url} ({reason})"))

    def report(self, prefix: str = "", total: int | None = None) -> None:
        """One line for all.

        :param total: how many there were to be, if some may not have been done.
        """
        self.add_rejected()
        settled = self.done + self.cached + self.failed
        left = f", {total - settled} not done" if total is not None and total > settled else ""
        say(f"{prefix}{self.done} done ({self.bytes} bytes), {self.cached} cached, {self.failed} failed{left}")

    def _write(self, value: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()
