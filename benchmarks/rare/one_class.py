"""At how many events does a supervised model overtake one-class? Both on the same rows without the event.

    .venv/bin/python -m benchmarks.rare.one_class [--data DIR] [--only TASK,TASK] [--seeds 3] [--cheap] [--kept] [--publish]

3,000 training rows without the event, and 1 to 80 with it; test rows of other patients, thinned to 2 % events (up to 10,000). One-class is
blind to the events, so it is the same at every count. RiskClassifier refuses fewer than 10 events; logistic regression does not. What was
found lies in out/rare; --cheap leaves RiskClassifier out, --kept asks nothing more. --publish writes benchmarks/results/rare_one_class.csv, the
table of docs/guide/rare-outcomes.md and the picture.
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
from benchmarks.common.cohorts import DATA, cohorts
from benchmarks.common.markdown import DOCS, markdown, replace_part
from benchmarks.rare.training_set import KEPT, SEEDS, thinned
from nearward.datasets import Cohort
from nearward.evaluation.stats.ranking_metrics import Ranking
from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.schema import Schema
from nearward.tabular.data.splits import assign_folds

TASKS = ("brfss2015_diabetes@Stroke", "thyroid0387", "mammography", "polish_bankruptcy_y1")
EVENTS, FREE, RATE, ASKED, ALERTS = (1, 2, 5, 10, 20, 40, 80), 3_000, 0.02, 10_000, 0.05
DSVDD, DROC, LOGISTIC, RISK = "one-class, DSVDD", "one-class, DROC", "logistic regression", "RiskClassifier"
COLOURS = {DSVDD: "#c98b2b", DROC: "#8a5a00", LOGISTIC: "#9aa5b1", RISK: "#1f5fa8"}
FEWEST = 10  # events that RiskClassifier must be given


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, default=DATA)
    asked.add_argument("--only", default=",".join(TASKS))
    asked.add_argument("--seeds", type=int, default=SEEDS)
    asked.add_argument("--cheap", action="store_true", help="leave RiskClassifier out")
    asked.add_argument("--kept", action="store_true", help="take what lies in out/rare, ask nothing")
    asked.add_argument("--publish", action="store_true")
    told = asked.parse_args()
    warnings.simplefilter("ignore")
    KEPT.mkdir(parents=True, exist_ok=True)
    tasks = [cohort for cohort in cohorts(told.data) if cohort.name in told.only.split(",")]
    raw = pl.DataFrame([row for seed in range(told.seeds) for cohort in tasks for row in judged(cohort, seed, told.cheap, told.kept)])
    table = summary(raw)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200):
        print(table)
    if told.publish:
        raw.write_csv(Path(__file__).with_name("rare_one_class.csv"), float_precision=5)
        draw(raw, DOCS / "pictures" / "rare-one-class.svg")
        body = f"![Recall at 5 % alerts by the number of events learned from](../pictures/rare-one-class.svg)\n\n{markdown(table)}"
        replace_part("rare one-class", body)


def judged(cohort: Cohort, seed: int, cheap: bool, kept: bool) -> list[dict[str, object]]:
    """Figures of every ranker at every count of events, kept in out/rare."""
    rows: list[dict[str, object]] = []
    enough = [] if cheap else [count for count in EVENTS if FEWEST <= count <= cohort.outcome.sum()]
    for part, judge in [("blind", _blind), ("linear", _linear), *((f"risk.{count}", partial(_risk, events=count)) for count in enough)]:
        path = KEPT / f"one-class.{cohort.name}.{seed}.{part}.json"
        if kept and not path.exists():
            continue
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(judge(_split(cohort, seed))))
            print(f"{cohort.name} {seed} {part}", flush=True)
        found = json.loads(path.read_text())
        rows += [row | {"events": events} for row in found for events in (EVENTS if row["events"] is None else [row["events"]])]
    return rows


@dataclass(frozen=True)
class Split:
    """A task's rows: test rows, training rows without the event and with it, in the order in which they are taken."""

    cohort: Cohort
    seed: int
    test: np.ndarray
    free: np.ndarray
    ill: np.ndarray
    schema: Schema

    def train(self, events: int) -> np.ndarray:
        """Training rows with so many events."""
        return np.sort(np.concatenate([self.free, self.ill[:events]]))

    def row(self, method: str, events: int | None, score: np.ndarray) -> dict[str, object]:
        """Figures of a score of the test rows; events None: at any count."""
        truth = self.cohort.outcome[self.test]
        recall = Ranking(truth.astype(float), score).count(np.ones((1, len(truth)))).at_budget(ALERTS)[0][0]
        figures = {"recall": float(recall), "auprc": float(average_precision_score(truth, score)), "prevalence": float(truth.mean())}
        return {"task": self.cohort.name, "seed": self.seed, "method": method, "events": events} | figures


def _split(cohort: Cohort, seed: int) -> Split:
    y = cohort.outcome
    group = np.arange(len(y)) if cohort.group is None else cohort.group
    side = assign_folds(y, group, SEEDS, 0) == seed
    rng = np.random.default_rng(seed)
    test = thinned(rng, np.flatnonzero(side), y, RATE, ASKED)
    learn = rng.permutation(np.flatnonzero(~side))
    schema = Schema.infer(cohort.features[np.sort(learn)])
    return Split(cohort, seed, test, learn[y[learn] == 0][:FREE], learn[y[learn] == 1], schema)


def _blind(split: Split) -> list[dict[str, object]]:
    """Both one-class rankers, which see no event."""
    features, asked, rows = split.cohort.features, split.cohort.features[split.test], []
    for name, method in ((DSVDD, "dsvdd"), (DROC, "droc")):
        ranker = nw.OneClass(method=method, seed=split.seed, schema=split.schema).fit(features[split.free])
        rows.append(split.row(name, None, ranker.decision_function(asked)))
    return rows


def _linear(split: Split) -> list[dict[str, object]]:
    """Logistic regression at every count."""
    features, asked, rows = split.cohort.features, split.cohort.features[split.test], []
    for events in [count for count in EVENTS if count <= len(split.ill)]:
        taken = split.train(events)
        rows.append(split.row(LOGISTIC, events, baselines()["LogisticRegression"](features[taken], split.cohort.outcome[taken], asked)))
    return rows


def _risk(split: Split, events: int) -> list[dict[str, object]]:
    """RiskClassifier at a count of events; nothing where there are fewer."""
    if events > len(split.ill):
        return []
    features, taken = split.cohort.features, split.train(events)
    group = np.arange(len(split.cohort.outcome)) if split.cohort.group is None else split.cohort.group
    model = nw.RiskClassifier(seed=split.seed, schema=split.schema).fit(features[taken], split.cohort.outcome[taken], groups=group[taken])
    return [split.row(RISK, events, model.predict_proba(features[split.test])[:, 1])]


def summary(raw: pl.DataFrame) -> pl.DataFrame:
    """Recall at the budget, mean over the seeds that were asked, one row a task and ranker."""
    raw = raw.join(raw.group_by("task", "method").agg(pl.col("seed").n_unique().alias("seeds")), ["task", "method"], maintain_order="left")
    mean = raw.group_by("task", "method", "seeds", "events", maintain_order=True).agg(pl.col("recall").mean())
    table = mean.pivot(on="events", index=["task", "method", "seeds"], values="recall", aggregate_function="first")
    return table.rename({str(e): f"{e} events" for e in EVENTS}).with_columns(pl.col(pl.Float64).round(3).cast(pl.String).fill_null(""))


def draw(raw: pl.DataFrame, path: Path) -> None:
    """One panel a task: recall by the number of events learned from; draws as dots, their mean as a line.

    Where RiskClassifier was asked on some draws only, all lines are means over those: lines of different draws are no comparison.
    """
    tasks = list(dict.fromkeys(raw["task"]))
    shown, axes = plt.subplots(1, len(tasks), figsize=(3.3 * len(tasks), 3.2), layout="constrained", squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        here = raw.filter(pl.col("task") == task)
        with_risk = here.filter(pl.col("method") == RISK)["seed"].unique()
        common = here.filter(pl.col("seed").is_in(with_risk.implode())) if len(with_risk) else here
        for method, colour in COLOURS.items():
            part = here.filter(pl.col("method") == method)
            if part.is_empty():
                continue
            mean = common.filter(pl.col("method") == method).group_by("events").agg(pl.col("recall").mean()).sort("events")
            axis.plot(mean["events"], mean["recall"], color=colour, linewidth=2, label=method)
            axis.scatter(part["events"], part["recall"], color=colour, s=8, alpha=0.6)
        axis.axhline(ALERTS, color="black", linewidth=0.8, linestyle=":")
        axis.set(
            title=task + (f" (lines: {len(with_risk)} of {here['seed'].n_unique()} draws)" if len(common) < len(here) else ""),
            xscale="log",
            xticks=EVENTS,
            xticklabels=EVENTS,
            ylabel="recall at 5 % alerts",
            ylim=(0, 1),
        )
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    fullest = max(axes[0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    axes[0][0].legend(*fullest.get_legend_handles_labels(), frameon=False, fontsize=7)
    shown.supxlabel("events among 3,000 training rows; dotted: alerts by lot", fontsize=9)
    plt.rcParams["svg.hashsalt"] = "nearward"
    shown.savefig(path, metadata={"Date": None})
    plt.close(shown)


if __name__ == "__main__":
    main()
