"""The stamp of a synthetic table: its provenance in the Parquet file's metadata, or in a JSON file beside a CSV.

The stamp contains a hash of the table's values, so that an audit cannot be attached to another table, and a digest of itself, which detects
accidental edits. It is not a signature, and does not prevent forgery.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.limited_reading import read_at_most
from nearward.tabular.data.table_io import durations_in_days, read_table, write_errors
from nearward.tabular.data.text_values import NUMBER_LIKE, is_text
from nearward.tabular.errors import InputError, NoStamp, StaleAudit

FORMAT = 1
KEY = "nearward"  # of the Parquet file's metadata
_FORMULA = r"^'*[=+\-@\t\r\n]"  # a spreadsheet may run such a cell
_APOSTROPHE = r"^'('*[=+\-@\t\r\n])"  # replace by its first group to undo


def write_stamped(table: pl.DataFrame, path: str | Path, stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Write a table and its stamp atomically, and return the stamp as written.

    Parameters
    ----------
    table : pl.DataFrame
    path : path ending in .parquet or .csv
        The stamp of a CSV is a second file, whose name has ``.json`` added; its hash is of the file's bytes, since a CSV has no dtypes.
        Its text is written so that no spreadsheet runs it (``without_formulas``); the stamp names the columns concerned.
    stamp : JSON-able mapping

    Raises
    ------
    InputError
        Another ending, or no such folder.
    OSError
        The disk is full: no part of the table is left, and an earlier file of that name is unchanged.
    """
    path = check_ending(path)
    if path.suffix.lower() == ".parquet":
        body = _with_digest({**stamp, "nearward_synthetic": FORMAT, "sha256": table_hash(table), "sha256_of": "cells"})
        with write_errors(path), replacing(path) as temporary:
            table.write_parquet(temporary, metadata={KEY: json.dumps(body, ensure_ascii=False, allow_nan=False)})
        return body
    plain, quoted = without_formulas(table)
    content = durations_in_days(plain).write_csv().encode()
    digest = hashlib.sha256(content).hexdigest()
    body = _with_digest({**stamp, "nearward_synthetic": FORMAT, "sha256": digest, "sha256_of": "file", "text_with_apostrophe": quoted})
    # both are on disk before either is renamed
    with write_errors(path), replacing(sidecar_path(path)) as sidecar, replacing(path) as temporary:
        sidecar.write_text(json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        temporary.write_bytes(content)
    return body


def without_formulas(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Return a table whose text no spreadsheet runs as a formula, and the columns that this changed.

    Text that begins with one of ``= + - @``, a tab or a line break gets an apostrophe in front, as does text with apostrophes before such a
    character, so that one apostrophe is taken away to undo it. Text that is a number stays: it cannot run. Column names are text, too.

    Examples
    --------
    >>> table, columns = without_formulas(pl.DataFrame({"note": ["=1+1", "-5", "'@x", "fine"], "change": [-1, 0, 1, 2]}))
    >>> table["note"].to_list(), columns
    (["'=1+1", '-5', "''@x", 'fine'], ['note'])
    >>> table["note"].str.replace(_APOSTROPHE, "${1}").to_list()
    ['=1+1', '-5', "'@x", 'fine']
    """
    changed, columns = table, []
    for series in table.iter_columns():
        if is_text(series.dtype):
            text = series.cast(pl.String)
            runs = (text.str.contains(_FORMULA) & ~text.str.contains(NUMBER_LIKE)).fill_null(value=False)
            if bool(runs.any()):
                columns.append(series.name)
                changed = changed.with_columns(pl.select(pl.when(runs).then("'" + text).otherwise(text).alias(series.name)).to_series())
    names = {name: "'" + name for name in table.columns if pl.Series([name]).str.contains(_FORMULA)[0]}
    return changed.rename(names), columns + [name for name in names if name not in columns]


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
    current = table_hash(read_table(path)) if stamp["sha256_of"] == "cells" else _file_hash(path)
    if current != stamp["sha256"]:
        raise StaleAudit(str(path))
    return stamp


def read_stamp(path: str | Path) -> dict[str, Any]:
    """Read a table's stamp without checking the table.

    Raises
    ------
    NoStamp
        There is none, it has a later format, or it was edited.
    InputError
        No such file.
    """
    path = check_ending(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    text = _parquet_stamp(path) if path.suffix.lower() == ".parquet" else _sidecar_stamp(path)
    try:
        body = json.loads(text)
        edited = isinstance(body, dict) and _with_digest(body) != body
    except (ValueError, RecursionError) as error:  # ValueError: also NaN
        raise NoStamp(f"{path}: its stamp cannot be read; export again") from error
    if not isinstance(body, dict) or type(body.get("nearward_synthetic")) is not int or body["nearward_synthetic"] < 1:
        raise NoStamp(f"{path}: its stamp is not nearward's")
    if body["nearward_synthetic"] > FORMAT:
        raise NoStamp(f"{path} was stamped by a later nearward (format {body['nearward_synthetic']}): update nearward")
    if edited:
        raise NoStamp(f"{path}: its stamp was edited or is corrupt; export again")
    return body


def table_hash(table: pl.DataFrame) -> str:
    """Return the sha256 of a table's column names, dtypes and values; compression and chunks do not matter.

    Examples
    --------
    >>> table = pl.DataFrame({"age": [61, None]})
    >>> table_hash(table) == table_hash(table.rechunk()), table_hash(table) == table_hash(table.cast(pl.Float64))
    (True, False)
    """
    digest = hashlib.sha256(json.dumps([(name, str(dtype)) for name, dtype in table.schema.items()]).encode())
    digest.update(durations_in_days(table).write_csv(include_header=False, quote_style="non_numeric").encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_ending(path: str | Path) -> Path:
    """Return the path if it ends in .parquet or .csv, else raise ``InputError``."""
    path = Path(path)
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{path}: a synthetic table must be a .parquet or .csv file, got {path.suffix!r}: only these have a stamp")
    return path


def sidecar_path(path: Path) -> Path:
    """Return the path of a CSV's stamp."""
    return path.with_name(path.name + ".json")


def _with_digest(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stamp with the digest of everything else in it."""
    content = {key: value for key, value in body.items() if key != "stamp_sha256"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return {**json.loads(text), "stamp_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _parquet_stamp(path: Path) -> str:
    try:
        text = pl.read_parquet_metadata(path).get(KEY)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise NoStamp(f"{path} cannot be read as Parquet: {type(error).__name__}") from error
    if text is None:
        raise NoStamp(f"{path} has no stamp: it was not written by nearward synth export, and no audit of it is known")
    return text


def _sidecar_stamp(path: Path) -> str:
    try:
        return read_at_most(sidecar_path(path)).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoStamp(f"{path} has no stamp beside it ({sidecar_path(path).name}): no audit of it is known") from error
