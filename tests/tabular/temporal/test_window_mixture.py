"""Mixture of window experts: weights by hand, the gradient, the informative window wins, and missing risks have weight 0."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.optimize import approx_fprime
from sklearn.metrics import log_loss, roc_auc_score

import nearward as nw
from nearward.tabular.errors import DataWarning, InputError, MissingColumns, TooFewEvents
from nearward.tabular.temporal import window_mixture
from nearward.tabular.temporal.window_mixture import WindowGate, _mixture_weights


def stays(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Two windows, each right for one half of the patients, which the column ``acute`` separates; a third without information."""
    rng = np.random.default_rng(seed)
    acute = rng.random(n) < 0.5
    truth = 1 / (1 + np.exp(1.5 - 2 * rng.normal(size=n)))
    noise = 1 / (1 + np.exp(1.5 - 2 * rng.normal(size=n)))
    died = rng.random(n) < truth
    frame = {"6h": np.where(acute, truth, noise), "7d": np.where(acute, noise, truth), "30d": np.full(n, truth.mean())}
    return pl.DataFrame({**frame, "acute": acute, "age": rng.normal(60, 10, n)}), died


@pytest.fixture(scope="module")
def gate() -> WindowGate:
    return WindowGate(["6h", "7d", "30d"], random_state=0).fit(*stays(1500, 0))


def test_weights_by_hand() -> None:
    features, present = np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 2.0], [1.0, 0.0]]), np.array([[1, 1], [1, 1], [0, 1], [0, 0]]) == 1
    weights = _mixture_weights(np.array([[0.0, 0.0], [np.log(3) / 2, 0.0]]), present, features)
    np.testing.assert_allclose(weights, [[0.5, 0.5], [0.75, 0.25], [0, 1], [0, 0]])


def test_the_gradient_is_the_slope_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n, f, w = 40, 3, 2
    risk, present = rng.uniform(0.05, 0.95, (n, w)), rng.random((n, w)) < 0.8
    present[:, 0] = True

    def check(objective, start, **_):
        point = rng.normal(size=len(start))
        numerical = approx_fprime(point, lambda x: objective(x)[0], 1e-6)
        np.testing.assert_allclose(objective(point)[1], numerical, atol=1e-5)
        raise StopIteration

    monkeypatch.setattr(window_mixture, "minimize", check)
    with pytest.raises(StopIteration):
        window_mixture._fit_coefficients(risk * present, present, rng.normal(size=(n, f)), rng.integers(0, 2, n), 3.0)


def test_the_informative_window_has_most_weight(gate: WindowGate) -> None:
    new, died = stays(3000, 1)
    weights = gate.weights(new)
    np.testing.assert_allclose(weights.sum_horizontal(), 1)
    acute = new["acute"].to_numpy()
    assert weights["6h"].to_numpy()[acute].mean() > 0.7
    assert weights["7d"].to_numpy()[~acute].mean() > 0.7
    risk, mean = gate.predict_proba(new)[:, 1], new.select("6h", "7d", "30d").mean_horizontal().to_numpy()
    assert roc_auc_score(died, risk) > max(roc_auc_score(died, result) for result in (mean, new["6h"], new["7d"])) + 0.03
    assert log_loss(died, risk) < log_loss(died, mean) - 0.02
    assert abs(risk.mean() - died.mean()) < 0.03
    assert gate.shrinkage_ < window_mixture.SHRINKAGES[-1]


def test_windows_without_a_risk_have_weight_0(gate: WindowGate) -> None:
    new, _ = stays(50, 2)
    holes = new.with_columns(pl.when(pl.int_range(50) % 2 == 0).then(pl.col("6h")))
    weights = gate.weights(holes)
    assert (weights["6h"].to_numpy()[1::2] == 0).all()
    np.testing.assert_allclose(weights.sum_horizontal(), 1)
    none = new.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in ("6h", "7d", "30d"))
    with pytest.warns(DataWarning, match="50 of 50 rows have no window"):
        risk = gate.predict_proba(none)[:, 1]
    assert len(set(risk)) == 1
    assert gate.weights(none).sum_horizontal().sum() == 0


def test_where_windows_are_alike_weights_stay_equal() -> None:
    rng = np.random.default_rng(3)
    truth = 1 / (1 + np.exp(1.5 - 2 * rng.normal(size=800)))
    died = rng.random(800) < truth
    result = WindowGate(["a", "b"]).fit(pl.DataFrame({"a": truth, "b": truth, "age": rng.normal(size=800)}), died)
    np.testing.assert_allclose(result.weights(pl.DataFrame({"a": truth, "b": truth, "age": rng.normal(size=800)})), 0.5, atol=1e-6)
    only = WindowGate(["a", "b"]).fit(pl.DataFrame({"a": truth, "b": 1 - truth}), died)  # nothing beside the windows
    assert only.weights(pl.DataFrame({"a": [0.2], "b": [0.3]}))["a"][0] > 0.9


def test_same_seed_same_gate_and_rows_alone_as_together(gate: WindowGate) -> None:
    new, _ = stays(40, 4)
    again = WindowGate(["6h", "7d", "30d"], random_state=0).fit(*stays(1500, 0))
    np.testing.assert_array_equal(gate.predict_proba(new), again.predict_proba(new))
    alone = np.concatenate([gate.predict_proba(new[i : i + 1]) for i in range(40)])
    np.testing.assert_allclose(alone, gate.predict_proba(new), atol=1e-12)
    assert set(gate.predict(new)) <= {False, True}
    assert nw.WindowGate is WindowGate


def test_refusals(gate: WindowGate) -> None:
    frame, died = stays(200, 5)
    for windows in (["6h"], ["6h", "6h"], "6h"):
        with pytest.raises(InputError, match="at least two columns"):
            WindowGate(windows).fit(frame, died)
    with pytest.raises(MissingColumns, match="6hours"):
        WindowGate(["6hours", "7d"]).fit(frame, died)
    with pytest.raises(InputError, match=r"1 risks in the columns .* outside 0 to 1"):
        WindowGate(["6h", "7d"]).fit(
            frame.with_columns(pl.when(pl.int_range(200) == 3).then(1.5).otherwise(pl.col("6h")).alias("6h")), died
        )
    with pytest.raises(InputError, match="one class"):
        WindowGate(["6h", "7d"]).fit(frame, np.zeros(200))
    holes = pl.Series([None, *died[1:].tolist()])
    with pytest.raises(InputError, match=r"the outcome has .* missing values"):
        WindowGate(["6h", "7d"]).fit(frame, holes)
    with pytest.raises(InputError, match=r"the outcome has .* missing values"):
        WindowGate(["6h", "7d"]).fit(frame, np.where(died, 1.0, np.nan))
    with pytest.raises(InputError, match=r"groups has .* missing values"):
        WindowGate(["6h", "7d"]).fit(frame, died, groups=pl.Series([None, *range(199)]))
    with pytest.raises(InputError, match="groups has 5 values"):
        WindowGate(["6h", "7d"]).fit(frame, died, groups=np.arange(5))
    with pytest.raises(TooFewEvents, match="3 events"):
        WindowGate(["6h", "7d"]).fit(frame, np.arange(200) < 3)
    with pytest.raises(MissingColumns, match="acute"):
        gate.predict_proba(frame.drop("acute"))


def test_columns_that_are_no_features_leave_windows_alone() -> None:
    frame, died = stays(200, 5)
    day = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 7, 18), eager=True)  # 200 of them
    bare = WindowGate(["6h", "7d"]).fit(frame["6h", "7d"], died)
    with pytest.warns(DataWarning, match="dates"):
        dated = WindowGate(["6h", "7d"]).fit(frame["6h", "7d"].with_columns(day=day), died)
    assert (dated.predict_proba(frame["6h", "7d"]) == bare.predict_proba(frame["6h", "7d"])).all()
