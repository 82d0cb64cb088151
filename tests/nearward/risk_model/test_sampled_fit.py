"""A model of a table beyond the limit: a weighted sample teaches, everybody is indexed, and what is done with it later holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.adaptation.stored_patients import ID, OUTCOME, PATIENT
from nearward.risk_model import binary, fitted
from nearward.risk_model.effort import EFFORTS, Effort, expected_seconds
from nearward.risk_model.external_backbone import ExternalBackboneModel, raw_rows
from nearward.risk_model.fitted import encoder_inputs

ROWS, LIMIT = 1200, 240


def table(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray, list[str]]:
    """Two numbers and a category, patients of one or two rows, an outcome in about one of fourteen rows."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    frame = pl.DataFrame({"a": a, "b": rng.normal(size=n), "c": rng.choice(["x", "y"], n)})
    return frame, (a + rng.normal(size=n) > 2.1).astype(int), [f"{seed}:{i // 2 if i % 3 else i + 10_000}" for i in range(n)]


def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "default", Effort(teaching_rows=LIMIT))


@pytest.fixture(scope="module")
def cohort() -> tuple[pl.DataFrame, np.ndarray, list[str]]:
    return table(ROWS, 0)


@pytest.fixture(scope="module")
def model(cohort) -> Any:
    frame, died, groups = cohort
    with pytest.MonkeyPatch.context() as patch:
        limited(patch)
        patch.setattr(fitted, "ranks_clearly_better", lambda *_: True)  # the in-context model is in use, so that its contexts are tested
        return nw.RiskClassifier(folds=2).fit(frame, died, groups=groups)


def copy_of(model: Any) -> Any:
    other = nw.RiskClassifier(**model.get_params(deep=False))
    other.fitted_ = model.fitted_
    return other


def weighted_rows(model: Any) -> list[float]:
    risk = model.fitted_.model
    return np.bincount(risk.retriever.outcome.astype(int), weights=risk.sampling_weight).tolist()


def test_the_sample_teaches_and_everybody_is_indexed(model: Any, cohort) -> None:
    frame, died, groups = cohort
    risk, records, summary = model.fitted_.model, model.fitted_.records, model.summary_
    assert (summary.rows, summary.events, summary.patients) == (ROWS, died.sum(), len(set(groups)))
    assert summary.taught == risk.taught.sum() < 1.2 * LIMIT
    assert risk.taught[: summary.taught].all()
    assert np.isnan(risk.out_of_fold).tolist() == (~risk.taught).tolist()
    assert weighted_rows(model) == pytest.approx([ROWS - died.sum(), died.sum()])
    number = records[ID].cast(pl.Int64).to_numpy()  # the numbers of the rows in the frame that was given
    assert records.select("a", "b", "c").equals(frame[number])
    assert records[OUTCOME].to_list() == died[number].tolist()
    assert records[PATIENT].to_list() == [groups[i] for i in number]
    assert sum(len(shard.rows) for shard in risk.retriever.shards) == ROWS
    of_patient = pl.DataFrame({"patient": records[PATIENT], "fold": risk.retriever.fold, "taught": risk.taught})
    assert of_patient.group_by("patient").agg(pl.all().n_unique()).select(pl.col("fold", "taught").max()).row(0) == (1, 1)


def test_risks_are_those_of_the_table(model: Any) -> None:
    frame, died, _ = table(3000, 1)
    scores = model.predict_frame(frame)
    assert 0.8 < scores["risk"].sum() / died.sum() < 1.25
    assert model.fitted_.model.trained_prevalence == pytest.approx(model.summary_.events / ROWS)
    assert 0.8 < scores["vote"].sum() / died.sum() < 1.25  # of all indexed rows: no weights, no sample's mixture


def test_votes_come_from_all_rows_and_the_in_context_model_from_those_that_taught(model: Any) -> None:
    risk = model.fitted_.model
    frame = table(50, 2)[0]
    context = risk.context(model.schema_.conform(frame))
    assert (~risk.taught[context.row[context.present]]).mean() > 0.5
    assert len(risk.backbone.outcome) == len(risk.teachers.outcome) == risk.taught.sum()
    similar = model.similar(frame, k=None)
    shares = similar.group_by("row", maintain_order=True).agg((pl.col("weight") * pl.col("outcome")).sum())
    np.testing.assert_allclose(shares["weight"], model.predict_frame(frame)["vote"], atol=1e-9)


def test_stored_rows_that_are_queried_get_what_they_get_among_all(model: Any) -> None:
    risk, records = model.fitted_.model, model.fitted_.records
    inputs = encoder_inputs(risk.table_encoder, risk.encode(records.select("a", "b", "c")))
    rows = np.flatnonzero(risk.taught)[::-7]
    vote, head = risk.retriever.out_of_fold(inputs, model.fitted_.patient_ids)
    some = risk.retriever.out_of_fold(inputs.take(rows), model.fitted_.patient_ids, rows)
    np.testing.assert_array_equal(some[0], vote[rows])
    np.testing.assert_array_equal(some[1], head[rows])


class Share:
    """A backbone of the user's own: the share of events in the context."""

    name = "share"

    def risks(self, context: np.ndarray, outcome: np.ndarray, query: np.ndarray) -> np.ndarray:
        return np.full(len(query), outcome.mean())


def test_an_external_backbone_reads_the_rows_that_taught(model: Any) -> None:
    risk, records = model.fitted_.model, model.fitted_.records
    stored = risk.encode(records.select("a", "b", "c").filter(pl.Series(risk.taught)))
    outcome = risk.teachers.outcome.astype(np.int64)
    external = dataclasses.replace(risk, backbone=ExternalBackboneModel(Share(), raw_rows(risk.table_encoder, stored.numbers), outcome))
    frame = model.schema_.conform(table(30, 8)[0])
    inputs = external.stack_inputs(frame)
    assert np.isfinite(inputs.columns).all()
    np.testing.assert_array_equal(inputs.context.row, risk.context(frame).row)
    fewer = external.without_stored(np.arange(ROWS) % 3 == 0)
    assert len(fewer.backbone.stored) == fewer.taught.sum() < risk.taught.sum()
    assert np.isfinite(fewer.stack_inputs(frame).columns).all()


def test_saved_and_loaded_it_is_the_same(model: Any, tmp_path) -> None:
    frame = table(60, 3)[0]
    model.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    assert loaded.predict_frame(frame).equals(model.predict_frame(frame))
    assert loaded.summary_.taught == model.summary_.taught
    np.testing.assert_array_equal(loaded.fitted_.model.sampling_weight, model.fitted_.model.sampling_weight)
    loaded.save(tmp_path / "without", records=False)
    without = nw.load(tmp_path / "without")
    assert without.predict_frame(frame)["risk"].mean() == pytest.approx(model.predict_frame(frame)["risk"].mean(), rel=0.4)
    assert len(without.fitted_.model.teachers.outcome) == model.summary_.taught


def test_patients_who_taught_and_others_are_forgotten(model: Any) -> None:
    changed, records, taught = copy_of(model), model.fitted_.records, model.fitted_.model.taught
    patients = [*records.filter(pl.Series(taught))[PATIENT][:30], *records.filter(pl.Series(~taught))[PATIENT][:60]]
    removal = changed.forget(patients)
    risk = changed.fitted_.model
    assert removal.stored == ROWS - removal.rows == len(risk.sampling_weight) == len(risk.out_of_fold)
    assert not changed.fitted_.records[PATIENT].is_in(patients).any()
    rows = np.bincount(risk.retriever.outcome.astype(int))
    assert weighted_rows(changed) == pytest.approx(rows.tolist())
    assert risk.base_learners.kernel[0].weight.sum() == pytest.approx(rows.sum())
    assert (removal.check.rows, removal.check.events) == (rows.sum(), rows[1])
    assert 0.7 < removal.check.expected / rows[1] < 1.4
    assert len(risk.backbone.outcome) == risk.taught.sum()
    assert np.isfinite(changed.predict_proba(table(20, 4)[0])).all()


def test_new_patients_stand_for_themselves(model: Any) -> None:
    changed = copy_of(model)
    frame, died, groups = table(100, 5)
    extension = changed.extend(frame, died, groups)
    risk = changed.fitted_.model
    assert (extension.stored, extension.check.rows, extension.check.events) == (ROWS + 100, 100, died.sum())
    assert risk.sampling_weight[ROWS:].tolist() == [1.0] * 100
    assert np.isfinite(risk.out_of_fold[ROWS:]).all()
    assert len(risk.backbone.outcome) == risk.taught.sum() == model.summary_.taught + 100
    assert changed.similar(frame[:1], k=None)["patient"].is_in(changed.fitted_.records[ID][ROWS:].to_list()).any()


def test_a_refit_samples_again_and_keeps_the_records(model: Any, monkeypatch) -> None:
    limited(monkeypatch)
    changed = copy_of(model)
    changed.forget(model.fitted_.records[PATIENT][:5].to_list())
    refitted = changed.set_params(backbone=None).refit()
    assert refitted.fitted_.records.sort(ID).equals(changed.fitted_.records.sort(ID))
    assert refitted.summary_.taught < refitted.summary_.rows == changed.fitted_.records.height
    risk, records = refitted.fitted_.model, refitted.fitted_.records
    assert risk.retriever.outcome.tolist() == records[OUTCOME].to_list()
    queries = records.select("a", "b", "c")[:5]
    context = risk.context(queries)  # a stored row is its own nearest: records and index have the same order
    assert (context.row[np.arange(5), np.where(context.present, context.sq_distance, np.inf).argmin(axis=1)] == np.arange(5)).all()


def test_an_adapted_model_rests_on_the_rows_that_taught(model: Any) -> None:
    frame, died, groups = table(900, 6)
    here = model.adapt(frame.with_columns(pl.col("a") + 0.3), died, groups)
    steps = {step.name: step for step in here.adaptation_.steps}
    assert steps["base learners on both"].log_loss_after is not None
    assert np.isfinite(here.predict_proba(frame[:50])).all()


def test_several_classes(monkeypatch) -> None:
    limited(monkeypatch)
    frame, died, groups = table(900, 7)
    diagnosis = np.where(died == 1, "rare", np.where(frame["b"].to_numpy() > 0.8, "some", "none"))
    model = nw.RiskClassifier(folds=2).fit(frame, diagnosis, groups=groups)
    assert model.summary_.taught < 1.2 * LIMIT < model.summary_.rows == 900
    assert [one.rows for one in model.summary_.out_of_fold.classes] == [(diagnosis == name).sum() for name in ("none", "rare", "some")]
    share = model.predict_proba(frame).mean(axis=0)
    np.testing.assert_allclose(share, [(diagnosis == name).mean() for name in ("none", "rare", "some")], atol=0.03)
    model.forget(model.fitted_.records[PATIENT][:10].to_list())
    assert weighted_rows(model) == pytest.approx(np.bincount(model.fitted_.model.retriever.outcome.astype(int)).tolist())


@pytest.mark.parametrize("better", [True, False])
def test_of_many_rows_the_in_context_model_predicts_a_sample_of_one_fold_first(better: bool, monkeypatch) -> None:
    monkeypatch.setattr(binary, "_TRIED_AT_ONCE", 100)
    monkeypatch.setattr(binary, "_TRIAL_ROWS", 60)
    asked: list[tuple[int, ...]] = []

    def ranks_better(fit: Any, risk: np.ndarray, rows: np.ndarray, sample: Any, seed: int) -> bool:
        asked.append((len(risk), len(rows), (sample.fold == 0).sum(), 60))
        assert sample.n_rows == pytest.approx(120)  # of the fold, for which the sample stands
        plain = fitted.ranks_better_with(fit, risk, rows, sample, seed)
        of_outcome = fitted.ranks_better_with(fit, 0.1 + 0.8 * sample.outcome, rows, sample, seed)
        assert of_outcome  # risks that are the outcome help
        assert isinstance(plain, bool)
        return better

    monkeypatch.setattr(binary, "ranks_better_with", ranks_better)
    frame, died, groups = table(240, 9)
    backbone = nw.RiskClassifier(folds=2).fit(frame, died, groups=groups).summary_.backbone
    assert len(asked) == 1
    assert len(set(asked[0])) == 1
    assert (backbone.auprc is not None) == better
    assert better or (not backbone.in_use and "one fold" in backbone.why)


def test_the_time_is_that_of_the_rows_that_teach() -> None:
    limit = EFFORTS["default"].teaching_rows
    learning = expected_seconds(limit, 20, "default", 2)
    assert expected_seconds(10 * limit, 20, "default", 2) < 3 * learning
    assert dataclasses.asdict(EFFORTS["fast"])["teaching_rows"] < limit
