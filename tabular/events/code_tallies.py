"""One pass over the events of the training subjects, block by block: how often each code occurs, its numbers, units, texts and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from nearward.tabular.events.missing_values import UNKNOWN
from nearward.tabular.events.reading import BIRTH, CODE, SUBJECT, TEXT, TIME, UNIT, VALUE
from nearward.tabular.events.text_results import tally_texts
from nearward.tabular.events.units import YEAR
from nearward.tabular.events.windowed_events import AGE, ROW, earlier_events, finite_values, same_unit

_BIRTHS, _NUMBER_AGE, _USUAL_UNIT = "(births)", "(number age)", "usual_unit"


@dataclass
class CodeTallies:
    """Partial results of the blocks of subjects that were added.

    Parameters
    ----------
    latest : pl.DataFrame, one row a subject
        ``(row)``, subject and its latest prediction time: later events are not counted.
    hours : lengths of the spans, the shortest first
    include : bool
        Whether events at the very prediction time are known.
    sampled : pl.Series
        Rows of the subjects whose numbers give the usual values.
    children : pl.Series
        Codes that have parents.
    """

    latest: pl.DataFrame
    hours: Sequence[float]
    include: bool
    sampled: pl.Series
    children: pl.Series
    texts: list[pl.DataFrame] = field(default_factory=list, init=False)  # of each block, from ``tally_texts``
    unknown: int = field(default=0, init=False)  # numbers that mean unknown
    _codes: list[pl.DataFrame] = field(default_factory=list, init=False)
    _units: list[pl.DataFrame] = field(default_factory=list, init=False)
    _numbers: list[pl.DataFrame] = field(default_factory=list, init=False)
    _of_children: list[pl.DataFrame] = field(default_factory=list, init=False)
    _ages: list[pl.DataFrame] = field(default_factory=list, init=False)

    def add(self, block: pl.DataFrame) -> None:
        """Add the events of a block of subjects."""
        pairs = earlier_events(self.latest, block, include=self.include, more=(UNIT, UNKNOWN, TEXT))
        birth = pl.col(CODE).eq_missing(BIRTH)
        timed = pairs.filter(pl.col(AGE).is_finite())
        self._ages.append(timed.group_by(ROW, birth.alias(_BIRTHS)).agg(pl.col(AGE).max()).select(_BIRTHS, AGE))
        pairs = pairs.filter(pl.col(CODE).is_not_null() & ~birth).with_columns(finite_values().alias(VALUE))
        subjects = self._by_subject(pairs)
        self._codes.append(self._by_code(subjects))
        self._of_children.append(subjects.select(ROW, CODE).filter(pl.col(CODE).is_in(self.children.implode())))
        if UNKNOWN in pairs.columns:
            self.unknown += int(pairs.get_column(UNKNOWN).sum())
        if TEXT in pairs.columns:
            self.texts.append(tally_texts(pairs))
        numbers = pairs.filter(pl.col(VALUE).is_not_null())
        if UNIT in numbers.columns:
            self._units.append(numbers.group_by(CODE, UNIT).len())
        unit = pl.col(UNIT) if UNIT in numbers.columns else pl.lit(None, dtype=pl.String).alias(UNIT)
        year = pl.col(TIME).dt.year().alias(YEAR)
        sampled = numbers.filter(pl.col(ROW).is_in(self.sampled.implode()))
        self._numbers.append(sampled.select(pl.col(ROW).alias(SUBJECT), CODE, year, VALUE, unit))

    def _by_subject(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Count the events and numbers of each subject and code, in each span (``events_0``, ``values_0``, …)."""
        pairs = pairs.with_columns(pl.when(pl.col(VALUE).is_not_null()).then(pl.col(AGE)).alias(_NUMBER_AGE))
        within = {
            f"{name}_{i}": (pl.col(age) <= span).fill_null(value=False).cast(pl.UInt32)
            for name, age in (("events", AGE), ("values", _NUMBER_AGE))
            for i, span in enumerate(self.hours)
        }
        return (
            pairs.with_columns(**within)
            .group_by(ROW, CODE)
            .agg(
                pl.len().alias("events"),
                pl.col(AGE).min().alias("newest"),
                pl.col(_NUMBER_AGE).min().alias("newest_number"),
                pl.col(_NUMBER_AGE).max().alias("oldest_number"),
                pl.col(VALUE).min().alias("low"),
                pl.col(VALUE).max().alias("high"),
                pl.col(*within).sum(),
            )
        )

    def _by_code(self, subjects: pl.DataFrame) -> pl.DataFrame:
        """Sum over subjects: ``numbers_0`` and ``occurrences_0`` are those with a number and with an event in the first span."""
        spans = range(len(self.hours))
        return subjects.group_by(CODE).agg(
            pl.len().alias("subjects"),
            pl.col("events").sum(),
            pl.col("newest_number").count().alias("number_subjects"),
            pl.col("newest").is_finite().sum().alias("timed_subjects"),
            (pl.col("newest_number") < pl.col("oldest_number")).sum().alias("repeated"),
            pl.col("low").min(),
            pl.col("high").max(),
            *[pl.col(f"{name}_{i}").sum() for name in ("events", "values") for i in spans],
            *[(pl.col(f"values_{i}") > 0).sum().alias(f"numbers_{i}") for i in spans],
            *[(pl.col(f"events_{i}") > 0).sum().alias(f"occurrences_{i}") for i in spans],
        )

    @property
    def is_empty(self) -> bool:
        """Whether no block was added: none of the subjects has events."""
        return not self._codes

    def codes(self) -> pl.DataFrame:
        """Return one row a code: the sums over all blocks, and ``usual_unit``, its numbers' most frequent one."""
        every = pl.concat(self._codes)
        counts = [name for name in every.columns if name not in (CODE, "low", "high")]
        codes = every.group_by(CODE).agg(pl.col(counts).cast(pl.Int64).sum(), pl.col("low").min(), pl.col("high").max())
        empty = pl.DataFrame(schema={CODE: pl.String, UNIT: pl.String, "len": pl.UInt32})
        units = pl.concat([empty, *self._units]).drop_nulls(UNIT).group_by(CODE, UNIT).agg(pl.col("len").sum())
        usual = units.sort(["len", UNIT], descending=[True, False]).group_by(CODE, maintain_order=True).agg(pl.col(UNIT).first())
        return codes.join(usual.rename({UNIT: _USUAL_UNIT}), on=CODE, how="left")

    def numbers(self, codes: pl.DataFrame) -> pl.DataFrame:
        """Return the numbers of the sampled subjects that are in their code's usual unit: subject, code, ``(year)`` and number.

        Parameters
        ----------
        codes : from ``codes()``
        """
        numbers = pl.concat(self._numbers).join(codes.select(CODE, _USUAL_UNIT), on=CODE, how="left")
        return numbers.filter(same_unit(pl.col(UNIT), pl.col(_USUAL_UNIT))).drop(UNIT, _USUAL_UNIT)

    def subjects_of_children(self) -> pl.DataFrame:
        """Return ``(row)`` and code of each subject that has a code with parents."""
        return pl.concat(self._of_children)

    def ages(self, *, births: bool) -> pl.Series:
        """Return the hours from each subject's birth, or from its first other event, to its latest prediction time."""
        return pl.concat(self._ages).filter(pl.col(_BIRTHS) == births).get_column(AGE)
