"""Validation of the arguments of ``fit``: rows, outcome, groups and settings.

Every estimator, the synthesizer and the evaluators read outcomes by ``validate_target`` and patients by ``validate_groups``. So there is
one rule for which value is the event: the one that the caller names, else the greater of the two (1, True, the later text).

Shapes: n rows, c classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.table_io import to_array, to_frame, to_series
from nearward.tabular.errors import InputError, TooFewEvents
from nearward.tabular.typing import Ints, Values


@dataclass(frozen=True)
class Target:
    """A validated outcome.

    Parameters
    ----------
    classes : (c,), the different values
        With an event, the event is the last of two; else in increasing order.
    outcome : (n,)
        1 for the event, else 0; the class index where there is no event.
    """

    classes: Values
    outcome: Ints

    @property
    def event(self) -> Any:
        """The value that is the event, as a plain Python value."""
        value = self.classes[-1]
        return value.item() if isinstance(value, np.generic) else value

    @property
    def events(self) -> int:
        """Rows with the event."""
        return int(self.outcome.sum())

    def require_events(self, minimum: int, purpose: str = "fit a risk model") -> None:
        """Raise ``TooFewEvents`` where fewer rows than ``minimum`` have the event."""
        if self.events < minimum:
            raise TooFewEvents(self.events, minimum, purpose)


def validate_fit_inputs(
    X: Any, y: Any, groups: Any, positive: Any = None, max_classes: int | None = 2
) -> tuple[pl.DataFrame, Target, Ints]:
    """Return the frame of ``X`` (n rows), the target of ``y`` and patient ids (n,); errors as ``validate_target``, ``validate_groups``."""
    frame = to_frame(X)
    return frame, validate_target(y, frame.height, positive, max_classes=max_classes), validate_groups(groups, frame.height)


def validate_target(
    y: Any,
    n_rows: int | None = None,
    positive: Any = None,
    *,
    min_classes: int = 2,
    max_classes: int | None = 2,
    name: str = "the outcome",
) -> Target:
    """Validate an outcome and encode it as 0 and 1, or as class indices.

    Parameters
    ----------
    y : Series or array-like of n values
        Numbers, text or booleans, none missing or infinite.
    n_rows : int, optional
        The n that is required; any by default.
    positive : value, optional
        The event; by default the greater of two values.
    min_classes, max_classes : int, int or None
        Limits of different values. A single value is the event if it equals ``positive``, by default 1. Without an upper limit a
        ``positive`` is the event against all other values.
    name : str
        How messages call the outcome.

    Raises
    ------
    InputError
        Missing or infinite values; dates, bytes and the like; text beside numbers; fewer values than ``min_classes``, or more than
        ``max_classes``; another length than ``n_rows``; a ``positive`` that no row has, or that is named beside more than two classes.

    Examples
    --------
    >>> target = validate_target(["alive", "dead", "alive"])
    >>> target.event, target.outcome.tolist()
    ('dead', [0, 1, 0])
    >>> validate_target([3, 1, 2], positive=1, max_classes=None).outcome.tolist()
    [0, 1, 0]
    """
    series, values = _read_target(y, n_rows, name)
    classes = np.unique(values)
    if len(classes) == min_classes == 1:
        return Target(classes, (values == (1 if positive is None else positive)).astype(np.int64))
    _check_classes(classes, series, max_classes, name)
    if positive is not None and (len(classes) == 2 or max_classes is None):
        event = classes == positive
        if not event.any():
            raise InputError(f"no row of {name} has the value of the event, got positive={positive!r} ({type(positive).__name__})")
        return Target(np.concatenate([classes[~event], classes[event]]), (values == classes[event][0]).astype(np.int64))
    if positive is not None:
        raise InputError(
            f"positive names the event of an outcome with two values, and {name} has {len(classes)}: omit positive to predict "
            "all classes, or make a column that is true for the event"
        )
    return Target(classes, np.searchsorted(classes, values).astype(np.int64))


def validate_groups(groups: Any, n_rows: int, name: str = "groups") -> Ints:
    """Validate patient identities and encode them as whole numbers from 0; without any, every row is a patient of its own.

    Parameters
    ----------
    groups : Series or array-like of n values, or None
    n_rows : int, n
    name : str
        How messages call the groups.

    Returns
    -------
    patient_ids : (n,)

    Raises
    ------
    InputError
        Missing values, text beside numbers, another length.
    """
    if groups is None:
        return np.arange(n_rows)
    series = validate_column(groups, n_rows, name, "give each such row an id of its own")
    return series.rank("dense").to_numpy().astype(np.int64) - 1


def validate_column(values: Any, n_rows: int, name: str, remedy: str = "drop these rows") -> pl.Series:
    """Return a column without missing values (n,); errors as ``validate_groups``."""
    series = to_series(name, values)
    if len(series) != n_rows:
        raise InputError(f"{name} has {len(series)} values and the frame {n_rows} rows")
    _refuse_missing(series, name, remedy)
    return series


def validate_integers(minimum: int, /, **settings: Any) -> None:
    """Refuse settings that are not whole numbers from ``minimum``."""
    for name, value in settings.items():
        if not isinstance(value, int | np.integer) or value < minimum:
            raise InputError(f"{name} must be a whole number from {minimum}, got {name}={value!r}")


def _read_target(y: Any, n_rows: int | None, name: str) -> tuple[pl.Series, Values]:
    """Return an outcome without missing values as a Series and as an array (n,); categories are text, decimals plain numbers."""
    if y is None:
        raise InputError("an outcome is needed: requires y to be passed, but the target y is None")
    values = to_array(y)
    if values.ndim == 2 and values.shape[1] == 1:
        from sklearn.exceptions import DataConversionWarning

        warnings.warn("A column-vector y was passed when a 1d array was expected: its column is used", DataConversionWarning, stacklevel=4)
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(f"{name} must be one column, got y.shape={values.shape} (y should be a 1d array)")
    if n_rows is not None and len(values) != n_rows:
        raise InputError(f"{name} has {len(values)} values and the frame {n_rows} rows: inconsistent numbers of samples")
    series = to_series(name, y if isinstance(y, pl.Series) else values)
    if series.dtype.is_decimal():
        floats = series.cast(pl.Float64)
        series = series.cast(pl.Int64) if bool((floats == floats.round()).all()) else floats
    dtype = series.dtype
    if not (dtype in (pl.Null, pl.Boolean) or dtype.is_numeric() or isinstance(dtype, pl.String | pl.Categorical | pl.Enum)):
        raise InputError(
            f"{name} has dtype {dtype.base_type()}: only text, numbers and booleans are classes. Make a column of them first "
            "(Unknown label type)"
        )
    _refuse_missing(series, name, "drop these rows, or find out what happened")
    if dtype.is_float() and bool(series.is_infinite().any()):
        raise InputError(f"{name} has infinite (inf) values")
    return series, series.to_numpy() if values.dtype == object and dtype.is_numeric() else values


def _check_classes(classes: Values, series: pl.Series, max_classes: int | None, name: str) -> None:
    if len(classes) < 2:
        raise InputError(f"{name} has the same value in every row: one class only, at least two are required")
    if max_classes is None or len(classes) == 2:
        return
    kind = "continuous" if series.dtype.is_float() and bool((series != series.round()).any()) else "multiclass"
    if max_classes > 2 and kind == "multiclass":
        if len(classes) <= max_classes:
            return
        raise InputError(
            f"{name} has {len(classes)} different values, at most {max_classes} classes are supported: merge rare classes. "
            "Unknown label type: dichotomise a measurement first"
        )
    raise InputError(
        f"{name} has {len(classes)} different values, two are required. Unknown label type: {kind}. "
        f"Only binary classification is supported. The type of the target is {kind}"
    )


def _refuse_missing(series: pl.Series, name: str, remedy: str) -> None:
    if missing := series.null_count():
        raise InputError(f"{name} has {missing} missing values (null or NaN) in {len(series)} rows; {remedy}")
