"""The page of ``aiodownload report`` in a real browser: wide and narrow, light and dark, small and large."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report import START, aiodownload, enlist, key_of

from aiodownload import Journal
from aiodownload.entries import Outcome
from aiodownload.testing import FaultServer, ok, status

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]

# Of each text that is seen: its colour, and what is behind it.
CONTRASTS = """() => {
  const parse = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const texts = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!texts || !element.getClientRects().length || element.tagName === 'title') continue;
    const style = getComputedStyle(element);
    const colour = parse(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(behind(element))];
    found.push((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    if (found.length > 3000) break;
  }
  return [found.length, Math.min(...found)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run of 10 URLs, three of which fail."""
    path = tmp_path_factory.mktemp("small")
    options = ("-o", path, "--journal", path / "j.db", "--strategy", "adaptive", "--max-attempts", "1")
    with FaultServer() as server:
        urls = [server.on(f"/{number}", ok(b"x" * 1000 * number)) for number in range(7)]
        urls += [server.on("/missing", status(404)), server.on("/broken", status(500)), "nonsense"]
        aiodownload("get", *urls, *options)
    assert aiodownload("report", path / "j.db").returncode == 0
    return path / "j.html"


@pytest.fixture(scope="module")
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of so many URLs on 500 hosts, a tenth of which have failed."""
    path, count = tmp_path_factory.mktemp("large") / "j.db", request.param
    urls = [f"https://host{n * n % 500}.example.org/data/{n % 97}/part-{n:06}.csv.gz?version=1" for n in range(count)]
    journal = Journal(path)
    journal.open("/home/me/downloads")
    for at in range(0, count, 5000):
        enlist(journal, urls[at : at + 5000])
        journal.settle(outcome(n, urls[n]) for n in range(at, at + 5000))
    journal.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"UPDATE urls SET at = {START} + id * 0.02, size = id * id % 9999991 WHERE state = 'done'")
        database.execute(f"UPDATE urls SET at = {START} + id * 0.02 WHERE state != 'done'")
    done = aiodownload("report", path)
    assert done.returncode == 0, done.stderr
    return path.with_suffix(".html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a journal that wants to run something."""
    path = tmp_path_factory.mktemp("hostile") / "j.db"
    urls = [
        "<script>document.title='pwned'</script>",
        "javascript:document.title='pwned'",
        "http://h/'\"><svg onload=alert(1)>",
    ]
    journal = Journal(path)
    journal.open("/home/me/downloads")
    enlist(journal, urls)
    journal.settle(Outcome(key_of(url), "failed", 1, None, None, f"E: {url}", 0.1, None) for url in urls)
    journal.close()
    assert aiodownload("report", path).returncode == 0
    return path.with_suffix(".html")


def outcome(number: int, url: str) -> Outcome:
    elapsed = 0.02 * (1 + number * 7919 % 300)
    if number % 10:
        return Outcome(key_of(url), "done", 1, 200, url, None, elapsed, None)
    code = (404, 503, 500)[number // 10 % 3]
    return Outcome(key_of(url), "failed", 3, code, url, f"StatusError: status {code} No", elapsed, None)


def looks_right(browser: Any, path: Path, width: int, scheme: str, seconds: float) -> None:
    """Load the page, open all that can be opened, and look for what a reader would stumble over."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    started = time.monotonic()
    page.goto(path.as_uri())
    assert page.evaluate("document.readyState") == "complete"
    assert page.evaluate("document.body.offsetHeight") > 0
    loaded = time.monotonic() - started
    assert loaded < seconds
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    count, least = page.evaluate(CONTRASTS)
    assert count > 50
    assert least >= 4.5
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    assert dark == (scheme == "dark")
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate(overflow) == 0
    small = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
    )
    assert small >= 8  # pixels from top to bottom of the smallest label of a chart
    outside = page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(t => {"
        " const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();"
        " return a.width && (a.left < b.left - 1 || a.right > b.right + 1); }).map(t => t.textContent)"
    )
    assert outside == []
    assert said == []
    assert asked == [path.as_uri()]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_ten_urls(browser: Any, small: Path, width: int, scheme: str) -> None:
    """No message, no request, no scrolling to the side, enough contrast, labels that can be read."""
    looks_right(browser, small, width, scheme, seconds=5)


@pytest.mark.parametrize("large", [20_000, pytest.param(100_000, marks=pytest.mark.slow)], indirect=True)
def test_many_urls(browser: Any, large: Path) -> None:
    """The same page is no larger than a few pictures, and opens as quickly."""
    assert large.stat().st_size < 1_500_000
    for width in (1280, 320):
        for scheme in ("light", "dark"):
            looks_right(browser, large, width, scheme, seconds=10)


def test_no_script_of_a_journal_runs(browser: Any, hostile: Path) -> None:
    """Whatever its URLs and reasons hold, the browser sees text."""
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(hostile.as_uri())
    assert page.title() == "Download report: j.db"
    assert page.locator("text=<script>document.title").count() > 0
    assert page.locator("script").count() == 0
    assert said == []
    page.close()


def test_a_keyboard_reaches_everything(browser: Any, small: Path) -> None:
    """Each table that scrolls, each list that opens and each link takes the focus, and shows it."""
    page = browser.new_page(viewport={"width": 320, "height": 800})
    page.goto(small.as_uri())
    wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], summary, [tabindex]')].filter(e => e.checkVisibility()).length"
    )
    reached = 0
    for _ in range(wanted + 1):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        reached += style == "solid" and page.evaluate("document.activeElement !== document.body")
    assert reached >= wanted > 10
    page.close()
