"""The figure of scoring runs: many runs have a layout for a phone, and long names do not overlap."""

from __future__ import annotations

from nearward.evaluation.drift_report import RunFigures, drift_page
from nearward.evaluation.stats.confidence import wilson


def page(names: list[str]) -> str:
    return drift_page([RunFigures(name, 800, wilson(9, 800), (), None) for name in names], 0.01, [], "", None)


def test_many_runs_have_a_second_layout_with_slanted_names() -> None:
    few, many = page(["May", "June"]), page([f"scores-2026-{week:02d}" for week in range(1, 15)])
    assert (few.count("<svg"), many.count("<svg")) == (1, 2)
    assert "rotate(-30" in many
    assert "rotate(-30" not in few
    assert many.count("on-phone") > few.count("on-phone")
