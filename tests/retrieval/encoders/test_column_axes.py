"""Standardised columns beside a learned embedding: which columns, in which units, with which share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nearward.retrieval.encoders.aware import AwareEncoder, EncoderConfig, embed, network_from_state, network_state
from nearward.retrieval.encoders.column_axes import ColumnAxes, fit_column_axes
from nearward.retrieval.encoders.training import train_encoders
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats

N, EVENTS = 320, 40


def cohort() -> tuple[Floats, FeatureLayout, TrainingData]:
    """A number, a number with a rare gap, a constant and a category: nine encoded columns."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "age": rng.normal(60, 10, N),
            "lactate": [None if i % 40 == 0 else value for i, value in enumerate(rng.exponential(2, N))],
            "constant": np.ones(N),
            "sex": rng.choice(["f", "m"], N),
        }
    )
    schema = Schema.infer(frame)
    encoder = TableEncoder.fit(schema, schema.conform(frame))
    outcome = (np.arange(N) < EVENTS).astype(np.int64)
    patients = np.arange(N)
    data = TrainingData(outcome, patients, assign_folds(outcome, patients, 3, 0))
    return encoder.transform(schema.conform(frame)), FeatureLayout.from_encoder(encoder), data


def sq_distances(embedding: Floats) -> Floats:
    out: Floats = ((embedding[:, None] - embedding[None]) ** 2).sum(axis=2)
    return out


def fitted() -> tuple[Floats, ColumnAxes, FeatureLayout, TrainingData]:
    x, layout, data = cohort()
    axes = fit_column_axes(x, layout, data, 0)
    assert axes is not None
    return x, axes, layout, data


def test_numbers_and_missing_flags_have_unit_variance_and_ranks_are_left_out() -> None:
    x, axes, layout, _ = fitted()
    scale = np.zeros(x.shape[1])
    for j in (feature for feature in range(x.shape[1]) if feature not in layout.rank):
        number_or_flag = layout.missing_value[j] == 1 or j in [feature for _, feature in layout.numeric]
        scale[j] = (1 / x[:, j].std() if x[:, j].std() else 0) if number_or_flag else 1
    wanted = sq_distances(x * scale)
    ratio = sq_distances(x @ axes.matrix)[wanted > 0] / wanted[wanted > 0]
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))  # the same distances, in another unit
    nearest = np.sort(sq_distances(x @ axes.matrix), axis=1)[:, : N // 5]
    assert nearest.mean() == pytest.approx(4, rel=0.1)  # of a temperature of 1, estimated from 200 of the rows


def test_the_share_is_that_of_ten_events_and_many_events_need_none() -> None:
    x, axes, layout, data = fitted()
    assert axes.share == pytest.approx(10 / (10 + EVENTS))
    several = replace(data, outcome=np.where(np.arange(N) < EVENTS, 1 + np.arange(N) % 3, 0))
    of_classes = fit_column_axes(x, layout, several, 0)
    assert of_classes is not None
    assert of_classes.share == pytest.approx(axes.share)
    rows = np.arange(4 * N) % N
    many = TrainingData((np.arange(4 * N) < 500).astype(np.int64), np.arange(4 * N), data.fold[rows])
    assert fit_column_axes(x[rows], layout, many, 0) is None
    assert fit_column_axes(np.ones_like(x), layout, data, 0) is None


def test_weighted_rows_are_repeated_rows() -> None:
    x, _, layout, data = fitted()
    count = np.arange(N) % 3 + 1
    weighted = fit_column_axes(x, layout, replace(data, weight=count.astype(float)), 0)
    rows = np.repeat(np.arange(N), count)
    few = TrainingData(np.where(np.arange(len(rows)) < EVENTS, 1, 0), rows, data.fold[rows])
    repeated = fit_column_axes(x[rows], layout, few, 0)
    assert weighted is not None
    assert repeated is not None
    ratio = np.abs(weighted.matrix).sum() / np.abs(repeated.matrix).sum()  # the temperature is of other rows
    assert ratio == pytest.approx(1, rel=0.2)
    assert np.abs(weighted.matrix) == pytest.approx(np.abs(repeated.matrix) * ratio, rel=1e-2, abs=1e-3)


def test_an_encoder_gives_the_columns_their_share_of_the_squared_distance() -> None:
    x, axes, layout, data = fitted()
    config = EncoderConfig(steps=6, batch=64, axes=7, hidden=16)
    with_columns = train_encoders(x, data, config, 0, layout)[0]
    assert with_columns.column_axes.shape == axes.matrix.shape
    learned = AwareEncoder(x.shape[1], config, rank_columns=layout.rank).double()
    state = with_columns.state_dict()
    learned.load_state_dict({**state, "column_axes": learned.column_axes, "column_share": learned.column_share})
    (joint, head), (alone, head_alone) = embed(with_columns, x), embed(learned, x)
    assert head == pytest.approx(head_alone)
    unit = with_columns.temperature
    wanted = (1 - axes.share) * sq_distances(alone) / unit + axes.share * sq_distances(x @ axes.matrix)
    assert sq_distances(joint) / unit == pytest.approx(wanted, abs=1e-5)
    loaded, head_loaded = embed(network_from_state(network_state(with_columns)), x)
    assert np.array_equal(loaded, joint)
    assert np.array_equal(head_loaded, head)


def test_without_a_layout_the_embedding_is_the_learned_one() -> None:
    x, _, _, data = fitted()
    encoder = train_encoders(x, data, EncoderConfig(steps=6, batch=64, axes=7, hidden=16), 0)[0]
    assert embed(encoder, x)[0].shape == (N, 8)
