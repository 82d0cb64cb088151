"""One patient's page: risk, band, similar patients, why this risk, and what the page does not say."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from nearward.evaluation.html_page import render, write_html
from nearward.evaluation.provenance import Provenance
from nearward.evaluation.stats.confidence import Estimate, estimate_series
from nearward.explanation.contributions import BASE_RATE, PERMUTATIONS, Reference
from nearward.explanation.waterfall import waterfall
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import describe_event
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.frame_output import FrameOutput
from nearward.tabular.typing import Values

_PATIENTS = 5  # similar ones that are listed
_COLUMNS = 7  # with a bar of their own
_NOVEL = 0.99


class ExplainedModel(Protocol):
    """What the sheet asks of a fitted ``RiskClassifier``."""

    @property
    def classes_(self) -> Values:
        """The outcome's values."""

    @property
    def event_(self) -> Any:
        """The event."""

    @property
    def schema_(self) -> Schema:
        """The columns."""

    @property
    def summary_(self) -> Any:
        """Summary of the fit."""

    def predict_frame(self, X: Any) -> pl.DataFrame:
        """Return risk, band and novelty."""

    def similar(self, X: Any, k: int | None = 10) -> pl.DataFrame:
        """Return the similar patients."""

    def explain(self, X: Any, reference: Reference = "similar", *, permutations: int = PERMUTATIONS, seed: int = 0) -> pl.DataFrame:
        """Return the contributions of the columns."""


def patient_sheet(
    model: ExplainedModel,
    X: Any,
    path: str | Path,
    *,
    reference: Reference = "similar",
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    label: str | None = None,
    provenance: Provenance | None = None,
) -> None:
    """Write the page of one patient: self-contained HTML, one sheet of paper where it is printed.

    Parameters
    ----------
    model : RiskClassifier, fitted
    X : frame of one row
    path : path
        Written atomically, readable by its owner alone (0600). The page shows patients' values.
    reference, permutations, seed
        See ``RiskClassifier.explain``.
    label : str, optional
        Name of the row in the title; by default its id, where the schema has an id column.
    provenance : Provenance, optional
        What the foot of the page says about its origin; by default the time and the versions.

    Raises
    ------
    InputError
        Not one row; and as ``RiskClassifier.predict_frame``.
    """
    if isinstance(model, FrameOutput):
        model = copy.copy(model).set_output(transform="polars")
    frame = to_frame(X, model.schema_.features)
    if frame.height != 1:
        raise InputError(f"X must be one row, got {frame.height} rows")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        scores = model.predict_frame(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they are on the page already
        explanation = model.explain(frame, reference, permutations=permutations, seed=seed)
        similar = model.similar(frame, k=None)
    score, name = scores.row(0, named=True), scores.columns[0]
    classes = model.classes_.tolist() if len(model.classes_) > 2 else [None]
    shown = score["class"] if len(classes) > 1 else None
    of_class = explanation if shown is None else explanation.filter(pl.col("class") == shown)
    notes = [str(one.message) for one in caught if issubclass(one.category, DataWarning)]
    page = render(
        "patient_sheet.html.jinja",
        provenance,
        outcome=_outcome(model),
        label=label or (f"{name} {score[name]}" if name in model.schema_.named("id") else "one patient"),
        rows=model.summary_.rows,
        patients=model.summary_.patients,
        events=model.summary_.events,
        risks=[_risk(score, explanation, one) for one in classes],
        n_similar=score["n_similar"],
        novelty=score["novelty"],
        notes=[*_novelty_notes(score), *notes],
        waterfall=waterfall(of_class, _COLUMNS),
        waterfall_caption=_waterfall_caption(of_class, reference, shown),
        contributions=_contribution_table(of_class),
        similar=_similar_table(similar, len(classes) > 1),
        n_voting=similar.height,
    )
    write_html(page, path)


def _outcome(model: ExplainedModel) -> str:
    """Name the outcome, and the event where there is one."""
    names = model.schema_.named("outcome")
    name = f"“{names[0]}”" if names else "the outcome"
    return name if model.event_ is None else f"{name} being {describe_event(model.event_)}"


def _risk(score: dict[str, Any], explanation: pl.DataFrame, name: Any) -> dict[str, str]:
    """Return a risk, its band, vote and base rate as text: of the event, or of one class."""
    rows = explanation if name is None else explanation.filter(pl.col("class") == name)
    base = float(expit(rows.filter(pl.col("column") == BASE_RATE)["contribution"][0]))
    suffix = "" if name is None else f": {name}"
    shown = {key: percent(score[f"{key}{suffix}"]) for key in ("risk", "low", "high", "vote")}
    return {**shown, "base_rate": percent(base), "name": "" if name is None else str(name)}


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal, two below 1 %.

    Examples
    --------
    >>> percent(0.1234), percent(0.00123), percent(0.00001)
    ('12.3 %', '0.12 %', 'below 0.01 %')
    """
    if 0 < share < 1e-4:
        return "below 0.01 %"
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"


def _novelty_notes(score: dict[str, Any]) -> list[str]:
    notes = []
    if score["novelty"] > _NOVEL:
        notes.append("This patient lies outside the training population: hardly any stored patient is as unusual. Do not rely on the risk.")
    if score["n_similar"] == 0:
        notes.append("No stored patient lies within the usual distance: the similar patients below are the nearest, but not near.")
    return notes


def _waterfall_caption(explanation: pl.DataFrame, reference: Reference, name: Any) -> str:
    start = "patients like this one" if reference == "similar" else "all training patients"
    largest = explanation[2:5].iter_rows(named=True)
    words = "; ".join(
        f"{row['column']} {'raises' if row['contribution'] > 0 else 'lowers'} it by {abs(row['contribution']):.2f}" for row in largest
    )
    of_class = "" if name is None else f" of class {name}"
    return (
        f"From the base rate to this patient’s risk{of_class}, in log-odds: first {start}, then the columns in which this patient differs "
        f"from them, each exchanged for their values. Whiskers: twice the Monte Carlo standard error. The largest: {words}."
    )


def _contribution_table(explanation: pl.DataFrame) -> pl.DataFrame:
    rows = explanation.iter_rows(named=True)
    changes = [
        Estimate(row["contribution"], row["contribution"] - 1.96 * row["se"], row["contribution"] + 1.96 * row["se"], 1) for row in rows
    ]
    names = explanation.select("column", pl.col("value").fill_null(""))
    return names.with_columns(estimate_series("contribution (95 %)", changes))


def _similar_table(similar: pl.DataFrame, classes: bool) -> pl.DataFrame:
    outcome = (
        pl.col("outcome").cast(pl.String)
        if classes
        else pl.when(pl.col("outcome") == 1).then(pl.lit("event")).otherwise(pl.lit("no event")).alias("outcome")
    )
    return similar.head(_PATIENTS).select(
        "rank", (100 * pl.col("weight")).round(1).cast(pl.String).add(" %").alias("weight"), outcome, "differs"
    )
