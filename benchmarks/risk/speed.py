"""Time and memory: fitting 10,000 x 30 and all of diabetes130, scoring against 50,000 stored rows. Each in a process of its own.

.venv/bin/python -m benchmarks.risk.speed [--data DIR]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

import nearward as nw
from benchmarks.common.markdown import markdown_rows
from benchmarks.common.paths import DATA, run_module
from nearward.datasets import Cohort, read_cohort
from nearward.tabular.operating_system import peak_memory

_CASES = {  # name -> table, rows to fit on (None: all), rows to score
    "fit 10,000 x 30 (columns and rows of diabetes130)": ("diabetes130", 10_000, 0),
    "fit all of diabetes130": ("diabetes130", None, 0),
    "score, 50,000 stored rows of brfss2015_diabetes": ("brfss2015_diabetes", 50_000, 50_000),
    "score, 50,000 stored rows of diabetes130": ("diabetes130", 50_000, 50_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--case", help="run one case in this process")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(_measure(args.case, args.data)))
        return
    names = ("case", "rows x features", "fit, s", "peak memory, GB", "scored rows/s", "one row alone, ms")
    print(markdown_rows(names, ()))
    for case in _CASES:
        process = run_module("benchmarks.risk.speed", "--data", args.data, "--case", case)
        row = json.loads(process.stdout.splitlines()[-1])
        print(f"| {case} | {row['size']} | {row['fit']:.0f} | {row['peak']:.1f} | {row['rate']} | {row['alone']} |", flush=True)


def _measure(case: str, folder: Path) -> dict[str, object]:
    warnings.simplefilter("ignore")
    name, rows, queries = _CASES[case]
    cohort = read_cohort(folder / f"{name}.parquet")
    order = np.random.default_rng(0).permutation(len(cohort.outcome))
    stored = order[:rows]
    features = cohort.features
    if "x 30" in case:
        features = features[:, -30:]
    began = time.monotonic()
    model = nw.RiskClassifier(random_state=0).fit(features[stored], cohort.outcome[stored], groups=_groups(cohort, stored))
    fit = time.monotonic() - began
    rate, alone = "", ""
    if queries:
        new = features[order[-queries:]]
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
    return None if cohort.groups is None else cohort.groups[rows]


if __name__ == "__main__":
    main()
