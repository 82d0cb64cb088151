"""Rows written out as text, and how many letters must be changed to turn one into another (Levenshtein), many pairs at once.

Letters: n rows, q pairs, w letters of the longest row.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.typing import Ints

Letters = NDArray[np.uint16]

_CELL, _ROW = 12, 320  # letters kept of a cell and of a row: what follows adds time, not sense
_DIGITS = 4  # significant digits of a number
_AT_A_TIME = 4_000


def written(frame: pl.DataFrame) -> Letters:
    """Write each row as its cells in order, parted by bars (n, w); 0 after the end."""
    cells = []
    for column in frame.iter_columns():
        text = column.round_sig_figs(_DIGITS).cast(pl.String) if column.dtype == pl.Float64 else column
        text = text.str.strip_suffix(".0") if column.dtype == pl.Float64 else text
        cells.append(text.fill_null("").str.slice(0, _CELL))
    rows = pl.DataFrame(cells).select(pl.concat_str(pl.all(), separator="|").str.slice(0, _ROW)).to_series()
    letters = np.array(rows.to_list(), dtype=f"U{_ROW}").view(np.uint32).reshape(len(rows), _ROW)
    return np.asarray(letters.clip(0, 65535), dtype=np.uint16)


def edit_distance(one: Letters, other: Letters) -> Ints:
    """Count the letters to insert, delete or replace, pair by pair.

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
    >>> rows = written(pl.DataFrame({"word": ["kitten", "sitting"]}))
    >>> edit_distance(rows[:1], rows[1:]).tolist()
    [3]
    """
    parts = [_edits(one[i : i + _AT_A_TIME], other[i : i + _AT_A_TIME]) for i in range(0, len(one), _AT_A_TIME)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _edits(one: Letters, other: Letters) -> Ints:
    """Fill the table of Wagner and Fischer a line at a time; pairs lie along the last axis, so that each step is one sweep."""
    lengths = (one != 0).sum(axis=1), (other != 0).sum(axis=1)
    wide, pairs = int(lengths[1].max(initial=0)), np.arange(len(one))
    a, b = one.T, np.ascontiguousarray(other.T[:wide])
    step = np.arange(wide + 1, dtype=np.int16)[:, None]
    line = np.repeat(step, len(one), axis=1)  # (w + 1, q)
    found = line[lengths[1], pairs].astype(np.int64)  # right where the first row is empty
    for i in range(int(lengths[0].max(initial=0))):
        best = np.empty_like(line)
        best[0] = i + 1
        np.minimum(line[:-1] + (b != a[i]), line[1:] + np.int16(1), out=best[1:])
        best -= step  # an insertion costs one a letter: along the line it is a running minimum
        np.minimum.accumulate(best, axis=0, out=best)
        best += step
        line = best
        done = lengths[0] == i + 1
        found[done] = line[lengths[1][done], pairs[done]]
    return np.asarray(found)
