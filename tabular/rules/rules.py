"""Rules that a table keeps: what each says, which rows break it, and the file they are written in.

A rule never breaks on what it cannot see: a row that lacks one of its values keeps it, except for the rule about missing values itself.
Rules are written with counts and where they come from, to be read and edited by people; see docs/reference/faith-card.md.

Letters: n rows, r rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.tabular.data.conversion import as_number, as_text
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import MissingColumns
from nearward.tabular.typing import Bools

Source = Literal["mined", "user"]


@dataclass(frozen=True)
class Evidence:
    """What a rule rests on.

    Parameters
    ----------
    source : str
        ``mined`` or ``user``.
    rows : int or None
        Rows that the rule speaks of, among those it was confirmed on (not those it was mined on).
    violations : int or None
        How many of these break it.
    at_most : float or None
        Upper 95 % bound of the share that breaks it (Clopper–Pearson, one-sided).
    events : int or None
        Rows with the rare outcome that the rule speaks of.
    enforced : bool
        False where it is shown and not enforced: there are too few rows with the rare outcome to say that it holds in these.
    """

    source: Source = "user"
    rows: int | None = None
    violations: int | None = None
    at_most: float | None = None
    events: int | None = None
    enforced: bool = True


@dataclass(frozen=True)
class Rule:
    """What all rules have: a kind, columns, evidence."""

    evidence: Evidence = field(default=Evidence(), compare=False, kw_only=True)
    kind: ClassVar[str] = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads."""
        raise NotImplementedError

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Return which rows the rule speaks of, and which of these break it: two of (n,)."""
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

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Speak of rows with a value."""
        x = _numbers(frame, self.column)
        return _there(x), np.asarray((x < self.low) | (x > self.high))

    def __str__(self) -> str:
        return f"{self.column} is from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Domain(Rule):
    """A category has one of the listed levels."""

    column: str
    levels: tuple[str, ...]
    kind: ClassVar[str] = "domain"

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Speak of rows with a level."""
        text = _texts(frame, self.column)
        there = text.is_not_null().to_numpy()
        return there, there & ~_is_in(text, self.levels)

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

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Speak of all rows."""
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

    @property
    def columns(self) -> tuple[str, ...]:
        """Both."""
        return (self.lesser, self.greater)

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Speak of rows with both."""
        x, y = _numbers(frame, self.lesser), _numbers(frame, self.greater)
        return _there(x + y), x > y

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

    @property
    def columns(self) -> tuple[str, ...]:
        """Both."""
        return (self.given, self.column)

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Speak of rows with both, the first of them listed."""
        cause, effect = _texts(frame, self.given), _texts(frame, self.column)
        due = cause.replace_strict(dict(self.pairs), default=None, return_dtype=pl.String)
        speaks = (due.is_not_null() & effect.is_not_null()).to_numpy()
        return speaks, (due != effect).fill_null(value=False).to_numpy() & speaks

    def __str__(self) -> str:
        return f"{self.column} follows from {self.given} ({len(self.pairs)} values)"


@dataclass(frozen=True)
class Implies(Rule):
    """Where one category has a level, another has a certain level, or never has it.

    Parameters
    ----------
    where, level : str
    column, then : str
        The other column, and its level.
    never : bool
        True for an exclusion: the other column then never has that level.
    """

    where: str
    level: str
    column: str
    then: str
    never: bool = False
    kind: ClassVar[str] = "implies"

    @property
    def columns(self) -> tuple[str, ...]:
        """Both."""
        return (self.where, self.column)

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Speak of rows with the first level and any level of the other column."""
        cause, effect = _texts(frame, self.where), _texts(frame, self.column)
        speaks = ((cause == self.level).fill_null(value=False) & effect.is_not_null()).to_numpy()
        has = (effect == self.then).fill_null(value=False).to_numpy()
        return speaks, speaks & (has if self.never else ~has)

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
        How far off still counts as equal, in the column's unit.
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

    def judged(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Speak of rows with all of them."""
        due = self.constant + sum((weight * _numbers(frame, name) for name, weight in self.terms), np.zeros(frame.height))
        gap = np.abs(_numbers(frame, self.column) - due)
        return _there(gap), gap > self.tolerance + 1e-9 * np.abs(due)

    def __str__(self) -> str:
        text = " + ".join(name if weight == 1 else f"{weight:g} × {name}" for name, weight in self.terms)
        return f"{self.column} = {text}" + (f" + {self.constant:g}" if self.constant else "")


KINDS: dict[str, type[Rule]] = {kind.kind: kind for kind in (Range, Domain, MissingTogether, Order, Depends, Implies, Linear)}


@dataclass(frozen=True)
class Rules:
    """Rules of one table.

    Examples
    --------
    >>> rules = Rules((Order("dbp", "sbp"), Range("age", 0, 120)))
    >>> rules.violations(pl.DataFrame({"dbp": [80, 130], "sbp": [120, 90], "age": [50, None]})).tolist()
    [[False, False], [True, False]]
    """

    rules: tuple[Rule, ...] = ()

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __add__(self, other: Rules) -> Rules:
        """Put the other's rules first, and leave out what is said twice."""
        return Rules(tuple(dict.fromkeys([*other.rules, *self.rules])))

    @property
    def enforced(self) -> Rules:
        """Those that a synthesizer must keep in every row."""
        return Rules(tuple(rule for rule in self.rules if rule.evidence.enforced))

    def violations(self, frame: pl.DataFrame | pl.LazyFrame) -> Bools:
        """Tell which row breaks which rule.

        Returns
        -------
        (n, r) bool

        Raises
        ------
        MissingColumns
            The frame lacks a column that a rule reads.
        InputError
            A rule about numbers reads a column of text.
        """
        table = to_frame(frame)
        missing = dict.fromkeys(c for rule in self.rules for c in rule.columns if c not in table.columns)
        if missing:
            raise MissingColumns(list(missing), table.columns)
        broken = np.zeros((table.height, len(self.rules)), dtype=bool)
        for j, rule in enumerate(self.rules):
            speaks, breaks = rule.judged(table)
            broken[:, j] = speaks & breaks
        return broken


def _numbers(frame: pl.DataFrame, name: str) -> NDArray[np.float64]:
    return as_number(frame.get_column(name), name).to_numpy()


def _there(x: NDArray[np.float64]) -> Bools:
    return np.asarray(~np.isnan(x))


def _texts(frame: pl.DataFrame, name: str) -> pl.Series:
    return as_text(frame.get_column(name), name)


def _missing(column: pl.Series) -> Bools:
    return (column.fill_nan(None) if column.dtype.is_float() else column).is_null().to_numpy()


def _is_in(text: pl.Series, levels: Sequence[str]) -> Bools:
    return text.is_in(list(levels)).fill_null(value=False).to_numpy()
