"""Differentially private marginals on a tree, and sampling from them, in the manner of MST.

One-way marginals are given. The pairs of a spanning tree are selected by the exponential mechanism, scored by the L1 distance of their
counts to independence less the expected noise, and counted with the Gaussian mechanism. Consistency and sampling are post-processing:
they use no patient's row.

Shapes: n rows, d columns, c tokens.

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

from nearward.synth.differential_privacy.mechanisms import Mechanisms
from nearward.synth.policy.autoregressive import FREE, DecodingConstraint
from nearward.tabular.typing import Arrays, Bools, Floats, Ints

_SELECTION = 1 / 3  # share of the budget spent here; the rest counts the pairs
_FITTING = 100  # iterations of proportional fitting


@dataclass(frozen=True)
class TreeMarginals:
    """A distribution over rows of tokens: the root, and each other column given its parent.

    Parameters
    ----------
    order : tuple of int
        Columns, parents before children.
    parent : tuple of int
        Parent of each column of ``order``; the first column's is itself.
    tables : tuple of arrays
        Probabilities of the first column (1, c), of the others (c of the parent, c); rows sum to 1.
    """

    order: tuple[int, ...]
    parent: tuple[int, ...]
    tables: tuple[Floats, ...]

    @classmethod
    def fit(cls, tokens: Ints, counts: tuple[Floats, ...], mechanisms: Mechanisms, rho: float, root: int) -> TreeMarginals:
        """Select a tree and count its pairs.

        Parameters
        ----------
        tokens : (n, d)
            At most ``mechanisms.sensitivity`` rows per patient.
        counts : d arrays (c,)
            Noisy counts of each token, already charged.
        mechanisms : Mechanisms
        rho : float
            Budget of this step.
        root : int
            Column at the root.
        """
        d = tokens.shape[1]
        marginals = [count / count.sum() for count in counts]
        if d == 1:
            return cls((root,), (root,), (marginals[root][None],))
        rows = float(np.mean([count.sum() for count in counts]))
        rho_select, rho_count = rho * _SELECTION / (d - 1), rho * (1 - _SELECTION) / (d - 1)
        pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]
        noise = math.sqrt(2 / math.pi) * mechanisms.noise_scale(rho_count)  # expected absolute noise of a count
        bins = [int((marginal > 0).sum()) for marginal in marginals]
        score = np.array([_dependence(tokens, i, j, marginals, rows) - noise * bins[i] * bins[j] for i, j in pairs])
        component = np.arange(d)
        joint: dict[tuple[int, int], Floats] = {}
        for _ in range(d - 1):
            candidates = [k for k, (i, j) in enumerate(pairs) if component[i] != component[j]]
            i, j = pairs[candidates[mechanisms.choose(score[candidates], rho_select, "which pair of columns to count")]]
            component[component == component[j]] = component[i]
            contingency = _contingency(tokens, i, j, len(marginals[i]), len(marginals[j]))
            possible, noisy = np.outer(marginals[i] > 0, marginals[j] > 0), np.zeros(contingency.shape)
            noisy[possible] = mechanisms.counts(contingency[possible], rho_count, "counts of a pair of columns")
            joint[i, j] = _consistent(noisy, marginals[i], marginals[j])
        return cls._rooted(root, marginals, joint)

    @classmethod
    def _rooted(cls, root: int, marginals: list[Floats], joint: dict[tuple[int, int], Floats]) -> TreeMarginals:
        """Direct the tree away from its root."""
        order, parents, tables = [root], [root], [marginals[root][None]]
        for column in order:
            for (i, j), table in joint.items():
                for parent, child, shares in ((i, j, table), (j, i, table.T)):
                    if parent == column and child not in order:
                        total = shares.sum(axis=1, keepdims=True)
                        order.append(child)
                        parents.append(parent)
                        tables.append(np.where(total > 0, shares / np.where(total > 0, total, 1), marginals[child][None]))
        return cls(tuple(order), tuple(parents), tuple(tables))

    def log_prob(self, tokens: Ints) -> Floats:
        """Return the log probability of each cell given its parent's (n, d), minus infinity for impossible tokens."""
        log_prob = np.zeros(tokens.shape)
        with np.errstate(divide="ignore"):
            for j, parent, table in zip(self.order, self.parent, self.tables, strict=True):
                parent_token = np.zeros(len(tokens), dtype=np.int64) if parent == j else tokens[:, parent]
                log_prob[:, j] = np.log(table[parent_token, tokens[:, j]])
        return log_prob

    def sample(self, conditions: Ints, seed: int, make_constraint: Callable[[int], DecodingConstraint] | None = None) -> Ints:
        """Sample rows (n, d) given conditions (n, d), -1 where free, exactly and without rejection.

        A condition of probability zero on the tree is written all the same, and the other columns ignore it.
        """
        rng = np.random.default_rng(seed)
        tokens = np.empty_like(conditions)
        patterns, pattern_of_row = np.unique(conditions, axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            rows = np.flatnonzero(pattern_of_row.ravel() == i)
            tokens[rows] = self._sample_pattern(pattern, len(rows), rng, make_constraint(int(rows[0])) if make_constraint else None)
        return tokens

    def _sample_pattern(self, pattern: Ints, n: int, rng: np.random.Generator, constraint: DecodingConstraint | None) -> Ints:
        likelihood = self._likelihood(pattern)
        tokens = np.where(pattern == FREE, FREE, pattern)[None].repeat(n, axis=0)
        for j, parent, table in zip(self.order, self.parent, self.tables, strict=True):
            sampled = tokens[:, j]
            if pattern[j] == FREE:
                parent_token = np.zeros(n, dtype=np.int64) if parent == j else tokens[:, parent]
                weight = _token_weights(table[parent_token], likelihood[j], constraint.allowed_tokens(j, tokens) if constraint else None)
                cumulative = weight.cumsum(axis=1)
                sampled = (cumulative < rng.random((n, 1)) * cumulative[:, -1:]).sum(axis=1).clip(0, weight.shape[1] - 1)
            tokens[:, j] = sampled if constraint is None else constraint.commit(j, sampled)
        return tokens

    def _likelihood(self, pattern: Ints) -> dict[int, Floats]:
        """Return the likelihood of the conditions in the subtree of each column, for each of its tokens (c,), by belief propagation."""
        likelihood = {j: np.ones(table.shape[1]) for j, table in zip(self.order, self.tables, strict=True)}
        for j in self.order:
            if pattern[j] != FREE:
                likelihood[j] = np.zeros(len(likelihood[j]))
                likelihood[j][pattern[j]] = 1.0
        for j, parent, table in reversed(list(zip(self.order, self.parent, self.tables, strict=True))):
            if parent != j:
                message = table @ likelihood[j]
                likelihood[parent] = likelihood[parent] * (message if message.max() > 0 else 1.0)
        return likelihood

    def state(self, tensors: Arrays) -> dict[str, Any]:
        """Return the tree as JSON; tables go to ``tensors``."""
        for i, table in enumerate(self.tables):
            tensors[f"marginals.{i}"] = table
        return {"kind": "marginals", "order": list(self.order), "parent": list(self.parent)}

    @classmethod
    def from_state(cls, state: dict[str, Any], tensors: Arrays) -> TreeMarginals:
        """Load what ``state`` returned."""
        tables = tuple(tensors[f"marginals.{i}"] for i in range(len(state["order"])))
        return cls(tuple(state["order"]), tuple(state["parent"]), tables)


def _token_weights(table: Floats, likelihood: Floats, allowed: Bools | None) -> Floats:
    """Weights of tokens (n, c): probability times likelihood, masked by the rules; where all are 0, the rules alone decide."""
    weight = table * likelihood
    weight = np.where(weight.sum(axis=1, keepdims=True) > 0, weight, table)
    if allowed is None:
        return weight
    masked = weight * allowed
    return np.where(masked.sum(axis=1, keepdims=True) > 0, masked, allowed.astype(np.float64))


def _contingency(tokens: Ints, i: int, j: int, rows: int, columns: int) -> Floats:
    return np.bincount(tokens[:, i] * columns + tokens[:, j], minlength=rows * columns).reshape(rows, columns).astype(np.float64)


def _dependence(tokens: Ints, i: int, j: int, marginals: list[Floats], rows: float) -> float:
    """L1 distance of the counts of two columns to independence; its sensitivity to one row is 1."""
    counts = _contingency(tokens, i, j, len(marginals[i]), len(marginals[j]))
    return float(np.abs(counts - rows * np.outer(marginals[i], marginals[j])).sum())


def _consistent(noisy: Floats, first: Floats, second: Floats) -> Floats:
    """Return non-negative shares near the noisy counts, consistent with both marginals by iterative proportional fitting."""
    possible = np.outer(first > 0, second > 0)
    table = np.where(possible, _on_simplex(np.where(possible, noisy, -np.inf)) + 1e-6 * np.outer(first, second), 0.0)
    for _ in range(_FITTING):
        table = table * (first / np.where(table.sum(axis=1) > 0, table.sum(axis=1), 1))[:, None]
        table = table * (second / np.where(table.sum(axis=0) > 0, table.sum(axis=0), 1))[None]
    return table


def _on_simplex(counts: Floats) -> Floats:
    """Project counts on the simplex (Euclidean), divided by their sum."""
    flat = np.sort(counts[np.isfinite(counts)])[::-1]
    total = max(float(flat.sum()), 1.0)
    excess = (flat.cumsum() - total) / np.arange(1, len(flat) + 1)
    shift = excess[np.flatnonzero(flat > excess)[-1]]
    return np.asarray(np.maximum(np.where(np.isfinite(counts), counts, shift) - shift, 0.0) / total)
