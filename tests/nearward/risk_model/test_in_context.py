"""The embedded in-context model on a cohort: who gets the vote, what it may know, when it is used, and what an adapter needs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest

import nearward as nw
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.neighbors.binary import Retriever, fit_retriever
from nearward.retrieval.neighbors.voting import RetrievalSetting
from nearward.risk_model import binary as fitted
from nearward.risk_model import in_context as embedded
from nearward.risk_model.in_context import InContextModel, StoredRows, fit_in_context_model
from nearward.risk_model.summary import AdapterSummary, BackboneSummary
from nearward.tabular.data.splits import split_patients
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.in_context.checkpoint import load_net
from nearward.tabular.in_context.lora import ADAPTED, FEWEST_EVENTS, fit_adapter

FEW = EncoderConfig(steps=30)


def silent(words: str) -> None:
    pass


def make_stored_rows(seed: int = 0, n: int = 400, patients: int = 300) -> tuple[StoredRows, Retriever]:
    """Stored rows whose experts know something, and a retriever for them."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.append(np.arange(patients), rng.integers(0, patients, n - patients)))
    x = rng.normal(size=(n, 6))
    signal = 1.5 * x[:, 0] + x[:, 1] * x[:, 2] - 1
    outcome = (rng.random(n) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    score = signal[:, None] + rng.normal(size=(n, 4)) * [0.5, 1, 2, 4]
    value = np.where(rng.random(x.shape) < 0.1, np.nan, x)
    data = TrainingData(outcome, group, split_patients(outcome, group, 5, 0))
    retriever, *_ = fit_retriever(np.nan_to_num(value), data, FEW, 0, silent)
    return StoredRows(value, score, EncoderInputs.of(np.nan_to_num(value)), data), retriever


def with_outcome(rows: StoredRows, outcome: np.ndarray) -> StoredRows:
    return dataclasses.replace(rows, data=dataclasses.replace(rows.data, outcome=outcome))


@pytest.fixture(scope="module")
def stored() -> tuple[StoredRows, Retriever]:
    return make_stored_rows()


# ---- what it says -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 3])
def test_the_risk_is_the_weighted_share_of_events(stored: tuple[StoredRows, Retriever], members: int) -> None:
    rows, retriever = stored
    model, out_of_fold, adapter = fit_in_context_model(rows, retriever, members, False, 0, silent)
    contexts, _ = retriever.contexts(rows.inputs.take(slice(50)), model.settings)
    risk, weighted = model.predict(rows.features[:50], rows.scores[:50], contexts)
    np.testing.assert_allclose(weighted.weight.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose((weighted.weight * weighted.outcome).sum(axis=1), risk, atol=1e-6)
    assert (weighted.weight >= 0).all()
    np.testing.assert_array_equal(weighted.outcome[weighted.row >= 0], rows.data.outcome[weighted.row[weighted.row >= 0]])
    for line in weighted.row:
        present = line[line >= 0]
        assert len(set(present)) == len(present)
    assert out_of_fold.shape == (400,)
    assert adapter is None


def test_members_are_averaged_over_different_columns_and_contexts(stored: tuple[StoredRows, Retriever]) -> None:
    rows, retriever = stored
    model, *_ = fit_in_context_model(rows, retriever, 3, False, 0, silent)
    first, second, third = model.views
    assert [view.setting.neighbours for view in model.views] == [128, 64, 250]
    assert (len(first.columns), len(first.experts)) == (6, 4)
    assert (len(second.columns), len(second.experts)) == (4, 3)
    assert set(second.columns) != set(third.columns) or set(second.experts) != set(third.experts)
    queries = slice(0, 40)
    contexts, _ = retriever.contexts(rows.inputs.take(queries), model.settings)
    alone = []
    for view, context in zip(model.views, contexts, strict=True):
        one = InContextModel(model.net, (view,), rows.features, rows.scores, rows.data.outcome)
        alone.append(one.predict(rows.features[queries], rows.scores[queries], [context])[0])
    np.testing.assert_allclose(model.predict(rows.features[queries], rows.scores[queries], contexts)[0], np.mean(alone, axis=0), atol=1e-9)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_it_ranks_at_least_as_well_as_the_experts_mean(stored: tuple[StoredRows, Retriever]) -> None:
    from sklearn.metrics import roc_auc_score

    rows, retriever = stored
    _, out_of_fold, _ = fit_in_context_model(rows, retriever, 1, False, 0, silent)
    mean = rows.scores.mean(axis=1)
    assert roc_auc_score(rows.data.outcome, out_of_fold) > roc_auc_score(rows.data.outcome, mean) - 0.02


def test_the_right_patient_gets_the_vote() -> None:
    """Copies of stored patients are asked about, every column and score alike: each one's own original leads those of his outcome."""
    rows, retriever = make_stored_rows(seed=1)
    model, *_ = fit_in_context_model(rows, retriever, 1, False, 0, silent)
    queries = np.arange(0, 400, 8)
    (context,), _ = retriever.contexts(rows.inputs.take(queries), model.settings)
    _, weighted = model.predict(rows.features[queries], rows.scores[queries], [context])
    place, share = [], []
    for i, original in enumerate(queries):
        kin = (weighted.row[i] >= 0) & (weighted.outcome[i] == rows.data.outcome[original])
        weight = weighted.weight[i][kin]
        own = float(weight[weighted.row[i][kin] == original].sum())
        place.append((weight > own + 1e-12).sum() / len(weight))
        share.append(own / weight.mean())
    assert np.mean(np.array(place) < 0.1) > 0.9
    assert np.median(share) > 2


def test_a_patients_own_outcome_is_not_known_where_he_is_judged(stored: tuple[StoredRows, Retriever]) -> None:
    rows, retriever = stored
    _, before, _ = fit_in_context_model(rows, retriever, 1, False, 0, silent)
    repeated = np.flatnonzero(np.bincount(rows.data.patient_ids) > 1)
    own = np.isin(rows.data.patient_ids, repeated[:1])
    assert own.sum() > 1
    turned = with_outcome(rows, np.where(own, 1 - rows.data.outcome, rows.data.outcome))
    _, after, _ = fit_in_context_model(turned, retriever, 1, False, 0, silent)
    np.testing.assert_allclose(after[own], before[own], atol=1e-9)
    assert np.abs(after - before).max() > 1e-6  # others do hear of it


def test_state_goes_round(stored: tuple[StoredRows, Retriever]) -> None:
    rows, retriever = stored
    model, *_ = fit_in_context_model(rows, retriever, 2, False, 0, silent)
    again = InContextModel.from_state(model.state())
    contexts, _ = retriever.contexts(rows.inputs.take(slice(20)), model.settings)
    (_, one), (_, other) = (m.predict(rows.features[:20], rows.scores[:20], contexts) for m in (model, again))
    np.testing.assert_array_equal(one.weight, other.weight)


# ---- adapter ------------------------------------------------------------------------------------------------------------------------


def test_an_adapter_needs_events(stored: tuple[StoredRows, Retriever]) -> None:
    rows, retriever = stored
    few = np.flatnonzero(rows.data.outcome == 1)[FEWEST_EVENTS - 1 :]
    thinned = with_outcome(rows, np.where(np.isin(np.arange(400), few), 0, rows.data.outcome))
    model, _, adapter = fit_in_context_model(thinned, retriever, 1, True, 0, silent)
    assert adapter == AdapterSummary(False, f"skipped: {FEWEST_EVENTS - 1} events, an adapter needs {FEWEST_EVENTS}")
    assert model.net is load_net()


@pytest.mark.parametrize("helps", [True, False])
def test_an_adapter_is_used_only_where_it_ranks_better(
    stored: tuple[StoredRows, Retriever], helps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, retriever = stored
    if not helps:  # one that turns every risk round

        def turn(net: Any, *_: Any) -> Any:
            turned = type(net)(net.config)
            turned.load_state_dict(net.state_dict())
            turned.expert_weighting.bias.data[-2:] = 0
            turned.expert_weighting.weight.data[:] = -5 * turned.expert_weighting.weight.data
            return turned.eval().requires_grad_(False)

        monkeypatch.setattr(embedded, "fit_adapter", turn)
    else:  # the network before was worse
        spoiled = load_net()
        worse = type(spoiled)(spoiled.config)
        worse.load_state_dict(spoiled.state_dict())
        worse.expert_weighting.weight.data[:] = -5 * worse.expert_weighting.weight.data
        monkeypatch.setattr(embedded, "load_net", lambda: worse.eval().requires_grad_(False))
        monkeypatch.setattr(embedded, "fit_adapter", lambda *_: spoiled)
    model, out_of_fold, adapter = fit_in_context_model(rows, retriever, 1, True, 0, silent)
    assert adapter.in_use is helps
    assert (adapter.auprc_with > adapter.auprc_without) is helps
    from sklearn.metrics import average_precision_score

    assert average_precision_score(rows.data.outcome, out_of_fold) == pytest.approx(max(adapter.auprc_with, adapter.auprc_without))
    assert model.net is (load_net() if helps else embedded.load_net())


def test_an_adapter_learns_and_leaves_the_network_as_it_was(stored: tuple[StoredRows, Retriever], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cohort whose experts are wrong (turned round), the adapted network does better on the very questions it learned from."""
    rows, retriever = stored
    recorded: dict[str, Any] = {}

    def remember(net: Any, questions: Any, outcomes: Any, seed: int) -> Any:
        recorded.update(net=net, questions=questions, outcomes=outcomes)
        return fit_adapter(net, questions, outcomes, seed)

    monkeypatch.setattr(embedded, "fit_adapter", remember)
    fit_in_context_model(rows, retriever, 1, True, 0, silent)
    before = {name: value.clone() for name, value in recorded["net"].named_parameters()}
    monkeypatch.setattr("nearward.tabular.in_context.lora._MAX_EPOCHS", 30)
    adapted = fit_adapter(recorded["net"], recorded["questions"], recorded["outcomes"], 1)
    assert all((value == before[name]).all() for name, value in recorded["net"].named_parameters())
    assert any((value != before[name]).any() for name, value in adapted.named_parameters())
    changed = {n.split(".")[0] for n, v in adapted.named_parameters() if (v != before[n]).any()}
    assert changed <= set(ADAPTED)

    def loss(net: Any) -> float:
        risk = np.concatenate([embedded.predict_risk(net, q)[0] for q in recorded["questions"]])
        y = np.concatenate(recorded["outcomes"])
        return -float(np.mean(y * np.log(risk) + (1 - y) * np.log1p(-risk)))

    assert loss(adapted) < loss(recorded["net"])


# ---- in RiskClassifier --------------------------------------------------------------------------------------------------------------


def test_the_summary_has_whether_it_is_in_use(fitted: nw.RiskClassifier) -> None:
    backbone = fitted.summary_.backbone
    assert backbone.name == "embedded"
    assert backbone.in_use == (backbone.auprc_with > backbone.auprc_without)
    assert ("in-context model" in fitted.summary_.out_of_fold.base_learners) == backbone.in_use


@pytest.mark.parametrize("useful", [True, False])
def test_it_earns_its_place(clinic: Any, useful: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are nothing but noise leave the panel alone; answers that know the outcome do not."""
    frame, died, patient = (part[:300] for part in clinic)
    real = fit_in_context_model

    def patched(rows: StoredRows, *rest: Any) -> Any:
        model, risk, account = real(rows, *rest)
        noise = np.random.default_rng(1).random(len(risk))
        return model, np.where(rows.data.outcome == 1, 0.5, 0.2) + 0.3 * noise if useful else noise, account

    monkeypatch.setattr(fitted, "fit_in_context_model", patched)
    model = nw.RiskClassifier(encoder=FEW).fit(frame, died, groups=patient)
    backbone = model.summary_.backbone
    assert backbone.in_use is useful
    if useful:
        assert "in-context model" in model.summary_.out_of_fold.base_learners
        return
    assert "not rank clearly better" in model.summary_.backbone.why
    alone = nw.RiskClassifier(encoder=FEW, backbone=None).fit(frame, died, groups=patient)
    assert alone.summary_.backbone == BackboneSummary(False, "none was requested")
    new = clinic[0][500:]
    assert model.predict_frame(new).equals(alone.predict_frame(new))
    assert model.similar(new[:3]).equals(alone.similar(new[:3]))


@pytest.mark.usefixtures("opened")
def test_members_and_adapter_survive_saving_and_nothing_opens_a_socket(clinic: Any, tmp_path: Any) -> None:
    frame, died, patient = (part[:300] for part in clinic)
    model = nw.RiskClassifier(encoder=FEW, members=2, adapter=True).fit(frame, died, groups=patient)
    assert model.summary_.backbone.adapter is not None
    model.save(tmp_path / "model")
    again = nw.load(tmp_path / "model")
    assert (again.backbone, again.members, again.adapter) == ("embedded", 2, True)
    new = clinic[0][500:]
    assert again.predict_frame(new).equals(model.predict_frame(new))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"members": 0}, "members must be a whole number from 1 to 32"),
        ({"members": 2.5}, "members must be"),
        ({"adapter": "yes"}, "adapter must be True or False"),
        ({"backbone": "embeded"}, "did you mean 'embedded'"),
        ({"backbone": None, "adapter": True}, 'need backbone="embedded"'),
        ({"backbone": None, "members": 2}, 'need backbone="embedded"'),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_fitted(clinic: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nw.RiskClassifier(**wrong).fit(clinic[0][:300], clinic[1][:300])


def test_missing_weights_are_an_artefact_error(clinic: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(embedded, "load_net", lambda: load_net(tmp_path / "gone.safetensors"))
    with pytest.raises(ArtifactError, match="weights are missing"):
        nw.RiskClassifier(encoder=FEW).fit(clinic[0][:300], clinic[1][:300])


# ---- an object of the user's own ----------------------------------------------------------------------------------------------------


class Linear:
    """A logistic regression of each context."""

    name = "linear"

    def risks(self, context: np.ndarray, outcome: np.ndarray, query: np.ndarray) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        line = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(np.nan_to_num(context), outcome)
        return line.predict_proba(np.nan_to_num(query))[:, 1]


class Same(Linear):
    name = "another"


@pytest.fixture(scope="module")
def own() -> tuple[pl.DataFrame, np.ndarray, nw.RiskClassifier]:
    """Risks that a line in each neighbourhood knows, and other experts do not."""
    rng = np.random.default_rng(4)
    n = 360
    frame = pl.DataFrame({f"x{j}": rng.normal(100 * j, 1 + j, n) for j in range(4)}).with_columns(
        make_stored_rows=pl.Series(rng.choice(["a", "b"], n))
    )
    signal = 1.5 * frame["x0"].to_numpy() - 1
    outcome = (rng.random(n) < 1 / (1 + np.exp(-signal))).astype(int)
    return frame, outcome, nw.RiskClassifier(backbone=Linear(), encoder=FEW).fit(frame[:240], outcome[:240])


def test_any_object_judges_by_raw_rows(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, _, model = own
    assert model.summary_.backbone.name == "linear"
    seen: list[np.ndarray] = []
    monkeypatch.setattr(Linear, "risks", lambda self, context, outcome, query: seen.append(context) or np.full(len(query), 0.3))
    nw.RiskClassifier(backbone=Linear(), encoder=FEW).fit(frame[:120], own[1][:120])
    rows = np.concatenate(seen)
    np.testing.assert_allclose(np.nanmedian(rows[:, :4], axis=0), [0, 100, 200, 300], atol=1)
    assert set(np.unique(rows[:, 4])) == {0.0, 1.0}


def test_an_object_of_the_users_own_is_passed_again_at_loading(own: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    frame, outcome, _ = own
    monkeypatch.setattr("nearward.risk_model.fitted.ranks_clearly_better", lambda *_: True)  # whatever is tried is kept
    model = nw.RiskClassifier(backbone=Linear(), encoder=FEW).fit(frame[:240], outcome[:240])
    assert model.summary_.backbone.in_use
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match=r"backbone of your own, 'linear': pass it again, load\(folder, backbone=…\)"):
        nw.load(tmp_path / "model")
    with pytest.raises(InputError, match="needs the backbone 'linear', got 'another'"):
        nw.load(tmp_path / "model", backbone=Same())
    again = nw.load(tmp_path / "model", backbone=Linear())
    assert again.predict_frame(frame[240:]).equals(model.predict_frame(frame[240:]))
    assert again.similar(frame[240:243], k=None).equals(model.similar(frame[240:243], k=None))


def test_the_class_floor_is_taken_out_of_a_foreign_answer() -> None:
    from nearward.retrieval.neighbors.voting import Context
    from nearward.risk_model.external_backbone import _floor_log_odds

    row = np.array([[0, 1, 2, 3, -1], [0, 1, 2, 3, 4]])
    outcome = np.array([[1.0, 0, 0, 1, 0], [1, 1, 0, 0, 0]])
    floored = np.array([[False, False, False, True, False], [False] * 5])
    context = Context(row, np.zeros((2, 5)), outcome, np.zeros((2, 5)), floored, np.zeros(5, dtype=np.int64))
    np.testing.assert_allclose(_floor_log_odds(context), [np.log(2.5 / 1.5), 0])
    assert RetrievalSetting(128, True, 1.0).floor
