"""Tables and figure of the rare-outcome benchmark: methods minus the untouched model, paired on the same bootstrap samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.ticker import MaxNLocator

from benchmarks.common.markdown import markdown, replace_part
from benchmarks.common.paths import PICTURES, RESULTS
from benchmarks.common.plots import save_svg
from benchmarks.rare.training_set import CACHE, Rows, Scored
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import BootstrapMetrics, bootstrap_metrics
from nearward.evaluation.stats.confidence import Estimate, Result
from nearward.tabular.data.atomic_files import replacing

UNTOUCHED, LOGISTIC = "untouched", "logistic regression"
MEAN = "(mean)"
TWINS = {  # method -> the same learner without it
    "trees, SMOTE": "trees, no correction",
    "trees, under-sampling": "trees, no correction",
    "forest, SMOTE": "forest, no correction",
}
_ALERTS, _BEFORE = " | alerts", " | before"
_ALERT_RATE, _RESAMPLES = 0.05, 500
_COMPARED = ("auprc", "recall_at_budget", "net_benefit")


@dataclass(frozen=True)
class MethodResult:
    """A method's scores in one setting, with outcome and patients (q,), training events, and time relative to the untouched fit."""

    task: str
    rate: float
    seed: int
    method: str
    scored: Scored
    outcome: Rows
    groups: Rows
    events: int
    times: float


def differences(results: list[MethodResult]) -> pl.DataFrame:
    """Return one row for each rate, task (and the mean over tasks) and method: metrics, and differences with 95 % intervals."""
    by_setting: dict[tuple[float, str, int], list[MethodResult]] = {}
    for result in results:
        by_setting.setdefault((result.rate, result.task, result.seed), []).append(result)
    measured = {setting: _measured(of_setting, setting) for setting, of_setting in by_setting.items()}
    rows = []
    for rate in dict.fromkeys(rate for rate, _, _ in by_setting):
        tasks = list(dict.fromkeys(task for r, task, _ in by_setting if r == rate))
        for task in [*tasks, *([MEAN] if len(tasks) > 1 else [])]:
            settings = [setting for setting in by_setting if setting[0] == rate and task in (setting[1], MEAN)]
            for method in dict.fromkeys(result.method for setting in settings for result in by_setting[setting]):
                with_method = [setting for setting in settings if method in measured[setting].point]
                of_method = [result for setting in with_method for result in by_setting[setting] if result.method == method]
                metrics = _metrics(method, of_method, [measured[setting] for setting in with_method])
                rows.append({"rate": rate, "task": task, "method": method} | metrics)
    return pl.DataFrame(rows, infer_schema_length=None)


def _measured(results: list[MethodResult], setting: tuple[float, str, int]) -> BootstrapMetrics:
    """Measure all methods of a setting on the same bootstrap samples of its patients; cached in out/rare."""
    risks = {}
    for result in results:
        risks[result.method] = result.scored.risk
        if result.scored.alert is not None:  # as a risk of 0 or 1: its net benefit is that of the alerts
            risks[result.method + _ALERTS] = result.scored.alert.astype(float)
        if result.scored.uncorrected is not None:
            risks[result.method + _BEFORE] = result.scored.uncorrected
    sample = RiskSample(results[0].outcome.astype(float), risks, np.unique(results[0].groups, return_inverse=True)[1])
    rate, task, seed = setting
    path = CACHE / f"{task}.{rate:g}.{seed}.draws.npz"
    cache = dict(np.load(path)) if path.exists() else {}
    new = {name: risk for name, risk in risks.items() if not np.array_equal(cache.get(f"{name}|risk"), risk)}
    if new:  # the bootstrap samples do not depend on the other risks
        metrics = bootstrap_metrics([replace(sample, risks=new)], OperatingPoint(_ALERT_RATE, rate), _RESAMPLES, seed)
        for name, risk in new.items():
            cache |= {f"{name}|risk": risk, f"{name}|point": metrics.point[name], f"{name}|draws": metrics.resampled[name]}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **cache)
    point, draws = ({name: cache[f"{name}|{part}"] for name in risks} for part in ("point", "draws"))
    return BootstrapMetrics(point, draws, dict.fromkeys(risks, ""), sample.independent, sample.rows)


def compare(name: str, parts: list[BootstrapMetrics], other: str = UNTOUCHED) -> tuple[dict[str, Result], dict[str, Result]]:
    """Return one risk's metrics, mean over settings, and their differences from another's."""
    names = (name, other)
    both = BootstrapMetrics(
        {n: np.mean([part.point[n] for part in parts], axis=0) for n in names},
        {n: np.mean([part.resampled[n] for part in parts], axis=0) for n in names},
        dict.fromkeys(names, ""),
        sum(part.independent for part in parts),
        sum(part.rows for part in parts),
    )
    return both.results(name), both.difference(name, other)


def _metrics(method: str, results: list[MethodResult], parts: list[BootstrapMetrics]) -> dict[str, object]:
    own, differences = compare(method, parts)
    row: dict[str, object] = {"seeds": len({s.seed for s in results}), "events": float(np.mean([s.events for s in results]))}
    row |= {key: _value(own[key]) for key in ("auprc", "recall_at_budget", "ece", "net_benefit")}
    row |= {"ece_before": None, "alerts": None}
    if _has(parts, method + _BEFORE):
        row["ece_before"] = _value(compare(method + _BEFORE, parts)[0]["ece"])
    if _has(parts, method + _ALERTS):
        alert_metrics, alert_differences = compare(method + _ALERTS, parts)
        row["net_benefit"], differences["net_benefit"] = _value(alert_metrics["net_benefit"]), alert_differences["net_benefit"]
        row["alerts"] = float(np.mean([s.scored.alert.mean() for s in results if s.scored.alert is not None]))
    for key in _COMPARED:
        row |= _interval(f"{key}_less_untouched", differences[key])
    row |= _interval("auprc_less_logistic", compare(method, parts, LOGISTIC)[1]["auprc"] if _has(parts, LOGISTIC) else None)
    twin = TWINS.get(method)
    twin_differences = compare(method, parts, twin)[1] if twin and _has(parts, twin) else {}
    for key in _COMPARED:
        row |= _interval(f"{key}_less_twin", twin_differences.get(key))
    return row | {"times": float(np.mean([s.times for s in results]))}


def _has(parts: list[BootstrapMetrics], name: str) -> bool:
    return all(name in part.point for part in parts)


def _value(result: object) -> float | None:
    return result.value if isinstance(result, Estimate) else None


def _interval(name: str, result: object) -> dict[str, float | None]:
    measured = isinstance(result, Estimate)
    return {name if end == "value" else f"{name}_{end}": getattr(result, end) if measured else None for end in ("value", "low", "high")}


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each rate and method: the mean over the tasks, and the number of tasks with a significant gain in AUPRC."""
    rows = []
    for row in _means(table).iter_rows(named=True):
        tasks = table.filter((pl.col("rate") == row["rate"]) & (pl.col("method") == row["method"]) & (pl.col("task") != MEAN))
        alone = row["method"] == UNTOUCHED
        better, worse = (tasks["auprc_less_untouched_low"] > 0).sum(), (tasks["auprc_less_untouched_high"] < 0).sum()
        benefit = f"{1000 * row['net_benefit']:.2f}" if alone else _gain(row, "net_benefit_less_untouched", 1000, 2)
        ece = _joined([row["ece_before"], row["ece"]], " → ") if row["ece_before"] is not None else f"{row['ece']:.3f}"
        rows.append(
            {
                "events": f"{100 * row['rate']:g} %",
                "method": row["method"],
                "cells": str(tasks["seeds"].sum()),
                "AUPRC": f"{row['auprc']:.3f}",
                "less untouched (95 %)": "" if alone else _gain(row, "auprc_less_untouched"),
                "better / worse / of": "" if alone else f"{better} / {worse} / {tasks.height}",
                "less logistic (95 %)": "" if row["method"] == LOGISTIC else _gain(row, "auprc_less_logistic"),
                "recall at 5 % alerts, less": f"{row['recall_at_budget']:.3f}" if alone else _gain(row, "recall_at_budget_less_untouched"),
                "ECE before → after": ece,
                "net benefit per 1,000, less": benefit,
                "time": f"{row['times']:.2f} x",
            }
        )
    return pl.DataFrame(rows)


def _means(table: pl.DataFrame) -> pl.DataFrame:
    """Return the means over tasks; the task itself at a rate that has one only."""
    return table.filter((pl.col("task") == MEAN) | (pl.col("task").n_unique().over("rate") == 1))


def twins(table: pl.DataFrame) -> pl.DataFrame:
    """Return resampling minus the same learner without it, both calibrated: one row for each rate and method, mean over the tasks."""
    rows = []
    for row in _means(table).drop_nulls("auprc_less_twin").iter_rows(named=True):
        tasks = table.filter((pl.col("rate") == row["rate"]) & (pl.col("method") == row["method"]) & (pl.col("task") != MEAN))
        better, worse = (tasks["auprc_less_twin_low"] > 0).sum(), (tasks["auprc_less_twin_high"] < 0).sum()
        rows.append(
            {
                "events": f"{100 * row['rate']:g} %",
                "method": row["method"],
                "AUPRC, less no correction": _gain(row, "auprc_less_twin"),
                "better / worse / of": f"{better} / {worse} / {tasks.height}",
                "recall at 5 % alerts, less no correction": _gain(row, "recall_at_budget_less_twin"),
                "net benefit per 1,000, less no correction": _gain(row, "net_benefit_less_twin", 1000, 2),
            }
        )
    return pl.DataFrame(rows)


def coverage(table: pl.DataFrame, methods: Sequence[str], tasks: Sequence[str]) -> pl.DataFrame:
    """Return one row for each rate and task with the methods that were not run or do not apply."""
    each, rows = table.filter(pl.col("task") != MEAN), []
    for rate in dict.fromkeys(table["rate"]):
        of_rate = each.filter(pl.col("rate") == rate)
        for task in dict.fromkeys(of_rate["task"]):
            of_task = of_rate.filter(pl.col("task") == task)
            missing = [method for method in methods if method not in of_task["method"].to_list()]
            facts = {"events": f"{100 * rate:g} %", "cohort": task, "training events": str(round(of_task["events"][0]))}
            rows.append(facts | {"seeds": of_task["seeds"].max(), "not run, or not applicable": "; ".join(missing)})
        for task in (task for task in tasks if task not in of_rate["task"].to_list()):
            rows.append(
                {"events": f"{100 * rate:g} %", "cohort": task, "training events": "", "seeds": 0, "not run, or not applicable": "all"}
            )
    return pl.DataFrame(rows)


def _gain(row: dict[str, object], name: str, times: float = 1.0, digits: int = 3) -> str:
    ends = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    if any(end is None for end in ends):
        return "not known"
    value, low, high = (float(str(end)) * times for end in ends)
    return f"{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _joined(values: Iterable[float], between: str) -> str:
    return between.join(f"{value:.3f}" for value in values)


def publish(table: pl.DataFrame, methods: Sequence[str], tasks: Sequence[str]) -> None:
    """Write the CSV, the picture, and the means over tasks and every task's AUPRC in docs/benchmarks/rare-outcomes.md."""
    table.write_csv(RESULTS / "rare.csv", float_precision=5)
    picture = PICTURES / "rare.svg"
    plot(table, picture)
    replace_part("rare", f"![AUPRC gained over the untouched model](../pictures/rare.svg)\n\n{markdown(summary(table))}")
    replace_part("rare resampling", markdown(twins(table)))
    replace_part("rare run", markdown(coverage(table, methods, tasks)))
    each = table.filter(pl.col("task") != MEAN)
    wide = each.pivot(on="method", index=["rate", "task", "events"], values="auprc", aggregate_function="first").sort(
        "rate", descending=True, maintain_order=True
    )
    replace_part("rare by cohort", markdown(wide))


def plot(table: pl.DataFrame, path: Path) -> None:
    """Plot a panel per rate: the gain in AUPRC over the untouched model, mean over the tasks, with its interval; single tasks as dots."""
    rates = list(dict.fromkeys(table["rate"]))
    methods = [name for name in dict.fromkeys(table["method"]) if name != UNTOUCHED]
    shown, axes = plt.subplots(
        1, len(rates), figsize=(2.2 + 2.6 * len(rates), 1.2 + 0.28 * len(methods)), layout="constrained", squeeze=False
    )
    for axis, rate in zip(axes[0], rates, strict=True):
        for at, method in enumerate(methods):
            of_method = table.filter((pl.col("rate") == rate) & (pl.col("method") == method))
            tasks, mean = (
                of_method.filter(pl.col("task") != MEAN),
                _means(table).filter((pl.col("rate") == rate) & (pl.col("method") == method)),
            )
            axis.scatter(tasks["auprc_less_untouched"], [at] * tasks.height, color="#9aa5b1", s=9)
            for row in mean.drop_nulls("auprc_less_untouched").iter_rows(named=True):
                axis.plot([row["auprc_less_untouched_low"], row["auprc_less_untouched_high"]], [at, at], color="#1f5fa8", linewidth=2)
                axis.plot([row["auprc_less_untouched"]], [at], marker="s", color="#1f5fa8", markersize=5)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(title=f"{100 * rate:g} % events", yticks=range(len(methods)), yticklabels=methods if axis is axes[0][0] else [])
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.xaxis.set_major_locator(MaxNLocator(4))
    shown.supxlabel("AUPRC less the untouched model's", fontsize=10)
    save_svg(shown, path)
