"""Shares from one risk a class: plain division by hand, and a softmax that mends what is too bold."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.tabular.calibration.multiclass import VectorScaling


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True shares of three classes, one of them rare, and a class drawn by them."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=(n, 3)) * 1.5 + [1.0, 0.0, -2.0]
    share = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    return share, (rng.random(n)[:, None] > share.cumsum(axis=1)).sum(axis=1)


def odds(share: np.ndarray) -> np.ndarray:
    return np.log(share / (1 - share))


def test_without_slopes_it_divides_by_the_sum() -> None:
    risk = np.array([[0.2, 0.5, 0.7], [0.9, 0.9, 0.2]])
    np.testing.assert_allclose(VectorScaling(np.ones(3), np.zeros(3)).probabilities(odds(risk)), risk / risk.sum(axis=1, keepdims=True))


def test_calibrated_risks_do_not_change() -> None:
    share, code = drawn(20_000, 0)
    scaling = VectorScaling.fit(odds(share), code)
    np.testing.assert_allclose(scaling.slope, 1, atol=0.08)
    np.testing.assert_allclose(scaling.probabilities(odds(share)), share, atol=0.03)


@pytest.mark.parametrize("bend", [2.0, 0.5])
def test_bold_and_timid_risks_are_mended(bend: float) -> None:
    share, code = drawn(8000, 1)
    fresh, truth = drawn(8000, 2)
    scaling = VectorScaling.fit(bend * odds(share), code)
    mended, plain = scaling.probabilities(bend * odds(fresh)), VectorScaling(np.ones(3), np.zeros(3)).probabilities(bend * odds(fresh))
    own = np.arange(8000), truth
    assert -np.log(mended[own]).mean() < -np.log(plain[own]).mean() - 0.01
    np.testing.assert_allclose(mended.sum(axis=1), 1)
    np.testing.assert_allclose(
        scaling.probabilities(bend * odds(share)).mean(axis=0), np.bincount(code) / 8000, atol=2e-3
    )  # each class's frequency


def test_certain_risks_stay_finite() -> None:
    scaling = VectorScaling.fit(np.array([[40.0, -40.0]] * 20 + [[-40.0, 40.0]] * 20), np.repeat([0, 1], 20))
    assert np.isfinite(scaling.probabilities(np.array([[800.0, -800.0], [-800.0, -800.0]]))).all()


def test_weighted_rows_scale_like_repeated_rows() -> None:
    share, code = drawn(400, 3)
    times = np.random.default_rng(0).integers(1, 5, 400)
    weighted = VectorScaling.fit(odds(share), code, times.astype(float))
    repeated = VectorScaling.fit(odds(np.repeat(share, times, axis=0)), np.repeat(code, times))
    np.testing.assert_allclose(weighted.probabilities(odds(share)), repeated.probabilities(odds(share)), atol=1e-6)
    assert np.abs(weighted.slope - VectorScaling.fit(odds(share), code).slope).max() > 1e-3
