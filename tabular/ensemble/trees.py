"""Ensembles of decision trees as plain arrays, scored by numpy alone: nothing is pickled, loading executes no code.

A tree of at most 64 leaves is scored without walking it. Leaves are numbered from left to right; each condition that sends a row to the
right rules out the leaves to its left; the row's leaf is the first that is left. Conditions are evaluated for many rows and trees at once.

Shapes: q query rows, t tree columns, m nodes of all trees together, k trees.

References: Lucchese et al.: QuickScorer, a fast algorithm to rank documents with additive ensembles of regression trees (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.parallel import cpu_count
from nearward.tabular.typing import Bools, Floats, Floats32, Ints

LEAF = -1
MOST_LEAVES = 64  # of a tree: the bits of an integer
_BLOCK_CELLS = 50_000  # trees times rows that are scored at once: arrays of this size stay in a core's cache
_FEWEST_ROWS, _MOST_ROWS = 16, 1024  # of a block; a single row would be summed in another order than many


@dataclass(frozen=True)
class Forest:
    """Trees whose leaf values are summed.

    Parameters
    ----------
    start : (k + 1,), first node of each tree
    feature : (m,), column split at a node; -1 at a leaf
    threshold : (m,), left where value <= threshold
    left, right : (m,), child nodes, counted from the tree's first
    missing_left : (m,), whether a missing value goes left
    value : (m,), added by a leaf
    base : float, added to every score
    columns : int, t
    """

    start: Ints
    feature: NDArray[np.int32]
    threshold: Floats32
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.uint8]
    value: Floats32
    base: float
    columns: int

    def __post_init__(self) -> None:
        """Refuse what is no forest: children outside their tree, before their parent or with two parents; numbers that are not finite."""
        if not self._is_sound():
            raise ArtifactError("a tree ensemble in the model is malformed: fit and save the model again")

    def _is_sound(self) -> bool:
        nodes, size = len(self.feature), np.diff(self.start)
        lengths = {len(array) for array in (self.threshold, self.left, self.right, self.missing_left, self.value)}
        if lengths != {nodes} or not len(size) or (size < 1).any() or self.start[0] != 0 or self.start[-1] != nodes:
            return False
        inner = np.flatnonzero(self.feature != LEAF)
        first = np.repeat(self.start[:-1], size)
        last, child = first + np.repeat(size, size), np.stack([self.left, self.right])[:, inner] + first[inner]
        valid = bool(((child > inner) & (child < last[inner])).all()) and bool(np.isin(self.missing_left, (0, 1)).all())
        valid = valid and bool(((self.feature >= LEAF) & (self.feature < self.columns)).all())
        if not valid or not all(np.isfinite(part).all() for part in (self.threshold, self.value, self.base)):
            return False
        parents = np.bincount(child.ravel(), minlength=nodes)
        parents[self.start[:-1]] += 1  # a root has none
        return bool((parents == 1).all()) and bool((size <= 2 * MOST_LEAVES - 1).all())

    @property
    def trees(self) -> int:
        """The number of trees, k."""
        return len(self.start) - 1

    def scores(self, x: Floats32) -> Floats:
        """Return the sum over trees for (q, t) rows, NaN for missing -> (q,)."""
        x = np.asarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.columns:
            raise InputError(f"x must be (q, {self.columns}), got x.shape={x.shape}")
        rows = int(np.clip(_BLOCK_CELLS // self.trees, _FEWEST_ROWS, _MOST_ROWS))
        blocks = [x[first : first + rows] for first in range(0, len(x), rows)]
        workers = min(cpu_count(), len(blocks))
        if workers < 2:
            return np.concatenate([np.zeros(0), *map(self._conditions.scores, blocks)]) + self.base
        with ThreadPoolExecutor(workers) as pool:
            return np.concatenate(list(pool.map(self._conditions.scores, blocks))) + self.base

    def staged_scores(self, x: Floats32, counts: Sequence[int]) -> Floats:
        """Return the scores of (q, t) rows by the first trees alone, for each of some increasing numbers of them -> (counts, q)."""
        bounds = np.minimum([0, *counts], self.trees)
        parts = [self._slice(first, last).scores(x) if first < last else np.zeros(len(x)) for first, last in pairwise(bounds)]
        return np.cumsum(parts, axis=0)

    def first(self, count: int) -> Forest:
        """Return the first trees alone, at most ``count``."""
        return self._slice(0, min(count, self.trees))

    def _slice(self, first: int, last: int) -> Forest:
        """Return consecutive trees; the base goes with the first one."""
        nodes = slice(self.start[first], self.start[last])
        arrays = {name: getattr(self, name)[nodes] for name in ("feature", "threshold", "left", "right", "missing_left", "value")}
        return Forest(
            start=self.start[first : last + 1] - self.start[first], base=self.base if first == 0 else 0.0, columns=self.columns, **arrays
        )

    @cached_property
    def _conditions(self) -> _Conditions:
        return _conditions(self)


@dataclass(frozen=True)
class _Conditions:
    """The conditions of a forest, the first of every tree, then the second: the trees are in the order of how many they have.

    Parameters
    ----------
    feature : for each round (trees,), a column of [x, missing as -inf | x, missing as inf]
    threshold : for each round (trees, 1)
    ruled_out : for each round (trees, 1), bits of the leaves that a row to the right of the threshold can't reach
    value : (k, leaves), of the leaves from left to right
    """

    feature: list[Ints]
    threshold: list[Floats32]
    ruled_out: list[NDArray[Any]]
    value: Floats

    def scores(self, x: Floats32) -> Floats:
        """Return the trees' sum for a block of (q, t) rows (q,)."""
        n, trees = len(x), len(self.value)
        x = np.pad(x, [(0, max(0, _FEWEST_ROWS - n)), (0, 0)])
        missing = np.isnan(x)
        columns = np.ascontiguousarray(np.concatenate([np.where(missing, sign * np.float32(np.inf), x) for sign in (-1, 1)], axis=1).T)
        unreachable = np.zeros((trees, len(x)), self.ruled_out[0].dtype if self.ruled_out else np.int32)
        buffer, bits = np.empty((trees, len(x)), np.float32), np.empty_like(unreachable)
        with np.errstate(over="ignore"):  # of a difference: infinite values have the right sign
            for feature, threshold, ruled_out in zip(self.feature, self.threshold, self.ruled_out, strict=True):
                part = buffer[: len(feature)]
                np.take(columns, feature, axis=0, out=part, mode="clip")
                np.subtract(threshold, part, out=part)
                right = part.view(np.int32)
                np.right_shift(right, 31, out=right)  # the sign of threshold - value: all bits where value > threshold, else none
                unreachable[: len(feature)] |= np.bitwise_and(right, ruled_out, out=bits[: len(feature)])
        reachable = ~unreachable
        leaf = np.bitwise_count((reachable & -reachable) - 1)  # number of zeros before the first one
        first = np.arange(0, self.value.size, self.value.shape[1])[:, None]
        return np.asarray(np.take(self.value, first + leaf, mode="clip").sum(axis=0)[:n])


def _conditions(forest: Forest) -> _Conditions:
    tree, size = np.repeat(np.arange(forest.trees), np.diff(forest.start)), np.diff(forest.start)
    position = np.arange(len(tree)) - forest.start[tree]
    inner = forest.feature != LEAF
    leaves, first_leaf = np.where(inner, 0, 1).astype(np.uint64), np.zeros(len(tree), np.uint64)
    levels = [np.flatnonzero((position == p) & inner) for p in range(int(size.max()))]
    for at in reversed(levels):  # children come after their parents
        leaves[at] = leaves[forest.start[tree[at]] + forest.left[at]] + leaves[forest.start[tree[at]] + forest.right[at]]
    for at in levels:
        left, right = (forest.start[tree[at]] + child[at] for child in (forest.left, forest.right))
        first_leaf[left], first_leaf[right] = first_leaf[at], first_leaf[at] + leaves[left]
    at = np.flatnonzero(inner)
    left = forest.start[tree[at]] + forest.left[at]
    ruled_out = ((np.uint64(1) << leaves[left]) - np.uint64(1)) << first_leaf[at]
    value = np.zeros((forest.trees, int(leaves.max(initial=1))))
    value[tree[~inner], first_leaf[~inner].astype(np.int64)] = forest.value[~inner]
    feature = forest.feature[at] + forest.columns * (forest.missing_left[at] == 0)
    threshold = forest.threshold[at] + np.float32(0)  # no negative zero
    # the same condition in several places of a tree, as in symmetric trees, is evaluated once
    order = np.lexsort((threshold, feature, tree[at]))
    key = np.stack([tree[at], feature])[:, order]
    new = np.append(True, (np.diff(key) != 0).any(axis=0) | (np.diff(threshold[order]) != 0))[: len(order)]
    head, bits = order[new], np.uint64 if value.shape[1] > 32 else np.uint32
    ruled_out = np.bitwise_or.reduceat(ruled_out[order], np.flatnonzero(new)) if len(head) else ruled_out
    ruled_out = ruled_out.astype(bits).view(np.int64 if bits is np.uint64 else np.int32)
    owner = tree[at][head]
    count = np.bincount(owner, minlength=forest.trees)
    by_count = np.argsort(-count, kind="stable")
    rank = np.arange(len(head)) - (np.cumsum(count) - count)[owner]
    place = np.empty(forest.trees, np.int64)
    place[by_count] = np.arange(forest.trees)
    rounds = []
    for r in range(int(count.max(initial=0))):
        mine = np.flatnonzero(rank == r)
        rounds.append(mine[np.argsort(place[owner[mine]])])
    return _Conditions(
        [feature[head[mine]].astype(np.int64) for mine in rounds],
        [threshold[head[mine], None] for mine in rounds],
        [ruled_out[mine, None] for mine in rounds],
        value[by_count],
    )


def pack_trees(trees: list[tuple[Any, ...]], columns: int, base: float = 0.0) -> Forest:
    """Return a forest of trees given as (feature, threshold, left, right, missing_left, value), each (nodes,), -1 as a leaf's feature.

    Thresholds in double precision are rounded down to single precision: compared with values in single precision they split alike.
    """
    feature, threshold, left, right, missing, value = (np.concatenate(column) for column in zip(*trees, strict=True))
    leaf: Bools = feature == LEAF
    return Forest(
        start=np.cumsum([0, *(len(tree[0]) for tree in trees)]).astype(np.int64),
        feature=feature.astype(np.int32),
        threshold=np.where(leaf, 0, _round_down(threshold)).astype(np.float32),
        left=np.where(leaf, 0, left).astype(np.int32),
        right=np.where(leaf, 0, right).astype(np.int32),
        missing_left=np.where(leaf, 0, missing).astype(np.uint8),
        value=np.where(leaf, value, 0).astype(np.float32),
        base=base,
        columns=columns,
    )


def _round_down(threshold: Floats) -> Floats32:
    """Return the largest finite float32 not above each threshold, or the least of all."""
    most = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        single = threshold.astype(np.float32)
        return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single).clip(-most, most)
