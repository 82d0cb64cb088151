"""Metrics of a risk on test rows, and paired intervals of differences by a bootstrap over patients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from nearward.tabular.typing import Floats

Rows = NDArray[Any]

_BINS = 10
_RESAMPLES = 1000


def risk_metrics(outcome: Rows, risk: Floats) -> dict[str, float]:
    """Return AUPRC, AUROC, Brier score, and the expected calibration error over ten bins of equal width and of equal size."""
    return {
        "auprc": float(average_precision_score(outcome, risk)),
        "auroc": float(roc_auc_score(outcome, risk)),
        "brier": float(np.mean((risk - outcome) ** 2)),
        "ece": calibration_error(outcome, risk, np.minimum((risk * _BINS).astype(int), _BINS - 1)),
        "ece_mass": calibration_error(outcome, risk, np.argsort(np.argsort(risk, kind="stable")) * _BINS // len(risk)),
    }


def calibration_error(outcome: Rows, risk: Floats, bins: Rows) -> float:
    """Return the mean over rows of |mean outcome - mean risk| in each row's bin (n,)."""
    rows = np.bincount(bins, minlength=_BINS)
    difference = np.bincount(bins, weights=np.asarray(outcome, dtype=float) - risk, minlength=_BINS)
    return float(np.abs(difference).sum() / rows.sum())


def expected_error(risk: Floats, seed: int = 0) -> float:
    """Return the mean equal-width calibration error of perfectly calibrated risks on this many rows: sampling error alone."""
    rng = np.random.default_rng(seed)
    bins = np.minimum((risk * _BINS).astype(int), _BINS - 1)
    return float(np.mean([calibration_error(rng.random(len(risk)) < risk, risk, bins) for _ in range(100)]))


class Ranking:
    """Rows sorted by a risk once; the AUPRC under any row weights is then one pass."""

    def __init__(self, outcome: Rows, risk: Floats) -> None:
        self.order = np.argsort(-risk, kind="stable")
        self.outcome = outcome[self.order].astype(float)
        ranked = risk[self.order]
        self.last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last row of each run of equal risks

    def auprc(self, weight: Floats) -> float:
        """Return the average precision with row weights (n,)."""
        w = weight[self.order]
        hits = np.cumsum(w * self.outcome)[self.last]
        alerts = np.cumsum(w)[self.last]
        return float(np.sum(np.diff(hits, prepend=0.0) * hits / np.maximum(alerts, 1e-12)) / max(hits[-1], 1e-12))


def paired_intervals(
    outcomes: list[Rows], groups: list[Rows], ours: list[Floats], others: dict[str, list[Floats]], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Return the difference in mean AUPRC over the test folds, ours minus each other's, with its 95 % interval.

    Patients are resampled with replacement within each fold, with the same resamples for all models, and for further seeds on the same test
    rows: more seeds are not more patients.
    """
    rng = np.random.default_rng(seed)
    folds = range(len(outcomes))
    patients = [np.unique(group, return_inverse=True)[1] for group in groups]
    test_rows = [np.ascontiguousarray(group).tobytes() for group in groups]
    rank_ours = [Ranking(outcomes[f], ours[f]) for f in folds]
    rank_others = {name: [Ranking(outcomes[f], risks[f]) for f in folds] for name, risks in others.items()}
    even = [np.ones(len(outcomes[f])) for f in folds]

    def gains(weights: list[Floats]) -> dict[str, float]:
        first = np.mean([rank_ours[f].auprc(weights[f]) for f in folds])
        return {name: float(first - np.mean([ranks[f].auprc(weights[f]) for f in folds])) for name, ranks in rank_others.items()}

    resampled: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(_RESAMPLES):
        times = dict[bytes, Floats]()  # by test rows: how often each row is drawn
        for rows, of_rows in zip(test_rows, patients, strict=True):
            if rows not in times:
                count = int(of_rows.max()) + 1
                times[rows] = np.bincount(rng.integers(0, count, count), minlength=count).astype(float)[of_rows]
        weights = [times[rows] for rows in test_rows]
        for name, gain in gains(weights).items():
            resampled[name].append(gain)
    point = gains(even)
    return {name: (point[name], *np.quantile(resampled[name], [0.025, 0.975])) for name in others}
