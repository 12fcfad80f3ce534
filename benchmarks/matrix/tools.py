"""The tools: how each is called in each mode, what it cannot do, and how it is interrupted."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .rows import DIGEST

__all__ = ["MODES", "SECRETS", "TOOLS", "Tool", "environment", "make_venv"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

SECRETS = {"Authorization": "Bearer hunter2", "Cookie": "session=hunter2", "X-Api-Key": "hunter2"}
MODES = {
    "plain": "",
    "resume": "rows 14-20",
    "segments": "rows 21-23",
    "skip": "row 25",
    "replace": "row 26",
    "headers": "row 27",
    "server's name": "row 28",
    "URL's name": "row 29",
    "checksum": "row 30",
}


@dataclass(frozen=True)
class Tool:
    """One column.

    :param name: its head.
    :param base: the command line up to what differs by mode.
    :param modes: what follows, by mode; a mode that is missing is like ``"plain"``.
    :param lacks: modes or row numbers that do not apply, and why.
    :param partial: how a part is left behind: ``"file"`` for the first bytes under the final name, or the signal
        that interrupts a real run.
    :param control: what the name of the file that says how far a part has come adds to the final name.
    :param version: the argument that prints the version.
    :param packages: of a driver: the Python packages whose versions count, its own first.
    :param install: how to get it.
    """

    name: str
    base: str
    modes: Mapping[str, str]
    lacks: Mapping[str | int, str] = field(default_factory=dict)
    partial: str | signal.Signals = "file"
    control: str = ""
    version: str = "--version"
    packages: tuple[str, ...] = ()
    install: str = ""

    def template(self, mode: str) -> str:
        """The command line as it is shown."""
        return " ".join(filter(None, (self.base, self.modes.get(mode, self.modes["plain"]), "URL")))

    def command(self, mode: str, url: str, python: str) -> list[str]:
        """The command line as it is run."""
        words = shlex.split(self.template(mode))
        words[-1] = url
        if words[0] == "python":
            words[:2] = [python, str(ROOT / words[1])]
        if "SECRETS" in words:
            at = words.index("SECRETS")
            pairs = [(words[at - 1], f"{name}: {value}") for name, value in SECRETS.items()]
            words[at - 1 : at + 1] = [word for pair in pairs for word in pair]
        return [word.replace("SHA256", DIGEST) for word in words]

    def find_version(self, python: str | None) -> str | None:
        """The version that is installed, or None if the tool is missing."""
        if self.packages:
            return _package_version(self.packages, python) if python else None
        program = self.base.split()[0]
        if shutil.which(program) is None:
            return None
        done = subprocess.run([program, self.version], capture_output=True, text=True, check=False)
        first = (done.stdout or done.stderr).strip().partition("\n")[0]
        return next((word for word in first.split() if word[0].isdigit()), first)


def _driver(name: str) -> str:
    return f"python benchmarks/matrix/drivers/with_{name}.py"


_DRIVEN = {
    "plain": "--file f.bin",
    "headers": "--file f.bin --header SECRETS",
    "server's name": "--folder .",
    "URL's name": "--folder .",
    "skip": "--file f.bin --skip",
    "checksum": "--file f.bin --sha256 SHA256",
}
_NO_CHECKSUM = {"checksum": "has no option for a checksum"}
_APT = "apt-get install {}"
_PIP = "pip install {0}, into the environment given by --venv"

TOOLS = [
    Tool(
        "aiodownload",
        _driver("aiodownload"),
        {**_DRIVEN, "segments": "--file f.bin --segments 4"},
        partial=signal.SIGKILL,
        packages=("aiodownload", "aiohttp"),
        install="run from a checkout, in an environment where aiohttp is installed",
    ),
    Tool(
        "curl",
        "curl -sS -f -L --retry 3 --retry-all-errors",
        {
            "plain": "-o f.bin",
            "resume": "-C - -o f.bin",
            "skip": "-C - -o f.bin",
            "headers": "-H SECRETS -o f.bin",
            "server's name": "-O -J",
            "URL's name": "-O",
        },
        _NO_CHECKSUM,
        install=_APT.format("curl"),
    ),
    Tool(
        "wget",
        "wget -nv -t4 --retry-on-http-error=429,503",
        {
            "plain": "-O f.bin",
            "resume": "-c",
            "skip": "-nc",
            "headers": "--header SECRETS -O f.bin",
            "server's name": "--content-disposition",
            "URL's name": "",
        },
        _NO_CHECKSUM,
        install=_APT.format("wget"),
    ),
    Tool(
        "wget2",
        "wget2 -nv -t4",
        {
            "plain": "-O f.bin",
            "resume": "-c",
            "skip": "-nc",
            "headers": "--header SECRETS -O f.bin",
            "server's name": "--content-disposition",
            "URL's name": "",
        },
        _NO_CHECKSUM,
        install=_APT.format("wget2"),
    ),
    Tool(
        "aria2",
        "aria2c -q --no-conf -x4 -s4 -k1M -m4 --retry-wait=1",
        {
            "plain": "-o f.bin",
            "resume": "-c -o f.bin",
            "skip": "-c -o f.bin",
            "headers": "--header SECRETS -o f.bin",
            "server's name": "",
            "URL's name": "",
            "checksum": "--checksum=sha-256=SHA256 -o f.bin",
        },
        partial=signal.SIGINT,
        control=".aria2",
        install=_APT.format("aria2"),
    ),
    Tool(
        "axel",
        "axel -q -n4",
        {"plain": "-o f.bin", "headers": "-H SECRETS -o f.bin", "server's name": "", "URL's name": ""},
        {**_NO_CHECKSUM, 2: "asks with HTTP/1.0, which has no chunks"},
        partial=signal.SIGINT,
        control=".st",
        install=_APT.format("axel"),
    ),
    Tool(
        "parfive",
        _driver("parfive"),
        _DRIVEN,
        {"resume": "does not resume"},
        packages=("parfive",),
        install=_PIP.format("parfive"),
    ),
    Tool(
        "pypdl",
        _driver("pypdl"),
        _DRIVEN,
        {"checksum": "leaves the comparison to its caller"},
        partial=signal.SIGKILL,
        packages=("pypdl",),
        install=_PIP.format("pypdl"),
    ),
    Tool(
        "aiohttp loop",
        _driver("aiohttp"),
        _DRIVEN,
        {
            "resume": "does not resume",
            "skip": "does not skip",
            "server's name": "does not look at it",
            "checksum": "has no such thing",
        },
        packages=("aiohttp",),
        install="pip install aiohttp",
    ),
]


def environment(home: Path, *, checkout: bool) -> dict[str, str]:
    """Nobody's settings, no proxies; with ``checkout`` the package of this checkout."""
    own = {"PYTHONPATH": str(ROOT)} if checkout else {}
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if name in os.environ}
    (home / ".axelrc").write_text("reconnect_delay = 1\n")
    return {**kept, "HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1", **own}


def python_of(tool: Tool, venv: Path | None) -> str | None:
    """The Python that runs the driver of ``tool``: ours, or the one where the other packages are."""
    if tool.name in ("aiodownload", "aiohttp loop"):
        return sys.executable
    program = None if venv is None else venv / "bin" / "python"
    return str(program) if program is not None and program.exists() else None


def make_venv(packages: list[str]) -> Path | None:
    """Make an environment with ``packages`` in a temporary folder, or return None and say why not."""
    folder = Path(tempfile.mkdtemp(prefix="matrix-venv-"))
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, text=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"no environment for {', '.join(packages)}: {getattr(error, 'stderr', '') or error}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return folder


def _package_version(packages: tuple[str, ...], python: str) -> str | None:
    program = (
        "import importlib, importlib.metadata as m, sys\n"
        "for name in sys.argv[1:]:\n"
        "    module = importlib.import_module(name)\n"
        "    print(getattr(module, '__version__', None) or m.version(name))\n"
    )
    done = subprocess.run(
        [python, "-c", program, *packages],
        capture_output=True,
        text=True,
        check=False,
        cwd=tempfile.gettempdir(),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        return None
    own, *others = done.stdout.split()
    also = [f"{name} {version}" for name, version in zip(packages[1:], others, strict=True)]
    return own + (f" ({', '.join(also)})" if also else "")
