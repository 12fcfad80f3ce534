"""README and docs/: what they show is what happens, and they build without a warning."""

from __future__ import annotations

import doctest
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

import aiodownload
from aiodownload import testing
from aiodownload.storage.paths import url_to_path
from aiodownload.testing import FaultServer, Request, Script, each_path, ok, status

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
HOME = "/home/me"  # the current directory in the documents


def missing(*packages: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in packages)


needs_sphinx = pytest.mark.skipif(
    missing("sphinx", "furo"), reason="the documentation needs Sphinx and furo: pip install 'aiodownload[docs]'"
)
needs_docutils = pytest.mark.skipif(missing("docutils"), reason="needs docutils, which comes with Sphinx")


def numbered(request: Request) -> Script:
    """``/files/3.txt`` is three lines; what is nowhere else is missing."""
    found = re.fullmatch(r"/files/(\d+)\.txt", request.target)
    return ok(f"file {found[1]}\n".encode() * int(found[1])) if found else status(404)


def private(request: Request) -> Script:
    """Only for those who know the word."""
    return ok(b"forty thieves\n") if request.headers.get("x-token") == "open-sesame" else status(404)


def searched(request: Request) -> Script:
    """What was sent in the form."""
    return ok(request.body) if request.method == "POST" else status(404)


@pytest.fixture
def example_org(server: FaultServer) -> FaultServer:
    """The https://example.org of the documents."""
    server.default = each_path(numbered)
    server.on("/report.csv", ok(b"day,visitors\nmonday,12\ntuesday,15\n"))
    server.on("/a.csv", ok(b"a\n"))
    server.on("/b.csv", ok(b"b\n"))
    server.on("/prices.json", ok(json.dumps({"apple": 3, "pear": 4}).encode(), Content_Type="application/json"))
    server.on("/login.csv", ok(b"<h1>Please log in</h1>", Content_Type="text/html"))
    server.on("/private.txt", each_path(private))
    server.on("/search", each_path(searched))
    for path in ("/busy.txt", "/often-busy.txt"):
        server.on(path, status(503), status(503), ok(b"here you are\n"))
    return server


@pytest.mark.skipif(os.sep != "/", reason="the documents show POSIX paths")
@pytest.mark.parametrize(
    "name",
    [
        "README.rst",
        "docs/tutorial.rst",
        "docs/guide.rst",
        "docs/testing.rst",
        "docs/paths.rst",
        "docs/objects.rst",
        "docs/dataset.rst",
    ],
)
def test_sessions(
    name: str,
    example_org: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every ``>>>`` in the document prints what stands below it, up to the server's address and the folder."""
    if name == "docs/dataset.rst":
        pytest.importorskip("pyarrow", reason="the extra dataset is not installed")
    monkeypatch.chdir(tmp_path)
    if name == "docs/objects.rst":
        pytest.importorskip("obstore", reason="the extra objects is not installed")
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.replace("https://example.org", example_org.url(""))
    text = text.replace("example.org", f"127.0.0.1+{example_org.port}").replace(HOME, os.getcwd())
    examples = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(examples, out=told.append)
    assert result.attempted > 4
    assert not result.failed, "".join(told)


BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("README.rst", 5),
        ("docs/index.rst", 1),
        ("docs/tutorial.rst", 1),
        ("docs/guide.rst", 5),
        ("docs/moving.rst", 5),
        ("docs/cluster.rst", 4),
        ("docs/objects.rst", 2),
    ],
)
def test_blocks(
    name: str, count: int, example_org: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of code runs, one after the other; those that show another tool are just read."""
    monkeypatch.chdir(tmp_path)
    prometheus_client = pytest.importorskip("prometheus_client")
    listen = prometheus_client.start_http_server
    servers = []
    monkeypatch.setattr(prometheus_client, "start_http_server", lambda port: servers.append(listen(0)))
    if name == "docs/objects.rst":
        pytest.importorskip("obstore", reason="the extra objects is not installed")
    text = (ROOT / name).read_text(encoding="utf-8").replace("https://example.org", example_org.url(""))
    text = text.replace("s3://my-bucket", "memory://my-bucket")
    text = text.replace("sha256:…", "sha256:87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7")
    blocks = [textwrap.dedent(found[1]) for found in BLOCK.finditer(text)]
    urls = [example_org.url("/a.csv"), example_org.url("/b.csv")]
    space: dict[str, object] = {name: getattr(aiodownload, name) for name in aiodownload.__all__}
    space |= {"aiodownload": aiodownload, "urls": urls, "url": urls[0], "rows": [{"url": url} for url in urls]}
    space |= {
        "download": aiodownload.AioDownload(request_strategy=aiodownload.RequestStrategy()),
        "keep": lambda *_: None,
    }
    space["bundles"] = aiodownload.swarm(urls)
    ran = 0
    for block in blocks:
        code = compile(block, name, "exec")
        if not block.startswith("# there"):
            exec(code, space)
            ran += 1
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
    assert ran == count
    assert not [bundle for bundle in vars_of(space) if not bundle.ok]


def vars_of(space: dict[str, object]) -> list[aiodownload.AioDownloadBundle]:
    """The bundles that blocks have left in their variables."""
    found = [value for value in space.values() if isinstance(value, aiodownload.AioDownloadBundle)]
    return [*found, *(one for value in space.values() if isinstance(value, aiodownload.Outcomes) for one in value)]


def shown_paths() -> Iterator[tuple[str, str]]:
    """The rows of the table in docs/paths.rst."""
    for line in (DOCS / "paths.rst").read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"``(https?://\S+)``\s+``(.+)``", line)
        if row:
            yield row[1], row[2]


@pytest.mark.parametrize(("url", "path"), list(shown_paths()))
def test_table_of_paths(url: str, path: str) -> None:
    """A row of the table says where the URL really goes."""
    assert "/".join(url_to_path(URL(url))) == path


def test_table_of_paths_is_read() -> None:
    """The table is found, and none of its rows is passed over."""
    text = (DOCS / "paths.rst").read_text(encoding="utf-8")
    assert len(list(shown_paths())) == len(re.findall(r"^``http", text, re.MULTILINE)) > 10


def test_reference_is_complete() -> None:
    """Every public name has its place in the reference, once."""
    text = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("api.rst", "errors.rst"))
    own, _, rest = text.partition(".. module:: aiodownload.testing\n")
    for_tests, _, errors = rest.partition("======\nErrors\n======\n")
    for part, module in ((own + errors, aiodownload), (for_tests, testing)):
        described = re.findall(r"^\.\. (?:auto(?:class|function|exception)|py:data):: (\w+)", part, re.MULTILINE)
        assert sorted(described) == sorted(module.__all__)


def test_floor_plan() -> None:
    """The floor plan names every module, and none that is not there."""
    text = (DOCS / "how_it_works.rst").read_text(encoding="utf-8")
    plan = text.partition("    aiodownload/\n")[2].partition("\n\nImports")[0]
    folder, named = "", set()
    for line in plan.splitlines():
        entry = re.match(r"( {8,12})(\w+(?:\.py|/))", line)
        if entry is None:
            assert not line.strip()
        elif entry[2].endswith("/"):
            folder = entry[2]
        else:
            named.add((folder if len(entry[1]) == 12 else "") + entry[2])
    package = Path(aiodownload.__file__).parent
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert named == {name for name in there if not name.endswith("/__init__.py")}


def test_extras_exist() -> None:
    """Every extra that the documents tell to install is one of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.rst", *DOCS.glob("*.rst")])
    named = set(re.findall(r"'(?:aiodownload|\.)\[(\w+)\]'", text))
    assert {"cli", "test"} <= named <= set(project["optional-dependencies"])


def test_two_commands() -> None:
    """The README has the two commands, each in one line."""
    lines = [line.strip() for line in (ROOT / "README.rst").read_text(encoding="utf-8").splitlines()]
    commands = [line for line in lines if line.startswith("python3 -m venv")]
    assert [command.rpartition("&& ")[2] for command in commands] == [
        ".venv/bin/aiodownload demo",
        ".venv/bin/pytest -n 4",
    ]


@needs_docutils
@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst"])
def test_plain_text(name: str) -> None:
    """The document is valid without Sphinx, as a package index shows it."""
    program = (
        "import sys, docutils.core;"
        "docutils.core.publish_file(source_path=sys.argv[1], writer='html5', destination_path=sys.argv[2],"
        "settings_overrides={'halt_level': 2, 'report_level': 2, 'raw_enabled': False})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / name), os.devnull], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_sphinx
def test_html(tmp_path: Path) -> None:
    """Sphinx builds every page; each link has its target, and each page is in the index."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.stem for path in DOCS.glob("*.rst")}
    assert pages <= {path.stem for path in (tmp_path / "html").glob("*.html")}


COMMAND = re.compile(r"^ {4}(?:sort -u urls\.txt \| |\.venv/bin/)?(aiodownload .+?)\s*$", re.MULTILINE)
CELL = re.compile(r"``(aiodownload [^`]+)``")


def shown_commands() -> Iterator[str]:
    """Every command line that a document shows, in a block or in a table."""
    for name in (
        "README.rst",
        *(f"docs/{page}.rst" for page in ("tutorial", "guide", "objects", "command_line", "moving")),
    ):
        text = (ROOT / name).read_text(encoding="utf-8")
        for found in (*COMMAND.findall(text), *CELL.findall(text)):
            for part in found.split(";"):
                line = re.split(r"\s+#|\s{2,}| > ", part.strip())[0]  # without what is said about it
                if line.startswith("aiodownload ") and "[OPTIONS]" not in line:
                    yield line


def test_every_command_that_is_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options are there, and take what they are given."""
    pytest.importorskip("click", reason="the extra cli is not installed")
    from aiodownload.cli import command

    monkeypatch.chdir(tmp_path)
    for name in (
        "urls.txt",
        "urls.csv",
        "list",
        "list.aria2",
        "file.meta4",
        "journal.db",
        "cookies.txt",
        "JOURNAL",
        "FILE",
    ):
        Path(name).touch()
    lines = list(dict.fromkeys(shown_commands()))
    assert len(lines) > 25
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] not in command.commands:
            assert not words[0].startswith("-"), line
            pytest.fail(f"{line!r} is no command")
        if len(words) > 1:  # a name in a sentence has no arguments
            with command.commands[words[0]].make_context(words[0], words[1:]):
                pass


def test_the_settings_that_are_shown_are_read(tmp_path: Path) -> None:
    """The TOML of the document has names that there are."""
    pytest.importorskip("click", reason="the extra cli is not installed")
    from aiodownload.cli import command
    from aiodownload.cli.config import defaults

    text = (DOCS / "command_line.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"^\.\. code-block:: toml\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    (tmp_path / "settings.toml").write_text(textwrap.dedent(block), encoding="utf-8")
    found = defaults(tmp_path / "settings.toml", command)
    assert found["get"] == {
        "strategy": "adaptive",
        "contact": "me@example.org",
        "journal": "journal.db",
        "headers": ["Accept-Language: de"],
    }
    assert found["plan"] == {"strategy": "adaptive", "contact": "me@example.org"}


def test_the_manual_names_every_option() -> None:
    """What the wheel brings is of this version: ``sphinx-build -b man docs docs/man`` writes it."""
    click = pytest.importorskip("click", reason="the extra cli is not installed")
    from aiodownload.cli import command

    manual = (DOCS / "man" / "aiodownload.1").read_text(encoding="utf-8").replace("\\-", "-")
    for name, one in command.commands.items():
        assert f".SS {name}" in manual
        for option in one.params:
            if isinstance(option, click.Option):
                assert all(opt in manual for opt in option.opts), option.opts
