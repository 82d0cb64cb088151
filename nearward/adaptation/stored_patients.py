"""Stored patients of a fitted model added and removed, without training.

Encoder f learned from the patients of all shards but f. A new patient is unknown to every encoder, and is stored once, in one shard: stored
in all of them he would come up to s times in a context, and outweigh the patients of the fit. New rows of a patient who is stored already
go to his shard. Nobody is therefore indexed by an encoder that learned from him.

Shapes: n stored rows, m new rows, s shards.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from nearward.adaptation.summary import CalibrationCheck, Extension, Removal
from nearward.evaluation.stats.logistic_recalibration import LogisticRecalibration
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.errors import InputError, TooFewEvents
from nearward.tabular.typing import Bools, Floats, Ints

ID = "(id)"  # columns that the stored records have beside the features
OUTCOME = "(outcome)"
PATIENT = "(patient)"  # the patient's id, as text
FEWEST_EVENTS, FEWEST_IN_CLASS = 10, 5


def deal(known: Ints, events: Ints, rows: Ints, stored: Ints, stored_events: Ints, seed: int = 0) -> Ints:
    """Deal patients to shards: the known ones to theirs, each new one to the shard with the fewest events, or rows, so far.

    Parameters
    ----------
    known : (p,), the shard of each patient who is stored already, -1 of a new one
    events, rows : (p,), new rows of each patient, and those with the event
    stored, stored_events : (s,), rows and events of each shard
    seed : int
        Order of the new patients.

    Returns
    -------
    (p,), shard

    Examples
    --------
    >>> deal(np.array([1, -1, -1]), np.array([0, 1, 0]), np.array([1, 1, 1]), np.array([5, 5]), np.array([2, 1])).tolist()
    [1, 1, 0]
    """
    shard, stored, stored_events = known.copy(), stored.copy(), stored_events.copy()
    np.add.at(stored, known[known >= 0], rows[known >= 0])
    np.add.at(stored_events, known[known >= 0], events[known >= 0])
    order = np.random.default_rng(seed).permutation(len(known))
    order = order[np.lexsort((-rows[order], events[order] == 0))]  # patients with an event first, then those with more rows
    for patient in order[known[order] < 0]:
        count = stored_events * (stored.sum() + 1) + stored if events[patient] else stored
        f = int(count.argmin())
        shard[patient], stored[f], stored_events[f] = f, stored[f] + rows[patient], stored_events[f] + events[patient]
    return shard


def extend(
    state: Any, rows: pl.DataFrame, outcome: Ints, ids: pl.Series, patients: pl.Series, weight: float | None = None
) -> tuple[Any, Extension]:
    """Store more patients.

    Parameters
    ----------
    state : FittedState
    rows : conformed, m new rows
    outcome : (m,), 0 or 1; or class indices
    ids, patients : (m,), ids of the rows and of their patients, as text
    weight : float, optional
        What a new row counts in a vote, a stored one counting as before.

    Returns
    -------
    state : FittedState
    summary : Extension

    Raises
    ------
    InputError
        Saved without records; ids that are stored already.
    """
    records = require_records(state, "extend")
    repeats = int(ids.is_in(records.get_column(ID).implode()).sum()) + len(ids) - ids.n_unique()
    if repeats:
        raise InputError(
            f"{repeats} of {len(ids)} new rows have the id of a stored row, or of one another: leave out the rows that are stored"
        )
    numbers, known = _patient_numbers(state, patients)
    retriever = state.model.retriever
    local = np.unique(numbers, return_inverse=True)[1]
    events = np.bincount(local, weights=_is_event(outcome, retriever.outcome)).astype(np.int64)
    shards = len(retriever.shards)
    stored = np.bincount(retriever.fold, minlength=shards)
    stored_events = np.bincount(retriever.fold, weights=_is_event(retriever.outcome, retriever.outcome), minlength=shards).astype(np.int64)
    shard_of_patient = deal(known, events, np.bincount(local), stored, stored_events)
    fold = shard_of_patient[local]
    model = state.model.extended(rows, outcome, fold, weight)
    new = rows.with_columns(ids.alias(ID), pl.Series(OUTCOME, outcome), patients.alias(PATIENT)).select(records.columns)
    extended = replace(
        state,
        model=model,
        records=pl.concat([records, new.cast(dict(records.schema))]),  # type: ignore[arg-type]
        patient_ids=np.concatenate([state.patient_ids, numbers]),
    )
    summary = Extension(
        rows=rows.height,
        events=int(events.sum()),
        patients=len(known),
        known_patients=int((known >= 0).sum()),
        rows_by_shard=tuple(np.bincount(fold, minlength=shards).tolist()),
        stored=extended.records.height,
        check=_check(extended, np.arange(len(retriever.outcome), extended.records.height)),
    )
    return extended, summary


def forget(state: Any, ids: Collection[Any]) -> tuple[Any, Removal]:
    """Remove patients and everything that is stored of them.

    Parameters
    ----------
    state : FittedState
    ids : ids of patients; of rows where the model was fitted without patients

    Returns
    -------
    state : FittedState
    summary : Removal

    Raises
    ------
    InputError
        Saved without records; no id that is stored.
    TooFewEvents
        Fewer than 10 events, or than 5 rows of one of several classes, would remain.
    """
    records = require_records(state, "forget")
    wanted = {str(one) for one in ids}
    removed = records.get_column(PATIENT).is_in(list(wanted)).to_numpy()
    if not removed.any():
        raise InputError(
            f"none of the {len(wanted)} ids is of a stored patient: ids are those of groups at the fit, else of the id column, else the "
            "numbers of the rows from 0"
        )
    found = records.get_column(PATIENT).filter(pl.Series(removed)).n_unique()
    _require_enough(state.model.retriever.outcome[~removed], len(state.classes))
    outcome = state.model.retriever.outcome
    patients = np.unique(state.patient_ids[removed])
    model = state.model.without(removed, patients, refit_band=state.adaptation is None)
    remaining = replace(state, model=model, records=records.filter(pl.Series(~removed)), patient_ids=state.patient_ids[~removed])
    remaining = replace(remaining, forgotten=state.forgotten + found)
    rows = np.arange(remaining.records.height)
    summary = Removal(
        patients=found,
        rows=int(removed.sum()),
        events=int(_is_event(outcome, outcome)[removed].sum()),
        not_stored=len(wanted) - found,
        stored=remaining.records.height,
        stored_events=int(_is_event(outcome, outcome)[~removed].sum()),
        removed_from=model.row_storage,
        still_fitted=model.fitted_parts,
        check=None if state.adaptation is not None else _check(remaining, rows),
    )
    return remaining, summary


def next_number(state: Any) -> int:
    """Return the number of the next row of a model whose rows are numbered: above all that were ever stored and still are."""
    if state.records.width == 0:
        return len(state.patient_ids)
    numbers = state.records.get_column(ID).cast(pl.Int64, strict=False)
    return max(int(numbers.max() or 0) + 1, int(state.records.height))


def relabel_known(state: Any, ids: pl.Series, patients: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return a site's ids, with ``local `` before each where one of them is stored already: two hospitals number patients alike."""
    if state.records.width == 0:
        return ids, patients
    clash = [column.is_in(state.records.get_column(name).implode()).any() for column, name in ((ids, ID), (patients, PATIENT))]
    return (ids, patients) if not any(clash) else ("local " + ids, "local " + patients)


def require_records(state: Any, what: str) -> pl.DataFrame:
    """Return the stored records, or say that the model has none."""
    if state.records.width == 0:
        raise InputError(f"{what} needs the stored patients' records, and the model was saved without records (records=False)")
    records: pl.DataFrame = state.records
    return records


def _patient_numbers(state: Any, patients: pl.Series) -> tuple[Ints, Ints]:
    """Return each new row's patient number (m,), and for each number in rising order the shard of a stored patient, -1 of a new one."""
    stored = pl.DataFrame({PATIENT: state.records.get_column(PATIENT), "number": state.patient_ids, "shard": state.model.retriever.fold})
    new = pl.DataFrame({PATIENT: patients}).join(stored.unique(PATIENT), on=PATIENT, how="left", maintain_order="left")
    first_number = int(state.patient_ids.max()) + 1
    fresh = new.select(pl.col(PATIENT).filter(pl.col("number").is_null()).unique(maintain_order=True)).with_row_index("fresh", first_number)
    new = new.join(fresh, on=PATIENT, how="left", maintain_order="left").with_columns(pl.coalesce("number", pl.col("fresh").cast(pl.Int64)))
    by_number = new.group_by("number").agg(pl.col("shard").first().fill_null(-1)).sort("number")
    return new.get_column("number").to_numpy().astype(np.int64), by_number.get_column("shard").to_numpy().astype(np.int64)


def _is_event(outcome: Any, stored: Floats) -> Ints:
    """Return 1 for rows with the event; with several classes for rows outside the commonest stored class."""
    codes = np.asarray(outcome).astype(np.int64)
    return codes if stored.max() <= 1 else (codes != int(np.bincount(stored.astype(np.int64)).argmax())).astype(np.int64)


def _require_enough(outcome: Floats, classes: int) -> None:
    rows = np.bincount(outcome.astype(np.int64), minlength=classes)
    least, needed = (int(rows[1]), FEWEST_EVENTS) if classes == 2 else (int(rows.min()), FEWEST_IN_CLASS)
    if least < needed:
        instead = "Nothing was removed: extend the model first, or fit another without these patients."
        raise TooFewEvents(least, needed, "remain stored", instead)


def _check(state: Any, rows: Ints | Bools) -> CalibrationCheck | None:
    """Check the calibration of some stored rows by their out-of-fold risks; None with more than two classes.

    Rows that taught nothing have none; the others count as many rows as they stand for.
    """
    model = state.model
    rows = np.arange(len(model.retriever.outcome))[rows]
    rows = rows[model.taught[rows]]
    log_odds = model.out_of_fold_log_odds(rows)
    if log_odds is None:
        return None
    return check_calibration(
        log_odds, model.retriever.outcome[rows], None if model.sampling_weight is None else model.sampling_weight[rows]
    )


def check_calibration(log_odds: Floats, outcome: Floats, weight: Floats | None = None) -> CalibrationCheck:
    """Return expected and observed events, calibration in the large and slope of log-odds (n,), each row counting (n,) rows."""
    weight = np.ones(len(outcome)) if weight is None else weight
    recalibration, rows, events = LogisticRecalibration(log_odds, outcome), float(weight.sum()), float(weight @ outcome)
    values = []
    if 0 < outcome.sum() < len(outcome):
        values = [float(recalibration.in_the_large(weight[None])[0]), float(recalibration.intercept_and_slope(weight[None])[0, 1])]
    intercept, slope = (value if np.isfinite(value) else None for value in values or [np.nan, np.nan])
    return CalibrationCheck(round(rows), round(events), float(weight @ expit(log_odds)), intercept, slope)
