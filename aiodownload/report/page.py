"""Page: the figures of a journal as one HTML file, which asks for nothing and runs nothing."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import count as numbers
from typing import TypeAlias

from .._version import __version__
from ..redact import printable
from . import charts
from .figures import amount, between, count, duration, moment, nouns, scaled, short
from .markup import KINDS, Cell, bar, code, link, share, table, text_of, when
from .series import Distribution
from .style import CSS
from .summary import OTHER, Host, Reason, Summary, Totals

__all__ = ["page"]

Words: TypeAlias = Callable[[float], str]

_AXES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def page(summary: Summary, journal: str) -> str:
    """Return the page.  The same journal makes the same page.

    :param summary: its figures.
    :param journal: its path, as the user has written it.
    """
    charts.require()
    title = f"Download report: {text_of(os.path.basename(journal))}"
    hashed = b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{hashed}'; img-src data:; base-uri 'none'; form-action 'none'"
    body = "".join(_Body(summary, journal).parts())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<meta name="robots" content="noindex">\n<meta name="generator" content="aiodownload {__version__}">\n'
        f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>{CSS}</style>\n</head>\n'
        f"<body>\n<header>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )


class _Body:
    """The page below its heading."""

    def __init__(self, summary: Summary, journal: str) -> None:
        self._summary = summary
        self._journal = journal
        path = printable(journal)
        self._quoted = escape(shlex.quote("./" + path if path.startswith("-") else path))
        self._ids = numbers(1)

    def parts(self) -> Iterator[str]:
        """Make it, from top to bottom."""
        totals = self._summary.totals
        sections = [("outcome", "Outcome", self._outcome())] if totals.urls else []
        if totals.failed:
            sections.append(("failures", "Failures by reason", self._failures()))
        if totals.urls:
            sections.append(("hosts", "Hosts", self._hosts()))
        if self._summary.moments:
            sections.append(("time", "Over time", self._time()))
        if self._summary.latency is not None:
            sections.append(("distributions", "Time and size of downloads", self._distributions()))
        yield f"<p>{_headline(totals)}</p>\n"
        if len(sections) > 1:
            links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in sections)
            yield f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
        yield "</header>\n<main>\n"
        if not sections:
            yield "<p>There is nothing to report: no run has enlisted a URL in this journal yet.</p>\n"
        for name, title, inside in sections:
            yield f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n'
            yield from inside
            yield "</section>\n"
        yield f"</main>\n<footer>\n{_NOTES}<p>aiodownload {__version__}</p>\n</footer>\n"

    # Sections.

    def _outcome(self) -> Iterator[str]:
        totals = self._summary.totals
        told = {
            "done": ("Done", totals.done, amount(totals.size)),
            "cached": ("Cached", totals.cached, "there already" if totals.cached else ""),
            "failed": ("Failed", totals.failed, _how_many(self._summary.reasons)),
            "unfinished": ("Unfinished", totals.unfinished, _unfinished(totals)),
        }
        yield '<dl class="cards">'
        for kind, (name, number, more) in told.items():
            detail = f"<dd>{more}</dd>" if more else ""
            yield f'<div class="{kind}"><dt>{name}</dt><dd>{count(number)}</dd>{detail}</div>'
        yield "</dl>\n"
        yield share([told[kind][1] for kind in KINDS])
        yield '<dl class="facts">'
        yield f"<dt>URLs</dt><dd>{count(totals.urls)} on {nouns(self._summary.all_hosts, 'host')}</dd>"
        yield f"<dt>Tries</dt><dd>{count(totals.attempts)}</dd>"
        if totals.first is not None and totals.last is not None:
            yield f"<dt>From</dt><dd>{when(totals.first)}</dd><dt>To</dt><dd>{when(totals.last)}"
            yield f" ({duration(totals.last - totals.first)})</dd>"
        home = "not noted" if self._summary.home is None else code(self._summary.home)
        yield f"<dt>Folder</dt><dd>{home}</dd><dt>Journal</dt><dd>{code(self._journal)}</dd></dl>\n"
        yield from self._next()

    def _next(self) -> Iterator[str]:
        totals = self._summary.totals
        if totals.failed:
            yield "<p>Try what has failed again:</p>\n"
            yield f'<pre tabindex="0"><code>aiodownload retry {self._quoted}</code></pre>\n'
        if totals.unfinished:
            which = "Also do" if totals.failed else "Do"
            yield f"<p>{which} what is unfinished, once no run works on it any more:</p>\n"
            yield f'<pre tabindex="0"><code>aiodownload retry {self._quoted} --unfinished</code></pre>\n'
        if totals.bound:
            yield (
                f"<p>{nouns(totals.bound, 'request')} of these had headers, form data or a password, which a journal "
                "does not hold: run the program that made them again.</p>\n"
            )
        if not totals.failed and not totals.unfinished:
            yield "<p>Nothing is left to do.</p>\n"

    def _failures(self) -> Iterator[str]:
        totals, reasons = self._summary.totals, self._summary.reasons
        most = max(one.number for one in reasons)
        rows = [
            [
                Cell(text_of(one.text), "wide"),
                Cell(count(one.number), "n"),
                Cell(bar(one.number / most)),
                Cell("" if one.hosts is None else count(one.hosts), "n"),
            ]
            for one in reasons
        ]
        heads = [Cell("Reason"), Cell("Failures", "n"), Cell("Compared"), Cell("Hosts", "n")]
        yield table(self._id("table"), "Reasons; numbers, hosts and names in them are left out", heads, rows)
        listed = sum(len(one.failures) for one in reasons)
        if listed < totals.failed:
            yield (
                f"<p>{count(listed)} of the {count(totals.failed)} failures are listed below, some of each reason.  "
                f"All of them, one JSON object a line:</p>\n"
                f'<pre tabindex="0"><code>aiodownload report {self._quoted} --json</code></pre>\n'
            )
        else:
            yield "<p>Every failure is listed below.</p>\n"
        for one in reasons:
            yield from self._reason(one, opened=totals.failed <= 20)

    def _reason(self, one: Reason, *, opened: bool) -> Iterator[str]:
        same = one.text != OTHER and all(failure.reason == one.text for failure in one.failures)
        heads = [
            Cell("URL"),
            Cell("Reason"),
            Cell("Status", "n"),
            Cell("Tries", "n"),
            Cell("Took", "n"),
            Cell("Settled", "n"),
        ]
        rows = [
            [
                Cell(link(failure.url), "wide"),
                Cell(text_of(failure.reason), "wide"),
                Cell("none" if failure.http_status is None else str(failure.http_status), "n"),
                Cell(count(failure.attempts), "n"),
                Cell(duration(failure.elapsed), "n"),
                Cell("" if failure.at is None else moment(failure.at)[1], "n"),
            ]
            for failure in one.failures
        ]
        if same:
            for row in [heads, *rows]:
                del row[1]
        first = "" if len(one.failures) == one.number else f", the first {count(len(one.failures))} of them"
        yield f'<details class="reason"{" open" if opened else ""}><summary><b>{text_of(one.text)}</b> '
        yield f'<span class="muted">({nouns(one.number, "failure")}{first})</span></summary>\n'
        yield table(self._id("table"), f"URLs that failed: {text_of(one.text)}", heads, rows)
        yield "</details>\n"

    def _hosts(self) -> Iterator[str]:
        shown, total = self._summary.hosts, self._summary.all_hosts
        caption = "Hosts, those with most failures first"
        if len(shown) < total:
            caption += f": {count(len(shown))} of {count(total)}"
        heads = [
            Cell("Host"),
            Cell("URLs", "n"),
            Cell("Done", "n"),
            Cell("Cached", "n"),
            Cell("Failed", "n"),
            Cell("Unfinished", "n"),
            Cell("Shares"),
            Cell("Bytes", "n"),
        ]
        rows = []
        for one in shown:
            parts = [one.done, one.cached, one.failed, one.unfinished]
            numbers = [Cell(count(part), "n") for part in (one.urls, *parts)]
            rows.append([Cell(text_of(one.name)), *numbers, Cell(share(parts)), Cell(amount(one.size), "n")])
        yield table(self._id("table"), caption, heads, rows)
        if self._summary.slowest:
            yield self._slowest(self._summary.slowest)

    def _slowest(self, hosts: Sequence[Host]) -> str:
        most = max(one.median or 0 for one in hosts) or 1
        rows = [
            [
                Cell(text_of(one.name)),
                Cell(duration(one.median or 0), "n"),
                Cell(bar((one.median or 0) / most)),
                Cell(duration(one.slowest or 0), "n"),
                Cell(count(one.urls), "n"),
            ]
            for one in hosts
        ]
        heads = [Cell("Host"), Cell("Median", "n"), Cell("Compared"), Cell("Slowest", "n"), Cell("URLs", "n")]
        return table(self._id("table"), "Slowest hosts, by the median time of a URL", heads, rows)

    def _time(self) -> Iterator[str]:
        moments = self._summary.moments
        seconds, unit = next((one for one in _AXES if moments[-1].end >= 3 * one[0]), _AXES[-1])
        size, name = scaled(max(one.rate for one in moments))
        yield '<div class="panels">\n'
        for title, what, values in (
            ("Throughput in bytes", f"{name}/s", [one.rate / size for one in moments]),
            ("Throughput in files", "files/s", [one.files for one in moments]),
            ("Concurrency", "URLs in work", [one.active for one in moments]),
        ):
            times = [(one.start / seconds, one.end / seconds) for one in moments]
            names = [f"{short(start)} to {short(end)} {unit}" for start, end in times]
            bars = [
                charts.Bar(*span, value, f"{told}: {short(value)} {what}")
                for span, told, value in zip(times, names, values, strict=True)
            ]
            top = max(bars, key=lambda one: one.value)
            words = f"{short(sum(values) / len(values))} {what} on average; the most, {short(top.value)} {what}, "
            words += f"at {short(top.start)} {unit}."
            heads = [Cell("Time since the start"), Cell(what, "n")]
            rows = table(
                self._id("table"),
                f"{title} over time",
                heads,
                [[Cell(told), Cell(short(value), "n")] for told, value in zip(names, values, strict=True)],
            )
            label = self._id("chart")
            picture = charts.over(bars, f"time since the start ({unit})", label)
            yield self._figure(label, f"{title} ({what})", words, picture, rows)
        yield "</div>\n"

    def _distributions(self) -> Iterator[str]:
        yield '<div class="panels">\n'
        if self._summary.latency is not None:
            yield self._distribution("Time per URL", "URLs", self._summary.latency, duration)
        if self._summary.sizes is not None:
            yield self._distribution("Size of the files", "files", self._summary.sizes, amount)
        yield "</div>\n"

    def _distribution(self, title: str, unit: str, figures: Distribution, write: Words) -> str:
        bars = []
        for low, high, number in figures.bins:
            if high == math.inf:
                name = f"{write(low)} or more"
            elif low == 0:
                name = "empty" if write is amount else f"below {write(high)}"
            else:
                name = between(write(low), write(high))
            bars.append(charts.Bar(low, high, number, name))
        label = self._id("chart")
        words = (
            f"Half of the {unit} up to {write(figures.median)}, 90% up to {write(figures.p90)}, "
            f"99% up to {write(figures.p99)}, all up to {write(figures.largest)}."
        )
        rows = [[Cell(bar.name), Cell(count(bar.value), "n")] for bar in bars]
        shown = table(self._id("table"), f"{title}: how many {unit}", [Cell(title), Cell(unit, "n")], rows)
        return self._figure(label, title, words, charts.across(bars, f"number of {unit}", label), shown)

    # What they are made of.

    def _id(self, kind: str) -> str:
        return f"{kind}{next(self._ids)}"

    def _figure(self, label: str, title: str, words: str, picture: str, table: str) -> str:
        return (
            f'<figure class="panel"><figcaption id="{label}"><h3>{title}</h3>'
            f"<p>{words}</p></figcaption>\n{picture}\n"
            f"<details><summary>{title} as a table</summary>\n{table}</details></figure>\n"
        )


_NOTES = """<h2>How to read this page</h2>
<p>A journal has the last outcome of each URL, and so has this page: a URL that was done again counts once.  A file that
an earlier run has written, and that a later one found in its place, is counted as done.  Unfinished is what was
cancelled, cut off, or still in work when this page was made.</p>
<p>The time of a URL goes from its first request to its outcome, with the waits between its tries.  The bytes of a file
are spread evenly over that time.  URLs in work are an average, and waiting ones count, too.  kB, MB and GB are
powers of 1000 bytes.  All times are UTC.</p>
"""


def _headline(totals: Totals) -> str:
    if not totals.urls:
        return "This journal has no URLs."
    parts = [f"{count(totals.done)} done ({amount(totals.size)})", f"{count(totals.cached)} cached"]
    parts += [f"{count(totals.failed)} failed", f"{count(totals.unfinished)} unfinished"]
    return f"{nouns(totals.urls, 'URL')}: {', '.join(parts)}."


def _how_many(reasons: Sequence[Reason]) -> str:
    if reasons and reasons[-1].text == OTHER:
        return f"more than {nouns(len(reasons) - 1, 'reason')}"
    return nouns(len(reasons), "reason") if reasons else ""


def _unfinished(totals: Totals) -> str:
    parts = []
    if totals.cancelled:
        parts.append(f"{count(totals.cancelled)} cancelled")
    if totals.waiting:
        parts.append(f"{count(totals.waiting)} without outcome")
    return ", ".join(parts)
