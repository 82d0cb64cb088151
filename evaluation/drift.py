"""Drift of a column against the training rows: the population stability index of their shares by bin.

A column is stored as counts of rows by bin, never as values: numbers in ten bins of about as many training rows each,
categories one by one (rare ones pooled), lists of codes by the number of their codes, missing values in a bin of their own.

Shapes: n training rows, m new rows, b bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.stats.confidence import Estimate
from nearward.tabular.errors import ArtifactError
from nearward.tabular.typing import Ints

Counts = Ints

FORMAT = 1
_BINS = 10
_MAX_CATEGORIES = 20
_MIN_ROWS = 5  # a category with fewer training rows is pooled: a bin that names it would point at patients
_SMOOTHING = 0.5  # of a row, added to each bin: an empty bin has no logarithm


@dataclass(frozen=True)
class Bins:
    """Bins of a column, and the counts of training rows in them.

    Parameters
    ----------
    column : str
    edges : tuple of float or None
        Upper ends of all bins but the last, rising; None for a category.
    levels : tuple of str or None
        Categories with a bin of their own, the rest pooled behind them; None for a number.
    count : tuple of int, b of them, missing values last
    """

    column: str
    edges: tuple[float, ...] | None
    levels: tuple[str, ...] | None
    count: tuple[int, ...]

    def counted(self, values: pl.Series) -> Counts:
        """Count a conformed column's values by bin (b,)."""
        present = _plain(values).drop_nulls()
        if self.edges is not None:
            index = np.searchsorted(np.array(self.edges), present.to_numpy(), side="left")
            size = len(self.edges) + 1
        else:
            levels = list(self.levels or ())
            codes = present.replace_strict(levels, list(range(len(levels))), default=len(levels), return_dtype=pl.Int64)
            index, size = codes.to_numpy(), len(levels) + 1
        return np.append(np.bincount(index, minlength=size), len(values) - len(present)).astype(np.int64)


def fit_bins(frame: pl.DataFrame) -> tuple[Bins, ...]:
    """Fit bins to the columns of a conformed frame (Float64, String and List(String), null for missing) and count its rows.

    Examples
    --------
    >>> fit_bins(pl.DataFrame({"age": [50.0, 60.0, 60.0, None]}))[0]
    Bins(column='age', edges=(50.0,), levels=None, count=(1, 2, 1))
    """
    bins = []
    for values in map(_plain, frame.get_columns()):
        edges, levels = (_edges(values), None) if values.dtype == pl.Float64 else (None, _common_categories(values))
        empty = Bins(values.name, edges, levels, ())
        bins.append(replace(empty, count=tuple(empty.counted(values).tolist())))
    return tuple(bins)


def _plain(values: pl.Series) -> pl.Series:
    """Return lists of codes as the number of their codes, other columns as they are."""
    return values.list.len().cast(pl.Float64) if isinstance(values.dtype, pl.List) else values


def _edges(values: pl.Series) -> tuple[float, ...]:
    present = values.drop_nulls().to_numpy()
    inner = np.arange(1, _BINS) / _BINS
    quantiles = np.unique(np.quantile(present, inner, method="inverted_cdf")) if len(present) else np.zeros(0)
    return tuple(float(x) for x in quantiles if x < present.max())  # an edge at the maximum would leave the last bin empty


def _common_categories(values: pl.Series) -> tuple[str, ...]:
    counts = values.drop_nulls().alias("level").value_counts(name="rows").sort(["rows", "level"], descending=[True, False])
    common = counts.filter(pl.col("rows") >= _MIN_ROWS).head(_MAX_CATEGORIES)
    return tuple(common.get_column("level").to_list())


@dataclass(frozen=True)
class Drift:
    """Population stability index of a column.

    Parameters
    ----------
    psi : Estimate
        Population stability index, 0 or more. Its interval takes rows as independent: of patients with several rows it is too narrow.
    by_chance : float
        95 % quantile of the index of samples of this size from the training population.
    """

    psi: Estimate
    by_chance: float

    @property
    def moved(self) -> bool:
        """Whether the index exceeds chance, and the customary limit of .1."""
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
    before, after = before[used] + _SMOOTHING, after[used] + _SMOOTHING
    n, m, b = before.sum(), after.sum(), len(before)
    p, q = after / m, before / n
    value = float(np.sum((p - q) * np.log(p / q)))
    variance = 0.0
    for share, other, size in ((p, q, m), (q, p, n)):
        slope = np.log(share / other) + 1 - other / share
        variance += float(share @ slope**2 - (share @ slope) ** 2) / size
    reach = 1.96 * max(variance, 0.0) ** 0.5
    by_chance = float(stats.chi2.ppf(0.95, b - 1)) * (1 / n + 1 / m) if b > 1 else 0.0
    return Drift(Estimate(value, max(value - reach, 0.0), value + reach, int(np.sum(now))), by_chance)


def bins_as_json(bins: Sequence[Bins]) -> dict[str, Any]:
    """Return bins as JSON, versioned."""
    columns = []
    for one in bins:
        cuts = {"edges": list(one.edges)} if one.edges is not None else {"levels": list(one.levels or ())}
        columns.append({"column": one.column, **cuts, "count": list(one.count)})
    return {"nearward_bins": FORMAT, "columns": columns}


def bins_from_json(content: Mapping[str, Any]) -> tuple[Bins, ...]:
    """Read ``bins_as_json``'s format.

    Raises
    ------
    ArtifactError
        Another version, or bins whose counts do not fit.
    """
    if content.get("nearward_bins") != FORMAT:
        raise ArtifactError("the model's bins are of another version: update nearward, or save the model again")
    bins = []
    for entry in content["columns"]:
        edges, levels = (None if entry.get(key) is None else tuple(entry[key]) for key in ("edges", "levels"))
        bins.append(Bins(entry["column"], edges, levels, tuple(entry["count"])))
        if len(bins[-1].count) != len(edges if edges is not None else levels or ()) + 2:
            raise ArtifactError(f"the model's bins of column {entry['column']!r} do not fit their counts: save the model again")
    return tuple(bins)
