"""Constrained decoding: forbidden tokens are masked, numbers are sampled inside their bounds, sums are set to what they require.

Rows that violate a rule all the same are found by the rules themselves afterwards, and sampled again: see ``FittedGenerator.sample``.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nearward.synth.constraints.compiled_rules import CompiledRules, Sum
from nearward.synth.policy.autoregressive import FREE
from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.tabular.typing import Bools, Floats, Ints


class ConstrainedDecoder:
    """A ``DecodingConstraint`` of compiled rules, which also samples the numbers of a batch of rows.

    Parameters
    ----------
    rules : CompiledRules
    seed : int, of the numbers' positions inside their bins
    conditions : dict of column -> number, NaN for missing

    Attributes
    ----------
    values : (n, d), the numbers sampled, NaN for missing and for categories
    """

    def __init__(self, rules: CompiledRules, seed: int, conditions: Mapping[int, float]) -> None:
        self._rules, self._conditions = rules, dict(conditions)
        self._rng = np.random.default_rng(seed)
        self.values: Floats = np.empty((0, len(rules.tokenizer.column_tokenizers)))

    @classmethod
    def of_complete_rows(cls, rules: CompiledRules, values: Floats) -> ConstrainedDecoder:
        """Return the constraint on any one column of complete rows (n, d), given all others."""
        decoder = cls(rules, 0, {})
        decoder.values, decoder._generated = values, set(range(values.shape[1]))
        return decoder

    def _start(self, n: int) -> None:
        """Allocate the batch, whose size is known when its first column is generated."""
        if len(self.values) != n:
            self.values = np.full((n, self.values.shape[1]), np.nan)
            self._position = self._rng.random(self.values.shape)
            for j, number in self._conditions.items():
                self.values[:, j] = number
            self._generated = set(self._conditions)

    def allowed_tokens(self, column: int, tokens: Ints) -> Bools:
        """Return the tokens that a column may have (n, size); a row without any may have all, and violates a rule."""
        self._start(len(tokens))
        rules, own = self._rules, self._rules.tokenizer.column_tokenizers[column]
        allowed = np.repeat(rules.allowed[column][None], len(tokens), axis=0)
        for other, table in rules.pairs[column]:
            generated = tokens[:, other] != FREE
            allowed[generated] &= table[tokens[generated, other]]
        if isinstance(own, NumberTokenizer) and len(own.bin_quantiles):
            low, high = self._bounds(column)
            if np.isfinite(low).any() or np.isfinite(high).any():
                allowed &= ~((own.high[None] < low[:, None]) | (own.low[None] > high[:, None]))  # NaN, missing, is never outside
        stuck = ~allowed.any(axis=1)
        allowed[stuck] = rules.allowed[column] if rules.allowed[column].any() else True
        return allowed

    def commit(self, column: int, tokens: Ints) -> Ints:
        """Sample the numbers of a column's tokens (n,) inside their bounds, and return the tokens of these numbers."""
        self._start(len(tokens))
        self._generated.add(column)
        own = self._rules.tokenizer.column_tokenizers[column]
        if isinstance(own, CategoryTokenizer) or column in self._conditions or not len(own.bin_quantiles):
            return tokens
        values = own.values(tokens, self._position[:, column])
        low, high = self._bounds(column)
        outside = (values < low) | (values > high)
        if outside.any():
            bin_index = (tokens - 1).clip(0)
            start = np.maximum(low, own.bin_quantiles[bin_index, 0])[outside]
            end = np.minimum(high, own.bin_quantiles[bin_index, -1])[outside]
            inside = start + self._position[outside, column] * (end - start)
            values[outside] = inside if own.grid is None else own.grid.snap(inside).clip(own.grid.up(start), own.grid.down(end))
        for identity in self._rules.sums[column]:
            if identity.last != column:
                continue
            weight = identity.weights[column]
            others = [w * self.values[:, j] for j, w in identity.weights.items() if j != column]
            required = -(identity.constant + np.sum(others, axis=0)) / weight
            snapped = required if own.grid is None else own.grid.snap(required)
            required = np.where(np.abs(snapped - required) * abs(weight) <= identity.tolerance, snapped, required)
            values = np.where(np.isnan(values) | np.isnan(required), values, required)
        self.values[:, column] = values
        return np.where(np.isnan(values), tokens, own.digitize(values))

    def _bounds(self, column: int) -> tuple[Floats, Floats]:
        """Return the least and the greatest value that a column may have in each row (n,)."""
        rules, n = self._rules, len(self.values)
        low, high = np.full(n, rules.low[column]), np.full(n, rules.high[column])
        for j in rules.below[column]:
            low = np.fmax(low, self.values[:, j])
        for j in rules.above[column]:
            high = np.fmin(high, self.values[:, j])
        for identity in rules.sums[column]:
            if identity.last != column:
                least, greatest = self._term_bounds(identity, column)
                low, high = np.fmax(low, least), np.fmin(high, greatest)
        return low, high

    def _term_bounds(self, identity: Sum, column: int) -> tuple[Floats, Floats]:
        """Return the bounds of a term (n,) within which its sum can still be met; NaN where another term is or may be missing."""
        rules, n = self._rules, len(self.values)
        rest = np.full((2, n), identity.constant)
        for j, weight in identity.weights.items():
            if j == column:
                continue
            reach = (np.nan, np.nan) if rules.allowed[j][0] else (rules.low[j], rules.high[j])
            ends = [self.values[:, j]] * 2 if j in self._generated else [np.full(n, end) for end in reach]
            rest += np.sort(weight * np.stack(ends), axis=0)
        bounds = np.sort(-rest / identity.weights[column], axis=0)
        return bounds[0], bounds[1]
