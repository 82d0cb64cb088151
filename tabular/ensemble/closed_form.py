"""Experts in closed form, exact without refitting: what each says of a stored row, it says as if that patient were not there.

Ridge discriminants answer through the hat matrix, kernel regressions by leaving the patient's rows out of the sum.
Only numpy is imported here: the trainer of the in-context model uses these experts where nothing else is installed.

Letters: n stored rows, q query rows, p encoded columns, r reference rows of a kernel regression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nearward.tabular.typing import Floats, Ints

STRENGTHS = (1e-3, 3e-2, 1.0)  # ridge penalties, in units of the number of stored rows
_NEIGHBOURS = 30  # a kernel's bandwidth at a row: the distance to this many reference rows
_REFERENCES = 3000
_CHUNK = 1024


@dataclass(frozen=True)
class Ridge:
    """A linear discriminant with a ridge penalty; the intercept is free.

    Parameters
    ----------
    weight : (p + 1,), intercept first
    """

    weight: Floats

    def scores(self, x: Floats) -> Floats:
        """Return the discriminant for (q, p) rows -> (q,)."""
        out: Floats = x @ self.weight[1:] + self.weight[0]
        return out


def ridge_discriminant(x: Floats, outcome: Ints, group: Ints, strength: float) -> tuple[Ridge, Floats]:
    """Fit a ridge discriminant, and score each stored row as if its patient had not been there.

    Parameters
    ----------
    x : (n, p)
    outcome : (n,), 0 or 1
    group : (n,), patient numbers from 0
    strength : float, penalty per stored row

    Returns
    -------
    model : Ridge
    out_of_fold : (n,), equal to refitting without the row's patient under the same penalty

    References
    ----------
    The leave-one-out identity of linear smoothers (Allen 1974); for a patient of several rows, its block form.
    """
    n, p = x.shape
    design = np.column_stack([np.ones(n), x])  # (n, p + 1)
    penalty = strength * n * np.append(1e-9, np.ones(p))
    gram, moment = design.T @ design + np.diag(penalty), design.T @ outcome
    inverse = np.linalg.inv(gram)
    weight = inverse @ moment
    leverage = design @ inverse  # (n, p + 1)
    residual = outcome - design @ weight
    own = np.einsum("np,np->n", leverage, design)
    out_of_fold = outcome - residual / np.maximum(1 - own, 1e-9)
    for rows in _repeated(group):
        if len(rows) > p:  # so many rows: taking them out of the normal equations is the smaller system
            own_rows, own_outcome = design[rows], outcome[rows]
            without = np.linalg.solve(gram - own_rows.T @ own_rows, moment - own_rows.T @ own_outcome)
            out_of_fold[rows] = own_rows @ without
            continue
        block = np.eye(len(rows)) - leverage[rows] @ design[rows].T
        out_of_fold[rows] = outcome[rows] - np.linalg.solve(block, residual[rows])
    return Ridge(np.asarray(weight, dtype=np.float64)), out_of_fold


@dataclass(frozen=True)
class Kernel:
    """A Nadaraya-Watson regression on reference rows, as wide at each query as its neighbourhood is.

    Parameters
    ----------
    metric : (p, w) or None, a query's columns times this is where distances are taken; None: the columns themselves
    reference : (r, w)
    outcome : (r,), 0 or 1
    weight : (r,), how many stored rows each reference stands for
    owner : (r,), patient numbers
    """

    metric: Floats | None
    reference: Floats
    outcome: Floats
    weight: Floats
    owner: Ints

    def around(self, x: Floats, group: Ints | None = None) -> tuple[Floats, Floats]:
        """Look around each row.

        Parameters
        ----------
        x : (q, p)
        group : (q,), optional
            Patients; references of a row's own patient are left out.

        Returns
        -------
        share : (q,), weighted share of events
        distance : (q,), mean squared distance to the neighbourhood: how far the row is from any patient stored
        """
        share, far = np.empty(len(x)), np.empty(len(x))
        size = (self.reference**2).sum(axis=1)
        near = max(1, min(_NEIGHBOURS, len(self.reference) - 1))
        for begin in range(0, len(x), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            place = x[rows] if self.metric is None else x[rows] @ self.metric  # (chunk, w)
            squared = (place**2).sum(axis=1)[:, None] + size  # (chunk, r); in place from here on: this is where scoring spends its time
            squared -= 2 * place @ self.reference.T
            np.maximum(squared, 0, out=squared)
            own = None if group is None else _pairs(group[rows], self.owner)
            if own is not None:
                squared[own] = np.inf
            nearest = np.partition(squared, near - 1, axis=1)[:, :near]
            there = np.isfinite(nearest)
            width = np.maximum(nearest.max(axis=1, where=there, initial=0, keepdims=True), 1e-12)
            # weight e^-2 at the last of the neighbourhood; never quite 0 but for the row's own patient
            mass = np.multiply(squared, -2, out=squared)
            mass /= width
            np.exp(np.maximum(mass, -60, out=mass), out=mass)
            if own is not None:
                mass[own] = 0.0
            mass *= self.weight
            share[rows] = (mass @ self.outcome) / mass.sum(axis=1)
            far[rows] = nearest.sum(axis=1, where=there) / there.sum(axis=1)
        return share, far


def _pairs(group: Ints, owner: Ints) -> tuple[Ints, Ints]:
    """Return the places (i, j) where ``group[i] == owner[j]``."""
    order = np.argsort(owner, kind="stable")
    first, last = (np.searchsorted(owner[order], group, side=side) for side in ("left", "right"))
    count = last - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(group)), count), order[np.repeat(first, count) + within]


def plain_kernel(x: Floats, outcome: Ints, group: Ints, seed: int) -> Kernel:
    """Kernel regression by distance in the encoded columns; over 3,000 stored rows, on references of both classes."""
    return _kernel(None, x, outcome, group, seed)


def whitened_kernel(x: Floats, outcome: Ints, group: Ints, seed: int) -> Kernel:
    """Kernel regression by a shrunk Mahalanobis distance: columns that say the same count once."""
    covariance = np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])
    shrunk = 0.7 * covariance + 0.3 * np.diag(np.diag(covariance)) + 0.05 * np.eye(x.shape[1])
    values, vectors = np.linalg.eigh(shrunk)
    return _kernel(vectors / np.sqrt(values), x, outcome, group, seed)


def _kernel(metric: Floats | None, x: Floats, outcome: Ints, group: Ints, seed: int) -> Kernel:
    draw = np.random.default_rng(seed)
    kept: list[Any] = []
    for value in (1, 0):  # at most half the references are events
        rows = np.flatnonzero(outcome == value)
        room = _REFERENCES // 2 if value else _REFERENCES - len(kept[0])
        kept.append(rows if len(rows) <= room else np.sort(draw.choice(rows, room, replace=False)))
    chosen = np.concatenate(kept)
    weight = np.concatenate([np.full(len(k), (outcome == v).sum() / max(len(k), 1)) for v, k in zip((1, 0), kept, strict=True)])
    return Kernel(metric, x[chosen] if metric is None else x[chosen] @ metric, outcome[chosen].astype(float), weight, group[chosen])


def _repeated(group: Ints) -> list[Ints]:
    """Rows of each patient who has more than one."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=group[order[0]] - 1))
    return [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]
