"""T, task utility: performance on real rows of models trained on synthetic rows, relative to models trained on real rows.

Each learner is trained twice, on as many synthetic as real rows (TSTR: train on synthetic, test on real; TRTR: train and test on real),
with its own scaling. Both are tested on the whole holdout, which no learner, scaling or threshold was fitted on.

Shapes: n rows, b resamples.

References
----------
Esteban et al.: Real-valued (medical) time series generation with recurrent conditional GANs (2017), TSTR.
Vickers and Elkin: Decision curve analysis (2006), net benefit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from nearward.evaluation.stats.block_bootstrap import RESAMPLES, percentile_interval
from nearward.evaluation.stats.confidence import Estimate, estimate_frame
from nearward.evaluation.stats.logistic_recalibration import EDGE, LogisticRecalibration
from nearward.evaluation.stats.ranking_metrics import Ranking
from nearward.evaluation.synthetic.results import Utility
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import TableEmbedding, sample_rows
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.typing import Floats, Ints

LEARNERS = ("logistic regression", "gradient boosting", "extra-trees")
_MAX_ROWS = 20_000
_MIN_EVENTS = 2  # and rows without: with fewer no model is fitted, and the risk is the same for all rows
_MIN_DEFINED = 0.9  # share of resamples in which a figure must be defined


@dataclass(frozen=True)
class _Metrics:
    """Metrics of one risk: the value first, then one of each resample (1 + b,)."""

    auprc: Floats
    auroc: Floats
    brier: Floats
    slope: Floats
    benefit: Floats


def utility(tables: Tables, seed: int) -> Utility:
    """Train every learner on synthetic and on real rows, and compare the metrics on the holdout."""
    rows = min(tables.train.height, tables.synthetic.height, _MAX_ROWS)
    real = tables.train[sample_rows(tables.train.height, rows, seed)]
    synthetic = tables.synthetic[sample_rows(tables.synthetic.height, rows, seed + 1)]
    outcome = tables.events(tables.holdout).astype(np.float64)
    threshold = float(tables.events(tables.train).mean())
    weights = _resampling_weights(tables.holdout_patient_ids, outcome, seed + 2)
    metrics: dict[tuple[str, str], _Metrics] = {}
    for name, frame in (("real", real), ("synthetic", synthetic)):
        risks = _risks(frame.drop(tables.outcome), tables.events(frame), tables.holdout.drop(tables.outcome), seed)
        for learner, risk in risks.items():
            metrics[name, learner] = _resampled_metrics(outcome, risk, weights, threshold)
    chance = (weights @ outcome) / weights.sum(axis=1)  # (1 + b,)
    auprc = {name: np.mean([metrics[name, learner].auprc for learner in LEARNERS], axis=0) for name in ("real", "synthetic")}
    ratios = auprc["synthetic"] / np.maximum(auprc["real"], 1e-6)
    ratio = percentile_interval(ratios[0], ratios[1:], len(outcome), high=float("inf"))
    score = None
    above = {name: values - chance for name, values in auprc.items()}  # above chance
    if above["real"][0] > 0 and np.quantile(above["real"][1:], 0.025) > 0:
        resampled = above["synthetic"][1:] / np.maximum(above["real"][1:], 1e-6)
        score = percentile_interval(above["synthetic"][0] / above["real"][0], resampled, len(outcome))
    return Utility(score, ratio, _learner_table(metrics, len(outcome)), threshold, rows, int(outcome.sum()))


def _resampling_weights(patient_ids: Ints, outcome: Floats, seed: int) -> Floats:
    """Row weights (1 + b, n): ones, then patients resampled with replacement, except resamples without both outcomes."""
    patients = int(patient_ids.max()) + 1
    counts = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)[:, patient_ids]
    events, rows = counts @ outcome, counts.sum(axis=1)
    return np.concatenate([np.ones((1, len(patient_ids))), counts[(events > 0) & (events < rows)]])


def _risks(train: pl.DataFrame, outcome: Ints, test: pl.DataFrame, seed: int) -> dict[str, Floats]:
    events = int(outcome.sum())
    if min(events, len(outcome) - events) < _MIN_EVENTS:
        return dict.fromkeys(LEARNERS, np.full(test.height, events / len(outcome)))
    embedding = TableEmbedding.fit(train)
    x, x_test = embedding.transform(train), embedding.transform(test)
    risks = [np.asarray(model.fit(x, outcome).predict_proba(x_test)[:, 1], dtype=np.float64) for model in _models(seed)]
    return dict(zip(LEARNERS, risks, strict=True))


def _models(seed: int) -> tuple[Any, Any, Any]:
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    boosting = HistGradientBoostingClassifier(max_iter=80, learning_rate=0.08, max_leaf_nodes=15, early_stopping=False, random_state=seed)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return regression, boosting, ExtraTreesClassifier(100, min_samples_leaf=3, max_features=0.3, random_state=seed)


def _resampled_metrics(outcome: Floats, risk: Floats, weights: Floats, threshold: float) -> _Metrics:
    ranking = Ranking(outcome, risk)
    counts = ranking.count(weights[:, ranking.order])
    brier = weights @ np.square(risk - outcome) / weights.sum(axis=1)
    slope = LogisticRecalibration(logit(risk, EDGE), outcome).intercept_and_slope(weights)[:, 1]
    return _Metrics(counts.auprc(), counts.auroc(), brier, slope, counts.net_benefit(ranking.alerted(threshold), threshold))


def _learner_table(metrics: dict[tuple[str, str], _Metrics], n: int) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    for learner in LEARNERS:
        real, synthetic = metrics["real", learner], metrics["synthetic", learner]
        rows.append(
            {
                "learner": learner,
                "AUPRC, real": _estimate(real.auprc, n),
                "AUPRC, synthetic": _estimate(synthetic.auprc, n),
                "Δ AUROC": _estimate(synthetic.auroc - real.auroc, n),
                "Δ Brier": _estimate(synthetic.brier - real.brier, n),
                "slope, real": _estimate(real.slope, n),
                "slope, synthetic": _estimate(synthetic.slope, n),
                "net benefit, real": _estimate(real.benefit, n),
                "net benefit, synthetic": _estimate(synthetic.benefit, n),
            }
        )
    return estimate_frame(rows, dict.fromkeys(rows[0], pl.Object) | {"learner": pl.String})


def _estimate(values: Floats, n: int) -> Estimate | None:
    """Return a metric with its percentile interval, None where it is undefined, as the slope of risks that are all equal."""
    resampled = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or len(resampled) < _MIN_DEFINED * (len(values) - 1):
        return None
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(float(values[0]), float(min(low, values[0])), float(max(high, values[0])), n)
