"""Splits by role: no patient in two parts, no row lost, events in every part; private splits of a patient depend on no other patient."""

from __future__ import annotations

import secrets

import numpy as np
import polars as pl
import pytest

from nearward.synth.inputs.splits import ROLES, RoleSplits, split_by_hash, split_by_role
from nearward.tabular.errors import InputError


def test_roles_share_no_patient_and_no_row_is_lost() -> None:
    n = 1600
    rng = np.random.default_rng(0)
    patient_ids, event = np.arange(n) // 2, (rng.random(n) < 0.2).astype(np.int64)
    without = split_by_role(event, patient_ids, 0, with_discriminators=False)
    assert len(without["discriminator"]) == 0
    assert len(without["generator"]) > 0.66 * n
    row_indices = split_by_role(event, patient_ids, 0)
    assert sorted(np.concatenate(list(row_indices.values())).tolist()) == list(range(n))
    patients = [set(patient_ids[row_indices[role]].tolist()) for role in ROLES]
    assert sum(map(len, patients)) == len(set().union(*patients))
    shares = [event[row_indices[role]].mean() for role in ROLES]
    assert max(shares) - min(shares) < 0.05


def test_too_few_patients_for_a_role_are_an_error() -> None:
    with pytest.raises(InputError, match="too few patients"):
        split_by_role(np.tile([0, 1], 100), np.arange(200) // 100, 0)


def test_audit_rows_are_whole_rows_of_the_training_holdout_and_tuning_roles() -> None:
    frame = pl.DataFrame({"patient": ["a", "b", "c", "d"], "died": [0, 1, 0, 1]})
    row_indices = {"generator": [0], "discriminator": [], "rules": [3], "utility": [2], "privacy": [1]}
    splits = RoleSplits(frame, {role: np.array(rows, dtype=int) for role, rows in row_indices.items()}, np.arange(4), "died", 1, "patient")
    rows = splits.audit_rows(None)
    assert [part["patient"].to_list() for part in (rows.train, rows.holdout, rows.steered)] == [["a"], ["b", "c"], ["d"]]
    assert splits.rows("rules").to_dict(as_series=False) == {"died": [1]}
    assert splits.audit_rows(frame[:0]).holdout.height == 0


def test_one_patient_more_changes_no_other_patients_split() -> None:
    ids = pl.Series([f"p{i}" for i in range(1000)])
    before = split_by_hash(ids, 1000, 0)
    after = split_by_hash(pl.concat([pl.Series(["a"]), ids]), 1001, 0)
    for role, rows in before.items():
        assert set(ids.gather(rows)) == {pl.concat([pl.Series(["a"]), ids])[int(i)] for i in after[role]} - {"a"}
    alone = split_by_hash(None, 5000, 0)
    assert 0.77 < len(alone["generator"]) / 5000 < 0.83
    assert not np.array_equal(alone["generator"], split_by_hash(None, 5000, 0)["generator"])  # at random, not by the row's index
    assert len(split_by_hash(ids, 1000, 0, with_holdout=False)["generator"]) == 1000


def test_the_roles_of_single_rows_come_from_the_cryptographic_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "randbelow", lambda total: total - 1)  # the last slot is training's
    assert len(split_by_hash(None, 100, 0)["generator"]) == 100
