"""Synthesizers side by side on real cohorts, scored by the same card on holdout patients.

    .venv/bin/python -m benchmarks.synthesizers.run [--only COHORT,…] [--models NAME,…] [--ablation] [--minutes 15] [--publish]

Three tenths of the patients are the holdout; each synthesizer is fitted on the rest and samples as many rows. diabetes130 is subsampled to
patients with 20,000 rows. Each synthesizer runs in a process of its own with one thread, for at most --minutes; a longer fit is
reported as failed. Tables are cached in out/synthesizers under a digest of the code behind them. --publish writes
benchmarks/results/synthesizers.csv and the tables in docs/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import nearward as nw
from benchmarks.common.paths import DATA, OUT, RESULTS, digest, run_module, source_files
from benchmarks.synthesizers.generators import ABLATION, code_digest, generators
from benchmarks.synthesizers.report import publish
from nearward.datasets import read_cohort
from nearward.evaluation.privacy_attacks.membership import ALL_ROWS, OUTLIERS, membership
from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.tables.inputs import read_tables
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.table_io import read_table, write_table

COHORTS = ("heart_failure", "cervical_cancer", "thyroid0387", "support2", "diabetes130")
ABLATED = ("heart_failure", "thyroid0387", "support2")
OUTCOME, PATIENT = "event", "patient"
CACHE = OUT / "synthesizers"
_MOST, _TENTHS, _TIMED = 20_000, 3, 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of cohorts, with commas")
    parser.add_argument("--models", default="", help="names of synthesizers, with commas")
    parser.add_argument("--ablation", action="store_true", help="the variants of ours, on three cohorts")
    parser.add_argument("--minutes", type=float, default=15.0, help="longest fit")
    parser.add_argument(
        "--publish", action="store_true", help="write benchmarks/results/synthesizers.csv and docs/benchmarks from cached results"
    )
    parser.add_argument("--make", nargs=2, metavar=("COHORT", "NAME"), help="fit and sample one in this process")
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    if args.make:
        make(*args.make)
        return
    only, models = [[part for part in text.split(",") if part] for text in (args.only, args.models)]
    if not args.publish:
        for cohort in only or (ABLATED if args.ablation else COHORTS):
            for name in models or (ABLATION if args.ablation else [one for one in generators() if one not in ABLATION]):
                run(cohort, name, args.minutes)
    rows = [row for cohort in COHORTS for name in generators() for row in csv_rows(cohort, name)]
    table = pl.DataFrame(rows, infer_schema_length=None)
    if args.publish:
        table.write_csv(RESULTS / "synthesizers.csv", float_precision=5)
        publish(table)


def run(cohort: str, name: str, minutes: float) -> None:
    """Sample a table in a process of its own and score it, unless both are cached."""
    if (path := facts_path(cohort, name)).exists():
        return
    print(f"{cohort}, {name} …", flush=True)
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    facts: dict[str, Any] = {}
    if not table_path(cohort, name).exists():
        try:
            options = {"env": os.environ | threads, "timeout": 60 * minutes}
            process = run_module("benchmarks.synthesizers.run", "--make", cohort, name, check=False, **options)
        except subprocess.TimeoutExpired:
            facts = {"failed": f"stopped after {minutes:g} minutes"}
        else:
            if process.returncode:
                facts = {"failed": process.stderr.strip().splitlines()[-1][:200]}
    if not facts:
        facts = judge(cohort, name)
    path.write_text(json.dumps(facts, indent=1))
    print("   ", facts.get("failed") or {key: one and round(one["value"], 3) for key, one in facts["measures"].items()}, flush=True)


def make(cohort: str, name: str) -> None:
    train, _ = split(cohort)
    model = generators()[name]()
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(train, outcome=OUTCOME, groups=PATIENT)
        fitted = time.monotonic() - began
        synthetic = model.sample(train.height, seed=1)
        began = time.monotonic()
        model.sample(_TIMED, seed=2)
    sampled = time.monotonic() - began
    facts: dict[str, Any] = {"fit": fitted, "sample": sampled, "columns": train.width - 1}
    if hasattr(model, "rules"):
        rules = model.rules.enforced
        facts |= {"own_rules": len(rules), "own_broken": int(rules.violations(synthetic).any(axis=1).sum()) if len(rules) else 0}
        facts["steered"] = model.steered.get_column(PATIENT).unique().sort().to_list()
    table_path(cohort, name).with_suffix(".json").write_text(json.dumps(facts))
    write_table(synthetic.drop(PATIENT, strict=False), table_path(cohort, name))


def judge(cohort: str, name: str) -> dict[str, Any]:
    train, holdout = split(cohort)
    synthetic = read_table(table_path(cohort, name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        card = nw.faith_card(train=train, holdout=holdout, synthetic=synthetic, outcome=OUTCOME, group=PATIENT, seed=0)
    alike, attacks = card.fidelity.two_sample, card.membership.attacks
    broken = {rows: card.rules.violations(frame).any(axis=1) for rows, frame in (("made", synthetic), ("holdout", holdout))}
    everyone = [area for area in attacks.filter(pl.col("rows") == ALL_ROWS)["AUC"] if area is not None]
    outlying = [share for share in attacks.filter(pl.col("rows") == OUTLIERS)["true at 1 % false"] if share is not None]
    best = max(everyone, key=lambda area: area.high)
    events = {rows: frame.get_column(OUTCOME) for rows, frame in (("made", synthetic), ("train", train))}
    measures = {
        "C2ST AUC": Estimate(*(0.5 + (1 - end) / 2 for end in (alike.value, alike.high, alike.low)), alike.n),
        "TSTR / TRTR": card.utility.ratio,
        "event share": wilson(int(events["made"].sum()), synthetic.height),
        "event share, train": wilson(int(events["train"].sum()), train.height),
        "rows that break a rule": wilson(int(broken["made"].sum()), synthetic.height),
        "rows that break a rule, holdout": wilson(int(broken["holdout"].sum()), holdout.height),
        "membership AUC": Estimate(max(area.value for area in everyone), best.low, best.high, card.membership.judged),
        "TPR at 1 % FPR, outlying tenth": max(outlying, key=lambda share: share.value) if outlying else None,
        **{letter: part.estimate for letter, part in card.components.items()},
    }
    facts = json.loads(table_path(cohort, name).with_suffix(".json").read_text())
    if steered := facts.pop("steered", None):  # together with the others they would hide memberships
        learned = train.filter(~pl.col(PATIENT).is_in(steered))
        alone = membership(read_tables(learned, holdout, synthetic, OUTCOME, group=PATIENT), seed=0, control=False)
        areas = alone.attacks.filter(pl.col("rows") == ALL_ROWS)["AUC"].to_list()
        measures["membership AUC, rows learned from"] = max(areas, key=lambda area: area.high)
    return {
        **facts,
        "passed": card.passed,
        "events": int(events["train"].sum()),
        "rows": train.height,
        "measures": {key: None if one is None else vars(one) for key, one in measures.items()},
    }


def csv_rows(cohort: str, name: str) -> list[dict[str, Any]]:
    """Return the cached results of one synthesizer on one cohort as rows of the published CSV."""
    path = facts_path(cohort, name)
    if not path.exists():
        return []
    facts = json.loads(path.read_text())
    about = {"cohort": cohort, "model": name}
    nothing = {"value": None, "low": None, "high": None, "n": None, "note": ""}
    if "failed" in facts:
        return [{**about, "measure": "failed", **nothing, "note": facts["failed"]}]
    rows = [{**about, "measure": key, **nothing, **(one or {})} for key, one in facts["measures"].items()]
    single = ("fit", "sample", "columns", "rows", "events", "own_rules", "own_broken")
    rows += [{**about, "measure": key, **nothing, "value": float(facts[key])} for key in single if key in facts]
    return [*rows, {**about, "measure": "card", **nothing, "note": "passed" if facts["passed"] else "not passed"}]


def split(cohort: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return training rows and holdout, split by patient."""
    task = read_cohort(DATA / f"{cohort}.parquet")
    patient = np.arange(task.features.height) if task.groups is None else task.groups
    frame = task.features.with_columns(pl.Series(OUTCOME, task.outcome), pl.Series(PATIENT, patient))
    if frame.height > _MOST:
        order = np.random.default_rng(0).permutation(int(patient.max()) + 1)
        rows = np.cumsum(np.bincount(patient)[order])
        frame = frame.filter(pl.col(PATIENT).is_in(order[: int(np.searchsorted(rows, _MOST))].tolist()))
    number = frame.get_column(PATIENT).rank("dense").to_numpy().astype(np.int64) - 1
    tenth = assign_folds(frame.get_column(OUTCOME).to_numpy(), number, 10, seed=0)
    return frame.filter(pl.Series(tenth >= _TENTHS)), frame.filter(pl.Series(tenth < _TENTHS))


def table_path(cohort: str, name: str) -> Path:
    return CACHE / f"{cohort}.{_plain(name)}.{code_digest(name)}.parquet"


def facts_path(cohort: str, name: str) -> Path:
    """Return the file of the scores, named by digests of the synthesizer's and the evaluation's code."""
    return CACHE / f"{cohort}.{_plain(name)}.{code_digest(name)}.{digest(source_files('evaluation'))}.facts"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


if __name__ == "__main__":
    main()
