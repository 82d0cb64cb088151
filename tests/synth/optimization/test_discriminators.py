"""Discriminators: each granularity detects its defect, and has no weight where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.optimization.discriminators import Discriminators, separation
from nearward.synth.optimization.granularities import (
    CLIP,
    FeatureDiscriminator,
    RowDiscriminator,
    SentenceDiscriminator,
    TableShape,
    TokenDiscriminator,
)
from nearward.tabular.errors import InputError

ORDER = (0, 1, 2, 3)


def rows(n: int, seed: int, linked: bool = True) -> np.ndarray:
    """Four columns of tokens; columns 1 and 2 are linked, or not."""
    rng = np.random.default_rng(seed)
    outcome = 1 + (rng.random(n) < 0.1)
    a = rng.integers(1, 6, n)
    b = np.where(rng.random(n) < 0.8, a, rng.integers(1, 6, n)) if linked else rng.permutation(a)
    return np.stack([outcome, a, b, rng.integers(1, 4, n)], axis=1)


def shape_of(real: np.ndarray, groups=((1, 2),)) -> TableShape:
    return TableShape.of([np.bincount(real[:, j], minlength=7) for j in range(4)], ORDER, groups)


@pytest.fixture(scope="module")
def discriminators() -> Discriminators:
    real = rows(800, 0)
    return Discriminators.fit(shape_of(real), real, rows(2000, 1, linked=False), None, seed=0)


def test_token_ratios_by_hand() -> None:
    real = np.array([[1, 1], [1, 1], [2, 2], [2, 2]])
    synthetic = np.array([[1, 1], [1, 2], [2, 1], [2, 2]])
    shape = TableShape.of([np.array([0, 2, 2]), np.array([0, 2, 2])], (0, 1))
    discriminator = TokenDiscriminator.fit(shape, real, synthetic)
    assert discriminator.parents.tolist() == [0, 0]
    scores = discriminator.scores(shape, real, real)
    # given 1: real has 1 twice of (0, 2, 0), synthetic once each of (0, 1, 1), all plus 1/2
    assert scores[0] == pytest.approx([0, np.log(2.5 / 3.5) - np.log(1.5 / 3.5)])
    assert discriminator.scores(shape, np.array([[1, 2]]), np.array([[1, 2]]))[0, 1] == pytest.approx(np.log(0.5 / 1.5))


def test_sentences_outside_the_domain_score_worst() -> None:
    real = np.array([[1, 1]] * 10)
    shape = TableShape.of([np.array([0, 10, 0]), np.array([0, 10, 0])], (0, 1))
    discriminator = SentenceDiscriminator.fit(shape, real, real)
    assert discriminator.scores(shape, np.array([[1, 2]]), np.array([[1, 2]])).tolist() == [[0, -CLIP]]


def test_permuting_a_linked_column_lowers_the_feature_score() -> None:
    real, synthetic = rows(800, 2), rows(800, 3, linked=False)
    shape = shape_of(real)
    discriminator = FeatureDiscriminator.fit(shape, real, synthetic, 0)
    fresh = rows(2000, 4)
    permuted = fresh.copy()
    permuted[:, 2] = np.random.default_rng(0).permutation(fresh[:, 2])
    score = [discriminator.scores(shape, x, shape.coarse(x)) for x in (fresh, permuted)]
    assert score[0].sum(axis=1).mean() > score[1].sum(axis=1).mean() + 0.5
    assert (score[0][:, [0, 1, 3]] == 0).all()  # the score is at the group's last column


def test_shuffling_later_values_changes_the_row_score() -> None:
    real, synthetic = rows(800, 5), rows(800, 6, linked=False)
    shape = shape_of(real)
    discriminator = RowDiscriminator.fit(shape, real, synthetic, 0)
    fresh = rows(2000, 7)
    shuffled = fresh.copy()
    shuffled[:, 2:] = np.random.default_rng(0).permutation(fresh[:, 2:])
    score = [discriminator.scores(shape, x, shape.coarse(x)).sum(axis=1) for x in (fresh, shuffled)]
    assert (shuffled[:, 0] == fresh[:, 0]).all()
    assert (score[0] != score[1]).mean() > 0.3
    assert score[0].mean() > score[1].mean() + 0.5


def test_granularities_with_a_defect_are_active(discriminators) -> None:
    assert {"token", "feature", "row"} <= set(discriminators.active)
    assert all(held_out.auc > 0.6 for name, held_out in discriminators.separations.items() if name in ("token", "feature", "row"))
    assert "sentence" not in discriminators.active  # each column alone has no defect


def test_without_a_defect_there_is_no_reward() -> None:
    active = 0
    for seed in range(8):
        real = rows(400, 100 + seed)
        discriminators = Discriminators.fit(shape_of(real), real, rows(1000, 200 + seed), None, seed)
        active += len(discriminators.active)
        if not discriminators.active:
            assert not discriminators.rewards(rows(50, seed)).any()
    assert active <= 3  # of 32: an interval of 95 % errs above in one of forty


def test_rewards_are_in_units_of_their_spread_and_prefer_real_rows(discriminators) -> None:
    real, synthetic = rows(3000, 10), rows(3000, 11, linked=False)
    reward = [discriminators.rewards(x).sum(axis=1) for x in (real, synthetic)]
    assert reward[0].mean() > reward[1].mean() + 0.3
    assert abs(reward[1].mean()) < 0.1
    assert 0.3 < reward[1].std() < 1.1


def test_rows_of_a_patient_are_in_one_fold() -> None:
    """Rows that repeat across folds would be memorised: the held-out AUC would be too high."""
    distinct = rows(300, 12)
    distinct[:, 3] = np.arange(300) % 6
    real = np.repeat(distinct, 4, axis=0)
    synthetic = np.repeat(rows(300, 13), 4, axis=0)
    patient = np.repeat(np.arange(300), 4)
    shape = shape_of(real)
    grouped = Discriminators.fit(shape, real, synthetic, patient, 0).separations["row"].auc
    ungrouped = Discriminators.fit(shape, real, synthetic, None, 0).separations["row"].auc
    assert ungrouped > grouped


def test_too_few_rows_are_refused() -> None:
    real = rows(30, 14)
    with pytest.raises(InputError, match="40 of each"):
        Discriminators.fit(shape_of(real), real, rows(500, 15), None, 0)


def test_separation_by_hand_and_its_interval() -> None:
    assert separation(np.array([2.0, 4.0]), np.array([1.0, 3.0])).auc == 0.75
    assert separation(np.array([1.0, 1.0]), np.array([1.0, 1.0])).auc == 0.5
    rng = np.random.default_rng(0)
    covered = sum(s.low <= 0.5 <= s.high for s in (separation(rng.normal(size=60), rng.normal(size=90)) for _ in range(300)))
    assert covered / 300 == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("repeats", [1, 5])
def test_repeated_evidence_of_folds_and_patients_keeps_the_error_rate(repeats) -> None:
    """An interval that took both folds, or a patient's rows, for independent would accept noise in one of four of these."""
    active = 0
    for seed in range(24):
        real = np.repeat(rows(200 // repeats, 300 + seed), repeats, axis=0)
        patient = np.repeat(np.arange(200 // repeats), repeats)
        active += len(Discriminators.fit(shape_of(real), real, rows(1000, 600 + seed), patient, seed).active)
    assert active <= 6  # of 96, of which 2.4 are due


def test_the_interval_of_repeated_rows_is_that_of_their_patients() -> None:
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(0.3, 1, 80), rng.normal(0, 1, 20_000)
    once = separation(real, synthetic)
    repeated = separation(np.repeat(real, 4), synthetic, np.repeat(np.arange(80), 4))
    assert (repeated.auc, repeated.low) == pytest.approx((once.auc, once.low), abs=1e-3)
    assert separation(np.repeat(real, 4), synthetic).low > once.low + 0.02
