"""Series as columns: a trend that the last value does not show, out-of-fold training rows, and the regular grid."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from nearward.tabular.errors import InputError, MissingColumns, TooFewEvents
from nearward.tabular.temporal.series_encoder import SeriesEncoder, _procrustes
from nearward.tabular.temporal.windows import regular_series

VITALS = pl.DataFrame({"patient": [1, 1, 1, 1, 2], "hour": [1, 5, 5, 6, 4], "pulse": [80.0, 90.0, 100.0, 200.0, 70.0]})


def stays(n: int, seed: int, trend: float = 1.0) -> tuple[pl.DataFrame, np.ndarray]:
    """A pulse that rises to where it is in the ill and falls to it in the others; a fifth of it was not measured."""
    rng = np.random.default_rng(seed)
    ill = rng.random(n) < 0.3
    steps = np.arange(12) - 11
    pulse = rng.normal(80, 8, n)[:, None] + np.where(ill, trend, -trend)[:, None] * steps + rng.normal(0, 3, (n, 12))
    pulse[:, :-1][rng.random((n, 11)) < 0.2] = np.nan
    lists = pl.Series("pulse", pulse.tolist()).list.eval(pl.element().fill_nan(None))
    return pl.DataFrame({"age": rng.normal(60, 9, n), "last": pulse[:, -1]}).with_columns(lists), ill.astype(int)


def test_grid_by_hand() -> None:
    moments = pl.DataFrame({"patient": [2, 1, 3], "hour": [5, 6, 6], "bed": [1, 2, 3]})
    result = regular_series(moments, VITALS, patient="patient", time="hour", every=2, steps=3)
    assert result.columns == ["patient", "hour", "bed", "pulse"]
    assert result["pulse"].to_list() == [[None, None, 70.0], [80.0, None, 95.0], [None, None, None]]


@settings(max_examples=25, deadline=None)
@given(
    measured=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(-5, 5)), max_size=20),
    later=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(-5, 5)), max_size=20),
    hour=st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_grid_never_reads_the_future(measured, later, hour, seed) -> None:
    schema = {"patient": pl.Int64, "hour": pl.Int64, "x": pl.Float64}
    past, future = (pl.DataFrame(rows, schema, orient="row") for rows in (measured, later))
    future = future.with_columns(pl.col("hour") + hour)
    both = pl.concat([past, future]).sample(fraction=1, shuffle=True, seed=seed)
    moments = pl.DataFrame({"patient": [0, 1], "hour": [hour] * 2})
    before, after = (regular_series(moments, rows, patient="patient", time="hour", every=3, steps=2) for rows in (past, both))
    assert_frame_equal(before, after)


@pytest.fixture(scope="module")
def trained() -> tuple[SeriesEncoder, pl.DataFrame, pl.DataFrame, np.ndarray]:
    frame, ill = stays(500, 0)
    encoder = SeriesEncoder(["pulse"], width=np.int64(3), random_state=1)  # as a search over settings gives it
    return encoder, encoder.fit_transform(frame, ill), frame, ill


def test_the_score_reads_a_trend_that_the_last_value_does_not_show(trained) -> None:
    encoder, _, _, _ = trained
    frame, ill = stays(400, 1)
    result = encoder.transform(frame)
    assert result.columns == ["age", "last", "series: score", "series: 1", "series: 2", "series: 3"]
    assert abs(roc_auc_score(ill, frame["last"]) - 0.5) < 0.08
    assert roc_auc_score(ill, result["series: score"]) > 0.9
    assert encoder.transform(frame[:7])["series: score"].to_list() == pytest.approx(result["series: score"][:7].to_list(), abs=1e-5)


def test_training_rows_are_embedded_like_new_rows(trained) -> None:
    """On the axes of the network that new rows meet: each number of the embedding agrees."""
    encoder, result, frame, _ = trained
    again = encoder.transform(frame)
    for j in range(1, 4):
        assert np.corrcoef(result[f"series: {j}"], again[f"series: {j}"])[0, 1] > 0.6


def test_training_rows_are_out_of_fold() -> None:
    """With a random outcome the network overfits, and the out-of-fold training rows must not show it."""
    frame, _ = stays(300, 3)
    random_outcome = (np.random.default_rng(5).random(300) < 0.3).astype(int)
    encoder = SeriesEncoder(["pulse"], width=3)
    result = encoder.fit_transform(frame, random_outcome)
    assert roc_auc_score(random_outcome, encoder.transform(frame)["series: score"]) > 0.8
    assert roc_auc_score(random_outcome, result["series: score"]) < 0.62


def test_procrustes_undoes_a_rotation() -> None:
    rng = np.random.default_rng(0)
    target, rotation = rng.normal(size=(50, 3)), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    source = 2.5 * target @ rotation + 4.0
    np.testing.assert_allclose(_procrustes(source, source, target), target, atol=1e-9)


def test_array_columns_are_read_as_lists_are(trained) -> None:
    encoder, _, frame, _ = trained
    arrays = frame.with_columns(pl.col("pulse").list.to_array(12))
    assert encoder.transform(arrays).equals(encoder.transform(frame))


def test_saved_is_loaded(trained, tmp_path) -> None:
    encoder, _, frame, _ = trained
    encoder.save(tmp_path / "series")
    again = SeriesEncoder.load(tmp_path / "series")
    assert again.get_params() == encoder.get_params()
    assert again.transform(frame).equals(encoder.transform(frame))


def test_no_rows_are_no_error(trained) -> None:
    encoder, _, frame, _ = trained
    assert encoder.transform(frame[:0]).schema == encoder.transform(frame[:1]).schema


def test_refusals(trained) -> None:
    encoder, _, frame, ill = trained
    with pytest.raises(InputError, match="trained on 12"):
        encoder.transform(frame.with_columns(pl.col("pulse").list.head(5)))
    with pytest.raises(InputError, match="hold String, not numbers"):
        encoder.transform(frame.with_columns(pl.col("pulse").cast(pl.List(pl.String))))
    secret = frame.with_columns(pl.Series("pulse", [["Ida"]] * frame.height, dtype=pl.List(pl.Enum(["Ida"]))))
    with pytest.raises(InputError, match="hold Enum, not numbers"):
        encoder.transform(secret)
    with pytest.raises(InputError, match=r"must have lists, got Enum$"):
        encoder.transform(secret.with_columns(pl.col("pulse").list.first()))
    with pytest.raises(MissingColumns):
        encoder.transform(frame.drop("pulse"))
    with pytest.raises(InputError, match="regular_series"):
        SeriesEncoder().fit(frame.drop("pulse"), ill)
    with pytest.raises(InputError, match="differ in length"):
        SeriesEncoder().fit(frame.with_columns(pl.when(pl.int_range(pl.len()) > 3).then("pulse").otherwise(pl.lit([1.0]))), ill)
    with pytest.raises(InputError, match="no measurement"):
        SeriesEncoder().fit(frame.with_columns(pulse=pl.lit([None] * 4, dtype=pl.List(pl.Float64))), ill)
    with pytest.raises(TooFewEvents):
        SeriesEncoder().fit(frame, np.arange(500) < 5)
    with pytest.raises(InputError, match="steps must"):
        regular_series(VITALS.drop("pulse"), VITALS, patient="patient", time="hour", every=2, steps=1)
    with pytest.raises(InputError, match="overwritten"):
        regular_series(VITALS, VITALS, patient="patient", time="hour", every=2, steps=3)
