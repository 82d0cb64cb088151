"""What all fitted models share: the figures of rows that are a sample, with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from nearward.retrieval.neighbors.voting import RetrievalSetting
from nearward.risk_model import fitted
from nearward.risk_model.summary import (
    BackboneSummary,
    BaseLearnerFigures,
    FitSummary,
    OutOfFoldSummary,
    RetrievalSummary,
    ranking_intervals,
)
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.stacking import fit_stack


def sampled() -> tuple[TrainingData, np.ndarray, np.ndarray]:
    """Weighted rows of patients with two rows each, a score of them, and the rows repeated as often as they count."""
    rng = np.random.default_rng(0)
    outcome = (rng.random(400) < 0.2).astype(np.int64)
    times = np.where(outcome == 1, 1, rng.integers(2, 6, 400))
    data = TrainingData(outcome, np.arange(400) // 2, np.arange(400) // 2 % 4, times.astype(float))
    return data, outcome + rng.normal(size=400), np.repeat(np.arange(400), times)


def test_intervals_of_a_sample_are_those_of_repeated_rows_of_the_same_patients() -> None:
    data, score, row = sampled()
    repeated = TrainingData(data.outcome[row], data.patient_ids[row], data.fold[row], np.ones(len(row)))
    auprc, auroc = ranking_intervals(data, score)
    assert [auprc, auroc] == [pytest.approx(interval, abs=0.01) for interval in ranking_intervals(repeated, score[row])]
    assert auprc is not None
    assert auroc is not None
    figure = average_precision_score(data.outcome, score, sample_weight=data.weight)
    assert auprc[0] < figure < auprc[1] < average_precision_score(data.outcome, score)  # which knows nothing of the table's prevalence
    assert auroc[0] < roc_auc_score(data.outcome, score, sample_weight=data.weight) < auroc[1]


def test_stack_and_calibration_are_those_of_the_whole_table() -> None:
    data, score, row = sampled()
    columns = np.column_stack([score, np.roll(score, 1)])
    stack, out_of_fold, _ = fit_stack(columns, data, (100.0,))
    model = fitted.OutcomeModel.fit(stack, out_of_fold, data)
    risk = 1 / (1 + np.exp(-model.calibrator.log_odds(out_of_fold)))
    assert np.average(risk, weights=data.weight) == pytest.approx(data.prevalence, abs=2e-3)
    low, high = model.band.interval(out_of_fold, risk)
    assert np.average(low, weights=data.weight) < data.prevalence < np.average(high, weights=data.weight)
    figures = fitted.base_learner_figures(["one", "other"], columns, stack, data)
    assert figures["one"].auprc == pytest.approx(average_precision_score(data.outcome[row], score[row]))


def test_figures_as_text() -> None:
    summary = OutOfFoldSummary(0.1834, 0.8, {"one": BaseLearnerFigures(0.1, 1.0)}, auprc_interval=(0.175, 0.1911))
    assert [summary.describe("auprc"), summary.describe("auroc")] == ["AUPRC 0.183 (0.175 to 0.191)", "AUROC 0.800"]


@pytest.mark.parametrize(("taught", "more"), [(None, ""), (100, ", all indexed; learned from a weighted sample of 100 rows")])
def test_rows_as_text(taught: int | None, more: str) -> None:
    out_of_fold = OutOfFoldSummary(0.1, 0.8, {})
    retrieval, backbone = RetrievalSummary("linear metric", RetrievalSetting(64, True, 1.0)), BackboneSummary(False, "none was requested")
    summary = FitSummary(900, 30, 800, 5, retrieval, backbone, out_of_fold, taught=taught)
    assert summary.describe_rows() == f"900 rows of 800 patients{more}"
