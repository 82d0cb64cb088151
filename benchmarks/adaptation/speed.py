"""Time of ``extend`` and ``forget``: 10,000 rows added to 50,000 stored ones, then 100 patients removed.

    .venv/bin/python -m benchmarks.adaptation.speed [--data DIR] [--fitted 5000] [--stored 50000]

The model of brfss2015_diabetes is fitted on a few rows, and stores the others by ``extend``: that is quicker than a fit on all of them, and
the index, the votes and the records are as large.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nearward as nw
from benchmarks.common.markdown import markdown_rows
from benchmarks.common.paths import DATA
from nearward.adaptation.stored_patients import PATIENT
from nearward.datasets import read_cohort

_ADDED, _REMOVED = 10_000, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--fitted", type=int, default=5_000)
    parser.add_argument("--stored", type=int, default=50_000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    cohort = read_cohort(args.data / "brfss2015_diabetes.parquet")
    order = np.random.default_rng(0).permutation(len(cohort.outcome))[: args.stored + _ADDED]
    features, outcome = cohort.features[order], cohort.outcome[order]
    rows: list[tuple[str, str, str]] = []

    def timed(what: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        rows.append((what, f"{time.perf_counter() - wall:.2f}", f"{time.process_time() - cpu:.2f}"))
        return result

    first, last = args.fitted, args.stored
    model = nw.RiskClassifier(random_state=0).fit(features[:first], outcome[:first])
    timed(f"extend {first:,} stored rows by {last - first:,}", lambda: model.extend(features[first:last], outcome[first:last]))
    timed(f"extend {last:,} stored rows by {_ADDED:,}", lambda: model.extend(features[last:], outcome[last:]))
    ids = np.random.default_rng(1).permutation(len(order))[:_REMOVED].tolist()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        timed("save", lambda: model.save(folder))
        model = timed("load", lambda: nw.load(folder))
        removal = timed(f"forget {_REMOVED} patients of {len(order):,}", lambda: model.forget(ids))
        timed("save over the old folder", lambda: model.save(folder))
        stored = nw.load(folder).fitted_.records.get_column(PATIENT)
    assert removal.patients == _REMOVED
    assert not stored.is_in(list(map(str, ids))).any()
    print(markdown_rows(("what", "s", "s of CPU"), rows))


if __name__ == "__main__":
    main()
