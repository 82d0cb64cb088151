"""Comparison of several risks on the same rows: each alone, and paired differences over the same resamples of patients.

Two intervals that overlap say little about a difference: both risks are evaluated on the same patients, and chance moves both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk.curves import compute_curves
from nearward.evaluation.risk.inputs import read_risk_sample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.report import RESAMPLES, check_numbers, evaluation_facts
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.risk.results import ComparisonResults
from nearward.tabular.errors import InputError


class Comparison(ComparisonResults):
    """Results of ``compare_risks``, with a page and JSON; its fields are those of ``ComparisonResults``."""

    def to_html(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write a self-contained page."""
        from nearward.evaluation.html_page import write_html
        from nearward.evaluation.risk.html_report import comparison_page

        write_html(comparison_page(self, provenance), path)

    def to_json(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write everything but the curves."""
        from nearward.evaluation.html_page import write_json

        write_json(self.to_dict() | {"provenance": (provenance or Provenance.now()).to_dict()}, path)


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
    """Evaluate several risks of the same rows, and their differences.

    Parameters
    ----------
    frame : n rows
        One row a patient or, with ``group``, a visit.
    outcome : str
        Column with two values.
    risks : names of columns
        Probabilities; each other risk is subtracted from the first.
    group : str, optional
        Column of patient identifiers.
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
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.random(500)
    >>> frame = pl.DataFrame({"died": rng.random(500) < risk, "ours": risk, "coin": rng.random(500)})
    >>> comparison = compare_risks(frame, "died", ["ours", "coin"], resamples=200)
    >>> comparison.differences["coin"]["auroc"].low > 0
    True
    """
    if isinstance(risks, str) or len(risks) < 2 or len(set(risks)) < len(risks):
        raise InputError(f"risks must name two different columns or more, got risks={risks!r}. For one risk, use evaluate_risk")
    check_numbers(resamples, seed)
    sample, _ = read_risk_sample(frame, outcome, risks, group, positive)
    operating_point = OperatingPoint(alert_rate, sample.event_rate if threshold is None else threshold)
    metrics = bootstrap_metrics([sample], operating_point, resamples, seed)
    return Comparison(
        facts=evaluation_facts(sample, outcome, group, operating_point, resamples, seed),
        metrics={name: metrics.results(name) for name in risks},
        differences={name: metrics.difference(risks[0], name) for name in risks[1:]},
        curves={name: compute_curves(sample, name, operating_point, resamples, seed) for name in risks},
    )
