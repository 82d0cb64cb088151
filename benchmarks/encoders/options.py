"""Options of the AWARE encoder, measured on the encoder alone: block dropout where blocks are missing, pretexts where labels are few.

    .venv/bin/python -m benchmarks.encoders.options blocks|pretexts|costs [--data DIR] [--only NAME,NAME] [--seeds 3] [--publish]

One encoder learns from two thirds of the training patients and finds neighbours among the third (cross-fitted, as in RiskClassifier); its
vote of the nearest 60 and its head are judged on other patients. costs: what each option adds to the training. Figures lie in out/encoder
and are not made again. --publish writes docs/benchmarks.
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
from benchmarks.common.cohorts import DATA, cohorts
from benchmarks.common.markdown import DOCS, markdown, replace_part
from benchmarks.common.paired_metrics import paired_intervals
from benchmarks.encoders.figure import draw
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

KEPT = Path(__file__).resolve().parents[1] / "out" / "encoder"
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
_STORED, _ASKED, _UNLABELLED = 6000, 5000, 6000
_NEIGHBOURS = 60
_PRICED = 60  # steps that say what a step takes
_SMALL = 400  # rows of a whole fit
PRETEXTS = ("none", "masked", "views")
Rows = NDArray[Any]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("part", choices=["blocks", "pretexts", "costs"])
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--only", default=",".join(BLOCKS))
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    tasks = [cohort for cohort in cohorts(told.data) if cohort.name in told.only.split(",")]
    part = {"blocks": blocks, "pretexts": pretexts, "costs": costs}[told.part]
    table = pl.DataFrame([row for cohort in tasks for row in part(cohort, told.seeds)])
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=220, fmt_str_lengths=60):
        print(table)
    if told.publish:
        replace_part(f"encoder {told.part}", markdown(table))
        if told.part == "blocks":
            draw(table, DOCS / "pictures" / "block-dropout.svg")


class Split:
    """Some patients of a cohort to learn from, some to find, some to ask about; more without their outcome."""

    def __init__(self, cohort: Cohort, seed: int, block_of: dict[str, str], stored: int = _STORED) -> None:
        group = np.arange(len(cohort.outcome)) if cohort.group is None else cohort.group
        draw = np.random.default_rng(seed)
        test = assign_folds(cohort.outcome, group, 3, seed) == 0
        past = draw.permutation(np.flatnonzero(~test))
        self.asked, kept = np.sort(draw.permutation(np.flatnonzero(test))[:_ASKED]), np.sort(past[:stored])
        self.schema = Schema.infer(cohort.features[kept])
        rows = self.schema.conform(cohort.features[kept])
        self.encoding = TableEncoder.fit(self.schema, rows)
        self.layout = FeatureLayout.of(self.encoding, block_of)
        self.x = self.dense(cohort.features[kept])
        self.more = self.dense(cohort.features[np.sort(past[stored : stored + _UNLABELLED])])
        self.y, self.group = cohort.outcome[kept], np.unique(group[kept], return_inverse=True)[1]
        self.truth, self.whose = cohort.outcome[self.asked], group[self.asked]
        self.found = assign_folds(self.y, self.group, 3, seed) == 0

    def dense(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Read raw rows as the encoder does: (n, p)."""
        return self.encoding.dense(self.encoding.numbers(self.schema.conform(frame)))

    def said(self, config: nw.EncoderConfig, asked: list[Rows], seed: int, more: bool = False) -> list[list[Rows]]:
        """Train an encoder; its vote and head for each of several readings of the rows asked about."""
        seen = ~self.found
        encoder = train_encoder(self.x[seen], self.y[seen], self.group[seen], config, seed, self.layout, self.more if more else None)
        shard = Shard(embed(encoder, self.x[self.found])[0].astype(np.float32), np.flatnonzero(self.found))
        out = []
        for rows in asked:
            place, head = embed(encoder, rows)
            squared, near = shard.search(place, _NEIGHBOURS)
            weight = np.exp(-(squared - squared[:, :1]) / (2 * encoder.temperature))
            out.append([(weight * self.y[near]).sum(axis=1) / weight.sum(axis=1), head])
        return out


def kept(name: str, make: Callable[[], dict[str, Rows]]) -> dict[str, Rows]:
    """Return what was made before, or make it."""
    path = KEPT / f"{name}.npz"
    if not path.exists():
        np.savez(path, **make())
        print(name, flush=True)
    return dict(np.load(path))


def blocks(cohort: Cohort, seeds: int) -> Iterator[dict[str, object]]:
    """Each block taken from the rows asked about: an encoder with and without block dropout, and one trained without the block."""
    named = BLOCKS[cohort.name]
    block_of = {column: block for block, columns in named.items() for column in columns}

    def without(frame: pl.DataFrame, block: str) -> pl.DataFrame:
        return frame.with_columns(pl.lit(None, dtype=frame.schema[column]).alias(column) for column in named[block])

    def make(seed: int) -> dict[str, Rows]:
        split = Split(cohort, seed, block_of)
        frame = cohort.features[split.asked]
        readings = [split.dense(frame), *(split.dense(without(frame, block)) for block in named)]
        out = {"truth": split.truth, "whose": split.whose}
        for rate in RATES:
            said = split.said(nw.EncoderConfig(block_dropout=rate), readings, seed)
            for place, (v, h) in zip(["", *named], said, strict=True):
                out |= {f"{place}|{rate:g}|v": v, f"{place}|{rate:g}|h": h}
        for place, block in enumerate(named):
            gone = split.layout.block == split.layout.blocks.index(block)
            whole, split.x = split.x, np.where(gone, split.layout.absent, split.x)
            ((v, h),) = split.said(nw.EncoderConfig(), [readings[place + 1]], seed)
            split.x = whole
            out |= {f"{block}|own|v": v, f"{block}|own|h": h}
        return out

    runs = [kept(f"blocks.{cohort.name}.{seed}", lambda seed=seed: make(seed)) for seed in range(seeds)]
    for block in ["", *named]:
        for kind, name in (("v", "vote"), ("h", "head")):
            yield {"cohort": cohort.name, "missing": block or "nothing", "by": name} | _beside(runs, block, kind, ["0", "0.3", "own"])


def pretexts(cohort: Cohort, seeds: int) -> Iterator[dict[str, object]]:
    """Few labelled rows: an encoder without pretext, with one on these rows, and with one on more rows without outcomes."""
    ways = {"none": ("none", False)} | {
        f"{name}{' +' if more else ''}": (name, more) for more in (False, True) for name in ("masked", "views")
    }

    def make(seed: int, labelled: int) -> dict[str, Rows]:
        split = Split(cohort, seed, {}, labelled)
        out = {"truth": split.truth, "whose": split.whose}
        for way, (pretext, more) in ways.items():
            ((v, h),) = split.said(nw.EncoderConfig(pretext=pretext), [split.dense(cohort.features[split.asked])], seed, more)
            out |= {f"|{way}|v": v, f"|{way}|h": h}
        return out

    for labelled in LABELLED:
        runs = [
            kept(f"pretexts.{cohort.name}.{labelled}.{seed}", lambda seed=seed, labelled=labelled: make(seed, labelled))
            for seed in range(seeds)
        ]
        for kind, name in (("v", "vote"), ("h", "head")):
            yield {"cohort": cohort.name, "labelled": labelled, "by": name} | _beside(runs, "", kind, list(ways))


def costs(cohort: Cohort, seeds: int) -> Iterator[dict[str, object]]:
    """Processor time of a step, plain and with each option, what a training then takes beside the plain one; whole fits of few rows."""
    block_of = {column: block for block, columns in BLOCKS[cohort.name].items() for column in columns}

    def make(seed: int) -> dict[str, Rows]:
        split = Split(cohort, seed, block_of)
        seen = ~split.found
        rows = split.x[seen], split.y[seen], split.group[seen]

        def train(**how: Any) -> float:
            return _spent(lambda: train_encoder(*rows, nw.EncoderConfig(steps=_PRICED, **how), seed, split.layout))

        def warm(pretext: str) -> float:
            config = nw.EncoderConfig(pretext=pretext)
            return _spent(lambda: pretrain(AwareEncoder(split.x.shape[1], config), rows[0], split.layout, seed, _PRICED))

        with single_threaded("torch"):
            train()  # torch's first steps are dearer
            price = [[train(), train(block_dropout=RATES[-1]), warm("masked"), warm("views")] for _ in range(2)]
        return {"step": np.min(price, axis=0) / _PRICED, "fit": np.array([_small_fit(cohort, seed, how) for how in PRETEXTS])}

    runs = [kept(f"costs.{cohort.name}.{seed}", lambda seed=seed: make(seed)) for seed in range(seeds)]
    step, fit = (np.mean([run[name] for run in runs], axis=0) for name in ("step", "fit"))
    steps = nw.EncoderConfig().steps
    plain = steps * step[0]
    whole = {"block dropout": steps * step[1], "masked cells": plain + STEPS * step[2], "unequal views": plain + STEPS * step[3]}
    told = {"cohort": cohort.name, "plain encoder": f"{plain:.1f} s"} | {name: f"{spent / plain:.2f} x" for name, spent in whole.items()}
    told |= {f"fit of {_SMALL} rows": f"{fit[0]:.1f} s"}
    yield told | {f"with {name}": f"{spent / fit[0]:.2f} x" for name, spent in zip(("masked cells", "views"), fit[1:], strict=True)}


def _small_fit(cohort: Cohort, seed: int, pretext: str) -> float:
    """Processor seconds of a whole RiskClassifier on a few hundred rows, a tenth of them events at the least."""
    group = np.arange(len(cohort.outcome)) if cohort.group is None else cohort.group
    rate = max(0.1, float(cohort.outcome.mean()))
    rows = thinned(np.random.default_rng(seed), np.arange(len(group)), cohort.outcome, rate, _SMALL)
    model = nw.RiskClassifier(seed=seed, encoder=nw.EncoderConfig(pretext=pretext))
    began = time.process_time()
    model.fit(cohort.features[rows], cohort.outcome[rows], groups=group[rows])
    return time.process_time() - began


def _spent(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _beside(runs: list[dict[str, Rows]], place: str, kind: str, ways: list[str]) -> dict[str, object]:
    """AUPRC of the first way, and the others' gains over it with paired intervals; means over the seeds."""
    first, *others = (way for way in ways if f"{place}|{way}|{kind}" in runs[0])
    truths, whose = [run["truth"] for run in runs], [run["whose"] for run in runs]
    base = {first: [run[f"{place}|{first}|{kind}"] for run in runs]}
    auprc = [average_precision_score(truth, risk) for truth, risk in zip(truths, base[first], strict=True)]
    told: dict[str, object] = {first: f"{np.mean(auprc):.3f}"}
    for way in others:
        value, low, high = paired_intervals(truths, whose, [run[f"{place}|{way}|{kind}"] for run in runs], base)[first]
        told[way] = f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
    return {way: told.get(way, "") for way in ways}


if __name__ == "__main__":
    main()
