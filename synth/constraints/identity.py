"""Identities between numbers of a row: what the number generated last must be, and the bounds that this sets to the others.

A sum is constant + Σ weight × value = 0. A product is the same of logarithms. The weight of the column that the rule is about is −1.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from nearward.tabular.rules.kinds import Linear, Product
from nearward.tabular.typing import Floats


@dataclass(frozen=True)
class Identity:
    """An identity of a row.

    Parameters
    ----------
    weights : dict of column -> weight
    constant : float
    tolerance : float
        In the unit of ``total``.
    total : int
        The column that the rule is about.
    last : int
        The column that is generated last, and set to what the others require.
    is_product : bool
    """

    weights: Mapping[int, float]
    constant: float
    tolerance: float
    total: int
    last: int
    is_product: bool = False

    @classmethod
    def of(cls, rule: Linear | Product, index: Mapping[str, int], step: Mapping[int, int]) -> Identity:
        """Return the identity of a rule; ``step`` says when each column is generated."""
        is_product = isinstance(rule, Product)
        terms = rule.powers if isinstance(rule, Product) else rule.terms
        constant = float(np.log(rule.factor)) if isinstance(rule, Product) else rule.constant
        weights = {index[name]: weight for name, weight in terms} | {index[rule.column]: -1.0}
        last = max((index[name] for name in rule.columns), key=lambda j: step[j])
        return cls(weights, constant, rule.tolerance, index[rule.column], last, is_product)

    def required(self, values: Floats) -> Floats:
        """Return what the last column must be (n,), given the values (n, d) of the others; NaN where one of them is missing."""
        others = [weight * self._scale(values[:, j]) for j, weight in self.weights.items() if j != self.last]
        return self._unscale(-(self.constant + np.sum(others, axis=0)) / self.weights[self.last])

    def deviation(self, last: Floats, required: Floats, values: Floats) -> Floats:
        """Return by how much the identity fails (n,), in the unit of the total, where the last column is ``last`` (n,)."""
        weight = self.weights[self.last]
        if not self.is_product or self.last == self.total:
            return np.asarray(np.abs(last - required) * abs(weight))
        return np.asarray(np.abs(values[:, self.total] * ((last / required) ** weight - 1)))

    def bounds(
        self, column: int, values: Floats, generated: Collection[int], low: Floats, high: Floats, never_missing: Collection[int]
    ) -> tuple[Floats, Floats]:
        """Return the bounds of a term (n,) within which the identity can still be met; NaN where another term is or may be missing.

        Parameters
        ----------
        column : int
        values : (n, d)
        generated : columns that have their value
        low, high : (d,), bounds of those that do not
        never_missing : columns
        """
        rest = np.full((2, len(values)), self.constant)
        for j, weight in self.weights.items():
            if j == column:
                continue
            reach = (low[j], high[j]) if j in never_missing else (np.nan, np.nan)
            ends = [values[:, j]] * 2 if j in generated else [np.full(len(values), end) for end in reach]
            rest += np.sort(weight * np.stack([self._scale(end) for end in ends]), axis=0)
        bounds = np.sort(-rest / self.weights[column], axis=0)
        return self._unscale(bounds[0]), self._unscale(bounds[1])

    def _scale(self, values: Floats) -> Floats:
        if not self.is_product:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(values == -np.inf, -np.inf, np.log(values)))

    def _unscale(self, values: Floats) -> Floats:
        return np.asarray(np.exp(values)) if self.is_product else values
