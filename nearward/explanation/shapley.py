"""Shapley values of one row by sampled permutations, in antithetic pairs, of any function of a frame.

For a permutation of the columns and a donor (a row of the reference), the columns of the donor are exchanged for the row's own one by one;
a column's marginal contribution is the change of the function at its turn. The antithetic permutation, the same in reverse order with the
same donor, has errors of the opposite sign. Marginal contributions of a permutation telescope: they sum to the function of the row less
that of the donor, whatever the sample.

Shapes: d columns, p pairs of permutations, c outputs of the function, q rows to be evaluated.

References
----------
Strumbelj and Kononenko: Explaining prediction models and individual predictions with feature contributions (2014).
Mitchell, Cooper, Frank and Holmes: Sampling permutations for Shapley value estimation (2022), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.tabular.typing import Bools, Floats, Ints

_MOST_ROWS = 8192  # evaluated at a time


@dataclass(frozen=True)
class ShapleyValues:
    """Contributions of the columns of one row.

    Parameters
    ----------
    value, se : (d, c)
        Shapley values, and their Monte Carlo standard errors over the pairs.
    reference, reference_se : (c,)
        Mean of the function over the donors; ``reference + value.sum(0)`` is the function of the row.
    """

    value: Floats
    se: Floats
    reference: Floats
    reference_se: Floats


def shapley_values(
    predict: Callable[[pl.DataFrame], Floats], row: pl.DataFrame, donors: pl.DataFrame, rng: np.random.Generator
) -> ShapleyValues:
    """Estimate the contribution of each column of a row.

    Parameters
    ----------
    predict : callable
        Takes a frame of q rows with the columns of ``row``, returns (q, c).
    row : one row, d columns
    donors : p rows with the same columns, at least 2
        A sample of the reference: one pair of permutations for each. Missing values are values like others.
    rng : numpy generator

    Examples
    --------
    >>> rows = pl.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 1.0, 1.0]})
    >>> values = shapley_values(lambda f: f.to_numpy() @ [[2.0], [5.0]], rows[2:], rows[:2], np.random.default_rng(0))
    >>> values.value.ravel().tolist(), values.reference.tolist()
    ([3.0, 0.0], [6.0])
    """
    pairs, columns = donors.height, row.width
    differs = np.column_stack([~donor.eq_missing(own.new_from_index(0, pairs)).to_numpy() for own, donor in _columns(row, donors)])
    order = np.argsort(rng.random((pairs, columns)), axis=1)  # (p, d)
    marginal, start = [], []
    for first, masks in _masks(order, differs):
        unique, index = np.unique(np.concatenate(masks), axis=0, return_inverse=True)
        outputs = predict(_exchange(row, donors, unique))[index.reshape(-1)]  # (sum of rows, c)
        for at, values in enumerate(outputs.reshape(len(masks), 2, columns + 1, -1)):
            forward, backward = np.diff(values, axis=1)
            changes = np.empty_like(forward)
            changes[order[first + at]] = forward / 2
            changes[order[first + at, ::-1]] += backward / 2
            marginal.append(changes)
            start.append(values[0, 0])
    value, se = _mean_and_error(np.stack(marginal))
    return ShapleyValues(value, se, *_mean_and_error(np.stack(start)))


def _columns(row: pl.DataFrame, donors: pl.DataFrame) -> Iterator[tuple[pl.Series, pl.Series]]:
    yield from zip(row.iter_columns(), donors.select(row.columns).iter_columns(), strict=True)


def _masks(order: Ints, differs: Bools) -> Iterator[tuple[int, list[Ints]]]:
    """Yield some pairs at a time: the first one's number, and for each the donor of every cell (2 (d + 1), d), 0 for the row's own value.

    A cell that is equal in row and donor counts as the row's own, so that rows which do not differ are evaluated once.
    """
    pairs, columns = order.shape
    at_a_time = max(1, _MOST_ROWS // (2 * (columns + 1)))
    turn = np.arange(columns + 1)[:, None]
    for first in range(0, pairs, at_a_time):
        masks = []
        for pair in range(first, min(first + at_a_time, pairs)):
            rank = np.empty(columns, dtype=np.int64)
            rank[order[pair]] = np.arange(columns)
            from_donor = np.concatenate([rank >= turn, columns - 1 - rank >= turn]) & differs[pair]  # step t: the first t are the row's own
            masks.append(np.where(from_donor, pair + 1, 0))
        yield first, masks


def _exchange(row: pl.DataFrame, donors: pl.DataFrame, source: Ints) -> pl.DataFrame:
    """Return a frame (q, d) whose cells come from the row (source 0) or from a donor (its number from 1)."""
    return pl.DataFrame([pl.concat([own, donor]).gather(source[:, j]) for j, (own, donor) in enumerate(_columns(row, donors))])


def _mean_and_error(values: Floats) -> tuple[Floats, Floats]:
    """Return the mean over the pairs (first axis), and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
