"""The rare-outcome benchmark's cells: the declared rate on both sides, no patient on two, other patients for every seed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nearward.cohort import Cohort


@pytest.fixture(scope="module")
def cells() -> Any:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "rare_cell.py"
    spec = importlib.util.spec_from_file_location("benchmark_rare_cell", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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
