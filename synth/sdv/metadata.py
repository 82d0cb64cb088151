"""SDV's metadata JSON, read and written: an sdtype of SDV corresponds to a role and a kind of ours.

Single tables (``SINGLE_TABLE_V1``, ``V2``) and several (``V1``, ``V2``) are read; the V1 forms are written, which SDV 1 and 2 both accept.
SDV itself is not needed. What has no place on the other side is lost, and docs/guide/synthetic-tables.md lists it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.conversion import BOOLEANS
from nearward.tabular.data.schema import Column, Role, Schema
from nearward.tabular.errors import DataWarning, InputError

_KEYS = ("parent_table_name", "parent_primary_key", "child_table_name", "child_foreign_key")
_KINDS = {"numerical": "number", "categorical": "category", "ordinal": "category", "boolean": "category"}


@dataclass(frozen=True)
class ForeignKey:
    """A relationship of SDV: ``column`` of the child table refers to the primary ``key`` of the parent table."""

    parent: str
    key: str
    child: str
    column: str


@dataclass(frozen=True)
class Tables:
    """The tables of a metadata file and their relationships.

    Parameters
    ----------
    schemas : dict of table -> Schema
    links : tuple of ForeignKey

    Examples
    --------
    >>> schema = Schema((Column("age"), Column("sex", kind="category", categories=("f", "m"))))
    >>> from_sdv(to_sdv(schema)).only == Schema((Column("age"), Column("sex", kind="category")))
    True
    """

    schemas: dict[str, Schema]
    links: tuple[ForeignKey, ...] = ()

    @property
    def only(self) -> Schema:
        """The schema of the only table.

        Raises
        ------
        InputError
            There are several tables.
        """
        if len(self.schemas) != 1:
            raise InputError(f"the metadata describes {len(self.schemas)} tables, {sorted(self.schemas)}: choose one with .schemas[name]")
        return next(iter(self.schemas.values()))


def to_sdv(schema: Schema | Tables) -> dict[str, Any]:
    """Return SDV's metadata of one table, or of several.

    Numbers become ``numerical``, Booleans ``boolean``, categories ``categorical``, dates ``datetime``, ids and patients ``id`` (the id is
    the primary key), ignored columns ``unknown`` and personal, which SDV replaces by fake values. Categories, ranges, units and the outcome
    are not written:
    SDV 1 has no key for them, and categories are patients' values.
    """
    if isinstance(schema, Schema):
        return {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", **_table_to_sdv(schema)}
    links = [dict(zip(_KEYS, (link.parent, link.key, link.child, link.column), strict=True)) for link in schema.links]
    tables = {name: _table_to_sdv(table) for name, table in schema.schemas.items()}
    return {"METADATA_SPEC_VERSION": "V1", "tables": tables, "relationships": links}


def from_sdv(metadata: Mapping[str, Any] | str | Path) -> Tables:
    """Read SDV's metadata, a mapping or the path of its JSON; a single table without a name is called ``table``.

    Keys of SDV become ids, a sequence key becomes the group, ``unknown`` and every personal sdtype (names, addresses, phone numbers) become
    ``ignore`` with a warning: no synthetic table should have them. The outcome is not in the metadata: name it in ``fit``.

    Raises
    ------
    InputError
        No such file, not JSON, not SDV's metadata, or a column without an sdtype.
    """
    body = _read(metadata) if isinstance(metadata, str | Path) else metadata
    if isinstance(body.get("columns"), Mapping):
        return Tables({"table": _table_from_sdv(body, "table")})
    if not isinstance(body.get("tables"), Mapping) or not body["tables"]:
        raise InputError(
            "not SDV metadata: it needs 'columns' (one table) or 'tables'; metadata older than SDV 1 is upgraded by SDV itself"
        )
    links = []
    for number, link in enumerate(body.get("relationships") or [], start=1):
        if not isinstance(link, Mapping) or not all(isinstance(link.get(key), str) for key in _KEYS):
            raise InputError(f"relationship {number} of the metadata must name one column or table in each of {list(_KEYS)}")
        links.append(ForeignKey(*(link[key] for key in _KEYS)))
    return Tables({str(name): _table_from_sdv(table, str(name)) for name, table in body["tables"].items()}, tuple(links))


def write_sdv(schema: Schema | Tables, path: str | Path) -> None:
    """Write SDV's metadata as JSON, atomically."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(to_sdv(schema), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(path: str | Path) -> Mapping[str, Any]:
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as SDV metadata: {type(error).__name__}") from error
    if not isinstance(body, dict):
        raise InputError(f"{path} is not SDV metadata: it must be a JSON object")
    return body


def _table_to_sdv(schema: Schema) -> dict[str, Any]:
    columns: dict[str, dict[str, Any]] = {}
    for column in schema.columns:
        if column.role in ("id", "group"):
            columns[column.name] = {"sdtype": "id"}
        elif column.role == "time":
            columns[column.name] = {"sdtype": "datetime"}
        elif column.role == "ignore":
            columns[column.name] = {"sdtype": "unknown", "pii": True}
        else:
            number = "boolean" if column.categories == BOOLEANS else "numerical"
            sdtype = number if column.kind == "number" else "categorical"
            columns[column.name] = {"sdtype": sdtype}
    table: dict[str, Any] = {"columns": columns}
    if key := schema.named("id"):
        table["primary_key"] = key[0]
    return table


def _table_from_sdv(table: Any, name: str) -> Schema:
    if not isinstance(table, Mapping) or not isinstance(table.get("columns"), Mapping):
        raise InputError(f"table {name!r} of the metadata has no 'columns'")
    keys: list[Any] = []
    for key in (table.get("primary_key"), *(table.get("alternate_keys") or [])):
        keys += key if isinstance(key, list) else [key]
    columns, personal = [], []
    for column, properties in table["columns"].items():
        sdtype = properties.get("sdtype") if isinstance(properties, Mapping) else None
        if not isinstance(sdtype, str):
            raise InputError(f"column {column!r} of table {name!r} has no sdtype")
        role: Role = "feature"
        if column == table.get("sequence_key"):
            role = "group"
        elif column in keys or sdtype == "id":
            role = "id"
        elif sdtype == "datetime":
            role = "time"
        elif sdtype not in _KINDS:
            role = "ignore"
            personal.append(column)
        low, high = properties.get("range_min"), properties.get("range_max")
        bounded = sdtype == "numerical" and isinstance(low, int | float) and isinstance(high, int | float)
        categories = properties.get("range_values") if sdtype != "numerical" else None
        columns.append(
            Column(
                str(column),
                role=role,
                kind="number" if _KINDS.get(sdtype) == "number" else "category",
                low=float(low) if bounded else None,
                high=float(high) if bounded else None,
                categories=tuple(str(value) for value in categories) if isinstance(categories, list) else None,
            )
        )
    if personal:
        warnings.warn(f"table {name!r}: unknown or personal columns {personal} are ignored", DataWarning, stacklevel=4)
    return Schema(tuple(columns))
