"""Cohorts with sidecars: excluded columns, the event, refused sidecars."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from nearward.datasets import read_cohort
from nearward.tabular.errors import InputError, MissingColumns

TABLE = pl.DataFrame(
    {
        "visit": [1, 2, 3, 4],
        "patient": ["b", "a", "b", "c"],
        "age": [60.0, 70.0, 61.0, 50.0],
        "cost": [1, 2, 3, 4],
        "outcome": ["died", "alive", "died", None],
        "stroke": [0, 1, 0, 1],
    }
)
ABOUT = {
    "title": "A cohort",
    "target": "outcome",
    "positive": "died",
    "id_columns": ["visit"],
    "group_column": "patient",
    "leak_columns": ["cost", "stroke"],
    "extra_targets": {"stroke": {"column": "stroke", "positive": 1, "leak_columns": ["outcome", "cost"]}},
}


def write(folder, table=TABLE, **changes):
    table.write_parquet(folder / "c.parquet")
    (folder / "c.json").write_text(json.dumps({**ABOUT, **changes}))
    return folder / "c.parquet"


def test_target_ids_groups_and_leaks_are_not_features(tmp_path):
    cohort = read_cohort(write(tmp_path))
    assert (cohort.name, cohort.title, cohort.features.columns) == ("c", "A cohort", ["age"])
    np.testing.assert_array_equal(cohort.outcome, [1, 0, 1])  # the row without an outcome is dropped
    np.testing.assert_array_equal(cohort.groups, [1, 0, 1])


def test_another_task_has_its_own_leaks(tmp_path):
    cohort = read_cohort(write(tmp_path), task="stroke")
    assert (cohort.name, cohort.features.columns) == ("c@stroke", ["age"])
    np.testing.assert_array_equal(cohort.outcome, [0, 1, 0, 1])


def test_without_groups_every_row_is_a_patient(tmp_path):
    assert read_cohort(write(tmp_path, group_column=None)).groups is None


def test_a_row_without_a_patient_is_refused(tmp_path):
    table = TABLE.with_columns(patient=pl.Series(["b", None, "b", "c"]))
    with pytest.raises(InputError, match="1 missing values"):
        read_cohort(write(tmp_path, table))


def test_sidecars_with_unknown_columns_or_tasks_are_refused(tmp_path):
    with pytest.raises(MissingColumns, match="did you mean 'cost'"):
        read_cohort(write(tmp_path, leak_columns=["costs"]))
    with pytest.raises(InputError, match=r"KeyError \('asthma'\)"):
        read_cohort(write(tmp_path), task="asthma")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(InputError, match="not a cohort's sidecar"):
        read_cohort(tmp_path / "c.parquet")


@pytest.mark.cohort
def test_public_cohorts_agree_with_their_sidecars(cohort_folder):
    tables = sorted(cohort_folder.glob("*.parquet"))
    assert len(tables) >= 8
    for table in tables:
        about = json.loads(table.with_suffix(".json").read_text())
        cohort = read_cohort(table)
        assert cohort.features.width == about["n_features"], table.name
        assert cohort.outcome.sum() == about["n_positive"], table.name
