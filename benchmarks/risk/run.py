"""Risk benchmark: every cohort in a folder, nearward beside the usual models, same splits, paired intervals.

    .venv/bin/python -m benchmarks.risk.run [--data DIR] [--only NAME,NAME] [--again MODEL,MODEL] [--publish]

Protocol: up to 20,000 rows StratifiedKFold(5, shuffle, seed 0), folds 0-1 only above 4,000 rows; above 20,000 rows one 70/30
stratified split (grouped where there is a group), training capped at 50,000. Predictions lie in out/risk under a digest of the code that
made them, and are not made again while it is the same, unless asked for with --again. --publish writes benchmarks/results/risk.csv and the
tables in docs/benchmarks.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.baselines import baselines, stacked, standardised
from benchmarks.common.cohorts import DATA, cohorts, splits
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paired_metrics import expected_error, figures, paired_intervals
from nearward.datasets import Cohort
from nearward.tabular.data.schema import Schema
from nearward.tabular.in_context.checkpoint import SHIPPED
from nearward.tabular.preprocessing.table_encoder import TableEncoder

ROOT = Path(__file__).resolve().parents[1]
OURS, VOTE = "nearward", "vote"  # of the similar patients, as the in-context model weighs them where it is in use
RAW, ENCODED = "raw kNN", "encoded kNN"  # standardised columns and one-hot; the encoding that the encoders start from
_RAW_NEIGHBOURS = (25, 50, 125, 250)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    asked.add_argument("--only", default="", help="names of tasks, with commas")
    asked.add_argument("--again", default="", help="names of models to fit again, with commas")
    asked.add_argument("--publish", action="store_true", help="write benchmarks/results/risk.csv and docs/benchmarks")
    told = asked.parse_args()
    only, again = [[part for part in text.split(",") if part] for text in (told.only, told.again)]
    kept = ROOT / "out" / "risk"
    kept.mkdir(parents=True, exist_ok=True)
    tasks = [cohort for cohort in cohorts(told.data) if not only or cohort.name in only]
    rows = [row for cohort in tasks for row in run_task(cohort, kept, again)]
    raw = pl.DataFrame(rows)
    table, gains = summarise(raw, tasks, kept)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=60):
        print(table, gains, sep="\n")
    if told.publish:
        raw.write_csv(ROOT / "benchmarks" / "risk.csv", float_precision=5)
        publish(table, gains)


def run_task(cohort: Cohort, kept: Path, again: list[str]) -> list[dict[str, object]]:
    """Fit every model on every split of a task; returns one row of figures for each."""
    rows: list[dict[str, object]] = []
    for f, (train, test) in enumerate(splits(cohort)):
        for model in [OURS, VOTE, RAW, ENCODED, *baselines()]:
            path = kept / kept_at(cohort.name, f, model)
            if not path.exists() or (model in again and model != VOTE):  # the vote is written with the risk
                _fit(cohort, f, train, test, model, kept)
            saved = np.load(path)
            y = cohort.outcome[test]
            seconds = float(saved["seconds"])
            counts = {"n_train": len(train), "n_test": len(test), "events_test": int(y.sum())}
            found = figures(y, saved["risk"])
            rows.append({"task": cohort.name, "fold": f, "model": model, **counts, **found, "seconds": seconds})
            print(f"{cohort.name} {f} {model}: AUPRC {found['auprc']:.4f}, ECE {found['ece']:.4f}, {seconds:.1f} s", flush=True)
    return rows


@cache
def _digest(ours: bool) -> str:
    """Eight letters that change with the code and the weights behind a model's predictions."""
    folders = [ROOT / name for name in ("nearward", "tabular", "retrieval")]
    code = [*sorted(path for folder in folders for path in folder.glob("*.py")), SHIPPED]
    files = code if ours else [ROOT / "benchmarks" / "baselines.py"]
    skipped = ("cli.py", "demo.py", "progress.py", "cohort.py", "__init__.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.name not in skipped)).hexdigest()[:8]


def kept_at(task: str, fold: int, model: str) -> str:
    """Name of the file that keeps a model's predictions."""
    return f"{task}.{fold}.{model}.{_digest(model in (OURS, VOTE))}.npz"


def _fit(cohort: Cohort, f: int, train: np.ndarray, test: np.ndarray, model: str, kept: Path) -> None:
    x, y, x_test = cohort.features[train], cohort.outcome[train], cohort.features[test]
    group = None if cohort.group is None else cohort.group[train]
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if model in (RAW, ENCODED):
            found = {model: _neighbours(*(_raw if model == RAW else _encoded)(x, x_test), y)}
        elif model in (OURS, VOTE):
            scored = nw.RiskClassifier(seed=0).fit(x, y, groups=group).predict_frame(x_test)
            found = {OURS: scored["risk"].to_numpy(), VOTE: scored["vote"].to_numpy()}
        else:
            found = {model: baselines()[model](x, y, x_test)}
    for name, risk in found.items():
        np.savez(kept / kept_at(cohort.name, f, name), risk=risk, seconds=time.monotonic() - began)


def _raw(train: pl.DataFrame, test: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    x, numbers, text = stacked(train)
    prepare = standardised(numbers, text).set_params(sparse_threshold=0)
    return prepare.fit_transform(x), prepare.transform(stacked(test)[0])


def _encoded(train: pl.DataFrame, test: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    schema = Schema.infer(train)
    seen, asked = schema.conform(train), schema.conform(test)
    encoding = TableEncoder.fit(schema, seen)
    return encoding.dense(encoding.numbers(seen)), encoding.dense(encoding.numbers(asked))


def _neighbours(x: np.ndarray, x_test: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    """Share of events among the nearest rows; k by leave-one-out AUPRC."""
    import faiss

    x, x_test = (np.ascontiguousarray(part, dtype=np.float32) for part in (x, x_test))
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    sample = np.sort(np.random.default_rng(0).permutation(len(x))[:10_000])
    deepest = min(max(_RAW_NEIGHBOURS), len(x) - 1)
    found = index.search(x[sample], deepest + 1)[1]
    own = found == sample[:, None]
    own[~own.any(axis=1), -1] = True  # among many duplicates the row itself may be missing: drop the last instead
    near = outcome[found[~own].reshape(len(sample), deepest)]
    best = max(
        (k for k in _RAW_NEIGHBOURS if k <= deepest), key=lambda k: average_precision_score(outcome[sample], near[:, :k].mean(axis=1))
    )
    return outcome[index.search(x_test, best)[1]].mean(axis=1)


def summarise(raw: pl.DataFrame, tasks: list[Cohort], kept: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Mean AUPRC per task and model, and nearward's gain over each task's best baseline."""
    names = list(dict.fromkeys(raw["task"]))
    mean = raw.group_by("task", "model", maintain_order=True).agg(pl.col("auprc", "ece").mean())
    table = mean.pivot(on="model", index="task", values="auprc").sort(pl.col("task").replace_strict(names, list(range(len(names)))))
    gains = []
    for cohort in tasks:
        here = {model: auprc for task, model, auprc in mean.select("task", "model", "auprc").iter_rows() if task == cohort.name}
        best = max((model for model in here if model not in (OURS, VOTE, RAW, ENCODED)), key=here.__getitem__)
        parts = splits(cohort)
        group = np.arange(len(cohort.outcome)) if cohort.group is None else cohort.group

        def risks(model: str, cohort: Cohort = cohort, parts: list = parts) -> list[np.ndarray]:
            return [np.load(kept / kept_at(cohort.name, f, model))["risk"] for f in range(len(parts))]

        outcomes, groups = [cohort.outcome[test] for _, test in parts], [group[test] for _, test in parts]
        rivals = {best: risks(best), "LogisticRegression": risks("LogisticRegression")}
        found = paired_intervals(outcomes, groups, risks(OURS), rivals)
        over_raw = paired_intervals(outcomes, groups, risks(VOTE), {RAW: risks(RAW)})[RAW]
        ece = mean.filter((pl.col("task") == cohort.name) & (pl.col("model") == OURS))["ece"][0]
        by_chance = float(np.mean([expected_error(risk) for risk in risks(OURS)]))
        gains.append(
            {
                "task": cohort.name,
                "events": int(cohort.outcome.sum()),
                "best baseline": best,
                "its AUPRC": here[best],
                "nearward": here[OURS],
                "less best (95 %)": paired(found[best]),
                "less logistic (95 %)": paired(found["LogisticRegression"]),
                "ECE": ece,
                "ECE by chance": by_chance,
                "vote less raw kNN (95 %)": paired(over_raw),
                "vote / raw kNN": here[VOTE] / here[RAW],
                "vote / encoded kNN": here[VOTE] / here[ENCODED],
            }
        )
    return table, pl.DataFrame(gains)


def paired(interval: tuple[float, float, float]) -> str:
    value, low, high = interval
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def publish(table: pl.DataFrame, gains: pl.DataFrame) -> None:
    """Replace the part of docs/benchmarks that this script owns."""
    body = f"AUPRC, mean over the test folds:\n\n{markdown(table)}\n\n"
    body += f"nearward beside each task's best baseline, in one run:\n\n{markdown(gains)}"
    replace_part("risk", body)


if __name__ == "__main__":
    main()
