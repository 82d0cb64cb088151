"""A, adherence: how often the synthetic rows break rules that real rows keep, between the holdout and independent columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import BlockBootstrap, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_series, wilson
from nearward.evaluation.synthetic.fidelity import independent_columns
from nearward.evaluation.tables.inputs import Tables
from nearward.tabular.rules.mining import mine
from nearward.tabular.rules.rules import Rules

_LEAST = 0.01  # a mean violation rate of 1 %, what the rules themselves are allowed


@dataclass(frozen=True)
class Adherence:
    """How the synthetic rows keep the rules.

    Parameters
    ----------
    score : Estimate or None
        1 where they break rules no more often than the holdout, 0 where as often as independent columns; None without any rule.
    rules : Rules
        Those mined on train, and the user's.
    rates : pl.DataFrame
        Per rule the share of rows that break it, in holdout, synthetic and independent columns, worst first.
    """

    score: Estimate | None
    rules: Rules
    rates: pl.DataFrame


def adherence(tables: Tables, user: Rules | None, seed: int) -> Adherence:
    """Mine rules on train, add the user's, and count who breaks them.

    Raises
    ------
    MissingColumns
        A user's rule reads a column that the tables lack.
    """
    rules = mine(tables.train, seed, tables.train_patient_ids) + (user or Rules())
    frames = [tables.holdout, tables.synthetic, independent_columns(tables.train, seed + 1)]
    broken = [rules.violations(frame) for frame in frames]
    names = ("holdout", "synthetic", "independent columns")
    rates = {
        name: estimate_series(name, [wilson(int(b[:, j].sum()), len(b)) for j in range(len(rules))])
        for name, b in zip(names, broken, strict=True)
    }
    listed = pl.DataFrame(
        {
            "rule": [str(rule) for rule in rules],
            "kind": [rule.kind for rule in rules],
            "source": [rule.evidence.source for rule in rules],
            **rates,
        }
    )
    if not len(rules):
        return Adherence(None, rules, listed)
    order = np.argsort(-broken[1].mean(axis=0), kind="stable")
    patients = [tables.holdout_patient_ids, np.arange(len(broken[1])), np.arange(len(broken[2]))]
    blocks = [BlockBootstrap.with_replacement(patient, seed + 2 + i) for i, patient in enumerate(patients)]
    each = [b.mean(axis=1) for b in broken]  # (n,), share of the rules that a row breaks
    real, made, shuffled = (float(one.mean()) for one in each)
    value = 1 - (made - real) / max(shuffled - real, _LEAST)
    drawn = [block.means(one) for block, one in zip(blocks, each, strict=True)]
    draws = 1 - (drawn[1] - drawn[0]) / np.maximum(drawn[2] - drawn[0], _LEAST)
    return Adherence(percentile_interval(value, draws, len(broken[1])), rules, listed[order])
