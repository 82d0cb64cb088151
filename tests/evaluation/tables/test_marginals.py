from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.stats.block_bootstrap import BlockBootstrap, percentile_interval
from nearward.evaluation.tables.marginals import TableBins, column_sets, total_variations


def apart(one: pl.DataFrame, other: pl.DataFrame, real: pl.DataFrame, ways: int, bins: int = 10) -> float:
    coding = TableBins.fit(real, bins)
    codes = [coding.transform(one), coding.transform(other)]
    blocks = [BlockBootstrap.with_replacement(np.arange(len(code)), seed=0, resamples=5) for code in codes]
    found = total_variations(codes, blocks, coding.sizes, column_sets(real.width, ways, 1000, 0))
    return float(np.mean([value[0] for value, _ in found]))


def test_a_far_normal_is_as_far_as_can_be():
    draw = np.random.default_rng(0)
    near, far = (pl.DataFrame({"x": draw.normal(mean, sd, 4000)}) for mean, sd in ((0, 1), (500, 80)))
    assert apart(near, far, real=near, ways=1) == 1.0
    assert apart(near, pl.DataFrame({"x": draw.normal(0, 1, 4000)}), real=near, ways=1) < 0.05


def test_total_variation_by_hand():
    one = pl.DataFrame({"a": ["x", "x", "y", "y"], "b": [0.0, 0.0, 1.0, 1.0]})
    other = pl.DataFrame({"a": ["x", "x", "y", "y"], "b": [0.0, 1.0, 0.0, 1.0]})
    assert apart(one, other, real=one, ways=1) == 0.0
    assert apart(one, other, real=one, ways=2) == 0.5  # half of the mass sits in cells that the other lacks


def test_levels_rare_unseen_and_missing_have_codes_of_their_own():
    real = pl.DataFrame({"ward": ["a"] * 5 + ["b"] * 3 + ["c"]})
    coding = TableBins.fit(real, 2)
    assert coding.transform(pl.DataFrame({"ward": ["a", "b", "c", "new", None]}))[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert coding.sizes == [5]


def test_values_between_the_few_are_foreign():
    coding = TableBins.fit(pl.DataFrame({"flag": [0.0, 1.0, 1.0]}), 10)
    assert coding.transform(pl.DataFrame({"flag": [0.0, 1.0, 0.5, None]}))[:, 0].tolist() == [0, 1, 2, 3]


def test_all_sets_or_as_many_as_asked():
    assert len(column_sets(5, 2, 100, 0)) == 10
    some = column_sets(30, 3, 50, 0)
    assert len(set(some)) == 50
    assert some == column_sets(30, 3, 50, 0)


def test_blocks_keep_patients_whole_and_resample_means():
    patient = np.repeat(np.arange(400), 2)
    blocks = BlockBootstrap.with_replacement(patient, seed=1, resamples=2000)
    assert all(len(set(blocks.block[patient == p])) == 1 for p in range(400))
    x = np.random.default_rng(0).normal(0, 1, 400).repeat(2)  # rows of a patient are alike: the error is that of 400, not of 800
    assert blocks.means(x).std() == pytest.approx(1 / 20, rel=0.25)


def test_an_interval_holds_its_value_and_stays_inside():
    found = percentile_interval(0.98, np.array([0.7, 0.8, 0.9]), 10)
    assert found.low <= found.value <= found.high <= 1
    assert percentile_interval(1.4, np.array([1.3, 1.5]), 10).value == 1
