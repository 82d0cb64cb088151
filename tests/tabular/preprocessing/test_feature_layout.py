"""The layout of encoded features: source column, block, and the encoding of a missing value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Schema
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder


def test_layout_covers_every_encoded_feature() -> None:
    frame = pl.DataFrame(
        {"age": [61.0, 70.0, 64.0] * 8, "na": [140.0, None, 138.0] * 8, "ward": ["a", "b", None] * 8, "phq": [1.0, 2.0, 3.0] * 8}
    )
    inferred = Schema.infer(frame)
    schema = Schema(tuple(replace(c, block="labs") if c.name == "na" else c for c in inferred.columns))
    encoder = TableEncoder.fit(schema, schema.conform(frame))
    layout = FeatureLayout.from_encoder(encoder, {c.name: c.block for c in schema.columns if c.block})
    names = encoder.feature_names
    assert [layout.columns[s] for s in layout.source] == encoder.source_columns
    assert [name for name, flag in zip(names, layout.missing_value, strict=True) if flag] == ["na: missing", "ward: missing"]
    assert {layout.columns[s] for s, b in zip(layout.source, layout.block, strict=True) if b == 0} == {"na"}
    assert [names[feature] for _, feature in layout.numeric] == ["age", "na", "phq"]
    assert [names[begin:end] for _, begin, end in layout.one_hot] == [["ward = a", "ward = b"]]
    np.testing.assert_array_equal(encoder.transform(schema.conform(frame).clear(1))[0], layout.missing_value)
