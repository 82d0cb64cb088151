"""Waterfall of one row's explanation: from the base rate over the reference patients and the columns to the risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from nearward.explanation.contributions import BASE_RATE, REFERENCE_ROWS
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.errors import InputError, require_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW_HEIGHT = 0.24  # inches
_LONGEST_LABEL = 26
_PROBABILITIES = (*(thousandths / 1000 for thousandths in range(1, 10)), *(hundredths / 100 for hundredths in range(1, 100)))


def waterfall(explanation: pl.DataFrame, columns: int = 10) -> Figure:
    """Draw the explanation of one row.

    Parameters
    ----------
    explanation : pl.DataFrame
        Of one row, and of one class where there are several: filter what ``RiskClassifier.explain`` returned.
    columns : int
        Columns that get a bar of their own; the others share one.

    Returns
    -------
    matplotlib.figure.Figure
        ``figure.savefig("why.svg")`` writes it. Bars to the right raise the risk, those to the left lower it; whiskers are twice the
        standard error.

    Raises
    ------
    InputError
        Not the explanation of one row and class.
    """
    from matplotlib.figure import Figure

    from nearward.evaluation.html_page import BLUE, GREY, INK, VERMILION

    bars = _bars(explanation, columns)
    width = bars["contribution"].to_numpy()
    end = np.cumsum(width)
    start = end - width
    figure = Figure(figsize=(5.4, 1.05 + _ROW_HEIGHT * (bars.height + 1)), layout="constrained")
    axes = figure.subplots()
    axes.use_sticky_edges = False  # bars would end at the frame
    for i, (label, change, error) in enumerate(bars.iter_rows()):
        if i == 0:
            axes.plot([end[0]], [0], "o", color=INK, markersize=6)
            axes.annotate(f"{expit(end[0]):.1%}", (end[0], 0), (7, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK)
            continue
        colour = GREY if label in REFERENCE_ROWS.values() else VERMILION if change > 0 else BLUE
        axes.barh(i, change, left=start[i], height=0.62, color=colour)
        axes.plot([end[i] - 2 * error, end[i] + 2 * error], [i, i], color=INK, linewidth=1)
        axes.plot([end[i], end[i]], [i + 0.31, i + 0.69], color=GREY, linewidth=0.8)
        at = max(start[i], end[i] + 2 * error)
        axes.annotate(f"{change:+.2f}".replace("-", "−"), (at, i), (5, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK)
    axes.plot([end[-1]], [bars.height], "D", color=INK, markersize=6)
    axes.annotate(f"{expit(end[-1]):.1%}", (end[-1], bars.height), (7, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK)
    axes.set_yticks(range(bars.height + 1), [*map(_shorten, bars["column"]), "risk"], fontsize=8.5, color=INK)
    axes.set_ylim(bars.height + 0.6, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel("log-odds (to the right: the risk rises)", fontsize=9, color=INK)
    axes.tick_params(colors=INK, labelsize=8.5, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    _mark_probabilities(axes)
    return figure


def _bars(explanation: pl.DataFrame, columns: int) -> pl.DataFrame:
    """Return label, contribution and standard error of each bar, the base rate first."""
    require_columns(["column", "value", "contribution", "se"], explanation.columns)
    if explanation.get_column("column").to_list().count(BASE_RATE) != 1 or explanation["column"][0] != BASE_RATE:
        raise InputError("explanation must be that of one row and one class: filter the table of RiskClassifier.explain")
    if columns < 1:
        raise InputError(f"columns must be at least 1, got columns={columns}")
    label = pl.when(pl.col("value").is_null()).then("column").otherwise(pl.col("column") + " = " + pl.col("value"))
    bars = explanation.select(label.alias("column"), "contribution", "se")
    shown, others = bars[: 2 + columns], bars[2 + columns :]
    if others.height:
        total = pl.DataFrame(
            {
                "column": [f"{others.height} other columns"],
                "contribution": [others["contribution"].sum()],
                "se": [float(np.linalg.norm(others["se"].to_numpy()))],
            }
        )
        shown = pl.concat([shown, total])
    return shown


def _mark_probabilities(axes: object) -> None:
    """Mark probabilities on an upper axis, as many as have room."""
    low, high = axes.get_xlim()  # type: ignore[attr-defined]
    upper = axes.secondary_xaxis("top")  # type: ignore[attr-defined]
    marks = [(p, float(np.log(p / (1 - p)))) for p in _PROBABILITIES]
    spacing = (high - low) / 6
    chosen: list[tuple[float, float]] = []
    for p, at in marks:
        if low < at < high and (not chosen or at - chosen[-1][1] > spacing):
            chosen.append((p, at))
    upper.set_xticks([at for _, at in chosen], [f"{p:.1%}" if p < 0.01 else f"{p:.0%}" for p, _ in chosen], fontsize=8.5)
    upper.tick_params(length=3)


def _shorten(text: str) -> str:
    shown = text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"
    return shown.replace("$", r"\$")
