"""What ten billion URLs would take: computed from the measured figures, written to docs/scale.rst.

    python benchmarks/scale.py                           # writes the page
    python benchmarks/scale.py --urls 1e8 --hosts 1e5    # prints it for other parameters, and writes nothing
    python benchmarks/scale.py --measure                 # measures what a journal and a host take, then writes the page

The speeds are those of the last ``python benchmarks/speed`` and ``python benchmarks/simulation``.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "scale.rst"

DAY = 86_400
TIME_WAIT = 60  # seconds; Linux, include/net/tcp.h: TCP_TIMEWAIT_LEN
PORTS = 60_999 - 32_768 + 1  # Linux, net.ipv4.ip_local_port_range
INODES = 2**32  # of one ext4
DNS_TTL = 10  # seconds that a connector remembers an address: aiohttp, TCPConnector(ttl_dns_cache=10)
SHARD = 10_000  # members: TarShards(shard_size=10_000)
SLOTS = 64  # Adaptive(concurrent=64)
WAITING = 10_000  # bundles that are read ahead at most
WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False, "fix_sentence_endings": True}
# img2dataset: README.md and dataset_examples/laion5B.md.
PEER = {"urls": 5.8e9, "days": 7, "nodes": 10, "cores": 16, "rate": 9500}


@dataclass(frozen=True)
class Parameters:
    """What is not measured, and may be set by an option of the same name."""

    urls: float = 1e10
    hosts: float = 1e7
    body: float = 51_200
    days: float = 7
    rate: float = 10
    latency: float = 0.2
    reuse: float = 10
    handshake: float = 0.001
    busy: float = 0.5
    resolver: float = 1000
    line: float = 1
    memory: float = 16e9
    price: float = 0.05
    put: float = 0.005


SAYS = {
    "urls": "URLs in all",
    "hosts": "hosts that they are on",
    "body": "bytes of a body",
    "days": "days that it may take",
    "rate": "requests a second that a host bears",
    "latency": "seconds from a request to the end of its body",
    "reuse": "requests over one connection",
    "handshake": "CPU seconds of one TLS handshake",
    "busy": "share of the time for which a core is to be at work",
    "resolver": "look-ups a second that one DNS resolver takes",
    "line": "Gbit/s of one line",
    "memory": "bytes of memory that there are for a journal",
    "price": "price of a core for an hour",
    "put": "price of a thousand writes to an object store",
}


# The model: each is a formula that the page shows.


def harmonic(count: float, exponent: float) -> float:
    """The sum of k**-exponent for k from 1 to ``count``: exact for the first thousand, then Euler and Maclaurin's."""
    exact = min(int(count), 1000)
    total = math.fsum(k**-exponent for k in range(1, exact + 1))
    if count > exact:
        area = (
            math.log(count / exact)
            if exponent == 1
            else (count ** (1 - exponent) - exact ** (1 - exponent)) / (1 - exponent)
        )
        total += area + (count**-exponent - exact**-exponent) / 2
    return total


@dataclass(frozen=True)
class Hosts:
    """URLs over hosts: the k-th largest of ``hosts`` has a share in proportion to k**-exponent."""

    urls: float
    hosts: float
    exponent: float

    def size(self, k: float) -> float:
        """URLs of the k-th largest host."""
        return float(self.urls * k**-self.exponent / harmonic(self.hosts, self.exponent))

    def larger(self, size: float) -> float:
        """How many hosts have more URLs than that."""
        if not self.exponent:
            return self.hosts if self.size(1) > size else 0
        return min(self.hosts, math.floor((self.size(1) / size) ** (1 / self.exponent)))

    def capped(self, size: float) -> float:
        """URLs that there would be if no host had more than that."""
        large = self.larger(size)
        rest = self.urls - self.size(1) * harmonic(large, self.exponent) if large else self.urls
        return large * size + max(0.0, rest)

    def seconds_for(self, share: float, rate: float) -> float:
        """When that share of the URLs is fetched, if each host gives ``rate`` a second from the beginning on."""
        low, high = 0.0, self.size(1) / rate
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (low, middle) if self.capped(middle * rate) >= share * self.urls else (middle, high)
        return high

    def look_ups(self, rate: float) -> float:
        """Of names, if the URLs of a host are together: one for each host, and one every DNS_TTL while it is asked."""
        lasting = rate * DNS_TTL
        large = self.larger(lasting)
        asked = self.size(1) * harmonic(large, self.exponent) if large else 0.0
        return (self.hosts - large) + asked / lasting


@dataclass(frozen=True)
class Measured:
    """Figures of the last runs, in seconds and bytes."""

    each: float  # CPU of a small file
    each_byte: float  # CPU of each further byte
    with_journal: float  # CPU that a journal adds
    journal_rate: float  # files a second, one process, with a journal
    small: float  # bytes of a small file
    peer: float  # CPU of a small file, img2dataset
    two: float  # files a second of two processes, by those of one
    row: float  # bytes of a row in the largest journal
    per_host: float  # bytes of memory, Adaptive
    decision: float  # of the schedule

    @classmethod
    def of(cls, speed: dict[str, Any], simulation: dict[str, Any], scale: dict[str, Any]) -> Measured:
        """Take them from what benchmarks/results has."""
        small, medium = speed["works"]["small"], speed["works"]["medium"]
        each = median(row["our_cpu"] for row in small["rows"]) / small["files"]
        large = median(row["our_cpu"] for row in medium["rows"]) / medium["files"]
        rows = {row["program"]: row for row in small["rows"]}
        journal = rows["aiodownload, journal"]
        return cls(
            each=each,
            each_byte=(large - each) / (medium["size"] - small["size"]),
            with_journal=(journal["their_cpu"] - journal["our_cpu"]) / small["files"],
            journal_rate=small["files"] / journal["theirs"],
            small=small["size"],
            peer=rows["img2dataset"]["their_cpu"] / small["files"],
            two=speed["works"]["halves"]["ratio"],
            row=scale["journal"][-1]["bytes"],
            per_host=scale["host"],
            decision=max(row["seconds"] for row in simulation["decisions"]),
        )

    def cpu(self, chosen: Parameters) -> float:
        """Seconds of CPU for one URL."""
        body = self.each + self.each_byte * (chosen.body - self.small)
        return max(0.0, body) + self.with_journal + chosen.handshake / chosen.reuse


# The page.

HEAD = """\
.. Written by "python benchmarks/scale.py"; do not edit.

===================
To ten billion URLs
===================

.. warning::

   **An extrapolation, not a measurement.**  Nobody has fetched so many URLs with this library.  Every number here is
   measured on one small machine and has its source beside it, or follows from others by the formula that is shown,
   or is a *parameter*, which stands for what you know and we do not.

The parameters are options of the script, so that the page can be had for your own case::

    python benchmarks/scale.py --urls 1e9 --hosts 2e6 --body 2e5

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


def load() -> dict[str, dict[str, Any]]:
    """The figures of the last runs."""
    return {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in ("speed", "simulation", "scale")}


def measure() -> dict[str, Any]:
    """What a journal takes on the disk, and a host in memory."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from cost import host_bytes

    from aiodownload import Adaptive

    return {
        "date": time.strftime("%Y-%m-%d"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "host": host_bytes(Adaptive()),
        "journal": [journal(rows) for rows in (10_000, 100_000, 1_000_000)],
    }


def journal(rows: int) -> dict[str, float]:
    """So many rows made, published and settled in groups of 128; their bytes on the disk and seconds, each."""
    from aiodownload import Journal
    from aiodownload.entries import Enlisted, FileState, Outcome, Publication

    with tempfile.TemporaryDirectory() as home:
        book = Journal(f"{home}/journal.db")
        book.open(home)
        began = time.perf_counter()
        for first in range(0, rows, 128):
            urls = [f"https://example.org/files/f{row:08}.bin" for row in range(first, min(first + 128, rows))]
            keys = [sha256(url.encode()).digest()[:16] for url in urls]
            paths = [url.replace("https:/", home) for url in urls]
            book.enlist(
                [Enlisted(key, url, True, path) for key, url, path in zip(keys, urls, paths, strict=True)],
                lambda *_: "enlisted",
            )
            for key, path in zip(keys, paths, strict=True):
                file = FileState(10240, 1_764_000_000_000_000_000, 1_000_000)
                date = "Wed, 25 Nov 2026 09:00:00 GMT"
                book.publishing(key, Publication(path, file, '"65a1b2c3-2800"', date, "LENGTH"))
            book.settle(
                [
                    Outcome(
                        key=key,
                        state="done",
                        attempts=1,
                        http_status=200,
                        final_url=None,
                        error=None,
                        elapsed=0.05,
                        path=path,
                    )
                    for key, path in zip(keys, paths, strict=True)
                ]
            )
        seconds = time.perf_counter() - began
        book.close()
        size = Path(book.path).stat().st_size
    return {"rows": rows, "bytes": size / rows, "seconds": seconds / rows}


def parameters(arguments: list[str]) -> tuple[Parameters, bool, bool]:
    """What was chosen, whether anything was, and whether to measure.

    :raises SystemExit: for a parameter that cannot be.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure what a journal and a host take")
    for field in fields(Parameters):
        parser.add_argument(f"--{field.name}", type=float, help=f"{SAYS[field.name]} ({field.default:g})")
    given = vars(parser.parse_args(arguments))
    measuring = given.pop("measure")
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        least = 0 if name in ("handshake", "price", "put") else sys.float_info.min
        if not least <= value < math.inf:
            parser.error(f"--{name} must be a number {'of 0 or more' if not least else 'above 0'}, not {value:g}")
    found = replace(Parameters(), **chosen)
    if not 1 <= found.hosts <= found.urls:
        parser.error(f"--hosts must be from 1 to the number of URLs, not {found.hosts:g}")
    if found.busy > 1:
        parser.error(f"--busy is a share, above 0 and at most 1, not {found.busy:g}")
    if found.reuse < 1:
        parser.error(f"--reuse must be 1 or more, not {found.reuse:g}")
    return found, bool(chosen), measuring


def main(arguments: list[str]) -> None:
    """Write the page, or print it for other parameters."""
    chosen, other, measuring = parameters(arguments)
    if measuring:
        (RESULTS / "scale.json").write_text(json.dumps(measure(), indent=1) + "\n")
    text = render(load(), chosen)
    if other:
        print(text, end="")
    else:
        PAGE.write_text(text, encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
