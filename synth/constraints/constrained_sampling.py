"""Constrained decoding: forbidden tokens are masked, numbers are sampled inside their bounds, sums and products
are set to what they require.

Rows that violate a rule all the same are found by the rules themselves afterwards, and sampled again: see ``FittedGenerator.sample``.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nearward.synth.constraints.compiled_rules import CompiledRules
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
        columns = rules.tokenizer.column_tokenizers
        self._unit = np.array([own.unit if isinstance(own, NumberTokenizer) else 1.0 for own in columns])
        self._never_missing = {j for j, allowed in enumerate(rules.allowed) if not allowed[0]}
        self.values: Floats = np.empty((0, len(columns)))
        self._tokens: Ints = np.empty((0, len(columns)), dtype=np.int64)

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
            self._tokens = np.full(self.values.shape, FREE)
            self._position = self._rng.random(self.values.shape)
            for j, number in self._conditions.items():
                self.values[:, j] = number
            self._generated = set(self._conditions)

    def allowed_tokens(self, column: int, tokens: Ints) -> Bools:
        """Return the tokens that a column may have (n, size); a row without any may have all, and violates a rule."""
        self._start(len(tokens))
        self._tokens = tokens
        rules, own = self._rules, self._rules.tokenizer.column_tokenizers[column]
        allowed = np.repeat(rules.allowed[column][None], len(tokens), axis=0)
        for other, table in rules.pairs[column]:
            generated = tokens[:, other] != FREE
            allowed[generated] &= table[tokens[generated, other]]
        if isinstance(own, NumberTokenizer) and len(own.bin_quantiles):
            low, high = self._bounds(column)
            if np.isfinite(low).any() or np.isfinite(high).any():
                allowed &= ~((own.high[None] < low[:, None]) | (own.low[None] > high[:, None]))  # NaN, missing, is never outside
        for bound in rules.bounds_where[column]:
            if bound.where == column:
                value = self.values[:, bound.column] * self._unit[bound.column]
                outside = (value < bound.low) | (value > bound.high)
                allowed[outside] &= ~bound.tokens
        for group in rules.exactly_one[column]:
            others = [j for j in group if j != column]
            unset = np.all([(tokens[:, j] > 0) & ~group[j][tokens[:, j]] for j in others], axis=0)  # generated, and another value
            allowed[unset] &= group[column]
        stuck = ~allowed.any(axis=1)
        allowed[stuck] = rules.allowed[column] if rules.allowed[column].any() else True
        return allowed

    def commit(self, column: int, tokens: Ints) -> Ints:
        """Sample the numbers of a column's tokens (n,) inside their bounds, and return the tokens of these numbers."""
        self._start(len(tokens))
        self._generated.add(column)
        own = self._rules.tokenizer.column_tokenizers[column]
        if isinstance(own, CategoryTokenizer) or column in self._conditions or not len(own.bin_quantiles):
            self._tokens[:, column] = tokens
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
        for identity in self._rules.identities[column]:
            if identity.last != column:
                continue
            units = self._unit[column]
            required = identity.required(self._in_rule_units) / units
            snapped = required if own.grid is None else own.grid.snap(required)
            deviation = identity.deviation(snapped * units, required * units, self._in_rule_units)
            required = np.where(deviation <= identity.tolerance, snapped, required)
            values = np.where(np.isnan(values) | np.isnan(required), values, required)
        self.values[:, column] = values
        self._tokens[:, column] = np.where(np.isnan(values), tokens, own.digitize(values))
        return self._tokens[:, column].copy()

    @property
    def _in_rule_units(self) -> Floats:
        """The numbers as rules read them (n, d): dates in days."""
        return np.asarray(self.values * self._unit)

    def _bounds(self, column: int) -> tuple[Floats, Floats]:
        """Return the least and the greatest value that a column may have in each row (n,)."""
        rules, n, values = self._rules, len(self.values), self._in_rule_units
        low, high = np.full(n, rules.low[column]), np.full(n, rules.high[column])
        for j in rules.below[column]:
            low = np.fmax(low, values[:, j])
        for j in rules.above[column]:
            high = np.fmin(high, values[:, j])
        for bound in rules.bounds_where[column]:
            if bound.column == column:
                generated = self._tokens[:, bound.where]
                applies = (generated != FREE) & bound.tokens[generated]
                low = np.where(applies, np.fmax(low, bound.low), low)
                high = np.where(applies, np.fmin(high, bound.high), high)
        for identity in rules.identities[column]:
            if identity.last != column:
                least, greatest = identity.bounds(column, values, self._generated, rules.low, rules.high, self._never_missing)
                low, high = np.fmax(low, least), np.fmin(high, greatest)
        return low / self._unit[column], high / self._unit[column]
