"""Small-count suppression: by hand, and no small count follows by subtraction, from several columns of a report either."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nearward as nw
from nearward.evaluation.risk.disclosure_control import suppress_jointly, suppress_small_counts
from nearward.evaluation.risk.inputs import RiskSample

WARDS = {"a": (300, 700), "b": (40, 100), "c": (3, 200), "d": (100, 20), "e": (150, 120)}  # events, others


def test_suppression_by_hand() -> None:
    rows, events = np.array([500, 300, 60, 200]), np.array([50, 30, 3, 40])
    rows_suppressed, suppressed = suppress_small_counts(rows, events)
    assert suppressed.tolist() == [False, True, True, False]  # the third is small; the second is the next smallest by events
    assert not rows_suppressed.any()  # 60 rows identify no patient
    rows_suppressed, suppressed = suppress_small_counts(np.array([500, 300, 8]), np.array([50, 30, 2]))
    assert rows_suppressed.tolist() == [False, True, True]
    assert suppressed.tolist() == [False, True, True]
    assert not suppress_small_counts(np.array([100, 100]), np.array([10, 90]))[1].any()
    assert suppress_small_counts(np.array([100, 100]), np.array([95, 50]))[1].all()  # 5 rows without the event


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_nothing_small_follows_by_subtraction(counts) -> None:
    events, non_events = (np.array(column) for column in zip(*counts, strict=True))
    rows = events + non_events
    rows_suppressed, suppressed = suppress_small_counts(rows, events)
    assert (suppressed | ~rows_suppressed).all()
    assert (rows[~rows_suppressed] >= 10).all()
    assert (events[~suppressed] >= 10).all()
    assert (non_events[~suppressed] >= 10).all()
    for mask, sums in ((rows_suppressed, [rows]), (suppressed, [events, non_events])):
        if mask.any() and not mask.all():  # what the total less the shown leaves is several parts, and 10 or more
            assert mask.sum() >= 2
            assert all(count[mask].sum() >= 10 for count in sums)


def sample_of(counts: list[tuple[int, int]]) -> tuple[RiskSample, np.ndarray]:
    """A sample, and the number of the cell that each row is in."""
    outcome = np.concatenate([np.repeat([1.0, 0.0], pair) for pair in counts])
    cell = np.repeat(np.arange(len(counts)), [sum(pair) for pair in counts])
    return RiskSample(outcome, {"risk": np.linspace(0, 1, len(outcome))}, np.arange(len(outcome))), cell


def report_of(**columns: Any) -> nw.RiskReport:
    sample, ward = sample_of(list(WARDS.values()))
    frame = pl.DataFrame({"died": sample.outcome, "ward": np.array(list(WARDS))[ward], "risk": sample.risks["risk"]})
    return nw.evaluate_risk(frame, "died", "risk", resamples=100, **columns)


def test_a_stratum_less_a_ward_does_not_show_the_withheld_ward(tmp_path) -> None:
    """Alone, the subgroups withhold c and d, and the strata pool b and c: 43 events less the 40 of b would leave the 3 of c."""
    report = report_of(subgroups=["ward"], strata=["ward"])
    assert {stratum.level: stratum.events for stratum in report.strata}["few events, together"] == 43
    assert [part.level for part in report.subgroups if part.events is None] == ["b", "c", "d"]
    report.to_json(tmp_path / "report.json")
    subgroups = json.loads((tmp_path / "report.json").read_text())["items"]["23a"]["content"]["subgroups"]
    assert [part["events"] for part in subgroups] == [300, None, None, None, 150]
    assert [part.level for part in report_of(subgroups=["ward"]).subgroups if part.events is None] == ["c", "d"]


def test_sites_withhold_what_subgroups_and_strata_would_reveal(tmp_path) -> None:
    report = report_of(subgroups=["ward"], strata=["ward"], site="ward")
    assert report.source is not None
    withheld = report.source.rates.filter(pl.col("events").is_null())
    assert sorted(withheld["site"]) == ["b", "c", "d"]
    assert withheld.select("rate", "low", "high").null_count().row(0) == (3, 3, 3)


def test_columns_within_one_another_are_covered() -> None:
    """Hospital 0 has 43 events, 40 of them in its only large ward; the other hospital hides a ward of its own."""
    sample, ward = sample_of([(40, 100), (3, 60), (50, 200), (60, 150), (4, 90)])
    hospital = np.array([0, 0, 1, 1, 1])[ward]
    wards, hospitals = suppress_jointly(sample, [(ward, 5), (hospital, 2)])
    assert wards[1][[1, 4]].all()
    assert wards[1][0] or hospitals[1].any()


def test_a_difference_that_is_no_category_is_covered() -> None:
    """All pregnant patients are women, and all but five women are pregnant."""
    sample, cell = sample_of([(40, 60), (2, 3), (50, 70)])
    pregnant, sex = np.array([1, 0, 0])[cell], np.array([1, 1, 0])[cell]
    by_pregnancy, by_sex = suppress_jointly(sample, [(pregnant, 2), (sex, 2)])
    assert by_pregnancy[0].any() or by_sex[0].any()  # the rows too: 105 less 100
    alone = suppress_jointly(sample, [(sex, 2)])[0]
    assert not alone[1].any()


def test_columns_without_small_counts_are_shown() -> None:
    rng = np.random.default_rng(0)
    sample = RiskSample((rng.random(2000) < 0.3).astype(float), {"risk": rng.random(2000)}, np.arange(2000))
    columns = [(rng.integers(0, size, 2000), size) for size in (2, 5, 4)]
    assert not any(mask.any() for masks in suppress_jointly(sample, columns) for mask in masks)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 2)), min_size=3, max_size=7))
def test_no_small_ward_is_the_difference_of_a_region_and_other_wards(cells) -> None:
    """Wards in regions: what a shown region has beyond its shown wards is nothing, or 10 and more."""
    sample, ward = sample_of([cell[:2] for cell in cells])
    if min(sample.events, sample.rows - sample.events) < 10:
        return
    region_of = np.array([cell[2] for cell in cells])
    wards, regions = suppress_jointly(sample, [(ward, len(cells)), (region_of[ward], 3)])
    events, others = (np.array([cell[index] for cell in cells]) for index in (0, 1))
    for region in np.flatnonzero(np.bincount(region_of[ward], minlength=3)):
        hidden = (region_of == region) & wards[1] & (events + others > 0)
        if not regions[1][region] and hidden.any():
            assert events[hidden].sum() >= 10
            assert others[hidden].sum() >= 10
    for rows_suppressed, suppressed in (wards, regions):
        assert (suppressed | ~rows_suppressed).all()


@pytest.mark.parametrize("seed", [1, 4, 7, 10, 15, 21, 27, 65])
@pytest.mark.parametrize("n_columns", [2, 3, 4])
def test_no_sum_or_difference_of_shown_counts_is_small(seed, n_columns) -> None:
    """An attacker who adds and subtracts whatever is shown: every set of atoms whose count follows has ten patients or none."""
    rng = np.random.default_rng(seed)
    cells = int(rng.integers(3, 8))
    columns = [rng.integers(0, rng.integers(2, 4), cells) for _ in range(n_columns)]
    events, others = rng.integers(0, 40, cells), rng.integers(0, 60, cells)
    events[rng.integers(cells)] = 3
    sample, cell = sample_of(list(zip(events, others, strict=True)))
    categories = [np.unique(column, return_inverse=True)[1] for column in columns]
    suppression = suppress_jointly(sample, [(category[cell], category.max() + 1) for category in categories])

    atoms, atom = np.unique(np.stack([category[cell] for category in categories], axis=1), axis=0, return_inverse=True)
    counts = np.bincount(atom.ravel() + len(atoms) * (sample.outcome == 0), minlength=2 * len(atoms))
    nothing = np.zeros(len(atoms))
    lines = [np.append(nothing + 1, nothing), np.append(nothing, nothing + 1)]  # the totals
    for column, (rows_suppressed, suppressed) in enumerate(suppression):
        for index in range(len(suppressed)):
            of_category = (atoms[:, column] == index).astype(float)
            lines += [] if rows_suppressed[index] else [np.append(of_category, of_category)]
            lines += [] if suppressed[index] else [np.append(of_category, nothing)]
    projection = np.linalg.pinv(np.stack(lines)) @ np.stack(lines)
    for chosen in itertools.product([0.0, 1.0], repeat=len(atoms)):
        if any(chosen):
            for target in (np.append(chosen, chosen), np.append(chosen, nothing), np.append(nothing, chosen)):
                follows = np.allclose(target @ projection, target, atol=1e-8)
                assert not follows or counts @ target >= 10
