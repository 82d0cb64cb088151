"""What a fit must know of every row of an archive before it learns: the outcome, the patient, and the site, as numbers.

One pass over these columns alone. Identifiers are text only while their block is read: of a text the 64-bit hash stays. Among ten million
patients two different texts share a hash with probability 3e-6.

Shapes: n rows.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.archive.files import Archive
from nearward.tabular.data.parquet_files import printable
from nearward.tabular.data.table_io import to_series
from nearward.tabular.data.validation import Target, validate_target
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.typing import Ints

KEY_BLOCK = 1 << 18  # rows
_MOST_VALUES = 1_000  # different values of an outcome that are collected; more are a measurement
_TYPICAL_ROWS = 2_000  # a column of about so many rows has each outcome value as often as the archive


@dataclass(frozen=True)
class RowKeys:
    """Outcomes, patients and sites of an archive's rows.

    Parameters
    ----------
    target : Target, of n rows
    patient_ids : (n,), patient numbers from 0
    site : (n,) or None, site numbers from 1; 0 where it is missing
    files_with_events : int
    """

    target: Target
    patient_ids: Ints
    site: Ints | None
    files_with_events: int

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(self.patient_ids.max()) + 1


@dataclass
class _Codes:
    """Different values of a column in the order of their occurrence, and each row's place among them."""

    name: str
    place: dict[Any, int] = field(default_factory=dict)
    rows: list[np.ndarray[Any, Any]] = field(default_factory=list)

    def add(self, values: pl.Series) -> None:
        """Add a block; a missing value is -1."""
        for value in values.drop_nulls().unique(maintain_order=True).to_list():
            self.place.setdefault(value, len(self.place))
        places = range(len(self.place))
        codes = values.replace_strict(list(self.place), list(places), default=-1, return_dtype=pl.Int32) if self.place else None
        self.rows.append(np.full(len(values), -1, dtype=np.int32) if codes is None else codes.fill_null(-1).to_numpy())

    def codes(self) -> Ints:
        """Return the place of each row's value (n,)."""
        return np.concatenate(self.rows).astype(np.int64)


def read_row_keys(
    archive: Archive,
    outcome: str,
    positive: Any = None,
    group: str | None = None,
    id: str | None = None,
    site: str | None = None,
    max_classes: int = 2,
) -> RowKeys:
    """Read outcomes, patients and sites of all rows.

    Parameters
    ----------
    archive : Archive
    outcome : str, column
    positive : value or list of values, optional
        The event, as in ``validate_target``.
    group : str, optional
        Column of the patients; by default every row is a patient of its own.
    id : str, optional
        Column of row ids, which must differ.
    site : str, optional
        Column of sites; a missing value is a site of its own.
    max_classes : int, as in ``validate_target``

    Raises
    ------
    InputError
        Missing outcomes or patients, ids that repeat, an outcome with too many values; with counts, and files of missing values.

    Warns
    -----
    DataWarning
        All events lie in one of several files.
    """
    outcomes, sites, patients, ids = _Codes(outcome), _Codes(site or ""), [], []
    missing = {name: np.zeros(len(archive.files), dtype=np.int64) for name in (outcome, group) if name}
    for block, frame in archive.read_blocks(KEY_BLOCK, [*dict.fromkeys(name for name in (outcome, group, id, site) if name)]):
        values = _plain(to_series(outcome, frame.get_column(outcome)))
        outcomes.add(values)
        missing[outcome][block.file] += values.null_count()
        if len(outcomes.place) > _MOST_VALUES:
            break
        if group:
            labels = to_series(group, frame.get_column(group))
            missing[group][block.file] += labels.null_count()
            patients.append(_keys(labels))
        if id:
            ids.append(_keys(frame.get_column(id)))
        if site:
            sites.add(frame.get_column(site).cast(pl.String))
    _refuse_missing(archive, missing[outcome], f"the outcome {outcome!r}", "drop these rows, or find out what happened")
    target = _target(outcomes, archive.dtypes[outcome], positive, max_classes)
    if group:
        _refuse_missing(archive, missing[group], f"the group column {group!r}", "give each such row an id of its own")
    if id:
        _refuse_repeats(np.concatenate(ids), id)
    return RowKeys(
        target=target,
        patient_ids=_dense(patients) if group else np.arange(archive.rows),
        site=sites.codes() + 1 if site else None,
        files_with_events=_files_with_events(archive, target.outcome),
    )


def distinct_values(archive: Archive, column: str) -> pl.Series:
    """Return the different values of a column, at most about a thousand of them."""
    values = pl.Series(column, [], dtype=archive.dtypes[column])
    for _, frame in archive.read_blocks(KEY_BLOCK, [column]):
        values = pl.concat([values, frame.get_column(column)]).unique(maintain_order=True)
        if len(values) > _MOST_VALUES:
            break
    return values.drop_nulls()


def _plain(values: pl.Series) -> pl.Series:
    """Return categories as text, and decimals as floats: values that compare."""
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    return values.cast(pl.Float64) if values.dtype.is_decimal() else values


def _keys(values: pl.Series) -> np.ndarray[Any, Any]:
    """Return whole numbers as they are, other values as 64-bit hashes (n,)."""
    if values.dtype.is_integer() and values.dtype != pl.UInt64:
        return values.fill_null(0).cast(pl.Int64).to_numpy()
    return _plain(values).hash(seed=0).to_numpy()


def _dense(keys: list[np.ndarray[Any, Any]]) -> Ints:
    return pl.Series(np.concatenate(keys)).rank("dense").to_numpy().astype(np.int64) - 1


def _target(outcomes: _Codes, dtype: pl.DataType, positive: Any, max_classes: int) -> Target:
    """Return the target of all rows, by a short column that has each value as often as the archive."""
    codes = outcomes.codes()
    if not outcomes.place:
        raise InputError(f"the outcome {outcomes.name!r} has no value in any row")
    count = np.bincount(codes)
    repeats = np.maximum((_TYPICAL_ROWS * count / len(codes)).round().astype(int), 1)
    values = _plain(pl.Series(outcomes.name, list(outcomes.place), dtype=dtype))
    typical = values.gather(np.repeat(np.arange(len(values)), repeats))
    target = validate_target(typical, positive=positive, max_classes=max_classes, name=f"the outcome {outcomes.name!r}")
    code = target.outcome[np.cumsum(repeats) - 1]  # of each value
    return Target(target.classes, code[codes], target.event_index, target.event)


def _refuse_missing(archive: Archive, missing: Ints, name: str, remedy: str) -> None:
    if not missing.any():
        return
    files = np.flatnonzero(missing)
    first = printable(archive.files[files[0]].path)
    where = f"{len(files)} of {len(archive.files)} files, the first of them {first}"
    raise InputError(f"{name} has {missing.sum()} missing values (null or NaN) in {archive.rows} rows, in {where}; {remedy}")


def _refuse_repeats(keys: np.ndarray[Any, Any], name: str) -> None:
    ordered = np.sort(keys)  # several times as fast as np.unique
    repeats = int((ordered[1:] == ordered[:-1]).sum())
    if repeats:
        raise InputError(f"the id column {name!r} repeats {repeats} times in {len(keys)} rows; name patients with several rows in groups")


def _files_with_events(archive: Archive, outcome: Ints) -> int:
    with_events = [bool(outcome[file.first : file.first + file.rows].any()) for file in archive.files]
    if sum(with_events) == 1 and len(with_events) > 1:
        path = printable(archive.files[with_events.index(True)].path)
        message = f"all events are in 1 of {len(with_events)} files ({path}): is the outcome recorded in the others?"
        warnings.warn(message, DataWarning, stacklevel=3)
    return sum(with_events)
