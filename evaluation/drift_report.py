"""The page of successive scoring runs: novel rows, drift of columns, and calibration once outcomes are known, in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from nearward.evaluation.calibration_drift import CalibrationDrift
from nearward.evaluation.html_page import BLUE, GREY, ResponsiveFigure, render
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.stats.confidence import Estimate, defined, estimate_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS = {
    "observed_expected": "observed / expected",
    "calibration_in_the_large": "calibration in the large",
    "calibration_slope": "calibration slope",
    "auroc": "AUROC",
}
_WIDEST, _NARROW, _CHARACTER = 9.2, 4.4, 0.09  # inches: of the figure, and of a character with its share of a gap


@dataclass(frozen=True)
class RunFigures:
    """What one scoring run shows.

    Parameters
    ----------
    name : str
    rows : int, scored
    novel : Estimate or None, share of novel rows
    moved : tuple of str or None
        Columns that moved; None where the model has no training bins.
    calibration : CalibrationDrift or None, where outcomes are known
    """

    name: str
    rows: int
    novel: Estimate | None
    moved: tuple[str, ...] | None
    calibration: CalibrationDrift | None


def drift_page(
    runs: Sequence[RunFigures],
    expected_novel: float,
    alarms: Sequence[str],
    note: str | None,
    proposal: str | None,
    provenance: Provenance | None = None,
) -> str:
    """Return the page.

    Parameters
    ----------
    runs : in order of time
    expected_novel : float
        Share of novel rows without drift.
    alarms : what has drifted in the last run, in words
    note : what is wrong in the last run without being drift, or None
    proposal : step of an adaptation that would mend these, or None
    provenance : by default the time and the versions
    """
    return render(
        "drift.html.jinja",
        provenance,
        runs=runs,
        alarms=alarms,
        note=note,
        proposal=proposal,
        summary=runs_frame(runs),
        figure_of_runs=_responsive_figure(runs, expected_novel),
        expected_novel=expected_novel,
    )


def runs_frame(runs: Sequence[RunFigures]) -> pl.DataFrame:
    """Return one row a run: rows, novel share, columns that moved and, where outcomes are known, the calibration."""
    columns = [
        pl.Series("run", [run.name for run in runs], dtype=pl.String),
        pl.Series("rows", [run.rows for run in runs], dtype=pl.Int64),
        estimate_series("share of novel rows", [run.novel for run in runs]),
        pl.Series("columns that moved", [None if run.moved is None else len(run.moved) for run in runs], dtype=pl.Int64),
    ]
    if any(run.calibration for run in runs):
        known = [run.calibration for run in runs]
        columns.append(pl.Series("with an outcome", [one.rows if one else None for one in known], dtype=pl.Int64))
        for key, title in _METRICS.items():
            columns.append(estimate_series(title, [defined(one.metrics.get(key)) if one else None for one in known]))
    return pl.DataFrame(columns)


def _responsive_figure(runs: Sequence[RunFigures], expected_novel: float) -> Figure | ResponsiveFigure:
    width = min(0.75 * len(runs), _WIDEST)
    narrow = _figure(runs, expected_novel, _NARROW)
    return narrow if width <= _NARROW else ResponsiveFigure(_figure(runs, expected_novel, width), narrow)


def _figure(runs: Sequence[RunFigures], expected_novel: float, width: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from nearward.evaluation.risk.figures import style_axes

    known = any(run.calibration and run.calibration.metrics for run in runs)
    figure = Figure(figsize=(width, 6.0 if known else 4.2), layout="constrained")
    panels = list(figure.subplots(3 if known else 2, 1, sharex=True))
    if known:
        ratios = [defined(run.calibration.metrics.get("observed_expected")) if run.calibration else None for run in runs]
        _plot_over_runs(panels[0], ratios, 1.0)
        style_axes(panels[0], "", "Observed events\nper expected event")
    _plot_over_runs(panels[-2], [run.novel for run in runs], expected_novel)
    style_axes(panels[-2], "", "Share of\nnovel patients")
    panels[-2].set_ylim(bottom=0)
    moved = [len(run.moved or ()) for run in runs]
    panels[-1].bar(range(len(runs)), moved, color=BLUE, width=0.2)
    panels[-1].set_ylim(0, 1.05 * max(1, *moved))
    panels[-1].yaxis.set_major_locator(MaxNLocator(4, integer=True))
    style_axes(panels[-1], "", "Columns\nthat moved")
    step = 1 + (len(runs) - 1) // max(int(1.3 * width), 1)
    names = [run.name if len(run.name) <= 16 else run.name[:15] + "…" for run in runs]
    shown = [name.replace("$", r"\$") for name in names[::step]]
    crowded = _CHARACTER * len(shown) * max(map(len, shown)) > width - 0.8
    panels[-1].set_xticks(range(0, len(runs), step), shown, rotation=30 * crowded, ha="right" if crowded else "center")
    return figure


def _plot_over_runs(axes: Axes, estimates: Sequence[Estimate | None], expected: float) -> None:
    axes.axhline(expected, color=GREY, linewidth=1, linestyle="--")
    for index, estimate in enumerate(estimates):
        if estimate is not None:
            axes.plot([index, index], [estimate.low, estimate.high], color=BLUE, linewidth=1.8)
            axes.plot([index], [estimate.value], marker="s", markersize=5, color=BLUE)
