from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.stats.block_bootstrap import SUBSAMPLE_SCALE, BlockBootstrap
from nearward.evaluation.synthetic.adherence import adherence
from nearward.evaluation.synthetic.fidelity import fidelity, independent_columns
from nearward.evaluation.tables.inputs import read_tables
from nearward.tabular.errors import MissingColumns
from nearward.tabular.rules.kinds import Order, Range
from nearward.tabular.rules.rules import Rules


@pytest.fixture(scope="module")
def tables(ward):
    return read_tables(ward(3000, 1), ward(3000, 2), ward(3000, 3), "died")


def test_anchors(tables):
    fresh = fidelity(tables, 0)
    assert fresh.score.value > 0.8
    assert fresh.two_sample.low > 0.9
    shuffled = fidelity(tables.with_synthetic(independent_columns(tables.train, 5)), 0)
    assert shuffled.score.value < 0.15
    assert shuffled.two_sample.high < 0.5
    assert shuffled.distances["columns at a time"].to_list() == [1, 2, 3]
    for train, made, loose in shuffled.distances.select("train", "synthetic", "independent columns").rows()[1:]:
        assert train.high < made.low
        assert made.value == pytest.approx(loose.value, abs=0.01)


def test_repeating_the_accidents_of_train_earns_nothing(tables):
    """Shuffled columns of train have exactly train's one-way counts; measured to train they would be nearer than fresh rows."""
    found = fidelity(tables.with_synthetic(independent_columns(tables.train, 5)), 0).distances.row(0, named=True)
    assert found["synthetic"].value == pytest.approx(found["train"].value, abs=1e-9)


def test_numbers_elsewhere_are_as_far_as_can_be(ward):
    draw = np.random.default_rng(0)
    frames = []
    for mean, sd in ((0, 1), (0, 1), (500, 80)):
        frames.append(pl.DataFrame({"x": draw.normal(mean, sd, 800), "y": draw.normal(mean, sd, 800), "died": draw.integers(0, 2, 800)}))
    found = fidelity(read_tables(*frames, "died"), 0)
    assert found.score.value == found.score.high == 0
    assert found.two_sample.value < 0.01
    assert found.distances.row(0, named=True)["synthetic"].value == pytest.approx(2 / 3, abs=0.03)  # x and y wholly, the outcome not


def test_columns_are_shuffled_and_kept(tables):
    loose = independent_columns(tables.train, 0)
    for name in loose.columns:
        assert loose[name].sort().equals(tables.train[name].sort())
    assert not loose.equals(tables.train)
    assert abs(np.corrcoef(loose["dbp"], loose["sbp"])[0, 1]) < 0.1


def test_parts_show_the_spread_of_a_kinked_statistic():
    """Sum of |mean| over many columns of noise: drawing with replacement overstates its spread, drawing parts does not."""
    draw = np.random.default_rng(0)
    truth, whole, parts = [], [], []
    for seed in range(60):
        x = draw.normal(0, 1, (600, 40))
        truth.append(np.abs(x.mean(axis=0)).sum())
        for kept, deal in ((whole, BlockBootstrap.with_replacement), (parts, BlockBootstrap.subsampling)):
            blocks = deal(np.arange(600), seed)
            means = np.stack([blocks.means(column) for column in x.T])
            kept.append(np.abs(means).sum(axis=0).std())
    assert np.mean(whole) > 1.3 * np.std(truth)
    assert np.mean(parts) * SUBSAMPLE_SCALE == pytest.approx(np.std(truth), rel=0.25)


def test_adherence_between_its_anchors(tables):
    fresh = adherence(tables, None, 0)
    assert fresh.score.low > 0.9
    loose = adherence(tables.with_synthetic(independent_columns(tables.train, 5)), None, 0)
    assert loose.score.high < 0.1
    half = pl.concat([tables.synthetic[:1500], independent_columns(tables.train, 6)[:1500]])
    assert adherence(tables.with_synthetic(half), None, 0).score.value == pytest.approx(0.5, abs=0.06)


def test_the_users_rules_are_judged_and_must_be_readable(tables):
    found = adherence(tables, Rules((Range("age", 200, 300),)), 0)
    row = found.rates.filter(pl.col("source") == "user").row(0, named=True)
    assert row["rule"] == "age is from 200 to 300"
    assert row["synthetic"].value == 1
    with pytest.raises(MissingColumns, match="did you mean 'sbp'"):
        adherence(tables, Rules((Order("dbp", "sbq"),)), 0)
