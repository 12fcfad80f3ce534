"""Markup: the pieces of HTML that the page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from ..redact import printable
from .figures import count, moment

__all__ = ["KINDS", "Cell", "bar", "code", "link", "share", "table", "text_of", "when"]

KINDS = ("done", "cached", "failed", "unfinished")


class Cell(NamedTuple):
    """A cell of a table.

    :param html: what is in it.
    :param kind: class of its column.
    """

    html: str
    kind: str = ""


def table(label: str, caption: str, heads: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> str:
    """A table that scrolls in itself where it is too wide; the first cell of each row names it.

    :param label: an id that nothing else on the page has.
    """
    parts = [
        f'<div class="scroll" role="region" aria-labelledby="{label}" tabindex="0"><table>',
        f'<caption><span id="{label}">{caption}</span></caption><thead><tr>',
        *(f'<th scope="col"{_class(kind)}>{inside}</th>' for inside, kind in heads),
        "</tr></thead><tbody>\n",
    ]
    for first, *others in rows:
        cells = "".join(f"<td{_class(kind)}>{inside}</td>" for inside, kind in others)
        parts.append(f'<tr><th scope="row"{_class(first.kind)}>{first.html}</th>{cells}</tr>\n')
    parts.append("</tbody></table></div>\n")
    return "".join(parts)


def text_of(text: str) -> str:
    """A text of a journal: all of it is text, and nothing in it acts."""
    return escape(printable(text))


def code(text: str) -> str:
    """A text of a journal that is a path."""
    return f"<code>{text_of(text)}</code>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def link(url: str) -> str:
    """A link for what is certainly an address of the web, and plain text for all else."""
    web = url[:8].lower().startswith(("http://", "https://"))
    if not web or url.endswith("…") or printable(url) != url or any(char.isspace() for char in url):
        return text_of(url) or '<span class="muted">empty</span>'
    return f'<a href="{escape(url)}" rel="noreferrer">{escape(url)}</a>'


def when(seconds: float) -> str:
    """A time, seconds since 1970."""
    machine, people = moment(seconds)
    return f'<time datetime="{machine}">{people}</time>'


def share(parts: Sequence[int]) -> str:
    """A bar whose parts stand for those of a whole; the numbers are told beside it."""
    whole = sum(parts) or 1
    rects = []
    at = 0
    for kind, part in zip(KINDS, parts, strict=True):
        if part:
            rects.append(
                f'<rect class="{kind}" x="{100 * at / whole:.2f}%" width="{100 * part / whole:.2f}%" height="100%">'
                f"<title>{kind}: {count(part)}</title></rect>"
            )
        at += part
    return f'<svg class="share" aria-hidden="true">{"".join(rects)}</svg>\n'


def bar(part: float) -> str:
    """A bar of so much of its cell; the number is told beside it."""
    return f'<svg class="share" aria-hidden="true"><rect class="bar" width="{100 * part:.2f}%" height="100%"/></svg>'
