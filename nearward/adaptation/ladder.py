"""Adaptation of a fitted model to a site: a ladder of steps that climbs as far as the site's own patients bear.

level → level and slope → local patients stored → stack weights → base learners fitted again on both

Every step is judged on local rows that it was not fitted on, folds by patient. Level and slope are shrunk by what the local events bear:
they are used unless the mean log-loss rises by more than its standard error over patients. A further step is used where it falls by more
than that. With fewer than 10 local events only the level is tried.

Shapes: n local rows, m columns of the stack, p local patients.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from nearward.adaptation.recalibration import Kind, Recalibration, cross_fit
from nearward.adaptation.stored_patients import OUTCOME, extend, relabel_known
from nearward.adaptation.summary import Adaptation, AdaptationStep, RiskGroup
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.calibration.venn_abers import VennAbersBand
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.ensemble.stacking import adapt_stack
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.typing import Floats, Ints, Progress

FOLDS = 5
_EVENTS_FOR_SLOPE = 10  # fewer: the level only
_EVENTS_FOR_REFIT = 50  # fewer: trees and weights learn nothing from them beside thousands of other patients
_EVENTS_FOR_BAND = 50  # fewer: a band of the local rows alone would be wide
_LOCAL_WEIGHTS = (1.0, 5.0)  # of a local patient's vote against a stored one's
_MOST_SITE_WEIGHT = 10.0
_ROWS_FOR_NOVELTY = 100
_GROUPS = 5
_TOO_FEW_TO_REFIT = f"fewer than {_EVENTS_FOR_REFIT} local events"
TOO_FEW = f"fewer than {_EVENTS_FOR_SLOPE} local events: the level only"
STEPS = ("intercept", "intercept and slope", "local patients stored", "stack weights", "base learners on both")


@dataclass(frozen=True)
class _Version:
    """A version of the model, with what it says of local rows that it was not fitted on.

    Parameters
    ----------
    state : FittedState
    columns : (n, m), of the stack
    raw : (n,), log-odds of the stack, before calibration
    local : (n,), calibrated and recalibrated log-odds
    kind : Kind, of the recalibration that ``local`` has
    """

    state: Any
    columns: Floats
    raw: Floats
    local: Floats
    kind: Kind = "none"

    @property
    def calibrated(self) -> Floats:
        """Log-odds before the local recalibration (n,)."""
        return np.asarray(self.state.model.outcome_model.calibrator.log_odds(self.raw) + self.state.model.prior_shift)


@dataclass
class _Ladder:
    """The version in use, and the steps that were tried."""

    data: TrainingData
    version: _Version
    steps: list[AdaptationStep] = field(default_factory=list)

    def loss(self, version: _Version) -> Floats:
        """Return the log-loss of each local row (n,)."""
        return np.asarray(np.logaddexp(0, version.local) - self.data.outcome * version.local)

    def judge(self, name: str, candidate: _Version, detail: str, *, shrunk: bool = False) -> bool:
        """Use a candidate where its log-loss is lower by more than a standard error over patients.

        One that is shrunk by what the local events bear is used unless its log-loss is higher by more than that.
        """
        before, after = self.loss(self.version), self.loss(candidate)
        by_patient = np.bincount(self.data.patient_ids, weights=before - after)
        gain, error = float(by_patient.sum() / len(before)), float(by_patient.std() * len(by_patient) ** 0.5 / len(before))
        used = gain > (-error if shrunk else error)
        why = "clearly better" if gain > error else "clearly worse" if gain < -error else "not clearly better"
        if shrunk and abs(gain) <= error:
            why = "shrunk, and not clearly worse"
        self.steps.append(AdaptationStep(name, used, why, float(before.mean()), float(after.mean()), gain, error, detail))
        if used:
            self.version = candidate
        return used

    def skip(self, name: str, why: str) -> None:
        """Note a step that was not tried."""
        self.steps.append(AdaptationStep(name, used=False, why=why))

    def recalibrated(self, version: _Version, kind: Kind) -> _Version:
        """Return a version with its local recalibration cross-fitted."""
        local = cross_fit(version.calibrated, self.data.outcome, self.data.fold, kind)
        return replace(version, local=local, kind=kind)


def adapt(
    state: Any, rows: pl.DataFrame, outcome: Ints, ids: pl.Series, patients: pl.Series, site: dict[str, Any], seed: int, progress: Progress
) -> tuple[Any, Adaptation]:
    """Adapt a fitted model of a binary outcome to local patients.

    Parameters
    ----------
    state : FittedState
    rows : conformed, n local rows
    outcome : (n,), 0 or 1
    ids, patients : (n,), ids of the rows and of their patients, as text
    site : fields of ``Adaptation`` about columns that the site lacks, or names otherwise
    seed : int
    progress : called with a message after each step

    Returns
    -------
    state : FittedState, of the adapted model
    adaptation : Adaptation

    Raises
    ------
    InputError
        More than two classes; one outcome only; fewer than two local patients.
    """
    events = int(outcome.sum())
    if not 0 < events < len(outcome):
        raise InputError(f"the local rows have one outcome only ({events} events in {len(outcome)} rows): adapt needs rows of both")
    ids, patients = relabel_known(state, ids, patients)
    patient_ids = patients.rank("dense").to_numpy().astype(np.int64) - 1
    count = int(patient_ids.max()) + 1
    if count < 2:
        raise InputError("all local rows are of one patient: adapt needs several")
    data = TrainingData(outcome, patient_ids, assign_folds(outcome, patient_ids, min(FOLDS, count), seed))
    inputs = state.model.stack_inputs(rows)
    raw = state.model.outcome_model.stack.log_odds(inputs.columns)
    source = _Version(state, inputs.columns, raw, np.empty(0))
    source = replace(source, local=source.calibrated)
    ladder = _Ladder(data, source)
    distance = state.model.novelty_distance(rows, inputs.distance)
    _try_recalibration(ladder, source, "intercept")
    if events < _EVENTS_FOR_SLOPE:
        for name in STEPS[1:]:
            ladder.skip(name, TOO_FEW)
    else:
        _try_recalibration(ladder, source, "intercept and slope")
        progress("level and slope")
        local = _LocalRows(rows, ids, patients)
        _try_storing(ladder, local)
        progress("local patients stored")
        _try_stack(ladder)
        progress("stack weights")
        distance = _try_refit(ladder, local, distance, seed)
        progress("base learners on both")
    adapted, facts = _assemble(ladder, distance)
    summary = Adaptation(
        rows=rows.height,
        events=events,
        patients=count,
        steps=tuple(ladder.steps),
        log_loss_source=float(ladder.loss(source).mean()),
        log_loss_adapted=float(ladder.loss(ladder.version).mean()),
        groups=_risk_groups(source.local, ladder.version.local, outcome),
        **facts,
        **site,
    )
    return replace(adapted, adaptation=summary), summary


@dataclass(frozen=True)
class _LocalRows:
    """Conformed local rows, their ids, and their patients' ids, (n,) each."""

    rows: pl.DataFrame
    ids: pl.Series
    patients: pl.Series


def _try_recalibration(ladder: _Ladder, source: _Version, kind: Literal["intercept", "intercept and slope"]) -> None:
    """Try the level, or the level and the slope, of the local rows, shrunk towards the model as it came."""
    fitted = Recalibration.fit(source.calibrated, ladder.data.outcome, kind)
    detail = f"shift {fitted.intercept:+.2f}" + (f", slope {fitted.slope:.2f}" if kind == "intercept and slope" else "")
    ladder.judge(kind, ladder.recalibrated(source, kind), detail, shrunk=True)


def _try_storing(ladder: _Ladder, local: _LocalRows) -> None:
    """Try the votes of local patients, who are stored without those of the fold that is scored."""
    if ladder.version.state.records.width == 0:
        ladder.skip("local patients stored", "the model was saved without records")
        return
    stored = len(ladder.version.state.model.retriever.outcome)
    candidates = []
    for weight in _LOCAL_WEIGHTS:
        full = extend(ladder.version.state, local.rows, ladder.data.outcome, local.ids, local.patients, weight)[0]
        columns = np.empty_like(ladder.version.columns)
        for _, train in ladder.data.splits():
            removed = np.concatenate([np.zeros(stored, dtype=bool), ~train])
            model = full.model.without_stored(removed)
            columns[~train] = model.stack_inputs(local.rows.filter(pl.Series(~train))).columns
        version = _Version(full, columns, full.model.outcome_model.stack.log_odds(columns), np.empty(0))
        candidates.append((weight, ladder.recalibrated(version, ladder.version.kind)))
    weight, best = min(candidates, key=lambda pair: float(ladder.loss(pair[1]).sum()))
    ladder.judge("local patients stored", best, f"weight of a local patient {weight:g}")


def _try_stack(ladder: _Ladder) -> None:
    """Try stack weights of the local rows, shrunk towards the old ones."""
    if ladder.data.outcome.sum() < _EVENTS_FOR_REFIT:
        ladder.skip("stack weights", _TOO_FEW_TO_REFIT)
        return
    version = ladder.version
    model = version.state.model
    stack, raw, penalty = adapt_stack(model.outcome_model.stack, version.columns, ladder.data)
    state = replace(version.state, model=replace(model, outcome_model=replace(model.outcome_model, stack=stack)))
    moved = float(np.abs(stack.weight - model.outcome_model.stack.weight).sum())
    candidate = ladder.recalibrated(replace(version, state=state, raw=raw), version.kind)
    ladder.judge("stack weights", candidate, f"penalty {penalty:g}, weights moved by {moved:.2f} in all")


def _try_refit(ladder: _Ladder, local: _LocalRows, distance: Floats, seed: int) -> Floats:
    """Try base learners fitted on stored and local rows; return the local rows' distances to their neighbourhood (n,)."""
    name, version, events = STEPS[-1], ladder.version, int(ladder.data.outcome.sum())
    why = _why_no_refit(version.state, events)
    if why is not None:
        ladder.skip(name, why)
        return distance
    state = version.state
    if not any(step.used and step.name == "local patients stored" for step in ladder.steps):
        state = extend(state, local.rows, ladder.data.outcome, local.ids, local.patients)[0]
    stored, taught = state.records.height - local.rows.height, state.model.taught  # all local rows are among those that teach
    weight = min(max((stored / local.rows.height) ** 0.5, 1.0), _MOST_SITE_WEIGHT)
    weights = np.ones(stored + local.rows.height) if state.model.sampling_weight is None else state.model.sampling_weight.copy()
    weights[stored:] *= weight
    data = TrainingData(
        state.records.get_column(OUTCOME).to_numpy().astype(np.int64)[taught],
        np.unique(state.patient_ids[taught], return_inverse=True)[1],
        state.model.retriever.fold[taught],
        weights[taught],
    )
    frame = state.records.select(local.rows.columns).filter(pl.Series(taught))
    model, distances = state.model.refitted(frame, data, state.patient_ids, seed, lambda words: None)
    raw = model.out_of_fold[stored:]
    candidate = ladder.recalibrated(_Version(replace(state, model=model), version.columns, raw, raw), "intercept and slope")
    used = ladder.judge(name, candidate, f"a local row weighs {weight:.1f}")
    return np.asarray(model.novelty_distance(local.rows, distances[-local.rows.height :])) if used else distance


def _why_no_refit(state: Any, events: int) -> str | None:
    if events < _EVENTS_FOR_REFIT:
        return _TOO_FEW_TO_REFIT
    if state.records.width == 0:
        return "the model was saved without records"
    if state.model.user_estimators:
        return "estimators among the experts would have to be fitted again: fit a new model"
    if state.model.backbone is not None and not hasattr(state.model.backbone, "refitted"):
        return "the model uses an external backbone: fit a new model"
    return None


def _assemble(ladder: _Ladder, distance: Floats) -> tuple[Any, dict[str, Any]]:
    """Return the adapted model's state, and the fields of ``Adaptation`` about recalibration, band and novelty."""
    version, data = ladder.version, ladder.data
    model = version.state.model
    fitted = Recalibration.fit(version.calibrated, data.outcome, version.kind)
    total = Recalibration(fitted.intercept + fitted.slope * model.prior_shift, fitted.slope)
    old: Any = model.outcome_model
    band, rests_on = total.band(old.band), "the band of the model as it came, recalibrated"
    if data.outcome.sum() >= _EVENTS_FOR_BAND:
        band, rests_on = VennAbersBand.fit(version.raw, data.outcome), f"{len(data)} local rows"
    novelty, relative_to = model.novelty, "stored patients"
    if len(data) >= _ROWS_FOR_NOVELTY:
        novelty, relative_to = DistanceQuantiles.fit(distance), f"{len(data)} local rows"
    outcome_model = replace(old, calibrator=total.calibrator(old.calibrator), band=band)
    prevalence = float(data.outcome.mean())
    model = replace(model, outcome_model=outcome_model, novelty=novelty, prevalence=None, trained_prevalence=prevalence)
    facts = {"intercept": fitted.intercept, "slope": fitted.slope, "band": rests_on, "novelty": relative_to}
    return replace(version.state, model=model), facts


def _risk_groups(before: Floats, after: Floats, outcome: Ints) -> tuple[RiskGroup, ...]:
    """Return observed and expected events by fifths of the adapted risk."""
    groups = np.array_split(np.argsort(after, kind="stable"), _GROUPS)
    return tuple(
        RiskGroup(len(rows), int(outcome[rows].sum()), float(expit(before[rows]).sum()), float(expit(after[rows]).sum()))
        for rows in groups
        if len(rows)
    )
