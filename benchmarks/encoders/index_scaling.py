"""What an index of many patients costs: bytes, recall and time of exact search, IVF-SQ8 and IVF-PQ over one model's embeddings.

    .venv/bin/python -m benchmarks.encoders.index_scaling MODEL [--rows 500000] [--publish]

Embeddings of a saved model's stored patients, repeated with noise of a tenth of their spread until there are so many: how a real archive of
that size lies in the space is not known, so recall is an indication. One thread. Recall: share of the exact 26 nearest found (what a shard
gives a context of 128).
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

_NEAR, _ASKED = 26, 1_000


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("model", type=Path)
    asked.add_argument("--rows", type=int, default=500_000)
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    faiss.omp_set_num_threads(1)
    draw = np.random.default_rng(0)
    known = nw.load(told.model)._model.retriever.shards[0].vectors
    lying = known[draw.integers(0, len(known), told.rows + _ASKED)]
    lying = (lying + 0.1 * known.std(axis=0) * draw.normal(size=lying.shape)).astype(np.float32)
    rows, queries = lying[:-_ASKED], lying[-_ASKED:]
    width, lists = rows.shape[1], int(4 * told.rows**0.5)
    kinds = {
        "exact": ("Flat", None),
        "IVF-SQ8": (f"IVF{lists},SQ8", 48),
        f"IVF-PQ, {width // 2} bytes": (f"IVF{lists},PQ{width // 2}", 48),
        f"IVF-PQ, {width // 4} bytes": (f"IVF{lists},PQ{width // 4}", 48),
    }
    exact, found = None, []
    for name, (factory, probes) in kinds.items():
        index = faiss.index_factory(width, factory)
        began = time.monotonic()
        index.train(rows[:: max(1, told.rows // (40 * lists))])
        index.add(rows)
        built = time.monotonic() - began
        if probes:
            faiss.extract_index_ivf(index).nprobe = probes
        began = time.monotonic()
        near = index.search(queries, _NEAR)[1]
        seconds = time.monotonic() - began
        exact = near if exact is None else exact
        recall = np.mean([len(np.intersect1d(a, b)) / _NEAR for a, b in zip(near, exact, strict=True)])
        size = len(faiss.serialize_index(index))
        found.append(
            {
                "index": name,
                "rows": told.rows,
                "bytes a row": size / told.rows,
                "built, s": built,
                "queries/s, one thread": len(queries) / seconds,
                "recall": float(recall),
            }
        )
        print(found[-1], flush=True)
    if told.publish:
        command = f"benchmarks/encoders/index_scaling.py MODEL --rows {told.rows} --publish"
        replace_part("index scale", f"`{command}`\n\n{markdown(pl.DataFrame(found), 2)}")


if __name__ == "__main__":
    main()
