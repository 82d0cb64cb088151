"""What each column is worth, and what it costs: the AUPRC lost without it, and the time gained."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.risk.inputs import Sample, read_sample
from nearward.evaluation.risk.metrics import Use
from nearward.evaluation.risk.resampled_metrics import Result, measure
from nearward.evaluation.stats.cluster_bootstrap import Undefined
from nearward.evaluation.stats.confidence import Estimate
from nearward.evaluation.threads import single_threaded
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.typing import Floats, Ints

_FOLDS, _TIMED_ROWS, _TIMES = 5, 1000, 9
_ALL, _KEPT = "all columns", "kept columns"


@dataclass(frozen=True)
class ColumnCosts:
    """What ``column_costs`` found.

    Parameters
    ----------
    every, kept : Estimate
        AUPRC out of fold with all columns and with the kept ones.
    lost : Estimate
        The first less the second, paired.
    seconds_every, seconds_kept : Estimate
        Of processor time to score 1,000 rows: the median of nine times, and the least and greatest.
    table : pl.DataFrame
        For each kept column: ``auprc_lost`` when it is dropped as well (``low``, ``high``; paired), ``seconds_gained`` for 1,000 rows.
    """

    every: Estimate
    kept: Estimate
    lost: Estimate
    seconds_every: Estimate
    seconds_kept: Estimate
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
    """Compare a model on all columns, on the kept ones, and on the kept ones without each.

    Parameters
    ----------
    frame : n rows
        All its columns but the outcome and the patients are features.
    outcome : str
        Column with two values.
    columns : names of the kept columns, at least two
        Chosen on *other rows* than these, or the kept columns look better than they are.
    group : str, optional
        Column that names the patients, where they repeat.
    model : classifier over frames, optional
        With ``fit`` and ``predict_proba``, ``RiskClassifier`` for instance; by default histogram gradient boosting.
    positive : value, optional
    resamples, seed : int

    Raises
    ------
    MissingColumns, InputError, TooFewEvents
        As ``evaluate_risk``; fewer than two columns kept.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    from nearward.tabular.ensemble.cross_fitting import Encoded

    kept = list(columns)
    if isinstance(columns, str) or len(kept) < 2 or len(set(kept)) < len(kept):
        raise InputError(f"columns must be at least two names, each once, got columns={columns!r}")
    if {outcome, group} & set(kept):
        raise InputError(f"columns must be features, however the outcome or the patients are among them: {kept}")
    table = to_frame(frame)
    names = [name for name in table.columns if name not in (outcome, group)]
    sample, features = read_sample(table, outcome, [], group, positive, list(dict.fromkeys([*names, *kept])))
    asked = {_ALL: names, _KEPT: kept} | {f"without {name}": [other for other in kept if other != name] for name in kept}
    chosen = Encoded(HistGradientBoostingClassifier(random_state=seed)) if model is None else model
    event = sample.outcome.astype(np.int64)
    fold = split_patients(event, sample.patient, _FOLDS, seed)
    risks, seconds = {}, {}
    with single_threaded(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said of the same columns again and again
        for name, of in asked.items():
            risks[name], seconds[name] = _scored(chosen, features.select(of), event, sample.patient, fold)
    told = measure([Sample(sample.outcome, risks, sample.patient)], Use(0.05, sample.events / sample.rows), resamples, seed)
    rows = []
    for name in kept:
        lost = _told(told.gap(_KEPT, f"without {name}")["auprc"])
        gained = seconds[_KEPT].value - seconds[f"without {name}"].value
        rows.append({"column": name, "auprc_lost": lost.value, "low": lost.low, "high": lost.high, "seconds_gained": gained})
    return ColumnCosts(
        _told(told.results(_ALL)["auprc"]),
        _told(told.results(_KEPT)["auprc"]),
        _told(told.gap(_ALL, _KEPT)["auprc"]),
        seconds[_ALL],
        seconds[_KEPT],
        pl.DataFrame(rows).sort("auprc_lost", descending=True),
    )


def _scored(model: Any, features: pl.DataFrame, event: Ints, patient: Ints, fold: Ints) -> tuple[Floats, Estimate]:
    """Risks out of fold (n,), and the time that 1,000 rows take."""
    from nearward.tabular.ensemble.cross_fitting import fit_copy

    risk = np.empty(len(event))
    for f in range(int(fold.max()) + 1):
        left, seen = np.flatnonzero(fold == f), np.flatnonzero(fold != f)
        fitted = fit_copy(model, features[seen], event[seen], patient[seen])
        risk[left] = fitted.predict_proba(features[left])[:, 1]
    rows = features[np.arange(_TIMED_ROWS) % features.height]
    times = []
    for _ in range(_TIMES):
        began = time.process_time()
        fitted.predict_proba(rows)
        times.append(time.process_time() - began)
    return risk, Estimate(float(np.median(times)), min(times), max(times), _TIMES)


def _told(result: Result) -> Estimate:
    if isinstance(result, Undefined):
        raise InputError(f"the AUPRC cannot be told: {result.why}")
    return result
