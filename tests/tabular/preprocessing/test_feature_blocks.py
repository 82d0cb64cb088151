"""Blocks of columns: declared before guessed, patterns of what a row lacks, and what scoring says of a site that lacks one."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning, MissingColumns
from nearward.tabular.preprocessing.feature_blocks import add_missing_blocks, availability, columns_by_block, missing_blocks, with_blocks


@pytest.fixture
def stays() -> pl.DataFrame:
    """Labs are measured together in seven rows of ten; lactate separately in half of them; two scores share a prefix."""
    rng = np.random.default_rng(0)
    n = 300
    drawn, measured = rng.random(n) < 0.7, rng.random(n) < 0.5
    frame = pl.DataFrame({name: rng.normal(size=n) for name in ("age", "na", "k", "lactate", "phq_1", "phq_2")})
    return frame.with_columns(
        pl.when(pl.Series(drawn)).then(pl.col("na", "k")), pl.when(pl.Series(measured)).then(pl.col("lactate")), sex=pl.lit("f")
    )


def test_joint_missingness_and_prefixes_suggest_blocks(stays: pl.DataFrame) -> None:
    blocks = columns_by_block(with_blocks(Schema.infer(stays), stays))
    assert blocks == {"na and 1 more": ("na", "k"), "phq": ("phq_1", "phq_2")}


def test_declared_blocks_are_the_only_ones(stays: pl.DataFrame) -> None:
    inferred = Schema.infer(stays)
    declared = Schema(tuple(replace(c, block="mine") if c.name in ("age", "lactate") else c for c in inferred.columns))
    assert columns_by_block(with_blocks(declared, stays)) == {"mine": ("age", "lactate")}
    assert columns_by_block(Schema.from_json(declared.to_json())) == {"mine": ("age", "lactate")}


def test_blocks_have_features_only() -> None:
    schema = Schema((Column("a", block="b"), Column("died", role="outcome", block="b")))
    assert columns_by_block(schema) == {"b": ("a",)}


def test_a_pattern_names_the_blocks_that_are_entirely_missing(stays: pl.DataFrame) -> None:
    schema = with_blocks(Schema.infer(stays), stays)
    pattern = availability(stays, schema)
    expected = np.where(stays["na"].is_null().to_numpy(), "without na and 1 more", "all blocks")
    assert pattern.to_list() == expected.tolist()
    one_of_two = stays.with_columns(phq_1=pl.lit(None, dtype=pl.Float64))
    assert availability(one_of_two, schema).to_list() == expected.tolist()  # a block with one value is available
    neither = one_of_two.with_columns(phq_2=pl.lit(None, dtype=pl.Float64)).lazy()
    assert set(availability(neither, schema)) == {"without phq", "without na and 1 more, phq"}
    assert set(availability(stays, Schema.infer(stays))) == {"all blocks"}


def test_a_report_has_the_patterns_as_subgroups(stays: pl.DataFrame) -> None:
    schema = with_blocks(Schema.infer(stays), stays)
    rng = np.random.default_rng(1)
    scored = pl.DataFrame({"died": rng.integers(0, 2, 300), "risk": rng.random(300)}).with_columns(availability(stays, schema))
    report = nw.evaluate_risk(scored, outcome="died", risk="risk", subgroups=["available"], resamples=100)
    assert {part.level for part in report.subgroups} == {"all blocks", "without na and 1 more"}


def test_a_site_may_lack_a_whole_block_but_not_half_of_one(stays: pl.DataFrame) -> None:
    schema = with_blocks(Schema.infer(stays), stays)
    site = add_missing_blocks(stays.drop("phq_1", "phq_2"), schema)
    assert missing_blocks(schema.conform(site), schema) == ["phq"]
    assert missing_blocks(schema.conform(stays), schema) == []
    with pytest.raises(MissingColumns, match="phq_1"):
        schema.conform(add_missing_blocks(stays.drop("phq_1"), schema))
    with pytest.raises(MissingColumns, match="age"):
        schema.conform(add_missing_blocks(stays.drop("age"), schema))


@pytest.fixture(scope="module")
def blocked(clinic):
    """A model of the synthetic clinic, with lactate and ward as one block."""
    frame, died, patient = clinic
    schema = Schema(tuple(replace(c, block="bedside") if c.name in ("lactate", "ward") else c for c in Schema.infer(frame).columns))
    config = nw.EncoderConfig(steps=20, block_dropout=0.3)
    return nw.RiskClassifier(random_state=1, schema=schema, encoder=config, backbone=None).fit(
        frame[:400], died[:400], groups=patient[:400]
    )


def test_scoring_warns_of_a_missing_block_and_scores(blocked, clinic, tmp_path) -> None:
    new = clinic[0][500:]
    message = "a whole block of columns is missing in every row.*'bedside' in 200 rows"
    with pytest.warns(DataWarning, match=message):
        dropped = blocked.predict_frame(new.drop("lactate", "ward"))
    with pytest.warns(DataWarning, match=message):
        emptied = blocked.predict_frame(new.with_columns(lactate=None, ward=None))
    assert dropped.equals(emptied)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        blocked.predict_frame(new)
    blocked.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    assert loaded.encoder.block_dropout == 0.3
    with pytest.warns(DataWarning, match="'bedside'"):
        assert loaded.predict_frame(new.drop("lactate", "ward")).equals(dropped)


def test_blocks_are_suggested_where_none_is_declared(clinic) -> None:
    frame, died, _ = clinic
    both = frame.with_columns(pl.when(pl.col("lactate").is_not_null()).then(pl.col("sofa")).alias("sofa"))
    model = nw.RiskClassifier(encoder=nw.EncoderConfig(steps=5, block_dropout=0.2), backbone=None).fit(both[:200], died[:200])
    assert columns_by_block(model.schema_) == {"lactate and 1 more": ("lactate", "sofa")}
