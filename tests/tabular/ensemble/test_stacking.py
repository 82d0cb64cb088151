"""The stack: a dominant member is found where events are many, the plain mean is kept where they are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.calibration.log_odds import expit, log_loss, logit
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.stacking import SHRINKAGES, adapt_stack, fit_stack


def cohort(seed: int, n: int, noise: tuple[float, ...] = (0.3, 3.0, 3.0)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members that are the truth plus noise of these sizes, each in its own unit; outcomes of prevalence .2; folds."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-2, 2, size=n)
    outcome = (rng.random(n) < expit(truth)).astype(np.int64)
    scores = np.column_stack([truth + size * rng.normal(size=n) for size in noise])
    return scores * 10.0 ** np.arange(len(noise)), outcome, np.arange(n) % 5


def labels(outcome: np.ndarray, fold: np.ndarray) -> TrainingData:
    """Each row a patient of its own."""
    return TrainingData(outcome, np.arange(len(outcome)), fold)


def test_a_dominant_member_has_most_weight_where_events_are_many() -> None:
    scores, outcome, fold = cohort(0, 6000)
    stack, out_of_fold, shrinkage = fit_stack(scores, labels(outcome, fold))
    assert stack.weight[0] > 0.75
    assert stack.weight[1:].max() < 0.25
    assert shrinkage == min(SHRINKAGES)
    alone = fit_stack(scores[:, :1], labels(outcome, fold))[1]
    assert log_loss(out_of_fold, outcome) <= log_loss(alone, outcome) + 1e-3


def test_weights_are_equal_where_events_are_few_and_members_alike() -> None:
    scores, outcome, fold = cohort(1, 60, noise=(1.5, 1.5, 1.5))
    assert outcome.sum() < 20
    stack, _, shrinkage = fit_stack(scores, labels(outcome, fold))
    assert shrinkage >= 100
    assert stack.weight == pytest.approx([1 / 3] * 3, abs=0.05)


@pytest.mark.parametrize("shrinkage", [1.0, 1e6])
def test_the_penalty_draws_the_weights_to_the_plain_mean(shrinkage: float) -> None:
    scores, outcome, fold = cohort(2, 800)
    weight = fit_stack(scores, labels(outcome, fold), penalties=(shrinkage,))[0].weight
    deviation = np.abs(weight - 1 / 3).max()
    assert (deviation > 0.2) if shrinkage == 1 else (deviation < 1e-2)


@pytest.mark.parametrize("fold_number", [0, 3])
def test_no_folds_scores_depend_on_its_own_labels(fold_number: int) -> None:
    scores, outcome, fold = cohort(3, 200)
    inside = fold == fold_number
    flipped = np.where(inside, 1 - outcome, outcome)
    before, after = (fit_stack(scores, labels(y, fold), penalties=(10.0,))[1] for y in (outcome, flipped))
    assert np.array_equal(before[inside], after[inside])
    assert np.abs(before - after)[~inside].min() > 0


def test_an_out_of_fold_score_is_the_stack_of_the_other_folds() -> None:
    scores, outcome, fold = cohort(4, 300)
    out_of_fold = fit_stack(scores, labels(outcome, fold), penalties=(10.0,))[1]
    for f in range(5):
        others = fold != f
        without = fit_stack(scores[others], labels(outcome[others], fold[others]), penalties=(10.0,))[0]
        assert out_of_fold[~others] == pytest.approx(without.log_odds(scores[~others]), abs=1e-6)


def test_the_strongest_penalty_within_one_standard_error_of_the_best_is_taken() -> None:
    scores, outcome, fold = cohort(5, 250, noise=(1.0, 2.0, 4.0))
    _, out_of_fold, shrinkage = fit_stack(scores, labels(outcome, fold))
    rows = {}
    for one in SHRINKAGES:
        z = fit_stack(scores, labels(outcome, fold), penalties=(one,))[1]
        rows[one] = np.logaddexp(0, z) - outcome * z
    best = min(rows, key=lambda one: rows[one].mean())
    near = [one for one in rows if (rows[one] - rows[best]).mean() <= (rows[one] - rows[best]).std() / len(outcome) ** 0.5]
    assert shrinkage == max(near)
    assert log_loss(out_of_fold, outcome) == pytest.approx(rows[shrinkage].mean())
    assert len({row.mean() for row in rows.values()}) == len(rows)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(seed=st.integers(0, 1000), members=st.integers(1, 4), n=st.integers(20, 60))
def test_weights_are_not_negative_and_rows_do_not_see_each_other(seed: int, members: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores, outcome = rng.normal(size=(n, members)), (np.arange(n) % 4 == 0).astype(np.int64)
    stack, out_of_fold, _ = fit_stack(scores, labels(outcome, np.arange(n) % 3))
    assert (stack.weight >= 0).all()
    assert np.isfinite(out_of_fold).all()
    batch = stack.log_odds(scores)
    assert np.concatenate([stack.log_odds(scores[i : i + 1]) for i in range(n)]) == pytest.approx(batch, abs=1e-9)
    order = rng.permutation(n)
    assert stack.log_odds(scores[order]) == pytest.approx(batch[order], abs=1e-9)


def test_a_member_that_ranks_backwards_is_not_turned_round() -> None:
    scores, outcome, fold = cohort(6, 2000, noise=(0.5, 0.5))
    scores[:, 1] *= -1
    stack = fit_stack(scores, labels(outcome, fold))[0]
    high, low = np.array([[0.0, -50.0]]), np.array([[0.0, 50.0]])
    assert stack.log_odds(high) == pytest.approx(stack.log_odds(low), abs=0.1)


def test_no_member_has_a_negative_weight() -> None:
    """Unbounded, the best weights would be 2 and -1: the second member's error is twice the first's."""
    rng = np.random.default_rng(8)
    truth, error = rng.normal(-1, 1, size=3000), rng.normal(size=3000)
    outcome = (rng.random(3000) < expit(truth)).astype(np.int64)
    stack = fit_stack(np.column_stack([truth + error, truth + 2 * error]), labels(outcome, np.arange(3000) % 5))[0]
    assert stack.weight.min() >= 0
    assert stack.weight[0] > stack.weight[1]


def test_members_that_say_nothing_leave_the_prevalence() -> None:
    outcome = (np.arange(100) % 5 == 0).astype(np.int64)
    stack, out_of_fold, _ = fit_stack(np.zeros((100, 3)), labels(outcome, (np.arange(100) // 5) % 4))
    assert expit(out_of_fold) == pytest.approx(np.full(100, 0.2), abs=0.01)
    assert stack.log_odds(np.zeros((1, 3))) == pytest.approx(logit([0.2]), abs=0.05)


def test_stacked_risks_are_calibrated() -> None:
    scores, outcome, fold = cohort(7, 4000, noise=(1.0, 1.0))
    risk = expit(fit_stack(scores, labels(outcome, fold))[1])
    for part in np.array_split(np.argsort(risk), 8):
        error = 3 * (risk[part].mean() * (1 - risk[part].mean()) / len(part)) ** 0.5
        assert risk[part].mean() == pytest.approx(outcome[part].mean(), abs=error + 0.01)


def test_a_stack_of_weighted_rows_is_that_of_repeated_rows_of_the_same_patients() -> None:
    scores, outcome, fold = cohort(8, 250)
    times = np.random.default_rng(0).integers(1, 4, 250)
    data, row = labels(outcome, fold), np.repeat(np.arange(250), times)
    sample, repeated = replace(data, weight=times.astype(float)), data.take(row)
    penalties = (1.0, 100.0)
    stack, out_of_fold, shrinkage = fit_stack(scores, sample, penalties)
    twin, of_repeated, same = fit_stack(scores[row], repeated, penalties)
    assert shrinkage == same
    assert stack.weight == pytest.approx(twin.weight, abs=1e-5)
    assert out_of_fold[row] == pytest.approx(of_repeated, abs=1e-5)
    assert np.abs(out_of_fold - fit_stack(scores, data, penalties)[1]).max() > 0.01
    adapted, of_others, _ = adapt_stack(stack, scores, sample, penalties)
    again, of_repeated, _ = adapt_stack(stack, scores[row], repeated, penalties)
    assert adapted.weight == pytest.approx(again.weight, abs=1e-5)
    assert of_others[row] == pytest.approx(of_repeated, abs=1e-5)


def test_weights_for_other_rows_leave_level_and_spread_as_they_are() -> None:
    scores, outcome, fold = cohort(0, 3000)
    stack, _, _ = fit_stack(scores, labels(outcome, fold))
    other, died, at = cohort(1, 2000, (3.0, 0.3, 3.0))  # the second member is the good one there
    adapted, out_of_fold, _ = adapt_stack(stack, other, labels(died, at))
    before, after = stack.log_odds(other), adapted.log_odds(other)
    assert adapted.weight[1] > stack.weight[1] + 0.2
    assert (after.mean(), after.std()) == pytest.approx((before.mean(), before.std()))
    assert log_loss(out_of_fold, died) < log_loss(before, died) - 0.01


def test_rounding_of_the_scores_moves_no_weight() -> None:
    """Ten base learners that are much alike, 40,000 rows: the loss is flat, and a method that stops early stops somewhere else."""
    rng = np.random.default_rng(0)
    n = 40_000
    truth = rng.normal(size=n)
    outcome = (rng.random(n) < 1 / (1 + np.exp(4 - 1.5 * truth))).astype(np.int64)
    alike = truth + 0.5 * rng.normal(size=n)
    scores = np.column_stack([alike + (0.1 + 0.1 * j) * rng.normal(size=n) for j in range(10)])
    data = TrainingData(outcome, np.arange(n), np.arange(n) % 2)
    stack, out_of_fold, _ = fit_stack(scores, data, (1.0,))
    rounded, rounded_out_of_fold, _ = fit_stack(scores * (1 + 1e-12 * rng.normal(size=scores.shape)), data, (1.0,))
    assert rounded.weight == pytest.approx(stack.weight, abs=1e-8)
    assert rounded_out_of_fold == pytest.approx(out_of_fold, abs=1e-6)
