"""Lists as people have them: each format, what it may hold, and what is wrong with a record or with all of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from aiodownload.testing import FaultServer, ok

pytest.importorskip("click", reason="the extra cli is not installed")

from click.testing import CliRunner, Result

from aiodownload.cli import command

BODY = b"the bytes of the file"
SHA256 = hashlib.sha256(BODY).hexdigest()


def get(tmp_path: Path, content: str | bytes, name: str = "list.txt", *more: str, stdin: bool = False) -> Result:
    """Run ``aiodownload get`` with a list, in this process, to the folder ``out``."""
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    source = "-" if stdin else str(tmp_path / name)
    arguments = ["get", "-i", source, "-o", str(tmp_path / "out"), "--concurrent", "8", "--strategy", "backoff", *more]
    runner = CliRunner(env={"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"})
    done = runner.invoke(command, arguments, input=data if stdin else None, prog_name="aiodownload")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def kept(tmp_path: Path) -> dict[str, bytes]:
    """The files that are there."""
    out = tmp_path / "out"
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def url(server: FaultServer) -> str:
    for query in ("1", "2", "3"):
        server.on(f"/file?{query}", ok(BODY))
    return server.on("/file", ok(BODY))


def test_a_list_of_aria2(server: FaultServer, tmp_path: Path, url: str) -> None:
    """Mirrors after tabs; out, dir, checksum, header in indented lines; what has no effect is said, once."""
    listed = f"""# a comment
{server.url("/missing")}\t{url}
  out=a/first.bin
  checksum=sha-256={SHA256}
  split=5
{url}
    dir=b
    header=X-Asked: yes
    referer=http://example.test/
{url}?2
\tdir=c
\tout=third.bin
    split=3

{url}
"""
    done = get(tmp_path, listed, "list.aria2")
    assert done.exit_code == 0, done.stderr
    assert set(kept(tmp_path)) == {"a/first.bin", "b/file", "c/third.bin", f"127.0.0.1+{server.port}/file"}
    assert set(kept(tmp_path).values()) == {BODY}
    asked = [one.headers for one in server.requests if one.headers.get("x-asked")]
    assert [one["referer"] for one in asked] == ["http://example.test/"]
    assert done.stderr.count("split=") == 1
    assert "list.aria2, line 5: the option split= is not known here and has no effect" in done.stderr


@pytest.mark.parametrize(("name", "delimiter"), [("list.csv", ","), ("list.tsv", "\t")])
def test_tables(tmp_path: Path, url: str, name: str, delimiter: str) -> None:
    """Columns by their usual names, in any order and case; others are left alone; so is a mark of UTF-8."""
    rows = [
        ["note", "URL", "path", "sha256", "headers"],
        ["größer", url, "one.bin", SHA256, ""],
        ["", f"{url}?2", "", "", '"{""X-A"": ""b""}"'],
    ]
    content = "\ufeff" + "\r\n".join(delimiter.join(row) for row in rows) + "\r\n"
    done = get(tmp_path, content, name)
    assert done.exit_code == 0, done.stderr
    assert "one.bin" in kept(tmp_path)
    assert len(kept(tmp_path)) == 2


def test_semicolons(tmp_path: Path, url: str) -> None:
    """As spreadsheets write them in much of Europe."""
    done = get(tmp_path, f"url;path\n{url};a,b.bin\n", "list.csv")
    assert done.exit_code == 0, done.stderr
    assert kept(tmp_path) == {"a,b.bin": BODY}


def test_a_column_that_is_not_there(tmp_path: Path, url: str) -> None:
    """It is not left out in silence."""
    done = get(tmp_path, f"url,name\n{url},x\n", "list.csv", "--column", "path=nam")
    assert done.exit_code == 2
    assert "no column 'nam' for the path in its first line, which is: url, name" in done.stderr
    assert not kept(tmp_path)


def test_columns_of_other_names(tmp_path: Path, url: str) -> None:
    """--column says which is which."""
    done = get(
        tmp_path,
        f"image,name,url\n{url},x.bin,nonsense\n",
        "list.csv",
        "--column",
        "url=image",
        "--column",
        "path=name",
    )
    assert done.exit_code == 0, done.stderr
    assert kept(tmp_path) == {"x.bin": BODY}


def test_json_lines(tmp_path: Path, url: str) -> None:
    """Objects, or just text."""
    lines = [
        {"url": url, "path": "a.bin", "digest": f"sha256:{SHA256}", "headers": {"X-A": "b"}},
        f"{url}?2",
        {"url": "http://127.0.0.1:9/none", "mirrors": [f"{url}?3"], "path": "c.bin", "checksum": SHA256},
    ]
    done = get(tmp_path, "\n".join(json.dumps(line) for line in lines) + "\n\n", "list.jsonl")
    assert done.exit_code == 0, done.stderr
    assert {"a.bin", "c.bin"} < set(kept(tmp_path))


METALINK = """<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <file name="dir/example.bin">
    <size>21</size>
    <hash type="md5">00000000000000000000000000000000</hash>
    <hash type="sha-256">{digest}</hash>
    <url location="de" priority="2">{good}</url>
    <url priority="1">{bad}</url>
    <url priority="3">ftp://ftp.example.test/x</url>
    <metaurl mediatype="torrent">http://example.test/x.torrent</metaurl>
  </file>
  <file name="../escape"><url>{good}?2</url></file>
  <file name="only-ftp"><url>ftp://ftp.example.test/y</url></file>
</metalink>
"""


@pytest.mark.parametrize("name", ["list.meta4", "list.metalink", "stdin"])
def test_metalink(server: FaultServer, tmp_path: Path, url: str, name: str) -> None:
    """The strongest hash, the URLs by priority, no path outside of the folder."""
    content = METALINK.format(digest=SHA256, good=url, bad=server.url("/bad"))
    done = get(tmp_path, content, name, *(["--format", "metalink"] if name == "stdin" else []), stdin=name == "stdin")
    assert done.exit_code == 1
    assert kept(tmp_path) == {"dir/example.bin": BODY}
    assert [one.path for one in server.requests] == ["/bad", "/file"]
    assert "file 2: the path '../escape' does not lie below the folder" in done.stderr
    assert "file 3: none of its URLs is one of http or https" in done.stderr
    assert "1 done" in done.stderr
    assert "2 failed" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("list.csv", "a,b\n1,2\n", "none of them is 'url': a, b; --column url=NAME says which one has the URLs"),
        ("list.csv", "http://a.test/1\nhttp://a.test/2\n", "its first line must name the columns"),
        ("list.csv", 'url\n"unfinished', "list.csv, line 1: unexpected end of data"),
        ("list.meta4", "<metalink><file>", "it is no Metalink 4 file"),
        ("list.meta4", '<x xmlns="urn:ietf:params:xml:ns:metalink"/>', "it is no Metalink 4 file"),
        ("list.meta4", "nonsense", "it is no XML"),
        ("list.meta4", '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "document type"),
        ("list.txt", b"http://a.test/\xff\n", "utf-8"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    """The run ends with a line that says what is wrong, and exit code 2."""
    done = get(tmp_path, content, name)
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "record", "says"),
    [
        ("list.csv", "{url},/etc/passwd,", "does not lie below the folder"),
        ("list.csv", "{url},a/../../b,", "does not lie below the folder"),
        ("list.csv", "{url},.,", "does not lie below the folder"),
        ("list.csv", "{url},x,12345", "'12345' is no checksum; write sha256:<hexadecimal digits>"),
        ("list.csv", "{url},x,sha256:zz", "digest"),
        ("list.csv", "{url},x,crc99:00", "crc99"),
        ("list.csv", "{url},x,,more", "more fields than the first line has names"),
        ("list.csv", ",x,", "it has no 'url'"),
        ("list.jsonl", "[1]", "it must be an object with a url, or text"),
        ("list.jsonl", "{{", "it is no JSON"),
        ("list.jsonl", '{{"url": 7}}', "it has no 'url'"),
        ("list.jsonl", '{{"url": "{url}", "path": 7}}', "the path must be text"),
        ("list.jsonl", '{{"url": "{url}", "headers": "nonsense"}}', "headers must be lines of Name: value"),
        (
            "list.jsonl",
            '{{"url": "{url}", "headers": {{"Range": "bytes=0-"}}}}',
            "'Range' is set by aiodownload itself",
        ),
        ("list.jsonl", '{{"url": "{url}", "headers": "{{"}}', "broken JSON"),
        ("list.jsonl", '{{"url": "{url}", "mirrors": [7]}}', "a list of text is needed"),
        ("list.aria2", "{url}\n  nonsense", "an indented line must be option=value"),
        ("list.txt", "  out=../../x", "only http:// and https://"),
        ("list.txt", "{url}\t{url}", "control character"),
        ("list.txt", "url,path", "if this is a table, say --format csv (or tsv)"),
        ("list.txt", "no-url", "only http:// and https://"),
        ("list.aria2", "{url}\n  header=nonsense", "headers must be lines of Name: value"),
        ("list.aria2", "{url}\n  out=../x", "does not lie below the folder"),
    ],
)
def test_a_record_that_is_wrong_hurts_no_other(
    server: FaultServer, tmp_path: Path, url: str, name: str, record: str, says: str
) -> None:
    """It is told with its place and its reason, counted as failed, written as JSON; the ones around it are fetched."""
    head = "url,path,digest\n" if name.endswith(".csv") else ""
    around = {"list.csv": "{}?{},,", "list.jsonl": '"{}?{}"', "list.txt": "{}?{}", "list.aria2": "{}?{}"}[name]
    content = f"{head}{around.format(url, 1)}\n{record.format(url=url)}\n{around.format(url, 2)}\n"
    done = get(tmp_path, content, name, "--json", "--strategy", "adaptive")
    assert done.exit_code == 1, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    (failed,) = [row for row in rows if not row["ok"]]
    assert says in failed["error"]
    assert len(rows) == 3
    assert len(kept(tmp_path)) == 2
    assert "2 done" in done.stderr
    assert "1 failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_record_that_is_wrong_is_told_in_words(tmp_path: Path, url: str) -> None:
    """With its place, and nothing that could act on a terminal."""
    done = get(tmp_path, f'"{url}"\n"\\u001b[31m"\n{{"url": "{url}", "path": "../\\u001b[31m"}}\n', "list.jsonl")
    assert done.exit_code == 1
    assert "list.jsonl, line 3: the path '../\\x1b[31m' does not lie" in done.stderr
    assert "\x1b" not in done.stderr


def test_lists_are_read_as_far_as_there_is_room(tmp_path: Path) -> None:
    """A pipe that never ends is downloaded from as it comes."""

    with FaultServer() as server:
        for number in range(6):
            server.on(f"/{number}", ok(BODY))
        process = subprocess.Popen(
            [sys.executable, "-m", "aiodownload", "get", "-i", "-", "-o", str(tmp_path), "--json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            for number in range(3):
                process.stdin.write(f"{server.url(f'/{2 * number}')}\n{server.url(f'/{2 * number + 1}')}\n")
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["ok"]
            process.stdin.close()
            assert len(process.stdout.readlines()) == 3
        assert process.returncode == 0
