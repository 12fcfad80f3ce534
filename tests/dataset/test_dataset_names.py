"""Names of members: safe in every archive and on every disk, whatever the URL is, and never two of one request."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelf import WITH_CARE
from yarl import URL

from aiodownload.dataset.names import (
    Place,
    extension_of,
    identity,
    member_path,
    name_of,
    number_of,
    open_number,
    place_of,
)
from aiodownload.dataset.tar import ending, header

HOSTILE = [
    "/..%2f..%2fx",
    "/%2e%2e/x",
    "/a%5c..%5cx.jpg",
    "/%252e%252e%252fx",
    "//..//x.tar",
    "/a/./b/../../../x.gz",
    "/%c0%ae%c0%ae/x",
    "/x.jpg%00.exe",
    "/.bashrc",
    "/CON",
    "/nul.txt",
    "/a:b.jpg",
    "/f.txt::$DATA",
    "/x.",
    "/x%20",
    "/x.j%2fpg",
    "/x.%E6%97%A5",
    "/x.jpg%0a",
    "/x." + "a" * 300,
    "/" + "a" * 3000 + ".jpg",
    "/x.tar.gz.exe.__key__",
    "/%e2%80%aegpj.exe",
    "/-rf",
    "/~",
    "/",
    "",
]


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize(
    "content_type", ["", "image/jpeg", "text/html; charset=utf-8", "../../etc", "a/\0", "x" * 9999]
)
def test_hostile_urls(path: str, content_type: str, tmp_path: Path) -> None:
    """S1, S5, S7, S8: letters, digits and dots; tarfile's filter for data from outside takes them; nothing escapes."""
    name = name_of(URL(f"http://test.example.com{path}", encoded=True), None)
    assert re.fullmatch(r"[0-9a-f]{32}(\.[a-z0-9]{1,10}){0,2}", name)
    member = f"000000000{extension_of(name, content_type)}"
    assert re.fullmatch(r"0{9}(\.[a-z0-9]{1,16}){1,3}", member)
    assert place_of(member_path("/home", Place(3, member)), "/home") == Place(3, member)
    data = header(member, 0, 0)
    with tarfile.open(fileobj=io.BytesIO(data + ending(len(data)))) as archive:
        archive.extractall(tmp_path, **WITH_CARE)
    assert [path.name for path in tmp_path.iterdir()] == [member]


SEGMENT = st.text(st.characters(codec="ascii", exclude_characters="/?#"), max_size=12)
LOCATION = st.lists(SEGMENT, max_size=3).map(lambda one: URL.build(scheme="http", host="h", path="/" + "/".join(one)))


@settings(deadline=None, derandomize=True, database=None)
@given(LOCATION, LOCATION)
def test_two_requests_have_two_names(one: URL, other: URL) -> None:
    """Injective over the URL, as with the paths of files; http and https alike; a form is another request."""
    assert (name_of(one, None) == name_of(other, None)) == (one == other)
    assert name_of(one, None) == name_of(one.with_scheme("https"), None) != name_of(one, b"a=b")
    name = name_of(one, None)
    assert identity(f"/home/{name}", "/home") == name[:32]


EXTENSIONS = [
    ("x.jpg", "", ".jpg"),
    ("x.JPG", "text/html", ".jpg"),
    ("x.php", "image/png", ".png"),
    ("x.php", "", ".php"),
    ("x", "image/jpeg", ".jpg"),
    ("x", "application/octet-stream", ".bin"),
    ("x", "IMAGE/WEBP ; q=1", ".webp"),
    ("x", "nonsense", ".bin"),
    ("x", "", ".bin"),
    ("x.tar.gz", "", ".tar.gz"),
    ("x.json", "", ".data.json"),
    ("x", "application/json", ".data.json"),
]


@pytest.mark.parametrize(("path", "content_type", "extension"), EXTENSIONS)
def test_extensions(path: str, content_type: str, extension: str) -> None:
    """The URL's if it says what it is, else the server's word; ``.json`` is the metadata's."""
    assert extension_of(path, content_type) == extension


def test_paths_of_ones_own() -> None:
    """They stand for requests by their place below home."""
    assert identity("/home/cats/1.jpg", "/home") == identity("/other/cats/1.jpg", "/other")
    assert identity("/home/cats/1.jpg", "/home") != identity("/home/dogs/1.jpg", "/home")
    assert identity("/elsewhere/1.jpg", "/home") != identity("/home/1.jpg", "/home")


@pytest.mark.parametrize("name", ["00000.tar", "00041.parquet", "123456.tar"])
def test_names_of_shards(name: str) -> None:
    """Five digits or more."""
    assert number_of(name) == int(name.partition(".")[0])


@pytest.mark.parametrize(
    "name", ["0000.tar", "00000.tar.gz", "x00000.tar", "00000", ".00000.tar", "00000.tar\n", "\u0660" * 5 + ".tar"]
)
def test_other_names(name: str) -> None:
    """Are of no shard."""
    assert number_of(name) is None
    assert open_number(name) is None
    assert place_of(f"/home/{name}/000000000.bin", "/home") is None
