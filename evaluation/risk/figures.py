"""Figures of a risk report, made by matplotlib without pyplot: small, so that they can be read on a phone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from nearward.evaluation.html_page import COLOURS, GREY, GRID, INK, ResponsiveFigure
from nearward.evaluation.risk.metrics import METRIC_BY_KEY, USEFULNESS
from nearward.evaluation.risk.results import Curves, SiteResults, Subgroup
from nearward.evaluation.stats.confidence import Estimate, Result, defined
from nearward.evaluation.stats.random_effects import PooledEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (4.4, 3.7)  # inches
_LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1)))
_FOREST_ROW_HEIGHT = 0.3  # inches
_PERIODS_NAMED = 12  # on the axis of time
_FOREST_WIDTH = 9.2
_NARROW = 2.5  # highest over lowest value of a logarithmic axis
# metric of a panel -> the value that means no miscalibration, or no benefit
SUBGROUP_PANELS = {"auroc": None, "observed_expected": 1.0, "calibration_slope": 1.0}
_SITE_PANELS = {"auroc": None, "observed_expected": 1.0, "calibration_slope": 1.0, USEFULNESS.key: 0.0}


def roc(curves: Mapping[str, Curves]) -> Figure:
    """Recall over false positive rate."""
    figure, axes = _new_axes("False positive rate", "Recall")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="uninformative")
    _plot_bands(axes, {name: one.roc for name, one in curves.items()})
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return with_legend(figure, axes)


def precision_recall(curves: Mapping[str, Curves], rate: float) -> Figure:
    """Precision over recall, with the event rate."""
    figure, axes = _new_axes("Recall", "Precision (share of alerts that are right)")
    axes.axhline(rate, color=GREY, linestyle=":", linewidth=1, label=f"event rate {rate:.3f}")
    _plot_bands(axes, {name: one.precision_recall for name, one in curves.items()})
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return with_legend(figure, axes)


def decision(curves: Mapping[str, Curves], threshold: float) -> Figure:
    """Net benefit over the threshold, beside alerting all and alerting none."""
    figure, axes = _new_axes("Threshold (risk from which on one acts)", "Net benefit")
    first = next(iter(curves.values())).decision
    axes.plot(first["threshold"].to_numpy(), first["all"].to_numpy(), color=GREY, linestyle="--", linewidth=1.2, label="alert all")
    axes.axhline(0, color=INK, linewidth=0.8, label="alert none")
    _plot_bands(axes, {name: one.decision for name, one in curves.items()})
    axes.axvline(threshold, color=GREY, linestyle=":", linewidth=1)
    tops = [float(np.nanmax(one.decision["high"].to_numpy())) for one in curves.values()]
    top = max(*tops, float(first["all"].to_numpy().max()), 1e-4)
    axes.set(xlim=(0, float(first["threshold"].to_numpy()[-1])), ylim=(-0.3 * top, 1.1 * top))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return with_legend(figure, axes)


def calibration(curves: Mapping[str, Curves]) -> Figure:
    """Event rate over risk, with a histogram of the rows below."""
    figure = Figure(figsize=(_SIZE[0], 4.5), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    style_axes(axes, "", "Event rate")
    style_axes(below, "Risk", "Rows")
    frames = {name: one.calibration for name, one in curves.items() if isinstance(one.calibration, pl.DataFrame)}
    ends = [float(value) for frame in frames.values() for value in (frame["risk"][-1], min(frame["high"][-1], 2 * frame["risk"][-1]))]
    top = min(1.0, 1.05 * max([*ends, *(float(one.histogram["to"][-1]) for one in curves.values())]))
    axes.plot([0, top], [0, top], color=GREY, linestyle=":", linewidth=1, label="perfect calibration")
    _plot_bands(axes, frames)
    axes.set(xlim=(0, top), ylim=(0, top))
    _plot_histograms(below, [one.histogram for one in curves.values()])
    return with_legend(figure, axes)


def forest(subgroups: Sequence[Subgroup], overall: Mapping[str, Result]) -> ResponsiveFigure:
    """Forest plots: each subgroup that is not suppressed with its interval, and all rows as a grey line and band.

    Parameters
    ----------
    subgroups : sequence of Subgroup, at least one with results
    overall : metrics of all rows
    """
    shown = [subgroup for subgroup in subgroups if subgroup.results]

    def plot(axes: Axes, key: str, ideal: float | None) -> None:
        if ideal is not None:
            axes.axvline(ideal, color=INK, linewidth=1, linestyle=":")
        if (whole := defined(overall.get(key))) is not None:
            axes.axvspan(whole.low, whole.high, color=GREY, alpha=0.15, linewidth=0)
            axes.axvline(whole.value, color=GREY, linewidth=1, linestyle="--")
        for row, subgroup in enumerate(shown):
            if (estimate := defined(subgroup.results.get(key))) is not None:
                _plot_estimate(axes, row, estimate, COLOURS[0], "s")

    return _forest_panels(SUBGROUP_PANELS, [subgroup.label for subgroup in shown], plot)


def over_time(periods: Sequence[Subgroup], key: str, title: str, overall: Estimate | None) -> Figure:
    """One metric over the periods of the calendar; those that are suppressed have no mark, and all rows together are a dashed line."""
    figure, axes = _new_axes("", title)
    if overall is not None:
        axes.axhspan(overall.low, overall.high, color=GREY, alpha=0.15, linewidth=0)
        axes.axhline(overall.value, color=GREY, linewidth=1, linestyle="--")
    estimates = [(index, estimate) for index, one in enumerate(periods) if (estimate := defined(one.results.get(key))) is not None]
    axes.plot([index for index, _ in estimates], [estimate.value for _, estimate in estimates], color=COLOURS[0], marker="s", markersize=5)
    axes.vlines([index for index, _ in estimates], *zip(*((e.low, e.high) for _, e in estimates), strict=True), color=COLOURS[0])
    step = 1 + (len(periods) - 1) // _PERIODS_NAMED
    axes.set_xticks(range(0, len(periods), step), [one.level for one in periods[::step]], rotation=45, ha="right")
    axes.set_xlim(-0.5, len(periods) - 0.5)
    return figure


def forest_of_sites(results: SiteResults) -> ResponsiveFigure:
    """Forest plots: each site with its interval; below, the mean over sites and the prediction interval of a next site.

    Parameters
    ----------
    results : SiteResults
        Sites without results have no row.
    """
    sites = results.estimable
    labels = [*(site.level for site in sites), *(("mean over sites", "next site") if results.pooled else ())]

    def plot(axes: Axes, key: str, no_effect: float | None) -> None:
        if no_effect is not None:
            axes.axvline(no_effect, color=GREY, linewidth=1, linestyle="--")
        for row, site in enumerate(sites):
            if (estimate := defined(site.results[key])) is not None:
                _plot_estimate(axes, row, estimate, COLOURS[0], "s")
        if isinstance(pooled := results.pooled.get(key), PooledEstimate):
            _plot_estimate(axes, len(sites), pooled.mean, INK, "D")
            axes.plot([pooled.next_site.low, pooled.next_site.high], [len(sites) + 1] * 2, color=COLOURS[1], linewidth=4)

    return _forest_panels(_SITE_PANELS, labels, plot)


def _forest_panels(
    references: Mapping[str, float | None], labels: Sequence[str], plot: Callable[[Axes, str, float | None], None]
) -> ResponsiveFigure:
    """Draw a panel for each metric, with a row for each label: side by side, and one below the other for a phone.

    Parameters
    ----------
    references : metric -> the value that ``plot`` marks
    labels : names of the rows
    plot : draws the rows of a metric into its axes
    """
    height = _FOREST_ROW_HEIGHT * max(len(labels), 1)
    wide = Figure(figsize=(_FOREST_WIDTH, 1.2 + height), layout="constrained")
    narrow = Figure(figsize=(_SIZE[0], len(references) * (0.75 + height)), layout="constrained")
    layouts = ((wide, wide.subplots(1, len(references), sharey=True)), (narrow, narrow.subplots(len(references), 1)))
    for figure, panels in layouts:
        for position, (axes, (key, reference)) in enumerate(zip(panels, references.items(), strict=True)):
            _style_forest(
                axes, METRIC_BY_KEY[key].title.replace(" over ", "\nover " if figure is wide else " over "), METRIC_BY_KEY[key].scale
            )
            if figure is narrow or position == 0:
                axes.set_yticks(range(len(labels)), [_shorten(label) for label in labels])
            axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
            plot(axes, key, reference)
    return ResponsiveFigure(wide, narrow)


def _style_forest(axes: Axes, title: str, scale: str) -> None:
    """Label a panel; positive metrics have a logarithmic axis."""
    style_axes(axes, title, "")
    if scale == "positive":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(_RatioLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False, axis="y")


class _RatioLocator(LogLocator):
    """Ticks of a logarithmic axis: tenths and the like where it spans so little that it would have one tick."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        return list(MaxNLocator(4).tick_values(vmin, vmax) if vmax < _NARROW * vmin else super().tick_values(vmin, vmax))


def _plot_estimate(axes: Axes, row: int, estimate: Estimate, colour: str, marker: str) -> None:
    axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot([estimate.value], [row], marker=marker, markersize=5, color=colour)


def _new_axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    style_axes(axes, x, y)
    return figure, axes


def style_axes(axes: Axes, x: str, y: str) -> None:
    """Label the axes, and draw them as all figures have them."""
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=3)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def _plot_bands(axes: Axes, frames: Mapping[str, pl.DataFrame]) -> None:
    """Plot each curve with its band; line styles distinguish them without colour."""
    single = len(frames) == 1
    for (name, frame), colour, line in zip(frames.items(), COLOURS, _LINE_STYLES, strict=False):
        x, y, low, high = (frame.to_series(column).to_numpy() for column in range(4))
        axes.fill_between(x, low, high, color=colour, alpha=0.2 if single else 0.13, linewidth=0)
        axes.plot(x, y, color=colour, linewidth=1.8, linestyle=line, label=_shorten(name))


def with_legend(figure: Figure, axes: Axes) -> Figure:
    """Put the legend below the axes, where it covers no curve."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False, labelcolor=INK)
    return figure


def _plot_histograms(axes: Axes, histograms: Sequence[pl.DataFrame]) -> None:
    """Plot rows by risk on a logarithmic axis: bars for one risk, steps for several."""
    for histogram, colour, line in zip(histograms, COLOURS, _LINE_STYLES, strict=False):
        if len(histograms) == 1:
            bars = histogram.drop_nulls()
            start, width = bars["from"].to_numpy(), (bars["to"] - bars["from"]).to_numpy()
            axes.bar(start, bars["rows"].to_numpy(), width, align="edge", color=colour, alpha=0.6)
        else:
            edges = np.append(histogram["from"].to_numpy(), histogram["to"][-1])
            axes.stairs(histogram["rows"].fill_null(0).to_numpy(), edges, color=colour, linestyle=line)
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(bottom=0)
    _log_ticks(axes, max(int(histogram["rows"].fill_null(0).to_numpy().max()) for histogram in histograms))


def _log_ticks(axes: Axes, most: int) -> None:
    """Mark powers of ten, three at most: more would overlap."""
    top = int(np.floor(np.log10(max(most, 10))))
    powers = sorted({1, (1 + top) // 2 if top > 2 else top, top})
    axes.set_yticks([10**power for power in powers], [f"{10**power:,}".replace(",", "\u202f") for power in powers])
    axes.minorticks_off()


def _shorten(name: str, limit: int = 24) -> str:
    """Truncate a name; a dollar sign would begin a formula, an underscore at the start would hide it from the legend."""
    text = name if len(name) <= limit else name[: limit - 1] + "…"
    return text.replace("$", r"\$").replace("_", "\u02cd", 1) if text.startswith("_") else text.replace("$", r"\$")
