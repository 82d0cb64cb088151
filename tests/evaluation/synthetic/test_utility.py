from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from nearward.evaluation.stats.logistic_recalibration import EDGE
from nearward.evaluation.synthetic.utility import LEARNERS, _judge, _weights, utility
from nearward.evaluation.tables.inputs import read_tables
from nearward.tabular.calibration.log_odds import logit


@pytest.fixture(scope="module")
def tables(ward):
    return read_tables(ward(900, 1), ward(900, 2), ward(900, 3), "died")


def test_figures_are_scikit_learns():
    draw = np.random.default_rng(0)
    risk = draw.random(400).round(2)
    outcome = (draw.random(400) < risk).astype(float)
    weight = np.concatenate([np.ones((1, 400)), draw.integers(0, 3, (1, 400)).astype(float)])
    found = _judge(outcome, risk, weight, 0.3)
    for row in (0, 1):
        given = {"sample_weight": weight[row]}
        assert found.auprc[row] == pytest.approx(average_precision_score(outcome, risk, **given))
        assert found.auroc[row] == pytest.approx(roc_auc_score(outcome, risk, **given))
        assert found.brier[row] == pytest.approx(brier_score_loss(outcome, risk, **given))
    alerted = risk >= 0.3
    by_hand = (outcome[alerted].sum() - (1 - outcome[alerted]).sum() * 0.3 / 0.7) / 400
    assert found.benefit[0] == pytest.approx(by_hand)
    assert found.slope[0] == pytest.approx(1, abs=0.25)
    assert np.isfinite(logit(np.array([0.0, 1.0]), EDGE)).all()


def test_fresh_rows_teach_as_much_as_train(tables):
    found = utility(tables, 0)
    assert found.score.low > 0.7
    assert found.learners["learner"].to_list() == list(LEARNERS)
    assert found.rows == 900
    for real, made in found.learners.select("AUPRC, real", "AUPRC, synthetic").iter_rows():
        assert real.value > found.threshold
        assert abs(real.value - made.value) < 0.12


def test_train_itself_teaches_exactly_as_much(tables):
    found = utility(tables.with_synthetic(tables.train), 0)
    logistic = found.learners.row(0, named=True)
    assert found.score.value == pytest.approx(1, abs=0.03)
    assert logistic["Δ AUROC"].value == pytest.approx(0, abs=1e-6)
    assert logistic["Δ Brier"].value == pytest.approx(0, abs=1e-6)


def test_a_constant_outcome_teaches_nothing_and_has_no_slope(tables):
    found = utility(tables.with_synthetic(tables.synthetic.with_columns(died=pl.lit(0.0))), 0)
    assert found.score.value == pytest.approx(0, abs=1e-12)
    assert found.score.high == pytest.approx(0, abs=1e-12)
    assert found.learners["slope, synthetic"].to_list() == [None] * 3
    assert all(one.value == pytest.approx(found.events / 900) for one in found.learners["AUPRC, synthetic"])


def test_without_signal_there_is_nothing_to_measure(tables):
    alone = {name: getattr(tables, name).with_columns(getattr(tables, name)["died"].shuffle(5)) for name in ("train", "holdout")}
    assert utility(replace(tables, **alone), 0).score is None


def test_resamples_draw_patients():
    patient = np.repeat(np.arange(40), 2)
    outcome = np.tile([0.0, 1.0], 40)
    weight = _weights(patient, outcome, 0)
    assert (weight[0] == 1).all()
    assert (weight[:, ::2] == weight[:, 1::2]).all()
    assert weight.sum(axis=1) == pytest.approx(80)
