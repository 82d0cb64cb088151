from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.privacy_attacks.exact_copies import copies
from nearward.evaluation.stats.block_bootstrap import BlockBootstrap
from nearward.evaluation.synthetic.heterogeneity import _Sample, heterogeneity
from nearward.evaluation.tables.inputs import read_tables


@pytest.fixture(scope="module")
def tables(ward):
    return read_tables(ward(1200, 1), ward(1200, 2), ward(1200, 3), "died")


def test_coverage_by_hand():
    """Embeddings 0, 1 and 5 on a line, within 1.5 of rows at 1.2 and 9, all or only those with the event."""
    embeddings = np.array([[0.0], [1.0], [5.0]], dtype=np.float32)
    rows = np.array([[1.2], [9.0]], dtype=np.float32)
    sample = _Sample(pl.DataFrame(), rows, np.array([0, 1]), BlockBootstrap(np.array([0, 1]), np.array([[1.0, 1.0], [0.0, 2.0]])))
    covered, resampled = sample.covers(sample.within_radius(embeddings, np.full(3, 1.5), np.array([True, True])))
    assert covered.tolist() == [True, True, False]
    assert resampled.tolist() == [[True, True, False], [False, False, False]]  # the second resample lacks the row at 1.2
    covered, _ = sample.covers(sample.within_radius(embeddings, np.full(3, 1.5), np.array([False, True])))
    assert not covered.any()


def test_fresh_rows_cover_what_the_holdout_covers(tables):
    result = heterogeneity(tables, 0)
    assert result.score.low > 0.75
    names = result.strata["stratum"].to_list()
    assert names[:2] == ["the event", "no event"]
    assert names[-5:] == [*(f"cluster {j}" for j in (1, 2, 3, 4)), "outliers"]
    assert {"ward = ICU", "ward = surgical", "unit = A"} < set(names)
    assert min(ratio.value for ratio in result.strata["ratio"]) == result.score.value
    assert result.shift.low == 0
    assert result.patterns["kept"][1].value > 0.9


def test_the_worst_stratum_counts(tables):
    without = tables.synthetic.with_columns(died=pl.lit(0.0))
    result = heterogeneity(tables.with_synthetic(without), 0)
    ratio = dict(result.strata.select("stratum", "ratio").iter_rows())
    assert ratio["the event"].value == result.score.value == result.score.high == 0
    assert ratio["no event"].value > 0.9
    share = result.shares.row(0)[1].value
    assert result.shift.value == pytest.approx(share)
    assert result.shift.low > 0


def test_one_kind_of_patient_lost_is_seen(tables):
    """Rows of one ward alone, as many as before."""
    medical = tables.synthetic.filter(pl.col("ward") == "medical")
    result = heterogeneity(tables.with_synthetic(pl.concat([medical] * 2)), 0)
    ratio = dict(result.strata.select("stratum", "ratio").iter_rows())
    assert result.score.high == ratio["ward = ICU"].high == 0
    assert ratio["cluster 1"].value > 0.5  # clusters and outliers alone would have missed it
    assert result.patterns["kept"][1].value < result.patterns["kept"][0].value


def test_copy_check(tables):
    fresh, copied = copies(tables, 0), copies(tables.with_synthetic(tables.train), 0)
    assert not fresh.suspicious
    assert copied.suspicious
    assert copied.identical.value == 1
    assert copied.distances.row(0)[2].value == 0
    usual, synthetic = fresh.distances["50% quantile"]
    assert synthetic.low < usual.value < synthetic.high
    half = pl.concat([tables.train[:300], tables.synthetic[300:]])
    assert copies(tables.with_synthetic(half), 0).identical.value == pytest.approx(0.25)
