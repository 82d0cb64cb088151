"""Speed checks of the in-context network: rows per second of queries and of a fit, seconds to load, bytes of the file.

Shapes: n stored rows, q query rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common.acceptance import AcceptanceChecks
from benchmarks.in_context.probes import RULE
from nearward.retrieval.neighbors.voting import rows_per_shard
from nearward.risk_model.in_context import EnsembleView, InContextModel
from nearward.tabular.in_context.inference import QueryBatch, predict_risk
from nearward.tabular.in_context.model import InContextNet
from nearward.tabular.in_context.row_features import EXPERTS, FEATURES, INPUTS, RowFeatures


def check_time(net: InContextNet, path: Path, checks: AcceptanceChecks) -> None:
    """Check rows per second of queries and of a fit, seconds to load, and bytes."""
    code = "import sys; from pathlib import Path; from nearward.tabular.in_context.checkpoint import load_net; load_net(Path(sys.argv[1]))"
    loads = [_seconds(lambda: subprocess.run([sys.executable, "-c", code, str(path.resolve())], check=True)) for _ in range(3)]
    rates: dict[str, dict[str, Any]] = {}
    rng = np.random.default_rng(0)
    counts = [count for count in (1, 2) if count <= len(os.sched_getaffinity(0))]
    for neighbours in (64, 128, 250):
        questions = _simulated_questions(net, neighbours, rng)
        for threads in counts:
            with _cores(threads):
                predict_risk(net, questions)
                rate = len(questions.row) / min(_seconds(lambda questions=questions: predict_risk(net, questions)) for _ in range(3))
            rates.setdefault(f"k = {neighbours} ({questions.row.shape[1]} places): rows/s", {})[_threads(threads)] = rate
    for n in (2_000, 10_000, 50_000):
        value, score, y = rng.normal(size=(n, 32)), rng.normal(size=(n, 12)), (rng.random(n) < 0.1).astype(np.int64)
        views = (EnsembleView(RULE, np.arange(32), np.arange(12)),)
        for threads in counts:
            with _cores(threads):
                took = _seconds(lambda v=value, s=score, y=y, views=views: InContextModel(net, views, v, s, y))
            rates.setdefault(f"slots and tokens of {n} stored rows: rows/s", {})[_threads(threads)] = n / took
    checks.add_table("time", rates, 0)
    if counts[-1] == 2:
        at_128 = next(row for case, row in rates.items() if case.startswith("k = 128"))
        checks.require("time", "k = 128, two threads: rows/s", at_128[_threads(2)], ">=", 800)
    checks.require("time", "a fresh process imports and loads: s", min(loads), "<=", 2)
    checks.require("time", "file: MB", path.stat().st_size / 1e6, "<=", 4)


def _simulated_questions(net: InContextNet, neighbours: int, rng: np.random.Generator, q: int = 2048, n: int = 10_000) -> QueryBatch:
    """Return random rows in contexts as large as those of five encoders."""
    places = 5 * (rows_per_shard(neighbours, 5) + rows_per_shard(max(8, 0.05 * neighbours), 5))
    inputs = torch.as_tensor(rng.normal(size=(1, n, INPUTS)), dtype=torch.float32)
    rows = RowFeatures(inputs[:, :, : 2 * FEATURES], inputs[:, :, :EXPERTS], inputs, torch.ones(1, EXPERTS, dtype=torch.bool))
    known = torch.as_tensor(rng.random(n) < 0.1).long()
    row = torch.as_tensor(rng.integers(0, n, (q, places)))
    with torch.inference_mode():
        token = net.tokens(rows, known[None])[0]
    inside = torch.ones(row.shape, dtype=torch.bool)
    return QueryBatch(rows.take(slice(0, q)), token, known, row, torch.rand(row.shape) * 2, inside, ~inside)


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Restrict the block to this many cores and torch threads."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(allowed)[-count:])
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
