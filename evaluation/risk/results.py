"""Results of risk evaluations as typed values: what pages, JSON and the command line read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from nearward.evaluation.risk.metrics import METRIC_BY_KEY
from nearward.evaluation.stats.confidence import Estimate, Result, Undefined, defined
from nearward.evaluation.stats.random_effects import PooledEstimate

if TYPE_CHECKING:
    from nearward.evaluation.risk.site_leakage import SourceLeak

Results = Mapping[str, Result]


@dataclass(frozen=True)
class EvaluationFacts:
    """The data that were evaluated, and the settings.

    Parameters
    ----------
    outcome : str
        Name of the column.
    group : str or None
        Column of patient identifiers; None where every row is a patient of its own.
    rows, patients, events : int
    alert_rate, threshold : float
        See ``OperatingPoint``.
    resamples, seed : int
    event : str, optional
        The outcome value that is the event.
    """

    outcome: str
    group: str | None
    rows: int
    patients: int
    events: int
    alert_rate: float
    threshold: float
    resamples: int
    seed: int
    event: str | None = None

    @property
    def event_rate(self) -> float:
        """Share of rows with the event."""
        return self.events / self.rows

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Subgroup:
    """Metrics of the rows of one category of a column.

    Parameters
    ----------
    column, level : str
    rows, events : int, or None where suppressed
    results : metric's key -> Estimate or why it is undefined; empty where suppressed
    """

    column: str
    level: str
    rows: int | None
    events: int | None
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Column and category."""
        return f"{self.column}: {self.level}"

    def to_dict(self) -> dict[str, Any]:
        """Return counts and metrics for JSON."""
        counts = {"column": self.column, "level": self.level, "rows": self.rows, "events": self.events}
        return {**counts, "metrics": results_dict(self.results)} if self.results else {**counts, "metrics": None, "why": "withheld"}


@dataclass(frozen=True)
class SiteResults:
    """Metrics of each site, and over sites.

    Parameters
    ----------
    column : str
    sites : tuple of Subgroup
    pooled : metric's key -> PooledEstimate or why there is none
        Empty where the parts are periods: in their order there may be a trend, which a random effect would hide.
    useful : Estimate or None
        Share of the sites with results where the net benefit exceeds that of alerting all and of alerting none; ``n`` is their number.
    next_useful : float or None
        Probability that it does so at a next site.
    threshold : float
        Decision threshold of the net benefit.
    """

    column: str
    sites: tuple[Subgroup, ...]
    pooled: dict[str, PooledEstimate | Undefined]
    useful: Estimate | None
    next_useful: float | None
    threshold: float

    @property
    def estimable(self) -> tuple[Subgroup, ...]:
        """The sites that have results."""
        return tuple(site for site in self.sites if site.results)

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        pooled = {key: {"why": one.why} if isinstance(one, Undefined) else asdict(one) for key, one in self.pooled.items()}
        shares = {"useful": None if self.useful is None else asdict(self.useful), "next_useful": self.next_useful}
        return {"column": self.column, "threshold": self.threshold, "sites": [s.to_dict() for s in self.sites], "pooled": pooled, **shares}


@dataclass(frozen=True)
class ThresholdResults:
    """Metrics of alerting all rows whose risk is at least a threshold.

    Parameters
    ----------
    threshold : PointEstimate where it was given; Estimate where it was derived; Undefined where no threshold meets the target
    target : ("sensitivity" or "alert_rate", share), or None where the threshold was given
    results : metric's key -> Estimate or why it is undefined
    """

    threshold: Result
    target: tuple[str, float] | None
    results: dict[str, Result]

    @property
    def label(self) -> str:
        """What the threshold was chosen for."""
        if self.target is None:
            return "given"
        name, share = self.target
        return f"sensitivity of at least {share:g}" if name == "sensitivity" else f"at most {100 * share:g} alerts per 100"

    def to_dict(self) -> dict[str, Any]:
        """Return threshold, target and metrics for JSON."""
        threshold = results_dict({"threshold": self.threshold})["threshold"]
        return {"target": self.label, "threshold": threshold, "metrics": results_dict(self.results)}


@dataclass(frozen=True)
class Curves:
    """Curves of one risk, with pointwise 95 % bands.

    Parameters
    ----------
    roc : frame of (false_positive_rate, recall, low, high)
    precision_recall : frame of (recall, precision, low, high)
    decision : frame of (threshold, net_benefit, low, high, all)
        ``all`` is the net benefit of alerting all rows; that of alerting none is 0.
    calibration : frame of (risk, event_rate, low, high), or why there is none
    histogram : frame of (from, to, rows)
        Rows by risk; null where suppressed, see ``disclosure_control``.
    """

    roc: pl.DataFrame
    precision_recall: pl.DataFrame
    decision: pl.DataFrame
    calibration: pl.DataFrame | Undefined
    histogram: pl.DataFrame

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return each curve's columns as lists, for JSON."""
        return {
            name: {"why": curve.why} if isinstance(curve, Undefined) else curve.to_dict(as_series=False)
            for name, curve in vars(self).items()
        }


@dataclass(frozen=True)
class RiskResults:
    """Results of ``evaluate_risk``.

    Parameters
    ----------
    facts : EvaluationFacts
    risk : str
        Name of the evaluated column.
    metrics : metric's key -> Estimate or why it is undefined
    ece_by_chance : Estimate
        Calibration error that perfectly calibrated risks would show on these rows, and the range of 95 % of such errors.
    curves : Curves
    subgroups, strata, periods : tuple of Subgroup
        Of columns, of numbers of events, and of the calendar.
    thresholds : tuple of ThresholdResults
    source : SourceLeak or None
        Whether the site can be predicted from the other columns, and tracks the outcome; where a site was named.
    sites : SiteResults or None
        Metrics of each site, and pooled over sites; where a site was named.
    notes : tuple of str
        Warnings that limit the interpretation.
    """

    facts: EvaluationFacts
    risk: str
    metrics: dict[str, Result]
    ece_by_chance: Estimate
    curves: Curves
    subgroups: tuple[Subgroup, ...]
    strata: tuple[Subgroup, ...]
    periods: tuple[Subgroup, ...]
    thresholds: tuple[ThresholdResults, ...]
    source: SourceLeak | None
    sites: SiteResults | None
    notes: tuple[str, ...]

    def __getitem__(self, key: str) -> Estimate | None:
        """Return a metric by its key, None where it or its interval is undefined: ``metrics`` has the reason."""
        return defined(self.metrics[key])

    def table(self) -> pl.DataFrame:
        """Metrics: key, metric, value, low, high, n, why."""
        return result_table(self.metrics)

    def subgroup_table(self) -> pl.DataFrame:
        """Metrics of subgroups: column, level, rows, events, key, metric, value, low, high, n, why; null where withheld."""
        return subgroup_table(self.subgroups)

    def threshold_table(self) -> pl.DataFrame:
        """Metrics at thresholds: target, threshold, its low and high, key, metric, value, low, high, n, why."""
        return pl.concat([_threshold_frame(one) for one in self.thresholds])

    def site_table(self) -> pl.DataFrame:
        """Metrics of sites, as ``subgroup_table``; empty where no site was named."""
        return subgroup_table(() if self.sites is None else self.sites.sites)

    def pooled_table(self) -> pl.DataFrame:
        """Metrics over sites, see ``pooled_table``; empty where no site was named."""
        return pooled_table({} if self.sites is None else self.sites.pooled)

    def strata_table(self) -> pl.DataFrame:
        """Metrics of event-count strata, as ``subgroup_table``."""
        return subgroup_table(self.strata)

    def period_table(self) -> pl.DataFrame:
        """Metrics of periods of the calendar, as ``subgroup_table``."""
        return subgroup_table(self.periods)


@dataclass(frozen=True)
class ComparisonResults:
    """Results of ``compare_risks``.

    Parameters
    ----------
    facts : EvaluationFacts
    metrics : name of the risk -> metric's key -> Estimate or why it is undefined
    differences : name of another risk -> metric's key -> Estimate
        The first risk less this one.
    curves : name of the risk -> Curves
    """

    facts: EvaluationFacts
    metrics: dict[str, dict[str, Result]]
    differences: dict[str, dict[str, Result]]
    curves: dict[str, Curves]

    @property
    def first(self) -> str:
        """The risk from which the others are subtracted."""
        return next(iter(self.metrics))

    def table(self) -> pl.DataFrame:
        """Metrics of each risk: risk, key, metric, value, low, high, n, why."""
        return pl.concat([result_table(results).insert_column(0, pl.lit(name).alias("risk")) for name, results in self.metrics.items()])

    def difference_table(self) -> pl.DataFrame:
        """Differences, the first risk less each other: less, key, metric, value, low, high, n, why."""
        return pl.concat([result_table(results).insert_column(0, pl.lit(name).alias("less")) for name, results in self.differences.items()])

    def to_dict(self) -> dict[str, Any]:
        """Return all but the curves, for JSON."""
        return {
            **self.facts.to_dict(),
            "metrics": {name: results_dict(results) for name, results in self.metrics.items()},
            "differences": {f"{self.first} less {name}": results_dict(results) for name, results in self.differences.items()},
        }


def result_table(results: Results) -> pl.DataFrame:
    """Results as a frame: key, metric, value, low, high, n, why."""
    rows = [
        (key, METRIC_BY_KEY[key].title, *(getattr(result, name, None) for name in ("value", "low", "high", "n", "why")))
        for key, result in results.items()
    ]
    numbers = dict.fromkeys(("value", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema={"key": pl.String, "metric": pl.String, **numbers, "n": pl.Int64, "why": pl.String}, orient="row")


def _threshold_frame(one: ThresholdResults) -> pl.DataFrame:
    numbers = {
        f"threshold{suffix}": getattr(one.threshold, name, None) for suffix, name in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    columns = [pl.lit(number, dtype=pl.Float64).alias(name) for name, number in numbers.items()]
    return result_table(one.results).select(pl.lit(one.label).alias("target"), *columns, pl.all())


def subgroup_table(subgroups: Sequence[Subgroup]) -> pl.DataFrame:
    """Results of subgroups as a frame: column, level, rows, events, and the columns of ``result_table``."""
    schema = {"column": pl.String, "level": pl.String, "rows": pl.Int64, "events": pl.Int64}
    empty = result_table({})
    frames = [pl.DataFrame(schema={**schema, **empty.schema})]
    for subgroup in subgroups:
        results = result_table(subgroup.results) if subgroup.results else empty.clear(1).with_columns(why=pl.lit("withheld"))
        frames.append(
            results.select(*(pl.lit(getattr(subgroup, name), dtype=dtype).alias(name) for name, dtype in schema.items()), pl.all())
        )
    return pl.concat(frames)


def pooled_table(pooled: Mapping[str, PooledEstimate | Undefined]) -> pl.DataFrame:
    """Results over sites as a frame: key, metric, value, low, high, next_low, next_high (of a next site), tau, i2, sites, why."""
    rows = []
    for key, one in pooled.items():
        numbers: tuple[Any, ...] = (None,) * 8
        if isinstance(one, PooledEstimate):
            numbers = (*(getattr(one.mean, x) for x in ("value", "low", "high")), one.next_site.low, one.next_site.high, one.tau, one.i2)
            numbers += (one.mean.n,)
        rows.append((key, METRIC_BY_KEY[key].title, *numbers, one.why if isinstance(one, Undefined) else None))
    floats = dict.fromkeys(("value", "low", "high", "next_low", "next_high", "tau", "i2"), pl.Float64)
    schema = {"key": pl.String, "metric": pl.String, **floats, "sites": pl.Int64, "why": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def results_dict(results: Results) -> dict[str, Any]:
    """Return results for JSON: a value with its interval or the reason why it has none, or null with the reason."""
    entries: dict[str, Any] = {}
    for key, result in results.items():
        title = METRIC_BY_KEY[key].title if key in METRIC_BY_KEY else key
        entries[key] = {"title": title} | ({"value": None, "why": result.why} if isinstance(result, Undefined) else asdict(result))
    return entries
