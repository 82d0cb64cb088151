"""RiskClassifier: the estimator that users see. It checks what comes in, fits, scores, explains, saves and loads."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.risk_model.binary import FitConfig, Scores, fit_risk
from nearward.risk_model.data_warnings import warn_of_anomalies, warn_of_leakage
from nearward.risk_model.explanation import similar_rows
from nearward.risk_model.multiclass import ClassScores, class_columns, fit_classes, name_outcomes
from nearward.risk_model.persistence import restored, save
from nearward.risk_model.user_experts import split_experts
from nearward.risk_model.validation import (
    MOST_CLASSES,
    check_backbone,
    check_class_sizes,
    check_ids,
    check_parameters,
    names_in,
    patient_columns,
    resolve_encoder_options,
)
from nearward.tabular.backbones.pretrained import Backbone
from nearward.tabular.data.feature_blocks import add_missing_blocks
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import validate_groups, validate_target
from nearward.tabular.errors import DataWarning, InputError

_BATCH = 8192
_OUTCOME = "(outcome)"  # names of the artifact's own columns beside the records' features
_ID = "(id)"
SCORES = ("risk", "low", "high", "n_similar", "novelty", "vote")
_OUTPUTS = (*SCORES, "class", "rank", "patient", "weight", "outcome", "distance", "floored", "differs")


class RiskClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Risk of a rare outcome, from similar past patients and a panel of experts; of two classes, or of up to ten.

    Parameters
    ----------
    seed : int
        Everything random follows from it: the same seed and rows give the same model.
    positive : value, optional
        The outcome value that is the event; by default the greater of the two.
    schema : Schema, optional
        Roles and kinds of the columns; inferred by default.
    experts : sequence
        Names of number columns that are scores, higher meaning more risk: SOFA, a legacy model; estimators (``OneClass()``), cross-fitted.
    folds : int
        Cross-fitting folds, and encoders.
    encoder : EncoderConfig, optional
        Sizes and training of the AWARE encoders.
    backbone : "embedded", "tabpfn", "tabicl", Backbone or None
        The in-context model that judges by the similar patients: ours; one of two published ones, whose weights you provide; an
        object as ``nearward.tabular.backbones.pretrained.Backbone`` describes; None for the panel alone. A backbone is in use only where the
        out-of-fold AUPRC rises with it: ``summary_["backbone"]`` tells.
    members : int
        Ways of asking the embedded model, averaged: the first reads everything, further ones subsets of the columns and experts in
        contexts of other sizes.
    adapter : bool
        Whether to try a low-rank adapter (LoRA, rank 8) on the embedded model, from 50 events; kept where the out-of-fold AUPRC rises.
    prevalence : float, optional
        Of the outcome where the model will be used, if it differs from the training rows'; risks are carried there in closed form.
    progress : callable, optional
        Called with a few words after each piece of work in ``fit``.

    Attributes
    ----------
    classes_ : (2,), the outcome values, the event last; (c,) in order where there are more
    schema_ : Schema
    summary_ : dict, account of the training; its figures are out of fold
    n_features_in_ : int
    feature_names_in_ : (d,), where the frame had names

    References
    ----------
    AWARE: attention-weighted supervised embeddings (arXiv 2604.01841), cross-fitted here; see docs/log/2026-11.md for what was measured.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> biopsies = load_breast_cancer()
    >>> cohort, malignant = biopsies.data[:280, :8], biopsies.target[:280] == 0
    >>> model = RiskClassifier(seed=0).fit(cohort, malignant)
    >>> model.predict_proba(biopsies.data[280:283, :8]).shape
    (3, 2)
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        positive: Any = None,
        schema: Schema | None = None,
        experts: Sequence[Any] = (),
        folds: int = 5,
        encoder: EncoderConfig | None = None,
        backbone: str | Backbone | None = "embedded",
        members: int = 1,
        adapter: bool = False,
        prevalence: float | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.positive = positive
        self.schema = schema
        self.experts = experts
        self.folds = folds
        self.encoder = encoder
        self.backbone = backbone
        self.members = members
        self.adapter = adapter
        self.prevalence = prevalence
        self.progress = progress

    def fit(self, X: Any, y: Any, groups: Any = None, unlabelled: Any = None) -> RiskClassifier:
        """Fit on a cohort.

        Parameters
        ----------
        X : frame of n rows
            pl.DataFrame, pl.LazyFrame, a pandas or Arrow table, or an array of shape (n, d).
        y : (n,), the outcome, two values; or up to ten, each then a class with its own share
        groups : (n,), optional
            The patient of each row, where patients repeat; no split ever parts a patient's rows. By default the schema's
            ``group`` column, where it has one.
        unlabelled : frame, optional
            More rows, of patients whose outcome is unknown, for the encoder's ``pretext``.

        Raises
        ------
        InputError
            What cannot be used, by column name and row count.
        TooFewEvents
            Fewer than 10 events, or than 5 rows of one of several classes.
        """
        check_parameters(self.seed, self.folds, self.prevalence, self.experts)
        check_backbone(self.backbone, self.members, self.adapter)
        frame = to_frame(X)
        if frame.height < 2:
            raise InputError(f"the frame has {frame.height} rows (n_samples = {frame.height}): nothing to learn from")
        target = validate_target(y, frame.height, self.positive, max_classes=MOST_CLASSES)
        check_class_sizes(target)
        classes, outcome = target.classes, target.outcome
        columns, user_estimators = split_experts(self.experts)
        schema = (self.schema or Schema.infer(frame)).with_roles(expert=columns)
        named = [name for name in schema.named("group") if name in frame.columns]
        group = validate_groups(frame.get_column(named[0]) if groups is None and named else groups, frame.height)
        twice = patient_columns(frame.select(name for name in schema.features if name in frame.columns), group)
        if twice:
            warnings.warn(f"columns that name the patients are no features: {twice}", DataWarning, stacklevel=2)
            schema = schema.with_roles(group=twice)
        if len(schema.named("id")) > 1:
            raise InputError(f"more than one id column: {list(schema.named('id'))}. Keep one, ignore the others")
        for name in schema.experts:
            if schema[name].kind != "number":
                raise InputError(f"the expert column {name!r} is text: a score must be a number")
        check_ids(schema, frame)
        rows = schema.conform(frame)
        if rows.width == 0:
            raise InputError("no feature is left: 0 feature(s) (shape=(n, 0)) while a minimum of 1 is required.")
        warn_of_leakage(frame, rows, schema, outcome, group, self.seed)
        encoder = self.encoder or EncoderConfig()
        schema, more = resolve_encoder_options(encoder, schema, rows, len(classes), unlabelled)
        self._columns, self.n_features_in_ = frame.columns, frame.width  # an array's columns are the training frame's, in its order
        self.__dict__.pop("feature_names_in_", None)
        if names_in(X):
            self.feature_names_in_ = np.array(names_in(X), dtype=object)
        asked = (self.backbone, self.members, self.adapter)
        prevalence = None if self.prevalence is None else float(self.prevalence)
        config = FitConfig(self.folds, encoder, *asked, prevalence, self.seed, more, user_estimators)
        progress = self.progress or (lambda words: None)
        self.classes_ = classes
        self.schema_ = schema
        fit_model: Any = fit_risk if len(classes) == 2 else fit_classes
        self._model, self.summary_ = fit_model(schema, rows, outcome, group, config, progress)
        ids = schema.named("id")
        known_as = frame.get_column(ids[0]) if ids else pl.int_range(frame.height, eager=True)
        self._records = rows.with_columns(known_as.cast(pl.String).alias(_ID), pl.Series(_OUTCOME, outcome))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, the event's last: (q, 2), or (q, c)."""
        proba: NDArray[np.float64] = self._score(self._conform(self._frame(X))).proba
        return proba

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class (q,); for alerts, put a threshold of your own on the risk."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[likeliest])

    def predict_frame(self, X: Any, progress: Callable[[int], None] | None = None) -> pl.DataFrame:
        """Return the risks with what is needed to read them.

        Parameters
        ----------
        X : frame of q rows
        progress : callable, optional
            Called with the number of rows after each batch.

        Returns
        -------
        pl.DataFrame, q rows
            The id column where the schema has one, else ``row``; ``risk`` with its band ``low`` to ``high``;
            ``n_similar``, how many patients of the context are as near as usual; ``novelty``, the share of stored patients who are
            less unusual (above .99: outside the training population); ``vote``, the similar patients' own share of events.
            With more than two classes: ``class``, the likeliest, and for each class ``risk: name``, ``low: name`` (the band is that
            of this class against the rest), ``high: name`` and ``vote: name``.
        """
        frame = self._frame(X)
        scores = self._score(self._conform(frame), progress)
        return pl.DataFrame([self._row_ids(frame), *score_columns(scores, self.classes_)])

    def similar(self, X: Any, k: int | None = 10) -> pl.DataFrame:
        """Return the patients whose vote each row's is, the weightiest first.

        Parameters
        ----------
        X : frame of q rows
        k : int, optional
            Patients a row; None for all, whose ``weight * outcome`` then sums to the row's ``vote``.

        Returns
        -------
        pl.DataFrame
            The row's id, ``rank``, ``patient`` (its id in the training cohort, or its row number there), ``weight``,
            ``outcome`` (its class, where there are more than two), ``distance`` (in its
            encoder's embedding), ``floored`` (there only because of the class floor), and ``differs``: the features that set the two
            apart most, as ``name: this row → that patient``.
        """
        if k is not None and k < 1:
            raise InputError(f"k must be at least 1, got k={k}")
        frame = self._frame(X)
        rows = self._conform(frame)
        return name_outcomes(similar_rows(self._model, rows, self._row_ids(frame), self._records, _ID, k), self.classes_)

    def gate(self, X: Any = None) -> pl.DataFrame:
        """Return what makes patients similar: each column's share of the encoders' mean gate.

        Parameters
        ----------
        X : frame of q rows, optional; the stored patients by default

        Returns
        -------
        pl.DataFrame : ``column`` and ``share``, the largest first; shares sum to 1
        """
        check_is_fitted(self, "_model")
        rows = self._records.drop(_ID, _OUTCOME) if X is None else self._conform(self._frame(X))
        share = self._model.gate(rows)
        return pl.DataFrame({"column": list(share), "share": list(share.values())}, schema={"column": pl.String, "share": pl.Float64})

    # ---- on disk ----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder; it holds patient records and is written for its owner's eyes only."""
        check_is_fitted(self, "_model")
        save(self, folder)

    @classmethod
    def load(cls, folder: str | Path, backbone: Backbone | None = None) -> RiskClassifier:
        """Read a saved model, every hash checked first.

        Parameters
        ----------
        folder : str or Path
        backbone : Backbone, optional
            The model's backbone again, where it is an object of your own, or its weights have moved.

        Raises
        ------
        ArtifactError
            Not a model; corrupt; saved by a later version; fitted with other weights than the backbone has now.
        InputError
            The backbone is not there: an object of your own that was not given, or weights that are not on this machine.
        """
        model: RiskClassifier = restored(cls, folder, backbone)
        return model

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _frame(self, X: Any) -> pl.DataFrame:
        if not hasattr(self, "_model"):
            raise NotFittedError("This RiskClassifier is not fitted yet: call fit, or nearward.load")
        frame = to_frame(X, self._columns)
        if not isinstance(X, pl.LazyFrame) and not hasattr(X, "columns") and frame.width != self.n_features_in_:
            raise InputError(f"X has {frame.width} features, but RiskClassifier is expecting {self.n_features_in_} features as input")
        return frame

    @property
    def schema_names(self) -> list[str]:
        """Names of the schema's columns, in order."""
        return [column.name for column in self.schema_.columns]

    def _conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        if frame.height == 0:
            raise InputError("the frame has 0 rows (0 sample(s) while a minimum of 1 is required): nobody to score")
        rows = self.schema_.conform(add_missing_blocks(frame, self.schema_))
        extra = [name for name in frame.columns if name not in self.schema_names]
        if extra:
            warnings.warn(f"columns that the model does not know are left out: {extra}", DataWarning, stacklevel=3)
        warn_of_anomalies(rows, self.schema_, self._model.encoding)
        return rows

    def _score(self, rows: pl.DataFrame, progress: Callable[[int], None] | None = None) -> Any:
        parts: list[Any] = []
        for part in rows.iter_slices(_BATCH):
            parts.append(self._model.score(part))
            if progress is not None:
                progress(part.height)
        kind = type(parts[0])
        return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(kind)))

    def _row_ids(self, frame: pl.DataFrame) -> pl.Series:
        check_ids(self.schema_, frame)
        ids = [name for name in self.schema_.named("id") if name in frame.columns]
        if not ids:
            return pl.int_range(frame.height, eager=True).alias("row")
        return frame.get_column(ids[0]).alias("row_id" if ids[0] in _OUTPUTS else ids[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def score_columns(scores: Scores | ClassScores, classes: NDArray[Any]) -> list[pl.Series]:
    """Return scores as the columns that ``predict_frame`` promises."""
    if isinstance(scores, ClassScores):
        return class_columns(scores, classes)
    return [pl.Series(name, getattr(scores, name)) for name in SCORES]


def load(folder: str | Path, backbone: Backbone | None = None) -> RiskClassifier:
    """Load a model that ``RiskClassifier.save`` wrote; see ``RiskClassifier.load``."""
    return RiskClassifier.load(folder, backbone)
