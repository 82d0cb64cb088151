"""``RiskClassifier``, the public estimator: its parameters, and the fit. What a fitted one does is in ``predictor``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import polars as pl
from sklearn.base import BaseEstimator, ClassifierMixin

from nearward.adaptation.stored_patients import ID, OUTCOME, PATIENT
from nearward.explanation.contributions import BASE_RATE, REFERENCE_ROWS
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.risk_model.binary import fit_risk
from nearward.risk_model.config import FitConfig
from nearward.risk_model.data_warnings import warn_of_leakage
from nearward.risk_model.effort import Effort, expected_seconds, find_effort, spell_seconds
from nearward.risk_model.multiclass import fit_classes
from nearward.risk_model.persistence import FittedState
from nearward.risk_model.predictor import RiskPredictor
from nearward.risk_model.teaching_sample import FrameRows, choose_teaching_sample, number_patients
from nearward.risk_model.user_experts import split_experts
from nearward.risk_model.validation import (
    MOST_CLASSES,
    check_backbone,
    check_class_sizes,
    check_parameters,
    check_trees,
    names_in,
    patient_labels,
    resolve_encoder_options,
    resolve_schema,
    site_numbers,
    stored_ids,
)
from nearward.tabular.backbones.pretrained import Backbone
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame
from nearward.tabular.data.validation import refuse_sample_weight, seed_of, validate_target
from nearward.tabular.errors import InputError
from nearward.tabular.parallel import cpu_count, limit_jobs
from nearward.tabular.progress import logged
from nearward.tabular.typing import Progress, RandomState

_OWN_NAMES = {ID, OUTCOME, PATIENT, BASE_RATE, *REFERENCE_ROWS.values()}  # of stored records, and rows of explanations


class RiskClassifier(RiskPredictor, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Calibrated risk of a rare outcome, from similar past patients and a stack of base learners; two classes, or up to ten.

    Parameters
    ----------
    random_state : int, numpy generator or None
        Seed of all randomness: the same number and rows give the same model. None gives another one at every fit.
    positive : value or list of values, optional
        The outcome value that is the event; by default the greater of the two. All other values are no event.
    schema : Schema, optional
        Roles and kinds of the columns; inferred by default.
    experts : sequence
        Names of number columns that are risk scores, higher meaning more risk (SOFA, a legacy model); and estimators, cross-fitted here
        (``OneClass()``).
    folds : int
        Number of cross-fitting folds, and of encoders.
    encoder : EncoderConfig, optional
        Sizes and training of the AWARE encoders.
    trees : "lightgbm" or "lightgbm+catboost"
        The boosted trees among the base learners; CatBoost must be installed, but only to fit.
    backbone : "embedded", "tabpfn", "tabicl", Backbone or None
        The in-context model that predicts from the similar patients: nearward's own; a published one, with weights that you provide; an
        object with the interface of ``nearward.Backbone``; None for the base learners alone. It is used only where the out-of-fold AUPRC
        clearly rises; ``summary_.backbone`` has the comparison.
    members : int
        Ensemble size of the embedded model: the first view has all columns, further ones subsets of the columns and base learners with
        contexts of other sizes; their risks are averaged.
    adapter : bool
        Whether to try a low-rank adapter (LoRA, rank 8) on the embedded model, from 50 events; used where the out-of-fold AUPRC rises.
    effort : "fast", "default" or "thorough"
        "fast": at most three folds, and 300 training steps of an encoder. "thorough": the base learners are fitted on further draws of
        the folds, up to ten, until their mean hardly depends on the draw; this takes time with few rows alone.
    prevalence : float, optional
        Prevalence of the outcome where the model will be used, if it differs from the training rows'; risks are corrected in closed form.
    n_jobs : int, optional
        Tasks that run at a time, each in one thread: as many as there are CPUs by default and with -1. Results do not depend on it.
    verbose : int or callable
        Above 0 the expected time and the steps of ``fit`` are printed; a callable gets them as text.
    seed : int, optional
        The name of ``random_state`` in the functions and commands; used where that is 0, as by default.

    Attributes
    ----------
    classes_ : (c,), the outcome values in increasing order; ``[False, True]`` where ``positive`` names some of more than two
    event_ : the outcome value that is the event, or a tuple of several; None where each class has a risk
    schema_ : Schema
    summary_ : FitSummary, summary of the training; its figures are out of fold
    fitted_ : FittedState, everything that a fit leaves behind
    n_features_in_ : int
    feature_names_in_ : (d,), where the frame had names

    References
    ----------
    AWARE: attention-weighted supervised embeddings (arXiv 2604.01841), cross-fitted here; measurements in docs/log/2026-11.md.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> biopsies = load_breast_cancer()
    >>> cohort, malignant = biopsies.data[:280, :8], biopsies.target[:280] == 0
    >>> model = RiskClassifier(random_state=0).fit(cohort, malignant)
    >>> model.predict_proba(biopsies.data[280:283, :8]).shape
    (3, 2)
    """

    __metadata_request__fit: ClassVar = {"groups": True}  # where metadata routing is on, cross_validate passes the patients on

    def __init__(
        self,
        *,
        random_state: RandomState = 0,
        positive: Any = None,
        schema: Schema | None = None,
        experts: Sequence[Any] = (),
        folds: int = 5,
        encoder: EncoderConfig | None = None,
        trees: Literal["lightgbm", "lightgbm+catboost"] = "lightgbm",
        backbone: str | Backbone | None = "embedded",
        members: int = 1,
        adapter: bool = False,
        effort: Literal["fast", "default", "thorough"] = "default",
        prevalence: float | None = None,
        n_jobs: int | None = None,
        verbose: int | Progress = 0,
        seed: int | None = None,
    ) -> None:
        self.random_state = random_state
        self.positive = positive
        self.schema = schema
        self.experts = experts
        self.folds = folds
        self.encoder = encoder
        self.trees = trees
        self.backbone = backbone
        self.members = members
        self.adapter = adapter
        self.effort = effort
        self.prevalence = prevalence
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None, unlabelled: Any = None, **fit_params: Any) -> RiskClassifier:
        """Fit on a cohort.

        Parameters
        ----------
        X : frame of n rows
            pl.DataFrame, pl.LazyFrame, a pandas or Arrow table, or an array of shape (n, d).
        y : (n,), the outcome: two values, or up to ten classes
        groups : (n,), optional
            The patient of each row, where patients have several; all splits are by patient. By default the schema's ``group`` column,
            where it has one.
        unlabelled : frame, optional
            Rows without a known outcome, for the encoder's self-supervised ``pretext``.
        **fit_params
            ``sample_weight`` is refused, and the message says why.

        Raises
        ------
        InputError
            Unusable data or arguments; the message names columns and row counts.
        TooFewEvents
            Fewer than 10 events, or than 5 rows of one of several classes.
        """
        refuse_sample_weight(self, fit_params)
        effort = check_settings(self)
        frame = to_frame(X)
        if frame.height < 2:
            raise InputError(f"X has {frame.height} rows (n_samples = {frame.height}); at least 2 are required")
        target = validate_target(y, frame.height, self.positive, max_classes=MOST_CLASSES, allow_encoded=True)
        check_class_sizes(target)
        classes, outcome = target.classes, target.outcome
        schema, patient_ids = resolve_schema(self.schema, frame, split_experts(self.experts)[0], groups)
        rows = schema.conform(frame)
        if rows.width == 0:
            raise InputError("no feature columns: 0 feature(s) (shape=(n, 0)) while a minimum of 1 is required.")
        seed = seed_of(self.random_state) or self.seed or 0
        warn_of_leakage(frame, rows, schema, outcome, patient_ids, seed)
        schema, config = make_config(self, schema, rows, len(classes), seed, unlabelled)
        progress = logged(self.verbose, __name__)
        fit_model: Any = fit_risk if len(classes) == 2 else fit_classes
        ids = stored_ids(schema, frame)
        patients = patient_labels(self.schema, frame, groups, ids)
        records = rows.with_columns(ids.alias(ID), pl.Series(OUTCOME, outcome), patients.alias(PATIENT))
        teaching, sample = {}, choose_teaching_sample(outcome, patient_ids, effort.teaching_rows, seed, site_numbers(schema, frame))
        taught = rows.height if sample is None else len(sample.rows)
        if sample is not None:  # the rows that teach come first, then all others
            order = sample.order(rows.height)
            records, outcome, patient_ids = records[order], outcome[order], number_patients(patient_ids[order])
            rows = records.select(rows.columns)
            others = FrameRows.of(rows[taught:], outcome[taught:], patient_ids[taught:], config.folds, seed)
            teaching = {"weight": sample.weight, "others": others}
        with limit_jobs(self.n_jobs):
            seconds = expected_seconds(rows.height, rows.width, self.effort, cpu_count())
            sampled = "" if sample is None else f"; {taught} of {rows.height} rows teach, all are indexed"
            progress(f"expected: {spell_seconds(seconds)} on {cpu_count()} CPU{'s' * (cpu_count() > 1)}{sampled}")
            model, summary = fit_model(schema, rows[:taught], outcome[:taught], patient_ids[:taught], config, progress, **teaching)
        self.fitted_ = FittedState(
            model, classes, target.event_index, target.event, schema, summary, records, frame.columns, names_in(X), patient_ids
        )
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags


def check_settings(settings: RiskClassifier) -> Effort:
    """Check the parameters of a classifier before anything is read; returns its effort's limits."""
    check_parameters(settings.folds, settings.prevalence, settings.experts)
    check_backbone(settings.backbone, settings.members, settings.adapter)
    check_trees(settings.trees)
    return find_effort(settings.effort)


def make_config(
    settings: RiskClassifier, schema: Schema, rows: pl.DataFrame, classes: int, seed: int, unlabelled: Any = None
) -> tuple[Schema, FitConfig]:
    """Return the configuration of a fit by a classifier's parameters, and the schema with feature blocks where they are needed."""
    if own := sorted(_OWN_NAMES & set(rows.columns)):
        raise InputError(f"columns with names that nearward gives to columns of its own: {own}. Rename them")
    effort = find_effort(settings.effort)
    encoder = settings.encoder or EncoderConfig()
    encoder = replace(encoder, steps=min(encoder.steps, effort.steps or encoder.steps))
    schema, unlabelled_rows = resolve_encoder_options(encoder, schema, rows, classes, unlabelled)
    backbone = (settings.backbone, settings.members, settings.adapter)
    prevalence = None if settings.prevalence is None else float(settings.prevalence)
    folds, estimators = min(settings.folds, effort.folds or settings.folds), split_experts(settings.experts)[1]
    return schema, FitConfig(folds, encoder, *backbone, prevalence, seed, unlabelled_rows, estimators, settings.trees, effort.repeats)
