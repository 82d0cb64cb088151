"""The whole RiskClassifier at a site that lacks a block of columns, fitted with and without block dropout.

    .venv/bin/python -m benchmarks.encoders.missing_blocks [--data DIR] [--only NAME,NAME] [--publish]

Up to 5,000 rows are learned from, up to 5,000 of other patients asked about: as they are, and with a block missing. What was said lies in
out/encoder and is not asked again.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.cohorts import DATA, cohorts
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paired_metrics import calibration_error, paired_intervals
from benchmarks.encoders.options import BLOCKS, KEPT, Rows, kept
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds

_ROWS = 5000


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--only", default="support2,thyroid0387,brfss2015_diabetes")
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    table = pl.DataFrame([row for cohort in cohorts(told.data) if cohort.name in told.only.split(",") for row in judge(cohort)])
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(table)
    if told.publish:
        replace_part("block sites", markdown(table))


def judge(cohort: Cohort) -> list[dict[str, object]]:
    """AUPRC and calibration by what is missing, with and without block dropout."""
    group = np.arange(len(cohort.outcome)) if cohort.group is None else cohort.group
    order, test = np.random.default_rng(0).permutation(len(group)), assign_folds(cohort.outcome, group, 2, 0) == 0
    stored, asked = (np.sort(order[side[order]][:_ROWS]) for side in (~test, test))
    named = BLOCKS[cohort.name]
    said = {rate: kept(f"site.{cohort.name}.{rate}", lambda rate=rate: _said(cohort, stored, asked, rate)) for rate in (0.0, 0.3)}
    y, whose, out = cohort.outcome[asked], group[asked], []
    for place in ("nothing", *named):
        plain, dropped = said[0.0][place], said[0.3][place]
        gain = paired_intervals([y], [whose], [dropped], {"plain": [plain]})["plain"]
        row = {"cohort": cohort.name, "missing": place, "AUPRC, untouched": float(average_precision_score(y, plain))}
        row |= {"block dropout adds (95 %)": f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})"}
        for name, risk in (("untouched", plain), ("dropout", dropped)):
            row[f"ECE, {name}"] = calibration_error(y, risk, np.minimum((risk * 10).astype(int), 9))
        out.append(row)
    return out


def _said(cohort: Cohort, stored: Rows, asked: Rows, rate: float) -> dict[str, Rows]:
    named = BLOCKS[cohort.name]
    block_of = {column: block for block, columns in named.items() for column in columns}
    train, test = cohort.features[stored], cohort.features[asked]
    schema = Schema(tuple(replace(column, block=block_of.get(column.name)) for column in Schema.infer(train).columns))
    groups = None if cohort.group is None else cohort.group[stored]
    model = nw.RiskClassifier(seed=0, schema=schema, encoder=nw.EncoderConfig(block_dropout=rate))
    model.fit(train, cohort.outcome[stored], groups=groups)
    print(cohort.name, rate, model.summary_["retrieval"], flush=True)
    out = {"nothing": model.predict_proba(test)[:, 1]}
    return out | {block: model.predict_proba(test.drop(columns))[:, 1] for block, columns in named.items()}


if __name__ == "__main__":
    main()
