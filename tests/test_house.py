"""The house: who may import whom, and that every module can be imported by itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aiodownload

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(aiodownload.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)


def test_imports_point_downwards() -> None:
    """The contracts of pyproject.toml hold: layers, the two wings apart, a floor for every module."""
    linter = pytest.importorskip("importlinter", reason="import-linter is not installed")
    assert linter
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_imports_by_itself() -> None:
    """No module needs another one to be imported first, but for those that the package itself imports, in its order."""
    program = (
        "import importlib, sys\n"
        "import aiodownload\n"
        "always = set(sys.modules)\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [one for one in sys.modules if one.startswith('aiodownload.') and one not in always]:\n"
        "        folder, _, leaf = loaded.rpartition('.')\n"
        "        vars(sys.modules[folder]).pop(leaf, None) if folder in sys.modules else None\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, *MODULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_core_needs_no_extra() -> None:
    """Importing aiodownload imports no package of an extra."""
    program = "import sys, aiodownload; print(sorted({'click', 'rich', 'sqlite3'} & set(sys.modules) - {'sqlite3'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_and_exports(module: str) -> None:
    """Each module says in a docstring which room it is, and exports only what it has."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    tree = ast.parse(source.read_text())
    if module.endswith("_version"):
        return
    assert ast.get_docstring(tree), f"{module} has no docstring"
    namespace = __import__(module, fromlist=["*"])
    for name in getattr(namespace, "__all__", ()):
        assert hasattr(namespace, name), f"{module}.__all__ names {name}, which is not there"


def test_no_assert_statements() -> None:
    """Under python -O nothing changes: the package has no assert statement."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), f"{path.name}:{node.lineno}"
