"""Certain violations of rules by rows of tokens: no values inside the bins satisfy the rule. A possible violation does not count.

Rules about one or two columns become tables of forbidden tokens; a linear identity is judged by the least and the greatest sum that its
bins allow. Discriminators penalise these rows (``nearward.synth.optimization.granularities``): fewer tokens must be masked later.

Shapes: n rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.synth.constraints.compiled_rules import CompiledRules
from nearward.synth.tokenizer.column_tokenizers import NumberTokenizer
from nearward.synth.tokenizer.table_tokenizer import TableTokenizer
from nearward.tabular.rules.kinds import Linear
from nearward.tabular.rules.rule import Rule
from nearward.tabular.rules.rules import Rules
from nearward.tabular.typing import Bools, Floats, Ints


@dataclass(frozen=True)
class ForbiddenTokens:
    """Tokens of one column, or pairs of tokens of two, that violate a rule.

    Parameters
    ----------
    columns : tuple of one or two columns
    table : (size,) or (size, size) of bool, True where forbidden
    """

    columns: tuple[int, ...]
    table: Bools

    def violated(self, tokens: Ints) -> Bools:
        """Return the rows of tokens (n, d) that violate the rule (n,)."""
        return np.asarray(self.table[tuple(tokens[:, j] for j in self.columns)])


@dataclass(frozen=True)
class UnbalancedSum:
    """A weighted sum that cannot be zero.

    Parameters
    ----------
    columns : tuple of columns
    least, greatest : for each column an array (size,) of its weighted value in each token, NaN where missing
    constant, tolerance : float
    """

    columns: tuple[int, ...]
    least: tuple[Floats, ...]
    greatest: tuple[Floats, ...]
    constant: float
    tolerance: float

    def violated(self, tokens: Ints) -> Bools:
        """Return the rows of tokens (n, d) that violate the rule (n,)."""
        low, high = (
            self.constant + sum(end[tokens[:, j]] for j, end in zip(self.columns, ends, strict=True))
            for ends in (self.least, self.greatest)
        )
        return np.asarray((low > self.tolerance) | (high < -self.tolerance))  # NaN, a missing term, violates nothing


ViolationCheck = ForbiddenTokens | UnbalancedSum


def violation_checks(rules: Rules, tokenizer: TableTokenizer) -> tuple[ViolationCheck, ...]:
    """Return the checks of all rules, without those about columns that have no tokenizer or that forbid no token."""
    checks: list[ViolationCheck] = []
    for rule in rules:
        if all(name in tokenizer.column_index for name in rule.columns):
            checks += [_sum_check(rule, tokenizer)] if isinstance(rule, Linear) else _token_checks(rule, tokenizer)
    return tuple(checks)


def _token_checks(rule: Rule, tokenizer: TableTokenizer) -> list[ViolationCheck]:
    """Return the tokens that a compiled rule forbids."""
    all_tokens = [np.ones(size, dtype=np.int64) for size in tokenizer.sizes]
    compiled = CompiledRules.compile(Rules((rule,)), tokenizer, range(len(all_tokens)), all_tokens)
    checks: list[ViolationCheck] = []
    for j in sorted({tokenizer.column_index[name] for name in rule.columns}):
        own = tokenizer.column_tokenizers[j]
        forbidden = ~compiled.allowed[j]
        if isinstance(own, NumberTokenizer):
            forbidden = forbidden | (own.high * own.unit < compiled.low[j]) | (own.low * own.unit > compiled.high[j])
        if forbidden.any():
            checks.append(ForbiddenTokens((j,), forbidden))
        checks += [ForbiddenTokens((i, j), ~table) for i, table in compiled.pairs[j] if i < j and not table.all()]
        checks += [ForbiddenTokens((i, j), table) for i in compiled.below[j] if (table := _certainly_above(tokenizer, i, j)).any()]
    return checks


def _certainly_above(tokenizer: TableTokenizer, lesser: int, greater: int) -> Bools:
    """Return where the least value of one number's bin lies above the greatest of another's (size, size)."""
    one, other = tokenizer.column_tokenizers[lesser], tokenizer.column_tokenizers[greater]
    if not isinstance(one, NumberTokenizer) or not isinstance(other, NumberTokenizer):
        return np.zeros((1, 1), dtype=bool)
    return np.asarray((one.low * one.unit)[:, None] > (other.high * other.unit)[None])


def _sum_check(rule: Linear, tokenizer: TableTokenizer) -> UnbalancedSum:
    columns, least, greatest = [], [], []
    for name, weight in (*rule.terms, (rule.column, -1.0)):
        columns.append(tokenizer.column_index[name])
        own = tokenizer.column_tokenizers[columns[-1]]
        ends = np.stack([own.low, own.high]) * (weight * own.unit) if isinstance(own, NumberTokenizer) else np.full((2, own.size), np.nan)
        least.append(ends.min(axis=0))
        greatest.append(ends.max(axis=0))
    return UnbalancedSum(tuple(columns), tuple(least), tuple(greatest), rule.constant, rule.tolerance)
