"""How rare-outcome methods read a frame: one schema, standardised columns, errors that name the column and the count."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder


def made(n: int = 200) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    return pl.DataFrame({"age": draw.normal(60, 10, n), "ward": draw.choice(["a", "b"], n), "sofa": draw.integers(0, 20, n)})


def test_columns_are_standardised_on_the_rows_it_was_fitted_on_and_never_run_off() -> None:
    frame = made()
    reading = FrameEncoder.fit(frame, None)
    x = reading.dense(frame)
    assert x.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert x.std(axis=0) == pytest.approx(1, abs=1e-9)
    slip = frame[:1].with_columns(age=pl.lit(6e7))
    assert np.abs(reading.dense(slip)).max() <= 8


def test_a_column_that_hardly_varies_is_not_blown_up() -> None:
    frame = made().with_columns(rare=pl.Series(np.arange(200) < 1).cast(pl.Float64))
    x = FrameEncoder.fit(frame, None).dense(frame)
    assert np.isfinite(x).all()


def test_only_features_and_experts_are_read() -> None:
    frame = made().with_columns(patient=pl.Series(np.arange(200)))
    schema = Schema.infer(frame).with_roles(group="patient", expert="sofa")
    reading = FrameEncoder.fit(frame, schema)
    assert {source for _, source in reading.encoding.outputs} == {"age", "ward", "sofa"}
    assert (reading.dense(frame) == reading.dense(frame.drop("patient"))).all()
    with pytest.raises(MissingColumns, match="ward"):
        reading.dense(frame.drop("ward"))
    with pytest.raises(InputError, match="no feature is left"):
        FrameEncoder.fit(frame, Schema((Column("age", role="ignore"),)))


def test_an_array_is_read_by_the_schemas_names() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    assert FrameEncoder.fit(pl.DataFrame(x), None).dense(x).shape[0] == 50


def test_an_array_has_the_fitted_frames_columns_whatever_the_schemas_order() -> None:
    frame = made().drop("ward")
    reading = FrameEncoder.fit(frame, Schema((Column("sofa"), Column("age"))))
    np.testing.assert_array_equal(reading.dense(frame.to_numpy()), reading.dense(frame))
    plain = FrameEncoder.fit(frame, None)
    before = FrameEncoder(plain.schema, plain.encoding, plain.centre, plain.scale)  # as models saved earlier hold it
    np.testing.assert_array_equal(before.dense(frame.to_numpy()), plain.dense(frame))
