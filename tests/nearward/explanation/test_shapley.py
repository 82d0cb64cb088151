"""Sampled Shapley values: known effects, correlated columns, missing values, the sum, and agreement with shap on a linear model."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.explanation.shapley import shapley_values

WEIGHTS = np.array([2.0, -1.0, 0.5, 0.0])


def correlated(n: int, seed: int) -> pl.DataFrame:
    """Four columns, the first two correlated at .95, the last without an effect."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n)
    x = np.column_stack([shared, 0.95 * shared + 0.3 * rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)])
    return pl.DataFrame(x, schema=list("abcd"))


def linear(frame: pl.DataFrame) -> np.ndarray:
    return (frame.to_numpy() @ WEIGHTS + 1.0)[:, None]


def test_of_a_linear_function_they_are_weight_times_distance_from_the_mean_correlated_or_not() -> None:
    row, donors = correlated(1, 1), correlated(50, 2)
    result = shapley_values(linear, row, donors, np.random.default_rng(0))
    expected = WEIGHTS * (row.to_numpy()[0] - donors.to_numpy().mean(axis=0))
    np.testing.assert_allclose(result.value[:, 0], expected, atol=1e-12)
    np.testing.assert_allclose(result.se[:, 0], np.abs(WEIGHTS) * donors.to_numpy().std(axis=0, ddof=1) / 50**0.5, atol=1e-12)
    assert result.reference[0] == pytest.approx(linear(donors).mean())


def test_agrees_with_shap_on_a_linear_model() -> None:
    shap = pytest.importorskip("shap", reason="shap is not installed (extra dev)")
    row, donors = correlated(1, 1), correlated(40, 2)
    explainer = shap.LinearExplainer((WEIGHTS, 1.0), shap.maskers.Independent(donors.to_numpy(), max_samples=40))
    ours = shapley_values(linear, row, donors, np.random.default_rng(0))
    np.testing.assert_allclose(ours.value[:, 0], explainer.shap_values(row.to_numpy())[0], atol=1e-9)
    assert explainer.expected_value == pytest.approx(ours.reference[0])


def exact(function, row: np.ndarray, donor: np.ndarray) -> np.ndarray:
    """Shapley values of three columns by enumeration of all orders."""
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    total = np.zeros(3)
    for order in orders:
        x = donor.copy()
        for j in order:
            before = function(x)
            x[j] = row[j]
            total[j] += function(x) - before
    return total / len(orders)


def test_of_an_interaction_they_lie_within_their_errors_of_the_exact_ones_and_sum_exactly() -> None:
    def function(x: np.ndarray) -> float:
        return float(x[0] * x[1] + np.exp(x[2]) * x[0])

    rng = np.random.default_rng(3)
    row, donors = rng.normal(size=3), rng.normal(size=(400, 3))
    truth = np.mean([exact(function, row, donor) for donor in donors], axis=0)
    result = shapley_values(
        lambda f: np.array([[function(x)] for x in f.to_numpy()]), pl.DataFrame([row], schema=list("abc"), orient="row"),
        pl.DataFrame(donors, schema=list("abc")), np.random.default_rng(0),
    )  # fmt: skip
    assert np.all(np.abs(result.value[:, 0] - truth) < 4 * result.se[:, 0])
    assert result.value.sum() + result.reference[0] == pytest.approx(function(row), abs=1e-12)


def test_missing_values_and_codes_are_values_and_equal_cells_are_not_evaluated() -> None:
    seen: list[pl.DataFrame] = []

    def count_missing(frame: pl.DataFrame) -> np.ndarray:
        seen.append(frame)
        return frame.select(3.0 * pl.col("a").is_null() + 1.0 * (pl.col("b").list.len() > 1)).to_numpy().astype(float)

    row = pl.DataFrame({"a": [None], "b": [["x", "y"]], "c": ["same"]}, schema={"a": pl.Float64, "b": pl.List(pl.String), "c": pl.String})
    donors = pl.DataFrame({"a": [1.0, None], "b": [["x"], ["x", "y"]], "c": ["same", "same"]}, schema=row.schema)
    result = shapley_values(count_missing, row, donors, np.random.default_rng(0))
    assert result.value[:, 0].tolist() == [1.5, 0.5, 0.0]
    assert result.se[2, 0] == 0
    assert sum(frame.height for frame in seen) <= 2 + 3  # the row, the first donor, and what lies between; the second equals the row
    assert seen[0].schema == row.schema
