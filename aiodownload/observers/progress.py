"""Progress: what a run is doing, shown to whoever waits for it."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Protocol

from ..errors import ConfigurationError, MissingExtraError
from ..events import EVENTS, Event, RunFinished, RunStarted
from .tally import Tally
from .words import bytes_text, cut, extent, middle, paused, position, sentence, times, troubles, waiting

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Display", "Progress"]

_log = logging.getLogger("aiodownload.observers.progress")

LINES = 10.0  # seconds from one plain line to the next
FRAMES = 0.2  # seconds from one look at a terminal to the next
TRANSFERS = 5  # bodies that are shown one by one
SLOW = 1.0  # seconds after which one is worth a line of its own
PATIENCE = 2.0  # seconds that the last look may take; a terminal that was stopped takes none

# What has stood in for sys.stdout and sys.stderr lives on after it: print() and others borrow the reference that is in
# sys, and until CPython 3.13.3 they crash if another thread takes it away meanwhile (python/cpython#130163).
_stood_in: deque[object] = deque(maxlen=128)


class Display(Protocol):
    """Shows a tally; all methods are called in one thread, which is not that of the downloads."""

    interval: float
    """Seconds from one :meth:`show` to the next."""

    def show(self, tally: Tally) -> None:
        """Show how things stand."""

    def finish(self, tally: Tally) -> None:
        """Show how they ended, and leave the place to others."""


class Progress:
    """An observer that shows what is going on: ``swarm(urls, progress=True)``, or one of ``AioDownload(observers=)``.

    :param display: ``"rich"``: a display that redraws itself, for terminals (extra ``progress``); ``"tqdm"``: a bar of
        :mod:`tqdm.auto`, which is a widget in a notebook (extra ``progress``); ``"lines"``: a plain line every ten
        seconds, for logs; ``"auto"``: the first of these that suits where the program runs; or an object with
        ``interval`` (seconds, float) and the methods ``show(tally)`` and ``finish(tally)``.
    :param file: where it is shown (text file); None: standard error.
    :raises ConfigurationError: for another name.
    :raises MissingExtraError: if the package for a display that was named is missing; ``"auto"`` then takes lines.

    It draws in a thread of its own, from the beginning of the first run to the end of the last.
    """

    __module__ = "aiodownload"  # where everybody finds it

    event_types = EVENTS

    def __init__(self, display: str | Display = "auto", file: IO[str] | None = None) -> None:
        self.tally = Tally()
        self._file = file
        self._display = display
        self._ticker: _Ticker | None = None
        if isinstance(display, str):
            if display not in ("auto", *_DISPLAYS):
                raise ConfigurationError(
                    f"progress: there is no display {display!r}; take auto, rich, tqdm, lines, or an observer"
                )
            if display != "auto":
                _DISPLAYS[display](file or sys.stderr)  # what is missing is said before anything begins

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "tally": Tally(), "_ticker": None}

    def on_event(self, event: Event) -> None:
        """Count it; begin to draw with the first run, and end with the last."""
        if isinstance(event, RunStarted) and not self.tally.runs:
            self.tally = Tally()
            self.tally.add(event)
            self._ticker = _Ticker(self._chosen(), self.tally)
            self._ticker.start()
            return
        self.tally.add(event)
        if isinstance(event, RunFinished) and not self.tally.runs and self._ticker is not None:
            self._ticker.over.set()

    def close(self) -> None:
        """Wait until the last look is drawn."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.over.set()
            ticker.join(PATIENCE)

    def _chosen(self) -> Display:
        if not isinstance(self._display, str):
            return self._display
        file = self._file or sys.stderr
        if self._display != "auto":
            return _DISPLAYS[self._display](file)
        for name in _suitable(file):
            try:
                return _DISPLAYS[name](file)
            except MissingExtraError:
                continue
        return _Lines(file)


def _suitable(file: IO[str]) -> tuple[str, ...]:
    """The displays that suit the place, the best first."""
    if _in_notebook():
        return ("tqdm",)
    return ("rich", "tqdm") if file.isatty() else ()


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this program."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


class _Ticker(threading.Thread):
    """Draws now and then, until it is told to stop."""

    def __init__(self, display: Display, tally: Tally) -> None:
        super().__init__(name="aiodownload-progress", daemon=True)
        self._display = display
        self._tally = tally
        self.over = threading.Event()

    def run(self) -> None:
        """Draw; an error ends that, and nothing else."""
        try:
            while not self.over.wait(self._display.interval):
                self._display.show(self._tally)
            self._display.finish(self._tally)
        except Exception:
            _log.exception("the progress can not be shown any more")


class _Lines:
    """A line now and then."""

    interval = LINES

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def show(self, tally: Tally) -> None:
        self._file.write(f"aiodownload: {sentence(tally)}\n")
        self._file.flush()

    def finish(self, tally: Tally) -> None:
        self.show(tally)


class _Tqdm:
    """One bar, which counts what is settled."""

    interval = FRAMES

    def __init__(self, file: IO[str]) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise _missing("tqdm") from error
        self._make = tqdm
        self._file = file
        self._bar: Any = None

    def show(self, tally: Tally) -> None:
        if self._bar is None:
            where: dict[str, Any] = {} if _in_notebook() else {"file": self._file}
            self._bar = self._make(total=tally.total, unit=" URLs", dynamic_ncols=True, **where)
        bar = self._bar
        bar.total = tally.total
        rate, _ = tally.rates()
        bar.set_postfix_str(", ".join([f"{bytes_text(rate)}/s", *troubles(tally)]), refresh=False)
        bar.update(tally.settled - bar.n)
        bar.refresh()

    def finish(self, tally: Tally) -> None:
        self.show(tally)
        self._bar.close()


class _Rich:
    """A few lines that are drawn again and again in their place."""

    interval = FRAMES

    def __init__(self, file: IO[str]) -> None:
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError as error:
            raise _missing("rich") from error
        self._console = Console(file=file)
        self._make = Live
        self._live: Live | None = None

    def show(self, tally: Tally) -> None:
        drawn = self._drawn(tally)
        if self._live is None:
            # Text that the program prints goes above the display, unless it goes somewhere else altogether.
            terminal = sys.stdout is not None and sys.stdout.isatty()
            self._live = self._make(
                drawn, console=self._console, auto_refresh=False, redirect_stdout=terminal, redirect_stderr=True
            )
            self._live.start()
            _stood_in.extend((sys.stdout, sys.stderr))
        self._live.update(drawn, refresh=True)

    def finish(self, tally: Tally) -> None:
        self.show(tally)
        if self._live is not None:
            self._live.stop()

    def _drawn(self, tally: Tally) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        narrow = self._console.width < 80
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(
                total=tally.total or None,
                completed=tally.settled,
                width=20 if narrow else 40,
                pulse=tally.total is None and tally.ended is None,
            ),
            Text(position(tally)),
            Text(times(tally)),
        )
        lines: list[RenderableType] = [head, Text(middle(tally))]
        if tally.ended is None:
            few = tally.total is not None and tally.total <= TRANSFERS
            oldest = tally.longest(TRANSFERS)
            now = [one for one in oldest if few or tally.age(one) >= SLOW]
            if now:
                body = Table.grid(padding=(0, 1))
                for one in now:
                    bar = ProgressBar(
                        total=one.total or None, completed=one.received, width=12 if narrow else 24,
                        pulse=one.total is None,
                    )  # fmt: skip
                    body.add_row("  ", Text(cut(one.name, 20 if narrow else 40)), bar, extent(one.received, one.total))
                lines.append(body)
                more = len(tally.active) - len(now)
                if more > 0:
                    lines.append(Text(f"   and {more:,} more", style="dim"))
            lines += [
                Text(line, style="yellow", overflow="ellipsis", no_wrap=True)
                for line in (*waiting(tally), *paused(tally))
            ]
        if tally.last_error is not None:
            lines.append(Text(f"last failure: {tally.last_error}", style="red", overflow="ellipsis", no_wrap=True))
        return Group(*lines)


_DISPLAYS: dict[str, Callable[[IO[str]], Display]] = {"rich": _Rich, "tqdm": _Tqdm, "lines": _Lines}


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(f"progress={package!r}", "progress")
