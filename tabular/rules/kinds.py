"""The kinds of rule: which rows each applies to, which rows violate it, and the evidence behind it.

A rule does not apply to a row that lacks one of its values, except for the rule about missing values itself. The names of the fields are
the keys of the rules file, which people read and edit; see docs/reference/faith-card.md.

Shapes: n rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.typing import Bools, Floats

Source = Literal["mined", "user"]


@dataclass(frozen=True)
class Evidence:
    """The counts that a rule rests on.

    Parameters
    ----------
    source : str
        ``mined`` or ``user``.
    rows : int or None
        Rows that the rule applies to, among those it was confirmed on (not those it was mined on).
    violations : int or None
        How many of these violate it.
    at_most : float or None
        Upper 95 % bound of the share of violations (Clopper–Pearson, one-sided).
    events : int or None
        Rows with the rarer outcome (the event, or its absence) that the rule applies to.
    enforced : bool
        False where it is shown and not enforced: too few rows with the rarer outcome to confirm it among these.
    """

    source: Source = "user"
    rows: int | None = None
    violations: int | None = None
    at_most: float | None = None
    events: int | None = None
    enforced: bool = True


@dataclass(frozen=True)
class Rule:
    """A constraint on the values of a row: kind, columns and evidence.

    A kind whose columns are fields of its own names these fields in ``column_fields``.
    """

    evidence: Evidence = field(default=Evidence(), compare=False, kw_only=True)
    kind: ClassVar[str] = ""
    column_fields: ClassVar[tuple[str, ...]] = ("column",)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule constrains."""
        return tuple(getattr(self, name) for name in self.column_fields)

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Return the masks of the rows that the rule applies to (n,), and of the rows that violate it (n,)."""
        raise NotImplementedError

    def __str__(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Range(Rule):
    """A number lies between two bounds."""

    column: str
    low: float
    high: float
    kind: ClassVar[str] = "range"

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with a value."""
        x = _numbers(frame, self.column)
        return ~np.isnan(x), (x < self.low) | (x > self.high)

    def __str__(self) -> str:
        return f"{self.column} is from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Domain(Rule):
    """A category is one of those listed."""

    column: str
    levels: tuple[str, ...]
    kind: ClassVar[str] = "domain"

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with a value."""
        text = _texts(frame, self.column)
        present = text.is_not_null().to_numpy()
        return present, present & ~_is_in(text, self.levels)

    def __str__(self) -> str:
        return f"{self.column} is one of {len(self.levels)} levels"


@dataclass(frozen=True)
class MissingTogether(Rule):
    """Some columns are missing in the same rows."""

    together: tuple[str, ...]
    kind: ClassVar[str] = "missing together"

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        return self.together

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to all rows."""
        missing = np.stack([_missing(frame.get_column(name)) for name in self.together])
        return np.ones(frame.height, dtype=bool), np.asarray(missing.any(axis=0) & ~missing.all(axis=0))

    def __str__(self) -> str:
        return f"{', '.join(self.together)} are missing together"


@dataclass(frozen=True)
class Order(Rule):
    """One number is at most another."""

    lesser: str
    greater: str
    kind: ClassVar[str] = "order"
    column_fields: ClassVar[tuple[str, ...]] = ("lesser", "greater")

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with both."""
        x, y = _numbers(frame, self.lesser), _numbers(frame, self.greater)
        return ~np.isnan(x + y), x > y

    def __str__(self) -> str:
        return f"{self.lesser} is at most {self.greater}"


@dataclass(frozen=True)
class Depends(Rule):
    """A column's value follows from another's (a functional dependency).

    Parameters
    ----------
    column, given : str
    pairs : tuple of (value of ``given``, value of ``column``)
        Values of ``given`` that are not listed are free.
    """

    column: str
    given: str
    pairs: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "depends"
    column_fields: ClassVar[tuple[str, ...]] = ("given", "column")

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with both, the first of them listed."""
        cause, effect = _texts(frame, self.given), _texts(frame, self.column)
        implied = cause.replace_strict(dict(self.pairs), default=None, return_dtype=pl.String)
        applies = (implied.is_not_null() & effect.is_not_null()).to_numpy()
        return applies, (implied != effect).fill_null(value=False).to_numpy() & applies

    def __str__(self) -> str:
        return f"{self.column} follows from {self.given} ({len(self.pairs)} values)"


@dataclass(frozen=True)
class Implies(Rule):
    """Where one category has a certain value, another has a certain value, or never has it.

    Parameters
    ----------
    where, level : str
        The first column, and its value.
    column, then : str
        The other column, and its value.
    never : bool
        True for an exclusion: the other column then never has that value.
    """

    where: str
    level: str
    column: str
    then: str
    never: bool = False
    kind: ClassVar[str] = "implies"
    column_fields: ClassVar[tuple[str, ...]] = ("where", "column")

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with the first value and any value of the other column."""
        cause, effect = _texts(frame, self.where), _texts(frame, self.column)
        applies = ((cause == self.level).fill_null(value=False) & effect.is_not_null()).to_numpy()
        holds = (effect == self.then).fill_null(value=False).to_numpy()
        return applies, applies & (holds if self.never else ~holds)

    def __str__(self) -> str:
        return f"where {self.where} is {self.level}, {self.column} is {'never ' if self.never else ''}{self.then}"


@dataclass(frozen=True)
class Linear(Rule):
    """A number is a weighted sum of others.

    Parameters
    ----------
    column : str
    terms : tuple of (column, weight)
    constant : float
    tolerance : float
        Greatest deviation that still counts as equal, in the column's unit.
    """

    column: str
    terms: tuple[tuple[str, float], ...]
    constant: float = 0.0
    tolerance: float = 0.0
    kind: ClassVar[str] = "linear"

    @property
    def columns(self) -> tuple[str, ...]:
        """The sum and its terms."""
        return (self.column, *(name for name, _ in self.terms))

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with all of them."""
        total = self.constant + sum((weight * _numbers(frame, name) for name, weight in self.terms), np.zeros(frame.height))
        deviation = np.abs(_numbers(frame, self.column) - total)
        return ~np.isnan(deviation), deviation > self.tolerance + 1e-9 * np.abs(total)

    def __str__(self) -> str:
        text = " + ".join(name if weight == 1 else f"{weight:g} × {name}" for name, weight in self.terms)
        return f"{self.column} = {text}" + (f" + {self.constant:g}" if self.constant else "")


KINDS: dict[str, type[Rule]] = {kind.kind: kind for kind in (Range, Domain, MissingTogether, Order, Depends, Implies, Linear)}


def _numbers(frame: pl.DataFrame, name: str) -> Floats:
    return as_number(frame.get_column(name), name).to_numpy()


def _texts(frame: pl.DataFrame, name: str) -> pl.Series:
    return as_text(frame.get_column(name), name)


def _missing(column: pl.Series) -> Bools:
    return (column.fill_nan(None) if column.dtype.is_float() else column).is_null().to_numpy()


def _is_in(text: pl.Series, values: Sequence[str]) -> Bools:
    return text.is_in(list(values)).fill_null(value=False).to_numpy()
