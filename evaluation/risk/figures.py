"""The pictures of a risk report, as matplotlib figures without pyplot: small, so that they can be read on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nearward.evaluation.html_page import COLOURS, GREY, INK
from nearward.evaluation.risk.curves import Curves
from nearward.evaluation.stats.cluster_bootstrap import Undefined
from nearward.evaluation.stats.confidence import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nearward.evaluation.risk.subgroups import Part

_SIZE = (4.4, 3.5)  # inches
_LINES = ("-", "--", "-.", ":", (0, (5, 1)))
_FOREST_ROW = 0.3  # inches


def roc(curves: Mapping[str, Curves]) -> Figure:
    """Recall over false positive rate."""
    figure, axes = _blank("False positive rate", "Recall")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="knows nothing")
    _bands(axes, {name: one.roc for name, one in curves.items()})
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return _done(figure, axes, "lower right")


def precision_recall(curves: Mapping[str, Curves], rate: float) -> Figure:
    """Precision over recall, with the event rate."""
    figure, axes = _blank("Recall", "Precision (share of alerts that are right)")
    axes.axhline(rate, color=GREY, linestyle=":", linewidth=1, label=f"event rate {rate:.3f}")
    _bands(axes, {name: one.precision_recall for name, one in curves.items()})
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return _done(figure, axes, "upper right")


def decision(curves: Mapping[str, Curves], threshold: float) -> Figure:
    """Net benefit over the threshold, beside alerting all and nobody."""
    figure, axes = _blank("Threshold (risk from which on one acts)", "Net benefit")
    first = next(iter(curves.values())).decision
    axes.plot(first["threshold"].to_numpy(), first["all"].to_numpy(), color=GREY, linestyle="--", linewidth=1.2, label="alert all")
    axes.axhline(0, color=INK, linewidth=0.8, label="alert nobody")
    _bands(axes, {name: one.decision for name, one in curves.items()})
    axes.axvline(threshold, color=GREY, linestyle=":", linewidth=1)
    tops = [float(np.nanmax(one.decision["high"].to_numpy())) for one in curves.values()]
    top = max(*tops, float(first["all"].to_numpy().max()), 1e-4)
    axes.set(xlim=(0, float(first["threshold"].to_numpy()[-1])), ylim=(-0.3 * top, 1.1 * top))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return _done(figure, axes, "upper right")


def calibration(curves: Mapping[str, Curves]) -> Figure:
    """Event rate over risk, with the number of rows below."""
    figure = Figure(figsize=(_SIZE[0], 4.3), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    _plain(axes, "", "Event rate")
    _plain(below, "Risk", "Rows")
    drawn = {name: one.calibration for name, one in curves.items() if isinstance(one.calibration, pl.DataFrame)}
    ends = [float(value) for frame in drawn.values() for value in (frame["risk"][-1], min(frame["high"][-1], 2 * frame["risk"][-1]))]
    top = min(1.0, 1.05 * max([*ends, *(float(one.histogram["to"][-1]) for one in curves.values())]))
    axes.plot([0, top], [0, top], color=GREY, linestyle=":", linewidth=1, label="right")
    _bands(axes, drawn)
    axes.set(xlim=(0, top), ylim=(0, top))
    for (_, one), colour, line in zip(curves.items(), COLOURS, _LINES, strict=False):
        bars = one.histogram.drop_nulls()
        edges = np.append(one.histogram["from"].to_numpy(), one.histogram["to"][-1])
        rows = one.histogram["rows"].fill_null(0).to_numpy()
        if len(curves) == 1:
            below.bar(
                bars["from"].to_numpy(),
                bars["rows"].to_numpy(),
                (bars["to"] - bars["from"]).to_numpy(),
                align="edge",
                color=colour,
                alpha=0.6,
            )
        else:
            below.stairs(rows, edges, color=colour, linestyle=line)
    below.set_yscale("symlog", linthresh=10)
    below.set_ylim(bottom=0)
    below.yaxis.set_major_locator(MaxNLocator(3))
    _decades(below, max(int(one.histogram["rows"].fill_null(0).to_numpy().max()) for one in curves.values()))
    return _done(figure, axes, "upper left")


def forest(parts: Sequence[Part], key: str, title: str, whole: Estimate | None) -> Figure:
    """One metric in every part that may be shown, with the whole's as a line."""
    shown = [part for part in parts if isinstance(part.results.get(key), Estimate)]
    figure = Figure(figsize=(_SIZE[0], 1.0 + _FOREST_ROW * max(len(shown), 1)), layout="constrained")
    axes = figure.subplots()
    _plain(axes, title, "")
    if whole is not None:
        axes.axvspan(whole.low, whole.high, color=GREY, alpha=0.15, linewidth=0)
        axes.axvline(whole.value, color=GREY, linewidth=1, linestyle="--")
    for at, part in enumerate(shown):
        found = part.results[key]
        if isinstance(found, Undefined):
            continue
        axes.plot([found.low, found.high], [at, at], color=COLOURS[0], linewidth=1.8, solid_capstyle="butt")
        axes.plot([found.value], [at], marker="s", markersize=5, color=COLOURS[0])
    axes.set_yticks(range(len(shown)), [_short(f"{part.column}: {part.level}") for part in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    return figure


def _blank(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    _plain(axes, x, y)
    return figure, axes


def _plain(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=3)
    axes.grid(visible=True, color="#e6eaee", linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def _bands(axes: Axes, frames: Mapping[str, pl.DataFrame]) -> None:
    """Draw each curve with its band; line styles tell them apart without colour."""
    alone = len(frames) == 1
    for (name, frame), colour, line in zip(frames.items(), COLOURS, _LINES, strict=False):
        x, y, low, high = (frame.to_series(at).to_numpy() for at in range(4))
        axes.fill_between(x, low, high, color=colour, alpha=0.2 if alone else 0.13, linewidth=0)
        axes.plot(x, y, color=colour, linewidth=1.8, linestyle=line, label=_short(name))


def _done(figure: Figure, axes: Axes, where: Literal["lower right", "upper right", "upper left"]) -> Figure:
    axes.legend(loc=where, fontsize=8.5, frameon=True, framealpha=0.85, edgecolor="none", labelcolor=INK)
    return figure


def _decades(axes: Axes, most: int) -> None:
    """Mark powers of ten, three at most: more would run into each other."""
    top = int(np.floor(np.log10(max(most, 10))))
    powers = sorted({1, (1 + top) // 2 if top > 2 else top, top})
    axes.set_yticks([10**power for power in powers], [f"{10**power:,}".replace(",", "\u202f") for power in powers])
    axes.minorticks_off()


def _short(name: str, most: int = 24) -> str:
    """Cut a name for a picture; a dollar sign would begin a formula, an underscore at the start would hide it from the legend."""
    cut = name if len(name) <= most else name[: most - 1] + "…"
    return cut.replace("$", r"\$").replace("_", "\u02cd", 1) if cut.startswith("_") else cut.replace("$", r"\$")
