"""Settings of the rare-outcome benchmark: the declared rate on both sides, no patient on both, other test patients for every seed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from benchmarks.rare.training_set import SEEDS, sample_training_set
from nearward.datasets import Cohort


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rng = np.random.default_rng(0)
    n = 6000
    patient_ids = rng.integers(0, 4000, n)
    outcome = (rng.random(n) < 0.2).astype(np.int64)
    return Cohort(
        "simulated", pl.DataFrame({"row": np.arange(n, dtype=float)}), outcome, np.unique(patient_ids, return_inverse=True)[1], "", "died"
    )


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_both_sides_have_the_declared_rate_and_no_patient_in_common(cohort: Cohort, rate: float) -> None:
    test_patients: list[set[int]] = []
    for seed in range(SEEDS):
        setting = sample_training_set(cohort, rate, seed)
        assert setting.outcome.mean() == pytest.approx(rate, rel=0.03)
        assert setting.test_outcome.mean() == pytest.approx(rate, rel=0.1)
        assert not set(setting.groups) & set(setting.test_groups)
        rows = setting.train["row"].to_numpy().astype(int)
        assert (cohort.outcome[rows] == setting.outcome).all()  # rows, outcomes and patients stayed together
        assert (cohort.groups[rows] == setting.groups).all()
        test_patients.append(set(setting.test_groups))
    assert not test_patients[0] & test_patients[1]
    assert not test_patients[1] & test_patients[2]


def test_too_few_events_give_no_setting(cohort: Cohort) -> None:
    few = Cohort("few", cohort.features, (np.arange(6000) % 300 == 0).astype(np.int64), None, "", "died")
    assert sample_training_set(few, 0.001, 0) is None


def test_a_setting_is_reproducible(cohort: Cohort) -> None:
    first, second = (sample_training_set(cohort, 0.01, 1) for _ in range(2))
    assert first.train.equals(second.train)
    assert not first.train.equals(sample_training_set(cohort, 0.01, 2).train)
