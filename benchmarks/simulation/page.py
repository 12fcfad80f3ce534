"""The page: docs/simulation.rst and its plots, from the figures of a run and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["render", "write"]

HEAD = """\
.. Written by "python benchmarks/simulation"; do not edit.

===========================
The schedule, in simulation
===========================

What the schedule does to a million URLs on ten thousand hosts is not tried on the world.  Here the real schedule and
the real strategies (the same code as in a run) are driven by a clock of numbers, and the hosts are made up: quick,
slow, dead, flapping, and limited in the two ways that servers limit.  There are no sockets and no waiting, so an hour
takes seconds.

Measured by one command on {date}, on {system}; nothing is written by hand.
"""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A list-table."""
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if not number else '  -'} {cell}" for number, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def render(figures: dict[str, Any]) -> str:
    """The text of the page."""
    parts = [HEAD.format(**figures), _rates(figures["rates"]), _hiccup(figures["hiccup"])]
    parts += [_neighbours(figures["neighbours"]), _mixed(figures["mixed"]), _decisions(figures["decisions"])]
    parts += [_extrapolated(figures), TAIL]
    return "\n".join(parts)


def _rates(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            f"{row['per_second']}/s, {row['kind']}",
            f"{1000 * row['latency']:g} ms",
            f"{100 * row['first']:.1f} %",
            f"{100 * row['after']:.1f} %",
            f"{100 * row['later']:.2f} %",
        )
        for row in rows
    ]
    return (
        """
Finding a host's rate
=====================

A host admits so many requests a second, and answers 429 with ``Retry-After: 1`` beyond.  *In any second*: it counts
the last second.  *Bucket*: what it allows flows into a bucket that holds so much, and each request takes one out.
``Adaptive`` is told nothing, and begins with 20 a second.  The columns are the share of the allowed rate that is used
in the first 15 s and in the 45 s after, and the share of answers that were a 429.
"""
        + table(("The host allows", "Answers in", "First 15 s", "After", "429"), cells)
        + """
.. image:: _static/rates.svg
   :alt: Requests per second over time, for hosts that admit 20, 100 and 500 a second

A 429 with a Retry-After costs a second without any request; so a limit is tried again only after 25 s, and then after
twice as long each time that it is found where it was.  A small bucket refuses before it can be told from one that is
counted by the second, and the first seconds go into that.
"""
    )


def _hiccup(row: dict[str, Any]) -> str:
    return f"""
One hiccup
==========

A host that bears anything says "later" once, after 10 s, and never again.  In the 49 s after it,
{100 * row["kept"]:.1f} % of the requests are made that are made without it.
"""


def _neighbours(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            row["strategy"],
            row["dead"],
            f"{1000 * row['latency']:g} ms",
            f"{row['alone']:.1f} s",
            f"{row['beside']:.1f} s",
            f"{row['ratio']:.2f}",
        )
        for row in rows
    ]
    return (
        """
Dead and slow neighbours
========================

20 URLs on each of 1,000 hosts, shuffled.  A tenth of the hosts is dead, a tenth takes 2 s for an answer.  How long do
the other 800 take, alone and beside these?
"""
        + table(("Strategy", "The dead ones", "The quick ones answer in", "Alone", "Beside", "Ratio"), cells)
        + """
Where the dead refuse the connection, they cost next to nothing.  Where they accept it and say nothing, each of them
holds a slot until ``timeout`` is over, and no client can know before: with 100 such hosts, 64 slots are too few.  Give
more slots, or a shorter ``timeout``.
"""
    )


def _mixed(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            f"{row['urls']:,} on {row['hosts']:,}",
            f"{row['wall']:.0f} s",
            f"{row['seconds']:,.0f} s",
            f"{100 * row['throughput']:.1f} %",
            f"{row['most_active']} of {row['per_host']}",
            f"{100 * row['later']:.2f} %",
            f"{row['unserved']}",
            f"{row['waiting']:,}",
        )
        for row in rows
    ]
    last = rows[-1]
    memory = [value for at, value in last["memory"] if at >= last["urls"] // 10]
    return (
        f"""
A million URLs on ten thousand hosts
====================================

The k-th most popular host has a share of 1/k.  Half of the hosts are quick, three tenths limited (20, 50 or 100 a
second, in either way), a tenth slow, the rest dead or flapping; ``Adaptive``, {last["concurrent"]} requests at once.
*Best* is the least time that the hosts' limits and the slots allow, over the time that it took.  *Unserved* are hosts
that would have answered and were never asked.
"""
        + table(
            ("URLs", "It took", "Simulated", "Of the best", "Most at once", "429", "Unserved", "Most waiting"), cells
        )
        + f"""
The memory of the process grows by {max(memory) - min(memory):.1f} MiB from a tenth of the largest run to its end
(its list of outcomes is kept by the simulation, not by the schedule).
"""
    )


def _decisions(rows: list[dict[str, Any]]) -> str:
    cells = [
        (
            f"{row['waiting']:,.0f}",
            f"{row['hosts']:,.0f}",
            f"{1e6 * row['seconds']:.1f} us",
            f"{row['bytes']:.0f}",
        )
        for row in rows
    ]
    return """
What a decision costs
=====================

To put a bundle in, choose one, and take its slot back, with so many waiting for so many hosts:
""" + table(("Bundles that wait", "Hosts", "One decision", "Bytes for each that waits"), cells)


def _extrapolated(figures: dict[str, Any]) -> str:
    small, large = figures["mixed"][-2:]
    small_per_url, per_url = (1e6 * one["wall"] / one["urls"] for one in (small, large))
    slowest = max(row["seconds"] for row in figures["decisions"])
    return f"""
A hundred million
=================

*Extrapolated, not measured.*  From {small["urls"]:,} to {large["urls"]:,} URLs the simulation's time per URL went from
{small_per_url:.0f} to {per_url:.0f} us, simulated servers included, and the bundles that wait at a time are bounded
(10,000), as is the memory.  The schedule itself took at most {1e6 * slowest:.0f} us for a decision: 100,000,000 URLs
would be {1e8 * slowest / 60:.0f} minutes of its work, spread over a run that the hosts bound.  A host that allows 100
requests a second serves 8,640,000 a day, so the largest host, and not the schedule, says how long it takes.
"""


TAIL = """
Do it again
===========

.. code-block:: sh

    python benchmarks/simulation           # some minutes; writes this page
    python benchmarks/simulation --quick   # a tenth of the URLs; prints the figures
"""


def write(figures: dict[str, Any], path: Path) -> None:
    """Write the page and its plots.

    :raises SystemExit: without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("the plots need matplotlib: pip install matplotlib") from None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "aiodownload"
    from matplotlib import pyplot

    path.write_text(render(figures))
    static = path.parent / "_static"
    static.mkdir(exist_ok=True)
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3), sharex=True)
    for axis, per_second in zip(axes, (20, 100, 500), strict=True):
        for row in figures["rates"]:
            if row["per_second"] == per_second and row["latency"] == 0.02:
                axis.plot(row["curve"], label=row["kind"], linewidth=1)
        axis.axhline(per_second, color="black", linewidth=0.5)
        axis.set_title(f"{per_second}/s allowed, 20 ms")
        axis.set_xlabel("seconds")
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("good answers per second")
    axes[0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(static / "rates.svg", metadata={"Date": None})
