"""Checks of the arguments of ``RiskClassifier`` and ``fit``: parameters, encoder options, outcome, patients, columns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from nearward.risk_model.user_experts import check_experts
from nearward.tabular.backbones.pretrained import find_backbone
from nearward.tabular.data.repeated_rows import warn_of_repeated_ids
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_frame, to_series
from nearward.tabular.data.text_values import is_text
from nearward.tabular.data.validation import Target, validate_column, validate_groups, validate_integers
from nearward.tabular.ensemble.base_learners import TREES
from nearward.tabular.ensemble.boosting import require_package
from nearward.tabular.errors import DataWarning, InputError, TooFewEvents
from nearward.tabular.preprocessing.feature_blocks import NO_BLOCKS, columns_by_block, with_blocks
from nearward.tabular.typing import Ints

if TYPE_CHECKING:
    from nearward.retrieval.encoders.aware import EncoderConfig


FEWEST_EVENTS = 10
FEWEST_IN_CLASS = 5  # one a fold, in five folds; under ten rows a class is warned of
MOST_CLASSES = 10
_FEWEST_WITHOUT = 2  # one a fold, in two folds
_MOST_MEMBERS = 32
_OUTPUTS = {"risk", "low", "high", "n_similar", "novelty", "vote", "class"}  # columns of predict_frame and of similar
_OUTPUTS |= {"rank", "patient", "weight", "outcome", "distance", "floored", "differs"}


def check_parameters(folds: Any, prevalence: Any, experts: Any) -> None:
    """Check the constructor's scalar arguments and experts; see ``RiskClassifier``."""
    validate_integers(2, folds=folds)
    if prevalence is not None and not 0 < prevalence < 1:
        raise InputError(f"prevalence must lie between 0 and 1, got prevalence={prevalence!r}")
    if experts is None or isinstance(experts, str):
        raise InputError(f"experts must be a list of column names or estimators, got experts={experts!r}")
    check_experts(experts)


def check_backbone(backbone: Any, members: Any, adapter: Any) -> None:
    """Check the in-context model's arguments, and that a pretrained backbone's weights are present, before anything is fitted."""
    if not isinstance(members, int | np.integer) or not 1 <= members <= _MOST_MEMBERS:
        raise InputError(f"members must be a whole number from 1 to {_MOST_MEMBERS}, got members={members!r}")
    if not isinstance(adapter, bool | np.bool_):
        raise InputError(f"adapter must be True or False, got adapter={adapter!r}")
    if isinstance(backbone, str) and backbone == "embedded":
        return
    if members != 1 or adapter:
        raise InputError(f'members and adapter need backbone="embedded", got backbone={backbone!r}')
    if backbone is not None:
        find_backbone(backbone)


def check_trees(trees: Any) -> None:
    """Refuse an unknown choice of trees, and CatBoost where it is not installed, before anything is fitted."""
    if trees not in TREES:
        raise InputError(f"trees must be one of {list(TREES)}, got trees={trees!r}")
    require_package("lightgbm")
    if "catboost" in trees:
        require_package("catboost")


def resolve_encoder_options(
    encoder: EncoderConfig, schema: Schema, rows: pl.DataFrame, classes: int, unlabelled: Any
) -> tuple[Schema, pl.DataFrame | None]:
    """Check the encoder's options against the data, and prepare what they need.

    Returns
    -------
    schema : Schema, with feature blocks where block dropout needs them
    unlabelled : conformed rows without an outcome, or None

    Raises
    ------
    InputError
        An option that the number of classes or the columns rule out; unlabelled rows without a pretext.
    """
    from nearward.retrieval.encoders.simplex_head import FEWEST_CLASSES

    if encoder.head == "simplex" and classes < FEWEST_CLASSES:
        raise InputError(f'head="simplex" is for {FEWEST_CLASSES} classes or more, got {classes} classes')
    if encoder.loss != "cross-entropy" and classes > 2:
        raise InputError(f"loss={encoder.loss!r} is for an outcome with two values, got {classes} classes")
    if encoder.block_dropout:
        schema = with_blocks(schema, rows)
        if not columns_by_block(schema):
            raise InputError(NO_BLOCKS)
    if unlabelled is None:
        return schema, None
    if encoder.pretext == "none":
        raise InputError('unlabelled rows need a self-supervised pretext: encoder=EncoderConfig(pretext="masked"), or "views"')
    return schema, schema.conform(to_frame(unlabelled))


def check_class_sizes(target: Target) -> None:
    """Refuse an outcome with too few rows of a class; warn of small classes.

    Raises
    ------
    TooFewEvents
        Fewer than 10 events, or than 5 rows of one of several classes.
    InputError
        Fewer than 2 rows without the event.
    """
    rows = np.bincount(target.outcome)
    if len(rows) == 2:
        target.require_events(FEWEST_EVENTS)
        if rows[0] < _FEWEST_WITHOUT:
            raise InputError("refused: only 1 row is without the event, and a risk model needs both. Is the right value the event?")
        return
    if rows.min() < FEWEST_IN_CLASS:
        raise TooFewEvents(int(rows.min()), FEWEST_IN_CLASS, "predict a class (the rarest one; merge rare classes)")
    if small := int((rows < FEWEST_EVENTS).sum()):
        message = f"{small} of {len(rows)} classes have fewer than {FEWEST_EVENTS} rows: their risks are little more than their prevalence"
        warnings.warn(message, DataWarning, stacklevel=3)


def resolve_schema(schema: Schema | None, frame: pl.DataFrame, expert_columns: Sequence[str], groups: Any) -> tuple[Schema, Ints]:
    """Complete the schema for a training frame, and read the patient ids.

    Parameters
    ----------
    schema : Schema, optional
        Inferred by default.
    frame : pl.DataFrame, n rows
    expert_columns : sequence of str
    groups : (n,), optional
        By default the schema's ``group`` column, where it has one.

    Returns
    -------
    schema : Schema
        Columns that identify the patients have the role ``group``.
    patient_ids : (n,)

    Raises
    ------
    InputError
        Several id columns, an id that repeats, an expert column that is text, or unusable groups.
    """
    if schema is None:
        group_columns, patient_ids = [], validate_groups(groups, frame.height)
        schema = Schema.infer(frame, groups=pl.Series(patient_ids))
    else:
        group_columns = [name for name in schema.named("group") if name in frame.columns]
        patient_ids = validate_groups(frame.get_column(group_columns[0]) if groups is None and group_columns else groups, frame.height)
    if groups is None and not group_columns:
        warn_of_repeated_ids(frame, stacklevel=4)
    schema = schema.with_roles(expert=expert_columns)
    identifying = patient_columns(frame.select(name for name in schema.features if name in frame.columns), patient_ids)
    if identifying:
        warnings.warn(f"columns that identify the patients are not used as features: {identifying}", DataWarning, stacklevel=3)
        schema = schema.with_roles(group=identifying)
    if len(schema.named("id")) > 1:
        raise InputError(f"more than one id column: {list(schema.named('id'))}. Keep one, ignore the others")
    for name in schema.experts:
        if schema[name].kind != "number":
            raise InputError(f"the expert column {name!r} is text: a score must be a number")
    check_ids(schema, frame)
    return schema, patient_ids


def patient_columns(frame: pl.DataFrame, patient_ids: Ints) -> list[str]:
    """Return the columns that partition the rows exactly as the patients do: they identify the patients, and are not features."""
    patients = len(np.unique(patient_ids))
    if patients == frame.height:
        return []
    candidates = [column for column in frame.iter_columns() if _is_discrete(column) and column.n_unique() == patients]
    return [column.name for column in candidates if pl.DataFrame({"column": column, "patient": patient_ids}).n_unique() == patients]


def _is_discrete(column: pl.Series) -> bool:
    """Whether a column is text or whole numbers, in whatever dtype they are stored."""
    dtype = column.dtype
    if dtype.is_float() or dtype.is_decimal():
        return bool((column == column.round()).all())
    return dtype.is_integer() or is_text(dtype)


def check_ids(schema: Schema, frame: pl.DataFrame) -> None:
    """Refuse an id column with repeated values."""
    for name in schema.named("id"):
        if name in frame.columns and frame.get_column(name).n_unique() < frame.height:
            repeats = frame.height - frame.get_column(name).n_unique()
            raise InputError(
                f"the id column {name!r} repeats {repeats} times in {frame.height} rows; name patients with several rows in groups"
            )


def names_in(X: Any) -> list[str]:
    """Return a frame's column names; none for an array, or where a name is not a string."""
    names = list(getattr(X, "columns", [])) if not isinstance(X, pl.LazyFrame) else X.collect_schema().names()
    return names if all(isinstance(name, str) for name in names) else []


def row_ids(schema: Schema, frame: pl.DataFrame) -> pl.Series:
    """Return the ids of a frame's rows, by the schema's id column; their numbers where there is none."""
    check_ids(schema, frame)
    ids = [name for name in schema.named("id") if name in frame.columns]
    if not ids:
        return pl.int_range(frame.height, eager=True).alias("row")
    return frame.get_column(ids[0]).alias("row_id" if ids[0] in _OUTPUTS else ids[0])


def stored_ids(schema: Schema, frame: pl.DataFrame, first: int = 0) -> pl.Series:
    """Return the ids of rows that are stored (n,), as text: the schema's id column, else numbers from ``first``."""
    ids = [name for name in schema.named("id") if name in frame.columns]
    series = frame.get_column(ids[0]) if ids else pl.int_range(first, first + frame.height, eager=True)
    return series.cast(pl.String)


def patient_labels(schema: Schema | None, frame: pl.DataFrame, groups: Any, ids: pl.Series) -> pl.Series:
    """Return the ids of the rows' patients (n,), as text: ``groups``, else the schema's ``group`` column, else the rows' own ids."""
    columns = [name for name in schema.named("group") if name in frame.columns] if schema is not None and groups is None else []
    if groups is None and not columns:
        return ids
    return to_series("groups", frame.get_column(columns[0]) if columns else groups).cast(pl.String)


def site_numbers(schema: Schema, frame: pl.DataFrame) -> Ints | None:
    """Return the number of each row's site (n,), a missing one a site of its own; None where the schema has no site column."""
    columns = [name for name in schema.named("site") if name in frame.columns]
    if not columns:
        return None
    return frame.get_column(columns[0]).rank("dense").fill_null(0).to_numpy().astype(np.int64)


def outcome_codes(y: Any, n_rows: int, classes: Any, event: Any) -> Ints:
    """Return the outcomes of new rows as a fitted model's codes (n,): 1 for the event, else 0; or class indices.

    Raises
    ------
    InputError
        Values that the model was not fitted on; another length; missing values.
    """
    series = validate_column(y, n_rows, "the outcome")
    known = list(classes.tolist())
    if len(known) == 2:
        events = list(event) if isinstance(event, tuple) else [event]
        codes = [1 if value in events else 0 for value in series.to_list()]
        unknown = 0 if isinstance(event, tuple) else sum(value not in known for value in series.to_list())
    else:
        position = {value: j for j, value in enumerate(known)}
        codes = [position.get(value, -1) for value in series.to_list()]
        unknown = codes.count(-1)
    if unknown:
        raise InputError(f"{unknown} of {n_rows} rows have an outcome that the model was not fitted on: its classes are {known}")
    return np.array(codes, dtype=np.int64)
