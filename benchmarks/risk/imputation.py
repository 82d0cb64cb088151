"""CellModel on real cohorts: hidden cells filled, and slips found, beside what a column knows of itself.

    .venv/bin/python -m benchmarks.risk.imputation [--data DIR] [--only NAME,NAME] [--seeds 1] [--publish]

Half of the rows (5,000 at the most) are learned from. On other rows a tenth of the cells is hidden and filled: numbers are judged by their
mean absolute error in the column's ranks, categories by the share that is right, beside the column's median and commonest level and
scikit-learn's imputer by the five nearest rows (on the encoding). Slips: one number in a hundred is ten times too large, or another row's
(swapped); the share of slips among the cells that surprise most (as many as there are slips), beside the cells furthest out in their
own column.
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
from benchmarks.common.cohorts import DATA, cohorts
from benchmarks.common.markdown import markdown, replace_part
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Bools

_ROWS = 5000
_HIDDEN, _SLIPPED = 0.1, 0.01


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--only", default="support2,thyroid0387,polish_bankruptcy_y1")
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    warnings.simplefilter("ignore")
    tasks = [cohort for cohort in cohorts(told.data) if cohort.name in told.only.split(",")]
    table = pl.DataFrame([row for cohort in tasks for seed in range(told.seeds) for row in judge(cohort, seed)])
    table = table.group_by("cohort", "by", maintain_order=True).mean().drop("seed")
    print(table)
    if told.publish:
        replace_part("cells", markdown(table).replace("None", ""))


def judge(cohort: Cohort, seed: int) -> list[dict[str, Any]]:
    """Figures of the model, of the nearest rows and of the columns alone on one split."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(cohort.features.height)
    train, test = (cohort.features[np.sort(part[:_ROWS])] for part in np.array_split(order, 2))
    schema = Schema.infer(train)
    known, rows = schema.conform(train), schema.conform(test)
    encoding = TableEncoder.fit(schema, known)
    began = time.process_time()
    model = nw.CellModel(seed=seed, schema=schema).fit(train)
    seconds = time.process_time() - began
    numbers, texts = [c.name for c in encoding.number], [c.name for c in encoding.category if c.one_hot]
    gone = {name: (draw.random(rows.height) < _HIDDEN) & rows[name].is_not_null().to_numpy() for name in [*numbers, *texts]}
    holes = rows.with_columns(pl.when(~pl.Series(gone[name])).then(pl.col(name)).alias(name) for name in gone)
    alone = {**{name: known[name].median() for name in numbers}, **{name: known[name].drop_nulls().mode().sort()[0] for name in texts}}
    filled = {
        "cell model": model.transform(holes),
        "nearest rows": _nearest(encoding, known, holes),
        "column alone": holes.with_columns(pl.col(name).fill_null(value) for name, value in alone.items()),
    }
    where, slipped = _slips(rows, numbers, draw)
    surprise = model.surprise(slipped).select(numbers).to_numpy()
    outward = np.abs(encoding.numbers(slipped).value)
    found = {"cell model": _precision(surprise, where), "column alone": _precision(outward, where)}
    out = []
    for by, table in filled.items():
        told = [] if by == "nearest rows" else [name for name in texts if gone[name].any()]
        right = [float((table[name] == rows[name]).to_numpy()[gone[name]].mean()) for name in told]
        row = {"cohort": cohort.name, "by": by, "seed": seed, "number: error in ranks": _rank_error(encoding, rows, table, gone)}
        row |= {"category: right": float(np.mean(right)) if right else None}
        out.append(row | {f"slips found, {kind}": found[by][kind] if by in found else None for kind in ("x 10", "swapped")})
    out[0]["processor s"] = seconds
    return out


def _nearest(encoding: TableEncoder, known: pl.DataFrame, holes: pl.DataFrame) -> pl.DataFrame:
    """Fill numbers by the mean of the five nearest stored rows."""
    names = [column.name for column in encoding.number]
    fitted = KNNImputer().fit(encoding.numbers(known[:2000]).value)
    value = fitted.transform(encoding.numbers(holes).value)
    if value.shape[1] != len(names):
        return holes
    back = [pl.Series(c.name, c.centre + c.scale * np.sinh(value[:, j])) for j, c in enumerate(encoding.number)]
    return holes.with_columns(pl.coalesce(pl.col(series.name), pl.lit(series)).alias(series.name) for series in back)


def _rank_error(encoding: TableEncoder, rows: pl.DataFrame, filled: pl.DataFrame, gone: dict[str, Bools]) -> float:
    """Mean over columns of the mean |difference in mid-rank| over hidden cells; .25 is what the median of an even column gives."""
    truth, told = encoding.numbers(rows).rank, encoding.numbers(filled).rank
    errors = [np.abs(truth[:, j] - told[:, j])[gone[c.name]].mean() for j, c in enumerate(encoding.number) if gone[c.name].sum() > 20]
    return float(np.mean(errors))


def _slips(rows: pl.DataFrame, numbers: list[str], draw: np.random.Generator) -> tuple[dict[str, Bools], pl.DataFrame]:
    """Plant slips in one number of a hundred, half of each kind, where they change something."""
    kind = {name: draw.random((2, rows.height)) for name in numbers}
    where = {k: np.zeros((rows.height, len(numbers)), dtype=bool) for k in ("x 10", "swapped")}
    columns = []
    for j, name in enumerate(numbers):
        value = rows[name].to_numpy().copy()
        other = value[draw.permutation(len(value))]
        chosen = kind[name][0] < _SLIPPED
        for at, (k, new) in enumerate((("x 10", value * 10), ("swapped", other))):
            here = chosen & ((kind[name][1] < 0.5) == (at == 0)) & np.isfinite(value) & np.isfinite(new) & (np.abs(new - value) > 1e-9)
            where[k][:, j] = here
            value = np.where(here, new, value)
        columns.append(pl.Series(name, value).fill_nan(None))
    return where, rows.with_columns(columns)


def _precision(score: NDArray[np.float64], where: dict[str, Bools]) -> dict[str, float]:
    """Share of slips of a kind among the most striking cells, as many as there are; the other kind's cells are left out."""
    out = {}
    for kind, here in where.items():
        others = np.any([mask for name, mask in where.items() if name != kind], axis=0)
        ranked = np.where(others | np.isnan(score), -np.inf, score).ravel()
        top = np.argsort(-ranked, kind="stable")[: here.sum()]
        out[kind] = float(here.ravel()[top].mean())
    return out


if __name__ == "__main__":
    main()
