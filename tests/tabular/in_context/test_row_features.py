"""Row features: calibrated as by scikit-learn, best first, higher means more risk, independent of other rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from nearward.tabular.in_context.row_features import CONSTANTS, EXPERTS, FEATURES, INPUTS, RowFeatures, RowFeaturizer, fit_row_featurizer

F, E = FEATURES, EXPERTS
LOG_ODDS, RANK = slice(2 * F, 2 * F + E), slice(2 * F + E, 2 * F + 2 * E)  # of the inputs, as ABOUT and COHORT
GAIN, PRESENT, COHORT = slice(2 * F + 2 * E, 2 * F + 3 * E), slice(2 * F + 3 * E, 2 * F + 4 * E), slice(2 * F + 4 * E, None)


def cohort(seed: int, b: int = 1, n: int = 300, d: int = 5, m: int = 4, holes: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Columns and experts in decreasing order of information, and an outcome in about one of four."""
    rng = torch.Generator().manual_seed(seed)
    signal = torch.randn(b, n, 1, generator=rng)
    value = signal + torch.randn(b, n, d, generator=rng) * torch.linspace(0.8, 4.0, d)
    score = signal + torch.randn(b, n, m, generator=rng) * torch.linspace(0.5, 3.0, m)
    outcome = (torch.rand(b, n, generator=rng) < torch.sigmoid(2 * signal[:, :, 0] - 1.5)).long()
    value[torch.rand(value.shape, generator=rng) < holes] = torch.nan
    return value, score, outcome


def fit(value: Tensor, score: Tensor, outcome: Tensor) -> tuple[RowFeaturizer, RowFeatures]:
    featurizer = fit_row_featurizer(value, score, torch.ones(len(value), score.shape[2], dtype=torch.bool), outcome)
    return featurizer, featurizer.transform(value, score)


def none(b: int, n: int) -> Tensor:
    return torch.zeros(b, n, 0)


def same(a: RowFeatures, b: RowFeatures, atol: float = 0.0) -> bool:
    return torch.equal(a.present, b.present) and all(
        torch.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol) for name in ("features", "log_odds", "inputs")
    )


def correlation(x: Tensor, y: Tensor) -> float:
    return float(np.corrcoef(x.double().numpy(), y.double().numpy())[0, 1])


# ---- what is where -------------------------------------------------------------------------------


def test_inputs_are_features_experts_and_constants() -> None:
    value, score, outcome = cohort(0, b=2)
    featurizer, rows = fit(value, score, outcome)
    assert rows.inputs.shape == (2, 300, INPUTS)
    assert rows.features.shape == (2, 300, 2 * F)
    assert torch.equal(rows.inputs[:, :, : 2 * F], rows.features)
    assert torch.allclose(rows.inputs[:, :, LOG_ODDS] * 3 + featurizer.base[:, None, None], rows.log_odds, atol=1e-5)
    assert torch.equal(rows.inputs[:, :, GAIN], featurizer.pseudo_r2[:, None].expand(2, 300, E))
    assert torch.equal(rows.inputs[:, :, PRESENT].bool(), rows.present[:, None].expand(2, 300, E))
    assert rows.present.sum(dim=1).tolist() == [4, 4]
    assert rows.inputs[:, :, COHORT].shape[2] == CONSTANTS
    assert not rows.inputs[:, :, LOG_ODDS][:, :, 4:].any()  # an empty slot says the base rate
    assert not rows.inputs[:, :, RANK][:, :, 4:].any()
    assert not rows.features[:, :, 5:F].any()


def test_constants_by_hand() -> None:
    """Of 99 rows 9 have the outcome: the base rate is 9.5 of 100."""
    outcome = torch.zeros(1, 99, dtype=torch.long)
    outcome[:, :9] = 1
    featurizer, rows = fit(torch.randn(1, 99, 2), torch.randn(1, 99, 1), outcome)
    base = math.log(0.095 / 0.905)
    assert featurizer.base.item() == pytest.approx(base, rel=1e-5)
    by_hand = [base / 3, math.log(10) / 4 - 1, math.log10(99) - 3]
    assert rows.inputs[0, 50, COHORT].tolist() == pytest.approx(by_hand, rel=1e-5)


def test_take_takes_rows() -> None:
    rows = fit(*cohort(1))[1]
    some = rows.take(torch.tensor([7, 3, 3]))
    assert torch.equal(some.inputs[0], rows.inputs[0, [7, 3, 3]])
    assert torch.equal(some.features[0], rows.features[0, [7, 3, 3]])
    assert torch.equal(some.log_odds[0], rows.log_odds[0, [7, 3, 3]])


# ---- experts -------------------------------------------------------------------------------------


def platt(z: np.ndarray, outcome: np.ndarray) -> tuple[float, float]:
    """Slope and intercept by scikit-learn, penalty .001 on the slope, Platt's targets as weights of both outcomes."""
    events, non_events = outcome.sum(), (1 - outcome).sum()
    target = np.where(outcome == 1, (events + 1) / (events + 2), 1 / (non_events + 2))
    model = LogisticRegression(C=1e3, tol=1e-10, max_iter=10_000)
    model.fit(np.tile(z, 2)[:, None], np.repeat([1, 0], len(z)), sample_weight=np.append(target, 1 - target))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(40, 800),
    prevalence=st.floats(0.005, 0.6),
    strength=st.sampled_from([0.0, 0.5, 2.0, 8.0, 100.0]),
    tail=st.sampled_from([1.0, 3.0]),
)
def test_calibration_is_scikit_learns(seed: int, n: int, prevalence: float, strength: float, tail: float) -> None:
    rng = np.random.default_rng(seed)
    outcome = (np.arange(n) < max(3, round(prevalence * n))).astype(np.int64)
    score = strength * outcome + rng.normal(size=n)
    score = (np.sign(score) * np.abs(score) ** tail).astype(np.float32)
    featurizer, rows = fit(none(1, n), torch.tensor(score)[None, :, None], torch.tensor(outcome)[None])
    z = np.clip((score - score.mean()) / score.std(ddof=1), -6, 6)
    slope, intercept = platt(z, outcome)
    if slope < 0.01:
        assert featurizer.slope[0, 0] == pytest.approx(max(slope, 0), abs=2e-3)
        return
    assert (featurizer.slope[0, 0].item(), featurizer.intercept[0, 0].item()) == pytest.approx((slope, intercept), rel=5e-3, abs=5e-3)
    assert rows.log_odds[0, :, 0].numpy() == pytest.approx(slope * z + intercept, rel=5e-3, abs=1e-2)
    rate = (outcome.sum() + 0.5) / (n + 1)
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    pseudo_r2 = 1 - log_loss(outcome, 1 / (1 + np.exp(-slope * z - intercept))) / entropy
    assert featurizer.pseudo_r2[0, 0].item() == pytest.approx(max(pseudo_r2, 0), abs=0.01)


def test_a_useless_or_inverted_expert_gets_the_base_rate() -> None:
    _, score, outcome = cohort(2)
    featurizer, rows = fit(none(1, 300), torch.stack([torch.ones(1, 300), -score[:, :, 0], score[:, :, 0]], dim=2), outcome)
    assert featurizer.expert[0, :3].tolist() == [2, 0, 1]
    assert featurizer.slope[0, 0] > 0.5
    assert featurizer.pseudo_r2[0, 0] > 0.1
    for slot in (1, 2):
        assert featurizer.slope[0, slot] == 0
        assert featurizer.pseudo_r2[0, slot] == pytest.approx(0, abs=1e-3)
        assert torch.equal(rows.log_odds[0, :, slot], featurizer.base.expand(300))
    assert featurizer.base.sigmoid() == pytest.approx((outcome.sum().item() + 0.5) / 301, rel=1e-5)


def test_experts_are_ordered_best_first() -> None:
    value, score, outcome = cohort(3, n=3000, m=5)
    shuffle = torch.tensor([4, 0, 2, 1, 3])
    featurizer, _ = fit(value, score[:, :, shuffle], outcome)
    assert shuffle[featurizer.expert[0, :5]].tolist() == [0, 1, 2, 3, 4]
    assert (featurizer.pseudo_r2[0].diff() <= 0).all()
    assert featurizer.pseudo_r2[0, 0] > 0.2
    assert 0 < featurizer.pseudo_r2[0, 4] < 0.1
    assert featurizer.expert[0, 5:].tolist() == [-1] * (E - 5)


def test_absent_experts_have_no_influence() -> None:
    value, score, outcome = cohort(4, b=2)
    present = torch.tensor([[True, False, True, True], [False, False, False, False]])
    featurizer = fit_row_featurizer(value, score, present, outcome)
    assert sorted(featurizer.expert[0, :3].tolist()) == [0, 2, 3]
    assert featurizer.expert[1].tolist() == [-1] * E
    rows = featurizer.transform(value, score)
    assert rows.present.sum(dim=1).tolist() == [3, 0]
    other = score.clone()
    other[0, :, 1] = torch.randn(300) * 50
    other[1] = torch.randn(300, 4) * 50
    assert same(rows, featurizer.transform(value, other))
    assert same(rows, fit_row_featurizer(value, other, present, outcome).transform(value, other))


def test_of_more_experts_than_slots_the_best_are_selected() -> None:
    value, score, outcome = cohort(5, n=2000, m=16)
    featurizer, _ = fit(value, score, outcome)
    everybody = [fit(value, score[:, :, j : j + 1], outcome)[0].pseudo_r2[0, 0].item() for j in range(16)]
    assert featurizer.expert[0].tolist() == np.argsort(everybody)[::-1][:E].tolist()


def test_ranks_rise_with_the_score_and_reach_from_end_to_end() -> None:
    _, score, outcome = cohort(6, n=400, m=2)
    score = score.exp()  # ranks do not care
    featurizer, rows = fit(none(1, 400), score, outcome)
    assert (featurizer.quantiles.diff(dim=2) >= 0).all()
    for slot in (0, 1):
        order = score[0, :, featurizer.expert[0, slot]].argsort()
        rank = rows.inputs[0, order, RANK][:, slot]
        assert (rank.diff() >= 0).all()
        assert (rank[0], rank[-1]) == pytest.approx((-2, 2), abs=0.05)
        mid = (torch.arange(400) + 0.5) / 400  # log-odds of the mid-rank, cut off at 6, over 3
        inner = slice(20, 380)
        assert rank[inner] == pytest.approx(torch.logit(mid)[inner] / 3, abs=0.06)
    extreme = featurizer.transform(none(1, 2), torch.tensor([[[-1e6, -1e6], [1e6, 1e6]]])).inputs[0, :, RANK][:, :2]
    assert extreme.tolist() == [[-2, -2], [2, 2]]


def test_many_equal_scores_have_one_rank_in_the_middle_of_them() -> None:
    """Of 500 rows 250 have score 0, 250 score 1: their mid-ranks are 1/4 and 3/4."""
    _, _, outcome = cohort(7, n=500)
    rows = fit(none(1, 500), (torch.arange(500) % 2).float()[None, :, None], (outcome + torch.arange(500) % 2 > 1).long())[1]
    low, high = rows.inputs[0, 0, RANK][0].item(), rows.inputs[0, 1, RANK][0].item()
    assert rows.inputs[0, :, RANK][:, 0].unique().tolist() == sorted([low, high])
    assert low == pytest.approx(-high, abs=0.05)
    assert high == pytest.approx(1, abs=0.05)  # half way out on the scale of ranks, which is in log-odds


# ---- columns -------------------------------------------------------------------------------------


def test_columns_are_ordered_by_relevance_and_higher_means_more_risk() -> None:
    value, score, outcome = cohort(8, n=1500, d=6)
    sign = torch.tensor([1.0, -1, -1, 1, -1, 1])
    shuffle = torch.tensor([3, 5, 0, 2, 4, 1])
    featurizer, rows = fit((value * sign)[:, :, shuffle], score, outcome)
    assert shuffle[featurizer.column[0, :6]].tolist() == [0, 1, 2, 3, 4, 5]
    assert ((featurizer.signed_std[0, :6] < 0) == (sign < 0)).all()
    for j in range(6):
        assert correlation(rows.features[0, :, j], outcome[0]) > 0


def test_a_slot_has_the_standardised_value_and_a_missing_indicator() -> None:
    value, score, outcome = cohort(9, d=1, holes=0.3)
    featurizer, rows = fit(value * 7 + 100, score, outcome)
    observed = ~value[0, :, 0].isnan()
    known = value[0, observed, 0]
    assert rows.features[0, observed, 0].numpy() == pytest.approx(((known - known.mean()) / known.std(correction=0)).numpy(), abs=1e-4)
    assert not rows.features[0, ~observed, 0].any()
    assert torch.equal(rows.features[0, :, F].bool(), ~observed)
    extreme = featurizer.transform(torch.tensor([[[1e9], [-1e9], [torch.nan]]]), score[:, :3])
    assert extreme.features[0, :, 0].tolist() == [6, -6, 0]


def test_distance_from_the_mean_and_absence_are_relevant_too() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 2000, 4, generator=rng)
    outcome = (noise[:, :, 1].abs() > 1.3).long()  # a column whose both ends are bad
    absent = (outcome > 0) & (torch.rand(1, 2000, generator=rng) < 0.6)
    value = noise.clone()
    value[:, :, 3] = value[:, :, 3].masked_fill(absent, torch.nan)  # a test not done on the sick
    assert sorted(fit(value, none(1, 2000), outcome)[0].column[0, :2].tolist()) == [1, 3]


def test_constant_and_empty_columns_are_not_selected() -> None:
    value, score, outcome = cohort(10, d=4)
    value[:, :, 1] = 7.3
    value[:, :, 2] = torch.nan
    value[:, :, 3] = torch.where(torch.arange(300) % 3 == 0, torch.nan, 1e6)  # the same wherever it is known
    featurizer, rows = fit(value, score, outcome)
    assert featurizer.column[0, 0] == 0
    assert featurizer.column[0, 1] == 3  # its holes may tell something
    assert featurizer.column[0, 2:].tolist() == [-1] * (F - 2)
    assert rows.inputs.isfinite().all()
    assert not rows.features[0, :, 1:F].any()
    assert not rows.features[0, :, F + 2 :].any()
    assert featurizer.transform(torch.full_like(value, torch.nan), score).inputs.isfinite().all()


def test_of_more_columns_than_slots_the_most_relevant_are_shown() -> None:
    value, score, outcome = cohort(11, n=2000, d=50, holes=0.0)
    featurizer, rows = fit(value, score, outcome)
    wanted = np.argsort([-abs(correlation(value[0, :, j], outcome[0])) for j in range(50)])
    assert (
        featurizer.column[0, :10].tolist() == wanted[:10].tolist()
    )  # further down, chance in the distance from the mean may count for more
    assert len(set(featurizer.column[0].tolist())) == F
    assert (featurizer.column[0] >= 0).all()
    assert rows.features[0, :, F - 1].any()


@pytest.mark.parametrize(("d", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_columns_and_no_experts(d: int, m: int) -> None:
    value, score, outcome = cohort(12, b=2)
    featurizer, rows = fit(value[:, :, :d], score[:, :, :m], outcome)
    assert rows.inputs.shape == (2, 300, INPUTS)
    assert rows.inputs.isfinite().all()
    assert rows.features.any() == (d > 0)
    assert torch.equal(rows.present.sum(dim=1), torch.tensor([m, m]))
    assert torch.equal(rows.log_odds[:, :, m:], featurizer.base[:, None, None].expand(2, 300, E - m))


def test_few_rows_and_a_single_event_are_accepted() -> None:
    for events in (0, 1, 20):
        outcome = (torch.arange(20) < events).long()[None]
        rows = fit(torch.randn(1, 20, 3), torch.randn(1, 20, 3), outcome)[1]
        assert rows.inputs.isfinite().all()
        assert rows.log_odds.abs().max() < 20


# ---- the same whoever reads ----------------------------------------------------------------------


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 40), m=st.integers(1, 15))
def test_the_order_of_columns_and_of_experts_does_not_matter(seed: int, d: int, m: int) -> None:
    value, score, outcome = cohort(seed, n=120, d=d, m=m)
    rng = torch.Generator().manual_seed(seed)
    columns, experts = torch.randperm(d, generator=rng), torch.randperm(m, generator=rng)
    before, rows = fit(value, score, outcome)
    after, shuffled = fit(value[:, :, columns], score[:, :, experts], outcome)
    present = before.expert[0] >= 0
    assert torch.equal(experts[after.expert[0][present]], before.expert[0][present])  # the useless too, which all say the base rate
    assert torch.equal(columns[after.column[0].clamp(min=0)][after.column[0] >= 0], before.column[0][before.column[0] >= 0])
    assert same(rows, shuffled, atol=1e-5)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_rows_and_tasks_alone_equal_the_batch(seed: int) -> None:
    value, score, outcome = cohort(seed, b=2, n=90)
    featurizer, rows = fit(value, score, outcome)
    for task in (0, 1):
        one = slice(task, task + 1)
        mine = RowFeatures(rows.features[one], rows.log_odds[one], rows.inputs[one], rows.present[one])
        assert same(mine, fit(value[one], score[one], outcome[one])[1], atol=1e-5)
    for row in (0, 37, 89):
        assert same(rows.take(slice(row, row + 1)), featurizer.transform(value[:, row : row + 1], score[:, row : row + 1]))


def test_the_featurizer_depends_on_stored_rows_only() -> None:
    """Transforming new rows changes nothing, and they do not influence each other."""
    value, score, outcome = cohort(13, n=200)
    featurizer, _ = fit(value[:, :150], score[:, :150], outcome[:, :150])
    rows = featurizer.transform(value[:, 150:], score[:, 150:])
    other = value.clone()
    other[:, 150] = 1e3
    changed = featurizer.transform(other[:, 150:], score[:, 150:])
    assert not torch.equal(rows.inputs[:, 0], changed.inputs[:, 0])
    assert torch.equal(rows.inputs[:, 1:], changed.inputs[:, 1:])


def test_another_unit_or_offset_changes_nothing() -> None:
    value, score, outcome = cohort(14)
    assert same(fit(value, score, outcome)[1], fit(value * 88.4 + 12, score * 0.01 - 3, outcome)[1], atol=1e-3)
    assert same(fit(value, score, outcome)[1], fit(value * -88.4, score, outcome)[1], atol=1e-3)
