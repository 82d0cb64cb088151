"""``EventRisk``: from time-stamped events to a calibrated risk, in one estimator and one folder.

Shapes: n training labels, q labels to score.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from nearward.adaptation.stored_patients import ID, PATIENT
from nearward.event_model.sources import KIND, rename_codes
from nearward.event_model.stored_subjects import AdaptableEventRisk
from nearward.event_model.timelines import check_timelines, format_timelines, of_stored
from nearward.explanation.contributions import PERMUTATIONS, Reference
from nearward.risk_model import persistence
from nearward.risk_model.classifier import RiskClassifier
from nearward.risk_model.summary import FitSummary
from nearward.risk_model.validation import stored_ids
from nearward.tabular.backbones.pretrained import Backbone
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import read_table
from nearward.tabular.errors import ArtifactError, DataWarning, InputError
from nearward.tabular.events.event_counts import EventCounts
from nearward.tabular.events.features import EventFeatures, Labels, Source
from nearward.tabular.events.label_table import LABEL, PREDICTION_TIME, read_labels
from nearward.tabular.events.reading import SUBJECT, Events, read_events
from nearward.tabular.frame_output import FrameOutput, frame_output
from nearward.tabular.persistence.artifact import loading, read_model, write_model
from nearward.tabular.typing import Arrays, Floats


class EventRisk(FrameOutput, AdaptableEventRisk, BaseEstimator):  # type: ignore[misc]
    """Calibrated risk of an outcome at moments of prediction, from the events before them.

    Parameters
    ----------
    features : EventFeatures, optional
        How events become features; with its defaults where it is not given.
    model : RiskClassifier, optional
        The risk model; with its defaults where it is not given.
    columns : mapping, optional
        Names of the source's columns, where they are not those of MEDS: ``{"subject_id": "stay", "numeric_value": "value"}``; the same in
        ``fit`` and everywhere after it.
    codes : mapping, optional
        Codes that the source names otherwise: its name -> the one that is used here, in ``fit`` and everywhere after it.
    timelines : bool
        Whether to keep, of each stored patient, the ten most telling events around the moment of prediction, for ``similar``.

    Attributes
    ----------
    features_ : EventFeatures
    model_ : RiskClassifier
    counts_ : dict
        Labels and events of the training data, and those that were left out, by reason.
    timelines_ : pl.DataFrame or None
        ``(id)``, ``subject_id``, ``hours`` and ``event`` of each stored label, see ``nearward.event_model.timelines``.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from datetime import datetime, timedelta
    >>> rng, start = np.random.default_rng(0), datetime(2024, 1, 1)
    >>> lactate, died = rng.normal(2, 1, (200, 3)), rng.random(200) < 0.3
    >>> lactate[died] += 3
    >>> events = pl.DataFrame({
    ...     "subject_id": np.repeat(np.arange(200), 3), "code": "Lactate", "numeric_value": lactate.ravel(),
    ...     "time": [start + timedelta(hours=h) for h in (1, 5, 9)] * 200,
    ... })
    >>> labels = pl.DataFrame({
    ...     "subject_id": np.arange(200), "prediction_time": [start + timedelta(hours=12)] * 200, "boolean_value": died
    ... })
    >>> model = EventRisk(model=RiskClassifier(folds=3, backbone=None)).fit(events, labels)
    >>> model.predict_frame(events, labels[:2]).columns[:3]
    ['subject_id', 'prediction_time', 'risk']
    """

    features_: EventFeatures
    model_: RiskClassifier
    counts_: dict[str, int]
    timelines_: pl.DataFrame | None

    def __init__(
        self,
        features: EventFeatures | None = None,
        model: RiskClassifier | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        codes: Mapping[str, str] | None = None,
        timelines: bool = True,
    ) -> None:
        self.features = features
        self.model = model
        self.columns = columns
        self.codes = codes
        self.timelines = timelines

    @property
    def classes_(self) -> NDArray[Any]:
        """``[False, True]``."""
        return self.model_.classes_

    @property
    def schema_(self) -> Schema:
        """Schema of the features."""
        return self.model_.schema_

    @property
    def summary_(self) -> FitSummary:
        """Summary of the risk model's training; its figures are out of fold."""
        return self.model_.summary_

    def fit(self, events: Source, labels: Labels) -> EventRisk:
        """Fit features and risk model; a subject's labels are always in one fold.

        Parameters
        ----------
        events : path, frame or Events
            See ``nearward.read_events``.
        labels : path or frame of n rows
            ``subject_id``, ``prediction_time``, ``boolean_value``. Labels whose outcome is null (censored) are left out, with a warning.

        Raises
        ------
        InputError
            Events or labels that cannot be used, or no outcome.
        TooFewEvents
            Fewer than 10 labels with the outcome.
        """
        source, known = self._read_with_outcome(events, labels)
        features: EventFeatures = clone(self.features or EventFeatures())
        rows, counts = features.fit(source, known).transform_counted(source, known)
        model: RiskClassifier = clone(self.model or RiskClassifier())
        schema = model.schema or features.schema_
        model.set_params(schema=schema, positive=True)
        model.fit(rows, known.get_column(LABEL), groups=known.get_column(SUBJECT))
        self.features_, self.model_, self.counts_, self.timelines_ = features, model, counts.summary(), None
        if self.timelines:
            chosen = self._choose_timelines(source, known)
            self.timelines_ = chosen.insert_column(0, stored_ids(model.schema_, rows).alias(ID))
        return self

    def transform_counted(self, events: Source, labels: Labels) -> tuple[pl.DataFrame, pl.DataFrame, EventCounts]:
        """Return the labels, their features, and what was counted on the way, q rows each."""
        check_is_fitted(self, "model_")
        source, known = self._read(events, labels)
        rows, counts = self.features_.transform_counted(source, known)
        return known, rows, counts

    def predict_proba(self, events: Source, labels: Labels) -> Floats:
        """Return the probability of no event and of the event (q, 2)."""
        return self.model_.predict_proba(self.transform_counted(events, labels)[1])

    @frame_output
    def predict_frame(self, events: Source, labels: Labels) -> pl.DataFrame:
        """Return the risk of each label.

        Parameters
        ----------
        events : path, frame or Events
        labels : path or frame of q rows
            ``subject_id``, ``prediction_time``; an outcome is not read.

        Returns
        -------
        pl.DataFrame, q rows
            ``subject_id``, ``prediction_time``, and the columns of ``RiskClassifier.predict_frame``.
        """
        known, rows, _ = self.transform_counted(events, labels)
        return self._with_keys(known, self.model_.predict_frame(rows).with_row_index("(query)"))

    @frame_output
    def similar(self, events: Source, labels: Labels, k: int | None = 10) -> pl.DataFrame:
        """Return the similar patients behind each label's vote, and what happened to them.

        Parameters
        ----------
        events : path, frame or Events
        labels : path or frame of q rows
        k : int, optional
            Patients per label; None for all.

        Returns
        -------
        pl.DataFrame
            The label's ``subject_id`` and ``prediction_time``, and the columns of ``RiskClassifier.similar``; ``patient`` is the similar
            patient's ``subject_id`` (``local 17`` where ``adapt`` met an id that two sites use). ``timeline`` has that patient's most
            telling events, their times relative to the moment of prediction; null where the model keeps no timelines. It holds records
            of patients.
        """
        known, rows, _ = self.transform_counted(events, labels)
        table = self.model_.similar(rows, k=k)
        timeline: list[str | None] = [None] * table.height
        records = self.model_.fitted_.records
        if records.width:
            stored = table.select(pl.col("patient").alias(ID)).join(records.select(ID, PATIENT), on=ID, how="left", maintain_order="left")
            table = table.with_columns(_as_subjects(stored.get_column(PATIENT), known.schema[SUBJECT]).alias("patient"))
            if self.timelines_ is not None:
                timeline = format_timelines(stored.join(self.timelines_, on=ID, how="left", maintain_order="left"))
        table = table.with_columns(pl.Series("timeline", timeline, dtype=pl.String))
        return self._with_keys(known, table.rename({table.columns[0]: "(query)"}))

    @frame_output
    def explain(
        self,
        events: Source,
        labels: Labels,
        reference: Reference = "similar",
        *,
        permutations: int = PERMUTATIONS,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> pl.DataFrame:
        """Return the features that raised or lowered each label's risk, in log-odds.

        Parameters
        ----------
        events : path, frame or Events
        labels : path or frame of q rows
        reference, permutations, seed, progress
            See ``RiskClassifier.explain``.

        Returns
        -------
        pl.DataFrame
            The label's ``subject_id`` and ``prediction_time``, and the columns of ``RiskClassifier.explain``.
        """
        known, rows, _ = self.transform_counted(events, labels)
        table = self.model_.explain(rows, reference, permutations=permutations, seed=seed, progress=progress)
        return self._with_keys(known, table.rename({table.columns[0]: "(query)"}))

    def save(self, folder: str | Path, *, records: bool = True) -> None:
        """Write features, risk model and timelines into one folder, readable by its owner only.

        Parameters
        ----------
        folder : path
        records : bool
            Whether the stored patients' records and timelines are saved, see ``RiskClassifier.save``.
        """
        check_is_fitted(self, "model_")
        tensors: Arrays = {}
        fitted = self.model_.fitted_ if records else persistence.withhold_records(self.model_.fitted_)
        about = persistence.to_json(self.model_.get_params(deep=False), fitted, tensors)
        own = {
            "kind": KIND,
            "features": self.features_.to_json(tensors),
            "counts": self.counts_,
            "source_columns": None if self.columns is None else dict(self.columns),
            "source_codes": None if self.codes is None else dict(self.codes),
        }
        timelines = None if self.timelines_ is None or fitted.records.width == 0 else of_stored(self.timelines_, fitted.records)
        write_model(folder, {**about, **own}, tensors, fitted.records, timelines)

    @classmethod
    def load(cls, folder: str | Path, backbone: Backbone | None = None) -> Self:
        """Read a saved model; every hash is checked first. Parameters and errors as ``RiskClassifier.load``."""
        about, tensors, records, timelines = read_model(folder)
        if about.get("kind") != KIND:
            raise ArtifactError(f"{folder} is not a model of events but a {about.get('kind', 'risk model')}")
        with loading(folder):
            features = EventFeatures.from_json(about["features"], tensors)
            parameters, fitted = persistence.from_json(about, tensors, records, backbone)
            unknown = {*fitted.schema.named("feature", "expert")} - {column.name for column in features.schema_.columns}
            if unknown:
                raise ArtifactError(
                    f"{folder}: {len(unknown)} columns of the risk model are no features of its events: saved by another version of "
                    "nearward; fit and save it again"
                )
            classifier = RiskClassifier(**parameters)
            classifier.fitted_ = fitted
            if timelines is not None:
                check_timelines(timelines, records)
            names = {"columns": about["source_columns"], "codes": about["source_codes"]}
            model = cls(features, classifier, **names, timelines=timelines is not None)
            model.features_, model.model_, model.counts_, model.timelines_ = features, classifier, dict(about["counts"]), timelines
        return model

    def _read(self, events: Source, labels: Labels) -> tuple[Events, pl.DataFrame]:
        """Read events and labels; the labels' subjects may be named as in the events, or as in MEDS."""
        source = rename_codes(read_events(events, self.columns), self.codes or {})
        frame = labels.collect() if isinstance(labels, pl.LazyFrame) else labels if isinstance(labels, pl.DataFrame) else read_table(labels)
        theirs = (self.columns or {}).get(SUBJECT, SUBJECT)
        return source, read_labels(frame, source, {SUBJECT: theirs} if theirs in frame.columns else None)

    def _read_with_outcome(self, events: Source, labels: Labels) -> tuple[Events, pl.DataFrame]:
        """Read events, and the labels whose outcome is known."""
        source, known = self._read(events, labels)
        if LABEL not in known.columns:
            raise InputError(f"labels need the outcome in a column {LABEL!r}, got columns={known.columns}")
        censored = known.get_column(LABEL).null_count()
        if censored:
            message = f"{censored} of {known.height} labels have no outcome (null: censored) and are left out"
            warnings.warn(message, DataWarning, stacklevel=3)
        return source, known.drop_nulls(LABEL)

    @staticmethod
    def _with_keys(known: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
        """Replace the position of each row's label, ``(query)``, by the label's subject and time."""
        rows = known.select(SUBJECT, PREDICTION_TIME)[table.get_column("(query)").to_numpy().astype(np.int64)]
        return pl.concat([rows, table.drop("(query)", "row", strict=False)], how="horizontal")


def _as_subjects(patients: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Return stored subjects in the dtype that they have in the events; as text where another site's are among them."""
    subjects = patients.cast(dtype, strict=False)
    return patients if subjects.null_count() else subjects
