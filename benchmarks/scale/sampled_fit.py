"""``RiskClassifier`` on all rows of a table, and on a teaching sample of them with everybody indexed: are the risks alike?

    .venv/bin/python -m benchmarks.scale.sampled_fit [--data DIR] [--only NAME,NAME] [--seeds 10] [--share 0.33] [--publish]

Each seed draws 70 % of the patients to fit on; the others are scored, the same by both models. The limit of teaching rows is a share of
the training rows. ``effort`` is "fast". The figures of every seed are in benchmarks/results/sampled_fit.csv.

Intervals are those of the mean over seeds, of paired differences. The seeds share rows, so that their differences are correlated: the
variance is that of the corrected resampled t-test.

References
----------
Nadeau, Bengio: Inference for the generalization error (Machine Learning, 2003).
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
from benchmarks.common.markdown import markdown, replace_part, signed
from benchmarks.common.paths import DATA, RESULTS
from nearward.adaptation.stored_patients import check_calibration
from nearward.datasets import Cohort
from nearward.risk_model import effort
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.typing import Bools, Floats

TASKS = ("thyroid0387", "mammography", "brfss2015_diabetes@Stroke")
_METRICS = ("AUPRC", "in the large", "slope")
_MOST = 8_000  # rows of a task
_RESULTS = RESULTS / "sampled_fit.csv"
_TEST_FOLDS, _FOLDS = 3, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.33)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    figures: list[dict[str, object]] = []
    for cohort in cohorts(args.data):
        if cohort.name not in args.only.split(","):
            continue
        rows = min(len(cohort.outcome), _MOST)
        task = {"task": cohort.name, "rows": rows, "events": round(rows * float(cohort.outcome.mean()))}
        for seed in range(args.seeds):
            for learned_from in ("all", "sample"):
                judged = judge(cohort, seed, args.share, learned_from == "sample")
                figures.append({**task, "seed": seed, "learned from": learned_from, **dict(zip(_METRICS, judged, strict=True))})
                print(figures[-1], flush=True)
    table = pl.DataFrame(figures)
    if args.publish:
        table.write_csv(_RESULTS)
        replace_part("sampled fit", markdown(compare(table)))


def compare(figures: pl.DataFrame) -> pl.DataFrame:
    """Return each task's mean figures by models that learned from all rows, and how far those of the samples are from them."""
    compared = []
    for (name, rows, events), task in figures.group_by("task", "rows", "events", maintain_order=True):
        row: dict[str, object] = {"task": name, "rows": rows, "events": events}
        everything, sample = (task.filter(pl.col("learned from") == one).sort("seed") for one in ("all", "sample"))
        for metric in _METRICS:
            difference = (sample[metric] - everything[metric]).to_numpy()
            row[metric] = everything[metric].mean()
            row[f"{metric}, sample less all"] = signed(corrected_interval(difference))
        compared.append(row)
    return pl.DataFrame(compared)


def corrected_interval(difference: Floats) -> tuple[float, float, float]:
    """Return the mean of the seeds' differences (s,) and the ends of its 95 % interval.

    Examples
    --------
    >>> [round(value, 2) for value in corrected_interval(np.array([0.1, 0.2, 0.3]))]
    [0.2, -0.18, 0.58]
    """
    seeds, mean = len(difference), float(difference.mean())
    variance = difference.var(ddof=1) * (1 / seeds + _TEST_FOLDS / (_FOLDS - _TEST_FOLDS))
    half = float(stats.t.ppf(0.975, seeds - 1) * variance**0.5)
    return mean, mean - half, mean + half


def judge(cohort: Cohort, seed: int, share: float, sampled: bool) -> list[float]:
    """Return the AUPRC, calibration in the large and slope on the patients that were not fitted on."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cohort.outcome))[:_MOST])
    frame, outcome, patients = cohort.features[chosen], cohort.outcome[chosen], patients_of(cohort)[chosen]
    dense = np.unique(patients, return_inverse=True)[1]
    test: Bools = assign_folds(outcome, dense, _FOLDS, seed) < _TEST_FOLDS
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
