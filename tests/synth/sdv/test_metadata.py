"""SDV metadata: both directions, keys and personal columns, and errors for what is no metadata."""

from __future__ import annotations

import json

import polars as pl
import pytest

from nearward.synth.sdv.metadata import ForeignKey, Tables, from_sdv, to_sdv, write_sdv
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning, InputError

VISITS = Schema(
    (
        Column("visit", role="id", kind="category"),
        Column("age"),
        Column("ward", kind="category"),
        Column("seen", role="time", kind="category"),
        Column("name", role="ignore", kind="category"),
    )
)


def test_metadata_by_hand():
    assert to_sdv(VISITS) == {
        "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1",
        "columns": {
            "visit": {"sdtype": "id"},
            "age": {"sdtype": "numerical"},
            "ward": {"sdtype": "categorical"},
            "seen": {"sdtype": "datetime"},
            "name": {"sdtype": "unknown", "pii": True},
        },
        "primary_key": "visit",
    }


def test_metadata_round_trip_by_file(tmp_path):
    path = tmp_path / "metadata.json"
    write_sdv(VISITS, path)
    with pytest.warns(DataWarning, match="name"):
        assert from_sdv(path).only == VISITS
    tables = Tables(
        {"visits": VISITS, "labs": Schema((Column("of", role="id", kind="category"), Column("crp")))},
        (ForeignKey("visits", "visit", "labs", "of"),),
    )
    with pytest.warns(DataWarning):
        loaded = from_sdv(json.loads(json.dumps(to_sdv(tables))))
    assert loaded.links == tables.links
    assert loaded.schemas["visits"] == VISITS
    with pytest.raises(InputError, match="2 tables"):
        _ = loaded.only


def test_ranges_categories_and_keys_are_read():
    body = {
        "METADATA_SPEC_VERSION": "V2",
        "tables": {
            "t": {
                "columns": {
                    "patient": {"sdtype": "id"},
                    "mail": {"sdtype": "email", "pii": True},
                    "crp": {"sdtype": "numerical", "range_min": 0, "range_max": 500.5, "decimal_places": 1},
                    "sex": {"sdtype": "ordinal", "range_values": ["f", "m"]},
                    "smoker": {"sdtype": "boolean"},
                },
                "sequence_key": "patient",
                "alternate_keys": [["mail"]],
            }
        },
    }
    schema = from_sdv(body).only
    assert schema["patient"].role == "group"
    assert schema["mail"].role == "id"
    assert (schema["crp"].low, schema["crp"].high) == (0.0, 500.5)
    assert schema["sex"].categories == ("f", "m")
    assert schema["smoker"].kind == "category"
    del body["tables"]["t"]["alternate_keys"]
    with pytest.warns(DataWarning, match="mail"):
        assert from_sdv(body).only["mail"].role == "ignore"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "not SDV metadata"),
        ({"tables": {"t": {}}}, "no 'columns'"),
        ({"columns": {"a": {}}}, "no sdtype"),
        ({"tables": {"t": {"columns": {}}}, "relationships": [{"parent_table_name": "t"}]}, "relationship 1"),
    ],
)
def test_bodies_that_are_no_metadata_are_errors(body, message):
    with pytest.raises(InputError, match=message):
        from_sdv(body)


def test_missing_files_and_other_json_are_errors(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        from_sdv(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        from_sdv(tmp_path / "list.json")


def test_booleans_are_boolean_and_flags_of_numbers_are_not() -> None:
    schema = Schema.infer(pl.DataFrame({"smoker": [True, False, None], "died": [0, 1, 1]}))
    columns = to_sdv(schema)["columns"]
    assert columns == {"smoker": {"sdtype": "boolean"}, "died": {"sdtype": "numerical"}}
    assert to_sdv(Schema.from_json(schema.to_json()))["columns"] == columns
