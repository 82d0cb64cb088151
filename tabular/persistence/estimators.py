"""Small fitted estimators on disk: their settings and fitted state, in the folder of artifact.py.

They contain no rows of patients, but their state comes from columns (knots, names of categories), so the folder is private all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError
from nearward.tabular.persistence.artifact import check_folder, pack, read_model, unpack, write_model
from nearward.tabular.typing import Arrays, Values


class StoredEstimator(NamedTuple):
    """Settings (the constructor's arguments) and fitted state of an estimator."""

    settings: dict[str, Any]
    state: dict[str, Any]


def write_estimator(folder: str | Path, kind: str, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write an estimator into a folder; the previous one there stays until the new one is complete.

    Parameters
    ----------
    folder : path, created if needed
    kind : str, the class's name
    settings : the constructor's arguments: numbers, text, None, a Schema, lists of these
    state : values that ``pack`` accepts, by name

    Raises
    ------
    InputError
        The folder contains something else, or an estimator of another kind.
    """
    check_folder(Path(folder), kind)
    tensors: Arrays = {}
    packed = {name: pack(value, tensors) for name, value in state.items()}
    about = {"kind": kind, "contains_records": False, "settings": settings_to_json(settings), "state": packed}
    write_model(folder, about, tensors, pl.DataFrame())


def read_estimator(folder: str | Path, kind: str, types: Iterable[type] = ()) -> StoredEstimator:
    """Read an estimator; every hash is checked first.

    Parameters
    ----------
    folder : path
    kind : str, the class's name
    types : dataclasses that the state may contain

    Raises
    ------
    ArtifactError
        Not an estimator of this kind; corrupt; saved by a later version.
    """
    about, tensors, _ = read_model(folder)
    if about.get("kind") != kind:
        raise ArtifactError(f"{folder} holds no {kind} but a {about.get('kind', 'risk model')}")
    types = tuple(types)
    state = {name: unpack(value, tensors, types) for name, value in about["state"].items()}
    return StoredEstimator(settings_from_json(about["settings"]), state)


def settings_to_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimator's settings as JSON."""
    return {name: _to_json(value) for name, value in settings.items()}


def settings_from_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimator's settings from ``settings_to_json``'s form."""
    schema = settings.get("schema")
    return {**settings, **({"schema": Schema.from_json(schema)} if schema else {})}


def classes_to_json(classes: Values) -> dict[str, Any]:
    """Return an outcome's classes (c,), as ``validate_target`` finds them, with their dtype as JSON."""
    return {"values": classes.tolist(), "dtype": str(classes.dtype)}


def classes_from_json(classes: Mapping[str, Any]) -> Values:
    """Return an outcome's classes (c,) from ``classes_to_json``'s form."""
    return np.array(list(classes["values"]), dtype=classes["dtype"])


def _to_json(value: Any) -> Any:
    if isinstance(value, Schema):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
