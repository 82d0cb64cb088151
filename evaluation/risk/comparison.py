"""Risks side by side on the same rows: each on its own, and the differences from the same draws of patients.

Two intervals that overlap say little about a difference: both risks are judged on the same patients, and what is luck in one is luck in
the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from nearward.evaluation.risk.curves import Curves, draw_curves
from nearward.evaluation.risk.inputs import read_sample
from nearward.evaluation.risk.metrics import Use
from nearward.evaluation.risk.report import RESAMPLES, check_numbers, facts, result_table
from nearward.evaluation.risk.resampled_metrics import Result, as_dict, measure
from nearward.tabular.errors import InputError


@dataclass(frozen=True)
class Comparison:
    """What ``compare_risks`` found.

    Parameters
    ----------
    facts : dict
        Rows, patients, events, and how the numbers were made.
    metrics : name of the risk -> metric's key -> Estimate or why there is none
    differences : name of another risk -> metric's key -> Estimate
        The first risk less this one.
    curves : name of the risk -> Curves
    """

    facts: dict[str, Any]
    metrics: dict[str, dict[str, Result]]
    differences: dict[str, dict[str, Result]]
    curves: dict[str, Curves]

    @property
    def first(self) -> str:
        """The risk that the others are taken from."""
        return next(iter(self.metrics))

    def table(self) -> pl.DataFrame:
        """Metrics of each risk: risk, key, metric, value, low, high, n, why."""
        return pl.concat([result_table(found).insert_column(0, pl.lit(name).alias("risk")) for name, found in self.metrics.items()])

    def difference_table(self) -> pl.DataFrame:
        """Differences, the first risk less each other: less, key, metric, value, low, high, n, why."""
        return pl.concat([result_table(found).insert_column(0, pl.lit(name).alias("less")) for name, found in self.differences.items()])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curves, for JSON."""
        return {
            **self.facts,
            "metrics": {name: as_dict(found) for name, found in self.metrics.items()},
            "differences": {f"{self.first} less {name}": as_dict(found) for name, found in self.differences.items()},
        }

    def to_html(self, path: str | Path) -> None:
        """Write a self-contained page."""
        from nearward.evaluation.html_page import write
        from nearward.evaluation.risk.html_report import comparison_page

        write(comparison_page(self), path)

    def to_json(self, path: str | Path) -> None:
        """Write everything but the curves."""
        from nearward.evaluation.html_page import write_json

        write_json(self.to_dict(), path)


def compare_risks(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    risks: Sequence[str],
    group: str | None = None,
    *,
    positive: Any = None,
    alert_rate: float = 0.05,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Judge several risks of the same rows, and their differences.

    Parameters
    ----------
    frame : n rows
        One row a patient or, with ``group``, a visit.
    outcome : str
        Column with two values.
    risks : names of columns
        Probabilities; the first is the one that the others are compared with.
    group : str, optional
        Column that names the patients.
    positive, alert_rate, threshold, resamples, seed
        See ``evaluate_risk``.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError, MissingColumns, TooFewEvents
        See ``evaluate_risk``; and fewer than two risks, or one twice.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> draw = np.random.default_rng(0)
    >>> risk = draw.random(500)
    >>> frame = pl.DataFrame({"died": draw.random(500) < risk, "ours": risk, "coin": draw.random(500)})
    >>> found = compare_risks(frame, "died", ["ours", "coin"], resamples=200)
    >>> found.differences["coin"]["auroc"].low > 0
    True
    """
    if isinstance(risks, str) or len(risks) < 2 or len(set(risks)) < len(risks):
        raise InputError(f"risks must name two different columns or more, got risks={risks!r}. evaluate_risk judges one alone")
    check_numbers(resamples, seed)
    sample, _ = read_sample(frame, outcome, risks, group, positive)
    use = Use(alert_rate, sample.events / sample.rows if threshold is None else threshold)
    measured = measure([sample], use, resamples, seed)
    return Comparison(
        facts=facts(sample, outcome, group, use, resamples, seed),
        metrics={name: measured.results(name) for name in risks},
        differences={name: measured.gap(risks[0], name) for name in risks[1:]},
        curves={name: draw_curves(sample, name, use, resamples, seed) for name in risks},
    )
