"""Small fitted estimators as folders of files, and back: their settings, and what fitting left behind, in artifact.py's directory.

They hold no rows of patients, but what single columns are made of (knots, names of levels); the folder is its owner's alone all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.persistence.artifact import pack, read_model, refuse_foreign, unpack, write_model
from nearward.tabular.typing import Arrays, Values


def write_estimator(folder: str | Path, kind: str, settings: Mapping[str, Any], learned: Mapping[str, Any]) -> None:
    """Write an estimator into a folder; what was there stays until all is written.

    Parameters
    ----------
    folder : path, made where it is missing
    kind : str, the class's name
    settings : what its constructor takes: numbers, text, None, a Schema, lists of these
    learned : what ``pack`` can take apart, by name

    Raises
    ------
    InputError
        The folder holds something else, an estimator of another kind included.
    """
    refuse_foreign(Path(folder), kind)
    tensors: Arrays = {}
    told = {name: pack(value, tensors) for name, value in learned.items()}
    about = {"kind": kind, "contains_records": False, "settings": settings_as_json(settings), "learned": told}
    write_model(folder, about, tensors, pl.DataFrame())


def read_estimator(folder: str | Path, kind: str, types: Sequence[type] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and what was learned, every hash checked first.

    Parameters
    ----------
    folder : path
    kind : str, the class's name
    types : dataclasses that ``learned`` may hold

    Raises
    ------
    ArtifactError
        Not an estimator of this kind; corrupt; saved by a later version.
    """
    about, tensors, _ = read_model(folder)
    if about.get("kind") != kind:
        raise ArtifactError(f"{folder} holds no {kind} but a {about.get('kind', 'risk model')}")
    known = {one.__name__: one for one in types}
    return settings_from_json(about["settings"]), {name: unpack(value, tensors, known) for name, value in about["learned"].items()}


def settings_as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimator's settings as JSON knows them."""
    return {name: _plain(value) for name, value in settings.items()}


def settings_from_json(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that ``settings_as_json`` told of."""
    schema = told.get("schema")
    return {**told, **({"schema": Schema.from_json(schema)} if schema else {})}


def classes_as_json(classes: Values) -> dict[str, Any]:
    """Return the values of an outcome (k,) with their dtype.

    Raises
    ------
    InputError
        Values that are neither text nor numbers nor booleans.
    """
    values = classes.tolist()
    if not all(isinstance(value, bool | int | float | str) for value in values):
        raise InputError("classes that are neither text nor numbers cannot be written: name them by text, and fit again")
    return {"values": values, "dtype": str(classes.dtype)}


def classes_from_json(told: Mapping[str, Any]) -> Values:
    """Return what ``classes_as_json`` told of: (k,)."""
    return np.array(list(told["values"]), dtype=told["dtype"])


def _plain(value: Any) -> Any:
    if isinstance(value, Schema):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
