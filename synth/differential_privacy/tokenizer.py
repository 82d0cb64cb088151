"""Cells of columns found under a privacy budget: nothing about a column is known but its dtype, unless somebody declared it.

A number's range is found on a fixed grid of powers of two, which no table has shaped; then each power that holds rows is cut, and what
holds rows of that is cut finely, counted once more with noise, and neighbouring cells are joined until each holds about as many rows.
A category's levels are those whose noisy count passes a threshold. Declared ranges and levels cost nothing; the number of rows itself
is charged.

Letters: n rows, d columns, c cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from nearward.synth.differential_privacy.accountant import FEWEST_ROWS
from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, ColumnTokenizer, NumberTokenizer, to_physical_numbers
from nearward.synth.tokenizer.decimal_precision import Grid
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats

Ranges = list[tuple[float, float, float]]  # low, high, share of the rows

_LOWEST, _HIGHEST = -20, 62  # powers of two: from a millionth to microseconds since 1970
_FINE = 64  # cells that a number's range is counted in before they are joined
_MOST_CELLS, _FEWEST_CELLS = 16, 3
_CERTAIN = 3.0  # standard deviations of noise, above which a cell is taken to hold rows
_POINTS = 9  # quantiles inside a cell that NumberTokens keeps
_STEPS = 1000  # a number without a declared grid is written to about a thousandth of its range
_SPLIT = {"rows": 0.02, "whole": 0.06, "ranges": 0.14, "finer": 0.14, "cells": 0.64}  # of the budget that is spent here


@dataclass(frozen=True)
class PrivateTokenizer:
    """Tokens that may be published, with noisy counts.

    Parameters
    ----------
    tokens : Tokens
    counts : d arrays (c,), noisy rows of each token, not negative; 0 for tokens that hold too few to tell
    rows : float, noisy number of rows
    """

    tokens: TableTokenizer
    counts: tuple[Floats, ...]
    rows: float


def private_cells(
    frame: pl.DataFrame, outcome: str, tell: Mechanisms, rho: float, delta: float, public: Schema | None = None
) -> PrivateTokenizer:
    """Find the cells of all columns.

    Parameters
    ----------
    frame : n rows
        At most ``tell.most`` of each patient.
    outcome : str
        Its levels are kept as they are, however its dtype.
    tell : Mechanisms
    rho, delta : float
        What may be spent here.
    public : Schema, optional
        Ranges and categories that are known without looking: from a codebook, never inferred from these rows.

    Raises
    ------
    InputError
        Fewer than 50 rows for each encoded dimension, or a column whose levels all stay below the threshold.
    """
    rows = max(1.0, float(tell.counts(np.array([frame.height], dtype=np.float64), rho * _SPLIT["rows"], "number of rows")[0]))
    known = {} if public is None else {column.name: column for column in public.columns}
    listed = [name for name, dtype in frame.schema.items() if name == outcome or not _is_number(dtype)]
    numbers = [name for name in frame.columns if name not in listed]
    open_ranges = [name for name in numbers if name not in known or known[name].low is None]
    open_levels = [name for name in listed if frame.schema[name] != pl.Boolean and (name not in known or not known[name].categories)]
    each = rho * _SPLIT["cells"] / frame.width
    found: dict[str, tuple[ColumnTokenizer, Floats]] = {}
    for name in listed:
        declared = ("false", "true") if frame.schema[name] == pl.Boolean else known[name].categories if name not in open_levels else None
        found[name] = _levels(frame.get_column(name), declared, tell, each, delta / max(len(open_levels), 1))
    left = rows / FEWEST_ROWS - sum(_dimensions(counts) for _, counts in found.values())
    cells = int(min(_MOST_CELLS, left / max(len(numbers), 1) - 1))
    if (numbers and cells < _FEWEST_CELLS) or left < 0:
        raise _too_few(rows, frame.width, len(numbers))
    for name in numbers:
        column = frame.get_column(name)
        x = (to_physical_numbers(column) if column.dtype.is_temporal() else as_number(column, name)).cast(pl.Float64).to_numpy()
        counted = column.dtype.is_integer() or column.dtype.is_temporal()
        whole = counted or _is_whole(x, tell, rho * _SPLIT["whole"] / len(numbers), name)
        if name in open_ranges:
            ranges = _ranges(x, whole, tell, rho * _SPLIT["ranges"] / len(open_ranges), name)
        else:
            ranges = [(float(known[name].low or 0), float(known[name].high or 0), 1.0)]
        ranges = _finer(x, ranges, whole, tell, rho * _SPLIT["finer"] / len(numbers), name)
        found[name] = _cells(name, x, ranges, whole, cells, tell, each)
    tokens = TableTokenizer(tuple(found[name][0] for name in frame.columns))
    return PrivateTokenizer(tokens, tuple(found[name][1] for name in frame.columns), rows)


def _too_few(rows: float, columns: int, numbers: int) -> InputError:
    return InputError(
        f"refused: about {rows:.0f} rows are too few for {columns} columns ({numbers} of them numbers) under this epsilon: at least "
        f"{FEWEST_ROWS} rows are needed for each encoded dimension (a level, or a cell of a number), or noise is most of what the table "
        "would show. Give fewer columns, more patients, or coarser levels; or use no epsilon, and rely on the audit alone."
    )


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal()


def _dimensions(counts: Floats) -> int:
    return int((counts > 0).sum())


def _levels(
    column: pl.Series, declared: tuple[str, ...] | None, tell: Mechanisms, rho: float, delta: float
) -> tuple[ColumnTokenizer, Floats]:
    """Name a column's levels, and count them with noise."""
    name, text = column.name, as_text(column, column.name)
    if declared is None:
        seen = text.drop_nulls().alias("level").value_counts(name="rows").sort("level")
        there, noisy = tell.levels(seen.get_column("rows").to_numpy().astype(np.float64), rho / 2, delta, f"levels of {name!r}")
        declared = tuple(seen.filter(pl.Series(there)).get_column("level").to_list())
        rho = rho / 2
    tokens = CategoryTokenizer(name, declared, 0)
    counted = np.bincount(tokens.encode(text), minlength=tokens.size).astype(np.float64)
    noisy = _certain(tell.counts(counted[:-1], rho, f"counts of {name!r}"), tell.spread(rho))
    counts = np.append(noisy, 0.0)  # RARE: its rows are spread over the named levels
    if counts.sum() == 0:
        raise InputError(f"column {name!r}: no level has enough rows to be named under this epsilon. Declare its levels, or drop it.")
    if not _is_number(column.dtype):
        return tokens, counts
    values = np.array([float(level) for level in declared])  # an outcome in numbers: each level is a cell of one value
    order = np.argsort(values)
    points = np.repeat(values[order, None], _POINTS, axis=1)
    return NumberTokenizer(name, points, None), np.concatenate([counts[:1], counts[1:-1][order]])


def _is_whole(x: Floats, tell: Mechanisms, rho: float, name: str) -> bool:
    """Tell whether floating-point values are whole numbers, as far as noise lets one see: counts with holes are read as floats."""
    fractions = float((x[~np.isnan(x)] % 1 != 0).sum())
    return bool(tell.counts(np.array([fractions]), rho, f"fractions in {name!r}")[0] <= _CERTAIN * tell.spread(rho))


def _ranges(x: Floats, whole: bool, tell: Mechanisms, rho: float, name: str) -> Ranges:
    """Find the powers of two that hold rows: (low, high, noisy share) of each, in order; zero is a range of its own.

    Of whole numbers low and high are the first and the last; of others high is the next range's low.
    """
    powers = _HIGHEST - _LOWEST + 1
    size = np.abs(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.floor(np.log2(size)).clip(_LOWEST, _HIGHEST) - _LOWEST
    place = np.where(size < 2.0**_LOWEST, powers, np.where(x < 0, powers - 1 - power, powers + 1 + power))
    place = place[~np.isnan(x)].astype(np.int64)
    noisy = tell.counts(np.bincount(place, minlength=2 * powers + 1).astype(np.float64), rho, f"range of {name!r}")
    bounds = [_bounds(at - powers, whole) for at in range(len(noisy))]
    able = np.array([low <= high for low, high in bounds])  # there is no whole number between a quarter and a half
    kept = np.flatnonzero(able & (noisy > _CERTAIN * tell.spread(rho)))
    kept = kept if len(kept) else np.array([int(np.where(able, noisy, -np.inf).argmax())])
    share = noisy[kept].clip(1) / noisy[kept].clip(1).sum()
    return [(*bounds[at], part) for at, part in zip(kept.tolist(), share.tolist(), strict=True)]


def _bounds(place: int, whole: bool) -> tuple[float, float]:
    """Return the ends of the range that lies so many places above or below zero."""
    if place == 0:
        return 0.0, 0.0
    low, high = 2.0 ** (abs(place) - 1 + _LOWEST), 2.0 ** (abs(place) + _LOWEST)
    if whole:
        low, high = float(np.ceil(low)), float(np.ceil(high)) - 1
    return (low, high) if place > 0 else (-high, -low)


def _finer(x: Floats, ranges: Ranges, whole: bool, tell: Mechanisms, rho: float, name: str) -> Ranges:
    """Cut ranges once, and return the parts that hold rows: a power of two is wide where values are large, as dates are."""
    low, high, noisy = _counted(x, ranges, whole, tell, rho, f"finer range of {name!r}")
    kept = np.flatnonzero(noisy[1:] > _CERTAIN * tell.spread(rho))
    if len(kept) == 0:
        return ranges
    share = noisy[1:][kept] / noisy[1:][kept].sum()
    return list(zip(low[kept].tolist(), high[kept].tolist(), share.tolist(), strict=True))


def _counted(x: Floats, ranges: Ranges, whole: bool, tell: Mechanisms, rho: float, what: str) -> tuple[Floats, Floats, Floats]:
    """Cut each range in proportion to its share; return the cells' ends (c,), and noisy counts of missing and of each (1 + c,)."""
    fine = [cell for low, high, share in ranges for cell in _cut(low, high, max(1, round(_FINE * share)), whole)]
    low, high = np.array([cell[0] for cell in fine]), np.array([cell[1] for cell in fine])
    there = ~np.isnan(x)
    place = np.searchsorted(low, x[there], side="right").clip(1)
    counted = np.bincount(np.concatenate([np.zeros((~there).sum(), dtype=np.int64), place]), minlength=len(fine) + 1)
    return low, high, tell.counts(counted.astype(np.float64), rho, what)


def _cells(name: str, x: Floats, ranges: Ranges, whole: bool, most: int, tell: Mechanisms, rho: float) -> tuple[ColumnTokenizer, Floats]:
    """Cut ranges finely, count with noise, join neighbours until about ``most`` cells are left."""
    low, high, noisy = _counted(x, ranges, whole, tell, rho, f"cells of {name!r}")
    sd = tell.spread(rho)
    missing = _certain(noisy[:1], sd)[0]
    inside = noisy[1:].clip(0)
    enough = max(inside.sum() / most, _CERTAIN * sd)
    joined: list[tuple[Floats, float]] = []
    start, held, width = 0, 0.0, 0
    for i in range(len(low)):
        held, width = held + float(noisy[1 + i]), width + 1
        last = i + 1 == len(low)
        apart = not last and (low[i + 1] == high[i + 1] == 0 or low[i] == high[i] == 0) and not whole  # zero stays by itself
        if last or apart or held >= enough:
            joined.append((_quantiles(low[start : i + 1], float(high[i]), inside[start : i + 1]), max(held, 0.0)))
            start, held, width = i + 1, 0.0, 0
    points = np.stack([inner for inner, _ in joined])
    counts = np.array([missing, *(rows for _, rows in joined)])
    if counts[1:].sum() == 0:
        counts[1:] = 1.0
    return NumberTokenizer(name, points, _grid(points, whole)), counts


def _quantiles(low: Floats, end: float, rows: Floats) -> Floats:
    """Return quantiles of a joined cell from the noisy counts of the fine cells in it, a constant within each of them."""
    held = np.concatenate([[0.0], (rows + 1e-3).cumsum()])
    return np.asarray(np.interp(np.linspace(0, 1, _POINTS), held / held[-1], np.append(low, end)))


def _cut(low: float, high: float, parts: int, whole: bool) -> list[tuple[float, float]]:
    """Cut a range into cells; of whole numbers each cell is from its first to its last."""
    if low == high:
        return [(low, high)]
    if not whole:
        return list(pairwise(np.linspace(low, high, parts + 1).tolist()))
    edges = np.unique(np.linspace(low, high + 1, min(parts, int(high - low) + 1) + 1).astype(np.int64))
    return [(float(a), float(b - 1)) for a, b in pairwise(edges.tolist())]


def _grid(points: Floats, whole: bool) -> Grid | None:
    """Whole numbers stay whole; other numbers are written to about a thousandth of their range, since the real grid is not known."""
    if whole:
        return Grid(0, 0, 1)
    reach = float(points.max() - points.min())
    decimals = int(np.ceil(np.log10(_STEPS / reach))) if reach > 0 else 0
    return Grid(decimals, 0, 1) if 0 <= decimals <= 6 else None


def _certain(noisy: Floats, sd: float) -> Floats:
    """Set counts that noise alone could show to 0."""
    return np.where(noisy > _CERTAIN * sd, noisy, 0.0)
