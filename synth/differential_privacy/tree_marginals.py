"""Differentially private marginals on a tree: noisy counts of pairs of columns, and rows drawn from them.

In the manner of MST: all columns are counted alone, the pairs of a spanning tree are chosen by the exponential mechanism (those whose
counts are furthest from what independent columns would show, less what noise will add) and counted with Gaussian noise. What comes
after, making counts agree and drawing rows, looks at no patient again.

Letters: n rows, d columns, c cells.

References
----------
McKenna, Miklau, Sheldon: Winning the NIST contest (2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.policy.autoregressive import FREE, DecodingConstraint
from nearward.tabular.typing import Arrays, Floats, Ints

_CHOOSING = 1 / 3  # of the budget spent here; the rest counts the pairs
_FITTING = 100  # rounds of proportional fitting


@dataclass(frozen=True)
class TreeMarginals:
    """A distribution over rows of tokens: a root, and each other column given its parent.

    Parameters
    ----------
    order : tuple of int
        Columns, parents before children.
    parent : tuple of int
        Parent of each column of ``order``; the first column's is itself.
    tables : tuple of arrays
        Of the first column (1, c), of the others (c of the parent, c); rows sum to 1.
    """

    order: tuple[int, ...]
    parent: tuple[int, ...]
    tables: tuple[Floats, ...]

    @classmethod
    def fit(cls, tokens: Ints, counts: tuple[Floats, ...], tell: Mechanisms, rho: float, root: int) -> TreeMarginals:
        """Choose a tree and count its pairs.

        Parameters
        ----------
        tokens : (n, d)
            Of at most ``tell.most`` rows a patient.
        counts : d arrays (c,)
            Noisy rows of each token, already paid for.
        tell : Mechanisms
        rho : float
            What may be spent here.
        root : int
            Column to begin with.
        """
        d = tokens.shape[1]
        alone = [one / one.sum() for one in counts]
        if d == 1:
            return cls((root,), (root,), (alone[root][None],))
        rows = float(np.mean([one.sum() for one in counts]))
        choose, count = rho * _CHOOSING / (d - 1), rho * (1 - _CHOOSING) / (d - 1)
        pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]
        noise = math.sqrt(2 / math.pi) * tell.spread(count)
        score = np.array([_gap(tokens, i, j, alone, rows) - noise * (alone[i] > 0).sum() * (alone[j] > 0).sum() for i, j in pairs])
        home = np.arange(d)
        joint: dict[tuple[int, int], Floats] = {}
        for _ in range(d - 1):
            able = [at for at, (i, j) in enumerate(pairs) if home[i] != home[j]]
            i, j = pairs[able[tell.choose(score[able], choose, "which pair of columns to count")]]
            home[home == home[j]] = home[i]
            noisy = tell.counts(_crossed(tokens, i, j, len(alone[i]), len(alone[j])), count, "counts of a pair of columns")
            joint[i, j] = _agreeing(noisy, alone[i], alone[j])
        return cls._rooted(root, alone, joint)

    @classmethod
    def _rooted(cls, root: int, alone: list[Floats], joint: dict[tuple[int, int], Floats]) -> TreeMarginals:
        order, parent, tables = [root], [root], [alone[root][None]]
        for at in order:
            for (i, j), table in joint.items():
                for mother, child, crossed in ((i, j, table), (j, i, table.T)):
                    if mother == at and child not in order:
                        given = crossed.sum(axis=1, keepdims=True)
                        order.append(child)
                        parent.append(mother)
                        tables.append(np.where(given > 0, crossed / np.where(given > 0, given, 1), alone[child][None]))
        return cls(tuple(order), tuple(parent), tuple(tables))

    def log_prob(self, tokens: Ints) -> Floats:
        """Return the log probability of each cell given its parent's (n, d), minus infinity for what cannot be."""
        out = np.zeros(tokens.shape)
        with np.errstate(divide="ignore"):
            for j, mother, table in zip(self.order, self.parent, self.tables, strict=True):
                above = np.zeros(len(tokens), dtype=np.int64) if mother == j else tokens[:, mother]
                out[:, j] = np.log(table[above, tokens[:, j]])
        return out

    def sample(self, given: Ints, seed: int, make_constraint: Callable[[int], DecodingConstraint] | None = None) -> Ints:
        """Draw rows (n, d) with the conditions ``given`` (n, d), -1 where free; no row is drawn twice to meet them.

        A condition that cannot be met on the tree is written all the same, beside what its other columns make of it.
        """
        draw = np.random.default_rng(seed)
        out = np.empty_like(given)
        patterns, which = np.unique(given, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(which.ravel() == number)
            out[rows] = self._draw(pattern, len(rows), draw, make_constraint(int(rows[0])) if make_constraint else None)
        return out

    def _draw(self, pattern: Ints, n: int, draw: np.random.Generator, constraint: DecodingConstraint | None) -> Ints:
        likely = self._evidence(pattern)
        tokens = np.where(pattern == FREE, FREE, pattern)[None].repeat(n, axis=0)
        for j, mother, table in zip(self.order, self.parent, self.tables, strict=True):
            if pattern[j] == FREE:
                above = np.zeros(n, dtype=np.int64) if mother == j else tokens[:, mother]
                chance = _weights(table[above], likely[j], constraint.allowed_tokens(j, tokens) if constraint else None)
                total = chance.cumsum(axis=1)
                drawn = (total < draw.random((n, 1)) * total[:, -1:]).sum(axis=1).clip(0, chance.shape[1] - 1)
            else:
                drawn = tokens[:, j]
            tokens[:, j] = drawn if constraint is None else constraint.commit(j, drawn)
        return tokens

    def _evidence(self, pattern: Ints) -> dict[int, Floats]:
        """Return how likely the conditions below each column are, for each of its tokens (c,): messages from the leaves up."""
        likely = {j: np.ones(table.shape[1]) for j, table in zip(self.order, self.tables, strict=True)}
        for j in self.order:
            if pattern[j] != FREE:
                likely[j] = np.zeros(len(likely[j]))
                likely[j][pattern[j]] = 1.0
        for j, mother, table in reversed(list(zip(self.order, self.parent, self.tables, strict=True))):
            if mother != j:
                message = table @ likely[j]
                likely[mother] = likely[mother] * (message if message.max() > 0 else 1.0)
        return likely

    def state(self, tensors: Arrays) -> dict[str, Any]:
        """Return the tree as JSON; tables go to ``tensors``."""
        for place, table in enumerate(self.tables):
            tensors[f"marginals.{place}"] = table
        return {"kind": "marginals", "order": list(self.order), "parent": list(self.parent)}

    @classmethod
    def from_state(cls, about: dict[str, Any], tensors: Arrays) -> TreeMarginals:
        """Rebuild what ``state`` took apart."""
        tables = tuple(tensors[f"marginals.{place}"] for place in range(len(about["order"])))
        return cls(tuple(about["order"]), tuple(about["parent"]), tables)


def _weights(table: Floats, likely: Floats, allowed: NDArray[np.bool_] | None) -> Floats:
    """Weigh tokens (n, c) by the table, the conditions below, and the rules; what leaves nothing is relaxed, the rules last."""
    weight = table * likely
    weight = np.where(weight.sum(axis=1, keepdims=True) > 0, weight, table)
    if allowed is None:
        return weight
    ruled = weight * allowed
    return np.where(ruled.sum(axis=1, keepdims=True) > 0, ruled, allowed.astype(np.float64))


def _crossed(tokens: Ints, i: int, j: int, rows: int, columns: int) -> Floats:
    return np.bincount(tokens[:, i] * columns + tokens[:, j], minlength=rows * columns).reshape(rows, columns).astype(np.float64)


def _gap(tokens: Ints, i: int, j: int, alone: list[Floats], rows: float) -> float:
    """Sum of absolute differences to independent columns; one row more moves it by at most 1."""
    return float(np.abs(_crossed(tokens, i, j, len(alone[i]), len(alone[j])) - rows * np.outer(alone[i], alone[j])).sum())


def _agreeing(noisy: Floats, first: Floats, second: Floats) -> Floats:
    """Return the shares nearest to noisy counts that are not negative and agree with both columns' own."""
    possible = np.outer(first > 0, second > 0)
    table = np.where(possible, _on_simplex(np.where(possible, noisy, -np.inf)) + 1e-6 * np.outer(first, second), 0.0)
    for _ in range(_FITTING):
        table = table * (first / np.where(table.sum(axis=1) > 0, table.sum(axis=1), 1))[:, None]
        table = table * (second / np.where(table.sum(axis=0) > 0, table.sum(axis=0), 1))[None]
    return table


def _on_simplex(counts: Floats) -> Floats:
    """Return shares: counts less one number, cut at 0, over their sum, which is that of the counts (Euclidean projection)."""
    flat = np.sort(counts[np.isfinite(counts)])[::-1]
    total = max(float(flat.sum()), 1.0)
    over = (flat.cumsum() - total) / np.arange(1, len(flat) + 1)
    cut = over[np.flatnonzero(flat > over)[-1]]
    return np.asarray(np.maximum(np.where(np.isfinite(counts), counts, cut) - cut, 0.0) / total)
