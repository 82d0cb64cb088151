"""A, adherence: rule violations of the synthetic rows, on a scale from the holdout (1) to independent columns (0)."""

from __future__ import annotations

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import BlockBootstrap, percentile_interval
from nearward.evaluation.stats.confidence import estimate_series, wilson
from nearward.evaluation.synthetic.fidelity import independent_columns
from nearward.evaluation.synthetic.results import Adherence
from nearward.evaluation.tables.inputs import Tables
from nearward.tabular.rules.mining import mine
from nearward.tabular.rules.rules import Rules

_MIN_RANGE = 0.01  # a mean violation rate of 1 %, which mined rules may have


def adherence(tables: Tables, user_rules: Rules | None, seed: int) -> Adherence:
    """Mine rules on train, add the user's, and count violations.

    Raises
    ------
    MissingColumns
        A user's rule has a column that the tables lack.
    """
    rules = mine(tables.train, seed, tables.train_patient_ids) + (user_rules or Rules())
    frames = [tables.holdout, tables.synthetic, independent_columns(tables.train, seed + 1)]
    violations = [rules.violations(frame) for frame in frames]  # (n, rules)
    names = ("holdout", "synthetic", "independent columns")
    rates = {
        name: estimate_series(name, [wilson(int(v[:, j].sum()), len(v)) for j in range(len(rules))])
        for name, v in zip(names, violations, strict=True)
    }
    table = pl.DataFrame(
        {
            "rule": [str(rule) for rule in rules],
            "kind": [rule.kind for rule in rules],
            "source": [rule.evidence.source for rule in rules],
            **rates,
        }
    )
    if not len(rules):
        return Adherence(None, rules, table)
    row_rates = [v.mean(axis=1) for v in violations]  # (n,), share of the rules that a row violates
    real, synthetic, independent = (float(rate.mean()) for rate in row_rates)
    value = 1 - (synthetic - real) / max(independent - real, _MIN_RANGE)
    patient_ids = [tables.holdout_patient_ids, *(np.arange(len(v)) for v in violations[1:])]
    blocks = [BlockBootstrap.with_replacement(ids, seed + 2 + i) for i, ids in enumerate(patient_ids)]
    resampled = [block.means(rate) for block, rate in zip(blocks, row_rates, strict=True)]
    values = 1 - (resampled[1] - resampled[0]) / np.maximum(resampled[2] - resampled[0], _MIN_RANGE)
    worst_first = np.argsort(-violations[1].mean(axis=0), kind="stable")
    return Adherence(percentile_interval(value, values, len(violations[1])), rules, table[worst_first])
