"""Keeps hard rules while a row is written: tokens that would break one are masked, numbers drawn inside what is left, sums repaired.

Rules between two columns' levels become a table of which tokens go together; bounds and orders become bounds on a number; a linear identity
fixes the last of its columns that is written. What none of this can foresee (three rules that meet in one cell) is found by the rules
themselves afterwards, and drawn again: see ``Synthesizer.sample``.

Letters: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.synth.columns import LevelTokens, NumberTokens
from nearward.synth.policy import FREE
from nearward.synth.tokens import Tokens
from nearward.tabular.cells import as_text
from nearward.tabular.rules import Depends, Domain, Implies, Linear, MissingTogether, Order, Range, Rules

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RuleBook:
    """Rules as the writing of rows needs them.

    Parameters
    ----------
    tokens : Tokens
    order : (d,), columns in the order they are written
    alone : d arrays (size,), tokens that a column may have
    pairs : for each column, (other column, table (size of the other, size) of tokens that go together)
    low, high : (d,), bounds of numbers
    below, above : for each column, columns whose value is at most, at least, its own
    sums : for each column, the identities that fix it: (weights by column, constant, tolerance, the column's own weight)
    """

    tokens: Tokens
    order: tuple[int, ...]
    alone: tuple[Bools, ...]
    pairs: tuple[tuple[tuple[int, Bools], ...], ...]
    low: Floats
    high: Floats
    below: tuple[tuple[int, ...], ...]
    above: tuple[tuple[int, ...], ...]
    sums: tuple[tuple[tuple[dict[int, float], float, float, float], ...], ...]

    @classmethod
    def of(cls, rules: Rules, tokens: Tokens, order: Sequence[int], rows: Sequence[Ints]) -> RuleBook:
        """Make the book of some rules.

        Parameters
        ----------
        rules : Rules
            Those about columns that the tokens lack are left out.
        tokens : Tokens
        order : (d,), columns in the order they are written
        rows : d arrays (size,), how many learned rows have each token: others are never written
        """
        d, place = len(tokens.columns), tokens.place
        written = np.argsort(order)
        alone = [count > 0 for count in rows]
        low, high = np.full(d, -np.inf), np.full(d, np.inf)
        below: list[list[int]] = [[] for _ in range(d)]
        above: list[list[int]] = [[] for _ in range(d)]
        sums: list[list[tuple[dict[int, float], float, float, float]]] = [[] for _ in range(d)]
        tables: dict[tuple[int, int], Bools] = {}

        def go_together(a: int, b: int, table: Bools) -> None:
            for key, one in (((a, b), table), ((b, a), table.T)):
                tables[key] = tables[key] & one if key in tables else one

        for rule in rules:
            if any(name not in place for name in rule.columns):
                continue
            at = [place[name] for name in rule.columns]
            if isinstance(rule, Range):
                low[at[0]], high[at[0]] = max(low[at[0]], rule.low), min(high[at[0]], rule.high)
            elif isinstance(rule, Domain):
                alone[at[0]] = alone[at[0]] & _named(tokens, at[0], set(rule.levels))
            elif isinstance(rule, MissingTogether):
                first = min(at, key=lambda j: int(written[j]))
                for other in at:
                    if other != first:
                        there = [np.arange(tokens.sizes[j]) > 0 for j in (first, other)]
                        go_together(first, other, there[0][:, None] == there[1][None])
            elif isinstance(rule, Order):
                below[place[rule.greater]].append(place[rule.lesser])
                above[place[rule.lesser]].append(place[rule.greater])
            elif isinstance(rule, Depends):
                a, b = place[rule.given], place[rule.column]
                names, free = _names(tokens, a), np.arange(tokens.sizes[b]) == 0
                due = dict(rule.pairs)
                table = np.stack([free | _named(tokens, b, {due[name]}) if name in due else np.ones_like(free) for name in names])
                go_together(a, b, table)
            elif isinstance(rule, Implies):
                a, b = place[rule.where], place[rule.column]
                then = _named(tokens, b, {rule.then})
                then[0] = rule.never
                row = ~then if rule.never else then
                row[0] = True  # a missing value breaks nothing
                go_together(a, b, np.stack([row if name == rule.level else np.ones_like(row) for name in _names(tokens, a)]))
            elif isinstance(rule, Linear):
                last = max(at, key=lambda j: int(written[j]))
                weights = {place[name]: weight for name, weight in rule.terms} | {place[rule.column]: -1.0}
                sums[last].append((weights, rule.constant, rule.tolerance, weights[last]))
        numbers = [isinstance(column, NumberTokens) for column in tokens.columns]
        _carry(low, high, below, tokens)
        return cls(
            tokens,
            tuple(order),
            tuple(alone),
            tuple(tuple((a, table) for (a, b), table in tables.items() if b == j) for j in range(d)),
            low,
            high,
            tuple(tuple(i for i in one if numbers[i] and numbers[j]) for j, one in enumerate(below)),
            tuple(tuple(i for i in one if numbers[i] and numbers[j]) for j, one in enumerate(above)),
            tuple(tuple(sums[j]) if numbers[j] else () for j in range(d)),
        )


class Keeper:
    """Writes a batch of rows by the book (``nearward.synth.policy.Limits``), and holds their numbers.

    Parameters
    ----------
    book : RuleBook
    seed : int, of the numbers' places inside their cells
    asked : dict of column -> number, conditions on numbers
    """

    def __init__(self, book: RuleBook, seed: int, asked: Mapping[int, float]) -> None:
        self._book, self._asked = book, dict(asked)
        self._draw = np.random.default_rng(seed)
        self.values = np.empty((0, len(book.tokens.columns)))

    def _begin(self, n: int) -> None:
        """Make room for the batch, whose size is known when its first column is written."""
        if len(self.values) != n:
            self.values = np.full((n, self.values.shape[1]), np.nan)
            self._inside = self._draw.random(self.values.shape)
            for j, number in self._asked.items():
                self.values[:, j] = number

    def allowed(self, column: int, tokens: Ints) -> Bools:
        """Return which tokens (n, size) of a column the rows may have; rows that no token fits have all, and break a rule."""
        self._begin(len(tokens))
        book, own = self._book, self._book.tokens.columns[column]
        may = np.repeat(book.alone[column][None], len(tokens), axis=0)
        for other, table in book.pairs[column]:
            there = tokens[:, other] != FREE
            may[there] &= table[tokens[there, other]]
        if isinstance(own, NumberTokens) and len(own.points):
            low, high = self._bounds(column)
            if np.isfinite(low).any() or np.isfinite(high).any():
                may &= ~((own.high[None] < low[:, None]) | (own.low[None] > high[:, None]))  # nan, missing, is never outside
        stuck = ~may.any(axis=1)
        may[stuck] = book.alone[column] if book.alone[column].any() else True
        return may

    def written(self, column: int, tokens: Ints) -> Ints:
        """Give a column's drawn tokens (n,) their numbers, and return the tokens of these."""
        self._begin(len(tokens))
        own = self._book.tokens.columns[column]
        if isinstance(own, LevelTokens) or column in self._asked or not len(own.points):
            return tokens
        values = own.values(tokens, self._inside[:, column])
        low, high = self._bounds(column)
        outside = (values < low) | (values > high)
        if outside.any():
            cell = (tokens - 1).clip(0)
            start, end = np.maximum(low, own.points[cell, 0])[outside], np.minimum(high, own.points[cell, -1])[outside]
            inner = start + self._inside[outside, column] * (end - start)
            values[outside] = inner if own.grid is None else own.grid.snap(inner).clip(own.grid.up(start), own.grid.down(end))
        for weights, constant, tolerance, mine in self._book.sums[column]:
            others = sum((weight * self.values[:, j] for j, weight in weights.items() if j != column), np.full(len(tokens), constant))
            due = -others / mine
            snapped = due if own.grid is None else own.grid.snap(due)
            due = np.where(np.abs(snapped - due) * abs(mine) <= tolerance, snapped, due)
            values = np.where(np.isnan(values) | np.isnan(due), values, due)
        self.values[:, column] = values
        return np.where(np.isnan(values), tokens, own.cells(values))

    def _bounds(self, column: int) -> tuple[Floats, Floats]:
        """Return the least and the greatest value that a column's rows may have (n,)."""
        book, n = self._book, len(self.values)
        low, high = np.full(n, book.low[column]), np.full(n, book.high[column])
        for j in book.below[column]:
            low = np.fmax(low, self.values[:, j])
        for j in book.above[column]:
            high = np.fmin(high, self.values[:, j])
        return low, high


def after_terms(order: Sequence[int], rules: Rules, place: Mapping[str, int]) -> list[int]:
    """Move sums behind their terms: a sum can always be repaired, the last term of a sum may come out negative."""
    moved = list(order)
    for rule in rules:
        if isinstance(rule, Linear) and all(name in place for name in rule.columns):
            sum_, terms = place[rule.column], [place[name] for name, _ in rule.terms]
            last = max(moved.index(j) for j in terms)
            if moved.index(sum_) < last and sum_ != order[0]:
                moved.remove(sum_)
                moved.insert(last, sum_)
    return moved


def _carry(low: Floats, high: Floats, below: Sequence[Sequence[int]], tokens: Tokens) -> None:
    """Carry bounds along orders, in place: a lesser value written first must leave room for the greater one."""
    for j, own in enumerate(tokens.columns):
        if isinstance(own, NumberTokens) and len(own.points):
            low[j], high[j] = max(low[j], own.low[1]), min(high[j], own.high[-1])
    for _ in tokens.columns:
        for j, lesser in enumerate(below):
            for i in lesser:
                low[j], high[i] = max(low[j], low[i]), min(high[i], high[j])


def _names(tokens: Tokens, column: int) -> list[str | None]:
    """Return what rules call each token of a column; None for missing, RARE, and cells of several values."""
    own = tokens.columns[column]
    if isinstance(own, LevelTokens):
        return [None, *own.levels, None]
    single = own.points[:, 0] == own.points[:, -1] if len(own.points) else np.zeros(0, dtype=bool)
    text = as_text(pl.Series(own.points[:, 0] if len(own.points) else [], dtype=pl.Float64), own.name).to_list()
    return [None, *(name if one else None for name, one in zip(text, single, strict=True))]


def _named(tokens: Tokens, column: int, names: set[str]) -> Bools:
    """Return which tokens (size,) of a column have one of these names; missing has, since it breaks no rule."""
    has = np.array([name in names for name in _names(tokens, column)])
    has[0] = True
    return has
