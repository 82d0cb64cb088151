"""T, task utility: is a model trained on synthetic rows as good, on real rows, as one trained on real rows?

Each learner is trained twice, on as many synthetic as real rows (TSTR: train on synthetic, test on real; TRTR: train and test on real),
with its own scaling, and both are judged on the whole holdout, which no learner, scaling or threshold has seen.

Letters: n rows, b resamples.

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
from nearward.evaluation.tables.inputs import Tables
from nearward.evaluation.tables.neighbors import TableEmbedding, sample_rows
from nearward.tabular.calibration.log_odds import logit
from nearward.tabular.ensemble.extra_trees import grow, shares
from nearward.tabular.typing import Floats, Ints

LEARNERS = ("logistic regression", "gradient boosting", "extra-trees")
_MOST_ROWS = 20_000
_FEWEST_EVENTS = 2  # and rows without: fewer cannot be learned from, and the risk is then the same for all
_FEWEST_DRAWS = 0.9  # share of resamples in which a figure must be defined


@dataclass(frozen=True)
class Utility:
    """What the synthetic table teaches.

    Parameters
    ----------
    score : Estimate or None
        (AP trained on synthetic − π) / (AP trained on real − π), AP the mean over learners, π the event rate of the holdout. None where
        models trained on real rows do no better than chance: then there is nothing to lose.
    ratio : Estimate
        AP trained on synthetic / AP trained on real, chance left in: what others report. It flatters where events are many.
    learners : pl.DataFrame
        Per learner AUPRC of both models, differences (synthetic less real) of AUROC and Brier score, calibration slopes, net benefits.
    threshold : float
        Risk at which net benefit is reckoned: train's event rate.
    rows, events : int
        Rows each model was trained on; events in the holdout.
    """

    score: Estimate | None
    ratio: Estimate
    learners: pl.DataFrame
    threshold: float
    rows: int
    events: int


@dataclass(frozen=True)
class _Figures:
    """Figures of one risk: the value first, then one of each resample (1 + b,)."""

    auprc: Floats
    auroc: Floats
    brier: Floats
    slope: Floats
    benefit: Floats


def utility(tables: Tables, seed: int) -> Utility:
    """Train, test, compare."""
    rows = min(tables.train.height, tables.synthetic.height, _MOST_ROWS)
    real = tables.train[sample_rows(tables.train.height, rows, seed)]
    made = tables.synthetic[sample_rows(tables.synthetic.height, rows, seed + 1)]
    outcome = tables.events(tables.holdout).astype(np.float64)
    threshold = float(tables.events(tables.train).mean())
    weight = _weights(tables.holdout_patient_ids, outcome, seed + 2)
    figures: dict[tuple[str, str], _Figures] = {}
    for name, frame in (("real", real), ("synthetic", made)):
        risks = _risks(frame.drop(tables.outcome), tables.events(frame), tables.holdout.drop(tables.outcome), seed)
        for learner, risk in risks.items():
            figures[name, learner] = _judge(outcome, risk, weight, threshold)
    chance = (weight @ outcome) / weight.sum(axis=1)  # (1 + b,)
    reached = {name: np.mean([figures[name, learner].auprc for learner in LEARNERS], axis=0) for name in ("real", "synthetic")}
    gain = {name: auprc - chance for name, auprc in reached.items()}
    quotient = reached["synthetic"] / np.maximum(reached["real"], 1e-6)
    ratio = percentile_interval(quotient[0], quotient[1:], len(outcome), high=float("inf"))
    score = None
    if gain["real"][0] > 0 and np.quantile(gain["real"][1:], 0.025) > 0:
        score = percentile_interval(
            gain["synthetic"][0] / gain["real"][0], gain["synthetic"][1:] / np.maximum(gain["real"][1:], 1e-6), len(outcome)
        )
    return Utility(score, ratio, _told(figures, len(outcome)), threshold, rows, int(outcome.sum()))


def _weights(patient: Ints, outcome: Floats, seed: int) -> Floats:
    """Row weights (1 + b, n): even first, then patients drawn with replacement, leaving out draws that miss an outcome."""
    patients = int(patient.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)[:, patient]
    events, rows = drawn @ outcome, drawn.sum(axis=1)
    return np.concatenate([np.ones((1, len(patient))), drawn[(events > 0) & (events < rows)]])


def _risks(train: pl.DataFrame, outcome: Ints, test: pl.DataFrame, seed: int) -> dict[str, Floats]:
    events = int(outcome.sum())
    if min(events, len(outcome) - events) < _FEWEST_EVENTS:
        return dict.fromkeys(LEARNERS, np.full(test.height, events / len(outcome)))
    space = TableEmbedding.fit(train)
    x, asked = space.transform(train), space.transform(test)
    risks = [np.asarray(model.fit(x, outcome).predict_proba(asked)[:, 1], dtype=np.float64) for model in _models(seed)]
    trees = grow(x, outcome, seed, 100, min_samples_leaf=3, max_features=0.3)
    return dict(zip(LEARNERS, [*risks, shares(trees, asked)[:, 1]], strict=True))


def _models(seed: int) -> tuple[Any, Any]:
    """Return all learners but the trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    boosting = HistGradientBoostingClassifier(max_iter=80, learning_rate=0.08, max_leaf_nodes=15, early_stopping=False, random_state=seed)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return regression, boosting


def _judge(outcome: Floats, risk: Floats, weight: Floats, threshold: float) -> _Figures:
    ranking = Ranking(outcome, risk)
    counts = ranking.count(weight[:, ranking.order])
    brier = weight @ np.square(risk - outcome) / weight.sum(axis=1)
    slope = LogisticRecalibration(logit(risk, EDGE), outcome).intercept_and_slope(weight)[:, 1]
    return _Figures(counts.auprc(), counts.auroc(), brier, slope, counts.net_benefit(ranking.alerted(threshold), threshold))


def _told(figures: dict[tuple[str, str], _Figures], n: int) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    for learner in LEARNERS:
        real, made = figures["real", learner], figures["synthetic", learner]
        rows.append(
            {
                "learner": learner,
                "AUPRC, real": _of(real.auprc, n),
                "AUPRC, synthetic": _of(made.auprc, n),
                "Δ AUROC": _of(made.auroc - real.auroc, n),
                "Δ Brier": _of(made.brier - real.brier, n),
                "slope, real": _of(real.slope, n),
                "slope, synthetic": _of(made.slope, n),
                "net benefit, real": _of(real.benefit, n),
                "net benefit, synthetic": _of(made.benefit, n),
            }
        )
    return estimate_frame(rows, dict.fromkeys(rows[0], pl.Object) | {"learner": pl.String})


def _of(figure: Floats, n: int) -> Estimate | None:
    """Return a figure with its percentile interval, None where it is undefined, as the slope of risks that are all equal."""
    drawn = figure[1:][~np.isnan(figure[1:])]
    if np.isnan(figure[0]) or len(drawn) < _FEWEST_DRAWS * (len(figure) - 1):
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(figure[0]), float(min(low, figure[0])), float(max(high, figure[0])), n)
