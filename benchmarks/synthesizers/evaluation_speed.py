"""How long verdicts take: evaluate_risk with 1,000 patient-level resamples on 100,000 rows, and the FAITH-style card.

Each case runs in a process of its own:

    taskset -c 0,1 .venv/bin/python -m benchmarks.synthesizers.evaluation_speed [--only risk|card] [--case NAME] [--sdmetrics PYTHON] [--publish]

SDMetrics needs pandas<3: --sdmetrics names a Python that has both; its case is marked as not run where that one has not.
--publish writes the tables between their marks in docs/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

import nearward as nw
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.synthesizers.card_timing import CASES as CARD_CASES
from benchmarks.synthesizers.card_timing import measure_card
from nearward.batch.memory import peak_memory

ROWS, RESAMPLES = 100_000, 1_000
_RISK_CASES = {  # name -> middle of the log-odds, rows a patient, subgroups
    "1 % events, every row a patient": (-5.3, 1, []),
    "20 % events, every row a patient": (-1.75, 1, []),
    "5 % events, 2 rows a patient": (-3.55, 2, []),
    "5 % events, 2 rows a patient, by sex and five age bands": (-3.55, 2, ["sex", "age_band"]),
}
_BY_HAND = 10  # resamples of the plain loop, enough to know what one takes


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--only", choices=("risk", "card"), help="one of the two tables")
    asked.add_argument("--case", help="run one case in this process and print it as JSON")
    asked.add_argument("--sdmetrics", default=sys.executable, help="a Python that has sdmetrics and pandas<3")
    asked.add_argument("--publish", action="store_true", help="write the tables into docs/benchmarks")
    told = asked.parse_args()
    if told.case:
        print(json.dumps(measure_card(told.case, told.sdmetrics) if told.case in CARD_CASES else measure_risk(told.case)))
        return
    for name, cases in {"risk": _RISK_CASES, "card": CARD_CASES}.items():
        if told.only in (None, name):
            table = pl.DataFrame([in_own_process(case, told.sdmetrics) for case in cases])
            print(markdown(table), flush=True)
            if told.publish:
                replace_part(f"evaluation {name}", markdown(table))


def measure_risk(case: str) -> dict[str, object]:
    middle, visits, subgroups = _RISK_CASES[case]
    frame = clinic(middle, visits)
    begun = time.perf_counter()
    report = nw.evaluate_risk(frame, "died", "risk", "patient" if visits > 1 else None, subgroups, resamples=RESAMPLES)
    seconds = time.perf_counter() - begun
    y, risk = frame["died"].to_numpy(), frame["risk"].to_numpy()
    draw, begun = np.random.default_rng(0), time.perf_counter()
    for _ in range(_BY_HAND):
        rows = draw.integers(0, ROWS, ROWS)
        for metric in (average_precision_score, roc_auc_score, brier_score_loss):
            metric(y[rows], risk[rows])
    loop = (time.perf_counter() - begun) / _BY_HAND * RESAMPLES
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
    """Made-up rows with a risk that is somewhat too extreme."""
    draw = np.random.default_rng(0)
    logit = draw.normal(middle, 1.2, ROWS)
    return pl.DataFrame(
        {
            "died": draw.random(ROWS) < 1 / (1 + np.exp(-logit)),
            "risk": 1 / (1 + np.exp(-(0.2 + 1.2 * logit))),
            "patient": np.arange(ROWS) // visits,
            "sex": draw.choice(["F", "M"], ROWS).tolist(),
            "age_band": draw.choice(["18-39", "40-59", "60-69", "70-79", "80+"], ROWS).tolist(),
        }
    )


def in_own_process(case: str, sdmetrics: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--case", case, "--sdmetrics", sdmetrics]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
