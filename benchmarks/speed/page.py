"""The page: docs/speed.rst and its plots, from the figures of a run and nothing else."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

__all__ = ["PROMISED", "render", "write"]

HEAD = """\
.. Written by "python benchmarks/speed"; do not edit.

=====
Speed
=====

Ours and the peers at the same work, at the same concurrency, as whole processes: their start and their end are in the
figures.  They run in turn against one nginx on loopback (Debian's, one process), and the ratio is taken pair by pair;
the columns show the median and the range of these ratios.  After each run every file's SHA-256 is compared.

**Less than 1 means that aiodownload took less time.**  The goals are for whole processes.  Of ours, a good part is the
start of Python and ``import aiohttp``, which a program of yours that uses the library has had already: what the call
``aiodownload.swarm(urls)`` takes in it, by the time of the peer's whole process, is in the third column.

Ours runs with what it does by default: lengths verified, files published by a rename, records of large files kept.
"Not slower" is a median of at most 1.1.

Measured on {system}.  On so small a machine the server and the client share the cores, so what counts is the work per
file and not the waiting for a network; where there is a network, the differences are smaller.  It is a virtual machine,
whose speed changes with what its neighbours do: compare within a table, and not one table, or one day, with another.

To repeat it, in a checkout, with nginx-light, curl, wget, wget2, aria2, axel and wrk from Debian::

    pip install -e .[test] matplotlib
    python benchmarks/speed            # all of it, most of an hour
    python benchmarks/speed --quick    # a look, within three minutes
"""

PROMISED = {
    ("small", "bare aiohttp loop"): 1 / 0.85,
    ("small", "aria2c"): 1.0,
    ("small", "parfive"): 0.2,
    ("small", "pypdl"): 0.2,
    ("disk", "curl"): 1.1,
    ("disk", "wget2"): 1.1,
    ("fresh", "curl"): 1.1,
    ("fresh", "wget2"): 1.1,
    ("medium", "curl"): 1.1,
    ("large", "curl"): 1.1,
    ("large", "wget2"): 1.1,
    ("tls", "curl"): 1.1,
}
"""The most that the ratio of a work may be, and why it matters whether a peer is ahead."""

PAIRED = ("small", "disk", "fresh", "medium", "large", "tls")

SAID = {
    "disk": """
The files of each run are deleted before the next one begins.  For a new file, ext4 steps over every inode that was
freed within the last minute (``recently_deleted`` in its ``ialloc.c``): here that takes longer than all the rest.
""",
    "fresh": """
The same where nothing was deleted for a minute, and all that was written before is on the disk.
""",
}
"""What is to be known of a work."""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A list-table."""
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if not number else '  -'} {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def heading(text: str, line: str = "=") -> str:
    return f"\n{text}\n{line * len(text)}\n"


def render(figures: dict[str, Any]) -> str:
    """The text of the page."""
    works = figures["works"]
    parts = [HEAD.format(**figures)]
    parts += [_paired(name, works[name]) for name in PAIRED if name in works]
    parts += [part(works[name]) for name, part in _SPECIAL.items() if name in works]
    parts.append(_programs(figures))
    return "\n".join(parts)


def _paired(name: str, work: dict[str, Any]) -> str:
    each = work["files"] > 1
    memory = all("their_peak" in row for row in work["rows"] if "failed" not in row)
    rows: list[tuple[str, ...]] = []
    for row in work["rows"]:
        if "failed" in row:
            rows.append(
                (
                    row["program"],
                    f"did not do the work: {row['failed'].split(chr(10))[0]}",
                    *[""] * (6 if memory else 5),
                )
            )
            continue
        goal = PROMISED.get((name, row["program"]))
        verdict = "" if goal is None else f"{goal:.3g}: {'kept' if row['ratio'] <= goal else 'missed'}"
        alone = row.get("call")  # absent from the figures of an earlier run
        if goal is not None and alone is not None and alone <= goal < row["ratio"]:
            verdict += ", kept by the call alone"
        rows.append(
            (
                row["program"],
                f"{row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f})",
                "" if alone is None else f"{alone:.2f}",
                verdict,
                _amount(work, row["theirs"]),
                _amount(work, row["ours"]),
                f"{1e6 * row['their_cpu'] / work['files']:.0f} µs" if each else f"{row['their_cpu']:.2f} s",
                *([f"{row['their_peak']:.0f} MiB"] if memory else []),
            )
        )
    head = (
        "Program",
        "Our time by its time",
        "Our call alone",
        "Goal",
        "It",
        "We",
        "Its CPU" + (" per file" if each else ""),
        *(["Its memory"] if memory else []),
    )
    done = [row for row in work["rows"] if "failed" not in row]
    text = heading(work["title"]) + SAID.get(name, "") + table(head, rows)
    if done:
        cpu = sorted(row["our_cpu"] for row in done)[len(done) // 2]
        ours = f"{1e6 * cpu / work['files']:.0f} µs of CPU per file" if each else f"{cpu:.2f} s of CPU"
        held = f", and {max(row['our_peak'] for row in done):.0f} MiB at most" if memory else ""
        text += f"\nOurs takes {ours}{held}."
    if "start" in work:
        text += (
            f"  Of its time, {work['start']:.2f} s are its start and its end with nothing to do, most of that "
            f"``import aiohttp`` ({work['aiohttp']:.2f} s)."
        )
    if work.get("server"):
        text += f"  The server answers {work['server']:,.0f} such requests a second to wrk, which keeps nothing."
    return text + f"  {len(done[0]['runs']) if done else 0} pairs each, measured on {work['date']}.\n"


def _amount(work: dict[str, Any], seconds: float) -> str:
    if work["files"] > 1 and work["size"] < 1 << 20:
        return f"{work['files'] / seconds:,.0f} files/s"
    return f"{work['files'] * work['size'] / seconds / (1 << 20):,.0f} MiB/s"


def _latency(work: dict[str, Any]) -> str:
    rows = [
        (
            row["program"],
            f"{row['wall']:.2f} s",
            f"{row['wall'] / work['ideal']:.2f}",
            f"{row['call']:.2f} s" if row["call"] != row["wall"] else "",
            f"{row['call'] / work['ideal']:.2f}" if row["call"] != row["wall"] else "",
        )
        for row in work["rows"]
        if "failed" not in row
    ]
    return (
        heading("Waiting for a slow server")
        + f"""
{work["files"]:,} files from a server that takes {1000 * work["seconds"]:.0f} ms for each answer,
{work["concurrent"]} at once: ideally {work["ideal"]:.1f} s.  Goal: 1.25.  The last two columns are without the start
and the end of Python.
"""
        + table(("Program", "Whole process", "By the ideal", "The call", "By the ideal"), rows)
    )


def _stream(work: dict[str, Any]) -> str:
    large = max(work["runs"], key=lambda run: run["count"])
    small = statistics.median(run["count"] / run["points"][-1][1] for run in work["runs"] if run is not large)
    rate = large["count"] / large["points"][-1][1]
    later = [held for done, _, held in large["points"] if done >= large["count"] / 10]
    return (
        heading("A million URLs")
        + f"""
{large["count"]:,} URLs of a generator through ``each``, {work["size"] >> 10} KiB each, whose consumer deletes each
file: {rate:,.0f} files/s, beside {small:,.0f} files/s for 10,000 of them ({rate / small:.2f}, goal: 0.9).  The process
holds at most {max(point[2] for point in large["points"]):.0f} MiB (goal: 150), and between {min(later):.1f} and
{max(later):.1f} MiB from the first tenth on.

.. image:: _static/speed-memory.svg
   :alt: Memory over the number of files
"""
    )


def _scaling(work: dict[str, Any]) -> str:
    return (
        heading("More files, and more at once")
        + """
.. image:: _static/speed-scaling.svg
   :alt: Files per second by the number of files, and by how many are fetched at once

Whole processes, medians of three, 10 KiB each; on the left 16 at once, on the right 4,000 files.
"""
    )


def _segments(work: dict[str, Any]) -> str:
    rows = [
        (
            str(row["segments"]),
            row["program"],
            f"{row['wall']:.2f} s",
            f"{100 * row['share']:.1f} %",
            f"{100 * row['call']:.1f} %" if "call" in row else "",
        )
        for row in work["rows"]
        if "failed" not in row
    ]
    return (
        heading("One file by several requests")
        + f"""
{work["size"] >> 20:,} MiB from a server that gives each connection {work["each"] >> 20} MiB/s.  ``segments`` has to be
asked for.  Goal: 90 %.
"""
        + table(("Requests at once", "Program", "Wall time", "Of what the connections give", "The call alone"), rows)
    )


def _profile(work: dict[str, Any]) -> str:
    rows = [
        (name, f"{part['calls']:.0f}", f"{100 * part['share']:.0f} %")
        for name, part in sorted(work["parts"].items(), key=lambda one: -one[1]["share"])
    ]
    return (
        heading("Where the time goes")
        + f"""
curl, wget2 and aria2c are written in C and C++, and stay ahead where files are small: what one file takes is then work
of the processor, and ours is done by Python.  ``cProfile`` over {work["files"]:,} files of 10 KiB, 16 at once, sees
{sum(part["calls"] for part in work["parts"].values()):.0f} calls for each of them on the thread of the event loop.  (It
makes what consists of many small calls look dearer than it is.)
"""
        + table(("Part", "Calls per file", "Share of the time"), rows)
    )


def _imports(work: dict[str, Any]) -> str:
    return (
        heading("Import")
        + f"""
``import aiodownload`` takes {work["ratio"]:.2f} times as long as ``import aiohttp``
({work["least"]:.2f} to {work["most"]:.2f} in {len(work["runs"])} pairs; goal: 1.15).
"""
    )


def _requests(work: dict[str, Any]) -> str:
    asked = ", ".join(f"{count:,} {method}" for method, count in sorted(work["methods"].items()))
    return (
        heading("What the server sees")
        + f"""
{work["files"]:,} small files, 16 at once: {asked}, over {work["connections"]} connections.
"""
    )


def _halves(work: dict[str, Any]) -> str:
    return (
        heading("Two processes")
        + f"""
Two processes with half of {work["files"]:,} files each have {work["ratio"]:.2f} times the files per second of one with
all of them ({work["least"]:.2f} to {work["most"]:.2f}).
"""
    )


_SPECIAL = {
    "latency": _latency,
    "stream": _stream,
    "scaling": _scaling,
    "segments": _segments,
    "profile": _profile,
    "imports": _imports,
    "requests": _requests,
    "halves": _halves,
}


def _programs(figures: dict[str, Any]) -> str:
    rows = [(name, figures["versions"][name] or "absent", f"``{shown}``") for name, shown in figures["shown"].items()]
    return heading("The programs") + table(("Program", "Version", "How it is asked, N at once"), rows)


def write(figures: dict[str, Any], docs: Path) -> None:
    """Write the page and its plots."""
    (docs / "speed.rst").write_text(render(figures))
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "aiodownload"
    works = figures["works"]
    if "stream" in works:
        _plot_memory(works["stream"], docs / "_static" / "speed-memory.svg")
    if "scaling" in works:
        _plot_scaling(works["scaling"], docs / "_static" / "speed-scaling.svg")


def _plot_memory(work: dict[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    points = max(work["runs"], key=lambda run: run["count"])["points"]
    figure, axes = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
    axes.plot([done for done, _, _ in points], [held for _, _, held in points])
    axes.set(xlabel="files", ylabel="MiB", ylim=(0, 160))
    axes.axhline(150, linestyle=":", color="grey")
    axes.ticklabel_format(axis="x", style="plain")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _plot_scaling(work: dict[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
    for axes, by, key in zip(both, ("files", "at once"), ("files", "concurrent"), strict=True):
        for program in dict.fromkeys(row["program"] for row in work["rows"]):
            rows = [row for row in work["rows"] if row["by"] == by and row["program"] == program]
            axes.plot(
                [row[key] for row in rows], [row["files"] / row["wall"] for row in rows], marker=".", label=program
            )
        axes.set(xscale="log", yscale="log", xlabel=by)
    both[0].set_ylabel("files per second")
    both[0].legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
