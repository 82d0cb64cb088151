"""Invariances of an in-context risk, and inputs that it must survive: checks for benchmarks/in_context/run.py.

Shapes: n stored rows, q query rows, d columns, m experts, c context rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from benchmarks.in_context.probes import Fitted, Rows, context, embed, slots_of
from nearward.retrieval.neighbors.voting import Context
from nearward.tabular.in_context.inference import QueryBatch
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.in_context.row_features import RowFeatures

Finding = tuple[str, float, float]  # case, value, upper limit
Table = tuple[Rows, Rows, Rows, Rows]  # columns and scores of the stored rows, and of the queries

_ROUNDING, _RISK, _IDENTITY = 1e-4, 1e-4, 1e-6
_TWIN = 0.01  # mean change of the risk where a column or an expert is duplicated: some change is expected


def sameness(net: InContextNet, fitted: Fitted) -> Iterator[Finding]:
    """Measure the change of log-odds or risks under permutations and duplicates."""
    rows, near = fitted.rows, context(fitted)
    rng = np.random.default_rng(0)
    n, (q, c), (d, m) = len(rows.data.outcome), near.row.shape, (rows.features.shape[1], rows.scores.shape[1])

    questions = _questions(net, fitted, near)
    order = torch.as_tensor(np.argsort(rng.random((q, c)), axis=1))
    reordered = replace(
        questions, **{name: getattr(questions, name).gather(1, order) for name in ("row", "sq_distance", "mask", "floored")}
    )
    exact = copy.deepcopy(net).double()
    yield "order of the context: log-odds, single precision", _furthest(_log_odds(net, questions), _log_odds(net, reordered)), _ROUNDING
    in_double = _furthest(_log_odds(exact, _double(questions)), _log_odds(exact, _double(reordered)))
    yield "order of the context: log-odds, double precision", in_double, 1e-6

    plain = _risk(net, fitted, near)
    permutation = rng.permutation(n)
    stored = replace(
        rows,
        features=rows.features[permutation],
        scores=rows.scores[permutation],
        data=replace(rows.data, outcome=rows.data.outcome[permutation]),
    )
    other = replace(near, row=np.where(near.row >= 0, np.argsort(permutation)[near.row], -1))
    yield "order of the stored rows: risk", _furthest(plain, _risk(net, replace(fitted, rows=stored), other)), _RISK

    def changes(columns: Rows, experts: Rows) -> Rows:
        table = rows.features[:, columns], rows.scores[:, experts], fitted.value[:, columns], fitted.score[:, experts]
        return np.abs(_risk(net, _with(fitted, table), near) - plain)

    every, all_experts = np.arange(d), np.arange(m)
    yield "order of the columns: risk", float(changes(rng.permutation(d), all_experts).max()), _RISK
    yield "order of the experts: risk", float(changes(every, rng.permutation(m)).max()), _RISK
    column, expert = (int(part[0, 0]) for part in (slots_of(fitted).column, slots_of(fitted).expert))
    yield "best column twice: risk, mean", float(changes(np.append(every, column), all_experts).mean()), _TWIN
    yield "best expert twice: risk, mean", float(changes(every, np.append(all_experts, expert)).mean()), _TWIN


def dirt(net: InContextNet, fitted: Fitted) -> Iterator[Finding]:
    """Count non-finite risks, check that the risk is the weighted vote, and that uninformative columns change nothing."""
    near = context(fitted)
    plain = _risk(net, fitted, near)
    for case, table in _dirty(fitted).items():
        dirty = _with(fitted, table)
        questions = _questions(net, dirty, near)
        with torch.inference_mode():
            vote = questions.forward(net, slice(None))
        known = questions.outcome[questions.row]
        event, other = ((known == y) & questions.mask for y in (1, 0))
        both = (event.any(dim=1) & other.any(dim=1)).numpy()
        risk = vote.log_odds[:, 0].double().sigmoid().numpy()
        weighed = (vote.weight[:, 0].double() * event).sum(dim=1).numpy()
        yield f"{case}: risks that are not finite", float((~np.isfinite(risk)).sum()), 0.0
        yield f"{case}: risk minus weighted outcomes", _furthest(risk[both], weighed[both]), _IDENTITY
        if case in ("constant column added", "all-missing column added", "every column 1e12 times"):
            yield f"{case}: change of the risk", _furthest(plain, _risk(net, dirty, near)), _RISK


def _dirty(fitted: Fitted) -> dict[str, Table]:
    rng = np.random.default_rng(0)
    (x, s), (x_new, s_new) = (fitted.rows.features, fitted.rows.scores), (fitted.value, fitted.score)

    def holes(part: Rows) -> Rows:
        return np.where(rng.random(part.shape) < 0.3, np.nan, part)

    def added(make: Callable[[int], Rows]) -> Table:
        return np.column_stack([x, make(len(x))]), s, np.column_stack([x_new, make(len(x_new))]), s_new

    return {
        "clean": (x, s, x_new, s_new),
        "cells missing, 30 %": (holes(x), s, holes(x_new), s_new),
        "constant column added": added(np.ones),
        "all-missing column added": added(lambda rows: np.full(rows, np.nan)),
        "huge column added, 1e12 · noise": added(lambda rows: 1e12 * rng.normal(size=rows)),
        "huge column added, 1e12 + noise": added(lambda rows: 1e12 + rng.normal(size=rows)),
        "every column 1e12 times": (x * 1e12, s, x_new * 1e12, s_new),
        "no columns": (x[:, :0], s, x_new[:, :0], s_new),
        "no experts": (x, s[:, :0], x_new, s_new[:, :0]),
        "neither columns nor experts": (x[:, :0], s[:, :0], x_new[:, :0], s_new[:, :0]),
    }


def _with(fitted: Fitted, table: Table) -> Fitted:
    stored, scores, value, score = table
    return replace(fitted, rows=replace(fitted.rows, features=stored, scores=scores), value=value, score=score)


def _risk(net: InContextNet, fitted: Fitted, near: Context) -> Rows:
    return embed(net, fitted).predict(fitted.value, fitted.score, [near])[0]


def _questions(net: InContextNet, fitted: Fitted, near: Context) -> QueryBatch:
    (questions,) = embed(net, fitted).query_batches(fitted.value, fitted.score, [near])
    return questions


def _log_odds(net: InContextNet, questions: QueryBatch) -> Rows:
    with torch.inference_mode():
        return questions.forward(net, slice(None)).log_odds[:, 0].double().numpy()


def _double(questions: QueryBatch) -> QueryBatch:
    query = RowFeatures(
        questions.query.features.double(), questions.query.log_odds.double(), questions.query.inputs.double(), questions.query.present
    )
    return replace(questions, query=query, token=questions.token.double(), sq_distance=questions.sq_distance.double())


def _furthest(a: Rows, b: Rows) -> float:
    return float(np.abs(a - b).max()) if len(a) else 0.0
