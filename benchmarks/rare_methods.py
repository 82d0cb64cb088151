"""Adapters of the benchmark: the untouched model, logistic regression, resampling, one-class."""

from __future__ import annotations

from baselines import baselines
from rare_cell import Cell, Method, Scored
from rare_page import LOGISTIC, UNTOUCHED


def _untouched(cell: Cell) -> Scored:
    return Scored(cell.risk(cell.plain), seconds=cell.plain_seconds)


def _logistic(cell: Cell) -> Scored:
    return Scored(baselines()["LogisticRegression"](cell.train, cell.outcome, cell.test))


METHODS: dict[str, Method] = {UNTOUCHED: _untouched, LOGISTIC: _logistic}
