"""Layout of a table as text: as a table where it fits the width, else one block of lines for each row. Words are never broken."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

_GAP = "  "
_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def fit_to_width(names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], width: int) -> str:
    """Return a table as text of at most ``width`` columns.

    Parameters
    ----------
    names : (d,), headings
    rows : (n, d), texts
    right : (d,), whether a column is aligned to the right
    width : int
        A single word that is longer stands on a line of its own, unbroken.

    Examples
    --------
    >>> print(fit_to_width(["column", "unit", "high"], [["age", "", "90"], ["blood pressure", "", "180"]], [False, False, True], 40))
    column          high
    --------------  ----
    age               90
    blood pressure   180
    >>> print(fit_to_width(["column", "unit", "high"], [["age", "years", "90"]], [False, False, True], 12))
    column  age
    unit    years
    high    90
    """
    used = [j for j in range(len(names)) if not rows or any(row[j] for row in rows)]
    columns = [[names[j], *(row[j] for row in rows)] for j in used]
    widest = [max(map(len, column)) for column in columns]
    narrowest = [max(len(word) for text in column for word in text.split() or [""]) for column in columns]
    room = width - len(_GAP) * (len(columns) - 1)
    if sum(narrowest) > room:
        return _as_blocks([names[j] for j in used], [[row[j] for j in used] for row in rows], width)
    widths = narrowest[:]
    while widths != widest and sum(widths) < room:  # the free room goes to the columns that need most lines
        need = [wide / now if wide > now else 0.0 for wide, now in zip(widest, widths, strict=True)]
        widths[need.index(max(need))] += 1
    lines = []
    for i in range(len(rows) + 1):
        cells = [textwrap.wrap(column[i], size, **_WORDS) for column, size in zip(columns, widths, strict=True)]
        for k in range(max([1, *map(len, cells)])):
            parts = [(cell[k] if k < len(cell) else "") for cell in cells]
            padded = [part.rjust(size) if right[j] else part.ljust(size) for part, size, j in zip(parts, widths, used, strict=True)]
            lines.append(_GAP.join(padded).rstrip())
        if i == 0:
            lines.append(_GAP.join("-" * size for size in widths))
    return "\n".join(lines)


def _as_blocks(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Return each row as lines of a name and its text, with an empty line between rows."""
    longest = max((len(word) for row in rows for text in row for word in text.split()), default=0)
    indent = " " * max(min(max(map(len, names)) + len(_GAP), width - longest), len(_GAP))
    blocks = []
    for row in rows:
        lines = []
        for name, text in zip(names, row, strict=True):
            if not text:
                continue
            first = f"{name}{_GAP}".ljust(len(indent))
            wrapped = textwrap.wrap(f"{first}{text}", width, subsequent_indent=indent, **_WORDS)
            lines += [line.rstrip() for line in wrapped]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
