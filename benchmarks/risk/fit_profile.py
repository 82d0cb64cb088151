"""Where the time of a fit goes: processor seconds by stage at 400 x 8, 10,000 x 30 and 4,000 x 375, each in a process of its own.

    .venv/bin/python -m benchmarks.risk.fit_profile [--data DIR] [--publish]

The tables: 400 rows and 8 columns of brfss2015_diabetes; 10,000 rows and 30 columns of diabetes130; the ICU stays of 2012 as one wide
table. Processor seconds of all threads together, and the time that the fit took. --publish writes the table of docs/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

import nearward as nw
from benchmarks.common.icu import icu_cohort
from benchmarks.common.markdown import markdown_rows, replace_part
from benchmarks.common.paths import DATA, run_module
from nearward.datasets import Cohort, read_cohort
from nearward.tabular.operating_system import peak_memory

_CASES = {"400 x 8": "brfss2015_diabetes", "10,000 x 30": "diabetes130", "4,000 x 375": "icu2012"}
_FIRST = "schema, checks, closed-form base learners"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--case", choices=_CASES, help="run one case in this process")
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(_measure(args.case, args.data)))
        return
    profiles = {}
    for case in _CASES:
        process = run_module("benchmarks.risk.fit_profile", "--data", args.data, "--case", case)
        profiles[case] = json.loads(process.stdout.splitlines()[-1])
        print(case, profiles[case], flush=True)
    stages = list(dict.fromkeys(stage for profile in profiles.values() for stage in profile["seconds"]))
    rows: list[list[str]] = [[stage, *(_cell(profile["seconds"], stage) for profile in profiles.values())] for stage in stages]
    rows.append(["**all**", *(f"**{sum(profile['seconds'].values()):.1f}**" for profile in profiles.values())])
    rows.append(["time taken, s", *(f"{profile['taken']:.1f}" for profile in profiles.values())])
    rows.append(["peak memory, GB", *(f"{profile['peak']:.1f}" for profile in profiles.values())])
    table = markdown_rows(["stage, CPU s (share)", *_CASES], rows)
    print(table)
    if args.publish:
        replace_part("fit profile", table)


def _cell(seconds: dict[str, float], stage: str) -> str:
    own = seconds.get(stage, 0.0)
    return f"{own:.1f} ({own / sum(seconds.values()):.0%})"


def _measure(case: str, folder: Path) -> dict[str, object]:
    warnings.simplefilter("ignore")
    cohort = _table(case, folder)
    seconds: dict[str, float] = {}
    since, began = [time.process_time()], time.monotonic()

    def progress(words: str) -> None:
        if words.startswith("expected"):
            return
        stage = words.split(", fold", maxsplit=1)[0] if seconds else _FIRST
        now = time.process_time()
        seconds[stage] = seconds.get(stage, 0.0) + now - since[0]
        since[0] = now

    nw.RiskClassifier(random_state=0, verbose=progress).fit(cohort.features, cohort.outcome, groups=cohort.groups)
    progress("records")
    return {"seconds": seconds, "taken": time.monotonic() - began, "peak": peak_memory() / 1e9}


def _table(case: str, folder: Path) -> Cohort:
    name = _CASES[case]
    if name == "icu2012":
        return icu_cohort(folder.parent / "events" / name)
    cohort = read_cohort(folder / f"{name}.parquet")
    n, columns = (int(part.replace(",", "")) for part in case.split(" x "))
    rows = np.random.default_rng(0).permutation(len(cohort.outcome))[:n]
    groups = None if cohort.groups is None else cohort.groups[rows]
    return replace(cohort, features=cohort.features[rows][:, -columns:], outcome=cohort.outcome[rows], groups=groups)


if __name__ == "__main__":
    main()
