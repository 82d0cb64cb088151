"""The teaching sample: patients whole, weights that give the table's counts, events first."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.risk_model.teaching_sample import FrameRows, choose_teaching_sample, rescaled


def table(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcome, patients of one to a few rows, and sites of very different size."""
    rng = np.random.default_rng(seed)
    patient_ids = np.unique(rng.integers(0, n // 2, n), return_inverse=True)[1]
    share = 0.4 ** np.arange(classes)
    return rng.choice(classes, n, p=share / share.sum()), patient_ids, rng.choice(4, n, p=[0.6, 0.3, 0.09, 0.01])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 3, 5]), st.sampled_from([150, 400, 900]), st.booleans())
def test_weights_sum_to_the_table_in_every_class_and_stratum_and_patients_are_whole(
    seed: int, classes: int, most_rows: int, with_sites: bool
) -> None:
    outcome, patient_ids, site = table(2000, classes, seed)
    sample = choose_teaching_sample(outcome, patient_ids, most_rows, seed, site if with_sites else None)
    strata = np.where(np.bincount(site)[site] < 200, -1, site) if with_sites else np.zeros_like(site)
    for stratum in np.unique(strata):
        for c in range(classes):
            inside = (strata == stratum) & (outcome == c)
            assert sample.weight[inside[sample.rows]].sum() == pytest.approx(inside.sum(), rel=1e-12)
    assert (sample.weight > 0).all()
    assert (np.diff(sample.rows) > 0).all()
    assert not np.intersect1d(patient_ids[sample.rows], patient_ids[sample.others(2000)]).size
    assert len(sample.rows) + len(sample.others(2000)) == 2000


def test_all_events_teach_while_they_are_half_and_are_sampled_beyond() -> None:
    rng = np.random.default_rng(0)
    rare, common = (rng.random(5000) < 0.04).astype(np.int64), (rng.random(5000) < 0.4).astype(np.int64)
    sample = choose_teaching_sample(rare, np.arange(5000), 1000, 0)
    assert rare[sample.rows].sum() == rare.sum()
    assert len(sample.rows) == 1000
    assert set(sample.weight[rare[sample.rows] == 1]) == {1.0}
    sample = choose_teaching_sample(common, np.arange(5000), 1000, 0)
    assert common[sample.rows].sum() == 500
    assert len(sample.rows) == 1000


def test_rows_without_the_event_of_patients_with_it_stand_for_themselves() -> None:
    # every patient has two rows; those with an event have one row without it, which is in the sample for certain
    outcome = np.zeros(4000, dtype=np.int64)
    outcome[:200:2] = 1
    sample = choose_teaching_sample(outcome, np.arange(4000) // 2, 800, 3)
    of_event_patients = sample.rows < 200
    assert of_event_patients.sum() == 200
    assert sample.weight[of_event_patients].tolist() == [1.0] * 200
    assert sample.weight.sum() == pytest.approx(4000)


def test_the_seed_decides_and_a_small_table_teaches_wholly() -> None:
    outcome, patient_ids, _ = table(1000, 2, 1)
    one, same, other = (choose_teaching_sample(outcome, patient_ids, 300, seed) for seed in (5, 5, 6))
    assert (one.rows == same.rows).all()
    assert len(np.setdiff1d(one.rows, other.rows)) > 50
    assert choose_teaching_sample(outcome, patient_ids, 1000, 5) is None


def test_a_class_and_stratum_that_chance_left_out_is_represented() -> None:
    # the only rows without the event at site 1 are of patients with the event, of whom a few are drawn
    outcome, site = np.tile([1, 0, 0, 0], 300), np.tile([0, 0, 0, 0], 300)
    patient_ids = np.arange(1200) // 4
    site[4::4], site[1:9:4] = 0, 0
    site[1001:1003] = 1
    site[3::4] = 1
    sample = choose_teaching_sample(outcome, patient_ids, 60, 0, site)
    for stratum in (0, 1):
        for c in (0, 1):
            inside = (site == stratum) & (outcome == c)
            assert sample.weight[inside[sample.rows]].sum() == pytest.approx(inside.sum())


def test_other_rows_come_once_in_blocks_and_a_patient_has_one_fold(monkeypatch) -> None:
    monkeypatch.setattr("nearward.risk_model.teaching_sample.BLOCK_ROWS", 128)
    outcome, patient_ids, _ = table(1000, 2, 2)
    sample = choose_teaching_sample(outcome, patient_ids, 300, 0)
    rows = sample.others(1000)
    others = FrameRows.of(pl.DataFrame({"x": rows}), outcome[rows], patient_ids[rows], 5, 0)
    blocks = list(others.blocks())
    assert max(block.read().height for block in blocks) == 128
    assert np.concatenate([block.read()["x"].to_numpy() for block in blocks]).tolist() == rows.tolist()
    assert np.concatenate([block.outcome for block in blocks]).tolist() == outcome[rows].tolist()
    patients, fold = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("patient_ids", "fold"))
    assert len(set(zip(patients.tolist(), fold.tolist(), strict=True))) == len(set(patients.tolist()))
    assert np.ptp(np.bincount(fold)) < 15


def test_weights_are_rescaled_to_the_rows_that_remain() -> None:
    outcome = np.array([1, 0, 0, 0, 0])
    assert rescaled(np.array([1.0, 3.0, 3.0, 0, 0]), outcome).tolist() == [1.0, 2.0, 2.0, 0.0, 0.0]
