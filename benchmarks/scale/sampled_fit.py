"""``RiskClassifier`` on all rows of a table, and on a teaching sample of them with everybody indexed: are the risks alike?

    .venv/bin/python -m benchmarks.scale.sampled_fit [--data DIR] [--only NAME,NAME] [--seeds 10] [--share 0.33] [--publish]

Each seed draws 70 % of the patients to fit on; the others are scored. The limit of teaching rows is a share of the training rows.
``effort`` is "fast". Intervals: mean over seeds, t distribution, of paired differences.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.cohorts import cohorts, patients_of
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import DATA
from nearward.adaptation.stored_patients import check_calibration
from nearward.datasets import Cohort
from nearward.risk_model import effort
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.typing import Bools, Floats

TASKS = ("thyroid0387", "mammography", "brfss2015_diabetes@Stroke")
_METRICS = ("AUPRC", "in the large", "slope")
_MOST = 8_000  # rows of a task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.33)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for cohort in cohorts(args.data):
        if cohort.name in args.only.split(","):
            rows.append(compare(cohort, args.seeds, args.share))
            print(rows[-1], flush=True)
    if args.publish:
        replace_part("sampled fit", markdown(pl.DataFrame(rows)))


def compare(cohort: Cohort, seeds: int, share: float) -> dict[str, object]:
    """Return a task's mean figures both ways, and their differences with intervals."""
    figures = np.array([[judge(cohort, seed, share, sampled) for sampled in (False, True)] for seed in range(seeds)])  # (seeds, 2, metrics)
    rows = min(len(cohort.outcome), _MOST)
    row: dict[str, object] = {"task": cohort.name, "rows": rows, "events": round(rows * float(cohort.outcome.mean()))}
    for m, name in enumerate(_METRICS):
        everything, sample = figures[:, 0, m], figures[:, 1, m]
        half = stats.t.ppf(0.975, seeds - 1) * (sample - everything).std(ddof=1) / seeds**0.5
        mean = float((sample - everything).mean())
        row[name] = f"{everything.mean():.3f}"
        row[f"{name}, sample less all"] = f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"
    return row


def judge(cohort: Cohort, seed: int, share: float, sampled: bool) -> list[float]:
    """Return the AUPRC, calibration in the large and slope on the patients that were not fitted on."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cohort.outcome))[:_MOST])
    frame, outcome, patients = cohort.features[chosen], cohort.outcome[chosen], patients_of(cohort)[chosen]
    dense = np.unique(patients, return_inverse=True)[1]
    test: Bools = assign_folds(outcome, dense, 10, seed) < 3
    limit = int(share * (~test).sum()) if sampled else len(outcome)
    before = effort.EFFORTS["fast"]
    effort.EFFORTS["fast"] = replace(before, teaching_rows=limit)
    try:
        model = nw.RiskClassifier(random_state=seed, effort="fast")
        model.fit(frame.filter(~test), outcome[~test], groups=patients[~test])
    finally:
        effort.EFFORTS["fast"] = before
    risk: Floats = model.predict_proba(frame.filter(test))[:, 1]
    check = check_calibration(logit(risk, 1e-6), outcome[test].astype(float))
    assert check.intercept is not None
    assert check.slope is not None
    return [float(average_precision_score(outcome[test], risk)), check.intercept, check.slope]


if __name__ == "__main__":
    main()
