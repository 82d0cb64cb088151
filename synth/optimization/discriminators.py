"""Discriminators of all granularities, cross-fitted in two folds of real rows that the policy never saw.

A granularity whose held-out AUC interval covers .5 has weight 0: its scores are noise, and the policy would learn the noise. Both folds
evaluate the same pairs of rows, which is the same evidence twice: the interval must not become narrower.

Shapes: n rows, d columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.synth.optimization.granularities import (
    FeatureDiscriminator,
    Granularity,
    RowDiscriminator,
    SentenceDiscriminator,
    TableShape,
    TokenDiscriminator,
)
from nearward.tabular.errors import InputError
from nearward.tabular.statistics import placement_values, sum_by_patient
from nearward.tabular.typing import Floats, Ints

WEIGHTS = {"token": 0.2, "sentence": 0.3, "feature": 0.2, "row": 0.3}
MIN_ROWS = 40  # of either kind: fewer cannot train two folds


@dataclass(frozen=True)
class Separation:
    """Separation of held-out real from synthetic rows by the scores of one granularity.

    Parameters
    ----------
    auc, low, high : float
        Area under the ROC curve and its 95 % interval.
    mean, scale : float
        Mean and standard deviation of the scores of held-out synthetic rows, which standardise the scores.
    """

    auc: float
    low: float
    high: float
    mean: float
    scale: float

    @property
    def significant(self) -> bool:
        """Whether the granularity contributes to the reward."""
        return self.low > 0.5 and self.scale > 0


@dataclass(frozen=True)
class Discriminators:
    """Fitted discriminators.

    Parameters
    ----------
    shape : TableShape
    folds : dict of granularity -> its two discriminators
    separations : dict of granularity -> Separation
    real_rewards, synthetic_rewards : (n,)
        Out-of-fold rewards of the real and synthetic rows.
    """

    shape: TableShape
    folds: dict[str, tuple[Granularity, Granularity]]
    separations: dict[str, Separation]
    real_rewards: Floats
    synthetic_rewards: Floats

    @classmethod
    def fit(cls, shape: TableShape, real: Ints, synthetic: Ints, patient_ids: Ints | None, seed: int) -> Discriminators:
        """Fit all granularities in two folds and evaluate each on the other.

        Parameters
        ----------
        shape : TableShape
        real : (n, d), rows that the policy was not fitted on
        synthetic : (m, d), rows sampled from the policy
        patient_ids : (n,) or None
            Patients of the real rows; a patient is in one fold.
        seed : int

        Raises
        ------
        InputError
            Fewer than 40 rows of either kind.
        """
        if min(len(real), len(synthetic)) < MIN_ROWS:
            raise InputError(
                f"{len(real)} real and {len(synthetic)} synthetic rows cannot train discriminators: {MIN_ROWS} of each are needed"
            )
        rng = np.random.default_rng(seed)
        patients = np.arange(len(real)) if patient_ids is None else np.unique(patient_ids, return_inverse=True)[1]
        real_fold = (rng.permutation(int(patients.max()) + 1) % 2)[patients]
        synthetic_fold = rng.permutation(len(synthetic)) % 2
        coarse_real, coarse_synthetic = shape.coarse(real), shape.coarse(synthetic)
        fitted: dict[str, list[Granularity]] = {name: [] for name in WEIGHTS}
        for fold in (0, 1):
            a, b = real_fold == fold, synthetic_fold == fold
            fitted["token"].append(TokenDiscriminator.fit(shape, coarse_real[a], coarse_synthetic[b]))
            fitted["sentence"].append(SentenceDiscriminator.fit(shape, coarse_real[a], coarse_synthetic[b]))
            fitted["feature"].append(FeatureDiscriminator.fit(shape, coarse_real[a], coarse_synthetic[b], seed))
            fitted["row"].append(RowDiscriminator.fit(shape, real[a], synthetic[b], seed))
        folds = {name: (pair[0], pair[1]) for name, pair in fitted.items()}
        separations: dict[str, Separation] = {}
        real_rewards, synthetic_rewards = np.zeros(len(real)), np.zeros(len(synthetic))
        for name, pair in folds.items():
            out_of_fold = []
            for rows, coarse, fold_of_row in ((real, coarse_real, real_fold), (synthetic, coarse_synthetic, synthetic_fold)):
                scores = [discriminator.scores(shape, rows, coarse).sum(axis=1) for discriminator in pair]
                out_of_fold.append(np.where(fold_of_row == 0, scores[1], scores[0]))
            real_scores, synthetic_scores = out_of_fold
            per_fold = []
            for fold in (0, 1):
                a, b = real_fold == fold, synthetic_fold == fold
                per_fold.append(separation(real_scores[a], synthetic_scores[b], patients[a]))
            separations[name] = _mean_separation(per_fold, synthetic_scores)
            real_rewards += _weight(name, separations[name]) * (real_scores - separations[name].mean)
            synthetic_rewards += _weight(name, separations[name]) * (synthetic_scores - separations[name].mean)
        return cls(shape, folds, separations, real_rewards, synthetic_rewards)

    @property
    def active(self) -> list[str]:
        """Names of the granularities that contribute to the reward."""
        return [name for name, separation in self.separations.items() if separation.significant]

    def scores(self, tokens: Ints) -> dict[str, Floats]:
        """Return the unweighted scores of each granularity, the mean of both folds: granularity -> (n, d)."""
        coarse = self.shape.coarse(tokens)
        return {
            name: sum(discriminator.scores(self.shape, tokens, coarse) for discriminator in pair) / len(pair)  # type: ignore[misc]
            for name, pair in self.folds.items()
        }

    def rewards(self, tokens: Ints) -> Floats:
        """Return the reward of each step (n, d), the weighted sum of standardised scores; a row's reward is the sum of its steps."""
        total = np.zeros(tokens.shape)
        for name, scores in self.scores(tokens).items():
            held_out = self.separations[name]
            total += _weight(name, held_out) * (scores - held_out.mean / tokens.shape[1])
        return total


def separation(real: Floats, synthetic: Floats, patient_ids: Ints | None = None) -> Separation:
    """Estimate the AUC of scores of real against synthetic rows, with DeLong's interval, clustered by patient.

    Parameters
    ----------
    real, synthetic : (n,), (m,), greater for more real
    patient_ids : (n,), optional
        Patients of the real rows; rows of one patient are not independent.

    References
    ----------
    DeLong et al.: Comparing the areas under two or more correlated receiver operating characteristic curves (1988).
    Obuchowski: Nonparametric analysis of clustered ROC curve data (1997).

    Examples
    --------
    >>> separation(np.array([3.0, 4.0]), np.array([1.0, 2.0])).auc
    1.0
    """
    above, below = placement_values(real, synthetic)
    auc = float(above.mean())
    sums = sum_by_patient(above - auc, patient_ids)
    patients = len(sums)
    variance = (sums**2).sum() / len(real) ** 2 * patients / max(patients - 1, 1) + below.var(ddof=1) / len(synthetic)
    margin = 1.96 * float(np.sqrt(variance))
    return Separation(auc, auc - margin, auc + margin, float(synthetic.mean()), float(synthetic.std()))


def _mean_separation(folds: list[Separation], synthetic: Floats) -> Separation:
    """Return the mean AUC of two folds, with an interval as wide as that of one."""
    auc, low, high = (float(np.mean([getattr(fold, name) for fold in folds])) for name in ("auc", "low", "high"))
    return Separation(auc, low, high, float(synthetic.mean()), float(synthetic.std()))


def _weight(name: str, held_out: Separation) -> float:
    return WEIGHTS[name] / held_out.scale if held_out.significant else 0.0
