"""Patients added to and removed from a model: the same as an index built anew, nothing of a removed one left, refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.adaptation.stored_patients import ID, OUTCOME, PATIENT, check_calibration, deal
from nearward.retrieval.neighbors.index import Shard
from nearward.risk_model.fitted import encoder_inputs
from nearward.tabular.errors import InputError, TooFewEvents


def patients(n: int, seed: int, first: int = 0) -> tuple[pl.DataFrame, np.ndarray, list[str]]:
    """Rows with an id, of patients with one or two rows each; one in five has the outcome."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    frame = pl.DataFrame({"id": [f"r{first + i}" for i in range(n)], "a": a, "b": rng.normal(size=n), "c": rng.choice(["x", "y"], n)})
    groups = [f"p{(first + i) // 2 if i % 3 else first + i + 10_000}" for i in range(n)]
    return frame, (a + 0.7 * rng.normal(size=n) > 1).astype(int), groups


@pytest.fixture(scope="module")
def model() -> Any:
    frame, died, groups = patients(240, 0)
    schema = nw.Schema.infer(frame).with_roles(id="id")
    return nw.RiskClassifier(random_state=0, folds=3, backbone=None, schema=schema).fit(frame, died, groups=groups)


def copy_of(model: Any) -> Any:
    other = nw.RiskClassifier(**model.get_params(deep=False))
    other.fitted_ = model.fitted_
    return other


def built_anew(model: Any) -> Any:
    """The same encoders with indexes of nothing but the records that are stored."""
    risk, records = model.fitted_.model, model.fitted_.records
    rows = risk.encode(records.select(model.schema_.named("feature")))
    inputs = encoder_inputs(risk.table_encoder, rows)
    shards = []
    for f in range(len(risk.retriever.shards)):
        member = np.flatnonzero(risk.retriever.fold == f)
        shards.append(Shard(risk.retriever.embed(f, inputs.take(member))[0].astype(np.float32), member))
    outcome = records.get_column("(outcome)").to_numpy().astype(float)
    return dataclasses.replace(risk.retriever, shards=tuple(shards), outcome=outcome)


def assert_same_contexts(model: Any, setting: Any) -> None:
    queries, _, _ = patients(40, 9, 5000)
    risk = model.fitted_.model
    inputs = encoder_inputs(risk.table_encoder, risk.encode(model.schema_.conform(queries)))
    contexts = [
        dataclasses.replace(retriever, setting=setting).context(inputs)[0]
        if len(model.classes_) > 2
        else retriever.contexts(inputs, (setting,))[0][0]
        for retriever in (risk.retriever, built_anew(model))
    ]
    ours, anew = contexts
    for name in ("row", "weight", "outcome", "sq_distance", "floored"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(anew, name))


def test_extended_and_forgotten_are_as_an_index_built_anew(model: Any) -> None:
    changed = copy_of(model)
    before = model.predict_frame(patients(40, 9, 5000)[0])
    frame, died, groups = patients(60, 1, 1000)
    groups[:2] = [model.fitted_.records[0, PATIENT]] * 2  # somebody who is stored already
    extension = changed.extend(frame, died, groups)
    assert (extension.rows, extension.events, extension.known_patients, extension.stored) == (60, died.sum(), 1, 300)
    assert sum(extension.rows_by_shard) == 60
    assert max(extension.rows_by_shard) - min(extension.rows_by_shard) <= 4
    setting = dataclasses.replace(model.fitted_.model.retriever.setting, neighbours=30, floor=True)
    assert_same_contexts(changed, setting)
    removed = sorted({*groups[10:30], *model.fitted_.records[PATIENT][20:60].to_list()})
    removal = changed.forget([*removed, "nobody"])
    assert (removal.patients, removal.not_stored) == (len(removed), 1)
    assert removal.stored == 300 - removal.rows == changed.fitted_.records.height
    assert_same_contexts(changed, setting)
    scores = changed.predict_frame(patients(40, 9, 5000)[0])
    assert (scores["vote"] != before["vote"]).any()
    assert model.predict_frame(patients(40, 9, 5000)[0]).equals(before)  # the original is as it was


@pytest.fixture(scope="module")
def classes_model() -> Any:
    frame, ward, groups = wards(200, 0)
    schema = nw.Schema.infer(frame).with_roles(id="id")
    return nw.RiskClassifier(random_state=0, folds=2, encoder=nw.EncoderConfig(steps=30), schema=schema).fit(frame, ward, groups=groups)


def wards(n: int, seed: int, first: int = 0) -> tuple[pl.DataFrame, list[str], list[str]]:
    """The rows of ``patients`` with three classes."""
    frame, died, groups = patients(n, seed, first)
    ward = np.where(died == 1, "ICU", np.where(frame["b"] > 0.3, "surgical", "medical"))
    return frame, ward.tolist(), groups


def test_several_classes_are_extended_and_forgotten_alike(classes_model: Any, tmp_path) -> None:
    changed = copy_of(classes_model)
    queries = wards(20, 9, 5000)[0]
    before = changed.predict_proba(queries)
    frame, ward, groups = wards(40, 1, 1000)
    extension = changed.extend(frame, ward, groups)
    assert (extension.rows, extension.stored, extension.check) == (40, 240, None)
    assert extension.events == 40 - ward.count("medical")  # outside the commonest class
    assert_same_contexts(changed, dataclasses.replace(changed.fitted_.model.retriever.setting, neighbours=30))
    removed = changed.fitted_.records[PATIENT].unique(maintain_order=True)[50:70].to_list()
    removal = changed.forget(removed)
    assert (removal.patients, removal.stored) == (20, 240 - removal.rows)
    assert_same_contexts(changed, dataclasses.replace(changed.fitted_.model.retriever.setting, neighbours=30))
    changed.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    after = loaded.predict_proba(queries)
    np.testing.assert_array_equal(after, changed.predict_proba(queries))
    np.testing.assert_allclose(after.sum(axis=1), 1)
    assert (after != before).any()
    assert not loaded.fitted_.records[PATIENT].is_in(removed).any()
    similar = loaded.similar(queries[:2], k=5)
    assert set(similar["outcome"]) <= {"ICU", "medical", "surgical"}


def test_what_is_refused_with_several_classes(classes_model: Any) -> None:
    changed = copy_of(classes_model)
    frame, ward, groups = wards(10, 4, 7000)
    with pytest.raises(InputError, match="1 of 10 rows have an outcome that the model was not fitted on"):
        changed.extend(frame, [*ward[1:], "morgue"], groups)
    with pytest.raises(InputError, match="adapt is for an outcome with two values, got 3 classes"):
        changed.adapt(frame, ward, groups)
    code = int(np.flatnonzero(changed.classes_ == "ICU")[0])
    icu = changed.fitted_.records.filter(pl.col("(outcome)") == code)[PATIENT].unique(maintain_order=True).to_list()
    with pytest.raises(TooFewEvents, match="remain stored"):
        changed.forget(icu[:-2])
    assert changed.fitted_ is classes_model.fitted_


def test_no_patient_is_indexed_by_an_encoder_that_learned_from_him(model: Any) -> None:
    changed = copy_of(model)
    frame, died, _ = patients(30, 2, 2000)
    stored = model.fitted_.records[PATIENT].to_list()
    changed.extend(frame, died, stored[:30])
    fold = changed.fitted_.model.retriever.fold
    shards = pl.DataFrame({"patient": changed.fitted_.records[PATIENT], "number": changed.fitted_.patient_ids, "fold": fold})
    assert shards.group_by("patient").agg(pl.all().n_unique()).select(pl.col("number", "fold").max()).row(0) == (1, 1)


def test_nothing_of_a_forgotten_patient_is_left_in_the_files(model: Any, tmp_path) -> None:
    changed = copy_of(model)
    who = model.fitted_.records.row(5, named=True)
    kernel = model.fitted_.model.base_learners.kernel[0]
    number = model.fitted_.patient_ids[5]
    assert number in kernel.patient_ids
    removal = changed.forget([who[PATIENT]])
    changed.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    assert not loaded.fitted_.records[ID].is_in([who[ID]]).any()
    assert not (loaded.fitted_.records["a"] == who["a"]).any()
    risk = loaded.fitted_.model
    for regression in risk.base_learners.kernel:
        assert number not in regression.patient_ids
        assert regression.weight.sum() == pytest.approx(removal.stored)
    assert len(risk.out_of_fold) == len(risk.retriever.outcome) == removal.stored == loaded.fitted_.records.height
    assert sum(len(shard.rows) for shard in risk.retriever.shards) == removal.stored
    assert "trees" in removal.still_fitted
    assert loaded.fitted_.forgotten == 1
    assert str(who["a"]).encode() not in b"".join(path.read_bytes() for path in (tmp_path / "m").iterdir())


def test_refit_knows_the_remaining_patients_alone(model: Any) -> None:
    changed = copy_of(model)
    removal = changed.forget(model.fitted_.records[PATIENT][:20].to_list())
    fitted = changed.refit()
    assert fitted.summary_.rows == removal.stored
    assert fitted.fitted_.forgotten == 0
    assert fitted.schema_ == model.schema_
    assert fitted.event_ == model.event_
    queries = patients(5, 3, 3000)[0]
    assert fitted.similar(queries[:1], k=3)["patient"].is_in(changed.fitted_.records[ID].to_list()).all()


def test_what_is_refused(model: Any, tmp_path) -> None:
    changed = copy_of(model)
    frame, died, groups = patients(10, 4)
    with pytest.raises(InputError, match="10 of 10 new rows have the id of a stored row"):
        changed.extend(frame, died, groups)
    new, _, _ = patients(10, 4, 7000)
    with pytest.raises(InputError, match="1 of 10 rows have an outcome that the model was not fitted on"):
        changed.extend(new, [0] * 9 + [7])
    known = model.fitted_.records[:10]
    with pytest.raises(InputError, match="10 of 10 rows are identical to stored rows"):
        changed.extend(new.with_columns(known.select("a", "b", "c")), known[OUTCOME])
    with pytest.raises(InputError, match=r"none of the 2 ids is of a stored patient.*else the numbers of the rows from 0"):
        changed.forget(["nobody", "no one"])
    events = model.fitted_.records.filter(pl.col("(outcome)") == 1)[PATIENT].unique(maintain_order=True).to_list()
    with pytest.raises(TooFewEvents, match="events are too few to remain stored; at least 10 are needed"):
        changed.forget(events[:-2])
    assert changed.fitted_ is model.fitted_


def test_patients_are_dealt_evenly() -> None:
    events = np.array([1, 0, 0, 1, 0, 1])
    shard = deal(np.full(6, -1), events, np.ones(6, dtype=int), np.array([4, 0, 0]), np.array([2, 0, 0]))
    assert np.bincount(shard[events == 1], minlength=3).tolist() in ([0, 2, 1], [0, 1, 2])
    assert sorted(np.bincount(shard, minlength=3).tolist()) == [0, 3, 3]  # the first shard had four already


def test_calibration_of_weighted_rows_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    log_odds, times = rng.normal(-1, 1, 150), rng.integers(1, 6, 150)
    outcome = (rng.random(150) < 1 / (1 + np.exp(-log_odds))).astype(float)
    weighted = check_calibration(log_odds, outcome, times.astype(float))
    repeated = check_calibration(np.repeat(log_odds, times), np.repeat(outcome, times))
    assert dataclasses.astuple(weighted) == pytest.approx(dataclasses.astuple(repeated))
