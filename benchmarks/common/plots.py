"""Matplotlib figures of the benchmarks as SVG files that do not change from run to run."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

GREY, BLUE = "#9aa5b1", "#1f5fa8"  # the baseline, and the method under test


def save_svg(figure: Figure, path: Path) -> None:
    """Write a figure without its date and with fixed element ids, hide upper and right spines, and close it."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "nearward"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
