"""A model on disk: a folder of hashed files under one manifest, without pickle; loading executes nothing.

``manifest.json`` names every other file with its size and sha256 and has a digest of itself, so that any changed byte is detected before
a tensor is used. Data files have their content's hash in their name, and the manifest is replaced last, in one rename: a save that fails
leaves the previous model intact.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import safetensors.numpy

from nearward.tabular.data.atomic_files import replacing, sync
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.typing import Arrays

FORMAT = 2
MANIFEST = "manifest.json"
_DATA_FILE = re.compile(r"(tensors|records)-[0-9a-f]{16}\.(safetensors|parquet)")


class StoredModel(NamedTuple):
    """Content of a model folder.

    Parameters
    ----------
    about : dict
        The manifest: everything that is neither a tensor nor a record.
    tensors : arrays by name
    records : pl.DataFrame, the stored patients
    """

    about: dict[str, Any]
    tensors: Arrays
    records: pl.DataFrame


def write_model(folder: str | Path, about: Mapping[str, Any], tensors: Arrays, records: pl.DataFrame) -> None:
    """Write a model into a folder, created if needed; the previous model there stays until the new one is complete.

    Parameters
    ----------
    folder : path
    about : JSON-able mapping
        Everything that is neither a tensor nor a record: schema, configuration, training summary; ``kind``, except of a risk model.
    tensors : arrays by name
    records : pl.DataFrame
        The stored patients.

    Raises
    ------
    InputError
        The folder contains something that is not a model, or a model of another kind.
    OSError
        The disk is full or the folder can't be written; its previous content is intact.
    """
    folder = Path(folder)
    check_folder(folder, about.get("kind"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    table = io.BytesIO()
    records.write_parquet(table, compression="zstd", statistics=False)
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())}
    contents = {"tensors.safetensors": safetensors.numpy.save(contiguous), "records.parquet": table.getvalue()}
    files = {}
    for base, content in contents.items():
        digest = hashlib.sha256(content).hexdigest()
        name = base.replace(".", f"-{digest[:16]}.", 1)
        files[name] = {"sha256": digest, "size": len(content)}
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    body = {"nearward_model": FORMAT, "contains_records": True, **about, "files": files}
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_bytes(_serialize(body))
    sync(folder)
    for stale in folder.iterdir():
        if _DATA_FILE.fullmatch(stale.name) and stale.name not in files:
            stale.unlink()


def check_folder(folder: Path, kind: str | None = None) -> None:
    """Check that a model of this kind may be written into a folder.

    Raises
    ------
    InputError
        The folder is a file, or contains other files or a model of another kind.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file: a model is a folder")
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
        body = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {} if any(_DATA_FILE.fullmatch(path.name) for path in folder.iterdir()) else None
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
    raw = path.read_bytes()
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ArtifactError(f"{path} is corrupt: restore the model from a copy, or fit it again") from error
    if not isinstance(body, dict) or "nearward_model" not in body:
        raise ArtifactError(f"{path} is not a nearward model's manifest")
    if isinstance(body["nearward_model"], int) and body["nearward_model"] > FORMAT:
        raise ArtifactError(
            f"{folder} was saved by a later nearward (format {body['nearward_model']}, this one reads {FORMAT}): update nearward"
        )
    body.pop("sha256", None)
    if raw != _serialize(body):
        raise ArtifactError(f"{path} is corrupt or was edited: restore the model from a copy, or fit it again")
    if body["nearward_model"] != FORMAT:
        raise ArtifactError(
            f"{folder} was saved by an earlier nearward (format {body['nearward_model']}, this one reads {FORMAT}): fit and save it again"
        )
    unknown = [name for name in body["files"] if not _DATA_FILE.fullmatch(name)]
    if unknown:
        raise ArtifactError(f"{path} names {len(unknown)} files that are not a model's, or outside its folder")
    return body


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
    folder = Path(folder)
    body = read_manifest(folder)
    tensors: Arrays | None = None
    records: pl.DataFrame | None = None
    for name, expected in body["files"].items():
        content = _read_checked(folder / name, expected)
        if name.endswith(".safetensors"):
            tensors = safetensors.numpy.load(content)
        else:
            records = pl.read_parquet(io.BytesIO(content))
    if tensors is None or records is None:
        raise ArtifactError(f"{folder}: the manifest names no tensors or no records")
    return StoredModel(body, tensors, records)


def _read_checked(path: Path, expected: Mapping[str, Any]) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path}: missing, or not a plain file")
    content = path.read_bytes()
    if len(content) != expected["size"] or hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise ArtifactError(f"{path} is corrupt (its sha256 differs): restore the model from a copy, or fit it again")
    return content


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
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"the model holds a part that this nearward does not know: {error}") from error
