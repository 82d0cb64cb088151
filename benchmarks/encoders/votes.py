"""The vote of similar patients alone, without base learners and in-context model, against raw neighbours and the usual models.

    .venv/bin/python -m benchmarks.encoders.votes [--data DIR] [--only NAME,NAME] [--rows 6000] [--seeds 3] [--publish]

Nine public tasks and the ICU stays as a wide table, on the protocol's folds; at most ``--rows`` rows to train on and to test. Three seeds
(of the sample, the folds and the encoders) where fewer than 300 events train, one elsewhere. AWARE: five cross-fitted encoders, k and
floor by the out-of-fold AUPRC. Raw: standardised numbers with missing flags and one-hot categories, all training rows in one index, the
same kernel, k by the out-of-fold AUPRC. LightGBM and logistic regression at their defaults. --publish writes docs/benchmarks.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from benchmarks.common.baselines import baselines, stacked, standardised
from benchmarks.common.cohorts import Rows, cohorts, patients_of, splits
from benchmarks.common.icu import EVENTS, icu_cohort
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paired_metrics import paired_intervals
from benchmarks.common.paths import DATA, OUT, cached_arrays
from nearward.datasets import Cohort
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.encoders.training import train_encoders
from nearward.retrieval.neighbors.binary import Retriever, best_setting
from nearward.retrieval.neighbors.fitted_shards import index_shards
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder

CACHE = OUT / "votes"
MODELS = ("AWARE vote", "AWARE head", "raw kNN", "LightGBM", "LogisticRegression")
_FEW_EVENTS, _SAMPLE, _NEAREST = 300, 200, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default="")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    only = args.only.split(",") if args.only else None
    rows = [_compare(cohort, args.rows, args.seeds) for cohort in _tasks(args.data) if only is None or cohort.name in only]
    table = pl.DataFrame(rows)
    ratio = (table["AWARE vote"] / table["raw kNN"]).log().mean()
    print(table, f"vote over raw kNN, geometric mean: {np.exp(ratio) - 1:+.1%}", table.select(MODELS).mean(), sep="\n")
    if args.publish:
        replace_part("votes", markdown(table))


def _tasks(folder: Path) -> Iterator[Cohort]:
    yield from cohorts(folder)
    if EVENTS.exists():
        yield icu_cohort()


def _folds(cohort: Cohort) -> list[tuple[Rows, Rows]]:
    if cohort.name != "icu2012":
        return splits(cohort)
    return list(StratifiedKFold(5, shuffle=True, random_state=0).split(cohort.features, cohort.outcome))[:2]


def _compare(cohort: Cohort, rows: int, seeds: int) -> dict[str, object]:
    """Return the mean test AUPRC of each model over folds and seeds, and the vote's gain over raw neighbours with its paired interval."""
    runs = []
    for fold, (train, test) in enumerate(_folds(cohort)):
        few = cohort.outcome[train].sum() * min(1, rows / len(train)) < _FEW_EVENTS
        for seed in range(seeds if few else 1):
            path = CACHE / f"{cohort.name}.{rows}.{fold}.{seed}.npz"
            runs.append(cached_arrays(path, lambda train=train, test=test, seed=seed: _scores(cohort, train, test, rows, seed)))
    auprc = {name: float(np.mean([average_precision_score(run["outcome"], run[name]) for run in runs])) for name in MODELS}
    outcomes, patients = [run["outcome"] for run in runs], [run["patients"] for run in runs]
    others = {"raw kNN": [run["raw kNN"] for run in runs]}
    gain = paired_intervals(outcomes, patients, [run["AWARE vote"] for run in runs], others)["raw kNN"]
    columns = int(runs[0]["columns"])
    return {"cohort": cohort.name, "columns": columns, **auprc, "vote − raw": f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})"}


def _scores(cohort: Cohort, train: Rows, test: Rows, rows: int, seed: int) -> dict[str, Rows]:
    rng = np.random.default_rng(seed)
    train, test = (np.sort(rng.permutation(part)[:rows]) for part in (train, test))
    frames = cohort.features[train], cohort.features[test]
    patients = patients_of(cohort)
    outcome, patient_ids = cohort.outcome[train], np.unique(patients[train], return_inverse=True)[1]
    data = TrainingData(outcome, patient_ids, split_patients(outcome, patient_ids, 5, seed))
    began = time.process_time()
    vote, head, columns = _aware(*frames, data, seed)
    seconds = time.process_time() - began
    models = baselines()
    return {
        "AWARE vote": vote,
        "AWARE head": head,
        "raw kNN": _raw(*frames, data),
        **{name: models[name](frames[0], outcome, frames[1]) for name in ("LightGBM", "LogisticRegression")},
        "outcome": cohort.outcome[test],
        "patients": patients[test],
        "columns": np.array(columns),
        "seconds": np.array(seconds),
    }


def _aware(frame: pl.DataFrame, frame_new: pl.DataFrame, data: TrainingData, seed: int) -> tuple[Rows, Rows, int]:
    """Return the vote and the mean head of new rows by encoders alone, and the number of encoded columns."""
    schema = Schema.infer(frame)
    encoding = TableEncoder.fit(schema, schema.conform(frame))
    inputs, inputs_new = (_inputs(encoding, schema.conform(part)) for part in (frame, frame_new))
    encoders = train_encoders(inputs, data, EncoderConfig(), seed, FeatureLayout.from_encoder(encoding))
    retriever = best_setting(index_shards(encoders, inputs, data), data).retriever
    context, head = retriever.context(inputs_new)
    return context.vote, head, inputs.dense.shape[1]


def _inputs(encoding: TableEncoder, frame: pl.DataFrame) -> EncoderInputs:
    table = encoding.encode(frame)
    return EncoderInputs(encoding.to_matrix(table), encoding.levels_to_embed(table))


def _raw(frame: pl.DataFrame, frame_new: pl.DataFrame, data: TrainingData) -> Rows:
    """Return the vote of new rows by standardised columns: one shard of all rows, and the kernel, settings and selection of AWARE's."""
    table, numbers, text = stacked(frame)
    prepare = standardised(numbers, text).set_params(sparse_threshold=0)
    x, x_new = prepare.fit_transform(table), prepare.transform(stacked(frame_new)[0])
    sample = x[np.random.default_rng(0).permutation(len(x))[:_SAMPLE]]
    sq_distance = np.sort(((sample[:, None] - sample[None]) ** 2).sum(axis=2), axis=1)[:, : max(2, int(_NEAREST * len(sample)))]
    metric = LinearMetric(np.eye(x.shape[1]), float(sq_distance.mean()) / 4)  # temperature as of a linear metric
    one_fold = TrainingData(data.outcome, data.patient_ids, np.zeros(len(data), dtype=np.int64))
    retriever: Retriever = best_setting(index_shards([metric], EncoderInputs.of(x), one_fold), one_fold).retriever
    return retriever.context(x_new)[0].vote


if __name__ == "__main__":
    main()
