"""Search in one shard of many patients: time to index, time to load, rows a second, recall and memory, from 50,000 to 2,000,000 rows.

    .venv/bin/python -m benchmarks.encoders.index_scaling [--rows 50000,200000,500000,2000000] [--width 64] [--latent 10] [--publish]

The embeddings are made up: forty clusters in a few dimensions (--latent), bent into --width by a random network, with noise in all
dimensions, and of length 1. Encoders of real cohorts give such clouds; their intrinsic dimension differs, and recall with it, which is why
a fit measures it on its own vectors. One thread. The vectors are mapped, as those of a large model are. The floor searches the events
(2 % of the rows) for the nearest ten.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np
import polars as pl
import torch

from benchmarks.common.markdown import markdown, replace_part
from nearward.retrieval.neighbors.index import Shard, measure_recall
from nearward.retrieval.neighbors.vector_store import VectorWriter
from nearward.tabular.operating_system import peak_memory
from nearward.tabular.typing import Floats32

Result = TypeVar("Result")
_QUERIES, _CLUSTERS, _HIDDEN, _BLOCK, _EVENTS = 1_000, 40, 48, 100_000, 0.02
_COLUMNS = ("rows", "search", "indexed, CPU s", "built on loading, CPU s", "rows/s, k=50", "rows/s, k=200", "rows/s, floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="50000,200000,500000,2000000")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--latent", type=int, default=10, help="dimensions of the clusters")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        pl.DataFrame([measure(int(args.rows), args.width, args.latent)]).write_ndjson(sys.stdout.buffer)
        return
    results = []
    for rows in args.rows.split(","):  # a process each: peaks of memory do not mix
        options = ("--rows", rows, "--width", str(args.width), "--latent", str(args.latent), "--alone")
        done = subprocess.run([sys.executable, "-m", "benchmarks.encoders.index_scaling", *options], capture_output=True, check=True)
        results.append(pl.read_ndjson(done.stdout))
        print(results[-1].to_dicts()[0], flush=True)
    if args.publish:
        command = f".venv/bin/python -m benchmarks.encoders.index_scaling --rows {args.rows} --publish"
        replace_part("index scale", f"```\n{command}\n```\n\n{args.width} numbers a row.\n\n{markdown(pl.concat(results), 3)}")


def measure(rows: int, width: int, latent: int) -> dict[str, object]:
    """Index made-up vectors, and search for others of the same kind."""
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        vectors, queries = make_up(rows, width, latent, Path(folder) / "vectors"), make_up(_QUERIES, width, latent, None, seed=1)
        indexed, shard = cpu_seconds(lambda: index(vectors))
        state = None if shard.lists is None else shard.lists.state()
        loaded, shard = cpu_seconds(lambda: index(vectors, state))
        is_event = np.random.default_rng(0).random(rows) < _EVENTS
        floor = shard.subset(shard.rows[is_event])
        floor.search(queries[:10], 10)
        times = [cpu_seconds(lambda one=one, k=k: one.search(queries, k))[0] for one, k in ((shard, 50), (shard, 200), (floor, 10))]
        recall = measure_recall(shard, queries[:300], 200).mean()
        values = (rows, shard.kind, indexed, loaded, *(_QUERIES / seconds for seconds in times))
        return {**dict(zip(_COLUMNS, values, strict=True)), "recall, k=200": float(recall), "peak memory, GB": peak_memory() / 1e9}


def index(vectors: Floats32, state: dict[str, object] | None = None) -> Shard:
    """Return a shard whose index is built: from its lists' state where there is one."""
    shard = Shard(vectors, np.arange(len(vectors))) if state is None else Shard.from_state(vectors, np.arange(len(vectors)), state)
    shard.search(vectors[:1], 1)
    return shard


def make_up(rows: int, width: int, latent: int, path: Path | None, seed: int = 0) -> Floats32:
    """Return vectors of length 1 (rows, width) about clusters in ``latent`` dimensions."""
    shape, rng = np.random.default_rng(7), np.random.default_rng(seed)
    centres = 1.5 * shape.normal(size=(_CLUSTERS, latent))
    first, second = shape.normal(size=(latent, _HIDDEN)) / latent**0.5, shape.normal(size=(_HIDDEN, width)) / _HIDDEN**0.5
    writer = VectorWriter(path, width)
    for begin in range(0, rows, _BLOCK):
        block = min(_BLOCK, rows - begin)
        point = centres[rng.integers(0, _CLUSTERS, block)] + rng.normal(size=(block, latent))
        vector = np.tanh(point @ first) @ second + 0.03 * rng.normal(size=(block, width))
        writer.append((vector / np.linalg.norm(vector, axis=1, keepdims=True)).astype(np.float32))
    return writer.finish()


def cpu_seconds(work):
    """Return the CPU time of a call, and its result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


if __name__ == "__main__":
    main()
