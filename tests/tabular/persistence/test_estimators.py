"""Estimators on disk: the same numbers to the last bit; nothing corrupt is read, nothing else is overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import nearward as nw
from nearward.tabular.data.schema import Schema
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.persistence.artifact import MANIFEST, read_manifest

KINDS = ["UnknownGate", "ThresholdController", "CellModel", "WindowGate"]


def rows(n: int, seed: int) -> pl.DataFrame:
    """Numbers with holes, and a category."""
    rng = np.random.default_rng(seed)
    ward = rng.choice(["ICU", "medical"], n)
    lactate = np.where(rng.random(n) < 0.2, np.nan, rng.normal(2 + (ward == "ICU"), 1))
    return pl.DataFrame({"age": rng.normal(60, 10, n), "lactate": lactate, "ward": ward}).with_columns(pl.col("lactate").fill_nan(None))


def rows_with_risks(n: int, seed: int) -> pl.DataFrame:
    """The rows with risks of two windows, one of them with holes."""
    rng = np.random.default_rng(seed)
    late = [None if hole else value for hole, value in zip(rng.random(n) < 0.2, rng.random(n).tolist(), strict=True)]
    return rows(n, seed).with_columns(pl.Series("6h", rng.random(n)), pl.Series("7d", late, dtype=pl.Float64))


def fit_estimator(kind: str) -> Any:
    """An estimator of this kind, with no setting at its default."""
    rng = np.random.default_rng(0)
    if kind == "UnknownGate":
        return nw.UnknownGate(false_alarms=0.1, width=8, steps=20, random_state=4, schema=Schema.infer(rows(300, 0))).fit(
            rows(300, 0), rng.choice(["flu", "copd", "mi"], 300)
        )
    if kind == "ThresholdController":
        controller = nw.ThresholdController(target_recall=0.7, delay=np.int64(2), lowest=0.01).start(rng.random(99), np.arange(99) % 3 == 0)
        for _ in range(3):
            controller.learn(rng.random(40) < 0.3, rng.random(40) < 0.2)
        return controller
    if kind == "CellModel":
        return nw.CellModel(random_state=3, steps=20).fit(rows(200, 0))
    return nw.WindowGate(("6h", "7d"), random_state=2).fit(rows_with_risks(300, 0), rng.random(300) < 0.3)


def outputs(model: Any) -> list[Any]:
    """All outputs for new rows."""
    new = rows_with_risks(50, 1)
    if isinstance(model, nw.UnknownGate):
        return [model.gate(new), model.score_samples(new), model.predict(new), model.classes_, model.n_features_in_]
    if isinstance(model, nw.ThresholdController):
        learned = model.learn(np.arange(30) < 9, np.arange(30) % 4 == 0)  # depends on its history
        return [learned, model.alert(new["6h"]), model.run(new.with_columns(e=pl.lit(1), t=pl.int_range(50)), "6h", "t", "e")]
    if isinstance(model, nw.CellModel):
        return [model.surprise(new), model.transform(new), model.n_features_in_]
    return [model.weights(new), model.predict_proba(new), model.predict(new), model.shrinkage_]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, pl.DataFrame):
        return one.equals(other) and one.schema == other.schema
    return bool(np.array_equal(one, other)) and np.asarray(one).dtype == np.asarray(other).dtype


@pytest.fixture(scope="module", params=KINDS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, list[Any]]:
    model, folder = fit_estimator(request.param), tmp_path_factory.mktemp("saved") / request.param
    model.save(folder)
    return type(model), folder, outputs(model)


def test_outputs_are_the_same_after_loading_and_saving_again(saved: tuple[Any, Path, list[Any]], tmp_path: Path) -> None:
    kind, folder, expected = saved
    before = torch.get_rng_state()
    model = kind.load(folder)
    assert torch.equal(torch.get_rng_state(), before)  # the user's random numbers stay as they are
    model.save(tmp_path / "again")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()}
    assert all(map(same, outputs(model), expected))
    if hasattr(model, "get_params"):
        assert model.get_params()["random_state"] != 0


def test_a_flipped_byte_or_a_lost_file_is_refused(saved: tuple[Any, Path, list[Any]], tmp_path: Path) -> None:
    kind, folder, _ = saved
    for path in folder.iterdir():
        copy = tmp_path / path.name / "model"
        copy.mkdir(parents=True)
        for other in folder.iterdir():
            (copy / other.name).write_bytes(other.read_bytes())
        spoiled = bytearray(path.read_bytes())
        spoiled[len(spoiled) // 2] ^= 1
        (copy / path.name).write_bytes(spoiled)
        with pytest.raises(ArtifactError, match="corrupt"):
            kind.load(copy)
        (copy / path.name).unlink()
        with pytest.raises(ArtifactError, match="missing"):
            kind.load(copy)


def test_other_kinds_are_neither_read_nor_overwritten(saved: tuple[Any, Path, list[Any]], fitted: Any, tmp_path: Path) -> None:
    kind, folder, _ = saved
    other = nw.ThresholdController if kind is not nw.ThresholdController else nw.CellModel
    with pytest.raises(ArtifactError, match=f"holds no {other.__name__} but a {kind.__name__}"):
        other.load(folder)
    with pytest.raises(ArtifactError, match=f"is not a risk model but a {kind.__name__}"):
        nw.load(folder)
    with pytest.raises(InputError, match=f"holds a {kind.__name__}: choose another folder"):
        fitted.save(folder)
    fitted.save(tmp_path / "risk")
    with pytest.raises(ArtifactError, match=f"holds no {kind.__name__} but a risk model"):
        kind.load(tmp_path / "risk")
    with pytest.raises(InputError, match="holds a risk model"):
        kind.load(folder).save(tmp_path / "risk")
    assert nw.load(tmp_path / "risk").summary_ == fitted.summary_


def test_the_folder_contains_no_rows_and_is_private(saved: tuple[Any, Path, list[Any]]) -> None:
    _, folder, _ = saved
    assert read_manifest(folder)["contains_records"] is False
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert MANIFEST in {path.name for path in folder.iterdir()}


def test_classes_have_their_dtype_and_dates_are_refused(tmp_path: Path) -> None:
    frame = rows(200, 0)
    for classes in (np.array([3, 7], dtype=np.int32), np.array([False, True])):
        gate = nw.UnknownGate(steps=2).fit(frame, classes[np.arange(200) % 2])
        gate.save(tmp_path / "gate")
        back = nw.UnknownGate.load(tmp_path / "gate").classes_
        assert (back == gate.classes_).all()
        assert back.dtype == gate.classes_.dtype
    days = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]")
    with pytest.raises(InputError, match="only text, numbers and booleans are classes"):
        nw.UnknownGate(steps=2).fit(frame, pl.Series(days[np.arange(200) % 2]))


def test_nothing_unfitted_is_written(tmp_path: Path) -> None:
    for model in (nw.UnknownGate(), nw.CellModel(), nw.WindowGate(["a", "b"])):
        with pytest.raises(ValueError, match="not fitted"):
            model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
