"""Shards: exact where they say exact, good recall above, the same neighbours alone as in a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearward.retrieval.neighbors.index import EXACT_UP_TO, Shard


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
    from nearward.retrieval.neighbors import index

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


def test_small_shards_are_exact_by_default_and_large_ones_are_lists() -> None:
    assert EXACT_UP_TO == 200_000
    assert type(Shard(unit(0, 100), np.arange(100)).index).__name__ == "ExactIndex"
    assert "IVFScalarQuantizer" in type(Shard(unit(0, 900), np.arange(900), exact_up_to=800).index).__name__


def test_inverted_lists_find_nine_in_ten_with_exact_distances() -> None:
    vectors, queries = unit(0, 3000, 16), unit(1, 100, 16)
    exact, lists = Shard(vectors, np.arange(3000) * 2), Shard(vectors, np.arange(3000) * 2, exact_up_to=1000)
    sq_distance, row = lists.search(queries, 20)
    wanted = exact.search(queries, 20)[1]
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(row, wanted, strict=True)])
    assert recall >= 0.9
    assert (np.diff(sq_distance, axis=1) >= 0).all()
    query = queries.astype(np.float32).astype(np.float64)
    true = ((query[:, None, :] - vectors.astype(np.float32).astype(np.float64)[row // 2]) ** 2).sum(axis=2)
    assert sq_distance == pytest.approx(true, rel=1e-6)  # not the bytes' rounding


def test_inverted_lists_are_the_same_every_time_and_alone_as_in_a_batch() -> None:
    vectors, queries = unit(0, 2000, 16), unit(1, 40, 16)
    one, other = (Shard(vectors, np.arange(2000), exact_up_to=10) for _ in range(2))
    sq_distance, row = one.search(queries, 15)
    assert np.array_equal(other.search(queries, 15)[1], row)
    alone = [one.search(queries[i : i + 1], 15) for i in range(40)]
    assert np.array_equal(np.concatenate([s for s, _ in alone]), sq_distance)


def test_inverted_lists_that_run_out_are_padded() -> None:
    vectors = unit(0, 1500, 16)
    sq_distance, row = Shard(vectors, np.arange(1500), exact_up_to=10).search(vectors[:5], 1500)
    missing = row < 0
    assert missing.any()
    assert np.isinf(sq_distance[missing]).all()
    assert np.isfinite(sq_distance[~missing]).all()
    for rows in row:
        present = rows[rows >= 0]
        assert len(set(present)) == len(present)
