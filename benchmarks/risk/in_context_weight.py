"""How often the in-context model is in use: its weight in the stack, and how the stack ranks without and with it.

    .venv/bin/python -m benchmarks.risk.in_context_weight [--data DIR] [--only NAME,NAME] [--rows 6000] [--publish]

Each task's first split (``benchmarks/risk/run.py``), at most ``--rows`` rows to train on and to test. Out of fold: what the fit itself
compared. On test rows: the model with the in-context model and one fitted without it, where it is in use; elsewhere they are the same.
Figures are cached in out/in_context_weight under a digest of the code and the weights. --publish writes docs/benchmarks.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.cohorts import cohorts, splits
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import DATA, OUT, cached_arrays
from benchmarks.risk.run import code_digest
from benchmarks.risk.untuned_cohorts import FOLDER as UNTUNED
from nearward.datasets import Cohort

CACHE = OUT / "in_context_weight"
HEAVY = 0.2  # a weight in the stack above this counts as worth having
FIGURES = ("events", "auprc", "without", "with", "weight", "test_without", "test_with")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", help="folders of cohorts; by default the public and the untuned ones")
    parser.add_argument("--only", default="")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    only = args.only.split(",") if args.only else None
    folders = args.data or [DATA, *([UNTUNED] if UNTUNED.exists() else [])]
    tasks = [cohort for folder in folders for cohort in cohorts(folder) if only is None or cohort.name in only]
    figures = pl.DataFrame([{"task": cohort.name, **_figures(cohort, args.rows)} for cohort in tasks])
    body = f"{_share(figures)}\n\n{markdown(_table(figures))}"
    print(body)
    if args.publish:
        replace_part("in-context weight", body)


def _figures(cohort: Cohort, rows: int) -> dict[str, float]:
    """Return the figures of a task, cached."""
    figures = cached_arrays(CACHE / f"{cohort.name}.{rows}.{code_digest(ours=True)}.npz", lambda: {"figures": _compare(cohort, rows)})[
        "figures"
    ]
    return dict(zip(FIGURES, figures.tolist(), strict=True))


def _compare(cohort: Cohort, rows: int) -> np.ndarray:
    """Fit with the in-context model, and without it where it is in use; returns ``FIGURES``."""
    rng = np.random.default_rng(0)
    train, test = (np.sort(rng.permutation(part)[:rows]) for part in splits(cohort)[0])
    y, y_test = cohort.outcome[train], cohort.outcome[test]

    def fit(**options: object) -> tuple[nw.RiskClassifier, float]:
        groups = None if cohort.groups is None else cohort.groups[train]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = nw.RiskClassifier(random_state=0, **options).fit(cohort.features[train], y, groups=groups)
            return model, float(average_precision_score(y_test, model.predict_proba(cohort.features[test])[:, 1]))

    model, with_it = fit()
    backbone, members = model.summary_.backbone, model.summary_.out_of_fold.base_learners
    without_it = fit(backbone=None)[1] if backbone.in_use else with_it
    weight = members["in-context model"].weight if backbone.in_use else 0.0
    return np.array([y.sum(), backbone.auprc, backbone.auprc_without, backbone.auprc_with, weight, without_it, with_it])


def _share(figures: pl.DataFrame) -> str:
    """Return how many tasks give the in-context model much weight, and rank better with it out of fold and on test rows."""
    heavy = figures.filter((pl.col("weight") > HEAVY) & (pl.col("with") > pl.col("without")))
    on_test = heavy.filter(pl.col("test_with") > pl.col("test_without"))
    return (
        f"In use on {int((figures['weight'] > 0).sum())} of {figures.height} tasks. Weight above {HEAVY} and better out of fold on "
        f"{heavy.height}; on {on_test.height} of these also better on test rows."
    )


def _table(figures: pl.DataFrame) -> pl.DataFrame:
    gain = pl.when(pl.col("weight") > 0).then(pl.col("test_with") - pl.col("test_without"))
    return figures.select(
        "task",
        pl.col("events").cast(pl.Int64),
        pl.col("auprc").alias("in-context model alone"),
        pl.col("without").alias("stack without"),
        pl.col("with").alias("stack with"),
        pl.when(pl.col("weight") > 0).then(pl.col("weight").round(2).cast(pl.String)).otherwise(pl.lit("not in use")).alias("weight"),
        pl.when(gain.is_not_null()).then(gain.round(3).cast(pl.String)).otherwise(pl.lit("")).alias("gain on test rows"),
    )


if __name__ == "__main__":
    main()
