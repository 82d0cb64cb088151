"""Votes by inverted lists are compared with those by exact search, and a worse index is refused."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from nearward.cli.inspect import _describe_search
from nearward.retrieval.encoders.aware import EncoderConfig
from nearward.retrieval.encoders.inputs import EncoderInputs
from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors import fitted_shards, index, index_check, multiclass
from nearward.retrieval.neighbors.binary import Retriever, best_setting, fit_retriever
from nearward.retrieval.neighbors.fitted_shards import StoredLabels, index_shards
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.index_check import ExhaustiveShard, IndexCheck
from nearward.retrieval.neighbors.multiclass import fit_class_retriever
from nearward.retrieval.neighbors.sharded_retriever import IndexBlock
from nearward.retrieval.neighbors.voting import RetrievalSetting
from nearward.risk_model.fitted import PERSISTED_TYPES
from nearward.tabular.data.training_data import TrainingData
from nearward.tabular.errors import InputError
from nearward.tabular.persistence.artifact import pack, unpack

SETTINGS = tuple(RetrievalSetting(40, floor, 1.0) for floor in (False, True))
ROWS, OTHERS = 240, 1400


def rows(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Four numbers, and an outcome of 0, 1 or 2."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    return x, np.digitize(x[:, 0] + 0.5 * rng.normal(size=n), [0.9, 1.6])


def training(outcome: np.ndarray) -> TrainingData:
    n = len(outcome)
    return TrainingData(outcome, np.arange(n), np.arange(n) % 2, np.full(n, 1 + OTHERS / n))


def fit(classes: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A retriever of two shards of 820 rows, which are searched by lists from 300 rows on."""
    monkeypatch.setattr(Shard.__init__, "__defaults__", (300, None))
    (x, outcome), (other_x, other_outcome) = ((x, y if classes == 3 else (y > 0).astype(int)) for x, y in (rows(0, ROWS), rows(1, OTHERS)))

    def blocks() -> Iterator[IndexBlock]:
        patients = ROWS + np.arange(OTHERS)
        yield IndexBlock(lambda: EncoderInputs.of(other_x), other_outcome, patients, np.arange(OTHERS) % 2)

    how = {"others": blocks(), **({"settings": SETTINGS} if classes == 2 else {})}
    return (fit_retriever if classes == 2 else fit_class_retriever)(x, training(outcome), EncoderConfig(), 0, lambda _: None, **how)


@pytest.mark.parametrize("m", [1, 50, 700])
def test_a_search_by_parts_is_that_of_all_rows(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_check, "_PART", 90)
    rng = np.random.default_rng(0)
    vectors, numbers = rng.integers(0, 3, size=(m, 3)).astype(np.float32), np.sort(rng.permutation(2000)[:m])  # many are equally near
    queries = rng.normal(size=(20, 3))
    exact, by_parts = Shard(vectors, numbers), ExhaustiveShard.of(Shard(vectors, numbers))
    for one, other in zip(exact.search(queries, 60), by_parts.search(queries, 60), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fit_with_lists_compares_the_votes(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[TrainingData, np.ndarray, np.ndarray]] = []
    compare = IndexCheck.of
    monkeypatch.setattr(index_check.IndexCheck, "of", lambda *both: seen.append(both) or compare(*both))
    monkeypatch.setattr(fitted_shards, "CHECKED_ROWS", 100)
    monkeypatch.setattr(index, "_PROBES", (1,))  # of 57 lists: too few
    monkeypatch.setattr(index, "LEAST_RECALL", 0.0)
    monkeypatch.setattr(index_check, "LEAST_RATIO", 0.0)
    retriever = fit(classes, monkeypatch)[0]
    assert [shard.kind[:3] for shard in retriever.shards] == ["IVF", "IVF"]
    check, (sample, by_lists, exact) = retriever.index_check, seen[0]
    assert check.rows == len(sample) <= 100
    assert check.events == (sample.outcome > 0).sum() > 30
    assert sample.n_rows == pytest.approx(ROWS + OTHERS)
    assert retriever.shards[0].lists.recall < 0.9
    assert 0.01 < np.abs(by_lists - exact).mean() < 0.3
    assert check.auprc != check.exact_auprc
    if classes == 2:
        assert check.exact_auprc == average_precision_score(sample.outcome, exact, sample_weight=sample.weight)
        tensors: dict[str, np.ndarray] = {}
        packed = pack(retriever.state(), tensors)
        assert Retriever.from_state(unpack(packed, tensors, PERSISTED_TYPES)).index_check == check


def test_an_index_whose_vote_ranks_worse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit(2, monkeypatch)[0].index_check.auprc > 0  # lists with enough probes
    monkeypatch.setattr(index_check, "LEAST_RATIO", 1.2)
    with pytest.raises(InputError, match=r"vote worse than .* AUPRC 0\.\d+ against 0\.\d+, ratio .* fewer rows, or with more folds"):
        fit(2, monkeypatch)


def test_exact_shards_need_no_check() -> None:
    (x, outcome), fold = rows(0, ROWS), np.arange(ROWS) % 2
    retriever, *_ = fit_retriever(x, TrainingData((outcome > 0).astype(int), np.arange(ROWS), fold), EncoderConfig(), 0, lambda _: None)
    assert retriever.index_check is None


def test_inspect_shows_recall_and_vote(capsys: pytest.CaptureFixture[str]) -> None:
    lists = SimpleNamespace(kind="IVF-SQ8, 8 of 51 lists probed, recall 0.970", rows=range(820))
    check = IndexCheck(2000, 900, 0.21, 0.2125)
    retriever = SimpleNamespace(shards=[lists], index_check=check, outcome=np.repeat([0.0, 1.0], [800, 20]))
    classifier: Any = SimpleNamespace(fitted_=SimpleNamespace(model=SimpleNamespace(retriever=retriever)), classes_=[0, 1])
    search, check = _describe_search(classifier)
    assert (search["stored rows"][0], check.events) == (820, 900)
    printed = capsys.readouterr()
    shown = " ".join((printed.out + printed.err).split())
    assert "recall 0.970" in shown
    assert "among 820 stored rows now, 20 with the event" in shown
    assert "AUPRC 0.210 against 0.212, ratio 0.988, on 2000 rows, 900 of them events" in shown


def test_votes_of_some_queries_and_of_parts_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), some = rows(0, ROWS), np.flatnonzero(np.arange(ROWS) % 7 < 3)
    data = training((y > 0).astype(int))
    metric = LinearMetric(np.eye(4), 1.0)
    indexed, labels = index_shards([metric, metric], EncoderInputs.of(x), data), StoredLabels.of(data)
    whole = best_setting(indexed, data, SETTINGS, labels)
    monkeypatch.setattr(fitted_shards, "_QUERIES", 50)
    in_parts = best_setting(indexed, data, SETTINGS, labels)
    np.testing.assert_array_equal(whole.vote, in_parts.vote)
    np.testing.assert_array_equal(whole.retriever.radius, in_parts.retriever.radius)
    of_some = best_setting(indexed.with_queries(some), data.take(some), (whole.retriever.setting,), labels)
    np.testing.assert_array_equal(of_some.vote, whole.vote[some])


def test_settings_of_several_classes_are_tried_from_one_search() -> None:
    (x, y), metric = rows(0, ROWS), LinearMetric(np.eye(4), 1.0)
    data = training(y)
    indexed, labels = index_shards([metric, metric], EncoderInputs.of(x), data), StoredLabels.of(data)
    together = multiclass._best_setting(indexed, data, labels)
    alone = [multiclass._best_setting(indexed, data, labels, (setting,)) for setting in multiclass.CLASS_SETTINGS]
    best = min(alone, key=lambda one: one.mean)
    assert len({one.mean for one in alone}) > 2
    assert (together.mean, together.retriever.setting) == (best.mean, best.retriever.setting)
    np.testing.assert_array_equal(together.votes, best.votes)
    np.testing.assert_array_equal(together.retriever.radius, best.retriever.radius)
