"""The rare-outcome toolbox beside doing nothing: every method on thinned cohorts, with paired intervals.

    .venv/bin/python -m benchmarks.rare.run [--data DIR] [--only TASK,TASK] [--rates .1,.01,.005] [--seeds 3] [--methods "NAME;NAME"]
                                        [--again "NAME;NAME"] [--kept] [--publish]

Cells: 10,000 training rows (fewer where a cohort has fewer), thinned to an event rate; test rows of other patients, thinned likewise; each
seed has test patients of its own. What a method said of a cell lies in out/rare, with what was measured of it, and is not asked again,
unless named with --again.
--publish writes benchmarks/results/rare.csv, the table of docs/guide/rare-outcomes.md, the tables of docs/benchmarks and the pictures.
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

from benchmarks.common.cohorts import DATA, cohorts
from benchmarks.rare.fit_cache import clock, forget
from benchmarks.rare.report import UNTOUCHED, Said, differences, publish, summary
from benchmarks.rare.training_set import KEPT, RATES, SEEDS, Cell, Method, Scored, draw_cell
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
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    asked.add_argument("--only", default=",".join(TASKS), help="names of tasks, with commas")
    asked.add_argument("--rates", default=",".join(f"{rate:g}" for rate in RATES))
    asked.add_argument("--seeds", type=int, default=SEEDS)
    asked.add_argument("--methods", default=";".join(METHODS), help="names, with semicolons")
    asked.add_argument("--again", default="", help="names of methods to ask again, with semicolons")
    asked.add_argument("--kept", action="store_true", help="take what lies in out/rare, ask nothing")
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    methods = [name for name in METHODS if name in told.methods.split(";")]
    rates = [float(rate) for rate in told.rates.split(",")]
    found = []
    for cell in cells(told.data, told.only.split(","), rates, told.seeds):
        forget()
        here = [method for method in methods if not told.kept or kept_at(cell, method).exists()]
        for method in here if UNTOUCHED in here else []:
            scored = ask(cell, method, again=method in told.again.split(";"))
            if scored is not None:
                times = scored.seconds / cell.plain_seconds
                events = int(cell.outcome.sum())
                found.append(Said(cell.task, cell.rate, cell.seed, method, scored, cell.test_outcome, cell.test_groups, events, times))
    table = differences(found)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(summary(table))
    if told.publish:
        publish(table, list(METHODS), TASKS)


def cells(data: Path, only: list[str], rates: list[float], seeds: int) -> Iterator[Cell]:
    """Seed by seed and rate by rate, so that what is there after an hour is a whole."""
    tasks = {cohort.name: cohort for cohort in cohorts(data) if cohort.name in only}
    for seed in range(seeds):
        for rate in rates:
            for name in filter(tasks.__contains__, TASKS):
                cell = draw_cell(tasks[name], rate, seed)
                if cell is not None:
                    yield cell


def kept_at(cell: Cell, method: str) -> Path:
    """Where lies what a method said of a cell."""
    return KEPT / f"{cell.name}.{re.sub('[^a-z0-9]+', '-', method.lower())}.npz"


def ask(cell: Cell, method: str, again: bool = False) -> Scored | None:
    """Take what was kept of a method on a cell, or ask it."""
    path = kept_at(cell, method)
    if again or not path.exists():
        _ = cell.plain  # fitted outside the clock
        began = clock()
        scored = METHODS[method](cell)
        spent = clock() - began
        held: dict[str, Any] = {}
        if scored is not None:
            held = {name: value for name, value in vars(scored).items() if value is not None}
            held["seconds"] = spent if scored.seconds is None else scored.seconds
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **held)
        print(f"{cell.name} {method}: {spent:.1f} s", flush=True)
    saved = np.load(path)
    if "risk" not in saved:
        return None
    return Scored(**{name: float(saved[name]) if name == "seconds" else saved[name] for name in saved.files})


if __name__ == "__main__":
    main()
