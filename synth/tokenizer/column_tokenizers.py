"""Tokenizers of single columns: numbers by bins, categories by their values, each bin and category shared by five patients or more.

Token 0 is a missing value in every column. A number's other tokens are bins in increasing order: single values that many rows have (0, a
detection limit) and intervals between them. Decoding draws a value inside the bin and rounds it to the column's grid, so that whole numbers
stay whole. A category's other tokens are its values, most frequent first, and RARE for all values that fewer than five patients have.

Shapes: n rows, k bins, p quantiles inside a bin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from nearward.synth.tokenizer.decimal_precision import NO_GRID, DecimalPrecision, Grid, common_decimals, count_decimals
from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.errors import InputError
from nearward.tabular.rules.rule import as_written
from nearward.tabular.typing import Floats, Ints

MIN_PATIENTS = 5  # behind every published value, bin edge and category
RARE = "RARE"  # written for a value that fewer patients have
MAX_BINS = 100
_MAX_CATEGORIES = 400
_ROWS_PER_BIN = 15  # a bin of fewer rows describes these rows more than the column
_QUANTILES = 9  # inside a bin: its quantile function, so that skewed bins stay skewed
_ROWS_PER_PIECE = 50  # of the quantile function; five rows a piece let attacks recognise members by their position inside a bin
_ROWS_PER_PIECE_AT_AN_END = 10  # where a straight line would put a long tail's values far out
_TEMPORAL = (pl.Date, pl.Datetime, pl.Duration)


def fit_column(series: pl.Series, keep_rare: bool = False, patient_ids: Ints | None = None, category: bool = False) -> ColumnTokenizer:
    """Fit the tokenizer that suits a column's dtype, or that of a category; other arguments as ``NumberTokenizer.fit``.

    Raises
    ------
    InputError
        A dtype without an obvious meaning; infinite values.
    """
    dtype = series.dtype
    if not category and (dtype.is_numeric() or isinstance(dtype, _TEMPORAL) or dtype == pl.Null):
        return NumberTokenizer.fit(series, keep_rare, patient_ids)
    return CategoryTokenizer.fit(series, keep_rare, patient_ids)


@dataclass(frozen=True)
class NumberTokenizer:
    """Bins of a number, date or time.

    Parameters
    ----------
    name : str
    bin_quantiles : (k, 9)
        Quantiles inside each bin, least to greatest; all equal where the bin is a single value.
    grid : Grid or None
        Of all values but fewer than five.
    precision : DecimalPrecision or None
        Where values are written with different numbers of decimals.
    unit : float
        Days of one unit of a date's or a duration's numbers, as rules count them; 1 for other numbers.
    """

    name: str
    bin_quantiles: Floats
    grid: Grid | None
    precision: DecimalPrecision | None = None
    unit: float = 1.0

    @classmethod
    def fit(cls, series: pl.Series, keep_rare: bool = False, patient_ids: Ints | None = None) -> NumberTokenizer:
        """Find the bins of a column.

        Parameters
        ----------
        series : n values
            Where fewer than ten patients have a value, none is published: every value is encoded as missing.
        keep_rare : bool
            Give each value a bin of its own, however few rows have it: for outcomes, whose rare value must not be deleted.
        patient_ids : (n,), optional
            One value of each patient, chosen at random, is used, so that no patient counts five times.
        """
        used = series if patient_ids is None or keep_rare else _one_per_patient(series, patient_ids)
        values = np.sort(to_physical_numbers(used).drop_nulls().to_numpy())
        if len(values) < (1 if keep_rare else 2 * MIN_PATIENTS):
            return cls(series.name, np.zeros((0, _QUANTILES)), None, unit=days_per_unit(series.dtype))
        bins = _find_bins(values, keep_rare)
        needed = count_decimals(values)
        most = common_decimals(needed, MIN_PATIENTS)
        grid = Grid.fit(values[needed <= most]) if most < NO_GRID else None
        if grid is not None and (needed > most).any():
            on_grid = values[needed <= most]
            bins = grid.snap(bins).clip(on_grid[0], on_grid[-1])  # values off the grid are neither published nor bin edges
        tokenizer = cls(series.name, bins, grid, unit=days_per_unit(series.dtype))
        step = 1 if grid is None else grid.step
        if most == 0 or 10 % step or (grid is not None and grid.offset % step):  # coarser values would not lie on the grid
            return tokenizer
        bin_index = tokenizer.digitize(values) - 1
        wide = bins[bin_index, 0] < bins[bin_index, -1]
        return replace(tokenizer, precision=DecimalPrecision.fit(needed[wide], bin_index[wide], len(bins), most, step))

    @property
    def size(self) -> int:
        """Number of tokens, that of missing included."""
        return len(self.bin_quantiles) + 1

    @property
    def low(self) -> Floats:
        """Least value of each token (k + 1,), NaN for missing."""
        return np.concatenate([[np.nan], self.bin_quantiles[:, 0]])

    @property
    def high(self) -> Floats:
        """Greatest value of each token (k + 1,), NaN for missing."""
        return np.concatenate([[np.nan], self.bin_quantiles[:, -1]])

    def encode(self, series: pl.Series) -> Ints:
        """Return the token of each value (n,): its bin, or the nearest bin where it lies between two."""
        return self.digitize(self.to_numbers(series))

    def to_numbers(self, series: pl.Series) -> Floats:
        """Read a column as numbers (n,), NaN for missing."""
        return np.asarray(to_physical_numbers(series).to_numpy(), dtype=np.float64)

    def digitize(self, values: Floats) -> Ints:
        """Return the token of each number (n,)."""
        if len(self.bin_quantiles) == 0:
            return np.zeros(len(values), dtype=np.int64)
        low, high = self.bin_quantiles[:, 0], self.bin_quantiles[:, -1]
        above = np.searchsorted(high, values).clip(0, len(high) - 1)
        below = (above - 1).clip(0)
        nearest = np.where(values - high[below] < low[above] - values, below, above)
        return np.where(np.isnan(values), 0, nearest + 1).astype(np.int64)

    def values(self, tokens: Ints, position: Floats) -> Floats:
        """Return a value of each token (n,), NaN for missing, at ``position`` (n,), 0 to 1, of its bin."""
        if len(self.bin_quantiles) == 0:
            return np.full(len(tokens), np.nan)
        bin_index = (tokens - 1).clip(0)
        quantile = position * (_QUANTILES - 1)
        piece = quantile.astype(np.int64).clip(0, _QUANTILES - 2)
        start, end = self.bin_quantiles[bin_index, piece], self.bin_quantiles[bin_index, piece + 1]
        value = start + (end - start) * (quantile - piece)
        low, high = self.bin_quantiles[bin_index, 0], self.bin_quantiles[bin_index, -1]
        wide = low < high
        if self.grid is not None:
            value = np.where(wide, self.grid.snap(value), low)
        if self.precision is not None:
            coarser = self.precision.round(value, bin_index, position, low, high)
            value = np.where(wide & (coarser >= low) & (coarser <= high), coarser, value)
        return np.where(tokens == 0, np.nan, value.clip(low, high))

    def to_series(self, values: Floats, dtype: pl.DataType) -> pl.Series:
        """Return numbers (n,) as a column of the dtype that was fitted."""
        series = pl.Series(self.name, values).fill_nan(None)
        if isinstance(dtype, _TEMPORAL):
            whole = series.round().cast(pl.Int64)
            return whole.cast(pl.Int32 if dtype == pl.Date else _microseconds(dtype)).cast(dtype)
        if dtype.is_integer():  # ranges under a privacy budget end at powers of two: -255 for Int8
            integer: Any = dtype
            least, greatest = pl.select(least=integer.min(), greatest=integer.max()).row(0)
            series = series.round().clip(least, greatest)
        return series.cast(dtype)


@dataclass(frozen=True)
class CategoryTokenizer:
    """Values of a category.

    Parameters
    ----------
    name : str
    categories : tuple of str
        Values that five patients have, most frequent first, 400 at most.
    n_rare : int
        Rows with any other value.
    rare : str
        What is written for any other value: RARE, or a longer word where RARE is itself a value of the column.
    """

    name: str
    categories: tuple[str, ...]
    n_rare: int
    rare: str = RARE

    @classmethod
    def fit(cls, series: pl.Series, keep_rare: bool = False, patient_ids: Ints | None = None) -> CategoryTokenizer:
        """Count a column's values; ``keep_rare`` and ``patient_ids`` as ``NumberTokenizer.fit``, all rows of a patient are counted."""
        patients = pl.Series("patient", np.arange(len(series)) if patient_ids is None else patient_ids)
        present = pl.DataFrame([as_text(series, series.name).alias("category"), patients]).drop_nulls()
        counts = present.group_by("category").agg(rows=pl.len(), patients=pl.col("patient").n_unique())
        counts = counts.sort(["rows", "category"], descending=[True, False])
        published = counts if keep_rare else counts.filter(pl.col("patients") >= MIN_PATIENTS).head(_MAX_CATEGORIES)
        n_rare = int(counts["rows"].sum()) - int(published["rows"].sum())
        return cls(series.name, tuple(published["category"].to_list()), n_rare, _rare_word(set(counts["category"].to_list())))

    @property
    def size(self) -> int:
        """Number of tokens: missing, the categories, RARE."""
        return len(self.categories) + 2

    def encode(self, series: pl.Series) -> Ints:
        """Return the token of each value (n,); a value that is not listed is RARE."""
        text = as_text(series, self.name)
        missing = text.is_null().to_numpy()
        if not self.categories:
            return np.where(missing, 0, 1).astype(np.int64)
        tokens = text.replace_strict(
            list(self.categories), list(range(1, len(self.categories) + 1)), default=self.size - 1, return_dtype=pl.Int64
        ).to_numpy()
        return np.where(missing, 0, tokens).astype(np.int64)

    def to_series(self, tokens: Ints, dtype: pl.DataType) -> pl.Series:
        """Return tokens (n,) as a column of the dtype that was fitted.

        An Enum dtype lists all of its categories, so only published ones are kept: an unpublished category may identify one patient. Where
        RARE is not a category of the Enum, and among numbers, RARE becomes missing.
        """
        values = [None, *self.categories, self.rare]
        if dtype == pl.Boolean:
            return pl.Series(self.name, [None, *(value == "true" for value in self.categories), None], dtype=pl.Boolean).gather(tokens)
        if isinstance(dtype, pl.Enum):
            dtype = pl.Enum([value for value in dtype.categories if value == self.rare or value in self.categories])
            values[-1] = self.rare if self.rare in dtype.categories else None
        elif dtype.is_numeric():
            values[-1] = None
        return pl.Series(self.name, values, dtype=pl.String).cast(dtype).gather(tokens)


ColumnTokenizer = NumberTokenizer | CategoryTokenizer


def to_physical_numbers(series: pl.Series) -> pl.Series:
    """Return numbers, dates and times as numbers; nanoseconds as microseconds, since floats hold whole numbers up to 2^53 only.

    Numbers of single precision are read as they are written: 70.1 has one decimal, and the nearest such number has seven.

    Raises
    ------
    InputError
        Whole numbers above that; infinite values.
    """
    if isinstance(series.dtype, _TEMPORAL):
        return series.cast(_microseconds(series.dtype)).to_physical().cast(pl.Float64)
    if series.dtype.is_integer() and len(series) and abs(int(series.drop_nulls().abs().max() or 0)) > 2**53:  # type: ignore[arg-type]
        raise InputError(f"column {series.name!r} has whole numbers above 2^53; if they identify rows or patients, drop the column")
    return as_number(as_written(series) if series.dtype == pl.Float32 else series, series.name)


def days_per_unit(dtype: pl.DataType) -> float:
    """Return the days of one unit of the numbers that ``to_physical_numbers`` returns for a date, a time or a duration; 1 otherwise."""
    if isinstance(dtype, pl.Datetime | pl.Duration):
        return 1 / (86_400_000 if dtype.time_unit == "ms" else 86_400_000_000)
    return 1.0


def _rare_word(values: set[str]) -> str:
    word = RARE if RARE not in values else f"{RARE} (fewer than {MIN_PATIENTS} patients)"
    while word in values:
        word += "*"
    return word


def _microseconds(dtype: pl.DataType) -> pl.DataType:
    """Return a date or time dtype, microseconds in the place of nanoseconds."""
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        return pl.Datetime("us", dtype.time_zone)
    return pl.Duration("us") if isinstance(dtype, pl.Duration) and dtype.time_unit == "ns" else dtype


def _one_per_patient(series: pl.Series, patient_ids: Ints) -> pl.Series:
    """Return one value of each patient, chosen at random."""
    present = pl.DataFrame([series.alias("value"), pl.Series("patient", patient_ids)]).drop_nulls()
    shuffled = present[np.random.default_rng(0).permutation(present.height)]
    return shuffled.unique("patient", keep="first", maintain_order=True).get_column("value").alias(series.name)


def _find_bins(values: Floats, keep_rare: bool) -> Floats:
    """Return the quantiles of each bin of sorted values (n,): frequent values alone, the others in intervals between them (k, 9)."""
    distinct, count = np.unique(values, return_counts=True)
    rows_per_bin = len(values) / int(np.clip(len(values) // _ROWS_PER_BIN, 8, MAX_BINS))
    enough = 1 if keep_rare else MIN_PATIENTS if len(distinct) <= MAX_BINS else max(MIN_PATIENTS, rows_per_bin / 2)
    frequent = np.sort(distinct[count >= enough][np.argsort(-count[count >= enough], kind="stable")[:MAX_BINS]])
    others = values[~np.isin(values, frequent)]
    edge = min(MIN_PATIENTS, len(values)) - 1
    others = others.clip(values[edge], values[-edge - 1])  # an extreme value identifies a patient
    interval = np.searchsorted(frequent, others)
    bins = [np.full(_QUANTILES, value) for value in frequent]
    for i in np.unique(interval):
        inside = others[interval == i]
        inside = inside[~np.isin(inside, frequent)]
        parts = [part for part in _split_evenly(inside, rows_per_bin) if len(part) >= MIN_PATIENTS]
        bins += [_quantiles(part, part[0] == others[0] or part[-1] == others[-1]) for part in parts]
    if not bins:  # so few rows that no five of them lie together
        bins = [_quantiles(values[edge : len(values) - edge], True)]
    stacked = np.stack(bins)
    return stacked[np.lexsort((stacked[:, -1], stacked[:, 0]))]


def _split_evenly(values: Floats, rows: float) -> list[Floats]:
    """Split sorted values into parts of about ``rows`` values; equal values stay together."""
    count = max(1, round(len(values) / rows))
    at = np.searchsorted(values, values[(np.arange(1, count) * len(values)) // count])
    return np.split(values, np.unique(at[at > 0]))


def _quantiles(values: Floats, at_an_end: bool) -> Floats:
    """Return nine quantiles of a bin's values, interpolated linearly between those that enough rows support."""
    pieces = int(np.clip(len(values) // (_ROWS_PER_PIECE_AT_AN_END if at_an_end else _ROWS_PER_PIECE), 1, _QUANTILES - 1))
    supported = np.linspace(0, 1, pieces + 1)
    return np.interp(np.linspace(0, 1, _QUANTILES), supported, np.quantile(values, supported, method="inverted_cdf"))
