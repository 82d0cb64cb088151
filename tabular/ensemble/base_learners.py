"""The base learners: about ten cheap models of different kinds, whose scores of stored rows come from fits without the row's patient.

Closed-form learners (``closed_form.py``) score leave-one-patient-out. The others are fitted once a fold and score that fold's rows; a new
row gets the mean of the folds' log-odds. Columns that the user declared as experts (SOFA, a legacy model) are used as they are.

Shapes: n stored rows, q query rows, m base learners, p encoded columns, d number columns, c category columns, s user scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.calibration.log_odds import log_loss, logit
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.boosting import boosted_trees, symmetric_trees
from nearward.tabular.ensemble.closed_form import (
    STRENGTHS,
    KernelRegression,
    RidgeDiscriminant,
    plain_kernel,
    ridge_discriminant,
    whitened_kernel,
)
from nearward.tabular.ensemble.logistic_regression import fit_logistic_regression
from nearward.tabular.ensemble.trees import Forest
from nearward.tabular.parallel import parallel_map
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder
from nearward.tabular.preprocessing.target_encoder import TargetEncoder, cross_fit_transform
from nearward.tabular.statistics import weighted_quantile
from nearward.tabular.typing import Floats, Ints, Progress

# Settings of LightGBM whose errors differ: many leaves fit interactions and sharp edges, few leaves keep a weak signal whole, thresholds
# drawn at random smooth both, and a sum of curves, one a column, has no interactions to fit by chance. Which of them ranks best changes
# from cohort to cohort (docs/log/2026-11.md).
ADDITIVE = "gradient boosting, additive"  # ``_fit_fold`` restricts each of its trees to one column
BOOSTING: dict[str, dict[str, Any]] = {
    "gradient boosting, 31 leaves": {"num_iterations": 200, "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 10},
    "gradient boosting, 31 leaves, L2 penalty": {
        "num_iterations": 200, "learning_rate": 0.06, "num_leaves": 31, "min_data_in_leaf": 10, "lambda_l2": 3.0,
    },
    "gradient boosting, 10 leaves": {
        "num_iterations": 200, "learning_rate": 0.05, "num_leaves": 10, "min_data_in_leaf": 20, "lambda_l2": 5.0,
        "feature_fraction_bynode": 0.4,
    },
    "gradient boosting, random thresholds": {
        "num_iterations": 200, "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 10, "extra_trees": True,
    },
    ADDITIVE: {
        "num_iterations": 400, "learning_rate": 0.03, "num_leaves": 4, "min_data_in_leaf": 10, "lambda_l2": 3.0,
        "bagging_fraction": 0.7, "bagging_freq": 1,
    },
}  # fmt: skip
_STAGES = (0.125, 0.25, 0.5, 1.0)  # shares of a setting's trees, of which ``_choose_stage`` selects one
_TREE_COLUMNS, _LEAST_SHARE = 64, 0.2  # columns that a tree of a wider table draws, and the least share of them: four times as fast
CATBOOST = "CatBoost"
TREES = {"lightgbm": (*BOOSTING,), "lightgbm+catboost": (*BOOSTING, CATBOOST)}  # the parameter ``trees`` -> names of the learners
_SEEDS_OF_A_DRAW = 1000  # between the seeds of two fold draws
_MOST_LUCK = 0.01  # share of the scores' variance that may be due to the fold draw
_SHARE_FLOOR = 1e-3  # of kernels, before their log-odds are taken


@dataclass(frozen=True)
class EncodedRows:
    """One set of rows in the three encodings that base learners need.

    Parameters
    ----------
    dense : (n, p), standardised, for distances and linear models
    numbers : EncodedTable, for trees and target encoding
    user_scores : (n, s), the user's experts, NaN for missing
    """

    dense: Floats
    numbers: EncodedTable
    user_scores: Floats

    def take(self, rows: NDArray[Any]) -> EncodedRows:
        """Return some of the rows."""
        return EncodedRows(self.dense[rows], self.numbers.take(rows), self.user_scores[rows])


@dataclass(frozen=True)
class FoldLearners:
    """Learners that are fitted without one fold's patients.

    Parameters
    ----------
    target_encoder : TargetEncoder
    logistic_weights : (p + c + 1,), on dense columns and category rates, intercept last
    forests : tuple of Forest, one for each name in ``TREES``
    """

    target_encoder: TargetEncoder
    logistic_weights: Floats
    forests: tuple[Forest, ...]

    def log_odds(self, rows: EncodedRows) -> Floats:
        """Return the log-odds of q rows by logistic regression, then by each forest: (q, 1 + forests)."""
        rates = self.target_encoder.transform(rows.numbers.codes)
        x = tree_columns(rows.numbers, rates)
        return np.column_stack([self._linear(rows, rates), *(forest.scores(x) for forest in self.forests)])

    def staged_log_odds(self, rows: EncodedRows) -> tuple[Floats, Floats]:
        """Return the log-odds of q rows by logistic regression (q,), and by the first trees of each forest (forests, stages, q)."""
        rates = self.target_encoder.transform(rows.numbers.codes)
        x = tree_columns(rows.numbers, rates)
        return self._linear(rows, rates), np.stack([forest.staged_scores(x, _stages(forest)) for forest in self.forests])

    def with_fewer_trees(self, stages: Sequence[int]) -> FoldLearners:
        """Return the learners with the share of each forest's trees that an index of ``_STAGES`` names; stages: (forests,)."""
        return replace(self, forests=tuple(forest.first(_stages(forest)[s]) for forest, s in zip(self.forests, stages, strict=True)))

    def _linear(self, rows: EncodedRows, rates: Floats) -> Floats:
        return np.asarray(np.column_stack([rows.dense, rates]) @ self.logistic_weights[:-1] + self.logistic_weights[-1])


def _stages(forest: Forest) -> list[int]:
    return [max(1, round(share * forest.trees)) for share in _STAGES]


@dataclass(frozen=True)
class BaseLearners:
    """The fitted base learners.

    Parameters
    ----------
    ridge : tuple of RidgeDiscriminant
    kernel : tuple of KernelRegression
    folds : tuple of FoldLearners
        Those of the folds, then those of further fold draws.
    trees : "lightgbm" or "lightgbm+catboost"
    user_scores : tuple of str, names of the user's experts
    user_score_fill : (s,), value of a missing score
    """

    ridge: tuple[RidgeDiscriminant, ...]
    kernel: tuple[KernelRegression, ...]
    folds: tuple[FoldLearners, ...]
    trees: str
    user_scores: tuple[str, ...]
    user_score_fill: Floats

    @property
    def names(self) -> list[str]:
        """Names of the m base learners, in the order of the scores' columns."""
        ridges = [f"ridge {strength:g}" for strength in STRENGTHS]
        kernels = ["kernel regression", "kernel regression, whitened"]
        return [*ridges, *kernels, "logistic regression", *TREES[self.trees], *(f"expert: {name}" for name in self.user_scores)]

    def scores(self, rows: EncodedRows) -> tuple[Floats, Floats]:
        """Return every base learner's score of new rows (q, m), and each row's distance to its neighbourhood (q,)."""
        ridge = [model.scores(rows.dense) for model in self.ridge]
        kernel = [model.predict(rows.dense) for model in self.kernel]
        folds = np.mean([fold.log_odds(rows) for fold in self.folds], axis=0)
        return _score_columns(ridge, kernel, folds, rows, self.user_score_fill), kernel[0][1]

    def without(self, removed: Ints, rows: tuple[int, int]) -> BaseLearners:
        """Return the base learners without the references of some patients; arguments as ``KernelRegression.without``."""
        return replace(self, kernel=tuple(model.without(removed, rows) for model in self.kernel))

    def features(self, rows: EncodedRows, fold: Ints | None = None) -> Floats:
        """Return numbers, and categories by their log-odds of the outcome: (q, d + c), NaN for missing numbers.

        New rows get the folds' mean log-odds; stored rows, with their ``fold`` (n,), those of the fit without their fold.
        """
        rates = np.stack([learners.target_encoder.transform(rows.numbers.codes) for learners in self.folds])  # (folds, q, c)
        return np.column_stack([rows.numbers.values, rates.mean(axis=0) if fold is None else rates[fold, np.arange(len(fold))]])


def fit_base_learners(
    rows: EncodedRows,
    table_encoder: TableEncoder,
    data: TrainingData,
    user_scores: tuple[str, ...],
    seed: int,
    progress: Progress,
    trees: str = "lightgbm",
    repeats: int = 1,
) -> tuple[BaseLearners, Floats, Floats]:
    """Fit the base learners, and score each stored row by fits without its patient.

    Parameters
    ----------
    rows : EncodedRows, n stored rows
    table_encoder : TableEncoder
    data : TrainingData, n rows, outcome 0 or 1
        All learners use its weights, trees within each outcome alone (``_weights_of_trees``).
    user_scores : names of the user's experts
    seed : int
    progress : called with a message after each piece of work
    trees : "lightgbm" or "lightgbm+catboost"
    repeats : int
        Fold draws at most: with more than one, learners are fitted on further draws until the mean of their scores hardly depends on
        the draw. A stored row's scores are the mean over the draws, each by a fit without its patient.

    Returns
    -------
    base_learners : BaseLearners
    out_of_fold : (n, m), scores
    distance : (n,), squared distance of each row to its neighbourhood, its own patient left out
    """
    ridge = [ridge_discriminant(rows.dense, data.outcome, data.patient_ids, strength, data.weight) for strength in STRENGTHS]
    kernels = [fit(rows.dense, data.outcome, data.patient_ids, seed, data.weight) for fit in (plain_kernel, whitened_kernel)]
    progress("closed-form base learners")

    folds: list[FoldLearners] = []
    draws = []
    for repeat in range(repeats):
        first_seed = seed + _SEEDS_OF_A_DRAW * repeat
        drawn = data if repeat == 0 else replace(data, fold=split_patients(data.outcome, data.patient_ids, data.n_folds, first_seed))

        def fit_fold(f: int, drawn: TrainingData = drawn, first_seed: int = first_seed) -> tuple[FoldLearners, Floats, Floats]:
            train = drawn.train_rows(f)
            learners = _fit_fold(rows.take(train), table_encoder, drawn.take(train), first_seed + f, trees)
            return learners, *learners.staged_log_odds(rows.take(~train))

        linear, staged = np.empty(len(data)), np.empty((len(TREES[trees]), len(_STAGES), len(data)))
        learners_of_draw = []
        for f, (learners, *scores) in enumerate(parallel_map(fit_fold, range(drawn.n_folds), remote=True)):
            learners_of_draw.append(learners)
            linear[drawn.fold == f], staged[:, :, drawn.fold == f] = scores
            if repeat == 0:
                progress(f"base learners, fold {f + 1} of {data.n_folds}")
        stages = [_choose_stage(scores, data) for scores in staged]
        folds += [learners.with_fewer_trees(stages) for learners in learners_of_draw]
        draws.append(np.column_stack([linear, *(scores[s] for scores, s in zip(staged, stages, strict=True))]))
        if repeat:
            progress(f"base learners, draw {repeat + 1} of folds")
        if repeat and _share_of_luck(draws) < _MOST_LUCK:
            break
    out_of_fold = np.mean(draws, axis=0)
    fill = np.array([_median(column, data.weight) for column in rows.user_scores.T], dtype=np.float64)
    base_learners = BaseLearners(tuple(model for model, _ in ridge), tuple(kernels), tuple(folds), trees, user_scores, fill)
    kernel = [model.predict(rows.dense, data.patient_ids) for model in kernels]
    return base_learners, _score_columns([scores for _, scores in ridge], kernel, out_of_fold, rows, fill), kernel[0][1]


def _choose_stage(log_odds: Floats, data: TrainingData) -> int:
    """Return the index of ``_STAGES`` after the one with the least log loss, by out-of-fold log-odds (stages, n).

    The log loss is that after recalibration, as the stack recalibrates: more trees rank better for longer than they are calibrated. The
    next larger stage is taken because a new row gets the mean of all folds' trees, which overfits less than one fold's.
    """

    def recalibrated_log_loss(scores: Floats) -> float:
        x = (scores / max(float(scores.std()), 1e-12))[:, None]
        return log_loss(fit_logistic_regression(x, data.outcome, data.weight).decision_function(x), data.outcome, data.weight)

    return min(int(np.argmin([recalibrated_log_loss(scores) for scores in log_odds])) + 1, len(_STAGES) - 1)


def _share_of_luck(draws: list[Floats]) -> float:
    """Return the variance of the mean over fold draws, (n, l) each, in units of its variance over the rows; mean over l learners."""
    scores = np.stack(draws)
    luck = scores.var(axis=0, ddof=1).mean(axis=0) / len(draws)
    return float(np.mean(luck / np.maximum(scores.mean(axis=0).var(axis=0), 1e-12)))


def _median(scores: Floats, weight: Floats | None) -> float:
    """Return the median of the scores (n,) that are there, 0 where none is."""
    present = np.isfinite(scores)
    if not present.any():
        return 0.0
    return float(np.nanmedian(scores) if weight is None else weighted_quantile(scores[present], 0.5, weight[present]))


def _fit_fold(rows: EncodedRows, table_encoder: TableEncoder, data: TrainingData, seed: int, trees: str) -> FoldLearners:
    outcome, patient_ids = data.outcome, np.unique(data.patient_ids, return_inverse=True)[1]
    n_categories = [len(column.categories) for column in table_encoder.categorical]
    rates = cross_fit_transform(rows.numbers.codes, n_categories, outcome, patient_ids, seed, data.weight)
    linear = fit_logistic_regression(np.column_stack([rows.dense, rates]), outcome, data.weight)
    x = tree_columns(rows.numbers, rates)
    share = min(1.0, max(_LEAST_SHARE, _TREE_COLUMNS / x.shape[1]))
    settings = {name: {**setting, "feature_fraction": share} for name, setting in BOOSTING.items()}
    settings[ADDITIVE]["interaction_constraints"] = [[column] for column in range(x.shape[1])]
    weight, shift = _weights_of_trees(outcome, data.weight)
    forests = boosted_trees(x, outcome, seed, *settings.values(), sample_weight=weight)
    if CATBOOST in TREES[trees]:
        forests += (symmetric_trees(x, outcome, seed, weight),)
    target_encoder = TargetEncoder.fit(rows.numbers.codes, n_categories, outcome, weight=data.weight)
    forests = tuple(replace(forest, base=forest.base + shift) for forest in forests)
    return FoldLearners(target_encoder, np.append(linear.coef_[0], linear.intercept_), forests)


def _weights_of_trees(outcome: Ints, weight: Floats | None) -> tuple[Floats | None, float]:
    """Return weights (n,) of mean 1 within each outcome, None where all are 1; and the shift of the log-odds that makes up for it.

    Grown on few rows that stand for many, trees would fit a handful of them in each leaf as if they were hundreds: with rows without the
    event that stand for 13, AUPRC was .161 instead of .172 and the calibration slope .73 instead of .94 (31 leaves, docs/log/2026-11.md).
    So the trees see the sample as it is where weights depend on the outcome alone, and their log-odds are shifted to the whole table's
    prevalence.
    """
    if weight is None:
        return None, 0.0
    mean = np.array([weight[outcome == value].mean() for value in (0, 1)])
    within = weight / mean[outcome]
    return None if np.allclose(within, 1) else within, float(np.log(mean[1] / mean[0]))


def tree_columns(numbers: EncodedTable, rates: Floats) -> NDArray[np.float32]:
    """Return the columns that trees split (n, d + c + m): mid-ranks, NaN for missing, category rates, and features of code lists."""
    return np.column_stack([numbers.ranks.astype(np.float32), rates.astype(np.float32), numbers.list_features])


def _score_columns(ridge: list[Floats], kernel: list[tuple[Floats, Floats]], folds: Floats, rows: EncodedRows, fill: Floats) -> Floats:
    """Put all base learners' scores side by side (n, m)."""
    kernel_scores = [logit(event_rate, _SHARE_FLOOR) for event_rate, _ in kernel]
    return np.column_stack([*ridge, *kernel_scores, folds, np.where(np.isnan(rows.user_scores), fill, rows.user_scores)])
