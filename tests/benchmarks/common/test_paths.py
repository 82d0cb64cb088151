"""Cached results: computed once, and named by a digest of the code behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.common.paths import ROOT, cached_arrays, digest, run_module, source_files


def test_arrays_are_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"risk": np.array([0.25, 0.5])}

    first, second = (cached_arrays(tmp_path / "new" / "run.0.npz", compute) for _ in range(2))
    assert len(calls) == 1
    assert first["risk"].tolist() == second["risk"].tolist() == [0.25, 0.5]


def test_the_digest_changes_with_contents_and_texts(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    before = digest([file], "text")
    assert before == digest([file], "text")
    assert before != digest([file], "other text")
    file.write_text("x = 2\n")
    assert before != digest([file], "text")


def test_source_files_include_sub_packages() -> None:
    files = source_files("retrieval")
    assert ROOT / "retrieval" / "encoders" / "aware.py" in files
    assert ROOT / "retrieval" / "cell_model.py" in files


def test_modules_run_from_the_root() -> None:
    assert "usage" in run_module("benchmarks.risk.speed", "--help").stdout
