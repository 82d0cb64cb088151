"""Contributions of columns to the risks of rows: Shapley values over the values of each row's similar patients, or of the cohort.

Shapes: n stored rows, q query rows, d columns, c classes (1 where the outcome has two values).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import polars as pl

from nearward.explanation.cell_text import cell_text
from nearward.explanation.shapley import ShapleyValues, shapley_values
from nearward.retrieval.neighbors.voting import Context
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.validation import validate_integers
from nearward.tabular.errors import InputError
from nearward.tabular.typing import Floats, Ints

Reference = Literal["similar", "cohort"]

PERMUTATIONS = 64
LOG_ODDS_FLOOR = 1e-9  # of probabilities, which must keep their log-odds however rare the outcome is
BASE_RATE = "(base rate)"
REFERENCE_ROWS: dict[str, str] = {"similar": "(similar patients)", "cohort": "(cohort)"}
_COLUMNS = ("class", "column", "value", "contribution", "se")


def explain_rows(
    log_odds: Callable[[pl.DataFrame], Floats],
    base_rates: Floats,
    context: Callable[[pl.DataFrame], Context],
    stored: pl.DataFrame,
    outcome: Floats,
    rows: pl.DataFrame,
    ids: pl.Series,
    *,
    reference: Reference,
    permutations: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Return the explanation of each row, as ``RiskClassifier.explain`` describes it, with the index of each ``class``.

    Parameters
    ----------
    log_odds : of conformed rows, (q, c)
    base_rates : (c,), probability
    context : similar patients of conformed rows, whose ``row`` numbers the stored rows
    stored : n rows, the columns of ``rows``
    outcome : (n,), 0 or 1, or class indices
    rows : conformed, q rows
    ids : (q,)
    reference, permutations, seed, progress : see ``RiskClassifier.explain``
    """
    if reference not in get_args(Reference):
        raise InputError(f"reference must be one of {list(get_args(Reference))}, got reference={reference!r}")
    validate_integers(4, permutations=permutations)
    if permutations % 2:
        raise InputError(f"permutations must be even, since they come in antithetic pairs; got permutations={permutations}")
    validate_integers(0, seed=seed)
    tables = []
    for i in range(rows.height):
        rng = np.random.default_rng(seed)
        row = rows[i : i + 1]
        similar = context(row) if reference == "similar" else None
        members, weight = (np.arange(stored.height), np.ones(stored.height)) if similar is None else (similar.row[0], similar.weight[0])
        donors = _draw_donors(members, weight, outcome, permutations // 2, rng)
        table = _table(
            shapley_values(log_odds, row, stored[donors], rng), row, logit(base_rates, LOG_ODDS_FLOOR), REFERENCE_ROWS[reference]
        )
        tables.append(table.select(_id_column(ids, i, table.height), pl.all()))
        if progress is not None:
            progress(1)
    return pl.concat(tables)


def _draw_donors(members: Ints, weight: Floats, outcome: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Draw stored rows (count,) by their weights, systematically in the order of their outcomes.

    Each outcome then has its share of the draws, up to one. That lowers the variance, so that the standard errors, those of independent
    draws, are upper bounds.
    """
    members, weight = members[weight > 0], weight[weight > 0]
    order = np.lexsort((rng.random(len(members)), outcome[members]))
    upto = np.cumsum(weight[order]) / weight.sum()
    points = (rng.random() + np.arange(count)) / count
    return np.asarray(members[order][np.minimum(np.searchsorted(upto, points, side="right"), len(members) - 1)])


def _id_column(ids: pl.Series, i: int, height: int) -> pl.Series:
    name = "row_id" if ids.name in _COLUMNS else ids.name
    return ids.new_from_index(i, height).alias(name)


def _table(values: ShapleyValues, row: pl.DataFrame, base: Floats, reference: str) -> pl.DataFrame:
    """Return one row's explanation for each class: base rate, reference patients, and columns by descending contribution."""
    names, texts = np.array(row.columns), [cell_text(value) for value in row.row(0)]
    parts = []
    for c, base_log_odds in enumerate(base.tolist()):
        order = np.argsort(-np.abs(values.value[:, c]), kind="stable")
        parts.append(
            pl.DataFrame(
                {
                    "class": pl.Series([c] * (2 + len(order)), dtype=pl.Int64),
                    "column": [BASE_RATE, reference, *names[order].tolist()],
                    "value": pl.Series([None, None, *(texts[j] for j in order)], dtype=pl.String),
                    "contribution": [base_log_odds, values.reference[c] - base_log_odds, *values.value[order, c].tolist()],
                    "se": [0.0, values.reference_se[c], *values.se[order, c].tolist()],
                }
            )
        )
    return pl.concat(parts)
