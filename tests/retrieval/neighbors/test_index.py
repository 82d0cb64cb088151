"""Shards: exact where they say exact, good recall above, the same neighbours alone as in a batch."""

from __future__ import annotations

import dataclasses
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.retrieval.neighbors import index, vector_store
from nearward.retrieval.neighbors.exact_search import ExactIndex
from nearward.retrieval.neighbors.index import EXACT_UP_TO, LEAST_RECALL, Shard
from nearward.retrieval.neighbors.inverted_lists import InvertedLists


def unit(seed: int, m: int, e: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(m, e))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute(shard: Shard, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    query = queries.astype(np.float32).astype(np.float64)
    sq_distance = ((query[:, None, :] - shard.vectors[None, :, :].astype(np.float64)) ** 2).sum(axis=2)
    order = np.argsort(sq_distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(sq_distance, order, axis=1), shard.rows[order]


def test_nearest_rows_by_hand() -> None:
    shard = Shard(np.array([[0.0, 0], [3, 0], [0, 1]]), np.array([70, 40, 90]))
    sq_distance, row = shard.search(np.array([[0.0, 0.0], [2.0, 0.0]]), 2)
    assert row.tolist() == [[70, 90], [40, 70]]
    assert sq_distance.tolist() == [[0, 1], [1, 4]]


@settings(deadline=None, max_examples=40, derandomize=True)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 60), q=st.integers(1, 30), k=st.integers(1, 70))
def test_search_is_exact_and_pads_where_rows_run_out(seed: int, m: int, q: int, k: int) -> None:
    rows = np.random.default_rng(seed).permutation(1000)[:m]
    shard, queries = Shard(unit(seed, m), rows), unit(seed + 1, q)
    sq_distance, row = shard.search(queries, k)
    assert sq_distance.shape == row.shape == (q, k)
    have = min(k, m)
    expected, nearest = brute(shard, queries, have)
    assert sq_distance[:, :have] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert (row[:, :have] == nearest).all()
    assert np.isinf(sq_distance[:, have:]).all()
    assert (row[:, have:] == -1).all()


def test_an_empty_shard_finds_nobody() -> None:
    shard = Shard(np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
    sq_distance, row = shard.search(np.ones((2, 4)), 3)
    assert np.isinf(sq_distance).all()
    assert (row == -1).all()


def test_no_queries_find_nothing() -> None:
    sq_distance, row = Shard(unit(0, 5), np.arange(5)).search(np.zeros((0, 8)), 3)
    assert sq_distance.shape == row.shape == (0, 3)


def test_part_of_a_shard_has_its_rows_in_their_order() -> None:
    shard = Shard(unit(0, 6), np.array([50, 40, 30, 20, 10, 0]))
    part = shard.subset(np.array([10, 40]))
    assert part.rows.tolist() == [40, 10]
    assert np.array_equal(part.vectors, shard.vectors[[1, 4]])
    assert part.search(unit(0, 6)[:1], 3)[1][0, 2] == -1
    assert shard.subset(np.array([], dtype=np.int64)).search(unit(0, 1), 1)[1].tolist() == [[-1]]


def test_queries_find_alone_what_they_find_in_a_batch_and_shuffled() -> None:
    shard, queries = Shard(unit(0, 700), np.arange(700)), unit(1, 90)
    sq_distance, row = shard.search(queries, 12)
    alone = [shard.search(queries[i : i + 1], 12) for i in range(90)]
    assert np.array_equal(np.concatenate([s for s, _ in alone]), sq_distance)
    assert np.array_equal(np.concatenate([r for _, r in alone]), row)
    order = np.random.default_rng(0).permutation(90)
    assert np.array_equal(shard.search(queries[order], 12)[0], sq_distance[order])


def test_large_batches_are_gathered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    shard, queries = Shard(unit(0, 50), np.arange(50)), unit(1, 33)
    whole = shard.search(queries, 5)
    monkeypatch.setattr(index, "_CHUNK", 50 * 4)
    monkeypatch.setattr(index, "_FEWEST_QUERIES", 4)  # a part
    for a, b in zip(shard.search(queries, 5), whole, strict=True):
        assert np.array_equal(a, b)


def test_the_order_of_the_stored_rows_does_not_matter() -> None:
    vectors, order = unit(0, 300), np.random.default_rng(1).permutation(300)
    one, other = Shard(vectors, np.arange(300)), Shard(vectors[order], np.arange(300)[order])
    for a, b in zip(one.search(unit(2, 20), 10), other.search(unit(2, 20), 10), strict=True):
        assert np.array_equal(a, b)


def test_distances_are_nearest_first_and_a_stored_row_is_at_no_distance_from_itself() -> None:
    vectors = unit(0, 200)
    sq_distance, row = Shard(vectors, np.arange(200)).search(vectors, 6)
    assert (np.diff(sq_distance, axis=1) >= 0).all()
    assert (sq_distance[:, 0] == 0).all()
    assert (row[:, 0] == np.arange(200)).all()


def test_small_shards_are_exact_by_default_and_large_ones_are_lists(lists: Shard) -> None:
    assert EXACT_UP_TO == 100_000
    small = Shard(unit(0, 100), np.arange(100))
    assert small.kind == "exact"
    assert type(small.index).__name__ == "ExactIndex"
    assert re.fullmatch(r"IVF-SQ8, \d+ of 109 lists probed, recall [01]\.\d{3}", lists.kind)
    assert "IVFScalarQuantizer" in type(lists.index).__name__


def clustered(seed: int, m: int, e: int = 16) -> np.ndarray:
    """Points about forty centres, in three dimensions of e."""
    rng, plane = np.random.default_rng(seed), np.random.default_rng(99)
    centres, directions = plane.normal(size=(40, e)), plane.normal(size=(3, e))
    return (centres[rng.integers(0, 40, m)] + 0.5 * rng.normal(size=(m, 3)) @ directions).astype(np.float32)


@pytest.fixture(scope="module")
def lists() -> Shard:
    return Shard(clustered(0, 3000), np.arange(3000) * 2, exact_up_to=1000)


def test_inverted_lists_find_the_nearest_with_exact_distances(lists: Shard) -> None:
    queries = clustered(1, 100).astype(float)
    sq_distance, row = lists.search(queries, 20)
    wanted = Shard(lists.vectors, lists.rows).search(queries, 20)[1]
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(row, wanted, strict=True)])
    assert recall >= LEAST_RECALL
    assert (np.diff(sq_distance, axis=1) >= 0).all()
    true = ((queries.astype(np.float32).astype(float)[:, None, :] - lists.vectors.astype(float)[row // 2]) ** 2).sum(axis=2)
    assert sq_distance == pytest.approx(true, rel=1e-6)  # not the bytes' rounding


def test_inverted_lists_are_the_same_every_time_and_alone_as_in_a_batch(lists: Shard) -> None:
    queries = clustered(2, 40).astype(float)
    sq_distance, row = lists.search(queries, 15)
    again = Shard(lists.vectors, lists.rows, exact_up_to=1000)
    assert np.array_equal(again.search(queries, 15)[1], row)
    assert again.kind == lists.kind
    alone = [lists.search(queries[i : i + 1], 15) for i in range(40)]
    assert np.array_equal(np.concatenate([s for s, _ in alone]), sq_distance)


def test_inverted_lists_that_run_out_are_padded(lists: Shard) -> None:
    sq_distance, row = lists.search(clustered(3, 5).astype(float), 3000)
    missing = row < 0
    assert missing.any()
    assert np.isinf(sq_distance[missing]).all()
    assert np.isfinite(sq_distance[~missing]).all()
    for rows in row:
        present = rows[rows >= 0]
        assert len(set(present)) == len(present)


def test_where_lists_do_not_reach_the_recall_the_search_is_exact() -> None:
    vectors = unit(0, 900, 16)  # in all directions: half of the lists do not suffice
    shard = Shard(vectors, np.arange(900), exact_up_to=800)
    assert shard.kind == "exact"
    for one, other in zip(shard.search(unit(1, 9, 16), 30), Shard(vectors, np.arange(900)).search(unit(1, 9, 16), 30), strict=True):
        assert np.array_equal(one, other)
    saved = Shard.from_state(shard.vectors, shard.rows, None)
    assert saved.kind == "exact"


@pytest.mark.parametrize("mapped", [False, True])
def test_an_exact_shard_with_more_and_fewer_rows_is_that_of_a_new_one(mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if mapped:
        monkeypatch.setattr(vector_store, "MAPPED_ABOVE", 0)
    vectors, queries, rows = clustered(0, 500), clustered(1, 30).astype(float), np.random.default_rng(0).permutation(900)[:500]
    removed = np.random.default_rng(1).random(500) < 0.3
    changed = Shard(vectors[:300], rows[:300]).extended(vectors[300:], rows[300:]).without(removed)
    new = Shard(vectors[~removed], rows[~removed])
    assert np.array_equal(changed.vectors, new.vectors)
    assert isinstance(changed.vectors.base, np.memmap) == mapped
    for one, other in zip(changed.search(queries, 20), new.search(queries, 20), strict=True):
        assert np.array_equal(one, other)


def test_lists_with_more_and_fewer_rows_are_those_of_all_rows_about_the_same_centroids(
    lists: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, queries = clustered(4, 700), clustered(5, 30).astype(float)
    fitted = lists.lists
    monkeypatch.setattr(InvertedLists, "fit", None)  # nothing is clustered again
    removed = np.random.default_rng(1).random(3700) < 0.3
    changed = lists.extended(more, np.arange(9000, 9700)).without(removed)
    vectors, rows = np.concatenate([lists.vectors, more])[~removed], np.concatenate([lists.rows, np.arange(9000, 9700)])[~removed]
    none = dataclasses.replace(fitted, list_number=np.zeros(0, dtype=np.int32))
    new = Shard(vectors, rows, 1000, none.extended(vectors))
    assert np.array_equal(changed.lists.list_number, new.lists.list_number)
    for one, other in zip(changed.search(queries, 20), new.search(queries, 20), strict=True):
        assert np.array_equal(one, other)
    exact = Shard(vectors, rows).search(queries, 20)[1]
    assert np.mean([len(set(a) & set(b)) / 20 for a, b in zip(changed.search(queries, 20)[1], exact, strict=True)]) >= LEAST_RECALL


def test_lists_that_lose_most_rows_become_exact_and_a_small_part_is_exact(lists: Shard) -> None:
    assert lists.without(np.arange(3000) >= 400).kind == lists.subset(lists.rows[::10]).kind == "exact"
    assert lists.without(np.arange(3000) >= 2000).kind == lists.kind


def test_saved_and_copied_lists_find_the_same(lists: Shard) -> None:
    queries = clustered(6, 30).astype(float)
    expected = lists.search(queries, 20)
    loaded = Shard.from_state(lists.vectors, lists.rows, lists.lists.state())
    for shard in (loaded, pickle.loads(pickle.dumps(lists))):
        assert shard.kind == lists.kind
        for one, other in zip(shard.search(queries, 20), expected, strict=True):
            assert np.array_equal(one, other)


def test_threads_build_an_index_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(index, "ExactIndex", lambda vectors: built.append(len(vectors)) or ExactIndex(vectors))
    shard = Shard(unit(0, 500), np.arange(500))
    with ThreadPoolExecutor(4) as pool:
        indexes = list(pool.map(lambda _: shard.index, range(8)))
    assert built == [500]
    assert len({id(one) for one in indexes}) == 1


def test_duplicates_are_the_rows_of_an_equal_vector_whatever_the_sign_of_zero() -> None:
    vectors = np.random.default_rng(0).integers(-1, 2, size=(200, 3)).astype(np.float32)
    vectors[::2] *= np.float32(-1)  # among them -0.0
    rows = np.random.default_rng(1).permutation(1000)[:200]
    shard = Shard(vectors, rows)
    for i in range(0, 200, 7):
        assert shard.duplicates(int(rows[i])).tolist() == rows[(vectors == vectors[i]).all(axis=1)].tolist()


def test_vectors_of_one_hash_are_duplicates_only_where_they_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_hash", lambda vectors: np.zeros(len(vectors), dtype=np.int64))
    assert Shard(unit(0, 5), np.arange(5)).duplicates(3).tolist() == [3]


def test_a_large_part_of_inverted_lists_keeps_them_and_has_probes_of_its_own(lists: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PART_EXACT_UP_TO", 500)
    rows, queries = lists.rows[::4], clustered(7, 300).astype(float)
    part = lists.subset(rows)
    assert part.kind.startswith("IVF-SQ8")
    assert part.rows.tolist() == rows.tolist()
    assert np.array_equal(part.lists.centroids, lists.lists.centroids)
    wanted = Shard(lists.vectors[::4], rows).search(queries, 10)[1]
    found = part.search(queries, 10)[1]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)]) >= LEAST_RECALL
    assert lists.subset(rows[:500]).kind == "exact"
