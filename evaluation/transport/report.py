"""Transport of a model to sites, or times, that it has not seen: internal–external validation.

The estimator is fitted anew for each site on all others and judged there. Metrics, pooling and prediction intervals are those of
``evaluation/risk/sites.py``.

References
----------
Steyerberg and Harrell: Prediction models need appropriate internal, internal–external, and external validation (2016).
Royston, Parmar and Sylvester: Construction and validation of a prognostic model across several studies (2004).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.provenance import Provenance
from nearward.evaluation.risk.inputs import MIN_COUNT, RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.report import RESAMPLES, check_numbers, evaluation_facts
from nearward.evaluation.risk.results import EvaluationFacts, SiteResults, pooled_table, subgroup_table
from nearward.evaluation.risk.sites import evaluate_sites, site_names
from nearward.evaluation.transport.splits import Split, make_splits, read_times
from nearward.tabular.data.table_io import to_frame, to_series
from nearward.tabular.data.validation import describe_event, validate_column, validate_groups, validate_target
from nearward.tabular.errors import DataWarning, InputError, TooFewEvents, require_columns
from nearward.tabular.typing import Bools, Floats, Ints, Progress


@dataclass(frozen=True)
class TransportReport:
    """Results of ``transport``, with a page and JSON.

    Parameters
    ----------
    model : str
        Class of the estimator.
    facts : EvaluationFacts
        Of the rows that were judged.
    results : SiteResults
        Of each site and over sites; of periods where there is no site.
    risks : (n,)
        Risk of each row by the model that was not fitted at its site; NaN where a row was not judged, being before the cut.
    removed : int
        Training rows left out, over all fits, because their patient was judged.
    """

    model: str
    facts: EvaluationFacts
    results: SiteResults
    risks: Floats
    removed: int

    def table(self) -> pl.DataFrame:
        """Metrics by site: column, level, rows, events, key, metric, value, low, high, n, why; null where withheld."""
        return subgroup_table(self.results.sites)

    def pooled_table(self) -> pl.DataFrame:
        """Metrics over sites: key, metric, value, low, high, next_low, next_high, tau, i2, sites, why."""
        return pooled_table(self.results.pooled)

    def to_html(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write a self-contained page, atomically, readable by its owner alone (0600)."""
        from nearward.evaluation.html_page import write_html
        from nearward.evaluation.transport.html_report import transport_page

        write_html(transport_page(self.model, self.facts, self.results, self.removed, provenance), path)

    def to_json(self, path: str | Path, provenance: Provenance | None = None) -> None:
        """Write all but the risks of single rows as JSON, atomically, readable by its owner alone (0600)."""
        from nearward.evaluation.html_page import write_json

        facts = {"model": self.model, **self.facts.to_dict(), "training_rows_left_out": self.removed}
        write_json(
            {"nearward_transport": 1, **facts, **self.results.to_dict(), "provenance": (provenance or Provenance.now()).to_dict()}, path
        )


def transport(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    site: Any = None,
    time: Any = None,
    cut: Any = None,
    groups: Any = None,
    positive: Any = None,
    threshold: float | None = None,
    alert_rate: float = 0.05,
    resamples: int = RESAMPLES,
    seed: int = 0,
    verbose: int | Progress = 0,
) -> TransportReport:
    """Fit a model without each site, and judge it there; or fit it before a date, and judge it after.

    Parameters
    ----------
    estimator : classifier with ``fit`` and ``predict_proba``
        ``RiskClassifier`` or any of scikit-learn's; it is cloned, and given the patients where its ``fit`` takes ``groups``.
    X : frame of n rows, or array of shape (n, d)
        Passed on as it is, but for the columns that ``site``, ``time`` and ``groups`` name.
    y : (n,), outcome of two values
    site : name of a column of X, or (n,), optional
        A missing value is a site of its own.
    time : name of a column of X, or (n,), optional
        Numbers, dates or datetimes.
    cut : value or list of values of the time
        Models are fitted before each and judged from it to the next. With a site, one.
    groups : name of a column of X, or (n,), optional
        The patient of each row, where patients have several.
    positive : value, optional
        The outcome's value that is the event; by default the greater of the two.
    threshold : float, optional
        Decision threshold of the net benefit; by default the event rate of the rows that are judged.
    alert_rate : float
    resamples : int, at least 100
    seed : int
        Of the resamples; the estimator has its own.
    verbose : int or callable
        Above 0 each fit is printed; a callable gets it as text.

    Returns
    -------
    TransportReport

    Raises
    ------
    InputError
        Unusable arguments; one site only; rows without time.
    TooFewEvents
        Fewer than 10 events to judge, or to fit one of the models on.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> age, hospital = rng.normal(0, 1, 900), rng.integers(0, 3, 900)
    >>> died = rng.random(900) < 1 / (1 + np.exp(1.5 - age))
    >>> report = transport(LogisticRegression(), age[:, None], died, site=hospital, resamples=100)
    >>> [site.rows for site in report.results.sites], report.pooled_table()["sites"][0]
    ([302, 294, 304], 3)
    """
    check_numbers(resamples, seed)
    frame = to_frame(X)
    named = [name for name in (site, time, groups) if isinstance(name, str)]
    require_columns(named, frame.columns)
    target = validate_target(y, frame.height, getattr(estimator, "positive", None) if positive is None else positive)
    patient_ids = validate_groups(None if groups is None else _column("groups", groups, frame), frame.height)
    sites = None if site is None else site_names(_column("site", site, frame))
    times = None if time is None else read_times(_column("time", time, frame, complete=True))
    cuts = [] if cut is None else list(cut) if isinstance(cut, Sequence) and not isinstance(cut, str) else [cut]
    splits = make_splits(sites, times, cuts, patient_ids)
    features = X.drop(columns=named) if hasattr(X, "iloc") else X if isinstance(X, np.ndarray) else frame.drop(named)
    progress = verbose if callable(verbose) else print if verbose else lambda words: None
    judged = np.any([split.test for split in splits], axis=0)
    _require_events(target.outcome[judged], "evaluate a risk")
    for number, split in enumerate(splits, start=1):
        _require_events(target.outcome[split.train], f"fit model {number} of {len(splits)} on")
    risks = _predict(estimator, features, target.outcome, patient_ids, splits, progress)
    missing = int(np.isnan(risks[judged]).sum())
    if missing:
        raise InputError(f"predict_proba of {_model_name(estimator)} has no probability for {missing} rows")
    rows = RiskSample(target.outcome.astype(np.float64), {"risk": risks}, patient_ids, describe_event(target.event))
    sample = rows.subset(judged)
    settings = (OperatingPoint(alert_rate, sample.event_rate if threshold is None else threshold), resamples, seed)
    parts = _parts(splits, judged, "period" if sites is None else sites.name)
    outcome = y.name if isinstance(y, pl.Series) and y.name else "outcome"
    group = None if groups is None else groups if isinstance(groups, str) else "groups"
    facts = evaluation_facts(sample, outcome, group, *settings)
    results = evaluate_sites(sample, parts, *settings, pool=sites is not None)
    return TransportReport(_model_name(estimator), facts, results, risks, sum(split.removed for split in splits))


def _column(name: str, values: Any, frame: pl.DataFrame, *, complete: bool = False) -> pl.Series:
    """Return a column that is named, or given as n values."""
    if isinstance(values, str):
        name, values = values, frame.get_column(values)
    if complete:
        return validate_column(values, frame.height, name).alias(name)
    column = to_series(name, values).alias(name)
    if len(column) != frame.height:
        raise InputError(f"{name} has {len(column)} values and the frame {frame.height} rows")
    return column


def _require_events(outcome: Ints, purpose: str) -> None:
    """Raise ``TooFewEvents`` where fewer than 10 rows have the rarer outcome."""
    events = int(outcome.sum())
    rarer = min(events, len(outcome) - events)
    if rarer < MIN_COUNT:
        raise TooFewEvents(rarer, MIN_COUNT, purpose)


def _predict(estimator: Any, X: Any, outcome: Ints, patient_ids: Ints, splits: Sequence[Split], progress: Progress) -> Floats:
    """Risk of each row (n,) by the model that was not fitted where it is judged; NaN where none judges it."""
    from nearward.tabular.ensemble.cross_fitting import fit_copy

    risks = np.full(len(outcome), np.nan)
    for number, split in enumerate(splits, start=1):
        progress(f"model {number} of {len(splits)}")
        train, test = np.flatnonzero(split.train), np.flatnonzero(split.test)
        if not len(test):
            continue
        with warnings.catch_warnings():
            if number > 1:
                warnings.simplefilter("ignore", DataWarning)  # the same columns would repeat it
            model = fit_copy(estimator, _take(X, train), outcome[train], patient_ids[train])
            risks[test] = np.asarray(model.predict_proba(_take(X, test)))[:, 1]
    return risks


def _model_name(estimator: Any) -> str:
    """Class of the estimator; of a pipeline that of its last step, of ``EncodedClassifier`` that of its model."""
    if hasattr(estimator, "steps"):
        return _model_name(estimator.steps[-1][1])
    return type(getattr(estimator, "model", estimator)).__name__


def _take(X: Any, rows: Ints) -> Any:
    """Return rows of a frame or an array, as what it is."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _parts(splits: Sequence[Split], judged: Bools, name: str) -> pl.Series:
    """Return the site or period of each row that is judged, as categories in order."""
    number = np.zeros(len(judged), dtype=np.int64)
    for index, split in enumerate(splits):
        number[split.test] = index
    names = [split.name for split in splits]
    return pl.Series(name, [names[index] for index in number[judged]], dtype=pl.Enum(names))
