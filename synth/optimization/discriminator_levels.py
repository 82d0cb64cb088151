"""The four critics, each at a grain of its own: how much likelier a synthetic row's parts are among real rows, as clipped log ratios.

*token*: a cell given its parent in a Chow–Liu tree. *sentence*, "column is value": a cell alone, and whether anybody has it at all.
*feature*: the columns of one group, those of a mined rule or of a strong association; what breaks a hard rule has the clip's worst
besides. *row*: the whole row. The word "sentence" is
DISCO-TAB's; what each level reckons is ours.

Every level scores where a row is written: at the cell itself, at a group's last column, at the row's last column.

Letters: n rows, d columns, g groups.

References
----------
Chow and Liu: Approximating discrete probability distributions with dependence trees (1968).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearward.synth.constraints.violations import ViolationCheck
from nearward.synth.tokenizer.dependence import chow_liu_tree, coarse_lookup, mutual_information
from nearward.tabular.ensemble.trees import Forest, boosted_trees
from nearward.tabular.typing import Floats, Ints

CLIP = 5.0  # no cell, group or row says more than a factor of 150 for or against
_LAPLACE = 0.5
_ROW_TREES = {"max_iter": 80, "learning_rate": 0.07, "max_leaf_nodes": 12, "min_samples_leaf": 20, "l2_regularization": 1.0}
_GROUP_TREES = {"max_iter": 40, "learning_rate": 0.1, "max_leaf_nodes": 6, "min_samples_leaf": 20, "l2_regularization": 1.0}


@dataclass(frozen=True)
class Shape:
    """What all levels know of the table.

    Parameters
    ----------
    sizes : (d,), tokens of each column
    order : (d,), columns in the order they are written
    joined : d arrays (size,), the coarse token that each token becomes
    seen : d arrays (size,) of bool, tokens that some learned row has
    groups : g tuples of columns
    violation_checks : what hard rules forbid
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    joined: tuple[Ints, ...]
    seen: tuple[NDArray[np.bool_], ...]
    groups: tuple[tuple[int, ...], ...]
    violation_checks: tuple[ViolationCheck, ...] = ()

    @classmethod
    def of(
        cls,
        rows: Sequence[Ints],
        order: Sequence[int],
        groups: Sequence[Sequence[int]] = (),
        violation_checks: Sequence[ViolationCheck] = (),
    ) -> Shape:
        """Take the shape from how many learned rows have each token of each column."""
        return cls(
            tuple(len(count) for count in rows),
            tuple(order),
            tuple(coarse_lookup(count) for count in rows),
            tuple(count > 0 for count in rows),
            tuple(tuple(group) for group in groups),
            tuple(violation_checks),
        )

    def coarse(self, tokens: Ints) -> Ints:
        """Join neighbouring tokens (n, d)."""
        return np.stack([table[tokens[:, j]] for j, table in enumerate(self.joined)], axis=1)

    def last(self, group: Sequence[int]) -> int:
        """Return the column of a group that is written last."""
        place = np.argsort(self.order)
        return max(group, key=lambda j: int(place[j]))


@dataclass(frozen=True)
class TokenLevel:
    """log p_real(cell | parent) − log p_made(cell | parent).

    Parameters
    ----------
    parents : (d,), each column's parent; the root's is itself
    ratios : d arrays (coarse tokens of the parent, of the column)
    """

    parents: Ints
    ratios: tuple[Floats, ...]

    @classmethod
    def fit(cls, shape: Shape, real: Ints, made: Ints) -> TokenLevel:
        """Count the cells of real and of made rows (n, d), both coarse."""
        sizes = [int(table.max()) + 1 for table in shape.joined]
        edges = chow_liu_tree(mutual_information(real, sizes), shape.order[0])
        parents = np.empty(len(sizes), dtype=np.int64)
        for j, parent in edges:
            parents[j] = parent
        ratios = tuple(
            _conditional(real, j, int(parents[j]), sizes) - _conditional(made, j, int(parents[j]), sizes) for j in range(len(sizes))
        )
        return cls(parents, ratios)

    def scores(self, shape: Shape, tokens: Ints, coarse: Ints) -> Floats:
        """Score cells (n, d)."""
        out = np.empty(tokens.shape)
        for j, ratio in enumerate(self.ratios):
            out[:, j] = ratio[coarse[:, self.parents[j]], coarse[:, j]]
        return out.clip(-CLIP, CLIP)


@dataclass(frozen=True)
class SentenceLevel:
    """log p_real(cell) − log p_made(cell), and the clip's worst where no learned row has such a cell or a rule about it is broken.

    Parameters
    ----------
    ratios : d arrays (coarse tokens of the column,)
    """

    ratios: tuple[Floats, ...]

    @classmethod
    def fit(cls, shape: Shape, real: Ints, made: Ints) -> SentenceLevel:
        """Count the cells of real and of made rows (n, d), both coarse."""
        sizes = [int(table.max()) + 1 for table in shape.joined]
        return cls(tuple(_share(real[:, j], size) - _share(made[:, j], size) for j, size in enumerate(sizes)))

    def scores(self, shape: Shape, tokens: Ints, coarse: Ints) -> Floats:
        """Score cells (n, d)."""
        out = np.empty(tokens.shape)
        for j, ratio in enumerate(self.ratios):
            out[:, j] = np.where(shape.seen[j][tokens[:, j]], ratio[coarse[:, j]], -CLIP)
        for breach in shape.violation_checks:
            if len(breach.columns) == 1:
                out[breach.violated(tokens), breach.columns[0]] = -CLIP
        return out.clip(-CLIP, CLIP)


@dataclass(frozen=True)
class FeatureLevel:
    """Log-odds of a small classifier on the columns of each group: forests, one a group; and the clip's worst where a rule is broken."""

    forests: tuple[Forest, ...]

    @classmethod
    def fit(cls, shape: Shape, real: Ints, made: Ints, seed: int) -> FeatureLevel:
        """Grow a forest a group on real and made rows (n, d), both coarse."""
        return cls(tuple(_told_apart(real[:, group], made[:, group], seed, _GROUP_TREES) for group in map(list, shape.groups)))

    def scores(self, shape: Shape, tokens: Ints, coarse: Ints) -> Floats:
        """Score groups and hard rules at their last columns (n, d)."""
        out = np.zeros(tokens.shape)
        for forest, group in zip(self.forests, shape.groups, strict=True):
            out[:, shape.last(group)] += forest.scores(coarse[:, list(group)].astype(np.float32)).clip(-CLIP, CLIP)
        for breach in shape.violation_checks:
            if len(breach.columns) > 1:
                out[:, shape.last(breach.columns)] -= CLIP * breach.violated(tokens)
        return out


@dataclass(frozen=True)
class RowLevel:
    """Log-odds of a classifier on the whole row."""

    forest: Forest

    @classmethod
    def fit(cls, shape: Shape, real: Ints, made: Ints, seed: int) -> RowLevel:
        """Grow a forest on real and made rows (n, d), tokens as they are."""
        return cls(_told_apart(real, made, seed, _ROW_TREES))

    def scores(self, shape: Shape, tokens: Ints, coarse: Ints) -> Floats:
        """Score rows at their last column (n, d)."""
        out = np.zeros(tokens.shape)
        out[:, shape.order[-1]] = self.forest.scores(tokens.astype(np.float32)).clip(-CLIP, CLIP)
        return out


Level = TokenLevel | SentenceLevel | FeatureLevel | RowLevel


def _told_apart(real: Ints, made: Ints, seed: int, how: dict[str, float]) -> Forest:
    """Grow trees on the log-odds of being real; as many rows of either side, so that 0 is even."""
    n = min(len(real), len(made))
    draw = np.random.default_rng(seed)
    sides = [side[np.sort(draw.permutation(len(side))[:n])] for side in (real, made)]
    outcome = np.repeat([1, 0], n)
    return boosted_trees(np.concatenate(sides).astype(np.float32), outcome, seed, **how)


def _conditional(tokens: Ints, column: int, parent: int, sizes: list[int]) -> Floats:
    """Log share of each cell given its parent's (parent's tokens, column's tokens), Laplace 1/2; the root's is its own."""
    if column == parent:
        return np.repeat(_share(tokens[:, column], sizes[column])[None], sizes[column], axis=0)
    both = np.bincount(tokens[:, parent] * sizes[column] + tokens[:, column], minlength=sizes[parent] * sizes[column])
    table = both.reshape(sizes[parent], sizes[column]) + _LAPLACE
    return np.asarray(np.log(table / table.sum(axis=1, keepdims=True)))


def _share(tokens: Ints, size: int) -> Floats:
    count = np.bincount(tokens, minlength=size) + _LAPLACE
    return np.asarray(np.log(count / count.sum()))
