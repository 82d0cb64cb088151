"""At how many events does a supervised model overtake one-class models? Both on the same rows without the event.

    .venv/bin/python -m benchmarks.rare.one_class [--data DIR] [--only TASK,TASK] [--seeds 3] [--cheap] [--cached] [--publish]

3,000 training rows without the event, and 1 to 80 with it; test rows of other patients, thinned to 2 % events (up to 10,000). One-class
models do not use the events, so they are the same at every count. RiskClassifier needs at least 10 events; logistic regression does not.
Results are cached in out/rare; --cheap excludes RiskClassifier, --cached fits nothing. --publish writes
benchmarks/results/rare_one_class.csv, the table of docs/benchmarks/rare-outcomes.md and the picture.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score

import nearward as nw
from benchmarks.common.baselines import baselines
from benchmarks.common.cohorts import cohorts, patients_of
from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import DATA, PICTURES, RESULTS
from benchmarks.common.plots import save_svg
from benchmarks.rare.training_set import CACHE, SEEDS, thinned
from nearward.datasets import Cohort
from nearward.evaluation.stats.ranking_metrics import Ranking
from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds

TASKS = ("brfss2015_diabetes@Stroke", "thyroid0387", "mammography", "polish_bankruptcy_y1")
EVENTS, EVENT_FREE_ROWS, RATE, TEST_ROWS, ALERTS = (1, 2, 5, 10, 20, 40, 80), 3_000, 0.02, 10_000, 0.05
DSVDD, DROC, LOGISTIC, RISK = "one-class, DSVDD", "one-class, DROC", "logistic regression", "RiskClassifier"
COLOURS = {DSVDD: "#c98b2b", DROC: "#8a5a00", LOGISTIC: "#9aa5b1", RISK: "#1f5fa8"}
FEWEST = 10  # events that RiskClassifier needs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cheap", action="store_true", help="exclude RiskClassifier")
    parser.add_argument("--cached", action="store_true", help="use cached results only")
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    CACHE.mkdir(parents=True, exist_ok=True)
    tasks = [cohort for cohort in cohorts(args.data) if cohort.name in args.only.split(",")]
    raw = pl.DataFrame([row for seed in range(args.seeds) for cohort in tasks for row in judged(cohort, seed, args.cheap, args.cached)])
    table = summary(raw)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200):
        print(table)
    if args.publish:
        raw.write_csv(RESULTS / "rare_one_class.csv", float_precision=5)
        plot(raw, PICTURES / "rare-one-class.svg")
        body = f"![Recall at 5 % alerts by the number of training events](../pictures/rare-one-class.svg)\n\n{markdown(table)}"
        replace_part("rare one-class", body)


def judged(cohort: Cohort, seed: int, cheap: bool, cached_only: bool) -> list[dict[str, object]]:
    """Return the metrics of every ranker at every count of events; cached in out/rare."""
    rows: list[dict[str, object]] = []
    enough = [] if cheap else [count for count in EVENTS if FEWEST <= count <= cohort.outcome.sum()]
    for part, judge in [("blind", _blind), ("linear", _linear), *((f"risk.{count}", partial(_risk, events=count)) for count in enough)]:
        path = CACHE / f"one-class.{cohort.name}.{seed}.{part}.json"
        if cached_only and not path.exists():
            continue
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(judge(_split(cohort, seed))))
            print(f"{cohort.name} {seed} {part}", flush=True)
        results = json.loads(path.read_text())
        rows += [row | {"events": events} for row in results for events in (EVENTS if row["events"] is None else [row["events"]])]
    return rows


@dataclass(frozen=True)
class Split:
    """A task's rows: test rows, training rows without the event and with it, in random order."""

    cohort: Cohort
    seed: int
    test: np.ndarray
    event_free: np.ndarray
    with_event: np.ndarray
    schema: Schema

    def train(self, events: int) -> np.ndarray:
        """Return training rows with this many events."""
        return np.sort(np.concatenate([self.event_free, self.with_event[:events]]))

    def row(self, method: str, events: int | None, score: np.ndarray) -> dict[str, object]:
        """Return the metrics of a score of the test rows; events None: at any count."""
        outcome = self.cohort.outcome[self.test]
        recall = Ranking(outcome.astype(float), score).count(np.ones((1, len(outcome)))).at_budget(ALERTS)[0][0]
        metrics = {"recall": float(recall), "auprc": float(average_precision_score(outcome, score)), "prevalence": float(outcome.mean())}
        return {"task": self.cohort.name, "seed": self.seed, "method": method, "events": events} | metrics


def _split(cohort: Cohort, seed: int) -> Split:
    outcome = cohort.outcome
    patient_ids = patients_of(cohort)
    test_side = assign_folds(outcome, patient_ids, SEEDS, 0) == seed
    rng = np.random.default_rng(seed)
    test = thinned(rng, np.flatnonzero(test_side), outcome, RATE, TEST_ROWS)
    train = rng.permutation(np.flatnonzero(~test_side))
    schema = Schema.infer(cohort.features[np.sort(train)])
    return Split(cohort, seed, test, train[outcome[train] == 0][:EVENT_FREE_ROWS], train[outcome[train] == 1], schema)


def _blind(split: Split) -> list[dict[str, object]]:
    """Score both one-class models, which use no events."""
    features, queries, rows = split.cohort.features, split.cohort.features[split.test], []
    for name, method in ((DSVDD, "dsvdd"), (DROC, "droc")):
        ranker = nw.OneClass(method=method, random_state=split.seed, schema=split.schema).fit(features[split.event_free])
        rows.append(split.row(name, None, ranker.decision_function(queries)))
    return rows


def _linear(split: Split) -> list[dict[str, object]]:
    """Score logistic regression at every count."""
    features, queries, rows = split.cohort.features, split.cohort.features[split.test], []
    for events in [count for count in EVENTS if count <= len(split.with_event)]:
        train = split.train(events)
        rows.append(split.row(LOGISTIC, events, baselines()["LogisticRegression"](features[train], split.cohort.outcome[train], queries)))
    return rows


def _risk(split: Split, events: int) -> list[dict[str, object]]:
    """Score RiskClassifier at a count of events; nothing where there are fewer."""
    if events > len(split.with_event):
        return []
    features, train = split.cohort.features, split.train(events)
    patient_ids = patients_of(split.cohort)
    model = nw.RiskClassifier(random_state=split.seed, schema=split.schema).fit(
        features[train], split.cohort.outcome[train], groups=patient_ids[train]
    )
    return [split.row(RISK, events, model.predict_proba(features[split.test])[:, 1])]


def summary(raw: pl.DataFrame) -> pl.DataFrame:
    """Return the recall at the budget, mean over the seeds, one row per task and ranker."""
    raw = raw.join(raw.group_by("task", "method").agg(pl.col("seed").n_unique().alias("seeds")), ["task", "method"], maintain_order="left")
    mean = raw.group_by("task", "method", "seeds", "events", maintain_order=True).agg(pl.col("recall").mean())
    table = mean.pivot(on="events", index=["task", "method", "seeds"], values="recall", aggregate_function="first")
    return table.rename({str(e): f"{e} events" for e in EVENTS}).with_columns(pl.col(pl.Float64).round(3).cast(pl.String).fill_null(""))


def plot(raw: pl.DataFrame, path: Path) -> None:
    """Plot a panel per task: recall by the number of training events; seeds as dots, their mean as a line.

    Where RiskClassifier was fitted for some seeds only, all lines are means over those, so that they can be compared.
    """
    tasks = list(dict.fromkeys(raw["task"]))
    shown, axes = plt.subplots(1, len(tasks), figsize=(3.3 * len(tasks), 3.2), layout="constrained", squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        results = raw.filter(pl.col("task") == task)
        with_risk = results.filter(pl.col("method") == RISK)["seed"].unique()
        common = results.filter(pl.col("seed").is_in(with_risk.implode())) if len(with_risk) else results
        for method, colour in COLOURS.items():
            part = results.filter(pl.col("method") == method)
            if part.is_empty():
                continue
            mean = common.filter(pl.col("method") == method).group_by("events").agg(pl.col("recall").mean()).sort("events")
            axis.plot(mean["events"], mean["recall"], color=colour, linewidth=2, label=method)
            axis.scatter(part["events"], part["recall"], color=colour, s=8, alpha=0.6)
        axis.axhline(ALERTS, color="black", linewidth=0.8, linestyle=":")
        axis.set(
            title=task + (f" (lines: {len(with_risk)} of {results['seed'].n_unique()} draws)" if len(common) < len(results) else ""),
            xscale="log",
            xticks=EVENTS,
            xticklabels=EVENTS,
            ylabel="recall at 5 % alerts",
            ylim=(0, 1),
        )
        axis.minorticks_off()
    fullest = max(axes[0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    axes[0][0].legend(*fullest.get_legend_handles_labels(), frameon=False, fontsize=7)
    shown.supxlabel("events among 3,000 training rows; dotted: random alerts", fontsize=9)
    save_svg(shown, path)


if __name__ == "__main__":
    main()
