"""Metrics within each site, and over sites: random-effects means, and prediction intervals for the next site.

AUROCs are pooled as log-odds and ratios of observed to expected events as logarithms; calibration in the large, calibration slope and net
benefit as they are. AUPRC, PPV and the Brier score are shown by site and not pooled: an uninformative risk has an AUPRC equal to the event
rate, so their mean over sites of different event rates is a figure of no site.

References
----------
Debray et al.: A guide to systematic review and meta-analysis of prediction model performance (2017).
Snell, Ensor, Debray, Moons and Riley: Meta-analysis of prediction model performance across multiple studies: which scale helps ensure
between-study normality for the C-statistic and calibration measures? (2018).
Wynants et al.: Random-effects meta-analysis of the clinical utility of tests and prediction models (2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from nearward.evaluation.risk.disclosure_control import Suppression, counts_by_category, suppress_small_counts
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import METRIC_BY_KEY, USEFULNESS, OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.risk.results import SiteResults, Subgroup
from nearward.evaluation.risk.subgroups import MISSING, number_categories
from nearward.evaluation.stats.confidence import Estimate, Undefined, clopper_pearson
from nearward.evaluation.stats.random_effects import MIN_SITES, PooledEstimate, RandomEffects, fit_random_effects
from nearward.tabular.data.conversion import refuse_nested

POOLED_METRICS = ("auroc", "calibration_in_the_large", "calibration_slope", "observed_expected", USEFULNESS.key)
_OnScale = tuple[float, float] | None  # a value and its standard error on the metric's scale


def evaluate_sites(
    sample: RiskSample,
    column: pl.Series,
    operating_point: OperatingPoint,
    resamples: int,
    seed: int,
    suppression: Suppression | None = None,
    pool: bool = True,
) -> SiteResults:
    """Evaluate the only risk of a sample at each site, and over sites.

    Parameters
    ----------
    sample : RiskSample of n rows and one risk
    column : (n,), the site of each row; a missing value is a site of its own
    operating_point : OperatingPoint
    resamples, seed : int
    suppression : of each site, see ``suppress_in_columns``; by default that of this column alone
    pool : bool
        Whether the sites are exchangeable. Periods are not.

    Returns
    -------
    SiteResults
        A site with fewer than 10 events or rows without the event, one that has a single outcome among them, has no results and is not
        pooled.
    """
    names, number = number_categories(column, limit=None)
    (rows, events), patients = counts_by_category(sample, number, len(names))
    rows_suppressed, suppressed = suppression or suppress_small_counts(rows, events, patients)
    risk = next(iter(sample.risks))
    sites, by_site = [], []
    for index, name in enumerate(names):
        if suppressed[index]:
            sites.append(Subgroup(column.name, name, None if rows_suppressed[index] else int(rows[index]), None))
            continue
        metrics = bootstrap_metrics([sample.subset(number == index)], operating_point, resamples, seed)
        results = {**metrics.results(risk), USEFULNESS.key: metrics.usefulness(risk)}
        sites.append(Subgroup(column.name, name, int(rows[index]), int(events[index]), results))
        by_site.append({key: metrics.on_scale(risk, key) for key in POOLED_METRICS})
    values = [result.value for site in sites if isinstance(result := site.results.get(USEFULNESS.key), Estimate)]
    useful = clopper_pearson(sum(value > 0 for value in values), len(values)) if values else None
    models = {key: _fit([site[key] for site in by_site]) for key in POOLED_METRICS} if pool else {}
    pooled = {key: m if isinstance(m, Undefined) else PooledEstimate.of(m, METRIC_BY_KEY[key].scale) for key, m in models.items()}
    usefulness = models.get(USEFULNESS.key)
    next_useful = usefulness.probability_above(0.0) if isinstance(usefulness, RandomEffects) else None
    return SiteResults(column.name, tuple(sites), pooled, useful, next_useful, operating_point.threshold)


def site_names(column: pl.Series) -> pl.Series:
    """Return the sites (n,) as categories in the order of the column's values, numbers by size; a missing one is the last."""
    refuse_nested(column, f"site {column.name!r}")
    names = column.unique().drop_nulls().sort().cast(pl.String).unique(maintain_order=True)
    return column.cast(pl.String).fill_null(MISSING).cast(pl.Enum([*names.filter(names != MISSING), MISSING]))


def _fit(sites: Sequence[_OnScale]) -> RandomEffects | Undefined:
    estimable = [site for site in sites if site is not None]
    if len(estimable) < MIN_SITES:
        return Undefined(f"{len(estimable)} sites with an estimate are too few to pool; at least {MIN_SITES} are needed")
    return fit_random_effects(*np.array(estimable).T)
