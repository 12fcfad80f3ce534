"""Progress: what is counted, what is shown and where, and that showing it harms nobody."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pty
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Quick

import aiodownload
from aiodownload import (
    AioDownload,
    AioDownloadBundle,
    Attempted,
    HostPaused,
    Received,
    Receiving,
    RetryScheduled,
    RunFinished,
    RunStarted,
    Settled,
    Status,
)
from aiodownload.errors import StatusError
from aiodownload.observers.tally import Tally
from aiodownload.observers.words import bytes_text, time_text
from aiodownload.testing import FaultServer, cut, ok, ranged, status

MIB = 1 << 20


class Noting:
    """An observer that keeps what it is told."""

    def __init__(self, *events: type) -> None:
        self.told: list[Any] = []
        if events:
            self.event_types = events

    def on_event(self, event: Any) -> None:
        self.told.append(event)

    def of(self, kind: type) -> list[Any]:
        """What of a kind it was told."""
        return [event for event in self.told if type(event) is kind]


# Events


def test_the_events_of_one_download_in_order(server: FaultServer, quick: Any) -> None:
    """From the start of the run to its end, with each try and each body in between."""
    body = os.urandom(300_000)
    noting = Noting()
    aiodownload.one(server.on("/f", status(503), ok(body)), quick(), progress=noting)
    kinds = [type(event) for event in noting.told if type(event) is not Received]
    assert kinds == [RunStarted, Attempted, RetryScheduled, Attempted, Receiving, Settled, RunFinished]
    assert noting.told[0].total == 1
    (receiving,) = noting.of(Receiving)
    assert (receiving.total, receiving.held) == (len(body), 0)
    assert sum(event.count for event in noting.of(Received)) == len(body)


def test_only_what_is_wanted_is_told(server: FaultServer, quick: Any) -> None:
    """An observer's ``event_types`` says which."""
    noting = Noting(Settled, RunFinished)
    aiodownload.swarm([server.on("/f", ok()), server.on("/g", ok())], quick(), progress=noting)
    assert [type(event) for event in noting.told] == [Settled, Settled, RunFinished]


@pytest.mark.parametrize("events", [(int,), "Settled", 7, (Settled, None)])
def test_events_that_there_are_not(events: Any) -> None:
    """A wrong ``event_types`` is said when the observer is given."""
    noting = Noting()
    noting.event_types = events
    with pytest.raises(aiodownload.ConfigurationError, match=r"event_types of .* must be a tuple of event classes"):
        AioDownload(observers=[noting])


@pytest.mark.parametrize(("given", "total"), [(list, 3), (tuple, 3), (dict.fromkeys, 3), (iter, None)])
def test_the_total_is_what_the_input_tells(server: FaultServer, quick: Any, given: Any, total: int | None) -> None:
    """Whatever has a length has a total."""
    urls = [server.on(f"/{number}", ok()) for number in range(3)]
    noting = Noting(RunStarted)
    assert len(list(aiodownload.each(given(urls), download=quick(), progress=noting))) == 3
    assert [event.total for event in noting.told] == [total]


def test_a_length_that_raises_is_none(server: FaultServer, quick: Any) -> None:
    """Nothing depends on it."""

    class Odd(list[str]):
        def __len__(self) -> int:
            raise ZeroDivisionError

    noting = Noting(RunStarted)
    bundles = aiodownload.swarm(Odd([server.on("/f", ok())]), quick(), progress=noting)
    assert [bundle.ok for bundle in bundles] == [True]
    assert noting.told == [RunStarted(None)]


def test_what_was_held_is_told(server: FaultServer, quick: Any) -> None:
    """A download that goes on with an earlier try says how much of it is there."""
    body = os.urandom(3 * MIB)
    noting = Noting(Receiving, Received)
    url = server.on("/f", ranged(body, cut=2 * MIB), ranged(body))
    assert aiodownload.one(url, quick(), progress=noting).ok
    first, second = noting.of(Receiving)
    assert (first.total, first.held) == (len(body), 0)
    assert second.total == len(body)
    assert 0 < second.held <= 2 * MIB
    after = noting.told[noting.told.index(second) + 1 :]
    assert sum(event.count for event in after) == len(body) - second.held


def test_bytes_of_all_segments_are_told(server: FaultServer, quick: Any, home: Path) -> None:
    """Once each, whichever answer they come in."""
    body = os.urandom(17 * MIB)
    noting = Noting(Received)
    download = quick(Quick(concurrent=4, timeout=5), aiodownload.DownloadStrategy(home=home, segments=4))
    assert aiodownload.one(server.on("/f", ranged(body)), download, progress=noting).ok
    assert len(body) <= sum(event.count for event in noting.told) <= len(body) + 4 * MIB  # what two of them read


def test_an_own_on_success_is_heard_too(server: FaultServer, quick: Any, home: Path) -> None:
    """Bytes that an override reads by itself count like any others."""

    class Reads(aiodownload.DownloadStrategy):
        async def on_success(self, response: Any, bundle: AioDownloadBundle) -> None:
            bundle.info = await response.read()

    noting = Noting(Received)
    bundle = aiodownload.one(server.on("/f", ok(b"x" * 100_000)), quick(None, Reads(home=home)), progress=noting)
    assert bundle.info == b"x" * 100_000
    assert sum(event.count for event in noting.told) == 100_000


def test_a_pause_is_told_with_its_reason(server: FaultServer, quick: Any) -> None:
    """A host that asks for time, by the header."""
    noting = Noting(HostPaused)
    aiodownload.one(server.on("/f", status(429, Retry_After="1"), ok()), quick(), progress=noting)
    assert noting.told[0].host == server.url("").rstrip("/")
    assert 0 < noting.told[0].seconds <= 1
    assert "429" in noting.told[0].reason
    assert "Retry-After: 1 s" in noting.told[0].reason


def test_a_used_up_quota_is_told(server: FaultServer, quick: Any) -> None:
    """By the RateLimit fields."""
    noting = Noting(HostPaused)
    url = server.on("/f", ok(b"x", X_RateLimit_Remaining="0", X_RateLimit_Reset="1"))
    assert aiodownload.one(url, quick(), progress=noting).ok
    assert [event.reason for event in noting.told] == ["by its RateLimit fields the quota is used up"]


async def test_observers_are_closed_where_they_may_block(server: FaultServer, quick: Any) -> None:
    """Once, off the event loop, when the AioDownload is left; one that raises is logged."""
    threads = []

    class Closing(Noting):
        def close(self) -> None:
            threads.append(threading.current_thread())
            raise ZeroDivisionError

    async with quick(observers=[Closing()]) as download:
        await download.swarm([server.on("/f", ok())])
        await download.swarm([server.on("/f", ok())])
        assert not threads
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


# The tally


class Clock:
    """Goes when it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def settled(status: Status, size: int | None = None, error: Any = None) -> AioDownloadBundle:
    bundle = AioDownloadBundle("http://user:secret@host.test/a/file.bin?x=1")
    bundle.status, bundle.size, bundle.error = status, size, error
    return bundle


def test_the_tally_counts() -> None:
    """Outcomes, retries, waiting and active ones."""
    clock = Clock()
    tally = Tally(clock)
    done, failed = settled(Status.DONE), settled(Status.FAILED, error=StatusError("status 404", 404))
    for event in (RunStarted(3), Attempted(done), Attempted(failed), RetryScheduled(failed, 1, StatusError("x", 503))):
        tally.add(event)
    assert (len(tally.active), tally.waiting, tally.retries) == (1, 1, 1)
    tally.add(Attempted(failed))
    assert (len(tally.active), tally.waiting) == (2, 0)
    for bundle in (done, failed, settled(Status.CACHED)):
        tally.add(Settled(bundle))
    assert (tally.done, tally.failed, tally.cached, tally.settled, len(tally.active)) == (1, 1, 1, 3, 0)
    assert tally.last_error is not None
    assert "secret" not in tally.last_error
    clock.now += 4
    tally.add(RunFinished())
    clock.now += 50
    assert tally.elapsed == 4


def test_a_bundle_that_fails_while_it_waits_waits_no_more() -> None:
    """A deadline or a host that is given up ends the wait."""
    tally = Tally(Clock())
    bundle = settled(Status.FAILED)
    for event in (RunStarted(1), Attempted(bundle), RetryScheduled(bundle, 1, StatusError("x", 503)), Settled(bundle)):
        tally.add(event)
    assert tally.waiting == 0


def test_rates_and_the_rest_by_bytes() -> None:
    """Ten files of one size, one of them there, one half there: eight and a half to go at the rate so far."""
    clock = Clock()
    tally = Tally(clock)
    tally.add(RunStarted(10))
    for received in (1000, 500):
        bundle = settled(Status.DONE)
        tally.add(Attempted(bundle))
        tally.add(Receiving(bundle, 1000, 0))
        clock.now += 5
        tally.add(Received(bundle, received))
        if received == 1000:
            tally.add(Settled(bundle))
    assert tally.rates() == (pytest.approx(150), pytest.approx(0.1))
    assert tally.remaining() == pytest.approx(8500 / 150)
    (transfer,) = tally.longest(5)
    assert (transfer.name, transfer.received, transfer.total) == ("file.bin", 500, 1000)


def test_the_rest_by_number_where_no_bytes_come() -> None:
    """All of them fail: their number tells how long the rest takes.  An unknown total tells nothing."""
    for total, rest in ((100, 80 / 2), (None, None)):
        clock = Clock()
        tally = Tally(clock)
        tally.add(RunStarted(total))
        for _ in range(20):
            clock.now += 0.5
            tally.add(Settled(settled(Status.FAILED)))
        assert tally.remaining() == (pytest.approx(rest) if rest else None)


def test_what_waits_is_told_with_its_reason() -> None:
    """The soonest first; the time that is left is no less than the longest wait."""
    clock = Clock()
    tally = Tally(clock)
    tally.add(RunStarted(4))
    clock.now += 1
    tally.add(Settled(settled(Status.DONE, 10)))
    bundles = [settled(Status.ATTEMPTED) for _ in range(3)]
    for bundle, delay in zip(bundles, (60.0, 5.0, 0.1), strict=True):
        tally.add(Attempted(bundle))
        tally.add(RetryScheduled(bundle, delay, StatusError("status 503 \x1b[1m", 503)))
    waits, count = tally.waits(5)
    assert (count, tally.waiting) == (2, 3)
    assert [(one.name, one.reason, seconds) for one, seconds in waits] == [
        ("file.bin", "status 503 \\x1b[1m", 5.0),
        ("file.bin", "status 503 \\x1b[1m", 60.0),
    ]
    assert tally.remaining() == 60


def test_old_moments_do_not_count() -> None:
    """The rate is that of the last ten seconds."""
    clock = Clock()
    tally = Tally(clock)
    tally.add(RunStarted(None))
    bundle = settled(Status.DONE)
    tally.add(Attempted(bundle))
    for count in (*[1000] * 20, *[10] * 30):
        clock.now += 1
        tally.add(Received(bundle, count))
    assert tally.rates()[0] == pytest.approx(10)
    clock.now += 100
    assert tally.rates()[0] == 0


def test_a_restart_from_the_beginning_forgets_what_came() -> None:
    """The bytes of a body that is thrown away count as come, and not as there."""
    tally = Tally(Clock())
    bundle = settled(Status.DONE)
    for event in (RunStarted(1), Attempted(bundle), Receiving(bundle, 100, 0), Received(bundle, 60)):
        tally.add(event)
    tally.add(Receiving(bundle, 90, 0))
    (transfer,) = tally.longest(1)
    assert (transfer.received, transfer.total, tally.bytes) == (0, 90, 60)


def test_pauses_run_out_and_are_bounded() -> None:
    """The longest come first; hosts beyond the bound are forgotten, the oldest first."""
    clock = Clock()
    tally = Tally(clock)
    for number in range(200):
        tally.add(HostPaused(f"http://h{number}", number, "busy\x1b[31m"))
    first, count = tally.pauses(2)
    assert ([pause.host for pause, _ in first], count) == (["http://h199", "http://h198"], 100)
    assert "\x1b" not in first[0][0].reason
    clock.now += 198.5
    assert tally.pauses(2)[1] == 1
    clock.now += 1
    assert tally.pauses(2) == ([], 0)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5e15, "5000 TB")]
)
def test_bytes_in_words(count: float, text: str) -> None:
    """Decimal units, as curl and browsers have them."""
    assert bytes_text(count) == text


def test_seconds_in_words() -> None:
    """Hours are not cut."""
    assert [time_text(seconds) for seconds in (0, 83.4, 360_000)] == ["0:00:00", "0:01:23", "100:00:00"]


# Displays


def test_lines_where_there_is_no_terminal(server: FaultServer, quick: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """progress=True writes a line at the end, to standard error; nothing else is written, no thread is left."""
    urls = [server.on("/a", ok(b"x" * 2000)), server.url("/missing"), server.on("/b", cut(b"y" * 9, 4), ok(b"y"))]
    aiodownload.swarm(urls, quick(), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("aiodownload: 3 of 3 in 0:00:0")
    for word in ("2 done", "1 failed", "1 retry", "2.0 kB"):
        assert word in line
    assert not [thread for thread in threading.enumerate() if "progress" in thread.name]


def test_lines_come_now_and_then(
    server: FaultServer, quick: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while nothing happens; the end says how it ended."""
    monkeypatch.setattr("aiodownload.observers.progress._Lines.interval", 0.05)
    url = server.on("/f", status(429, Retry_After="1"), ok())
    aiodownload.one(url, quick(), progress="lines")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 5
    assert any("paused for 1 s: http://127.0.0.1" in line and "(status 429" in line for line in lines)
    assert lines[-1].startswith("aiodownload: 1 of 1")


@pytest.mark.parametrize("display", ["rich", "tqdm", "lines"])
def test_each_display_to_a_file(server: FaultServer, quick: Any, display: str) -> None:
    """Whichever is named, where it is told to go."""
    file = io.StringIO()
    shown = aiodownload.Progress(display, file)
    bundles = aiodownload.swarm([server.on("/f", ok(b"x" * 5000)), server.url("/no[red]")], quick(), progress=shown)
    assert [bundle.ok for bundle in bundles] == [True, False]
    assert "2 of 2" in file.getvalue() or "2/2" in file.getvalue()
    assert "1 failed" in file.getvalue()


def test_a_display_is_used_again(server: FaultServer, quick: Any) -> None:
    """Each run begins at nothing; two at once are counted together."""
    file = io.StringIO()
    shown = aiodownload.Progress("lines", file)
    for _ in range(2):
        aiodownload.swarm([server.on("/f", ok())], quick(), progress=shown)

    async def two() -> None:
        async with quick(observers=[shown]) as download:
            await asyncio.gather(download.swarm([server.url("/f")]), download.swarm([server.url("/f"), "no url"]))

    asyncio.run(two())
    assert [line.split()[1:4] for line in file.getvalue().splitlines()] == [
        ["1", "of", "1"],
        ["1", "of", "1"],
        ["3", "of", "3"],
    ]


class Shown:
    """A display of a user's own."""

    interval = 0.01

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.looks: list[int] = []
        self.finished = 0

    def show(self, tally: Tally) -> None:
        if self.fails:
            raise OSError("no terminal any more")
        self.looks.append(tally.settled)

    def finish(self, tally: Tally) -> None:
        self.finished = tally.settled


def test_a_display_of_ones_own(server: FaultServer, quick: Any) -> None:
    """Anything with the two methods."""
    shown = Shown()
    for _ in aiodownload.each(
        [server.url(f"/{n}") for n in range(5)], None, quick(), progress=aiodownload.Progress(shown)
    ):
        time.sleep(0.02)
    assert shown.finished == 5
    assert shown.looks == sorted(shown.looks)


def test_a_display_that_fails_harms_nobody(server: FaultServer, quick: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, the downloads go on."""
    with caplog.at_level(logging.ERROR, "aiodownload"):
        url = server.on("/f", status(429, Retry_After="1"), ok())
        assert aiodownload.one(url, quick(), progress=aiodownload.Progress(Shown(fails=True))).ok
    assert "can not be shown" in caplog.text


def test_left_early_it_ends(server: FaultServer, quick: Any) -> None:
    """Leaving ``each`` ends the display and its thread."""
    shown = Shown()
    urls = (server.url(f"/{number}") for number in range(1000))
    for _ in aiodownload.each(urls, download=quick(), progress=aiodownload.Progress(shown)):
        break
    deadline = time.monotonic() + 5
    while any("progress" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("progress", ["bar", 1, object(), print])
def test_no_such_progress(progress: Any) -> None:
    """What is no display and no observer is refused before anything is asked."""
    with pytest.raises(aiodownload.ConfigurationError, match=r"progress|observers"):
        aiodownload.swarm(["http://127.0.0.1:9/"], progress=progress)


@pytest.mark.parametrize(("display", "package"), [("rich", "rich.console"), ("tqdm", "tqdm.auto")])
def test_a_missing_extra_is_named(display: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it; "auto" takes what there is."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(aiodownload.MissingExtraError, match=r"pip install 'aiodownload\[progress\]'"):
        aiodownload.swarm([], progress=display)
    assert aiodownload.swarm([], progress=True) == []


PROGRAM = """
import sys, aiodownload
class Quick(aiodownload.RequestStrategy):
    pass
download = aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home=sys.argv[1]), Quick(timeout=5))
for bundle in aiodownload.each(sys.argv[2:], download=download, progress=True):
    print("here: " + bundle.url.rpartition("/")[2], flush=True)
"""


def in_terminal(program: str, *arguments: str) -> str:
    """What a program writes to its terminal, which is a real one."""
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": "1"},
    )
    os.close(terminal)
    shown = b""
    with process:
        try:
            while True:
                shown += os.read(master, 1 << 16)
        except OSError:  # the end of a terminal
            pass
    os.close(master)
    assert process.returncode == 0, shown[-2000:]
    return shown.decode()


def test_a_terminal(server: FaultServer, tmp_path: Path) -> None:
    """A real one: a display that redraws itself, the program's own lines in one piece above it, the end below."""
    urls = [server.on(f"/file{number}", ok(b"x" * 1000)) for number in range(3)]
    shown = in_terminal(PROGRAM, str(tmp_path), *urls)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "3 of 3" in text
    for number in range(3):
        assert f"here: file{number}" in text
    assert "\x1b[?25h" in shown  # the cursor is there again


PRINTING = """
import sys, threading
from aiodownload import Progress, RunFinished, RunStarted
printing = threading.Event()
def runs():
    printing.wait()
    for _ in range(100):
        progress = Progress("rich")
        progress.on_event(RunStarted(None))
        progress.on_event(RunFinished())
        progress.close()
thread = threading.Thread(target=runs)
thread.start()
count = 0
while thread.is_alive():
    print("line", count, ".", flush=True)
    count += 1
    printing.set()
print("lines:", count)
"""


def test_a_program_that_prints_while_displays_come_and_go() -> None:
    """print() goes on with what stood in for standard output although the display has ended; no line is lost.

    A display that begins or ends amid a line may stand in it.
    """
    shown = in_terminal(PRINTING)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    count = re.search(r"lines: (\d+)", text)
    assert count is not None, text[-2000:]
    assert int(count[1]) - len(re.findall(r"line \d+ \.", text)) <= 2 * 100


NOTEBOOK = """
import aiodownload
download = aiodownload.AioDownload(None, aiodownload.DownloadStrategy(home={home!r}), aiodownload.RequestStrategy(4))
bundles = aiodownload.swarm({urls!r}, download, progress=True)
bundles
"""


def test_a_notebook(server: FaultServer, tmp_path: Path) -> None:
    """A real kernel, whose event loop runs: a bar as a widget, a table of the outcomes, a data frame."""
    import nbformat
    from nbclient import NotebookClient

    urls = [server.on(f"/file{number}", ok(b"x" * 1000)) for number in range(3)] + [server.url("/<b>missing")]
    book = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    book.cells = [
        nbformat.v4.new_code_cell(NOTEBOOK.format(home=str(tmp_path), urls=urls)),  # type: ignore[no-untyped-call]
        nbformat.v4.new_code_cell("bundles[0]"),  # type: ignore[no-untyped-call]
        nbformat.v4.new_code_cell("aiodownload.to_dataframe(bundles)"),  # type: ignore[no-untyped-call]
    ]
    NotebookClient(book, timeout=40, kernel_name="python3").execute()
    first, second, third = ([output for output in cell.outputs if "data" in output] for cell in book.cells)
    assert any("application/vnd.jupyter.widget-view+json" in output["data"] for output in first)
    (table,) = [output["data"]["text/html"] for output in first if "text/html" in output["data"]]
    assert "4 URLs: File written: 3, Download failed: 1" in table
    assert "&lt;b&gt;missing" in table or "%3Cb%3Emissing" in table
    assert "<th>Bytes</th><td>1,000</td>" in second[0]["data"]["text/html"]
    assert "File written" in third[0]["data"]["text/html"]
    assert not any(output.get("name") == "stderr" for cell in book.cells for output in cell.outputs)
