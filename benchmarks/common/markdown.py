"""Markdown tables, and the parts of the documentation that benchmarks own: what stands between two marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

DOCS = Path(__file__).resolve().parents[2] / "docs"


def replace_part(name: str, body: str) -> None:
    """Put ``body`` between ``<!-- name: begin -->`` and ``<!-- name: end -->`` of the one page in docs/ that has these marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    (path,) = (page for page in sorted(DOCS.rglob("*.md")) if begin in page.read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text.split(begin)[0]}{begin}\n\n{body}\n\n{end}{text.split(end)[1]}", encoding="utf-8")


def markdown(table: pl.DataFrame, digits: int = 3) -> str:
    """A Markdown table, figures to so many digits."""
    return markdown_rows(table.columns, table.iter_rows(), digits)


def markdown_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], digits: int = 3) -> str:
    """A Markdown table of rows."""
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    cells = ([f"{v:.{digits}f}" if isinstance(v, float) else str(v).replace("|", "\\|") for v in row] for row in rows)
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)])
