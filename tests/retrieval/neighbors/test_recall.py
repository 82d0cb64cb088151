"""Recall against an exact search by blocks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nearward.retrieval.neighbors import recall
from nearward.retrieval.neighbors.index import Shard, measure_recall
from nearward.retrieval.neighbors.inverted_lists import InvertedLists
from nearward.retrieval.neighbors.recall import furthest_distance

RNG = np.random.default_rng(0)
VECTORS, QUERIES = (RNG.normal(size=(n, 5)).astype(np.float32) + 20 for n in (1000, 40))


def test_the_furthest_of_k_is_found_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_BLOCK", 130)
    sq_distance = ((QUERIES[:, None].astype(float) - VECTORS) ** 2).sum(axis=2)
    for k in (1, 30, 1000):
        assert furthest_distance(VECTORS, QUERIES, k) == pytest.approx(np.sort(sq_distance, axis=1)[:, k - 1], abs=1e-4)


def test_an_exact_search_has_recall_one_and_probes_of_few_lists_have_the_share_that_they_find() -> None:
    exact = Shard(VECTORS, np.arange(1000))
    assert measure_recall(exact, QUERIES, 30).tolist() == [1] * 40
    few = Shard(VECTORS, np.arange(1000), 100, dataclasses.replace(InvertedLists.fit(VECTORS), probes=2))
    row, wanted = few.search(QUERIES.astype(float), 30)[1], exact.search(QUERIES.astype(float), 30)[1]
    share = [len(set(a) & set(b)) / 30 for a, b in zip(row, wanted, strict=True)]
    assert measure_recall(few, QUERIES, 30) == pytest.approx(share, abs=1 / 30)
    assert 0.1 < np.mean(share) < 0.9


def test_equally_near_rows_count_whichever_came() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    assert measure_recall(Shard(vectors, np.arange(150)), vectors[:1], 10).tolist() == [1]
