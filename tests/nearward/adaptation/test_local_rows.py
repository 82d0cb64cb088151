"""A site's rows as the model reads them: names, columns and blocks that it lacks, copies of training rows."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from nearward.adaptation.local_rows import NOT_HERE, local_frame, refuse_training_rows
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


def test_copies_of_training_rows_are_counted_beside_those_by_chance() -> None:
    stored, site = table(200, 0), table(100, 1)
    outcome = np.arange(200) % 4 == 0
    records = stored.with_columns(pl.Series(OUTCOME, outcome.astype(np.int64)))
    copied = pl.concat([site[:60], stored[:40]])
    with pytest.warns(DataWarning, match="40 of 100 local rows are identical to training rows"):
        refuse_training_rows(records, copied, np.append(np.zeros(60), outcome[:40]).astype(np.int64))
    with pytest.raises(InputError, match="60 of 100 local rows are identical"):
        refuse_training_rows(records, pl.concat([site[:40], stored[:60]]), np.append(np.zeros(40), outcome[:60]).astype(np.int64))
    coarse = records.with_columns(pl.selectors.float().sign())  # five columns of two values: identical rows by chance
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuse_training_rows(coarse, site.with_columns(pl.selectors.float().sign()), np.zeros(100, dtype=np.int64))
