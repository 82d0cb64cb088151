"""Self-contained HTML pages from Jinja2 templates: no script, nothing fetched; readable on a phone, on a screen and on paper.

The templates lie in ``evaluation/templates``. A page extends ``page.html.jinja``, fills its blocks ``title``, ``lead`` and ``sections``,
and imports the macros ``notice``, ``table`` and ``figure`` from ``components.html.jinja``. Autoescape is on: a page's function hands over
plain text, frames and matplotlib figures, and builds no HTML itself.
"""

from __future__ import annotations

import functools
import hashlib
import html
import io
import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from nearward.evaluation.provenance import Provenance
from nearward.evaluation.stats.confidence import Estimate, PointEstimate
from nearward.tabular.data.atomic_files import replacing

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure

# Okabe and Ito's colours: distinct for colour-blind readers, and in grey print by their darkness.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#AA4499", "#8a94a0", "#1c2733"
GRID = "#e6eaee"  # ink and grid follow the page's colour scheme
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)

THIN_SPACE = "\u202f"  # between the thousands of a count
_EMPTY = "–"
_MANY_COLUMNS = 4  # above this number an interval stands below its value
_LONG_TEXT = 40  # characters, above which a cell is wide enough for a phrase
_FORMULA = ("=", "+", "@", "-", "\t", "\r")  # what a spreadsheet takes for a formula when a table is pasted into it


def render(template: str, provenance: Provenance | None = None, **context: Any) -> str:
    """Render a page of ``evaluation/templates``; the same context gives the same text.

    Parameters
    ----------
    template : str
        File name, ``risk_report.html.jinja`` for instance.
    provenance : Provenance, optional
        What the foot of the page says about its origin; by default the time and the versions.
    **context
        The template's variables. A variable that the template uses and the context lacks is an error.
    """
    return environment().get_template(template).render(context, provenance=provenance or Provenance.now())


@functools.cache
def environment() -> Environment:
    """Return the Jinja2 environment of all pages, with the filters ``estimate``, ``percent``, ``table_cells`` and ``inline_svg``."""
    import jinja2

    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("nearward.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "estimate": format_estimate,
        "percent": _percent,
        "thousands": _thousands,
        "table_cells": table_cells,
        "inline_svg": inline_svg,
        "number": _number,
    }
    return pages


def write_html(page: str, path: str | Path) -> None:
    """Write a page atomically, readable by its owner alone (0600)."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(page, encoding="utf-8")


def write_json(content: Mapping[str, Any], path: str | Path) -> None:
    """Write JSON atomically, readable by its owner alone (0600); a number that is not finite is an error, never ``NaN``."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(Path(path)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def format_estimate(estimate: Estimate) -> str:
    """Return an estimate in one line, its interval with the decimals of its value, with a true minus sign and no negative zero."""
    return f"{_number(estimate.value)} ({_interval(estimate)})"


@dataclass(frozen=True)
class ResponsiveFigure:
    """The same figure in two layouts; a page shows the one that the screen has room for.

    Parameters
    ----------
    wide : matplotlib.figure.Figure
        For a desk and for print, panels side by side for instance.
    narrow : matplotlib.figure.Figure
        For a phone, at most 4.4 inches wide.
    """

    wide: Figure
    narrow: Figure


@dataclass(frozen=True)
class TableCell:
    """A cell as it is shown.

    Parameters
    ----------
    text : str
    style : str
        CSS class: ``number`` (right-aligned), ``long`` or none.
    interval : str
        Interval of an estimate, without its brackets; empty for all other cells.
    """

    text: str
    style: str = ""
    interval: str = ""


@dataclass(frozen=True)
class TableCells:
    """A frame as it is shown.

    Parameters
    ----------
    header : one cell a column
    rows : cells of each row
    many : bool
        Whether there are so many columns that intervals stand below their values.
    """

    header: tuple[TableCell, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    many: bool


def table_cells(frame: pl.DataFrame) -> TableCells:
    """Lay out a frame of str, int, float, ``Estimate``, ``PointEstimate`` (see ``estimate_series``) and None, which shows as a dash.

    Raises
    ------
    ValueError
        A number that is not finite: give None and explain it in the caption or a notice.
    """
    rows = frame.rows()
    numeric = [bool(cells) and all(map(_is_number, cells)) for cells in zip(*rows, strict=True)]
    numeric = numeric or [False] * frame.width
    header = tuple(TableCell(_escape_formula(name), "number" if n else "") for name, n in zip(frame.columns, numeric, strict=True))
    return TableCells(header, tuple(tuple(map(_cell, row, numeric)) for row in rows), frame.width > _MANY_COLUMNS)


def inline_svg(figure: Figure, caption: str) -> Markup:
    """Return a matplotlib figure as inline SVG.

    Texts stay texts, and the same figure gives the same SVG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Made with ``Figure(...)``, not by pyplot. About 4.4 inches wide two stand side by side on a screen.
    caption : str
        Label for screen readers.
    """
    import matplotlib as mpl
    from markupsafe import Markup

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "nearward", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser's fonts draw the texts, not matplotlib's
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=None, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    prefix = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]  # ids are unique on a page with several figures
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r'^<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg))
    svg = svg.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")  # light and dark
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1))


def _cell(value: Any, numeric: bool) -> TableCell:
    if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():  # Polars takes a dataclass apart
        value = None if value["value"] is None else Estimate(value["value"], value["low"], value["high"], value["n"])
    style = "number" if numeric else "long" if isinstance(value, str) and len(value) > _LONG_TEXT else ""
    if value is None:
        return TableCell(_EMPTY, style)
    if isinstance(value, PointEstimate):
        return TableCell(_number(value.value), style, "no interval")
    if isinstance(value, Estimate):
        return TableCell(_number(value.value), style, _interval(value))
    if isinstance(value, bool):
        return TableCell("yes" if value else "no", style)
    if isinstance(value, int):
        return TableCell(_thousands(value), style)
    return TableCell(_number(value) if isinstance(value, float) else _escape_formula(str(value)), style)


def _is_number(value: Any) -> bool:
    """Whether a cell belongs to a column of numbers: also a count, a date or a time as text, ``<10*`` for instance."""
    if isinstance(value, str):
        return re.fullmatch(r"<?\d[\d\u202f :-]*\*?", value) is not None
    return not isinstance(value, bool)


def _escape_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    formula = text.startswith(_FORMULA) and not re.fullmatch(r"[-+]?[\d.]*", text)
    return f"'{text}" if formula else text


def _interval(estimate: Estimate) -> str:
    digits = _digits(estimate.value)
    return f"{_number(estimate.low, digits)} to {_number(estimate.high, digits)}"


def _thousands(count: int) -> str:
    return f"{count:,}".replace(",", THIN_SPACE)


def _digits(value: float) -> int:
    """Return the decimals of a number: three, as many as give it two significant digits, at most six; of four digits where it is large."""
    if not math.isfinite(value):
        raise ValueError("a number in a table is not finite: give None instead, and explain it in the caption or a notice")
    if abs(value) < 1e-7:
        return 3
    magnitude = math.floor(math.log10(abs(value)))
    return max(3 - max(magnitude, 0), 0) if abs(value) >= 0.0095 else min(6, 1 - magnitude)


def _number(value: float, digits: int | None = None) -> str:
    """Return a number with a true minus sign and no negative zero."""
    digits = _digits(value) if digits is None else digits
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−").replace(",", "\u202f")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
