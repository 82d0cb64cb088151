"""The picture of block dropout: what a missing block costs, and what is won back."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

_WAYS = (
    ("0", "without block dropout", "#9aa5b1", "o"),
    ("0.3", "block dropout .3", "#1f5fa8", "s"),
    ("own", "trained without the block", "#c2410c", "x"),
)


def draw(table: pl.DataFrame, path: Path) -> None:
    """One row a cohort and missing block: the head's AUPRC by each encoder; the line is the gain's 95 % interval."""
    rows = table.filter(pl.col("by") == "head").rows(named=True)
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.3 * len(rows)), layout="constrained")
    for at, row in enumerate(rows):
        base = float(row["0"])
        for way, label, colour, mark in _WAYS:
            if not row[way]:
                continue
            ends = [0.0] if way == "0" else [float(part) for part in re.findall(r"[+-]?\d*\.\d+", row[way])]  # gain, low, high
            if way == "0.3":
                axes.plot([base + ends[1], base + ends[2]], [at, at], color=colour, linewidth=1.5)
            axes.plot([base + ends[0]], [at], mark, color=colour, markersize=6, label=label if at == 1 else None)
    axes.set_yticks(range(len(rows)), [f"{row['cohort'].split('_')[0]}: {row['missing']} missing" for row in rows])
    axes.set(xlabel="AUPRC of the encoder's head", ylim=(len(rows) - 0.5, -0.5), xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "nearward"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
