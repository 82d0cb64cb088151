"""What a fitted classifier does with patients after its fit: adapt, extend, forget, refit. A mixin of ``RiskClassifier``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import polars as pl
from sklearn.base import clone

from nearward.adaptation import ladder, stored_patients
from nearward.adaptation.local_rows import local_frame, refuse_stored_rows, warn_of_other_units
from nearward.adaptation.stored_patients import ID, OUTCOME, PATIENT
from nearward.adaptation.summary import Adaptation, Extension, Removal
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.errors import InputError
from nearward.tabular.parallel import limit_jobs
from nearward.tabular.typing import Ints, Progress


class AdaptableRisk:
    """Mixin: a fitted model's patients and site."""

    fitted_: Any  # FittedState
    n_jobs: int | None
    _require_event: Callable[[], None]
    _new_patients: Callable[..., tuple[pl.DataFrame, Ints, pl.Series, pl.Series]]

    def extend(self, X: Any, y: Any, groups: Any = None) -> Extension:
        """Store more patients, without training: they are found as similar patients from now on.

        Encoders, base learners and calibration stay as they are. Each new patient is stored in one shard; new rows of a stored patient go
        to his shard, whose encoder did not learn from him.

        Parameters
        ----------
        X : frame of m rows
        y : (m,), outcomes of the classes that the model was fitted on
        groups : (m,), optional
            Patients, with the ids that they have in the fit. By default the schema's ``group`` column, where it has one; else every row is
            a patient of its own.

        Raises
        ------
        InputError
            Rows or ids that are stored already, unknown outcomes, or a model saved without records.

        Warns
        -----
        DataWarning
            Some rows are identical to stored rows.
        """
        rows, outcome, ids, patients = self._new_patients(X, y, groups)
        refuse_stored_rows(self.fitted_.records, rows, outcome, "stored rows", "they would count twice in every vote")
        with limit_jobs(self.n_jobs):
            self.fitted_, summary = stored_patients.extend(self.fitted_, rows, outcome, ids, patients)
        return summary

    def forget(self, ids: Sequence[Any]) -> Removal:
        """Remove patients: their records, their rows in the indexes, and their stored scores.

        What was fitted on them among others (encoders, trees, stack) stays; the result names it. ``refit`` fits it without them.

        Parameters
        ----------
        ids : sequence
            The patients' ids as in ``groups`` at the fit; without groups the ids of rows, or their numbers where there is no id column.

        Raises
        ------
        InputError
            No stored patient has one of the ids, or the model was saved without records.
        TooFewEvents
            Fewer than 10 events would remain; the model is as it was.
        """
        self._require_event()
        self.fitted_, summary = stored_patients.forget(self.fitted_, list(ids))
        return summary

    def adapt(
        self, X: Any, y: Any, groups: Any = None, *, columns: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> Self:
        """Return a model that is brought up to date with a site's own patients; this one stays as it is.

        A ladder: level (intercept), level and slope, local patients stored among the similar ones, stack weights, base learners fitted on
        both. Level and slope are shrunk by what the local events bear, and used unless the log-loss of local rows that they were not
        fitted on rises by more than its standard error. Each further step is used only where it falls by more than that. With fewer than
        10 local events only the level is tried. ``adaptation_`` tells what each step bought.

        Parameters
        ----------
        X : frame of n local rows, of patients that the model has not seen
        y : (n,), outcomes of the classes that the model was fitted on
        groups : (n,), optional
            Patients, as in ``extend``.
        columns : mapping, optional
            The site's name of a column -> the model's. The adapted model knows both.
        progress : callable, optional
            Called with a message after each step.

        Raises
        ------
        InputError
            Local rows that are training rows, one outcome only, columns in other units, or more than two classes.

        Warns
        -----
        DataWarning
            Blocks and columns that the site lacks; columns that may be in another unit; some rows are identical to training rows.
        """
        self._require_event()
        if len(self.fitted_.classes) > 2:
            raise InputError(f"adapt is for an outcome with two values, got {len(self.fitted_.classes)} classes")
        renamed = dict(columns or {})
        frame, schema, lacking = local_frame(to_frame(X, self.fitted_.columns), self.fitted_.schema, renamed)
        here: Self = clone(self)
        here.fitted_ = dataclasses.replace(self.fitted_, schema=schema)
        rows, outcome, ids, patients = here._new_patients(frame, y, groups, lacking=lacking)
        refuse_stored_rows(self.fitted_.records, rows, outcome, "training rows", "the model knows them, and looks better there than it is")
        warn_of_other_units(self.fitted_.records, rows)
        site = {"missing_columns": lacking, "renamed": renamed}
        with limit_jobs(self.n_jobs):
            state, _ = ladder.adapt(here.fitted_, rows, outcome, ids, patients, site, seed=0, progress=progress or (lambda words: None))
        here.fitted_ = state
        return here

    @property
    def adaptation_(self) -> Adaptation:
        """What ``adapt`` did: each step, its log-loss before and after, and whether and why it is used."""
        if self.fitted_.adaptation is None:
            raise AttributeError("adaptation_: the model was not adapted to a site")
        adaptation: Adaptation = self.fitted_.adaptation
        return adaptation

    def refit(self) -> Self:
        """Fit a new model with the same parameters on the patients who are stored now; this one stays as it is."""
        self._require_event()
        records = stored_patients.require_records(self.fitted_, "refit")
        old, binary = self.fitted_, len(self.fitted_.classes) == 2
        features = Schema(tuple(column for column in self.fitted_.schema.columns if column.role in ("feature", "expert")))
        fitter = clone(self).set_params(schema=features, positive=1 if binary else None)
        fitter.fit(records.drop(ID, OUTCOME, PATIENT), records.get_column(OUTCOME), groups=records.get_column(PATIENT))
        names = {"schema": old.schema, "columns": old.columns, "feature_names": old.feature_names}
        target = {"classes": old.classes, "event_index": old.event_index, "event": old.event}
        model: Self = clone(self)
        order = fitter.fitted_.records.get_column(ID).cast(pl.Int64)  # the rows that teach come first
        names["records"] = records[order]
        model.fitted_ = dataclasses.replace(fitter.fitted_, **names, **target)
        return model
