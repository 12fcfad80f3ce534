"""The page: docs/matrix.rst, from the results of a run and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from .outcome import BAD, LEGEND, NOT_APPLICABLE
from .rows import ROWS, Row
from .tools import MODES, SECRETS, TOOLS, Tool

__all__ = ["render"]

TALKATIVE = {10, 11, 24, 25, 27, 28, 29}
"""Rows whose remarks stand in the table."""

INTRO = """\
.. Written by "python benchmarks/matrix"; do not edit.

================
The fault matrix
================

Servers cut bodies short, ignore Range, replace files, redirect elsewhere and suggest bad names; disks are full, and
programs are killed.  Here is what then lies under the final name, for aiodownload and for {count} other ways to
download a file.

Everything below was measured by one command on {date}, on {system}; nothing is
written by hand.  The server is scripted byte by byte and speaks on loopback only.  The object is 4 MiB of known
random bytes (12 MiB in the rows that resume), and every file that was left behind was compared with it.
"""

TABLE = """
The table
=========

A number after the word is the exit status, where it is not 0.  *Must* is what aiodownload has to make of the row.

.. list-table::
   :header-rows: 1
   :stub-columns: 2
"""

TOTALS = """
How often
=========

.. list-table::
   :header-rows: 1
   :stub-columns: 1
"""

FAULTS = """
The faults, one by one
======================

"""

COMMANDS = """
The tools
=========

Each tool is called as somebody would who wants it to be robust, with waits as short as its options allow.  ``URL`` is
the URL of the row; the option before ``SECRETS`` is given once for each of
{secrets}.
The settings of the user are out of reach, and so are proxies; ``reconnect_delay = 1`` is all that axel finds in its
settings.  The programs in ``benchmarks/matrix/drivers`` are a few lines each: they call the Python packages and exit
with 0 if the package calls the download a success.

In the rows that resume, curl, wget and wget2 find the first 7 MiB of the object under the final name, where they look
for it.  The others keep books on a part, so a real run against an honest and slow server with a strong ETag was
interrupted for them when 7 MiB had been sent: aria2 and axel by SIGINT, which lets them write their books, aiodownload
and pypdl by SIGKILL.  A single run may take {limit:.0f} s.

"""

REPEAT = """
How to repeat it
================

.. code-block:: console

   # apt-get install curl wget wget2 aria2 axel
   $ python benchmarks/matrix

A tool that is missing leaves its column empty.  parfive and pypdl are installed into an environment in a temporary
folder, or taken from the one that ``--venv`` names.  Row 26 mounts a file system of 1 MiB, and so needs root.
``--rows 1-12,27`` and ``--tools curl,wget`` choose, ``--quick`` takes the rows that are soon over; with these, nothing
is written unless ``--output`` and ``--results`` say where.  The exit status is 1 if aiodownload's own column holds
anything but OK, LC and n/a, or a leak, an escape or a Retry-After that was not waited for.  The raw results are in
``benchmarks/results/matrix.json``.
"""


def render(results: dict[str, Any]) -> str:
    """Return the text of the page."""
    tools = [tool for tool in TOOLS if tool.name in results["versions"]]
    rows = [row for row in ROWS if str(row.number) in results["cells"]]
    secrets = ", ".join(f"``{name}: {value}``" for name, value in SECRETS.items())
    counted = len([tool for tool in tools if tool.name != "aiodownload"])
    parts = [
        INTRO.format(count=counted, date=results["date"], system=results["system"]),
        "\n" + "\n".join(_legend()) + "\n",
        TABLE + "\n".join(_table(rows, tools, results)) + "\n",
        TOTALS + "\n".join(_totals(tools, results)) + "\n",
        FAULTS + "\n".join(_faults(rows, tools, results)),
        COMMANDS.format(secrets=secrets, limit=results["limit"]) + "\n".join(_commands(tools, results["versions"])),
        REPEAT,
    ]
    return "".join(parts)


def _legend() -> Iterator[str]:
    for word, meaning in LEGEND.items():
        yield (
            f"**{word}**\n    {meaning[0].upper()}{meaning[1:]}."
            if meaning[0] != "*"
            else f"**{word}**\n    {meaning}."
        )


def _table(rows: list[Row], tools: list[Tool], results: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield from _line(["Row", "Fault", "Must", *(tool.name for tool in tools)])
    for row in rows:
        cells = results["cells"][str(row.number)]
        told = [_cell(cells.get(tool.name), talk=row.number in TALKATIVE) for tool in tools]
        yield from _line([str(row.number), row.title, row.must, *told])


def _totals(tools: list[Tool], results: dict[str, Any]) -> Iterator[str]:
    cells = results["cells"].values()
    yield ""
    yield from _line(["", *(tool.name for tool in tools)])
    for word in [*LEGEND]:
        yield from _line([word, *(_count(cells, tool, word) for tool in tools)])


def _count(rows: Iterable[dict[str, Any]], tool: Tool, word: str) -> str:
    own = [cells[tool.name] for cells in rows if tool.name in cells]
    return str(sum(cell["outcome"] == word for cell in own)) if own else ""


def _faults(rows: list[Row], tools: list[Tool], results: dict[str, Any]) -> Iterator[str]:
    for row in rows:
        cells = results["cells"][str(row.number)]
        yield f"**{row.number}. {row.title}.** {row.sentence}\n"
        for tool in tools:
            if tool.name in cells:
                yield f"    - {tool.name}: {_detail(row, cells[tool.name])}"
        yield ""


def _detail(row: Row, cell: dict[str, Any]) -> str:
    if cell["outcome"] == NOT_APPLICABLE:
        return f"n/a, {escape(cell['remark'])}"
    words = [_cell(cell, talk=True)]
    if row.mode in ("resume", "skip"):
        asked = [text for text in cell["ranges"] if not re.fullmatch(r"bytes=0-0?", text)]
        words.append(f"asks for ``{asked[0]}``" if asked else "no Range")
    if row.mode != "replace":  # there the remark has said it
        words.append(f"{cell['requests']} request{'s' * (cell['requests'] != 1)}")
    return "; ".join(words)


def _commands(tools: list[Tool], versions: dict[str, str | None]) -> Iterator[str]:
    for tool in tools:
        version = versions[tool.name]
        if version is None:
            yield f"**{tool.name}** was missing: {tool.install}.\n"
            continue
        yield f"**{tool.name}** {version}\n\n.. code-block:: text\n"
        yield f"   {tool.template('plain')}"
        for mode, where in MODES.items():
            if mode in tool.modes and mode != "plain" and mode not in tool.lacks:
                yield f"   {where}: {tool.template(mode)}"
        yield ""


def _cell(cell: dict[str, Any] | None, *, talk: bool) -> str:
    """The word, the exit status if it says more, and the remark where it belongs."""
    if cell is None:
        return ""
    word = cell["outcome"]
    text = f"**{word}**" if word in BAD else word
    if cell.get("exit"):
        text += f" {cell['exit']}"
    if word != NOT_APPLICABLE and cell["remark"] and talk:
        text += f"; {escape(cell['remark'])}" if not cell["broken"] else f"; **{escape(cell['remark'])}**"
    return text


def _line(cells: list[str]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"{'   * -' if number == 0 else '     -'} {cell}".rstrip()


def escape(text: str) -> str:
    """``text`` with nothing in it that reStructuredText would take for markup."""
    return re.sub(r"([\\*_`|])", r"\\\1", text)
