"""Methods of the rare-outcome benchmark: votes for alerts, losses of the encoder's head, stability selection of columns.

    .venv/bin/python -m benchmarks.rare.alerts

compares class-aware alerts with the mean of the same base learners over the same threshold, pair by pair, on the settings that
benchmarks/rare/run.py has cached, and writes the result into docs/benchmarks/rare-outcomes.md.
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
from benchmarks.common.cohorts import cohorts
from benchmarks.common.markdown import markdown_rows, replace_part
from benchmarks.common.paths import DATA
from benchmarks.rare.report import compare
from benchmarks.rare.training_set import CACHE, RATES, SEEDS, Method, Scored, Setting, sample_training_set
from nearward.evaluation.risk.inputs import RiskSample
from nearward.evaluation.risk.metrics import OperatingPoint
from nearward.evaluation.risk.resampled_metrics import BootstrapMetrics, bootstrap_metrics
from nearward.evaluation.stats.confidence import Estimate
from nearward.retrieval.encoders.aware import embed
from nearward.retrieval.encoders.training import train_encoder
from nearward.tabular.alerting.voting import STAGES
from nearward.tabular.calibration.calibrator import Calibrator
from nearward.tabular.calibration.log_odds import expit
from nearward.tabular.data.atomic_files import replacing
from nearward.tabular.data.splits import assign_folds
from nearward.tabular.ensemble.cross_fitting import EncodedClassifier
from nearward.tabular.preprocessing.table_encoder import TableEncoder
from nearward.tabular.typing import Floats

_FOLDS, _STEPS = 3, 300  # of the encoders for heads alone
VOTE, MEAN = "class-aware alerts", "mean of the same three"
_FILE_NAMES = {VOTE: "class-aware-alerts", MEAN: "mean-of-the-same-three"}
_LAST_DECISIONS: dict[str, tuple[pl.DataFrame, float]] = {}  # of the last setting: two methods share it


def _decisions(setting: Setting) -> tuple[pl.DataFrame, float]:
    """Return the decisions of three calibrated base learners at the event rate as threshold, and the time; cache the counts by stage."""
    if setting.name not in _LAST_DECISIONS:
        began = time.process_time()
        models = {
            "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            "boosting": HistGradientBoostingClassifier(random_state=setting.seed),
            "trees": ExtraTreesClassifier(200, min_samples_leaf=3, random_state=setting.seed),
        }
        members = {name: EncodedClassifier(model, setting.schema) for name, model in models.items()}
        alerts = nw.Alerts(members, threshold=setting.rate, random_state=setting.seed)
        decisions = alerts.fit(setting.train, setting.outcome, groups=setting.groups).decide(setting.test)
        _LAST_DECISIONS.clear()
        _LAST_DECISIONS[setting.name] = decisions, time.process_time() - began
        stages = decisions.with_columns(event=pl.Series(setting.test_outcome)).group_by(pl.col("stage").cast(pl.String))
        counts = stages.agg(pl.len().alias("rows"), pl.col("alert").fill_null(True).sum().alias("alerts"), _hits().alias("hits"))
        with replacing(CACHE / f"{setting.name}.stages.json") as temporary:
            temporary.write_text(json.dumps(counts.to_dicts()))
    return _LAST_DECISIONS[setting.name]


def _hits() -> pl.Expr:
    return (pl.col("alert").fill_null(True) & (pl.col("event") == 1)).sum()


def _alerts(setting: Setting) -> Scored:
    decisions, seconds = _decisions(setting)
    alert = decisions["alert"].fill_null(True).to_numpy()  # a row referred to a person costs as much as an alert
    return Scored(decisions["risk"].to_numpy(), alert=alert, seconds=seconds)


def _mean(setting: Setting) -> Scored:
    decisions, seconds = _decisions(setting)
    return Scored(decisions["risk"].to_numpy(), seconds=seconds)


def _head(loss: str) -> Method:
    """Return a method: the head alone of cross-fitted encoders, before and after out-of-fold calibration."""

    def fit_and_score(setting: Setting) -> Scored:
        stored, queries = setting.schema.conform(setting.train), setting.schema.conform(setting.test)
        encoding = TableEncoder.fit(setting.schema, stored)
        x, q = (encoding.transform(frame) for frame in (stored, queries))
        patient_ids = np.unique(setting.groups, return_inverse=True)[1]
        fold = assign_folds(setting.outcome, patient_ids, _FOLDS, setting.seed)
        out_of_fold, scores = np.empty(len(x)), []
        for f in range(_FOLDS):
            rows = fold != f
            config = nw.EncoderConfig(loss=loss, steps=_STEPS)
            encoder = train_encoder(x[rows], setting.outcome[rows], patient_ids[rows], config, setting.seed + f)
            out_of_fold[~rows] = embed(encoder, x[~rows])[1]
            scores.append(embed(encoder, q)[1])
        score: Floats = np.mean(scores, axis=0)
        calibration = Calibrator.fit(out_of_fold, setting.outcome)
        return Scored(expit(calibration.log_odds(score)), uncorrected=expit(score))

    return fit_and_score


def _columns(setting: Setting) -> Scored | None:
    """RiskClassifier on the columns of stability selection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selection = nw.StableColumns(wrong=2.0, schema=setting.schema, random_state=setting.seed).fit(
            setting.train, setting.outcome, groups=setting.groups
        )
        if not selection.columns_:
            return None
        model = nw.RiskClassifier(random_state=setting.seed).fit(selection.transform(setting.train), setting.outcome, groups=setting.groups)
        return Scored(np.asarray(model.predict_proba(selection.transform(setting.test))[:, 1]))


METHODS: dict[str, Method] = {
    VOTE: _alerts,
    MEAN: _mean,
    "head alone, cross-entropy": _head("cross-entropy"),
    "head alone, focal": _head("focal"),
    "head alone, Tversky": _head("tversky"),
    "stable columns": _columns,
}


def main() -> None:
    """Compare alerts pair by pair on the cached settings, and count the decisions by stage."""
    tasks = {cohort.name: cohort for cohort in cohorts(DATA)}
    parts: dict[float, list[BootstrapMetrics]] = {}
    stages = []
    for seed, rate, task in product(range(SEEDS), RATES, tasks):
        files = {name: CACHE / f"{task}.{rate:g}.{seed}.{file_name}.npz" for name, file_name in _FILE_NAMES.items()}
        if not all(path.exists() for path in files.values()):
            continue
        setting = sample_training_set(tasks[task], rate, seed)
        assert setting is not None
        alerts = {VOTE: np.load(files[VOTE])["alert"].astype(float), MEAN: (np.load(files[MEAN])["risk"] >= setting.rate).astype(float)}
        patient = np.unique(setting.test_groups, return_inverse=True)[1]
        sample = RiskSample(setting.test_outcome.astype(float), alerts, patient)
        parts.setdefault(setting.rate, []).append(bootstrap_metrics([sample], OperatingPoint(0.05, setting.rate), 500, setting.seed))
        counts = json.loads((CACHE / f"{setting.name}.stages.json").read_text())
        stages += [{**one, "rate": setting.rate, "stage": STAGES.index(one["stage"])} for one in counts]
    rows = []
    for rate, measured in parts.items():
        own, difference = compare(VOTE, measured, MEAN)
        gained = difference["net_benefit"]
        assert isinstance(gained, Estimate)
        assert isinstance(own["net_benefit"], Estimate)
        counts = f"{1000 * gained.value:+.2f} ({1000 * gained.low:+.2f} to {1000 * gained.high:+.2f})"
        rows.append((f"{100 * rate:g} %", len(measured), f"{1000 * own['net_benefit'].value:.2f}", counts))
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
