"""Options of the AWARE encoder on the encoder alone: block dropout where blocks are missing, pretexts where labels are few.

    .venv/bin/python -m benchmarks.encoders.options blocks|pretexts|costs [--data DIR] [--only NAME,NAME] [--seeds 3] [--publish]

One encoder is trained on two thirds of the training patients and searches the other third (cross-fitted, as in RiskClassifier); the vote of
its 60 nearest and its head are scored on test patients. costs: training time of each option. Scores are cached in out/encoders. --publish
writes docs/benchmarks.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.cohorts import cohorts, patients_of
from benchmarks.common.markdown import markdown, replace_part, signed
from benchmarks.common.paired_metrics import paired_intervals
from benchmarks.common.paths import DATA, OUT, PICTURES, cached_arrays
from benchmarks.encoders.figure import plot
from benchmarks.rare.training_set import thinned
from nearward.datasets import Cohort
from nearward.retrieval.encoders.aware import AwareEncoder, embed
from nearward.retrieval.encoders.self_supervised import STEPS, pretrain
from nearward.retrieval.encoders.training import train_encoder
from nearward.retrieval.neighbors.index import Shard
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.parallel import single_threaded
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder

CACHE = OUT / "encoders"
BLOCKS = {
    "support2": {
        "labs": ["wblc", "pafi", "alb", "bili", "crea", "sod", "ph", "glucose", "bun", "urine"],
        "vitals": ["meanbp", "hrt", "resp", "temp"],
    },
    "thyroid0387": {
        "hormones": ["T3", "TT4", "T4U", "FTI", "T3 measured", "TT4 measured", "T4U measured", "FTI measured"],
        "TSH": ["TSH", "TSH measured"],
    },
    "diabetes130": {
        "past visits": ["number_outpatient", "number_emergency", "number_inpatient"],
        "diagnoses": ["diag_1", "diag_2", "diag_3", "number_diagnoses"],
    },
    "brfss2015_diabetes": {
        "body": ["HighBP", "HighChol", "CholCheck", "BMI"],
        "questions": ["GenHlth", "MentHlth", "PhysHlth", "DiffWalk"],
    },
}
RATES = (0.0, 0.3)
LABELLED = (300, 1000, 4000)
_STORED, _TEST, _UNLABELLED = 6000, 5000, 6000
_NEIGHBOURS = 60
_TIMED_STEPS = 60  # from which the time of a step is estimated
_SMALL = 400  # rows of a whole fit
PRETEXTS = ("none", "masked", "views")
Rows = NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["blocks", "pretexts", "costs"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default=",".join(BLOCKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = [cohort for cohort in cohorts(args.data) if cohort.name in args.only.split(",")]
    part = {"blocks": blocks, "pretexts": pretexts, "costs": costs}[args.part]
    table = pl.DataFrame([row for cohort in tasks for row in part(cohort, args.seeds)])
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(table)
    if args.publish:
        replace_part(f"encoder {args.part}", markdown(table))
        if args.part == "blocks":
            plot(table, PICTURES / "block-dropout.svg")


class Split:
    """Patients of a cohort: for training, for the index, for testing; more training patients without their outcome."""

    def __init__(self, cohort: Cohort, seed: int, block_of: dict[str, str], stored: int = _STORED) -> None:
        group = patients_of(cohort)
        rng = np.random.default_rng(seed)
        test = assign_folds(cohort.outcome, group, 3, seed) == 0
        past = rng.permutation(np.flatnonzero(~test))
        self.test, train = np.sort(rng.permutation(np.flatnonzero(test))[:_TEST]), np.sort(past[:stored])
        self.schema = Schema.infer(cohort.features[train])
        rows = self.schema.conform(cohort.features[train])
        self.encoding = TableEncoder.fit(self.schema, rows)
        self.layout = FeatureLayout.from_encoder(self.encoding, block_of)
        self.x = self.dense(cohort.features[train])
        self.unlabelled = self.dense(cohort.features[np.sort(past[stored : stored + _UNLABELLED])])
        self.y, self.group = cohort.outcome[train], np.unique(group[train], return_inverse=True)[1]
        self.outcome_test, self.patients_test = cohort.outcome[self.test], group[self.test]
        self.candidates = assign_folds(self.y, self.group, 3, seed) == 0

    def dense(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Encode raw rows: (n, p)."""
        return self.encoding.transform(self.schema.conform(frame))

    def scores(self, config: nw.EncoderConfig, encodings: list[Rows], seed: int, more: bool = False) -> list[list[Rows]]:
        """Train an encoder; return its vote and head for each of several encodings of the test rows."""
        train = ~self.candidates
        encoder = train_encoder(
            self.x[train], self.y[train], self.group[train], config, seed, self.layout, self.unlabelled if more else None
        )
        shard = Shard(embed(encoder, self.x[self.candidates])[0].astype(np.float32), np.flatnonzero(self.candidates))
        out = []
        for rows in encodings:
            embedding, head = embed(encoder, rows)
            sq_distance, neighbours = shard.search(embedding, _NEIGHBOURS)
            weight = np.exp(-(sq_distance - sq_distance[:, :1]) / (2 * encoder.temperature))
            out.append([(weight * self.y[neighbours]).sum(axis=1) / weight.sum(axis=1), head])
        return out


def blocks(cohort: Cohort, seeds: int) -> Iterator[dict[str, object]]:
    """Remove each block from the test rows: an encoder with and without block dropout, and one trained without the block."""
    block_columns = BLOCKS[cohort.name]
    block_of = {column: block for block, columns in block_columns.items() for column in columns}

    def without(frame: pl.DataFrame, block: str) -> pl.DataFrame:
        return frame.with_columns(pl.lit(None, dtype=frame.schema[column]).alias(column) for column in block_columns[block])

    def make(seed: int) -> dict[str, Rows]:
        split = Split(cohort, seed, block_of)
        frame = cohort.features[split.test]
        encodings = [split.dense(frame), *(split.dense(without(frame, block)) for block in block_columns)]
        out = {"outcome": split.outcome_test, "patients": split.patients_test}
        for rate in RATES:
            scores = split.scores(nw.EncoderConfig(block_dropout=rate), encodings, seed)
            for block, (v, h) in zip(["", *block_columns], scores, strict=True):
                out |= {f"{block}|{rate:g}|v": v, f"{block}|{rate:g}|h": h}
        for j, block in enumerate(block_columns):
            missing = split.layout.block == split.layout.block_names.index(block)
            complete, split.x = split.x, np.where(missing, split.layout.missing_value, split.x)
            ((v, h),) = split.scores(nw.EncoderConfig(), [encodings[j + 1]], seed)
            split.x = complete
            out |= {f"{block}|own|v": v, f"{block}|own|h": h}
        return out

    runs = [cached_arrays(CACHE / f"blocks.{cohort.name}.{seed}.npz", lambda seed=seed: make(seed)) for seed in range(seeds)]
    for block in ["", *block_columns]:
        for kind, name in (("v", "vote"), ("h", "head")):
            yield {"cohort": cohort.name, "missing": block or "nothing", "by": name} | _gains_over_first(
                runs, block, kind, ["0", "0.3", "own"]
            )


def pretexts(cohort: Cohort, seeds: int) -> Iterator[dict[str, object]]:
    """Train on few labelled rows: without pretext, with one on these rows, and with one on more rows without outcomes."""
    variants = {"none": ("none", False)} | {
        f"{name}{' +' if more else ''}": (name, more) for more in (False, True) for name in ("masked", "views")
    }

    def make(seed: int, labelled: int) -> dict[str, Rows]:
        split = Split(cohort, seed, {}, labelled)
        out = {"outcome": split.outcome_test, "patients": split.patients_test}
        for variant, (pretext, more) in variants.items():
            ((v, h),) = split.scores(nw.EncoderConfig(pretext=pretext), [split.dense(cohort.features[split.test])], seed, more)
            out |= {f"|{variant}|v": v, f"|{variant}|h": h}
        return out

    for labelled in LABELLED:
        runs = [
            cached_arrays(
                CACHE / f"pretexts.{cohort.name}.{labelled}.{seed}.npz", lambda seed=seed, labelled=labelled: make(seed, labelled)
            )
            for seed in range(seeds)
        ]
        for kind, name in (("v", "vote"), ("h", "head")):
            yield {"cohort": cohort.name, "labelled": labelled, "by": name} | _gains_over_first(runs, "", kind, list(variants))


def costs(cohort: Cohort, seeds: int) -> Iterator[dict[str, object]]:
    """Measure the processor time of a step, plain and with each option, relative times of a training, and whole fits of few rows."""
    block_of = {column: block for block, columns in BLOCKS[cohort.name].items() for column in columns}

    def make(seed: int) -> dict[str, Rows]:
        split = Split(cohort, seed, block_of)
        in_train = ~split.candidates
        rows = split.x[in_train], split.y[in_train], split.group[in_train]

        def train(**options: Any) -> float:
            return _spent(lambda: train_encoder(*rows, nw.EncoderConfig(steps=_TIMED_STEPS, **options), seed, split.layout))

        def pretrain_time(pretext: str) -> float:
            config = nw.EncoderConfig(pretext=pretext)
            return _spent(lambda: pretrain(AwareEncoder(split.x.shape[1], config), rows[0], split.layout, seed, _TIMED_STEPS))

        with single_threaded("torch"):
            train()  # torch's first steps take longer
            seconds = [[train(), train(block_dropout=RATES[-1]), pretrain_time("masked"), pretrain_time("views")] for _ in range(2)]
        return {
            "step": np.min(seconds, axis=0) / _TIMED_STEPS,
            "fit": np.array([_small_fit(cohort, seed, pretext) for pretext in PRETEXTS]),
        }

    runs = [cached_arrays(CACHE / f"costs.{cohort.name}.{seed}.npz", lambda seed=seed: make(seed)) for seed in range(seeds)]
    step, fit = (np.mean([run[name] for run in runs], axis=0) for name in ("step", "fit"))
    steps = nw.EncoderConfig().steps
    plain = steps * step[0]
    whole = {"block dropout": steps * step[1], "masked cells": plain + STEPS * step[2], "unequal views": plain + STEPS * step[3]}
    row = {"cohort": cohort.name, "plain encoder": f"{plain:.1f} s"} | {name: f"{spent / plain:.2f} x" for name, spent in whole.items()}
    row |= {f"fit of {_SMALL} rows": f"{fit[0]:.1f} s"}
    yield row | {f"with {name}": f"{spent / fit[0]:.2f} x" for name, spent in zip(("masked cells", "views"), fit[1:], strict=True)}


def _small_fit(cohort: Cohort, seed: int, pretext: str) -> float:
    """Return the processor seconds of a RiskClassifier fit on a few hundred rows, at least a tenth of them events."""
    group = patients_of(cohort)
    rate = max(0.1, float(cohort.outcome.mean()))
    rows = thinned(np.random.default_rng(seed), np.arange(len(group)), cohort.outcome, rate, _SMALL)
    model = nw.RiskClassifier(random_state=seed, encoder=nw.EncoderConfig(pretext=pretext))
    began = time.process_time()
    model.fit(cohort.features[rows], cohort.outcome[rows], groups=group[rows])
    return time.process_time() - began


def _spent(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _gains_over_first(runs: list[dict[str, Rows]], block: str, kind: str, variants: list[str]) -> dict[str, object]:
    """Return the AUPRC of the first variant, and the others' gains over it with paired intervals; means over the seeds."""
    first, *others = (variant for variant in variants if f"{block}|{variant}|{kind}" in runs[0])
    outcomes, patient_ids = [run["outcome"] for run in runs], [run["patients"] for run in runs]
    base = {first: [run[f"{block}|{first}|{kind}"] for run in runs]}
    auprc = [average_precision_score(outcome, risk) for outcome, risk in zip(outcomes, base[first], strict=True)]
    row: dict[str, object] = {first: f"{np.mean(auprc):.3f}"}
    for variant in others:
        risks = [run[f"{block}|{variant}|{kind}"] for run in runs]
        row[variant] = signed(paired_intervals(outcomes, patient_ids, risks, base)[first])
    return {variant: row.get(variant, "") for variant in variants}


if __name__ == "__main__":
    main()
