"""Saving and loading: the training frame's columns, Decimal outcomes, single-precision arguments."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.data.schema import Column
from nearward.tabular.errors import InputError

REVERSED = nw.Schema((Column("b"), Column("a")))


def make_cohort(n: int = 160) -> tuple[pl.DataFrame, np.ndarray]:
    """Two features on different scales, the first of which predicts the outcome, after a column that is in no schema here."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    frame = pl.DataFrame({"spare": rng.normal(size=n), "a": a, "b": 100 + 10 * rng.normal(size=n)})
    return frame, (a + 0.3 * rng.normal(size=n) > 0.8).astype(int)


def small_model(schema: nw.Schema) -> nw.RiskClassifier:
    return nw.RiskClassifier(seed=0, folds=2, backbone=None, schema=schema)


@pytest.mark.filterwarnings("ignore:columns that the model was not fitted on")
def test_an_array_has_the_training_frames_columns_whatever_the_schemas_order(tmp_path) -> None:
    frame, outcome = make_cohort()
    model = small_model(REVERSED).fit(frame, outcome)
    expected = model.predict_proba(frame)
    np.testing.assert_array_equal(model.predict_proba(frame.to_numpy()), expected)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(nw.load(tmp_path / "m").predict_proba(frame.to_numpy()), expected)
    with pytest.raises(InputError, match="X has 2 features, but RiskClassifier is expecting 3"):
        model.predict_proba(frame.to_numpy()[:, 1:])


def test_decimals_and_single_precision_can_be_saved(tmp_path) -> None:
    frame, outcome = make_cohort()
    model = nw.RiskClassifier(seed=0, folds=2, backbone=None, prevalence=np.float32(0.05))
    model.fit(frame, pl.Series([Decimal(int(happened)) for happened in outcome]))
    model.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
    assert loaded.prevalence == pytest.approx(0.05)
