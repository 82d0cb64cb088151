"""Markdown tables, and the parts of the documentation that benchmarks write: the text between two marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from benchmarks.common.paths import DOCS


def replace_part(name: str, body: str) -> None:
    """Put ``body`` between ``<!-- name: begin -->`` and ``<!-- name: end -->`` of the one page in docs/ that has these marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    (path,) = (page for page in sorted(DOCS.rglob("*.md")) if begin in page.read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text.split(begin)[0]}{begin}\n\n{body}\n\n{end}{text.split(end)[1]}", encoding="utf-8")


def signed(interval: Sequence[float], digits: int = 3) -> str:
    """Format a difference and the ends of its interval: ``+0.012 (-0.003 to +0.027)``."""
    value, low, high = interval
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def markdown(table: pl.DataFrame, digits: int = 3) -> str:
    """Return a table as Markdown, numbers with ``digits`` decimals."""
    return markdown_rows(table.columns, table.iter_rows(), digits)


def markdown_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], digits: int = 3) -> str:
    """Return rows as a Markdown table; None shows as a dash."""
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]

    def text(value: Any) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else "–" if value is None else str(value).replace("|", "\\|")

    cells = (map(text, row) for row in rows)
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])
