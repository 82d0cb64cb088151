"""Acceptance of weights of the embedded in-context network: what it learned, what it may not depend on, how fast it is, and real cohorts.

    .venv/bin/python -m benchmarks.in_context.run                                            # the shipped weights
    .venv/bin/python -m benchmarks.in_context.run --weights FILE.safetensors --cohorts       # the card lies beside the file
    .venv/bin/python -m benchmarks.in_context.run --checkpoint run/checkpoint.npz            # the average of a run, rounded as when exported

Every check has figures and some have a wanted one: where it is missed the check fails, and the command ends with status 1 and the list.
What does not depend on the weights is fitted once and kept in out/incontext (``probes.py``): the first run takes an hour on two cores,
most of it for --cohorts, further weights take minutes. --only names some of the checks. --publish writes benchmarks/results/in_context.csv, the
tables of docs/benchmarks and the card of docs/reference/in-context-model-card.md.

Letters: n stored rows, q query rows, d columns, m experts, c context rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.common.acceptance import Book
from benchmarks.common.cohorts import DATA
from benchmarks.common.paired_metrics import calibration_error, paired_intervals
from benchmarks.in_context.invariances import dirt, sameness
from benchmarks.in_context.probes import (
    RULE,
    Fitted,
    Rows,
    context,
    embed,
    expert_mean,
    fit,
    mean_of_experts,
    out_of_fold,
    probes,
    real,
    stacked_with,
)
from nearward.retrieval.neighbors.voting import per_shard
from nearward.risk_model.in_context import EnsembleView, InContextModel
from nearward.tabular.in_context.checkpoint import SHIPPED, load_net, save_net
from nearward.tabular.in_context.episodes import Episode, make_episode
from nearward.tabular.in_context.inference import QueryBatch, predict_risk
from nearward.tabular.in_context.model import InContextNet, NetConfig, Vote
from nearward.tabular.in_context.pretrain import holdout_losses
from nearward.tabular.in_context.prior import FAMILIES, Tables, TaskRng, sample_tables
from nearward.tabular.in_context.row_features import EXPERTS, FEATURES, INPUTS, RowFeatures

HERE = Path(__file__).resolve().parent
NETWORK, MEAN = "in-context", "mean of experts"
UNSEEN = 1 << 41  # seeds from here on are neither trained on nor pretrain's own held-out ones
RARE = (0.005, 0.02)  # true prevalence of the tasks that calibration is measured on
BINS = 15
SEEDS = (0, 1)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = asked.add_mutually_exclusive_group()
    which.add_argument("--weights", type=Path, default=SHIPPED, help="as pretrain's --export wrote them; the shipped ones by default")
    which.add_argument("--checkpoint", type=Path, help="a training run's checkpoint.npz: its averaged weights")
    asked.add_argument("--cohorts", action="store_true", help="judge the public cohorts too")
    asked.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    asked.add_argument("--only", default="", help=f"some checks, with commas: {', '.join([*CHECKS, 'cohorts'])}")
    asked.add_argument("--publish", action="store_true", help="write benchmarks/results/in_context.csv and the parts of docs/ that it owns")
    told = asked.parse_args()
    only = [part for part in told.only.split(",") if part]
    with tempfile.TemporaryDirectory() as folder:
        path = from_checkpoint(told.checkpoint, Path(folder)) if told.checkpoint else told.weights
        net = load_net(path)
        book = Book(hashlib.sha256(path.read_bytes()).hexdigest())
        for name, check in CHECKS.items():
            if not only or name in only:
                check(net, path, book)
        if told.cohorts or "cohorts" in only:
            judge_cohorts(net, told.data, book)
    failed = book.close()
    if told.publish:
        from benchmarks.in_context.report import publish

        publish(book.lines, book.tables, path)
    sys.exit("\n".join(["failed:", *failed]) if failed else 0)


def from_checkpoint(path: Path, folder: Path) -> Path:
    """Export a checkpoint's average, and return where."""
    with np.load(path, allow_pickle=False) as arrays:
        net = InContextNet(NetConfig(**json.loads(str(arrays["about"]))["net"]))
        prefix = "average."
        net.load_state_dict({n.removeprefix(prefix): torch.from_numpy(arrays[n]) for n in arrays.files if n.startswith(prefix)})
    save_net(net, folder / "average.safetensors", {})
    return folder / "average.safetensors"


# ---- made-up tasks ----------------------------------------------------------------------------------------------------------------


class FirstSlot:
    """What the network must beat: the expert that did best on the stored rows, calibrated on them."""

    def tokens(self, rows: RowFeatures, outcome: torch.Tensor) -> torch.Tensor:
        """Nothing to remember."""
        return outcome

    def __call__(self, query: RowFeatures, *context: torch.Tensor) -> Vote:
        """Say what the first slot says."""
        return Vote(query.log_odds[:, :, 0], query.log_odds)


def judge_families(net: InContextNet, path: Path, book: Book) -> None:
    """Loss over the base rate's on tasks never trained on."""
    plain = InContextNet(net.config).eval()  # the plain mean of the calibrated experts, and a vote that knows nothing
    rivals: dict[str, Any] = {NETWORK: net, "untrained": plain, "best slot": FirstSlot()}
    found = {name: holdout_losses(rival, "cpu") for name, rival in rivals.items()}
    for ratios in found.values():
        ratios["mean of families"] = sum(ratios.values()) / len(FAMILIES)
    book.table("families", {family: {name: found[name][family] for name in rivals} for family in found[NETWORK]})
    for family, ratio in found[NETWORK].items():
        book.want("families", family, ratio, "<=", min(found["untrained"][family], found["best slot"][family]))


def judge_calibration(net: InContextNet, path: Path, book: Book) -> None:
    """Calibration at about 1 % prevalence, over the pooled queries of made-up tasks."""
    outcome, risks = rare_queries(net)
    share, told = float(outcome.mean()), {}
    draw = np.random.default_rng(0)
    for name, risk in risks.items():
        place = equal_bins(risk, BINS)
        chance = np.mean([calibration_error(draw.random(len(risk)) < risk, risk, place) for _ in range(20)])
        told[name] = {"ECE": calibration_error(outcome, risk, place), "by chance": chance, "mean risk / events": float(risk.mean()) / share}
        told[name] |= {"AUPRC": float(average_precision_score(outcome, risk)), "log-loss": log_loss(outcome, risk)}
    book.console.print(f"{len(outcome)} queries, {int(outcome.sum())} events ({share:.2%})")
    book.table("calibration", told, 4)
    book.want("calibration", "ECE", told[NETWORK]["ECE"], "<=", 0.0025)
    book.want("calibration", "in the large: |mean risk / events - 1|", abs(told[NETWORK]["mean risk / events"] - 1), "<=", 0.1)
    book.want("calibration", "log-loss", told[NETWORK]["log-loss"], "<=", told[MEAN]["log-loss"])


def rare_queries(net: InContextNet, tasks: int = 48, stored: int = 2048, asked: int = 1024) -> tuple[Rows, dict[str, Rows]]:
    """Outcomes and risks of the queries of tasks that are rare in truth, whatever their stored rows happen to show."""
    outcomes: list[torch.Tensor] = []
    risks: dict[str, list[torch.Tensor]] = {NETWORK: [], MEAN: [], "base rate": []}
    step = 0
    while len(outcomes) < tasks:
        rng = TaskRng(UNSEEN + step)
        family, columns = FAMILIES[step % len(FAMILIES)], round(float(rng.log_uniform(1, low=2, high=48)))
        step += 1
        tables = sample_tables(family, 4, stored + asked, columns, rng)
        rate = tables.risk.mean(dim=1)
        chosen = (rate >= RARE[0]) & (rate <= RARE[1])
        if not chosen.any():
            continue
        parts = (tables.value, tables.category, tables.outcome, tables.signal, tables.risk)
        lesson = make_episode(Tables(family, *(part[chosen] for part in parts)), stored, 128, rng)
        outcomes += lesson.query_outcome
        risks[NETWORK] += _vote(net, lesson).log_odds.sigmoid()
        risks[MEAN] += expert_mean(lesson.query).sigmoid()
        risks["base rate"] += lesson.stored_outcome.double().mean(dim=1, keepdim=True).expand(-1, asked)
    return torch.cat(outcomes).numpy(), {name: torch.cat(parts).double().numpy() for name, parts in risks.items()}


def _vote(net: InContextNet, lesson: Episode) -> Vote:
    near = lesson.neighbors
    with torch.inference_mode():
        told: Vote = net(
            lesson.query, net.tokens(lesson.stored, lesson.stored_outcome), lesson.stored_outcome, near.sq_distance, near.mask, near.floored
        )
    return told


def equal_bins(risk: Rows, bins: int) -> Rows:
    """Place rows into bins of equally many by their risk; equal risks stand in the order of the rows."""
    return np.argsort(np.argsort(risk, kind="stable"), kind="stable") * bins // len(risk)


def log_loss(outcome: Rows, risk: Rows) -> float:
    p = np.where(outcome == 1, risk, 1 - risk)
    return float(-np.log(np.maximum(p, 1e-12)).mean())


# ---- probes -----------------------------------------------------------------------------------------------------------------------


def judge_probes(net: InContextNet, path: Path, book: Book) -> None:
    """Made-up cohorts through panel, encoders and contexts as in a fit; means of the seeds."""
    found: dict[str, list[dict[str, float]]] = {}
    for task in (task for seed in SEEDS for task in probes(seed)):
        fitted = fit(task)
        risk = embed(net, fitted).ask(fitted.value, fitted.score, [context(fitted)])[0]
        risks = {NETWORK: risk, MEAN: mean_of_experts(fitted), **fitted.rivals}
        experts = dict(zip(fitted.names, fitted.score.T, strict=True))
        best = max(experts, key=lambda name: roc_auc_score(fitted.outcome, experts[name]))
        here = {name: float(roc_auc_score(fitted.outcome, risk)) for name, risk in (risks | {"best expert": experts[best]}).items()}
        here |= {f"{name}, AUPRC": float(average_precision_score(fitted.outcome, risk)) for name, risk in risks.items()}
        found.setdefault(task.name.rsplit(".", 1)[0], []).append(here)
    means = {case: {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]} for case, folds in found.items()}
    book.table("probes", means)
    for case, here in means.items():
        book.want("probes", f"{case}: AUROC", here[NETWORK], ">=", max(here["best expert"], here.get("LightGBM", 0)) - 0.02)


def judge_sameness(net: InContextNet, path: Path, book: Book) -> None:
    """What the risk may not depend on."""
    for case, value, limit in sameness(net, fit(next(probes(0)))):
        book.want("sameness", case, value, "<=", limit)


def judge_dirt(net: InContextNet, path: Path, book: Book) -> None:
    """What the risk must survive."""
    for case, value, limit in dirt(net, fit(next(probes(0)))):
        book.want("dirt", case, value, "<=", limit)


# ---- time -------------------------------------------------------------------------------------------------------------------------


def judge_time(net: InContextNet, path: Path, book: Book) -> None:
    """Rows a second, seconds a fit, seconds to the first question, bytes."""
    code = "import sys; from pathlib import Path; from nearward.tabular.in_context.checkpoint import load_net; load_net(Path(sys.argv[1]))"
    loads = [_seconds(lambda: subprocess.run([sys.executable, "-c", code, str(path.resolve())], check=True)) for _ in range(3)]
    rates: dict[str, dict[str, Any]] = {}
    draw = np.random.default_rng(0)
    counts = [count for count in (1, 2) if count <= len(os.sched_getaffinity(0))]
    for neighbours in (64, 128, 250):
        asked = _made_up_questions(net, neighbours, draw)
        for threads in counts:
            with _cores(threads):
                predict_risk(net, asked)
                rate = len(asked.row) / min(_seconds(lambda asked=asked: predict_risk(net, asked)) for _ in range(3))
            rates.setdefault(f"k = {neighbours} ({asked.row.shape[1]} places): rows/s", {})[_threads(threads)] = rate
    for n in (2_000, 10_000, 50_000):
        value, score, y = draw.normal(size=(n, 32)), draw.normal(size=(n, 12)), (draw.random(n) < 0.1).astype(np.int64)
        way = (EnsembleView(RULE, np.arange(32), np.arange(12)),)
        for threads in counts:
            with _cores(threads):
                took = _seconds(lambda v=value, s=score, y=y, way=way: InContextModel(net, way, v, s, y))
            rates.setdefault(f"slots and tokens of {n} stored rows: rows/s", {})[_threads(threads)] = n / took
    book.table("time", rates, 0)
    if counts[-1] == 2:
        at_128 = next(row for case, row in rates.items() if case.startswith("k = 128"))
        book.want("time", "k = 128, two threads: rows/s", at_128[_threads(2)], ">=", 800)
    book.want("time", "a fresh process imports and loads: s", min(loads), "<=", 2)
    book.want("time", "file: MB", path.stat().st_size / 1e6, "<=", 4)


def _made_up_questions(net: InContextNet, neighbours: int, draw: np.random.Generator, q: int = 2048, n: int = 10_000) -> QueryBatch:
    """Random rows in contexts as large as five encoders give."""
    places = 5 * (per_shard(neighbours, 5) + per_shard(max(8, 0.05 * neighbours), 5))
    inputs = torch.as_tensor(draw.normal(size=(1, n, INPUTS)), dtype=torch.float32)
    rows = RowFeatures(inputs[:, :, : 2 * FEATURES], inputs[:, :, :EXPERTS], inputs, torch.ones(1, EXPERTS, dtype=torch.bool))
    known = torch.as_tensor(draw.random(n) < 0.1).long()
    row = torch.as_tensor(draw.integers(0, n, (q, places)))
    with torch.inference_mode():
        token = net.tokens(rows, known[None])[0]
    inside = torch.ones(row.shape, dtype=torch.bool)
    return QueryBatch(rows.take(slice(0, q)), token, known, row, torch.rand(row.shape) * 2, inside, ~inside)


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Use so many cores and torch threads in the block."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(allowed)[-count:])
    torch.set_num_threads(count)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ---- real cohorts -----------------------------------------------------------------------------------------------------------------


def judge_cohorts(net: InContextNet, folder: Path, book: Book) -> None:
    """AUPRC of one member alone and of the stack with it, mean over the folds, beside the usual models on the same rows."""
    published = pl.read_csv(HERE / "risk.csv").filter(pl.col("model") == "CatBoost")
    means: dict[str, dict[str, Any]] = {}
    gains: dict[str, dict[str, Any]] = {}
    small = []
    for name, folds in real(folder):
        fits = [fit(task) for task in folds]
        found = [_risks(net, fitted) for fitted in fits]
        outcomes = [fitted.outcome for fitted in fits]
        scored = {model: [average_precision_score(y, r[model]) for y, r in zip(outcomes, found, strict=True)] for model in found[0]}
        means[name] = {model: float(np.mean(values)) for model, values in scored.items()}
        if all(task.whole for task in folds):
            small.append(name)
            cat = published.filter(pl.col("task") == name)["auprc"]
            means[name] |= {"CatBoost": float(cat.mean())} if len(cat) == len(folds) else {}
        groups = [fitted.group for fitted in fits]
        alone, stack = ([r[model] for r in found] for model in (NETWORK, "stack with it"))
        rivals = {model: [r[model] for r in found] for model in found[0] if model not in (NETWORK, "stack with it", "stack")}
        told = {f"{NETWORK} less {rival}": v for rival, v in paired_intervals(outcomes, groups, alone, rivals).items()}
        told |= {"stack with it less stack": paired_intervals(outcomes, groups, stack, {"stack": [r["stack"] for r in found]})["stack"]}
        gains[name] = {case: f"{value:+.3f} ({low:+.3f} to {high:+.3f})" for case, (value, low, high) in told.items()}
        gains[name] |= {"folds": len(folds), "events": int(sum(y.sum() for y in outcomes))}
    book.table("cohorts", means)
    book.table("cohorts, paired differences with 95 % intervals", gains, 0)
    for name in small:
        book.want("cohorts", f"{name}: less logistic regression", means[name][NETWORK] - means[name]["LogisticRegression"], ">=", -0.01)
    if small and "LightGBM" in means[small[0]]:
        above = sum(means[name][NETWORK] > means[name]["LightGBM"] for name in small)
        book.want("cohorts", f"tasks of {len(small)} above LightGBM", above, ">=", math.ceil(5 / 7 * len(small)))


def _risks(net: InContextNet, fitted: Fitted) -> dict[str, Rows]:
    embedded, stored = out_of_fold(net, fitted)
    risk = embedded.ask(fitted.value, fitted.score, [context(fitted)])[0]
    together = stacked_with(fitted, stored, risk)
    return {NETWORK: risk, MEAN: mean_of_experts(fitted), "stack": fitted.stacked, "stack with it": together, **fitted.rivals}


CHECKS: dict[str, Callable[[InContextNet, Path, Book], None]] = {
    "families": judge_families,
    "probes": judge_probes,
    "sameness": judge_sameness,
    "dirt": judge_dirt,
    "calibration": judge_calibration,
    "time": judge_time,
}

if __name__ == "__main__":
    main()
