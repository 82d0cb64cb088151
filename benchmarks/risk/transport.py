"""Leave one site out: results by site and over sites, of one cohort whose sites are a column.

    .venv/bin/python -m benchmarks.risk.transport sites/gusto.parquet --site REGL --model logistic
    .venv/bin/python -m benchmarks.risk.transport brfss2015 --rows 6000

A cohort is a table with its sidecar, or one of three tasks: brfss2015 by income of the respondents, diabetes130 by admission source,
icu2012 by kind of intensive care unit.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import nearward as nw
from benchmarks.common.icu import icu_cohort
from benchmarks.common.markdown import markdown_rows
from benchmarks.common.paths import DATA
from nearward.datasets import Cohort, read_cohort
from nearward.evaluation.risk.html_report import pooled_summary, subgroup_summary
from nearward.tabular.ensemble.cross_fitting import EncodedClassifier

MODELS = {
    "logistic": lambda: EncodedClassifier(LogisticRegression(solver="newton-cholesky")),
    "gbdt": lambda: EncodedClassifier(HistGradientBoostingClassifier(random_state=0)),
    "nearward": lambda: nw.RiskClassifier(random_state=0),
}
_TASKS = {"brfss2015": ("brfss2015_diabetes", "Income"), "diabetes130": ("diabetes130", "admission_source_id")}
_ICU = ("icu2012", "ICUType: first")
_METRICS = ("prevalence", "auprc", "auroc", "calibration_in_the_large", "calibration_slope", "usefulness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", help=f"table, or one of {[*_TASKS, _ICU[0]]}")
    parser.add_argument("--site", help="column of the sites of a table")
    parser.add_argument("--model", choices=MODELS, default="logistic")
    parser.add_argument("--rows", type=int, help="use this many rows, drawn at random")
    parser.add_argument("--page", type=Path, help="HTML page to write")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    cohort, site = find_cohort(args.cohort, args.site)
    rows = np.random.default_rng(0).permutation(len(cohort.outcome))[: args.rows]
    groups = None if cohort.groups is None else np.asarray(cohort.groups)[rows]
    began = time.monotonic()
    outcome = pl.Series("outcome", cohort.outcome[rows])
    report = nw.transport(
        MODELS[args.model](),
        cohort.features[rows],
        outcome,
        site=site,
        groups=groups,
        verbose=lambda text: print(text, file=sys.stderr),
    )
    seconds = time.monotonic() - began
    facts, results = report.facts, report.results
    print(f"{report.model}: {facts.rows} rows, {facts.events} events, {len(results.sites)} sites, {seconds:.0f} s\n")
    for table in (pooled_summary(results), subgroup_summary(results.sites, _METRICS)):
        print(markdown_rows(table.columns, [["" if value is None else value for value in row] for row in table.rows()]), end="\n\n")
    print(f"worth using at {results.threshold:.3f}: {results.useful}; at a next site: {results.next_useful}")
    if args.page:
        report.to_html(args.page)


def find_cohort(name: str, site: str | None) -> tuple[Cohort, str]:
    """Return a cohort and the column of its sites."""
    if name == _ICU[0]:
        return icu_cohort(), _ICU[1]
    if name in _TASKS:
        table, column = _TASKS[name]
        return read_cohort(DATA / f"{table}.parquet"), column
    if site is None:
        raise SystemExit("--site must name the column of the sites")
    return read_cohort(Path(name)), site


if __name__ == "__main__":
    main()
