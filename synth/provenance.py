"""What a synthetic table says of itself: a stamp in the Parquet file's metadata, or in a JSON file beside a CSV.

The stamp carries a hash of the table's cells, so that an audit cannot be carried over to another table, and a digest of itself, so that
a slip of an editor is noticed. It is no signature: whoever wants to forge one can.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.table_io import read_table
from nearward.tabular.errors import InputError, NoStamp, StaleAudit

FORMAT = 1
KEY = "nearward"  # of the Parquet file's metadata


def table_hash(table: pl.DataFrame) -> str:
    """Return the sha256 of a table's column names, dtypes and cells; how a file is compressed or cut does not matter.

    Examples
    --------
    >>> one = pl.DataFrame({"age": [61, None]})
    >>> table_hash(one) == table_hash(one.rechunk()), table_hash(one) == table_hash(one.cast(pl.Float64))
    (True, False)
    """
    digest = hashlib.sha256(json.dumps([(name, str(dtype)) for name, dtype in table.schema.items()]).encode())
    digest.update(table.write_csv(include_header=False, quote_style="non_numeric").encode())
    return digest.hexdigest()


def write_stamped(table: pl.DataFrame, path: str | Path, stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Write a table and its stamp, whole or not at all, and return the stamp as written.

    Parameters
    ----------
    table : pl.DataFrame
    path : path ending in .parquet or .csv
        A CSV's stamp lies beside it, under its name and ``.json``; its hash is of the file's bytes, since a CSV has no dtypes.
    stamp : JSON-able mapping

    Raises
    ------
    InputError
        Another ending, or no such folder.
    OSError
        The disk is full: nothing is left of it, and what was there before still is.
    """
    path = check_ending(path)
    if path.suffix.lower() == ".parquet":
        body = _sealed({**stamp, "nearward_synthetic": FORMAT, "sha256": table_hash(table), "sha256_of": "cells"})
        with replacing(path) as temporary:
            table.write_parquet(temporary, metadata={KEY: json.dumps(body, ensure_ascii=False, allow_nan=False)})
        return body
    content = table.write_csv().encode()
    body = _sealed({**stamp, "nearward_synthetic": FORMAT, "sha256": hashlib.sha256(content).hexdigest(), "sha256_of": "file"})
    with replacing(beside(path)) as sidecar, replacing(path) as temporary:  # both are on the disk before either is renamed
        sidecar.write_text(json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        temporary.write_bytes(content)
    return body


def read_stamp(path: str | Path) -> dict[str, Any]:
    """Read a table's stamp without looking at the table.

    Raises
    ------
    NoStamp
        There is none, it is of a later format, or it was edited.
    InputError
        No such file.
    """
    path = check_ending(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    text = _parquet_stamp(path) if path.suffix.lower() == ".parquet" else _sidecar_stamp(path)
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise NoStamp(f"{path}: its stamp cannot be read; export again") from error
    if not isinstance(body, dict) or not isinstance(body.get("nearward_synthetic"), int):
        raise NoStamp(f"{path}: its stamp is not nearward's")
    if body["nearward_synthetic"] > FORMAT:
        raise NoStamp(f"{path} was stamped by a later nearward (format {body['nearward_synthetic']}): update nearward")
    if _sealed(body) != body:
        raise NoStamp(f"{path}: its stamp was edited or is corrupt; export again")
    return body


def verify(path: str | Path) -> dict[str, Any]:
    """Return a table's stamp if the table is the one that was stamped.

    Raises
    ------
    StaleAudit
        The table was changed since.
    NoStamp, InputError
        As ``read_stamp``.
    """
    path, stamp = Path(path), read_stamp(path)
    found = table_hash(read_table(path)) if stamp["sha256_of"] == "cells" else hashlib.sha256(path.read_bytes()).hexdigest()
    if found != stamp["sha256"]:
        raise StaleAudit(str(path))
    return stamp


def check_ending(path: str | Path) -> Path:
    """Return the path if it ends in .parquet or .csv.

    Raises
    ------
    InputError
    """
    path = Path(path)
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{path}: a synthetic table leaves as .parquet or .csv, which can carry its stamp")
    return path


def beside(path: Path) -> Path:
    """Return where the stamp of a CSV lies."""
    return path.with_name(path.name + ".json")


def _sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in body.items() if key != "stamp_sha256"}
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return {**json.loads(text), "stamp_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _parquet_stamp(path: Path) -> str:
    try:
        text = pl.read_parquet_metadata(path).get(KEY)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise NoStamp(f"{path} cannot be read as Parquet: {type(error).__name__}") from error
    if text is None:
        raise NoStamp(f"{path} carries no stamp: nobody knows whether it was audited. Tables leave by nearward synth export.")
    return text


def _sidecar_stamp(path: Path) -> str:
    try:
        return beside(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoStamp(f"{path} has no stamp beside it ({beside(path).name}): nobody knows whether it was audited") from error
