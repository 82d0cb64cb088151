"""Base learners with closed-form leave-one-patient-out scores: ridge discriminants and kernel regressions.

A ridge discriminant leaves a patient out through the hat matrix, a kernel regression by leaving the patient's rows out of the sum.
Neither is fitted again. Only numpy is imported here.

Shapes: n stored rows, q query rows, p encoded columns, r reference rows of a kernel regression.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nearward.tabular.typing import Floats, Ints

STRENGTHS = (1e-3, 3e-2, 1.0)  # ridge penalties, in units of the number of stored rows
_NEIGHBOURS = 30  # the bandwidth at a row is its distance to this many reference rows
_REFERENCES = 3000
_CHUNK = 128  # rows whose distances fit into a processor's cache: a third less time than 1,024


@dataclass(frozen=True)
class RidgeDiscriminant:
    """A linear discriminant with a ridge penalty; the intercept is free.

    Parameters
    ----------
    weight : (p + 1,), intercept first
    """

    weight: Floats

    def scores(self, x: Floats) -> Floats:
        """Return the discriminant for (q, p) rows -> (q,)."""
        return np.asarray(x @ self.weight[1:] + self.weight[0])


def ridge_discriminant(
    x: Floats, outcome: Ints, patient_ids: Ints, strength: float, row_weight: Floats | None = None
) -> tuple[RidgeDiscriminant, Floats]:
    """Fit a ridge discriminant, and score each stored row by the fit without its patient.

    Parameters
    ----------
    x : (n, p)
    outcome : (n,), 0 or 1
    patient_ids : (n,), patient numbers from 0
    strength : float, penalty per row
    row_weight : (n,), optional
        Sampling weights.

    Returns
    -------
    model : RidgeDiscriminant
    out_of_fold : (n,), equal to refitting without the row's patient under the same penalty

    References
    ----------
    The leave-one-out identity of linear smoothers (Allen 1974); for a patient of several rows, its block form.
    """
    n, p = x.shape
    design = np.column_stack([np.ones(n), x])  # (n, p + 1)
    weighted = design if row_weight is None else design * row_weight[:, None]
    rows_in_table = n if row_weight is None else float(row_weight.sum())
    penalty = strength * rows_in_table * np.append(1e-9, np.ones(p))
    gram, moment = design.T @ weighted + np.diag(penalty), weighted.T @ outcome
    inverse = np.linalg.inv(gram)
    weight = inverse @ moment
    leverage = design @ inverse  # (n, p + 1)
    residual = outcome - design @ weight
    own_leverage = np.einsum("np,np->n", leverage, weighted)
    out_of_fold = outcome - residual / np.maximum(1 - own_leverage, 1e-9)
    for rows in _repeated(patient_ids):
        if len(rows) > p:  # the downdated normal equations are the smaller system
            others, others_moment = gram - design[rows].T @ weighted[rows], moment - weighted[rows].T @ outcome[rows]
            out_of_fold[rows] = design[rows] @ np.linalg.solve(others, others_moment)
            continue
        block = np.eye(len(rows)) - leverage[rows] @ weighted[rows].T
        out_of_fold[rows] = outcome[rows] - np.linalg.solve(block, residual[rows])
    return RidgeDiscriminant(np.asarray(weight, dtype=np.float64)), out_of_fold


@dataclass(frozen=True)
class KernelRegression:
    """A Nadaraya-Watson regression on reference rows, with a bandwidth that adapts to the density around each query.

    Parameters
    ----------
    metric : (p, w) or None
        Distances are taken between rows times this matrix; None: between the rows themselves.
    reference : (r, w)
    outcome : (r,), 0 or 1
    weight : (r,), number of stored rows that each reference represents
    patient_ids : (r,)
    neighbours : int
        The bandwidth at a row is its distance to this many references.
    """

    metric: Floats | None
    reference: Floats
    outcome: Floats
    weight: Floats
    patient_ids: Ints
    neighbours: int = _NEIGHBOURS

    def predict(self, x: Floats, patient_ids: Ints | None = None) -> tuple[Floats, Floats]:
        """Return the weighted event rate around each row, and its distance to its neighbourhood.

        Parameters
        ----------
        x : (q, p)
        patient_ids : (q,), optional
            References of a row's own patient are left out.

        Returns
        -------
        event_rate : (q,)
        distance : (q,), mean squared distance to the nearest references
        """
        event_rate, distance = np.empty(len(x)), np.empty(len(x))
        sq_norm = (self.reference**2).sum(axis=1)
        k = max(1, min(self.neighbours, len(self.reference) - 1))
        for begin in range(0, len(x), _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            query = x[rows] if self.metric is None else x[rows] @ self.metric  # (chunk, w)
            sq_distance = (query**2).sum(axis=1)[:, None] + sq_norm  # (chunk, r); in place from here on: most of the scoring time
            sq_distance -= 2 * query @ self.reference.T
            np.maximum(sq_distance, 0, out=sq_distance)
            own = None if patient_ids is None else patient_ids[rows, None] == self.patient_ids  # (chunk, r)
            if own is not None:
                sq_distance[own] = np.inf
            nearest = np.partition(sq_distance, k - 1, axis=1)[:, :k]
            present = np.isfinite(nearest)
            bandwidth = np.maximum(nearest.max(axis=1, where=present, initial=0, keepdims=True), 1e-12)
            # e^-2 at the last of the nearest; clipped so that it is never quite 0, but for the row's own patient
            kernel = np.multiply(sq_distance, -2, out=sq_distance)
            kernel /= bandwidth
            np.exp(np.maximum(kernel, -60, out=kernel), out=kernel)
            if own is not None:
                kernel[own] = 0.0
            kernel *= self.weight
            event_rate[rows] = (kernel @ self.outcome) / kernel.sum(axis=1)
            distance[rows] = nearest.sum(axis=1, where=present) / present.sum(axis=1)
        return event_rate, distance

    def without(self, removed: Ints, rows: tuple[int, int]) -> KernelRegression:
        """Return the regression without the references of some patients.

        Parameters
        ----------
        removed : patient numbers
        rows : rows that remain without and with the event; the references represent them
        """
        remaining = ~np.isin(self.patient_ids, removed)
        outcome, weight = self.outcome[remaining], self.weight[remaining]
        for value, count in enumerate(rows):
            of_class = weight[outcome == value]
            weight[outcome == value] = count / len(of_class) * (of_class / of_class.mean()) if len(of_class) else of_class
        return replace(self, reference=self.reference[remaining], outcome=outcome, weight=weight, patient_ids=self.patient_ids[remaining])

    def aggregated(self, size: int) -> KernelRegression:
        """Return the regression on means of at least ``size`` near references with the same outcome: no reference is a patient's row."""
        groups = [group for value in (0, 1) for group in _near_groups(self.reference, np.flatnonzero(self.outcome == value), size)]
        means = [np.average(self.reference[group], axis=0, weights=self.weight[group]) for group in groups]
        return replace(
            self,
            reference=np.array(means),
            outcome=np.array([self.outcome[group[0]] for group in groups]),
            weight=np.array([self.weight[group].sum() for group in groups]),
            patient_ids=np.full(len(groups), -1),
            neighbours=max(2, self.neighbours // size),
        )


def _near_groups(x: Floats, rows: Ints, size: int) -> list[Ints]:
    """Split rows at the median of their widest column until a group has fewer than twice ``size``."""
    if len(rows) < 2 * size:
        return [rows] if len(rows) else []
    order = rows[np.argsort(x[rows, int(x[rows].var(axis=0).argmax())], kind="stable")]
    half = len(order) // 2
    return _near_groups(x, order[:half], size) + _near_groups(x, order[half:], size)


def plain_kernel(x: Floats, outcome: Ints, patient_ids: Ints, seed: int, row_weight: Floats | None = None) -> KernelRegression:
    """Kernel regression by Euclidean distance in the encoded columns; from 3,000 stored rows up, on a sample of both classes.

    ``row_weight`` (n,) are sampling weights: a reference represents as many rows. The bandwidth counts references.
    """
    return _kernel(None, x, outcome, patient_ids, seed, row_weight)


def whitened_kernel(x: Floats, outcome: Ints, patient_ids: Ints, seed: int, row_weight: Floats | None = None) -> KernelRegression:
    """Kernel regression by a shrunk Mahalanobis distance: correlated columns count once; otherwise as ``plain_kernel``."""
    covariance = np.atleast_2d(np.cov(x, rowvar=False) if row_weight is None else np.cov(x, rowvar=False, aweights=row_weight, ddof=0))
    if row_weight is not None:
        covariance = covariance * (row_weight.sum() / (row_weight.sum() - 1))
    shrunk = 0.7 * covariance + 0.3 * np.diag(np.diag(covariance)) + 0.05 * np.eye(x.shape[1])
    values, vectors = np.linalg.eigh(shrunk)
    return _kernel(vectors / np.sqrt(values), x, outcome, patient_ids, seed, row_weight)


def _kernel(metric: Floats | None, x: Floats, outcome: Ints, patient_ids: Ints, seed: int, row_weight: Floats | None) -> KernelRegression:
    rng = np.random.default_rng(seed)
    events, others = (np.flatnonzero(outcome == value) for value in (1, 0))
    event_sample = _sample(events, _REFERENCES // 2, rng)  # at most half the references are events
    other_sample = _sample(others, _REFERENCES - len(event_sample), rng)
    chosen = np.concatenate([event_sample, other_sample])
    represented = np.ones(len(x)) if row_weight is None else row_weight
    samples = ((events, event_sample), (others, other_sample))
    weight = np.concatenate([_share_out(represented[rows].sum(), represented[sample]) for rows, sample in samples])
    reference = x[chosen] if metric is None else x[chosen] @ metric
    return KernelRegression(metric, reference, outcome[chosen].astype(float), weight, patient_ids[chosen])


def _share_out(total: float, weight: Floats) -> Floats:
    """Scale weights (r,) so that their sum is ``total``."""
    return weight * (total / weight.sum()) if len(weight) else weight


def _sample(rows: Ints, most: int, rng: np.random.Generator) -> Ints:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _repeated(patient_ids: Ints) -> list[Ints]:
    """Return the rows of each patient with more than one."""
    order = np.argsort(patient_ids, kind="stable")
    starts = np.flatnonzero(np.diff(patient_ids[order], prepend=patient_ids[order[0]] - 1))
    return [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]
