"""Singling out: predicates that exactly one synthetic row meets, tested on real rows.

*Univariate*: a unique or an extreme value of the synthetic table. *Multivariate*: conditions on several columns of one synthetic row. A
guess is right if exactly one real row meets the predicate. Train and holdout are sampled to equal size, since the size alone changes the
chance of that.

Shapes: n rows.

References
----------
Article 29 Working Party: Opinion 05/2014 on anonymisation techniques. Giomi et al. (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import eq, ge, le
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.residual_risk import AttackResult
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import sample_rows
from nearward.tabular.typing import Bools

_GUESSES = 400
_TRIES = 4  # predicates drawn per guess; not every one singles out a row
_COLUMNS = 4  # of a multivariate predicate
_MAX_ROWS = 20_000
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {"=": eq, "<=": le, ">=": ge}


@dataclass(frozen=True)
class Condition:
    """A condition on one column: equal to a value, at most, at least, or missing."""

    column: str
    sign: str
    value: float | str | None = None

    def met_by(self, frame: pl.DataFrame) -> Bools:
        """Tell which rows meet it (n,)."""
        column = frame.get_column(self.column)
        if self.sign == "missing":
            return column.is_null().to_numpy()
        met: pl.Series = _SIGNS[self.sign](column, self.value)
        return (met.fill_null(value=False) if met.null_count() else met).to_numpy()


Predicate = tuple[Condition, ...]


def singling_out(tables: Tables, seed: int) -> list[AttackResult]:
    """Attack with univariate and with multivariate predicates."""
    rows = min(tables.train.height, tables.holdout.height, _MAX_ROWS)
    train, holdout = (frame[sample_rows(frame.height, rows, seed + i)] for i, frame in enumerate((tables.train, tables.holdout)))
    synthetic = tables.synthetic[sample_rows(tables.synthetic.height, rows, seed + 2)]
    rng = np.random.default_rng(seed)
    results = []
    for name, attack, baseline in (
        ("singling out, one column", _univariate(synthetic, rng), _random_predicates(synthetic, rng, 1)),
        ("singling out, several columns", _multivariate(synthetic, rng), _random_predicates(synthetic, rng, _COLUMNS)),
    ):
        predicates = list(attack)
        random = list(islice(baseline, max(len(predicates), 100)))
        if predicates:
            counts = _singled_out(predicates, train), _singled_out(random, train), _singled_out(predicates, holdout)
            results.append(AttackResult.from_counts(name, *counts))
    return results


def _univariate(synthetic: pl.DataFrame, rng: np.random.Generator) -> Iterator[Predicate]:
    """Yield unique values of one column: the extremes of numbers, values that occur once, the only row with a missing value."""
    predicates: list[Predicate] = []
    for column in synthetic.iter_columns():
        if column.null_count() == 1:
            predicates.append((Condition(column.name, "missing"),))
        values = column.drop_nulls()
        if len(values) == 0:
            continue
        if values.dtype == pl.Float64:
            predicates.append((Condition(column.name, "<=", values.min()),))  # type: ignore[arg-type]
            predicates.append((Condition(column.name, ">=", values.max()),))  # type: ignore[arg-type]
        unique = values.filter(values.is_unique()).sort().to_list()
        predicates += [(Condition(column.name, "=", value),) for value in unique]
    for i in rng.permutation(len(predicates))[:_GUESSES]:
        yield predicates[i]


def _multivariate(synthetic: pl.DataFrame, rng: np.random.Generator) -> Iterator[Predicate]:
    """Yield conditions on several columns of a synthetic row that no other synthetic row meets."""
    medians = {column.name: column.median() for column in synthetic.iter_columns() if column.dtype == pl.Float64}
    remaining = _GUESSES
    for row in rng.integers(0, synthetic.height, _GUESSES * _TRIES):
        columns = rng.choice(synthetic.columns, min(_COLUMNS, synthetic.width), replace=False)
        predicate = tuple(_condition(str(name), synthetic.item(int(row), str(name)), medians.get(str(name))) for name in columns)
        if _count(predicate, synthetic) == 1:
            yield predicate
            remaining -= 1
        if not remaining:
            return


def _condition(name: str, value: float | str | None, median: object) -> Condition:
    if value is None:
        return Condition(name, "missing")
    if isinstance(value, float) and isinstance(median, float):
        return Condition(name, ">=" if value > median else "<=", value)
    return Condition(name, "=", value)


def _random_predicates(synthetic: pl.DataFrame, rng: np.random.Generator, columns: int) -> Iterator[Predicate]:
    """Yield conditions on values of different rows, with random signs: the baseline."""
    while True:
        conditions = []
        for name in rng.choice(synthetic.columns, min(columns, synthetic.width), replace=False):
            value = synthetic.item(int(rng.integers(synthetic.height)), str(name))
            sign = str(rng.choice(["<=", ">=", "="])) if isinstance(value, float) else "="
            conditions.append(Condition(str(name), "missing" if value is None else sign, value))
        yield tuple(conditions)


def _singled_out(predicates: list[Predicate], frame: pl.DataFrame) -> tuple[int, int]:
    """Count the predicates that exactly one row meets, and all predicates."""
    return sum(_count(predicate, frame) == 1 for predicate in predicates), len(predicates)


def _count(predicate: Predicate, frame: pl.DataFrame) -> int:
    """Count the rows that meet all conditions."""
    met = predicate[0].met_by(frame)
    for condition in predicate[1:]:
        met = met & condition.met_by(frame)
    return int(met.sum())
