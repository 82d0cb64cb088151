"""The expert panel: a handful of cheap, different opinions on every patient, each given by a model that never saw that patient.

Closed-form experts (``experts.py``) answer leave-one-patient-out; the others are fitted once per fold and answer for the rows
of that fold; a new row gets the mean of the folds' log-odds. Columns that the user declared as experts (SOFA, a legacy model)
sit in the panel as they are.

Letters: n stored rows, q query rows, m members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.closed_form import STRENGTHS, Kernel, Ridge, plain_kernel, ridge_discriminant, whitened_kernel
from nearward.tabular.ensemble.trees import Forest, boosted_trees, extra_trees
from nearward.tabular.parallel import parallel_map
from nearward.tabular.preprocessing.table_encoder import EncodedTable, TableEncoder
from nearward.tabular.preprocessing.target_encoder import TargetEncoder, cross_fit_transform
from nearward.tabular.typing import Floats, Ints

# Three ways to boost that disagree usefully: bold finds interactions and sharp edges, deep shrinks its leaves, shallow keeps a weak signal
# whole. Which of them ranks best changes from cohort to cohort (docs/log/2026-11.md).
_BOLD: dict[str, Any] = {"learning_rate": 0.05, "max_iter": 200, "max_leaf_nodes": 31, "min_samples_leaf": 10}
_DEEP: dict[str, Any] = {"learning_rate": 0.06, "max_iter": 200, "max_leaf_nodes": 31, "min_samples_leaf": 10, "l2_regularization": 3.0}
_SHALLOW: dict[str, Any] = {
    "learning_rate": 0.05, "max_iter": 200, "max_leaf_nodes": 10, "min_samples_leaf": 20, "l2_regularization": 5.0, "max_features": 0.4,
}  # fmt: skip
_TREES = 120


@dataclass(frozen=True)
class Columns:
    """One set of rows in the three readings that members need.

    Parameters
    ----------
    dense : (n, p), standardised, for everything that measures distances or adds up
    numbers : EncodedTable, for trees and category rates
    own : (n, s), the user's score columns, NaN for missing
    """

    dense: Floats
    numbers: EncodedTable
    own: Floats

    def take(self, rows: NDArray[Any]) -> Columns:
        """Return some of the rows."""
        return Columns(self.dense[rows], self.numbers.take(rows), self.own[rows])


@dataclass(frozen=True)
class FoldLearners:
    """What was fitted without one fold's patients.

    Parameters
    ----------
    rates : LevelRates
    logistic : (p + c + 1,), weights on dense columns and category rates, intercept last
    bold, deep, shallow, extra, keen : Forest
    """

    rates: TargetEncoder
    logistic: Floats
    bold: Forest
    deep: Forest
    shallow: Forest
    extra: Forest
    keen: Forest

    def log_odds(self, rows: Columns) -> Floats:
        """Return the members' log-odds for q rows -> (q, 6)."""
        rates = self.rates.transform(rows.numbers.codes)
        linear = np.column_stack([rows.dense, rates]) @ self.logistic[:-1] + self.logistic[-1]
        tree = tree_columns(rows.numbers, rates)
        boosted = [forest.scores(tree) for forest in (self.bold, self.deep, self.shallow)]
        return np.column_stack([linear, *boosted, *(logit(forest.scores(tree), 1e-3) for forest in (self.extra, self.keen))])


FOLD_LEARNERS = ("logistic", "boosted, bold", "boosted, deep", "boosted, shallow", "extra-trees", "extra-trees, keen")


@dataclass(frozen=True)
class BaseLearners:
    """The fitted panel.

    Parameters
    ----------
    ridge : tuple of Ridge
    kernel : tuple of Kernel
    folds : tuple of FoldMembers
    own : tuple of str, the user's score columns
    own_fill : (s,), what a missing score counts as
    """

    ridge: tuple[Ridge, ...]
    kernel: tuple[Kernel, ...]
    folds: tuple[FoldLearners, ...]
    own: tuple[str, ...]
    own_fill: Floats

    @property
    def names(self) -> list[str]:
        """Names of the m members, in the order of the scores' columns."""
        ridges = [f"ridge {strength:g}" for strength in STRENGTHS]
        return [*ridges, "kernel, plain", "kernel, whitened", *FOLD_LEARNERS, *(f"own: {name}" for name in self.own)]

    def values(self, rows: Columns, fold: Ints | None = None) -> Floats:
        """Return columns as numbers, categories by the log-odds of the outcome at their level: (q, d + c), NaN for missing numbers.

        New rows get the folds' mean; stored rows, with their ``fold`` (n,), what the one that had not seen them says.
        """
        told = np.stack([member.rates.transform(rows.numbers.codes) for member in self.folds])  # (folds, q, c)
        rates = told.mean(axis=0) if fold is None else told[fold, np.arange(len(fold))]
        return np.column_stack([rows.numbers.values, rates])

    def scores(self, rows: Columns) -> tuple[Floats, Floats]:
        """Return every member's score of new rows (q, m), and each row's distance to its neighbourhood (q,)."""
        around = [k.around(rows.dense) for k in self.kernel]
        fitted = np.mean([fold.log_odds(rows) for fold in self.folds], axis=0)
        return _side_by_side([r.scores(rows.dense) for r in self.ridge], around, fitted, rows.own, self.own_fill), around[0][1]


def fit_base_learners(
    rows: Columns,
    encoding: TableEncoder,
    data: TrainingData,
    own: tuple[str, ...],
    seed: int,
    progress: Callable[[str], None],
) -> tuple[BaseLearners, Floats, Floats]:
    """Fit the panel, and score each stored row by models that did not see its patient.

    Parameters
    ----------
    rows : Columns, n stored rows
    encoding : Encoding
    data : TrainingData, n rows, outcome 0 or 1
    own : names of the user's score columns
    seed : int
    progress : called with a few words after each piece of work

    Returns
    -------
    panel : Panel
    out_of_fold : (n, m), scores
    distance : (n,), squared distance of each row to its neighbourhood, its own patient left out
    """
    ridges = [ridge_discriminant(rows.dense, data.outcome, data.patient_ids, strength) for strength in STRENGTHS]
    kernels = [make(rows.dense, data.outcome, data.patient_ids, seed) for make in (plain_kernel, whitened_kernel)]
    progress("closed-form experts")

    def fit_fold(f: int) -> tuple[FoldLearners, Floats]:
        train = data.train_rows(f)
        member = _fit_fold(rows.take(train), encoding, data.take(train), seed + f)
        return member, member.log_odds(rows.take(~train))

    fitted = np.empty((len(data), len(FOLD_LEARNERS)))
    members = []
    for f, (member, out_of_fold) in enumerate(parallel_map(fit_fold, range(data.n_folds))):
        members.append(member)
        fitted[data.fold == f] = out_of_fold
        progress(f"base learners, fold {f + 1} of {data.n_folds}")
    fill = np.array([np.nanmedian(column) if np.isfinite(column).any() else 0.0 for column in rows.own.T], dtype=np.float64)
    panel = BaseLearners(tuple(r for r, _ in ridges), tuple(kernels), tuple(members), own, fill)
    around = [k.around(rows.dense, data.patient_ids) for k in kernels]
    return panel, _side_by_side([out for _, out in ridges], around, fitted, rows.own, fill), around[0][1]


def tree_columns(numbers: EncodedTable, rates: Floats) -> NDArray[np.float32]:
    """Return what trees read (n, d + c): mid-ranks, NaN for missing, and category rates."""
    return np.column_stack([numbers.ranks, rates]).astype(np.float32)


def _side_by_side(ridge: list[Floats], around: list[tuple[Floats, Floats]], fitted: Floats, own: Floats, fill: Floats) -> Floats:
    kernel = [logit(share, 1e-3) for share, _ in around]
    return np.column_stack([*ridge, *kernel, fitted, np.where(np.isnan(own), fill, own)])


def _fit_fold(rows: Columns, encoding: TableEncoder, data: TrainingData, seed: int) -> FoldLearners:
    from sklearn.linear_model import LogisticRegression

    outcome, patient_ids = data.outcome, np.unique(data.patient_ids, return_inverse=True)[1]
    levels = [len(c.categories) for c in encoding.categorical]
    unseen_rates = cross_fit_transform(rows.numbers.codes, levels, outcome, patient_ids, seed)
    linear = LogisticRegression(C=0.3, solver="newton-cholesky").fit(np.column_stack([rows.dense, unseen_rates]), outcome)
    tree = tree_columns(rows.numbers, unseen_rates)
    leaf = max(3, len(outcome) // 3000)
    return FoldLearners(
        TargetEncoder.fit(rows.numbers.codes, levels, outcome),
        np.append(linear.coef_[0], linear.intercept_),
        boosted_trees(tree, outcome, seed, **_BOLD),
        boosted_trees(tree, outcome, seed, **_DEEP),
        boosted_trees(tree, outcome, seed, **_SHALLOW),
        extra_trees(tree, outcome, seed, _TREES, min_samples_leaf=leaf, max_features=0.4),
        extra_trees(tree, outcome, seed, _TREES, min_samples_leaf=leaf, max_features=1.0),  # keen: tries every column at every split
    )
