"""One-class: planted outliers are detected, the network does not collapse, and events are not trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import InputError
from nearward.tabular.novelty import one_class_networks
from nearward.tabular.novelty.one_class import METHODS, OneClass, _log_distance


def table(n: int = 600, outliers: int = 40, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows where b follows a and d follows c; outliers break that, each column alone being usual."""
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=(2, n + outliers))
    b, d = a + 0.2 * rng.normal(size=n + outliers), c + 0.2 * rng.normal(size=n + outliers)
    outcome = (np.arange(n + outliers) >= n).astype(int)
    b[outcome == 1], d[outcome == 1] = -b[outcome == 1], -d[outcome == 1]
    outside = np.abs(a) + np.abs(c) > 1.5  # near the middle a broken relation shows little
    selected = (outcome == 0) | outside
    return pl.DataFrame({"a": a, "b": b, "c": c, "d": d, "ward": rng.choice(["x", "y"], n + outliers)}).filter(selected), outcome[selected]


@pytest.mark.parametrize("method", METHODS)
def test_planted_outliers_are_detected(method: str) -> None:
    frame, outcome = table()
    ranker = OneClass(method=method, random_state=1).fit(frame.filter(outcome == 0))
    new, truth = table(seed=5)
    assert roc_auc_score(truth, ranker.decision_function(new)) > 0.85


def test_without_an_outcome_no_row_has_the_event_whatever_its_value() -> None:
    frame = table(n=100, outliers=0)[0]
    for positive in (0, "died"):
        ranker = OneClass(steps=1, positive=positive).fit(frame)
        np.testing.assert_array_equal(ranker.decision_function(frame), OneClass(steps=1).fit(frame).decision_function(frame))


@pytest.mark.parametrize("method", METHODS)
def test_events_are_not_trained_on(method: str) -> None:
    frame, outcome = table(outliers=20)
    without = frame.filter(outcome == 0)
    by_outcome = OneClass(method=method, steps=20).fit(frame, outcome)
    alone = OneClass(method=method, steps=20).fit(without)
    assert by_outcome.decision_function(frame) == pytest.approx(alone.decision_function(frame), abs=1e-12)


def test_patients_with_an_event_are_not_trained_on() -> None:
    frame, outcome = table(n=300, outliers=10)
    patient = np.arange(frame.height)
    patient[:30] = patient[outcome == 1][0]  # thirty event-free rows of a patient who also has the event
    strict = OneClass(steps=5).fit(frame, outcome, groups=patient)
    loose = OneClass(steps=5).fit(frame, outcome)
    rest = OneClass(steps=5).fit(frame[30:], outcome[30:])
    assert np.allclose(strict.fitted_.encoder.mean, rest.fitted_.encoder.mean)
    assert not np.allclose(strict.fitted_.encoder.mean, loose.fitted_.encoder.mean)


def test_the_encoder_has_no_bias_and_does_not_collapse() -> None:
    x = np.random.default_rng(0).normal(size=(400, 6))
    layers, centre = one_class_networks.train_deep_svdd(x, width=8, steps=800, seed=0)
    assert one_class_networks.embed(layers, np.zeros((1, 6))) == pytest.approx(0)  # whatever the weights are
    assert np.abs(centre).min() >= 0.1  # so no weights of 0 reach it
    spread = one_class_networks.embed(layers, x).std(axis=0)
    assert spread.max() > 1e-3


def test_a_bias_would_have_collapsed() -> None:
    """What the check above is for: with a constant column, which is a bias, all rows do end near the centre."""
    x = np.random.default_rng(0).normal(size=(400, 6))
    distance = {}
    for name, rows in {"free": x, "biased": np.column_stack([x, np.full(400, 3.0)])}.items():
        layers, centre = one_class_networks.train_deep_svdd(rows, width=8, steps=800, seed=0)
        z = one_class_networks.embed(layers, rows)
        distance[name] = float(((z - centre) ** 2).sum(axis=1).mean() / (centre**2).sum())
    assert distance["biased"] < 0.5 * distance["free"]


def test_distance_by_hand() -> None:
    reference = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert _log_distance(np.array([[0.0, 0.0]]), reference) == pytest.approx(np.log((0 + 25) / 2))
    assert _log_distance(np.array([[1.0, 0.0]]), reference[:1]) == pytest.approx(0.0)


def test_the_budget_holds_on_new_rows() -> None:
    frame, _ = table(n=3000, outliers=0)
    new, _ = table(n=3000, outliers=0, seed=9)
    alerts = OneClass(budget=0.1).fit(frame).rank(new)["alert"].mean()
    assert 0.06 < alerts < 0.14


def test_share_is_a_rank_among_calibration_rows() -> None:
    frame, outcome = table(n=300)
    ranker = OneClass(steps=10, budget=0.2).fit(frame, outcome)
    ranked = ranker.rank(frame)
    calibration = ranker.fitted_.calibration_scores
    assert len(calibration) == pytest.approx(60, abs=1)
    assert ranked["share"].to_list() == [float((calibration < score).mean()) for score in ranked["score"]]
    assert (ranker.predict(frame) == ranked["alert"].cast(pl.Int64).to_numpy()).all()


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)))
def test_rows_are_scored_alone_as_in_a_batch(order: list[int]) -> None:
    frame, outcome = table(n=200)
    ranker = _cached(frame, outcome)
    together = ranker.decision_function(frame[:12])
    assert ranker.decision_function(frame[order]) == pytest.approx(together[order], abs=1e-9)
    assert ranker.decision_function(frame[order[0]]) == pytest.approx(together[order[0]], abs=1e-9)


_CACHE: list[OneClass] = []


def _cached(frame: pl.DataFrame, outcome: np.ndarray) -> OneClass:
    if not _CACHE:
        _CACHE.append(OneClass(steps=10).fit(frame, outcome))
    return _CACHE[0]


def test_same_seed_same_scores() -> None:
    frame, outcome = table(n=200)
    for method in METHODS:
        first, second, other = (
            OneClass(method=method, steps=10, random_state=s).fit(frame, outcome).decision_function(frame) for s in (0, 0, 1)
        )
        assert (first == second).all()
        assert not np.allclose(first, other)


def test_blocks_are_the_schemas_or_columns_that_move_together() -> None:
    frame, outcome = table(n=400)
    frame = frame.drop("ward")
    encoder = OneClass(steps=1).fit(frame, outcome).fitted_.encoder
    sources = encoder.table_encoder.source_columns
    blocks = dict(zip(sources, encoder.feature_blocks(encoder.transform(frame.filter(outcome == 0))).tolist(), strict=True))
    assert blocks["a"] == blocks["b"] != blocks["c"] == blocks["d"]
    columns = [dataclasses.replace(c, block="labs" if c.name in "ab" else None) for c in Schema.infer(frame).columns]
    declared = OneClass(steps=1, schema=Schema(tuple(columns))).fit(frame, outcome).fitted_.encoder
    declared_blocks = dict(zip(sources, declared.feature_blocks(declared.transform(frame)).tolist(), strict=True))
    assert declared_blocks["a"] == declared_blocks["b"] != declared_blocks["c"] == declared_blocks["d"]


def test_one_column_alone_is_no_block_to_mask() -> None:
    frame = pl.DataFrame({"a": np.random.default_rng(0).normal(size=200)})
    schema = Schema((Column("a", low=-4.0, high=4.0),))
    assert np.isfinite(OneClass(method="droc", steps=5, schema=schema).fit(frame).decision_function(frame)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "svm"}, "method must be one of"),
        ({"budget": 0}, "budget must lie"),
        ({"width": 0}, "width must be"),
        ({"steps": 1.5}, "steps must be"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    frame, outcome = table(n=100)
    with pytest.raises(InputError, match=message):
        OneClass(**arguments).fit(frame, outcome)


def test_bad_rows() -> None:
    frame, outcome = table(n=100)
    with pytest.raises(InputError, match="too few for one-class"):
        OneClass().fit(frame[:30], np.zeros(30))
    with pytest.raises(InputError, match="of one patient"):
        OneClass().fit(frame, outcome, groups=outcome)
    with pytest.raises(InputError, match="99 values and the frame"):
        OneClass().fit(frame, outcome[:99])
    with pytest.raises(InputError, match="3 different values"):
        OneClass().fit(frame, np.arange(frame.height) % 3)
    with pytest.raises(InputError, match="missing"):
        OneClass().fit(frame, np.where(outcome == 1, np.nan, 0.0))
    with pytest.raises(InputError, match="columns missing"):
        OneClass(steps=1).fit(frame, outcome).decision_function(frame.drop("a"))


def test_missing_values_and_new_levels_are_scored() -> None:
    frame, outcome = table(n=200)
    ranker = OneClass(steps=5).fit(frame, outcome)
    odd = pl.DataFrame({"a": [None, 1e300], "b": [0.0, 1.0], "c": [0.0, 1.0], "d": [0.0, 1.0], "ward": ["z", None]})
    assert np.isfinite(ranker.decision_function(odd)).all()
