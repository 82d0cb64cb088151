"""A model of a weighted sample agrees with that of the whole table, over ten tables; and it lives as any other."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

import nearward as nw
from nearward.evaluation.stats.logistic_recalibration import LogisticRecalibration
from nearward.risk_model import effort
from nearward.risk_model.fitted import OutcomeModel
from nearward.risk_model.summary import ranking_intervals
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
        interval = ranking_intervals(sample, of_sample)[0]
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


def stays(rows: int, seed: int, prefix: str) -> tuple[pl.DataFrame, np.ndarray, list[str]]:
    """Rows of patients with one or two each; one in five has the outcome."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=rows)
    patients = [f"{prefix}{i // 2 if i % 3 else i + 10_000}" for i in range(rows)]
    frame = pl.DataFrame(
        {"id": [f"{prefix}-{i}" for i in range(rows)], "a": a, "b": rng.normal(size=rows), "c": rng.choice(["x", "y"], rows)}
    )
    return frame, (a + 0.7 * rng.normal(size=rows) > 1).astype(int), patients


def rows_by_class(model: nw.RiskClassifier) -> tuple[list[float], list[int]]:
    """Sums of the sampling weights, and stored rows, by class."""
    inner = model.fitted_.model
    outcome = inner.retriever.outcome.astype(int)
    return np.bincount(outcome, weights=inner.sampling_weight).tolist(), np.bincount(outcome).tolist()


@pytest.mark.filterwarnings("ignore:column 'id'")
def test_a_model_of_a_sample_is_saved_extended_adapted_and_forgets(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(effort.EFFORTS, "fast", effort.Effort(folds=2, steps=20, teaching_rows=200))
    (frame, died, patients), (new, truth, groups) = stays(700, 0, "a"), stays(300, 1, "b")
    model = nw.RiskClassifier(random_state=0, effort="fast", backbone=None, schema=nw.Schema.infer(frame).with_roles(id="id"))
    model.fit(frame, died, groups=patients)
    summary, scores = model.summary_, model.predict_frame(new)
    assert (summary.rows, summary.events) == (700, died.sum())
    assert summary.taught is not None
    assert summary.taught < 250
    assert summary.out_of_fold.auprc_interval is not None
    assert scores["risk"].mean() == pytest.approx(truth.mean(), abs=0.05)
    sums, stored = rows_by_class(model)
    assert sums == pytest.approx(stored)
    model.save(tmp_path / "m")
    model.save(tmp_path / "light", records=False)
    loaded = nw.load(tmp_path / "m")
    assert loaded.predict_frame(new).equals(scores)
    light = nw.load(tmp_path / "light").predict_frame(new)
    assert light["risk"].to_numpy() == pytest.approx(scores["risk"].to_numpy(), abs=0.1)

    removal = loaded.forget(patients[:90])  # some of them taught
    assert removal.rows >= 90
    sums, stored = rows_by_class(loaded)
    assert sums == pytest.approx(stored)
    assert sum(stored) == 700 - removal.rows
    assert removal.check is not None
    assert removal.check.expected == pytest.approx(removal.check.events, rel=0.2)
    extension = loaded.extend(new, truth, groups=groups)
    assert extension.check is not None
    assert extension.check.events == truth.sum()
    assert np.isfinite(loaded.predict_frame(frame)["risk"].to_numpy()).all()
    assert loaded.refit().summary_.taught is not None

    here = model.adapt(*stays(300, 2, "c"))
    steps = {step.name: step for step in here.adaptation_.steps}
    assert steps["base learners on both"].gain is not None  # it was tried, on the rows that taught and the local ones
    assert here.predict_frame(new)["risk"].mean() == pytest.approx(truth.mean(), abs=0.06)
