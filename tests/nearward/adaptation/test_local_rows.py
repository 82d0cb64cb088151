"""A site's rows as the model reads them: names, columns and blocks that it lacks, copies of training rows."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nearward.adaptation.local_rows import NOT_HERE, local_frame, refuse_stored_rows, warn_of_other_units
from nearward.adaptation.stored_patients import OUTCOME
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import DataWarning, InputError


def table(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({name: rng.normal(size=n).round(6) for name in ("age", "lab_na", "lab_k", "ecg_rate", "ecg_st")})


@pytest.fixture
def schema() -> Schema:
    columns = Schema.infer(table(50, 0)).columns
    return Schema(tuple(replace(column, block=column.name.split("_")[0] if "_" in column.name else None) for column in columns))


def test_a_warning_for_each_block_and_one_for_single_columns(schema: Schema) -> None:
    site = table(40, 1).drop("age", "lab_na", "ecg_rate", "ecg_st")
    with pytest.warns(DataWarning) as caught:
        frame, local, lacking = local_frame(site, schema, {})
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "lacks the block 'ecg': ['ecg_rate', 'ecg_st']" in messages[0]
    assert "lacks the columns ['age', 'lab_na']" in messages[1]
    assert lacking == ("age", "lab_na", "ecg_rate", "ecg_st")
    assert {column.name: column.block for column in local.columns} == {
        "age": NOT_HERE, "lab_na": NOT_HERE, "lab_k": "lab", "ecg_rate": "ecg", "ecg_st": "ecg"
    }  # fmt: skip
    assert frame.columns == ["lab_k"]


def test_a_site_with_all_columns_under_its_own_names_is_not_warned_of(schema: Schema) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame, local, lacking = local_frame(table(40, 1).rename({"age": "leeftijd"}), schema, {"leeftijd": "age"})
    assert frame.equals(table(40, 1))
    assert (local, lacking) == (schema, ())


def test_names_that_cannot_be_mapped_are_refused(schema: Schema) -> None:
    site = table(40, 1)
    with pytest.raises(InputError, match="weight"):
        local_frame(site, schema, {"weight": "age"})  # the site has no such column
    with pytest.raises(InputError, match="weight"):
        local_frame(site, schema, {"age": "weight"})  # nor has the model
    with pytest.raises(InputError, match=r"names that are taken: \['age'\]"):
        local_frame(site, schema, {"lab_k": "age"})
    swapped, _, _ = local_frame(site, schema, {"lab_k": "lab_na", "lab_na": "lab_k"})
    assert swapped["lab_na"].equals(site["lab_k"])


def test_medians_that_another_unit_would_give_are_warned_of() -> None:
    stored, site = table(200, 0), table(100, 1)
    with pytest.warns(DataWarning, match=r"outside the middle 90 % of the training values: \['lab_k'\]"):
        warn_of_other_units(stored, site.with_columns(pl.col("lab_k") + 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_units(stored, site)
        warn_of_other_units(stored, site[:9].with_columns(pl.col("lab_k") + 2))  # too few for a median
        warn_of_other_units(pl.DataFrame(), site)


def test_copies_of_stored_rows_are_counted_beside_those_by_chance() -> None:
    stored, site = table(200, 0), table(100, 1)
    outcome = np.arange(200) % 4 == 0
    records = stored.with_columns(pl.Series(OUTCOME, outcome.astype(np.int64)))

    def refuse(records: pl.DataFrame, rows: pl.DataFrame, copies: int = 0) -> None:
        known = np.append(np.zeros(rows.height - copies), outcome[:copies]).astype(np.int64)
        refuse_stored_rows(records, rows, known, "stored rows", "counted twice")

    with pytest.warns(DataWarning, match="40 of 100 rows are identical to stored rows, in all columns and the outcome: counted twice"):
        refuse(records, pl.concat([site[:60], stored[:40]]), 40)
    with pytest.raises(InputError, match="60 of 100 rows are identical"):
        refuse(records, pl.concat([site[:40], stored[:60]]), 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coarse = pl.selectors.float().sign()  # two values in each of five columns: identical rows by chance
        refuse(records.with_columns(coarse), site.with_columns(coarse))
        dependent = [pl.col("age").round(1).alias(name) for name in site.columns]  # every column says the same
        refuse(records.with_columns(dependent), site.with_columns(dependent))
