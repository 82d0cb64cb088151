"""Validation of the arguments of ``fit``: rows, outcome, groups and settings.

Every estimator, the synthesizer and the evaluators read outcomes by ``validate_target`` and patients by ``validate_groups``. So there is
one rule for which value is the event: the one that the caller names, else the greater of the two (1, True, the later text), with a warning
where that is the commoner value. Classes are sorted as in scikit-learn; ``Target.event`` says which of them is the event.

Shapes: n rows, q query rows, c classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.conversion import refuse_nested
from nearward.tabular.data.repeated_rows import warn_of_copies, warn_of_repeated_ids
from nearward.tabular.data.table_io import to_array, to_frame, to_series
from nearward.tabular.data.text_values import is_text
from nearward.tabular.errors import DataWarning, InputError, TooFewEvents
from nearward.tabular.typing import Floats, Ints, RandomState, Values

UNKNOWN_EVENT = (
    "the outcome was encoded as 0 and 1 before the fit, so it is not known which of them is the event: fit on the outcome as it is, "
    "or name the event by its code (positive=1)"
)


@dataclass(frozen=True)
class Target:
    """A validated outcome.

    Parameters
    ----------
    classes : (c,), the different values in increasing order
        ``[False, True]`` where some of more than two values were named as the event.
    outcome : (n,)
        1 for the event, else 0; the class index where there are more than two classes and no event.
    event_index : int
        Index of the event in ``classes``.
    event : value, or tuple of values
        The event as plain Python values; None where there is none, or where it is not known.
    """

    classes: Values
    outcome: Ints
    event_index: int
    event: Any

    @property
    def events(self) -> int:
        """Rows with the event."""
        return int(self.outcome.sum())

    def require_events(self, minimum: int, purpose: str = "fit a risk model") -> None:
        """Raise ``TooFewEvents`` where fewer rows than ``minimum`` have the event."""
        if self.events < minimum:
            raise TooFewEvents(self.events, minimum, purpose)


def validate_fit_inputs(
    X: Any, y: Any, groups: Any, positive: Any = None, max_classes: int | None = 2, *, allow_encoded: bool = False
) -> tuple[pl.DataFrame, Target, Ints]:
    """Return the frame of ``X`` (n rows), the target of ``y`` and patient ids (n,); errors as ``validate_target``, ``validate_groups``."""
    frame = to_frame(X)
    target = validate_target(y, frame.height, positive, max_classes=max_classes, allow_encoded=allow_encoded)
    patient_ids = validate_groups(groups, frame.height)
    if groups is None:
        warn_of_repeated_ids(frame, stacklevel=4)
    warn_of_copies(frame, target.outcome, patient_ids, stacklevel=4)
    return frame, target, patient_ids


def validate_target(
    y: Any,
    n_rows: int | None = None,
    positive: Any = None,
    *,
    min_classes: int = 2,
    max_classes: int | None = 2,
    name: str = "the outcome",
    allow_encoded: bool = False,
) -> Target:
    """Validate an outcome and encode it as 0 and 1, or as class indices.

    Parameters
    ----------
    y : Series or array-like of n values
        Numbers, text or booleans, none missing or infinite.
    n_rows : int, optional
        The n that is required; any by default.
    positive : value or list of values, optional
        The event; by default the greater of two values. All other values are no event.
    min_classes, max_classes : int, int or None
        Limits of different values where none is named. A single value is the event if it equals ``positive``, by default 1.
    name : str
        How messages call the outcome.
    allow_encoded : bool
        Whether an array of 0 and 1 is accepted beside a ``positive`` that neither of them is: ``VotingClassifier``,
        ``StackingClassifier`` and ``cross_val_predict`` encode the outcome so. Then nobody knows which of them is the event;
        ``event`` is None, and ``outcome`` is 1 for the rarer.

    Raises
    ------
    InputError
        Missing or infinite values; dates, bytes and the like; text beside numbers; fewer values than ``min_classes``, or more than
        ``max_classes``; another length than ``n_rows``; a ``positive`` that no row has, or that names all values.

    Warns
    -----
    DataWarning
        Nobody named the event and it is the commoner value; values beside the event were put together, where ``max_classes`` is set.

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
        event = named_values(positive) or [1]
        is_event = np.isin(values, [value for value in classes if value in event])
        return Target(classes, is_event.astype(np.int64), 0, _plain(event))
    _check_classes(classes, series, max_classes, name, named=positive is not None)
    class_index = np.searchsorted(classes, values).astype(np.int64)
    if allow_encoded and _is_encoded(classes, named_values(positive)):
        event_index = int(class_index.mean() <= 0.5)
        warnings.warn(
            f"positive={positive!r} is no value of {name}, whose values are 0 and 1, as scikit-learn's meta-estimators encode an outcome: "
            "probabilities follow classes_, and no result that depends on the event can be had from this model",
            DataWarning,
            stacklevel=3,
        )
        return Target(classes, (class_index == event_index).astype(np.int64), event_index, None)
    if positive is not None:
        return _named_event(classes, class_index, named_values(positive), max_classes, name)
    if len(classes) > 2:
        return Target(classes, class_index, len(classes) - 1, None)
    event_rate = float(class_index.mean())
    if event_rate > 0.5:
        warnings.warn(
            f"the event of {name} is {classes[1]!s}, the greater of the two values and the commoner one ({event_rate:.0%} of the rows): "
            "name the event (positive=) if it is the other one",
            DataWarning,
            stacklevel=3,
        )
    return Target(classes, class_index, 1, _plain([classes[1]]))


def named_values(positive: Any) -> list[Any]:
    """Return the values that a ``positive`` names: one, several, or none."""
    if positive is None:
        return []
    return list(positive) if isinstance(positive, list | tuple | set | frozenset | np.ndarray | pl.Series) else [positive]


def class_probabilities(risk: Floats, event_index: int) -> Floats:
    """Return the probability of each of two classes (q, 2) from the risk of the event (q,)."""
    columns = [1 - risk, risk]
    return np.column_stack(columns if event_index == 1 else columns[::-1])


def describe_event(event: Any) -> str:
    """Return the event as text: its value, or its values joined by "or"."""
    return " or ".join(str(value) for value in (event if isinstance(event, tuple | list) else [event]))


def _named_event(classes: Values, class_index: Ints, named: list[Any], max_classes: int | None, name: str) -> Target:
    """Return the target of an outcome whose event is named: one or several of its classes."""
    is_event = np.zeros(len(classes), dtype=bool)
    for value in named:
        matches = np.asarray(classes == value)
        if not matches.any():
            raise InputError(f"no row of {name} has the value of the event, got positive={value!r} ({type(value).__name__})")
        is_event |= matches
    if not named or is_event.all():
        raise InputError(f"positive must name some of the {len(classes)} values of {name}, got {int(is_event.sum())} of them")
    outcome, event = is_event[class_index].astype(np.int64), _plain(classes[is_event])
    if len(classes) == 2:
        return Target(classes, outcome, int(is_event.argmax()), event)
    if max_classes is not None:
        warnings.warn(
            f"the event of {name} is {describe_event(event)}; rows with one of the other {int((~is_event).sum())} values are without it",
            DataWarning,
            stacklevel=4,
        )
    return Target(np.array([False, True]), outcome, 1, event)


def _is_encoded(classes: Values, named: list[Any]) -> bool:
    """Whether classes are 0 and 1 of whole numbers, and the event's name is text that is no number: another outcome's."""
    if classes.dtype.kind != "i" or classes.tolist() != [0, 1] or not named:
        return False
    return all(isinstance(value, str) and not value.replace(".", "", 1).isdigit() for value in named)


def _plain(event: Any) -> Any:
    """Return the values of an event as a plain Python value, or as a tuple of several."""
    values = tuple(value.item() if isinstance(value, np.generic) else value for value in event)
    return values[0] if len(values) == 1 else values


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
    refuse_nested(series, name)
    _refuse_missing(series, name, remedy)
    return series


def validate_integers(minimum: int, /, **settings: Any) -> None:
    """Refuse settings that are not whole numbers from ``minimum``."""
    for name, value in settings.items():
        if not isinstance(value, int | np.integer) or value < minimum:
            raise InputError(f"{name} must be a whole number from {minimum}, got {name}={value!r}")


def seed_of(random_state: RandomState) -> int:
    """Return the seed of a ``random_state``: a whole number is its own; generators of numpy, and None for its global one, give a new seed.

    Examples
    --------
    >>> seed_of(7), seed_of(np.random.RandomState(0)), seed_of(np.random.default_rng(0))
    (7, 209652396, 1826701614)
    """
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    if random_state is None or isinstance(random_state, np.random.RandomState):
        from sklearn.utils import check_random_state

        return int(check_random_state(random_state).randint(2**31 - 1))
    raise InputError(f"random_state must be a whole number from 0, a generator of numpy, or None, got random_state={random_state!r}")


def refuse_sample_weight(estimator: Any, fit_params: Mapping[str, Any]) -> None:
    """Refuse ``sample_weight``, and as Python does any other unknown argument of ``fit``.

    It is not in the signatures of ``fit``, because scikit-learn takes that for support.

    Raises
    ------
    InputError
    """
    for name, value in fit_params.items():
        if name != "sample_weight":
            raise TypeError(f"{type(estimator).__name__}.fit() got an unexpected keyword argument {name!r}")
        if value is not None:
            raise InputError(
                "sample_weight is not supported: votes of similar patients, calibration and intervals count patients, and a weight that "
                "only some of them heeded would give risks of neither population. If the weights undo the sampling of cases and controls, "
                "fit without them and give prevalence= (or correct_prior). Otherwise draw rows with these probabilities, and give each "
                "draw its patient's id in groups"
            )


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
        hint = "give the column itself, as frame[name]" if isinstance(y, str) else "y should be a 1d array"
        raise InputError(f"{name} must be one column, got y.shape={values.shape} ({hint})")
    if n_rows is not None and len(values) != n_rows:
        raise InputError(f"{name} has {len(values)} values and the frame {n_rows} rows: inconsistent numbers of samples")
    series = to_series(name, y if isinstance(y, pl.Series) else values)
    if series.dtype.is_decimal():
        floats = series.cast(pl.Float64)
        series = series.cast(pl.Int64) if bool((floats == floats.round()).all()) else floats
    dtype = series.dtype
    if not (dtype in (pl.Null, pl.Boolean) or dtype.is_numeric() or is_text(dtype)):
        raise InputError(
            f"{name} has dtype {dtype.base_type()}: only text, numbers and booleans are classes. Make a column of them first "
            "(Unknown label type)"
        )
    _refuse_missing(series, name, "drop these rows, or find out what happened")
    if dtype.is_float() and bool(series.is_infinite().any()):
        raise InputError(f"{name} has infinite (inf) values")
    return series, series.to_numpy() if values.dtype == object and dtype.is_numeric() else values


def _check_classes(classes: Values, series: pl.Series, max_classes: int | None, name: str, named: bool) -> None:
    if len(classes) < 2:
        raise InputError(f"{name} has the same value in every row: one class only, at least two are required")
    if max_classes is None or len(classes) == 2:
        return
    kind = "continuous" if series.dtype.is_float() and bool((series != series.round()).any()) else "multiclass"
    if named and kind == "multiclass":
        return
    if max_classes > 2 and kind == "multiclass":
        if len(classes) <= max_classes:
            return
        raise InputError(
            f"{name} has {len(classes)} different values, at most {max_classes} classes are supported: merge rare classes. "
            "Unknown label type: dichotomise a measurement first"
        )
    raise InputError(
        f"{name} has {len(classes)} different values, two are required: name the event (positive=, --positive). "
        f"Unknown label type: {kind}. Only binary classification is supported. The type of the target is {kind}"
    )


def _refuse_missing(series: pl.Series, name: str, remedy: str) -> None:
    if missing := series.null_count():
        raise InputError(f"{name} has {missing} missing values (null or NaN) in {len(series)} rows; {remedy}")
