from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.stats.block_bootstrap import BlockBootstrap, percentile_interval
from nearward.evaluation.tables.marginals import TableBins, column_sets, total_variations


def total_variation(one: pl.DataFrame, other: pl.DataFrame, real: pl.DataFrame, ways: int, bins: int = 10) -> float:
    table_bins = TableBins.fit(real, bins)
    binned = [table_bins.transform(one), table_bins.transform(other)]
    blocks = [BlockBootstrap.with_replacement(np.arange(len(rows)), seed=0, resamples=5) for rows in binned]
    variations = total_variations(binned, blocks, table_bins.sizes, column_sets(real.width, ways, 1000, 0))
    return float(np.mean([value[0] for value, _ in variations]))


def test_disjoint_columns_have_the_greatest_variation():
    rng = np.random.default_rng(0)
    standard, shifted = (pl.DataFrame({"x": rng.normal(mean, sd, 4000)}) for mean, sd in ((0, 1), (500, 80)))
    assert total_variation(standard, shifted, real=standard, ways=1) == 1.0
    assert total_variation(standard, pl.DataFrame({"x": rng.normal(0, 1, 4000)}), real=standard, ways=1) < 0.05


def test_total_variation_by_hand():
    one = pl.DataFrame({"a": ["x", "x", "y", "y"], "b": [0.0, 0.0, 1.0, 1.0]})
    other = pl.DataFrame({"a": ["x", "x", "y", "y"], "b": [0.0, 1.0, 0.0, 1.0]})
    assert total_variation(one, other, real=one, ways=1) == 0.0
    assert total_variation(one, other, real=one, ways=2) == 0.5  # half of the mass sits in cells that the other lacks


def test_rare_unknown_and_missing_categories_have_bins():
    real = pl.DataFrame({"ward": ["a"] * 5 + ["b"] * 3 + ["c"]})
    table_bins = TableBins.fit(real, 2)
    assert table_bins.transform(pl.DataFrame({"ward": ["a", "b", "c", "new", None]}))[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert table_bins.sizes == [5]


def test_unknown_discrete_values_have_a_bin():
    table_bins = TableBins.fit(pl.DataFrame({"flag": [0.0, 1.0, 1.0]}), 10)
    assert table_bins.transform(pl.DataFrame({"flag": [0.0, 1.0, 0.5, None]}))[:, 0].tolist() == [0, 1, 2, 3]


def test_all_column_sets_or_a_sample():
    assert len(column_sets(5, 2, 100, 0)) == 10
    sampled = column_sets(30, 3, 50, 0)
    assert len(set(sampled)) == 50
    assert sampled == column_sets(30, 3, 50, 0)


def test_blocks_keep_patients_whole_and_resample_means():
    patient_ids = np.repeat(np.arange(400), 2)
    blocks = BlockBootstrap.with_replacement(patient_ids, seed=1, resamples=2000)
    assert all(len(set(blocks.block[patient_ids == p])) == 1 for p in range(400))
    x = np.random.default_rng(0).normal(0, 1, 400).repeat(2)  # rows of a patient are alike: the error is that of 400, not of 800
    assert blocks.means(x).std() == pytest.approx(1 / 20, rel=0.25)


def test_an_interval_holds_its_value_and_stays_inside():
    interval = percentile_interval(0.98, np.array([0.7, 0.8, 0.9]), 10)
    assert interval.low <= interval.value <= interval.high <= 1
    assert percentile_interval(1.4, np.array([1.3, 1.5]), 10).value == 1
