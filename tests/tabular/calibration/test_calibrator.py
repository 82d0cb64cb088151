"""Calibration that never reorders, priors that follow Bayes, bands that hold what they promise, novelty by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from nearward.tabular.calibration import venn_abers
from nearward.tabular.calibration.calibrator import Calibrator, correct_prior
from nearward.tabular.calibration.log_odds import expit, log_loss, logit
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles

probability = st.floats(1e-4, 1 - 1e-4)


def sample(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores from 0 to 1 and outcomes whose risk is the score squared."""
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    return score, (rng.random(n) < score**2).astype(np.int64)


# ---- log-odds ------------------------------------------------------------------------------------


def test_log_odds_by_hand() -> None:
    assert logit([0.5, 0.8, 0.0, 1.0], floor=0.01) == pytest.approx([0, math.log(4), -math.log(99), math.log(99)])
    assert expit([0.0, math.log(4)]) == pytest.approx([0.5, 0.8])


def test_logistic_does_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert expit([-1e308, -800.0, 800.0, 1e308]).tolist() == [0, 0, 1, 1]


@settings(deadline=None, max_examples=100, derandomize=True)
@given(p=probability, z=st.floats(-9, 9))
def test_log_odds_and_logistic_undo_each_other(p: float, z: float) -> None:
    assert expit(logit(p)) == pytest.approx(p, rel=1e-12)
    assert logit(expit(z)) == pytest.approx(z, rel=1e-9, abs=1e-12)
    assert expit(z) + expit(-z) == pytest.approx(1, abs=1e-15)


def test_log_loss_by_hand() -> None:
    assert log_loss(np.array([0.0, math.log(4)]), np.array([1, 0])) == pytest.approx((math.log(2) - math.log(0.2)) / 2)


# ---- calibration ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=2, max_size=40),
    slopes=st.sampled_from([1, 2]),
    queries=st.lists(st.floats(-1e7, 1e7), min_size=2, max_size=20),
)
def test_calibration_never_reorders(rows: list[tuple[float, bool]], slopes: int, queries: list[float]) -> None:
    score, outcome = np.array([s for s, _ in rows]), np.array([int(y) for _, y in rows])
    calibration = Calibrator.fit(score, outcome, slopes)
    out = calibration.log_odds(np.sort(np.array(queries)))
    assert np.isfinite(out).all()
    assert (np.diff(out) >= -1e-9 * np.abs(out).max()).all()
    assert calibration.rise >= 0
    assert calibration.fall >= 0
    if slopes == 1:
        assert calibration.rise == calibration.fall


@pytest.mark.parametrize("slopes", [1, 2])
def test_a_known_sigmoid_is_recovered(slopes: int) -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(3, 2, size=20_000)
    outcome = (rng.random(20_000) < expit(1.2 * score - 6)).astype(np.int64)
    queries = np.array([1.0, 3.0, 5.0, 7.0])
    assert Calibrator.fit(score, outcome, slopes).log_odds(queries) == pytest.approx(1.2 * queries - 6, abs=0.25)


def test_two_slopes_bend_where_the_truth_bends() -> None:
    rng = np.random.default_rng(1)
    score = rng.normal(size=20_000)
    truth = np.where(score > 0, 3 * score, 0.3 * score) - 1
    outcome = (rng.random(20_000) < expit(truth)).astype(np.int64)
    bent, straight = (log_loss(Calibrator.fit(score, outcome, s).log_odds(score), outcome) for s in (2, 1))
    assert bent < straight - 0.01
    calibration = Calibrator.fit(score, outcome)
    assert calibration.rise > 2 * calibration.fall


def test_the_mean_calibrated_risk_is_the_prevalence() -> None:
    score, outcome = sample(2, 3000)
    for slopes in (1, 2):
        assert expit(Calibrator.fit(score, outcome, slopes).log_odds(score)).mean() == pytest.approx(outcome.mean(), abs=1e-4)


def test_calibration_does_not_mind_the_scores_unit() -> None:
    score, outcome = sample(3, 500)
    queries = np.linspace(0, 1, 9)
    one = Calibrator.fit(score, outcome).log_odds(queries)
    assert Calibrator.fit(score * 1e6 - 5, outcome).log_odds(queries * 1e6 - 5) == pytest.approx(one, abs=1e-3)


def test_a_score_that_ranks_backwards_is_flattened_and_not_turned_round() -> None:
    score, outcome = sample(4, 2000)
    out = Calibrator.fit(-score, outcome).log_odds(np.array([-1.0, 0.0]))
    assert out == pytest.approx(np.full(2, logit(outcome.mean())), abs=0.05)


@pytest.mark.parametrize("constant", [0.0, 0.1, 7.3, -1e6])
def test_a_constant_score_gives_the_prevalence_near_itself_too(constant: float) -> None:
    outcome = (np.arange(30) < 6).astype(np.int64)
    calibration = Calibrator.fit(np.full(30, constant), outcome)
    prevalence = (6 * 7 / 8 + 24 / 26) / 30  # of Platt's targets
    assert expit(calibration.log_odds(np.array([constant]))) == pytest.approx([prevalence], abs=1e-3)
    near = constant + 1e-9 * max(1.0, abs(constant))
    assert expit(calibration.log_odds(np.array([near]))) == pytest.approx([prevalence], abs=1e-3)


@pytest.mark.parametrize("slopes", [1, 2])
@pytest.mark.parametrize("constant", [0.0, 7.3, -1e6])
def test_a_constant_score_taught_nothing_and_moves_nothing(constant: float, slopes: int) -> None:
    outcome = (np.arange(30) < 6).astype(np.int64)
    calibration = Calibrator.fit(np.full(30, constant), outcome, slopes)
    log_odds = calibration.log_odds(np.array([constant, constant + 20, -1e300, 1e300]))
    prevalence = (6 * 7 / 8 + 24 / 26) / 30  # of Platt's targets
    np.testing.assert_allclose(log_odds, np.full(4, math.log(prevalence / (1 - prevalence))), rtol=1e-12)


def test_scores_that_separate_perfectly_stay_finite() -> None:
    score = np.arange(40.0)
    out = Calibrator.fit(score, (score > 30).astype(np.int64)).log_odds(np.array([0.0, 30.4, 39.0]))
    assert np.isfinite(out).all()
    assert out[0] < -1 < 1 < out[2]


@pytest.mark.parametrize("huge", [1e300, 1e308])
def test_a_huge_score_among_others_stays_finite(huge: float) -> None:
    score, outcome = np.array([0.0, 1, 2, 3, 4, 5, huge, huge]), np.array([0, 0, 1, 0, 0, 1, 1, 1])
    assert np.isfinite(Calibrator.fit(score, outcome).log_odds(score)).all()


# ---- prior ---------------------------------------------------------------------------------------


def test_prior_correction_is_bayes() -> None:
    """A test of sensitivity .9 and specificity .8, read at prevalence .5, carried to prevalence .02."""
    positive = 0.9 * 0.5 / (0.9 * 0.5 + 0.2 * 0.5)
    carried = 0.9 * 0.02 / (0.9 * 0.02 + 0.2 * 0.98)
    assert correct_prior([positive], trained=0.5, deployed=0.02) == pytest.approx([carried])


@settings(deadline=None, max_examples=100, derandomize=True)
@given(p=probability, trained=probability, deployed=probability)
def test_prior_correction_round_trips_and_shifts_log_odds(p: float, trained: float, deployed: float) -> None:
    present = correct_prior(p, trained, deployed)
    assert correct_prior(present, deployed, trained) == pytest.approx(p, rel=1e-9)
    shift = math.log(deployed / (1 - deployed)) - math.log(trained / (1 - trained))
    assert logit(present, 1e-15) == pytest.approx(logit(p, 1e-15) + shift, abs=1e-6)
    assert correct_prior(trained, trained, deployed) == pytest.approx(deployed)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_prevalence_that_is_none_is_refused(prevalence: float) -> None:
    with pytest.raises(InputError, match="prevalence must lie between 0 and 1, got deployed"):
        correct_prior([0.5], trained=0.5, deployed=prevalence)
    with pytest.raises(InputError, match="prevalence must lie between 0 and 1, got trained"):
        correct_prior([0.5], trained=prevalence, deployed=0.5)


@pytest.mark.parametrize("slopes", [1, 2])
def test_a_calibrator_of_weighted_rows_is_that_of_repeated_rows(slopes: int) -> None:
    score, outcome = sample(14, 300)
    times = np.random.default_rng(0).integers(1, 5, 300)
    weighted = Calibrator.fit(score, outcome, slopes, times.astype(float)).log_odds(score)
    assert weighted == pytest.approx(Calibrator.fit(np.repeat(score, times), np.repeat(outcome, times), slopes).log_odds(score), abs=1e-6)
    assert np.abs(weighted - Calibrator.fit(score, outcome, slopes).log_odds(score)).max() > 1e-3
    constant = Calibrator.fit(np.ones(300), outcome, slopes, times.astype(float))
    assert expit(constant.log_odds(np.ones(1)))[0] == pytest.approx(np.average(outcome, weights=times), abs=5e-3)


# ---- band ----------------------------------------------------------------------------------------


def test_band_by_hand() -> None:
    """A new row joins one of four bins, once without and once with the outcome, and rates are made to rise."""
    band = VennAbersBand.fit(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 0, 1]))
    low, high = band.interval(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.3, 0.4, 0.5, 0.7]))
    # joining row 2 without: bins 0/1, 1/2, 0/1, 1/1 -> rows 2 and 3 pool to 1/3; with: 0/1, 2/2, 0/1, 1/1 -> 2/3
    assert low == pytest.approx([0, 1 / 3, 1 / 3, 1 / 2])
    assert high == pytest.approx([1 / 2, 2 / 3, 2 / 3, 1])


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_band_is_the_isotonic_regression_with_one_row_more(rows: list[tuple[int, bool]]) -> None:
    """Each end by its definition: scikit-learn's regression on the calibration rows and the new one."""
    score, outcome = np.array([float(s) for s, _ in rows]), np.array([int(y) for _, y in rows])
    seen = np.unique(score)
    band = VennAbersBand.fit(score, outcome)
    for imagined, end in ((0, band.low), (1, band.high)):
        fits = [IsotonicRegression().fit(np.append(score, s), np.append(outcome, imagined)).predict([s])[0] for s in seen]
        assert end[np.searchsorted(band.edge, seen, side="right")] == pytest.approx(fits)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=20),
    times=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_a_band_of_weighted_rows_has_one_patient_more_who_counts_as_much(rows: list[tuple[int, bool]], times: tuple[int, int]) -> None:
    """Rows of either outcome stand for as many as ``times`` says, and so does the patient of the score."""
    score, outcome = np.array([float(s) for s, _ in rows]), np.array([int(y) for _, y in rows])
    count = np.array(times)[outcome]
    seen = np.unique(score)
    band = VennAbersBand.fit(score, outcome, count.astype(float))
    repeated = np.repeat(score, count), np.repeat(outcome, count)
    for imagined, end in ((0, band.low), (1, band.high)):
        own = times[imagined] if (outcome == imagined).any() else 1
        with_own = [tuple(np.append(part, [one] * own) for part, one in zip(repeated, (s, imagined), strict=True)) for s in seen]
        fits = [IsotonicRegression().fit(*more).predict([s])[0] for more, s in zip(with_own, seen, strict=True)]
        assert end[np.searchsorted(band.edge, seen, side="right")] == pytest.approx(fits)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1.0])), st.booleans()), min_size=2, max_size=50),
    queries=st.lists(st.floats(-9, 9), min_size=2, max_size=20),
)
def test_the_band_holds_the_risk_and_its_ends_rise_with_it(rows: list[tuple[float, bool]], queries: list[float]) -> None:
    score, outcome = np.array([s for s, _ in rows]), np.array([int(y) for _, y in rows])
    new = np.sort(np.array(queries))
    risk = expit(Calibrator.fit(score, outcome).log_odds(new))
    low, high = VennAbersBand.fit(score, outcome).interval(new, risk)
    assert (low <= risk).all()
    assert (risk <= high).all()
    assert ((low >= 0) & (high <= 1)).all()
    assert (np.diff(low) >= -1e-9).all()
    assert (np.diff(high) >= -1e-9).all()


def test_one_end_of_the_band_is_calibrated_on_exchangeable_patients() -> None:
    score, outcome = sample(10, 6000)
    fitted, new = slice(0, 1500), slice(1500, None)
    band = VennAbersBand.fit(score[fitted], outcome[fitted])
    place = np.searchsorted(band.edge, score[new], side="right")
    low, high, truth = band.low[place], band.high[place], outcome[new]
    for part in np.array_split(np.argsort(score[new]), 10):
        error = 2.6 * (truth[part].mean() * (1 - truth[part].mean()) / len(part)) ** 0.5 + 2.6 * (0.25 / 150) ** 0.5
        assert low[part].mean() - error <= truth[part].mean() <= high[part].mean() + error


def test_the_mean_outcome_lies_between_the_mean_ends_over_many_small_cohorts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venn_abers, "_BINS", 30)
    ends = []
    for seed in range(400):
        score, outcome = sample(1000 + seed, 41)
        band = VennAbersBand.fit(score[:40], outcome[:40])
        place = np.searchsorted(band.edge, score[40], side="right")
        ends.append((band.low[place], band.high[place], outcome[40]))
    low, high, truth = np.array(ends).T
    for part in np.array_split(np.argsort(low + high), 4):
        error = 2 * (truth[part].mean() * (1 - truth[part].mean()) / len(part)) ** 0.5
        assert low[part].mean() - error <= truth[part].mean() <= high[part].mean() + error


def test_the_band_does_not_depend_on_the_calibrated_risk() -> None:
    """A risk in the band leaves the band as it is; one outside draws out its nearer end."""
    score, outcome = sample(11, 800)
    band = VennAbersBand.fit(score, outcome)
    queries = np.full(3, 0.7)
    low, high = band.interval(queries, np.array([0.49, 0.01, 0.99]))
    assert low[0] == low[2] == high[0] - (high[0] - low[0]) > low[1] == 0.01
    assert high[0] == high[1] < high[2] == 0.99


def test_the_band_narrows_where_patients_are_many() -> None:
    few, many = sample(12, 60), sample(12, 6000)
    queries = np.array([0.5])
    (a, b), (c, d) = (VennAbersBand.fit(*rows).interval(queries, np.array([0.25])) for rows in (few, many))
    assert d[0] - c[0] < 0.5 * (b[0] - a[0])


def test_the_band_keeps_to_four_hundred_bins_and_gives_the_riskiest_their_own() -> None:
    score, outcome = sample(13, 5000)
    band = VennAbersBand.fit(score, outcome)
    assert len(band.low) <= 400
    assert (score > band.edge[-1]).sum() <= 10


def test_equal_scores_share_one_bin() -> None:
    band = VennAbersBand.fit(np.zeros(9), np.array([1, 0, 0, 0, 0, 0, 0, 0, 0]))
    low, high = band.interval(np.array([-1.0, 0.0, 1.0]), np.full(3, 0.15))
    assert low == pytest.approx([0.1] * 3)
    assert high == pytest.approx([0.2] * 3)


# ---- novelty -------------------------------------------------------------------------------------


def test_novelty_is_the_share_of_stored_patients_that_are_nearer() -> None:
    novelty = DistanceQuantiles.fit(np.arange(101.0), count=101)
    assert novelty.score(np.array([-1.0, 0.0, 50.0, 50.5, 100.0, 101.0])) == pytest.approx([0, 0, 50 / 101, 51 / 101, 100 / 101, 1])


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    stored=st.lists(st.floats(0, 1e6), min_size=1, max_size=30),
    queries=st.lists(st.floats(0, 1e7), min_size=2, max_size=10),
)
def test_novelty_rises_with_distance_between_0_and_1(stored: list[float], queries: list[float]) -> None:
    novelty = DistanceQuantiles.fit(np.array(stored))
    out = novelty.score(np.sort(np.array(queries)))
    assert (np.diff(out) >= 0).all()
    assert ((out >= 0) & (out <= 1)).all()
    assert novelty.score(np.array([2 * max(stored) + 1])) == 1


def test_novelty_of_stored_distances_is_even() -> None:
    distance = np.random.default_rng(0).exponential(size=4000)
    out = DistanceQuantiles.fit(distance).score(distance)
    assert np.quantile(out, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.01)


def test_novelty_of_weighted_rows_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    distance, times = rng.exponential(size=200), rng.integers(1, 6, 200)
    weighted = DistanceQuantiles.fit(distance, weight=times.astype(float)).quantiles
    assert weighted == pytest.approx(DistanceQuantiles.fit(np.repeat(distance, times)).quantiles, abs=1e-12)
