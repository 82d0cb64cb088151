"""The three tables of a synthesizer's evaluation, validated against each other and converted to numbers and text.

*train*: rows that the synthesizer was fitted on; *holdout*: real rows that it never read; *synthetic*: its sample.

Shapes: n rows, d columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.tables.neighbors import TableEmbedding
from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import named_values, validate_groups, validate_target
from nearward.tabular.errors import DataWarning, DifferentTables, InputError, SharedPatients, TooFewEvents, list_names, require_columns
from nearward.tabular.typing import Ints

Frame = pl.DataFrame | pl.LazyFrame

NAMES = ("train", "holdout", "synthetic")
MIN_EVENTS = 10
_MIN_ROWS = 50  # below it intervals span nearly the whole range
_MIN_PATIENTS = 20
_FEW = 10  # smaller counts of rows are not shown
_MICROSECONDS_A_DAY = 86_400e6


@dataclass(frozen=True)
class Tables:
    """Three tables with the same columns: numbers as Float64, everything else as String, null where missing.

    Parameters
    ----------
    train, holdout, synthetic : pl.DataFrame
    outcome : str
    event : float or str
        The outcome's value, as the columns contain it, that is the event.
    train_patient_ids, holdout_patient_ids : (n,), numbers from 0
    repeated : Estimate
        Share of the holdout's rows that are identical to a row of train.
    notes : tuple of str
        Warnings: columns left out, rows that repeat.
    """

    train: pl.DataFrame
    holdout: pl.DataFrame
    synthetic: pl.DataFrame
    outcome: str
    event: float | str
    train_patient_ids: Ints
    holdout_patient_ids: Ints
    repeated: Estimate
    notes: tuple[str, ...] = ()

    @cached_property
    def embedding(self) -> TableEmbedding:
        """Embedding of rows, fitted once, on train and holdout together.

        Members and non-members are scaled alike, so that no distance separates them by its scale. An attacker would know the scales
        from the literature.
        """
        return TableEmbedding.fit(pl.concat([self.train, self.holdout]))

    def events(self, frame: pl.DataFrame) -> Ints:
        """Return the outcome of one of the tables as 0 and 1 (n,)."""
        return np.asarray((frame.get_column(self.outcome) == self.event).cast(pl.Int64).to_numpy())

    def with_synthetic(self, synthetic: pl.DataFrame) -> Tables:
        """Return the same with another synthetic table, whose columns are converted already."""
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
        Column of patient identifiers of train and holdout; it is not evaluated, and the synthetic table need not have it.

    Raises
    ------
    MissingColumns, DifferentTables, InputError
        Columns that lack or differ in kind, an outcome that is constant, missing or of unknown values, fewer than 50 rows or 20 patients.
    SharedPatients
        A patient in both train and holdout.
    TooFewEvents
        Fewer than 10 events in train or holdout.
    """
    frames = {name: to_frame(frame) for name, frame in zip(NAMES, (train, holdout, synthetic), strict=True)}
    for name, frame in frames.items():
        require_columns([outcome], frame.columns)
        if frame.height < _MIN_ROWS:
            raise InputError(f"refused: {name} has {frame.height} rows; at least {_MIN_ROWS} are needed to compare tables")
    train_patient_ids, holdout_patient_ids = _read_patient_ids(frames["train"], frames["holdout"], group)
    if group is not None:
        frames = {name: frame.drop(group, strict=False) for name, frame in frames.items()}
    _check_same_columns(frames)
    frames, notes = _convert_columns(frames)
    if outcome not in frames["train"].columns:
        raise InputError(f"outcome {outcome!r} has no value in any row")
    event = _read_event(frames, outcome, positive)
    frames, more_notes = _drop_row_names(frames, outcome)
    repeated = matching_share(frames["holdout"], frames["train"])
    notes += more_notes + _repeat_notes(repeated)
    if frames["train"].width < 2:
        raise InputError(f"there is no column besides the outcome {outcome!r} to judge")
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=3)
    return Tables(
        **frames,
        outcome=outcome,
        event=event,
        train_patient_ids=train_patient_ids,
        holdout_patient_ids=holdout_patient_ids,
        repeated=repeated,
        notes=tuple(notes),
    )


def _read_patient_ids(train: pl.DataFrame, holdout: pl.DataFrame, group: str | None) -> tuple[Ints, Ints]:
    if group is None:
        return np.arange(train.height), np.arange(holdout.height)
    columns, patient_ids = [], []
    for name, frame in (("train", train), ("holdout", holdout)):
        require_columns([group], frame.columns)
        columns.append(as_text(frame.get_column(group), group))
        patient_ids.append(validate_groups(columns[-1], frame.height, f"group {group!r} of {name}"))
    shared = len(set(columns[0].unique()) & set(columns[1].unique()))
    if shared:
        raise SharedPatients(shared, group)
    for name, column in zip(NAMES, columns, strict=False):
        if column.n_unique() < _MIN_PATIENTS:
            raise InputError(f"refused: {name} has {column.n_unique()} patients; at least {_MIN_PATIENTS} are needed to compare tables")
    return patient_ids[0], patient_ids[1]


def _check_same_columns(frames: dict[str, pl.DataFrame]) -> None:
    expected = frames["train"].columns
    faults = []
    for name in NAMES[1:]:
        columns = frames[name].columns
        missing, extra = [c for c in expected if c not in columns], [c for c in columns if c not in expected]
        faults += [f"{name} lacks {list_names(missing)}, which train has"] if missing else []
        faults += [f"{name} has {list_names(extra)}, which train lacks"] if extra else []
    if faults:
        raise DifferentTables(faults)


def _convert_columns(frames: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Convert each column to Float64 or String, the same in all tables; drop those without any value."""
    faults, empty = [], []
    converted: dict[str, list[pl.Series]] = {name: [] for name in NAMES}
    for column in frames["train"].columns:
        series = {name: frame.get_column(column) for name, frame in frames.items()}
        kind_in = {name: _kind(values) for name, values in series.items()}
        kinds = list(dict.fromkeys(kind for kind in kind_in.values() if kind != "empty"))
        if not kinds:
            empty.append(column)
        elif len(kinds) > 1:
            dtypes = ", ".join(f"{series[name].dtype.base_type()} in {name}" for name in NAMES if kind_in[name] != "empty")
            faults.append(f"{column!r} is {dtypes}")
        else:
            for name in NAMES:
                converted[name].append(_convert(series[name], column, kinds[0], name))
    if faults:
        raise DifferentTables(faults)
    notes = [f"columns without a value in any table: {empty}, left out"] if empty else []
    return {name: pl.DataFrame(columns) for name, columns in converted.items()}, notes


def _kind(values: pl.Series) -> str:
    dtype = values.dtype
    if dtype == pl.Null or values.null_count() == len(values):
        return "empty"
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, pl.Date | pl.Datetime | pl.Duration):
        return f"{dtype.base_type()}"
    return "boolean" if dtype == pl.Boolean else "text"


def _convert(values: pl.Series, column: str, kind: str, table: str) -> pl.Series:
    """Convert to numbers, dates and durations as days, or to text."""
    if values.null_count() == len(values):
        return pl.Series(column, [None] * len(values), dtype=pl.String if kind in ("text", "boolean") else pl.Float64)
    if kind == "Duration":
        return values.dt.total_microseconds().cast(pl.Float64) / _MICROSECONDS_A_DAY
    if kind in ("Date", "Datetime"):
        return values.cast(pl.Datetime("us")).to_physical().cast(pl.Float64) / _MICROSECONDS_A_DAY
    try:
        return as_number(values, column) if kind == "number" else as_text(values, column)
    except InputError as error:
        raise InputError(f"{table}: {error}") from error


def _read_event(frames: dict[str, pl.DataFrame], outcome: str, positive: Any) -> float | str:
    for name, frame in frames.items():
        missing = frame.get_column(outcome).null_count()
        if missing:
            raise InputError(f"outcome {outcome!r} is missing in {missing} of {frame.height} rows of {name}: drop these rows")
    column = frames["train"].get_column(outcome)
    values = column.unique().sort().to_list()
    if len(values) > 2 and positive is None:
        raise InputError(f"outcome {outcome!r} has {len(values)} different values in train: name the event (positive=)")
    if len(named_values(positive)) > 1:
        raise InputError(f"positive must be one value of outcome {outcome!r}, got {len(named_values(positive))} values: join them first")
    named = None if positive is None else _match_value(values, positive, outcome)
    event = validate_target(column, positive=named, max_classes=None, name=f"outcome {outcome!r} of train").event
    for name in NAMES[1:]:
        unknown = int((~frames[name].get_column(outcome).is_in(values)).sum())
        if unknown:
            raise InputError(
                f"outcome {outcome!r}: {unknown} rows of {name} have a value that no row of train has: use the same two values"
            )
    for name in NAMES[:2]:
        events = int((frames[name].get_column(outcome) == event).sum())
        if events < MIN_EVENTS:
            raise TooFewEvents(events, MIN_EVENTS, f"judge a synthetic table ({name})")
        if frames[name].height - events < MIN_EVENTS:
            raise InputError(f"refused: {frames[name].height - events} rows of {name} are free of the event. Is the right value the event?")
    return event  # type: ignore[no-any-return]


def _match_value(values: list[Any], positive: Any, outcome: str) -> Any:
    """Return the converted value that a value of the caller's became."""
    text = str(positive).lower() if isinstance(positive, bool | np.bool_) else str(positive)
    for value in values:
        if str(value) == text:
            return value
        if isinstance(value, float):
            number = {"true": 1.0, "false": 0.0}.get(text.lower())
            if number is None and text.replace(".", "", 1).removeprefix("-").isdigit():
                number = float(text)
            if value == number:
                return value
    raise InputError(f"no row of train has the value of {outcome!r} that is named as the event (positive={positive!r})")


def _drop_row_names(frames: dict[str, pl.DataFrame], outcome: str) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Drop text that differs in every real row: names of rows, which carry no information and match no other row."""
    real = pl.concat([frames["train"], frames["holdout"]])
    text = [c for c, dtype in real.schema.items() if dtype == pl.String and c != outcome]
    row_names = [c for c in text if real.get_column(c).null_count() == 0 and real.get_column(c).n_unique() == real.height]
    if not row_names:
        return frames, []
    note = (
        f"columns of text that differ in every real row: {row_names}, left out. If they name patients, no synthetic table should have them"
    )
    return {name: frame.drop(row_names) for name, frame in frames.items()}, [note]


def _repeat_notes(repeated: Estimate) -> list[str]:
    if repeated.value == 0:
        return []
    few = repeated.value * repeated.n < _FEW  # the note travels with the table
    share = f"fewer than {_FEW}" if few else f"{repeated.value:.1%}"
    return [
        f"{share} of the holdout's rows are identical to a row of train. Narrow tables repeat by nature; in a wide one it "
        "means that the split leaks, and then every privacy figure here is too kind."
    ]


def matching_share(rows: pl.DataFrame, others: pl.DataFrame) -> Estimate:
    """Share of the rows that are identical to one of the others, with Wilson's interval."""
    matches = rows.join(others.unique(), on=rows.columns, how="semi", nulls_equal=True).height
    return wilson(matches, rows.height)


def split_by_patient(patient_ids: Ints, parts: int, seed: int) -> Iterator[Ints]:
    """Yield the row numbers of each part of a random split that keeps all rows of a patient in one part."""
    part_of_patient = np.random.default_rng(seed).permutation(int(patient_ids.max()) + 1) % parts
    for part in range(parts):
        yield np.flatnonzero(part_of_patient[patient_ids] == part)
