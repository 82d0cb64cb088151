"""What a screen reader and a reader with weak sight need of every page: language, headings, names of pictures and tables, contrast."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearward.evaluation

TEMPLATES = Path(nearward.evaluation.__path__[0]) / "templates"
STYLE = (TEMPLATES / "style.css").read_text()


class Outline(HTMLParser):
    """Tags with their attributes, and the levels of headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in tags]


@pytest.fixture(scope="module")
def texts(pages: dict[str, Path]) -> dict[str, str]:
    return {name: path.read_text() for name, path in pages.items()}


def test_every_page_is_named_has_a_language_and_one_main_part(texts) -> None:
    templates = {path.name for path in TEMPLATES.glob("*.jinja") if 'extends "page.html' in path.read_text()}
    assert len(texts) == len(templates), "a kind of page is missing in tests/evaluation/conftest.py"
    for page in texts.values():
        outline = Outline(page)
        assert outline.named("html")[0]["lang"] == "en"
        assert re.search(r"<title>\S.*</title>", page)
        assert [len(outline.named(tag)) for tag in ("main", "header", "footer", "h1")] == [1, 1, 1, 1]
        assert "user-scalable=no" not in page


def test_headings_go_down_one_level_at_a_time(texts) -> None:
    for page in texts.values():
        levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_picture_and_table_has_a_name(texts) -> None:
    for name, page in texts.items():
        outline = Outline(page)
        pictures, tables = outline.named("svg"), outline.named("table")
        assert bool(pictures) == (name != "model_card")
        assert tables
        assert all(picture["role"] == "img" and len(picture["aria-label"] or "") > 20 for picture in pictures)
        assert all(table["role"] == "table" and table["aria-label"] for table in tables)
        assert all(cell["scope"] == "col" for cell in outline.named("th"))
        regions = [tag for tag in outline.named("div") if "tabindex" in tag]
        assert all(tag["role"] == "region" and tag["aria-label"] for tag in regions)  # what can be scrolled can be reached and has a name
        assert len({attributes["id"] for _, attributes in outline.tags if attributes.get("id")}) == page.count(' id="')


def luminance(colour: str) -> float:
    full = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = np.array([int(full[at : at + 2], 16) / 255 for at in (0, 2, 4)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_the_contrast_of_wcag_aa(scheme: str) -> None:
    light, dark = STYLE.split("@media screen and (prefers-color-scheme: dark)")[:2]
    colours = dict(re.findall(r"--([a-z]+): (#\w+)", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([a-z]+): (#\w+)", dark.split("\n}")[0]))
    for text in ("ink", "soft"):
        for ground in ("page", "wash", "stripe"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for ground in ("warning", "good", "bad"):
        assert contrast(colours["ink"], colours[ground]) >= 4.5, ground
    assert contrast(colours["accent"], colours["page"]) >= 4.5
