"""Options: what the commands can be told, in groups; those that few need are shown by ``--help-all`` only."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import click

from .lists import FIELDS, FORMATS

__all__ = [
    "HOW_TO_ASK",
    "INPUT",
    "KEEPING",
    "SESSION",
    "SHOWING",
    "STRATEGIES",
    "WHAT_TO_KEEP",
    "Grouped",
    "options",
    "output",
]

Command: TypeAlias = Callable[..., Any]

STRATEGIES = ("lenient", "backoff", "polite", "adaptive")
WIDTH = 26  # columns for the names of options
FILE = click.Path(exists=True, dir_okay=False)


class Amount(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of bytes, perhaps with k, M or G (powers of 1000) or Ki, Mi or Gi (powers of 1024) after it."""

    name = "bytes"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int | float:
        """Return the number."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
        with contextlib.suppress(ValueError):
            number = float(value)
            return int(number) if number.is_integer() else number
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMG]i?)?B?", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no number of bytes, such as 1000000, 1M or 1Mi", parameter, context)
        unit = (found[2] or "").upper()
        number = float(found[1]) * (1024 if "I" in unit else 1000) ** " KMG".index(unit[:1] or " ")
        return int(number) if number.is_integer() else number


class Option(click.Option):
    """An option that belongs to a group.

    :param group: heading that it is shown under.
    :param rare: shown by ``--help-all`` only.
    """

    def __init__(self, *names: Any, group: str = "Other", rare: bool = False, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.group = group
        self.rare = rare

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Without the ranges of numbers: an error names them."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class Grouped(click.Command):
    """A command whose help shows its options in groups."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        if any(getattr(option, "rare", False) for option in self.params):
            self.params.append(
                Option(
                    ["--help-all"],
                    is_flag=True,
                    is_eager=True,
                    expose_value=False,
                    callback=_all_of_them,
                    help="Show all options.",
                )
            )

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Group by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        everything = context.meta.get(f"{__name__}.all", False)
        for option in self.get_params(context):
            if not isinstance(option, click.Option):
                continue
            shown = option.get_help_record(context) if everything or not getattr(option, "rare", False) else None
            if shown is not None:
                groups.setdefault(getattr(option, "group", "Other"), []).append(shown)
        for group in sorted(groups, key=lambda one: one == "Other"):
            with formatter.section(group):
                formatter.write_dl(groups[group], col_max=WIDTH)


def _all_of_them(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        context.meta[f"{__name__}.all"] = True
        click.echo(context.get_help(), color=context.color)
        context.exit()


def _pairs(_: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str] | None:
    """What is given as NAME=VALUE; none of it is quoted."""
    if any(not text.partition("=")[0] or "=" not in text for text in texts):
        raise click.BadParameter("each must be NAME=VALUE", param=option)
    return dict(text.split("=", 1) for text in texts) or None


def options(*groups: Iterable[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Options that several commands have, in the order in which they are shown."""

    def add(function: Command) -> Command:
        for group in reversed(groups):
            for option in reversed(tuple(group)):
                function = option(function)
        return function

    return add


def _in(group: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What makes an option of a group, and what makes a rare one."""

    def often(*names: Any, **attributes: Any) -> Any:
        return click.option(*names, cls=Option, group=group, **attributes)

    def seldom(*names: Any, **attributes: Any) -> Any:
        return click.option(*names, cls=Option, group=group, rare=True, **attributes)

    return often, seldom


class Home(click.Path):
    """A folder, or the URL of a place in an object store."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        """Return the folder as a path, the URL as it is."""
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, param, context)


def output(default: Path | None, text: str, *, stores: bool = True) -> Callable[[Command], Command]:
    """The folder for the files.

    :param stores: whether it may be in an object store.
    """
    folder = Home() if stores else click.Path(file_okay=False, path_type=Path)
    return click.option(
        "-o", "--output", "home", cls=Option, group="What to keep",
        type=folder, default=default, metavar="DIR", help=text,
    )  # fmt: skip


_often, _seldom = _in("What to download")

INPUT = (
    _often(
        "-i",
        "--input",
        "lists",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        metavar="FILE",
        help="Read URLs from FILE, one a line (- is standard input), or from CSV, TSV, JSON Lines, Metalink 4 or an "
        "input file of aria2, by its suffix or --format.",
    ),
    _seldom(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="auto",
        show_default=True,
        help="Format of the lists; auto goes by their suffix, and is lines where that says nothing.",
    ),
    _seldom(
        "--column",
        "columns",
        multiple=True,
        metavar="FIELD=NAME",
        help=f"Which column of a table, or key of an object, holds one of: {', '.join(FIELDS)}.",
    ),
)

_often, _seldom = _in("How to ask")

HOW_TO_ASK = (
    _often(
        "--strategy",
        type=click.Choice(sorted(STRATEGIES)),
        default="lenient",
        metavar="NAME",
        help="lenient for a few files (the default), backoff for an API, polite for many servers, adaptive for "
        "much from anywhere.",
    ),
    _often(
        "--concurrent",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests at once.  [default: 2, polite 128, adaptive 64]",
    ),
    _often(
        "--per-host",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests at once to one host.  [default: no limit, polite 2, adaptive 16]",
    ),
    _often(
        "--delay",
        type=float,
        metavar="SECONDS",
        help="Least time from one request start to the next.  [default: 0.25, adaptive none]",
    ),
    _often("--rate", type=float, metavar="N", help="Request starts per second for one host.  [default: no limit]"),
    _often("--bandwidth", type=Amount(), metavar="BYTES", help="Bytes per second of all bodies.  [default: no limit]"),
    _seldom(
        "--per-host-bandwidth",
        type=Amount(),
        metavar="BYTES",
        help="Bytes per second of the bodies from one host.  [default: no limit]",
    ),
    _often(
        "--max-attempts",
        type=click.IntRange(min=0),
        metavar="N",
        help="Tries per URL in total.  [default: 5, backoff and adaptive 10]",
    ),
    _often("--timeout", type=float, metavar="SECONDS", help="Longest silence before a try is given up.  [default: 60]"),
    _seldom(
        "--max-retry-after",
        type=float,
        metavar="SECONDS",
        help="Longest wait that a server may ask for.  [default: 3600]",
    ),
    _seldom(
        "--low-speed",
        type=(float, float),
        metavar="BYTES SECONDS",
        help="Give up a body of which less than so many bytes per second arrive over so long.  [default: never]",
    ),
    _seldom(
        "--deadline",
        type=float,
        metavar="SECONDS",
        help="Longest time for one URL, all tries and waits included.  [default: no limit]",
    ),
    _seldom(
        "--retry-budget",
        type=click.IntRange(min=0),
        metavar="N",
        help="Tries beyond the first for all URLs together.  [default: no limit]",
    ),
    _seldom(
        "--jitter/--no-jitter",
        default=None,
        help="Wait a random part of the time before a next try.  [default: adaptive only]",
    ),
    _seldom(
        "--robots/--no-robots",
        default=None,
        help="Obey the robots.txt of each host (extra robots).  [default: polite only]",
    ),
    _seldom("--contact", metavar="TEXT", help="How to reach you, told to the servers in the User-Agent."),
    _seldom(
        "--public-only",
        is_flag=True,
        help="Connect to addresses of the public internet only: for URLs of strangers.",
    ),
)

_often, _seldom = _in("What to keep")

WHAT_TO_KEEP = (
    _often("--skip-cached", is_flag=True, help="Leave files alone that are there already."),
    _often(
        "--journal",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Account for every URL in FILE; run again, only what is missing is done.",
    ),
    _seldom("--refresh", is_flag=True, help="Ask again for files that the journal knows, and take what has changed."),
    _seldom("--durable", is_flag=True, help="Let each file outlive a power cut, too.  Slow."),
    _seldom("--strict", is_flag=True, help="Keep no body whose wholeness nothing proves."),
    _seldom("--remote-time", is_flag=True, help="Give files the time of their Last-Modified."),
    _seldom(
        "--content-disposition",
        is_flag=True,
        help="Give files the names that servers suggest, made safe and marked. With --skip-cached it needs --journal.",
    ),
    _seldom(
        "--segments",
        type=click.IntRange(min=1, max=64),
        default=1,
        metavar="N",
        help="At most N requests at once for one file of 8 MiB or more.  Some servers ban that.  [default: 1]",
    ),
    _seldom("--chunk-size", type=click.IntRange(min=1), metavar="N", help="Bytes read at a time.  [default: 65536]"),
)

STORE = (
    _seldom(
        "--store-options",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_pairs,
        help="A setting of the object store, such as endpoint=URL.  Others see the command line: credentials are "
        "better taken from the environment.",
    ),
)

KEEPING = (
    _often(
        "--max-bytes", type=Amount(), metavar="BYTES", help="Most bytes of one file, such as 10M.  [default: no limit]"
    ),
    _seldom(
        "--max-ratio",
        type=float,
        metavar="N",
        help="How many times a body that comes encoded may expand, after 32 MiB.  [default: 200]",
    ),
)

_often, _seldom = _in("Who asks")

SESSION = (
    _often(
        "-H",
        "--header",
        "headers",
        multiple=True,
        metavar="TEXT",
        help="'Name: value', sent to the origin of each URL, and not to where it redirects.",
    ),
    _seldom("--user", metavar="NAME:PASSWORD", help="Basic authentication, likewise."),
    _seldom("--token", metavar="TEXT", help="Bearer authentication, likewise."),
    _seldom(
        "--netrc",
        is_flag=False,
        flag_value="~/.netrc",
        metavar="[FILE]",
        help="Names and passwords by host, from FILE or ~/.netrc.",
    ),
    _seldom("--cookies", type=FILE, metavar="FILE", help="Cookies in Netscape's format, as browsers export them."),
    _seldom("--proxy", metavar="URL", help="HTTP proxy."),
    _seldom(
        "--trust-env", is_flag=True, help="Take the proxy from HTTPS_PROXY and the like, and passwords from ~/.netrc."
    ),
    _seldom(
        "--ca-file", type=FILE, metavar="FILE", help="Trust the authorities in FILE (PEM) instead of the system's."
    ),
    _seldom("--cert", type=FILE, metavar="FILE", help="Certificate of the client (PEM)."),
    _seldom("--key", type=FILE, metavar="FILE", help="Its key (PEM), if that is in a file of its own."),
    _seldom("--user-agent", metavar="TEXT", help="Another User-Agent than the library's own."),
    _seldom("-4", "family", flag_value=4, type=int, help="Look names up for IPv4 only."),
    _seldom("-6", "family", flag_value=6, type=int, help="Look names up for IPv6 only."),
)

_often, _seldom = _in("What is shown")

SHOWING = (
    _often("--json", "as_json", is_flag=True, help="One JSON object per settled URL on standard output."),
    _often(
        "--progress/--no-progress",
        default=None,
        help="Show how far it is.  [default: on a terminal]",
    ),
    _often("-q", "--quiet", is_flag=True, help="Show failures and the last line only."),
)
