"""A holdout that repeats train is detected, and naturally repeated rows are not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.privacy_attacks.holdout_overlap import overlap
from nearward.evaluation.stats.confidence import wilson
from nearward.evaluation.tables.inputs import Tables


def tables(train, holdout, train_ids=None, holdout_ids=None):
    patient_ids = [np.arange(frame.height) if ids is None else ids for frame, ids in ((train, train_ids), (holdout, holdout_ids))]
    return Tables(train, holdout, holdout, train.columns[0], 1.0, *patient_ids, wilson(0, 1))


def wide(rows, seed):
    return pl.DataFrame(np.random.default_rng(seed).normal(size=(rows, 4)), schema=["died", "train", "all", "0"])


def narrow(rows, seed, categories=40):
    """Most rows occur several times, many of them just twice."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame({"died": rng.integers(0, 2, rows).astype(float), "code": rng.geometric(1 / categories, rows).astype(str)})


def test_a_case_by_hand():
    """Of a, b, a, c the two a lie apart in 8 of 12 orders: 2/3 of the random splits show what is seen."""
    result = overlap(tables(pl.DataFrame({"x": ["a", "b"]}), pl.DataFrame({"x": ["a", "c"]})))
    assert result.count == 1
    assert result.expected == pytest.approx(2 / 3)
    assert result.p_value == pytest.approx(2 / 3)
    assert not result.significant


def test_rows_of_different_frequency_are_combined():
    """Ten rows twice and ten rows thrice, all apart: the product of their chances."""
    twice, thrice = [list(range(i, i + 10)) for i in (0, 10)]
    train, holdout = pl.DataFrame({"x": twice + thrice + thrice}), pl.DataFrame({"x": twice + thrice + list(range(20, 30))})
    result = overlap(tables(train, holdout))
    assert result.count == 20
    assert result.p_value == pytest.approx((2 * 30 * 30 / (60 * 59)) ** 10 * (1 - 2 * 30 * 29 * 28 / (60 * 59 * 58)) ** 10, rel=1e-6)


def test_nothing_shared_is_no_proof_of_anything():
    result = overlap(tables(wide(80, 1), wide(60, 2)))
    assert (result.count, result.expected, result.p_value) == (0, 0, 1)


@pytest.mark.parametrize("sizes", [(300, 300), (900, 100), (100, 900)])
def test_narrow_tables_with_natural_repeats_are_not_flagged(sizes):
    results = [overlap(tables(narrow(sizes[0], seed), narrow(sizes[1], 1000 + seed))) for seed in range(150)]
    assert sum(result.significant for result in results) <= 1
    assert np.mean([result.count for result in results]) == pytest.approx(np.mean([result.expected for result in results]), rel=0.03)
    assert min(result.count for result in results) > 10


@pytest.mark.parametrize("make", [wide, narrow])
def test_train_in_another_order_is_detected(make):
    train = make(300, 1)
    assert overlap(tables(train, train.sample(fraction=1, shuffle=True, seed=1))).significant


@pytest.mark.parametrize(("make", "rows"), [(wide, 300), (wide, 3000), (narrow, 300)])
def test_a_third_of_the_holdout_from_train_is_detected(make, rows):
    train, fresh = make(rows, 1), make(200, 2)
    assert not overlap(tables(train, pl.concat([make(100, 3), fresh]))).significant
    assert overlap(tables(train, pl.concat([train[:100], fresh]))).significant


def test_a_patient_counts_once():
    """Ten visits that all look alike, of one patient, are one row; of patients with new names they are detected."""
    names = np.repeat(np.arange(60), 10)
    stays = [wide(60, seed)[names] for seed in (1, 2)]
    assert overlap(tables(stays[0], stays[1], names, names)).p_value == 1
    one_shared = pl.concat([stays[0][:10], stays[1][10:]])  # ten rows, one patient: a random split shows that in every second case
    assert overlap(tables(stays[0], one_shared, names, names)).count == 1
    assert not overlap(tables(stays[0], one_shared, names, names)).significant
    order = np.random.default_rng(0).permutation(600)
    visits = wide(600, 3)
    assert overlap(tables(visits, visits[order], names, 59 - names[order])).significant


def test_holes_are_equal_to_holes():
    train = wide(100, 1).with_columns(died=None)
    assert overlap(tables(train, train)).count == 100
