"""The critics together: cross-fitted on two halves of real rows that the policy never saw, and silent where they have nothing to tell.

A level whose held-out AUC interval covers .5 has weight 0: what it says is noise, and a policy that listened would learn the noise.
The two halves judge each other on the same pairs of rows: they are the same evidence twice, and the interval must not shrink for it.

Letters: n rows, d columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearward.synth.optimization.discriminator_levels import FeatureLevel, Level, RowLevel, SentenceLevel, Shape, TokenLevel
from nearward.tabular.errors import InputError
from nearward.tabular.statistics import placement_values, sum_by_patient
from nearward.tabular.typing import Floats, Ints

WEIGHTS = {"token": 0.2, "sentence": 0.3, "feature": 0.2, "row": 0.3}
FEWEST = 40  # real rows: fewer cannot train two halves


@dataclass(frozen=True)
class Separation:
    """How well a level tells real rows from made ones that it was not fitted on.

    Parameters
    ----------
    auc, low, high : float
        Area under the curve and its 95 % interval; .5: it cannot.
    mean, scale : float
        Of its scores of held-out made rows: what a score is measured from and in.
    """

    auc: float
    low: float
    high: float
    mean: float
    scale: float

    @property
    def open(self) -> bool:
        """Whether the level is listened to."""
        return self.low > 0.5 and self.scale > 0


@dataclass(frozen=True)
class Discriminators:
    """Fitted critics.

    Parameters
    ----------
    shape : Shape
    levels : dict of level -> its two halves
    held_out : dict of level -> Separation
    real, made : (n,)
        Rewards of the real and made rows, each from the half that did not see the row.
    """

    shape: Shape
    levels: dict[str, tuple[Level, Level]]
    held_out: dict[str, Separation]
    real: Floats
    made: Floats

    @classmethod
    def fit(cls, shape: Shape, real: Ints, made: Ints, patient: Ints | None, seed: int) -> Discriminators:
        """Fit all levels on two halves and judge each on the other.

        Parameters
        ----------
        shape : Shape
        real : (n, d), rows that the policy did not learn from
        made : (m, d), rows of the policy
        patient : (n,) or None
            Patient numbers of the real rows; a patient is in one half.
        seed : int

        Raises
        ------
        InputError
            Fewer than 40 rows of either kind.
        """
        if min(len(real), len(made)) < FEWEST:
            raise InputError(f"{len(real)} real and {len(made)} synthetic rows cannot train discriminators: {FEWEST} of each are needed")
        draw = np.random.default_rng(seed)
        who = np.arange(len(real)) if patient is None else np.unique(patient, return_inverse=True)[1]
        half_real = (draw.permutation(int(who.max()) + 1) % 2)[who]
        half_made = draw.permutation(len(made)) % 2
        coarse_real, coarse_made = shape.coarse(real), shape.coarse(made)
        fitted: dict[str, list[Level]] = {name: [] for name in WEIGHTS}
        for half in (0, 1):
            a, b = half_real == half, half_made == half
            fitted["token"].append(TokenLevel.fit(shape, coarse_real[a], coarse_made[b]))
            fitted["sentence"].append(SentenceLevel.fit(shape, coarse_real[a], coarse_made[b]))
            fitted["feature"].append(FeatureLevel.fit(shape, coarse_real[a], coarse_made[b], seed))
            fitted["row"].append(RowLevel.fit(shape, real[a], made[b], seed))
        levels = {name: (pair[0], pair[1]) for name, pair in fitted.items()}
        held: dict[str, Separation] = {}
        told_real, told_made = np.zeros(len(real)), np.zeros(len(made))
        for name, pair in levels.items():
            scores = []
            for rows, coarse, side in ((real, coarse_real, half_real), (made, coarse_made, half_made)):
                each = [level.scores(shape, rows, coarse).sum(axis=1) for level in pair]
                scores.append(np.where(side == 0, each[1], each[0]))
            held[name] = _joined(
                [separation(scores[0][half_real == half], scores[1][half_made == half], who[half_real == half]) for half in (0, 1)],
                scores[1],
            )
            told_real += _weight(name, held[name]) * (scores[0] - held[name].mean)
            told_made += _weight(name, held[name]) * (scores[1] - held[name].mean)
        return cls(shape, levels, held, told_real, told_made)

    @property
    def open(self) -> list[str]:
        """Names of the levels that are listened to."""
        return [name for name, held in self.held_out.items() if held.open]

    def each(self, tokens: Ints) -> dict[str, Floats]:
        """Score rows by every level, unweighted, both halves' mean, where they are written: level -> (n, d)."""
        coarse = self.shape.coarse(tokens)
        return {
            name: sum(level.scores(self.shape, tokens, coarse) for level in pair) / len(pair)  # type: ignore[misc]
            for name, pair in self.levels.items()
        }

    def rewards(self, tokens: Ints) -> Floats:
        """Return the reward of each cell (n, d): levels weighted, gated and in units of their held-out spread; a row's is the sum."""
        total = np.zeros(tokens.shape)
        for name, scores in self.each(tokens).items():
            held = self.held_out[name]
            total += _weight(name, held) * (scores - held.mean / tokens.shape[1])
        return total


def separation(real: Floats, made: Floats, patient: Ints | None = None) -> Separation:
    """Tell how far apart two sets of scores lie.

    Parameters
    ----------
    real, made : (n,), (m,), greater for more real
    patient : (n,), optional
        Whose the real rows are: a patient's rows are one piece of evidence, not many.

    References
    ----------
    DeLong et al.: Comparing the areas under two or more correlated receiver operating characteristic curves (1988).
    Obuchowski: Nonparametric analysis of clustered ROC curve data (1997).

    Examples
    --------
    >>> separation(np.array([3.0, 4.0]), np.array([1.0, 2.0])).auc
    1.0
    """
    above, below = placement_values(real, made)
    auc = float(above.mean())
    sums = sum_by_patient(above - auc, patient)
    patients = len(sums)
    variance = (sums**2).sum() / len(real) ** 2 * patients / max(patients - 1, 1) + below.var(ddof=1) / len(made)
    spread = 1.96 * float(np.sqrt(variance))
    return Separation(auc, auc - spread, auc + spread, float(made.mean()), float(made.std()))


def _joined(halves: list[Separation], made: Floats) -> Separation:
    """Join two halves that judged each other: the mean of their areas, in an interval as wide as one half's."""
    auc, low, high = (float(np.mean([getattr(half, name) for half in halves])) for name in ("auc", "low", "high"))
    return Separation(auc, low, high, float(made.mean()), float(made.std()))


def _weight(name: str, held: Separation) -> float:
    return WEIGHTS[name] / held.scale if held.open else 0.0
