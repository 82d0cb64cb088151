"""CellModel: imputation better than the column's mean, planted errors among the most surprising cells, and cells that are not predicted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.retrieval.cell_model import CellModel
from nearward.tabular.data.schema import Column
from nearward.tabular.errors import InputError, MissingColumns


def people(n: int, seed: int) -> pl.DataFrame:
    """Height in two units, a ward that goes with age, a column that goes with nothing."""
    rng = np.random.default_rng(seed)
    cm, age = rng.normal(170, 10, n), rng.normal(60, 15, n)
    ward = np.where(age + rng.normal(0, 3, n) > 60, "geriatric", np.where(rng.random(n) < 0.97, "adult", "other"))
    return pl.DataFrame({"cm": cm, "inch": cm / 2.54 + rng.normal(0, 0.3, n), "age": age, "ward": ward, "noise": rng.normal(size=n)})


@pytest.fixture(scope="module")
def model() -> CellModel:
    return CellModel(random_state=0, steps=700).fit(people(1500, 0))


def test_imputation_is_better_than_the_mean(model: CellModel) -> None:
    truth = people(600, 1)
    gone = np.random.default_rng(2).random((600, 5)) < 0.2
    gone[:, 0] &= ~gone[:, 1]  # one of the two heights is there
    holes = truth.with_columns(pl.when(pl.Series(~gone[:, j])).then(pl.col(name)).alias(name) for j, name in enumerate(truth.columns))
    filled = model.transform(holes)
    assert filled.columns == truth.columns
    assert filled.null_count().row(0) == (0,) * 5
    for j, name in enumerate(truth.columns):
        observed = pl.Series(~gone[:, j])
        assert filled.filter(observed)[name].equals(truth.filter(observed)[name])
    error = {
        name: np.abs(filled[name] - truth[name]).to_numpy()[gone[:, j]].mean() for j, name in enumerate(truth.columns) if name != "ward"
    }
    spread = {
        name: np.abs(truth[name] - truth[name].mean()).to_numpy()[gone[:, j]].mean()
        for j, name in enumerate(truth.columns)
        if name != "ward"
    }
    assert error["cm"] < 0.4 * spread["cm"]
    assert error["age"] < 0.85 * spread["age"]  # the ward's information
    assert error["noise"] < 1.15 * spread["noise"]
    right = (filled["ward"] == truth["ward"]).to_numpy()[gone[:, 3]].mean()
    assert right > (truth["ward"] == "geriatric").mean() + 0.2


def test_planted_errors_are_the_most_surprising(model: CellModel) -> None:
    rows = people(500, 3)
    planted = pl.int_range(500) % 50 == 0
    with_errors = rows.with_columns(pl.when(planted).then(pl.col("inch") + 12).otherwise(pl.col("inch")).alias("inch"))
    surprise = model.surprise(with_errors)
    assert surprise.columns == rows.columns
    top = np.argsort(-surprise["inch"].to_numpy())[:10]
    assert len(set(top.tolist()) & set(range(0, 500, 50))) >= 9
    before = model.surprise(rows)
    assert before["noise"].equals(surprise["noise"]) or (before["noise"] - surprise["noise"]).abs().max() < 1
    assert 0.02 < (before["noise"] > -np.log10(0.05)).mean() < 0.09  # one in twenty is so far out


def test_rare_and_unknown_levels_surprise_more_than_common_ones(model: CellModel) -> None:
    old = people(2, 4).with_columns(age=pl.lit(85.0), ward=pl.Series(["geriatric", "other"]))
    surprise = model.surprise(old)["ward"]
    assert surprise[0] < 0.3
    assert surprise[1] > 1
    with_new = model.surprise(old.with_columns(ward=pl.lit("surgical")))["ward"]
    assert with_new.to_list() == pytest.approx([12.0, 12.0])


def test_missing_and_many_levelled_cells_have_no_surprise() -> None:
    frame = people(300, 5).with_columns(
        code=pl.Series([f"c{j % 40}" for j in range(300)]), cm=pl.when(pl.int_range(300) > 3).then(pl.col("cm"))
    )
    fitted = CellModel(steps=20).fit(frame)
    surprise = fitted.surprise(frame)
    assert surprise["cm"].is_null().to_list() == frame["cm"].is_null().to_list()
    assert surprise["code"].null_count() == 300
    gone = fitted.transform(frame.with_columns(code=pl.lit(None, dtype=pl.String)))
    assert gone["code"].null_count() == 300  # nothing to fill it with
    assert gone["cm"].null_count() == 0


def test_same_seed_same_model_and_rows_alone_as_together(model: CellModel) -> None:
    rows = people(20, 6)
    again = CellModel(random_state=0, steps=700).fit(people(1500, 0))
    np.testing.assert_array_equal(model.surprise(rows), again.surprise(rows))
    alone = pl.concat([model.surprise(rows[j : j + 1]) for j in range(20)])
    np.testing.assert_allclose(alone, model.surprise(rows), atol=1e-3)
    assert nw.CellModel is CellModel


def test_deviations_are_calibrated_on_patients_of_the_holdout() -> None:
    """Forty patients with twenty rows each, all alike: a network memorises them, which does not help with the next patient."""
    patient_ids = np.repeat(np.arange(40), 20)

    def surprising(groups: np.ndarray | None) -> float:
        rows = people(40, 1).drop("ward")[patient_ids]
        scores = CellModel(steps=400).fit(rows, groups=groups).surprise(people(400, 2).drop("ward"))
        return float((scores.to_numpy() > 2).mean())  # one cell in a hundred

    assert surprising(patient_ids) < 0.6 * surprising(None)


def test_invalid_input_is_rejected(model: CellModel) -> None:
    with pytest.raises(InputError, match="X has 49 rows; at least 50"):
        CellModel().fit(people(49, 0))
    with pytest.raises(MissingColumns, match="inch"):
        model.transform(people(5, 0).drop("inch"))
    with pytest.raises(InputError, match="no column can be predicted"):
        CellModel().fit(pl.DataFrame({"code": [f"c{j % 40}" for j in range(200)]}))
    with pytest.raises(InputError, match="steps must be at least 1"):
        CellModel(steps=0).fit(people(60, 0))
    with pytest.raises(InputError, match="too few for a holdout"):
        CellModel(steps=2).fit(people(60, 0), groups=np.zeros(60))


def test_an_array_has_the_fitted_frames_columns_whatever_the_schemas_order(tmp_path) -> None:
    frame = people(200, 0).select("cm", "age")
    model = CellModel(steps=2, schema=nw.Schema((Column("age"), Column("cm")))).fit(frame)
    assert model.surprise(frame.to_numpy()).equals(model.surprise(frame))
    model.save(tmp_path / "m")
    assert CellModel.load(tmp_path / "m").surprise(frame.to_numpy()).equals(model.surprise(frame))
