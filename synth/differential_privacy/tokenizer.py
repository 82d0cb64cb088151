"""A tokenizer with differential privacy: of a column only its dtype is public, unless its range or categories are declared.

A number's range is estimated on a fixed grid of powers of two, independent of the data. Each power with rows is divided, each part with
rows is divided finely, counted with noise, and neighbouring parts are merged into bins of about equal counts. Categories are selected by
a threshold on noisy counts. Declared ranges and categories have no privacy loss; the number of rows has one.

Shapes: n rows, d columns, c tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl

from nearward.synth.differential_privacy.accountant import MIN_ROWS
from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.tokenizer.column_tokenizers import (
    CategoryTokenizer,
    ColumnTokenizer,
    NumberTokenizer,
    days_per_unit,
    to_physical_numbers,
)
from nearward.synth.tokenizer.decimal_precision import Grid
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats

Ranges = list[tuple[float, float, float]]  # low, high, share of the rows

_LOWEST, _HIGHEST = -20, 62  # powers of two: from a millionth to microseconds since 1970
_PARTS = 64  # parts of a number's range that are counted before they are merged
_MAX_BINS, _MIN_BINS = 16, 3
_SIGNIFICANT = 3.0  # standard deviations of noise, above which a count is taken for rows
_POINTS = 9  # quantiles of each bin of a NumberTokenizer
_STEPS = 1000  # numbers without a declared grid are rounded to about a thousandth of their range
_SPLIT = {"rows": 0.02, "whole": 0.06, "ranges": 0.14, "finer": 0.14, "bins": 0.64}  # shares of the budget of this step


@dataclass(frozen=True)
class PrivateTokenizer:
    """A tokenizer that may be published, with noisy counts.

    Parameters
    ----------
    tokenizer : TableTokenizer
    counts : d arrays (c,), noisy rows of each token, not negative; 0 where not significant
    rows : float, noisy number of rows
    """

    tokenizer: TableTokenizer
    counts: tuple[Floats, ...]
    rows: float


def fit_private_tokenizer(
    frame: pl.DataFrame, outcome: str, mechanisms: Mechanisms, rho: float, delta: float, public: Schema | None = None
) -> PrivateTokenizer:
    """Fit the tokenizers of all columns.

    Parameters
    ----------
    frame : n rows
        At most ``mechanisms.sensitivity`` of each patient.
    outcome : str
        Its values are categories, whatever its dtype.
    mechanisms : Mechanisms
    rho, delta : float
        Budget of this step.
    public : Schema, optional
        Ranges and categories that are known without the data: from a codebook, never inferred from these rows.

    Raises
    ------
    InputError
        Fewer than 50 rows for each encoded dimension, or a column whose categories all stay below the threshold.
    """
    n_rows = np.array([frame.height], dtype=np.float64)
    rows = max(1.0, float(mechanisms.counts(n_rows, rho * _SPLIT["rows"], "number of rows")[0]))
    known = {} if public is None else {column.name: column for column in public.columns}
    categorical = [name for name, dtype in frame.schema.items() if name == outcome or not _is_number(dtype)]
    numbers = [name for name in frame.columns if name not in categorical]
    without_range = [name for name in numbers if name not in known or known[name].low is None]
    boolean = [name for name in categorical if frame.schema[name] == pl.Boolean]
    declared = {name: ("false", "true") if name in boolean else known[name].categories if name in known else () for name in categorical}
    undeclared = [name for name in categorical if not declared[name]]
    rho_column = rho * _SPLIT["bins"] / frame.width
    fitted: dict[str, tuple[ColumnTokenizer, Floats]] = {}
    for name in categorical:
        delta_column = delta / max(len(undeclared), 1)
        fitted[name] = _fit_categories(frame.get_column(name), declared[name] or None, mechanisms, rho_column, delta_column)
    remaining = rows / MIN_ROWS - sum(int((counts > 0).sum()) for _, counts in fitted.values())  # encoded dimensions
    bins = int(min(_MAX_BINS, remaining / max(len(numbers), 1) - 1))
    if (numbers and bins < _MIN_BINS) or remaining < 0:
        raise _too_few(rows, frame.width, len(numbers))
    for name in numbers:
        column = frame.get_column(name)
        x = (to_physical_numbers(column) if column.dtype.is_temporal() else as_number(column, name)).cast(pl.Float64).to_numpy()
        integer = column.dtype.is_integer() or column.dtype.is_temporal()
        whole = integer or _is_whole(x, mechanisms, rho * _SPLIT["whole"] / len(numbers), name)
        if name in without_range:
            ranges = _estimate_ranges(x, whole, mechanisms, rho * _SPLIT["ranges"] / len(without_range), name)
        else:
            ranges = [(float(known[name].low or 0), float(known[name].high or 0), 1.0)]
        ranges = _refine(x, ranges, whole, mechanisms, rho * _SPLIT["finer"] / len(numbers), name)
        own, bin_counts = _fit_bins(name, x, ranges, whole, bins, mechanisms, rho_column)
        fitted[name] = replace(own, unit=days_per_unit(column.dtype)), bin_counts
    tokenizer = TableTokenizer(tuple(fitted[name][0] for name in frame.columns))
    return PrivateTokenizer(tokenizer, tuple(fitted[name][1] for name in frame.columns), rows)


def _too_few(rows: float, columns: int, numbers: int) -> InputError:
    return InputError(
        f"refused: about {rows:.0f} rows are too few for {columns} columns ({numbers} of them numbers) under this epsilon: at least "
        f"{MIN_ROWS} rows are needed for each encoded dimension (a category, or a bin of a number), or noise dominates the table. Give "
        "fewer columns, more patients, or coarser categories; or use no epsilon, and rely on the audit alone."
    )


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal()


def _fit_categories(
    column: pl.Series, declared: tuple[str, ...] | None, mechanisms: Mechanisms, rho: float, delta: float
) -> tuple[ColumnTokenizer, Floats]:
    """Select a column's categories unless they are declared, and count them with noise."""
    name, text = column.name, as_text(column, column.name)
    if declared is None:
        observed = text.drop_nulls().alias("category").value_counts(name="rows").sort("category")
        rows = observed.get_column("rows").to_numpy().astype(np.float64)
        selected, _ = mechanisms.select_categories(rows, rho / 2, delta, f"levels of {name!r}")
        declared = tuple(observed.filter(pl.Series(selected)).get_column("category").to_list())
        rho = rho / 2
    tokenizer = CategoryTokenizer(name, declared, 0)
    rows = np.bincount(tokenizer.encode(text), minlength=tokenizer.size).astype(np.float64)
    noisy = _significant(mechanisms.counts(rows[:-1], rho, f"counts of {name!r}"), mechanisms.noise_scale(rho))
    counts = np.append(noisy, 0.0)  # the token of rare categories: its rows are distributed over the others
    if counts.sum() == 0:
        raise InputError(f"column {name!r}: no category has enough rows under this epsilon. Declare its categories, or drop it.")
    if not _is_number(column.dtype):
        return tokenizer, counts
    values = np.array([float(category) for category in declared])  # a numeric outcome: each category is a bin of one value
    order = np.argsort(values)
    points = np.repeat(values[order, None], _POINTS, axis=1)
    return NumberTokenizer(name, points, None), np.concatenate([counts[:1], counts[1:-1][order]])


def _is_whole(x: Floats, mechanisms: Mechanisms, rho: float, name: str) -> bool:
    """Test with noise whether floating-point values are whole numbers: integers with missing values are read as floats."""
    fractions = float((x[~np.isnan(x)] % 1 != 0).sum())
    return bool(mechanisms.counts(np.array([fractions]), rho, f"fractions in {name!r}")[0] <= _SIGNIFICANT * mechanisms.noise_scale(rho))


def _estimate_ranges(x: Floats, whole: bool, mechanisms: Mechanisms, rho: float, name: str) -> Ranges:
    """Estimate the powers of two with rows: (low, high, noisy share) of each, in order; zero is a range of its own.

    For whole numbers low and high are the first and the last value; for others high is the next range's low.
    """
    powers = _HIGHEST - _LOWEST + 1
    size = np.abs(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.floor(np.log2(size)).clip(_LOWEST, _HIGHEST) - _LOWEST
    index = np.where(size < 2.0**_LOWEST, powers, np.where(x < 0, powers - 1 - power, powers + 1 + power))
    index = index[~np.isnan(x)].astype(np.int64)
    noisy = mechanisms.counts(np.bincount(index, minlength=2 * powers + 1).astype(np.float64), rho, f"range of {name!r}")
    bounds = [_power_bounds(i - powers, whole) for i in range(len(noisy))]
    possible = np.array([low <= high for low, high in bounds])  # there is no whole number between a quarter and a half
    selected = np.flatnonzero(possible & (noisy > _SIGNIFICANT * mechanisms.noise_scale(rho)))
    selected = selected if len(selected) else np.array([int(np.where(possible, noisy, -np.inf).argmax())])
    shares = noisy[selected].clip(1) / noisy[selected].clip(1).sum()
    return [(*bounds[i], share) for i, share in zip(selected.tolist(), shares.tolist(), strict=True)]


def _power_bounds(index: int, whole: bool) -> tuple[float, float]:
    """Return the bounds of a power of two by its index, negative for negative numbers and 0 for zero."""
    if index == 0:
        return 0.0, 0.0
    low, high = 2.0 ** (abs(index) - 1 + _LOWEST), 2.0 ** (abs(index) + _LOWEST)
    if whole:
        low, high = float(np.ceil(low)), float(np.ceil(high)) - 1
    return (low, high) if index > 0 else (-high, -low)


def _refine(x: Floats, ranges: Ranges, whole: bool, mechanisms: Mechanisms, rho: float, name: str) -> Ranges:
    """Divide ranges once, and return the parts with rows: a power of two is wide where values are large, as dates are."""
    low, high, noisy = _count_parts(x, ranges, whole, mechanisms, rho, f"finer range of {name!r}")
    selected = np.flatnonzero(noisy[1:] > _SIGNIFICANT * mechanisms.noise_scale(rho))
    if len(selected) == 0:
        return ranges
    shares = noisy[1:][selected] / noisy[1:][selected].sum()
    return list(zip(low[selected].tolist(), high[selected].tolist(), shares.tolist(), strict=True))


def _fit_bins(
    name: str, x: Floats, ranges: Ranges, whole: bool, n_bins: int, mechanisms: Mechanisms, rho: float
) -> tuple[NumberTokenizer, Floats]:
    """Count the parts of the ranges with noise, and merge neighbours into about ``n_bins`` bins."""
    low, high, noisy = _count_parts(x, ranges, whole, mechanisms, rho, f"cells of {name!r}")
    sd = mechanisms.noise_scale(rho)
    positive = noisy[1:].clip(0)
    bin_size = max(positive.sum() / n_bins, _SIGNIFICANT * sd)
    points: list[Floats] = []
    counts = [_significant(noisy[:1], sd)[0]]  # missing
    start, rows = 0, 0.0
    for i in range(len(low)):
        rows += float(noisy[1 + i])
        last = i + 1 == len(low)
        at_zero = not last and (low[i + 1] == high[i + 1] == 0 or low[i] == high[i] == 0) and not whole  # zero is a bin of its own
        if last or at_zero or rows >= bin_size:
            points.append(_quantiles(low[start : i + 1], float(high[i]), positive[start : i + 1]))
            counts.append(max(rows, 0.0))
            start, rows = i + 1, 0.0
    bins, bin_counts = np.stack(points), np.array(counts)
    if bin_counts[1:].sum() == 0:
        bin_counts[1:] = 1.0
    return NumberTokenizer(name, bins, _grid(bins, whole)), bin_counts


def _count_parts(x: Floats, ranges: Ranges, whole: bool, mechanisms: Mechanisms, rho: float, what: str) -> tuple[Floats, Floats, Floats]:
    """Divide ranges in proportion to their shares; return the parts' bounds (c,), and noisy counts of missing and each part (1 + c,)."""
    parts = [part for low, high, share in ranges for part in _divide(low, high, max(1, round(_PARTS * share)), whole)]
    low, high = np.array([part[0] for part in parts]), np.array([part[1] for part in parts])
    missing = np.isnan(x)
    index = np.searchsorted(low, x[~missing], side="right").clip(1)
    counts = np.bincount(np.concatenate([np.zeros(missing.sum(), dtype=np.int64), index]), minlength=len(parts) + 1)
    return low, high, mechanisms.counts(counts.astype(np.float64), rho, what)


def _quantiles(low: Floats, end: float, rows: Floats) -> Floats:
    """Return quantiles of a bin from the noisy counts of its parts, with uniform density within each of them."""
    cumulative = np.concatenate([[0.0], (rows + 1e-3).cumsum()])
    return np.asarray(np.interp(np.linspace(0, 1, _POINTS), cumulative / cumulative[-1], np.append(low, end)))


def _divide(low: float, high: float, parts: int, whole: bool) -> list[tuple[float, float]]:
    """Divide a range into parts; for whole numbers each part is from its first to its last value."""
    if low == high:
        return [(low, high)]
    if not whole:
        return list(pairwise(np.linspace(low, high, parts + 1).tolist()))
    edges = np.unique(np.linspace(low, high + 1, min(parts, int(high - low) + 1) + 1).astype(np.int64))
    return [(float(a), float(b - 1)) for a, b in pairwise(edges.tolist())]


def _grid(points: Floats, whole: bool) -> Grid | None:
    """Whole numbers stay whole; others are rounded to about a thousandth of their range, since the real grid is not public."""
    if whole:
        return Grid(0, 0, 1)
    range_ = float(points.max() - points.min())
    decimals = int(np.ceil(np.log10(_STEPS / range_))) if range_ > 0 else 0
    return Grid(decimals, 0, 1) if 0 <= decimals <= 6 else None


def _significant(noisy: Floats, sd: float) -> Floats:
    """Set counts within the noise to 0."""
    return np.where(noisy > _SIGNIFICANT * sd, noisy, 0.0)
