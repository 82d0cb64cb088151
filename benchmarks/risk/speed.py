"""Time and memory: fitting 10,000 x 30 and all of diabetes130, scoring against 50,000 stored rows. Each in a process of its own.

.venv/bin/python -m benchmarks.risk.speed [--data DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import nearward as nw
from benchmarks.common.cohorts import DATA
from nearward.batch.memory import peak_memory
from nearward.datasets import Cohort, read_cohort

_CASES = {  # name -> table, rows to fit on (None: all), rows to score
    "fit 10,000 x 30 (columns and rows of diabetes130)": ("diabetes130", 10_000, 0),
    "fit all of diabetes130": ("diabetes130", None, 0),
    "score, 50,000 stored rows of brfss2015_diabetes": ("brfss2015_diabetes", 50_000, 50_000),
    "score, 50,000 stored rows of diabetes130": ("diabetes130", 50_000, 50_000),
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--case", help="run one case in this process")
    told = asked.parse_args()
    if told.case:
        print(json.dumps(_measure(told.case, told.data)))
        return
    print(
        "| case | rows x features | fit, s | peak memory, GB | scored rows/s | one row alone, ms |\n| --- | --- | --- | --- | --- | --- |"
    )
    for case in _CASES:
        done = subprocess.run(
            [sys.executable, __file__, "--data", str(told.data), "--case", case],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {case} | {found['size']} | {found['fit']:.0f} | {found['peak']:.1f} | {found['rate']} | {found['alone']} |", flush=True)


def _measure(case: str, folder: Path) -> dict[str, object]:
    warnings.simplefilter("ignore")
    name, rows, asked = _CASES[case]
    cohort = read_cohort(folder / f"{name}.parquet")
    order = np.random.default_rng(0).permutation(len(cohort.outcome))
    stored = order[:rows]
    features = cohort.features
    if "x 30" in case:
        features = features[:, -30:]
    began = time.monotonic()
    model = nw.RiskClassifier(seed=0).fit(features[stored], cohort.outcome[stored], groups=_groups(cohort, stored))
    fit = time.monotonic() - began
    rate, alone = "", ""
    if asked:
        new = features[order[-asked:]]
        model.predict_frame(new[:100])
        began = time.monotonic()
        model.predict_frame(new)
        rate = f"{new.height / (time.monotonic() - began):.0f}"
        began = time.monotonic()
        for i in range(20):
            model.predict_frame(new[i : i + 1])
        alone = f"{(time.monotonic() - began) / 20 * 1000:.0f}"
    peak = peak_memory() / 1e9
    return {"size": f"{len(stored)} x {features.width}", "fit": fit, "peak": peak, "rate": rate, "alone": alone}


def _groups(cohort: Cohort, rows: np.ndarray) -> np.ndarray | None:
    return None if cohort.group is None else cohort.group[rows]


if __name__ == "__main__":
    main()
