"""Vectors that are written block by block and mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearward.retrieval.neighbors import vector_store
from nearward.retrieval.neighbors.vector_store import VectorWriter, concatenate, select

VECTORS = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)


@pytest.mark.parametrize("named", [False, True])
def test_blocks_are_mapped_as_they_were_appended(named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_store, "_BLOCK", 16)
    monkeypatch.setattr(vector_store, "MAPPED_ABOVE", 41 * 12)  # the second and later blocks go to the file at once
    path = tmp_path / "vectors" if named else None
    writer = VectorWriter(path, 3)
    for block in (VECTORS[:40], VECTORS[40:40], VECTORS[40:].astype(np.float64), np.asfortranarray(VECTORS[:7])):
        writer.append(block)
    mapped = writer.finish()
    assert np.array_equal(mapped, np.concatenate([VECTORS, VECTORS[:7]]))
    assert isinstance(mapped.base, np.memmap)
    assert not mapped.flags.writeable
    assert path is None or path.read_bytes() == mapped.tobytes()


def test_no_rows_are_an_empty_array() -> None:
    assert VectorWriter(None, 4).finish().shape == (0, 4)


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vectors must be \(rows, 4\), got \(70, 3\)"):
        VectorWriter(None, 4).append(VECTORS)


@pytest.mark.parametrize("limit", [0, 10**9])
def test_joined_and_selected_rows_are_the_same_in_memory_and_mapped(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_store, "MAPPED_ABOVE", limit)
    monkeypatch.setattr(vector_store, "_BLOCK", 16)
    chosen = np.random.default_rng(1).random(70) < 0.5
    joined, selected = concatenate(VECTORS, VECTORS[:9]), select(VECTORS, chosen)
    assert np.array_equal(joined, np.concatenate([VECTORS, VECTORS[:9]]))
    assert np.array_equal(selected, VECTORS[chosen])
    assert [isinstance(one.base, np.memmap) for one in (joined, selected)] == [limit == 0] * 2
