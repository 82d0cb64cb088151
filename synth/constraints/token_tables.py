"""Tables of tokens that rules allow: of one column, and of pairs of columns.

Shapes: d columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.synth.tokenizer.date_differences import presence_tables
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.data.conversion import as_text
from nearward.tabular.rules.kinds import Depends, ExactlyOne, Implies, MissingTogether, MissingWhere, RangeWhere
from nearward.tabular.rules.rule import Rule
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools, Ints

PairTables = dict[tuple[int, int], Bools]  # (a, b) -> allowed pairs (size of a, size of b)


def pair_tables(rules: Rules, tokenizer: TableTokenizer, step: Ints, allowed: Sequence[Bools]) -> PairTables:
    """Return the allowed pairs of tokens, both ways round.

    Parameters
    ----------
    rules : Rules
        About columns that the tokenizer has.
    tokenizer : TableTokenizer
    step : (d,), when each column is generated
    allowed : d arrays (size,), tokens that a column may have
    """
    tables: PairTables = {}
    index = tokenizer.column_index
    for rule in rules:
        for a, b, table in _allowed_pairs(rule, tokenizer, step):
            tables[a, b] = tables.get((a, b), True) & table
            tables[b, a] = tables[a, b].T
    present = {own.name: tokens for own, tokens in zip(tokenizer.column_tokenizers, allowed, strict=True)}
    for difference in tokenizer.differences:
        for one, other, table in presence_tables(difference, present):
            a, b = index[one], index[other]
            tables[a, b] = tables.get((a, b), True) & table
            tables[b, a] = tables[a, b].T
    _join_tables(tables, allowed)
    return tables


def _allowed_pairs(rule: Rule, tokenizer: TableTokenizer, step: Ints) -> list[tuple[int, int, Bools]]:
    """Return the pairs of tokens that a rule allows: (a, b, table (size of a, size of b))."""
    columns = [tokenizer.column_index[name] for name in rule.columns]
    if isinstance(rule, MissingTogether):
        first = min(columns, key=lambda j: int(step[j]))
        present = {j: np.arange(tokenizer.sizes[j]) > 0 for j in columns}
        return [(first, j, present[first][:, None] == present[j][None]) for j in columns if j != first]
    if isinstance(rule, ExactlyOne):
        has = {j: has_value(tokenizer, j, set(rule.values)) & (np.arange(tokenizer.sizes[j]) > 0) for j in columns}
        return [(a, b, ~(has[a][:, None] & has[b][None])) for a, b in combinations(columns, 2)]
    if isinstance(rule, Depends):
        a, b = columns
        implied, missing = dict(rule.pairs), np.arange(tokenizer.sizes[b]) == 0
        rows = [
            missing | has_value(tokenizer, b, {implied[value]}) if value in implied else np.ones_like(missing)
            for value in _token_values(tokenizer, a)
        ]
        return [(a, b, np.stack(rows))]
    if isinstance(rule, Implies | MissingWhere | RangeWhere):
        a, b = columns
        return [(a, b, np.where(is_level(tokenizer, a, rule.level)[:, None], _allowed_where(rule, tokenizer, b), True))]
    return []


def _allowed_where(rule: Implies | MissingWhere | RangeWhere, tokenizer: TableTokenizer, column: int) -> Bools:
    """Return the tokens (size,) that a column may have where the condition of a rule is met; missing violates no rule about values."""
    missing = np.arange(tokenizer.sizes[column]) == 0
    if isinstance(rule, MissingWhere):
        return np.asarray(~missing if rule.never else missing)
    if isinstance(rule, Implies):
        then = has_value(tokenizer, column, {rule.then})
        return np.asarray(missing | ~then if rule.never else then)
    own = tokenizer.column_tokenizers[column]
    if not isinstance(own, NumberTokenizer):
        return np.ones_like(missing)
    return np.asarray(~((own.high * own.unit < rule.low) | (own.low * own.unit > rule.high)))  # NaN, missing, is never outside


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


def has_value(tokenizer: TableTokenizer, column: int, values: set[str]) -> Bools:
    """Return the tokens (size,) of a column whose value is one of these, missing included, which violates no rule."""
    has = np.array([value in values for value in _token_values(tokenizer, column)])
    has[0] = True
    return has


def is_level(tokenizer: TableTokenizer, column: int, level: str) -> Bools:
    """Return the tokens (size,) of a column whose value is this one."""
    return np.array([value == level for value in _token_values(tokenizer, column)])


def _token_values(tokenizer: TableTokenizer, column: int) -> list[str | None]:
    """Return the value of each token of a column as rules write it; None for missing, RARE, and bins of several values."""
    own = tokenizer.column_tokenizers[column]
    if isinstance(own, CategoryTokenizer):
        return [None, *own.categories, None]
    single = own.bin_quantiles[:, 0] == own.bin_quantiles[:, -1]
    text = as_text(pl.Series(own.bin_quantiles[:, 0] * own.unit, dtype=pl.Float64), own.name).to_list()
    return [None, *(value if one else None for value, one in zip(text, single, strict=True))]
