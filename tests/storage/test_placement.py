"""Which path a file gets when its own is taken, and what is safe to write to at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload import PathError
from aiodownload.storage import placement
from aiodownload.storage.placement import Found, Places, Survey, find, safe_path, sideways, survey

HOME = "/home/of/files"


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("x", f"{HOME}/x"),
        ("a/b/x.csv", f"{HOME}/a/b/x.csv"),
        ("./x", f"{HOME}/x"),
        ("a//b/./x", f"{HOME}/a/b/x"),
        ("..x", f"{HOME}/..x"),
        ("a/...", f"{HOME}/a/..."),
        (f"{HOME}/x", f"{HOME}/x"),
        ("/elsewhere/x", "/elsewhere/x"),
        ("/x", "/x"),
        ("~/x", f"{HOME}/~/x"),
        ("\u65e5\u672c", f"{HOME}/\u65e5\u672c"),
    ],
)
def test_a_path_is_made_absolute(path: str, whole: str) -> None:
    """A relative path lies below home; an absolute one is the caller's word; both are normalised."""
    assert safe_path(path, HOME) == whole


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "./",
        "..",
        "../x",
        "a/../x",
        "a/../../x",
        "a/..",
        "/etc/../x",
        f"{HOME}/../x",
        "..\\x",
        "a\\..\\..\\x",
        "a/..\\x",
        "x\0",
        "\0",
        "a/",
        "/a/",
        HOME,
        HOME + "/",
        "x" * 4096,
        "a/" * 2047 + "x",
        "\u65e5" * 1400,
    ],
)
def test_a_path_that_is_not_safe(path: str) -> None:
    """Stepping upwards, NUL, a folder, home itself, and what no system takes are a PathError that says so."""
    with pytest.raises(PathError) as caught:
        safe_path(path, HOME)
    assert caught.value.path == path
    assert caught.value.reason


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.one_of(st.sampled_from(["..", ".", "", "\\", "a", "~"]), st.text(max_size=5)), max_size=6))
def test_a_relative_path_never_leaves_home(pieces: list[str]) -> None:
    """Whatever is joined: below home, or a PathError."""
    path = "/".join(pieces)
    try:
        whole = safe_path(path, HOME)
    except PathError:
        return
    assert os.path.normpath(whole) == whole
    if not path.startswith("/"):
        assert whole.startswith(HOME + "/")


@pytest.mark.parametrize(
    ("depth", "before", "after"),
    [(0, "/h/a/b/c-", ".txt"), (1, "/h/a/b-", "/c.txt"), (2, "/h/a-", "/b/c.txt"), (3, "/h-", "/a/b/c.txt")],
)
def test_only_the_component_in_the_way_is_renamed(depth: int, before: str, after: str) -> None:
    """The component at that depth gets another name; what is above and below it stays."""
    moved = sideways("/h/a/b/c.txt", depth, 1)
    assert moved.startswith(before)
    assert moved.endswith(after)
    assert len(moved) == len(before) + 8 + len(after)


def test_each_turn_is_another_name() -> None:
    """A second name that is taken too gives a third one; the same turn gives the same name."""
    for depth in (0, 1):
        names = [sideways("/h/a/b", depth, turn) for turn in range(1, 65)]
        assert len(set(names)) == 64
        assert names == [sideways("/h/a/b", depth, turn) for turn in range(1, 65)]


def test_another_name_depends_on_what_is_renamed_only() -> None:
    """Files below one folder that steps aside stay together; equal names in two folders get two other names."""
    moved = {os.path.dirname(sideways(f"/h/a/{name}", 1, 1)) for name in "xyz"}
    assert len(moved) == 1
    assert os.path.basename(sideways("/h/a", 0, 1)) != os.path.basename(sideways("/h/b/a", 0, 1))


def test_the_spelling_is_part_of_the_other_name() -> None:
    """Two spellings that a file system takes for one name step aside to names that it tells apart."""
    assert sideways("/h/A", 0, 1).lower() != sideways("/h/a", 0, 1).lower()


class Held:
    """Places that are told paths as they are spelled, with key and parent worked out from them."""

    def __init__(self, fold: Callable[[str], str] = str) -> None:
        self.places = Places()
        self.fold = fold
        self.looked = 0

    def clash(self, path: str) -> int | None:
        return self.places.clash(*self._key(path))

    def take(self, path: str) -> None:
        self.places.take(*self._key(path))

    def give_back(self, path: str) -> None:
        self.places.give_back(*self._key(path))

    def in_the_way(self, path: str) -> int | None:
        key, parent = self._key(path)
        if not self.places.knows(parent):
            self.looked += 1
            self.places.learn(survey({parent: os.path.dirname(path)}, self.fold))
        return self.places.in_the_way(key, parent)

    def written(self, path: str) -> None:
        self.places.written(*self._key(path))

    def _key(self, path: str) -> tuple[str, str]:
        key = self.fold(path)
        return key, os.path.dirname(key)


@pytest.mark.parametrize(
    ("held", "wanted", "depth"),
    [
        ("/h/a", "/h/a", 0),
        ("/h/a", "/h/a/b", 1),
        ("/h/a", "/h/a/b/c", 2),
        ("/h/a/b", "/h/a/b/c", 1),
        ("/h/a/b", "/h/a", 0),
        ("/h/a/b/c", "/h/a", 0),
        ("/h/a", "/h/b", None),
        ("/h/a", "/h/ab", None),
        ("/h/ab", "/h/a", None),
        ("/h/a/b", "/h/a/c", None),
        ("/h/a/b", "/h/c/b", None),
        ("/h/a", "/h/A", None),
        ("/h/a", "/h/A/b", None),
    ],
)
def test_two_bundles_do_not_meet(held: str, wanted: str, depth: int | None) -> None:
    """A path is taken by itself, by a file above it, and by files below it; given back it is free again."""
    places = Held()
    assert places.clash(wanted) is None
    places.take(held)
    assert places.clash(wanted) == depth
    places.give_back(held)
    assert places.clash(wanted) is None


@pytest.mark.parametrize(
    ("held", "wanted", "depth"),
    [
        ("/h/A", "/h/a", 0),
        ("/h/a", "/H/A", 0),
        ("/h/A", "/h/a/b", 1),
        ("/h/a", "/h/A/b/c", 2),
        ("/h/A/b", "/h/a", 0),
        ("/h/A/x", "/h/a/X", 0),
        ("/h/A/x", "/h/a/y", None),
        ("/h/A", "/h/b", None),
    ],
)
def test_two_spellings_are_one_where_case_is_folded(held: str, wanted: str, depth: int | None) -> None:
    """Folded, a path is taken by another spelling of itself or of a folder of it, and freed by another spelling."""
    places = Held(str.lower)
    places.take(held)
    assert places.clash(wanted) == depth
    places.give_back(held.swapcase())
    assert places.clash(wanted) is None


@pytest.mark.parametrize(("first", "second"), [("/h/a/x", "/h/a/y"), ("/h/a/b/x", "/h/a/c/x"), ("/h/a/x", "/h/a/b/x")])
def test_what_two_bundles_share_is_kept_for_the_second(first: str, second: str) -> None:
    """A folder with two files somewhere below is no file's place until both are given back."""
    for one, other in ((first, second), (second, first)):
        places = Held()
        places.take(one)
        places.take(other)
        places.give_back(one)
        assert places.clash("/h/a") == 0
        assert places.clash(one) is None
        places.give_back(other)
        assert places.clash("/h/a") is None


_PATH = st.lists(st.sampled_from("abAB"), min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


@pytest.mark.parametrize("fold", [str, str.lower])
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.booleans(), _PATH), max_size=30), _PATH)
def test_taken_is_what_is_held_now(fold: Callable[[str], str], steps: list[tuple[bool, str]], wanted: str) -> None:
    """After any takings and givings-back, a clash is told, and where, if and only if a held file is in the way."""
    places, held = Held(fold), set()
    for take, path in steps:
        if take and places.clash(path) is None:
            places.take(path)
            held.add(fold(path))
        elif fold(path) in held:
            places.give_back(path)
            held.discard(fold(path))
    key = fold(wanted)
    above = [key.count("/") - file.count("/") for file in held if key.startswith(file + "/")]
    if key in held or any(file.startswith(key + "/") for file in held):
        assert places.clash(wanted) == 0
    else:
        assert places.clash(wanted) == (above[0] if above else None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file ``f``, a folder ``d`` with a file, and links to both."""
    (tmp_path / "f").write_bytes(b"four")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"")
    (tmp_path / "to-d").symlink_to(tmp_path / "d")
    (tmp_path / "to-f").symlink_to(tmp_path / "f")
    (tmp_path / "to-nothing").symlink_to(tmp_path / "nothing")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "depth"),
    [
        ("new", None),
        ("f", None),
        ("d", 0),
        ("d/x", None),
        ("d/x/y", 1),
        ("d/x/y/z", 2),
        ("f/y", 1),
        ("f/y/z", 2),
        ("f/y/z/z", 3),
        ("none/y", None),
        ("none/y/z", None),
        ("to-d", None),
        ("to-d/y", None),
        ("to-d/x/y", 1),
        ("to-f", None),
        ("to-f/y", 1),
        ("to-nothing", None),
    ],
)
def test_what_the_disk_has_in_the_way(folder: Path, path: str, depth: int | None) -> None:
    """A folder of that name is in the way, and the highest file above; an old file or a link of that name is not."""
    assert Held().in_the_way(str(folder / path)) == depth


def test_what_was_not_looked_at_is_not_in_the_way(folder: Path) -> None:
    """Without a survey of its folder nothing is said of a path, and none is made."""
    places = Places()
    assert not places.knows(str(folder))
    assert places.in_the_way(str(folder / "d"), str(folder)) is None


def test_a_survey_tells_folders_and_files_in_their_place(folder: Path) -> None:
    """Each folder is answered under the key it was asked by: its folders by name, or how far above a file stands."""
    asked = {"0": str(folder), "1": str(folder / "f"), "2": str(folder / "f" / "y"), "3": str(folder / "none")}
    assert survey(asked, str) == {
        "0": Survey(None, {"d"}, set(), {"to-d", "to-f", "to-nothing"}),
        "1": Survey(0, set(), set(), set()),
        "2": Survey(1, set(), set(), set()),
        "3": Survey(None, set(), set(), set()),
    }


def test_a_folder_that_cannot_be_looked_at_is_taken_for_empty(folder: Path) -> None:
    """Names that no file system takes, and a link that leads to itself, end no survey; writing there will tell."""
    (folder / "loop").symlink_to(folder / "loop")
    asked = {name: str(folder / name) for name in ("x" * 300, "nul\0", "loop")}
    empty = Survey(None, set(), set(), set())
    assert survey(asked, str) == {**dict.fromkeys(asked, empty), "loop": Survey(None, set(), set(), None)}


def test_folders_on_the_disk_are_compared_folded(tmp_path: Path) -> None:
    """With a fold, a folder of another spelling is in the way, of either; without one, it is not."""
    (tmp_path / "Docs").mkdir()
    for spelling in ("Docs", "docs", "DOCS"):
        assert Held(str.lower).in_the_way(str(tmp_path / spelling)) == 0
    assert Held().in_the_way(str(tmp_path / "Docs")) == 0
    assert Held().in_the_way(str(tmp_path / "docs")) is None


def test_folders_are_looked_at_as_they_are_spelled(tmp_path: Path) -> None:
    """The disk is asked for the path as it is spelled, whatever the fold makes of it."""
    home = tmp_path / "Home"
    (home / "Docs").mkdir(parents=True)
    (home / "File").write_bytes(b"x")
    places = Held(str.lower)
    assert places.in_the_way(str(home / "docs")) == 0
    assert places.in_the_way(str(home / "File" / "y")) == 1
    assert places.in_the_way(str(home / "File" / "y" / "z")) == 2


def test_what_is_written_is_known_without_looking_again(folder: Path) -> None:
    """A folder that was made and a file that was published later are seen by who comes then."""
    places = Held()
    assert places.in_the_way(str(folder / "q")) is None
    assert places.in_the_way(str(folder / "q" / "r")) is None
    (folder / "q").mkdir()
    (folder / "q" / "r").write_bytes(b"x")
    places.written(str(folder / "q" / "r"))
    assert places.in_the_way(str(folder / "q")) == 0
    assert places.in_the_way(str(folder / "q" / "s")) is None
    assert places.looked == 2


def test_a_folder_that_was_made_is_known_by_each_spelling(tmp_path: Path) -> None:
    """Folded, a folder made for a published file is in the way of its other spellings, without looking again."""
    places = Held(str.lower)
    assert places.in_the_way(str(tmp_path / "q")) is None
    places.written(str(tmp_path / "Q" / "r"))
    assert places.in_the_way(str(tmp_path / "q")) == 0
    assert places.in_the_way(str(tmp_path / "Q")) == 0
    assert places.looked == 1


def test_each_folder_above_what_is_written_is_known(tmp_path: Path) -> None:
    """A file published deep down makes a folder of every name above it."""
    places = Held()
    for name in ("a", "a/b", "a/b/c"):
        assert places.in_the_way(str(tmp_path / name)) is None
    places.written(str(tmp_path / "a" / "b" / "c" / "file"))
    for name in ("a", "a/b", "a/b/c"):
        assert places.in_the_way(str(tmp_path / name)) == 0
    assert places.looked == 3


def test_a_file_in_place_of_a_known_folder_is_known(folder: Path) -> None:
    """A file published where a folder was looked for is in the way of what would lie below it."""
    places = Held()
    assert places.in_the_way(str(folder / "q" / "r")) is None
    (folder / "q").write_bytes(b"x")
    places.written(str(folder / "q"))
    assert places.in_the_way(str(folder / "q" / "r")) == 1
    assert places.in_the_way(str(folder / "q" / "r" / "s")) == 2


def test_a_folder_is_looked_at_once(folder: Path) -> None:
    """Many files of one folder cost one look at it, and files published there no further one."""
    places = Held()
    for number in range(20):
        path = str(folder / str(number))
        assert places.in_the_way(path) is None
        places.written(path)
    assert places.looked == 1


def test_only_so_many_folders_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit everything is forgotten and looked at anew: memory stays bounded and answers stay right."""
    monkeypatch.setattr(placement, "_MOST_KNOWN", 2)
    places = Held()
    for name in ("none/x", "d/x/y", "d"):
        places.in_the_way(str(folder / name))
    assert [places.places.knows(str(folder / name)) for name in ("none", "d/x", "")] == [False, False, True]
    assert places.in_the_way(str(folder / "d" / "x" / "y")) == 1
    assert places.in_the_way(str(folder / "d")) == 0
    assert places.looked == 4


def test_files_that_are_there_are_found(folder: Path) -> None:
    """Whole files are found with their size; folders, links and nothing are not."""
    names = ["f", "d/x", "d", "to-f", "to-nothing", "none", "f/y", "x" * 300, "nul\0"]
    found = find([str(folder / name) for name in names])
    assert found[:2] == [Found(str(folder / "f"), 4), Found(str(folder / "d" / "x"), 0)]
    assert found[2:] == [None] * 7


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_files_are_found_under_their_other_name(tmp_path: Path, depth: int) -> None:
    """A file that had to step aside, by itself or with a folder above it, is found by its own path."""
    path = str(tmp_path / "p" / "q" / "r.txt")
    other = Path(sideways(path, depth, 1))
    other.parent.mkdir(parents=True)
    other.write_bytes(b"moved")
    assert find([path]) == [Found(str(other), 5)]


def test_a_file_is_found_under_its_own_name_first(tmp_path: Path) -> None:
    """Where both are there, the file itself counts, not the one that stepped aside."""
    path = tmp_path / "r.txt"
    path.write_bytes(b"own")
    Path(sideways(str(path), 0, 1)).write_bytes(b"other")
    assert find([str(path)]) == [Found(str(path), 3)]
