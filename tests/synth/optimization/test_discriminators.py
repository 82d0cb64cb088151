"""The critics: they find what is wrong, each at its grain, are silent where nothing is, and say so before anybody listens."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.synth.optimization.discriminator_levels import CLIP, FeatureLevel, RowLevel, SentenceLevel, Shape, TokenLevel
from nearward.synth.optimization.discriminators import Discriminators, separation
from nearward.tabular.errors import InputError

ORDER = (0, 1, 2, 3)


def rows(n: int, seed: int, linked: bool = True) -> np.ndarray:
    """Four columns of tokens; columns 1 and 2 are linked, or not."""
    draw = np.random.default_rng(seed)
    outcome = 1 + (draw.random(n) < 0.1)
    a = draw.integers(1, 6, n)
    b = np.where(draw.random(n) < 0.8, a, draw.integers(1, 6, n)) if linked else draw.permutation(a)
    return np.stack([outcome, a, b, draw.integers(1, 4, n)], axis=1)


def shape_of(real: np.ndarray, groups=((1, 2),)) -> Shape:
    return Shape.of([np.bincount(real[:, j], minlength=7) for j in range(4)], ORDER, groups)


@pytest.fixture(scope="module")
def critics() -> Discriminators:
    real = rows(800, 0)
    return Discriminators.fit(shape_of(real), real, rows(2000, 1, linked=False), None, seed=0)


def test_token_ratios_by_hand() -> None:
    real = np.array([[1, 1], [1, 1], [2, 2], [2, 2]])
    made = np.array([[1, 1], [1, 2], [2, 1], [2, 2]])
    shape = Shape.of([np.array([0, 2, 2]), np.array([0, 2, 2])], (0, 1))
    level = TokenLevel.fit(shape, real, made)
    assert level.parents.tolist() == [0, 0]
    scores = level.scores(shape, real, real)
    # given 1: real has 1 twice of (0, 2, 0), made once each of (0, 1, 1), all plus 1/2
    assert scores[0] == pytest.approx([0, np.log(2.5 / 3.5) - np.log(1.5 / 3.5)])
    assert level.scores(shape, np.array([[1, 2]]), np.array([[1, 2]]))[0, 1] == pytest.approx(np.log(0.5 / 1.5))


def test_sentences_outside_the_domain_score_worst() -> None:
    real = np.array([[1, 1]] * 10)
    shape = Shape.of([np.array([0, 10, 0]), np.array([0, 10, 0])], (0, 1))
    level = SentenceLevel.fit(shape, real, real)
    assert level.scores(shape, np.array([[1, 2]]), np.array([[1, 2]])).tolist() == [[0, -CLIP]]


def test_permuting_a_linked_column_lowers_the_feature_score() -> None:
    real, made = rows(800, 2), rows(800, 3, linked=False)
    shape = shape_of(real)
    level = FeatureLevel.fit(shape, real, made, 0)
    fresh = rows(2000, 4)
    permuted = fresh.copy()
    permuted[:, 2] = np.random.default_rng(0).permutation(fresh[:, 2])
    score = [level.scores(shape, x, shape.coarse(x)) for x in (fresh, permuted)]
    assert score[0].sum(axis=1).mean() > score[1].sum(axis=1).mean() + 0.5
    assert (score[0][:, [0, 1, 3]] == 0).all()  # it is told where the group's last column is written


def test_shuffling_later_values_changes_the_row_score() -> None:
    real, made = rows(800, 5), rows(800, 6, linked=False)
    shape = shape_of(real)
    level = RowLevel.fit(shape, real, made, 0)
    fresh = rows(2000, 7)
    shuffled = fresh.copy()
    shuffled[:, 2:] = np.random.default_rng(0).permutation(fresh[:, 2:])
    score = [level.scores(shape, x, shape.coarse(x)).sum(axis=1) for x in (fresh, shuffled)]
    assert (shuffled[:, 0] == fresh[:, 0]).all()
    assert (score[0] != score[1]).mean() > 0.3
    assert score[0].mean() > score[1].mean() + 0.5


def test_critics_tell_before_they_are_listened_to(critics) -> None:
    assert {"token", "feature", "row"} <= set(critics.open)
    assert all(held.auc > 0.6 for name, held in critics.held_out.items() if name in ("token", "feature", "row"))
    assert "sentence" not in critics.open  # each column alone is as it should be


def test_nothing_is_told_where_there_is_nothing_to_tell() -> None:
    listened = 0
    for seed in range(8):
        real = rows(400, 100 + seed)
        critics = Discriminators.fit(shape_of(real), real, rows(1000, 200 + seed), None, seed)
        listened += len(critics.open)
        if not critics.open:
            assert not critics.rewards(rows(50, seed)).any()
    assert listened <= 3  # of 32: an interval of 95 % errs above in one of forty


def test_rewards_are_in_units_of_their_spread_and_prefer_real_rows(critics) -> None:
    real, made = rows(3000, 10), rows(3000, 11, linked=False)
    reward = [critics.rewards(x).sum(axis=1) for x in (real, made)]
    assert reward[0].mean() > reward[1].mean() + 0.3
    assert abs(reward[1].mean()) < 0.1
    assert 0.3 < reward[1].std() < 1.1


def test_a_patients_rows_are_in_one_half() -> None:
    """Rows that repeat across halves would be known by heart: the critics would then seem to tell what they cannot."""
    distinct = rows(300, 12)
    distinct[:, 3] = np.arange(300) % 6
    real = np.repeat(distinct, 4, axis=0)
    made = np.repeat(rows(300, 13), 4, axis=0)
    patient = np.repeat(np.arange(300), 4)
    shape = shape_of(real)
    apart = Discriminators.fit(shape, real, made, patient, 0).held_out["row"].auc
    mixed = Discriminators.fit(shape, real, made, None, 0).held_out["row"].auc
    assert mixed > apart


def test_too_few_rows_are_refused() -> None:
    real = rows(30, 14)
    with pytest.raises(InputError, match="40 of each"):
        Discriminators.fit(shape_of(real), real, rows(500, 15), None, 0)


def test_separation_by_hand_and_its_interval() -> None:
    assert separation(np.array([2.0, 4.0]), np.array([1.0, 3.0])).auc == 0.75
    assert separation(np.array([1.0, 1.0]), np.array([1.0, 1.0])).auc == 0.5
    draw = np.random.default_rng(0)
    covered = sum(s.low <= 0.5 <= s.high for s in (separation(draw.normal(size=60), draw.normal(size=90)) for _ in range(300)))
    assert covered / 300 == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("repeats", [1, 5])
def test_the_gate_keeps_its_error_where_halves_and_patients_repeat_the_evidence(repeats) -> None:
    """An interval that took both halves, or a patient's rows, for fresh evidence listens to noise in one of four of these."""
    listened = 0
    for seed in range(24):
        real = np.repeat(rows(200 // repeats, 300 + seed), repeats, axis=0)
        patient = np.repeat(np.arange(200 // repeats), repeats)
        listened += len(Discriminators.fit(shape_of(real), real, rows(1000, 600 + seed), patient, seed).open)
    assert listened <= 6  # of 96, of which 2.4 are due


def test_the_interval_of_repeated_rows_is_that_of_their_patients() -> None:
    draw = np.random.default_rng(1)
    real, made = draw.normal(0.3, 1, 80), draw.normal(0, 1, 20_000)
    once = separation(real, made)
    repeated = separation(np.repeat(real, 4), made, np.repeat(np.arange(80), 4))
    assert (repeated.auc, repeated.low) == pytest.approx((once.auc, once.low), abs=1e-3)
    assert separation(np.repeat(real, 4), made).low > once.low + 0.02
