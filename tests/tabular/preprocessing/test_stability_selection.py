"""Stability selection: planted columns are selected, noise is not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from nearward.tabular.errors import InputError, MissingColumns, TooFewEvents
from nearward.tabular.preprocessing.stability_selection import StableColumns, _group_lasso_path


def planted(n: int = 800, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Twelve columns of noise around a number, a category and a missing-flag that matter."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame({f"noise {j}": rng.normal(size=n) for j in range(12)})
    dose, ward, lab = rng.normal(size=n), rng.choice(["a", "b", "c"], n), rng.normal(size=n)
    missed = rng.random(n) < 0.4
    ill = rng.random(n) < 1 / (1 + np.exp(-(1.2 * dose + 1.5 * (ward == "b") + 1.4 * missed - 2.6)))
    values = [None if missing else value for missing, value in zip(missed, lab.tolist(), strict=True)]
    return frame.insert_column(3, pl.Series("dose", dose)).with_columns(
        pl.Series("ward", ward.tolist()), pl.Series("lab", values)
    ), ill.astype(int)


def test_planted_columns_are_selected_and_noise_is_not() -> None:
    frame, ill = planted()
    chosen = StableColumns(wrong=1.2).fit(frame, ill)
    assert chosen.most_ == 3
    assert chosen.columns_ == ("dose", "ward", "lab")
    assert chosen.table_["share"][:3].min() > 0.8
    assert chosen.transform(frame).columns == ["dose", "ward", "lab"]
    assert chosen.get_feature_names_out().tolist() == ["dose", "ward", "lab"]
    assert StableColumns(wrong=1.2).fit(frame, ill).table_.equals(chosen.table_)


def test_of_noise_alone_no_more_is_selected_than_declared() -> None:
    counts = []
    for seed in range(5):
        frame, _ = planted(400, seed)
        lot = (np.random.default_rng(seed + 50).random(400) < 0.3).astype(int)
        counts.append(len(StableColumns(wrong=1.0).fit(frame, lot).columns_))
    assert np.mean(counts) <= 1.0


def test_path_by_hand() -> None:
    """With uncorrelated columns the group lasso adds them by the norm of their gradient."""
    gram = np.eye(4)[None]
    towards = np.array([[0.5, 0.4, 0.4, 0.1]])  # the second column has two parts: sqrt(.32 / 2) = .4 each
    place = np.array([0, 1, 1, 2])
    assert _group_lasso_path(gram, towards, place, 1).tolist() == [[True, False, False]]
    assert _group_lasso_path(gram, towards, place, 2).tolist() == [[True, True, False]]
    assert _group_lasso_path(gram, towards, place, 3).tolist() == [[True, True, True]]


def test_copies_of_a_patient_prove_nothing() -> None:
    """Noise that fits sixty patients by chance looks stable where both halves of a pair have rows of the same patients."""
    frame, _ = planted(60, 4)
    many, lot, patient = pl.concat([frame] * 12), np.tile(np.resize([0, 1], 60), 12), np.tile(np.arange(60), 12)
    blind, grouped = (StableColumns().fit(many, lot, groups=groups).table_["share"].max() for groups in (None, patient))
    assert blind > grouped + 0.1


def test_refusals() -> None:
    frame, ill = planted()
    with pytest.raises(InputError, match="cannot be guaranteed for 3 columns"):
        StableColumns(wrong=0.1).fit(frame.select("dose", "ward", "lab"), ill)
    frame, ill = planted(100)
    with pytest.raises(InputError, match="share must"):
        StableColumns(share=0.5).fit(frame, ill)
    with pytest.raises(TooFewEvents):
        StableColumns().fit(frame, np.arange(100) < 12)
    for patient in (np.zeros(100), np.where(ill, 0, np.arange(100))):
        with pytest.raises(InputError, match="can't be halved"):
            StableColumns().fit(frame, ill, groups=patient)
    with pytest.raises(InputError, match="100 different values"):
        StableColumns().fit(frame, np.arange(100))
    fitted = StableColumns(wrong=5).fit(*planted())
    with pytest.raises(MissingColumns):
        fitted.transform(frame.drop("dose"))
