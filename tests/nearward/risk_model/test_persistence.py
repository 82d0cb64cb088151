"""What a fitted model remembers beside its numbers, in memory and on disk: the columns of the frame it was fitted on."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.data.schema import Column
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.artifact import _sealed

TURNED = nw.Schema((Column("b"), Column("a")))


def made(n: int = 160) -> tuple[pl.DataFrame, np.ndarray]:
    """Two columns on scales far apart; the first tells the outcome. A third that no schema here knows stands before them."""
    draw = np.random.default_rng(0)
    a = draw.normal(size=n)
    frame = pl.DataFrame({"spare": draw.normal(size=n), "a": a, "b": 100 + 10 * draw.normal(size=n)})
    return frame, (a + 0.3 * draw.normal(size=n) > 0.8).astype(int)


def small(schema: nw.Schema) -> nw.RiskClassifier:
    return nw.RiskClassifier(seed=0, folds=2, backbone=None, schema=schema)


@pytest.mark.filterwarnings("ignore:columns that the model does not know")
def test_an_array_has_the_training_frames_columns_whatever_the_schemas_order(tmp_path) -> None:
    frame, outcome = made()
    model = small(TURNED).fit(frame, outcome)
    expected = model.predict_proba(frame)
    np.testing.assert_array_equal(model.predict_proba(frame.to_numpy()), expected)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(nw.load(tmp_path / "m").predict_proba(frame.to_numpy()), expected)
    with pytest.raises(InputError, match="X has 2 features, but RiskClassifier is expecting 3"):
        model.predict_proba(frame.to_numpy()[:, 1:])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.filterwarnings("ignore:columns that the model does not know")
def test_a_folder_written_before_columns_were_still_loads(tmp_path, named: bool) -> None:
    frame, outcome = made()
    x = frame.to_numpy()
    model = small(TURNED).fit(frame, outcome) if named else small(nw.Schema((Column("x2"), Column("x1")))).fit(x, outcome)
    model.save(tmp_path / "m")
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())
    del manifest["sha256"], manifest["columns"]
    (tmp_path / "m" / "manifest.json").write_bytes(_sealed(manifest))
    np.testing.assert_array_equal(nw.load(tmp_path / "m").predict_proba(x), model.predict_proba(frame if named else x))


def test_decimals_and_single_precision_can_be_saved(tmp_path) -> None:
    frame, outcome = made()
    model = nw.RiskClassifier(seed=0, folds=2, backbone=None, prevalence=np.float32(0.05))
    model.fit(frame, pl.Series([Decimal(int(happened)) for happened in outcome]))
    model.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
    assert loaded.prevalence == pytest.approx(0.05)
