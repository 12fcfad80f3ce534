"""The page, written from the figures and the parameters."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import replace
from typing import Any

from .model import (
    DAY,
    DNS_TTL,
    INODES,
    PEER,
    PORTS,
    SAYS,
    SHARD,
    SLOTS,
    TIME_WAIT,
    WAITING,
    Hosts,
    Measured,
    Parameters,
)

WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False, "fix_sentence_endings": True}

HEAD = """\
.. Written by "python benchmarks/scale"; do not edit.

===================
To ten billion URLs
===================

.. warning::

   **An extrapolation, not a measurement.**  Nobody has fetched so many URLs with this library.  Every number here is
   measured on one small machine and has its source beside it, or follows from others by the formula that is shown,
   or is a *parameter*, which stands for what you know and we do not.

The parameters are options of the script, so that the page can be had for your own case::

    python benchmarks/scale --urls 1e9 --hosts 2e6 --body 2e5

Parameters
==========
"""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A list-table."""
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'  -' if number else '* -'} {cell}" for number, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def filled(text: str) -> str:
    """The text with its paragraphs and lists in lines of up to 120 columns."""
    blocks = text.split("\n\n")
    for at, block in enumerate(blocks):
        lines = block.strip("\n").splitlines()
        plain = lines and not lines[0].startswith((" ", ".. ")) and not re.fullmatch(r"(.)\1{3,}", lines[-1])
        if plain and not re.fullmatch(r"(.)\1{3,}", lines[0]):
            items = re.split(r"\n(?=- )", "\n".join(lines))
            blocks[at] = "\n".join(
                textwrap.fill(" ".join(item.split()), 120, subsequent_indent="  " * item.startswith("- "), **WHOLE)
                for item in items
            )
    return "\n\n".join(blocks)


def number(value: float) -> str:
    """With three digits that count, or as a whole number with commas."""
    if value == 0 or abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def span(seconds: float) -> str:
    """A time in the unit that suits it."""
    for size, unit in ((365.25 * DAY, "years"), (DAY, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def volume(count: float) -> str:
    """Bytes in the decimal unit that suits them."""
    for size, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{number(count / size)} {unit}"
    return f"{number(count)} bytes"


def render(figures: dict[str, dict[str, Any]], chosen: Parameters) -> str:
    """The text of the page.

    :param figures: what ``speed``, ``simulation`` and ``scale`` have in benchmarks/results.
    """
    found = Measured.of(**figures)
    spread = Hosts(chosen.urls, chosen.hosts, 1)
    parts = [
        HEAD
        + table(
            ("Option", "What", "Here"),
            [(f"``--{name}``", SAYS[name], f"{getattr(chosen, name):,.12g}") for name in SAYS],
        )
    ]
    parts += [_measured(figures, found), _first(found, chosen, spread), _hosts(chosen), _cores(found, chosen)]
    parts += [_network(chosen, spread), _state(figures["scale"], found, chosen), _objects(chosen), _peer(found, chosen)]
    return filled("\n".join([*parts, TAIL])) + "\n"


def _measured(figures: dict[str, dict[str, Any]], found: Measured) -> str:
    speed, simulation, scale = figures["speed"], figures["simulation"], figures["scale"]
    works = "results/speed.json, ``works."
    return (
        f"""
Measured
========

On {speed["system"]}; the two last rows on {scale["system"]}, {scale["date"]}.  The files are in ``benchmarks``.
"""
        + table(
            ("What", "Figure", "Source"),
            [
                (
                    "CPU of a file of 10 KiB, *a*",
                    f"{1e6 * found.each:.0f} µs",
                    works + "small``: median of ``our_cpu``",
                ),
                (
                    "CPU of each further byte, *b*",
                    f"{1e9 * found.each_byte:.2f} ns",
                    works + "medium`` less ``small``, by their difference in bytes",
                ),
                (
                    "CPU that a journal adds, *j*",
                    f"{1e6 * found.with_journal:.0f} µs",
                    works + "small``, row ``aiodownload, journal``",
                ),
                (
                    "Files a second of one process with one journal",
                    f"{found.journal_rate:,.0f}",
                    works + "small``, the same row",
                ),
                ("Two processes by one, on two cores", f"{found.two:.2f}", works + "halves``"),
                (
                    "One decision of the schedule, at most",
                    f"{1e6 * found.decision:.1f} µs",
                    f"results/simulation.json, ``decisions``, {simulation['date']}",
                ),
                ("A row in a journal", f"{found.row:.0f} bytes", "results/scale.json, ``--measure``"),
                (
                    "A host in memory, with ``Adaptive``",
                    f"{found.per_host:,.0f} bytes",
                    "results/scale.json; ``python benchmarks/cost.py``",
                ),
            ],
        )
        + """
These files came over plain HTTP from loopback, into memory.  What a real network adds (TLS, retries, slow hosts) is in
the parameters or is not in here at all.
"""
    )


def _first(found: Measured, chosen: Parameters, spread: Hosts) -> str:
    urls = chosen.urls
    limits = [
        (
            f"The largest host, asked {chosen.rate:g} times a second",
            urls * chosen.rate / spread.size(1),
            "urls · rate / *n*\\ :sub:`1`",
        ),
        (f"The {SLOTS} slots of a default ``Adaptive``", SLOTS / chosen.latency, f"{SLOTS} / latency"),
        (f"One line of {chosen.line:g} Gbit/s", chosen.line * 1e9 / 8 / chosen.body, "line · 10\\ :sup:`9` / 8 / body"),
        ("One journal", found.journal_rate, "measured"),
        (f"One core, {100 * chosen.busy:.0f} % at work", chosen.busy / found.cpu(chosen), "busy / *c*"),
        (
            "One resolver, the URLs of a host together",
            urls * chosen.resolver / spread.look_ups(chosen.rate),
            "urls · resolver / look-ups",
        ),
        ("One resolver, hosts so mixed that no address is remembered", chosen.resolver, "resolver"),
        ("One thread for the schedule", 1 / found.decision, "1 / decision"),
    ]
    limits.sort(key=lambda one: one[1])
    rows = [
        (str(place), what, number(rate), span(urls / rate), formula)
        for place, (what, rate, formula) in enumerate(limits, 1)
    ]
    return (
        f"""
Where it breaks first
=====================

With one of each (one process, one journal, one resolver, one line), in the order in which they break.  {urls:,.0f} URLs
in {chosen.days:g} days are {number(urls / chosen.days / DAY)} URLs a second.
"""
        + table(("Place", "What", "URLs/s", "All of them take", "Formula"), rows)
        + """
All but the largest host go away with more of the same: slots are a setting, and processes, journals, lines and
resolvers
can be many (:doc:`recipes`).  *n*\\ :sub:`1` and *look-ups* are explained below, for hosts whose k-th largest has a
share
of 1/k; *c* is the CPU of one URL.
"""
    )


def _hosts(chosen: Parameters) -> str:
    kinds = [("All alike", 0.0), ("1/√k", 0.5), ("1/k", 1.0)]
    sizes = []
    for name, exponent in kinds:
        spread = Hosts(chosen.urls, chosen.hosts, exponent)
        for k in (1, 100, 10_000):
            if k <= chosen.hosts and (exponent or k == 1):
                size = spread.size(k)
                times = [span(size / rate) for rate in (1, 10, 100)]
                sizes.append((name, f"{k:,}", number(size), *times))
    done = []
    for name, exponent in kinds:
        spread = Hosts(chosen.urls, chosen.hosts, exponent)
        done += [
            (
                name,
                f"{rate:g}/s",
                f"{100 * spread.capped(rate * chosen.days * DAY) / chosen.urls:.1f} %",
                *(span(spread.seconds_for(share, rate)) for share in (0.5, 0.9, 0.99, 1)),
            )
            for rate in dict.fromkeys((1.0, chosen.rate, 100.0))
        ]
    return (
        """
Politeness: the real bound
==========================

A host with *n* URLs that is asked *r* times a second takes *n / r* seconds, whatever cores there are.  So what counts
is
how the URLs are spread over the hosts.  *All alike*: each host has urls / hosts.  *1/k*: the k-th largest has
*n*\\ :sub:`k` = urls · k\\ :sup:`-1` / (1 + 1/2 + … + 1/hosts), and with *1/√k* the same with k\\ :sup:`-1/2`.
"""
        + table(("Shares", "k", "URLs of that host", "At 1/s", "At 10/s", "At 100/s"), sizes)
        + f"""
With cores without end, and each host asked from the first second to its last URL: what is there after {chosen.days:g}
days (the sum of min(*n*\\ :sub:`k`, *r* · days · 86,400), by urls), and when is how much there?
"""
        + table(("Shares", "Each host", f"After {chosen.days:g} days", "50 %", "90 %", "99 %", "All"), done)
        + """
So a plan for many URLs begins with the list: count the URLs of each host, begin with the largest hosts, and ask those
who run them for a dump, an agreement, or another way.  ``Adaptive`` finds *r* by itself (:doc:`simulation`).
"""
    )


def _cores(found: Measured, chosen: Parameters) -> str:
    cpu = found.cpu(chosen)
    hours = chosen.urls * cpu / 3600
    cores = chosen.urls * cpu / (chosen.days * DAY * chosen.busy)
    return f"""
Cores and money
===============

CPU of one URL, *c* = *a* + *b* · (body - 10,240) + *j* + handshake / reuse
= {1e6 * found.each:.0f} + {1e6 * found.each_byte * (chosen.body - found.small):.0f} + {1e6 * found.with_journal:.0f}
+ \
{1e6 * chosen.handshake / chosen.reuse:.0f} µs = {1e6 * cpu:.0f} µs.

- Work: urls · *c* / 3600 = **{number(hours)} core-hours**.
- Cores for {chosen.days:g} days: urls · *c* / (days · 86,400 · busy) = **{math.ceil(cores):,}**.
- Paid for, at work or not: hours / busy · price = {number(hours / chosen.busy * chosen.price)}, in the currency of
  ``--price``.
  Storage and traffic, which usually cost more, are not in it.

It is assumed that cores add up.  Measured is only that two processes do {found.two:.2f} times the work of one, on two
cores that they share with the server and with the processes that write; more cores were not there to be tried.
"""


def _network(chosen: Parameters, spread: Hosts) -> str:
    rate = chosen.urls / chosen.days / DAY
    look_ups = spread.look_ups(chosen.rate)
    opened = rate / chosen.reuse
    seconds = chosen.days * DAY
    return f"""
Line, names and sockets
=======================

At {number(rate)} URLs a second:

- **Line**: body · 8 · URLs/s = {number(rate * chosen.body * 8 / 1e9)} Gbit/s of bodies; headers, TLS and packets come
  on
  top.
- **Look-ups**: an address is remembered for {DNS_TTL} s (aiohttp's ``ttl_dns_cache``) by each process.  With the URLs
  of a
  host together, it is one look-up for a host that is done within {DNS_TTL} s, and one every {DNS_TTL} s for a larger
  one, the
  sum of max(1, *n*\\ :sub:`k` / (rate · {DNS_TTL})): {number(look_ups)} in all, {number(look_ups / seconds)} a second,
  {math.ceil(look_ups / seconds / chosen.resolver)} resolver(s) of ``--resolver``.  With hosts so mixed that nothing is
  remembered it is one for each connection, {number(opened)} a second; if hosts are so mixed that no connection is used
  again either, {number(rate)} a second, \
{math.ceil(rate / chosen.resolver)} resolver(s).
  Run one on each machine, one that keeps what it has heard for as long as its TTL says.
- **Slots**: URLs/s · latency = {number(rate * chosen.latency)} requests under way at a time, each with a socket;
  beside them
  connections that are kept open.  Raise ``ulimit -n`` accordingly.
- **Ports**: URLs/s / reuse = {number(opened)} connections opened a second.  One that we close stays in TIME_WAIT for
  {TIME_WAIT} s (Linux): {number(opened * TIME_WAIT)} of them.  A port is taken only towards the same address and port
  of a server;
  Linux has {PORTS:,} of them (``ip_local_port_range``), so {PORTS // TIME_WAIT} new connections a second from one
  address of
  ours to one of theirs.  No polite rate gets there; a proxy that all goes through does, and so does NAT.
"""


def _state(scale: dict[str, Any], found: Measured, chosen: Parameters) -> str:
    cores = max(1, math.ceil(chosen.urls * found.cpu(chosen) / (chosen.days * DAY * chosen.busy)))
    rows = [(f"{row['rows']:,}", f"{row['bytes']:.0f}", f"{1e6 * row['seconds']:.1f} µs") for row in scale["journal"]]
    return (
        """
Journals and memory
===================

A row made, published and settled, in groups of 128, by the journal alone; the times are wall time, and rough:
"""
        + table(("Rows", "Bytes each", "Time each"), rows)
        + f"""
- **One journal for all**: urls · bytes = {volume(chosen.urls * found.row)}.  SQLite allows that (281 TB: its
  *Implementation Limits*), but there is one writer, and a run with one journal has done {found.journal_rate:,.0f}
  files a
  second at most: {span(chosen.urls / found.journal_rate)}.  Its key is a hash, so each row is elsewhere in the index,
  and a
  journal that is larger than the memory that there is for it waits for the disk: memory / bytes = \
{number(chosen.memory / found.row)} rows.
- **One for each job**, as the :doc:`recipes` have it: with {cores:,} jobs, {number(chosen.urls / cores)} rows and
  {volume(chosen.urls / cores * found.row)} each.  More jobs than cores make smaller ones: with \
{math.ceil(chosen.urls / 1e7):,}, each has ten million
  rows and {volume(1e7 * found.row)}, and a job that is lost is soon done again.
- **Memory of a process** does not grow with the URLs: at most {WAITING:,} bundles are read ahead, so at most as many
  hosts
  have something to do, {volume(WAITING * found.per_host)} of them; hosts that idle are forgotten (:doc:`cost`).  Were
  all {chosen.hosts:,.0f} hosts known in one process at a time, it would be {volume(chosen.hosts * found.per_host)}.
- **The schedule** would be at work for urls · decision = {span(chosen.urls * found.decision)} in all.
"""
    )


def _objects(chosen: Parameters) -> str:
    shards = math.ceil(chosen.urls / SHARD)
    return f"""
Files and objects
=================

- **Bytes**: urls · body = {volume(chosen.urls * chosen.body)}.
- **Files**: {chosen.urls:,.0f}.  One ext4 has {INODES:,} inodes at most, \
{f"so it takes {math.ceil(chosen.urls / INODES)} of them" if chosen.urls > INODES else "which is enough"}.  Each is
  listed, copied and deleted one by one.
- **Objects**: urls / 1000 · put = {number(chosen.urls / 1000 * chosen.put)} for the writes alone, in the currency of
  ``--put``.
- **Shards** of {SHARD:,} members (:class:`~aiodownload.TarShards`, :doc:`dataset`): {number(shards)} tar files of \
{volume(SHARD * chosen.body)}, and as
  many Parquet files; {number(2 * shards / 1000 * chosen.put)} if each of them is copied to a store in one write (in
  parts it is more).  A run that goes on reads the end of each
  Parquet file in its ``home``; so give each job a ``home`` of its own, too.
"""


def _peer(found: Measured, chosen: Parameters) -> str:
    rate = PEER["urls"] / PEER["days"] / DAY
    cpu = found.cpu(chosen)
    own = replace(chosen, urls=PEER["urls"], days=PEER["days"])
    look_ups = Hosts(own.urls, own.hosts, 1).look_ups(own.rate) / (own.days * DAY)
    return f"""
Beside a run that there was
===========================

img2dataset has fetched {PEER["urls"] / 1e9:g} billion images in {PEER["days"]} days on {PEER["nodes"]} machines of \
{PEER["cores"]} cores, {PEER["rate"]:,} a second (its README and
``dataset_examples/laion5B.md``); the quotient is {number(rate)}.  It does not limit requests per host, and it resizes
images.

What would this library need for that rate, with the parameters above?

- {number(rate * cpu)} cores at work all the time (URLs/s · *c*), {math.ceil(rate * cpu / chosen.busy)} at a load of \
{chosen.busy:g}; there were {PEER["nodes"] * PEER["cores"]}.  Nothing is
  resized in that.
- {number(rate * chosen.body * 8 / 1e9)} Gbit/s, {number(rate * chosen.body * 8 / 1e9 / PEER["nodes"])} for each of \
{PEER["nodes"]} machines.
- {number(rate * chosen.latency)} slots, so
  ``concurrent={math.ceil(rate * chosen.latency / PEER["nodes"] / 10) * 10}`` \
for each of {PEER["nodes"]} jobs; {number(look_ups)} look-ups a second.
- Hosts that bear it: at {chosen.rate:g}/s for each, no less than {math.ceil(rate / chosen.rate):,} of them must have
  something left at any
  time, to the last minute.  With shares of 1/k, \
{100 * Hosts(own.urls, own.hosts, 1).capped(own.rate * own.days * DAY) / own.urls:.0f} % of it would be there after
{PEER["days"]} days.

On one machine, the same files of 10 KiB, neither resizing: img2dataset takes {1e6 * found.peer:.0f} µs of CPU for each,
aiodownload {1e6 * found.each:.0f} µs (:doc:`speed`).
"""


TAIL = """
What is not in here
===================

Failures and their retries; hosts that are dead or slow (:doc:`simulation`); certificates, robots.txt and redirects,
which are
further requests; disks, which are slower than memory (:doc:`speed`); and whatever breaks only at that scale.
"""
