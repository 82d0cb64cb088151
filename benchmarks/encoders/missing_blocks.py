"""RiskClassifier at a site that lacks a block of columns, fitted with and without block dropout.

    .venv/bin/python -m benchmarks.encoders.missing_blocks [--data DIR] [--only NAME,NAME] [--publish]

Up to 5,000 training rows; up to 5,000 test rows of other patients, complete and with a block missing. Risks are cached in out/encoders.
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
from benchmarks.common.cohorts import cohorts, patients_of
from benchmarks.common.markdown import markdown, replace_part, signed
from benchmarks.common.paired_metrics import calibration_error, paired_intervals
from benchmarks.common.paths import DATA, cached_arrays
from benchmarks.encoders.options import BLOCKS, CACHE, Rows
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds

_ROWS = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default="support2,thyroid0387,brfss2015_diabetes")
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    table = pl.DataFrame([row for cohort in cohorts(args.data) if cohort.name in args.only.split(",") for row in judge(cohort)])
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(table)
    if args.publish:
        replace_part("block sites", markdown(table))


def judge(cohort: Cohort) -> list[dict[str, object]]:
    """Score AUPRC and calibration by the missing block, with and without block dropout."""
    group = patients_of(cohort)
    order, test = np.random.default_rng(0).permutation(len(group)), assign_folds(cohort.outcome, group, 2, 0) == 0
    stored, test_rows = (np.sort(order[side[order]][:_ROWS]) for side in (~test, test))
    blocks = BLOCKS[cohort.name]
    risks = {
        rate: cached_arrays(CACHE / f"site.{cohort.name}.{rate}.npz", lambda rate=rate: _risks(cohort, stored, test_rows, rate))
        for rate in (0.0, 0.3)
    }
    y, patient_ids, out = cohort.outcome[test_rows], group[test_rows], []
    for missing in ("nothing", *blocks):
        plain, with_dropout = risks[0.0][missing], risks[0.3][missing]
        gain = paired_intervals([y], [patient_ids], [with_dropout], {"plain": [plain]})["plain"]
        row = {"cohort": cohort.name, "missing": missing, "AUPRC, untouched": float(average_precision_score(y, plain))}
        row |= {"block dropout adds (95 %)": signed(gain)}
        for name, risk in (("untouched", plain), ("dropout", with_dropout)):
            row[f"ECE, {name}"] = calibration_error(y, risk, np.minimum((risk * 10).astype(int), 9))
        out.append(row)
    return out


def _risks(cohort: Cohort, stored: Rows, test_rows: Rows, rate: float) -> dict[str, Rows]:
    blocks = BLOCKS[cohort.name]
    block_of = {column: block for block, columns in blocks.items() for column in columns}
    train, test = cohort.features[stored], cohort.features[test_rows]
    schema = Schema(tuple(replace(column, block=block_of.get(column.name)) for column in Schema.infer(train).columns))
    groups = None if cohort.groups is None else cohort.groups[stored]
    model = nw.RiskClassifier(random_state=0, schema=schema, encoder=nw.EncoderConfig(block_dropout=rate))
    model.fit(train, cohort.outcome[stored], groups=groups)
    print(cohort.name, rate, model.summary_.retrieval, flush=True)
    out = {"nothing": model.predict_proba(test)[:, 1]}
    return out | {block: model.predict_proba(test.drop(columns))[:, 1] for block, columns in blocks.items()}


if __name__ == "__main__":
    main()
