"""Small fitted estimators on disk: their settings and fitted state, in the folder of artifact.py.

They contain no rows of patients, but their state comes from columns (knots, names of categories), so the folder is private all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from sklearn.utils.validation import check_is_fitted

from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence.artifact import loading, pack, read_model, unpack, write_model
from nearward.tabular.typing import Arrays


class SavableEstimator:
    """Mixin that saves an estimator to a folder and loads it; the constructor's arguments are attributes of the same name.

    ``_fitted_attributes`` names the attributes that are saved beside them, and ``_state_types`` the dataclasses in these, at any depth.
    """

    _fitted_attributes: ClassVar[tuple[str, ...]]
    _state_types: ClassVar[tuple[type, ...]]

    def save(self, folder: str | Path) -> None:
        """Save settings and fitted state to a folder, which is created if missing; an earlier save stays until this one is complete.

        Raises
        ------
        NotFittedError
        InputError
            The folder holds other files, or an estimator of another class.
        """
        tensors: Arrays = {}
        about = {"kind": type(self).__name__, "contains_records": False, **self.to_json(tensors)}
        write_model(folder, about, tensors, pl.DataFrame())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load what ``save`` wrote, after checking every hash.

        Raises
        ------
        ArtifactError
            Not an estimator of this class; corrupt; saved by a later version.
        """
        about, tensors, *_ = read_model(folder)
        if about.get("kind") != cls.__name__:
            raise ArtifactError(f"{folder} holds no {cls.__name__} but a {about.get('kind', 'risk model')}")
        with loading(folder):
            return cls.from_json(about, tensors)

    def to_json(self, tensors: Arrays) -> dict[str, Any]:
        """Return settings and fitted state as JSON, with arrays moved to ``tensors``."""
        if hasattr(self, "fit"):  # others are ready when constructed
            check_is_fitted(self, self._fitted_attributes)
        return {
            "settings": settings_to_json({name: getattr(self, name) for name in signature(type(self)).parameters}),
            "state": {name: pack(value, tensors) for name, value in self._get_state().items()},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], tensors: Arrays) -> Self:
        """Read ``to_json``'s form."""
        estimator = cls(**settings_from_json(record["settings"]))
        estimator._set_state({name: unpack(value, tensors, cls._state_types) for name, value in record["state"].items()})
        return estimator

    def _get_state(self) -> dict[str, Any]:
        """Return the fitted state as values that ``pack`` accepts."""
        state = {name: getattr(self, name) for name in self._fitted_attributes}
        if "classes_" in state:  # may be text, which is no tensor
            state["classes_"] = {"values": state["classes_"].tolist(), "dtype": str(state["classes_"].dtype)}
        return state

    def _set_state(self, state: dict[str, Any]) -> None:
        """Set the fitted state from ``_get_state``'s form."""
        if "classes_" in state:
            state["classes_"] = np.array(list(state["classes_"]["values"]), dtype=state["classes_"]["dtype"])
        vars(self).update(state)


def settings_to_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimator's settings as JSON."""
    return {name: _to_json(value) for name, value in settings.items()}


def settings_from_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimator's settings from ``settings_to_json``'s form."""
    schema = settings.get("schema")
    return {**settings, **({"schema": Schema.from_json(schema)} if schema else {})}


def _to_json(value: Any) -> Any:
    if isinstance(value, Schema):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return None  # a generator has moved on since the fit
    return value.item() if isinstance(value, np.generic) else value
