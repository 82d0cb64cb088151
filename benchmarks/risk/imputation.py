"""CellModel on real cohorts: imputation of masked cells and detection of planted errors, beside single-column baselines.

    .venv/bin/python -m benchmarks.risk.imputation [--data DIR] [--only NAME,NAME] [--seeds 1] [--publish]

Training rows are half of the rows, at most 5,000. On the other rows a tenth of the cells is masked and imputed. Numbers are scored by the
mean absolute error of their ranks in the column, categories by accuracy; baselines are the column's median and mode, and scikit-learn's
imputer by the five nearest rows (on the encoding). Planted errors: one number in a hundred is ten times too large, or another row's
(swapped). Precision is the share of errors among the most surprising cells, as many as there are errors; the baseline ranks the cells by
their distance from the middle of their own column.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.impute import KNNImputer

import nearward as nw
from benchmarks.common.cohorts import cohorts
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import DATA
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Bools

_ROWS = 5000
_MASKED, _PLANTED = 0.1, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default="support2,thyroid0387,polish_bankruptcy_y1")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = [cohort for cohort in cohorts(args.data) if cohort.name in args.only.split(",")]
    table = pl.DataFrame([row for cohort in tasks for seed in range(args.seeds) for row in judge(cohort, seed)])
    table = table.group_by("cohort", "by", maintain_order=True).mean().drop("seed")
    print(table)
    if args.publish:
        replace_part("cells", markdown(table).replace("None", ""))


def judge(cohort: Cohort, seed: int) -> list[dict[str, Any]]:
    """Score the model, the nearest rows and the single-column baseline on one split."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(cohort.features.height)
    train, test = (cohort.features[np.sort(part[:_ROWS])] for part in np.array_split(order, 2))
    schema = Schema.infer(train)
    stored, rows = schema.conform(train), schema.conform(test)
    encoding = TableEncoder.fit(schema, stored)
    began = time.process_time()
    model = nw.CellModel(random_state=seed, schema=schema).fit(train)
    seconds = time.process_time() - began
    numbers, texts = [c.name for c in encoding.numeric], [c.name for c in encoding.categorical if c.n_one_hot]
    masked = {name: (rng.random(rows.height) < _MASKED) & rows[name].is_not_null().to_numpy() for name in [*numbers, *texts]}
    incomplete = rows.with_columns(pl.when(~pl.Series(masked[name])).then(pl.col(name)).alias(name) for name in masked)
    constants = {
        **{name: stored[name].median() for name in numbers},
        **{name: stored[name].drop_nulls().mode().sort()[0] for name in texts},
    }
    imputed = {
        "cell model": model.transform(incomplete),
        "nearest rows": _nearest(encoding, stored, incomplete),
        "column alone": incomplete.with_columns(pl.col(name).fill_null(value) for name, value in constants.items()),
    }
    planted, corrupted = _plant_errors(rows, numbers, rng)
    surprise = model.surprise(corrupted).select(numbers).to_numpy()
    outward = np.abs(encoding.encode(corrupted).values)
    precision = {"cell model": _precision(surprise, planted), "column alone": _precision(outward, planted)}
    out = []
    for by, table in imputed.items():
        categories = [] if by == "nearest rows" else [name for name in texts if masked[name].any()]
        accuracy = [float((table[name] == rows[name]).to_numpy()[masked[name]].mean()) for name in categories]
        row = {"cohort": cohort.name, "by": by, "seed": seed, "number: error in ranks": _rank_error(encoding, rows, table, masked)}
        row |= {"category: right": float(np.mean(accuracy)) if accuracy else None}
        out.append(row | {f"errors found, {kind}": precision[by][kind] if by in precision else None for kind in ("x 10", "swapped")})
    out[0]["processor s"] = seconds
    return out


def _nearest(encoding: TableEncoder, stored: pl.DataFrame, incomplete: pl.DataFrame) -> pl.DataFrame:
    """Impute numbers by the mean of the five nearest stored rows."""
    names = [column.name for column in encoding.numeric]
    fitted = KNNImputer().fit(encoding.encode(stored[:2000]).values)
    value = fitted.transform(encoding.encode(incomplete).values)
    if value.shape[1] != len(names):
        return incomplete
    columns = [pl.Series(c.name, c.centre + c.scale * np.sinh(value[:, j])) for j, c in enumerate(encoding.numeric)]
    return incomplete.with_columns(pl.coalesce(pl.col(series.name), pl.lit(series)).alias(series.name) for series in columns)


def _rank_error(encoding: TableEncoder, rows: pl.DataFrame, imputed: pl.DataFrame, masked: dict[str, Bools]) -> float:
    """Return the mean over columns of the mean |difference in mid-rank| over masked cells; the median gives .25 on a uniform column."""
    truth, predicted = encoding.encode(rows).ranks, encoding.encode(imputed).ranks
    errors = [
        np.abs(truth[:, j] - predicted[:, j])[masked[c.name]].mean() for j, c in enumerate(encoding.numeric) if masked[c.name].sum() > 20
    ]
    return float(np.mean(errors))


def _plant_errors(rows: pl.DataFrame, numbers: list[str], rng: np.random.Generator) -> tuple[dict[str, Bools], pl.DataFrame]:
    """Plant errors in one number of a hundred, half of each kind, where they change the value."""
    kind = {name: rng.random((2, rows.height)) for name in numbers}
    planted = {k: np.zeros((rows.height, len(numbers)), dtype=bool) for k in ("x 10", "swapped")}
    columns = []
    for j, name in enumerate(numbers):
        value = rows[name].to_numpy().copy()
        other = value[rng.permutation(len(value))]
        chosen = kind[name][0] < _PLANTED
        for position, (k, new) in enumerate((("x 10", value * 10), ("swapped", other))):
            changed = (
                chosen & ((kind[name][1] < 0.5) == (position == 0)) & np.isfinite(value) & np.isfinite(new) & (np.abs(new - value) > 1e-9)
            )
            planted[k][:, j] = changed
            value = np.where(changed, new, value)
        columns.append(pl.Series(name, value).fill_nan(None))
    return planted, rows.with_columns(columns)


def _precision(score: NDArray[np.float64], planted: dict[str, Bools]) -> dict[str, float]:
    """Return the precision of the top cells, as many as there are errors of a kind; cells with errors of the other kind are excluded."""
    out = {}
    for kind, mask in planted.items():
        others = np.any([other for name, other in planted.items() if name != kind], axis=0)
        ranked = np.where(others | np.isnan(score), -np.inf, score).ravel()
        top = np.argsort(-ranked, kind="stable")[: mask.sum()]
        out[kind] = float(mask.ravel()[top].mean())
    return out


if __name__ == "__main__":
    main()
