"""Time of the evaluations: evaluate_risk with 1,000 patient-level resamples on 100,000 rows, and the FAITH-style card.

    taskset -c 0,1 .venv/bin/python -m benchmarks.synthesizers.evaluation_speed \
        [--only risk|card] [--case NAME] [--sdmetrics PYTHON] [--publish]

Each case runs in a process of its own. SDMetrics needs pandas<3: --sdmetrics names a Python that has both, else its case is reported as
not run. --publish writes the tables in docs/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

import nearward as nw
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import run_module
from benchmarks.synthesizers.card_timing import CASES as CARD_CASES
from benchmarks.synthesizers.card_timing import measure_card
from nearward.tabular.operating_system import peak_memory

ROWS, RESAMPLES = 100_000, 1_000
_RISK_CASES = {  # name -> middle of the log-odds, rows a patient, subgroups
    "1 % events, every row a patient": (-5.3, 1, []),
    "20 % events, every row a patient": (-1.75, 1, []),
    "5 % events, 2 rows a patient": (-3.55, 2, []),
    "5 % events, 2 rows a patient, by sex and five age bands": (-3.55, 2, ["sex", "age_band"]),
}
_LOOP_RESAMPLES = 10  # of the plain loop, extrapolated to all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("risk", "card"), help="one of the two tables")
    parser.add_argument("--case", help="run one case in this process and print it as JSON")
    parser.add_argument("--sdmetrics", default=sys.executable, help="a Python that has sdmetrics and pandas<3")
    parser.add_argument("--publish", action="store_true", help="write the tables into docs/benchmarks")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure_card(args.case, args.sdmetrics) if args.case in CARD_CASES else measure_risk(args.case)))
        return
    for name, cases in {"risk": _RISK_CASES, "card": CARD_CASES}.items():
        if args.only in (None, name):
            table = pl.DataFrame([in_own_process(case, args.sdmetrics) for case in cases])
            print(markdown(table), flush=True)
            if args.publish:
                replace_part(f"evaluation {name}", markdown(table))


def measure_risk(case: str) -> dict[str, object]:
    middle, visits, subgroups = _RISK_CASES[case]
    frame = clinic(middle, visits)
    begun = time.perf_counter()
    report = nw.evaluate_risk(frame, "died", "risk", "patient" if visits > 1 else None, subgroups, resamples=RESAMPLES)
    seconds = time.perf_counter() - begun
    y, risk = frame["died"].to_numpy(), frame["risk"].to_numpy()
    rng, begun = np.random.default_rng(0), time.perf_counter()
    for _ in range(_LOOP_RESAMPLES):
        rows = rng.integers(0, ROWS, ROWS)
        for metric in (average_precision_score, roc_auc_score, brier_score_loss):
            metric(y[rows], risk[rows])
    loop = (time.perf_counter() - begun) / _LOOP_RESAMPLES * RESAMPLES
    return {
        "case": case,
        "events": report.facts.events,
        "cores": len(os.sched_getaffinity(0)),
        "evaluate_risk, s": round(seconds, 1),
        "three of its metrics in a loop of scikit-learn, s (from 10 resamples)": round(loop, 1),
        "peak memory, GB": round(peak_memory() / 2**30, 2),
        "AUPRC": str(report["auprc"]),
        "AUROC": str(report["auroc"]),
    }


def clinic(middle: float, visits: int) -> pl.DataFrame:
    """Return simulated rows with a risk that is somewhat overconfident."""
    rng = np.random.default_rng(0)
    logit = rng.normal(middle, 1.2, ROWS)
    return pl.DataFrame(
        {
            "died": rng.random(ROWS) < 1 / (1 + np.exp(-logit)),
            "risk": 1 / (1 + np.exp(-(0.2 + 1.2 * logit))),
            "patient": np.arange(ROWS) // visits,
            "sex": rng.choice(["F", "M"], ROWS).tolist(),
            "age_band": rng.choice(["18-39", "40-59", "60-69", "70-79", "80+"], ROWS).tolist(),
        }
    )


def in_own_process(case: str, sdmetrics: str) -> dict[str, object]:
    process = run_module("benchmarks.synthesizers.evaluation_speed", "--case", case, "--sdmetrics", sdmetrics)
    row: dict[str, object] = json.loads(process.stdout.splitlines()[-1])
    return row


if __name__ == "__main__":
    main()
