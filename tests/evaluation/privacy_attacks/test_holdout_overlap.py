"""A holdout that repeats train is found out, and one that only looks like it is let be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.evaluation.privacy_attacks.holdout_overlap import overlap
from nearward.evaluation.stats.confidence import wilson
from nearward.evaluation.tables.inputs import Tables


def tables(train, holdout, of_train=None, of_holdout=None):
    patients = [np.arange(frame.height) if given is None else given for frame, given in ((train, of_train), (holdout, of_holdout))]
    return Tables(train, holdout, holdout, train.columns[0], 1.0, *patients, wilson(0, 1))


def wide(rows, seed):
    return pl.DataFrame(np.random.default_rng(seed).normal(size=(rows, 4)), schema=["died", "train", "all", "0"])


def narrow(rows, seed, levels=40):
    """Most rows occur several times, many of them just twice."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame({"died": draw.integers(0, 2, rows).astype(float), "code": draw.geometric(1 / levels, rows).astype(str)})


def test_a_case_by_hand():
    """Of a, b, a, c the two a lie apart in 8 of 12 orders: 2/3 of the random splits show what is seen."""
    found = overlap(tables(pl.DataFrame({"x": ["a", "b"]}), pl.DataFrame({"x": ["a", "c"]})))
    assert found.found == 1
    assert found.expected == pytest.approx(2 / 3)
    assert found.chance == pytest.approx(2 / 3)
    assert not found.proven


def test_rows_that_recur_more_or_less_often_are_put_together():
    """Ten rows twice and ten rows thrice, all apart: the product of their chances."""
    twice, thrice = [list(range(i, i + 10)) for i in (0, 10)]
    train, holdout = pl.DataFrame({"x": twice + thrice + thrice}), pl.DataFrame({"x": twice + thrice + list(range(20, 30))})
    found = overlap(tables(train, holdout))
    assert found.found == 20
    assert found.chance == pytest.approx((2 * 30 * 30 / (60 * 59)) ** 10 * (1 - 2 * 30 * 29 * 28 / (60 * 59 * 58)) ** 10, rel=1e-6)


def test_nothing_shared_is_no_proof_of_anything():
    found = overlap(tables(wide(80, 1), wide(60, 2)))
    assert (found.found, found.expected, found.chance) == (0, 0, 1)


@pytest.mark.parametrize("sizes", [(300, 300), (900, 100), (100, 900)])
def test_narrow_tables_that_repeat_by_nature_are_let_be(sizes):
    found = [overlap(tables(narrow(sizes[0], seed), narrow(sizes[1], 1000 + seed))) for seed in range(150)]
    assert sum(one.proven for one in found) <= 1
    assert np.mean([one.found for one in found]) == pytest.approx(np.mean([one.expected for one in found]), rel=0.03)
    assert min(one.found for one in found) > 10


@pytest.mark.parametrize("make", [wide, narrow])
def test_train_in_another_order_is_found_out(make):
    train = make(300, 1)
    assert overlap(tables(train, train.sample(fraction=1, shuffle=True, seed=1))).proven


@pytest.mark.parametrize(("make", "rows"), [(wide, 300), (wide, 3000), (narrow, 300)])
def test_a_third_of_the_holdout_from_train_is_found_out(make, rows):
    train, fresh = make(rows, 1), make(200, 2)
    assert not overlap(tables(train, pl.concat([make(100, 3), fresh]))).proven
    assert overlap(tables(train, pl.concat([train[:100], fresh]))).proven


def test_a_patient_counts_once():
    """Ten visits that all look alike, of one patient, are one row; of patients with new names they are found out."""
    names = np.repeat(np.arange(60), 10)
    stays = [wide(60, seed)[names] for seed in (1, 2)]
    assert overlap(tables(stays[0], stays[1], names, names)).chance == 1
    one_shared = pl.concat([stays[0][:10], stays[1][10:]])  # ten rows, one patient: a random split shows that in every second case
    assert overlap(tables(stays[0], one_shared, names, names)).found == 1
    assert not overlap(tables(stays[0], one_shared, names, names)).proven
    order = np.random.default_rng(0).permutation(600)
    visits = wide(600, 3)
    assert overlap(tables(visits, visits[order], names, 59 - names[order])).proven


def test_holes_are_equal_to_holes():
    train = wide(100, 1).with_columns(died=None)
    assert overlap(tables(train, train)).found == 100
