"""Keeps hard rules while a row is written: tokens that would break one are masked, numbers drawn inside what is left, sums repaired.

What that cannot foresee is found by the rules themselves afterwards, and drawn again: see ``Synthesizer.sample``.

Letters: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nearward.synth.constraints.compiled_rules import CompiledRules, Sum
from nearward.synth.policy.autoregressive import FREE
from nearward.synth.tokenizer.column_tokenizers import CategoryTokenizer, NumberTokenizer
from nearward.tabular.typing import Bools, Floats, Ints


class ConstrainedDecoder:
    """Writes a batch of rows by the book (``nearward.synth.policy.autoregressive.Limits``), and holds their numbers.

    Parameters
    ----------
    book : RuleBook
    seed : int, of the numbers' places inside their cells
    asked : dict of column -> number, conditions on numbers
    """

    def __init__(self, book: CompiledRules, seed: int, asked: Mapping[int, float]) -> None:
        self._book, self._asked = book, dict(asked)
        self._draw = np.random.default_rng(seed)
        self.values = np.empty((0, len(book.tokens.column_tokenizers)))

    @classmethod
    def of_written(cls, book: CompiledRules, values: Floats) -> ConstrainedDecoder:
        """Return the keeper of rows (n, d) that are written: what may stand in one column, the others being as they are."""
        keeper = cls(book, 0, {})
        keeper.values, keeper._known = values, set(range(values.shape[1]))
        return keeper

    def _begin(self, n: int) -> None:
        """Make room for the batch, whose size is known when its first column is written."""
        if len(self.values) != n:
            self.values = np.full((n, self.values.shape[1]), np.nan)
            self._inside = self._draw.random(self.values.shape)
            for j, number in self._asked.items():
                self.values[:, j] = number
            self._known = set(self._asked)

    def allowed_tokens(self, column: int, tokens: Ints) -> Bools:
        """Return which tokens (n, size) of a column the rows may have; rows that no token fits have all, and break a rule."""
        self._begin(len(tokens))
        book, own = self._book, self._book.tokens.column_tokenizers[column]
        may = np.repeat(book.alone[column][None], len(tokens), axis=0)
        for other, table in book.pairs[column]:
            there = tokens[:, other] != FREE
            may[there] &= table[tokens[there, other]]
        if isinstance(own, NumberTokenizer) and len(own.bin_quantiles):
            low, high = self._bounds(column)
            if np.isfinite(low).any() or np.isfinite(high).any():
                may &= ~((own.high[None] < low[:, None]) | (own.low[None] > high[:, None]))  # nan, missing, is never outside
        stuck = ~may.any(axis=1)
        may[stuck] = book.alone[column] if book.alone[column].any() else True
        return may

    def commit(self, column: int, tokens: Ints) -> Ints:
        """Give a column's drawn tokens (n,) their numbers, and return the tokens of these."""
        self._begin(len(tokens))
        self._known.add(column)
        own = self._book.tokens.column_tokenizers[column]
        if isinstance(own, CategoryTokenizer) or column in self._asked or not len(own.bin_quantiles):
            return tokens
        values = own.values(tokens, self._inside[:, column])
        low, high = self._bounds(column)
        outside = (values < low) | (values > high)
        if outside.any():
            cell = (tokens - 1).clip(0)
            start, end = np.maximum(low, own.bin_quantiles[cell, 0])[outside], np.minimum(high, own.bin_quantiles[cell, -1])[outside]
            inner = start + self._inside[outside, column] * (end - start)
            values[outside] = inner if own.grid is None else own.grid.snap(inner).clip(own.grid.up(start), own.grid.down(end))
        for one in self._book.sums[column]:
            if one.last != column:
                continue
            mine = one.weights[column]
            others = [weight * self.values[:, j] for j, weight in one.weights.items() if j != column]
            due = -(one.constant + np.sum(others, axis=0)) / mine
            snapped = due if own.grid is None else own.grid.snap(due)
            due = np.where(np.abs(snapped - due) * abs(mine) <= one.tolerance, snapped, due)
            values = np.where(np.isnan(values) | np.isnan(due), values, due)
        self.values[:, column] = values
        return np.where(np.isnan(values), tokens, own.digitize(values))

    def _bounds(self, column: int) -> tuple[Floats, Floats]:
        """Return the least and the greatest value that a column's rows may have (n,)."""
        book, n = self._book, len(self.values)
        low, high = np.full(n, book.low[column]), np.full(n, book.high[column])
        for j in book.below[column]:
            low = np.fmax(low, self.values[:, j])
        for j in book.above[column]:
            high = np.fmin(high, self.values[:, j])
        for one in book.sums[column]:
            if one.last != column:
                least, greatest = self._room(one, column)
                low, high = np.fmax(low, least), np.fmin(high, greatest)
        return low, high

    def _room(self, one: Sum, column: int) -> tuple[Floats, Floats]:
        """Return between which values of a term (n,) its sum can still come out; NaN where one is missing, or may be: then any will do."""
        n, book = len(self.values), self._book
        rest = np.full((2, n), one.constant)
        for j, weight in one.weights.items():
            if j == column:
                continue
            reach = (np.nan, np.nan) if book.alone[j][0] else (book.low[j], book.high[j])
            ends = [self.values[:, j]] * 2 if j in self._known else [np.full(n, end) for end in reach]
            rest += np.sort(weight * np.stack(ends), axis=0)
        bounds = np.sort(-rest / one.weights[column], axis=0)
        return bounds[0], bounds[1]
