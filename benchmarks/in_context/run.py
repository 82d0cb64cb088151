"""Acceptance of weights of the in-context network: accuracy, invariances, speed, and real cohorts.

    .venv/bin/python -m benchmarks.in_context.run                                       # the shipped weights
    .venv/bin/python -m benchmarks.in_context.run --weights FILE.safetensors --cohorts  # with its card beside the file
    .venv/bin/python -m benchmarks.in_context.run --checkpoint run/checkpoint.npz       # a run's averaged weights, rounded as exported

Every check has metrics, some with a limit; where one is missed, the command ends with status 1 and the list. Fits that do not depend on
the weights are cached in out/in_context (``probes.py``): the first run takes an hour on two cores, most of it for --cohorts; further
weights take minutes. --only names some of the checks. --publish writes benchmarks/results/in_context.csv, the tables of docs/benchmarks
and the card of docs/reference/in-context-model-card.md.

Shapes: n stored rows, q query rows, d columns, m experts, c context rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.common.acceptance import AcceptanceChecks
from benchmarks.common.markdown import signed
from benchmarks.common.paired_metrics import calibration_error, paired_intervals
from benchmarks.common.paths import DATA, RESULTS
from benchmarks.in_context.invariances import dirt, sameness
from benchmarks.in_context.probes import (
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
from benchmarks.in_context.speed import check_time
from nearward.tabular.in_context.checkpoint import SHIPPED, load_net, save_net
from nearward.tabular.in_context.episodes import Episode, make_episode
from nearward.tabular.in_context.model import InContextNet, NetConfig, Vote
from nearward.tabular.in_context.pretrain import holdout_losses
from nearward.tabular.in_context.prior import FAMILIES, Tables, TaskRng, sample_tables
from nearward.tabular.in_context.row_features import RowFeatures

NETWORK, MEAN = "in-context", "mean of experts"
UNSEEN = 1 << 41  # seeds from here on are neither in the training nor in pretrain's own holdout
RARE = (0.005, 0.02)  # true prevalence of the tasks that calibration is measured on
BINS = 15
SEEDS = (0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--weights", type=Path, default=SHIPPED, help="a file of pretrain --export; the shipped weights by default")
    which.add_argument("--checkpoint", type=Path, help="a training run's checkpoint.npz: its averaged weights")
    parser.add_argument("--cohorts", action="store_true", help="score the public cohorts too")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of cohorts: table.parquet with table.json")
    parser.add_argument("--only", default="", help=f"some checks, with commas: {', '.join([*CHECKS, 'cohorts'])}")
    parser.add_argument("--publish", action="store_true", help="write benchmarks/results/in_context.csv and docs")
    args = parser.parse_args()
    only = [part for part in args.only.split(",") if part]
    with tempfile.TemporaryDirectory() as folder:
        path = from_checkpoint(args.checkpoint, Path(folder)) if args.checkpoint else args.weights
        net = load_net(path)
        checks = AcceptanceChecks(hashlib.sha256(path.read_bytes()).hexdigest())
        for name, check in CHECKS.items():
            if not only or name in only:
                check(net, path, checks)
        if args.cohorts or "cohorts" in only:
            check_cohorts(net, args.data, checks)
    failed = checks.report()
    if args.publish:
        from benchmarks.in_context.report import publish

        publish(checks, path)
    sys.exit("\n".join(["failed:", *failed]) if failed else 0)


def from_checkpoint(path: Path, folder: Path) -> Path:
    """Export a checkpoint's averaged weights, and return the file."""
    with np.load(path, allow_pickle=False) as arrays:
        net = InContextNet(NetConfig(**json.loads(str(arrays["about"]))["net"]))
        prefix = "average."
        net.load_state_dict({n.removeprefix(prefix): torch.from_numpy(arrays[n]) for n in arrays.files if n.startswith(prefix)})
    save_net(net, folder / "average.safetensors", {})
    return folder / "average.safetensors"


# ---- simulated tasks --------------------------------------------------------------------------------------------------------------


class FirstSlot:
    """Baseline of the network: the best expert on the stored rows, calibrated on them."""

    def tokens(self, rows: RowFeatures, outcome: torch.Tensor) -> torch.Tensor:
        """Return the outcomes; there is nothing to encode."""
        return outcome

    def __call__(self, query: RowFeatures, *context: torch.Tensor) -> Vote:
        """Return the log-odds of the best expert."""
        return Vote(query.log_odds[:, :, 0], query.log_odds)


def check_families(net: InContextNet, path: Path, checks: AcceptanceChecks) -> None:
    """Check the loss relative to the base rate's on tasks of a holdout."""
    plain = InContextNet(net.config).eval()  # the plain mean of the calibrated experts, and an uninformed vote
    rivals: dict[str, Any] = {NETWORK: net, "untrained": plain, "best slot": FirstSlot()}
    losses = {name: holdout_losses(rival, "cpu") for name, rival in rivals.items()}
    for ratios in losses.values():
        ratios["mean of families"] = sum(ratios.values()) / len(FAMILIES)
    checks.add_table("families", {family: {name: losses[name][family] for name in rivals} for family in losses[NETWORK]})
    for family, ratio in losses[NETWORK].items():
        checks.require("families", family, ratio, "<=", min(losses["untrained"][family], losses["best slot"][family]))


def check_calibration(net: InContextNet, path: Path, checks: AcceptanceChecks) -> None:
    """Check the calibration at about 1 % prevalence, over the pooled queries of simulated tasks."""
    outcome, risks = rare_queries(net)
    share, metrics = float(outcome.mean()), {}
    rng = np.random.default_rng(0)
    for name, risk in risks.items():
        bins = equal_bins(risk, BINS)
        chance = np.mean([calibration_error(rng.random(len(risk)) < risk, risk, bins) for _ in range(20)])
        metrics[name] = {
            "ECE": calibration_error(outcome, risk, bins),
            "by chance": chance,
            "mean risk / events": float(risk.mean()) / share,
        }
        metrics[name] |= {"AUPRC": float(average_precision_score(outcome, risk)), "log-loss": log_loss(outcome, risk)}
    checks.console.print(f"{len(outcome)} queries, {int(outcome.sum())} events ({share:.2%})")
    checks.add_table("calibration", metrics, 4)
    checks.require("calibration", "ECE", metrics[NETWORK]["ECE"], "<=", 0.0025)
    checks.require("calibration", "in the large: |mean risk / events - 1|", abs(metrics[NETWORK]["mean risk / events"] - 1), "<=", 0.1)
    checks.require("calibration", "log-loss", metrics[NETWORK]["log-loss"], "<=", metrics[MEAN]["log-loss"])


def rare_queries(net: InContextNet, tasks: int = 48, stored: int = 2048, queries: int = 1024) -> tuple[Rows, dict[str, Rows]]:
    """Return outcomes and risks of the queries of tasks with a low true prevalence, whatever that of their stored rows."""
    outcomes: list[torch.Tensor] = []
    risks: dict[str, list[torch.Tensor]] = {NETWORK: [], MEAN: [], "base rate": []}
    step = 0
    while len(outcomes) < tasks:
        rng = TaskRng(UNSEEN + step)
        family, columns = FAMILIES[step % len(FAMILIES)], round(float(rng.log_uniform(1, low=2, high=48)))
        step += 1
        tables = sample_tables(family, 4, stored + queries, columns, rng)
        rate = tables.risk.mean(dim=1)
        chosen = (rate >= RARE[0]) & (rate <= RARE[1])
        if not chosen.any():
            continue
        parts = (tables.value, tables.category, tables.outcome, tables.signal, tables.risk)
        episode = make_episode(Tables(family, *(part[chosen] for part in parts)), stored, 128, rng)
        outcomes += episode.query_outcome
        risks[NETWORK] += _vote(net, episode).log_odds.sigmoid()
        risks[MEAN] += expert_mean(episode.query).sigmoid()
        risks["base rate"] += episode.stored_outcome.double().mean(dim=1, keepdim=True).expand(-1, queries)
    return torch.cat(outcomes).numpy(), {name: torch.cat(parts).double().numpy() for name, parts in risks.items()}


def _vote(net: InContextNet, episode: Episode) -> Vote:
    nearest = episode.neighbors
    with torch.inference_mode():
        vote: Vote = net(
            episode.query,
            net.tokens(episode.stored, episode.stored_outcome),
            episode.stored_outcome,
            nearest.sq_distance,
            nearest.mask,
            nearest.floored,
        )
    return vote


def equal_bins(risk: Rows, bins: int) -> Rows:
    """Return bins of equal size by risk (n,); ties are broken by the order of the rows."""
    return np.argsort(np.argsort(risk, kind="stable"), kind="stable") * bins // len(risk)


def log_loss(outcome: Rows, risk: Rows) -> float:
    p = np.where(outcome == 1, risk, 1 - risk)
    return float(-np.log(np.maximum(p, 1e-12)).mean())


# ---- probes -----------------------------------------------------------------------------------------------------------------------


def check_probes(net: InContextNet, path: Path, checks: AcceptanceChecks) -> None:
    """Check simulated cohorts with base learners, encoders and contexts as in a fit; means of the seeds."""
    results: dict[str, list[dict[str, float]]] = {}
    for task in (task for seed in SEEDS for task in probes(seed)):
        fitted = fit(task)
        risk = embed(net, fitted).predict(fitted.value, fitted.score, [context(fitted)])[0]
        risks = {NETWORK: risk, MEAN: mean_of_experts(fitted), **fitted.rivals}
        experts = dict(zip(fitted.names, fitted.score.T, strict=True))
        best = max(experts, key=lambda name: roc_auc_score(fitted.outcome, experts[name]))
        scores = {name: float(roc_auc_score(fitted.outcome, risk)) for name, risk in (risks | {"best expert": experts[best]}).items()}
        scores |= {f"{name}, AUPRC": float(average_precision_score(fitted.outcome, risk)) for name, risk in risks.items()}
        results.setdefault(task.name.rsplit(".", 1)[0], []).append(scores)
    means = {case: {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]} for case, folds in results.items()}
    checks.add_table("probes", means)
    for case, scores in means.items():
        checks.require("probes", f"{case}: AUROC", scores[NETWORK], ">=", max(scores["best expert"], scores.get("LightGBM", 0)) - 0.02)


def check_sameness(net: InContextNet, path: Path, checks: AcceptanceChecks) -> None:
    """Check the invariances of the risk."""
    for case, value, limit in sameness(net, fit(next(probes(0)))):
        checks.require("sameness", case, value, "<=", limit)


def check_dirt(net: InContextNet, path: Path, checks: AcceptanceChecks) -> None:
    """Check the risk on dirty inputs."""
    for case, value, limit in dirt(net, fit(next(probes(0)))):
        checks.require("dirt", case, value, "<=", limit)


# ---- real cohorts -----------------------------------------------------------------------------------------------------------------


def check_cohorts(net: InContextNet, folder: Path, checks: AcceptanceChecks) -> None:
    """Check the AUPRC of the network alone and of the stack with it, mean over the folds, beside the usual models on the same rows."""
    published = pl.read_csv(RESULTS / "risk.csv").filter(pl.col("model") == "CatBoost")
    means: dict[str, dict[str, Any]] = {}
    gains: dict[str, dict[str, Any]] = {}
    small = []
    for name, folds in real(folder):
        fits = [fit(task) for task in folds]
        risks = [_risks(net, fitted) for fitted in fits]
        outcomes = [fitted.outcome for fitted in fits]
        scored = {model: [average_precision_score(y, r[model]) for y, r in zip(outcomes, risks, strict=True)] for model in risks[0]}
        means[name] = {model: float(np.mean(values)) for model, values in scored.items()}
        if all(task.complete for task in folds):
            small.append(name)
            cat = published.filter(pl.col("task") == name)["auprc"]
            means[name] |= {"CatBoost": float(cat.mean())} if len(cat) == len(folds) else {}
        groups = [fitted.group for fitted in fits]
        alone, stack = ([r[model] for r in risks] for model in (NETWORK, "stack with it"))
        rivals = {model: [r[model] for r in risks] for model in risks[0] if model not in (NETWORK, "stack with it", "stack")}
        differences = {f"{NETWORK} less {rival}": v for rival, v in paired_intervals(outcomes, groups, alone, rivals).items()}
        differences |= {
            "stack with it less stack": paired_intervals(outcomes, groups, stack, {"stack": [r["stack"] for r in risks]})["stack"]
        }
        gains[name] = {case: signed((value, low, high)) for case, (value, low, high) in differences.items()}
        gains[name] |= {"folds": len(folds), "events": int(sum(y.sum() for y in outcomes))}
    checks.add_table("cohorts", means)
    checks.add_table("cohorts, paired differences with 95 % intervals", gains, 0)
    for name in small:
        checks.require(
            "cohorts", f"{name}: less logistic regression", means[name][NETWORK] - means[name]["LogisticRegression"], ">=", -0.01
        )
    if small and "LightGBM" in means[small[0]]:
        above = sum(means[name][NETWORK] > means[name]["LightGBM"] for name in small)
        checks.require("cohorts", f"tasks of {len(small)} above LightGBM", above, ">=", math.ceil(5 / 7 * len(small)))


def _risks(net: InContextNet, fitted: Fitted) -> dict[str, Rows]:
    embedded, stored = out_of_fold(net, fitted)
    risk = embedded.predict(fitted.value, fitted.score, [context(fitted)])[0]
    together = stacked_with(fitted, stored, risk)
    return {NETWORK: risk, MEAN: mean_of_experts(fitted), "stack": fitted.stacked, "stack with it": together, **fitted.rivals}


CHECKS: dict[str, Callable[[InContextNet, Path, AcceptanceChecks], None]] = {
    "families": check_families,
    "probes": check_probes,
    "sameness": check_sameness,
    "dirt": check_dirt,
    "calibration": check_calibration,
    "time": check_time,
}

if __name__ == "__main__":
    main()
