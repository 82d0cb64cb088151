"""A model of a weighted sample agrees with that of the whole table, over ten tables: calibration and ranking."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from nearward.evaluation.stats.logistic_recalibration import LogisticRecalibration
from nearward.risk_model import fitted
from nearward.risk_model.fitted import OutcomeModel
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.closed_form import ridge_discriminant
from nearward.tabular.ensemble.logistic_regression import fit_logistic_regression
from nearward.tabular.ensemble.stacking import fit_stack
from nearward.tabular.preprocessing.table_encoder import TableEncoder

SEEDS, ROWS, SAMPLE, NEW = 10, 3000, 800, 8000


def table(seed: int, rows: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Three numbers and a category, and an outcome of about one row in eleven whose log-odds are linear in them."""
    rng = np.random.default_rng(seed)
    x, ward = rng.normal(size=(rows, 3)), rng.integers(0, 3, rows)
    log_odds = -3.2 + x @ [1.0, 0.5, 0.0] + np.array([0.0, 0.5, 1.0])[ward]
    frame = pl.DataFrame(x, schema=["a", "b", "c"]).with_columns(pl.Series("ward", np.array(["s", "m", "i"])[ward]))
    return frame, (rng.random(rows) < expit(log_odds)).astype(np.int64)


def drawn(outcome: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the sample, all events among them, and how many rows each stands for."""
    events, others = np.flatnonzero(outcome == 1), np.flatnonzero(outcome == 0)
    some = np.random.default_rng(seed).choice(others, SAMPLE - len(events), replace=False)
    return np.append(events, some), np.append(np.ones(len(events)), np.full(len(some), len(others) / len(some)))


def fit(frame: pl.DataFrame, data: TrainingData, new: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return log-odds of the rows out of fold, and of new rows: linear learners, stack and calibration."""
    encoder = TableEncoder.fit(Schema.infer(frame), frame, data.weight)
    x, q = encoder.transform(frame), encoder.transform(new)
    ridge, ridge_scores = ridge_discriminant(x, data.outcome, data.patient_ids, 1e-3, data.weight)
    linear, of_new = np.empty(len(data)), []
    for _, train in data.splits():
        model = fit_logistic_regression(x[train], data.outcome[train], data.take(train).weight)
        linear[~train] = model.decision_function(x[~train])
        of_new.append(model.decision_function(q))
    stack, out_of_fold, _ = fit_stack(np.column_stack([ridge_scores, linear]), data, (1.0, 100.0))
    calibrator = OutcomeModel.fit(stack, out_of_fold, data).calibrator
    columns = np.column_stack([ridge.scores(q), np.mean(of_new, axis=0)])
    return calibrator.log_odds(out_of_fold), calibrator.log_odds(stack.log_odds(columns))


def test_a_sample_and_the_whole_table_give_the_same_calibration_and_ranking() -> None:
    """On new rows they differ by no more than chance, and the sample's interval holds the whole table's AUPRC."""
    differences, covered = [], 0
    for seed in range(SEEDS):
        (frame, outcome), (new, truth) = table(seed, ROWS), table(seed + 1000, NEW)
        rows, weight = drawn(outcome, seed)
        whole = TrainingData(outcome, np.arange(ROWS), assign_folds(outcome, None, 3, seed))
        sample = TrainingData(outcome[rows], np.arange(SAMPLE), assign_folds(outcome[rows], None, 3, seed), weight)
        assert sample.prevalence == pytest.approx(whole.prevalence)
        (of_whole, of_new), (of_sample, of_new_by_sample) = fit(frame, whole, new), fit(frame[rows], sample, new)
        interval = fitted._intervals(sample, of_sample)[0]
        assert interval is not None
        covered += interval[0] <= average_precision_score(outcome, of_whole) <= interval[1]
        differences.append(np.subtract(figures(truth, of_new_by_sample), figures(truth, of_new)))
    mean, error = np.mean(differences, axis=0), stats.sem(differences)
    fewer_rows_cost = [0.0, 0.0, 0.003]  # a little AUPRC, beside chance
    assert (np.abs(mean) <= stats.t.ppf(0.975, SEEDS - 1) * error + fewer_rows_cost).all()
    assert covered >= SEEDS - 1


def figures(outcome: np.ndarray, log_odds: np.ndarray) -> tuple[float, float, float]:
    """Return calibration in the large, calibration slope and AUPRC."""
    recalibration, one = LogisticRecalibration(log_odds, outcome), np.ones((1, len(outcome)))
    slope = recalibration.intercept_and_slope(one)[0, 1]
    return float(recalibration.in_the_large(one)[0]), float(slope), float(average_precision_score(outcome, log_odds))
