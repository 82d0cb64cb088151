"""Report of the stress test: CSV file, curves, tables in docs/benchmarks."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import PICTURES, RESULTS
from benchmarks.common.plots import save_svg

COLOURS = {"random": "#b0b0b0", "raw kNN": "#c98b2b", "raw kNN, floor": "#e5c07b", "AWARE": "#1f5fa8"}
TITLES = {
    "ratio": "Other rows for each event",
    "rows": "Training rows, as they come",
    "noise": "Shuffled columns added, 3,000 training rows",
}


def publish(figures: pl.DataFrame, gains: pl.DataFrame) -> None:
    """Write the CSV file, the curves and the tables in docs/benchmarks; studies that were not run stay as they are."""
    studies = list(dict.fromkeys(gains["study"]))
    table = RESULTS / "context_stress.csv"
    others = pl.read_csv(table, schema=figures.schema).filter(~pl.col("study").is_in(studies)) if table.exists() else figures.clear()
    pl.concat([figures, others]).write_csv(table, float_precision=5)
    for study in studies:
        of_study = gains.filter(pl.col("study") == study).drop("study")
        plot(figures.filter(pl.col("study") == study), of_study, PICTURES / f"imbalance-{study}.svg", TITLES[study])
        replace_part(f"imbalance {study}", f"![AUPRC by context](../pictures/imbalance-{study}.svg)\n\n{markdown(of_study)}")


def plot(figures: pl.DataFrame, gains: pl.DataFrame, path: Path, title: str) -> None:
    """Plot a panel per task: AUPRC by level and context, seeds as dots, their mean as a line; the prevalence dotted."""
    tasks = list(dict.fromkeys(figures["task"]))
    shown, axes = plt.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 3.6), layout="constrained", squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        of_task = figures.filter(pl.col("task") == task)
        levels = sorted(set(of_task["level"]))
        for name, colour in COLOURS.items():
            part = of_task.filter(pl.col("context") == name)
            mean = part.group_by("level").agg(pl.col("auprc").mean()).sort("level")
            axis.plot([levels.index(v) for v in mean["level"]], mean["auprc"], color=colour, label=name, linewidth=2)
            axis.scatter([levels.index(v) for v in part["level"]], part["auprc"], color=colour, s=9, alpha=0.6)
        axis.axhline(gains.filter(pl.col("task") == task)["prevalence"].mean(), color="black", linewidth=0.8, linestyle=":")
        axis.set(title=task, xticks=range(len(levels)), xticklabels=[f"{level:,}" for level in levels], ylabel="AUPRC")
    axes[0][0].legend(frameon=False, fontsize=8)
    shown.supxlabel(title, fontsize=10)
    save_svg(shown, path)
