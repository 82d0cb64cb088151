"""Evaluation of a risk: every metric with its interval, curves, subgroups and event-count strata, in one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk.curves import compute_curves
from nearward.evaluation.risk.inputs import RiskSample, read_risk_sample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics, calibration_error_by_chance
from nearward.evaluation.risk.results import EvaluationFacts, RiskResults
from nearward.evaluation.risk.site_leakage import source_leak
from nearward.evaluation.risk.sites import evaluate_sites, site_names
from nearward.evaluation.risk.subgroups import calendar_periods, evaluate_subgroups, event_strata, suppress_in_columns
from nearward.evaluation.risk.thresholds import check_targets, evaluate_thresholds
from nearward.evaluation.stats.logistic_recalibration import EDGE
from nearward.tabular.data.validation import validate_integers
from nearward.tabular.errors import InputError

RESAMPLES = 1000
_FEW_EVENTS = 50
_MIN_RESAMPLES = 100


class RiskReport(RiskResults):
    """Results of ``evaluate_risk``, with a page and JSON; its fields are those of ``RiskResults``."""

    def to_html(
        self, path: str | Path, similar: pl.DataFrame | None = None, about_similar: str = "", provenance: Provenance | None = None
    ) -> None:
        """Write a self-contained page.

        Parameters
        ----------
        path : path
            Written atomically, readable by its owner alone (0600).
        similar : pl.DataFrame, optional
            Similar patients of one patient, shown as they are; the page then contains patients' data.
        about_similar : str
            Caption of this table.
        provenance : Provenance, optional
            What the foot of the page says about its origin; by default the time and the versions.
        """
        from nearward.evaluation.html_page import write_html
        from nearward.evaluation.risk.html_report import risk_report_page

        write_html(risk_report_page(self, similar, about_similar, provenance), path)

    def to_json(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write everything that the page shows, keyed by TRIPOD+AI item; items that only the authors can fill are null."""
        from nearward.evaluation.html_page import write_json
        from nearward.evaluation.risk.tripod_json import tripod

        write_json(tripod(self, provenance), path)


def evaluate_risk(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    risk: str,
    group: str | None = None,
    subgroups: Sequence[str] = (),
    *,
    strata: Sequence[str] = (),
    site: str | None = None,
    time: str | None = None,
    positive: Any = None,
    alert_rate: float = 0.05,
    threshold: float | None = None,
    thresholds: Sequence[float] = (),
    sensitivities: Sequence[float] = (),
    alert_rates: Sequence[float] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RiskReport:
    """Evaluate a risk on rows that it was not fitted on.

    Parameters
    ----------
    frame : n rows
        One row a patient or, with ``group``, a visit.
    outcome : str
        Column with two values.
    risk : str
        Column of probabilities in [0, 1].
    group : str, optional
        Column of patient identifiers, where patients have several rows: all rows of a patient are resampled together.
    subgroups : names of columns with at most 30 values
        The same metrics within each value; suppressed where fewer than 10 rows, events or rows without are.
    strata : names of columns
        Of sites or diagnoses for instance: the same metrics for those with 0 to 9, 10 to 29, … events.
    site : str, optional
        Column of the site or the source file. The same metrics at each site, pooled over sites by random effects, with a prediction
        interval for the next site (``evaluation/risk/sites.py``); and a check for a source leak (``evaluation/risk/site_leakage.py``) by
        all columns that are not named here as outcome, risk or patient.
    time : str, optional
        Column of the dates or times at which the risks were predicted: the same metrics in each month, quarter or year, whichever has
        enough events.
    positive : value, optional
        The outcome's value that is the event; by default the greater of the two.
    alert_rate : float
        Share of rows that can be alerted: .05 is 5 alerts per 100 patients.
    threshold : float, optional
        Decision threshold; by default the event rate of these rows, where alerting all has the same net benefit as alerting none.
    thresholds : in (0, 1)
        Rows of the threshold table: sensitivity, specificity, PPV, NPV, alerts per 100, number needed to evaluate and net benefit
        of alerting every row whose risk is at least this.
    sensitivities : in (0, 1)
        The same at the greatest threshold that reaches each sensitivity.
    alert_rates : in (0, 1)
        The same at the least threshold that alerts at most each share of the rows. Where none of the three is named, the table has
        the decision threshold and ``alert_rate``.
    resamples : int, at least 100
    seed : int

    Returns
    -------
    RiskReport

    Raises
    ------
    MissingColumns, InputError
        Missing columns, or columns that cannot be evaluated; the message says why.
    TooFewEvents
        Fewer than 10 events.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> rng = np.random.default_rng(0)
    >>> risk = rng.random(500) * 0.5
    >>> report = evaluate_risk(pl.DataFrame({"died": rng.random(500) < risk, "risk": risk}), "died", "risk", resamples=200)
    >>> print(report["auroc"])
    0.727 (0.676 to 0.773)
    """
    named = [name for name in (outcome, risk, group) if name is not None]
    for parameter, columns in (("subgroups", subgroups), ("strata", strata)):
        if isinstance(columns, str):
            raise InputError(f'{parameter} must be a list of columns, got {parameter}={columns!r}. Write ["{columns}"]')
        if set(columns) & {outcome, risk}:
            raise InputError(f"{parameter} {sorted(set(columns) & set(named))} are the outcome or the risk itself: name other columns")
    check_numbers(resamples, seed)
    check_targets(thresholds=thresholds, sensitivities=sensitivities, alert_rates=alert_rates)
    also = [*subgroups, *strata, *(name for name in (site, time) if name is not None)]
    sample, columns_of_interest = read_risk_sample(frame, outcome, [risk], group, positive, also)
    operating_point = OperatingPoint(alert_rate, sample.event_rate if threshold is None else threshold)
    settings = (operating_point, resamples, seed)
    if not (len(thresholds) or len(sensitivities) or len(alert_rates)):
        thresholds, alert_rates = [operating_point.threshold], [operating_point.alert_rate]
    source = None
    if site is not None:
        names = frame.collect_schema().names()
        features = [name for name in names if name not in (*named, site, time)] or [risk]  # the risk alone may reveal the site
        source = source_leak(frame, outcome, site, group, features=features, positive=positive, seed=seed)
    divided_by = [columns_of_interest[name] for name in subgroups]
    divided_by += [event_strata(columns_of_interest[name], sample) for name in strata]
    divided_by += [] if time is None else [calendar_periods(columns_of_interest[time], sample)]
    sites = [] if site is None else [site_names(columns_of_interest[site])]
    suppression = suppress_in_columns(sample, [*divided_by, *sites])
    if source is not None:
        source = source.withhold(sites[0].unique().sort().to_list(), *suppression[-1])
    parts = [evaluate_subgroups(sample, column, *settings, one) for column, one in zip(divided_by, suppression, strict=False)]
    ends = len(subgroups), len(subgroups) + len(strata)
    in_subgroups, in_strata, in_periods = parts[: ends[0]], parts[ends[0] : ends[1]], parts[ends[1] :]
    return RiskReport(
        facts=evaluation_facts(sample, outcome, group, *settings),
        risk=risk,
        metrics=bootstrap_metrics([sample], *settings).results(risk),
        ece_by_chance=calibration_error_by_chance(sample.risks[risk], seed),
        curves=compute_curves(sample, risk, *settings),
        subgroups=tuple(subgroup for column in in_subgroups for subgroup in column),
        strata=tuple(stratum for column in in_strata for stratum in column),
        periods=tuple(period for column in in_periods for period in column),
        thresholds=evaluate_thresholds(sample, thresholds, sensitivities, alert_rates, resamples, seed),
        source=source,
        sites=None if site is None else evaluate_sites(sample, sites[0], *settings, suppression[-1]),
        notes=_notes(sample, risk, group),
    )


def check_numbers(resamples: int, seed: int) -> None:
    """Raise ``InputError`` on a number of resamples or a seed that resampling cannot use."""
    validate_integers(_MIN_RESAMPLES, resamples=resamples)
    validate_integers(0, seed=seed)


def evaluation_facts(
    sample: RiskSample, outcome: str, group: str | None, operating_point: OperatingPoint, resamples: int, seed: int
) -> EvaluationFacts:
    """Return the facts that reports and comparisons share."""
    alert_rate, threshold = float(operating_point.alert_rate), float(operating_point.threshold)
    counts = (sample.rows, sample.patients, sample.events)
    return EvaluationFacts(outcome, group, *counts, alert_rate, threshold, int(resamples), int(seed), sample.event)


def _notes(sample: RiskSample, risk: str, group: str | None) -> tuple[str, ...]:
    notes = []
    if sample.independent < _FEW_EVENTS:
        notes.append(
            f"Only {sample.independent} patients have the rarer outcome: the intervals are wide, and some hold the truth less often than "
            "95 times in a hundred (docs/guide/judge-a-risk.md says which)."
        )
    values = sample.risks[risk]
    if (values == values[0]).all():
        notes.append("The risks are all equal: they do not rank the rows. AUROC is .5 and AUPRC the event rate by definition.")
    edge = int(((values < EDGE) | (values > 1 - EDGE)).sum())
    if edge:
        notes.append(f"{edge} risks are 0 or 1, or within {EDGE:g} of it: on the log-odds scale they count as {EDGE:g} and 1 − {EDGE:g}.")
    if group is None:
        notes.append(
            "Every row counts as a patient of its own; where patients repeat, name their column (group) or the intervals are too narrow."
        )
    return tuple(notes)
