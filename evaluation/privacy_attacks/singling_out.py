"""Singling out: descriptions that fit exactly one synthetic row, tried on the real ones.

*Univariate*: a value that is unique in the synthetic table, or beyond all others. *Multivariate*: several columns of one synthetic row
taken together. A guess is right if exactly one real row fits. Train and holdout are cut to equal size, since a description fits exactly
one row more or less easily by size alone.

Letters: n rows, g guesses.

References
----------
Article 29 Working Party: Opinion 05/2014 on anonymisation techniques. Giomi et al. (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import eq, ge, le
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.privacy_attacks.residual_risk import AttackResult, guesses
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import sample_rows
from nearward.tabular.typing import Bools

_GUESSES = 400
_TRIES = 4  # descriptions drawn for each that is wanted; not each fits one row alone
_COLUMNS = 4  # in a multivariate description
_MOST_ROWS = 20_000
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {"=": eq, "<=": le, ">=": ge}


@dataclass(frozen=True)
class Condition:
    """A column is a value, at most it, at least it, or missing."""

    column: str
    sign: str
    value: float | str | None = None

    def fits(self, frame: pl.DataFrame) -> Bools:
        """Tell which rows fit (n,)."""
        column = frame.get_column(self.column)
        if self.sign == "missing":
            return column.is_null().to_numpy()
        fit: pl.Series = _SIGNS[self.sign](column, self.value)
        return (fit.fill_null(value=False) if fit.null_count() else fit).to_numpy()


Description = tuple[Condition, ...]


def singling_out(tables: Tables, seed: int) -> list[AttackResult]:
    """Attack with both kinds of description."""
    rows = min(tables.train.height, tables.holdout.height, _MOST_ROWS)
    train, control = (frame[sample_rows(frame.height, rows, seed + i)] for i, frame in enumerate((tables.train, tables.holdout)))
    made = tables.synthetic[sample_rows(tables.synthetic.height, rows, seed + 2)]
    draw = np.random.default_rng(seed)
    found = []
    for name, attack, base in (
        ("singling out, one column", _extremes(made, draw), _blind(made, draw, 1)),
        ("singling out, several columns", _combined(made, draw), _blind(made, draw, _COLUMNS)),
    ):
        told = list(attack)
        blind = [next(base) for _ in range(max(len(told), 100))]
        if told:
            found.append(guesses(name, _right(told, train), _right(blind, train), _right(told, control)))
    return found


def _right(told: list[Description], frame: pl.DataFrame) -> tuple[int, int]:
    return sum(int(_count(description, frame) == 1) for description in told), len(told)


def _count(description: Description, frame: pl.DataFrame) -> int:
    fit = description[0].fits(frame)
    for condition in description[1:]:
        fit = fit & condition.fits(frame)
    return int(fit.sum())


def _extremes(made: pl.DataFrame, draw: np.random.Generator) -> Iterator[Description]:
    """Yield what is unique in one column: the ends of numbers, values that occur once, the only row without a value."""
    told: list[Description] = []
    for column in made.iter_columns():
        if column.null_count() == 1:
            told.append((Condition(column.name, "missing"),))
        seen = column.drop_nulls()
        if len(seen) == 0:
            continue
        if seen.dtype == pl.Float64:
            told += [(Condition(column.name, "<=", seen.min()),), (Condition(column.name, ">=", seen.max()),)]  # type: ignore[arg-type]
        once = seen.filter(seen.is_unique()).sort().to_list()
        told += [(Condition(column.name, "=", value),) for value in once]
    for i in draw.permutation(len(told))[:_GUESSES]:
        yield told[i]


def _combined(made: pl.DataFrame, draw: np.random.Generator) -> Iterator[Description]:
    """Yield descriptions of synthetic rows by several columns that fit no other synthetic row."""
    middle = {column.name: column.median() for column in made.iter_columns() if column.dtype == pl.Float64}
    wanted = _GUESSES
    for row in draw.integers(0, made.height, _GUESSES * _TRIES):
        columns = draw.choice(made.columns, min(_COLUMNS, made.width), replace=False)
        description = tuple(_about(str(name), made.item(int(row), str(name)), middle.get(str(name))) for name in columns)
        if _count(description, made) == 1:
            yield description
            wanted -= 1
        if not wanted:
            return


def _about(name: str, value: float | str | None, middle: object) -> Condition:
    if value is None:
        return Condition(name, "missing")
    if isinstance(value, float) and isinstance(middle, float):
        return Condition(name, ">=" if value > middle else "<=", value)
    return Condition(name, "=", value)


def _blind(made: pl.DataFrame, draw: np.random.Generator, columns: int) -> Iterator[Description]:
    """Yield descriptions put together from values of different rows, with signs by lot: a guess that means nobody."""
    while True:
        conditions = []
        for name in draw.choice(made.columns, min(columns, made.width), replace=False):
            value = made.item(int(draw.integers(made.height)), str(name))
            sign = str(draw.choice(["<=", ">=", "="])) if isinstance(value, float) else "="
            conditions.append(Condition(str(name), "missing" if value is None else sign, value))
        yield tuple(conditions)
