"""Stress test: the same in-context network under different contexts, with rarer events, fewer rows or noisier columns.

    .venv/bin/python -m benchmarks.in_context.context_stress [--data DIR] [--study ratio,rows,noise] [--only NAME,NAME] [--seeds 3]
                                                             [--prepare] [--publish]

Features only, no base learners: the network sees the context alone. Contexts of 128 rows: random; the nearest in standardised columns and
one-hot ("raw kNN"); the same with the class floor; AWARE's (those of ``fit_retriever``, class floor).

Tasks: cohorts of more than 20,000 rows, and the wide tables polish_bankruptcy_y1 and icu2012. Studies: ``ratio``, 10,000 training rows (or
as many as a fold has rows without the event) with 10 to 200 others for each event, 20 events at least; ``rows``, 300 to 10,000 training
rows as they come; ``noise``, 3,000 training rows, up to 100 shuffled copies of columns added. Large cohorts: one split by patients; every
seed draws its own training rows from one side, and its own 5,000 test rows (as they come, disjoint between seeds) from the other. Wide
tables: every seed tests on a fold of its own, one of five. Intervals: 95 %, paired bootstrap over test patients.

Retrieval, which does not depend on the network's weights, is cached in out/context_stress; --prepare stops after it. Scores are cached
there too, under a digest of the weights. --publish writes benchmarks/results/context_stress.csv, docs/pictures/imbalance-*.svg and the
tables of docs/benchmarks.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from benchmarks.common.baselines import stacked, standardised
from benchmarks.common.cohorts import cohorts, patients_of, splits
from benchmarks.common.icu import EVENTS, icu_cohort
from benchmarks.common.markdown import signed
from benchmarks.common.paired_metrics import paired_intervals
from benchmarks.common.paths import DATA, OUT
from nearward.datasets import Cohort
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.neighbors.binary import Retriever, fit_retriever
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting
from nearward.risk_model.in_context import EnsembleView, InContextModel, StoredRows
from nearward.tabular.data.atomic_files import write_atomic
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.in_context.checkpoint import load_net
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.preprocessing.target_encoder import TargetEncoder

CACHE = OUT / "context_stress"
RATIOS, ROWS, NOISE = (10, 50, 200), (300, 1_000, 3_000, 10_000), (0, 30, 100)
LEVELS = {"ratio": RATIOS, "rows": ROWS, "noise": NOISE}
RANDOM, RAW, RAW_FLOOR, AWARE = "random", "raw kNN", "raw kNN, floor", "AWARE"
WIDE = ("polish_bankruptcy_y1", "icu2012")  # smaller, with hundreds of columns
_STORED, _NOISY_STORED, _TEST, _NEIGHBOURS = 10_000, 3_000, 5_000, 128
_LARGE, _FEWEST_EVENTS = 20_000, 20
_FLOOR = 8  # fewest events of the floor, as in retrieval
_RULE = RetrievalSetting(_NEIGHBOURS, True, 1.0)

Rows = tuple[pl.DataFrame, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """One training set of a study."""

    cohort: Cohort
    study: str
    level: int
    seed: int

    @property
    def path(self) -> Path:
        """The cache file of its retrieval."""
        return CACHE / f"{self.cohort.name}.{self.study}.{self.level}.{self.seed}.pkl"


@dataclass(frozen=True)
class Retrieval:
    """The part of a setting that does not depend on the network; query arrays have q rows."""

    rows: StoredRows
    retriever: dict[str, Any]
    value: np.ndarray
    inputs: EncoderInputs
    outcome: np.ndarray
    patient_ids: np.ndarray
    raw: list[tuple[np.ndarray, np.ndarray]]  # rows and squared distances, as ``_raw_neighbours``


@dataclass(frozen=True)
class Scores:
    """Risks (q,) and AUPRC of a setting by context, with the test rows' outcomes and patients, and what AWARE's contexts come from."""

    risks: dict[str, np.ndarray]
    auprc: dict[str, float]
    outcome: np.ndarray
    patient_ids: np.ndarray
    events: int
    embedding: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    parser.add_argument("--study", default="ratio,rows,noise")
    parser.add_argument("--only", default="", help="names of tasks, with commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="stop after the retrieval, which does not depend on the network")
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    CACHE.mkdir(parents=True, exist_ok=True)
    only = args.only.split(",") if args.only else None
    tasks = [cohort for cohort in _tasks(args.data) if only is None or cohort.name in only]
    settings = list(_settings(tasks, args.study.split(","), args.seeds))
    results = []
    for setting in settings:
        if not setting.path.exists():
            _cache_retrieval(setting)
        if not args.prepare:
            results.append((setting, _cached_scores(setting)))
    if args.prepare:
        return
    auprc, gains = _by_context(results), _gains(results)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200):
        print(auprc, gains, sep="\n")
    if args.publish:
        from benchmarks.in_context.context_stress_report import publish

        publish(auprc, gains)


def _tasks(folder: Path) -> Iterator[Cohort]:
    yield from (cohort for cohort in cohorts(folder) if len(cohort.outcome) > _LARGE or cohort.name in WIDE)
    if EVENTS.exists():
        yield icu_cohort()


def _settings(tasks: list[Cohort], studies: list[str], seeds: int) -> Iterator[Setting]:
    """Yield the settings seed by seed, so that an interrupted run has complete seeds."""
    for seed in range(seeds):
        for study in studies:
            for cohort in tasks:
                settings = (Setting(cohort, study, level, seed) for level in LEVELS[study])
                yield from (setting for setting in settings if _draw(setting) is not None)


# ---- retrieval, without the network ------------------------------------------------------------------------------------------------


def _draw(setting: Setting) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw a setting's training and test rows; None where the cohort has too few rows or events for it."""
    train, test = _split(setting)
    y, level = setting.cohort.outcome, setting.level
    drawn = np.random.default_rng(setting.seed + 1).permutation(train)
    if setting.study == "ratio":
        events, others = drawn[y[drawn] == 1], drawn[y[drawn] == 0]
        size = min(_STORED, len(others))
        n_events = round(size / (1 + level))
        if not _FEWEST_EVENTS <= n_events <= len(events):
            return None
        stored = np.concatenate([events[:n_events], others[: size - n_events]])
    else:
        size = level if setting.study == "rows" else _NOISY_STORED
        if len(drawn) < size:
            return None
        stored = drawn[:size]
    return np.sort(stored), np.sort(test)


def _split(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows from which a seed draws its training rows, and its test rows."""
    cohort, seed = setting.cohort, setting.seed
    if cohort.name in WIDE:
        return list(StratifiedKFold(5, shuffle=True, random_state=0).split(cohort.outcome, cohort.outcome))[seed]
    ((train, test),) = splits(cohort)
    return train, np.random.default_rng(0).permutation(test)[seed * _TEST : (seed + 1) * _TEST]


def _features(setting: Setting, stored: np.ndarray, test: np.ndarray) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the columns, and in the study of noise shuffled copies of some beside them."""
    frames = setting.cohort.features[stored], setting.cohort.features[test]
    if setting.study != "noise":
        return frames
    rng = np.random.default_rng(setting.seed)
    names = [frames[0].columns[j] for j in rng.integers(0, frames[0].width, setting.level)]
    copies = [
        pl.DataFrame([frame[name].gather(rng.permutation(frame.height)).alias(f"noise {i}") for i, name in enumerate(names)])
        for frame in frames
    ]
    return frames[0].hstack(copies[0]), frames[1].hstack(copies[1])


def _cache_retrieval(setting: Setting) -> None:
    """Cache the retrieval of a setting's rows."""
    drawn = _draw(setting)
    assert drawn is not None
    stored, test = drawn
    train_frame, test_frame = _features(setting, stored, test)
    y, patients = setting.cohort.outcome, patients_of(setting.cohort)
    retrieval = fit_retrieval((train_frame, y[stored], patients[stored]), (test_frame, y[test], patients[test]), setting.seed)
    write_atomic(setting.path, pickle.dumps(vars(retrieval)))
    print(f"cached {setting.path.name}", flush=True)


def fit_retrieval(stored: Rows, test: Rows, seed: int) -> Retrieval:
    """Train the encoders on stored rows, and search the raw neighbours of test rows; each are features, outcome and patients."""
    (train_frame, outcome, patients), (test_frame, test_outcome, test_patients) = stored, test
    patient_ids = np.unique(patients, return_inverse=True)[1]
    fold = split_patients(outcome, patient_ids, 5, seed)
    schema = Schema.infer(train_frame)
    encoding = TableEncoder.fit(schema, schema.conform(train_frame))
    numbers, numbers_new = (encoding.encode(schema.conform(frame)) for frame in (train_frame, test_frame))
    dense, dense_new = encoding.to_matrix(numbers), encoding.to_matrix(numbers_new)
    category_counts = [len(c.categories) for c in encoding.categorical]
    rates = [TargetEncoder.fit(numbers.codes[fold != f], category_counts, outcome[fold != f]) for f in range(fold.max() + 1)]
    rate = np.stack([r.transform(numbers.codes) for r in rates])[fold, np.arange(len(fold))]
    rate_new = np.mean([r.transform(numbers_new.codes) for r in rates], axis=0)
    data = TrainingData(outcome, patient_ids, fold)
    inputs = EncoderInputs(dense, encoding.levels_to_embed(numbers))
    layout = FeatureLayout.from_encoder(encoding)
    retriever, *_ = fit_retriever(inputs, data, EncoderConfig(), seed, lambda words: None, layout=layout)
    rows = StoredRows(np.column_stack([numbers.values, rate]), np.zeros((len(outcome), 0)), inputs, data)
    value = np.column_stack([numbers_new.values, rate_new])
    raw = _raw_neighbours(train_frame, test_frame, outcome)
    inputs_new = EncoderInputs(dense_new, encoding.levels_to_embed(numbers_new))
    return Retrieval(rows, retriever.state(), value, inputs_new, test_outcome, test_patients, raw)


def _raw_neighbours(train_frame: pl.DataFrame, test_frame: pl.DataFrame, outcome: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows and squared distances in standardised columns of the 128 nearest, of the 8 nearest events, and of 128 random rows."""
    table, numbers, text = stacked(train_frame)
    prepare = standardised(numbers, text).set_params(sparse_threshold=0)
    x, x_new = (
        np.ascontiguousarray(part, dtype=np.float32) for part in (prepare.fit_transform(table), prepare.transform(stacked(test_frame)[0]))
    )
    events = np.flatnonzero(outcome == 1)
    nearest = []
    for among, count in ((np.arange(len(x)), min(_NEIGHBOURS, len(x))), (events, min(_FLOOR, len(events)))):
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x[among])
        sq_distance, position = index.search(x_new, count)
        nearest.append((among[position].astype(np.int32), sq_distance))
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.choice(len(x), min(_NEIGHBOURS, len(x)), replace=False) for _ in range(len(x_new))]).astype(np.int32)
    random_distance = np.concatenate([((x[d] - q[None, None]) ** 2).sum(axis=2) for d, q in zip(drawn[:, None], x_new, strict=True)])
    return [*nearest, (drawn, random_distance)]


# ---- scores of the network ---------------------------------------------------------------------------------------------------------


def _cached_scores(setting: Setting) -> Scores:
    """Return the scores of a setting under these weights, cached."""
    path = setting.path.with_suffix(f".{_weights()}.scores")
    if not path.exists():
        write_atomic(path, pickle.dumps(vars(_score(setting))))
    return Scores(**pickle.loads(path.read_bytes()))


@cache
def _weights() -> str:
    """Return a digest of the network's weights."""
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in load_net().parameters())).hexdigest()[:8]


def _score(setting: Setting) -> Scores:
    """Return the risks under every context."""
    retrieval = Retrieval(**pickle.loads(setting.path.read_bytes()))
    risks = context_risks(retrieval)
    auprc = {name: float(average_precision_score(retrieval.outcome, risk)) for name, risk in risks.items()}
    print(setting.path.stem, {name: round(value, 4) for name, value in auprc.items()}, flush=True)
    embedding = Retriever.from_state(retrieval.retriever).embedding
    return Scores(risks, auprc, retrieval.outcome, retrieval.patient_ids, int(retrieval.rows.data.outcome.sum()), embedding)


def context_risks(retrieval: Retrieval) -> dict[str, np.ndarray]:
    """Return the risks of the test rows under every context."""
    rows, retriever = retrieval.rows, Retriever.from_state(retrieval.retriever)
    view = EnsembleView(_RULE, np.arange(rows.features.shape[1]), np.arange(0))
    model = InContextModel(load_net(), (view,), rows.features, rows.scores, rows.data.outcome)
    score = np.zeros((len(retrieval.value), 0))

    def risk(context: Context) -> np.ndarray:
        return model.predict(retrieval.value, score, [context])[0]

    (nearest, events, drawn), outcome = retrieval.raw, rows.data.outcome.astype(float)
    (aware,), _ = retriever.contexts(retrieval.inputs, (_RULE,))
    return {
        RANDOM: risk(_context([drawn], outcome)),
        RAW: risk(_context([nearest], outcome)),
        RAW_FLOOR: risk(_context([nearest, events], outcome)),
        AWARE: risk(aware),
    }


def _context(parts: list[tuple[np.ndarray, np.ndarray]], outcome: np.ndarray) -> Context:
    """Return a context of the nearest rows and of those floor events that are further away."""
    (row, sq_distance), rest = parts[0], parts[1:]
    floored = np.zeros(row.shape, dtype=bool)
    for more, further in rest:
        outside = further > sq_distance.max(axis=1, keepdims=True)
        row, sq_distance = np.hstack([row, np.where(outside, more, -1)]), np.hstack([sq_distance, np.where(outside, further, np.inf)])
        floored = np.hstack([floored, outside])
    outcomes = np.where(row >= 0, outcome[row], 0.0)
    return Context(
        row.astype(np.int64), np.zeros(row.shape), outcomes, sq_distance.astype(float), floored, np.zeros(row.shape[1], dtype=np.int64)
    )


# ---- tables -------------------------------------------------------------------------------------------------------------------------


def _by_context(results: list[tuple[Setting, Scores]]) -> pl.DataFrame:
    """Return one row for each training set and context."""
    return pl.DataFrame(
        [
            {"study": setting.study, "task": setting.cohort.name, "level": setting.level, "seed": setting.seed, "events": scores.events}
            | {"context": name, "auprc": auprc, "weights": _weights()}
            for setting, scores in results
            for name, auprc in scores.auprc.items()
        ]
    )


def _gains(results: list[tuple[Setting, Scores]]) -> pl.DataFrame:
    """Return the mean AUPRC over the seeds, and AWARE's minus the others', paired."""
    out = []
    for key in dict.fromkeys((s.study, s.cohort.name, s.level) for s, _ in results):
        runs = [scores for s, scores in results if (s.study, s.cohort.name, s.level) == key]
        mean = {name: float(np.mean([run.auprc[name] for run in runs])) for name in (RANDOM, RAW, RAW_FLOOR, AWARE)}
        risks = {name: [run.risks[name] for run in runs] for name in mean}
        aware = risks.pop(AWARE)
        differences = paired_intervals([run.outcome for run in runs], [run.patient_ids for run in runs], aware, risks)
        out.append(
            dict(zip(("study", "task", "level"), key, strict=True))
            | {"encoders": f"{sum(run.embedding == 'AWARE encoders' for run in runs)} of {len(runs)}"}
            | {"prevalence": float(np.mean([run.outcome.mean() for run in runs]))}
            | mean
            | {"AWARE / raw kNN": mean[AWARE] / mean[RAW], "AWARE / raw kNN, floor": mean[AWARE] / mean[RAW_FLOOR]}
            | {f"AWARE less {name}": signed(interval) for name, interval in differences.items()}
        )
    return pl.DataFrame(out)


if __name__ == "__main__":
    main()
