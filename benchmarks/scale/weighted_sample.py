"""Trees and logistic regression on all rows, on a weighted sample, and on the sample as it is with its log-odds shifted.

    .venv/bin/python -m benchmarks.scale.weighted_sample brfss2015_diabetes.parquet Stroke > results.csv

The sample has all events and as many other rows as fit into a limit. Either these weigh as many rows as they stand for, or the learner sees
the sample as it is and log(share of the events in the sample / share of the others) is taken from its log-odds. Tested on 30 % of the rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from nearward.evaluation.stats.logistic_recalibration import LogisticRecalibration
from nearward.tabular.calibration.log_odds import log_loss
from nearward.tabular.data.schema import Schema
from nearward.tabular.ensemble.base_learners import BOOSTING, tree_columns
from nearward.tabular.ensemble.boosting import boosted_trees
from nearward.tabular.ensemble.logistic_regression import fit_logistic_regression
from nearward.tabular.preprocessing.table_encoder import TableEncoder

SIZES, SEEDS = (100_000, 20_000), 3
SETTINGS = ("gradient boosting, 31 leaves", "gradient boosting, 10 leaves")

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    parser.add_argument("outcome")
    args = parser.parse_args()
    frame = pl.read_parquet(args.table)
    outcome, table = frame.get_column(args.outcome).cast(pl.Int64).to_numpy(), frame.drop(args.outcome)
    print("seed,design,rows,learner,auprc,log_loss,intercept,slope,seconds")
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(outcome))
        train, test = np.split(order, [int(0.7 * len(order))])
        for design, rows, weight in designs(train, outcome, seed):
            began = time.process_time()
            learners = fit(table[rows], outcome[rows], weight, design, table[test])
            seconds = time.process_time() - began
            for name, z in learners.items():
                recalibration, one = LogisticRecalibration(z, outcome[test]), np.ones((1, len(test)))
                figures = (
                    average_precision_score(outcome[test], z), log_loss(z, outcome[test]), recalibration.in_the_large(one)[0],
                    recalibration.intercept_and_slope(one)[0, 1], seconds,
                )  # fmt: skip
                print(seed, design, len(rows), f'"{name}"', *(f"{figure:.5f}" for figure in figures), sep=",", flush=True)


def designs(train: NDArray[np.int64], outcome: NDArray[np.int64], seed: int) -> Iterator[tuple[str, NDArray[np.int64], Array]]:
    """Yield each design's name, rows and sampling weights."""
    yield "all", train, np.ones(len(train))
    events, others = train[outcome[train] == 1], train[outcome[train] == 0]
    for size in SIZES:
        drawn = np.random.default_rng(seed).choice(others, size - len(events), replace=False)
        weight = np.append(np.ones(len(events)), np.full(len(drawn), len(others) / len(drawn)))
        for design in ("weighted", "shifted"):
            yield design, np.append(events, drawn), weight


def fit(frame: pl.DataFrame, outcome: NDArray[np.int64], weight: Array, design: str, test: pl.DataFrame) -> dict[str, Array]:
    """Return each learner's log-odds of the test rows."""
    encoder = TableEncoder.fit(Schema.infer(frame), frame)
    fitted, tested = encoder.encode(frame), encoder.encode(test)
    shift = float(np.log(weight[outcome == 1].mean() / weight[outcome == 0].mean())) if design == "shifted" else 0.0
    sample_weight = weight if design == "weighted" else None
    linear = fit_logistic_regression(encoder.to_matrix(fitted), outcome, sample_weight)
    trees, columns = (tree_columns(numbers, np.zeros((len(numbers.values), 0))) for numbers in (fitted, tested))
    forests = boosted_trees(trees, outcome, 0, *(BOOSTING[name] for name in SETTINGS), sample_weight=sample_weight)
    scores = {name: forest.scores(columns) + shift for name, forest in zip(SETTINGS, forests, strict=True)}
    logistic = encoder.to_matrix(tested) @ linear.coef_[0] + linear.intercept_[0] + shift
    return {"logistic regression": logistic, **scores, "mean of the trees": np.mean(list(scores.values()), axis=0)}


if __name__ == "__main__":
    main()
