"""Candidates have the k nearest rows among them, whatever the order of the rows and however many are equally near."""

from __future__ import annotations

import numpy as np
import pytest

from nearward.retrieval.neighbors.exact_search import ExactIndex
from nearward.retrieval.neighbors.index import Shard


def candidates(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    return ExactIndex(vectors).candidates(queries, k, np.empty((len(queries), len(vectors)), dtype=np.float32))


@pytest.mark.parametrize("k", [1, 20, 300, 3000])
def test_the_nearest_are_among_the_candidates_also_of_sorted_rows_far_from_the_origin(k: int) -> None:
    rng = np.random.default_rng(k)
    vectors = (np.sort(rng.normal(size=(3000, 6)), axis=0) + 30).astype(np.float32)
    queries = vectors[rng.integers(0, 3000, 40)] + rng.normal(size=(40, 6)).astype(np.float32) / 5
    sq_distance = ((queries[:, None].astype(float) - vectors) ** 2).sum(axis=2)
    nearest, found = np.argsort(sq_distance, axis=1, kind="stable")[:, :k], candidates(vectors, queries, k)
    for wanted, row in zip(nearest, found, strict=True):
        assert set(wanted.tolist()) <= set(row.tolist())
        present = row[row >= 0]
        assert len(np.unique(present)) == len(present)


def test_few_more_rows_than_needed_are_candidates() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(n, 6)).astype(np.float32) for n in (5000, 100))
    count = (candidates(vectors, queries, 200) >= 0).sum(axis=1)
    assert count.min() >= 200
    assert count.mean() < 450


def test_queries_whose_sample_lies_too_near_get_a_threshold_of_their_own() -> None:
    """The first columns of the index, which are the sample, are all at one point."""
    vectors = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    vectors[np.random.default_rng(0).permutation(2000)[:512]] = 0.0
    query = np.zeros((1, 3), dtype=np.float32)
    found = candidates(vectors, query, 1000)
    sq_distance = (vectors.astype(float) ** 2).sum(axis=1)
    assert sq_distance[found[found >= 0]].max() >= np.sort(sq_distance)[999]
    assert (found >= 0).sum() >= 1000


def test_equally_near_rows_come_by_their_index() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 700, axis=0)
    sq_distance, row = Shard(vectors, np.arange(2100)).search(np.array([[0.0, 1.0, 0.0]]), 900)
    assert row[0].tolist() == [*range(700, 1400), *range(200)]
    assert np.unique(sq_distance).tolist() == [0, 2]
