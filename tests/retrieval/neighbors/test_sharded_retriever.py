"""Retrievers with inverted lists: saved, mapped, extended and cut without another clustering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nearward.retrieval.encoders.linear_metric import LinearMetric
from nearward.retrieval.neighbors.binary import Retriever
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.inverted_lists import InvertedLists
from nearward.retrieval.neighbors.sharded_retriever import furthest_neighbour, neighbour_radius
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting
from nearward.tabular.persistence import hashed_files
from nearward.tabular.persistence.artifact import pack, read_model, unpack, write_model

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(30, 6))


def points(n: int) -> np.ndarray:
    return (CENTRES[RNG.integers(0, 30, n)] + 0.2 * RNG.normal(size=(n, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    """Two shards of 1,500 rows, by inverted lists, whose encoders change nothing."""
    encoders = (LinearMetric(np.eye(6), 0.5),) * 2
    shards = tuple(Shard(points(1500), np.arange(f, 3000, 2), exact_up_to=1000) for f in range(2))
    outcome = (RNG.random(3000) < 0.2).astype(float)
    return Retriever(encoders, (), shards, outcome, RetrievalSetting(60, True, 1.0), np.full(2, np.inf))


QUERIES = points(25).astype(float)


def test_a_saved_retriever_votes_the_same_from_mapped_vectors(
    retriever: Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashed_files, "LARGE", 4096)
    tensors: dict[str, np.ndarray] = {}
    about = {"retriever": pack({**retriever.state(), "setting": None}, tensors)}
    write_model(tmp_path / "m", about, tensors, pl.DataFrame())
    saved, arrays, *_ = read_model(tmp_path / "m")
    monkeypatch.setattr(InvertedLists, "fit", None)  # nothing is clustered again
    loaded = Retriever.from_state({**unpack(saved["retriever"], arrays, (LinearMetric,)), "setting": retriever.setting})
    assert all(isinstance(shard.vectors.base, np.memmap) for shard in loaded.shards)
    assert [shard.kind for shard in loaded.shards] == [shard.kind for shard in retriever.shards]
    assert loaded.shards[0].kind.startswith("IVF-SQ8")
    context, expected = loaded.context(QUERIES)[0], retriever.context(QUERIES)[0]
    assert np.array_equal(context.row, expected.row)
    assert np.array_equal(context.weight, expected.weight)


def test_more_and_fewer_rows_keep_the_lists(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(shard.lists is not None for shard in retriever.shards)
    monkeypatch.setattr(InvertedLists, "fit", None)
    new, fold = points(40), np.arange(40) % 2
    removed = np.arange(3040) % 5 == 0
    changed = retriever.extended(new.astype(float), np.ones(40, dtype=np.int64), fold).without(removed)
    assert len(changed.outcome) == 3040 - removed.sum()
    number = np.cumsum(~removed) - 1
    for before, after, f in zip(retriever.shards, changed.shards, range(2), strict=True):
        vectors, rows = np.concatenate([before.vectors, new[fold == f]]), np.concatenate([before.rows, 3000 + np.flatnonzero(fold == f)])
        assert np.array_equal(after.vectors, vectors[~removed[rows]])
        assert np.array_equal(after.rows, number[rows[~removed[rows]]])
        assert np.array_equal(after.lists.centroids, before.lists.centroids)
        assert np.array_equal(
            after.lists.list_number[: len(before.rows) // 5], before.lists.list_number[~removed[before.rows]][: len(before.rows) // 5]
        )
    present = changed.context(QUERIES)[0].row
    assert present.max() < len(changed.outcome)
    assert changed.select(np.ones(len(changed.outcome), dtype=bool)) is changed
    assert np.array_equal(retriever.select(~removed[:3000]).shards[1].vectors, retriever.without(removed[:3000]).shards[1].vectors)


def test_a_shard_with_fewer_rows_than_neighbours_has_a_radius() -> None:
    """A table of fewer rows than the setting's neighbours: all are in the context, and the usual ones count as similar."""
    distance = np.array([[1.0, 2.0, np.inf], [1.0, 4.0, np.inf], [np.inf] * 3, [1.0, 2.0, 3.0]])
    empty = np.zeros((4, 3))
    context = Context(empty.astype(np.int64), empty, empty, distance, empty.astype(bool), np.zeros(3, dtype=np.int64))
    assert furthest_neighbour(context, RetrievalSetting(3, False, 1.0), 1).tolist() == [2, 4, np.inf, 3]
    assert neighbour_radius(np.array([2.0, 2.0, np.inf])) == 2.0
