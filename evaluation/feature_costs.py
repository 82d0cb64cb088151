"""The value and the cost of each column: the AUPRC lost without it, and the scoring time gained."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.risk.inputs import RiskSample, read_risk_sample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import bootstrap_metrics
from nearward.evaluation.stats.confidence import Estimate, Result
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.parallel import single_threaded
from nearward.tabular.typing import Floats, Ints

_FOLDS, _TIMED_ROWS, _REPEATS = 5, 1000, 9
_ALL, _SELECTED = "all columns", "selected columns"


@dataclass(frozen=True)
class ColumnCosts:
    """Results of ``column_costs``.

    Parameters
    ----------
    all_columns, selected : Estimate
        AUPRC out of fold with all columns and with the selected ones.
    lost : Estimate
        The first less the second, paired.
    seconds_all, seconds_selected : Estimate
        Processor time to score 1,000 rows: the median of nine repeats, and the least and greatest.
    table : pl.DataFrame
        For each selected column: ``auprc_lost`` when it is dropped as well (``low``, ``high``; paired), ``seconds_gained`` for 1,000 rows.
    """

    all_columns: Estimate
    selected: Estimate
    lost: Estimate
    seconds_all: Estimate
    seconds_selected: Estimate
    table: pl.DataFrame


def column_costs(
    frame: pl.DataFrame | pl.LazyFrame,
    outcome: str,
    columns: Sequence[str],
    group: str | None = None,
    *,
    model: Any = None,
    positive: Any = None,
    resamples: int = 500,
    seed: int = 0,
) -> ColumnCosts:
    """Compare a model on all columns, on selected ones, and on the selected ones without each.

    Parameters
    ----------
    frame : n rows
        All its columns but the outcome and the patients are features.
    outcome : str
        Column with two values.
    columns : names of the selected columns, at least two
        Selected on *other rows* than these, or the selected columns look better than they are.
    group : str, optional
        Column of patient identifiers, where patients have several rows.
    model : classifier over frames, optional
        With ``fit`` and ``predict_proba``, ``RiskClassifier`` for instance; by default histogram gradient boosting.
    positive : value, optional
    resamples, seed : int

    Raises
    ------
    MissingColumns, InputError, TooFewEvents
        As ``evaluate_risk``; fewer than two columns selected.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    from nearward.tabular.ensemble.cross_fitting import EncodedClassifier

    selected = list(columns)
    if isinstance(columns, str) or len(selected) < 2 or len(set(selected)) < len(selected):
        raise InputError(f"columns must be at least two names, each once, got columns={columns!r}")
    if {outcome, group} & set(selected):
        raise InputError(f"columns must be features, got the outcome or the patients among them: {selected}")
    table = to_frame(frame)
    names = [name for name in table.columns if name not in (outcome, group)]
    sample, features = read_risk_sample(table, outcome, [], group, positive, list(dict.fromkeys([*names, *selected])))
    designs = {_ALL: names, _SELECTED: selected} | {_without(name): [other for other in selected if other != name] for name in selected}
    classifier = EncodedClassifier(HistGradientBoostingClassifier(random_state=seed)) if model is None else model
    event = sample.outcome.astype(np.int64)
    fold = split_patients(event, sample.patient_ids, _FOLDS, seed)
    risks, seconds = {}, {}
    with single_threaded("faiss", "sklearn.ensemble"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the same columns would repeat it
        for name, design in designs.items():
            risks[name], seconds[name] = _cross_fit(classifier, features.select(design), event, sample.patient_ids, fold)
    samples = [RiskSample(sample.outcome, risks, sample.patient_ids)]
    metrics = bootstrap_metrics(samples, OperatingPoint(0.05, sample.event_rate), resamples, seed)
    rows = []
    for name in selected:
        lost = _defined(metrics.difference(_SELECTED, _without(name))["auprc"])
        gained = seconds[_SELECTED].value - seconds[_without(name)].value
        rows.append({"column": name, "auprc_lost": lost.value, "low": lost.low, "high": lost.high, "seconds_gained": gained})
    return ColumnCosts(
        _defined(metrics.results(_ALL)["auprc"]),
        _defined(metrics.results(_SELECTED)["auprc"]),
        _defined(metrics.difference(_ALL, _SELECTED)["auprc"]),
        seconds[_ALL],
        seconds[_SELECTED],
        pl.DataFrame(rows).sort("auprc_lost", descending=True),
    )


def _without(name: str) -> str:
    return f"without {name}"


def _cross_fit(model: Any, features: pl.DataFrame, event: Ints, patient_ids: Ints, fold: Ints) -> tuple[Floats, Estimate]:
    """Risks out of fold (n,), and the processor time for 1,000 rows."""
    from nearward.tabular.ensemble.cross_fitting import fit_copy

    risk = np.empty(len(event))
    for f in range(int(fold.max()) + 1):
        test, train = np.flatnonzero(fold == f), np.flatnonzero(fold != f)
        fitted = fit_copy(model, features[train], event[train], patient_ids[train])
        risk[test] = fitted.predict_proba(features[test])[:, 1]
    rows = features[np.arange(_TIMED_ROWS) % features.height]
    times = []
    for _ in range(_REPEATS):
        start = time.process_time()
        fitted.predict_proba(rows)
        times.append(time.process_time() - start)
    return risk, Estimate(float(np.median(times)), min(times), max(times), _REPEATS)


def _defined(result: Result) -> Estimate:
    if not isinstance(result, Estimate):
        raise InputError(f"the AUPRC is undefined: {result.why}")
    return result
