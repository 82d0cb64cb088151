"""Checks of exact search and encoder training on a GPU: the answers of the CPU, and the time of both.

    python -m benchmarks.encoders.gpu_checks [--device cuda] [--rows 10000 100000 200000]

Needs torch and numpy; what needs faiss or nearward's other dependencies is left out where they are missing, and said so. Vectors: normal,
48 wide. Ends with code 1 where the neighbours differ from the CPU's, or the AUPRC of the encoders' heads by .02.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from nearward.retrieval.device import find_device
from nearward.retrieval.neighbors.exact_search import ExactIndex
from nearward.retrieval.neighbors.gpu_search import GpuIndex

_WIDTH, _QUERIES, _NEAREST = 48, 1_024, 200
_TRAINING_ROWS, _TOLERANCE = 20_000, 0.02  # of the AUPRC of the heads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default=find_device().type)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 200_000])
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name() if device.type == 'cuda' else 'the CPU'}")
    passed = [check_search(rows, device) for rows in args.rows]
    for check in (check_faiss, check_training):
        try:
            passed.append(check(device))
        except ImportError as error:
            print(f"{check.__name__}: left out, {error.name} is missing")
    sys.exit(not all(passed))


def check_search(rows: int, device: torch.device) -> bool:
    """Compare the nearest rows of a search on the device with the CPU's."""
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(count, _WIDTH)).astype(np.float32) for count in (rows, _QUERIES))
    buffer = np.empty((_QUERIES, rows), dtype=np.float32)
    on_cpu, on_device = ExactIndex(vectors), GpuIndex(vectors, device)
    expected, cpu_seconds = timed(lambda: on_cpu.candidates(queries, _NEAREST, buffer))
    found, device_seconds = timed(lambda: on_device.search(queries, _NEAREST)[1])
    same = all(nearest(vectors, q, a) == nearest(vectors, q, b) for q, a, b in zip(queries, expected, found, strict=True))
    print(f"exact search, {rows} rows: CPU {_QUERIES / cpu_seconds:.0f} queries/s, {device} {_QUERIES / device_seconds:.0f}, same: {same}")
    return same


def nearest(vectors: Any, query: Any, candidates: Any) -> list[int]:
    """Return the nearest of some candidates, by distances computed one by one."""
    candidates = np.sort(candidates[candidates >= 0])
    sq_distance = ((vectors[candidates] - query) ** 2).sum(axis=1)
    return candidates[np.argsort(sq_distance, kind="stable")[:_NEAREST]].tolist()


def check_faiss(device: torch.device) -> bool:
    """Compare the inverted lists of a large shard on FAISS's GPUs with the same lists on the CPU: recall of the 200 nearest."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        print("check_faiss: left out, this faiss has no GPU")
        return True
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(count, _WIDTH)).astype(np.float32) for count in (300_000, _QUERIES))
    index = faiss.index_factory(_WIDTH, "IVF1024,SQ8")
    index.train(vectors[:50_000])
    index.add(vectors)
    clone = faiss.index_cpu_to_all_gpus(index)
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", 48)
    faiss.GpuParameterSpace().set_index_parameter(clone, "nprobe", 48)
    (_, expected), cpu_seconds = timed(lambda: index.search(queries, _NEAREST))
    (_, found), gpu_seconds = timed(lambda: clone.search(queries, _NEAREST))
    agreement = float(np.mean([np.isin(a, b).mean() for a, b in zip(expected, found, strict=True)]))
    print(f"inverted lists: CPU {_QUERIES / cpu_seconds:.0f} queries/s, GPU {_QUERIES / gpu_seconds:.0f}, agreement {agreement:.4f}")
    return agreement > 0.99


def check_training(device: torch.device) -> bool:
    """Compare encoders trained on the device with those trained on the CPU: AUPRC of their heads on new rows."""
    from sklearn.metrics import average_precision_score

    from nearward.retrieval.encoders import training
    from nearward.retrieval.encoders.aware import EncoderConfig, embed

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * _TRAINING_ROWS, 30))
    risk = 1 / (1 + np.exp(4 - x[:, 0] - x[:, 1] * x[:, 2]))
    outcome = (rng.random(len(x)) < risk).astype(np.int64)
    new, auprc = slice(_TRAINING_ROWS, None), []
    for name in ("cpu", str(device)):
        training.find_device = partial(torch.device, name)
        known = x[:_TRAINING_ROWS], outcome[:_TRAINING_ROWS], np.arange(_TRAINING_ROWS)
        encoder, seconds = timed(partial(training.train_encoder, *known, EncoderConfig(), 0), warm_up=False)
        auprc.append(float(average_precision_score(outcome[new], embed(encoder, x[new])[1])))
        print(f"training on {name}: {seconds:.1f} s, AUPRC {auprc[-1]:.4f}")
    return abs(auprc[0] - auprc[1]) < _TOLERANCE


def timed(work: Callable[[], Any], warm_up: bool = True) -> tuple[Any, float]:
    """Return the result of some work and its seconds, after one run that is not timed."""
    if warm_up:
        work()
    started = time.monotonic()
    return work(), time.monotonic() - started


if __name__ == "__main__":
    main()
