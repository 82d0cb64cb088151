"""Frames become standardised features; errors name the column."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import InputError, MissingColumns
from nearward.tabular.preprocessing.frame_encoder import FrameEncoder


def clinic(n: int = 200) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame({"age": rng.normal(60, 10, n), "ward": rng.choice(["a", "b"], n), "sofa": rng.integers(0, 20, n)})


def test_features_are_standardised_on_the_fitted_rows_and_clipped() -> None:
    frame = clinic()
    encoder = FrameEncoder.fit(frame, None)
    x = encoder.transform(frame)
    assert x.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert x.std(axis=0) == pytest.approx(1, abs=1e-9)
    slip = frame[:1].with_columns(age=pl.lit(6e7))
    assert np.abs(encoder.transform(slip)).max() <= 8


def test_a_column_that_hardly_varies_is_not_blown_up() -> None:
    frame = clinic().with_columns(rare=pl.Series(np.arange(200) < 1).cast(pl.Float64))
    x = FrameEncoder.fit(frame, None).transform(frame)
    assert np.isfinite(x).all()


def test_only_features_and_experts_are_encoded() -> None:
    frame = clinic().with_columns(patient=pl.Series(np.arange(200)))
    schema = Schema.infer(frame).with_roles(group="patient", expert="sofa")
    encoder = FrameEncoder.fit(frame, schema)
    assert set(encoder.table_encoder.source_columns) == {"age", "ward", "sofa"}
    assert (encoder.transform(frame) == encoder.transform(frame.drop("patient"))).all()
    with pytest.raises(MissingColumns, match="ward"):
        encoder.transform(frame.drop("ward"))
    with pytest.raises(InputError, match="no feature is left"):
        FrameEncoder.fit(frame, Schema((Column("age", role="ignore"),)))


def test_an_array_has_the_schemas_columns() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    assert FrameEncoder.fit(pl.DataFrame(x), None).transform(x).shape[0] == 50


def test_an_array_has_the_fitted_frames_columns_whatever_the_schemas_order() -> None:
    frame = clinic().drop("ward")
    encoder = FrameEncoder.fit(frame, Schema((Column("sofa"), Column("age"))))
    np.testing.assert_array_equal(encoder.transform(frame.to_numpy()), encoder.transform(frame))
    plain = FrameEncoder.fit(frame, None)
    nameless = FrameEncoder(plain.schema, plain.table_encoder, plain.mean, plain.scale)
    np.testing.assert_array_equal(nameless.transform(frame.to_numpy()), plain.transform(frame))
