"""What a fitted model of events does with subjects after its fit: extend, forget, refit, adapt. A mixin of ``EventRisk``.

The timelines of the stored labels are kept in step: each label that is stored has one, and none outlives its label.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import polars as pl
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from nearward.adaptation.stored_patients import ID, PATIENT
from nearward.adaptation.summary import Adaptation, Extension, Removal
from nearward.event_model.timelines import choose_timelines, code_weights, of_stored
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.events.event_counts import EventCounts
from nearward.tabular.events.features import EventFeatures, Labels, Source
from nearward.tabular.events.label_table import LABEL
from nearward.tabular.events.missing_values import without_missing
from nearward.tabular.events.reading import SUBJECT, Events
from nearward.tabular.typing import Progress

FEATURES = "codes of the features and their usual values"
_MOST_NAMED = 5


class AdaptableEventRisk:
    """Mixin: the stored subjects and the site of a fitted model of events."""

    features_: EventFeatures
    model_: Any  # RiskClassifier
    timelines_: pl.DataFrame | None
    columns: Mapping[str, str] | None
    codes: Mapping[str, str] | None
    _read_with_outcome: Callable[[Source, Labels], tuple[Events, pl.DataFrame]]

    def extend(self, events: Source, labels: Labels) -> Extension:
        """Store more labels with their outcomes, without training: they are found as similar patients from now on.

        As ``RiskClassifier.extend``; new labels of a stored subject go to its shard. Features are computed with the codes of the fit.

        Parameters
        ----------
        events : path, frame or Events
        labels : path or frame of m rows
            ``subject_id``, ``prediction_time``, ``boolean_value``. Labels whose outcome is null are left out, with a warning.

        Raises
        ------
        InputError
            Labels that are stored already: the subject and all features are those of a stored label; or a model saved without records.
        """
        check_is_fitted(self, "model_")
        source, known = self._read_with_outcome(events, labels)
        rows = self.features_.transform(source, known)
        self._refuse_stored(rows, known)
        extension: Extension = self.model_.extend(rows, known.get_column(LABEL), groups=known.get_column(SUBJECT))
        self._add_timelines(source, known)
        return extension

    def forget(self, ids: Sequence[Any]) -> Removal:
        """Remove subjects: as ``RiskClassifier.forget``, and their timelines.

        The codes of the features, their usual values and units, were learned from these subjects among others, and stay.
        """
        check_is_fitted(self, "model_")
        removal: Removal = self.model_.forget(ids)
        if self.timelines_ is None:
            return dataclasses.replace(removal, still_fitted=(FEATURES, *removal.still_fitted))
        self.timelines_ = of_stored(self.timelines_, self.model_.fitted_.records)
        return dataclasses.replace(
            removal, removed_from=(*removal.removed_from, "timelines"), still_fitted=(FEATURES, *removal.still_fitted)
        )

    def refit(self) -> Self:
        """Fit a new risk model on the features of the labels that are stored now; this one stays as it is.

        The codes of the features stay: events are not stored. ``fit`` learns them anew.
        """
        check_is_fitted(self, "model_")
        return self._with_model(self.model_.refit())

    def adapt(
        self,
        events: Source,
        labels: Labels,
        *,
        columns: Mapping[str, str] | None = None,
        codes: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Return a model that is brought up to date with a site's own subjects, as ``RiskClassifier.adapt``; this one stays as it is.

        Parameters
        ----------
        events : path, frame or Events
            Of the site.
        labels : path or frame of n rows
            ``subject_id``, ``prediction_time``, ``boolean_value``; subjects that the model has not seen.
        columns : mapping, optional
            Names of the site's columns, as ``EventRisk(columns=)``; those of this model by default.
        codes : mapping, optional
            The site's name of a code -> the model's, as ``EventRisk(codes=)``. The adapted model reads both.
        progress : callable, optional
            Called with a message after each step.

        Raises
        ------
        InputError
            As ``RiskClassifier.adapt``; the site has none of the model's codes; numbers of a code are in another unit.

        Warns
        -----
        DataWarning
            Codes of the model that no local subject has.
        """
        check_is_fitted(self, "model_")
        here: Self = clone(self).set_params(codes={**(self.codes or {}), **(codes or {})} or None)
        here.columns = self.columns if columns is None else columns
        here.features_ = self.features_
        source, known = here._read_with_outcome(events, labels)
        rows, counts = self.features_.transform_counted(source, known)
        self._check_codes(counts)
        model = self.model_.adapt(rows, known.get_column(LABEL), groups=known.get_column(SUBJECT), progress=progress)
        adapted = self._with_model(model)
        adapted.columns, adapted.codes = here.columns, here.codes
        if model.fitted_.records.height > self.model_.fitted_.records.height:
            adapted._add_timelines(source, known)
        return adapted

    @property
    def adaptation_(self) -> Adaptation:
        """What ``adapt`` did, see ``RiskClassifier.adaptation_``."""
        adaptation: Adaptation = self.model_.adaptation_
        return adaptation

    def _with_model(self, model: Any) -> Self:
        """Return a copy with another risk model, whose stored labels begin with those of this one."""
        other: Self = clone(self)
        for name in ("features_", "timelines_", "counts_"):
            setattr(other, name, getattr(self, name))
        other.model_ = model
        return other

    def _add_timelines(self, events: Events, labels: pl.DataFrame) -> None:
        """Choose the timelines of the labels that were stored last; nothing where the model keeps none."""
        if self.timelines_ is None:
            return
        stored = self.model_.fitted_.records.get_column(ID)[-labels.height :]
        parts = [self.timelines_, self._choose_timelines(events, labels).insert_column(0, stored)]
        if len({part.schema[SUBJECT] for part in parts}) > 1:  # a site's subjects are text where the model's are numbers
            parts = [part.with_columns(pl.col(SUBJECT).cast(pl.String)) for part in parts]
        self.timelines_ = pl.concat(parts)

    def _choose_timelines(self, events: Events, labels: pl.DataFrame) -> pl.DataFrame:
        vocabulary = self.features_.vocabulary_
        weights = code_weights(vocabulary.columns, dict(self.model_.gate().iter_rows()))
        known = without_missing(events, self.features_.missing)
        return choose_timelines(known, labels, vocabulary.columns, weights, vocabulary.n_subjects)

    def _refuse_stored(self, rows: pl.DataFrame, labels: pl.DataFrame) -> None:
        """Refuse labels whose subject and features are those of a stored one."""
        records = self.model_.fitted_.records
        if records.width == 0:  # refused by the risk model, with the reason
            return
        names = [name for name in rows.columns if name in records.columns and not rows.schema[name].is_nested()]
        same = rows.select(names).with_columns(labels.get_column(SUBJECT).cast(pl.String).alias(PATIENT))
        stored = records.select(*names, PATIENT).cast(dict(same.schema))
        copies = same.join(stored, on=same.columns, how="semi", nulls_equal=True).height
        if copies:
            raise InputError(
                f"{copies} of {labels.height} labels have the subject and all features of a stored label: leave out those that are stored"
            )

    def _check_codes(self, counts: EventCounts) -> None:
        """Refuse a site without the model's codes or with other units; warn of the codes that it lacks."""
        drift = self.features_.code_drift(counts)
        present = drift.get_column("now") > 0
        if not present.any():
            raise InputError(f"the site has none of the model's {drift.height} codes before its labels: name them (codes={{theirs: ours}})")
        if slips := drift.filter(pl.col("slip").fill_null(value=False)).get_column("code").to_list():
            raise InputError(
                f"numbers of {len(slips)} codes are 10, 100 or 1,000 times those of training, as in another unit: {slips}. Convert them, "
                f"or leave out these codes (codes={{{slips[0]!r}: 'left out'}}): risks then rest on the others"
            )
        lacking = drift.filter(~present).sort("training", descending=True).get_column("code").to_list()
        if lacking:
            named = ", ".join(lacking[:_MOST_NAMED]) + (", …" if len(lacking) > _MOST_NAMED else "")
            message = f"{len(lacking)} of the model's {drift.height} codes occur nowhere at the site: {named}"
            warnings.warn(f"{message}. If it names them otherwise, say so (codes={{theirs: ours}})", DataWarning, stacklevel=3)
