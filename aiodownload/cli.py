"""The command line: ``get``, ``retry`` and ``demo`` (extra ``cli``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import click
from rich.console import Console

from ._version import __version__
from .api import each
from .bundle import AioDownloadBundle, Status
from .download import AioDownload
from .errors import AioDownloadError, ConfigurationError, JournalError
from .journal import Journal
from .outcomes import record
from .redact import printable, redact
from .redo import Again, remembered
from .request.strategy import Adaptive, BackOff, Lenient, Polite, RequestSettings, RequestStrategy
from .storage.strategy import DownloadStrategy

__all__ = ["command"]

ALL_DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

STRATEGIES: dict[str, type[Lenient] | type[BackOff] | type[Polite] | type[Adaptive]] = {
    "lenient": Lenient,
    "backoff": BackOff,
    "polite": Polite,
    "adaptive": Adaptive,
}


Command: TypeAlias = Callable[..., Any]

HOW_TO_ASK = (
    click.option(
        "--strategy",
        type=click.Choice(sorted(STRATEGIES)),
        default="lenient",
        show_default=True,
        help="How to ask: lenient is for a few files, backoff for an API, polite for many servers (extra robots), "
        "adaptive for much from anywhere: it finds each host's pace.",
    ),
    click.option(
        "--concurrent",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests at once.  [default: 2, polite 128, adaptive 64]",
    ),
    click.option(
        "--per-host",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests at once to one host.  [default: no limit, polite 2, adaptive 16]",
    ),
    click.option(
        "--rate", type=float, metavar="N", help="Request starts per second for one host.  [default: no limit]"
    ),
    click.option(
        "--bandwidth", type=float, metavar="BYTES", help="Bytes per second of all bodies.  [default: no limit]"
    ),
    click.option(
        "--per-host-bandwidth",
        type=float,
        metavar="BYTES",
        help="Bytes per second of the bodies from one host.  [default: no limit]",
    ),
    click.option(
        "--max-attempts",
        type=click.IntRange(min=0),
        metavar="N",
        help="Tries per URL in total.  [default: 5, backoff and adaptive 10]",
    ),
    click.option(
        "--timeout", type=float, metavar="SECONDS", help="Longest silence before a try is given up.  [default: 60]"
    ),
    click.option(
        "--max-retry-after",
        type=float,
        metavar="SECONDS",
        help="Longest wait that a server may ask for.  [default: 3600]",
    ),
    click.option(
        "--low-speed",
        type=(float, float),
        metavar="BYTES SECONDS",
        help="Give up a body of which less than so many bytes per second arrive over so long.  [default: never]",
    ),
    click.option(
        "--deadline",
        type=float,
        metavar="SECONDS",
        help="Longest time for one URL, all tries and waits included.  [default: no limit]",
    ),
    click.option(
        "--retry-budget",
        type=click.IntRange(min=0),
        metavar="N",
        help="Tries beyond the first for all URLs together.  [default: no limit]",
    ),
    click.option(
        "--jitter/--no-jitter",
        default=None,
        help="Wait a random part of the time before a next try.  [default: adaptive only]",
    ),
    click.option(
        "--robots/--no-robots",
        default=None,
        help="Obey the robots.txt of each host (extra robots).  [default: polite only]",
    ),
    click.option("--contact", metavar="TEXT", help="How to reach you, told to the servers in the User-Agent."),
    click.option(
        "--public-only",
        is_flag=True,
        help="Connect to addresses of the public internet only: for URLs of strangers.",
    ),
)

WHAT_TO_KEEP = (
    click.option(
        "--max-bytes", type=click.IntRange(min=0), metavar="N", help="Most bytes of one file.  [default: no limit]"
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object per settled URL on standard output."),
)

KEEPING = (
    "skip_cached",
    "max_bytes",
    "refresh",
    "durable",
    "strict",
    "remote_time",
    "content_disposition",
    "segments",
)
"""Options of ``get`` that are settings of its DownloadStrategy."""


def _options(options: Iterable[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Options that several commands have, in the order in which they are shown."""

    def add(function: Command) -> Command:
        for option in reversed(tuple(options)):
            function = option(function)
        return function

    return add


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="aiodownload")
def command() -> None:
    """Asynchronous requests and downloads without thinking about it.

    \b
    Exit codes: 0 all done or cached, 1 some failed, 2 wrong usage or an unusable folder, 130 interrupted.
    """


@command.command()
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.option(
    "-i", "--input", "lists", multiple=True, type=click.File("r", lazy=True), metavar="FILE",
    help="Read URLs from FILE, one a line; - is standard input. Blank lines and lines that start with # are skipped.",
)  # fmt: skip
@click.option(
    "-o", "--output", "home", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="DIR",
    help="Folder for the files, made if missing.  [default: the current directory]",
)  # fmt: skip
@_options(HOW_TO_ASK)
@click.option("--skip-cached", is_flag=True, help="Leave files alone that are there already.")
@click.option(
    "--journal", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Account for every URL in FILE; run again, only what is missing is done.",
)  # fmt: skip
@click.option("--refresh", is_flag=True, help="Ask again for files that the journal knows, and take what has changed.")
@click.option("--durable", is_flag=True, help="Let each file outlive a power cut, too.  Slow.")
@click.option("--strict", is_flag=True, help="Keep no body whose wholeness nothing proves.")
@click.option("--remote-time", is_flag=True, help="Give files the time of their Last-Modified.")
@click.option(
    "--content-disposition", is_flag=True,
    help="Give files the names that servers suggest, made safe and marked.  With --skip-cached it needs --journal.",
)  # fmt: skip
@click.option(
    "--segments", type=click.IntRange(min=1, max=64), default=1, metavar="N",
    help="At most N requests at once for one file of 8 MiB or more.  Some servers ban that.  [default: 1]",
)  # fmt: skip
@_options(WHAT_TO_KEEP)
@click.pass_context
def get(
    context: click.Context,
    /,
    urls: tuple[str, ...],
    lists: tuple[TextIO, ...],
    home: Path,
    strategy: str,
    as_json: bool,
    journal: Path | None,
    **settings: Any,
) -> None:
    """Download URLs.

    Each URL becomes a file below the folder, named after its host and path.  Whatever happens, no wrong or half file
    appears under that name, and a failed URL leaves an older file as it was.
    """
    if not urls and not lists:
        raise click.UsageError("give at least one URL, or -i FILE")
    if settings["refresh"] and journal is None:
        raise click.UsageError("--refresh needs --journal FILE, which knows the files")
    if settings["skip_cached"] and settings["content_disposition"] and journal is None:
        raise click.UsageError("--skip-cached with --content-disposition needs --journal FILE, which knows the names")
    keeping = {name: settings.pop(name) for name in KEEPING}
    try:
        download = AioDownload(
            download_strategy=DownloadStrategy(home=home, **keeping),
            request_strategy=_request_strategy(strategy, settings),
            journal=journal,
        )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    context.exit(_fetch(_listed(urls, lists), download, as_json))


@command.command()
@click.argument("journal", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="JOURNAL")
@click.option(
    "-o", "--output", "home", type=click.Path(file_okay=False, path_type=Path), default=None, metavar="DIR",
    help="Folder for the files, if it has been moved.  [default: the one of the last run]",
)  # fmt: skip
@_options(HOW_TO_ASK)
@click.option("--unfinished", is_flag=True, help="Also do what was cancelled or cut off when the program was killed.")
@_options(WHAT_TO_KEEP)
@click.pass_context
def retry(
    context: click.Context,
    /,
    journal: Path,
    home: Path | None,
    strategy: str,
    as_json: bool,
    max_bytes: int | None,
    unfinished: bool,
    **settings: Any,
) -> None:
    """Do the failures of a journal again.

    Each URL that failed is tried anew, and goes to the file that it was for; all others are left alone.  Requests with
    headers, form data or a password are not in a journal: run the program that made them again.

    A journal may come from anybody, and so it does not say alone where files go: the folder must lie below the current
    one or below the journal's, and a file must have the place that its URL has, unless -o names the folder.
    """
    book = Journal(journal)
    try:
        book.open()
        opened = 1
        try:
            folder = str(home) if home is not None else remembered(book)
            download = AioDownload(
                download_strategy=DownloadStrategy(home=folder, max_bytes=max_bytes),
                request_strategy=_request_strategy(strategy, settings),
                journal=book,
            )
            book.open(download.download_strategy.home)
            opened += 1
            again = Again(book, download.download_strategy, all_of_them=unfinished, named=home is not None)
            code = _fetch(iter(again), download, as_json)
        finally:
            for _ in range(opened):
                book.close()
    except (ConfigurationError, JournalError) as error:
        context.exit(_wrong(error))
    again.report()
    context.exit(SOME_FAILED if code == ALL_DONE and again.left_out else code)


@command.command()
@click.option(
    "-o", "--output", "home", type=click.Path(file_okay=False, path_type=Path), default=None, metavar="DIR",
    help="Folder for the files.  [default: a new temporary folder]",
)  # fmt: skip
@click.pass_context
def demo(context: click.Context, /, home: Path | None) -> None:
    """Download from a server full of trouble.

    Starts a server of its own on this machine, with files that are flaky, slow, missing, cut short, moved or
    compressed, downloads them all as a swarm, and shows what became of each kind.
    """
    from .demo import run_demo

    context.exit(ALL_DONE if run_demo(home, Console()) else SOME_FAILED)


def _request_strategy(name: str, options: dict[str, Any]) -> RequestStrategy:
    given = {key: value for key, value in options.items() if value is not None}
    attempts = given.pop("max_attempts", None)
    settings: RequestSettings = given  # type: ignore[assignment]
    kind = STRATEGIES[name]
    return kind(**settings) if attempts is None else kind(attempts, **settings)


def _listed(urls: Iterable[str], lists: Iterable[TextIO]) -> Iterator[str]:
    """The URLs of the command line, then those of the files, a line at a time."""
    yield from urls
    for lines in lists:
        for line in lines:
            text = line.strip()
            if text and not text.startswith("#"):
                yield text


def _fetch(urls: Iterable[str | AioDownloadBundle], download: AioDownload, as_json: bool) -> int:
    """Download, say what becomes of each, and return the exit code."""
    tally = _Tally()
    try:
        for bundle in each(urls, download=download):
            tally.add(bundle, as_json)
    except KeyboardInterrupt as interrupt:
        for bundle in getattr(interrupt, "settled", ()):
            tally.add(bundle, as_json)
        tally.report("interrupted: ")
        return INTERRUPTED
    except (OSError, UnicodeError) as error:  # of an input file
        tally.report()
        return _wrong(error)
    except AioDownloadError as error:
        return _wrong(error)
    tally.report()
    return SOME_FAILED if tally.failed else ALL_DONE


def _wrong(error: Exception) -> int:
    click.echo(f"aiodownload: {printable(str(error))}", err=True)
    return WRONG_USAGE


class _Tally:
    """What became of the URLs so far."""

    def __init__(self) -> None:
        self.done = self.cached = self.failed = self.bytes = 0

    def add(self, bundle: AioDownloadBundle, as_json: bool) -> None:
        """Count one bundle and write its line."""
        self.done += bundle.status is Status.DONE
        self.cached += bundle.status is Status.CACHED
        self.failed += not bundle.ok
        self.bytes += (bundle.size or 0) if bundle.status is Status.DONE else 0
        if as_json:
            sys.stdout.write(json.dumps(record(bundle)) + "\n")
            sys.stdout.flush()
        else:
            reason = f" ({bundle.error})" if bundle.error is not None else ""
            click.echo(
                f"{bundle.status.value}: {redact(bundle.url)} -> {printable(str(bundle.file_path))}{reason}", err=True
            )

    def report(self, prefix: str = "") -> None:
        """One line for all."""
        click.echo(
            f"{prefix}{self.done} done ({self.bytes} bytes), {self.cached} cached, {self.failed} failed", err=True
        )
