"""The pytest plugin: its fixture works, and whoever does not use it does not notice it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import _aiodownload_pytestplugin
import aiodownload

ROOT = Path(__file__).resolve().parents[2]

USES = """
import urllib.request
import pytest
import aiodownload
from aiodownload.testing import FaultServer, ok, status

def test_blocking(aiodownload_server, tmp_path):
    assert isinstance(aiodownload_server, FaultServer)
    url = aiodownload_server.on("/a.csv", status(503), ok(b"a"))
    request = aiodownload.RequestStrategy(max_attempts=2)
    request.retry = lambda response: True
    keep = aiodownload.DownloadStrategy(home=tmp_path)
    assert aiodownload.one(url, aiodownload.AioDownload(None, keep, request)).ok

def test_another_one(aiodownload_server):
    assert aiodownload_server.requests == []
"""

DOES_NOT = """
import sys

def test_nothing_is_loaded():
    loaded = {"aiohttp", "aiofiles", "yarl", "aiodownload", "asyncio"} & set(sys.modules)
    assert sorted(loaded - BEFORE) == []
    assert "_aiodownload_pytestplugin" in sys.modules
"""


def run_pytest(folder: Path, text: str, *options: str) -> str:
    """Run a test file with this plugin and no other; return what pytest prints."""
    (folder / "test_it.py").write_text(text)
    found = os.pathsep.join([str(ROOT), str(Path(aiodownload.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "_aiodownload_pytestplugin",
            "-W",
            "error",
            *options,
            "test_it.py",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": found, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_fixture(tmp_path: Path) -> None:
    """``aiodownload_server`` is a running server, another one for each test."""
    assert "2 passed" in run_pytest(tmp_path, USES)


def test_the_fixture_is_explained(tmp_path: Path) -> None:
    """``pytest --fixtures`` tells what it is."""
    told = run_pytest(tmp_path, USES, "--fixtures")
    assert "aiodownload_server" in told
    assert "aiodownload.testing.FaultServer" in told


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    """Loaded and not used, it has imported neither aiodownload nor aiohttp, nor anything of theirs."""
    program = (
        "import sys, pytest, _pytest.config, _pytest.fixtures\n"  # what pytest loads for itself does not count
        "print({'aiohttp', 'aiofiles', 'yarl', 'aiodownload', 'asyncio'} & set(sys.modules))"
    )
    before = subprocess.check_output([sys.executable, "-c", program], text=True).strip()
    assert "1 passed" in run_pytest(tmp_path, f"BEFORE = {before}\n{DOES_NOT}")


def test_pytest_is_told_of_it() -> None:
    """The entry point names the module, which lies beside the package and goes into both archives."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    name = _aiodownload_pytestplugin.__name__
    assert project["project"]["entry-points"]["pytest11"] == {"aiodownload": name}
    for target in ("wheel", "sdist"):
        built = project["tool"]["hatch"]["build"]["targets"][target]
        assert f"{name}.py" in built.get("only-include", built.get("include"))


def test_it_changes_nothing_else() -> None:
    """The plugin has a fixture, and no hook."""
    public = [name for name in vars(_aiodownload_pytestplugin) if name.startswith(("pytest_", "aiodownload"))]
    assert public == ["aiodownload_server"]


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    """The test that docs/testing.rst shows passes as it stands there."""
    text = (ROOT / "docs" / "testing.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    assert "1 passed" in run_pytest(tmp_path, textwrap.dedent(block))


def test_pytest_may_start_after_the_import() -> None:
    """pytest warns of a plugin's package that was imported before, unless its docstring has this word."""
    assert "PYTEST_DONT_REWRITE" in (aiodownload.__doc__ or "")
