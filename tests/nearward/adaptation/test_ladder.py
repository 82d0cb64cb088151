"""Adaptation to a site: a step is used only where local patients bear it, the source model stays, what is unusable is refused."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss

import nearward as nw
from nearward.adaptation import ladder
from nearward.adaptation.ladder import STEPS, TOO_FEW
from nearward.tabular.calibration.log_odds import expit, logit
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import DataWarning, InputError

RENAMED = {"leeftijd": "age"}


def site(n: int, seed: int, shift: float = 0.0) -> tuple[pl.DataFrame, np.ndarray]:
    """A hospital whose patients have the outcome more often by ``shift`` on the log-odds."""
    rng = np.random.default_rng(seed)
    age, lactate = rng.normal(60, 12, n), np.exp(rng.normal(0.3, 0.6, n))
    log_odds = 0.06 * (age - 60) + 1.5 * np.log(lactate) - 2.0 + shift
    return pl.DataFrame({"age": age, "lactate": lactate}), (rng.random(n) < expit(log_odds)).astype(int)


@pytest.fixture(scope="module")
def model() -> Any:
    return nw.RiskClassifier(random_state=0, folds=2, backbone=None).fit(*site(260, 0))


@pytest.fixture(scope="module")
def here(model: Any) -> Any:
    return model.adapt(*site(240, 1, 1.5))


def test_another_level_is_found_and_saved(model: Any, here: Any, tmp_path) -> None:
    adaptation = here.adaptation_
    assert [step.name for step in adaptation.steps] == list(STEPS)
    assert "intercept" in adaptation.used
    assert adaptation.log_loss_adapted < adaptation.log_loss_source - 0.05
    for step in adaptation.steps:
        if step.gain is not None and step.standard_error is not None:
            shrunk = step.name in ("intercept", "intercept and slope")
            assert step.used == (step.gain > (-step.standard_error if shrunk else step.standard_error))
            assert step.gain == pytest.approx(step.log_loss_before - step.log_loss_after)
    frame, died = site(1500, 2, 1.5)
    before, after = (one.predict_proba(frame)[:, 1].mean() for one in (model, here))
    assert abs(after - died.mean()) < 0.05 < abs(before - died.mean())
    scores = here.predict_frame(frame[:50])
    assert (scores["low"] <= scores["risk"]).all()
    assert (scores["risk"] <= scores["high"]).all()
    here.save(tmp_path / "m")
    loaded = nw.load(tmp_path / "m")
    assert loaded.adaptation_ == adaptation
    assert loaded.predict_frame(frame[:50]).equals(scores)
    adaptation.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "observed here" in page
    assert ">gain</th>" in page
    assert f"{adaptation.events} events occurred in these rows" in page
    with pytest.raises(AttributeError, match="not adapted"):
        model.adaptation_  # noqa: B018


def test_few_events_move_the_level_alone_and_little(model: Any) -> None:
    frame, died = site(60, 3)
    rows = np.sort(np.concatenate([np.flatnonzero(died == 0), np.flatnonzero(died)[:6]]))
    adaptation = model.adapt(frame[rows], died[rows]).adaptation_
    assert all(step.why == TOO_FEW and step.log_loss_after is None for step in adaptation.steps[1:])
    assert adaptation.slope == 1
    assert 0 < abs(adaptation.intercept) < 0.25
    assert adaptation.band == "the band of the model as it came, recalibrated"


def test_a_deployed_prevalence_is_the_level_from_which_it_starts(model: Any) -> None:
    rare = nw.RiskClassifier(**model.get_params(deep=False))
    fitted = model.fitted_
    rare.fitted_ = dataclasses.replace(fitted, model=dataclasses.replace(fitted.model, prevalence=0.5))
    frame, died = site(25, 5)
    rows = np.concatenate([np.flatnonzero(died == 0)[:15], np.flatnonzero(died)[:5]])
    adapted = rare.adapt(frame[rows], died[rows])
    risk = rare.predict_proba(frame[rows])[:, 1]
    loss = -np.mean(np.where(died[rows] == 1, np.log(risk), np.log(1 - risk)))
    assert adapted.adaptation_.log_loss_source == pytest.approx(loss)
    moved = logit(adapted.predict_proba(frame)[:, 1], 1e-9) - logit(rare.predict_proba(frame)[:, 1], 1e-9)
    np.testing.assert_allclose(moved, adapted.adaptation_.intercept, atol=1e-9)


def test_names_and_columns_of_the_site(model: Any) -> None:
    frame, died = site(120, 6)
    theirs = frame.rename({"age": "leeftijd"}).drop("lactate")
    with pytest.warns(DataWarning) as caught:
        adapted = model.adapt(theirs, died, columns=RENAMED)
    assert ["the site lacks the columns ['lactate']" in str(one.message) for one in caught] == [True]
    assert adapted.adaptation_.missing_columns == ("lactate",)
    assert adapted.adaptation_.renamed == RENAMED
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = adapted.predict_frame(site(200, 9)[0].drop("lactate"))
    assert abs(scores["novelty"].mean() - 0.5) < 0.1  # a column that nobody has here makes nobody novel
    with pytest.raises(InputError, match="maps to names that are taken"):
        model.adapt(frame.with_columns(other=1.0), died, columns={"other": "age"})
    with pytest.raises(InputError, match="none of the model's columns"):
        model.adapt(pl.DataFrame({"x": [1.0] * 120}), died)


def test_what_is_refused(model: Any) -> None:
    frame, died = site(80, 7)
    with pytest.raises(InputError, match=r"another unit than the model's, or of another kind: \['lactate'\]"):
        model.adapt(frame.with_columns(pl.col("lactate") * 1000), died)
    with pytest.raises(InputError, match=r"one outcome only \(0 events in 80 rows\)"):
        model.adapt(frame, [0] * 80)
    training, outcome = site(260, 0)
    with pytest.raises(InputError, match="100 of 100 rows are identical to training rows"):
        model.adapt(training[:100], outcome[:100])
    mixed = pl.concat([frame, training[:10]])
    with pytest.warns(DataWarning, match="10 of 90 rows are identical to training rows"):
        model.adapt(mixed, np.append(died, outcome[:10]))


def test_steps_that_store_and_refit_hold_all_patients_and_can_be_undone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = ladder._Ladder.judge

    def use_all(self: Any, name: str, candidate: Any, detail: str, *, shrunk: bool = False) -> bool:
        judge(self, name, candidate, detail, shrunk=shrunk)
        self.version = candidate
        self.steps[-1] = dataclasses.replace(self.steps[-1], used=True)
        return True

    monkeypatch.setattr(ladder._Ladder, "judge", use_all)
    frame, died = site(240, 8, 1.5)
    adapted = model.adapt(frame, died)
    assert adapted.adaptation_.used == STEPS
    risk, records = adapted.fitted_.model, adapted.fitted_.records
    assert records.height == len(risk.out_of_fold) == len(risk.retriever.row_weight) == 500
    local = risk.retriever.row_weight[260:]
    assert set(local) <= {1.0, 5.0}
    assert set(risk.retriever.row_weight[:260]) == {1.0}
    assert not (risk.base_learners.folds[0].logistic_weights == model.fitted_.model.base_learners.folds[0].logistic_weights).all()
    test, outcome = site(1500, 9, 1.5)
    loss = [log_loss(outcome, one.predict_proba(test)[:, 1]) for one in (model, adapted)]
    assert loss[1] < loss[0] - 0.05
    assert adapted.forget([records["(patient)"][-1]]).rows == 1
    assert (adapted.similar(test[:1], k=3)["weight"] > 0).all()


def test_base_learners_are_fitted_again_on_as_many_draws_of_folds(model: Any) -> None:
    risk, (frame, died) = model.fitted_.model, site(260, 0)
    data = TrainingData(died, np.arange(260), risk.retriever.fold)
    draws = []
    for repeats in (1, 2):
        learners = dataclasses.replace(risk.base_learners, folds=risk.base_learners.folds * repeats)
        refitted, _ = dataclasses.replace(risk, base_learners=learners).refitted(frame, data, np.arange(260), 0, lambda _: None)
        draws.append(len(refitted.base_learners.folds) // data.n_folds)
    assert draws == [1, 2]
