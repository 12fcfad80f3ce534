"""Run by tox on two builds of the wheel and the source archive: they hold what they should, and the wheel works."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(folder: Path, again: Path) -> None:
    """Check both archives; install the wheel into an empty environment.

    :param folder: has them.
    :param again: has those of a second build, which must be the same to the last byte.
    """
    for built in folder.iterdir():
        if built.read_bytes() != (again / built.name).read_bytes():
            sys.exit(f"{built.name} is another one each time that it is built")
    (wheel,) = folder.glob("*.whl")
    (archive,) = folder.glob("*.tar.gz")
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "aiodownload").rglob("*.py")} | {
        "aiodownload/py.typed",
        "_aiodownload_pytestplugin.py",
    }
    if not wanted <= held:
        sys.exit(f"the wheel lacks {sorted(wanted - held)}")
    if "py3-none-any" not in wheel.name or not any(name.endswith("licenses/LICENSE") for name in held):
        sys.exit(f"{wheel.name} is tagged wrongly or has no licence")
    if not any(name.endswith("share/man/man1/aiodownload.1") for name in held):
        sys.exit(f"{wheel.name} has no manual")
    (points,) = (name for name in held if name.endswith("entry_points.txt"))
    if "[pytest11]\naiodownload = _aiodownload_pytestplugin" not in zipfile.ZipFile(wheel).read(points).decode():
        sys.exit("the wheel does not tell pytest of its plugin")
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    if not {"LICENSE", "README.rst", "tox.ini", "tests/conftest.py", "_aiodownload_pytestplugin.py"} <= names:
        sys.exit("the source archive is not complete")
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=True)
        program = Path(place, "bin", "python")
        subprocess.run([program, "-m", "pip", "install", "--quiet", f"{wheel}[cli]"], check=True)
        subprocess.run([program, "-m", "aiodownload", "--version"], check=True, cwd=place)
    print(f"{wheel.name} and {archive.name} are right")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
