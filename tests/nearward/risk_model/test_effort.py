"""``effort``: its limits, and the time that is told before a fit."""

from __future__ import annotations

import numpy as np
import pytest

import nearward as nw
from nearward.risk_model.effort import expected_seconds, find_effort, spell_seconds
from nearward.tabular.errors import InputError


def test_a_misspelt_effort_is_corrected() -> None:
    with pytest.raises(InputError, match=r"'thorough'\], got effort='thorogh'.*did you mean 'thorough'"):
        find_effort("thorogh")


def test_a_fast_fit_has_three_folds_tells_the_time_and_is_saved_as_fast(tmp_path) -> None:
    x = np.random.default_rng(0).normal(size=(90, 3))
    steps: list[str] = []
    model = nw.RiskClassifier(effort="fast", backbone=None, verbose=steps.append).fit(x, x[:, 0] > 0.8)
    assert steps[0].startswith("expected: about 1 s on ")
    assert model.summary_.folds == 3
    model.save(tmp_path / "model")
    assert nw.load(tmp_path / "model").effort == "fast"


@pytest.mark.parametrize(
    ("rows", "columns", "measured"),
    [(10_000, 30, 34.9), (4_000, 375, 69.2), (6_000, 40, 27.0), (50_000, 30, 171.0)],  # processor seconds, docs/benchmarks/speed.md
)
def test_the_time_told_is_right_within_a_factor_of_two(rows: int, columns: int, measured: float) -> None:
    assert measured / 2 < expected_seconds(rows, columns, "default", 1) < measured * 2
    assert expected_seconds(rows, columns, "fast", 1) < expected_seconds(rows, columns, "thorough", 1)


def test_durations_are_rough() -> None:
    assert [spell_seconds(seconds) for seconds in (0.2, 23.4, 170)] == ["about 1 s", "about 20 s", "about 3 min"]
