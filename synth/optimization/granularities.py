"""Discriminators of four granularities: clipped log ratios of the probabilities of parts of a row among real and among synthetic rows.

*token*: a cell given its parent in a Chow–Liu tree. *sentence*, "column is value": a cell alone, the lowest score if no training row has
it. *feature*: the columns of one group, those of a mined rule or of a strong association; a violated hard rule gets the lowest score in
addition. *row*: the whole row. The word "sentence" is DISCO-TAB's; the scores are ours.

Each scores the step that completes its part: the cell itself, a group's last column, the row's last column.

Shapes: n rows, d columns, g groups.

References
----------
Chow and Liu: Approximating discrete probability distributions with dependence trees (1968).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearward.synth.constraints.violations import ViolationCheck
from nearward.synth.tokenizer.dependence import chow_liu_tree, coarse_lookup, mutual_information
from nearward.tabular.ensemble.boosting import boosted_trees
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.typing import Bools, Floats, Ints

CLIP = 5.0  # log ratio: at most a factor of 150
_SMOOTHING = 0.5
_ROW_TREES = {"num_iterations": 80, "learning_rate": 0.07, "num_leaves": 12, "min_data_in_leaf": 20, "lambda_l2": 1.0}
_GROUP_TREES = {"num_iterations": 40, "learning_rate": 0.1, "num_leaves": 6, "min_data_in_leaf": 20, "lambda_l2": 1.0}


@dataclass(frozen=True)
class TableShape:
    """Columns, order and groups of a tokenized table.

    Parameters
    ----------
    sizes : (d,), tokens of each column
    order : (d,), columns in the order they are sampled
    coarse_tokens : d arrays (size,), coarse token of each token
    observed : d arrays (size,) of bool, tokens that some training row has
    column_groups : g tuples of columns
    violation_checks : checks of the hard rules
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    coarse_tokens: tuple[Ints, ...]
    observed: tuple[Bools, ...]
    column_groups: tuple[tuple[int, ...], ...]
    violation_checks: tuple[ViolationCheck, ...] = ()

    @classmethod
    def of(
        cls,
        token_counts: Sequence[Ints],
        order: Sequence[int],
        column_groups: Sequence[Sequence[int]] = (),
        violation_checks: Sequence[ViolationCheck] = (),
    ) -> TableShape:
        """Return the shape, given the numbers of training rows with each token of each column."""
        return cls(
            tuple(len(count) for count in token_counts),
            tuple(order),
            tuple(coarse_lookup(count) for count in token_counts),
            tuple(count > 0 for count in token_counts),
            tuple(tuple(group) for group in column_groups),
            tuple(violation_checks),
        )

    def coarse(self, tokens: Ints) -> Ints:
        """Merge neighbouring tokens (n, d)."""
        return np.stack([table[tokens[:, j]] for j, table in enumerate(self.coarse_tokens)], axis=1)

    def last(self, group: Sequence[int]) -> int:
        """Return the column of a group that is sampled last."""
        step = np.argsort(self.order)
        return max(group, key=lambda j: int(step[j]))


@dataclass(frozen=True)
class TokenDiscriminator:
    """log p_real(cell | parent) − log p_synthetic(cell | parent).

    Parameters
    ----------
    parents : (d,), each column's parent; the root's is itself
    ratios : d arrays (coarse tokens of the parent, of the column)
    """

    parents: Ints
    ratios: tuple[Floats, ...]

    @classmethod
    def fit(cls, shape: TableShape, real: Ints, synthetic: Ints) -> TokenDiscriminator:
        """Count the cells of real and of synthetic rows (n, d), both coarse."""
        sizes = [int(table.max()) + 1 for table in shape.coarse_tokens]
        edges = chow_liu_tree(mutual_information(real, sizes), shape.order[0])
        parents = np.empty(len(sizes), dtype=np.int64)
        for j, parent in edges:
            parents[j] = parent
        log_shares = [[_conditional_log_share(rows, j, int(parents[j]), sizes) for j in range(len(sizes))] for rows in (real, synthetic)]
        return cls(parents, tuple(first - second for first, second in zip(*log_shares, strict=True)))

    def scores(self, shape: TableShape, tokens: Ints, coarse: Ints) -> Floats:
        """Score cells (n, d)."""
        out = np.empty(tokens.shape)
        for j, ratio in enumerate(self.ratios):
            out[:, j] = ratio[coarse[:, self.parents[j]], coarse[:, j]]
        return out.clip(-CLIP, CLIP)


@dataclass(frozen=True)
class SentenceDiscriminator:
    """log p_real(cell) − log p_synthetic(cell), the lowest score where no training row has such a cell or the cell violates a rule.

    Parameters
    ----------
    ratios : d arrays (coarse tokens of the column,)
    """

    ratios: tuple[Floats, ...]

    @classmethod
    def fit(cls, shape: TableShape, real: Ints, synthetic: Ints) -> SentenceDiscriminator:
        """Count the cells of real and of synthetic rows (n, d), both coarse."""
        sizes = [int(table.max()) + 1 for table in shape.coarse_tokens]
        return cls(tuple(_log_share(real[:, j], size) - _log_share(synthetic[:, j], size) for j, size in enumerate(sizes)))

    def scores(self, shape: TableShape, tokens: Ints, coarse: Ints) -> Floats:
        """Score cells (n, d)."""
        out = np.empty(tokens.shape)
        for j, ratio in enumerate(self.ratios):
            out[:, j] = np.where(shape.observed[j][tokens[:, j]], ratio[coarse[:, j]], -CLIP)
        for check in shape.violation_checks:
            if len(check.columns) == 1:
                out[check.violated(tokens), check.columns[0]] = -CLIP
        return out.clip(-CLIP, CLIP)


@dataclass(frozen=True)
class FeatureDiscriminator:
    """Log-odds of a small classifier on the columns of each group; the lowest score is added where a rule is violated."""

    forests: tuple[Forest, ...]

    @classmethod
    def fit(cls, shape: TableShape, real: Ints, synthetic: Ints, seed: int) -> FeatureDiscriminator:
        """Fit boosted trees for each group on real and synthetic rows (n, d), both coarse."""
        return cls(tuple(_fit_trees(real[:, group], synthetic[:, group], seed, _GROUP_TREES) for group in map(list, shape.column_groups)))

    def scores(self, shape: TableShape, tokens: Ints, coarse: Ints) -> Floats:
        """Score groups and hard rules at their last columns (n, d)."""
        out = np.zeros(tokens.shape)
        for forest, group in zip(self.forests, shape.column_groups, strict=True):
            out[:, shape.last(group)] += forest.scores(coarse[:, list(group)].astype(np.float32)).clip(-CLIP, CLIP)
        for check in shape.violation_checks:
            if len(check.columns) > 1:
                out[:, shape.last(check.columns)] -= CLIP * check.violated(tokens)
        return out


@dataclass(frozen=True)
class RowDiscriminator:
    """Log-odds of a classifier on the whole row."""

    forest: Forest

    @classmethod
    def fit(cls, shape: TableShape, real: Ints, synthetic: Ints, seed: int) -> RowDiscriminator:
        """Fit boosted trees on real and synthetic rows (n, d), tokens as they are."""
        return cls(_fit_trees(real, synthetic, seed, _ROW_TREES))

    def scores(self, shape: TableShape, tokens: Ints, coarse: Ints) -> Floats:
        """Score rows at their last column (n, d)."""
        out = np.zeros(tokens.shape)
        out[:, shape.order[-1]] = self.forest.scores(tokens.astype(np.float32)).clip(-CLIP, CLIP)
        return out


Granularity = TokenDiscriminator | SentenceDiscriminator | FeatureDiscriminator | RowDiscriminator


def _fit_trees(real: Ints, synthetic: Ints, seed: int, settings: dict[str, float]) -> Forest:
    """Fit the log-odds of being real, on as many real as synthetic rows, so that 0 is even odds."""
    n = min(len(real), len(synthetic))
    rng = np.random.default_rng(seed)
    rows = [table[np.sort(rng.permutation(len(table))[:n])] for table in (real, synthetic)]
    return boosted_trees(np.concatenate(rows).astype(np.float32), np.repeat([1, 0], n), seed, settings)[0]


def _conditional_log_share(tokens: Ints, column: int, parent: int, sizes: list[int]) -> Floats:
    """Log share of each token given its parent's (parent's tokens, column's tokens), smoothed by 1/2; unconditional for the root."""
    if column == parent:
        return np.repeat(_log_share(tokens[:, column], sizes[column])[None], sizes[column], axis=0)
    counts = np.bincount(tokens[:, parent] * sizes[column] + tokens[:, column], minlength=sizes[parent] * sizes[column])
    table = counts.reshape(sizes[parent], sizes[column]) + _SMOOTHING
    return np.asarray(np.log(table / table.sum(axis=1, keepdims=True)))


def _log_share(tokens: Ints, size: int) -> Floats:
    count = np.bincount(tokens, minlength=size) + _SMOOTHING
    return np.asarray(np.log(count / count.sum()))
