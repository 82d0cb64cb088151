"""The rare-outcome toolbox beside the untouched model: every method on thinned cohorts, with paired intervals.

    .venv/bin/python -m benchmarks.rare.run [--data DIR] [--only TASK,TASK] [--rates .1,.01,.005] [--seeds 3]
                                            [--methods "NAME;NAME"] [--again "NAME;NAME"] [--cached] [--publish]

Settings: 10,000 training rows (fewer where a cohort has fewer), thinned to an event rate; test rows of other patients, thinned likewise;
each seed has test patients of its own. Results are cached in out/rare; --again names methods to fit anew. --publish writes
benchmarks/results/rare.csv, the tables of docs/benchmarks/rare-outcomes.md and the pictures.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.common.cohorts import cohorts
from benchmarks.common.paths import DATA
from benchmarks.rare.fit_cache import clear_cache, clock
from benchmarks.rare.report import UNTOUCHED, MethodResult, differences, publish, summary
from benchmarks.rare.training_set import CACHE, RATES, SEEDS, Method, Scored, Setting, sample_training_set
from nearward.tabular.data.atomic_files import replacing

TASKS = (
    "brfss2015_diabetes",
    "brfss2015_diabetes@Stroke",
    "diabetes130",
    "support2",
    "thyroid0387",
    "mammography",
    "polish_bankruptcy_y1",
)
ADAPTERS = ("methods", "alerts", "encoder_methods")  # each with a table METHODS of its own
METHODS: dict[str, Method] = {}
for _module in ADAPTERS:
    METHODS |= import_module(f"benchmarks.rare.{_module}").METHODS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    parser.add_argument("--only", default=",".join(TASKS), help="names of tasks, with commas")
    parser.add_argument("--rates", default=",".join(f"{rate:g}" for rate in RATES))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--methods", default=";".join(METHODS), help="names, with semicolons")
    parser.add_argument("--again", default="", help="names of methods to fit anew, with semicolons")
    parser.add_argument("--cached", action="store_true", help="use cached results only")
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    methods = [name for name in METHODS if name in args.methods.split(";")]
    rates = [float(rate) for rate in args.rates.split(",")]
    results = []
    for setting in settings(args.data, args.only.split(","), rates, args.seeds):
        clear_cache()
        available = [method for method in methods if not args.cached or cache_path(setting, method).exists()]
        for method in available if UNTOUCHED in available else []:
            scored = score_method(setting, method, again=method in args.again.split(";"))
            if scored is not None:
                times = scored.seconds / setting.plain_seconds
                events = int(setting.outcome.sum())
                results.append(
                    MethodResult(
                        setting.task, setting.rate, setting.seed, method, scored, setting.test_outcome, setting.test_groups, events, times
                    )
                )
    table = differences(results)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(summary(table))
    if args.publish:
        publish(table, list(METHODS), TASKS)


def settings(data: Path, only: list[str], rates: list[float], seeds: int) -> Iterator[Setting]:
    """Yield settings seed by seed and rate by rate, so that an interrupted run has complete parts."""
    tasks = {cohort.name: cohort for cohort in cohorts(data) if cohort.name in only}
    for seed in range(seeds):
        for rate in rates:
            for name in filter(tasks.__contains__, TASKS):
                setting = sample_training_set(tasks[name], rate, seed)
                if setting is not None:
                    yield setting


def cache_path(setting: Setting, method: str) -> Path:
    """Return the file of a method's scores in a setting."""
    return CACHE / f"{setting.name}.{re.sub('[^a-z0-9]+', '-', method.lower())}.npz"


def score_method(setting: Setting, method: str, again: bool = False) -> Scored | None:
    """Return a method's scores in a setting, cached."""
    path = cache_path(setting, method)
    if again or not path.exists():
        _ = setting.plain  # its fit is not timed
        began = clock()
        scored = METHODS[method](setting)
        spent = clock() - began
        arrays: dict[str, Any] = {}
        if scored is not None:
            arrays = {name: value for name, value in vars(scored).items() if value is not None}
            arrays["seconds"] = spent if scored.seconds is None else scored.seconds
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        print(f"{setting.name} {method}: {spent:.1f} s", flush=True)
    saved = np.load(path)
    if "risk" not in saved:
        return None
    return Scored(**{name: float(saved[name]) if name == "seconds" else saved[name] for name in saved.files})


if __name__ == "__main__":
    main()
