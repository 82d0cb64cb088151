"""A model on disk: a folder of hashed files under one manifest, without pickle; loading executes nothing.

``manifest.json`` names every other file with its size and the sha256 of its blocks and has a digest of itself, so that any changed byte is
detected before a tensor is used. Data files have their content's hash in their name, and the manifest is replaced last, in one rename: a
save that fails leaves the previous model intact. Large arrays are files of their own (``mapped_arrays.py``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import safetensors.numpy
from safetensors import SafetensorError

from nearward.tabular.data.atomic_files import remove_abandoned, replacing
from nearward.tabular.data.limited_reading import TooLarge, read_at_most
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError, InputError, NearwardError, RuleError
from nearward.tabular.operating_system import flush_folder
from nearward.tabular.parallel import require_own_process
from nearward.tabular.persistence import hashed_files
from nearward.tabular.persistence.hashed_files import DataFiles, check_entries, is_data_file, open_checked, read_checked
from nearward.tabular.persistence.mapped_arrays import map_large, write_large
from nearward.tabular.persistence.memory_limit import read_records
from nearward.tabular.typing import Arrays

FORMAT = 6
_log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_ROW_GROUP = 1 << 17  # rows of records that are written from files
_MAX_MANIFEST = 256 * 2**20  # bytes
_PYTHON_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_DAMAGE = (*_PYTHON_ERRORS, SafetensorError, pl.exceptions.PolarsError, pl.exceptions.PanicException)  # what a damaged file may raise


class StoredModel(NamedTuple):
    """Content of a model folder.

    Parameters
    ----------
    about : dict
        The manifest: everything that is neither a tensor nor a record.
    tensors : arrays by name
    records : pl.DataFrame, the stored patients
    timelines : pl.DataFrame or None, events of the stored patients
    """

    about: dict[str, Any]
    tensors: Arrays
    records: pl.DataFrame
    timelines: pl.DataFrame | None = None


def write_model(
    folder: str | Path,
    about: Mapping[str, Any],
    tensors: Arrays,
    records: pl.DataFrame | pl.LazyFrame,
    timelines: pl.DataFrame | None = None,
) -> None:
    """Write a model into a folder, created if needed; the previous model there stays until the new one is complete.

    Parameters
    ----------
    folder : path
    about : JSON-able mapping
        Everything that is neither a tensor nor a record: schema, configuration, training summary; ``kind``, except of a risk model.
    tensors : arrays by name
    records : pl.DataFrame or pl.LazyFrame
        The stored patients; of a lazy frame no more than some rows are in memory at a time.
    timelines : pl.DataFrame, optional
        Events of the stored patients.

    Raises
    ------
    InputError
        As ``check_folder``.
    OSError
        The disk is full; the folder's previous content is intact.
    """
    folder = Path(folder)
    check_folder(folder, about.get("kind"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_abandoned(folder)
    files = DataFiles(folder)
    try:
        small, large = write_large(tensors, files)
        contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(small.items())}
        files.write("tensors.safetensors", lambda path: safetensors.numpy.save_file(contiguous, path))
        files.write("records.parquet", lambda path: _write_parquet(records, path))
        if timelines is not None:
            files.write("timelines.parquet", lambda path: _write_parquet(timelines, path))
        body = {"nearward_model": FORMAT, "contains_records": True, **about, "arrays": large, "files": files.entries}
        with replacing(folder / MANIFEST) as temporary:
            temporary.write_bytes(_serialize(body))
    except BaseException:
        files.discard()
        raise
    flush_folder(folder)
    files.remove_stale()
    _log.info("model written to %s", folder)


def _write_parquet(frame: pl.DataFrame | pl.LazyFrame, path: Path) -> None:
    if isinstance(frame, pl.LazyFrame):
        frame.sink_parquet(path, compression="zstd", statistics=False, row_group_size=_ROW_GROUP)
        return
    frame.write_parquet(path, compression="zstd", statistics=False)


def check_folder(folder: Path, kind: str | None = None) -> None:
    """Check that a model of this kind may be written into a folder.

    Raises
    ------
    InputError
        The folder is a file, is not writable or cannot be made, or contains other files or a model of another kind.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file: a model is a folder")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written: {existing} is {'not writable' if existing.is_dir() else 'a file'}. Choose another")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    manifest = _existing_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder} is not empty and holds no nearward model: choose another folder")
    if manifest and manifest.get("kind") != kind:
        raise InputError(f"{folder} holds a {manifest.get('kind', 'risk model')}: choose another folder")


def _existing_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a model's folder, empty where it is corrupt (and may be replaced); None of any other folder."""
    try:
        body = json.loads(read_at_most(folder / MANIFEST, _MAX_MANIFEST))
    except (OSError, ValueError, RecursionError):
        return {} if any(is_data_file(path.name) for path in folder.iterdir()) else None
    return body if isinstance(body, dict) and "nearward_model" in body else None


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read and check the manifest alone.

    Raises
    ------
    ArtifactError
        Not a model, a corrupt manifest or one of another format, or one that names files it must not.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder} holds no nearward model ({MANIFEST} is missing)")
    raw = _read_at_most(path, _MAX_MANIFEST)
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is corrupt: restore the model from a copy, or fit it again") from error
    if not isinstance(body, dict) or "nearward_model" not in body:
        raise ArtifactError(f"{path} is not a nearward model's manifest")
    version = body["nearward_model"]
    if type(version) is not int or version < 1:
        raise ArtifactError(f"{path} has no valid format: it must be a whole number from 1 on. Restore the model from a copy")
    if version > FORMAT:
        raise ArtifactError(f"{folder} was saved by a later nearward (format {version}, this one reads {FORMAT}): update nearward")
    body.pop("sha256", None)
    try:
        edited = raw != _serialize(body)
    except (ValueError, RecursionError):  # an infinite number, or lists nested too deep
        edited = True
    if edited:
        raise ArtifactError(f"{path} is corrupt or was edited: restore the model from a copy, or fit it again")
    if version != FORMAT:
        raise ArtifactError(f"{folder} was saved by an earlier nearward (format {version}, this one reads {FORMAT}): fit and save it again")
    check_entries(path, body.get("files"))
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def model_hash(folder: str | Path) -> str:
    """Return a model's identity: the sha256 of its manifest, which contains the hashes of all its files.

    Raises
    ------
    ArtifactError
        As ``read_manifest``.
    """
    return hashlib.sha256(_serialize(read_manifest(folder))).hexdigest()


def read_model(folder: str | Path) -> StoredModel:
    """Read a model; every hash is checked before anything is used.

    Raises
    ------
    ArtifactError
        A file is missing, changed, truncated, or a link.
    """
    require_own_process()
    folder = Path(folder)
    body = read_manifest(folder)
    tensors: Arrays | None = None
    frames: dict[str, pl.DataFrame] = {}
    for name, entry in body["files"].items():
        kind, path = name.partition("-")[0], folder / name
        if kind in ("records", "timelines") and entry["size"] > hashed_files.LARGE:
            with open_checked(path, entry), loading(folder):
                frames[kind] = read_records(path, path)
        elif kind != "array":
            content = read_checked(path, entry)
            with loading(folder):
                if kind == "tensors":
                    tensors = safetensors.numpy.load(content)  # checks that shapes and dtypes match the number of bytes
                else:
                    frames[kind] = read_records(path, io.BytesIO(content))
    if tensors is None or "records" not in frames:
        raise ArtifactError(f"{folder}: the manifest names no tensors or no records")
    tensors.update(map_large(folder, body.get("arrays"), body["files"]))
    _log.info("model read from %s: %d stored rows", folder, frames["records"].height)
    return StoredModel(body, tensors, frames["records"], frames.get("timelines"))


def read_schema(about: Mapping[str, Any]) -> Schema:
    """Read the schema in a manifest.

    Raises
    ------
    ArtifactError
        There is none, or it is damaged.
    """
    try:
        return Schema.from_json(json.dumps(about["schema"]))
    except (LookupError, InputError) as error:
        raise ArtifactError(f"the model's schema is missing or damaged: {error}. Restore the model from a copy, or fit it again") from error


@contextmanager
def loading(folder: str | Path) -> Iterator[None]:
    """Turn every error of a program that builds a model from a damaged or hostile folder into an ``ArtifactError``.

    Errors of nearward's own pass, as those of weights that the user must provide; those of rules in the manifest do not.
    """
    try:
        yield
    except RuleError as error:
        raise ArtifactError(f"{folder} holds rules that cannot be used: {error}. Restore it from a copy, or fit it again") from error
    except NearwardError:
        raise
    except _DAMAGE as error:
        raise ArtifactError(
            f"{folder} describes no model that this nearward can build ({type(error).__name__}): restore it from a copy, or fit it again"
        ) from error


def _read_at_most(path: Path, size: int) -> bytes:
    """Read a file of at most so many bytes; a larger one is refused before it is read."""
    try:
        return read_at_most(path, size)
    except TooLarge as error:
        raise ArtifactError(f"{path} is corrupt (larger than {size} bytes): restore the model from a copy, or fit it again") from error


def _serialize(body: Mapping[str, Any]) -> bytes:
    """Return a manifest as JSON with its own digest; exactly these bytes are accepted on reading."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({**body, "sha256": digest}, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1).encode() + b"\n"


# ---- frozen dataclasses to JSON and tensors, and back ---------------------------------------------------------------------------


def pack(value: Any, tensors: Arrays) -> Any:
    """Return ``value`` as JSON, with arrays moved to ``tensors`` and referred to by name.

    Parameters
    ----------
    value : frozen dataclasses, tuples, lists, dicts with text keys, arrays, numbers, text and None, in any nesting
    tensors : filled in place
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        name = f"{len(tensors):05d}"
        tensors[name] = value
        return {"array": name}
    if isinstance(value, tuple | list):
        return [pack(item, tensors) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: pack(item, tensors) for key, item in value.items()}}
    fields = {field.name: pack(getattr(value, field.name), tensors) for field in dataclasses.fields(value)}
    return {"type": type(value).__name__, "fields": fields}


def unpack(packed: Any, tensors: Arrays, types: Iterable[type]) -> Any:
    """Return the value that ``pack`` was given; lists become tuples.

    Parameters
    ----------
    packed : JSON of ``pack``
    tensors : arrays by name
    types : the dataclasses that may be constructed

    Raises
    ------
    ArtifactError
        A class, field or tensor that is not known.
    """
    known: dict[str, Any] = {one.__name__: one for one in types}

    def construct(packed: Any) -> Any:
        if isinstance(packed, list):
            return tuple(construct(item) for item in packed)
        if not isinstance(packed, dict):
            return packed
        if "array" in packed:
            return tensors[packed["array"]]
        if "dict" in packed:
            return {key: construct(item) for key, item in packed["dict"].items()}
        return known[packed["type"]](**{name: construct(item) for name, item in packed["fields"].items()})

    try:
        return construct(packed)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ArtifactError(f"the model holds a part that this nearward does not know: {error}") from error
