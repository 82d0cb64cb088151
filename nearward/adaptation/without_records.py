"""A fitted model without readable rows: embeddings, tokens and outcomes of the stored patients, but no record of one.

What had rows of patients among its parts has others: the in-context model keeps tokens alone, and the references of the kernel regressions
become means of at least five near patients with the same outcome. Their calibrators are rescaled to the scores of the new references, and
novelty is fitted again.

Shapes: n stored rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from nearward.adaptation.stored_patients import require_records
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.ensemble.base_learners import BaseLearners, EncodedRows
from nearward.tabular.ensemble.stacking import Stack
from nearward.tabular.errors import InputError
from nearward.tabular.novelty.distance_quantiles import DistanceQuantiles
from nearward.tabular.statistics import mean_and_deviation
from nearward.tabular.typing import Floats

FEWEST_PATIENTS = 5  # of a mean
STILL_INFERRED = (
    "no readable rows are saved, but the embedding and the outcome of every stored patient are. Who knows a patient's columns can tell "
    "whether he is stored, and then knows his outcome; embeddings can be inverted in part. Column quantiles, categories, tree thresholds "
    "and rates come from patients too. Guard the model as you guard the cohort"
)


def without_records(state: Any) -> Any:
    """Return a fitted state without readable rows of patients.

    Raises
    ------
    InputError
        An external backbone is in use: it reads the stored rows.
    """
    records = require_records(state, "save(records=False)")
    model = state.model
    binary = len(state.classes) == 2
    backbone = model.backbone if binary else None
    if backbone is not None and not hasattr(backbone, "without_rows"):
        raise InputError("records=False is not possible: the external backbone in use reads the stored rows. Fit with another backbone")
    features = [name for name in state.schema.named("feature", "expert") if name in records.columns]
    rows, weight = model.encode(records.select(features).filter(pl.Series(model.taught))), model.teaching_weight
    if binary:
        learners, stacks, distance = _aggregate(model.base_learners, [model.outcome_model.stack], rows, weight)
        outcome_model = replace(model.outcome_model, stack=stacks[0])
        parts: dict[str, Any] = {"base_learners": learners, "outcome_model": outcome_model, "out_of_fold": np.empty(0)}
        parts["backbone"] = None if backbone is None else backbone.without_rows()
    else:
        fits = zip(model.base_learners, model.outcome_models, strict=True)
        pairs = [_aggregate(learners, [one.stack], rows, weight) for learners, one in fits]
        distance = pairs[0][2]
        models = tuple(replace(one, stack=pair[1][0]) for one, pair in zip(model.outcome_models, pairs, strict=True))
        parts = {"base_learners": tuple(pair[0] for pair in pairs), "outcome_models": models}
    novelty = model.novelty if state.adaptation is not None else DistanceQuantiles.fit(distance, weight=weight)
    return replace(state, model=replace(model, novelty=novelty, **parts), records=pl.DataFrame(), patient_ids=np.empty(0, dtype=np.int64))


def _aggregate(
    learners: BaseLearners, stacks: list[Stack], rows: EncodedRows, weight: Floats | None
) -> tuple[BaseLearners, list[Stack], Floats]:
    """Return base learners whose kernel regressions know means of patients, their stacks, and the distances (n,) of weighted rows."""
    kernel = tuple(one.aggregated(FEWEST_PATIENTS) for one in learners.kernel)
    aggregated = replace(learners, kernel=kernel)
    old, new = learners.scores(rows)[0], aggregated.scores(rows)
    columns = [learners.names.index(name) for name in ("kernel regression", "kernel regression, whitened")]
    rescaled = []
    for stack in stacks:
        calibrators = list(stack.calibrators)
        for j in columns:
            calibrators[j] = _rescaled(calibrators[j], old[:, j], new[0][:, j], weight)
        rescaled.append(replace(stack, calibrators=tuple(calibrators)))
    return aggregated, rescaled, new[1]


def _rescaled(calibrator: Calibrator, old: Floats, new: Floats, weight: Floats | None) -> Calibrator:
    """Return a calibrator of the new scores (n,) that gives their mean and spread what those of the old ones had."""
    (mean, deviation), (new_mean, new_deviation) = mean_and_deviation(old, weight), mean_and_deviation(new, weight)
    ratio = new_deviation / max(deviation, 1e-12) or 1.0
    return replace(calibrator, centre=new_mean + (calibrator.centre - mean) * ratio, scale=calibrator.scale * ratio)
