from __future__ import annotations

import json

import pytest

from nearward.synth.sdv.metadata import Link, Tables, from_sdv, to_sdv, write_sdv
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


def test_by_hand():
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


def test_there_and_back_by_file(tmp_path):
    path = tmp_path / "metadata.json"
    write_sdv(VISITS, path)
    with pytest.warns(DataWarning, match="name"):
        assert from_sdv(path).only == VISITS
    several = Tables(
        {"visits": VISITS, "labs": Schema((Column("of", role="id", kind="category"), Column("crp")))},
        (Link("visits", "visit", "labs", "of"),),
    )
    with pytest.warns(DataWarning):
        again = from_sdv(json.loads(json.dumps(to_sdv(several))))
    assert again.links == several.links
    assert again.schemas["visits"] == VISITS
    with pytest.raises(InputError, match="2 tables"):
        _ = again.only


def test_what_sdv_knows_and_we_do_too_is_kept():
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
def test_what_is_no_metadata_is_refused(body, message):
    with pytest.raises(InputError, match=message):
        from_sdv(body)


def test_files_that_are_not_there_or_not_json(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        from_sdv(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="JSON object"):
        from_sdv(tmp_path / "list.json")
