"""Risk benchmark: nearward beside the usual models on every cohort in a folder, same splits, paired intervals.

    .venv/bin/python -m benchmarks.risk.run [--data DIR] [--only NAME,NAME] [--again MODEL,MODEL] [--publish]

Protocol: up to 20,000 rows StratifiedKFold(5, shuffle, seed 0), folds 0-1 only above 4,000 rows; above 20,000 rows one 70/30
stratified split (grouped where there is a group), training capped at 50,000. Predictions are cached in out/risk under a digest of the code
behind them; --again fits models anew. --publish writes benchmarks/results/risk.csv and the tables in docs/benchmarks.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.baselines import baselines, stacked, standardised
from benchmarks.common.cohorts import cohorts, patients_of, splits
from benchmarks.common.markdown import markdown, replace_part, signed
from benchmarks.common.paired_metrics import expected_error, paired_intervals, risk_metrics
from benchmarks.common.paths import DATA, OUT, RESULTS, ROOT, digest, source_files
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.in_context.checkpoint import SHIPPED
from nearward.tabular.preprocessing.table_encoder import TableEncoder

CACHE = OUT / "risk"
OURS, VOTE = "nearward", "vote"  # vote: of the similar patients, by the in-context model's weights where it is in use
RAW, ENCODED = "raw kNN", "encoded kNN"  # standardised columns and one-hot; the encoding that the encoders start from
_RAW_NEIGHBOURS = (25, 50, 125, 250)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    parser.add_argument("--only", default="", help="names of tasks, with commas")
    parser.add_argument("--again", default="", help="names of models to fit again, with commas")
    parser.add_argument("--publish", action="store_true", help="write benchmarks/results/risk.csv and docs/benchmarks")
    args = parser.parse_args()
    only, again = [[part for part in text.split(",") if part] for text in (args.only, args.again)]
    CACHE.mkdir(parents=True, exist_ok=True)
    tasks = [cohort for cohort in cohorts(args.data) if not only or cohort.name in only]
    rows = [row for cohort in tasks for row in run_task(cohort, again)]
    raw = pl.DataFrame(rows)
    table, gains = summarise(raw, tasks)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=60):
        print(table, gains, sep="\n")
    if args.publish:
        raw.write_csv(RESULTS / "risk.csv", float_precision=5)
        publish(table, gains)


def run_task(cohort: Cohort, again: list[str]) -> list[dict[str, object]]:
    """Fit every model on every split of a task; return a row of metrics for each."""
    rows: list[dict[str, object]] = []
    for f, (train, test) in enumerate(splits(cohort)):
        for model in [OURS, VOTE, RAW, ENCODED, *baselines()]:
            path = cache_path(cohort.name, f, model)
            if not path.exists() or (model in again and model != VOTE):  # the vote is written with the risk
                _fit(cohort, f, train, test, model)
            saved = np.load(path)
            y = cohort.outcome[test]
            seconds = float(saved["seconds"])
            counts = {"n_train": len(train), "n_test": len(test), "events_test": int(y.sum())}
            metrics = risk_metrics(y, saved["risk"])
            rows.append({"task": cohort.name, "fold": f, "model": model, **counts, **metrics, "seconds": seconds})
            print(f"{cohort.name} {f} {model}: AUPRC {metrics['auprc']:.4f}, ECE {metrics['ece']:.4f}, {seconds:.1f} s", flush=True)
    return rows


@cache
def code_digest(ours: bool) -> str:
    """Return a digest of the code and the weights behind a model's predictions."""
    if ours:
        return digest([*source_files("nearward/risk_model", "tabular", "retrieval"), SHIPPED])
    return digest([ROOT / "benchmarks" / "common" / "baselines.py"])


def cache_path(task: str, fold: int, model: str) -> Path:
    """Return the file of a model's predictions."""
    return CACHE / f"{task}.{fold}.{model}.{code_digest(model in (OURS, VOTE))}.npz"


def _fit(cohort: Cohort, f: int, train: np.ndarray, test: np.ndarray, model: str) -> None:
    x, y, x_test = cohort.features[train], cohort.outcome[train], cohort.features[test]
    group = None if cohort.groups is None else cohort.groups[train]
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if model in (RAW, ENCODED):
            risks = {model: _neighbours(*(_raw if model == RAW else _encoded)(x, x_test), y)}
        elif model in (OURS, VOTE):
            scored = nw.RiskClassifier(random_state=0).fit(x, y, groups=group).predict_frame(x_test)
            risks = {OURS: scored["risk"].to_numpy(), VOTE: scored["vote"].to_numpy()}
        else:
            risks = {model: baselines()[model](x, y, x_test)}
    for name, risk in risks.items():
        np.savez(cache_path(cohort.name, f, name), risk=risk, seconds=time.monotonic() - began)


def _raw(train: pl.DataFrame, test: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    x, numbers, text = stacked(train)
    prepare = standardised(numbers, text).set_params(sparse_threshold=0)
    return prepare.fit_transform(x), prepare.transform(stacked(test)[0])


def _encoded(train: pl.DataFrame, test: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    schema = Schema.infer(train)
    stored, queries = schema.conform(train), schema.conform(test)
    encoding = TableEncoder.fit(schema, stored)
    return encoding.transform(stored), encoding.transform(queries)


def _neighbours(x: np.ndarray, x_test: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Share of events among the nearest rows; k by leave-one-out AUPRC."""
    import faiss

    x, x_test = (np.ascontiguousarray(part, dtype=np.float32) for part in (x, x_test))
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    sample = np.sort(np.random.default_rng(0).permutation(len(x))[:10_000])
    most = min(max(_RAW_NEIGHBOURS), len(x) - 1)
    nearest = index.search(x[sample], most + 1)[1]
    own = nearest == sample[:, None]
    own[~own.any(axis=1), -1] = True  # among many duplicates the row itself may be missing: drop the last instead
    outcomes = outcome[nearest[~own].reshape(len(sample), most)]
    best = max(
        (k for k in _RAW_NEIGHBOURS if k <= most), key=lambda k: average_precision_score(outcome[sample], outcomes[:, :k].mean(axis=1))
    )
    return outcome[index.search(x_test, best)[1]].mean(axis=1)


def summarise(raw: pl.DataFrame, tasks: list[Cohort]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the mean AUPRC per task and model, and nearward's gain over each task's best baseline."""
    names = list(dict.fromkeys(raw["task"]))
    mean = raw.group_by("task", "model", maintain_order=True).agg(pl.col("auprc", "ece").mean())
    table = mean.pivot(on="model", index="task", values="auprc").sort(pl.col("task").replace_strict(names, list(range(len(names)))))
    gains = []
    for cohort in tasks:
        auprc_of = {model: auprc for task, model, auprc in mean.select("task", "model", "auprc").iter_rows() if task == cohort.name}
        best = max((model for model in auprc_of if model not in (OURS, VOTE, RAW, ENCODED)), key=auprc_of.__getitem__)
        parts = splits(cohort)
        group = patients_of(cohort)

        def risks(model: str, cohort: Cohort = cohort, parts: list = parts) -> list[np.ndarray]:
            return [np.load(cache_path(cohort.name, f, model))["risk"] for f in range(len(parts))]

        outcomes, groups = [cohort.outcome[test] for _, test in parts], [group[test] for _, test in parts]
        rivals = {best: risks(best), "LogisticRegression": risks("LogisticRegression")}
        gain = paired_intervals(outcomes, groups, risks(OURS), rivals)
        over_raw = paired_intervals(outcomes, groups, risks(VOTE), {RAW: risks(RAW)})[RAW]
        ece = mean.filter((pl.col("task") == cohort.name) & (pl.col("model") == OURS))["ece"][0]
        by_chance = float(np.mean([expected_error(risk) for risk in risks(OURS)]))
        gains.append(
            {
                "task": cohort.name,
                "events": int(cohort.outcome.sum()),
                "best baseline": best,
                "its AUPRC": auprc_of[best],
                "nearward": auprc_of[OURS],
                "less best (95 %)": signed(gain[best]),
                "less logistic (95 %)": signed(gain["LogisticRegression"]),
                "ECE": ece,
                "ECE by chance": by_chance,
                "vote less raw kNN (95 %)": signed(over_raw),
                "vote / raw kNN": auprc_of[VOTE] / auprc_of[RAW],
                "vote / encoded kNN": auprc_of[VOTE] / auprc_of[ENCODED],
            }
        )
    return table, pl.DataFrame(gains)


def publish(table: pl.DataFrame, gains: pl.DataFrame) -> None:
    """Replace the part of docs/benchmarks that this script owns."""
    body = f"AUPRC, mean over the test folds:\n\n{markdown(table)}\n\n"
    body += f"nearward beside each task's best baseline, in one run:\n\n{markdown(gains)}"
    replace_part("risk", body)


if __name__ == "__main__":
    main()
