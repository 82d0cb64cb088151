"""Figures of a risk on held-out rows, and paired intervals of differences by resampling patients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from nearward.tabular.typing import Floats

Rows = NDArray[Any]

_BINS = 10
_RESAMPLES = 1000


def figures(outcome: Rows, risk: Floats) -> dict[str, float]:
    """AUPRC, AUROC, Brier score; expected calibration error over ten bins of equal width, and over ten of equally many rows."""
    return {
        "auprc": float(average_precision_score(outcome, risk)),
        "auroc": float(roc_auc_score(outcome, risk)),
        "brier": float(np.mean((risk - outcome) ** 2)),
        "ece": calibration_error(outcome, risk, np.minimum((risk * _BINS).astype(int), _BINS - 1)),
        "ece_mass": calibration_error(outcome, risk, np.argsort(np.argsort(risk, kind="stable")) * _BINS // len(risk)),
    }


def calibration_error(outcome: Rows, risk: Floats, place: Rows) -> float:
    """Mean over rows of |mean outcome - mean risk| in the row's bin ``place`` (n,)."""
    rows = np.bincount(place, minlength=_BINS)
    gap = np.bincount(place, weights=np.asarray(outcome, dtype=float) - risk, minlength=_BINS)
    return float(np.abs(gap).sum() / rows.sum())


def expected_error(risk: Floats, seed: int = 0) -> float:
    """The equal-width calibration error that risks with no fault at all would show on this many rows, by chance alone."""
    draw = np.random.default_rng(seed)
    place = np.minimum((risk * _BINS).astype(int), _BINS - 1)
    return float(np.mean([calibration_error(draw.random(len(risk)) < risk, risk, place) for _ in range(100)]))


class Ranking:
    """A risk's order on some rows, from which the AUPRC of any reweighting of the rows follows in one pass."""

    def __init__(self, outcome: Rows, risk: Floats) -> None:
        self.order = np.argsort(-risk, kind="stable")
        self.outcome = outcome[self.order].astype(float)
        ranked = risk[self.order]
        self.last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last row of each run of equal risks

    def auprc(self, weight: Floats) -> float:
        """Average precision with row weights (n,)."""
        w = weight[self.order]
        found = np.cumsum(w * self.outcome)[self.last]
        seen = np.cumsum(w)[self.last]
        gained = np.diff(found, prepend=0.0)
        return float(np.sum(gained * found / np.maximum(seen, 1e-12)) / max(found[-1], 1e-12))


def paired_intervals(
    outcomes: list[Rows], groups: list[Rows], ours: list[Floats], others: dict[str, list[Floats]], seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Difference in mean AUPRC over the test folds, ours less each other's, with a 95 % interval.

    Patients are drawn with replacement within each fold; the same draw serves every model.
    """
    draw = np.random.default_rng(seed)
    folds = range(len(outcomes))
    patients = [np.unique(group, return_inverse=True)[1] for group in groups]
    rank_ours = [Ranking(outcomes[f], ours[f]) for f in folds]
    rank_others = {name: [Ranking(outcomes[f], risks[f]) for f in folds] for name, risks in others.items()}
    even = [np.ones(len(outcomes[f])) for f in folds]

    def gains(weights: list[Floats]) -> dict[str, float]:
        first = np.mean([rank_ours[f].auprc(weights[f]) for f in folds])
        return {name: float(first - np.mean([ranks[f].auprc(weights[f]) for f in folds])) for name, ranks in rank_others.items()}

    resampled: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(_RESAMPLES):
        weights = []
        for f in folds:
            count = int(patients[f].max()) + 1
            times = np.bincount(draw.integers(0, count, count), minlength=count).astype(float)
            weights.append(times[patients[f]])
        for name, gain in gains(weights).items():
            resampled[name].append(gain)
    point = gains(even)
    return {name: (point[name], *np.quantile(resampled[name], [0.025, 0.975])) for name in others}
