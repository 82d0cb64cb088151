"""Cohorts for the evaluation of in-context weights: real ones and simulated probes, fitted once and cached.

Base learners, encoders and contexts do not depend on the network, and take nearly all of a fit. They are cached in out/in_context under a
digest of the code behind them, so that other weights are scored in a minute or two.

Shapes: n stored rows, q query rows, d columns, m experts.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.common.baselines import baselines
from benchmarks.common.cohorts import cohorts, patients_of, splits
from benchmarks.common.paths import OUT, digest, source_files
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.neighbors.binary import fit_retriever
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting
from nearward.risk_model.fitted import encode_rows, encoder_inputs, stack_column_names, stack_columns
from nearward.risk_model.in_context import EnsembleView, InContextModel, StoredRows
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import fit_base_learners
from nearward.tabular.ensemble.stacking import fit_stack
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.in_context.row_features import RowFeatures, RowFeaturizer, fit_row_featurizer
from nearward.tabular.preprocessing.feature_layout import FeatureLayout
from nearward.tabular.preprocessing.table_encoder import TableEncoder

Rows = np.ndarray[Any, np.dtype[Any]]

CACHE = OUT / "in_context"
MOST_STORED, MOST_QUERIES = 10_000, 20_000  # rows of a task; larger tasks are subsampled
RULE = RetrievalSetting(128, True, 1.0)  # of the first ensemble view
_CODE = (  # behind a cached fit
    *("retrieval/encoders", "retrieval/neighbors", "benchmarks/common"),
    *("tabular/calibration", "tabular/data", "tabular/ensemble", "tabular/preprocessing"),
)


@dataclass(frozen=True)
class Task:
    """Stored rows and query rows.

    Parameters
    ----------
    name : str
    stored, queries : pl.DataFrame of n and of q rows
    stored_outcome, outcome : (n,) and (q,), 0 or 1
    group, query_groups : (n,) and (q,), patient numbers
    complete : bool, False where rows were subsampled
    """

    name: str
    stored: pl.DataFrame
    queries: pl.DataFrame
    stored_outcome: Rows
    outcome: Rows
    group: Rows
    query_groups: Rows
    complete: bool = True


@dataclass(frozen=True)
class Fitted:
    """A fit of a task without the network.

    Parameters
    ----------
    rows : StoredRows
    near_stored, near : compact contexts of the n stored rows, in their own shard, and of the q queries
    value, score : (q, d), (q, m), of the queries
    names : m names of the experts
    stacked, stacked_stored : (q,), (n,), log-odds by the stack without the network; of the stored rows out of fold
    shrinkage : float, that stack's
    rivals : name -> (q,), risks of logistic regression and LightGBM
    outcome, group : (q,)
    """

    rows: StoredRows
    near_stored: tuple[Rows, ...]
    near: tuple[Rows, ...]
    value: Rows
    score: Rows
    names: list[str]
    stacked: Rows
    stacked_stored: Rows
    shrinkage: float
    rivals: dict[str, Rows]
    outcome: Rows
    group: Rows


def fit(task: Task) -> Fitted:
    """Fit base learners and encoders as ``nearward.risk_model.binary`` does; cached."""
    path = CACHE / f"{task.name}.{_code()}.{_content(task)}.pkl"
    if path.exists():
        with path.open("rb") as file:
            return pickle.load(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = _fit(task)
    CACHE.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".part").open("wb") as file:
        pickle.dump(fitted, file)
    path.with_suffix(".part").replace(path)
    return fitted


def _fit(task: Task) -> Fitted:
    quiet: Callable[[str], None] = lambda words: None  # noqa: E731
    schema, outcome = Schema.infer(task.stored), task.stored_outcome
    frame = schema.conform(task.stored)
    patient_ids = np.unique(task.group, return_inverse=True)[1]
    fold = split_patients(outcome, patient_ids, 5, 0)
    encoding = TableEncoder.fit(schema, frame)
    rows, query_columns = (encode_rows(encoding, part, ()) for part in (frame, schema.conform(task.queries)))
    data = TrainingData(outcome, patient_ids, fold)
    base_learners, scores, _ = fit_base_learners(rows, encoding, data, (), 0, quiet)
    inputs, layout = encoder_inputs(encoding, rows), FeatureLayout.from_encoder(encoding)
    retriever, vote, head, _ = fit_retriever(inputs, data, EncoderConfig(), 0, quiet, layout=layout)
    members = stack_columns(scores, vote, head, retriever.has_head)
    (nearest, near), head = retriever.contexts(encoder_inputs(encoding, query_columns), (retriever.setting, RULE))
    query_scores = stack_columns(base_learners.scores(query_columns)[0], nearest.vote, head, retriever.has_head)
    stack, out_of_fold, shrinkage = fit_stack(members, data)
    stored = StoredRows(base_learners.features(rows, fold), members, inputs, data)
    (near_stored,) = retriever.out_of_fold_contexts(inputs, patient_ids, (RULE,))
    models = baselines()
    return Fitted(
        stored,
        _slim(near_stored),
        _slim(near),
        base_learners.features(query_columns),
        query_scores,
        stack_column_names(base_learners, retriever.has_head),
        stack.log_odds(query_scores),
        out_of_fold,
        shrinkage,
        {n: models[n](task.stored, outcome, task.queries) for n in ("LogisticRegression", "LightGBM") if n in models},
        task.outcome,
        task.query_groups,
    )


def context(fitted: Fitted) -> Context:
    """Return the contexts of the queries."""
    return _context(fitted.near, fitted.rows.data.outcome)


def out_of_fold(net: InContextNet, fitted: Fitted) -> tuple[InContextModel, Rows]:
    """Return the in-context model of one view as a fit prepares it, and its out-of-fold risk of the stored rows (n,)."""
    near = _context(fitted.near_stored, fitted.rows.data.outcome)
    retriever = SimpleNamespace(out_of_fold_contexts=lambda inputs, patient_ids, settings, rows: [near.take(rows)])
    return embed(net, fitted).refitted(fitted.rows, retriever)


def embed(net: InContextNet, fitted: Fitted) -> InContextModel:
    """Return the in-context model of one view, without out-of-fold risks."""
    view = EnsembleView(RULE, np.arange(fitted.value.shape[1]), np.arange(fitted.score.shape[1]))
    return InContextModel(net, (view,), fitted.rows.features, fitted.rows.scores, fitted.rows.data.outcome)


def stacked_with(fitted: Fitted, stored_risk: Rows, query_risk: Rows) -> Rows:
    """Return the log-odds (q,) of the stack with the in-context model's risks (n,), (q,) added."""
    rows = fitted.rows
    stack, _, _ = fit_stack(np.column_stack([rows.scores, logit(stored_risk)]), rows.data, (fitted.shrinkage,))
    return stack.log_odds(np.column_stack([fitted.score, logit(query_risk)]))


def slots_of(fitted: Fitted) -> RowFeaturizer:
    """Return the row featurizer of the first view."""
    value, score = (torch.as_tensor(x, dtype=torch.float32)[None] for x in (fitted.rows.features, fitted.rows.scores))
    return fit_row_featurizer(
        value, score, torch.ones(1, score.shape[2], dtype=torch.bool), torch.as_tensor(fitted.rows.data.outcome)[None]
    )


def expert_mean(query: RowFeatures) -> torch.Tensor:
    """Return the plain mean of the calibrated experts' log-odds (b, q), the base rate's where there is none."""
    present = query.present[:, None]
    mean = (query.log_odds * present).sum(dim=2) / present.sum(dim=2).clamp(min=1)
    return torch.where(present.any(dim=2), mean, query.log_odds[:, :, 0])


def mean_of_experts(fitted: Fitted) -> Rows:
    """Return the mean calibrated log-odds of the queries (q,)."""
    value, score = (torch.as_tensor(x, dtype=torch.float32)[None] for x in (fitted.value, fitted.score))
    return expert_mean(slots_of(fitted).transform(value, score))[0].double().numpy()


@cache
def _code() -> str:
    """Return a digest of the code behind a fit."""
    functions = [inspect.getsource(part) for part in (encode_rows, stack_columns, _fit, _slim)]
    return digest(source_files(*_CODE), *functions, repr(list(Fitted.__annotations__)))


def _content(task: Task) -> str:
    """Return a digest of a task's rows."""
    frames = [part.hash_rows().to_numpy() for part in (task.stored, task.queries)]
    arrays = (*frames, task.stored_outcome, task.outcome, task.group, task.query_groups)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in arrays)).hexdigest()[:8]


def _slim(context: Context) -> tuple[Rows, ...]:
    """Return the parts of a context that are cached."""
    return context.row.astype(np.int32), context.sq_distance.astype(np.float32), context.floored, context.shard


def _context(arrays: tuple[Rows, ...], outcome: Rows) -> Context:
    row, sq_distance, floored, shard = arrays
    return Context(
        row.astype(np.int64),
        np.zeros(row.shape),
        np.where(row >= 0, outcome[row], 0).astype(float),
        sq_distance.astype(float),
        floored,
        shard,
    )


# ---- real cohorts -----------------------------------------------------------------------------------------------------------------


def real(folder: Path) -> Iterator[tuple[str, list[Task]]]:
    """Yield each public task's name and its folds."""
    for cohort in cohorts(folder):
        folds = []
        patient_ids = patients_of(cohort)
        for f, (train, test) in enumerate(splits(cohort)):
            stored, queries = subsample(train, test)
            parts = [cohort.features[stored], cohort.features[queries], cohort.outcome[stored], cohort.outcome[queries]]
            folds.append(Task(f"{cohort.name}.{f}", *parts, patient_ids[stored], patient_ids[queries], len(stored) == len(train)))
        yield cohort.name, folds


def subsample(train: Rows, test: Rows, most_train: int = MOST_STORED, most_test: int = MOST_QUERIES) -> tuple[Rows, Rows]:
    """Subsample the training rows where they are more than ``most_train``, and then the test rows to ``most_test``."""
    if len(train) <= most_train:
        return train, test
    rng = np.random.default_rng(0)
    return np.sort(rng.permutation(train)[:most_train]), np.sort(rng.permutation(test)[:most_test])


# ---- simulated probes -------------------------------------------------------------------------------------------------------------


def probes(seed: int, stored: int = 2000, queries: int = 1000) -> Iterator[Task]:
    """Yield the probes: cohorts with a known dependence of the outcome on the columns."""
    n = stored + queries
    for name, make in _PROBES.items():
        rng = np.random.default_rng([seed, len(name)])
        frame, risk = make(rng, n)
        y = (rng.random(n) < risk).astype(np.int64)
        patient_ids = np.arange(n)
        yield Task(f"{name}.{seed}", frame[:stored], frame[stored:], y[:stored], y[stored:], patient_ids[:stored], patient_ids[stored:])


def _numbers(rng: np.random.Generator, n: int, d: int) -> tuple[pl.DataFrame, Rows]:
    x = rng.normal(size=(n, d))
    return pl.DataFrame(x, schema=[f"x{j}" for j in range(d)]), x


def _parity(rng: np.random.Generator, n: int, d: int, bits: int) -> tuple[pl.DataFrame, Rows]:
    frame, x = _numbers(rng, n, d)
    return frame, np.where((x[:, :bits] > 0).sum(axis=1) % 2 == 1, 0.95, 0.05)


def _lookup(rng: np.random.Generator, n: int, columns: int, levels: int = 8) -> tuple[pl.DataFrame, Rows]:
    """Every eighth pair of values of the first two columns has a high risk; no column alone is informative."""
    level = rng.integers(0, levels, (n, columns))
    bad = rng.permutation(levels)[level[:, 0]] == level[:, 1]
    return pl.DataFrame({f"c{j}": [f"level {v}" for v in level[:, j]] for j in range(columns)}), np.where(bad, 0.6, 0.03)


def _sparse(rng: np.random.Generator, n: int, d: int) -> tuple[pl.DataFrame, Rows]:
    frame, x = _numbers(rng, n, d)
    return frame, 1 / (1 + np.exp(3.2 - 1.1 * x[:, :3].sum(axis=1)))


_PROBES: dict[str, Callable[[np.random.Generator, int], tuple[pl.DataFrame, Rows]]] = {
    "XOR of 2 among 10": lambda rng, n: _parity(rng, n, 10, 2),
    "XOR of 2 among 30": lambda rng, n: _parity(rng, n, 30, 2),
    "parity of 3 among 10": lambda rng, n: _parity(rng, n, 10, 3),
    "lookup, 2 of 6 categories": lambda rng, n: _lookup(rng, n, 6),
    "linear, 3 of 50": lambda rng, n: _sparse(rng, n, 50),
}
