"""Rules compiled for generation: allowed tokens, allowed pairs of tokens, bounds of numbers, identities, and what these imply together.

A row is generated column by column, and an early column must leave room for the later ones. So orders are closed transitively (a ≤ b ≤ c
bounds a by c), tables of allowed pairs are joined through the columns between, and the terms of a sum are bounded by the sum's range.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearward.synth.constraints.identity import Identity
from nearward.synth.constraints.token_tables import has_value, is_level, pair_tables
from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.date_differences import learned_lower_bounds
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.kinds import (
    Domain,
    ExactlyOne,
    Linear,
    Order,
    Product,
    Range,
    RangeWhere,
)
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools, Floats, Ints


@dataclass(frozen=True)
class BoundWhere:
    """Bounds of a number where another column has certain tokens.

    Parameters
    ----------
    where : int
    tokens : (size,), of that column
    column : int
    low, high : float, in the units of rules
    """

    where: int
    tokens: Bools
    column: int
    low: float
    high: float


@dataclass(frozen=True)
class CompiledRules:
    """Rules in the form that generation applies.

    Parameters
    ----------
    tokenizer : TableTokenizer
    order : (d,), columns in the order of generation
    allowed : d arrays (size,), tokens that a column may have
    pairs : for each column, (other column, table (size of the other, size) of allowed pairs of tokens)
    low, high : (d,), bounds of numbers, dates as days
    below, above : for each column, columns whose value is at most, at least, its own
    identities : for each column, the identities it is in
    exactly_one : for each column, the groups it is in: a dict of column -> tokens (size,), of which each row has one
    bounds_where : for each column, the bounds that it has, or that it sets
    """

    tokenizer: TableTokenizer
    order: tuple[int, ...]
    allowed: tuple[Bools, ...]
    pairs: tuple[tuple[tuple[int, Bools], ...], ...]
    low: Floats
    high: Floats
    below: tuple[tuple[int, ...], ...]
    above: tuple[tuple[int, ...], ...]
    identities: tuple[tuple[Identity, ...], ...]
    exactly_one: tuple[tuple[dict[int, Bools], ...], ...]
    bounds_where: tuple[tuple[BoundWhere, ...], ...]

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
        identities: list[list[Identity]] = [[] for _ in range(d)]
        exactly_one: list[list[dict[int, Bools]]] = [[] for _ in range(d)]
        bounds_where: list[list[BoundWhere]] = [[] for _ in range(d)]
        for name, least in learned_lower_bounds(tokenizer.differences, rules).items():
            low[index[name]] = least
        known = Rules(tuple(rule for rule in with_differences(rules, tokenizer) if all(name in index for name in rule.columns)))
        for rule in known:
            columns = [index[name] for name in rule.columns]
            j = columns[0]
            if isinstance(rule, Range):
                low[j], high[j] = max(low[j], rule.low), min(high[j], rule.high)
            elif isinstance(rule, Domain):
                allowed[j] = allowed[j] & has_value(tokenizer, j, set(rule.levels))
            elif isinstance(rule, Order):
                below[index[rule.greater]].append(index[rule.lesser])
                above[index[rule.lesser]].append(index[rule.greater])
            elif isinstance(rule, Linear | Product):
                identity = Identity.of(rule, index, dict(enumerate(step.tolist())))
                for j in columns:
                    identities[j].append(identity)
            elif isinstance(rule, ExactlyOne):
                group = {j: has_value(tokenizer, j, set(rule.values)) for j in columns}
                for j in columns:
                    exactly_one[j].append(group)
            elif isinstance(rule, RangeWhere):
                bound = BoundWhere(j, is_level(tokenizer, j, rule.level), columns[1], rule.low, rule.high)
                for j in columns:
                    bounds_where[j].append(bound)
        for side in (below, above):
            _close_orders(side, [not tokens[0] for tokens in allowed])
        _propagate_bounds(low, high, below, tokenizer)
        tables = pair_tables(known, tokenizer, step, allowed)
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
            tuple(tuple(identities[j]) if ordinal[j] else () for j in range(d)),
            tuple(map(tuple, exactly_one)),
            tuple(map(tuple, bounds_where)),
        )


def with_differences(rules: Rules, tokenizer: TableTokenizer) -> Rules:
    """Return the rules, and the identities of the dates whose differences the tokenizer has; a date snaps to its own grid."""
    identities = []
    for difference in tokenizer.differences:
        own = tokenizer.column_tokenizers[tokenizer.column_index[difference.computed]]
        grid = own.grid if isinstance(own, NumberTokenizer) else None
        step = 0.0 if grid is None or not isinstance(own, NumberTokenizer) else grid.step / 10**grid.decimals * own.unit
        identities.append(replace(difference.identity, tolerance=0.51 * step))
    return Rules((*rules, *identities))


def sums_after_terms(order: Sequence[int], rules: Rules, index: Mapping[str, int]) -> list[int]:
    """Move sums and products behind their terms in an order of generation: they can always be met, the last term may come out negative."""
    identities = [rule for rule in rules if isinstance(rule, Linear | Product) and all(name in index for name in rule.columns)]
    moved = list(order)
    for _ in identities:  # a sum may be a term of another one
        before = list(moved)
        for rule in identities:
            total, *terms = (index[name] for name in rule.columns)
            last = max(moved.index(j) for j in terms)
            if moved.index(total) < last and total != order[0]:
                moved.remove(total)
                moved.insert(last, total)
        if moved == before:
            break
    return moved


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
            low[j], high[j] = max(low[j], column.low[1] * column.unit), min(high[j], column.high[-1] * column.unit)
    for _ in tokenizer.column_tokenizers:
        for j, lesser in enumerate(below):
            for i in lesser:
                low[j], high[i] = max(low[j], low[i]), min(high[i], high[j])
