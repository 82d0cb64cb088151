"""The figure of block dropout: the loss of a missing block, and the gain of training for it."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

from benchmarks.common.plots import save_svg

_VARIANTS = (
    ("0", "without block dropout", "#9aa5b1", "o"),
    ("0.3", "block dropout .3", "#1f5fa8", "s"),
    ("own", "trained without the block", "#c2410c", "x"),
)


def plot(table: pl.DataFrame, path: Path) -> None:
    """Plot a row per cohort and missing block: the head's AUPRC by each encoder; the line is the gain's 95 % interval."""
    rows = table.filter(pl.col("by") == "head").rows(named=True)
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.3 * len(rows)), layout="constrained")
    for at, row in enumerate(rows):
        base = float(row["0"])
        for variant, label, colour, mark in _VARIANTS:
            if not row[variant]:
                continue
            ends = [0.0] if variant == "0" else [float(part) for part in re.findall(r"[+-]?\d*\.\d+", row[variant])]  # gain, low, high
            if variant == "0.3":
                axes.plot([base + ends[1], base + ends[2]], [at, at], color=colour, linewidth=1.5)
            axes.plot([base + ends[0]], [at], mark, color=colour, markersize=6, label=label if at == 1 else None)
    axes.set_yticks(range(len(rows)), [f"{row['cohort'].split('_')[0]}: {row['missing']} missing" for row in rows])
    axes.set(xlabel="AUPRC of the encoder's head", ylim=(len(rows) - 0.5, -0.5), xlim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    save_svg(figure, path)
