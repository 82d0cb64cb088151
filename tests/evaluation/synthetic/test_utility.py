from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from nearward.evaluation.stats.logistic_recalibration import EDGE
from nearward.evaluation.synthetic.utility import LEARNERS, _resampled_metrics, _resampling_weights, utility
from nearward.evaluation.tables.inputs import read_tables
from nearward.tabular.calibration.log_odds import logit


@pytest.fixture(scope="module")
def tables(ward):
    return read_tables(ward(900, 1), ward(900, 2), ward(900, 3), "died")


def test_metrics_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    risk = rng.random(400).round(2)
    outcome = (rng.random(400) < risk).astype(float)
    weight = np.concatenate([np.ones((1, 400)), rng.integers(0, 3, (1, 400)).astype(float)])
    result = _resampled_metrics(outcome, risk, weight, 0.3)
    for row in (0, 1):
        weights = {"sample_weight": weight[row]}
        assert result.auprc[row] == pytest.approx(average_precision_score(outcome, risk, **weights))
        assert result.auroc[row] == pytest.approx(roc_auc_score(outcome, risk, **weights))
        assert result.brier[row] == pytest.approx(brier_score_loss(outcome, risk, **weights))
    alerted = risk >= 0.3
    by_hand = (outcome[alerted].sum() - (1 - outcome[alerted]).sum() * 0.3 / 0.7) / 400
    assert result.benefit[0] == pytest.approx(by_hand)
    assert result.slope[0] == pytest.approx(1, abs=0.25)
    assert np.isfinite(logit(np.array([0.0, 1.0]), EDGE)).all()


def test_fresh_rows_teach_as_much_as_train(tables):
    result = utility(tables, 0)
    assert result.score.low > 0.7
    assert result.learners["learner"].to_list() == list(LEARNERS)
    assert result.rows == 900
    for real, synthetic in result.learners.select("AUPRC, real", "AUPRC, synthetic").iter_rows():
        assert real.value > result.threshold
        assert abs(real.value - synthetic.value) < 0.12


def test_train_itself_teaches_exactly_as_much(tables):
    result = utility(tables.with_synthetic(tables.train), 0)
    logistic = result.learners.row(0, named=True)
    assert result.score.value == pytest.approx(1, abs=0.03)
    assert logistic["Δ AUROC"].value == pytest.approx(0, abs=1e-6)
    assert logistic["Δ Brier"].value == pytest.approx(0, abs=1e-6)


def test_a_constant_outcome_teaches_nothing_and_has_no_slope(tables):
    result = utility(tables.with_synthetic(tables.synthetic.with_columns(died=pl.lit(0.0))), 0)
    assert result.score.value == pytest.approx(0, abs=1e-12)
    assert result.score.high == pytest.approx(0, abs=1e-12)
    assert result.learners["slope, synthetic"].to_list() == [None] * 3
    assert all(auprc.value == pytest.approx(result.events / 900) for auprc in result.learners["AUPRC, synthetic"])


def test_without_signal_the_score_is_undefined(tables):
    alone = {name: getattr(tables, name).with_columns(getattr(tables, name)["died"].shuffle(5)) for name in ("train", "holdout")}
    assert utility(replace(tables, **alone), 0).score is None


def test_patients_are_resampled():
    patient_ids = np.repeat(np.arange(40), 2)
    outcome = np.tile([0.0, 1.0], 40)
    weight = _resampling_weights(patient_ids, outcome, 0)
    assert (weight[0] == 1).all()
    assert (weight[:, ::2] == weight[:, 1::2]).all()
    assert weight.sum(axis=1) == pytest.approx(80)
