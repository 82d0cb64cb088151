"""Which rows of tokens certainly break a rule: no values inside their cells could keep it. What only may break is no breach.

Rules about one or two columns become tables of tokens that cannot be; a linear identity is judged by the least and greatest sum that
its cells allow. Critics punish these rows (``nearward.synth.optimization.discriminator_levels``): what the optimiser learns to avoid need not be masked later.

Letters: n rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearward.synth.constraints.compiled_rules import CompiledRules
from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.rules import Linear, Rules
from nearward.tabular.typing import Bools, Floats, Ints


@dataclass(frozen=True)
class ForbiddenTokens:
    """Tokens of one column, or pairs of tokens of two, that cannot be.

    Parameters
    ----------
    columns : tuple of one or two columns
    table : (size,) or (size, size) of bool, True where forbidden
    """

    columns: tuple[int, ...]
    table: Bools

    def violated(self, tokens: Ints) -> Bools:
        """Return which rows (n, d) break it (n,)."""
        return np.asarray(self.table[tuple(tokens[:, j] for j in self.columns)])


@dataclass(frozen=True)
class UnbalancedSum:
    """A weighted sum that cannot be zero.

    Parameters
    ----------
    columns : tuple of columns
    least, greatest : arrays (size,) a column, of its weighted value in each token, NaN where missing
    constant, tolerance : float
    """

    columns: tuple[int, ...]
    least: tuple[Floats, ...]
    greatest: tuple[Floats, ...]
    constant: float
    tolerance: float

    def violated(self, tokens: Ints) -> Bools:
        """Return which rows (n, d) break it (n,)."""
        low, high = (
            self.constant + sum(one[tokens[:, j]] for j, one in zip(self.columns, ends, strict=True))
            for ends in (self.least, self.greatest)
        )
        return np.asarray((low > self.tolerance) | (high < -self.tolerance))  # NaN, a missing term, breaks nothing


ViolationCheck = ForbiddenTokens | UnbalancedSum


def violation_checks(rules: Rules, tokens: TableTokenizer) -> tuple[ViolationCheck, ...]:
    """Tell what each rule forbids; rules about columns that the tokens lack, or that forbid no token, are left out.

    Parameters
    ----------
    rules : Rules
    tokens : Tokens
    """
    found: list[ViolationCheck] = []
    for rule in rules:
        if any(name not in tokens.column_index for name in rule.columns):
            continue
        found += [_balance(rule, tokens)] if isinstance(rule, Linear) else _tables(Rules((rule,)), tokens)
    return tuple(found)


def _tables(rules: Rules, tokens: TableTokenizer) -> list[ViolationCheck]:
    """Read one rule's tables off its book."""
    every = [np.ones(size, dtype=np.int64) for size in tokens.sizes]
    book = CompiledRules.of(rules, tokens, range(len(tokens.column_tokenizers)), every)
    at = sorted({tokens.column_index[name] for rule in rules for name in rule.columns})
    found: list[ViolationCheck] = []
    for j in at:
        own = tokens.column_tokenizers[j]
        alone = ~book.alone[j]
        if isinstance(own, NumberTokenizer):
            alone = alone | (own.high < book.low[j]) | (own.low > book.high[j])
        if alone.any():
            found.append(ForbiddenTokens((j,), alone))
        found += [ForbiddenTokens((i, j), ~table) for i, table in book.pairs[j] if i < j and not table.all()]
        found += [ForbiddenTokens((i, j), table) for i in book.below[j] if (table := _above(tokens, i, j)).any()]
    return found


def _above(tokens: TableTokenizer, lesser: int, greater: int) -> Bools:
    """Return where the least value of one number's cell lies above the greatest of another's (size, size)."""
    ends = tokens.column_tokenizers[lesser], tokens.column_tokenizers[greater]
    if not all(isinstance(one, NumberTokenizer) for one in ends):
        return np.zeros((1, 1), dtype=bool)
    low, high = ends[0].low, ends[1].high  # type: ignore[union-attr]
    return np.asarray(low[:, None] > high[None])


def _balance(rule: Linear, tokens: TableTokenizer) -> ViolationCheck:
    terms: Sequence[tuple[str, float]] = (*rule.terms, (rule.column, -1.0))
    least, greatest = [], []
    for name, weight in terms:
        own = tokens.column_tokenizers[tokens.column_index[name]]
        ends = np.stack([own.low, own.high]) * weight if isinstance(own, NumberTokenizer) else np.full((2, own.size), np.nan)
        least.append(ends.min(axis=0))
        greatest.append(ends.max(axis=0))
    columns = tuple(tokens.column_index[name] for name, _ in terms)
    return UnbalancedSum(columns, tuple(least), tuple(greatest), rule.constant, rule.tolerance)
