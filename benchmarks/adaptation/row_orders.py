"""Level and slope from a site's own rows: shrunk as ``adapt`` does it, or not, over many orders of the rows.

    .venv/bin/python -m benchmarks.adaptation.row_orders sites/gusto.parquet --site REGL [--rows 30000] [--orders 20]

Risks are those of a logistic regression that was fitted at the other sites. The first rows of an order are local, the others are judged.
What an order brings by luck is averaged out; so are gains and losses within a site. Cohorts as in ``benchmarks/risk/transport.py``.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import polars as pl

import nearward as nw
from benchmarks.adaptation.gusto import FEWEST_JUDGED, SIZES, interval_over_regions
from benchmarks.common.markdown import markdown_rows
from benchmarks.risk.transport import MODELS, find_cohort
from nearward.adaptation.recalibration import Recalibration
from nearward.evaluation.stats.logistic_recalibration import LogisticRecalibration
from nearward.tabular.calibration.log_odds import log_loss, logit
from nearward.tabular.typing import Floats, Ints

METHODS = ("level", "level and slope", "shrunk level", "shrunk level and slope")
_FEWEST_EVENTS = 60  # of a site, to be judged by
_EVENTS_FOR_SLOPE = 10  # as in ``adapt``
_FLOOR = 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort")
    parser.add_argument("--site")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--orders", type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    cohort, column = find_cohort(args.cohort, args.site)
    rows = np.random.default_rng(0).permutation(len(cohort.outcome))[: args.rows]
    features, outcome = cohort.features[rows], cohort.outcome[rows]
    risk = nw.transport(MODELS["logistic"](), features, pl.Series("outcome", outcome), site=column, resamples=100).risks
    site = features[column].cast(pl.String).fill_null("").to_numpy()
    parts = [(logit(risk[site == name], _FLOOR), outcome[site == name]) for name in np.unique(site)]
    parts = [(log_odds, y) for log_odds, y in parts if _FEWEST_EVENTS <= y.sum() <= len(y) - _FEWEST_EVENTS]
    table = []
    for size in SIZES:
        gains = np.array([_gains(*part, size, args.orders) for part in parts if len(part[1]) - size >= FEWEST_JUDGED])
        if len(gains):
            table.append((size, len(gains), *(interval_over_regions(one) for one in gains.T)))
    print(markdown_rows(("local rows", "sites", *METHODS), table))


def _gains(log_odds: Floats, outcome: Ints, size: int, orders: int) -> Floats:
    """Return by how much each method lowers the log loss of a site's other rows, mean over orders."""
    gains = []
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(len(outcome))
        z, y = log_odds[order], outcome[order].astype(float)
        if not 0 < y[:size].sum() < size:
            continue
        fits, before = _fits(z[:size], y[:size]), log_loss(z[size:], y[size:])
        gains.append([before - log_loss(intercept + slope * z[size:], y[size:]) for intercept, slope in fits])
    return np.mean(gains, axis=0)


def _fits(log_odds: Floats, outcome: Floats) -> list[tuple[float, float]]:
    """Return intercept and slope by each method; an estimate that does not exist leaves the risks as they are."""
    free, weight = LogisticRecalibration(log_odds, outcome), np.ones((1, len(outcome)))
    level, line = (float(free.in_the_large(weight)[0]), 1.0), tuple(free.intercept_and_slope(weight)[0].tolist())
    kinds = ("intercept", "intercept and slope" if outcome.sum() >= _EVENTS_FOR_SLOPE else "intercept")
    shrunk = [Recalibration.fit(log_odds, outcome.astype(np.int64), kind) for kind in kinds]
    fits = [level, line, *((one.intercept, one.slope) for one in shrunk)]
    return [(a, b) if np.isfinite([a, b]).all() else (0.0, 1.0) for a, b in fits]


if __name__ == "__main__":
    main()
