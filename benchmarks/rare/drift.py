"""A simulated drift on a real cohort: a fixed threshold beside the controller, for a target alert rate and a target recall.

    .venv/bin/python -m benchmarks.rare.drift [--data DIR] [--runs 20]

Diabetes among the respondents of BRFSS 2015: gradient boosting is fitted on 10,000; the others come in 120 weeks of 400, drawn so that the
event rate stays at 14 %, rises to 30 %, stays, and falls to 8 % overnight; from then on milder cases come (drawn by the fourth power of
1 - risk), which a drift of the prevalence alone would not bring. Writes its part of docs/benchmarks/rare-outcomes.md and its picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

import nearward as nw
from benchmarks.common.markdown import markdown_rows, replace_part
from benchmarks.common.paths import DATA, PICTURES
from benchmarks.common.plots import save_svg
from benchmarks.rare.training_set import Rows
from nearward.datasets import read_cohort
from nearward.tabular.ensemble.cross_fitting import EncodedClassifier
from nearward.tabular.typing import Floats

_TRAIN, _PAST, _WEEKS, _ROWS, _DELAY = 10_000, 4_000, 120, 400, 4
_RATES = np.concatenate([np.full(30, 0.14), np.linspace(0.14, 0.30, 25), np.full(30, 0.30), np.full(35, 0.08)])
_TARGET_RATE, _TARGET_RECALL = 0.05, 0.5
_MILDER = 85  # the week
_PERIODS = {"as at first": (10, 30), "risen": (60, 85), "fallen, milder cases": (100, 120)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    cohort = read_cohort(args.data / "brfss2015_diabetes.parquet")
    rows = np.random.default_rng(0).permutation(len(cohort.outcome))
    learned, past, future = np.split(rows, [_TRAIN, _TRAIN + _PAST])
    model = EncodedClassifier(HistGradientBoostingClassifier(random_state=0)).fit(cohort.features[learned], cohort.outcome[learned])
    risk = model.predict_proba(cohort.features)[:, 1]
    runs = [simulate(risk, cohort.outcome, past, future, seed) for seed in range(args.runs)]
    body = table(runs)
    print(body)
    replace_part("rare-drift", f"![Alert rate and recall while the prevalence drifts](../pictures/rare-drift.svg)\n\n{body}")
    plot(runs[0], PICTURES / "rare-drift.svg")


def simulate(risk: Floats, outcome: Rows, past: Rows, future: Rows, seed: int) -> dict[str, pl.DataFrame]:
    """Simulate the weeks once: a fixed threshold and a controller for either target."""
    rng = np.random.default_rng([7, seed])
    pools = [future[outcome[future] == k] for k in (0, 1)]
    mild = (1 - risk[pools[1]]) ** 4
    weeks = []
    for week, rate in enumerate(_RATES):
        events = rng.binomial(_ROWS, rate)
        chance = mild / mild.sum() if week >= _MILDER else None
        ill = rng.choice(pools[1], events, replace=False, p=chance)
        chosen = np.concatenate([rng.choice(pools[0], _ROWS - events, replace=False), ill])
        weeks.append(pl.DataFrame({"week": week, "risk": risk[chosen], "event": outcome[chosen]}))
    frame = pl.concat(weeks)
    by_rate = nw.ThresholdController(target_alert_rate=_TARGET_RATE).start(risk[past])
    by_recall = nw.ThresholdController(target_recall=_TARGET_RECALL, delay=_DELAY).start(risk[past], outcome[past])
    results = {"alert rate": _fixed(frame, by_rate.threshold), "recall": _fixed(frame, by_recall.threshold)}
    results["alert rate, controlled"] = by_rate.run(frame, "risk", "week", "event")
    results["recall, controlled"] = by_recall.run(frame, "risk", "week", "event")
    return results


def _fixed(frame: pl.DataFrame, threshold: float) -> pl.DataFrame:
    alert, event = pl.col("risk") >= threshold, pl.col("event") == 1
    return frame.group_by("week", maintain_order=True).agg(
        alert.mean().alias("alert_rate"), (alert & event).sum().truediv(event.sum()).alias("recall")
    )


def table(runs: list[dict[str, pl.DataFrame]]) -> str:
    """Return the mean over the runs of each target, period by period, with the range of 95 % of the runs."""
    rows = []
    for what, column, target in (("alert rate", "alert_rate", _TARGET_RATE), ("recall", "recall", _TARGET_RECALL)):
        for name in (what, f"{what}, controlled"):
            cells = []
            for begin, end in _PERIODS.values():
                values = [float(run[name][column][begin:end].mean()) for run in runs]
                low, high = np.quantile(values, [0.025, 0.975])
                cells.append(f"{np.mean(values):.3f} ({low:.3f} to {high:.3f})")
            rows.append((f"{what} {target:g}", "controller" if "controlled" in name else "fixed threshold", *cells))
    return markdown_rows(["target", "", *_PERIODS], rows)


def plot(run: dict[str, pl.DataFrame], path: Path) -> None:
    """Plot one run: the event rate above, and each target with and without the controller."""
    shown, axes = plt.subplots(3, 1, figsize=(7, 5.4), sharex=True, layout="constrained", height_ratios=[1, 2, 2])
    axes[0].plot(_RATES, color="#1c2733")
    axes[0].set(ylabel="event rate", ylim=(0, 0.35))
    for axis, what, column, target in ((axes[1], "alert rate", "alert_rate", _TARGET_RATE), (axes[2], "recall", "recall", _TARGET_RECALL)):
        axis.plot(run[what][column], color="#9aa5b1", linewidth=1, label="fixed threshold")
        axis.plot(run[f"{what}, controlled"][column], color="#1f5fa8", linewidth=1.3, label="controller")
        axis.axhline(target, color="black", linewidth=0.8, linestyle="dashed")
        axis.set(ylabel=what, ylim=(0, None))
    axes[1].legend(frameon=False, fontsize=8)
    axes[2].set_xlabel("week")
    save_svg(shown, path)


if __name__ == "__main__":
    main()
