"""SDV's metadata JSON, read and written: what SDV calls an sdtype is here a role and a kind.

Read are single tables (``SINGLE_TABLE_V1``, ``V2``) and several (``V1``, ``V2``); written are the V1 forms, which SDV 1 and 2 both take.
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
from nearward.tabular.data.schema import Column, Role, Schema
from nearward.tabular.errors import DataWarning, InputError

_KEYS = ("parent_table_name", "parent_primary_key", "child_table_name", "child_foreign_key")
_KINDS = {"numerical": "number", "categorical": "category", "ordinal": "category", "boolean": "category"}


@dataclass(frozen=True)
class Link:
    """Rows of ``child`` name a row of ``parent``: the child's column holds the parent's key."""

    parent: str
    key: str
    child: str
    column: str


@dataclass(frozen=True)
class Tables:
    """The tables that one metadata file describes, and how they hang together.

    Parameters
    ----------
    schemas : dict of table -> Schema
    links : tuple of Link

    Examples
    --------
    >>> lab = Schema((Column("age"), Column("sex", kind="category", categories=("f", "m"))))
    >>> from_sdv(to_sdv(lab)).only == Schema((Column("age"), Column("sex", kind="category")))
    True
    """

    schemas: dict[str, Schema]
    links: tuple[Link, ...] = ()

    @property
    def only(self) -> Schema:
        """The schema, where there is one table.

        Raises
        ------
        InputError
            There are several.
        """
        if len(self.schemas) != 1:
            raise InputError(f"the metadata describes {len(self.schemas)} tables, {sorted(self.schemas)}: say which, with .schemas[name]")
        return next(iter(self.schemas.values()))


def to_sdv(schema: Schema | Tables) -> dict[str, Any]:
    """Return SDV's metadata of one table, or of several.

    Numbers become ``numerical``, categories ``categorical``, dates ``datetime``, ids and patients ``id`` (the id is the primary key),
    columns to be ignored ``unknown`` and personal, which SDV replaces by made-up values. Levels, ranges, units, and which column is the
    outcome are not written: SDV 1 has no place for them, and levels are patients' values.
    """
    if isinstance(schema, Schema):
        return {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", **_table_to_sdv(schema)}
    links = [dict(zip(_KEYS, (one.parent, one.key, one.child, one.column), strict=True)) for one in schema.links]
    tables = {name: _table_to_sdv(table) for name, table in schema.schemas.items()}
    return {"METADATA_SPEC_VERSION": "V1", "tables": tables, "relationships": links}


def from_sdv(metadata: Mapping[str, Any] | str | Path) -> Tables:
    """Read SDV's metadata, a mapping or the path of its JSON; a single table without a name is called ``table``.

    Keys of SDV become ids, a sequence key becomes the group, ``unknown`` and every personal sdtype (names, addresses, numbers of people)
    become ``ignore`` with a warning: no synthetic table should have them. The outcome is not in the metadata: name it in ``fit``.

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
        links.append(Link(*(link[key] for key in _KEYS)))
    return Tables({str(name): _table_from_sdv(table, str(name)) for name, table in body["tables"].items()}, tuple(links))


def write_sdv(schema: Schema | Tables, path: str | Path) -> None:
    """Write SDV's metadata as JSON, whole or not at all."""
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
            columns[column.name] = {"sdtype": "numerical" if column.kind == "number" else "categorical"}
    table: dict[str, Any] = {"columns": columns}
    if key := schema.named("id"):
        table["primary_key"] = key[0]
    return table


def _table_from_sdv(table: Any, name: str) -> Schema:
    if not isinstance(table, Mapping) or not isinstance(table.get("columns"), Mapping):
        raise InputError(f"table {name!r} of the metadata has no 'columns'")
    keys = [
        key for one in (table.get("primary_key"), *(table.get("alternate_keys") or [])) for key in (one if isinstance(one, list) else [one])
    ]
    columns, personal = [], []
    for column, facts in table["columns"].items():
        sdtype = facts.get("sdtype") if isinstance(facts, Mapping) else None
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
        low, high = facts.get("range_min"), facts.get("range_max")
        bounded = sdtype == "numerical" and isinstance(low, int | float) and isinstance(high, int | float)
        levels = facts.get("range_values") if sdtype != "numerical" else None
        columns.append(
            Column(
                str(column),
                role=role,
                kind="number" if _KINDS.get(sdtype) == "number" else "category",
                low=float(low) if bounded else None,
                high=float(high) if bounded else None,
                categories=tuple(str(level) for level in levels) if isinstance(levels, list) else None,
            )
        )
    if personal:
        warnings.warn(f"table {name!r}: unknown or personal columns {personal} are ignored", DataWarning, stacklevel=4)
    return Schema(tuple(columns))
