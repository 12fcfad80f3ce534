"""Names: whatever a URL holds, its file lies below home, is nobody else's, and has no control character."""

from __future__ import annotations

import random
import unicodedata
from hashlib import blake2b
from pathlib import Path

import pytest

from aiodownload import AioDownloadBundle, DownloadStrategy, InvalidURLError

PIECES = [
    "a", "B", "%2e%2e", "..", ".", "%2f", "%5c", "\\", "%00", "%0a", "%1b]0;x%07", "con", "NUL.txt", "aux", "x.", "x ",
    "é", "e%CC%81", "%C3%A9", "ß", "\u017f", "日本", "%E2%80%AE", "%ef%bb%bf", "~", "-rf", ".bashrc", "desktop.ini",
    "a:b",
    "f.txt::$DATA", "%252e%252e", "x" * 120, "%c0%ae", "index", "a_1-b_2", "(p_1)", ";p=1", "+", "&", "=", "'", '"',
    "*", ".part", ".x.part.json", "a-0123abcd", "İ", "ﬁ",
]  # fmt: skip
HOSTS = [
    "h",
    "H.example",
    "h:81",
    "127.0.0.1",
    "[::1]",
    "h.",
    "xn--bcher-kva.example",
    "日本.jp",
    "h+81",
    "localhost:8080",
]


def made(chance: random.Random, number: int) -> str:
    """A URL that means harm."""
    path = "/".join("".join(chance.choices(PIECES, k=chance.randint(0, 3))) for _ in range(chance.randint(0, 5)))
    query = f"?{chance.choice(PIECES)}={chance.choice(PIECES)}" if chance.random() < 0.4 else ""
    mark = chance.choice(("", "", f"{number}", f"/{number % 10}/", "/"))  # many are alike, and some the same
    return f"{chance.choice(('http', 'https'))}://{chance.choice(HOSTS)}/{path}{mark}{query}"


@pytest.mark.parametrize(
    "count", [10_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_containment(count: int, tmp_path: Path) -> None:
    """P8: none outside of home, no two URLs with one path, also where NFC and NFD are one, nothing unprintable."""
    chance = random.Random(count)
    home = str(tmp_path)
    strategy = DownloadStrategy(home=home)
    taken: dict[int, int] = {}
    refused = 0
    for number in range(count):
        bundle = AioDownloadBundle(made(chance, number))
        try:
            url = bundle._parse()
        except InvalidURLError:
            refused += 1
            continue
        path = strategy.get_file_path(bundle)
        assert path.startswith(home + "/")
        names = path[len(home) + 1 :].split("/")
        assert not {"", ".", ".."} & set(names), path
        assert all(len(name.encode()) <= 255 for name in names), path
        assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in path), ascii(path)
        assert "\\" not in path
        folded = unicodedata.normalize("NFC", path)
        # http and https are one origin; the fragment is no part of the request.
        whose = hash((url.raw_host, url.explicit_port, url.raw_path_qs))
        place = int.from_bytes(blake2b(folded.encode(), digest_size=8).digest())
        known = taken.setdefault(place, whose)
        assert known == whose, (path, str(url))
    print(
        f"\n{count} URLs, {refused} refused as such: {len(taken)} paths; 0 outside, 0 collisions, 0 control characters"
    )
