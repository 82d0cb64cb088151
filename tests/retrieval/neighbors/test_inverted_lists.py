"""Inverted lists as plain arrays: saved and hostile ones, product quantization, candidates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nearward.retrieval.neighbors import inverted_lists
from nearward.retrieval.neighbors.index import Shard
from nearward.retrieval.neighbors.inverted_lists import InvertedLists


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(20, 6))[rng.integers(0, 20, 2000)] + 0.1 * rng.normal(size=(2000, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def lists(vectors: np.ndarray) -> InvertedLists:
    return dataclasses.replace(InvertedLists.fit(vectors), probes=20, recall=0.97)


def test_every_row_is_in_the_list_of_its_nearest_centroid(vectors: np.ndarray, lists: InvertedLists) -> None:
    assert lists.code == "SQ8"
    assert lists.centroids.shape == (89, 6)
    sq_distance = ((vectors[:, None] - lists.centroids) ** 2).sum(axis=2)
    assert sq_distance[np.arange(2000), lists.list_number] == pytest.approx(sq_distance.min(axis=1), abs=1e-5)


def test_the_state_gives_the_same_lists(lists: InvertedLists) -> None:
    again = InvertedLists.from_state(lists.state(), 2000, 6)
    for name, value in lists.state().items():
        assert np.array_equal(getattr(again, name), value)


@pytest.mark.parametrize(
    "change",
    [
        {"code": "SQ4"},
        {"code": "PQ"},
        {"centroids": np.zeros((89, 5), np.float32)},
        {"centroids": np.full((89, 6), np.nan, np.float32)},
        {"centroids": np.zeros((89, 6))},
        {"codebook": np.zeros(11, np.float32)},
        {"list_number": np.zeros(1999, np.int32)},
        {"list_number": np.full(2000, 89, np.int32)},
        {"list_number": np.full(2000, -1, np.int32)},
        {"list_number": np.zeros(2000, np.int64)},
        {"probes": 0},
        {"probes": 90},
        {"probes": True},
        {"recall": None, "centroids": np.zeros((0, 6), np.float32)},
    ],
)
def test_lists_beyond_which_an_index_would_read_are_refused(lists: InvertedLists, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="do not fit the stored vectors"):
        InvertedLists.from_state({**lists.state(), **change}, 2000, 6)


def test_more_rows_are_compressed_by_halves_and_found_all_the_same(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted_lists, "_PRODUCT_ABOVE", 1500)
    monkeypatch.setattr("nearward.retrieval.neighbors.index._RECALL_NEIGHBOURS", 30)
    shard = Shard(vectors, np.arange(2000), exact_up_to=1000)
    assert shard.kind.startswith("IVF-PQ")
    assert type(shard.index).__name__ == "IndexIVFPQ"
    queries = vectors[::100].astype(float)
    exact = Shard(vectors, np.arange(2000)).search(queries, 20)
    assert np.mean([len(set(a) & set(b)) / 20 for a, b in zip(shard.search(queries, 20)[1], exact[1], strict=True)]) > 0.9
    loaded = Shard.from_state(vectors, np.arange(2000), shard.lists.state())
    assert np.array_equal(loaded.search(queries, 20)[1], shard.search(queries, 20)[1])
    assert shard.lists.candidates(30) == 120


def test_candidates_are_somewhat_more_than_the_neighbours(lists: InvertedLists) -> None:
    assert [lists.candidates(k) for k in (1, 50, 200)] == [33, 82, 250]
