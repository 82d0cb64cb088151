"""Site leakage: can the site, or the source file, of a row be predicted from the features, and does it track the outcome?

Where both hold, a model can learn the site instead of the disease: it performs well wherever the sites come along, and fails at the next
one. Typical causes are cases from one file and controls from another, one ward that treats the sickest and codes differently, a device with
its own format. The check cannot distinguish leakage from honest differences in who is treated where; it says that a look is needed.

Shapes: n rows, s sites, c resamples at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.evaluation.risk.disclosure_control import show_count, suppress_small_counts
from nearward.evaluation.risk.inputs import MIN_COUNT, RiskSample, read_risk_sample
from nearward.evaluation.stats.cluster_bootstrap import bootstrap_interval, cluster_bootstrap
from nearward.evaluation.stats.confidence import Estimate, wilson
from nearward.evaluation.stats.ranking_metrics import Ranking
from nearward.tabular.data.conversion import refuse_nested
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError
from nearward.tabular.parallel import single_threaded
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Bools, Floats, Ints

NOTEWORTHY = 0.55  # AUROC that the whole interval must exceed: in a large cohort the least difference is significant
_MAX_ROWS = 5_000  # that the check uses: what makes a site stand out shows in fewer
_MAX_SITES = 12  # the others are pooled
_FOLDS, _RESAMPLES, _TREES = 5, 200, 100
_PRIOR_ROWS = 10  # by which a site's event rate is shrunk towards the overall rate
_TOP_FEATURES = 3


@dataclass(frozen=True)
class SourceLeak:
    """Results of ``source_leak``.

    Parameters
    ----------
    site : str
        The column.
    site_auroc : Estimate
        AUROC by which the features predict a site against the others, mean over the sites, cross-fitted; .5: they do not.
    outcome_auroc : Estimate
        AUROC by which a site's event rate, from other patients, predicts the outcome; .5: the site is not associated with it.
    rates : pl.DataFrame
        Site, rows, events, and the event rate with its interval (``rate``, ``low``, ``high``); null where fewer than 10 are behind them.
    columns : tuple of str
        The features that reveal the site, the most important first.
    """

    site: str
    site_auroc: Estimate
    outcome_auroc: Estimate
    rates: pl.DataFrame
    columns: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether the features predict the site and the site tracks the outcome, beyond chance."""
        return self.site_auroc.low > NOTEWORTHY and self.outcome_auroc.low > NOTEWORTHY

    def verdict(self) -> str:
        """Return the conclusion in words."""
        site, outcome = f"AUROC {self.site_auroc}", f"AUROC {self.outcome_auroc}"
        if self.leaks:
            features = ", ".join(repr(name) for name in self.columns)
            return (
                f"a model can learn the source instead of the illness: the features tell {self.site!r} ({site}, most by {features}) "
                f"and it tracks the outcome ({outcome}). Who is treated where may explain it, a leak too: look at these columns, "
                "and judge the model on sources that it has not seen."
            )
        if self.outcome_auroc.low > NOTEWORTHY:
            return f"{self.site!r} tracks the outcome ({outcome}), but the features hardly tell it ({site})."
        if self.site_auroc.low > NOTEWORTHY:
            return f"the features tell {self.site!r} ({site}), but it hardly tracks the outcome ({outcome})."
        return f"no sign of it: the features hardly tell {self.site!r} ({site}), nor does it track the outcome ({outcome})."

    def withhold(self, sites: Sequence[str], rows_suppressed: Bools, suppressed: Bools) -> SourceLeak:
        """Return the same with more suppressed: sites whose counts would reveal what other parts of a report withhold."""
        masks = (rows_suppressed, suppressed)
        no_rows, no_results = (pl.col("site").is_in([s for s, hidden in zip(sites, mask, strict=True) if hidden]) for mask in masks)
        results = pl.col("events", "rate", "low", "high")
        hidden = self.rates.with_columns(pl.when(~no_rows).then("rows").alias("rows"), pl.when(~no_results).then(results).name.keep())
        return replace(self, rates=hidden)

    def shown(self) -> pl.DataFrame:
        """Return the sites for display: counts or ``<10*``, and the rate with its interval."""
        lines = []
        for site, rows, events, rate, low, high in self.rates.iter_rows():
            lines.append((site, show_count(rows), show_count(events), "" if rate is None else f"{rate:.3f} ({low:.3f} to {high:.3f})"))
        return pl.DataFrame(lines, schema=["site", "rows", "events", "event rate (95 %)"], orient="row")

    def as_dict(self) -> dict[str, Any]:
        """Return the results for JSON."""
        return {
            "site": self.site,
            "leaks": self.leaks,
            "verdict": self.verdict(),
            "columns": list(self.columns),
            "told": asdict(self.site_auroc),
            "tracks": asdict(self.outcome_auroc),
            "rates": self.rates.to_dicts(),
        }


def source_leak(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    site: str,
    group: str | None = None,
    *,
    features: Sequence[str] | None = None,
    positive: Any = None,
    seed: int = 0,
) -> SourceLeak:
    """Check whether the features reveal the site, and whether the site tracks the outcome.

    Parameters
    ----------
    frame : n rows
    outcome : str
        Column with two values.
    site : str
        Column of the site or the source file; a missing value is a site of its own.
    group : str, optional
        Column of patient identifiers, where patients have several rows.
    features : names of columns, optional
        By default all others.
    positive : value, optional
        The outcome's value that is the event; by default the greater of the two.
    seed : int
        Of the sample (at most 5,000 rows), the folds and the trees.

    Raises
    ------
    MissingColumns, InputError
        Missing columns; fewer than two sites with 20 rows of 10 patients.
    TooFewEvents
        Fewer than 10 events.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ill = rng.random(600) < 0.3
    >>> file = np.where(rng.random(600) < 0.9, ill, ~ill)  # cases come from one file, controls from the other
    >>> frame = pl.DataFrame({"ill": ill, "file": file, "age": rng.normal(60, 9, 600), "unit": file * 1.0 + rng.normal(0, 0.3, 600)})
    >>> result = source_leak(frame, "ill", "file")
    >>> result.leaks, result.columns[0]
    (True, 'unit')
    """
    table = to_frame(frame)
    reserved = {outcome, site, *([group] if group is not None else [])}
    names = [name for name in table.columns if name not in reserved] if features is None else list(dict.fromkeys(features))
    if not names or set(names) & reserved:
        raise InputError(f"features must be columns beside the outcome, the site and the patients, got features={names}")
    sample, _ = read_risk_sample(table, outcome, [], group, positive, [site, *names])
    return check_site_leakage(sample, table.get_column(site), table.select(names), Schema.infer(table.select(names)), seed)


def check_site_leakage(sample: RiskSample, site: pl.Series, features: pl.DataFrame, schema: Schema, seed: int) -> SourceLeak:
    """Check columns that were validated already; ``schema`` describes the features."""
    refuse_nested(site, f"site {site.name!r}")
    rng = np.random.default_rng(seed)
    site_names = site.cast(pl.String).fill_null("(missing)")
    rates = _event_rates(sample, site_names)
    rows = np.sort(rng.permutation(sample.rows)[:_MAX_ROWS])
    site_index, sites = _number_sites(site_names, sample.patient_ids, rows)
    subsample = sample.subset(np.isin(np.arange(sample.rows), rows))
    patient_ids = subsample.patient_ids
    fold = assign_folds(subsample.outcome.astype(np.int64), patient_ids, _FOLDS, seed)
    probability, importance = _predict_sites(features[rows], schema, site_index, fold, seed)
    site_auroc = _mean_auroc([(site_index == s).astype(float) for s in range(sites)], list(probability.T), patient_ids, seed)
    event_rate = _cross_fitted_event_rate(subsample.outcome, site_index, sites, fold)
    outcome_auroc = _mean_auroc([subsample.outcome], [event_rate], patient_ids, seed)
    return SourceLeak(site.name, site_auroc, outcome_auroc, rates, tuple(importance)[:_TOP_FEATURES])


def _number_sites(site_names: pl.Series, patient_ids: Ints, rows: Ints) -> tuple[Ints, int]:
    """Number the sites of some rows; those with few patients, and those beyond the twelfth, are pooled."""
    table = pl.DataFrame({"site": site_names[rows], "patient": patient_ids[rows]})
    counts = table.group_by("site").agg(pl.len(), pl.col("patient").n_unique()).sort(["len", "site"], descending=[True, False])
    large = counts.filter((pl.col("len") >= 2 * MIN_COUNT) & (pl.col("patient") >= MIN_COUNT)).head(_MAX_SITES)["site"].to_list()
    index = table["site"].replace_strict(large, list(range(len(large))), default=len(large), return_dtype=pl.Int64).to_numpy()
    sites = len(large)
    if (index == sites).sum() >= 2 * MIN_COUNT:
        sites += 1
    elif large:
        index = np.where(index == sites, 0, index)  # a handful, too few for a site of their own
    if sites < 2:
        raise InputError(
            f"column {site_names.name!r} has fewer than two values with {2 * MIN_COUNT} rows of {MIN_COUNT} patients: "
            "two are needed to compare sites"
        )
    return index.astype(np.int64), sites


def _predict_sites(features: pl.DataFrame, schema: Schema, site_index: Ints, fold: Ints, seed: int) -> tuple[Floats, list[str]]:
    """Probability of each site, out of fold (n, s); the names of the features, the most important first."""
    from sklearn.ensemble import ExtraTreesClassifier

    rows = schema.conform(features)
    encoder = TableEncoder.fit(schema, rows)  # fitted without site and outcome
    x = encoder.transform(rows).astype(np.float32)
    if not x.shape[1]:
        raise InputError("no feature varies: at least one is needed to predict the sites")
    probability, importance = np.zeros((len(site_index), int(site_index.max()) + 1)), np.zeros(x.shape[1])
    with single_threaded("faiss", "sklearn.ensemble"):
        for f in range(_FOLDS):
            train = fold != f
            present, number = np.unique(site_index[train], return_inverse=True)
            trees = ExtraTreesClassifier(_TREES, min_samples_leaf=5, random_state=seed).fit(x[train], number)
            probability[np.ix_(~train, present)] = trees.predict_proba(x[~train])
            importance += trees.feature_importances_
    names = list(dict.fromkeys(encoder.source_columns))
    by_feature = np.bincount([names.index(name) for name in encoder.source_columns], importance)
    return probability, [names[index] for index in np.argsort(-by_feature, kind="stable")]


def _cross_fitted_event_rate(outcome: Floats, site_index: Ints, sites: int, fold: Ints) -> Floats:
    """Event rate of each row's site (n,), from the other folds, shrunk towards the overall rate."""
    rate = np.empty(len(outcome))
    for f in range(_FOLDS):
        train = fold != f
        events, rows = np.bincount(site_index[train], outcome[train], sites), np.bincount(site_index[train], minlength=sites)
        rate[~train] = ((events + _PRIOR_ROWS * outcome[train].mean()) / (rows + _PRIOR_ROWS))[site_index[~train]]
    return rate


def _mean_auroc(outcomes: list[Floats], scores: list[Floats], patient_ids: Ints, seed: int) -> Estimate:
    """Mean AUROC over pairs of outcome (n,) and score (n,), with a cluster-bootstrap interval."""
    rankings = [Ranking(outcome, score) for outcome, score in zip(outcomes, scores, strict=True)]

    def statistic(weight: NDArray[Any]) -> Floats:
        return np.asarray(np.nanmean([ranking.count(weight[:, ranking.order]).auroc() for ranking in rankings], axis=0))

    value = float(statistic(np.ones((1, len(patient_ids)), dtype=np.uint16))[0])
    fewest = min(len(np.unique(patient_ids[outcome == 1])) for outcome in outcomes)
    resampled = cluster_bootstrap(patient_ids, statistic, _RESAMPLES, seed)
    auroc = bootstrap_interval(value, resampled, "odds", fewest, len(patient_ids))
    if not isinstance(auroc, Estimate):
        raise InputError(f"the AUROC is undefined: {auroc.why}")
    return auroc


def _event_rates(sample: RiskSample, site_names: pl.Series) -> pl.DataFrame:
    """Event rate of every site; small counts are suppressed as in the subgroups."""
    table = pl.DataFrame({"site": site_names, "event": sample.outcome, "patient": sample.patient_ids})
    event = pl.col("event") == 1
    patients, event_patients, other_patients = (pl.col("patient").filter(mask).n_unique() for mask in (pl.lit(True), event, ~event))
    counts = (
        table.group_by("site")
        .agg(
            pl.len().alias("rows"),
            event.sum().alias("events"),
            patients.alias("patients"),
            event_patients.alias("event_patients"),
            other_patients.alias("other_patients"),
        )
        .sort(["rows", "site"], descending=[True, False])
    )
    rows, events, *by_patient = (counts[name].to_numpy().astype(np.int64) for name in counts.columns[1:])
    rows_suppressed, suppressed = suppress_small_counts(rows, events, by_patient)
    lines: list[tuple[Any, ...]] = []
    for index, name in enumerate(counts["site"].to_list()):
        shown_rows = None if rows_suppressed[index] else int(rows[index])
        if suppressed[index]:
            lines.append((name, shown_rows, None, None, None, None))
            continue
        rate, independent = float(events[index] / rows[index]), int(by_patient[0][index])
        interval = wilson(round(rate * independent), independent)  # as many independent observations as patients
        lines.append((name, shown_rows, int(events[index]), rate, interval.low, interval.high))
    numbers = dict.fromkeys(("rate", "low", "high"), pl.Float64)
    return pl.DataFrame(lines, schema={"site": pl.String, "rows": pl.Int64, "events": pl.Int64, **numbers}, orient="row")
