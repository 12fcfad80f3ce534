"""The page of the fault matrix: its judge, its server, and that it says what the results say."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from matrix import outcome, page, remarks, rows, scripts, tools
from matrix.server import FaultServer

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "matrix.rst"
RESULTS = ROOT / "benchmarks" / "results" / "matrix.json"

RIGHT, OLD, WRONG = b"right", b"old", b"wro"


@pytest.mark.parametrize(
    ("exit_code", "found", "old", "wanted", "kind", "word"),
    [
        (0, RIGHT, None, [RIGHT], "plain", "OK"),
        (0, RIGHT, OLD, [RIGHT], "plain", "OK"),
        (0, b"gzip", None, [RIGHT, b"gzip"], "plain", "OK"),
        (0, WRONG, None, [RIGHT], "plain", "SW"),
        (0, WRONG, None, [], "plain", "SW"),
        (0, b"", None, [], "plain", "SW"),
        (0, OLD, OLD, [RIGHT], "plain", "SW"),
        (0, None, None, [RIGHT], "plain", "E0"),
        (0, None, None, [], "plain", "E0"),
        (0, None, OLD, [RIGHT], "plain", "E0"),
        (18, WRONG, None, [RIGHT], "plain", "LW"),
        (18, b"", None, [RIGHT], "plain", "LW"),
        (1, WRONG, OLD, [RIGHT], "plain", "LW"),
        (1, None, OLD, [RIGHT], "plain", "LW"),
        (1, None, None, [], "plain", "LC"),
        (1, OLD, OLD, [RIGHT], "plain", "LC"),
        (1, RIGHT, None, [RIGHT], "plain", "LC"),
        (-11, None, None, [RIGHT], "plain", "LC"),
        (-9, None, None, [RIGHT], "kill", "LC"),
        (-9, WRONG, None, [RIGHT], "kill", "LW"),
        (0, WRONG, None, [RIGHT], "kill", "LW"),
        (0, RIGHT, None, [RIGHT], "escape", "SW"),
        (0, None, None, [RIGHT], "escape", "SW"),
        (1, None, None, [RIGHT], "escape", "LW"),
        (None, None, None, [RIGHT], "plain", "hang"),
        (None, RIGHT, None, [RIGHT], "plain", "hang"),
    ],
)
def test_legend(
    exit_code: int | None, found: bytes | None, old: bytes | None, wanted: list[bytes], kind: str, word: str
) -> None:
    """The exit status and the bytes alone make the word."""
    assert outcome.classify(exit_code, found, old, wanted, kind) == word
    assert word in outcome.LEGEND


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "no file"),
        (b"", "empty"),
        (rows.OLD, "old version"),
        (scripts.OBJECT.data, "the object"),
        (scripts.OBJECT.data[: 2 << 20], "2 MiB of the object"),
        (scripts.OBJECT.data + bytes(1000), "the object and 1000 B more"),
        (scripts.OBJECT.data[: 1 << 20] + scripts.NEW.data[1 << 20 :], "mix of the object and the new object"),
        (scripts.OBJECT.data[: 2 << 20] * 2, "4 MiB, 2 MiB of the object in place"),
        (b"moved", "5 B of something else"),
    ],
)
def test_bytes_are_described(found: bytes | None, words: str) -> None:
    """What lies there is told apart: a part, a mix, too much, another version."""
    assert remarks.describe(found) == words


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """The server of the benchmark."""
    with FaultServer() as running:
        yield running


def ask(
    server: FaultServer, key: str, *fields: str, method: str = "GET", taken: int | None = None
) -> tuple[str, bytes]:
    """One request over a plain socket; return head and body, or hang up after so many bytes."""
    with socket.create_connection((server.host, server.port), 10) as connection:
        lines = [f"{method} /{key}/f.bin HTTP/1.1", "Host: loopback", *fields]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        got = b""
        while (taken is None or len(got) < taken) and (more := connection.recv(65536)):
            got += more
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode(), body


def script_of(number: int) -> scripts.Script:
    return next(row.script for row in rows.ROWS if row.number == number)


def test_row_1_is_always_cut(fault_server: FaultServer) -> None:
    """The whole length is declared and half is sent, with a Range too; a HEAD has the same header."""
    play = fault_server.play("one", script_of(1))
    for field in ("Accept: */*", "Range: bytes=100-"):
        head, body = ask(fault_server, "one", field)
        assert head.startswith("HTTP/1.1 200 ")
        assert f"Content-Length: {scripts.SIZE}" in head
        assert body == scripts.OBJECT.data[: scripts.SIZE // 2]
    assert ask(fault_server, "one", method="HEAD") == (head, b"")
    assert [request.method for request in play.requests] == ["GET", "GET", "HEAD"]


def test_row_12_is_cut_once(fault_server: FaultServer) -> None:
    """Who only looks at the header does not use the fault up; who takes the body does, and then all is honest."""
    fault_server.play("cut", script_of(12))
    assert ask(fault_server, "cut", "Range: bytes=0-0")[1] == scripts.OBJECT.data[:1]
    ask(fault_server, "cut", method="HEAD")
    ask(fault_server, "cut", taken=100)
    assert len(ask(fault_server, "cut")[1]) == scripts.SIZE // 2
    assert ask(fault_server, "cut")[1] == scripts.OBJECT.data
    head, body = ask(fault_server, "cut", "Range: bytes=5-9", f"If-Range: {scripts.OBJECT.etag}")
    assert head.startswith("HTTP/1.1 206 ")
    assert f"Content-Range: bytes 5-9/{scripts.SIZE}" in head
    assert body == scripts.OBJECT.data[5:10]
    assert ask(fault_server, "cut", "Range: bytes=5-9", 'If-Range: "other"')[1] == scripts.OBJECT.data


def test_rows_16_17_and_20_lie_about_ranges(fault_server: FaultServer) -> None:
    """Another first byte, no Content-Range, and a 416 though If-Range does not hold."""
    for number in (16, 17, 20):
        fault_server.play(str(number), script_of(number))
    first = 5 << 20
    head, body = ask(fault_server, "16", f"Range: bytes={first}-")
    assert f"Content-Range: bytes {first - 65536}-" in head
    assert body == scripts.LARGE.data[first - 65536 :]
    head, body = ask(fault_server, "17", f"Range: bytes={first}-")
    assert head.startswith("HTTP/1.1 206 ")
    assert "Content-Range" not in head
    assert body == scripts.LARGE.data[first:]
    head, body = ask(fault_server, "20", f"Range: bytes={first}-", f"If-Range: {scripts.LARGE.etag}")
    assert head.startswith("HTTP/1.1 416 ")
    assert f"Content-Range: bytes */{scripts.SIZE}" in head
    assert ask(fault_server, "20")[1] == scripts.NEW.data


def test_rows_are_all_there() -> None:
    """Thirty rows in order, each in a mode that every tool has a command line for, or a reason."""
    assert [row.number for row in rows.ROWS] == list(range(1, 31))
    for row in rows.ROWS:
        assert row.mode in tools.MODES
        for tool in tools.TOOLS:
            if row.mode not in tool.lacks:
                assert tool.command(row.mode, "http://h/f.bin", "python")[-1] == "http://h/f.bin"


def test_secrets_are_given_one_by_one() -> None:
    """The option before SECRETS is repeated for each of them."""
    curl = next(tool for tool in tools.TOOLS if tool.name == "curl")
    command = curl.command("headers", "http://h/", "python")
    assert command.count("-H") == len(tools.SECRETS)
    assert "X-Api-Key: hunter2" in command


@pytest.mark.skipif(not PAGE.exists(), reason="the page has not been written yet")
def test_page_says_what_the_results_say() -> None:
    """The page is what the results render to, and holds every row and tool."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == page.render(results)
    assert list(results["cells"]) == [str(row.number) for row in rows.ROWS]
    assert list(results["versions"]) == [tool.name for tool in tools.TOOLS]
    there = {name for name, version in results["versions"].items() if version is not None}
    assert all(set(cells) == there for cells in results["cells"].values())
    words = {cell["outcome"] for cells in results["cells"].values() for cell in cells.values()}
    assert words <= set(outcome.LEGEND)


def test_page_of_a_missing_tool() -> None:
    """A tool that was not there has an empty column, and the page says how to get it."""
    cell = {"outcome": "LW", "exit": 18, "remark": "f_*", "broken": False, "requests": 2, "ranges": []}
    versions = {"curl": "8", "axel": None}
    text = page.render(
        {"date": "2020-01-01", "system": "here", "limit": 60, "versions": versions, "cells": {"1": {"curl": cell}}}
    )
    assert "**axel** was missing: apt-get install axel." in text
    assert "     - **LW** 18\n     -\n" in text
    assert "curl: **LW** 18; f\\_\\*; 2 requests" in text
