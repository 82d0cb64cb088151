"""Rules compiled for generation: allowed tokens, allowed pairs of tokens, bounds of numbers, sums, and what these imply together.

A row is generated column by column, and an early column must leave room for the later ones. So orders are closed transitively (a ≤ b ≤ c
bounds a by c), tables of allowed pairs are joined through the columns between, and the terms of a sum are bounded by the sum's range.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import as_text
from nearward.tabular.rules.kinds import Depends, Domain, Implies, Linear, MissingTogether, Order, Range, Rule
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools, Floats, Ints

PairTables = dict[tuple[int, int], Bools]  # (a, b) -> allowed pairs (size of a, size of b)


@dataclass(frozen=True)
class Sum:
    """An identity: constant + Σ weight × value = 0, up to the tolerance.

    Parameters
    ----------
    weights : dict of column -> weight
    constant, tolerance : float
    last : int
        The column that is generated last, and set to what the others require.
    """

    weights: dict[int, float]
    constant: float
    tolerance: float
    last: int


@dataclass(frozen=True)
class CompiledRules:
    """Rules in the form that generation applies.

    Parameters
    ----------
    tokenizer : TableTokenizer
    order : (d,), columns in the order of generation
    allowed : d arrays (size,), tokens that a column may have
    pairs : for each column, (other column, table (size of the other, size) of allowed pairs of tokens)
    low, high : (d,), bounds of numbers
    below, above : for each column, columns whose value is at most, at least, its own
    sums : for each column, the identities it is in
    """

    tokenizer: TableTokenizer
    order: tuple[int, ...]
    allowed: tuple[Bools, ...]
    pairs: tuple[tuple[tuple[int, Bools], ...], ...]
    low: Floats
    high: Floats
    below: tuple[tuple[int, ...], ...]
    above: tuple[tuple[int, ...], ...]
    sums: tuple[tuple[Sum, ...], ...]

    @classmethod
    def compile(cls, rules: Rules, tokenizer: TableTokenizer, order: Sequence[int], token_counts: Sequence[Ints]) -> CompiledRules:
        """Compile rules.

        Parameters
        ----------
        rules : Rules
            Rules about columns without a tokenizer are left out.
        tokenizer : TableTokenizer
        order : (d,), columns in the order of generation
        token_counts : d arrays (size,), training rows with each token: tokens without any are not allowed
        """
        index, d = tokenizer.column_index, len(tokenizer.column_tokenizers)
        step = np.argsort(order)
        allowed = [count > 0 for count in token_counts]
        low, high = np.full(d, -np.inf), np.full(d, np.inf)
        below: list[list[int]] = [[] for _ in range(d)]
        above: list[list[int]] = [[] for _ in range(d)]
        sums: list[list[Sum]] = [[] for _ in range(d)]
        tables: PairTables = {}
        for rule in rules:
            if any(name not in index for name in rule.columns):
                continue
            columns = [index[name] for name in rule.columns]
            j = columns[0]
            if isinstance(rule, Range):
                low[j], high[j] = max(low[j], rule.low), min(high[j], rule.high)
            elif isinstance(rule, Domain):
                allowed[j] = allowed[j] & _has_value(tokenizer, j, set(rule.levels))
            elif isinstance(rule, Order):
                below[index[rule.greater]].append(index[rule.lesser])
                above[index[rule.lesser]].append(index[rule.greater])
            elif isinstance(rule, Linear):
                weights = {index[name]: weight for name, weight in rule.terms} | {index[rule.column]: -1.0}
                identity = Sum(weights, rule.constant, rule.tolerance, max(columns, key=lambda j: int(step[j])))
                for j in columns:
                    sums[j].append(identity)
            for a, b, table in _allowed_pairs(rule, tokenizer, step):
                tables[a, b] = tables.get((a, b), True) & table
                tables[b, a] = tables[a, b].T
        for side in (below, above):
            _close_orders(side, [not tokens[0] for tokens in allowed])
        _propagate_bounds(low, high, below, tokenizer)
        _join_tables(tables, allowed)
        ordinal = tokenizer.ordinal
        return cls(
            tokenizer,
            tuple(order),
            tuple(allowed),
            tuple(tuple((a, table) for (a, b), table in tables.items() if b == j) for j in range(d)),
            low,
            high,
            tuple(tuple(i for i in side if ordinal[i] and ordinal[j]) for j, side in enumerate(below)),
            tuple(tuple(i for i in side if ordinal[i] and ordinal[j]) for j, side in enumerate(above)),
            tuple(tuple(sums[j]) if ordinal[j] else () for j in range(d)),
        )


def sums_after_terms(order: Sequence[int], rules: Rules, index: Mapping[str, int]) -> list[int]:
    """Move sums behind their terms in an order of generation: a sum can always be met, the last term may come out negative."""
    moved = list(order)
    for rule in rules:
        if isinstance(rule, Linear) and all(name in index for name in rule.columns):
            total, terms = index[rule.column], [index[name] for name, _ in rule.terms]
            last = max(moved.index(j) for j in terms)
            if moved.index(total) < last and total != order[0]:
                moved.remove(total)
                moved.insert(last, total)
    return moved


def _allowed_pairs(rule: Rule, tokenizer: TableTokenizer, step: Ints) -> list[tuple[int, int, Bools]]:
    """Return the pairs of tokens that a rule on categories or missing values allows: (a, b, table (size of a, size of b))."""
    index = tokenizer.column_index
    if isinstance(rule, MissingTogether):
        columns = [index[name] for name in rule.columns]
        first = min(columns, key=lambda j: int(step[j]))
        present = {j: np.arange(tokenizer.sizes[j]) > 0 for j in columns}
        return [(first, j, present[first][:, None] == present[j][None]) for j in columns if j != first]
    if isinstance(rule, Depends):
        a, b = index[rule.given], index[rule.column]
        implied, missing = dict(rule.pairs), np.arange(tokenizer.sizes[b]) == 0
        rows = [
            missing | _has_value(tokenizer, b, {implied[value]}) if value in implied else np.ones_like(missing)
            for value in _token_values(tokenizer, a)
        ]
        return [(a, b, np.stack(rows))]
    if isinstance(rule, Implies):
        a, b = index[rule.where], index[rule.column]
        then = _has_value(tokenizer, b, {rule.then})
        row = ~then if rule.never else then
        row[0] = True  # a missing value violates nothing
        return [(a, b, np.stack([row if value == rule.level else np.ones_like(row) for value in _token_values(tokenizer, a)]))]
    return []


def _close_orders(side: list[list[int]], never_missing: Sequence[bool]) -> None:
    """Add, in place, the columns that are ordered through another column, unless that one may be missing."""
    for j, neighbours in enumerate(side):
        reached = list(neighbours)
        for i in reached:
            reached += [k for k in side[i] if never_missing[i] and k not in reached and k != j]
        side[j] = reached


def _propagate_bounds(low: Floats, high: Floats, below: Sequence[Sequence[int]], tokenizer: TableTokenizer) -> None:
    """Propagate bounds along orders, in place: a lesser value generated first must leave room for the greater one."""
    for j, column in enumerate(tokenizer.column_tokenizers):
        if isinstance(column, NumberTokenizer) and len(column.bin_quantiles):
            low[j], high[j] = max(low[j], column.low[1]), min(high[j], column.high[-1])
    for _ in tokenizer.column_tokenizers:
        for j, lesser in enumerate(below):
            for i in lesser:
                low[j], high[i] = max(low[j], low[i]), min(high[i], high[j])


def _join_tables(tables: PairTables, allowed: Sequence[Bools]) -> None:
    """Add, in place, tables of pairs that leave some token of a third column between them."""
    columns = sorted({a for a, _ in tables})
    for b in columns:
        neighbours = [a for a in columns if (a, b) in tables]
        for i, a in enumerate(neighbours):
            for c in neighbours[i + 1 :]:
                through = (tables[a, b][:, allowed[b]].astype(np.float32) @ tables[b, c][allowed[b]].astype(np.float32)) > 0
                if not through.all():
                    tables[a, c] = tables.get((a, c), True) & through
                    tables[c, a] = tables[a, c].T


def _has_value(tokenizer: TableTokenizer, column: int, values: set[str]) -> Bools:
    """Return the tokens (size,) of a column whose value is one of these, missing included, which violates no rule."""
    has = np.array([value in values for value in _token_values(tokenizer, column)])
    has[0] = True
    return has


def _token_values(tokenizer: TableTokenizer, column: int) -> list[str | None]:
    """Return the value of each token of a column as rules write it; None for missing, RARE, and bins of several values."""
    own = tokenizer.column_tokenizers[column]
    if isinstance(own, CategoryTokenizer):
        return [None, *own.categories, None]
    single = own.bin_quantiles[:, 0] == own.bin_quantiles[:, -1]
    text = as_text(pl.Series(own.bin_quantiles[:, 0], dtype=pl.Float64), own.name).to_list()
    return [None, *(value if one else None for value, one in zip(text, single, strict=True))]
