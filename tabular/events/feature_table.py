"""One block of labels and events as a table of features: the time, numbers, occurrences, texts, and lists of rare codes.

Shapes: b labels of the block, d features, g groups (a label and a code).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from nearward.tabular.data.code_lists import CODE_LIST
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.events.aggregates import SortedValues
from nearward.tabular.events.code_columns import CodeColumns, Target, kind_of_code, targets
from nearward.tabular.events.code_vocabulary import HOUR, SINCE_FIRST, TIME_COLUMNS, WEEKDAY, YEARS, Vocabulary
from nearward.tabular.events.event_counts import CODE_COUNTS, EventCounts
from nearward.tabular.events.label_table import PREDICTION_TIME
from nearward.tabular.events.missing_values import UNKNOWN
from nearward.tabular.events.reading import BIRTH, CODE, SUBJECT, TEXT, UNIT, VALUE
from nearward.tabular.events.text_results import last_texts
from nearward.tabular.events.windowed_events import AGE, ROW, check_spans, earlier_events, same_unit
from nearward.tabular.typing import Floats

_RARE = "rare codes"
_HOURS_A_YEAR = 24 * 365.25
_NUMBER, _LIST, _POSITION, _KNOWN, _EXPECTED = "(number)", "(list)", "(position)", "(known)", "(expected unit)"


@dataclass(frozen=True)
class FeatureTable:
    """The columns of features, and how they are computed.

    Parameters
    ----------
    vocabulary : Vocabulary
    spans : tuple of str or None, the shortest first
    include : bool
        Whether events at the very prediction time are known.
    """

    vocabulary: Vocabulary
    spans: tuple[str | None, ...]
    include: bool

    @cached_property
    def schema(self) -> Schema:
        """Kind, unit and block of each column (d)."""
        time = [Column(name, unit=TIME_COLUMNS[name], block="time") for name in self.vocabulary.time_columns]
        codes = [target.column for target in self._targets]
        lists = [Column(name, kind="list", block=kind or "occurrences") for kind, name in self._lists.items()]
        texts = [one.text_column for one in self._texts.values() if one.text_column is not None]
        return Schema((*time, *codes, *texts, *lists))

    @cached_property
    def _targets(self) -> list[Target]:
        return targets(self.vocabulary.columns, self.spans)

    @cached_property
    def _texts(self) -> dict[str, CodeColumns]:
        """Codes with a column of texts, by its name."""
        return {one.text_column.name: one for one in self.vocabulary.columns if one.text_column is not None}

    @cached_property
    def _lists(self) -> dict[str | None, str]:
        """Name of the list of each kind of code."""
        kinds = sorted({kind_of_code(code) for code in self.vocabulary.listed}, key=lambda kind: kind or "")
        return {kind: _RARE.capitalize() if kind is None else f"{kind}: {_RARE}" for kind in kinds}

    @cached_property
    def _sources(self) -> pl.DataFrame:
        """Codes of events: the column of their numbers with its unit, and their list."""
        vocabulary = self.vocabulary
        lists = list(self._lists)
        rows: dict[str, tuple[int | None, str | None, int | None]] = dict.fromkeys(vocabulary.members, (None, None, None))
        rows |= {code: (None, None, lists.index(kind_of_code(code))) for code in vocabulary.listed}
        for position, one in enumerate(vocabulary.columns):
            rows[one.code] = (position if one.kind in ("number", "fact") else None, one.checked_unit, None)
        schema = {CODE: pl.String, _NUMBER: pl.Int32, _EXPECTED: pl.String, _LIST: pl.Int32}
        return pl.DataFrame([(code, *row) for code, row in rows.items()], schema, orient="row").with_columns(pl.lit(True).alias(_KNOWN))

    @cached_property
    def _occurrences(self) -> pl.DataFrame:
        """Codes of events whose occurrences count, with the position of each column's code."""
        own = [(one.code, i) for i, one in enumerate(self.vocabulary.columns) if one.kind in ("code", "flag")]
        rolled = zip(self.vocabulary.members, self.vocabulary.parents, strict=True)
        return pl.DataFrame([*own, *rolled], {CODE: pl.String, _POSITION: pl.Int32}, orient="row")

    def compute(self, labels: pl.DataFrame, events: pl.DataFrame) -> tuple[pl.DataFrame, EventCounts]:
        """Return the features of some labels, and what was counted.

        Parameters
        ----------
        labels : pl.DataFrame, b rows
            Subject and prediction time.
        events : pl.DataFrame
            All events of these subjects.
        """
        labels = labels.select(SUBJECT, PREDICTION_TIME).with_row_index(ROW)
        more = (UNIT, UNKNOWN, TEXT) if self._texts else (UNIT, UNKNOWN)
        pairs = earlier_events(labels, events, include=self.include, more=more).join(self._sources, on=CODE, how="left")
        numeric, finite = pl.col(_NUMBER).is_not_null() & pl.col(VALUE).is_not_null(), pl.col(VALUE).is_finite()
        unit_fits = same_unit(pl.col(UNIT), pl.col(_EXPECTED)) if UNIT in pairs.columns else pl.lit(True)
        numbers = pairs.filter(numeric & finite & unit_fits).select(ROW, pl.col(_NUMBER).alias(_POSITION), AGE, VALUE)
        occurrences = pairs.join(self._occurrences, on=CODE).select(ROW, _POSITION, AGE, pl.lit(0.0).alias(VALUE))
        values = _sort(pl.concat([numbers, occurrences]))
        if TEXT not in pairs.columns:
            pairs = pairs.with_columns(pl.lit(None, dtype=pl.String).alias(TEXT))
        texts, unknown_texts = last_texts(labels, pairs, self._texts)
        counts = EventCounts(
            labels=labels.height,
            duplicate_labels=labels.height - labels.select(SUBJECT, PREDICTION_TIME).n_unique(),
            labels_without_events=labels.height - pairs.get_column(ROW).n_unique(),
            events=pairs.height,
            null_codes=pairs.get_column(CODE).null_count(),
            invalid_values=_count(pairs, ~finite),
            missing_values=int(pairs.get_column(UNKNOWN).sum()) if UNKNOWN in pairs.columns else 0,
            other_units=_count(pairs, numeric & finite & ~unit_fits),
            unknown_codes=_count(pairs, pl.col(_KNOWN).is_null() & (pl.col(CODE) != BIRTH)),
            unknown_texts=unknown_texts,
            codes=self._count_codes(values),
        )
        matrix = self._fill(values, labels.height)
        columns = [pl.Series(target.column.name, row, nan_to_null=True) for target, row in zip(self._targets, matrix, strict=True)]
        return pl.DataFrame([*self._time(labels, pairs), *columns, *texts, *self._list(labels, pairs)]), counts

    def _fill(self, values: SortedValues, n_labels: int) -> Floats:
        """Return all columns of codes (columns, b), NaN where there is no value, counts 0."""
        hours = list(check_spans(self.spans).values())
        codes = self.vocabulary.columns
        centre, spread = (np.array([getattr(one, name) for one in codes]) for name in ("centre", "spread"))
        counted = np.array([target.statistic in ("count", "seen") for target in self._targets], dtype=bool)
        matrix = np.where(counted, 0.0, np.nan)[:, None].repeat(n_labels, axis=1)
        group_row, group_code = values.row[values.begin], values.code[values.begin]
        row_of = {(target.statistic, target.span, target.code): i for i, target in enumerate(self._targets)}

        def put(statistic: str, span: int | None, result: Floats) -> None:
            target = np.array([row_of.get((statistic, span, code), -1) for code in range(len(codes))], dtype=np.int64)[group_code]
            matrix[target[target >= 0], group_row[target >= 0]] = result[target >= 0]

        if len(values.row):
            put("last", None, values.last())
            put("from usual", None, values.from_usual(centre, spread))
            put("hours since", None, values.since())
            put("seen", None, np.ones(len(values.begin)))
            for span, length in enumerate(hours):
                for statistic, result in values.window(length).items():
                    put(statistic, span, result)
        return matrix

    def _time(self, labels: pl.DataFrame, pairs: pl.DataFrame) -> list[pl.Series]:
        """Return the columns of the time of each label."""
        birth = pl.when(pl.col(CODE) == BIRTH).then(pl.col(AGE))
        first = pl.when(pl.col(CODE).is_null() | (pl.col(CODE) != BIRTH)).then(pl.col(AGE))
        timed = pairs.filter(pl.col(AGE).is_finite()).group_by(ROW).agg(birth.max().alias(YEARS), first.max().alias(SINCE_FIRST))
        ages = labels.join(timed, on=ROW, how="left", maintain_order="left")
        time = labels.get_column(PREDICTION_TIME)
        columns = {  # divided by NumPy, as the ages
            HOUR: time.dt.hour().cast(pl.Float64).to_numpy() + time.dt.minute().cast(pl.Float64).to_numpy() / 60,
            WEEKDAY: time.dt.weekday().cast(pl.Float64).to_numpy(),
            SINCE_FIRST: ages.get_column(SINCE_FIRST).to_numpy(),
            YEARS: ages.get_column(YEARS).to_numpy() / _HOURS_A_YEAR,
        }
        return [pl.Series(name, columns[name], nan_to_null=True) for name in self.vocabulary.time_columns]

    def _list(self, labels: pl.DataFrame, pairs: pl.DataFrame) -> list[pl.Series]:
        """Return the lists of rare codes, in the order of their text; empty where there are none."""
        rare = pairs.filter(pl.col(_LIST).is_not_null()).select(ROW, _LIST, CODE).unique()
        columns = []
        for position, name in enumerate(self._lists.values()):
            lists = rare.filter(pl.col(_LIST) == position).group_by(ROW).agg(pl.col(CODE).sort().alias(name))
            joined = labels.select(ROW).join(lists, on=ROW, how="left", maintain_order="left")
            columns.append(joined.select(pl.col(name).fill_null(pl.lit([], dtype=CODE_LIST)).cast(CODE_LIST)).to_series())
        return columns

    def _count_codes(self, values: SortedValues) -> pl.DataFrame:
        """Count labels, events and numbers of each code with columns of its own."""
        n = len(self.vocabulary.columns)
        present = values.value != 0
        logarithm = np.log10(np.abs(values.value[present]))
        data = {
            CODE: [one.code for one in self.vocabulary.columns],
            "labels": np.bincount(values.code[values.begin], minlength=n),
            "events": np.bincount(values.code, minlength=n),
            "values": np.bincount(values.code[present], minlength=n),
            "log10": np.bincount(values.code[present], weights=logarithm, minlength=n),
        }
        return pl.DataFrame(data, schema_overrides=CODE_COUNTS)


def _sort(values: pl.DataFrame) -> SortedValues:
    ordered = values.sort(ROW, _POSITION, AGE, VALUE, descending=[False, False, True, False])
    row, code, age, value = (ordered.get_column(name).to_numpy() for name in (ROW, _POSITION, AGE, VALUE))
    return SortedValues(row.astype(np.int64), code.astype(np.int64), age, value)


def _count(pairs: pl.DataFrame, condition: pl.Expr) -> int:
    return int(pairs.select(condition.fill_null(value=False).sum()).item())
