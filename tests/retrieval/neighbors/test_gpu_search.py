"""The search for GPUs, on a device that every machine has: the neighbours of the search on the CPU, ties among them, and the way back."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from nearward.retrieval.neighbors import index
from nearward.retrieval.neighbors.gpu_search import GpuIndex
from nearward.retrieval.neighbors.index import Shard


@pytest.fixture
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(700, 6)).astype(np.float32)
    vectors[100:260] = vectors[5]  # more equally near rows than candidates beyond the neighbours
    return vectors


@pytest.mark.parametrize("products", [1 << 26, 7_000])
def test_neighbours_are_those_of_the_cpu(vectors, monkeypatch, products: int) -> None:
    queries = np.concatenate([vectors[[5, 300]], np.random.default_rng(1).normal(size=(60, 6))]).astype(np.float32)
    expected = Shard(vectors, np.arange(700)).search(queries, 20)
    monkeypatch.setattr(index, "find_device", lambda: torch.device("meta"))
    monkeypatch.setattr(index, "GpuIndex", lambda vectors, _: GpuIndex(vectors, torch.device("cpu")))
    monkeypatch.setattr("nearward.retrieval.neighbors.gpu_search._PRODUCTS", products)
    found = Shard(vectors, np.arange(700)).search(queries, 20)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(Shard(vectors[:9], np.arange(9)).search(queries, 20)[1][:, 9:], np.full((62, 11), -1))


def test_where_the_device_fails_the_cpu_searches_and_the_log_says_why(vectors, monkeypatch, caplog) -> None:
    expected = Shard(vectors, np.arange(700)).search(vectors[:9], 5)
    monkeypatch.setattr(index, "find_device", lambda: torch.device("meta"))  # holds no numbers: every answer is an error
    with caplog.at_level(logging.WARNING):
        shard = Shard(vectors, np.arange(700))
        found = shard.search(vectors[:9], 5)
        shard.search(vectors[:9], 5)
    assert np.array_equal(found[1], expected[1])
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("an exact search failed on the GPU and is done on the CPU: ")
    working = GpuIndex(vectors, torch.device("cpu"))
    monkeypatch.setattr(GpuIndex, "_candidates", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory\nat line 1")))
    assert set(working.search(vectors[:1], 5)[1][0]) >= set(found[1][0])
    assert caplog.messages[1:] == ["an exact search failed on the GPU and is done on the CPU: out of memory"]


def test_the_users_precision_is_restored(vectors) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        GpuIndex(vectors, torch.device("cpu")).search(vectors[:2], 3)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
