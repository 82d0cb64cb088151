"""Levenshtein distances between rows as text, for many pairs at once.

Shapes: n rows, q pairs, w characters of the longest row.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.typing import Ints

Characters = NDArray[np.uint16]

_MAX_CELL, _MAX_ROW = 12, 320  # characters of a cell and of a row: more would take time and separate no better
_DIGITS = 4  # significant digits of a number
_BATCH = 4_000


def row_texts(frame: pl.DataFrame) -> Characters:
    """Return each row as the characters of its cells in order, separated by bars (n, w); 0 after the end."""
    cells = []
    for column in frame.iter_columns():
        text = column.round_sig_figs(_DIGITS).cast(pl.String) if column.dtype == pl.Float64 else column
        text = text.str.strip_suffix(".0") if column.dtype == pl.Float64 else text
        cells.append(text.fill_null("").str.slice(0, _MAX_CELL))
    rows = pl.DataFrame(cells).select(pl.concat_str(pl.all(), separator="|").str.slice(0, _MAX_ROW)).to_series()
    characters = np.array(rows.to_list(), dtype=f"U{_MAX_ROW}").view(np.uint32).reshape(len(rows), _MAX_ROW)
    return np.asarray(characters.clip(0, 65535), dtype=np.uint16)


def edit_distance(one: Characters, other: Characters) -> Ints:
    """Count the characters to insert, delete or replace in each pair.

    Parameters
    ----------
    one, other : (q, w), 0 after the end

    Returns
    -------
    (q,)

    References
    ----------
    Wagner and Fischer: The string-to-string correction problem (1974).

    Examples
    --------
    >>> rows = row_texts(pl.DataFrame({"word": ["kitten", "sitting"]}))
    >>> edit_distance(rows[:1], rows[1:]).tolist()
    [3]
    """
    parts = [_edits(one[i : i + _BATCH], other[i : i + _BATCH]) for i in range(0, len(one), _BATCH)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _edits(one: Characters, other: Characters) -> Ints:
    """Fill the table of Wagner and Fischer row by row; pairs are on the last axis, so that each step is vectorised."""
    lengths = (one != 0).sum(axis=1), (other != 0).sum(axis=1)
    wide, pairs = int(lengths[1].max(initial=0)), np.arange(len(one))
    a, b = one.T, np.ascontiguousarray(other.T[:wide])
    step = np.arange(wide + 1, dtype=np.int16)[:, None]
    line = np.repeat(step, len(one), axis=1)  # (w + 1, q)
    distance = line[lengths[1], pairs].astype(np.int64)  # final where the first text is empty
    for i in range(int(lengths[0].max(initial=0))):
        best = np.empty_like(line)
        best[0] = i + 1
        np.minimum(line[:-1] + (b != a[i]), line[1:] + np.int16(1), out=best[1:])
        best -= step  # an insertion costs one per character: along the line it is a running minimum
        np.minimum.accumulate(best, axis=0, out=best)
        best += step
        line = best
        done = lengths[0] == i + 1
        distance[done] = line[lengths[1][done], pairs[done]]
    return np.asarray(distance)
