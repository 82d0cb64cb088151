"""Pages of risk reports and comparisons: the frames and figures; the words are in ``evaluation/templates/risk_*.html.jinja``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context
from typing import TYPE_CHECKING

import polars as pl

from nearward.evaluation.html_page import render
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk import figures
from nearward.evaluation.risk.disclosure_control import SUPPRESSION_NOTE, show_count
from nearward.evaluation.risk.metrics import METRIC_BY_KEY, THRESHOLD_METRICS, USEFULNESS
from nearward.evaluation.risk.results import (
    ComparisonResults,
    Curves,
    EvaluationFacts,
    Results,
    RiskResults,
    SiteResults,
    Subgroup,
    ThresholdResults,
)
from nearward.evaluation.stats.confidence import Estimate, PointEstimate, Result, Undefined, defined, estimate_series, with_value
from nearward.evaluation.stats.random_effects import PooledEstimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nearward.evaluation.html_page import ResponsiveFigure

_SUBGROUP_METRICS = (
    "prevalence",
    "auprc",
    "auroc",
    "observed_expected",
    "calibration_slope",
    "brier",
    "recall_at_budget",
    "ppv_at_budget",
    "net_benefit",
)
_SITE_METRICS = (
    "prevalence",
    "auprc",
    "auroc",
    "observed_expected",
    "calibration_in_the_large",
    "calibration_slope",
    USEFULNESS.key,
)
_PERIODS = "Periods"
_METRICS_OVER_TIME = ("auroc", "auprc", "observed_expected")


def risk_report_page(
    report: RiskResults, similar: pl.DataFrame | None = None, about_similar: str = "", provenance: Provenance | None = None
) -> str:
    """Return the page of a report; ``similar`` is a table of similar patients, shown as it is."""
    return render(
        "risk_report.html.jinja",
        provenance,
        report=report,
        metrics=_metric_frame({report.risk: report.metrics}),
        undefined=_undefined_lines(report.metrics),
        figures=_curve_figures({report.risk: report.curves}, report.facts),
        no_calibration=_no_calibration({report.risk: report.curves}),
        thresholds=threshold_summary(report.thresholds),
        undefined_at_thresholds=_undefined_lines(*(one.results for one in report.thresholds)),
        subgroups=_subgroup_section(report.subgroups, report.metrics, "Subgroups"),
        strata=_subgroup_section(report.strata, report.metrics, "Event-count strata"),
        periods=_subgroup_section(report.periods, report.metrics, _PERIODS),
        sites=None if report.sites is None else site_section(report.sites),
        suppression_note=SUPPRESSION_NOTE,
        similar=similar,
        about_similar=about_similar,
    )


def comparison_page(comparison: ComparisonResults, provenance: Provenance | None = None) -> str:
    """Return the page of a comparison."""
    auprc = {name: defined(results["auprc"]) for name, results in comparison.differences.items()}
    return render(
        "risk_comparison.html.jinja",
        provenance,
        comparison=comparison,
        auprc_differences={name: difference for name, difference in auprc.items() if difference is not None},
        differences=_difference_frame(comparison),
        undefined_differences=_undefined_lines(*comparison.differences.values()),
        metrics=_metric_frame(comparison.metrics),
        undefined=_undefined_lines(*comparison.metrics.values()),
        figures=_curve_figures(comparison.curves, comparison.facts),
        no_calibration=_no_calibration(comparison.curves),
    )


def threshold_summary(thresholds: Sequence[ThresholdResults]) -> pl.DataFrame:
    """Return one row a threshold: what it was chosen for, the threshold, and metrics."""
    columns = [
        pl.Series("chosen for", [one.label for one in thresholds], dtype=pl.String),
        pl.Series("risk from", [_threshold_text(one.threshold) for one in thresholds], dtype=pl.String),
    ]
    for metric in THRESHOLD_METRICS:
        columns.append(estimate_series(metric.title, [with_value(one.results.get(metric.key)) for one in thresholds]))
    return pl.DataFrame(columns)


def _threshold_text(threshold: Result) -> str:
    """Five digits of a threshold, rounded down: a row at the threshold is alerted by the rounded one, too."""
    if isinstance(threshold, Undefined):
        return "none"
    interval = f" ({threshold.low:.3g} to {threshold.high:.3g})" if isinstance(threshold, Estimate) else ""
    rounded = Context(prec=5, rounding=ROUND_FLOOR).create_decimal(repr(float(threshold.value)))
    return f"{rounded.normalize():f}{interval}"


def subgroup_summary(subgroups: Sequence[Subgroup], keys: Sequence[str] = _SUBGROUP_METRICS) -> pl.DataFrame:
    """Return one row a subgroup: counts as they are shown (``<10*`` where suppressed), and metrics."""
    texts = {
        "part": [subgroup.label for subgroup in subgroups],
        "rows": [show_count(subgroup.rows) for subgroup in subgroups],
        "events": [show_count(subgroup.events) for subgroup in subgroups],
    }
    columns = [pl.Series(name, values, dtype=pl.String) for name, values in texts.items()]
    columns += [estimate_series(METRIC_BY_KEY[key].title, [with_value(one.results.get(key)) for one in subgroups]) for key in keys]
    return pl.DataFrame(columns)


@dataclass(frozen=True)
class _SubgroupSection:
    """Contents of a section on subgroups.

    Parameters
    ----------
    name : str
    summary : frame, see ``subgroup_summary``
    figures : caption -> forest plots, or plots over time
    undefined : lines on metrics without a value or an interval in a subgroup that is shown
    suppressed : bool
        Whether a count is suppressed.
    """

    name: str
    summary: pl.DataFrame
    figures: dict[str, Figure] | dict[str, ResponsiveFigure]
    undefined: list[str]
    suppressed: bool


def _subgroup_section(subgroups: Sequence[Subgroup], overall: Results, name: str) -> _SubgroupSection | None:
    if not subgroups:
        return None
    drawn = _forest(subgroups, overall, name) if name != _PERIODS else _over_time(subgroups, overall)
    undefined = {
        f"{subgroup.label}, {_reason(key, result)}"
        for subgroup in subgroups
        for key, result in subgroup.results.items()
        if not isinstance(result, Estimate) and key in _SUBGROUP_METRICS
    }
    suppressed = any(subgroup.events is None for subgroup in subgroups)
    return _SubgroupSection(name, subgroup_summary(subgroups), drawn, sorted(undefined), suppressed)


def _forest(subgroups: Sequence[Subgroup], overall: Results, name: str) -> dict[str, ResponsiveFigure]:
    """Return caption -> forest plots, empty where nothing can be drawn."""
    if not any(isinstance(one.results.get(key), Estimate) for one in subgroups for key in figures.SUBGROUP_PANELS):
        return {}
    caption = f"{name}, with 95 % intervals. Grey and dashed: all rows with their interval. Dotted: perfectly calibrated risks."
    return {caption: figures.forest(subgroups, overall)}


def _over_time(periods: Sequence[Subgroup], overall: Results) -> dict[str, Figure]:
    """Return caption -> plot of a metric over time."""
    titles = {
        key: METRIC_BY_KEY[key].title for key in _METRICS_OVER_TIME if any(isinstance(one.results.get(key), Estimate) for one in periods)
    }
    return {
        f"{_PERIODS}: {title} with its 95 % interval; dashed and grey, all rows with theirs.": figures.over_time(
            periods, key, title, defined(overall[key])
        )
        for key, title in titles.items()
    }


@dataclass(frozen=True)
class SiteSection:
    """Contents of a section on sites, or periods.

    Parameters
    ----------
    results : SiteResults
    summary : frame, see ``subgroup_summary``
    pooled : frame, see ``pooled_summary``; None where nothing was pooled
    forest : forest plots, or None where no site has results
    undefined : lines on metrics without a value or an interval, or that could not be pooled
    """

    results: SiteResults
    summary: pl.DataFrame
    pooled: pl.DataFrame | None
    forest: ResponsiveFigure | None
    undefined: list[str]


def site_section(results: SiteResults) -> SiteSection:
    """Return the tables and the figure of sites."""
    undefined = {
        f"{site.level}, {_reason(key, result)}"
        for site in results.estimable
        for key, result in site.results.items()
        if key in _SITE_METRICS and not isinstance(result, Estimate)
    }
    undefined |= {
        f"Over sites, {METRIC_BY_KEY[key].title}: {one.why}." for key, one in results.pooled.items() if isinstance(one, Undefined)
    }
    pooled = pooled_summary(results)
    return SiteSection(
        results,
        subgroup_summary(results.sites, _SITE_METRICS),
        pooled if pooled.height else None,
        figures.forest_of_sites(results) if results.estimable else None,
        sorted(undefined),
    )


def pooled_summary(results: SiteResults) -> pl.DataFrame:
    """Return one row a metric that could be pooled: mean over sites, prediction interval of a next site, and the heterogeneity."""
    pooled = {METRIC_BY_KEY[key].title: one for key, one in results.pooled.items() if isinstance(one, PooledEstimate)}
    return pl.DataFrame(
        [
            pl.Series("metric", list(pooled), dtype=pl.String),
            pl.Series("sites", [one.mean.n for one in pooled.values()], dtype=pl.Int64),
            estimate_series("mean over sites", [one.mean for one in pooled.values()]),
            estimate_series("next site (95 % prediction)", [one.next_site for one in pooled.values()]),
            pl.Series("between-site SD (tau)", [one.tau for one in pooled.values()], dtype=pl.Float64),
            pl.Series("I²", [one.i2 for one in pooled.values()], dtype=pl.Float64),
        ]
    )


def _metric_frame(results: Mapping[str, Results]) -> pl.DataFrame:
    keys = list(next(iter(results.values())))
    columns = [pl.Series("metric", [METRIC_BY_KEY[key].title for key in keys])]
    for name, of_risk in results.items():
        columns.append(estimate_series(name if len(results) > 1 else "value (95 %)", [with_value(of_risk[key]) for key in keys]))
    return pl.DataFrame([*columns, pl.Series("meaning", [METRIC_BY_KEY[key].meaning for key in keys])])


def _difference_frame(comparison: ComparisonResults) -> pl.DataFrame:
    columns = [pl.Series("metric", [METRIC_BY_KEY[key].title for key in next(iter(comparison.differences.values()))])]
    for name, results in comparison.differences.items():
        columns.append(estimate_series(f"less {name}", [with_value(difference) for difference in results.values()]))
    return pl.DataFrame(columns)


def _undefined_lines(*results: Results) -> list[str]:
    """Why metrics have no value, or no interval."""
    return sorted({_reason(key, result) for of_risk in results for key, result in of_risk.items() if not isinstance(result, Estimate)})


def _reason(key: str, result: PointEstimate | Undefined) -> str:
    return f"{METRIC_BY_KEY[key].title}: {'no interval, ' if isinstance(result, PointEstimate) else ''}{result.why}."


def _curve_figures(curves: Mapping[str, Curves], facts: EvaluationFacts) -> dict[str, Figure]:
    return {
        "precision_recall": figures.precision_recall(curves, facts.event_rate),
        "roc": figures.roc(curves),
        "calibration": figures.calibration(curves),
        "decision": figures.decision(curves, facts.threshold),
    }


def _no_calibration(curves: Mapping[str, Curves]) -> list[str]:
    undefined = [(name, one.calibration) for name, one in curves.items()]
    return [f"Calibration of “{name}”: {curve.why}." for name, curve in undefined if isinstance(curve, Undefined)]
