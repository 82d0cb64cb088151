"""Pages in a real browser: nothing is cut off at three widths, figures are drawn, and they look and print as they did."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearward.evaluation.html_page import BLUE

pytestmark = pytest.mark.slow

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
PICTURES = Path(__file__).parents[1] / "golden" / "pages"
WIDTHS = [390, 800, 1300]
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"  # npm install --no-save axe-core
SHEETS = {
    "report": 4, "comparison": 3, "sheet": 1, "model_card": 8, "faith_card": 4, "drift": 2, "transport": 3, "events": 3, "adaptation": 2,
}  # fmt: skip
PAGES = list(SHEETS)
THUMBNAIL = 60  # pixels wide
TOLERANCE = 12  # of 255: fonts differ between machines


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Callable[..., str]:
    """Run a browser without a screen on a page; without one the test is skipped."""
    path = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser to take a picture with: none of {', '.join(BROWSERS)} is installed")
    profile = tmp_path_factory.mktemp("profile")

    def run(page: Path, *words: str) -> str:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        done = subprocess.run([path, *flags, *words, page.as_uri()], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


# The page, untouched, in a frame as wide as the screen asked for (no window is narrower than 500), and a script that measures.
FRAMED = """<!DOCTYPE html><title></title><body style="margin: 0"><iframe width="%d" height="%d" style="border: 0"></iframe><script>
const frame = document.querySelector('iframe');
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const shown = [...page.querySelectorAll('svg')].map(s => s.getBoundingClientRect()).filter(b => b.width > 0);
  const boxes = shown.map(b => [b.left, b.top, b.right, b.bottom]);
  const cut = [...page.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth + 1).length;
  document.title = JSON.stringify({boxes, cut, wide: root.scrollWidth, high: root.scrollHeight});
};
frame.srcdoc = %s;
</script></body>"""


def framed(page: Path, folder: Path, width: int, height: int) -> Path:
    path = folder / f"framed_{page.stem}_{width}_{height}.html"
    path.write_text(FRAMED % (width, height, json.dumps(page.read_text()).replace("</", "<\\/")))
    return path


def layout(browser: Callable[..., str], page: Path, folder: Path, width: int) -> dict:
    dom = browser(framed(page, folder, width, 900), "--virtual-time-budget=5000", "--dump-dom")
    return json.loads(re.search(r"<title>(.*?)</title>", dom)[1])


def picture(browser: Callable[..., str], page: Path, folder: Path, width: int, height: int) -> Image.Image:
    path = folder / "page.png"
    size, shot = f"--window-size={max(width, 500)},{height}", f"--screenshot={path}"
    browser(framed(page, folder, width, height), size, "--virtual-time-budget=5000", shot)
    return Image.open(path).convert("RGB").crop((0, 0, width, height))


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_are_drawn_and_the_report_looks_as_it_did(browser, pages, tmp_path: Path, width: int) -> None:
    measured = layout(browser, pages["report"], tmp_path, width)
    assert len(measured["boxes"]) == 4 + 1  # curves, and forest plots, in one of their layouts
    left, top, right, bottom = measured["boxes"][-1]
    assert (right - left < 2 * (bottom - top)) == (width == 390), "panels side by side on a desk, one below the other on a phone"
    shown = picture(browser, pages["report"], tmp_path, width, measured["high"])
    pixels = np.asarray(shown).astype(int)
    blue = np.array([int(BLUE[at : at + 2], 16) for at in (1, 3, 5)])
    for left, top, right, bottom in measured["boxes"]:
        assert right - left > 250
        assert bottom - top > 80
        part = pixels[round(top) : round(bottom), round(left) : round(right)]
        drawn = (np.abs(part - blue).sum(axis=2) < 40).any(axis=0)
        assert drawn.mean() > 0.08, "no curve in blue where a figure should be"
        assert (part.sum(axis=2) < 250).sum() > 100, "no dark text where a figure should be"
    thumbnail = shown.convert("L").resize((THUMBNAIL, round(THUMBNAIL * shown.height / shown.width)), Image.Resampling.BOX)
    stored = PICTURES / f"report-{width}.png"
    if os.environ.get("NEARWARD_GOLDEN") == "write":
        stored.parent.mkdir(exist_ok=True)
        thumbnail.save(stored)
    before = Image.open(stored)
    assert thumbnail.height == pytest.approx(before.height, rel=0.06)
    difference = np.abs(np.asarray(thumbnail.resize(before.size)).astype(int) - np.asarray(before))
    assert difference.mean() < TOLERANCE, "the page looks different: if it should, write it again with NEARWARD_GOLDEN=write"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off(browser, pages, tmp_path: Path, name: str, width: int) -> None:
    """On a phone and on a desk; between them a wide table scrolls within its frame."""
    measured = layout(browser, pages[name], tmp_path, width)
    assert measured["wide"] <= width
    assert measured["cut"] == 0 or width == 800


@pytest.mark.parametrize(("name", "most"), SHEETS.items())
def test_it_prints_on_few_sheets(browser, pages, tmp_path: Path, name: str, most: int) -> None:
    browser(pages[name], f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= most


# Pages with axe-core at their end, each in a frame of its own width; what every page violates becomes the title of the page around them.
AUDITED = """<!DOCTYPE html><title></title><body><script>
const pages = %s, axe = %s, found = {}, names = Object.keys(pages);
window.addEventListener('message', event => {
  found[event.data.name] = event.data.violations;
  if (Object.keys(found).length == names.length) document.title = JSON.stringify(found);
});
for (const name of names) {
  const frame = document.createElement('iframe');
  frame.width = name.split(' ')[1];
  frame.height = 900;
  document.body.append(frame);
  const run = `axe.run({iframes: false}).then(r => parent.postMessage({name: "${name}", violations: r.violations.map(
    v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 150) + ' ' + n.failureSummary)])}, '*'))`;
  frame.srcdoc = pages[name] + '<script>' + axe + '<' + '/script><script>' + run + '<' + '/script>';
}
</script></body>"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_hinders_a_reader(browser, pages, tmp_path: Path, scheme: str) -> None:
    """What a screen reader needs and contrasts as they are drawn, on a desk and on a phone."""
    axe = Path(os.environ.get("NEARWARD_AXE", AXE))
    if not axe.is_file():
        pytest.skip(f"no axe-core in {axe}: npm install --no-save axe-core, or NEARWARD_AXE=…/axe.min.js")
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')  # which forbids every script
    frames = {f"{name} {width}": policy.sub("", page.read_text()) for name, page in pages.items() for width in (390, 1300)}
    frames["faulty 390"] = "<p>No language, and a picture without a name <img src='data:,'></p>"
    words = [json.dumps(text).replace("</", "<\\/") for text in (frames, axe.read_text())]
    path = tmp_path / "audited.html"
    path.write_text(AUDITED % tuple(words))
    dark = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    dom = browser(path, dark, "--window-size=1400,1000", "--virtual-time-budget=60000", "--dump-dom")
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]))
    assert {"html-has-lang", "image-alt"} <= {rule for rule, _ in found.pop("faulty 390")}
    assert {name: violations for name, violations in found.items() if violations} == {}
