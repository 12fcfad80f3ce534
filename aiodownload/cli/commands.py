"""The commands: ``get``, ``retry``, ``report``, ``plan``, ``demo`` and ``completion``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class
from rich.console import Console

from .._version import __version__
from ..api import each
from ..bundle import AioDownloadBundle
from ..download import AioDownload
from ..errors import AioDownloadError, ConfigurationError, JournalError, MissingExtraError
from ..journal import Journal
from ..observers.words import bytes_text
from ..redact import printable, redact
from ..request.strategy import Adaptive, BackOff, Lenient, Polite, RequestSettings, RequestStrategy
from ..storage.strategy import DownloadStrategy
from .client import Sessions
from .config import default_path, defaults
from .lists import FIELDS, ListError, Records, count_records, read_lists
from .options import HOW_TO_ASK, INPUT, KEEPING, SESSION, SHOWING, STORE, WHAT_TO_KEEP, Grouped, options, output
from .outlet import Outlet, say
from .plan import Planned, planned
from .redo import Again, remembered

__all__ = ["command"]

ALL_DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

STRATEGIES: dict[str, type[Lenient] | type[BackOff] | type[Polite] | type[Adaptive]] = {
    "lenient": Lenient,
    "backoff": BackOff,
    "polite": Polite,
    "adaptive": Adaptive,
}

_JOURNAL = click.argument("journal", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="JOURNAL")


class _Commands(click.Group):
    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A URL is no command, and whoever types one means ``get``."""
        if args and "://" in args[0]:
            raise click.UsageError(f"to download, say: aiodownload get {redact(args[0])}", context)
        return super().resolve_command(context, args)


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": "AIODOWNLOAD",
    },
)
@click.version_option(__version__, prog_name="aiodownload")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings in TOML: tables named like the commands, keys like their long options.",
)
@click.pass_context
def command(context: click.Context, config: Path | None) -> None:
    """Asynchronous requests and downloads without thinking about it.

    A setting is taken from the command line, else from an environment variable (AIODOWNLOAD_GET_CONCURRENT for
    get --concurrent), else from the file of --config or the user's own, else it has its default.

    \b
    Exit codes: 0 all done or cached, 1 some failed, 2 wrong usage or an unusable folder, 130 interrupted.
    """
    path = config if config is not None else default_path()
    if config is not None or (os.path.isfile(path) and os.access(path, os.R_OK)):
        context.default_map = defaults(path, command)


@command.command(cls=Grouped)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@options(INPUT)
@options(HOW_TO_ASK)
@output(
    Path(),
    "Folder for the files, made if missing, or s3://, gs:// or az://bucket/prefix.  [default: the current directory]",
)
@options(WHAT_TO_KEEP, STORE, KEEPING, SESSION, SHOWING)
@click.pass_context
def get(context: click.Context, /, urls: tuple[str, ...], home: Path | str, journal: str | None, **given: Any) -> None:
    """Download URLs.

    Each URL becomes a file below the folder, named after its host and path.  Whatever happens, no wrong or half file
    appears under that name, and a failed URL leaves an older file as it was.
    """
    if given["refresh"] and journal is None:
        raise click.UsageError("--refresh needs --journal FILE, which knows the files")
    if given["skip_cached"] and given["content_disposition"] and journal is None:
        raise click.UsageError("--skip-cached with --content-disposition needs --journal FILE, which knows the names")
    shown = _Shown(given)
    bundles = _listed(urls, given, shown.outlet, counted=shown.progress)
    client = _client(given)
    keeping = _taken(given, WHAT_TO_KEEP, STORE, KEEPING)
    download = _made(given, DownloadStrategy, keeping, home=home, client=client, journal=journal)
    context.exit(_fetch(bundles, download, shown))


@command.command(cls=Grouped)
@_JOURNAL
@output(None, "Folder or object store for the files, if it has been moved.  [default: the one of the last run]")
@click.option("--unfinished", is_flag=True, help="Also do what was cancelled or cut off when the program was killed.")
@options(HOW_TO_ASK, STORE, KEEPING, SESSION, SHOWING)
@click.pass_context
def retry(context: click.Context, /, journal: Path, home: Path | str | None, unfinished: bool, **given: Any) -> None:
    """Do the failures of a journal again.

    Each URL that failed is tried anew, and goes to the file that it was for; all others are left alone.  It is asked
    for as the options here say, and not as the run did.  Requests with headers of their own, form data or a password
    are not in a journal: run the program that made them again.

    A journal may come from anybody, and so it does not say alone where files go: the folder must lie below the current
    one or below the journal's, and a file must have the place that its URL has, unless -o names the folder.
    """
    shown = _Shown(given)
    client = _client(given)
    keeping = _taken(given, STORE, KEEPING)
    book = Journal(journal)
    try:
        book.open()
        opened = 1
        try:
            folder = str(home) if home is not None else remembered(book)
            download = _made(given, DownloadStrategy, keeping, home=folder, client=client, journal=book)
            book.open(download.download_strategy.home)
            opened += 1
            again = Again(book, download.download_strategy, all_of_them=unfinished, named=home is not None)
            code = _fetch(iter(again), download, shown)
        finally:
            for _ in range(opened):
                book.close()
    except (ConfigurationError, JournalError) as error:
        context.exit(_wrong(error))
    again.report()
    context.exit(SOME_FAILED if code == ALL_DONE and again.left_out else code)


@command.command()
@_JOURNAL
@click.option(
    "-o", "--page", type=click.Path(dir_okay=False, allow_dash=True), default=None, metavar="FILE",
    help="Where the page goes; - is standard output.  [default: JOURNAL with .html as its extension]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object per failure on standard output, and no page.")
@click.pass_context
def report(context: click.Context, /, journal: Path, page: str | None, as_json: bool) -> None:
    """Show what happened, on one page.

    The page tells how many URLs are done and how many have failed, and why; which hosts were slow; how many bytes came
    when.  It is one HTML file that needs nothing else, and asks for nothing.  The journal is only read: a run may be
    writing it.  A page that is there already is replaced.  Needs the extra report.
    """
    from ..report.output import write_failures, write_page

    if as_json and page not in (None, "-"):
        raise click.UsageError("--json writes to standard output: leave -o away")
    written = None
    try:
        if as_json:
            write_failures(journal, sys.stdout)
        else:
            written = write_page(journal, page)
    except (ConfigurationError, JournalError, MissingExtraError, OSError) as error:
        context.exit(_wrong(error))
    if written is not None:
        say(f"written: {printable(str(written))}")


@command.command(cls=Grouped)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@options(INPUT)
@output(Path(), "Folder that the files would go to.  [default: the current directory]")
@click.option("--skip-cached", is_flag=True, help="Files that are there already would be left alone.")
@click.option("--ask/--no-ask", default=True, help="Ask the servers for sizes, by HEAD requests.  [default: ask]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per URL on standard output.")
@options(HOW_TO_ASK, STORE, SESSION)
@click.pass_context
def plan(
    context: click.Context, /, urls: tuple[str, ...], home: Path | str, skip_cached: bool, ask: bool, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Show what get would do, with sizes, and touch nothing.

    The servers are asked by HEAD requests, as politely as for a download but once only, unless --max-attempts says
    otherwise; no body is fetched, and no file or folder is made.  The exit code is 1 if some URLs would fail.
    """
    if given["max_attempts"] is None:
        given["max_attempts"] = 1
    outlet = Outlet(as_json=as_json)
    bundles = _listed(urls, given, outlet)
    client = _client(given)
    keeping = {"skip_cached": skip_cached, **_taken(given, STORE)}
    download = _made(given, DownloadStrategy, keeping, home=home, client=client, journal=None)
    count = size = unknown = 0
    try:
        for one in planned(bundles, download.download_strategy, download.request_strategy, client, ask=ask):
            _show(one, as_json)
            outlet.failed += one.what == "fail"
            if one.what in ("download", "replace"):
                count += 1
                size += one.size or 0
                unknown += one.size is None
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)
    except (OSError, UnicodeError, ListError, AioDownloadError) as error:
        context.exit(_wrong(error))
    outlet.add_rejected()
    more = f", and {unknown} of unknown size" if unknown else ""
    say(f"{count} to download: {bytes_text(size)}{more}; {outlet.failed} would fail")
    context.exit(SOME_FAILED if outlet.failed else ALL_DONE)


@command.command()
@output(None, "Folder for the files.  [default: a new temporary folder]", stores=False)
@click.pass_context
def demo(context: click.Context, /, home: Path | None) -> None:
    """Download from a server full of trouble.

    Starts a server of its own on this machine, with files that are flaky, slow, missing, cut short, moved or
    compressed, downloads them all as a swarm, and shows what became of each kind.
    """
    from ..demo import run_demo

    context.exit(ALL_DONE if run_demo(home, Console()) else SOME_FAILED)


@command.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what lets SHELL complete commands and options.

    \b
    bash:  aiodownload completion bash > ~/.local/share/bash-completion/completions/aiodownload
    zsh:   aiodownload completion zsh > "${fpath[1]}/_aiodownload"
    fish:  aiodownload completion fish > ~/.config/fish/completions/aiodownload.fish
    """
    kind = get_completion_class(shell)
    if kind is not None:  # as for each of the choices
        click.echo(kind(command, {}, "aiodownload", "_AIODOWNLOAD_COMPLETE").source())


# Options into settings.


class _Shown:
    """How what happens is shown."""

    def __init__(self, given: dict[str, Any]) -> None:
        as_json, quiet = given.pop("as_json"), given.pop("quiet")
        wanted: bool | None = given.pop("progress")
        terminal = sys.stderr.isatty()
        self.progress: bool = wanted if wanted is not None else terminal and not quiet
        self.outlet = Outlet(as_json=as_json, failures_only=quiet or (self.progress and terminal))


def _taken(given: dict[str, Any], *groups: Iterable[Any]) -> dict[str, Any]:
    """The options of some groups that were given, taken out of the others."""
    names = [name for name in given if name in _names(*groups)]
    found = {name: given.pop(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _names(*groups: Iterable[Any]) -> set[str]:
    def nothing() -> None: ...

    return {str(option.name) for option in click.command()(options(*groups)(nothing)).params}


def _client(given: dict[str, Any]) -> Sessions | None:
    """The session that the options ask for, or None where the library's own will do."""
    own = _taken(given, SESSION)
    sessions = Sessions(
        timeout=given["timeout"] or 60.0, public_only=given["public_only"], contact=given["contact"], **own
    )
    if not sessions.needed:
        return None
    try:
        sessions.check()
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    return sessions


def _made(
    given: dict[str, Any],
    kind: type[DownloadStrategy],
    keeping: dict[str, Any],
    *,
    home: Path | str,
    client: Sessions | None,
    journal: Any,
) -> AioDownload:
    """The strategies, with the settings given."""
    try:
        return AioDownload(
            client=client,
            download_strategy=kind(home=home, **keeping),
            request_strategy=_request_strategy(given.pop("strategy"), given),
            journal=journal,
        )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error


def _request_strategy(name: str, given: dict[str, Any]) -> RequestStrategy:
    own = _taken(given, HOW_TO_ASK)
    attempts = own.pop("max_attempts", None)
    settings: RequestSettings = own  # type: ignore[assignment]
    kind = STRATEGIES[name]
    return kind(**settings) if attempts is None else kind(attempts, **settings)


def _listed(
    urls: tuple[str, ...], given: dict[str, Any], outlet: Outlet, *, counted: bool = False
) -> Iterable[AioDownloadBundle]:
    """The URLs of the command line, then those of the files, a record at a time.

    :param counted: whether it is worth while to say how many there are.
    """
    lists, form = given.pop("lists"), given.pop("form")
    columns = {}
    for text in given.pop("columns"):
        field, _, name = text.partition("=")
        if field not in FIELDS or not name:
            raise click.UsageError(f"--column must be FIELD=NAME with one of {', '.join(FIELDS)}, not {text!r}")
        columns[field] = name
    if not urls and not lists:
        raise click.UsageError("give at least one URL, or -i FILE")
    for url in urls:
        if "://" not in url and os.path.isfile(url):
            raise click.UsageError(f"{url!r} is a file; -i {url} downloads the URLs in it")

    def read() -> Iterator[AioDownloadBundle]:
        yield from map(AioDownloadBundle, urls)
        yield from read_lists(lists, form, columns, outlet.reject, say)

    count = count_records(lists, form) if counted or not lists else None
    return read() if count is None else Records(read(), len(urls) + count)


# What is done.


def _fetch(bundles: Iterable[AioDownloadBundle], download: AioDownload, shown: _Shown) -> int:
    """Download, say what becomes of each, and return the exit code."""
    outlet = shown.outlet
    try:
        for bundle in each(bundles, download=download, progress=shown.progress):
            outlet.add(bundle)
    except KeyboardInterrupt as interrupt:
        for bundle in getattr(interrupt, "settled", ()):
            outlet.add(bundle)
        outlet.report("interrupted: ", len(bundles) if isinstance(bundles, Sized) else None)
        if download.journal is not None:
            say("run the same command again, and it goes on from here")
        elif not download.download_strategy.skip_cached:
            say("with --journal FILE the same command would go on from here; --skip-cached leaves alone what is there")
        return INTERRUPTED
    except (OSError, UnicodeError, ListError) as error:  # of an input file
        outlet.report()
        return _wrong(error)
    except AioDownloadError as error:
        return _wrong(error)
    outlet.report()
    if not (outlet.done or outlet.cached or outlet.failed):
        say("there was nothing to do")
    return SOME_FAILED if outlet.failed else ALL_DONE


def _show(one: Planned, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**one._asdict(), "url": redact(one.url)}))
        return
    size = "?" if one.size is None else bytes_text(one.size)
    rest = f" ({one.reason})" if one.reason else ""
    click.echo(printable(f"{one.what:8} {size:>8}  {redact(one.url)} -> {one.path}{rest}"))


def _wrong(error: Exception) -> int:
    say(f"aiodownload: {printable(str(error))}")
    return WRONG_USAGE
