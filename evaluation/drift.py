"""Drift of a column against the rows a model learned from: the population stability index of their shares by bin.

A column is kept as counts of rows by bin, never as values of its own: numbers in ten bins of about as many training rows each,
categories by level (rare ones pooled), missing cells in a bin of their own.

Letters: n training rows, m new rows, b bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.evaluation.stats.confidence import Estimate
from nearward.tabular.errors import ArtifactError

Counts = NDArray[np.int64]

FORMAT = 1
_BINS = 10
_MOST_LEVELS = 20
_POOL_BELOW = 5  # a level that fewer training rows have is pooled: a bin that names it would point at patients
_UNSEEN_SHARE = 0.5  # of a row, added to each bin: an empty bin has no logarithm


@dataclass(frozen=True)
class Bins:
    """How a column is cut, and how many training rows fell where.

    Parameters
    ----------
    column : str
    edges : tuple of float or None
        Upper ends of all bins but the last, rising; None for a category.
    levels : tuple of str or None
        Levels with a bin of their own, the rest pooled behind them; None for a number.
    count : tuple of int, b of them, missing cells last
    """

    column: str
    edges: tuple[float, ...] | None
    levels: tuple[str, ...] | None
    count: tuple[int, ...]

    def counted(self, values: pl.Series) -> Counts:
        """Count a conformed column's cells by bin (b,)."""
        there = values.drop_nulls()
        if self.edges is not None:
            place = np.searchsorted(np.array(self.edges), there.to_numpy(), side="left")
            size = len(self.edges) + 1
        else:
            levels = list(self.levels or ())
            codes = there.replace_strict(levels, list(range(len(levels))), default=len(levels), return_dtype=pl.Int64)
            place, size = codes.to_numpy(), len(levels) + 1
        return np.append(np.bincount(place, minlength=size), len(values) - len(there)).astype(np.int64)


def fit_bins(frame: pl.DataFrame) -> tuple[Bins, ...]:
    """Cut the columns of a conformed frame (Float64 and String, null for missing) and count its rows.

    Examples
    --------
    >>> fit_bins(pl.DataFrame({"age": [50.0, 60.0, 60.0, None]}))[0]
    Bins(column='age', edges=(50.0,), levels=None, count=(1, 2, 1))
    """
    return tuple(_number(column) if column.dtype == pl.Float64 else _category(column) for column in frame.get_columns())


def _number(values: pl.Series) -> Bins:
    there = values.drop_nulls().to_numpy()
    inner = np.arange(1, _BINS) / _BINS
    cut = np.unique(np.quantile(there, inner, method="inverted_cdf")) if len(there) else np.zeros(0)
    edges = tuple(float(x) for x in cut if x < there.max())  # an edge at the top would leave the last bin empty
    empty = Bins(values.name, edges, None, ())
    return Bins(values.name, edges, None, tuple(empty.counted(values).tolist()))


def _category(values: pl.Series) -> Bins:
    table = values.drop_nulls().alias("level").value_counts(name="rows").sort(["rows", "level"], descending=[True, False])
    kept = table.filter(pl.col("rows") >= _POOL_BELOW).head(_MOST_LEVELS)
    levels = tuple(kept.get_column("level").to_list())
    empty = Bins(values.name, None, levels, ())
    return Bins(values.name, None, levels, tuple(empty.counted(values).tolist()))


@dataclass(frozen=True)
class Drift:
    """How far a column's shares have moved.

    Parameters
    ----------
    psi : Estimate
        Population stability index, 0 or more. Its interval takes rows as independent: of patients who repeat it is too narrow.
    by_chance : float
        What 19 in 20 samples of this size drawn from the training population would stay below.
    """

    psi: Estimate
    by_chance: float

    @property
    def moved(self) -> bool:
        """Whether it is more than chance, and as much as is customarily looked into (.1)."""
        return bool(self.psi.value > max(self.by_chance, 0.1))


def drift(trained: Sequence[int] | Counts, now: Sequence[int] | Counts) -> Drift:
    """Compare counts by bin.

    Parameters
    ----------
    trained, now : (b,), rows by bin

    Returns
    -------
    Drift
        ``Σ (p - q) ln(p / q)`` over the bins, ``p`` and ``q`` the shares with half a row added to each bin that either has rows in;
        its interval by the delta method, 95 %.

    References
    ----------
    Siddiqi: Credit risk scorecards (2006). Without drift the index is about (1/n + 1/m) times a chi-squared of b - 1 degrees of freedom.

    Examples
    --------
    >>> print(drift([500, 500], [500, 500]).psi)
    0.000 (0.000 to 0.000)
    >>> drift([500, 500], [900, 100]).moved
    True
    """
    from scipy import stats

    before, after = np.asarray(trained, dtype=float), np.asarray(now, dtype=float)
    used = before + after > 0
    before, after = before[used] + _UNSEEN_SHARE, after[used] + _UNSEEN_SHARE
    n, m, b = before.sum(), after.sum(), len(before)
    p, q = after / m, before / n
    value = float(np.sum((p - q) * np.log(p / q)))
    spread = 0.0
    for share, other, size in ((p, q, m), (q, p, n)):
        slope = np.log(share / other) + 1 - other / share
        spread += float(share @ slope**2 - (share @ slope) ** 2) / size
    reach = 1.96 * max(spread, 0.0) ** 0.5
    chance = float(stats.chi2.ppf(0.95, b - 1)) * (1 / n + 1 / m) if b > 1 else 0.0
    return Drift(Estimate(value, max(value - reach, 0.0), value + reach, int(np.sum(now))), chance)


def bins_as_json(bins: Sequence[Bins]) -> dict[str, Any]:
    """Return bins as JSON, versioned."""
    columns = [
        {
            "column": one.column,
            **({"edges": list(one.edges)} if one.edges is not None else {"levels": list(one.levels or ())}),
            "count": list(one.count),
        }
        for one in bins
    ]
    return {"nearward_bins": FORMAT, "columns": columns}


def bins_from_json(held: Mapping[str, Any]) -> tuple[Bins, ...]:
    """Read ``bins_as_json``'s format.

    Raises
    ------
    ArtefactError
        Another version, or bins whose counts do not fit.
    """
    if held.get("nearward_bins") != FORMAT:
        raise ArtifactError("the model's bins are of another version: update nearward, or save the model again")
    out = []
    for one in held["columns"]:
        edges, levels = one.get("edges"), one.get("levels")
        out.append(
            Bins(one["column"], None if edges is None else tuple(edges), None if levels is None else tuple(levels), tuple(one["count"]))
        )
        if len(out[-1].count) != len(edges if edges is not None else levels) + 2:
            raise ArtifactError(f"the model's bins of column {one['column']!r} do not fit their counts: save the model again")
    return tuple(out)
