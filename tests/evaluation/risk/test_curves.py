"""Curves: points worked by hand, ends that must meet, bands around them, and a calibration curve that finds the truth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from nearward.evaluation.risk.curves import compute_curves
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.stats.calibration_spline import CalibrationSpline


def sample(rows: int = 4000, bend: float = 1.0) -> RiskSample:
    rng = np.random.default_rng(0)
    logit = rng.normal(-1.5, 1.3, rows)
    event = rng.random(rows) < 1 / (1 + np.exp(-logit))
    return RiskSample(event.astype(float), {"risk": 1 / (1 + np.exp(-bend * logit))}, np.arange(rows))


@pytest.fixture(scope="module")
def curves():
    return compute_curves(sample(), "risk", OperatingPoint(0.05, 0.2), 100, 0)


def test_four_rows_by_hand() -> None:
    tiny = RiskSample(np.array([1.0, 0, 1, 0]), {"risk": np.array([0.9, 0.8, 0.7, 0.1])}, np.arange(4))
    curves = compute_curves(tiny, "risk", OperatingPoint(0.5, 0.4), 100, 0)
    precision = dict(curves.precision_recall.select("recall", "precision").iter_rows())
    assert precision[0.5] == 1  # the first event is found at the first alert
    assert precision[1.0] == pytest.approx(2 / 3)
    roc = {round(x, 2): y for x, y in curves.roc.select("false_positive_rate", "recall").iter_rows()}
    assert (roc[0.0], roc[0.49], roc[0.51], roc[1.0]) == (0.5, 0.5, 1.0, 1.0)
    decision = curves.decision.filter(pl.col("threshold") > 0.75).row(0, named=True)
    odds = decision["threshold"] / (1 - decision["threshold"])
    assert decision["net_benefit"] == pytest.approx((1 - odds) / 4)  # two rows reach it, one with the event
    assert decision["all"] == pytest.approx((2 - 2 * odds) / 4)


def test_roc_is_scikit_learns(curves) -> None:
    evaluated = sample()
    fpr, recall, _ = roc_curve(evaluated.outcome, evaluated.risks["risk"], drop_intermediate=False)
    np.testing.assert_allclose(curves.roc["recall"], np.interp(curves.roc["false_positive_rate"], fpr, recall), atol=1e-12)


def test_bands_lie_around_their_curves(curves) -> None:
    for frame in (curves.roc, curves.precision_recall, curves.decision, curves.calibration):
        value, low, high = (frame.to_series(column).to_numpy() for column in (1, 2, 3))
        assert np.isfinite(frame.to_numpy()).all()
        assert (low <= high).all()
        assert ((low <= value) & (value <= high)).mean() > 0.95
    assert curves.roc["recall"].is_sorted()
    assert curves.precision_recall["precision"][-1] >= sample().outcome.mean() - 1e-12


@pytest.mark.parametrize(("bend", "steepest"), [(1.0, 1.0), (2.0, 0.5)])
def test_calibration_curve_finds_the_truth(bend, steepest) -> None:
    """Risks twice as steep as they should be: the event rate at a risk is that of half its log-odds."""
    frame = compute_curves(sample(20_000, bend), "risk", OperatingPoint(0.05, 0.2), 100, 0).calibration
    logit = np.log(frame["risk"] / (1 - frame["risk"])).to_numpy()
    truth = 1 / (1 + np.exp(-steepest * logit))
    inside = (frame["low"].to_numpy() - 1e-9 <= truth) & (truth <= frame["high"].to_numpy() + 1e-9)
    assert inside.mean() > 0.8
    assert np.abs(frame["event_rate"].to_numpy() - truth).max() < 0.05


def test_spline_is_logistic_regression_on_its_basis() -> None:
    rng = np.random.default_rng(0)
    bins = np.linspace(3, -5, 60)
    rows = rng.integers(20, 60, 60).astype(float)
    events = rng.binomial(rows.astype(int), 1 / (1 + np.exp(-np.sin(bins) - 0.5 * bins))).astype(float)
    spline, points = CalibrationSpline.fit_basis(bins, rows), np.linspace(-5, 3, 9)
    basis = spline.basis(bins)[:, 1:]
    assert basis.shape[1] == 3
    fitted = LogisticRegression(C=1e9, tol=1e-10, max_iter=5000).fit(
        np.vstack([basis, basis]), np.repeat([1, 0], 60), sample_weight=np.concatenate([events, rows - events])
    )
    expected = fitted.predict_proba(spline.basis(points)[:, 1:])[:, 1]
    np.testing.assert_allclose(spline.event_rates(rows[None], events[None], points)[0], expected, atol=1e-3)


def test_spline_is_straight_beyond_its_outer_knots() -> None:
    spline = CalibrationSpline.fit_basis(np.linspace(2, -4, 50), np.ones(50))
    for points in (np.linspace(-9, -5, 5), np.linspace(3, 7, 5)):
        np.testing.assert_allclose(np.diff(spline.basis(points), n=2, axis=0), 0, atol=1e-9)


def test_bands_where_a_share_is_1_follow_the_number_of_alerts() -> None:
    """The ten greatest risks all have the event: no resample says that the precision is less."""
    rng = np.random.default_rng(0)
    risk = np.concatenate([np.linspace(0.99, 0.9, 10), rng.uniform(0, 0.5, 390)])
    outcome = np.concatenate([np.ones(10), rng.random(390) < 0.1])
    curves = compute_curves(RiskSample(outcome, {"risk": risk}, np.arange(400)), "risk", OperatingPoint(0.025, 0.2), 100, 0)
    events = int(outcome.sum())
    precision = curves.precision_recall.filter(pl.col("recall") <= 5 / events)
    assert (precision["precision"] == 1).all()
    assert precision["low"].to_list() == pytest.approx([0.025 ** (1 / np.ceil(recall * events)) for recall in precision["recall"]])
    assert curves.roc["recall"][-2] == 1
    assert curves.roc["low"][-2] == pytest.approx(0.025 ** (1 / events))
    assert curves.roc["low"][-1] == 1  # by definition
    visits = RiskSample(outcome, {"risk": risk}, np.append(np.repeat(np.arange(5), 2), np.arange(5, 395)))
    band = compute_curves(visits, "risk", OperatingPoint(0.025, 0.2), 100, 0).precision_recall
    assert band.filter(pl.col("recall") <= 4 / events)["low"][-1] == pytest.approx(0.025 ** (1 / 2))  # four alerts of two patients


def test_few_different_risks_get_a_line() -> None:
    evaluated = sample(300)
    coarse = RiskSample(evaluated.outcome, {"risk": np.where(evaluated.risks["risk"] > 0.2, 0.6, 0.1)}, evaluated.patient_ids)
    frame = compute_curves(coarse, "risk", OperatingPoint(0.05, 0.2), 100, 0).calibration
    chosen = coarse.risks["risk"] == 0.6
    assert frame["event_rate"][-1] == pytest.approx(coarse.outcome[chosen].mean(), abs=1e-3)
    assert frame["event_rate"][0] == pytest.approx(coarse.outcome[~chosen].mean(), abs=1e-3)


def test_small_bars_are_suppressed() -> None:
    risk = np.concatenate([np.full(500, 0.03), np.full(9, 0.5), np.full(30, 0.7), np.full(20, 1.0)])
    evaluated = RiskSample((np.arange(559) % 7 == 0).astype(float), {"risk": risk}, np.arange(559))
    rows = compute_curves(evaluated, "risk", OperatingPoint(0.05, 0.2), 100, 0).histogram["rows"].to_list()
    assert 9 not in rows
    assert rows.count(None) == 2  # and the next smallest, or 559 less the rest would tell
    assert sorted(count for count in rows if count) == [30, 500]
