"""The linear metric: column weights, the direction of risk, distances under the rotation to principal axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearward.retrieval.encoders import linear_metric as module
from nearward.retrieval.encoders.aware import embed
from nearward.retrieval.encoders.linear_metric import LinearMetric, fit_linear_metric


def cohort(seed: int, n: int = 400, p: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns 0 and 1 carry the outcome, the last is constant."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    outcome = (x[:, 0] - x[:, 1] + 0.3 * rng.normal(size=n) > 1.5).astype(np.int64)
    x[:, -1] = 3.0
    return x, outcome, rng.integers(0, n // 2, size=n)


def sq_distance(metric: LinearMetric, x: np.ndarray) -> np.ndarray:
    embedding = metric.transform(x)
    out: np.ndarray = ((embedding[:, None] - embedding[None]) ** 2).sum(axis=2)
    return out


def test_columns_are_weighted_by_their_correlation_with_the_outcome() -> None:
    x, outcome, patient_ids = cohort(0)
    metric = fit_linear_metric(x, outcome, patient_ids, 0)
    weight = metric.mean_gate(x)
    assert weight.mean() == pytest.approx(1)
    assert weight[:2].min() > 1.5 * weight[2:4].max()
    assert weight[2:4].min() > 0
    assert weight[4] == pytest.approx(0, abs=1e-6)
    embedding, head = embed(metric, x)
    assert embedding == pytest.approx(x @ metric.matrix)
    assert not head.any()


def test_by_hand() -> None:
    """Correlations 1 and 0, each plus 1 / sqrt(4), and their roots; along the first column, half the variance again."""
    x, outcome = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]), np.array([1, 1, 0, 0])
    metric = fit_linear_metric(x, outcome, np.arange(4), 0)
    first, second = 2 * np.array([1.5, 0.5]) ** 0.5 / (1.5**0.5 + 0.5**0.5)
    along = np.sqrt(0.5 * (first**2 + second**2))  # both columns have variance 1
    assert np.abs(metric.matrix) == pytest.approx(np.array([[first, 0, along], [0, second, 0]]), abs=1e-9)
    distances = sq_distance(metric, x)
    assert distances[0, 1] == pytest.approx(4 * second**2)
    assert distances[0, 2] == pytest.approx(4 * (first**2 + along**2))


def test_constant_columns_and_a_column_of_noise_do_no_harm() -> None:
    metric = fit_linear_metric(np.ones((30, 3)), np.arange(30) % 2, np.arange(30), 0)
    assert metric.mean_gate(np.ones((1, 3))).tolist() == [1, 1, 1]
    assert metric.temperature > 0
    assert np.isfinite(metric.transform(np.ones((2, 3)))).all()


def test_the_order_of_columns_and_the_names_of_patients_do_not_matter() -> None:
    x, outcome, patient_ids = cohort(4)
    one = sq_distance(fit_linear_metric(x, outcome, patient_ids, 0), x)
    assert sq_distance(fit_linear_metric(x[:, ::-1], outcome, patient_ids, 0), x[:, ::-1]) == pytest.approx(one)
    assert sq_distance(fit_linear_metric(x, outcome, 7 * patient_ids + 3, 0), x) == pytest.approx(one)


def test_rotation_preserves_distances_and_truncation_keeps_the_widest_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    x, outcome, patient_ids = cohort(1, p=12)
    whole = fit_linear_metric(x, outcome, patient_ids, 0)
    assert whole.matrix.shape == (12, 13)
    monkeypatch.setattr(module, "_WIDTH", 12)  # thirteen axes of which the constant column's has no extent
    assert sq_distance(fit_linear_metric(x, outcome, patient_ids, 0), x) == pytest.approx(sq_distance(whole, x))
    monkeypatch.setattr(module, "_WIDTH", 6)
    cut = fit_linear_metric(x, outcome, patient_ids, 0)
    assert cut.matrix.shape == (12, 6)
    truncated, full = (m.transform(x).var(axis=0).sum() for m in (cut, whole))
    assert 0.5 * full < truncated < full
    assert (sq_distance(cut, x) <= sq_distance(whole, x) + 1e-9).all()


def test_the_penalty_is_chosen_by_leave_one_patient_out_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The discriminant gets the patients' ids."""
    x, outcome, patient_ids = cohort(2)
    passed: list[np.ndarray] = []
    plain = module.ridge_discriminant

    def watched(x: np.ndarray, outcome: np.ndarray, patient_ids: np.ndarray, *rest: Any) -> object:
        passed.append(patient_ids)
        return plain(x, outcome, patient_ids, *rest)

    monkeypatch.setattr(module, "ridge_discriminant", watched)
    fit_linear_metric(x, outcome, patient_ids, 0)
    assert len(passed) == len(module.STRENGTHS)
    for ids in passed:
        assert ((ids[:, None] == ids[None]) == (patient_ids[:, None] == patient_ids[None])).all()


def test_integer_weights_are_repeated_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrinkage and temperature aside, which rest on the rows that were seen."""
    x, outcome, patient_ids = cohort(4)
    count = np.random.default_rng(0).integers(1, 4, len(x))
    weighted = module._column_weights(x, outcome, count.astype(float))
    repeated = module._column_weights(np.repeat(x, count, axis=0), np.repeat(outcome, count), None)
    np.testing.assert_allclose(weighted, repeated, rtol=0.15)  # the shrinkage differs alone
    direction = module._discriminant(x, outcome, np.unique(patient_ids, return_inverse=True)[1], count.astype(float))
    copies = np.repeat(np.unique(patient_ids, return_inverse=True)[1], count)
    of_copies = module._discriminant(np.repeat(x, count, axis=0), np.repeat(outcome, count), copies, None)
    np.testing.assert_allclose(direction, of_copies, rtol=1e-6, atol=1e-9)
    monkeypatch.setattr(module, "_WIDTH", 4)
    matrix = np.eye(x.shape[1])
    axes, axes_of_copies = module.principal(matrix, x, count.astype(float)), module.principal(matrix, np.repeat(x, count, axis=0))
    np.testing.assert_allclose(np.abs(axes), np.abs(axes_of_copies), atol=1e-6)
