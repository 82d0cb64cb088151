"""Drift: the index by hand and by chance, bins as JSON, values that no training row had."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.evaluation.drift import bins_as_json, bins_from_json, drift, fit_bins
from nearward.tabular.errors import ArtifactError


def test_the_index_by_hand() -> None:
    """Shares (99.5, .5 added) 1/2, 1/2 against 3/4, 1/4 up to the half rows: (1/4) ln(3/2) + (-1/4) ln(1/2)."""
    result = drift([10**6, 10**6], [3 * 10**6, 10**6])
    assert result.psi.value == pytest.approx(0.25 * math.log(1.5) + 0.25 * math.log(2), abs=1e-4)
    assert result.moved
    assert result.psi.low < result.psi.value < result.psi.high


def test_samples_of_one_population_stay_below_chance_in_nineteen_of_twenty() -> None:
    rng, below = np.random.default_rng(0), 0
    for _ in range(400):
        one, other = (rng.multinomial(size, np.full(10, 0.1)) for size in (2000, 700))
        result = drift(one, other)
        below += result.psi.value <= result.by_chance
        assert not result.moved
    assert below / 400 == pytest.approx(0.95, abs=0.03)


def test_the_interval_holds_the_true_index() -> None:
    rng, covered = np.random.default_rng(1), 0
    before, after = np.full(5, 0.2), np.array([0.35, 0.25, 0.2, 0.1, 0.1])
    truth = float(((after - before) * np.log(after / before)).sum())
    for _ in range(300):
        result = drift(rng.multinomial(3000, before), rng.multinomial(3000, after))
        covered += result.psi.low <= truth <= result.psi.high
    assert covered / 300 == pytest.approx(0.95, abs=0.035)


@settings(max_examples=40)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=80), st.lists(st.floats(-1e9, 1e9), max_size=20))
def test_every_value_falls_into_one_bin(seen: list[float | None], new: list[float]) -> None:
    column = pl.Series("x", seen, dtype=pl.Float64)
    (bins,) = fit_bins(column.to_frame())
    assert sum(bins.count) == len(seen)
    assert bins.count[-1] == column.null_count()
    counts = bins.counted(pl.Series("x", [*new, None], dtype=pl.Float64))
    assert counts.sum() == len(new) + 1
    assert len(counts) == len(bins.count)


def test_rare_and_unknown_categories_are_pooled() -> None:
    (bins,) = fit_bins(pl.DataFrame({"ward": ["ICU"] * 6 + ["burns"] * 4 + [None] * 2}))
    assert bins.levels == ("ICU",)
    assert bins.count == (6, 4, 2)
    assert bins.counted(pl.Series("ward", ["ICU", "moon", None])).tolist() == [1, 1, 1]


def test_bins_hold_no_rows_and_come_back_from_json() -> None:
    rng = np.random.default_rng(2)
    frame = pl.DataFrame({"x": rng.normal(size=500), "ward": rng.choice(["a", "b", "c"], 500)})
    bins = fit_bins(frame)
    assert max(len(one.count) for one in bins) <= 22
    content = json.loads(json.dumps(bins_as_json(bins)))
    assert bins_from_json(content) == bins
    content["columns"][0]["count"].pop()
    with pytest.raises(ArtifactError, match="do not fit"):
        bins_from_json(content)
    with pytest.raises(ArtifactError, match="another version"):
        bins_from_json({"nearward_bins": 99, "columns": []})


def test_lists_of_codes_are_counted_by_the_number_of_their_codes() -> None:
    stored = pl.DataFrame({"dx": [["a"]] * 50 + [["a", "b"]] * 50 + [[]] * 10 + [None] * 5}, schema={"dx": pl.List(pl.String)})
    (bins,) = fit_bins(stored)
    assert bins == bins_from_json(json.loads(json.dumps(bins_as_json([bins]))))[0]
    assert bins.levels is None
    assert bins.count[-1] == 5
    fewer = pl.Series("dx", [["z"]] * 40 + [None], dtype=pl.List(pl.String))
    assert bins.counted(fewer).sum() == 41
    assert drift(bins.count, bins.counted(fewer)).moved
