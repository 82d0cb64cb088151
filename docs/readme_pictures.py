"""Draws the two pictures of the README from the demo's model on the demo's rows (seed 0).

Usage: nearward demo && .venv/bin/python docs/readme_pictures.py nearward-demo/model
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import nearward as nw
from nearward.cli import demo
from nearward.tabular.typing import Floats

PICTURES = Path(__file__).parent / "pictures"
_EVENT, _NO_EVENT = "#b2182b", "#7b8a99"
_COLOURS = {"nearward": "#0b5fa5", "logistic regression": "#e08214", "LightGBM": "#5aae61"}


def similar_patients(model: nw.RiskClassifier, rows: demo.pl.DataFrame, scores: demo.pl.DataFrame) -> None:
    """Draw the risk of the patient with the highest one, and the similar patients that it rests on."""
    highest = int(scores["risk"].arg_max() or 0)
    patient = scores.row(highest, named=True)
    similar = model.similar(rows[highest : highest + 1], k=10)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=[1, 5], layout="constrained")
    left.bar([0], [patient["risk"]], color=_COLOURS["nearward"], width=0.5)
    left.errorbar([0], [(patient["low"] + patient["high"]) / 2], yerr=[(patient["high"] - patient["low"]) / 2], color="black", capsize=6)
    left.set(ylim=(0, 1.02), xlim=(-0.6, 0.6), xticks=[], ylabel="risk, with its band", title=f"{patient['risk']:.2f}")
    outcome = similar["outcome"].to_numpy()
    place = np.arange(similar.height)[::-1]
    right.barh(place, similar["weight"], color=[_EVENT if died else _NO_EVENT for died in outcome])
    for y, died, weight, text in zip(place, outcome, similar["weight"], similar["differs"], strict=True):
        shown = "; ".join(part for part in text.split("; ") if not part.startswith("diagnoses"))[:70]
        right.text(weight + 0.004, y, f"{'died' if died else 'survived'}   {shown}", va="center", fontsize=8)
    right.set(xlabel="weight in the vote", yticks=[], xlim=(0, 3 * similar["weight"].max()), title="similar patients, and how they differ")
    right.spines[["top", "right"]].set_visible(False)
    left.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURES / "readme-similar-patients.png", dpi=110)


def calibration_and_decisions(outcome: Floats, risks: dict[str, Floats]) -> None:
    """Draw observed shares by sixths of each risk, and the net benefit of treating at each threshold."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    thresholds = np.linspace(0.01, 0.4, 80)
    for name, risk in risks.items():
        parts = np.array_split(np.argsort(risk), 6)
        mean, observed = (np.array([values[part].mean() for part in parts]) for values in (risk, outcome))
        left.plot(mean, observed, "o-", color=_COLOURS[name], label=name, markersize=4)
        benefit = [((risk >= t) * (outcome - (1 - outcome) * t / (1 - t))).mean() for t in thresholds]
        right.plot(thresholds, benefit, color=_COLOURS[name], label=name)
    left.plot([1e-4, 1], [1e-4, 1], color="grey", linewidth=1)
    left.set(xscale="log", yscale="log", xlim=(5e-4, 1), ylim=(5e-4, 1))
    left.set(xlabel="mean risk of a sixth of the patients", ylabel="observed share")
    everybody = [(outcome - (1 - outcome) * t / (1 - t)).mean() for t in thresholds]
    right.plot(thresholds, everybody, color="grey", linewidth=1, label="everybody")
    right.set(ylim=(-0.005, 1.1 * outcome.mean()), xlabel="threshold", ylabel="net benefit", title="decision curve")
    right.axhline(0, color="grey", linewidth=1, linestyle=":")
    left.set_title("calibration")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(PICTURES / "readme-calibration.png", dpi=110)


def main(folder: str) -> None:
    """Draw both pictures."""
    cohort, _ = demo._ward(0)
    train, test = demo._split(cohort, 0, 2)
    rows, outcome = cohort.features[test], cohort.outcome[test].astype(float)
    model = nw.load(folder)
    scores = model.predict_frame(rows)
    similar_patients(model, rows, scores)
    usual = demo._usual_risks(cohort.features, train, test, cohort.outcome[train])
    calibration_and_decisions(outcome, {"nearward": scores["risk"].to_numpy(), **usual})


if __name__ == "__main__":
    main(sys.argv[1])
