"""Time-stamped events of subjects, as the Medical Event Data Standard (MEDS) has them: read lazily, collected by blocks of subjects.

An event has ``subject_id``, ``time`` (null for a static fact), ``code``, and maybe ``numeric_value``, ``text_value`` and ``unit``. The
order of rows and files does not matter, nor does the way in which subjects are distributed over files.

References
----------
MEDS 0.4, data schema and code metadata (Medical-Event-Data-Standard/meds).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from nearward.tabular.data.conversion import dtype_name
from nearward.tabular.data.table_io import read_table
from nearward.tabular.data.text_values import is_text
from nearward.tabular.errors import InputError, MissingColumns, did_you_mean
from nearward.tabular.parallel import require_own_process

SUBJECT, TIME, CODE, VALUE, TEXT, UNIT = "subject_id", "time", "code", "numeric_value", "text_value", "unit"
BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"  # codes of the standard
PARENTS = "parent_codes"  # of the metadata of codes
_REQUIRED = (SUBJECT, TIME, CODE)
_OPTIONAL = (VALUE, TEXT, UNIT)
_CODES: dict[str, pl.DataType | type[pl.DataType]] = {
    CODE: pl.String,
    "description": pl.String,
    PARENTS: pl.List(pl.String),
    UNIT: pl.String,
}
_BLOCK = 4_000_000  # events, each counted once for every label of its subject: some hundred megabytes
_BLOCK_LABELS = 16_384
_PART, _EVENTS, _LABELS, _NUMBER = "(part)", "(events)", "(labels)", "(block)"
_LAST_MOMENT = pl.duration(days=1) - pl.duration(microseconds=1)

Source = str | Path | pl.DataFrame | pl.LazyFrame


@dataclass(frozen=True)
class Events:
    """Events of subjects; nothing is read before it is needed.

    Parameters
    ----------
    parts : tuple of pl.LazyFrame
        One for each file, with the columns of ``frame``.
    codes : pl.DataFrame
        Metadata of codes: ``code``, ``description``, ``parent_codes`` (list), ``unit``; no rows where there is none.
    splits : pl.DataFrame or None
        ``subject_id``, ``split``, where the folder has subject splits.
    zoned : bool
        Whether the times had a time zone; they are in UTC then.
    names : tuple of str
        Names of the parts for messages.
    """

    parts: tuple[pl.LazyFrame, ...]
    codes: pl.DataFrame
    splits: pl.DataFrame | None = None
    zoned: bool = False
    names: tuple[str, ...] = ("the events",)

    @property
    def frame(self) -> pl.LazyFrame:
        """All events: ``subject_id`` (Int64 or String), ``time`` (Datetime in microseconds, UTC where zoned), ``code`` (String),
        ``numeric_value`` (Float64), and ``text_value`` and ``unit`` (String) where the source has them.
        """
        return pl.concat(self.parts, how="diagonal")

    def of_subjects(self, subjects: pl.Series) -> pl.DataFrame:
        """Return all events of some subjects, ordered by subject, time (static facts first), code and value.

        Raises
        ------
        InputError
            A file is damaged.
        """
        distinct = subjects.unique().drop_nulls()
        frames = [self._collect(part, _belongs(distinct)) for part in range(len(self.parts))] if len(distinct) else []
        events = pl.concat(frames, how="diagonal") if frames else self.frame.head(0).collect()
        return events.sort(SUBJECT, TIME, CODE, VALUE)

    def blocks(self, subjects: pl.Series, max_events: int = _BLOCK, max_labels: int = _BLOCK_LABELS) -> Iterator[pl.DataFrame]:
        """Yield the events of some subjects by blocks; a subject's events are in one block, and subjects without events in none.

        Parameters
        ----------
        subjects : (q,), repeated where a subject has several labels
        max_events : int
            Events of a block, each counted once for every label of its subject; a single subject may have more.
        max_labels : int
            Labels of a block.
        """
        labels = subjects.drop_nulls().value_counts(name=_LABELS).rename({subjects.name: SUBJECT})
        counts = [self._count(part, labels.get_column(SUBJECT)) for part in range(len(self.parts))]
        index = pl.concat(counts).with_columns(pl.col(_PART).min().over(SUBJECT).alias(_NUMBER))
        totals = index.group_by(_NUMBER, SUBJECT).agg(pl.col(_EVENTS).sum()).join(labels, on=SUBJECT).sort(_NUMBER, SUBJECT)
        cost = pl.max_horizontal(
            (pl.col(_EVENTS) * pl.col(_LABELS)).cum_sum() // max_events, pl.col(_LABELS).cast(pl.UInt64).cum_sum() // max_labels
        )
        totals = totals.with_columns(pl.col(_EVENTS).cast(pl.UInt64)).with_columns(cost.alias(_NUMBER))
        for (_,), block in totals.group_by(_NUMBER, maintain_order=True):
            members = block.get_column(SUBJECT)
            parts = index.filter(pl.col(SUBJECT).is_in(members.implode())).get_column(_PART).unique().sort()
            yield pl.concat([self._collect(part, _belongs(members)) for part in parts], how="diagonal")

    def _count(self, part: int, subjects: pl.Series) -> pl.DataFrame:
        """Return the number of events in a part for each of the subjects that it has."""
        counts = self._read(part, self.parts[part].select(SUBJECT).group_by(SUBJECT).agg(pl.len().alias(_EVENTS)))
        known = counts.join(subjects.to_frame(), on=SUBJECT, how="semi")
        return known.with_columns(pl.lit(part, dtype=pl.UInt32).alias(_PART))

    def _collect(self, part: int, condition: pl.Expr) -> pl.DataFrame:
        return self._read(part, self.parts[part].filter(condition))

    def _read(self, part: int, query: pl.LazyFrame) -> pl.DataFrame:
        try:
            return query.collect(engine="streaming")
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise _damaged(self.names[part], error) from error


def read_events(source: Source | Events, columns: Mapping[str, str] | None = None) -> Events:
    """Read events: a MEDS folder, a file, a folder of Parquet files, or a frame.

    Parameters
    ----------
    source : path, pl.DataFrame, pl.LazyFrame or Events
        A MEDS folder has ``data/**/*.parquet``, and maybe ``metadata/codes.parquet`` and ``metadata/subject_splits.parquet``.
    columns : mapping, optional
        The source's names, where they are not those of MEDS: ``{"subject_id": "stay", "numeric_value": "value"}``. ``unit`` names a
        column with the unit of each number.

    Times with a zone become UTC. An event that has a date without a time is known at the end of that day. Events without a subject are
    left out.

    Raises
    ------
    InputError, MissingColumns
        No events there, missing columns, dtypes that have no meaning here, zones in some files only.

    Examples
    --------
    >>> from datetime import datetime
    >>> labs = pl.DataFrame({"stay": [1], "time": [datetime(2020, 1, 1)], "code": ["Lactate"], "value": [2.0]})
    >>> read_events(labs, columns={"subject_id": "stay", "numeric_value": "value"}).frame.collect().columns
    ['subject_id', 'time', 'code', 'numeric_value']
    """
    require_own_process()
    if isinstance(source, Events):
        return source
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return _from_parts([source.lazy()], ["the events"], columns, _no_codes(), None)
    folder = Path(source)
    if not folder.is_dir():
        part = (
            pl.scan_parquet(folder, glob=False) if folder.suffix.lower() == ".parquet" and folder.is_file() else read_table(folder).lazy()
        )
        return _from_parts([part], [str(folder)], columns, _no_codes(), None)
    data = folder / "data" if (folder / "data").is_dir() else folder
    files = sorted(path for path in data.rglob("*.parquet") if path.is_file() and not _is_hidden(path.relative_to(data)))
    inner = [path for path in sorted(folder.iterdir()) if (path / "data").is_dir() and (path / "metadata").is_dir()]
    if data == folder and inner:
        raise InputError(f"{folder} is no MEDS folder, but {inner[0]} is: give that one")
    if not files:
        raise InputError(
            f"{data} has no Parquet files: a MEDS folder has its events in data/**/*.parquet. Exports of OMOP, FHIR and MIMIC are "
            "converted first (docs/guide/from-events-to-a-risk.md)"
        )
    root = folder if data != folder else folder.parent if folder.name == "data" else folder
    parts = [pl.scan_parquet(path, glob=False, hive_partitioning=False) for path in files]
    return _from_parts(parts, [str(path) for path in files], columns, _read_codes(root), _read_splits(root))


def code_matches(codes: Sequence[str]) -> pl.Expr:
    """Return whether an event has one of some codes: exactly, or by what stands before ``//``; ``*`` stands for any text."""
    patterns = [re.escape(code).replace(r"\*", ".*") for code in codes]
    return pl.any_horizontal(pl.col(CODE).str.contains(f"^(?s:{pattern})(//.*)?$") for pattern in patterns)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts) or path.parts[0] == "metadata"


def _from_parts(
    parts: list[pl.LazyFrame], names: list[str], columns: Mapping[str, str] | None, codes: pl.DataFrame, splits: pl.DataFrame | None
) -> Events:
    """Bring all parts to the same names and dtypes."""
    renamed = dict(columns or {})
    unknown = sorted(set(renamed) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        raise InputError(f"columns may name {[*_REQUIRED, *_OPTIONAL]}, got {unknown}. {did_you_mean(unknown, [*_REQUIRED, *_OPTIONAL])}")
    schemas = []
    for part, name in zip(parts, names, strict=True):
        try:
            schemas.append(part.collect_schema())
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise _damaged(name, error) from error
    subject, time = (renamed.get(name, name) for name in (SUBJECT, TIME))
    filled = [i for i, schema in enumerate(schemas) if schema.get(subject) != pl.Null] or [0]  # an empty file may have no dtypes
    standard = [parts[i].select(_select(schemas[i], renamed, names[i])).drop_nulls(SUBJECT) for i in filled]
    times = [schemas[i][time] for i in filled]
    zoned = {getattr(dtype, "time_zone", None) is not None for dtype in times if dtype != pl.Null}
    if len(zoned) > 1:
        raise InputError("some files have times with a zone and others without: give all of them a zone, or none")
    if len({schemas[i][subject].is_integer() for i in filled}) > 1:
        raise InputError("subject_id is a whole number in some files and text in others: use one dtype")
    return Events(tuple(standard), codes, splits, True in zoned, tuple(names[i] for i in filled))


def _select(schema: pl.Schema, renamed: Mapping[str, str], source: str) -> list[pl.Expr]:
    """Return the expressions that bring a part to the standard's names and dtypes."""
    name_of = {name: renamed.get(name, name) for name in (*_REQUIRED, *_OPTIONAL)}
    missing = [name_of[name] for name in _REQUIRED if name_of[name] not in schema]
    if name_of[VALUE] not in schema and any(dtype.is_float() for dtype in schema.dtypes()):  # likely the numbers, by another name
        missing.append(name_of[VALUE])
    missing += [theirs for theirs in renamed.values() if theirs not in schema and theirs not in missing]
    if missing:
        absent = MissingColumns(missing, list(schema))
        example = "columns={'numeric_value': 'value'} (--columns numeric_value=value) names a column of another name"
        raise InputError(f"{source}: {absent} The columns are {list(schema)}; {example}") from absent
    expressions = [_subject(schema[name_of[SUBJECT]], name_of[SUBJECT]), as_time(schema[name_of[TIME]], name_of[TIME], end_of_day=True)]
    for name, dtype in ((CODE, pl.String), (VALUE, pl.Float64), (TEXT, pl.String), (UNIT, pl.String)):
        if name_of[name] in schema:
            given = schema[name_of[name]]
            fits = given == pl.Null or (given.is_numeric() if dtype == pl.Float64 else is_text(given) or given.is_integer())
            if not fits:
                raise InputError(f"{source}: column {name_of[name]!r} must be {dtype}, got {dtype_name(given)}")
            expressions.append(pl.col(name_of[name]).cast(dtype).alias(name))
        elif name == VALUE:
            expressions.append(pl.lit(None, dtype=dtype).alias(name))
    return [expressions[0], expressions[1].alias(TIME), *expressions[2:]]


def _subject(dtype: pl.DataType, name: str) -> pl.Expr:
    if not (dtype.is_integer() or is_text(dtype) or dtype == pl.Null):
        raise InputError(f"column {name!r} must be whole numbers or text, got {dtype_name(dtype)}")
    return pl.col(name).cast(pl.String if is_text(dtype) else pl.Int64).alias(SUBJECT)


def as_time(dtype: pl.DataType, name: str, *, end_of_day: bool = False) -> pl.Expr:
    """Return an expression of a column's times as Datetime in microseconds without a zone: UTC where they had one.

    A date is its midnight, or with ``end_of_day`` its last microsecond.

    Raises
    ------
    InputError
        The dtype is neither a date nor a date-time.
    """
    time = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        zoned = time.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone is not None else time
        return zoned.cast(pl.Datetime("us"))
    if dtype == pl.Date:
        midnight = time.cast(pl.Datetime("us"))
        return midnight + _LAST_MOMENT if end_of_day else midnight
    if dtype == pl.Null:
        return time.cast(pl.Datetime("us"))
    raise InputError(
        f"column {name!r} must be dates or date-times, got {dtype_name(dtype)}: cast it first, for instance .str.to_datetime()"
    )


def _belongs(subjects: pl.Series) -> pl.Expr:
    """Select subjects; the range lets Polars skip row groups of sorted files."""
    return pl.col(SUBJECT).is_between(pl.lit(subjects.min()), pl.lit(subjects.max())) & pl.col(SUBJECT).is_in(subjects.implode())


def _no_codes() -> pl.DataFrame:
    return pl.DataFrame(schema=_CODES)


def _read_codes(root: Path) -> pl.DataFrame:
    """Read the metadata of codes; a column that is absent there is null."""
    path = root / "metadata" / "codes.parquet"
    if not path.is_file():
        return _no_codes()
    table = read_table(path)
    if CODE not in table.columns:
        raise InputError(f"{path} has no column 'code'")
    given = [pl.col(name).cast(dtype) if name in table.columns else pl.lit(None, dtype=dtype).alias(name) for name, dtype in _CODES.items()]
    return table.select(given).drop_nulls(CODE).unique(CODE, keep="first", maintain_order=True)


def _read_splits(root: Path) -> pl.DataFrame | None:
    path = root / "metadata" / "subject_splits.parquet"
    return read_table(path) if path.is_file() else None


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(f"{name} cannot be read as events ({type(error).__name__}): the file is cut off or damaged; write it again")
