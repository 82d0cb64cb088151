"""Closed-form experts: left out by algebra equals refitted without; a row alone equals the row in a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.ensemble import closed_form as experts
from nearward.tabular.ensemble.closed_form import STRENGTHS, KernelRegression, plain_kernel, ridge_discriminant, whitened_kernel


def cohort(seed: int, n: int = 90, p: int = 4, patients: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    x[:, -1] = x[:, 0] + 0.01 * x[:, -1]  # two columns that say nearly the same
    outcome = (x[:, 0] + rng.normal(size=n) > 0.8).astype(np.int64)
    return x, outcome, np.unique(rng.integers(0, patients, size=n), return_inverse=True)[1]


# ---- ridge ---------------------------------------------------------------------------------------


def refit(x: np.ndarray, outcome: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge by an augmented least squares, intercept first."""
    p = x.shape[1]
    root = np.sqrt(penalty * np.append(1e-9, np.ones(p)))
    design = np.vstack([np.column_stack([np.ones(len(x)), x]), np.diag(root)])
    return np.linalg.lstsq(design, np.append(outcome, np.zeros(p + 1)), rcond=None)[0]


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("patients", [8, 60, 10_000])
def test_leave_one_out_ridge_equals_the_refit_without_the_patient(strength: float, patients: int) -> None:
    x, outcome, group = cohort(0, patients=patients)
    model, out_of_fold = ridge_discriminant(x, outcome, group, strength)
    penalty = strength * len(x)
    assert model.weight == pytest.approx(refit(x, outcome, penalty), abs=1e-7)
    for i in range(len(x)):
        others = group != group[i]
        weight = refit(x[others], outcome[others], penalty)
        assert out_of_fold[i] == pytest.approx(weight[0] + x[i] @ weight[1:], abs=1e-7)


def test_ridge_with_more_columns_than_rows_still_leaves_out_exactly() -> None:
    x, outcome, group = cohort(1, n=20, p=35, patients=12)
    _, out_of_fold = ridge_discriminant(x, outcome, group, 1e-3)
    for i in range(20):
        others = group != group[i]
        weight = refit(x[others], outcome[others], 1e-3 * 20)
        assert out_of_fold[i] == pytest.approx(weight[0] + x[i] @ weight[1:], abs=1e-6)


@pytest.mark.parametrize("patients", [3, 40, 10_000])  # 3: the smaller system is that of the columns
def test_ridge_of_weighted_rows_is_that_of_repeated_rows_of_the_same_patients(patients: int) -> None:
    x, outcome, group = cohort(12, patients=patients)
    times = np.random.default_rng(0).integers(1, 5, len(x))
    row = np.repeat(np.arange(len(x)), times)
    weighted, out_of_fold = ridge_discriminant(x, outcome, group, 3e-2, times.astype(float))
    repeated, of_repeated = ridge_discriminant(x[row], outcome[row], group[row], 3e-2)
    assert weighted.weight == pytest.approx(repeated.weight, abs=1e-8)
    assert out_of_fold[row] == pytest.approx(of_repeated, abs=1e-8)
    assert np.abs(out_of_fold - ridge_discriminant(x, outcome, group, 3e-2)[1]).max() > 1e-3


def test_a_stronger_ridge_draws_the_slopes_to_nothing_and_the_intercept_to_the_prevalence() -> None:
    x, outcome, group = cohort(2)
    weight = ridge_discriminant(x, outcome, group, 1e5)[0].weight
    assert np.abs(weight[1:]).max() < 1e-4
    assert weight[0] == pytest.approx(outcome.mean(), rel=1e-3)


def test_no_out_of_fold_score_depends_on_its_own_label() -> None:
    x, outcome, group = cohort(3)
    for i in (0, 17, 44):
        flipped = outcome.copy()
        flipped[group == group[i]] ^= 1
        before, after = (ridge_discriminant(x, y, group, 3e-2)[1] for y in (outcome, flipped))
        assert after[group == group[i]] == pytest.approx(before[group == group[i]], abs=1e-9)
        assert np.abs(after - before).max() > 1e-3


def test_ridge_scores_are_a_line() -> None:
    assert experts.RidgeDiscriminant(np.array([1.0, 2.0, -3.0])).scores(np.array([[1.0, 1.0], [0.0, 2.0]])).tolist() == [0.0, -5.0]


# ---- kernels -------------------------------------------------------------------------------------


def slow_kernel(kernel: KernelRegression, x: np.ndarray, near: int) -> tuple[float, float]:
    """One row's share and distance, one reference at a time."""
    place = x if kernel.metric is None else x @ kernel.metric
    sq_distance = [sum((a - b) ** 2 for a, b in zip(place, reference, strict=True)) for reference in kernel.reference]
    width = sorted(sq_distance)[near - 1]
    mass = [w * np.exp(-2 * s / width) for s, w in zip(sq_distance, kernel.weight, strict=True)]
    return float(np.dot(mass, kernel.outcome) / sum(mass)), float(np.mean(sorted(sq_distance)[:near]))


def test_kernel_by_hand() -> None:
    """Three references at 0, 1 and 3; the neighbourhood is the two nearest, so the width is 1 for a query at 0."""
    kernel = KernelRegression(
        np.eye(1), np.array([[0.0], [1.0], [3.0]]), np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0]), np.arange(3)
    )
    share, distance = kernel.predict(np.array([[0.0]]))
    events, rest = np.exp(-2) + 2 * np.exp(-18), 1.0
    assert share[0] == pytest.approx(events / (events + rest), rel=1e-12)
    assert distance[0] == pytest.approx(0.5)


@pytest.mark.parametrize("make", [plain_kernel, whitened_kernel])
def test_kernel_equals_the_slow_loop(make: object) -> None:
    x, outcome, group = cohort(4)
    kernel = make(x, outcome, group, 0)  # type: ignore[operator]
    queries = np.random.default_rng(9).normal(size=(12, 4))
    share, distance = kernel.predict(queries)
    for i in range(12):
        assert (share[i], distance[i]) == pytest.approx(slow_kernel(kernel, queries[i], 30), rel=1e-9)


@pytest.mark.parametrize("make", [plain_kernel, whitened_kernel])
@pytest.mark.parametrize("patients", [20, 10_000])
def test_leave_one_out_kernel_equals_the_kernel_without_the_patients_references(make: object, patients: int) -> None:
    x, outcome, group = cohort(5, patients=patients)
    kernel = make(x, outcome, group, 0)  # type: ignore[operator]
    share, distance = kernel.predict(x, group)
    for i in range(len(x)):
        others = kernel.patient_ids != group[i]
        without = replace(
            kernel,
            reference=kernel.reference[others],
            outcome=kernel.outcome[others],
            weight=kernel.weight[others],
            patient_ids=kernel.patient_ids[others],
        )
        alone = without.predict(x[i : i + 1])
        assert share[i] == pytest.approx(alone[0][0], rel=1e-9)
        assert distance[i] == pytest.approx(alone[1][0], rel=1e-9)
    assert np.abs(share - kernel.predict(x)[0]).max() > 0.01


@pytest.mark.parametrize("make", [plain_kernel, whitened_kernel])
def test_leaving_out_a_patient_with_most_of_the_rows_gives_finite_scores(make: object) -> None:
    x, outcome, _ = cohort(6, n=40)
    group = np.repeat([0, 1, 2], [15, 15, 10])  # without a patient, fewer references than a neighbourhood
    kernel = make(x, outcome, group, 0)  # type: ignore[operator]
    share, distance = kernel.predict(x, group)
    assert np.isfinite(share).all()
    assert ((share >= 0) & (share <= 1)).all()
    assert np.isfinite(distance).all()
    flipped = make(x, np.where(group == 0, 1 - outcome, outcome), group, 0)  # type: ignore[operator]
    assert flipped.predict(x, group)[0][group == 0] == pytest.approx(share[group == 0], rel=1e-9)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["normal", "levels", "one place", "far"]), n=st.integers(2, 90))
def test_kernel_rows_alone_equal_rows_in_a_batch_and_shuffled(seed: int, kind: str, n: int) -> None:
    rng = np.random.default_rng(seed)
    base = {
        "normal": rng.normal(size=(n, 5)),
        "levels": rng.integers(0, 2, size=(n, 5)) * np.array([1.0, 0.1, 1.7, 9.3, 0.7]),
        "one place": np.full((n, 5), 0.1),
        "far": rng.normal(size=(n, 5)) + 10.1,
    }[kind]
    outcome = rng.integers(0, 2, size=n)
    for make in (plain_kernel, whitened_kernel):
        kernel = make(base, outcome, np.arange(n), 0)
        share, distance = kernel.predict(base)
        order = rng.permutation(n)
        alone = [kernel.predict(base[i : i + 1]) for i in range(n)]
        for batch, one, shuffled in zip((share, distance), zip(*alone, strict=True), kernel.predict(base[order]), strict=True):
            assert np.isfinite(batch).all()
            assert np.concatenate(one) == pytest.approx(batch, rel=1e-9, abs=1e-9)
            assert shuffled == pytest.approx(batch[order], rel=1e-9, abs=1e-9)
        assert ((share >= 0) & (share <= 1)).all()


def test_batches_larger_than_a_chunk_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, outcome, group = cohort(7)
    kernel = plain_kernel(x, outcome, group, 0)
    whole = kernel.predict(x, group)
    monkeypatch.setattr(experts, "_CHUNK", 7)
    assert kernel.predict(x, group)[0] == pytest.approx(whole[0], abs=1e-12)
    assert kernel.predict(x, group)[1] == pytest.approx(whole[1], abs=1e-12)


def test_references_are_thinned_to_half_events_and_stand_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "_REFERENCES", 40)
    x, _, group = cohort(8, n=300, patients=10_000)
    outcome = np.repeat([1, 0], [60, 240])
    kernel = plain_kernel(x, outcome, group, 0)
    assert np.bincount(kernel.outcome.astype(int)).tolist() == [20, 20]
    assert kernel.weight[kernel.outcome == 1].sum() == pytest.approx(60)
    assert kernel.weight[kernel.outcome == 0].sum() == pytest.approx(240)
    for place, event, patient in zip(kernel.reference, kernel.outcome, kernel.patient_ids, strict=True):
        row = np.flatnonzero(group == patient)[0]
        assert (place == x[row]).all()
        assert outcome[row] == event
    assert (plain_kernel(x, outcome, group, 0).reference == kernel.reference).all()
    assert (plain_kernel(x, outcome, group, 1).reference != kernel.reference).any()
    few = plain_kernel(x, np.repeat([1, 0], [5, 295]), group, 0)  # few events: all of them, the rest without
    assert np.bincount(few.outcome.astype(int)).tolist() == [35, 5]


def test_whitening_is_the_inverse_root_of_the_shrunk_covariance() -> None:
    x, outcome, group = cohort(9)
    covariance = np.cov(x, rowvar=False)
    shrunk = 0.7 * covariance + 0.3 * np.diag(np.diag(covariance)) + 0.05 * np.eye(4)
    metric = whitened_kernel(x, outcome, group, 0).metric
    assert metric @ metric.T == pytest.approx(np.linalg.inv(shrunk), abs=1e-9)


@pytest.mark.parametrize("make", [plain_kernel, whitened_kernel])
def test_references_of_weighted_rows_stand_for_as_many(make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    x, outcome, group = cohort(4)
    times = np.where(outcome == 1, 1, np.random.default_rng(0).integers(2, 9, len(x)))
    kernel = make(x, outcome, group, 0, times.astype(float))  # type: ignore[operator]
    share, _ = kernel.predict(x[:5])
    assert share == pytest.approx([slow_kernel(kernel, query, 30)[0] for query in x[:5]], rel=1e-9)
    assert sorted(kernel.weight) == sorted(times)
    remaining = kernel.without(group[:10], (500, 20))
    rest = np.isin(kernel.patient_ids, group[:10], invert=True)
    for value, count in enumerate((500, 20)):
        new, old = remaining.weight[remaining.outcome == value], kernel.weight[rest & (kernel.outcome == value)]
        assert new == pytest.approx(old * count / old.sum())
    monkeypatch.setattr(experts, "_REFERENCES", 20)
    thinned = make(x, outcome, group, 0, times.astype(float))  # type: ignore[operator]
    assert [thinned.weight[thinned.outcome == value].sum() for value in (0, 1)] == pytest.approx(
        [times[outcome == v].sum() for v in (0, 1)]
    )


def test_whitening_of_weighted_rows_is_that_of_repeated_rows() -> None:
    x, outcome, group = cohort(9)
    times = np.random.default_rng(0).integers(1, 5, len(x))
    row = np.repeat(np.arange(len(x)), times)
    metrics = whitened_kernel(x, outcome, group, 0, times.astype(float)).metric, whitened_kernel(x[row], outcome[row], group[row], 0).metric
    weighted, repeated = (metric @ metric.T for metric in metrics)
    assert weighted == pytest.approx(repeated, abs=1e-8)


@pytest.mark.parametrize("make", [plain_kernel, whitened_kernel])
def test_one_column_and_constant_columns_are_fine(make: object) -> None:
    outcome = np.arange(40) % 3 == 0
    for x in (np.arange(40.0)[:, None], np.ones((40, 1)), np.ones((40, 3))):
        share, distance = make(x, outcome.astype(np.int64), np.arange(40), 0).predict(x)  # type: ignore[operator]
        assert np.isfinite(share).all()
        assert np.isfinite(distance).all()
