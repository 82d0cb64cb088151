"""``epsilon=`` from end to end: fit, sample, save, load, export with the accountant."""

from __future__ import annotations

import json
import os
import sys
import warnings

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.cli import main as cli
from nearward.release.audit import AuditRows
from nearward.synth.differential_privacy.accountant import PrivacyAccountant
from nearward.synth.differential_privacy.tree_marginals import TreeMarginals
from nearward.tabular.data.schema import Column, Schema
from nearward.tabular.errors import DataWarning, InputError
from nearward.tabular.rules.kinds import Order, Range
from nearward.tabular.rules.rules import Rules
from nearward.tabular.rules.yaml_io import write_rules

REASON = "plumbing test of the pipeline"


def visits(n: int, seed: int) -> pl.DataFrame:
    """Two visits a patient, few columns: enough rows for every encoded dimension."""
    rng = np.random.default_rng(seed)
    ill = rng.random(n) < 0.3
    dbp = rng.integers(50, 90, n)
    return pl.DataFrame(
        {
            "patient": [f"p{i // 2}" for i in range(n)],
            "ward": np.where(ill, "ICU", "medical").tolist(),
            "dbp": dbp,
            "sbp": dbp + rng.integers(5, 60, n),
            "died": (rng.random(n) < np.where(ill, 0.4, 0.05)).astype(int),
        }
    )


@pytest.fixture(scope="module")
def train() -> pl.DataFrame:
    return visits(8000, 0)


@pytest.fixture(scope="module")
def fitted(train) -> nw.Synthesizer:
    return nw.Synthesizer(epsilon=3.0, seed=1).fit(train, outcome="died", groups="patient", rules=Rules((Order("dbp", "sbp"),)))


def test_a_private_generator_samples_under_rules_and_conditions(train, fitted) -> None:
    synthetic = fitted.sample(4000, seed=2)
    assert synthetic.schema == train.schema
    assert (synthetic["dbp"] <= synthetic["sbp"]).all()
    rates = [frame.group_by("ward").agg(pl.col("died").mean()).sort("ward")["died"].to_list() for frame in (synthetic, train)]
    assert rates[0] == pytest.approx(rates[1], abs=0.1)
    assert fitted.sample(300, where={"died": 1, "ward": "ICU"}).select("died", "ward").unique().rows() == [(1, "ICU")]
    assert fitted.sample(50, seed=2).equals(fitted.sample(50, seed=2))  # sampling depends on the seed, the noise of fitting does not
    assert set(fitted.summary_["outcomes"]["noisy"]) == {"0", "1"}


def test_the_generator_consists_of_charged_releases(fitted) -> None:
    assert isinstance(fitted._generator.policy, TreeMarginals)
    epsilon, delta = fitted.privacy.spent()
    assert 2.5 < epsilon <= 3
    assert delta <= 1e-6
    assert fitted.privacy.rows_per_patient == 2
    assert [str(rule) for rule in fitted.rules] == ["dbp is at most sbp"]  # given; none is mined


def test_all_rows_outside_the_holdout_are_training_rows(train, fitted) -> None:
    rows = fitted.audit_rows
    assert rows.steered is None
    assert rows.train.height + rows.holdout.height == train.height
    assert not set(rows.train["patient"]) & set(rows.holdout["patient"])
    assert 0.13 < rows.holdout.height / train.height < 0.27


def test_a_loaded_generator_has_the_same_accountant_and_rows(fitted, tmp_path) -> None:
    fitted.save(tmp_path / "g")
    loaded = nw.Synthesizer.load(tmp_path / "g")
    assert loaded.privacy == fitted.privacy
    assert loaded.epsilon == 3.0
    assert loaded.sample(100).equals(fitted.sample(100))


def test_the_stamp_of_an_exported_table_contains_the_accountant(fitted, tmp_path) -> None:
    few = AuditRows(fitted.audit_rows.train[:150], fitted.audit_rows.holdout[:150], "died", 1, "patient")
    nw.export_synthetic(fitted, 150, tmp_path / "synth.parquet", rows=few, accept_risk=REASON)
    stamp = nw.read_stamp(tmp_path / "synth.parquet")
    assert PrivacyAccountant.from_json(stamp["privacy"]["ledger"]) == fitted.privacy
    assert "not covered" in stamp["privacy"]
    assert stamp["generator"]["epsilon"] == 3.0
    assert 0 <= stamp["rules"]["share of rows drawn again"] < 1


def no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


def call(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["nearward", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_line_fits_samples_and_reports_errors(train, tmp_path, monkeypatch, capsys) -> None:
    train.write_parquet(tmp_path / "cohort.parquet")
    fit = ("synth", "fit", tmp_path / "cohort.parquet", "--outcome", "died", "--group", "patient", "--out", tmp_path / "g")
    assert call(monkeypatch, *fit, "--epsilon", 2, "--json", tmp_path / "fit.json") == 0
    assert json.loads((tmp_path / "fit.json").read_text())["event"] == 1
    output = capsys.readouterr().out
    assert "epsilon" in output
    assert "of 2" in output
    assert "with the noise" in output
    assert call(monkeypatch, "synth", "sample", tmp_path / "g", "-n", 100, "--where", "died=1", "--out", tmp_path / "s.parquet") == 0
    assert pl.read_parquet(tmp_path / "s.parquet")["died"].to_list() == [1] * 100
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        assert call(full, "synth", "sample", tmp_path / "g", "-n", 100, "--out", tmp_path / "t.parquet") != 0
        assert call(full, *fit[:-1], tmp_path / "h", "--epsilon", 2) != 0
    assert not (tmp_path / "t.parquet").exists()
    assert list((tmp_path / "h").iterdir()) == []  # no part of a generator
    write_rules(Rules((Order("dbp", "sbp"), Range("dbp", 90, 99), Range("sbp", 0, 50))), tmp_path / "rules.yaml")
    assert call(monkeypatch, *fit, "--rules", tmp_path / "rules.yaml") == 2
    assert "dbp is from 90 to 99" in capsys.readouterr().err
    for epsilon in (0, -1):
        assert call(monkeypatch, *fit, f"--epsilon={epsilon}") == 2
        assert "above 0" in capsys.readouterr().err


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_epsilon_is_an_error_before_any_row_is_read(epsilon) -> None:
    with pytest.raises(InputError, match="above 0"):
        nw.Synthesizer(epsilon=epsilon)


def test_reading_rows_outside_the_privacy_budget_is_an_error(train) -> None:
    with pytest.raises(InputError, match="outside the privacy budget"):
        nw.Synthesizer(epsilon=1.0, optimiser="ppo")
    with pytest.raises(InputError, match="use it with epsilon"):
        nw.Synthesizer().fit(train, outcome="died", public=Schema((Column("dbp", low=0, high=100),)))
    with pytest.raises(InputError, match="at least 50 rows"):
        nw.Synthesizer(epsilon=8.0).fit(train[:300], outcome="died", groups="patient")


def test_a_rare_outcome_hidden_by_the_noise_is_warned_of(train) -> None:
    few = np.arange(train.height) < 30
    for died in (few, ~few):  # the rare value is the event, or its absence
        rare = train.select("patient", "ward").with_columns(died=pl.Series(died, dtype=pl.Int64))
        with pytest.warns(DataWarning, match="hides its rare value"):
            nw.Synthesizer(epsilon=0.5).fit(rare, outcome="died", groups="patient")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        warnings.filterwarnings("ignore", message=".*have several rows")
        nw.Synthesizer(epsilon=8.0).fit(train, outcome="died", groups="patient")


def test_private_decimals_keep_their_fractions() -> None:
    frame = visits(4000, 5).drop("dbp", "sbp")
    value = np.random.default_rng(0).gamma(9, 0.13, 4000).round(2)
    frame = frame.with_columns(creatinine=pl.Series(value).cast(pl.Decimal(6, 2)))
    synthetic = nw.Synthesizer(epsilon=8.0).fit(frame, outcome="died", groups="patient").sample(2000)
    assert synthetic["creatinine"].dtype == pl.Decimal(6, 2)
    assert (synthetic["creatinine"].cast(pl.Float64) % 1 != 0).mean() > 0.9
