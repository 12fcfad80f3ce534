"""The pieces of a tar file, compared with those that the standard library makes."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodownload.dataset.tar import BLOCK, ending, header, padding

MEMBER = st.from_regex(r"[0-9a-f]{9,32}\.[a-z0-9.]{1,40}", fullmatch=True)


@settings(deadline=None, derandomize=True, database=None)
@given(MEMBER, st.integers(0, 8**11 - 1), st.integers(0, 8**11 - 1))
def test_headers_are_those_of_tarfile(name: str, size: int, modified: int) -> None:
    """Bit for bit, nobody's and with mode 0644."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, modified, 0o644
    assert header(name, size, modified) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 1 << 40])
def test_large_members(size: int) -> None:
    """8 GiB and more: GNU's form, in one block as well."""
    block = header("a.bin", size, 0)
    assert len(block) == BLOCK
    assert tarfile.TarInfo.frombuf(block, "ascii", "strict").size == size


@pytest.mark.parametrize(("modified", "told"), [(-5.0, 0), (1.9, 1), (1e20, 8**11 - 1)])
def test_times_that_cannot_be(modified: float, told: int) -> None:
    """The nearest one that can."""
    assert tarfile.TarInfo.frombuf(header("a", 1, modified), "ascii", "strict").mtime == told


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.binary(max_size=2000), max_size=8))
def test_a_whole_archive(bodies: list[bytes]) -> None:
    """It is what tarfile writes, and reads."""
    ours = b"".join(header(f"{i:09}.bin", len(body), 0) + body + padding(len(body)) for i, body in enumerate(bodies))
    ours += ending(len(ours))
    theirs = io.BytesIO()
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for i, body in enumerate(bodies):
            info = tarfile.TarInfo(f"{i:09}.bin")
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    assert ours == theirs.getvalue()
