"""Rules as the writing of rows needs them: which tokens go together, bounds of numbers, sums; and what follows from rules that meet.

A row is written column by column, and a column that is written early must leave room for the later ones. So orders are closed (a ≤ b ≤ c
bounds a by c), tables of tokens that go together are joined through the columns between, and the terms of a sum are bounded by what the
sum may be.

Letters: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import as_text
from nearward.tabular.rules.rules import Depends, Domain, Implies, Linear, MissingTogether, Order, Range, Rule, Rules
from nearward.tabular.typing import Bools, Floats, Ints

Tables = dict[tuple[int, int], Bools]


@dataclass(frozen=True)
class Sum:
    """An identity: constant + Σ weight × value = 0, up to the tolerance.

    Parameters
    ----------
    weights : dict of column -> weight
    constant, tolerance : float
    last : int
        The column that is written last, and repaired.
    """

    weights: dict[int, float]
    constant: float
    tolerance: float
    last: int


@dataclass(frozen=True)
class CompiledRules:
    """Rules as the writing of rows needs them.

    Parameters
    ----------
    tokens : Tokens
    order : (d,), columns in the order they are written
    alone : d arrays (size,), tokens that a column may have
    pairs : for each column, (other column, table (size of the other, size) of tokens that go together)
    low, high : (d,), bounds of numbers
    below, above : for each column, columns whose value is at most, at least, its own
    sums : for each column, the identities it is in
    """

    tokens: TableTokenizer
    order: tuple[int, ...]
    alone: tuple[Bools, ...]
    pairs: tuple[tuple[tuple[int, Bools], ...], ...]
    low: Floats
    high: Floats
    below: tuple[tuple[int, ...], ...]
    above: tuple[tuple[int, ...], ...]
    sums: tuple[tuple[Sum, ...], ...]

    @classmethod
    def of(cls, rules: Rules, tokens: TableTokenizer, order: Sequence[int], rows: Sequence[Ints]) -> CompiledRules:
        """Make the book of some rules.

        Parameters
        ----------
        rules : Rules
            Those about columns that the tokens lack are left out.
        tokens : Tokens
        order : (d,), columns in the order they are written
        rows : d arrays (size,), how many learned rows have each token: others are never written
        """
        d, place = len(tokens.column_tokenizers), tokens.column_index
        written = np.argsort(order)
        alone = [count > 0 for count in rows]
        low, high = np.full(d, -np.inf), np.full(d, np.inf)
        below: list[list[int]] = [[] for _ in range(d)]
        above: list[list[int]] = [[] for _ in range(d)]
        sums: list[list[Sum]] = [[] for _ in range(d)]
        tables: Tables = {}
        for rule in rules:
            if any(name not in place for name in rule.columns):
                continue
            at = [place[name] for name in rule.columns]
            if isinstance(rule, Range):
                low[at[0]], high[at[0]] = max(low[at[0]], rule.low), min(high[at[0]], rule.high)
            elif isinstance(rule, Domain):
                alone[at[0]] = alone[at[0]] & _named(tokens, at[0], set(rule.levels))
            elif isinstance(rule, Order):
                below[place[rule.greater]].append(place[rule.lesser])
                above[place[rule.lesser]].append(place[rule.greater])
            elif isinstance(rule, Linear):
                weights = {place[name]: weight for name, weight in rule.terms} | {place[rule.column]: -1.0}
                identity = Sum(weights, rule.constant, rule.tolerance, max(at, key=lambda j: int(written[j])))
                for j in at:
                    sums[j].append(identity)
            for a, b, table in _pairs(rule, tokens, written):
                tables[a, b] = tables.get((a, b), True) & table
                tables[b, a] = tables[a, b].T
        numbers = [isinstance(column, NumberTokenizer) for column in tokens.column_tokenizers]
        for side in (below, above):
            _close(side, [not may[0] for may in alone])
        _carry(low, high, below, tokens)
        _join(tables, alone)
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


def sums_after_terms(order: Sequence[int], rules: Rules, place: Mapping[str, int]) -> list[int]:
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


def _pairs(rule: Rule, tokens: TableTokenizer, written: Ints) -> list[tuple[int, int, Bools]]:
    """Return which tokens of two columns go together by a rule about levels or missing values: (a, b, table (size of a, size of b))."""
    at = [tokens.column_index[name] for name in rule.columns]
    if isinstance(rule, MissingTogether):
        first = min(at, key=lambda j: int(written[j]))
        there = {j: np.arange(tokens.sizes[j]) > 0 for j in at}
        return [(first, j, there[first][:, None] == there[j][None]) for j in at if j != first]
    if isinstance(rule, Depends):
        a, b = tokens.column_index[rule.given], tokens.column_index[rule.column]
        due, missing = dict(rule.pairs), np.arange(tokens.sizes[b]) == 0
        rows = [missing | _named(tokens, b, {due[name]}) if name in due else np.ones_like(missing) for name in _names(tokens, a)]
        return [(a, b, np.stack(rows))]
    if isinstance(rule, Implies):
        a, b = tokens.column_index[rule.where], tokens.column_index[rule.column]
        then = _named(tokens, b, {rule.then})
        row = ~then if rule.never else then
        row[0] = True  # a missing value breaks nothing
        return [(a, b, np.stack([row if name == rule.level else np.ones_like(row) for name in _names(tokens, a)]))]
    return []


def _close(side: list[list[int]], whole: Sequence[bool]) -> None:
    """Add, in place, what lies in an order beyond a column's neighbours, unless the one between may be missing (is not ``whole``)."""
    for j, near in enumerate(side):
        reached = list(near)
        for i in reached:
            reached += [k for k in side[i] if whole[i] and k not in reached and k != j]
        side[j] = reached


def _join(tables: Tables, alone: Sequence[Bools]) -> None:
    """Add, in place, which tokens of two columns leave some token of a third column between them."""
    named = sorted({a for a, _ in tables})
    for b in named:
        near = [a for a in named if (a, b) in tables]
        for i, a in enumerate(near):
            for c in near[i + 1 :]:
                through = (tables[a, b][:, alone[b]].astype(np.float32) @ tables[b, c][alone[b]].astype(np.float32)) > 0
                if not through.all():
                    tables[a, c] = tables.get((a, c), True) & through
                    tables[c, a] = tables[a, c].T


def _carry(low: Floats, high: Floats, below: Sequence[Sequence[int]], tokens: TableTokenizer) -> None:
    """Carry bounds along orders, in place: a lesser value written first must leave room for the greater one."""
    for j, own in enumerate(tokens.column_tokenizers):
        if isinstance(own, NumberTokenizer) and len(own.bin_quantiles):
            low[j], high[j] = max(low[j], own.low[1]), min(high[j], own.high[-1])
    for _ in tokens.column_tokenizers:
        for j, lesser in enumerate(below):
            for i in lesser:
                low[j], high[i] = max(low[j], low[i]), min(high[i], high[j])


def _names(tokens: TableTokenizer, column: int) -> list[str | None]:
    """Return what rules call each token of a column; None for missing, RARE, and cells of several values."""
    own = tokens.column_tokenizers[column]
    if isinstance(own, CategoryTokenizer):
        return [None, *own.categories, None]
    single = own.bin_quantiles[:, 0] == own.bin_quantiles[:, -1] if len(own.bin_quantiles) else np.zeros(0, dtype=bool)
    text = as_text(pl.Series(own.bin_quantiles[:, 0] if len(own.bin_quantiles) else [], dtype=pl.Float64), own.name).to_list()
    return [None, *(name if one else None for name, one in zip(text, single, strict=True))]


def _named(tokens: TableTokenizer, column: int, names: set[str]) -> Bools:
    """Return which tokens (size,) of a column have one of these names; missing has, since it breaks no rule."""
    has = np.array([name in names for name in _names(tokens, column)])
    has[0] = True
    return has
