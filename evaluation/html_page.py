"""One self-contained HTML page: no script, no address, nothing fetched; readable on a phone, on a desk and on paper.

Everything that comes from a caller is escaped here and nowhere else. A page is made of parts; the makers below return each as HTML.
"""

from __future__ import annotations

import hashlib
import html
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from nearward.evaluation.stats.confidence import Estimate
from nearward.tabular.data.atomic_files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind eyes, and by their darkness in grey print.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#AA4499", "#8a94a0", "#1c2733"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
FONTS = ["DejaVu Sans"]  # what matplotlib measures the texts with; the page's style names the fonts that show them

_EMPTY = "–"
_MANY = 4  # columns, above which an interval stands below its number
_LONG = 40  # letters, above which a cell is wide enough for a phrase
_MARKS = {"warning": "! Mind", "good": "✓ Good", "bad": "✗ Failed"}
_FORMULA = ("=", "+", "@", "-", "\t", "\r")  # what a spreadsheet takes for a formula when a table is pasted into it

_STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #56626f; --line: #dde3e9; --wash: #f5f7f9; --blue: #0072B2; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
header { border-bottom: 3px solid var(--blue); padding-bottom: 1rem; margin-bottom: 1.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.25rem 0 .75rem; padding-top: .25rem; }
p { max-width: 46rem; margin: 0 0 .9rem; overflow-wrap: anywhere; }
.lead { color: var(--soft); margin: 0; }
.table { margin: 0 0 1.25rem; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
.caption { max-width: none; margin: 0; color: var(--soft); font-size: .9rem; padding: .55rem .75rem; background: var(--wash); }
th, td { padding: .45rem .75rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
th, td { overflow-wrap: break-word; min-width: 4.5rem; }
th { font-weight: 600; background: var(--wash); white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; }
th.number { text-align: right; }
td.long { min-width: 13rem; }
.many th { white-space: normal; }
.many td small { display: block; }
td small { color: var(--soft); font-size: .85em; white-space: nowrap; }
tbody tr:nth-child(even) td { background: #fbfcfd; }
figure { display: inline-block; vertical-align: top; width: 100%; margin: 0 .75rem 1.25rem 0; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif !important; }
figcaption { color: var(--soft); font-size: .875rem; line-height: 1.45; margin-top: .35rem; }
.notice { border-left: 4px solid; padding: .6rem .9rem; margin: 0 0 1rem; border-radius: 0 6px 6px 0; }
.notice { max-width: 46rem; overflow-wrap: anywhere; }
.notice b { margin-right: .4em; }
.warning { border-color: #E69F00; background: #fdf5e3; }
.good { border-color: #009E73; background: #e6f5f0; }
.bad { border-color: #D55E00; background: #fcece3; }
footer { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .85rem; }
@media (max-width: 34rem) {
  main { padding: 1.25rem .9rem 2rem; }
  h1 { font-size: 1.4rem; }
  th, td { padding: .4rem .55rem; }
  td small { display: block; }
  figure { margin-right: 0; }
}
@media print {
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  .table { border: 0; overflow: visible; }
  .scroll { overflow: visible; }
  h2, .caption { break-after: avoid; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .35rem; min-width: 0; }
  th, td.long { white-space: normal; min-width: 0; }
  .many, .many th { font-size: 7.5pt; }
  tr, .notice { break-inside: avoid; }
  figure { max-width: 48% !important; }
  figure.wide { max-width: 100% !important; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""


class Page:
    """A page: a title, a lead, and sections in the order in which they were added.

    Parameters
    ----------
    title, lead : str
        Plain text.

    Examples
    --------
    >>> page = Page("Who is <b>ill</b>", "A report.")
    >>> page.section("One", paragraph("Nothing to see."))
    >>> "Who is &lt;b&gt;ill&lt;/b&gt;" in page.html()
    True
    """

    def __init__(self, title: str, lead: str) -> None:
        self.title = title
        self.lead = lead
        self._sections: list[str] = []

    def section(self, heading: str, *parts: str) -> None:
        """Add a section.

        Parameters
        ----------
        heading : str
            Plain text.
        *parts : str
            HTML, as the makers of this module return it.
        """
        self._sections.append(f"<section>\n<h2>{_text(heading)}</h2>\n" + "\n".join(parts) + "\n</section>")

    def html(self) -> str:
        """Return the whole page as HTML, the same text for the same content."""
        title = _text(self.title)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
            f'<header>\n<h1>{title}</h1>\n<p class="lead">{_text(self.lead)}</p>\n</header>\n'
            + "\n".join(self._sections)
            + "\n<footer>Made by nearward. Intervals are 95 %. No patient's row is in this page unless a section says so.</footer>"
            + "\n</main>\n</body>\n</html>\n"
        )


def write(page: Page, path: str | Path) -> None:
    """Write a page whole or not at all, for its owner's eyes only (0600)."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(page.html(), encoding="utf-8")


def write_json(content: Mapping[str, Any], path: str | Path) -> None:
    """Write JSON whole or not at all, for its owner's eyes only (0600); a number that is not finite is an error, never ``NaN``."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(Path(path)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{_text(text)}</p>"


def notice(text: str, kind: Literal["warning", "good", "bad"] = "warning") -> str:
    """Return a box of plain text that says by a word, not by its colour alone, what kind of notice it is."""
    return f'<div class="notice {kind}" role="note"><b>{_MARKS[kind]}:</b>{_text(text)}</div>'


def table(frame: pl.DataFrame, caption: str) -> str:
    """Return a table that scrolls sideways where the screen is narrow.

    Parameters
    ----------
    frame : pl.DataFrame
        Cells: str, int, float, ``Estimate`` (see ``estimates``) or None, which shows as a dash.
    caption : str
        Plain text.

    Raises
    ------
    ValueError
        A number that is not finite: whoever makes a table gives None and says why in words.
    """
    rows = frame.rows()
    numeric = [bool(cells) and all(c is None or not isinstance(c, str | bool) for c in cells) for cells in zip(*rows, strict=True)]
    numeric = numeric or [False] * frame.width
    many = ' class="many"' if frame.width > _MANY else ""
    head = "".join(f'<th scope="col"{_class(n)}>{_words(name)}</th>' for name, n in zip(frame.columns, numeric, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{_class(n, c)}>{_cell(c)}</td>" for c, n in zip(row, numeric, strict=True)) + "</tr>" for row in rows
    )
    return (
        f'<div class="table">\n<p class="caption">{_text(caption)}</p>\n'
        f'<div class="scroll" tabindex="0">\n<table{many} aria-label="{_text(caption)}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n</div>"
    )


def figure(figure: Figure, caption: str) -> str:
    """Return a matplotlib figure as inline SVG, as wide as the page allows up to its own width.

    Texts stay texts, and the same figure gives the same SVG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Made with ``Figure(...)``, not by pyplot. About 4.4 inches wide two stand side by side on a desk.
    caption : str
        Plain text; also what a screen reader says.
    """
    import matplotlib as mpl

    drawn = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "nearward", "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=None, transparent=True)
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    mark = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]  # ids are unique on a page with several figures
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{mark}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{mark}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r'^<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg))
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{_text(caption)}" ', 1)
    inches = float(figure.get_figwidth())
    wide = ' class="wide"' if inches > 5.5 else ""
    return f'<figure{wide} style="max-width: {inches * 102:.0f}px">\n{svg}\n<figcaption>{_text(caption)}</figcaption>\n</figure>'


def tell(value: Estimate, digits: int = 3) -> str:
    """Return an estimate in one line, with a true minus sign and no negative zero."""
    return f"{_number(value.value, digits)} ({_number(value.low, digits)} to {_number(value.high, digits)})"


def _cell(value: Any) -> str:
    if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
        value = None if value["value"] is None else Estimate(value["value"], value["low"], value["high"], value["n"])
    if value is None:
        return _EMPTY
    if isinstance(value, Estimate):
        return f"{_number(value.value)} <small>({_number(value.low)} to {_number(value.high)})</small>"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return _number(value)
    return _words(str(value))


def _words(text: str) -> str:
    """Escape a name; what a spreadsheet would take for a formula gets an apostrophe before it."""
    formula = text.startswith(_FORMULA) and not re.fullmatch(r"[-+]?[\d.]*", text)
    return _text(f"'{text}" if formula else text)


def _number(value: float, digits: int = 3) -> str:
    if not math.isfinite(value):
        raise ValueError("a number in a table is not finite: give None instead, and say why in words")
    value += 0.0  # no negative zero
    if value and abs(value) < 10**-digits:
        return f"{value:.1e}".replace("-", "−")
    return f"{value:.{digits}f}".replace("-", "−")


def _class(numeric: bool, content: Any = None) -> str:
    name = "number" if numeric else "long" if isinstance(content, str) and len(content) > _LONG else ""
    return f' class="{name}"' if name else ""


def _text(text: str) -> str:
    return html.escape(text, quote=True)
