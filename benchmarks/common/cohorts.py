"""Tasks of the benchmarks, and their splits into training and test rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from nearward.datasets import Cohort, read_cohort

Rows = NDArray[Any]

EXTRA = {"brfss2015_diabetes": ["Stroke"]}  # further targets of a cohort that count as tasks of their own
_LARGE, _MEDIUM, _CAP = 20_000, 4_000, 50_000


def cohorts(folder: Path) -> Iterator[Cohort]:
    """Yield every task in a folder of cohorts (table and sidecar), small tables first."""
    tables = sorted(folder.glob("*.parquet"), key=lambda path: path.stat().st_size)
    if not tables:
        raise SystemExit(f"{folder}: no cohorts (*.parquet with *.json); set NEARWARD_DATA or --data")
    for table in tables:
        for task in [None, *EXTRA.get(table.stem, [])]:
            yield read_cohort(table, task=task)


def patients_of(cohort: Cohort) -> Rows:
    """Return the patient of each row (n,); without a patient column each row is a patient of its own."""
    return np.arange(len(cohort.outcome)) if cohort.groups is None else cohort.groups


def splits(cohort: Cohort) -> list[tuple[Rows, Rows]]:
    """Five stratified folds, the first two above 4,000 rows; above 20,000 rows one 70/30 split, training capped at 50,000."""
    n, outcome = len(cohort.outcome), cohort.outcome
    if n <= _LARGE:
        if cohort.groups is None:
            folds = StratifiedKFold(5, shuffle=True, random_state=0).split(np.zeros(n), outcome)
        else:
            folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(np.zeros(n), outcome, cohort.groups)
        return list(folds)[: 2 if n > _MEDIUM else 5]
    if cohort.groups is None:
        train, test = train_test_split(np.arange(n), test_size=0.3, stratify=outcome, random_state=0)
    else:
        folds = list(StratifiedGroupKFold(10, shuffle=True, random_state=0).split(np.zeros(n), outcome, cohort.groups))
        test = np.sort(np.concatenate([part for _, part in folds[:3]]))
        train = np.setdiff1d(np.arange(n), test)
    train = np.random.default_rng(0).permutation(train)[:_CAP]
    return [(np.sort(train), np.sort(test))]
