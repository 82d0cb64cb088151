"""The kinds of rule: which rows each applies to, and which rows violate it.

A rule does not apply to a row that lacks one of its values, except for the rules about missing values themselves. The names of the fields
are the keys of the rules file, which people read and edit; see docs/reference/faith-card.md.

Shapes: n rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from nearward.tabular.rules.rule import Rule, is_in, is_missing, read_numbers, read_texts
from nearward.tabular.typing import Bools


@dataclass(frozen=True)
class Range(Rule):
    """A number lies between two bounds."""

    column: str
    low: float
    high: float
    kind: ClassVar[str] = "range"

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with a value."""
        x = read_numbers(frame[self.column])
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
        text = read_texts(frame[self.column])
        present = text.is_not_null().to_numpy()
        return present, present & ~is_in(text, self.levels)

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
        missing = np.stack([is_missing(frame[name]) for name in self.together])
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
        x, y = read_numbers(frame[self.lesser]), read_numbers(frame[self.greater])
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
        cause, effect = read_texts(frame[self.given]), read_texts(frame[self.column])
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
        cause, effect = read_texts(frame[self.where]), read_texts(frame[self.column])
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
        total = self.constant + sum((weight * read_numbers(frame[name]) for name, weight in self.terms), np.zeros(frame.height))
        deviation = np.abs(read_numbers(frame[self.column]) - total)
        return ~np.isnan(deviation), deviation > self.tolerance + 1e-9 * np.abs(total)

    def __str__(self) -> str:
        text = " + ".join(name if weight == 1 else f"{weight:g} × {name}" for name, weight in self.terms)
        return f"{self.column} = {text}" + (f" + {self.constant:g}" if self.constant else "")


@dataclass(frozen=True)
class Product(Rule):
    """A number is a product of powers of others: a body mass index is 10,000 × kilograms × centimetres to the power of −2.

    Parameters
    ----------
    column : str
    powers : tuple of (column, power)
    factor : float
    tolerance : float
        Greatest deviation that still counts as equal, in the column's unit.
    """

    column: str
    powers: tuple[tuple[str, float], ...]
    factor: float = 1.0
    tolerance: float = 0.0
    kind: ClassVar[str] = "product"

    @property
    def columns(self) -> tuple[str, ...]:
        """The product and its factors."""
        return (self.column, *(name for name, _ in self.powers))

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with all of them, the factors greater than zero."""
        product = np.full(frame.height, self.factor)
        for name, power in self.powers:
            x = read_numbers(frame[name])
            product *= np.where(x > 0, x, np.nan) ** power
        deviation = np.abs(read_numbers(frame[self.column]) - product)
        return ~np.isnan(deviation), deviation > self.tolerance + 1e-9 * np.abs(product)

    def __str__(self) -> str:
        text = " × ".join(name if power == 1 else f"{name}^{power:g}" for name, power in self.powers)
        return f"{self.column} = " + (f"{self.factor:g} × " if self.factor != 1 else "") + text


@dataclass(frozen=True)
class ExactlyOne(Rule):
    """Exactly one of some columns has a certain value.

    Parameters
    ----------
    of : tuple of str
    value : str
        ``1`` is also the true of Booleans.
    """

    of: tuple[str, ...]
    value: str = "1"
    kind: ClassVar[str] = "exactly one"

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        return self.of

    @property
    def values(self) -> tuple[str, ...]:
        """The value, in all its spellings."""
        return ("1", "true") if self.value in ("1", "true") else (self.value,)

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with all of them."""
        texts = [read_texts(frame[name]) for name in self.of]
        present = np.all([text.is_not_null().to_numpy() for text in texts], axis=0)
        return present, present & (np.sum([is_in(text, self.values) for text in texts], axis=0) != 1)

    def __str__(self) -> str:
        return f"exactly one of {', '.join(self.of)} is {self.value}"


@dataclass(frozen=True)
class RangeWhere(Rule):
    """Where a column has a certain value, a number lies between two bounds: where pregnant is yes, age is from 12 to 50."""

    where: str
    level: str
    column: str
    low: float
    high: float
    kind: ClassVar[str] = "range where"
    column_fields: ClassVar[tuple[str, ...]] = ("where", "column")

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with the first value and a number."""
        x = read_numbers(frame[self.column])
        applies = is_in(read_texts(frame[self.where]), [self.level]) & ~np.isnan(x)
        return applies, applies & ((x < self.low) | (x > self.high))

    def __str__(self) -> str:
        return f"where {self.where} is {self.level}, {self.column} is from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class MissingWhere(Rule):
    """Where a column has a certain value, another is missing, or never is: where died is 0, the date of death is missing.

    Parameters
    ----------
    where, level : str
        The first column, and its value.
    column : str
        The other column.
    never : bool
        True where the other column is then never missing.
    """

    where: str
    level: str
    column: str
    never: bool = False
    kind: ClassVar[str] = "missing where"
    column_fields: ClassVar[tuple[str, ...]] = ("where", "column")

    def check(self, frame: pl.DataFrame) -> tuple[Bools, Bools]:
        """Apply to rows with the first value."""
        applies = is_in(read_texts(frame[self.where]), [self.level])
        missing = is_missing(frame[self.column])
        return applies, applies & (missing if self.never else ~missing)

    def __str__(self) -> str:
        return f"where {self.where} is {self.level}, {self.column} is {'never ' if self.never else ''}missing"


_KINDS = (Range, Domain, MissingTogether, Order, Depends, Implies, Linear, Product, ExactlyOne, RangeWhere, MissingWhere)
KINDS: dict[str, type[Rule]] = {kind.kind: kind for kind in _KINDS}
