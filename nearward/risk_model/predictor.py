"""What a fitted ``RiskClassifier`` has and does: attributes, scores, similar patients, saving and loading.

Shapes: c classes, d columns, q rows. All is read from one object, ``fitted_``, so that a fit changes everything at once.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from nearward.adaptation.estimator import AdaptableRisk
from nearward.adaptation.stored_patients import ID, OUTCOME, PATIENT, next_number, require_records
from nearward.explanation.contributions import LOG_ODDS_FLOOR, PERMUTATIONS, Reference, explain_rows
from nearward.explanation.similar_patients import similar_rows
from nearward.risk_model import persistence
from nearward.risk_model.data_warnings import refuse_other_units, warn_of_anomalies, warn_of_stored_rows
from nearward.risk_model.external_backbone import ExternalBackboneModel
from nearward.risk_model.multiclass import name_outcomes
from nearward.risk_model.persistence import FittedState
from nearward.risk_model.summary import FitSummary
from nearward.risk_model.validation import outcome_codes, patient_labels, row_ids, stored_ids
from nearward.tabular.backbones.pretrained import Backbone
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import UNKNOWN_EVENT, class_probabilities, validate_integers
from nearward.tabular.errors import ArtifactError, DataWarning, InputError, list_names
from nearward.tabular.frame_output import FrameOutput, frame_output
from nearward.tabular.parallel import limit_jobs, parallel_map
from nearward.tabular.persistence.artifact import loading
from nearward.tabular.preprocessing.feature_blocks import add_missing_blocks
from nearward.tabular.typing import Floats, Ints

_BATCH = 1024  # rows scored at a time by one thread
_GATE_ROWS = 20_000  # stored rows over which the gate is averaged
_EXTERNAL_BATCH = 8192  # rows scored at a time with an external backbone, which shares contexts among them and has its own threads


class RiskPredictor(FrameOutput, AdaptableRisk):
    """Mixin of ``RiskClassifier``: everything but its parameters and its fit."""

    fitted_: FittedState
    n_jobs: int | None
    get_params: Callable[..., dict[str, Any]]  # scikit-learn's BaseEstimator

    @property
    def classes_(self) -> NDArray[Any]:
        """The outcome's values (c,), in increasing order; the columns of ``predict_proba`` have this order."""
        return self.fitted_.classes

    @property
    def event_(self) -> Any:
        """The outcome value whose risk is estimated, or a tuple of several; None where each class has a risk."""
        return self.fitted_.event

    @property
    def n_features_in_(self) -> int:
        """Number of columns of the training frame."""
        return len(self.fitted_.columns)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Column names of the training frame (d,), where it had names."""
        if not self.fitted_.feature_names:
            raise AttributeError("feature_names_in_: the training data had no column names")
        return np.array(self.fitted_.feature_names, dtype=object)

    @property
    def schema_(self) -> Schema:
        """The columns' roles and kinds."""
        return self.fitted_.schema

    @property
    def schema_names(self) -> list[str]:
        """Names of the schema's columns, in order."""
        return [column.name for column in self.schema_.columns]

    @property
    def summary_(self) -> FitSummary:
        """Summary of the training; its figures are out of fold."""
        return self.fitted_.summary

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class (q, c), in the order of ``classes_``."""
        scores = self._score(self._conform(self._frame(X)))
        return np.asarray(scores.risk if len(self.classes_) > 2 else class_probabilities(scores.risk, self.fitted_.event_index))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class (q,); for alerts of a rare event, apply a threshold of your own to the risk."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    @frame_output
    def predict_frame(self, X: Any, progress: Callable[[int], None] | None = None) -> pl.DataFrame:
        """Return the risks with their intervals, the number of similar patients, and novelty.

        Parameters
        ----------
        X : frame of q rows
        progress : callable, optional
            Called with the number of rows after each batch.

        Returns
        -------
        pl.DataFrame, q rows
            The id column where the schema has one, else ``row``; ``risk`` with its interval ``low`` to ``high``;
            ``n_similar``, the number of context patients within the usual distance; ``novelty``, the share of stored patients that are
            less unusual (above .99: outside the training population); ``vote``, the weighted share of events among the similar patients.
            With more than two classes: ``class``, the most probable, and for each class ``risk: name``, ``low: name``, ``high: name``
            (the interval of this class against the rest) and ``vote: name``.
        """
        self._require_event()
        frame = self._frame(X)
        rows = self._conform(frame)
        warn_of_stored_rows(rows, self.fitted_.records)
        scores = self._score(rows, progress)
        return pl.DataFrame([row_ids(self.schema_, frame), *scores.columns(self.classes_)])

    @frame_output
    def similar(self, X: Any, k: int | None = 10) -> pl.DataFrame:
        """Return the similar patients behind each row's vote, by descending weight.

        Parameters
        ----------
        X : frame of q rows
        k : int, optional
            Patients per row; None for all, whose ``weight * outcome`` then sums to the row's ``vote``.

        Returns
        -------
        pl.DataFrame
            The row's id, ``rank``, ``patient`` (its id in the training cohort, or its row number there), ``weight``,
            ``outcome`` (its class, where there are more than two), ``distance`` (in its
            encoder's embedding), ``floored`` (retrieved only because of the class floor), and ``differs``: the features that differ
            most, as ``name: this row → that patient``.
        """
        if k is not None:
            validate_integers(1, k=k)
        self._require_event()
        frame = self._frame(X)
        rows = self._conform(frame)
        with limit_jobs(self.n_jobs):
            table = similar_rows(self.fitted_.model, rows, row_ids(self.schema_, frame), self.fitted_.records, ID, k)
        return name_outcomes(table, self.classes_)

    @frame_output
    def explain(
        self,
        X: Any,
        reference: Reference = "similar",
        *,
        permutations: int = PERMUTATIONS,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> pl.DataFrame:
        """Return the columns that raised or lowered each row's risk, in log-odds: Shapley values, sampled.

        A column's contribution is the mean change of the log-odds when its value is exchanged for the row's own, over random orders of
        the columns and over the values of reference patients. All of a row's contributions, base rate included, sum to the log-odds
        of its risk.

        Parameters
        ----------
        X : frame of q rows
        reference : "similar" or "cohort"
            Whose values are exchanged: those of the row's similar patients, drawn by their weights, so that the columns say what
            distinguishes the row from patients like it; or those of all training patients.
        permutations : int, even, at least 4
            Orders of the columns, in antithetic pairs; the standard errors fall with its square root.
        seed : int
            The same for every row: a row's explanation does not depend on the other rows.
        progress : callable, optional
            Called with 1 after each row.

        Returns
        -------
        pl.DataFrame
            The row's id; ``column``; ``value``, as text; ``contribution``, in log-odds; ``se``, its Monte Carlo standard error. Each row
            begins with ``(base rate)``, the log-odds of the event rate of the training rows (or ``prevalence``), and with
            ``(similar patients)`` or ``(cohort)``: the mean log-odds that the model gives the reference patients, less the base rate.
            The columns follow, the largest contribution first. With more than two classes: ``class``, and all of this for each.

        References
        ----------
        Strumbelj and Kononenko: Explaining prediction models and individual predictions with feature contributions (2014);
        antithetic pairs: Mitchell et al., Sampling permutations for Shapley value estimation (2022).
        """
        self._require_event()
        records, frame = require_records(self.fitted_, "explain"), self._frame(X)
        rows, ids = self._conform(frame), row_ids(self.schema_, frame)
        stored, outcome = records.select(rows.columns), records.get_column(OUTCOME).to_numpy()
        table = explain_rows(
            self._log_odds, self._base_rates(), self.fitted_.model.context, stored, outcome, rows, ids,
            reference=reference, permutations=permutations, seed=seed, progress=progress,
        )  # fmt: skip
        if len(self.classes_) == 2:
            return table.drop("class")
        return table.with_columns(pl.Series("class", self.classes_).gather(table["class"]))

    @frame_output
    def gate(self, X: Any = None) -> pl.DataFrame:
        """Return each column's share of what makes patients similar: of the encoders' mean gate, or of the linear metric's weights.

        Parameters
        ----------
        X : frame of q rows, optional; the stored patients by default, of many a random sample

        Returns
        -------
        pl.DataFrame : ``column`` and ``share``, the largest first; shares sum to 1
        """
        check_is_fitted(self, "fitted_")
        if X is None:
            stored = require_records(self.fitted_, "gate").drop(ID, OUTCOME, PATIENT)
            rows = stored if stored.height <= _GATE_ROWS else stored.sample(_GATE_ROWS, seed=0)
        else:
            rows = self._conform(self._frame(X))
        share = self.fitted_.model.gate(rows)
        return pl.DataFrame({"column": list(share), "share": list(share.values())}, schema={"column": pl.String, "share": pl.Float64})

    def save(self, folder: str | Path, *, records: bool = True) -> None:
        """Write the model into a folder, readable by its owner only.

        Parameters
        ----------
        folder : path
        records : bool
            Whether the stored patients' records are saved. Without them the folder holds embeddings and outcomes but no readable row;
            ``similar`` then shows weights and outcomes only, and ``extend``, ``forget`` and ``refit`` are not possible. Risks change
            slightly: kernel regressions rest on means of five patients.
        """
        self._require_event()
        persistence.save(self.get_params(deep=False), self.fitted_, folder, records)

    @classmethod
    def load(cls, folder: str | Path, backbone: Backbone | None = None) -> Self:
        """Read a saved model; every hash is checked first.

        Parameters
        ----------
        folder : str or Path
        backbone : Backbone, optional
            Required where the model was fitted with a backbone object of your own, or its weights have moved.

        Raises
        ------
        ArtifactError
            Not a model, corrupt, saved by a later version, or fitted with other weights than the backbone has now.
        InputError
            A backbone object of your own is missing, or its weights are not on this machine.
        """
        parameters, fitted = persistence.load(folder, backbone)
        with loading(folder):
            model = cls(**parameters)
        model.fitted_ = fitted
        return model

    def _log_odds(self, rows: pl.DataFrame) -> Floats:
        """Return the log-odds of the event, or of each class against the rest, of conformed rows: (q, 1) or (q, c)."""
        scores = self._score(rows)
        return logit(scores.risk if len(self.classes_) > 2 else scores.risk[:, None], LOG_ODDS_FLOOR)

    def _base_rates(self) -> Floats:
        """Return the share of the event, or of each class, where the model is used: (1,) or (c,)."""
        if len(self.classes_) > 2:
            outcome = self.fitted_.records.get_column(OUTCOME).to_numpy().astype(int)
            return np.asarray(np.bincount(outcome, minlength=len(self.classes_)) / len(outcome))
        model: Any = self.fitted_.model
        return np.array([model.trained_prevalence if model.prevalence is None else model.prevalence])

    def _require_event(self) -> None:
        check_is_fitted(self, "fitted_")
        if len(self.classes_) == 2 and self.event_ is None:
            raise InputError(UNKNOWN_EVENT)

    def _frame(self, X: Any) -> pl.DataFrame:
        if not hasattr(self, "fitted_"):
            raise NotFittedError("This RiskClassifier is not fitted yet: call fit, or nearward.load")
        frame = to_frame(X, self.fitted_.columns)
        if self.fitted_.adaptation is not None:
            renamed = self.fitted_.adaptation.renamed.items()
            frame = frame.rename({site: name for site, name in renamed if site in frame.columns and name not in frame.columns})
        if not isinstance(X, pl.LazyFrame) and not hasattr(X, "columns") and frame.width != self.n_features_in_:
            raise InputError(f"X has {frame.width} features, but RiskClassifier is expecting {self.n_features_in_} features as input")
        return frame

    def _conform(self, frame: pl.DataFrame, lacking: Sequence[str] = ()) -> pl.DataFrame:
        if frame.height == 0:
            raise InputError("X has 0 rows; at least 1 is required (0 sample(s) while a minimum of 1 is required)")
        rows = self.schema_.conform(add_missing_blocks(frame, self.schema_))
        known = set(self.schema_names)  # a set: there may be thousands
        if extra := [name for name in frame.columns if name not in known]:
            warnings.warn(f"columns that the model was not fitted on are ignored: {list_names(extra)}", DataWarning, stacklevel=3)
        if self.fitted_.adaptation is not None:
            lacking = self.fitted_.adaptation.missing_columns
        warn_of_anomalies(rows, self.schema_, self.fitted_.model.table_encoder, lacking)
        return rows

    def _new_patients(
        self, X: Any, y: Any, groups: Any, *, lacking: Sequence[str] | None = None
    ) -> tuple[pl.DataFrame, Ints, pl.Series, pl.Series]:
        """Return rows with outcomes as the model stores them: conformed rows, outcome codes, ids, and ids of patients.

        With the columns that another site lacks, maybe none, the units of the others are checked.
        """
        self._require_event()
        frame = self._frame(X)
        outcome = outcome_codes(y, frame.height, self.classes_, self.event_)
        ids = stored_ids(self.schema_, frame, next_number(self.fitted_))
        rows = self._conform(frame, lacking or ())
        if lacking is not None:
            refuse_other_units(rows, self.schema_)
        return rows, outcome, ids, patient_labels(self.schema_, frame, groups, ids)

    def _score(self, rows: pl.DataFrame, progress: Callable[[int], None] | None = None) -> Any:
        parts: list[Any] = []
        with limit_jobs(self.n_jobs):
            for part in self._score_batches(rows):
                parts.append(part)
                if progress is not None:
                    progress(len(part.novelty))
        kind = type(parts[0])
        scores = kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(kind)))
        shares = np.column_stack([getattr(scores, name) for name in ("risk", "proba", "low", "high", "vote") if hasattr(scores, name)])
        invalid = int((~np.isfinite(shares)).any(axis=1).sum())
        if invalid:
            raise ArtifactError(f"{invalid} of {len(shares)} rows have no finite risk: the model's numbers are damaged. Load a copy")
        return scores

    def _score_batches(self, rows: pl.DataFrame) -> Iterator[Any]:
        """Yield the scores of batches of conformed rows, in order."""
        model = self.fitted_.model
        if isinstance(getattr(model, "backbone", None), ExternalBackboneModel):
            yield from map(model.score, rows.iter_slices(_EXTERNAL_BATCH))
            return

        def score(batch: pl.DataFrame) -> Any:
            with limit_jobs(1):
                return model.score(batch)

        yield from parallel_map(score, list(rows.iter_slices(_BATCH)), "torch", "faiss")
