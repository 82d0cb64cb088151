"""Time of the FAITH-style card on columns of diabetes130: its fidelity beside SDMetrics' QualityReport, and the whole card."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl

import nearward as nw
from benchmarks.common.paths import DATA
from nearward.datasets import read_cohort
from nearward.evaluation.synthetic.fidelity import fidelity
from nearward.evaluation.tables.inputs import read_tables
from nearward.tabular.operating_system import peak_memory

FIDELITY, QUALITY, CARD = "fidelity part, 100,000 x 30", "SDMetrics QualityReport, 100,000 x 30", "whole card, 20,000 x 30"
CASES = (FIDELITY, QUALITY, CARD)
_COLUMNS = 30


def measure_card(case: str, sdmetrics: str) -> dict[str, object]:
    """Run one case; ``sdmetrics`` is a Python that has sdmetrics."""
    result = {FIDELITY: _fidelity, QUALITY: lambda: _quality(sdmetrics), CARD: _card}[case]()
    memory = peak_memory() / 2**30
    row: dict[str, object] = {
        "case": case,
        "cores": len(os.sched_getaffinity(0)),
        "s": 0.0,
        "peak memory, GB": round(memory, 2),
        "result": "",
    }
    return {**row, **result}


def tables(rows: int, again: bool) -> list[pl.DataFrame]:
    """Return train, holdout and a stand-in for a synthetic table: random rows of diabetes130, ``again`` with replacement."""
    cohort = read_cohort(DATA / "diabetes130.parquet")
    frame = cohort.features[:, : _COLUMNS - 1].with_columns(event=cohort.outcome)
    rng = np.random.default_rng(0)
    if again:
        return [frame[np.sort(rng.integers(0, frame.height, rows))] for _ in range(3)]
    order = rng.permutation(frame.height)
    return [frame[order[i * rows : (i + 1) * rows]] for i in range(3)]


def _fidelity() -> dict[str, object]:
    train, holdout, synthetic = tables(100_000, again=True)
    begun, spent = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows repeat: they were drawn with replacement
        result = fidelity(read_tables(train, holdout, synthetic, "event"), seed=0)
    seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    return {"s": round(seconds, 1), "CPU, s": round(spent, 1), "result": f"F {result.score}; two-sample {result.two_sample}"}


def _quality(python: str) -> dict[str, object]:
    train, _, synthetic = tables(100_000, again=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.parquet" for name in ("real", "synthetic")]
        for frame, path in zip((train, synthetic), paths, strict=True):
            frame.write_parquet(path)
        script = Path(__file__).with_name("sdmetrics_quality.py")
        process = subprocess.run([python, script, *paths], check=False, capture_output=True, text=True)
    if process.returncode:
        return {"s": None, "CPU, s": None, "peak memory, GB": None, "result": f"not run: {process.stderr.strip().splitlines()[-1]}"}
    result = json.loads(process.stdout.splitlines()[-1])
    return {
        "s": round(result["seconds"], 1),
        "CPU, s": round(result["spent"], 1),
        "peak memory, GB": round(result["memory"], 2),
        "result": f"score {result['score']:.3f}",
    }


def _card() -> dict[str, object]:
    train, holdout, synthetic = tables(20_000, again=False)
    begun, spent = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        card = nw.faith_card(train=train, holdout=holdout, synthetic=synthetic, outcome="event")
    seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    estimates = "; ".join(f"{letter} {part.estimate}" for letter, part in card.components.items())
    return {"s": round(seconds, 1), "CPU, s": round(spent, 1), "result": f"{'passed' if card.passed else 'not passed'}: {estimates}"}
