"""One column as tokens and back: cells of numbers and levels of categories, each of them shared by five patients or more.

Token 0 is a missing value in every column. A number's other tokens are cells in the order of their values: single values that many rows
have (0, a detection limit) and ranges between them. A value is drawn back inside its cell and put onto the column's own grid, so that
whole numbers stay whole. A category's other tokens are its levels, commonest first, and RARE for all that fewer than five patients have.

Letters: n rows, k cells, p points inside a cell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from nearward.synth.tokenizer.decimal_precision import FREE, MOST_DECIMALS, Precision, decimals, finest
from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints

FEWEST = 5  # patients behind every published value, bound and level
RARE = "RARE"
MOST_CELLS = 100
_MOST_LEVELS = 400
_ROWS_A_CELL = 15  # fewer, and a cell tells more of its rows than of the column
_POINTS = 9  # inside a cell: its quantile function, so that skewed cells stay skewed
_ROWS_A_PIECE = 50  # of that function; with five each, members of a table of 47 columns were told by where exactly in a cell they lie
_ROWS_A_PIECE_AT_AN_END = 10  # where a straight line would put a long tail's values far out
_PHYSICAL = (pl.Date, pl.Datetime, pl.Duration)


@dataclass(frozen=True)
class Grid:
    """Values that a column can have: (offset + step × whole number) / 10^decimals.

    Parameters
    ----------
    decimals : int
    offset, step : int
    """

    decimals: int
    offset: int
    step: int

    @classmethod
    def fit(cls, values: Floats) -> Grid | None:
        """Find the coarsest grid that holds all values; None for numbers without one."""
        for places in range(MOST_DECIMALS + 1):
            scaled = values * 10.0**places
            if np.abs(scaled).max(initial=0) > 2**53:
                return None
            whole = np.round(scaled)
            if np.array_equal(np.round(values, places), values):
                offset = int(whole[0])
                step = int(np.gcd.reduce((whole - whole[0]).astype(np.int64)))
                return cls(places, offset, max(step, 1))
        return None

    def snap(self, values: Floats) -> Floats:
        """Return the nearest values on the grid (n,)."""
        return self.at(np.round((values * 10.0**self.decimals - self.offset) / self.step))

    def up(self, values: Floats) -> Floats:
        """Return the least values on the grid that are not below (n,)."""
        return self.at(np.ceil((values * 10.0**self.decimals - self.offset) / self.step - 1e-9))

    def down(self, values: Floats) -> Floats:
        """Return the greatest values on the grid that are not above (n,)."""
        return self.at(np.floor((values * 10.0**self.decimals - self.offset) / self.step + 1e-9))

    def at(self, number: Floats) -> Floats:
        """Return the grid's values of these numbers, rounded as the column wrote them."""
        return np.asarray(np.round((self.offset + self.step * number) / 10.0**self.decimals, self.decimals))


@dataclass(frozen=True)
class NumberTokenizer:
    """Cells of a number, date or time.

    Parameters
    ----------
    name : str
    points : (k, 9), quantiles inside each cell, least to greatest; all the same where the cell is a single value
    grid : Grid or None
        Of all values but fewer than five.
    precision : Precision or None
        Where values are written with different numbers of decimals.
    """

    name: str
    points: Floats
    grid: Grid | None
    precision: Precision | None = None

    @classmethod
    def fit(cls, series: pl.Series, protect: bool = False, patient: Ints | None = None) -> NumberTokenizer:
        """Cut a column's values into cells.

        Parameters
        ----------
        series : n values
            Where fewer than ten patients have any, none is published: all cells are written as missing.
        protect : bool
            Each value is a cell of its own however few rows have it: for outcomes, which no protection may delete.
        patient : (n,), optional
            Patient numbers: one value of each, drawn by lot, is looked at, so that nobody counts five times.
        """
        values = np.sort(physical(series if patient is None or protect else _one_each(series, patient)).drop_nulls().to_numpy())
        if len(values) < (1 if protect else 2 * FEWEST):
            return cls(series.name, np.zeros((0, _POINTS)), None)
        different, count = np.unique(values, return_counts=True)
        cells = int(np.clip(len(values) // _ROWS_A_CELL, 8, MOST_CELLS))
        share = len(values) / cells
        enough = 1 if protect else FEWEST if len(different) <= MOST_CELLS else max(FEWEST, share / 2)
        spikes = np.sort(different[count >= enough][np.argsort(-count[count >= enough], kind="stable")[:MOST_CELLS]])
        rest = values[~np.isin(values, spikes)]
        edge = min(FEWEST, len(values)) - 1
        rest = rest.clip(values[edge], values[-edge - 1])  # a least or greatest value is a patient
        between = np.searchsorted(spikes, rest)
        points = [np.full(_POINTS, spike) for spike in spikes]
        for gap in np.unique(between):
            inside = rest[between == gap]
            inside = inside[~np.isin(inside, spikes)]
            parts = [rows for rows in _parts(inside, share) if len(rows) >= FEWEST]
            points += [_quantiles(rows, rows[0] == rest[0] or rows[-1] == rest[-1]) for rows in parts]
        if not points:  # so few rows that no five of them lie together
            points = [_quantiles(values[edge : len(values) - edge], True)]
        cells_ = np.stack(points)[np.lexsort((np.stack(points)[:, -1], np.stack(points)[:, 0]))]
        needed = decimals(values)
        most = finest(needed, FEWEST)
        grid = Grid.fit(values[needed <= most]) if most < FREE else None
        if grid is not None and (needed > most).any():
            there = values[needed <= most]
            cells_ = grid.snap(cells_).clip(there[0], there[-1])  # strays neither stay nor bound a cell
        plain = cls(series.name, cells_, grid)
        step = 1 if grid is None else grid.step
        if most == 0 or 10 % step or (grid is not None and grid.offset % step):  # coarser values would not lie on the grid
            return plain
        cell = plain.cells(values) - 1
        spread = cells_[cell, 0] < cells_[cell, -1]
        return replace(plain, precision=Precision.fit(needed[spread], cell[spread], len(cells_), most, step))

    @property
    def size(self) -> int:
        """How many tokens there are, that of missing among them."""
        return len(self.points) + 1

    @property
    def low(self) -> Floats:
        """Least value of each token (k + 1,), NaN for missing."""
        return np.concatenate([[np.nan], self.points[:, 0]])

    @property
    def high(self) -> Floats:
        """Greatest value of each token (k + 1,), NaN for missing."""
        return np.concatenate([[np.nan], self.points[:, -1]])

    def numbers(self, series: pl.Series) -> Floats:
        """Read a column as numbers (n,), NaN for missing."""
        return np.asarray(physical(series).to_numpy(), dtype=np.float64)

    def encode(self, series: pl.Series) -> Ints:
        """Return the token of each value (n,): its cell, or the nearest where it lies between two."""
        return self.cells(self.numbers(series))

    def cells(self, values: Floats) -> Ints:
        """Return the token of each number (n,)."""
        if len(self.points) == 0:
            return np.zeros(len(values), dtype=np.int64)
        low, high = self.points[:, 0], self.points[:, -1]
        above = np.searchsorted(high, values).clip(0, len(high) - 1)
        below = (above - 1).clip(0)
        nearer = np.where(values - high[below] < low[above] - values, below, above)
        return np.where(np.isnan(values), 0, nearer + 1).astype(np.int64)

    def values(self, tokens: Ints, inside: Floats) -> Floats:
        """Return a value of each token (n,), NaN for missing.

        Parameters
        ----------
        tokens : (n,)
        inside : (n,), where in its cell each value lies, from 0 to 1
        """
        if len(self.points) == 0:
            return np.full(len(tokens), np.nan)
        cell = (tokens - 1).clip(0)
        place = inside * (_POINTS - 1)
        left = place.astype(np.int64).clip(0, _POINTS - 2)
        start, end = self.points[cell, left], self.points[cell, left + 1]
        value = start + (end - start) * (place - left)
        low, high = self.points[cell, 0], self.points[cell, -1]
        spread = low < high
        if self.grid is not None:
            value = np.where(spread, self.grid.snap(value), low)
        if self.precision is not None:
            coarser = self.precision.rounded(value, cell, inside, low, high)
            value = np.where(spread & (coarser >= low) & (coarser <= high), coarser, value)
        return np.where(tokens == 0, np.nan, value.clip(low, high))

    def write(self, values: Floats, dtype: pl.DataType) -> pl.Series:
        """Return numbers as a column of the dtype that was read."""
        series = pl.Series(self.name, values).fill_nan(None)
        if isinstance(dtype, _PHYSICAL):
            whole = series.round().cast(pl.Int64)
            return whole.cast(pl.Int32 if dtype == pl.Date else _as_read(dtype)).cast(dtype)
        return (series.round() if dtype.is_integer() else series).cast(dtype)


@dataclass(frozen=True)
class CategoryTokenizer:
    """Levels of a category.

    Parameters
    ----------
    name : str
    levels : tuple of str
        Those that five patients have, commonest first, 400 at most.
    rare : int
        How many rows had another.
    """

    name: str
    levels: tuple[str, ...]
    rare: int

    @classmethod
    def fit(cls, series: pl.Series, protect: bool = False, patient: Ints | None = None) -> CategoryTokenizer:
        """Count a column's levels; ``protect`` keeps each, however few patients (numbers, (n,); else each row is one) have it."""
        who = pl.Series("patient", np.arange(len(series)) if patient is None else patient)
        cells = pl.DataFrame([as_text(series, series.name).alias("level"), who]).drop_nulls()
        counted = cells.group_by("level").agg(rows=pl.len(), patients=pl.col("patient").n_unique())
        counted = counted.sort(["rows", "level"], descending=[True, False])
        kept = counted if protect else counted.filter(pl.col("patients") >= FEWEST).head(_MOST_LEVELS)
        return cls(series.name, tuple(kept.get_column("level").to_list()), int(counted["rows"].sum()) - int(kept["rows"].sum()))

    @property
    def size(self) -> int:
        """How many tokens there are: missing, the levels, RARE."""
        return len(self.levels) + 2

    def encode(self, series: pl.Series) -> Ints:
        """Return the token of each value (n,); a level that is not listed is RARE."""
        text = as_text(series, self.name)
        if not self.levels:
            return np.where(text.is_null().to_numpy(), 0, 1).astype(np.int64)
        coded = text.replace_strict(
            list(self.levels), list(range(1, len(self.levels) + 1)), default=self.size - 1, return_dtype=pl.Int64
        ).to_numpy()
        return np.where(text.is_null().to_numpy(), 0, coded).astype(np.int64)

    def write(self, tokens: Ints, dtype: pl.DataType) -> pl.Series:
        """Return tokens as a column of the dtype that was read.

        An Enum keeps the categories that are published, since it travels with all of its own: a category that one patient has is one of
        them. Where RARE is none of them, such a value is missing.
        """
        names = [None, *self.levels, RARE]
        if dtype == pl.Boolean:
            return pl.Series(self.name, [None, *(level == "true" for level in self.levels), None], dtype=pl.Boolean).gather(tokens)
        if isinstance(dtype, pl.Enum):
            dtype = pl.Enum([level for level in dtype.categories if level == RARE or level in self.levels])
            names[-1] = RARE if RARE in dtype.categories else None
        return pl.Series(self.name, names, dtype=pl.String).cast(dtype).gather(tokens)


ColumnTokenizer = NumberTokenizer | CategoryTokenizer


def fit_column(series: pl.Series, protect: bool = False, patient: Ints | None = None) -> ColumnTokenizer:
    """Choose the tokens of a column by its dtype; ``patient`` (n,) are patient numbers, each row is one without them.

    Raises
    ------
    InputError
        A dtype without an obvious meaning; infinite values.
    """
    dtype = series.dtype
    if dtype.is_numeric() or isinstance(dtype, _PHYSICAL) or dtype == pl.Null:
        return NumberTokenizer.fit(series, protect, patient)
    return CategoryTokenizer.fit(series, protect, patient)


def physical(series: pl.Series) -> pl.Series:
    """Return numbers, dates and times as numbers; nanoseconds as microseconds, since whole floating-point numbers end at 2^53.

    Raises
    ------
    InputError
        Whole numbers above that; infinite values.
    """
    if isinstance(series.dtype, _PHYSICAL):
        return series.cast(_as_read(series.dtype)).to_physical().cast(pl.Float64)
    if series.dtype.is_integer() and len(series) and abs(int(series.drop_nulls().abs().max() or 0)) > 2**53:  # type: ignore[arg-type]
        raise InputError(f"column {series.name!r} holds whole numbers above 2^53: if they name rows or patients, drop the column")
    return as_number(series, series.name)


def _as_read(dtype: pl.DataType) -> pl.DataType:
    """Return the dtype in whose units a date or time is read."""
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        return pl.Datetime("us", dtype.time_zone)
    return pl.Duration("us") if isinstance(dtype, pl.Duration) and dtype.time_unit == "ns" else dtype


def _one_each(series: pl.Series, patient: Ints) -> pl.Series:
    """Return one value of each patient, drawn by lot."""
    cells = pl.DataFrame([series.alias("value"), pl.Series("patient", patient)]).drop_nulls()
    drawn = cells[np.random.default_rng(0).permutation(cells.height)]
    return drawn.unique("patient", keep="first", maintain_order=True).get_column("value").alias(series.name)


def _parts(rows: Floats, share: float) -> list[Floats]:
    """Cut sorted values into parts of about ``share``; equal values stay together."""
    count = max(1, round(len(rows) / share))
    at = np.searchsorted(rows, rows[(np.arange(1, count) * len(rows)) // count])
    return np.split(rows, np.unique(at[at > 0]))


def _quantiles(rows: Floats, at_an_end: bool) -> Floats:
    """Return nine quantiles of a cell; straight lines between those that enough rows support."""
    pieces = int(np.clip(len(rows) // (_ROWS_A_PIECE_AT_AN_END if at_an_end else _ROWS_A_PIECE), 1, _POINTS - 1))
    supported = np.linspace(0, 1, pieces + 1)
    return np.interp(np.linspace(0, 1, _POINTS), supported, np.quantile(rows, supported, method="inverted_cdf"))
