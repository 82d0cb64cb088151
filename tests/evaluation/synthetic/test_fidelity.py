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
    for train, synthetic, independent in shuffled.distances.select("train", "synthetic", "independent columns").rows()[1:]:
        assert train.high < synthetic.low
        assert synthetic.value == pytest.approx(independent.value, abs=0.01)


def test_sampling_noise_of_train_is_not_rewarded(tables):
    """Shuffled columns of train have exactly train's one-way counts; measured to train they would be nearer than fresh rows."""
    result = fidelity(tables.with_synthetic(independent_columns(tables.train, 5)), 0).distances.row(0, named=True)
    assert result["synthetic"].value == pytest.approx(result["train"].value, abs=1e-9)


def test_disjoint_numbers_have_the_greatest_distance(ward):
    rng = np.random.default_rng(0)
    frames = []
    for mean, sd in ((0, 1), (0, 1), (500, 80)):
        frames.append(pl.DataFrame({"x": rng.normal(mean, sd, 800), "y": rng.normal(mean, sd, 800), "died": rng.integers(0, 2, 800)}))
    result = fidelity(read_tables(*frames, "died"), 0)
    assert result.score.value == result.score.high == 0
    assert result.two_sample.value < 0.01
    assert result.distances.row(0, named=True)["synthetic"].value == pytest.approx(2 / 3, abs=0.03)  # x and y wholly, the outcome not


def test_columns_are_shuffled_separately(tables):
    shuffled = independent_columns(tables.train, 0)
    for name in shuffled.columns:
        assert shuffled[name].sort().equals(tables.train[name].sort())
    assert not shuffled.equals(tables.train)
    assert abs(np.corrcoef(shuffled["dbp"], shuffled["sbp"])[0, 1]) < 0.1


def test_subsampling_shows_the_spread_of_a_kinked_statistic():
    """Sum of |mean| over many columns of noise: the bootstrap overstates its spread, subsampling does not."""
    rng = np.random.default_rng(0)
    truth, bootstrap, subsampling = [], [], []
    for seed in range(60):
        x = rng.normal(0, 1, (600, 40))
        truth.append(np.abs(x.mean(axis=0)).sum())
        for spreads, resample in ((bootstrap, BlockBootstrap.with_replacement), (subsampling, BlockBootstrap.subsampling)):
            blocks = resample(np.arange(600), seed)
            means = np.stack([blocks.means(column) for column in x.T])
            spreads.append(np.abs(means).sum(axis=0).std())
    assert np.mean(bootstrap) > 1.3 * np.std(truth)
    assert np.mean(subsampling) * SUBSAMPLE_SCALE == pytest.approx(np.std(truth), rel=0.25)


def test_adherence_between_its_anchors(tables):
    fresh = adherence(tables, None, 0)
    assert fresh.score.low > 0.9
    shuffled = adherence(tables.with_synthetic(independent_columns(tables.train, 5)), None, 0)
    assert shuffled.score.high < 0.1
    half = pl.concat([tables.synthetic[:1500], independent_columns(tables.train, 6)[:1500]])
    assert adherence(tables.with_synthetic(half), None, 0).score.value == pytest.approx(0.5, abs=0.06)


def test_the_users_rules_are_tested_and_their_columns_must_exist(tables):
    result = adherence(tables, Rules((Range("age", 200, 300),)), 0)
    row = result.rates.filter(pl.col("source") == "user").row(0, named=True)
    assert row["rule"] == "age is from 200 to 300"
    assert row["synthetic"].value == 1
    with pytest.raises(MissingColumns, match="did you mean 'sbp'"):
        adherence(tables, Rules((Order("dbp", "sbq"),)), 0)
