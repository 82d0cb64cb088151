"""More than two classes: the vote over them, twins, folds, and RiskClassifier from fit to disk."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import nearward as nw
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.linear_metric import fit_linear_metric
from nearward.retrieval.neighbors.fitted_shards import StoredLabels
from nearward.retrieval.neighbors.multiclass import class_log_probabilities, class_metric, class_votes, fit_class_retriever, vote_loss
from nearward.tabular.data.splits import split_classes
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import InputError, TooFewEvents

FEW = EncoderConfig(steps=40, hidden=32, axes=7)


def ward(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Four diagnoses that two labs and a sign tell apart, the rarest in one row of twenty; patients come twice."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])
    centre = np.array([[0.0, 0], [2.2, 0], [0, 2.2], [2.2, 2.2]])
    labs = centre[kind] + rng.normal(size=(n, 2)) * 0.8
    frame = pl.DataFrame({"tsh": labs[:, 0], "t4": np.exp(labs[:, 1]), "sign": rng.random(n) < 0.2 + 0.5 * (kind == 2)})
    frame = frame.with_columns(t4=pl.when(pl.Series(rng.random(n) < 0.9)).then(pl.col("t4")), age=pl.Series(rng.normal(50, 9, n)))
    return frame, np.array(["healthy", "hypo", "hyper", "mixed"])[kind], np.arange(n) // 2


@pytest.fixture(scope="module")
def model() -> nw.RiskClassifier:
    frame, diagnosis, patient = ward(700, 0)
    return nw.RiskClassifier(random_state=2, encoder=FEW).fit(frame, diagnosis, groups=patient)


@pytest.fixture(scope="module")
def fresh() -> tuple[pl.DataFrame, np.ndarray]:
    return ward(500, 1)[:2]


# ---- pieces ----------------------------------------------------------------------------------------------------------


def test_folds_keep_patients_whole_and_spread_every_class() -> None:
    rng = np.random.default_rng(0)
    code, group = rng.choice(4, 400, p=[0.7, 0.2, 0.07, 0.03]), rng.integers(0, 150, 400)
    fold = split_classes(code, group, 5, seed=1)
    assert all(len(np.unique(fold[group == g])) == 1 for g in np.unique(group))
    counts = np.array([[(code[fold == f] == j).sum() for j in range(4)] for f in range(5)])
    assert (counts < np.bincount(code)).all()
    alone = split_classes(code, np.arange(400), 5, seed=1)
    even = np.array([[(code[alone == f] == j).sum() for j in range(4)] for f in range(5)])
    assert (np.ptp(even, axis=0) <= 1).all()
    with pytest.raises(InputError, match="can't be split: 21 patients in 3 classes"):
        split_classes(np.repeat([0, 1, 2], [10, 10, 10]), np.concatenate([np.arange(20), np.full(10, 20)]), 5, 0)


def test_log_shares_by_hand() -> None:
    np.testing.assert_allclose(
        np.exp(class_log_probabilities(np.log([[1.0, 1, 2], [800, 100, 100]]) * 1.0, 3)), [[0.25, 0.25, 0.5], [0.8, 0.1, 0.1]]
    )
    assert np.isfinite(class_log_probabilities(np.array([[900.0, -900.0]]), 2)[:, 0]).all()
    assert (class_log_probabilities(np.zeros(3), 4) == 0).all()


def test_the_votes_loss_by_hand() -> None:
    votes, pair = np.array([[1.0, 0.0], [0.25, 0.75]]), np.array([1, 1])
    np.testing.assert_allclose(vote_loss(votes, pair), -np.log([0.02, 0.98 * 0.75 + 0.02]))
    weight = np.array([1.0, 3.0])  # frequencies .25 and .75
    np.testing.assert_allclose(vote_loss(votes, np.array([0, 1]), weight), -np.log([0.98 + 0.02 * 0.25, 0.98 * 0.75 + 0.02 * 0.75]))


def test_the_metric_is_the_mean_of_the_classes_own() -> None:
    rng = np.random.default_rng(0)
    code, group = rng.integers(0, 3, 300), np.arange(300)
    x = np.eye(3, 6)[code] * 2 + rng.normal(size=(300, 6))
    each = [fit_linear_metric(x, (code == j).astype(np.int64), group, 0) for j in range(3)]
    one = class_metric(x, code, group, 0)
    difference = x[:20] - x[20:40]
    expected = np.mean([((difference @ metric.matrix) ** 2).sum(axis=1) for metric in each], axis=0)
    np.testing.assert_allclose(((difference @ one.matrix) ** 2).sum(axis=1), expected, rtol=1e-9)


@pytest.mark.parametrize("rows", [120, 600])  # a linear metric alone; and encoders beside it
def test_a_context_votes_for_all_classes_and_leaves_the_patient_out(rows: int) -> None:
    rng = np.random.default_rng(1)
    code = np.concatenate([np.arange(4), rng.choice(4, rows - 4, p=[0.55, 0.2, 0.15, 0.1])])
    x, group = np.eye(4, 5)[code] * 3 + rng.normal(size=(rows, 5)), np.arange(rows) // 2
    fold = split_classes(code, group, 5, 0)
    retriever, out_of_fold, head, vote_log_loss = fit_class_retriever(x, TrainingData(code, group, fold), FEW, 0, lambda words: None)
    assert retriever.has_head == (rows == 600)
    assert ("AWARE encoders" in vote_log_loss) == (rows == 600)
    np.testing.assert_allclose(out_of_fold.sum(axis=1), 1)
    assert (out_of_fold.argmax(axis=1) == code).mean() > 0.75
    assert head.shape == (rows, 4)
    context, shares = retriever.context(x[:30])
    np.testing.assert_allclose(context.weight.sum(axis=1), 1)
    np.testing.assert_array_equal(context.outcome[context.row >= 0], code[context.row[context.row >= 0]])
    np.testing.assert_allclose(class_votes(context, 4).sum(axis=1), 1)
    assert shares.shape == (30, 4)
    turned = code.copy()  # a row's own class, and its patient's, must not reach its left-out vote
    turned[:2] = (turned[:2] + 1) % 4
    plain = vote_of_first_fold(x, code, group, fold), vote_of_first_fold(x, turned, group, fold)
    np.testing.assert_allclose(*plain)


def vote_of_first_fold(x: np.ndarray, code: np.ndarray, group: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Left-out votes of rows 0 and 1, their fold's metric fitted without them anyway."""
    from nearward.retrieval.neighbors.index import Shard
    from nearward.retrieval.neighbors.multiclass import CLASS_SETTINGS, shard_context

    seen, inside = fold != fold[0], np.flatnonzero(fold == fold[0])
    metric = class_metric(x[seen], code[seen], group[seen], 0)
    place, labels = metric.transform(x[inside]), StoredLabels(code.astype(float), group)
    context = shard_context(Shard(place.astype(np.float32), inside), place, labels, CLASS_SETTINGS[0], 5, metric.temperature)
    return class_votes(context, 4)[np.isin(inside, [0, 1])]


def test_twins_vote_as_all_of_them_would() -> None:
    """A hundred patients alike in everything, 60, 30 and 10 of three classes, and few places in the context."""
    rng = np.random.default_rng(0)
    code = np.concatenate([np.repeat([0, 1, 2], [60, 30, 10]), rng.integers(0, 3, 60)])
    x = np.concatenate([np.zeros((100, 3)), 5 + rng.normal(size=(60, 3))])
    order = rng.permutation(160)
    code, x = code[order], x[order]
    from nearward.retrieval.neighbors.index import Shard
    from nearward.retrieval.neighbors.multiclass import CLASS_SETTINGS, shard_context

    shard = Shard(x.astype(np.float32), np.arange(160))
    context = shard_context(shard, np.zeros((1, 3)), StoredLabels(code.astype(float)), CLASS_SETTINGS[0], 5, 1.0)
    np.testing.assert_allclose(class_votes(context, 3)[0], [0.6, 0.3, 0.1])
    present = context.row[0] >= 0
    assert len(set(context.row[0][present])) == present.sum()
    np.testing.assert_array_equal(context.outcome[0][present], code[context.row[0][present]])
    own = shard_context(shard, x, StoredLabels(code.astype(float), np.arange(160)), CLASS_SETTINGS[0], 5, 1.0)
    lone = np.flatnonzero((x == 0).all(axis=1) & (code == 2))[0]
    np.testing.assert_allclose(class_votes(own, 3)[lone], [60 / 99, 30 / 99, 9 / 99])


# ---- the classifier --------------------------------------------------------------------------------------------------


def test_shares_sum_to_one_and_rank_every_class(model, fresh) -> None:
    frame, diagnosis = fresh
    assert model.classes_.tolist() == ["healthy", "hyper", "hypo", "mixed"]
    share = model.predict_proba(frame)
    assert share.shape == (500, 4)
    np.testing.assert_allclose(share.sum(axis=1), 1)
    for j, name in enumerate(model.classes_):
        assert roc_auc_score(diagnosis == name, share[:, j]) > 0.85
        assert abs(share[:, j].mean() - (diagnosis == name).mean()) < 0.04
    frequency = np.tile([(diagnosis == name).mean() for name in model.classes_], (500, 1))
    assert log_loss(diagnosis, share) < 0.6 * log_loss(diagnosis, frequency)
    assert (model.predict(frame) == diagnosis).mean() > 0.75


def test_the_frame_has_a_column_a_class(model, fresh) -> None:
    scores = model.predict_frame(fresh[0])
    names = ["healthy", "hyper", "hypo", "mixed"]
    parts = [f"{part}: {name}" for part in ("risk", "low", "high") for name in names]
    assert scores.columns == ["row", "class", *parts, "n_similar", "novelty", *(f"vote: {name}" for name in names)]
    assert scores["class"].to_list() == model.predict(fresh[0]).tolist()
    for name in names:
        assert ((scores[f"low: {name}"] <= scores[f"risk: {name}"]) & (scores[f"risk: {name}"] <= scores[f"high: {name}"])).all()


def test_an_id_may_be_called_class() -> None:
    frame, diagnosis, _ = ward(160, 0)
    named = frame.with_columns(pl.int_range(pl.len()).alias("class"))
    schema = nw.Schema.infer(named).with_roles(id="class")
    model = nw.RiskClassifier(random_state=0, folds=2, backbone=None, schema=schema).fit(
        named, np.where(diagnosis == "mixed", "hypo", diagnosis)
    )
    scores = model.predict_frame(named[:3])
    assert scores["row_id"].to_list() == [0, 1, 2]
    assert set(scores["class"]) <= {"healthy", "hypo", "hyper"}


def test_similar_patients_sum_to_the_vote_over_classes(model, fresh) -> None:
    new, diagnosis = fresh[0][:40], ward(700, 0)[1]
    similar = model.similar(new, k=None)
    scores = model.predict_frame(new)
    for name in model.classes_:
        share = pl.when(pl.col("outcome") == name).then(pl.col("weight")).otherwise(0.0)
        votes = similar.group_by("row", maintain_order=True).agg(share.sum().alias("vote"))
        np.testing.assert_allclose(votes["vote"], scores[f"vote: {name}"], atol=1e-9)
    assert similar["outcome"].to_list() == diagnosis[similar["patient"].cast(pl.Int64).to_numpy()].tolist()
    assert model.gate()["share"].sum() == pytest.approx(1)


def test_the_summary_accounts_for_every_class(model) -> None:
    summary, out_of_fold = model.summary_, model.summary_.out_of_fold
    assert sum(one.rows for one in out_of_fold.classes) == summary.rows == 700
    assert out_of_fold.auprc == pytest.approx(np.mean([one.auprc for one in out_of_fold.classes]))
    assert {"AWARE vote", "AWARE head", "gradient boosting, random thresholds"} <= set(out_of_fold.base_learners)
    assert summary.backbone.in_use is False


def test_rows_alone_as_together(model, fresh) -> None:
    together = model.predict_proba(fresh[0][:20])
    alone = np.concatenate([model.predict_proba(fresh[0][i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_loaded_in_a_new_process_it_says_and_saves_the_same(model, fresh, tmp_path) -> None:
    model.save(tmp_path / "a")
    fresh[0].write_parquet(tmp_path / "new.parquet")
    code = (
        "import polars as pl, nearward as nw\n"
        "model = nw.load('a')\n"
        "model.predict_frame(pl.read_parquet('new.parquet')).write_parquet('scores.parquet')\n"
        "model.similar(pl.read_parquet('new.parquet')).write_parquet('similar.parquet')\n"
        "model.save('b')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert pl.read_parquet(tmp_path / "scores.parquet").equals(model.predict_frame(fresh[0]))
    assert pl.read_parquet(tmp_path / "similar.parquet").equals(model.similar(fresh[0]))
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}


def test_what_it_refuses(tmp_path) -> None:
    frame, diagnosis, _ = ward(200, 3)
    with pytest.raises(InputError, match="11 different values, at most 10 classes"):
        nw.RiskClassifier().fit(frame, np.arange(200) % 11)
    with pytest.raises(InputError, match="Unknown label type: continuous"):
        nw.RiskClassifier().fit(frame, frame["tsh"])
    with pytest.raises(InputError, match="no row of the outcome has the value of the event"):
        nw.RiskClassifier(positive="flu").fit(frame, diagnosis)
    with pytest.raises(TooFewEvents, match="4 events are too few to predict a class"):
        nw.RiskClassifier().fit(frame, np.where(np.arange(200) < 4, "rare", diagnosis))
    refused = [{"prevalence": 0.1}, {"members": 2}, {"adapter": True}, {"experts": [nw.OneClass()]}]
    for how in (*refused, {"encoder": nw.EncoderConfig(loss="focal")}):
        with pytest.raises(InputError, match="for an outcome with two values"):
            nw.RiskClassifier(**how).fit(frame, diagnosis)


@pytest.mark.slow
def test_the_command_line_from_fit_to_score(nearward, tmp_path) -> None:
    frame, diagnosis, _ = ward(300, 4)
    frame.with_columns(diagnosis=pl.Series(diagnosis)).write_parquet(tmp_path / "cohort.parquet")
    frame[:20].write_parquet(tmp_path / "new.parquet")

    def run_cli(*words: str, code: int = 0) -> str:
        done = nearward(*words, cwd=tmp_path, code=code)
        return str(done.stdout + done.stderr)

    scores = run_cli("fit", "cohort.parquet", "--outcome", "diagnosis", "--out", "model")
    assert "300 rows of 300 patients; 4 classes" in scores
    assert all(name in scores for name in ("healthy", "hyper", "hypo", "mixed"))
    run_cli("score", "model", "new.parquet", "--out", "shares.parquet")
    assert "risk: mixed" in pl.read_parquet(tmp_path / "shares.parquet").columns
    assert re.search(r"row 3: healthy 0\.\d+ \(vote 0\.\d+\), hyper", run_cli("similar", "model", "new.parquet", "--row", "3"))
    described = run_cli("inspect", "model")
    assert "300 rows of 300 patients" in described
    assert "4 classes" in described
    assert "need a model of one event, this model has 4 classes" in run_cli("score", "model", "new.parquet", "--out", "scores", code=2)
    named = ["fit", "cohort.parquet", "--outcome", "diagnosis", "--out", "x", "--positive"]
    assert "the event of the outcome is hypo; rows with one of the other 3 values are without it" in run_cli(*named, "hypo")
    assert "no row of" in run_cli(*named, "flu", code=2)
