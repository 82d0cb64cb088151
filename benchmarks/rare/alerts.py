"""Adapters of the rare-outcome benchmark: votes for alerts, losses of the encoder's head, a parsimonious set of columns.

    .venv/bin/python -m benchmarks.rare.alerts

compares class-aware alerts with the mean of the same members over the same threshold, pair by pair, on the cells that benchmarks/rare/run.py
has asked about, and writes what it finds into docs/guide/rare-outcomes.md.
"""

from __future__ import annotations

import json
import time
import warnings
from itertools import product

import numpy as np
import polars as pl
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nearward as nw
from benchmarks.common.cohorts import DATA, cohorts
from benchmarks.common.markdown import markdown_rows, replace_part
from benchmarks.rare.report import _beside as beside
from benchmarks.rare.training_set import KEPT, RATES, SEEDS, Cell, Method, Scored, draw_cell
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import BootstrapMetrics, bootstrap_metrics
from nearward.evaluation.stats.confidence import Undefined
from nearward.retrieval.encoders.aware import embed
from nearward.retrieval.encoders.training import train_encoder
from nearward.tabular.alerting.voting import STAGES
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.ensemble.cross_fitting import Encoded
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats

_FOLDS, _STEPS = 3, 300  # of the encoders whose heads are judged alone
VOTE, MEAN = "class-aware alerts", "mean of the same three"
_KEPT_AS = {VOTE: "class-aware-alerts", MEAN: "mean-of-the-same-three"}


_VOTED: dict[str, tuple[pl.DataFrame, float]] = {}  # of the last cell: two methods share it


def _voted(cell: Cell) -> tuple[pl.DataFrame, float]:
    """Three calibrated members decide; the threshold is the event rate. Also the time it took; how often each stage decided is kept."""
    if cell.name not in _VOTED:
        began = time.process_time()
        models = {
            "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            "boosting": HistGradientBoostingClassifier(random_state=cell.seed),
            "trees": ExtraTreesClassifier(200, min_samples_leaf=3, random_state=cell.seed),
        }
        members = {name: Encoded(model, cell.schema) for name, model in models.items()}
        told = nw.Alerts(members, threshold=cell.rate, seed=cell.seed).fit(cell.train, cell.outcome, groups=cell.groups).decide(cell.test)
        _VOTED.clear()
        _VOTED[cell.name] = told, time.process_time() - began
        stages = told.with_columns(event=pl.Series(cell.test_outcome)).group_by(pl.col("stage").cast(pl.String))
        counts = stages.agg(pl.len().alias("rows"), pl.col("alert").fill_null(True).sum().alias("alerts"), _hits().alias("hits"))
        with replacing(KEPT / f"{cell.name}.stages.json") as temporary:
            temporary.write_text(json.dumps(counts.to_dicts()))
    return _VOTED[cell.name]


def _hits() -> pl.Expr:
    return (pl.col("alert").fill_null(True) & (pl.col("event") == 1)).sum()


def _alerts(cell: Cell) -> Scored:
    told, seconds = _voted(cell)
    alert = told["alert"].fill_null(True).to_numpy()  # who is handed to a person costs as much as an alert
    return Scored(told["risk"].to_numpy(), alert=alert, seconds=seconds)


def _mean(cell: Cell) -> Scored:
    told, seconds = _voted(cell)
    return Scored(told["risk"].to_numpy(), seconds=seconds)


def _head(loss: str) -> Method:
    """The head alone of cross-fitted encoders, before and after calibration on rows left out."""

    def ask(cell: Cell) -> Scored:
        seen, asked = cell.schema.conform(cell.train), cell.schema.conform(cell.test)
        encoding = TableEncoder.fit(cell.schema, seen)
        x, q = (encoding.dense(encoding.numbers(frame)) for frame in (seen, asked))
        group = np.unique(cell.groups, return_inverse=True)[1]
        fold = assign_folds(cell.outcome, group, _FOLDS, cell.seed)
        out_of_fold, told = np.empty(len(x)), []
        for f in range(_FOLDS):
            rows = fold != f
            config = nw.EncoderConfig(loss=loss, steps=_STEPS)
            encoder = train_encoder(x[rows], cell.outcome[rows], group[rows], config, cell.seed + f)
            out_of_fold[~rows] = embed(encoder, x[~rows])[1]
            told.append(embed(encoder, q)[1])
        score: Floats = np.mean(told, axis=0)
        calibration = Calibrator.fit(out_of_fold, cell.outcome)
        return Scored(expit(calibration.log_odds(score)), uncorrected=expit(score))

    return ask


def _columns(cell: Cell) -> Scored | None:
    """The whole RiskClassifier on the columns that stability selection keeps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = nw.StableColumns(wrong=2.0, schema=cell.schema, seed=cell.seed).fit(cell.train, cell.outcome, groups=cell.groups)
        if not chosen.columns_:
            return None
        model = nw.RiskClassifier(seed=cell.seed).fit(chosen.transform(cell.train), cell.outcome, groups=cell.groups)
        return Scored(np.asarray(model.predict_proba(chosen.transform(cell.test))[:, 1]))


METHODS: dict[str, Method] = {
    VOTE: _alerts,
    MEAN: _mean,
    "head alone, cross-entropy": _head("cross-entropy"),
    "head alone, focal": _head("focal"),
    "head alone, Tversky": _head("tversky"),
    "stable columns": _columns,
}


def main() -> None:
    """Compare alerts pair by pair on the cells that were asked, and say which stage decided how often."""
    tasks = {cohort.name: cohort for cohort in cohorts(DATA)}
    parts: dict[float, list[BootstrapMetrics]] = {}
    stages = []
    for seed, rate, task in product(range(SEEDS), RATES, tasks):
        held = {name: KEPT / f"{task}.{rate:g}.{seed}.{kept}.npz" for name, kept in _KEPT_AS.items()}
        if not all(path.exists() for path in held.values()):
            continue
        cell = draw_cell(tasks[task], rate, seed)
        assert cell is not None
        alerts = {VOTE: np.load(held[VOTE])["alert"].astype(float), MEAN: (np.load(held[MEAN])["risk"] >= cell.rate).astype(float)}
        patient = np.unique(cell.test_groups, return_inverse=True)[1]
        sample = RiskSample(cell.test_outcome.astype(float), alerts, patient)
        parts.setdefault(cell.rate, []).append(bootstrap_metrics([sample], OperatingPoint(0.05, cell.rate), 500, cell.seed))
        told = json.loads((KEPT / f"{cell.name}.stages.json").read_text())
        stages += [{**one, "rate": cell.rate, "stage": STAGES.index(one["stage"])} for one in told]
    rows = []
    for rate, here in parts.items():
        own, gap = beside(VOTE, here, MEAN)
        gained = gap["net_benefit"]
        assert not isinstance(gained, Undefined)
        assert not isinstance(own["net_benefit"], Undefined)
        told = f"{1000 * gained.value:+.2f} ({1000 * gained.low:+.2f} to {1000 * gained.high:+.2f})"
        rows.append((f"{100 * rate:g} %", len(here), f"{1000 * own['net_benefit'].value:.2f}", told))
    table = markdown_rows(["events", "cells", "net benefit per 1,000", "less mean + threshold (95 %)"], rows)
    counted = (
        pl.DataFrame(stages)
        .group_by("rate", "stage")
        .agg(pl.col("rows", "alerts", "hits").sum())
        .sort(["rate", "stage"], descending=[True, False])
    )
    by_stage = [
        (f"{100 * rate:g} %", STAGES[at], n, alerts, f"{hits / alerts:.3f}" if alerts else "")
        for rate, at, n, alerts, hits in counted.iter_rows()
    ]
    body = table + "\n\n" + markdown_rows(["events", "stage", "rows", "alerts", "of which right"], by_stage)
    print(body)
    replace_part("rare-alerts", body)


if __name__ == "__main__":
    main()
