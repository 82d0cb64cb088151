"""The page of an adaptation: one figure for the head of a department, and the steps; words in ``templates/adaptation.html.jinja``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nearward.evaluation.html_page import BLUE, GREY, INK, render
from nearward.evaluation.stats.confidence import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nearward.evaluation.provenance import Provenance

_WIDTH = 0.27


def adaptation_page(adaptation: Any, provenance: Provenance | None = None) -> str:
    """Return the page of an ``Adaptation``."""
    figure, steps = group_figure(adaptation), step_table(adaptation)
    return render("adaptation.html.jinja", provenance, adaptation=adaptation, figure=figure, steps=steps)


def step_table(adaptation: Any) -> pl.DataFrame:
    """Return one row a step, as text: whether it is used, the log-loss before it and what it gains, and why."""
    steps = adaptation.steps

    def texts(name: str, form: str) -> list[str]:
        values = (getattr(step, name) for step in steps)
        return ["" if value is None else format(value, form) for value in values]

    return pl.DataFrame(
        {
            "step": [step.name for step in steps],
            "used": ["yes" if step.used else "no" for step in steps],
            "log-loss before": texts("log_loss_before", ".4f"),
            "gain": texts("gain", "+.4f"),
            "standard error": texts("standard_error", ".4f"),
            "why": [step.why for step in steps],
            "detail": [step.detail for step in steps],
        }
    )


def group_figure(adaptation: Any) -> Figure:
    """Events per 100 patients by fifths of the risk: observed here with 95 % intervals, expected by the model as it came and adapted."""
    from matplotlib.figure import Figure

    from nearward.evaluation.risk.figures import style_axes, with_legend

    groups, x = adaptation.groups, np.arange(len(adaptation.groups))
    figure = Figure(figsize=(4.9, 3.7), layout="constrained")
    axes = figure.subplots()
    expected = (("model as it came", "expected_source", GREY), ("adapted model", "expected_adapted", BLUE))
    for j, (label, name, colour) in enumerate(expected):
        axes.bar(x + (j - 1) * _WIDTH, [100 * getattr(group, name) / group.rows for group in groups], _WIDTH, label=label, color=colour)
    observed = [wilson(group.observed, group.rows) for group in groups]
    ends = 100 * np.array([[one.value - one.low, one.high - one.value] for one in observed]).T
    axes.errorbar(x + _WIDTH, [100 * one.value for one in observed], ends, fmt="o", color=INK, markersize=5, label="observed here")
    axes.set_xticks(x, ["lowest fifth", *[""] * max(len(groups) - 2, 0), "highest fifth"][: len(groups)])
    style_axes(axes, "Local patients by their risk", "Events per 100 patients")
    axes.grid(visible=False, axis="x")
    return with_legend(figure, axes)
