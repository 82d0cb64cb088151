"""Checks of the arguments of ``RiskClassifier`` and ``fit``: parameters, encoder options, outcome, patients, columns."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nearward.risk_model.user_experts import check_experts
from nearward.tabular.backbones.pretrained import find_backbone
from nearward.tabular.data.feature_blocks import NO_BLOCKS, blocks_of, with_blocks
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.table_io import to_array, to_frame, to_series
from nearward.tabular.errors import DataWarning, InputError, TooFewEvents
from nearward.tabular.typing import Ints

if TYPE_CHECKING:
    from nearward.retrieval.encoders.aware import EncoderConfig


FEWEST_EVENTS = 10
FEWEST_IN_CLASS = 5  # one a fold, in five folds; under ten rows a class is warned of
MOST_CLASSES = 10
_FEWEST_WITHOUT = 2  # one a fold, in two folds
_MOST_MEMBERS = 32


def check_parameters(seed: Any, folds: Any, prevalence: Any, experts: Any) -> None:
    """Check the constructor's scalar arguments and experts; see ``RiskClassifier``."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number from 0, got seed={seed!r}")
    if not isinstance(folds, int | np.integer) or folds < 2:
        raise InputError(f"folds must be a whole number from 2, got folds={folds!r}")
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
        if not blocks_of(schema):
            raise InputError(NO_BLOCKS)
    if unlabelled is None:
        return schema, None
    if encoder.pretext == "none":
        raise InputError('unlabelled rows need a self-supervised pretext: encoder=EncoderConfig(pretext="masked"), or "views"')
    return schema, schema.conform(to_frame(unlabelled))


def read_outcome(y: Any, rows: int, positive: Any = None, most: int = 2) -> tuple[NDArray[Any], Ints]:
    """Turn an outcome into 0 and 1, or into class numbers.

    Parameters
    ----------
    y : Series or array-like of n values, two of them different, or up to ``most``
    rows : int, n
    positive : value, optional
        Which value is the event; by default the greater of the two.
    most : int
        Classes at the most.

    Returns
    -------
    classes : (2,), the two values, the event last; (c,) in order where there are more
    outcome : (n,), 0 or 1; class numbers from 0 where there are more

    Raises
    ------
    InputError
        Missing values; dates or bytes; text beside numbers; one value, or more than ``most``;
        lengths that differ; an event value that does not occur.
    TooFewEvents
        Fewer than 10 events, or than 5 rows of a class.
    """
    if y is None:
        raise InputError("an outcome is needed: requires y to be passed, but the target y is None")
    values = to_array(y)
    if values.ndim == 2 and values.shape[1] == 1:
        from sklearn.exceptions import DataConversionWarning

        warnings.warn("A column-vector y was passed when a 1d array was expected: taken as one column", DataConversionWarning, stacklevel=3)
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(f"the outcome must be one column, got y.shape={values.shape} (y should be a 1d array)")
    if len(values) != rows:
        raise InputError(f"the outcome has {len(values)} values and the frame {rows} rows: inconsistent numbers of samples")
    series = to_series("the outcome", y if isinstance(y, pl.Series) else values)
    if series.dtype.is_decimal():
        series = _plain_numbers(series)
    if values.dtype == object and series.dtype.is_numeric():
        values = series.to_numpy()
    classes = _classes(series, values, most)
    if len(classes) > 2:
        return classes, _class_numbers(classes, values, positive)
    if positive is not None:
        if not (classes == positive).any():
            raise InputError(f"no row has the outcome value named as positive ({positive!r}, {type(positive).__name__})")
        classes = np.array([classes[classes != positive][0], classes[classes == positive][0]])
    outcome = (values == classes[1]).astype(np.int64)
    if outcome.sum() < FEWEST_EVENTS:
        raise TooFewEvents(int(outcome.sum()), FEWEST_EVENTS)
    if len(outcome) - outcome.sum() < _FEWEST_WITHOUT:
        raise InputError("refused: only 1 row is free of the event, and a risk is learned from both. Is the right value the event?")
    return classes, outcome


def _plain_numbers(decimals: pl.Series) -> pl.Series:
    """Return decimals as whole numbers, or as floats where one of them is not whole."""
    floats = decimals.cast(pl.Float64)
    return decimals.cast(pl.Int64) if bool((floats == floats.round()).all()) else floats


def _classes(series: pl.Series, values: NDArray[Any], most: int) -> NDArray[Any]:
    """Return the different values, sorted; fewer than two or more than ``most`` are an error."""
    floats, dtype = series.dtype.is_float(), series.dtype
    if not (dtype in (pl.Null, pl.Boolean) or dtype.is_numeric() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum)):
        raise InputError(
            f"the outcome has dtype {dtype.base_type()}: only text, numbers and true or false name what happened. "
            "Make a column of them first (Unknown label type)"
        )
    missing = series.null_count()
    if missing:
        raise InputError(f"the outcome is missing (null or NaN) in {missing} of {len(series)} rows: drop them, or find out what happened")
    if floats and bool(series.is_infinite().any()):
        raise InputError("the outcome holds infinite (inf) values")
    classes = np.unique(values)
    if len(classes) < 2:
        raise InputError("the outcome is the same in every row: one class only, nothing to learn")
    kind = "continuous" if floats and bool((series != series.round()).any()) else "multiclass"
    if len(classes) > most or (kind == "continuous" and len(classes) > 2):
        if most > 2 and kind == "multiclass":
            raise InputError(
                f"the outcome has {len(classes)} different values, at most {most} classes can be told apart: put rare ones together. "
                "Unknown label type: if it is a measurement, make a yes or no of it first"
            )
        raise InputError(
            f"the outcome has {len(classes)} different values, an event happens or it does not. Unknown label type: {kind}. "
            f"Only binary classification is supported. The type of the target is {kind}"
        )
    return classes


def _class_numbers(classes: NDArray[Any], values: NDArray[Any], positive: Any) -> Ints:
    """Return the place of each value among more than two classes (n,)."""
    if positive is not None:
        raise InputError(
            f"positive names the event of an outcome with two values, this one has {len(classes)}: leave it out for a share a class, "
            "or make a column that says whether the event happened"
        )
    code = np.searchsorted(classes, values).astype(np.int64)
    least = int(np.bincount(code).min())
    if least < FEWEST_IN_CLASS:
        raise TooFewEvents(least, FEWEST_IN_CLASS, "tell a class (the outcome's rarest; put rare ones together)")
    if least < FEWEST_EVENTS:
        small = int((np.bincount(code) < FEWEST_EVENTS).sum())
        told = f"{small} of {len(classes)} classes have fewer than {FEWEST_EVENTS} rows: their shares are little more than their frequency"
        warnings.warn(told, DataWarning, stacklevel=4)
    return code


def read_groups(groups: Any, rows: int) -> Ints:
    """Turn patient names into numbers from 0; without any, every row is a patient of its own. (n,)."""
    if groups is None:
        return np.arange(rows)
    series = to_series("groups", groups)
    if len(series) != rows:
        raise InputError(f"groups has {len(series)} values and the frame {rows} rows")
    if series.null_count():
        raise InputError(f"groups is missing in {series.null_count()} of {rows} rows: whose are they? Give each a patient of its own")
    return series.rank("dense").to_numpy().astype(np.int64) - 1


def patient_columns(frame: pl.DataFrame, group: Ints) -> list[str]:
    """Return the columns that part the rows just as the patients do: another name of the patient, and no feature."""
    patients = len(np.unique(group))
    if patients == frame.height:
        return []
    candidates = [c for c in frame.iter_columns() if _may_name(c) and c.n_unique() == patients]
    return [c.name for c in candidates if pl.DataFrame({"a": c, "b": group}).n_unique() == patients]


def _may_name(column: pl.Series) -> bool:
    """Whether a column is text or whole numbers, in whatever dtype they are stored."""
    dtype = column.dtype
    if dtype.is_float() or dtype.is_decimal():
        return bool((column == column.round()).all())
    return dtype.is_integer() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def check_ids(schema: Schema, frame: pl.DataFrame) -> None:
    """Refuse an id column that repeats."""
    for name in schema.named("id"):
        if name in frame.columns and frame.get_column(name).n_unique() < frame.height:
            extra = frame.height - frame.get_column(name).n_unique()
            raise InputError(f"the id column {name!r} repeats {extra} times in {frame.height} rows; patients who repeat belong in groups")


def names_in(X: Any) -> list[str]:
    """Return a frame's column names; none for an array, or where a name is no text."""
    names = list(getattr(X, "columns", [])) if not isinstance(X, pl.LazyFrame) else X.collect_schema().names()
    return names if all(isinstance(name, str) for name in names) else []
