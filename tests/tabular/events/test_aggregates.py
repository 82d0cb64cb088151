"""Summaries of windows, against plain NumPy on each group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.tabular.events.aggregates import SortedValues

observations = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 1), st.sampled_from([0.5, 1.0, 5.0, 6.0, 7.0, 100.0]), st.sampled_from([-2.0, 0.0, 1.0, 3.5])
    ),
    min_size=1,
    max_size=25,
)


def sort(found: list[tuple[int, int, float, float]]) -> SortedValues:
    row, code, age, value = (
        np.array(column) for column in zip(*sorted(found, key=lambda one: (one[0], one[1], -one[2], one[3])), strict=True)
    )
    return SortedValues(row, code, age, value)


@settings(max_examples=60, deadline=None)
@given(found=observations, span=st.sampled_from([1.0, 6.0, np.inf]))
def test_as_plain_numpy_on_each_group(found: list[tuple[int, int, float, float]], span: float) -> None:
    values = sort(found)
    centre, spread = np.array([1.0, 0.0]), np.array([2.0, 0.5])
    made = values.window(span)
    for group, begin in enumerate(values.begin):
        row, code = values.row[begin], values.code[begin]
        mine = np.array([(-age, value) for r, c, age, value in found if (r, c) == (row, code)])
        assert values.last()[group] == pytest.approx(mine[mine[:, 0] == mine[:, 0].max(), 1].mean())
        assert values.from_usual(centre, spread)[group] == pytest.approx(abs(values.last()[group] - centre[code]) / spread[code])
        assert values.since()[group] == -mine[:, 0].max()
        inside = mine[mine[:, 0] >= -span]
        assert made["count"][group] == len(inside)
        if len(inside) == 0:
            assert np.isnan([made[name][group] for name in made if name != "count"]).all()
            continue
        time, value = inside.T
        expected = {"min": value.min(), "max": value.max(), "mean": value.mean(), "first": value[time == time.min()].mean()}
        assert {name: made[name][group] for name in expected} == pytest.approx(expected)
        if len(np.unique(time)) < 2:
            assert np.isnan(made["slope"][group])
        else:
            assert made["slope"][group] == pytest.approx(np.polyfit(time, value, 1)[0], abs=1e-9)


def test_static_facts_have_no_age_and_no_slope() -> None:
    values = sort([(0, 0, np.inf, 2.0), (0, 0, np.inf, 4.0)])
    made = values.window(np.inf)
    assert np.isnan(values.since()).all()
    assert np.isnan(made["slope"]).all()
    assert values.last().tolist() == [3.0]
