"""The three tables a synthesizer is judged by, checked once at the door and brought to the same two kinds of column.

*train* is what the synthesizer saw, *holdout* real rows that it did not, *synthetic* what it made.

Letters: n rows, d columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.tables.neighbors import TableEmbedding
from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_groups, validate_target
from nearward.tabular.errors import DataWarning, DifferentTables, InputError, MissingColumns, SharedPatients, TooFewEvents
from nearward.tabular.typing import Ints

Frame = pl.DataFrame | pl.LazyFrame

NAMES = ("train", "holdout", "synthetic")
FEWEST_EVENTS = 10
_FEWEST_ROWS = 50  # below it every interval spans nearly everything
_FEWEST_PATIENTS = 20


@dataclass(frozen=True)
class Tables:
    """Three tables with the same columns: numbers as Float64, everything else as String, null where missing.

    Parameters
    ----------
    train, holdout, synthetic : pl.DataFrame
    outcome : str
    event : float or str
        The outcome's value, as the columns hold it, that is the event.
    train_patient, holdout_patient : (n,), patient numbers from 0
    repeated : Estimate
        Share of the holdout's rows that are in train, too, cell by cell.
    notes : tuple of str
        What the reader must know: columns left out, rows that repeat.
    """

    train: pl.DataFrame
    holdout: pl.DataFrame
    synthetic: pl.DataFrame
    outcome: str
    event: float | str
    train_patient: Ints
    holdout_patient: Ints
    repeated: Estimate
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[str]:
        """Names of the number columns."""
        return [name for name, dtype in self.train.schema.items() if dtype == pl.Float64]

    @cached_property
    def space(self) -> TableEmbedding:
        """Where rows lie, fitted once, on train and holdout together.

        Members and non-members are scaled alike, so that no distance tells them apart by its scale. An attacker would know the scales
        from the literature.
        """
        return TableEmbedding.fit(pl.concat([self.train, self.holdout]))

    def events(self, frame: pl.DataFrame) -> Ints:
        """Return the outcome of one of the tables as 0 and 1 (n,)."""
        return np.asarray((frame.get_column(self.outcome) == self.event).cast(pl.Int64).to_numpy())

    def with_synthetic(self, synthetic: pl.DataFrame) -> Tables:
        """Return the same with another table, in the form of these, in the place of the synthetic one."""
        return replace(self, synthetic=synthetic)


def read_tables(train: Frame, holdout: Frame, synthetic: Frame, outcome: str, positive: Any = None, group: str | None = None) -> Tables:
    """Check the three tables against each other.

    Parameters
    ----------
    train, holdout, synthetic : frames with the same columns
    outcome : str
        A column with two values, or with more where ``positive`` is given; never missing.
    positive : value, optional
        The outcome's value that is the event; by default the greater of the two.
    group : str, optional
        Column of train and holdout that names the patients; it is not judged, and the synthetic table need not have it.

    Raises
    ------
    MissingColumns, DifferentTables, InputError
        Columns that lack or differ in kind, an outcome that is constant, missing or of foreign values, fewer than 50 rows or 20 patients.
    SharedPatients
        A patient in both train and holdout.
    TooFewEvents
        Fewer than 10 events in train or holdout.
    """
    frames = {name: to_frame(frame) for name, frame in zip(NAMES, (train, holdout, synthetic), strict=True)}
    for name, frame in frames.items():
        if outcome not in frame.columns:
            raise MissingColumns([outcome], frame.columns)
        if frame.height < _FEWEST_ROWS:
            raise InputError(f"refused: {name} has {frame.height} rows; at least {_FEWEST_ROWS} are needed to compare tables")
    patients = _patients(frames["train"], frames["holdout"], group)
    if group is not None:
        frames = {name: frame.drop(group, strict=False) for name, frame in frames.items()}
    _same_columns(frames)
    frames, notes = _same_kinds(frames)
    if outcome not in frames["train"].columns:
        raise InputError(f"outcome {outcome!r} has no value in any row")
    event = _event(frames, outcome, positive)
    frames, more = _without_names(frames, outcome)
    repeated = wilson(_matches(frames["holdout"], frames["train"]), frames["holdout"].height)
    notes += more + _repeats(repeated)
    if frames["train"].width < 2:
        raise InputError(f"there is no column besides the outcome {outcome!r} to judge")
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=3)
    return Tables(
        **frames,
        outcome=outcome,
        event=event,
        train_patient=patients[0],
        holdout_patient=patients[1],
        repeated=repeated,
        notes=tuple(notes),
    )


def _patients(train: pl.DataFrame, holdout: pl.DataFrame, group: str | None) -> tuple[Ints, Ints]:
    if group is None:
        return np.arange(train.height), np.arange(holdout.height)
    numbered = []
    for name, frame in (("train", train), ("holdout", holdout)):
        if group not in frame.columns:
            raise MissingColumns([group], frame.columns)
        column = as_text(frame.get_column(group), group)
        validate_groups(column, len(column), f"group {group!r} of {name}")
        numbered.append(column)
    shared = len(set(numbered[0].unique()) & set(numbered[1].unique()))
    if shared:
        raise SharedPatients(shared, group)
    for name, column in zip(NAMES, numbered, strict=False):
        if column.n_unique() < _FEWEST_PATIENTS:
            raise InputError(f"refused: {name} has {column.n_unique()} patients; at least {_FEWEST_PATIENTS} are needed to compare tables")
    train_patient, holdout_patient = (validate_groups(column, len(column)) for column in numbered)
    return train_patient, holdout_patient


def _same_columns(frames: dict[str, pl.DataFrame]) -> None:
    wanted = frames["train"].columns
    faults = []
    for name in NAMES[1:]:
        have = frames[name].columns
        lacks, extra = [c for c in wanted if c not in have], [c for c in have if c not in wanted]
        faults += [f"{name} lacks {lacks}, which train has"] if lacks else []
        faults += [f"{name} has {extra}, which train lacks"] if extra else []
    if faults:
        raise DifferentTables(faults)


def _same_kinds(frames: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Bring each column to Float64 or String, the same in all tables; leave out those without any value."""
    faults, empty = [], []
    columns: dict[str, list[pl.Series]] = {name: [] for name in NAMES}
    for column in frames["train"].columns:
        series = {name: frame.get_column(column) for name, frame in frames.items()}
        kinds = {name: _kind(values) for name, values in series.items()}
        found = list(dict.fromkeys(kind for kind in kinds.values() if kind != "empty"))
        if not found:
            empty.append(column)
        elif len(found) > 1:
            told = ", ".join(f"{series[name].dtype.base_type()} in {name}" for name in NAMES if kinds[name] != "empty")
            faults.append(f"{column!r} is {told}")
        else:
            for name in NAMES:
                columns[name].append(_read(series[name], column, found[0], name))
    if faults:
        raise DifferentTables(faults)
    notes = [f"columns without a value in any table: {empty}, left out"] if empty else []
    order = frames["train"].columns
    return {name: pl.DataFrame(columns[name]).select(c for c in order if c not in empty) for name in NAMES}, notes


def _kind(values: pl.Series) -> str:
    dtype = values.dtype
    if dtype == pl.Null or values.null_count() == len(values):
        return "empty"
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, pl.Date | pl.Datetime | pl.Duration):
        return f"{dtype.base_type()}"
    return "boolean" if dtype == pl.Boolean else "text"


def _read(values: pl.Series, column: str, kind: str, table: str) -> pl.Series:
    if kind in ("Date", "Datetime", "Duration"):
        if values.null_count() == len(values):
            return values.cast(pl.Null).cast(pl.Float64)
        if kind == "Duration":
            return values.dt.total_microseconds().cast(pl.Float64) / 86_400e6  # days
        return values.cast(pl.Datetime("us")).to_physical().cast(pl.Float64) / 86_400e6
    if values.null_count() == len(values):
        return pl.Series(column, [None] * len(values), dtype=pl.Float64 if kind == "number" else pl.String)
    try:
        return as_number(values, column) if kind == "number" else as_text(values, column)
    except InputError as error:
        raise InputError(f"{table}: {error}") from error


def _event(frames: dict[str, pl.DataFrame], outcome: str, positive: Any) -> float | str:
    for name, frame in frames.items():
        missing = frame.get_column(outcome).null_count()
        if missing:
            raise InputError(f"outcome {outcome!r} is missing in {missing} of {frame.height} rows of {name}: drop them, and say so")
    column = frames["train"].get_column(outcome)
    values = column.unique().sort().to_list()
    if len(values) > 2 and positive is None:
        raise InputError(f"outcome {outcome!r} has {len(values)} different values in train: name the event (positive=)")
    named = None if positive is None else _named(values, positive, outcome)
    event = validate_target(column, positive=named, max_classes=None, name=f"outcome {outcome!r} of train").event
    for name in NAMES[1:]:
        foreign = int((~frames[name].get_column(outcome).is_in(values)).sum())
        if foreign:
            raise InputError(
                f"outcome {outcome!r}: {foreign} rows of {name} have a value that train has nowhere: make them the same two values"
            )
    for name in NAMES[:2]:
        there = (frames[name].get_column(outcome) == event).sum()
        if there < FEWEST_EVENTS:
            raise TooFewEvents(int(there), FEWEST_EVENTS, f"judge a synthetic table ({name})")
        if frames[name].height - there < FEWEST_EVENTS:
            raise InputError(f"refused: {frames[name].height - there} rows of {name} are free of the event. Is the right value the event?")
    return event  # type: ignore[no-any-return]


def _named(values: list[Any], positive: Any, outcome: str) -> Any:
    wanted = str(positive).lower() if isinstance(positive, bool | np.bool_) else str(positive)
    for value in values:
        if str(value) == wanted:
            return value
        if isinstance(value, float):
            number = {"true": 1.0, "false": 0.0}.get(wanted.lower())
            if number is None and wanted.replace(".", "", 1).removeprefix("-").isdigit():
                number = float(wanted)
            if value == number:
                return value
    raise InputError(f"no row of train has the value of {outcome!r} that is named as the event (positive={positive!r})")


def _without_names(frames: dict[str, pl.DataFrame], outcome: str) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Leave out text that differs in every real row: names of rows, which say nothing and would match nothing."""
    real = pl.concat([frames["train"], frames["holdout"]])
    text = [c for c, dtype in real.schema.items() if dtype == pl.String and c != outcome]
    named = [c for c in text if real.get_column(c).null_count() == 0 and real.get_column(c).n_unique() == real.height]
    if not named:
        return frames, []
    told = f"columns of text that differ in every real row: {named}, left out. If they name patients, no synthetic table should have them"
    return {name: frame.drop(named) for name, frame in frames.items()}, [told]


def _matches(rows: pl.DataFrame, others: pl.DataFrame) -> int:
    """Count the rows that are among the others, cell by cell."""
    return rows.join(others.unique(), on=rows.columns, how="semi", nulls_equal=True).height


def share_in(rows: pl.DataFrame, others: pl.DataFrame) -> Estimate:
    """Share of the rows that are among the others, cell by cell, with Wilson's interval."""
    return wilson(_matches(rows, others), rows.height)


def _repeats(repeated: Estimate) -> list[str]:
    if repeated.value == 0:
        return []
    return [
        f"{repeated.value:.1%} of the holdout's rows are identical to a row of train. Narrow tables repeat by nature; in a wide one it "
        "means that the split leaks, and then every privacy figure here is too kind."
    ]


def split_rows(patient: Ints, parts: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of each part of a random split that keeps a patient in one part."""
    side = np.random.default_rng(seed).permutation(int(patient.max()) + 1) % parts
    for part in range(parts):
        yield np.flatnonzero(side[patient] == part)
