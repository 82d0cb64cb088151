"""The rare-outcome benchmark's cells: the declared rate on both sides, no patient on two, other patients for every seed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.datasets import Cohort


@pytest.fixture(scope="module")
def cells() -> Iterator[Any]:
    yield importlib.import_module("benchmarks.rare.training_set")


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    draw = np.random.default_rng(0)
    n = 6000
    patient = draw.integers(0, 4000, n)
    outcome = (draw.random(n) < 0.2).astype(np.int64)
    return Cohort("made", pl.DataFrame({"row": np.arange(n, dtype=float)}), outcome, np.unique(patient, return_inverse=True)[1], "")


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_both_sides_have_the_declared_rate_and_no_patient_in_common(cells: Any, cohort: Cohort, rate: float) -> None:
    asked: list[set[int]] = []
    for seed in range(cells.SEEDS):
        cell = cells.draw_cell(cohort, rate, seed)
        assert cell.outcome.mean() == pytest.approx(rate, rel=0.03)
        assert cell.test_outcome.mean() == pytest.approx(rate, rel=0.1)
        assert not set(cell.groups) & set(cell.test_groups)
        rows = cell.train["row"].to_numpy().astype(int)
        assert (cohort.outcome[rows] == cell.outcome).all()  # rows, outcomes and patients stayed together
        assert (cohort.group[rows] == cell.groups).all()
        asked.append(set(cell.test_groups))
    assert not asked[0] & asked[1]
    assert not asked[1] & asked[2]


def test_too_few_events_make_no_cell(cells: Any, cohort: Cohort) -> None:
    few = Cohort("few", cohort.features, (np.arange(6000) % 300 == 0).astype(np.int64), None, "")
    assert cells.draw_cell(few, 0.001, 0) is None


def test_a_cell_is_the_same_every_time(cells: Any, cohort: Cohort) -> None:
    first, second = (cells.draw_cell(cohort, 0.01, 1) for _ in range(2))
    assert first.train.equals(second.train)
    assert not first.train.equals(cells.draw_cell(cohort, 0.01, 2).train)


@pytest.mark.slow
def test_shared_parts_are_those_of_a_fit_alone_and_cost_what_they_cost(cells: Any, clinic: Any) -> None:
    """The parts of an earlier fit change nothing in what an option's model says, other rows are fitted anew, and no time is lost."""
    shares = importlib.import_module("benchmarks.rare.fit_cache")
    frame, died, patient = (part[:340] for part in clinic)

    def fit(rows: slice = slice(None), **how: Any) -> nw.RiskClassifier:
        config = nw.EncoderConfig(steps=5)
        return nw.RiskClassifier(backbone=None, encoder=config, **how).fit(frame[rows], died[rows], groups=patient[rows])

    expert = [nw.OneClass(steps=5)]
    alone = fit(experts=expert).predict_proba(frame)
    shares.forget()
    with shares.shared():
        fit()
        before, made = shares.clock(), len(shares._known)
        with_it = fit(experts=expert).predict_proba(frame)
        spent, saved = shares.clock() - before, shares._saved[0]
        assert len(shares._known) == made == 15  # five folds' members, metrics and encoders, none fitted again
        np.testing.assert_array_equal(with_it, alone)
        assert spent > saved > 0
        fit(slice(0, 320))
        assert len(shares._known) == 2 * made
    shares.forget()
    assert not shares._known
