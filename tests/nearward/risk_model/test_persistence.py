"""Saving and loading: the training frame's columns, Decimal outcomes, single-precision arguments."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import shutil
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.tabular.data.schema import Column
from nearward.tabular.errors import ArtifactError, InputError, NearwardError
from nearward.tabular.persistence.artifact import MANIFEST, _serialize

REVERSED = nw.Schema((Column("b"), Column("a")))


def make_cohort(n: int = 160) -> tuple[pl.DataFrame, np.ndarray]:
    """Two features on different scales, the first of which predicts the outcome, after a column that is in no schema here."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    frame = pl.DataFrame({"spare": rng.normal(size=n), "a": a, "b": 100 + 10 * rng.normal(size=n)})
    return frame, (a + 0.3 * rng.normal(size=n) > 0.8).astype(int)


def small_model(schema: nw.Schema) -> nw.RiskClassifier:
    return nw.RiskClassifier(random_state=0, folds=2, backbone=None, schema=schema)


@pytest.mark.filterwarnings("ignore:columns that the model was not fitted on")
def test_an_array_has_the_training_frames_columns_whatever_the_schemas_order(tmp_path) -> None:
    frame, outcome = make_cohort()
    model = small_model(REVERSED).fit(frame, outcome)
    expected = model.predict_proba(frame)
    np.testing.assert_array_equal(model.predict_proba(frame.to_numpy()), expected)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(nw.load(tmp_path / "m").predict_proba(frame.to_numpy()), expected)
    with pytest.raises(InputError, match="X has 2 features, but RiskClassifier is expecting 3"):
        model.predict_proba(frame.to_numpy()[:, 1:])


def test_decimals_and_single_precision_can_be_saved(tmp_path) -> None:
    frame, outcome = make_cohort()
    model = nw.RiskClassifier(random_state=0, folds=2, backbone=None, prevalence=np.float32(0.05))
    model.fit(frame, pl.Series([Decimal(int(happened)) for happened in outcome]))
    model.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
    assert loaded.prevalence == pytest.approx(0.05)


def rewrite_manifest(folder, edit) -> None:
    """Edit a manifest in place, with a valid digest, as somebody with evil intent would."""
    body = json.loads((folder / MANIFEST).read_text())
    del body["sha256"]
    edit(body)
    (folder / MANIFEST).write_bytes(_serialize(body))


def every_part(value: Any, depth: int = 5) -> Iterator[tuple[Any, Any]]:
    """Yield each (container, key) of a manifest down to a depth."""
    if depth and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value[:2]):
            yield value, key
            yield from every_part(item, depth - 1)


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "m"
    fitted.save(folder)
    return folder


def test_a_model_of_mapped_arrays_predicts_shows_and_forgets_like_one_in_memory(fitted, saved, clinic, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nearward.tabular.persistence.hashed_files.LARGE", 0)
    fitted.save(tmp_path / "m")
    assert len(list((tmp_path / "m").glob("array-*.bin"))) > 50
    mapped, rows = nw.load(tmp_path / "m"), clinic[0][500:520]
    np.testing.assert_array_equal(mapped.predict_proba(rows), fitted.predict_proba(rows))
    assert mapped.similar(rows[:1], k=3).equals(fitted.similar(rows[:1], k=3))
    patient = mapped.fitted_.records[0, "(patient)"]
    mapped.forget([patient])
    mapped.save(tmp_path / "m")  # over the files that it has mapped
    monkeypatch.undo()
    other = nw.load(saved)
    other.forget([patient])
    np.testing.assert_array_equal(nw.load(tmp_path / "m").predict_proba(rows), other.predict_proba(rows))


@pytest.mark.parametrize("value", ["gone", None, "text", -7, 10**9, [], {}])
def test_no_change_of_a_manifest_leads_to_anything_but_a_model_or_an_error_of_our_own(saved, tmp_path, value) -> None:
    """Each part of the manifest in turn is removed or replaced: loading succeeds or raises NearwardError, and allocates little."""
    shutil.copytree(saved, tmp_path / "m")
    n_parts = len(list(every_part(json.loads((saved / MANIFEST).read_text()))))
    for chosen in np.random.default_rng(0).permutation(n_parts)[:60]:
        shutil.copy(saved / MANIFEST, tmp_path / "m" / MANIFEST)

        def edit(body: dict[str, Any], chosen: int = chosen) -> None:
            container, key = list(every_part(body))[chosen]
            if value == "gone":
                del container[key]
            else:
                container[key] = value

        rewrite_manifest(tmp_path / "m", edit)
        with contextlib.suppress(NearwardError):
            nw.load(tmp_path / "m")


@pytest.mark.parametrize("key", ["classes", "config", "columns", "summary", "model", "feature_names_in", "experts", "schema"])
def test_a_manifest_without_a_key_is_refused(saved, tmp_path, key) -> None:
    shutil.copytree(saved, tmp_path / "m")
    rewrite_manifest(tmp_path / "m", lambda body: body.pop(key))
    with pytest.raises(ArtifactError):
        nw.load(tmp_path / "m")


def encoder_parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the packed EncoderConfigs in a manifest."""
    if isinstance(value, dict):
        if value.get("type") == "EncoderConfig":
            yield value["fields"]
        for item in value.values():
            yield from encoder_parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from encoder_parts(item)


@pytest.mark.parametrize("size", ["axes", "hidden", "gate_hidden", "members"])
def test_an_encoder_of_enormous_size_is_refused_before_it_is_built(saved, tmp_path, size) -> None:
    shutil.copytree(saved, tmp_path / "m")
    changed = []

    def enlarge(body: dict[str, Any]) -> None:
        for fields in encoder_parts(body["model"]):
            fields[size] = 10**9
            changed.append(fields)

    rewrite_manifest(tmp_path / "m", enlarge)
    assert changed
    with pytest.raises(ArtifactError, match=r"architecture|describe no network"):
        nw.load(tmp_path / "m")


@pytest.mark.parametrize("part", ["stack", "band"])
def test_a_model_whose_numbers_give_no_finite_risk_raises_and_scores_nobody(fitted, clinic, tmp_path, part) -> None:
    outcome_model = fitted.fitted_.model.outcome_model
    whole = getattr(outcome_model, part)
    numbers = {name: value for name, value in vars(whole).items() if isinstance(value, np.ndarray) and value.dtype.kind == "f"}
    spoiled = dataclasses.replace(whole, **{name: value * np.nan for name, value in numbers.items()})
    model = copy.copy(fitted)
    changed = dataclasses.replace(fitted.fitted_.model, outcome_model=dataclasses.replace(outcome_model, **{part: spoiled}))
    model.fitted_ = dataclasses.replace(fitted.fitted_, model=changed)
    model.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    with pytest.raises(ArtifactError, match="5 of 5 rows have no finite risk"):
        loaded.predict_frame(clinic[0][:5])
