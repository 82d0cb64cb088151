"""Cost of an index of many patients: bytes, recall and time of exact search, IVF-SQ8 and IVF-PQ over one model's embeddings.

    .venv/bin/python -m benchmarks.encoders.index_scaling MODEL [--rows 500000] [--publish]

The archive: embeddings of a saved model's stored patients, resampled with noise of a tenth of their deviation up to --rows. The geometry of
a real archive of that size is unknown, so recall is an indication. One thread. Recall: share of the exact 26 nearest in the result (a shard
of five gives 26 rows to a context of 128).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import faiss
import numpy as np
import polars as pl

import nearward as nw
from benchmarks.common.markdown import markdown, replace_part

_NEAREST, _QUERIES = 26, 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    vectors = nw.load(args.model).fitted_.model.retriever.shards[0].vectors
    archive = vectors[rng.integers(0, len(vectors), args.rows + _QUERIES)]
    archive = (archive + 0.1 * vectors.std(axis=0) * rng.normal(size=archive.shape)).astype(np.float32)
    rows, queries = archive[:-_QUERIES], archive[-_QUERIES:]
    width, lists = rows.shape[1], int(4 * args.rows**0.5)
    kinds = {
        "exact": ("Flat", None),
        "IVF-SQ8": (f"IVF{lists},SQ8", 48),
        f"IVF-PQ, {width // 2} bytes": (f"IVF{lists},PQ{width // 2}", 48),
        f"IVF-PQ, {width // 4} bytes": (f"IVF{lists},PQ{width // 4}", 48),
    }
    exact, results = None, []
    for name, (factory, probes) in kinds.items():
        index = faiss.index_factory(width, factory)
        began = time.monotonic()
        index.train(rows[:: max(1, args.rows // (40 * lists))])
        index.add(rows)
        built = time.monotonic() - began
        if probes:
            faiss.extract_index_ivf(index).nprobe = probes
        began = time.monotonic()
        nearest = index.search(queries, _NEAREST)[1]
        seconds = time.monotonic() - began
        exact = nearest if exact is None else exact
        recall = np.mean([len(np.intersect1d(a, b)) / _NEAREST for a, b in zip(nearest, exact, strict=True)])
        size = len(faiss.serialize_index(index))
        results.append(
            {
                "index": name,
                "rows": args.rows,
                "bytes a row": size / args.rows,
                "built, s": built,
                "queries/s, one thread": len(queries) / seconds,
                "recall": float(recall),
            }
        )
        print(results[-1], flush=True)
    if args.publish:
        command = f".venv/bin/python -m benchmarks.encoders.index_scaling MODEL --rows {args.rows} --publish"
        replace_part("index scale", f"`{command}`\n\n{markdown(pl.DataFrame(results), 2)}")


if __name__ == "__main__":
    main()
