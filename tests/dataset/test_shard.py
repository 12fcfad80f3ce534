"""An open shard by itself: whose it is, what is taken up, what is believed of it, and the index of a home."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from hashlib import shake_128
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the extra dataset is not installed")

from shelf import read, tables

from aiodownload import AioDownloadBundle, StatusError
from aiodownload.dataset.index import Index
from aiodownload.dataset.lease import Lease, sweep
from aiodownload.dataset.ledger import Ledger
from aiodownload.dataset.names import Place, member_path
from aiodownload.dataset.rows import Row, row_of
from aiodownload.dataset.shard import Sample, Shard
from aiodownload.entries import FileState, Publication
from aiodownload.storage.folder import Folder
from aiodownload.storage.owner import Owner, me
from aiodownload.storage.part import PartError

ELSEWHERE = Owner("00000000", "0" * 12, "0000", 77, 0)
DEAD = me()._replace(pid=(1 << 22) + 7)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder.open(str(tmp_path)) as folder:
        yield folder


Begin = Callable[..., Shard]


@pytest.fixture
def begin(folder: Folder) -> Begin:
    def make(number: int = 0, added: Callable[..., object] = lambda span: None) -> Shard:
        lease = Lease(folder, number)
        assert lease.begin()
        return Shard(lease, 0o644, False, added)

    return make


def row(number: int, error: bool = False) -> Row:
    bundle = AioDownloadBundle(f"http://test.example.com/{number}")
    return row_of(bundle, f"{number:032x}", StatusError("no", 404) if error else None)


def body(number: int) -> bytes:
    return shake_128(b"%d" % number).digest(100 * number)


def add(shard: Shard, number: int, note: Callable[[str, FileState], None] | None = None) -> Row:
    data = body(number)
    return shard.append(Sample(row(number), ".bin", 0, len(data), [data]), f"{shard.number:05d}{number:04d}", note)


def reopened(folder: Folder, number: int = 0, owner: Owner | None = DEAD, adopt: bool = False) -> Shard | None:
    """Take the shard up as after the death of ``owner``."""
    inner = Path(folder.path, f".{number:05d}.shard")
    (mark,) = inner.glob("*.owner")
    if owner is not None:
        mark.rename(inner / f"{owner.tag}.owner")
    lease = Lease(folder, number)
    return Shard(lease, 0o644, False) if lease.take_over(adopt) else None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_durable_from_the_first_name_on(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and bytes are brought to the disk before a member counts, and all that is published before it is shown."""
    synced: list[str] = []
    fsync, give = os.fsync, Folder.give

    def noted(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def shown(self: Folder, name: str, other: Folder, new: str) -> None:
        synced.append(f"{new} appears")
        give(self, name, other, new)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Folder, "give", shown)
    lease = Lease(folder, 0)
    assert lease.begin(durable=True)
    draft, home = synced
    assert draft.endswith(".new")
    assert home == tmp_path.name
    shard = Shard(lease, 0o644, True)
    add(shard, 1)
    assert synced[2:] == ["rows", "tar", "rows"]
    shard.publish()
    assert synced[5:] == ["rows", "tar", "parquet", "00000.parquet appears", "00000.tar appears", tmp_path.name]


def test_a_number_is_taken_once(folder: Folder, begin: Begin, tmp_path: Path) -> None:
    """By whoever is first; a draft that did not get it is not left."""
    begin(3)
    assert not Lease(folder, 3).begin()
    (tmp_path / "00004.tar").touch()
    (tmp_path / "00005.parquet").touch()
    assert not Lease(folder, 4).begin()
    assert not Lease(folder, 5).begin()
    (tmp_path / ".00006.shard").touch()
    assert not Lease(folder, 6).begin()
    assert sorted(os.listdir(tmp_path)) == [".00003.shard", ".00006.shard", "00004.tar", "00005.parquet"]


def test_the_folder_is_nobody_elses(begin: Begin, tmp_path: Path) -> None:
    """While it is open, only its user may look into it."""
    begin()
    assert stat.S_IMODE((tmp_path / ".00000.shard").stat().st_mode) == 0o700


def test_whose_it_is(folder: Folder, begin: Begin) -> None:
    """A living owner keeps it; a dead one, or one that let go, does not; of another machine it must be said."""
    shard = begin()
    add(shard, 1)
    assert reopened(folder, owner=None) is None  # that is this process
    assert reopened(folder, owner=ELSEWHERE) is None
    again = reopened(folder, owner=ELSEWHERE, adopt=True)
    assert again is not None
    assert (again.members, again.end) == (1, shard.end)
    assert reopened(folder, owner=me(), adopt=True) is None
    assert reopened(folder, owner=DEAD) is not None
    again.release()
    # its mark was taken by the last one, so it could not be given back
    last = reopened(folder, owner=DEAD)
    assert last is not None
    last.release()
    assert Lease(folder, 0).take_over()


def test_two_take_it_up(folder: Folder, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes second finds that the mark has another name."""
    begin()
    inner = tmp_path / ".00000.shard"
    (mark,) = inner.glob("*.owner")
    mark.rename(inner / f"{DEAD.tag}.owner")
    rename = Folder.rename

    def late(self: Folder, name: str, other: str) -> None:
        (inner / f"{DEAD.tag}.owner").rename(inner / f"{ELSEWHERE.tag}.owner")
        rename(self, name, other)

    monkeypatch.setattr(Folder, "rename", late)
    assert not Lease(folder, 0).take_over()


@pytest.mark.parametrize("left", [(), ("owner",), ("owner", "tar")])
def test_what_is_left_of_a_published_shard(left: tuple[str, ...], folder: Folder, tmp_path: Path) -> None:
    """Without its account there is nothing in it; it goes."""
    inner = tmp_path / ".00000.shard"
    inner.mkdir()
    for name in left:
        (inner / (f"{DEAD.tag}.owner" if name == "owner" else name)).touch()
    assert not Lease(folder, 0).take_over()
    assert not inner.exists()


def test_drafts_are_swept(folder: Folder, tmp_path: Path) -> None:
    """Those of the dead; and no other folder, whatever it is called."""
    kept = [f".00001.{me().tag}-0123abcd.new", ".00002.new", f".x.{DEAD.tag}-0123abcd.new"]
    for name in (*kept, f".00000.{DEAD.tag}-0123abcd.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tar").touch()
    for name in os.listdir(tmp_path):
        sweep(folder, name)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_bytes_that_do_not_count_are_cut_off(folder: Folder, begin: Begin, tmp_path: Path) -> None:
    """Half a member, and half a line."""
    shard = begin()
    for number in (1, 2, 3):
        add(shard, number)
    inner = tmp_path / ".00000.shard"
    for name in ("tar", "rows"):
        with (inner / name).open("ab") as file:
            file.write(b"half of it")
    again = reopened(folder)
    assert again is not None
    assert (again.end, again.members) == (shard.end, 3)
    assert (inner / "tar").stat().st_size == shard.end
    add(again, 4)
    again.publish()
    assert [one.body for one in read(tmp_path)] == [body(number) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ["tar", "rows"])
@pytest.mark.parametrize("kind", ["symbolic link", "second name", "folder"])
def test_a_file_of_somebody_else(name: str, kind: str, folder: Folder, begin: Begin, tmp_path: Path) -> None:
    """S5: it is neither cut off nor written to."""
    add(begin(), 1)
    theirs, ours = tmp_path / "theirs", tmp_path / ".00000.shard" / name
    theirs.write_bytes(b"precious")
    ours.unlink()
    if kind == "symbolic link":
        ours.symlink_to(theirs)
    elif kind == "second name":
        ours.hardlink_to(theirs)
    else:
        ours.mkdir()
    with pytest.raises(OSError, match=r"link|no file of its own|directory"):
        reopened(folder)
    assert theirs.read_bytes() == b"precious"


@pytest.mark.parametrize("boot", ["another", "the same"])
def test_after_a_power_cut(
    boot: str, folder: Folder, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another boot each member is read again, and the first that is not what it was ends the shard."""
    shard = begin()
    for number in (1, 2, 3):
        add(shard, number)
    with (tmp_path / ".00000.shard" / "tar").open("r+b") as file:
        file.seek(512 + 512 + 1024 + 600)  # in the body of the second
        file.write(bytes(8))
    if boot == "another":
        monkeypatch.setattr("aiodownload.dataset.shard.me", lambda: me()._replace(boot="abcdefabcdef"))
    again = reopened(folder)
    assert again is not None
    assert again.members == (1 if boot == "another" else 3)


def test_a_tar_that_has_lost_its_end(folder: Folder, begin: Begin, tmp_path: Path) -> None:
    """What it is said to have and has not does not count."""
    shard = begin()
    for number in (1, 2, 3):
        add(shard, number)
    os.truncate(tmp_path / ".00000.shard" / "tar", shard.end - 1)
    again = reopened(folder)
    assert again is not None
    assert again.members == 2
    again.publish()
    assert [one.body for one in read(tmp_path)] == [body(1), body(2)]


@pytest.mark.parametrize("shown", ["none", "parquet", "both"])
def test_publication_is_gone_on_with(shown: str, folder: Folder, begin: Begin, tmp_path: Path) -> None:
    """Whatever of it was done when a process was killed: the rest is, and nothing twice."""
    shard = begin()
    for number in (1, 2):
        add(shard, number)
    give, given = Folder.give, []

    class Killed(BaseException):
        pass

    def dying(self: Folder, name: str, other: Folder, new: str) -> None:
        if len(given) == {"none": 0, "parquet": 1, "both": 2}[shown]:
            raise Killed
        given.append(name)
        give(self, name, other, new)

    def dies(self: Lease) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "give", dying)
        patch.setattr(Lease, "remove", dies)
        with pytest.raises(Killed):
            shard.publish()
    again = reopened(folder)
    assert again is not None
    assert again.sealed
    again.publish()
    assert [one.body for one in read(tmp_path)] == [body(1), body(2)]
    assert sorted(os.listdir(tmp_path)) == ["00000.parquet", "00000.tar"]


def test_a_file_system_without_second_names(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are renamed, and never over another."""

    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "supports_follow_symlinks", {*os.supports_follow_symlinks, link})
    shard = begin()
    add(shard, 1)
    (tmp_path / "00000.tar").write_bytes(b"somebody's")
    with pytest.raises(PartError) as caught:
        shard.publish()
    assert caught.value.action == "rename to"
    assert (tmp_path / "00000.tar").read_bytes() == b"somebody's"
    (tmp_path / "00000.tar").unlink()
    shard.publish()
    assert [one.body for one in read(tmp_path)] == [body(1)]


def test_one_row_for_each_request(begin: Begin, tmp_path: Path) -> None:
    """Of two failures the last counts, and of a failure and a success the success."""
    shard = begin()
    shard.tell(row(1, error=True))
    shard.tell(row(2, error=True))
    shard.tell(row(1, error=True)._replace(error="again"))
    add(shard, 2)
    shard.tell(row(2, error=True))
    shard.publish()
    assert [(one["identity"][-1], one["error"]) for one in tables(tmp_path)[0]] == [("1", "again"), ("2", None)]


def told(home: Path, member: str, state: FileState) -> Publication:
    return Publication(member_path(str(home), Place(0, member)), state, None, None, "LENGTH")


def test_a_note_that_does_not_come_to_count(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal may have been told of a member that was not accounted for; another in its place is not taken for it."""
    index = Index(str(tmp_path))
    index.own(0)
    shard = begin(added=index.add)
    notes: list[tuple[str, FileState]] = []

    def note(member: str, state: FileState) -> None:
        notes.append((member, state))

    def full(*_: object) -> None:
        raise OSError(28, "full")

    add(shard, 1, note)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", full)
        with pytest.raises(PartError):
            add(shard, 2, note)
    add(shard, 3, note)
    first, lost, third = (told(tmp_path, *one) for one in notes)
    assert lost.file.mtime_ns == third.file.mtime_ns
    assert [index.holds(one) for one in (first, lost, third)] == [True, False, True]
    shard.publish()
    index = Index(str(tmp_path))  # and so for whoever reads the table
    assert [index.holds(one) for one in (first, lost, third)] == [True, False, True]


def test_what_a_hostile_journal_says(begin: Begin, tmp_path: Path) -> None:
    """Only what is in a shard of this home, at the very place, is there."""
    index = Index(str(tmp_path))
    index.own(0)
    shard = begin(added=index.add)
    notes: list[tuple[str, FileState]] = []
    add(shard, 5, lambda *what: notes.append(what))
    right = told(tmp_path, *notes[0])
    assert index.holds(right)
    for path in (
        "/etc/passwd",
        f"{tmp_path}/00000.tar",
        f"{tmp_path}/00000.tar/../x",
        f"{tmp_path}/00001.tar/000000000.bin",
    ):
        assert not index.holds(right._replace(path=path))
    for change in ({"inode": 1}, {"size": 10**6}, {"mtime_ns": 0}, {"mtime_ns": -5}, {"mtime_ns": 1 << 62}):
        assert not index.holds(right._replace(file=right.file._replace(**change)))


def test_one_that_cannot_be_read_hides_no_other(begin: Begin, tmp_path: Path) -> None:
    """S5: a link, a folder and a table of nobody are passed over."""
    notes: list[tuple[str, FileState]] = []
    shard = begin(3)
    add(shard, 1, lambda *what: notes.append(what))
    shard.publish()
    (tmp_path / "00000.parquet").symlink_to(tmp_path / "00003.parquet")
    (tmp_path / "00001.parquet").mkdir()
    (tmp_path / "00002.parquet").write_bytes(b"PAR1")
    for number in range(3):
        (tmp_path / f"{number:05d}.tar").write_bytes((tmp_path / "00003.tar").read_bytes())
    path = member_path(str(tmp_path), Place(3, notes[0][0]))
    index = Index(str(tmp_path))
    assert index.holds(Publication(path, notes[0][1], None, None, "LENGTH"))
    assert [one and one.path for one in index.find([f"{tmp_path}/{1:032x}"])] == [path]
