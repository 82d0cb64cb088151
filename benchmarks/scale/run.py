"""From ten thousand to ten million stays: seconds, memory, disk and recall of a fit, and its risks beside LightGBM's on all rows.

    .venv/bin/python -m benchmarks.scale.run --rows 10000 100000 [--max-memory 6GB] [--publish]
    .venv/bin/python -m benchmarks.scale.run --cohort [--data DIR] [--publish]

Made-up archives (made_up.py) in out/scale/, which are removed with --remove. Each step runs in a process of its own, which is watched
(watching.py). 100,000 stays of other patients are scored. --cohort fits all 253,680 rows of brfss2015_diabetes (stroke). Results are
added to benchmarks/results/scale.csv.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import DATA, OUT, RESULTS
from benchmarks.scale.made_up import make_archive
from benchmarks.scale.watching import watch
from nearward.datasets import read_cohort
from nearward.retrieval.neighbors.index import measure_recall
from nearward.risk_model.fitted import encoder_inputs

_FOLDER = OUT / "scale"
_RESULTS = RESULTS / "scale.csv"
_COHORT = "brfss2015_diabetes"
_OUTSIDE = ["stay", "patient", "hospital", "died"]  # no features
_QUERIES, _NEAREST = 300, 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[])
    parser.add_argument("--cohort", action="store_true")
    parser.add_argument("--max-memory", default="8GB")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--step", choices=_STEPS, help="run one step in this process")
    args = parser.parse_args()
    if args.step:
        print(json.dumps(_STEPS[args.step](_FOLDER / str(args.rows[0]) if args.rows else _FOLDER / _COHORT, args)))
        return
    for rows in args.rows:
        _note(_measure(_FOLDER / str(rows), "--rows", rows, "--max-memory", args.max_memory))
        if args.remove:
            shutil.rmtree(_FOLDER / str(rows))
    if args.cohort:
        _note(_measure(_FOLDER / _COHORT, "--max-memory", args.max_memory, "--data", args.data))
    if args.publish:
        _publish()


def _measure(folder: Path, *arguments: object) -> dict[str, Any]:
    """Run the steps of one table, and return a row of the results."""
    row: dict[str, Any] = {}
    for step in _STEPS:
        watched = watch("benchmarks.scale.run", "--step", step, *arguments)
        row |= watched.result
        print(step, f"{watched.seconds:.0f} s", watched.result, flush=True)
        if step != "make":
            row |= {f"{step} GB": watched.memory / 1e9, f"{step} GB with files": watched.resident / 1e9}
    row["model GB"] = sum(path.stat().st_size for path in (folder / "model").iterdir()) / 1e9
    return row


def _make(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    if args.rows:
        if not (folder / "new-truth").exists():
            make_archive(folder, args.rows[0])
        return {"table": f"{args.rows[0]:,} x 30"}
    cohort = read_cohort(args.data / f"{_COHORT}.parquet", task="Stroke")
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    table = cohort.features.with_columns(pl.Series("died", cohort.outcome))
    test = np.random.default_rng(0).random(table.height) < 0.2
    table.write_parquet(folder / "rows" / "all.parquet")
    table.filter(pl.Series(test)).write_parquet(folder / "new.parquet")
    return {"table": f"{_COHORT}, {table.height:,} x {table.width - 1}"}


def _fit(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    roles = {"group": "patient", "id": "stay", "site": "hospital"} if args.rows else {}
    began = time.monotonic()
    settings = nw.RiskClassifier(random_state=0, verbose=_log)
    model = nw.fit_archive(folder / "rows", folder / "model", outcome="died", model=settings, max_memory=args.max_memory, **roles)
    summary = model.summary_
    counts = {"events": summary.events, "patients": summary.patients, "taught": summary.taught or summary.rows}
    result = {**counts, "fit s": time.monotonic() - began, "fit CPU s": time.process_time(), "AUPRC out of fold": summary.out_of_fold.auprc}
    check = model.fitted_.model.retriever.index_check
    return result if check is None else {**result, "vote AUPRC": check.auprc, "exact vote AUPRC": check.exact_auprc}


def _log(words: str) -> None:
    import sys

    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def _score(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    new, truth = _new_rows(folder)
    began = time.monotonic()
    model = nw.load(folder / "model")
    loaded = time.monotonic() - began
    model.predict_frame(new[:100])  # the first search builds the index
    began = time.monotonic()
    risk = model.predict_frame(new)["risk"].to_numpy()
    rate = new.height / (time.monotonic() - began)
    result = {"load s": loaded, "scored rows/s": rate, "recall": _recall(model, new)}
    if truth is None:
        return result
    outcome = new["died"].to_numpy()
    figures = {"AUPRC": average_precision_score(outcome, risk), "AUPRC of the true risk": average_precision_score(outcome, truth)}
    return {**result, **figures, "mean risk over true": float(risk.mean() / truth.mean())}


def _lightgbm(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Fit LightGBM with default settings on all rows in memory, categories by their codes, and score the new rows."""
    import lightgbm

    new, truth = _new_rows(folder)
    began = time.monotonic()
    frame = pl.read_parquet(folder / "rows")
    names = [name for name in frame.columns if name not in _OUTSIDE]
    texts = [name for name in names if frame.schema[name] == pl.String]
    levels = {name: frame[name].unique().drop_nulls().sort().to_list() for name in texts}
    categories = [names.index(name) for name in texts]
    data = lightgbm.Dataset(_codes(frame.select(names), levels), frame["died"].to_numpy(), categorical_feature=categories)
    del frame
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "seed": 0, "num_threads": 2}, data, num_boost_round=100)
    result = {"LightGBM s": time.monotonic() - began}
    if truth is not None:
        risk = booster.predict(_codes(new.select(names), levels))
        result["LightGBM AUPRC"] = float(average_precision_score(new["died"], risk))
    return result


def _codes(frame: pl.DataFrame, levels: dict[str, list[str]]) -> np.ndarray:
    texts = [
        pl.col(name).replace_strict(found, list(range(len(found))), default=None, return_dtype=pl.Float32) for name, found in levels.items()
    ]
    return frame.with_columns(texts).select(pl.all().cast(pl.Float32)).to_numpy()


def _new_rows(folder: Path) -> tuple[pl.DataFrame, np.ndarray | None]:
    if not (folder / "new-truth").exists():
        return pl.read_parquet(folder / "new.parquet"), None
    return pl.read_parquet(folder / "new"), pl.read_parquet(folder / "new-truth")["risk"].to_numpy()


def _recall(model: nw.RiskClassifier, new: pl.DataFrame) -> float:
    """Return the share of the exact 26 nearest rows of a shard that its index returns, for 300 new rows."""
    fitted = model.fitted_
    rows, retriever = fitted.model.encode(fitted.schema.conform(new[:_QUERIES])), fitted.model.retriever
    embedding = retriever.embed(0, encoder_inputs(fitted.model.table_encoder, rows))[0].astype(np.float32)
    return float(measure_recall(retriever.shards[0], embedding, _NEAREST).mean())


def _note(row: dict[str, Any]) -> None:
    """Add a row to the results, in the place of an earlier one of the same table."""
    frame = pl.DataFrame([{**row, "date": time.strftime("%Y-%m-%d")}])
    if _RESULTS.exists():
        earlier = pl.read_csv(_RESULTS).filter(pl.col("table") != row["table"])
        frame = pl.concat([earlier, frame], how="diagonal_relaxed")
    frame.sort("events").write_csv(_RESULTS)


def _publish() -> None:
    results = pl.read_csv(_RESULTS)
    fit = ("table", "events", "taught", "fit s", "fit GB", "fit GB with files", "model GB", "recall", "scored rows/s", "score GB")
    risks = ("table", "AUPRC of the true risk", "AUPRC", "LightGBM AUPRC", "mean risk over true", "LightGBM s", "lightgbm GB")
    for name, columns, rows in (("scale fit", fit, results), ("scale risks", risks, results.drop_nulls("AUPRC"))):
        whole = [column for column in columns if column.endswith((" s", "rows/s"))]
        replace_part(name, markdown(rows.select(columns).with_columns(pl.col(whole).round(0).cast(pl.Int64)), 3))


_STEPS = {"make": _make, "fit": _fit, "score": _score, "lightgbm": _lightgbm}

if __name__ == "__main__":
    main()
