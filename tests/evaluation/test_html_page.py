"""Pages: what comes from outside is escaped, nothing is fetched, the same content gives the same text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from nearward.evaluation.html_page import BLUE, environment, format_estimate
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.stats.confidence import Estimate, estimate_series

NASTY = "<script>alert('x')</script> & \"so\""


def drawing(label: str = "a") -> Figure:
    drawn = Figure(figsize=(4.4, 3.4), layout="constrained")
    axes = drawn.subplots()
    axes.plot([0, 1], [0, 1], color=BLUE, label=label)
    axes.fill_between([0, 1], [0, 0.5], [0.5, 1], alpha=0.3)
    axes.legend()
    return drawn


class Tags(HTMLParser):
    """Every tag, its attributes, and whether tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


PAGE = """
{% extends "page.html.jinja" %}
{% from "components.html.jinja" import figure, notice, table %}
{% block title %}{{ text }}{% endblock %}
{% block lead %}{{ text }}{% endblock %}
{% block sections %}
<section>
<h2>{{ text }}</h2>
<p>{{ text }}</p>
{% for kind in ("warning", "good", "bad") %}
{{ notice(text, kind) }}
{% endfor %}
{{ table(frame, text) }}
{% for caption, drawing in drawings.items() %}
{{ figure(drawing, caption) }}
{% endfor %}
</section>
{% endblock %}
"""


def full_page() -> str:
    frame = pl.DataFrame(
        [pl.Series(NASTY, [NASTY, "=1+1"]), pl.Series("n", [1, 20_000]), estimate_series("e", [Estimate(0.5, 0.4, 0.6, 9), None])]
    )
    return (
        environment()
        .from_string(PAGE)
        .render(text=NASTY, frame=frame, drawings={NASTY: drawing(NASTY), "b": drawing("b")}, provenance=Provenance.now())
    )


def component(name: str, *arguments: Any) -> str:
    module: Any = environment().get_template("components.html.jinja").module
    return str(getattr(module, name)(*arguments))


def table(frame: pl.DataFrame) -> str:
    return component("table", frame, "")


def test_a_variable_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="frame"):
        environment().from_string(PAGE).render(text="", drawings={})


def test_everything_from_outside_is_escaped_and_tags_are_closed() -> None:
    tags = Tags()
    tags.feed(full_page())
    assert tags.open == []
    names = [name for name, _ in tags.seen]
    assert "script" not in names
    assert not any(key.startswith("on") for _, attrs in tags.seen for key in attrs)
    assert names.count("svg") == 2


def test_nothing_is_fetched() -> None:
    tags = Tags()
    tags.feed(full_page())
    for tag, attrs in tags.seen:
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            assert not (attrs.get(key) or "#").removeprefix("#").startswith(("http", "//", "data", "file")), (tag, attrs)
    assert "@import" not in full_page()
    assert "url(http" not in full_page()
    assert 'name="viewport"' in full_page()
    assert "@media print" in full_page()


def test_ids_are_unique_and_lead_somewhere() -> None:
    page = full_page()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_same_content_same_page() -> None:
    assert full_page() == full_page()


def test_texts_of_a_figure_stay_texts() -> None:
    svg = component("figure", drawing(), "caption")
    assert re.search(r"<text[^>]*>0\.2</text>", svg)
    assert 'role="img" aria-label="caption"' in svg
    assert "<metadata" not in svg


def test_a_name_that_the_font_lacks_stays_text_without_a_warning(recwarn) -> None:
    assert "乳酸" in component("figure", drawing("乳酸"), "caption")
    assert not recwarn.list


def test_cells() -> None:
    frame = pl.DataFrame({"text": ["=1+1", "@x", "-3.5", "+a", None], "number": [0.5, -0.0004, -0.0, 1234.0, None]})
    cells = re.findall(r"<td[^>]*><span[^>]*>(.*?)</span></td>", table(frame))
    assert cells == ["&#39;=1+1", "0.500", "&#39;@x", "−0.00040", "-3.5", "0.000", "&#39;+a", "1\u202f234", "–", "–"]
    assert '"number"><span class="cell">20\u202f000</span></td>' in table(pl.DataFrame({"n": [20_000]}))
    struct = pl.DataFrame({"e": [Estimate(0.5, 0.4, 0.6, 9)]})  # Polars takes a dataclass apart
    assert "0.500 <small>(0.400 to 0.600)</small>" in table(struct)
    small = pl.DataFrame([estimate_series("e", [Estimate(0.0012, -0.0001, 0.01, 9)])])  # the interval has the decimals of its value
    assert "0.0012 <small>(−0.0001 to 0.0100)</small>" in table(small)
    assert format_estimate(Estimate(-0.5, -0.6, 0.0, 9)) == "−0.500 (−0.600 to 0.000)"
    assert ">yes</span></td>" in table(pl.DataFrame({"b": [True]}))
    assert table(pl.DataFrame(schema={"a": pl.String})).count("<td") == 0


def test_counts_and_times_as_text_are_aligned_as_numbers() -> None:
    text = table(pl.DataFrame({"rows": ["12345", "<10*"], "seen": ["2024-01-01 12:00", None], "code": ["12345", "A1"]}))
    assert '"number"><span class="cell">12345</span>' in text
    assert '"number"><span class="cell">2024-01-01 12:00</span>' in text
    assert '"number"><span class="cell">&lt;10*</span>' in text
    assert '<td role="cell" data-label="code"><span class="cell">12345</span>' in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(value) -> None:
    with pytest.raises(ValueError, match="not finite"):
        table(pl.DataFrame({"x": [value]}))
