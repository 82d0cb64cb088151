"""Cohorts for judging weights of the in-context network: real ones and made-up probes, fitted once and kept.

Panel, encoders and contexts do not depend on the network, and cost nearly all of a fit. They lie in out/incontext under a digest of the
code that makes them, so that other weights are judged in a minute or two.

Letters: n stored rows, q query rows, d columns, m experts.
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
from unittest.mock import patch

import numpy as np
import polars as pl
import torch

from benchmarks.common.baselines import baselines
from benchmarks.common.cohorts import cohorts, splits
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.neighbors.binary import fit_retriever
from nearward.retrieval.neighbors.voting import Context, Rule
from nearward.risk_model import binary as whole
from nearward.risk_model.in_context import EnsembleView, InContextModel, StoredRows, fit_in_context_model
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.base_learners import fit_base_learners
from nearward.tabular.ensemble.stacking import fit_stack
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.in_context.row_features import RowFeatures, RowFeaturizer, fit_row_featurizer
from nearward.tabular.preprocessing.table_encoder import TableEncoder

Rows = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "out" / "incontext"
MOST_STORED, MOST_ASKED = 10_000, 20_000  # rows of a task that are judged; larger tasks are subsampled
RULE = Rule(128, True, 1.0)  # the first member's context
_MAKERS = {  # files that a kept fit follows from
    "retrieval": ("context", "encoder", "index", "metric", "vote"),
    "tabular": ("calibrate", "cells", "encode", "experts", "folds", "levels", "panel", "schema", "stack", "trees"),
    "benchmarks": ("protocol", "baselines"),
}


@dataclass(frozen=True)
class Task:
    """Rows to fit on and rows to ask about.

    Parameters
    ----------
    name : str
    stored, asked : pl.DataFrame of n and of q rows
    known, outcome : (n,) and (q,), 0 or 1
    group, group_asked : (n,) and (q,), patient numbers
    whole : bool, whether no row was left away
    """

    name: str
    stored: pl.DataFrame
    asked: pl.DataFrame
    known: Rows
    outcome: Rows
    group: Rows
    group_asked: Rows
    whole: bool = True


@dataclass(frozen=True)
class Fitted:
    """All that is said of a task before the network is asked.

    Parameters
    ----------
    rows : StoredRows
    near_stored, near : kept contexts of the n stored rows, in their own shard, and of the q asked ones
    value, score : (q, d), (q, m), of the asked rows
    names : m names of the experts
    stacked, stacked_stored : (q,), (n,), log-odds by the stack without the network; of the stored rows out of fold
    pull : float, that stack's
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
    pull: float
    rivals: dict[str, Rows]
    outcome: Rows
    group: Rows


def fit(task: Task) -> Fitted:
    """Fit panel and encoders as ``nearward.risk_model.binary`` does, or take what was kept."""
    path = KEPT / f"{task.name}.{_code()}.{_content(task)}.pkl"
    if path.exists():
        with path.open("rb") as file:
            return pickle.load(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _fit(task)
    KEPT.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".part").open("wb") as file:
        pickle.dump(found, file)
    path.with_suffix(".part").replace(path)
    return found


def _fit(task: Task) -> Fitted:
    quiet: Callable[[str], None] = lambda words: None  # noqa: E731
    schema, known = Schema.infer(task.stored), task.known
    frame = schema.conform(task.stored)
    group = np.unique(task.group, return_inverse=True)[1]
    fold = split_patients(known, group, 5, 0)
    encoding = TableEncoder.fit(schema, frame)
    rows, new = (whole.columns(encoding, part, ()) for part in (frame, schema.conform(task.asked)))
    data = TrainingData(known, group, fold)
    panel, scores, _ = fit_base_learners(rows, encoding, data, (), 0, quiet)
    retriever, context, head, _ = fit_retriever(rows.dense, data, EncoderConfig(), 0, quiet)
    members = whole._members(scores, context.vote, head, retriever.has_head)
    (found, near), head = retriever.contexts(new.dense, (retriever.rule, RULE))
    asked = whole._members(panel.scores(new)[0], found.vote, head, retriever.has_head)
    stack, out_of_fold, pull = fit_stack(members, data)
    stored = StoredRows(panel.values(rows, fold), members, rows.dense, data)
    (near_stored,) = retriever.out_of_fold(rows.dense, group, (RULE,))
    models = baselines()
    return Fitted(
        stored,
        _slim(near_stored),
        _slim(near),
        panel.values(new),
        asked,
        [*panel.names, "AWARE vote", *(["AWARE head"] if retriever.has_head else [])],
        stack.log_odds(asked),
        out_of_fold,
        pull,
        {n: models[n](task.stored, known, task.asked) for n in ("LogisticRegression", "LightGBM") if n in models},
        task.outcome,
        task.group_asked,
    )


def context(fitted: Fitted) -> Context:
    """Return the contexts of the asked rows."""
    return _context(fitted.near, fitted.rows.data.outcome)


def out_of_fold(net: InContextNet, fitted: Fitted) -> tuple[InContextModel, Rows]:
    """Make the in-context model of one member ready, as a fit does: it, and its risk of the stored rows out of fold (n,)."""
    found = SimpleNamespace(out_of_fold=lambda *_: [_context(fitted.near_stored, fitted.rows.data.outcome)])
    with patch("nearward.risk_model.in_context.load_net", lambda: net):
        embedded, risk, _ = fit_in_context_model(fitted.rows, found, 1, False, 0, lambda words: None)
    assert embedded.rules == (RULE,)
    return embedded, risk


def embed(net: InContextNet, fitted: Fitted) -> InContextModel:
    """Make the in-context model of one member ready, without the out-of-fold risks."""
    way = EnsembleView(RULE, np.arange(fitted.value.shape[1]), np.arange(fitted.score.shape[1]))
    return InContextModel(net, (way,), fitted.rows.value, fitted.rows.score, fitted.rows.data.outcome)


def stacked_with(fitted: Fitted, stored: Rows, asked: Rows) -> Rows:
    """Return the log-odds (q,) of the stack that the in-context model's risks (n,), (q,) have joined."""
    rows = fitted.rows
    stack, _, _ = fit_stack(np.column_stack([rows.score, logit(stored)]), rows.data, (fitted.pull,))
    return stack.log_odds(np.column_stack([fitted.score, logit(asked)]))


def slots_of(fitted: Fitted) -> RowFeaturizer:
    """Return the slots as the first member has them."""
    value, score = (torch.as_tensor(x, dtype=torch.float32)[None] for x in (fitted.rows.value, fitted.rows.score))
    return fit_row_featurizer(
        value, score, torch.ones(1, score.shape[2], dtype=torch.bool), torch.as_tensor(fitted.rows.data.outcome)[None]
    )


def expert_mean(query: RowFeatures) -> torch.Tensor:
    """Return the plain mean of the calibrated experts' log-odds (b, q), the base rate's where there is none."""
    there = query.present[:, None]
    mean = (query.log_odds * there).sum(dim=2) / there.sum(dim=2).clamp(min=1)
    return torch.where(there.any(dim=2), mean, query.log_odds[:, :, 0])


def mean_of_experts(fitted: Fitted) -> Rows:
    """Return the mean calibrated log-odds of the asked rows (q,)."""
    value, score = (torch.as_tensor(x, dtype=torch.float32)[None] for x in (fitted.value, fitted.score))
    return expert_mean(slots_of(fitted).transform(value, score))[0].double().numpy()


@cache
def _code() -> str:
    """Eight letters that change with the code behind a fit."""
    paths = [ROOT / folder / f"{name}.py" for folder, names in _MAKERS.items() for name in names]
    code = [path.read_text(encoding="utf-8") for path in paths]
    code += [inspect.getsource(part) for part in (whole.columns, whole._members, _fit, _slim)]
    code.append(repr(list(Fitted.__annotations__)))
    return hashlib.sha256("".join(code).encode()).hexdigest()[:8]


def _content(task: Task) -> str:
    """Eight letters that change with a task's rows."""
    frames = [part.hash_rows().to_numpy() for part in (task.stored, task.asked)]
    arrays = (*frames, task.known, task.outcome, task.group, task.group_asked)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in arrays)).hexdigest()[:8]


def _slim(context: Context) -> tuple[Rows, ...]:
    """What of a context is worth a place on the disk."""
    return context.row.astype(np.int32), context.squared.astype(np.float32), context.floored, context.shard


def _context(kept: tuple[Rows, ...], known: Rows) -> Context:
    row, squared, floored, shard = kept
    return Context(
        row.astype(np.int64), np.zeros(row.shape), np.where(row >= 0, known[row], 0).astype(float), squared.astype(float), floored, shard
    )


# ---- real cohorts -----------------------------------------------------------------------------------------------------------------


def real(folder: Path) -> Iterator[tuple[str, list[Task]]]:
    """Yield each public task's name and its folds."""
    for cohort in cohorts(folder):
        folds = []
        group = np.arange(len(cohort.outcome)) if cohort.group is None else cohort.group
        for f, (train, test) in enumerate(splits(cohort)):
            stored, asked = subsample(train, test)
            parts = [cohort.features[stored], cohort.features[asked], cohort.outcome[stored], cohort.outcome[asked]]
            folds.append(Task(f"{cohort.name}.{f}", *parts, group[stored], group[asked], len(stored) == len(train)))
        yield cohort.name, folds


def subsample(train: Rows, test: Rows, stored: int = MOST_STORED, asked: int = MOST_ASKED) -> tuple[Rows, Rows]:
    """Where there are more rows to fit on than ``stored``, take so many of them, and at most ``asked`` of the others."""
    if len(train) <= stored:
        return train, test
    draw = np.random.default_rng(0)
    return np.sort(draw.permutation(train)[:stored]), np.sort(draw.permutation(test)[:asked])


# ---- made-up probes ---------------------------------------------------------------------------------------------------------------


def probes(seed: int, stored: int = 2000, asked: int = 1000) -> Iterator[Task]:
    """Yield the probes: cohorts whose outcome hangs on the columns in a way that is known."""
    n = stored + asked
    for name, make in _PROBES.items():
        draw = np.random.default_rng([seed, len(name)])
        frame, risk = make(draw, n)
        y = (draw.random(n) < risk).astype(np.int64)
        who = np.arange(n)
        yield Task(f"{name}.{seed}", frame[:stored], frame[stored:], y[:stored], y[stored:], who[:stored], who[stored:])


def _numbers(draw: np.random.Generator, n: int, d: int) -> tuple[pl.DataFrame, Rows]:
    x = draw.normal(size=(n, d))
    return pl.DataFrame(x, schema=[f"x{j}" for j in range(d)]), x


def _parity(draw: np.random.Generator, n: int, d: int, bits: int) -> tuple[pl.DataFrame, Rows]:
    frame, x = _numbers(draw, n, d)
    return frame, np.where((x[:, :bits] > 0).sum(axis=1) % 2 == 1, 0.95, 0.05)


def _lookup(draw: np.random.Generator, n: int, columns: int, levels: int = 8) -> tuple[pl.DataFrame, Rows]:
    """Every eighth pair of levels of the first two columns is bad, each level in one of its eight pairs: no column alone tells."""
    level = draw.integers(0, levels, (n, columns))
    bad = draw.permutation(levels)[level[:, 0]] == level[:, 1]
    return pl.DataFrame({f"c{j}": [f"level {v}" for v in level[:, j]] for j in range(columns)}), np.where(bad, 0.6, 0.03)


def _sparse(draw: np.random.Generator, n: int, d: int) -> tuple[pl.DataFrame, Rows]:
    frame, x = _numbers(draw, n, d)
    return frame, 1 / (1 + np.exp(3.2 - 1.1 * x[:, :3].sum(axis=1)))


_PROBES: dict[str, Callable[[np.random.Generator, int], tuple[pl.DataFrame, Rows]]] = {
    "XOR of 2 among 10": lambda draw, n: _parity(draw, n, 10, 2),
    "XOR of 2 among 30": lambda draw, n: _parity(draw, n, 30, 2),
    "parity of 3 among 10": lambda draw, n: _parity(draw, n, 10, 3),
    "lookup, 2 of 6 categories": lambda draw, n: _lookup(draw, n, 6),
    "linear, 3 of 50": lambda draw, n: _sparse(draw, n, 50),
}
