"""A server that is a program of some lines, in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

__all__ = ["serving"]


@contextlib.contextmanager
def serving(program: str, *arguments: object) -> Iterator[str]:
    """Run ``program``, which prints the port that it has on loopback, and yield the base URL."""
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
